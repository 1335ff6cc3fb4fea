//! What a coordinator or a restorer publishes of its work, and what it reads there: the status of its own resource,
//! and nothing else of the cluster.

use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;

use super::super::Failure;
use crate::api::{self, Backup, Identity, Restore, RunStatus};
use crate::engine::EngineError;
use crate::engine::progress::{Progress, Report, Stage};

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
    fn published(&self) -> Option<&RunStatus>;

    /// `run.step` of a stage; `None` for a stage that is part of another.
    fn step(stage: Stage) -> Option<&'static str>;
}

impl Published for Backup {
    const MANAGER: &'static str = "vouchsafe-coordinator";
    const ADVANCES: Stage = Stage::Export;

    fn is_canceled(&self) -> bool {
        self.spec.cancel == Some(true)
    }

    fn published(&self) -> Option<&RunStatus> {
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
            Stage::Schema | Stage::Load | Stage::Finish | Stage::Compare => None,
        }
    }
}

impl Published for Restore {
    const MANAGER: &'static str = "vouchsafe-restorer";
    const ADVANCES: Stage = Stage::Load;

    fn is_canceled(&self) -> bool {
        self.spec.cancel == Some(true)
    }

    fn published(&self) -> Option<&RunStatus> {
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
            Stage::Export | Stage::Count | Stage::Write | Stage::Seal => None,
        }
    }
}

/// The least time between two writes of mere progress.
const BETWEEN_WRITES: Duration = Duration::from_secs(2);

/// How long a write is tried again, when the API server does not answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// Writes that another one came in between of, before it is left to the next try.
const CONFLICTS: u32 = 8;

/// Why something was not published.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    /// A newer attempt has published something. This one was taken for dead, and what it says would hide the other's.
    #[error("attempt {0} goes on with it")]
    Overtaken(i64),
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
}

impl<K: Published> Publication<K> {
    /// That of `identity`, in the cluster that this pod runs in.
    pub(super) async fn of(identity: &Identity, attempt: u32) -> Result<Self, Failure> {
        let client = Client::try_default().await.map_err(|error| {
            Failure::internal(format!("the Kubernetes API can't be reached from this pod: {error}"))
        })?;
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
        Ok(Self {
            api,
            name: identity.name.clone(),
            uid: identity.uid.clone().unwrap_or_default(),
            attempt,
            run: Mutex::default(),
            progress: Mutex::default(),
            seen,
            dirty: AtomicBool::new(false),
            ahead: AtomicU64::new(0),
        })
    }

    /// Changes what is published of the run, and writes it; comes back when the API server has it.
    pub(super) async fn publish(&self, change: impl FnOnce(&mut RunStatus)) -> Result<(), EngineError> {
        {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            run.attempt = Some(i64::from(self.attempt));
            change(&mut run);
        }
        let until = tokio::time::Instant::now() + WRITE_PATIENCE;
        loop {
            match self.write().await {
                Ok(()) => return Ok(()),
                Err(Unwritten::Overtaken(newer)) => {
                    let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).number;
                    let run = run.and_then(|run| u32::try_from(run).ok()).unwrap_or_default();
                    tracing::warn!(newer, "a newer attempt goes on");
                    return Err(EngineError::LostTurn { run, attempt: self.attempt });
                }
                Err(Unwritten::Refused(error))
                    if tokio::time::Instant::now() < until && is_transient(&error) =>
                {
                    tracing::warn!(%error, "the status was not written; it is tried again");
                    tokio::time::sleep(BETWEEN_WRITES).await;
                }
                Err(Unwritten::Refused(error)) => {
                    let message =
                        format!("the status of {} {} can't be written: {error}", K::kind(&()), self.name);
                    return Err(EngineError::Task(message));
                }
            }
        }
    }

    async fn write(&self) -> Result<(), Unwritten> {
        self.dirty.store(false, Ordering::Relaxed);
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The UID: a Backup of the same name, made after this one was deleted, is none of ours.
        let mut patch = json!({
            "apiVersion": api::API_VERSION,
            "kind": K::kind(&()),
            "metadata": {"name": self.name, "uid": self.uid},
            "status": {"run": run, "progress": progress},
        });
        if progress == api::Progress::default() {
            // An object that was there and is empty now is made null by the API server, and then refused by it.
            patch["status"]["progress"] = json!({"ticketsSettled": 0});
        }
        let parameters = PatchParams::apply(K::MANAGER).force();
        let mut left = CONFLICTS;
        loop {
            // Written only as it was looked at: between the two, a newer attempt may have begun.
            let own = self.api.get(&self.name).await?;
            let newer = own.published().and_then(|run| run.attempt);
            if let Some(newer) = newer.filter(|newer| *newer > i64::from(self.attempt)) {
                return Err(Unwritten::Overtaken(newer));
            }
            patch["metadata"]["resourceVersion"] = json!(own.meta().resource_version);
            match self.api.patch_status(&self.name, &parameters, &Patch::Apply(&patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => left -= 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the watched resource answers `question`.
    pub(super) async fn wait_for<T>(
        &self,
        question: impl Fn(&K) -> Option<Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mut seen = self.seen.clone();
        loop {
            let answer = match &*seen.borrow_and_update() {
                Some(own) if own.meta().uid.as_deref() == Some(&*self.uid) => question(own),
                _ => None,
            };
            if let Some(answer) = answer {
                return answer;
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
            add(&mut progress.bytes_read, bytes);
            // Tickets where they are counted, else bytes.
            let tickets = (progress.tickets_settled, progress.tickets_planned);
            let ahead = i64::try_from(self.ahead.load(Ordering::Relaxed)).ok();
            let (done, all) = if tickets.0 > Some(0) { tickets } else { (progress.bytes_read, ahead) };
            let share = done.zip(all.filter(|all| *all > 0));
            progress.percent = share.map(|(done, all)| {
                i32::try_from(done.saturating_mul(100) / all).map_or(100, |percent| percent.clamp(0, 100))
            });
        }
        self.write_soon();
    }

    /// Shows the numbers of a sealed run, if it was this attempt that sealed it: one that found it sealed must not
    /// take away what the other has published, which is what the witnesses are about.
    pub(super) async fn completed(&self, rows: u64, bytes_stored: u64) {
        if self.run.lock().unwrap_or_else(PoisonError::into_inner).nonce.is_none() {
            return;
        }
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.rows = i64::try_from(rows).ok();
            progress.bytes_stored = i64::try_from(bytes_stored).ok();
            progress.tickets_settled = progress.tickets_planned;
            progress.percent = Some(100);
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
fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}
