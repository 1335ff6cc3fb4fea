//! A register that has lost a document at rest: a run must not be hidden by it, nor silently passed over.

use rstest::rstest;
use serde_json::Value;

use super::kill::killed_at;
use super::shop::{Ended, Shop, run};

/// Two runs, the second with a row more.
fn two_runs(stem: &str) -> Shop {
    let shop = Shop::open(stem);
    run(shop.backup()).must_succeed();
    shop.sql("INSERT INTO events VALUES (301, 'later')");
    run(shop.backup()).must_succeed();
    shop
}

fn lose(shop: &Shop, key: &str) {
    std::fs::remove_file(shop.here.path().join(key)).unwrap();
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// Outcome and reason of each run.
fn listed(shop: &Shop) -> Vec<(String, String)> {
    let ended = run(shop.list());
    ended.must_succeed();
    let document = json(&ended);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let runs = document["runs"].as_array().unwrap();
    runs.iter().map(|run| (text(&run["outcome"]), text(&run["reason"]))).collect()
}

#[track_caller]
fn is_missing(ended: &Ended, key: &str) {
    assert_eq!((ended.code, &*ended.reason()), (Some(3), "ObjectMissing"), "{ended:?}");
    let message = json(ended)["failure"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(key), "{message}");
}

#[track_caller]
fn is_damaged(ended: &Ended, key: &str) {
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(json(ended)["damages"][0]["object"], key, "{ended:?}");
}

/// A lost outcome of the newest run looks as that of a run which is under way: the older one is taken, and it is
/// said. The same command finds the run proven, and seals it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_newest_run_without_an_outcome_is_said() {
    let shop = two_runs("gaps_newest");
    lose(&shop, "runs/00000002/outcome.json");
    for ended in [run(shop.verify()), run(shop.restore("gaps_newest_restored"))] {
        ended.must_succeed();
        let document = json(&ended);
        assert_eq!((&document["run"], &document["newerUndecided"]), (&1.into(), &2.into()), "{ended:?}");
        assert!(ended.stderr.contains("run 2 is newer and not decided"), "{ended:?}");
    }
    assert_eq!(listed(&shop)[1].0, "Open");
    run(shop.backup()).must_succeed();
    assert_eq!(shop.newest().await, 2);
    let ended = run(shop.verify());
    ended.must_succeed();
    assert_eq!(json(&ended)["newerUndecided"], Value::Null);
    assert_eq!(ended.stderr, "");
}

/// An open run whose own documents are damaged lets nobody pass, until it is voided: by force, where it can't be told
/// who is at it.
#[rstest]
#[case::claim("run.json", &["--run", "1"])]
#[case::attempt("attempts/000001.json", &["--run", "1", "--force"])]
#[tokio::test(flavor = "multi_thread")]
async fn an_open_run_whose_documents_are_damaged_can_be_voided(#[case] name: &str, #[case] unlock: &[&str]) {
    let shop = Shop::open("gaps_open");
    let mut killed = shop.backup();
    killed.env("VOUCHSAFE_KILL_AT", "created plan");
    assert_eq!(run(killed).signal, Some(9));
    let path = shop.here.path().join("runs/00000001").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ended = run(shop.backup());
    assert_eq!((ended.code, &*ended.reason()), (Some(3), "DocumentDamaged"), "{ended:?}");
    run(shop.unlock(unlock)).must_succeed();
    run(shop.backup()).must_succeed();
    assert_eq!(shop.newest().await, 2);
    shop.must_be_proven(2).await;
}

/// A number is claimed when the run before it is decided, so here it is known what is lost.
#[test]
fn an_outcome_that_a_later_run_shows_to_be_lost_is_named() {
    let shop = two_runs("gaps_older");
    let key = "runs/00000002/outcome.json";
    // The third run holds no backup.
    let ended = run(shop.backup_as("SkipATicket"));
    assert_ne!(ended.code, Some(0), "{ended:?}");
    lose(&shop, key);
    is_damaged(&run(shop.verify()), key);
    is_missing(&run(shop.restore("gaps_older_restored")), key);
    is_missing(&run(shop.unlock(&["--run", "2"])), key);
    let runs = listed(&shop);
    assert_eq!((&*runs[0].0, &*runs[1].0, &*runs[2].0), ("Sealed", "Damaged", "Void"), "{runs:?}");
    assert!(runs[1].1.contains(key), "{runs:?}");
    // Chosen by its number, the older one is restored.
    let mut older = shop.restore("gaps_older_restored");
    older.args(["--run", "1"]);
    run(older).must_succeed();
    run(shop.backup()).must_succeed();
    run(shop.verify()).must_succeed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_lost_its_claim_keeps_its_number() {
    let shop = two_runs("gaps_claim");
    let key = "runs/00000002/run.json";
    lose(&shop, key);
    is_damaged(&run(shop.verify()), key);
    is_missing(&run(shop.restore("gaps_claim_restored")), key);
    let runs = listed(&shop);
    assert_eq!(runs[1].0, "Damaged", "{runs:?}");
    assert!(runs[1].1.contains(key), "{runs:?}");
    // The next number, and bound to the outcome that is there.
    run(shop.backup()).must_succeed();
    assert_eq!(shop.newest().await, 3);
    shop.must_be_proven(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_lost_its_claim_and_outcome_is_named_until_it_is_voided() {
    let shop = two_runs("gaps_both");
    let key = "runs/00000002/run.json";
    lose(&shop, key);
    lose(&shop, "runs/00000002/outcome.json");
    is_damaged(&run(shop.verify()), key);
    is_missing(&run(shop.restore("gaps_both_restored")), key);
    is_missing(&run(shop.backup()), key);
    let runs = listed(&shop);
    assert_eq!((runs.len(), &*runs[1].0), (2, "Damaged"), "{runs:?}");
    run(shop.unlock(&["--run", "2"])).must_succeed();
    run(shop.backup()).must_succeed();
    assert_eq!(shop.newest().await, 3);
    shop.must_be_proven(3).await;
}

/// A folder in the way, or a cache before the store: one request says that the claim is there, the other that it
/// isn't. A claim that looked for ever heard no signal, either.
#[test]
fn a_store_that_contradicts_itself_about_a_claim_is_named() {
    let shop = Shop::open("contradicting");
    std::fs::create_dir_all(shop.here.path().join("runs/00000001/run.json")).unwrap();
    let ended = run(shop.backup());
    assert_eq!((ended.code, &*ended.reason()), (Some(3), "ObjectMissing"), "{ended:?}");
    assert!(
        ended.stdout.contains("runs/00000001/run.json") && ended.stdout.contains("does not find it"),
        "{ended:?}"
    );
}

/// Three heartbeats of watching, which may be half an hour, are not sat out against a deadline or a signal.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_for_another_attempt_can_be_stopped() {
    let shop = Shop::open("watching");
    let mut elsewhere = shop.backup();
    elsewhere.env("VOUCHSAFE_PROCESS_SPACE", "elsewhere");
    killed_at("exported everything", elsewhere);
    let mut patient = shop.backup();
    patient.args(["--deadline", "2s"]);
    let ended = run(patient);
    assert_eq!((ended.code, &*ended.reason()), (Some(1), "DeadlineExceeded"), "{ended:?}");
    assert_eq!(shop.newest().await, 1);
    assert!(shop.decision(1).await.is_none(), "the other's run is left as it was");
    run(shop.backup()).must_succeed();
}
