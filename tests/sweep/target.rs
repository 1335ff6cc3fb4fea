//! A-144650: every request of a restore to its PostgreSQL target × every fault.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use testbed::{PgFault, PgProxy, PgRule};
use vouchsafe::engine::back_up;
use vouchsafe::engine::restore::restore;

use super::cases::{End, Extent, carry_out};
use super::fault::Level;
use super::rig::Rig;
use super::server::OfServer;
use super::world::{Source, World};

/// A fault at one request to the server.
#[derive(Clone, Debug)]
struct Strike(PgRule);

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{} {:?}", self.0.kind, self.0.nth, self.0.fault)
    }
}

fn words(strike: &Strike) -> (String, String) {
    let fault = match strike.0.fault {
        PgFault::CutBefore => "reset before",
        PgFault::CutMidway => "reset midway",
        PgFault::LostAnswer => "answer lost",
        PgFault::Terminate => "backend terminated",
        PgFault::TerminateOthers => "others terminated",
        PgFault::Refuse => "refused",
        PgFault::Drop => "data lost",
    };
    (strike.0.kind.clone(), fault.to_owned())
}

/// Kinds as coarse as a sample needs them: who asks, and whether it looks, changes or begins and ends something.
fn class(kind: &str) -> String {
    let (session, request) = kind.split_once(": ").unwrap_or((kind, ""));
    let request = match request.split(' ').next().unwrap_or_default() {
        "SELECT" | "SHOW" | "SET" => "look",
        "ALTER" | "CREATE" | "COMMENT" | "ANALYZE" | "" => "change",
        "prepare" | "sync" if request.contains("SELECT") => "prepared look",
        _ => request,
    };
    format!("{session}: {request}")
}

/// A restore whose session ends after everything was done may have succeeded or not; with every other fault it
/// must not, unless it settled what had happened by asking.
fn may_succeed(strike: &PgRule) -> bool {
    let done = strike.kind.ends_with(": end");
    let asked = strike.fault == PgFault::LostAnswer && strike.kind == "vouchsafe restore: COMMIT";
    // The others may be sessions that have done their part.
    done || asked || strike.fault == PgFault::TerminateOthers
}

/// How often a case is played whose fault found nothing to strike.
const TRIES: usize = 3;

/// Plays one case. On a busy machine the request that is meant may come later than another of its name, or not at all:
/// such a restore shows nothing, and another is tried.
async fn strike(world: &Arc<World>, stores: &Rig, strike: Strike, sample: bool) -> Result<End, String> {
    for _ in 0..TRIES {
        if let Some(end) = play(world, stores, &strike, sample).await? {
            return Ok(end);
        }
    }
    Err(format!("its fault did not fire in {TRIES} restores"))
}

/// How it ended; nothing if its fault did not fire.
async fn play(
    world: &Arc<World>,
    stores: &Rig,
    strike: &Strike,
    sample: bool,
) -> Result<Option<End>, String> {
    let number = world.number();
    let database = format!("t{number}_");
    let proxy = PgProxy::start(world.postgres.port());
    proxy.set(Some(strike.0.clone()));
    let job = world.restore_job(&stores.stores, proxy.port(), &database);
    let ended = restore(&job).await;
    let fired = proxy.fired();
    proxy.set(None);
    let mut left = world.databases(&database).await;
    let judged = async {
        if fired == 0 && ended.is_ok() {
            return Ok(None);
        }
        if fired != 1 {
            return Err(format!("its fault fired {fired} times; it ended {ended:?}"));
        }
        let end = match &ended {
            Ok(_) if left.contains(&database) => {
                world.must_equal(Source::Small, &database).await?;
                End::Proven
            }
            Err(error) if !left.contains(&database) && error.reason() != "Internal" => End::Failed,
            _ => return Err(format!("neither restored nor failed: {ended:?}, and there are {left:?}")),
        };
        if end == End::Proven && !may_succeed(&strike.0) {
            return Err("it must fail, and succeeded".to_owned());
        }
        // The same restore again takes up what was left, and ends right.
        if end == End::Failed && (!sample || number.is_multiple_of(4)) {
            restore(&job).await.map_err(|error| format!("the same restore again fails: {error}"))?;
            world.must_equal(Source::Small, &database).await?;
            left = world.databases(&database).await;
            if left.len() != 1 {
                return Err(format!("after the same restore again there are {left:?}"));
            }
        }
        Ok(Some(end))
    };
    let judged = judged.await;
    let left = world.databases(&database).await;
    world.drop_databases(left).await;
    judged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restore_writing() {
    let extent = Extent::wanted();
    let world = World::of(OfServer::Minio).await;
    let folder = format!("c{}", world.number());
    let rig = Arc::new(Rig::new(&world, Level::Trait, &folder, &[]).await);
    back_up(&world.backup_job(Source::Small, &rig.stores)).await.unwrap();
    let proxy = PgProxy::start(world.postgres.port());
    let database = format!("t{}_", world.number());
    restore(&world.restore_job(&rig.stores, proxy.port(), &database)).await.unwrap();
    world.must_equal(Source::Small, &database).await.unwrap();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut all = Vec::new();
    for (kind, others) in proxy.requests() {
        let nth = seen.entry(kind.clone()).or_default();
        for fault in PgFault::ALL.into_iter().filter(|fault| fault.fits(&kind, others)) {
            all.push(Strike(PgRule { kind: kind.clone(), nth: *nth, fault }));
        }
        *nth += 1;
    }
    assert!(all.len() > 100, "{seen:?}");
    let cases = extent.choose(all, |strike| (class(&strike.0.kind), strike.0.fault));
    carry_out(
        "Restore, faults of its target",
        &extent,
        cases,
        |it| vec![words(it)],
        |it| {
            let (world, rig, sample) = (Arc::clone(&world), Arc::clone(&rig), extent.is_sample());
            async move { strike(&world, &rig, it, sample).await }
        },
    )
    .await;
}
