//! Backups in buckets that keep versions: what is put over an object later, or marked as deleted, hides it and
//! changes nothing; and what was copied elsewhere has other version ids.

use std::io::Write;
use std::sync::Arc;

use rstest::rstest;
use testbed::{PgVersion, Postgres, S3Kind, S3Server, shared, shared_s3};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::restore::restore;
use vouchsafe::engine::{BackupJob, back_up, backups};
use vouchsafe::format::Key;
use vouchsafe::store::{ObjectStore, StoreErrorKind};

use super::round::{SHOP, restore_job};
use super::setup;

/// Below the bucket, as [`setup::bucket_named`] has it.
const PREFIX: &str = "backups";

async fn keys(store: &Arc<dyn ObjectStore>) -> Vec<Key> {
    let (mut keys, mut page) = (Vec::new(), None);
    loop {
        let listed = store.list(None, page.as_deref()).await.unwrap();
        keys.extend(listed.objects.into_iter().map(|(key, _)| key));
        page = listed.next;
        if page.is_none() {
            return keys;
        }
    }
}

/// The first two objects in which `mark` occurs.
fn two_of<'a>(keys: &'a [Key], mark: &str) -> [&'a Key; 2] {
    let mut found = keys.iter().filter(|key| key.as_str().contains(mark));
    [found.next().unwrap(), found.next().unwrap()]
}

/// Verifies what lies in `store`, and restores it.
async fn must_be_whole(server: &'static Postgres, database: &str, store: Arc<dyn ObjectStore>, tag: &str) {
    let job: BackupJob = setup::job(server, database, setup::destinations(vec![("default", store)]));
    let progress = Progress::silent();
    let verified =
        backups::verify(&job.destinations, &job.register, None, &job.tools, 2, &progress).await.unwrap();
    assert!(verified.damages.is_empty(), "{tag}: {:?}", verified.damages);
    let restored = format!("{database}_{tag}");
    restore(&restore_job(&job, setup::endpoint(server, &restored))).await.unwrap();
    let look = "SELECT count(*), sum(hashtext(a::text)) FROM a; SELECT md5(lo_get(4711))";
    assert_eq!(server.psql(&restored, look).unwrap(), server.psql(database, look).unwrap(), "{tag}");
}

fn copy(s3: &S3Server, keys: &[Key], from: &str, to: &str) {
    for key in keys {
        let source = format!("x-amz-copy-source: /{from}/{PREFIX}/{key}");
        let copied = s3.request("PUT", &format!("{to}/{PREFIX}/{key}"), &[&source], None);
        assert_eq!(copied.status, 200, "{key}: {copied:?}");
    }
}

#[rstest]
#[case::minio(S3Kind::Minio)]
#[case::seaweedfs(S3Kind::SeaweedFs)]
#[tokio::test(flavor = "multi_thread")]
async fn hidden_versions_are_read_and_so_is_a_copy_with_other_ids(#[case] kind: S3Kind) {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("versions");
    server.psql(&database, SHOP).unwrap();
    let s3 = shared_s3(kind);
    let bucket = format!("versions-{}", s3.port());
    s3.create_bucket_with_object_lock(&bucket);
    let store = setup::bucket_named(s3, &bucket).await;
    let job = setup::job(server, &database, setup::destinations(vec![("default", Arc::clone(&store))]));
    back_up(&job).await.unwrap();
    let keys = keys(&store).await;

    let versioned = format!("versions-copied-{}", s3.port());
    s3.create_bucket_with_object_lock(&versioned);
    let plain = s3.fresh_bucket("versions-plain");
    for (copied, tag) in [(versioned, "versioned"), (plain, "plain")] {
        copy(s3, &keys, &bucket, &copied);
        must_be_whole(server, &database, setup::bucket_named(s3, &copied).await, tag).await;
    }

    // A row object, and a catalog.
    for [deleted, replaced] in [two_of(&keys, "/data/"), two_of(&keys, "/schema/")] {
        let path = |key: &Key| format!("{bucket}/{PREFIX}/{key}");
        assert_eq!(s3.request("DELETE", &path(deleted), &[], None).status, 204);
        let mut other = tempfile::NamedTempFile::new().unwrap();
        other.write_all(b"something else").unwrap();
        assert_eq!(s3.request("PUT", &path(replaced), &[], Some(other.path())).status, 200);
        assert_eq!(store.head(deleted, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
        assert_eq!(store.head(replaced, None).await.unwrap().length, 14);
    }
    must_be_whole(server, &database, store, "hidden").await;
}
