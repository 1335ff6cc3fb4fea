//! A-151050: every request of a backup × every fault, at the trait and on the wire.

use std::collections::BTreeSet;
use std::sync::Arc;

use vouchsafe::engine::restore::restore;
use vouchsafe::engine::unlock::unlock;
use vouchsafe::engine::{EngineError, back_up};
use vouchsafe::store::fault::Operation;

use super::cases::{self, Case, End, Extent, Mark, carry_out};
use super::fault::{Level, Must};
use super::judge::{self, Outcome};
use super::kind::Kind;
use super::rig::{Rig, prefixes};
use super::server::OfServer;
use super::world::{Source, World};

/// Objects of a backup of each source: spans with rows, large objects, the schema, four catalogs.
const fn objects(source: Source) -> usize {
    match source {
        Source::Small => 3 + 1 + 1 + 1 + 4,
        Source::Large => 1 + 1 + 4,
    }
}

/// Which requests of a backup of `source` are met: those that only an upload in parts has, and all others.
fn of(source: Source) -> impl Fn(Kind) -> bool {
    move |kind| {
        let in_parts = matches!(kind.operation, Operation::Begin | Operation::PutPart | Operation::Complete);
        (source == Source::Large) == (in_parts && kind.of == "rows")
    }
}

/// `thin`: of so many cases one.
async fn sweep(name: &str, level: Level, of_server: OfServer, extent: &Extent, thin: usize) {
    let world = World::of(of_server).await;
    let protocol = world.server.protocol();
    let mut all = Vec::new();
    for source in [Source::Small, Source::Large] {
        let case = format!("c{}", world.number());
        let rig = Rig::new(&world, level, &case, &[]).await;
        back_up(&world.backup_job(source, &rig.stores)).await.unwrap();
        let outcome = judge::outcome(&world, &prefixes(level, &case)[0], 1).await;
        assert!(matches!(outcome, Outcome::Sealed { .. }), "{outcome:?}");
        let requests = rig.requests();
        assert!(requests.len() > 60, "{requests:?}");
        let cases = cases::cases(extent, level, source, &requests, of(source));
        assert!(!cases.is_empty(), "no request of {source:?} is met");
        all.extend(cases.into_iter().step_by(thin));
    }
    let of_level: BTreeSet<Operation> = all.iter().map(|case| case.marks[0].kind.operation).collect();
    assert!(
        thin > 1 || of_level.len() == Operation::ALL.len(),
        "a backup needs every operation: {of_level:?}"
    );
    let cases = extent.cases(all, |mark| mark.fault.must_in_backup_by(protocol, level, mark.kind));
    carry_out(name, extent, cases, Case::words, |case| {
        let (world, sample) = (Arc::clone(&world), extent.is_sample());
        async move { backup(&world, level, &case, sample).await }
    })
    .await;
}

/// One case: the backup under its faults, then what lies there, then the same again without faults.
async fn backup(world: &Arc<World>, level: Level, case: &Case, sample: bool) -> Result<End, String> {
    let number = world.number();
    let folder = format!("c{number}");
    let prefixes = prefixes(level, &folder);
    let faults: Vec<_> = case.marks.iter().map(|mark| (mark.kind, mark.nth, mark.fault)).collect();
    let rig = Rig::new(world, level, &folder, &faults).await;
    let job = world.backup_job(case.source, &rig.stores);
    let ended = back_up(&job).await;
    rig.heal();
    rig.all_fired(&case.marks).map_err(|unfired| format!("{unfired}; it ended {ended:?}"))?;
    let Mark { kind, fault, .. } = case.marks[0];
    let must = fault.must_in_backup_by(world.server.protocol(), level, kind);
    let outcome = judge::outcome(world, &prefixes[0], 1).await;
    let shown = format!("{} and the register says {outcome:?}", said(&ended));
    let end = match (&ended, &outcome) {
        (Ok(sealed), Outcome::Sealed { plan }) if sealed.run == 1 => {
            proven(world, &rig, case.source, (1, plan), &prefixes).await?;
            End::Proven
        }
        (Err(error), Outcome::Void { reason }) if error.reason() == reason => End::Failed,
        (Err(_), Outcome::NoRun) => End::Failed,
        // The store has stopped answering, or has lied, where only the register could tell.
        (
            Err(EngineError::OutcomeUnknown { .. } | EngineError::SealedDamaged { .. }),
            Outcome::Sealed { plan },
        ) => {
            proven(world, &rig, case.source, (1, plan), &prefixes).await?;
            End::Undecided
        }
        (Err(EngineError::OutcomeUnknown { .. }), Outcome::Open) if may_stay_open(case.marks[0]) => {
            End::Undecided
        }
        _ => return Err(format!("it is neither proven nor failed: {shown}")),
    };
    if let Err(error) = &ended
        && (error.reason() == "Internal"
            || error.to_string().is_empty()
            || error.hint(vouchsafe::hint::WayIn::Flags).is_empty())
    {
        return Err(format!("its failure has no name: {shown}"));
    }
    let right = match must {
        Must::Succeed => end == End::Proven,
        Must::Fail => end != End::Proven,
        Must::Either => true,
    };
    if !right {
        return Err(format!("it must {must:?}, and {shown}"));
    }
    // Each failure in the whole, some in a sample: nothing that was left stands in the way of the next backup.
    if end != End::Proven && (!sample || number.is_multiple_of(8) || end == End::Undecided) {
        again(world, case.source, &rig, &prefixes, &outcome).await?;
    }
    Ok(end)
}

/// Whether the run may be left undecided: everything was dark, or it was the register itself that was struck.
fn may_stay_open(mark: Mark) -> bool {
    mark.fault == super::fault::Fault::Dark || mark.kind.of == "outcome"
}

fn said(ended: &Result<vouchsafe::engine::Sealed, EngineError>) -> String {
    match ended {
        Ok(sealed) => format!("it says that run {} is sealed,", sealed.run),
        Err(error) => format!("it says {} ({error}),", error.reason()),
    }
}

/// Its objects hold by other programs, and a restore equals the source.
async fn proven(
    world: &Arc<World>,
    rig: &Rig,
    source: Source,
    (run, plan): (u32, &str),
    prefixes: &[String],
) -> Result<(), String> {
    judge::objects_hold(world, prefixes, (run, plan), objects(source)).await?;
    let database = format!("r{}", world.number());
    let job = world.restore_job(&rig.stores, world.postgres.port(), &database);
    let restored = restore(&job).await;
    let restored = restored.map_err(|error| format!("it is sealed and can't be restored: {error}"))?;
    if restored.run != run {
        return Err(format!("run {} was restored instead of {run}", restored.run));
    }
    let equal = world.must_equal(source, &database).await;
    world.drop_databases(vec![database]).await;
    equal
}

/// After the fault has healed the next backup is proven; a run that was left open is voided first, by force, as its
/// process (this one) still lives.
async fn again(
    world: &Arc<World>,
    source: Source,
    rig: &Rig,
    prefixes: &[String],
    outcome: &Outcome,
) -> Result<(), String> {
    let job = world.backup_job(source, &rig.stores);
    if *outcome == Outcome::Open {
        let unlocked = unlock(&job.register, Some(1), true).await;
        unlocked.map_err(|error| format!("it can't be unlocked: {error}"))?;
    }
    let sealed = back_up(&job).await.map_err(|error| format!("the next backup fails: {error}"))?;
    let after = judge::outcome(world, &prefixes[0], sealed.run).await;
    match after {
        Outcome::Sealed { plan } => {
            judge::objects_hold(world, prefixes, (sealed.run, &plan), objects(source)).await
        }
        other => Err(format!("the next backup says that it is sealed, and the register {other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backup_at_the_trait() {
    sweep("Backup, faults at the trait", Level::Trait, OfServer::Minio, &Extent::wanted(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backup_on_the_wire() {
    sweep("Backup, faults on the wire", Level::Wire, OfServer::Minio, &Extent::wanted(), 1).await;
}

/// A sample also of the whole: the requests are the same, and the wire's own sweep of stores has all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backup_on_the_wire_of_seaweedfs() {
    sweep("Backup, faults on the wire, SeaweedFS", Level::Wire, OfServer::SeaweedFs, &Extent::wanted(), 61)
        .await;
}

/// A sample also of the whole, and at the trait alone: what Google's client does on the wire is swept where its store is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backup_at_the_trait_of_google() {
    sweep("Backup, faults at the trait, Google", Level::Trait, OfServer::Google, &Extent::wanted(), 61).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backup_on_the_wire_of_azurite() {
    sweep("Backup, faults on the wire, Azurite", Level::Wire, OfServer::Azurite, &Extent::wanted(), 61).await;
}
