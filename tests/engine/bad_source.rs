//! Sources that can't be backed up: a reason, an exit code and a hint, and no run.

use testbed::PASSWORD;

use super::shop::{Shop, objects_of, run};

/// A plain role, with what it is granted.
fn role(shop: &Shop, name: &str, grants: &str) {
    let sql = format!(
        "DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'; {grants};
         GRANT SELECT ON pg_largeobject TO {name}"
    );
    shop.sql(&sql);
}

#[test]
fn what_cannot_be_read_is_refused_by_name_and_nothing_is_written() {
    let shop = Shop::open("bad_source");
    role(&shop, "bad_source_blind", "SELECT 1");
    role(&shop, "bad_source_filtered", "GRANT pg_read_all_data TO bad_source_filtered");
    shop.sql("ALTER TABLE events ENABLE ROW LEVEL SECURITY");
    let (port, database) = (shop.server.port(), &shop.database);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = |user: &str, port: u16, rest: &str| format!("postgres://{user}@127.0.0.1:{port}/{rest}");
    let cases = [
        (url("postgres", port, database), "wrong", "AuthenticationFailed", "PGPASSWORD"),
        (url("nobody_at_all", port, database), PASSWORD, "AuthenticationFailed", "PGPASSWORD"),
        (url("postgres", closed, database), PASSWORD, "ServerUnreachable", "port"),
        (url("postgres", port, "no_such_database"), PASSWORD, "DatabaseMissing", "--source"),
        (
            url("postgres", port, &format!("{database}?sslmode=require")),
            PASSWORD,
            "TlsFailed",
            "sslmode=disable",
        ),
        (url("bad_source_blind", port, database), PASSWORD, "PrivilegesMissing", "GRANT"),
        (url("bad_source_filtered", port, database), PASSWORD, "RowSecurityFilters", "BYPASSRLS"),
        (format!("mysql://root@127.0.0.1:{port}/{database}"), PASSWORD, "Usage", "postgres://"),
    ];
    for (source, password, reason, hint) in cases {
        let mut backup = shop.backup_of(&[&source]);
        backup.env("PGPASSWORD", password);
        let ended = run(backup);
        let code = if reason == "Usage" { 2 } else { 1 };
        assert_eq!((ended.code, &*ended.reason()), (Some(code), reason), "{source}: {ended:?}");
        let failure: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let said = failure["failure"]["hint"].as_str().unwrap_or_default();
        assert!(said.contains(hint), "{source}: the hint is {said:?}");
        assert!(!ended.stdout.contains(PASSWORD) && !ended.stderr.contains(PASSWORD), "{source}: {ended:?}");
        let runs: Vec<_> = objects_of(shop.here.path(), true);
        assert!(runs.iter().all(|path| !path.to_string_lossy().contains("/runs/")), "{source}: {runs:?}");
    }
    run(shop.backup()).must_succeed();
}
