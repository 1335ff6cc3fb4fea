//! `vouchsafe deleter`: deletes what one Backup has stored, after its resource was deleted with `deletionPolicy: Delete`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;

use super::super::options::ToolArguments;
use super::super::run;
use super::super::run::stores;
use super::super::{Failure, OutputFormat, output, progress, prune, signals};
use super::pruner::{may_do_better, must_be_mounted, said, that_may_delete};
use super::{Given, about, last_word};
use crate::api::{DeletionPolicy, Identity, LastWord};
use crate::engine::EngineError;
use crate::engine::job::owner_of;
use crate::engine::prune::{PruneJob, PruneRule, Pruned, delete_of_owner};

/// Objects read at once. Nothing is verified here: what goes is the user's word.
const PARALLELISM: usize = 1;

#[derive(Args, Debug)]
pub(in crate::cli) struct Deleter {
    #[command(flatten)]
    given: Given,
    /// The Backup. What its UID has claimed in the bucket goes, and nothing else
    #[arg(long, value_name = "NAME")]
    backup: String,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Deleter {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let ended = self.delete(output).await;
        let word = match &ended {
            Ok(pruned) => said(pruned, &pruned.retired),
            Err((failure, again)) => LastWord::Failed { failure: super::failure(failure), again: *again },
        };
        last_word::leave(&self.given.last_word, &word)?;
        let pruned = ended.map_err(|(failure, _)| failure)?;
        output::print(&format!("{} objects are deleted", pruned.deleted.size.objects))?;
        prune::refused(&pruned)
    }

    async fn delete(&self, output: OutputFormat) -> Result<Pruned, (Failure, bool)> {
        let job = self.job(output).await.map_err(|failure| (failure, false))?;
        delete_of_owner(&job).await.map_err(|error: EngineError| {
            // Somebody else's run is in the way, and will be decided.
            let again = may_do_better(&error) || matches!(error, EngineError::HeldByAnother { .. });
            (Failure::from(error), again)
        })
    }

    async fn job(&self, output: OutputFormat) -> Result<PruneJob, Failure> {
        let interrupt = signals::interrupt()?;
        let objects = self.given.objects()?;
        let backup = objects.of(None).backup(&self.backup)?;
        let metadata = backup.metadata.clone();
        let identity = Identity {
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace,
            uid: metadata.uid,
        };
        about("deleter", &identity, None, None);
        let uid = identity.uid.clone();
        let uid = uid.ok_or_else(|| Failure::internal("the Backup has no UID: no API server made it"))?;
        // The controller starts none otherwise. This is what it was given, and the last look before data goes.
        if backup.spec.deletion_policy != Some(DeletionPolicy::Delete) {
            return Err(Failure::internal("the Backup does not say deletionPolicy: Delete"));
        }
        let scope = objects.of(identity.namespace.as_deref());
        let store = scope.store(&backup.spec.store_ref.name, "spec.storeRef")?;
        let store = that_may_delete(run::file::validated("BackupStore", store.clone())?)?;
        must_be_mounted(&store, &scope)?;
        let opened = stores::open(&store, backup.spec.collection.as_deref(), None, &scope).await?;
        Ok(PruneJob {
            // Not the UID alone: an open run of that owner is the backup's, and this is another's.
            owner: owner_of(&["delete".to_owned(), uid.clone()]),
            destinations: opened.destinations,
            register: opened.register,
            rule: PruneRule {
                runs: Some(BTreeSet::new()),
                retention: None,
                zone: TimeZone::UTC,
                minimum: 1,
                owner: Some(uid),
            },
            minimum_age: Duration::ZERO,
            parallelism: PARALLELISM,
            tools: self.tools.tools(),
            interrupt,
            progress: progress::shown(output),
        })
    }
}
