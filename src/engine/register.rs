//! The run register: claiming a number, taking turns at an open run, and deciding it once.

mod copied;
mod decision;
mod first_turn;
mod numbers;
pub(crate) mod retired;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::documents::{self, Held};
use super::error::EngineError;
use super::interrupt::Interrupt;
use super::process;
use crate::format::{
    Attempt, Beat, Collection, Document, FormatError, Key, Nonce, Outcome, PlanId, ProcessIdentity, Run,
    RunKind, Sha256Digest,
};
use crate::store::{ObjectStore, StoreErrorKind};

/// How often a live attempt shows itself, unless set otherwise.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);

/// Intervals without a sign that a watcher waits before it calls an attempt dead. Three: one beat may be
/// under way and one may be in a retry of the store.
const SILENT_INTERVALS: u32 = 3;

/// Rounds of a claim in which a number is taken that no look finds taken. Others who are faster move the newest
/// number, and begin the count anew: what is left is a store, or a cache before it, that contradicts itself.
const CLAIM_ROUNDS: u32 = 8;

/// Pause between those rounds: a listing or a cache may lag.
const BETWEEN_CLAIMS: Duration = Duration::from_secs(1);

/// The reason of a prune that was void because nobody was at it any more, and the next run took the collection.
pub const DEAD_PRUNE: &str = "PruneAbandoned";

/// A run that this process holds a turn at.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The run's number.
    pub run: u32,
    /// This attempt's number.
    pub attempt: u32,
    /// The plan that this attempt makes or carries on.
    pub plan: PlanId,
    /// Whether it carries on a plan of an earlier attempt.
    pub continues: bool,
    /// This attempt's nonce.
    pub nonce: Nonce,
    claim: Sha256Digest,
    earlier: Vec<Sha256Digest>,
    attempt_sha256: Sha256Digest,
}

impl Turn {
    /// The run as it stands with this turn in it, to take the next one.
    pub(crate) fn as_open(&self) -> OpenRun {
        let mut attempts = self.earlier.clone();
        attempts.push(self.attempt_sha256);
        OpenRun { run: self.run, plan: Some(self.plan), claim: self.claim, attempts }
    }
}

/// What a claim found.
#[derive(Debug)]
pub enum Claimed {
    /// A new run; make a plan.
    New(Turn),
    /// An open run of the same owner, whose last attempt is gone.
    Open(OpenRun),
}

/// An open run of this owner, before this process takes its turn.
#[derive(Debug)]
pub struct OpenRun {
    /// The run's number.
    pub run: u32,
    /// Plan of the last attempt; absent if none was made.
    pub plan: Option<PlanId>,
    claim: Sha256Digest,
    attempts: Vec<Sha256Digest>,
}

/// How a run was decided, whoever did it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The outcome as it lies in the register.
    pub outcome: Outcome,
    /// SHA-256 of its stored bytes.
    pub sha256: Sha256Digest,
    /// Whether this process's decision is the one that counts.
    pub ours: bool,
}

/// The runs of one collection, in its default destination.
#[derive(Clone, Debug)]
pub struct Register {
    store: Arc<dyn ObjectStore>,
    heartbeat: Duration,
    interrupt: Option<Interrupt>,
    orphan: Option<String>,
}

/// The reason in the outcome of a run whose owner is gone.
pub const OWNER_GONE: &str = "OwnerGone";

impl Register {
    /// The register in `store`, with heartbeats every `heartbeat`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, heartbeat: Duration) -> Self {
        Self { store, heartbeat, interrupt: None, orphan: None }
    }

    /// The same, which voids a silent run of this owner that is in the way of a claim: somebody who knows says that the
    /// owner is gone.
    #[must_use]
    pub fn voiding(&self, orphan: Option<String>) -> Self {
        Self { orphan, ..self.clone() }
    }

    /// The same, whose waiting `interrupt` ends. Nothing is under way while it waits.
    #[must_use]
    pub(crate) fn stopped_by(&self, interrupt: &Interrupt) -> Self {
        Self { interrupt: Some(interrupt.clone()), ..self.clone() }
    }

    async fn pause(&self, time: Duration) -> Result<(), EngineError> {
        let pause = async {
            tokio::time::sleep(time).await;
            Ok(())
        };
        match &self.interrupt {
            Some(interrupt) => interrupt.race(pause).await,
            None => pause.await,
        }
    }

    /// Time between two heartbeats.
    #[must_use]
    pub const fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// The store that holds it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The claim of a run.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub async fn run(&self, run: u32) -> Result<Run, EngineError> {
        Ok(documents::get(&*self.store, &Key::run(run)).await?.document)
    }

    /// The outcome of a run, if it is decided.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub async fn outcome(&self, run: u32) -> Result<Option<Decided>, EngineError> {
        let Some(held) = documents::find::<Outcome>(&*self.store, &Key::outcome(run)).await? else {
            return Ok(None);
        };
        self.must_be_of(run, &held)?;
        Ok(Some(Decided { outcome: held.document, sha256: held.sha256, ours: false }))
    }

    /// Nothing names an outcome by digest before the next run is claimed: one that was copied here from another
    /// run shows by its number alone.
    fn must_be_of(&self, run: u32, held: &Held<Outcome>) -> Result<(), EngineError> {
        if held.document.run == run {
            return Ok(());
        }
        let why = format!("it is that of run {}", held.document.run);
        let source = FormatError::Malformed { kind: Outcome::KIND, why };
        Err(EngineError::format(&*self.store, &held.key, source))
    }

    /// Reads again what a seal of `turn` is bound to and no verifier looks at. A seal over any other would be one
    /// that nobody can open.
    ///
    /// # Errors
    /// As for [`check_chain_of`](Self::check_chain_of).
    pub(crate) async fn check_chain(&self, turn: &Turn) -> Result<(), EngineError> {
        self.check_chain_of(turn.run, turn.claim, &turn.as_open().attempts).await
    }

    /// Reads what an outcome of `run` is bound to: the claim, the collection and the outcome that the claim names,
    /// and every attempt.
    ///
    /// # Errors
    /// The first of them that is not what was recorded, by name.
    pub(crate) async fn check_chain_of(
        &self,
        run: u32,
        claim: Sha256Digest,
        attempts: &[Sha256Digest],
    ) -> Result<(), EngineError> {
        let store = &*self.store;
        let claim: Held<Run> = documents::get_bound(store, &Key::run(run), claim).await?;
        documents::get_bound::<Collection>(store, &Key::collection(), claim.document.collection).await?;
        if run > 1 {
            let missing = || EngineError::Damaged(format!("run {run} does not name the outcome before it"));
            let previous = claim.document.previous.ok_or_else(missing)?;
            documents::get_bound::<Outcome>(store, &Key::outcome(run - 1), previous).await?;
        }
        for (number, digest) in (1..).zip(attempts) {
            documents::get_bound::<Attempt>(store, &Key::attempt(run, number), *digest).await?;
        }
        Ok(())
    }

    /// Claims the next number for `owner`, or finds that owner's open run. A number is claimed only when the
    /// one before is decided, so at most one run of a collection is open, and every claim carries the
    /// digest of the outcome before it.
    ///
    /// # Errors
    /// [`EngineError::CollectionIsCopy`] in a copy; [`EngineError::Busy`] if another live attempt holds the collection;
    /// [`EngineError::HeldByAnother`] if a dead run of another owner is in the way; [`EngineError::RegisterGap`] if the store says of one claim that it
    /// is there, and that it is not.
    pub async fn claim(
        &self,
        owner: &str,
        kind: RunKind,
        collection: Sha256Digest,
        plan: PlanId,
    ) -> Result<Claimed, EngineError> {
        self.must_not_be_copy().await?;
        let (mut rounds, mut before) = (0, 0);
        loop {
            let newest = self.newest().await?;
            rounds = if newest == before { rounds + 1 } else { 1 };
            before = newest;
            if rounds > CLAIM_ROUNDS {
                let (store, run) = (self.store.url().to_owned(), newest + 1);
                let why =
                    "the store refuses to create it because it is there, and does not find it".to_owned();
                return Err(EngineError::RegisterGap { store, key: Key::run(run), run, why });
            }
            if rounds > 1 {
                self.pause(BETWEEN_CLAIMS).await?;
            }
            let previous = if newest == 0 { None } else { self.outcome(newest).await?.map(|it| it.sha256) };
            if newest > 0 && previous.is_none() {
                self.must_be_open(newest, newest).await?;
                match self.open_run(newest, owner, kind).await {
                    Ok(open) => return Ok(Claimed::Open(open)),
                    Err(EngineError::HeldByAnother { run, owner })
                        if self.orphan.as_ref() == Some(&owner) =>
                    {
                        self.void(run, OWNER_GONE, format!("its owner, {owner}, is gone")).await?;
                    }
                    Err(error) => self.let_prune_pass(newest, error).await?,
                }
                continue;
            }
            let run = newest + 1;
            let document = Run {
                run,
                kind,
                owner: owner.to_owned(),
                nonce: Nonce::from_random(rand::random()),
                claimed: Timestamp::now(),
                collection,
                previous,
                software: crate::version().to_owned(),
            };
            let nonce = document.nonce;
            match documents::put(&*self.store, &Key::run(run), document).await {
                Ok(held) => return self.first_turn(run, held.sha256, plan).await.map(Claimed::New),
                // Another process was faster: look again at what it made.
                Err(EngineError::Store(error)) if error.kind() == StoreErrorKind::AlreadyExists => {}
                Err(error) => {
                    // It may have taken effect, all the same.
                    let found = documents::find::<Run>(&*self.store, &Key::run(run)).await;
                    let ours = found.ok().flatten().filter(|held| held.document.nonce == nonce);
                    return Err(match ours {
                        Some(claim) => self.give_claim_up(run, claim.sha256, plan, error).await,
                        None => error,
                    });
                }
            }
        }
    }

    /// The open run `run`, if it is `owner`'s and nobody is at it.
    async fn open_run(&self, run: u32, owner: &str, kind: RunKind) -> Result<OpenRun, EngineError> {
        let claim: Held<Run> = documents::get(&*self.store, &Key::run(run)).await?;
        let attempts = self.attempts(run).await?;
        let alive = self.is_alive(run, attempts.last().map(|held| &held.document)).await?;
        if alive {
            let at = attempts.last().map(|held| held.document.process.clone());
            return Err(EngineError::Busy { run, owner: claim.document.owner, process: at });
        }
        if claim.document.owner != owner || claim.document.kind != kind {
            return Err(EngineError::HeldByAnother { run, owner: claim.document.owner });
        }
        let plan = attempts.last().map(|held| held.document.plan);
        let attempts = attempts.into_iter().map(|held| held.sha256).collect();
        Ok(OpenRun { run, plan, claim: claim.sha256, attempts })
    }

    /// All attempts of a run, in order.
    pub(crate) async fn attempts(&self, run: u32) -> Result<Vec<Held<Attempt>>, EngineError> {
        let mut attempts = Vec::new();
        loop {
            let number = u32::try_from(attempts.len()).unwrap_or(u32::MAX) + 1;
            match documents::find::<Attempt>(&*self.store, &Key::attempt(run, number)).await? {
                Some(held) => attempts.push(held),
                None => return Ok(attempts),
            }
        }
    }

    /// Whether somebody is at the run: a process of this machine that lives, or a sign within
    /// [`SILENT_INTERVALS`] of the watcher's own clock.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(crate) async fn is_alive(&self, run: u32, last: Option<&Attempt>) -> Result<bool, EngineError> {
        if let Some(attempt) = last
            && let Some(alive) = process::is_alive(&attempt.process)
        {
            return Ok(alive);
        }
        let number = last.map_or(0, |attempt| attempt.attempt);
        let before = self.newest_beat(run, number).await?;
        let deadline = tokio::time::Instant::now() + self.heartbeat * SILENT_INTERVALS;
        while tokio::time::Instant::now() < deadline {
            self.pause(self.heartbeat / 4).await?;
            if self.newest_beat(run, number).await? > before
                || self.exists(&Key::attempt(run, number + 1)).await?
                || self.exists(&Key::outcome(run)).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn newest_beat(&self, run: u32, attempt: u32) -> Result<u64, EngineError> {
        let prefix = Key::beats(run);
        let keys = documents::list_all(&*self.store, Some(&prefix)).await?;
        let beats = keys.iter().filter_map(|key| {
            let (of, beat) = key.name().strip_suffix(".json")?.split_once('-')?;
            (of.parse::<u32>().ok()? == attempt).then(|| beat.parse::<u64>().ok())?
        });
        let mut newest = beats.max().unwrap_or(0);
        while self.exists(&Key::beat(run, attempt, newest + 1)).await? {
            newest += 1;
        }
        Ok(newest)
    }

    /// Takes a turn at an open run, with `plan` (the last attempt's, if `continues`).
    ///
    /// # Errors
    /// [`EngineError::LostTurn`] if another process took it first.
    pub async fn take_turn(
        &self,
        open: OpenRun,
        plan: PlanId,
        continues: bool,
        reason: String,
    ) -> Result<Turn, EngineError> {
        let attempt = u32::try_from(open.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let document = Attempt {
            run: open.run,
            attempt,
            nonce: Nonce::from_random(rand::random()),
            plan,
            reason,
            continues,
            process: process::identity(),
            started: Timestamp::now(),
        };
        let nonce = document.nonce;
        match documents::put(&*self.store, &Key::attempt(open.run, attempt), document).await {
            Ok(held) => Ok(Turn {
                run: open.run,
                attempt,
                plan,
                continues,
                nonce,
                claim: open.claim,
                earlier: open.attempts,
                attempt_sha256: held.sha256,
            }),
            Err(EngineError::Store(error)) if error.kind() == StoreErrorKind::AlreadyExists => {
                Err(EngineError::LostTurn { run: open.run, attempt: attempt - 1 })
            }
            Err(error) => Err(error),
        }
    }

    /// Fails if a newer attempt exists or the run is decided: this process is a zombie and must stop.
    ///
    /// # Errors
    /// [`EngineError::LostTurn`], [`EngineError::DecidedElsewhere`].
    pub async fn still_ours(&self, turn: &Turn) -> Result<(), EngineError> {
        if let Some(decided) = self.outcome(turn.run).await? {
            return Err(EngineError::DecidedElsewhere { run: turn.run, outcome: Box::new(decided.outcome) });
        }
        if self.exists(&Key::attempt(turn.run, turn.attempt + 1)).await? {
            return Err(EngineError::LostTurn { run: turn.run, attempt: turn.attempt });
        }
        Ok(())
    }

    /// Shows that the attempt lives, every interval, until the returned task is aborted; the task ends by itself
    /// when the run is no longer this attempt's, and says why. A beat that can't be written is a reason for others
    /// to take over, and no more: the seal is safe without it. The look is no more than that, either: it spares a
    /// process that was taken for dead hours of work for nothing, and its source the load.
    pub(crate) fn beat(&self, turn: &Turn) -> tokio::task::JoinHandle<EngineError> {
        let (register, turn) = (self.clone(), turn.clone());
        let (run, attempt, nonce) = (turn.run, turn.attempt, turn.nonce);
        tokio::spawn(async move {
            for beat in 1_u64.. {
                let document = Beat { run, attempt, beat, nonce };
                let key = Key::beat(run, attempt, beat);
                let written = documents::put(&*register.store, &key, document).await;
                super::best_effort("a missed heartbeat only invites a takeover", written.map(drop));
                tokio::time::sleep(register.heartbeat).await;
                match register.still_ours(&turn).await {
                    // Its own decision: all that is left is to say so.
                    Err(EngineError::DecidedElsewhere { outcome, .. }) if outcome.decided_by == nonce => {}
                    Err(lost @ (EngineError::LostTurn { .. } | EngineError::DecidedElsewhere { .. })) => {
                        return lost;
                    }
                    // A store that does not answer says nothing about the turn.
                    Ok(()) | Err(_) => {}
                }
            }
            EngineError::Task("more beats than can be counted".into())
        })
    }
}

/// Where an attempt runs, for messages.
pub(crate) fn whereabouts(process: Option<&ProcessIdentity>) -> String {
    process.map_or_else(|| "an unknown process".into(), |it| format!("process {} on {}", it.pid, it.host))
}
