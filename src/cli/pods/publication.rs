//! What a coordinator publishes of its run, and what it reads there: its own Backup's status, and nothing else of
//! the cluster.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use super::super::Failure;
use crate::api::{self, Backup, Identity, RunStatus};
use crate::engine::EngineError;
use crate::engine::progress::{Progress, Report, Stage};

/// The field manager of everything that a coordinator writes.
const MANAGER: &str = "vouchsafe-coordinator";

/// The least time between two writes of mere progress.
const BETWEEN_WRITES: Duration = Duration::from_secs(2);

/// How long a write is tried again, when the API server does not answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// The status of one Backup, as its coordinator writes and watches it.
#[derive(Debug)]
pub(super) struct Publication {
    api: Api<Backup>,
    name: String,
    uid: String,
    attempt: u32,
    run: Mutex<RunStatus>,
    progress: Mutex<api::Progress>,
    seen: watch::Receiver<Option<Backup>>,
    dirty: AtomicBool,
}

impl Publication {
    /// That of `identity`, in the cluster that this pod runs in.
    pub(super) async fn of(identity: &Identity, attempt: u32) -> Result<Self, Failure> {
        let client = Client::try_default().await.map_err(|error| {
            Failure::internal(format!("the Kubernetes API can't be reached from this pod: {error}"))
        })?;
        let namespace = identity.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Backup> = Api::namespaced(client, &namespace);
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
                        tracing::warn!(%error, "the watch of the own Backup was cut; it is begun again")
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
                Err(error) if tokio::time::Instant::now() < until && is_transient(&error) => {
                    tracing::warn!(%error, "the status was not written; it is tried again");
                    tokio::time::sleep(BETWEEN_WRITES).await;
                }
                Err(error) => {
                    let message = format!("the status of Backup {} can't be written: {error}", self.name);
                    return Err(EngineError::Task(message));
                }
            }
        }
    }

    async fn write(&self) -> Result<(), kube::Error> {
        self.dirty.store(false, Ordering::Relaxed);
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The UID: a Backup of the same name, made after this one was deleted, is none of ours.
        let mut patch = json!({
            "apiVersion": api::API_VERSION,
            "kind": "Backup",
            "metadata": {"name": self.name, "uid": self.uid},
            "status": {"run": run, "progress": progress},
        });
        if progress == api::Progress::default() {
            // An object that was there and is empty now is made null by the API server, and then refused by it.
            patch["status"]["progress"] = json!({"ticketsSettled": 0});
        }
        let parameters = PatchParams::apply(MANAGER).force();
        self.api.patch_status(&self.name, &parameters, &Patch::Apply(&patch)).await.map(drop)
    }

    /// Waits until the watched Backup answers `question`.
    pub(super) async fn wait_for<T>(
        &self,
        question: impl Fn(&Backup) -> Option<Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mut seen = self.seen.clone();
        loop {
            let answer = match &*seen.borrow_and_update() {
                Some(backup) if backup.metadata.uid.as_deref() == Some(&*self.uid) => question(backup),
                _ => None,
            };
            if let Some(answer) = answer {
                return answer;
            }
            if seen.changed().await.is_err() {
                return Err(EngineError::Task("the watch of the own Backup has ended".into()));
            }
        }
    }

    /// Calls `cancel` when the Backup says so, or is gone.
    pub(super) fn watch_for_cancel(
        &self,
        cancel: impl FnOnce() + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let mut seen = self.seen.clone();
        let uid = self.uid.clone();
        tokio::spawn(async move {
            let is_there = |backup: &Option<Backup>| backup.is_some();
            let asked = |backup: &Option<Backup>| {
                backup.as_ref().is_none_or(|backup| {
                    backup.metadata.uid.as_deref() != Some(&*uid)
                        || backup.metadata.deletion_timestamp.is_some()
                        || backup.spec.cancel == Some(true)
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
                Report::Began { stage, items, .. } => publication.began(stage, items),
                Report::Advanced { stage: Stage::Export, items, bytes } => publication.exported(items, bytes),
                Report::Advanced { .. } | Report::Note(_) => {}
            }
        })
    }

    fn began(self: &std::sync::Arc<Self>, stage: Stage, items: u64) {
        let step = match stage {
            Stage::Resolve => "Resolving",
            Stage::Export => "Exporting",
            Stage::Count => "Counting",
            Stage::Write => "WritingMetadata",
            Stage::Verify => "Verifying",
            Stage::Seal => "Sealing",
            Stage::Schema | Stage::Load | Stage::Finish | Stage::Compare => return,
        };
        {
            let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
            run.attempt = Some(i64::from(self.attempt));
            run.step = Some(step.to_owned());
        }
        if stage == Stage::Export {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            *progress = api::Progress {
                tickets_planned: i64::try_from(items).ok(),
                tickets_settled: Some(0),
                ..api::Progress::default()
            };
        }
        self.write_soon();
    }

    fn exported(self: &std::sync::Arc<Self>, items: u64, bytes: u64) {
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let add = |sum: &mut Option<i64>, more: u64| {
                *sum = Some(sum.unwrap_or_default().saturating_add(i64::try_from(more).unwrap_or(i64::MAX)));
            };
            add(&mut progress.tickets_settled, items);
            add(&mut progress.bytes_read, bytes);
            let (settled, planned) =
                (progress.tickets_settled, progress.tickets_planned.filter(|all| *all > 0));
            progress.percent = settled.zip(planned).and_then(|(settled, all)| {
                i32::try_from(settled.saturating_mul(100) / all).ok().map(|it| it.min(100))
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
