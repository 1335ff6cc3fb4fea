//! `vouchsafe copy [N] --to URL`

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::options::{StoreArguments, ToolArguments};
use super::output::{Reason, Work};
use super::report::VerifyReport;
use super::{Failure, OutputFormat, output, progress, signals};
use crate::engine::copy::{CopiedBackup, CopyJob, copy};

#[derive(Args, Debug)]
pub(super) struct Copy {
    /// The number of the run, as list shows it; absent: the newest sealed one
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    #[command(flatten)]
    stores: StoreArguments,
    /// Where to: for each --store one, with its locality where it has one. An empty prefix, or an earlier copy of this
    /// collection
    #[arg(long = "to", value_name = "[LOCALITY=]URL", required = true)]
    to: Vec<String>,
    /// Objects under way at once: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
    #[command(flatten)]
    tools: ToolArguments,
}

/// What it writes.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CopyReport {
    objects_written: u64,
    bytes_written: u64,
    objects_there_before: u64,
    /// What was read back from the other place.
    verified: VerifyReport,
}

impl CopyReport {
    fn of(copied: &CopiedBackup) -> Self {
        let (objects_written, bytes_written) = copied.written;
        Self {
            objects_written,
            bytes_written,
            objects_there_before: copied.there_before,
            verified: VerifyReport::of(&copied.verified),
        }
    }

    fn text(&self) -> String {
        format!(
            "{} objects of {} copied, {} were there before\n{}",
            output::count(self.objects_written),
            output::bytes(self.bytes_written),
            output::count(self.objects_there_before),
            self.verified.text()
        )
    }
}

impl Copy {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let from = self.stores.open(None).await?;
        let to = self.stores.open_others("--to", &self.to).await?;
        let job = CopyJob {
            from: from.destinations,
            from_register: from.register,
            to: to.destinations,
            to_register: to.register,
            run: self.run,
            tools: self.tools.tools(),
            parallelism: usize::from(self.parallelism),
            progress: progress::shown(output),
        };
        let copied = interrupt.race(copy(&job)).await;
        let copied = copied.map_err(|error| Failure::of_work(error, Work::Copy, &interrupt))?;
        output::warn_of_undecided(copied.newer_undecided);
        let report = CopyReport::of(&copied);
        output::write(output, &report, || report.text())?;
        let damages = &copied.verified.damages;
        if damages.is_empty() {
            return Ok(());
        }
        let message = format!("run {}: {} objects of the copy are damaged", copied.run, damages.len());
        Err(Failure::not_proven(
            Reason::DamageFound,
            message,
            "delete the copy, look at its bucket, and copy again",
        ))
    }
}
