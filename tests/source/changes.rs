//! What happens to tables and types after the snapshot: noticed, or kept out.

use bytes::Bytes;
use futures::StreamExt;
use testbed::PgVersion;
use vouchsafe::format::relation::SpanRange;
use vouchsafe::source::{ClientEncoding, Held, Reader, Session};

use crate::bench::{ask, binary_rows, database, endpoint, other, read_span, table, take, until};

/// The coordinator's locks are lost, the snapshot isn't: what a coordinator that dies leaves to its workers for a
/// moment.
async fn unlocked(held: Held) -> (vouchsafe::source::SnapshotHolder, vouchsafe::source::Catalog) {
    held.locks.release().await.unwrap();
    (held.snapshot, held.catalog)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_truncated_or_rewritten_after_planning_is_refused() {
    let server = testbed::shared(PgVersion::V15);
    for (statement, seen) in
        [("TRUNCATE t", "0"), ("VACUUM FULL t", "1000"), ("CLUSTER t USING t_pkey", "1000")]
    {
        let name = database(
            server,
            "rewritten",
            "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)",
        );
        let endpoint = endpoint(server, &name);
        let (snapshot, catalog) = unlocked(take(&endpoint).await).await;
        server.psql(&name, statement).unwrap();
        // The trap: the old snapshot itself sees nothing wrong.
        let naive = ask(snapshot.session(), "SELECT count(*)::text FROM public.t").await;
        assert_eq!(naive, seen, "{statement}");

        let reader = Reader::open(&endpoint, &snapshot.snapshot().id).await.unwrap();
        let facts = &catalog.tables[0].facts;
        let error = reader.copy_out(facts, &SpanRange::Whole).await.unwrap_err();
        assert_eq!(error.reason(), "RelationRewritten", "{statement}");
        assert!(error.to_string().contains("public.t"), "{error}");
        let reader = Reader::open(&endpoint, &snapshot.snapshot().id).await.unwrap();
        assert_eq!(reader.count(facts).await.unwrap_err().reason(), "RelationRewritten", "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_or_renamed_after_planning_is_refused() {
    let server = testbed::shared(PgVersion::V15);
    for statement in
        ["DROP TABLE t", "ALTER TABLE t RENAME TO u; CREATE TABLE t (i int)", "ALTER TABLE t SET SCHEMA s"]
    {
        let name = database(server, "dropped", "CREATE TABLE t (i int); CREATE SCHEMA s");
        let endpoint = endpoint(server, &name);
        let (snapshot, catalog) = unlocked(take(&endpoint).await).await;
        server.psql(&name, statement).unwrap();
        let reader = Reader::open(&endpoint, &snapshot.snapshot().id).await.unwrap();
        let error = reader.adopt([&catalog.tables[0].facts]).await.unwrap_err();
        assert_eq!(error.reason(), "RelationMissing", "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_locks_keep_rewrites_out() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "kept", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    for statement in ["TRUNCATE t", "ALTER TABLE t ADD j int", "DROP TABLE t"] {
        let refused = server.psql(&name, &format!("SET lock_timeout = 200; {statement}"));
        assert!(refused.is_err(), "{statement}");
    }
    // A reader's own locks go on when the coordinator's are gone.
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    reader.adopt(held.catalog.tables.iter().map(|table| &table.facts)).await.unwrap();
    let (_snapshot, catalog) = unlocked(held).await;
    assert!(server.psql(&name, "SET lock_timeout = 200; TRUNCATE t").is_err());
    assert_eq!(reader.count(&catalog.tables[0].facts).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_lives_on_with_those_who_imported_it() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "imported", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    let id = held.snapshot.snapshot().id.clone();
    let facts = table(&held, "public.t").facts.clone();
    let first = Reader::open(&endpoint, &id).await.unwrap();
    server.psql(&name, "INSERT INTO t VALUES (2)").unwrap();
    held.snapshot.check().await.unwrap();
    held.release().await.unwrap();
    let error = Reader::open(&endpoint, &id).await.unwrap_err();
    assert_eq!(error.reason(), "SnapshotLost");
    assert!(error.to_string().contains(&id), "{error}");
    let second = Reader::open(&endpoint, first.own_snapshot()).await.unwrap();
    for reader in [first, second] {
        assert_eq!(reader.count(&facts).await.unwrap(), 1);
    }
    for id in ["", "'; DROP TABLE public.t; --", "00000003-FFFFFFFF-1", "../postgresql.conf"] {
        assert_eq!(Reader::open(&endpoint, id).await.unwrap_err().reason(), "SnapshotLost", "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_is_noticed() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "killed", "CREATE TABLE t (i int)");
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    server
        .psql(
            &name,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND application_name LIKE 'vouchsafe%'",
        )
        .unwrap();
    assert_eq!(held.snapshot.check().await.unwrap_err().reason(), "SnapshotLost");
    assert_eq!(held.locks.check().await.unwrap_err().reason(), "ConnectionLost");
    // The server's last words come before the end of the connection.
    for _ in 0..200 {
        if !held.snapshot.is_alive() && !held.locks.is_alive() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!held.snapshot.is_alive() && !held.locks.is_alive());
    assert_eq!(held.release().await.unwrap_err().reason(), "ConnectionLost");
}

/// The trap is real: text is written with the label of now, in a snapshot of then.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_label_is_noticed_after_the_last_copy() {
    let server = testbed::shared(PgVersion::V15);
    for (change, expected) in [
        ("ALTER TYPE mood RENAME VALUE 'a' TO 'AAA'", "'AAA'"),
        ("ALTER TYPE mood ADD VALUE 'c'", "'c'"),
        ("ALTER TYPE pair ADD ATTRIBUTE z int", "attribute 3 z"),
        ("ALTER TYPE pair RENAME ATTRIBUTE x TO w", "attribute 1 w"),
        ("ALTER TYPE mood RENAME TO temper", "type public._temper"),
        ("ALTER TYPE mood SET SCHEMA elsewhere", "type elsewhere._mood"),
        ("ALTER DOMAIN small ADD CONSTRAINT c CHECK (VALUE < 9)", "constraint c CHECK"),
    ] {
        let name = database(
            server,
            "labels",
            "CREATE SCHEMA elsewhere; CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TYPE pair AS (x int, m mood[]);
             CREATE DOMAIN small AS int; CREATE TABLE t (m mood, p pair, s small);
             INSERT INTO t VALUES ('a', ROW(1, '{a}'), 1)",
        );
        let endpoint = endpoint(server, &name);
        let held = take(&endpoint).await;
        let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
        reader.adopt([&table(&held, "public.t").facts]).await.unwrap();
        server.psql(&name, change).unwrap();
        if change.contains("AAA") {
            let text = read_span(&reader, &table(&held, "public.t").facts, &SpanRange::Whole).await.unwrap();
            assert_eq!(text, b"AAA\t(1,{AAA})\t1\n", "COPY in the snapshot sees the new label");
        }
        let now = held.definitions_now(&endpoint).await.unwrap();
        let error = held.definitions.require_same_types(&now).unwrap_err();
        assert_eq!(error.reason(), "CatalogChanged", "{change}");
        assert!(error.to_string().contains(expected), "{change}: {error}");
        assert!(held.definitions.require_same_schema(&now).is_err(), "{change}");
        assert_ne!(held.definitions.sha256(), now.sha256());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_applications_do_all_day_is_no_change_of_definitions() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "daily",
        "CREATE TABLE t (i serial PRIMARY KEY, m text); INSERT INTO t (m) VALUES ('x');
         CREATE MATERIALIZED VIEW v AS SELECT * FROM t; CREATE SEQUENCE s",
    );
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    server
        .psql(
            &name,
            "INSERT INTO t (m) VALUES ('y'); SELECT nextval('s'); ANALYZE; VACUUM; REFRESH MATERIALIZED VIEW v;
             CREATE TEMP TABLE x (i int PRIMARY KEY, e text); INSERT INTO x VALUES (1, 'a'); REINDEX INDEX t_pkey;",
        )
        .unwrap();
    let now = held.definitions_now(&endpoint).await.unwrap();
    held.definitions.require_same_types(&now).unwrap();
    held.definitions.require_same_schema(&now).unwrap();
    for (change, catalog) in [
        ("CREATE VIEW w AS SELECT 1", "pg_rewrite"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "pg_proc"),
        ("CREATE INDEX ON t (m)", "pg_index"),
        ("CREATE TYPE unused AS ENUM ('a')", "pg_enum"),
        ("GRANT SELECT ON t TO PUBLIC", "pg_class"),
        ("COMMENT ON TABLE t IS 'new'", "pg_description"),
    ] {
        let before = held.definitions_now(&endpoint).await.unwrap();
        server.psql(&name, change).unwrap();
        let now = held.definitions_now(&endpoint).await.unwrap();
        let error = before.require_same_schema(&now).unwrap_err();
        assert!(error.to_string().contains(catalog), "{change}: {error}");
        // None of them changes how a row is written.
        before.require_same_types(&now).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_breaks_off_is_an_error_and_no_end() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "broken",
        "CREATE TABLE t (i int, filler text);
         INSERT INTO t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 60000) i",
    );
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    let watch = other(&endpoint).await;
    for (act, reason) in [("pg_terminate_backend", "ConnectionLost"), ("pg_cancel_backend", "QueryFailed")] {
        let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
        let pid: i32 =
            reader.session().client().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let mut stream = reader.copy_out(&table(&held, "public.t").facts, &SpanRange::Whole).await.unwrap();
        stream.next().await.unwrap().unwrap();
        // The server is blocked on a socket that nobody reads: some 60 MB are on their way.
        ask(&watch, &format!("SELECT {act}({pid})::text")).await;
        let mut rest: Vec<Result<Bytes, _>> = stream.by_ref().collect().await;
        let last = rest.pop().unwrap();
        assert_eq!(last.unwrap_err().reason(), reason, "{act}");
        assert!(rest.iter().all(Result::is_ok));
        assert!(stream.next().await.is_none(), "the error comes once");
        assert!(reader.close().await.is_err() || act == "pg_cancel_backend");
    }
    // A session that is dropped in the middle of a COPY closes its socket, and the server notices: at two megabytes
    // a second, this one would go on for minutes.
    let session = Session::connect(&endpoint, "dropped", &ClientEncoding::Server).await.unwrap();
    let sql = "COPY (SELECT repeat('x', 1000000), pg_sleep(0.5) FROM generate_series(1, 500)) TO STDOUT";
    let mut stream = Box::pin(session.client().copy_out(sql).await.unwrap());
    stream.next().await.unwrap().unwrap();
    drop(session);
    drop(stream);
    let gone = "SELECT count(*) = 0 FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'vouchsafe dropped'";
    until(&watch, gone).await;
    held.release().await.unwrap();
}

/// An index that lost entries makes an index-only count and key ranges agree on too few rows.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_without_a_damaged_index() {
    let server = testbed::shared(PgVersion::V13);
    let name = database(
        server,
        "damaged",
        "CREATE TABLE t (i int PRIMARY KEY, filler text);
         INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 10000) i;
         UPDATE pg_index SET indisready = false WHERE indexrelid = 't_pkey'::regclass;",
    );
    server
        .psql(&name, "INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(10001, 10500) i")
        .unwrap();
    server
        .psql(&name, "UPDATE pg_index SET indisready = true WHERE indexrelid = 't_pkey'::regclass")
        .unwrap();
    server.psql(&name, "VACUUM ANALYZE t").unwrap();
    let endpoint = endpoint(server, &name);
    let naive = other(&endpoint).await;
    naive.run("", "SET enable_seqscan = off").await.unwrap();
    assert_eq!(ask(&naive, "SELECT count(*)::text FROM public.t").await, "10000", "the index is damaged");

    let held = take(&endpoint).await;
    let export = table(&held, "public.t");
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    let bounds = reader.key_bounds(export, 4).await.unwrap();
    assert_eq!(bounds.len(), 3);
    let key = export.key.as_ref().unwrap();
    let mut by_key = 0;
    for span in vouchsafe::plan::spans::key_spans(&key.column, &key.of_type, &bounds) {
        by_key += binary_rows(&read_span(&reader, &export.facts, &span).await.unwrap()).len();
    }
    // After key ranges have used the index, the count still doesn't.
    assert_eq!(reader.count(&export.facts).await.unwrap(), 10_500);
    assert!(by_key <= 10_500);
    let whole = read_span(&reader, &export.facts, &SpanRange::Whole).await.unwrap();
    assert_eq!(binary_rows(&whole).len(), 10_500);
    held.release().await.unwrap();
}
