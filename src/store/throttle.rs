//! A limit on bytes per second, shared by all uploads that go through it.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Committed, ContentDigest, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion,
    PartLimits, StoreError, UploadSession,
};
use crate::format::Key;

/// A rate of sending. Share one among the stores that it is meant for.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: NonZeroU64,
    /// When what was sent so far has been paid for.
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A limit of `bytes_per_second`.
    #[must_use]
    pub const fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// Waits until `bytes` may be sent.
    async fn pass(&self, bytes: usize) {
        tokio::time::sleep_until(self.reserve(bytes, Instant::now())).await;
    }

    /// When `bytes` may be sent. The bytes themselves are paid for by whoever comes next, so that a part larger
    /// than a second's worth passes; idle time is not saved up.
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let starts = free_at.map_or(now, |free| free.max(now));
        *free_at = Some(starts + cost);
        starts
    }
}

/// A store whose uploads keep to a [`Throttle`]. Reads are not limited.
#[derive(Debug)]
pub struct ThrottledStore {
    inner: Arc<dyn ObjectStore>,
    throttle: Arc<Throttle>,
}

impl ThrottledStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle }
    }
}

#[async_trait]
impl ObjectStore for ThrottledStore {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn part_limits(&self) -> PartLimits {
        self.inner.part_limits()
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        self.throttle.pass(body.len()).await;
        self.inner.create(key, body).await
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        let inner = self.inner.begin(key).await?;
        Ok(Box::new(ThrottledSession { inner, throttle: Arc::clone(&self.throttle) }))
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        self.inner.get(key, version, range).await
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        self.inner.head(key, version).await
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        self.inner.list(prefix, page).await
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        self.inner.list_folders(prefix, page).await
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        self.inner.delete(key, version).await
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        self.inner.refuses_wrong_checksum(key).await
    }
}

#[derive(Debug)]
struct ThrottledSession {
    inner: Box<dyn UploadSession>,
    throttle: Arc<Throttle>,
}

#[async_trait]
impl UploadSession for ThrottledSession {
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        self.throttle.pass(body.len()).await;
        self.inner.put_part(number, offset, body).await
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        self.inner.complete(content).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_share_one_rate_and_idle_time_is_not_saved_up() {
        let throttle = Throttle::new(NonZeroU64::new(1_000).unwrap());
        let now = Instant::now();
        let waits: Vec<_> = (0..4).map(|_| (throttle.reserve(2_000, now) - now).as_secs()).collect();
        assert_eq!(waits, [0, 2, 4, 6]);
        let later = now + Duration::from_secs(100);
        assert_eq!(throttle.reserve(2_000, later), later);
        assert_eq!(throttle.reserve(1, later), later + Duration::from_secs(2));
    }
}
