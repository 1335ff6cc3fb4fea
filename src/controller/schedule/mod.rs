//! BackupSchedule: Backups when they are due, each once, and what is told of them.

mod apply;
mod build;
mod conditions;
pub mod decide;
mod facts;
mod following;
mod observe;
mod prune;
mod pruner;
mod reasons;
mod status;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tracing::Instrument;

use super::make::{MakeError, make_all};
use super::pods::Owner;
use super::watched::{Watch, span};
use super::{CONCURRENCY, Context, MANAGED_BY, events, jobs, resource_of, scoped};
use crate::api::{Backup, BackupPhase, BackupSchedule};
use crate::telemetry::levels::Levels;

pub use build::schedule_label;
pub use reasons::ScheduleReason;

/// The label of a Backup with the schedule that made it: its name, or the name's digest where that is too long for a
/// label. It finds; only [`SCHEDULE_UID`] proves.
pub const SCHEDULE: &str = "vouchsafe.dev/schedule";
/// The annotation of a Backup with the UID of the schedule that made it. Backups without it are somebody else's.
pub const SCHEDULE_UID: &str = "vouchsafe.dev/schedule-uid";
/// The annotation of a Backup with the name of the schedule that made it, in full: what the label is for the eye.
pub const SCHEDULE_NAME: &str = "vouchsafe.dev/schedule-name";
/// The annotation of a Backup with the moment at which it was decided to start it (RFC 3339, UTC): a Backup that has
/// not begun long after it is history, and is not run.
pub const SCHEDULED_AT: &str = "vouchsafe.dev/scheduled-at";
/// The annotation of a Backup with the tick of the clock that it is for (RFC 3339, UTC).
pub const TICK: &str = "vouchsafe.dev/tick";

/// What a reconciliation fails with. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// What there is could not be read.
    #[error("what there is of the BackupSchedule can't be read")]
    Observe(#[source] kube::Error),
    /// A Backup could not be made, and not for its own sake.
    #[error("Backup {name} can't be made")]
    Create {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The resource of a failed run could not be deleted.
    #[error("Backup {name} can't be deleted")]
    Delete {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// An object of a prune could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// A prune's Job could not be deleted.
    #[error("a Job can't be deleted")]
    Stop(#[source] kube::Error),
    /// The status could not be written.
    #[error("the status can't be written")]
    Status(#[source] kube::Error),
}

/// Waits between two tries after an error.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// The BackupSchedules of one namespace, or of all, until `stop` ends.
pub async fn control(
    context: &Arc<Context>,
    namespace: Option<&str>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let client = &context.client;
    let schedules: Api<DeserializeGuard<BackupSchedule>> = scoped(client, namespace);
    let made = watcher::Config::default().labels(SCHEDULE);
    let of_prunes = format!("{}={},app.kubernetes.io/component=pruner", MANAGED_BY.0, MANAGED_BY.1);
    let of_prunes = watcher::Config::default().labels(&of_prunes);
    let controller = Controller::new(schedules, watcher::Config::default());
    let watch = Watch::begin(&context.telemetry, "BackupSchedule", namespace);
    let store = controller.store();
    let running = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches(scoped::<DeserializeGuard<Backup>>(client, namespace), made, |guarded| schedule_of(&guarded))
        // Of Jobs nothing is heard: one without a pod is looked at every minute.
        .watches(scoped::<Pod>(client, namespace), of_prunes, |pod: Pod| resource_of(&pod, "BackupSchedule"))
        .graceful_shutdown_on(stop.clone())
        .run(guarded, after_error, context.clone())
        .for_each(|done| {
            match done {
                Ok((object, _)) => tracing::debug!(schedule = %object, "reconciled"),
                Err(error) => watch.failed(&error),
            }
            std::future::ready(())
        });
    tokio::join!(running, watch.tell(store, Levels::schedule));
    watch.ended(&stop);
}

/// The schedule that a Backup's event is of interest to. Its steps between the first and the last are of none: a
/// run's progress comes every two seconds.
fn schedule_of(guarded: &DeserializeGuard<Backup>) -> Option<ObjectRef<DeserializeGuard<BackupSchedule>>> {
    let backup = guarded.0.as_ref().ok()?;
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    let tells = match phase {
        None
        | Some(BackupPhase::Pending | BackupPhase::Succeeded | BackupPhase::Failed | BackupPhase::Canceled) => {
            true
        }
        Some(
            BackupPhase::Resolving
            | BackupPhase::Exporting
            | BackupPhase::WritingMetadata
            | BackupPhase::Verifying,
        ) => backup.metadata.deletion_timestamp.is_some(),
    };
    let name = backup.annotations().get(SCHEDULE_NAME).or_else(|| backup.labels().get(SCHEDULE))?;
    tells.then(|| ObjectRef::new(name).within(&backup.namespace().unwrap_or_default()))
}

async fn guarded(
    guarded: Arc<DeserializeGuard<BackupSchedule>>,
    context: Arc<Context>,
) -> Result<Action, ScheduleError> {
    match &guarded.0 {
        Ok(schedule) => {
            let counted = context.telemetry.metrics.reconciling("BackupSchedule");
            let done = reconcile(schedule, &context).instrument(span(schedule)).await;
            counted.ended(done.is_ok());
            done
        }
        Err(error) => {
            tracing::warn!(%error, "a BackupSchedule that this release can't read is left alone");
            Ok(Action::await_change())
        }
    }
}

/// Brings one BackupSchedule a step further.
async fn reconcile(schedule: &BackupSchedule, context: &Arc<Context>) -> Result<Action, ScheduleError> {
    // Needs the client: the schedule itself too, since what a cache holds may be older than our own last write.
    let Some((schedule, mut observed)) = observe::observe(&context.client, schedule).await? else {
        return Ok(Action::await_change());
    };
    let now = Timestamp::now();
    // Pure.
    let mut plan = decide::decide(&schedule, &observed, now);
    if plan.looks_for_prune {
        // Needs the client: what no schedule asks for that has nothing to prune.
        observed.prune = Some(observe::prune(context, &schedule).await?);
        plan = decide::decide(&schedule, &observed, now);
    }
    tracing::info!(schedule = %schedule.name_any(), %plan, "decided");
    let backup = plan.start.as_ref().map(|run| build::build(&schedule, run));
    let pruner = pruner::build(&schedule, &plan.prune, &context.settings);
    // Needs the client. The status before the Backup and the Job: after a crash it tells which one was meant.
    let written = status::write(&context.client, &schedule, &plan.status).await?;
    if let Some(refused) = apply::apply(&context.client, &written, backup, &plan.forget).await? {
        let told = decide::refused(&written, &refused, now);
        status::write(&context.client, &written, &told).await?;
    }
    let owner = Owner::of(&written);
    jobs::stop_each(&context.client, &owner.namespace, &plan.prune.end).await.map_err(ScheduleError::Stop)?;
    events::tell_of_prune(&context.recorder, &schedule, &written).await;
    let again = plan.again_after.map_or_else(Action::await_change, Action::requeue);
    if !plan.looks_for_prune {
        context.refusals.forget(&owner.uid);
        return Ok(again);
    }
    let made = make_all(&context.client, &owner, pruner).await;
    Ok(context.refusals.remember(&owner.uid, made)?.map_or(again, Action::requeue))
}

/// What follows an error.
#[allow(clippy::needless_pass_by_value, reason = "kube-runtime's signature")]
fn after_error(
    _schedule: Arc<DeserializeGuard<BackupSchedule>>,
    _error: &ScheduleError,
    _context: Arc<Context>,
) -> Action {
    Action::requeue(AFTER_ERROR)
}
