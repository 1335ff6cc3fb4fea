//! Options that several subcommands share: where backups lie, and which server.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::api::quantity::{parse_duration, parse_size};
use crate::engine::errors::ErrorBook;
use crate::engine::{Destination, Destinations, EngineError, Register};
use crate::hint::WayIn;
use crate::plan::locality::Locality;
use crate::source::{EndpointConfig, PasswordSources, Tools};
use crate::store::location::StoreUrlError;
use crate::store::retry::ErrorCounts;
use crate::store::throttle::Throttle;
use crate::store::{StoreOptions, StoreUrl, open, split_locality};

/// Name of a destination without a locality.
const DEFAULT_DESTINATION: &str = "default";

/// Where backups lie.
#[derive(Args, Clone, Debug)]
pub(super) struct StoreArguments {
    /// A folder or bucket that exists, `file:///folder`, `s3://bucket/prefix?region=…&endpoint=…`, `gs://bucket/prefix` or
    /// `azblob://account/container/prefix`; with a locality, `region=eu-west1=s3://…`. Give one per destination; the first without a locality, else the first, is the
    /// default one
    #[arg(long = "store", value_name = "[LOCALITY=]URL", required = true)]
    stores: Vec<String>,
    /// How often a run shows that it is alive, such as 10s or 1m; silent for three times as long, it is taken for dead
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    heartbeat: Duration,
    /// Attempts of each request to a store, the first included: 1 to 100; absent: 16, two minutes or so
    #[arg(long, value_name = "N", value_parser = attempts)]
    store_attempts: Option<usize>,
    /// PEM file of the authorities to trust for endpoints of buckets, instead of the system's
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    store_ca: Option<PathBuf>,
}

/// Destinations, opened, with the counts of errors that they met.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) destinations: Destinations,
    pub(super) register: Register,
    pub(super) errors: Arc<ErrorBook>,
}

impl StoreArguments {
    /// Whether any was given: commands that also work in a cluster do so without one.
    pub(super) fn is_given(&self) -> bool {
        !self.stores.is_empty()
    }

    /// The texts as given: part of the identity of a command.
    pub(super) fn identity(&self) -> Vec<String> {
        self.stores.clone()
    }

    /// Opens every destination.
    pub(super) async fn open(&self, rate_limit: Option<NonZeroU64>) -> Result<Opened, Failure> {
        self.open_all("--store", &self.stores, rate_limit).await
    }

    /// Opens those of another option, `option`, with the same settings.
    pub(super) async fn open_others(&self, option: &str, stores: &[String]) -> Result<Opened, Failure> {
        self.open_all(option, stores, None).await
    }

    async fn open_all(
        &self,
        option: &str,
        stores: &[String],
        rate_limit: Option<NonZeroU64>,
    ) -> Result<Opened, Failure> {
        let mut parsed = Vec::new();
        let mut names = BTreeSet::new();
        for text in stores {
            let (locality, url) = split_locality(text);
            let locality = locality.map(parse_locality).transpose()?;
            let url: StoreUrl = url.parse().map_err(|error: StoreUrlError| {
                let hint = "file:///folder, s3://bucket/prefix?region=…&endpoint=…, gs://bucket/prefix or \
                            azblob://account/container/prefix";
                Failure::usage(super::output::chain(&error), hint)
            })?;
            let name = locality.as_ref().map_or_else(|| DEFAULT_DESTINATION.to_owned(), Locality::to_string);
            if !names.insert(name.clone()) {
                let message = format!("{option}: two stores for {name}");
                return Err(Failure::usage(message, format!("give each {option} a locality of its own")));
            }
            parsed.push((name, locality, url));
        }
        let authorities = self.store_ca.as_deref().map(authorities).transpose()?;
        let default = parsed.iter().position(|(_, locality, _)| locality.is_none()).unwrap_or(0);
        let errors = Arc::new(ErrorCounts::default());
        let mut all = Vec::new();
        for (name, locality, url) in parsed {
            let mut options = StoreOptions { observer: errors.clone(), ..StoreOptions::default() };
            if let Some(attempts) = self.store_attempts {
                options.retry.attempts = attempts;
            }
            options.s3.authorities.clone_from(&authorities);
            options.azure.authorities.clone_from(&authorities);
            options.throttle = rate_limit.map(|limit| Arc::new(Throttle::new(limit)));
            let store = open(&url, &options).await.map_err(|error| store_failure(&error))?;
            let locality = locality.map(|locality| locality.to_string());
            all.push(Destination { name, locality, store });
        }
        let destinations = Destinations::new(all, default).map_err(Failure::from)?;
        let register = Register::new(destinations.default().store.clone(), self.heartbeat);
        Ok(Opened { destinations, register, errors: Arc::new(ErrorBook::new(errors)) })
    }
}

/// The bytes of a file of authorities; what is wrong in them, the store says.
fn authorities(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let message = format!("--store-ca {}: {error}", path.display());
        Failure::usage(message, "name a PEM file with the authority's certificate")
    })
}

fn store_failure(error: &crate::store::StoreError) -> Failure {
    Failure::from(EngineError::Store(error.clone()))
}

pub(super) fn parse_locality(text: &str) -> Result<Locality, Failure> {
    text.parse().map_err(|error| {
        Failure::usage(format!("{text:?} is no locality: {error}"), "write tiers as region=eu-west1,zone=b")
    })
}

/// A duration such as `10s`, `5m` or `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("it must not be 0".to_owned()) } else { Ok(duration) }
}

/// A size such as `64Mi` or `200M`, in bytes.
pub(super) fn size(text: &str) -> Result<NonZeroU64, String> {
    let size = parse_size(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(size).ok_or_else(|| "it must not be 0".to_owned())
}

fn attempts(text: &str) -> Result<usize, String> {
    let attempts = text.parse().ok().filter(|attempts| (1..=100).contains(attempts));
    attempts.ok_or_else(|| "1 to 100".to_owned())
}

/// PostgreSQL's programs.
#[derive(Args, Clone, Debug)]
pub(super) struct ToolArguments {
    /// Folder with pg_dump and pg_restore, before VOUCHSAFE_PG_TOOLS, PATH and /usr/lib/postgresql/*/bin; may be
    /// repeated
    #[arg(long = "tools", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    folders: Vec<PathBuf>,
}

impl ToolArguments {
    pub(super) fn tools(&self) -> Tools {
        Tools::search(&self.folders)
    }
}

/// Parses the URL of a server, given as `option`; passwords come from PGPASSWORD or PGPASSFILE. The text itself is
/// not repeated: it may hold a password.
pub(super) fn endpoint(option: &str, text: &str) -> Result<EndpointConfig, Failure> {
    let parsed = EndpointConfig::parse(text, &PasswordSources::from_environment());
    parsed.map_err(|error| match EngineError::Source(error) {
        error if error.reason() == "InvalidEndpoint" => {
            Failure::usage(format!("{option}: {}", super::output::chain(&error)), error.hint(WayIn::Flags))
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
