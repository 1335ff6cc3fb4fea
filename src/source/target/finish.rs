//! What comes after the rows: values of sequences, materialized views, statistics of the planner.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::error::TargetError;
use crate::format::relation::QualifiedName;
use crate::source::connection::Session;

/// Where a sequence stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SequenceValue {
    /// Its name.
    pub name: QualifiedName,
    /// `last_value`.
    pub last_value: i64,
    /// Whether that value was handed out: if not, it is the next one.
    pub is_called: bool,
}

/// Extensions are named where they are not at the version wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtensionVersion {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The schema that holds its objects.
    pub schema: String,
}

/// Creates the extensions, each at the version that was recorded if the server has it, else at the server's own
/// default (the preflight has said so). `order` is the plan's: what others need comes first.
///
/// The archive's own `CREATE EXTENSION IF NOT EXISTS` would take the default always.
///
/// # Errors
/// The server refuses; [`TargetError::ExtensionUnrecorded`] if the catalogs don't say which version it was: what
/// is made without it would fail later, or be something else.
pub async fn create_extensions(
    session: &Session,
    order: &[super::ExtensionEntry],
    recorded: &[ExtensionVersion],
) -> Result<(), TargetError> {
    use crate::format::relation::quote_identifier;
    for entry in order {
        let Some(extension) = recorded.iter().find(|extension| extension.name == entry.name) else {
            return Err(TargetError::ExtensionUnrecorded { extension: entry.name.clone() });
        };
        let doing = format!("creating extension {:?}", extension.name);
        let row = session
            .client()
            .query_opt(
                "SELECT 1 FROM pg_available_extension_versions WHERE name = $1::text AND version = $2",
                &[&extension.name, &extension.version],
            )
            .await
            .map_err(|error| session.error(doing.clone(), error))?;
        let version =
            row.map(|_| format!(" VERSION {}", quote_identifier(&extension.version))).unwrap_or_default();
        let sql = format!(
            "CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {}{version}",
            quote_identifier(&extension.name),
            quote_identifier(&extension.schema)
        );
        session.run(&doing, &sql).await?;
    }
    Ok(())
}

/// Sets every sequence to what was recorded.
///
/// # Errors
/// The server refuses a value or doesn't know a sequence.
pub async fn set_sequences(session: &Session, values: &[SequenceValue]) -> Result<(), TargetError> {
    let doing = "preparing to set sequences";
    let statement = session
        .client()
        .prepare("SELECT setval($1::text::regclass, $2, $3)")
        .await
        .map_err(|error| session.error(doing, error))?;
    for value in values {
        session
            .client()
            .query_one(&statement, &[&value.name.quoted(), &value.last_value, &value.is_called])
            .await
            .map_err(|error| session.error(format!("setting sequence {}", value.name), error))?;
    }
    Ok(())
}

/// Refreshes the materialized views that were populated at the source, as far as they were restored: those of
/// `order` in that order. Names in an archive that isn't in UTF-8 may be unreadable, so the target itself is asked
/// what is still empty; the archive's order is that of its OIDs.
///
/// # Errors
/// The server refuses, or a view's query fails.
pub async fn refresh_views(
    session: &Session,
    order: &[QualifiedName],
    populated: &HashSet<QualifiedName>,
) -> Result<(), TargetError> {
    for view in order.iter().filter(|view| populated.contains(*view)) {
        refresh(session, view).await?;
    }
    for view in empty_views(session).await?.iter().filter(|view| populated.contains(*view)) {
        refresh(session, view).await?;
    }
    Ok(())
}

/// Its query names tables as it did where it was written: the session's path holds nothing but pg_catalog.
async fn refresh(session: &Session, view: &QualifiedName) -> Result<(), TargetError> {
    let sql = format!("REFRESH MATERIALIZED VIEW {}", view.quoted());
    Ok(session.run(&format!("refreshing {view}"), &sql).await?)
}

async fn empty_views(session: &Session) -> Result<Vec<QualifiedName>, TargetError> {
    let rows = session
        .client()
        .query(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid",
            &[],
        )
        .await
        .map_err(|error| session.error("listing materialized views", error))?;
    Ok(rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// Collects the planner's statistics of the whole database.
///
/// # Errors
/// The server refuses. Tables that the role may not analyze are skipped by the server with a warning.
pub async fn analyze(session: &Session) -> Result<(), TargetError> {
    Ok(session.run("collecting statistics", "ANALYZE").await?)
}

/// Collects those of some tables and no others.
///
/// # Errors
/// As for [`analyze`].
pub async fn analyze_tables(session: &Session, tables: &[QualifiedName]) -> Result<(), TargetError> {
    for table in tables {
        let doing = format!("collecting statistics of {table}");
        session.run(&doing, &format!("ANALYZE {}", table.quoted())).await?;
    }
    Ok(())
}
