//! Options that several subcommands share: where backups lie, and which server.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::engine::{Destination, Destinations, EngineError, Register, register};
use crate::plan::locality::Locality;
use crate::source::{EndpointConfig, PasswordSources, Tools};
use crate::store::retry::ErrorCounts;
use crate::store::throttle::Throttle;
use crate::store::{StoreOptions, StoreUrl, open, split_locality};

/// Name of a destination without a locality.
const DEFAULT_DESTINATION: &str = "default";

/// Where backups lie.
#[derive(Args, Clone, Debug)]
pub(super) struct StoreArguments {
    /// A folder or bucket, `file:///folder` or `s3://bucket/prefix?region=…&endpoint=…`; with a locality,
    /// `region=eu-west1=s3://…`. Give one per destination; the first without a locality, else the first, is
    /// the default one
    #[arg(long = "store", value_name = "[LOCALITY=]URL", required = true)]
    stores: Vec<String>,
    /// How often a run shows that it is alive
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    heartbeat: Duration,
    /// Attempts of each request to a store, the first included
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    store_attempts: u32,
}

/// Destinations, opened, with the counts of errors that they met.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) destinations: Destinations,
    pub(super) register: Register,
    pub(super) errors: Arc<ErrorCounts>,
}

impl StoreArguments {
    /// The texts as given: part of the identity of a command.
    pub(super) fn identity(&self) -> Vec<String> {
        self.stores.clone()
    }

    /// Opens every destination.
    pub(super) async fn open(&self, rate_limit: Option<NonZeroU64>) -> Result<Opened, Failure> {
        let mut parsed = Vec::new();
        let mut names = BTreeSet::new();
        for text in &self.stores {
            let (locality, url) = split_locality(text);
            let locality = locality.map(parse_locality).transpose()?;
            let url: StoreUrl = url.parse().map_err(|error| store_failure(&error))?;
            let name = locality.as_ref().map_or_else(|| DEFAULT_DESTINATION.to_owned(), Locality::to_string);
            if !names.insert(name.clone()) {
                let message = format!("two stores for {name}");
                return Err(Failure::usage(message, "give each --store a locality of its own"));
            }
            parsed.push((name, locality, url));
        }
        let default = parsed.iter().position(|(_, locality, _)| locality.is_none()).unwrap_or(0);
        let errors = Arc::new(ErrorCounts::default());
        let mut all = Vec::new();
        for (name, locality, url) in parsed {
            let mut options = StoreOptions { observer: errors.clone(), ..StoreOptions::default() };
            options.retry.attempts = self.store_attempts;
            options.throttle = rate_limit.map(|limit| Arc::new(Throttle::new(limit)));
            let store = open(&url, &options).await.map_err(|error| store_failure(&error))?;
            let locality = locality.map(|locality| locality.to_string());
            all.push(Destination { name, locality, store });
        }
        let destinations = Destinations::new(all, default).map_err(Failure::from)?;
        let register = Register::new(destinations.default().store.clone(), self.heartbeat);
        Ok(Opened { destinations, register, errors })
    }
}

fn store_failure(error: &crate::store::StoreError) -> Failure {
    Failure::from(EngineError::Store(error.clone()))
}

pub(super) fn parse_locality(text: &str) -> Result<Locality, Failure> {
    text.parse().map_err(|error| {
        Failure::usage(format!("{text:?} is no locality: {error}"), "write tiers as region=eu-west1,zone=b")
    })
}

/// A duration such as `10s`, `5m` or `1h30m`; at least a millisecond, at most a year.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| "write 10s, 5m or 1h30m".to_owned())?;
    let duration = Duration::try_from(span).map_err(|_| "it must not be negative".to_owned())?;
    if duration < Duration::from_millis(1) || duration > Duration::from_secs(366 * 24 * 3600) {
        return Err("between 1ms and 366 days".to_owned());
    }
    Ok(duration)
}

/// A size such as `64Mi` or `200M`, in bytes.
pub(super) fn size(text: &str) -> Result<NonZeroU64, String> {
    let parsed: crate::api::quantity::Size = text.parse().map_err(|error| format!("{error}"))?;
    NonZeroU64::new(parsed.bytes()).ok_or_else(|| "it must not be 0".to_owned())
}

/// PostgreSQL's programs.
#[derive(Args, Clone, Debug)]
pub(super) struct ToolArguments {
    /// Folder with pg_dump and pg_restore, before PATH and /usr/lib/postgresql; may be repeated
    #[arg(long = "tools", value_name = "DIR", env = "VOUCHSAFE_PG_TOOLS", value_delimiter = ':')]
    folders: Vec<PathBuf>,
}

impl ToolArguments {
    pub(super) fn tools(&self) -> Tools {
        Tools::new(self.folders.clone())
    }
}

/// Parses the URL of a server; passwords come from PGPASSWORD or PGPASSFILE.
pub(super) fn endpoint(text: &str) -> Result<EndpointConfig, Failure> {
    let parsed = EndpointConfig::parse(text, &PasswordSources::from_environment());
    parsed.map_err(|error| match EngineError::Source(error) {
        error if error.reason() == "InvalidEndpoint" => {
            Failure::usage(super::output::chain(&error), error.hint())
        }
        error => error.into(),
    })
}

/// Splits `region=eu-west1=postgres://…` into its locality, if it has one, and the URL.
pub(super) fn split_source(text: &str) -> (Option<&str>, &str) {
    let Some(scheme) = text.find("://") else { return (None, text) };
    match text[..scheme].rfind('=') {
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    }
}

/// The heartbeat that resources have no field for.
pub(super) const fn default_heartbeat() -> Duration {
    register::DEFAULT_HEARTBEAT
}
