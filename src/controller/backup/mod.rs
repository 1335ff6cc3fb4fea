//! Backup: coordinator, then workers, then verifiers, and a terminal phase that follows from what they left.

mod build;
mod conditions;
pub mod decide;
mod observe;
mod places;
mod readiness;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use super::Context;
use super::make::{MakeError, make_all};
use super::pods::Owner;
use crate::api::Backup;

/// What a reconciliation fails with. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What there is could not be read.
    #[error("what there is of the Backup can't be read")]
    Observe(#[source] kube::Error),
    /// An object of the run could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The status could not be written.
    #[error("the status can't be written")]
    Status(#[source] kube::Error),
}

/// Waits between two tries after an error: doubled would be kinder to a broken API server, and its own client
/// backs off already where the server says 429.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Brings one Backup a step further.
pub(super) async fn reconcile(backup: &Backup, context: &Arc<Context>) -> Result<Action, BackupError> {
    if backup.metadata.deletion_timestamp.is_some() || decide::is_over(backup) {
        return Ok(Action::await_change());
    }
    // Needs the client.
    let observed = observe::observe(&context.client, backup).await?;
    // Pure.
    let plan = decide::decide(backup, &observed, Timestamp::now());
    tracing::info!(backup = %backup.name_any(), %plan, "decided");
    let built = build::build(backup, &plan, &context.settings);
    // Needs the client. The status before the Jobs: what an attempt is must be known before it runs.
    let written = status::write(&context.client, backup, &plan.status).await?;
    make_all(&context.client, &Owner::of(&written), built).await?;
    Ok(plan.again_after.map_or_else(Action::await_change, Action::requeue))
}

/// What follows an error.
#[allow(clippy::needless_pass_by_value, reason = "kube-runtime's signature")]
pub(super) fn after_error(
    _backup: Arc<DeserializeGuard<Backup>>,
    _error: &BackupError,
    _context: Arc<Context>,
) -> Action {
    Action::requeue(AFTER_ERROR)
}
