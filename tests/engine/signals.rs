//! Runs that are interrupted or evicted, and the same command again.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use vouchsafe::format::Decision;

use super::shop::{Shop, end, run, wait_for};

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Starts a backup and waits until it has written so many objects more than there were. Slow enough that it is
/// not through before it is signalled.
fn start_until(shop: &Shop, objects: usize) -> Child {
    let before = shop.objects().len();
    let mut child = shop.backup().args(["--rate-limit", "64Ki"]).spawn().unwrap();
    wait_for("the object", || {
        let there = shop.objects().len() >= before + objects;
        (there || child.try_wait().unwrap().is_some()).then_some(())
    });
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_voids_the_run_and_sigterm_leaves_it_to_the_same_command() {
    let shop = Shop::open("signals");
    let child = start_until(&shop, 8);
    signal(&child, Signal::INT);
    let ended = end(child);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let decision = shop.decision(1).await;
    assert!(matches!(&decision, Some(Decision::Void { reason, .. }) if reason == "Canceled"), "{decision:?}");

    let before = shop.objects().len();
    let child = start_until(&shop, 8);
    signal(&child, Signal::TERM);
    let ended = end(child);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert_eq!(ended.reason(), "Canceled");
    assert!(shop.objects().len() >= before + 8);
    assert_eq!(shop.newest().await, 2);
    assert!(shop.decision(2).await.is_none(), "SIGTERM decided the run");

    run(shop.backup()).must_succeed();
    assert_eq!(shop.newest().await, 2, "a run was made beside the open one");
    shop.must_be_proven(2).await;
}
