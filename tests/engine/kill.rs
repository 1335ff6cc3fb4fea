//! Processes that die at a named place of theirs, and the same command again: whatever a backup, a restore or a
//! verification had done by then, it ends right.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rstest::rstest;
use vouchsafe::format::Sha256Digest;

use super::shop::{Ended, SHOP, Shop, objects_of, run};

/// SIGKILL's number.
const KILL: i32 = 9;

/// Side by side: a process spends much of its time waiting for PostgreSQL.
const LANES: usize = 2;

/// What a backup that died at a place has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// No claim: the next one takes the number.
    Nothing,
    /// A run whose plan died with its snapshot: the next one goes on with it under another plan.
    Run,
    /// A run that needs the snapshot no more: the next one goes on with its plan.
    Plan,
    /// A sealed run: the next one is another.
    Backup,
}

/// Every document but the beats, before and after its creation, and every turn of work between.
const BACKUP: [(&str, Left); 40] = [
    // These two come once in the life of a collection: each lane begins with one of them.
    ("creating collection", Left::Nothing),
    ("created collection", Left::Nothing),
    ("probed destinations", Left::Nothing),
    ("creating run", Left::Nothing),
    ("created run", Left::Run),
    ("creating attempt", Left::Run),
    ("created attempt", Left::Run),
    ("creating beat", Left::Run),
    ("created beat", Left::Run),
    ("held sources", Left::Run),
    ("creating tickets", Left::Run),
    ("created tickets", Left::Run),
    ("created tickets@2", Left::Run),
    ("creating plan", Left::Run),
    ("created plan", Left::Run),
    ("began worker", Left::Run),
    ("uploading rows", Left::Run),
    ("completing rows", Left::Run),
    ("completed rows", Left::Run),
    ("completed rows@6", Left::Run),
    ("creating receipt", Left::Run),
    ("created receipt", Left::Run),
    ("created receipt@9", Left::Run),
    ("storing catalog", Left::Run),
    ("stored catalog", Left::Run),
    ("exported everything", Left::Run),
    ("creating census", Left::Run),
    ("created census", Left::Plan),
    ("releasing sources", Left::Plan),
    ("balanced books", Left::Plan),
    ("creating part", Left::Plan),
    ("created part@2", Left::Plan),
    ("creating manifest", Left::Plan),
    ("created manifest", Left::Plan),
    ("verified ticket@5", Left::Plan),
    ("creating verdict", Left::Plan),
    ("created verdict@2", Left::Plan),
    ("compared everything", Left::Plan),
    ("creating outcome", Left::Plan),
    ("created outcome", Left::Backup),
];

const VERIFY: [&str; 6] = [
    "opened backup",
    "read tickets",
    "verified ticket@3",
    "verified destination",
    "read tickets@2",
    "verified destination@2",
];

/// Each a series of deaths, one process after the other, before the one that must succeed.
const RESTORE: [&[&str]; 22] = [
    &["opened backup"],
    &["verified ticket@5"],
    &["proven backup"],
    &["planned restore"],
    &["fenced target"],
    &["created database"],
    &["marked database", "dropped database"],
    &["restored schemas"],
    &["restored definitions"],
    &["loading rows"],
    &["loading rows@7", "loaded span@2"],
    &["loaded span@9"],
    &["loaded tables"],
    &["restored postponed"],
    &["restored sequences"],
    &["created large-objects"],
    &["restored large-objects"],
    &["compared tables"],
    &["restored access"],
    &["analyzed database"],
    &["built database"],
    &["renaming database"],
];

/// The command dies there, and says so.
pub(super) fn killed_at(place: &str, mut command: Command) {
    command.env("VOUCHSAFE_KILL_AT", place);
    let ended = run(command);
    assert_eq!(ended.signal, Some(KILL), "{place}: {ended:?}");
    let name = place.split('@').next().unwrap();
    assert!(ended.stderr.contains(&format!("signalled at: {name}\n")), "{place}: {ended:?}");
}

fn plans(shop: &Shop, run: u32) -> usize {
    let folder = std::fs::read_dir(shop.here.path().join(format!("runs/{run:08}"))).unwrap();
    folder.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('p')).count()
}

async fn killed_backup(shop: &Shop, place: &str, left: Left) {
    let before = shop.newest().await;
    killed_at(place, shop.backup());
    let claimed = shop.newest().await;
    assert_eq!(claimed, before + u32::from(left != Left::Nothing), "{place}");
    assert_eq!(claimed > before && shop.decision(claimed).await.is_some(), left == Left::Backup, "{place}");
    if left == Left::Backup {
        shop.must_be_proven(claimed).await;
    }
    run(shop.backup()).must_succeed();
    let sealed = shop.newest().await;
    let goes_on = matches!(left, Left::Run | Left::Plan);
    assert_eq!(sealed, claimed + u32::from(!goes_on), "{place}: another run than the open one");
    if left == Left::Plan {
        assert_eq!(plans(shop, sealed), 1, "{place}: what was settled was exported again");
    }
    shop.must_be_proven(sealed).await;
    shop.must_restore(sealed);
}

/// What a dead attempt has left is read before a turn is taken: damaged, it must not shut its owner out.
#[rstest]
#[case::plan("plan.json.zst", false)]
#[case::tickets("tickets.json.zst", false)]
#[case::missing_tickets("tickets.json.zst", true)]
#[case::census("census.json.zst", false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_damaged_after_its_attempt_died_is_replaced(#[case] document: &str, #[case] lost: bool) {
    let shop = Shop::open("kill_damaged");
    killed_at("balanced books", shop.backup());
    let path = shop.wait_for_plan(1).join(document);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    match lost {
        true => std::fs::remove_file(&path).unwrap(),
        false => std::fs::write(&path, bytes).unwrap(),
    }
    run(shop.backup()).must_succeed();
    assert_eq!((shop.newest().await, plans(&shop, 1)), (1, 2));
    let attempt =
        std::fs::read_to_string(shop.here.path().join("runs/00000001/attempts/000002.json")).unwrap();
    assert!(attempt.contains("starting over") && attempt.contains(document), "{attempt}");
    shop.must_be_proven(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_killed_anywhere_is_brought_to_its_seal_by_the_same_command() {
    let places = Arc::new(Mutex::new(VecDeque::from(BACKUP)));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let first = places.lock().unwrap().pop_front().unwrap();
        let places = Arc::clone(&places);
        lanes.spawn(async move {
            let shop = Shop::open(&format!("kill{lane}"));
            let mut next = Some(first);
            while let Some((place, left)) = next {
                killed_backup(&shop, place, left).await;
                next = places.lock().unwrap().pop_front();
            }
        });
    }
    lanes.join_all().await;
    assert!(places.lock().unwrap().is_empty());
}

/// The objects of both folders with their digests, beats included.
pub(super) fn contents(shop: &Shop) -> BTreeMap<PathBuf, Sha256Digest> {
    let paths = [&shop.here, &shop.there].into_iter().flat_map(|folder| objects_of(folder.path(), true));
    paths.map(|path| (path.clone(), Sha256Digest::of(&std::fs::read(path).unwrap()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_killed_anywhere_has_changed_nothing() {
    let shop = Shop::open("kill_verify");
    run(shop.backup()).must_succeed();
    let before = contents(&shop);
    for place in VERIFY {
        killed_at(place, shop.verify());
        let ended = run(shop.verify());
        ended.must_succeed();
        let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(document["proven"], true, "{ended:?}");
    }
    assert!(contents(&shop) == before, "a verification has written something");
}

/// What a restore meets besides rows: references, an index, a trigger, a view with contents, large objects.
const BESIDES: &str = "
    CREATE TABLE lines(id int PRIMARY KEY, of_order int REFERENCES orders);
    INSERT INTO lines SELECT i, i FROM generate_series(1, 200) i;
    CREATE INDEX ON lines(of_order);
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER nothing BEFORE INSERT ON lines FOR EACH ROW EXECUTE FUNCTION nothing();
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM orders;
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 5000), 'hex'));";

const LOOK: &str = "
    SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o;
    SELECT count(*), md5(string_agg(e::text, ',' ORDER BY id)) FROM events e;
    SELECT count(*), md5(string_agg(l::text, ',' ORDER BY id)) FROM lines l;
    SELECT count(*) FROM empty; SELECT n FROM counted; SELECT last_value, is_called FROM numbers;
    SELECT md5(lo_get(4711)); SELECT count(*) FROM late;
    SELECT string_agg(conname, ',' ORDER BY conname) FROM pg_constraint WHERE connamespace = 'public'::regnamespace;
    SELECT string_agg(indexrelid::regclass::text, ',' ORDER BY indexrelid::regclass::text) FROM pg_index
      JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = 'public'::regnamespace;
    SELECT count(*) FROM pg_trigger WHERE tgname = 'nothing';";

/// Every database but those that are there anyway.
fn databases_like(shop: &Shop, target: &str) -> String {
    let sql =
        format!("SELECT string_agg(datname, ' ') FROM pg_database WHERE starts_with(datname, '{target}')");
    shop.server.psql("postgres", &sql).unwrap()
}

fn must_be_the_source(shop: &Shop, target: &str, after: &dyn std::fmt::Debug) {
    assert_eq!(databases_like(shop, target), target, "{after:?}: something was left");
    assert_eq!(shop.server.psql(target, LOOK).unwrap(), shop.sql(LOOK), "{after:?}");
    shop.server.psql("postgres", &format!("DROP DATABASE {target}")).unwrap();
}

fn killed_restore(shop: &Shop, target: &str, places: &[&str]) {
    for place in places {
        killed_at(place, shop.restore(target));
        let there =
            shop.server.psql("postgres", &format!("SELECT FROM pg_database WHERE datname = '{target}'"));
        assert_eq!(there.unwrap(), "", "{place}: the name was given to what is not proven");
    }
    run(shop.restore(target)).must_succeed();
    must_be_the_source(shop, target, &places);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_killed_anywhere_is_made_by_the_same_command() {
    let shop = Arc::new(Shop::with("kill_restore", &format!("{SHOP}{BESIDES}")));
    run(shop.backup()).must_succeed();
    let before = contents(&shop);
    let places = Arc::new(Mutex::new(VecDeque::from(RESTORE)));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (shop, places) = (Arc::clone(&shop), Arc::clone(&places));
        lanes.spawn_blocking(move || {
            let target = format!("{}_lane{lane}", shop.database);
            loop {
                let next = places.lock().unwrap().pop_front();
                let Some(series) = next else { return };
                killed_restore(&shop, &target, series);
            }
        });
    }
    lanes.join_all().await;
    // Nothing is left to do after the last commit: what is there is whole, and is not made a second time.
    let target = format!("{}_renamed", shop.database);
    killed_at("renamed database", shop.restore(&target));
    let again: Ended = run(shop.restore(&target));
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(again.reason(), "TargetUnfit", "{again:?}");
    must_be_the_source(&shop, &target, &"renamed database");
    assert!(contents(&shop) == before, "a restore has written into the backup");
}
