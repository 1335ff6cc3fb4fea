//! COPY's binary format (PostgreSQL manual, COPY, "Binary Format").

use std::fmt;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::error::CodecError;
use super::rows::RowSums;

/// What every binary stream begins with.
const SIGNATURE: [u8; 11] = *b"PGCOPY\n\xff\r\n\0";

/// Flag for a stream with object identifiers, which PostgreSQL wrote until version 11.
const FLAG_OIDS: u32 = 1 << 16;

/// Flags of which a reader must know every one; the lower sixteen may be ignored.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Longest header extension that is skipped, in bytes. PostgreSQL writes none; the hash does not cover the
/// header, so damage there must not be able to swallow rows.
const MAX_EXTENSION_BYTES: u32 = 1 << 16;

/// Longest field, in bytes: `MaxAllocSize`, above which no PostgreSQL can build or read a value.
const MAX_FIELD_BYTES: u32 = 0x3fff_ffff;

/// What the next bytes are. Numbers may be cut anywhere, so their bytes gather in `BinaryRows::number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Signature,
    Flags,
    ExtensionLength,
    Extension { left: u32 },
    FieldCount,
    FieldLength,
    Field { left: u32 },
    Ended,
}

pub(super) struct BinaryRows {
    columns: i64,
    step: Step,
    number: [u8; 11],
    number_len: usize,
    fields_left: i64,
    /// Of the row being read, when it does not lie in one piece.
    hash: Xxh3Default,
    sums: RowSums,
}

impl fmt::Debug for BinaryRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinaryRows")
            .field("columns", &self.columns)
            .field("step", &self.step)
            .field("sums", &self.sums)
            .finish_non_exhaustive()
    }
}

/// Length of the tuple that `bytes` begins with, if it is whole and as it should be. Anything else is left
/// to the careful path, which knows how to go on or what to complain about.
#[inline]
fn whole_tuple(columns: i64, bytes: &[u8]) -> Option<usize> {
    let (count, mut rest) = bytes.split_first_chunk::<2>()?;
    if i64::from(i16::from_be_bytes(*count)) != columns {
        return None;
    }
    for _ in 0..columns {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length);
        rest = match length {
            0..=MAX_FIELD_BYTES => after.get(length as usize..)?,
            u32::MAX => after, // NULL, as -1
            _ => return None,
        };
    }
    Some(bytes.len() - rest.len())
}

impl BinaryRows {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            // More than PostgreSQL's 1,600 equals no field count, so every row is refused.
            columns: i64::try_from(columns).unwrap_or(i64::MAX),
            step: Step::Signature,
            number: [0; 11],
            number_len: 0,
            fields_left: 0,
            hash: Xxh3Default::new(),
            sums: RowSums::default(),
        }
    }

    /// Answers the challenge `seed` as well.
    pub(super) const fn challenge(&mut self, seed: u64) {
        self.sums.seed = Some(seed);
    }

    pub(super) const fn rows(&self) -> u64 {
        self.sums.fingerprint.rows
    }

    /// Reads `piece`, which lies at `offset` of the stream.
    pub(super) fn push(&mut self, piece: &[u8], offset: u64) -> Result<(), CodecError> {
        let mut at = 0;
        // Where the bytes of a cut row begin that the hash has not seen.
        let mut unhashed = 0;
        while at < piece.len() {
            if self.step == Step::FieldCount && self.number_len == 0 {
                while let Some(length) = whole_tuple(self.columns, &piece[at..]) {
                    self.sums.add_row(xxh3_128(&piece[at..at + length]));
                    at += length;
                }
                if at == piece.len() {
                    break;
                }
                self.hash.reset();
                unhashed = at;
            }
            // Of the number that is being read, also where pieces cut it: errors don't depend on the cuts.
            let here = offset + at as u64 - self.number_len as u64;
            match self.step {
                Step::Signature => {
                    if let Some(signature) = self.gather::<11>(piece, &mut at) {
                        if signature != SIGNATURE {
                            return Err(self.malformed(here, "it has no binary COPY signature"));
                        }
                        self.step = Step::Flags;
                    }
                }
                Step::Flags => {
                    if let Some(flags) = self.gather(piece, &mut at).map(u32::from_be_bytes) {
                        if flags & FLAG_OIDS != 0 {
                            return Err(self.malformed(here, "it has object identifiers"));
                        }
                        if flags & CRITICAL_FLAGS != 0 {
                            return Err(self.malformed(here, format!("unknown critical flags {flags:#010x}")));
                        }
                        self.step = Step::ExtensionLength;
                    }
                }
                Step::ExtensionLength => {
                    if let Some(left) = self.gather(piece, &mut at).map(u32::from_be_bytes) {
                        if left > MAX_EXTENSION_BYTES {
                            return Err(self.malformed(here, format!("a header extension of {left} bytes")));
                        }
                        self.step = if left == 0 { Step::FieldCount } else { Step::Extension { left } };
                    }
                }
                Step::Extension { left } => {
                    self.step = match skip(piece, &mut at, left) {
                        0 => Step::FieldCount,
                        left => Step::Extension { left },
                    };
                }
                Step::FieldCount => {
                    if let Some(count) = self.gather(piece, &mut at).map(i16::from_be_bytes) {
                        if count == -1 {
                            self.step = Step::Ended;
                        } else if i64::from(count) == self.columns {
                            self.fields_left = self.columns;
                            self.next_field(piece, at, unhashed);
                        } else {
                            let why = format!("{count} fields, and the table has {} columns", self.columns);
                            return Err(self.malformed(here, why));
                        }
                    }
                }
                Step::FieldLength => {
                    if let Some(length) = self.gather(piece, &mut at).map(i32::from_be_bytes) {
                        self.fields_left -= 1;
                        match u32::try_from(length) {
                            Ok(left @ 1..=MAX_FIELD_BYTES) => self.step = Step::Field { left },
                            Ok(0) => self.next_field(piece, at, unhashed),
                            Err(_) if length == -1 => self.next_field(piece, at, unhashed),
                            _ => return Err(self.malformed(here, format!("a field of {length} bytes"))),
                        }
                    }
                }
                Step::Field { left } => match skip(piece, &mut at, left) {
                    0 => self.next_field(piece, at, unhashed),
                    left => self.step = Step::Field { left },
                },
                Step::Ended => return Err(self.malformed(here, "bytes after the trailer")),
            }
        }
        if self.is_within_row() {
            self.hash.update(&piece[unhashed..]);
        }
        Ok(())
    }

    /// Whether bytes of a row have been read whose end has not.
    fn is_within_row(&self) -> bool {
        match self.step {
            Step::FieldCount => self.number_len > 0,
            Step::FieldLength | Step::Field { .. } => true,
            Step::Signature | Step::Flags | Step::ExtensionLength | Step::Extension { .. } | Step::Ended => {
                false
            }
        }
    }

    /// After a field, or a field count: another field, or the end of the row at `at`.
    fn next_field(&mut self, piece: &[u8], at: usize, unhashed: usize) {
        if self.fields_left > 0 {
            self.step = Step::FieldLength;
        } else {
            self.hash.update(&piece[unhashed..at]);
            self.sums.add_row(self.hash.digest128());
            self.step = Step::FieldCount;
        }
    }

    /// The next `N` bytes, once all of them are there.
    fn gather<const N: usize>(&mut self, piece: &[u8], at: &mut usize) -> Option<[u8; N]> {
        let taken = (N - self.number_len).min(piece.len() - *at);
        self.number[self.number_len..self.number_len + taken].copy_from_slice(&piece[*at..*at + taken]);
        self.number_len += taken;
        *at += taken;
        if self.number_len < N {
            return None;
        }
        self.number_len = 0;
        self.number.first_chunk().copied()
    }

    fn malformed(&self, offset: u64, why: impl Into<String>) -> CodecError {
        CodecError::Malformed { row: self.sums.fingerprint.rows + 1, offset, why: why.into() }
    }

    pub(super) fn finish(self, offset: u64) -> Result<RowSums, CodecError> {
        let within = match self.step {
            Step::Ended => return Ok(self.sums),
            Step::Signature | Step::Flags | Step::ExtensionLength | Step::Extension { .. } => "the header",
            Step::FieldCount => "a row's field count, or before the trailer",
            Step::FieldLength => "a field's length",
            Step::Field { .. } => "a field",
        };
        Err(CodecError::Truncated { row: self.sums.fingerprint.rows + 1, offset, within })
    }
}

/// Moves `at` over up to `left` bytes of `piece`, and tells how many are still to come.
fn skip(piece: &[u8], at: &mut usize, left: u32) -> u32 {
    let there = u32::try_from(piece.len() - *at).unwrap_or(u32::MAX).min(left);
    *at += there as usize;
    left - there
}
