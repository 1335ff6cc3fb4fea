//! Every kind of object, documents included, damaged between its upload and the run's own verification: the run
//! fails, says which object, is void, and is never sealed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use testbed::{PgVersion, Postgres, shared};
use vouchsafe::engine::unlock::unlock;
use vouchsafe::engine::{BackupJob, Destinations, Register, back_up};
use vouchsafe::format::{Decision, Key};
use vouchsafe::plan::placement::{PlacementRule, Unplaced};
use vouchsafe::source::TablePattern;
use vouchsafe::store::ObjectStore;

use super::damaging::{Damage, DamagingStore, Harm, Order, kind_of};
use super::setup;
use super::shop::objects_of;

/// Side by side: a run waits for PostgreSQL and for the disk most of the time.
const LANES: usize = 3;

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Default,
    /// The destination of another locality.
    Other,
}

/// What a damage to an object must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// The run fails, names the object, and is void.
    Void,
    /// It is read before a number is claimed, so no run is ever there.
    ClaimNothing,
    /// It is the register itself: how the run ended can't be known, and it is not called a success.
    NotKnow,
    /// The run was sealed before: it is said to be, and that what it is bound to is damaged.
    BeSealed,
    /// Nothing reads its content: a beat shows by its name alone that somebody is there, and no proof is bound to
    /// it. The run succeeds.
    Succeed,
}

/// Every kind of object that a backup writes; and when it is damaged, if that isn't right after its own upload.
const KINDS: [(Place, &str, Option<&str>, Must); 28] = [
    (Place::Default, "collection", None, Must::ClaimNothing),
    (Place::Default, "collection", Some("run"), Must::Void),
    (Place::Default, "run", None, Must::Void),
    (Place::Default, "attempts", None, Must::Void),
    (Place::Default, "beats", None, Must::Succeed),
    (Place::Default, "outcome", None, Must::NotKnow),
    // That of the run before, to which this run's claim is bound.
    (Place::Default, "outcome", Some("run"), Must::Void),
    (Place::Default, "plan", None, Must::Void),
    (Place::Default, "census", None, Must::Void),
    (Place::Default, "manifest", None, Must::Void),
    (Place::Default, "manifest", Some("outcome"), Must::BeSealed),
    (Place::Default, "verdicts", Some("outcome"), Must::BeSealed),
    (Place::Default, "tickets", None, Must::Void),
    (Place::Default, "part", None, Must::Void),
    (Place::Default, "receipts", None, Must::Void),
    (Place::Default, "verdicts", None, Must::Void),
    (Place::Default, "data", None, Must::Void),
    (Place::Default, "objects", None, Must::Void),
    (Place::Default, "schema/archive", None, Must::Void),
    (Place::Default, "schema/roles", None, Must::Void),
    (Place::Default, "schema/sequences", None, Must::Void),
    (Place::Default, "schema/large-objects", None, Must::Void),
    (Place::Default, "schema/database", None, Must::Void),
    (Place::Other, "tickets", None, Must::Void),
    (Place::Other, "part", None, Must::Void),
    (Place::Other, "receipts", None, Must::Void),
    (Place::Other, "data", None, Must::Void),
    (Place::Other, "verdicts", None, Must::Void),
];

const SHOP: &str = "
    CREATE TABLE orders(id int PRIMARY KEY, note char(100));
    INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 3 * 58) i;
    CREATE TABLE events(id int PRIMARY KEY, note char(100));
    INSERT INTO events SELECT i, 'event ' || i FROM generate_series(1, 2 * 58) i;
    CREATE TABLE empty(x int);
    CREATE SEQUENCE numbers;
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 500), 'hex'));";

/// So that no object of a later run is, by chance, that of the first one.
const CHANGE: &str =
    "SELECT lo_put(4711, 3, '\\x0a0b'); SELECT nextval('numbers'); COMMENT ON TABLE empty IS 'later';";

struct Lane {
    server: &'static Postgres,
    database: String,
    folders: [TempDir; 2],
    stores: [Arc<DamagingStore>; 2],
}

impl Lane {
    async fn open(server: &'static Postgres, database: &str) -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [here, there] = &folders;
        let stores = [
            Arc::new(DamagingStore::new(setup::folder(here).await, here.path())),
            Arc::new(DamagingStore::new(setup::folder(there).await, there.path())),
        ];
        Self { server, database: database.to_owned(), folders, stores }
    }

    fn destinations(&self) -> Destinations {
        let [here, there] = self.stores.clone();
        setup::destinations(vec![
            ("default", here as Arc<dyn ObjectStore>),
            ("region=eu", there as Arc<dyn ObjectStore>),
        ])
    }

    fn register(&self) -> Register {
        Register::new(self.stores[0].clone(), setup::HEARTBEAT)
    }

    fn job(&self) -> BackupJob {
        let mut job = setup::job(self.server, &self.database, self.destinations());
        job.placement.rules = vec![PlacementRule {
            name: "events".into(),
            tables: vec![TablePattern::parse("public.events").unwrap()],
            partitions_of: Vec::new(),
            locality: "region=eu".parse().unwrap(),
        }];
        job.placement.unplaced = Unplaced::Default;
        job.span_bytes = std::num::NonZeroU64::new(4 << 10).unwrap();
        job
    }

    /// The kinds of all objects that lie in both folders.
    fn kinds(&self) -> BTreeSet<(Place, String)> {
        let mut kinds = BTreeSet::new();
        for (place, folder) in [Place::Default, Place::Other].into_iter().zip(&self.folders) {
            for path in objects_of(folder.path(), true) {
                let key = path.strip_prefix(folder.path()).unwrap().to_str().unwrap();
                kinds.insert((place, kind_of(key)));
            }
        }
        kinds
    }

    fn key(&self, harm: &Harm) -> String {
        let below = self.folders.iter().find_map(|folder| harm.path.strip_prefix(folder.path()).ok());
        below.unwrap().to_str().unwrap().to_owned()
    }

    async fn decision(&self, run: u32) -> Option<Decision> {
        self.register().outcome(run).await.unwrap().map(|decided| decided.outcome.decision)
    }
}

/// One damage, and the run that meets it. Returns what is wrong with how it ended.
async fn meets(lane: &Lane, place: Place, order: Order, must: Must) -> Result<(), String> {
    let before = lane.register().newest().await.unwrap();
    let store = &lane.stores[usize::from(place == Place::Other)];
    store.order(order);
    let ended = back_up(&lane.job()).await;
    let harms = store.done();
    let wanted = if order.damage == Damage::Swap { 2 } else { 1 };
    assert_eq!(harms.len(), wanted, "{place:?} {order:?}: the damage has not happened");
    for harm in &harms {
        assert!(harm.is_in_place(), "{place:?} {order:?}: {} was mended", harm.path.display());
    }
    // The register and the names of its runs are read again when they are whole.
    harms.iter().for_each(Harm::repair);
    let keys: Vec<String> = harms.iter().map(|harm| lane.key(harm)).collect();
    // Who looks for a receipt knows its ticket, and not the rest of its name.
    let named = |text: &str| {
        let receipts = keys.iter().filter_map(|key| Some(key.split_once("/receipts/")?.1.split_once('.')?.0));
        let receipts: Vec<String> = receipts.map(|ticket| format!("receipts/{ticket}.*")).collect();
        keys.iter().chain(&receipts).any(|name| text.contains(name.as_str()))
    };
    let newest = lane.register().newest().await.unwrap();
    let decision = if newest > before { lane.decision(newest).await } else { None };
    let said = match &ended {
        Ok(sealed) => format!("run {} Succeeded", sealed.run),
        Err(error) => error.to_string(),
    };
    let right = match must {
        Must::Succeed => ended.is_ok(),
        Must::ClaimNothing => ended.is_err() && named(&said) && newest == before,
        Must::NotKnow => matches!(&ended, Err(error) if error.reason() == "OutcomeUnknown") && named(&said),
        Must::BeSealed => {
            let sealed = matches!(&decision, Some(Decision::Sealed { .. }));
            sealed && named(&said) && matches!(&ended, Err(error) if error.reason() == "DamageFound")
        }
        Must::Void if (order.kind, order.damage) == ("run", Damage::Delete) => {
            // Without its claim there was no run to void, until it was mended just now: nobody is at it.
            unlock(&lane.register(), Some(newest), true).await.unwrap();
            ended.is_err() && named(&said) && decision.is_none()
        }
        Must::Void => {
            let void = matches!(&decision, Some(Decision::Void { message, .. }) if named(message));
            ended.is_err() && named(&said) && void
        }
    };
    if right { Ok(()) } else { Err(format!("{place:?} {order:?} of {keys:?}: {said}; {decision:?}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_object_damaged_before_its_verification_ends_the_run() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("written");
    server.psql(&database, SHOP).unwrap();
    let mut cases = VecDeque::new();
    for (place, kind, when, must) in KINDS {
        for damage in Damage::ALL {
            cases.push_back((place, Order { kind, when: when.unwrap_or(kind), damage }, must));
        }
    }
    let (first_time, cases): (VecDeque<_>, VecDeque<_>) =
        cases.into_iter().partition(|(_, _, must)| *must == Must::ClaimNothing);
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        let lane = Lane::open(server, &database).await;
        back_up(&lane.job()).await.unwrap();
        lanes.push(lane);
    }
    let of_table: BTreeSet<(Place, String)> =
        KINDS.iter().map(|(place, kind, ..)| (*place, (*kind).to_owned())).collect();
    assert_eq!(lanes[0].kinds(), of_table, "a kind of object is not in the table, or not in the bucket");
    server.psql(&database, CHANGE).unwrap();
    let mut wrong = Vec::new();
    for (place, order, must) in first_time {
        // It is written once in the life of a collection.
        let lane = Lane::open(server, &database).await;
        std::fs::write(lane.folders[0].path().join("other.json"), "{}").unwrap();
        wrong.extend(meets(&lane, place, order, must).await.err());
    }
    let cases = Mutex::new(cases);
    let lanes = lanes.iter().map(|lane| async {
        let mut wrong = Vec::new();
        loop {
            let next = cases.lock().unwrap().pop_front();
            let Some((place, order, must)) = next else { return wrong };
            wrong.extend(meets(lane, place, order, must).await.err());
        }
    });
    wrong.extend(futures::future::join_all(lanes).await.into_iter().flatten());
    assert!(wrong.is_empty(), "{} damages:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn names_have_their_kinds() {
    let key = |name: &str| Key::parse(&format!("runs/00000002/p{:032}/{name}", 7)).unwrap();
    assert_eq!(kind_of(key("receipts/00000001.n.json").as_str()), "receipts");
    assert_eq!(kind_of(key("manifest.json.zst").as_str()), "manifest");
    assert_eq!(kind_of(key("schema/large-objects.00000001.n.json").as_str()), "schema/large-objects");
    assert_eq!(kind_of(key("schema/0.00000001.n.dump").as_str()), "schema/archive");
    assert_eq!(kind_of("collection.json"), "collection");
    assert_eq!(kind_of("runs/00000002/attempts/000001.json"), "attempts");
}
