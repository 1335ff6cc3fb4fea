//! The documents of a copy of a collection: what marks the place, and what says of a run that all of it lies there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Sha256Digest;
use super::envelope::Document;
use super::key::PlanId;

/// `copy.json`, beside `collection.json`: what lies here was copied from elsewhere. No run is claimed here: two places
/// that each made a run 8 would be two histories of one collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CopyMark {
    /// SHA-256 of the `collection.json` that is copied, as stored.
    pub collection: Sha256Digest,
    /// URL of the default destination that was copied from first; for people only.
    pub from: String,
    /// When the copy was begun; for people only.
    pub created: Timestamp,
}

impl Document for CopyMark {
    const KIND: &'static str = "copy";
}

/// `runs/<n>/copied.json`: everything of this sealed run lies here, and was read back from here to the last row.
/// A sealed run of a copy without it was not copied, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Copied {
    /// The run.
    pub run: u32,
    /// Its plan.
    pub plan: PlanId,
    /// SHA-256 of its manifest as stored.
    pub manifest: Sha256Digest,
    /// Objects that were read back here, documents included.
    pub objects_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// When; for people only.
    pub written: Timestamp,
    /// Release that copied it.
    pub software: String,
}

impl Document for Copied {
    const KIND: &'static str = "copied";
}
