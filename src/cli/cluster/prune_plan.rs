//! What a prune of a schedule would do, and what came of it. Pure.

use std::fmt::Write;

use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::{BackupSchedule, Failure};
use crate::cli::output;
use crate::controller::schedule::{PlannedRun, PrunePlan, Stays};

/// What `prune SCHEDULE` writes.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct PrunePlanReport {
    namespace: String,
    schedule: String,
    /// Absent: no prune was asked for.
    pub(super) requested: Option<String>,
    retire: Vec<PlannedReport>,
    stay: Vec<StaysReport>,
    waiting: i64,
    waits: Option<String>,
    held: Option<String>,
    outcome: Option<OutcomeReport>,
    reason: Option<String>,
    message: Option<String>,
    hint: Option<String>,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlannedReport {
    backup: String,
    run: Option<u64>,
    sealed: String,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct StaysReport {
    backup: String,
    run: Option<u64>,
    sealed: String,
    why: String,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeReport {
    run: Option<i64>,
    retired: i64,
    deleted_objects: i64,
    deleted_bytes: i64,
    waiting: i64,
    removed: Vec<String>,
}

impl PrunePlanReport {
    pub(super) fn of(schedule: &BackupSchedule, plan: &PrunePlan) -> Self {
        let planned = |PlannedRun { backup, run, sealed }: &PlannedRun| PlannedReport {
            backup: backup.clone(),
            run: *run,
            sealed: sealed.to_string(),
        };
        let stays = |Stays { run, why }: &Stays| {
            let PlannedReport { backup, run, sealed } = planned(run);
            StaysReport { backup, run, sealed, why: why.clone() }
        };
        let last = schedule.status.as_ref().and_then(|status| status.last_prune.as_ref());
        Self {
            namespace: schedule.namespace().unwrap_or_default(),
            schedule: schedule.name_any(),
            requested: None,
            retire: plan.goes.iter().map(planned).collect(),
            stay: plan.stays.iter().map(stays).collect(),
            waiting: last.map_or(0, |last| last.waiting),
            waits: plan.waits.clone(),
            held: plan.held.as_ref().map(|held| held.message.clone()),
            outcome: None,
            reason: None,
            message: None,
            hint: None,
        }
    }

    /// Takes in what the status says of the prune that has ended; answers why it did not do all of it.
    pub(super) fn ended(&mut self, schedule: &BackupSchedule) -> Option<Failure> {
        let last = schedule.status.as_ref().and_then(|status| status.last_prune.clone())?;
        self.outcome = Some(OutcomeReport {
            run: last.run,
            retired: last.retired,
            deleted_objects: last.deleted_objects,
            deleted_bytes: last.deleted_bytes,
            waiting: last.waiting,
            removed: last.removed,
        });
        let failure = last.failure?;
        self.reason = Some(failure.reason.clone());
        self.message = Some(failure.message.clone());
        self.hint = Some(failure.hint.clone());
        Some(failure)
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String never fails.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let run = |run: &Option<u64>| run.map(|run| format!(", run {run}")).unwrap_or_default();
        writeln!(text, "Plan of the prune of schedule/{}\n", self.schedule)?;
        for StaysReport { backup, run: number, sealed, why } in &self.stay {
            writeln!(text, "stays     backup/{backup}{}, of {sealed}: {why}", run(number))?;
        }
        for PlannedReport { backup, run: number, sealed } in &self.retire {
            writeln!(text, "to retire backup/{backup}{}, of {sealed}", run(number))?;
        }
        if self.waiting > 0 {
            writeln!(
                text,
                "to delete what is in {} runs, once they were given up long enough ago",
                self.waiting
            )?;
        }
        match (&self.held, &self.waits) {
            (Some(held), _) => writeln!(text, "held      {held}"),
            (None, Some(waits)) => writeln!(text, "waits     {waits}"),
            (None, None) => Ok(()),
        }
    }

    pub(super) fn outcome_text(&self) -> String {
        let Some(OutcomeReport { run, retired, deleted_objects, deleted_bytes, waiting, .. }) = &self.outcome
        else {
            return "the prune has ended".to_owned();
        };
        let number = |number: &i64| u64::try_from(*number).unwrap_or(0);
        let run = run.map(|run| format!(" by run {run}")).unwrap_or_default();
        format!(
            "retired   {} backups{run}\ndeleted   {} objects, {}\nwaits     {} runs, given up too short a time ago or kept \
             by the store",
            output::count(number(retired)),
            output::count(number(deleted_objects)),
            output::bytes(number(deleted_bytes)),
            output::count(number(waiting)),
        )
    }
}
