//! Tickets against receipts, and verdicts against both.
//!
//! Pure, and ordered by types: a [`Ledger`] that balances becomes [`Balanced`], which alone makes parts;
//! [`Balanced`] compared with every verdict becomes [`Proven`], which alone can be sealed.

mod balance;
mod books;
mod coverage;
mod endpoints;
mod error;
mod proof;

pub use balance::{Balanced, DestinationShare, TableTotal};
pub use books::{Ledger, Taken};
pub use coverage::{CoverageError, check_coverage};
pub use error::LedgerError;
pub use proof::{Proven, Witness};

#[cfg(test)]
mod tests;
