//! What users install, asked of a real API server: the CRDs take and refuse what they should, the chart and the
//! kustomizations are valid and alike, every YAML of the documentation is taken, and nobody has more rights than
//! they need.

#[path = "../api/accepted.rs"]
mod accepted;
mod bounds;
mod chart;
mod documents;
mod examples;
mod health;
mod kustomize;
mod neighbours;
mod policy;
#[path = "../api/refused.rs"]
mod refused;
mod rights;
mod rules;
mod server;

use vouchsafe::api::Refused;

/// What only this process can know of a document: the API server takes it, and the controller says it in a condition.
/// Each is a part of the changed line.
const BEYOND_A_SCHEMA: &[&str] = &[];

/// Asks the API server about a document that this process refuses.
fn asked_too(yaml: &str, refused: Refused) {
    let server = server::shared();
    let object = server::object(yaml);
    let beyond = BEYOND_A_SCHEMA.iter().any(|text| yaml.contains(text));
    match server.try_out(&object) {
        // In the schema, and not built yet.
        Ok(()) => assert!(beyond || refused == Refused::NotBuiltYet, "the API server takes {yaml}"),
        Err(message) => assert!(!beyond && refused != Refused::NotBuiltYet, "{message}\n{yaml}"),
    }
}
