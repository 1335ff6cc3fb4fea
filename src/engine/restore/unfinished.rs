//! A restore that does not come to its end takes back what it has made, as long as no other restore can be at it.

use std::sync::OnceLock;

use super::super::error::EngineError;
use super::{RestoreJob, RestorePlace};
use crate::source::target::{Fence, RestoreId, TargetError, drop_unfinished, exists, give_up, others_are_in};
use crate::source::{ClientEncoding, EndpointConfig, Session};

/// How far a restore has come.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// The OID of the database that it has made.
    pub(super) database: OnceLock<u32>,
    /// Everything is there, and equals the backup.
    pub(super) compared: OnceLock<()>,
}

/// What a restore fails with that was ended by `error` after it began to make things: what it has made is dropped
/// while `fence` keeps others out, and what can't be is named.
pub(super) async fn given_up(
    job: &RestoreJob,
    (id, made): (&RestoreId, &Made),
    fence: Fence,
    error: EngineError,
) -> EngineError {
    let left = match error {
        // Its message names both databases: which of them is there is what isn't known.
        EngineError::Target(TargetError::RenameUnknown { .. }) => return error,
        // Evidence of a defect of ours, or of the target's.
        EngineError::NotEqual(_) => Some(format!("{}, kept to be looked at", name(job, id))),
        // Hours of work, and proven: it only lacks its name.
        _ if made.compared.get().is_some() => {
            Some(format!("{}, whole and compared, and kept", name(job, id)))
        }
        _ => match fence.check().await {
            Ok(()) => take_back(job, id, made).await,
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
async fn take_back(job: &RestoreJob, id: &RestoreId, made: &Made) -> Option<String> {
    let dropped = match job.policy.place {
        RestorePlace::NewDatabase => {
            let maintenance = job.target.with_database(&job.maintenance_database);
            match made.database.get() {
                // By its OID: a fence of another maintenance database would not have kept others out.
                Some(oid) => {
                    drop_unfinished(&maintenance, &job.target.database, id, Some(*oid)).await.map(|_| None)
                }
                // It may have come into being before it could be marked: then it isn't said that nothing is left.
                None => is_there(&maintenance, &id.unfinished_name(&job.target.database))
                    .await
                    .map(|there| there.then(|| name(job, id))),
            }
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

async fn is_there(maintenance: &EndpointConfig, database: &str) -> Result<bool, TargetError> {
    let session = Session::connect(maintenance, "restore", &ClientEncoding::Utf8).await?;
    let there = exists(&session, database).await?;
    session.close().await?;
    Ok(there)
}

async fn take_schemas_back(job: &RestoreJob, id: &RestoreId) -> Result<Option<String>, TargetError> {
    let session = Session::connect(&job.target, "restore", &ClientEncoding::Utf8).await?;
    // What is dropped goes with all that is in it, so nobody else may have been at work there.
    if others_are_in(&session).await? {
        session.close().await?;
        return Ok(Some(format!("{}, since other sessions are in that database", name(job, id))));
    }
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
