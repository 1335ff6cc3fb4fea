//! How a run ends: one outcome, made once and read back.

use jiff::Timestamp;

use super::super::documents::{self, Held};
use super::super::error::EngineError;
use super::{Decided, OpenRun, Register, Turn};
use crate::format::{Decision, Key, Nonce, Outcome, Sha256Digest};
use crate::mutant::{self, Mutant};
use crate::store::StoreErrorKind;

impl Register {
    /// Decides a run of which this process holds a turn. Whoever creates the outcome first is right, and
    /// what is found there is adopted.
    ///
    /// # Errors
    /// [`EngineError::OutcomeUnknown`] if the store does not say how the run ended.
    pub async fn decide(&self, turn: &Turn, decision: Decision) -> Result<Decided, EngineError> {
        let OpenRun { run, claim, attempts, .. } = turn.as_open();
        self.create_outcome(run, claim, attempts, turn.nonce, decision).await
    }

    /// Voids a run of which this process holds a turn, unless it was overtaken: whatever went wrong here, the
    /// run is then the newer attempt's to end.
    ///
    /// # Errors
    /// [`EngineError::LostTurn`] or [`EngineError::DecidedElsewhere`] if it was overtaken;
    /// [`EngineError::OutcomeUnknown`] if the store does not say how the run ended.
    pub async fn abandon(&self, turn: &Turn, reason: &str, message: String) -> Result<Decided, EngineError> {
        match self.still_ours(turn).await {
            Ok(()) => {}
            Err(lost @ (EngineError::LostTurn { .. } | EngineError::DecidedElsewhere { .. })) => {
                return Err(lost);
            }
            Err(source) => {
                return Err(EngineError::OutcomeUnknown { run: turn.run, source: Box::new(source) });
            }
        }
        self.decide(turn, Decision::Void { reason: reason.to_owned(), message }).await
    }

    /// Voids a run of which this process holds no turn. A claim that is damaged or gone must not keep the
    /// collection closed for ever: the outcome then names the digest of what lies there, if only of nothing.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub async fn void(&self, run: u32, reason: &str, message: String) -> Result<Decided, EngineError> {
        let claim = documents::find_bytes(&*self.store, &Key::run(run)).await?;
        let claim = Sha256Digest::of(claim.as_ref().map_or(&[], |(bytes, _)| &bytes[..]));
        self.void_claim(run, claim, reason, message).await
    }

    /// The same for a claim that is known, whatever lies there now.
    pub(super) async fn void_claim(
        &self,
        run: u32,
        claim: Sha256Digest,
        reason: &str,
        message: String,
    ) -> Result<Decided, EngineError> {
        // By digest alone: a damaged one is as much a reason to void the run as any other.
        let mut attempts = Vec::new();
        for number in 1.. {
            match documents::find_bytes(&*self.store, &Key::attempt(run, number)).await? {
                Some((bytes, _)) => attempts.push(Sha256Digest::of(&bytes)),
                None => break,
            }
        }
        let decision = Decision::Void { reason: reason.to_owned(), message };
        self.create_outcome(run, claim, attempts, Nonce::from_random(rand::random()), decision).await
    }

    async fn create_outcome(
        &self,
        run: u32,
        claim: Sha256Digest,
        attempts: Vec<Sha256Digest>,
        decided_by: Nonce,
        decision: Decision,
    ) -> Result<Decided, EngineError> {
        let outcome = Outcome { run, claim, attempts, decision, decided_by, decided: Timestamp::now() };
        let key = Key::outcome(run);
        let unknown = |source: EngineError| EngineError::OutcomeUnknown { run, source: Box::new(source) };
        let unsettled = match documents::put(&*self.store, &key, outcome).await {
            Ok(_) => None,
            Err(EngineError::Store(error)) if error.kind() == StoreErrorKind::AlreadyExists => {
                if mutant::is(Mutant::ConflictMeansMine) {
                    tracing::warn!("mutant: a conflict is taken for a success");
                }
                None
            }
            Err(error) => Some(error),
        };
        // Read back, whatever the create said: the register is what lies there, not what was sent. It may be
        // an earlier decision of this very attempt, whose answer was lost or not waited for (a deadline that
        // passes during the seal, and then the void): that is adopted like any other. Nothing there after a
        // create that failed decides nothing: it may still arrive.
        let held: Held<Outcome> = match (documents::get(&*self.store, &key).await, unsettled) {
            (Ok(held), _) => held,
            (Err(_), Some(error)) | (Err(error), None) => return Err(unknown(error)),
        };
        self.must_be_of(run, &held).map_err(unknown)?;
        let ours = held.document.decided_by == decided_by;
        Ok(Decided { outcome: held.document, sha256: held.sha256, ours })
    }
}
