//! What users install, asked of a real API server: the CRDs take and refuse what they should, the chart and the
//! kustomizations are valid and alike, every YAML of the documentation is taken, and nobody has more rights than
//! they need.

#[path = "../api/accepted.rs"]
mod accepted;
mod alerts;
mod bounds;
mod chart;
mod documents;
mod examples;
mod health;
mod kustomize;
mod life;
mod neighbours;
mod policy;
#[path = "../api/refused.rs"]
mod refused;
mod rights;
mod rules;
mod server;

use vouchsafe::api::Refused;

/// Asks the API server about a document that this process refuses.
fn asked_too(yaml: &str, refused: Refused) {
    let server = server::shared();
    match server.try_create(&server::object(yaml)) {
        // In the schema, and not built yet.
        Ok(()) => assert!(refused == Refused::NotBuiltYet, "the API server takes {yaml}"),
        Err(message) => assert!(refused != Refused::NotBuiltYet, "{message}\n{yaml}"),
    }
}
