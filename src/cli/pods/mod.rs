//! The processes of a run in a cluster: `coordinator`, `worker`, `verifier`, `restorer`, `prober`, `pruner`,
//! `deleter`. Each is a pod that the controller made, reads its resources from a mounted file, does its part with the
//! same engine as every other command, and leaves one last word for the controller.

mod assignment;
pub(super) mod coordinator;
mod crew;
pub(super) mod deleter;
mod last_word;
mod pace;
pub(super) mod prober;
pub(super) mod pruner;
mod publication;
mod published;
pub(super) mod restorer;
pub(super) mod verifier;
pub(super) mod worker;

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::run::Objects;
use crate::api;
use crate::telemetry::{logs, spans};

/// What every process of a run is given.
#[derive(Args, Debug)]
pub(super) struct Given {
    /// The Backup (for a prune, the BackupSchedule) and its BackupStore, as they were when the run began
    #[arg(long, value_name = "FILE")]
    objects: PathBuf,
    /// The folder of mounted Secrets, one folder each
    #[arg(long, value_name = "FOLDER")]
    secrets: PathBuf,
    /// The folder of mounted ConfigMaps, one folder each
    #[arg(long, value_name = "FOLDER")]
    config_maps: PathBuf,
    /// The folder of mounted claims, one folder each
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/vouchsafe/claims")]
    claims: PathBuf,
    /// Where the last word goes
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    last_word: PathBuf,
}

impl Given {
    /// The resources, with the Secrets and ConfigMaps that are mounted here.
    fn objects(&self) -> Result<Objects, Failure> {
        let mut objects = Objects::read(&self.objects)?;
        objects.mounted(&self.secrets, &self.config_maps, &self.claims)?;
        Ok(objects)
    }
}

/// Has every line of the log say what this process works at.
fn about(process: &'static str, identity: &api::Identity, run: Option<u32>, destination: Option<&str>) {
    let api::Identity { name, namespace, uid } = identity;
    let trace = tracing::Span::current();
    trace.record("resource", spans::short(&identity.name));
    trace.record("namespace", identity.namespace.as_deref().map(spans::short));
    trace.record("run", run);
    trace.record("destination", destination.map(spans::short));
    logs::about("process", process);
    logs::about("resource", name.as_str());
    logs::about("namespace", namespace.as_deref());
    logs::about("uid", uid.as_deref());
    if let Some(run) = run {
        logs::about("run", run);
    }
    if let Some(destination) = destination {
        logs::about("destination", destination);
    }
}

/// A failure as resources carry it.
fn failure(failure: &Failure) -> api::Failure {
    api::Failure {
        reason: failure.reason().to_owned(),
        message: failure.message().to_owned(),
        hint: failure.hint_of_fields().to_owned(),
    }
}
