//! Kinds whose pods publish how far they are.

use std::fmt::Debug;

use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

use crate::api::{Backup, Restore, RunStatus};
use crate::engine::progress::Stage;

/// A kind whose pods publish how far they are.
pub(super) trait Published:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The field manager of everything that its pod writes.
    const MANAGER: &'static str;
    /// The stage whose advance is the work's progress.
    const ADVANCES: Stage;

    /// Whether a person asked for its end.
    fn is_canceled(&self) -> bool;

    /// What is published of its run.
    fn run(&self) -> Option<&RunStatus>;

    /// `run.step` of a stage; `None` for a stage that is part of another.
    fn step(stage: Stage) -> Option<&'static str>;
}

impl Published for Backup {
    const MANAGER: &'static str = "vouchsafe-coordinator";
    const ADVANCES: Stage = Stage::Export;

    fn is_canceled(&self) -> bool {
        self.spec.cancel == Some(true)
    }

    fn run(&self) -> Option<&RunStatus> {
        self.status.as_ref()?.run.as_ref()
    }

    fn step(stage: Stage) -> Option<&'static str> {
        match stage {
            Stage::Resolve => Some("Resolving"),
            Stage::Export => Some("Exporting"),
            Stage::Count => Some("Counting"),
            Stage::Write => Some("WritingMetadata"),
            Stage::Verify => Some("Verifying"),
            Stage::Seal => Some("Sealing"),
            Stage::Copy | Stage::Schema | Stage::Load | Stage::Finish | Stage::Compare => None,
        }
    }
}

impl Published for Restore {
    const MANAGER: &'static str = "vouchsafe-restorer";
    const ADVANCES: Stage = Stage::Load;

    fn is_canceled(&self) -> bool {
        self.spec.cancel == Some(true)
    }

    fn run(&self) -> Option<&RunStatus> {
        self.status.as_ref()?.run.as_ref()
    }

    fn step(stage: Stage) -> Option<&'static str> {
        match stage {
            // The backup is read back before anything is touched.
            Stage::Resolve | Stage::Verify => Some("Resolving"),
            Stage::Schema => Some("PreData"),
            Stage::Load => Some("Data"),
            Stage::Finish => Some("PostData"),
            Stage::Compare => Some("Verifying"),
            Stage::Export | Stage::Count | Stage::Write | Stage::Seal | Stage::Copy => None,
        }
    }
}
