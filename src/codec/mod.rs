//! What lies between COPY and the bucket: rows are parsed and hashed, and their bytes become zstd frames.
//!
//! Pure and synchronous: bytes in, bytes out, in constant memory, whatever the size of a row or a value.
//! [`SpanWriter`] is the end that exports, [`SpanReader`] the end that verifies and restores. Both parse the
//! same rows with the same code; what proves a backup is that they share no state but the stored bytes, and
//! that the database counts for itself.

mod binary;
mod compress;
mod decompress;
mod error;
mod rows;
mod span;
mod text;

pub use compress::{Encoder, FRAME_BYTES, LEVEL};
pub use decompress::{Decoder, MAX_WINDOW_LOG, RAW_CHUNK_BYTES};
pub use error::CodecError;
pub use rows::{RowHasher, RowTotals};
pub use span::{SpanReader, SpanWriter, StoredTotals};
