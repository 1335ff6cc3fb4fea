//! What the pages of docs/ must say: every reason that a failure can have, and the documents of `--output json`.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, schema_for};

use super::cluster::{
    BackupsReport, ClusterReason, ClusterShowReport, LogLine, ObjectReport, PrunePlanReport,
    RestorePlanReport, StatusReport, SwitchReport, TriggerReport,
};
use super::copy::CopyReport;
use super::list::ListReport;
use super::output::{FailureDocument, Reason, VersionReport};
use super::prune_report::PruneReport;
use super::report::{BackupReport, RestoreReport, ShowReport, VerifyReport};
use super::unlock::UnlockReport;
use super::{demo, diff};
use crate::api::Refused;
use crate::controller::ControllerReason;
use crate::controller::restore::RestoreReason;
use crate::controller::schedule::ScheduleReason;
use crate::controller::store::StoreReason;
use crate::engine::{EngineError, prune, register, unlock};
use crate::source::SourceError;
use crate::source::target::TargetError;
use crate::store::StoreErrorKind;

/// Every stable word that `failure.reason`, a void run or a refused field can have: the headings of
/// docs/troubleshooting.md.
#[must_use]
pub fn reasons() -> BTreeSet<&'static str> {
    let lists = [
        Reason::REASONS,
        EngineError::REASONS,
        SourceError::REASONS,
        TargetError::REASONS,
        Refused::REASONS,
        ControllerReason::REASONS,
        &[unlock::UNLOCKED, register::OWNER_GONE, register::DEAD_PRUNE, prune::BACKUP_DELETED],
        ClusterReason::REASONS,
        ScheduleReason::REASONS,
        RestoreReason::REASONS,
        StoreReason::REASONS,
    ];
    let of_stores = StoreErrorKind::ALL.into_iter().map(StoreErrorKind::name);
    lists.into_iter().flatten().copied().chain(of_stores).collect()
}

/// The documents that commands write with `--output json`, by command: the chapters of docs/json.md. `failure` is
/// that of any command that failed.
#[must_use]
pub fn documents() -> BTreeMap<&'static str, Schema> {
    fn of<T: JsonSchema>() -> Schema {
        schema_for!(T)
    }
    BTreeMap::from([
        ("failure", of::<FailureDocument>()),
        ("backup", of::<BackupReport>()),
        ("list", of::<ListReport>()),
        ("show", of::<ShowReport>()),
        ("verify", of::<VerifyReport>()),
        ("copy", of::<CopyReport>()),
        ("restore", of::<RestoreReport>()),
        ("diff", of::<diff::DiffReport>()),
        ("prune", of::<PruneReport>()),
        ("unlock", of::<UnlockReport>()),
        ("status", of::<StatusReport>()),
        ("status of one object", of::<ObjectReport>()),
        ("trigger", of::<TriggerReport>()),
        ("suspend, resume, cancel", of::<SwitchReport>()),
        ("logs", of::<LogLine>()),
        ("list in a cluster", of::<BackupsReport>()),
        ("show in a cluster", of::<ClusterShowReport>()),
        ("restore in a cluster", of::<RestorePlanReport>()),
        ("prune in a cluster", of::<PrunePlanReport>()),
        ("version", of::<VersionReport>()),
        ("demo", of::<demo::Shown>()),
    ])
}
