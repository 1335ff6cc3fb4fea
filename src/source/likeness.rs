//! What servers whose rows are united at a restore must have alike. Their rows are put under the definitions of the
//! first, read again in its encoding, and their large objects keep their OIDs: what differs there is a backup that
//! can't be restored.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::catalog::is_exported;
use super::connection::Session;
use super::error::SourceError;
use super::relations::Relations;
use super::selection::Selection;
use crate::format::relation::QualifiedName;

/// One server's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    encoding: String,
    /// Columns with their types, in order, of each table whose rows are taken.
    tables: BTreeMap<QualifiedName, Vec<(String, String)>>,
    /// Definitions, as far as a value must fit them; and whether what owns it is taken.
    sequences: BTreeMap<QualifiedName, (String, bool)>,
    large_objects: BTreeSet<u32>,
}

/// How two servers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In what.
    pub what: String,
    /// What to do.
    pub hint: &'static str,
}

const SAME_STATE: &str = "bring their schemas to the same state, or leave the table out";

impl Likeness {
    /// Reads it within the session's transaction, without a lock.
    ///
    /// # Errors
    /// A failed query.
    pub async fn read(session: &Session, selection: &Selection) -> Result<Self, SourceError> {
        let relations = Relations::list(session).await?;
        let mut columns = columns(session).await?;
        let taken = relations.all.iter().filter(|relation| is_exported(relation, selection));
        let tables =
            taken.map(|relation| (relation.name.clone(), columns.remove(&relation.oid).unwrap_or_default()));
        let tables = tables.collect();
        let row = session
            .client()
            .query_one("SELECT current_setting('server_encoding')", &[])
            .await
            .map_err(|error| session.error("asking for the encoding", error))?;
        let objects = session
            .client()
            .query("SELECT oid FROM pg_largeobject_metadata", &[])
            .await
            .map_err(|error| session.error("listing large objects", error))?;
        Ok(Self {
            encoding: row.get(0),
            tables,
            sequences: sequences(session, selection).await?,
            large_objects: objects.into_iter().map(|row| row.get(0)).collect(),
        })
    }

    /// The first thing in which `other` can't be united with this one, which comes first.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let differ = |what: String, hint: &'static str| Some(Difference { what, hint });
        if self.encoding != other.encoding {
            let (one, two) = (&self.encoding, &other.encoding);
            return differ(
                format!("the encoding of the database: {one} and {two}"),
                "back up each into a collection of its own",
            );
        }
        for name in self.tables.keys().chain(other.tables.keys()) {
            let (Some(ours), Some(theirs)) = (self.tables.get(name), other.tables.get(name)) else {
                return differ(format!("table {name}: one lacks it"), SAME_STATE);
            };
            if ours.iter().map(|(name, _)| name).ne(theirs.iter().map(|(name, _)| name)) {
                return differ(format!("table {name}: it has other columns"), SAME_STATE);
            }
            if let Some(((column, one), (_, two))) = ours.iter().zip(theirs).find(|(one, two)| one != two) {
                return differ(format!("table {name}: column {column} is {one} and {two}"), SAME_STATE);
            }
        }
        for (name, (theirs, taken)) in &other.sequences {
            match self.sequences.get(name) {
                None if *taken => {
                    let hint = "bring their schemas to the same state: its value would have no place";
                    return differ(format!("sequence {name}: the first lacks it"), hint);
                }
                Some((ours, _)) if ours != theirs => {
                    let hint = "give the sequence the same type, increment and bounds everywhere";
                    return differ(format!("sequence {name}: it is {ours} and {theirs}"), hint);
                }
                Some(_) | None => {}
            }
        }
        if let Some(oid) = self.large_objects.intersection(&other.large_objects).next() {
            return differ(
                format!("large object {oid}: both have one of this number"),
                "a restore could make only one of them: back up each into a collection of its own",
            );
        }
        None
    }
}

/// Columns that are copied, with their types: an enum with its labels, as its name says little.
async fn columns(session: &Session) -> Result<HashMap<u32, Vec<(String, String)>>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT a.attrelid, a.attname::text, format_type(a.atttypid, a.atttypmod) || coalesce(e.labels, '')
               FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
               LEFT JOIN (SELECT enumtypid, ' of ' || string_agg(quote_literal(enumlabel), ', ' ORDER BY enumlabel) AS labels
                            FROM pg_enum GROUP BY enumtypid) e ON e.enumtypid = a.atttypid
              WHERE c.relkind = 'r' AND c.oid >= 16384 AND a.attnum > 0
                AND NOT a.attisdropped AND a.attgenerated = ''
              ORDER BY a.attrelid, a.attnum",
            &[],
        )
        .await
        .map_err(|error| session.error("listing columns", error))?;
    let mut columns: HashMap<u32, Vec<(String, String)>> = HashMap::new();
    for row in rows {
        columns.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    Ok(columns)
}

/// Where a sequence starts and what it caches may differ: a restored one goes on from a value.
async fn sequences(
    session: &Session,
    selection: &Selection,
) -> Result<BTreeMap<QualifiedName, (String, bool)>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT n.nspname::text, c.relname::text,
                    format('%s, increment %s, from %s to %s%s', format_type(s.seqtypid, NULL), s.seqincrement,
                           s.seqmin, s.seqmax, CASE WHEN s.seqcycle THEN ', cycling' ELSE '' END),
                    tn.nspname::text, t.relname::text
               FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
               LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                    AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass
               LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
              WHERE c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname !~ '^pg_'
                AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass
                                   AND x.objid = c.oid AND x.deptype = 'e')",
            &[],
        )
        .await
        .map_err(|error| session.error("listing sequences", error))?;
    let sequence = |row: tokio_postgres::Row| {
        let name = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let owner = row.get::<_, Option<String>>(3).zip(row.get::<_, Option<String>>(4));
        let owner = owner.map(|(schema, table)| QualifiedName::new(schema, table));
        let taken = selection.takes(owner.as_ref().unwrap_or(&name));
        (name, (row.get(2), taken))
    };
    Ok(rows.into_iter().map(sequence).collect())
}
