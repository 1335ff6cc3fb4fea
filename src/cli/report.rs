//! The documents of `--output json`, and what people read instead. Their schema is in docs/json.md.

use schemars::JsonSchema;
use serde::Serialize;

use super::output;
use crate::engine::Sealed;
use crate::engine::backups::{Backup, Listed, Verified};
use crate::engine::inside::Inside;
use crate::engine::restore::Restored;
use crate::format::{Decision, Manifest, shown_identifier};

/// `vouchsafe backup`
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackupReport {
    run: u32,
    outcome: &'static str,
    manifest_sha256: String,
    tables: usize,
    rows: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    objects_read: u64,
    bytes_read: u64,
    destinations: Vec<DestinationReport>,
    omissions: Vec<OmissionReport>,
    errors: Vec<ErrorReport>,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct DestinationReport {
    name: String,
    url: String,
    tickets: u32,
    objects: u64,
    stored_bytes: u64,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct OmissionReport {
    object: String,
    kind: String,
    reason: String,
}

#[derive(Debug, JsonSchema, Serialize)]
struct ErrorReport {
    operation: String,
    kind: String,
    met: u64,
    resolution: String,
}

impl ErrorReport {
    fn text(&self) -> String {
        let Self { operation, kind, met, resolution } = self;
        let times = if *met == 1 { "once".to_owned() } else { format!("{met} times") };
        format!("met {times}: {kind} in {operation}, {resolution}\n")
    }
}

fn destinations(manifest: &Manifest) -> Vec<DestinationReport> {
    let report = manifest.destinations.iter().map(|destination| DestinationReport {
        name: destination.name.clone(),
        url: destination.url.clone(),
        tickets: destination.count,
        objects: destination.objects,
        stored_bytes: destination.stored_bytes,
    });
    report.collect()
}

fn omissions(manifest: &Manifest) -> Vec<OmissionReport> {
    let report = manifest.omissions.iter().map(|omitted| OmissionReport {
        object: omitted.object.clone(),
        kind: omitted.kind.clone(),
        reason: omitted.reason.clone(),
    });
    report.collect()
}

fn errors(manifest: &Manifest) -> Vec<ErrorReport> {
    let report = manifest.errors.iter().map(|error| ErrorReport {
        operation: error.operation.clone(),
        kind: error.kind.clone(),
        met: error.met,
        resolution: error.resolution.clone(),
    });
    report.collect()
}

impl BackupReport {
    pub(super) fn of(sealed: &Sealed) -> Self {
        let manifest = &sealed.manifest;
        Self {
            run: sealed.run,
            outcome: "Succeeded",
            manifest_sha256: sealed.manifest_sha256.to_string(),
            tables: manifest.tables.len(),
            rows: manifest.rows,
            raw_bytes: manifest.raw_bytes,
            stored_bytes: manifest.stored_bytes,
            objects_read: sealed.objects_read,
            bytes_read: sealed.bytes_read,
            destinations: destinations(manifest),
            omissions: omissions(manifest),
            errors: errors(manifest),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "Succeeded: run {} is sealed.\n{} rows in {} tables, {} stored as {}; {} objects, {} read back and \
             compared.\nmanifest sha256 {}\n",
            self.run,
            output::count(self.rows),
            self.tables,
            output::bytes(self.raw_bytes),
            output::bytes(self.stored_bytes),
            self.objects_read,
            output::bytes(self.bytes_read),
            self.manifest_sha256,
        );
        for omitted in &self.omissions {
            text.push_str(&format!("left out: {} ({})\n", omitted.object, omitted.reason));
        }
        self.errors.iter().for_each(|error| text.push_str(&error.text()));
        text
    }
}

/// `vouchsafe list`
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunReport {
    run: u32,
    claimed: Option<String>,
    owner: Option<String>,
    outcome: &'static str,
    reason: Option<String>,
    rows: Option<u64>,
    stored_bytes: Option<u64>,
    decided: Option<String>,
    retired_by: Option<u32>,
}

impl RunReport {
    pub(super) fn of(listed: &Listed) -> Self {
        let decision = listed.outcome.as_ref().map(|outcome| &outcome.decision);
        let (outcome, reason) = match (&listed.damage, decision) {
            (Some(damage), _) => ("Damaged", Some(damage.clone())),
            (None, None) => ("Open", None),
            (None, Some(Decision::Sealed { .. })) if listed.elsewhere => ("NotCopied", None),
            (None, Some(Decision::Sealed { .. })) => match listed.retired_by {
                None => ("Sealed", None),
                Some(prune) => ("Retired", Some(format!("by run {prune}"))),
            },
            (None, Some(Decision::Pruned { retired, .. })) => {
                ("Pruned", Some(format!("{} retired", output::count(retired.len() as u64))))
            }
            (None, Some(Decision::Void { reason, .. })) => ("Void", Some(reason.clone())),
        };
        let (claimed, owner) =
            listed.claimed.as_ref().map(|(claimed, owner)| (claimed.to_string(), owner.clone())).unzip();
        Self {
            run: listed.run,
            claimed,
            owner,
            outcome,
            reason,
            rows: listed.manifest.as_ref().map(|manifest| manifest.rows),
            stored_bytes: listed.manifest.as_ref().map(|manifest| manifest.stored_bytes),
            decided: listed.outcome.as_ref().map(|outcome| outcome.decided.to_string()),
            retired_by: listed.retired_by,
        }
    }

    pub(super) fn row(&self) -> [String; 6] {
        [
            self.run.to_string(),
            self.outcome.to_owned(),
            self.rows.map(output::count).unwrap_or_default(),
            self.stored_bytes.map(output::bytes).unwrap_or_default(),
            self.decided.clone().unwrap_or_default(),
            self.reason.clone().unwrap_or_default(),
        ]
    }
}

/// `vouchsafe show`
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShowReport {
    run: u32,
    newer_undecided: Option<u32>,
    sealed: String,
    manifest_sha256: String,
    rows: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    servers: Vec<ServerReport>,
    destinations: Vec<DestinationReport>,
    tables: Vec<TableReport>,
    omissions: Vec<OmissionReport>,
    errors: Vec<ErrorReport>,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerReport {
    name: String,
    database: String,
    version_num: u32,
    encoding: String,
    snapshot: String,
    taken: String,
    roles: Vec<String>,
    large_objects: u64,
}

impl ServerReport {
    fn text(&self) -> String {
        let Self { name, database, version_num, encoding, snapshot, taken, roles, large_objects } = self;
        let (major, minor) = (version_num / 10_000, version_num % 10_000);
        let roles: Vec<String> = roles.iter().map(|role| shown_identifier(role)).collect();
        format!(
            "server {name}: database {}, PostgreSQL {major}.{minor}, {encoding}, snapshot {snapshot} of {taken}\n  \
             roles: {}\n  large objects: {}\n",
            shown_identifier(database),
            roles.join(", "),
            output::count(*large_objects)
        )
    }
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct TableReport {
    name: String,
    endpoint: String,
    destination: String,
    rows: u64,
    fingerprint: String,
    raw_bytes: u64,
    stored_bytes: u64,
    tickets: u32,
}

impl ShowReport {
    /// `inside`: of each server, in the order of the manifest.
    pub(super) fn of(backup: &Backup, newer_undecided: Option<u32>, inside: Vec<Inside>) -> Self {
        let manifest = &backup.manifest;
        let servers = manifest.endpoints.iter().zip(inside).map(|(endpoint, inside)| ServerReport {
            name: endpoint.name.clone(),
            database: endpoint.identity.database.clone(),
            version_num: endpoint.version_num,
            encoding: endpoint.encoding.clone(),
            snapshot: endpoint.snapshot.clone(),
            taken: endpoint.taken.to_string(),
            roles: inside.roles,
            large_objects: inside.large_objects,
        });
        let tables = manifest.tables.iter().map(|table| TableReport {
            name: table.name.to_string(),
            endpoint: table.endpoint.clone(),
            destination: table.destination.clone(),
            rows: table.fingerprint.rows,
            fingerprint: format!("{:032x}", table.fingerprint.sum),
            raw_bytes: table.raw_bytes,
            stored_bytes: table.stored_bytes,
            tickets: table.tickets,
        });
        Self {
            run: backup.run,
            newer_undecided,
            sealed: backup.sealed.to_string(),
            manifest_sha256: backup.manifest_sha256.to_string(),
            rows: manifest.rows,
            raw_bytes: manifest.raw_bytes,
            stored_bytes: manifest.stored_bytes,
            servers: servers.collect(),
            tables: tables.collect(),
            destinations: destinations(manifest),
            omissions: omissions(manifest),
            errors: errors(manifest),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text =
            format!("run {}, sealed {}\nmanifest sha256 {}\n\n", self.run, self.sealed, self.manifest_sha256);
        self.servers.iter().for_each(|server| text.push_str(&server.text()));
        for destination in &self.destinations {
            text.push_str(&format!(
                "destination {}: {}, {} tickets, {} objects, {}\n",
                destination.name,
                destination.url,
                output::count(destination.tickets.into()),
                output::count(destination.objects),
                output::bytes(destination.stored_bytes)
            ));
        }
        text.push('\n');
        let rows = self.tables.iter().map(|table| {
            let bytes = output::bytes(table.stored_bytes);
            [table.name.clone(), output::count(table.rows), bytes, table.destination.clone()]
        });
        text.push_str(&output::table(["TABLE", "ROWS", "STORED", "DESTINATION"], rows.collect()));
        text.push('\n');
        for omitted in &self.omissions {
            text.push_str(&format!("left out: {} ({})\n", omitted.object, omitted.reason));
        }
        self.errors.iter().for_each(|error| text.push_str(&error.text()));
        text
    }
}

/// `vouchsafe verify`
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VerifyReport {
    run: u32,
    newer_undecided: Option<u32>,
    proven: bool,
    objects_read: u64,
    bytes_read: u64,
    rows: u64,
    damages: Vec<DamageReport>,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct DamageReport {
    destination: String,
    object: String,
    table: Option<String>,
    offsets: Option<(u64, u64)>,
    finding: String,
    /// All of it, for people.
    #[serde(skip)]
    line: String,
}

impl VerifyReport {
    pub(super) fn of(verified: &Verified) -> Self {
        let damages = verified.damages.iter().map(|(destination, damage)| DamageReport {
            destination: destination.clone(),
            object: damage.object.clone(),
            table: damage.table.clone(),
            offsets: damage.offsets,
            finding: damage.finding.clone(),
            line: damage.to_string(),
        });
        Self {
            run: verified.run,
            newer_undecided: verified.newer_undecided,
            proven: verified.damages.is_empty(),
            objects_read: verified.objects_read,
            bytes_read: verified.bytes_read,
            rows: verified.rows,
            damages: damages.collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "run {}: {} objects, {} and {} rows (with pages of large objects) read back\n",
            self.run,
            self.objects_read,
            output::bytes(self.bytes_read),
            output::count(self.rows)
        );
        for damage in &self.damages {
            text.push_str(&format!("DAMAGED {}: {}\n", damage.destination, damage.line));
        }
        text.push_str(if self.proven {
            "Proven: every checksum and count holds.\n"
        } else {
            "NOT PROVEN.\n"
        });
        text
    }
}

/// `vouchsafe restore`
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RestoreReport {
    run: u32,
    newer_undecided: Option<u32>,
    outcome: &'static str,
    manifest_sha256: String,
    database: String,
    tables: usize,
    rows_compared: u64,
    omissions: Vec<String>,
}

impl RestoreReport {
    pub(super) fn of(restored: &Restored) -> Self {
        Self {
            run: restored.run,
            newer_undecided: restored.newer_undecided,
            outcome: if restored.dry_run { "Planned" } else { "Succeeded" },
            manifest_sha256: restored.manifest_sha256.to_string(),
            database: restored.database.clone(),
            tables: restored.tables.len(),
            rows_compared: restored.tables.iter().map(|table| table.fingerprint.rows).sum(),
            omissions: restored.omissions.clone(),
        }
    }

    pub(super) fn text(&self) -> String {
        let (tables, rows) = (self.tables, output::count(self.rows_compared));
        let mut text = match self.outcome {
            "Planned" => format!(
                "Dry run: run {} would make database {} with {tables} tables and {rows} rows.\n",
                self.run, self.database
            ),
            _ if self.tables == 0 => {
                format!(
                    "Succeeded: the schema of run {} is restored as database {}.\n",
                    self.run, self.database
                )
            }
            _ => format!(
                "Succeeded: run {} is restored as database {}.\n{tables} tables, {rows} rows: every count and \
                 fingerprint, recomputed from the restored database, equals the manifest.\n",
                self.run, self.database
            ),
        };
        for omission in &self.omissions {
            text.push_str(&format!("left out: {omission}\n"));
        }
        text
    }
}
