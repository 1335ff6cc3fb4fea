//! Rows of a COPY stream, counted and hashed.

use super::binary::BinaryRows;
use super::error::CodecError;
use super::text::TextRows;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::format::Fingerprint;
use crate::format::relation::CopyFormat;

/// What a COPY stream held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTotals {
    /// Rows, and the sum of their hashes.
    pub fingerprint: Fingerprint,
    /// Bytes of the stream, header and trailer included.
    pub raw_bytes: u64,
    /// The answer to a challenge: the sum of the rows' hashes hashed again with a seed; no rows without one.
    pub challenge: Fingerprint,
}

/// The sums that one pass over the rows gathers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowSums {
    pub(super) fingerprint: Fingerprint,
    pub(super) seed: Option<u64>,
    challenge: Fingerprint,
}

impl RowSums {
    #[inline]
    pub(super) fn add_row(&mut self, hash: u128) {
        self.fingerprint.add_row(hash);
        // Of the row's hash, not of the row: sixteen bytes, whatever the row's width.
        if let Some(seed) = self.seed {
            self.challenge.add_row(xxh3_128_with_seed(&hash.to_le_bytes(), seed));
        }
    }
}

/// Reads a COPY stream in pieces of any size, and hashes each row's tuple with XXH3-128.
///
/// In binary format the hash covers the tuple from its field count to the last byte of its last field; in
/// text format the line without its newline. Memory is constant: a row that spans pieces is hashed as it
/// passes, not kept.
#[derive(Debug)]
pub struct RowHasher {
    rows: Rows,
    raw_bytes: u64,
    failed: bool,
}

#[derive(Debug)]
enum Rows {
    Binary(BinaryRows),
    Text(TextRows),
}

impl RowHasher {
    /// A hasher for rows of `columns` columns.
    #[must_use]
    pub fn new(format: CopyFormat, columns: usize) -> Self {
        let rows = match format {
            CopyFormat::Binary => Rows::Binary(BinaryRows::new(columns)),
            CopyFormat::Text => Rows::Text(TextRows::new(columns)),
        };
        Self { rows, raw_bytes: 0, failed: false }
    }

    /// Works out the answer to the challenge `seed` as well: a number that only a reader of every row can
    /// say, since it follows from no sum of hashes.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        match &mut self.rows {
            Rows::Binary(rows) => rows.challenge(seed),
            Rows::Text(rows) => rows.challenge(seed),
        }
        self
    }

    /// Reads the next bytes of the stream.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] where the stream is not what PostgreSQL writes, and [`CodecError::Failed`]
    /// ever after.
    pub fn push(&mut self, raw: &[u8]) -> Result<(), CodecError> {
        if self.failed {
            return Err(CodecError::Failed);
        }
        let read = match &mut self.rows {
            Rows::Binary(rows) => rows.push(raw, self.raw_bytes),
            Rows::Text(rows) => rows.push(raw, self.raw_bytes),
        };
        self.failed = read.is_err();
        self.raw_bytes += raw.len() as u64;
        read
    }

    /// The totals, if the stream may end here.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] if it may not; [`CodecError::Failed`] if it had failed before.
    pub fn finish(self) -> Result<RowTotals, CodecError> {
        if self.failed {
            return Err(CodecError::Failed);
        }
        let sums = match self.rows {
            Rows::Binary(rows) => rows.finish(self.raw_bytes)?,
            Rows::Text(rows) => rows.finish(self.raw_bytes)?,
        };
        Ok(RowTotals { fingerprint: sums.fingerprint, raw_bytes: self.raw_bytes, challenge: sums.challenge })
    }

    /// Rows that were read whole so far: for progress, not for proof.
    #[must_use]
    pub const fn rows_so_far(&self) -> u64 {
        match &self.rows {
            Rows::Binary(rows) => rows.rows(),
            Rows::Text(rows) => rows.rows(),
        }
    }
}
