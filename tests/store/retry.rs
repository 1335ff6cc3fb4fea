//! Faults below the retries: what a caller sees, what is stored, what is reported; and that each fault fired.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rstest::rstest;
use vouchsafe::store::fault::{Fault, FaultStore, Operation, Rule, When};
use vouchsafe::store::retry::{ErrorCounts, Resolution, RetryBudget, RetryStore};
use vouchsafe::store::{ObjectStore, ObjectVersion, StoreError, StoreErrorKind, UploadSession};

use crate::conformance::digest;
use crate::fixture::{Fixture, Kind, bytes, content, key, read};

const ATTEMPTS: usize = 4;

/// A store whose requests are tried four times, a few milliseconds apart.
pub(crate) struct Faulty {
    pub(crate) fixture: Fixture,
    pub(crate) faults: Arc<FaultStore>,
    pub(crate) counts: Arc<ErrorCounts>,
    pub(crate) store: Arc<dyn ObjectStore>,
}

impl Faulty {
    pub(crate) async fn new(kind: Kind, rules: Vec<Rule>) -> Self {
        let fixture = Fixture::new(kind).await;
        let faults = Arc::new(FaultStore::new(Arc::clone(&fixture.store), rules));
        let counts = Arc::new(ErrorCounts::default());
        let budget = RetryBudget {
            attempts: ATTEMPTS,
            elapsed: Duration::from_secs(60),
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(2),
        };
        let inner: Arc<dyn ObjectStore> = Arc::clone(&faults) as Arc<dyn ObjectStore>;
        let store: Arc<dyn ObjectStore> = Arc::new(RetryStore::new(inner, budget, Arc::clone(&counts) as _));
        Self { fixture, faults, counts, store }
    }

    fn requests(&self, operation: Operation) -> usize {
        self.faults.requests().iter().filter(|(other, _)| *other == operation).count()
    }

    fn count(&self, operation: Operation, kind: StoreErrorKind, resolution: Resolution) -> u64 {
        self.counts.snapshot().get(&(operation.name(), kind, resolution)).copied().unwrap_or(0)
    }
}

const OLD: &str = "runs/1/old";
const NEW: &str = "runs/1/new";

/// Carries one operation out against a store that holds `OLD`, and returns what it gave back.
async fn perform(faulty: &Faulty, operation: Operation) -> Result<Vec<u8>, StoreError> {
    let old = faulty.fixture.store.create(&key(OLD), "old content".into()).await.unwrap();
    let store = &faulty.store;
    let body = Bytes::from_static(b"new content");
    let begun = async || -> Result<Box<dyn UploadSession>, StoreError> {
        let session = store.begin(&key(NEW)).await?;
        session.put_part(1, 0, body.clone()).await?;
        Ok(session)
    };
    match operation {
        Operation::Create => store.create(&key(NEW), body.clone()).await.map(|_| Vec::new()),
        Operation::Begin => {
            let session = store.begin(&key(NEW)).await?;
            session.abort().await.map(|()| Vec::new())
        }
        Operation::PutPart | Operation::Complete => {
            let committed = begun().await?.complete(digest(&body, 1)).await?;
            read(store.get(&key(NEW), Some(committed.version()), None).await?).await
        }
        Operation::Abort => begun().await?.abort().await.map(|()| Vec::new()),
        Operation::Get => read(store.get(&key(OLD), Some(old.version()), None).await?).await,
        Operation::Head => store.head(&key(OLD), None).await.map(|head| vec![0; head.length as usize]),
        Operation::List => store.list(None, None).await.map(|page| vec![0; page.objects.len()]),
        Operation::Delete => store.delete(&key(OLD), old.version()).await.map(|()| Vec::new()),
    }
}

#[rstest]
#[tokio::test]
async fn a_fault_inside_the_budget_is_not_seen(
    #[values(StoreErrorKind::Throttled, StoreErrorKind::Unavailable, StoreErrorKind::Truncated)]
    kind: StoreErrorKind,
    #[values(1, 3)] times: u64,
) {
    for operation in Operation::ALL {
        let expected = perform(&Faulty::new(Kind::Folder, vec![]).await, operation).await.unwrap();
        for fault in [Fault::Before(kind), Fault::After(kind)] {
            let faulty =
                Faulty::new(Kind::Folder, vec![Rule::new(When::Of(operation, 0..times), fault)]).await;
            let got =
                perform(&faulty, operation).await.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
            assert_eq!(got, expected, "{operation:?} {fault:?}");
            assert_eq!(faulty.faults.fired().len() as u64, times, "{operation:?} {fault:?}");
            // A create that took effect is met as a conflict, once an answer comes through.
            let lost = matches!(fault, Fault::After(_)) && operation == Operation::Create;
            let resolution = if lost { Resolution::ReadBack } else { Resolution::Retried };
            assert!(
                faulty.count(operation, kind, resolution) >= 1,
                "{operation:?} {fault:?}: {:?}",
                faulty.counts
            );
        }
    }
}

#[tokio::test]
async fn an_outage_past_the_budget_is_named_after_exactly_its_attempts() {
    for operation in Operation::ALL {
        let rule = Rule::new(When::Of(operation, 0..u64::MAX), Fault::Before(StoreErrorKind::Unavailable));
        let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
        let error = perform(&faulty, operation).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{operation:?}: {error}");
        assert!(error.to_string().contains("given up after 4 attempts"), "{error}");
        assert_eq!(faulty.faults.fired().len(), ATTEMPTS, "{operation:?}");
        let unresolved = faulty.count(operation, StoreErrorKind::Unavailable, Resolution::Unresolved);
        assert_eq!(unresolved, ATTEMPTS as u64, "{operation:?}: {:?}", faulty.counts);
    }
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_asked_once() {
    for kind in StoreErrorKind::ALL.into_iter().filter(|kind| !kind.retryable()) {
        for operation in Operation::ALL {
            let rule = Rule::new(When::Of(operation, 0..1), Fault::Before(kind));
            let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
            let error = perform(&faulty, operation).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{operation:?}: {error}");
            assert_eq!(faulty.requests(operation), 1, "{operation:?} {kind:?}");
        }
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn a_lost_acknowledgement_is_settled_by_reading_back(#[case] kind: Kind) {
    for operation in [Operation::Create, Operation::Complete] {
        let rule = Rule::new(When::Of(operation, 0..1), Fault::After(StoreErrorKind::Unavailable));
        let faulty = Faulty::new(kind, vec![rule]).await;
        let body = bytes(100_000, 3);
        let committed = match operation {
            Operation::Create => faulty.store.create(&key(NEW), body.clone()).await.unwrap(),
            _ => {
                let session = faulty.store.begin(&key(NEW)).await.unwrap();
                session.put_part(1, 0, body.clone()).await.unwrap();
                session.complete(digest(&body, 1)).await.unwrap()
            }
        };
        assert_eq!(faulty.faults.fired().len(), 1);
        let stored =
            read(faulty.store.get(&key(NEW), Some(committed.version()), None).await.unwrap()).await.unwrap();
        assert!(stored == body);
        // A folder's session knows that it is complete, as one of Google's kind does; other buckets forget it, and the
        // object must be read.
        if !matches!(kind, Kind::Folder | Kind::Gcs) || operation == Operation::Create {
            assert_eq!(
                faulty.count(operation, StoreErrorKind::Unavailable, Resolution::ReadBack),
                1,
                "{operation:?}"
            );
        }
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn anothers_object_is_never_taken_for_ones_own(
    #[case] kind: Kind,
    // Longer, shorter, of the same length.
    #[values("theirs, longer", "th", "their content")] theirs: &'static str,
) {
    let ours = Bytes::from_static(b"our content..");
    for operation in [Operation::Create, Operation::Complete] {
        // The first attempt fails without effect, so the second one is ambiguous when it meets theirs.
        let rule = Rule::new(When::Of(operation, 0..1), Fault::Before(StoreErrorKind::Unavailable));
        let faulty = Faulty::new(kind, vec![rule]).await;
        let _ = faulty.fixture.store.create(&key(NEW), theirs.into()).await.unwrap();
        let error = match operation {
            Operation::Create => faulty.store.create(&key(NEW), ours.clone()).await.unwrap_err(),
            _ => {
                let session = faulty.store.begin(&key(NEW)).await.unwrap();
                session.put_part(1, 0, ours.clone()).await.unwrap();
                let error = session.complete(digest(&ours, 1)).await.unwrap_err();
                session.abort().await.unwrap();
                error
            }
        };
        assert_eq!(error.kind(), StoreErrorKind::AlreadyExists, "{operation:?}: {error}");
        assert_eq!(faulty.faults.fired().len(), 1);
        assert_eq!(content(&faulty.fixture.store, &key(NEW)).await.unwrap(), theirs.as_bytes());
    }
}

#[tokio::test]
async fn a_first_conflict_is_a_conflict_even_with_equal_content() {
    // Nothing was lost, so it was another's create: two coordinators must not both believe they claimed a run.
    let faulty = Faulty::new(Kind::Folder, vec![]).await;
    let _ = faulty.fixture.store.create(&key(NEW), "same".into()).await.unwrap();
    let error = faulty.store.create(&key(NEW), "same".into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists);
    assert_eq!(faulty.requests(Operation::Get), 0);
}

#[tokio::test]
async fn an_upload_that_vanished_with_its_session_is_not_invented() {
    let rule = Rule::new(When::Of(Operation::Complete, 0..1), Fault::Before(StoreErrorKind::Unavailable));
    let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
    let session = faulty.store.begin(&key(NEW)).await.unwrap();
    session.put_part(1, 0, "x".into()).await.unwrap();
    session.abort().await.unwrap();
    let error = session.complete(digest(b"x", 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NoSuchUpload, "{error}");
    assert_eq!(faulty.faults.fired().len(), 1);
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut(#[case] kind: Kind) {
    let body = bytes(3_000_000, 9);
    let length = body.len() as u64;
    for at in [0, 1, 1 << 20, length - 1, length] {
        for fault in [Fault::CutBody(at), Fault::EndBody(at)] {
            // Every attempt is cut after the same number of bytes of its own.
            let times = if at < 1 << 20 { 2 } else { 1 };
            let faulty = Faulty::new(kind, vec![Rule::new(When::Of(Operation::Get, 0..times), fault)]).await;
            let committed = faulty.fixture.store.create(&key(OLD), body.clone()).await.unwrap();
            let download = faulty.store.get(&key(OLD), Some(committed.version()), None).await.unwrap();
            let got = read(download).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert!(got == body, "{fault:?}");
            assert!(!faulty.faults.fired().is_empty());
            let harmless = fault == Fault::EndBody(length) || fault == Fault::CutBody(length);
            let resumed = faulty.count(Operation::Get, StoreErrorKind::Truncated, Resolution::Resumed);
            assert_eq!(
                resumed,
                if harmless && matches!(fault, Fault::EndBody(_)) { 0 } else { times },
                "{fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_range_goes_on_within_itself() {
    let body = bytes(100_000, 9);
    let rule = Rule::new(When::Of(Operation::Get, 0..3), Fault::CutBody(10));
    let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
    let committed = faulty.fixture.store.create(&key(OLD), body.clone()).await.unwrap();
    let got = faulty.store.get(&key(OLD), Some(committed.version()), Some(500..50_000)).await.unwrap();
    assert!(read(got).await.unwrap() == body[500..50_000]);
    assert_eq!(faulty.faults.fired().len(), 3);
}

#[tokio::test]
async fn a_download_that_makes_no_progress_ends() {
    let rule = Rule::new(When::Of(Operation::Get, 0..u64::MAX), Fault::CutBody(0));
    let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
    let _ = faulty.fixture.store.create(&key(OLD), "content".into()).await.unwrap();
    let error = content(&faulty.store, &key(OLD)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Truncated, "{error}");
    assert_eq!(faulty.requests(Operation::Get), ATTEMPTS);
}

#[tokio::test]
async fn a_download_does_not_go_on_in_another_object() {
    let rule = Rule::new(When::Of(Operation::Get, 0..1), Fault::CutBody(2));
    let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
    let store = &faulty.fixture.store;
    let old = store.create(&key(OLD), "the old content".into()).await.unwrap();
    // No version was asked for, and still the download ends in the object in which it began.
    let download = faulty.store.get(&key(OLD), None, None).await.unwrap();
    store.delete(&key(OLD), old.version()).await.unwrap();
    let _ = store.create(&key(OLD), "the new content".into()).await.unwrap();
    let error = read(download).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Changed, "{error}");
    assert_eq!(faulty.faults.fired().len(), 1);
}

#[tokio::test]
async fn a_pretended_create_is_found_out_by_reading_only() {
    let rule = Rule::new(When::Of(Operation::Create, 0..1), Fault::Pretend);
    let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
    let committed = faulty.store.create(&key(NEW), "x".into()).await.unwrap();
    assert_eq!(faulty.faults.fired().len(), 1);
    let error = faulty.store.get(&key(NEW), Some(committed.version()), None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_flipped_bit_reaches_the_reader() {
    // Retrying reads is not what notices it: the reader's own digest is.
    let rule = Rule::new(When::Of(Operation::Get, 0..1), Fault::FlipBit(8 * 4 + 1));
    let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
    let _ = faulty.fixture.store.create(&key(OLD), "content".into()).await.unwrap();
    assert_eq!(content(&faulty.store, &key(OLD)).await.unwrap(), b"contgnt");
    assert_eq!(faulty.faults.fired().len(), 1);
}

#[tokio::test]
async fn faults_by_seed_are_the_same_again_and_by_name_meet_only_that() {
    let rules = |name: &str| {
        vec![
            Rule::new(When::Random { per_thousand: 300, seed: 7 }, Fault::Before(StoreErrorKind::NotFound))
                .only(name),
        ]
    };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let faulty = Faulty::new(Kind::Folder, rules("data/")).await;
        for n in 0..100 {
            for name in [format!("data/{n}"), format!("receipts/{n}")] {
                drop(faulty.faults.head(&key(&name), None).await);
            }
        }
        runs.push(faulty.faults.fired());
    }
    assert_eq!(runs[0], runs[1]);
    assert!((10..60).contains(&runs[0].len()), "{} of 100 at 30 %", runs[0].len());
    assert!(runs[0].iter().all(|fired| fired.object.starts_with("data/")));
}

#[tokio::test]
async fn a_rule_that_fires_twice_does_not_stand_for_one_that_never_does() {
    let often = Rule::new(When::Of(Operation::Head, 0..2), Fault::Before(StoreErrorKind::NotFound));
    let never = Rule::new(When::Of(Operation::Get, 5..6), Fault::Before(StoreErrorKind::NotFound));
    let faulty = Faulty::new(Kind::Folder, vec![often, never]).await;
    for _ in 0..3 {
        drop(faulty.faults.head(&key(OLD), None).await);
    }
    assert_eq!(faulty.faults.fired().iter().map(|fired| fired.rule).collect::<Vec<_>>(), [0, 0]);
}

#[tokio::test]
async fn deleting_again_after_a_lost_acknowledgement_is_success() {
    let rule = Rule::new(When::Of(Operation::Delete, 0..1), Fault::After(StoreErrorKind::Unavailable));
    let faulty = Faulty::new(Kind::Folder, vec![rule]).await;
    let old = faulty.fixture.store.create(&key(OLD), "x".into()).await.unwrap();
    faulty.store.delete(&key(OLD), old.version()).await.unwrap();
    assert_eq!(faulty.faults.fired().len(), 1);
    assert!(faulty.store.delete(&key(OLD), &ObjectVersion::default()).await.is_ok());
}
