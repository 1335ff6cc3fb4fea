//! Runs that are interrupted or evicted, and the same command again.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use testbed::{PgVersion, S3Kind, S3Server, shared};
use vouchsafe::engine::back_up;
use vouchsafe::engine::interrupt::{Interrupt, Interruption};
use vouchsafe::format::Decision;
use vouchsafe::store::throttle::{Throttle, ThrottledStore};

use super::asked::half_written;
use super::setup;
use super::shop::{Ended, Shop, end, run, wait_for};
use super::zombie::stopped_at;

pub(super) fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The command gets the signal at a named place of its own.
pub(super) fn signalled_at(place: &str, command: Command, signal: Signal) -> Ended {
    let child = stopped_at(place, command);
    send(&child, signal);
    send(&child, Signal::CONT);
    end(child)
}

/// Rows that don't compress: more than one part of an upload.
const NOISE: &str = "
    CREATE TABLE noise AS SELECT md5(random()::text) || md5(random()::text) AS v FROM generate_series(1, 400000);
    CREATE TABLE events(x int)";

fn uploads(shop: &Shop) -> Vec<PathBuf> {
    half_written(shop.here.path())
}

/// A backup that was signalled when an upload in parts was under way.
fn signalled_uploading(shop: &Shop, signal: Signal) -> Ended {
    let before = plans(shop.here.path());
    let mut backup = shop.backup_under(&[], "1Gi");
    // A part would take half a minute.
    let mut child = backup.args(["--rate-limit", "256Ki"]).spawn().unwrap();
    wait_for("an upload", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended without an upload");
        // Documents are half written, too, for a moment: only what is there while all stands still counts.
        if uploads(shop).is_empty() {
            return None;
        }
        send(&child, Signal::STOP);
        wait_for("the stop", || is_stopped(&child).then_some(()));
        // The probe before the claim uploads, too.
        let ready = !uploads(shop).is_empty() && plans(shop.here.path()) > before;
        if !ready {
            send(&child, Signal::CONT);
        }
        ready.then_some(())
    });
    send(&child, signal);
    send(&child, Signal::CONT);
    end(child)
}

/// Plans that were written into a folder or, as MinIO keeps objects, are folders themselves.
fn plans(folder: &Path) -> usize {
    count(folder, &|path| path.components().any(|it| it.as_os_str() == "plan.json.zst"))
}

/// How many files below a folder are so.
fn count(folder: &Path, fits: &dyn Fn(&Path) -> bool) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of_entry = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count(&entry.path(), fits),
        _ => usize::from(fits(&entry.path())),
    };
    entries.flatten().map(of_entry).sum()
}

fn is_stopped(process: &Child) -> bool {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(process.id().to_string()).join("stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_voids_the_run_and_sigterm_leaves_it_to_the_same_command() {
    let shop = Shop::with("signals", NOISE);
    let ended = signalled_uploading(&shop, Signal::INT);
    assert_eq!((ended.code, &*ended.reason()), (Some(130), "Canceled"), "{ended:?}");
    assert!(ended.hint().contains("it is void"), "{ended:?}");
    let decision = shop.decision(1).await;
    assert!(matches!(&decision, Some(Decision::Void { reason, .. }) if reason == "Canceled"), "{decision:?}");
    assert_eq!(uploads(&shop), Vec::<PathBuf>::new());

    let ended = signalled_uploading(&shop, Signal::TERM);
    assert_eq!((ended.code, &*ended.reason()), (Some(130), "LeftOpen"), "{ended:?}");
    assert!(ended.stdout.contains("the same command goes on with it"), "{ended:?}");
    assert!(!ended.stdout.contains("anew"), "{ended:?}");
    assert_eq!(shop.newest().await, 2);
    assert!(shop.decision(2).await.is_none(), "SIGTERM decided the run");
    assert_eq!(uploads(&shop), Vec::<PathBuf>::new());

    run(shop.backup_under(&[], "1Gi")).must_succeed();
    assert_eq!(shop.newest().await, 2, "a run was made beside the open one");
    assert!(matches!(shop.decision(2).await, Some(Decision::Sealed { .. })));
}

/// Where nothing is exported any more.
#[tokio::test(flavor = "multi_thread")]
async fn sigint_while_verifying_voids_the_run() {
    let shop = Shop::open("signals_verifying");
    for (number, place) in [(1, "read tickets"), (2, "verified ticket@3"), (3, "verified destination")] {
        let ended = signalled_at(place, shop.backup(), Signal::INT);
        assert_eq!((ended.code, &*ended.reason()), (Some(130), "Canceled"), "{place}: {ended:?}");
        let decision = shop.decision(number).await;
        let void = matches!(&decision, Some(Decision::Void { reason, .. }) if reason == "Canceled");
        assert!(void, "{place}: {decision:?}");
    }
    run(shop.backup()).must_succeed();
    shop.must_be_proven(4).await;
}

/// The signal and the seal race for one name. Whoever wins, the register and the command say the same.
#[tokio::test(flavor = "multi_thread")]
async fn sigint_just_before_the_seal_ends_in_what_the_register_says() {
    let shop = Shop::open("signals_sealing");
    for (number, place) in [(1, "compared everything"), (2, "creating outcome")] {
        let ended = signalled_at(place, shop.backup(), Signal::INT);
        match shop.decision(number).await {
            Some(Decision::Void { reason, .. }) => {
                assert_eq!(
                    (ended.code, &*ended.reason(), &*reason),
                    (Some(130), "Canceled", "Canceled"),
                    "{ended:?}"
                );
            }
            Some(Decision::Sealed { .. }) => {
                let said = ended.code == Some(0) || ended.stdout.contains("sealed with plan");
                assert!(said, "{place}: {ended:?}");
                shop.must_be_proven(number).await;
            }
            None | Some(Decision::Pruned { .. }) => panic!("{place}: the run is open, or a prune: {ended:?}"),
        }
    }
    run(shop.backup()).must_succeed();
    shop.must_be_proven(3).await;
}

/// Uploads in parts that the server has been told of, and neither completed nor aborted.
fn unfinished(server: &S3Server) -> usize {
    // MinIO lists uploads of one exact key only; its data directory tells of all.
    count(&server.data_dir().join(".minio.sys/multipart"), &|path| path.ends_with("xl.meta"))
}

#[rstest]
#[case::canceled(Interruption::Cancel, "Canceled")]
#[case::left(Interruption::Leave, "LeftOpen")]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_leaves_no_upload_in_a_bucket(#[case] how: Interruption, #[case] reason: &str) {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("signals_bucket");
    server.psql(&database, NOISE).unwrap();
    // Of its own: the uploads of all buckets lie together.
    let s3 = S3Server::start(S3Kind::Minio);
    let rate = Throttle::new(NonZeroU64::new(256 << 10).unwrap());
    let store = Arc::new(ThrottledStore::new(setup::bucket(&s3).await, Arc::new(rate)));
    let mut job = setup::job(server, &database, setup::destinations(vec![("default", store)]));
    job.span_bytes = NonZeroU64::new(1 << 30).unwrap();
    let (interrupt, trigger) = Interrupt::new();
    job.interrupt = interrupt;
    let backup = tokio::spawn(async move { back_up(&job).await });
    tokio::task::block_in_place(|| {
        wait_for("an upload", || {
            assert!(!backup.is_finished(), "it ended without an upload");
            // The probe before the claim uploads, too.
            (plans(&s3.data_dir()) > 0 && unfinished(&s3) > 0).then_some(())
        })
    });
    trigger.send(how);
    let error = backup.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert_eq!(unfinished(&s3), 0);
}

/// What is left, and which command goes on: of a restore, and of a command that only reads.
#[test]
fn an_interrupted_command_says_what_it_has_left() {
    let shop = Shop::open("signals_left");
    run(shop.backup()).must_succeed();
    let target = format!("{}_restored", shop.database);
    let said = |place: &str, command: std::process::Command| {
        let ended = signalled_at(place, command, Signal::INT);
        assert_eq!((ended.code, &*ended.reason()), (Some(130), "Canceled"), "{ended:?}");
        ended.hint()
    };
    let hint = said("opened backup", shop.restore(&target));
    assert!(hint.contains("nothing was made"), "{hint}");
    let hint = said("loaded span", shop.restore(&target));
    assert!(hint.contains("begins anew"), "{hint}");
    let hint = said("verified ticket", shop.verify());
    assert!(hint.contains("only read"), "{hint}");
}
