//! What of a database is exported: its tables with how each is read, and everything that is left out.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::format::relation::{QualifiedName, TableFacts};

use super::columns::{self, Columns};
use super::connection::Session;
use super::error::SourceError;
use super::relations::{Relation, Relations};
use super::selection::Selection;

/// A column by which a table can be split where blocks can't be: not null, first in a unique B-tree index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// The column.
    pub column: String,
    /// Its type, as `format_type` writes it.
    pub of_type: String,
}

/// A table whose rows are exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportTable {
    /// What plan and manifest say of it.
    pub facts: TableFacts,
    /// `pg_am.amname`: only `heap` is known to scan by ctid.
    pub access_method: String,
    /// A column to split it by, if it has one.
    pub key: Option<KeyColumn>,
}

/// What kind of thing is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OmissionKind {
    /// The rows live on another server; the definition is in the schema archive.
    ForeignTable,
    /// It vanishes with its session.
    TemporaryTable,
    /// Its rows are made by CREATE EXTENSION, which doesn't list it as configuration.
    ExtensionMember,
    /// `include` or `exclude` leave its rows out; the definition is in the schema archive.
    Excluded,
    /// It lies in a schema that belongs to the server, of which pg_dump writes nothing.
    SystemSchema,
    /// This version doesn't know this kind of relation.
    UnknownKind,
    /// A restored one would connect to its publisher; its connection string may hold a password.
    Subscription,
    /// An exclusion constraint, or a key WITHOUT OVERLAPS, of a partitioned table: `pg_restore` can make it for each
    /// partition, and can't join those to the table's own.
    PartitionedExclusion,
}

/// Something of the source that the backup doesn't hold, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Omission {
    /// The object, as `schema.name` where it has a schema.
    pub object: String,
    /// What kind of thing it is.
    pub kind: OmissionKind,
    /// Why it is left out, for people.
    pub reason: String,
}

/// The tables of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Every table that is exported, by schema and name.
    pub tables: Vec<ExportTable>,
    /// Everything that isn't, by schema and name.
    pub omissions: Vec<Omission>,
    /// Ordinary and partitioned tables as they stand, with their relfilenodes: compared with what is locked.
    pub(crate) standing: Standing,
}

/// Which tables there are, and which file each is in; equal means that nothing came, went or was rewritten.
pub(crate) type Standing = std::collections::BTreeMap<u32, (QualifiedName, u32)>;

pub(crate) fn standing(relations: &Relations) -> Standing {
    relations.tables().map(|table| (table.oid, (table.name.clone(), table.relfilenode))).collect()
}

impl Catalog {
    /// Lists them within the session's transaction. The tables should be locked: sizes are read by functions
    /// that wait for whoever has locked a table exclusively.
    ///
    /// # Errors
    /// A failed query; [`SourceError::Unsupported`] for a column that holds values nobody can load;
    /// [`SourceError::RowSecurityFilters`].
    pub async fn read(session: &Session, selection: &Selection) -> Result<Self, SourceError> {
        let relations = Relations::list(session).await?;
        let mut columns = columns::read(session).await?;
        let keys = key_columns(session).await?;
        let unstable = unstable_hash_roots(session).await?;
        let mut catalog = Self { standing: standing(&relations), ..Self::default() };
        catalog.omissions.extend(subscriptions(session).await?);
        catalog.omissions.extend(partitioned_exclusions(session).await?);
        let mut taken = Vec::new();
        for relation in &relations.all {
            match omission(relation, selection) {
                Some(omission) => catalog.omissions.push(omission),
                None if relation.kind == 'r' => taken.push(relation),
                // A partitioned table has no rows of its own.
                None => {}
            }
        }
        relations.require_unfiltered(session.user(), selection)?;
        let sizes = sizes(session, &taken).await?;
        for relation in taken {
            let Columns { names: list, format, names_objects, unloadable } =
                columns.remove(&relation.oid).unwrap_or_default();
            refuse_unloadable(session, relation, &unloadable).await?;
            let (bytes, blocks) = sizes
                .get(&relation.oid)
                .copied()
                .ok_or_else(|| SourceError::CatalogChanged { what: format!("{} is gone", relation.name) })?;
            catalog.tables.push(ExportTable {
                facts: TableFacts {
                    name: relation.name.clone(),
                    oid: relation.oid,
                    relfilenode: relation.relfilenode,
                    columns: list,
                    format,
                    bytes,
                    blocks,
                    extension_condition: relation.extension_condition.clone(),
                    partition_root: relations.root(relation).cloned(),
                    load_through_root: relation.is_partition
                        && relations.ancestors(relation.oid).any(|ancestor| unstable.contains(&ancestor)),
                    load_after_indexes: names_objects,
                    unlogged: relation.persistence == 'u',
                },
                access_method: relation.access_method.clone(),
                key: keys.get(&relation.oid).cloned(),
            });
        }
        catalog.tables.sort_by(|one, other| one.facts.name.cmp(&other.facts.name));
        catalog.omissions.sort_by(|one, other| one.object.cmp(&other.object));
        Ok(catalog)
    }
}

/// Whether the rows of a relation are exported.
pub(crate) fn is_exported(relation: &Relation, selection: &Selection) -> bool {
    relation.kind == 'r' && omission(relation, selection).is_none()
}

fn omission(relation: &Relation, selection: &Selection) -> Option<Omission> {
    let (kind, reason) = match relation.kind {
        'f' => (OmissionKind::ForeignTable, "its rows are on another server".to_owned()),
        _ if relation.persistence == 't' => {
            (OmissionKind::TemporaryTable, "it belongs to a session, and vanishes with it".to_owned())
        }
        'r' | 'p' if relation.is_foreign_member() => (
            OmissionKind::ExtensionMember,
            format!(
                "extension {} makes it, and doesn't name it as configuration (pg_extension_config_dump)",
                relation.extension.as_deref().unwrap_or_default()
            ),
        ),
        'r' | 'p' if relation.in_system_schema() && relation.extension.is_none() => {
            (OmissionKind::SystemSchema, "its schema belongs to the server".to_owned())
        }
        'r' | 'p' if !selection.takes(&relation.name) => {
            // Of a partitioned table there is nothing to leave out.
            if relation.kind == 'p' {
                return None;
            }
            (OmissionKind::Excluded, "the backup's include and exclude leave it out".to_owned())
        }
        'r' | 'p' => return None,
        kind => {
            (OmissionKind::UnknownKind, format!("relations of kind {kind:?} are unknown to this version"))
        }
    };
    Some(Omission { object: relation.name.to_string(), kind, reason })
}

async fn subscriptions(session: &Session) -> Result<Vec<Omission>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT subname::text FROM pg_subscription
              WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
            &[],
        )
        .await
        .map_err(|error| session.error("listing subscriptions", error))?;
    let omission = |name| Omission {
        object: name,
        kind: OmissionKind::Subscription,
        reason: "a restored one would connect to its publisher; create it again after a restore".to_owned(),
    };
    Ok(rows.into_iter().map(|row| omission(row.get(0))).collect())
}

/// From 17 on partitioned tables may have exclusion constraints, from 18 on keys WITHOUT OVERLAPS. What pg_dump
/// writes of them, `ALTER INDEX … ATTACH PARTITION`, every server refuses: "The index definitions do not match".
async fn partitioned_exclusions(session: &Session) -> Result<Vec<Omission>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT n.nspname::text, c.relname::text, x.conname::text
               FROM pg_constraint x JOIN pg_class c ON c.oid = x.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'p' AND x.conexclop IS NOT NULL AND x.conparentid = 0 ORDER BY 1, 2, 3",
            &[],
        )
        .await
        .map_err(|error| session.error("listing exclusion constraints", error))?;
    let omission = |schema: String, table: String, constraint: String| {
        Omission {
        object: format!("{} constraint {constraint}", QualifiedName::new(schema, table)),
        kind: OmissionKind::PartitionedExclusion,
        reason: "after a restore each partition has it, and the partitioned table's own is invalid: pg_restore can't attach them; make it again then"
            .to_owned(),
    }
    };
    Ok(rows.into_iter().map(|row| omission(row.get(0), row.get(1), row.get(2))).collect())
}

/// Bytes of heap and TOAST, and blocks of the heap, by OID.
async fn sizes(session: &Session, taken: &[&Relation]) -> Result<HashMap<u32, (u64, u32)>, SourceError> {
    let oids: Vec<u32> = taken.iter().map(|relation| relation.oid).collect();
    let rows = session
        .client()
        .query(
            "SELECT c.oid, pg_relation_size(c.oid),
                    coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0),
                    current_setting('block_size')::int8
               FROM pg_class c WHERE c.oid = ANY ($1)",
            &[&oids],
        )
        .await
        .map_err(|error| session.error("reading the sizes of tables", error))?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let heap = row.get::<_, Option<i64>>(1)?;
            let toast = row.get::<_, i64>(2);
            let blocks = u32::try_from(heap / row.get::<_, i64>(3)).unwrap_or(u32::MAX);
            Some((row.get(0), (heap.unsigned_abs() + toast.unsigned_abs(), blocks)))
        })
        .collect())
}

/// A column to split each table by: of types whose order and text form are plain.
async fn key_columns(session: &Session) -> Result<HashMap<u32, KeyColumn>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT DISTINCT ON (i.indrelid) i.indrelid, a.attname::text, format_type(a.atttypid, NULL)
               FROM pg_index i
               JOIN pg_class x ON x.oid = i.indexrelid
               JOIN pg_am am ON am.oid = x.relam AND am.amname = 'btree'
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
               JOIN pg_opclass o ON o.oid = i.indclass[0] AND o.opcdefault
              WHERE i.indrelid >= 16384 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                AND i.indexprs IS NULL AND a.attnotnull AND a.attgenerated = ''
                AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype,
                                   'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
              ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid",
            &[],
        )
        .await
        .map_err(|error| session.error("listing keys", error))?;
    Ok(rows
        .into_iter()
        .map(|row| (row.get(0), KeyColumn { column: row.get(1), of_type: row.get(2) }))
        .collect())
}

/// Tables partitioned by a hash that a restored database computes differently: of an enum, a composite or any
/// type that carries OIDs, by an operator class of the user's, or under a nondeterministic collation.
async fn unstable_hash_roots(session: &Session) -> Result<HashSet<u32>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT DISTINCT p.partrelid
               FROM pg_partitioned_table p
               CROSS JOIN LATERAL unnest(p.partclass::oid[], p.partcollation::oid[]) AS k (opclass, coll)
               JOIN pg_opclass o ON o.oid = k.opclass
               LEFT JOIN pg_collation c ON c.oid = k.coll
              WHERE p.partstrat = 'h'
                AND (o.oid >= 16384 OR o.opcintype >= 10000 OR NOT coalesce(c.collisdeterministic, true)
                     OR o.opcintype::regtype::text
                        IN ('anyenum', 'anyarray', 'anyrange', 'anymultirange', 'record'))",
            &[],
        )
        .await
        .map_err(|error| session.error("listing hash partitions", error))?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}

/// A value that no server accepts can't be restored: better said before the backup than after the disaster.
async fn refuse_unloadable(
    session: &Session,
    relation: &Relation,
    unloadable: &[(String, String)],
) -> Result<(), SourceError> {
    for (column, of_type) in unloadable {
        let quoted = crate::format::relation::quote_identifier(column);
        let sql =
            format!("SELECT EXISTS (SELECT FROM ONLY {} WHERE {quoted} IS NOT NULL)", relation.name.quoted());
        let row = session.client().query_one(&sql, &[]).await;
        if row.map_err(|error| session.error(format!("reading {}", relation.name), error))?.get(0) {
            return Err(SourceError::Unsupported {
                object: format!("{}.{column}", relation.name),
                why: format!("PostgreSQL can't load values of type {of_type}"),
            });
        }
    }
    Ok(())
}
