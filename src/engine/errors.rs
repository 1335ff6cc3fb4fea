//! The error ledger of a run: every error met, how often, and how it was resolved. It ends in the manifest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::format::ErrorEntry;
use crate::store::retry::ErrorCounts;

/// Errors of the stores' retries, and those that the run itself got over.
#[derive(Debug, Default)]
pub struct ErrorBook {
    stores: Arc<ErrorCounts>,
    noted: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl ErrorBook {
    /// A book that takes what `stores` counts, too.
    #[must_use]
    pub fn new(stores: Arc<ErrorCounts>) -> Self {
        Self { stores, noted: Mutex::default() }
    }

    /// Notes an error that something larger than a request was started again for.
    pub(crate) fn note(&self, started_again: &'static str, reason: &'static str) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        *noted.entry((started_again, reason)).or_default() += 1;
    }

    /// All of it, in a stable order.
    #[must_use]
    pub fn entries(&self) -> Vec<ErrorEntry> {
        let stores =
            self.stores.snapshot().into_iter().map(|((operation, kind, resolution), met)| ErrorEntry {
                operation: operation.to_string(),
                kind: kind.name().to_owned(),
                met,
                resolution: format!("{resolution:?}"),
            });
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = noted.iter().map(|((what, reason), met)| ErrorEntry {
            operation: (*what).to_owned(),
            kind: (*reason).to_owned(),
            met: *met,
            resolution: "StartedAgain".to_owned(),
        });
        stores.chain(noted).collect()
    }
}
