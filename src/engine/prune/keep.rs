//! What a retention policy keeps: whatever any of its rules keeps. Order is that of run numbers; times only tell one
//! day, week, month or year from the next.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::history::SealedBackup;

/// A retention policy. A rule of `n` keeps the newest backup of each of the newest `n` periods that have one.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The newest so many.
    pub last: Option<u32>,
    /// Of so many days.
    pub daily: Option<u32>,
    /// Of so many weeks, as ISO 8601 counts them: from Monday.
    pub weekly: Option<u32>,
    /// Of so many months.
    pub monthly: Option<u32>,
    /// Of so many years.
    pub yearly: Option<u32>,
    /// Where days begin.
    pub zone: TimeZone,
}

impl Policy {
    /// Whether any rule is given: a policy without one keeps nothing, and is none.
    #[must_use]
    pub const fn keeps_something(&self) -> bool {
        let Self { last, daily, weekly, monthly, yearly, zone: _ } = self;
        last.is_some() || daily.is_some() || weekly.is_some() || monthly.is_some() || yearly.is_some()
    }

    /// Of `backups`, in ascending order, those that stay, each with the first rule that keeps it.
    pub(super) fn kept(&self, backups: &[SealedBackup]) -> BTreeMap<u32, &'static str> {
        let Self { last, daily, weekly, monthly, yearly, zone: _ } = self;
        let mut kept = BTreeMap::new();
        let mut keep = |limit: &Option<u32>, rule: &'static str, period: &dyn Fn(&SealedBackup) -> (i32, i32)| {
            let (limit, mut seen) = (limit.unwrap_or(0) as usize, BTreeSet::new());
            for backup in backups.iter().rev() {
                if seen.len() >= limit {
                    break;
                }
                if seen.insert(period(backup)) {
                    kept.entry(backup.run).or_insert(rule);
                }
            }
        };
        let date = |backup: &SealedBackup| -> Date { backup.sealed.to_zoned(self.zone.clone()).date() };
        // A period of its own for each: runs are numbered densely from 1, so halves of 32 bits keep them apart.
        keep(last, "last", &|it| ((it.run >> 16) as i32, (it.run & 0xffff) as i32));
        keep(daily, "daily", &|it| (date(it).year().into(), date(it).day_of_year().into()));
        keep(weekly, "weekly", &|it| {
            let week = date(it).iso_week_date();
            (week.year().into(), week.week().into())
        });
        keep(monthly, "monthly", &|it| (date(it).year().into(), date(it).month().into()));
        keep(yearly, "yearly", &|it| (date(it).year().into(), 0));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Sha256Digest;

    fn policy() -> Policy {
        Policy { last: None, daily: None, weekly: None, monthly: None, yearly: None, zone: TimeZone::UTC }
    }

    fn backups(times: &[&str]) -> Vec<SealedBackup> {
        let backup = |(run, time): (u32, &&str)| SealedBackup {
            run,
            sealed: time.parse().unwrap(),
            outcome: Sha256Digest::of(b""),
        };
        (1..).zip(times).map(backup).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        let all = backups(&[
            "2025-12-31T01:00:00Z",
            "2026-01-01T01:00:00Z",
            "2026-01-01T13:00:00Z",
            "2026-01-02T01:00:00Z",
            "2026-02-01T01:00:00Z",
        ]);
        let kept = |policy: Policy| policy.kept(&all).into_keys().collect::<Vec<_>>();
        assert_eq!(kept(policy()), [0_u32; 0]);
        assert_eq!(kept(Policy { last: Some(2), ..policy() }), [4, 5]);
        assert_eq!(kept(Policy { daily: Some(3), ..policy() }), [3, 4, 5]);
        // 2025-12-31 to 2026-01-02 are one ISO week.
        assert_eq!(kept(Policy { weekly: Some(2), ..policy() }), [4, 5]);
        assert_eq!(kept(Policy { monthly: Some(9), ..policy() }), [1, 4, 5]);
        assert_eq!(kept(Policy { yearly: Some(2), last: Some(1), ..policy() }), [1, 5]);
        let zone = TimeZone::fixed(jiff::tz::offset(-2));
        // Two hours west, 01:00 is still the day before.
        assert_eq!(kept(Policy { daily: Some(9), zone, ..policy() }), [1, 2, 4, 5]);
    }
}
