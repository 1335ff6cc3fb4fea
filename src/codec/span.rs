//! The two ends of a stored span: rows hashed on their way into a frame, and out of it again.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::compress::Encoder;
use super::decompress::Decoder;
use super::error::CodecError;
use super::rows::{RowHasher, RowTotals};
use crate::format::relation::CopyFormat;
use crate::format::{Fingerprint, Sha256Digest};

/// Hashes and compresses a COPY stream.
#[derive(Debug)]
pub struct SpanWriter {
    rows: RowHasher,
    frame: Encoder,
}

impl SpanWriter {
    /// A writer for rows of `columns` columns.
    ///
    /// # Errors
    /// [`CodecError::Zstd`] if memory is short.
    pub fn new(format: CopyFormat, columns: usize) -> Result<Self, CodecError> {
        Ok(Self { rows: RowHasher::new(format, columns), frame: Encoder::new()? })
    }

    /// Takes the next bytes of the stream, and appends to `out` what is ready to be stored; see
    /// [`Encoder::push`] for how much.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] where the stream is not what PostgreSQL writes; [`CodecError::Failed`] ever
    /// after.
    pub fn push(&mut self, raw: &[u8], out: &mut Vec<Bytes>) -> Result<(), CodecError> {
        self.rows.push(raw)?;
        self.frame.push(raw, out)
    }

    /// Ends the stream: the rest of the frame is appended to `out`, and these are the totals.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] if the stream may not end here: the object must not be committed.
    pub fn finish(self, out: &mut Vec<Bytes>) -> Result<RowTotals, CodecError> {
        let totals = self.rows.finish()?;
        self.frame.finish(out)?;
        Ok(totals)
    }

    /// Rows written so far: for progress, not for proof.
    #[must_use]
    pub const fn rows_so_far(&self) -> u64 {
        self.rows.rows_so_far()
    }
}

/// What a stored object was found to be, by reading all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredTotals {
    /// Length of the object, in bytes.
    pub length: u64,
    /// SHA-256 of the object.
    pub sha256: Sha256Digest,
    /// Rows, and the sum of their hashes.
    pub fingerprint: Fingerprint,
    /// Bytes of COPY data in it.
    pub raw_bytes: u64,
    /// The answer to the challenge, if one was set.
    pub challenge: Fingerprint,
}

/// Reads a stored object: digest of what is stored, and totals of the rows in it.
pub struct SpanReader {
    sha256: Sha256,
    frame: Decoder,
    rows: RowHasher,
}

impl std::fmt::Debug for SpanReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanReader")
            .field("frame", &self.frame)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl SpanReader {
    /// A reader for an object of at most `expected_raw_bytes` of COPY data, as its receipt says, with rows of
    /// `columns` columns.
    ///
    /// # Errors
    /// [`CodecError::Zstd`] if memory is short.
    pub fn new(format: CopyFormat, columns: usize, expected_raw_bytes: u64) -> Result<Self, CodecError> {
        Ok(Self {
            sha256: Sha256::new(),
            frame: Decoder::new(expected_raw_bytes)?,
            rows: RowHasher::new(format, columns),
        })
    }

    /// Works out the answer to the challenge `seed` as well; see [`RowHasher::seeded`].
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.rows = self.rows.seeded(seed);
        self
    }

    /// Takes bytes from the front of `stored` until there are raw bytes to hand out, at most
    /// [`RAW_CHUNK_BYTES`](super::RAW_CHUNK_BYTES). `None` when all of `stored` is taken. For restorers:
    /// `while let Some(raw) = reader.read(&mut stored)? { … }`.
    ///
    /// What comes out is proven only by [`finish`](Self::finish) and by comparing its totals.
    ///
    /// # Errors
    /// As for [`Decoder::read`], and [`CodecError::Rows`] where the rows are not what PostgreSQL writes.
    pub fn read(&mut self, stored: &mut &[u8]) -> Result<Option<&[u8]>, CodecError> {
        let before = *stored;
        let read = self.frame.read(stored);
        self.sha256.update(&before[..before.len() - stored.len()]);
        if read?.is_none() {
            return Ok(None);
        }
        let raw = self.frame.last_output();
        self.rows.push(raw).map_err(|error| error.in_stored(self.frame.last_range().clone()))?;
        Ok(Some(raw))
    }

    /// Takes all of `stored`, for a verifier, who wants the totals alone.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn push(&mut self, mut stored: &[u8]) -> Result<(), CodecError> {
        while self.read(&mut stored)?.is_some() {}
        Ok(())
    }

    /// The totals, if the object may end here. The caller compares them with the receipt.
    ///
    /// # Errors
    /// [`CodecError::FrameTruncated`] if the frame may not, [`CodecError::Rows`] if the rows may not.
    pub fn finish(self) -> Result<StoredTotals, CodecError> {
        let last = self.frame.last_range().clone();
        let length = self.frame.finish()?;
        let RowTotals { fingerprint, raw_bytes, challenge } =
            self.rows.finish().map_err(|error| error.in_stored(last.start..length))?;
        Ok(StoredTotals {
            length,
            sha256: Sha256Digest::from_bytes(self.sha256.finalize().into()),
            fingerprint,
            raw_bytes,
            challenge,
        })
    }

    /// Stored bytes read so far: for progress, not for proof.
    #[must_use]
    pub const fn bytes_so_far(&self) -> u64 {
        self.frame.consumed()
    }
}
