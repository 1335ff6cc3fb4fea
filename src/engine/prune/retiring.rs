//! Retiring: the short, exclusive part of a prune, from the claim to the seal.

use jiff::Timestamp;

use super::super::documents;
use super::super::error::EngineError;
use super::super::interrupt::Interruption;
use super::super::register::{Claimed, Turn};
use super::PruneJob;
use super::choice::Choice;
use super::history::{History, SealedBackup};
use crate::format::{Collection, Decision, Key, PlanId, Retired, Retirement, RunKind, Sha256Digest};
use crate::kill_point;
use crate::store::StoreErrorKind;

/// A sealed prune.
pub(super) struct SealedPrune {
    pub(super) run: u32,
    pub(super) retired: Vec<u32>,
}

/// Claims a number and seals it as a prune that retires what `choice` says, and `survivor` not. Without one nothing need
/// stay, and nothing was verified.
pub(super) async fn retire(
    job: &PruneJob,
    choice: &Choice,
    survivor: Option<u32>,
) -> Result<SealedPrune, EngineError> {
    let register = job.register.stopped_by(&job.interrupt);
    let collection = documents::get::<Collection>(&**register.store(), &Key::collection()).await?;
    // A prune makes no plan; its attempts carry an id all the same, as every attempt does.
    let plan = PlanId::from_random(rand::random());
    let turn = match register.claim(&job.owner, RunKind::Prune, collection.sha256, plan).await? {
        Claimed::New(turn) => turn,
        Claimed::Open(open) => {
            register.take_turn(open, plan, false, "going on with a prune that was left".into()).await?
        }
    };
    let beating = register.beat(&turn);
    let sealed = retire_in(job, &turn, choice, survivor).await;
    beating.abort();
    match sealed {
        Ok(sealed) => Ok(sealed),
        Err(error) => Err(end(job, &turn, error).await),
    }
}

async fn retire_in(
    job: &PruneJob,
    turn: &Turn,
    choice: &Choice,
    survivor: Option<u32>,
) -> Result<SealedPrune, EngineError> {
    // Every lower run is decided now, and none can be claimed before this one is: what is read here stays so.
    let history = History::read(&job.register).await?;
    let outdated = |why: String| Err(EngineError::PruneOutdated(why));
    if let Some(survivor) = survivor.filter(|it| !history.sealed.contains_key(it)) {
        return outdated(format!("run {survivor}, which was verified, was retired meanwhile"));
    }
    let anew = job.rule.choose(&history)?;
    // What was shown and is still to go: a backup that was sealed meanwhile may only save others.
    let goes: Vec<SealedBackup> =
        anew.goes.values().filter(|it| choice.goes.contains_key(&it.run)).copied().collect();
    if let Some(survivor) = survivor.filter(|survivor| goes.iter().any(|it| it.run == *survivor)) {
        return outdated(format!("run {survivor}, which was verified, would go itself"));
    }
    let left = Choice { goes: goes.iter().map(|it| (it.run, *it)).collect(), ..Choice::default() };
    job.rule.check(&left, &history)?;
    let mut retired = Vec::new();
    for backup in &goes {
        if job.interrupt.asked().is_some() {
            return Err(job.interrupt.stopped());
        }
        retired.push(Retirement { run: backup.run, sha256: mark(job, turn, backup, choice.reason).await? });
    }
    job.register.check_chain(turn).await?;
    job.register.still_ours(turn).await?;
    let ours = Decision::Pruned { survivor, retired };
    let decided = job.register.decide(turn, ours.clone()).await?;
    if decided.outcome.decision != ours {
        return Err(EngineError::DecidedElsewhere { run: turn.run, outcome: Box::new(decided.outcome) });
    }
    kill_point::passed("sealed", "prune");
    Ok(SealedPrune { run: turn.run, retired: goes.iter().map(|it| it.run).collect() })
}

/// Writes `retired.json`, or takes the one that an earlier prune has left: it is the digest that the outcome names
/// that counts, whoever wrote the document, and were it damaged.
async fn mark(
    job: &PruneJob,
    turn: &Turn,
    backup: &SealedBackup,
    reason: &str,
) -> Result<Sha256Digest, EngineError> {
    let store = &**job.register.store();
    let key = Key::retired(backup.run);
    let document = Retired {
        run: backup.run,
        outcome: backup.outcome,
        prune: turn.run,
        reason: reason.to_owned(),
        written: Timestamp::now(),
    };
    match documents::put(store, &key, document).await {
        Ok(held) => Ok(held.sha256),
        Err(EngineError::Store(error)) if error.kind() == StoreErrorKind::AlreadyExists => {
            match documents::find_bytes(store, &key).await? {
                Some((bytes, _)) => Ok(Sha256Digest::of(&bytes)),
                None => Err(EngineError::Missing { store: store.url().to_owned(), key }),
            }
        }
        Err(error) => Err(error),
    }
}

/// Ends a prune that failed: void, unless it is for its owner to go on with, or was decided by somebody else.
async fn end(job: &PruneJob, turn: &Turn, error: EngineError) -> EngineError {
    match &error {
        EngineError::LostTurn { .. }
        | EngineError::DecidedElsewhere { .. }
        | EngineError::OutcomeUnknown { .. } => return error,
        EngineError::Interrupted if job.interrupt.asked() == Some(Interruption::Leave) => {
            return EngineError::LeftOpen { run: turn.run };
        }
        _ => {}
    }
    let message = error.to_string().chars().take(2000).collect();
    match job.register.abandon(turn, error.reason(), message).await {
        Ok(decided) if decided.ours => error,
        Ok(decided) => EngineError::DecidedElsewhere { run: turn.run, outcome: Box::new(decided.outcome) },
        Err(known @ (EngineError::LostTurn { .. } | EngineError::DecidedElsewhere { .. })) => known,
        Err(unknown @ EngineError::OutcomeUnknown { .. }) => unknown,
        Err(other) => EngineError::OutcomeUnknown { run: turn.run, source: Box::new(other) },
    }
}
