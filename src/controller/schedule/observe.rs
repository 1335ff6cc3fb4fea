//! What there is in the cluster of one BackupSchedule. Needs the client.

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use super::ScheduleError;
use super::made::Made;
use crate::api::marks::SCHEDULE_UID;
use crate::api::{
    Backup, BackupPhase, BackupSchedule, BackupSpec, BackupStore, ConditionStatus, DeletionPolicy, Failure,
    ScheduledRunState,
};
use crate::controller::Context;
use crate::controller::backup::is_history;
use crate::controller::jobs::{self, ObservedJob};

/// What there is of one BackupSchedule.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Backups that carry its UID. Those of others with the same label are left out.
    pub backups: Vec<ObservedBackup>,
    /// The name of the run that is being started belongs to an object of somebody else.
    pub taken: bool,
    /// What matters to a prune; absent unless one is due or under way.
    pub prune: Option<ObservedPrune>,
}

/// What there is that matters to a prune.
#[derive(Clone, Debug, Default)]
pub struct ObservedPrune {
    /// The BackupStore; absent if there is none, or none that this release can read.
    pub store: Option<BackupStore>,
    /// The schedule's Jobs, those of others with the same label left out.
    pub jobs: Vec<ObservedJob>,
    /// Why an object of a prune could not be made the last time, where that was a refusal.
    pub refused: Option<Failure>,
}

/// Where a Backup is: its store, and the collection in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The BackupStore.
    pub store: String,
    /// The collection.
    pub collection: Option<String>,
}

impl Place {
    pub(super) fn of(spec: &BackupSpec) -> Self {
        Self { store: spec.store_ref.name.clone(), collection: spec.collection.clone() }
    }
}

/// One Backup of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedBackup {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// What became of it.
    pub state: BackupState,
    /// Where it is, if that can be read.
    pub place: Option<Place>,
    /// Whether deleting the resource would delete its data.
    pub deletes_data: bool,
    /// Whether it is being deleted.
    pub leaving: bool,
}

/// What became of a Backup.
#[derive(Clone, Debug, PartialEq)]
pub enum BackupState {
    /// It goes on, or has not begun.
    Active,
    /// It is proven.
    Sealed(Sealed),
    /// It was proven, and a prune has retired it since.
    Retired(Sealed),
    /// It failed.
    Failed {
        /// When.
        at: Option<Timestamp>,
        /// Why.
        failure: Option<Failure>,
    },
    /// It was canceled.
    Canceled {
        /// When.
        at: Option<Timestamp>,
    },
    /// This release can't read it.
    Unreadable,
}

/// A proven Backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The run's number, and that of the run that begins its chain. Absent, and retention leaves it alone.
    pub run: Option<(u64, u64)>,
    /// When it was sealed.
    pub at: Timestamp,
    /// What it restores to.
    pub to: Option<Timestamp>,
}

impl BackupState {
    /// When it ended, if it has.
    #[must_use]
    pub const fn ended(&self) -> Option<Timestamp> {
        match self {
            Self::Active | Self::Unreadable => None,
            Self::Sealed(sealed) | Self::Retired(sealed) => Some(sealed.at),
            Self::Failed { at, .. } | Self::Canceled { at } => *at,
        }
    }
}

impl ObservedBackup {
    /// What a Backup says of itself.
    #[must_use]
    pub fn of(backup: &Backup) -> Self {
        let status = backup.status.clone().unwrap_or_default();
        let ended = status.conditions.iter().find(|condition| {
            matches!(condition.type_.as_str(), "Complete" | "Failed")
                && condition.status == ConditionStatus::True
        });
        let at = ended.and_then(|condition| condition.last_transition_time.parse().ok());
        let state = match status.phase {
            // Nothing will come of it, and nothing waits for it.
            Some(BackupPhase::Pending) if is_history(backup) => BackupState::Unreadable,
            Some(BackupPhase::Succeeded) => {
                let proof = status.proof.unwrap_or_default();
                let sealed_at = proof.sealed_at.and_then(|time| time.parse().ok()).or(at);
                let number = status.run.and_then(|run| u64::try_from(run.number?).ok());
                let chain = status.layer.and_then(|layer| u64::try_from(layer.chain?).ok());
                let to = status.to.and_then(|to| to.time?.parse().ok());
                // Succeeded without a seal is refused by the API server, and proves nothing here.
                sealed_at.map_or(BackupState::Unreadable, |at| {
                    let run = number.map(|number| (number, chain.unwrap_or(number)));
                    BackupState::Sealed(Sealed { run, at, to })
                })
            }
            Some(BackupPhase::Failed) => BackupState::Failed { at, failure: status.failure },
            Some(BackupPhase::Canceled) => BackupState::Canceled { at },
            None
            | Some(
                BackupPhase::Pending
                | BackupPhase::Resolving
                | BackupPhase::Exporting
                | BackupPhase::WritingMetadata
                | BackupPhase::Verifying,
            ) => BackupState::Active,
        };
        let deletes_data = backup.spec.deletion_policy == Some(DeletionPolicy::Delete);
        let state = match backup.metadata.deletion_timestamp.as_ref() {
            Some(leaves) if deletes_data => while_leaving(state, leaves.0),
            Some(_) | None => state,
        };
        let place = Some(Place::of(&backup.spec));
        Self { deletes_data, state, place, ..Self::of_metadata(backup) }
    }

    fn of_metadata(object: &impl ResourceExt) -> Self {
        Self {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            state: BackupState::Unreadable,
            place: None,
            // What can't be read is not deleted.
            deletes_data: true,
            leaving: object.meta().deletion_timestamp.is_some(),
        }
    }
}

/// What counts of a Backup whose data goes, however long that takes: nothing comes of it any more, and nothing that was
/// proven by it.
fn while_leaving(state: BackupState, since: Timestamp) -> BackupState {
    match state {
        BackupState::Active => BackupState::Canceled { at: Some(since) },
        BackupState::Sealed(_) | BackupState::Retired(_) => BackupState::Unreadable,
        over @ (BackupState::Failed { .. } | BackupState::Canceled { .. } | BackupState::Unreadable) => over,
    }
}

/// Looks; `None` if there is no such schedule any more.
///
/// The schedule itself is asked for, and the Backup that its status names: what a watch tells may be older than our own
/// last write. For the rest, what the watch tells is enough, and a listing is not: the API server reads every Backup of
/// the namespace for it, also for the few with a label.
pub(super) async fn observe(
    client: &Client,
    made: &Made,
    schedule: &BackupSchedule,
) -> Result<Option<(BackupSchedule, Observed)>, ScheduleError> {
    let namespace = schedule.namespace().unwrap_or_default();
    let schedules: Api<BackupSchedule> = Api::namespaced(client.clone(), &namespace);
    let found = schedules.get_opt(&schedule.name_any()).await.map_err(ScheduleError::Observe)?;
    let same =
        |found: &BackupSchedule| found.uid() == schedule.uid() && found.metadata.deletion_timestamp.is_none();
    let Some(schedule) = found.filter(same) else { return Ok(None) };
    let Some(backups) = made.by(&schedule) else { return Ok(None) };
    let mut all = Observed { backups, taken: false, prune: None };
    if let Some((name, state)) =
        under_way(&schedule).filter(|(name, _)| !all.backups.iter().any(|it| it.name == *name))
    {
        let backups: Api<DeserializeGuard<Backup>> = Api::namespaced(client.clone(), &namespace);
        let uid = schedule.uid().unwrap_or_default();
        match backups.get_opt(&name).await.map_err(ScheduleError::Observe)? {
            Some(found) if is_of(&found, &uid) => all.backups.push(observed(&found)),
            Some(_) => all.taken = state == ScheduledRunState::Starting,
            None => {}
        }
    }
    Ok(Some((schedule, all)))
}

/// Looks at what matters to a prune.
pub(super) async fn prune(
    context: &Context,
    schedule: &BackupSchedule,
) -> Result<ObservedPrune, ScheduleError> {
    let client = &context.client;
    let namespace = schedule.namespace().unwrap_or_default();
    let uid = schedule.uid().unwrap_or_default();
    let jobs = jobs::of_resource(client, &namespace, &uid).await.map_err(ScheduleError::Observe)?;
    // One that can't be read must not keep a schedule from its runs.
    let stores: Api<DeserializeGuard<BackupStore>> = Api::namespaced(client.clone(), &namespace);
    let name = &schedule.spec.template.spec.store_ref.name;
    let store = stores.get_opt(name).await.map_err(ScheduleError::Observe)?;
    Ok(ObservedPrune {
        store: store.and_then(|guarded| guarded.0.ok()),
        jobs,
        refused: context.refusals.of(&uid),
    })
}

/// What a Backup says of itself, if it can be read.
pub(super) fn observed(guarded: &DeserializeGuard<Backup>) -> ObservedBackup {
    match &guarded.0 {
        Ok(backup) => ObservedBackup::of(backup),
        Err(_) => ObservedBackup::of_metadata(guarded),
    }
}

/// The Backup that the status says is to be made, or goes on.
fn under_way(schedule: &BackupSchedule) -> Option<(String, ScheduledRunState)> {
    let run = schedule.status.as_ref()?.last_run.as_ref()?;
    let goes = matches!(run.state, ScheduledRunState::Starting | ScheduledRunState::Started);
    goes.then(|| (run.name.clone(), run.state))
}

/// Whether an object was made by the schedule with this UID.
pub(super) fn is_of(object: &impl ResourceExt, uid: &str) -> bool {
    !uid.is_empty() && object.annotations().get(SCHEDULE_UID).is_some_and(|it| it == uid)
}
