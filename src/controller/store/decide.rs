//! What is to be done next for a BackupStore, as a value. Pure: what there is and what time it is are passed in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::observe::Observed;
use super::places::shared;
use super::reasons::StoreReason as Reason;
use crate::api::{
    AccessMode, BackupStore, BackupStoreStatus, Condition, ConditionStatus, DestinationStatus, Failure,
    FolderPlace, LastWord, Place, ProcessState, ValidatedBackupStore, ValidatedDestination,
};
use crate::controller::attempts::{Attempts, Followed, Start, Stop};
use crate::controller::conditions::{Wanted, merged, told};
use crate::controller::jobs::JobState;
use crate::controller::process::Process;
use crate::controller::reasons::ControllerReason;
use crate::format::Sha256Digest;

/// Attempts of a probe. What fails is probed again soon, as [`AFTER_FAILURE`] says.
const PROBE_ATTEMPTS: u32 = 3;

/// A destination that kept its promises is asked again after this time, or up to [`SPREAD`] sooner.
const EVERY: SignedDuration = SignedDuration::from_hours(24);

/// Probes of stores that were made at one instant spread over this time.
const SPREAD: SignedDuration = SignedDuration::from_hours(2);

/// A destination that failed is asked again after this time: a Secret may have been made, a bucket, a right.
const AFTER_FAILURE: SignedDuration = SignedDuration::from_mins(5);

/// The shortest pause after a failure; each is as long as it has failed for, up to [`AFTER_FAILURE`].
const SOON_AFTER_FAILURE: SignedDuration = SignedDuration::from_secs(15);

/// The least time between two looks.
const SOON: Duration = Duration::from_secs(2);

/// What comes next.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Jobs to make.
    pub start: Vec<Start>,
    /// Jobs to delete.
    pub end: Vec<Stop>,
    /// The store; absent if it is refused.
    pub store: Option<ValidatedBackupStore>,
    /// The status as it is now.
    pub status: BackupStoreStatus,
    /// What it waits for.
    pub waits: String,
    /// When to look again without an event.
    pub again_after: Option<Duration>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for start in &self.start {
            write!(f, "{start}; ")?;
        }
        for stop in &self.end {
            write!(f, "{stop}; ")?;
        }
        f.write_str(&self.waits)
    }
}

/// What comes next.
#[must_use]
pub fn decide(store: &BackupStore, observed: &Observed, now: Timestamp) -> Plan {
    let generation = store.metadata.generation;
    let mut before = store.status.clone().unwrap_or_default();
    let valid = match checked(store) {
        Ok(valid) => valid,
        Err(failure) => return refused(before, observed, &failure, generation, now),
    };
    let (name, uid) = (store.metadata.name.as_deref(), store.metadata.uid.as_deref());
    let (name, uid) = (name.unwrap_or_default(), uid.unwrap_or_default());
    let processes = std::mem::take(&mut before.processes);
    let mut attempts = Attempts::new(name, uid, processes, &observed.jobs, now);
    let shared = match valid.access_mode {
        AccessMode::ReadOnly => BTreeMap::new(),
        AccessMode::ReadWrite => {
            shared(&valid, store.metadata.namespace.as_deref().unwrap_or_default(), &observed.taken)
        }
    };
    let mut status = BackupStoreStatus { observed_generation: generation, ..BackupStoreStatus::default() };
    for destination in &valid.destinations {
        let known = before.destinations.iter().find(|it| it.name == destination.name);
        let mut probe = Probe { destination, known, generation, uid, now };
        status.destinations.push(match shared.get(&destination.name) {
            Some(by) => probe.forbidden(&mut attempts, by),
            None => probe.follow(&mut attempts, observed.refused.as_ref()),
        });
    }
    let current: Vec<String> = valid.destinations.iter().map(|it| prober(it).to_string()).collect();
    attempts.processes.retain(|it| current.contains(&it.name));
    let replaced = |process: &str, order: &str| {
        !attempts.processes.iter().any(|it| it.name == process && it.order == order)
    };
    let end = observed.jobs.iter().filter(|job| replaced(&job.process, &job.order)).map(Stop::of).collect();
    let Attempts { processes, start, waits, again_after, .. } = attempts;
    status.processes = processes;
    summarize(&mut status, &before.conditions, generation, now);
    let waits = match waits.is_empty() {
        true => "waits for the next probe".to_owned(),
        false => format!("waits {}", waits.join("; ")),
    };
    Plan { start, end, store: Some(valid), status, waits, again_after }
}

/// The store, if it makes sense in a cluster.
fn checked(store: &BackupStore) -> Result<ValidatedBackupStore, Failure> {
    let refused =
        |message: String| ControllerReason::SpecRefused.failure(message, "correct what each line names");
    let valid =
        ValidatedBackupStore::try_from(store.clone()).map_err(|refusals| refused(refusals.to_string()))?;
    let here = |it: &&ValidatedDestination| matches!(it.place, Place::Folder(FolderPlace::Here(_)));
    match valid.destinations.iter().find(here) {
        None => Ok(valid),
        Some(it) => Err(refused(format!(
            "spec.destinations[{}].file: a folder of a node is no place for a backup; name a claim that it is in",
            it.name
        ))),
    }
}

/// Nothing is probed of a store that makes no sense.
fn refused(
    before: BackupStoreStatus,
    observed: &Observed,
    failure: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> Plan {
    let conditions = conditions(&before.conditions, told(false), failure, generation, now);
    let status =
        BackupStoreStatus { observed_generation: generation, conditions, ..BackupStoreStatus::default() };
    let end = observed.jobs.iter().map(Stop::of).collect();
    Plan { start: Vec::new(), end, store: None, status, waits: failure.message.clone(), again_after: None }
}

fn prober(destination: &ValidatedDestination) -> Process {
    Process::Prober(destination.name.clone())
}

/// One destination, and what is known of it.
struct Probe<'a> {
    destination: &'a ValidatedDestination,
    known: Option<&'a DestinationStatus>,
    generation: Option<i64>,
    uid: &'a str,
    now: Timestamp,
}

impl Probe<'_> {
    /// What the last probe of this very spec found.
    fn found(&self) -> Option<&DestinationStatus> {
        let of_now = |it: &Condition| it.type_ == "Ready" && it.observed_generation == self.generation;
        self.known.filter(|it| it.last_probe_time.is_some() && it.conditions.iter().any(of_now))
    }

    /// What an earlier attempt at probing this very spec has met.
    fn failing(&self) -> Option<&DestinationStatus> {
        let of_now = |it: &Condition| {
            it.type_ == "Ready"
                && it.status == ConditionStatus::False
                && it.observed_generation == self.generation
        };
        self.known.filter(|it| it.conditions.iter().any(of_now))
    }

    fn is_ready(status: &DestinationStatus) -> bool {
        status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == ConditionStatus::True)
    }

    /// How long it had not been ready when it was probed at `last`.
    fn failed_for(found: &DestinationStatus, last: Timestamp) -> SignedDuration {
        let ready = found.conditions.iter().find(|it| it.type_ == "Ready");
        let since: Option<Timestamp> = ready.and_then(|it| it.last_transition_time.parse().ok());
        since.map_or(SignedDuration::ZERO, |since| last.duration_since(since))
    }

    /// When it is to be probed again, after what was found.
    fn due(&self, found: &DestinationStatus) -> Timestamp {
        let last: Option<Timestamp> = found.last_probe_time.as_deref().and_then(|it| it.parse().ok());
        let Some(last) = last else { return self.now };
        let wait = if Self::is_ready(found) {
            let hash = Sha256Digest::of(format!("{} {}", self.uid, self.destination.name).as_bytes());
            let share = i64::from(hash.as_bytes()[0]);
            EVERY - SignedDuration::from_secs(SPREAD.as_secs() * share / 256)
        } else {
            // Soon at first: whoever makes a store may make its Secret a moment later.
            Self::failed_for(found, last).clamp(SOON_AFTER_FAILURE, AFTER_FAILURE)
        };
        // A status is what somebody may have written by hand: no time in it may end this process, which is everybody's,
        // or keep a probe away for longer than its pause.
        match last.checked_add(wait) {
            Ok(due) if due.duration_since(self.now) <= wait => due,
            _ => self.now,
        }
    }

    /// Follows the newest probe, or begins another.
    fn follow(&mut self, attempts: &mut Attempts<'_>, refused: Option<&Failure>) -> DestinationStatus {
        let process = prober(self.destination);
        let known = attempts.process(&process.to_string()).cloned();
        let of_now = |order: &str| order.split(' ').next() == Some(&*self.prefix());
        let known = known.filter(|it| of_now(&it.order));
        let over = |state: ProcessState| matches!(state, ProcessState::Done | ProcessState::Failed);
        if let (Some(_), Some(found)) = (known.as_ref().filter(|it| over(it.state)), self.found()) {
            let due = self.due(found);
            if due > self.now {
                let wait = Duration::try_from(due.duration_since(self.now)).unwrap_or(SOON);
                attempts.look_again(wait.max(SOON));
                return found.clone();
            }
        }
        // The time makes it another order, and is kept in the status before the Job is made.
        let order = match known.filter(|it| !over(it.state)) {
            Some(known) => known.order,
            None => format!("{} {}", self.prefix(), self.now),
        };
        match attempts.follow(process.clone(), &order, PROBE_ATTEMPTS) {
            Followed::Said(LastWord::Probed { capabilities, note }) => {
                let mut status = self.status(told(true), "Probed", &note);
                status.last_probe_time = Some(self.ended(attempts, &process, &order));
                status.capabilities = Some(capabilities);
                self.look_when_due(attempts, &status);
                status
            }
            Followed::Said(_) => {
                let failure = ControllerReason::ProcessFailed.failure(
                    "the probe's pod left a word that is none of a prober's",
                    "see who runs pods here",
                );
                self.failed(attempts, &process, &order, &failure)
            }
            Followed::GivenUp(failure) => self.failed(attempts, &process, &order, &failure),
            Followed::Goes => {
                if let Some(found) = self.found() {
                    return found.clone();
                }
                let process = attempts.process(&process.to_string());
                match process.and_then(|it| it.failure.as_ref()).or(refused) {
                    Some(failure) => self.status(told(false), &failure.reason, &said(failure)),
                    // Another attempt goes on: what the last one has met is more than nothing.
                    None if let Some(known) = self.failing() => known.clone(),
                    None => {
                        let probing = Reason::Probing.reason();
                        self.status(ConditionStatus::Unknown, probing, "its first probe has not ended")
                    }
                }
            }
        }
    }

    /// What an order begins with: another spec is another order.
    fn prefix(&self) -> String {
        self.generation.unwrap_or_default().to_string()
    }

    fn failed(
        &self,
        attempts: &mut Attempts<'_>,
        process: &Process,
        order: &str,
        failure: &Failure,
    ) -> DestinationStatus {
        let mut status = self.status(told(false), &failure.reason, &said(failure));
        status.last_probe_time = Some(self.ended(attempts, process, order));
        self.look_when_due(attempts, &status);
        status
    }

    fn look_when_due(&self, attempts: &mut Attempts<'_>, status: &DestinationStatus) {
        let wait = self.due(status).duration_since(self.now);
        attempts.look_again(Duration::try_from(wait).unwrap_or(SOON).max(SOON));
    }

    /// When the newest Job of an order ended.
    fn ended(&self, attempts: &Attempts<'_>, process: &Process, order: &str) -> String {
        let name = process.to_string();
        let jobs = attempts.jobs().iter().filter(|job| job.process == name && job.order == order);
        let ended = jobs.max_by_key(|job| job.attempt).and_then(|job| match &job.state {
            JobState::Ended { at, .. } => *at,
            JobState::Waiting(_) | JobState::Running { .. } => None,
        });
        ended.unwrap_or(self.now).to_string()
    }

    /// Another store has this place: nothing is written there, not even by a probe.
    fn forbidden(&self, attempts: &mut Attempts<'_>, by: &str) -> DestinationStatus {
        let name = prober(self.destination).to_string();
        attempts.processes.retain(|it| it.name != name);
        // Until the other one is gone.
        attempts.look_again(Duration::try_from(AFTER_FAILURE).unwrap_or(SOON));
        let place = &self.destination.place;
        let message = format!(
            "{place} is BackupStore {by}'s already: give each store a prefix of its own, or set accessMode ReadOnly"
        );
        self.status(told(false), Reason::PrefixShared.reason(), &message)
    }

    fn status(&self, ready: ConditionStatus, reason: &str, message: &str) -> DestinationStatus {
        let before = self.known.map_or(&[][..], |it| &it.conditions);
        let ready = Wanted { type_: "Ready", status: ready, reason, message };
        DestinationStatus {
            name: self.destination.name.clone(),
            url: Some(self.destination.place.to_string()),
            last_probe_time: None,
            conditions: merged(before, &[ready], self.generation, self.now),
            capabilities: None,
            message: (!message.is_empty()).then(|| message.to_owned()),
        }
    }
}

fn said(failure: &Failure) -> String {
    match failure.hint.is_empty() {
        true => failure.message.clone(),
        false => format!("{}; {}", failure.message, failure.hint),
    }
}

/// The store's own conditions, by those of its destinations.
fn summarize(status: &mut BackupStoreStatus, before: &[Condition], generation: Option<i64>, now: Timestamp) {
    let of = |it: &DestinationStatus| {
        it.conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| {
            (condition.status, condition.reason.clone(), format!("{}: {}", it.name, condition.message))
        })
    };
    let all: Vec<_> = status.destinations.iter().filter_map(of).collect();
    let ready = all.iter().filter(|(status, ..)| *status == ConditionStatus::True).count();
    status.ready_destinations = Some(format!("{ready}/{}", status.destinations.len()));
    // What fails before what is not known yet.
    let with = |wanted| all.iter().find(|(status, ..)| *status == wanted);
    let (value, reason, message) = match with(ConditionStatus::False).or(with(ConditionStatus::Unknown)) {
        Some((status, reason, message)) => (*status, reason.clone(), message.clone()),
        None => {
            (ConditionStatus::True, "Probed".to_owned(), "every destination keeps its promises".to_owned())
        }
    };
    let said = Failure { reason, message, hint: String::new() };
    status.conditions = conditions(before, value, &said, generation, now);
}

fn conditions(
    before: &[Condition],
    ready: ConditionStatus,
    said: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let of = |type_, status| Wanted { type_, status, reason: &said.reason, message: &said.message };
    let wanted = [
        of("Ready", ready),
        of("Reconciling", told(ready == ConditionStatus::Unknown)),
        of("Stalled", told(ready == ConditionStatus::False)),
    ];
    merged(before, &wanted, generation, now)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
