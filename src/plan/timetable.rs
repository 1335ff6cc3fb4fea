//! When runs are due: a clock's ticks, each put off by the same share of a jitter.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::cron::Clock;
use crate::format::Sha256Digest;

/// The share of the interval that runs are spread over, unless a jitter is given.
const SHARE: u32 = 10;

/// A clock whose ticks are put off.
#[derive(Clone, Debug)]
pub struct Timetable {
    clock: Clock,
    jitter: Duration,
    /// Of 2^32: which part of the jitter is this one's.
    part: u32,
}

/// One run to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// What the clock says.
    pub tick: Timestamp,
    /// When it is to begin.
    pub at: Timestamp,
}

impl Timetable {
    /// The timetable of the object with this UID: the same UID is always put off by the same part of `jitter`, or
    /// of a tenth of the clock's interval.
    #[must_use]
    pub fn new(clock: Clock, jitter: Option<Duration>, uid: &str) -> Self {
        let jitter = jitter.unwrap_or(clock.interval() / SHARE);
        let digest = Sha256Digest::of(uid.as_bytes()).to_string();
        let part = u32::from_str_radix(&digest[..8], 16).expect("a digest prints as hexadecimal digits");
        Self { clock, jitter, part }
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The run of a tick. It is due before the next tick, whatever the jitter: runs stay in order.
    #[must_use]
    pub fn of(&self, tick: Timestamp) -> Due {
        let gap = self.clock.after(tick).and_then(|next| Duration::try_from(next.duration_since(tick)).ok());
        let most = gap.map_or(self.jitter, |gap| gap.min(self.jitter));
        let seconds = (u128::from(most.as_secs()) * u128::from(self.part)) >> 32;
        let off = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0));
        Due { tick, at: tick.checked_add(off).unwrap_or(tick) }
    }

    /// The newest run that is due at `now`.
    #[must_use]
    pub fn newest(&self, now: Timestamp) -> Option<Due> {
        let due = self.of(self.clock.at_or_before(now)?);
        if due.at <= now {
            return Some(due);
        }
        let before = due.tick.checked_sub(SignedDuration::from_secs(1)).ok()?;
        Some(self.of(self.clock.at_or_before(before)?))
    }

    /// The first run that is due after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Due> {
        let due = self.clock.at_or_before(now).map(|tick| self.of(tick));
        if let Some(due) = due.filter(|due| due.at > now) {
            return Some(due);
        }
        Some(self.of(self.clock.after(now)?))
    }

    /// How many ticks lie between two moments, both of them left out; no more than `most` are counted.
    #[must_use]
    pub fn between(&self, from: Timestamp, to: Timestamp, most: usize) -> usize {
        let ticks = std::iter::successors(self.clock.after(from), |tick| self.clock.after(*tick));
        ticks.take_while(|tick| *tick < to).take(most).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timetable(text: &str, jitter: Option<u64>, uid: &str) -> Timetable {
        Timetable::new(Clock::new(text, "Europe/Berlin").unwrap(), jitter.map(Duration::from_secs), uid)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_tenth_of_the_interval_spreads_a_hundred_objects() {
        let tick = at("2026-11-22T10:00:00Z");
        let mut minutes = [0; 6];
        for uid in 0..100 {
            let due = timetable("0 * * * *", None, &format!("uid-{uid}")).of(tick);
            let off = due.at.duration_since(tick).as_mins();
            minutes[usize::try_from(off).unwrap()] += 1;
        }
        assert!(minutes.iter().all(|count| *count >= 5), "{minutes:?}");
    }

    #[test]
    fn no_jitter_is_the_tick_itself() {
        let tick = at("2026-11-22T10:00:00Z");
        assert_eq!(timetable("0 * * * *", Some(0), "u").of(tick), Due { tick, at: tick });
    }

    #[test]
    fn days_of_downtime_are_counted_up_to_a_limit() {
        let every_minute = timetable("* * * * *", None, "u");
        let (from, to) = (at("2026-11-22T10:00:00Z"), at("2026-11-22T11:00:00Z"));
        assert_eq!(every_minute.between(from, to, 1000), 59);
        assert_eq!(every_minute.between(from, to, 10), 10);
    }

    proptest! {
        /// However long the jitter: due in order, deterministic, and newest and next are neighbours.
        #[test]
        fn runs_stay_in_order(
            text in prop::sample::select(vec!["*/5 * * * *", "0 * * * *", "0 2 * * *", "30 2,3 * * *", "@weekly"]),
            jitter in prop::option::of(0..1_000_000_u64),
            uid in "[a-z0-9]{8}",
            now in 1_760_000_000_i64..1_800_000_000,
        ) {
            let (table, now) = (timetable(text, jitter, &uid), Timestamp::from_second(now).unwrap());
            let (newest, next) = (table.newest(now).unwrap(), table.next(now).unwrap());
            prop_assert!(newest.at <= now && now < next.at, "{newest:?} {next:?}");
            prop_assert_eq!(table.clock().after(newest.tick), Some(next.tick));
            prop_assert!(newest.at >= newest.tick && newest.at < next.tick);
            prop_assert_eq!(timetable(text, jitter, &uid).of(newest.tick), newest);
        }
    }
}
