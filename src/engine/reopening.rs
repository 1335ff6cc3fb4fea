//! The books of a sealed backup, opened and balanced once more by whoever reads it: that its tickets cover its
//! tables, that each is settled, and that census and manifest say the same, is not believed but worked out.

use super::backups::Backup;
use super::destinations::Destinations;
use super::documents::{self, Held};
use super::error::EngineError;
use super::metadata;
use crate::format::{Census, Key, ManifestDestination, Part, Plan, PlanDocument, Tickets};
use crate::ledger::Ledger;
use crate::store::ObjectStore;

/// Tickets of a destination, and the part that says what settled each of them: by digest.
///
/// # Errors
/// If one is missing or another.
pub(crate) async fn books_of(
    backup: &Backup,
    destination: &ManifestDestination,
    store: &dyn ObjectStore,
) -> Result<(Held<Tickets>, Held<Part>), EngineError> {
    let key = |document| Key::of_plan(backup.run, &backup.plan, document);
    let tickets = documents::get_bound(store, &key(PlanDocument::Tickets), destination.tickets).await?;
    let part = documents::get_bound(store, &key(PlanDocument::Part), destination.part).await?;
    Ok((tickets, part))
}

/// Balances the books of `backup` from its documents.
///
/// # Errors
/// What does not balance, and documents that are not those that the manifest names.
pub(crate) async fn balance_again(backup: &Backup, destinations: &Destinations) -> Result<(), EngineError> {
    let manifest = &backup.manifest;
    let key = |document| Key::of_plan(backup.run, &backup.plan, document);
    let default = &*destinations.default().store;
    let plan: Held<Plan> =
        documents::get_bound(default, &key(PlanDocument::Plan), manifest.plan_document).await?;
    let census: Held<Census> =
        documents::get_bound(default, &key(PlanDocument::Census), manifest.census).await?;
    let (mut tickets, mut parts) = (Vec::new(), Vec::new());
    for destination in &manifest.destinations {
        let store = &*destinations.named(&destination.name)?.store;
        let (held, part) = books_of(backup, destination, store).await?;
        tickets.push((held.document, held.sha256));
        parts.push(part.document);
    }
    let mut ledger = Ledger::open(plan.document.clone(), tickets)?;
    for part in parts {
        ledger.take_part(part)?;
    }
    let balanced = ledger.balance(plan.sha256, &census.document)?;
    let differs = |what: &str| {
        EngineError::Damaged(format!(
            "{} of run {} says otherwise of {what} than its books",
            Key::of_plan(backup.run, &backup.plan, PlanDocument::Manifest),
            backup.run
        ))
    };
    for share in balanced.shares() {
        let (objects, stored_bytes) = share.objects();
        let told = manifest.destinations.iter().find(|destination| destination.name == share.destination);
        let told = told.map(|it| (it.objects, it.stored_bytes, it.count as usize, it.tickets));
        if told != Some((objects, stored_bytes, share.part.entries.len(), share.part.tickets)) {
            return Err(differs(&format!("destination {}", share.destination)));
        }
    }
    let (places, errors) = (manifest.destinations.clone(), manifest.errors.clone());
    let worked_out = metadata::manifest(&balanced, (&plan, &census), places, errors);
    if !metadata::says_the_same(manifest, &worked_out) {
        return Err(differs("its tables"));
    }
    Ok(())
}
