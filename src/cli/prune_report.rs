//! What `vouchsafe prune` writes.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;

use super::output;
use crate::engine::prune::{Leftover, PrunePlan, Pruned, SealedBackup, Size, Why};

/// `vouchsafe prune`
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PruneReport {
    consumed: bool,
    run: Option<u32>,
    verified: Option<u32>,
    retire: Vec<RetireReport>,
    stay: Vec<StayReport>,
    leftovers: Vec<LeftoverReport>,
    deleted_objects: u64,
    deleted_bytes: u64,
    refused_objects: u64,
    refused: Vec<RefusedReport>,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct RetireReport {
    run: u32,
    sealed: String,
    objects: u64,
    bytes: u64,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct StayReport {
    run: u32,
    sealed: String,
    why: String,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeftoverReport {
    run: u32,
    retired_by: Option<u32>,
    void: Option<String>,
    since: Option<String>,
    due: bool,
    objects: u64,
    bytes: u64,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct RefusedReport {
    object: String,
    reason: &'static str,
    message: String,
}

impl LeftoverReport {
    fn of(leftover: &Leftover) -> Self {
        let Leftover { run, why, size: Size { objects, bytes }, since, due } = leftover;
        let (retired_by, void) = match why {
            Why::Retired { prune } => (Some(*prune), None),
            Why::Void { reason } => (None, Some(reason.clone())),
        };
        let since = since.map(|since| since.to_string());
        Self { run: *run, retired_by, void, since, due: *due, objects: *objects, bytes: *bytes }
    }

    fn why(&self) -> String {
        match (&self.retired_by, &self.void) {
            (Some(prune), _) => format!("retired by run {prune}"),
            (None, void) => format!("void ({})", void.as_deref().unwrap_or_default()),
        }
    }
}

impl PruneReport {
    /// What `plan` shows, and, if it was consumed, what came of it.
    pub(super) fn of(plan: &PrunePlan, pruned: Option<&Pruned>) -> Self {
        let went = |run: u32| pruned.is_none_or(|it| it.retired.contains(&run));
        let retire = plan.retire.iter().filter(|(backup, _)| went(backup.run));
        let deleted = pruned.map(|pruned| pruned.deleted.clone()).unwrap_or_default();
        let leftovers = if pruned.is_some() { &deleted.waiting } else { &plan.leftovers };
        let refused = deleted.refused.iter().map(|it| RefusedReport {
            object: it.object.clone(),
            reason: it.reason,
            message: it.why.clone(),
        });
        Self {
            consumed: pruned.is_some(),
            run: pruned.and_then(|pruned| pruned.run),
            verified: pruned.and_then(|pruned| pruned.verified.as_ref()).map(|verified| verified.run),
            retire: retire
                .map(|(SealedBackup { run, sealed, .. }, Size { objects, bytes })| RetireReport {
                    run: *run,
                    sealed: sealed.to_string(),
                    objects: *objects,
                    bytes: *bytes,
                })
                .collect(),
            stay: plan
                .stay
                .iter()
                .map(|(SealedBackup { run, sealed, .. }, why)| StayReport {
                    run: *run,
                    sealed: sealed.to_string(),
                    why: why.clone(),
                })
                .collect(),
            leftovers: leftovers.iter().map(LeftoverReport::of).collect(),
            deleted_objects: deleted.size.objects,
            deleted_bytes: deleted.size.bytes,
            refused_objects: deleted.refused_objects,
            refused: refused.collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String never fails.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let objects = |objects: u64, bytes: u64| {
            format!("{} objects, {}", output::count(objects), output::bytes(bytes))
        };
        for StayReport { run, sealed, why } in &self.stay {
            writeln!(text, "stays     run {run}, of {sealed}: {why}")?;
        }
        let retired = if self.consumed { "retired" } else { "to retire" };
        for RetireReport { run, sealed, objects: count, bytes } in &self.retire {
            writeln!(text, "{retired:9} run {run}, of {sealed}: {}", objects(*count, *bytes))?;
        }
        for left in &self.leftovers {
            let what = if left.due { "to delete" } else { "waits" };
            let size = objects(left.objects, left.bytes);
            writeln!(text, "{what:9} run {}, {}: {size}", left.run, left.why())?;
        }
        if !self.consumed {
            return text.write_str("nothing was changed: add --yes to retire and delete this\n");
        }
        if let (Some(run), Some(verified)) = (self.run, self.verified) {
            writeln!(text, "run {run} is sealed, a prune; run {verified} was read to its last row before")?;
        }
        writeln!(text, "deleted   {}", objects(self.deleted_objects, self.deleted_bytes))?;
        for RefusedReport { object, message, .. } in &self.refused {
            writeln!(text, "refused   {object}: {message}")?;
        }
        let named = self.refused.len() as u64;
        if self.refused_objects > named {
            writeln!(text, "refused   {} more", output::count(self.refused_objects - named))?;
        }
        Ok(())
    }
}
