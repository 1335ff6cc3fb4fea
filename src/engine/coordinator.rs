//! The coordinator: claims a run, plans it, starts workers and verifiers, balances the books, and seals.

use super::backups;
use super::catalogs;
use super::census;
use super::crew::{WorkOrder, first_of_all};
use super::documents::{self, Held};
use super::error::EngineError;
use super::interrupt::Interruption;
use super::job::BackupJob;
use super::metadata::{self, Metadata, Verified};
use super::opening;
use super::progress::{Report, Stage};
use super::register::{Claimed, OpenRun, Turn};
use super::resolve::{self, HeldSource, Planned};
use super::{seal, told};
use crate::format::{
    Census, Decision, Key, Manifest, Plan, PlanDocument, PlanId, RunKind, Sha256Digest, Tickets,
};
use crate::kill_point;
use crate::ledger::{Balanced, Ledger};
use crate::telemetry::spans::part;

/// Plans that one process makes for one run before it gives up: each costs a whole export.
const PLANS_PER_PROCESS: u32 = 3;

/// A backup that is proven.
#[derive(Debug)]
pub struct Sealed {
    /// Number of the run.
    pub run: u32,
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest as stored.
    pub manifest_sha256: Sha256Digest,
    /// Objects that the verifiers read.
    pub objects_read: u64,
    /// Bytes that the verifiers read.
    pub bytes_read: u64,
}

/// Makes one backup.
///
/// # Errors
/// Any [`EngineError`]. When this returns one after a run was claimed, the run is void, or (after SIGTERM, a
/// lost turn or an unreachable store) left open for its owner.
pub async fn back_up(job: &BackupJob) -> Result<Sealed, EngineError> {
    let Some(deadline) = job.deadline else { return carry_out(job).await };
    // As a signal does: uploads are aborted and waited for, and the run is void.
    let (interrupt, stop) = job.interrupt.of_part();
    let timed = BackupJob { interrupt, ..job.clone() };
    deadline.over(stop, carry_out(&timed)).await
}

async fn carry_out(job: &BackupJob) -> Result<Sealed, EngineError> {
    job.check()?;
    job.progress.begin(Stage::Resolve, 0, 0);
    let opened = told(part!("open"), job.interrupt.race(opening::open(job))).await?;
    let fresh = PlanId::from_random(rand::random());
    let register = job.register.stopped_by(&job.interrupt);
    let claim = register.claim(&job.owner, RunKind::Backup, opened.collection, fresh);
    let (turn, resumed) = match told(part!("claim"), claim).await? {
        Claimed::New(turn) => (turn, None),
        Claimed::Open(open) => take_over(job, open, fresh).await?,
    };
    let part = part!("run", run = turn.run, attempt = turn.attempt);
    told(part, make_of_plans(job, turn, resumed)).await
}

/// Makes the run, with another plan where an error asks for one.
async fn make_of_plans(
    job: &BackupJob,
    mut turn: Turn,
    mut resumed: Option<Settled>,
) -> Result<Sealed, EngineError> {
    for plans in 1.. {
        let made = make_while_ours(job, &turn, resumed.take()).await;
        let error = match made {
            Ok(sealed) => return Ok(sealed),
            Err(error) => error,
        };
        if !error.calls_for_a_new_plan() || plans >= PLANS_PER_PROCESS || job.interrupt.asked().is_some() {
            return Err(end(job, &turn, error).await);
        }
        job.progress.note(format!("starting over with a new plan: {error}"));
        job.errors.note("plan", error.reason());
        // A server that has just come up again needs a moment; nobody takes a silence of one interval for death.
        let pause = async {
            tokio::time::sleep(job.register.heartbeat()).await;
            Ok(())
        };
        if let Err(stopped) = job.interrupt.race(pause).await {
            return Err(end(job, &turn, stopped).await);
        }
        turn = match next_plan(job, &turn, format!("starting over: {error}")).await {
            Ok(turn) => turn,
            Err(error) => return Err(end(job, &turn, error).await),
        };
    }
    Err(EngineError::Task("more plans than can be counted".into()))
}

/// Ends a run that failed: void, unless it is for its owner to go on with, or was decided by somebody else.
async fn end(job: &BackupJob, turn: &Turn, error: EngineError) -> EngineError {
    match &error {
        EngineError::LostTurn { .. }
        | EngineError::DecidedElsewhere { .. }
        | EngineError::OutcomeUnknown { .. }
        | EngineError::SealedDamaged { .. } => {
            return error;
        }
        EngineError::Interrupted if job.interrupt.asked() == Some(Interruption::Leave) => {
            return EngineError::LeftOpen { run: turn.run };
        }
        _ => {}
    }
    let message = error.to_string().chars().take(2000).collect();
    match job.register.abandon(turn, error.reason(), message).await {
        Ok(decided) if decided.ours && matches!(decided.outcome.decision, Decision::Void { .. }) => error,
        Ok(decided) => EngineError::DecidedElsewhere { run: turn.run, outcome: Box::new(decided.outcome) },
        Err(lost @ (EngineError::LostTurn { .. } | EngineError::DecidedElsewhere { .. })) => {
            job.progress.note(format!("stopped by its own failure, after it had been overtaken: {error}"));
            lost
        }
        Err(unknown @ EngineError::OutcomeUnknown { .. }) => unknown,
        Err(other) => EngineError::OutcomeUnknown { run: turn.run, source: Box::new(other) },
    }
}

/// A plan whose every snapshot-bound ticket is settled: nothing of it needs the snapshot any more.
#[derive(Debug)]
pub(crate) struct Settled {
    plan: Held<Plan>,
    tickets: Vec<Held<Tickets>>,
    census: Held<Census>,
}

/// Takes a turn at this owner's open run, with its plan if that can be carried on.
async fn take_over(
    job: &BackupJob,
    open: OpenRun,
    fresh: PlanId,
) -> Result<(Turn, Option<Settled>), EngineError> {
    let (plan, reason, settled) = match open.plan {
        None => (fresh, "the earlier attempt made no plan".to_owned(), None),
        Some(plan) => match job.interrupt.race(settled(job, open.run, plan)).await {
            Ok(Ok(settled)) => (plan, "every snapshot-bound ticket is settled".to_owned(), Some(settled)),
            Ok(Err(why)) => (fresh, format!("starting over: the snapshot was lost before {why}"), None),
            // Read again it would be as damaged: it must not keep the run from its owner for ever.
            Err(damaged) if damaged.is_damage() => {
                (fresh, format!("starting over: of the earlier plan, {damaged}"), None)
            }
            Err(error) => return Err(error),
        },
    };
    job.progress.note(format!("going on with run {}: {reason}", open.run));
    let turn = job.register.take_turn(open, plan, settled.is_some(), reason).await?;
    Ok((turn, settled))
}

/// What of `plan` lies in the store, if all of it is settled; else what is missing.
async fn settled(job: &BackupJob, run: u32, plan: PlanId) -> Result<Result<Settled, String>, EngineError> {
    let default = &*job.destinations.default().store;
    let key = |document| Key::of_plan(run, &plan, document);
    let Some(plan) = documents::find::<Plan>(default, &key(PlanDocument::Plan)).await? else {
        return Ok(Err("the plan was written".into()));
    };
    let Some(census) = documents::find::<Census>(default, &key(PlanDocument::Census)).await? else {
        return Ok(Err("every table was exported and counted".into()));
    };
    let mut tickets = Vec::new();
    for destination in &plan.document.destinations {
        let store = &*job.destinations.named(&destination.name)?.store;
        tickets.push(documents::get_bound(store, &key(PlanDocument::Tickets), destination.tickets).await?);
    }
    Ok(Ok(Settled { plan, tickets, census }))
}

async fn next_plan(job: &BackupJob, turn: &Turn, reason: String) -> Result<Turn, EngineError> {
    job.register.still_ours(turn).await?;
    let plan = PlanId::from_random(rand::random());
    job.register.take_turn(turn.as_open(), plan, false, reason).await
}

/// One attempt, stopped as by a signal when its run is no longer its own.
async fn make_while_ours(
    job: &BackupJob,
    turn: &Turn,
    resumed: Option<Settled>,
) -> Result<Sealed, EngineError> {
    let (interrupt, stop) = job.interrupt.of_part();
    let part = BackupJob { interrupt, ..job.clone() };
    let mut beating = job.register.beat(turn);
    let made = make(&part, turn, resumed);
    tokio::pin!(made);
    let ended = tokio::select! {
        ended = &mut made => ended,
        lost = &mut beating => {
            stop.send(Interruption::Leave);
            let lost = lost.unwrap_or_else(|error| EngineError::Task(format!("the heartbeat died: {error}")));
            made.await.map_err(|_| lost)
        }
    };
    beating.abort();
    ended
}

/// One attempt, from the plan to the seal.
async fn make(job: &BackupJob, turn: &Turn, resumed: Option<Settled>) -> Result<Sealed, EngineError> {
    let settled = match resumed {
        Some(settled) => settled,
        None => export(job, turn).await?,
    };
    let ready = job.interrupt.race(prove(job, turn, settled)).await?;
    // Not raced from here on: given up in the middle, nobody would know which word the register took.
    told(part!("seal"), seal_run(job, turn, ready)).await
}

/// Plans, exports and counts: everything that the snapshot is needed for.
async fn export(job: &BackupJob, turn: &Turn) -> Result<Settled, EngineError> {
    let sources = told(part!("hold"), job.interrupt.race(resolve::hold(job))).await?;
    kill_point::passed("held", "sources");
    for source in &sources {
        let (endpoint, version) = (source.endpoint.name.clone(), source.held.server.version.clone());
        job.progress.report(Report::Server { endpoint, version });
    }
    let exported = export_held(job, turn, &sources).await;
    kill_point::passed("releasing", "sources");
    let released = resolve::release(sources).await;
    let settled = exported?;
    // A failed release says that the connection was lost: after the census was taken that changes nothing.
    super::best_effort("the census was taken while the snapshot lived", released);
    Ok(settled)
}

async fn export_held(job: &BackupJob, turn: &Turn, sources: &[HeldSource]) -> Result<Settled, EngineError> {
    let planned = async {
        let planned = job.interrupt.race(resolve::plan(job, turn, sources)).await?;
        job.interrupt.race(write_plan(job, planned)).await
    };
    let (plan, tickets) = told(part!("plan"), planned).await?;
    let held: Vec<(Tickets, Sha256Digest)> =
        tickets.iter().map(|held| (held.document.clone(), held.sha256)).collect();
    let mut ledger = Ledger::open(plan.document.clone(), held)?;
    let bytes = plan.document.tables.iter().map(|table| table.facts.bytes).sum();
    job.progress.begin(Stage::Export, u64::from(plan.document.tickets), bytes);
    // Whatever fails first stops the rest: hours of export are of no use without a schema.
    let (interrupt, stop) = job.interrupt.of_part();
    let stop = &stop;
    let catalogs = async {
        let exported = catalogs::export(job, turn, sources, &plan.document, &tickets);
        first_of_all(stop, interrupt.race(exported).await)
    };
    let order = |held: &Held<Tickets>| WorkOrder { tickets: held.document.clone(), sha256: held.sha256 };
    let orders: Vec<WorkOrder> = tickets.iter().map(order).collect();
    let workers = async { first_of_all(stop, job.crew.export(job, &orders, &interrupt, stop).await) };
    let exported = async {
        match tokio::join!(workers, told(part!("catalogs"), catalogs)) {
            // It was stopped because of the other one, whose error says why.
            (Err(EngineError::Interrupted), Err(why)) | (Err(why), _) | (Ok(()), Err(why)) => Err(why),
            (Ok(()), Ok(())) => Ok(()),
        }
    };
    told(part!("export"), exported).await?;
    kill_point::passed("exported", "everything");
    let counted = async {
        census::collect(&job.destinations, &mut ledger, job.listing_patience).await?;
        for source in sources {
            source.held.snapshot.check().await?;
            source.held.locks.check().await?;
        }
        let digests = catalogs::digests_again(sources).await?;
        job.progress.begin(Stage::Count, plan.document.tables.len() as u64, 0);
        census::take(&job.endpoints, &plan.document, plan.sha256, &ledger, digests, job.parallelism).await
    };
    let census = told(part!("count"), job.interrupt.race(counted)).await?;
    let key = Key::of_plan(turn.run, &turn.plan, PlanDocument::Census);
    let census = documents::put(&*job.destinations.default().store, &key, census).await?;
    Ok(Settled { plan, tickets, census })
}

async fn write_plan(
    job: &BackupJob,
    planned: Planned,
) -> Result<(Held<Plan>, Vec<Held<Tickets>>), EngineError> {
    let Planned { plan, tickets } = planned;
    let key = |document| Key::of_plan(plan.run, &plan.plan, document);
    let (tickets_key, plan_key) = (key(PlanDocument::Tickets), key(PlanDocument::Plan));
    let mut written = Vec::new();
    for tickets in tickets {
        let store = &*job.destinations.named(&tickets.destination)?.store;
        written.push(documents::put(store, &tickets_key, tickets).await?);
    }
    let plan = documents::put(&*job.destinations.default().store, &plan_key, plan).await?;
    Ok((plan, written))
}

/// All but the seal.
struct ReadyToSeal {
    balanced: Balanced,
    metadata: Metadata,
    verified: Verified,
}

/// Balances, writes parts and manifest, has everything read back, and compares once more.
async fn prove(job: &BackupJob, turn: &Turn, settled: Settled) -> Result<ReadyToSeal, EngineError> {
    let Settled { plan, tickets, census } = settled;
    let tickets_held = tickets.iter().map(|held| (held.document.clone(), held.sha256)).collect();
    let mut ledger = Ledger::open(plan.document.clone(), tickets_held)?;
    census::collect(&job.destinations, &mut ledger, job.listing_patience).await?;
    let balanced: Balanced = ledger.balance(plan.sha256, &census.document)?;
    kill_point::passed("balanced", "books");
    job.register.still_ours(turn).await?;
    job.progress.begin(Stage::Write, 0, 0);
    let written = metadata::write(job, &balanced, (&plan, &census), &tickets, job.errors.entries());
    let metadata: Metadata = told(part!("write"), written).await?;
    let verified = told(part!("verify"), metadata::verify(job, turn, &balanced, &metadata)).await?;
    kill_point::passed("verified", "everything");
    job.progress.begin(Stage::Seal, 0, 0);
    let proof = (&metadata.written[..], &verified.proven);
    let compared = seal::compare_once_more(&job.destinations, &job.register, turn, &balanced, proof);
    told(part!("compare"), compared).await?;
    kill_point::passed("compared", "everything");
    Ok(ReadyToSeal { balanced, metadata, verified })
}

async fn seal_run(job: &BackupJob, turn: &Turn, ready: ReadyToSeal) -> Result<Sealed, EngineError> {
    let ReadyToSeal { balanced, metadata, verified } = ready;
    seal::seal(&job.register, turn, balanced.plan(), verified.proven).await?;
    kill_point::passed("sealed", "run");
    // As any reader would: what can't be opened was not made. The seal stands, so the run can't be voided.
    let opened = backups::open(&job.destinations, &job.register, turn.run).await;
    opened.map_err(|error| {
        let (run, damaged, source) = (turn.run, error.is_damage(), Box::new(error));
        match damaged {
            true => EngineError::SealedDamaged { run, source },
            false => EngineError::OutcomeUnknown { run, source },
        }
    })?;
    Ok(Sealed {
        run: turn.run,
        manifest: metadata.manifest.document,
        manifest_sha256: metadata.manifest.sha256,
        objects_read: verified.objects_read,
        bytes_read: verified.bytes_read,
    })
}
