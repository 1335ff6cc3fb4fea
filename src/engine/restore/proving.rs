//! The backup, proven again before the target is touched.

use super::super::backups::{self, Backup};
use super::super::error::EngineError;
use super::super::progress::Stage;
use super::super::verifier::Depth;
use super::RestoreJob;

/// Everything that binds the backup, and every stored byte, before the target is touched.
pub(super) async fn prove(job: &RestoreJob) -> Result<Backup, EngineError> {
    job.progress.begin(Stage::Resolve, 0, 0);
    let run = backups::choose(&job.register, job.run).await?;
    let backup = backups::open(&job.destinations, &job.register, run).await?;
    if let Some(expected) = job.expect_manifest
        && expected != backup.manifest_sha256
    {
        return Err(EngineError::ManifestUnexpected { run, found: backup.manifest_sha256, expected });
    }
    let depth = (Depth::Bytes, job.parallelism);
    let verified = backup.examine(&job.destinations, &job.tools, depth, &job.progress).await?;
    match verified.damages.first() {
        None => Ok(backup),
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
