//! PostgreSQL as the source: sessions, locks, one snapshot, the catalog in it, and rows by COPY.
//!
//! The recipe and the traps behind it are in docs/design.md. In short: [`Held::take`] locks every table, digests
//! definitions, exports one snapshot and lists what is in it, until these agree. A [`Reader`] per worker imports
//! the snapshot, locks its tables again and compares their files before it reads a row. Nothing here knows where
//! the bytes go.

pub mod catalog;
mod columns;
pub mod connection;
mod dial;
pub mod digests;
pub mod endpoint;
pub mod error;
pub mod inventory;
pub mod large_objects;
pub mod likeness;
pub mod locks;
pub mod outline;
pub mod password;
pub mod preflight;
pub mod reader;
mod relations;
pub mod roles;
pub mod schema;
pub mod selection;
pub mod sequences;
pub mod server;
pub mod snapshot;
mod statements;
mod tap;
pub mod target;
mod tls;
pub mod tools;
pub mod views;

pub use catalog::{Catalog, ExportTable, KeyColumn, Omission, OmissionKind};
pub use connection::{ClientEncoding, Session};
pub use digests::CatalogDigest;
pub use endpoint::{Authorities, EndpointConfig, Host, Secret, Tls};
pub use error::{Blocker, Recovery, SourceError};
pub use likeness::Likeness;
pub use locks::{LockHolder, LockLimits};
pub use outline::Outline;
pub use password::PasswordSources;
pub use preflight::{Preflight, look, preflight};
pub use reader::{CopyStream, Reader, ServerHash};
pub use relations::tables_with_rows;
pub use schema::{SchemaArchive, SchemaFacts};
pub use selection::{SchemaPattern, Selection, TablePattern};
pub use server::{ServerFacts, refuse_pooler};
pub use snapshot::{Held, Snapshot, SnapshotHolder};
pub use tools::{Tool, ToolVersion, Tools};
