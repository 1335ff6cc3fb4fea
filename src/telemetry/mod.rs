//! What is seen of a controller from outside: metrics, health and logs. Imports no client: whoever watches the
//! cluster passes the resources in.
//!
//! - [`metrics`]: counters and histograms of what this process saw happen, and the page that Prometheus reads.
//! - [`levels`]: gauges, worked out of the resources at each reading, so that a restarted controller says the same.
//! - [`transition`]: what happened between two statuses of a Backup. Pure.
//! - [`health`]: whether the process does its work, and the server of all pages.
//! - [`logs`]: how lines are written.

pub mod health;
pub mod levels;
pub mod logs;
pub mod metrics;
pub mod transition;

pub use health::Health;
pub use metrics::Metrics;
