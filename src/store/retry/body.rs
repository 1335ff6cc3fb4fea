//! Downloads that go on where they were cut.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Attempts, Policy, Resolution};
use crate::format::Key;
use crate::store::{ByteStream, Download, ObjectHead, ObjectStore, StoreError, StoreErrorKind};

/// A download of which the missing rest is asked for again, under the version that it began with, whenever
/// its body breaks off.
pub(super) fn resuming(
    store: Arc<dyn ObjectStore>,
    policy: Policy,
    key: Key,
    range: Option<Range<u64>>,
    first: Download,
) -> Download {
    let range = range.unwrap_or(0..first.head.length);
    let head = first.head.clone();
    let reading = Reading {
        store,
        policy,
        key,
        head: first.head,
        at: range.start,
        end: range.end,
        body: Some(first.body),
    };
    let body = stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|bytes| (bytes, reading)))
    });
    Download { head, body: body.boxed() }
}

struct Reading {
    store: Arc<dyn ObjectStore>,
    policy: Policy,
    key: Key,
    head: ObjectHead,
    at: u64,
    end: u64,
    body: Option<ByteStream>,
}

impl Reading {
    /// The next bytes, or `None` at the end of the range and nowhere else.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        // A budget for each stretch without progress: a download of hours may be cut many times.
        let policy = self.policy.clone();
        let mut attempts = Attempts::new(&policy);
        loop {
            match self.step().await {
                Ok(next) => {
                    attempts.report(Resolution::Resumed);
                    return Ok(next);
                }
                Err(error) => {
                    self.body = None;
                    attempts.after(error).await?;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>, StoreError> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let rest = self.at..self.end;
                let download = self.store.get(&self.key, Some(&self.head.version), Some(rest)).await?;
                if download.head.length != self.head.length {
                    let message = "its length is another than when the download began";
                    return Err(self.error(StoreErrorKind::Changed, message));
                }
                self.body.insert(download.body)
            }
        };
        match body.try_next().await? {
            Some(bytes) => {
                let after = self.at + bytes.len() as u64;
                if after > self.end {
                    let message = "more bytes came than were asked for";
                    return Err(self.error(StoreErrorKind::Protocol, message));
                }
                self.at = after;
                Ok(Some(bytes))
            }
            None if self.at == self.end => Ok(None),
            None => {
                let message = format!("the body ended at byte {} of {}", self.at, self.end);
                Err(self.error(StoreErrorKind::Truncated, message))
            }
        }
    }

    fn error(&self, kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, "get", format!("{}/{}", self.store.url(), self.key), message)
    }
}
