//! Faults on the wire, between the SDK and a real server: every request of a little work × every fault.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rstest::rstest;
use testbed::{FaultProxy, WireFault, WireRule};
use vouchsafe::store::Limits;
use vouchsafe::store::open::open;
use vouchsafe::store::retry::RetryBudget;
use vouchsafe::store::{ObjectStore, StoreError, StoreErrorKind, StoreOptions, Upload, UploadOptions};

use crate::fixture::{Fixture, Kind, bytes, content, key, read};

const PART: usize = 5 << 20;

struct Wire {
    proxy: FaultProxy,
    /// Through the proxy, with retries.
    store: Arc<dyn ObjectStore>,
    /// Straight to the server.
    direct: Arc<dyn ObjectStore>,
}

impl Wire {
    async fn new(kind: Kind) -> Self {
        let fixture = Fixture::new(kind).await;
        let proxy = FaultProxy::start(fixture.port());
        let retry = RetryBudget {
            attempts: 4,
            elapsed: Duration::from_secs(60),
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(4),
        };
        let mut options = StoreOptions { retry, ..fixture.options() };
        // Long for a server on this machine, short for whoever waits for the stalls.
        let limits = Limits {
            attempt: Duration::from_secs(3),
            complete: Duration::from_secs(3),
            stall: Duration::from_secs(3),
            ..Limits::default()
        };
        (options.s3.limits, options.azure.limits, options.gcs.limits) = (limits, limits, limits);
        let store = open(&fixture.url_through(&proxy.endpoint()), &options).await.unwrap();
        Self { proxy, store, direct: fixture.store }
    }

    /// Stores something each way there is, reads it each way there is, and deletes it; what comes back must be
    /// what was stored. Returns the step that failed.
    async fn work(&self) -> Result<(), (Step, StoreError)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let round = NEXT.fetch_add(1, Ordering::Relaxed);
        let (small, large) = (key(&format!("w{round}/data/small")), key(&format!("w{round}/data/large")));
        let (little, much) = (bytes(1_000, round), bytes(2 * PART + 77, round));
        let committed = self.store.create(&small, little.clone()).await.map_err(at(Step::Create))?;
        let mut upload =
            Upload::begin(&self.store, large.clone(), UploadOptions { first_part: PART, concurrency: 1 });
        upload.write(much.clone()).await.map_err(at(Step::Upload))?;
        let uploaded = upload.finish().await.map_err(at(Step::Upload))?;
        let got = self.store.get(&small, Some(committed.version()), None).await.map_err(at(Step::Read))?;
        check(read(got).await.map_err(at(Step::Read))? == little, Step::Read)?;
        let got = self.store.get(&large, Some(uploaded.version()), None).await.map_err(at(Step::Read))?;
        check(read(got).await.map_err(at(Step::Read))? == much, Step::Read)?;
        let range = 1_000..PART as u64 + 9;
        let got = self
            .store
            .get(&large, Some(uploaded.version()), Some(range.clone()))
            .await
            .map_err(at(Step::Read))?;
        let part = read(got).await.map_err(at(Step::Read))?;
        check(part == much[range.start as usize..range.end as usize], Step::Read)?;
        let head = self.store.head(&large, Some(uploaded.version())).await.map_err(at(Step::Read))?;
        check(head.length == much.len() as u64, Step::Read)?;
        let listed =
            self.store.list(Some(&key(&format!("w{round}/data"))), None).await.map_err(at(Step::List))?;
        check(listed.objects == [(large.clone(), much.len() as u64), (small.clone(), 1_000)], Step::List)?;
        // By another way than the faults'.
        assert!(content(&self.direct, &small).await.unwrap() == little);
        assert!(content(&self.direct, &large).await.unwrap() == much);
        self.store.delete(&small, committed.version()).await.map_err(at(Step::Delete))?;
        let after = self.direct.head(&small, None).await;
        check(after.is_err_and(|error| error.kind() == StoreErrorKind::NotFound), Step::Delete)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Upload,
    Read,
    List,
    Delete,
}

fn at(step: Step) -> impl Fn(StoreError) -> (Step, StoreError) {
    move |error| (step, error)
}

/// Content that differs: what a reader's digest finds.
fn check(same: bool, step: Step) -> Result<(), (Step, StoreError)> {
    if same {
        return Ok(());
    }
    Err((
        step,
        StoreError::new(StoreErrorKind::ChecksumMismatch, "test", "", "it reads back as something else"),
    ))
}

/// Whether a request reached what its fault requires of the outcome.
fn as_required(fault: WireFault, line: &str, outcome: &Result<(), (Step, StoreError)>) -> bool {
    let kind = outcome.as_ref().err().map(|(_, error)| error.kind());
    match fault {
        // Of a delete nothing can be checked that its answer, or the look before it, says wrongly. What is left
        // takes space; no data is lost.
        WireFault::OkWithError | WireFault::OkWithPage if line.starts_with("DELETE") => left(outcome),
        WireFault::Vanish if line.starts_with("HEAD") => {
            left(outcome) || kind == Some(StoreErrorKind::NotFound)
        }
        // Inside the budget: not seen.
        WireFault::ResetInRequest
        | WireFault::ResetInResponse
        | WireFault::StallInRequest
        | WireFault::StallInResponse
        | WireFault::SlowDown
        | WireFault::InternalError
        | WireFault::LostAcknowledgement
        | WireFault::OkWithError
        | WireFault::LongAgo
        | WireFault::Delay(_)
        | WireFault::Hold => kind.is_none(),
        // The answer to a HEAD has no body to say why.
        WireFault::ClockSkewed if line.starts_with("HEAD") || line.starts_with("DELETE") => matches!(
            kind,
            Some(StoreErrorKind::Forbidden | StoreErrorKind::Unauthenticated | StoreErrorKind::ClockSkew)
        ),
        WireFault::ClockSkewed => kind == Some(StoreErrorKind::ClockSkew),
        WireFault::AccessDenied => kind == Some(StoreErrorKind::Forbidden),
        // A page instead of an answer is named, or seen to be no acknowledgement and asked again.
        WireFault::OkWithPage => kind.is_none() || kind == Some(StoreErrorKind::Protocol),
        // What was acknowledged and is not there shows when it is read, or when its parts are put together.
        WireFault::Pretend if line.contains("partNumber=") => kind == Some(StoreErrorKind::Invalid),
        WireFault::Pretend if line.contains("blockid=") => kind == Some(StoreErrorKind::NoSuchUpload),
        // Bytes of a resumable upload that were never there are missed by those that follow.
        WireFault::Pretend if line.contains("upload_id=") && kind == Some(StoreErrorKind::Invalid) => true,
        WireFault::Pretend => matches!(kind, Some(StoreErrorKind::NotFound | StoreErrorKind::Changed)),
        WireFault::Vanish => {
            kind == Some(StoreErrorKind::NotFound) || line.starts_with("HEAD") && kind.is_none()
        }
        WireFault::FlipBit(_) => kind == Some(StoreErrorKind::ChecksumMismatch),
    }
}

/// The kind of a request: its method, and the names of its parameters.
fn shape(line: &str) -> String {
    let (method, target) = line.split_once(' ').unwrap_or((line, ""));
    let parameters = target.split_once('?').map_or("", |(_, parameters)| parameters);
    let names = parameters.split('&').filter_map(|parameter| parameter.split('=').next());
    format!("{method} {}", names.collect::<Vec<_>>().join(" "))
}

/// All went well, but for an object that should be gone.
fn left(outcome: &Result<(), (Step, StoreError)>) -> bool {
    outcome.as_ref().err().is_none_or(|(step, _)| *step == Step::Delete)
}

const FAULTS: [WireFault; 16] = [
    WireFault::ResetInRequest,
    WireFault::ResetInResponse,
    WireFault::StallInRequest,
    WireFault::StallInResponse,
    WireFault::SlowDown,
    WireFault::InternalError,
    WireFault::AccessDenied,
    WireFault::ClockSkewed,
    WireFault::LostAcknowledgement,
    WireFault::OkWithError,
    WireFault::OkWithPage,
    WireFault::Pretend,
    WireFault::Vanish,
    WireFault::FlipBit(8 * 500 + 3),
    WireFault::LongAgo,
    WireFault::Delay(Duration::from_millis(50)),
];

#[rstest]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_under_every_fault_ends_as_it_must(#[case] kind: Kind) {
    let wire = Wire::new(kind).await;
    wire.proxy.set(Vec::new());
    wire.work().await.unwrap_or_else(|error| panic!("without any fault: {error:?}"));
    let requests = wire.proxy.requests();
    // Google's metadata go over gRPC, past the proxy: what goes wrong there is in gcs.rs.
    assert!(requests.len() >= if kind == Kind::Gcs { 7 } else { 10 }, "{requests:?}");
    let (mut cases, mut wrong) = (0, Vec::new());
    // When it was stored is metadata.
    for fault in FAULTS.into_iter().filter(|fault| kind != Kind::Gcs || *fault != WireFault::LongAgo) {
        let before = cases;
        let mut waited_for = BTreeSet::new();
        for (number, line) in requests.iter().enumerate() {
            // Each stall takes its time limit, so one of each kind of request will do.
            let stalls = matches!(fault, WireFault::StallInRequest | WireFault::StallInResponse);
            if stalls && !waited_for.insert(shape(line)) {
                continue;
            }
            wire.proxy.set(vec![WireRule::at(number as u64, fault)]);
            let outcome = wire.work().await;
            let fired = wire.proxy.fired();
            if fired.is_empty() {
                // It can't act on this kind of request.
                continue;
            }
            cases += 1;
            if !as_required(fault, line, &outcome) {
                wrong.push(format!("{fault:?} at {line}: {outcome:?}"));
            }
        }
        assert!(cases > before, "{fault:?} never fired");
    }
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[rstest]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_data_alone_fails_by_name_and_heals(#[case] kind: Kind) {
    let wire = Wire::new(kind).await;
    // Names stand in the path, or in a parameter.
    let data = if kind == Kind::Gcs { "%2Fdata%2F" } else { "/data/" };
    wire.proxy.set(vec![WireRule::during(0..u64::MAX, WireFault::InternalError).only(data)]);
    // Metadata passes, as in the advisory where only data was lost.
    let _ = wire.store.create(&key("run.json"), "x".into()).await.unwrap();
    let (step, error) = wire.work().await.unwrap_err();
    assert_eq!((step, error.kind()), (Step::Create, StoreErrorKind::Unavailable), "{error}");
    assert!(error.to_string().contains("given up after 4 attempts"), "{error}");
    assert_eq!(wire.proxy.fired().len(), 4);
    wire.proxy.heal();
    wire.work().await.unwrap_or_else(|error| panic!("after it has healed: {error:?}"));
}
