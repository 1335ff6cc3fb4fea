//! What a namespace holds, as tables: one row for each object. Pure.

use jiff::Timestamp;
use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::health::{Problem, problems};
use super::object::{Object, Run};
use crate::api::{Backup, BackupSchedule, BackupStore, Condition, ConditionStatus, Restore};
use crate::cli::output;

/// Most ended Backups, and most ended Restores, that people are shown: a screen. JSON has all.
const SHOWN_ENDED: usize = 10;

/// `kubectl vouchsafe status`
#[derive(Debug, Default, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct StatusReport {
    stores: Vec<StoreRow>,
    schedules: Vec<ScheduleRow>,
    backups: Vec<BackupRow>,
    restores: Vec<RestoreRow>,
    problems: Vec<Problem>,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreRow {
    namespace: String,
    name: String,
    ready: Option<bool>,
    ready_destinations: Option<String>,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScheduleRow {
    namespace: String,
    name: String,
    ready: Option<bool>,
    suspended: bool,
    last_proven: Option<String>,
    recoverable_to: Option<String>,
    next: Option<String>,
    consecutive_failures: i64,
}

/// One Backup, here and in `list`.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackupRow {
    namespace: String,
    pub(super) name: String,
    created: Option<String>,
    phase: String,
    suspended: bool,
    percent: Option<i32>,
    run: Option<i64>,
    rows: Option<i64>,
    stored_bytes: Option<i64>,
    proved: Option<String>,
    reason: Option<String>,
    #[serde(skip)]
    over: bool,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct RestoreRow {
    namespace: String,
    name: String,
    created: Option<String>,
    phase: String,
    suspended: bool,
    percent: Option<i32>,
    from: Option<String>,
    database: Option<String>,
    verified: Option<bool>,
    reason: Option<String>,
    #[serde(skip)]
    over: bool,
}

/// Whether the condition Ready holds; `None`: nobody knows.
fn ready(conditions: &[Condition]) -> Option<bool> {
    match conditions.iter().find(|it| it.type_ == "Ready")?.status {
        ConditionStatus::True => Some(true),
        ConditionStatus::False => Some(false),
        ConditionStatus::Unknown => None,
    }
}

fn created(object: &impl ResourceExt) -> Option<String> {
    object.creation_timestamp().map(|time| time.0.to_string())
}

impl StoreRow {
    fn of(store: &BackupStore) -> Self {
        let status = store.status.clone().unwrap_or_default();
        Self {
            namespace: store.namespace().unwrap_or_default(),
            name: store.name_any(),
            ready: ready(&status.conditions),
            ready_destinations: status.ready_destinations,
        }
    }
}

impl ScheduleRow {
    fn of(schedule: &BackupSchedule) -> Self {
        let status = schedule.status.clone().unwrap_or_default();
        Self {
            namespace: schedule.namespace().unwrap_or_default(),
            name: schedule.name_any(),
            ready: ready(&status.conditions),
            suspended: schedule.spec.suspend == Some(true) || status.suspended_because.is_some(),
            last_proven: status.last_success.map(|last| last.time),
            recoverable_to: status.recoverable_to,
            next: status.next_schedule_time,
            consecutive_failures: status.consecutive_failures.unwrap_or(0),
        }
    }
}

impl BackupRow {
    pub(super) fn of(backup: &Backup) -> Self {
        let status = backup.status.clone().unwrap_or_default();
        let progress = status.progress.unwrap_or_default();
        Self {
            namespace: backup.namespace().unwrap_or_default(),
            name: backup.name_any(),
            created: created(backup),
            phase: backup.phase(),
            suspended: backup.spec.suspend == Some(true),
            percent: progress.percent,
            run: status.run.and_then(|run| run.number),
            rows: progress.rows,
            stored_bytes: progress.bytes_stored,
            proved: status.proof.and_then(|proof| proof.sealed_at),
            reason: status.failure.map(|failure| failure.reason),
            over: backup.is_over(),
        }
    }

    /// Without the namespace.
    fn cells(&self) -> [String; 8] {
        [
            self.name.clone(),
            state(&self.phase, self.suspended && !self.over),
            self.run.map(|run| run.to_string()).unwrap_or_default(),
            self.percent.filter(|_| !self.over).map(|percent| format!("{percent} %")).unwrap_or_default(),
            number(self.rows).map(output::count).unwrap_or_default(),
            number(self.stored_bytes).map(output::bytes).unwrap_or_default(),
            self.proved.clone().unwrap_or_default(),
            self.reason.clone().unwrap_or_default(),
        ]
    }
}

impl RestoreRow {
    fn of(restore: &Restore) -> Self {
        let status = restore.status.clone().unwrap_or_default();
        let from = &restore.spec.from;
        let asked = from.backup.clone().or_else(|| from.schedule.clone());
        Self {
            namespace: restore.namespace().unwrap_or_default(),
            name: restore.name_any(),
            created: created(restore),
            phase: restore.phase(),
            suspended: restore.spec.suspend == Some(true),
            percent: status.progress.and_then(|progress| progress.percent),
            from: status.from.or(asked),
            database: restore.spec.target.postgres.as_ref().map(|target| target.database.clone()),
            verified: status.proof.map(|proof| proof.fingerprints_equal),
            reason: status.failure.map(|failure| failure.reason),
            over: restore.is_over(),
        }
    }
}

fn state(phase: &str, suspended: bool) -> String {
    if suspended { format!("{phase}, suspended") } else { phase.to_owned() }
}

/// A count of a status; the schema has refused negative ones.
fn number(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok())
}

fn yes(value: Option<bool>) -> String {
    match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
    .to_owned()
}

/// A table whose first column is the namespace, if the rows are of several.
fn table<const N: usize>(header: [&str; N], rows: Vec<(&str, [String; N])>, all: bool) -> String {
    let mut words = vec!["NAMESPACE"];
    words.extend(header);
    let mut lines = Vec::with_capacity(rows.len());
    for (namespace, cells) in rows {
        let mut line = vec![namespace.to_owned()];
        line.extend(cells);
        lines.push(line);
    }
    if !all {
        words.remove(0);
        lines.iter_mut().for_each(|line| drop(line.remove(0)));
    }
    output::lined(words, lines)
}

/// Backups as people read them.
pub(super) fn backups_table<'a>(rows: impl Iterator<Item = &'a BackupRow>, all: bool) -> String {
    let header = ["BACKUP", "PHASE", "RUN", "PROGRESS", "ROWS", "STORED", "PROVED", "REASON"];
    table(header, rows.map(|row| (&*row.namespace, row.cells())).collect(), all)
}

/// Those that go on, and the newest of those that ended; rows are oldest first.
fn shown<T>(rows: &[T], over: impl Fn(&T) -> bool) -> (Vec<&T>, usize) {
    let ended = rows.iter().filter(|row| over(row)).count();
    let mut to_skip = ended.saturating_sub(SHOWN_ENDED);
    let skipped = to_skip;
    let shown = rows.iter().filter(|row| {
        let skip = over(row) && to_skip > 0;
        to_skip -= usize::from(skip);
        !skip
    });
    (shown.collect(), skipped)
}

impl StatusReport {
    /// `objects` in any order; `now`: for what should have been seen by now.
    pub(super) fn of(mut objects: Vec<Object>, now: Timestamp) -> Self {
        objects.sort_by_cached_key(|it| {
            let created = it.metadata().creation_timestamp.as_ref().map(|time| time.0);
            (created, it.namespace().to_owned(), it.name().to_owned())
        });
        let mut report = Self::default();
        for object in &objects {
            match object {
                Object::Store(store) => report.stores.push(StoreRow::of(store)),
                Object::Schedule(schedule) => report.schedules.push(ScheduleRow::of(schedule)),
                Object::Backup(backup) => report.backups.push(BackupRow::of(backup)),
                Object::Restore(restore) => report.restores.push(RestoreRow::of(restore)),
            }
            report.problems.extend(problems(object, now));
        }
        report
    }

    /// `all`: with namespaces.
    pub(super) fn text(&self, all: bool) -> String {
        let mut parts = Vec::new();
        if !self.stores.is_empty() {
            let rows = self.stores.iter().map(|row| {
                let destinations = row.ready_destinations.clone().unwrap_or_default();
                (&*row.namespace, [row.name.clone(), yes(row.ready), destinations])
            });
            parts.push(table(["STORE", "READY", "DESTINATIONS"], rows.collect(), all));
        }
        if !self.schedules.is_empty() {
            let rows = self.schedules.iter().map(|row| {
                let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
                let cells = [
                    row.name.clone(),
                    yes(row.ready),
                    if row.suspended { "yes" } else { "" }.to_owned(),
                    or_none(&row.last_proven),
                    or_none(&row.next),
                    row.consecutive_failures.to_string(),
                ];
                (&*row.namespace, cells)
            });
            let header = ["SCHEDULE", "READY", "SUSPENDED", "LAST-PROVEN", "NEXT", "FAILURES"];
            parts.push(table(header, rows.collect(), all));
        }
        if !self.backups.is_empty() {
            let (rows, skipped) = shown(&self.backups, |row| row.over);
            let mut text = backups_table(rows.into_iter(), all);
            if skipped > 0 {
                text.push_str(&format!("\n{skipped} older ones: kubectl vouchsafe list"));
            }
            parts.push(text);
        }
        if !self.restores.is_empty() {
            let (rows, skipped) = shown(&self.restores, |row| row.over);
            let rows = rows.into_iter().map(|row| {
                let percent = row.percent.filter(|_| !row.over).map(|it| format!("{it} %"));
                let cells = [
                    row.name.clone(),
                    state(&row.phase, row.suspended && !row.over),
                    percent.unwrap_or_default(),
                    row.from.clone().unwrap_or_default(),
                    row.database.clone().unwrap_or_default(),
                    row.verified.map(|it| yes(Some(it))).unwrap_or_default(),
                    row.reason.clone().unwrap_or_default(),
                ];
                (&*row.namespace, cells)
            });
            let header = ["RESTORE", "PHASE", "PROGRESS", "FROM", "DATABASE", "VERIFIED", "REASON"];
            let mut text = table(header, rows.collect(), all);
            if skipped > 0 {
                text.push_str(&format!("\n{skipped} older ones: kubectl get restores.vouchsafe.dev"));
            }
            parts.push(text);
        }
        // What failed long ago and is not in the tables is no news.
        let recent = |problem: &&Problem| {
            let backups = shown(&self.backups, |row| row.over).0;
            let restores = shown(&self.restores, |row| row.over).0;
            let name = problem.object.split_once('/').map_or("", |(_, name)| name);
            match problem.object.split_once('/').map(|(kind, _)| kind) {
                Some("backup") => {
                    backups.iter().any(|row| row.name == name && row.namespace == problem.namespace)
                }
                Some("restore") => {
                    restores.iter().any(|row| row.name == name && row.namespace == problem.namespace)
                }
                _ => true,
            }
        };
        let problems: Vec<String> = self
            .problems
            .iter()
            .filter(recent)
            .map(|it| if all { format!("{}: {}", it.namespace, it.text()) } else { it.text() })
            .collect();
        if !problems.is_empty() {
            parts.push(format!("Not well:\n{}", problems.concat()));
        }
        parts.join("\n\n")
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.stores.is_empty()
            && self.schedules.is_empty()
            && self.backups.is_empty()
            && self.restores.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_go_on_are_shown_and_the_newest_of_those_that_ended() {
        let rows: Vec<(usize, bool)> = (0..30).map(|number| (number, number != 3)).collect();
        let (shown, skipped) = shown(&rows, |row| row.1);
        let numbers: Vec<usize> = shown.iter().map(|row| row.0).collect();
        assert_eq!((numbers[0], numbers.len(), skipped), (3, 11, 19));
        assert_eq!(numbers[1..], (20..30).collect::<Vec<_>>());
    }
}
