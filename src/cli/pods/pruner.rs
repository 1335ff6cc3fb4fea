//! `vouchsafe pruner`: retires what the controller proposes and the retention doesn't keep, and deletes what was given
//! up long enough ago.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;

use super::super::options::{self, ToolArguments};
use super::super::output::Reason;
use super::super::run;
use super::super::run::file::Scope;
use super::super::run::stores;
use super::super::{Failure, OutputFormat, output, progress, prune, signals};
use super::{Given, last_word};
use crate::api::{LastWord, ValidatedBackupStore, ValidatedSchedule};
use crate::engine::EngineError;
use crate::engine::prune::{PruneJob, PruneRule, Pruned, consume, plan};
use crate::plan::cron;

#[derive(Args, Debug)]
pub(in crate::cli) struct Pruner {
    #[command(flatten)]
    given: Given,
    /// The BackupSchedule
    #[arg(long, value_name = "NAME")]
    schedule: String,
    /// The run of a Backup that the controller proposes to retire; may be repeated. Only these go, and of these only
    /// what the retention, applied to the runs in the bucket, does not keep
    #[arg(long = "run", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Vec<u32>,
    /// How long ago a run was given up before anything of it is deleted
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = options::duration)]
    minimum_age: Duration,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Pruner {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let ended = self.prune(output).await;
        let word = match &ended {
            Ok((pruned, gone)) => said(pruned, gone),
            Err((failure, again)) => LastWord::Failed { failure: super::failure(failure), again: *again },
        };
        last_word::leave(&self.given.last_word, &word)?;
        let (pruned, _) = ended.map_err(|(failure, _)| failure)?;
        output::print(&format!("{} backups are retired", pruned.retired.len()))?;
        prune::refused(&pruned)
    }

    /// What was done, and which of the runs asked for are backups no more.
    async fn prune(&self, output: OutputFormat) -> Result<(Pruned, Vec<u32>), (Failure, bool)> {
        let job = self.job(output).await.map_err(|failure| (failure, false))?;
        let work = async {
            let shown = plan(&job).await?;
            let pruned = consume(&job, &shown).await?;
            let is_gone = |run: &&u32| shown.retired.contains(run) || pruned.retired.contains(run);
            let gone: BTreeSet<u32> = self.runs.iter().filter(is_gone).copied().collect();
            Ok((pruned, gone.into_iter().collect()))
        };
        work.await.map_err(|error: EngineError| {
            let again = may_do_better(&error);
            (Failure::from(error), again)
        })
    }

    async fn job(&self, output: OutputFormat) -> Result<PruneJob, Failure> {
        let interrupt = signals::interrupt()?;
        let objects = self.given.objects()?;
        let schedule: ValidatedSchedule =
            run::file::validated("BackupSchedule", objects.of(None).schedule(&self.schedule)?.clone())?;
        super::about("pruner", &schedule.identity, None, None);
        let uid = schedule.identity.uid.clone();
        let uid =
            uid.ok_or_else(|| Failure::internal("the BackupSchedule has no UID: no API server made it"))?;
        let scope = objects.of(schedule.identity.namespace.as_deref());
        let store = scope.store(&schedule.template.store, "spec.template.spec.storeRef")?;
        // Without a word on what has no effect elsewhere: here deleteCredentialsSecret has one.
        let store = that_may_delete(run::file::validated("BackupStore", store.clone())?)?;
        must_be_mounted(&store, &scope)?;
        let opened = stores::open(&store, schedule.template.collection.as_deref(), None, &scope).await?;
        let zone = cron::zone(&schedule.time_zone).map_err(|error| {
            Failure::usage(format!("spec.timeZone: {error}"), "take a name such as Europe/Berlin")
        })?;
        // Without a retention everything is kept, whatever is proposed.
        let runs: BTreeSet<u32> = match schedule.retention {
            Some(_) => self.runs.iter().copied().collect(),
            None => BTreeSet::new(),
        };
        let minimum = schedule.retention.map_or(1, |retention| retention.minimum);
        Ok(PruneJob {
            owner: uid,
            destinations: opened.destinations,
            register: opened.register,
            rule: PruneRule { runs: Some(runs), retention: schedule.retention, zone, minimum, owner: None },
            minimum_age: self.minimum_age,
            parallelism: schedule.template.parallelism.get() as usize,
            tools: self.tools.tools(),
            interrupt,
            progress: progress::shown(output),
        })
    }
}

/// The store, with each destination opened by what only prunes get. Who has credentials of its own for writing must
/// give a prune some of its own, too: with the writer's it would either fail, or show that the writer may delete.
pub(super) fn that_may_delete(mut store: ValidatedBackupStore) -> Result<ValidatedBackupStore, Failure> {
    for destination in &mut store.destinations {
        if destination.credentials_secret.is_some() && destination.delete_credentials_secret.is_none() {
            let message = format!(
                "spec.destinations[{}] of BackupStore {} has credentialsSecret and no deleteCredentialsSecret",
                destination.name, store.identity.name
            );
            let hint = "set deleteCredentialsSecret: only prunes get it, and it must allow deleting, besides what a \
                        backup needs";
            return Err(Failure::failed(Reason::DeleteCredentialsMissing, message, hint));
        }
        destination.credentials_secret = destination.delete_credentials_secret.take();
    }
    Ok(store)
}

/// The Secrets of a store that [`that_may_delete`] has answered, by the field that names them.
pub(super) fn must_be_mounted(store: &ValidatedBackupStore, scope: &Scope<'_>) -> Result<(), Failure> {
    for destination in &store.destinations {
        if let Some(secret) = &destination.credentials_secret {
            let field = format!("spec.destinations[{}].deleteCredentialsSecret", destination.name);
            scope.secret(&field, secret)?;
        }
    }
    Ok(())
}

/// The last word of a prune; `gone` is what of the runs asked for is no backup any more.
pub(super) fn said(pruned: &Pruned, gone: &[u32]) -> LastWord {
    let deleted = &pruned.deleted;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    LastWord::Pruned {
        run: pruned.run,
        retired: count(pruned.retired.len()),
        gone: gone.to_vec(),
        deleted_objects: deleted.size.objects,
        deleted_bytes: deleted.size.bytes,
        refused_objects: deleted.refused_objects,
        waiting: count(deleted.waiting.len()),
        failure: prune::refused(pruned).err().map(|failure| super::failure(&failure)),
    }
}

/// Whether another attempt may do better: nothing is wrong with the bucket or the request, only with the moment.
pub(super) fn may_do_better(error: &EngineError) -> bool {
    match error {
        EngineError::Store(error) => error.kind().retryable(),
        EngineError::Interrupted
        | EngineError::LeftOpen { .. }
        | EngineError::LostTurn { .. }
        | EngineError::DecidedElsewhere { .. }
        | EngineError::OutcomeUnknown { .. }
        | EngineError::PruneOutdated(_)
        | EngineError::Busy { .. } => true,
        _ => false,
    }
}
