//! What a role lacks is said at once, as statements that an administrator can run.

use testbed::PgVersion;
use vouchsafe::source::{Held, Selection, SourceError, TablePattern, preflight};

use crate::bench::{database, endpoint, endpoint_as, impatient};

#[tokio::test]
async fn the_grants_of_the_preflight_suffice() {
    for version in [PgVersion::V13, PgVersion::V18] {
        let server = testbed::shared(version);
        let name = database(
            server,
            "grants",
            "CREATE SCHEMA \"Größe \"\"x\"; CREATE TABLE \"Größe \"\"x\".t (i serial); CREATE TABLE open (i int);
             CREATE SEQUENCE alone; SELECT lo_from_bytea(0, 'abc'); GRANT SELECT ON open TO PUBLIC;",
        );
        let role = format!("back\"up_{}", version.major());
        server.create_role(&role, "pw", "");
        let there = endpoint_as(server, &role, "pw", &name);
        let SourceError::PrivilegesMissing { user, grants } =
            preflight(&there, &Selection::default()).await.unwrap_err()
        else {
            panic!("nothing is missing");
        };
        assert_eq!(user, role);
        let quoted = role.replace('"', "\"\"");
        assert_eq!(
            grants,
            [
                format!("GRANT USAGE ON SCHEMA \"Größe \"\"x\" TO \"{quoted}\""),
                format!("GRANT SELECT ON \"Größe \"\"x\".\"t\" TO \"{quoted}\""),
                format!("GRANT SELECT ON SEQUENCE \"Größe \"\"x\".\"t_i_seq\" TO \"{quoted}\""),
                format!("GRANT SELECT ON SEQUENCE \"public\".\"alone\" TO \"{quoted}\""),
                format!("GRANT SELECT ON pg_catalog.pg_largeobject TO \"{quoted}\""),
            ]
        );
        let error = Held::take(&there, &Selection::default(), impatient()).await.unwrap_err();
        assert_eq!(error.reason(), "PrivilegesMissing", "{error}");
        server.psql(&name, &grants.join(";")).unwrap();
        preflight(&there, &Selection::default()).await.unwrap();
        let held = Held::take(&there, &Selection::default(), impatient()).await.unwrap();
        vouchsafe::source::sequences::read(held.snapshot.session()).await.unwrap();
        vouchsafe::source::large_objects::ranges(held.snapshot.session(), 1).await.unwrap();
        vouchsafe::source::schema::dump(
            &there,
            held.server.version_num,
            &held.snapshot.snapshot().id,
            &crate::bench::tools(server),
        )
        .await
        .unwrap();
        held.release().await.unwrap();
    }
}

#[tokio::test]
async fn pg_read_all_data_suffices() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "readall",
        "CREATE SCHEMA s; CREATE TABLE s.t (i serial); SELECT lo_from_bytea(0, 'abc')",
    );
    server.create_role("reads_all", "pw", "IN ROLE pg_read_all_data");
    let there = endpoint_as(server, "reads_all", "pw", &name);
    preflight(&there, &Selection::default()).await.unwrap();
    let held = Held::take(&there, &Selection::default(), impatient()).await.unwrap();
    let reader = vouchsafe::source::Reader::open(&there, &held.snapshot.snapshot().id).await.unwrap();
    assert_eq!(reader.count_large_object_pages().await.unwrap(), 1);
    held.release().await.unwrap();
}

#[tokio::test]
async fn row_security_that_would_hide_rows_fails_by_name() {
    let server = testbed::shared(PgVersion::V15);
    let name = database(
        server,
        "hidden",
        "CREATE TABLE t (i int); INSERT INTO t VALUES (1), (2); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON t USING (i = 1); GRANT SELECT ON t TO PUBLIC",
    );
    server.create_role("sees_some", "pw", "");
    server.create_role("sees_all", "pw", "BYPASSRLS");
    let there = endpoint_as(server, "sees_some", "pw", &name);
    for error in [
        preflight(&there, &Selection::default()).await.unwrap_err(),
        Held::take(&there, &Selection::default(), impatient()).await.unwrap_err(),
    ] {
        assert_eq!(error.reason(), "RowSecurityFilters");
        assert!(error.to_string().contains("public.t") && error.to_string().contains("sees_some"), "{error}");
    }
    let without =
        Selection { exclude_tables: vec![TablePattern::parse("public.t").unwrap()], ..Selection::default() };
    preflight(&there, &without).await.unwrap();
    preflight(&endpoint_as(server, "sees_all", "pw", &name), &Selection::default()).await.unwrap();

    // The last guard: a policy that was made after the preflight stops COPY itself.
    let held = Held::take(&endpoint(server, &name), &Selection::default(), impatient()).await.unwrap();
    let reader = vouchsafe::source::Reader::open(&there, &held.snapshot.snapshot().id).await.unwrap();
    let facts = &held.catalog.tables[0].facts;
    let error = reader.copy_out(facts, &vouchsafe::format::relation::SpanRange::Whole).await.unwrap_err();
    assert_eq!(error.reason(), "RowSecurityFilters", "{error}");
    held.release().await.unwrap();
}
