//! The last comparison, and the seal.

use futures::{StreamExt, TryStreamExt, stream};

use super::destinations::Destinations;
use super::error::EngineError;
use super::reading::version_of;
use super::register::{Decided, Register, Turn};
use crate::format::{Decision, Key, Manifest, PartEntry};
use crate::ledger::{Balanced, LedgerError, Proven};
use crate::store::{ObjectStore, ObjectVersion};

/// HEAD requests under way at once: small answers, so latency is all they cost.
const HEADS_UNDER_WAY: usize = 16;

/// A document that the run wrote, as it was when it was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) destination: String,
    pub(crate) key: Key,
    pub(crate) length: u64,
    pub(crate) version: ObjectVersion,
}

/// Compares length and version of everything once more, right before the register is written: what was
/// replaced after its verifier had read it shows here.
pub(crate) async fn compare_once_more(
    destinations: &Destinations,
    balanced: &Balanced,
    documents: &[Written],
) -> Result<(), EngineError> {
    for document in documents {
        let store = &*destinations.named(&document.destination)?.store;
        compare(store, &document.key, document.length, &document.version).await?;
    }
    for share in balanced.shares() {
        let store = &*destinations.named(&share.destination)?.store;
        let objects = share.part.entries.iter().filter_map(|entry: &PartEntry| entry.settlement.object());
        stream::iter(objects)
            .map(
                |object| async move { compare(store, &object.key, object.length, &version_of(object)).await },
            )
            .buffer_unordered(HEADS_UNDER_WAY)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}

async fn compare(
    store: &dyn ObjectStore,
    key: &Key,
    length: u64,
    version: &ObjectVersion,
) -> Result<(), EngineError> {
    let head = store.head(key, Some(version)).await?;
    if head.length == length {
        return Ok(());
    }
    Err(EngineError::Damaged(format!(
        "{}/{key} has {} bytes now, and {length} were written and verified",
        store.url(),
        head.length
    )))
}

/// Writes the proof into the register, reads it back, and says who decided.
pub(crate) async fn seal(
    register: &Register,
    turn: &Turn,
    manifest: &Manifest,
    proven: Proven,
) -> Result<Decided, EngineError> {
    register.still_ours(turn).await?;
    let ours = proven.into_decision();
    check_complete(manifest, &ours)?;
    let decided = register.decide(turn, ours.clone()).await?;
    if decided.outcome.decision == ours {
        return Ok(decided);
    }
    Err(EngineError::DecidedElsewhere { run: turn.run, outcome: Box::new(decided.outcome) })
}

/// The roll-up is AND over the closed list of the manifest's destinations: counted here once more, by other
/// code than the comparison's own.
fn check_complete(manifest: &Manifest, decision: &Decision) -> Result<(), EngineError> {
    let Decision::Sealed { verdicts, .. } = decision else {
        return Err(EngineError::Task("a proof that seals nothing".into()));
    };
    for destination in &manifest.destinations {
        if verdicts.iter().filter(|verdict| verdict.destination == destination.name).count() != 1 {
            return Err(LedgerError::Verdict {
                destination: destination.name.clone(),
                why: "the seal would not name its verdict".into(),
            }
            .into());
        }
    }
    Ok(())
}
