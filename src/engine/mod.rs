//! The engine: joins source and store. Coordinator, workers and verifiers meet only through the store, here
//! in one process as later in pods. It knows nothing of Kubernetes.

mod asked;
mod audit;
pub mod backups;
mod catalogs;
mod census;
pub mod coordinator;
pub mod copy;
pub mod crew;
pub mod destinations;
pub mod diff;
mod documents;
pub mod error;
pub mod errors;
pub mod inside;
pub mod interrupt;
pub mod job;
mod metadata;
mod opening;
mod placing;
mod process;
pub mod progress;
pub mod prune;
mod reading;
mod receipts;
pub mod register;
mod reopening;
mod resolve;
pub mod restore;
mod seal;
pub mod unlock;
pub mod verifier;
pub mod worker;

pub use coordinator::{Sealed, back_up};
pub use destinations::{Destination, Destinations};
pub use error::EngineError;
pub use job::{BackupJob, Endpoint, Placement};
pub use register::{Decided, Register};

use futures::future::BoxFuture;

use crate::telemetry::spans;

/// Does `work` as a part of the run's trace. On the heap: parts lie in parts, and each would have room for all below
/// it; a debug build's stack does not.
///
/// # Errors
/// Those of `work`; the trace has their reason.
#[inline(never)]
pub(crate) fn told<'a, T: 'a>(
    part: tracing::Span,
    work: impl Future<Output = Result<T, EngineError>> + Send + 'a,
) -> BoxFuture<'a, Result<T, EngineError>> {
    Box::pin(spans::told(part, |error: &EngineError| error.reason(), work))
}

/// The only place where an error may be dropped, with the reason why that is right. The library's own tests panic,
/// and so does a debug build where `VOUCHSAFE_STRICT` is set, so that nobody uses it for what matters.
pub(crate) fn best_effort<E: std::fmt::Display>(why: &'static str, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::warn!(%error, why, "went on without it");
        assert!(!is_strict(), "{why}: {error}");
    }
}

/// Whether nothing may be gone on without: a release build never is.
fn is_strict() -> bool {
    cfg!(debug_assertions) && (cfg!(test) || std::env::var_os("VOUCHSAFE_STRICT").is_some())
}
