//! `vouchsafe worker`: settles the tickets of one destination.

use std::sync::Arc;

use clap::Args;

use super::super::run::stores;
use super::super::run::{self, validated_store};
use super::super::{Failure, OutputFormat, output, progress, signals};
use super::{Given, last_word};
use crate::api::{LastWord, ValidatedBackup};
use crate::engine::EngineError;
use crate::engine::worker::{WorkerOrder, work};
use crate::format::{PlanId, Sha256Digest};
use crate::source::Recovery;
use crate::store::retry::ErrorCounts;

#[derive(Args, Debug)]
pub(in crate::cli) struct Worker {
    #[command(flatten)]
    given: Given,
    /// The Backup
    #[arg(long, value_name = "NAME")]
    backup: String,
    /// The destination whose tickets these are
    #[arg(long, value_name = "NAME")]
    destination: String,
    /// A server that may hold their data; may be repeated
    #[arg(long = "endpoint", value_name = "NAME", required = true)]
    endpoints: Vec<String>,
    /// The run
    #[arg(long, value_name = "N")]
    run: u32,
    /// The plan
    #[arg(long, value_name = "ID")]
    plan: PlanId,
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
        last_word::leave(&self.given.last_word, &word)?;
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
        let objects = self.given.objects()?;
        let backup: ValidatedBackup =
            run::file::validated("Backup", objects.of(None).backup(&self.backup)?.clone())?;
        super::about("worker", &backup.identity, Some(self.run), Some(&self.destination));
        let scope = objects.of(backup.identity.namespace.as_deref());
        let store = validated_store(scope.store(&backup.spec.store, "spec.storeRef")?)?;
        let destination = store.destinations.iter().find(|it| it.name == self.destination);
        let destination =
            destination.ok_or_else(|| EngineError::DestinationMissing(self.destination.clone()))?;
        let errors = Arc::new(ErrorCounts::default());
        let collection = backup.spec.collection.as_deref();
        let opened =
            stores::open_one(destination, collection, backup.spec.rate_limit, &scope, &errors).await?;
        let source = &backup.spec.source;
        let named = source.endpoints.iter().filter(|endpoint| self.endpoints.contains(&endpoint.name));
        let endpoints = named.map(|endpoint| run::endpoint(endpoint, &source.database, &scope));
        Ok(WorkerOrder {
            run: self.run,
            plan: self.plan,
            tickets: self.tickets,
            store: opened.store,
            endpoints: endpoints.collect::<Result<_, _>>()?,
            parallelism: backup.spec.parallelism.get() as usize,
            interrupt,
            progress: progress::shown(output),
        })
    }
}
