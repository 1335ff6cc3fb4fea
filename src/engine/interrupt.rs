//! Asking a run to stop.

use std::future::Future;

use tokio::sync::watch;

use super::error::EngineError;

/// How a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Void the run and clean up: a person's SIGINT, or `cancel`.
    Cancel,
    /// Leave the run open for its owner: SIGTERM, an eviction.
    Leave,
}

/// Where a run sees that it is asked to stop.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<Option<Interruption>>);

/// Where a run is asked to stop. Dropping it asks nothing.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Option<Interruption>>);

impl Trigger {
    /// Asks. The first one counts.
    pub fn send(&self, how: Interruption) {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            if first {
                *asked = Some(how);
            }
            first
        });
    }
}

impl Interrupt {
    /// An interrupt and its trigger.
    #[must_use]
    pub fn new() -> (Self, Trigger) {
        let (sender, receiver) = watch::channel(None);
        (Self(receiver), Trigger(sender))
    }

    /// How this run was asked to stop, if it was.
    #[must_use]
    pub fn asked(&self) -> Option<Interruption> {
        *self.0.borrow()
    }

    async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(Option::is_some).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }

    /// Runs `work` until it ends or the run is asked to stop.
    ///
    /// # Errors
    /// [`EngineError::Interrupted`], or what `work` fails with.
    pub async fn race<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        tokio::select! {
            result = work => result,
            () = self.wait() => Err(EngineError::Interrupted),
        }
    }
}
