//! Restores into real servers, compared by SQL and pg_dump that share no code with what is tested.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]

#[path = "target/compare.rs"]
mod compare;
#[path = "target/copy.rs"]
mod copy;
#[path = "target/large_objects.rs"]
mod large_objects;
#[path = "target/loading.rs"]
mod loading;
#[path = "target/ownership.rs"]
mod ownership;
#[path = "target/preflight.rs"]
mod preflight;
#[path = "target/rename.rs"]
mod rename;
#[path = "target/selection.rs"]
mod selection;
#[path = "target/zoo.rs"]
mod zoo;
