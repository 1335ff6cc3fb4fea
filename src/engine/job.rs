//! What a backup is asked to do, with everything opened that must be open.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::crew::Crew;
use super::destinations::Destinations;
use super::error::EngineError;
use super::errors::ErrorBook;
use super::interrupt::{Deadline, Interrupt};
use super::progress::Progress;
use super::register::Register;
use crate::format::Sha256Digest;
use crate::hint::Hint;
use crate::plan::locality::{Locality, LocalityPolicy};
use crate::plan::placement::{PlacementRule, Unplaced};
use crate::source::{EndpointConfig, Selection, TablePattern, Tools};

/// Size of a span, in bytes of heap and TOAST, unless set otherwise: large enough that a ticket's requests
/// (one receipt, one upload) are nothing beside it, small enough that the last one to end does not leave the
/// other connections idle for long (about a second at 200 MB/s).
pub const DEFAULT_SPAN_BYTES: u64 = 192 << 20;

/// How long a listing may lag behind receipts that a worker has just written. Every store that we know lists
/// what it has acknowledged at once; a minute covers those that we don't.
const LISTING_PATIENCE: Duration = Duration::from_secs(60);

/// How long receipts are waited for that a listing does not show. A debug build takes another one, in milliseconds,
/// from `VOUCHSAFE_LISTING_PATIENCE_MS`: tests of receipts that never come must not wait a minute each.
#[must_use]
pub fn listing_patience() -> Duration {
    if cfg!(debug_assertions)
        && let Ok(text) = std::env::var("VOUCHSAFE_LISTING_PATIENCE_MS")
        && let Ok(milliseconds) = text.parse()
    {
        return Duration::from_millis(milliseconds);
    }
    LISTING_PATIENCE
}

/// One server that holds data, by the name of its endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name, unique in the job.
    pub name: String,
    /// Locality of the data that it holds.
    pub locality: Option<Locality>,
    /// How to reach it.
    pub config: EndpointConfig,
}

/// Which tables of one server belong elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// The rules; the first match wins.
    pub rules: Vec<PlacementRule<TablePattern>>,
    /// Tables that no rule matches.
    pub unplaced: Unplaced,
}

/// A backup to be made.
#[derive(Clone, Debug)]
pub struct BackupJob {
    /// Who may go on with its run; see [`owner_of`].
    pub owner: String,
    /// Where it goes.
    pub destinations: Destinations,
    /// The register in the default destination.
    pub register: Register,
    /// A locality without a destination: an error, or the default destination.
    pub locality_policy: LocalityPolicy,
    /// Where it comes from.
    pub endpoints: Vec<Endpoint>,
    /// Which tables belong to other localities than their server's.
    pub placement: Placement,
    /// Which tables' rows are taken.
    pub selection: Selection,
    /// Connections to each destination's tables.
    pub parallelism: usize,
    /// Bytes of a span.
    pub span_bytes: NonZeroU64,
    /// Who works and who verifies.
    pub crew: Arc<dyn Crew>,
    /// PostgreSQL's programs.
    pub tools: Tools,
    /// How long receipts are waited for that a listing does not show; see [`listing_patience`].
    pub listing_patience: Duration,
    /// Time for all of it.
    pub deadline: Option<Deadline>,
    /// The errors that the stores' retries have met.
    pub errors: Arc<ErrorBook>,
    /// Where it is asked to stop.
    pub interrupt: Interrupt,
    /// Where it shows how far it is.
    pub progress: Progress,
}

/// The owner of a run that a command line began: the same command, run again, is the same owner.
#[must_use]
pub fn owner_of(command: &[String]) -> String {
    // The lengths keep ["ab", "c"] and ["a", "bc"] apart.
    let text: String = command.iter().map(|word| format!("{}:{word};", word.len())).collect();
    format!("command-{}", &Sha256Digest::of(text.as_bytes()).to_string()[..32])
}

impl BackupJob {
    /// Refuses what can't be right before anything is touched.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.endpoints.is_empty() {
            return Err(EngineError::usage(
                "no source",
                Hint::of("name at least one --source", "name at least one endpoint"),
            ));
        }
        for (position, endpoint) in self.endpoints.iter().enumerate() {
            if self.endpoints[..position].iter().any(|earlier| earlier.name == endpoint.name) {
                let message = format!("two sources are named {}", endpoint.name);
                return Err(EngineError::usage(
                    message,
                    Hint::of(
                        "give each --source a locality of its own",
                        "give each endpoint a name of its own",
                    ),
                ));
            }
        }
        if self.endpoints.len() > 1 && !self.placement.rules.is_empty() {
            return Err(EngineError::usage(
                "placement rules are for one server's tables, and there are several sources",
                Hint::of(
                    "either one --source and --place, or one --source for each locality",
                    "either one endpoint with placement, or one endpoint for each locality",
                ),
            ));
        }
        Ok(())
    }
}
