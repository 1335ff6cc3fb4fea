//! What is exported, what is left out and said so, and in which format.

use rstest::rstest;
use testbed::PgVersion;
use vouchsafe::format::relation::{CopyFormat, SpanRange};
use vouchsafe::source::{Held, OmissionKind, Reader, SchemaPattern, Selection, TablePattern};

use crate::bench::{binary_rows, database, endpoint, impatient, other, plain, read_span, table, take};

#[tokio::test]
async fn every_table_is_exported_or_its_omission_listed() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "kinds",
        "CREATE TABLE plain (i int); CREATE UNLOGGED TABLE unlogged (i int);
         CREATE TABLE root (i int) PARTITION BY LIST (i); CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1);
         CREATE TABLE sub PARTITION OF root FOR VALUES IN (2) PARTITION BY LIST (i);
         CREATE TABLE subleaf PARTITION OF sub FOR VALUES IN (2);
         CREATE TABLE parent (i int); CREATE TABLE child (j int) INHERITS (parent);
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 2), (3, 3);
         CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
         CREATE FOREIGN TABLE remote (i int) SERVER s;
         CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW m AS SELECT 1; CREATE TYPE c AS (i int);
         CREATE TABLE \"Wörter \"\"und. Punkte\" (\"a b\" int, \"Ä\" int);",
    );
    let endpoint = endpoint(server, &name);
    let session = other(&endpoint).await;
    session.run("", "CREATE TEMP TABLE passing (i int)").await.unwrap();
    let held = take(&endpoint).await;
    let names: Vec<String> = held.catalog.tables.iter().map(plain).collect();
    assert_eq!(
        names,
        [
            "public.Wörter \"und. Punkte",
            "public.child",
            "public.leaf",
            "public.parent",
            "public.plain",
            "public.subleaf",
            "public.unlogged",
        ]
    );
    assert!(table(&held, "public.unlogged").facts.unlogged);
    let root = |name: &str| table(&held, name).facts.partition_root.as_ref().map(ToString::to_string);
    assert_eq!(root("public.subleaf").as_deref(), Some("public.root"));
    assert_eq!(root("public.leaf").as_deref(), Some("public.root"));
    assert_eq!(root("public.child"), None);
    let omitted: Vec<_> =
        held.catalog.omissions.iter().map(|omission| (omission.object.as_str(), omission.kind)).collect();
    assert!(omitted.contains(&("public.remote", OmissionKind::ForeignTable)), "{omitted:?}");
    let passing = omitted.iter().find(|(object, _)| object.ends_with(".passing"));
    assert_eq!(passing.map(|(_, kind)| *kind), Some(OmissionKind::TemporaryTable), "{omitted:?}");
    assert_eq!(omitted.len(), 2, "{omitted:?}");

    // A parent has rows of its own, and they alone are its export.
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    for (name, rows) in [("public.parent", 1), ("public.child", 2)] {
        let facts = &table(&held, name).facts;
        assert_eq!(reader.count(facts).await.unwrap(), rows);
        for range in [SpanRange::Whole, SpanRange::Blocks { from: None, to: Some(9) }] {
            let copied = read_span(&reader, facts, &range).await.unwrap();
            assert_eq!(binary_rows(&copied).len() as u64, rows, "{name} {range:?}");
        }
        assert_eq!(reader.hash_sum(facts, &SpanRange::Whole).await.unwrap().rows, rows);
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn exclusions_are_listed_and_still_locked() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "chosen",
        "CREATE TABLE a (i int); CREATE SCHEMA s; CREATE TABLE s.b (i int); CREATE TABLE s.c (i int)",
    );
    let selection = Selection {
        include_schemas: vec![SchemaPattern::parse("s").unwrap()],
        include_tables: Vec::new(),
        exclude_tables: vec![TablePattern::parse("s.c*").unwrap()],
    };
    let held = Held::take(&endpoint(server, &name), &selection, impatient()).await.unwrap();
    assert_eq!(held.catalog.tables.iter().map(plain).collect::<Vec<_>>(), ["s.b"]);
    let omitted: Vec<_> = held.catalog.omissions.iter().map(|omission| omission.object.as_str()).collect();
    assert_eq!(omitted, ["public.a", "s.c"]);
    assert_eq!(held.locks.tables(), 3, "pg_dump writes their definitions");
    held.release().await.unwrap();
}

#[rstest]
#[case(PgVersion::V13)]
#[case(PgVersion::V15)]
#[case(PgVersion::V16)]
#[case(PgVersion::V18)]
#[tokio::test]
async fn binary_is_for_types_that_are_the_same_everywhere(#[case] version: PgVersion) {
    let server = testbed::shared(version);
    let multirange = if version.major() >= 14 { "int4multirange" } else { "int4range" };
    let binary = [
        "int",
        "bigint[]",
        "numeric(10,2)",
        "text COLLATE \"C\"",
        "\"char\"",
        "name",
        "bytea",
        "timestamptz[]",
        "interval",
        "uuid",
        "json",
        "jsonb",
        "jsonpath",
        "tsvector",
        "int4range",
        "tstzrange[]",
        multirange,
        "inet",
        "macaddr8",
        "bit(3)",
        "varbit",
        "money",
        "point",
        "polygon",
        "pg_lsn",
        "xid8",
        "oid",
        "oidvector",
        "int2vector",
        "tid",
        "pg_snapshot",
        "xid",
        "refcursor",
        "box[]",
    ];
    let text = [
        "mood",
        "mood[]",
        "pair",
        "pair[]",
        "small",
        "small[]",
        "moods",
        "moods[]",
        "regclass",
        "regtype[]",
        "regproc",
        "regrole",
        "regnamespace",
        "regconfig",
        "information_schema.sql_identifier",
        "information_schema.cardinal_number",
        "aclitem",
        "aclitem[]",
        "other",
        "pg_class",
        "nested",
        "pg_node_tree",
        "tsquery",
        "gtsvector",
    ];
    let names_objects =
        ["regclass", "regtype[]", "regproc", "regrole", "regnamespace", "regconfig", "nested"];
    let mut sql = String::from(
        "CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (i int, t text); CREATE DOMAIN small AS int;
         CREATE TYPE moods AS RANGE (subtype = mood); CREATE TABLE other (i int);
         CREATE TYPE nested AS (a int, b regclass[]);",
    );
    for (at, of_type) in binary.iter().chain(&text).enumerate() {
        sql.push_str(&format!("CREATE TABLE t{at} (a int, b {of_type});"));
    }
    let name = database(server, "formats", &sql);
    let held = take(&endpoint(server, &name)).await;
    for (at, of_type) in binary.iter().chain(&text).enumerate() {
        let facts = &table(&held, &format!("public.t{at}")).facts;
        let expected = if at < binary.len() { CopyFormat::Binary } else { CopyFormat::Text };
        assert_eq!(facts.format, expected, "{of_type}");
        assert_eq!(facts.load_after_indexes, names_objects.contains(of_type), "{of_type}");
    }
    // What is called binary can be written so, and text can be.
    let reader = Reader::open(&endpoint(server, &name), &held.snapshot.snapshot().id).await.unwrap();
    for export in &held.catalog.tables {
        read_span(&reader, &export.facts, &SpanRange::Whole).await.unwrap();
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn columns_are_those_that_can_be_written_back() {
    for (version, generated) in [(PgVersion::V13, "STORED"), (PgVersion::V18, "VIRTUAL")] {
        let server = testbed::shared(version);
        let name = database(
            server,
            "columns",
            &format!(
                "CREATE TABLE t (gone int, z int, g int GENERATED ALWAYS AS (z * 2) {generated}, a text,
                                 i int GENERATED ALWAYS AS IDENTITY, t text);
                 ALTER TABLE t DROP COLUMN gone; INSERT INTO t (z, a, t) VALUES (1, 'x', 'y');
                 CREATE TABLE none (); INSERT INTO none SELECT FROM generate_series(1, 3);
                 CREATE TABLE only_generated (g int GENERATED ALWAYS AS (1) {generated});
                 INSERT INTO only_generated DEFAULT VALUES;"
            ),
        );
        let endpoint = endpoint(server, &name);
        let held = take(&endpoint).await;
        assert_eq!(table(&held, "public.t").facts.columns, ["z", "a", "i", "t"]);
        let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
        for (name, rows) in [("public.t", 1), ("public.none", 3), ("public.only_generated", 1)] {
            let facts = &table(&held, name).facts;
            for range in [SpanRange::Whole, SpanRange::Blocks { from: None, to: Some(9) }] {
                if version.major() < 14 && range != SpanRange::Whole {
                    continue;
                }
                let copied = read_span(&reader, facts, &range).await.unwrap();
                assert_eq!(binary_rows(&copied).len(), rows, "{name} {range:?}");
            }
            assert_eq!(reader.count(facts).await.unwrap(), rows as u64);
            // A column may be called t: a hash of t::text would be that column's alone.
            let hash = reader.hash_sum(facts, &SpanRange::Whole).await.unwrap();
            assert_eq!(hash.rows, rows as u64);
        }
        let before = reader.hash_sum(&table(&held, "public.t").facts, &SpanRange::Whole).await.unwrap();
        server.psql(&name, "UPDATE t SET a = 'changed'").unwrap();
        let later = take(&endpoint).await;
        let second = Reader::open(&endpoint, &later.snapshot.snapshot().id).await.unwrap();
        let after = second.hash_sum(&table(&later, "public.t").facts, &SpanRange::Whole).await.unwrap();
        assert_ne!(before, after, "every column counts");
    }
}

#[tokio::test]
async fn hashes_that_differ_after_a_restore_are_loaded_through_the_root() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "hashed",
        "CREATE TYPE mood AS ENUM ('a', 'b');
         CREATE TABLE moods (m mood) PARTITION BY HASH (m);
         CREATE TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         CREATE TABLE ints (i int) PARTITION BY HASH (i);
         CREATE TABLE ints_0 PARTITION OF ints FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         CREATE TABLE lists (m mood, i int) PARTITION BY LIST (m);
         CREATE TABLE lists_a PARTITION OF lists FOR VALUES IN ('a') PARTITION BY HASH (m);
         CREATE TABLE lists_a_0 PARTITION OF lists_a FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         CREATE TABLE lists_b PARTITION OF lists FOR VALUES IN ('b');",
    );
    let held = take(&endpoint(server, &name)).await;
    for (name, through) in [("moods_0", true), ("ints_0", false), ("lists_a_0", true), ("lists_b", false)] {
        assert_eq!(table(&held, &format!("public.{name}")).facts.load_through_root, through, "{name}");
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn values_that_nobody_can_load_are_refused_by_name() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "unloadable",
        "CREATE TABLE copied AS SELECT * FROM pg_class WHERE relname = 'pg_class'",
    );
    let endpoint = endpoint(server, &name);
    // relpartbound is NULL there: nothing stands in the way.
    take(&endpoint).await.release().await.unwrap();
    server.psql(&name, "CREATE TABLE rules AS SELECT rulename, ev_action FROM pg_rewrite LIMIT 1").unwrap();
    let error = Held::take(&endpoint, &Selection::default(), impatient()).await.unwrap_err();
    assert_eq!(error.reason(), "Unsupported");
    assert!(error.to_string().contains("public.rules.ev_action"), "{error}");
}

#[rstest]
#[case("LATIN1", "convert_from('\\xe4f6fc', 'LATIN1')", b"\xe4\xf6\xfc")]
#[case("SQL_ASCII", "E'\\xe4\\xff'", b"\xe4\xff")]
#[case("EUC_JP", "convert_from('\\xe6bca2', 'UTF8')", b"\xb4\xc1")]
#[tokio::test]
async fn rows_keep_the_bytes_of_their_database(
    #[case] encoding: &str,
    #[case] value: &str,
    #[case] bytes: &[u8],
) {
    let server = testbed::shared(PgVersion::V15);
    let name = format!("in_{}", encoding.to_lowercase());
    server.create_database_with(&name, &format!("ENCODING '{encoding}' LOCALE 'C'"));
    // A name beyond ASCII, of characters that the encoding has.
    let odd = if encoding == "EUC_JP" { "漢字" } else { "Größe" };
    server
        .psql(
            &name,
            &format!(
                "SET client_encoding = UTF8;
                 CREATE TYPE mood AS ENUM ('a');
                 CREATE TABLE \"{odd}\" (\"{odd}\" text, k int PRIMARY KEY);
                 CREATE TABLE as_text (\"{odd}\" text, m mood);
                 {}
                 INSERT INTO \"{odd}\" VALUES ({value}, 1); INSERT INTO as_text VALUES ({value}, 'a');",
                if encoding == "SQL_ASCII" { "SET client_encoding = SQL_ASCII;" } else { "" }
            ),
        )
        .unwrap();
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    assert_eq!(held.server.encoding, encoding);
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    assert_eq!(reader.session().client_encoding(), encoding);
    let export = table(&held, &format!("public.{odd}"));
    assert_eq!(export.facts.columns, [odd, "k"]);
    for range in [
        SpanRange::Whole,
        SpanRange::Blocks { from: None, to: Some(1) },
        SpanRange::Keys { column: "k".into(), of_type: "integer".into(), from: None, to: Some("9".into()) },
    ] {
        let rows = binary_rows(&read_span(&reader, &export.facts, &range).await.unwrap());
        assert_eq!(rows.len(), 1);
        assert_eq!(&rows[0][6..6 + bytes.len()], bytes, "{encoding} {range:?}");
    }
    assert_eq!(reader.count(&export.facts).await.unwrap(), 1);
    let text = read_span(&reader, &table(&held, "public.as_text").facts, &SpanRange::Whole).await.unwrap();
    assert!(text.starts_with(bytes), "{text:?}");
    held.release().await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_refused() {
    let server = testbed::shared(PgVersion::V15);
    server.create_database_with("bad_names", "ENCODING 'SQL_ASCII' LOCALE 'C'");
    server
        .psql(
            "bad_names",
            "SET client_encoding = SQL_ASCII; DO $$ BEGIN EXECUTE E'CREATE TABLE \"\\xe4\" (i int)'; END $$",
        )
        .unwrap();
    let error =
        Held::take(&endpoint(server, "bad_names"), &Selection::default(), impatient()).await.unwrap_err();
    assert_eq!(error.reason(), "NamesNotUtf8", "{}", vouchsafe::source::error::chain_text(&error));
}

#[tokio::test]
async fn configuration_of_extensions_is_data_and_the_rest_of_their_tables_is_not() {
    // 18 lets extensions lie in any folder.
    let folder = tempfile::tempdir().unwrap();
    let extensions = folder.path().join("extension");
    std::fs::create_dir(&extensions).unwrap();
    std::fs::write(
        extensions.join("zoo.control"),
        "default_version = '1.0'\nrelocatable = true\ncomment = 'a zoo'\n",
    )
    .unwrap();
    std::fs::write(
        extensions.join("zoo--1.0.sql"),
        "CREATE TABLE config (k int, standard bool); INSERT INTO config VALUES (1, true);
         CREATE TABLE all_config (k int); CREATE TABLE internal (k int); CREATE SEQUENCE counted; CREATE SEQUENCE hidden;
         SELECT pg_extension_config_dump('config', 'WHERE NOT standard');
         SELECT pg_extension_config_dump('all_config', ''); SELECT pg_extension_config_dump('counted', '');",
    )
    .unwrap();
    for path in [folder.path(), &extensions] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let server = testbed::Postgres::builder(PgVersion::V18)
        .config("extension_control_path", &format!("$system:{}", folder.path().display()))
        .start();
    server
        .psql(
            "postgres",
            "CREATE EXTENSION zoo; INSERT INTO config VALUES (2, false), (3, false); INSERT INTO all_config VALUES (7);
             INSERT INTO internal VALUES (1)",
        )
        .unwrap();
    let endpoint = endpoint(&server, "postgres");
    let held = take(&endpoint).await;
    let conditions: Vec<_> = held
        .catalog
        .tables
        .iter()
        .map(|table| (table.facts.name.name.as_str(), table.facts.extension_condition.as_deref()))
        .collect();
    assert_eq!(conditions, [("all_config", Some("")), ("config", Some("WHERE NOT standard"))]);
    let omitted: Vec<_> = held.catalog.omissions.iter().map(|one| (one.object.as_str(), one.kind)).collect();
    assert_eq!(omitted, [("public.internal", OmissionKind::ExtensionMember)]);
    assert!(held.catalog.omissions[0].reason.contains("zoo"));
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    let config = &table(&held, "public.config").facts;
    assert_eq!(reader.count(config).await.unwrap(), 2);
    assert_eq!(reader.hash_sum(config, &SpanRange::Whole).await.unwrap().rows, 2);
    for range in [SpanRange::Whole, SpanRange::Blocks { from: None, to: Some(1) }] {
        assert_eq!(binary_rows(&read_span(&reader, config, &range).await.unwrap()).len(), 2);
    }
    let sequences = vouchsafe::source::sequences::read(held.snapshot.session()).await.unwrap();
    assert_eq!(sequences.iter().map(|one| one.name.name.as_str()).collect::<Vec<_>>(), ["counted"]);
    assert_eq!(reader.count_catalogs().await.unwrap().sequences, 1);
    held.release().await.unwrap();
}
