//! What is to be done next for a Backup, as a value. Pure: what there is and what time it is are passed in.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::core::object::HasStatus;

use super::conditions;
use super::observe::{JobState, Observed, ObservedJob};
use super::reasons::ControllerReason as Reason;
use crate::api::{
    Backup, BackupPhase, BackupStatus, BackupStore, Document, Failure, LastWord, ProcessState, ProcessStatus,
    Proof, RunStatus, ValidatedBackup, ValidatedBackupStore, Witness, digest_of_verdicts, parse_documents,
};
use crate::controller::process::Process;

/// Attempts of a worker or verifier for one order. Its receipts, or the bucket, are its checkpoint, so an attempt
/// is cheap; but what fails so often fails for a reason.
const ATTEMPTS: u32 = 6;

/// Attempts of a coordinator. More than of the others: it is the one that a run can't end without.
const COORDINATOR_ATTEMPTS: u32 = 20;

/// The first pause between two attempts; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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

/// One Job to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which process.
    pub process: Process,
    /// What for.
    pub order: String,
    /// Which attempt.
    pub attempt: u32,
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
        for Start { process, attempt, .. } in &self.start {
            write!(f, "start {process}, attempt {attempt}; ")?;
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
    let mut draft = Draft::new(backup, now);
    let given = match given(backup, observed) {
        Ok(given) => given,
        Err(Unready::Waits(failure)) => return draft.waits(failure),
        Err(Unready::Refused(failure)) => return draft.fails(failure),
    };
    draft.over_time(&given);
    if let Some(ended) = draft.coordinator(observed) {
        return ended;
    }
    draft.workers(&given, observed);
    draft.verifiers(observed);
    draft.goes_on(given)
}

enum Unready {
    Waits(Failure),
    Refused(Failure),
}

fn said(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure { reason: reason.reason().to_owned(), message: message.into(), hint: hint.into() }
}

/// The resources as the run's pods have them, or will have them.
fn given(backup: &Backup, observed: &Observed) -> Result<Given, Unready> {
    let refused = |message: String| {
        Unready::Refused(said(Reason::SpecRefused, message, "make a Backup anew, with what each line says"))
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
                Unready::Waits(said(Reason::StoreNotFound, message, "create it, or mind the spelling"))
            })?;
            let text = super::build::objects(backup, &store);
            (backup.clone(), store, text, false)
        }
    };
    let backup = ValidatedBackup::try_from(backup).map_err(|refusals| refused(refusals.to_string()))?;
    let store = ValidatedBackupStore::try_from(store).map_err(|refusals| refused(refusals.to_string()))?;
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
    start: Vec<Start>,
    waits: Vec<String>,
    again_after: Option<Duration>,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    fn new(backup: &'a Backup, now: Timestamp) -> Self {
        let mut status = backup.status.clone().unwrap_or_default();
        let run = status.run.take().unwrap_or_default();
        status.progress = None;
        status.observed_generation = backup.metadata.generation;
        Self { backup, run, status, start: Vec::new(), waits: Vec::new(), again_after: None, now }
    }

    fn plan(mut self, waits: impl Into<String>) -> Plan {
        conditions::set(&mut self.status, &self.run, self.backup.metadata.generation, self.now);
        let (status, start) = (self.status, self.start);
        let again_after = self.again_after;
        Plan { start, given: None, status, waits: waits.into(), again_after, time_left: None }
    }

    fn reach(&mut self, phase: BackupPhase) {
        self.status.phase = Some(self.status.phase.map_or(phase, |reached| reached.max(phase)));
    }

    /// Nothing has begun: it waits for what is not there yet.
    fn waits(mut self, failure: Failure) -> Plan {
        self.reach(BackupPhase::Pending);
        let waits = failure.message.clone();
        self.status.failure = Some(failure);
        self.again_after = Some(LONGEST_PAUSE);
        self.plan(waits)
    }

    fn fails(mut self, failure: Failure) -> Plan {
        let said = format!("failed: {}", failure.message);
        self.status.failure = Some(failure);
        self.status.phase = Some(BackupPhase::Failed);
        self.start.clear();
        self.again_after = None;
        self.plan(said)
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
            self.look_again(Duration::try_from(wait).unwrap_or(FIRST_PAUSE).max(FIRST_PAUSE));
        }
    }

    fn look_again(&mut self, after: Duration) {
        self.again_after = Some(self.again_after.map_or(after, |known| known.min(after)));
    }

    /// The coordinator's part: whether the run has ended, else whether it is to be started.
    fn coordinator(&mut self, observed: &Observed) -> Option<Plan> {
        self.reach(BackupPhase::Pending);
        if let Some(step) = self.run.step.as_deref() {
            self.reach(phase_of(step));
        }
        self.status.failure = None;
        let order = "run".to_owned();
        let word = match self.follow(Process::Coordinator, &order, observed, COORDINATOR_ATTEMPTS) {
            Followed::Said(word) => word,
            Followed::Goes => return None,
            Followed::GivenUp(failure) => {
                let message = format!("no coordinator could go on: {}", failure.message);
                let unknown = said(Reason::OutcomeUnknown, message, "vouchsafe list says how the run stands");
                return Some(self.take().fails(unknown));
            }
        };
        match word {
            LastWord::Sealed { .. } => Some(self.take().sealed(&word)),
            LastWord::Void { failure, canceled, .. } => {
                let mut draft = self.take();
                if canceled {
                    draft.status.phase = Some(BackupPhase::Canceled);
                    draft.status.failure = Some(failure);
                    draft.start.clear();
                    return Some(draft.plan("canceled"));
                }
                Some(draft.fails(failure))
            }
            _ => None,
        }
    }

    fn take(&mut self) -> Self {
        let Self { backup, run, status, start, waits, again_after, now } = self;
        Self {
            backup,
            run: std::mem::take(run),
            status: std::mem::take(status),
            start: std::mem::take(start),
            waits: std::mem::take(waits),
            again_after: again_after.take(),
            now: *now,
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
            return self.fails(said(
                Reason::WitnessesDiffer,
                message,
                "don't trust this run: verify it by hand",
            ));
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
        self.status.phase = Some(BackupPhase::Succeeded);
        self.again_after = None;
        self.plan("sealed, and witnessed")
    }

    /// One worker for each destination with tickets, once they are published.
    fn workers(&mut self, given: &Given, observed: &Observed) {
        let Some(plan) = self.run.plan.clone() else { return };
        if self.run.step.as_deref() != Some("Exporting") || !self.is_live() {
            return;
        }
        for order in self.run.orders.clone() {
            if order.tickets > 0 && given.store.destinations.iter().any(|it| it.name == order.destination) {
                self.follow(Process::Worker(order.destination), &plan, observed, ATTEMPTS);
            }
        }
    }

    /// Whether what is published is this attempt's: an earlier coordinator's orders are not carried out.
    fn is_live(&self) -> bool {
        let attempt = self.process("coordinator").map(|it| it.attempt);
        attempt.is_some() && self.run.attempt == attempt
    }

    fn process(&self, name: &str) -> Option<&ProcessStatus> {
        self.status.processes.iter().find(|it| it.name == name)
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
            self.waits.push(format!("for {} to end before anything is read back", job.process));
            return;
        }
        let order = format!("{plan} {nonce}");
        for destination in self.run.orders.clone() {
            let process = Process::Verifier(destination.destination.clone());
            let Followed::Said(LastWord::Verdict { nonce: of, sha256 }) =
                self.follow(process.clone(), &order, observed, ATTEMPTS)
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

    fn goes_on(self, given: Given) -> Plan {
        if let Some(left) = self.left(&given) {
            let never_began = self.run.number.is_none();
            let late = if never_began { SignedDuration::ZERO } else { AFTER_DEADLINE };
            if (left + late).is_negative() {
                let waited = self.waits.join("; ");
                let (reason, message) = match never_began {
                    true => (Reason::DeadlineExceeded, format!("no run was begun in time: {waited}")),
                    false => (Reason::OutcomeUnknown, format!("the run was not decided in time: {waited}")),
                };
                return self.fails(said(reason, message, "look at its pods, and make a Backup anew"));
            }
        }
        let waits = match self.waits.is_empty() {
            true => "waits for its pods".to_owned(),
            false => format!("waits {}", self.waits.join("; ")),
        };
        let time_left = self.left(&given).and_then(|left| Duration::try_from(left).ok());
        let mut plan = self.plan(waits);
        plan.time_left = time_left;
        plan.given = Some(given);
        plan
    }

    /// What became of a process: its newest attempt is started, waited for, or started anew.
    fn follow(&mut self, process: Process, order: &str, observed: &Observed, attempts: u32) -> Followed {
        let name = process.to_string();
        let known = self.process(&name).filter(|it| it.order == order);
        let known_attempt = known.map_or(0, |it| u32::try_from(it.attempt).unwrap_or(u32::MAX));
        if let Some(ProcessStatus { state: ProcessState::Failed, failure: Some(failure), .. }) = known {
            return Followed::GivenUp(failure.clone());
        }
        let jobs = observed.jobs.iter().filter(|job| job.process == name && job.order == order);
        let newest = jobs.max_by_key(|job| job.attempt).filter(|job| job.attempt >= known_attempt);
        let Some(job) = newest else {
            // Never made, or made and taken away by somebody.
            let attempt = known_attempt.max(1);
            self.begin(process, order, attempt);
            return Followed::Goes;
        };
        let job = job.clone();
        let (state, node, failure) = match &job.state {
            JobState::Waiting(failure) => {
                if let Some(failure) = failure {
                    self.waits.push(format!("for {name}: {}", failure.message));
                    self.status.failure.get_or_insert_with(|| failure.clone());
                }
                (ProcessState::Waiting, None, failure.clone())
            }
            JobState::Running { node } => (ProcessState::Running, node.clone(), None),
            JobState::Ended { word: Some(word), node, .. } if is_final(word) => {
                self.note(&name, order, &job, (ProcessState::Done, node.clone(), None));
                return Followed::Said(word.clone());
            }
            JobState::Ended { node, word, how, at, .. } => {
                let failure = match word {
                    Some(LastWord::Failed { failure, .. } | LastWord::LeftOpen { failure }) => {
                        failure.clone()
                    }
                    _ => said(
                        Reason::ProcessFailed,
                        format!("{name}, attempt {}, left no word: {how}", job.attempt),
                        "kubectl logs and kubectl describe pod say more",
                    ),
                };
                let hopeless = matches!(word, Some(LastWord::Failed { again: false, .. }));
                if hopeless || job.attempt >= attempts {
                    let state = (ProcessState::Failed, node.clone(), Some(failure.clone()));
                    self.note(&name, order, &job, state);
                    return Followed::GivenUp(failure);
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << job.attempt.min(10)).min(LONGEST_PAUSE);
                let due = at.map_or(self.now, |at| at + pause);
                if due <= self.now {
                    self.begin(process, order, job.attempt + 1);
                    return Followed::Goes;
                }
                let left = Duration::try_from(due.duration_since(self.now)).unwrap_or(pause);
                self.look_again(left);
                self.waits.push(format!("before attempt {} of {name}: {}", job.attempt + 1, failure.message));
                (ProcessState::Waiting, node.clone(), Some(failure))
            }
        };
        self.note(&name, order, &job, (state, node, failure));
        Followed::Goes
    }

    fn begin(&mut self, process: Process, order: &str, attempt: u32) {
        let uid = self.backup.metadata.uid.as_deref().unwrap_or_default();
        let resource = self.backup.metadata.name.as_deref().unwrap_or_default();
        let name = process.to_string();
        let job = ObservedJob {
            name: process.job_name(resource, uid, order, attempt),
            process: name.clone(),
            order: order.to_owned(),
            attempt,
            state: JobState::Waiting(None),
        };
        self.note(&name, order, &job, (ProcessState::Waiting, None, None));
        self.start.push(Start { process, order: order.to_owned(), attempt });
    }

    fn note(
        &mut self,
        name: &str,
        order: &str,
        job: &ObservedJob,
        (state, node, failure): (ProcessState, Option<String>, Option<Failure>),
    ) {
        let status = ProcessStatus {
            name: name.to_owned(),
            job: job.name.clone(),
            order: order.to_owned(),
            attempt: i64::from(job.attempt),
            state,
            node,
            failure,
        };
        match self.status.processes.iter_mut().find(|it| it.name == name) {
            Some(known) => *known = status,
            None => self.status.processes.push(status),
        }
    }
}

enum Followed {
    /// It is to be started, or it is at work.
    Goes,
    /// It has done its part.
    Said(LastWord),
    /// No attempt is left.
    GivenUp(Failure),
}

/// Whether another attempt would say no more.
const fn is_final(word: &LastWord) -> bool {
    match word {
        LastWord::Sealed { .. }
        | LastWord::Void { .. }
        | LastWord::Settled
        | LastWord::Verdict { .. }
        | LastWord::Pruned { .. } => true,
        LastWord::LeftOpen { .. } | LastWord::Failed { .. } => false,
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
