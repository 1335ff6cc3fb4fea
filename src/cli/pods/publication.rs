//! What a coordinator or a restorer publishes of its work, and what it reads there: the status of its own resource,
//! and nothing else of the cluster.
//!
//! A pod on a node that was cut off may write when another has long taken its place, under the same field manager.
//! So every write carries the version of what was seen, and nothing is written over what a later attempt has
//! published.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::{Timestamp, Unit};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::super::Failure;
use super::pace::Pace;
use super::published::Published;
use crate::api::{self, Backup, Identity, RunStatus, ServerStatus};
use crate::engine::EngineError;
use crate::engine::progress::{Progress, Report, Stage};

/// The least time between two writes of mere progress.
const BETWEEN_WRITES: Duration = Duration::from_secs(2);

/// How long a write is tried again, when the API server does not answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// How often a write is tried at once that somebody else came before: the controller writes a few times a minute.
const TRIES: usize = 5;

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    /// A later attempt has published there.
    #[error("a later attempt of this run has taken over")]
    Overtaken,
    /// The resource is gone; one of the same name is none of ours.
    #[error("it is not there any more")]
    Gone,
    /// The API server did not take it.
    #[error(transparent)]
    Refused(#[from] kube::Error),
}

/// The status of one resource, as its pod writes and watches it.
#[derive(Debug)]
pub(super) struct Publication<K: Published = Backup> {
    api: Api<K>,
    name: String,
    uid: String,
    attempt: u32,
    run: Mutex<RunStatus>,
    progress: Mutex<api::Progress>,
    seen: watch::Receiver<Option<K>>,
    dirty: AtomicBool,
    /// Bytes that the stage whose advance is progress has ahead, 0 if unknown.
    ahead: AtomicU64,
    pace: Mutex<Pace>,
}

impl<K: Published> Publication<K> {
    /// That of `identity`, in the cluster that this pod runs in.
    pub(super) async fn of(identity: &Identity, attempt: u32) -> Result<Self, Failure> {
        let client = Client::try_default().await.map_err(|error| {
            Failure::internal(format!("the Kubernetes API can't be reached from this pod: {error}"))
        })?;
        Ok(Self::with(client, identity, attempt))
    }

    fn with(client: Client, identity: &Identity, attempt: u32) -> Self {
        let namespace = identity.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<K> = Api::namespaced(client, &namespace);
        let (sender, seen) = watch::channel(None);
        let mut watched = watcher::watch_object(api.clone(), &identity.name).default_backoff().boxed();
        tokio::spawn(async move {
            while let Some(event) = watched.next().await {
                match event {
                    Ok(object) => {
                        if sender.send(object).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the watch of the own resource was cut; it is begun again")
                    }
                }
            }
        });
        Self {
            api,
            name: identity.name.clone(),
            uid: identity.uid.clone().unwrap_or_default(),
            attempt,
            run: Mutex::default(),
            progress: Mutex::default(),
            seen,
            dirty: AtomicBool::new(false),
            ahead: AtomicU64::new(0),
            pace: Mutex::new(Pace::begin(Instant::now())),
        }
    }

    /// Changes what is published of the run, and writes it; comes back when the API server has it.
    pub(super) async fn publish(&self, change: impl FnOnce(&mut RunStatus)) -> Result<(), EngineError> {
        {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            run.attempt = Some(i64::from(self.attempt));
            change(&mut run);
        }
        self.write_patiently().await
    }

    async fn write_patiently(&self) -> Result<(), EngineError> {
        let until = tokio::time::Instant::now() + WRITE_PATIENCE;
        loop {
            match self.write().await {
                Ok(()) => return Ok(()),
                Err(WriteError::Overtaken) => return Err(self.overtaken()),
                Err(error) if tokio::time::Instant::now() < until && is_transient(&error) => {
                    tracing::warn!(%error, "the status was not written; it is tried again");
                    tokio::time::sleep(BETWEEN_WRITES).await;
                }
                Err(error) => {
                    let message =
                        format!("the status of {} {} can't be written: {error}", K::kind(&()), self.name);
                    return Err(EngineError::Task(message));
                }
            }
        }
    }

    /// Writes what there is, unless a later attempt has.
    async fn write(&self) -> Result<(), WriteError> {
        self.dirty.store(false, Ordering::Relaxed);
        let mut seen = self.seen.borrow().clone();
        let mut refused = None;
        for _ in 0..TRIES {
            let own = match seen.take() {
                Some(own) => own,
                None => self.api.get_opt(&self.name).await?.ok_or(WriteError::Gone)?,
            };
            if own.meta().uid.as_deref() != Some(&*self.uid) {
                return Err(WriteError::Gone);
            }
            if self.is_overtaken(&own) {
                return Err(WriteError::Overtaken);
            }
            match self.write_over(&own).await {
                // It has changed since it was seen: the next try looks at what it is now.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    refused = Some(kube::Error::Api(status));
                }
                done => return Ok(done?),
            }
        }
        Err(refused.map_or(WriteError::Gone, WriteError::Refused))
    }

    async fn write_over(&self, own: &K) -> Result<(), kube::Error> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut patch = json!({
            "apiVersion": api::API_VERSION,
            "kind": K::kind(&()),
            "metadata": {"name": self.name, "uid": self.uid, "resourceVersion": own.resource_version()},
            "status": {"run": run, "progress": progress},
        });
        if progress == api::Progress::default() {
            // An object that was there and is empty now is made null by the API server, and then refused by it.
            patch["status"]["progress"] = json!({"ticketsSettled": 0});
        }
        let parameters = PatchParams::apply(K::MANAGER).force();
        self.api.patch_status(&self.name, &parameters, &Patch::Apply(&patch)).await.map(drop)
    }

    /// Whose publication this is, against this attempt's.
    fn published(&self, own: &K) -> std::cmp::Ordering {
        own.run().and_then(|run| run.attempt).cmp(&Some(i64::from(self.attempt)))
    }

    fn is_overtaken(&self, own: &K) -> bool {
        self.published(own).is_gt()
    }

    fn overtaken(&self) -> EngineError {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).number;
        let run = run.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
        EngineError::LostTurn { run, attempt: self.attempt }
    }

    /// Waits until the watched resource answers `question`; not longer than until a later attempt has published there.
    pub(super) async fn wait_for<T>(
        &self,
        question: impl Fn(&K) -> Option<Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mut seen = self.seen.clone();
        loop {
            let (answer, published) = match &*seen.borrow_and_update() {
                Some(own) if own.meta().uid.as_deref() == Some(&*self.uid) => {
                    (question(own), self.published(own))
                }
                _ => (None, std::cmp::Ordering::Equal),
            };
            if let Some(answer) = answer {
                return answer;
            }
            if published.is_gt() {
                return Err(self.overtaken());
            }
            if published.is_lt() {
                // Somebody took away what the controller is to act on: it would be waited for in vain.
                self.write_patiently().await?;
            }
            if seen.changed().await.is_err() {
                return Err(EngineError::Task("the watch of the own resource has ended".into()));
            }
        }
    }

    /// Calls `cancel` when the resource says so, or is gone.
    pub(super) fn watch_for_cancel(
        &self,
        cancel: impl FnOnce() + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let mut seen = self.seen.clone();
        let uid = self.uid.clone();
        tokio::spawn(async move {
            let is_there = |own: &Option<K>| own.is_some();
            let asked = |own: &Option<K>| {
                own.as_ref().is_none_or(|own| {
                    own.meta().uid.as_deref() != Some(&*uid)
                        || own.meta().deletion_timestamp.is_some()
                        || own.is_canceled()
                })
            };
            if seen.wait_for(is_there).await.is_ok() && seen.wait_for(asked).await.is_ok() {
                cancel();
            }
        })
    }

    /// Shows stages on `shown`, and keeps what of them is published.
    pub(super) fn progress(self: &std::sync::Arc<Self>, shown: Progress) -> Progress {
        let publication = self.clone();
        Progress::new(move |report| {
            shown.report(report.clone());
            match report {
                Report::Began { stage, items, bytes } => publication.began(stage, items, bytes),
                Report::Advanced { stage, items, bytes } if stage == K::ADVANCES => {
                    publication.advanced(items, bytes)
                }
                Report::Server { endpoint, version } => publication.reads(endpoint, version),
                Report::Advanced { .. } | Report::Note(_) => {}
            }
        })
    }

    fn began(self: &std::sync::Arc<Self>, stage: Stage, items: u64, bytes: u64) {
        let Some(step) = K::step(stage) else { return };
        {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            run.attempt = Some(i64::from(self.attempt));
            run.step = Some(step.to_owned());
        }
        if stage == K::ADVANCES {
            self.ahead.store(bytes, Ordering::Relaxed);
            *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = Pace::begin(Instant::now());
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            *progress = api::Progress {
                tickets_planned: i64::try_from(items).ok(),
                tickets_settled: Some(0),
                ..api::Progress::default()
            };
        }
        self.write_soon();
    }

    fn advanced(self: &std::sync::Arc<Self>, items: u64, bytes: u64) {
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let add = |sum: &mut Option<i64>, more: u64| {
                *sum = Some(sum.unwrap_or_default().saturating_add(i64::try_from(more).unwrap_or(i64::MAX)));
            };
            add(&mut progress.tickets_settled, items);
            // Of what is read by other pods nothing is known.
            if bytes > 0 {
                add(&mut progress.bytes_read, bytes);
            }
            // Tickets where they are counted, else bytes.
            let tickets = (progress.tickets_settled, progress.tickets_planned);
            let ahead = i64::try_from(self.ahead.load(Ordering::Relaxed)).ok();
            let (done, all) = if tickets.0 > Some(0) { tickets } else { (progress.bytes_read, ahead) };
            let share = done.zip(all.filter(|all| *all > 0));
            progress.percent = share.map(|(done, all)| {
                i32::try_from(done.saturating_mul(100) / all).map_or(100, |percent| percent.clamp(0, 100))
            });
            self.pace(&mut progress);
        }
        self.write_soon();
    }

    /// Shows how fast it goes, and when that ends.
    fn pace(&self, progress: &mut api::Progress) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(bytes) = progress.bytes_stored.or(progress.bytes_read) {
            pace.reached(now, u64::try_from(bytes).unwrap_or_default());
        }
        progress.bytes_per_second = pace.bytes_per_second().and_then(|it| i64::try_from(it).ok());
        progress.eta = pace.left(now, progress.percent.unwrap_or_default()).and_then(|left| {
            let end = Timestamp::now().checked_add(left).ok()?;
            Some(end.round(Unit::Second).unwrap_or(end).to_string())
        });
    }

    /// A server that the run reads.
    fn reads(self: &std::sync::Arc<Self>, endpoint: String, version: String) {
        {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            run.attempt = Some(i64::from(self.attempt));
            run.servers.retain(|known| known.endpoint != endpoint);
            run.servers.push(ServerStatus { endpoint, version });
        }
        self.write_soon();
    }

    /// What lies in a destination by now.
    pub(super) fn stored(self: &std::sync::Arc<Self>, destination: &str, tickets: u64, bytes: u64) {
        let number = |it: u64| Some(i64::try_from(it).unwrap_or(i64::MAX));
        let all = {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(order) = run.orders.iter_mut().find(|it| it.destination == destination) else { return };
            (order.tickets_settled, order.bytes_stored) = (number(tickets), number(bytes));
            run.orders.iter().filter_map(|it| it.bytes_stored).fold(0, i64::saturating_add)
        };
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.bytes_stored = Some(all);
        self.pace(&mut progress);
        drop(progress);
        self.write_soon();
    }

    /// Shows the numbers of the sealed run, unless this attempt has published nothing: then what is there is of the
    /// one that sealed it.
    pub(super) async fn completed(&self, number: u32, rows: u64, bytes_stored: u64) {
        {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            if run.attempt.is_none() {
                return;
            }
            run.number = Some(i64::from(number));
        }
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.rows = i64::try_from(rows).ok();
            progress.bytes_stored = i64::try_from(bytes_stored).ok();
            progress.tickets_settled = progress.tickets_planned;
            progress.percent = Some(100);
            (progress.bytes_per_second, progress.eta) = (None, None);
        }
        if let Err(error) = self.write().await {
            // For people only: the seal stands, and the controller has it from the last word.
            tracing::warn!(%error, "the numbers were not written");
        }
    }

    /// One write at a time, and one in [`BETWEEN_WRITES`]: what changes meanwhile goes with the next.
    fn write_soon(self: &std::sync::Arc<Self>) {
        if self.dirty.swap(true, Ordering::Relaxed) {
            return;
        }
        let publication = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(BETWEEN_WRITES).await;
            if publication.dirty.load(Ordering::Relaxed)
                && let Err(error) = publication.write().await
            {
                // Progress is for people; what is needed is published by `publish`.
                tracing::warn!(%error, "progress was not written");
            }
        });
    }
}

/// Whether a write may do better later.
fn is_transient(error: &WriteError) -> bool {
    match error {
        WriteError::Overtaken | WriteError::Gone => false,
        WriteError::Refused(kube::Error::Api(status)) => {
            matches!(status.code, 409 | 429) || status.code >= 500
        }
        WriteError::Refused(_) => true,
    }
}

#[cfg(test)]
#[path = "publication_tests.rs"]
mod tests;
