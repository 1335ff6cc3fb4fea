//! Restores into schemas of a database that is there: killed at three points and run again, refused where something
//! is in the way, and for other owners. What was there before is compared each time.

use std::process::{Child, Command};

use rstest::rstest;
use rustix::process::Signal;
use testbed::{PgVersion, Postgres, shared};
use vouchsafe::source::{ClientEncoding, Session};

use super::setup;
use super::shop::{Ended, Shop, end, run, wait_for};
use super::signals::send;

/// A schema that the target lacks, the public one that it has, a large object, and a step of each kind.
const SHOP: &str = "
    CREATE TABLE events(id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text);
    INSERT INTO events(payload) SELECT repeat(md5(i::text), 4) FROM generate_series(1, 300) i;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TYPE span AS RANGE (subtype = int4);
    CREATE DOMAIN small AS int CHECK (VALUE < 100);
    CREATE SCHEMA shop;
    CREATE TABLE shop.orders(id serial PRIMARY KEY, note text, s small);
    INSERT INTO shop.orders(note, s) SELECT 'order ' || i, i % 100 FROM generate_series(1, 500) i;
    CREATE INDEX ON shop.orders(note);
    CREATE TRIGGER touched BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE MATERIALIZED VIEW shop.counted AS SELECT count(*) FROM shop.orders;
    CREATE PUBLICATION left_out FOR TABLE shop.orders;
    CREATE SCHEMA alone; CREATE TABLE alone.orders(id serial PRIMARY KEY, note text);
    INSERT INTO alone.orders(note) SELECT 'alone ' || i FROM generate_series(1, 500) i;
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 5000), 'hex'));";

/// What is somebody else's in the target, of the same names where that is possible.
const THEIRS: &str = "
    CREATE SCHEMA theirs; CREATE TABLE theirs.orders(id serial, note text);
    INSERT INTO theirs.orders(note) VALUES ('precious');
    CREATE MATERIALIZED VIEW theirs.counted AS SELECT 1 WITH NO DATA;
    SELECT lo_from_bytea(815, 'precious');";

const LOOK: &str = "
    SELECT count(*), sum(hashtext(o::text)) FROM shop.orders o;
    SELECT count(*), sum(hashtext(payload)) FROM events; SELECT * FROM shop.counted;
    SELECT md5(lo_get(4711)), nextval('shop.orders_id_seq');
    SELECT tgname FROM pg_trigger WHERE NOT tgisinternal;
    SELECT indexdef FROM pg_indexes WHERE schemaname IN ('public', 'shop') ORDER BY 1;";

const THEIR_LOOK: &str = "
    SELECT * FROM theirs.orders; SELECT convert_from(lo_get(815), 'UTF8'), last_value FROM theirs.orders_id_seq;
    SELECT relispopulated FROM pg_class WHERE oid = 'theirs.counted'::regclass;
    SELECT nspname, oid FROM pg_namespace WHERE nspname IN ('public', 'theirs');
    SELECT datname, datacl, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database();";

struct Target {
    server: &'static Postgres,
    name: String,
    theirs: String,
}

impl Target {
    fn new(server: &'static Postgres, stem: &str) -> Self {
        let name = server.fresh_database(stem);
        server.psql(&name, THEIRS).unwrap();
        let theirs = server.psql(&name, THEIR_LOOK).unwrap();
        Self { server, name, theirs }
    }

    fn sql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql).unwrap().trim().to_owned()
    }

    fn restore(&self, shop: &Shop, options: &[&str]) -> Command {
        let mut command = shop.restore(&self.name);
        command.arg("--into-empty-schemas").args(options);
        command
    }

    fn theirs_are_untouched(&self) {
        assert_eq!(self.server.psql(&self.name, THEIR_LOOK).unwrap(), self.theirs);
    }

    /// Makes the next command of this kind wait, within its transaction, for whoever holds the lock.
    fn stop_at(&self, tag: &str) {
        self.sql(&format!(
            "CREATE SCHEMA stopping;
             CREATE FUNCTION stopping.stop() RETURNS event_trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM pg_advisory_xact_lock_shared(42); END';
             CREATE EVENT TRIGGER stopping ON ddl_command_end WHEN TAG IN ('{tag}')
               EXECUTE FUNCTION stopping.stop()"
        ));
    }

    fn is_stopped(&self) -> bool {
        self.sql(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        ) != "0"
    }

    /// Kills a restore where it stops. What it left running goes on, and ends by itself, or is ended.
    async fn kill_at(&self, tag: &str, restore: Command) {
        assert_eq!(self.signal_at(tag, restore, Signal::KILL).await.signal, Some(9));
    }

    /// Sends a signal to a restore where it stops.
    async fn signal_at(&self, tag: &str, mut restore: Command, signal: Signal) -> Ended {
        self.stop_at(tag);
        let holder =
            Session::connect(&setup::endpoint(self.server, &self.name), "holder", &ClientEncoding::Utf8)
                .await
                .unwrap();
        holder.run("holding", "SELECT pg_advisory_lock(42)").await.unwrap();
        let mut child: Child = restore.spawn().unwrap();
        wait_for("the stop", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended without coming to {tag}: {:?}", self.name);
            self.is_stopped().then_some(())
        });
        send(&child, signal);
        let ended = end(child);
        holder.close().await.unwrap();
        self.sql("DROP EVENT TRIGGER stopping; DROP SCHEMA stopping CASCADE");
        self.theirs_are_untouched();
        ended
    }
}

#[rstest]
#[case::definitions("CREATE SEQUENCE", &["--include-schema", "alone"])]
#[case::indexes("CREATE INDEX", &[])]
#[case::relations("CREATE TRIGGER", &[])]
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_schemas_that_was_killed_is_run_again(#[case] tag: &str, #[case] options: &[&str]) {
    let shop = Shop::with("places", SHOP);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let target = Target::new(shop.server, "places_target");
    // Of the names that the backup has, in a schema that isn't chosen.
    let not_chosen = "SELECT last_value, relispopulated FROM shop.orders_id_seq, pg_class WHERE oid = 'shop.counted'::regclass";
    if !options.is_empty() {
        target.sql("CREATE SCHEMA shop; CREATE SEQUENCE shop.orders_id_seq; CREATE MATERIALIZED VIEW shop.counted AS SELECT 1 WITH NO DATA");
    }
    target.kill_at(tag, target.restore(&shop, options)).await;
    let left = "SELECT count(*) FROM vouchsafe_restore.created";
    assert_ne!(target.sql(left), "0", "nothing was recorded");
    // An application that starts meanwhile makes something of its own.
    if options.is_empty() {
        target.sql("CREATE TABLE public.migrations(x int)");
        let refused = run(target.restore(&shop, options));
        assert_eq!((refused.code, refused.reason().as_str()), (Some(1), "SchemaNotEmpty"), "{refused:?}");
        target.sql("DROP TABLE public.migrations");
    }
    let done = run(target.restore(&shop, options));
    done.must_succeed();
    target.theirs_are_untouched();
    assert_eq!(target.sql("SELECT to_regnamespace('vouchsafe_restore')"), "");
    if options.is_empty() {
        assert!(done.stdout.contains("PUBLICATION left_out"), "{}", done.stdout);
        assert_eq!(target.server.psql(&target.name, LOOK).unwrap(), shop.sql(LOOK));
    } else {
        let count =
            "SELECT count(*), sum(hashtext(o::text)), nextval('alone.orders_id_seq') FROM alone.orders o";
        assert_eq!(target.sql(count), shop.sql(count).trim());
        assert_eq!(target.sql(not_chosen), "1|f");
    }
    // A success is the user's: the same command touches nothing of it.
    let again = run(target.restore(&shop, options));
    assert_eq!((again.code, again.reason().as_str()), (Some(1), "TargetUnfit"), "{again:?}");
    assert_eq!(target.sql("SELECT count(*) FROM alone.orders"), "500");
}

/// What `pg_restore` has put into a schema that was there can't be told from others' yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_killed_at_the_definitions_of_a_schema_that_was_there_says_what_to_empty() {
    let shop = Shop::with("places_half", SHOP);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let target = Target::new(shop.server, "places_half_target");
    target.kill_at("CREATE FUNCTION", target.restore(&shop, &[])).await;
    let refused = run(target.restore(&shop, &[]));
    assert_eq!((refused.code, refused.reason().as_str()), (Some(1), "TargetUnfit"), "{refused:?}");
    assert!(refused.stdout.contains("killed at its definitions"), "{refused:?}");
    target.sql("DROP TYPE span CASCADE; DROP DOMAIN small CASCADE; DROP FUNCTION touch CASCADE; DROP TABLE IF EXISTS events");
    run(target.restore(&shop, &[])).must_succeed();
    target.theirs_are_untouched();
}

/// What is recorded goes; what an application has made in a schema of ours goes along, and nothing else of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_into_schemas_takes_back_what_is_recorded() {
    let shop = Shop::with("places_int", SHOP);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let target = Target::new(shop.server, "places_int_target");
    let ended = target.signal_at("CREATE INDEX", target.restore(&shop, &[]), Signal::INT).await;
    assert_eq!((ended.code, ended.reason().as_str()), (Some(130), "Canceled"), "{ended:?}");
    assert!(ended.stdout.contains("nothing of the restore is left"), "{ended:?}");
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
                       (SELECT count(*) FROM pg_type WHERE typnamespace = 'public'::regnamespace),
                       to_regnamespace('shop'), to_regnamespace('alone'), to_regnamespace('vouchsafe_restore'),
                       (SELECT count(*) FROM pg_largeobject_metadata)";
    assert_eq!(target.sql(left), "0|0||||1");
    run(target.restore(&shop, &[])).must_succeed();
    target.theirs_are_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_names_the_schema_whose_contents_are_not_recorded() {
    let shop = Shop::with("places_named", SHOP);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let target = Target::new(shop.server, "places_named_target");
    let ended = target.signal_at("CREATE FUNCTION", target.restore(&shop, &[]), Signal::INT).await;
    assert_eq!((ended.code, ended.reason().as_str()), (Some(130), "Canceled"), "{ended:?}");
    assert!(ended.stdout.contains("what schema \\\"public\\\" holds"), "{ended:?}");
    assert_eq!(target.sql("SELECT to_regnamespace('shop'), to_regtype('public.small')"), "|small");
    let refused = run(target.restore(&shop, &[]));
    assert!(refused.stdout.contains("killed at its definitions"), "{refused:?}");
    target.sql("DROP TYPE span CASCADE; DROP DOMAIN small CASCADE; DROP FUNCTION IF EXISTS touch CASCADE; DROP TABLE IF EXISTS events");
    run(target.restore(&shop, &[])).must_succeed();
    target.theirs_are_untouched();
}

#[test]
fn what_is_in_the_way_is_listed_and_nothing_is_touched() {
    let shop = Shop::with("places_refused", SHOP);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let target = Target::new(shop.server, "places_full");
    target.sql("CREATE SCHEMA shop; CREATE TABLE shop.mine(x int); SELECT lo_create(4711)");
    target.sql("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor");
    let everything = "SELECT string_agg(pg_describe_object(classid, objid, objsubid), ',' ORDER BY classid, objid, objsubid)
                        FROM (SELECT DISTINCT classid, objid, objsubid FROM pg_depend) d";
    let before = target.sql(everything);
    let refused = run(target.restore(&shop, &[]));
    assert_eq!((refused.code, refused.reason().as_str()), (Some(1), "TargetUnfit"), "{refused:?}");
    for named in ["schema \\\"shop\\\" is not empty: it holds table shop.mine", "such as 4711", "hint"] {
        assert!(refused.stdout.contains(named), "{named}: {refused:?}");
    }
    assert_eq!(target.sql(everything), before);
    target.theirs_are_untouched();
    // A database that is not there is not made.
    let mut missing = shop.restore("places_nowhere");
    let missing = run({
        missing.arg("--into-empty-schemas");
        missing
    });
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stdout.contains("places_nowhere"), "{missing:?}");
}

const OWNED: &str = "
    DROP ROLE IF EXISTS places_app, places_reader, places_group;
    CREATE ROLE places_group; CREATE ROLE places_reader LOGIN CREATEDB IN ROLE places_group;
    CREATE ROLE places_app; ALTER ROLE places_app SET work_mem = '5MB'";
const OWNS: &str = "
    CREATE TABLE events(id int PRIMARY KEY); INSERT INTO events SELECT generate_series(1, 50);
    CREATE SCHEMA app AUTHORIZATION places_app; CREATE TABLE app.t AS SELECT 1 AS x;
    ALTER TABLE app.t OWNER TO places_app; GRANT SELECT ON app.t TO places_reader;
    GRANT USAGE ON SCHEMA app TO places_reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE places_app IN SCHEMA app GRANT SELECT ON TABLES TO places_reader;
    SELECT lo_from_bytea(4712, 'x'); ALTER LARGE OBJECT 4712 OWNER TO places_app;
    GRANT SELECT ON LARGE OBJECT 4712 TO places_reader;";

/// The target is a newer server that has none of the roles.
#[test]
fn missing_roles_are_refused_made_or_replaced_by_one() {
    let source = shared(PgVersion::V15);
    source.psql("postgres", OWNED).unwrap();
    let shop = Shop::with("places_owned", OWNS);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let server = shared(PgVersion::V16);
    let restore = |database: &str, options: &[&str]| {
        let mut command = shop.restore_to(server, database);
        command.args(options);
        run(command)
    };
    let refused = restore("places_made", &[]);
    assert_eq!((refused.code, refused.reason().as_str()), (Some(1), "TargetUnfit"), "{refused:?}");
    for role in ["places_app", "places_reader"] {
        assert!(refused.stdout.contains(&format!("role \\\"{role}\\\" is missing")), "{refused:?}");
    }
    let roles = "SELECT string_agg(rolname || rolcanlogin || rolcreatedb, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'places%'";
    assert_eq!(server.psql("postgres", roles).unwrap().trim(), "", "a refused restore has made roles");

    let owner = "SELECT pg_get_userbyid(relowner) || ' ' || relacl::text FROM pg_class WHERE oid = 'app.t'::regclass;
                 SELECT pg_get_userbyid(lomowner) || (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(lomacl) a) FROM pg_largeobject_metadata WHERE oid = 4712;
                 SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'app'";
    restore("places_made", &["--create-roles"]).must_succeed();
    assert_eq!(server.psql("places_made", owner).unwrap(), shop.sql(owner));
    assert_eq!(
        server.psql("postgres", roles).unwrap().trim(),
        "places_appfalsefalse places_groupfalsefalse places_readertruefalse"
    );
    let more = "SELECT rolconfig::text, pg_has_role('places_reader', 'places_group', 'MEMBER') FROM pg_roles WHERE rolname = 'places_app'";
    assert_eq!(server.psql("postgres", more).unwrap().trim(), "{work_mem=5MB}|t");

    server.psql("postgres", "CREATE ROLE places_other").unwrap();
    let done = restore("places_other", &["--owner", "places_other"]);
    done.must_succeed();
    assert!(done.stdout.contains("DEFAULT ACL"), "{}", done.stdout);
    let whose = "SELECT DISTINCT pg_get_userbyid(o) FROM (SELECT relowner FROM pg_class WHERE oid >= 16384
                   UNION SELECT nspowner FROM pg_namespace WHERE oid >= 16384
                   UNION SELECT lomowner FROM pg_largeobject_metadata
                   UNION SELECT datdba FROM pg_database WHERE datname = current_database()) AS x (o)";
    assert_eq!(server.psql("places_other", whose).unwrap().trim(), "places_other");
    let granted = "SELECT has_table_privilege('places_reader', 'app.t', 'SELECT'), has_largeobject_read
                     FROM (SELECT lomacl::text LIKE '%places_reader=r/%' FROM pg_largeobject_metadata) AS x (has_largeobject_read)";
    assert_eq!(server.psql("places_other", granted).unwrap().trim(), "t|t");

    // Into a database that is there, for one owner as well.
    server.psql("postgres", "CREATE DATABASE places_there").unwrap();
    restore("places_there", &["--owner", "places_other", "--into-empty-schemas", "--include-schema", "app"])
        .must_succeed();
    let schema = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'app'";
    assert_eq!(server.psql("places_there", schema).unwrap().trim(), "places_other");
    assert_eq!(
        server.psql("places_there", "SELECT to_regclass('events'), x FROM app.t").unwrap().trim(),
        "|1"
    );
}

/// Without a superuser: bytes of large objects are compared by `lo_get`.
#[test]
fn a_plain_role_restores_what_it_owns() {
    let shop = Shop::with("places_plain", SHOP);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let role =
        "DROP ROLE IF EXISTS places_restorer; CREATE ROLE places_restorer LOGIN CREATEDB PASSWORD 'restorer'";
    shop.server.psql("postgres", role).unwrap();
    let target = format!("postgres://places_restorer@127.0.0.1:{}/places_plain_restored", shop.server.port());
    let mut command = shop.restore_into(shop.server, &target);
    command.args(["--no-owner", "--no-privileges"]).env("PGPASSWORD", "restorer");
    run(command).must_succeed();
    assert_eq!(shop.server.psql("places_plain_restored", LOOK).unwrap(), shop.sql(LOOK));
}
