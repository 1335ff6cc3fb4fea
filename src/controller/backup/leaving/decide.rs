//! What is to be done next for a Backup whose data goes with it, as a value. Pure.
//!
//! Nothing here deletes data but the one Job that a plan starts, and every way that ends without it leaves the data
//! where it is. A Backup is let go when its data is gone, when its user says Retain, and when its namespace ends; for
//! all else it waits, says why, and tries again.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::{
    Backup, BackupStatus, BackupStore, ConditionStatus, Failure, LastWord, ProcessState, ValidatedBackupStore,
};
use crate::controller::attempts::{ATTEMPTS, Attempts, Followed, LONGEST_PAUSE, Start, Stop};
use crate::controller::backup::finalizer;
use crate::controller::begun::BEGUN_AS;
use crate::controller::conditions::{Wanted, merged};
use crate::controller::jobs::{JobState, ObservedJob};
use crate::controller::process::Process;
use crate::controller::prunable;
use crate::controller::reasons::ControllerReason as Reason;

/// The condition that says how the deletion stands.
pub(in crate::controller) const DELETING: &str = "Deleting";

/// What a Job of the first round is for; the number goes up with each round.
const ORDER: &str = "deletion ";

/// After the attempts of the first round have failed; doubled each time, up to [`LONGEST_ROUND`]. What fails so often
/// is mended by a person, or passes in hours.
const FIRST_ROUND: SignedDuration = SignedDuration::from_mins(5);
/// The longest time between two rounds.
const LONGEST_ROUND: SignedDuration = SignedDuration::from_hours(1);

/// How a user gets rid of a Backup that can't be deleted with its data.
const WAY_OUT: &str = "to keep the data and let the Backup go, set its spec.deletionPolicy to Retain";

/// What there is of one Backup that leaves.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Whether its namespace takes nothing new any more.
    pub namespace_ends: bool,
    /// The BackupStore that it names; absent if there is none that this release can read.
    pub store: Option<BackupStore>,
    /// Whether its pods were given something, so that its run was begun.
    pub has_begun: bool,
    /// Its Jobs, those of others with the same label left out.
    pub jobs: Vec<ObservedJob>,
    /// What the API server refused to make the last time.
    pub refused: Option<Failure>,
}

/// Why a Backup is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetGo {
    /// Its user wants the data kept.
    Retained,
    /// No run of it was ever begun.
    NothingStored,
    /// What was its own is gone, but for what the store keeps under a lock.
    Deleted {
        /// Objects that went.
        objects: u64,
        /// Bytes that were in them.
        bytes: u64,
        /// Objects that are locked.
        locked: u64,
    },
    /// Nothing can be started where it is, and nothing ever will: the data stays.
    NamespaceEnds,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits, or a Job is at it.
    Waits,
    /// The finalizer goes.
    LetGo(LetGo),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whether it may go.
    pub next: Next,
    /// Jobs to make; one at most.
    pub start: Vec<Start>,
    /// Jobs to take away.
    pub stop: Vec<Stop>,
    /// Where, as the API server has it and checked.
    pub store: Option<Box<(BackupStore, ValidatedBackupStore)>>,
    /// The status as it is now: the controller's own part of it.
    pub status: BackupStatus,
    /// When to look again without an event.
    pub again_after: Option<Duration>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stop in &self.stop {
            write!(f, "{stop}; ")?;
        }
        for start in &self.start {
            write!(f, "{start}; ")?;
        }
        match (self.next, condition(&self.status)) {
            (Next::LetGo(why), _) => write!(f, "let go: {why:?}"),
            (Next::Waits, Some((reason, message))) => write!(f, "{reason}: {message}"),
            (Next::Waits, None) => f.write_str("waits"),
        }
    }
}

/// Reason and message of the condition [`DELETING`].
pub(in crate::controller) fn condition(status: &BackupStatus) -> Option<(&str, &str)> {
    let held = status.conditions.iter().find(|it| it.type_ == DELETING)?;
    Some((held.reason.as_str(), held.message.as_str()))
}

/// What comes next for a Backup that has our finalizer.
#[must_use]
pub fn decide(backup: &Backup, observed: &Observed, now: Timestamp) -> Plan {
    let draft = Draft { backup, now, plan: Draft::nothing(backup) };
    if backup.metadata.deletion_timestamp.is_none() {
        return draft.plan;
    }
    if !finalizer::is_meant(backup) {
        return draft.lets_go(LetGo::Retained);
    }
    if observed.namespace_ends {
        return draft.lets_go(LetGo::NamespaceEnds);
    }
    let of_run = |job: &&ObservedJob| job.process != Process::Deleter.to_string();
    let at_work: Vec<&ObservedJob> = observed
        .jobs
        .iter()
        .filter(of_run)
        .filter(|it| !matches!(it.state, JobState::Ended { .. }))
        .collect();
    if !at_work.is_empty() {
        return draft.stops(&at_work);
    }
    if !may_have_stored(backup, observed) {
        return draft.lets_go(LetGo::NothingStored);
    }
    draft.deletes(observed)
}

/// Whether a pod of this Backup may ever have written. One that was brought from elsewhere carries the mark of another
/// UID: what that one has stored is not its own.
fn may_have_stored(backup: &Backup, observed: &Observed) -> bool {
    let status = backup.status.as_ref();
    let marked = backup.annotations().get(BEGUN_AS);
    status.is_some_and(|it| !it.processes.is_empty())
        || !observed.jobs.is_empty()
        || observed.has_begun
        || (marked.is_some() && marked == backup.metadata.uid.as_ref())
}

struct Draft<'a> {
    backup: &'a Backup,
    now: Timestamp,
    plan: Plan,
}

impl Draft<'_> {
    fn nothing(backup: &Backup) -> Plan {
        let mut status = backup.status.clone().unwrap_or_default();
        // The coordinator's own.
        (status.run, status.progress) = (None, None);
        status.observed_generation = backup.metadata.generation;
        let (start, stop) = (Vec::new(), Vec::new());
        Plan { next: Next::Waits, start, stop, store: None, status, again_after: None }
    }

    fn lets_go(mut self, why: LetGo) -> Plan {
        self.plan.next = Next::LetGo(why);
        self.plan
    }

    /// What still runs could store more.
    fn stops(mut self, at_work: &[&ObservedJob]) -> Plan {
        self.plan.stop = at_work.iter().map(|job| Stop::of(job)).collect();
        self.plan.again_after = Some(LONGEST_PAUSE);
        self.waits(Reason::DeletingData.reason(), "its pods go first");
        self.plan
    }

    fn deletes(mut self, observed: &Observed) -> Plan {
        let store = prunable::store(&self.backup.spec.store_ref.name, observed.store.as_ref())
            .and_then(|store| unmoved(self.backup, store));
        let processes = std::mem::take(&mut self.plan.status.processes);
        let name = Process::Deleter.to_string();
        let known = processes.iter().find(|it| it.name == name);
        let round = known.and_then(|it| it.order.strip_prefix(ORDER)?.parse().ok()).unwrap_or(1_u32);
        let (resource, uid) = (self.backup.name_any(), self.backup.uid().unwrap_or_default());
        let mut attempts = Attempts::new(&resource, &uid, processes, &observed.jobs, self.now);
        attempts.held = store.is_err();
        let failed = match follow(&mut attempts, round) {
            Ok(None) => None,
            Ok(Some(done)) => {
                self.plan.status.processes = attempts.processes;
                return self.lets_go(done);
            }
            Err(failure) => Some(failure),
        };
        if let Some(failure) = &failed {
            self.fails(&mut attempts, observed, round, failure);
        }
        let own = |job: &&ObservedJob| job.process == name;
        let live = observed.jobs.iter().filter(own).any(|job| !matches!(job.state, JobState::Ended { .. }));
        let unstarted = store.as_ref().err().filter(|_| !live).cloned();
        let again = attempts.processes.iter().find(|it| it.name == name).and_then(|it| it.failure.clone());
        let hindered = unstarted
            .or_else(|| attempts.hindrance.take())
            .or_else(|| observed.refused.clone())
            .or(failed)
            .or(again);
        attempts.look_again(LONGEST_PAUSE);
        self.plan.start = attempts.start;
        self.plan.again_after = attempts.again_after;
        self.plan.status.processes = attempts.processes;
        self.plan.store = store.ok().map(Box::new);
        match hindered {
            None => self.waits(Reason::DeletingData.reason(), "its data is being deleted"),
            Some(Failure { reason, message, hint }) => {
                self.waits(&reason, &format!("{message}; {hint}; {WAY_OUT}"));
            }
        }
        self.plan
    }

    /// No attempt of this round is left: the next one begins a while after its last Job, whose Jobs make room then.
    fn fails(&mut self, attempts: &mut Attempts<'_>, observed: &Observed, round: u32, failure: &Failure) {
        let name = Process::Deleter.to_string();
        // So that a Job that is tidied away is no deletion that went well.
        if let Some(process) = attempts.processes.iter_mut().find(|it| it.name == name) {
            process.state = ProcessState::Failed;
            process.failure = Some(failure.clone());
        }
        let own: Vec<&ObservedJob> = observed.jobs.iter().filter(|job| job.process == name).collect();
        let ended = own.iter().filter_map(|job| match &job.state {
            JobState::Ended { at, .. } => *at,
            JobState::Waiting(_) | JobState::Running { .. } => None,
        });
        let doubled = FIRST_ROUND.as_secs().saturating_mul(1 << (round - 1).min(10));
        let pause = SignedDuration::from_secs(doubled.min(LONGEST_ROUND.as_secs()));
        let due = ended.max().map_or(self.now, |at| at.checked_add(pause).unwrap_or(Timestamp::MAX));
        if due > self.now {
            return;
        }
        if !attempts.held {
            let _begun = follow(attempts, round.saturating_add(1));
            self.plan.stop = own.into_iter().map(Stop::of).collect();
        }
    }

    fn waits(&mut self, reason: &str, message: &str) {
        let wanted = Wanted { type_: DELETING, status: ConditionStatus::True, reason, message };
        let conditions = &mut self.plan.status.conditions;
        let said = merged(conditions, &[wanted], self.backup.metadata.generation, self.now);
        conditions.retain(|it| it.type_ != DELETING);
        conditions.extend(said);
    }
}

/// What became of a round: it goes on, it is done, or no attempt of it is left.
fn follow(attempts: &mut Attempts<'_>, round: u32) -> Result<Option<LetGo>, Failure> {
    let again = |message: &str| {
        Reason::ProcessFailed
            .failure(message, "kubectl logs of the deleter's pod says more; it is tried again")
    };
    match attempts.follow(Process::Deleter, &format!("{ORDER}{round}"), ATTEMPTS) {
        Followed::Goes => Ok(None),
        Followed::GivenUp(failure) => Err(failure),
        Followed::Said(LastWord::Pruned {
            failure: None,
            waiting: 0,
            deleted_objects: objects,
            deleted_bytes: bytes,
            refused_objects: locked,
            ..
        }) => Ok(Some(LetGo::Deleted { objects, bytes, locked })),
        Followed::Said(LastWord::Pruned { failure: Some(failure), .. }) => Err(failure),
        Followed::Said(LastWord::Pruned { failure: None, .. }) => {
            Err(again("the store's clock says of something that it was given up later than now"))
        }
        // It went well, and its Job was tidied away before the finalizer was.
        Followed::Said(LastWord::Settled) => Ok(Some(LetGo::Deleted { objects: 0, bytes: 0, locked: 0 })),
        Followed::Said(_) => Err(again("the deleter's pod left a word that is none of a deleter's")),
    }
}

/// The store, if it still is the place that the run was written to: in another one nothing would be found, and the data
/// would be taken for deleted.
fn unmoved(
    backup: &Backup,
    store: (BackupStore, ValidatedBackupStore),
) -> Result<(BackupStore, ValidatedBackupStore), Failure> {
    let resolved = backup.status.as_ref().and_then(|status| status.resolved.as_ref());
    for before in resolved.iter().flat_map(|it| &it.destinations) {
        let now = store.1.destinations.iter().find(|it| it.name == before.name).map(|it| it.place.url());
        if now.as_ref() != Some(&before.url) {
            let now = now.unwrap_or_else(|| "not there".into());
            let message = format!(
                "destination {} of BackupStore {} is {now}, and the run was written to {}",
                before.name, backup.spec.store_ref.name, before.url
            );
            let hint = "name that place in the store again; it is waited for";
            return Err(Reason::StoreMoved.failure(message, hint));
        }
    }
    Ok(store)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
