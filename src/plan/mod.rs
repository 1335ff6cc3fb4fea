//! Decisions as values: pure, without a client, a clock or randomness.

pub mod spans;
