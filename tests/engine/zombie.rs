//! A process that stands still, is taken for dead, and comes back when the run is no longer its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use vouchsafe::format::{Decision, Sha256Digest};

use super::kill::contents;
use super::shop::{Ended, Shop, end, run, wait_for};

/// Where a backup is stopped: while rows are on their way, while they are read back, when all that is left is the
/// seal, and when even the last look at the register is behind it.
const PLACES: [&str; 4] = ["uploading rows", "verified ticket@3", "compared everything", "creating outcome"];

/// The folder of `process` in /proc says that it is stopped.
fn is_stopped(process: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
}

/// The command, standing still there.
pub(super) fn stopped_at(place: &str, mut command: Command) -> Child {
    let mut child = command.env("VOUCHSAFE_STOP_AT", place).spawn().unwrap();
    wait_for("the stop", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended, and did not stop at {place}");
        is_stopped(&child).then_some(())
    });
    child
}

/// Wakes it, and waits until it has given up.
fn woken(place: &str, child: Child) -> Ended {
    assert!(is_stopped(&child), "{place}: it has not stood still all the time");
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::CONT).unwrap();
    let ended = end(child);
    let name = place.split('@').next().unwrap();
    assert!(ended.stderr.contains(&format!("signalled at: {name}\n")), "{place}: {ended:?}");
    assert_eq!(ended.code, Some(1), "{place}: {ended:?}");
    ended
}

/// Nothing that was there is another or gone. What the zombie may add is what no outcome and no manifest names:
/// signs of life, objects below a plan that nobody carries on, and its own verdict.
fn must_be_unchanged(place: &str, shop: &Shop, before: &BTreeMap<PathBuf, Sha256Digest>, its_plan: &Path) {
    let after = contents(shop);
    for (path, digest) in before {
        assert_eq!(after.get(path), Some(digest), "{place}: {} was changed", path.display());
    }
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        let folder = path.parent().unwrap();
        let harmless = folder.ends_with("beats") || folder.ends_with("verdicts") || {
            let plan = its_plan.file_name().unwrap();
            // Of the stopped process's own plan, which the run was not sealed with.
            !its_plan.join("manifest.json.zst").exists() && path.iter().any(|name| name == plan)
        };
        assert!(harmless, "{place}: the zombie has added {}", path.display());
    }
}

/// On one machine everybody sees that it lives, so only force voids its run.
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_whose_run_was_voided_changes_nothing() {
    let shop = Shop::open("zombie_void");
    for place in PLACES {
        let zombie = stopped_at(place, shop.backup());
        let its_run = shop.newest().await;
        let its_plan = shop.wait_for_plan(its_run);
        assert_eq!(run(shop.backup()).reason(), "CollectionBusy", "{place}");
        assert_eq!(run(shop.unlock(&[])).reason(), "CollectionBusy", "{place}");
        run(shop.unlock(&["--force"])).must_succeed();
        run(shop.backup()).must_succeed();
        let before = contents(&shop);
        let ended = woken(place, zombie);
        assert_eq!(ended.reason(), "DecidedElsewhere", "{place}: {ended:?}");
        must_be_unchanged(place, &shop, &before, &its_plan);
        let decision = shop.decision(its_run).await;
        assert!(
            matches!(&decision, Some(Decision::Void { reason, .. }) if reason == "Unlocked"),
            "{place}: {decision:?}"
        );
        assert_eq!(shop.newest().await, its_run + 1, "{place}");
        shop.must_be_proven(its_run + 1).await;
        shop.must_restore(its_run + 1);
    }
}

/// From another machine, or another pod, its silence is all that can be seen: its lease ends, and the same command
/// takes its run over.
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_whose_run_was_taken_over_changes_nothing() {
    let shop = Shop::open("zombie_lease");
    for place in PLACES {
        let mut elsewhere = shop.backup();
        elsewhere.env("VOUCHSAFE_PROCESS_SPACE", "another machine");
        let zombie = stopped_at(place, elsewhere);
        let its_run = shop.newest().await;
        let its_plan = shop.wait_for_plan(its_run);
        run(shop.backup()).must_succeed();
        assert_eq!(shop.newest().await, its_run, "{place}: another run was made");
        let before = contents(&shop);
        let ended = woken(place, zombie);
        assert_eq!(ended.reason(), "DecidedElsewhere", "{place}: {ended:?}");
        must_be_unchanged(place, &shop, &before, &its_plan);
        shop.must_be_proven(its_run).await;
        shop.must_restore(its_run);
    }
}

/// With most of its export before it, it goes no further than to its next sign of life.
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_does_not_end_its_export_first() {
    let shop = Shop::open("zombie_early");
    let mut slow = shop.backup();
    slow.args(["--rate-limit", "2Ki"]);
    let zombie = stopped_at("created receipt", slow);
    let its_plan = shop.wait_for_plan(1);
    run(shop.unlock(&["--force"])).must_succeed();
    let before = contents(&shop);
    let ended = woken("created receipt", zombie);
    assert_eq!(ended.reason(), "DecidedElsewhere", "{ended:?}");
    must_be_unchanged("created receipt", &shop, &before, &its_plan);
    assert!(!its_plan.join("census.json.zst").exists(), "it has exported and counted everything");
}

/// Taken over, and not yet decided: the newer attempt stands still, too, when the zombie comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_gives_way_to_a_newer_attempt_that_is_still_at_it() {
    let shop = Shop::open("zombie_turn");
    let elsewhere = |name: &str| {
        let mut command = shop.backup();
        command.env("VOUCHSAFE_PROCESS_SPACE", name);
        command
    };
    let zombie = stopped_at("compared everything", elsewhere("one machine"));
    let its_plan = shop.wait_for_plan(1);
    let newer = stopped_at("compared everything", elsewhere("another machine"));
    let before = contents(&shop);
    let ended = woken("compared everything", zombie);
    assert_eq!(ended.reason(), "TakenOver", "{ended:?}");
    must_be_unchanged("compared everything", &shop, &before, &its_plan);
    assert!(shop.decision(1).await.is_none(), "the zombie has decided the run");
    kill_process(Pid::from_raw(i32::try_from(newer.id()).unwrap()).unwrap(), Signal::CONT).unwrap();
    end(newer).must_succeed();
    shop.must_be_proven(1).await;
    shop.must_restore(1);
}
