//! Whether a seal is believed: by the witnesses that this controller recorded itself. Pure.

use super::{Draft, Plan};
use crate::api::{
    BackupPhase, ErrorCounts, LastWord, LayerStatus, Proof, WalPosition, Witness, digest_of_verdicts,
};
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
        let proof = self.status.proof.clone().unwrap_or_default();
        let nonce = self.run.nonce.clone().unwrap_or_default();
        let of_nonce: Vec<&Witness> = proof.witnesses.iter().filter(|it| it.nonce == nonce).collect();
        let recorded = digest_of_verdicts(
            of_nonce.iter().map(|it| (it.destination.as_str(), it.verdict_sha256.as_str())),
        );
        let complete = !self.run.orders.is_empty()
            && self.run.orders.iter().all(|it| of_nonce.iter().any(|w| w.destination == it.destination));
        if !complete || recorded != *verdicts_sha256 {
            let message = format!(
                "its coordinator says that run {run} is sealed, and the verifiers' pods have not left those verdicts"
            );
            return self
                .fails(Reason::WitnessesDiffer.failure(message, "don't trust this run: verify it by hand"));
        }
        let number = |value: &u64| i64::try_from(*value).ok();
        self.status.proof = Some(Proof {
            manifest_sha256: Some(manifest_sha256.clone()),
            objects_read: number(objects_read),
            bytes_read: number(bytes_read),
            rows_counted: number(rows),
            sealed_at: Some(sealed_at.clone()),
            witnesses: of_nonce.into_iter().cloned().collect(),
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
