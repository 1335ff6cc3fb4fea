//! A folder as an object store.
//!
//! Create-if-absent is link(): a file is written under a temporary name, fsynced, and linked to its own name,
//! which fails if something has it; then the folder is fsynced. So a name that exists is whole and durable,
//! and nothing is ever overwritten. Over NFS, where the reply to a link() can be lost, the number of links of
//! the temporary file tells what became of it.

mod listing;
mod read;
mod session;
mod sweep;
mod tree;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use self::session::{FileSession, Temporary};
use self::tree::{Tree, version_of};
use super::digest::sha256_checksum;
use super::{
    Committed, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession,
};
use crate::format::{Key, Sha256Digest};

/// A folder. It must exist: a mistyped path must not become a new, empty store.
#[derive(Debug)]
pub struct FileStore {
    tree: Arc<Tree>,
}

impl FileStore {
    /// The folder at `root`, an absolute path; keys lie below `prefix`, a plain relative path or empty, which is
    /// made with the first object.
    ///
    /// # Errors
    /// [`StoreErrorKind::NoSuchBucket`] if it is not there, [`StoreErrorKind::Forbidden`] if it can't be opened.
    pub fn open(root: &Path, prefix: &str) -> Result<Self, StoreError> {
        let mut url = url::Url::from_file_path(root)
            .map_err(|()| {
                let message = "the path of a folder store must be absolute";
                StoreError::new(StoreErrorKind::Invalid, "open", root.display().to_string(), message)
            })?
            .as_str()
            .trim_end_matches('/')
            .to_owned();
        let mut below = String::new();
        if !prefix.is_empty() {
            // The same rules as for the rest of the path: nothing climbs.
            Key::parse(prefix).map_err(|error| {
                StoreError::new(StoreErrorKind::Invalid, "open", url.clone(), "the prefix can't be one")
                    .with_source(error)
            })?;
            url = format!("{url}/{prefix}");
            below = format!("{prefix}/");
        }
        let tree = Tree::new(PathBuf::from(root), below, url);
        tree.root("open")?;
        Ok(Self { tree: Arc::new(tree) })
    }

    /// Runs blocking work on the pool that is meant for it.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Arc<Tree>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tree = Arc::clone(&self.tree);
        join(
            operation,
            tree.url(),
            tokio::task::spawn_blocking({
                let tree = Arc::clone(&tree);
                move || work(&tree)
            }),
        )
        .await
    }
}

/// Waits for blocking work; if it died, that is an error like any other.
async fn join<T>(
    operation: &'static str,
    object: &str,
    task: tokio::task::JoinHandle<Result<T, StoreError>>,
) -> Result<T, StoreError> {
    task.await.unwrap_or_else(|died| {
        Err(StoreError::new(StoreErrorKind::Invalid, operation, object, "its thread died").with_source(died))
    })
}

#[async_trait]
impl ObjectStore for FileStore {
    fn url(&self) -> &str {
        self.tree.url()
    }

    fn part_limits(&self) -> PartLimits {
        // Parts are only the unit of writing here. 2^32 parts of any size hold the largest file there is.
        PartLimits { min_part: 1, max_part: 1 << 30, max_parts: u32::MAX, max_object: 1 << 54 }
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        let key = key.clone();
        self.blocking("create", move |tree| {
            let temporary = Temporary::make(tree, "create", &key)?;
            let written = temporary.write_at(&body, 0).and_then(|()| temporary.publish("create"));
            let version = temporary.remove_after(written)?;
            let sha256 = Sha256Digest::of(&body);
            Ok(Committed::new(key, body.len() as u64, sha256, Some(sha256_checksum(&sha256)), version))
        })
        .await
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        let key = key.clone();
        self.blocking("begin", move |tree| {
            let temporary = Temporary::make(tree, "begin", &key)?;
            Ok(Box::new(FileSession::new(temporary)) as Box<dyn UploadSession>)
        })
        .await
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        let (key, version) = (key.clone(), version.cloned());
        self.blocking("get", move |tree| read::open(tree, &key, version.as_ref(), range)).await
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        let (key, version) = (key.clone(), version.cloned());
        self.blocking("head", move |tree| {
            let (_, stat) = tree.open("head", &key)?;
            read::head_of(tree, "head", &key, &stat, version.as_ref())
        })
        .await
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        let (prefix, page) = (prefix.cloned(), page.map(str::to_owned));
        self.blocking("list", move |tree| listing::page(tree, prefix.as_ref(), page.as_deref())).await
    }

    async fn list_folders(&self, prefix: &Key, _page: Option<&str>) -> Result<FolderPage, StoreError> {
        let prefix = prefix.clone();
        self.blocking("list", move |tree| listing::folders(tree, &prefix)).await
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        let (key, version) = (key.clone(), version.clone());
        self.blocking("delete", move |tree| {
            let stat = match tree.open("delete", &key) {
                Ok((_, stat)) => stat,
                Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            if version_of(&stat) != version {
                let message = "another file has this name now; it is left alone";
                return Err(tree.refuse(StoreErrorKind::Changed, "delete", &key, message));
            }
            let Some(folder) = tree.folder_of("delete", &key)? else { return Ok(()) };
            // Between the look and this a replacement could slip in; names are written once, so none does.
            match rustix::fs::unlinkat(&folder, key.name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(tree.error("delete", key.as_str(), errno)),
            }
            rustix::fs::fsync(&folder).map_err(|errno| tree.error("delete", key.as_str(), errno))?;
            drop(folder);
            tree.prune_folders_of("delete", &key)
        })
        .await
    }
}
