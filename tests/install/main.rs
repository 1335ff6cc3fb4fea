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
mod life;
mod neighbours;
mod policy;
#[path = "../api/refused.rs"]
mod refused;
mod rights;
mod rules;
mod server;

use vouchsafe::api::Refused;

/// What only this process finds wrong: the API server takes it, and the controller says it in a condition. Each is in
/// the changed line. A rule that comes to a schema takes its line away here.
const BEYOND_A_SCHEMA: [&str; 13] = [
    // A table's pattern is a grammar with quotes.
    "tables: [orders_us]",
    "tables: [audit]",
    // A selection of nothing.
    "include: {}",
    // Numbers in text.
    "deadline: 0s",
    "rateLimit: 0Mi",
    // A name that the layout of a bucket has taken.
    "collection: runs",
    // Keys and values of labels.
    "vouchsafe.dev/run: x",
    "team: 'a b'",
    "key: ded icated",
    "zone: a/b/c",
    // Places inside of one another, and paths that climb.
    "s3: {bucket: orders-eu, endpoint: 'https://s3.example:9000'}",
    "s3: {bucket: orders-eu, endpoint: 'https://s3.example:9000', prefix: pg/us}",
    "path: /srv/../etc",
];

/// Asks the API server about a document that this process refuses.
fn asked_too(yaml: &str, refused: Refused) {
    let server = server::shared();
    let beyond = BEYOND_A_SCHEMA.iter().any(|text| yaml.contains(text));
    match server.try_create(&server::object(yaml)) {
        // In the schema, and not built yet.
        Ok(()) => assert!(beyond || refused == Refused::NotBuiltYet, "the API server takes {yaml}"),
        Err(message) => assert!(!beyond && refused != Refused::NotBuiltYet, "{message}\n{yaml}"),
    }
}
