//! SIGINT voids the run and cleans up; SIGTERM (an eviction) leaves it open for its owner.

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::engine::interrupt::{Interrupt, Interruption};

/// An interrupt that the process's signals trigger. A second SIGINT ends the process at once.
pub(super) fn interrupt() -> Result<Interrupt, Failure> {
    let failed = |error: std::io::Error| Failure::internal(format!("signals: {error}"));
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let (interrupt, trigger) = Interrupt::new();
    tokio::spawn(async move {
        tokio::select! {
            _ = int.recv() => trigger.send(Interruption::Cancel),
            _ = term.recv() => trigger.send(Interruption::Leave),
        }
        int.recv().await;
        std::process::exit(130);
    });
    Ok(interrupt)
}
