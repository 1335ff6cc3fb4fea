//! What comes next of Backups that do not go on.

use serde_json::json;

use super::super::queue::ahead;
use super::tests::{World, at, backup, failure, sealed};
use super::*;
use crate::api::marks::SCHEDULED_AT;
use crate::controller::begun::BEGUN_AS;

/// A run that was suspended goes on with another attempt of each process, and never with what the earlier one has
/// published.
#[test]
fn a_suspended_run_has_no_pods_and_goes_on_with_new_attempts() {
    let mut world = World::new(&json!({}));
    world.export();
    world.runs("worker-eu");
    world.backup.spec.suspend = Some(true);
    let plan = world.step();
    assert_eq!((plan.stop.len(), plan.start.len()), (3, 0), "{plan}");
    assert!(world.holds("Suspended") && world.holds("Reconciling"));
    assert!(world.step().start.is_empty() && world.observed.jobs.is_empty());
    world.backup.spec.suspend = Some(false);
    let started = world.step().start;
    assert_eq!(
        started.iter().map(|it| (it.process.to_string(), it.attempt)).collect::<Vec<_>>(),
        [("coordinator".to_owned(), 2)]
    );
    assert!(!world.holds("Suspended"));
    assert!(world.step().start.is_empty(), "workers wait for what the new coordinator publishes");
    world.runs("coordinator");
    world.publish("Exporting", false);
    assert_eq!(world.step().start.iter().map(|it| it.attempt).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_suspended_run_that_had_sealed_succeeds() {
    let mut world = World::new(&json!({}));
    world.export();
    world.ask();
    world.answer("eu");
    world.answer("us");
    world.backup.spec.suspend = Some(true);
    world.ends("coordinator", Some(sealed(&["eu", "us"])));
    world.step();
    assert_eq!(world.phase(), BackupPhase::Succeeded);
}

#[test]
fn what_is_canceled_before_it_began_claims_no_run() {
    let mut fresh = World::new(&json!({"cancel": true}));
    fresh.observed.store = None;
    assert!(fresh.step().start.is_empty());
    assert_eq!((fresh.phase(), fresh.reason()), (BackupPhase::Canceled, "Canceled".into()));

    let mut hindered = World::new(&json!({}));
    hindered.step();
    hindered.backup.spec.cancel = Some(true);
    hindered.step();
    assert_eq!(
        hindered.phase(),
        BackupPhase::Pending,
        "its coordinator may start any moment, and will see it"
    );
    hindered.job("coordinator").state = JobState::Waiting(Some(failure("Unschedulable")));
    assert_eq!(hindered.step().stop.len(), 1);
    assert_eq!(hindered.phase(), BackupPhase::Pending, "not before its pod is gone");
    hindered.step();
    assert_eq!(hindered.phase(), BackupPhase::Canceled);
}

/// Whoever claimed a run has to void it, however long that takes.
#[test]
fn a_run_that_was_begun_is_canceled_by_a_coordinator_only() {
    let mut world = World::new(&json!({}));
    world.export();
    world.backup.spec.cancel = Some(true);
    world.backup.spec.suspend = Some(true);
    world.ends("coordinator", None);
    world.seconds += 100;
    let plan = world.step();
    assert_eq!(plan.start.iter().map(|it| it.process.to_string()).collect::<Vec<_>>(), ["coordinator"]);
    assert_eq!(world.phase(), BackupPhase::Exporting);
}

#[test]
fn history_is_not_run_again() {
    for (annotation, value) in [(BEGUN_AS, "u-0".to_owned()), (SCHEDULED_AT, at(-3601).to_string())] {
        let mut world = World::new(&json!({}));
        let annotations = world.backup.metadata.annotations.get_or_insert_default();
        annotations.insert(annotation.into(), value);
        assert!(world.step().start.is_empty(), "{annotation}");
        assert_eq!((world.phase(), world.reason()), (BackupPhase::Pending, "HistoryLost".into()));
        assert!(world.holds("Stalled") && !world.holds("Reconciling") && !world.holds("Failed"));
        assert!(world.step().start.is_empty(), "{annotation}: nor later");
    }
    // Its Jobs are long gone, and somebody wiped its status; what its pods were given is still there.
    let mut wiped = World::new(&json!({}));
    wiped.export();
    wiped.backup.metadata.annotations.get_or_insert_default().insert(BEGUN_AS.into(), "u-1".into());
    wiped.backup.status = None;
    wiped.observed.jobs.clear();
    assert!(wiped.observed.frozen.is_some() && wiped.step().start.is_empty());
    assert_eq!(wiped.reason(), "HistoryLost");
    let mut due = World::new(&json!({}));
    let annotations = due.backup.metadata.annotations.get_or_insert_default();
    annotations.insert(SCHEDULED_AT.into(), at(-60).to_string());
    assert_eq!(due.step().start.len(), 1);
}

#[test]
fn a_store_at_its_limit_makes_a_backup_wait_with_its_place() {
    let mut world = World::new(&json!({"deadline": "1h"}));
    world.observed.ahead = 5;
    let plan = world.step();
    assert!(plan.start.is_empty() && plan.to_string().contains("number 2"), "{plan}");
    assert!(world.holds("Queued"));
    assert!(plan.again_after.is_some());
    world.observed.ahead = 3;
    assert_eq!(world.step().start.len(), 1);
    assert!(!world.holds("Queued"));
    world.observed.ahead = 9;
    world.step();
    assert!(!world.holds("Queued"), "who has begun keeps the turn");

    let mut late = World::new(&json!({"deadline": "1h"}));
    late.observed.ahead = 5;
    late.step();
    late.seconds = 3601;
    late.step();
    assert_eq!((late.phase(), late.reason()), (BackupPhase::Failed, "DeadlineExceeded".into()));
}

/// With one turn, whoever was there first has it, whatever their states: never two.
#[test]
fn turns_are_given_in_one_order() {
    let mut all: Vec<Backup> = (0..4)
        .map(|number| {
            let mut backup = backup(&json!({}));
            backup.metadata.name = Some(format!("b{number}"));
            backup.metadata.uid = Some(format!("u-{number}"));
            backup
        })
        .collect();
    let found: Vec<usize> = all.iter().map(|it| ahead(it, all.iter())).collect();
    assert_eq!(found, [0, 1, 2, 3]);
    let mut held = all.clone();
    held[0].spec.suspend = Some(true);
    held[1].spec.store_ref.name = "other".into();
    assert_eq!(ahead(&held[2], held.iter()), 0);
    // One that waits for a destination which others don't need keeps nobody waiting.
    let status = BackupStatus { failure: Some(failure("Probing")), ..BackupStatus::default() };
    all[0].status = Some(status);
    assert_eq!(ahead(&all[1], all.iter()), 0);
}

/// Its deadline goes on, and only a coordinator can void a run that was begun.
#[test]
fn a_suspended_run_ends_at_its_deadline() {
    let mut world = World::new(&json!({"deadline": "1h"}));
    world.export();
    world.backup.spec.suspend = Some(true);
    world.step();
    let plan = world.step();
    assert!(plan.again_after.is_some_and(|it| it <= Duration::from_secs(3600)), "{plan}");
    world.seconds = 3601;
    let plan = world.step();
    assert_eq!((plan.start.len(), plan.time_left), (1, Some(Duration::ZERO)), "{plan}");
    world.ends(
        "coordinator",
        Some(LastWord::Void { run: Some(1), failure: failure("DeadlineExceeded"), canceled: false }),
    );
    world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Failed, "DeadlineExceeded".into()));

    let mut fresh = World::new(&json!({"deadline": "1h", "suspend": true}));
    assert!(fresh.step().start.is_empty());
    fresh.seconds = 3601;
    fresh.step();
    assert_eq!((fresh.phase(), fresh.reason()), (BackupPhase::Failed, "DeadlineExceeded".into()));
}

#[test]
fn what_a_late_run_waited_for_is_named() {
    let mut world = World::new(&json!({"deadline": "1h"}));
    world.export();
    world.job("worker-us").state = JobState::Waiting(Some(failure("Unschedulable")));
    world.step();
    world.ends(
        "coordinator",
        Some(LastWord::Void { run: Some(1), failure: failure("DeadlineExceeded"), canceled: false }),
    );
    world.step();
    let said = said(&world);
    assert!(said.contains("Unschedulable") && world.reason() == "DeadlineExceeded", "{said}");
}

/// A pod that can still start could still claim a run.
#[test]
fn too_late_is_said_only_when_no_pod_is_left() {
    let mut world = World::new(&json!({"deadline": "1h"}));
    world.step();
    world.seconds = 3601;
    assert_eq!(world.step().stop.len(), 1);
    assert_eq!(world.phase(), BackupPhase::Pending);
    world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Failed, "DeadlineExceeded".into()));
}

/// An upgrade meanwhile does not change what a run is carried out by.
#[test]
fn a_run_keeps_its_image() {
    let mut world = World::new(&json!({}));
    world.step();
    let image = |world: &World| world.backup.status.as_ref().unwrap().resolved.clone().unwrap().image;
    assert_eq!(image(&world).as_deref(), Some("vouchsafe:1"));
    let later = decide(&world.backup, &world.observed, "vouchsafe:2", at(9));
    assert_eq!(later.status.resolved.unwrap().image.as_deref(), Some("vouchsafe:1"));
}

/// The UID of another Backup.
const OWNER: &str = "036e323a-fa2c-4562-989b-d028d0942073";

/// A Backup whose coordinator found a run of `owner` in its way, with other Backups at work.
fn held_by(owner: &str, alive: bool, at_work: &[&str]) -> World {
    let mut world = World::new(&json!({}));
    world.observed.at_work = at_work.iter().map(|it| ((*it).to_owned(), "Backup other".to_owned())).collect();
    world.step();
    let failure = failure("RunHeldByAnother");
    world.ends("coordinator", Some(LastWord::Held { run: 1, owner: owner.into(), alive, failure }));
    world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Pending, "RunHeldByAnother".into()));
    world
}

fn said(world: &World) -> String {
    world.backup.status.as_ref().unwrap().failure.clone().unwrap().message
}

/// A run that was left open by a Backup that is gone is voided by the next one.
#[test]
fn a_run_in_the_way_is_voided_only_if_its_owner_is_gone() {
    let orphan = |owner: &str, alive: bool| {
        let mut world = held_by(owner, alive, &[]);
        assert!(said(&world).contains("it is tried again at "), "{}", said(&world));
        world.seconds += 61;
        let plan = world.step();
        assert_eq!(plan.start.len(), 1, "it is tried again, whoever is in the way");
        plan.orphan
    };
    assert_eq!(orphan(OWNER, false).as_deref(), Some(OWNER));
    assert_eq!(orphan(OWNER, true), None);
    assert_eq!(orphan(&"a".repeat(64), false), None);
}

/// A pod a minute that asks whether the other has ended would be for nothing: that is seen here.
#[test]
fn the_end_of_a_backup_in_the_way_is_waited_for_without_a_pod() {
    let mut world = held_by(OWNER, true, &[OWNER]);
    assert!(said(&world).contains("waits for Backup other to end"), "{}", said(&world));
    for _ in 0..100 {
        world.seconds += 600;
        let plan = world.step();
        assert!(plan.start.is_empty() && plan.again_after.is_some_and(|it| it.as_secs() <= 10), "{plan}");
    }
    world.observed.at_work.clear();
    let plan = world.step();
    assert_eq!((plan.start.len(), plan.orphan), (1, None), "it was seen alive, and may have sealed");
    world.runs("coordinator");
    world.step();
    assert_eq!(world.reason(), "");

    // A coordinator has to see that it is canceled, and to void what an earlier one may have claimed.
    let mut canceled = held_by(OWNER, true, &[OWNER]);
    canceled.runs("coordinator");
    let held =
        LastWord::Held { run: 1, owner: OWNER.into(), alive: true, failure: failure("RunHeldByAnother") };
    canceled.step();
    canceled.ends("coordinator", Some(held));
    canceled.backup.spec.cancel = Some(true);
    canceled.seconds += 61;
    assert_eq!(canceled.step().start.len(), 1);

    // It never goes on of itself if what it waits for never ends.
    let mut late = World::new(&json!({"deadline": "1h"}));
    late.observed.at_work = [(OWNER.to_owned(), "Backup other".to_owned())].into();
    late.step();
    let failure = failure("RunHeldByAnother");
    late.ends("coordinator", Some(LastWord::Held { run: 1, owner: OWNER.into(), alive: false, failure }));
    late.step();
    late.seconds = 3600 + 301;
    late.step();
    assert_eq!(late.phase(), BackupPhase::Failed);
    assert!(said(&late).contains("waits for Backup other to end"), "{}", said(&late));
}

/// Of a run of which nobody here knows whose it is, it is asked less and less often.
#[test]
fn a_run_of_somebody_unknown_is_looked_at_less_and_less_often() {
    let mut world = held_by(&"a".repeat(64), true, &[OWNER]);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let pause = world.step().again_after.expect("a pause").as_secs();
        pauses.push(pause);
        world.seconds += i64::try_from(pause).unwrap();
        assert_eq!(world.step().start.len(), 1);
        let failure = failure("RunHeldByAnother");
        let word = LastWord::Held { run: 1, owner: "a".repeat(64), alive: true, failure };
        world.ends("coordinator", Some(word));
    }
    assert_eq!(pauses, [4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600]);

    // An earlier attempt of its own is dead soon.
    let mut own = held_by("u-1", true, &["u-1"]);
    for _ in 0..12 {
        let pause = own.step().again_after.expect("a pause").as_secs();
        assert!(pause <= 60, "{pause}");
        own.seconds += i64::try_from(pause).unwrap();
        assert_eq!(own.step().start.len(), 1);
        let failure = failure("CollectionBusy");
        own.ends("coordinator", Some(LastWord::Held { run: 1, owner: "u-1".into(), alive: true, failure }));
    }
}
