//! `vouchsafe restorer`: brings one backup into a database, and compares it there.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::super::options::{self, ToolArguments};
use super::super::output::Reason;
use super::super::run::{self, RestoreMeans};
use super::super::{Failure, OutputFormat, output, progress, signals};
use super::publication::Publication;
use super::{Given, last_word};
use crate::api::{LastWord, Restore, ValidatedRestore};
use crate::engine::diff::with_database;
use crate::engine::interrupt::{Deadline, Interrupt, Interruption, Trigger};
use crate::engine::restore::{RestoreJob, RestorePlace, restore};
use crate::engine::{EngineError, backups};
use crate::format::Sha256Digest;
use crate::source::target::TargetError;
use crate::source::{ClientEncoding, Recovery, Session, SourceError};

/// What is said of a Secret that is not there.
const REFERENCE_MISSING: &str = Reason::ReferenceMissing.reason();

#[derive(Args, Debug)]
pub(in crate::cli) struct Restorer {
    #[command(flatten)]
    given: Given,
    /// The Restore
    #[arg(long, value_name = "NAME")]
    restore: String,
    /// Which attempt this is, from 1
    #[arg(long, value_name = "N")]
    attempt: u32,
    /// The run that an earlier attempt has chosen
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    /// SHA-256 of the manifest, as stored, that an earlier attempt has begun to restore
    #[arg(long, value_name = "SHA256")]
    manifest: Option<Sha256Digest>,
    /// What is left of the time for all of it, such as 6h
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    time_left: Option<Duration>,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Restorer {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let word = self.work(output).await?;
        last_word::leave(&self.given.last_word, &word)?;
        match &word {
            LastWord::Restored { run, .. } => output::print(&format!("run {run} is restored")),
            LastWord::Failed { failure, .. }
            | LastWord::Canceled { failure }
            | LastWord::NotYet { failure } => {
                output::print(&format!("{}: {}", failure.reason, failure.message))
            }
            _ => Ok(()),
        }
    }

    async fn work(&self, output: OutputFormat) -> Result<LastWord, Failure> {
        let deadline = self.time_left.map(Deadline::within);
        let (interrupt, cancel) = signals::interrupt()?.of_part();
        let (interrupt, stop) = interrupt.of_part();
        let read = || {
            let objects = self.given.objects()?;
            let raw = objects.of(None).restore(&self.restore)?.clone();
            let validated: ValidatedRestore = run::file::validated("Restore", raw)?;
            Ok((objects, validated))
        };
        let (objects, validated) = match read() {
            Ok(read) => read,
            Err(error) => return Ok(failed(&error)),
        };
        let identity = &validated.identity;
        super::about("restorer", identity, self.run, None);
        let publication: Publication<Restore> = Publication::of(identity, self.attempt).await?;
        let publication = Arc::new(publication);
        let means = RestoreMeans {
            tools: self.tools.tools(),
            interrupt: interrupt.clone(),
            progress: publication.progress(progress::shown(output)),
        };
        let job = match run::restore_job(&objects, validated, means).await {
            Ok(job) => job,
            // A Secret, or one of its keys, that is made later: the kubelet mounts it for the next pod.
            Err(error) if error.reason() == REFERENCE_MISSING => {
                let mut failure = super::failure(&error);
                failure.hint = "create it: it is waited for until spec.deadline".into();
                return Ok(LastWord::NotYet { failure });
            }
            Err(error) => return Ok(failed(&error)),
        };
        let watching = publication.watch_for_cancel(move || cancel.send(Interruption::Cancel));
        let word = self.bring(job, &publication, deadline, (&interrupt, stop)).await;
        watching.abort();
        Ok(word)
    }

    async fn bring(
        &self,
        mut job: RestoreJob,
        publication: &Publication<Restore>,
        deadline: Option<Deadline>,
        (interrupt, stop): (&Interrupt, Trigger),
    ) -> LastWord {
        if let Err(error) = interrupt.race(target_is_there(&job)).await {
            return said(error, interrupt, true);
        }
        if let Err(error) = interrupt.race(self.choose(&mut job, publication)).await {
            return said(error, interrupt, false);
        }
        let restored = match deadline {
            None => restore(&job).await,
            Some(deadline) => deadline.over(stop, restore(&job)).await,
        };
        if restored.is_ok() {
            // The last of its progress, which waits for its turn otherwise.
            crate::engine::best_effort("progress is for people", publication.publish(|_| {}).await);
        }
        match restored {
            Ok(restored) => LastWord::Restored {
                run: restored.run,
                manifest_sha256: restored.manifest_sha256.to_string(),
                tables: restored.tables.len() as u64,
                rows: restored.tables.iter().map(|table| table.fingerprint.rows).sum(),
            },
            // An earlier attempt may have given the database its name, and died before it could say so.
            Err(error) if self.manifest.is_some() && is_taken(&error) => {
                match interrupt.race(compared(&job)).await {
                    Ok(Some(word)) => word,
                    Ok(None) => said(error, interrupt, false),
                    Err(error) => said(error, interrupt, false),
                }
            }
            Err(error) => said(error, interrupt, false),
        }
    }

    /// Which run and manifest it is, published before the target is touched: every attempt restores the same one,
    /// and so takes up what an earlier one has left.
    async fn choose(
        &self,
        job: &mut RestoreJob,
        publication: &Publication<Restore>,
    ) -> Result<(), EngineError> {
        let wanted = self.run.or(job.run);
        let run = backups::choose(&job.register, wanted).await?.run;
        let found = backups::open(&job.destinations, &job.register, run).await?.manifest_sha256;
        for expected in [self.manifest, job.expect_manifest].into_iter().flatten() {
            if expected != found {
                return Err(EngineError::ManifestUnexpected { run, found, expected });
            }
        }
        (job.run, job.expect_manifest) = (Some(run), Some(found));
        let published = publication.publish(|status| {
            status.number = Some(i64::from(run));
            status.manifest_sha256 = Some(found.to_string());
            status.step = Some("Resolving".into());
        });
        published.await
    }
}

/// Whether the server answers. Nothing is made yet: one that does not is waited for.
async fn target_is_there(job: &RestoreJob) -> Result<(), EngineError> {
    let entrance = match job.policy.place {
        RestorePlace::NewDatabase => job.target.with_database(&job.maintenance_database),
        RestorePlace::EmptySchemas => job.target.clone(),
    };
    let session = Session::connect(&entrance, "preflight", &ClientEncoding::Utf8).await?;
    Ok(session.close().await?)
}

/// The database of the wanted name, compared with the backup, table by table; `None` if it differs.
async fn compared(job: &RestoreJob) -> Result<Option<LastWord>, EngineError> {
    let run = job.run.ok_or_else(|| EngineError::NoBackup("no run was chosen".into()))?;
    let backup = backups::open(&job.destinations, &job.register, run).await?;
    if job.schema_only || job.dry_run || job.selection != crate::source::Selection::default() {
        return Ok(None);
    }
    let plan = backup.plan(&job.register).await?;
    let differences = with_database(&backup, &plan, &job.target, job.parallelism, &job.progress).await?;
    if differences.iter().any(|it| it.left.is_some()) {
        return Ok(None);
    }
    Ok(Some(LastWord::Restored {
        run,
        manifest_sha256: backup.manifest_sha256.to_string(),
        tables: backup.manifest.tables.len() as u64,
        rows: backup.manifest.rows,
    }))
}

fn is_taken(error: &EngineError) -> bool {
    match error {
        EngineError::Target(error) => {
            matches!(error, TargetError::DatabaseExists { .. } | TargetError::SchemaNotEmpty { .. })
        }
        EngineError::TargetUnfit { findings } => {
            findings.iter().any(|it| matches!(&*it.reason, "DatabaseExists" | "SchemaNotEmpty"))
        }
        EngineError::RestoreGivenUp { source, .. } => is_taken(source),
        _ => false,
    }
}

/// What an error is to the controller; `untouched`: the target was only asked for.
fn said(error: EngineError, interrupt: &Interrupt, untouched: bool) -> LastWord {
    let canceled = is_interrupted(&error) && !matches!(interrupt.asked(), Some(Interruption::Leave));
    let not_yet = untouched && is_absent(&error);
    let again = is_retried(&error);
    let failure = super::failure(&Failure::from(error));
    match (canceled, not_yet) {
        (true, _) => LastWord::Canceled { failure },
        (false, true) => LastWord::NotYet { failure },
        (false, false) => LastWord::Failed { failure, again },
    }
}

fn is_interrupted(error: &EngineError) -> bool {
    match error {
        EngineError::Interrupted => true,
        EngineError::RestoreGivenUp { source, .. } => is_interrupted(source),
        _ => false,
    }
}

/// Whether the server is not there, or does not take anybody yet.
const fn is_absent(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Source(SourceError::ServerUnreachable { .. } | SourceError::ServerNotReady { .. })
    )
}

/// Whether another attempt may do better: the network, a server that was restarted, an eviction. Damage, refusals
/// and differences stay what they are.
fn is_retried(error: &EngineError) -> bool {
    match error {
        EngineError::Store(error) => error.kind().retryable(),
        EngineError::Source(error) => error.recovery() == Recovery::Reconnect,
        EngineError::Target(TargetError::Fenced { .. }) => true,
        EngineError::Target(error) => error.recovery() == Recovery::Reconnect,
        EngineError::RestoreGivenUp { source, .. } => is_retried(source),
        EngineError::Interrupted => true,
        _ => false,
    }
}

/// Refused before anything was reached: another attempt would be, too.
fn failed(error: &Failure) -> LastWord {
    LastWord::Failed { failure: super::failure(error), again: false }
}
