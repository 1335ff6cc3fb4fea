//! The statements that read tables: names and literals quoted for the session that they are sent in.

use crate::format::relation::{QualifiedName, SpanRange, TableFacts, quote_identifier};

use super::catalog::{ExportTable, KeyColumn};
use super::connection::quote_literal;
use super::error::SourceError;

/// How names are written in a session whose client encoding is the database's own.
///
/// Our statements are UTF-8. A UTF8 database takes them as they are, and so does an SQL_ASCII one, which compares
/// bytes. In every other encoding a character beyond ASCII is written as an escape of its code point, which the
/// server converts (`U&"…"`; PostgreSQL manual, 4.1.1; into any server encoding since 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    escapes: bool,
}

impl Dialect {
    /// For a session in the encoding of a database that has `server_encoding`.
    pub(crate) fn of(server_encoding: &str) -> Self {
        Self { escapes: !matches!(server_encoding, "UTF8" | "SQL_ASCII") }
    }

    pub(crate) fn identifier(self, name: &str) -> String {
        if self.escapes && !name.is_ascii() {
            return format!("U&{}", quote_identifier(&escaped(name)));
        }
        quote_identifier(name)
    }

    pub(crate) fn relation(self, name: &QualifiedName) -> String {
        format!("{}.{}", self.identifier(&name.schema), self.identifier(&name.name))
    }

    /// A string literal; of `text` itself, so a name in it has to be quoted before.
    pub(crate) fn literal(self, text: &str) -> String {
        if self.escapes && !text.is_ascii() {
            return format!("U&'{}'", escaped(text).replace('\'', "''"));
        }
        quote_literal(text)
    }

    fn columns(self, table: &TableFacts) -> String {
        table.columns.iter().map(|column| self.identifier(column)).collect::<Vec<_>>().join(", ")
    }
}

fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\\' => written.push_str("\\\\"),
            ascii if ascii.is_ascii() => written.push(ascii),
            other => written.push_str(&format!("\\+{:06X}", u32::from(other))),
        }
    }
    written
}

/// `COPY … TO STDOUT`: of the table itself where all of it is meant (which skips the planner, and copies the
/// table's own rows only), else of a query.
pub(crate) fn copy_statement(
    dialect: &Dialect,
    table: &TableFacts,
    range: &SpanRange,
) -> Result<String, SourceError> {
    let format = table.format.keyword();
    let condition = condition(dialect, table, range)?;
    if condition.is_empty() {
        // `COPY t ()` is a syntax error.
        let list = match dialect.columns(table) {
            list if list.is_empty() => String::new(),
            list => format!(" ({list})"),
        };
        return Ok(format!("COPY {}{list} TO STDOUT (FORMAT {format})", dialect.relation(&table.name)));
    }
    Ok(format!(
        "COPY (SELECT {} FROM ONLY {}{condition}) TO STDOUT (FORMAT {format})",
        dialect.columns(table),
        dialect.relation(&table.name)
    ))
}

/// `count(*)` over the rows that are exported.
pub(crate) fn count_statement(dialect: &Dialect, table: &TableFacts) -> Result<String, SourceError> {
    let condition = condition(dialect, table, &SpanRange::Whole)?;
    Ok(format!("SELECT count(*) FROM ONLY {}{condition}", dialect.relation(&table.name)))
}

/// Rows, and the sum of a hash of each. `ROW(…)`, never `t::text`: a column may be named t.
pub(crate) fn hash_statement(
    dialect: &Dialect,
    table: &TableFacts,
    range: &SpanRange,
) -> Result<String, SourceError> {
    let condition = condition(dialect, table, range)?;
    Ok(format!(
        "SELECT count(*), sum(hashtextextended(ROW({})::text, 0)::numeric)::text FROM ONLY {}{condition}",
        dialect.columns(table),
        dialect.relation(&table.name)
    ))
}

/// Rows that the sample should hold for each bound: with 100 of them a range is off by a tenth or so (the
/// standard error of a quantile goes with the square root).
const SAMPLE_PER_PIECE: u64 = 100;

/// Blocks below which the whole table is read instead of a sample.
const SAMPLE_BLOCKS: u32 = 1_000;

/// Quantiles of the key, as text. Reads a sample of blocks of a large table, and no index.
pub(crate) fn bounds_statement(
    dialect: &Dialect,
    table: &ExportTable,
    key: &KeyColumn,
    pieces: u32,
) -> String {
    let column = dialect.identifier(&key.column);
    let facts = &table.facts;
    // Storage other than the heap needs not know how to sample; such a table is read whole.
    let sample = if facts.blocks <= SAMPLE_BLOCKS || table.access_method != "heap" {
        String::new()
    } else {
        // Ten rows to a block at the least, in all but very wide tables; those are short.
        let blocks = (u64::from(pieces) * SAMPLE_PER_PIECE / 10).max(u64::from(SAMPLE_BLOCKS));
        #[expect(clippy::cast_precision_loss, reason = "a percentage needs no 53 bits")]
        let percent = (blocks as f64 * 100.0 / f64::from(facts.blocks)).min(100.0);
        format!(" TABLESAMPLE SYSTEM ({percent})")
    };
    // DISTINCT ON instead of min(): there is no min(uuid) before 18. `bounds.k`, not `k`: that would be the output
    // column, and its text sorts 10 before 9.
    format!(
        "SELECT k::text FROM (
             SELECT DISTINCT k FROM (
                 SELECT DISTINCT ON (piece) piece, k FROM (
                     SELECT k, ntile({pieces}) OVER (ORDER BY k) AS piece
                       FROM (SELECT {column} AS k FROM ONLY {}{sample}) AS sampled) AS ranked
                  WHERE piece > 1 ORDER BY piece, k) AS firsts) AS bounds
          ORDER BY bounds.k",
        dialect.relation(&facts.name),
    )
}

/// ` WHERE …` for an extension's condition and a span; empty if there is neither.
fn condition(dialect: &Dialect, table: &TableFacts, range: &SpanRange) -> Result<String, SourceError> {
    let mut terms = Vec::new();
    if let Some(text) = table.extension_condition.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        // `pg_extension_config_dump` takes the WHERE clause with its word (PostgreSQL manual, 38.17.3).
        let unfit = || SourceError::Unsupported {
            object: table.name.to_string(),
            why: format!("its extension's condition can't be combined with others: {text}"),
        };
        let (word, rest) = text.split_at_checked(5).ok_or_else(unfit)?;
        if !word.eq_ignore_ascii_case("where") || (dialect.escapes && !text.is_ascii()) {
            return Err(unfit());
        }
        terms.push(format!("({rest})"));
    }
    match range {
        SpanRange::Whole => {}
        SpanRange::Blocks { from, to } => {
            terms.extend(from.map(|block| format!("ctid >= '({block},0)'::tid")));
            terms.extend(to.map(|block| format!("ctid < '({block},0)'::tid")));
        }
        SpanRange::Keys { column, of_type, from, to } => {
            let column = dialect.identifier(column);
            for (operator, bound) in [(">=", from), ("<", to)] {
                terms.extend(bound.as_ref().map(|bound| {
                    format!("{column} {operator} CAST({} AS {of_type})", dialect.literal(bound))
                }));
            }
        }
    }
    Ok(if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::relation::CopyFormat;

    fn table(columns: &[&str]) -> TableFacts {
        TableFacts {
            name: QualifiedName::new("s", "größe\"x"),
            oid: 1,
            relfilenode: 1,
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            format: CopyFormat::Binary,
            bytes: 0,
            blocks: 0,
            extension_condition: None,
            partition_root: None,
            load_through_root: false,
            load_after_indexes: false,
            unlogged: false,
        }
    }

    #[test]
    fn whole_tables_are_copied_without_a_query() {
        let utf8 = Dialect::of("UTF8");
        assert_eq!(
            copy_statement(&utf8, &table(&["a", "b c"]), &SpanRange::Whole).unwrap(),
            "COPY \"s\".\"größe\"\"x\" (\"a\", \"b c\") TO STDOUT (FORMAT binary)"
        );
        assert_eq!(
            copy_statement(&utf8, &table(&[]), &SpanRange::Whole).unwrap(),
            "COPY \"s\".\"größe\"\"x\" TO STDOUT (FORMAT binary)"
        );
    }

    #[test]
    fn names_beyond_ascii_are_escaped_where_the_server_converts() {
        let latin = Dialect::of("LATIN1");
        assert_eq!(latin.identifier("größe\"\\"), "U&\"gr\\+0000F6\\+0000DFe\"\"\\\\\"");
        assert_eq!(latin.identifier("plain"), "\"plain\"");
        assert_eq!(Dialect::of("SQL_ASCII").identifier("größe"), "\"größe\"");
    }

    #[test]
    fn ends_of_spans_are_open_where_they_say_so() {
        let utf8 = Dialect::of("UTF8");
        let span = |from, to| copy_statement(&utf8, &table(&["a"]), &SpanRange::Blocks { from, to }).unwrap();
        assert!(span(None, Some(5)).contains(" WHERE ctid < '(5,0)'::tid)"));
        assert!(span(Some(5), None).contains(" WHERE ctid >= '(5,0)'::tid)"));
        assert!(span(None, None).starts_with("COPY \"s\""));
    }

    #[test]
    fn bounds_of_keys_are_literals() {
        let range = SpanRange::Keys {
            column: "k".into(),
            of_type: "integer".into(),
            from: Some("'); DROP TABLE x; --".into()),
            to: None,
        };
        let sql = copy_statement(&Dialect::of("UTF8"), &table(&["a"]), &range).unwrap();
        assert!(sql.contains("\"k\" >= CAST('''); DROP TABLE x; --' AS integer)"), "{sql}");
    }

    #[test]
    fn an_extensions_condition_joins_the_span() {
        let mut config = table(&["a"]);
        config.extension_condition = Some("WHERE NOT standard OR a > 1".into());
        let range = SpanRange::Blocks { from: Some(1), to: None };
        let sql = hash_statement(&Dialect::of("UTF8"), &config, &range).unwrap();
        assert!(sql.ends_with("WHERE ( NOT standard OR a > 1) AND ctid >= '(1,0)'::tid"), "{sql}");
        config.extension_condition = Some("ORDER BY a".into());
        assert!(count_statement(&Dialect::of("UTF8"), &config).is_err());
        config.extension_condition = Some(String::new());
        assert!(count_statement(&Dialect::of("UTF8"), &config).unwrap().ends_with("\"x\""));
    }
}
