//! Which destination takes what, by locality and placement rules: asked before a number is claimed, and again in the
//! snapshot.

use super::error::EngineError;
use super::job::{BackupJob, Endpoint};
use crate::plan::locality::{Locality, choose_destination};
use crate::plan::placement::{Placed, Unplaced, place};

/// The destination of each table of an endpoint, in order.
///
/// # Errors
/// Usage: a table that no rule places, or a locality without a destination.
pub(crate) fn of_tables(
    job: &BackupJob,
    endpoint: &Endpoint,
    tables: &[Placed<'_>],
) -> Result<Vec<String>, EngineError> {
    let localities = place(
        tables,
        &job.placement.rules,
        |pattern, name| pattern.matches(name),
        job.placement.unplaced,
        endpoint.locality.as_ref(),
    );
    let localities = localities.map_err(|error| {
        EngineError::usage(
            error.to_string(),
            crate::hint::Hint::of(
                "add a --place for them, or --unplaced-to-default",
                "add a rule for them to spec.source.postgres.placement, or set unplaced to Default",
            ),
        )
    })?;
    localities.into_iter().map(|locality| of_locality(job, locality)).collect()
}

/// The destination of an endpoint's large objects: they belong to no table, so no rule places them.
///
/// # Errors
/// Usage: there are `any`, and rules that must place everything.
pub(crate) fn of_large_objects(
    job: &BackupJob,
    endpoint: &Endpoint,
    any: bool,
) -> Result<String, EngineError> {
    if job.placement.rules.is_empty() {
        return of_locality(job, endpoint.locality.as_ref());
    }
    if job.placement.unplaced == Unplaced::Default || !any {
        return Ok(job.destinations.default().name.clone());
    }
    Err(EngineError::usage(
        "no placement rule can match large objects",
        crate::hint::Hint::of("add --unplaced-to-default", "set spec.source.postgres.unplaced to Default"),
    ))
}

/// The destination of a locality, by the longest prefix.
fn of_locality(job: &BackupJob, locality: Option<&Locality>) -> Result<String, EngineError> {
    let parsed: Vec<(&str, Option<Locality>, bool)> = (job.destinations.all().iter())
        .map(|it| {
            // Parsed when the store was opened; a name that is no locality simply takes none.
            let locality = it.locality.as_deref().and_then(|text| text.parse().ok());
            (it.name.as_str(), locality, job.destinations.is_default(&it.name))
        })
        .collect();
    let known: Vec<_> =
        parsed.iter().map(|(name, locality, default)| (*name, locality.as_ref(), *default)).collect();
    let chosen = choose_destination(&known, locality, job.locality_policy);
    let chosen = chosen.map_err(|error| {
        EngineError::usage(
            error.to_string(),
            crate::hint::Hint::of("add a --store for that locality, or --unmatched-to-default", "add a destination for that locality to the BackupStore, or set its localityPolicy to Default"),
        )
    })?;
    Ok(chosen.name.to_owned())
}
