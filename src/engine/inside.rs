//! What a backup holds besides tables, read from its catalogs: for people who look at it.

use super::backups::Backup;
use super::destinations::Destinations;
use super::error::EngineError;
use super::reading::{self, Pinned};
use super::reopening;
use crate::format::{CatalogDocument, CatalogKind, Order, Settlement, decode};

/// Of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Names of the roles that own something, are granted something, or are named by what is restored.
    pub roles: Vec<String>,
    /// Number of large objects.
    pub large_objects: u64,
}

/// Reads the catalogs of each server of a backup, in the order of the manifest's endpoints.
///
/// # Errors
/// What can't be read, by the name of its object.
pub async fn inside(backup: &Backup, destinations: &Destinations) -> Result<Vec<Inside>, EngineError> {
    let mut found = vec![Inside::default(); backup.manifest.endpoints.len()];
    // All catalogs lie in the default destination.
    for destination in backup.manifest.destinations.iter().filter(|it| it.default) {
        let store = &*destinations.named(&destination.name)?.store;
        let (tickets, part) = reopening::books_of(backup, destination, store).await?;
        for (ticket, entry) in tickets.document.tickets.iter().zip(&part.document.entries) {
            let (Order::Catalog { endpoint, what }, Settlement::Catalog { object, entries }) =
                (&ticket.order, &entry.settlement)
            else {
                continue;
            };
            let Some(of_server) = found.get_mut(*endpoint as usize) else { continue };
            match what {
                CatalogKind::LargeObjects => of_server.large_objects = *entries,
                CatalogKind::Roles => {
                    let bytes = match reading::read_whole(store, object, Pinned::WhereKnown).await {
                        Ok(bytes) => bytes,
                        Err(unread) => {
                            let damage = unread.into_damage(object.key.to_string(), None)?;
                            return Err(EngineError::Damaged(format!("{}/{damage}", store.url())));
                        }
                    };
                    let document: CatalogDocument =
                        decode(&bytes).map_err(|source| EngineError::format(store, &object.key, source))?;
                    let names = document.entries.iter().filter_map(|entry| entry["name"].as_str());
                    of_server.roles = names.map(str::to_owned).collect();
                }
                CatalogKind::Sequences | CatalogKind::Database => {}
            }
        }
    }
    Ok(found)
}
