//! Uploads in blocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use azure_core::http::{Etag, StatusCode};
use azure_storage_blob::models::{
    BlockBlobClientCommitBlockListOptions, BlockBlobClientCommitBlockListResultHeaders,
    BlockBlobClientStageBlockOptions, BlockBlobClientStageBlockResultHeaders, BlockLookupList,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::Shared;
use super::error::Condition;
use crate::format::Key;
use crate::store::{Committed, ContentDigest, ObjectVersion, StoreError, StoreErrorKind, UploadSession};

/// An upload that the service knows by the names of its blocks. They begin with bytes of chance, so that blocks of
/// two uploads of one name never stand in for one another.
pub(super) struct AzureSession {
    shared: Arc<Shared>,
    key: Key,
    id: [u8; 12],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sent: BTreeMap<u32, Sent>,
    /// The service has no sessions to end: ours does not go on once it was given up.
    over: bool,
}

#[derive(Clone, Copy)]
struct Sent {
    offset: u64,
    length: u64,
    md5: [u8; 16],
}

impl std::fmt::Debug for AzureSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureSession").field("key", &self.key).finish_non_exhaustive()
    }
}

impl AzureSession {
    pub(super) fn new(shared: &Arc<Shared>, key: &Key) -> Self {
        Self { shared: Arc::clone(shared), key: key.clone(), id: rand::random(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion or one flag: a thread that died holding it left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All names of a blob's blocks must be of one length.
    fn block(&self, number: u32) -> Vec<u8> {
        [&self.id[..], &number.to_be_bytes()].concat()
    }

    /// Sends a block with the checksum that is given, right or wrong.
    pub(super) async fn put(
        &self,
        number: u32,
        offset: u64,
        body: Bytes,
        md5: [u8; 16],
    ) -> Result<(), StoreError> {
        let request = self.shared.request("put_part", &self.key, Condition::None);
        if self.state().over {
            return Err(request.error(StoreErrorKind::NoSuchUpload, "the upload was given up"));
        }
        let length = body.len();
        let client = self.shared.blob(&self.key).block_blob_client();
        let options = BlockBlobClientStageBlockOptions {
            transactional_content_md5: Some(md5.to_vec()),
            ..BlockBlobClientStageBlockOptions::default()
        };
        let limit = self.shared.limits.sending(length);
        let block = self.block(number);
        let sent = client.stage_block(&block, length as u64, body.into(), Some(options));
        let answer = request.within(limit, sent).await?;
        // The service says 201; a 200 is that of something in between.
        if answer.status() != StatusCode::Created {
            let message = format!("answered HTTP {}: not stored", u16::from(answer.status()));
            return Err(request.error(StoreErrorKind::Unavailable, message));
        }
        if let Some(theirs) = answer.content_md5().ok().flatten().filter(|theirs| *theirs != md5) {
            let (theirs, ours) = (BASE64.encode(theirs), BASE64.encode(md5));
            let message = format!("the store computed MD5 {theirs} for part {number}, sent was {ours}");
            return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
        }
        self.state().sent.insert(number, Sent { offset, length: length as u64, md5 });
        Ok(())
    }

    /// The names of the blocks in order, and one checksum over theirs.
    fn blocks(&self, content: &ContentDigest) -> Result<(Vec<Vec<u8>>, String), StoreError> {
        let sent = self.state().sent.clone();
        let (mut end, mut names, mut digest) = (0, Vec::with_capacity(sent.len()), Md5::new());
        for (number, part) in sent {
            // The service would assemble what it was told of, whatever is missing between.
            if number as usize != names.len() + 1 || part.offset != end {
                break;
            }
            end += part.length;
            digest.update(part.md5);
            names.push(self.block(number));
        }
        if end != content.length || names.len() != content.parts as usize {
            let message = format!(
                "{} parts of {} bytes were announced, {} contiguous ones of {end} bytes arrived",
                content.parts,
                content.length,
                names.len(),
            );
            let request = self.shared.request("complete", &self.key, Condition::Absent);
            return Err(request.error(StoreErrorKind::Invalid, message));
        }
        let checksum = format!("md5-of-blocks:{}-{}", BASE64.encode(digest.finalize()), names.len());
        Ok((names, checksum))
    }
}

#[async_trait]
impl UploadSession for AzureSession {
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        let md5 = Md5::digest(&body).into();
        self.put(number, offset, body, md5).await
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        let request = self.shared.request("complete", &self.key, Condition::Absent);
        if self.state().over {
            return Err(request.error(StoreErrorKind::NoSuchUpload, "the upload was given up"));
        }
        let (names, checksum) = self.blocks(&content)?;
        // Blocks that the service checked as they came, in an order that it checks now: the list has a checksum, too.
        let list = BlockLookupList { uncommitted: Some(names), ..BlockLookupList::default() };
        let list = azure_core::xml::to_xml(&list).map_err(|error| request.classify(&error))?;
        let options = BlockBlobClientCommitBlockListOptions {
            if_none_match: Some(Etag::from("*")),
            transactional_content_md5: Some(Md5::digest(&list).to_vec()),
            ..BlockBlobClientCommitBlockListOptions::default()
        };
        let client = self.shared.blob(&self.key).block_blob_client();
        let sent = client.commit_block_list(list.into(), Some(options));
        let done = request.within(self.shared.limits.complete, sent).await?;
        let Some(etag) = done.etag().ok().flatten() else {
            return Err(request.error(StoreErrorKind::Unavailable, "answered without an ETag: not stored"));
        };
        let version =
            ObjectVersion { etag: Some(etag.to_string()), version: done.version_id().ok().flatten() };
        Ok(Committed::new(self.key.clone(), content.length, content.sha256, Some(checksum), version))
    }

    /// Forgets the blocks here. The service drops blocks that nobody has committed after a week, and has no request
    /// for it: https://learn.microsoft.com/rest/api/storageservices/put-block
    async fn abort(&self) -> Result<(), StoreError> {
        self.state().over = true;
        Ok(())
    }
}
