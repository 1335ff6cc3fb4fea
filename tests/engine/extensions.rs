//! Extensions with configuration tables: rows of the user's in tables of the extension's.

use testbed::{PgVersion, Postgres};

use super::shop::{Shop, run};

/// A server that knows an extension `zoo`, which brings a row of its own.
fn server(folder: &std::path::Path) -> &'static Postgres {
    let extensions = folder.join("extension");
    std::fs::create_dir(&extensions).unwrap();
    std::fs::write(extensions.join("zoo.control"), "default_version = '1.0'\nrelocatable = true\n").unwrap();
    let script =
        "CREATE TABLE config (k int, standard bool); INSERT INTO config VALUES (1, true), (0, false);
                  CREATE SEQUENCE counted;
                  SELECT pg_extension_config_dump('config', 'WHERE NOT standard');
                  SELECT pg_extension_config_dump('counted', '');";
    std::fs::write(extensions.join("zoo--1.0.sql"), script).unwrap();
    for path in [folder, &extensions] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    // 18 lets extensions lie in any folder. Ended with the process, as the shared ones are.
    let path = format!("$system:{}", folder.display());
    Box::leak(Box::new(Postgres::builder(PgVersion::V18).config("extension_control_path", &path).start()))
}

const ROWS: &str = "SELECT string_agg(k || ' ' || standard, ', ' ORDER BY k) FROM config";

#[test]
fn configuration_of_extensions_comes_back_from_one_server_and_from_two() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path());
    let filled = |stem: &str, sql: &str| {
        let database = server.fresh_database(stem);
        server.psql(&database, &format!("CREATE EXTENSION zoo; {sql}")).unwrap();
        database
    };
    // The row that the extension brings, but lets the user change, was changed.
    let own =
        "DELETE FROM config WHERE k = 0; INSERT INTO config VALUES (2, false); SELECT setval('counted', 9)";
    let one = Shop::of(server, filled("extension_one", own));
    run(one.backup_of(&[&one.url(&one.database)])).must_succeed();
    run(one.restore_to(server, "extension_back")).must_succeed();
    assert_eq!(server.psql("extension_back", ROWS).unwrap().trim(), "1 true, 2 false");
    assert_eq!(server.psql("extension_back", "SELECT nextval('counted')").unwrap().trim(), "10");

    let other =
        filled("extension_other", "DELETE FROM config WHERE k = 0; INSERT INTO config VALUES (3, false)");
    let two = Shop::of(server, one.database.clone());
    let sources = [format!("region=eu={}", two.url(&two.database)), format!("region=us={}", two.url(&other))];
    let mut backup = two.backup_of(&[&sources[0], &sources[1]]);
    backup.arg("--unmatched-to-default");
    run(backup).must_succeed();
    run(two.restore_to(server, "extension_united")).must_succeed();
    assert_eq!(server.psql("extension_united", ROWS).unwrap().trim(), "1 true, 2 false, 3 false");
}
