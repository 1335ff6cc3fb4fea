//! Azure Blob Storage, by Microsoft's own SDK.
//!
//! What the proof needs of a store: a create that refuses an existing name (`If-None-Match: *`), checksums that the
//! service itself compares (`Content-MD5` of a whole blob, of each block, and of the list that commits them), and
//! reads of the recorded version. The SDK's retries are off: [`RetryStore`](super::retry) does them.

mod client;
mod error;
mod read;
mod request;
mod shared_key;
mod token;
mod upload;

use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::{Etag, StatusCode};
use azure_storage_blob::models::{BlobClientDeleteOptions, BlockBlobClientUploadOptions};
use azure_storage_blob::{BlobClient, BlobContainerClient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use md5::{Digest, Md5};

pub use self::client::{AzureCredentials, AzureOptions};
use self::error::{Condition, Request};
use self::request::Added;
use self::upload::AzureSession;
use super::location::AzureLocation;
use super::{
    Committed, Download, FolderPage, Limits, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession,
};
use crate::format::{Key, Sha256Digest};

/// A container and a prefix in it.
pub struct AzureStore {
    shared: Arc<Shared>,
}

/// What the store and its sessions hold together.
struct Shared {
    container: BlobContainerClient,
    /// `azblob://account/container`, for messages.
    root: String,
    /// With a slash at its end, or empty.
    prefix: String,
    /// The destination as a URL.
    url: String,
    limits: Limits,
}

impl fmt::Debug for AzureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: its URL may hold a signature.
        f.debug_struct("AzureStore").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl AzureStore {
    /// Opens a container. Sends nothing to it yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if TLS or an identity can't work: a CA file that holds no certificate, variables
    /// that are missing, a token without TLS.
    pub fn open(location: &AzureLocation, url: String, options: &AzureOptions) -> Result<Self, StoreError> {
        let container = client::build(location, &url, options)?;
        let prefix = match location.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let root = format!("azblob://{}/{}", location.account, location.container);
        Ok(Self { shared: Arc::new(Shared { container, root, prefix, url, limits: options.limits }) })
    }
}

impl Shared {
    fn blob(&self, key: &Key) -> BlobClient {
        self.container.blob_client(&format!("{}{key}", self.prefix))
    }

    fn request(&self, operation: &'static str, key: &Key, condition: Condition) -> Request {
        Request { operation, object: format!("{}/{}{key}", self.root, self.prefix), condition }
    }

    /// One put of a whole blob, with the checksum that is given, right or wrong.
    async fn put(
        &self,
        request: &Request,
        key: &Key,
        body: Bytes,
        md5: &[u8; 16],
    ) -> Result<Put, StoreError> {
        let limit = self.limits.sending(body.len());
        let options = BlockBlobClientUploadOptions {
            if_none_match: Some(Etag::from("*")),
            method_options: Added { md5: Some(BASE64.encode(md5)), ..Added::default() }.into_options(),
            // In one request, whatever its size.
            partition_size: NonZero::new((body.len() as u64).max(1)),
            ..BlockBlobClientUploadOptions::default()
        };
        let client = self.blob(key).block_blob_client();
        let done = request.within(limit, client.upload(body.into(), Some(options))).await?;
        let Some(etag) = done.etag else {
            return Err(request.error(StoreErrorKind::Unavailable, "answered without an ETag: not stored"));
        };
        Ok(Put { etag: etag.to_string(), version: done.version_id, md5: done.content_md5 })
    }
}

impl Shared {
    /// What is not the recorded object may be none at all: of that a server may say either, so it is asked.
    async fn gone_or(&self, key: &Key, error: StoreError) -> StoreError {
        if error.kind() != StoreErrorKind::Changed {
            return error;
        }
        match read::head(self, error.operation(), key, None).await {
            Err(gone) if gone.kind() == StoreErrorKind::NotFound => gone,
            _ => error,
        }
    }

    async fn delete(&self, key: &Key, options: BlobClientDeleteOptions<'_>) -> Result<(), StoreError> {
        let request = self.request("delete", key, Condition::Unchanged);
        let client = self.blob(key);
        let answer = request.within(self.limits.attempt, client.delete(Some(options))).await?;
        // The service says 202; a 200 is that of something in between.
        match answer.status() {
            StatusCode::Accepted => Ok(()),
            status => {
                let message = format!("answered HTTP {}: not deleted", u16::from(status));
                Err(request.error(StoreErrorKind::Unavailable, message))
            }
        }
    }
}

/// What a put was answered with.
struct Put {
    etag: String,
    version: Option<String>,
    md5: Option<Vec<u8>>,
}

#[async_trait]
impl ObjectStore for AzureStore {
    fn url(&self) -> &str {
        &self.shared.url
    }

    fn part_limits(&self) -> PartLimits {
        // https://learn.microsoft.com/azure/storage/blobs/scalability-targets, but for the greatest object, which is
        // that of S3: the service would take 190 TiB, for which even the first parts had to be of 4,000 MiB.
        PartLimits { min_part: 1, max_part: 4_000 << 20, max_parts: 50_000, max_object: 5 << 40 }
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        let request = self.shared.request("create", key, Condition::Absent);
        let (sha256, md5) = (Sha256Digest::of(&body), Md5::digest(&body).into());
        let length = body.len() as u64;
        let put = self.shared.put(&request, key, body, &md5).await?;
        let checksum = match put.md5 {
            Some(theirs) if theirs != md5 => {
                let (theirs, ours) = (BASE64.encode(theirs), BASE64.encode(md5));
                let message = format!("the store computed MD5 {theirs}, sent was {ours}");
                return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
            }
            // Not echoed: the store may have ignored it, and no claim is made. The probe refuses such stores.
            None => None,
            Some(_) => Some(format!("md5:{}", BASE64.encode(md5))),
        };
        let version = ObjectVersion { etag: Some(put.etag), version: put.version };
        Ok(Committed::new(key.clone(), length, sha256, checksum, version))
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        Ok(Box::new(AzureSession::new(&self.shared, key)))
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        match read::get(&self.shared, key, version, range).await {
            Err(error) => Err(self.shared.gone_or(key, error).await),
            found => found,
        }
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        match read::head(&self.shared, "head", key, version).await {
            Err(error) => Err(self.shared.gone_or(key, error).await),
            found => found,
        }
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        read::list(&self.shared, prefix, page).await
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        read::list_folders(&self.shared, prefix, page).await
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        // The current version goes by its name, and stays as an earlier one; that goes by its id then.
        // https://learn.microsoft.com/azure/storage/blobs/versioning-overview
        let by_name = BlobClientDeleteOptions {
            if_match: version.etag.clone().map(Etag::from),
            ..BlobClientDeleteOptions::default()
        };
        let deleted = self.shared.delete(key, by_name).await;
        let Some(id) = &version.version else {
            return match deleted {
                Err(error) => gone_is_success(Err(self.shared.gone_or(key, error).await)),
                Ok(()) => Ok(()),
            };
        };
        match deleted {
            Err(error) if !matches!(error.kind(), StoreErrorKind::NotFound | StoreErrorKind::Changed) => {
                return Err(error);
            }
            _ => {}
        }
        let by_id =
            BlobClientDeleteOptions { version_id: Some(id.clone()), ..BlobClientDeleteOptions::default() };
        gone_is_success(self.shared.delete(key, by_id).await)
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        let body = Bytes::from_static(b"what was sent");
        let wrong = Md5::digest(b"something else").into();
        let request = self.shared.request("probe", key, Condition::Absent);
        match self.shared.put(&request, key, body.clone(), &wrong).await {
            Err(error) if means_refused(error.kind()) => {}
            Err(error) => return Err(error),
            Ok(put) => {
                let version = ObjectVersion { etag: Some(put.etag), version: put.version };
                self.delete(key, &version).await?;
                return Ok(false);
            }
        }
        // A block that nobody commits leaves nothing to delete.
        match AzureSession::new(&self.shared, key).put(1, 0, body, wrong).await {
            Err(error) if means_refused(error.kind()) => Ok(true),
            Err(error) => Err(error),
            Ok(()) => Ok(false),
        }
    }
}

fn means_refused(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::ChecksumMismatch | StoreErrorKind::Invalid)
}

fn gone_is_success(deleted: Result<(), StoreError>) -> Result<(), StoreError> {
    match deleted {
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(()),
        deleted => deleted,
    }
}
