//! The attempts of a run's processes: which Job is to be made next, and what the newest ones said. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::jobs::{JobState, ObservedJob};
use super::process::Process;
use super::reasons::{ControllerReason as Reason, cut};
use crate::api::{Failure, LastWord, ProcessState, ProcessStatus};

/// Attempts of a worker, verifier or prober for one order. Its receipts, or the bucket, are its checkpoint, so an
/// attempt is cheap; but what fails so often fails for a reason.
pub const ATTEMPTS: u32 = 6;

/// The first pause between two attempts; doubled each time, up to [`LONGEST_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two attempts.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest pause before it is looked again whether somebody is still in the way of whom nothing is known here: a
/// command line, or another cluster. Each look costs a pod.
pub const LONGEST_HELD: Duration = Duration::from_secs(600);

/// A process that does not run after this time, and does not say why, is looked at again.
pub const NOT_STARTED: Duration = Duration::from_secs(15);

/// Between two looks at a resource that waits for another one: the end of the other does not wake it.
pub const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

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

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {}, attempt {}", self.process, self.attempt)
    }
}

/// What became of a process.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// It is to be started, or it is at work.
    Goes,
    /// It has done its part.
    Said(LastWord),
    /// No attempt is left.
    GivenUp(Failure),
}

/// The processes of one resource: what is known of them, what is seen, and what comes of both.
#[derive(Debug)]
pub struct Attempts<'a> {
    resource: &'a str,
    uid: &'a str,
    jobs: &'a [ObservedJob],
    now: Timestamp,
    /// What the status says of each, brought up to date.
    pub processes: Vec<ProcessStatus>,
    /// Jobs to make.
    pub start: Vec<Start>,
    /// What is waited for, each in a few words that go on from "waits".
    pub waits: Vec<String>,
    /// Why the first pod that does not start does not.
    pub hindrance: Option<Failure>,
    /// When to look again without an event.
    pub again_after: Option<Duration>,
    /// Whether nothing is to be started for now.
    pub held: bool,
    /// Who may be in the way and is known here: UIDs of resources that are at work, with how they are called.
    pub at_work: BTreeMap<String, String>,
    /// Whether a person asked for its end: then nobody else's is waited for.
    pub canceled: bool,
}

/// One Job to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its name.
    pub name: String,
    /// Its UID: another one of the same name is not meant.
    pub uid: String,
}

impl Stop {
    /// That of `job`.
    #[must_use]
    pub fn of(job: &ObservedJob) -> Self {
        Self { name: job.name.clone(), uid: job.uid.clone() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stop {}", self.name)
    }
}

impl<'a> Attempts<'a> {
    /// Those of the resource with this name and UID, from what its status knows and what there is.
    #[must_use]
    pub fn new(
        resource: &'a str,
        uid: &'a str,
        processes: Vec<ProcessStatus>,
        jobs: &'a [ObservedJob],
        now: Timestamp,
    ) -> Self {
        let (start, waits) = (Vec::new(), Vec::new());
        Self {
            resource,
            uid,
            jobs,
            now,
            processes,
            start,
            waits,
            hindrance: None,
            again_after: None,
            held: false,
            at_work: BTreeMap::new(),
            canceled: false,
        }
    }

    /// What there is.
    #[must_use]
    pub fn jobs(&self) -> &'a [ObservedJob] {
        self.jobs
    }

    /// What is known of a process.
    #[must_use]
    pub fn process(&self, name: &str) -> Option<&ProcessStatus> {
        self.processes.iter().find(|it| it.name == name)
    }

    /// Looks again after `after`, or sooner.
    pub fn look_again(&mut self, after: Duration) {
        self.again_after = Some(self.again_after.map_or(after, |known| known.min(after)));
    }

    /// What became of a process: its newest attempt is started, waited for, or started anew; not more often than
    /// `attempts` times for one order.
    pub fn follow(&mut self, process: Process, order: &str, attempts: u32) -> Followed {
        let name = process.to_string();
        let known = self.process(&name).filter(|it| it.order == order);
        let known_attempt = known.map_or(0, |it| u32::try_from(it.attempt).unwrap_or(u32::MAX));
        if let Some(ProcessStatus { state: ProcessState::Failed, failure: Some(failure), .. }) = known {
            return Followed::GivenUp(failure.clone());
        }
        // What this attempt has published is not the next one's: a pod that was there has had its attempt.
        let had = known.is_some_and(|it| matches!(it.state, ProcessState::Running | ProcessState::Suspended));
        let suspended = known.is_some_and(|it| it.state == ProcessState::Suspended);
        let jobs = self.jobs.iter().filter(|job| job.process == name && job.order == order);
        let newest = jobs.max_by_key(|job| job.attempt).filter(|job| job.attempt >= known_attempt);
        let newest = newest.filter(|job| !suspended || has_said(job));
        if newest.is_none() && known.is_some_and(|it| it.state == ProcessState::Done) {
            // What it said was acted on; its Job was tidied away.
            return Followed::Said(LastWord::Settled);
        }
        let Some(job) = newest else {
            // Never made, or made and taken away.
            let attempt = if had { known_attempt + 1 } else { known_attempt.max(1) };
            self.begin(process, order, attempt);
            return Followed::Goes;
        };
        let (state, node, failure) = match &job.state {
            JobState::Waiting(failure) => {
                if let Some(failure) = failure {
                    self.waits.push(format!("for {name}: {}: {}", failure.reason, failure.message));
                    self.hindrance.get_or_insert_with(|| failure.clone());
                }
                // That a pod is refused wakes nobody.
                self.look_again(if failure.is_some() { LONGEST_PAUSE } else { NOT_STARTED });
                (ProcessState::Waiting, None, failure.clone())
            }
            JobState::Running { node, given_up_at } => {
                // A node that is cut off tells nobody, not even that time has passed.
                let left = given_up_at.map(|at| Duration::try_from(at.duration_since(self.now)));
                self.look_again(left.and_then(Result::ok).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE));
                (ProcessState::Running, node.clone(), None)
            }
            JobState::Ended { node, word, how, at, .. } => {
                let word = word.as_ref().map_or_else(
                    || {
                        Finality::Again(Reason::ProcessFailed.failure(
                            format!("{name}, attempt {}, left no word: {how}", job.attempt),
                            "kubectl logs and kubectl describe pod say more",
                        ))
                    },
                    finality,
                );
                let (followed, ended) = self.after(&process, order, attempts, job, (word, *at));
                if let Some((state, failure)) = ended {
                    self.note(&name, order, (&job.name, job.attempt), (state, node.clone(), failure));
                }
                return followed;
            }
        };
        self.note(&name, order, (&job.name, job.attempt), (state, node, failure));
        Followed::Goes
    }

    /// What follows when `job`, the newest attempt, has ended, and what is noted of it; `None` if another was begun,
    /// which is noted already.
    fn after(
        &mut self,
        process: &Process,
        order: &str,
        attempts: u32,
        job: &ObservedJob,
        (word, at): (Finality, Option<Timestamp>),
    ) -> (Followed, Option<(ProcessState, Option<Failure>)>) {
        let given_up = |failure: Failure| {
            (Followed::GivenUp(failure.clone()), Some((ProcessState::Failed, Some(failure))))
        };
        let waits = |failure: Failure| (Followed::Goes, Some((ProcessState::Waiting, Some(failure))));
        let next = job.attempt + 1;
        let (mut failure, longest, held) = match word {
            Finality::Final(word) => return (Followed::Said(word), Some((ProcessState::Done, None))),
            Finality::Again(failure) if job.attempt >= attempts => return given_up(failure),
            Finality::Hopeless(failure) => return given_up(failure),
            Finality::Again(failure) => (failure, LONGEST_PAUSE, false),
            Finality::NotYet(failure) => (failure, LONGEST_PAUSE, true),
            // An earlier attempt of its own still shows signs of life: not for long.
            Finality::Held { owner, failure } if self.canceled || owner == self.uid => {
                (failure, LONGEST_PAUSE, true)
            }
            Finality::Held { owner, failure } => match self.at_work.get(&owner) {
                None => (failure, LONGEST_HELD, true),
                // No pod need ask whether it has ended: that is seen here.
                Some(other) => {
                    let failure = until_its_end(failure, other);
                    self.look_again(BETWEEN_LOOKS);
                    self.waits.push(format!("before attempt {next} of {process}: {}", failure.message));
                    self.hindrance.get_or_insert_with(|| failure.clone());
                    return waits(failure);
                }
            },
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << job.attempt.min(10)).min(longest);
        // By the node's clock, which may be off by whatever it is.
        let latest = self.now.checked_add(pause).unwrap_or(self.now);
        let due = at.map_or(self.now, |at| at.checked_add(pause).map_or(latest, |due| due.min(latest)));
        if due <= self.now {
            self.begin(process.clone(), order, next);
            return (Followed::Goes, None);
        }
        self.look_again(Duration::try_from(due.duration_since(self.now)).unwrap_or(pause));
        if longest == LONGEST_HELD {
            failure.message = cut(format!("{}; it is tried again at {due:.0}", failure.message));
        }
        self.waits.push(format!("before attempt {next} of {process}: {}", failure.message));
        if held {
            self.hindrance.get_or_insert_with(|| failure.clone());
        }
        waits(failure)
    }

    /// Takes every pod away that is left, for as long as the resource is suspended; says which Jobs go.
    pub fn suspend(&mut self) -> Vec<Stop> {
        for process in &mut self.processes {
            if matches!(process.state, ProcessState::Waiting | ProcessState::Running) {
                process.state = ProcessState::Suspended;
            }
        }
        self.stop_all()
    }

    /// Every Job that has not ended.
    #[must_use]
    pub fn stop_all(&self) -> Vec<Stop> {
        self.stop_those(|_| true)
    }

    /// Every Job that has not ended, of those that `meant` names.
    pub fn stop_those(&self, meant: impl Fn(&&ObservedJob) -> bool) -> Vec<Stop> {
        let left = self.jobs.iter().filter(|job| !matches!(job.state, JobState::Ended { .. })).filter(meant);
        left.map(Stop::of).collect()
    }

    fn begin(&mut self, process: Process, order: &str, attempt: u32) {
        if self.held {
            return;
        }
        let job = process.job_name(self.resource, self.uid, order, attempt);
        self.note(&process.to_string(), order, (&job, attempt), (ProcessState::Waiting, None, None));
        self.start.push(Start { process, order: order.to_owned(), attempt });
    }

    fn note(
        &mut self,
        name: &str,
        order: &str,
        (job, attempt): (&str, u32),
        (state, node, failure): (ProcessState, Option<String>, Option<Failure>),
    ) {
        let status = ProcessStatus {
            name: name.to_owned(),
            job: job.to_owned(),
            order: order.to_owned(),
            attempt: i64::from(attempt),
            state,
            node,
            failure,
        };
        match self.processes.iter_mut().find(|it| it.name == name) {
            Some(known) => *known = status,
            None => self.processes.push(status),
        }
    }
}

/// Whether its process has left a word that no other attempt would change.
fn has_said(job: &ObservedJob) -> bool {
    let JobState::Ended { word: Some(word), .. } = &job.state else { return false };
    matches!(finality(word), Finality::Final(_))
}

/// What a last word says about further attempts.
enum Finality {
    /// Another attempt would say no more.
    Final(LastWord),
    /// Another attempt may do better; not for ever.
    Again(Failure),
    /// Another attempt does better once something is there, or out of the way; as long as it takes.
    NotYet(Failure),
    /// Another attempt does better once the run of this owner is decided.
    Held { owner: String, failure: Failure },
    /// Another attempt would fail alike.
    Hopeless(Failure),
}

/// What is said while the end of `other` is waited for.
fn until_its_end(failure: Failure, other: &str) -> Failure {
    let hint = format!("it goes on when {other} has ended: look at that one, or cancel it");
    Failure { message: cut(format!("{}; it waits for {other} to end", failure.message)), hint, ..failure }
}

fn finality(word: &LastWord) -> Finality {
    match word {
        LastWord::Sealed { .. }
        | LastWord::Void { .. }
        | LastWord::Settled
        | LastWord::Verdict { .. }
        | LastWord::Restored { .. }
        | LastWord::Canceled { .. }
        | LastWord::Pruned { .. }
        | LastWord::Probed { .. } => Finality::Final(word.clone()),
        LastWord::LeftOpen { failure } | LastWord::Failed { failure, again: true } => {
            Finality::Again(failure.clone())
        }
        LastWord::NotYet { failure } => Finality::NotYet(failure.clone()),
        LastWord::Held { owner, failure, run: _, alive: _ } => {
            Finality::Held { owner: owner.clone(), failure: failure.clone() }
        }
        LastWord::Failed { failure, again: false } => Finality::Hopeless(failure.clone()),
    }
}
