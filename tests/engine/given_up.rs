//! Restores that are interrupted or fail midway: what they had made is taken back, or named, and the same command
//! ends right.

use rstest::rstest;
use rustix::process::Signal;

use super::shop::{Ended, SHOP, Shop, run};
use super::signals::{send, signalled_at};
use super::zombie::stopped_at;

/// Every database whose name begins so.
fn databases_like(shop: &Shop, target: &str) -> String {
    let sql =
        format!("SELECT string_agg(datname, ' ') FROM pg_database WHERE starts_with(datname, '{target}')");
    shop.server.psql("postgres", &sql).unwrap().trim().to_owned()
}

fn backed_up(stem: &str) -> (Shop, String) {
    let shop = Shop::with(stem, SHOP);
    run(shop.backup()).must_succeed();
    let target = format!("{}_target", shop.database);
    (shop, target)
}

#[track_caller]
fn must_be_made(shop: &Shop, target: &str) {
    run(shop.restore(target)).must_succeed();
    assert_eq!(databases_like(shop, target), target);
    let look = "SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o";
    assert_eq!(shop.server.psql(target, look).unwrap(), shop.sql(look));
    shop.server.psql("postgres", &format!("DROP DATABASE {target}")).unwrap();
}

#[track_caller]
fn is_canceled(ended: &Ended, said: &[&str]) {
    assert_eq!((ended.code, &*ended.reason()), (Some(130), "Canceled"), "{ended:?}");
    for text in said {
        assert!(ended.stdout.contains(text), "{text} is not said: {ended:?}");
    }
    assert!(!ended.stdout.contains("new backup"), "{ended:?}");
}

#[test]
fn an_interrupted_restore_leaves_nothing() {
    let (shop, target) = backed_up("given_up");
    for place in
        ["created database", "restored definitions", "loading rows@3", "loaded tables", "compared tables"]
    {
        let ended = signalled_at(place, shop.restore(&target), Signal::INT);
        is_canceled(&ended, &["nothing of the restore is left", "the same command begins anew"]);
        assert_eq!(databases_like(&shop, &target), "", "{place}");
    }
    // Before anything is made there is nothing to be taken back.
    is_canceled(&signalled_at("fenced target", shop.restore(&target), Signal::INT), &["begins anew"]);
    must_be_made(&shop, &target);
    // The last step is not given up halfway.
    signalled_at("renaming database", shop.restore(&target), Signal::INT).must_succeed();
    assert_eq!(databases_like(&shop, &target), target);
}

#[test]
fn a_restore_that_fails_midway_leaves_nothing() {
    let (shop, target) = backed_up("given_up_failed");
    let child = stopped_at("restored definitions", shop.restore(&target));
    let unfinished = databases_like(&shop, &target);
    shop.server.psql(&unfinished, "DROP TABLE events").unwrap();
    send(&child, Signal::CONT);
    let ended = super::shop::end(child);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("events"), "{ended:?}");
    assert_eq!(databases_like(&shop, &target), "", "{ended:?}");
    must_be_made(&shop, &target);
}

/// The database can't be dropped, or may not be, as another restore could be at it.
#[rstest]
#[case::template(
    "ALTER DATABASE {unfinished} IS_TEMPLATE true",
    "ALTER DATABASE {unfinished} IS_TEMPLATE false"
)]
#[case::fence(
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND (classid::int8 << 32 | objid::int8) =
       ('x' || left(encode(sha256('vouchsafe restore'::bytea || '\\x00'::bytea || '{target}'::bytea), 'hex'), 16))::bit(64)::int8",
    "SELECT"
)]
fn what_can_not_be_taken_back_is_named(#[case] before: &str, #[case] after: &str) {
    let (shop, target) = backed_up("given_up_left");
    let mut restore = shop.restore(&target);
    // That its lock is gone is what one of the cases arranges.
    restore.env_remove("VOUCHSAFE_STRICT");
    let child = stopped_at("loading rows@3", restore);
    let unfinished = databases_like(&shop, &target);
    let filled = |sql: &str| sql.replace("{unfinished}", &unfinished).replace("{target}", &target);
    shop.server.psql("postgres", &filled(before)).unwrap();
    send(&child, Signal::INT);
    send(&child, Signal::CONT);
    let ended = super::shop::end(child);
    is_canceled(&ended, &["left on the target", &unfinished, "drops what is left and begins anew"]);
    assert_eq!(databases_like(&shop, &target), unfinished);
    shop.server.psql("postgres", &filled(after)).unwrap();
    must_be_made(&shop, &target);
}
