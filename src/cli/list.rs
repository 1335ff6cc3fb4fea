//! `vouchsafe list`: of a collection here; without `--store` in a cluster.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::cluster::BackupsArguments;
use super::options::StoreArguments;
use super::report::RunReport;
use super::{Failure, OutputFormat, output};
use crate::engine::backups;

#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    stores: StoreArguments,
    #[command(flatten)]
    cluster: BackupsArguments,
}

/// What it writes.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct ListReport {
    runs: Vec<RunReport>,
}

impl List {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        if !self.stores.is_given() {
            return self.cluster.execute(output).await;
        }
        let opened = self.stores.open(None).await?;
        let runs: Vec<RunReport> = backups::list(&opened.register).await?.iter().map(RunReport::of).collect();
        let report = ListReport { runs };
        if report.runs.is_empty() {
            // Beside the result: a script gets its empty list, and a person learns that it may be the wrong place.
            let url = opened.register.store().url();
            eprintln!("there is no collection at {url}: no backup was ever begun there");
            if output == OutputFormat::Text {
                return Ok(());
            }
        }
        output::write(output, &report, || {
            let rows = report.runs.iter().map(RunReport::row).collect();
            output::table(["RUN", "OUTCOME", "ROWS", "STORED", "DECIDED", "REASON"], rows)
        })
    }
}
