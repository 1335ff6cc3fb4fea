//! Everything that was decided in a collection, read from its register and checked as the hash chain that it is. A
//! prune believes nothing else: not a list, and nobody's memory.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::super::documents::{self, Held};
use super::super::error::EngineError;
use super::super::register::Register;
use super::super::register::retired::retirements;
use crate::format::{Decision, FormatError, Key, Outcome, Run, RunKind, Sha256Digest, decode};

/// Runs that are read at once: two small documents each, so latency is all they cost.
const UNDER_WAY: usize = 16;

/// A sealed backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedBackup {
    /// The run.
    pub run: u32,
    /// When it was sealed, by the sealer's clock: tells days and weeks apart, and orders nothing.
    pub sealed: Timestamp,
    /// SHA-256 of its outcome as stored.
    pub(super) outcome: Sha256Digest,
}

/// What retired a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RetiredBy {
    /// The prune.
    pub(super) prune: u32,
    /// SHA-256 of the run's `retired.json`, as the prune's outcome has it.
    pub(super) document: Sha256Digest,
}

/// The decided runs of a collection.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Backups that there are, by number.
    pub(super) sealed: BTreeMap<u32, SealedBackup>,
    /// Backups that there were.
    pub(super) retired: BTreeMap<u32, RetiredBy>,
    /// Runs that came to nothing, with the word why. Void prunes are among them, and hold nothing.
    pub(super) void: BTreeMap<u32, String>,
    /// Sealed prunes.
    pub(super) prunes: BTreeSet<u32>,
    /// Who claimed each run that makes a backup, where the claim can be read.
    pub(super) owners: BTreeMap<u32, String>,
    /// The newest run, if it is open: nothing of it is ever touched.
    pub(super) open: Option<u32>,
}

/// The two documents of one run.
struct Read {
    run: u32,
    claim: Option<(Run, Sha256Digest)>,
    outcome: Option<Held<Outcome>>,
}

impl History {
    /// Reads every run of the collection.
    ///
    /// # Errors
    /// Damage to any claim or outcome that a decision rests on, and a chain that does not hold: where history was
    /// rewritten, nothing may go on the word of what is left.
    pub(super) async fn read(register: &Register) -> Result<Self, EngineError> {
        let newest = register.newest().await?;
        let read = stream::iter(1..=newest).map(|run| read(register, run)).buffered(UNDER_WAY);
        let read: Vec<Read> = read.try_collect().await?;
        let mut history = Self::default();
        let mut before: Option<Sha256Digest> = None;
        for it in read {
            check_link(register, &it, before)?;
            before = it.outcome.as_ref().map(|outcome| outcome.sha256);
            if let Some((claim, _)) = it.claim.filter(|(claim, _)| claim.kind == RunKind::Backup) {
                history.owners.insert(it.run, claim.owner);
            }
            match it.outcome {
                Some(outcome) => history.take(&outcome),
                None => {
                    register.must_be_open(it.run, newest).await?;
                    history.open = Some(it.run);
                }
            }
        }
        Ok(history)
    }

    /// Whether `owner` claimed `run`, to make a backup.
    pub(super) fn is_of(&self, run: u32, owner: &str) -> bool {
        self.owners.get(&run).is_some_and(|it| it == owner)
    }

    fn take(&mut self, held: &Held<Outcome>) {
        let outcome = &held.document;
        let run = outcome.run;
        match &outcome.decision {
            Decision::Sealed { .. } => {
                let sealed = SealedBackup { run, sealed: outcome.decided, outcome: held.sha256 };
                self.sealed.insert(run, sealed);
            }
            Decision::Void { reason, .. } => drop(self.void.insert(run, reason.clone())),
            Decision::Pruned { retired, .. } => {
                self.prunes.insert(run);
                let named: BTreeSet<u32> = retirements(outcome).collect();
                for it in retired.iter().filter(|it| named.contains(&it.run)) {
                    // Only what was a backup can be retired, and the first retirement counts.
                    if self.sealed.remove(&it.run).is_some() {
                        self.retired.insert(it.run, RetiredBy { prune: run, document: it.sha256 });
                    }
                }
            }
        }
    }

    /// The newest backup that there is.
    pub(super) fn newest(&self) -> Option<u32> {
        self.sealed.keys().next_back().copied()
    }
}

async fn read(register: &Register, run: u32) -> Result<Read, EngineError> {
    let store = &**register.store();
    let (key, claim_key) = (Key::outcome(run), Key::run(run));
    let outcome = documents::find::<Outcome>(store, &key).await?;
    let void = outcome.as_ref().is_some_and(|it| matches!(it.document.decision, Decision::Void { .. }));
    let Some((bytes, _)) = documents::find_bytes(store, &claim_key).await? else {
        if void || outcome.is_none() {
            return Ok(Read { run, claim: None, outcome });
        }
        return Err(EngineError::Missing { store: store.url().to_owned(), key: claim_key });
    };
    let claim = match decode::<Run>(&bytes) {
        Ok(claim) => Some((claim, Sha256Digest::of(&bytes))),
        // A run may be void for no other reason than this.
        Err(_) if void => None,
        Err(source) => return Err(EngineError::format(store, &claim_key, source)),
    };
    Ok(Read { run, claim, outcome })
}

/// The outcome is of this run and of this claim, and the claim names the outcome before it.
fn check_link(register: &Register, read: &Read, before: Option<Sha256Digest>) -> Result<(), EngineError> {
    let store = &**register.store();
    let malformed = |key: Key, why: String| {
        Err(EngineError::format(store, &key, FormatError::Malformed { kind: "chain", why }))
    };
    let run = read.run;
    if let Some(outcome) = &read.outcome
        && outcome.document.run != run
    {
        return malformed(Key::outcome(run), format!("it is that of run {}", outcome.document.run));
    }
    // A claim that was damaged and is void: the next link holds or does not by its own claim.
    let Some((claim, sha256)) = &read.claim else { return Ok(()) };
    if claim.run != run {
        return malformed(Key::run(run), format!("it is that of run {}", claim.run));
    }
    if let Some(outcome) = &read.outcome
        && outcome.document.claim != *sha256
    {
        let (store, key) = (store.url().to_owned(), Key::run(run));
        return Err(EngineError::Digest { store, key, expected: outcome.document.claim, found: *sha256 });
    }
    match (claim.previous, before) {
        (None, _) if run == 1 => Ok(()),
        (Some(named), Some(before)) if named == before => Ok(()),
        (Some(expected), Some(found)) => {
            let (store, key) = (store.url().to_owned(), Key::outcome(run - 1));
            Err(EngineError::Digest { store, key, expected, found })
        }
        (None | Some(_), _) => malformed(Key::run(run), "it does not follow the outcome before it".into()),
    }
}
