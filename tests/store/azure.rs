//! What only Azure can get wrong.

use std::time::Duration;

use rstest::rstest;
use testbed::{Azurite, FaultProxy, WireFault, WireRule};
use vouchsafe::store::azure::{AzureCredentials, AzureOptions};
use vouchsafe::store::{
    ObjectStore, StoreError, StoreErrorKind, StoreOptions, StoreUrl, Upload, UploadOptions, open::open_bare,
};

use crate::fixture::{Fixture, Kind, azure_options, azure_url, bytes, content, key, read};

/// A container of its own, and its server.
async fn container() -> (&'static Azurite, StoreUrl) {
    let fresh = || {
        let server = testbed::shared_azurite();
        (server, azure_url(server, &server.fresh_container("azure")))
    };
    tokio::task::spawn_blocking(fresh).await.unwrap()
}

async fn opened(url: &StoreUrl, credentials: AzureCredentials) -> std::sync::Arc<dyn ObjectStore> {
    let azure = AzureOptions { credentials: Some(credentials), ..AzureOptions::default() };
    let options = StoreOptions { azure, ..StoreOptions::default() };
    let store = open_bare(url, &options).await.unwrap();
    let shown = format!("{options:?} {store:?}");
    assert!(!shown.contains("sig="), "a secret is printed: {shown}");
    store
}

/// What each kind of request ends with.
async fn refused(store: &std::sync::Arc<dyn ObjectStore>) -> Vec<StoreError> {
    let mut upload =
        Upload::begin(store, key("y"), UploadOptions { first_part: 1_000, ..UploadOptions::default() });
    let uploaded = match upload.write(bytes(5_000, 1)).await {
        Ok(()) => upload.finish().await.map(drop),
        Err(error) => Err(error),
    };
    vec![
        store.create(&key("x"), "x".into()).await.unwrap_err(),
        store.get(&key("x"), None, None).await.unwrap_err(),
        store.head(&key("x"), None).await.unwrap_err(),
        store.list(None, None).await.unwrap_err(),
        uploaded.unwrap_err(),
    ]
}

/// Of a HEAD Azurite tells a code that says less than the service's, and no text.
fn is_bare(error: &StoreError) -> bool {
    error.operation() == "head" && error.kind() == StoreErrorKind::Forbidden
}

#[tokio::test]
async fn the_store_compares_checksums_itself() {
    let fixture = Fixture::new(Kind::Azurite).await;
    let name = key("probes/x");
    assert!(fixture.store.refuses_wrong_checksum(&name).await.unwrap());
    assert_eq!(fixture.store.head(&name, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_container_that_is_not_there_is_named() {
    let (server, _) = container().await;
    let missing = open_bare(&azure_url(server, "missing-container"), &azure_options(server)).await.unwrap();
    for error in refused(&missing).await {
        assert_eq!(error.kind(), StoreErrorKind::NoSuchBucket, "{error}");
    }
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_account_are_named() {
    let (server, url) = container().await;
    // `a wrong canary`
    let wrong = "YSB3cm9uZyBjYW5hcnk=";
    let StoreUrl::Azure(location) = url.clone() else { panic!("{url}") };
    let mut other = location.clone();
    other.account = "nobody".to_owned();
    other.endpoint = other.endpoint.map(|it| it.replace(server.account(), "nobody"));
    for (url, key, expected) in [
        (url, wrong, StoreErrorKind::Unauthenticated),
        (StoreUrl::Azure(other), server.key(), StoreErrorKind::NoSuchBucket),
    ] {
        let store = opened(&url, AzureCredentials::SharedKey(key.to_owned())).await;
        for error in refused(&store).await {
            assert!(error.kind() == expected || is_bare(&error), "{error}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(key) && !shown.contains("canary"), "a secret is printed: {shown}");
        }
    }
}

#[tokio::test]
async fn a_signature_opens_what_it_is_for() {
    let (server, url) = container().await;
    for question_mark in ["", "?"] {
        let sas = format!("{question_mark}{}", server.signature("rwdlc"));
        let store = opened(&url, AzureCredentials::Sas(sas)).await;
        let (name, body) = (key("a/b"), bytes(5_000, 1));
        let options = UploadOptions { first_part: 1_000, ..UploadOptions::default() };
        let mut upload = Upload::begin(&store, name.clone(), options);
        upload.write(body.clone()).await.unwrap();
        let uploaded = upload.finish().await.unwrap();
        assert!(content(&store, &name).await.unwrap() == body);
        assert_eq!(store.list(Some(&key("a")), None).await.unwrap().objects, [(name.clone(), 5_000)]);
        assert_eq!(store.list_folders(&key("b"), None).await.unwrap().folders, []);
        store.delete(&name, uploaded.version()).await.unwrap();
    }
}

#[rstest]
#[case::expired("rwdlc", "2020-01-01T00:00:00Z", None, StoreErrorKind::Unauthenticated)]
#[case::tampered("rwdlc", "2099-01-01T00:00:00Z", Some(("sp=rwdlc", "sp=rwdlca")), StoreErrorKind::Unauthenticated)]
#[tokio::test]
async fn a_signature_that_does_not_hold_is_named(
    #[case] permissions: &str,
    #[case] expiry: &str,
    #[case] changed: Option<(&str, &str)>,
    #[case] expected: StoreErrorKind,
) {
    let (server, url) = container().await;
    let mut sas = server.signature_until(permissions, expiry);
    if let Some((from, to)) = changed {
        sas = sas.replace(from, to);
    }
    let signature = sas.split_once("sig=").unwrap().1.to_owned();
    let store = opened(&url, AzureCredentials::Sas(sas)).await;
    for error in refused(&store).await {
        assert!(error.kind() == expected || is_bare(&error), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&signature), "a secret is printed: {shown}");
    }
}

#[tokio::test]
async fn a_signature_for_less_is_told_from_one_that_does_not_hold() {
    let (server, url) = container().await;
    let reader = opened(&url, AzureCredentials::Sas(server.signature("rl"))).await;
    assert!(reader.list(None, None).await.unwrap().objects.is_empty());
    assert_eq!(reader.head(&key("x"), None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    let error = reader.create(&key("x"), "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Forbidden, "{error}");
}

#[tokio::test]
async fn an_endpoint_that_nobody_serves_is_unavailable_and_shows_no_signature() {
    // Bound and not listening any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url =
        StoreUrl::parse(&format!("azblob://shop/backups/x?endpoint=http://127.0.0.1:{port}/shop")).unwrap();
    let store = opened(&url, AzureCredentials::Sas("sv=1&sig=canary".to_owned())).await;
    for error in refused(&store).await {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary"), "a secret is printed: {shown}");
    }
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_body_may_stall() {
    let fixture = Fixture::new(Kind::Azurite).await;
    let proxy = FaultProxy::start(fixture.port());
    let mut options = fixture.options();
    options.azure.limits.stall = Duration::from_millis(200);
    let store = open_bare(&fixture.url_through(&proxy.endpoint()), &options).await.unwrap();
    // A part on a slow line, a list of blocks that takes its time.
    let late = WireFault::Delay(Duration::from_secs(1));
    proxy.set(vec![WireRule::during(0..u64::MAX, late)]);
    let body = bytes(5_000, 1);
    let committed = store.create(&key("x"), body.clone()).await.unwrap();
    proxy.set(vec![WireRule::at(0, WireFault::StallInResponse)]);
    let stalled = async { read(store.get(&key("x"), Some(committed.version()), None).await?).await };
    let error = stalled.await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Truncated, "{error}");
    assert!(error.to_string().contains("nothing came for 200ms"), "{error}");
    assert_eq!(proxy.fired().len(), 1);
}

#[tokio::test]
async fn a_token_is_not_sent_without_tls() {
    let url = StoreUrl::parse("azblob://shop/backups?endpoint=http://127.0.0.1:1/shop").unwrap();
    let credentials = Some(AzureCredentials::ManagedIdentity { client: None });
    let azure = AzureOptions { credentials, ..AzureOptions::default() };
    let error = open_bare(&url, &StoreOptions { azure, ..StoreOptions::default() }).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("without TLS"), "{error}");
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_refused() {
    let url = StoreUrl::parse("azblob://shop/backups?endpoint=https://localhost:1").unwrap();
    let broken: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in [&b""[..], b"no pem", broken] {
        let azure = AzureOptions {
            credentials: Some(AzureCredentials::SharedKey("a2V5".to_owned())),
            authorities: Some(pem.to_vec()),
            ..AzureOptions::default()
        };
        let error = open_bare(&url, &StoreOptions { azure, ..StoreOptions::default() }).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
}

/// What the program writes at the level that writes everything, and how it ends.
fn traced(server: &Azurite, container: &str, variable: (&str, &str)) -> (bool, String) {
    let url = format!("azblob://{}/{container}/x?endpoint={}", server.account(), server.endpoint());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
    command.args(["--log", "trace", "list", "--store-attempts", "1", "--store", &url]);
    let output = command.env(variable.0, variable.1).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

#[test]
fn no_log_holds_a_key_or_a_signature() {
    let server = testbed::shared_azurite();
    let container = server.fresh_container("traced");
    let sas = server.signature("rl");
    let signature = sas.split_once("sig=").unwrap().1.to_owned();
    for (name, value, secret) in [
        ("AZURE_STORAGE_KEY", server.key(), server.key()),
        ("AZURE_STORAGE_SAS_TOKEN", &*sas, &*signature),
        // Refused, and told of.
        ("AZURE_STORAGE_SAS_TOKEN", &*sas.replace("sp=rl", "sp=rwl"), &*signature),
    ] {
        let (ended_well, log) = traced(server, &container, (name, value));
        assert_eq!(ended_well, !value.contains("sp=rwl"), "{log}");
        assert!(
            log.contains("typespec_client_core") && log.contains("comp=list"),
            "nothing is logged: {log}"
        );
        for secret in [secret, "SharedKey testbed:"] {
            assert!(!log.contains(secret), "{name} is in the log: {log}");
        }
    }
}
