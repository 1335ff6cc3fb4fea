//! The catalogs that the schema archive doesn't carry, as entries of a document.

use serde::{Deserialize, Serialize};

use crate::format::CatalogKind;

use super::ServerFacts;
use super::connection::Session;
use super::error::SourceError;
use super::target::{DatabaseProperties, ExtensionVersion};
use super::{large_objects, roles, sequences};

/// An entry of the catalog of the database itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum DatabaseEntry {
    /// Owner, comment, settings, privileges.
    Properties(DatabaseProperties),
    /// The server, and how the database was made: one made from template0 takes encoding and locale.
    Server(Box<ServerFacts>),
    /// An extension with its version.
    Extension(ExtensionVersion),
    /// A tablespace that relations or the database itself lie in; a restore needs one of that name.
    Tablespace(String),
}

/// Reads one catalog, in the session's transaction: the snapshot's.
///
/// Roles are [`roles::Role`], sequences [`super::target::SequenceValue`], large objects
/// [`super::target::LargeObject`], the database's are [`DatabaseEntry`].
///
/// # Errors
/// Those of the functions that read them.
pub async fn entries(session: &Session, kind: CatalogKind) -> Result<Vec<serde_json::Value>, SourceError> {
    match kind {
        CatalogKind::Roles => values(&roles::read(session).await?),
        CatalogKind::Sequences => values(&sequences::read(session).await?),
        CatalogKind::LargeObjects => values(&large_objects::list(session).await?),
        CatalogKind::Database => values(&database(session).await?),
    }
}

fn values<T: Serialize>(entries: &[T]) -> Result<Vec<serde_json::Value>, SourceError> {
    let written: Result<Vec<_>, _> = entries.iter().map(serde_json::to_value).collect();
    written.map_err(|error| SourceError::UnexpectedAnswer {
        doing: "writing catalogs as JSON".into(),
        answer: error.to_string(),
    })
}

/// Properties, locale, extensions and tablespaces of the session's database.
///
/// # Errors
/// A failed query.
pub async fn database(session: &Session) -> Result<Vec<DatabaseEntry>, SourceError> {
    let server = ServerFacts::read(session).await?;
    let mut entries = vec![
        DatabaseEntry::Properties(DatabaseProperties::read(session).await?),
        DatabaseEntry::Server(Box::new(server)),
    ];
    entries.extend(extensions(session).await?.into_iter().map(DatabaseEntry::Extension));
    entries.extend(tablespaces(session).await?.into_iter().map(DatabaseEntry::Tablespace));
    Ok(entries)
}

/// Extensions by name, with their versions. `plpgsql` among them: it may be missing on purpose.
///
/// # Errors
/// A failed query.
pub async fn extensions(session: &Session) -> Result<Vec<ExtensionVersion>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT e.extname::text, e.extversion, n.nspname::text
               FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1",
            &[],
        )
        .await
        .map_err(|error| session.error("listing extensions", error))?;
    Ok(rows
        .into_iter()
        .map(|row| ExtensionVersion { name: row.get(0), version: row.get(1), schema: row.get(2) })
        .collect())
}

async fn tablespaces(session: &Session) -> Result<Vec<String>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT spcname::text FROM pg_tablespace
              WHERE spcname <> 'pg_default' AND oid IN (
                    SELECT reltablespace FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'
                    UNION SELECT dattablespace FROM pg_database WHERE datname = current_database())
              ORDER BY 1",
            &[],
        )
        .await
        .map_err(|error| session.error("listing tablespaces", error))?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}
