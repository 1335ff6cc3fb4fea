//! The documents by which runs are claimed, carried on and decided: `collection.json`, `run.json`, attempts,
//! heartbeats and `outcome.json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Sha256Digest;
use super::envelope::Document;
use super::key::{Nonce, PlanId};
use super::retirement::Retirement;

/// Identity of one database on one server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseIdentity {
    /// `pg_control_system().system_identifier`, decimal.
    pub system_identifier: String,
    /// Name of the database.
    pub database: String,
}

/// `collection.json`: whose backups lie under this prefix. Written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Collection {
    /// Identity of the source, by the name of the endpoint.
    pub source: BTreeMap<String, DatabaseIdentity>,
    /// When the collection was begun; for people only.
    pub created: Timestamp,
    /// Distinguishes this create from any other process's.
    pub nonce: Nonce,
}

impl Document for Collection {
    const KIND: &'static str = "collection";
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunKind {
    /// Makes one layer.
    Backup,
    /// Retires layers.
    Prune,
}

/// `runs/<n>/run.json`: the claim of a number, created conditionally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// Its number, counted from 1 without gaps.
    pub run: u32,
    /// What it is for.
    pub kind: RunKind,
    /// Who may go on with it: a resource's UID, or on a command line the digest of source, stores and options.
    pub owner: String,
    /// Tells this claim from another process's, so that a retried create recognises itself.
    pub nonce: Nonce,
    /// When it was claimed; for people only, nothing is ordered by it.
    pub claimed: Timestamp,
    /// SHA-256 of `collection.json` as stored.
    pub collection: Sha256Digest,
    /// SHA-256 of the previous run's `outcome.json` as stored; absent in the first run. A collection is a
    /// hash chain.
    pub previous: Option<Sha256Digest>,
    /// Release that claimed it.
    pub software: String,
}

impl Document for Run {
    const KIND: &'static str = "run";
}

/// Where an attempt runs, so that a process on the same machine can see that it is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessIdentity {
    /// `/proc/sys/kernel/random/boot_id` and the process-id namespace: process ids mean nothing outside these.
    pub space: String,
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/<pid>/stat`): process ids are used again.
    pub started_ticks: u64,
    /// Host name; for people only.
    pub host: String,
}

/// `runs/<n>/attempts/<k>.json`: one process's turn at an open run; the newest counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attempt {
    /// The run.
    pub run: u32,
    /// Counted from 1 without gaps.
    pub attempt: u32,
    /// Tells this attempt from another process's.
    pub nonce: Nonce,
    /// The plan that it makes, or carries on.
    pub plan: PlanId,
    /// Why: the first, carrying a plan on, or starting over and what made that necessary.
    pub reason: String,
    /// Whether `plan` is a plan of an earlier attempt.
    pub continues: bool,
    /// Where it runs.
    pub process: ProcessIdentity,
    /// When it began; for people only.
    pub started: Timestamp,
}

impl Document for Attempt {
    const KIND: &'static str = "attempt";
}

/// `runs/<n>/beats/<attempt>-<i>.json`: the attempt is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Beat {
    /// The run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
    /// Counted from 1.
    pub beat: u64,
    /// The attempt's nonce.
    pub nonce: Nonce,
}

impl Document for Beat {
    const KIND: &'static str = "beat";
}

/// One destination's verdict, as the outcome names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerdictReference {
    /// Name of the destination.
    pub destination: String,
    /// The question that the verdict answers.
    pub nonce: Nonce,
    /// SHA-256 of the verdict as stored.
    pub sha256: Sha256Digest,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Decision {
    /// The backup under `plan` is proven.
    Sealed {
        /// The plan.
        plan: PlanId,
        /// SHA-256 of the manifest as stored.
        manifest: Sha256Digest,
        /// One verdict of each destination.
        verdicts: Vec<VerdictReference>,
    },
    /// The prune is sealed: the runs that it names are backups no more, and what is in them may be deleted.
    Pruned {
        /// The newest backup that stays: every byte of it was read before. Absent where backups were retired because
        /// their owner asked for it: then nothing need stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        survivor: Option<u32>,
        /// The runs that go, in ascending order.
        retired: Vec<Retirement>,
    },
    /// There is no backup of this number and never will be.
    Void {
        /// Stable CamelCase word.
        reason: String,
        /// What happened, for a person.
        message: String,
    },
}

/// `runs/<n>/outcome.json`: the register. Whoever creates it first is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    /// The run.
    pub run: u32,
    /// SHA-256 of `run.json` as stored.
    pub claim: Sha256Digest,
    /// SHA-256 of the attempts' documents as stored, in order.
    pub attempts: Vec<Sha256Digest>,
    /// The end.
    pub decision: Decision,
    /// Who decided: the nonce of an attempt, or of a process that took over.
    pub decided_by: Nonce,
    /// When; for people only.
    pub decided: Timestamp,
}

impl Document for Outcome {
    const KIND: &'static str = "outcome";
}
