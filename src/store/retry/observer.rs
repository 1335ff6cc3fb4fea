//! Who is told of the errors that were met: the manifest carries them all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::store::{StoreError, StoreErrorKind};

/// How a met error ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// The same request, sent again, succeeded.
    Retried,
    /// The request had taken effect, as reading the object back proved.
    ReadBack,
    /// The rest of the body was asked for again.
    Resumed,
    /// Not at all: the caller got an error.
    Unresolved,
}

/// Takes each error that was met, once it is known how it ended.
///
/// Called for answers as well, such as `NotFound` where a caller asks whether something is there;
/// [`is_fault`] tells them apart.
pub trait ErrorObserver: Send + Sync {
    /// One error, and how it ended.
    fn met(&self, error: &StoreError, resolution: Resolution);
}

/// Whether an error of this kind means that something failed, not that the answer is no.
#[must_use]
pub const fn is_fault(kind: StoreErrorKind) -> bool {
    !matches!(kind, StoreErrorKind::NotFound | StoreErrorKind::AlreadyExists | StoreErrorKind::Changed)
}

/// Key of a count: operation, kind of error, how it ended.
pub type ErrorClass = (&'static str, StoreErrorKind, Resolution);

/// Counts the faults by class. Bounded: operations, kinds and resolutions are.
#[derive(Default)]
pub struct ErrorCounts {
    counts: Mutex<BTreeMap<ErrorClass, u64>>,
}

impl ErrorCounts {
    /// The counts so far.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<ErrorClass, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for ErrorCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.snapshot()).finish()
    }
}

impl ErrorObserver for ErrorCounts {
    fn met(&self, error: &StoreError, resolution: Resolution) {
        if is_fault(error.kind()) {
            let class = (error.operation(), error.kind(), resolution);
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(class).or_default() += 1;
        }
    }
}
