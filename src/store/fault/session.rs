//! Uploads whose requests fail on purpose.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Operation, Plan, pretended_version, pretending, under};
use crate::format::Key;
use crate::store::{Committed, ContentDigest, StoreError, UploadSession};

pub(super) struct FaultSession {
    inner: Box<dyn UploadSession>,
    plan: Arc<Plan>,
    key: Key,
}

impl std::fmt::Debug for FaultSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultSession").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultSession {
    pub(super) fn new(inner: Box<dyn UploadSession>, plan: Arc<Plan>, key: Key) -> Self {
        Self { inner, plan, key }
    }
}

#[async_trait]
impl UploadSession for FaultSession {
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        match pretending(self.plan.next(Operation::PutPart, self.key.as_str())) {
            Ok(trap) => {
                trap.fire();
                Ok(())
            }
            Err(trap) => under(trap, self.inner.put_part(number, offset, body)).await.map(|((), _)| ()),
        }
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        match pretending(self.plan.next(Operation::Complete, self.key.as_str())) {
            Ok(trap) => {
                // The store has forgotten everything that it acknowledged.
                self.inner.abort().await?;
                trap.fire();
                let version = pretended_version();
                Ok(Committed::new(self.key.clone(), content.length, content.sha256, None, version))
            }
            Err(trap) => under(trap, self.inner.complete(content)).await.map(|(committed, _)| committed),
        }
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let trap = self.plan.next(Operation::Abort, self.key.as_str());
        under(trap, self.inner.abort()).await.map(|((), _)| ())
    }
}
