//! `vouchsafe verifier`: reads everything of one destination back, and writes its verdict there.

use clap::Args;

use super::super::options::ToolArguments;
use super::super::run::stores::name_of;
use super::super::{Failure, OutputFormat, output, progress, signals};
use super::assignment::Assignment;
use crate::api::LastWord;
use crate::engine::EngineError;
use crate::engine::verifier::{Depth, Question, verify_and_write};
use crate::format::{Nonce, Sha256Digest};

#[derive(Args, Debug)]
pub(in crate::cli) struct Verifier {
    #[command(flatten)]
    of: Assignment,
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
        self.of.leave(&word)?;
        ended.map_err(|(failure, _)| failure)?;
        output::print("the verdict is written")
    }

    async fn verify(&self, output: OutputFormat) -> Result<Sha256Digest, (Failure, bool)> {
        let opened = async {
            let assigned = self.of.open("verifier", false).await?;
            let question = Question {
                run: self.of.run,
                plan: self.of.plan,
                destination: name_of(&assigned.destination),
                default: assigned.destination.default,
                nonce: self.nonce,
                manifest: self.manifest,
                part: self.part,
                pinned: true,
                depth: Depth::Rows,
            };
            let parallelism = assigned.backup.spec.parallelism.get() as usize;
            Ok((assigned.opened.store, question, parallelism, signals::interrupt()?))
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
