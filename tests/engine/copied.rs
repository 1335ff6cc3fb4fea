//! Copies of a backup in a second place: proven there, read as the original is, and never a collection of their own.

use std::path::Path;
use std::process::Command;

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use testbed::{S3Kind, shared_s3};
use vouchsafe::engine::copy::{CopyJob, copy};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::{EngineError, Register, backups};
use vouchsafe::source::Tools;

use super::kill::killed_at;
use super::setup;
use super::shop::{Shop, end, objects_of, run};
use super::zombie::stopped_at;

fn url(folder: &TempDir) -> String {
    format!("file://{}", folder.path().display())
}

/// The same shop, whose folders are those of the copy.
fn copy_of(shop: &Shop) -> Shop {
    Shop::of(shop.server, shop.database.clone())
}

fn copying(shop: &Shop, copy: &Shop, run: Option<u32>) -> Command {
    let mut command = shop.subcommand(&[], &["copy"]);
    command.arg("--tools").arg(shop.server.client_bin_dir());
    command.args(run.map(|run| run.to_string()));
    command.args(["--to", &url(&copy.here), "--to", &format!("region=eu={}", url(&copy.there))]);
    command
}

fn outcomes(shop: &Shop) -> Vec<String> {
    let listed: Value = serde_json::from_str(&run(shop.list()).stdout).unwrap();
    listed["runs"].as_array().unwrap().iter().map(|it| it["outcome"].as_str().unwrap().to_owned()).collect()
}

/// Of two backups only what was copied is there, and it is all there.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_read_as_the_original_is_and_takes_no_runs() {
    let shop = Shop::open("copied");
    let copied = copy_of(&shop);
    run(shop.backup()).must_succeed();
    run(shop.backup()).must_succeed();
    let ended = run(copying(&shop, &copied, None));
    ended.must_succeed();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["verified"]["run"], 2, "{report}");
    assert_eq!(report["verified"]["proven"], true, "{report}");
    assert_eq!(report["objectsThereBefore"], 0, "{report}");
    assert_eq!(outcomes(&copied), ["NotCopied", "Sealed"]);
    copied.must_be_proven(2).await;
    copied.must_restore(2);
    let first = {
        let mut verify = copied.verify();
        verify.arg("1");
        run(verify)
    };
    assert_eq!(first.reason(), "NoBackup", "{first:?}");
    // The first one may follow; the newest stays the one that is taken where none is named.
    run(copying(&shop, &copied, Some(1))).must_succeed();
    assert_eq!(outcomes(&copied), ["Sealed", "Sealed"]);
    copied.must_restore(1);
    let verified: Value = serde_json::from_str(&run(copied.verify()).stdout).unwrap();
    assert_eq!(verified["run"], 2, "{verified}");
    // Nothing is decided in a copy.
    let before = copied.objects();
    for command in [copied.backup(), copied.prune(&["--keep-last", "1", "--yes"]), copied.unlock(&[])] {
        let ended = run(command);
        assert_eq!(ended.reason(), "CollectionIsCopy", "{ended:?}");
    }
    assert_eq!(copied.objects(), before);
    // Again: nothing is written, everything is read.
    let again: Value = serde_json::from_str(&run(copying(&shop, &copied, None)).stdout).unwrap();
    assert_eq!(
        (&again["objectsWritten"], &again["verified"]["proven"]),
        (&0.into(), &true.into()),
        "{again}"
    );
    assert_eq!(copied.objects(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retired_where_it_came_from_stays_in_the_copy() {
    let shop = Shop::open("copy_retired");
    let copied = copy_of(&shop);
    run(shop.backup()).must_succeed();
    run(copying(&shop, &copied, None)).must_succeed();
    run(shop.backup()).must_succeed();
    run(shop.prune(&["--keep-last", "1", "--yes"])).must_succeed();
    run(shop.backup()).must_succeed();
    assert_eq!(outcomes(&shop), ["Retired", "Sealed", "Pruned", "Sealed"]);
    // With the fourth comes the outcome of the prune that retires the first.
    run(copying(&shop, &copied, None)).must_succeed();
    assert_eq!(outcomes(&copied), ["Sealed", "NotCopied", "Pruned", "Sealed"]);
    copied.must_restore(1);
    copied.must_restore(4);
}

/// It has written, so it must not say that it only read.
#[tokio::test(flavor = "multi_thread")]
async fn a_copying_that_is_interrupted_says_what_it_has_left() {
    let shop = Shop::open("copy_interrupted");
    let copied = copy_of(&shop);
    run(shop.backup()).must_succeed();
    let stopped = stopped_at("copied object@2", copying(&shop, &copied, None));
    let process = Pid::from_raw(i32::try_from(stopped.id()).unwrap()).unwrap();
    kill_process(process, Signal::INT).unwrap();
    kill_process(process, Signal::CONT).unwrap();
    let ended = end(stopped);
    assert_eq!((ended.code, ended.reason()), (Some(130), "Canceled".to_owned()), "{ended:?}");
    assert!(ended.hint().contains("what was copied stays"), "{ended:?}");
    assert!(!copied.objects().is_empty());
    run(copying(&shop, &copied, None)).must_succeed();
    copied.must_be_proven(1).await;
}

/// Wherever it dies, what lies there says that it is no copy yet, and the same command makes it one.
#[rstest]
#[case("created copy")]
#[case("copied document@3")]
#[case("completing copy@4")]
#[case("copied object@4")]
#[case("copied everything")]
#[case("verified ticket@5")]
#[case("creating copied")]
#[case("created copied")]
#[tokio::test(flavor = "multi_thread")]
async fn a_copying_that_is_killed_goes_on(#[case] place: &str) {
    let shop = Shop::open("copy_killed");
    let copied = copy_of(&shop);
    run(shop.backup()).must_succeed();
    killed_at(place, copying(&shop, &copied, None));
    if place != "created copied" {
        let verified = run(copied.verify());
        assert_eq!(verified.reason(), "NoBackup", "{place}: {verified:?}");
    }
    run(copying(&shop, &copied, None)).must_succeed();
    copied.must_be_proven(1).await;
}

/// Bytes of one file.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn data_of(folder: &TempDir) -> std::path::PathBuf {
    let objects = objects_of(folder.path(), false);
    objects.into_iter().find(|path| path.to_string_lossy().contains("/data/")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_not_copied_and_damage_of_a_copy_is_found() {
    let shop = Shop::open("copy_damaged");
    run(shop.backup()).must_succeed();
    let copied = copy_of(&shop);
    run(copying(&shop, &copied, None)).must_succeed();
    // In the copy: found when it is verified, and named when it is copied again.
    let object = data_of(&copied.there);
    damage(&object);
    let verified = run(copied.verify());
    assert_eq!(verified.code, Some(3), "{verified:?}");
    let again = run(copying(&shop, &copied, None));
    assert_eq!(again.reason(), "DamageFound", "{again:?}");
    assert!(again.stdout.contains(object.file_name().unwrap().to_str().unwrap()), "{again:?}");
    // In the original: the object does not appear in the other place.
    let second = copy_of(&shop);
    let object = data_of(&shop.there);
    damage(&object);
    let ended = run(copying(&shop, &second, None));
    assert_eq!(ended.reason(), "DamageFound", "{ended:?}");
    let name = object.file_name().unwrap();
    assert!(second.objects().iter().all(|path| path.file_name().unwrap() != name), "it was copied");
    let verified = run(second.verify());
    assert_eq!(verified.reason(), "NoBackup", "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_do_not_fit_are_refused_and_left_alone() {
    let shop = Shop::open("copy_places");
    let other = Shop::open("copy_others");
    run(shop.backup()).must_succeed();
    run(other.backup()).must_succeed();
    let copied = copy_of(&shop);
    let (here, there) = (url(&copied.here), format!("region=eu={}", url(&copied.there)));
    let inside = format!("{}/runs", url(&shop.here));
    std::fs::create_dir_all(shop.here.path().join("runs")).unwrap();
    let own = shop.objects();
    for (to, said) in [
        (vec![here.clone()], "destination region=eu"),
        (vec![here.clone(), format!("region=us={}", url(&copied.there))], "destination region=eu"),
        (vec![url(&shop.here), there.clone()], "the same place"),
        (vec![inside, there.clone()], "one holds the other"),
        (vec![url(&other.here), there.clone()], "a collection of its own"),
    ] {
        let mut command = shop.subcommand(&[], &["copy"]);
        command.args(to.iter().flat_map(|to| ["--to", to]));
        let ended = run(command);
        assert_eq!((ended.code, ended.reason()), (Some(2), "Usage".to_owned()), "{to:?}: {ended:?}");
        assert!(ended.stdout.contains(said), "{to:?}: {ended:?}");
        assert!(copied.objects().is_empty(), "{to:?}: {:?}", copied.objects());
    }
    assert_eq!(shop.objects(), own);
    run(copying(&shop, &copied, None)).must_succeed();
    let ended = run(copying(&other, &copied, None));
    assert_eq!(ended.reason(), "Usage", "{ended:?}");
    assert!(ended.stdout.contains("a copy of another collection"), "{ended:?}");
}

/// From folders into buckets of two makers, where ids and tags are others.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_another_kind_of_store_is_proven() {
    let shop = Shop::open("copy_buckets");
    run(shop.backup()).must_succeed();
    let from = shop.destinations().await;
    let (minio, seaweed) = (shared_s3(S3Kind::Minio), shared_s3(S3Kind::SeaweedFs));
    let to = setup::destinations(vec![
        ("default", setup::bucket(minio).await),
        ("region=eu", setup::bucket(seaweed).await),
    ]);
    let register = |destinations: &vouchsafe::engine::Destinations| {
        Register::new(destinations.default().store.clone(), setup::HEARTBEAT)
    };
    let job = CopyJob {
        from_register: register(&from),
        to_register: register(&to),
        from,
        to,
        run: None,
        tools: Tools::only(&[shop.server.client_bin_dir()]),
        parallelism: 2,
        progress: Progress::silent(),
    };
    let copied = copy(&job).await.unwrap();
    assert!(copied.verified.damages.is_empty() && copied.written.0 > 20, "{copied:?}");
    let chosen = backups::choose(&job.to_register, None).await.unwrap();
    assert_eq!(chosen.run, 1);
    // And from there on: a copy of a copy.
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let next = setup::destinations(vec![
        ("default", setup::folder(&here).await),
        ("region=eu", setup::folder(&there).await),
    ]);
    let job = CopyJob {
        from: job.to.clone(),
        from_register: job.to_register.clone(),
        to_register: register(&next),
        to: next,
        ..job
    };
    let copied = copy(&job).await.unwrap();
    assert!(copied.verified.damages.is_empty(), "{copied:?}");
    let back = Shop { here, there, ..copy_of(&shop) };
    back.must_restore(1);
    let missing = copy(&CopyJob { run: Some(7), ..job }).await.unwrap_err();
    assert!(matches!(missing, EngineError::NoBackup(_)), "{missing}");
}
