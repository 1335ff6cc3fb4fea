//! What is to be done next for a Restore, as a value. Pure: what there is and what time it is are passed in.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::core::object::HasStatus;

use super::conditions;
use super::observe::Observed;
use super::origin::{self, Origin, Unready};
use super::reasons::RestoreReason;
use crate::api::{
    BackupStore, Document, Failure, LastWord, ObjectRef, Restore, RestoreFrom, RestorePhase, RestoreProof,
    RestoreSpec, RestoreStatus, RunStatus, ValidatedBackupStore, ValidatedRestore, parse_documents,
};
use crate::controller::attempts::{ATTEMPTS, Attempts, FIRST_PAUSE, Followed, LONGEST_PAUSE, Start, Stop};
use crate::controller::begun;
use crate::controller::jobs::JobState;
use crate::controller::process::Process;
use crate::controller::reasons::ControllerReason as Reason;

/// How long a restorer is waited for after the deadline, which it knows itself: it takes back what it has made.
const AFTER_DEADLINE: SignedDuration = SignedDuration::from_mins(5);

/// Jobs of earlier attempts that are kept, for their logs. A restore that waits for its target makes one a minute.
const KEPT: usize = 3;

/// What the one Job of a Restore is for.
const ORDER: &str = "restore";

/// What comes next.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Jobs to make.
    pub start: Vec<Start>,
    /// Jobs to delete.
    pub end: Vec<Stop>,
    /// The resources that pods are given; absent where nothing is to be started.
    pub given: Option<Given>,
    /// The status as it is now: the controller's own part of it.
    pub status: RestoreStatus,
    /// What it waits for.
    pub waits: String,
    /// When to look again without an event.
    pub again_after: Option<Duration>,
    /// What is left of the time for all of it.
    pub time_left: Option<Duration>,
}

/// A Restore and its store, as they were when it began.
#[derive(Clone, Debug)]
pub struct Given {
    /// As pods read them.
    pub text: String,
    /// Whether the cluster has that text already.
    pub frozen: bool,
    /// The Restore, its `from` resolved.
    pub restore: ValidatedRestore,
    /// The store.
    pub store: ValidatedBackupStore,
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

/// Whether the Restore has ended.
#[must_use]
pub fn is_over(restore: &Restore) -> bool {
    restore.status().and_then(|status| status.phase).is_some_and(conditions::is_last)
}

/// What comes next.
#[must_use]
pub fn decide(restore: &Restore, observed: &Observed, now: Timestamp) -> Plan {
    let mut draft = Draft::new(restore, observed, now);
    if let Some(lost) = lost(restore, observed) {
        return draft.stalls(lost);
    }
    // Said at once, and not only once the backup is there.
    match checked(restore) {
        Ok(checked) => draft.limit = checked.deadline,
        Err(failure) => return draft.fails(failure),
    }
    if restore.spec.cancel == Some(true) {
        return draft.cancels();
    }
    let given = match given(restore, observed) {
        Ok((given, from)) => {
            draft.status.from = from.or(draft.status.from);
            given
        }
        Err(Unready::Waits(failure)) => return draft.waits(failure),
        Err(Unready::Refused(failure)) => return draft.fails(failure),
    };
    if restore.spec.suspend == Some(true) {
        return draft.rests();
    }
    draft.restorer(given)
}

/// Why this Restore must not be run: it was, and where that is not known any more. Its database may be in use.
fn lost(restore: &Restore, observed: &Observed) -> Option<Failure> {
    let processes = restore.status.as_ref().map(|status| &*status.processes);
    let lost = begun::is_marked(&restore.metadata) && !begun::is_known(processes, &observed.jobs);
    lost.then(|| begun::lost(begun::NO_STATUS, "look at its target; delete it, or make a new Restore"))
}

/// The spec by itself, whatever its `from` turns out to be.
fn checked(restore: &Restore) -> Result<ValidatedRestore, Failure> {
    let mut any = restore.clone();
    any.spec.from =
        RestoreFrom { store_ref: Some(ObjectRef { name: "any".into() }), ..RestoreFrom::default() };
    ValidatedRestore::try_from(any).map_err(|refusals| refused(refusals.to_string()))
}

fn refused(message: String) -> Failure {
    Reason::SpecRefused.failure(message, "make a Restore anew, with what each line says")
}

/// The resources as the pods have them, or will have them; with what `from` was resolved to, if only now.
fn given(restore: &Restore, observed: &Observed) -> Result<(Given, Option<String>), Unready> {
    let unreadable = || Unready::Refused(refused("what its pods were given can't be read any more".into()));
    let (text, frozen, from) = match &observed.frozen {
        Some(text) => (text.clone(), true, None),
        None => {
            let origin: Origin = origin::resolve(restore, observed)?;
            (super::build::objects(restore, &origin), false, Some(origin.text()))
        }
    };
    let (restore, store) = thawed(&text).ok_or_else(unreadable)?;
    let refuses = |refusals: crate::api::Refusals| Unready::Refused(refused(refusals.to_string()));
    let restore = ValidatedRestore::try_from(restore).map_err(refuses)?;
    let store = ValidatedBackupStore::try_from(store).map_err(refuses)?;
    Ok((Given { text, frozen, restore, store }, from))
}

fn thawed(text: &str) -> Option<(Restore, BackupStore)> {
    let (mut restore, mut store) = (None, None);
    for document in parse_documents(text).ok()? {
        match document {
            Document::Restore(found) => restore = Some(*found),
            Document::BackupStore(found) => store = Some(*found),
            _ => {}
        }
    }
    Some((restore?, store?))
}

/// A plan in the making.
struct Draft<'a> {
    restore: &'a Restore,
    observed: &'a Observed,
    /// What the restorer has published.
    run: RunStatus,
    status: RestoreStatus,
    attempts: Attempts<'a>,
    end: Vec<Stop>,
    limit: Option<Duration>,
    suspended: bool,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    fn new(restore: &'a Restore, observed: &'a Observed, now: Timestamp) -> Self {
        let mut status = restore.status.clone().unwrap_or_default();
        let run = status.run.take().unwrap_or_default();
        status.progress = None;
        status.failure = None;
        status.observed_generation = restore.metadata.generation;
        let processes = std::mem::take(&mut status.processes);
        let (name, uid) = (restore.metadata.name.as_deref(), restore.metadata.uid.as_deref());
        let (name, uid) = (name.unwrap_or_default(), uid.unwrap_or_default());
        let attempts = Attempts::new(name, uid, processes, &observed.jobs, now);
        let (end, suspended) = (Vec::new(), false);
        let mut draft = Self { restore, observed, run, status, attempts, end, limit: None, suspended, now };
        draft.reach(RestorePhase::Pending);
        if let Some(phase) = draft.run.step.as_deref().and_then(phase_of) {
            draft.reach(phase);
        }
        draft
    }

    fn plan(mut self, waits: impl Into<String>) -> Plan {
        let time_left = self.left().and_then(|left| Duration::try_from(left).ok());
        let Attempts { processes, start, again_after, .. } = self.attempts;
        self.status.processes = processes;
        conditions::set(&mut self.status, self.suspended, self.restore.metadata.generation, self.now);
        let (status, end) = (self.status, self.end);
        Plan { start, end, given: None, status, waits: waits.into(), again_after, time_left }
    }

    fn reach(&mut self, phase: RestorePhase) {
        self.status.phase = Some(self.status.phase.map_or(phase, |reached| reached.max(phase)));
    }

    /// It is over: nothing is started, nothing goes on, and nothing is waited for.
    fn ends(mut self, phase: RestorePhase, said: impl Into<String>) -> Plan {
        self.status.phase = Some(phase);
        self.attempts.start.clear();
        self.attempts.again_after = None;
        self.end_all();
        self.plan(said)
    }

    /// It was begun before: nothing is started, and nothing is waited for.
    fn stalls(mut self, failure: Failure) -> Plan {
        let waits = failure.message.clone();
        self.status.failure = Some(failure);
        self.plan(waits)
    }

    fn fails(mut self, failure: Failure) -> Plan {
        let said = format!("failed: {}", failure.message);
        self.status.failure = Some(failure);
        self.ends(RestorePhase::Failed, said)
    }

    /// Deletes the Jobs that have not ended.
    fn end_all(&mut self) {
        self.end = self.attempts.stop_all();
    }

    /// What is left of the time for all of it; `None` without a deadline.
    fn left(&self) -> Option<SignedDuration> {
        let limit = SignedDuration::try_from(self.limit?).ok()?;
        let begun = self.restore.metadata.creation_timestamp.as_ref()?.0;
        Some(limit - self.now.duration_since(begun))
    }

    /// Looks again when the time is over. Whether it is: past `late` after the deadline.
    fn is_overdue(&mut self, late: SignedDuration) -> bool {
        let Some(left) = self.left() else { return false };
        let wait = if left.is_positive() { left } else { left + late };
        self.attempts.look_again(Duration::try_from(wait).unwrap_or(FIRST_PAUSE).max(FIRST_PAUSE));
        (left + late).is_negative()
    }

    /// What it needs is not there yet.
    fn waits(mut self, failure: Failure) -> Plan {
        self.attempts.look_again(LONGEST_PAUSE);
        if self.is_overdue(SignedDuration::ZERO) {
            return self.too_late(Some(&failure));
        }
        let waits = failure.message.clone();
        self.status.failure = Some(failure);
        self.plan(waits)
    }

    fn too_late(self, because: Option<&Failure>) -> Plan {
        let waited = self.attempts.waits.join("; ");
        let because = because.map_or(waited, |it| format!("{}: {}", it.reason, it.message));
        let failure = Reason::DeadlineExceeded.failure(
            format!("it was not done in time: {because}"),
            "see to what it waited for, and make a Restore anew",
        );
        self.fails(failure)
    }

    /// A person asked for its end. A restorer that runs is told by its own watch, and takes back what it has made.
    fn cancels(mut self) -> Plan {
        let running = self.observed.jobs.iter().any(|job| matches!(job.state, JobState::Running { .. }));
        if running && !self.is_overdue(AFTER_DEADLINE) {
            // A node that is cut off tells nobody that its pod is gone.
            self.attempts.look_again(LONGEST_PAUSE);
            return self.plan("waits for its pod to take back what it has made");
        }
        let begun = self.status.phase > Some(RestorePhase::Resolving);
        let newest = self.observed.jobs.iter().max_by_key(|job| job.attempt).map(|job| &job.state);
        // It may have been done before it heard.
        match newest {
            Some(JobState::Ended { word: Some(word @ LastWord::Restored { .. }), .. }) => {
                let word = word.clone();
                return self.done(&word);
            }
            Some(JobState::Ended { word: Some(LastWord::Canceled { failure }), .. }) => {
                self.status.failure = Some(failure.clone());
            }
            _ => {
                let left = if begun { "; what its pod had made may be left on the target" } else { "" };
                self.status.failure = Some(RestoreReason::Canceled.failure(
                    format!("it was canceled{left}"),
                    "a Restore of the same backup and target takes up what is left",
                ));
            }
        }
        self.ends(RestorePhase::Canceled, "canceled")
    }

    /// Its pod goes for now.
    fn rests(mut self) -> Plan {
        self.suspended = true;
        if self.is_overdue(SignedDuration::ZERO) {
            return self.too_late(Some(&Reason::DeadlineExceeded.failure("it was suspended", "")));
        }
        self.end = self.attempts.suspend();
        self.plan("is suspended")
    }

    fn restorer(mut self, given: Given) -> Plan {
        match self.attempts.follow(Process::Restorer, ORDER, ATTEMPTS) {
            Followed::Said(word @ LastWord::Restored { .. }) => return self.done(&word),
            Followed::Said(LastWord::Canceled { failure }) => {
                self.status.failure = Some(failure);
                return self.ends(RestorePhase::Canceled, "canceled");
            }
            Followed::GivenUp(failure) => return self.fails(failure),
            Followed::Goes | Followed::Said(_) => {}
        }
        let goes = self.observed.jobs.iter().any(|job| !matches!(job.state, JobState::Ended { .. }));
        if self.is_overdue(if goes { AFTER_DEADLINE } else { SignedDuration::ZERO }) {
            let hindrance = self.attempts.hindrance.take().or_else(|| self.still_lacks());
            return self.too_late(hindrance.as_ref());
        }
        self.forget_old();
        let hindrance = self.attempts.hindrance.take();
        self.status.failure =
            hindrance.or_else(|| self.observed.refused.clone()).or_else(|| self.still_lacks());
        let waits = match self.attempts.waits.is_empty() {
            true => "waits for its pod".to_owned(),
            false => format!("waits {}", self.attempts.waits.join("; ")),
        };
        let mut plan = self.plan(waits);
        plan.given = Some(given);
        plan
    }

    /// What the last attempt lacked, until this one has come further: a status that forgets it at each attempt would
    /// change twice a minute.
    fn still_lacks(&self) -> Option<Failure> {
        let attempt = self.attempts.process(&Process::Restorer.to_string()).map_or(0, |it| it.attempt);
        let before = self.restore.status.as_ref().and_then(|it| it.failure.clone());
        before.filter(|_| attempt > 1 && self.status.phase == Some(RestorePhase::Pending))
    }

    /// Jobs of attempts long past go.
    fn forget_old(&mut self) {
        let ended = self.observed.jobs.iter().filter(|job| matches!(job.state, JobState::Ended { .. }));
        let mut ended: Vec<_> = ended.collect();
        ended.sort_by_key(|job| std::cmp::Reverse(job.attempt));
        self.end.extend(ended.into_iter().skip(KEPT).map(Stop::of));
    }

    /// Compared, and equal.
    fn done(mut self, word: &LastWord) -> Plan {
        let LastWord::Restored { run, manifest_sha256, tables, rows } = word else {
            return self.plan("was not restored");
        };
        let RestoreSpec { schema_only, dry_run, .. } = &self.restore.spec;
        let chosen = self.run.manifest_sha256.as_ref();
        let expected = self.restore.spec.expect_manifest_sha256.as_ref().or(chosen);
        if expected.is_some_and(|expected| expected != manifest_sha256) {
            let message = format!("its pod says that it restored run {run} by manifest {manifest_sha256}");
            let hint =
                "that is not the backup that was chosen: don't use the database, and look who runs pods here";
            return self.fails(RestoreReason::ManifestUnexpected.failure(message, hint));
        }
        if *schema_only != Some(true) && *dry_run != Some(true) {
            self.status.proof = Some(RestoreProof {
                tables: i64::try_from(*tables).unwrap_or(i64::MAX),
                rows_compared: i64::try_from(*rows).unwrap_or(i64::MAX),
                fingerprints_equal: true,
                manifest_sha256: manifest_sha256.clone(),
            });
        }
        self.ends(RestorePhase::Succeeded, "restored, and compared")
    }
}

/// How far a step of the restorer is.
fn phase_of(step: &str) -> Option<RestorePhase> {
    match step {
        "Resolving" => Some(RestorePhase::Resolving),
        "PreData" => Some(RestorePhase::PreData),
        "Data" => Some(RestorePhase::Data),
        "PostData" => Some(RestorePhase::PostData),
        "Verifying" => Some(RestorePhase::Verifying),
        _ => None,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
