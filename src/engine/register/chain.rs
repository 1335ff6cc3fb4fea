//! The documents that an outcome stands on: whoever seals looks for them, and so does whoever opens.

use super::super::documents::{self, Held};
use super::super::error::EngineError;
use super::{OpenRun, Register, Turn};
use crate::format::{Attempt, Collection, Key, Outcome, Run, Sha256Digest};

impl Register {
    /// What an outcome of `run` stands on: the claim and the attempts, by their digests, the collection, and the
    /// outcome before.
    ///
    /// # Errors
    /// The first that is missing, or another.
    pub(crate) async fn check_chain(
        &self,
        run: u32,
        claim: Sha256Digest,
        attempts: &[Sha256Digest],
    ) -> Result<(), EngineError> {
        let store = &*self.store;
        let claim: Held<Run> = documents::get_bound(store, &Key::run(run), claim).await?;
        documents::get_bound::<Collection>(store, &Key::collection(), claim.document.collection).await?;
        if run > 1 {
            let expected = claim.document.previous.ok_or_else(|| {
                EngineError::Damaged(format!("run {run} does not name the outcome before it"))
            })?;
            documents::get_bound::<Outcome>(store, &Key::outcome(run - 1), expected).await?;
        }
        for (position, digest) in attempts.iter().enumerate() {
            let number = u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1);
            documents::get_bound::<Attempt>(store, &Key::attempt(run, number), *digest).await?;
        }
        Ok(())
    }

    /// [`check_chain`](Self::check_chain) of a run that is to be sealed: a document that was acknowledged and is
    /// not there would make a seal that nobody can open.
    ///
    /// # Errors
    /// The first that is missing, or another.
    pub(crate) async fn check_own_chain(&self, turn: &Turn) -> Result<(), EngineError> {
        let OpenRun { run, claim, attempts, .. } = turn.as_open();
        self.check_chain(run, claim, &attempts).await
    }
}
