//! The catalogs that pg_dump's schema does not carry: roles, sequences, large objects' owners, the database.

use serde::{Deserialize, Serialize};

use super::envelope::Document;
use super::key::PlanId;
use super::plan::CatalogKind;

/// `schema/<what>.<ticket>.<random>.json`: the entries of one catalog of one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogDocument {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: PlanId,
    /// The endpoint's position in the plan.
    pub endpoint: u32,
    /// Which catalog.
    pub what: CatalogKind,
    /// Its entries: one object each, of the form that docs/format.md shows.
    pub entries: Vec<serde_json::Value>,
}

impl Document for CatalogDocument {
    const KIND: &'static str = "catalog";
}
