//! Deletion of everything that one owner has made, because a person deleted that owner.
//!
//! It is the word of a person about their own backup: so no retention is asked, nothing need stay, nobody reads a
//! survivor first, and no minimum age is waited for. What is the owner's is what the claims in the bucket say, which
//! the outcomes name by digest; nobody else's word counts.

use super::history::History;
use super::{PruneJob, Pruned, consume, plan};
use crate::engine::error::EngineError;

/// The reason in the outcome of a run that was open when its Backup was deleted.
pub const BACKUP_DELETED: &str = "BackupDeleted";

/// Voids the open run of the owner that `job.rule` names, if there is one, retires its backups, and deletes what is in
/// its runs. Whoever asks knows that nobody is at that run any more; one that is, all the same, just can't seal.
///
/// # Errors
/// As [`plan`] and [`consume`]. Whatever it was, the same may be begun again.
pub async fn delete_of_owner(job: &PruneJob) -> Result<Pruned, EngineError> {
    job.interrupt.race(give_up(job)).await?;
    let shown = plan(job).await?;
    consume(job, &shown).await
}

async fn give_up(job: &PruneJob) -> Result<(), EngineError> {
    let Some(owner) = &job.rule.owner else { return Ok(()) };
    let history = History::read(&job.register).await?;
    if let Some(open) = history.open.filter(|run| history.is_of(*run, owner)) {
        let decided =
            job.register.void(open, BACKUP_DELETED, format!("its Backup, {owner}, was deleted")).await?;
        tracing::info!(run = open, ours = decided.ours, "the open run is decided");
    }
    Ok(())
}
