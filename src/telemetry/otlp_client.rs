//! What carries traces to their receiver: HTTP/1.1, with the TLS of all other clients here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;

/// A client whose requests run on a runtime, wherever they are waited for: the queue of spans has a thread of its own.
#[derive(Debug)]
pub(super) struct OtlpClient {
    inner: HyperClient<HttpsConnector<HttpConnector>>,
    runtime: Handle,
}

impl OtlpClient {
    /// One that gives a request up after `timeout`. `secure`: it needs the system's authorities.
    pub(super) fn new(runtime: Handle, timeout: Duration, secure: bool) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        if secure {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self { inner: HyperClient::new(connector, timeout, None), runtime })
    }
}

#[async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.inner.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
