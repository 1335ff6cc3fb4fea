//! What a worker or a verifier is at: one destination of one Backup's run.

use std::sync::Arc;

use clap::Args;

use super::super::Failure;
use super::super::run::{self, Objects, stores, validated_store};
use super::{Given, last_word};
use crate::api::{LastWord, ValidatedBackup, ValidatedDestination};
use crate::engine::{Destination, EngineError};
use crate::format::PlanId;
use crate::store::retry::ErrorCounts;

/// Which Backup, run and destination.
#[derive(Args, Debug)]
pub(super) struct Assignment {
    #[command(flatten)]
    given: Given,
    /// The Backup
    #[arg(long, value_name = "NAME")]
    backup: String,
    /// The destination
    #[arg(long, value_name = "NAME")]
    destination: String,
    /// The run
    #[arg(long, value_name = "N")]
    pub(super) run: u32,
    /// The plan
    #[arg(long, value_name = "ID")]
    pub(super) plan: PlanId,
}

/// The same, found and opened.
pub(super) struct Assigned {
    pub(super) objects: Objects,
    pub(super) backup: ValidatedBackup,
    pub(super) destination: ValidatedDestination,
    pub(super) opened: Destination,
}

impl Assignment {
    /// Opens the destination for `process`; whoever writes there heeds `spec.rateLimit`.
    pub(super) async fn open(&self, process: &'static str, writes: bool) -> Result<Assigned, Failure> {
        let objects = self.given.objects()?;
        let backup: ValidatedBackup =
            run::file::validated("Backup", objects.of(None).backup(&self.backup)?.clone())?;
        super::about(process, &backup.identity, Some(self.run), Some(&self.destination));
        let scope = objects.of(backup.identity.namespace.as_deref());
        let store = validated_store(scope.store(&backup.spec.store, "spec.storeRef")?)?;
        let destination = store.destinations.into_iter().find(|it| it.name == self.destination);
        let destination =
            destination.ok_or_else(|| EngineError::DestinationMissing(self.destination.clone()))?;
        let errors = Arc::new(ErrorCounts::default());
        let collection = backup.spec.collection.as_deref();
        let limit = backup.spec.rate_limit.filter(|_| writes);
        let opened = stores::open_one(&destination, collection, limit, &scope, &errors).await?;
        Ok(Assigned { objects, backup, destination, opened })
    }

    /// Leaves the last word.
    pub(super) fn leave(&self, word: &LastWord) -> Result<(), Failure> {
        last_word::leave(&self.given.last_word, word)
    }
}
