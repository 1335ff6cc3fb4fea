//! PostgreSQL as the source, against real servers.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

#[path = "source/bench.rs"]
mod bench;
#[path = "source/catalogs.rs"]
mod catalogs;
#[path = "source/changes.rs"]
mod changes;
#[path = "source/counts.rs"]
mod counts;
#[path = "source/entering.rs"]
mod entering;
#[path = "source/inventory.rs"]
mod inventory;
#[path = "source/locking.rs"]
mod locking;
#[path = "source/privileges.rs"]
mod privileges;
#[path = "source/proxy.rs"]
mod proxy;
#[path = "source/reading.rs"]
mod reading;
