//! What the references of a Backup mean, for the whole run. Pure.

use super::given::Given;
use crate::api::{Resolved, ResolvedDestination, ResolvedEndpoint};

/// What is recorded when a run begins. The image with it: a run is carried out by one release, also when another one
/// is installed meanwhile.
pub(super) fn resolved(given: &Given, image: &str) -> Resolved {
    let destinations = given.store.destinations.iter().map(|it| ResolvedDestination {
        name: it.name.clone(),
        url: it.place.url(),
        locality: it.locality.as_ref().map(ToString::to_string),
    });
    let endpoints = given.backup.spec.source.endpoints.iter().map(|it| ResolvedEndpoint {
        name: it.name.clone(),
        host: it.server.host.clone(),
        locality: it.locality.as_ref().map(ToString::to_string),
        server_version: None,
    });
    Resolved {
        destinations: destinations.collect(),
        endpoints: endpoints.collect(),
        image: Some(image.to_owned()),
    }
}
