//! What is seen of a process from outside: metrics, health, logs and traces. Imports no client of a cluster: whoever watches the
//! cluster passes the resources in.
//!
//! - [`metrics`]: counters and histograms of what this process saw happen, and the page that Prometheus reads.
//! - [`levels`]: gauges, worked out of the resources at each reading, so that a restarted controller says the same.
//! - [`transition`]: what happened between two statuses of a Backup. Pure.
//! - [`health`]: whether the process does its work, and the server of all pages.
//! - [`logs`]: how lines are written.
//! - [`spans`]: the parts of a trace; [`run_trace`]: which trace. Pure.
//! - [`traces`]: where traces go.

pub mod health;
pub mod levels;
pub mod logs;
pub mod metrics;
mod otlp_client;
pub mod run_trace;
pub mod spans;
pub mod traces;
pub mod transition;

pub use health::Health;
pub use metrics::Metrics;
