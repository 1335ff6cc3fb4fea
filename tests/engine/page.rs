//! docs/format.md as a person would use it on the day: its own commands, read out of the page, against a backup
//! that the program has made.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use testbed::{PASSWORD, PgVersion, shared};

use super::shop::{Shop, objects_of, run};

const PAGE: &str = include_str!("../../docs/format.md");

/// Spans of a few blocks, so that a table is several objects.
const SPAN: &str = "16Ki";

/// Rows in binary and in text, in several objects and in none, under names that have to be quoted.
const TABLES: &str = r#"
    SET client_encoding = 'UTF8';
    CREATE TABLE orders(id int PRIMARY KEY, note text, price numeric, at timestamptz);
    INSERT INTO orders SELECT i, 'Ø ' || repeat('x', i % 90), i / 7.0, '2024-02-29 12:00+01' FROM generate_series(1, 1000) i;
    CREATE TABLE events(id int PRIMARY KEY, payload text);
    INSERT INTO events SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 500) i;
    CREATE TABLE empty(x int);
    CREATE SCHEMA "Größe ""1""";
    CREATE TYPE "Größe ""1""".mood AS ENUM ('sad', 'ok');
    CREATE TABLE "Größe ""1"""."it's"(
        "Id; --" int PRIMARY KEY, m "Größe ""1""".mood, doubled int GENERATED ALWAYS AS ("Id; --" * 2) STORED, t text);
    INSERT INTO "Größe ""1"""."it's"("Id; --", m, t)
        SELECT i, 'ok', E'a\tb\\' || chr(233) FROM generate_series(1, 1000) i;
    CREATE VIEW late AS SELECT * FROM orders;"#;

/// The `sh` blocks of the page, in order: what a reader copies.
fn commands() -> String {
    let mut commands = String::new();
    let mut blocks = 0;
    let mut inside = false;
    for line in PAGE.lines() {
        match (inside, line) {
            (false, "```sh") => (inside, blocks) = (true, blocks + 1),
            (true, "```") => inside = false,
            (true, line) => writeln!(commands, "{line}").unwrap(),
            (false, _) => {}
        }
    }
    assert_eq!(blocks, 8, "blocks are missing, or not marked as sh: what is run here is not the page");
    commands
}

/// A table of the backup: where its rows lie, its name, and how it is written in SQL.
#[derive(Clone, Copy)]
struct Table<'a> {
    data: &'a TempDir,
    schema: &'a str,
    name: &'a str,
    sql: &'a str,
}

/// Runs the page's commands with the presets that it names, in a new database.
fn follow(shop: &Shop, table: Table<'_>, database: &str) -> Output {
    shop.server.create_database(database);
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("page.sh");
    std::fs::write(&script, commands()).unwrap();
    let mut path = shop.server.client_bin_dir().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = Command::new("sh");
    command.arg(script).current_dir(&folder).env("PATH", path).env("PGPASSWORD", PASSWORD);
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", shop.server.port().to_string())
        .env("PGUSER", "postgres");
    command.env("BASE", shop.here.path()).env("DATA", table.data.path());
    command.env("SCHEMA", table.schema).env("TABLE", table.name).env("PGDATABASE", database);
    command.output().unwrap()
}

/// Number and contents of a table's rows, whatever encoding and collation its database has.
fn rows(shop: &Shop, database: &str, table: &str) -> String {
    let all = "string_agg(t::text, ',' ORDER BY t::text COLLATE \"C\")";
    let sql = format!(
        "SET client_encoding = 'UTF8'; SELECT count(*), md5(convert_to({all}, 'UTF8')) FROM {table} t"
    );
    shop.server.psql(database, &sql).unwrap()
}

fn must_restore(shop: &Shop, table: Table<'_>, database: &str) {
    let followed = follow(shop, table, database);
    assert!(followed.status.success(), "{}: {followed:?}", table.name);
    let (copy, source) = (rows(shop, database, table.sql), rows(shop, &shop.database, table.sql));
    assert_eq!(copy, source, "{}", table.name);
    let books = "SELECT count(*) FROM pg_namespace WHERE nspname = 'vouchsafe_books'";
    assert_eq!(shop.server.psql(database, books).unwrap(), "0", "{}: its own books are left", table.name);
}

/// The largest object of rows below a folder.
fn largest_data(folder: &Path) -> std::path::PathBuf {
    let data =
        objects_of(folder, false).into_iter().filter(|path| path.extension().is_some_and(|it| it == "zst"));
    let data = data.filter(|path| path.to_string_lossy().contains("/data/"));
    data.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_own_commands_restore_a_table_without_us() {
    let server = shared(PgVersion::V15);
    // Not UTF-8: what the page says of PGCLIENTENCODING matters.
    let database = format!("{}_latin", server.fresh_database("page"));
    server.create_database_with(&database, "ENCODING 'LATIN1' LOCALE 'C'");
    server.psql(&database, TABLES).unwrap();
    let folder = || tempfile::tempdir().unwrap();
    let shop = Shop { server, database, here: folder(), there: folder() };
    // An older backup and a void run, to be passed over.
    run(shop.backup_under(&[], SPAN)).must_succeed();
    server.psql(&shop.database, "DELETE FROM orders WHERE id % 3 = 0").unwrap();
    run(shop.backup_under(&[], SPAN)).must_succeed();
    assert_eq!(run(shop.backup_as("SkipATicket")).reason(), "TicketsOpen");
    assert_eq!(shop.newest().await, 3);

    let public = |data, name| Table { data, schema: "public", name, sql: name };
    let quoted =
        Table {
            data: &shop.here, schema: "Größe \"1\"", name: "it's", sql: "\"Größe \"\"1\"\"\".\"it's\""
        };
    let orders = public(&shop.here, "orders");
    for (number, table) in
        [orders, public(&shop.there, "events"), public(&shop.here, "empty"), quoted].iter().enumerate()
    {
        must_restore(&shop, *table, &format!("{}_page{number}", shop.database));
    }
    // And they stop at the first byte that is another.
    let victim = largest_data(shop.there.path());
    let mut bytes = std::fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let database = format!("{}_page_damaged", shop.database);
    let followed = follow(&shop, public(&shop.there, "events"), &database);
    assert!(!followed.status.success(), "{followed:?}");
    let said = String::from_utf8_lossy(&followed.stdout).into_owned();
    let name = victim.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(&format!("{name}: FAILED")), "{followed:?}");
    assert_eq!(
        server.psql(&database, "SELECT count(*) FROM events").unwrap(),
        "0",
        "a damaged object was loaded"
    );
}
