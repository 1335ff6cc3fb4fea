//! Real servers for Vouchsafe's tests: PostgreSQL 13 to 18, MinIO, SeaweedFS, Azurite and a Kubernetes API server, each
//! started in a folder of its own on a free port of 127.0.0.1, or of the address that pods of a cluster reach this
//! machine at. Google Cloud Storage, which has no such server, is imitated in this process.
//!
//! A test that needs a server must not pass without it. So everything here panics when it can't be done: a
//! missing tool with its name and the command that installs it, a server that won't start with its log.
//!
//! What a test process starts ends with it, however it ends: the kernel signals each server when the process
//! is gone (see [`spawn`]), and the servers' folders are removed then.

mod azurite;
mod gcs;
mod kubernetes;
mod pg_proxy;
mod ports;
mod postgres;
mod proxy;
mod psql;
mod s3;
mod scratch;
mod spawn;
mod template;
mod tls;
mod tools;

pub use azurite::{Azurite, shared as shared_azurite};
pub use gcs::{GcsServer, Trouble as GcsTrouble, shared as shared_gcs};
pub use kubernetes::{ApiServer, shared as shared_api_server};
pub use pg_proxy::{PgFault, PgProxy, PgRule};
pub use postgres::{Builder as PostgresBuilder, PASSWORD, PgVersion, Postgres, shared};
pub use proxy::{FaultProxy, WireFault, WireFired, WireReach, WireRule};
pub use psql::PsqlFailed;
pub use s3::{Response, S3Kind, S3Server, shared as shared_s3};
pub use tls::{Certificates, make as make_certificates};
pub use tools::tool;
