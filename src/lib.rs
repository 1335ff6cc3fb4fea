//! Vouchsafe backs PostgreSQL up, and calls a backup `Succeeded` only after something other than
//! its writer has read every stored byte back and every count agrees.

#[macro_use]
mod reasons;

pub mod api;
pub mod cli;
pub mod codec;
pub mod controller;
pub mod engine;
pub mod format;
pub mod hint;
mod kill_point;
pub mod ledger;
pub mod mutant;
pub mod plan;
pub mod source;
pub mod store;
pub mod telemetry;

/// This release, as documents record it.
#[must_use]
pub const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
