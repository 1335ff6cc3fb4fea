//! Everything that can be refused before a run is claimed: a run begins with nothing left to be surprised by.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::asked::{self, Looked};
use super::documents;
use super::error::EngineError;
use super::job::BackupJob;
use crate::format::{Collection, DatabaseIdentity, Key, Nonce, Sha256Digest};
use crate::hint::Hint;
use crate::kill_point;
use crate::source::{Preflight, look};
use crate::store::{StoreErrorKind, probe};

/// What the checks have established.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// SHA-256 of `collection.json` as stored.
    pub(crate) collection: Sha256Digest,
}

/// Checks sources, tools and destinations, and makes or compares `collection.json`.
pub(crate) async fn open(job: &BackupJob) -> Result<Opened, EngineError> {
    let identities = identify(job).await?;
    for destination in job.destinations.all() {
        probe(&destination.store).await?;
    }
    kill_point::passed("probed", "destinations");
    let collection = collection(job, identities).await?;
    Ok(Opened { collection })
}

async fn identify(job: &BackupJob) -> Result<BTreeMap<String, DatabaseIdentity>, EngineError> {
    let mut identities: BTreeMap<String, DatabaseIdentity> = BTreeMap::new();
    let mut looked = Vec::new();
    for endpoint in &job.endpoints {
        let Preflight { facts, outline, likeness } =
            look(&endpoint.config, &job.selection, job.endpoints.len() > 1).await?;
        looked.push(Looked { endpoint, outline, likeness });
        let pg_dump = job.tools.pg_dump_for(facts.version_num).await?;
        job.tools.pg_restore_for(pg_dump.version, facts.major()).await?;
        let identity = DatabaseIdentity {
            system_identifier: facts.system_identifier.to_string(),
            database: facts.database.clone(),
        };
        if let Some((name, _)) = identities.iter().find(|(_, known)| **known == identity) {
            let message =
                format!("sources {name} and {} are the same database of the same server", endpoint.name);
            return Err(EngineError::usage(
                message,
                Hint::of(
                    "name each server once; the tables of one are placed by --place",
                    "name each server once; the tables of one are placed by spec.source.postgres.placement",
                ),
            ));
        }
        identities.insert(endpoint.name.clone(), identity);
    }
    asked::check(job, &looked)?;
    Ok(identities)
}

async fn collection(
    job: &BackupJob,
    source: BTreeMap<String, DatabaseIdentity>,
) -> Result<Sha256Digest, EngineError> {
    let store = &*job.destinations.default().store;
    let key = Key::collection();
    if documents::find::<Collection>(store, &key).await?.is_none() {
        let nonce = Nonce::from_random(rand::random());
        let document = Collection { source: source.clone(), created: Timestamp::now(), nonce };
        match documents::put(store, &key, document).await {
            Ok(_) => {}
            // Another process was faster: compare with what it wrote.
            Err(EngineError::Store(error)) if error.kind() == StoreErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let held = documents::get::<Collection>(store, &key).await?;
    if held.document.source == source {
        return Ok(held.sha256);
    }
    let text = |source: &BTreeMap<String, DatabaseIdentity>| {
        let texts = source.iter().map(|(name, identity)| {
            format!("{} on system {} ({name})", identity.database, identity.system_identifier)
        });
        texts.collect::<Vec<_>>().join(", ")
    };
    Err(EngineError::CollectionIdentityChanged {
        store: store.url().to_owned(),
        theirs: text(&held.document.source),
        ours: text(&source),
    })
}
