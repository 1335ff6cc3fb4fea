//! What a database has, as far as it can be told before anything is locked: enough to refuse a backup that asks for
//! what isn't there, before it claims a number.

use std::collections::BTreeSet;

use super::catalog::is_exported;
use super::connection::Session;
use super::error::SourceError;
use super::large_objects;
use super::relations::Relations;
use super::selection::Selection;
use crate::format::relation::QualifiedName;

/// A table that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlinedTable {
    /// Its name.
    pub name: QualifiedName,
    /// The root of its tree, if it is a partition.
    pub root: Option<QualifiedName>,
    /// Whether its rows are taken.
    pub taken: bool,
}

/// Schemas, tables and large objects of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// All schemas but those of the server.
    pub schemas: BTreeSet<String>,
    /// All tables whose rows a backup can hold, in no order.
    pub tables: Vec<OutlinedTable>,
    /// Whether there are pages of large objects.
    pub large_objects: bool,
}

impl Outline {
    pub(super) async fn read(
        session: &Session,
        relations: &Relations,
        selection: &Selection,
    ) -> Result<Self, SourceError> {
        let everything = Selection::default();
        let tables = relations.all.iter().filter(|relation| is_exported(relation, &everything));
        let tables = tables.map(|relation| OutlinedTable {
            name: relation.name.clone(),
            root: relations.root(relation).cloned(),
            taken: is_exported(relation, selection),
        });
        let rows = session
            .client()
            .query(
                "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
                &[],
            )
            .await
            .map_err(|error| session.error("listing schemas", error))?;
        let mut pages = large_objects::any(session).await?;
        if pages {
            let row = session.client().query_one("SELECT EXISTS (SELECT FROM pg_largeobject)", &[]).await;
            pages = row.map_err(|error| session.error("asking for large objects", error))?.get(0);
        }
        Ok(Self {
            schemas: rows.into_iter().map(|row| row.get(0)).collect(),
            tables: tables.collect(),
            large_objects: pages,
        })
    }
}
