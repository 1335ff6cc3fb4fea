//! What became of the run that was started last, and whether it is tried again. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::decide::{Draft, Rules, said, text};
use super::facts;
use super::observe::BackupState;
use super::reasons::ScheduleReason as Reason;
use crate::api::{OnFailure, ScheduledRun, ScheduledRunState as State};
use crate::plan::timetable::Due;

/// Attempts for one tick at most, the first included. With the pauses between them, what has failed so often takes
/// an hour, and fails for a reason.
pub(super) const ATTEMPTS: i64 = 6;
/// The first pause before another attempt; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// The pause before the attempt after `attempt`.
fn pause(attempt: i64) -> SignedDuration {
    let doubled = 1 << u32::try_from(attempt - 1).unwrap_or(0).min(10);
    SignedDuration::try_from(FIRST_PAUSE * doubled).unwrap_or(SignedDuration::from_hours(1))
}

impl Draft<'_> {
    /// Reads off the Backups what became of the last run.
    pub(super) fn follow(&mut self, rules: &Rules) {
        let Some(mut run) = self.status.last_run.take() else { return };
        let found = self.observed.backups.iter().find(|backup| backup.name == run.name);
        let is_starting = run.state == State::Starting;
        match (run.state, found) {
            (State::Starting, Some(_)) => {
                run.state = State::Started;
                run.failure = None;
            }
            (State::Starting, None) => {
                let decided = run.decided_at.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH);
                if self.now.duration_since(decided) > rules.deadline {
                    self.miss(&mut run, "it could not be started before its deadline");
                } else if self.observed.taken {
                    let message = format!("there is a Backup {} that this schedule has not made", run.name);
                    let hint = "delete or rename it, or wait for the next run";
                    run.failure = Some(said(Reason::BackupNameTaken, message, hint));
                }
            }
            _ => {}
        }
        if is_starting && run.state == State::Started {
            self.status.last_schedule_time = Some(run.tick.clone());
        }
        if run.state == State::Started {
            match found.map(|backup| &backup.state) {
                Some(BackupState::Active | BackupState::Unreadable) => {}
                // Somebody has deleted it: that is no failure, and no reason for another.
                None => end(&mut run, State::Canceled, Some(self.now)),
                Some(BackupState::Sealed(sealed) | BackupState::Retired(sealed)) => {
                    end(&mut run, State::Succeeded, Some(sealed.at))
                }
                Some(BackupState::Canceled { at }) => end(&mut run, State::Canceled, at.or(Some(self.now))),
                Some(BackupState::Failed { at, failure }) => {
                    let at = at.unwrap_or(self.now);
                    end(&mut run, State::Failed, Some(at));
                    run.failure.clone_from(failure);
                    self.failed(rules, &run, at);
                }
            }
        }
        self.status.last_run = Some(run);
    }

    fn failed(&mut self, rules: &Rules, run: &ScheduledRun, at: Timestamp) {
        if facts::proven_since(self.observed, at) {
            return;
        }
        let failures = self.status.consecutive_failures.unwrap_or(0);
        self.status.consecutive_failures = Some(failures.saturating_add(1));
        if rules.on_failure == OnFailure::Suspend {
            let why = run.failure.as_ref().map(|it| format!(": {}, {}", it.reason, it.message));
            let message = format!("Backup {} failed{}", run.name, why.unwrap_or_default());
            let hint = "mend it, then kubectl vouchsafe resume it, or change anything in its spec";
            self.status.suspended_because = Some(said(Reason::RunFailed, message, hint));
        }
    }

    /// The run is given up, and counted.
    pub(super) fn miss(&mut self, run: &mut ScheduledRun, why: &str) {
        run.state = State::Missed;
        run.ended_at = Some(self.now.to_string());
        let hint = "see that the controller runs, and what the schedule's conditions said";
        let missed = said(Reason::RunMissed, format!("Backup {} was not made: {why}", run.name), hint);
        // What hindered it tells more.
        run.failure.get_or_insert(missed);
        self.missed(1);
    }

    /// Another attempt for the last tick, if there is to be one.
    pub(super) fn retry(&mut self, rules: &Rules, next: Option<Due>) {
        let Some(run) = self.status.last_run.clone() else { return };
        if rules.on_failure != OnFailure::Retry || run.state != State::Failed || run.attempt >= ATTEMPTS {
            return;
        }
        let ended = run.ended_at.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        let (Some(ended), Ok(tick)) = (ended, run.tick.parse::<Timestamp>()) else { return };
        if facts::proven_since(self.observed, ended) {
            return;
        }
        let Ok(at) = ended.checked_add(pause(run.attempt)) else { return };
        // The next run is another attempt anyway.
        if next.is_some_and(|next| next.at <= at) {
            return;
        }
        if self.now < at {
            self.look_at(at);
            self.waits.push(format!("waits to try {} again at {at}", run.name));
            self.status.next_schedule_time = Some(text(at));
            return;
        }
        if !self.status.active.is_empty() {
            self.waits
                .push(format!("waits for {} to end before another attempt", self.status.active.join(", ")));
            return;
        }
        if self.now.duration_since(at) <= rules.deadline {
            self.start(tick, run.attempt + 1);
        }
    }
}

fn end(run: &mut ScheduledRun, state: State, at: Option<Timestamp>) {
    run.state = state;
    run.ended_at = at.map(|at| at.to_string());
}
