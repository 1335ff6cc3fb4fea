//! `vouchsafe coordinator`: makes one Backup, with workers and verifiers that the controller starts as pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::super::options::{self, ToolArguments};
use super::super::run::stores::name_of;
use super::super::run::{self, Means, validated_store};
use super::super::{Failure, OutputFormat, output, progress, signals};
use super::crew::{InPods, Names};
use super::publication::Publication;
use super::{Given, last_word};
use crate::api::{self, LastWord, ValidatedBackup, digest_of_verdicts};
use crate::engine::backups;
use crate::engine::interrupt::{Deadline, Interruption};
use crate::engine::{BackupJob, Decided, EngineError, Sealed, back_up};
use crate::format::{Decision, ErrorEntry};

/// Most reasons of errors in a last word: each is a short word of ours, and all have to fit.
const MAX_REASONS: usize = 24;

#[derive(Args, Debug)]
pub(in crate::cli) struct Coordinator {
    #[command(flatten)]
    given: Given,
    /// The Backup
    #[arg(long, value_name = "NAME")]
    backup: String,
    /// Which attempt this is, from 1
    #[arg(long, value_name = "N")]
    attempt: u32,
    /// What is left of the time for all of it, such as 6h
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    time_left: Option<Duration>,
    /// An owner that is gone: its open run is voided if nobody is at it
    #[arg(long, value_name = "UID")]
    orphan: Option<String>,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Coordinator {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let word = self.coordinate(output).await?;
        last_word::leave(&self.given.last_word, &word)?;
        match word {
            LastWord::Sealed { run, .. } => output::print(&format!("run {run} is sealed")),
            LastWord::Void { failure, .. }
            | LastWord::LeftOpen { failure }
            | LastWord::Held { failure, .. }
            | LastWord::Failed { failure, .. } => {
                output::print(&format!("{}: {}", failure.reason, failure.message))
            }
            LastWord::Settled
            | LastWord::Verdict { .. }
            | LastWord::Restored { .. }
            | LastWord::Canceled { .. }
            | LastWord::NotYet { .. }
            | LastWord::Pruned { .. }
            | LastWord::Probed { .. } => Ok(()),
        }
    }

    async fn coordinate(&self, output: OutputFormat) -> Result<LastWord, Failure> {
        let deadline = self.time_left.map(Deadline::within);
        let (interrupt, cancel) = signals::interrupt()?.of_part();
        let prepared = async {
            let objects = self.given.objects()?;
            let backup: ValidatedBackup =
                run::file::validated("Backup", objects.of(None).backup(&self.backup)?.clone())?;
            let identity = &backup.identity;
            super::about("coordinator", identity, None, None);
            let store =
                objects.of(identity.namespace.as_deref()).store(&backup.spec.store, "spec.storeRef")?;
            let store = validated_store(store)?;
            let names: Names = store.destinations.iter().map(|it| (name_of(it), it.name.clone())).collect();
            let uid = identity.uid.clone();
            let uid = uid.ok_or_else(|| Failure::internal("the Backup has no UID: no API server made it"))?;
            let publication = Publication::of(identity, self.attempt).await?;
            let publication = Arc::new(publication);
            let means = Means {
                owner: uid,
                crew: Arc::new(InPods::new(publication.clone(), names.clone())),
                tools: self.tools.tools(),
                deadline,
                interrupt,
                progress: publication.progress(progress::shown(output)),
            };
            let mut job = run::backup_job(&objects, &backup, means).await?;
            job.register = job.register.voiding(self.orphan.clone());
            Ok((publication, job, names))
        };
        let (publication, job, names) = match prepared.await {
            Ok(prepared) => prepared,
            // An earlier attempt may have claimed a run, which this one can't reach.
            Err(error) if self.attempt > 1 => {
                return Ok(LastWord::LeftOpen { failure: super::failure(&error) });
            }
            // Refused before anything was touched: no run was claimed.
            Err(error) => return Ok(void(None, &error)),
        };
        let watching = publication.watch_for_cancel(move || cancel.send(Interruption::Cancel));
        let word = self.make(&job, &names).await;
        watching.abort();
        if let LastWord::Sealed { run, rows, bytes_stored, .. } = &word {
            publication.completed(*run, *rows, *bytes_stored).await;
        }
        Ok(word)
    }

    async fn make(&self, job: &BackupJob, names: &Names) -> LastWord {
        if self.attempt > 1 {
            // An earlier attempt may have decided the run, and died before it could say so.
            match job.register.decided_of(&job.owner).await {
                Ok(None) => {}
                Ok(Some((run, decided))) => return said_before(job, names, run, decided).await,
                Err(error) => return open(error),
            }
        }
        match back_up(job).await {
            Ok(sealed) => said(job, names, &sealed).await,
            Err(
                error @ (EngineError::LeftOpen { .. }
                | EngineError::LostTurn { .. }
                | EngineError::OutcomeUnknown { .. }),
            ) => open(error),
            Err(error @ EngineError::Busy { .. }) => held(error),
            Err(error @ EngineError::HeldByAnother { .. }) => held(error),
            Err(EngineError::DecidedElsewhere { run, outcome }) => {
                let decided =
                    Decided { sha256: crate::format::Sha256Digest::of(b""), outcome: *outcome, ours: false };
                said_before(job, names, run, decided).await
            }
            // Nothing was claimed yet, or an earlier attempt's run was not taken over: an eviction ends no run.
            Err(error @ EngineError::Interrupted) if job.interrupt.asked() == Some(Interruption::Leave) => {
                open(error)
            }
            Err(error) => self.given_up(job, names, error).await,
        }
    }

    /// This attempt claims no run any more. One that an earlier attempt has left open is voided before anybody says
    /// that there is none.
    async fn given_up(&self, job: &BackupJob, names: &Names, error: EngineError) -> LastWord {
        if self.attempt > 1 {
            match job.register.void_of(&job.owner, error.reason(), &error.to_string()).await {
                Ok(None) => {}
                Ok(Some((run, decided))) => return said_before(job, names, run, decided).await,
                Err(unknown) => return open(unknown),
            }
        }
        let canceled = matches!(error, EngineError::Interrupted);
        LastWord::Void { run: None, failure: super::failure(&Failure::from(error)), canceled }
    }
}

/// The run is sealed: what its outcome names, read from the bucket.
async fn said(job: &BackupJob, names: &Names, sealed: &Sealed) -> LastWord {
    match job.register.outcome(sealed.run).await {
        Ok(Some(decided)) => said_before(job, names, sealed.run, decided).await,
        Ok(None) => open(EngineError::Damaged(format!("the outcome of run {} is gone", sealed.run))),
        Err(error) => open(error),
    }
}

/// What an outcome says, whoever created it.
async fn said_before(job: &BackupJob, names: &Names, run: u32, decided: Decided) -> LastWord {
    let sealed_at = decided.outcome.decided.to_string();
    let verdicts = match decided.outcome.decision {
        Decision::Void { reason, message } => {
            let canceled = reason == EngineError::Interrupted.reason();
            let hint = "the next Backup makes a new run".to_owned();
            return LastWord::Void {
                run: Some(run),
                failure: api::Failure { reason, message, hint },
                canceled,
            };
        }
        Decision::Pruned { .. } => {
            return open(EngineError::Task(format!("run {run} of this Backup is a prune")));
        }
        Decision::Sealed { verdicts, .. } => verdicts,
    };
    let verdicts: Vec<(String, String)> = (verdicts.iter())
        .filter_map(|it| Some((names.get(&it.destination)?.clone(), it.sha256.to_string())))
        .collect();
    match backups::open(&job.destinations, &job.register, run).await {
        Err(error) => open(error),
        Ok(backup) => LastWord::Sealed {
            run,
            manifest_sha256: backup.manifest_sha256.to_string(),
            verdicts_sha256: digest_of_verdicts(verdicts.iter().map(|(name, sha256)| (&**name, &**sha256))),
            objects_read: backup.manifest.destinations.iter().map(|it| it.objects).sum(),
            bytes_read: backup.manifest.stored_bytes,
            rows: backup.manifest.rows,
            bytes_stored: backup.manifest.stored_bytes,
            sealed_at,
            taken: backup
                .manifest
                .endpoints
                .iter()
                .map(|it| it.taken)
                .min()
                .unwrap_or(backup.manifest.written)
                .to_string(),
            errors: by_reason(&backup.manifest.errors),
        },
    }
}

/// Of an error ledger, as many reasons as a last word has room for.
fn by_reason(errors: &[ErrorEntry]) -> BTreeMap<String, u64> {
    let mut met = BTreeMap::new();
    for error in errors {
        if met.len() < MAX_REASONS || met.contains_key(&error.kind) {
            *met.entry(error.kind.clone()).or_default() += error.met;
        }
    }
    met
}

/// Somebody else's run is in the way.
fn held(error: EngineError) -> LastWord {
    let (run, owner, alive) = match &error {
        EngineError::Busy { run, owner, .. } => (*run, owner.clone(), true),
        EngineError::HeldByAnother { run, owner } => (*run, owner.clone(), false),
        _ => return open(error),
    };
    LastWord::Held { run, owner, alive, failure: super::failure(&Failure::from(error)) }
}

fn open(error: EngineError) -> LastWord {
    LastWord::LeftOpen { failure: super::failure(&Failure::from(error)) }
}

fn void(run: Option<u32>, error: &Failure) -> LastWord {
    LastWord::Void { run, failure: super::failure(error), canceled: false }
}
