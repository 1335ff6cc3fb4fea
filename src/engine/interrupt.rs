//! Asking a run to stop.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use super::error::EngineError;

/// How a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Void the run and clean up: a person's SIGINT, or `cancel`.
    Cancel,
    /// Leave the run open for its owner: SIGTERM, an eviction.
    Leave,
    /// Void the run and clean up: the time that it was given has passed.
    Deadline(Duration),
}

/// Until when something must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The time that was given.
    pub limit: Duration,
    /// When it ends.
    pub at: tokio::time::Instant,
}

impl Deadline {
    /// `limit` from now on: to be made when a command begins.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self { limit, at: tokio::time::Instant::now() + limit }
    }

    /// Waits for `work`, which is asked by `stop` to end when the time has passed, and is waited for then, too: it
    /// takes back what it has made.
    pub async fn over<T>(self, stop: Trigger, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => done,
            () = tokio::time::sleep_until(self.at) => {
                stop.send(Interruption::Deadline(self.limit));
                work.await
            }
        }
    }
}

type Asked = watch::Receiver<Option<Interruption>>;

/// Where a run, or a part of one, sees that it is asked to stop.
#[derive(Clone, Debug)]
pub struct Interrupt(Vec<Asked>);

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
        (Self(vec![receiver]), Trigger(sender))
    }

    /// How this run was asked to stop, if it was.
    #[must_use]
    pub fn asked(&self) -> Option<Interruption> {
        self.0.iter().find_map(|asked| *asked.borrow())
    }

    /// The same for a part of the run, which a trigger of its own stops as well.
    #[must_use]
    pub fn of_part(&self) -> (Self, Trigger) {
        let (sender, receiver) = watch::channel(None);
        let all = self.0.iter().cloned().chain(std::iter::once(receiver));
        (Self(all.collect()), Trigger(sender))
    }

    /// Waits until it is asked to stop.
    pub async fn wait(&self) {
        let any = self.0.iter().map(|asked| {
            let mut asked = asked.clone();
            Box::pin(async move {
                if asked.wait_for(Option::is_some).await.is_err() {
                    // Nobody is left who could ask.
                    std::future::pending::<()>().await;
                }
            })
        });
        futures::future::select_all(any).await;
    }

    /// Runs `work` until it ends or the run is asked to stop.
    ///
    /// # Errors
    /// [`EngineError::Interrupted`] or [`EngineError::DeadlineExceeded`], or what `work` fails with.
    pub async fn race<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        tokio::select! {
            result = work => result,
            () = self.wait() => Err(self.stopped()),
        }
    }

    /// What work that was asked to stop fails with.
    pub(crate) fn stopped(&self) -> EngineError {
        match self.asked() {
            Some(Interruption::Deadline(limit)) => EngineError::DeadlineExceeded(limit),
            Some(Interruption::Cancel | Interruption::Leave) | None => EngineError::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_stops_with_its_run_and_a_run_not_with_its_part() {
        let (run, of_run) = Interrupt::new();
        let (part, of_part) = run.of_part();
        let (other, _of_other) = run.of_part();
        of_part.send(Interruption::Leave);
        let endless = || std::future::pending::<Result<(), EngineError>>();
        assert!(matches!(part.race(endless()).await, Err(EngineError::Interrupted)));
        assert_eq!((part.asked(), run.asked()), (Some(Interruption::Leave), None));
        of_run.send(Interruption::Cancel);
        assert!(matches!(other.race(endless()).await, Err(EngineError::Interrupted)));
        assert_eq!(other.asked(), Some(Interruption::Cancel));
        let (late, of_late) = Interrupt::new();
        let limit = Duration::from_secs(7);
        of_late.send(Interruption::Deadline(limit));
        assert!(matches!(late.race(endless()).await, Err(EngineError::DeadlineExceeded(it)) if it == limit));
    }

    /// A restore that was dropped at its deadline had left its database.
    #[tokio::test]
    async fn work_whose_time_has_passed_is_asked_to_end_and_waited_for() {
        let (interrupt, trigger) = Interrupt::new();
        let work = async {
            let stopped = interrupt.race(std::future::pending::<Result<(), EngineError>>()).await;
            tokio::task::yield_now().await;
            (stopped, "cleaned up")
        };
        let (stopped, after) = Deadline::within(Duration::ZERO).over(trigger, work).await;
        assert!(matches!(stopped, Err(EngineError::DeadlineExceeded(Duration::ZERO))), "{stopped:?}");
        assert_eq!(after, "cleaned up");
    }
}
