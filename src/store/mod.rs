//! Object stores behind one small trait: folders, S3, Azure, Google Cloud Storage, and the wrappers around them.
//!
//! The trait is shaped by what a proof needs: create-if-absent, uploads that the store itself checks, reads
//! of a recorded version, and deletes that name what they delete. Keys are relative to the destination's
//! bucket and prefix, which the store holds.

pub mod azure;
mod digest;
pub mod error;
mod exact;
pub mod fault;
pub mod file;
pub mod gcs;
mod limits;
pub mod location;
pub mod open;
pub mod probe;
pub mod retry;
pub mod s3;
pub mod throttle;
mod told;
pub mod upload;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::format::{Key, Sha256Digest};
pub use error::{StoreError, StoreErrorKind};
pub use limits::Limits;
pub use location::{StoreUrl, split_locality};
pub use open::{StoreOptions, open};
pub use probe::{Capabilities, probe};
pub use upload::{Upload, UploadOptions};

/// What identifies one stored state of an object, as its store names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectVersion {
    /// Entity tag, quotes included; absent where the store has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Version id (S3, Azure) or generation (GCS), where the bucket keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What `head` tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Length in bytes.
    pub length: u64,
    /// Its identity at the time of the answer.
    pub version: ObjectVersion,
    /// When it was stored, by the store's own clock and to its precision (S3: one second); absent if it does not say.
    pub modified: Option<Timestamp>,
}

/// Proof that a store acknowledged a whole object whose bytes it had checked itself.
///
/// Not `Clone`, and made only inside this module tree: a receipt can be made of nothing else.
#[derive(Debug)]
#[must_use = "an object that nobody wrote down is an orphan"]
pub struct Committed {
    key: Key,
    length: u64,
    sha256: Sha256Digest,
    checksum: Option<String>,
    version: ObjectVersion,
}

impl Committed {
    /// For implementations of [`ObjectStore`], at the moment the store has acknowledged.
    pub(in crate::store) const fn new(
        key: Key,
        length: u64,
        sha256: Sha256Digest,
        checksum: Option<String>,
        version: ObjectVersion,
    ) -> Self {
        Self { key, length, sha256, checksum, version }
    }

    /// Name of the object.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Bytes stored.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the bytes that were sent.
    #[must_use]
    pub const fn sha256(&self) -> &Sha256Digest {
        &self.sha256
    }

    /// The checksum that the store itself validated: `crc64nvme:…`, `sha256:…`.
    #[must_use]
    pub fn checksum(&self) -> Option<&str> {
        self.checksum.as_deref()
    }

    /// Identity that the store gave.
    #[must_use]
    pub const fn version(&self) -> &ObjectVersion {
        &self.version
    }
}

/// Bytes of an object, in order. An error ends the stream; an end before the announced length is
/// [`StoreErrorKind::Truncated`], never a clean end.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// An object being read.
pub struct Download {
    /// Length and identity of the whole object, whatever range was asked for.
    pub head: ObjectHead,
    /// The bytes of the range.
    pub body: ByteStream,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("head", &self.head).finish_non_exhaustive()
    }
}

/// One page of a listing, in the store's own order: most often that of names, but SeaweedFS sorts by folders.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Objects and their lengths. Names below the prefix that are no [`Key`] are not ours and left out.
    pub objects: Vec<(Key, u64)>,
    /// Where the next page starts; absent on the last one.
    pub next: Option<String>,
}

/// A page of a listing of folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderPage {
    /// Names below which something lies, without a slash at their end. What is no [`Key`] is left out.
    pub folders: Vec<Key>,
    /// Where the next page starts; absent on the last one.
    pub next: Option<String>,
}

/// Sizes that a store sets for uploads in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLimits {
    /// Least size of every part but the last, in bytes.
    pub min_part: usize,
    /// Greatest size of a part, in bytes.
    pub max_part: usize,
    /// Most parts of an object.
    pub max_parts: u32,
    /// Greatest length of an object, in bytes.
    pub max_object: u64,
}

/// One destination's objects.
///
/// Every method fails with a [`StoreError`] that names operation, object and cause, and whose kind decides,
/// in one place, whether to try again.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// The destination as a URL, without any credential.
    fn url(&self) -> &str;

    /// The sizes that [`begin`](Self::begin)'s sessions must keep to.
    fn part_limits(&self) -> PartLimits;

    /// Creates an object that must not exist.
    ///
    /// # Errors
    /// [`StoreErrorKind::AlreadyExists`] if something has that name.
    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError>;

    /// Begins the upload of an object that must not exist; nothing can be read under its name before the
    /// session's `complete`. Callers use `Upload`, which cuts and digests.
    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError>;

    /// Reads `range` (the whole object if absent) of the recorded `version` (the current one if absent).
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`]; [`StoreErrorKind::Changed`] if the object is no longer the recorded one.
    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError>;

    /// Length and identity of an object.
    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError>;

    /// Objects whose names lie below `prefix` (all, if absent), a page at a time. May be stale: what it shows
    /// is a hint, what it leaves out proves nothing.
    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError>;

    /// Names one segment longer than `prefix` below which something lies, a page at a time: what there is, without
    /// listing all that is in it. A hint, as [`list`](Self::list) is; a folder may show a name with nothing below.
    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError>;

    /// Deletes the recorded version of an object; one that is already gone is success.
    ///
    /// # Errors
    /// [`StoreErrorKind::Changed`] if another object has the name now; [`StoreErrorKind::Locked`] under a
    /// retention lock.
    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError>;

    /// Whether the store itself refuses content that is not what its checksum says, tried on `key`, which must
    /// not exist and does not exist afterwards. A folder takes no checksums: what it stores is read back.
    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        let _ = key;
        Ok(true)
    }
}

/// An upload in parts. Dropping one without [`complete`](Self::complete) or [`abort`](Self::abort) leaks
/// parts in the store, so only `Upload` holds them.
#[async_trait]
pub trait UploadSession: Send + Sync + fmt::Debug {
    /// Sends part `number`, counted from 1, whose first byte is byte `offset` of the object. Parts may be sent
    /// at the same time and in any order; a part that is sent again replaces itself.
    async fn put_part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), StoreError>;

    /// Makes the object appear, if nothing has its name, with the digest that the caller has computed.
    ///
    /// By reference, so that a lost acknowledgement can be asked for again; `Upload::finish` consumes.
    ///
    /// # Errors
    /// [`StoreErrorKind::AlreadyExists`]; [`StoreErrorKind::NoSuchUpload`] if the store knows the session no
    /// longer, which after a lost acknowledgement may mean that it is complete.
    async fn complete(&self, content: ContentDigest) -> Result<Committed, StoreError>;

    /// Gives up: the store forgets the parts. A session that is already gone is success.
    async fn abort(&self) -> Result<(), StoreError>;
}

/// What the writer knows of the whole content when it completes an upload.
#[derive(Clone, Copy, Debug)]
pub struct ContentDigest {
    /// Bytes in all parts.
    pub length: u64,
    /// Parts sent.
    pub parts: u32,
    /// SHA-256 of all bytes.
    pub sha256: Sha256Digest,
    /// CRC-64/NVME of all bytes: the full-object checksum that S3 validates on completion.
    pub crc64nvme: u64,
    /// CRC-32C of all bytes: what Google Cloud Storage validates on completion.
    pub crc32c: u32,
}
