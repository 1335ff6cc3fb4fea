//! What only folders can get wrong.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use vouchsafe::store::{StoreErrorKind, StoreOptions, StoreUrl, open};

use crate::fixture::{Fixture, Kind, content, key};

#[tokio::test]
async fn links_out_of_the_folder_are_not_followed() {
    let fixture = Fixture::new(Kind::Folder).await;
    let root = fixture.folder.as_ref().unwrap().path();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), root.join("runs")).unwrap();
    symlink(outside.path().join("secret"), root.join("file")).unwrap();
    let store = &fixture.store;
    for name in ["runs/secret", "file"] {
        let error = store.get(&key(name), None, None).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
    let error = store.create(&key("runs/new"), "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert!(!outside.path().join("new").exists());
    assert!(store.list(None, None).await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn what_is_no_file_is_refused_and_does_not_stall() {
    let fixture = Fixture::new(Kind::Folder).await;
    let root = fixture.folder.as_ref().unwrap().path();
    let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
    assert!(pipe.success());
    let error = fixture.store.get(&key("pipe"), None, None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn a_missing_folder_is_named_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("typo");
    let url = StoreUrl::parse(&format!("file://{}", missing.display())).unwrap();
    let error = open(&url, &StoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NoSuchBucket, "{error}");
    assert!(!missing.exists());
    // A collection below a folder that is there comes with its first object.
    let url =
        StoreUrl::parse(&format!("file://{}", folder.path().display())).unwrap().join("shop/eu").unwrap();
    let store = open(&url, &StoreOptions::default()).await.unwrap();
    assert!(store.list(None, None).await.unwrap().objects.is_empty());
    let _ = store.create(&key("runs/1/run.json"), "x".into()).await.unwrap();
    assert_eq!(content(&store, &key("runs/1/run.json")).await.unwrap(), b"x");
    assert_eq!(fs::read(folder.path().join("shop/eu/runs/1/run.json")).unwrap(), b"x");
    assert_eq!(store.list(None, None).await.unwrap().objects, [(key("runs/1/run.json"), 1)]);
}

#[tokio::test]
async fn files_are_the_owners_alone() {
    let fixture = Fixture::new(Kind::Folder).await;
    let _ = fixture.store.create(&key("runs/1/run.json"), "x".into()).await.unwrap();
    let root = fixture.folder.as_ref().unwrap().path();
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("runs/1/run.json"), mode("runs/1"), mode("runs")), (0o600, 0o700, 0o700));
}

#[tokio::test]
async fn nothing_temporary_is_left_listed_or_reachable() {
    let fixture = Fixture::new(Kind::Folder).await;
    let store = &fixture.store;
    let _ = store.create(&key("a"), "x".into()).await.unwrap();
    store.create(&key("a"), "x".into()).await.unwrap_err();
    assert_eq!(fixture.unfinished(), 0);
    let root = fixture.folder.as_ref().unwrap().path();
    assert_eq!(fs::metadata(root.join("a")).unwrap().nlink(), 1);
    fs::write(root.join(".vouchsafe-tmp/left"), "x").unwrap();
    assert_eq!(store.list(None, None).await.unwrap().objects.len(), 1);
    let error = store.get(&key(".vouchsafe-tmp/left"), None, None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn a_folder_copied_with_its_times_is_the_same_backup() {
    let fixture = Fixture::new(Kind::Folder).await;
    let committed = fixture.store.create(&key("runs/1/run.json"), "x".into()).await.unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    let done = std::process::Command::new("cp")
        .arg("-a")
        .arg(fixture.folder.as_ref().unwrap().path())
        .arg(&copy)
        .status()
        .unwrap();
    assert!(done.success());
    let url = StoreUrl::parse(&format!("file://{}", copy.display())).unwrap();
    let store = open(&url, &StoreOptions::default()).await.unwrap();
    store.head(&key("runs/1/run.json"), Some(committed.version())).await.unwrap();
    // A byte changed in place is another version.
    fs::write(copy.join("runs/1/run.json"), "y").unwrap();
    let error = store.head(&key("runs/1/run.json"), Some(committed.version())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Changed, "{error}");
}

#[tokio::test]
async fn empty_folders_go_with_their_last_object_and_come_again() {
    let fixture = Fixture::new(Kind::Folder).await;
    let (store, name) = (&fixture.store, key("runs/1/beats/1"));
    let first = store.create(&name, "x".into()).await.unwrap();
    store.delete(&name, first.version()).await.unwrap();
    assert!(!fixture.folder.as_ref().unwrap().path().join("runs").exists());
    let _ = store.create(&name, "x".into()).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not() {
    let fixture = Fixture::new(Kind::Folder).await;
    let temporary = fixture.folder.as_ref().unwrap().path().join(".vouchsafe-tmp");
    fs::create_dir(&temporary).unwrap();
    let left = |name: &str, days: u64| {
        let file = fs::File::create(temporary.join(name)).unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 86_400);
        file.set_times(fs::FileTimes::new().set_modified(then)).unwrap();
        file
    };
    drop(left("old-and-dead", 2));
    drop(left("dead", 0));
    let held = left("old-and-alive", 2);
    held.lock().unwrap();
    let _ = fixture.store.create(&key("a"), "x".into()).await.unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dead", "old-and-alive"]);
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_read_is_no_clean_end() {
    let fixture = Fixture::new(Kind::Folder).await;
    let _ = fixture.store.create(&key("a"), crate::fixture::bytes(16 << 20, 1)).await.unwrap();
    let mut body = fixture.store.get(&key("a"), None, None).await.unwrap().body;
    assert!(futures::StreamExt::next(&mut body).await.unwrap().is_ok());
    let file =
        fs::File::options().write(true).open(fixture.folder.as_ref().unwrap().path().join("a")).unwrap();
    file.set_len(8 << 20).unwrap();
    let rest: Vec<_> = futures::StreamExt::collect(body).await;
    let (last, before) = rest.split_last().unwrap();
    assert_eq!(last.as_ref().unwrap_err().kind(), StoreErrorKind::Changed);
    assert!(before.iter().all(Result::is_ok));
}
