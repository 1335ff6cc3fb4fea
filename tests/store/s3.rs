//! What only S3 can get wrong.

use rstest::rstest;
use testbed::S3Kind;
use vouchsafe::store::s3::{Credentials, S3Options};
use vouchsafe::store::{StoreErrorKind, StoreOptions, StoreUrl, open, open::open_bare};

use crate::fixture::{Fixture, Kind, content, key, read, s3_options, s3_url};

#[rstest]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[tokio::test]
async fn the_store_compares_checksums_itself(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let name = key("probes/x");
    assert!(fixture.store.refuses_wrong_checksum(&name).await.unwrap());
    assert_eq!(fixture.store.head(&name, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(fixture.unfinished(), 0);
}

#[rstest]
#[case::minio(S3Kind::Minio)]
#[case::seaweedfs(S3Kind::SeaweedFs)]
#[tokio::test]
async fn wrong_buckets_and_credentials_are_named(#[case] kind: S3Kind) {
    let (server, bucket) = tokio::task::spawn_blocking(move || {
        let server = testbed::shared_s3(kind);
        (server, server.fresh_bucket("store"))
    })
    .await
    .unwrap();
    let missing = open(&s3_url(server, "missing-bucket"), &s3_options(server)).await.unwrap();
    for error in [
        missing.create(&key("x"), "x".into()).await.unwrap_err(),
        missing.get(&key("x"), None, None).await.unwrap_err(),
        missing.list(None, None).await.unwrap_err(),
        missing.begin(&key("x")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::NoSuchBucket, "{error}");
    }
    for (access_key, secret) in
        [(server.access_key(), "wrong-canary-secret"), ("nobody", "wrong-canary-secret")]
    {
        let credentials = Credentials {
            access_key_id: access_key.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: None,
        };
        let s3 = S3Options { credentials: Some(credentials), ..S3Options::default() };
        let options = StoreOptions { s3, ..StoreOptions::default() };
        let store = open(&s3_url(server, &bucket), &options).await.unwrap();
        let error = store.create(&key("x"), "x".into()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unauthenticated, "{error}");
        for text in [format!("{error}"), format!("{error:?}"), format!("{store:?}"), format!("{options:?}")] {
            assert!(!text.contains("canary"), "a secret is printed: {text}");
        }
    }
}

#[rstest]
#[case::minio(S3Kind::Minio)]
#[case::seaweedfs(S3Kind::SeaweedFs)]
#[tokio::test]
async fn under_versioning_the_recorded_version_is_read(#[case] kind: S3Kind) {
    let (server, bucket) = tokio::task::spawn_blocking(move || {
        let server = testbed::shared_s3(kind);
        let bucket = format!("locked-{}", server.port());
        server.create_bucket_with_object_lock(&bucket);
        (server, bucket)
    })
    .await
    .unwrap();
    let store = open_bare(&s3_url(server, &bucket), &s3_options(server)).await.unwrap();
    let name = key("runs/1/part.json");
    let first = store.create(&name, "first".into()).await.unwrap();
    assert!(first.version().version.is_some(), "{first:?}");
    // A delete without version adds a marker, and over a marker a create succeeds: the recorded one is still it.
    let path = format!("{bucket}/some/prefix/{name}");
    let deleted =
        tokio::task::spawn_blocking(move || server.request("DELETE", &path, &[], None)).await.unwrap();
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert_eq!(store.head(&name, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    let _ = store.create(&name, "second".into()).await.unwrap();
    let recorded = read(store.get(&name, Some(first.version()), None).await.unwrap()).await.unwrap();
    assert_eq!(recorded, b"first");
    assert_eq!(content(&store, &name).await.unwrap(), b"second");
    store.delete(&name, first.version()).await.unwrap();
    let gone = store.get(&name, Some(first.version()), None).await.unwrap_err();
    assert_eq!(gone.kind(), StoreErrorKind::NotFound, "{gone}");
    assert_eq!(content(&store, &name).await.unwrap(), b"second");
}

#[tokio::test]
async fn an_endpoint_that_nobody_serves_is_unavailable() {
    // Bound and not listening any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = StoreUrl::parse(&format!("s3://bucket/x?endpoint=http://127.0.0.1:{port}")).unwrap();
    let s3 = S3Options {
        credentials: Some(Credentials {
            access_key_id: "a".into(),
            secret_access_key: "b".into(),
            session_token: None,
        }),
        ..S3Options::default()
    };
    let store = open_bare(&url, &StoreOptions { s3, ..StoreOptions::default() }).await.unwrap();
    let error = store.head(&key("x"), None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_refused_before_the_sdk_panics() {
    let url = StoreUrl::parse("s3://bucket/x?endpoint=https://localhost:1").unwrap();
    let broken: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in [&b""[..], b"no pem", broken] {
        let s3 = S3Options { authorities: Some(pem.to_vec()), ..S3Options::default() };
        let options = StoreOptions { s3, ..StoreOptions::default() };
        let error = open_bare(&url, &options).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
}
