//! Prunes on stores that lag, lock and refuse, and on a real bucket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rstest::rstest;
use tempfile::TempDir;
use testbed::{PgVersion, S3Kind, shared, shared_s3};
use vouchsafe::engine::interrupt::Interrupt;
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::prune::{PruneJob, PruneRule, Pruned, consume, plan};
use vouchsafe::engine::{Destinations, EngineError, Register, back_up, backups};
use vouchsafe::source::Tools;
use vouchsafe::store::fault::{Fault, FaultStore, Operation, Rule, When};
use vouchsafe::store::{ObjectStore, StoreErrorKind};

use super::setup;

/// Old at once, to the precision of a store that tells whole seconds.
const NO_AGE: Duration = Duration::ZERO;

/// A bucket that takes longer for a few objects hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three backups in `store`.
async fn three(store: &Arc<dyn ObjectStore>, stem: &str) -> Destinations {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database(stem);
    server.psql(&database, "CREATE TABLE t AS SELECT i FROM generate_series(1, 500) i").unwrap();
    let destinations = setup::destinations(vec![("default", store.clone())]);
    for _ in 0..3 {
        back_up(&setup::job(server, &database, destinations.clone())).await.unwrap();
    }
    destinations
}

fn job(destinations: Destinations, runs: &[u32], minimum_age: Duration) -> PruneJob {
    let (interrupt, trigger) = Interrupt::new();
    drop(trigger);
    PruneJob {
        owner: "prune".into(),
        register: Register::new(destinations.default().store.clone(), setup::HEARTBEAT),
        destinations,
        rule: PruneRule {
            runs: Some(runs.iter().copied().collect::<BTreeSet<u32>>()),
            retention: None,
            zone: TimeZone::UTC,
            minimum: 1,
            owner: None,
        },
        minimum_age,
        parallelism: 2,
        tools: Tools::only(&[shared(PgVersion::V15).client_bin_dir()]),
        interrupt,
        progress: Progress::silent(),
    }
}

async fn prune(job: &PruneJob) -> Result<Pruned, EngineError> {
    consume(job, &plan(job).await?).await
}

/// Objects of `run` that hold more than its history.
async fn left(store: &Arc<dyn ObjectStore>, run: u32) -> usize {
    let listed = store.list(None, None).await.unwrap().objects;
    listed.iter().filter(|(key, _)| key.may_go_with(run)).count()
}

fn faulty(store: &Arc<dyn ObjectStore>, rule: Rule) -> (Arc<FaultStore>, Destinations) {
    let faulty = Arc::new(FaultStore::new(store.clone(), vec![rule]));
    (faulty.clone(), setup::destinations(vec![("default", faulty as Arc<dyn ObjectStore>)]))
}

#[rstest]
#[case::folder(false)]
#[case::minio(true)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_retired_is_deleted_once_it_is_old_by_the_stores_clock(#[case] in_a_bucket: bool) {
    let folder = TempDir::new().unwrap();
    let store = match in_a_bucket {
        true => setup::bucket(tokio::task::spawn_blocking(|| shared_s3(S3Kind::Minio)).await.unwrap()).await,
        false => setup::folder(&folder).await,
    };
    let destinations = three(&store, "prune_old").await;
    let young = job(destinations.clone(), &[1, 2], Duration::from_secs(3600));
    let pruned = prune(&young).await.unwrap();
    assert_eq!((pruned.run, &pruned.retired[..], pruned.deleted.size.objects), (Some(4), &[1, 2][..], 0));
    assert!(left(&store, 1).await > 0);
    let before = left(&store, 1).await + left(&store, 2).await;
    let old = job(destinations.clone(), &[], Duration::from_secs(1));
    let (mut deleted, deadline) = (0, Instant::now() + PATIENCE);
    while left(&store, 1).await + left(&store, 2).await > 0 {
        assert!(Instant::now() < deadline, "nothing was deleted within {PATIENCE:?}");
        let pruned = prune(&old).await.unwrap();
        assert_eq!((pruned.run, pruned.deleted.refused_objects), (None, 0), "{pruned:?}");
        deleted += pruned.deleted.size.objects;
    }
    assert_eq!(deleted, before as u64);
    let register = &old.register;
    assert!(matches!(
        backups::open(&destinations, register, 1).await,
        Err(EngineError::RunRetired { run: 1, prune: 4 })
    ));
    let verified =
        backups::verify(&destinations, register, None, &old.tools, 2, &old.progress).await.unwrap();
    assert_eq!((verified.run, verified.damages.len()), (3, 0));
}

/// What a list leaves out is left for the next prune, and takes nothing that stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_list_only_delays() {
    let folder = TempDir::new().unwrap();
    let store = setup::folder(&folder).await;
    let destinations = three(&store, "prune_stale").await;
    let (faulty, stale) = faulty(&store, Rule::new(When::Of(Operation::List, 0..u64::MAX), Fault::StaleList));
    let pruned = prune(&job(stale, &[1], NO_AGE)).await.unwrap();
    assert_eq!((&pruned.retired[..], pruned.deleted.size.objects), (&[1][..], 0));
    assert!(!faulty.fired().is_empty());
    assert!(left(&store, 1).await > 0);
    let pruned = prune(&job(destinations, &[1], NO_AGE)).await.unwrap();
    assert_eq!((pruned.retired.len(), left(&store, 1).await), (0, 0));
    assert!(left(&store, 2).await > 0 && left(&store, 3).await > 0);
}

/// An object under a lock, or one that the identity may not delete, is named, and all others go.
#[rstest]
#[case::locked(StoreErrorKind::Locked)]
#[case::forbidden(StoreErrorKind::Forbidden)]
#[case::changed(StoreErrorKind::Changed)]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_keeps_is_named_and_the_rest_goes(#[case] kind: StoreErrorKind) {
    let folder = TempDir::new().unwrap();
    let store = setup::folder(&folder).await;
    let destinations = three(&store, "prune_locked").await;
    let rule = Rule::new(When::Of(Operation::Delete, 0..u64::MAX), Fault::Before(kind)).only("pgcopy");
    let (_, locked) = faulty(&store, rule);
    let pruned = prune(&job(locked, &[1], NO_AGE)).await.unwrap();
    assert_eq!(pruned.deleted.refused_objects, left(&store, 1).await as u64, "{pruned:?}");
    assert!(pruned.deleted.refused_objects > 0 && pruned.deleted.size.objects > 0);
    assert!(pruned.deleted.refused.iter().all(|it| it.reason == kind.name() && it.object.contains("pgcopy")));
    // The lock has expired.
    let pruned = prune(&job(destinations, &[1], NO_AGE)).await.unwrap();
    assert_eq!((pruned.deleted.refused_objects, left(&store, 1).await), (0, 0));
}

/// The answer to the seal is lost: what lies there is what counts, and nothing is retired twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_seal_is_read_back() {
    let folder = TempDir::new().unwrap();
    let store = setup::folder(&folder).await;
    let destinations = three(&store, "prune_lost").await;
    let rule = Rule::new(When::Of(Operation::Create, 0..u64::MAX), Fault::After(StoreErrorKind::Unavailable));
    let (_, lossy) = faulty(&store, rule.only("outcome.json"));
    let pruned = prune(&job(lossy, &[1], NO_AGE)).await.unwrap();
    assert_eq!((pruned.run, &pruned.retired[..]), (Some(4), &[1][..]));
    assert_eq!(left(&store, 1).await, 0);
    let pruned = prune(&job(destinations, &[1], NO_AGE)).await.unwrap();
    assert_eq!((pruned.run, pruned.deleted.size.objects), (None, 0));
}

/// A retired.json that is not the one that the prune named: nothing of that run is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_that_was_tampered_with_deletes_nothing() {
    let folder = TempDir::new().unwrap();
    let store = setup::folder(&folder).await;
    let destinations = three(&store, "prune_tampered").await;
    prune(&job(destinations.clone(), &[1], Duration::from_secs(3600))).await.unwrap();
    let path = folder.path().join("runs/00000001/retired.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("it was named", "it was nAmed")).unwrap();
    let before = left(&store, 1).await;
    let pruned = prune(&job(destinations, &[1], NO_AGE)).await.unwrap();
    assert_eq!((pruned.deleted.refused_objects, left(&store, 1).await), (1, before), "{pruned:?}");
}
