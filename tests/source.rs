//! PostgreSQL as the source, against real servers.

#[path = "source/bench.rs"]
mod bench;
#[path = "source/reading.rs"]
mod reading;
