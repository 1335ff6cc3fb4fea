//! BackupSchedule: Backups when they are due, each once, and what is told of them.

mod apply;
mod build;
mod conditions;
pub mod decide;
mod facts;
mod following;
mod made;
mod observe;
mod prune;
mod prune_plan;
mod pruner;
mod reasons;
mod status;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tracing::Instrument;

use super::backoff::Backoff;
use super::make::{MakeError, make_all};
use super::pods::Owner;
use super::watched::{Watch, span};
use super::{CONCURRENCY, Context, MANAGED_BY, cache, events, jobs, resource_of, scoped};
use crate::api::{Backup, BackupPhase, BackupSchedule, marks};
use crate::telemetry::levels::Levels;

use made::Made;
use observe::{Observed, ObservedBackup};

pub use prune_plan::{PlannedRun, PrunePlan, Stays, plan_of};
pub use reasons::ScheduleReason;

/// The annotation of a schedule by which a person asks for a prune: the moment of the question (RFC 3339). Another
/// moment asks for another prune.
pub const PRUNE_REQUESTED: &str = "vouchsafe.dev/prune-requested-at";

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

/// The BackupSchedules of one namespace, or of all, until `stop` ends.
pub async fn control(
    context: &Arc<Context>,
    namespace: Option<&str>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let client = &context.client;
    let schedules: Api<DeserializeGuard<BackupSchedule>> = scoped(client, namespace);
    let labelled = watcher::Config::default().labels(marks::SCHEDULE);
    let of_prunes = format!("{}={},app.kubernetes.io/component=pruner", MANAGED_BY.0, MANAGED_BY.1);
    let of_prunes = watcher::Config::default().labels(&of_prunes);
    let (schedules, store) = cache::watched(schedules, cache::whole);
    let shared =
        Arc::new(Shared { context: context.clone(), made: Made::new(), failures: Backoff::default() });
    let taking = shared.clone();
    let backups = watcher(scoped::<DeserializeGuard<Backup>>(client, namespace), labelled)
        // Before it wakes anybody.
        .inspect_ok(move |event| taking.made.take(event))
        .try_filter_map(|event| std::future::ready(Ok(made::changed(event))));
    let controller = Controller::for_stream(schedules, store.clone());
    let watch = Watch::begin(&context.telemetry, "BackupSchedule", namespace);
    let running = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches_stream(backups, |guarded| schedule_of(&guarded))
        .reconcile_all_on(shared.made.listings())
        // Of Jobs nothing is heard: one without a pod is looked at every minute.
        .watches(scoped::<PartialObjectMeta<Pod>>(client, namespace), of_prunes, |pod| {
            resource_of(&pod, "BackupSchedule")
        })
        .graceful_shutdown_on(stop.clone())
        .run(guarded, after_error, shared.clone())
        .for_each(|done| {
            match done {
                Ok((object, _)) => tracing::debug!(schedule = %object, "reconciled"),
                Err(error) => watch.failed(&error),
            }
            std::future::ready(())
        });
    let telling = async {
        shared.made.is_listed().await;
        watch.tell(store, Levels::schedule).await;
        std::future::pending::<()>().await;
    };
    // A controller may be stopped before everything is listed.
    tokio::select! {
        () = running => {}
        () = telling => {}
    }
    watch.ended(&stop);
}

/// What the reconcilers of one watch share.
struct Shared {
    context: Arc<Context>,
    made: Made,
    failures: Backoff,
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
    let name = marks::schedule_of(&backup.metadata)?;
    tells.then(|| ObjectRef::new(name).within(&backup.namespace().unwrap_or_default()))
}

async fn guarded(
    guarded: Arc<DeserializeGuard<BackupSchedule>>,
    shared: Arc<Shared>,
) -> Result<Action, ScheduleError> {
    match &guarded.0 {
        Ok(schedule) => {
            // Before all Backups are listed nothing can be decided; the end of the listing wakes every schedule.
            let Some(backups) = shared.made.by(schedule) else { return Ok(Action::await_change()) };
            let counted = shared.context.telemetry.metrics.reconciling("BackupSchedule");
            let done = reconcile(schedule, backups, &shared).instrument(span(schedule)).await;
            counted.ended(done.is_ok());
            if done.is_ok() {
                shared.failures.went_well(&*guarded);
            }
            done
        }
        Err(error) => {
            tracing::warn!(%error, "a BackupSchedule that this release can't read is left alone");
            Ok(Action::await_change())
        }
    }
}

/// Brings one BackupSchedule a step further.
async fn reconcile(
    schedule: &BackupSchedule,
    backups: Vec<ObservedBackup>,
    shared: &Shared,
) -> Result<Action, ScheduleError> {
    let Shared { context, made, failures: _ } = shared;
    // Pure. What the watches know is enough to see that there is nothing to do, and almost always there is nothing:
    // what they don't know yet wakes it again.
    if schedule.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let known = Observed { backups, ..Observed::default() };
    let plan = decide::decide(schedule, &known, Timestamp::now());
    if plan.changes_nothing() && !status::differs(schedule, &plan.status) {
        tracing::debug!(schedule = %schedule.name_any(), %plan, "nothing to do");
        context.refusals.forget(&schedule.uid().unwrap_or_default());
        return Ok(plan.again_after.map_or_else(Action::await_change, Action::requeue));
    }
    // Needs the client: the schedule itself too, since what a cache holds may be older than our own last write.
    let Some((schedule, mut observed)) = observe::observe(&context.client, made, schedule).await? else {
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
    let mut written = status::write(&context.client, &schedule, &plan.status).await?;
    if let Some(refused) = apply::apply(&context.client, &written, backup, &plan.forget).await? {
        let told = decide::refused(&written, &refused, now);
        written = status::write(&context.client, &written, &told).await?;
    }
    events::tell_of_schedule(&context.recorder, &schedule, &written).await;
    let owner = Owner::of(&written);
    jobs::stop_each(&context.client, &owner.namespace, &plan.prune.end).await.map_err(ScheduleError::Stop)?;
    let again = plan.again_after.map_or_else(Action::await_change, Action::requeue);
    if !plan.looks_for_prune {
        context.refusals.forget(&owner.uid);
        return Ok(again);
    }
    let made = make_all(&context.client, &owner, pruner).await;
    Ok(context.refusals.remember(&owner.uid, made)?.map_or(again, Action::requeue))
}

/// What follows an error: the same again, later each time.
#[allow(clippy::needless_pass_by_value, reason = "kube-runtime's signature")]
fn after_error(
    schedule: Arc<DeserializeGuard<BackupSchedule>>,
    _error: &ScheduleError,
    shared: Arc<Shared>,
) -> Action {
    shared.failures.again(&*schedule)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::Client;

    use super::*;
    use crate::controller::{PullPolicy, Settings, Telemetry, leftovers, refusals};

    #[tokio::test]
    async fn a_schedule_that_fails_is_tried_again_less_and_less_often() {
        // Nobody answers there, and nobody is asked.
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(nowhere).unwrap();
        let context = Context {
            recorder: events::recorder(client.clone()),
            client,
            settings: Settings {
                image: "vouchsafe".into(),
                pull_policy: PullPolicy::Never,
                namespaces: Vec::new(),
                traces: None,
            },
            telemetry: Telemetry::new(Default::default()),
            refusals: refusals::Refusals::default(),
            leftovers: leftovers::Leftovers::default(),
        };
        let scope =
            Arc::new(Shared { context: Arc::new(context), made: Made::new(), failures: Backoff::default() });
        let of = |uid: &str| {
            let schedule = serde_json::from_value(serde_json::json!({
                "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule",
                "metadata": {"name": uid, "namespace": "shop", "uid": uid},
                "spec": {"schedule": "0 * * * *", "template": {"spec": {"storeRef": {"name": "orders"},
                    "collection": "shop", "source": {"postgres": {"database": "shop", "endpoints": []}}}}},
            }));
            Arc::new(DeserializeGuard(Ok::<BackupSchedule, _>(schedule.unwrap())))
        };
        let error = ScheduleError::Status(kube::Error::LinesCodecMaxLineLengthExceeded);
        for seconds in [1, 2, 4, 8] {
            let again = after_error(of("u-1"), &error, scope.clone());
            assert_eq!(again, Action::requeue(Duration::from_secs(seconds)));
        }
        assert_eq!(after_error(of("u-2"), &error, scope.clone()), Action::requeue(Duration::from_secs(1)));
        scope.failures.went_well(&*of("u-1"));
        assert_eq!(after_error(of("u-1"), &error, scope), Action::requeue(Duration::from_secs(1)));
    }
}
