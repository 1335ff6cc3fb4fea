//! Which runs of a schedule begin a chain.

use std::time::Duration;

use jiff::Timestamp;

use super::cron::{Clock, ClockError};
use crate::api::FullSchedule;

/// Ticks that are looked at to learn whether every one is full: with those of an interval's own length and of whole
/// weeks, more than a year of days.
const LOOKED_AT: usize = 400;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a run makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A chain of its own.
    Full,
    /// A layer on the newest chain.
    Incremental,
}

/// When a new chain starts.
#[derive(Clone, Debug)]
pub enum Cadence {
    /// With every run.
    Always,
    /// With the first run at or after each tick.
    At(Clock),
}

impl Cadence {
    /// What `full` means for a schedule with this clock: unless it says so itself, daily for one of an hour or
    /// denser, weekly for one of a day or denser, else always.
    ///
    /// # Errors
    /// If `full` is no clock.
    pub fn new(full: &FullSchedule, clock: &Clock) -> Result<Self, ClockError> {
        let zone = clock.zone().iana_name().unwrap_or("UTC");
        Ok(match full {
            FullSchedule::Always => Self::Always,
            FullSchedule::At(text) => Self::At(Clock::new(text, zone)?),
            FullSchedule::Derived if clock.interval() <= HOUR => Self::At(Clock::new("@daily", zone)?),
            FullSchedule::Derived if clock.interval() <= DAY => Self::At(Clock::new("@weekly", zone)?),
            FullSchedule::Derived => Self::Always,
        })
    }

    /// What the run of `tick` makes, `before` being the tick before it.
    #[must_use]
    pub fn layer(&self, before: Timestamp, tick: Timestamp) -> Layer {
        match self {
            Self::Always => Layer::Full,
            Self::At(full) => match full.at_or_before(tick) {
                Some(due) if due > before => Layer::Full,
                _ => Layer::Incremental,
            },
        }
    }

    /// Whether a run of `clock` after `now` would be incremental.
    #[must_use]
    pub fn has_incrementals(&self, clock: &Clock, now: Timestamp) -> bool {
        if matches!(self, Self::Always) {
            return false;
        }
        let ticks = std::iter::successors(clock.after(now), |tick| clock.after(*tick)).take(LOOKED_AT);
        let ticks: Vec<Timestamp> = ticks.collect();
        ticks.windows(2).any(|pair| self.layer(pair[0], pair[1]) == Layer::Incremental)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn full(text: &str) -> FullSchedule {
        match text {
            "" => FullSchedule::Derived,
            "Always" => FullSchedule::Always,
            cron => FullSchedule::At(cron.into()),
        }
    }

    #[rstest]
    #[case("0 * * * *", "", true)]
    #[case("0 * * * *", "Always", false)]
    #[case("0 * * * *", "@weekly", true)]
    #[case("0 * * * *", "@hourly", false)]
    #[case("@daily", "", true)]
    #[case("0 3 * * *", "@daily", false)]
    #[case("@weekly", "", false)]
    #[case("@monthly", "", false)]
    #[case("@monthly", "@weekly", false)]
    #[case("0 0 1,15 * *", "@monthly", true)]
    fn a_schedule_denser_than_its_fulls(#[case] schedule: &str, #[case] of: &str, #[case] wanted: bool) {
        let clock = Clock::new(schedule, "Europe/Berlin").unwrap();
        let cadence = Cadence::new(&full(of), &clock).unwrap();
        assert_eq!(cadence.has_incrementals(&clock, Timestamp::UNIX_EPOCH), wanted);
    }

    #[test]
    fn the_first_tick_at_or_after_is_full() {
        let clock = Clock::new("30 */6 * * *", "UTC").unwrap();
        let cadence = Cadence::new(&FullSchedule::At("0 3 * * *".into()), &clock).unwrap();
        let mut now: Timestamp = "2026-11-22T00:30:00Z".parse().unwrap();
        let mut layers = Vec::new();
        for _ in 0..5 {
            let next = clock.after(now).unwrap();
            layers.push(cadence.layer(now, next));
            now = next;
        }
        use Layer::{Full, Incremental};
        assert_eq!(layers, [Full, Incremental, Incremental, Incremental, Full]);
    }

    #[test]
    fn a_full_schedule_that_is_no_clock_is_refused() {
        let clock = Clock::new("@daily", "UTC").unwrap();
        assert!(Cadence::new(&full("0 0 30 2 *"), &clock).is_err());
    }
}
