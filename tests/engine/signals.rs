//! Runs that are interrupted or evicted, and the same command again.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use vouchsafe::format::Decision;

use super::shop::{Shop, end, run, wait_for};
use super::zombie::stopped_at;

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
    assert!(ended.hint().contains("it is void"), "{ended:?}");
    let decision = shop.decision(1).await;
    assert!(matches!(&decision, Some(Decision::Void { reason, .. }) if reason == "Canceled"), "{decision:?}");

    let before = shop.objects().len();
    let child = start_until(&shop, 8);
    signal(&child, Signal::TERM);
    let ended = end(child);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert_eq!(ended.reason(), "Canceled");
    assert!(ended.hint().contains("left open") && ended.hint().contains("unlock"), "{ended:?}");
    assert!(shop.objects().len() >= before + 8);
    assert_eq!(shop.newest().await, 2);
    assert!(shop.decision(2).await.is_none(), "SIGTERM decided the run");

    run(shop.backup()).must_succeed();
    assert_eq!(shop.newest().await, 2, "a run was made beside the open one");
    shop.must_be_proven(2).await;
}

/// What is left, and which command goes on: of a restore, and of a command that only reads.
#[test]
fn an_interrupted_command_says_what_it_has_left() {
    let shop = Shop::open("signals_left");
    run(shop.backup()).must_succeed();
    let target = format!("{}_restored", shop.database);
    let said = |place: &str, command: std::process::Command| {
        let child = stopped_at(place, command);
        signal(&child, Signal::INT);
        signal(&child, Signal::CONT);
        let ended = end(child);
        assert_eq!((ended.code, &*ended.reason()), (Some(130), "Canceled"), "{ended:?}");
        ended.hint()
    };
    let hint = said("loaded span", shop.restore(&target));
    assert!(hint.contains("unfinished one may be left"), "{hint}");
    let unfinished =
        format!("SELECT count(*) FROM pg_database WHERE starts_with(datname, '{target}_vouchsafe_')");
    assert_eq!(shop.server.psql("postgres", &unfinished).unwrap(), "1");
    let hint = said("verified ticket", shop.verify());
    assert!(hint.contains("only read"), "{hint}");
    // The same command goes on, and leaves none.
    run(shop.restore(&target)).must_succeed();
    assert_eq!(shop.server.psql("postgres", &unfinished).unwrap(), "0");
}
