//! Restore: one restorer, and a terminal phase that follows from what it left.

mod build;
mod conditions;
pub mod decide;
mod observe;
mod origin;
mod reasons;
mod status;

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::begun;
use super::events;
use super::jobs;
use super::leftovers;
use super::make::{MakeError, make_all};
use super::pods::Owner;
use super::watch::Kept;
use super::{Context, watched};
use crate::api::Restore;

pub use reasons::RestoreReason;

/// What a reconciliation fails with. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What there is could not be read.
    #[error("what there is of the Restore can't be read")]
    Observe(#[source] kube::Error),
    /// An object of the restore could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A Job could not be deleted.
    #[error("a Job can't be deleted")]
    Delete(#[source] kube::Error),
    /// The status could not be written.
    #[error("the status can't be written")]
    Status(#[source] kube::Error),
}

impl Kept for Restore {
    const KIND: &'static str = "Restore";

    type Error = RestoreError;

    fn step(&self, context: &Arc<Context>) -> impl Future<Output = Result<Action, RestoreError>> + Send {
        reconcile(self, context)
    }
}

/// Brings one Restore a step further.
async fn reconcile(restore: &Restore, context: &Arc<Context>) -> Result<Action, RestoreError> {
    let uid = restore.uid().unwrap_or_default();
    let leaves = restore.metadata.deletion_timestamp.is_some();
    let is_over = decide::is_over(restore);
    if leaves || is_over {
        context.refusals.forget(&uid);
        if is_over {
            leftovers::end(context, restore).await.map_err(RestoreError::Delete)?;
        }
        if !leaves {
            status::acknowledge(&context.client, restore).await.map_err(RestoreError::Status)?;
        }
        return Ok(Action::await_change());
    }
    let began = SystemTime::now();
    // Needs the client.
    let refused = context.refusals.of(&uid);
    let observed =
        observe::observe(&context.client, restore, refused).await.map_err(RestoreError::Observe)?;
    // Pure.
    let plan = decide::decide(restore, &observed, Timestamp::now());
    tracing::info!(restore = %restore.name_any(), %plan, "decided");
    let built = build::build(restore, &plan, &context.settings);
    // Needs the client. The status before the Jobs: what an attempt is must be known before it runs. And before the
    // mark: a Restore that is marked and has no status is history, also if this process ended in between.
    let written =
        status::write(&context.client, restore, &plan.status).await.map_err(RestoreError::Status)?;
    let written = match plan.start.is_empty() {
        true => written,
        false => begun::mark(&context.client, &written).await.map_err(RestoreError::Status)?,
    };
    events::tell_of_restore(&context.recorder, restore, &written).await;
    let owner = Owner::of(&written);
    jobs::stop_each(&context.client, &owner.namespace, &plan.end).await.map_err(RestoreError::Delete)?;
    let made = make_all(&context.client, &owner, built).await;
    let again = context.refusals.remember(&uid, made)?;
    watched::traced(restore, &written, began, (&plan.start, &plan.end));
    if decide::is_over(&written) {
        let status = written.status.clone().unwrap_or_default();
        let run = status.run.as_ref().and_then(|run| run.number);
        watched::traced_whole("restore", &written, run, status.failure.as_ref());
    }
    match again {
        Some(soon) => Ok(Action::requeue(soon)),
        None => Ok(plan.again_after.map_or_else(Action::await_change, Action::requeue)),
    }
}
