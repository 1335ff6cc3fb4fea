//! The demo's jobs, as `backup` and `restore` would make them.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Failure, options};
use super::server::local;
use super::{PARALLELISM, PLACES, Play, SOURCE};
use crate::engine::errors::ErrorBook;
use crate::engine::job::{listing_patience, owner_of};
use crate::engine::restore::{RestoreJob, RestorePolicy};
use crate::engine::{
    BackupJob, Destination, Destinations, Endpoint, EngineError, Placement, Register, Sealed, back_up,
};
use crate::plan::locality::LocalityPolicy;
use crate::plan::placement::{PlacementRule, Unplaced};
use crate::source::{Selection, TablePattern};
use crate::store::location::{FileLocation, StoreUrl};
use crate::store::retry::ErrorCounts;
use crate::store::{StoreOptions, open};

/// Small, so that each large table becomes several objects.
const SPAN_BYTES: NonZeroU64 = NonZeroU64::MIN.saturating_add((4 << 20) - 1);

/// As on the command line.
const HEARTBEAT: Duration = Duration::from_secs(10);

impl Play<'_> {
    /// Backs the shop up, by the placement of [`PLACES`].
    pub(super) async fn back_up(&self, destinations: &Destinations) -> Result<Sealed, Failure> {
        let rules = PLACES.iter().filter_map(|(name, locality, tables)| Some((name, locality, (*tables)?)));
        let rules = rules.map(|(name, locality, tables)| {
            Ok(PlacementRule {
                name: (*name).to_owned(),
                tables: vec![TablePattern::parse(tables).map_err(EngineError::from)?],
                partitions_of: Vec::new(),
                locality: options::parse_locality(locality)?,
            })
        });
        let rules = rules.collect::<Result<_, Failure>>()?;
        let job = BackupJob {
            owner: owner_of(&["demo".to_owned()]),
            destinations: destinations.clone(),
            register: register(destinations),
            locality_policy: LocalityPolicy::Strict,
            endpoints: vec![Endpoint {
                name: "default".to_owned(),
                locality: None,
                config: self.server.database(SOURCE),
            }],
            placement: Placement { rules, unplaced: Unplaced::Default },
            selection: Selection::default(),
            parallelism: PARALLELISM,
            span_bytes: SPAN_BYTES,
            tools: self.tools.clone(),
            crew: Arc::new(crate::engine::crew::InThisProcess),
            listing_patience: listing_patience(),
            deadline: None,
            errors: Arc::new(ErrorBook::new(Arc::new(ErrorCounts::default()))),
            interrupt: self.interrupt.clone(),
            progress: self.progress(),
        };
        Ok(back_up(&job).await?)
    }

    /// A restore of `run` (of the newest one) as a new database.
    pub(super) fn restore_job(
        &self,
        destinations: &Destinations,
        database: &str,
        run: Option<u32>,
    ) -> RestoreJob {
        RestoreJob {
            destinations: destinations.clone(),
            register: register(destinations),
            run,
            expect_manifest: None,
            target: self.server.database(database),
            maintenance_database: "postgres".to_owned(),
            selection: Selection::default(),
            schema_only: false,
            dry_run: false,
            no_owner: false,
            no_privileges: false,
            policy: RestorePolicy::default(),
            parallelism: PARALLELISM,
            tools: self.tools.clone(),
            interrupt: self.interrupt.clone(),
            progress: self.progress(),
        }
    }

    /// The folder of one of [`PLACES`].
    pub(super) fn place(&self, number: usize) -> PathBuf {
        self.server.folder().join("stores").join(PLACES[number].0)
    }

    /// Three folders, opened.
    pub(super) async fn destinations(&self) -> Result<Destinations, Failure> {
        let mut all = Vec::new();
        for (number, (_, locality, _)) in PLACES.iter().enumerate() {
            let root = self.place(number);
            std::fs::create_dir_all(&root)
                .map_err(|error| local(&format!("making {}", root.display()), &error))?;
            let url = StoreUrl::File(FileLocation { root, prefix: String::new() });
            let store = open(&url, &StoreOptions::default()).await.map_err(EngineError::from)?;
            let name = (*locality).to_owned();
            all.push(Destination { name: name.clone(), locality: Some(name), store });
        }
        Ok(Destinations::new(all, 0)?)
    }
}

/// The register in the default destination.
pub(super) fn register(destinations: &Destinations) -> Register {
    Register::new(destinations.default().store.clone(), HEARTBEAT)
}
