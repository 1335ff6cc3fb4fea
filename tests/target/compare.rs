//! Two databases compared by SQL and pg_dump alone: shares no code with what is tested.

use std::collections::BTreeMap;

use testbed::Postgres;

/// A database of a server.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) server: &'a Postgres,
    pub(crate) database: &'a str,
}

impl Side<'_> {
    fn psql(&self, sql: &str) -> String {
        // Names come out with their schemas, whatever the database's own path is.
        let sql = format!(
            "\\o /dev/null\nSET search_path = pg_catalog;\nSET client_encoding = 'UTF8';\n\\o\n{sql}"
        );
        self.server.psql(self.database, &sql).unwrap_or_else(|error| panic!("{}: {error:?}", self.database))
    }
}

/// Everything that differs between two databases of the same version, or nothing.
pub(crate) fn differences(one: Side<'_>, other: Side<'_>) -> Vec<String> {
    let mut found = values(one, other);
    found.extend(definitions(one, other, &["--create"]));
    found
}

/// Rows, sequences and large objects that differ.
pub(crate) fn values(one: Side<'_>, other: Side<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (what, sql) in
        [("sequences", SEQUENCES), ("large objects", LARGE_OBJECTS), ("extensions", EXTENSIONS)]
    {
        compare_lines(what, &one.psql(sql), &other.psql(sql), &mut found);
    }
    let (ours, theirs) = (rows(one), rows(other));
    assert!(!ours.is_empty(), "nothing to compare");
    for name in ours.keys().chain(theirs.keys()) {
        if ours.get(name) != theirs.get(name) {
            found.push(format!("rows of {name}: {:?} against {:?}", ours.get(name), theirs.get(name)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Count and hash of every table's rows.
pub(crate) fn rows(side: Side<'_>) -> BTreeMap<String, String> {
    let statements = side.psql(TABLES);
    let rows = side.psql(&statements);
    let split = |line: &str| match line.rsplit_once('|') {
        Some((table, hash)) => (table.to_owned(), hash.to_owned()),
        None => (line.to_owned(), String::new()),
    };
    rows.lines().map(split).collect()
}

/// Definitions that differ, servers being of the same version. `options` are pg_dump's.
pub(crate) fn definitions(one: Side<'_>, other: Side<'_>, options: &[&str]) -> Vec<String> {
    assert_eq!(one.server.version(), other.server.version());
    let mut found = Vec::new();
    compare_lines("others", &one.psql(OTHERS), &other.psql(OTHERS), &mut found);
    let (ours, theirs) = (dump(one, options), dump(other, options));
    for entry in ours.iter().filter(|entry| !theirs.contains(entry)) {
        found.push(format!("schema, only at the source: {entry}"));
    }
    for entry in theirs.iter().filter(|entry| !ours.contains(entry)) {
        found.push(format!("schema, only at the target: {entry}"));
    }
    assert!(ours.len() > 3, "nothing to compare");
    if found.is_empty() && ours.len() != theirs.len() {
        found.push(format!("schema: {} entries against {}", ours.len(), theirs.len()));
    }
    found
}

fn compare_lines(what: &str, one: &str, other: &str, found: &mut Vec<String>) {
    if one == other {
        return;
    }
    let (mine, theirs): (Vec<_>, Vec<_>) = (one.lines().collect(), other.lines().collect());
    let mut counts = BTreeMap::<&str, i32>::new();
    for line in &mine {
        *counts.entry(line).or_default() += 1;
    }
    for line in &theirs {
        *counts.entry(line).or_default() -= 1;
    }
    let before = found.len();
    for (line, count) in counts {
        if count != 0 {
            found.push(format!(
                "{what}: {}: {line}",
                if count > 0 { "only at the source" } else { "only at the target" }
            ));
        }
    }
    if found.len() == before {
        let at = mine.iter().zip(&theirs).position(|(one, other)| one != other).unwrap_or_default();
        found.push(format!(
            "{what}: the same lines in another order, from\n{}\nagainst\n{}",
            mine[at..].iter().take(5).copied().collect::<Vec<_>>().join("\n"),
            theirs[at..].iter().take(5).copied().collect::<Vec<_>>().join("\n"),
        ));
    }
}

/// The entries of pg_dump's text, without what is new in each run. Sorted: entries of one kind and name come in
/// the order of OIDs or attribute numbers, which a restore doesn't keep.
fn dump(side: Side<'_>, options: &[&str]) -> Vec<String> {
    let mut command = side.server.client("pg_dump");
    let output = command.arg("--schema-only").args(options).arg(side.database).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).replace(side.database, "DATABASE");
    let kept = |line: &&str| {
        !["-- Dumped", "\\restrict", "\\unrestrict", "\\connect"].iter().any(|start| line.starts_with(start))
    };
    let text = text.lines().filter(kept).collect::<Vec<_>>().join("\n");
    let mut entries: Vec<String> =
        text.split("\n-- Name: ").map(|entry| entry.trim_end_matches("--\n").trim().into()).collect();
    entries.sort();
    entries
}

/// Makes one statement per table: its name, and a hash of all its rows in the order of their texts, columns by
/// name. Partitions by the hash of an enum hold other rows everywhere; their root must hold the same.
const TABLES: &str = r#"
SELECT format($f$SELECT %L || '|' || count(*) || ' ' || coalesce(md5(string_agg(r, E'\n' ORDER BY r COLLATE "C")), '-')
  FROM (SELECT ROW(%s)::text AS r FROM %s %s) AS x;$f$,
  c.oid::regclass,
  (SELECT string_agg('z.' || quote_ident(attname), ', ' ORDER BY attname::text COLLATE "C") FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
  CASE WHEN c.relkind = 'r' THEN 'ONLY' ELSE '' END,
  c.oid::regclass || ' AS z')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND (c.relkind <> 'm' OR c.relispopulated)
  AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' AND c.relname NOT LIKE 'by\_enum\_%'
ORDER BY c.oid::regclass::text COLLATE "C"
"#;

const SEQUENCES: &str = r#"
SELECT string_agg(format('SELECT %L, last_value, is_called FROM %s', c.oid::regclass, c.oid::regclass), ' UNION ALL ' ORDER BY c.oid::regclass::text COLLATE "C") AS q
FROM pg_class c WHERE relkind = 'S' \gexec
"#;

const LARGE_OBJECTS: &str = r#"
SELECT oid, lomowner::regrole, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(lomacl) a), md5(lo_get(oid)), obj_description(oid, 'pg_largeobject'),
       (SELECT string_agg(pageno || ':' || length(data), ' ' ORDER BY pageno) FROM pg_largeobject WHERE loid = m.oid)
FROM pg_largeobject_metadata m ORDER BY oid
"#;

const EXTENSIONS: &str =
    "SELECT extname, extversion, extnamespace::regnamespace::text FROM pg_extension ORDER BY 1";

const OTHERS: &str = r#"
SELECT 'populated', oid::regclass, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY oid::regclass::text COLLATE "C";
SELECT 'invalid index', indexrelid::regclass FROM pg_index WHERE NOT indisvalid ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT 'constraint', conrelid::regclass, conname, convalidated, condeferrable FROM pg_constraint WHERE connamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema') AND contype <> 'n' ORDER BY conrelid::regclass::text COLLATE "C", conname;
SELECT 'trigger', tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text COLLATE "C", tgname;
"#;
