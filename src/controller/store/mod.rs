//! BackupStore: a probe for each destination, and conditions that follow from what they left. The controller itself
//! reads no Secret and no bucket.

mod build;
pub mod decide;
mod observe;
mod places;
mod reasons;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::Context;
use super::events;
use super::jobs;
use super::make::{MakeError, make_all};
use super::pods::Owner;
use super::status;
use super::watch::Kept;
use crate::api::BackupStore;

pub use reasons::StoreReason;

/// What a reconciliation fails with. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What there is could not be read.
    #[error("what there is of the BackupStore can't be read")]
    Observe(#[source] kube::Error),
    /// An object of a probe could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A Job could not be deleted.
    #[error("a Job can't be deleted")]
    Delete(#[source] kube::Error),
    /// The status could not be written.
    #[error("the status can't be written")]
    Status(#[source] kube::Error),
}

impl Kept for BackupStore {
    const KIND: &'static str = "BackupStore";

    type Error = StoreError;

    fn step(&self, context: &Arc<Context>) -> impl Future<Output = Result<Action, StoreError>> + Send {
        reconcile(self, context)
    }
}

/// Brings one BackupStore a step further.
async fn reconcile(store: &BackupStore, context: &Arc<Context>) -> Result<Action, StoreError> {
    let uid = store.uid().unwrap_or_default();
    if store.metadata.deletion_timestamp.is_some() {
        context.refusals.forget(&uid);
        return Ok(Action::await_change());
    }
    // Needs the client.
    let observed = observe::observe(context, store).await.map_err(StoreError::Observe)?;
    // Pure.
    let plan = decide::decide(store, &observed, Timestamp::now());
    tracing::info!(store = %store.name_any(), %plan, "decided");
    let built = build::build(store, &plan, &context.settings);
    // Needs the client. The status before the Jobs: a probe whose Job was not made is made by its order.
    if store.status.as_ref() != Some(&plan.status) {
        let written =
            status::apply(&context.client, store, &plan.status).await.map_err(StoreError::Status)?;
        events::tell_of_store(&context.recorder, store, &written).await;
    }
    let owner = Owner::of(store);
    jobs::stop_each(&context.client, &owner.namespace, &plan.end).await.map_err(StoreError::Delete)?;
    let made = make_all(&context.client, &owner, built).await;
    match context.refusals.remember(&uid, made)? {
        Some(soon) => Ok(Action::requeue(soon)),
        None => Ok(plan.again_after.map_or_else(Action::await_change, Action::requeue)),
    }
}
