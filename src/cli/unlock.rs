//! `vouchsafe unlock`

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::options::StoreArguments;
use super::{Failure, OutputFormat, output};
use crate::engine::unlock::{DECIDED_BEFORE, Unlocked, unlock};

#[derive(Args, Debug)]
pub(super) struct Unlock {
    #[command(flatten)]
    stores: StoreArguments,
    /// The number of the open run, as list shows it; absent: the newest one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    /// Void it although somebody is at it: their work is lost, and nothing else
    #[arg(long)]
    force: bool,
}

/// What it writes.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct UnlockReport {
    run: Option<u32>,
    outcome: String,
    evidence: String,
}

impl Unlock {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let opened = self.stores.open(None).await?;
        let unlocked = unlock(&opened.register, self.run, self.force).await?;
        let Unlocked { run, outcome, evidence } = unlocked;
        let report = UnlockReport { run, outcome, evidence };
        output::write(output, &report, || {
            let UnlockReport { run, outcome, evidence } = &report;
            match run {
                None => format!("no run is open: {evidence}"),
                Some(run) if evidence == DECIDED_BEFORE => {
                    format!("no run is open: run {run} is {outcome}")
                }
                Some(run) => format!("run {run} is {outcome}: {evidence}"),
            }
        })
    }
}
