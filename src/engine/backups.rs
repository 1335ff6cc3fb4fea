//! Finished backups: found, opened with everything that binds them, listed, and verified again.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::destinations::Destinations;
use super::documents::{self, Held};
use super::error::EngineError;
use super::progress::{Progress, Stage};
use super::register::Register;
use super::register::retired::{all_retirements, retirements};
use super::reopening;
use super::verifier::{self, Depth, Question};
use crate::format::{
    Damage, Decision, Key, Manifest, Nonce, Outcome, Plan, PlanDocument, PlanId, Sha256Digest, Verdict,
    VerdictReference,
};
use crate::kill_point;
use crate::source::Tools;

/// A sealed run, opened: every document from the register to the manifest holds.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Number of the run.
    pub run: u32,
    /// Its plan.
    pub plan: PlanId,
    /// When it was sealed, by the sealer's clock; for people only.
    pub sealed: Timestamp,
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest as stored.
    pub manifest_sha256: Sha256Digest,
    verdicts: Vec<VerdictReference>,
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Number of the run.
    pub run: u32,
    /// When it was claimed, and by whom.
    pub claimed: Option<(Timestamp, String)>,
    /// How it ended; absent while it is open.
    pub outcome: Option<Outcome>,
    /// What it holds, if it was sealed, and not retired since.
    pub manifest: Option<Manifest>,
    /// The prune that has retired it.
    pub retired_by: Option<u32>,
    /// In a copy: it was sealed elsewhere, and not all of it lies here.
    pub elsewhere: bool,
    /// The first of its documents that can't be read as what it should be, and why: what follows it is not known.
    pub damage: Option<String>,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    /// The run.
    pub run: u32,
    /// A newer one that is not decided, if this one was chosen as the newest sealed.
    pub newer_undecided: Option<u32>,
    /// What is wrong, with the destination in which it lies.
    pub damages: Vec<(String, Damage)>,
    /// Objects read, documents included.
    pub objects_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Rows decoded and hashed.
    pub rows: u64,
}

/// A sealed run that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its number.
    pub run: u32,
    /// A newer run that is not decided: under way, left open, or without its outcome. Nobody can tell a lost
    /// outcome from one that isn't written yet, so whoever takes the older run must be told.
    pub newer_undecided: Option<u32>,
}

/// The newest sealed run, or `run` if it is given.
///
/// # Errors
/// [`EngineError::NoBackup`] if there is none, or the given one is not sealed; [`EngineError::RegisterGap`] if a
/// run that must have been decided has lost its outcome: what follows the chosen one is then not known.
pub async fn choose(register: &Register, run: Option<u32>) -> Result<Chosen, EngineError> {
    if let Some(run) = run {
        // Looked for first: a run that was decided meanwhile, and followed by the next, has lost nothing.
        let newest = register.newest().await?;
        return match register.outcome(run).await? {
            Some(decided) => match decided.outcome.decision {
                Decision::Sealed { .. } if register.is_copy().await? && !register.was_copied(run).await? => {
                    let store = register.store().url();
                    Err(EngineError::NoBackup(format!("run {run} was not copied to {store}, or not wholly")))
                }
                Decision::Sealed { .. } => Ok(Chosen { run, newer_undecided: None }),
                Decision::Pruned { .. } => {
                    Err(EngineError::NoBackup(format!("run {run} is a prune, and holds no backup")))
                }
                Decision::Void { reason, message } => {
                    Err(EngineError::NoBackup(format!("run {run} holds no backup: {reason}: {message}")))
                }
            },
            None => {
                if (1..=newest).contains(&run) {
                    register.must_be_open(run, newest).await?;
                }
                Err(EngineError::NoBackup(format!("run {run} is not there, or not decided")))
            }
        };
    }
    let newest = register.newest().await?;
    let is_copy = register.is_copy().await?;
    let mut newer_undecided = None;
    let mut retired = BTreeSet::new();
    for run in (1..=newest).rev() {
        match register.outcome(run).await? {
            None => {
                register.must_be_open(run, newest).await?;
                newer_undecided = Some(run);
            }
            Some(decided) => match &decided.outcome.decision {
                // What was retired where it was copied from need not be here.
                Decision::Sealed { .. } if is_copy => {
                    if register.was_copied(run).await? {
                        return Ok(Chosen { run, newer_undecided: None });
                    }
                }
                Decision::Sealed { .. } if !retired.contains(&run) => {
                    return Ok(Chosen { run, newer_undecided });
                }
                Decision::Pruned { .. } => retired.extend(retirements(&decided.outcome)),
                Decision::Sealed { .. } | Decision::Void { .. } => {}
            },
        }
    }
    let store = register.store().url();
    let undecided = newer_undecided.map(|run| format!("; run {run} is not decided"));
    let undecided = undecided.unwrap_or_default();
    Err(EngineError::NoBackup(format!("there is no sealed backup in {store}{undecided}")))
}

/// Opens the sealed run `run`: claim, attempts, manifest and verdicts must be those that its outcome names.
///
/// # Errors
/// What does not hold, by the name of its object.
pub async fn open(destinations: &Destinations, register: &Register, run: u32) -> Result<Backup, EngineError> {
    let store = &**register.store();
    let outcome: Held<Outcome> = documents::get(store, &Key::outcome(run)).await?;
    register.check_chain_of(run, outcome.document.claim, &outcome.document.attempts).await?;
    let Decision::Sealed { plan, manifest: manifest_sha256, verdicts } = outcome.document.decision else {
        return Err(EngineError::NoBackup(format!("run {run} holds no backup")));
    };
    register.must_not_be_retired(run).await?;
    let key = Key::of_plan(run, &plan, PlanDocument::Manifest);
    let manifest: Held<Manifest> = documents::get_bound(store, &key, manifest_sha256).await?;
    let manifest = manifest.document;
    if (manifest.run, manifest.plan) != (run, plan) {
        return Err(EngineError::Damaged(format!(
            "{}/{key}: it is the manifest of another run",
            store.url()
        )));
    }
    let sealed = outcome.document.decided;
    let backup = Backup { run, plan, sealed, manifest, manifest_sha256, verdicts };
    backup.check_verdicts(destinations).await?;
    kill_point::passed("opened", "backup");
    Ok(backup)
}

impl Backup {
    /// Every destination of the manifest has one verdict, and it is the one that the outcome names.
    async fn check_verdicts(&self, destinations: &Destinations) -> Result<(), EngineError> {
        let unproven = |name: &str, why: &str| {
            EngineError::Damaged(format!(
                "run {}: destination {name} was sealed without proof: {why}",
                self.run
            ))
        };
        for destination in &self.manifest.destinations {
            let name = &destination.name;
            let mut of_destination = self.verdicts.iter().filter(|verdict| verdict.destination == *name);
            let (Some(reference), None) = (of_destination.next(), of_destination.next()) else {
                return Err(unproven(name, "there is not exactly one verdict"));
            };
            let store = &*destinations.named(name)?.store;
            let key = Key::verdict(self.run, &self.plan, &reference.nonce);
            let verdict: Held<Verdict> = documents::get_bound(store, &key, reference.sha256).await?;
            let verdict = verdict.document;
            let asked = (verdict.nonce, verdict.manifest, verdict.part, verdict.destination.as_str());
            if asked != (reference.nonce, self.manifest_sha256, destination.part, name.as_str())
                || !verdict.damages.is_empty()
                || verdict.answers.len() != destination.count as usize
            {
                return Err(unproven(name, "its verdict is about something else"));
            }
        }
        Ok(())
    }

    /// Of each destination the verdict that proved it.
    pub(crate) fn verdicts(&self) -> &[VerdictReference] {
        &self.verdicts
    }

    /// The plan that the manifest names.
    ///
    /// # Errors
    /// If it is missing or another.
    pub async fn plan(&self, register: &Register) -> Result<Plan, EngineError> {
        let key = Key::of_plan(self.run, &self.plan, PlanDocument::Plan);
        let held: Held<Plan> =
            documents::get_bound(&**register.store(), &key, self.manifest.plan_document).await?;
        Ok(held.document)
    }

    /// Reads everything of the backup, in every destination.
    ///
    /// # Errors
    /// If a store does not answer. Damage is no error: it is what was found.
    pub async fn examine(
        &self,
        destinations: &Destinations,
        tools: &Tools,
        (depth, parallelism): (Depth, usize),
        progress: &Progress,
    ) -> Result<Verified, EngineError> {
        let objects = self.manifest.destinations.iter().map(|it| u64::from(it.count)).sum();
        progress.begin(Stage::Verify, objects, self.manifest.stored_bytes);
        let mut verified = Verified { run: self.run, ..Verified::default() };
        let mut unopened = None;
        match reopening::balance_again(self, destinations).await {
            Ok(()) => {}
            Err(error @ (EngineError::Ledger(_) | EngineError::Damaged(_))) => {
                let object = Key::of_plan(self.run, &self.plan, PlanDocument::Manifest).to_string();
                let damage = Damage { object, table: None, offsets: None, finding: error.to_string() };
                verified.damages.push((destinations.default().name.clone(), damage));
            }
            Err(error) => {
                let Some((store, key)) = place_of(&error) else { return Err(error) };
                let held = destinations.all().iter().find(|it| it.store.url() == store);
                let destination = held.map_or(&destinations.default().name, |it| &it.name).clone();
                unopened = Some((destination, verifier::as_damage(&key, error)?));
            }
        }
        for destination in &self.manifest.destinations {
            let question = Question {
                run: self.run,
                plan: self.plan,
                destination: destination.name.clone(),
                default: destination.default,
                nonce: Nonce::from_random(rand::random()),
                manifest: self.manifest_sha256,
                part: destination.part,
                pinned: false,
                depth,
            };
            let store = &destinations.named(&destination.name)?.store;
            let found = verifier::examine(store, &question, tools, parallelism, progress).await?;
            verified.objects_read += found.objects_read;
            verified.bytes_read += found.bytes_read;
            verified.rows += found.rows;
            let damages = found.damages.into_iter().map(|damage| (destination.name.clone(), damage));
            verified.damages.extend(damages);
        }
        // Also if its second reading went well: the books were not balanced.
        let named =
            |it: &(String, Damage)| verified.damages.iter().any(|(_, damage)| damage.object == it.1.object);
        if let Some(unopened) = unopened.filter(|it| !named(it)) {
            verified.damages.push(unopened);
        }
        Ok(verified)
    }
}

/// Verifies the sealed run `run` again, from the register to the last row. Damage to any document is what
/// was found, and no error.
///
/// # Errors
/// If a store does not answer, a destination was not given, or there is no such backup.
pub async fn verify(
    destinations: &Destinations,
    register: &Register,
    run: Option<u32>,
    tools: &Tools,
    parallelism: usize,
    progress: &Progress,
) -> Result<Verified, EngineError> {
    let default = &destinations.default().name;
    let damaged = |run: u32, store: Option<&str>, key: &Key, error: EngineError| {
        let damage = verifier::as_damage(key, error)?;
        let held = destinations.all().iter().find(|it| Some(it.store.url()) == store);
        let damages = vec![(held.map_or(default, |it| &it.name).clone(), damage)];
        Ok(Verified { run, damages, objects_read: 1, ..Verified::default() })
    };
    let Chosen { run, newer_undecided } = match choose(register, run).await {
        Ok(chosen) => chosen,
        Err(error @ (EngineError::Format { .. } | EngineError::RegisterGap { .. })) => {
            let (store, key) = place_of(&error).unzip();
            let run = match &error {
                EngineError::RegisterGap { run, .. } => *run,
                _ => run.unwrap_or_default(),
            };
            return damaged(run, store.as_deref(), &key.unwrap_or_else(Key::runs), error);
        }
        Err(error) => return Err(error),
    };
    let verified = match open(destinations, register, run).await {
        Ok(backup) => backup.examine(destinations, tools, (Depth::Rows, parallelism), progress).await,
        Err(EngineError::Damaged(finding)) => {
            let object = Key::outcome(run).to_string();
            let damage = Damage { object, table: None, offsets: None, finding };
            Ok(Verified { run, damages: vec![(default.clone(), damage)], ..Verified::default() })
        }
        Err(error) => match place_of(&error) {
            Some((store, key)) => damaged(run, Some(&store), &key, error),
            None => Err(error),
        },
    };
    Ok(Verified { newer_undecided, ..verified? })
}

/// The destination's URL and the name of the object that an error is about.
fn place_of(error: &EngineError) -> Option<(String, Key)> {
    match error {
        EngineError::Format { store, key, .. }
        | EngineError::Missing { store, key }
        | EngineError::RegisterGap { store, key, .. }
        | EngineError::Digest { store, key, .. }
        | EngineError::DocumentTooLarge { store, key, .. } => Some((store.clone(), key.clone())),
        _ => None,
    }
}

/// Every run of the collection, oldest first. A damaged one is a line, too: the others must not hide behind it.
///
/// # Errors
/// If the store does not answer.
pub async fn list(register: &Register) -> Result<Vec<Listed>, EngineError> {
    let mut runs = Vec::new();
    let newest = register.newest().await?;
    for run in 1..=newest {
        let mut listed = Listed {
            run,
            claimed: None,
            outcome: None,
            manifest: None,
            retired_by: None,
            elsewhere: false,
            damage: None,
        };
        let found = look_up(register, &mut listed, newest).await;
        note_damage(&mut listed, found)?;
        runs.push(listed);
    }
    let is_copy = register.is_copy().await?;
    // A copy keeps what it has, whatever was retired where it came from.
    let retirements = runs.iter().filter_map(|listed| listed.outcome.as_ref()).filter(|_| !is_copy);
    let retired = all_retirements(retirements);
    for listed in &mut runs {
        listed.retired_by = retired.get(&listed.run).copied();
        let sealed = listed.outcome.as_ref().is_some_and(|it| matches!(it.decision, Decision::Sealed { .. }));
        listed.elsewhere = is_copy && sealed && !register.was_copied(listed.run).await?;
        // What a retired one held may be gone, and that is no damage.
        if listed.retired_by.is_none() && !listed.elsewhere && listed.damage.is_none() {
            let found = look_inside(register, listed).await;
            note_damage(listed, found)?;
        }
    }
    Ok(runs)
}

fn note_damage(listed: &mut Listed, found: Result<(), EngineError>) -> Result<(), EngineError> {
    if let Err(error) = found {
        let key = place_of(&error).map_or_else(|| Key::run(listed.run), |(_, key)| key);
        let damage = verifier::as_damage(&key, error)?;
        listed.damage = Some(format!("{}: {}", damage.object, damage.finding));
    }
    Ok(())
}

async fn look_up(register: &Register, listed: &mut Listed, newest: u32) -> Result<(), EngineError> {
    let run = listed.run;
    let claim = register.run(run).await?;
    listed.claimed = Some((claim.claimed, claim.owner));
    listed.outcome = register.outcome(run).await?.map(|decided| decided.outcome);
    if listed.outcome.is_none() {
        register.must_be_open(run, newest).await?;
    }
    Ok(())
}

async fn look_inside(register: &Register, listed: &mut Listed) -> Result<(), EngineError> {
    let run = listed.run;
    if let Some(Outcome { decision: Decision::Sealed { plan, manifest, .. }, .. }) = &listed.outcome {
        let key = Key::of_plan(run, plan, PlanDocument::Manifest);
        let held = documents::get_bound::<Manifest>(&**register.store(), &key, *manifest).await?;
        listed.manifest = Some(held.document);
    }
    Ok(())
}
