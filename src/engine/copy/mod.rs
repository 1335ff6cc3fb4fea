//! Copying one sealed backup to a second place, and proving it there.
//!
//! The other place becomes a copy of the collection: the same names, the same bytes, the register's history up to the
//! run, and of the run everything. It is read by the same commands; no run is claimed there. What is copied is not
//! believed: it is read back from the other place to the last row before `copied.json` says so.

mod objects;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use self::objects::Moved;
use super::backups::{self, Backup, Verified};
use super::destinations::{Destinations, overlapping};
use super::documents;
use super::error::EngineError;
use super::progress::{Progress, Stage};
use super::register::Register;
use super::reopening;
use super::verifier::Depth;
use crate::format::{
    Collection, Copied, CopyMark, Key, ManifestDestination, PartEntry, PlanDocument, Sha256Digest,
};
use crate::hint::Hint;
use crate::kill_point;
use crate::source::Tools;
use crate::store::{ObjectStore, probe};

/// What is copied, and where to.
#[derive(Clone, Debug)]
pub struct CopyJob {
    /// Where the backup lies.
    pub from: Destinations,
    /// The register there.
    pub from_register: Register,
    /// The other place: a destination of the same name for each of the backup's.
    pub to: Destinations,
    /// The register there.
    pub to_register: Register,
    /// Which run; absent: the newest sealed one.
    pub run: Option<u32>,
    /// For the archives that are read back.
    pub tools: Tools,
    /// Objects under way at once.
    pub parallelism: usize,
    /// Who is told how far it is.
    pub progress: Progress,
}

/// What came of it.
#[derive(Debug)]
pub struct CopiedBackup {
    /// The run.
    pub run: u32,
    /// A newer one that is not decided, if this one was chosen as the newest sealed.
    pub newer_undecided: Option<u32>,
    /// Objects that were written, and their bytes.
    pub written: (u64, u64),
    /// Objects that lay there before, with the right bytes.
    pub there_before: u64,
    /// What reading everything back has found. With damages it is no copy, and the place does not say that it is one.
    pub verified: Verified,
}

#[derive(Default)]
struct Count {
    written: u64,
    bytes: u64,
    there_before: u64,
}

impl Count {
    fn add(&mut self, moved: Moved) {
        match moved {
            Moved::Written(bytes) => {
                self.written += 1;
                self.bytes += bytes;
            }
            Moved::WasThere => self.there_before += 1,
        }
    }
}

/// Copies a sealed backup and reads the copy back. Begun again after it was ended, it goes on with what lies there.
///
/// # Errors
/// Any [`EngineError`]: a backup that can't be opened, destinations that don't match, a place that holds a collection
/// of its own, a store that does not answer, and damage that is met on the way. Nothing of what was there before is
/// changed in either place.
pub async fn copy(job: &CopyJob) -> Result<CopiedBackup, EngineError> {
    let chosen = backups::choose(&job.from_register, job.run).await?;
    let backup = backups::open(&job.from, &job.from_register, chosen.run).await?;
    check_places(job, &backup)?;
    for destination in job.to.all() {
        probe(&destination.store).await?;
    }
    let mut count = Count::default();
    mark(job).await?;
    history(job, backup.run, &mut count).await?;
    contents(job, &backup, &mut count).await?;
    kill_point::passed("copied", "everything");
    // From here on it is the other place alone that is asked.
    let there = backups::open(&job.to, &job.to_register, backup.run).await?;
    if there.manifest_sha256 != backup.manifest_sha256 {
        let (store, key) = (job.to.default().store.url(), Key::outcome(backup.run));
        return Err(EngineError::Damaged(format!(
            "{store}/{key}: it seals another manifest than the original"
        )));
    }
    let depth = (Depth::Rows, job.parallelism);
    let verified = there.examine(&job.to, &job.tools, depth, &job.progress).await?;
    if verified.damages.is_empty() {
        say(job, &there, &verified).await?;
    }
    Ok(CopiedBackup {
        run: backup.run,
        newer_undecided: chosen.newer_undecided,
        written: (count.written, count.bytes),
        there_before: count.there_before,
        verified,
    })
}

/// Every destination of the backup has its counterpart, which is none of those that are copied from.
fn check_places(job: &CopyJob, backup: &Backup) -> Result<(), EngineError> {
    for destination in &backup.manifest.destinations {
        let name = &destination.name;
        if job.to.named(name).is_err() {
            return Err(EngineError::usage(
                format!("the backup has a part in destination {name}, and there is no place to copy it to"),
                Hint::from(format!("add --to {}", place(destination))),
            ));
        }
        if destination.default != job.to.is_default(name) {
            return Err(EngineError::usage(
                format!("{name} is the default destination of one place, and not of the other"),
                Hint::from("give --to the localities of --store, in the same order"),
            ));
        }
    }
    for from in job.from.all() {
        for to in job.to.all() {
            if overlapping(from, to) {
                return Err(EngineError::usage(
                    format!(
                        "{} and {} are the same place, or one holds the other",
                        from.store.url(),
                        to.store.url()
                    ),
                    Hint::from("copy to another bucket, or another prefix beside it"),
                ));
            }
        }
    }
    Ok(())
}

fn place(destination: &ManifestDestination) -> String {
    destination.locality.as_ref().map_or_else(|| "URL".to_owned(), |locality| format!("{locality}=URL"))
}

/// Marks the other place as a copy of this collection, before anything else lies there.
async fn mark(job: &CopyJob) -> Result<(), EngineError> {
    let (from, to) = (&*job.from.default().store, &*job.to.default().store);
    let collection = documents::get::<Collection>(from, &Key::collection()).await?;
    let known = documents::find::<CopyMark>(to, &Key::copy()).await?;
    if let Some(known) = known {
        if known.document.collection == collection.sha256 {
            return Ok(());
        }
        return Err(EngineError::usage(
            format!("{} holds a copy of another collection, of {}", to.url(), known.document.from),
            Hint::from("copy each collection to a prefix of its own"),
        ));
    }
    if documents::find_bytes(to, &Key::collection()).await?.is_some() || job.to_register.newest().await? > 0 {
        return Err(EngineError::usage(
            format!("{} holds a collection of its own", to.url()),
            Hint::from("copy to an empty prefix"),
        ));
    }
    let document =
        CopyMark { collection: collection.sha256, from: from.url().to_owned(), created: Timestamp::now() };
    documents::put(to, &Key::copy(), document).await?;
    Ok(())
}

/// The register up to `run`: what chains its claim to the first one. Of runs that lie there decided nothing is asked
/// again: each claim names the outcome before it by digest, and opening the run follows that.
async fn history(job: &CopyJob, run: u32, count: &mut Count) -> Result<(), EngineError> {
    let (from, to) = (&*job.from.default().store, &*job.to.default().store);
    count.add(objects::document(from, to, &Key::collection(), None).await?);
    for number in 1..=run {
        if number < run && job.to_register.outcome(number).await?.is_some() {
            continue;
        }
        count.add(objects::document(from, to, &Key::run(number), None).await?);
        for attempt in 1..=job.from_register.attempts(number).await?.len() {
            let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
            count.add(objects::document(from, to, &Key::attempt(number, attempt), None).await?);
        }
        // Last: where it lies, the others do.
        count.add(objects::document(from, to, &Key::outcome(number), None).await?);
    }
    Ok(())
}

/// Everything below the run's plan that its manifest binds. Leftovers of earlier attempts stay where they are.
async fn contents(job: &CopyJob, backup: &Backup, count: &mut Count) -> Result<(), EngineError> {
    let manifest = &backup.manifest;
    let objects = manifest.destinations.iter().map(|it| u64::from(it.count)).sum();
    job.progress.begin(Stage::Copy, objects, manifest.stored_bytes);
    for destination in &manifest.destinations {
        let from = &job.from.named(&destination.name)?.store;
        let to = &job.to.named(&destination.name)?.store;
        let (_, part) = reopening::books_of(backup, destination, &**from).await?;
        let entries = part.document.entries.into_iter().map(|entry| settled(from, to, entry, &job.progress));
        let mut entries = stream::iter(entries).buffer_unordered(job.parallelism);
        while let Some(moved) = entries.try_next().await? {
            moved.into_iter().for_each(|moved| count.add(moved));
        }
        for (key, sha256) in documents_of(backup, destination) {
            count.add(objects::document(&**from, &**to, &key, Some(sha256)).await?);
        }
    }
    Ok(())
}

/// The object of a ticket, and its receipt.
async fn settled(
    from: &Arc<dyn ObjectStore>,
    to: &Arc<dyn ObjectStore>,
    entry: PartEntry,
    progress: &Progress,
) -> Result<Vec<Moved>, EngineError> {
    let mut moved = Vec::with_capacity(2);
    let mut bytes = 0;
    if let Some(object) = entry.settlement.object() {
        moved.push(objects::stored(&**from, to, object).await?);
        bytes = object.length;
    }
    moved.push(objects::document(&**from, &**to, &entry.receipt, Some(entry.receipt_sha256)).await?);
    progress.advance(Stage::Copy, 1, bytes);
    Ok(moved)
}

/// The documents of one destination, with the digests that bind them. The manifest comes last.
fn documents_of(backup: &Backup, destination: &ManifestDestination) -> Vec<(Key, Sha256Digest)> {
    let key = |document| Key::of_plan(backup.run, &backup.plan, document);
    let mut all =
        vec![(key(PlanDocument::Tickets), destination.tickets), (key(PlanDocument::Part), destination.part)];
    let verdicts = backup.verdicts().iter().filter(|verdict| verdict.destination == destination.name);
    all.extend(verdicts.map(|it| (Key::verdict(backup.run, &backup.plan, &it.nonce), it.sha256)));
    if destination.default {
        all.push((key(PlanDocument::Plan), backup.manifest.plan_document));
        all.push((key(PlanDocument::Census), backup.manifest.census));
        all.push((key(PlanDocument::Manifest), backup.manifest_sha256));
    }
    all
}

/// Says in the other place that all of the run lies there.
async fn say(job: &CopyJob, there: &Backup, verified: &Verified) -> Result<(), EngineError> {
    let to = &*job.to.default().store;
    let key = Key::copied(there.run);
    if documents::find::<Copied>(to, &key).await?.is_some() {
        return Ok(());
    }
    let document = Copied {
        run: there.run,
        plan: there.plan,
        manifest: there.manifest_sha256,
        objects_read: verified.objects_read,
        bytes_read: verified.bytes_read,
        written: Timestamp::now(),
        software: crate::version().to_owned(),
    };
    documents::put(to, &key, document).await?;
    Ok(())
}
