//! `kubectl vouchsafe resume KIND/NAME`

use clap::Args;

use super::ClusterArguments;
use super::object::Wanted;
use super::switch::{Change, switch};
use crate::cli::{Failure, OutputFormat};

#[derive(Args, Debug)]
pub(in crate::cli) struct Resume {
    /// schedule/NAME, backup/NAME or restore/NAME, or the name alone
    #[arg(value_name = "KIND/NAME")]
    object: Wanted,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Resume {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        switch(Change::Resume, &self.object, &self.cluster, output).await
    }
}
