//! What must hold in every state, read from the store and from what the processes have returned.

use std::collections::BTreeMap;

use bytes::Bytes;
use vouchsafe::format::{Attempt, Decision, Document, Key, Outcome, Run, Sha256Digest, decode};

use super::process::{Report, manifest_key};

type Objects = BTreeMap<Key, Bytes>;

/// Says what does not hold.
pub(crate) fn hold(objects: &Objects, reports: &[Option<Report>]) -> Result<(), String> {
    let mut previous = None;
    let mut runs = 0;
    for run in 1.. {
        let Some((claim, claim_sha256)) = find::<Run>(objects, &Key::run(run))? else { break };
        if run > 1 && previous.is_none() {
            return Err(format!("run {run} was claimed before run {} was decided", run - 1));
        }
        if (claim.run, claim.previous) != (run, previous) {
            return Err(format!("run {run} does not name the outcome before it: {claim:?}"));
        }
        let outcome = find::<Outcome>(objects, &Key::outcome(run))?;
        previous = outcome.as_ref().map(|(_, sha256)| *sha256);
        if let Some((outcome, _)) = &outcome {
            decided(objects, run, claim_sha256, outcome)?;
        }
        told(run, outcome.as_ref().map(|(outcome, _)| outcome), reports)?;
        runs = run;
    }
    // Dense: nothing of a run that nobody claimed.
    let claimed: Vec<String> = (1..=runs).map(|run| format!("{}/", Key::run_prefix(run))).collect();
    match objects.keys().find(|key| !claimed.iter().any(|prefix| key.as_str().starts_with(prefix))) {
        Some(stray) => Err(format!("{stray} belongs to no run of 1 to {runs}")),
        None => Ok(()),
    }
}

fn find<D: Document>(objects: &Objects, key: &Key) -> Result<Option<(D, Sha256Digest)>, String> {
    let Some(bytes) = objects.get(key) else { return Ok(None) };
    let document = decode(bytes).map_err(|error| format!("{key}: {error}"))?;
    Ok(Some((document, Sha256Digest::of(bytes))))
}

/// An outcome names the claim, the attempts up to its own, and, if it seals, what was there to be sealed.
fn decided(objects: &Objects, run: u32, claim: Sha256Digest, outcome: &Outcome) -> Result<(), String> {
    if outcome.claim != claim {
        return Err(format!("the outcome of run {run} names another claim"));
    }
    let mut last = None;
    for (number, named) in (1..).zip(&outcome.attempts) {
        match find::<Attempt>(objects, &Key::attempt(run, number))? {
            Some((attempt, sha256)) if sha256 == *named => last = Some(attempt),
            other => {
                return Err(format!(
                    "the outcome of run {run} names another attempt {number} than {other:?}"
                ));
            }
        }
    }
    let Decision::Sealed { plan, manifest, verdicts } = &outcome.decision else { return Ok(()) };
    if last.is_none_or(|attempt| attempt.nonce != outcome.decided_by || attempt.plan != *plan) {
        return Err(format!("run {run} is sealed by somebody who holds no turn for its plan"));
    }
    let is =
        |key: &Key, sha256: &Sha256Digest| objects.get(key).is_some_and(|it| Sha256Digest::of(it) == *sha256);
    if !is(&manifest_key(run, *plan), manifest) {
        return Err(format!("run {run} is sealed without its manifest"));
    }
    match verdicts.as_slice() {
        [verdict] if is(&Key::verdict(run, plan, &verdict.nonce), &verdict.sha256) => Ok(()),
        _ => Err(format!("run {run} is sealed without its verdict")),
    }
}

/// What processes have returned about a run is what the register says, and one at most says that it sealed.
fn told(run: u32, outcome: Option<&Outcome>, reports: &[Option<Report>]) -> Result<(), String> {
    let mut sealers = 0;
    for (process, report) in reports.iter().enumerate() {
        let decision = outcome.map(|outcome| &outcome.decision);
        let right = match report {
            Some(Report::Sealed { run: of, plan: told }) if *of == run => {
                sealers += 1;
                matches!(decision, Some(Decision::Sealed { plan, .. }) if plan == told)
            }
            Some(Report::Void { run: of }) if *of == run => matches!(decision, Some(Decision::Void { .. })),
            Some(Report::SealedElsewhere { run: of }) if *of == run => {
                matches!(decision, Some(Decision::Sealed { .. }))
            }
            _ => true,
        };
        if !right {
            return Err(format!("process {process} says {report:?}, and the register {decision:?}"));
        }
    }
    if sealers > 1 {
        return Err(format!("{sealers} processes say that they sealed run {run}"));
    }
    Ok(())
}
