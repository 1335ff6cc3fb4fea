//! Whether a seal is believed: by the witnesses that this controller recorded itself. Pure.

use std::collections::BTreeSet;

use super::{Draft, Plan};
use crate::api::{
    BackupPhase, ErrorCounts, LastWord, LayerStatus, Proof, WalPosition, Witness, digest_of_verdicts,
};
use crate::controller::jobs::{JobState, ObservedJob};
use crate::controller::reasons::ControllerReason as Reason;

impl Draft<'_> {
    /// Succeeded, if every destination has a witness that this controller itself recorded, and the seal names just
    /// those.
    pub(super) fn sealed(mut self, word: &LastWord) -> Plan {
        let LastWord::Sealed {
            run,
            manifest_sha256,
            verdicts_sha256,
            objects_read,
            bytes_read,
            rows,
            bytes_stored: _,
            sealed_at,
            taken,
            errors,
        } = word
        else {
            return self.plan("no seal");
        };
        let Some(witnesses) = self.witnesses_of(verdicts_sha256) else {
            let message = format!(
                "its coordinator says that run {run} is sealed, and the verifiers' pods have not left those verdicts"
            );
            return self
                .fails(Reason::WitnessesDiffer.failure(message, "don't trust this run: verify it by hand"));
        };
        let number = |value: &u64| i64::try_from(*value).ok();
        self.status.proof = Some(Proof {
            manifest_sha256: Some(manifest_sha256.clone()),
            objects_read: number(objects_read),
            bytes_read: number(bytes_read),
            rows_counted: number(rows),
            sealed_at: Some(sealed_at.clone()),
            witnesses,
        });
        let number_of_run = Some(i64::from(*run));
        self.status.layer = Some(LayerStatus { type_: "Full".into(), chain: number_of_run, parent: None });
        self.status.to = Some(WalPosition { lsn: None, time: Some(taken.clone()) });
        let met = number(&errors.values().sum());
        let by_reason =
            errors.iter().filter_map(|(reason, met)| Some((reason.clone(), number(met)?))).collect();
        // A run that was sealed has got over each of them.
        self.status.errors = Some(ErrorCounts { met, retried: met, by_reason: Some(by_reason) });
        self.ends(BackupPhase::Succeeded, "sealed, and witnessed")
    }

    /// The witnesses of just the verdicts that a seal names. Of whichever question: an attempt that was believed dead
    /// may have sealed while the next one asked anew, and the verdicts name their question themselves. `None` if
    /// somebody who was asked has left no verdict, or another one.
    fn witnesses_of(&self, verdicts_sha256: &str) -> Option<Vec<Witness>> {
        let mut known = self.status.proof.as_ref().map_or_else(Vec::new, |proof| proof.witnesses.clone());
        // Those of an earlier question are not recorded any more; their pods still say what they said.
        known.extend(self.attempts.jobs().iter().filter_map(witness));
        let nonces: BTreeSet<&str> = known.iter().map(|it| it.nonce.as_str()).collect();
        nonces.into_iter().find_map(|nonce| {
            let mut witnesses: Vec<Witness> = Vec::new();
            for witness in known.iter().filter(|it| it.nonce == nonce) {
                if !witnesses.iter().any(|it| it.destination == witness.destination) {
                    witnesses.push(witness.clone());
                }
            }
            witnesses.sort_by(|one, other| one.destination.cmp(&other.destination));
            let asked = self.asked_with(nonce);
            let complete = !asked.is_empty()
                && asked.iter().all(|asked| witnesses.iter().any(|it| it.destination == *asked));
            let recorded = digest_of_verdicts(
                witnesses.iter().map(|it| (it.destination.as_str(), it.verdict_sha256.as_str())),
            );
            (complete && recorded == verdicts_sha256).then_some(witnesses)
        })
    }

    /// The destinations that were asked about with `nonce`: as published, and as verifiers were started for it.
    fn asked_with(&self, nonce: &str) -> BTreeSet<&str> {
        let published = self.run.orders.iter().filter(|_| self.run.nonce.as_deref() == Some(nonce));
        let processes = self.attempts.processes.iter().map(|it| (&*it.name, &*it.order));
        let jobs = self.attempts.jobs().iter().map(|it| (&*it.process, &*it.order));
        let started = processes.chain(jobs).filter(|(_, order)| nonce_of(order) == Some(nonce));
        let started = started.filter_map(|(process, _)| process.strip_prefix(VERIFIER));
        published.map(|it| it.destination.as_str()).chain(started).collect()
    }

    /// The first witness of a destination and nonce stays.
    pub(super) fn record(&mut self, witness: Witness) {
        let proof = self.status.proof.get_or_insert_default();
        proof.witnesses.retain(|it| it.nonce == witness.nonce);
        if !proof.witnesses.iter().any(|it| it.destination == witness.destination) {
            proof.witnesses.push(witness);
            proof.witnesses.sort_by(|one, other| one.destination.cmp(&other.destination));
        }
    }
}

/// What the names of verifiers begin with.
const VERIFIER: &str = "verifier-";

/// What a verifier was asked with, by its order.
fn nonce_of(order: &str) -> Option<&str> {
    order.split_once(' ').map(|(_plan, nonce)| nonce)
}

/// What the pod of a Job has left, if it is a verifier's and answers its question.
fn witness(job: &ObservedJob) -> Option<Witness> {
    let destination = job.process.strip_prefix(VERIFIER)?;
    let JobState::Ended { pod: Some(pod), word: Some(LastWord::Verdict { nonce, sha256 }), .. } = &job.state
    else {
        return None;
    };
    (nonce_of(&job.order) == Some(nonce)).then(|| Witness {
        destination: destination.to_owned(),
        pod: pod.clone(),
        nonce: nonce.clone(),
        verdict_sha256: sha256.clone(),
    })
}
