//! The command line: one file per subcommand.

mod backup;
mod completions;
mod controller;
mod crds;
mod demo;
mod diff;
mod documented;
mod examples;
mod list;
mod options;
mod output;
mod parsing;
mod pods;
mod progress;
mod prune;
mod prune_report;
mod report;
mod restore;
mod run;
mod show;
mod signals;
mod unlock;
mod verify;

use clap::{Parser, Subcommand, ValueEnum};

pub use documented::{documents, reasons};
pub use output::Failure;
pub use parsing::parse;

/// The SDK's search for credentials warns with whole responses, of services that are not there.
const DEFAULT_LOG: &str = "warn,aws_config=error";

/// Backs PostgreSQL up, and says Succeeded only after every stored byte was read back.
///
/// Exit codes: 0 done and proven, 1 failed, 2 usage, 3 not proven (damage was found), 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "vouchsafe", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = examples::ALL)]
pub struct Arguments {
    /// How results are written: text, or json, one document as docs/json.md has it; without progress then
    #[arg(long, value_name = "FORMAT", global = true, value_enum, default_value_t = OutputFormat::Text)]
    #[arg(hide_possible_values = true, help_heading = "Output")]
    output: OutputFormat,
    /// What is logged to standard error: off, error, warn, info, debug, trace, or MODULE=LEVEL with commas between
    #[arg(long, value_name = "FILTER", global = true, env = "VOUCHSAFE_LOG", default_value = DEFAULT_LOG)]
    #[arg(hide_env_values = true, value_parser = parsing::log, help_heading = "Output")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// One JSON document of the schema in docs/json.md.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Back a database up, verify it and seal it
    #[command(after_help = examples::BACKUP)]
    Backup(Box<backup::Backup>),
    /// Restore a sealed backup into a new database, and compare
    #[command(after_help = examples::RESTORE, mut_arg("heartbeat", without_effect))]
    Restore(Box<restore::Restore>),
    /// Carry a Backup or Restore resource of a YAML file out, here
    #[command(after_help = examples::RUN)]
    Run(run::Run),
    /// List the runs of a collection
    #[command(after_help = examples::LIST, mut_arg("heartbeat", without_effect))]
    List(list::List),
    /// Show what one backup holds
    #[command(after_help = examples::SHOW, mut_arg("heartbeat", without_effect))]
    Show(show::Show),
    /// Read everything of a backup again, to the last row
    #[command(after_help = examples::VERIFY, mut_arg("heartbeat", without_effect))]
    Verify(verify::Verify),
    /// Compare a backup with another, or with a database, table by table
    #[command(after_help = examples::DIFF, mut_arg("heartbeat", without_effect))]
    Diff(diff::Diff),
    /// Retire backups that no rule keeps, and delete what was given up long enough ago: shown first, done with --yes
    #[command(after_help = examples::PRUNE)]
    Prune(Box<prune::Prune>),
    /// Void an open run that nobody is at
    #[command(after_help = examples::UNLOCK)]
    Unlock(unlock::Unlock),
    /// Show the whole promise: back up, damage, detect, restore and compare, on a PostgreSQL of its own
    Demo(demo::Demo),
    /// Print the custom resource definitions
    Crds,
    /// Print a completion script
    #[command(after_help = examples::COMPLETIONS)]
    Completions(completions::Completions),
    /// Print the version
    Version,
    /// Make Backups of a cluster: the process that chart and manifests install
    #[command(hide = true)]
    Controller(controller::Controller),
    /// Make one Backup, as a pod that the controller started
    #[command(hide = true)]
    Coordinator(pods::coordinator::Coordinator),
    /// Settle the tickets of one destination, as a pod that the controller started
    #[command(hide = true)]
    Worker(pods::worker::Worker),
    /// Retire and delete for one BackupSchedule, as a pod that the controller started
    #[command(hide = true)]
    Pruner(pods::pruner::Pruner),
    /// Read one destination back, as a pod that the controller started
    #[command(hide = true)]
    Verifier(pods::verifier::Verifier),
}

/// An option that a command takes, so that all of them take the same words about stores, and that changes nothing
/// there.
fn without_effect(argument: clap::Arg) -> clap::Arg {
    argument.hide(true)
}

impl Arguments {
    /// How results are written.
    #[must_use]
    pub const fn output(&self) -> OutputFormat {
        self.output
    }

    /// What is logged.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// [`Failure`], with its exit code.
    pub async fn execute(self) -> Result<(), Failure> {
        let output = self.output;
        match self.command {
            Command::Backup(command) => command.execute(output).await,
            Command::Restore(command) => command.execute(output).await,
            Command::Run(command) => command.execute(output).await,
            Command::List(command) => command.execute(output).await,
            Command::Show(command) => command.execute(output).await,
            Command::Verify(command) => command.execute(output).await,
            Command::Diff(command) => command.execute(output).await,
            Command::Prune(command) => command.execute(output).await,
            Command::Unlock(command) => command.execute(output).await,
            Command::Demo(command) => command.execute(output).await,
            Command::Crds => crds::execute(),
            Command::Completions(command) => command.execute(),
            Command::Version => output::version(output),
            Command::Controller(command) => command.execute().await,
            Command::Coordinator(command) => command.execute(output).await,
            Command::Worker(command) => command.execute(output).await,
            Command::Pruner(command) => command.execute(output).await,
            Command::Verifier(command) => command.execute(output).await,
        }
    }
}
