//! A folder as a store that goes bad under the writer's hands: an object is written, acknowledged, and damaged on
//! the disk before anybody reads it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use vouchsafe::format::Key;
use vouchsafe::store::{
    Committed, ContentDigest, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion,
    PartLimits, StoreError, UploadSession,
};

use super::shop::objects_of;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    Flip,
    Truncate,
    Empty,
    Delete,
    /// It changes its content with another object of its kind, of this run or an earlier one.
    Swap,
}

impl Damage {
    pub(super) const ALL: [Self; 5] = [Self::Flip, Self::Truncate, Self::Empty, Self::Delete, Self::Swap];
}

/// Which object is damaged, and how: the first of its kind that can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// The kind, by [`kind_of`].
    pub(super) kind: &'static str,
    /// The damage comes when an object of this kind is written: the same one, or a later one.
    pub(super) when: &'static str,
    pub(super) damage: Damage,
}

/// One object that was damaged: what it held, and what it holds now (nothing: it is gone).
#[derive(Clone, Debug)]
pub(super) struct Harm {
    pub(super) path: PathBuf,
    pub(super) whole: Vec<u8>,
    pub(super) damaged: Option<Vec<u8>>,
}

impl Harm {
    fn do_it(path: &Path, damaged: Option<Vec<u8>>) -> Self {
        let whole = std::fs::read(path).unwrap();
        assert_ne!(Some(&whole), damaged.as_ref(), "{} is as it was", path.display());
        match &damaged {
            Some(bytes) => write_unseen(path, bytes),
            None => std::fs::remove_file(path).unwrap(),
        }
        Self { path: path.to_owned(), whole, damaged }
    }

    /// Whether the object is still as it was damaged.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::read(&self.path).ok() == self.damaged
    }

    pub(super) fn repair(&self) {
        std::fs::create_dir_all(self.path.parent().unwrap()).unwrap();
        std::fs::write(&self.path, &self.whole).unwrap();
    }
}

/// Writes as a disk that goes bad does: no date tells of it.
fn write_unseen(path: &Path, bytes: &[u8]) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// The kind of an object, by its name: `receipts`, `schema/roles`, `manifest`. No two things that a backup writes
/// differently have the same.
pub(super) fn kind_of(key: &str) -> String {
    let below = key.strip_prefix("runs/").and_then(|rest| rest.split_once('/')).map_or(key, |(_, rest)| rest);
    let below = match below.split_once('/') {
        Some((plan, rest)) if plan.len() == 33 && plan.starts_with('p') => rest,
        _ => below,
    };
    match below.split_once('/') {
        Some(("schema", name)) if name.ends_with(".dump") => "schema/archive".to_owned(),
        Some(("schema", name)) => format!("schema/{}", name.split('.').next().unwrap()),
        Some((folder, _)) => folder.to_owned(),
        None => below.split('.').next().unwrap().to_owned(),
    }
}

#[derive(Debug)]
struct State {
    order: Mutex<Option<Order>>,
    done: Mutex<Vec<Harm>>,
    folder: PathBuf,
}

impl State {
    /// After `key` was written and acknowledged.
    fn written(&self, key: &Key) {
        let mut waiting = self.order.lock().unwrap();
        let Some(order) = *waiting else { return };
        if kind_of(key.as_str()) != order.when {
            return;
        }
        let written = self.folder.join(key.as_str());
        let path = if order.kind == order.when { written } else { self.newest(order.kind, None).unwrap() };
        let bytes = std::fs::read(&path).unwrap();
        let mut done = self.done.lock().unwrap();
        let harm = match order.damage {
            Damage::Flip => {
                let mut bytes = bytes;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Harm::do_it(&path, Some(bytes))
            }
            Damage::Truncate => Harm::do_it(&path, Some(bytes[..bytes.len() - 1].to_vec())),
            Damage::Empty => Harm::do_it(&path, Some(Vec::new())),
            Damage::Delete => Harm::do_it(&path, None),
            Damage::Swap => {
                // If there is none yet, the next one of this kind is swapped.
                let Some(sibling) = self.newest(order.kind, Some(&path)) else { return };
                let theirs = std::fs::read(&sibling).unwrap();
                done.push(Harm::do_it(&sibling, Some(bytes)));
                Harm::do_it(&path, Some(theirs))
            }
        };
        done.push(harm);
        *waiting = None;
    }

    /// The last object of a kind by name; with `but`, another one than that, of another content.
    fn newest(&self, kind: &str, but: Option<&Path>) -> Option<PathBuf> {
        let content = but.map(|path| std::fs::read(path).unwrap());
        objects_of(&self.folder, true).into_iter().rev().find(|path| {
            let key = path.strip_prefix(&self.folder).unwrap().to_str().unwrap();
            // A collection has one collection.json, so that changes with any other object.
            let fits = kind_of(key) == kind || (kind == "collection" && but.is_some());
            fits && Some(path.as_path()) != but && (but.is_none() || std::fs::read(path).ok() != content)
        })
    }
}

/// The store.
#[derive(Debug)]
pub(super) struct DamagingStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<State>,
}

impl DamagingStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, folder: &Path) -> Self {
        let state = State { order: Mutex::default(), done: Mutex::default(), folder: folder.to_owned() };
        Self { inner, state: Arc::new(state) }
    }

    pub(super) fn order(&self, order: Order) {
        *self.state.order.lock().unwrap() = Some(order);
    }

    /// What was damaged since the order was given.
    pub(super) fn done(&self) -> Vec<Harm> {
        *self.state.order.lock().unwrap() = None;
        std::mem::take(&mut self.state.done.lock().unwrap())
    }
}

#[async_trait]
impl ObjectStore for DamagingStore {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn part_limits(&self) -> PartLimits {
        self.inner.part_limits()
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        let committed = self.inner.create(key, body).await?;
        self.state.written(key);
        Ok(committed)
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        let inner = self.inner.begin(key).await?;
        Ok(Box::new(DamagingSession { inner, state: Arc::clone(&self.state), key: key.clone() }))
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        self.inner.get(key, version, range).await
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        self.inner.head(key, version).await
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        self.inner.list(prefix, page).await
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        self.inner.list_folders(prefix, page).await
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        self.inner.delete(key, version).await
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        self.inner.refuses_wrong_checksum(key).await
    }
}

#[derive(Debug)]
struct DamagingSession {
    inner: Box<dyn UploadSession>,
    state: Arc<State>,
    key: Key,
}

#[async_trait]
impl UploadSession for DamagingSession {
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        self.inner.put_part(number, offset, body).await
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        let committed = self.inner.complete(content).await?;
        self.state.written(&self.key);
        Ok(committed)
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.inner.abort().await
    }
}
