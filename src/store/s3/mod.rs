//! S3 and the stores that speak its protocol, by AWS's own SDK.
//!
//! What the proof needs of a store: a create that refuses an existing name (`If-None-Match: *`, on single puts
//! and on the completion of uploads in parts), checksums that the store itself compares with what it received,
//! and reads of the recorded version. The SDK's retries are off: [`RetryStore`](super::retry) does them.

mod client;
mod error;
mod probe;
mod read;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use self::client::timeouts;
pub use self::client::{Credentials, S3Options};
use self::error::{Condition, Request};
use self::upload::PartChecksum;
use super::digest::sha256_checksum;
use super::location::{Checksums, S3Location};
use super::{
    Committed, Download, FolderPage, Limits, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession,
};
use crate::format::{Key, Sha256Digest};

/// A bucket and a prefix in it.
pub struct S3Store {
    shared: Arc<Shared>,
}

/// What the store and its sessions hold together.
struct Shared {
    client: Client,
    bucket: String,
    /// With a slash at its end, or empty.
    prefix: String,
    /// The destination as a URL.
    url: String,
    /// Whether parts carry CRC-64/NVME, which makes a checksum of the whole object; SHA-256 of each part, if not.
    crc64: AtomicBool,
    limits: Limits,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: whatever it holds of credentials must not be printed by anyone's `{:?}`.
        f.debug_struct("S3Store").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl S3Store {
    /// Opens a bucket. Sends nothing to it yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if TLS can't work: a CA file that holds no certificate, or none installed.
    pub async fn open(location: &S3Location, url: String, options: &S3Options) -> Result<Self, StoreError> {
        let client = client::build(location, &url, options).await?;
        let prefix = match location.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let crc64 = AtomicBool::new(location.checksums == Checksums::WhenSupported);
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                bucket: location.bucket.clone(),
                prefix,
                url,
                crc64,
                limits: options.limits,
            }),
        })
    }
}

impl Shared {
    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn request(&self, operation: &'static str, key: &Key, condition: Condition) -> Request {
        Request { operation, object: format!("s3://{}/{}{key}", self.bucket, self.prefix), condition }
    }

    /// The client's settings, with another time limit for an attempt.
    fn within(&self, attempt: Duration) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::config::Builder::new().timeout_config(timeouts(&self.limits, attempt))
    }

    fn part_checksum(&self) -> PartChecksum {
        if self.crc64.load(Ordering::Relaxed) { PartChecksum::Crc64Nvme } else { PartChecksum::Sha256 }
    }

    /// One put of a whole object, with the checksum that is given, right or wrong.
    async fn put(&self, request: &Request, path: &str, body: Bytes, sha256: &str) -> Result<Put, StoreError> {
        let length = body.len();
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(path)
            .if_none_match("*")
            .checksum_sha256(sha256)
            .body(ByteStream::from(body))
            .customize()
            // The signature covers the checksum's header, and the store compares the checksum: a second SHA-256
            // of the body for the signature would prove nothing more.
            .disable_payload_signing()
            .config_override(self.within(self.limits.sending(length)))
            .send()
            .await
            .map_err(|error| request.classify(error))?;
        // PUT has no body to hold an error, but what stands in front of a store may answer 200 with a page.
        let Some(etag) = sent.e_tag else {
            return Err(
                request.error(StoreErrorKind::Unavailable, "answered 200 without an ETag: not stored")
            );
        };
        Ok(Put { etag, version: sent.version_id, sha256: sent.checksum_sha256 })
    }
}

/// What a put was answered with.
struct Put {
    etag: String,
    version: Option<String>,
    sha256: Option<String>,
}

#[async_trait]
impl ObjectStore for S3Store {
    fn url(&self) -> &str {
        &self.shared.url
    }

    fn part_limits(&self) -> PartLimits {
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
        PartLimits { min_part: 5 << 20, max_part: 5 << 30, max_parts: 10_000, max_object: 5 << 40 }
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        let request = self.shared.request("create", key, Condition::Absent);
        let sha256 = Sha256Digest::of(&body);
        let encoded = BASE64.encode(sha256.as_bytes());
        let length = body.len() as u64;
        let put = self.shared.put(&request, &self.shared.path(key), body, &encoded).await?;
        let checksum = match put.sha256 {
            Some(theirs) if theirs != encoded => {
                let message = format!("the store computed SHA-256 {theirs}, sent was {encoded}");
                return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
            }
            // Not echoed: the store may have ignored it, and no claim is made. The probe refuses such stores.
            None => None,
            Some(_) => Some(sha256_checksum(&sha256)),
        };
        let version = ObjectVersion { etag: Some(put.etag), version: put.version };
        Ok(Committed::new(key.clone(), length, sha256, checksum, version))
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        upload::begin(&self.shared, key).await
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

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        // Without versions S3 compares nothing on delete everywhere (If-Match there is new, and not every store
        // has it), so we look first. Between look and delete nothing can slip in: names are written once.
        if version.version.is_none() {
            match read::head(&self.shared, "delete", key, Some(version)).await {
                Ok(_) => {}
                Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let request = self.shared.request("delete", key, Condition::None);
        let deleted = self
            .shared
            .client
            .delete_object()
            .bucket(&self.shared.bucket)
            .key(self.shared.path(key))
            .set_version_id(version.version.clone())
            .send()
            .await;
        match deleted.map_err(|error| request.classify(error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        probe::refuses_wrong_checksum(&self.shared, key).await
    }
}
