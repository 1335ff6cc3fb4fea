//! Which backups go, and why the others stay: worked out of the history alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::super::error::EngineError;
use super::history::{History, SealedBackup};
use crate::api::ValidatedRetention;
use crate::plan::retention::{self, SealedRun};

/// What a prune is asked for.
#[derive(Clone, Debug)]
pub struct PruneRule {
    /// Only these may go; absent: any that the policy doesn't keep.
    pub runs: Option<BTreeSet<u32>>,
    /// What stays, whatever `runs` says; absent: `runs` alone decides, and without either nothing is retired.
    pub retention: Option<ValidatedRetention>,
    /// Where the days of the retention begin.
    pub zone: TimeZone,
    /// Backups below which nothing is retired, at least 1: the newest always stays.
    pub minimum: u32,
    /// All runs of this owner go, and no others: its user has deleted it. Nothing else here counts then, and nothing
    /// need stay.
    pub owner: Option<String>,
}

/// What goes, and what stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// The backups that go, by number.
    pub(super) goes: BTreeMap<u32, SealedBackup>,
    /// Those that stay, and why.
    pub(super) stays: BTreeMap<u32, (SealedBackup, String)>,
    /// Why a backup goes, in the words of `retired.json`.
    pub(super) reason: &'static str,
}

impl PruneRule {
    /// # Errors
    /// [`EngineError::NoBackup`] if a run that was asked for by its number alone is no backup, and
    /// [`EngineError::RetentionFloor`] if too little would be left.
    pub(super) fn choose(&self, history: &History) -> Result<Choice, EngineError> {
        let Self { runs, retention, zone, minimum, owner } = self;
        if let Some(owner) = owner {
            return Ok(of_owner(history, owner));
        }
        let floor = (*minimum).max(1) as usize;
        let all: Vec<SealedBackup> = history.sealed.values().copied().collect();
        let layers: Vec<SealedRun> = all.iter().map(full_layer).collect();
        // The floor is this rule's, whatever minimum the retention names.
        let retained = retention.map(|it| ValidatedRetention { minimum: floor as u32, ..it });
        let kept = retention::apply(retained.as_ref(), zone, &layers).kept;
        if retention.is_none() {
            self.must_be_backups(history)?;
        }
        let why_it_stays = |backup: &SealedBackup| match (runs, retention) {
            (None, None) => Some("no rule was given".to_owned()),
            (Some(runs), _) if !runs.contains(&backup.run) => Some("not asked for".to_owned()),
            (Some(_), None) => None,
            (_, Some(_)) => kept
                .get(&u64::from(backup.run))
                .map(|rules| rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let reason = if retention.is_some() { "no rule of the retention keeps it" } else { "it was named" };
        let mut choice = Choice { reason, ..Choice::default() };
        for backup in all {
            match why_it_stays(&backup) {
                Some(why) => drop(choice.stays.insert(backup.run, (backup, why))),
                None => drop(choice.goes.insert(backup.run, backup)),
            }
        }
        choice.check_floor(history, floor)?;
        Ok(choice)
    }

    /// Whether this rule is about `run`, as far as its leftovers go.
    pub(super) fn is_about(&self, history: &History, run: u32) -> bool {
        self.owner.as_ref().is_none_or(|owner| history.is_of(run, owner))
    }

    /// What is left without `goes` must be enough, unless nothing need stay.
    pub(super) fn check(&self, goes: &Choice, history: &History) -> Result<(), EngineError> {
        match self.owner {
            Some(_) => Ok(()),
            None => goes.check_floor(history, self.minimum as usize),
        }
    }

    fn must_be_backups(&self, history: &History) -> Result<(), EngineError> {
        for run in self.runs.iter().flatten() {
            if history.sealed.contains_key(run) || history.retired.contains_key(run) {
                continue;
            }
            let what = match history.void.get(run) {
                Some(reason) => format!("run {run} is void ({reason}), and holds no backup"),
                None if history.prunes.contains(run) => format!("run {run} is a prune, and holds no backup"),
                None => format!("run {run} is not there, or not decided"),
            };
            return Err(EngineError::NoBackup(what));
        }
        Ok(())
    }
}

/// The backups of `owner`, but for those that a layer of somebody else's builds on.
fn of_owner(history: &History, owner: &str) -> Choice {
    let mut choice = Choice { reason: "its Backup was deleted", ..Choice::default() };
    for backup in history.sealed.values() {
        let (run, layer) = (backup.run, full_layer(backup));
        let needed = history.sealed.values().map(full_layer).find(|it| {
            let other = u32::try_from(it.number).unwrap_or(u32::MAX);
            it.chain == layer.chain && other > run && !history.is_of(other, owner)
        });
        match needed {
            _ if !history.is_of(run, owner) => {
                drop(choice.stays.insert(run, (*backup, "another's".to_owned())));
            }
            Some(later) => {
                drop(choice.stays.insert(run, (*backup, format!("run {} builds on it", later.number))));
            }
            None => drop(choice.goes.insert(run, *backup)),
        }
    }
    choice
}

/// Every backup is a full layer now, and the chain of itself.
fn full_layer(backup: &SealedBackup) -> SealedRun {
    let number = u64::from(backup.run);
    SealedRun { number, chain: number, time: backup.sealed }
}

impl Choice {
    /// What is left must be enough, and hold the newest: worked out anew, whatever rule has chosen.
    pub(super) fn check_floor(&self, history: &History, floor: usize) -> Result<(), EngineError> {
        if self.goes.is_empty() {
            return Ok(());
        }
        let left = history.sealed.keys().filter(|run| !self.goes.contains_key(run)).count();
        if let Some(newest) = history.newest().filter(|newest| self.goes.contains_key(newest)) {
            return Err(EngineError::RetentionFloor(format!("run {newest} is the newest backup there is")));
        }
        if left < floor.max(1) {
            return Err(EngineError::RetentionFloor(format!(
                "{left} of {} backups would be left, and {floor} must be",
                history.sealed.len()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::format::Sha256Digest;

    prop_compose! {
        fn histories()(seconds in vec((0..100_000_000_i64, 0..4_u8), 0..40)) -> History {
            let mut history = History::default();
            for (run, (second, kind)) in (1..).zip(seconds) {
                let sealed = jiff::Timestamp::from_second(1_700_000_000 + second).unwrap();
                if kind == 0 {
                    history.void.insert(run, "Canceled".into());
                } else {
                    history.sealed.insert(run, SealedBackup { run, sealed, outcome: Sha256Digest::of(b"") });
                }
            }
            history
        }
    }

    prop_compose! {
        fn rules()(
            runs in option::of(btree_set(1..50_u32, 0..20)),
            limits in option::of([option::of(1..9_u32), option::of(1..9), option::of(1..9), option::of(1..9)]),
            minimum in 0..6_u32,
        ) -> PruneRule {
            let retention = limits.map(|[keep_last, keep_daily, keep_weekly, keep_monthly]| ValidatedRetention {
                keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly: Some(1), minimum: 1,
            });
            PruneRule { runs, retention, zone: TimeZone::UTC, minimum, owner: None }
        }
    }

    proptest! {
        /// Whatever is asked for, and however often: enough stays, the newest among it, and nothing goes that was not
        /// asked for.
        #[test]
        fn no_rule_takes_too_much(mut history in histories(), rule in rules()) {
            for _ in 0..3 {
                let Ok(choice) = rule.choose(&history) else { return Ok(()) };
                let before = history.sealed.len();
                let left = before - choice.goes.len();
                prop_assert!(choice.goes.is_empty() || left >= rule.minimum.max(1) as usize);
                prop_assert!(history.newest().is_none_or(|newest| choice.stays.contains_key(&newest)));
                prop_assert_eq!(choice.stays.len(), left);
                for run in choice.goes.keys() {
                    prop_assert!(rule.runs.as_ref().is_none_or(|runs| runs.contains(run)));
                    prop_assert!(rule.runs.is_some() || rule.retention.is_some());
                    history.sealed.remove(run);
                }
            }
        }

        /// A deleted Backup takes what it claimed itself, to the last backup there is, and never another's.
        #[test]
        fn an_owner_takes_its_own_runs_alone(mut history in histories(), rule in rules(), owners in vec(0..3_u8, 40)) {
            for (run, owner) in (1_u32..).zip(owners) {
                // Of some runs the claim can't be read.
                if owner > 0 {
                    history.owners.insert(run, format!("uid-{owner}"));
                }
            }
            let rule = PruneRule { owner: Some("uid-1".into()), ..rule };
            let choice = rule.choose(&history).unwrap();
            let own = |run: &u32| history.owners.get(run).is_some_and(|it| it == "uid-1");
            prop_assert!(choice.goes.keys().all(own));
            prop_assert!(choice.stays.keys().all(|run| !own(run)), "every layer is a full one");
            prop_assert_eq!(choice.goes.len() + choice.stays.len(), history.sealed.len());
            for run in history.sealed.keys().chain(history.void.keys()) {
                prop_assert_eq!(rule.is_about(&history, *run), own(run));
            }
        }

        /// What came to nothing counts for nothing: void runs after a backup never make it go.
        #[test]
        fn failures_take_nothing(mut history in histories(), rule in rules(), failures in 1..30_u32) {
            let choose = |history: &History| {
                rule.choose(history).ok().map(|it| it.goes.into_keys().collect::<Vec<_>>())
            };
            let before = choose(&history);
            let first = history.sealed.keys().chain(history.void.keys()).max().map_or(1, |run| run + 1);
            let asked = |run: u32| rule.runs.as_ref().is_some_and(|runs| runs.contains(&run));
            history.void.extend((first..first + failures).filter(|run| !asked(*run)).map(|run| (run, "X".into())));
            prop_assert_eq!(choose(&history), before);
        }
    }
}
