//! `vouchsafe show N`: of a collection here; without `--store` a Backup in a cluster.

use clap::Args;

use super::cluster::{self, ClusterArguments};
use super::options::StoreArguments;
use super::report::ShowReport;
use super::{Failure, OutputFormat, output};
use crate::engine::backups;
use crate::engine::inside::inside;

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The number of the run, as list shows it; absent: the newest sealed one. In a cluster, the name of a Backup
    #[arg(value_name = "RUN|BACKUP")]
    which: Option<String>,
    #[command(flatten)]
    stores: StoreArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Show {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        if !self.stores.is_given() {
            let Some(name) = &self.which else {
                let hint = "name a Backup of the cluster, or give --store for a collection's newest one";
                return Err(Failure::usage("which backup is to be shown?", hint));
            };
            return cluster::show(name, &self.cluster, output).await;
        }
        let run = self.which.as_deref().map(number).transpose()?;
        let opened = self.stores.open(None).await?;
        let chosen = backups::choose(&opened.register, run).await?;
        let backup = backups::open(&opened.destinations, &opened.register, chosen.run).await?;
        let inside = inside(&backup, &opened.destinations).await?;
        let report = ShowReport::of(&backup, chosen.newer_undecided, inside);
        output::warn_of_undecided(chosen.newer_undecided);
        output::write(output, &report, || report.text())
    }
}

/// The number of a run.
fn number(text: &str) -> Result<u32, Failure> {
    text.parse().ok().filter(|run| *run > 0).ok_or_else(|| {
        let hint = "with --store, name a run by its number, as list shows it; without, a Backup of a cluster";
        Failure::usage(format!("{text:?} is no number of a run: 1.."), hint)
    })
}
