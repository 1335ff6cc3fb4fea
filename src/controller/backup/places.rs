//! Which destination takes which data, and where its worker must run. Pure.

use crate::api::{ValidatedBackupSpec, ValidatedBackupStore};
use crate::controller::pods::tiers;
use crate::plan::locality::Locality;

/// The worker of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Servers that may hold its data.
    pub(super) endpoints: Vec<String>,
    /// Tiers that its node must have: those that all localities of its data share, so that a worker is as near to
    /// each as to the others. Empty: any node.
    pub(super) tiers: Vec<(String, String)>,
}

/// Where the worker of `destination` runs, and what it reaches.
#[must_use]
pub(super) fn of_worker(
    spec: &ValidatedBackupSpec,
    store: &ValidatedBackupStore,
    destination: &str,
) -> Place {
    let takes = |locality: Option<&Locality>| {
        store.destination_for(locality).is_ok_and(|(chosen, _)| chosen.name == destination)
    };
    let source = &spec.source;
    // With rules, a locality of the server itself doesn't count.
    let own = source.endpoints.iter().filter(|_| source.placement.is_empty());
    let own = own.filter_map(|endpoint| endpoint.locality.as_ref());
    let placed = source.placement.iter().map(|rule| &rule.locality);
    // What has no locality may be read anywhere, so also where the rest has to be.
    let localities: Vec<&Locality> = own.chain(placed).filter(|it| takes(Some(*it))).collect();
    // With rules there is one server, and every destination's data is in it.
    let every = !source.placement.is_empty();
    let endpoints = source.endpoints.iter().filter(|it| every || takes(it.locality.as_ref()));
    Place { endpoints: endpoints.map(|it| it.name.clone()).collect(), tiers: shared(&localities) }
}

/// The first tiers that all have.
fn shared(localities: &[&Locality]) -> Vec<(String, String)> {
    let mut localities = localities.iter().map(|it| tiers(Some(*it)));
    let Some(mut shared) = localities.next() else { return Vec::new() };
    for other in localities {
        let same = shared.iter().zip(&other).take_while(|(one, other)| one == other).count();
        shared.truncate(same);
    }
    shared
}
