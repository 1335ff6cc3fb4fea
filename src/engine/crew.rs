//! Who works and who verifies for a coordinator: tasks of this process, or pods that it never speaks to.

use async_trait::async_trait;

use std::collections::BTreeSet;

use super::destinations::Destinations;
use super::documents;
use super::error::EngineError;
use super::interrupt::{Interrupt, Interruption, Trigger};
use super::job::BackupJob;
use super::told;
use super::verifier::{self, Question};
use super::worker::{self, WorkerOrder};
use crate::format::{Key, Order, Sha256Digest, Ticket, Tickets};
use crate::ledger::Witness;
use crate::source::Recovery;
use crate::telemetry::spans::{part, short};

/// Starts of a worker within one plan: its receipts are its checkpoint, so a start costs one reading of them.
const STARTS_PER_WORKER: u32 = 3;

/// The tickets of one destination, as they lie there.
#[derive(Clone, Debug)]
pub struct WorkOrder {
    /// The tickets.
    pub tickets: Tickets,
    /// SHA-256 of them as stored.
    pub sha256: Sha256Digest,
}

impl WorkOrder {
    /// Tickets that are a worker's; the others are the coordinator's own.
    #[must_use]
    pub fn count(&self) -> usize {
        self.of_worker().count()
    }

    fn of_worker(&self) -> impl Iterator<Item = &Ticket> {
        self.tickets.tickets.iter().filter(|ticket| match &ticket.order {
            Order::Rows { .. } | Order::LargeObjects { .. } => true,
            Order::Schema { .. } | Order::Catalog { .. } => false,
        })
    }

    /// How many of a worker's tickets have a receipt, for people to see: a list may be stale, and nothing is decided
    /// by it.
    ///
    /// # Errors
    /// When the destination can't be listed.
    pub async fn settled(&self, destinations: &Destinations) -> Result<usize, EngineError> {
        let store = &*destinations.named(&self.tickets.destination)?.store;
        let receipts = Key::receipts(self.tickets.run, &self.tickets.plan);
        let keys = documents::list_all(store, Some(&receipts)).await?;
        let ticket = |key: &Key| key.as_str().rsplit('/').next()?.split('.').next()?.parse().ok();
        let listed: BTreeSet<u32> = keys.iter().filter_map(ticket).collect();
        Ok(self.of_worker().filter(|ticket| listed.contains(&ticket.id)).count())
    }

    /// Bytes of rows that lie in the destination, of this plan; what a killed worker has left counts too.
    ///
    /// # Errors
    /// When the destination can't be listed.
    pub async fn stored(&self, destinations: &Destinations) -> Result<u64, EngineError> {
        let store = &*destinations.named(&self.tickets.destination)?.store;
        let data = Key::all_data(self.tickets.run, &self.tickets.plan);
        Ok(documents::list_sized(store, Some(&data)).await?.iter().map(|(_, length)| length).sum())
    }
}

/// Workers and verifiers. Neither what they do nor what they say is believed by the coordinator: receipts are
/// collected and balanced, verdicts are read and compared.
#[async_trait]
pub trait Crew: std::fmt::Debug + Send + Sync {
    /// Has the tickets of every destination settled. Ends when every worker has ended, well or not.
    ///
    /// # Errors
    /// The first failure of a worker; the others are stopped by then.
    async fn export(
        &self,
        job: &BackupJob,
        orders: &[WorkOrder],
        interrupt: &Interrupt,
        stop: &Trigger,
    ) -> Result<(), EngineError>;

    /// Has every question answered by a verdict in its destination, and says what saw each verifier end.
    ///
    /// # Errors
    /// The first verifier that could not answer. Damage is no error: the verdict says it.
    async fn verify(&self, job: &BackupJob, questions: Vec<Question>) -> Result<Vec<Witness>, EngineError>;
}

/// Tasks of the coordinator's own process.
#[derive(Debug)]
pub struct InThisProcess;

#[async_trait]
impl Crew for InThisProcess {
    /// One worker for each destination; a worker whose connection broke is started again, and goes on.
    async fn export(
        &self,
        job: &BackupJob,
        orders: &[WorkOrder],
        interrupt: &Interrupt,
        stop: &Trigger,
    ) -> Result<(), EngineError> {
        let mut workers = tokio::task::JoinSet::new();
        for WorkOrder { tickets, sha256 } in orders {
            let order = WorkerOrder {
                run: tickets.run,
                plan: tickets.plan,
                tickets: *sha256,
                store: job.destinations.named(&tickets.destination)?.store.clone(),
                endpoints: job.endpoints.clone(),
                parallelism: job.parallelism,
                interrupt: interrupt.clone(),
                progress: job.progress.clone(),
            };
            let errors = job.errors.clone();
            let part = part!("worker", destination = short(&tickets.destination));
            workers.spawn(told(part, async move {
                for start in 1.. {
                    match worker::work(order.clone()).await {
                        Err(EngineError::Source(error))
                            if error.recovery() == Recovery::Reconnect && start < STARTS_PER_WORKER =>
                        {
                            errors.note("worker", error.reason());
                        }
                        ended => return ended,
                    }
                }
                Ok(())
            }));
        }
        let mut first = Ok(());
        while let Some(joined) = workers.join_next().await {
            let ended =
                joined.unwrap_or_else(|error| Err(EngineError::Task(format!("a worker died: {error}"))));
            // What the others would still export is of no use; how they end follows from this.
            first = first.and(first_of_all(stop, ended));
        }
        first
    }

    async fn verify(&self, job: &BackupJob, questions: Vec<Question>) -> Result<Vec<Witness>, EngineError> {
        let mut verifiers = tokio::task::JoinSet::new();
        for question in questions {
            let store = job.destinations.named(&question.destination)?.store.clone();
            let (tools, parallelism, progress) = (job.tools.clone(), job.parallelism, job.progress.clone());
            let part = part!("verifier", destination = short(&question.destination));
            verifiers.spawn(told(part, async move {
                verifier::verify_and_write(store, question, &tools, parallelism, &progress).await
            }));
        }
        let mut witnesses: Vec<Witness> = Vec::new();
        let mut first = Ok(());
        while let Some(joined) = verifiers.join_next().await {
            match joined {
                Ok(Ok(witness)) => witnesses.push(witness),
                Ok(Err(error)) => first = first.and(Err(error)),
                Err(error) => first = first.and(Err(EngineError::Task(format!("a verifier died: {error}")))),
            }
        }
        first.map(|()| witnesses)
    }
}

/// A failure stops the other parts of an export.
pub(super) fn first_of_all<T>(others: &Trigger, ended: Result<T, EngineError>) -> Result<T, EngineError> {
    if ended.is_err() {
        others.send(Interruption::Leave);
    }
    ended
}
