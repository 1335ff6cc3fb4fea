//! Events on the object that the user wrote. What is told follows from the difference between two statuses, so that
//! a reconciliation that changes nothing tells nothing. The choice is pure; telling needs the client.

mod restored;
mod standing;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};

use crate::api::{
    Backup, BackupPhase, BackupSchedule, BackupStatus, BackupStore, Failure, LastPrune, Restore, marks,
};
use crate::controller::backup::leaving::{self, LetGo};
use crate::controller::reasons::ControllerReason;
use crate::telemetry::transition::{Restarted, Transition, is_terminal};

pub use restored::of_restore;
pub use standing::{of_schedule, of_store};

/// The name under which events are told.
pub const CONTROLLER: &str = "vouchsafe-controller";

/// Events of one written status at most. A run has 65 processes, which may all begin anew at once.
const MOST: usize = 4;

/// Bytes of a note that Kubernetes takes (its API reference, `Event.note`).
const NOTE_BYTES: usize = 1024;

/// One event to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether it is a warning.
    pub warning: bool,
    /// One word, for filters.
    pub reason: &'static str,
    /// What the controller did.
    pub action: &'static str,
    /// What happened, at most 1024 bytes.
    pub note: String,
    /// The Job that it is about.
    pub job: Option<String>,
    /// Whether it is also told of the schedule that made the Backup.
    pub on_schedule: bool,
}

/// What is to be told of a step from `old` to `new`; at most four events.
#[must_use]
pub fn of(transition: &Transition, old: &BackupStatus, new: &BackupStatus) -> Vec<Told> {
    let mut told = Vec::new();
    told.extend(ended(transition, new));
    let over = new.phase.is_some_and(is_terminal);
    if old.processes.is_empty()
        && let Some(first) = new.processes.first()
    {
        let note = "its coordinator is started".to_owned();
        told.push(normal("Started", "Starting", note, Some(first.job.clone())));
    }
    // What it waits for, once for each reason.
    let waited = old.failure.as_ref().map(|failure| &failure.reason);
    if let Some(failure) = new.failure.as_ref().filter(|it| !over && Some(&it.reason) != waited) {
        told.push(warning("Waiting", "Waiting", words(failure)));
    }
    told.extend(transition.restarted.iter().map(Told::of_restart));
    told.truncate(MOST);
    told
}

fn ended(transition: &Transition, new: &BackupStatus) -> Option<Told> {
    let failure = || new.failure.as_ref().map_or_else(|| "no reason was left".to_owned(), words);
    Some(match transition.ended()? {
        BackupPhase::Succeeded => {
            let proof = new.proof.clone().unwrap_or_default();
            let (objects, rows) =
                (proof.objects_read.unwrap_or_default(), proof.rows_counted.unwrap_or_default());
            normal("Succeeded", "Ending", format!("proven: {objects} objects read back, {rows} rows"), None)
        }
        BackupPhase::Canceled => normal("Canceled", "Ending", failure(), None),
        _ => Told { on_schedule: true, ..warning("Failed", "Ending", failure()) },
    })
}

fn normal(reason: &'static str, action: &'static str, note: String, job: Option<String>) -> Told {
    Told { warning: false, reason, action, note: cut(note), job, on_schedule: false }
}

fn warning(reason: &'static str, action: &'static str, note: String) -> Told {
    Told { warning: true, reason, action, note: cut(note), job: None, on_schedule: false }
}

fn words(failure: &Failure) -> String {
    let Failure { reason, message, hint } = failure;
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    format!("{reason}: {message}{hint}")
}

fn cut(mut note: String) -> String {
    if note.len() > NOTE_BYTES {
        let room = NOTE_BYTES - '…'.len_utf8();
        let end = (0..=room).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

/// Who tells.
#[must_use]
pub fn recorder(client: Client) -> Recorder {
    let instance = std::env::var("HOSTNAME").ok();
    Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance })
}

/// Tells all of it. An event that can't be told is logged, and nothing waits for it: the status says the same.
pub async fn tell(client: &Client, recorder: &Recorder, backup: &Backup, all: Vec<Told>) {
    let own = backup.object_ref(&());
    for told in all {
        let schedule = if told.on_schedule { schedule_of(client, backup).await } else { None };
        let mut event = told.event();
        event.secondary = told.job.map(|job| job_of(job, backup.namespace()));
        publish(recorder, &event, &own).await;
        if let Some(schedule) = schedule {
            event.secondary = Some(own.clone());
            publish(recorder, &event, &schedule).await;
        }
    }
}

/// What is to be told of a schedule whose last prune was `before` and is `now`.
#[must_use]
pub fn of_prune(before: Option<&LastPrune>, now: Option<&LastPrune>) -> Option<Told> {
    let last = now.filter(|now| before.is_none_or(|before| before.time != now.time))?;
    let did = format!("{} backups retired, {} objects deleted", last.retired, last.deleted_objects);
    match &last.failure {
        Some(failure) => Some(warning("PruneFailed", "Pruning", format!("{}; {did}", words(failure)))),
        None if last.retired == 0 && last.deleted_objects == 0 => None,
        None => Some(normal("Pruned", "Pruning", did, None)),
    }
}

/// Tells of a schedule what `written` says that `before` did not.
pub async fn tell_of_schedule(recorder: &Recorder, before: &BackupSchedule, written: &BackupSchedule) {
    let (old, new) = (before.status.clone().unwrap_or_default(), written.status.clone().unwrap_or_default());
    let mut all = of_schedule(&old, &new);
    all.extend(of_prune(old.last_prune.as_ref(), new.last_prune.as_ref()));
    for told in all {
        publish(recorder, &told.event(), &written.object_ref(&())).await;
    }
}

/// Tells of a store what `written` says that `before` did not.
pub async fn tell_of_store(recorder: &Recorder, before: &BackupStore, written: &BackupStore) {
    let (old, new) = (before.status.clone().unwrap_or_default(), written.status.clone().unwrap_or_default());
    if let Some(told) = of_store(&old, &new) {
        publish(recorder, &told.event(), &written.object_ref(&())).await;
    }
}

/// Tells of a Restore what `written` says that `before` did not.
pub async fn tell_of_restore(recorder: &Recorder, before: &Restore, written: &Restore) {
    let (old, new) = (before.status.clone().unwrap_or_default(), written.status.clone().unwrap_or_default());
    for told in of_restore(&old, &new) {
        let mut event = told.event();
        event.secondary = told.job.map(|job| job_of(job, written.namespace()));
        publish(recorder, &event, &written.object_ref(&())).await;
    }
}

fn job_of(name: String, namespace: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: Some(name),
        namespace,
        ..ObjectReference::default()
    }
}

/// What is to be told of a Backup whose data is being deleted: what hinders it, once for each reason.
#[must_use]
pub fn of_deletion(before: &BackupStatus, now: &BackupStatus) -> Option<Told> {
    let (reason, message) = leaving::condition(now)?;
    let is_new = leaving::condition(before).is_none_or(|(known, _)| known != reason);
    let going = reason == ControllerReason::DeletingData.reason();
    match (is_new, going) {
        (false, _) => None,
        (true, true) => Some(normal("DeletingData", "Deleting", message.to_owned(), None)),
        (true, false) => Some(warning("DeletionWaits", "Deleting", format!("{reason}: {message}"))),
    }
}

/// What is to be told of a Backup that is let go.
#[must_use]
pub fn of_end(why: LetGo) -> Told {
    match why {
        LetGo::Retained => {
            let note = "deletionPolicy is Retain: what it has stored stays".to_owned();
            normal("DataKept", "Deleting", note, None)
        }
        LetGo::NothingStored => normal("DataDeleted", "Deleting", "nothing was stored".to_owned(), None),
        LetGo::Deleted { objects, bytes, locked: 0 } => {
            let note = format!("what it had claimed is gone: {objects} objects, {bytes} bytes");
            normal("DataDeleted", "Deleting", note, None)
        }
        LetGo::Deleted { objects, bytes, locked } => {
            let note = format!(
                "{locked} objects are locked in the store, and stay until a prune after the lock; {objects} objects \
                 are gone, {bytes} bytes"
            );
            warning("DataKept", "Deleting", note)
        }
        LetGo::NamespaceEnds => {
            let note = "its namespace is being deleted, and takes no Job that could delete what it has stored: that \
                        stays in the bucket"
                .to_owned();
            warning("DataKept", "Deleting", note)
        }
    }
}

/// Tells of a deletion what `written` says that `before` did not.
pub async fn tell_of_deletion(recorder: &Recorder, before: &Backup, written: &Backup) {
    let status = |it: &Backup| it.status.clone().unwrap_or_default();
    if let Some(told) = of_deletion(&status(before), &status(written)) {
        publish(recorder, &told.event(), &written.object_ref(&())).await;
    }
}

/// Tells how a deletion ended. A namespace that ends takes no event either, so that one is told of the namespace, which
/// is in none.
pub async fn tell_of_end(recorder: &Recorder, backup: &Backup, why: LetGo) {
    let mut told = of_end(why);
    let mut of = backup.object_ref(&());
    let (name, run) = (backup.name_any(), backup.status.as_ref().and_then(|it| it.run.as_ref()?.number));
    if told.warning {
        tracing::warn!(
            backup = name,
            run,
            store = backup.spec.store_ref.name,
            note = told.note,
            "data is left"
        );
    }
    if why == LetGo::NamespaceEnds {
        told.note = cut(format!("Backup {name}: {}", told.note));
        of = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: backup.namespace(),
            ..ObjectReference::default()
        };
    }
    publish(recorder, &told.event(), &of).await;
}

impl Told {
    fn of_restart(restarted: &Restarted) -> Self {
        let why = restarted.failure.as_ref().map_or_else(|| "it left no word".to_owned(), words);
        let note = format!("attempt {} of {}: {why}", restarted.attempt, restarted.process);
        Self { job: Some(restarted.job.clone()), ..warning("Restarted", "Restarting", note) }
    }

    /// Without a second object.
    fn event(&self) -> Event {
        Event {
            type_: if self.warning { EventType::Warning } else { EventType::Normal },
            reason: self.reason.to_owned(),
            note: Some(self.note.clone()),
            action: self.action.to_owned(),
            secondary: None,
        }
    }
}

async fn publish(recorder: &Recorder, event: &Event, of: &ObjectReference) {
    if let Err(error) = recorder.publish(event, of).await {
        // A namespace that ends takes no event, and 403 is the answer.
        tracing::debug!(%error, reason = event.reason, "an event was not told");
    }
}

/// The schedule that made a Backup, if it is still there. Its UID belongs into the event: `kubectl describe` asks
/// for it.
async fn schedule_of(client: &Client, backup: &Backup) -> Option<ObjectReference> {
    let name = marks::schedule_of(&backup.metadata)?;
    let api: Api<BackupSchedule> = Api::namespaced(client.clone(), &backup.namespace()?);
    let found = api.get_metadata_opt(name).await.ok()??;
    Some(ObjectReference {
        uid: found.metadata.uid,
        name: found.metadata.name,
        namespace: found.metadata.namespace,
        api_version: Some(BackupSchedule::api_version(&()).into_owned()),
        kind: Some(BackupSchedule::kind(&()).into_owned()),
        ..ObjectReference::default()
    })
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
