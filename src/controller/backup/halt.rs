//! Backups that do not go on: queued, suspended, canceled, or history. Pure.

use std::ops::ControlFlow;

use super::super::observe::Observed;
use super::{Draft, Given, Plan};
use crate::api::{BackupPhase, Failure};
use crate::controller::attempts::{BETWEEN_LOOKS, LONGEST_PAUSE};
use crate::controller::jobs::JobState;
use crate::controller::reasons::ControllerReason as Reason;

impl Draft<'_> {
    pub(super) fn has_begun(&self) -> bool {
        !self.attempts.processes.is_empty()
    }

    pub(super) fn is_suspended(&self) -> bool {
        // A run that is canceled, or late, has to be voided, and for that its coordinator has to run.
        let late = self.left().is_some_and(|left| left.is_negative());
        self.backup.spec.suspend == Some(true) && self.backup.spec.cancel != Some(true) && !late
    }

    /// It was run before: it is not run again, and nothing is claimed of it.
    pub(super) fn stalls(mut self, failure: Failure) -> Plan {
        self.reach(BackupPhase::Pending);
        let waits = failure.message.clone();
        self.status.failure = Some(failure);
        self.held.history = true;
        self.plan(waits)
    }

    /// Its store has as many runs at work as it allows.
    pub(super) fn queued(mut self, ahead: usize, given: &Given) -> Plan {
        let most = given.store.max_concurrent_runs;
        let place = (ahead + 1).saturating_sub(most as usize);
        self.held.queued =
            Some(format!("number {place} in the queue: {ahead} ahead of it, and {most} may run at once"));
        self.over_time();
        self.attempts.look_again(BETWEEN_LOOKS);
        self.attempts.waits.push(format!("for its turn: it is number {place}"));
        match self.too_late() {
            Some((_, late)) => self.fails(late),
            None => self.plan(format!("waits for its turn: it is number {place}")),
        }
    }

    /// Its pods go, and nothing is started.
    pub(super) fn suspended(mut self) -> Plan {
        self.held.suspended = true;
        // Its deadline goes on.
        self.over_time();
        let stop = self.attempts.suspend();
        let waits = match stop.is_empty() {
            true => "suspended",
            false => "suspended: its pods go",
        };
        let mut plan = self.plan(waits);
        plan.stop = stop;
        plan
    }

    /// Canceled, if no coordinator can have claimed a run; otherwise that is for a coordinator to void.
    pub(super) fn canceled(mut self, observed: &Observed) -> ControlFlow<Plan, Self> {
        if self.may_have_claimed() {
            return ControlFlow::Continue(self);
        }
        let left = self.attempts.stop_all();
        if left.is_empty() {
            self.status.failure =
                Some(Reason::Canceled.failure("canceled before its run was begun", "make a Backup anew"));
            return ControlFlow::Break(self.ends(BackupPhase::Canceled, "canceled"));
        }
        // A coordinator that starts meanwhile sees that it is canceled. One that can't start is taken away, and
        // gone only when its pod is.
        let hindered = |state: &JobState| matches!(state, JobState::Waiting(Some(_)));
        if !observed.jobs.iter().any(|job| hindered(&job.state)) {
            return ControlFlow::Continue(self);
        }
        self.attempts.start.clear();
        self.attempts.look_again(LONGEST_PAUSE);
        let mut plan = self.plan("canceled: its pod goes");
        plan.stop = left;
        ControlFlow::Break(plan)
    }
}
