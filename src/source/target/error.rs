//! Why a restore's target refused or failed, in words that callers act on.

use std::path::PathBuf;

use crate::format::relation::QualifiedName;
use crate::hint::WayIn;
use crate::source::error::{Cause, Recovery, SourceError};

/// What went wrong between us and the database that is restored into.
///
/// `Display` names the object and what was wanted of it, and never repeats its source; no variant holds a
/// password. A cause is the server's own message, which may quote a value.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "fields are named by the messages above them")]
pub enum TargetError {
    /// The session itself: connecting, settings, permissions, tools.
    #[error(transparent)]
    Session(#[from] SourceError),
    /// The archive of the schema is damaged.
    #[error("the schema's archive is malformed at byte {offset}: {why}")]
    ArchiveMalformed { offset: u64, why: String },
    /// The archive is of a version that we can't read.
    #[error("the schema's archive is of version {version}; 1.12 to 1.16 are known")]
    ArchiveUnsupported { version: String },
    /// A table of the backup isn't defined in its archive.
    #[error("the schema's archive doesn't define {table}, whose rows the backup holds")]
    ArchiveLacks { table: QualifiedName },
    /// Roles have other names in the target, and an entry of the archive can't be told by them.
    #[error("roles are mapped, and {entry} of the schema's archive can't be told by other names: {why}")]
    RolesUnmapped { entry: String, why: String },
    /// The archive holds an extension that the recorded catalogs don't.
    #[error("the schema's archive holds extension {extension:?}, and the backup's catalogs don't name it")]
    ExtensionUnrecorded { extension: String },
    /// `pg_restore` sees another archive than we do.
    #[error("{program} and vouchsafe read different entries from the schema's archive: {difference}")]
    ArchiveDisputed { program: PathBuf, difference: String },
    /// `pg_restore` failed, or warned of anything.
    #[error("pg_restore failed ({status}) while restoring {phase}: {stderr}")]
    ToolFailed { phase: String, status: String, stderr: String },
    /// The database to be restored exists.
    #[error("database {name:?} exists already; a restore never touches it")]
    DatabaseExists { name: String },
    /// No database can have this name.
    #[error("a database can't be named {name:?}: 1 to 63 bytes, no NUL")]
    NameUnfit { name: String },
    /// A database has our name, and no mark of ours.
    #[error(
        "database {name:?} has the name of this restore's unfinished database, but not its mark: {found}"
    )]
    DatabaseNotOurs { name: String, found: String },
    /// Somebody is connected to a database that has to be renamed or dropped.
    #[error("database {name:?} is in use: {sessions}")]
    DatabaseInUse { name: String, sessions: String },
    /// The connection broke while the rename was being committed, and the server can't be asked.
    #[error("it is unknown whether database {from:?} was renamed to {to:?}")]
    RenameUnknown { from: String, to: String, source: Cause },
    /// A schema that is restored into holds something.
    #[error("schema {schema:?} is not empty: it holds {objects}")]
    SchemaNotEmpty { schema: String, objects: String },
    /// A table that this restore made has rows that it did not bring.
    #[error("{table} was made by this restore, and somebody else has put rows into it")]
    TableNotEmpty { table: QualifiedName },
    /// Another restore holds the target.
    #[error("another restore holds {name:?}: {holder}")]
    Fenced { name: String, holder: String },
    /// The session that held the fence is gone: whatever we do from here on, another restore might do too.
    #[error("the session that kept other restores from {name:?} is gone")]
    FenceLost { name: String, source: Cause },
    /// The target has no room.
    #[error("the target's disk is full: {doing}")]
    DiskFull { doing: String, source: Cause },
    /// The server refused a table's rows.
    #[error("{table}: the server refused the rows{}", at_text(.context))]
    RowsRefused { table: QualifiedName, context: Option<String>, source: Cause },
    /// A loader was used after it had failed.
    #[error("{table}: loading had failed before")]
    LoaderFailed { table: QualifiedName },
    /// A large object has the OID of one that is restored.
    #[error("large object {oid} exists already")]
    LargeObjectExists { oid: u32 },
    /// A large object isn't what was restored.
    #[error(
        "large object {oid} has other bytes, or another owner, comment or privileges, than in the backup"
    )]
    LargeObjectDiffers { oid: u32 },
    /// The recorded large objects make no sense.
    #[error("large objects: {why}")]
    LargeObjectsMalformed { why: String },
    /// What a selection names isn't in the backup.
    #[error("the backup holds no {what}")]
    SelectionUnknown { what: String },
    /// A file or a process on this machine failed.
    #[error("{doing}")]
    Local { doing: String, source: std::io::Error },
}

fn at_text(context: &Option<String>) -> String {
    context.as_ref().map(|context| format!(" ({context})")).unwrap_or_default()
}

impl TargetError {
    reasons! {
        /// A stable word for statuses, events and metrics.
        pub words {
            Self::ArchiveMalformed { .. } => "ArchiveMalformed",
            Self::ArchiveUnsupported { .. } => "ArchiveUnsupported",
            Self::ArchiveLacks { .. } => "ArchiveLacks",
            Self::RolesUnmapped { .. } => "RolesUnmapped",
            Self::ExtensionUnrecorded { .. } => "ExtensionUnrecorded",
            Self::ArchiveDisputed { .. } => "ArchiveDisputed",
            Self::ToolFailed { .. } => "ToolFailed",
            Self::DatabaseExists { .. } => "DatabaseExists",
            Self::NameUnfit { .. } => "NameUnfit",
            Self::DatabaseNotOurs { .. } => "DatabaseNotOurs",
            Self::DatabaseInUse { .. } => "DatabaseInUse",
            Self::RenameUnknown { .. } => "RenameUnknown",
            Self::SchemaNotEmpty { .. } => "SchemaNotEmpty",
            Self::TableNotEmpty { .. } => "TableNotEmpty",
            Self::Fenced { .. } => "Fenced",
            Self::FenceLost { .. } => "FenceLost",
            Self::DiskFull { .. } => "TargetDiskFull",
            Self::RowsRefused { .. } => "RowsRefused",
            Self::LoaderFailed { .. } => "LoaderFailed",
            Self::LargeObjectExists { .. } => "LargeObjectExists",
            Self::LargeObjectDiffers { .. } => "RestoreDiffers",
            Self::LargeObjectsMalformed { .. } => "LargeObjectsMalformed",
            Self::SelectionUnknown { .. } => "SelectionUnknown",
            Self::Local { .. } => "LocalFailure",
        }
        passed_on {
            Self::Session(error) => error.reason(),
        }
    }

    /// What can be done about it without a person. A restore that failed half-way is always begun anew: its
    /// database is dropped, so that nothing has to be known about what it holds.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Session(error) => error.recovery(),
            Self::FenceLost { .. } | Self::RenameUnknown { .. } => Recovery::Reconnect,
            Self::ArchiveMalformed { .. }
            | Self::ArchiveUnsupported { .. }
            | Self::ArchiveLacks { .. }
            | Self::RolesUnmapped { .. }
            | Self::ExtensionUnrecorded { .. }
            | Self::ArchiveDisputed { .. }
            | Self::ToolFailed { .. }
            | Self::DatabaseExists { .. }
            | Self::NameUnfit { .. }
            | Self::DatabaseNotOurs { .. }
            | Self::DatabaseInUse { .. }
            | Self::SchemaNotEmpty { .. }
            | Self::TableNotEmpty { .. }
            | Self::Fenced { .. }
            | Self::DiskFull { .. }
            | Self::RowsRefused { .. }
            | Self::LoaderFailed { .. }
            | Self::LargeObjectExists { .. }
            | Self::LargeObjectDiffers { .. }
            | Self::LargeObjectsMalformed { .. }
            | Self::SelectionUnknown { .. }
            | Self::Local { .. } => Recovery::GiveUp,
        }
    }

    /// What the reader can do.
    #[must_use]
    pub const fn hint(&self, way: WayIn) -> &'static str {
        match self {
            Self::Session(error) => error.hint(way),
            Self::ArchiveMalformed { .. } => "verify the backup: the object's digest should have caught this",
            Self::ArchiveUnsupported { .. } => "use a newer vouchsafe",
            Self::ExtensionUnrecorded { .. } => {
                "archive and catalogs are of different states; use another backup"
            }
            Self::ArchiveLacks { .. } => "archive and tables are of different snapshots; use another backup",
            Self::RolesUnmapped { .. } => "restore without the map, or without privileges, and report it",
            Self::ArchiveDisputed { .. } => {
                "name the folder of the pg_restore of the version that wrote the archive, by --tools"
            }
            Self::ToolFailed { .. } => {
                "the message is the program's own; the unfinished database can be looked into"
            }
            Self::DatabaseExists { .. } => way.says(
                "drop or rename it, or restore under another name: the database in the URL of --target",
                "drop or rename it, or restore under another name: spec.target.postgres.database",
            ),
            Self::NameUnfit { .. } => way.says(
                "choose another database in the URL of --target",
                "choose another spec.target.postgres.database",
            ),
            Self::DatabaseNotOurs { .. } => "see what it is; drop or rename it, and run the restore again",
            Self::DatabaseInUse { .. } => "end the sessions named, and run the restore again",
            Self::RenameUnknown { .. } => "look whether the database is there; if not, run the restore again",
            Self::SchemaNotEmpty { .. } => "empty it, choose others, or restore into a new database",
            Self::TableNotEmpty { .. } => "keep others out of the schemas until the restore has ended, and run it again",
            Self::Fenced { .. } => "wait for that restore, or end its session",
            Self::FenceLost { .. } => "look into the server's log for the reason, and run the restore again",
            Self::DiskFull { .. } => "free space on the target's disk, and run the restore again",
            Self::RowsRefused { .. } => "the message is the server's own",
            Self::LoaderFailed { .. } => "the first error names the reason",
            Self::LargeObjectExists { .. } => "restore into a new database",
            Self::LargeObjectDiffers { .. } => "the restore is not proven; keep the log, and report it",
            Self::LargeObjectsMalformed { .. } => "verify the backup",
            Self::SelectionUnknown { .. } => way.says(
                "vouchsafe show lists what it holds: correct --include-schema, --include-table or --exclude-table",
                "vouchsafe show lists what it holds: correct spec.include or spec.exclude",
            ),
            Self::Local { .. } => "check space and permissions on this machine",
        }
    }
}
