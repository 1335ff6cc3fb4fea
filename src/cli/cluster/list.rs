//! `kubectl vouchsafe list`: the Backups of a namespace.

use clap::Args;
use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::ClusterArguments;
use super::overview::{BackupRow, backups_table};
use crate::api::Backup;
use crate::api::marks::{SCHEDULE, schedule_label};
use crate::cli::{Failure, OutputFormat, output};

/// Which Backups, of which cluster.
#[derive(Args, Debug)]
pub(in crate::cli) struct BackupsArguments {
    /// In a cluster: the Backups of this BackupSchedule alone
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    schedule: Option<String>,
    /// In a cluster: the Backups of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace", help_heading = "Cluster")]
    all_namespaces: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// What it writes.
#[derive(Debug, JsonSchema, Serialize)]
pub(in crate::cli) struct BackupsReport {
    backups: Vec<BackupRow>,
}

impl BackupsArguments {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let cluster = self.cluster.connect().await?;
        let labels = self.schedule.as_ref().map(|name| format!("{SCHEDULE}={}", schedule_label(name)));
        let mut backups = cluster.list::<Backup>(self.all_namespaces, labels.as_deref()).await?;
        backups.sort_by_cached_key(|backup| {
            let created = backup.creation_timestamp().map(|time| time.0);
            (created, backup.namespace(), backup.name_any())
        });
        let report = BackupsReport { backups: backups.iter().map(BackupRow::of).collect() };
        if report.backups.is_empty() {
            // Beside the result: a script gets its empty list, and a person learns that it may be the wrong place.
            let of = self.schedule.map(|name| format!(" of schedule {name}")).unwrap_or_default();
            match self.all_namespaces {
                true => eprintln!("there is no Backup{of} in any namespace"),
                false => eprintln!("there is no Backup{of} in namespace {}", cluster.namespace),
            }
            if output == OutputFormat::Text {
                return Ok(());
            }
        }
        output::write(output, &report, || backups_table(report.backups.iter(), self.all_namespaces))
    }
}
