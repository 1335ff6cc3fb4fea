//! The four resources of `vouchsafe.dev/v1alpha1`, as types, as schemas, and parsed.
//!
//! - `store`, `schedule`, `backup`, `restore` are the resources as written; `source`, `pod_template` and
//!   `reference` what they share; `*_status`, `run_status` and `condition` what came of them.
//! - `bounds` holds the form and limit of every string, for the API server and for this process.
//! - [`definition`] makes the CustomResourceDefinitions of them.
//! - [`structure`] applies the same schema here that the API server applies there.
//! - [`document`] reads YAML files, for `run -f`.
//! - [`validated`] parses each spec once; nothing after it sees a raw spec.
//!
//! Pure: no client, no clock, no randomness.
#![allow(
    unreachable_pub,
    reason = "KubeSchema repeats each public struct inside a function, and has no say over its lints"
)]
#![allow(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own, and many the same")]

mod backup;
mod backup_status;
mod bounds;
mod condition;
pub mod definition;
pub mod document;
mod last_word;
pub mod marks;
pub mod pattern;
mod pod_template;
pub mod quantity;
mod reference;
mod refusal;
mod restore;
mod restore_status;
mod run_status;
mod schedule;
mod schedule_status;
mod source;
mod store;
pub mod structure;
pub mod validated;

pub use backup::*;
pub use backup_status::*;
pub use bounds::MAX_IDENTIFIER;
pub use condition::*;
pub use definition::{crds, crds_yaml};
pub use document::{Document, DocumentError, parse_documents};
pub use last_word::*;
pub use pod_template::*;
pub use reference::*;
pub use refusal::{Refusal, Refusals, Refused};
pub use restore::*;
pub use restore_status::*;
pub use run_status::*;
pub use schedule::*;
pub use schedule_status::*;
pub use source::*;
pub use store::*;
pub use validated::*;

/// The API group of all four resources.
pub const GROUP: &str = "vouchsafe.dev";
/// Their only version.
pub const VERSION: &str = "v1alpha1";
/// What `apiVersion` says of all four.
pub const API_VERSION: &str = "vouchsafe.dev/v1alpha1";

/// Which of the four resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Where.
    BackupStore,
    /// When.
    BackupSchedule,
    /// One layer.
    Backup,
    /// One restore.
    Restore,
}

impl Kind {
    /// All of them, in the order of API documents.
    pub const ALL: [Kind; 4] = [Kind::BackupStore, Kind::BackupSchedule, Kind::Backup, Kind::Restore];

    /// The word in `kind:`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::BackupStore => "BackupStore",
            Kind::BackupSchedule => "BackupSchedule",
            Kind::Backup => "Backup",
            Kind::Restore => "Restore",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
