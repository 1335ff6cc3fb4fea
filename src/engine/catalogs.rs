//! The coordinator's own tickets: the schema archive and the catalogs that it does not carry.

use bytes::Bytes;

use super::documents::Held;
use super::error::EngineError;
use super::job::BackupJob;
use super::progress::Stage;
use super::receipts::{Binding, Settled};
use super::register::Turn;
use super::resolve::HeldSource;
use crate::format::{CatalogDocument, Key, Nonce, Order, Plan, Sha256Digest, Tickets, encode};
use crate::kill_point;
use crate::source::{inventory, schema};

/// Settles every schema and catalog ticket of the plan. They lie in the default destination.
pub(crate) async fn export(
    job: &BackupJob,
    turn: &Turn,
    sources: &[HeldSource],
    plan: &Plan,
    tickets: &[Held<Tickets>],
) -> Result<(), EngineError> {
    let default = job.destinations.default();
    let Some(held) = tickets.iter().find(|held| held.document.destination == default.name) else {
        return Err(EngineError::Task("the default destination has no tickets".into()));
    };
    let worker = Nonce::from_random(rand::random());
    let binding = Binding { run: turn.run, plan: turn.plan, tickets: held.sha256, worker };
    for ticket in &held.document.tickets {
        let (endpoint, key, bytes, entries) = match &ticket.order {
            Order::Schema { endpoint } => {
                let source = &sources[*endpoint as usize];
                let snapshot = &source.held.snapshot.snapshot().id;
                let version = source.held.server.version_num;
                let dumped = schema::dump(&source.endpoint.config, version, snapshot, &job.tools).await;
                let archive = match dumped {
                    Ok(archive) => archive,
                    Err(error) => {
                        // A program says in words alone that the snapshot is gone, which a new plan mends.
                        source.held.snapshot.check().await?;
                        return Err(error.into());
                    }
                };
                let key = Key::schema(turn.run, &turn.plan, *endpoint, ticket.id, &worker);
                (*endpoint, key, Bytes::from(archive.bytes), archive.facts.entries)
            }
            Order::Catalog { endpoint, what } => {
                let source = &sources[*endpoint as usize];
                let entries = inventory::entries(source.held.snapshot.session(), *what).await?;
                let count = entries.len() as u64;
                let (run, plan) = (turn.run, turn.plan);
                let document = CatalogDocument { run, plan, endpoint: *endpoint, what: *what, entries };
                let key = Key::catalog(turn.run, &turn.plan, what.word(), ticket.id, &worker);
                let bytes = encode(&document);
                let bytes = bytes.map_err(|source| EngineError::format(&*default.store, &key, source))?;
                (*endpoint, key, Bytes::from(bytes), count)
            }
            Order::Rows { .. } | Order::LargeObjects { .. } => continue,
        };
        kill_point::passed("storing", "catalog");
        let committed = default.store.create(&key, bytes).await?;
        kill_point::passed("stored", "catalog");
        let snapshot = &plan.endpoints[endpoint as usize].snapshot;
        let settled = Settled::catalog(ticket.id, snapshot, committed, entries);
        settled.publish(&*default.store, &binding).await?;
        job.progress.advance(Stage::Export, 1, 0);
    }
    Ok(())
}

/// The catalogs in a fresh transaction, while the locks are held, after the last COPY and after pg_dump.
pub(crate) async fn digests_again(sources: &[HeldSource]) -> Result<Vec<Sha256Digest>, EngineError> {
    let mut digests = Vec::new();
    for source in sources {
        let again = source.held.definitions_now(&source.endpoint.config).await?;
        source.held.definitions.require_same_types(&again)?;
        source.held.definitions.require_same_schema(&again)?;
        digests.push(again.sha256());
    }
    Ok(digests)
}
