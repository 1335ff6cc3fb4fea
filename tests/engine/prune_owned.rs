//! Deletion by owner: what one Backup's UID has claimed goes, whatever else there is, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use rstest::rstest;
use tempfile::TempDir;
use testbed::{PgVersion, S3Kind, shared, shared_s3};
use vouchsafe::engine::backups;
use vouchsafe::engine::interrupt::Interrupt;
use vouchsafe::engine::job::BackupJob;
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::prune::{BACKUP_DELETED, PruneJob, PruneRule, Pruned, delete_of_owner};
use vouchsafe::engine::register::Claimed;
use vouchsafe::engine::{Destinations, EngineError, Register, back_up};
use vouchsafe::format::{Decision, Key, PlanId, RunKind, Sha256Digest};
use vouchsafe::source::Tools;
use vouchsafe::store::ObjectStore;

use super::setup;

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";

/// Runs of these owners, one after the other.
async fn with_runs(store: &Arc<dyn ObjectStore>, stem: &str, owners: &[&str]) -> Destinations {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database(stem);
    server.psql(&database, "CREATE TABLE t AS SELECT i FROM generate_series(1, 500) i").unwrap();
    let destinations = setup::destinations(vec![("default", store.clone())]);
    for owner in owners {
        let job = setup::job(server, &database, destinations.clone());
        back_up(&BackupJob { owner: (*owner).to_owned(), ..job }).await.unwrap();
    }
    destinations
}

fn job(destinations: &Destinations, owner: &str) -> PruneJob {
    let (interrupt, trigger) = Interrupt::new();
    drop(trigger);
    PruneJob {
        owner: format!("delete {owner}"),
        register: Register::new(destinations.default().store.clone(), setup::HEARTBEAT),
        destinations: destinations.clone(),
        rule: PruneRule {
            runs: None,
            retention: None,
            zone: TimeZone::UTC,
            minimum: 1,
            owner: Some(owner.to_owned()),
        },
        minimum_age: Duration::ZERO,
        parallelism: 2,
        tools: Tools::only(&[shared(PgVersion::V15).client_bin_dir()]),
        interrupt,
        progress: Progress::silent(),
    }
}

async fn delete(destinations: &Destinations, owner: &str) -> Result<Pruned, EngineError> {
    delete_of_owner(&job(destinations, owner)).await
}

/// Objects of `run` that hold more than its history.
async fn left(store: &Arc<dyn ObjectStore>, run: u32) -> u64 {
    let listed = store.list(None, None).await.unwrap().objects;
    listed.iter().filter(|(key, _)| key.may_go_with(run)).count() as u64
}

async fn decision(destinations: &Destinations, run: u32) -> Decision {
    job(destinations, ONE).register.outcome(run).await.unwrap().unwrap().outcome.decision
}

#[rstest]
#[case::folder(false)]
#[case::minio(true)]
#[tokio::test(flavor = "multi_thread")]
async fn its_own_runs_go_at_once_and_the_last_backup_too(#[case] in_a_bucket: bool) {
    let folder = TempDir::new().unwrap();
    let store = match in_a_bucket {
        true => setup::bucket(tokio::task::spawn_blocking(|| shared_s3(S3Kind::Minio)).await.unwrap()).await,
        false => setup::folder(&folder).await,
    };
    let destinations = with_runs(&store, "owned", &[ONE, OTHER, ONE]).await;
    // Nobody's, so nothing.
    let nothing = delete(&destinations, "33333333-3333-4333-8333-333333333333").await.unwrap();
    assert_eq!((nothing.run, nothing.deleted.size.objects), (None, 0));
    let (own, others) = (left(&store, 1).await + left(&store, 3).await, left(&store, 2).await);
    let done = delete(&destinations, ONE).await.unwrap();
    assert_eq!((done.run, &done.retired[..], done.deleted.size.objects), (Some(4), &[1, 3][..], own));
    assert_eq!((left(&store, 1).await, left(&store, 3).await, left(&store, 2).await), (0, 0, others));
    assert!(matches!(decision(&destinations, 4).await, Decision::Pruned { survivor: None, .. }));
    // The other's is what it was, to the last row.
    let by = job(&destinations, OTHER);
    let verified =
        backups::verify(&destinations, &by.register, None, &by.tools, 2, &by.progress).await.unwrap();
    assert_eq!((verified.run, verified.damages.len()), (2, 0));
    // Again, as after a word that was lost: there is nothing left to do.
    let again = delete(&destinations, ONE).await.unwrap();
    assert_eq!((again.run, again.deleted.size.objects, again.deleted.waiting.len()), (None, 0, 0));
    // No floor: the last backup there is goes by its user's word, and the collection goes on.
    let last = delete(&destinations, OTHER).await.unwrap();
    assert_eq!((last.run, &last.retired[..], left(&store, 2).await), (Some(5), &[2][..], 0));
    let newest = backups::verify(&destinations, &by.register, None, &by.tools, 2, &by.progress).await;
    assert!(matches!(newest, Err(EngineError::NoBackup(_))), "{newest:?}");
}

/// What a run left that was open when its Backup was deleted goes with it; an open run of another is in the way, and
/// nothing of it is touched.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_run_is_voided_if_it_is_its_own_and_waited_for_if_not() {
    let folder = TempDir::new().unwrap();
    let store = setup::folder(&folder).await;
    let destinations = with_runs(&store, "owned_open", &[OTHER]).await;
    let register = job(&destinations, ONE).register;
    let collection = std::fs::read(folder.path().join("collection.json")).unwrap();
    let plan = PlanId::from_random(7);
    let claimed = register.claim(ONE, RunKind::Backup, Sha256Digest::of(&collection), plan).await.unwrap();
    assert!(matches!(claimed, Claimed::New(ref turn) if turn.run == 2));
    let key = Key::data(2, &plan, 1, 1, &vouchsafe::format::Nonce::from_random(9));
    let _created = store.create(&key, b"a piece of it".as_slice().into()).await.unwrap();
    let before = left(&store, 1).await;
    // This very process is at it, as far as anybody can see.
    let refused = delete(&destinations, OTHER).await;
    assert!(matches!(refused, Err(EngineError::Busy { run: 2, .. })), "{refused:?}");
    assert_eq!((left(&store, 1).await, left(&store, 2).await), (before, 1));
    let done = delete(&destinations, ONE).await.unwrap();
    assert_eq!((done.run, done.deleted.size.objects, left(&store, 2).await), (None, 1, 0));
    match decision(&destinations, 2).await {
        Decision::Void { reason, .. } => assert_eq!(reason, BACKUP_DELETED),
        other => panic!("{other:?}"),
    }
    assert_eq!(left(&store, 1).await, before);
    assert_eq!(delete(&destinations, OTHER).await.unwrap().retired, [1]);
}
