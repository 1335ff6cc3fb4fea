//! What is kept of a collection, and what goes.
//!
//! Runs are ordered by their numbers, never by clocks: a clock that was set back must not make a new backup old. The
//! time of a run only says which day, week, month or year it stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::api::ValidatedRetention;

/// A sealed run, as retention sees it. Others are no backups, and are not shown to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedRun {
    /// Its number in the collection.
    pub number: u64,
    /// The number of the run that begins its chain; of a full layer its own.
    pub chain: u64,
    /// What it restores to, or a moment close to it.
    pub time: Timestamp,
}

/// Why a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// It is one of the last.
    Last,
    /// It is the last of a day.
    Daily,
    /// It is the last of a week, which begins on a Monday.
    Weekly,
    /// It is the last of a month.
    Monthly,
    /// It is the last of a year.
    Yearly,
    /// It is of one of the newest chains, below which nothing is removed.
    Minimum,
    /// Another run of its chain is kept.
    Chain,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "keepLast",
            Self::Daily => "keepDaily",
            Self::Weekly => "keepWeekly",
            Self::Monthly => "keepMonthly",
            Self::Yearly => "keepYearly",
            Self::Minimum => "minimum",
            Self::Chain => "its chain",
        })
    }
}

/// What is kept, and what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The runs that stay, each with what keeps it.
    pub kept: BTreeMap<u64, BTreeSet<Rule>>,
    /// The runs that go, oldest first; whole chains only.
    pub removed: Vec<u64>,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, rules) in &self.kept {
            let rules: Vec<String> = rules.iter().map(Rule::to_string).collect();
            writeln!(f, "run {number} stays: {}", rules.join(", "))?;
        }
        for number in &self.removed {
            writeln!(f, "run {number} goes")?;
        }
        Ok(())
    }
}

/// Applies `retention` to the sealed runs of a collection; `None` keeps everything. Days, weeks, months and years are
/// those of `zone`.
#[must_use]
pub fn apply(retention: Option<&ValidatedRetention>, zone: &TimeZone, runs: &[SealedRun]) -> Kept {
    let mut newest_first: Vec<SealedRun> = runs.to_vec();
    newest_first.sort_unstable_by_key(|run| std::cmp::Reverse(run.number));
    newest_first.dedup_by_key(|run| run.number);
    let mut decided = Kept::default();
    let Some(retention) = retention else {
        decided.kept = newest_first.iter().map(|run| (run.number, BTreeSet::new())).collect();
        return decided;
    };
    let ValidatedRetention { keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, minimum } =
        *retention;
    let limit = |count: Option<u32>| count.map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX));
    for run in newest_first.iter().take(limit(keep_last)) {
        decided.kept.entry(run.number).or_default().insert(Rule::Last);
    }
    let periods: [(Rule, Option<u32>, fn(Timestamp, &TimeZone) -> Period); 4] = [
        (Rule::Daily, keep_daily, day),
        (Rule::Weekly, keep_weekly, week),
        (Rule::Monthly, keep_monthly, month),
        (Rule::Yearly, keep_yearly, year),
    ];
    for (rule, count, period) in periods {
        let mut taken = BTreeSet::new();
        for run in &newest_first {
            let period = period(run.time, zone);
            if taken.len() < limit(count) && taken.insert(period) {
                decided.kept.entry(run.number).or_default().insert(rule);
            }
        }
    }
    // At least one, whatever was asked for: a prune that leaves nothing is no retention.
    let minimum = limit(Some(minimum)).max(1);
    let mut chains = BTreeSet::new();
    for run in &newest_first {
        if chains.contains(&run.chain) || chains.len() < minimum {
            chains.insert(run.chain);
            decided.kept.entry(run.number).or_default().insert(Rule::Minimum);
        }
    }
    let stay: BTreeSet<u64> = newest_first
        .iter()
        .filter(|run| decided.kept.contains_key(&run.number))
        .map(|run| run.chain)
        .collect();
    for run in newest_first.iter().rev() {
        if !stay.contains(&run.chain) {
            decided.removed.push(run.number);
        } else if !decided.kept.contains_key(&run.number) {
            decided.kept.insert(run.number, BTreeSet::from([Rule::Chain]));
        }
    }
    decided
}

/// A year, and what of it.
type Period = (i16, i8, i8);

fn day(time: Timestamp, zone: &TimeZone) -> Period {
    let date = zone.to_datetime(time).date();
    (date.year(), date.month(), date.day())
}

fn week(time: Timestamp, zone: &TimeZone) -> Period {
    let week = zone.to_datetime(time).date().iso_week_date();
    (week.year(), week.week(), 0)
}

fn month(time: Timestamp, zone: &TimeZone) -> Period {
    let date = zone.to_datetime(time).date();
    (date.year(), date.month(), 0)
}

fn year(time: Timestamp, zone: &TimeZone) -> Period {
    (zone.to_datetime(time).date().year(), 0, 0)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
