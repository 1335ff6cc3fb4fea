//! What killed processes leave behind: temporary files that nobody writes any more.
//!
//! The counterpart of a bucket's rule for incomplete uploads. A file goes only if it is old and nobody holds
//! its lock: the kernel takes locks away from the dead, and from them only.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Stat};

/// Least age. Guards the moment between the making of a file and its lock, and file systems whose locks don't
/// reach other machines: an upload writes to its file within minutes, or gives up.
const MIN_AGE_SECONDS: i64 = 24 * 3_600;

/// Marks a temporary file as being written, as long as it is open.
pub(super) fn mark(file: &OwnedFd) {
    // Without locks the age alone decides.
    let _ = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
}

/// Removes old, abandoned files of `folder`. `now` is a file that was made a moment ago: by the clock of the
/// machine that holds the folder, not by ours. Best effort: what stays only takes space.
pub(super) fn abandoned(folder: &OwnedFd, now: &Stat) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { continue };
        let Ok(stat) = rustix::fs::fstat(&file) else { continue };
        let old = stat.st_mtime.saturating_add(MIN_AGE_SECONDS) < now.st_mtime;
        if old && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    }
}
