//! The PostgreSQL side of a restore: preflight, the database under construction, the schema by `pg_restore`,
//! rows by COPY, and what comes after them.
//!
//! The order is [`RestorePlan`]'s; who calls what when is the engine's. Nothing here reads a bucket.

mod adapted;
mod archive;
mod database;
mod error;
mod existing;
mod fence;
mod finish;
pub mod large_objects;
pub mod large_objects_back;
mod loader;
mod plan;
mod preflight;
mod privileges;
mod properties;
mod rename;
mod renamed;
mod reread;
mod roles;
mod schemas;
mod subset;
mod toc;

pub use archive::{Archive, ArchiveOptions};
pub use database::{DatabaseOptions, NewDatabase, RestoreId, drop_unfinished, exists};
pub use error::TargetError;
pub use fence::Fence;
pub use finish::{
    ExtensionVersion, SequenceValue, analyze, analyze_tables, create_extensions, refresh_views, set_sequences,
};
pub use large_objects::{LargeObject, LargeObjectGrant, PageWriter};
pub use loader::{Loader, TableLoad, WholeLoad};
pub use plan::{DumpIds, ExtensionEntry, Omission, RestorePlan, Step, TableGroup};
pub use preflight::{Demands, Destination, Finding, Severity, preflight};
pub use properties::{DatabaseGrant, DatabaseProperties, DatabaseSetting};
pub use renamed::RoleNames;
pub use reread::{Rereader, Rows};
pub use roles::{create_roles, missing_roles};
pub use schemas::{ClaimedSchemas, Leftovers, existing as existing_schemas, give_up, others_are_in};
pub use toc::{Section, Toc, TocEntry};

/// A failed statement, a full disk told apart from the rest.
fn statement_error(
    session: &crate::source::connection::Session,
    doing: String,
    error: tokio_postgres::Error,
) -> TargetError {
    match error.code() {
        Some(code) if *code == tokio_postgres::error::SqlState::DISK_FULL => {
            TargetError::DiskFull { doing, source: error.into() }
        }
        _ => session.error(doing, error).into(),
    }
}
