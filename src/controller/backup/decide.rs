//! What is to be done next for a Backup, as a value. Pure: what there is and what time it is are passed in.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::core::object::HasStatus;

use super::observe::Observed;
use super::{conditions, readiness};
use crate::api::{
    Backup, BackupPhase, BackupStatus, BackupStore, Document, Failure, LastWord, Proof, RunStatus,
    ValidatedBackup, ValidatedBackupStore, Witness, digest_of_verdicts, parse_documents,
};
use crate::controller::attempts::{ATTEMPTS, Attempts, FIRST_PAUSE, Followed, LONGEST_PAUSE, Start};
use crate::controller::jobs::{JobState, ObservedJob};
use crate::controller::process::Process;
use crate::controller::reasons::ControllerReason as Reason;
use crate::controller::store::StoreReason;

/// Attempts of a coordinator. More than of the others: it is the one that a run can't end without.
const COORDINATOR_ATTEMPTS: u32 = 20;

/// How long a coordinator is waited for after the deadline, which it knows itself: it has to abort its uploads and
/// to win a Void.
const AFTER_DEADLINE: SignedDuration = SignedDuration::from_mins(5);

/// What comes next.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Jobs to make.
    pub start: Vec<Start>,
    /// The resources that pods are given; absent where nothing is to be started.
    pub given: Option<Given>,
    /// The status as it is now: the controller's own part of it.
    pub status: BackupStatus,
    /// What it waits for.
    pub waits: String,
    /// When to look again without an event.
    pub again_after: Option<Duration>,
    /// What is left of the time for all of it.
    pub time_left: Option<Duration>,
}

/// A Backup and its store, as they were when the run began.
#[derive(Clone, Debug)]
pub struct Given {
    /// As pods read them.
    pub text: String,
    /// Whether the cluster has that text already.
    pub frozen: bool,
    /// The Backup.
    pub backup: ValidatedBackup,
    /// The store.
    pub store: ValidatedBackupStore,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for start in &self.start {
            write!(f, "{start}; ")?;
        }
        f.write_str(&self.waits)
    }
}

/// Whether the Backup has ended.
#[must_use]
pub fn is_over(backup: &Backup) -> bool {
    let phase = backup.status().and_then(|status| status.phase);
    matches!(phase, Some(BackupPhase::Succeeded | BackupPhase::Failed | BackupPhase::Canceled))
}

/// What comes next.
#[must_use]
pub fn decide(backup: &Backup, observed: &Observed, now: Timestamp) -> Plan {
    let mut draft = Draft::new(backup, observed, now);
    let given = match given(backup, observed) {
        Ok(given) => given,
        Err(Unready::Waits(failure)) => return draft.waits(failure),
        Err(Unready::Refused(failure)) => return draft.fails(failure),
    };
    draft.over_time(&given);
    let mut draft = match draft.coordinator() {
        ControlFlow::Continue(draft) => draft,
        ControlFlow::Break(ended) => return ended,
    };
    draft.workers(&given);
    draft.verifiers(observed);
    draft.goes_on(given)
}

enum Unready {
    Waits(Failure),
    Refused(Failure),
}

/// The resources as the run's pods have them, or will have them.
fn given(backup: &Backup, observed: &Observed) -> Result<Given, Unready> {
    let refused = |message: String| {
        Unready::Refused(Reason::SpecRefused.failure(message, "make a Backup anew, with what each line says"))
    };
    let (backup, store, text, frozen) = match &observed.frozen {
        Some(text) => {
            let (backup, store) = thawed(text)
                .ok_or_else(|| refused("what its pods were given can't be read any more".into()))?;
            (backup, store, text.clone(), true)
        }
        None => {
            let name = &backup.spec.store_ref.name;
            let store = observed.store.clone().ok_or_else(|| {
                let message = format!("spec.storeRef: there is no BackupStore {name} in this namespace");
                Unready::Waits(Reason::StoreNotFound.failure(message, "create it, or mind the spelling"))
            })?;
            let text = super::build::objects(backup, &store);
            (backup.clone(), store, text, false)
        }
    };
    let raw = store.clone();
    let backup = ValidatedBackup::try_from(backup).map_err(|refusals| refused(refusals.to_string()))?;
    let store = ValidatedBackupStore::try_from(store).map_err(|refusals| refused(refusals.to_string()))?;
    // What has begun goes on: its own attempts and its deadline say for how long.
    if !frozen && let Some(failure) = readiness::hindrance(&backup.spec, &store, &raw) {
        return Err(Unready::Waits(failure));
    }
    Ok(Given { text, frozen, backup, store })
}

fn thawed(text: &str) -> Option<(Backup, BackupStore)> {
    let (mut backup, mut store) = (None, None);
    for document in parse_documents(text).ok()? {
        match document {
            Document::Backup(found) => backup = Some(*found),
            Document::BackupStore(found) => store = Some(*found),
            _ => {}
        }
    }
    backup.zip(store)
}

/// A plan in the making.
struct Draft<'a> {
    backup: &'a Backup,
    /// What the coordinator has published.
    run: RunStatus,
    status: BackupStatus,
    attempts: Attempts<'a>,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    fn new(backup: &'a Backup, observed: &'a Observed, now: Timestamp) -> Self {
        let mut status = backup.status.clone().unwrap_or_default();
        let run = status.run.take().unwrap_or_default();
        status.progress = None;
        status.observed_generation = backup.metadata.generation;
        let processes = std::mem::take(&mut status.processes);
        let (name, uid) = (backup.metadata.name.as_deref(), backup.metadata.uid.as_deref());
        let (name, uid) = (name.unwrap_or_default(), uid.unwrap_or_default());
        let attempts = Attempts::new(name, uid, processes, &observed.jobs, now);
        Self { backup, run, status, attempts, now }
    }

    fn plan(mut self, waits: impl Into<String>) -> Plan {
        let Attempts { processes, start, again_after, .. } = self.attempts;
        self.status.processes = processes;
        conditions::set(&mut self.status, &self.run, self.backup.metadata.generation, self.now);
        let status = self.status;
        Plan { start, given: None, status, waits: waits.into(), again_after, time_left: None }
    }

    /// It is over: nothing is started, and nothing waited for.
    fn ends(mut self, phase: BackupPhase, said: impl Into<String>) -> Plan {
        self.status.phase = Some(phase);
        self.attempts.start.clear();
        self.attempts.again_after = None;
        self.plan(said)
    }

    fn reach(&mut self, phase: BackupPhase) {
        self.status.phase = Some(self.status.phase.map_or(phase, |reached| reached.max(phase)));
    }

    /// Nothing has begun: it waits for what is not there yet.
    fn waits(mut self, failure: Failure) -> Plan {
        self.reach(BackupPhase::Pending);
        let waits = failure.message.clone();
        let soon = failure.reason == StoreReason::Probing.reason();
        self.status.failure = Some(failure);
        self.attempts.again_after = Some(if soon { FIRST_PAUSE } else { LONGEST_PAUSE });
        self.plan(waits)
    }

    fn fails(mut self, failure: Failure) -> Plan {
        let said = format!("failed: {}", failure.message);
        self.status.failure = Some(failure);
        self.ends(BackupPhase::Failed, said)
    }

    /// What is left of the time for all of it; `None` without a deadline.
    fn left(&self, given: &Given) -> Option<SignedDuration> {
        let limit = SignedDuration::try_from(given.backup.spec.deadline?).ok()?;
        let begun = self.backup.metadata.creation_timestamp.as_ref()?.0;
        Some(limit - self.now.duration_since(begun))
    }

    fn over_time(&mut self, given: &Given) {
        if let Some(left) = self.left(given) {
            let wait = if left.is_positive() { left } else { left + AFTER_DEADLINE };
            self.attempts.look_again(Duration::try_from(wait).unwrap_or(FIRST_PAUSE).max(FIRST_PAUSE));
        }
    }

    /// The coordinator's part: whether the run has ended, else whether it is to be started.
    fn coordinator(mut self) -> ControlFlow<Plan, Self> {
        self.reach(BackupPhase::Pending);
        if let Some(step) = self.run.step.as_deref() {
            self.reach(phase_of(step));
        }
        self.status.failure = None;
        let word = match self.attempts.follow(Process::Coordinator, "run", COORDINATOR_ATTEMPTS) {
            Followed::Said(word) => word,
            Followed::Goes => return ControlFlow::Continue(self),
            Followed::GivenUp(failure) => {
                let message = format!("no coordinator could go on: {}", failure.message);
                let unknown =
                    Reason::OutcomeUnknown.failure(message, "vouchsafe list says how the run stands");
                return ControlFlow::Break(self.fails(unknown));
            }
        };
        match word {
            LastWord::Sealed { .. } => ControlFlow::Break(self.sealed(&word)),
            LastWord::Void { failure, canceled: true, .. } => {
                self.status.failure = Some(failure);
                ControlFlow::Break(self.ends(BackupPhase::Canceled, "canceled"))
            }
            LastWord::Void { failure, canceled: false, .. } => ControlFlow::Break(self.fails(failure)),
            _ => ControlFlow::Continue(self),
        }
    }

    /// Succeeded, if every destination has a witness that this controller itself recorded, and the seal names just
    /// those.
    fn sealed(mut self, word: &LastWord) -> Plan {
        let LastWord::Sealed {
            run,
            manifest_sha256,
            verdicts_sha256,
            objects_read,
            bytes_read,
            rows,
            bytes_stored: _,
            sealed_at,
        } = word
        else {
            return self.plan("no seal");
        };
        let proof = self.status.proof.clone().unwrap_or_default();
        let nonce = self.run.nonce.clone().unwrap_or_default();
        let of_nonce: Vec<&Witness> = proof.witnesses.iter().filter(|it| it.nonce == nonce).collect();
        let recorded = digest_of_verdicts(
            of_nonce.iter().map(|it| (it.destination.as_str(), it.verdict_sha256.as_str())),
        );
        let complete = !self.run.orders.is_empty()
            && self.run.orders.iter().all(|it| of_nonce.iter().any(|w| w.destination == it.destination));
        if !complete || recorded != *verdicts_sha256 {
            let message = format!(
                "its coordinator says that run {run} is sealed, and the verifiers' pods have not left those verdicts"
            );
            return self
                .fails(Reason::WitnessesDiffer.failure(message, "don't trust this run: verify it by hand"));
        }
        let number = |value: &u64| i64::try_from(*value).ok();
        self.status.proof = Some(Proof {
            manifest_sha256: Some(manifest_sha256.clone()),
            objects_read: number(objects_read),
            bytes_read: number(bytes_read),
            rows_counted: number(rows),
            sealed_at: Some(sealed_at.clone()),
            witnesses: of_nonce.into_iter().cloned().collect(),
        });
        self.ends(BackupPhase::Succeeded, "sealed, and witnessed")
    }

    /// One worker for each destination with tickets, once they are published.
    fn workers(&mut self, given: &Given) {
        let Some(plan) = self.run.plan.clone() else { return };
        if self.run.step.as_deref() != Some("Exporting") || !self.is_live() {
            return;
        }
        for order in self.run.orders.clone() {
            if order.tickets > 0 && given.store.destinations.iter().any(|it| it.name == order.destination) {
                self.attempts.follow(Process::Worker(order.destination), &plan, ATTEMPTS);
            }
        }
    }

    /// Whether what is published is this attempt's: an earlier coordinator's orders are not carried out.
    fn is_live(&self) -> bool {
        let attempt = self.attempts.process("coordinator").map(|it| it.attempt);
        attempt.is_some() && self.run.attempt == attempt
    }

    /// One verifier for each destination, once the questions are published and no worker is left.
    fn verifiers(&mut self, observed: &Observed) {
        let (Some(plan), Some(nonce)) = (self.run.plan.clone(), self.run.nonce.clone()) else { return };
        if self.run.manifest_sha256.is_none() || !self.is_live() {
            return;
        }
        let at_work = |job: &&ObservedJob| {
            job.process.starts_with("worker-") && !matches!(job.state, JobState::Ended { .. })
        };
        if let Some(job) = observed.jobs.iter().find(at_work) {
            self.attempts.waits.push(format!("for {} to end before anything is read back", job.process));
            return;
        }
        let order = format!("{plan} {nonce}");
        for destination in self.run.orders.clone() {
            let process = Process::Verifier(destination.destination.clone());
            let Followed::Said(LastWord::Verdict { nonce: of, sha256 }) =
                self.attempts.follow(process.clone(), &order, ATTEMPTS)
            else {
                continue;
            };
            let job = observed
                .jobs
                .iter()
                .rev()
                .find(|job| job.process == process.to_string() && job.order == order);
            let Some(JobState::Ended { pod: Some(pod), .. }) = job.map(|job| &job.state) else { continue };
            if of == nonce {
                let witness = Witness {
                    destination: destination.destination,
                    pod: pod.clone(),
                    nonce: nonce.clone(),
                    verdict_sha256: sha256,
                };
                self.record(witness);
            }
        }
    }

    /// The first witness of a destination and nonce stays.
    fn record(&mut self, witness: Witness) {
        let proof = self.status.proof.get_or_insert_default();
        proof.witnesses.retain(|it| it.nonce == witness.nonce);
        if !proof.witnesses.iter().any(|it| it.destination == witness.destination) {
            proof.witnesses.push(witness);
        }
    }

    fn goes_on(mut self, given: Given) -> Plan {
        if self.status.failure.is_none() {
            self.status.failure = self.attempts.hindrance.take();
        }
        if let Some(left) = self.left(&given) {
            let never_began = self.run.number.is_none();
            let late = if never_began { SignedDuration::ZERO } else { AFTER_DEADLINE };
            if (left + late).is_negative() {
                let waited = self.attempts.waits.join("; ");
                let (reason, message) = match never_began {
                    true => (Reason::DeadlineExceeded, format!("no run was begun in time: {waited}")),
                    false => (Reason::OutcomeUnknown, format!("the run was not decided in time: {waited}")),
                };
                return self.fails(reason.failure(message, "look at its pods, and make a Backup anew"));
            }
        }
        let waits = match self.attempts.waits.is_empty() {
            true => "waits for its pods".to_owned(),
            false => format!("waits {}", self.attempts.waits.join("; ")),
        };
        let time_left = self.left(&given).and_then(|left| Duration::try_from(left).ok());
        let mut plan = self.plan(waits);
        plan.time_left = time_left;
        plan.given = Some(given);
        plan
    }
}

/// How far a step of the coordinator is.
fn phase_of(step: &str) -> BackupPhase {
    match step {
        "Exporting" | "Counting" => BackupPhase::Exporting,
        "WritingMetadata" => BackupPhase::WritingMetadata,
        "Verifying" | "Sealing" => BackupPhase::Verifying,
        _ => BackupPhase::Resolving,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
