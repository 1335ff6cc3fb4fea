//! What a restore may drop, what it may not touch, and who may restore at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use testbed::{PgVersion, Postgres, shared};
use vouchsafe::source::target::{
    ClaimedSchemas, DatabaseProperties, Fence, Leftovers, NewDatabase, TargetError,
};
use vouchsafe::source::{ClientEncoding, Session};

use crate::compare::{Side, differences};
use crate::copy::{Backup, Restore, Until, endpoint, id};

fn databases(server: &Postgres) -> BTreeSet<String> {
    server
        .psql("postgres", "SELECT datname || ' ' || oid FROM pg_database")
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn shop(server: &Postgres, stem: &str) -> String {
    let database = server.fresh_database(stem);
    server
        .psql(
            &database,
            "CREATE TABLE customer (id integer PRIMARY KEY, name text NOT NULL);
             CREATE TABLE orders (id bigserial PRIMARY KEY, customer integer REFERENCES customer, at timestamptz);
             CREATE INDEX ON orders (customer);
             INSERT INTO customer SELECT g, 'c' || g FROM generate_series(1, 100) g;
             INSERT INTO orders (customer, at) SELECT 1 + g % 100, now() FROM generate_series(1, 1000) g;",
        )
        .unwrap();
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_restore_leaves_its_own_name_alone_and_runs_again() {
    let server = &Postgres::start(PgVersion::V15);
    let source = shop(server, "killed");
    let backup = Backup::take(server, &source).await;
    let before = databases(server);
    let restore = Restore::new(&backup, server, "killed_restored");
    for until in [Until::Definitions, Until::Rows, Until::Definitions] {
        restore.clone().until(until).run().await.unwrap();
        let new: Vec<String> = databases(server).difference(&before).cloned().collect();
        assert_eq!(new.len(), 1, "{new:?}");
        assert!(new[0].starts_with(&restore.id.unfinished_name("killed_restored")), "{new:?}");
    }
    restore.run().await.unwrap();
    let new: Vec<String> = databases(server).difference(&before).cloned().collect();
    assert!(new.len() == 1 && new[0].starts_with("killed_restored "), "{new:?}");
    let found = differences(Side { server, database: &source }, Side { server, database: "killed_restored" });
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Once more: the target exists now, and stays.
    let error = restore.run().await.unwrap_err();
    assert!(matches!(error, TargetError::DatabaseExists { .. }), "{error}");
    assert!(databases(server).is_superset(&before) && databases(server).len() == before.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_database_is_dropped_only_by_its_mark() {
    let server = shared(PgVersion::V15);
    let backup = Backup::take(server, &shop(server, "marks")).await;
    let restore = Restore::new(&backup, server, "marks_restored").until(Until::Definitions);
    let name = restore.id.unfinished_name("marks_restored");

    // Killed between the creation and the mark: empty, and our role's.
    server.create_database(&name);
    restore.run().await.unwrap();

    // Somebody else's, by what it says or by what it holds.
    for (what, sql) in [
        ("comment", format!("COMMENT ON DATABASE \"{name}\" IS 'mine'")),
        ("objects", format!("COMMENT ON DATABASE \"{name}\" IS NULL")),
    ] {
        server.psql(&name, &format!("{sql}; CREATE TABLE IF NOT EXISTS precious (a integer)")).unwrap();
        let before = databases(server);
        let error = restore.run().await.unwrap_err();
        assert!(matches!(error, TargetError::DatabaseNotOurs { .. }), "{what}: {error}");
        let dropped = vouchsafe::source::target::drop_unfinished(
            &restore.maintenance,
            "marks_restored",
            &restore.id,
            None,
        )
        .await;
        assert!(matches!(dropped, Err(TargetError::DatabaseNotOurs { .. })), "{what}");
        assert_eq!(databases(server), before, "{what}");
        assert_eq!(server.psql(&name, "SELECT count(*) FROM precious").unwrap().trim(), "0", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_meanwhile_is_not_overwritten() {
    let server = shared(PgVersion::V15);
    let backup = Backup::take(server, &shop(server, "race")).await;
    let maintenance = endpoint(server, "postgres");
    let id = id("race_restored");
    let options = Default::default();
    let made =
        NewDatabase::create(&maintenance, "race_restored", &id, &backup.server, &options).await.unwrap();
    server.psql("postgres", "CREATE DATABASE race_restored").unwrap();
    server.psql("race_restored", "CREATE TABLE precious ()").unwrap();
    let error = made.rename_into_place(&DatabaseProperties::server_defaults()).await.unwrap_err();
    assert!(matches!(error, TargetError::DatabaseExists { .. }), "{error}");
    server.psql("race_restored", "SELECT FROM precious").unwrap();
    // The unfinished one is still marked as such.
    assert!(
        vouchsafe::source::target::drop_unfinished(&maintenance, "race_restored", &id, None).await.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_use_is_named_with_its_sessions_and_kept() {
    let server = shared(PgVersion::V15);
    let backup = Backup::take(server, &shop(server, "used")).await;
    let maintenance = endpoint(server, "postgres");
    let id = id("used_restored");
    let made = NewDatabase::create(&maintenance, "used_restored", &id, &backup.server, &Default::default())
        .await
        .unwrap();
    let intruder = Session::connect(&made.endpoint(), "intruder", &ClientEncoding::Utf8).await.unwrap();
    let error = made.rename_into_place(&DatabaseProperties::server_defaults()).await.unwrap_err();
    assert!(
        matches!(&error, TargetError::DatabaseInUse { sessions, .. } if sessions.contains("intruder")),
        "{error}"
    );
    intruder.ping().await.unwrap();
    // What a killed restore left running is ended, however.
    assert!(
        vouchsafe::source::target::drop_unfinished(&maintenance, "used_restored", &id, None).await.unwrap()
    );
    intruder.ping().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_restore_at_a_time_and_the_other_is_told_who() {
    let server = shared(PgVersion::V15);
    let maintenance = endpoint(server, "postgres");
    let first = Fence::acquire(&maintenance, "fenced", Duration::ZERO).await.unwrap();
    let other = Fence::acquire(&maintenance, "another", Duration::ZERO).await.unwrap();
    let pid = server
        .psql("postgres", "SELECT min(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        .unwrap();
    let error = Fence::acquire(&maintenance, "fenced", Duration::from_millis(300)).await.unwrap_err();
    let named = matches!(&error, TargetError::Fenced { holder, .. } if holder.starts_with("pid ") && holder.contains("postgres"));
    assert!(named && !pid.trim().is_empty(), "{error}");
    // A holder that is killed frees it, and knows.
    server.psql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vouchsafe fence' AND datname = 'postgres'").unwrap();
    let third = Fence::acquire(&maintenance, "fenced", Fence::DEFAULT_PATIENCE).await.unwrap();
    assert!(matches!(first.check().await, Err(TargetError::FenceLost { .. })));
    third.check().await.unwrap();
    third.release().await.unwrap();
    drop(other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_of_an_existing_database_are_claimed_only_empty() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("claims");
    server
        .psql(
            &database,
            "CREATE SCHEMA empty; CREATE SCHEMA full_one; CREATE TYPE full_one.precious AS ENUM ('x');
             CREATE EXTENSION hstore SCHEMA public",
        )
        .unwrap();
    let session =
        Session::connect(&endpoint(server, &database), "restore", &ClientEncoding::Utf8).await.unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let (one, other) = (id("one"), id("other"));

    let claim =
        async |schemas: &[&str], id| ClaimedSchemas::claim(&session, &names(schemas), id, |_| None).await;
    let there = |sql: &str| server.psql(&database, sql).unwrap().trim().to_owned();
    let error = claim(&["empty", "full_one", "fresh"], &one).await.unwrap_err();
    assert!(
        matches!(&error, TargetError::SchemaNotEmpty { schema, objects } if schema == "full_one" && objects.contains("precious")),
        "{error}"
    );
    assert_eq!(there("SELECT to_regnamespace('vouchsafe_restore'), to_regnamespace('fresh')"), "|");

    // An extension's members in public are nobody's content.
    let claimed = claim(&["empty", "public", "fresh"], &one).await.unwrap();
    assert_eq!(*claimed.created(), names(&["fresh"]));
    there("CREATE TABLE fresh.half (a integer)");
    for sql in CONTENTS {
        there(sql);
    }
    claimed.record_contents(&session).await.unwrap();
    claimed.record_contents(&session).await.unwrap();
    let found = Leftovers::read(&session, &one).await.unwrap();
    assert_eq!((found.created, found.filled), (names(&["fresh"]), names(&["empty"])));
    assert_eq!(found.begun, names(&["empty", "public"]));
    drop(claimed);
    // Killed: the second run drops what the first one has made, by OID, and nothing else.
    there("ALTER SCHEMA fresh RENAME TO renamed; CREATE SCHEMA fresh; CREATE TABLE fresh.theirs (a integer)");
    let error = claim(&["empty", "public", "fresh"], &one).await.unwrap_err();
    assert!(matches!(&error, TargetError::SchemaNotEmpty { schema, .. } if schema == "fresh"), "{error}");
    let left = "SELECT to_regnamespace('renamed'), to_regnamespace('empty'), to_regtype('hstore'), to_regclass('fresh.theirs')";
    assert_eq!(there(left), "|empty|hstore|fresh.theirs");
    there("DROP SCHEMA fresh CASCADE");
    let claimed = claim(&["empty", "public", "fresh"], &one).await.unwrap();

    // Another restore doesn't drop it.
    there("CREATE TABLE fresh.half (a integer)");
    let error = claim(&["fresh"], &other).await.unwrap_err();
    assert!(matches!(error, TargetError::SchemaNotEmpty { .. }), "{error}");
    claimed.settle(&session).await.unwrap();
    assert_eq!(
        there("SELECT to_regnamespace('vouchsafe_restore'), to_regclass('fresh.half')"),
        "|fresh.half"
    );
    // Succeeded: it is the user's now.
    let error = claim(&["fresh"], &one).await.unwrap_err();
    assert!(matches!(error, TargetError::SchemaNotEmpty { .. }), "{error}");
}

/// An object of each kind that a schema can hold.
const CONTENTS: [&str; 12] = [
    "CREATE TABLE empty.\"odd \"\"t\" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s serial, x text)",
    "CREATE VIEW empty.v AS SELECT * FROM empty.\"odd \"\"t\"; CREATE MATERIALIZED VIEW empty.m AS SELECT 1",
    "CREATE TYPE empty.e AS ENUM ('a'); CREATE TYPE empty.c AS (a int); CREATE DOMAIN empty.d AS int",
    "CREATE TYPE empty.r AS RANGE (subtype = int4); CREATE SEQUENCE empty.sq",
    "CREATE FUNCTION empty.f(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE empty.p() LANGUAGE sql AS 'SELECT 1'; CREATE AGGREGATE empty.a(int) (SFUNC = int4pl, STYPE = int)",
    "CREATE OPERATOR empty.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = empty.f)",
    "CREATE OPERATOR FAMILY empty.of USING btree; CREATE OPERATOR CLASS empty.oc FOR TYPE int USING hash AS OPERATOR 1 =, FUNCTION 1 hashint4(int)",
    "CREATE COLLATION empty.co FROM \"C\"; CREATE CONVERSION empty.cv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
    "CREATE TEXT SEARCH CONFIGURATION empty.tc (PARSER = default); CREATE TEXT SEARCH DICTIONARY empty.td (TEMPLATE = simple)",
    "CREATE STATISTICS empty.st ON id, x FROM empty.\"odd \"\"t\"",
    "CREATE TABLE empty.root (a int) PARTITION BY LIST (a); CREATE TABLE empty.leaf PARTITION OF empty.root DEFAULT",
];
