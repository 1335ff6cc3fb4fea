//! Reading from a folder: from the disk, as far as the system can be told to.
//!
//! What was just written lies in the page cache, and reading it there proves nothing about the disk. After an
//! fsync the cached pages are clean, and `POSIX_FADV_DONTNEED` drops them: once when the file is published,
//! and again before each read. `O_DIRECT` would be stricter, but tmpfs, overlayfs and many network and FUSE
//! file systems refuse it or ignore it, and it needs buffers aligned in memory, which safe Rust can't ask for.
//! What remains is a page that another process has mapped or is reading at that moment.

use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use rustix::fs::{Advice, Stat};
use rustix::io::Errno;

use super::join;
use super::tree::{Tree, version_of};
use crate::format::Key;
use crate::store::{Download, ObjectHead, ObjectVersion, StoreError, StoreErrorKind};

/// Bytes of one read. Large enough that the switch to a blocking thread (some 10 µs) is small against it.
const CHUNK: usize = 1 << 20;

/// Reads that run ahead of the consumer, so that disk and decoder work at the same time.
const READ_AHEAD: usize = 2;

/// What a file's metadata says, if it still is the recorded version.
pub(super) fn head_of(
    tree: &Tree,
    operation: &'static str,
    key: &Key,
    stat: &Stat,
    recorded: Option<&ObjectVersion>,
) -> Result<ObjectHead, StoreError> {
    let version = version_of(stat);
    if recorded.is_some_and(|recorded| *recorded != version) {
        let message = "the file was modified since it was stored: its time or length is another";
        return Err(tree.refuse(StoreErrorKind::Changed, operation, key, message));
    }
    // A regular file's length is never negative.
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let modified = Timestamp::new(stat.st_mtime, nanoseconds).ok();
    Ok(ObjectHead { length, version, modified })
}

/// Opens a file and streams `range` of it.
pub(super) fn open(
    tree: &Arc<Tree>,
    key: &Key,
    recorded: Option<&ObjectVersion>,
    range: Option<Range<u64>>,
) -> Result<Download, StoreError> {
    let (file, stat) = tree.open("get", key)?;
    let head = head_of(tree, "get", key, &stat, recorded)?;
    let range = range.unwrap_or(0..head.length);
    if range.start > range.end || range.end > head.length {
        let message = format!("bytes {}..{} were asked for, it has {}", range.start, range.end, head.length);
        return Err(tree.refuse(StoreErrorKind::Invalid, "get", key, message));
    }
    if let Some(length) = NonZeroU64::new(range.end - range.start) {
        // Advice: a file system that knows none of it still reads right.
        let _ = rustix::fs::fadvise(&file, range.start, Some(length), Advice::DontNeed);
        let _ = rustix::fs::fadvise(&file, range.start, Some(length), Advice::Sequential);
    }
    let reader = Arc::new(Reader { tree: Arc::clone(tree), key: key.clone(), file, end: range.end });
    let starts = stream::iter(range.step_by(CHUNK));
    let body = starts
        .map(move |start| {
            let reader = Arc::clone(&reader);
            async move {
                let url = reader.tree.url().to_owned();
                join("get", &url, tokio::task::spawn_blocking(move || reader.chunk(start))).await
            }
        })
        .buffered(READ_AHEAD);
    Ok(Download { head, body: end_at_first_error(body).boxed() })
}

/// An error is the end: chunks that were read ahead of it must not follow it.
fn end_at_first_error(
    body: impl futures::Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    body.scan(false, |failed, item| {
        let ended = *failed;
        *failed = item.is_err();
        std::future::ready((!ended).then_some(item))
    })
}

struct Reader {
    tree: Arc<Tree>,
    key: Key,
    file: OwnedFd,
    end: u64,
}

impl Reader {
    fn chunk(&self, start: u64) -> Result<Bytes, StoreError> {
        // At most CHUNK, which fits.
        let wanted = usize::try_from(self.end - start).map_or(CHUNK, |left| left.min(CHUNK));
        let mut buffer = BytesMut::zeroed(wanted);
        let mut filled = 0;
        while filled < wanted {
            match rustix::io::pread(&self.file, &mut buffer[filled..], start + filled as u64) {
                Ok(0) => {
                    let message = format!(
                        "the file ends at byte {}, it had {} and more",
                        start + filled as u64,
                        self.end
                    );
                    return Err(self.tree.refuse(StoreErrorKind::Changed, "get", &self.key, message));
                }
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.tree.error("get", self.key.as_str(), errno)),
            }
        }
        Ok(buffer.freeze())
    }
}
