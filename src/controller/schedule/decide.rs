//! What is to be done next for a BackupSchedule, as a value. Pure: what there is and what time it is are passed in.
//!
//! A run is fired in three steps, each of which may be the last that this process makes: the status names the Backup
//! that is meant, the Backup is made under that name, the status says that it is there. The name follows from the
//! tick, so that a repeated step meets what the first one left.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::build::backup_name;
use super::conditions::{self, MAX_MESSAGE, RecoveryPoint, RetentionApplied, Verdict};
use super::facts;
use super::observe::Observed;
use super::prune::{self, Prune};
use super::reasons::ScheduleReason as Reason;
use crate::api::{
    BackupSchedule, BackupScheduleStatus, Concurrency, Failure, FollowedClock, OnFailure, ScheduledRun,
    ScheduledRunState as State, ValidatedRetention, ValidatedSchedule,
};
use crate::plan::cadence::Cadence;
use crate::plan::cron::{Clock, ClockError};
use crate::plan::timetable::{Due, Timetable};

/// Ticks that are counted as missed in one look at most: a year of hours. Whoever was away longer reads a number
/// that is too small, and not for minutes.
const MAX_MISSED: usize = 8784;
/// The longest time without a look. Timers have limits, and a daily look costs little.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// How often is looked while a Backup goes on or could not be made: an event that got lost must not stop a schedule.
pub(super) const POLL: SignedDuration = SignedDuration::from_mins(1);

/// What comes next.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The status as it is now, without the result of a restore test.
    pub status: BackupScheduleStatus,
    /// The run whose Backup is to be made, once the status is written.
    pub start: Option<ScheduledRun>,
    /// Resources of failed and of retired runs to delete.
    pub forget: Vec<Forget>,
    /// What is to be done about prunes.
    pub prune: Prune,
    /// Whether a prune is due or under way, so that its Jobs and the store matter.
    pub looks_for_prune: bool,
    /// What it waits for.
    pub waits: String,
    /// When to look again without an event.
    pub again_after: Option<Duration>,
}

/// The resource of a failed or retired run, to be deleted. Its data, if it left any, is the prune's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forget {
    /// Its name.
    pub name: String,
    /// Its UID: another one of that name stays.
    pub uid: String,
    /// What became of it, in one word.
    pub why: &'static str,
}

impl Plan {
    /// Whether nothing is made, deleted or looked at; the status may still say something else than the one before.
    #[must_use]
    pub const fn changes_nothing(&self) -> bool {
        self.start.is_none() && self.forget.is_empty() && !self.looks_for_prune
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ScheduledRun { name, .. }) = &self.start {
            write!(f, "start {name}; ")?;
        }
        for Forget { name, why, .. } in &self.forget {
            write!(f, "delete the resource of {why} {name}; ")?;
        }
        for start in &self.prune.start {
            let runs: Vec<String> = self.prune.runs.iter().map(u64::to_string).collect();
            write!(f, "{start}, for runs [{}]; ", runs.join(", "))?;
        }
        for stop in &self.prune.end {
            write!(f, "{stop}; ")?;
        }
        f.write_str(&self.waits)
    }
}

pub(super) fn said(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Failure {
    let message: String = message.into();
    let message = message.chars().take(MAX_MESSAGE).collect();
    Failure { reason: reason.reason().to_owned(), message, hint: hint.into() }
}

/// A moment as a status holds it.
pub(super) fn text(moment: Timestamp) -> String {
    moment.to_string()
}

/// A schedule, parsed.
pub(super) struct Rules {
    pub(super) table: Timetable,
    pub(super) deadline: SignedDuration,
    concurrency: Concurrency,
    pub(super) on_failure: OnFailure,
    pub(super) suspend: bool,
    pub(super) retention: Option<ValidatedRetention>,
    failed_history_limit: u32,
    objective: Option<Duration>,
    schedule: String,
    time_zone: String,
}

impl Rules {
    pub(super) fn of(schedule: &BackupSchedule, now: Timestamp) -> Result<Self, Failure> {
        let valid = ValidatedSchedule::try_from(schedule.clone()).map_err(|refusals| {
            said(Reason::SpecRefused, refusals.to_string(), "mend each line that is named")
        })?;
        let ValidatedSchedule {
            identity: _,
            schedule: cron,
            time_zone,
            full,
            jitter,
            starting_deadline,
            concurrency,
            recovery_point_objective,
            on_failure,
            suspend,
            retention,
            failed_history_limit,
            labels: _,
            annotations: _,
            template: _,
        } = valid;
        let clock = Clock::new(&cron, &time_zone).map_err(|error| of_clock("spec.schedule", &error))?;
        let cadence = Cadence::new(&full, &clock).map_err(|error| of_clock("spec.fullSchedule", &error))?;
        if cadence.has_incrementals(&clock, now) {
            let message = "spec.fullSchedule: some runs of this schedule would be incremental, and this version \
                           makes full backups only";
            return Err(said(Reason::NotBuiltYet, message, "set fullSchedule: Always"));
        }
        let uid = schedule.uid().unwrap_or_default();
        Ok(Self {
            table: Timetable::new(clock, jitter, &uid),
            deadline: SignedDuration::try_from(starting_deadline).unwrap_or(SignedDuration::MAX),
            concurrency,
            on_failure,
            suspend,
            retention,
            failed_history_limit,
            objective: recovery_point_objective,
            schedule: cron,
            time_zone,
        })
    }
}

fn of_clock(field: &str, error: &ClockError) -> Failure {
    let (reason, field, hint) = match error {
        ClockError::Malformed { .. } => {
            (Reason::CronMalformed, field, "write minute, hour, day, month and weekday, like `0 2 * * *`")
        }
        ClockError::Never { .. } => (Reason::NeverDue, field, "name a day that there is"),
        ClockError::UnknownZone { .. } => {
            (Reason::TimeZoneUnknown, "spec.timeZone", "take an IANA name, like `Europe/Berlin`")
        }
    };
    said(reason, format!("{field}: {error}"), hint)
}

/// What comes next.
#[must_use]
pub fn decide(schedule: &BackupSchedule, observed: &Observed, now: Timestamp) -> Plan {
    let observed = &prune::marked(schedule, observed);
    let mut draft = Draft::new(schedule, observed, now);
    facts::tell(&mut draft.status, observed);
    let rules = match Rules::of(schedule, now) {
        Ok(rules) => rules,
        Err(failure) => return draft.stalled(failure),
    };
    draft.follow(&rules);
    draft.status.next_prune =
        facts::next_prune(observed, schedule, rules.retention.as_ref(), rules.table.clock().zone());
    draft.forget = facts::forget(observed, rules.failed_history_limit);
    draft.forget.extend(prune::forget(observed));
    if rules.retention.is_none() {
        draft.applied = RetentionApplied::NotAsked;
    }
    if rules.suspend || draft.status.suspended_because.is_some() {
        draft.stop_prunes();
        return draft.stopped(&rules);
    }
    draft.fire(&rules);
    draft.prune(&rules);
    draft.goes_on(&rules)
}

/// The status after the API server has refused the Backup that `schedule`'s status names, for the reason `why`.
#[must_use]
pub fn refused(schedule: &BackupSchedule, why: &str, now: Timestamp) -> BackupScheduleStatus {
    let observed = Observed::default();
    let mut draft = Draft::new(schedule, &observed, now);
    let message = match &mut draft.status.last_run {
        Some(run) => format!("the API server does not take Backup {}: {why}", run.name),
        None => format!("the API server does not take a Backup: {why}"),
    };
    let failure = said(Reason::BackupRefused, message, "it is tried again until the starting deadline");
    if let Some(run) = &mut draft.status.last_run {
        run.failure = Some(failure.clone());
    }
    let point = draft.status.conditions.iter().find(|it| it.type_ == "RecoveryPointMet").cloned();
    let now = draft.now;
    conditions::set(
        &mut draft.status,
        &Verdict::Hindered(failure),
        &RecoveryPoint::NotAsked,
        &RetentionApplied::AsBefore,
        schedule.metadata.generation,
        now,
    );
    draft.status.conditions.extend(point);
    draft.status
}

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) schedule: &'a BackupSchedule,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) created: Timestamp,
    /// Whether the status that was found is the work of a controller.
    seen_before: bool,
    pub(super) status: BackupScheduleStatus,
    start: Option<ScheduledRun>,
    forget: Vec<Forget>,
    pub(super) prune: Prune,
    pub(super) looks_for_prune: bool,
    pub(super) applied: RetentionApplied,
    pub(super) waits: Vec<String>,
    again_at: Option<Timestamp>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(schedule: &'a BackupSchedule, observed: &'a Observed, now: Timestamp) -> Self {
        // Whole seconds: what is told has no use for more.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut status = schedule.status.clone().unwrap_or_default();
        status.restore_test = None;
        let seen_before = status.last_run.is_some() || status.observed_generation.is_some_and(|it| it >= 0);
        // Whoever changes the spec has seen why it stood still.
        if status.observed_generation != schedule.metadata.generation {
            status.suspended_because = None;
        }
        status.observed_generation = schedule.metadata.generation;
        let created = schedule.creation_timestamp().map_or(now, |time| time.0);
        Self {
            schedule,
            observed,
            now,
            created,
            seen_before,
            status,
            start: None,
            forget: Vec::new(),
            prune: Prune::default(),
            looks_for_prune: false,
            applied: RetentionApplied::AsBefore,
            waits: Vec::new(),
            again_at: None,
        }
    }

    pub(super) fn look_at(&mut self, at: Timestamp) {
        self.again_at = Some(self.again_at.map_or(at, |known| known.min(at)));
    }

    pub(super) fn look_after(&mut self, pause: SignedDuration) {
        self.look_at(self.now.checked_add(pause).unwrap_or(Timestamp::MAX));
    }

    pub(super) fn missed(&mut self, count: usize) {
        if count > 0 {
            let known = self.status.missed.unwrap_or(0);
            self.status.missed = Some(known.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)));
        }
    }

    /// Up to where the clock has been followed, and whether that is known. Nothing that was due up to there starts.
    fn followed(&self, rules: &Rules) -> (Timestamp, bool) {
        let Some(clock) = &self.status.clock else {
            // New, unless something tells that it was seen before: then the status was lost, and with it which runs
            // there were. Rather one too few than one twice.
            let seen = !self.observed.backups.is_empty() || self.seen_before;
            return (if seen { self.now } else { self.created }, false);
        };
        let same = clock.schedule == rules.schedule && clock.time_zone == rules.time_zone;
        match clock.until.parse() {
            Ok(until) if same && !clock.stopped => (until, true),
            // Another clock, or one that stood still, is followed from now on. Neither owes anything.
            _ => (self.now, false),
        }
    }

    fn follow_until(&mut self, rules: &Rules, until: Timestamp, stopped: bool) {
        self.status.clock = Some(FollowedClock {
            schedule: rules.schedule.clone(),
            time_zone: rules.time_zone.clone(),
            until: text(until),
            stopped,
        });
    }

    /// Starts what is due.
    fn fire(&mut self, rules: &Rules) {
        let (mut until, known) = self.followed(rules);
        let due = rules.table.newest(self.now).filter(|due| due.tick > until);
        let next = next_after(rules, self.now, due.map_or(until, |due| due.tick));
        self.status.next_schedule_time = next.map(|next| text(next.at));
        if let Some(next) = next {
            self.look_at(next.at);
        }
        if let Some(due) = due {
            let between = if known { rules.table.between(until, due.tick, MAX_MISSED) } else { 0 };
            self.supersede();
            if self.takes(rules, due, between) {
                until = due.tick;
            }
        } else if self.status.last_run.as_ref().is_some_and(|run| run.state == State::Starting) {
            // While the name is somebody else's there is nothing to be tried.
            self.start = self.status.last_run.clone().filter(|_| !self.observed.taken);
        } else {
            self.retry(rules, next);
        }
        self.follow_until(rules, until, false);
    }

    /// Whether the run that is due is decided about; `between` others before it come too late.
    fn takes(&mut self, rules: &Rules, due: Due, between: usize) -> bool {
        let active = self.status.active.join(", ");
        if !active.is_empty() && rules.concurrency == Concurrency::Wait {
            self.waits.push(format!("waits for {active} to end before the run of {}", due.tick));
            return false;
        }
        self.missed(between);
        if !active.is_empty() {
            self.waits.push(format!("left the run of {} out, as {active} goes on", due.tick));
            self.missed(1);
            return true;
        }
        // Who waited for another run is late since that one's end.
        let ended = self.observed.backups.iter().filter_map(|backup| backup.state.ended()).max();
        let since = match rules.concurrency {
            Concurrency::Skip => due.at,
            Concurrency::Wait => ended.map_or(due.at, |ended| ended.max(due.at)),
        };
        if self.now.duration_since(since) > rules.deadline {
            self.waits.push(format!("missed the run of {}", due.tick));
            self.missed(1);
        } else {
            self.start(due.tick, 1);
        }
        true
    }

    /// A newer run is due: the one that still could not be started comes too late.
    fn supersede(&mut self) {
        if let Some(mut run) = self.status.last_run.take() {
            if run.state == State::Starting {
                self.miss(&mut run, "the next run was due before it could be");
            }
            self.status.last_run = Some(run);
        }
    }

    /// Decides to start a run.
    pub(super) fn start(&mut self, tick: Timestamp, attempt: i64) {
        let run = ScheduledRun {
            name: backup_name(&self.schedule.name_any(), tick, attempt),
            tick: text(tick),
            attempt,
            decided_at: text(self.now),
            state: State::Starting,
            ended_at: None,
            failure: None,
        };
        self.status.last_run = Some(run.clone());
        self.start = Some(run);
    }

    /// The spec makes no sense.
    fn stalled(mut self, failure: Failure) -> Plan {
        self.status.next_schedule_time = None;
        if let Some(clock) = &mut self.status.clock {
            clock.stopped = true;
        }
        self.waits.push(format!("waits for a change of the spec: {}", failure.message));
        self.plan(&Verdict::Stalled(failure), &RecoveryPoint::NotAsked)
    }

    /// It stands still, by its spec or after a failure.
    fn stopped(mut self, rules: &Rules) -> Plan {
        self.status.next_schedule_time = None;
        let until = self.status.clock.as_ref().and_then(|clock| clock.until.parse().ok());
        self.follow_until(rules, until.unwrap_or(self.now), true);
        if let Some(run) = &mut self.status.last_run
            && run.state == State::Starting
        {
            run.state = State::Canceled;
            run.ended_at = Some(text(self.now));
        }
        let verdict = match self.status.suspended_because.clone() {
            Some(failure) if !rules.suspend => {
                self.waits.push(format!("waits for somebody to let it go on: {}", failure.message));
                Verdict::Stalled(failure)
            }
            _ => {
                self.waits.push("waits as long as it is suspended".into());
                Verdict::Ready("Suspended")
            }
        };
        let point = self.recovery_point(rules);
        self.plan(&verdict, &point)
    }

    fn goes_on(mut self, rules: &Rules) -> Plan {
        let hindered = match &self.status.last_run {
            Some(ScheduledRun { state: State::Starting, failure, .. }) => failure.clone(),
            _ => None,
        };
        if self.start.is_some() || hindered.is_some() {
            self.look_after(POLL);
        }
        let verdict = hindered.map_or(Verdict::Ready("Scheduled"), Verdict::Hindered);
        if let Some(next) = &self.status.next_schedule_time {
            self.waits.push(format!("waits until {next}"));
        }
        let point = self.recovery_point(rules);
        self.plan(&verdict, &point)
    }

    fn recovery_point(&mut self, rules: &Rules) -> RecoveryPoint {
        let (point, until) =
            facts::recovery_point(&self.status, self.observed, rules.objective, self.created, self.now);
        if let Some(until) = until {
            self.look_at(until);
        }
        point
    }

    fn plan(mut self, verdict: &Verdict, point: &RecoveryPoint) -> Plan {
        if !self.status.active.is_empty() {
            self.look_after(POLL);
        }
        let (generation, now) = (self.schedule.metadata.generation, self.now);
        conditions::set(&mut self.status, verdict, point, &self.applied, generation, now);
        let left = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        let again_after = self.again_at.map(|at| left(at).clamp(Duration::from_secs(1), LONGEST));
        let waits = self.waits.join("; ");
        let Self { status, start, forget, prune, looks_for_prune, .. } = self;
        Plan { status, start, forget, prune, looks_for_prune, waits, again_after }
    }
}

/// The first run due after `now` whose tick is later than `until`.
fn next_after(rules: &Rules, now: Timestamp, until: Timestamp) -> Option<Due> {
    let next = rules.table.next(now)?;
    if next.tick > until {
        Some(next)
    } else {
        rules.table.clock().after(until).map(|tick| rules.table.of(tick))
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
