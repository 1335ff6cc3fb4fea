//! The API as a user meets it: what the committed CRDs promise, which documents are taken, and which
//! are refused, with the field named.

mod accepted;
mod refused;
mod schemas;

/// Nobody else is asked here about a document that this process refuses; tests/install asks the API server.
fn asked_too(_yaml: &str, _refused: vouchsafe::api::Refused) {}
