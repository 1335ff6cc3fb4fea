//! `vouchsafe list`

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::options::StoreArguments;
use super::report::RunReport;
use super::{Failure, OutputFormat, output};
use crate::engine::backups;

#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    stores: StoreArguments,
}

/// What it writes.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct ListReport {
    runs: Vec<RunReport>,
}

impl List {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let opened = self.stores.open(None).await?;
        let runs: Vec<RunReport> = backups::list(&opened.register).await?.iter().map(RunReport::of).collect();
        let report = ListReport { runs };
        output::write(output, &report, || {
            let rows = report.runs.iter().map(RunReport::row).collect();
            output::table(["RUN", "OUTCOME", "ROWS", "STORED", "DECIDED", "REASON"], rows)
        })
    }
}
