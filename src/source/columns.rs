//! Columns and their types: what is copied, and in which format.

use std::collections::HashMap;

use crate::format::relation::CopyFormat;

use super::connection::Session;
use super::digests::type_parts;
use super::error::SourceError;

/// The columns of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    /// By name, in the order of `attnum`, generated and dropped ones left out.
    pub(crate) names: Vec<String>,
    pub(crate) format: CopyFormat,
    /// Holds a `reg*` type somewhere, whose values name objects that a restore may not have made yet.
    pub(crate) names_objects: bool,
    /// Columns of types whose input function refuses every value, with the type's name.
    pub(crate) unloadable: Vec<(String, String)>,
}

impl Default for Columns {
    /// A table without columns: nothing in it forbids binary.
    fn default() -> Self {
        Self { names: Vec::new(), format: CopyFormat::Binary, names_objects: false, unloadable: Vec::new() }
    }
}

/// Types that the server only makes itself: their input and receive functions raise "cannot accept a value".
const UNLOADABLE: &str = "'pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list', 'gtsvector', \
                          'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary', 'pg_ddl_command'";

/// Reads the columns of all tables with one query.
///
/// Binary is only for types that are the same in every database: in `pg_catalog` with an OID below 10000
/// (those are assigned by hand and never change; above, initdb hands them out: `information_schema`'s
/// `sql_identifier` is 13225, 12422, 12439 on 15, 16, 18), base types, ranges and multiranges with functions to
/// send and receive, checked through the elements of arrays and the subtypes of ranges. Arrays of and composites
/// with user-defined types carry OIDs, so their bytes differ after a restore; `reg*` would restore as numbers.
/// `tsquery` can't receive what it sends: an empty one is refused as malformed (13 to 18, tried).
pub(crate) async fn read(session: &Session) -> Result<HashMap<u32, Columns>, SourceError> {
    let parts = type_parts(session.version_num());
    let sql = format!(
        "WITH RECURSIVE columns AS MATERIALIZED (
             SELECT a.attrelid, a.attnum, a.attname::text AS name, a.atttypid
               FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
              WHERE c.relkind = 'r' AND c.oid >= 16384 AND a.attnum > 0
                AND NOT a.attisdropped AND a.attgenerated = ''),
         part (whole, part) AS MATERIALIZED (
             {parts}),
         reach (column_type, oid) AS (
             SELECT DISTINCT atttypid, atttypid FROM columns
             UNION SELECT r.column_type, p.part FROM reach r JOIN part p ON p.whole = r.oid),
         verdict AS MATERIALIZED (
             SELECT r.column_type,
                    bool_and(t.oid < 10000 AND n.nspname = 'pg_catalog' AND t.typtype IN ('b', 'r', 'm')
                             AND t.typsend <> 0 AND t.typreceive <> 0 AND t.typname !~ '^_?reg'
                             AND t.typname NOT IN ('tsquery', {UNLOADABLE})) AS portable,
                    bool_or(n.nspname = 'pg_catalog' AND t.oid < 10000 AND t.typname ~ '^_?reg') AS names_objects,
                    min(CASE WHEN n.nspname = 'pg_catalog' AND t.typname IN ({UNLOADABLE})
                             THEN t.typname::text END) AS unloadable
               FROM reach r JOIN pg_type t ON t.oid = r.oid JOIN pg_namespace n ON n.oid = t.typnamespace
              GROUP BY r.column_type)
         SELECT c.attrelid, c.name, v.portable, v.names_objects, v.unloadable
           FROM columns c JOIN verdict v ON v.column_type = c.atttypid
          ORDER BY c.attrelid, c.attnum"
    );
    let rows =
        session.client().query(&sql, &[]).await.map_err(|error| session.error("listing columns", error))?;
    let mut tables: HashMap<u32, Columns> = HashMap::new();
    for row in rows {
        let columns = tables.entry(row.get(0)).or_default();
        let name: String = row.get(1);
        if !row.get::<_, bool>(2) {
            columns.format = CopyFormat::Text;
        }
        columns.names_objects |= row.get::<_, bool>(3);
        if let Some(of_type) = row.get::<_, Option<String>>(4) {
            columns.unloadable.push((name.clone(), of_type));
        }
        columns.names.push(name);
    }
    Ok(tables)
}
