//! Which runs a sealed prune has retired, and what a prune is to those who come after it.

use std::collections::BTreeMap;

use super::super::documents;
use super::super::error::EngineError;
use super::{DEAD_PRUNE, Register};
use crate::format::{Decision, Key, Outcome, Retired, RunKind};

/// Intervals of the heartbeat that a claim waits for a prune that is alive: retiring is short, a document for each
/// run that goes, so one that takes longer is stuck, and the reader should be told.
const PATIENCE_WITH_PRUNES: u32 = 12;

impl Register {
    /// The prune that has retired `run`, if one has. A `retired.json` shows where to look; that an outcome names the
    /// run is what counts, because a prune that came to nothing leaves its `retired.json` behind.
    ///
    /// # Errors
    /// If an outcome that must be read can't be.
    pub async fn retired_by(&self, run: u32) -> Result<Option<u32>, EngineError> {
        if !self.exists(&Key::retired(run)).await? {
            return Ok(None);
        }
        let meant = match documents::find::<Retired>(&*self.store, &Key::retired(run)).await {
            Ok(held) => held.map(|held| held.document.prune),
            // Only a hint was lost.
            Err(EngineError::Format { .. }) => None,
            Err(error) => return Err(error),
        };
        let newest = self.newest().await?;
        for prune in meant.into_iter().filter(|prune| *prune > run).chain(run + 1..=newest) {
            if let Some(decided) = self.outcome(prune).await?
                && retirements(&decided.outcome).any(|retired| retired == run)
            {
                return Ok(Some(prune));
            }
        }
        Ok(None)
    }

    /// Fails if a sealed prune has retired `run`.
    ///
    /// # Errors
    /// [`EngineError::RunRetired`].
    pub(crate) async fn must_not_be_retired(&self, run: u32) -> Result<(), EngineError> {
        match self.retired_by(run).await? {
            Some(prune) => Err(EngineError::RunRetired { run, prune }),
            None => Ok(()),
        }
    }

    /// The open run `run` refused a claim with `error`. If it is another owner's prune, waits until it is over, or
    /// voids it if it is dead: that takes nothing from anybody, as a prune proves nothing and can be begun again.
    ///
    /// # Errors
    /// `error`, if it is no prune, or one that is alive and does not end.
    pub(super) async fn let_prune_pass(&self, run: u32, error: EngineError) -> Result<(), EngineError> {
        let in_the_way = matches!(error, EngineError::HeldByAnother { .. } | EngineError::Busy { .. });
        let passes = in_the_way && self.run(run).await?.kind == RunKind::Prune;
        match error {
            EngineError::HeldByAnother { .. } if passes => {
                self.void(run, DEAD_PRUNE, "nobody was at it when the next run began".into()).await.map(drop)
            }
            EngineError::Busy { .. } if passes => {
                tracing::info!(run, "waits for a prune that is under way");
                let deadline = tokio::time::Instant::now() + self.heartbeat * PATIENCE_WITH_PRUNES;
                while tokio::time::Instant::now() < deadline {
                    self.pause(self.heartbeat / 4).await?;
                    let last = self.attempts(run).await?.pop();
                    if self.outcome(run).await?.is_some()
                        || !self.is_alive(run, last.as_ref().map(|held| &held.document)).await?
                    {
                        return Ok(());
                    }
                }
                Err(error)
            }
            error => Err(error),
        }
    }
}

/// The runs that an outcome retires: none, unless it is that of a sealed prune.
pub(crate) fn retirements(outcome: &Outcome) -> impl Iterator<Item = u32> {
    let retired = match &outcome.decision {
        Decision::Pruned { retired, .. } => &retired[..],
        Decision::Sealed { .. } | Decision::Void { .. } => &[],
    };
    // A prune retires what was decided before it: a later number is nothing that one of ours has written.
    retired.iter().map(|it| it.run).filter(|run| *run < outcome.run)
}

/// Of several outcomes the runs that they retire, each with the prune that did.
pub(crate) fn all_retirements<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> BTreeMap<u32, u32> {
    let all = outcomes.into_iter().flat_map(|outcome| retirements(outcome).map(|run| (run, outcome.run)));
    all.collect()
}
