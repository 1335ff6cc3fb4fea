//! The census: what only the snapshot can tell, asked of the database by sessions that export nothing.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::error::EngineError;
use super::job::Endpoint;
use crate::format::{Census, EqualSpans, Plan, Sha256Digest, TableCount};
use crate::ledger::{Ledger, LedgerError};
use crate::mutant::{self, Mutant};
use crate::source::Reader;

/// Counts every table of the plan, explains equal spans, and reads the catalogs again.
pub(crate) async fn take(
    endpoints: &[Endpoint],
    plan: &Plan,
    plan_document: Sha256Digest,
    ledger: &Ledger,
    catalogs: Vec<Sha256Digest>,
    parallelism: usize,
) -> Result<Census, EngineError> {
    let mut counts = Vec::new();
    let mut large_object_pages = Vec::new();
    let mut catalog_counts = Vec::new();
    let mut equal_spans = Vec::new();
    for (position, endpoint) in plan.endpoints.iter().enumerate() {
        let known = endpoints.iter().find(|known| known.name == endpoint.name);
        let known = known.ok_or_else(|| EngineError::Task("an endpoint vanished from the job".into()))?;
        let lanes =
            stream::iter(0..parallelism.max(1)).then(|_| Reader::open(&known.config, &endpoint.snapshot_id));
        let lanes: Vec<Reader> = lanes.try_collect().await?;
        let lanes = Arc::new(lanes);
        counts.extend(count(plan, position, &lanes).await?);
        large_object_pages.push(lanes[0].count_large_object_pages().await?);
        catalog_counts.push(lanes[0].count_catalogs().await?);
        for (first, second) in ledger.equal_spans() {
            equal_spans.extend(explain(ledger, position, first, second, &lanes[0]).await?);
        }
        if let Ok(lanes) = Arc::try_unwrap(lanes) {
            for lane in lanes {
                lane.close().await?;
            }
        }
    }
    counts.sort_by_key(|count: &TableCount| count.table);
    if mutant::is(Mutant::CountFromReceipts) {
        counts = ledger.rows_read();
        catalog_counts = ledger.entries_read();
    }
    Ok(Census {
        run: plan.run,
        plan: plan.plan,
        plan_document,
        counts,
        large_object_pages,
        catalog_counts,
        catalogs,
        equal_spans,
    })
}

async fn count(
    plan: &Plan,
    endpoint: usize,
    lanes: &Arc<Vec<Reader>>,
) -> Result<Vec<TableCount>, EngineError> {
    let mut tables: Vec<_> = plan.tables.iter().filter(|table| table.endpoint as usize == endpoint).collect();
    tables.sort_by_key(|table| std::cmp::Reverse(table.facts.bytes));
    let queue = std::sync::Mutex::new(tables.into_iter());
    let counting = lanes.iter().map(|lane| async {
        let mut counts = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            let Some(table) = next else { return Ok::<_, EngineError>(counts) };
            let rows = lane.count(&table.facts).await?;
            counts.push(TableCount { table: table.id, rows });
        }
    });
    let counts: Vec<Vec<TableCount>> = futures::future::try_join_all(counting).await?;
    Ok(counts.into_iter().flatten().collect())
}

/// Two tickets read alike. If the server finds the same rows in both spans, so be it; if not, one of them was
/// read twice.
async fn explain(
    ledger: &Ledger,
    endpoint: usize,
    first: u32,
    second: u32,
    reader: &Reader,
) -> Result<Option<EqualSpans>, EngineError> {
    let (Some((table, one)), Some((_, other))) = (ledger.span_of(first), ledger.span_of(second)) else {
        return Ok(None);
    };
    if table.endpoint as usize != endpoint {
        return Ok(None);
    }
    let hashes = (reader.hash_sum(&table.facts, one).await?, reader.hash_sum(&table.facts, other).await?);
    if hashes.0 != hashes.1 {
        return Err(LedgerError::EqualSpans(first, second, table.facts.name.to_string()).into());
    }
    let server = format!("{} rows, {}", hashes.0.rows, hashes.0.sum.unwrap_or_default());
    Ok(Some(EqualSpans { tickets: (first, second), server }))
}

/// Waits until every ticket has a receipt that the store shows. A listing may be late; receipts that it does
/// not show are no receipts.
pub(crate) async fn collect(
    destinations: &super::Destinations,
    ledger: &mut Ledger,
    patience: std::time::Duration,
) -> Result<(), EngineError> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut seen = std::collections::BTreeSet::new();
    loop {
        for destination in destinations.all() {
            let prefix = crate::format::Key::receipts(ledger.plan().run, &ledger.plan().plan);
            let keys = super::documents::list_all(&*destination.store, Some(&prefix)).await?;
            let fresh = keys.into_iter().filter(|key| seen.insert((destination.name.clone(), key.clone())));
            let fresh: Vec<_> = fresh.collect();
            let mut receipts = stream::iter(fresh)
                .map(|key| async move {
                    super::documents::find::<crate::format::Receipt>(&*destination.store, &key).await
                })
                .buffered(READS_UNDER_WAY);
            while let Some(held) = receipts.try_next().await? {
                if let Some(held) = held {
                    ledger.take(&destination.name, held.key, held.sha256, held.document)?;
                }
            }
        }
        if ledger.open_tickets().is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(RELIST_AFTER).await;
    }
}

/// Receipts read at once: small objects, so latency is all they cost.
const READS_UNDER_WAY: usize = 16;

/// Pause before a listing that was late is asked again.
const RELIST_AFTER: std::time::Duration = std::time::Duration::from_millis(200);
