//! Decisions as values: pure, without a client, a clock or randomness.

pub mod cadence;
pub mod cron;
pub mod locality;
pub mod placement;
pub mod retention;
pub mod spans;
pub mod timetable;
