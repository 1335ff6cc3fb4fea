//! Parts and manifest, and the question that follows them.

use jiff::Timestamp;

use super::audit;
use super::documents::{self, Held};
use super::error::EngineError;
use super::job::BackupJob;
use super::progress::Stage;
use super::register::Turn;
use super::seal::Written;
use super::verifier::{Depth, Question};
use crate::format::{
    Census, Document, ErrorEntry, Key, Manifest, ManifestDestination, ManifestTable, Nonce, Part, Plan,
    PlanDocument, Tickets, Verdict,
};
use crate::kill_point;
use crate::ledger::{Balanced, Proven};
use crate::store::{ObjectStore, StoreErrorKind};

/// What was written beside the data.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) manifest: Held<Manifest>,
    pub(crate) written: Vec<Written>,
}

/// What the verifiers have shown.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) proven: Proven,
    pub(crate) objects_read: u64,
    pub(crate) bytes_read: u64,
}

fn written<D: Document>(destination: &str, held: &Held<D>) -> Written {
    Written {
        destination: destination.to_owned(),
        key: held.key.clone(),
        length: held.length,
        version: held.version.clone(),
    }
}

/// Writes a document, or finds it as an earlier attempt of the same plan wrote it. Only a document that
/// follows from the books alone can be taken over so: `says_the_same` of the found one and this one.
async fn put_or_find<D: Document + Clone>(
    store: &dyn ObjectStore,
    key: &Key,
    document: D,
    says_the_same: impl Fn(&D, &D) -> bool,
) -> Result<Held<D>, EngineError> {
    let mut looked_again = false;
    loop {
        if let Some(found) = documents::find::<D>(store, key).await? {
            if says_the_same(&found.document, &document) {
                return Ok(found);
            }
            return Err(EngineError::Damaged(format!(
                "{}/{key} of an earlier attempt says otherwise than the books",
                store.url()
            )));
        }
        match documents::put(store, key, document.clone()).await {
            // The earlier attempt is not dead, and wrote between the two: what it wrote is as good.
            Err(EngineError::Store(error))
                if error.kind() == StoreErrorKind::AlreadyExists && !looked_again =>
            {
                looked_again = true;
            }
            put => return put,
        }
    }
}

/// Writes each destination's part, then the manifest.
pub(crate) async fn write(
    job: &BackupJob,
    balanced: &Balanced,
    (plan, census): (&Held<Plan>, &Held<Census>),
    tickets: &[Held<Tickets>],
    errors: Vec<ErrorEntry>,
) -> Result<Metadata, EngineError> {
    let key = |document| Key::of_plan(balanced.plan().run, &balanced.plan().plan, document);
    let default = job.destinations.default().name.clone();
    let mut documents_written = vec![written(&default, plan), written(&default, census)];
    for held in tickets {
        documents_written.push(written(&held.document.destination, held));
    }
    let mut destinations = Vec::new();
    for share in balanced.shares() {
        let part: Held<Part> = put_or_find(
            &*job.destinations.named(&share.destination)?.store,
            &key(PlanDocument::Part),
            share.part.clone(),
            Part::eq,
        )
        .await?;
        documents_written.push(written(&share.destination, &part));
        let planned = plan.document.destinations.iter().find(|it| it.name == share.destination);
        let planned = planned.ok_or_else(|| EngineError::Task("a destination vanished".into()))?;
        let (objects, stored_bytes) = share.objects();
        destinations.push(ManifestDestination {
            name: share.destination.clone(),
            url: planned.url.clone(),
            locality: planned.locality.clone(),
            default: planned.default,
            tickets: share.part.tickets,
            part: part.sha256,
            count: planned.count,
            objects,
            stored_bytes,
        });
    }
    let manifest = manifest(balanced, (plan, census), destinations, errors);
    let store = &*job.destinations.default().store;
    let manifest = put_or_find(store, &key(PlanDocument::Manifest), manifest, says_the_same).await?;
    documents_written.push(written(&default, &manifest));
    Ok(Metadata { manifest, written: documents_written })
}

/// An earlier attempt's manifest of a plan differs in its date and errors only; what it says of the backup must be
/// the same.
pub(crate) fn says_the_same(found: &Manifest, ours: &Manifest) -> bool {
    let aligned = Manifest {
        errors: found.errors.clone(),
        written: found.written,
        software: found.software.clone(),
        ..ours.clone()
    };
    aligned == *found
}

/// What the books say, as a manifest.
pub(crate) fn manifest(
    balanced: &Balanced,
    (plan, census): (&Held<Plan>, &Held<Census>),
    destinations: Vec<ManifestDestination>,
    errors: Vec<ErrorEntry>,
) -> Manifest {
    let endpoint = |position: u32| {
        plan.document.endpoints.get(position as usize).map_or_else(String::new, |it| it.name.clone())
    };
    let tables = plan.document.tables.iter().zip(balanced.tables()).map(|(table, total)| ManifestTable {
        id: table.id,
        endpoint: endpoint(table.endpoint),
        name: table.facts.name.clone(),
        columns: table.facts.columns.clone(),
        format: table.facts.format,
        destination: table.destination.clone(),
        fingerprint: total.fingerprint,
        raw_bytes: total.raw_bytes,
        stored_bytes: total.stored_bytes,
        tickets: table.tickets,
    });
    let tables: Vec<ManifestTable> = tables.collect();
    Manifest {
        run: plan.document.run,
        plan: plan.document.plan,
        plan_document: plan.sha256,
        census: census.sha256,
        endpoints: plan.document.endpoints.clone(),
        rows: tables.iter().map(|table| table.fingerprint.rows).sum(),
        raw_bytes: tables.iter().map(|table| table.raw_bytes).sum(),
        stored_bytes: destinations.iter().map(|destination| destination.stored_bytes).sum(),
        destinations,
        tables,
        omissions: plan.document.omissions.clone(),
        populated_views: plan.document.populated_views.clone(),
        errors,
        written: Timestamp::now(),
        software: crate::version().to_owned(),
    }
}

/// Asks one verifier per destination, with a nonce that nobody knew before, and compares what they say with
/// the books, their witnesses and a sample.
pub(crate) async fn verify(
    job: &BackupJob,
    turn: &Turn,
    balanced: &Balanced,
    metadata: &Metadata,
) -> Result<Verified, EngineError> {
    let manifest = &metadata.manifest;
    job.progress.begin(Stage::Verify, u64::from(balanced.plan().tickets), manifest.document.stored_bytes);
    let nonce = Nonce::from_random(rand::random());
    let questions = manifest.document.destinations.iter().map(|destination| Question {
        run: turn.run,
        plan: turn.plan,
        destination: destination.name.clone(),
        default: destination.default,
        nonce,
        manifest: manifest.sha256,
        part: destination.part,
        pinned: true,
        depth: Depth::Rows,
    });
    let witnesses = job.crew.verify(job, questions.collect()).await?;
    let mut verdicts = Vec::new();
    for destination in &manifest.document.destinations {
        let store = &*job.destinations.named(&destination.name)?.store;
        let key = Key::verdict(turn.run, &turn.plan, &nonce);
        let witness = witnesses.iter().find(|witness| witness.destination == destination.name);
        let held: Held<Verdict> = match witness {
            Some(witness) => documents::get_bound(store, &key, witness.verdict).await?,
            None => documents::get(store, &key).await?,
        };
        verdicts.push((held.document, held.sha256));
    }
    kill_point::passed("answered", "questions");
    let proven = balanced.prove(nonce, (&manifest.document, manifest.sha256), &verdicts, &witnesses)?;
    let verdicts: Vec<Verdict> = verdicts.into_iter().map(|(verdict, _)| verdict).collect();
    audit::audit(&job.destinations, balanced, nonce, &verdicts).await?;
    let objects_read = verdicts.iter().map(|verdict| verdict.objects_read).sum();
    let bytes_read = verdicts.iter().map(|verdict| verdict.bytes_read).sum();
    Ok(Verified { proven, objects_read, bytes_read })
}
