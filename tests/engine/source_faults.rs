//! Sessions of a backup that its server ends: what can be gone on with is, and the error ledger says so.

use rustix::process::{Pid, Signal, kill_process};

use super::shop::{Shop, end};
use super::zombie::stopped_at;

/// Ends a backup's sessions of one kind in the middle of its export; it must end proven, after an error of
/// `operation` by one of `kinds`, with so many plans.
async fn survives(session: &str, operation: &str, kinds: &[&str], plans: usize) {
    let shop = Shop::open(&format!("ended_{session}"));
    let backup = stopped_at("created receipt", shop.backup());
    let ended = shop.sql(&format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'vouchsafe {session}'"
    ));
    assert_ne!(ended, "0", "no session was there to be ended");
    kill_process(Pid::from_raw(i32::try_from(backup.id()).unwrap()).unwrap(), Signal::CONT).unwrap();
    let ended = end(backup);
    ended.must_succeed();
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let noted: Vec<(String, String)> = (report["errors"].as_array().unwrap().iter())
        .map(|error| (error["operation"].as_str().unwrap().into(), error["kind"].as_str().unwrap().into()))
        .collect();
    let named = noted.iter().any(|(of, kind)| of == operation && kinds.contains(&kind.as_str()));
    assert!(named, "{operation} of {kinds:?} is not in {noted:?}");
    assert_eq!(shop.plans(1).len(), plans, "{noted:?}");
    shop.must_be_proven(1).await;
    shop.must_restore(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_are_ended_are_started_again_within_the_plan() {
    survives("reader", "worker", &["ConnectionLost"], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_ended_makes_a_new_plan() {
    survives("snapshot", "plan", &["ConnectionLost", "SnapshotLost"], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_are_ended_make_a_new_plan() {
    survives("locks", "plan", &["ConnectionLost"], 2).await;
}
