//! Uploads in parts, over a session that takes bytes in order only.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::Shared;
use super::backlog::Backlog;
use super::error::{Condition, Request};
use super::resumable::{Chunk, Progress, QUANTUM, SessionUrl, Stored};
use crate::format::Key;
use crate::store::digest::crc32c_base64;
use crate::store::{Committed, ContentDigest, ObjectVersion, StoreError, StoreErrorKind, UploadSession};

/// Greatest part: with two in flight, one being filled and [`MAX_EARLY`], an upload holds 64 MiB.
pub(super) const MAX_PART: usize = 16 << 20;

/// Parts that came before their turn are held up to this many bytes; who brings more waits.
const MAX_EARLY: usize = 16 << 20;

/// Less than this waits for more, or for the request that completes the upload: it would cost more than it carries.
const LEAST_SENT: u64 = 1 << 20;

/// An upload that the service knows by its URL.
pub(super) struct GcsSession {
    shared: Arc<Shared>,
    key: Key,
    url: SessionUrl,
    /// Held while a request is under way: the service takes one after the other.
    state: Mutex<State>,
    /// Told whenever bytes found their place.
    moved: Notify,
}

struct State {
    backlog: Backlog,
    numbers: BTreeSet<u32>,
    /// Of the bytes that have their place.
    crc32c: Crc,
    /// Whether what the service has is known: not after an answer that never came.
    known: bool,
    over: Option<Over>,
}

enum Over {
    GivenUp,
    Stored { generation: String },
}

impl fmt::Debug for GcsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsSession").field("key", &self.key).finish_non_exhaustive()
    }
}

pub(super) async fn begin(shared: &Arc<Shared>, key: &Key) -> Result<GcsSession, StoreError> {
    let request = shared.request("begin", key, Condition::Absent);
    let uploads = &shared.clients.uploads;
    let url = uploads.begin(&request, shared.limits.attempt, &shared.bucket, &shared.path(key)).await?;
    let state = State {
        backlog: Backlog::default(),
        numbers: BTreeSet::new(),
        crc32c: Crc::new(CrcAlgorithm::Crc32Iscsi),
        known: true,
        over: None,
    };
    Ok(GcsSession {
        shared: Arc::clone(shared),
        key: key.clone(),
        url,
        state: Mutex::new(state),
        moved: Notify::new(),
    })
}

impl GcsSession {
    /// Asks what the service has, if that isn't known. An object, if the upload is complete.
    async fn look(&self, state: &mut State, request: &Request) -> Result<Option<Stored>, StoreError> {
        if state.known {
            return Ok(None);
        }
        let limit = self.shared.limits.attempt;
        match self.shared.clients.uploads.ask(request, limit, &self.url).await? {
            Progress::Done(stored) => Ok(Some(stored)),
            Progress::Kept(kept) => self.keep(state, request, kept).map(|()| None),
        }
    }

    fn keep(&self, state: &mut State, request: &Request, kept: u64) -> Result<(), StoreError> {
        state.backlog.keep(kept).map_err(|wrong| request.error(StoreErrorKind::Protocol, wrong))?;
        state.known = true;
        Ok(())
    }

    async fn put(
        &self,
        state: &mut State,
        request: &Request,
        most: usize,
        last: Option<(u64, String)>,
    ) -> Result<Progress, StoreError> {
        let (bytes, length) = state.backlog.front(most);
        let limits = &self.shared.limits;
        let limit = limits.sending(length);
        let limit = if last.is_some() { limit.max(limits.complete) } else { limit };
        let chunk = Chunk { bytes, start: state.backlog.kept, length, last };
        // Until the answer is here, and also if whoever waits for it goes away.
        state.known = false;
        self.shared.clients.uploads.put(request, limit, &self.url, chunk).await
    }

    /// Sends what may be sent before the end is known: whole quanta, and never the last byte, so that the request that
    /// completes the upload has one to send.
    async fn flush(&self, state: &mut State, request: &Request) -> Result<(), StoreError> {
        loop {
            if self.look(state, request).await?.is_some() {
                return Err(
                    request.error(StoreErrorKind::Protocol, "it is complete, before its end was sent")
                );
            }
            let left = state.backlog.end - state.backlog.kept;
            let quanta = left.saturating_sub(1) / QUANTUM as u64;
            let most = usize::try_from(quanta).unwrap_or(usize::MAX).saturating_mul(QUANTUM).min(MAX_PART);
            if left < LEAST_SENT || most == 0 {
                return Ok(());
            }
            let before = state.backlog.kept;
            match self.put(state, request, most, None).await? {
                Progress::Kept(kept) => self.keep(state, request, kept)?,
                Progress::Done(_) => {
                    return Err(
                        request.error(StoreErrorKind::Protocol, "it is complete, before its end was sent")
                    );
                }
            }
            if state.backlog.kept == before {
                return Err(request.error(StoreErrorKind::Unavailable, "none of what was sent is kept"));
            }
        }
    }

    fn open<'a>(
        &self,
        state: &'a MutexGuard<'_, State>,
        request: &Request,
    ) -> Result<Option<&'a str>, StoreError> {
        match &state.over {
            None => Ok(None),
            Some(Over::Stored { generation }) => Ok(Some(generation)),
            Some(Over::GivenUp) => {
                Err(request.error(StoreErrorKind::NoSuchUpload, "the upload was given up"))
            }
        }
    }

    fn check_whole(
        &self,
        state: &State,
        request: &Request,
        content: &ContentDigest,
    ) -> Result<(), StoreError> {
        let (end, parts) = (state.backlog.end, state.numbers.len());
        if end != content.length || parts != content.parts as usize || state.backlog.has_gap() {
            let message = format!(
                "{} parts of {} bytes were announced, {parts} of {end} contiguous bytes arrived",
                content.parts, content.length,
            );
            return Err(request.error(StoreErrorKind::Invalid, message));
        }
        Ok(())
    }

    /// Makes the object appear, if the service finds the checksum that is given, right or wrong.
    pub(super) async fn finish(&self, length: u64, crc32c: u32) -> Result<ObjectVersion, StoreError> {
        let request = self.shared.request("complete", &self.key, Condition::Absent);
        let mut state = self.state.lock().await;
        let expected = crc32c_base64(crc32c);
        let stored = loop {
            if let Some(stored) = self.look(&mut state, &request).await? {
                break stored;
            }
            self.flush(&mut state, &request).await?;
            let before = state.backlog.kept;
            match self.put(&mut state, &request, usize::MAX, Some((length, expected.clone()))).await? {
                Progress::Done(stored) => break stored,
                Progress::Kept(kept) => self.keep(&mut state, &request, kept)?,
            }
            if state.backlog.kept == before {
                let message = format!("{before} of {length} bytes are kept, after the last were sent");
                return Err(request.error(StoreErrorKind::Unavailable, message));
            }
        };
        if stored.crc32c != expected || stored.size != length.to_string() {
            let message = format!(
                "stored are {} bytes with CRC-32C {}, sent were {length} with {expected}",
                stored.size, stored.crc32c
            );
            return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
        }
        state.over = Some(Over::Stored { generation: stored.generation.clone() });
        Ok(ObjectVersion { etag: None, version: Some(stored.generation) })
    }
}

#[async_trait]
impl UploadSession for GcsSession {
    /// A part that is taken may be sent with a later one, or on completion: what it fails with is told then.
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        let request = self.shared.request("put_part", &self.key, Condition::Absent);
        loop {
            let mut state = self.state.lock().await;
            if self.open(&state, &request)?.is_some() {
                return Err(request.error(StoreErrorKind::NoSuchUpload, "the upload is complete"));
            }
            if state.backlog.has_room_for(offset, body.len(), MAX_EARLY) {
                state.numbers.insert(number);
                for placed in state.backlog.take(offset, body) {
                    state.crc32c.update(&placed);
                }
                self.moved.notify_waiters();
                return self.flush(&mut state, &request).await;
            }
            let moved = self.moved.notified();
            drop(state);
            moved.await;
        }
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        let request = self.shared.request("complete", &self.key, Condition::Absent);
        let checksum = Some(format!("crc32c:{}", crc32c_base64(content.crc32c)));
        {
            let state = self.state.lock().await;
            if let Some(generation) = self.open(&state, &request)? {
                let version = ObjectVersion { etag: None, version: Some(generation.to_owned()) };
                return Ok(Committed::new(
                    self.key.clone(),
                    content.length,
                    content.sha256,
                    checksum,
                    version,
                ));
            }
            self.check_whole(&state, &request, &content)?;
            // The writer's, over what it was given; ours, over what lies here in order.
            if state.crc32c.finalize() != u64::from(content.crc32c) {
                let message = "what lies here to be sent is not what the writer has digested";
                return Err(request.error(StoreErrorKind::ChecksumMismatch, message));
            }
        }
        let version = self.finish(content.length, content.crc32c).await?;
        Ok(Committed::new(self.key.clone(), content.length, content.sha256, checksum, version))
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let request = self.shared.request("abort", &self.key, Condition::None);
        let mut state = self.state.lock().await;
        if let Some(Over::Stored { .. }) = state.over {
            return Ok(());
        }
        state.over = Some(Over::GivenUp);
        state.backlog = Backlog::default();
        self.shared.clients.uploads.forget(&request, self.shared.limits.attempt, &self.url).await
    }
}
