//! Specs, parsed once. What a `Validated…` type holds needs no second look: texts are values, unions are
//! enums, defaults are filled in, and what contradicts itself was refused.
//!
//! Each spec is taken apart without `..`: a new field of the API doesn't compile until somebody decides
//! what it does, and one that isn't built yet is refused by name.

mod backup;
mod pod_template;
mod restore;
mod schedule;
mod selection;
mod server;
mod source;
mod store;

use std::fmt::Display;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::Kind;
use super::definition::schema;
use super::refusal::Refusals;
use super::structure::{self, Depth};

pub use backup::{DEFAULT_PARALLELISM, LayerChoice, ValidatedBackup, ValidatedBackupSpec};
pub use pod_template::ValidatedPodTemplate;
pub use restore::{RestoreMode, ValidatedFrom, ValidatedRestore, ValidatedTarget};
pub use schedule::{FullSchedule, ValidatedRetention, ValidatedSchedule};
pub use selection::Selection;
pub use server::{CaRef, CredentialsRef, DEFAULT_PORT, ValidatedServer, ValidatedTls};
pub use source::{ValidatedEndpoint, ValidatedPlacement, ValidatedPostgres};
pub use store::{
    AzurePlace, FolderPlace, GcsPlace, Place, S3Place, ValidatedBackupStore, ValidatedDestination,
};

/// Which object a spec came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.name`; empty if the object has none yet.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.uid`, which only an API server gives.
    pub uid: Option<String>,
}

impl Identity {
    fn of(metadata: ObjectMeta) -> Self {
        let ObjectMeta { name, namespace, uid, .. } = metadata; // Kubernetes' struct, not ours.
        Identity { name: name.unwrap_or_default(), namespace, uid }
    }
}

/// Applies the schema's bounds to a spec: whoever read it may not have had an API server before it.
fn bounds(kind: Kind, spec: &impl Serialize) -> Refusals {
    match serde_json::to_value(spec) {
        Ok(value) => structure::check(&value, &schema(kind)["properties"]["spec"], "spec", Depth::Bounds),
        Err(error) => {
            let mut refusals = Refusals::default();
            refusals.invalid("spec", format!("is no JSON: {error}"), "compare with API reference");
            refusals
        }
    }
}

/// Keeps a parsed value, or says what is wrong with the text.
fn parsed<T, E: Display>(
    refusals: &mut Refusals,
    field: &str,
    result: Result<T, E>,
    hint: &str,
) -> Option<T> {
    result.map_err(|error| refusals.invalid(field, error.to_string(), hint)).ok()
}

/// Parses an optional text; `None` only if it is wrong, `Some(None)` if it is absent.
#[allow(clippy::option_option, reason = "the outer one says whether to go on, the inner is the value")]
fn optional<T, E: Display>(
    refusals: &mut Refusals,
    field: &str,
    text: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, E>,
    hint: &str,
) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => parsed(refusals, field, parse(&text), hint).map(Some),
    }
}

/// A duration that may not be zero.
#[allow(clippy::option_option, reason = "as `optional`")]
fn positive_duration(
    refusals: &mut Refusals,
    field: &str,
    text: Option<String>,
) -> Option<Option<std::time::Duration>> {
    let found = optional(refusals, field, text, super::quantity::parse_duration, "write it like `6h`")?;
    if found.is_some_and(|duration| duration.is_zero()) {
        refusals.invalid(field, "is zero", "leave the field out for none");
        return None;
    }
    Some(found)
}

/// What to say about a locality that can't be read.
const LOCALITY_HINT: &str = "write it like `region=eu-west1,zone=b`";
