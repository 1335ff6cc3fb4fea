//! `vouchsafe show N`

use clap::Args;

use super::options::StoreArguments;
use super::report::ShowReport;
use super::{Failure, OutputFormat, output};
use crate::engine::backups;
use crate::engine::inside::inside;

#[derive(Args, Debug)]
pub(super) struct Show {
    /// The number of the run, as list shows it; absent: the newest sealed one
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    #[command(flatten)]
    stores: StoreArguments,
}

impl Show {
    pub(super) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let opened = self.stores.open(None).await?;
        let chosen = backups::choose(&opened.register, self.run).await?;
        let backup = backups::open(&opened.destinations, &opened.register, chosen.run).await?;
        let inside = inside(&backup, &opened.destinations).await?;
        let report = ShowReport::of(&backup, chosen.newer_undecided, inside);
        output::warn_of_undecided(chosen.newer_undecided);
        output::write(output, &report, || report.text())
    }
}
