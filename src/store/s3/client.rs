//! The SDK's client: credentials, TLS, time limits, and no retries.

use std::fmt;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::store::location::{Addressing, S3Location};
use crate::store::{Limits, StoreError, StoreErrorKind};

/// The SDK's settings for an attempt of at most `attempt`.
pub(super) fn timeouts(limits: &Limits, attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(limits.connect).operation_attempt_timeout(attempt).build()
}

/// What a URL does not say about S3.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// Absent: the SDK's chain of environment, files, web identity, container and instance.
    pub credentials: Option<Credentials>,
    /// PEM of the authorities to trust instead of the system's.
    pub authorities: Option<Vec<u8>>,
    /// How long one request is waited for.
    pub limits: Limits,
}

/// An access key. Never printed.
#[derive(Clone)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Token of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Builds the client for one destination.
pub(super) async fn build(
    location: &S3Location,
    url: &str,
    options: &S3Options,
) -> Result<Client, StoreError> {
    let http = http_client(location, url, options).await?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &location.region {
        loader = loader.region(Region::new(region.clone()));
    } else if location.endpoint.is_some() {
        // A store of one's own: what it takes requests to be signed for, if nothing is said. The SDK's chain would
        // ask the cloud's metadata service, which is not there, and wait.
        let said = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
        loader = loader.region(said.or_else(Region::from_static("us-east-1")));
    }
    if let Some(credentials) = &options.credentials {
        loader = loader.credentials_provider(aws_sdk_s3::config::Credentials::new(
            credentials.access_key_id.clone(),
            credentials.secret_access_key.clone(),
            credentials.session_token.clone(),
            None,
            "vouchsafe",
        ));
    }
    let shared = loader.load().await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(&options.limits, options.limits.attempt))
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled().grace_period(options.limits.stall).build(),
        )
        .force_path_style(location.addressing == Addressing::Path)
        // Each request sets the checksums that the proof needs itself.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        // Whoever reads proves the bytes by their SHA-256. Some stores answer a ranged read with the checksum of
        // the whole object, which would make every such read fail.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &location.endpoint {
        config = config.endpoint_url(endpoint);
    }
    if shared.region().is_none() {
        let message = "no region is known: add ?region=… to the URL, or set AWS_REGION";
        return Err(StoreError::new(StoreErrorKind::Invalid, "open", url, message));
    }
    Ok(Client::from_conf(config.build()))
}

/// The SDK panics when it finds no authority to trust, even for `http://` endpoints: so we look first.
async fn http_client(
    location: &S3Location,
    url: &str,
    options: &S3Options,
) -> Result<SharedHttpClient, StoreError> {
    let refuse = |message: String| StoreError::new(StoreErrorKind::Invalid, "open", url, message);
    let trust = match &options.authorities {
        Some(pem) => {
            usable_authorities(pem).map_err(refuse)?;
            Some(TrustStore::empty().with_pem_certificate(pem.clone()))
        }
        None => {
            let installed = tokio::task::spawn_blocking(|| {
                let mut roots = rustls::RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs).0 > 0
            })
            .await
            .unwrap_or(false);
            installed.then(TrustStore::default)
        }
    };
    let builder = aws_smithy_http_client::Builder::new();
    match trust {
        Some(trust) => {
            let context = TlsContext::builder()
                .with_trust_store(trust)
                .build()
                .map_err(|error| refuse("TLS can't be set up".to_owned()).with_source(error))?;
            Ok(builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https())
        }
        None if location.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://")) => {
            Ok(builder.build_http())
        }
        None => Err(refuse(
            "this machine trusts no certificate authority: install ca-certificates, or name a CA file"
                .to_owned(),
        )),
    }
}

/// Whether every certificate of `pem` can be trusted: the SDK panics on one that can't.
fn usable_authorities(pem: &[u8]) -> Result<(), String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| format!("the CA file is no PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("the CA file holds no certificate".to_owned());
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate of the CA file can't be used: {error}"))?;
    }
    Ok(())
}
