//! What is told, and what is not told again.

use serde_json::{Value, json};

use super::*;

fn status(value: &Value) -> BackupStatus {
    serde_json::from_value(value.clone()).unwrap()
}

fn told(old: &Value, new: &Value) -> Vec<Told> {
    let (old, new) = (status(old), status(new));
    of(&Transition::between(&old, &new), &old, &new)
}

fn process(attempt: i64, failure: bool) -> Value {
    let mut process = json!({"name": "worker-eu", "job": format!("job-{attempt}"), "order": "p", "attempt": attempt, "state": "Waiting"});
    if failure {
        process["failure"] = json!({"reason": "ProcessFailed", "message": "it left no word", "hint": "look"});
    }
    process
}

fn failure(reason: &str, message: &str) -> Value {
    json!({"reason": reason, "message": message, "hint": "do this"})
}

#[test]
fn a_whole_run_is_told_in_order_and_no_step_twice() {
    let steps = [
        json!({}),
        json!({"phase": "Pending", "failure": failure("StoreNotFound", "no such store")}),
        json!({"phase": "Pending", "processes": [process(1, false)]}),
        json!({"phase": "Exporting", "processes": [process(1, true)]}),
        json!({"phase": "Exporting", "processes": [process(2, false)]}),
        json!({"phase": "Verifying", "processes": [process(2, false)]}),
        json!({"phase": "Succeeded", "processes": [process(2, false)],
               "proof": {"objectsRead": 7, "rowsCounted": 42, "bytesRead": 1}}),
    ];
    let mut all = Vec::new();
    for pair in steps.windows(2) {
        all.extend(told(&pair[0], &pair[1]).into_iter().map(|it| (it.reason, it.note, it.job)));
        assert_eq!(told(&pair[1], &pair[1]), [], "a status that says the same tells nothing");
    }
    let job = |attempt: u32| Some(format!("job-{attempt}"));
    assert_eq!(
        all,
        [
            ("Waiting", "StoreNotFound: no such store; do this".to_owned(), None),
            ("Started", "its coordinator is started".to_owned(), job(1)),
            ("Restarted", "attempt 2 of worker-eu: ProcessFailed: it left no word; look".to_owned(), job(2)),
            ("Succeeded", "proven: 7 objects read back, 42 rows".to_owned(), None),
        ]
    );
}

#[test]
fn a_failure_is_told_with_what_to_do_and_on_the_schedule_too() {
    let waits = json!({"phase": "Pending", "failure": failure("Unschedulable", "no node of region=eu")});
    let [waiting] = &told(&json!({"phase": "Pending"}), &waits)[..] else { panic!() };
    assert!(waiting.warning && !waiting.on_schedule && waiting.note.contains("no node of region=eu"));
    // The same wait in other words: the scheduler counts its nodes anew.
    let later = json!({"phase": "Pending", "failure": failure("Unschedulable", "0/4 nodes")});
    assert_eq!(told(&waits, &later), []);
    let over = json!({"phase": "Failed", "failure": failure("DeadlineExceeded", "in time")});
    let [failed] = &told(&later, &over)[..] else { panic!() };
    assert!(failed.warning && failed.on_schedule);
    assert_eq!((failed.reason, failed.note.as_str()), ("Failed", "DeadlineExceeded: in time; do this"));
    let canceled = json!({"phase": "Canceled", "failure": failure("Canceled", "by a person")});
    let [canceled] = &told(&later, &canceled)[..] else { panic!() };
    assert!(!canceled.warning && !canceled.on_schedule);
}

#[test]
fn many_restarts_and_long_words_are_bounded() {
    let all = |attempt: i64| -> Value {
        let one = |number: i64| {
            json!({"name": format!("worker-{number}"), "job": "j", "order": "p", "attempt": attempt,
                   "state": "Waiting", "failure": failure("X", &"ä".repeat(2_000))})
        };
        json!({"phase": "Exporting", "processes": (0..32).map(one).collect::<Vec<_>>()})
    };
    let told = told(&all(1), &all(2));
    assert_eq!(told.len(), MOST);
    assert!(told.iter().all(|it| it.note.len() <= NOTE_BYTES && it.note.ends_with('…')), "{told:?}");
}

#[test]
fn a_prune_is_told_once_and_one_that_did_nothing_is_not() {
    let last = |time: &str, retired: i64, failed: bool| LastPrune {
        time: time.into(),
        retired,
        failure: failed.then(|| serde_json::from_value(failure("SurvivorDamaged", "m")).unwrap()),
        ..LastPrune::default()
    };
    let one = last("2026-11-22T10:00:00Z", 2, false);
    let told = of_prune(None, Some(&one)).unwrap();
    assert_eq!((told.warning, told.reason), (false, "Pruned"));
    assert!(of_prune(Some(&one), Some(&one)).is_none() && of_prune(Some(&one), None).is_none());
    assert!(of_prune(Some(&one), Some(&last("2026-11-23T10:00:00Z", 0, false))).is_none());
    let failed = of_prune(Some(&one), Some(&last("2026-11-23T10:00:00Z", 0, true))).unwrap();
    assert!(failed.warning && failed.note.starts_with("SurvivorDamaged: m; do this"), "{failed:?}");
}

#[test]
fn a_deletion_is_told_once_for_each_reason_and_says_what_is_left() {
    let with = |reason: &str| {
        let condition = serde_json::json!([{"type": "Deleting", "status": "True", "reason": reason, "message": "m",
                                            "lastTransitionTime": "2026-11-22T10:00:00Z"}]);
        BackupStatus { conditions: serde_json::from_value(condition).unwrap(), ..BackupStatus::default() }
    };
    let words = |before: &BackupStatus, now: &BackupStatus| {
        of_deletion(before, now).map(|it| (it.warning, it.reason))
    };
    let (none, waits, goes) = (BackupStatus::default(), with("StoreNotFound"), with("DeletingData"));
    assert_eq!(words(&none, &waits), Some((true, "DeletionWaits")));
    assert_eq!(words(&waits, &waits), None);
    assert_eq!(words(&waits, &goes), Some((false, "DeletingData")));
    assert_eq!(words(&goes, &with("Unavailable")), Some((true, "DeletionWaits")));
    let end = |why| (of_end(why).warning, of_end(why).reason);
    assert_eq!(end(LetGo::Retained), (false, "DataKept"));
    assert_eq!(end(LetGo::NamespaceEnds), (true, "DataKept"));
    assert_eq!(end(LetGo::Deleted { objects: 1, bytes: 1, locked: 0 }), (false, "DataDeleted"));
    assert_eq!(end(LetGo::Deleted { objects: 1, bytes: 1, locked: 2 }), (true, "DataKept"));
}
