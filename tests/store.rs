//! One suite for every store: folders, MinIO and SeaweedFS keep the same promises.

// Helpers of tests fail by panicking, as tests do; clippy.toml allows it only inside test functions.
#![allow(clippy::unwrap_used)]

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/environment.rs"]
mod environment;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/folder.rs"]
mod folder;
#[path = "store/location.rs"]
mod location;
#[path = "store/mutants.rs"]
mod mutants;
#[path = "store/private_ca.rs"]
mod private_ca;
#[path = "store/probe.rs"]
mod probe;
#[path = "store/retry.rs"]
mod retry;
#[path = "store/s3.rs"]
mod s3;
#[path = "store/upload.rs"]
mod upload;
#[path = "store/wire.rs"]
mod wire;
