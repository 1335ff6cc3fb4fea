//! What pg_dump's schema doesn't carry.

use testbed::PgVersion;
use vouchsafe::format::CatalogKind;
use vouchsafe::format::relation::QualifiedName;
use vouchsafe::source::{Reader, inventory, large_objects, roles, schema, sequences, views};

use crate::bench::{ask, binary_rows, database, endpoint, other, take, tools};

#[tokio::test]
async fn sequences_stand_where_they_stood_after_the_snapshot() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "sequences",
        "CREATE SEQUENCE fresh START 7; CREATE SEQUENCE called; SELECT nextval('called');
         CREATE SEQUENCE reset; SELECT setval('reset', 5, false); CREATE SEQUENCE down INCREMENT -1 MINVALUE -99;
         SELECT nextval('down'), nextval('down'); CREATE UNLOGGED TABLE t (i bigserial);
         CREATE SEQUENCE \"Größe\"\"\";",
    );
    let endpoint = endpoint(server, &name);
    let held = take(&endpoint).await;
    // A row numbered after the snapshot isn't in the backup; the sequence is ahead of all that are.
    server.psql(&name, "SELECT nextval('called')").unwrap();
    let values = sequences::read(held.snapshot.session()).await.unwrap();
    let found: Vec<_> =
        values.iter().map(|value| (value.name.name.as_str(), value.last_value, value.is_called)).collect();
    assert_eq!(
        found,
        [
            ("Größe\"", 1, false),
            ("called", 2, true),
            ("down", -2, true),
            ("fresh", 7, false),
            ("reset", 5, false),
            ("t_i_seq", 1, false),
        ]
    );
    held.release().await.unwrap();
}

#[tokio::test]
async fn materialized_views_come_after_what_they_read() {
    let server = testbed::shared(PgVersion::V15);
    // "first" is made to read "second" by replacing the view between them.
    let name = database(
        server,
        "views",
        "CREATE TABLE t (i int); CREATE VIEW between_them AS SELECT i FROM t;
         CREATE MATERIALIZED VIEW first AS SELECT i FROM between_them;
         CREATE MATERIALIZED VIEW second AS SELECT i FROM t;
         CREATE OR REPLACE VIEW between_them AS SELECT i FROM second;
         CREATE FUNCTION parsed() RETURNS SETOF int BEGIN ATOMIC SELECT i FROM first; END;
         CREATE MATERIALIZED VIEW aaa AS SELECT * FROM parsed();
         CREATE MATERIALIZED VIEW empty AS SELECT 1 WITH NO DATA;",
    );
    let held = take(&endpoint(server, &name)).await;
    let order = views::populated(held.snapshot.session()).await.unwrap();
    let names: Vec<_> = ["second", "first", "aaa"].map(|name| QualifiedName::new("public", name)).into();
    assert_eq!(order, names);
    held.release().await.unwrap();
}

#[tokio::test]
async fn large_objects_are_read_page_by_page_with_owner_and_privileges() {
    for version in [PgVersion::V13, PgVersion::V17] {
        let server = testbed::shared(version);
        let (owner, reads) =
            (format!("lo_owner_{}", version.major()), format!("lo_reads_{}", version.major()));
        server.create_role(&owner, "pw", "");
        server.create_role(&reads, "pw", "");
        let name = database(
            server,
            "blobs",
            &format!(
                "SELECT lo_from_bytea(5001, decode(repeat('ab', 10000), 'hex')); SELECT lo_create(5002);
                 SELECT lo_from_bytea(5003, 'x'); SELECT lo_put(5003, 1000000, 'far');
                 ALTER LARGE OBJECT 5001 OWNER TO {owner}; GRANT SELECT ON LARGE OBJECT 5001 TO {reads}, PUBLIC;
                 COMMENT ON LARGE OBJECT 5003 IS 'it''s far'; SELECT lo_from_bytea(5004, 'late') WHERE false;"
            ),
        );
        let endpoint = endpoint(server, &name);
        let held = take(&endpoint).await;
        server.psql(&name, "SELECT lo_from_bytea(6000, 'after'); SELECT lo_unlink(5003)").unwrap();
        let objects = large_objects::list(held.snapshot.session()).await.unwrap();
        assert_eq!(objects.iter().map(|object| object.oid).collect::<Vec<_>>(), [5001, 5002, 5003]);
        assert_eq!(objects[0].owner, owner);
        let grants = objects[0].grants.as_ref().unwrap();
        let shown: Vec<_> =
            grants.iter().map(|grant| (grant.grantee.as_deref(), grant.privilege.as_str())).collect();
        assert!(shown.contains(&(None, "SELECT")) && shown.contains(&(Some(&*reads), "SELECT")), "{shown:?}");
        assert!(shown.contains(&(Some(&*owner), "UPDATE")), "{shown:?}");
        assert_eq!(objects[1].grants, None);
        assert_eq!(objects[2].comment.as_deref(), Some("it's far"));

        let ranges = large_objects::ranges(held.snapshot.session(), 8192).await.unwrap();
        assert_eq!(ranges, [(1, 5001), (5002, u32::MAX)], "no object has a place between two");
        let reader = Reader::open(&endpoint, &held.snapshot.snapshot().id).await.unwrap();
        let mut pages = 0;
        for (from, to) in ranges {
            let stream = reader.copy_large_objects(from, to).await.unwrap();
            let bytes: Vec<u8> =
                futures::TryStreamExt::try_concat(futures::TryStreamExt::map_ok(stream, |bytes| {
                    bytes.to_vec()
                }))
                .await
                .unwrap();
            pages += binary_rows(&bytes).len() as u64;
        }
        // 10,000 bytes are five pages of 2 KiB; the far end of the other one is its second page, the rest a hole.
        assert_eq!(pages, 7);
        assert_eq!(reader.count_large_object_pages().await.unwrap(), 7);
        held.release().await.unwrap();
    }
}

#[tokio::test]
async fn roles_that_objects_refer_to_are_listed_without_passwords() {
    for version in [PgVersion::V15, PgVersion::V16] {
        let server = testbed::shared(version);
        let at = version.major();
        server
            .psql(
                "postgres",
                &format!(
                    "CREATE ROLE r_owner_{at} LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 3 VALID UNTIL '2040-01-01';
                     CREATE ROLE r_group_{at} NOINHERIT; GRANT r_group_{at} TO r_owner_{at} WITH ADMIN OPTION;
                     GRANT pg_read_all_data TO r_group_{at}; CREATE ROLE r_granted_{at}; CREATE ROLE r_policy_{at};
                     CREATE ROLE r_default_{at}; CREATE ROLE r_stranger_{at}; CREATE ROLE r_setting_{at};
                     COMMENT ON ROLE r_granted_{at} IS 'reads'; ALTER ROLE r_granted_{at} SET work_mem = '1MB';"
                ),
            )
            .unwrap();
        let name = database(
            server,
            "roles",
            &format!(
                "CREATE TABLE t (i int); ALTER TABLE t OWNER TO r_owner_{at}; GRANT SELECT ON t TO r_granted_{at};
                 CREATE POLICY p ON t TO r_policy_{at};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO r_default_{at};"
            ),
        );
        server
            .psql("postgres", &format!("ALTER ROLE r_setting_{at} IN DATABASE {name} SET work_mem = '2MB'"))
            .unwrap();
        let held = take(&endpoint(server, &name)).await;
        let found = roles::read(held.snapshot.session()).await.unwrap();
        let names: Vec<&str> = found.iter().map(|role| role.name.as_str()).collect();
        for expected in ["owner", "group", "granted", "policy", "default", "setting"] {
            assert!(names.contains(&format!("r_{expected}_{at}").as_str()), "{expected}: {names:?}");
        }
        assert!(names.contains(&"postgres") && names.contains(&"pg_read_all_data"));
        assert!(!names.contains(&format!("r_stranger_{at}").as_str()));
        let role = |name: &str| found.iter().find(|role| role.name == format!("r_{name}_{at}")).unwrap();
        assert!(role("owner").login && role("owner").connection_limit == 3 && !role("owner").predefined);
        assert!(role("owner").valid_until.as_deref().unwrap().starts_with("2040-01-01"));
        assert_eq!(role("owner").member_of.len(), 1);
        assert!(role("owner").member_of[0].admin && role("owner").member_of[0].inherit);
        assert!(!role("group").inherit);
        assert_eq!(role("granted").comment.as_deref(), Some("reads"));
        assert_eq!(role("granted").settings, ["work_mem=1MB"]);
        assert!(found.iter().find(|role| role.name == "pg_read_all_data").unwrap().predefined);
        let document = inventory::entries(held.snapshot.session(), CatalogKind::Roles).await.unwrap();
        assert!(!serde_json::to_string(&document).unwrap().contains("hunter2"));
        held.release().await.unwrap();
    }
}

#[tokio::test]
async fn the_database_has_its_entries() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(server, "whole", "");
    server
        .psql(
            "postgres",
            &format!("ALTER DATABASE {name} SET work_mem = '3MB'; COMMENT ON DATABASE {name} IS 'c'"),
        )
        .unwrap();
    let held = take(&endpoint(server, &name)).await;
    let entries = inventory::entries(held.snapshot.session(), CatalogKind::Database).await.unwrap();
    let text = serde_json::to_string(&entries).unwrap();
    for expected in ["\"work_mem\"", "\"3MB\"", "\"comment\":\"c\"", "\"plpgsql\"", "\"encoding\":\"UTF8\""] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for entry in entries {
        serde_json::from_value::<inventory::DatabaseEntry>(entry).unwrap();
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn the_schema_is_that_of_the_snapshot_and_failures_are_pg_dumps_own() {
    let server = testbed::Postgres::builder(PgVersion::V15).tls().start();
    server.psql("postgres", "CREATE TABLE \"Größe\" (i int); CREATE SUBSCRIPTION sub CONNECTION 'host=/nowhere password=hunter2' PUBLICATION p WITH (connect = false)").unwrap();
    let mut there = endpoint(&server, "postgres");
    there.tls = vouchsafe::source::Tls::VerifyFull(vouchsafe::source::Authorities::Pem(
        std::fs::read(server.authority().unwrap()).unwrap(),
    ));
    let held = take(&there).await;
    assert!(
        held.catalog.omissions.iter().any(|omission| omission.object == "sub"),
        "{:?}",
        held.catalog.omissions
    );
    server.psql("postgres", "CREATE TABLE made_afterwards (i int)").unwrap();
    let id = &held.snapshot.snapshot().id;
    let archive = schema::dump(&there, held.server.version_num, id, &tools(&server)).await.unwrap();
    let text = String::from_utf8_lossy(&archive.bytes);
    assert!(text.contains("Größe") && !text.contains("made_afterwards") && !text.contains("hunter2"));
    assert_eq!(archive.facts.tool_major, 15);
    let reader = tools(&server)
        .pg_restore_for(vouchsafe::source::ToolVersion { major: 15, minor: 0 }, 15)
        .await
        .unwrap();
    assert_eq!(schema::count_entries(&reader, &archive.bytes).await.unwrap(), archive.facts.entries);
    let truncated = &archive.bytes[..archive.bytes.len() / 3];
    assert_eq!(schema::count_entries(&reader, truncated).await.unwrap_err().reason(), "ToolFailed");

    let error = schema::dump(&there, held.server.version_num, "00000003-FFFFFFFF-1", &tools(&server))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "ToolFailed");
    assert!(error.to_string().contains("00000003-FFFFFFFF-1"), "{error}");
    assert!(!error.to_string().contains(testbed::PASSWORD), "{error}");
    let unfit = schema::dump(&there, 160_000, id, &tools(&server)).await.unwrap_err();
    assert_eq!(unfit.reason(), "ToolUnfit");
    let session = other(&there).await;
    assert_eq!(ask(&session, "SELECT 1::text").await, "1");
    held.release().await.unwrap();
}
