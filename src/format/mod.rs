//! What is in the bucket: documents, keys, digests and versions.
//!
//! Pure: no client, no clock, no randomness. Every document is wrapped in an [`envelope`], which makes
//! each stored byte count: a document that differs in one bit from what was written is refused by name.

pub mod digest;
pub mod envelope;
pub mod key;
pub mod relation;

pub use digest::{Fingerprint, Sha256Digest};
pub use envelope::{Document, FormatError};
pub use key::{Key, KeyError};
