//! Why PostgreSQL refused or failed, in words that callers act on.

use std::path::PathBuf;

use crate::format::relation::QualifiedName;
use crate::hint::WayIn;

/// The cause of a [`SourceError`] that has one.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A session that holds, or waits for, a lock that stands in our way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Process id of its backend; `None` for a prepared transaction, which has none.
    pub pid: Option<i32>,
    /// Its role, or the identifier of the prepared transaction.
    pub owner: String,
    /// State and last query, cut to [`Blocker::QUERY_CHARACTERS`]; the server hides it from roles
    /// without `pg_read_all_stats`.
    pub query: String,
}

impl Blocker {
    /// Enough to recognise a statement by, and short enough for a status field.
    pub const QUERY_CHARACTERS: usize = 160;
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid} ({}): {}", self.owner, self.query),
            None => write!(f, "prepared transaction {}", self.owner),
        }
    }
}

/// What went wrong between us and a PostgreSQL server, or with one of its tools.
///
/// `Display` names the object and what was wanted of it, and never repeats its source; no variant holds
/// a password.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "fields are named by the messages above them")]
pub enum SourceError {
    /// The endpoint's address or its options make no sense.
    #[error("{what}")]
    InvalidEndpoint { what: String },
    /// No connection could be made.
    #[error("{endpoint}: the server can't be reached")]
    ServerUnreachable { endpoint: String, source: Cause },
    /// The TLS handshake or the check of the certificate failed.
    #[error("{endpoint}: no trusted TLS connection")]
    TlsFailed { endpoint: String, source: Cause },
    /// The server doesn't accept the role or its password.
    #[error("{endpoint}: the server doesn't let role {user:?} in")]
    AuthenticationFailed { endpoint: String, user: String, source: Cause },
    /// The database doesn't exist.
    #[error("{endpoint}: there is no database {database:?}")]
    DatabaseMissing { endpoint: String, database: String, source: Cause },
    /// `max_connections`, or the role's or database's own limit, is used up.
    #[error("{endpoint}: no connection is free")]
    TooManyConnections { endpoint: String, source: Cause },
    /// The server starts, stops or recovers.
    #[error("{endpoint}: the server takes no connections at the moment")]
    ServerNotReady { endpoint: String, source: Cause },
    /// A connection ended in the middle of something.
    #[error("the connection was lost while {doing}")]
    ConnectionLost { doing: String, source: Cause },
    /// The server is a standby.
    #[error("{endpoint} is a standby; its snapshots can't be shared between connections safely")]
    StandbyRefused { endpoint: String },
    /// The server is older than 13.
    #[error("{endpoint} runs PostgreSQL {version}; 13 is the oldest supported")]
    ServerTooOld { endpoint: String, version: String },
    /// A transaction pooler stands between us and the server.
    #[error("{endpoint} is a transaction pooler: {evidence}")]
    PoolerDetected { endpoint: String, evidence: String },
    /// The catalog of an SQL_ASCII database holds names that are not UTF-8.
    #[error("a name in the catalog of {endpoint} is not UTF-8")]
    NamesNotUtf8 { endpoint: String, source: Cause },
    /// The role lacks a privilege.
    #[error("role {user:?} may not do this: {doing}")]
    PermissionDenied { user: String, doing: String, source: Cause },
    /// Tables that have to be read may not be.
    #[error("role {user:?} lacks privileges: {}", .grants.join("; "))]
    PrivilegesMissing { user: String, grants: Vec<String> },
    /// Row security would hide rows from this role.
    #[error("row security would hide rows of {table} from role {user:?}")]
    RowSecurityFilters { table: QualifiedName, user: String },
    /// A lock was not to be had within its limits.
    #[error("{doing}: no lock within its time limit ({tries} tries); in the way: {}", blockers_text(.blockers))]
    LockTimeout { doing: String, tries: u32, blockers: Vec<Blocker> },
    /// The server's lock table is full.
    #[error("the server has no room for locks on {tables} tables")]
    LocksExhausted { tables: usize, source: Cause },
    /// The snapshot is gone: whoever exported it has ended.
    #[error("snapshot {id} is gone")]
    SnapshotLost { id: String, source: Cause },
    /// Tables came, went or changed faster than a consistent view of them could be taken.
    #[error("the catalog changed while it was read: {what}")]
    CatalogChanged { what: String },
    /// A table was rewritten or truncated after the plan was made.
    #[error("{table} was rewritten after it was planned (relfilenode {planned}, now {found})")]
    RelationRewritten { table: QualifiedName, planned: u32, found: u32 },
    /// A table of the plan is gone.
    #[error("{table} of the plan is gone")]
    RelationMissing { table: QualifiedName },
    /// Something that can't be backed up so that it could be restored.
    #[error("{object} can't be backed up: {why}")]
    Unsupported { object: String, why: String },
    /// A program isn't there in a version that fits.
    #[error("no {tool} for {wanted}; looked in {}", paths_text(.searched))]
    ToolMissing { tool: &'static str, wanted: String, searched: Vec<PathBuf> },
    /// Programs were found, but none of a version that fits.
    #[error("no {tool} for {wanted}; found only {}", .found.join(", "))]
    ToolUnfit { tool: &'static str, wanted: String, found: Vec<String> },
    /// A program failed.
    #[error("{tool} failed ({status}): {stderr}")]
    ToolFailed {
        tool: &'static str,
        status: String,
        /// Its exit code; absent where a signal ended it.
        code: Option<i32>,
        stderr: String,
    },
    /// A row is longer than the gigabyte that the server can build a message of.
    #[error("{doing}: a row is too long for PostgreSQL to send it")]
    RowTooLong { doing: String, source: Cause },
    /// A statement failed.
    #[error("{doing}")]
    Query { doing: String, source: Cause },
    /// The server's answer isn't of the form that was asked for.
    #[error("{doing}: the server answered {answer}")]
    UnexpectedAnswer { doing: String, answer: String },
    /// A file or a pipe on this machine failed.
    #[error("{doing}")]
    Local { doing: String, source: std::io::Error },
}

fn blockers_text(blockers: &[Blocker]) -> String {
    if blockers.is_empty() {
        return "nobody that could still be seen".to_owned();
    }
    blockers.iter().map(Blocker::to_string).collect::<Vec<_>>().join("; ")
}

fn paths_text(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What can be done after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// Nothing: a person has to change something first.
    GiveUp,
    /// The same again over a new connection; under an exported snapshot, as long as that lives.
    Reconnect,
    /// A new plan: snapshot, locks and catalogs are taken anew.
    NewPlan,
}

/// What mends each failure that can be mended without a person. LockTimeout can't: a lock was already tried for as often
/// as its limits allow.
const RECOVERIES: [(&str, Recovery); 8] = [
    ("ServerUnreachable", Recovery::Reconnect),
    ("TooManyConnections", Recovery::Reconnect),
    ("ServerNotReady", Recovery::Reconnect),
    ("ConnectionLost", Recovery::Reconnect),
    ("SnapshotLost", Recovery::NewPlan),
    ("CatalogChanged", Recovery::NewPlan),
    ("RelationRewritten", Recovery::NewPlan),
    ("RelationMissing", Recovery::NewPlan),
];

impl Recovery {
    /// What can be done after a failure of this [`reason`](SourceError::reason), which is all that another process tells
    /// of its failure: nothing, where it isn't one of the source's.
    #[must_use]
    pub fn of(reason: &str) -> Self {
        let known = RECOVERIES.iter().find(|(word, _)| *word == reason);
        known.map_or(Self::GiveUp, |(_, recovery)| *recovery)
    }
}

impl SourceError {
    reasons! {
        /// A stable word for statuses, events and metrics.
        pub words {
            Self::InvalidEndpoint { .. } => "InvalidEndpoint",
            Self::ServerUnreachable { .. } => "ServerUnreachable",
            Self::TlsFailed { .. } => "TlsFailed",
            Self::AuthenticationFailed { .. } => "AuthenticationFailed",
            Self::DatabaseMissing { .. } => "DatabaseMissing",
            Self::TooManyConnections { .. } => "TooManyConnections",
            Self::ServerNotReady { .. } => "ServerNotReady",
            Self::ConnectionLost { .. } => "ConnectionLost",
            Self::StandbyRefused { .. } => "StandbyRefused",
            Self::ServerTooOld { .. } => "ServerTooOld",
            Self::PoolerDetected { .. } => "PoolerDetected",
            Self::NamesNotUtf8 { .. } => "NamesNotUtf8",
            Self::PermissionDenied { .. } => "PermissionDenied",
            Self::PrivilegesMissing { .. } => "PrivilegesMissing",
            Self::RowSecurityFilters { .. } => "RowSecurityFilters",
            Self::LockTimeout { .. } => "LockTimeout",
            Self::LocksExhausted { .. } => "LocksExhausted",
            Self::SnapshotLost { .. } => "SnapshotLost",
            Self::CatalogChanged { .. } => "CatalogChanged",
            Self::RelationRewritten { .. } => "RelationRewritten",
            Self::RelationMissing { .. } => "RelationMissing",
            Self::Unsupported { .. } => "Unsupported",
            Self::ToolMissing { .. } => "ToolMissing",
            Self::ToolUnfit { .. } => "ToolUnfit",
            Self::ToolFailed { .. } => "ToolFailed",
            Self::RowTooLong { .. } => "RowTooLong",
            Self::Query { .. } => "QueryFailed",
            Self::UnexpectedAnswer { .. } => "UnexpectedAnswer",
            Self::Local { .. } => "LocalFailure",
        }
        passed_on {
        }
    }

    /// What can be done about it without a person.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::of(self.reason())
    }

    /// Whether trying again can help at all.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.recovery() != Recovery::GiveUp
    }

    /// What the reader can do.
    #[must_use]
    pub const fn hint(&self, way: WayIn) -> &'static str {
        match self {
            Self::InvalidEndpoint { .. } => {
                "postgres://user@host:port/database?sslmode=verify-full&sslrootcert=FILE"
            }
            Self::ServerUnreachable { .. } => "check host, port and network policies",
            Self::TlsFailed { .. } => way.says(
                "give the authority that signed the server's certificate, by ?sslrootcert=FILE in the URL after --source \
                 or --target, and as host a name that the certificate carries; for a server without TLS, ?sslmode=disable",
                "give the authority that signed the server's certificate, by tls.ca, and as host a name that the \
                 certificate carries; for a server without TLS, tls.mode: Disable",
            ),
            Self::AuthenticationFailed { .. } => way.says(
                "set PGPASSWORD or PGPASSFILE; check the role and pg_hba.conf",
                "check username and password in the Secret that credentialsSecret names, the role, and pg_hba.conf",
            ),
            Self::DatabaseMissing { .. } => way.says(
                "check the database's name in the URL after --source, or of --target and --maintenance-database",
                "check the field database",
            ),
            Self::TooManyConnections { .. } => way.says(
                "free connections, or lower --parallelism",
                "free connections, or lower spec.parallelism",
            ),
            Self::ServerNotReady { .. } => "wait until the server accepts connections",
            Self::ConnectionLost { .. } => "look into the server's log for the reason",
            Self::StandbyRefused { .. } => "give the primary as endpoint",
            Self::ServerTooOld { .. } => "upgrade the server",
            Self::PoolerDetected { .. } => "connect to PostgreSQL itself, or to a pool in session mode",
            Self::NamesNotUtf8 { .. } => "rename the object, in a session with client_encoding SQL_ASCII",
            Self::PermissionDenied { .. } => {
                "grant what is missing: membership in pg_read_all_data usually suffices"
            }
            Self::PrivilegesMissing { .. } => "run the GRANT statements as an administrator",
            Self::RowSecurityFilters { .. } => "use a role with BYPASSRLS, or the owner of the table",
            Self::LockTimeout { .. } => "end the session named, or back up when no such statement runs",
            Self::LocksExhausted { .. } => "raise max_locks_per_transaction",
            Self::SnapshotLost { .. } => "a new plan starts over; look into the server's log for the reason",
            Self::CatalogChanged { .. } => "back up when no tables are created, dropped or altered",
            Self::RelationRewritten { .. } | Self::RelationMissing { .. } => {
                "a new plan starts over; back up when nothing truncates, clusters or drops tables"
            }
            Self::Unsupported { .. } => way.says(
                "change the object, or leave its table out by --exclude-table",
                "change the object, or leave its table out by spec.source.postgres.exclude.tables",
            ),
            Self::ToolMissing { .. } | Self::ToolUnfit { .. } => {
                "install PostgreSQL's client programs of that version, or name their directory (--tools, VOUCHSAFE_PG_TOOLS)"
            }
            Self::ToolFailed { .. } => "the message is the program's own",
            Self::RowTooLong { .. } => way.says(
                "split the value (text doubles a bytea; a table is read as text because of a column whose type isn't \
                 built in), or leave the table out by --exclude-table",
                "split the value (text doubles a bytea; a table is read as text because of a column whose type isn't \
                 built in), or leave the table out by spec.source.postgres.exclude.tables",
            ),
            Self::Query { .. } => "the message is the server's own",
            Self::UnexpectedAnswer { .. } => "is the server PostgreSQL, 13 to 18?",
            Self::Local { .. } => "check space and permissions on this machine",
        }
    }

    /// Sorts a failed statement into the kinds above by its SQLSTATE (PostgreSQL manual, appendix A).
    pub(crate) fn from_statement(doing: impl Into<String>, user: &str, error: tokio_postgres::Error) -> Self {
        let doing = doing.into();
        let Some(code) = error.code().map(|code| code.code().to_owned()) else {
            return if error.is_closed() || is_io(&error) {
                Self::ConnectionLost { doing, source: error.into() }
            } else {
                Self::Query { doing, source: error.into() }
            };
        };
        match code.as_str() {
            "42501" => Self::PermissionDenied { user: user.to_owned(), doing, source: error.into() },
            // admin_shutdown, crash_shutdown, cannot_connect_now, idle_in_transaction_session_timeout …,
            // and the class of broken connections.
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" => {
                Self::ConnectionLost { doing, source: error.into() }
            }
            // lock_not_available: the session's own lock_timeout, where nobody watched who was in the way.
            "55P03" => Self::LockTimeout { doing, tries: 1, blockers: Vec::new() },
            code if code.starts_with("08") => Self::ConnectionLost { doing, source: error.into() },
            // MaxAllocSize: an internal error for one value, program_limit_exceeded for a row of several.
            "XX000" | "54000" if is_too_long(&error) => Self::RowTooLong { doing, source: error.into() },
            _ => Self::Query { doing, source: error.into() },
        }
    }
}

fn is_too_long(error: &tokio_postgres::Error) -> bool {
    let routine = error.as_db_error().and_then(|error| error.routine()).unwrap_or_default();
    // Not by the message, which is in the server's language.
    matches!(
        routine,
        "enlargeStringInfo" | "MemoryContextAlloc" | "palloc" | "repalloc" | "MemoryContextSizeFailure"
    )
}

/// Whether an I/O error lies at the bottom of `error`.
pub(crate) fn is_io(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if current.is::<std::io::Error>() {
            return true;
        }
        cause = current.source();
    }
    false
}

/// An error and its causes on one line: for messages that have no chain to print.
#[must_use]
pub fn chain_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let next = current.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = current.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_mended_is_told_by_words_that_there_are() {
        for (word, _) in RECOVERIES {
            assert!(SourceError::REASONS.contains(&word), "no failure has the reason {word}");
        }
    }
}
