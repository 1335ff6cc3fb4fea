//! Large objects that were changed behind a restore's back: each comparison names them.

use bytes::Bytes;
use futures::TryStreamExt;
use testbed::{PgVersion, shared};
use vouchsafe::codec::RowHasher;
use vouchsafe::format::{CopyFormat, Fingerprint};
use vouchsafe::source::target::{ArchiveOptions, PageWriter, TargetError, large_objects, large_objects_back};
use vouchsafe::source::{ClientEncoding, Session};

use crate::copy::{endpoint, endpoint_as};

async fn fingerprint(session: &Session, only: Option<&[u32]>) -> Fingerprint {
    let hasher = || RowHasher::new(CopyFormat::Binary, 3);
    let (mut current, mut sum) = (hasher(), Fingerprint::default());
    large_objects_back::read_pages::<TargetError>(session, only, |piece| {
        match piece {
            Some(piece) => current.push(piece).unwrap(),
            None => {
                sum = sum.plus(std::mem::replace(&mut current, hasher()).finish().unwrap().fingerprint);
            }
        }
        Ok(())
    })
    .await
    .unwrap();
    sum
}

/// The pages that are there, compared as a role that may not read `pg_largeobject` does it.
async fn compared(session: &Session, pages: &[Bytes]) -> Result<u64, TargetError> {
    let mut writer = PageWriter::comparing(session, 8192);
    for piece in pages {
        writer.write(piece).await?;
    }
    writer.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_large_object_is_found_by_its_bytes_owner_or_privileges() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("changed_objects");
    server
        .psql(
            "postgres",
            "DROP ROLE IF EXISTS lo_plain, lo_other; CREATE ROLE lo_plain LOGIN PASSWORD 'plain'; CREATE ROLE lo_other",
        )
        .unwrap();
    let sql = |sql: &str| drop(server.psql(&database, sql).unwrap());
    sql("SELECT lo_from_bytea(1001, decode(repeat('0102', 600000), 'hex')), lo_from_bytea(1002, 'short'), lo_create(1003);
         SELECT lo_put(1002, 100000, 'after a hole'); COMMENT ON LARGE OBJECT 1003 IS 'empty';
         ALTER LARGE OBJECT 1001 OWNER TO lo_plain; ALTER LARGE OBJECT 1002 OWNER TO lo_plain;
         GRANT SELECT ON LARGE OBJECT 1001 TO lo_other WITH GRANT OPTION; SELECT lo_from_bytea(999, 'not ours')");
    let session =
        Session::connect(&endpoint(server, &database), "look", &ClientEncoding::Utf8).await.unwrap();
    let plain = endpoint_as(server, "lo_plain", "plain", &database);
    let plain = Session::connect(&plain, "look", &ClientEncoding::Utf8).await.unwrap();
    assert!(large_objects_back::may_read_pages(&session).await.unwrap());
    assert!(!large_objects_back::may_read_pages(&plain).await.unwrap());

    let ours = [1001, 1002, 1003];
    let copy = "COPY (SELECT loid, pageno, data FROM pg_largeobject WHERE loid > 1000 ORDER BY 1, 2) TO STDOUT (FORMAT binary)";
    let pages: Vec<Bytes> = session.client().copy_out(copy).await.unwrap().try_collect().await.unwrap();
    let before = fingerprint(&session, Some(&ours)).await;
    assert_ne!(fingerprint(&session, None).await, before, "the others are not told apart");
    assert_eq!(compared(&plain, &pages).await.unwrap(), before.rows);
    let all = vouchsafe::source::large_objects::list(&session).await.unwrap();
    let objects: Vec<_> = all.into_iter().filter(|object| ours.contains(&object.oid)).collect();
    let whole = ArchiveOptions::default();
    large_objects_back::check_access(&session, &objects, whole).await.unwrap();

    for (change, undo) in [
        ("SELECT lo_put(1001, 700000, 'x')", "SELECT lo_put(1001, 700000, '\\x01')"),
        ("SELECT lo_put(1002, 100003, 'X')", "SELECT lo_put(1002, 100003, 'e')"),
    ] {
        sql(change);
        assert_ne!(fingerprint(&session, Some(&ours)).await, before, "{change}");
        let error = compared(&plain, &pages).await.unwrap_err();
        assert!(matches!(error, TargetError::LargeObjectDiffers { .. }), "{change}: {error}");
        assert_eq!(error.reason(), "RestoreDiffers");
        sql(undo);
        assert_eq!(fingerprint(&session, Some(&ours)).await, before, "{undo}");
    }
    let reduced = ArchiveOptions { no_owner: true, no_privileges: true, no_tablespaces: false };
    for (oid, reduced_finds, change) in [
        (1002, false, "ALTER LARGE OBJECT 1002 OWNER TO postgres"),
        (1001, false, "REVOKE GRANT OPTION FOR SELECT ON LARGE OBJECT 1001 FROM lo_other"),
        (1003, true, "COMMENT ON LARGE OBJECT 1003 IS NULL"),
        (1003, true, "SELECT lo_unlink(1003)"),
    ] {
        sql(change);
        let error = large_objects_back::check_access(&session, &objects, whole).await.unwrap_err();
        assert!(
            matches!(error, TargetError::LargeObjectDiffers { oid: found } if found <= oid),
            "{change}: {error}"
        );
        let found = large_objects_back::check_access(&session, &objects, reduced).await;
        assert_eq!(found.is_err(), reduced_finds, "{change}");
    }
    // What a restore writes is what it finds.
    sql("SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid IN (1001, 1002)");
    large_objects::create(&session, &objects).await.unwrap();
    let mut writer = PageWriter::new(&session, 8192);
    for piece in &pages {
        writer.write(piece).await.unwrap();
    }
    writer.finish().await.unwrap();
    large_objects::set_access(&session, &objects).await.unwrap();
    assert_eq!(fingerprint(&session, Some(&ours)).await, before);
    large_objects_back::check_access(&session, &objects, whole).await.unwrap();
}
