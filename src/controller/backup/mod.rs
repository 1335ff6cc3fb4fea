//! Backup: coordinator, then workers, then verifiers, and a terminal phase that follows from what they left.

mod build;
mod conditions;
pub mod decide;
mod finalizer;
pub mod given;
mod history;
pub mod leaving;
mod localities;
mod observe;
mod places;
pub(super) mod queue;
pub(super) mod readiness;
mod resolved;
mod status;

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;

use super::backoff::Backoff;
use super::jobs;
use super::make::{MakeError, make_all};
use super::pods::Owner;
use super::{Context, begun, leftovers, watched};
use crate::api::Backup;

pub(super) use history::is_history;
pub(super) use observe::store_named;

/// What a reconciliation fails with. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What there is could not be read.
    #[error("what there is of the Backup can't be read")]
    Observe(#[source] kube::Error),
    /// An object of the run could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A Job could not be taken away.
    #[error("a Job can't be deleted")]
    Stop(#[source] kube::Error),
    /// The finalizer could not be set, or taken away.
    #[error("the finalizer can't be written")]
    Finalizer(#[source] kube::Error),
    /// The status could not be written.
    #[error("the status can't be written")]
    Status(#[source] kube::Error),
}

/// What reconciling Backups of one scope shares.
pub(super) struct Scope {
    pub(super) context: Arc<Context>,
    /// Every Backup of the scope, as watched: for the queue.
    pub(super) backups: Store<DeserializeGuard<Backup>>,
    pub(super) failures: Backoff,
}

/// Brings one Backup a step further.
pub(super) async fn reconcile(backup: &Backup, scope: &Scope) -> Result<Action, BackupError> {
    if backup.metadata.deletion_timestamp.is_some() {
        return leaving::reconcile(backup, scope).await;
    }
    // Needs the client. Before anything else, and also of what is over: the policy may be changed then.
    let kept = finalizer::keep(&scope.context.client, backup).await?;
    let Some(backup) = kept.as_ref().filter(|kept| !decide::is_over(kept)) else {
        scope.context.refusals.forget(&key(backup));
        if decide::is_over(backup) {
            leftovers::end(&scope.context, backup).await.map_err(BackupError::Stop)?;
            status::acknowledge(&scope.context.client, backup).await?;
        }
        return Ok(Action::await_change());
    };
    let Context { client, settings, telemetry, recorder, refusals, leftovers: _ } = &*scope.context;
    let uid = key(backup);
    let all = scope.backups.state();
    let ahead = match queue::has_begun(backup) {
        true => 0,
        false => queue::ahead(backup, all.iter().filter_map(|it| it.0.as_ref().ok())),
    };
    let at_work = queue::at_work(backup, all.iter().filter_map(|it| it.0.as_ref().ok()));
    let began = SystemTime::now();
    // Needs the client.
    let mut observed = observe::observe(client, backup).await?;
    observed.ahead = ahead;
    observed.at_work = at_work;
    observed.refused = refusals.of(&uid);
    // Pure.
    let plan = decide::decide(backup, &observed, &settings.image, Timestamp::now());
    if let Some(run) = backup.status.as_ref().and_then(|status| status.run.as_ref()?.number) {
        tracing::Span::current().record("run", run);
    }
    tracing::info!(%plan, "decided");
    let built = build::build(backup, &plan, settings);
    // Needs the client. The status before the Jobs: what an attempt is must be known before it runs. And before the
    // mark: a Backup that is marked and has no status is history, also if this process ended in between.
    let written = status::write(client, backup, &plan.status).await?;
    watched::tell(client, telemetry, recorder, backup, &written).await;
    let written = match plan.start.is_empty() {
        true => written,
        false => begun::mark(client, &written).await.map_err(BackupError::Status)?,
    };
    for stop in &plan.stop {
        jobs::stop(client, &Owner::of(&written).namespace, stop).await.map_err(BackupError::Stop)?;
    }
    let made = make_all(client, &Owner::of(&written), built).await;
    let again = refusals.remember(&uid, made)?;
    watched::traced(backup, &written, began, (&plan.start, &plan.stop));
    scope.failures.went_well(backup);
    let again = [plan.again_after, again].into_iter().flatten().min();
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

fn key(backup: &Backup) -> String {
    backup.uid().unwrap_or_default()
}

/// Whether the object was changed by somebody else since it was seen: the change is on its way here.
pub(super) fn is_conflict(error: &BackupError) -> bool {
    let (BackupError::Status(error) | BackupError::Finalizer(error)) = error else { return false };
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// What follows an error: the same again, later each time.
#[allow(clippy::needless_pass_by_value, reason = "kube-runtime's signature")]
pub(super) fn after_error(
    backup: Arc<DeserializeGuard<Backup>>,
    _error: &BackupError,
    scope: Arc<Scope>,
) -> Action {
    scope.failures.again(&*backup)
}
