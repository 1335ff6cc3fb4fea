//! What can be wrong with a COPY stream or with the frame that holds it.

use std::ops::Range;

/// A stream that can't be believed. After one of these nothing more is read: every later call fails too, so
/// an error that a caller dropped can't turn into a clean end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The COPY stream ended where it must not. An end is not an error to be guessed from: only the trailer
    /// (binary) or a newline (text) ends rows.
    #[error("COPY data is truncated at byte {offset}, in row {row}: it ends inside {within}")]
    Truncated {
        /// Row that was being read, counted from 1.
        row: u64,
        /// Bytes of raw COPY data before the end.
        offset: u64,
        /// What was being read.
        within: &'static str,
    },
    /// Not what PostgreSQL writes.
    #[error("COPY data is malformed at byte {offset}, in row {row}: {why}")]
    Malformed {
        /// Row that was being read, counted from 1.
        row: u64,
        /// Offset in the raw COPY data.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The rows that a stored object holds are wrong: which bytes of the object they came from.
    #[error("bytes {}..{} of the stored object hold damaged rows", .stored.start, .stored.end)]
    Rows {
        /// Bytes of the stored object that were decoded when it showed. The damage is there or earlier.
        stored: Range<u64>,
        /// What is wrong with the rows.
        source: Box<CodecError>,
    },
    /// The stored object is not zstd frames as we write them.
    #[error("bytes {}..{} of the stored object are damaged: {why}", .stored.start, .stored.end)]
    Frame {
        /// Bytes of the stored object where decoding failed.
        stored: Range<u64>,
        /// What is wrong.
        why: String,
    },
    /// Every block of a frame decoded, but its checksum is another: the damage may be anywhere in the frame.
    #[error("bytes {}..{} of the stored object are damaged: its contents do not match its checksum", .stored.start, .stored.end)]
    Checksum {
        /// The frame.
        stored: Range<u64>,
    },
    /// The stored object ends before its last frame does.
    #[error("the stored object is truncated: it does not end within {length} bytes")]
    FrameTruncated {
        /// Bytes that there were.
        length: u64,
    },
    /// Something follows the last frame.
    #[error("the stored object goes on at byte {offset}, after the end of its last zstd frame")]
    Trailing {
        /// Length of the object up to there.
        offset: u64,
    },
    /// More rows than the receipt counts: a wrong object, or a decompression bomb.
    #[error("bytes {}..{} of the stored object decode to more than the {limit} bytes that were expected", .stored.start, .stored.end)]
    TooLarge {
        /// Bytes of the stored object that were decoded when the limit was passed.
        stored: Range<u64>,
        /// Most raw bytes that the caller allowed.
        limit: u64,
    },
    /// zstd refused to work, for want of memory.
    #[error("zstd failed: {0}")]
    Zstd(String),
    /// The stream had failed before.
    #[error("this stream failed before; its first error says why")]
    Failed,
}

impl CodecError {
    /// The bytes of the stored object in which decoding failed, where the error is about a stored object.
    #[must_use]
    pub fn stored_range(&self) -> Option<Range<u64>> {
        match self {
            Self::Rows { stored, .. }
            | Self::Frame { stored, .. }
            | Self::Checksum { stored }
            | Self::TooLarge { stored, .. } => Some(stored.clone()),
            Self::FrameTruncated { length } => Some(*length..*length),
            Self::Trailing { offset } => Some(*offset..*offset),
            Self::Truncated { .. } | Self::Malformed { .. } | Self::Zstd(_) | Self::Failed => None,
        }
    }

    /// What is wrong, without the bytes of [`stored_range`](Self::stored_range): for whoever says those besides.
    #[must_use]
    pub fn finding(&self) -> String {
        match self {
            Self::Rows { source, .. } => format!("damaged rows: {source}"),
            Self::Frame { why, .. } => format!("damaged: {why}"),
            Self::Checksum { .. } => "its contents do not match the checksum of their zstd frame".to_owned(),
            Self::FrameTruncated { .. } => "truncated: its last zstd frame does not end".to_owned(),
            Self::Trailing { .. } => "something follows the end of its last zstd frame".to_owned(),
            Self::TooLarge { limit, .. } => {
                format!("it decodes to more than the {limit} bytes that were expected")
            }
            Self::Truncated { .. } | Self::Malformed { .. } | Self::Zstd(_) | Self::Failed => {
                self.to_string()
            }
        }
    }

    /// The same error, said of the stored bytes that the rows came from.
    pub(super) fn in_stored(self, stored: Range<u64>) -> Self {
        match self {
            rows @ (Self::Truncated { .. } | Self::Malformed { .. }) => {
                Self::Rows { stored, source: Box::new(rows) }
            }
            other => other,
        }
    }
}
