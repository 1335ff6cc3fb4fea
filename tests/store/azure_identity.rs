//! Who asks Azure by a token: an application, a ServiceAccount, a machine. The container is Azurite's, which takes tokens
//! over TLS; the directory and the machine's identity service are played here, as neither runs outside of Azure.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testbed::{Azurite, Certificates, make_certificates};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::environment::ended;

/// What the played service answers: a status and a body.
type Answer = (u16, String);

/// A service that gives tokens, or what it is told to.
struct Played {
    port: u16,
    /// What it was asked, first line and body.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

/// Reads one request, and answers it.
fn serve(mut client: impl Read + Write, answer: &Answer, asked: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(&mut client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    asked.lock().unwrap().push((head, String::from_utf8(body).unwrap()));
    let (status, text) = answer;
    let kind = if text.starts_with('{') { "application/json" } else { "text/html" };
    let message = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    // A client that has hung up says so itself.
    let _ = client.write_all(message.as_bytes()).and_then(|()| client.flush());
}

impl Played {
    /// A directory, over TLS.
    fn directory(certificates: &Certificates, answer: Answer) -> Self {
        let chain = CertificateDer::pem_file_iter(&certificates.certificate).unwrap();
        let chain: Vec<_> = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(&certificates.key).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        Self::play(move |client, asked| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(StreamOwned::new(connection, client), &answer, asked);
        })
    }

    /// A machine's identity service, reached as a proxy is: its address is link-local.
    fn machine(answer: Answer) -> Self {
        Self::play(move |client, asked| serve(client, &answer, asked))
    }

    fn play(each: impl Fn(TcpStream, &Mutex<Vec<(String, String)>>) + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // Ends with the process.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| each(client, &log)));
        Self { port, asked }
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

/// The server that takes tokens, and its container.
fn container() -> &'static (Azurite, String) {
    static SERVER: OnceLock<(Azurite, String)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Azurite::start_with_tokens();
        let container = server.fresh_container("tokens");
        (server, container)
    })
}

fn url() -> String {
    let (server, container) = container();
    format!("azblob://{}/{container}/x?endpoint={}", server.account(), server.endpoint())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token for `audience`, as a directory would issue it.
fn token(audience: &str) -> String {
    let claims = format!(
        "{{\"aud\":\"{audience}\",\"iss\":\"https://sts.windows.net/00000000-0000-0000-0000-000000000001/\",\"iat\":{0},\
         \"nbf\":{0},\"exp\":{1},\"sub\":\"canary-subject\"}}",
        now() - 60,
        now() + 3600
    );
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part("{\"alg\":\"RS256\",\"typ\":\"JWT\"}"), part(&claims), part("signed"))
}

fn of_directory(audience: &str) -> Answer {
    let token = token(audience);
    (
        200,
        format!(
            "{{\"token_type\":\"Bearer\",\"expires_in\":3599,\"ext_expires_in\":3599,\"access_token\":\"{token}\"}}"
        ),
    )
}

fn of_machine(audience: &str) -> Answer {
    let (token, until) = (token(audience), now() + 3599);
    (
        200,
        format!(
            "{{\"access_token\":\"{token}\",\"expires_on\":\"{until}\",\"resource\":\"{audience}\",\"token_type\":\"Bearer\"}}"
        ),
    )
}

const STORAGE: &str = "https://storage.azure.com";

/// One certificate for the directory, and a file of all authorities that there are.
struct Ground {
    folder: tempfile::TempDir,
    certificates: Certificates,
    trusted: String,
}

fn ground() -> Ground {
    let folder = tempfile::tempdir().unwrap();
    let certificates = make_certificates(folder.path());
    let (server, _) = container();
    let both = [&certificates.authority, &server.authority().unwrap().to_owned()]
        .map(|path| std::fs::read_to_string(path).unwrap());
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, both.concat()).unwrap();
    Ground { trusted: trusted.display().to_string(), folder, certificates }
}

/// What a process with a ServiceAccount's token gets from the container.
fn as_workload(ground: &Ground, directory: &Played) -> String {
    let file = ground.folder.path().join("token");
    std::fs::write(&file, "canary-of-the-cluster").unwrap();
    let authority = format!("https://localhost:{}", directory.port);
    ended(
        &url(),
        &[
            ("SSL_CERT_FILE", &ground.trusted),
            ("AZURE_AUTHORITY_HOST", &authority),
            ("AZURE_TENANT_ID", "tenant-1"),
            ("AZURE_CLIENT_ID", "client-1"),
            ("AZURE_FEDERATED_TOKEN_FILE", &file.display().to_string()),
        ],
    )
}

#[test]
fn a_service_account_s_token_is_exchanged() {
    let ground = ground();
    let directory = Played::directory(&ground.certificates, of_directory(STORAGE));
    let ended = as_workload(&ground, &directory);
    assert!(ended.starts_with("NotFound"), "{ended}");
    let asked = directory.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let (head, body) = &asked[0];
    assert!(head.starts_with("POST /tenant-1/oauth2/v2.0/token "), "{head}");
    for part in [
        "client_assertion=canary-of-the-cluster",
        "client_id=client-1",
        "scope=https%3A%2F%2Fstorage.azure.com",
    ] {
        assert!(body.contains(part), "{body}");
    }
}

#[test]
fn an_application_s_secret_is_exchanged() {
    let ground = ground();
    let directory = Played::directory(&ground.certificates, of_directory(STORAGE));
    let authority = format!("https://localhost:{}", directory.port);
    let ended = ended(
        &url(),
        &[
            ("SSL_CERT_FILE", &ground.trusted),
            ("AZURE_AUTHORITY_HOST", &authority),
            ("AZURE_TENANT_ID", "tenant-1"),
            ("AZURE_CLIENT_ID", "client-1"),
            ("AZURE_CLIENT_SECRET", "canary"),
        ],
    );
    assert!(ended.starts_with("NotFound"), "{ended}");
    assert!(directory.asked()[0].1.contains("client_secret=canary"));
}

#[test]
fn a_token_for_something_else_is_refused_by_the_container() {
    let ground = ground();
    let directory = Played::directory(&ground.certificates, of_directory("https://graph.microsoft.com"));
    let ended = as_workload(&ground, &directory);
    assert!(ended.starts_with("Unauthenticated") || ended.starts_with("Forbidden"), "{ended}");
}

#[test]
fn a_directory_that_refuses_says_why() {
    let ground = ground();
    let refusal = "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS70021: No matching federated identity \
                   record found\",\"error_codes\":[70021]}";
    for (status, text, expected, said) in [
        (401, refusal, "Unauthenticated", "AADSTS70021"),
        (503, "{\"error_description\":\"busy\"}", "Unavailable", "busy"),
        (200, "<html>log in</html>", "Protocol", "token"),
    ] {
        let directory = Played::directory(&ground.certificates, (status, text.to_owned()));
        let ended = as_workload(&ground, &directory);
        assert!(ended.starts_with(expected) && ended.contains(said), "{status}: {ended}");
        assert!(!ended.contains("canary"), "{ended}");
        // Once each: only our own retries ask again.
        assert_eq!(directory.asked().len(), 1);
    }
}

#[test]
fn a_directory_that_is_not_trusted_gets_nothing() {
    let ground = ground();
    let elsewhere = tempfile::tempdir().unwrap();
    let directory = Played::directory(&make_certificates(elsewhere.path()), of_directory(STORAGE));
    let ended = as_workload(&ground, &directory);
    assert!(ended.to_lowercase().contains("certificate"), "{ended}");
    assert!(directory.asked().is_empty());
}

#[test]
fn a_token_s_file_that_is_not_there_is_named() {
    let variables = [
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token"),
    ];
    let ended = ended(&url(), &variables);
    assert!(ended.starts_with("Unauthenticated") && ended.contains("/nowhere/token"), "{ended}");
}

#[test]
fn a_machine_s_identity_is_asked_for() {
    let ground = ground();
    for (client, named) in [(None, ""), (Some("client-2"), "client_id=client-2")] {
        let machine = Played::machine(of_machine(STORAGE));
        let proxy = format!("http://127.0.0.1:{}", machine.port);
        let mut variables = vec![("SSL_CERT_FILE", ground.trusted.as_str()), ("http_proxy", &proxy)];
        variables.extend(client.map(|client| ("AZURE_CLIENT_ID", client)));
        let ended = ended(&url(), &variables);
        assert!(ended.starts_with("NotFound"), "{ended}");
        let (head, _) = machine.asked().remove(0);
        assert!(head.starts_with("GET http://169.254.169.254/metadata/identity/oauth2/token?"), "{head}");
        assert!(head.contains(named) && head.to_lowercase().contains("metadata: true"), "{head}");
        assert_eq!(head.contains("client_id"), client.is_some(), "{head}");
    }
}

#[test]
fn a_machine_without_that_identity_says_so() {
    let ground = ground();
    let machine = Played::machine((400, "{\"error\":\"invalid_request\"}".to_owned()));
    let proxy = format!("http://127.0.0.1:{}", machine.port);
    let ended = ended(&url(), &[("SSL_CERT_FILE", &ground.trusted), ("http_proxy", &proxy)]);
    assert!(ended.starts_with("Unauthenticated") && ended.contains("has not been assigned"), "{ended}");
}
