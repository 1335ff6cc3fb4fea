//! What a plan says of Backups as an API server has them.

use serde_json::{Value, json};

use super::*;

fn schedule(spec: Value, status: Value) -> BackupSchedule {
    let mut full = json!({"schedule": "@daily", "fullSchedule": "Always", "template": {"spec": {
        "storeRef": {"name": "disk"}, "collection": "shop",
        "source": {"postgres": {"database": "shop", "endpoints": [
            {"name": "db", "host": "db", "credentialsSecret": {"name": "login"}}]}}}}});
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "shop", "namespace": "n", "uid": "u-1", "generation": 1,
                     "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": full, "status": status,
    }))
    .unwrap()
}

/// The Backup of a day of November, sealed on it as run `day`, in `collection`.
fn backup(day: i64, uid: &str, collection: &str) -> Backup {
    let sealed = format!("2026-11-{day:02}T01:00:00Z");
    serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": format!("shop-{day}"), "namespace": "n", "uid": format!("b-{day}"),
                     "creationTimestamp": sealed, "annotations": {"vouchsafe.dev/schedule-uid": uid}},
        "spec": {"storeRef": {"name": "disk"}, "collection": collection,
                 "source": {"postgres": {"database": "shop", "endpoints": []}}},
        "status": {"observedGeneration": 1, "phase": "Succeeded", "run": {"number": day, "attempt": 1},
                   "proof": {"sealedAt": sealed}},
    }))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-11-22T09:00:00Z".parse().unwrap()
}

fn names(runs: &[PlannedRun]) -> Vec<&str> {
    runs.iter().map(|run| &*run.backup).collect()
}

#[test]
fn what_goes_and_what_stays_is_what_the_controller_would_say() {
    let of_schedule = schedule(json!({"retention": {"keepLast": 1, "keepWeekly": 2}}), json!({}));
    let mut backups: Vec<Backup> = [12, 13, 19, 20, 21].map(|day| backup(day, "u-1", "shop")).into();
    backups.push(backup(14, "u-of-another", "shop"));
    backups.push(backup(15, "u-1", "before"));
    let plan = plan_of(&of_schedule, &backups, now()).unwrap();
    // The 15th is a Sunday: two weeks have one.
    assert_eq!(names(&plan.goes), ["shop-12", "shop-19", "shop-20"]);
    let stays: Vec<(&str, &str)> = plan.stays.iter().map(|it| (&*it.run.backup, &*it.why)).collect();
    let other = "it is in another store or collection than the schedule's";
    assert_eq!(
        stays,
        [("shop-13", "keepWeekly"), ("shop-15", other), ("shop-21", "keepLast, keepWeekly, minimum")]
    );
    assert_eq!((plan.held, plan.waits, plan.leftovers), (None, None, false));
    // The same Backups, as the status of a schedule has them.
    let status = super::super::decide::decide(&of_schedule, &seen(&backups), now()).status;
    assert_eq!(status.next_prune, names(&plan.goes));
}

fn seen(backups: &[Backup]) -> Observed {
    let own = backups.iter().filter(|backup| is_of(*backup, "u-1")).map(ObservedBackup::of).collect();
    Observed { backups: own, ..Observed::default() }
}

#[test]
fn a_plan_says_why_nothing_is_pruned() {
    let backups: Vec<Backup> = [12, 13].map(|day| backup(day, "u-1", "shop")).into();
    let held = |spec, status| plan_of(&schedule(spec, status), &backups, now()).unwrap().held.unwrap();
    assert!(held(json!({}), json!({})).message.contains("has no retention"));
    let suspended = held(json!({"retention": {"keepLast": 1}, "suspend": true}), json!({}));
    assert!(suspended.message.contains("is suspended") && suspended.hint.contains("resume schedule/shop"));
    let because = json!({"reason": "RunFailed", "message": "m", "hint": "mend it"});
    let stopped = held(
        json!({"retention": {"keepLast": 1}}),
        json!({"observedGeneration": 1, "suspendedBecause": because}),
    );
    assert!(stopped.message.contains("since a run failed") && stopped.hint == "mend it", "{stopped:?}");
    assert_eq!(stopped.reason, "PruneHeld");
    let refused = plan_of(&schedule(json!({"schedule": "61 * * * *"}), json!({})), &backups, now());
    assert_eq!(refused.unwrap_err().reason, "CronMalformed");
}

#[test]
fn what_goes_on_and_what_is_left_is_told() {
    let keeping = json!({"retention": {"keepLast": 1}});
    let mut backups: Vec<Backup> = [12, 13].map(|day| backup(day, "u-1", "shop")).into();
    let last = json!({"time": "2026-11-21T00:00:00Z", "waiting": 2});
    let plan = plan_of(&schedule(keeping.clone(), json!({"lastPrune": last})), &backups, now()).unwrap();
    assert!(plan.leftovers && plan.waits.is_none());
    let removed = json!({"time": "2026-11-21T00:00:00Z", "removed": ["shop-12"]});
    let plan = plan_of(&schedule(keeping.clone(), json!({"lastPrune": removed})), &backups, now()).unwrap();
    assert_eq!((plan.goes.len(), plan.stays.len()), (0, 1), "it is retired");
    backups[1].status = None;
    let plan = plan_of(&schedule(keeping, json!({})), &backups, now()).unwrap();
    assert_eq!(plan.waits.as_deref(), Some("for shop-13 to end"));
}
