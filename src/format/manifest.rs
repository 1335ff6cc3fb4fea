//! `manifest.json.zst`: the whole backup in one document.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::{Fingerprint, Sha256Digest};
use super::envelope::Document;
use super::key::PlanId;
use super::plan::{EndpointPlan, Omitted};
use super::relation::{CopyFormat, QualifiedName};

/// One table of the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestTable {
    /// The table's id: its objects lie below `data/<id>/`, six digits.
    pub id: u32,
    /// Name of its endpoint.
    pub endpoint: String,
    /// Its name.
    pub name: QualifiedName,
    /// Columns of its data files, in order.
    pub columns: Vec<String>,
    /// How its data files are written.
    pub format: CopyFormat,
    /// Name of the destination that holds its rows.
    pub destination: String,
    /// Rows and their hash: read, and counted by the database.
    pub fingerprint: Fingerprint,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// Number of its tickets.
    pub tickets: u32,
}

/// One destination's share of the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestDestination {
    /// Name of the destination.
    pub name: String,
    /// Its URL when the backup was made, without credentials.
    pub url: String,
    /// Localities that it takes.
    pub locality: Option<String>,
    /// Whether it holds the register, the plan and this manifest.
    pub default: bool,
    /// SHA-256 of its `tickets.json.zst` as stored.
    pub tickets: Sha256Digest,
    /// SHA-256 of its `part.json.zst` as stored.
    pub part: Sha256Digest,
    /// Number of its tickets.
    pub count: u32,
    /// Objects that hold rows or catalogs.
    pub objects: u64,
    /// Bytes in those objects.
    pub stored_bytes: u64,
}

/// An error that was met in the run, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorEntry {
    /// What was being done.
    pub operation: String,
    /// The error's kind: a stable CamelCase word.
    pub kind: String,
    /// How often it was met.
    pub met: u64,
    /// How it was resolved.
    pub resolution: String,
}

/// `manifest.json.zst`, in the default destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: PlanId,
    /// SHA-256 of `plan.json.zst` as stored.
    pub plan_document: Sha256Digest,
    /// SHA-256 of `census.json.zst` as stored.
    pub census: Sha256Digest,
    /// Servers. With several, each is consistent only with itself: they share no snapshot.
    pub endpoints: Vec<EndpointPlan>,
    /// Destinations.
    pub destinations: Vec<ManifestDestination>,
    /// Tables, by id.
    pub tables: Vec<ManifestTable>,
    /// What is left out, and why.
    pub omissions: Vec<Omitted>,
    /// Materialized views that were populated, in the order in which they are refreshed.
    pub populated_views: Vec<QualifiedName>,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of all tables before compression.
    pub raw_bytes: u64,
    /// Bytes stored, of rows and catalogs.
    pub stored_bytes: u64,
    /// Every error met in the run.
    pub errors: Vec<ErrorEntry>,
    /// When it was written; for people only.
    pub written: Timestamp,
    /// Release that wrote it.
    pub software: String,
}

impl Document for Manifest {
    const KIND: &'static str = "manifest";
    const COMPRESSED: bool = true;
}
