//! What settles tickets, and what answers for it: receipts, the census, parts and verdicts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::{Fingerprint, Sha256Digest};
use super::envelope::Document;
use super::key::{Key, Nonce, PlanId};

/// A stored object as its writer committed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredObject {
    /// Its name below the destination's prefix.
    pub key: Key,
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
    /// The checksum that the store validated itself, such as `crc64nvme:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Entity tag that the store gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Version or generation that the store gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// How a ticket was settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Settlement {
    /// Rows were stored.
    Rows {
        /// The object.
        object: StoredObject,
        /// Rows and their hash.
        fingerprint: Fingerprint,
        /// Bytes before compression.
        raw_bytes: u64,
    },
    /// The span was read to its end and held no row. Absence of a file never means this.
    Empty,
    /// A catalog was stored.
    Catalog {
        /// The object.
        object: StoredObject,
        /// Entries: of the archive's table of contents, or of the document.
        entries: u64,
    },
}

impl Settlement {
    /// The object, if one was stored.
    #[must_use]
    pub const fn object(&self) -> Option<&StoredObject> {
        match self {
            Self::Rows { object, .. } | Self::Catalog { object, .. } => Some(object),
            Self::Empty => None,
        }
    }

    /// Rows and their hash; no rows for a catalog.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Rows { fingerprint, .. } => *fingerprint,
            Self::Empty | Self::Catalog { .. } => Fingerprint::EMPTY,
        }
    }
}

/// `receipts/<ticket>.<random>.json`: proof that a ticket was settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// The run.
    pub run: u32,
    /// The plan; a receipt of another plan does not count.
    pub plan: PlanId,
    /// SHA-256 of the `tickets.json.zst` that gave the order.
    pub tickets: Sha256Digest,
    /// `pg_current_snapshot()` of the session that read; a receipt of another snapshot does not count.
    pub snapshot: String,
    /// The ticket.
    pub ticket: u32,
    /// The worker that settled it.
    pub worker: Nonce,
    /// How.
    pub settlement: Settlement,
}

impl Document for Receipt {
    const KIND: &'static str = "receipt";
}

/// What the database itself counted, in the snapshot, without an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableCount {
    /// The table's id in the plan.
    pub table: u32,
    /// `count(*)`, read sequentially.
    pub rows: u64,
}

/// Two tickets of one table with equal, non-empty fingerprints, explained by the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EqualSpans {
    /// The tickets.
    pub tickets: (u32, u32),
    /// Rows and hash of each, as the server computed them: equal too, so the rows really are alike.
    pub server: String,
}

/// `census.json.zst`, in the default destination: what only the snapshot could tell. Once it lies there and
/// every ticket has its receipt, nothing of the run needs the snapshot any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Census {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: PlanId,
    /// SHA-256 of `plan.json.zst` as stored.
    pub plan_document: Sha256Digest,
    /// One count of each table of the plan.
    pub counts: Vec<TableCount>,
    /// Pages of large objects counted by the database, by endpoint.
    pub large_object_pages: Vec<u64>,
    /// Digest of each endpoint's catalogs after the last COPY; equal to the plan's.
    pub catalogs: Vec<Sha256Digest>,
    /// Tickets whose fingerprints are equal, and why that is right.
    pub equal_spans: Vec<EqualSpans>,
}

impl Document for Census {
    const KIND: &'static str = "census";
    const COMPRESSED: bool = true;
}

/// A ticket with the receipt that settled it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartEntry {
    /// The ticket.
    pub ticket: u32,
    /// Name of the receipt's object.
    pub receipt: Key,
    /// SHA-256 of the receipt as stored.
    pub receipt_sha256: Sha256Digest,
    /// What the receipt says.
    pub settlement: Settlement,
}

/// `part.json.zst`, in every destination: what of the backup lies there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: PlanId,
    /// Name of the destination.
    pub destination: String,
    /// SHA-256 of `tickets.json.zst` as stored.
    pub tickets: Sha256Digest,
    /// Every ticket of the destination, in ascending order.
    pub entries: Vec<PartEntry>,
}

impl Document for Part {
    const KIND: &'static str = "part";
    const COMPRESSED: bool = true;
}

/// What a verifier found for one ticket when it read the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// The ticket.
    pub ticket: u32,
    /// The object that was read; absent for a span without rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Key>,
    /// Bytes read.
    pub length: u64,
    /// SHA-256 of the bytes read; absent for a span without rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// Rows decoded and their hash.
    pub fingerprint: Fingerprint,
    /// Entries decoded, of a catalog.
    pub entries: u64,
    /// Something that only a reader of the content can say: for rows, a fingerprint seeded with the nonce;
    /// for a catalog, the first 128 bits of SHA-256 over nonce and bytes. The coordinator works a sample out
    /// itself, so a verifier that repeats what the receipts say is found.
    pub challenge: Fingerprint,
}

/// Something that is not as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Damage {
    /// The object's name.
    pub object: String,
    /// The table that it belongs to, if it holds rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Offsets in the stored object between which the damage lies, as far as it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<(u64, u64)>,
    /// What was found.
    pub finding: String,
}

/// One line for people: the object, what it belongs to, where, and what was found.
impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.object)?;
        if let Some(table) = &self.table {
            write!(f, ", table {table}")?;
        }
        match self.offsets {
            Some((from, to)) if from == to => write!(f, ", at byte {from}")?,
            Some((from, to)) => write!(f, ", bytes {from} to {to}")?,
            None => {}
        }
        write!(f, ": {}", self.finding)
    }
}

/// `verdicts/<nonce>.json`: what a verifier found in one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verdict {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: PlanId,
    /// Name of the destination.
    pub destination: String,
    /// The question: issued after the manifest was written.
    pub nonce: Nonce,
    /// SHA-256 of the manifest that it was asked about.
    pub manifest: Sha256Digest,
    /// SHA-256 of the part as it was read.
    pub part: Sha256Digest,
    /// One answer for each ticket, in ascending order.
    pub answers: Vec<Answer>,
    /// Objects read, documents included.
    pub objects_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// What is wrong; empty if all is well.
    pub damages: Vec<Damage>,
    /// When it was written; for people only.
    pub written: Timestamp,
}

impl Document for Verdict {
    const KIND: &'static str = "verdict";
}
