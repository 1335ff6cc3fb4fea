//! What reconcilers tell of themselves: to the pages that others read, and to those who watch the object.

use std::sync::Arc;
use std::time::SystemTime;

use futures::FutureExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{controller, events::Recorder};
use kube::{Client, Resource, ResourceExt};
use tracing::Span;

use super::attempts::{Start, Stop};
use super::events;
use crate::api::{Backup, Failure};
use crate::telemetry::levels::Levels;
use crate::telemetry::run_trace::RunTrace;
use crate::telemetry::traces::{Told, tell_part, tell_whole};
use crate::telemetry::transition::Transition;
use crate::telemetry::{Health, Metrics};

/// Where it is told.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Whether it works.
    pub health: Arc<Health>,
}

impl Telemetry {
    /// Nothing told yet; `reasons` may be labels.
    #[must_use]
    pub fn new(reasons: std::collections::BTreeSet<&'static str>) -> Self {
        Self { metrics: Arc::new(Metrics::new(reasons)), health: Arc::default() }
    }

    /// Whether this process leads from now on.
    pub fn leads(&self, leads: bool) {
        self.metrics.leads(leads);
        self.health.leads(leads);
        if !leads {
            self.metrics.forget_levels();
        }
    }
}

/// One watch, while its reconcilers run.
#[derive(Debug)]
pub(super) struct Watch {
    telemetry: Telemetry,
    kind: &'static str,
    name: String,
}

impl Watch {
    /// Begins to tell of the watch of a kind in one namespace, or in all.
    pub(super) fn begin(telemetry: &Telemetry, kind: &'static str, namespace: Option<&str>) -> Self {
        let name = namespace.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"));
        telemetry.health.watch_begins(&name);
        Self { telemetry: telemetry.clone(), kind, name }
    }

    /// Tells of what `store` holds once it holds everything: `fold` adds one object of it to the levels.
    ///
    /// To be awaited in the task that runs the reconcilers, never in another: a store wakes the last task alone that
    /// waits for it, and the reconcilers wait for it too.
    pub(super) async fn tell<K>(&self, store: Store<DeserializeGuard<K>>, fold: fn(&mut Levels, &K))
    where
        K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
        DeserializeGuard<K>: reflector::Lookup<DynamicType = ()> + Clone + 'static,
    {
        if store.wait_until_ready().await.is_err() {
            return;
        }
        self.telemetry.health.watch_synced(&self.name);
        self.telemetry.metrics.levels_from(move |levels| {
            for object in store.state() {
                if let Ok(object) = &object.0 {
                    fold(levels, object);
                }
            }
        });
    }

    /// Tells of what was not reconciled, and counts an error that no reconciliation is to blame for.
    pub(super) fn failed<E: std::error::Error + 'static>(
        &self,
        error: &controller::Error<E, impl std::error::Error + 'static>,
    ) {
        match error {
            // What is made of an object goes after it, and each of these is an event: neither wrong nor tried again.
            controller::Error::ObjectNotFound(object) => {
                return tracing::debug!(kind = self.kind, %object, "is gone; something of it has changed");
            }
            controller::Error::QueueError(_) => self.telemetry.metrics.watch_failed(self.kind),
            _ => {}
        }
        tracing::warn!(kind = self.kind, error = %chain(error), "not reconciled; it is tried again");
    }

    /// Its reconcilers have ended.
    pub(super) fn ended(self, stop: &(impl Future<Output = ()> + Clone)) {
        if stop.clone().now_or_never().is_none() {
            tracing::error!(watch = self.name, "ended although nobody asked it to");
            self.telemetry.health.watch_ended(&self.name);
        }
    }
}

/// What lines of an object's reconciliation belong to.
pub(super) fn span<K: Resource<DynamicType = ()>>(object: &K) -> Span {
    tracing::info_span!(
        "reconcile",
        resource = format!("{}/{}", K::kind(&()), object.name_any()),
        namespace = object.namespace(),
        uid = object.uid(),
        run = tracing::field::Empty
    )
}

/// Tells the trace of a run what was decided about it, of which `written` says more than `before`.
pub(super) fn traced<K: Resource<DynamicType = ()>>(
    before: &K,
    written: &K,
    began: SystemTime,
    (start, end): (&[Start], &[Stop]),
) {
    if before.resource_version() == written.resource_version() {
        return;
    }
    // Not what it waits for: that has messages of others in it.
    let decided = start.iter().map(ToString::to_string).chain(end.iter().map(ToString::to_string));
    let fields = vec![
        ("resource", format!("{}/{}", K::kind(&()), written.name_any())),
        ("namespace", written.namespace().unwrap_or_default()),
        ("decided", decided.collect::<Vec<_>>().join("; ")),
    ];
    let told = Told { name: "reconcile", began, fields, failure: None };
    tell_part(RunTrace::of(&written.uid().unwrap_or_default()), told);
}

/// Tells of a run that has ended: the span that all others of its trace are below.
pub(super) fn traced_whole<K: Resource<DynamicType = ()>>(
    name: &'static str,
    written: &K,
    run: Option<i64>,
    failure: Option<&Failure>,
) {
    let mut fields = vec![
        ("resource", format!("{}/{}", K::kind(&()), written.name_any())),
        ("namespace", written.namespace().unwrap_or_default()),
    ];
    fields.extend(run.map(|run| ("run", run.to_string())));
    let began = written.creation_timestamp().map_or_else(SystemTime::now, |time| time.0.into());
    let told = Told { name, began, fields, failure: failure.map(|failure| failure.reason.clone()) };
    tell_whole(RunTrace::of(&written.uid().unwrap_or_default()), told);
}

/// An error with all its causes, on one line. Many say their cause themselves: once is enough.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

/// Tells what `written` says that `before` did not.
pub(super) async fn tell(
    client: &Client,
    telemetry: &Telemetry,
    recorder: &Recorder,
    before: &Backup,
    written: &Backup,
) {
    let old = before.status.clone().unwrap_or_default();
    let new = written.status.clone().unwrap_or_default();
    let transition = Transition::between(&old, &new);
    let uid = written.uid().unwrap_or_default();
    telemetry.metrics.happened(&uid, &transition, &new, std::time::Instant::now());
    if transition.ended().is_some() {
        let run = new.run.as_ref().and_then(|run| run.number);
        traced_whole("backup", written, run, new.failure.as_ref());
    }
    events::tell(client, recorder, written, events::of(&transition, &old, &new)).await;
}
