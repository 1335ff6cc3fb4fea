//! `kubectl vouchsafe show BACKUP`: what a Backup's status says that it holds.

use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::object::{Object, Run, Wanted};
use super::{ClusterArguments, ClusterReason};
use crate::api::{Backup, BackupStore, Kind, ValidatedBackupStore};
use crate::cli::run::url_of;
use crate::cli::{Failure, OutputFormat, output};

/// What it writes; `restore` has it in its plan.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct ClusterShowReport {
    namespace: String,
    backup: String,
    store: String,
    collection: Option<String>,
    database: String,
    run: Option<i64>,
    sealed: Option<String>,
    pub(super) manifest_sha256: String,
    rows: Option<i64>,
    stored_bytes: Option<i64>,
    pub(super) destinations: Vec<DestinationShown>,
    servers: Vec<ServerShown>,
}

#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DestinationShown {
    name: String,
    url: String,
    pub(super) locality: Option<String>,
}

#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerShown {
    name: String,
    /// Absent where its Secret says it.
    host: Option<String>,
    locality: Option<String>,
    version: Option<String>,
}

impl ClusterShowReport {
    /// Of a Backup that succeeded. Pure.
    ///
    /// # Errors
    /// Nothing of it is proven.
    pub(super) fn of(backup: &Backup) -> Result<Self, Failure> {
        let status = backup.status.clone().unwrap_or_default();
        let proof = status.proof.unwrap_or_default();
        let Some(manifest_sha256) = proof.manifest_sha256.filter(|_| backup.succeeded()) else {
            let message = format!("{} is {}: nothing of it is proven", backup.title(), backup.brief());
            let hint = match backup.is_over() {
                true => "kubectl vouchsafe list shows which Backups succeeded",
                false => "wait until it succeeded: kubectl vouchsafe status shows it",
            };
            return Err(Failure::of_cluster(ClusterReason::NotRestorable, message, hint));
        };
        let progress = status.progress.unwrap_or_default();
        let resolved = status.resolved.unwrap_or_default();
        let destinations = resolved.destinations.into_iter();
        let servers = resolved.endpoints.into_iter();
        Ok(Self {
            namespace: backup.namespace().unwrap_or_default(),
            backup: backup.name_any(),
            store: backup.spec.store_ref.name.clone(),
            collection: backup.spec.collection.clone(),
            database: backup.spec.source.postgres.database.clone(),
            run: status.run.and_then(|run| run.number),
            sealed: proof.sealed_at,
            manifest_sha256,
            rows: proof.rows_counted.or(progress.rows),
            stored_bytes: progress.bytes_stored.or(proof.bytes_read),
            destinations: destinations
                .map(|it| DestinationShown { name: it.name, url: it.url, locality: it.locality })
                .collect(),
            servers: servers
                .map(|it| ServerShown {
                    name: it.name,
                    host: it.host,
                    locality: it.locality,
                    version: it.server_version,
                })
                .collect(),
        })
    }

    pub(super) fn text(&self) -> String {
        let number = |value: Option<i64>| value.and_then(|it| u64::try_from(it).ok());
        let mut text = format!("backup/{} of database {}", self.backup, self.database);
        if let Some(run) = self.run {
            text.push_str(&format!(", run {run}"));
        }
        if let Some(sealed) = &self.sealed {
            text.push_str(&format!(", sealed {sealed}"));
        }
        let rows = number(self.rows).map(output::count).unwrap_or_else(|| "?".to_owned());
        let stored = number(self.stored_bytes).map(output::bytes).unwrap_or_else(|| "?".to_owned());
        text.push_str(&format!(
            "\n{rows} rows, stored as {stored}\nmanifest sha256 {}\n",
            self.manifest_sha256
        ));
        let of =
            |locality: &Option<String>| locality.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
        for ServerShown { name, host, locality, version } in &self.servers {
            let version = version.as_ref().map(|it| format!(", PostgreSQL {it}")).unwrap_or_default();
            let host = host.as_deref().unwrap_or("the host that its Secret names");
            text.push_str(&format!("server {name}: {host}{version}{}\n", of(locality)));
        }
        for DestinationShown { name, url, locality } in &self.destinations {
            text.push_str(&format!("destination {name}: {url}{}\n", of(locality)));
        }
        text
    }

    /// How to see what only the bucket says: absent where the store is gone, or a destination lies in a claim.
    fn inside(&self, store: Option<BackupStore>) -> Option<String> {
        let store = ValidatedBackupStore::try_from(store?).ok()?;
        let mut destinations: Vec<_> = store.destinations.iter().collect();
        // The first one on a command line is the default one.
        destinations.sort_by_key(|it| !it.default);
        let mut stores = String::new();
        for destination in destinations {
            let url = url_of(&destination.place, self.collection.as_deref())?;
            let locality = destination.locality.as_ref().map(|it| format!("{it}=")).unwrap_or_default();
            stores.push_str(&format!(" --store '{locality}{url}'"));
        }
        Some(format!("vouchsafe show {}{stores}", self.run?))
    }
}

/// Shows one Backup by its name.
pub(in crate::cli) async fn show(
    wanted: &str,
    arguments: &ClusterArguments,
    output: OutputFormat,
) -> Result<(), Failure> {
    let wanted: Wanted = wanted
        .parse()
        .map_err(|error: String| Failure::usage(error, "kubectl vouchsafe list shows names"))?;
    let cluster = arguments.connect().await?;
    let found = cluster.find(&wanted, &[Kind::Backup], "shown by what it holds").await?;
    let Object::Backup(backup) = found else {
        return Err(Failure::internal("a Backup was looked for, and something else found"));
    };
    let report = ClusterShowReport::of(&backup)?;
    // Who may not see the store is told the rest.
    let store = cluster.get::<BackupStore>(&report.store).await.ok().flatten();
    output::write(output, &report, || {
        let mut text = report.text();
        if let Some(command) = report.inside(store) {
            text.push_str(&format!("its tables are told by the bucket, to who may read it:\n  {command}\n"));
        }
        text
    })
}
