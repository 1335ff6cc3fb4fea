//! What retired and void runs still hold, and how long ago they were given up.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::super::best_effort;
use super::super::destinations::Destinations;
use super::super::error::EngineError;
use super::PruneJob;
use super::history::History;
use crate::format::{Key, Nonce};
use crate::store::{ObjectStore, StoreErrorKind};

/// Runs that are looked at at once: a listing or two each.
const UNDER_WAY: usize = 8;

/// Objects and their length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many.
    pub objects: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Why what is in a run may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A sealed prune has retired it.
    Retired {
        /// The prune.
        prune: u32,
    },
    /// It came to nothing.
    Void {
        /// The stable word why.
        reason: String,
    },
}

impl Why {
    /// The run whose outcome gave `run` up.
    const fn decided_in(&self, run: u32) -> u32 {
        match self {
            Self::Retired { prune } => *prune,
            Self::Void { .. } => run,
        }
    }
}

/// A run that was given up, and still holds something.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// The run.
    pub run: u32,
    /// Why.
    pub why: Why,
    /// What a listing shows of it.
    pub size: Size,
    /// When it was given up, by the store's clock; absent if the store does not say, and then it is never due.
    pub since: Option<Timestamp>,
    /// Whether the minimum age has passed.
    pub due: bool,
}

/// What of `run` may be deleted, in all destinations.
pub(super) async fn size_of(destinations: &Destinations, run: u32) -> Result<Size, EngineError> {
    let mut size = Size::default();
    for destination in destinations.all() {
        let mut page = None;
        loop {
            let listed = destination.store.list(Some(&Key::run_prefix(run)), page.as_deref()).await?;
            for (_, length) in listed.objects.iter().filter(|(key, _)| key.may_go_with(run)) {
                size.objects += 1;
                size.bytes += length;
            }
            match listed.next {
                Some(next) => page = Some(next),
                None => break,
            }
        }
    }
    Ok(size)
}

/// What is left of every run that was given up. Only what `now` makes due may go: see [`stores_now`].
pub(super) async fn of(job: &PruneJob, history: &History) -> Result<Vec<Leftover>, EngineError> {
    let retired = history.retired.iter().map(|(run, by)| (*run, Why::Retired { prune: by.prune }));
    let void = history.void.iter().map(|(run, reason)| (*run, Why::Void { reason: reason.clone() }));
    let given_up = retired.chain(void).filter(|(run, _)| job.rule.is_about(history, *run));
    let given_up: Vec<(u32, Why)> = given_up.collect();
    let sized = stream::iter(given_up).map(|(run, why)| async move {
        let size = size_of(&job.destinations, run).await?;
        Ok::<_, EngineError>((run, why, size))
    });
    let sized: Vec<_> = sized.buffered(UNDER_WAY).try_collect().await?;
    let store = &**job.register.store();
    let (mut leftovers, mut now) = (Vec::new(), None);
    for (run, why, size) in sized.into_iter().filter(|(_, _, size)| size.objects > 0) {
        let since = store.head(&Key::outcome(why.decided_in(run)), None).await?.modified;
        let now = match now {
            Some(now) => now,
            None => *now.insert(stores_now(store).await?),
        };
        let age = since.map(|since| now.duration_since(since));
        let due = age.is_some_and(|age| SignedDuration::try_from(job.minimum_age).is_ok_and(|it| age >= it));
        leftovers.push(Leftover { run, why, size, since, due });
    }
    leftovers.sort_unstable_by_key(|leftover| leftover.run);
    Ok(leftovers)
}

/// The store's time, by an object that is made now and deleted again.
///
/// The age of what is to be deleted is the difference of two times of one clock, that of the store. This machine's
/// would not do: an hour ahead, it would take a restore's backup from under it; and the times in documents were told
/// by whichever machine wrote them. The outcome that gave a run up is younger than its `retired.json`, which a prune
/// that came to nothing may have left long before: until the seal the run was a backup, and could be read.
async fn stores_now(store: &dyn ObjectStore) -> Result<Timestamp, EngineError> {
    let key = Key::probe(&Nonce::from_random(rand::random()));
    let _created = match store.create(&key, Bytes::from_static(b"vouchsafe asks for the time\n")).await {
        Ok(created) => created,
        // Who may not write may look at what would go, and can delete nothing: their own clock is good enough.
        Err(error) if error.kind() == StoreErrorKind::Forbidden => return Ok(Timestamp::now()),
        Err(error) => return Err(error.into()),
    };
    let head = store.head(&key, None).await?;
    let deleted = store.delete(&key, &head.version).await;
    best_effort("a few bytes below probes/ stay behind", deleted);
    head.modified.ok_or_else(|| {
        EngineError::Damaged(format!("{}/{key}: the store does not say when it was stored", store.url()))
    })
}
