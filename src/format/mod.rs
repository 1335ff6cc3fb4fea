//! What is in the bucket: documents, keys, digests and versions.
//!
//! Pure: no client, no clock, no randomness. Every document is wrapped in an [`envelope`], which makes
//! each stored byte count: a document that differs in one bit from what was written is refused by name.

pub mod catalog;
pub mod copied;
pub mod digest;
pub mod envelope;
pub mod identifier;
pub mod key;
pub mod ledger_documents;
pub mod manifest;
pub mod plan;
pub mod register;
pub mod relation;
pub mod retirement;

pub use catalog::CatalogDocument;
pub use copied::{Copied, CopyMark};
pub use digest::{Fingerprint, Sha256Digest};
pub use envelope::{Document, FormatError, decode, encode};
pub use identifier::{quote_identifier, shown_identifier};
pub use key::{Key, KeyError, Nonce, PlanDocument, PlanId};
pub use ledger_documents::{
    Answer, CatalogCounts, Census, Damage, EqualSpans, Part, PartEntry, Receipt, Settlement, StoredObject,
    TableCount, Verdict,
};
pub use manifest::{ErrorEntry, Manifest, ManifestDestination, ManifestTable};
pub use plan::{
    CatalogKind, DestinationPlan, EndpointPlan, Omitted, Order, Plan, TablePlan, Ticket, Tickets,
};
pub use register::{
    Attempt, Beat, Collection, DatabaseIdentity, Decision, Outcome, ProcessIdentity, Run, RunKind,
    VerdictReference,
};
pub use relation::{CopyFormat, QualifiedName, SpanRange, TableFacts};
pub use retirement::{Retired, Retirement};
