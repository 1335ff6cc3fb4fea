//! `kubectl vouchsafe trigger SCHEDULE`

use std::collections::BTreeMap;

use clap::Args;
use kube::ResourceExt;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use rand::Rng;
use schemars::JsonSchema;
use serde::Serialize;

use super::object::{Object, Run, Wanted};
use super::{Asked, Cluster, ClusterArguments, MANAGER, follow};
use crate::api::marks::{SCHEDULE, SCHEDULE_NAME, SCHEDULE_UID, schedule_label};
use crate::api::{Backup, BackupSchedule, Kind};
use crate::cli::{Failure, OutputFormat, output, signals};

/// The annotation that tells a Backup that a person asked for.
const TRIGGERED: &str = "vouchsafe.dev/triggered";

/// Most bytes of a resource's name.
const NAME_BYTES: usize = 253;
/// Letters of a name's random end: 27^5 names, and one that is taken is drawn again.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const RANDOM: usize = 5;
/// Draws of a name before it is given up: a second one is rare already.
const DRAWS: usize = 3;

#[derive(Args, Debug)]
pub(in crate::cli) struct Trigger {
    /// The BackupSchedule
    #[arg(value_name = "SCHEDULE")]
    schedule: Wanted,
    /// Wait until the Backup has ended, and exit as it did
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What it writes.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct TriggerReport {
    namespace: String,
    schedule: String,
    backup: String,
    phase: String,
    run: Option<i64>,
    rows: Option<i64>,
    stored_bytes: Option<i64>,
    manifest_sha256: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    hint: Option<String>,
}

impl TriggerReport {
    fn of(schedule: &str, backup: &Backup) -> Self {
        let status = backup.status.clone().unwrap_or_default();
        let progress = status.progress.unwrap_or_default();
        let failure = backup.ended_badly();
        Self {
            namespace: backup.namespace().unwrap_or_default(),
            schedule: schedule.to_owned(),
            backup: backup.name_any(),
            phase: backup.phase(),
            run: status.run.and_then(|run| run.number),
            rows: progress.rows,
            stored_bytes: progress.bytes_stored,
            manifest_sha256: status.proof.and_then(|proof| proof.manifest_sha256),
            reason: failure.as_ref().map(|it| it.reason.clone()),
            message: failure.as_ref().map(|it| it.message.clone()),
            hint: failure.map(|it| it.hint),
        }
    }
}

impl Trigger {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let cluster = self.cluster.connect().await?;
        let found = cluster.find(&self.schedule, &[Kind::BackupSchedule], "triggered").await?;
        let Object::Schedule(schedule) = found else {
            return Err(Failure::internal("a schedule was looked for, and something else found"));
        };
        let name = schedule.name_any();
        let backup = create(&cluster, &schedule).await?;
        let begun = format!("{} is made, of schedule/{name}'s template", backup.title());
        if !self.wait {
            return output::write(output, &TriggerReport::of(&name, &backup), || {
                format!("{begun}\nkubectl vouchsafe status {} shows how it goes", backup.title())
            });
        }
        let say = |text: &str| {
            if output == OutputFormat::Text {
                eprintln!("{text}");
            }
        };
        say(&begun);
        let backup = follow::until_over(&cluster, &backup, &interrupt, say).await?;
        let report = TriggerReport::of(&name, &backup);
        output::write(output, &report, || match &report.manifest_sha256 {
            Some(sha256) if backup.succeeded() => {
                format!("Succeeded: {} is sealed.\nmanifest sha256 {sha256}", backup.title())
            }
            _ => format!("{}: {}", backup.phase(), backup.title()),
        })?;
        backup.ended_badly().map_or(Ok(()), |failure| Err(Failure::of_outcome(failure)))
    }
}

async fn create(cluster: &Cluster, schedule: &BackupSchedule) -> Result<Backup, Failure> {
    let asked = Asked::of::<Backup>("create", Some(&cluster.namespace));
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let mut draws = 1;
    loop {
        let backup = build(schedule, &random());
        match cluster.api::<Backup>().create(&parameters, &backup).await {
            Ok(backup) => return Ok(backup),
            Err(kube::Error::Api(status)) if status.code == 409 && draws < DRAWS => draws += 1,
            Err(error) => return Err(asked.failed(error)),
        }
    }
}

/// A name for what is made of `stem`: with `word` and a random end.
pub(super) fn named(stem: &str, word: &str) -> String {
    ended(stem, &format!("-{word}-{}", random()))
}

/// `stem`, as much of it as leaves room, and `end`.
fn ended(stem: &str, end: &str) -> String {
    let stem: String = stem.chars().take(NAME_BYTES - end.len()).collect();
    format!("{}{end}", stem.trim_end_matches(['-', '.']))
}

fn random() -> String {
    let mut generator = rand::rng();
    (0..RANDOM).map(|_| char::from(LETTERS[generator.random_range(0..LETTERS.len())])).collect()
}

/// The Backup that a schedule's template describes. It has no owner: deleting the schedule deletes no Backup. Of the
/// schedule's own metadata it copies nothing. Pure.
fn build(schedule: &BackupSchedule, random: &str) -> Backup {
    let name = schedule.name_any();
    let template = schedule.spec.template.metadata.clone().unwrap_or_default();
    let mut labels = template.labels.unwrap_or_default();
    labels.insert(SCHEDULE.to_owned(), schedule_label(&name));
    let mut annotations: BTreeMap<String, String> = template.annotations.unwrap_or_default();
    annotations.insert(SCHEDULE_NAME.to_owned(), name.clone());
    annotations.insert(SCHEDULE_UID.to_owned(), schedule.uid().unwrap_or_default());
    annotations.insert(TRIGGERED.to_owned(), "manual".to_owned());
    let mut backup =
        Backup::new(&ended(&name, &format!("-manual-{random}")), schedule.spec.template.spec.clone());
    backup.metadata = ObjectMeta {
        namespace: schedule.namespace(),
        labels: Some(labels),
        annotations: Some(annotations),
        ..backup.metadata
    };
    backup
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schedule(name: &str) -> BackupSchedule {
        serde_json::from_value(json!({
            "apiVersion": crate::api::API_VERSION, "kind": "BackupSchedule",
            "metadata": {"name": name, "namespace": "shop", "uid": "u-1", "labels": {"of": "the schedule"}},
            "spec": {"schedule": "@daily", "template": {
                "metadata": {"labels": {"team": "orders"}, "annotations": {"note": "kept"}},
                "spec": {"storeRef": {"name": "s"}, "collection": "c",
                         "source": {"postgres": {"database": "d", "endpoints": []}}},
            }},
        }))
        .unwrap()
    }

    #[test]
    fn a_backup_is_of_the_template_and_says_of_which_schedule() {
        let backup = build(&schedule("orders"), "abcde");
        assert_eq!(backup.name_any(), "orders-manual-abcde");
        assert_eq!(backup.namespace().as_deref(), Some("shop"));
        let labels = json!({"team": "orders", "vouchsafe.dev/schedule": "orders"});
        assert_eq!(json!(backup.labels()), labels);
        let annotations = json!({
            "note": "kept", "vouchsafe.dev/schedule-name": "orders", "vouchsafe.dev/schedule-uid": "u-1",
            "vouchsafe.dev/triggered": "manual",
        });
        assert_eq!(json!(backup.annotations()), annotations);
        assert!(backup.owner_references().is_empty());
        assert_eq!(backup.spec, schedule("orders").spec.template.spec);
    }

    #[test]
    fn long_names_of_schedules_fit() {
        let name = "a.".repeat(126);
        let backup = build(&schedule(&name), "abcde");
        assert!(backup.name_any().len() <= 253 && backup.name_any().ends_with("a-manual-abcde"));
        let label = &backup.labels()[SCHEDULE];
        assert!(label.len() <= 63 && *label == schedule_label(&name), "{label}");
        assert_eq!(backup.annotations()[SCHEDULE_NAME], name);
    }

    #[test]
    fn random_ends_are_letters_of_names() {
        let end = random();
        assert!(end.len() == RANDOM && end.bytes().all(|byte| LETTERS.contains(&byte)), "{end}");
    }
}
