//! `vouchsafe verify [N]`

use clap::Args;

use super::options::{StoreArguments, ToolArguments};
use super::output::{Reason, Work};
use super::report::VerifyReport;
use super::{Failure, OutputFormat, output, progress, signals};
use crate::engine::backups;

#[derive(Args, Debug)]
pub(super) struct Verify {
    /// The number of the run, as list shows it; absent: the newest sealed one
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    #[command(flatten)]
    stores: StoreArguments,
    /// Objects read at once: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
    #[command(flatten)]
    tools: ToolArguments,
}

impl Verify {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let opened = self.stores.open(None).await?;
        let (tools, progress) = (self.tools.tools(), progress::shown(output));
        let parallelism = usize::from(self.parallelism);
        let verifying =
            backups::verify(&opened.destinations, &opened.register, self.run, &tools, parallelism, &progress);
        let verified = interrupt.race(verifying).await;
        let verified = verified.map_err(|error| Failure::of_work(error, Work::Reading, &interrupt))?;
        output::warn_of_undecided(verified.newer_undecided);
        let report = VerifyReport::of(&verified);
        output::write(output, &report, || report.text())?;
        if verified.damages.is_empty() {
            return Ok(());
        }
        let message = format!("run {}: {} objects are damaged", verified.run, verified.damages.len());
        Err(Failure::not_proven(
            Reason::DamageFound,
            message,
            "take a new backup; a damaged one is not restored",
        ))
    }
}
