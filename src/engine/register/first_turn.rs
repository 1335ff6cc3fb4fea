//! From a claim to its first turn, and what becomes of a claim that leads to none.

use super::super::documents;
use super::super::error::EngineError;
use super::{OpenRun, Register, Turn};
use crate::format::{Key, PlanId, Run, Sha256Digest};

impl Register {
    /// The first turn at a run that was just claimed. If there is none to be had, the run is voided, as nobody
    /// but its owner could go on with it.
    pub(super) async fn first_turn(
        &self,
        run: u32,
        claim: Sha256Digest,
        plan: PlanId,
    ) -> Result<Turn, EngineError> {
        // Read back, whatever the create said: all that follows would be written into a run that is not there,
        // and the next process would claim its number once more.
        let found = documents::get_bound::<Run>(&*self.store, &Key::run(run), claim).await;
        let open = OpenRun { run, plan: None, claim, attempts: Vec::new() };
        let turn = match found {
            Ok(_) => self.take_turn(open, plan, false, "the first attempt".into()).await,
            Err(error) => Err(error),
        };
        match turn {
            Err(error) if !matches!(error, EngineError::LostTurn { .. }) => {
                Err(self.give_claim_up(run, plan, error).await)
            }
            turn => turn,
        }
    }

    /// Voids a run of which this process has the claim and no turn, unless another process has taken one.
    pub(super) async fn give_claim_up(&self, run: u32, plan: PlanId, error: EngineError) -> EngineError {
        let message = error.to_string().chars().take(2000).collect();
        let voided = async {
            // The plan's id is this process's own: by it the attempt is told whose answer was lost.
            let attempts = self.attempts(run).await?;
            if attempts.iter().any(|held| held.document.plan != plan) {
                return Err(EngineError::LostTurn { run, attempt: 0 });
            }
            self.void(run, error.reason(), message).await
        };
        match voided.await {
            Ok(decided) if decided.ours => error,
            Ok(decided) => EngineError::DecidedElsewhere { run, outcome: Box::new(decided.outcome) },
            Err(known @ (EngineError::LostTurn { .. } | EngineError::OutcomeUnknown { .. })) => known,
            // The claim is not there: there is no run.
            Err(EngineError::Missing { .. }) => error,
            Err(source) => EngineError::OutcomeUnknown { run, source: Box::new(source) },
        }
    }
}
