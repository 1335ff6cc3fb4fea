//! The last comparison, and the seal.

use futures::{StreamExt, TryStreamExt, stream};

use super::destinations::Destinations;
use super::documents;
use super::error::EngineError;
use super::reading::version_of;
use super::register::{Decided, Register, Turn};
use crate::format::{Decision, Key, PartEntry, Plan, Receipt, Verdict};
use crate::ledger::{Balanced, LedgerError, Proven};
use crate::store::{ObjectStore, ObjectVersion};

/// Requests under way at once: small answers, so latency is all they cost.
const UNDER_WAY: usize = 16;

/// A document that the run wrote, as it was when it was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) destination: String,
    pub(crate) key: Key,
    pub(crate) length: u64,
    pub(crate) version: ObjectVersion,
}

/// Compares everything once more, right before the register is written: what was replaced after its verifier had
/// read it shows here. Of objects, plan, parts and manifest that is length and version; receipts and verdicts,
/// which are small, and what only the register knows are read whole and compared by digest.
pub(crate) async fn compare_once_more(
    destinations: &Destinations,
    register: &Register,
    turn: &Turn,
    balanced: &Balanced,
    metadata: (&[Written], &Proven),
) -> Result<(), EngineError> {
    register.check_chain(turn).await?;
    let (written, proven) = metadata;
    for verdict in proven.verdicts() {
        let store = &*destinations.named(&verdict.destination)?.store;
        let key = Key::verdict(turn.run, &turn.plan, &verdict.nonce);
        documents::get_bound::<Verdict>(store, &key, verdict.sha256).await?;
    }
    for document in written {
        let store = &*destinations.named(&document.destination)?.store;
        compare(store, &document.key, document.length, &document.version).await?;
    }
    for share in balanced.shares() {
        let store = &*destinations.named(&share.destination)?.store;
        let objects = share.part.entries.iter().filter_map(|entry: &PartEntry| entry.settlement.object());
        let compared = stream::iter(objects).map(Ok).try_for_each_concurrent(UNDER_WAY, |object| async {
            compare(store, &object.key, object.length, &version_of(object)).await
        });
        compared.await?;
        let receipts = stream::iter(&share.part.entries).map(Ok);
        let compared = receipts.try_for_each_concurrent(UNDER_WAY, |entry: &PartEntry| async {
            documents::get_bound::<Receipt>(store, &entry.receipt, entry.receipt_sha256).await.map(drop)
        });
        compared.await?;
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

/// Writes the proof into the register, reads it back, and says who decided. Whatever made the proof, it must
/// hold one verdict of each destination of `plan`.
pub(crate) async fn seal(
    register: &Register,
    turn: &Turn,
    plan: &Plan,
    proven: Proven,
) -> Result<Decided, EngineError> {
    let ours = proven.into_decision();
    check_verdicts(plan, &ours)?;
    register.still_ours(turn).await?;
    let decided = register.decide(turn, ours.clone()).await?;
    if decided.outcome.decision == ours {
        return Ok(decided);
    }
    Err(EngineError::DecidedElsewhere { run: turn.run, outcome: Box::new(decided.outcome) })
}

fn check_verdicts(plan: &Plan, decision: &Decision) -> Result<(), LedgerError> {
    let Decision::Sealed { verdicts, .. } = decision else { return Ok(()) };
    for destination in &plan.destinations {
        let count = verdicts.iter().filter(|verdict| verdict.destination == destination.name).count();
        if count != 1 {
            let why = format!("the proof holds {count} verdicts of it, and a seal needs one");
            return Err(LedgerError::Verdict { destination: destination.name.clone(), why });
        }
    }
    Ok(())
}
