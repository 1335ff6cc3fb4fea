//! The directory tree of a folder store: opened step by step, without ever following a symbolic link.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::format::Key;
use crate::store::{ObjectVersion, StoreError, StoreErrorKind};

/// Where unfinished files lie: in the same file system, because link() can't leave it. Never listed.
pub(super) const TEMPORARY: &str = ".vouchsafe-tmp";

/// Folders are made `rwx------` and files `rw-------`: a backup holds what the database protects.
const FOLDER_MODE: Mode = Mode::RWXU;
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Times that making a folder is tried again because another process removed it as empty in between.
const FOLDER_RACES: usize = 8;

/// The tree below the root.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// Folders below the root that hold every key: `a/b/`, or empty. Made when the first file is.
    prefix: String,
    url: String,
    /// Folders whose own entry this process has made durable. A file's fsynced name is worth nothing in a
    /// folder whose name is lost.
    durable: Mutex<HashSet<String>>,
    written: AtomicBool,
}

impl Tree {
    pub(super) fn new(root: PathBuf, prefix: String, url: String) -> Self {
        Self { root, prefix, url, durable: Mutex::default(), written: AtomicBool::new(false) }
    }

    /// Path of `key` below the root.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn error(&self, operation: &'static str, object: &str, errno: Errno) -> StoreError {
        let (kind, message) = classify(errno);
        StoreError::new(kind, operation, format!("{}/{object}", self.url), message).with_source(errno)
    }

    pub(super) fn refuse(
        &self,
        kind: StoreErrorKind,
        operation: &'static str,
        key: &Key,
        message: impl Into<String>,
    ) -> StoreError {
        StoreError::new(kind, operation, format!("{}/{key}", self.url), message)
    }

    /// The root. Opened anew for each operation, so that a folder unmounted and mounted again is found.
    pub(super) fn root(&self, operation: &'static str) -> Result<OwnedFd, StoreError> {
        // The root itself may be reached through links: it is the user's choice, not the bucket's content.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, &self.root, flags, Mode::empty()).map_err(|errno| {
            let (kind, message) = match errno {
                Errno::NOENT => (StoreErrorKind::NoSuchBucket, "there is no such folder: create it first"),
                Errno::NOTDIR => (StoreErrorKind::NoSuchBucket, "this is no folder"),
                other => classify(other),
            };
            StoreError::new(kind, operation, self.url.clone(), message).with_source(errno)
        })
    }

    /// Whether this is the first time that it is asked.
    pub(super) fn is_first_write(&self) -> bool {
        !self.written.swap(true, Ordering::Relaxed)
    }

    /// The folder of temporary files.
    pub(super) fn temporary(&self, operation: &'static str) -> Result<OwnedFd, StoreError> {
        let root = self.root(operation)?;
        self.make_folder(&root, "", TEMPORARY).map_err(|errno| self.error(operation, TEMPORARY, errno))
    }

    /// The folder that holds `key`, or `None` if there is none.
    pub(super) fn folder_of(
        &self,
        operation: &'static str,
        key: &Key,
    ) -> Result<Option<OwnedFd>, StoreError> {
        self.check(operation, key)?;
        let mut folder = self.root(operation)?;
        for (_, segment) in folders(&self.path(key.as_str())) {
            folder = match rustix::fs::openat(&folder, segment, FOLDER, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(self.error(operation, key.as_str(), errno)),
            };
        }
        Ok(Some(folder))
    }

    /// The folder that holds `key`, made durably if there is none.
    pub(super) fn make_folder_of(&self, operation: &'static str, key: &Key) -> Result<OwnedFd, StoreError> {
        self.check(operation, key)?;
        let mut failure = Errno::NOENT;
        for _ in 0..FOLDER_RACES {
            let root = self.root(operation)?;
            let made = folders(&self.path(key.as_str()))
                .try_fold(root, |folder, (parent, segment)| self.make_folder(&folder, parent, segment));
            match made {
                Ok(folder) => return Ok(folder),
                // A delete elsewhere took the folder as empty before we put something there.
                Err(Errno::NOENT) => failure = Errno::NOENT,
                Err(errno) => return Err(self.error(operation, key.as_str(), errno)),
            }
        }
        Err(self.error(operation, key.as_str(), failure))
    }

    fn make_folder(&self, parent: &OwnedFd, parent_path: &str, segment: &str) -> Result<OwnedFd, Errno> {
        let path = format!("{parent_path}/{segment}");
        let made = match rustix::fs::mkdirat(parent, segment, FOLDER_MODE) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno),
        };
        let folder = rustix::fs::openat(parent, segment, FOLDER, Mode::empty())?;
        // One that exists may have been made a moment ago by a process that has not fsynced it yet.
        if made || !self.lock_durable().contains(&path) {
            rustix::fs::fsync(parent)?;
            self.lock_durable().insert(path);
        }
        Ok(folder)
    }

    /// Removes the folders above `key` that are empty now, as buckets have no empty folders either.
    pub(super) fn prune_folders_of(&self, operation: &'static str, key: &Key) -> Result<(), StoreError> {
        let path = self.path(key.as_str());
        let mut path = path.as_str();
        while let Some((parent, _)) = path.rsplit_once('/') {
            let (above, name) = parent.rsplit_once('/').map_or(("", parent), |(above, name)| (above, name));
            self.lock_durable().remove(&format!("{above}/{name}"));
            let mut folder = self.root(operation)?;
            for segment in above.split('/').filter(|segment| !segment.is_empty()) {
                match rustix::fs::openat(&folder, segment, FOLDER, Mode::empty()) {
                    Ok(next) => folder = next,
                    Err(_) => return Ok(()),
                }
            }
            // Not empty, or not ours to remove: it stays, and so do those above it.
            if rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR).is_err() {
                return Ok(());
            }
            path = parent;
        }
        Ok(())
    }

    /// Opens the file of `key` to read it.
    pub(super) fn open(&self, operation: &'static str, key: &Key) -> Result<(OwnedFd, Stat), StoreError> {
        let absent = || self.refuse(StoreErrorKind::NotFound, operation, key, "no such file");
        let folder = self.folder_of(operation, key)?.ok_or_else(absent)?;
        // NONBLOCK: a named pipe in the file's place must not stall us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&folder, key.name(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(absent()),
            Err(errno) => return Err(self.error(operation, key.as_str(), errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.error(operation, key.as_str(), errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((file, stat)),
            // Buckets have no folders: what lies below a name says nothing about the name.
            FileType::Directory => Err(absent()),
            other => {
                let message = format!("not a regular file but {other:?}: nothing that was stored here");
                Err(self.refuse(StoreErrorKind::Invalid, operation, key, message))
            }
        }
    }

    fn check(&self, operation: &'static str, key: &Key) -> Result<(), StoreError> {
        if key.as_str().split('/').any(|segment| segment == TEMPORARY) {
            let message = "this name is kept for unfinished files";
            return Err(self.refuse(StoreErrorKind::Invalid, operation, key, message));
        }
        Ok(())
    }

    fn lock_durable(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // A set of names stays usable whatever happened to the thread that held it.
        self.durable.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The folders above the last segment, outermost first, each with the path that it lies in.
fn folders(key: &str) -> impl Iterator<Item = (&str, &str)> {
    key.match_indices('/').map(|(end, _)| {
        let path = &key[..end];
        path.rsplit_once('/').unwrap_or(("", path))
    })
}

/// The identity of a file's state: time of modification and length.
///
/// Not the inode and not the time of the last status change: a folder that is copied with its times (`cp -a`,
/// `rsync -a`) or snapshotted by hard links is still the same backup. Names are written once, so a file with
/// the recorded time and length that holds something else was forged or damaged, and its SHA-256 shows that.
pub(super) fn version_of(stat: &Stat) -> ObjectVersion {
    let etag = format!("\"{:x}.{:x}-{:x}\"", stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
    ObjectVersion { etag: Some(etag), version: None }
}

/// What an error of the system means to a caller. Not exhaustive, because the list of errors is the system's.
pub(super) fn classify(errno: Errno) -> (StoreErrorKind, &'static str) {
    match errno {
        Errno::NOENT => (StoreErrorKind::NotFound, "no such file"),
        Errno::EXIST => (StoreErrorKind::AlreadyExists, "a file of this name exists"),
        Errno::ACCESS | Errno::PERM => (StoreErrorKind::Forbidden, "this user may not do this to the folder"),
        Errno::ROFS => (StoreErrorKind::Forbidden, "the file system is mounted read-only"),
        Errno::NOSPC => (StoreErrorKind::NoSpace, "no space is left on the device"),
        Errno::DQUOT => (StoreErrorKind::NoSpace, "the disk quota is used up"),
        Errno::FBIG => (StoreErrorKind::NoSpace, "the file is larger than the file system or a limit allows"),
        Errno::LOOP | Errno::MLINK => {
            (StoreErrorKind::Invalid, "a symbolic link stands in the way; none is followed")
        }
        // NOFOLLOW with DIRECTORY reports a link as "not a directory".
        Errno::NOTDIR => {
            (StoreErrorKind::Invalid, "a file or a symbolic link stands where a folder is expected")
        }
        Errno::NAMETOOLONG => (StoreErrorKind::Invalid, "the path is too long for this file system"),
        Errno::IO => (StoreErrorKind::Medium, "the disk failed"),
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::XDEV => {
            (StoreErrorKind::Unsupported, "the file system can't do what is asked of it (hard links, fsync)")
        }
        Errno::NXIO | Errno::NODEV => (StoreErrorKind::Invalid, "not a regular file"),
        // STALE, TIMEDOUT, AGAIN, INTR, MFILE, NFILE, NOMEM and whatever else: later it may work.
        _ => (StoreErrorKind::Unavailable, "the system refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_above_the_name() {
        assert_eq!(folders("a/b/c").collect::<Vec<_>>(), [("", "a"), ("a", "b")]);
        assert_eq!(folders("a").count(), 0);
    }
}
