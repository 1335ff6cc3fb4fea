//! The backup, proven again before the target is touched.

use super::super::backups::{self, Backup, Chosen};
use super::super::error::EngineError;
use super::super::progress::Stage;
use super::super::verifier::Depth;
use super::RestoreJob;

/// Everything that binds the backup, and every stored byte, before the target is touched. With it, a newer run
/// that is not decided.
pub(super) async fn prove(job: &RestoreJob) -> Result<(Backup, Option<u32>), EngineError> {
    job.progress.begin(Stage::Resolve, 0, 0);
    let Chosen { run, newer_undecided } = backups::choose(&job.register, job.run).await?;
    if let Some(newer) = newer_undecided {
        job.progress.note(format!("run {newer} is newer and not decided; run {run} is restored"));
    }
    let backup = backups::open(&job.destinations, &job.register, run).await?;
    if let Some(expected) = job.expect_manifest
        && expected != backup.manifest_sha256
    {
        return Err(EngineError::ManifestUnexpected { run, found: backup.manifest_sha256, expected });
    }
    let depth = (Depth::Bytes, job.parallelism);
    let verified = backup.examine(&job.destinations, &job.tools, depth, &job.progress).await?;
    match verified.damages.first() {
        None => Ok((backup, newer_undecided)),
        Some((destination, damage)) => {
            let more = match verified.damages.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more objects"),
            };
            Err(EngineError::Damaged(format!(
                "run {run}, destination {destination}: {damage}{more}; the target was not touched"
            )))
        }
    }
}
