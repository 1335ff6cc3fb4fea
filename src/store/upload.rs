//! Uploads: cut a stream of bytes into parts, digest it, and end in [`Committed`] or in the first error.
//!
//! `Upload` is the only holder of [`UploadSession`]s, so that there is one code path on which a failure is
//! kept, every part is waited for, and the session is aborted.

mod schedule;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::{JoinHandle, JoinSet};

pub use self::schedule::PartSchedule;
use super::digest::ContentHasher;
use super::{Committed, ObjectStore, StoreError, StoreErrorKind, UploadSession};
use crate::format::Key;
use crate::mutant::{self, Mutant};

/// Default size of the first parts: large enough that a request's overhead is small against its transfer
/// (S3's own advice is 8–16 MiB), small enough that a few uploads at once fit into 256 MiB.
pub const DEFAULT_FIRST_PART: usize = 8 << 20;

/// Default number of parts in flight. With the one that is being filled, an upload holds three parts: 24 MiB.
pub const DEFAULT_CONCURRENCY: usize = 2;

/// How an upload is cut.
#[derive(Clone, Copy, Debug)]
pub struct UploadOptions {
    /// Size of the first parts, in bytes; raised or lowered to what the store takes.
    pub first_part: usize,
    /// Parts in flight, at least 1. Memory is `(concurrency + 1) × part size`.
    pub concurrency: usize,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { first_part: DEFAULT_FIRST_PART, concurrency: DEFAULT_CONCURRENCY }
    }
}

/// An object on its way into a store.
///
/// Errors latch: after the first one every `write` and `finish` returns that same error.
#[derive(Debug)]
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    key: Key,
    schedule: PartSchedule,
    max_parts: u32,
    concurrency: usize,
    /// The part that is being filled.
    buffer: BytesMut,
    /// Begun when the first part is full; objects of one part are created by a single request.
    session: Option<Arc<dyn UploadSession>>,
    /// While the session is being begun: a task of its own, so that whoever gives the upload up meanwhile learns of
    /// the session that the store has just opened.
    beginning: Option<JoinHandle<Result<Arc<dyn UploadSession>, StoreError>>>,
    in_flight: JoinSet<Result<(), StoreError>>,
    /// Number of the part that is being filled.
    number: u32,
    /// Digest of the parts that were sent; its length is the offset of the part that is being filled.
    sent: ContentHasher,
    failed: Option<StoreError>,
    /// Set while `write` runs: a caller that drops its future midway has lost bytes.
    writing: bool,
}

impl Upload {
    /// Begins an upload of `key`, which must not exist. Sends nothing yet.
    pub fn begin(store: &Arc<dyn ObjectStore>, key: Key, options: UploadOptions) -> Self {
        let limits = store.part_limits();
        Self {
            store: Arc::clone(store),
            key,
            schedule: PartSchedule::new(options.first_part, &limits),
            max_parts: limits.max_parts,
            concurrency: options.concurrency.max(1),
            buffer: BytesMut::new(),
            session: None,
            beginning: None,
            in_flight: JoinSet::new(),
            number: 1,
            sent: ContentHasher::new(),
            failed: None,
            writing: false,
        }
    }

    /// Name of the object.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Appends bytes; waits while as many parts as allowed are in flight.
    ///
    /// # Errors
    /// The first error of this upload, now and on every later call.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), StoreError> {
        if self.writing {
            self.latch(StoreError::new(
                StoreErrorKind::Invalid,
                "upload",
                self.key.as_str(),
                "an earlier write was cancelled midway, so bytes are missing",
            ));
        }
        self.writing = true;
        while let Some(ended) = self.in_flight.try_join_next() {
            self.settle(ended);
        }
        while !data.is_empty() {
            if let Some(error) = &self.failed {
                self.writing = false;
                return Err(error.clone());
            }
            let size = self.schedule.size(self.number);
            // Only when more follows: the last part is never empty, and one part alone needs no session.
            if self.buffer.len() == size {
                let body = self.buffer.split().freeze();
                self.send(body).await;
                continue;
            }
            if self.buffer.capacity() == 0 {
                // Whole at once: untouched pages cost nothing, growing would copy.
                self.buffer.reserve(size);
            }
            let taken = data.split_to(data.len().min(size - self.buffer.len()));
            self.buffer.extend_from_slice(&taken);
        }
        self.writing = false;
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Sends what is left, waits for every part, and makes the object appear.
    ///
    /// # Errors
    /// The first error of this upload. Its parts have been given up by then; if that failed too, the message
    /// says so.
    pub async fn finish(mut self) -> Result<Committed, StoreError> {
        if self.writing {
            self.latch(StoreError::new(
                StoreErrorKind::Invalid,
                "upload",
                self.key.as_str(),
                "the last write was cancelled midway, so bytes are missing",
            ));
        }
        // MUTANT: the deferred flush is lost, and nothing remembers that it was wanted.
        if mutant::is(Mutant::SwallowTheFinalFlush) {
            self.buffer.clear();
        }
        let last = self.buffer.split().freeze();
        let result = if self.session.is_none() && self.failed.is_none() {
            self.sent.update(&last);
            self.store.create(&self.key, last).await
        } else {
            self.complete(last).await
        };
        match result {
            Ok(committed) => {
                self.session = None;
                Ok(committed)
            }
            Err(error) => {
                let error = self.give_up(error).await;
                // MUTANT: the error of the upload goes to one variable, another one is returned.
                if mutant::is(Mutant::ReturnTheOtherError) {
                    let content = self.sent.finish(self.number);
                    return Ok(Committed::new(
                        self.key.clone(),
                        content.length,
                        content.sha256,
                        None,
                        super::ObjectVersion::default(),
                    ));
                }
                Err(error)
            }
        }
    }

    /// Gives the upload up: nothing appears under its name.
    ///
    /// # Errors
    /// If the store did not take the abort; its lifecycle rule removes the parts then.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        self.in_flight.shutdown().await;
        if let Some(beginning) = self.beginning.take()
            && let Ok(Ok(session)) = beginning.await
        {
            self.session = Some(session);
        }
        match self.session.take() {
            Some(session) => session.abort().await,
            None => Ok(()),
        }
    }

    async fn complete(&mut self, last: Bytes) -> Result<Committed, StoreError> {
        let parts = if last.is_empty() {
            self.number - 1
        } else {
            self.send(last).await;
            // `send` has counted it.
            self.number - 1
        };
        while let Some(ended) = self.in_flight.join_next().await {
            self.settle(ended);
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(session) = &self.session else {
            return Err(StoreError::new(
                StoreErrorKind::Invalid,
                "complete",
                self.key.as_str(),
                "the upload was never begun",
            ));
        };
        session.complete(self.sent.finish(parts)).await
    }

    /// Sends one part, once a place is free. Failures are latched.
    async fn send(&mut self, body: Bytes) {
        while self.in_flight.len() >= self.concurrency {
            if let Some(ended) = self.in_flight.join_next().await {
                self.settle(ended);
            }
        }
        if self.failed.is_some() {
            return;
        }
        if self.number > self.max_parts {
            self.latch(StoreError::new(
                StoreErrorKind::Invalid,
                "put_part",
                self.key.as_str(),
                format!("the object is longer than the store's {} parts hold", self.max_parts),
            ));
            return;
        }
        let session = match &self.session {
            Some(session) => Arc::clone(session),
            None => match self.begin_session().await {
                Ok(session) => Arc::clone(self.session.insert(session)),
                Err(error) => return self.latch(error),
            },
        };
        let (number, offset) = (self.number, self.sent.length());
        // Here and not in the part's task: digests need the order. 1.4 GB/s, no bottleneck.
        self.sent.update(&body);
        self.number += 1;
        self.in_flight.spawn(async move { session.put_part(number, offset, body).await });
    }

    async fn begin_session(&mut self) -> Result<Arc<dyn UploadSession>, StoreError> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let begin = async move { store.begin(&key).await.map(Arc::from) };
        let begun = self.beginning.get_or_insert_with(|| tokio::spawn(begin)).await;
        self.beginning = None;
        begun.unwrap_or_else(|died| {
            let error = StoreError::new(StoreErrorKind::Invalid, "begin", self.key.as_str(), "its task died");
            Err(error.with_source(died))
        })
    }

    fn settle(&mut self, ended: Result<Result<(), StoreError>, tokio::task::JoinError>) {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.latch(error),
            Err(panicked) => {
                let error =
                    StoreError::new(StoreErrorKind::Invalid, "put_part", self.key.as_str(), "its task died");
                self.latch(error.with_source(panicked));
            }
        }
    }

    fn latch(&mut self, error: StoreError) {
        // The first one is the cause; what follows it follows from it.
        self.failed.get_or_insert(error);
    }

    /// Ends every part's task and aborts the session; `first` stays the error.
    async fn give_up(&mut self, first: StoreError) -> StoreError {
        self.in_flight.shutdown().await;
        let Some(session) = self.session.take() else { return first };
        match session.abort().await {
            Ok(()) => first,
            Err(second) => first.with_note(format_args!("1 failed abort left parts behind ({second})")),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A dropped upload can't be mistaken for a finished one (no `Committed` exists); this is only to leave
        // no parts behind when a caller's future is dropped.
        let (session, beginning) = (self.session.take(), self.beginning.take());
        if session.is_none() && beginning.is_none() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut in_flight = std::mem::take(&mut self.in_flight);
        let key = self.key.clone();
        runtime.spawn(async move {
            in_flight.shutdown().await;
            let session = match (session, beginning) {
                (Some(session), _) => session,
                (None, Some(beginning)) => match beginning.await {
                    Ok(Ok(session)) => session,
                    _ => return,
                },
                (None, None) => return,
            };
            if let Err(error) = session.abort().await {
                tracing::warn!(%key, %error, "an abandoned upload left parts behind");
            }
        });
    }
}
