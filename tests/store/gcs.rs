//! What only Google Cloud Storage does: generations, sessions that keep less than was sent, tokens.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rstest::rstest;
use testbed::{GcsServer, GcsTrouble, make_certificates, shared_gcs};
use vouchsafe::store::gcs::{GcsCredentials, GcsOptions};
use vouchsafe::store::open::{open, open_bare};
use vouchsafe::store::retry::RetryBudget;
use vouchsafe::store::{
    Limits, ObjectStore, StoreError, StoreErrorKind, StoreOptions, StoreUrl, Upload, UploadOptions, probe,
};

use crate::fixture::{bytes, content, gcs_url, key, read};
use crate::private_ca::terminate;

const PART: usize = 1 << 20;

struct Gcs {
    server: &'static GcsServer,
    bucket: String,
    /// With retries.
    store: Arc<dyn ObjectStore>,
    /// Each request is sent once.
    bare: Arc<dyn ObjectStore>,
}

impl Gcs {
    async fn new() -> Self {
        Self::in_bucket(shared_gcs().fresh_bucket("gcs")).await
    }

    async fn in_bucket(bucket: String) -> Self {
        let server = shared_gcs();
        let retry = RetryBudget {
            attempts: 4,
            elapsed: Duration::from_secs(60),
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(4),
        };
        let limits = Limits { attempt: Duration::from_secs(2), ..Limits::default() };
        let gcs = GcsOptions { limits, ..GcsOptions::default() };
        let options = StoreOptions { retry, gcs, ..StoreOptions::default() };
        let url = gcs_url(server, &bucket);
        let (store, bare) = (open(&url, &options).await.unwrap(), open_bare(&url, &options).await.unwrap());
        Self { server, bucket, store, bare }
    }

    async fn upload(&self, name: &str, body: &Bytes) -> Result<vouchsafe::store::Committed, StoreError> {
        let options = UploadOptions { first_part: PART, concurrency: 3 };
        let mut upload = Upload::begin(&self.store, key(name), options);
        upload.write(body.clone()).await?;
        upload.finish().await
    }
}

#[tokio::test]
async fn a_bucket_keeps_what_a_proof_needs() {
    let gcs = Gcs::new().await;
    assert!(probe(&gcs.store).await.unwrap().delete);
    assert_eq!((gcs.server.objects(&gcs.bucket), gcs.server.unfinished(&gcs.bucket)), (vec![], 0));
    assert!(gcs.bare.refuses_wrong_checksum(&key("probes/x")).await.unwrap());
    assert_eq!((gcs.server.objects(&gcs.bucket), gcs.server.unfinished(&gcs.bucket)), (vec![], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_in_part_is_sent_again_from_there() {
    let gcs = Gcs::new().await;
    let body = bytes(4 * PART + 77, 4);
    // Of the first three requests a quantum each; the fourth part's end and the last bytes meet it, too.
    for times in [1, 3, 20] {
        gcs.server.trouble(&gcs.bucket, "PUT", times, GcsTrouble::KeepAQuantum);
        let name = format!("data/{times}");
        let committed = gcs.upload(&name, &body).await.unwrap_or_else(|error| panic!("{times}: {error}"));
        assert!(gcs.server.troubles_left(&gcs.bucket) < times, "nothing was kept in part");
        gcs.server.heal(&gcs.bucket);
        let stored = gcs.bare.get(&key(&name), Some(committed.version()), None).await.unwrap();
        assert!(read(stored).await.unwrap() == body, "{times}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_uploads_of_a_name_the_first_to_be_complete_wins() {
    let gcs = Gcs::new().await;
    let name = key("data/x");
    let sessions = [gcs.store.begin(&name).await.unwrap(), gcs.store.begin(&name).await.unwrap()];
    let bodies = [bytes(PART, 1), bytes(PART, 2)];
    for (session, body) in sessions.iter().zip(&bodies) {
        session.put_part(1, 0, body.clone()).await.unwrap();
    }
    let of = |body: &Bytes| crate::conformance::digest(body, 1);
    let _ = sessions[1].complete(of(&bodies[1])).await.unwrap();
    let error = sessions[0].complete(of(&bodies[0])).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists, "{error}");
    sessions[0].abort().await.unwrap();
    sessions[1].abort().await.expect("of what is complete there is nothing to give up");
    assert!(content(&gcs.bare, &name).await.unwrap() == bodies[1]);
    assert_eq!(gcs.server.unfinished(&gcs.bucket), 0);
    // Who asks again is told what was stored, and not that there was a conflict.
    let again = sessions[1].complete(of(&bodies[1])).await.unwrap();
    let head = gcs.bare.head(&name, None).await.unwrap();
    assert_eq!(again.version(), &head.version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_the_writer_s_are_not_completed() {
    let gcs = Gcs::new().await;
    let (session, body) = (gcs.bare.begin(&key("data/x")).await.unwrap(), bytes(PART, 1));
    session.put_part(1, 0, body.clone()).await.unwrap();
    let wrong = vouchsafe::store::ContentDigest { crc32c: 1, ..crate::conformance::digest(&body, 1) };
    let error = session.complete(wrong).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ChecksumMismatch, "{error}");
    session.abort().await.unwrap();
    assert!(gcs.server.objects(&gcs.bucket).is_empty());
}

#[tokio::test]
async fn a_recorded_generation_is_read_after_another_took_its_name() {
    let gcs = Gcs::in_bucket(shared_gcs().fresh_versioned_bucket("gcs")).await;
    let (name, other) = (key("runs/1/part.json"), Gcs::in_bucket(gcs.bucket.clone()).await);
    let first = gcs.store.create(&name, "first".into()).await.unwrap();
    // Somebody deletes it without saying which, and stores something else.
    let live = other.bare.head(&name, None).await.unwrap();
    assert_eq!(&live.version, first.version());
    gcs.server.archive(&gcs.bucket, &format!("some/prefix/{name}"));
    let second = other.store.create(&name, "second".into()).await.unwrap();
    let old = gcs.store.get(&name, Some(first.version()), None).await.unwrap();
    assert_eq!(read(old).await.unwrap(), b"first");
    assert_eq!(gcs.store.head(&name, Some(first.version())).await.unwrap().length, 5);
    // Each goes by its own.
    gcs.store.delete(&name, first.version()).await.unwrap();
    let error = gcs.store.get(&name, Some(first.version()), None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Changed, "{error}");
    assert_eq!(content(&gcs.store, &name).await.unwrap(), b"second");
    gcs.store.delete(&name, second.version()).await.unwrap();
    assert_eq!(gcs.store.head(&name, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[rstest]
#[case(GcsTrouble::Throttle, "", None)]
#[case(GcsTrouble::Unavailable, "", None)]
#[case(GcsTrouble::LoseAnswer, "after ", None)]
#[case(GcsTrouble::Stall, "after ", None)]
#[case(GcsTrouble::Forbid, "", Some(StoreErrorKind::Forbidden))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_with_metadata_is_mended_or_named(
    #[case] trouble: GcsTrouble,
    #[case] when: &str,
    #[case] fails: Option<StoreErrorKind>,
    #[values("GetObject", "ListObjects", "DeleteObject")] method: &str,
) {
    let gcs = Gcs::new().await;
    let name = key("runs/1/part.json");
    let stored = gcs.bare.create(&name, "x".into()).await.unwrap();
    let times = if fails.is_some() || trouble == GcsTrouble::Stall { 1 } else { 3 };
    gcs.server.trouble(&gcs.bucket, &format!("{when}{method}"), times, trouble);
    let ended = match method {
        "GetObject" => gcs.store.head(&name, Some(stored.version())).await.map(drop),
        "ListObjects" => gcs.store.list(None, None).await.map(drop),
        _ => gcs.store.delete(&name, stored.version()).await,
    };
    assert_eq!(ended.as_ref().err().map(StoreError::kind), fails, "{ended:?}");
    assert_eq!(gcs.server.troubles_left(&gcs.bucket), 0, "it never fired");
    let gone = method == "DeleteObject" && fails.is_none();
    assert_eq!(gcs.server.objects(&gcs.bucket).is_empty(), gone);
}

#[tokio::test]
async fn what_rots_what_is_held_and_what_is_nowhere_is_named() {
    let gcs = Gcs::new().await;
    let name = key("data/x");
    let stored = gcs.store.create(&name, "content".into()).await.unwrap();
    let at = format!("some/prefix/{name}");
    gcs.server.hold(&gcs.bucket, &at, true);
    let error = gcs.store.delete(&name, stored.version()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Locked, "{error}");
    gcs.server.hold(&gcs.bucket, &at, false);
    gcs.server.damage(&gcs.bucket, &at, "contenu");
    let error = content(&gcs.store, &name).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ChecksumMismatch, "{error}");
    let nowhere = Gcs::in_bucket("no-such-bucket".to_owned()).await;
    let head = nowhere.store.head(&name, None).await.unwrap_err();
    let create = nowhere.store.create(&name, "x".into()).await.unwrap_err();
    let begin = nowhere.store.begin(&name).await.unwrap_err();
    let get = nowhere.store.get(&name, None, None).await.unwrap_err();
    let list = nowhere.store.list(None, None).await.unwrap_err();
    for error in [head, create, begin, get, list] {
        assert_eq!(error.kind(), StoreErrorKind::NoSuchBucket, "{error}");
    }
}

/// A server that asks who asks, behind TLS of an authority of its own.
struct Guarded {
    server: &'static GcsServer,
    folder: tempfile::TempDir,
    url: String,
}

impl Guarded {
    async fn new() -> Self {
        let server: &GcsServer = Box::leak(Box::new(GcsServer::start_with_an_account()));
        let folder = tempfile::tempdir().unwrap();
        let certificates = make_certificates(folder.path());
        let port = terminate(&certificates, server.port(), &["h2", "http/1.1"]).await;
        std::fs::rename(&certificates.authority, folder.path().join("authority.pem")).unwrap();
        let url = format!("gs://{}/x?endpoint=https://localhost:{port}", server.fresh_bucket("guarded"));
        Self { server, folder, url }
    }

    fn file(&self, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join("key.json");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `vouchsafe list`, with a log of everything, by whom that file says.
    fn list(&self, key_file: &Path) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
        command.args(["list", "--output", "json", "--store-attempts", "1", "--store", &self.url]);
        command.env("VOUCHSAFE_LOG", "trace").env("HOME", self.folder.path());
        command.env("SSL_CERT_FILE", self.folder.path().join("authority.pem"));
        command.env("GOOGLE_APPLICATION_CREDENTIALS", key_file);
        command.output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_opens_its_account_s_buckets_and_is_in_no_log() {
    let guarded = Guarded::new().await;
    let key_file = guarded.server.key_file().unwrap();
    let listed = guarded.list(&guarded.file(key_file));
    let log = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{}{log}", String::from_utf8_lossy(&listed.stdout));
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "there is no log to look into: {log}");
    let other = GcsServer::start_with_an_account();
    let refused = guarded.list(&guarded.file(other.key_file().unwrap()));
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("Invalid JWT Signature"), "{said}");
    let broken = guarded.list(&guarded.file("{}"));
    assert!(!broken.status.success());
    let parsed: serde_json::Value = serde_json::from_str(key_file).unwrap();
    let secret = parsed["private_key"].as_str().unwrap();
    let canaries: Vec<&str> = secret.lines().filter(|line| line.len() > 60).collect();
    assert!(canaries.len() > 10);
    for output in [&listed, &refused, &broken] {
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            assert!(!canaries.iter().any(|canary| text.contains(canary)), "the key is in a log");
            // What every token begins with: `{"` in Base64.
            let token = text.find("eyJ");
            assert!(token.is_none(), "a token is in a log: {:?}", token.map(|at| text.get(at..at + 20)));
        }
    }
}

#[tokio::test]
async fn a_key_is_never_sent_without_tls() {
    let server = shared_gcs();
    let other = GcsServer::start_with_an_account();
    let credentials = Some(GcsCredentials::from_key_file(other.key_file().unwrap()).unwrap());
    let gcs = GcsOptions { credentials, ..GcsOptions::default() };
    let options = StoreOptions { gcs, ..StoreOptions::default() };
    let url = gcs_url(server, "bucket");
    let error = open_bare(&url, &options).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("never sent without TLS"), "{error}");
    let https = StoreUrl::parse(&url.to_string().replace("http%3A", "https%3A")).unwrap();
    assert!(open_bare(&https, &options).await.is_ok());
}
