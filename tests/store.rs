//! One suite for every store: folders, MinIO, SeaweedFS and Azurite keep the same promises.

// Helpers of tests fail by panicking, as tests do; clippy.toml allows it only inside test functions.
#![allow(clippy::unwrap_used)]

#[path = "store/azure.rs"]
mod azure;
#[path = "store/azure_identity.rs"]
mod azure_identity;
#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/environment.rs"]
mod environment;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/folder.rs"]
mod folder;
#[path = "store/gcs.rs"]
mod gcs;
#[path = "store/gcs_fake.rs"]
mod gcs_fake;
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
