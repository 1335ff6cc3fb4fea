//! COPY's text format (PostgreSQL manual, COPY, "Text Format"), as a server sends it.
//!
//! It has no header and, since protocol version 3, no end marker: a stream that was cut between two rows
//! looks whole. Only the counts of rows and bytes show it, which is why receipts carry both, and why a
//! frame around the stream has an end of its own.

use std::fmt;
use std::io::BufRead;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::error::CodecError;
use super::rows::RowSums;

pub(super) struct TextRows {
    columns: usize,
    sums: RowSums,
    /// Of the line being read, when it does not lie in one piece.
    hash: Xxh3Default,
    line: Line,
}

/// What is known of the line being read, when it does not lie in one piece.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    bytes: u64,
    tabs: usize,
    /// An odd number of backslashes came last.
    escaping: bool,
    /// The first two bytes, to know an end marker by.
    first: [u8; 2],
}

impl fmt::Debug for TextRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextRows")
            .field("columns", &self.columns)
            .field("sums", &self.sums)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// The line that `bytes` begin with, without its newline, if all of it is there.
#[inline]
fn whole_line(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    // The standard library's vectorised search for a byte; reading from a slice can't fail.
    let read = rest.skip_until(b'\n').unwrap_or(0);
    bytes[..read].strip_suffix(b"\n")
}

/// Tabs in `part`, and how many of them come right after a backslash. Without branches, so that compilers
/// vectorise it; `u8` sums over short runs keep sixteen bytes in a register.
#[inline]
fn tabs(part: &[u8]) -> (usize, usize) {
    let (mut tabs, mut escaped, mut last) = (0, 0, 0);
    for run in part.chunks(255) {
        tabs += usize::from(run.iter().map(|byte| u8::from(*byte == b'\t')).sum::<u8>());
        let pairs = run.iter().zip(&run[1..]);
        escaped += usize::from(pairs.map(|(a, b)| u8::from(*a == b'\\') & u8::from(*b == b'\t')).sum::<u8>());
        escaped += usize::from(last == b'\\' && run[0] == b'\t');
        last = run[run.len() - 1];
    }
    (tabs, escaped)
}

/// Whether the line is as it should be at a glance: the right number of tabs, and nothing that needs a
/// second look.
#[inline]
fn is_plain(columns: usize, line: &[u8]) -> bool {
    let (tabs, escaped) = tabs(line);
    tabs + 1 == columns && escaped == 0 && line.last() != Some(&b'\\') && line != b"\\."
}

impl TextRows {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, sums: RowSums::default(), hash: Xxh3Default::new(), line: Line::default() }
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
        while at < piece.len() {
            let here = offset + at as u64;
            if self.line.bytes > 0 {
                // The rest of a line that was cut.
                match whole_line(&piece[at..]) {
                    None => {
                        self.go_on(&piece[at..], here)?;
                        break;
                    }
                    Some(rest) => {
                        self.go_on(rest, here)?;
                        self.end_line(here + rest.len() as u64)?;
                        at += rest.len() + 1;
                    }
                }
                continue;
            }
            match whole_line(&piece[at..]) {
                None => {
                    self.hash.reset();
                    self.go_on(&piece[at..], here)?;
                    break;
                }
                Some(line) if is_plain(self.columns, line) => {
                    self.sums.add_row(xxh3_128(line));
                    at += line.len() + 1;
                }
                Some(line) => {
                    self.hash.reset();
                    self.go_on(line, here)?;
                    self.end_line(here + line.len() as u64)?;
                    at += line.len() + 1;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, offset: u64) -> Result<RowSums, CodecError> {
        if self.line.bytes > 0 {
            let row = self.sums.fingerprint.rows + 1;
            return Err(CodecError::Truncated { row, offset, within: "a row, before its newline" });
        }
        Ok(self.sums)
    }

    /// Takes more bytes of a line, none of them a newline.
    fn go_on(&mut self, part: &[u8], offset: u64) -> Result<(), CodecError> {
        let line = &mut self.line;
        let known = line.bytes.min(2) as usize;
        line.first[known..].iter_mut().zip(part).for_each(|(first, byte)| *first = *byte);
        line.bytes += part.len() as u64;
        let (tabs, escaped) = tabs(part);
        if escaped > 0 || (line.escaping && part.first() == Some(&b'\t')) {
            self.refuse_escaped_tab(part, offset)?;
        }
        let line = &mut self.line;
        line.tabs += tabs;
        let backslashes = part.iter().rev().take_while(|byte| **byte == b'\\').count();
        line.escaping = (backslashes % 2 == 1) ^ (line.escaping && backslashes == part.len());
        self.hash.update(part);
        Ok(())
    }

    /// The second look at tabs that come after backslashes, which may themselves be escaped.
    fn refuse_escaped_tab(&self, part: &[u8], offset: u64) -> Result<(), CodecError> {
        let mut escaping = self.line.escaping;
        for (at, byte) in part.iter().enumerate() {
            if *byte == b'\t' && escaping {
                let why = "a backslash before a tab, where PostgreSQL writes \\t";
                return Err(self.malformed(offset + at as u64, why));
            }
            escaping = *byte == b'\\' && !escaping;
        }
        Ok(())
    }

    /// The newline at `offset` has come.
    fn end_line(&mut self, offset: u64) -> Result<(), CodecError> {
        let line = std::mem::take(&mut self.line);
        if line.escaping {
            return Err(self.malformed(offset, "a backslash before a newline, where PostgreSQL writes \\n"));
        }
        if line.bytes == 2 && line.first == *b"\\." {
            return Err(self.malformed(offset, "an end marker, which servers do not send"));
        }
        // A table without columns: its rows are empty lines. With one column, they may be.
        let columns = if line.bytes == 0 && self.columns == 0 { 0 } else { line.tabs + 1 };
        if columns != self.columns {
            let why = format!("{columns} columns, and the table has {}", self.columns);
            return Err(self.malformed(offset, why));
        }
        self.sums.add_row(self.hash.digest128());
        Ok(())
    }

    fn malformed(&self, offset: u64, why: impl Into<String>) -> CodecError {
        CodecError::Malformed { row: self.sums.fingerprint.rows + 1, offset, why: why.into() }
    }
}
