//! A process's connection to the store in memory.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use vouchsafe::format::Key;
use vouchsafe::store::fault::{Fault, FaultStore, Rule, When};
use vouchsafe::store::{
    Committed, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession,
};

use super::world::{Answer, Request, Stored, World};

/// A process's connection to the store.
#[derive(Debug)]
pub(crate) struct Connection {
    world: Arc<World>,
    process: usize,
}

impl Connection {
    pub(crate) fn new(world: Arc<World>, process: usize) -> Self {
        Self { world, process }
    }

    async fn ask(&self, request: Request, body: Bytes) -> Answer {
        self.world.ask(self.process, request, body).await
    }

    fn refused(kind: StoreErrorKind, operation: &'static str, key: &Key) -> StoreError {
        StoreError::new(kind, operation, key.as_str(), "the scheduler wants it so")
    }
}

fn head(stored: &Stored) -> ObjectHead {
    let version = ObjectVersion { etag: Some(format!("{:x}", stored.label)), version: None };
    ObjectHead { length: stored.body.len() as u64, version, modified: None }
}

#[async_trait]
impl ObjectStore for Connection {
    fn url(&self) -> &str {
        "memory:"
    }

    fn part_limits(&self) -> PartLimits {
        PartLimits { min_part: 1, max_part: 1 << 30, max_parts: 1, max_object: 1 << 30 }
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        match self.ask(Request::Create(key.clone()), body.clone()).await {
            // Only stores can make a `Committed`. The fault store makes one for what it does not store.
            Answer::Done => {
                let nowhere = Arc::new(Self::new(Arc::clone(&self.world), self.process));
                let pretend = Rule::new(When::Requests(0..1), Fault::Pretend);
                FaultStore::new(nowhere, vec![pretend]).create(key, body).await
            }
            Answer::Refused(kind) => Err(Self::refused(kind, "create", key)),
            other => unreachable!("{other:?} to a create"),
        }
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        unreachable!("the register uploads nothing in parts: {key}")
    }

    async fn get(
        &self,
        key: &Key,
        _version: Option<&ObjectVersion>,
        _range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        match self.ask(Request::Get(key.clone()), Bytes::new()).await {
            Answer::Found(stored) => {
                let head = head(&stored);
                Ok(Download { head, body: futures::stream::iter([Ok(stored.body)]).boxed() })
            }
            Answer::Refused(kind) => Err(Self::refused(kind, "get", key)),
            other => unreachable!("{other:?} to a get"),
        }
    }

    async fn head(&self, key: &Key, _version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        match self.ask(Request::Head(key.clone()), Bytes::new()).await {
            Answer::Found(stored) => {
                let (sent, head) = (self.world.length_sent(self.process, key), head(&stored));
                Ok(ObjectHead { length: sent.unwrap_or(head.length), ..head })
            }
            Answer::Refused(kind) => Err(Self::refused(kind, "head", key)),
            other => unreachable!("{other:?} to a head"),
        }
    }

    async fn list(&self, prefix: Option<&Key>, _page: Option<&str>) -> Result<ListPage, StoreError> {
        match self.ask(Request::List(prefix.cloned()), Bytes::new()).await {
            Answer::Keys(keys) => {
                Ok(ListPage { objects: keys.into_iter().map(|key| (key, 0)).collect(), next: None })
            }
            other => unreachable!("{other:?} to a list"),
        }
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        let below = format!("{prefix}/");
        let objects = self.list(Some(prefix), page).await?.objects;
        let names = objects.iter().filter_map(|(key, _)| key.as_str().strip_prefix(&below)?.split_once('/'));
        let names: BTreeSet<&str> = names.map(|(name, _)| name).collect();
        let folders =
            names.into_iter().filter_map(|name| Key::parse(&format!("{below}{name}")).ok()).collect();
        Ok(FolderPage { folders, next: None })
    }

    async fn delete(&self, key: &Key, _version: &ObjectVersion) -> Result<(), StoreError> {
        unreachable!("nothing of a run is deleted before its outcome is decided: {key}")
    }
}
