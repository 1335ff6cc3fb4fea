//! Locks: within limits, parents first, released between tries, and named when they can't be had.

use std::time::Duration;

use testbed::PgVersion;
use vouchsafe::format::relation::SpanRange;
use vouchsafe::source::{Held, LockLimits, Reader, Selection};

use crate::bench::{ask, database, endpoint, impatient, other, read_span, table, take, until};

const OURS: &str = "SELECT count(*) = 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE a.application_name LIKE 'vouchsafe locks%' AND a.datname = current_database()
       AND l.locktype = 'relation' AND l.relation >= 16384";

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_to_be_had_names_who_holds_it_and_leaves_nothing() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "blocked", "CREATE TABLE a (i int); CREATE TABLE b (i int)");
    let endpoint = endpoint(server, &name);
    let blocker = other(&endpoint).await;
    blocker
        .run("", "BEGIN; LOCK TABLE public.b IN ACCESS EXCLUSIVE MODE; SELECT 'the culprit'")
        .await
        .unwrap();
    let pid = ask(&blocker, "SELECT pg_backend_pid()::text").await;

    let error = Held::take(&endpoint, &Selection::default(), impatient()).await.unwrap_err();
    assert_eq!(error.reason(), "LockTimeout");
    let text = error.to_string();
    assert!(text.contains(&format!("pid {pid} (postgres)")), "{text}");
    assert!(text.contains("idle in transaction: SELECT pg_backend_pid()"), "{text}");
    blocker.run("", "ROLLBACK").await.unwrap();
    until(&blocker, OURS).await;
    take(&endpoint).await.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_in_the_way_is_named() {
    let server = testbed::Postgres::builder(PgVersion::V15).config("max_prepared_transactions", "2").start();
    server
        .psql(
            "postgres",
            "CREATE TABLE a (i int); BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'half done'",
        )
        .unwrap();
    let endpoint = endpoint(&server, "postgres");
    let error = Held::take(&endpoint, &Selection::default(), impatient()).await.unwrap_err();
    assert!(error.to_string().contains("prepared transaction half done of postgres"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_queues_behind_our_locks_gets_through_between_tries() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "queued", "CREATE TABLE a (i int); CREATE TABLE b (i int)");
    let endpoint = endpoint(server, &name);
    let blocker = other(&endpoint).await;
    blocker.run("", "BEGIN; LOCK TABLE public.b IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let limits =
        LockLimits { try_timeout: Duration::from_millis(800), pause: Duration::from_millis(400), tries: 30 };
    let taking = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { Held::take(&endpoint, &Selection::default(), limits).await }
    });
    // While we wait for b, we hold a: an ALTER of a waits for us, but for one try at the most.
    let waiting = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE a.application_name = 'vouchsafe locks' AND a.datname = current_database()
           AND l.relation = 'public.a'::regclass AND l.granted";
    // Not the blocker: within a transaction, pg_stat_activity stays as it was at first.
    let watch = other(&endpoint).await;
    until(&watch, waiting).await;
    let altering = other(&endpoint).await;
    let started = std::time::Instant::now();
    altering.run("", "ALTER TABLE public.a ADD COLUMN j int").await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    blocker.run("", "ROLLBACK").await.unwrap();
    let held = taking.await.unwrap().unwrap();
    assert_eq!(table(&held, "public.a").facts.columns, ["i", "j"]);
    assert_eq!(held.locks.tables(), 2);
    held.locks.check().await.unwrap();
    held.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_are_locked_before_their_leaves() {
    let server = testbed::shared(PgVersion::V15);
    // The leaf is older than its parent: by OID it would come first.
    let name = database(
        server,
        "parents",
        "CREATE TABLE leaf (i int); CREATE TABLE root (i int) PARTITION BY RANGE (i);
         ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (9)",
    );
    let endpoint = endpoint(server, &name);
    let blocker = other(&endpoint).await;
    blocker.run("", "BEGIN; LOCK TABLE ONLY public.root IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let limits =
        LockLimits { try_timeout: Duration::from_secs(5), pause: Duration::from_millis(50), tries: 2 };
    let taking = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { Held::take(&endpoint, &Selection::default(), limits).await }
    });
    let locks = "FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE a.application_name = 'vouchsafe locks' AND a.datname = current_database()";
    // Not the blocker: within a transaction, pg_stat_activity stays as it was at first.
    let watch = other(&endpoint).await;
    until(&watch, &format!("SELECT count(*) > 0 {locks} AND NOT l.granted")).await;
    let leaf =
        ask(&watch, &format!("SELECT count(*)::text {locks} AND l.relation = 'public.leaf'::regclass")).await;
    assert_eq!(leaf, "0", "a locked leaf and an ALTER that waits on its parent would hang pg_dump");
    blocker.run("", "ROLLBACK").await.unwrap();
    taking.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_its_lock_while_a_migration_keeps_trying() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "adopting", "CREATE TABLE a (i int); INSERT INTO a VALUES (1)");
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    // A careful migration: it gives up after a second, and tries again at once.
    let queued = tokio::spawn({
        let altering = other(&endpoint).await;
        altering.run("", "SET lock_timeout = 1000").await.unwrap();
        async move { while altering.run("", "ALTER TABLE public.a ADD COLUMN j int").await.is_err() {} }
    });
    let watch = other(&endpoint).await;
    until(&watch, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'public.a'::regclass AND NOT granted")
        .await;
    reader.adopt([&table(&held, "public.a").facts]).await.unwrap();
    assert!(!queued.is_finished());
    assert_eq!(reader.count(&table(&held, "public.a").facts).await.unwrap(), 1);
    reader.close().await.unwrap();
    held.release().await.unwrap();
    queued.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_never_waits_for_ever_behind_an_alter_that_does() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "endless", "CREATE TABLE a (i int)");
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    let altering = tokio::spawn({
        let altering = other(&endpoint).await;
        async move { altering.run("", "SET lock_timeout = 0; ALTER TABLE public.a ADD COLUMN j int").await }
    });
    let watch = other(&endpoint).await;
    until(&watch, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'public.a'::regclass AND NOT granted")
        .await;
    let error = reader.adopt([&table(&held, "public.a").facts]).await.unwrap_err();
    assert_eq!(error.reason(), "LockTimeout");
    assert!(error.to_string().contains("ALTER TABLE public.a ADD COLUMN j"), "{error}");
    drop(reader);
    held.release().await.unwrap();
    altering.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_and_go_never_tear_the_catalog() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "churn", "CREATE TABLE stays (i int)");
    let endpoint = endpoint(server, &name);
    let churn = tokio::spawn({
        let session = other(&endpoint).await;
        async move {
            // Bounded waits: our locks are held for a while. So often that many a table comes between the locks
            // and the snapshot, and seldom enough that some attempts find none.
            session.run("", "SET lock_timeout = 200").await.unwrap();
            for at in 0.. {
                let _ = session.run("", &format!("CREATE TABLE public.comes_{at} (i int)")).await;
                tokio::time::sleep(Duration::from_millis(60)).await;
                let _ = session.run("", &format!("DROP TABLE IF EXISTS public.comes_{}", at - 3)).await;
            }
        }
    });
    for _ in 0..10 {
        match Held::take(&endpoint, &Selection::default(), impatient()).await {
            Ok(held) => {
                let mut exported: Vec<u32> =
                    held.catalog.tables.iter().map(|table| table.facts.oid).collect();
                exported.sort_unstable();
                assert_eq!(exported, held.locks.table_oids(), "what is exported is locked");
                let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
                reader.adopt(held.catalog.tables.iter().map(|table| &table.facts)).await.unwrap();
                held.release().await.unwrap();
            }
            Err(error) => assert!(
                ["CatalogChanged", "LockTimeout"].contains(&error.reason()),
                "{}",
                vouchsafe::source::error::chain_text(&error)
            ),
        }
    }
    churn.abort();
}

/// Planning a query locks indexes; held to the end of the backup, these locks would make a REINDEX wait for us, and
/// every writer for the REINDEX.
#[tokio::test(flavor = "multi_thread")]
async fn reading_keeps_no_lock_on_indexes() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "reindexed",
        "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)",
    );
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    let export = table(&held, "public.t");
    let indexes = "SELECT coalesce(string_agg(format('%s %s %s', a.application_name, l.relation::regclass, l.mode), ', '), '')
         FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.relation IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'public.t'::regclass)";
    let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
    for range in [
        SpanRange::Blocks { from: None, to: Some(2) },
        SpanRange::Keys { column: "i".into(), of_type: "integer".into(), from: Some("5".into()), to: None },
    ] {
        read_span(&reader, &export.facts, &range).await.unwrap();
        reader.hash_sum(&export.facts, &range).await.unwrap();
    }
    reader.count(&export.facts).await.unwrap();
    reader.key_bounds(export, 4).await.unwrap();
    let planning = ask(reader.session(), "SELECT current_setting('enable_indexscan')").await;
    assert_eq!(planning, "off", "what a key range may use ends with it");
    assert_eq!(ask(&other(&endpoint).await, indexes).await, "");
    server.psql(&name, "SET lock_timeout = 500; REINDEX INDEX t_pkey").unwrap();
    // The table's own lock stays.
    assert!(server.psql(&name, "SET lock_timeout = 200; TRUNCATE t").is_err());
    assert_eq!(reader.count(&export.facts).await.unwrap(), 1000);
    held.release().await.unwrap();
}
