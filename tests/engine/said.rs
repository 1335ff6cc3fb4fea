//! What people read of a backup: `show`, `diff`, `unlock` and `verify` as text, and the hints of failures.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use testbed::{PASSWORD, PgVersion, shared};
use vouchsafe::format::{QualifiedName, shown_identifier};

use super::shop::{Ended, SHOP, Shop, end, objects_of, run};
use super::zombie::stopped_at;

/// A command of the shop's, as text.
fn text_of(mut command: Command) -> Ended {
    let words: Vec<_> =
        command.get_args().map(|word| if word == "json" { "text".into() } else { word.to_owned() }).collect();
    let mut again = Command::new(command.get_program());
    again.args(words).env("PGPASSWORD", PASSWORD).env_remove("VOUCHSAFE_LOG");
    command.env_clear();
    run(again)
}

/// Names that differ from what SQL reads when they are written without quotes.
const ODD: &str = r#"
    CREATE SCHEMA "Sales"; CREATE TABLE "Sales"."order"(x int); INSERT INTO "Sales"."order" VALUES (1);
    SELECT lo_from_bytea(0, 'one'), lo_from_bytea(0, 'two');"#;

#[test]
fn show_tells_servers_roles_large_objects_and_urls() {
    let shop = Shop::with("said_show", &format!("{SHOP}{ODD}"));
    let role = format!("{} Clerk", shop.database);
    shop.sql(&format!(r#"CREATE ROLE "{role}"; GRANT SELECT ON orders TO "{role}""#));
    run(shop.backup()).must_succeed();
    let shown = text_of(shop.subcommand(&[], &["show"]));
    shown.must_succeed();
    let here = format!("destination default: file://{}, ", shop.here.path().display());
    let server = format!("server default: database {}, PostgreSQL 15.", shop.database);
    for said in
        [&*here, &*server, &format!("\"{role}\""), "large objects: 2", "snapshot ", "\"Sales\".\"order\""]
    {
        assert!(shown.stdout.contains(said), "{said}: {}", shown.stdout);
    }
    let document: serde_json::Value =
        serde_json::from_str(&run(shop.subcommand(&[], &["show"])).stdout).unwrap();
    let of_server = &document["servers"][0];
    assert_eq!(of_server["largeObjects"], 2);
    assert!(of_server["roles"].as_array().unwrap().contains(&role.clone().into()), "{of_server}");
    shop.sql(&format!(r#"DROP OWNED BY "{role}"; DROP ROLE "{role}""#));
}

#[test]
fn diff_names_what_only_the_database_has() {
    let shop = Shop::with("said_diff", &format!("{SHOP}{ODD} CREATE TABLE skipped(x int)"));
    let mut backup = shop.backup();
    backup.args(["--exclude-table", "public.skipped"]);
    run(backup).must_succeed();
    let diff = || shop.subcommand(&[], &["diff", "1", &shop.url(&shop.database)]);
    assert_eq!(text_of(diff()).stdout.trim(), "no table differs");
    shop.sql(r#"CREATE TABLE "Sales"."New"(x int); INSERT INTO "Sales"."New" VALUES (1), (2)"#);
    let ended = text_of(diff());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let line = ended.stdout.lines().nth(1).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["\"Sales\".\"New\"", "absent", "2"]);
    let document: serde_json::Value = serde_json::from_str(&run(diff()).stdout).unwrap();
    let expected = serde_json::json!([{"table": "\"Sales\".\"New\"", "rows": null, "otherRows": 2}]);
    assert_eq!(document["differences"], expected);
}

#[test]
fn a_run_that_is_not_open_is_not_unlocked_and_that_is_said() {
    let shop = Shop::open("said_unlock");
    run(shop.backup()).must_succeed();
    let objects = shop.objects();
    let ended = text_of(shop.unlock(&[]));
    ended.must_succeed();
    assert!(ended.stdout.starts_with("no run is open: run 1 is sealed"), "{ended:?}");
    assert_eq!(shop.objects(), objects);
}

/// The damaged object, where, and what: each once.
#[test]
fn damage_is_said_once_with_its_object() {
    let shop = Shop::open("said_damage");
    run(shop.backup()).must_succeed();
    let victim = (objects_of(shop.there.path(), false).into_iter())
        .find(|path| path.to_string_lossy().contains("/data/"))
        .unwrap();
    let mut bytes = std::fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let ended = text_of(shop.verify());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let line = ended.stdout.lines().find(|line| line.starts_with("DAMAGED region=eu: ")).unwrap();
    assert!(line.contains(victim.file_name().unwrap().to_str().unwrap()), "{line}");
    assert!(line.contains(", table public.events, "), "{line}");
    assert_eq!(line.matches("byte").count(), 1, "{line}");
}

/// Names are quoted by the rule of the server itself.
#[test]
fn names_are_quoted_as_the_server_quotes_them() {
    for version in [PgVersion::V13, PgVersion::V15, PgVersion::V18] {
        let server = shared(version);
        let names = "SELECT word FROM pg_get_keywords() WHERE catcode <> 'U' UNION ALL
            SELECT unnest(ARRAY['orders', '_x1', 'Orders', '1st', 'a b', 'a.b', 'größe', 'a\"b', 'a$b', 'zone_id'])";
        for name in server.psql("postgres", names).unwrap().lines() {
            let quoted = server.psql("postgres", &format!("SELECT quote_ident($q${name}$q$)")).unwrap();
            assert_eq!(shown_identifier(name), quoted.trim(), "PostgreSQL {version:?}");
        }
    }
    assert_eq!(QualifiedName::new("Sales", "order").to_string(), "\"Sales\".\"order\"");
}

#[test]
fn hints_of_settings_name_their_flags() {
    let shop = Shop::open("said_hints");
    let hint = |command: Command, reason: &str| {
        let ended = run(command);
        assert_eq!(ended.reason(), reason, "{ended:?}");
        ended.hint()
    };
    let mut unplaced = shop.backup_of(&[&shop.url(&shop.database)]);
    unplaced.args(["--place", "public.events=region=eu"]);
    let unplaced = hint(unplaced, "Usage");
    assert!(unplaced.contains("--place") && unplaced.contains("--unplaced-to-default"), "{unplaced}");
    // In a collection of its own: a locality is part of a source's identity.
    let mars = Shop::open("said_mars");
    let source = format!("region=mars={}", mars.url(&mars.database));
    assert!(hint(mars.backup_of(&[&source]), "Usage").contains("--unmatched-to-default"));
    // A server without TLS, asked for it.
    let url = format!("{}?sslmode=verify-full", shop.url(&shop.database));
    let tls = hint(shop.backup_of(&[&url]), "TlsFailed");
    assert!(tls.contains("?sslrootcert=FILE") && tls.contains("--source"), "{tls}");
    let missing = hint(shop.backup_of(&[&shop.url("no_such_database")]), "DatabaseMissing");
    assert!(missing.contains("--source"), "{missing}");
    run(shop.backup()).must_succeed();
    let mut selected = shop.restore("said_hints_restored");
    selected.args(["--include-table", "public.absent"]);
    let selected = hint(selected, "SelectionUnknown");
    assert!(selected.contains("--include-table"), "{selected}");
    assert!(hint(shop.restore(&shop.database), "TargetUnfit").contains("--target"));
}

/// A restore that is not the backup names the table, with rows and hash of both sides.
#[test]
fn a_difference_of_a_restore_is_told_in_rows_and_hashes() {
    let shop = Shop::open("said_differs");
    run(shop.backup()).must_succeed();
    let target = format!("{}_restored", shop.database);
    let child = stopped_at("loaded span", shop.restore(&target));
    let unfinished =
        format!("SELECT datname FROM pg_database WHERE starts_with(datname, '{target}_vouchsafe_')");
    let unfinished = shop.server.psql("postgres", &unfinished).unwrap();
    shop.server.psql(unfinished.trim(), "INSERT INTO empty VALUES (1)").unwrap();
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    let ended = end(child);
    assert_eq!((ended.code, &*ended.reason()), (Some(3), "RestoreDiffers"), "{ended:?}");
    assert!(ended.stdout.contains("public.empty: it has 1 row with hash "), "{ended:?}");
    assert!(
        ended.stdout.contains(&format!("and the backup 0 rows with hash {}", "0".repeat(32))),
        "{ended:?}"
    );
}

/// A catalog that is damaged, and a folder that can't be used, are told by their places.
#[test]
fn places_are_named() {
    let shop = Shop::open("said_places");
    run(shop.backup()).must_succeed();
    let mut restore = shop.restore("said_places_restored");
    restore.env("TMPDIR", "/nowhere/at/all");
    let ended = run(restore);
    assert_eq!((ended.code, &*ended.reason()), (Some(1), "LocalFile"), "{ended:?}");
    assert!(ended.stdout.contains("making a folder in /nowhere/at/all"), "{ended:?}");
    let catalog = (objects_of(shop.here.path(), false).into_iter())
        .find(|path| path.to_string_lossy().contains("/schema/roles."))
        .unwrap();
    let mut bytes = std::fs::read(&catalog).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&catalog, bytes).unwrap();
    for ended in [run(shop.subcommand(&[], &["show"])), run(shop.restore("said_places_restored"))] {
        assert_eq!((ended.code, &*ended.reason()), (Some(3), "DamageFound"), "{ended:?}");
        assert!(ended.stdout.contains(catalog.file_name().unwrap().to_str().unwrap()), "{ended:?}");
    }
}
