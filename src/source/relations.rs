//! Which relations there are: tables of every kind, who inherits from whom, what belongs to extensions.

use std::collections::{BTreeSet, HashMap};

use crate::format::relation::{QualifiedName, quote_identifier};

use super::connection::Session;
use super::error::SourceError;
use super::selection::Selection;

/// OIDs below are given to what initdb makes (`FirstNormalObjectId` of access/transam.h): such relations are
/// part of the server, not of the data.
const FIRST_NORMAL_OBJECT: u32 = 16_384;

/// A relation that holds rows, or looks as if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) name: QualifiedName,
    /// `pg_class.relkind`.
    pub(crate) kind: char,
    /// `pg_class.relpersistence`.
    pub(crate) persistence: char,
    /// `pg_relation_filenode`: read from the system caches, so it is the current one in every transaction. 0
    /// where there is no storage.
    pub(crate) relfilenode: u32,
    /// `pg_am.amname`; empty where there is none.
    pub(crate) access_method: String,
    /// The extension that it belongs to.
    pub(crate) extension: Option<String>,
    /// Its condition, if it is in that extension's `extconfig`.
    pub(crate) extension_condition: Option<String>,
    /// This role may read it.
    pub(crate) readable: bool,
    /// This role may use its schema.
    pub(crate) reachable: bool,
    /// Row security hides rows of it from this role.
    pub(crate) filtered: bool,
    pub(crate) is_partition: bool,
}

impl Relation {
    /// Ordinary and partitioned tables that belong to the database: what is locked.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p')
            && self.persistence != 't'
            && !self.is_foreign_member()
            && (self.extension.is_some() || !self.in_system_schema())
    }

    /// A member of an extension whose rows are made by CREATE EXTENSION, and aren't data.
    pub(crate) fn is_foreign_member(&self) -> bool {
        self.extension.is_some() && self.extension_condition.is_none()
    }

    /// In a schema that belongs to the server: pg_dump writes nothing of it, so rows would have no table.
    pub(crate) fn in_system_schema(&self) -> bool {
        self.name.schema == "information_schema" || self.name.schema.starts_with("pg_")
    }
}

/// All relations with rows, and how they inherit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relations {
    /// Parents before their children, otherwise by OID.
    pub(crate) all: Vec<Relation>,
    /// Parents of each child, by OID: partitions have one, inheritance may give several.
    parents: HashMap<u32, Vec<u32>>,
    /// Of each in `all`, by OID.
    position: HashMap<u32, usize>,
}

impl Relations {
    /// Lists them by catalog alone: takes no lock on any of them, and so waits for nobody.
    pub(crate) async fn list(session: &Session) -> Result<Self, SourceError> {
        let doing = "listing tables";
        let rows = session
            .client()
            .query(
                "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
                        coalesce(pg_relation_filenode(c.oid), 0::oid), coalesce(am.amname::text, ''),
                        e.extname::text, config.condition,
                        has_table_privilege(c.oid, 'SELECT'),
                        c.relkind IN ('r', 'p') AND row_security_active(c.oid),
                        c.relispartition, has_schema_privilege(n.oid, 'USAGE')
                   FROM pg_class c
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                   LEFT JOIN pg_am am ON am.oid = c.relam
                   LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.objsubid = 0 AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
                   LEFT JOIN pg_extension e ON e.oid = d.refobjid
                   LEFT JOIN LATERAL (SELECT coalesce(e.extcondition[i], '') AS condition
                                        FROM generate_subscripts(e.extconfig, 1) i
                                       WHERE e.extconfig[i] = c.oid LIMIT 1) config ON true
                  WHERE c.relkind NOT IN ('i', 'I', 't', 'S', 'v', 'm', 'c') AND c.oid >= $1
                  ORDER BY c.oid",
                &[&FIRST_NORMAL_OBJECT],
            )
            .await
            .map_err(|error| session.error(doing, error))?;
        let mut relations = Self::default();
        for row in rows {
            relations.all.push(Relation {
                oid: row.get(0),
                name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
                kind: one_character(row.get(3)),
                persistence: one_character(row.get(4)),
                relfilenode: row.get(5),
                access_method: row.get(6),
                extension: row.get(7),
                extension_condition: row.get(8),
                // NULL if the relation is dropped meanwhile: what it lacks then is no privilege.
                readable: row.get::<_, Option<bool>>(9).unwrap_or(true),
                filtered: row.get::<_, Option<bool>>(10).unwrap_or(false),
                is_partition: row.get(11),
                reachable: row.get::<_, Option<bool>>(12).unwrap_or(true),
            });
        }
        let rows = session
            .client()
            .query(
                "SELECT inhrelid, inhparent FROM pg_inherits WHERE inhrelid >= $1",
                &[&FIRST_NORMAL_OBJECT],
            )
            .await
            .map_err(|error| session.error(doing, error))?;
        for row in rows {
            relations.parents.entry(row.get(0)).or_default().push(row.get(1));
        }
        let mut depths = HashMap::new();
        for relation in &relations.all {
            depth(relation.oid, &relations.parents, &mut depths);
        }
        relations.all.sort_by_key(|relation| (depths.get(&relation.oid).copied(), relation.oid));
        let position = relations.all.iter().enumerate().map(|(position, relation)| (relation.oid, position));
        relations.position = position.collect();
        Ok(relations)
    }

    /// The relations that are locked, parents first.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Relation> {
        self.all.iter().filter(|relation| relation.is_table())
    }

    /// The GRANTs that `user` lacks to lock and read every table. Also of tables whose rows are left out: pg_dump
    /// locks whatever it writes the definition of.
    pub(crate) fn missing_grants(&self, user: &str) -> Vec<String> {
        let role = quote_identifier(user);
        let schemas: BTreeSet<&str> =
            self.tables().filter(|table| !table.reachable).map(|table| table.name.schema.as_str()).collect();
        let usage = schemas
            .into_iter()
            .map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {role}", quote_identifier(schema)));
        let select = self
            .tables()
            .filter(|table| !table.readable)
            .map(|table| format!("GRANT SELECT ON {} TO {role}", table.name.quoted()));
        usage.chain(select).collect()
    }

    /// Refuses tables that row security would filter: their rows would be missing without an error, if
    /// `row_security` weren't off, and with an error in the middle of the backup, as it is.
    pub(crate) fn require_unfiltered(&self, user: &str, selection: &Selection) -> Result<(), SourceError> {
        match self.tables().find(|table| table.kind == 'r' && table.filtered && selection.takes(&table.name))
        {
            None => Ok(()),
            Some(table) => {
                Err(SourceError::RowSecurityFilters { table: table.name.clone(), user: user.to_owned() })
            }
        }
    }

    /// The root of the tree that a partition belongs to.
    pub(crate) fn root(&self, relation: &Relation) -> Option<&QualifiedName> {
        let root = relation.is_partition.then(|| self.ancestors(relation.oid).last()).flatten()?;
        self.position.get(&root).map(|position| &self.all[*position].name)
    }

    /// Its ancestors in a tree of partitions, nearest first.
    pub(crate) fn ancestors(&self, oid: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(oid), |oid| self.parents.get(oid)?.first().copied()).skip(1)
    }
}

/// The tables of the session's database that hold rows of their own: what a backup without a selection exports.
///
/// # Errors
/// A failed query.
pub async fn tables_with_rows(session: &Session) -> Result<Vec<QualifiedName>, SourceError> {
    let relations = Relations::list(session).await?;
    Ok(relations.tables().filter(|table| table.kind == 'r').map(|table| table.name.clone()).collect())
}

fn one_character(text: &str) -> char {
    text.chars().next().unwrap_or('?')
}

/// Longest way to a relation without parents. Inheritance has no cycles (the server refuses them).
fn depth(oid: u32, parents: &HashMap<u32, Vec<u32>>, known: &mut HashMap<u32, u32>) -> u32 {
    if let Some(depth) = known.get(&oid) {
        return *depth;
    }
    let found = parents
        .get(&oid)
        .and_then(|parents_of| parents_of.iter().map(|parent| depth(*parent, parents, known) + 1).max())
        .unwrap_or(0);
    known.insert(oid, found);
    found
}
