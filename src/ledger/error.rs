//! Why books don't agree.

use crate::format::Key;

use super::coverage::CoverageError;

/// Why books don't agree. Each names what is to be looked at.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerError {
    /// A destination's tickets are not those of the plan.
    #[error("the tickets of destination {destination} are not those of the plan: {why}")]
    ForeignTickets {
        /// The destination.
        destination: String,
        /// What differs.
        why: String,
    },
    /// The tickets of a table do not tile it.
    #[error("the tickets of table {table} do not cover it: {source}")]
    Coverage {
        /// The table.
        table: String,
        /// How.
        source: CoverageError,
    },
    /// An endpoint's schema, a catalog or its large objects are not ordered as they must be.
    #[error("the tickets do not cover endpoint {endpoint}: {why}")]
    Uncovered {
        /// The endpoint.
        endpoint: String,
        /// What is missing, doubled or elsewhere.
        why: String,
    },
    /// A receipt that does not count.
    #[error("receipt {receipt} does not count: {why}")]
    Receipt {
        /// The receipt's name.
        receipt: Key,
        /// Why.
        why: String,
    },
    /// Tickets without a receipt.
    #[error(
        "{} of {planned} tickets have no receipt; the first is ticket {first} of destination {destination}, which has no \
         receipts/{first:08}.*.json of this plan",
        open.len(), first = open.first().copied().unwrap_or_default()
    )]
    Open {
        /// Destination of the first.
        destination: String,
        /// Number of tickets.
        planned: usize,
        /// Those that are open.
        open: Vec<u32>,
    },
    /// What was read is not what the database counted.
    #[error("table {table}: {read} rows were read, and the database counts {counted}")]
    Counts {
        /// The table.
        table: String,
        /// Rows in the receipts.
        read: u64,
        /// Rows that the database counted.
        counted: u64,
    },
    /// A catalog has not as many entries as the database counted.
    #[error(
        "the catalog of {catalog} of endpoint {endpoint} has {listed} entries, and the database counts {counted}"
    )]
    Entries {
        /// Which catalog.
        catalog: &'static str,
        /// The endpoint.
        endpoint: String,
        /// Entries in the receipt.
        listed: u64,
        /// Entries that the database counted.
        counted: u64,
    },
    /// The census is not one of this plan.
    #[error("the census does not answer the plan: {0}")]
    Census(String),
    /// The catalogs changed between the snapshot and the last COPY.
    #[error("the catalogs of endpoint {0} changed while its tables were read")]
    CatalogChanged(String),
    /// Two spans have one fingerprint, and the server does not explain it.
    #[error("tickets {0} and {1} of table {2} have equal fingerprints, and the server does not explain it")]
    EqualSpans(u32, u32, String),
    /// A verdict that does not answer.
    #[error("the verdict of destination {destination} does not answer: {why}")]
    Verdict {
        /// The destination.
        destination: String,
        /// Why.
        why: String,
    },
    /// A verifier found damage.
    #[error("destination {destination}: {object}: {finding}")]
    Damaged {
        /// The destination.
        destination: String,
        /// The object.
        object: String,
        /// What was found.
        finding: String,
    },
}
