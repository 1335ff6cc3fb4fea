//! What follows from the Backups that there are. Pure.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::conditions::RecoveryPoint;
use super::decide::{Forget, said};
use super::observe::{BackupState, Observed, ObservedBackup, Place, Sealed};
use super::reasons::ScheduleReason as Reason;
use crate::api::{BackupSchedule, BackupScheduleStatus, LastSuccess, ValidatedRetention};
use crate::plan::retention::{self, Kept, SealedRun};

/// Names that a list in a status holds at most, as the schema has it.
const MAX_NAMES: usize = 64;
/// Resources that are deleted in one go at most; the next look takes the rest.
const MAX_FORGET: usize = 50;
/// The word of a Backup that was not run because it is history: no failed run, and not ours to tidy away.
const HISTORY_LOST: &str = "HistoryLost";

fn sealed(observed: &Observed) -> impl Iterator<Item = (&ObservedBackup, Sealed)> {
    observed.backups.iter().filter_map(|backup| match backup.state {
        BackupState::Sealed(sealed) => Some((backup, sealed)),
        _ => None,
    })
}

/// The Backups that go on.
pub(super) fn active(observed: &Observed) -> Vec<&ObservedBackup> {
    observed.backups.iter().filter(|backup| backup.state == BackupState::Active).collect()
}

/// Whether something was proven later than `moment`.
pub(super) fn proven_since(observed: &Observed, moment: Timestamp) -> bool {
    sealed(observed).any(|(_, sealed)| sealed.at > moment)
}

/// Says in `status` what goes on, what is proven and what can be restored.
pub(super) fn tell(status: &mut BackupScheduleStatus, observed: &Observed) {
    let mut names: Vec<String> = active(observed).iter().map(|backup| backup.name.clone()).collect();
    names.sort_unstable();
    names.truncate(MAX_NAMES);
    status.active = names;
    let newest = sealed(observed).max_by_key(|(backup, sealed)| (sealed.at, backup.name.clone()));
    // What was proven stays proven when its resource is deleted.
    let known = status.last_success.as_ref().and_then(|known| known.time.parse::<Timestamp>().ok());
    if let Some((backup, sealed)) = newest.filter(|(_, sealed)| known.is_none_or(|known| known < sealed.at)) {
        status.last_success = Some(LastSuccess { name: backup.name.clone(), time: sealed.at.to_string() });
        status.consecutive_failures = Some(0);
    }
    let to = || sealed(observed).filter_map(|(_, sealed)| sealed.to);
    status.recoverable_from = to().min().map(|time| time.to_string());
    status.recoverable_to = to().max().map(|time| time.to_string());
}

/// The proven Backups of the schedule's present collection, as retention sees them. Another store or collection has
/// runs of the same numbers.
pub(super) fn runs<'a>(
    observed: &'a Observed,
    schedule: &'a BackupSchedule,
) -> impl Iterator<Item = (SealedRun, &'a str)> {
    let place = Place::of(&schedule.spec.template.spec);
    sealed(observed).filter(move |(backup, _)| backup.place.as_ref() == Some(&place)).filter_map(
        |(backup, sealed)| {
            let (number, chain) = sealed.run?;
            // The time of the seal, as a pruner reads it in the bucket: both must mean the same day.
            Some((SealedRun { number, chain, time: sealed.at }, backup.name.as_str()))
        },
    )
}

/// What retention makes of the runs.
pub(super) fn kept(
    observed: &Observed,
    schedule: &BackupSchedule,
    retention: Option<&ValidatedRetention>,
    zone: &TimeZone,
) -> Kept {
    let runs: Vec<SealedRun> = runs(observed, schedule).map(|(run, _)| run).collect();
    retention::apply(retention, zone, &runs)
}

/// The Backups that retention does not keep, oldest run first.
pub(super) fn next_prune(
    observed: &Observed,
    schedule: &BackupSchedule,
    retention: Option<&ValidatedRetention>,
    zone: &TimeZone,
) -> Vec<String> {
    let runs: Vec<(SealedRun, &str)> = runs(observed, schedule).collect();
    let decided = kept(observed, schedule, retention, zone);
    let name = |number: &u64| runs.iter().find(|(run, _)| run.number == *number).map(|(_, name)| *name);
    decided.removed.iter().filter_map(name).take(MAX_NAMES).map(str::to_owned).collect()
}

/// Resources of failed runs beyond the newest `limit`. One whose deletion would take data with it stays.
pub(super) fn forget(observed: &Observed, limit: u32) -> Vec<Forget> {
    let mut failed: Vec<&ObservedBackup> = observed
        .backups
        .iter()
        .filter(|backup| match &backup.state {
            BackupState::Failed { failure, .. } => {
                failure.as_ref().is_none_or(|failure| failure.reason != HISTORY_LOST)
            }
            _ => false,
        })
        .collect();
    failed.sort_unstable_by_key(|backup| std::cmp::Reverse((backup.created, backup.name.clone())));
    let beyond = failed.into_iter().skip(usize::try_from(limit).unwrap_or(usize::MAX));
    beyond
        .filter(|backup| !backup.deletes_data && !backup.leaving)
        .take(MAX_FORGET)
        .map(|backup| Forget { name: backup.name.clone(), uid: backup.uid.clone(), why: "failed" })
        .collect()
}

/// How the newest proven backup stands against an objective, and when that changes without an event.
pub(super) fn recovery_point(
    status: &BackupScheduleStatus,
    observed: &Observed,
    objective: Option<std::time::Duration>,
    created: Timestamp,
    now: Timestamp,
) -> (RecoveryPoint, Option<Timestamp>) {
    let Some(objective) = objective.and_then(|it| SignedDuration::try_from(it).ok()) else {
        return (RecoveryPoint::NotAsked, None);
    };
    // A restore gives what the source was when it was read, and that is never earlier than the Backup was made.
    let point = sealed(observed).map(|(backup, sealed)| sealed.to.unwrap_or(backup.created)).max();
    let known = status.last_success.as_ref().and_then(|known| known.time.parse::<Timestamp>().ok());
    let proven = point.or(known);
    let until = proven.unwrap_or(created).checked_add(objective).unwrap_or(Timestamp::MAX);
    if now < until {
        let met = if proven.is_some() { RecoveryPoint::Met } else { RecoveryPoint::NoneYet };
        return (met, Some(until));
    }
    let message = match proven {
        Some(point) => {
            format!("the last proven backup is of {point}, and more than the objective has passed since")
        }
        None => format!("nothing was proven since the schedule was made, at {created}"),
    };
    let hint = "look at lastRun and at the Backups of this schedule";
    (RecoveryPoint::Missed(said(Reason::RecoveryPointMissed, message, hint)), None)
}
