//! What every store promises.

use std::collections::BTreeSet;

use bytes::Bytes;
use rstest::rstest;
use vouchsafe::format::Sha256Digest;
use vouchsafe::store::{ObjectVersion, StoreErrorKind, Upload, UploadOptions};

use crate::fixture::{Fixture, Kind, bytes, content, key, read};

/// Least part that S3 takes anywhere but at the end.
const PART: usize = 5 << 20;

fn parts_of(first_part: usize) -> UploadOptions {
    UploadOptions { first_part, ..UploadOptions::default() }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn what_was_created_is_read_back(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let store = &fixture.store;
    for (name, length) in [("runs/1/empty", 0), ("runs/1/one", 1), ("top", 100_000)] {
        let (key, body) = (key(name), bytes(length, 7));
        let committed = store.create(&key, body.clone()).await.unwrap();
        assert_eq!((committed.key(), committed.length()), (&key, length as u64));
        assert_eq!(committed.sha256(), &Sha256Digest::of(&body));
        assert!(
            committed.checksum().is_some_and(|it| {
                it.starts_with(match kind {
                    Kind::Azurite => "md5:",
                    Kind::Gcs => "crc32c:",
                    Kind::Folder | Kind::Minio | Kind::SeaweedFs => "sha256:",
                })
            }),
            "{committed:?}"
        );
        let head = store.head(&key, Some(committed.version())).await.unwrap();
        assert_eq!((head.length, &head.version), (length as u64, committed.version()));
        assert!(head.modified.is_some(), "the age of what is to be deleted is told by it");
        let download = store.get(&key, Some(committed.version()), None).await.unwrap();
        assert_eq!((download.head.length, &download.head.version), (head.length, &head.version));
        // Google's SDK does not tell of what it reads when it was stored.
        assert!(download.head.modified == head.modified || kind == Kind::Gcs);
        assert_eq!(read(download).await.unwrap(), body);
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn a_name_is_given_once(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let (store, key) = (&fixture.store, key("runs/1/run.json"));
    let _ = store.create(&key, "first".into()).await.unwrap();
    let error = store.create(&key, "second".into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists, "{error}");
    // By the other way too: completing parts is a create.
    let mut upload = Upload::begin(store, key.clone(), parts_of(PART));
    upload.write(bytes(PART + 1, 1)).await.unwrap();
    let error = upload.finish().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists, "{error}");
    assert_eq!(content(store, &key).await.unwrap(), b"first");
    if kind.forgets() {
        assert_eq!(fixture.unfinished(), 0, "the refused upload's parts are still there");
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_creators_one_wins(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    for round in 0..5 {
        let key = key(&format!("runs/{round}/outcome.json"));
        let tries = (0..12_u8).map(|creator| {
            let (store, key) = (fixture.store.clone(), key.clone());
            tokio::spawn(async move { (creator, store.create(&key, Bytes::from(vec![creator; 64])).await) })
        });
        let mut winners = Vec::new();
        for ended in futures::future::join_all(tries).await {
            match ended.unwrap() {
                (creator, Ok(_)) => winners.push(creator),
                // A store may ask to come again while another create of the name is under way.
                (_, Err(error)) => assert!(
                    matches!(error.kind(), StoreErrorKind::AlreadyExists | StoreErrorKind::Unavailable),
                    "{error}"
                ),
            }
        }
        assert_eq!(winners.len(), 1, "creators {winners:?} all won");
        assert_eq!(content(&fixture.store, &key).await.unwrap(), vec![winners[0]; 64]);
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_every_length_are_whole(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    for (length, step) in [
        (0, 1),
        (1, 1),
        (PART - 1, 100_000),
        (PART, 1 << 20),
        (PART + 1, 70_001),
        (3 * PART, PART),
        (2 * PART + 9, 4 * PART),
    ] {
        let key = key(&format!("data/{length}.zst"));
        let body = bytes(length, length as u64);
        let mut upload = Upload::begin(&fixture.store, key.clone(), parts_of(PART));
        let mut rest = body.clone();
        while !rest.is_empty() {
            upload.write(rest.split_to(step.min(rest.len()))).await.unwrap();
        }
        let committed = upload.finish().await.unwrap();
        assert_eq!(committed.length(), length as u64);
        assert_eq!(committed.sha256(), &Sha256Digest::of(&body), "{length} bytes");
        if kind != Kind::Folder {
            let checksum = committed.checksum().expect("the store's own checksum");
            let expected = match (kind, length > PART) {
                (Kind::Azurite, true) => "md5-of-blocks:",
                (Kind::Azurite, false) => "md5:",
                (Kind::Gcs, _) => "crc32c:",
                (_, true) => "crc64nvme:",
                (_, false) => "sha256:",
            };
            assert!(checksum.starts_with(expected), "{length} bytes: {checksum}");
        }
        let stored = store_read(&fixture, &key, committed.version()).await;
        assert!(stored == body, "{length} bytes came back as {}, or others", stored.len());
    }
    assert_eq!(fixture.unfinished(), 0);
}

async fn store_read(fixture: &Fixture, key: &vouchsafe::format::Key, version: &ObjectVersion) -> Vec<u8> {
    read(fixture.store.get(key, Some(version), None).await.unwrap()).await.unwrap()
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn an_aborted_upload_leaves_nothing(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let name = key("data/aborted.zst");
    let mut upload = Upload::begin(&fixture.store, name.clone(), parts_of(PART));
    upload.write(bytes(2 * PART + 1, 3)).await.unwrap();
    // Two more than what is in flight at once: at least one part has arrived.
    upload.write(bytes(3 * PART, 4)).await.unwrap();
    assert_eq!(fixture.unfinished(), 1, "the upload can't be seen, so this test shows nothing");
    upload.abort().await.unwrap();
    if kind.forgets() {
        assert_eq!(fixture.unfinished(), 0);
    }
    assert_eq!(fixture.store.head(&name, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    // Its name is free, but where what was given up is kept: Azurite counts that as being there.
    if kind.forgets() {
        let _ = fixture.store.create(&name, "x".into()).await.unwrap();
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn nothing_can_be_read_before_an_upload_is_complete(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let name = key("data/open.zst");
    let session = fixture.store.begin(&name).await.unwrap();
    session.put_part(1, 0, bytes(PART, 1)).await.unwrap();
    assert_eq!(fixture.store.get(&name, None, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert!(fixture.store.list(None, None).await.unwrap().objects.is_empty());
    session.abort().await.unwrap();
    session.abort().await.expect("aborting again is success");
    let error = session.put_part(2, PART as u64, "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NoSuchUpload, "{error}");
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn what_is_not_there_is_not_found(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let store = &fixture.store;
    let _ = store.create(&key("runs/1/run.json"), "x".into()).await.unwrap();
    // Beside it, and the folder above it, which in a bucket is nothing.
    for name in ["runs/1/outcome.json", "runs/1", "runs/2/run.json", "a"] {
        let key = key(name);
        assert_eq!(store.head(&key, None).await.unwrap_err().kind(), StoreErrorKind::NotFound, "{name}");
        assert_eq!(store.get(&key, None, None).await.unwrap_err().kind(), StoreErrorKind::NotFound, "{name}");
        store.delete(&key, &ObjectVersion::default()).await.expect("deleting what is gone is success");
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn an_object_that_was_replaced_is_noticed(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let (store, key) = (&fixture.store, key("runs/1/part.json"));
    let old = store.create(&key, "old".into()).await.unwrap();
    store.delete(&key, old.version()).await.unwrap();
    let new = store.create(&key, "newer".into()).await.unwrap();
    assert_ne!(old.version(), new.version());
    let recorded = Some(old.version());
    assert_eq!(store.head(&key, recorded).await.unwrap_err().kind(), StoreErrorKind::Changed);
    assert_eq!(store.get(&key, recorded, None).await.unwrap_err().kind(), StoreErrorKind::Changed);
    assert_eq!(store.get(&key, recorded, Some(0..1)).await.unwrap_err().kind(), StoreErrorKind::Changed);
    assert_eq!(store.delete(&key, old.version()).await.unwrap_err().kind(), StoreErrorKind::Changed);
    assert_eq!(content(store, &key).await.unwrap(), b"newer");
    store.delete(&key, new.version()).await.unwrap();
    assert_eq!(store.head(&key, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn ranges_are_exact(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let (store, key, body) = (&fixture.store, key("data/x"), bytes(3 << 20, 5));
    let committed = store.create(&key, body.clone()).await.unwrap();
    let length = body.len() as u64;
    for range in
        [0..0, 0..1, 1..2, 10..2_000_000, length - 1..length, length..length, 0..length, 1 << 20..2 << 20]
    {
        let download = store.get(&key, Some(committed.version()), Some(range.clone())).await.unwrap();
        assert_eq!(download.head.length, length, "the whole object's, for {range:?}");
        let expected = &body[range.start as usize..range.end as usize];
        assert!(read(download).await.unwrap() == expected, "{range:?}");
    }
    for range in [0..length + 1, length..length + 1, length + 1..length + 2] {
        let error = store.get(&key, None, Some(range.clone())).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{range:?}: {error}");
    }
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lists_are_whole_over_pages(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let store = &fixture.store;
    let mut names: BTreeSet<String> = (0..1_100).map(|n| format!("runs/1/receipts/{n:08}.json")).collect();
    // In the order of names a folder's content does not stand where the folder's name does.
    for name in ["runs/1/receipts.json", "runs/1/receipts-x", "runs/1/receipts0", "runs/10/run.json", "a"] {
        names.insert(name.to_owned());
    }
    futures::stream::StreamExt::for_each_concurrent(futures::stream::iter(&names), 16, |name| async move {
        let _ = store.create(&key(name), Bytes::from(vec![0; name.len() % 7])).await.unwrap();
    })
    .await;
    let mut found = Vec::new();
    let mut page = None;
    let mut pages = 0;
    loop {
        let got = store.list(None, page.as_deref()).await.unwrap();
        pages += 1;
        found.extend(got.objects);
        match got.next {
            Some(next) => page = Some(next),
            None => break,
        }
    }
    let expected: Vec<_> = names.iter().map(|name| (key(name), (name.len() % 7) as u64)).collect();
    // SeaweedFS lists in the order of its folders; the promise is only that nothing is missing or there twice.
    assert_eq!(found.len(), expected.len());
    found.sort_unstable();
    let wrong = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert_eq!(wrong, None, "found, expected");
    assert!(pages > 1, "one page held it all, so pages were not tried");
    let folders = store.list_folders(&key("runs"), None).await.unwrap();
    assert_eq!(folders.folders, [key("runs/1"), key("runs/10")], "and no page for what is in them");
    assert_eq!(folders.next, None);
    let inner = store.list_folders(&key("runs/1"), None).await.unwrap().folders;
    assert_eq!(inner, [key("runs/1/receipts")], "files are no folders");
    assert!(store.list_folders(&key("runs/2"), None).await.unwrap().folders.is_empty());
    let below = store.list(Some(&key("runs/10")), None).await.unwrap();
    assert_eq!(below.objects.len(), 1, "runs/1 is no prefix of runs/10: {below:?}");
    assert!(store.list(Some(&key("runs/2")), None).await.unwrap().objects.is_empty());
    assert!(store.list(Some(&key("a")), None).await.unwrap().objects.is_empty(), "nothing lies below a file");
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn parts_may_come_in_any_order_and_twice(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let name = key("data/parts");
    let body = bytes(2 * PART + 3, 8);
    let session = fixture.store.begin(&name).await.unwrap();
    session.put_part(3, 2 * PART as u64, body.slice(2 * PART..)).await.unwrap();
    session.put_part(1, 0, body.slice(..PART)).await.unwrap();
    session.put_part(2, PART as u64, body.slice(PART..2 * PART)).await.unwrap();
    session.put_part(1, 0, body.slice(..PART)).await.unwrap();
    let content_digest = digest(&body, 3);
    let committed = session.complete(content_digest).await.unwrap();
    assert!(store_read(&fixture, &name, committed.version()).await == body);
}

#[rstest]
#[case::folder(Kind::Folder)]
#[case::minio(Kind::Minio)]
#[case::seaweedfs(Kind::SeaweedFs)]
#[case::azurite(Kind::Azurite)]
#[case::gcs(Kind::Gcs)]
#[tokio::test]
async fn an_upload_with_a_missing_part_is_refused(#[case] kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let name = key("data/gap");
    let body = bytes(2 * PART + 3, 8);
    let session = fixture.store.begin(&name).await.unwrap();
    session.put_part(1, 0, body.slice(..PART)).await.unwrap();
    session.put_part(3, 2 * PART as u64, body.slice(2 * PART..)).await.unwrap();
    let error = session.complete(digest(&body, 3)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    session.abort().await.unwrap();
    assert_eq!(fixture.store.head(&name, None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

pub(crate) fn digest(body: &[u8], parts: u32) -> vouchsafe::store::ContentDigest {
    vouchsafe::store::ContentDigest {
        length: body.len() as u64,
        parts,
        sha256: Sha256Digest::of(body),
        crc64nvme: crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body),
        crc32c: u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body)).unwrap(),
    }
}
