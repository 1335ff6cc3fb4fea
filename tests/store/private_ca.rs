//! `--store-ca`: a bucket behind TLS whose authority only the option names.

use std::process::{Command, Output};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testbed::{Certificates, S3Kind, S3Server, make_certificates, shared_s3};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Ends TLS before a server that speaks plain HTTP, of the `versions` that it names; returns the port.
pub(crate) async fn terminate(certificates: &Certificates, port: u16, versions: &[&str]) -> u16 {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&certificates.certificate).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&certificates.key).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = versions.iter().map(|version| version.as_bytes().to_vec()).collect();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that doesn't trust us hangs up.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    own
}

fn list(server: &S3Server, url: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
    command.args(["list", "--output", "json", "--store-attempts", "1", "--store", url]).args(options);
    command.env("AWS_ACCESS_KEY_ID", server.access_key()).env("AWS_SECRET_ACCESS_KEY", server.secret_key());
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_authority_of_the_option_is_trusted() {
    let server = shared_s3(S3Kind::Minio);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, others] = folders.each_ref().map(|folder| make_certificates(folder.path()));
    let port = terminate(&ours, server.port(), &[]).await;
    let bucket = server.fresh_bucket("ca");
    let url = format!("s3://{bucket}/x?region={}&endpoint=https://localhost:{port}", server.region());
    for options in [&[][..], &["--store-ca", others.authority.to_str().unwrap()]] {
        let refused = list(server, &url, options);
        let said = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.to_lowercase().contains("certificate"), "{said}");
    }
    let listed = list(server, &url, &["--store-ca", ours.authority.to_str().unwrap()]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stdout));
    let missing = list(server, &url, &["--store-ca", "/nowhere/ca.pem"]);
    let said = String::from_utf8_lossy(&missing.stdout).into_owned();
    assert_eq!(missing.status.code(), Some(2), "{said}");
    assert!(said.contains("/nowhere/ca.pem"), "{said}");
}
