//! What comes next, in worlds where pods end as they like.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use std::collections::BTreeMap;

use super::super::build::objects;
use super::super::observe::Observed;
use super::*;
use crate::api::BackupStore;
use crate::api::Kind;
use crate::api::definition::must_take;
use crate::api::digest_of_verdicts;
use crate::api::{DestinationOrder, ProcessState, RunStatus};

pub(super) const PLAN: &str = "00000000000000000000000000000001";
pub(super) const NONCE: &str = "00000000000000000000000000000002";

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// The digest of the verdict about a destination.
pub(super) fn verdict_of(destination: &str) -> String {
    crate::format::Sha256Digest::of(destination.as_bytes()).to_string()
}

/// What a probe found at a destination.
fn found(name: &str, ready: &str) -> serde_json::Value {
    let reason = if ready == "True" { "Probed" } else { "NoSuchBucket" };
    json!({"name": name, "conditions": [{
        "type": "Ready", "status": ready, "reason": reason, "message": "no bucket", "observedGeneration": 1,
        "lastTransitionTime": at(0).to_string(),
    }]})
}

pub(super) fn store() -> BackupStore {
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore",
        "metadata": {"name": "orders", "namespace": "shop", "generation": 1},
        "status": {"destinations": [found("eu", "True"), found("us", "True")]},
        "spec": {"destinations": [
            {"name": "eu", "default": true, "locality": "region=eu-west1", "s3": {"bucket": "orders-eu", "region": "eu-west-1"}},
            {"name": "us", "locality": "region=us-east1", "s3": {"bucket": "orders-us", "region": "us-east-1"}},
        ]},
    });
    serde_json::from_value(value).unwrap()
}

pub(super) fn backup(extra: &serde_json::Value) -> Backup {
    let mut spec = json!({
        "storeRef": {"name": "orders"},
        "source": {"postgres": {"database": "shop", "endpoints": [
            {"name": "eu", "locality": "region=eu-west1", "host": "pg-eu", "credentialsSecret": {"name": "pg"}},
            {"name": "us", "locality": "region=us-east1,zone=b", "host": "pg-us", "credentialsSecret": {"name": "pg"}},
        ]}},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": "first", "namespace": "shop", "uid": "u-1", "generation": 1,
                     "creationTimestamp": at(0).to_string()},
        "spec": spec,
    });
    serde_json::from_value(value).unwrap()
}

/// A cluster with one Backup: what the plans ask for is done, and the tests say what comes of it.
pub(super) struct World {
    pub(super) backup: Backup,
    pub(super) observed: Observed,
    pub(super) seconds: i64,
}

impl World {
    pub(super) fn new(extra: &serde_json::Value) -> Self {
        let observed = Observed {
            store: Some(store()),
            frozen: None,
            jobs: Vec::new(),
            ahead: 0,
            at_work: BTreeMap::new(),
            refused: None,
            unreadable: None,
        };
        Self { backup: backup(extra), observed, seconds: 0 }
    }

    /// Decides, and carries it out: the jobs that were started wait.
    pub(super) fn step(&mut self) -> Plan {
        let plan = decide(&self.backup, &self.observed, "vouchsafe:1", at(self.seconds));
        let before = self.backup.status.clone().unwrap_or_default();
        if let (Some(before), Some(after)) = (before.phase, plan.status.phase) {
            assert!(after >= before, "{before:?} became {after:?}");
        }
        must_take(Kind::Backup, &plan.status);
        let mut status = plan.status.clone();
        status.run = before.run;
        status.progress = before.progress;
        self.backup.status = Some(status);
        if let Some(given) = &plan.given
            && !plan.start.is_empty()
        {
            self.observed.frozen = Some(given.text.clone());
        }
        assert!(
            plan.start.is_empty() || plan.given.is_some(),
            "nothing is started that is not given anything"
        );
        self.observed.jobs.retain(|job| !plan.stop.iter().any(|stop| stop.name == job.name));
        for Start { process, order, attempt } in &plan.start {
            assert_ne!(*process, Process::Deleter, "a run deletes nothing");
            let name = process.job_name("first", "u-1", order, *attempt);
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

    pub(super) fn phase(&self) -> BackupPhase {
        self.backup.status.as_ref().unwrap().phase.unwrap()
    }

    pub(super) fn reason(&self) -> String {
        self.backup.status.as_ref().unwrap().failure.as_ref().map(|it| it.reason.clone()).unwrap_or_default()
    }

    pub(super) fn holds(&self, type_: &str) -> bool {
        let conditions = &self.backup.status.as_ref().unwrap().conditions;
        conditions.iter().any(|it| it.type_ == type_ && it.status == crate::api::ConditionStatus::True)
    }

    pub(super) fn job(&mut self, process: &str) -> &mut ObservedJob {
        let jobs = self.observed.jobs.iter_mut().filter(|job| job.process == process);
        jobs.max_by_key(|job| job.attempt).unwrap_or_else(|| panic!("no job of {process}"))
    }

    pub(super) fn runs(&mut self, process: &str) {
        self.job(process).state = JobState::Running { node: Some("node-1".into()), given_up_at: None };
    }

    pub(super) fn ends(&mut self, process: &str, word: Option<LastWord>) {
        let at = Some(at(self.seconds));
        let how = "its pod was ended: OOMKilled, exit code 137".into();
        self.job(process).state =
            JobState::Ended { pod: Some(format!("{process}-pod")), node: None, word, how, at };
    }

    pub(super) fn publish(&mut self, step: &str, asked: bool) {
        let attempt = self.job("coordinator").attempt;
        let order = |destination: &str| DestinationOrder {
            destination: destination.into(),
            tickets: 3,
            tickets_sha256: "a".repeat(64),
            part_sha256: asked.then(|| "b".repeat(64)),
            tickets_settled: None,
            bytes_stored: None,
        };
        self.backup.status.as_mut().unwrap().run = Some(RunStatus {
            number: Some(1),
            plan: Some(PLAN.into()),
            nonce: asked.then(|| NONCE.into()),
            attempt: Some(i64::from(attempt)),
            step: Some(step.into()),
            manifest_sha256: asked.then(|| "c".repeat(64)),
            servers: Vec::new(),
            orders: vec![order("eu"), order("us")],
            image: None,
        });
    }

    pub(super) fn export(&mut self) {
        self.step();
        self.runs("coordinator");
        self.publish("Exporting", false);
        self.step();
    }

    pub(super) fn ask(&mut self) {
        for worker in ["worker-eu", "worker-us"] {
            self.ends(worker, Some(LastWord::Settled));
        }
        self.step();
        self.publish("Verifying", true);
        self.step();
    }

    /// The coordinator is lost, and the next one begins anew: what the first has published is gone.
    pub(super) fn overtake(&mut self) {
        self.ends("coordinator", None);
        self.seconds += 100;
        assert_eq!(self.step().start.len(), 1, "the next coordinator");
        let run = RunStatus { attempt: Some(2), step: Some("Resolving".into()), ..RunStatus::default() };
        self.backup.status.as_mut().unwrap().run = Some(run);
        self.runs("coordinator");
        self.step();
    }

    pub(super) fn answer(&mut self, destination: &str) {
        let sha256 = verdict_of(destination);
        self.ends(
            &format!("verifier-{destination}"),
            Some(LastWord::Verdict { nonce: NONCE.into(), sha256 }),
        );
        self.step();
    }
}

pub(super) fn sealed(destinations: &[&str]) -> LastWord {
    let verdicts: Vec<(String, String)> =
        destinations.iter().map(|it| ((*it).to_owned(), verdict_of(it))).collect();
    LastWord::Sealed {
        run: 1,
        manifest_sha256: "c".repeat(64),
        verdicts_sha256: digest_of_verdicts(verdicts.iter().map(|(name, sha256)| (&**name, &**sha256))),
        objects_read: 9,
        bytes_read: 9,
        rows: 9,
        bytes_stored: 9,
        sealed_at: at(9).to_string(),
        taken: at(1).to_string(),
        errors: [("Throttled".to_owned(), 2)].into(),
    }
}

pub(super) fn failure(reason: &str) -> Failure {
    Failure { reason: reason.into(), message: "why".into(), hint: "what to do".into() }
}

#[test]
fn a_backup_runs_through_and_succeeds_by_its_witnesses() {
    let mut world = World::new(&json!({}));
    let plan = world.step();
    assert_eq!(plan.to_string(), "start coordinator, attempt 1; waits for its pods");
    assert_eq!(world.phase(), BackupPhase::Pending);
    world.runs("coordinator");
    world.publish("Exporting", false);
    let started: Vec<String> = world.step().start.iter().map(|it| it.process.to_string()).collect();
    assert_eq!(
        (started, world.phase()),
        (vec!["worker-eu".into(), "worker-us".into()], BackupPhase::Exporting)
    );
    assert!(world.step().start.is_empty(), "each is started once");
    world.ask();
    world.answer("eu");
    assert_eq!(world.phase(), BackupPhase::Verifying);
    world.answer("us");
    let proof = world.backup.status.as_ref().unwrap().proof.clone().unwrap();
    assert_eq!((proof.witnesses.len(), proof.sealed_at), (2, None), "witnesses are recorded before the seal");
    world.ends("coordinator", Some(sealed(&["eu", "us"])));
    world.step();
    assert_eq!(world.phase(), BackupPhase::Succeeded);
    assert!(world.holds("Complete") && !world.holds("Failed"));
    assert!(!world.holds("Reconciling") && !world.holds("Stalled"));
}

#[test]
fn nothing_is_read_back_while_a_worker_is_left() {
    let mut world = World::new(&json!({}));
    world.export();
    world.ends("worker-eu", Some(LastWord::Settled));
    world.runs("worker-us");
    world.publish("Verifying", true);
    let plan = world.step();
    assert!(plan.start.is_empty() && plan.waits.contains("worker-us"), "{plan}");
}

#[test]
fn a_process_that_was_killed_is_started_anew_and_not_for_ever() {
    let mut world = World::new(&json!({}));
    world.export();
    world.ends("worker-eu", Some(LastWord::Settled));
    for attempt in 1..ATTEMPTS {
        world.ends("worker-us", None);
        let pause = world.step().again_after.expect("a pause");
        world.seconds += i64::try_from(pause.as_secs()).unwrap() + 1;
        assert_eq!(world.step().start.len(), 1, "attempt {}", attempt + 1);
    }
    world.ends("worker-us", None);
    assert!(world.step().start.is_empty());
    let processes = &world.backup.status.as_ref().unwrap().processes;
    let worker = processes.iter().find(|it| it.name == "worker-us").unwrap();
    assert_eq!(worker.state, ProcessState::Failed);
    assert!(worker.failure.as_ref().unwrap().message.contains("OOMKilled"));
    assert_eq!(world.phase(), BackupPhase::Exporting, "it is for the coordinator to void the run");
    let void = LastWord::Void { run: Some(1), failure: failure("ProcessFailed"), canceled: false };
    world.ends("coordinator", Some(void));
    world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Failed, "ProcessFailed".into()));
}

#[test]
fn a_worker_whose_failure_is_for_good_is_not_started_anew() {
    let mut world = World::new(&json!({}));
    world.export();
    world.ends("worker-us", Some(LastWord::Failed { failure: failure("Forbidden"), again: false }));
    assert!(world.step().start.is_empty());
    let processes = &world.backup.status.as_ref().unwrap().processes;
    assert_eq!(processes.iter().find(|it| it.name == "worker-us").unwrap().state, ProcessState::Failed);
}

/// A coordinator that was replaced has published orders that are nobody's any more.
#[test]
fn orders_of_an_earlier_attempt_start_nothing() {
    let mut world = World::new(&json!({}));
    world.step();
    world.publish("Exporting", false);
    world.ends("coordinator", None);
    world.seconds += 100;
    let plan = world.step();
    assert_eq!(plan.start.iter().map(|it| it.process.to_string()).collect::<Vec<_>>(), ["coordinator"]);
    assert!(world.step().start.is_empty());
}

#[test]
fn a_store_that_is_not_there_is_waited_for_and_one_that_changes_is_not_followed() {
    let mut world = World::new(&json!({}));
    world.observed.store = None;
    assert!(world.step().start.is_empty());
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Pending, "StoreNotFound".into()));
    world.observed.store = Some(store());
    assert_eq!(world.step().start.len(), 1);
    assert_eq!(world.reason(), "");
    let frozen = objects(&world.backup, &store());
    world.observed.store.as_mut().unwrap().spec.destinations.pop();
    assert_eq!(world.step().given.unwrap().text, frozen);
}

#[test]
fn destinations_that_are_not_ready_are_waited_for_and_only_those_that_it_writes_to() {
    let mut world = World::new(&json!({}));
    let status = |us: &str| {
        serde_json::from_value(json!({"destinations": [found("eu", "True"), found("us", us)]})).unwrap()
    };
    world.observed.store.as_mut().unwrap().status = None;
    assert!(world.step().again_after.is_some_and(|after| after <= std::time::Duration::from_secs(5)));
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Pending, "Probing".into()));
    world.observed.store.as_mut().unwrap().status = Some(status("False"));
    assert!(world.step().start.is_empty());
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Pending, "NoSuchBucket".into()));
    // What was found of another spec says nothing.
    world.observed.store.as_mut().unwrap().status = Some(status("True"));
    world.observed.store.as_mut().unwrap().metadata.generation = Some(2);
    world.step();
    assert_eq!(world.reason(), "Probing");
    world.observed.store.as_mut().unwrap().metadata.generation = Some(1);
    assert_eq!(world.step().start.len(), 1);
    // What has begun goes on.
    world.observed.store.as_mut().unwrap().status = Some(status("False"));
    world.runs("coordinator");
    world.publish("Exporting", false);
    assert_eq!(world.step().start.len(), 2);

    let only_eu = json!({"source": {"postgres": {"database": "shop", "endpoints": [
        {"name": "eu", "locality": "region=eu-west1", "host": "pg-eu", "credentialsSecret": {"name": "pg"}},
    ]}}});
    let mut elsewhere = World::new(&only_eu);
    elsewhere.observed.store.as_mut().unwrap().status = Some(status("False"));
    assert_eq!(elsewhere.step().start.len(), 1, "the other destination is not its own");
}

#[test]
fn a_canceled_run_is_canceled_and_an_ended_one_stays() {
    let mut world = World::new(&json!({}));
    world.step();
    world.ends(
        "coordinator",
        Some(LastWord::Void { run: Some(1), failure: failure("Canceled"), canceled: true }),
    );
    world.step();
    assert_eq!(world.phase(), BackupPhase::Canceled);
    assert!(is_over(&world.backup));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However pods end, phases go forward, no Job is made twice, and Succeeded comes with both witnesses only.
    #[test]
    fn whatever_pods_do_success_is_witnessed(moves in proptest::collection::vec((0..8_u8, 0..5_u8), 1..60)) {
        let mut world = World::new(&json!({}));
        world.step();
        for (who, what) in moves {
            if is_over(&world.backup) {
                break;
            }
            let names = ["coordinator", "worker-eu", "worker-us", "verifier-eu", "verifier-us"];
            match names.get(usize::from(who)) {
                Some(name) if world.observed.jobs.iter().any(|job| job.process == *name) => {
                    let word = match (*name, what) {
                        (_, 0) => None,
                        ("coordinator", 1) => Some(sealed(&["eu", "us"])),
                        ("coordinator", 2) => Some(LastWord::LeftOpen { failure: failure("LeftOpen") }),
                        (name, 1 | 2) if name.starts_with("worker") => Some(LastWord::Settled),
                        (name, 1 | 2) => {
                            let sha256 = verdict_of(name.trim_start_matches("verifier-"));
                            Some(LastWord::Verdict { nonce: NONCE.into(), sha256 })
                        }
                        (_, 3) => Some(LastWord::Failed { failure: failure("Throttled"), again: true }),
                        _ => { world.runs(name); continue; }
                    };
                    world.ends(name, word);
                }
                Some(_) => {}
                None if who == 5 => world.publish("Exporting", false),
                None if who == 6 => world.publish("Verifying", true),
                None => world.seconds += SignedDuration::from_secs(61).as_secs(),
            }
            world.step();
        }
        if world.phase() == BackupPhase::Succeeded {
            let witnesses = world.backup.status.as_ref().unwrap().proof.as_ref().unwrap().witnesses.clone();
            let mut named: Vec<&str> = witnesses.iter().map(|it| it.destination.as_str()).collect();
            named.sort_unstable();
            prop_assert_eq!(named, ["eu", "us"]);
        }
    }
}

/// Nothing is begun whose data nobody could delete as the user wants it; once the store can, it is.
#[test]
fn one_that_is_to_be_deleted_with_its_data_waits_for_credentials_that_may() {
    let with = |secrets: serde_json::Value| {
        let mut store = json!(store());
        for (key, value) in secrets.as_object().unwrap() {
            store["spec"]["destinations"][0][key] = value.clone();
        }
        Some(serde_json::from_value(store).unwrap())
    };
    let writer = json!({"credentialsSecret": {"name": "writer"}});
    let mut world = World::new(&json!({"deletionPolicy": "Delete"}));
    world.observed.store = with(writer.clone());
    let plan = world.step();
    let failure = plan.status.failure.clone().unwrap();
    assert_eq!((plan.start.len(), failure.reason.as_str()), (0, "DeleteCredentialsMissing"), "{failure:?}");
    assert_eq!(plan.status.phase, Some(BackupPhase::Pending));
    world.observed.store = with(
        json!({"credentialsSecret": {"name": "writer"}, "deleteCredentialsSecret": {"name": "deleter"}}),
    );
    assert_eq!(world.step().start.len(), 1);
    // Who says Retain needs none.
    let mut world = World::new(&json!({}));
    world.observed.store = with(writer);
    assert_eq!(world.step().start.len(), 1);
}
