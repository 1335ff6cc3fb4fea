//! The PostgreSQL side of a restore: preflight, the database under construction, the schema by `pg_restore`,
//! rows by COPY, and what comes after them.
//!
//! The order is [`RestorePlan`]'s; who calls what when is the engine's. Nothing here reads a bucket.

mod archive;
mod database;
mod error;
mod fence;
mod libpq;
mod loader;
mod plan;
mod properties;
mod subset;
mod toc;

pub use archive::{Archive, ArchiveOptions};
pub use database::{DatabaseOptions, NewDatabase, RestoreId, drop_unfinished, exists};
pub use error::TargetError;
pub use fence::Fence;
pub use loader::{LoadMode, Loader, TableLoad};
pub use plan::{DumpIds, ExtensionEntry, Omission, RestorePlan, Step, TableGroup};
pub use properties::{DatabaseGrant, DatabaseProperties, DatabaseSetting};
pub use toc::{Section, Toc, TocEntry};
