//! `vouchsafe completions SHELL`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, Failure, output};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        // Not straight to standard output: the crate panics when nobody reads it.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "vouchsafe", &mut script);
        output::print(String::from_utf8_lossy(&script).trim_end())
    }
}
