//! Decisions that need nothing but their inputs: no client, no clock, no randomness.

pub mod locality;
