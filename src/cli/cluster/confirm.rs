//! Asking a person for a yes.

use std::io::{IsTerminal, Write};

use super::ClusterReason;
use crate::cli::{Failure, OutputFormat};

/// Whether there is somebody to ask.
pub(super) fn can_ask(output: OutputFormat) -> bool {
    output == OutputFormat::Text && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Goes on only after a yes, typed on a terminal. `otherwise` is what was not done: `no Restore was made`.
pub(super) fn confirm(question: &str, otherwise: &str, output: OutputFormat) -> Result<(), Failure> {
    let refused = |why: &str| {
        let message = format!("{why}: {otherwise}");
        Err(Failure::of_cluster(ClusterReason::NotConfirmed, message, "--yes does it without a question"))
    };
    if !can_ask(output) {
        return refused("nobody was asked, as this is no terminal");
    }
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    match asked.and_then(|()| std::io::stdin().read_line(&mut answer)) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => refused("the answer was not yes"),
    }
}
