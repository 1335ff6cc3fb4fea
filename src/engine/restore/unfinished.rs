//! A restore that does not come to its end takes back what it has made, as long as no other restore can be at it.

use super::super::error::EngineError;
use super::{RestoreJob, RestorePlace};
use crate::source::target::{Fence, RestoreId, TargetError, drop_unfinished, give_up};
use crate::source::{ClientEncoding, Session};

/// What a restore fails with that was ended by `error` after it began to make things: what it has made is dropped
/// while `fence` keeps others out, and what can't be is named.
pub(super) async fn given_up(
    job: &RestoreJob,
    id: &RestoreId,
    fence: Fence,
    error: EngineError,
) -> EngineError {
    let left = match error {
        // Its message names both databases: which of them is there is what isn't known.
        EngineError::Target(TargetError::RenameUnknown { .. }) => return error,
        // Evidence of a defect of ours, or of the target's.
        EngineError::NotEqual(_) => Some(format!("{}, kept to be looked at", name(job, id))),
        _ => match fence.check().await {
            Ok(()) => take_back(job, id).await,
            // Another restore of the same identity may be building there.
            Err(lost) => Some(format!("{} ({})", name(job, id), because(&lost))),
        },
    };
    crate::engine::best_effort("the lock ends with its session", fence.release().await);
    let stopped = matches!(error, EngineError::Interrupted | EngineError::DeadlineExceeded(_));
    match left {
        None if !stopped => error,
        left => EngineError::RestoreGivenUp { source: Box::new(error), left },
    }
}

/// Drops what was made; what is left is answered.
async fn take_back(job: &RestoreJob, id: &RestoreId) -> Option<String> {
    let dropped = match job.policy.place {
        RestorePlace::NewDatabase => {
            let maintenance = job.target.with_database(&job.maintenance_database);
            drop_unfinished(&maintenance, &job.target.database, id).await.map(|_| None)
        }
        RestorePlace::EmptySchemas => take_schemas_back(job, id).await,
    };
    match dropped {
        Ok(left) => left,
        // Then it isn't the restore's.
        Err(TargetError::DatabaseNotOurs { .. }) => None,
        Err(error) => Some(format!("{} ({})", name(job, id), because(&error))),
    }
}

async fn take_schemas_back(job: &RestoreJob, id: &RestoreId) -> Result<Option<String>, TargetError> {
    let session = Session::connect(&job.target, "restore", &ClientEncoding::Utf8).await?;
    let unrecorded = give_up(&session, id).await?;
    session.close().await?;
    if unrecorded.is_empty() {
        return Ok(None);
    }
    let names = unrecorded.iter().map(|schema| format!("{schema:?}")).collect::<Vec<_>>().join(", ");
    Ok(Some(format!("what schema {names} holds, which was not recorded: empty it if nothing in it is yours")))
}

/// What the restore builds.
fn name(job: &RestoreJob, id: &RestoreId) -> String {
    match job.policy.place {
        RestorePlace::NewDatabase => format!("database {:?}", id.unfinished_name(&job.target.database)),
        RestorePlace::EmptySchemas => {
            format!("what is recorded in schema \"vouchsafe_restore\" of database {:?}", job.target.database)
        }
    }
}

fn because(error: &TargetError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
