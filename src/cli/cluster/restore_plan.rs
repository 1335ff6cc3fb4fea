//! What a Restore would do, before it is made. Pure.

use schemars::JsonSchema;
use serde::Serialize;

use super::show::ClusterShowReport;
use crate::api::{MissingRoles, OnExisting, Privileges, Restore, RestoreSpec};

/// What `restore --from` writes.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RestorePlanReport {
    /// Absent: it was not made.
    pub(super) restore: Option<String>,
    pub(super) phase: Option<String>,
    backup: ClusterShowReport,
    target: String,
    steps: Vec<String>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) hint: Option<String>,
}

impl RestorePlanReport {
    pub(super) fn of(restore: &Restore, backup: ClusterShowReport) -> Self {
        let steps = steps(&restore.spec, &backup);
        let target = target(&restore.spec);
        Self { restore: None, phase: None, backup, target, steps, reason: None, message: None, hint: None }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("Plan of the restore\n\nfrom {}\nto {}\n", self.backup.text(), self.target);
        for step in &self.steps {
            text.push_str(&format!("- {step}\n"));
        }
        text
    }
}

/// The server and database that it goes to.
fn target(spec: &RestoreSpec) -> String {
    let Some(target) = &spec.target.postgres else { return "a server made for it".to_owned() };
    let secret = target.credentials_secret.as_ref().map(|secret| secret.name.as_str());
    let host = match (&target.host, secret) {
        (Some(host), _) => format!("{host}:{}", target.port.unwrap_or(5432)),
        (None, Some(secret)) => format!("the host that Secret {secret} names"),
        (None, None) => "no host".to_owned(),
    };
    let role = secret.map(|secret| format!(", as the role of Secret {secret}")).unwrap_or_default();
    format!("database {} on {host}{role}", target.database)
}

fn steps(spec: &RestoreSpec, backup: &ClusterShowReport) -> Vec<String> {
    let mut steps = vec!["the backup is read and proven again before anything is made".to_owned()];
    if spec.dry_run == Some(true) {
        steps.push("dry run: nothing is made on the target".to_owned());
    }
    steps.push(match spec.on_existing {
        Some(OnExisting::IntoEmptySchemas) => {
            "into schemas of a database that is there; they must be absent or empty, nothing is overwritten".to_owned()
        }
        _ => "into a new database, which gets its name when every table is compared; refused if the name is taken"
            .to_owned(),
    });
    let mut localities: Vec<&str> =
        backup.destinations.iter().filter_map(|it| it.locality.as_deref()).collect();
    localities.sort_unstable();
    localities.dedup();
    if localities.len() > 1 {
        steps.push(format!("it brings the data of {} to one place", localities.join(" and ")));
    }
    steps.push(match &spec.execution_locality {
        Some(locality) => format!("its pod runs in {locality}"),
        None => "its pod runs on any node".to_owned(),
    });
    if let Some(include) = &spec.include {
        steps.push(format!(
            "only {}",
            include.schemas.iter().chain(&include.tables).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    if let Some(exclude) = &spec.exclude {
        steps.push(format!("without {}", exclude.tables.join(", ")));
    }
    if spec.schema_only == Some(true) {
        steps.push("definitions without rows, and so without a comparison".to_owned());
    }
    let roles = spec.roles.clone().unwrap_or_default();
    steps.push(match roles.missing {
        Some(MissingRoles::Create) => "roles that the target lacks are made, without passwords".to_owned(),
        _ => "a role that the target lacks is refused, by name, before anything is made".to_owned(),
    });
    if let Some(owner) = &spec.owner {
        steps.push(format!("everything belongs to {owner}"));
    }
    if spec.privileges == Some(Privileges::Skip) {
        steps.push("privileges are left out".to_owned());
    }
    steps
}
