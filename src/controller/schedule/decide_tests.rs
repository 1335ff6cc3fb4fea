use rstest::rstest;
use serde_json::{Value, json};

use super::super::build::build;
use super::super::following::ATTEMPTS;
use super::super::observe::{BackupState, ObservedBackup, ObservedPrune, Sealed};
use super::*;
use crate::api::Kind;
use crate::api::definition::must_take;
use crate::api::{BackupStore, Condition, ConditionStatus};
use crate::controller::jobs::{JobState, ObservedJob};

#[path = "crash_tests.rs"]
mod crash;
#[path = "failure_tests.rs"]
mod failure;
#[path = "prune_tests.rs"]
mod prune_tests;

/// A cluster with one schedule and a clock that goes as fast as a test wants.
pub(super) struct World {
    schedule: BackupSchedule,
    observed: Observed,
    /// Names that are somebody else's.
    foreign: Vec<String>,
    /// Every Backup that was ever made.
    made: Vec<String>,
    deleted: Vec<String>,
    store: Option<BackupStore>,
    jobs: Vec<ObservedJob>,
    /// Every Job that was ever made, with the runs that it proposes.
    pruners: Vec<(String, Vec<u64>)>,
    now: Timestamp,
    runs: u64,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    /// Made at 09:30 on a Sunday, hourly unless `extra` says otherwise, and never put off.
    fn new(extra: &Value) -> Self {
        let mut spec = json!({
            "schedule": "0 * * * *", "fullSchedule": "Always", "jitter": "0s",
            "template": {
                "metadata": {"labels": {"team": "shop"}, "annotations": {"note": "n"}},
                "spec": {
                    "storeRef": {"name": "orders"}, "collection": "shop",
                    "source": {"postgres": {"database": "shop", "endpoints": [
                        {"name": "eu", "host": "pg", "credentialsSecret": {"name": "pg"}}]}},
                },
            },
        });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let created = "2026-11-22T09:30:00Z";
        let schedule = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u-1", "generation": 1, "creationTimestamp": created,
                         "labels": {"argocd.argoproj.io/instance": "shop"}},
            "spec": spec,
            "status": {"observedGeneration": -1},
        });
        Self {
            schedule: serde_json::from_value(schedule).unwrap(),
            observed: Observed::default(),
            foreign: Vec::new(),
            made: Vec::new(),
            deleted: Vec::new(),
            store: Some(prune_tests::store(true)),
            jobs: Vec::new(),
            pruners: Vec::new(),
            now: at(created),
            runs: 0,
        }
    }

    fn look(&self) -> Plan {
        let mut observed = self.observed.clone();
        let run = self.schedule.status.as_ref().unwrap().last_run.as_ref();
        observed.taken = run.is_some_and(|it| it.state == State::Starting && self.foreign.contains(&it.name));
        let plan = decide(&self.schedule, &observed, self.now);
        if !plan.looks_for_prune {
            return plan;
        }
        observed.prune =
            Some(ObservedPrune { store: self.store.clone(), jobs: self.jobs.clone(), refused: None });
        decide(&self.schedule, &observed, self.now)
    }

    /// Decides, and carries out the first `effects` writes of the plan. Answers how many there were.
    fn step_until(&mut self, effects: usize) -> usize {
        let plan = self.look();
        must_take(Kind::BackupSchedule, &plan.status);
        let backup = plan.start.as_ref().map(|run| build(&self.schedule, run));
        let mut left = effects;
        let mut count = 0;
        let mut next = || {
            count += 1;
            left.checked_sub(1).map(|rest| left = rest).is_some()
        };
        if self.schedule.status.as_ref() != Some(&plan.status) && next() {
            self.schedule.status = Some(plan.status.clone());
        }
        if let Some(mut backup) = backup
            && next()
        {
            let name = backup.name_any();
            let there =
                self.observed.backups.iter().any(|it| it.name == name) || self.foreign.contains(&name);
            if !there {
                backup.metadata.uid = Some(format!("uid-of-{name}"));
                let seen = ObservedBackup { created: self.now, ..ObservedBackup::of(&backup) };
                self.observed.backups.push(seen);
                self.made.push(name);
            }
        }
        for Forget { name, uid, why: _ } in &plan.forget {
            if next() {
                self.observed.backups.retain(|it| it.uid != *uid);
                self.deleted.push(name.clone());
            }
        }
        for stop in &plan.prune.end {
            if next() {
                self.jobs.retain(|job| job.uid != stop.uid);
            }
        }
        for start in &plan.prune.start {
            let name = start.process.job_name("orders", "u-1", &start.order, start.attempt);
            if next() && !self.jobs.iter().any(|job| job.name == name) {
                self.jobs.push(ObservedJob {
                    name: name.clone(),
                    uid: format!("uid-{}-of-{name}", self.pruners.len()),
                    process: start.process.to_string(),
                    order: start.order.clone(),
                    attempt: start.attempt,
                    state: JobState::Running { node: None, given_up_at: None },
                });
                self.pruners.push((name, plan.prune.runs.clone()));
            }
        }
        count
    }

    /// Decides until nothing is left to do now.
    fn settle(&mut self) {
        for _ in 0..10 {
            if self.step_until(usize::MAX) == 0 {
                return;
            }
        }
        panic!("it writes for ever: {:?}", self.status());
    }

    /// Goes on to a moment, looking whenever the plan says so, and then.
    fn to(&mut self, moment: &str) -> &mut Self {
        let moment = at(moment);
        self.settle();
        while let Some(after) = self.look().again_after {
            let next = self.now.checked_add(after).unwrap();
            if next > moment {
                break;
            }
            self.now = next;
            self.settle();
        }
        self.now = moment;
        self.settle();
        self
    }

    /// The controller is away until then.
    fn away(&mut self, moment: &str) -> &mut Self {
        self.now = at(moment);
        self.settle();
        self
    }

    fn end(&mut self, name: &str, state: BackupState) -> &mut Self {
        let found = self.observed.backups.iter_mut().find(|it| it.name == name);
        found.unwrap_or_else(|| panic!("no Backup {name} among {:?}", self.made)).state = state;
        self.settle();
        self
    }

    fn seals(&mut self, name: &str) -> &mut Self {
        self.runs += 1;
        let sealed = Sealed { run: Some((self.runs, self.runs)), at: self.now, to: Some(self.now - POLL) };
        self.end(name, BackupState::Sealed(sealed))
    }

    fn fails(&mut self, name: &str) -> &mut Self {
        let failure = Failure { reason: "Unreachable".into(), message: "m".into(), hint: "h".into() };
        self.end(name, BackupState::Failed { at: Some(self.now), failure: Some(failure) })
    }

    fn change(&mut self, change: impl FnOnce(&mut BackupSchedule)) -> &mut Self {
        change(&mut self.schedule);
        self.schedule.metadata.generation = self.schedule.metadata.generation.map(|it| it + 1);
        self.settle();
        self
    }

    fn status(&self) -> &BackupScheduleStatus {
        self.schedule.status.as_ref().unwrap()
    }

    fn condition(&self, type_: &str) -> &Condition {
        let found = self.status().conditions.iter().find(|it| it.type_ == type_);
        found.unwrap_or_else(|| panic!("no condition {type_}"))
    }

    fn holds(&self, type_: &str) -> bool {
        self.condition(type_).status == ConditionStatus::True
    }

    fn is_starting(&self) -> bool {
        self.status().last_run.as_ref().is_some_and(|run| run.state == State::Starting)
    }

    fn last_state(&self) -> State {
        self.status().last_run.as_ref().unwrap().state
    }
}

#[test]
fn a_run_is_fired_once_and_told_of() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T09:59:59Z");
    assert_eq!(world.made, [""; 0]);
    assert_eq!(world.status().next_schedule_time.as_deref(), Some("2026-11-22T10:00:00Z"));
    world.to("2026-11-22T10:20:00Z");
    assert_eq!(world.made, ["orders-20261122-1000"]);
    assert_eq!(world.status().active, ["orders-20261122-1000"]);
    assert_eq!(world.status().last_schedule_time.as_deref(), Some("2026-11-22T10:00:00Z"));
    world.seals("orders-20261122-1000").to("2026-11-22T10:59:59Z");
    let status = world.status();
    assert_eq!(status.last_success.as_ref().unwrap().time, "2026-11-22T10:20:00Z");
    assert_eq!(status.recoverable_to.as_deref(), Some("2026-11-22T10:19:00Z"));
    assert_eq!((status.missed, status.consecutive_failures), (None, Some(0)));
    assert!(world.holds("Ready") && !world.holds("Stalled") && !world.holds("Reconciling"));
    world.to("2026-11-22T13:00:00Z");
    assert_eq!(world.made.len(), 2, "the others are skipped while the second goes on");
    assert_eq!(world.status().missed, Some(2));
}

#[test]
fn a_backup_carries_the_template_and_nothing_of_the_schedule() {
    let mut world = World::new(&json!({}));
    world.now = at("2026-11-22T10:00:07Z");
    let run = world.look().start.unwrap();
    let backup = build(&world.schedule, &run);
    let metadata = serde_json::to_value(&backup.metadata).unwrap();
    let wanted = json!({
        "name": "orders-20261122-1000", "namespace": "shop",
        "labels": {"team": "shop", "vouchsafe.dev/schedule": "orders"},
        "annotations": {
            "note": "n", "vouchsafe.dev/schedule-uid": "u-1", "vouchsafe.dev/schedule-name": "orders",
            "vouchsafe.dev/scheduled-at": "2026-11-22T10:00:07Z", "vouchsafe.dev/tick": "2026-11-22T10:00:00Z",
        },
    });
    assert_eq!(metadata, wanted);
    assert_eq!(serde_json::to_value(&backup.spec).unwrap()["type"], "Full");
}

#[test]
fn after_days_of_downtime_the_newest_runs_and_the_others_are_counted() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T09:59:00Z").away("2026-11-25T10:10:00Z");
    assert_eq!(world.made, ["orders-20261125-1000"]);
    assert_eq!(world.status().missed, Some(72));
    let mut late = World::new(&json!({"startingDeadline": "5m"}));
    late.to("2026-11-22T09:59:00Z").away("2026-11-25T10:10:00Z");
    assert_eq!((late.made.len(), late.status().missed), (0, Some(73)));
    late.to("2026-11-25T11:00:00Z");
    assert_eq!(late.made, ["orders-20261125-1100"]);
}

#[test]
fn what_was_due_before_the_schedule_was_made_is_nobodys() {
    let mut world = World::new(&json!({"schedule": "15 9 * * *"}));
    world.to("2026-11-22T23:00:00Z");
    assert_eq!((world.made.len(), world.status().missed), (0, None));
}

#[test]
fn wait_starts_the_newest_when_the_one_before_has_ended() {
    let mut world = World::new(&json!({"concurrency": "Wait"}));
    world.to("2026-11-22T12:45:00Z");
    assert_eq!(world.made, ["orders-20261122-1000"]);
    world.seals("orders-20261122-1000");
    assert_eq!(world.made[1..], ["orders-20261122-1200"], "however long it waited");
    assert_eq!(world.status().missed, Some(1));
    let mut away = World::new(&json!({"concurrency": "Wait"}));
    away.to("2026-11-22T10:45:00Z").seals("orders-20261122-1000").away("2026-11-22T12:45:00Z");
    assert_eq!((away.made.len(), away.status().missed), (1, Some(2)), "it waited for nothing");
}

#[test]
fn a_suspended_schedule_writes_nothing_and_owes_nothing() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T09:45:00Z").change(|schedule| schedule.spec.suspend = Some(true));
    let before = world.status().clone();
    assert_eq!((before.next_schedule_time.clone(), world.look().again_after), (None, None));
    world.to("2026-11-24T10:05:00Z");
    assert_eq!(*world.status(), before);
    assert_eq!((world.condition("Ready").reason.as_str(), world.holds("Ready")), ("Suspended", true));
    world.change(|schedule| schedule.spec.suspend = None).to("2026-11-24T11:00:00Z");
    assert_eq!(world.made, ["orders-20261124-1100"]);
    assert_eq!(world.status().missed, None);
}

#[test]
fn another_clock_is_followed_from_when_it_is_seen() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T10:00:00Z").seals("orders-20261122-1000").to("2026-11-22T10:30:00Z");
    world.change(|schedule| schedule.spec.schedule = "20 * * * *".into()).to("2026-11-22T11:20:00Z");
    assert_eq!(world.made[1..], ["orders-20261122-1120"]);
    assert_eq!(world.status().missed, None);
    // An edit of anything else, at the very moment, loses no run.
    world.seals("orders-20261122-1120").to("2026-11-22T12:19:59Z");
    world.now = at("2026-11-22T12:20:00Z");
    world.change(|schedule| schedule.spec.starting_deadline = Some("1h".into()));
    assert_eq!(world.made[2..], ["orders-20261122-1220"]);
}

#[rstest]
#[case(json!({"schedule": "0 0 30 2 *"}), "NeverDue", "spec.schedule: `0 0 30 2 *` never comes")]
#[case(json!({"schedule": "61 * * * *"}), "CronMalformed", "spec.schedule: `61 * * * *`")]
#[case(json!({"timeZone": "Europe/Berln"}), "TimeZoneUnknown", "spec.timeZone: there is no time zone `Europe/Berln`")]
#[case(json!({"fullSchedule": "0 0 31 4 *"}), "NeverDue", "spec.fullSchedule")]
#[case(json!({"fullSchedule": "@daily"}), "NotBuiltYet", "spec.fullSchedule")]
#[case(json!({"fullSchedule": null}), "NotBuiltYet", "spec.fullSchedule")]
#[case(json!({"startingDeadline": "0s"}), "SpecRefused", "spec.startingDeadline")]
fn bad_input_is_refused_by_name(#[case] extra: Value, #[case] reason: &str, #[case] message: &str) {
    let mut world = World::new(&extra);
    world.to("2026-11-22T12:00:00Z");
    assert_eq!(world.condition("Ready").reason, reason);
    assert!(world.condition("Ready").message.contains(message), "{}", world.condition("Ready").message);
    assert!(world.holds("Stalled") && world.made.is_empty());
}

#[test]
fn a_schedule_that_was_broken_for_a_while_goes_on_from_where_it_is_mended() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T09:45:00Z").change(|schedule| schedule.spec.time_zone = Some("Nowhere".into()));
    world.to("2026-11-22T15:05:00Z").change(|schedule| schedule.spec.time_zone = None);
    world.to("2026-11-22T16:00:00Z");
    assert_eq!((world.made.clone(), world.status().missed), (vec!["orders-20261122-1600".into()], None));
}

#[test]
fn a_name_that_is_somebody_elses_is_told_and_given_up() {
    let mut world = World::new(&json!({}));
    world.foreign.push("orders-20261122-1000".into());
    world.to("2026-11-22T10:00:00Z").to("2026-11-22T10:10:00Z");
    assert_eq!(world.condition("Ready").reason, "BackupNameTaken");
    assert!(world.holds("Reconciling") && world.made.is_empty());
    world.to("2026-11-22T10:45:00Z");
    assert_eq!((world.last_state(), world.status().missed), (State::Missed, Some(1)));
    assert_eq!(world.status().last_run.as_ref().unwrap().failure.as_ref().unwrap().reason, "BackupNameTaken");
    world.to("2026-11-22T11:00:00Z");
    assert_eq!((world.made.len(), world.holds("Ready")), (1, true));
}

#[test]
fn a_refused_backup_stands_in_the_status_and_is_tried_again() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T09:59:00Z");
    world.now = at("2026-11-22T10:00:00Z");
    let written = world.look().status;
    world.schedule.status = Some(written);
    let told = refused(&world.schedule, "exceeded quota", world.now);
    world.schedule.status = Some(told.clone());
    assert_eq!(
        (world.condition("Ready").reason.as_str(), world.holds("Reconciling")),
        ("BackupRefused", true)
    );
    let again = world.look();
    assert_eq!(again.status, told, "no toggling");
    assert_eq!(again.start.unwrap().name, "orders-20261122-1000");
}

#[test]
fn the_age_of_the_last_proof_is_held_against_the_objective() {
    let mut world = World::new(&json!({"recoveryPointObjective": "2h", "onFailure": "Reschedule"}));
    world.to("2026-11-22T10:00:00Z");
    assert_eq!(world.condition("RecoveryPointMet").status, ConditionStatus::Unknown);
    world.seals("orders-20261122-1000");
    assert!(world.holds("RecoveryPointMet"));
    world.to("2026-11-22T11:00:00Z").fails("orders-20261122-1100").to("2026-11-22T11:58:59Z");
    assert!(world.holds("RecoveryPointMet"), "what it restores to is of 09:59");
    world.to("2026-11-22T11:59:00Z");
    assert_eq!(world.condition("RecoveryPointMet").reason, "RecoveryPointMissed");
    let mut never = World::new(&json!({"recoveryPointObjective": "20m"}));
    never.to("2026-11-22T09:50:00Z");
    assert_eq!(never.condition("RecoveryPointMet").status, ConditionStatus::False);
}

#[test]
fn what_would_go_and_what_can_be_restored_follow_from_sealed_backups_only() {
    let mut world = World::new(
        &json!({"retention": {"keepLast": 2}, "onFailure": "Reschedule", "failedHistoryLimit": 1}),
    );
    for (hour, seals) in [(10, true), (11, false), (12, true), (13, false), (14, false), (15, true)] {
        world.to(&format!("2026-11-22T{hour}:00:00Z"));
        let name = format!("orders-20261122-{hour}00");
        if seals {
            world.seals(&name)
        } else {
            world.fails(&name)
        };
    }
    assert_eq!(world.status().next_prune, ["orders-20261122-1000"]);
    assert_eq!(world.status().recoverable_from.as_deref(), Some("2026-11-22T09:59:00Z"));
    assert_eq!(world.deleted, ["orders-20261122-1100", "orders-20261122-1300"]);
    // A proof outlives its resource; what can be restored by one does not.
    world.observed.backups.clear();
    world.settle();
    assert_eq!(world.status().last_success.as_ref().unwrap().name, "orders-20261122-1500");
    assert_eq!((world.status().recoverable_to.clone(), world.status().next_prune.len()), (None, 0));
}

#[test]
fn a_lost_status_doubles_no_run() {
    let mut world = World::new(&json!({}));
    world.to("2026-11-22T10:05:00Z");
    for state in [None, Some("Succeeded")] {
        world.schedule.status = Some(BackupScheduleStatus::default());
        world.settle();
        assert_eq!((world.made.len(), world.status().missed), (1, None), "{state:?}");
        if state.is_some() {
            break;
        }
        world.seals("orders-20261122-1000");
    }
    // Hand-edited to nonsense.
    world.schedule.status.as_mut().unwrap().clock.as_mut().unwrap().until = "9999-99-99T99:99:99Z".into();
    world.to("2026-11-22T11:00:00Z");
    assert_eq!(world.made.len(), 2);
}
