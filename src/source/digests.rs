//! Finding changes that no lock keeps out: definitions that are looked up outside the snapshot.
//!
//! COPY in text format and `pg_get_viewdef`, `pg_get_indexdef` and their like, which pg_dump calls, read the
//! system caches: they see definitions as they are *now*, whatever the snapshot. `ALTER TYPE … RENAME VALUE`
//! takes no lock on the tables that use the type; a schema dumped with the label 'a' and rows copied with 'AAA'
//! can't be restored together. So what they look up is compared, in transactions of their own: before the
//! snapshot, and again after the last COPY (types) and after pg_dump (schema).

use std::collections::BTreeMap;

use crate::format::Sha256Digest;

use super::connection::{ClientEncoding, Session};
use super::endpoint::EndpointConfig;
use super::error::SourceError;

/// Definitions as they stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogDigest {
    /// One line for each fact about each user-defined type that a column of a table reaches.
    types: Vec<String>,
    /// Rows and sum of the rows' hashes, by catalog.
    schema: BTreeMap<&'static str, String>,
    /// The tables whose columns count.
    tables: Vec<u32>,
}

impl CatalogDigest {
    /// Reads the definitions, over a new connection: in a fresh transaction. `tables` are the OIDs of the tables
    /// whose columns count.
    ///
    /// # Errors
    /// A failed connection or query.
    pub async fn take(endpoint: &EndpointConfig, tables: &[u32]) -> Result<Self, SourceError> {
        let session = Session::connect(endpoint, "digest", &ClientEncoding::Utf8).await?;
        let (types, schema) = (types(&session, tables).await?, schema(&session).await?);
        session.close().await?;
        Ok(Self { types, schema, tables: tables.to_vec() })
    }

    /// Reads the definitions again, of the same tables' columns, in a fresh transaction.
    ///
    /// # Errors
    /// A failed connection or query.
    pub async fn again(&self, endpoint: &EndpointConfig) -> Result<Self, SourceError> {
        Self::take(endpoint, &self.tables).await
    }

    /// SHA-256 of the whole.
    #[must_use]
    pub fn sha256(&self) -> Sha256Digest {
        let schema = self.schema.iter().map(|(catalog, sum)| format!("{catalog} {sum}"));
        Sha256Digest::of(self.types.iter().cloned().chain(schema).collect::<Vec<_>>().join("\n").as_bytes())
    }

    /// Compares the types that rows are written with: to be called with a digest taken after the last COPY.
    ///
    /// # Errors
    /// [`SourceError::CatalogChanged`] naming the first difference.
    pub fn require_same_types(&self, later: &Self) -> Result<(), SourceError> {
        if self.types == later.types {
            return Ok(());
        }
        let gone = self.types.iter().find(|line| !later.types.contains(line));
        let come = later.types.iter().find(|line| !self.types.contains(line));
        let shown = |line: Option<&String>| line.map_or("nothing".to_owned(), Clone::clone);
        Err(SourceError::CatalogChanged {
            what: format!("a type was {}, and is now {}", shown(gone), shown(come)),
        })
    }

    /// Compares everything that pg_dump writes: to be called with a digest taken after it has ended.
    ///
    /// # Errors
    /// [`SourceError::CatalogChanged`] naming the system catalogs that differ.
    pub fn require_same_schema(&self, later: &Self) -> Result<(), SourceError> {
        let differing: Vec<&str> = self
            .schema
            .iter()
            .filter(|(catalog, sum)| later.schema.get(*catalog) != Some(sum))
            .map(|(catalog, _)| *catalog)
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(SourceError::CatalogChanged {
            what: format!("definitions in {} changed while the schema was dumped", differing.join(", ")),
        })
    }
}

/// Types that a type consists of, as `(whole, part)`.
pub(super) fn type_parts(version_num: u32) -> String {
    let multirange =
        if version_num >= 140_000 { "UNION ALL SELECT rngmultitypid, rngtypid FROM pg_range" } else { "" };
    format!(
        "SELECT oid, typelem FROM pg_type WHERE typelem <> 0
         UNION ALL SELECT oid, typbasetype FROM pg_type WHERE typbasetype <> 0
         UNION ALL SELECT t.oid, a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
                    WHERE t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
         UNION ALL SELECT rngtypid, rngsubtype FROM pg_range
         {multirange}"
    )
}

async fn types(session: &Session, tables: &[u32]) -> Result<Vec<String>, SourceError> {
    let sql = format!(
        "WITH RECURSIVE part (whole, part) AS MATERIALIZED ({}),
         reach (oid) AS (
             SELECT atttypid FROM pg_attribute
              WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped
             UNION SELECT p.part FROM reach r JOIN part p ON p.whole = r.oid),
         own AS MATERIALIZED (
             SELECT t.oid, t.typrelid, format('type %s.%s', n.nspname, t.typname) AS name,
                    format('kind %s base %s typmod %s element %s collation %s delimiter %s in %s out %s not null %s',
                           t.typtype, t.typbasetype::regtype, t.typtypmod, t.typelem::regtype,
                           t.typcollation::regcollation, t.typdelim, t.typinput, t.typoutput, t.typnotnull) AS facts
               FROM reach r JOIN pg_type t ON t.oid = r.oid JOIN pg_namespace n ON n.oid = t.typnamespace
              WHERE t.oid >= 10000)
         SELECT name || ': ' || facts AS line FROM own
          UNION ALL
         SELECT format('%s: label %L at %s', o.name, e.enumlabel, e.enumsortorder)
           FROM own o JOIN pg_enum e ON e.enumtypid = o.oid
          UNION ALL
         SELECT format('%s: attribute %s %I %s dropped %s', o.name, a.attnum, a.attname,
                       format_type(a.atttypid, a.atttypmod), a.attisdropped)
           FROM own o JOIN pg_attribute a ON a.attrelid = o.typrelid WHERE a.attnum > 0
          UNION ALL
         SELECT format('%s: constraint %I %s', o.name, c.conname, pg_get_constraintdef(c.oid))
           FROM own o JOIN pg_constraint c ON c.contypid = o.oid
          UNION ALL
         SELECT format('extension %I %s', extname, extversion) FROM pg_extension
          ORDER BY 1",
        type_parts(session.version_num())
    );
    let rows = session.client().query(&sql, &[&tables]).await;
    let rows = rows.map_err(|error| session.error("digesting types", error))?;
    let mut lines: Vec<String> = rows.into_iter().map(|row| row.get(0)).collect();
    // The database's collation may put equal-looking lines in any order.
    lines.sort_unstable();
    Ok(lines)
}

/// The catalogs that pg_dump reads, each with its condition. Temporary tables come and go all the time, and
/// aren't dumped. `pg_class` by columns: statistics, and the file of a refreshed materialized view or a rebuilt
/// index, are no definitions.
const SCHEMA: &[(&str, &str, &str)] = &[
    (
        "pg_class",
        "ROW(oid, relname, relnamespace, reltype, reloftype, relowner, relam, reltablespace, relkind, \
         relpersistence, relnatts, relchecks, relhasrules, relhastriggers, relrowsecurity, relforcerowsecurity, \
         relreplident, relispartition, relacl, reloptions, relpartbound)::text",
        "x.oid IN (SELECT oid FROM own)",
    ),
    ("pg_attribute", "x::text", "x.attrelid IN (SELECT oid FROM own) AND x.attnum > 0"),
    ("pg_attrdef", "x::text", "x.adrelid IN (SELECT oid FROM own)"),
    ("pg_constraint", "x::text", "x.oid >= 16384 AND x.connamespace NOT IN (SELECT oid FROM temporary)"),
    ("pg_index", "x::text", "x.indexrelid IN (SELECT oid FROM own)"),
    ("pg_rewrite", "x::text", "x.ev_class IN (SELECT oid FROM own)"),
    ("pg_trigger", "x::text", "x.tgrelid IN (SELECT oid FROM own)"),
    ("pg_policy", "x::text", "x.polrelid IN (SELECT oid FROM own)"),
    ("pg_inherits", "x::text", "x.inhrelid IN (SELECT oid FROM own)"),
    ("pg_sequence", "x::text", "x.seqrelid IN (SELECT oid FROM own)"),
    ("pg_partitioned_table", "x::text", "x.partrelid IN (SELECT oid FROM own)"),
    ("pg_type", "x::text", "x.oid >= 16384 AND x.typnamespace NOT IN (SELECT oid FROM temporary)"),
    ("pg_proc", "x::text", "x.oid >= 16384 AND x.pronamespace NOT IN (SELECT oid FROM temporary)"),
    ("pg_namespace", "x::text", "x.oid NOT IN (SELECT oid FROM temporary)"),
    ("pg_enum", "x::text", "true"),
    ("pg_range", "x::text", "true"),
    ("pg_aggregate", "x::text", "x.aggfnoid::oid >= 16384"),
    ("pg_extension", "x::text", "true"),
    ("pg_event_trigger", "x::text", "true"),
    ("pg_publication", "x::text", "true"),
    ("pg_publication_rel", "x::text", "true"),
    ("pg_language", "x::text", "true"),
    ("pg_cast", "x::text", "x.oid >= 16384"),
    ("pg_operator", "x::text", "x.oid >= 16384"),
    ("pg_opclass", "x::text", "x.oid >= 16384"),
    ("pg_opfamily", "x::text", "x.oid >= 16384"),
    ("pg_amop", "x::text", "x.oid >= 16384"),
    ("pg_amproc", "x::text", "x.oid >= 16384"),
    ("pg_am", "x::text", "x.oid >= 16384"),
    ("pg_conversion", "x::text", "x.oid >= 16384"),
    ("pg_collation", "x::text", "x.oid >= 16384"),
    ("pg_ts_parser", "x::text", "x.oid >= 16384"),
    ("pg_ts_template", "x::text", "x.oid >= 16384"),
    ("pg_ts_dict", "x::text", "x.oid >= 16384"),
    ("pg_ts_config", "x::text", "x.oid >= 16384"),
    ("pg_ts_config_map", "x::text", "x.mapcfg >= 16384"),
    ("pg_foreign_data_wrapper", "x::text", "true"),
    ("pg_foreign_server", "x::text", "true"),
    ("pg_foreign_table", "x::text", "true"),
    ("pg_default_acl", "x::text", "true"),
    ("pg_transform", "x::text", "true"),
    ("pg_statistic_ext", "x::text", "true"),
    ("pg_description", "x::text", "x.objoid >= 16384"),
];

async fn schema(session: &Session) -> Result<BTreeMap<&'static str, String>, SourceError> {
    let sums: Vec<String> = SCHEMA
        .iter()
        .enumerate()
        .map(|(at, (catalog, text, condition))| {
            format!(
                "SELECT {at}::int4, format('%s %s', count(*), sum(hashtextextended({text}, 0)::numeric))
                   FROM {catalog} x WHERE {condition}"
            )
        })
        .collect();
    // One statement, so one snapshot.
    let sql = format!(
        "WITH temporary AS MATERIALIZED (
             SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast|temp_|toast_temp_)'),
         own AS MATERIALIZED (
             SELECT oid FROM pg_class
              WHERE oid >= 16384 AND relnamespace NOT IN (SELECT oid FROM temporary))
         {}",
        sums.join(" UNION ALL ")
    );
    let rows = session.client().query(&sql, &[]).await;
    let rows = rows.map_err(|error| session.error("digesting the schema", error))?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let at = usize::try_from(row.get::<_, i32>(0)).ok()?;
            Some((SCHEMA.get(at)?.0, row.get(1)))
        })
        .collect())
}
