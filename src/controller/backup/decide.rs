//! What is to be done next for a Backup, as a value. Pure: what there is and what time it is are passed in.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::core::object::HasStatus;

use super::conditions::{self, Held};
use super::given::{Given, Unready, given};
use super::observe::Observed;
use super::{history, localities, resolved};
use crate::api::quantity::parse_duration;
use crate::api::{
    Backup, BackupPhase, BackupStatus, Failure, LastWord, ProcessState, ProcessStatus, RunStatus, Witness,
};
use crate::controller::attempts::{ATTEMPTS, Attempts, FIRST_PAUSE, Followed, LONGEST_PAUSE, Start, Stop};
use crate::controller::jobs::{JobState, ObservedJob};
use crate::controller::process::Process;
use crate::controller::reasons::{ControllerReason as Reason, cut};
use crate::controller::store::StoreReason;

/// Attempts of a coordinator. Many more than of the others: a run can't end without one, and an attempt that finds
/// somebody else's run in the way counts, too.
const COORDINATOR_ATTEMPTS: u32 = 500;

/// What a coordinator is for: the whole run, whatever its plans.
const RUN: &str = "run";

/// How long a coordinator is waited for after the deadline, which it knows itself: it has to abort its uploads and
/// to win a Void.
const AFTER_DEADLINE: SignedDuration = SignedDuration::from_mins(5);

/// What comes next.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Jobs to make.
    pub start: Vec<Start>,
    /// Jobs to take away.
    pub stop: Vec<Stop>,
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
    /// The owner of a run that is in the way, and that is gone.
    pub orphan: Option<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stop in &self.stop {
            write!(f, "{stop}; ")?;
        }
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

/// What comes next. `image` is what a run that begins now is carried out by.
#[must_use]
pub fn decide(backup: &Backup, observed: &Observed, image: &str, now: Timestamp) -> Plan {
    let mut draft = Draft::new(backup, observed, now);
    if let Some(lost) = history::lost(backup, observed, now) {
        return draft.stalls(lost);
    }
    draft.attempts.held = draft.is_suspended();
    draft.attempts.at_work = observed.at_work.clone();
    draft.attempts.canceled = backup.spec.cancel == Some(true);
    let mut draft = match draft.coordinator(observed) {
        ControlFlow::Continue(draft) => draft,
        ControlFlow::Break(ended) => return ended,
    };
    let given = match given(backup, observed) {
        Ok(given) => given,
        // A run that may have been claimed is ended by a coordinator, whatever its resources have become.
        Err(Unready::Waits(failure) | Unready::Refused(failure)) if draft.may_have_claimed() => {
            return draft.waits(failure);
        }
        Err(Unready::Waits(failure)) => return draft.waits(failure),
        Err(Unready::Refused(failure)) => return draft.fails(failure),
    };
    if !draft.has_begun() && observed.ahead >= given.store.max_concurrent_runs as usize {
        return draft.queued(observed.ahead, &given);
    }
    draft.over_time();
    draft.status.resolved.get_or_insert_with(|| resolved::resolved(&given, image));
    draft.start_coordinator();
    draft.workers(&given);
    draft.verifiers(observed);
    draft.goes_on(given, orphan(observed), observed.refused.clone())
}

/// The owner of the run that was in the last coordinator's way, if nobody is at it and its owner is not at work here.
/// Owners that are no UIDs are command lines: only a person knows of them.
fn orphan(observed: &Observed) -> Option<String> {
    let coordinators = observed.jobs.iter().filter(|job| job.process == "coordinator");
    let JobState::Ended { word: Some(LastWord::Held { owner, alive: false, .. }), .. } =
        &coordinators.max_by_key(|job| job.attempt)?.state
    else {
        return None;
    };
    let is_uid = owner.len() == 36 && owner.bytes().all(|it| it == b'-' || it.is_ascii_hexdigit());
    (is_uid && !observed.at_work.contains_key(owner)).then(|| owner.clone())
}

/// A plan in the making.
struct Draft<'a> {
    backup: &'a Backup,
    /// What the coordinator has published.
    run: RunStatus,
    status: BackupStatus,
    attempts: Attempts<'a>,
    held: Held,
    claimed: bool,
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
        // One has published something, was seen to run, or was there before.
        let ran = |it: &ProcessStatus| {
            it.name == "coordinator" && (it.attempt > 1 || it.state != ProcessState::Waiting)
        };
        let seen = |job: &ObservedJob| {
            let had_node =
                matches!(job.state, JobState::Running { .. } | JobState::Ended { node: Some(_), .. });
            job.process == "coordinator" && had_node
        };
        let claimed = run.attempt.is_some() || processes.iter().any(ran) || observed.jobs.iter().any(seen);
        let attempts = Attempts::new(name, uid, processes, &observed.jobs, now);
        Self { backup, run, status, attempts, held: Held::default(), claimed, now }
    }

    fn plan(mut self, waits: impl Into<String>) -> Plan {
        let Attempts { processes, start, again_after, .. } = self.attempts;
        self.status.processes = processes;
        localities::set(&mut self.status, &self.run);
        conditions::set(&mut self.status, &self.run, &self.held, self.backup.metadata.generation, self.now);
        let status = self.status;
        Plan {
            start,
            stop: Vec::new(),
            given: None,
            status,
            waits: waits.into(),
            again_after,
            time_left: None,
            orphan: None,
        }
    }

    /// It is over: nothing is started, and nothing waited for.
    fn ends(mut self, phase: BackupPhase, said: impl Into<String>) -> Plan {
        self.status.phase = Some(phase);
        self.attempts.start.clear();
        self.attempts.again_after = None;
        // What is left of it would go on for nothing.
        let stop = self.attempts.stop_all();
        let mut plan = self.plan(said);
        plan.stop = stop;
        plan
    }

    fn reach(&mut self, phase: BackupPhase) {
        self.status.phase = Some(self.status.phase.map_or(phase, |reached| reached.max(phase)));
    }

    /// Nothing has begun: it waits for what is not there yet.
    fn waits(mut self, failure: Failure) -> Plan {
        self.reach(BackupPhase::Pending);
        let waits = failure.message.clone();
        let soon = failure.reason == StoreReason::Probing.reason();
        self.attempts.waits.push(format!("for what is not there yet: {waits}"));
        if let Some((_, late)) = self.too_late() {
            return self.fails(late);
        }
        self.status.failure = Some(failure);
        self.over_time();
        self.attempts.look_again(if soon { FIRST_PAUSE } else { LONGEST_PAUSE });
        self.plan(waits)
    }

    fn fails(mut self, failure: Failure) -> Plan {
        let said = format!("failed: {}", failure.message);
        self.status.failure = Some(failure);
        self.ends(BackupPhase::Failed, said)
    }

    /// What is left of the time for all of it; `None` without a deadline.
    fn left(&self) -> Option<SignedDuration> {
        let deadline = parse_duration(self.backup.spec.deadline.as_deref()?).ok()?;
        let limit = SignedDuration::try_from(deadline).ok()?;
        let begun = self.backup.metadata.creation_timestamp.as_ref()?.0;
        Some(limit - self.now.duration_since(begun))
    }

    fn over_time(&mut self) {
        if let Some(left) = self.left() {
            let wait = if left.is_positive() { left } else { left + AFTER_DEADLINE };
            self.attempts.look_again(Duration::try_from(wait).unwrap_or(FIRST_PAUSE).max(FIRST_PAUSE));
        }
    }

    /// Whether the run has ended, or is to be halted.
    fn coordinator(mut self, observed: &Observed) -> ControlFlow<Plan, Self> {
        self.reach(BackupPhase::Pending);
        if let Some(step) = self.run.step.as_deref() {
            self.reach(phase_of(step));
        }
        self.status.failure = None;
        if self.has_begun() || !observed.jobs.is_empty() {
            self = match self.word_of_coordinator() {
                ControlFlow::Continue(draft) => draft,
                ended @ ControlFlow::Break(_) => return ended,
            };
        }
        if self.backup.spec.cancel == Some(true) {
            return self.canceled(observed);
        }
        if self.is_suspended() {
            return ControlFlow::Break(self.suspended());
        }
        ControlFlow::Continue(self)
    }

    fn start_coordinator(&mut self) {
        if self.attempts.process("coordinator").is_none() {
            self.attempts.follow(Process::Coordinator, RUN, COORDINATOR_ATTEMPTS);
        }
    }

    fn word_of_coordinator(mut self) -> ControlFlow<Plan, Self> {
        let word = match self.attempts.follow(Process::Coordinator, RUN, COORDINATOR_ATTEMPTS) {
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
            LastWord::Void { mut failure, canceled: false, .. } => {
                // The coordinator knows that it waited, and not what for.
                if failure.reason == Reason::DeadlineExceeded.reason()
                    && let Some(waited) = self.hindered_before().filter(|it| it.reason != failure.reason)
                {
                    let message =
                        format!("{}; waited for {}: {}", failure.message, waited.reason, waited.message);
                    failure.message = cut(message);
                }
                ControlFlow::Break(self.fails(failure))
            }
            _ => ControlFlow::Continue(self),
        }
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
            let of_process = |job: &&ObservedJob| job.process == process.to_string() && job.order == order;
            let job = observed.jobs.iter().filter(of_process).max_by_key(|job| job.attempt);
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

    /// Workers of a plan that this run has given up.
    fn overtaken(&self) -> Vec<Stop> {
        let Some(plan) = self.run.plan.as_ref().filter(|_| self.is_live()) else { return Vec::new() };
        let of_worker = |job: &&ObservedJob| job.process.starts_with("worker-") && job.order != *plan;
        self.attempts.stop_those(of_worker)
    }

    /// Whether a coordinator may have claimed a run, as it was seen before anything is decided now.
    pub(super) const fn may_have_claimed(&self) -> bool {
        self.claimed
    }

    /// Whether the time is over, and whether no run was begun in it.
    fn too_late(&self) -> Option<(bool, Failure)> {
        let never_began = !self.may_have_claimed();
        let late = if never_began { SignedDuration::ZERO } else { AFTER_DEADLINE };
        if !(self.left()? + late).is_negative() {
            return None;
        }
        let waited = match (&*self.attempts.waits, self.hindered_before()) {
            // Its pods went first, and with them what they waited for: a pod that was taken away has left no word, and
            // that is no news.
            (waits, Some(said)) if waits.is_empty() || never_began && self.has_nothing_newer_than(said) => {
                format!("for {}: {}", said.reason, said.message)
            }
            (waits, _) => waits.join("; "),
        };
        let (reason, message) = match never_began {
            true => (Reason::DeadlineExceeded, format!("no run was begun in time: waited {waited}")),
            false => (Reason::OutcomeUnknown, format!("the run was not decided in time: waited {waited}")),
        };
        Some((never_began, reason.failure(message, "look at its pods, and make a Backup anew")))
    }

    /// What the last look found in the way.
    fn hindered_before(&self) -> Option<&Failure> {
        self.backup.status.as_ref()?.failure.as_ref()
    }

    /// Whether all that is in the way besides `said` is that a pod ended without a word.
    fn has_nothing_newer_than(&self, said: &Failure) -> bool {
        let lost = Reason::ProcessFailed.reason();
        self.status.failure.as_ref().is_none_or(|it| it.reason == said.reason || it.reason == lost)
    }

    fn goes_on(mut self, given: Given, orphan: Option<String>, refused: Option<Failure>) -> Plan {
        if self.status.failure.is_none() {
            self.status.failure = self.attempts.hindrance.take().or(refused);
        }
        // Its pods go now, and what they waited for is still what it was late for.
        let past = self.left().is_some_and(|left| left.is_negative());
        if let Some(before) = self.hindered_before().filter(|said| past && self.has_nothing_newer_than(said))
        {
            self.status.failure = Some(before.clone());
        }
        if let Some((never_began, late)) = self.too_late() {
            let left = self.attempts.stop_all();
            // A coordinator that can still start could still claim a run: nothing is said before it is gone.
            if !never_began || left.is_empty() {
                return self.fails(late);
            }
            self.attempts.start.clear();
            self.attempts.look_again(LONGEST_PAUSE);
            let mut plan = self.plan("too late: its pods go");
            plan.stop = left;
            return plan;
        }
        let waits = match self.attempts.waits.is_empty() {
            true => "waits for its pods".to_owned(),
            false => format!("waits {}", self.attempts.waits.join("; ")),
        };
        // None is left after the deadline: it has to void its run then, and not to go on without a limit.
        let time_left = self.left().map(|left| Duration::try_from(left).unwrap_or_default());
        let stop = self.overtaken();
        let mut plan = self.plan(waits);
        plan.stop = stop;
        plan.time_left = time_left;
        plan.orphan = orphan;
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

#[path = "halt.rs"]
mod halt;
#[path = "seal.rs"]
mod seal;

#[cfg(test)]
#[path = "hindered_tests.rs"]
mod hindered_tests;

#[cfg(test)]
#[path = "halt_tests.rs"]
mod halt_tests;

#[cfg(test)]
#[path = "seal_tests.rs"]
mod seal_tests;

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
