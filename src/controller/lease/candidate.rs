//! What one candidate for the Lease knows, and what it does next. Pure: the time on its own clock is passed in.
//!
//! Two clocks are never compared. The holder counts from the moment before it asked for a renewal; everybody else
//! counts from the moment after which they first saw that renewal. The first counts [`Timing::renew_within`], the
//! others [`Timing::duration`], so no two lead at once as long as no clock runs faster than another by more than the
//! ratio of the two: 1.5 with the defaults. Somebody who deletes the Lease twice in a row can break that; writes are
//! guarded in other ways, so what is lost then is work.

use std::time::Duration;

use jiff::Timestamp;

/// A moment on this process's own clock: the time since any fixed moment. It never goes back.
pub type Moment = Duration;

/// The longest duration that is believed of a record: a forged one must not keep everybody out for good.
const LONGEST: Duration = Duration::from_secs(600);

/// How long a holder may lead, and how long others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a record that does not change keeps others out. At least a second: it is written in seconds.
    pub duration: Duration,
    /// How long a holder leads after it asked for a renewal. Less than [`Self::duration`], by the skew allowed.
    pub renew_within: Duration,
    /// The pause between two tries, and between two renewals.
    pub retry: Duration,
}

impl Default for Timing {
    /// Those of Kubernetes' own controllers: 15 s, 10 s, 2 s.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; none: it was released.
    pub holder: Option<String>,
    /// When its holder says that it was acquired, on the holder's clock. Kept, and compared with nothing.
    pub acquired: Option<Timestamp>,
    /// When its holder says that it was renewed, on the holder's clock. Only whether it changes counts.
    pub renewed: Option<Timestamp>,
    /// How long it keeps others out.
    pub duration: Duration,
    /// How often the holder changed.
    pub transitions: i32,
    /// The object's version: a write is of this one, or it is refused.
    pub version: String,
}

impl Record {
    /// Whether `other` shows a sign of life of the holder that this one does not.
    fn renewed_in(&self, other: &Self) -> bool {
        (&self.holder, self.acquired, self.renewed, self.transitions)
            != (&other.holder, other.acquired, other.renewed, other.transitions)
    }
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Another holds it: look again.
    Wait,
    /// There is no Lease: create it, held by this candidate.
    Create,
    /// Write this candidate into the Lease that has just this version.
    Replace {
        /// The version that is replaced.
        version: String,
        /// When it was acquired, of one that is only renewed.
        acquired: Option<Timestamp>,
        /// How often the holder changed, this time included.
        transitions: i32,
    },
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    timing: Timing,
    /// The last record, and when it was first seen as it is.
    seen: Option<(Record, Moment)>,
    /// Since when the Lease, which was there before, is gone.
    gone: Option<Moment>,
    /// Whether the last write was refused, so that what is known is not so any more.
    outdated: bool,
    leads_until: Option<Moment>,
}

impl Candidate {
    /// A candidate that knows nothing yet. `identity` belongs to this process alone, not to its successor in the same
    /// pod either.
    #[must_use]
    pub const fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, gone: None, outdated: false, leads_until: None }
    }

    /// Until when this candidate may act as the leader, unless it renews before.
    #[must_use]
    pub const fn leads_until(&self) -> Option<Moment> {
        self.leads_until
    }

    /// Whether the last that is known names this candidate, so that a renewal needs no look before.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.outdated
            && self.gone.is_none()
            && self.seen.as_ref().is_some_and(|(record, _)| self.is_mine(record))
    }

    fn is_mine(&self, record: &Record) -> bool {
        record.holder.as_deref() == Some(&self.identity)
    }

    /// Takes in what the Lease says; `now` is after the answer came.
    pub fn saw(&mut self, found: Option<Record>, now: Moment) {
        self.outdated = false;
        let Some(found) = found else {
            self.gone = Some(self.gone.unwrap_or(now));
            return;
        };
        self.gone = None;
        if !self.is_mine(&found) {
            self.leads_until = None;
        }
        match &mut self.seen {
            Some((known, _)) if !known.renewed_in(&found) => *known = found,
            _ => self.seen = Some((found, now)),
        }
    }

    /// What to do at `now`.
    #[must_use]
    pub fn decide(&self, now: Moment) -> Act {
        let Some((record, since)) = &self.seen else {
            return Act::Create;
        };
        let theirs = record.duration.min(LONGEST).max(self.timing.duration);
        let is_over = |since: Moment| now >= since.saturating_add(theirs);
        if let Some(gone) = self.gone {
            // Somebody deleted it. Whoever held it, perhaps unseen, leads on until it finds out.
            return if is_over(gone) { Act::Create } else { Act::Wait };
        }
        let mine = self.is_mine(record);
        if record.holder.is_some() && !mine && !is_over(*since) {
            return Act::Wait;
        }
        Act::Replace {
            version: record.version.clone(),
            acquired: record.acquired.filter(|_| mine),
            transitions: record.transitions.saturating_add(i32::from(!mine)),
        }
    }

    /// Takes in that a write was acknowledged, as `record`; it was asked for at `asked`, and known at `now`.
    pub fn wrote(&mut self, record: Record, asked: Moment, now: Moment) {
        self.saw(Some(record), now);
        if self.holds() {
            self.leads_until = Some(asked.saturating_add(self.timing.renew_within));
        }
    }

    /// Takes in that a write was refused, as the Lease is not as it was: it must be looked at before the next.
    pub const fn was_refused(&mut self) {
        self.outdated = true;
    }

    /// What is to be released, if this candidate holds it. It leads no longer.
    pub fn release(&mut self) -> Option<Record> {
        self.leads_until = None;
        let held = self.holds();
        self.seen.as_ref().filter(|_| held).map(|(record, _)| record.clone())
    }
}

#[cfg(test)]
#[path = "candidate_tests.rs"]
mod tests;
