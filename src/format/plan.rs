//! What a run will export: the plan, and each destination's tickets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Sha256Digest;
use super::envelope::Document;
use super::key::PlanId;
use super::register::DatabaseIdentity;
use super::relation::{SpanRange, TableFacts};

/// One PostgreSQL server, as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointPlan {
    /// Name of the endpoint.
    pub name: String,
    /// Its locality, if it has one.
    pub locality: Option<String>,
    /// Which database.
    pub identity: DatabaseIdentity,
    /// `server_version_num`, such as 150020.
    pub version_num: u32,
    /// `server_encoding`: that of the data files.
    pub encoding: String,
    /// `pg_export_snapshot()`: valid while its exporter lives.
    pub snapshot_id: String,
    /// `pg_current_snapshot()` of the exported snapshot.
    pub snapshot: String,
    /// When the snapshot was taken, by the server's clock.
    pub taken: Timestamp,
    /// Digest of the catalogs before the snapshot.
    pub catalog: Sha256Digest,
    /// Version of the pg_dump that writes the schema.
    pub pg_dump: String,
}

/// One destination, as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationPlan {
    /// Name of the destination.
    pub name: String,
    /// Its URL, without credentials; for people, readers name the destinations themselves.
    pub url: String,
    /// Localities that it takes.
    pub locality: Option<String>,
    /// Whether it holds the register, the plan and the manifest.
    pub default: bool,
    /// SHA-256 of its `tickets.json.zst` as stored.
    pub tickets: Sha256Digest,
    /// Number of its tickets.
    pub count: u32,
}

/// One table, as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TablePlan {
    /// Number of the table in this plan.
    pub id: u32,
    /// Position of its endpoint in the plan.
    pub endpoint: u32,
    /// Name of its destination.
    pub destination: String,
    /// What is known of it.
    pub facts: TableFacts,
    /// Number of its tickets.
    pub tickets: u32,
}

/// Something of the source that the backup does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Omitted {
    /// The endpoint.
    pub endpoint: String,
    /// The object's name.
    pub object: String,
    /// What it is, in PostgreSQL's words.
    pub kind: String,
    /// Why it is left out.
    pub reason: String,
}

/// `plan.json.zst`, in the default destination: every table of the snapshot, and every omission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// The run.
    pub run: u32,
    /// Its random id.
    pub plan: PlanId,
    /// Servers.
    pub endpoints: Vec<EndpointPlan>,
    /// Destinations; exactly one is the default.
    pub destinations: Vec<DestinationPlan>,
    /// Tables, by id.
    pub tables: Vec<TablePlan>,
    /// What is left out.
    pub omissions: Vec<Omitted>,
    /// Materialized views that were populated, in the order in which they are refreshed.
    pub populated_views: Vec<super::relation::QualifiedName>,
    /// Number of all tickets.
    pub tickets: u32,
}

impl Document for Plan {
    const KIND: &'static str = "plan";
    const COMPRESSED: bool = true;
}

/// A durable order to export one piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ticket {
    /// Number in the plan, across all destinations.
    pub id: u32,
    /// What to export.
    pub order: Order,
}

/// What a ticket asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Order {
    /// The rows of one span of a table.
    Rows {
        /// The table's id in the plan.
        table: u32,
        /// Which rows.
        range: SpanRange,
    },
    /// The schema of one endpoint: an archive in pg_dump's custom format.
    Schema {
        /// The endpoint's position in the plan.
        endpoint: u32,
    },
    /// One of the catalogs that pg_dump's schema does not carry.
    Catalog {
        /// The endpoint's position in the plan.
        endpoint: u32,
        /// Which one.
        what: CatalogKind,
    },
    /// Pages of large objects, as COPY BINARY of `(loid, pageno, data)`.
    LargeObjects {
        /// The endpoint's position in the plan.
        endpoint: u32,
        /// First object identifier.
        from: u32,
        /// Last object identifier, included.
        to: u32,
    },
}

/// The catalogs that are tickets of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CatalogKind {
    /// Roles that objects of the database refer to, without passwords.
    Roles,
    /// Sequences and their values, read after the snapshot.
    Sequences,
    /// Owner, privileges and comments of large objects.
    LargeObjects,
    /// Settings, comment and privileges of the database itself, extensions and their versions.
    Database,
}

impl CatalogKind {
    /// All of them, in the order in which they are planned.
    pub const ALL: [Self; 4] = [Self::Roles, Self::Sequences, Self::LargeObjects, Self::Database];

    /// The word in the object's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Roles => "roles",
            Self::Sequences => "sequences",
            Self::LargeObjects => "large-objects",
            Self::Database => "database",
        }
    }
}

/// `tickets.json.zst`, in every destination: all that a worker of its localities needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tickets {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: PlanId,
    /// Name of the destination.
    pub destination: String,
    /// The servers that the tickets are to be read from, by position in the plan.
    pub endpoints: Vec<EndpointPlan>,
    /// The tables that the tickets name.
    pub tables: Vec<TablePlan>,
    /// The tickets, in ascending order of their numbers.
    pub tickets: Vec<Ticket>,
}

impl Document for Tickets {
    const KIND: &'static str = "tickets";
    const COMPRESSED: bool = true;
}
