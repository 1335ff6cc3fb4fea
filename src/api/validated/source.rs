//! The source, checked: endpoints, and the placement of one server's tables.

use std::collections::BTreeSet;

use super::super::pattern::{Name, Pattern};
use super::super::refusal::Refusals;
use super::super::{Endpoint, PlacementRule, PostgresSource, Source, Unplaced};
use super::selection::{Selection, patterns};
use super::server::{Reach, ValidatedServer};
use super::{LOCALITY_HINT, optional, parsed};
use crate::plan::locality::Locality;

/// A PostgreSQL database, on one server or on one per locality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedPostgres {
    /// The database, 1 to 63 bytes.
    pub database: String,
    /// The servers: at least one; of several each has a locality, and no two the same.
    pub endpoints: Vec<ValidatedEndpoint>,
    /// Which tables belong to which locality, first match first. Empty with several endpoints.
    pub placement: Vec<ValidatedPlacement>,
    /// What happens to a table that no rule matches, if there is more than one locality.
    pub unplaced: Unplaced,
    /// Which tables are taken.
    pub selection: Selection,
}

/// One PostgreSQL server that holds the data of a locality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedEndpoint {
    /// Its name, unique in the source.
    pub name: String,
    /// Whose data it holds.
    pub locality: Option<Locality>,
    /// How to reach it.
    pub server: ValidatedServer,
}

/// Tables that belong to a locality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedPlacement {
    /// The rule's name, unique in the source.
    pub name: String,
    /// Tables by pattern.
    pub tables: Vec<Pattern>,
    /// Partitioned tables, all of whose partitions at any depth match.
    pub partitions_of: Vec<Name>,
    /// The locality.
    pub locality: Locality,
}

impl ValidatedPostgres {
    /// Every locality that the endpoints and rules name, sorted. Empty: everything goes to the default
    /// destination.
    #[must_use]
    pub fn localities(&self) -> BTreeSet<&Locality> {
        let endpoints = self.endpoints.iter().filter_map(|e| e.locality.as_ref());
        endpoints.chain(self.placement.iter().map(|rule| &rule.locality)).collect()
    }

    pub(super) fn parse(refusals: &mut Refusals, path: &str, source: Source) -> Option<Self> {
        let Source { postgres } = source;
        let path = format!("{path}.postgres");
        let PostgresSource { database, endpoints, placement, unplaced, include, exclude } = postgres;
        if !placement.is_empty() && endpoints.len() > 1 {
            let hint = "leave placement out; each endpoint holds its own locality's tables";
            refusals.conflict(
                format!("{path}.placement"),
                "divides one server's tables, and there are several",
                hint,
            );
        }
        let several = endpoints.len() > 1;
        let none = endpoints.is_empty();
        let parsed: Vec<_> = endpoints.into_iter().map(|e| endpoint(refusals, &path, e, several)).collect();
        let endpoints: Option<Vec<_>> = parsed.into_iter().collect();
        let parsed: Vec<_> = placement.into_iter().map(|rule| place(refusals, &path, rule)).collect();
        let placement: Option<Vec<_>> = parsed.into_iter().collect();
        let selection = Selection::parse(refusals, &path, include, exclude);
        let (endpoints, placement, selection) = (endpoints?, placement?, selection?);
        distinct(refusals, &path, &endpoints);
        let unplaced = unplaced.unwrap_or_default();
        (!none).then_some(ValidatedPostgres { database, endpoints, placement, unplaced, selection })
    }
}

fn endpoint(
    refusals: &mut Refusals,
    path: &str,
    endpoint: Endpoint,
    several: bool,
) -> Option<ValidatedEndpoint> {
    let Endpoint { name, locality, host, port, credentials_secret, tls, auth } = endpoint;
    let path = format!("{path}.endpoints[{name}]");
    let at = format!("{path}.locality");
    if several && locality.is_none() {
        let hint = "of several endpoints each says which locality's data it holds";
        refusals.add(super::super::Refused::Missing, &at, "is required", hint);
    }
    let locality = optional(refusals, &at, locality, str::parse, LOCALITY_HINT);
    let reach = Reach { host, port, credentials_secret, tls, auth };
    let server = ValidatedServer::parse(refusals, &path, reach);
    Some(ValidatedEndpoint { name, locality: locality?, server: server? })
}

/// No two endpoints are one server under two names, as far as the spec can tell, or hold one locality.
fn distinct(refusals: &mut Refusals, path: &str, endpoints: &[ValidatedEndpoint]) {
    for (i, later) in endpoints.iter().enumerate() {
        for earlier in &endpoints[..i] {
            let at = |field: &str| format!("{path}.endpoints[{}].{field}", later.name);
            if later.locality.is_some() && later.locality == earlier.locality {
                let message = format!("endpoint `{}` holds this locality already", earlier.name);
                refusals.conflict(at("locality"), message, "give one of them another locality");
            }
            let place = |e: &ValidatedEndpoint| {
                e.server.host.as_ref().map(|host| (host.to_lowercase(), e.server.port))
            };
            if place(later).is_some() && place(later) == place(earlier) {
                let message = format!("is the same server as endpoint `{}`", earlier.name);
                refusals.conflict(at("host"), message, "divide one server's tables by placement");
            }
        }
    }
}

fn place(refusals: &mut Refusals, path: &str, rule: PlacementRule) -> Option<ValidatedPlacement> {
    let PlacementRule { name, tables, partitions_of, locality } = rule;
    let path = format!("{path}.placement[{name}]");
    if tables.is_empty() && partitions_of.is_empty() {
        refusals.invalid(&path, "matches nothing", "name tables or partitionsOf");
    }
    let tables = patterns(refusals, &format!("{path}.tables"), tables, Pattern::parse_table);
    let partitions_of = patterns(refusals, &format!("{path}.partitionsOf"), partitions_of, Name::parse);
    let locality = parsed(refusals, &format!("{path}.locality"), locality.parse(), LOCALITY_HINT);
    Some(ValidatedPlacement { name, tables: tables?, partitions_of: partitions_of?, locality: locality? })
}
