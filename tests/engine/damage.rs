//! Damage at rest: a thousand of them over every object that a sealed backup is bound to. Each must be found
//! by name, and refused by a restore, as damage and before the target is asked anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use vouchsafe::engine::interrupt::Interrupt;
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::restore::{RestoreJob, RestorePolicy, Restored, restore};
use vouchsafe::engine::{Destinations, EngineError, Register, backups};
use vouchsafe::source::{EndpointConfig, Selection, Tools};

use super::setup;
use super::shop::{Shop, objects_of, run};

/// All damages are drawn from here.
const SEED: u64 = 151_050;
/// Copies of the backup that are damaged side by side.
const LANES: u64 = 4;
const DAMAGES_PER_LANE: u64 = 250;

/// Reasons of a restore that met damage.
const OF_DAMAGE: [&str; 5] =
    ["DamageFound", "DocumentDamaged", "ObjectMissing", "ObjectChanged", "FormatVersion"];

const DESTINATIONS: [&str; 2] = ["default", "region=eu"];

/// Destination and key.
type Name = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Flip,
    Truncate,
    Empty,
    Delete,
    Swap,
    Append,
}

const KINDS: [Kind; 6] = [Kind::Flip, Kind::Truncate, Kind::Empty, Kind::Delete, Kind::Swap, Kind::Append];

/// A copy of the backup, with what its objects hold while they are whole.
struct Copy {
    folders: [tempfile::TempDir; 2],
    objects: Vec<(PathBuf, Vec<u8>)>,
    destinations: Destinations,
    register: Register,
    tools: Tools,
}

/// What one damage did, and to which objects.
struct Damaged {
    kind: Kind,
    positions: Vec<usize>,
}

impl Copy {
    async fn of(shop: &Shop) -> Self {
        let folders = [&shop.here, &shop.there].map(|from| {
            let to = tempfile::tempdir().unwrap();
            for object in objects_of(from.path(), false) {
                let copy = to.path().join(object.strip_prefix(from.path()).unwrap());
                std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
                std::fs::copy(&object, copy).unwrap();
            }
            to
        });
        let paths = folders.iter().flat_map(|folder| objects_of(folder.path(), false));
        let objects = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        let mut stores = Vec::new();
        for (name, folder) in DESTINATIONS.into_iter().zip(&folders) {
            stores.push((name, setup::folder(folder).await));
        }
        let destinations = setup::destinations(stores);
        let register = Register::new(destinations.default().store.clone(), setup::HEARTBEAT);
        let tools = Tools::only(&[shop.server.client_bin_dir()]);
        Self { folders, objects, destinations, register, tools }
    }

    /// Destination and key of an object: some keys are the same in both.
    fn name(&self, position: usize) -> Name {
        let path = &self.objects[position].0;
        let below =
            |folder: &Path| path.strip_prefix(folder).ok().map(|key| key.to_str().unwrap().to_owned());
        let mut folders = DESTINATIONS.iter().zip(&self.folders);
        let found = folders.find_map(|(name, folder)| Some(((*name).to_owned(), below(folder.path())?)));
        found.unwrap()
    }

    /// Damages the object at `position`; `None` if that would change nothing.
    fn damage(&self, kind: Kind, position: usize, random: &mut StdRng) -> Option<Damaged> {
        let (path, whole) = &self.objects[position];
        let mut bytes = whole.clone();
        let mut positions = vec![position];
        match kind {
            Kind::Flip => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            Kind::Truncate => bytes.truncate(random.random_range(1..bytes.len())),
            Kind::Empty => bytes.clear(),
            Kind::Append => bytes.extend(std::iter::repeat_n(random.random::<u8>(), 3)),
            Kind::Delete => {
                std::fs::remove_file(path).unwrap();
                assert!(!path.exists());
                return Some(Damaged { kind, positions });
            }
            Kind::Swap => {
                let other = random.random_range(0..self.objects.len());
                let (other_path, other_whole) = &self.objects[other];
                if other_whole == whole {
                    return None;
                }
                bytes.clone_from(other_whole);
                std::fs::write(other_path, whole).unwrap();
                positions.push(other);
            }
        }
        std::fs::write(path, &bytes).unwrap();
        assert_ne!(std::fs::read(path).unwrap(), *whole, "{kind:?} changed nothing");
        Some(Damaged { kind, positions })
    }

    fn repair(&self, damaged: &Damaged) {
        for position in &damaged.positions {
            let (path, whole) = &self.objects[*position];
            std::fs::write(path, whole).unwrap();
        }
    }

    async fn verify(&self) -> Result<backups::Verified, EngineError> {
        let progress = Progress::silent();
        backups::verify(&self.destinations, &self.register, Some(1), &self.tools, 1, &progress).await
    }

    /// The verification must name a damaged object. Only a run whose outcome is gone has no backup to verify:
    /// it can't be told from one that was never sealed, and nothing of it can be restored.
    async fn must_be_found(&self, damaged: &Damaged) {
        let names: Vec<Name> = damaged.positions.iter().map(|position| self.name(*position)).collect();
        match self.verify().await {
            Ok(verified) => assert!(
                verified
                    .damages
                    .iter()
                    .any(|(name, damage)| names.contains(&(name.clone(), damage.object.clone()))),
                "{:?} of {names:?}: {:?}",
                damaged.kind,
                verified.damages
            ),
            Err(EngineError::NoBackup(_))
                if damaged.kind == Kind::Delete && names[0].1.ends_with("/outcome.json") => {}
            Err(error) => panic!("{:?} of {names:?} was not called damage: {error}", damaged.kind),
        }
        // A listing goes on, and its line says so.
        let listed = backups::list(&self.register).await.unwrap();
        let of_manifest =
            |(store, key): &&Name| store == DESTINATIONS[0] && key.ends_with("/manifest.json.zst");
        if let Some((_, key)) = names.iter().find(of_manifest) {
            let finding = listed[0].damage.as_deref().unwrap();
            assert!(finding.starts_with(key.as_str()), "{finding}");
        }
    }

    async fn restored(&self, target: EndpointConfig) -> Result<Restored, EngineError> {
        let (interrupt, _trigger) = Interrupt::new();
        let job = RestoreJob {
            destinations: self.destinations.clone(),
            register: self.register.clone(),
            run: Some(1),
            expect_manifest: None,
            target,
            maintenance_database: "postgres".into(),
            selection: Selection::default(),
            schema_only: false,
            dry_run: false,
            no_owner: false,
            no_privileges: false,
            policy: RestorePolicy::default(),
            parallelism: 1,
            tools: self.tools.clone(),
            interrupt,
            progress: Progress::silent(),
        };
        restore(&job).await
    }

    /// Nobody answers at the target: whoever came as far as to ask it would say that, and not what is damaged.
    async fn must_not_be_restored(&self, damaged: &Damaged, nowhere: &EndpointConfig) {
        let names: Vec<Name> = damaged.positions.iter().map(|position| self.name(*position)).collect();
        let said = format!("{:?} of {names:?}", damaged.kind);
        let error = self.restored(nowhere.clone()).await.expect_err(&said);
        let lost = damaged.kind == Kind::Delete && names[0].1.ends_with("/outcome.json");
        let fits = if lost { error.reason() == "NoBackup" } else { OF_DAMAGE.contains(&error.reason()) };
        assert!(fits, "{said}: {}: {error}", error.reason());
    }
}

/// A target at which nobody listens.
fn nowhere(shop: &Shop) -> EndpointConfig {
    // Bound and not listening any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    EndpointConfig { port, ..setup::endpoint(shop.server, "damage_nowhere") }
}

type Met = BTreeMap<Name, BTreeSet<Kind>>;

/// One lane of damages; returns which kinds each object met.
async fn lane(copy: Copy, lane: u64, nowhere: EndpointConfig, target: EndpointConfig) -> Met {
    let whole = copy.verify().await.unwrap();
    assert!(whole.damages.is_empty(), "before any damage: {:?}", whole.damages);
    let mut random = StdRng::seed_from_u64(SEED + lane);
    let mut met = Met::new();
    let mut done = 0;
    while done < DAMAGES_PER_LANE {
        // In turn, so that no object is left to chance; how is drawn.
        let position = usize::try_from(done * LANES + lane).unwrap() % copy.objects.len();
        let kind = KINDS[random.random_range(0..KINDS.len())];
        let Some(damaged) = copy.damage(kind, position, &mut random) else { continue };
        copy.must_be_found(&damaged).await;
        copy.must_not_be_restored(&damaged, &nowhere).await;
        copy.repair(&damaged);
        met.entry(copy.name(position)).or_default().insert(kind);
        done += 1;
    }
    let whole = copy.verify().await.unwrap();
    assert!(whole.damages.is_empty(), "after the last repair: {:?}", whole.damages);
    // What is refused is the damage: repaired, the same copy gets as far as the target, and into it.
    let unreached = copy.restored(nowhere).await.unwrap_err();
    assert_eq!(unreached.reason(), "ServerUnreachable", "{unreached}");
    copy.restored(target).await.unwrap();
    met
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_damages_at_rest_are_found_by_name_and_never_restored() {
    let shop = Shop::open("damage");
    run(shop.backup()).must_succeed();
    shop.must_be_proven(1).await;
    let nowhere = nowhere(&shop);
    let restored = |lane: u64| format!("{}_restored{lane}", shop.database);
    let mut lanes = tokio::task::JoinSet::new();
    for number in 0..LANES {
        let target = setup::endpoint(shop.server, &restored(number));
        lanes.spawn(lane(Copy::of(&shop).await, number, nowhere.clone(), target));
    }
    let mut met = Met::new();
    for of_lane in lanes.join_all().await {
        for (object, kinds) in of_lane {
            met.entry(object).or_default().extend(kinds);
        }
    }
    let look = "SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o;
        SELECT count(*), md5(string_agg(e::text, ',' ORDER BY id)) FROM events e";
    for number in 0..LANES {
        assert_eq!(shop.server.psql(&restored(number), look).unwrap(), shop.sql(look));
    }
    let objects = shop.objects().len();
    assert!(objects >= 50, "only {objects} objects");
    assert_eq!(met.len(), objects, "an object was never damaged");
    let kinds: BTreeSet<Kind> = met.values().flatten().copied().collect();
    assert_eq!(kinds.len(), KINDS.len());
}
