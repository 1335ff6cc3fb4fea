//! `vouchsafe verifier`: reads everything of one destination back, and writes its verdict there.

use std::sync::Arc;

use clap::Args;

use super::super::options::ToolArguments;
use super::super::run::stores::{self, name_of};
use super::super::run::{self, validated_store};
use super::super::{Failure, OutputFormat, output, progress, signals};
use super::{Given, last_word};
use crate::api::{LastWord, ValidatedBackup};
use crate::engine::EngineError;
use crate::engine::verifier::{Depth, Question, verify_and_write};
use crate::format::{Nonce, PlanId, Sha256Digest};
use crate::store::retry::ErrorCounts;

#[derive(Args, Debug)]
pub(in crate::cli) struct Verifier {
    #[command(flatten)]
    given: Given,
    /// The Backup
    #[arg(long, value_name = "NAME")]
    backup: String,
    /// The destination to read
    #[arg(long, value_name = "NAME")]
    destination: String,
    /// The run
    #[arg(long, value_name = "N")]
    run: u32,
    /// The plan
    #[arg(long, value_name = "ID")]
    plan: PlanId,
    /// What the verdict must answer with
    #[arg(long, value_name = "NONCE")]
    nonce: Nonce,
    /// SHA-256 of the manifest as stored
    #[arg(long, value_name = "SHA256")]
    manifest: Sha256Digest,
    /// SHA-256 of the destination's part as stored
    #[arg(long, value_name = "SHA256")]
    part: Sha256Digest,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Verifier {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let ended = self.verify(output).await;
        let word = match &ended {
            Ok(sha256) => LastWord::Verdict { nonce: self.nonce.to_string(), sha256: sha256.to_string() },
            // Whether it was killed or could not read: another one reads again, and what it finds is as good.
            Err((failure, again)) => LastWord::Failed { failure: super::failure(failure), again: *again },
        };
        last_word::leave(&self.given.last_word, &word)?;
        ended.map_err(|(failure, _)| failure)?;
        output::print("the verdict is written")
    }

    async fn verify(&self, output: OutputFormat) -> Result<Sha256Digest, (Failure, bool)> {
        let opened = async {
            let objects = self.given.objects()?;
            let backup: ValidatedBackup =
                run::file::validated("Backup", objects.of(None).backup(&self.backup)?.clone())?;
            super::about("verifier", &backup.identity, Some(self.run), Some(&self.destination));
            let scope = objects.of(backup.identity.namespace.as_deref());
            let store = validated_store(scope.store(&backup.spec.store, "spec.storeRef")?)?;
            let destination = store.destinations.iter().find(|it| it.name == self.destination);
            let destination =
                destination.ok_or_else(|| EngineError::DestinationMissing(self.destination.clone()))?;
            let errors = Arc::new(ErrorCounts::default());
            let collection = backup.spec.collection.as_deref();
            let opened = stores::open_one(destination, collection, None, &scope, &errors).await?;
            let question = Question {
                run: self.run,
                plan: self.plan,
                destination: name_of(destination),
                default: destination.default,
                nonce: self.nonce,
                manifest: self.manifest,
                part: self.part,
                pinned: true,
                depth: Depth::Rows,
            };
            Ok((opened.store, question, backup.spec.parallelism.get() as usize, signals::interrupt()?))
        };
        let opened = opened.await.map_err(|failure: Failure| (failure, false))?;
        let (store, question, parallelism, interrupt) = opened;
        let (tools, progress) = (self.tools.tools(), progress::shown(output));
        let verdict = interrupt.race(verify_and_write(store, question, &tools, parallelism, &progress)).await;
        let verdict = verdict.map_err(|error| {
            let again = matches!(error, EngineError::Interrupted);
            (Failure::from(error), again)
        })?;
        Ok(verdict.verdict)
    }
}
