//! What a target lacks is listed before anything is touched; what it has is enough without a superuser.

use std::os::unix::fs::MetadataExt;

use testbed::{PgVersion, Postgres, shared};
use vouchsafe::source::target::{
    ArchiveOptions, Demands, Destination, ExtensionEntry, Finding, RestorePlan, Severity, TargetError,
    create_extensions, preflight,
};
use vouchsafe::source::{ClientEncoding, EndpointConfig, Selection, Session};

use crate::compare::{Side, differences};
use crate::copy::{Backup, Restore, endpoint, endpoint_as};
use crate::zoo::zoo;

async fn findings(
    backup: &Backup,
    target: &Postgres,
    maintenance: &EndpointConfig,
    name: &str,
) -> Vec<Finding> {
    let archive = Restore::new(backup, target, name).archive().await;
    let plan = RestorePlan::new(archive.toc(), &backup.tables, &Selection::default()).unwrap();
    let demands = Demands {
        toc: archive.toc(),
        plan: &plan,
        source: &backup.server,
        extensions: &backup.extensions,
        roles: &backup.roles,
        properties: Some(&backup.properties),
        large_objects: &backup.objects,
        made_roles: &[],
        owner: None,
        no_owner: false,
        no_tablespaces: false,
    };
    let session = Session::connect(maintenance, "preflight", &ClientEncoding::Utf8).await.unwrap();
    preflight(&session, &demands, Destination::NewDatabase(name)).await.unwrap()
}

fn has(findings: &[Finding], reason: &str, text: &str) -> bool {
    findings.iter().any(|finding| {
        finding.severity == Severity::Blocks && finding.reason == reason && finding.message.contains(text)
    })
}

/// Its version and schema are in the catalogs alone: without them it is not guessed, nor left to fail later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_no_catalog_names_is_refused() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("unrecorded");
    let session =
        Session::connect(&endpoint(server, &database), "restore", &ClientEncoding::Utf8).await.unwrap();
    let order = [ExtensionEntry { dump_id: 7, name: "pgcrypto".into() }];
    let refused = create_extensions(&session, &order, &[]).await.unwrap_err();
    assert!(
        matches!(&refused, TargetError::ExtensionUnrecorded { extension } if extension == "pgcrypto"),
        "{refused}"
    );
    let made =
        server.psql(&database, "SELECT count(*) FROM pg_extension WHERE extname = 'pgcrypto'").unwrap();
    assert_eq!(made.trim(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_missing_is_listed_at_once() {
    let (source, target) = (shared(PgVersion::V15), Postgres::start(PgVersion::V16));
    let database = zoo(source, "demanding", true);
    let folder = tempfile::tempdir().unwrap();
    // A tablespace must belong to the server's user.
    let owner = std::fs::metadata(source.data_dir()).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
    source
        .psql("postgres", &format!("CREATE TABLESPACE \"far ä\" LOCATION '{}'", folder.path().display()))
        .unwrap();
    source.psql(&database, "CREATE TABLE zoo.elsewhere (a integer) TABLESPACE \"far ä\"").unwrap();
    let backup = Backup::take(source, &database).await;
    let before = target.psql("postgres", "SELECT string_agg(datname, ',') FROM pg_database").unwrap();
    let found = findings(&backup, &target, &endpoint(&target, "postgres"), "postgres").await;
    for (reason, text) in [
        ("RoleMissing", "zoo_owner"),
        ("RoleMissing", "zoo_reader"),
        ("RoleMissing", "Rolle"),
        ("ExtensionMissing", "hstore"),
        ("ExtensionMissing", "citext"),
        ("TablespaceMissing", "far ä"),
        ("DatabaseExists", "postgres"),
    ] {
        assert!(has(&found, reason, text), "{reason} {text}: {found:#?}");
    }
    assert_eq!(target.psql("postgres", "SELECT string_agg(datname, ',') FROM pg_database").unwrap(), before);
    source.psql(&database, "DROP TABLE zoo.elsewhere").unwrap();
    source.psql("postgres", "DROP TABLESPACE \"far ä\"").unwrap();
    // A target that has everything has nothing to be told.
    let backup = Backup::take(source, &database).await;
    assert_eq!(findings(&backup, source, &endpoint(source, "postgres"), "not_there").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_target_is_refused() {
    let backup = {
        let source = shared(PgVersion::V15);
        Backup::take(source, &source.fresh_database("newer")).await
    };
    let target = shared(PgVersion::V14);
    let found = findings(&backup, target, &endpoint(target, "postgres"), "older").await;
    assert!(has(&found, "TargetOlder", "the source ran 15"), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_superuser_restores_once_it_was_granted_what_is_listed() {
    for version in [PgVersion::V15, PgVersion::V16] {
        let server = &Postgres::start(version);
        server.psql("postgres", "CREATE ROLE app_owner; CREATE ROLE app_reader; CREATE ROLE restorer LOGIN PASSWORD 'restorer'").unwrap();
        let database = server.fresh_database("app");
        server
            .psql(
                &database,
                "CREATE SCHEMA app AUTHORIZATION app_owner;
                 SET ROLE app_owner;
                 CREATE TABLE app.parent (id integer PRIMARY KEY, v text);
                 CREATE TABLE app.child (id integer PRIMARY KEY, parent integer REFERENCES app.parent);
                 CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) FROM app.parent;
                 INSERT INTO app.parent SELECT g, 'v' FROM generate_series(1, 100) g;
                 INSERT INTO app.child SELECT g, g FROM generate_series(1, 100) g;
                 REFRESH MATERIALIZED VIEW app.counted;
                 ALTER TABLE app.child ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                 CREATE POLICY p ON app.child USING (id < 5);
                 REVOKE ALL ON app.parent FROM app_owner;
                 GRANT SELECT ON app.parent TO app_reader;
                 GRANT SELECT ON app.parent TO app_owner",
            )
            .unwrap();
        server.psql("postgres", &format!("ALTER DATABASE \"{database}\" OWNER TO app_owner")).unwrap();
        let backup = Backup::take(server, &database).await;
        let maintenance = endpoint_as(server, "restorer", "restorer", "postgres");
        let found = findings(&backup, server, &maintenance, "app_restored").await;
        assert!(has(&found, "PrivilegeMissing", "may not create databases"), "{found:#?}");
        assert!(has(&found, "PrivilegeMissing", "app_owner"), "{found:#?}");
        server.psql("postgres", "ALTER ROLE restorer CREATEDB; GRANT app_owner TO restorer").unwrap();
        let found = findings(&backup, server, &maintenance, "app_restored").await;
        assert!(found.iter().all(|finding| finding.severity == Severity::Notes), "{found:#?}");
        let mut restore = Restore::new(&backup, server, "app_restored");
        restore.maintenance = maintenance;
        restore.run().await.unwrap_or_else(|error| panic!("{version}: {error} {error:?}"));
        let found =
            differences(Side { server, database: &database }, Side { server, database: "app_restored" });
        assert!(found.is_empty(), "{version}:\n{}", found.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_superuser_may_do_is_named_to_the_others() {
    let server = shared(PgVersion::V15);
    let database = zoo(server, "privileged", true);
    server.psql(&database, "CREATE PUBLICATION everything FOR ALL TABLES").unwrap();
    server
        .psql("postgres", "DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN PASSWORD 'weak' CREATEDB")
        .unwrap();
    let backup = Backup::take(server, &database).await;
    let found =
        findings(&backup, server, &endpoint_as(server, "weak", "weak", "postgres"), "weak_restored").await;
    for text in
        ["event trigger zoo_ddl", "publication everything", "foreign data wrapper zoo_fdw", "zoo_reader"]
    {
        assert!(has(&found, "SuperuserNeeded", text), "{text}: {found:#?}");
    }
    assert!(has(&found, "PrivilegeMissing", "zoo_owner"), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_without_the_roles_takes_all_without_owners_and_privileges() {
    let (source, target) = (&Postgres::start(PgVersion::V15), shared(PgVersion::V15));
    source.psql("postgres", "CREATE ROLE elsewhere_owner; CREATE ROLE elsewhere_reader").unwrap();
    let database = source.fresh_database("elsewhere");
    source
        .psql(
            &database,
            &format!(
                "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10) g;
                 ALTER TABLE t OWNER TO elsewhere_owner;
                 GRANT SELECT ON t TO elsewhere_reader;
                 SELECT lo_from_bytea(4711, 'large');
                 ALTER LARGE OBJECT 4711 OWNER TO elsewhere_owner;
                 GRANT SELECT ON LARGE OBJECT 4711 TO elsewhere_reader;
                 GRANT CONNECT ON DATABASE \"{database}\" TO elsewhere_reader;
                 ALTER ROLE elsewhere_reader IN DATABASE \"{database}\" SET work_mem = '5MB';
                 ALTER DATABASE \"{database}\" SET work_mem = '6MB';
                 ALTER DATABASE \"{database}\" OWNER TO elsewhere_owner"
            ),
        )
        .unwrap();
    let backup = Backup::take(source, &database).await;
    let mut restore = Restore::new(&backup, target, "elsewhere_restored");
    restore.options = ArchiveOptions { no_owner: true, no_privileges: true, no_tablespaces: false };
    restore.run().await.unwrap_or_else(|error| panic!("{error} {error:?}"));
    let facts = "SELECT count(*), current_setting('work_mem'), convert_from(lo_get(4711), 'UTF8') FROM t";
    assert_eq!(target.psql("elsewhere_restored", facts).unwrap().trim(), "10|6MB|large");
}
