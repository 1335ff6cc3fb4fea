//! One suite for every store: folders, MinIO and SeaweedFS keep the same promises.

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/folder.rs"]
mod folder;
#[path = "store/s3.rs"]
mod s3;
