//! `kubectl vouchsafe status [KIND/NAME]`

use clap::Args;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::health::{Problem, problems};
use super::object::{Object, Run, Wanted};
use super::overview::StatusReport;
use super::{Cluster, ClusterArguments};
use crate::api::{Backup, BackupSchedule, BackupStore, Kind, LocalityStatus, Proof, Restore, RestoreProof};
use crate::cli::{Failure, OutputFormat, output};

#[derive(Args, Debug)]
pub(in crate::cli) struct Status {
    /// One object: store/NAME, schedule/NAME, backup/NAME, restore/NAME, or a name alone; absent: all of the namespace
    #[arg(value_name = "KIND/NAME", conflicts_with = "all_namespaces")]
    object: Option<Wanted>,
    /// Of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What it writes of one object.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct ObjectReport {
    kind: &'static str,
    namespace: String,
    name: String,
    created: Option<String>,
    phase: Option<String>,
    suspended: bool,
    over: bool,
    problems: Vec<Problem>,
    /// As the resource has it.
    status: Value,
}

impl Status {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let cluster = self.cluster.connect().await?;
        match &self.object {
            None => overview(&cluster, self.all_namespaces, output).await,
            Some(wanted) => one(&cluster.find(wanted, &Kind::ALL, "shown").await?, output),
        }
    }
}

async fn overview(cluster: &Cluster, all: bool, output: OutputFormat) -> Result<(), Failure> {
    let stores = cluster.list::<BackupStore>(all, None).await?;
    let schedules = cluster.list::<BackupSchedule>(all, None).await?;
    let backups = cluster.list::<Backup>(all, None).await?;
    let restores = cluster.list::<Restore>(all, None).await?;
    let objects = (stores.into_iter().map(|it| Object::Store(it.into())))
        .chain(schedules.into_iter().map(|it| Object::Schedule(it.into())))
        .chain(backups.into_iter().map(|it| Object::Backup(it.into())))
        .chain(restores.into_iter().map(|it| Object::Restore(it.into())));
    let report = StatusReport::of(objects.collect(), Timestamp::now());
    if report.is_empty() {
        let place = if all { "any namespace".to_owned() } else { format!("namespace {}", cluster.namespace) };
        eprintln!("there is nothing of Vouchsafe in {place}");
        if output == OutputFormat::Text {
            return Ok(());
        }
    }
    output::write(output, &report, || report.text(all))
}

fn one(object: &Object, output: OutputFormat) -> Result<(), Failure> {
    let problems = problems(object, Timestamp::now());
    let run = object.run();
    let report = ObjectReport {
        kind: object.kind().as_str(),
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
        created: object.metadata().creation_timestamp.as_ref().map(|time| time.0.to_string()),
        phase: run.map(Run::phase),
        suspended: object.suspended(),
        over: run.is_some_and(Run::is_over),
        status: object.status(),
        problems,
    };
    output::write(output, &report, || text(object, &report))?;
    match report.problems.iter().find(|problem| problem.failed) {
        None => Ok(()),
        Some(Problem { object, reason, message, hint, .. }) => {
            let hint = hint.clone().unwrap_or_else(|| format!("the conditions of {object} say more"));
            Err(Failure::shown(reason, message, &hint))
        }
    }
}

fn text(object: &Object, report: &ObjectReport) -> String {
    let mut parts = vec![headline(object, report)];
    if let Some(run) = object.run() {
        parts.extend(progress(run));
        parts.extend(processes(run));
    }
    match object {
        Object::Store(store) => parts.extend(destinations(store)),
        Object::Schedule(schedule) => parts.push(of_schedule(schedule)),
        Object::Backup(backup) => {
            let status = backup.status.as_ref();
            parts.extend(status.and_then(|status| localities(&status.localities)));
            parts.extend(status.and_then(|status| status.proof.as_ref()).map(proof));
        }
        Object::Restore(restore) => {
            let status = restore.status.as_ref();
            parts.extend(status.and_then(|status| localities(&status.localities)));
            parts.extend(status.and_then(|status| status.proof.as_ref()).map(compared));
        }
    }
    let conditions = object.conditions().iter().map(|it| {
        let status = format!("{:?}", it.status);
        [it.type_.clone(), status, it.reason.clone(), it.last_transition_time.clone(), it.message.clone()]
    });
    let rows: Vec<_> = conditions.collect();
    if !rows.is_empty() {
        parts.push(output::table(["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], rows));
    }
    // Those that make the exit code are said on standard error, as of every command that fails.
    let waits: String = report.problems.iter().filter(|it| !it.failed).map(Problem::text).collect();
    if !waits.is_empty() {
        parts.push(waits);
    }
    parts.join("\n\n")
}

fn headline(object: &Object, report: &ObjectReport) -> String {
    let mut text = format!("{} {} in namespace {}", report.kind, report.name, report.namespace);
    if let Some(run) = object.run() {
        text.push_str(&format!(": {}", run.brief()));
        if let Some(number) = run.attempt().and_then(|run| run.number) {
            text.push_str(&format!(", run {number}"));
        }
        if let Some(attempt) = run.attempt().and_then(|run| run.attempt) {
            text.push_str(&format!(", attempt {attempt}"));
        }
        if run.canceled() && !run.is_over() {
            text.push_str(", being canceled");
        }
    }
    if report.suspended && !report.over {
        text.push_str(", suspended");
    }
    if let Some(created) = &report.created {
        text.push_str(&format!(", created {created}"));
    }
    text
}

fn count(value: Option<i64>) -> String {
    value.and_then(|it| u64::try_from(it).ok()).map(output::count).unwrap_or_default()
}

fn bytes(value: Option<i64>) -> String {
    value.and_then(|it| u64::try_from(it).ok()).map(output::bytes).unwrap_or_default()
}

/// `3` of `7`, where both are known.
fn settled(settled: Option<i64>, planned: Option<i64>) -> String {
    match (settled, planned) {
        (settled, Some(planned)) => format!("{}/{planned}", settled.unwrap_or(0)),
        _ => String::new(),
    }
}

fn progress(run: &dyn Run) -> Option<String> {
    let progress = run.progress()?;
    let mut words = Vec::new();
    let mut say = |what: &str, value: String| {
        if !value.is_empty() {
            words.push(format!("{value} {what}"));
        }
    };
    say("tickets settled", settled(progress.tickets_settled, progress.tickets_planned));
    say("rows", count(progress.rows));
    say("read", bytes(progress.bytes_read));
    say("stored", bytes(progress.bytes_stored));
    if !run.is_over() {
        say("each second", bytes(progress.bytes_per_second));
        if let Some(eta) = &progress.eta {
            words.push(format!("ends about {eta}"));
        }
    }
    (!words.is_empty()).then(|| words.join(", "))
}

fn processes(run: &dyn Run) -> Option<String> {
    let rows: Vec<_> = (run.processes().iter())
        .map(|it| {
            let failure = it.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default();
            let state = format!("{:?}", it.state);
            [it.name.clone(), state, it.attempt.to_string(), it.node.clone().unwrap_or_default(), failure]
        })
        .collect();
    (!rows.is_empty()).then(|| output::table(["PROCESS", "STATE", "ATTEMPT", "NODE", "FAILURE"], rows))
}

fn localities(all: &[LocalityStatus]) -> Option<String> {
    let rows: Vec<_> = (all.iter())
        .map(|it| {
            [
                it.locality.clone(),
                it.destination.clone().unwrap_or_default(),
                it.node.clone().unwrap_or_default(),
                settled(it.tickets_settled, it.tickets_planned),
                bytes(it.bytes_stored),
                it.verified.map_or("", |verified| if verified { "yes" } else { "no" }).to_owned(),
            ]
        })
        .collect();
    let header = ["LOCALITY", "DESTINATION", "NODE", "TICKETS", "STORED", "VERIFIED"];
    (!rows.is_empty()).then(|| output::table(header, rows))
}

fn proof(proof: &Proof) -> String {
    let mut text = match &proof.sealed_at {
        Some(sealed) => format!("sealed {sealed}"),
        None => "not sealed yet".to_owned(),
    };
    if let Some(sha256) = &proof.manifest_sha256 {
        text.push_str(&format!(", manifest sha256 {sha256}"));
    }
    text.push_str(&format!(
        "\nread back: {} objects, {}, {} rows",
        count(proof.objects_read),
        bytes(proof.bytes_read),
        count(proof.rows_counted)
    ));
    let rows: Vec<_> = (proof.witnesses.iter())
        .map(|it| [it.destination.clone(), it.pod.clone(), it.verdict_sha256.clone()])
        .collect();
    if !rows.is_empty() {
        text.push_str(&format!("\n\n{}", output::table(["WITNESS OF", "POD", "VERDICT SHA256"], rows)));
    }
    text
}

fn compared(proof: &RestoreProof) -> String {
    format!(
        "compared: {} tables, {} rows, fingerprints {}, manifest sha256 {}",
        count(Some(proof.tables)),
        count(Some(proof.rows_compared)),
        if proof.fingerprints_equal { "equal" } else { "DIFFERENT" },
        proof.manifest_sha256
    )
}

fn destinations(store: &BackupStore) -> Option<String> {
    let all = &store.status.as_ref()?.destinations;
    let rows: Vec<_> = (all.iter())
        .map(|it| {
            let ready = it.conditions.iter().find(|condition| condition.type_ == "Ready");
            [
                it.name.clone(),
                ready.map(|condition| format!("{:?}", condition.status)).unwrap_or_default(),
                it.last_probe_time.clone().unwrap_or_default(),
                it.url.clone().unwrap_or_default(),
                it.message.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let header = ["DESTINATION", "READY", "PROBED", "URL", "MESSAGE"];
    (!rows.is_empty()).then(|| output::table(header, rows))
}

fn of_schedule(schedule: &BackupSchedule) -> String {
    let status = schedule.status.clone().unwrap_or_default();
    let zone = schedule.spec.time_zone.as_deref().unwrap_or("UTC");
    let mut lines = vec![format!("due {:?} in {zone}", schedule.spec.schedule)];
    let mut say = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("{what}: {value}"));
        }
    };
    say("last due", status.last_schedule_time);
    say("next due", status.next_schedule_time);
    say("last proven", status.last_success.map(|last| format!("backup/{} at {}", last.name, last.time)));
    say("recoverable from", status.recoverable_from);
    say("recoverable to", status.recoverable_to);
    say("under way", (!status.active.is_empty()).then(|| status.active.join(", ")));
    say("missed", status.missed.map(|it| it.to_string()));
    say("failures in a row", status.consecutive_failures.map(|it| it.to_string()));
    say("the next prune removes", (!status.next_prune.is_empty()).then(|| status.next_prune.join(", ")));
    let tested = status.restore_test;
    say("last restored as a test", tested.map(|it| format!("{} at {}: {:?}", it.backup, it.time, it.result)));
    lines.join("\n")
}
