//! Uploads in parts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::Shared;
use super::error::Condition;
use crate::format::{Key, Sha256Digest};
use crate::store::digest::crc64_base64;
use crate::store::{Committed, ContentDigest, ObjectVersion, StoreError, StoreErrorKind, UploadSession};

/// Which checksum the store is asked to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartChecksum {
    /// CRC-64/NVME of each part and, on completion, of the whole object.
    Crc64Nvme,
    /// SHA-256 of each part. The whole is checked by its length and number of parts.
    Sha256,
}

impl PartChecksum {
    fn of(self, body: &[u8]) -> String {
        match self {
            Self::Crc64Nvme => crc64_base64(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body)),
            Self::Sha256 => BASE64.encode(Sha256Digest::of(body).as_bytes()),
        }
    }
}

/// An upload that S3 knows by its id.
pub(super) struct S3Session {
    shared: Arc<Shared>,
    key: Key,
    id: String,
    checksum: PartChecksum,
    sent: Mutex<BTreeMap<u32, Sent>>,
}

/// What S3 answered to a part.
#[derive(Clone)]
struct Sent {
    etag: String,
    checksum: String,
    offset: u64,
    length: u64,
}

impl std::fmt::Debug for S3Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Session").field("key", &self.key).field("id", &self.id).finish_non_exhaustive()
    }
}

pub(super) async fn begin(shared: &Arc<Shared>, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
    let checksum = shared.part_checksum();
    match begin_with(shared, key, checksum).await {
        // A store that knows no CRC-64/NVME says so by refusing the request; the older way remains.
        Err(error)
            if checksum == PartChecksum::Crc64Nvme
                && matches!(error.kind(), StoreErrorKind::Invalid | StoreErrorKind::Unsupported) =>
        {
            let session = begin_with(shared, key, PartChecksum::Sha256).await?;
            shared.crc64.store(false, Ordering::Relaxed);
            Ok(Box::new(session))
        }
        begun => Ok(Box::new(begun?)),
    }
}

pub(super) async fn begin_with(
    shared: &Arc<Shared>,
    key: &Key,
    checksum: PartChecksum,
) -> Result<S3Session, StoreError> {
    let request = shared.request("begin", key, Condition::None);
    let create = shared.client.create_multipart_upload().bucket(&shared.bucket).key(shared.path(key));
    let create = match checksum {
        PartChecksum::Crc64Nvme => {
            create.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject)
        }
        PartChecksum::Sha256 => create.checksum_algorithm(ChecksumAlgorithm::Sha256),
    };
    let begun = create.send().await.map_err(|error| request.classify(error))?;
    let Some(id) = begun.upload_id.filter(|id| !id.is_empty()) else {
        return Err(request.error(StoreErrorKind::Unavailable, "answered 200 without an upload's id"));
    };
    Ok(S3Session { shared: Arc::clone(shared), key: key.clone(), id, checksum, sent: Mutex::default() })
}

impl S3Session {
    fn sent(&self) -> MutexGuard<'_, BTreeMap<u32, Sent>> {
        // Each change is one insertion: a thread that died holding it left it whole.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a part with the checksum that is given, right or wrong.
    pub(super) async fn put(
        &self,
        number: u32,
        offset: u64,
        body: Bytes,
        checksum: String,
    ) -> Result<(), StoreError> {
        let request = self.shared.request("put_part", &self.key, Condition::None);
        let length = body.len();
        let part = self
            .shared
            .client
            .upload_part()
            .bucket(&self.shared.bucket)
            .key(self.shared.path(&self.key))
            .upload_id(&self.id)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .body(ByteStream::from(body));
        let part = match self.checksum {
            PartChecksum::Crc64Nvme => part.checksum_crc64_nvme(&checksum),
            PartChecksum::Sha256 => part.checksum_sha256(&checksum),
        };
        // As in `Shared::put`.
        let answer = part
            .customize()
            .disable_payload_signing()
            .config_override(self.shared.within(self.shared.limits.sending(length)))
            .send()
            .await
            .map_err(|error| request.classify(error))?;
        let Some(etag) = answer.e_tag else {
            return Err(
                request.error(StoreErrorKind::Unavailable, "answered 200 without an ETag: not stored")
            );
        };
        let theirs = match self.checksum {
            PartChecksum::Crc64Nvme => answer.checksum_crc64_nvme,
            PartChecksum::Sha256 => answer.checksum_sha256,
        };
        if let Some(theirs) = theirs.filter(|theirs| *theirs != checksum) {
            let message = format!("the store computed {theirs} for part {number}, sent was {checksum}");
            return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
        }
        self.sent().insert(number, Sent { etag, checksum, offset, length: length as u64 });
        Ok(())
    }

    fn completed_parts(&self, content: &ContentDigest) -> Result<Vec<CompletedPart>, StoreError> {
        let sent = self.sent().clone();
        let mut end = 0;
        let mut parts = Vec::with_capacity(sent.len());
        for (number, part) in sent {
            // S3 would assemble what it was told of, whatever is missing between.
            if number as usize != parts.len() + 1 || part.offset != end {
                break;
            }
            end += part.length;
            let completed = CompletedPart::builder()
                .part_number(i32::try_from(number).unwrap_or(i32::MAX))
                .e_tag(part.etag);
            parts.push(match self.checksum {
                PartChecksum::Crc64Nvme => completed.checksum_crc64_nvme(part.checksum).build(),
                PartChecksum::Sha256 => completed.checksum_sha256(part.checksum).build(),
            });
        }
        if end != content.length || parts.len() != content.parts as usize {
            let message = format!(
                "{} parts of {} bytes were announced, {} contiguous ones of {end} bytes arrived",
                content.parts,
                content.length,
                parts.len(),
            );
            let request = self.shared.request("complete", &self.key, Condition::Absent);
            return Err(request.error(StoreErrorKind::Invalid, message));
        }
        Ok(parts)
    }
}

#[async_trait]
impl UploadSession for S3Session {
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        let checksum = self.checksum.of(&body);
        self.put(number, offset, body, checksum).await
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        let request = self.shared.request("complete", &self.key, Condition::Absent);
        let parts = self.completed_parts(&content)?;
        let complete = self
            .shared
            .client
            .complete_multipart_upload()
            .bucket(&self.shared.bucket)
            .key(self.shared.path(&self.key))
            .upload_id(&self.id)
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .mpu_object_size(i64::try_from(content.length).unwrap_or(i64::MAX));
        let expected = crc64_base64(content.crc64nvme);
        let complete = match self.checksum {
            PartChecksum::Crc64Nvme => {
                complete.checksum_crc64_nvme(&expected).checksum_type(ChecksumType::FullObject)
            }
            PartChecksum::Sha256 => complete,
        };
        let done = complete
            .customize()
            .config_override(self.shared.within(self.shared.limits.complete))
            .send()
            .await
            .map_err(|error| request.classify(error))?;
        // An upload's completion may answer 200 and hold an error instead.
        let Some(etag) = done.e_tag else {
            return Err(
                request.error(StoreErrorKind::Unavailable, "answered 200 without an ETag: not stored")
            );
        };
        let checksum = match (self.checksum, done.checksum_crc64_nvme, done.checksum_sha256) {
            (PartChecksum::Crc64Nvme, Some(theirs), _) if theirs == expected => {
                Some(format!("crc64nvme:{theirs}"))
            }
            (PartChecksum::Crc64Nvme, Some(theirs), _) => {
                let message = format!("the store computed CRC-64 {theirs}, sent was {expected}");
                return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
            }
            // Of the parts' checksums, with their number: `…-3`.
            (PartChecksum::Sha256, _, Some(theirs)) => Some(format!("sha256-of-parts:{theirs}")),
            (PartChecksum::Crc64Nvme | PartChecksum::Sha256, None | Some(_), None | Some(_)) => None,
        };
        let version = ObjectVersion { etag: Some(etag), version: done.version_id };
        Ok(Committed::new(self.key.clone(), content.length, content.sha256, checksum, version))
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let request = self.shared.request("abort", &self.key, Condition::None);
        let aborted = self
            .shared
            .client
            .abort_multipart_upload()
            .bucket(&self.shared.bucket)
            .key(self.shared.path(&self.key))
            .upload_id(&self.id)
            .send()
            .await;
        match aborted.map_err(|error| request.classify(error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == StoreErrorKind::NoSuchUpload => Ok(()),
            Err(error) => Err(error),
        }
    }
}
