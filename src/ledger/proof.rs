//! Verdicts against the books: the last comparison before a seal.

use std::collections::BTreeMap;

use crate::format::{
    Decision, Fingerprint, Manifest, Nonce, PartEntry, PlanId, Settlement, Sha256Digest, Verdict,
    VerdictReference,
};
use crate::mutant::{self, Mutant};

use super::balance::Balanced;
use super::error::LedgerError;

/// What a verifier said of its own verdict, outside the store: in a pod's termination message, or as the
/// return value of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Name of the destination.
    pub destination: String,
    /// SHA-256 of the verdict as stored.
    pub verdict: Sha256Digest,
}

/// A backup of which every stored byte was read by something other than its writer, and every count agrees.
///
/// Made by [`Balanced::prove`] only, and consumed by the seal.
#[derive(Debug)]
#[must_use = "a proof that is not sealed proves nothing"]
pub struct Proven {
    run: u32,
    decision: Decision,
}

impl Proven {
    /// The run.
    #[must_use]
    pub const fn run(&self) -> u32 {
        self.run
    }

    /// The verdicts that it rests on.
    #[must_use]
    pub fn verdicts(&self) -> &[VerdictReference] {
        match &self.decision {
            Decision::Sealed { verdicts, .. } => verdicts,
            Decision::Pruned { .. } | Decision::Void { .. } => &[],
        }
    }

    /// What to write into the register.
    #[must_use]
    pub fn into_decision(self) -> Decision {
        self.decision
    }
}

impl Balanced {
    /// Compares every verdict with the books and with its witness. `question` is the nonce that was issued
    /// after the manifest had been written under the digest `manifest`; `parts` are the digests of the parts
    /// as stored, by destination.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] if a verifier found damage, [`LedgerError::Verdict`] if a verdict is missing,
    /// stale, of something else, or answers one ticket differently.
    pub fn prove(
        &self,
        question: Nonce,
        manifest: (&Manifest, Sha256Digest),
        verdicts: &[(Verdict, Sha256Digest)],
        witnesses: &[Witness],
    ) -> Result<Proven, LedgerError> {
        let mut references = Vec::new();
        let last = self.shares.keys().next_back();
        for (name, share) in &self.shares {
            if mutant::is(Mutant::SealBeforeTheLastVerdict) && self.shares.len() > 1 && Some(name) == last {
                continue;
            }
            let refuse = |why: String| LedgerError::Verdict { destination: name.clone(), why };
            let mut of_destination = verdicts.iter().filter(|(verdict, _)| verdict.destination == *name);
            let (Some((verdict, sha256)), None) = (of_destination.next(), of_destination.next()) else {
                return Err(refuse("there is not exactly one".into()));
            };
            let part = manifest.0.destinations.iter().find(|d| d.name == *name).map(|d| d.part);
            check_identity(self.plan.run, self.plan.plan, question, manifest.1, part, verdict)
                .map_err(refuse)?;
            if let Some(damage) = verdict.damages.first() {
                return Err(LedgerError::Damaged {
                    destination: name.clone(),
                    object: damage.object.clone(),
                    finding: damage.finding.clone(),
                });
            }
            let witness = Witness { destination: name.clone(), verdict: *sha256 };
            if !witnesses.contains(&witness) {
                return Err(refuse("its writer did not witness it".into()));
            }
            check_answers(&share.part.entries, verdict).map_err(refuse)?;
            references.push(VerdictReference {
                destination: name.clone(),
                nonce: verdict.nonce,
                sha256: *sha256,
            });
        }
        let decision = Decision::Sealed { plan: self.plan.plan, manifest: manifest.1, verdicts: references };
        Ok(Proven { run: self.plan.run, decision })
    }
}

fn check_identity(
    run: u32,
    plan: PlanId,
    question: Nonce,
    manifest: Sha256Digest,
    part: Option<Sha256Digest>,
    verdict: &Verdict,
) -> Result<(), String> {
    if (verdict.run, verdict.plan) != (run, plan) {
        return Err("it is of another run or plan".into());
    }
    if verdict.nonce != question {
        return Err("it answers an earlier question".into());
    }
    if verdict.manifest != manifest {
        return Err("it was asked about another manifest".into());
    }
    if Some(verdict.part) != part {
        return Err("it read another part".into());
    }
    Ok(())
}

fn check_answers(entries: &[PartEntry], verdict: &Verdict) -> Result<(), String> {
    let answers: BTreeMap<u32, _> = verdict.answers.iter().map(|answer| (answer.ticket, answer)).collect();
    if answers.len() != entries.len() || verdict.answers.len() != entries.len() {
        return Err(format!("{} answers for {} tickets", verdict.answers.len(), entries.len()));
    }
    for entry in entries {
        let Some(answer) = answers.get(&entry.ticket) else {
            return Err(format!("no answer for ticket {}", entry.ticket));
        };
        let (length, sha256, fingerprint, counted) = match &entry.settlement {
            Settlement::Rows { object, fingerprint, .. } => {
                (object.length, Some(object.sha256), *fingerprint, 0)
            }
            Settlement::Empty => (0, None, Fingerprint::EMPTY, 0),
            Settlement::Catalog { object, entries } => {
                (object.length, Some(object.sha256), Fingerprint::EMPTY, *entries)
            }
        };
        let object = entry.settlement.object().map(|object| &object.key);
        if (answer.object.as_ref(), answer.length, answer.sha256) != (object, length, sha256) {
            return Err(format!("ticket {}: it read other bytes than were written", entry.ticket));
        }
        if (answer.fingerprint, answer.entries) != (fingerprint, counted) {
            return Err(format!("ticket {}: it counted other rows than were written", entry.ticket));
        }
    }
    Ok(())
}
