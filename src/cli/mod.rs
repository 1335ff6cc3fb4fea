//! The command line: one file per subcommand.

mod backup;
mod cluster;
mod completions;
mod controller;
mod copy;
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

use std::future::ready;
use std::io::IsTerminal;

use clap::{Parser, Subcommand, ValueEnum};
use futures::future::LocalBoxFuture;

use crate::telemetry::logs::Format;
use crate::telemetry::{spans, traces};
pub use cluster::ClusterReason;

pub use documented::{documents, reasons};
pub use output::Failure;
pub use parsing::parse;

/// The SDK's search for credentials warns with whole responses, of services that are not there; so does
/// kube's client, of answers that become failures of ours.
const DEFAULT_LOG: &str = "warn,aws_config=error,kube_client=error";

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
    /// How log lines are written: text, or json, one object per line; absent: text, of processes in pods json
    #[arg(long, value_name = "FORMAT", global = true, env = "VOUCHSAFE_LOG_FORMAT", value_enum)]
    #[arg(hide_possible_values = true, hide_env_values = true, help_heading = "Output")]
    log_format: Option<OutputFormat>,
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
    /// Restore a sealed backup into a new database, and compare: here, or with --from in a cluster
    #[command(after_help = examples::RESTORE, mut_arg("heartbeat", without_effect), mut_args(restore::of_mode))]
    Restore(Box<restore::Restore>),
    /// Carry a Backup or Restore resource of a YAML file out, here
    #[command(after_help = examples::RUN)]
    Run(run::Run),
    /// List the runs of a collection, or without --store the Backups in a cluster
    #[command(after_help = examples::LIST, mut_arg("heartbeat", without_effect), mut_args(or_in_a_cluster))]
    List(list::List),
    /// Show what one backup holds, of a collection or without --store of a cluster
    #[command(after_help = examples::SHOW, mut_arg("heartbeat", without_effect), mut_args(or_in_a_cluster))]
    Show(show::Show),
    /// Read everything of a backup again, to the last row
    #[command(after_help = examples::VERIFY, mut_arg("heartbeat", without_effect))]
    Verify(verify::Verify),
    /// Copy a backup to another place, and read everything of it back from there
    #[command(after_help = examples::COPY, mut_arg("heartbeat", without_effect))]
    Copy(copy::Copy),
    /// Compare a backup with another, or with a database, table by table
    #[command(after_help = examples::DIFF, mut_arg("heartbeat", without_effect))]
    Diff(diff::Diff),
    /// Retire backups that no rule keeps, and delete what was given up long enough ago: shown first, done with --yes
    #[command(after_help = examples::PRUNE, mut_args(prune::of_mode))]
    Prune(Box<prune::Prune>),
    /// Void an open run that nobody is at
    #[command(after_help = examples::UNLOCK)]
    Unlock(unlock::Unlock),
    /// In a cluster: show what there is, and what is not well
    #[command(after_help = examples::STATUS)]
    Status(cluster::Status),
    /// In a cluster: make a Backup of a BackupSchedule now
    #[command(after_help = examples::TRIGGER)]
    Trigger(cluster::Trigger),
    /// In a cluster: let a schedule, Backup or Restore rest
    Suspend(cluster::Suspend),
    /// In a cluster: let it go on
    Resume(cluster::Resume),
    /// In a cluster: end a Backup or Restore
    Cancel(cluster::Cancel),
    /// In a cluster: show the logs of all pods of a Backup or Restore
    #[command(after_help = examples::LOGS)]
    Logs(cluster::Logs),
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
    /// Delete what one Backup has stored, as a pod that the controller started
    #[command(hide = true)]
    Deleter(pods::deleter::Deleter),
    /// Read one destination back, as a pod that the controller started
    #[command(hide = true)]
    Verifier(pods::verifier::Verifier),
    /// Bring one backup into a database, as a pod that the controller started
    #[command(hide = true)]
    Restorer(pods::restorer::Restorer),
    /// Try out what one destination can do, as a pod that the controller started
    #[command(hide = true)]
    Prober(pods::prober::Prober),
}

/// An option that a command takes, so that all of them take the same words about stores, and that changes nothing
/// there.
fn without_effect(argument: clap::Arg) -> clap::Arg {
    argument.hide(true)
}

/// An option of a command that works on a collection with `--store`, and in a cluster without.
fn or_in_a_cluster(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "stores" => argument.required(false),
        "kubeconfig" | "context" | "namespace" | "all_namespaces" | "schedule" => {
            argument.conflicts_with("stores")
        }
        "store_attempts" | "store_ca" => argument.requires("stores"),
        _ => argument,
    }
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

    /// How log lines are written. Processes of a cluster write for machines, unless a person looks on.
    #[must_use]
    pub fn log_format(&self) -> Format {
        let is_process = matches!(
            self.command,
            Command::Controller(_)
                | Command::Coordinator(_)
                | Command::Worker(_)
                | Command::Verifier(_)
                | Command::Restorer(_)
                | Command::Prober(_)
                | Command::Pruner(_)
        );
        match self.log_format {
            Some(OutputFormat::Text) => Format::Text,
            Some(OutputFormat::Json) => Format::Json,
            None if is_process && !std::io::stderr().is_terminal() => Format::Json,
            None => Format::Text,
        }
    }

    /// The name under which this process tells of what it does in traces; absent: it does nothing that is traced.
    #[must_use]
    pub fn process(&self) -> Option<&'static str> {
        match &self.command {
            Command::Backup(_) => Some("backup"),
            Command::Restore(command) if !command.is_in_a_cluster() => Some("restore"),
            Command::Run(_) => Some("run"),
            Command::Verify(_) => Some("verify"),
            Command::Copy(_) => Some("copy"),
            Command::Prune(command) if !command.is_in_a_cluster() => Some("prune"),
            Command::Controller(_) => Some("controller"),
            Command::Coordinator(_) => Some("coordinator"),
            Command::Worker(_) => Some("worker"),
            Command::Verifier(_) => Some("verifier"),
            Command::Restorer(_) => Some("restorer"),
            Command::Pruner(_) => Some("pruner"),
            Command::Prober(_) => Some("prober"),
            _ => None,
        }
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// [`Failure`], with its exit code.
    pub async fn execute(self) -> Result<(), Failure> {
        // A controller has no end: each run that it looks after is told of by itself.
        let process = self.process().filter(|_| !matches!(self.command, Command::Controller(_)));
        let Some(process) = process else { return self.carry_out().await };
        let span = spans::process(process);
        traces::below_environment(&span);
        spans::told(span, Failure::reason, self.carry_out()).await
    }

    /// The command's work, on the heap: what all of them hold together would not fit a stack of 8 MiB.
    fn carry_out(self) -> LocalBoxFuture<'static, Result<(), Failure>> {
        let output = self.output;
        match self.command {
            Command::Backup(command) => boxed(|| command.execute(output)),
            Command::Restore(command) => boxed(|| command.execute(output)),
            Command::Run(command) => boxed(|| command.execute(output)),
            Command::List(command) => boxed(|| command.execute(output)),
            Command::Show(command) => boxed(|| command.execute(output)),
            Command::Verify(command) => boxed(|| command.execute(output)),
            Command::Copy(command) => boxed(|| command.execute(output)),
            Command::Diff(command) => boxed(|| command.execute(output)),
            Command::Prune(command) => boxed(|| command.execute(output)),
            Command::Unlock(command) => boxed(|| command.execute(output)),
            Command::Status(command) => boxed(|| command.execute(output)),
            Command::Trigger(command) => boxed(|| command.execute(output)),
            Command::Suspend(command) => boxed(|| command.execute(output)),
            Command::Resume(command) => boxed(|| command.execute(output)),
            Command::Cancel(command) => boxed(|| command.execute(output)),
            Command::Logs(command) => boxed(|| command.execute(output)),
            Command::Demo(command) => boxed(|| command.execute(output)),
            Command::Crds => boxed(|| ready(crds::execute())),
            Command::Completions(command) => boxed(|| ready(command.execute())),
            Command::Version => boxed(|| ready(output::version(output))),
            Command::Controller(command) => boxed(|| command.execute()),
            Command::Coordinator(command) => boxed(|| command.execute(output)),
            Command::Worker(command) => boxed(|| command.execute(output)),
            Command::Pruner(command) => boxed(|| command.execute(output)),
            Command::Deleter(command) => boxed(|| command.execute(output)),
            Command::Verifier(command) => boxed(|| command.execute(output)),
            Command::Restorer(command) => boxed(|| command.execute(output)),
            Command::Prober(command) => boxed(|| command.execute(output)),
        }
    }
}

/// Makes a future in a frame of its own, which ends before the future runs: one function that made each of them would
/// have room for all of them.
#[inline(never)]
fn boxed<F: Future<Output = Result<(), Failure>> + 'static>(
    make: impl FnOnce() -> F,
) -> LocalBoxFuture<'static, Result<(), Failure>> {
    Box::pin(make())
}
