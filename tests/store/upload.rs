//! Uploads that fail: the first error is the error, nothing appears, nothing is left behind.

use std::time::{Duration, Instant};

use rstest::rstest;
use vouchsafe::store::fault::{Fault, Operation, Rule, When};
use vouchsafe::store::{StoreErrorKind, Upload, UploadOptions};

use crate::fixture::{Kind, bytes, key};
use crate::retry::Faulty;

const PART: usize = 5 << 20;
const OUTAGE: Fault = Fault::Before(StoreErrorKind::Unavailable);

fn options() -> UploadOptions {
    UploadOptions { first_part: PART, concurrency: 2 }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_first_error_every_call_returns_it(#[case] kind: Kind) {
    // The second part and its retries; a later part would succeed, and must not hide it.
    let rule = Rule::new(When::Of(Operation::PutPart, 1..1_000), Fault::Before(StoreErrorKind::NoSpace));
    let faulty = Faulty::new(kind, vec![rule]).await;
    let mut upload = Upload::begin(&faulty.store, key("data/x"), options());
    let mut failed = None;
    for n in 0..20 {
        match (upload.write(bytes(PART, n)).await, &failed) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => panic!("a write succeeded after one had failed"),
            (Err(error), None) => failed = Some(error.to_string()),
            (Err(error), Some(first)) => assert_eq!(error.to_string(), *first),
        }
    }
    let error = upload.finish().await.unwrap_err();
    assert_eq!(Some(error.to_string()), failed);
    assert_eq!(error.kind(), StoreErrorKind::NoSpace);
    assert!(!faulty.faults.fired().is_empty());
    if kind.forgets() {
        assert_eq!(faulty.fixture.unfinished(), 0);
    }
    assert_eq!(
        faulty.fixture.store.head(&key("data/x"), None).await.unwrap_err().kind(),
        StoreErrorKind::NotFound
    );
}

#[rstest]
#[case::begin(Operation::Begin)]
#[case::part(Operation::PutPart)]
#[case::complete(Operation::Complete)]
#[tokio::test]
async fn a_failure_at_any_step_fails_the_upload_and_aborts_it(#[case] operation: Operation) {
    // Written whole first, so that only `finish` can tell: the case in which errors were lost elsewhere.
    for nth in 0..3 {
        if operation != Operation::PutPart && nth > 0 {
            continue;
        }
        let rule = Rule::new(When::Of(operation, nth..1_000), OUTAGE);
        let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
        let mut upload = Upload::begin(&faulty.store, key("data/x"), options());
        let written = upload.write(bytes(2 * PART + 1, 1)).await;
        let error = upload.finish().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{operation:?} {nth}: {error}");
        if let Err(first) = written {
            assert_eq!(first.to_string(), error.to_string());
        }
        assert!(!faulty.faults.fired().is_empty());
        assert_eq!(faulty.fixture.unfinished(), 0, "{operation:?} {nth}");
        let listed = faulty.fixture.store.list(None, None).await.unwrap();
        assert!(listed.objects.is_empty(), "{listed:?}");
    }
}

#[tokio::test]
async fn a_failed_small_upload_fails() {
    let faulty =
        Faulty::new(Kind::Folder, vec![Rule::new(When::Of(Operation::Create, 0..1_000), OUTAGE)]).await;
    let mut upload = Upload::begin(&faulty.store, key("data/x"), options());
    upload.write(bytes(100, 1)).await.unwrap();
    assert_eq!(upload.finish().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert!(!faulty.faults.fired().is_empty());
}

#[tokio::test]
async fn a_failed_abort_is_told_without_hiding_the_first_error() {
    let faulty = Faulty::new(
        Kind::Folder,
        vec![
            Rule::new(When::Of(Operation::Complete, 0..1), Fault::Before(StoreErrorKind::NoSpace)),
            Rule::new(When::Of(Operation::Abort, 0..1), Fault::Before(StoreErrorKind::Forbidden)),
        ],
    )
    .await;
    let mut upload = Upload::begin(&faulty.store, key("data/x"), options());
    upload.write(bytes(PART + 1, 1)).await.unwrap();
    let error = upload.finish().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NoSpace);
    assert!(error.to_string().contains("1 failed abort left parts behind"), "{error}");
    assert_eq!(faulty.faults.fired().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_dropped_leaves_no_parts() {
    let faulty = Faulty::new(Kind::Folder, vec![]).await;
    let mut upload = Upload::begin(&faulty.store, key("data/x"), options());
    upload.write(bytes(3 * PART, 1)).await.unwrap();
    assert_eq!(faulty.fixture.unfinished(), 1);
    drop(upload);
    let deadline = Instant::now() + Duration::from_secs(30);
    while faulty.fixture.unfinished() > 0 {
        assert!(Instant::now() < deadline, "its parts are still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_write_that_was_cancelled_midway_fails_the_upload() {
    let faulty = Faulty::new(Kind::Folder, vec![]).await;
    let mut upload = Upload::begin(&faulty.store, key("data/x"), options());
    {
        let write = upload.write(bytes(20 * PART, 1));
        // Polled once: it waits for a place among the parts in flight.
        assert!(futures::FutureExt::now_or_never(write).is_none());
    }
    let error = upload.write("x".into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert!(upload.finish().await.is_err());
    assert_eq!(faulty.fixture.unfinished(), 0);
}
