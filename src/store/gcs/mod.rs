//! Google Cloud Storage, by Google's own SDK.
//!
//! What the proof needs of a store: a create that refuses an existing name (`ifGenerationMatch=0`, on single requests
//! and on the completion of resumable uploads), a checksum that the service itself compares with what it received
//! (CRC-32C of the whole object), and reads of the recorded generation. The SDK's retries are off:
//! [`RetryStore`](super::retry) does them.

mod backlog;
mod client;
mod error;
mod read;
mod resumable;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::client::Clients;
pub use self::client::{GcsCredentials, GcsOptions};
use self::error::{Condition, Request};
use self::resumable::QUANTUM;
use super::digest::{crc32c_base64, crc32c_of};
use super::location::GcsLocation;
use super::{
    Committed, Download, FolderPage, Limits, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession,
};
use crate::format::{Key, Sha256Digest};

/// A bucket and a prefix in it.
pub struct GcsStore {
    shared: Arc<Shared>,
}

/// What the store and its sessions hold together.
struct Shared {
    clients: Clients,
    bucket: String,
    /// The bucket as gRPC names it.
    parent: String,
    /// With a slash at its end, or empty.
    prefix: String,
    /// The destination as a URL.
    url: String,
    limits: Limits,
}

impl fmt::Debug for GcsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the clients: whatever they hold of credentials must not be printed by anyone's `{:?}`.
        f.debug_struct("GcsStore").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl GcsStore {
    /// Opens a bucket. Sends nothing to it yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if TLS or an identity can't work: no authorities installed, a key that is none, a
    /// key without TLS.
    pub async fn open(location: &GcsLocation, url: String, options: &GcsOptions) -> Result<Self, StoreError> {
        let clients = client::build(location, &url, options).await?;
        let prefix = match location.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let bucket = location.bucket.clone();
        let parent = format!("projects/_/buckets/{bucket}");
        Ok(Self { shared: Arc::new(Shared { clients, bucket, parent, prefix, url, limits: options.limits }) })
    }

    /// Deletes whatever was stored although its checksum was wrong; says whether nothing was.
    async fn nothing_is_there(&self, key: &Key) -> Result<bool, StoreError> {
        match read::head(&self.shared, "probe", key, None).await {
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
            Ok(head) => self.delete(key, &head.version).await.map(|()| false),
        }
    }
}

impl Shared {
    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn request(&self, operation: &'static str, key: &Key, condition: Condition) -> Request {
        Request { operation, object: format!("gs://{}/{}{key}", self.bucket, self.prefix), condition }
    }

    /// Waits for `sent` at most `limit`, once there is a token: that none can be had is told as such.
    async fn within<T>(
        &self,
        request: &Request,
        limit: Duration,
        sent: impl Future<Output = google_cloud_storage::Result<T>>,
    ) -> Result<T, StoreError> {
        self.clients.uploads.identity(request, self.limits.attempt).await?;
        request.within(limit, sent).await
    }

    /// One request for a whole object, with the checksum that is given, right or wrong. Returns its generation.
    async fn put(&self, request: &Request, path: &str, body: Bytes, crc32c: u32) -> Result<i64, StoreError> {
        let (limit, length) = (self.limits.sending(body.len()), body.len());
        let sent = self
            .clients
            .data
            .write_object(&self.parent, path, body)
            .set_if_generation_match(0_i64)
            .set_content_type("application/octet-stream")
            .with_known_crc32c(crc32c)
            .send_unbuffered();
        let stored = self.within(request, limit, sent).await?;
        // What stands in front of a store may answer 200 with something else.
        if stored.generation <= 0 {
            let message = "answered 200 without a generation: not stored";
            return Err(request.error(StoreErrorKind::Unavailable, message));
        }
        let theirs = stored.checksums.and_then(|checksums| checksums.crc32c);
        if theirs != Some(crc32c) || u64::try_from(stored.size) != Ok(length as u64) {
            let message = format!(
                "stored are {} bytes with CRC-32C {theirs:08x?}, sent were {length} with {crc32c:08x}",
                stored.size
            );
            return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
        }
        Ok(stored.generation)
    }
}

#[async_trait]
impl ObjectStore for GcsStore {
    fn url(&self) -> &str {
        &self.shared.url
    }

    fn part_limits(&self) -> PartLimits {
        // The service has no parts. https://cloud.google.com/storage/quotas#objects for the object.
        PartLimits { min_part: QUANTUM, max_part: upload::MAX_PART, max_parts: u32::MAX, max_object: 5 << 40 }
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        let request = self.shared.request("create", key, Condition::Absent);
        let (sha256, crc32c) = (Sha256Digest::of(&body), crc32c_of(&body));
        let length = body.len() as u64;
        let generation = self.shared.put(&request, &self.shared.path(key), body, crc32c).await?;
        let checksum = Some(format!("crc32c:{}", crc32c_base64(crc32c)));
        let version = ObjectVersion { etag: None, version: Some(generation.to_string()) };
        Ok(Committed::new(key.clone(), length, sha256, checksum, version))
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        Ok(Box::new(upload::begin(&self.shared, key).await?))
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        read::get(&self.shared, key, version, range).await
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        read::head(&self.shared, "head", key, version).await
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        read::list(&self.shared, prefix, page).await
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        read::list_folders(&self.shared, prefix, page).await
    }

    /// By generation, so that nothing else can be met, and nothing of it stays as an earlier version.
    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        let request = self.shared.request("delete", key, Condition::None);
        let generation = match read::generation(&request, Some(version))? {
            Some(generation) => generation,
            None => match read::head(&self.shared, "delete", key, None).await {
                Ok(head) => read::generation(&request, Some(&head.version))?.unwrap_or_default(),
                Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let asked = self
            .shared
            .clients
            .control
            .delete_object()
            .set_bucket(&self.shared.parent)
            .set_object(self.shared.path(key))
            .set_generation(generation)
            .send();
        match self.shared.within(&request, self.shared.limits.attempt, asked).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == StoreErrorKind::NotFound => {
                let told = read::gone_or_changed(&self.shared, &request, key, generation, error).await;
                if told.kind() == StoreErrorKind::NotFound { Ok(()) } else { Err(told) }
            }
            Err(error) => Err(error),
        }
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        let body = Bytes::from_static(b"what was sent");
        let request = self.shared.request("probe", key, Condition::Absent);
        let put = self.shared.put(&request, &self.shared.path(key), body.clone(), 1).await;
        if !self.refused(key, put.map(drop)).await? {
            return Ok(false);
        }
        let session = upload::begin(&self.shared, key).await?;
        let finished = match session.put_part(1, 0, body.clone()).await {
            Ok(()) => session.finish(body.len() as u64, 1).await.map(drop),
            Err(error) => Err(error),
        };
        let refused = self.refused(key, finished).await;
        let aborted = session.abort().await;
        match (refused, aborted) {
            (Ok(refused), Ok(())) => Ok(refused),
            (Ok(_), Err(error)) | (Err(error), Ok(())) => Err(error),
            (Err(first), Err(second)) => {
                Err(first.with_note(format_args!("1 failed abort left an upload behind ({second})")))
            }
        }
    }
}

impl GcsStore {
    /// Whether nothing was stored. An error alone does not say so: that the checksums differ is also found here, after
    /// a service that compares nothing has stored it.
    async fn refused(&self, key: &Key, sent: Result<(), StoreError>) -> Result<bool, StoreError> {
        match sent {
            Err(error)
                if !matches!(error.kind(), StoreErrorKind::ChecksumMismatch | StoreErrorKind::Invalid) =>
            {
                Err(error)
            }
            Ok(()) | Err(_) => self.nothing_is_there(key).await,
        }
    }
}
