//! What the next prune of a schedule would do, for whoever asks before it does. Pure: worked out of the Backups that
//! there are, by what the controller decides with.

use jiff::Timestamp;
use kube::ResourceExt;

use super::decide::{Draft, Rules, said};
use super::facts;
use super::observe::{BackupState, Observed, ObservedBackup, is_of};
use super::prune;
use super::reasons::ScheduleReason as Reason;
use crate::api::{Backup, BackupSchedule, Failure};

/// A proven Backup of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// The resource.
    pub backup: String,
    /// The run's number; absent where nobody has said it.
    pub run: Option<u64>,
    /// When it was sealed.
    pub sealed: Timestamp,
}

/// A Backup that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays {
    /// Which.
    pub run: PlannedRun,
    /// Why, in a few words.
    pub why: String,
}

/// What the next prune would do.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunePlan {
    /// What would be retired, oldest first.
    pub goes: Vec<PlannedRun>,
    /// What stays, oldest first.
    pub stays: Vec<Stays>,
    /// Whether something may be left to delete that was given up before.
    pub leftovers: bool,
    /// Why nothing is pruned, until somebody changes the schedule.
    pub held: Option<Failure>,
    /// What it waits for, in words that go on from "waits"; absent: nothing.
    pub waits: Option<String>,
}

/// What the next prune of `schedule` would do, whose namespace holds `backups`. Those of others are left out.
///
/// # Errors
/// The spec makes no sense: nothing is pruned.
pub fn plan_of(schedule: &BackupSchedule, backups: &[Backup], now: Timestamp) -> Result<PrunePlan, Failure> {
    let uid = schedule.uid().unwrap_or_default();
    let own = backups.iter().filter(|backup| is_of(*backup, &uid)).map(ObservedBackup::of).collect();
    let observed = prune::marked(schedule, &Observed { backups: own, ..Observed::default() });
    let rules = Rules::of(schedule, now)?;
    let mut draft = Draft::new(schedule, &observed, now);
    facts::tell(&mut draft.status, &observed);
    draft.follow(&rules);
    let retention = rules.retention.as_ref();
    let kept = facts::kept(&observed, schedule, retention, rules.table.clock().zone());
    let here: Vec<(u64, &str)> =
        facts::runs(&observed, schedule).map(|(run, name)| (run.number, name)).collect();
    let (mut goes, mut stays) = (Vec::new(), Vec::new());
    for backup in &observed.backups {
        let BackupState::Sealed(sealed) = backup.state else { continue };
        let number = sealed.run.map(|(number, _)| number);
        let run = PlannedRun { backup: backup.name.clone(), run: number, sealed: sealed.at };
        let Some((number, _)) = here.iter().find(|(_, name)| *name == backup.name) else {
            let why = match number {
                Some(_) => "it is in another store or collection than the schedule's",
                None => "its run has no number",
            };
            stays.push(Stays { run, why: why.to_owned() });
            continue;
        };
        match kept.kept.get(number) {
            Some(rules) if rules.is_empty() => stays.push(Stays { run, why: "no rule was given".to_owned() }),
            Some(rules) => {
                let why: Vec<String> = rules.iter().map(ToString::to_string).collect();
                stays.push(Stays { run, why: why.join(", ") });
            }
            None => goes.push(run),
        }
    }
    goes.sort_by_key(|run| (run.run, run.sealed));
    stays.sort_by_key(|it| (it.run.run, it.run.sealed));
    let last = draft.status.last_prune.as_ref();
    let leftovers = draft.left_something(last.and_then(|last| last.time.parse().ok()));
    Ok(PrunePlan { goes, stays, leftovers, held: held(schedule, &rules, &draft), waits: draft.quiet().err() })
}

fn held(schedule: &BackupSchedule, rules: &Rules, draft: &Draft<'_>) -> Option<Failure> {
    let held = |message: &str, hint: String| {
        let message = format!("BackupSchedule {} {message}", schedule.name_any());
        Some(said(Reason::PruneHeld, message, hint))
    };
    if rules.retention.is_none() {
        return held(
            "has no retention: everything is kept",
            "set spec.retention, such as {keepLast: 7}".to_owned(),
        );
    }
    if rules.suspend {
        let hint = format!("kubectl vouchsafe resume schedule/{}", schedule.name_any());
        return held("is suspended: nothing is pruned", hint);
    }
    let because = draft.status.suspended_because.as_ref()?;
    held("stands still since a run failed: nothing is pruned", because.hint.clone())
}

#[cfg(test)]
#[path = "prune_plan_tests.rs"]
mod tests;
