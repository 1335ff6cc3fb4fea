//! Prunes: what goes is what was said, when enough stays and the newest of it is proven.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use vouchsafe::format::Decision;

use super::kill::{contents, killed_at};
use super::shop::{Ended, Shop, end, objects_of, run};
use super::signals::send;
use super::zombie::stopped_at;

/// More than the minimum age that a prune has if it is not told another.
const LONG_AGO: Duration = Duration::from_secs(25 * 3600);

fn must_say(ended: &Ended) -> Value {
    ended.must_succeed();
    serde_json::from_str(&ended.stdout).unwrap()
}

fn runs_of(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|it| it["run"].as_u64().unwrap()).collect()
}

/// A shop with so many backups.
fn with_backups(stem: &str, count: u32) -> Shop {
    let shop = Shop::open(stem);
    (0..count).for_each(|_| run(shop.backup()).must_succeed());
    shop
}

/// The same collection once more, in other folders.
fn copied(shop: &Shop) -> Shop {
    let other = Shop::of(shop.server, shop.database.clone());
    for (from, to) in [(&shop.here, &other.here), (&shop.there, &other.there)] {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(format!("{}/.", from.path().display())).arg(to.path());
        assert!(copy.status().unwrap().success());
    }
    other
}

fn void_one(shop: &Shop) {
    killed_at("created plan", shop.backup());
    run(shop.unlock(&[])).must_succeed();
}

/// The outcome was created long ago, by the clock of the folder.
fn age(shop: &Shop, run: u32) {
    let path = shop.here.path().join(format!("runs/{run:08}/outcome.json"));
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - LONG_AGO).unwrap();
}

/// Names of all objects of both folders but signs of life, below the folders.
fn names(shop: &Shop) -> BTreeSet<PathBuf> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let all = objects_of(folder, false);
        all.iter().map(|path| path.strip_prefix(folder).unwrap().to_owned()).collect()
    };
    let there = below(shop.there.path()).into_iter().map(|path| Path::new("there").join(path));
    below(shop.here.path()).into_iter().chain(there).collect()
}

fn names_of(shop: &Shop, run: u32) -> BTreeSet<PathBuf> {
    let of_run = format!("runs/{run:08}/");
    names(shop).into_iter().filter(|path| path.to_string_lossy().contains(&of_run)).collect()
}

/// What stays of a run for ever.
fn is_history(path: &Path) -> bool {
    path.parent().unwrap().ends_with("attempts")
        || ["run.json", "outcome.json", "retired.json"].iter().any(|name| path.ends_with(name))
}

fn outcomes(shop: &Shop) -> BTreeMap<u64, String> {
    let listed = must_say(&run(shop.list()));
    let of = |it: &Value| (it["run"].as_u64().unwrap(), it["outcome"].as_str().unwrap().to_owned());
    listed["runs"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_goes_and_nothing_else() {
    let shop = with_backups("prune", 3);
    void_one(&shop);
    run(shop.backup()).must_succeed();
    let before = contents(&shop);
    // Shown, and nothing is changed.
    let shown = must_say(&run(shop.prune(&["--keep-last", "2"])));
    assert_eq!((runs_of(&shown["retire"]), runs_of(&shown["stay"])), (vec![1, 2], vec![3, 5]), "{shown}");
    assert_eq!((runs_of(&shown["leftovers"]), &shown["leftovers"][0]["due"]), (vec![4], &Value::Bool(false)));
    assert_eq!((shown["consumed"].as_bool(), &shown["run"]), (Some(false), &Value::Null));
    assert!(contents(&shop) == before, "a prune that only shows has changed something");
    // Retired, and all of it is still there.
    let done = must_say(&run(shop.prune(&["--keep-last", "2", "--yes"])));
    assert_eq!(
        (runs_of(&done["retire"]), &done["run"], &done["verified"]),
        (vec![1, 2], &6.into(), &5.into())
    );
    assert_eq!(done["deletedObjects"], 0, "{done}");
    assert_eq!(runs_of(&done["leftovers"]), [1, 2, 4], "{done}");
    let after = contents(&shop);
    assert!(before.iter().all(|(path, digest)| after.get(path) == Some(digest)), "something has gone");
    assert!(matches!(shop.decision(6).await, Some(Decision::Pruned { survivor: Some(5), .. })));
    let expected = ["Retired", "Retired", "Sealed", "Void", "Sealed", "Pruned"].map(str::to_owned);
    assert_eq!(outcomes(&shop).into_values().collect::<Vec<_>>(), expected);
    // A backup no more, by name.
    let mut verify = shop.verify();
    verify.arg("1");
    let mut restore = shop.restore("never_made");
    restore.args(["--run", "2"]);
    for command in [verify, restore] {
        let refused = run(command);
        assert_eq!((refused.code, refused.reason()), (Some(1), "RunRetired".to_owned()), "{refused:?}");
    }
    // Deleted once it is old, as many objects and bytes as were shown.
    [4, 6].into_iter().for_each(|run| age(&shop, run));
    let kept: BTreeSet<PathBuf> = [3, 5, 6].into_iter().flat_map(|run| names_of(&shop, run)).collect();
    let shown = must_say(&run(shop.prune(&[])));
    let total = |field: &str| -> u64 {
        shown["leftovers"].as_array().unwrap().iter().map(|it| it[field].as_u64().unwrap()).sum()
    };
    assert!(shown["leftovers"].as_array().unwrap().iter().all(|it| it["due"] == true), "{shown}");
    let (there, size) = (contents(&shop).len() as u64, total("objects"));
    let done = must_say(&run(shop.prune(&["--yes"])));
    assert_eq!((&done["deletedObjects"], &done["deletedBytes"]), (&size.into(), &total("bytes").into()));
    assert_eq!(
        (&done["run"], &done["verified"], done["leftovers"].as_array().unwrap().len()),
        (&Value::Null, &5.into(), 0)
    );
    assert_eq!(contents(&shop).len() as u64, there - size);
    for gone in [1, 2, 4] {
        assert!(names_of(&shop, gone).iter().all(|path| is_history(path)), "{:?}", names_of(&shop, gone));
    }
    let left: BTreeSet<PathBuf> = [3, 5, 6].into_iter().flat_map(|run| names_of(&shop, run)).collect();
    assert_eq!(left, kept);
    for stays in [3, 5] {
        shop.must_be_proven(stays).await;
        shop.must_restore(stays);
    }
    // The collection goes on, and what is gone is no damage.
    run(shop.backup()).must_succeed();
    assert_eq!(outcomes(&shop)[&1], "Retired");
    shop.must_be_proven(7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_after_a_string_of_failures() {
    let shop = with_backups("prune_failures", 2);
    (0..4).for_each(|_| void_one(&shop));
    let done = must_say(&run(shop.prune(&["--keep-last", "2", "--yes"])));
    assert_eq!((runs_of(&done["retire"]), runs_of(&done["stay"])), (vec![], vec![1, 2]), "{done}");
    assert_eq!(
        (&done["run"], shop.newest().await),
        (&Value::Null, 6),
        "a prune that retires nothing is no run"
    );
    (3..=6).for_each(|run| age(&shop, run));
    let done = must_say(&run(shop.prune(&["--keep-last", "2", "--yes"])));
    assert!(done["deletedObjects"].as_u64().unwrap() > 0 && done["refusedObjects"] == 0, "{done}");
    for stays in [1, 2] {
        shop.must_be_proven(stays).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_holds_whatever_was_asked_for() {
    let shop = with_backups("prune_floor", 3);
    let before = contents(&shop);
    let cases: [(&[&str], &str); 6] = [
        (&["--run", "3"], "RetentionFloor"),
        (&["--run", "1", "--run", "2", "--run", "3"], "RetentionFloor"),
        (&["--run", "1", "--minimum", "3"], "RetentionFloor"),
        (&["--run", "9"], "NoBackup"),
        (&["--run", "1", "--keep-last", "1"], "Usage"),
        (&["--keep-last", "0"], "Usage"),
    ];
    for (options, reason) in cases {
        let refused = run(shop.prune(&[options, &["--yes"]].concat()));
        assert_eq!(refused.reason(), reason, "{options:?}: {refused:?}");
    }
    let done = must_say(&run(shop.prune(&["--keep-last", "1", "--minimum", "3", "--yes"])));
    assert_eq!(runs_of(&done["retire"]), [0_u64; 0], "{done}");
    assert!(contents(&shop) == before, "something has changed");
    let done = must_say(&run(shop.prune(&["--run", "2", "--minimum", "2", "--yes"])));
    assert_eq!((runs_of(&done["retire"]), runs_of(&done["stay"])), (vec![2], vec![1, 3]), "{done}");
}

/// A damaged newest backup keeps all others, those that were retired before included.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_when_the_survivor_is_damaged() {
    let shop = with_backups("prune_damage", 3);
    must_say(&run(shop.prune(&["--run", "1", "--yes"])));
    age(&shop, 4);
    let newest = names_of(&shop, 3);
    let data = newest.iter().find(|path| path.to_string_lossy().ends_with(".pgcopy.zst")).unwrap();
    let path = match data.strip_prefix("there") {
        Ok(path) => shop.there.path().join(path),
        Err(_) => shop.here.path().join(data),
    };
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let before = contents(&shop);
    for options in [&["--keep-last", "1", "--yes"][..], &["--yes"]] {
        let refused = run(shop.prune(options));
        assert_eq!((refused.code, refused.reason()), (Some(3), "SurvivorDamaged".to_owned()), "{refused:?}");
    }
    assert!(contents(&shop) == before, "something has changed");
}

/// Rewritten history: an outcome that is not the one that the next claim names.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_on_the_word_of_a_rewritten_history() {
    let shop = with_backups("prune_history", 3);
    let other = with_backups("prune_history_other", 3);
    let outcome = |of: &Shop| of.here.path().join("runs/00000002/outcome.json");
    std::fs::copy(outcome(&other), outcome(&shop)).unwrap();
    let before = contents(&shop);
    let refused = run(shop.prune(&["--keep-last", "1", "--yes"]));
    assert_eq!((refused.code, refused.reason()), (Some(3), "ObjectChanged".to_owned()), "{refused:?}");
    assert!(contents(&shop) == before, "something has changed");
}

/// Every write of a prune, and every turn of work between.
const RETIRING: [&str; 14] = [
    "planned prune",
    "verified survivor",
    "creating run",
    "created run",
    "creating attempt",
    "created attempt",
    "creating beat",
    "creating retired",
    "created retired",
    "creating retired@2",
    "created retired@2",
    "creating outcome",
    "created outcome",
    "sealed prune",
];

const DELETING: [&str; 6] = [
    "verified survivor",
    "deleting object",
    "deleted object",
    "deleted object@9",
    "deleting object@30",
    "deleted object@40",
];

/// Names without turns: one more for each process that died.
fn end_state(shop: &Shop) -> BTreeSet<PathBuf> {
    names(shop).into_iter().filter(|path| !path.parent().unwrap().ends_with("attempts")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_killed_anywhere_is_brought_to_its_end_by_the_same_command() {
    let shop = with_backups("prune_kill", 3);
    let options = ["--keep-last", "1", "--yes"];
    let whole = copied(&shop);
    run(whole.prune(&options)).must_succeed();
    for place in RETIRING {
        let shop = copied(&shop);
        killed_at(place, shop.prune(&options));
        run(shop.prune(&options)).must_succeed();
        assert_eq!(end_state(&shop), end_state(&whole), "{place}");
        assert_eq!(outcomes(&shop), outcomes(&whole), "{place}");
    }
    age(&whole, 4);
    let retired = copied(&whole);
    run(whole.prune(&options)).must_succeed();
    assert!(names_of(&whole, 1).iter().all(|path| is_history(path)));
    for place in DELETING {
        let shop = copied(&retired);
        killed_at(place, shop.prune(&options));
        run(shop.prune(&options)).must_succeed();
        assert_eq!(end_state(&shop), end_state(&whole), "{place}");
        shop.must_be_proven(3).await;
    }
}

/// A prune that died is in nobody's way: another command, or a backup, voids it. What it has marked is no less a
/// backup, until another prune is sealed over the same mark.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_prune_holds_nobody_up() {
    let shop = with_backups("prune_dead", 3);
    for (dead, place) in [(4, "created retired"), (6, "creating outcome")] {
        killed_at(place, shop.prune(&["--run", "1", "--run", "2", "--yes"]));
        assert!(shop.here.path().join("runs/00000001/retired.json").exists());
        run(shop.backup()).must_succeed();
        let decision = shop.decision(dead).await;
        assert!(
            matches!(&decision, Some(Decision::Void { reason, .. }) if reason == "PruneAbandoned"),
            "{decision:?}"
        );
        shop.must_be_proven(1).await;
        shop.must_be_proven(dead + 1).await;
    }
    killed_at("sealed prune", shop.prune(&["--run", "2", "--yes"]));
    assert_eq!(outcomes(&shop)[&2], "Retired");
    killed_at("creating outcome", shop.prune(&["--run", "1", "--yes"]));
    let done = must_say(&run(shop.prune(&["--keep-last", "1", "--yes"])));
    assert_eq!((&done["run"], runs_of(&done["retire"])), (&10.into(), vec![1, 3, 5]), "{done}");
    assert_eq!(outcomes(&shop)[&1], "Retired");
    let mut verify = shop.verify();
    verify.arg("1");
    assert_eq!(run(verify).reason(), "RunRetired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_and_a_backup_at_the_same_time() {
    let shop = with_backups("prune_race", 3);
    // A backup is under way: the prune changes nothing.
    let backup = stopped_at("created plan", shop.backup());
    assert_eq!(run(shop.prune(&["--keep-last", "1", "--yes"])).reason(), "CollectionBusy");
    send(&backup, Signal::CONT);
    end(backup).must_succeed();
    shop.must_be_proven(4).await;
    assert!(!shop.here.path().join("runs/00000001/retired.json").exists());
    // A prune is under way: the backup waits for it.
    let prune = stopped_at("created retired", shop.prune(&["--keep-last", "2", "--yes"]));
    let mut backup = shop.backup();
    let mut backup = backup.env("VOUCHSAFE_LOG", "info").spawn().unwrap();
    let mut said = BufReader::new(backup.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waits for a prune") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it did not wait: {:?}", end(backup));
    }
    let drained = std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    send(&prune, Signal::CONT);
    must_say(&end(prune));
    end(backup).must_succeed();
    drained.join().unwrap().unwrap();
    assert_eq!(outcomes(&shop)[&5], "Pruned");
    shop.must_be_proven(6).await;
    // Both at once, again and again.
    for _ in 0..4 {
        let backup = shop.backup().spawn().unwrap();
        let prune = shop.prune(&["--keep-last", "2", "--yes"]).spawn().unwrap();
        end(backup).must_succeed();
        let pruned = end(prune);
        assert!(pruned.code == Some(0) || pruned.reason() == "CollectionBusy", "{pruned:?}");
        let sealed: Vec<u64> =
            outcomes(&shop).into_iter().filter(|(_, it)| it == "Sealed").map(|(run, _)| run).collect();
        assert!(sealed.len() >= 2, "{sealed:?}");
        for run in sealed {
            shop.must_be_proven(u32::try_from(run).unwrap()).await;
        }
    }
}

/// Its documents were opened before: what is retired meanwhile is there as long as the minimum age lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_reads_what_is_retired_meanwhile_ends_well() {
    let shop = with_backups("prune_restore", 3);
    let target = format!("{}_back", shop.database);
    let mut restore = shop.restore(&target);
    restore.args(["--run", "1"]);
    let reading = stopped_at("opened backup", restore);
    must_say(&run(shop.prune(&["--run", "1", "--yes"])));
    must_say(&run(shop.prune(&["--yes"])));
    send(&reading, Signal::CONT);
    end(reading).must_succeed();
    let rows = "SELECT count(*) FROM orders";
    assert_eq!(shop.server.psql(&target, rows).unwrap(), shop.sql(rows));
    shop.server.psql("postgres", &format!("DROP DATABASE {target}")).unwrap();
}
