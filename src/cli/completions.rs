//! `vouchsafe completions SHELL`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, Failure};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        clap_complete::generate(self.shell, &mut Arguments::command(), "vouchsafe", &mut std::io::stdout());
        Ok(())
    }
}
