//! `vouchsafe worker`: settles the tickets of one destination.

use clap::Args;

use super::super::{Failure, OutputFormat, output, progress, run, signals};
use super::assignment::Assignment;
use crate::api::LastWord;
use crate::engine::EngineError;
use crate::engine::worker::{WorkerOrder, work};
use crate::format::Sha256Digest;
use crate::source::Recovery;

#[derive(Args, Debug)]
pub(in crate::cli) struct Worker {
    #[command(flatten)]
    of: Assignment,
    /// A server that may hold their data; may be repeated
    #[arg(long = "endpoint", value_name = "NAME", required = true)]
    endpoints: Vec<String>,
    /// SHA-256 of the tickets as stored
    #[arg(long, value_name = "SHA256")]
    tickets: Sha256Digest,
}

impl Worker {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let ended = self.work(output).await;
        let word = match &ended {
            Ok(()) => LastWord::Settled,
            Err((failure, again)) => LastWord::Failed { failure: super::failure(failure), again: *again },
        };
        self.of.leave(&word)?;
        ended.map_err(|(failure, _)| failure)?;
        output::print("every ticket is settled")
    }

    async fn work(&self, output: OutputFormat) -> Result<(), (Failure, bool)> {
        let order = self.order(output).await.map_err(|failure| (failure, false))?;
        work(order).await.map_err(|error| {
            let again = match &error {
                EngineError::Source(source) => source.recovery() == Recovery::Reconnect,
                // SIGTERM: an eviction, a drained node.
                EngineError::Interrupted => true,
                _ => false,
            };
            (Failure::from(error), again)
        })
    }

    async fn order(&self, output: OutputFormat) -> Result<WorkerOrder, Failure> {
        let interrupt = signals::interrupt()?;
        let assigned = self.of.open("worker", true).await?;
        let (backup, objects) = (&assigned.backup, &assigned.objects);
        let scope = objects.of(backup.identity.namespace.as_deref());
        let source = &backup.spec.source;
        let named = source.endpoints.iter().filter(|endpoint| self.endpoints.contains(&endpoint.name));
        let endpoints = named.map(|endpoint| run::endpoint(endpoint, &source.database, &scope));
        let endpoints = endpoints.collect::<Result<_, _>>()?;
        Ok(WorkerOrder {
            run: self.of.run,
            plan: self.of.plan,
            tickets: self.tickets,
            store: assigned.opened.store.clone(),
            endpoints,
            parallelism: backup.spec.parallelism.get() as usize,
            interrupt,
            progress: progress::shown(output),
        })
    }
}
