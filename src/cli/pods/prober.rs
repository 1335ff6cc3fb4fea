//! `vouchsafe prober`: tries out what one destination can do, before anything is written there that counts.

use std::sync::Arc;

use clap::Args;

use super::super::output::Reason;
use super::super::run::{stores, validated_store};
use super::super::{Failure, OutputFormat, output, signals};
use super::{Given, last_word};
use crate::api::{self, LastWord, Place};
use crate::engine::EngineError;
use crate::store::probe::{Capabilities, probe};
use crate::store::retry::ErrorCounts;

/// The checksum that every upload carries, and that the probe has seen refused where it was wrong.
const fn checksum(place: &Place) -> &'static str {
    match place {
        Place::S3(_) | Place::Folder(_) => "SHA256",
        Place::Azure(_) => "MD5",
        Place::Gcs(_) => "CRC32C",
    }
}

/// What is said of an identity that may not delete: nothing is wrong with it.
const LEFTOVERS: &str = "this identity may not delete: each probe leaves a few bytes below probes/";

#[derive(Args, Debug)]
pub(in crate::cli) struct Prober {
    #[command(flatten)]
    given: Given,
    /// The BackupStore
    #[arg(long, value_name = "NAME")]
    store: String,
    /// The destination to try
    #[arg(long, value_name = "NAME")]
    destination: String,
}

impl Prober {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let word = match self.probe().await {
            // Of a store that is only read, nothing was tried by writing.
            Ok(None) => LastWord::Probed { capabilities: api::Capabilities::default(), note: String::new() },
            Ok(Some((Capabilities { delete }, checksum))) => LastWord::Probed {
                // The probe fails where one of these does not hold; retention locks it does not try.
                capabilities: api::Capabilities {
                    conditional_create: Some(true),
                    checksum: Some(checksum.to_owned()),
                    object_lock: None,
                },
                note: if delete { String::new() } else { LEFTOVERS.to_owned() },
            },
            Err((failure, again)) => LastWord::Failed { failure: super::failure(&failure), again },
        };
        last_word::leave(&self.given.last_word, &word)?;
        match (&word, output) {
            (LastWord::Failed { failure, .. }, _) => {
                output::print(&format!("{}: {}", failure.reason, failure.message))
            }
            _ => output::print("the destination keeps its promises"),
        }
    }

    /// What it can do, and the checksum that it validates. With a failure, whether another attempt may do better.
    async fn probe(&self) -> Result<Option<(Capabilities, &'static str)>, (Failure, bool)> {
        let opened = async {
            let objects = self.given.objects()?;
            let scope = objects.of(None);
            let store = validated_store(scope.store(&self.store, "--store")?)?;
            super::about("prober", &store.identity, None, Some(&self.destination));
            let destination = store.destinations.iter().find(|it| it.name == self.destination);
            let destination =
                destination.ok_or_else(|| EngineError::DestinationMissing(self.destination.clone()))?;
            let errors = Arc::new(ErrorCounts::default());
            let opened = stores::open_to_probe(destination, &scope, &errors).await?;
            let checksum = checksum(&destination.place);
            Ok((opened.store, checksum, store.access_mode, signals::interrupt()?))
        };
        let (store, checksum, mode, interrupt) = opened.await.map_err(|failure: Failure| {
            // Whoever makes a store makes its Secret a moment later.
            let again = failure.reason() == Reason::ReferenceMissing.reason();
            (failure, again)
        })?;
        let tried = async {
            match mode {
                api::AccessMode::ReadWrite => Ok(Some((probe(&store).await?, checksum))),
                api::AccessMode::ReadOnly => {
                    store.list(None, None).await?;
                    Ok(None)
                }
            }
        };
        let probed = interrupt.race(tried).await;
        probed.map_err(|error| {
            let again = match &error {
                EngineError::Store(error) => error.kind().retryable(),
                EngineError::Interrupted => true,
                _ => false,
            };
            (Failure::from(error), again)
        })
    }
}
