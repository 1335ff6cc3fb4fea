//! Values of sequences: read again after a restore, and united from several servers.

use super::shop::{SHOP, Shop, run};

const SEQUENCES: &str = "
    CREATE TABLE orders(id serial PRIMARY KEY, note text); INSERT INTO orders(note) SELECT 'x' FROM generate_series(1, 5);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TABLE events(x int); SELECT lo_from_bytea(4711, decode(repeat('00ff', 5000), 'hex'));";

/// Something in the target moves a sequence after it was set: the restore says so.
#[test]
fn a_sequence_that_moved_after_it_was_set_is_named() {
    let shop = Shop::with("sequences", SEQUENCES);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let target = shop.server.fresh_database("sequences_target");
    let moving = "CREATE SCHEMA moving;
        CREATE FUNCTION moving.move() RETURNS event_trigger LANGUAGE plpgsql AS
          'BEGIN PERFORM nextval(''public.orders_id_seq''); END';
        CREATE EVENT TRIGGER moving ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION moving.move()";
    shop.server.psql(&target, moving).unwrap();
    let mut restore = shop.restore(&target);
    restore.arg("--into-empty-schemas");
    let ended = run(restore);
    assert_eq!((ended.code, &*ended.reason()), (Some(3), "RestoreDiffers"), "{ended:?}");
    assert!(ended.stdout.contains("sequence public.orders_id_seq: it stands at 6"), "{ended:?}");
}

/// Something in the target takes a sequence away before it is set: a value that has no place is no detail.
#[test]
fn a_recorded_sequence_that_the_target_lacks_is_named() {
    let shop = Shop::with("sequences_gone", SHOP);
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let target = shop.server.fresh_database("sequences_gone_target");
    // The primary keys come after all definitions.
    let taking = "CREATE SCHEMA taking;
        CREATE FUNCTION taking.take() RETURNS event_trigger LANGUAGE plpgsql AS
          'BEGIN DROP SEQUENCE IF EXISTS public.numbers; END';
        CREATE EVENT TRIGGER taking ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION taking.take()";
    shop.server.psql(&target, taking).unwrap();
    let mut restore = shop.restore(&target);
    restore.arg("--into-empty-schemas");
    let ended = run(restore);
    assert_eq!((ended.code, &*ended.reason()), (Some(3), "RestoreDiffers"), "{ended:?}");
    assert!(ended.stdout.contains("sequence public.numbers: its value is in the backup"), "{ended:?}");
}

/// Of two servers: one is further up, one further down, and of equal values one was handed out.
#[test]
fn of_several_servers_the_furthest_value_is_restored() {
    let definitions = "CREATE TABLE t(x int); CREATE SEQUENCE up; CREATE SEQUENCE down INCREMENT -2 START -1;
                       CREATE SEQUENCE same START 7;";
    let shop = Shop::with("sequences_one", definitions);
    let other = shop.server.fresh_database("sequences_other");
    shop.sql("SELECT setval('up', 10), setval('down', -101), setval('same', 7, false)");
    let theirs = "SELECT setval('up', 20), setval('down', -51), setval('same', 7, true)";
    shop.server.psql(&other, &format!("{definitions} {theirs}")).unwrap();
    let sources =
        [format!("region=eu={}", shop.url(&shop.database)), format!("region=us={}", shop.url(&other))];
    let mut backup = shop.backup_of(&[&sources[0], &sources[1]]);
    backup.arg("--unmatched-to-default");
    run(backup).must_succeed();
    run(shop.restore("sequences_united")).must_succeed();
    let next = "SELECT nextval('up'), nextval('down'), nextval('same')";
    assert_eq!(shop.server.psql("sequences_united", next).unwrap().trim(), "21|-103|8");
}

/// Pages of large objects are no rows: backup, verification and a look at the manifest count alike.
#[test]
fn a_verification_counts_the_rows_of_the_manifest() {
    let shop = Shop::with("sequences_rows", SEQUENCES);
    let backup = run(shop.backup_under(&[], "1Mi"));
    backup.must_succeed();
    let verified = run(shop.verify());
    verified.must_succeed();
    let rows = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["rows"].clone();
    assert_eq!((rows(&backup.stdout), rows(&verified.stdout)), (5.into(), 5.into()));
}
