//! The coordinator's own look at a sample of what the verifiers say they have read.

use std::sync::Arc;

use super::destinations::Destinations;
use super::error::EngineError;
use super::reading::{self, Pinned, Unread};
use super::verifier::{LARGE_OBJECT_COLUMNS, catalog_challenge, seed};
use crate::format::{Answer, CopyFormat, Nonce, PartEntry, Settlement, Verdict};
use crate::ledger::{Balanced, DestinationShare, LedgerError};
use crate::store::ObjectStore;

/// Works out the challenge of the smallest object of rows and of the smallest catalog of every destination,
/// and compares it with the verdict: a verifier that repeats the receipts, or compares digests without
/// decoding, can't have said it. The smallest, because one suffices and the sample must cost nothing.
pub(crate) async fn audit(
    destinations: &Destinations,
    balanced: &Balanced,
    question: Nonce,
    verdicts: &[Verdict],
) -> Result<(), EngineError> {
    for share in balanced.shares() {
        let store = &destinations.named(&share.destination)?.store;
        let Some(verdict) = verdicts.iter().find(|verdict| verdict.destination == share.destination) else {
            continue; // the comparison of all verdicts has named it
        };
        for entry in sample(share) {
            let answer = verdict.answers.iter().find(|answer| answer.ticket == entry.ticket);
            check(store, balanced, entry, answer, question).await?.map_err(|why| LedgerError::Verdict {
                destination: share.destination.clone(),
                why: format!("ticket {}: {why}", entry.ticket),
            })?;
        }
    }
    Ok(())
}

fn sample(share: &DestinationShare) -> impl Iterator<Item = &PartEntry> {
    let smallest = |rows: bool| {
        let of_kind = share.part.entries.iter().filter_map(move |entry| match &entry.settlement {
            Settlement::Rows { object, .. } if rows => Some((object.length, entry)),
            Settlement::Catalog { object, .. } if !rows => Some((object.length, entry)),
            Settlement::Rows { .. } | Settlement::Catalog { .. } | Settlement::Empty => None,
        });
        of_kind.min_by_key(|(length, _)| *length).map(|(_, entry)| entry)
    };
    smallest(true).into_iter().chain(smallest(false))
}

async fn check(
    store: &Arc<dyn ObjectStore>,
    balanced: &Balanced,
    entry: &PartEntry,
    answer: Option<&Answer>,
    question: Nonce,
) -> Result<Result<(), String>, EngineError> {
    let Some(answer) = answer else { return Ok(Err("no answer".into())) };
    let table = balanced.table_of(entry.ticket);
    let read = match &entry.settlement {
        Settlement::Rows { object, raw_bytes, .. } => {
            let shape = table.map_or((CopyFormat::Binary, LARGE_OBJECT_COLUMNS), |table| {
                (table.facts.format, table.facts.columns.len())
            });
            let totals = reading::read_rows(
                &**store,
                object,
                Pinned::Recorded,
                shape,
                *raw_bytes,
                seed(&question),
                |_| Ok(()),
            );
            totals.await.map(|totals| totals.challenge)
        }
        Settlement::Catalog { object, .. } => {
            let bytes = reading::read_whole(&**store, object, Pinned::Recorded).await;
            bytes.map(|bytes| catalog_challenge(&question, &bytes))
        }
        Settlement::Empty => return Ok(Ok(())),
    };
    match read {
        Ok(challenge) if challenge == answer.challenge => Ok(Ok(())),
        Ok(_) => Ok(Err("the verifier can't have read it: it does not know what its content answers".into())),
        Err(Unread::Damaged { finding, .. }) => Ok(Err(finding)),
        Err(Unread::Store(error)) => Err(error.into()),
        Err(Unread::Task(why)) => Err(EngineError::Task(why)),
        Err(Unread::Source(error)) => Err(error.into()),
    }
}
