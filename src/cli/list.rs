//! `vouchsafe list`

use clap::Args;

use super::options::StoreArguments;
use super::report::RunReport;
use super::{Failure, OutputFormat, output};
use crate::engine::backups;

#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    stores: StoreArguments,
}

impl List {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let opened = self.stores.open(None).await?;
        let runs: Vec<RunReport> = backups::list(&opened.register).await?.iter().map(RunReport::of).collect();
        output::write(output, &serde_json::json!({"runs": runs}), || {
            let rows = runs.iter().map(RunReport::row).collect();
            output::table(["RUN", "OUTCOME", "ROWS", "STORED", "DECIDED", "REASON"], rows)
        })
    }
}
