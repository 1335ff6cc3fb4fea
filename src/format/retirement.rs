//! Retirement: the documents by which a backup stops being one, before anything of it is deleted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Sha256Digest;
use super::envelope::Document;

/// `runs/<n>/retired.json`: a prune means to retire this run. Written once, before the prune is decided, so it counts
/// for nothing by itself: the run is retired when the outcome of a prune names this document by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retired {
    /// The run that goes.
    pub run: u32,
    /// SHA-256 of its `outcome.json` as stored.
    pub outcome: Sha256Digest,
    /// The prune that wrote this. Another may be the one whose outcome names it, if this one came to nothing.
    pub prune: u32,
    /// Why it goes, for a person.
    pub reason: String,
    /// When this was written; for people only.
    pub written: Timestamp,
}

impl Document for Retired {
    const KIND: &'static str = "retired";
}

/// One retired run, as the outcome of a prune names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retirement {
    /// The run that goes.
    pub run: u32,
    /// SHA-256 of its `retired.json` as stored.
    pub sha256: Sha256Digest,
}
