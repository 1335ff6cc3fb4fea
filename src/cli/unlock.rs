//! `vouchsafe unlock`

use clap::Args;

use super::options::StoreArguments;
use super::{Failure, OutputFormat, output};
use crate::engine::backups;

#[derive(Args, Debug)]
pub(super) struct Unlock {
    #[command(flatten)]
    stores: StoreArguments,
    /// The open run; absent: the newest one
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    /// Void it although somebody is at it: their work is lost, and nothing else
    #[arg(long)]
    force: bool,
}

impl Unlock {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let opened = self.stores.open(None).await?;
        let unlocked = backups::unlock(&opened.register, self.run, self.force).await?;
        let document = serde_json::json!({"run": unlocked.run, "outcome": unlocked.outcome, "evidence": unlocked.evidence});
        output::write(output, &document, || {
            format!("run {} is {}: {}", unlocked.run, unlocked.outcome, unlocked.evidence)
        })
    }
}
