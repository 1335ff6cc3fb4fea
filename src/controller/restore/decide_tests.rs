//! What comes next, in worlds where backups, targets and pods do as they like.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::Kind;
use crate::api::definition::must_take;
use crate::api::{Backup, Capabilities};
use crate::controller::jobs::ObservedJob;

const MANIFEST: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn store() -> BackupStore {
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore", "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"destinations": [{"name": "eu", "default": true, "s3": {"bucket": "orders-eu", "region": "eu-west-1"}}]},
    });
    serde_json::from_value(value).unwrap()
}

fn backup(name: &str, phase: &str, number: i64, collection: &str, seconds: i64) -> Backup {
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": at(seconds).to_string()},
        "spec": {"storeRef": {"name": "orders"}, "collection": collection,
                 "source": {"postgres": {"database": "shop", "endpoints": []}}},
        "status": {"phase": phase, "run": {"number": number}, "proof": {"manifestSha256": MANIFEST, "witnesses": []}},
    });
    serde_json::from_value(value).unwrap()
}

fn restore(from: &Value, extra: &Value) -> Restore {
    let mut spec = json!({
        "from": from,
        "target": {"postgres": {"host": "pg-new", "database": "shop", "credentialsSecret": {"name": "pg"}}},
        "deadline": "1h",
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": "back", "namespace": "shop", "uid": "u-1", "generation": 1,
                     "creationTimestamp": at(0).to_string()},
        "spec": spec,
    });
    serde_json::from_value(value).unwrap()
}

/// A cluster with one Restore: what the plans ask for is done, and the tests say what comes of it.
struct World {
    restore: Restore,
    observed: Observed,
    seconds: i64,
}

impl World {
    fn new(from: &Value, extra: &Value) -> Self {
        let observed = Observed { store: Some(store()), ..Observed::default() };
        Self { restore: restore(from, extra), observed, seconds: 0 }
    }

    fn of_run() -> Self {
        Self::new(&json!({"storeRef": {"name": "orders"}, "collection": "shop", "run": 7}), &json!({}))
    }

    /// Decides, and carries it out: the jobs that were started wait, those that were deleted are gone.
    fn step(&mut self) -> Plan {
        let plan = decide(&self.restore, &self.observed, at(self.seconds));
        must_take(Kind::Restore, &plan.status);
        let before = self.restore.status.clone().unwrap_or_default();
        if let (Some(before), Some(after)) = (before.phase, plan.status.phase) {
            assert!(after >= before, "{before:?} became {after:?}");
        }
        self.restore.status =
            Some(RestoreStatus { run: before.run, progress: before.progress, ..plan.status.clone() });
        self.observed.jobs.retain(|job| !plan.end.iter().any(|it| it.uid == job.uid));
        if let Some(given) = &plan.given
            && !plan.start.is_empty()
        {
            self.observed.frozen = Some(given.text.clone());
        }
        for Start { process, order, attempt } in &plan.start {
            let name = process.job_name("back", "u-1", order, *attempt);
            assert!(!self.observed.jobs.iter().any(|job| job.name == name), "{name} is made twice");
            self.observed.jobs.push(ObservedJob {
                uid: format!("uid of {name}"),
                name,
                process: process.to_string(),
                order: order.clone(),
                attempt: *attempt,
                state: JobState::Waiting(None),
            });
        }
        plan
    }

    fn status(&self) -> &RestoreStatus {
        self.restore.status.as_ref().unwrap()
    }

    fn said(&self) -> (RestorePhase, String) {
        let reason = self.status().failure.as_ref().map(|it| it.reason.clone()).unwrap_or_default();
        (self.status().phase.unwrap(), reason)
    }

    fn newest(&mut self) -> &mut ObservedJob {
        self.observed.jobs.iter_mut().max_by_key(|job| job.attempt).expect("a job")
    }

    fn runs(&mut self) {
        self.newest().state = JobState::Running { node: Some("node-1".into()), given_up_at: None };
    }

    fn ends(&mut self, word: Option<LastWord>) {
        let at = Some(at(self.seconds));
        let how = "its pod was ended: OOMKilled, exit code 137".into();
        self.newest().state =
            JobState::Ended { pod: Some("pod".into()), node: Some("node-1".into()), word, how, at };
    }

    fn publish(&mut self, step: &str) {
        self.restore.status.as_mut().unwrap().run = Some(RunStatus {
            number: Some(7),
            manifest_sha256: Some(MANIFEST.into()),
            step: Some(step.into()),
            ..RunStatus::default()
        });
    }

    fn holds(&self, type_: &str) -> bool {
        let condition = self.status().conditions.iter().find(|it| it.type_ == type_);
        condition.is_some_and(|it| it.status == crate::api::ConditionStatus::True)
    }
}

fn restored(manifest: &str) -> LastWord {
    LastWord::Restored { run: 7, manifest_sha256: manifest.into(), tables: 3, rows: 9 }
}

fn failure(reason: &str) -> Failure {
    Failure { reason: reason.into(), message: "why".into(), hint: "what to do".into() }
}

/// Applied again from its own YAML, or with its status wiped when its Jobs were gone: its database may be in use.
#[test]
fn a_restore_that_was_begun_and_has_no_status_is_not_run_again() {
    let mark = |world: &mut World, uid: &str| {
        let annotations = world.restore.metadata.annotations.get_or_insert_default();
        annotations.insert(begun::BEGUN_AS.into(), uid.into());
    };
    let mut copied = World::of_run();
    mark(&mut copied, "u-0");
    let mut wiped = World::of_run();
    wiped.step();
    mark(&mut wiped, "u-1");
    wiped.restore.status = None;
    wiped.observed.jobs.clear();
    assert!(wiped.observed.frozen.is_some());
    for world in [&mut copied, &mut wiped] {
        for _ in 0..2 {
            let plan = world.step();
            assert!(plan.start.is_empty() && plan.again_after.is_none(), "{plan}");
            assert_eq!(world.said(), (RestorePhase::Pending, "HistoryLost".into()));
            assert!(world.holds("Stalled") && !world.holds("Reconciling") && !world.holds("Failed"));
        }
    }
    // One that is on its way goes on: its status tells, or its Job.
    let mut goes = World::of_run();
    goes.step();
    mark(&mut goes, "u-1");
    goes.restore.status = None;
    goes.ends(Some(restored(MANIFEST)));
    goes.step();
    assert_eq!(goes.said(), (RestorePhase::Succeeded, String::new()));
}

#[test]
fn a_restore_runs_through_and_succeeds_by_what_was_compared() {
    let mut world = World::of_run();
    let plan = world.step();
    assert_eq!(plan.to_string(), "start restorer, attempt 1; waits for its pod");
    assert_eq!(world.status().from.as_deref(), Some("run 7 of collection shop in BackupStore orders"));
    assert_eq!(world.said().0, RestorePhase::Pending);
    world.runs();
    for (step, phase) in [
        ("Resolving", RestorePhase::Resolving),
        ("PreData", RestorePhase::PreData),
        ("Data", RestorePhase::Data),
        ("PostData", RestorePhase::PostData),
        ("Verifying", RestorePhase::Verifying),
    ] {
        world.publish(step);
        assert!(world.step().start.is_empty());
        assert_eq!(world.said().0, phase);
    }
    assert!(world.status().proof.is_none());
    world.ends(Some(restored(MANIFEST)));
    world.step();
    assert_eq!(world.said(), (RestorePhase::Succeeded, String::new()));
    let proof = world.status().proof.clone().unwrap();
    assert_eq!((proof.tables, proof.rows_compared, &*proof.manifest_sha256), (3, 9, MANIFEST));
    assert!(world.holds("Complete") && !world.holds("Failed") && !world.holds("Reconciling"));
}

#[test]
fn what_a_backup_says_of_itself_is_what_the_pod_is_given() {
    let mut world = World::new(&json!({"backup": "first"}), &json!({}));
    world.step();
    assert_eq!(world.said(), (RestorePhase::Pending, "BackupNotFound".into()));
    world.observed.backup = Some(backup("first", "Exporting", 7, "shop", 0));
    world.step();
    assert_eq!(world.said(), (RestorePhase::Pending, "BackupUnfinished".into()));
    world.observed.backup = Some(backup("first", "Succeeded", 7, "shop", 0));
    let plan = world.step();
    let given = plan.given.expect("resources");
    assert_eq!(given.restore.expect_manifest_sha256.as_deref(), Some(MANIFEST));
    let from = crate::api::ValidatedFrom::Run {
        store: "orders".into(),
        collection: Some("shop".into()),
        run: Some(7),
    };
    assert_eq!(given.restore.from, from);
    let said = world.status().from.clone();
    assert_eq!(said.as_deref(), Some("run 7 of collection shop in BackupStore orders (Backup first)"));
    // From here on the Backup may go.
    world.observed.backup = None;
    world.runs();
    world.step();
    assert_eq!((world.said(), world.status().from.clone()), ((RestorePhase::Pending, String::new()), said));

    for phase in ["Failed", "Canceled"] {
        let mut world = World::new(&json!({"backup": "first"}), &json!({}));
        world.observed.backup = Some(backup("first", phase, 7, "shop", 0));
        world.step();
        assert_eq!(world.said(), (RestorePhase::Failed, "BackupFailed".into()));
    }
}

#[test]
fn a_schedules_latest_is_the_highest_run_of_the_collection_that_it_writes_to_now() {
    let mut world = World::new(&json!({"schedule": "hourly"}), &json!({}));
    world.step();
    assert_eq!(world.said(), (RestorePhase::Pending, "ScheduleNotFound".into()));
    world.observed.has_schedule = true;
    world.step();
    assert_eq!(world.said(), (RestorePhase::Pending, "NoBackup".into()));
    let all = vec![
        backup("old", "Succeeded", 90, "before", 1),
        backup("a", "Succeeded", 4, "shop", 9),
        backup("b", "Succeeded", 5, "shop", 8),
        backup("c", "Failed", 6, "shop", 10),
    ];
    let latest = origin::latest(all).expect("one");
    assert_eq!(latest.metadata.name.as_deref(), Some("b"));
    world.observed.backup = Some(latest);
    assert_eq!(world.step().start.len(), 1);
}

#[test]
fn a_target_that_is_not_there_is_waited_for_until_the_deadline_and_named() {
    let mut world = World::of_run();
    let mut attempts = 0;
    while world.said_or_pending() == RestorePhase::Pending {
        let plan = world.step();
        attempts += plan.start.len();
        if !plan.start.is_empty() {
            world.ends(Some(LastWord::NotYet { failure: failure("ServerUnreachable") }));
            world.step();
            if world.said_or_pending() == RestorePhase::Pending {
                assert_eq!(world.said().1, "ServerUnreachable");
            }
        }
        assert!(world.observed.jobs.len() <= KEPT + 2, "{}", world.observed.jobs.len());
        world.seconds += 30;
        assert!(world.seconds < 4000, "no end");
    }
    assert!(attempts > 20, "{attempts}");
    assert_eq!(world.said(), (RestorePhase::Failed, "DeadlineExceeded".into()));
    let message = &world.status().failure.as_ref().unwrap().message;
    assert!(message.contains("ServerUnreachable"), "{message}");
}

impl World {
    fn said_or_pending(&self) -> RestorePhase {
        self.restore.status.as_ref().and_then(|it| it.phase).unwrap_or(RestorePhase::Pending)
    }
}

#[test]
fn a_killed_pod_is_started_anew_and_damage_is_final() {
    let mut world = World::of_run();
    world.step();
    world.runs();
    world.publish("Data");
    world.step();
    world.ends(None);
    let pause = world.step().again_after.expect("a pause");
    world.seconds += i64::try_from(pause.as_secs()).unwrap() + 1;
    let plan = world.step();
    assert_eq!((plan.start.len(), plan.start[0].attempt), (1, 2));
    assert_eq!(world.said().0, RestorePhase::Data, "a phase never goes back");
    world.runs();
    world.ends(Some(LastWord::Failed { failure: failure("DamageFound"), again: false }));
    assert!(world.step().start.is_empty());
    assert_eq!(world.said(), (RestorePhase::Failed, "DamageFound".into()));
    assert!(world.holds("Failed") && world.holds("Stalled") && !world.holds("Complete"));
}

#[test]
fn another_backup_than_the_chosen_one_is_no_success() {
    let mut world = World::of_run();
    world.step();
    world.runs();
    world.publish("Verifying");
    world.step();
    world.ends(Some(restored(&"d".repeat(64))));
    world.step();
    assert_eq!(world.said(), (RestorePhase::Failed, "ManifestUnexpected".into()));
    let mut other = World::of_run();
    other.step();
    let probed = LastWord::Probed { capabilities: Capabilities::default(), note: String::new() };
    other.ends(Some(probed));
    other.step();
    assert_eq!(other.said().0, RestorePhase::Pending, "a word of another process is none of a restorer's");
}

#[test]
fn a_canceled_restore_lets_its_pod_take_back_what_it_made() {
    let mut world = World::of_run();
    world.step();
    world.runs();
    world.publish("Data");
    world.step();
    world.restore.spec.cancel = Some(true);
    let plan = world.step();
    assert!(plan.end.is_empty() && plan.start.is_empty(), "{plan}");
    assert!(plan.again_after.is_some(), "its node may be cut off, and then nobody tells");
    world.ends(Some(LastWord::Canceled { failure: failure("Canceled") }));
    world.step();
    assert_eq!(world.said(), (RestorePhase::Canceled, "Canceled".into()));

    let mut early = World::of_run();
    early.step();
    early.restore.spec.cancel = Some(true);
    let plan = early.step();
    assert_eq!((plan.end.len(), early.said().0), (1, RestorePhase::Canceled));

    let mut late = World::of_run();
    late.step();
    late.ends(Some(restored(MANIFEST)));
    late.restore.spec.cancel = Some(true);
    late.step();
    assert_eq!(late.said().0, RestorePhase::Succeeded, "it was done before it heard");
}

#[test]
fn a_suspended_restore_has_no_pod_and_goes_on() {
    let mut world = World::of_run();
    world.step();
    world.runs();
    world.restore.spec.suspend = Some(true);
    let plan = world.step();
    assert_eq!((plan.end.len(), plan.start.len()), (1, 0));
    assert!(world.holds("Suspended") && world.observed.jobs.is_empty());
    assert!(world.step().end.is_empty());
    world.restore.spec.suspend = Some(false);
    assert_eq!(world.step().start.len(), 1);
    assert!(!world.holds("Suspended"));
}

#[test]
fn what_is_not_built_or_refused_is_said_at_once() {
    let mut spec = World::new(&json!({"backup": "none"}), &json!({"pointInTime": {"lsn": "0/1"}}));
    spec.step();
    assert_eq!(spec.said(), (RestorePhase::Failed, "SpecRefused".into()));
    assert!(spec.status().failure.as_ref().unwrap().message.contains("spec.pointInTime"));

    let mut quota = World::of_run();
    quota.observed.refused = Some(failure("QuotaExceeded"));
    quota.step();
    assert_eq!(quota.said(), (RestorePhase::Pending, "QuotaExceeded".into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However pods end and whatever is asked, phases go forward, no Job is made twice, and Succeeded comes with a
    /// comparison of the chosen manifest only.
    #[test]
    fn whatever_happens_success_is_compared(moves in proptest::collection::vec(0..13_u8, 1..60)) {
        let mut world = World::of_run();
        world.step();
        let mut compared = false;
        for what in moves {
            if is_over(&world.restore) {
                break;
            }
            let steps = ["Resolving", "PreData", "Data", "Verifying"];
            let alive = |job: &ObservedJob| !matches!(job.state, JobState::Ended { .. });
            match what {
                0..=3 => world.publish(steps[usize::from(what)]),
                4 => world.restore.spec.suspend = Some(world.restore.spec.suspend != Some(true)),
                5 => world.seconds += 61,
                12 => world.restore.spec.cancel = Some(true),
                _ if !world.observed.jobs.iter().any(alive) => world.seconds += 10,
                6 => world.runs(),
                7 => world.ends(None),
                8 => world.ends(Some(LastWord::Failed { failure: failure("Throttled"), again: true })),
                9 => world.ends(Some(LastWord::NotYet { failure: failure("ServerUnreachable") })),
                10 => world.ends(Some(LastWord::Settled)),
                _ => {
                    compared = true;
                    world.ends(Some(restored(MANIFEST)));
                }
            }
            world.step();
        }
        if world.said_or_pending() == RestorePhase::Succeeded {
            prop_assert!(compared && world.status().proof.is_some());
        }
        let exclusive = ["Complete", "Failed", "Reconciling"];
        let holding = exclusive.iter().filter(|type_| world.holds(type_)).count();
        prop_assert_eq!(holding, 1);
    }
}
