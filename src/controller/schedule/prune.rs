//! Retention, carried out: when a prune starts, and what came of it. Pure.
//!
//! Whatever is decided here, the pruner works out anew what retention keeps, from the outcomes in the bucket; it takes
//! no run that isn't proposed here. So nothing goes unless both agree.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::PRUNE_REQUESTED;
use super::conditions::RetentionApplied;
use super::decide::{Draft, Forget, POLL, Rules, text};
use super::facts;
use super::observe::{BackupState, Observed, ObservedPrune};
use crate::api::{
    BackupSchedule, BackupStore, Failure, LastPrune, LastWord, ProcessState, ProcessStatus,
    ScheduledRunState, ValidatedBackupStore,
};
use crate::controller::attempts::{Attempts, Followed, Start, Stop};
use crate::controller::jobs::{JobState, ObservedJob};
use crate::controller::process::Process;
use crate::controller::prunable;
use crate::controller::reasons::ControllerReason;
use crate::format::Sha256Digest;

/// Attempts of a prune. It may have to wait for a backup that somebody makes by hand; and there is another the next
/// day.
const ATTEMPTS: u32 = 6;

/// After this time a prune is started for what the one before had to leave: as long as the pruner's minimum age.
const EVERY: SignedDuration = SignedDuration::from_hours(24);

/// When a store that is not ready is looked at again.
const AFTER_UNREADY: SignedDuration = SignedDuration::from_mins(10);

/// Resources of retired Backups that a status names at most, as the schema has it.
const MAX_NAMES: usize = 64;

/// What the last word of an order begins with that answers a person's question.
const ASKED: &str = "asked:";

/// What is to be done about prunes.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Jobs to make; one at most.
    pub start: Vec<Start>,
    /// Jobs to delete.
    pub end: Vec<Stop>,
    /// The runs that it proposes.
    pub runs: Vec<u64>,
    /// Where, as the API server has it and checked.
    pub store: Option<Box<(BackupStore, ValidatedBackupStore)>>,
}

/// What is observed, with the Backups that the last prune has retired marked as such. Names alone would do, as each is
/// of one tick; the time keeps off what was made under one of them since.
pub(super) fn marked(schedule: &BackupSchedule, observed: &Observed) -> Observed {
    let mut observed = observed.clone();
    let last = schedule.status.as_ref().and_then(|status| status.last_prune.as_ref());
    let Some(last) = last.filter(|last| !last.removed.is_empty()) else { return observed };
    let Ok(time) = last.time.parse::<Timestamp>() else { return observed };
    for backup in &mut observed.backups {
        if let BackupState::Sealed(sealed) = backup.state
            && sealed.at <= time
            && last.removed.contains(&backup.name)
        {
            backup.state = BackupState::Retired(sealed);
        }
    }
    observed
}

/// Resources of Backups that are retired. One whose deletion would take data with it stays.
pub(super) fn forget(observed: &Observed) -> impl Iterator<Item = Forget> {
    let retired = observed.backups.iter().filter(|backup| matches!(backup.state, BackupState::Retired(_)));
    let may_go = retired.filter(|backup| !backup.deletes_data && !backup.leaving);
    may_go.map(|backup| Forget { name: backup.name.clone(), uid: backup.uid.clone(), why: "retired" })
}

/// The prune that was begun and has not ended, as far as the status knows.
fn under_way(processes: &[ProcessStatus]) -> Option<&ProcessStatus> {
    let goes =
        |state| matches!(state, ProcessState::Waiting | ProcessState::Running | ProcessState::Suspended);
    processes.first().filter(|it| goes(it.state))
}

fn is_live(job: &ObservedJob) -> bool {
    !matches!(job.state, JobState::Ended { .. })
}

impl Draft<'_> {
    /// Nothing is pruned for now: the Job that is at work is taken away. Another one goes on where it was.
    pub(super) fn stop_prunes(&mut self) {
        if under_way(&self.status.processes).is_none() {
            return;
        }
        self.looks_for_prune = true;
        let Some(seen) = &self.observed.prune else { return };
        self.prune.end = seen.jobs.iter().filter(|job| is_live(job)).map(Stop::of).collect();
        match self.prune.end.is_empty() {
            true => self.status.processes.clear(),
            false => {
                self.status.processes.iter_mut().for_each(|it| it.state = ProcessState::Suspended);
                self.look_after(POLL);
            }
        }
    }

    /// Follows the prune that is under way, or starts the one that is due.
    pub(super) fn prune(&mut self, rules: &Rules) {
        if rules.retention.is_none() {
            return self.stop_prunes();
        }
        let runs = self.shown();
        // Another spec is another prune.
        let of_now = format!("{} ", self.generation());
        let known = under_way(&self.status.processes).map(|it| it.order.clone());
        let current = known.clone().filter(|order| order.starts_with(&of_now));
        let quiet = self.quiet();
        let due = if quiet.is_ok() { self.due(&runs) } else { None };
        self.looks_for_prune = known.is_some() || due.is_some();
        // Copied out, as the draft is written to below.
        let Some(seen) = self.observed.prune.as_ref() else { return };
        // One that has no Job yet would do the same as the one that is asked for, and answer nobody.
        let has_begun = |order: &String| seen.jobs.iter().any(|job| job.order == *order);
        let answers = due.clone().filter(|due| asked_in(due).is_some());
        let current = current.filter(|current| answers.is_none() || has_begun(current));
        let Some(order) = current.or(due) else {
            // What is left of another spec's, with nothing to do under this one.
            if known.is_some() {
                self.stop_prunes();
            }
            return;
        };
        self.carry_out(&order, runs, quiet.err(), seen);
    }

    fn carry_out(&mut self, order: &str, runs: Vec<u64>, unquiet: Option<String>, seen: &ObservedPrune) {
        let (mine, others): (Vec<&ObservedJob>, Vec<&ObservedJob>) =
            seen.jobs.iter().partition(|job| job.order == order);
        self.prune.end = others.iter().map(|job| Stop::of(job)).collect();
        let store_name = &self.schedule.spec.template.spec.store_ref.name;
        let store = prunable::store(store_name, seen.store.as_ref());
        let uid = self.schedule.uid().unwrap_or_default();
        let processes = std::mem::take(&mut self.status.processes);
        let name = self.schedule.name_any();
        let mut attempts = Attempts::new(&name, &uid, processes, &seen.jobs, self.now);
        // One at a time. What is at work already goes on: the pruner asks the bucket what goes.
        attempts.held = unquiet.is_some() || store.is_err() || others.iter().any(|job| is_live(job));
        let followed = attempts.follow(Process::Pruner, order, ATTEMPTS);
        let ended = mine.iter().max_by_key(|job| job.attempt).and_then(|job| match &job.state {
            JobState::Ended { at, .. } => *at,
            JobState::Waiting(_) | JobState::Running { .. } => None,
        });
        let Attempts { processes, start, waits, hindrance, again_after, .. } = attempts;
        self.status.processes = processes;
        self.prune.start = start;
        self.prune.runs = runs;
        let last = match followed {
            Followed::Goes => {
                let hindered = hindrance.or_else(|| seen.refused.clone());
                self.waits.extend(waits.into_iter().map(|it| format!("waits {it}")));
                match store {
                    Ok(store) => self.prune.store = Some(Box::new(store)),
                    Err(failure) if mine.is_empty() => return self.unusable(failure),
                    Err(_) => {}
                }
                if let Some(failure) = hindered {
                    self.applied = RetentionApplied::Failed(failure);
                }
                match unquiet {
                    Some(why) if !mine.iter().any(|job| is_live(job)) => {
                        // The end of a Backup is an event; until there is a proven one, nobody need ask.
                        return self.waits.push(format!("waits with its prune {why}"));
                    }
                    _ => self.waits.push("waits for its prune to end".to_owned()),
                }
                let soon = again_after.and_then(|after| SignedDuration::try_from(after).ok());
                return self.look_after(soon.unwrap_or(POLL).min(POLL));
            }
            Followed::Said(word) => self.pruned(word, ended),
            Followed::GivenUp(failure) => {
                LastPrune { time: text(self.now), failure: Some(failure), ..LastPrune::default() }
            }
        };
        self.applied = match &last.failure {
            None => RetentionApplied::Done,
            Some(failure) => RetentionApplied::Failed(failure.clone()),
        };
        self.status.last_prune = Some(last);
        if let Some(request) = asked_in(order) {
            self.status.last_prune_request = Some(request.to_owned());
        }
        // What is retired is told and cleared away by the next look, which this write is followed by.
        self.look_after(POLL);
    }

    /// The store does not allow it.
    fn unusable(&mut self, failure: Failure) {
        self.waits.push(format!("prunes nothing: {}", failure.message));
        // What only the user can mend is looked at with the next run, so that nobody asks for ever.
        if failure.reason != ControllerReason::DeleteCredentialsMissing.reason() {
            self.look_after(AFTER_UNREADY);
        }
        self.applied = RetentionApplied::Failed(failure);
    }

    /// What a last word says, as a status holds it.
    fn pruned(&self, word: LastWord, ended: Option<Timestamp>) -> LastPrune {
        let time = ended.unwrap_or(self.now);
        let last = LastPrune { time: text(time), ..LastPrune::default() };
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        match word {
            LastWord::Pruned {
                run,
                retired,
                gone,
                deleted_objects,
                deleted_bytes,
                refused_objects,
                waiting,
                failure,
            } => {
                let gone: BTreeSet<u64> = gone.into_iter().map(u64::from).collect();
                let of_gone = facts::runs(self.observed, self.schedule);
                let removed =
                    of_gone.filter(|(run, _)| gone.contains(&run.number)).map(|(_, name)| name.to_owned());
                LastPrune {
                    run: run.map(i64::from),
                    retired: i64::from(retired),
                    deleted_objects: number(deleted_objects),
                    deleted_bytes: number(deleted_bytes),
                    waiting: i64::from(waiting) + i64::from(refused_objects > 0),
                    removed: removed.take(MAX_NAMES).collect(),
                    failure,
                    ..last
                }
            }
            // It was acted on, and somebody has edited the status since.
            LastWord::Settled => last,
            _ => {
                let message = "the prune's pod left a word that is none of a pruner's";
                let failure = ControllerReason::ProcessFailed.failure(message, "see who runs pods here");
                LastPrune { failure: Some(failure), ..last }
            }
        }
    }

    /// The runs that would go, and that an earlier write has said so of.
    fn shown(&self) -> Vec<u64> {
        let is_shown =
            |name: &str| self.was_shown(name) && self.status.next_prune.iter().any(|it| it == name);
        let runs = facts::runs(self.observed, self.schedule).filter(|(_, name)| is_shown(name));
        let runs: BTreeSet<u64> = runs.map(|(run, _)| run.number).collect();
        runs.into_iter().collect()
    }

    /// Whether the status said before this look that the Backup `name` would go.
    fn was_shown(&self, name: &str) -> bool {
        let before = self.schedule.status.as_ref().map_or(&[][..], |status| &status.next_prune);
        before.iter().any(|it| it == name)
    }

    /// Whether the newest run was proven, and none goes on; if not, what is waited for. After a failure nothing goes:
    /// what is there may be all that is left.
    pub(super) fn quiet(&self) -> Result<(), String> {
        let last = self.status.last_run.as_ref().filter(|run| run.state == ScheduledRunState::Starting);
        let going = self.status.active.first().or_else(|| last.map(|run| &run.name));
        if let Some(name) = going {
            return Err(format!("for {name} to end"));
        }
        let sealed = self.observed.backups.iter().filter_map(|backup| match backup.state {
            BackupState::Sealed(sealed) => Some(sealed.at),
            _ => None,
        });
        let Some(proven) = sealed.max() else { return Err("for a proven backup".into()) };
        let failed_since = self.observed.backups.iter().any(|backup| match &backup.state {
            BackupState::Failed { at, .. } => at.is_none_or(|at| at >= proven),
            _ => false,
        });
        if failed_since || self.status.consecutive_failures.unwrap_or(0) > 0 {
            return Err("for a backup that is proven after the failed ones".into());
        }
        Ok(())
    }

    /// The order of the prune that is due: the same for the same runs after the same prune, so that a look that is
    /// repeated finds the Job that the first one made.
    fn due(&mut self, runs: &[u64]) -> Option<String> {
        // What the last one has retired is cleared away first.
        if forget(self.observed).next().is_some() {
            return None;
        }
        let what = format!("{} {}", self.generation(), digest(runs));
        let last = self.status.last_prune.as_ref();
        let since = last.map_or("first", |last| &last.time);
        let order = format!("{what} {since}");
        let asked = self.status.processes.first().is_some_and(|it| it.order.starts_with(&format!("{what} ")));
        if !self.status.next_prune.iter().all(|name| self.was_shown(name)) {
            // The write of this look shows it; the next one prunes all of it at once.
            self.look_after(POLL);
            return None;
        }
        if let Some(request) = self.request() {
            return Some(format!("{what} {ASKED}{request}"));
        }
        if !runs.is_empty() && !asked {
            return Some(order);
        }
        let from = last.and_then(|last| last.time.parse::<Timestamp>().ok());
        if !self.left_something(from) {
            return None;
        }
        let at = from.unwrap_or(self.created).checked_add(EVERY).unwrap_or(Timestamp::MAX);
        if at > self.now {
            self.look_at(at);
            return None;
        }
        Some(order)
    }

    /// The question that a person has asked and that no prune has answered. One that is older than the schedule came
    /// with a copy of another's metadata.
    fn request(&self) -> Option<String> {
        let moment = self.schedule.annotations().get(PRUNE_REQUESTED)?.parse::<Timestamp>().ok()?;
        let request = text(moment);
        let is_new = moment >= self.created && self.status.last_prune_request.as_ref() != Some(&request);
        is_new.then_some(request)
    }

    /// Whether there may be something to delete that the last prune, which ended at `from`, has left.
    pub(super) fn left_something(&self, from: Option<Timestamp>) -> bool {
        let by_prune =
            self.status.last_prune.as_ref().is_some_and(|it| it.waiting > 0 || it.failure.is_some());
        let since = |at: Option<Timestamp>| from.is_none_or(|from| at.is_none_or(|at| at >= from));
        by_prune
            || self.observed.backups.iter().any(|backup| match &backup.state {
                BackupState::Failed { at, .. } | BackupState::Canceled { at } => since(*at),
                _ => false,
            })
    }

    fn generation(&self) -> i64 {
        self.schedule.metadata.generation.unwrap_or_default()
    }
}

/// The question that the prune of `order` answers, if a person has asked for it.
fn asked_in(order: &str) -> Option<&str> {
    order.split(' ').nth(2)?.strip_prefix(ASKED)
}

fn digest(runs: &[u64]) -> String {
    let runs: Vec<String> = runs.iter().map(u64::to_string).collect();
    Sha256Digest::of(runs.join(" ").as_bytes()).to_string()[..16].to_owned()
}
