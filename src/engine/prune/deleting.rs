//! Deleting what was given up: the long part of a prune, which may be killed anywhere and begun again by any other.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};

use super::super::backups::Verified;
use super::super::destinations::Destination;
use super::super::documents;
use super::super::error::EngineError;
use super::super::reading::version_of;
use super::PruneJob;
use super::history::History;
use super::leftovers::{self, Leftover, Size, Why};
use crate::format::{Decision, Key, Part, PlanDocument, Sha256Digest};
use crate::kill_point;
use crate::store::{ObjectStore, ObjectVersion, StoreErrorKind};

/// Requests under way at once: small answers, so latency is all they cost.
const UNDER_WAY: usize = 16;

/// Objects that were not deleted and are named: a locked bucket refuses all of them alike.
const MAX_NAMED: usize = 100;

/// An object that was to be deleted, and is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its destination's URL and its name.
    pub object: String,
    /// What the store, or our own look at it, says.
    pub why: String,
    /// The stable word of that.
    pub reason: &'static str,
}

/// What was deleted.
#[derive(Clone, Debug, Default)]
pub struct Deleted {
    /// Objects, and the bytes that were in them.
    pub size: Size,
    /// Runs that were gone through.
    pub runs: Vec<u32>,
    /// Runs that hold something, and were given up too short a time ago.
    pub waiting: Vec<Leftover>,
    /// The first [`MAX_NAMED`] objects that could not be deleted.
    pub refused: Vec<Refused>,
    /// All of those.
    pub refused_objects: u64,
}

impl Deleted {
    fn refuse(&mut self, refused: Refused) {
        self.refused_objects += 1;
        if self.refused.len() < MAX_NAMED {
            self.refused.push(refused);
        }
    }
}

/// Deletes what is due, by the register as it stands now. Of retired backups only with `survivor`, which was verified
/// in this very prune, and only while that one is a backup itself; unless their owner was deleted.
pub(super) async fn delete(job: &PruneJob, survivor: Option<&Verified>) -> Result<Deleted, EngineError> {
    let history = History::read(&job.register).await?;
    let stands = job.rule.owner.is_some() || survivor.is_some_and(|it| history.sealed.contains_key(&it.run));
    let mut deleted = Deleted::default();
    for leftover in leftovers::of(job, &history).await? {
        let may_go = leftover.due && (stands || matches!(leftover.why, Why::Void { .. }));
        if !may_go {
            deleted.waiting.push(leftover);
            continue;
        }
        if let Err(refused) = is_given_up(job, &history, leftover.run).await? {
            deleted.refuse(refused);
            continue;
        }
        job.progress.note(format!("deleting what is left of run {}", leftover.run));
        for destination in job.destinations.all() {
            delete_in(job, destination, leftover.run, &mut deleted).await?;
        }
        deleted.runs.push(leftover.run);
    }
    Ok(deleted)
}

/// Once more, right before: void, or retired by the very `retired.json` that the prune's outcome names.
async fn is_given_up(
    job: &PruneJob,
    history: &History,
    run: u32,
) -> Result<Result<(), Refused>, EngineError> {
    let store = &**job.register.store();
    let key = Key::retired(run);
    let refuse = |why: &str, reason| {
        let object = format!("{}/{key}", store.url());
        Ok(Err(Refused { object, why: why.to_owned(), reason }))
    };
    match history.retired.get(&run) {
        None if history.void.contains_key(&run) => Ok(Ok(())),
        None => refuse("the run was given up by nobody", "ObjectMissing"),
        Some(by) => match documents::find_bytes(store, &key).await? {
            None => refuse("it is missing, and a prune's outcome names it", "ObjectMissing"),
            Some((bytes, _)) if Sha256Digest::of(&bytes) == by.document => Ok(Ok(())),
            Some(_) => refuse("it is another than the prune's outcome names", "ObjectChanged"),
        },
    }
}

/// Length and version of objects, as a part has recorded them.
type Recorded = BTreeMap<Key, (u64, ObjectVersion)>;

/// What is known of the objects of `run` in this destination, while its part is there. A help, and no more: without
/// it objects are looked at first.
async fn recorded(job: &PruneJob, store: &dyn ObjectStore, run: u32) -> Result<Recorded, EngineError> {
    let outcome = job.register.outcome(run).await?;
    let Some(Decision::Sealed { plan, .. }) = outcome.map(|it| it.outcome.decision) else {
        return Ok(Recorded::new());
    };
    let part = match documents::find::<Part>(store, &Key::of_plan(run, &plan, PlanDocument::Part)).await {
        Ok(Some(part)) => part.document,
        Ok(None) | Err(EngineError::Format { .. } | EngineError::DocumentTooLarge { .. }) => {
            return Ok(Recorded::new());
        }
        Err(error) => return Err(error),
    };
    let objects = part.entries.iter().filter_map(|entry| entry.settlement.object());
    Ok(objects.map(|it| (it.key.clone(), (it.length, version_of(it)))).collect())
}

async fn delete_in(
    job: &PruneJob,
    destination: &Destination,
    run: u32,
    deleted: &mut Deleted,
) -> Result<(), EngineError> {
    let store = &*destination.store;
    let recorded = recorded(job, store, run).await?;
    let mut page = None;
    loop {
        let listed = store.list(Some(&Key::run_prefix(run)), page.as_deref()).await?;
        let may_go = listed.objects.into_iter().filter(|(key, _)| key.may_go_with(run));
        let recorded = &recorded;
        let mut deleting = stream::iter(may_go)
            .map(|(key, length)| async move {
                let ended = delete_one(store, &key, recorded.get(&key)).await;
                (length, ended)
            })
            .buffer_unordered(UNDER_WAY);
        while let Some((length, ended)) = deleting.next().await {
            match ended? {
                Ok(()) => {
                    deleted.size.objects += 1;
                    deleted.size.bytes += length;
                }
                Err(refused) => deleted.refuse(refused),
            }
        }
        match listed.next {
            Some(next) => page = Some(next),
            None => return Ok(()),
        }
    }
}

/// Deletes one object, in the state that was recorded of it or else in the one that is looked at here. What the store
/// keeps to itself, or is not what was recorded, is left and named.
async fn delete_one(
    store: &dyn ObjectStore,
    key: &Key,
    recorded: Option<&(u64, ObjectVersion)>,
) -> Result<Result<(), Refused>, EngineError> {
    kill_point::passed("deleting", "object");
    let refuse = |reason: &'static str, why: String| {
        Ok(Err(Refused { object: format!("{}/{key}", store.url()), why, reason }))
    };
    let ended = async {
        // Without versions the entity tag is the state: asked for at once.
        if let Some((_, version)) = recorded.filter(|(_, version)| version.version.is_none()) {
            match store.delete(key, version).await {
                Err(error) if error.kind() == StoreErrorKind::Changed => {}
                ended => return ended.map(|()| None),
            }
        }
        let head = store.head(key, None).await?;
        // A bucket that was copied has other tags and versions, and the same lengths.
        match recorded.filter(|(length, _)| *length != head.length) {
            Some((length, _)) => Ok(Some(format!("it has {} bytes, and {length} were stored", head.length))),
            None => store.delete(key, &head.version).await.map(|()| None),
        }
    };
    match ended.await {
        Ok(None) => {
            kill_point::passed("deleted", "object");
            Ok(Ok(()))
        }
        Ok(Some(why)) => refuse(StoreErrorKind::Changed.name(), why),
        Err(error) => match error.kind() {
            // Somebody else was faster: another prune.
            StoreErrorKind::NotFound => Ok(Ok(())),
            kind @ (StoreErrorKind::Locked | StoreErrorKind::Forbidden | StoreErrorKind::Changed) => {
                refuse(kind.name(), error.to_string())
            }
            _ => Err(error.into()),
        },
    }
}
