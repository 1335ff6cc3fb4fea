//! Reading tables in one snapshot, on every version.

use rstest::rstest;
use testbed::PgVersion;
use vouchsafe::format::CatalogKind;
use vouchsafe::format::relation::{CopyFormat, SpanRange};
use vouchsafe::plan::spans::{self, Cut};
use vouchsafe::source::error::chain_text;
use vouchsafe::source::{Reader, inventory, schema, views};

use crate::bench::{binary_rows, database, endpoint, plain, read_span, table, take, tools};

#[rstest]
#[case(PgVersion::V13)]
#[case(PgVersion::V14)]
#[case(PgVersion::V15)]
#[case(PgVersion::V16)]
#[case(PgVersion::V17)]
#[case(PgVersion::V18)]
#[tokio::test]
async fn a_table_is_read_whole_by_its_spans_in_one_snapshot(#[case] version: PgVersion) {
    let server = testbed::shared(version);
    let name = database(
        server,
        "spans",
        "CREATE TABLE t (id int PRIMARY KEY, body text);
         INSERT INTO t SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 20000) i;
         ANALYZE t; CREATE TABLE nothing (a int);",
    );
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    assert_eq!(held.server.major(), version.major());
    // Later than the snapshot: must not be seen.
    server
        .psql(&name, "INSERT INTO t VALUES (0, 'late'); UPDATE t SET body = 'changed' WHERE id <= 100")
        .unwrap();

    let archive =
        schema::dump(&endpoint, held.server.version_num, &held.snapshot.snapshot().id, &tools(server))
            .await
            .unwrap();
    assert!(archive.facts.entries >= 3, "{:?}", archive.facts);
    let now = held.definitions_now(&endpoint).await.unwrap();
    held.definitions.require_same_schema(&now).unwrap();
    held.definitions.require_same_types(&now).unwrap();

    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    reader.adopt(held.catalog.tables.iter().map(|table| &table.facts)).await.unwrap();
    let export = table(&held, "public.t");
    let target = export.facts.bytes / 4;
    let pieces = match spans::cut(&export.facts, version.major(), &export.access_method, true, target) {
        Cut::Blocks => spans::block_spans(&export.facts, target),
        Cut::Keys { ranges } => {
            let bounds = reader.key_bounds(export, ranges).await.unwrap();
            spans::key_spans("id", "integer", &bounds)
        }
        Cut::Nothing => panic!("it can be cut"),
    };
    assert!(pieces.len() > 1, "{pieces:?}");
    let mut rows = Vec::new();
    let mut hashed = 0;
    for piece in &pieces {
        rows.extend(binary_rows(&read_span(&reader, &export.facts, piece).await.unwrap()));
        hashed += reader.hash_sum(&export.facts, piece).await.unwrap().rows;
    }
    let mut whole = binary_rows(&read_span(&reader, &export.facts, &SpanRange::Whole).await.unwrap());
    rows.sort();
    whole.sort();
    assert_eq!(rows, whole);
    assert_eq!(rows.len(), 20_000);
    assert_eq!(hashed, 20_000);
    assert_eq!(reader.count(&export.facts).await.unwrap(), 20_000);
    let empty = table(&held, "public.nothing");
    assert_eq!(reader.count(&empty.facts).await.unwrap(), 0);
    assert!(binary_rows(&read_span(&reader, &empty.facts, &SpanRange::Whole).await.unwrap()).is_empty());
    assert_eq!(reader.hash_sum(&empty.facts, &SpanRange::Whole).await.unwrap().sum, None);

    reader.close().await.unwrap();
    held.release().await.unwrap();
}

/// Every kind of table and value there is: what COPY writes in spans of one block, what the server hashes and what
/// it counts are the same rows, and no table is forgotten.
#[rstest]
#[case(PgVersion::V13)]
#[case(PgVersion::V14)]
#[case(PgVersion::V15)]
#[case(PgVersion::V16)]
#[case(PgVersion::V17)]
#[case(PgVersion::V18)]
#[tokio::test]
async fn the_zoo_is_read_to_the_last_row(#[case] version: PgVersion) {
    let server = testbed::shared(version);
    server.psql("postgres", include_str!("../fixtures/zoo_roles.sql")).unwrap();
    let name = database(server, "zoo", include_str!("../fixtures/zoo.sql"));
    let later = [
        (14, include_str!("../fixtures/zoo_14.sql")),
        (15, include_str!("../fixtures/zoo_15.sql")),
        (17, include_str!("../fixtures/zoo_17.sql")),
        (18, include_str!("../fixtures/zoo_18.sql")),
    ];
    for (_, sql) in later.iter().filter(|(since, _)| *since <= version.major()) {
        server.psql(&name, sql).unwrap();
    }
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    // A listing of its own, by another catalog than ours.
    let listed = server
        .psql(
            &name,
            "SELECT string_agg(schemaname || '.' || tablename, E'\\x1f') FROM pg_tables
              WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
                AND (schemaname, tablename) NOT IN (
                    SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE relkind = 'p')",
        )
        .unwrap();
    // A name may hold a newline.
    let mut listed: Vec<&str> = listed.trim_end_matches('\n').split('\x1f').collect();
    let mut exported: Vec<String> = held.catalog.tables.iter().map(plain).collect();
    listed.sort_unstable();
    exported.sort_unstable();
    assert_eq!(exported, listed);

    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    reader.adopt(held.catalog.tables.iter().map(|table| &table.facts)).await.unwrap();
    for export in &held.catalog.tables {
        let facts = &export.facts;
        let rows = reader.count(facts).await.unwrap();
        let pieces = match version.major() {
            13 => vec![SpanRange::Whole],
            _ => spans::block_spans(facts, 1),
        };
        let mut copied = 0;
        for piece in &pieces {
            let bytes = read_span(&reader, facts, piece).await.unwrap();
            copied += match facts.format {
                CopyFormat::Binary => binary_rows(&bytes).len(),
                CopyFormat::Text => bytes.iter().filter(|byte| **byte == b'\n').count(),
            };
        }
        assert_eq!(copied as u64, rows, "{} in {} spans", facts.name, pieces.len());
        assert_eq!(reader.hash_sum(facts, &SpanRange::Whole).await.unwrap().rows, rows, "{}", facts.name);
    }
    for kind in [CatalogKind::Roles, CatalogKind::Sequences, CatalogKind::LargeObjects, CatalogKind::Database]
    {
        assert!(!inventory::entries(held.snapshot.session(), kind).await.unwrap().is_empty(), "{kind:?}");
    }
    assert!(!views::populated(held.snapshot.session()).await.unwrap().is_empty());
    held.release().await.unwrap();
}

/// Text doubles a bytea, and a row is at most a gigabyte: the manual's limit of a field is one in binary only.
#[tokio::test]
async fn a_row_that_the_server_cannot_send_is_named() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "too_long",
        "CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE t(m mood, x bytea);
         INSERT INTO t SELECT 'fine', convert_to(repeat('x', 560000000), 'UTF8')",
    );
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    let facts = &table(&held, "public.t").facts;
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    let error = read_span(&reader, facts, &SpanRange::Whole).await.unwrap_err();
    assert_eq!(error.reason(), "RowTooLong", "{}", chain_text(&error));
    assert!(chain_text(&error).contains("public.t"), "{}", chain_text(&error));
    held.release().await.unwrap();
}
