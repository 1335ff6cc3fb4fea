//! Writing into a folder: temporary files, their publication under a final name, and uploads in parts.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Advice, AtFlags, OFlags};
use rustix::io::Errno;

use super::tree::{FILE_MODE, TEMPORARY, Tree, classify, version_of};
use super::{join, sweep};
use crate::format::Key;
use crate::store::{Committed, ContentDigest, ObjectVersion, StoreError, StoreErrorKind, UploadSession};

/// Bytes after which a session asks for what it has written to reach the disk. Without that the kernel
/// collects dirty pages up to a tenth of the memory, and the last fsync waits for all of them at once.
const SYNC_EVERY: u64 = 32 << 20;

/// A file that has no final name yet.
#[derive(Debug)]
pub(super) struct Temporary {
    tree: Arc<Tree>,
    key: Key,
    folder: OwnedFd,
    name: String,
    file: OwnedFd,
}

impl Temporary {
    pub(super) fn make(tree: &Arc<Tree>, operation: &'static str, key: &Key) -> Result<Self, StoreError> {
        // A key that can't be stored is refused before anything is written.
        drop(tree.folder_of(operation, key)?);
        let folder = tree.temporary(operation)?;
        let name = format!("{:032x}", rand::random::<u128>());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &name, flags, FILE_MODE)
            .map_err(|errno| tree.error(operation, &format!("{TEMPORARY}/{name}"), errno))?;
        sweep::mark(&file);
        if tree.is_first_write()
            && let Ok(now) = rustix::fs::fstat(&file)
        {
            sweep::abandoned(&folder, &now);
        }
        Ok(Self { tree: Arc::clone(tree), key: key.clone(), folder, name, file })
    }

    pub(super) fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, offset) {
                Ok(0) => return Err(self.error("write", Errno::NOSPC)),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("write", errno)),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), StoreError> {
        rustix::fs::fdatasync(&self.file).map_err(|errno| self.sync_error(errno))
    }

    /// Gives the file its final name, durably, if nothing has that name.
    pub(super) fn publish(&self, operation: &'static str) -> Result<ObjectVersion, StoreError> {
        rustix::fs::fsync(&self.file).map_err(|errno| self.sync_error(errno))?;
        let folder = self.tree.make_folder_of(operation, &self.key)?;
        let linked = rustix::fs::linkat(&self.folder, &self.name, &folder, self.key.name(), AtFlags::empty());
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.error(operation, errno))?;
        if let Err(errno) = linked {
            // NFS repeats a request whose reply was lost, and the repetition meets the first one's success.
            // Only this process knows the temporary name, so a second link of it is our own.
            if stat.st_nlink != 2 {
                return Err(match errno {
                    // link(2) answers EPERM on file systems that have no hard links.
                    Errno::PERM => {
                        let message = "this file system has no hard links, by which names are given once";
                        self.tree.refuse(StoreErrorKind::Unsupported, operation, &self.key, message)
                    }
                    other => self.error(operation, other),
                });
            }
        }
        rustix::fs::fsync(&folder).map_err(|errno| self.sync_error(errno))?;
        // Whoever verifies must read the disk and not this process's memory of what it wrote. Advice only, and
        // given again before each read.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(version_of(&stat))
    }

    /// Removes the temporary name, whatever `result` is; the first error stays the error.
    pub(super) fn remove_after<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match (self.remove(), result) {
            // Published: a second name that stays behind is untidy and no more. Sweeps take it.
            (_, Ok(value)) => Ok(value),
            (Ok(()), Err(first)) => Err(first),
            (Err(second), Err(first)) => {
                Err(first.with_note(format_args!("a temporary file is left behind ({second})")))
            }
        }
    }

    fn remove(&self) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.tree.error("abort", &format!("{TEMPORARY}/{}", self.name), errno)),
        }
    }

    /// Whatever an fsync failed of, what was written before it is not to be believed: never worth a retry.
    fn sync_error(&self, errno: Errno) -> StoreError {
        let object = self.key.as_str();
        match classify(errno) {
            (StoreErrorKind::NoSpace, _) => self.tree.error("fsync", object, errno),
            _ => self
                .tree
                .refuse(StoreErrorKind::Medium, "fsync", &self.key, "the disk failed")
                .with_source(errno),
        }
    }

    fn error(&self, operation: &'static str, errno: Errno) -> StoreError {
        self.tree.error(operation, self.key.as_str(), errno)
    }
}

/// An upload into a folder: parts are written where they belong, in any order.
#[derive(Debug)]
pub(super) struct FileSession {
    temporary: Arc<Temporary>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Offset and length of each part by its number.
    parts: BTreeMap<u32, (u64, u64)>,
    unsynced: u64,
    /// A failed fsync is final: the kernel drops the pages it could not write, and the next fsync succeeds.
    failed: Option<StoreError>,
    done: Done,
}

#[derive(Debug, Default)]
enum Done {
    #[default]
    Open,
    Published(ObjectVersion),
    Aborted,
}

impl FileSession {
    pub(super) fn new(temporary: Temporary) -> Self {
        Self { temporary: Arc::new(temporary), state: Arc::default() }
    }

    fn no_such_upload(temporary: &Temporary, operation: &'static str) -> StoreError {
        let message = "the upload was completed or given up already";
        temporary.tree.refuse(StoreErrorKind::NoSuchUpload, operation, &temporary.key, message)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Each change is a single assignment: a thread that died holding it left it whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl UploadSession for FileSession {
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError> {
        let (temporary, state) = (Arc::clone(&self.temporary), Arc::clone(&self.state));
        let url = self.temporary.tree.url();
        let write = tokio::task::spawn_blocking(move || {
            if !matches!(lock(&state).done, Done::Open) {
                return Err(Self::no_such_upload(&temporary, "put_part"));
            }
            temporary.write_at(&body, offset)?;
            let sync = {
                let mut state = lock(&state);
                state.parts.insert(number, (offset, body.len() as u64));
                state.unsynced += body.len() as u64;
                // The part that crosses the mark waits for the disk; the other ones go on.
                let due = state.unsynced >= SYNC_EVERY;
                if due {
                    state.unsynced = 0;
                }
                due
            };
            if sync && let Err(error) = temporary.sync_data() {
                lock(&state).failed.get_or_insert(error.clone());
                return Err(error);
            }
            Ok(())
        });
        join("put_part", url, write).await
    }

    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError> {
        let (temporary, state) = (Arc::clone(&self.temporary), Arc::clone(&self.state));
        let url = self.temporary.tree.url();
        let publish = tokio::task::spawn_blocking(move || {
            let key = &temporary.key;
            let mut state = lock(&state);
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            let version = match &state.done {
                Done::Published(version) => version.clone(),
                Done::Aborted => return Err(Self::no_such_upload(&temporary, "complete")),
                Done::Open => {
                    check_parts(&temporary, &state.parts, &content)?;
                    match temporary.publish("complete") {
                        Ok(version) => {
                            state.done = Done::Published(version.clone());
                            // Published: a second name that stays behind is untidy and no more.
                            drop(temporary.remove());
                            version
                        }
                        Err(error) => {
                            if error.operation() == "fsync" {
                                state.failed = Some(error.clone());
                            }
                            return Err(error);
                        }
                    }
                }
            };
            Ok(Committed::new(key.clone(), content.length, content.sha256, None, version))
        });
        join("complete", url, publish).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let (temporary, state) = (Arc::clone(&self.temporary), Arc::clone(&self.state));
        let url = self.temporary.tree.url();
        let remove = tokio::task::spawn_blocking(move || {
            let mut state = lock(&state);
            if matches!(state.done, Done::Open) {
                temporary.remove()?;
                state.done = Done::Aborted;
            }
            Ok(())
        });
        join("abort", url, remove).await
    }
}

/// The parts must be the content, without gap or overlap: a hole in a file reads as zeros, not as an error.
fn check_parts(
    temporary: &Temporary,
    parts: &BTreeMap<u32, (u64, u64)>,
    content: &ContentDigest,
) -> Result<(), StoreError> {
    let mut end = 0;
    let mut expected = 1;
    for (number, (offset, length)) in parts {
        if (*number, *offset) != (expected, end) {
            break;
        }
        expected += 1;
        end += length;
    }
    if end == content.length
        && expected - 1 == content.parts
        && parts.len() as u64 == u64::from(content.parts)
    {
        return Ok(());
    }
    let message = format!(
        "{} parts of {} bytes were announced, {} contiguous ones of {end} bytes arrived",
        content.parts,
        content.length,
        expected - 1,
    );
    Err(temporary.tree.refuse(StoreErrorKind::Invalid, "complete", &temporary.key, message))
}
