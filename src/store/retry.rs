//! Retries, per request and outside the SDKs.
//!
//! The SDKs' own retries are off: AWS's takes from one token bucket for all requests of a client, so that
//! fifty uploads at once give up after three attempts instead of ten. Here every
//! request has a budget of its own, and what was met is reported.
//!
//! A request whose acknowledgement is lost may have taken effect. Created names are written once, so a create
//! that is sent again meets its own first success as a conflict: then the object is read back, every byte, and
//! only equal content counts as one's own. A store's checksum of the object would be cheaper, but not every
//! store keeps one that it has validated; this happens once per lost acknowledgement, and reading is proof.

mod body;
mod observer;
mod session;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use tokio::time::Instant;

pub use self::observer::{ErrorClass, ErrorCounts, ErrorObserver, Resolution, is_fault};
use self::session::RetrySession;
use super::digest::digest_of;
use super::{
    Committed, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession,
};
use crate::format::{Key, Sha256Digest};
use crate::mutant::{self, Mutant};

/// How long one request is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Attempts in all, at least 1.
    pub attempts: usize,
    /// No attempt starts later than this after the first one.
    pub elapsed: Duration,
    /// First delay; each later one is twice as long, plus up to as much again at random.
    pub first_delay: Duration,
    /// Longest delay, before the random part.
    pub longest_delay: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        // 0.1 + 0.2 + … + 6.4 + 10 + 10 … s: sixteen attempts take 1.5 to 3 minutes, longer than a load
        // balancer's failover or the minute in which S3 scales a prefix up.
        Self {
            attempts: 16,
            elapsed: Duration::from_secs(180),
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(10),
        }
    }
}

impl RetryBudget {
    fn delays(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(self.first_delay)
            .with_max_delay(self.longest_delay)
            .with_max_times(self.attempts.saturating_sub(1))
            // Random, so that parts that failed together don't come back together.
            .with_jitter()
            .build()
    }
}

/// A store that tries again.
pub struct RetryStore {
    inner: Arc<dyn ObjectStore>,
    policy: Policy,
}

/// The budget, and who is told.
#[derive(Clone)]
struct Policy {
    budget: RetryBudget,
    observer: Arc<dyn ErrorObserver>,
}

impl fmt::Debug for RetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryStore").field("inner", &self.inner).field("budget", &self.policy.budget).finish()
    }
}

impl RetryStore {
    /// Wraps `inner`; each error that is met is told to `observer`, with how it ended.
    pub fn new(inner: Arc<dyn ObjectStore>, budget: RetryBudget, observer: Arc<dyn ErrorObserver>) -> Self {
        Self { inner, policy: Policy { budget, observer } }
    }
}

/// One request's attempts: the delays that are left, and the errors that were met.
struct Attempts<'a> {
    policy: &'a Policy,
    delays: ExponentialBackoff,
    started: Instant,
    met: Vec<StoreError>,
}

impl<'a> Attempts<'a> {
    fn new(policy: &'a Policy) -> Self {
        Self { policy, delays: policy.budget.delays(), started: Instant::now(), met: Vec::new() }
    }

    /// Whether an earlier attempt may have taken effect without our being told.
    fn ambiguous(&self) -> bool {
        !self.met.is_empty()
    }

    /// Waits before the next attempt; or gives the error back, if there is none.
    async fn after(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !error.kind().retryable() {
            return Err(self.end(error));
        }
        let left = self.policy.budget.elapsed.saturating_sub(self.started.elapsed());
        match self.delays.next() {
            Some(delay) if delay < left => {
                tracing::debug!(%error, ?delay, "the request is sent again");
                self.met.push(error);
                tokio::time::sleep(delay).await;
                Ok(())
            }
            _ => {
                let note = format!("given up after {} attempts", self.met.len() + 1);
                Err(self.end(error).with_note(note))
            }
        }
    }

    fn end(&mut self, error: StoreError) -> StoreError {
        self.report(Resolution::Unresolved);
        self.policy.observer.met(&error, Resolution::Unresolved);
        error
    }

    /// Tells the observer how the errors met so far ended.
    fn report(&mut self, resolution: Resolution) {
        for error in self.met.drain(..) {
            self.policy.observer.met(&error, resolution);
        }
    }
}

/// Tries `request` until it succeeds or the budget is used up.
async fn attempt<T, F>(policy: &Policy, mut request: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut attempts = Attempts::new(policy);
    loop {
        match request().await {
            Ok(value) => {
                attempts.report(Resolution::Retried);
                return Ok(value);
            }
            Err(error) => attempts.after(error).await?,
        }
    }
}

/// What a create or complete that met a conflict, or lost its session, has stored: proof by reading it back.
///
/// `refusal` is returned if the object is not ours, and is the honest answer then.
async fn read_back(
    inner: &Arc<dyn ObjectStore>,
    policy: &Policy,
    key: &Key,
    length: u64,
    sha256: Sha256Digest,
    refusal: StoreError,
) -> Result<Committed, StoreError> {
    // MUTANT: whoever has the name, it was us.
    if mutant::is(Mutant::ConflictMeansMine) {
        return Ok(Committed::new(key.clone(), length, sha256, None, ObjectVersion::default()));
    }
    let found = attempt(policy, || async {
        let head = inner.head(key, None).await?;
        if head.length != length {
            return Ok((head, None));
        }
        let download = inner.get(key, Some(&head.version), None).await?;
        Ok((head, Some(digest_of(download).await?)))
    })
    .await;
    match found {
        Ok((head, Some(content))) if content.length == length && content.sha256 == sha256 => {
            Ok(Committed::new(key.clone(), length, sha256, None, head.version))
        }
        Ok(_) => Err(if refusal.kind() == StoreErrorKind::NoSuchUpload {
            StoreError::new(
                StoreErrorKind::AlreadyExists,
                "complete",
                key.as_str(),
                "another object has this name",
            )
            .with_source(refusal)
        } else {
            refusal
        }),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Err(refusal),
        Err(error) => Err(refusal.with_note(format_args!("reading it back failed too ({error})"))),
    }
}

#[async_trait]
impl ObjectStore for RetryStore {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn part_limits(&self) -> PartLimits {
        self.inner.part_limits()
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        let mut attempts = Attempts::new(&self.policy);
        loop {
            let error = match self.inner.create(key, body.clone()).await {
                Ok(committed) => {
                    attempts.report(Resolution::Retried);
                    return Ok(committed);
                }
                Err(error) => error,
            };
            let conflict = error.kind() == StoreErrorKind::AlreadyExists;
            if conflict && (attempts.ambiguous() || mutant::is(Mutant::ConflictMeansMine)) {
                let (length, sha256) = (body.len() as u64, Sha256Digest::of(&body));
                let found = read_back(&self.inner, &self.policy, key, length, sha256, error).await;
                let resolution = if found.is_ok() { Resolution::ReadBack } else { Resolution::Unresolved };
                attempts.report(resolution);
                return found;
            }
            attempts.after(error).await?;
        }
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        // A begin whose acknowledgement is lost leaves an empty session that nobody knows: the bucket's rule
        // for incomplete uploads removes it.
        let session = attempt(&self.policy, || self.inner.begin(key)).await?;
        Ok(Box::new(RetrySession::new(session, Arc::clone(&self.inner), self.policy.clone(), key.clone())))
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        let download = attempt(&self.policy, || self.inner.get(key, version, range.clone())).await?;
        Ok(body::resuming(Arc::clone(&self.inner), self.policy.clone(), key.clone(), range, download))
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        attempt(&self.policy, || self.inner.head(key, version)).await
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        attempt(&self.policy, || self.inner.list(prefix, page)).await
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        attempt(&self.policy, || self.inner.list_folders(prefix, page)).await
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        attempt(&self.policy, || self.inner.delete(key, version)).await
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        attempt(&self.policy, || self.inner.refuses_wrong_checksum(key)).await
    }
}
