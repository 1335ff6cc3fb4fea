//! Uploads whose requests are tried again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Attempts, Policy, Resolution, attempt, read_back};
use crate::format::Key;
use crate::mutant::{self, Mutant};
use crate::store::{Committed, ContentDigest, ObjectStore, StoreError, StoreErrorKind, UploadSession};

#[derive(Debug)]
pub(super) struct RetrySession {
    inner: Box<dyn UploadSession>,
    store: Arc<dyn ObjectStore>,
    policy: Policy,
    key: Key,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.budget.fmt(f)
    }
}

impl RetrySession {
    pub(super) fn new(
        inner: Box<dyn UploadSession>,
        store: Arc<dyn ObjectStore>,
        policy: Policy,
        key: Key,
    ) -> Self {
        Self { inner, store, policy, key }
    }
}

#[async_trait]
impl UploadSession for RetrySession {
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        attempt(&self.policy, || self.inner.put_part(number, offset, body.clone())).await
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        let mut attempts = Attempts::new(&self.policy);
        loop {
            let error = match self.inner.complete(content).await {
                Ok(committed) => {
                    attempts.report(Resolution::Retried);
                    return Ok(committed);
                }
                Err(error) => error,
            };
            let settled = match error.kind() {
                StoreErrorKind::AlreadyExists => {
                    attempts.ambiguous() || mutant::is(Mutant::ConflictMeansMine)
                }
                // The session may be gone because the completion that was not acknowledged took effect.
                StoreErrorKind::NoSuchUpload => attempts.ambiguous(),
                _ => false,
            };
            if settled {
                let found =
                    read_back(&self.store, &self.policy, &self.key, content.length, content.sha256, error)
                        .await;
                attempts.report(if found.is_ok() { Resolution::ReadBack } else { Resolution::Unresolved });
                return found;
            }
            attempts.after(error).await?;
        }
    }

    async fn abort(&self) -> Result<(), StoreError> {
        attempt(&self.policy, || self.inner.abort()).await
    }
}
