//! Stored spans, read back to the last byte.

use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use crate::codec::{CodecError, SpanReader, StoredTotals};
use crate::format::{CopyFormat, Damage, Sha256Digest, StoredObject};
use crate::source::SourceError;
use crate::store::{Download, ObjectStore, ObjectVersion, StoreError, StoreErrorKind};

/// Chunks that wait between the network and the decoder: enough to hide a scheduling gap, and bounded.
const CHUNKS_UNDER_WAY: usize = 8;

/// Why an object could not be read as what it was recorded as.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The store answers, and what it holds is wrong.
    Damaged {
        /// Where in the stored object, as far as it can be told.
        offsets: Option<Range<u64>>,
        /// What was found.
        finding: String,
    },
    /// The store does not answer: nothing is known about the object.
    Store(StoreError),
    /// The decoder's task died.
    Task(String),
    /// A program of PostgreSQL's is missing.
    Source(SourceError),
}

impl Unread {
    fn of_store(error: StoreError) -> Self {
        let damaged = |finding: String| Self::Damaged { offsets: None, finding };
        match error.kind() {
            StoreErrorKind::NotFound => damaged("the object is missing".into()),
            StoreErrorKind::Changed => {
                damaged(format!("the object is not the one that was recorded ({error})"))
            }
            StoreErrorKind::Truncated | StoreErrorKind::ChecksumMismatch | StoreErrorKind::Medium => {
                damaged(error.to_string())
            }
            StoreErrorKind::NoSuchBucket
            | StoreErrorKind::AlreadyExists
            | StoreErrorKind::Locked
            | StoreErrorKind::Unauthenticated
            | StoreErrorKind::Forbidden
            | StoreErrorKind::Throttled
            | StoreErrorKind::Unavailable
            | StoreErrorKind::Unsupported
            | StoreErrorKind::NoSpace
            | StoreErrorKind::ClockSkew
            | StoreErrorKind::NoSuchUpload
            | StoreErrorKind::Protocol
            | StoreErrorKind::Invalid => Self::Store(error),
        }
    }

    fn of_codec(error: &CodecError) -> Self {
        match error {
            // This process's own trouble.
            CodecError::Zstd(_) | CodecError::Failed => Self::Task(error.to_string()),
            CodecError::Truncated { .. }
            | CodecError::Malformed { .. }
            | CodecError::Rows { .. }
            | CodecError::Frame { .. }
            | CodecError::Checksum { .. }
            | CodecError::FrameTruncated { .. }
            | CodecError::Trailing { .. }
            | CodecError::TooLarge { .. } => {
                Self::Damaged { offsets: error.stored_range(), finding: error.finding() }
            }
        }
    }

    /// The finding, if the object is damaged; the error, if nothing is known.
    pub(crate) fn into_damage(
        self,
        object: String,
        table: Option<String>,
    ) -> Result<Damage, super::EngineError> {
        match self {
            Self::Damaged { offsets, finding } => {
                Ok(Damage { object, table, offsets: offsets.map(|range| (range.start, range.end)), finding })
            }
            Self::Store(error) => Err(error.into()),
            Self::Task(why) => Err(super::EngineError::Task(why)),
            Self::Source(error) => Err(error.into()),
        }
    }
}

impl From<StoreError> for Unread {
    fn from(error: StoreError) -> Self {
        Self::of_store(error)
    }
}

pub(crate) fn version_of(object: &StoredObject) -> ObjectVersion {
    ObjectVersion { etag: object.etag.clone(), version: object.version.clone() }
}

/// Which state of an object to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pinned {
    /// The recorded version or entity tag: within the run that wrote it.
    Recorded,
    /// The recorded version id where the store knows it, else what lies there: at any later time. Under versioning a
    /// later PUT or DELETE only hides the recorded bytes; a copied bucket has other ids and tags. Length and
    /// SHA-256 bind in either case.
    WhereKnown,
}

/// Opens an object in the state that is asked for.
pub(crate) async fn open(
    store: &dyn ObjectStore,
    object: &StoredObject,
    pinned: Pinned,
) -> Result<Download, StoreError> {
    let recorded = version_of(object);
    if pinned == Pinned::Recorded {
        return store.get(&object.key, Some(&recorded), None).await;
    }
    if recorded.version.is_none() {
        return store.get(&object.key, None, None).await;
    }
    // By its id alone: what ETag a store gives to a version is no matter when its bytes are hashed.
    let by_id = ObjectVersion { etag: None, ..recorded };
    let refused = match store.get(&object.key, Some(&by_id), None).await {
        Err(error) if may_be_unknown(error.kind()) => error,
        opened => return opened,
    };
    match store.get(&object.key, None, None).await {
        // Behind a version that may not be looked at, nothing is known to be missing.
        Err(error)
            if error.kind() == StoreErrorKind::NotFound && refused.kind() == StoreErrorKind::Forbidden =>
        {
            Err(refused)
        }
        opened => opened,
    }
}

/// Whether a store that was asked for a version answers so where it doesn't know its id, as S3s differ: not found, an
/// invalid id, none of this kind (a folder, which takes its own), or not for this identity.
const fn may_be_unknown(kind: StoreErrorKind) -> bool {
    matches!(
        kind,
        StoreErrorKind::NotFound
            | StoreErrorKind::Invalid
            | StoreErrorKind::Changed
            | StoreErrorKind::Unsupported
            | StoreErrorKind::Forbidden
    )
}

/// Reads a span's object and hands every decoded chunk to `sink`. The totals are compared with `object` and
/// `raw_bytes` here; the caller compares the fingerprint.
pub(crate) async fn read_rows(
    store: &dyn ObjectStore,
    object: &StoredObject,
    pinned: Pinned,
    (format, columns): (CopyFormat, usize),
    raw_bytes: u64,
    seed: u64,
    mut sink: impl FnMut(&[u8]) -> Result<(), String> + Send + 'static,
) -> Result<StoredTotals, Unread> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(CHUNKS_UNDER_WAY);
    let decoding = tokio::task::spawn_blocking(move || {
        let mut reader =
            SpanReader::new(format, columns, raw_bytes).map_err(|e| Unread::of_codec(&e))?.seeded(seed);
        while let Some(chunk) = receiver.blocking_recv() {
            let mut stored: &[u8] = &chunk;
            while let Some(raw) = reader.read(&mut stored).map_err(|e| Unread::of_codec(&e))? {
                sink(raw).map_err(Unread::Task)?;
            }
        }
        reader.finish().map_err(|e| Unread::of_codec(&e))
    });
    let fed = feed(store, object, pinned, sender).await;
    let decoded = decoding.await.map_err(|error| Unread::Task(format!("the decoder died: {error}")))?;
    // What the store says comes first: a stream that it cut also looks damaged to the decoder.
    match fed {
        Ok(()) | Err(Fed::DecoderGone) => {}
        Err(Fed::Store(error)) => return Err(Unread::of_store(error)),
    }
    let totals = decoded?;
    check_bytes(object, totals.length, totals.sha256)?;
    if totals.raw_bytes != raw_bytes {
        let finding = format!("it decodes to {} bytes, and {raw_bytes} were written", totals.raw_bytes);
        return Err(Unread::Damaged { offsets: Some(0..totals.length), finding });
    }
    Ok(totals)
}

enum Fed {
    Store(StoreError),
    /// The decoder refused and says itself why.
    DecoderGone,
}

async fn feed(
    store: &dyn ObjectStore,
    object: &StoredObject,
    pinned: Pinned,
    sender: tokio::sync::mpsc::Sender<Bytes>,
) -> Result<(), Fed> {
    let mut download = open(store, object, pinned).await.map_err(Fed::Store)?;
    while let Some(chunk) = download.body.try_next().await.map_err(Fed::Store)? {
        sender.send(chunk).await.map_err(|_| Fed::DecoderGone)?;
    }
    Ok(())
}

/// Reads an object to its end and compares length and digest, without decoding and in constant memory.
pub(crate) async fn check_digest(
    store: &dyn ObjectStore,
    object: &StoredObject,
    pinned: Pinned,
) -> Result<(), Unread> {
    let mut download = open(store, object, pinned).await.map_err(Unread::of_store)?;
    let mut length = 0;
    let mut sha256 = Sha256::new();
    while let Some(chunk) = download.body.try_next().await.map_err(Unread::of_store)? {
        length += chunk.len() as u64;
        sha256.update(&chunk);
    }
    check_bytes(object, length, Sha256Digest::from_bytes(sha256.finalize().into()))
}

/// Reads a small object whole and checks its length and digest.
pub(crate) async fn read_whole(
    store: &dyn ObjectStore,
    object: &StoredObject,
    pinned: Pinned,
) -> Result<Vec<u8>, Unread> {
    let mut download = open(store, object, pinned).await.map_err(Unread::of_store)?;
    let mut bytes = Vec::new();
    let mut sha256 = Sha256::new();
    while let Some(chunk) = download.body.try_next().await.map_err(Unread::of_store)? {
        if bytes.len() as u64 + chunk.len() as u64 > object.length {
            let finding = format!("it is longer than the {} bytes that were written", object.length);
            return Err(Unread::Damaged { offsets: Some(object.length..download.head.length), finding });
        }
        sha256.update(&chunk);
        bytes.extend_from_slice(&chunk);
    }
    check_bytes(object, bytes.len() as u64, Sha256Digest::from_bytes(sha256.finalize().into()))?;
    Ok(bytes)
}

fn check_bytes(object: &StoredObject, length: u64, sha256: Sha256Digest) -> Result<(), Unread> {
    if length != object.length {
        let finding = format!("it has {length} bytes, and {} were written", object.length);
        let (low, high) = (length.min(object.length), length.max(object.length));
        return Err(Unread::Damaged { offsets: Some(low..high), finding });
    }
    if sha256 != object.sha256 {
        let finding = format!("its SHA-256 is {sha256}, and {} was written", object.sha256);
        return Err(Unread::Damaged { offsets: Some(0..length), finding });
    }
    Ok(())
}
