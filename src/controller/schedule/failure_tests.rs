//! What follows a run that failed.

use super::*;

#[test]
fn a_failed_run_is_tried_again_with_growing_pauses_and_not_for_ever() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T10:00:00Z");
    let mut starts = Vec::new();
    for attempt in 1..=ATTEMPTS {
        let name = world.made.last().unwrap().clone();
        starts.push(world.now.strftime("%M").to_string());
        world.fails(&name);
        assert_eq!(world.status().consecutive_failures, Some(attempt));
        if let Some(next) = world.status().next_schedule_time.clone() {
            world.to(&next);
        }
    }
    assert_eq!(starts, ["00", "01", "03", "07", "15", "31"]);
    assert_eq!(world.made[1], "orders-20261122-1000-2");
    assert_eq!(*world.made.last().unwrap(), "orders-20261122-1100", "the sixth is the last for one tick");
    assert_eq!(world.status().missed, None);
}

#[test]
fn a_retry_that_would_come_after_the_next_run_is_none_and_a_proof_ends_them() {
    let mut world = World::new(&json!({"schedule": "*/5 * * * *"}));
    world.to("2026-11-22T09:39:30Z").fails("orders-20261122-0935").to("2026-11-22T09:40:00Z");
    assert_eq!(world.made, ["orders-20261122-0935", "orders-20261122-0940"]);

    let mut proven = World::new(&json!({}));
    proven.to("2026-11-22T10:00:00Z").fails("orders-20261122-1000");
    // Somebody has made one by hand meanwhile.
    let mut by_hand = proven.observed.backups[0].clone();
    (by_hand.name, by_hand.uid) = ("by-hand".into(), "u-9".into());
    proven.observed.backups.push(by_hand);
    proven.now = at("2026-11-22T10:00:30Z");
    proven.seals("by-hand").to("2026-11-22T10:59:59Z");
    assert_eq!((proven.made.len(), proven.status().consecutive_failures), (1, Some(0)));
}

#[test]
fn reschedule_leaves_it_to_the_next_tick() {
    let mut world = World::new(&json!({"onFailure": "Reschedule"}));
    world.to("2026-11-22T10:00:00Z").fails("orders-20261122-1000").to("2026-11-22T11:00:00Z");
    assert_eq!(world.made, ["orders-20261122-1000", "orders-20261122-1100"]);
}

#[rstest]
#[case::by_a_change_of_the_spec(true)]
#[case::by_removing_it_from_the_status(false)]
fn suspend_on_failure_is_kept_in_status_until_somebody_lifts_it(#[case] by_spec: bool) {
    let mut world = World::new(&json!({"onFailure": "Suspend"}));
    world.to("2026-11-22T10:00:00Z").fails("orders-20261122-1000").to("2026-11-23T09:10:00Z");
    let because = world.status().suspended_because.as_ref().unwrap();
    assert_eq!(because.reason, "RunFailed");
    assert!(because.message.contains("orders-20261122-1000") && because.message.contains("Unreachable"));
    assert!(world.holds("Stalled") && !world.holds("Ready"));
    assert_eq!(world.schedule.spec.suspend, None, "the spec is the user's");
    match by_spec {
        true => world.change(|schedule| schedule.spec.starting_deadline = Some("20m".into())),
        false => {
            world.schedule.status.as_mut().unwrap().suspended_because = None;
            world.to("2026-11-23T09:10:01Z")
        }
    };
    assert!(world.holds("Ready"));
    world.to("2026-11-23T10:00:00Z");
    assert_eq!(world.made[1..], ["orders-20261123-1000"], "nothing is caught up");
    assert_eq!(world.status().missed, None, "and nothing was missed");
}

#[test]
fn only_resources_of_failed_runs_go_and_never_data() {
    let mut world = World::new(&json!({"failedHistoryLimit": 0}));
    world.to("2026-11-22T10:00:00Z");
    let one = world.observed.backups[0].clone();
    let failed = |reason: &str| BackupState::Failed {
        at: Some(world.now),
        failure: Some(Failure { reason: reason.into(), message: "m".into(), hint: "h".into() }),
    };
    let other = |name: &str, state: BackupState| ObservedBackup {
        name: name.into(),
        uid: name.into(),
        state,
        ..one.clone()
    };
    let with_data = ObservedBackup { deletes_data: true, ..other("with-data", failed("Unreachable")) };
    world.observed.backups = vec![
        other("history", failed("HistoryLost")),
        other("canceled", BackupState::Canceled { at: None }),
        other("newer", BackupState::Unreadable),
        other("failed", failed("Unreachable")),
        with_data,
    ];
    world.settle();
    assert_eq!(world.deleted, ["failed"]);
}

#[test]
fn a_backup_that_somebody_deletes_is_no_failure() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T10:05:00Z");
    world.observed.backups.clear();
    world.to("2026-11-22T10:30:00Z");
    assert_eq!((world.last_state(), world.made.len()), (State::Canceled, 1));
    assert_eq!(world.status().consecutive_failures, None);
}

/// One whose data goes with it is no run that others wait for, and proves nothing, however long that takes.
#[test]
fn a_backup_that_leaves_with_its_data_counts_no_more() {
    let of = |phase: &str, policy: &str, leaves: bool| {
        let mut value = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "first", "namespace": "shop", "uid": "u-1", "creationTimestamp": "2026-11-22T09:00:00Z"},
            "spec": {"storeRef": {"name": "orders"}, "deletionPolicy": policy,
                     "source": {"postgres": {"database": "shop", "endpoints": []}}},
            "status": {"phase": phase, "run": {"number": 3}, "proof": {"sealedAt": "2026-11-22T09:30:00Z"}},
        });
        if leaves {
            value["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:00Z");
        }
        ObservedBackup::of(&serde_json::from_value(value).unwrap()).state
    };
    for (policy, leaves) in [("Delete", false), ("Retain", true), ("Retain", false)] {
        assert_eq!(of("Exporting", policy, leaves), BackupState::Active);
        assert!(matches!(of("Succeeded", policy, leaves), BackupState::Sealed(_)));
    }
    let since = "2026-11-22T10:00:00Z".parse().unwrap();
    assert_eq!(of("Exporting", "Delete", true), BackupState::Canceled { at: Some(since) });
    assert_eq!(of("Succeeded", "Delete", true), BackupState::Unreadable);
    assert!(matches!(of("Failed", "Delete", true), BackupState::Failed { .. }));
}
