//! The worker: settles the tickets of one destination. It reads its endpoint and its destination, and
//! knows nothing else of the run than the tickets' document.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use tracing::Instrument;
use tracing::field::Empty;

use super::documents::{self, Held};
use super::error::EngineError;
use super::interrupt::Interrupt;
use super::job::Endpoint;
use super::progress::{Progress, Stage};
use super::reading::{self, Pinned};
use super::receipts::{Binding, Settled};
use super::told;
use super::verifier::LARGE_OBJECT_COLUMNS;
use crate::codec::{RowTotals, SpanWriter};
use crate::format::{
    CopyFormat, Key, Nonce, Order, PlanDocument, PlanId, Receipt, Sha256Digest, SpanRange, TableFacts,
    TablePlan, Ticket, Tickets,
};
use crate::hint::Hint;
use crate::kill_point;
use crate::mutant::{self, Mutant};
use crate::source::{CopyStream, Reader};
use crate::store::{ObjectStore, Upload, UploadOptions};
use crate::telemetry::spans::{part, short};

/// What a worker is told when it is started.
#[derive(Clone, Debug)]
pub struct WorkerOrder {
    /// The run.
    pub run: u32,
    /// The plan.
    pub plan: PlanId,
    /// SHA-256 of the destination's `tickets.json.zst`.
    pub tickets: Sha256Digest,
    /// The destination.
    pub store: Arc<dyn ObjectStore>,
    /// How to reach the servers that the tickets name.
    pub endpoints: Vec<Endpoint>,
    /// Connections.
    pub parallelism: usize,
    /// Where it is asked to stop.
    pub interrupt: Interrupt,
    /// Where it shows how far it is.
    pub progress: Progress,
}

/// Settles every open ticket of the destination.
///
/// # Errors
/// The first failure; every lane has ended by then, and no upload is left open.
pub async fn work(order: WorkerOrder) -> Result<(), EngineError> {
    let key = Key::of_plan(order.run, &order.plan, PlanDocument::Tickets);
    let held: Held<Tickets> = documents::get_bound(&*order.store, &key, order.tickets).await?;
    let tickets = Arc::new(held.document);
    let settled = settled_before(&order, &tickets).await?;
    kill_point::passed("began", "worker");
    let queue = queue(&tickets, &settled);
    let queue = Arc::new(Mutex::new(queue));
    let binding = Binding {
        run: order.run,
        plan: order.plan,
        tickets: order.tickets,
        worker: Nonce::from_random(rand::random()),
    };
    let order = Arc::new(order);
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..order.parallelism.max(1) {
        let lane = Lane {
            order: order.clone(),
            tickets: tickets.clone(),
            queue: queue.clone(),
            binding: binding.clone(),
            readers: BTreeMap::new(),
        };
        lanes.spawn(lane.run().in_current_span());
    }
    let mut first = None;
    while let Some(joined) = lanes.join_next().await {
        let ended = joined.unwrap_or_else(|error| Err(EngineError::Task(format!("a lane died: {error}"))));
        if let Err(error) = ended {
            // The others stop at their next ticket.
            queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Tickets that an earlier worker of this plan has settled. Its word is not taken: each object is read.
async fn settled_before(order: &WorkerOrder, tickets: &Tickets) -> Result<BTreeSet<u32>, EngineError> {
    let known: BTreeSet<u32> = tickets.tickets.iter().map(|ticket| ticket.id).collect();
    let keys = documents::list_all(&*order.store, Some(&Key::receipts(order.run, &order.plan))).await?;
    let checks = stream::iter(keys).map(|key| settled_by(order, &known, key));
    let settled = checks.buffered(order.parallelism.max(1));
    settled.try_filter_map(|ticket| async move { Ok(ticket) }).try_collect().await
}

/// The ticket that a receipt settles, if it is of this plan; its object is read.
async fn settled_by(
    order: &WorkerOrder,
    known: &BTreeSet<u32>,
    key: Key,
) -> Result<Option<u32>, EngineError> {
    let Some(held) = documents::find::<Receipt>(&*order.store, &key).await? else { return Ok(None) };
    let receipt = held.document;
    if !known.contains(&receipt.ticket) || receipt.plan != order.plan || receipt.tickets != order.tickets {
        return Ok(None);
    }
    if let Some(object) = receipt.settlement.object()
        && let Err(unread) = reading::check_digest(&*order.store, object, Pinned::Recorded).await
    {
        let damage = unread.into_damage(object.key.to_string(), None)?;
        let finding = format!("{}, of an earlier attempt: {damage}", order.store.url());
        return Err(EngineError::Damaged(finding));
    }
    Ok(Some(receipt.ticket))
}

/// The open tickets of rows, largest first, so that no large one is left to the end.
fn queue(tickets: &Tickets, settled: &BTreeSet<u32>) -> VecDeque<Ticket> {
    let of_table = |table: &TablePlan| (table.id, table.facts.bytes / u64::from(table.tickets.max(1)));
    let weights: BTreeMap<u32, u64> = tickets.tables.iter().map(of_table).collect();
    let weight = |ticket: &Ticket| match &ticket.order {
        Order::Rows { table, .. } => weights.get(table).copied().unwrap_or_default(),
        Order::LargeObjects { .. } => u64::MAX,
        Order::Schema { .. } | Order::Catalog { .. } => 0,
    };
    let ours = |ticket: &&Ticket| match ticket.order {
        Order::Rows { .. } | Order::LargeObjects { .. } => !settled.contains(&ticket.id),
        // The coordinator's: they need the session that exports the snapshot.
        Order::Schema { .. } | Order::Catalog { .. } => false,
    };
    let mut open: Vec<(u64, &Ticket)> =
        tickets.tickets.iter().filter(ours).map(|ticket| (weight(ticket), ticket)).collect();
    open.sort_by_key(|(weight, ticket)| (std::cmp::Reverse(*weight), ticket.id));
    if mutant::is(Mutant::SkipATicket) {
        open.pop();
    }
    open.into_iter().map(|(_, ticket)| ticket.clone()).collect()
}

/// One connection to each endpoint, pulling tickets until there are none.
struct Lane {
    order: Arc<WorkerOrder>,
    tickets: Arc<Tickets>,
    queue: Arc<Mutex<VecDeque<Ticket>>>,
    binding: Binding,
    readers: BTreeMap<u32, Reader>,
}

impl Lane {
    async fn run(mut self) -> Result<(), EngineError> {
        loop {
            if self.order.interrupt.asked().is_some() {
                return Err(self.order.interrupt.stopped());
            }
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(ticket) = next else { break };
            let part = part!("ticket", ticket = ticket.id, table = self.table_of(&ticket));
            told(part, self.settle(&ticket)).await?;
        }
        for (_, reader) in std::mem::take(&mut self.readers) {
            reader.close().await?;
        }
        Ok(())
    }

    /// The name of the table that a ticket is of, for people.
    fn table_of(&self, ticket: &Ticket) -> Option<String> {
        let Order::Rows { table, .. } = &ticket.order else { return None };
        let known = self.tickets.tables.iter().find(|known| known.id == *table)?;
        Some(short(&known.facts.name.to_string()))
    }

    async fn settle(&mut self, ticket: &Ticket) -> Result<(), EngineError> {
        let tickets = self.tickets.clone();
        let (endpoint, table) = match &ticket.order {
            Order::Rows { table, .. } => {
                // In the plan's order, which is that of their numbers.
                let position = tickets.tables.binary_search_by_key(table, |known| known.id).ok();
                let table = position.and_then(|position| tickets.tables.get(position));
                let table = table.ok_or_else(|| EngineError::Task("a ticket without a table".into()))?;
                (table.endpoint, Some(table))
            }
            Order::LargeObjects { endpoint, .. } => (*endpoint, None),
            Order::Schema { .. } | Order::Catalog { .. } => return Ok(()),
        };
        let snapshot = tickets.endpoints[endpoint as usize].snapshot.clone();
        self.open_reader(endpoint).await?;
        let reader = &self.readers[&endpoint];
        let (format, columns) = table.map_or((CopyFormat::Binary, LARGE_OBJECT_COLUMNS), |table| {
            (table.facts.format, table.facts.columns.len())
        });
        let (key, stream) = match (&ticket.order, table) {
            (Order::Rows { range, .. }, Some(table)) => {
                let range = self.range(ticket, table, range);
                let key =
                    Key::data(self.order.run, &self.order.plan, table.id, ticket.id, &self.binding.worker);
                (key, reader.copy_out(&table.facts, &range).await?)
            }
            (Order::LargeObjects { from, to, .. }, _) => {
                let key =
                    Key::large_objects(self.order.run, &self.order.plan, ticket.id, &self.binding.worker);
                (key, reader.copy_large_objects(*from, *to).await?)
            }
            _ => return Ok(()),
        };
        let exported = self.export(ticket, &snapshot, key, (format, columns), stream);
        let settled = told(part!("upload", rows = Empty, bytes = Empty), exported).await?;
        settled.publish(&*self.order.store, &self.binding).await?;
        let bytes = table.map_or(0, |table| table.facts.bytes / u64::from(table.tickets.max(1)));
        self.order.progress.advance(Stage::Export, 1, bytes);
        Ok(())
    }

    /// The span that the ticket orders.
    fn range(&self, ticket: &Ticket, table: &TablePlan, range: &SpanRange) -> SpanRange {
        if mutant::is(Mutant::ExportTheNeighboursRange) {
            let neighbour = self.tickets.tickets.iter().rfind(|other| {
                other.id < ticket.id && matches!(other.order, Order::Rows { table: id, .. } if id == table.id)
            });
            if let Some(Ticket { order: Order::Rows { range, .. }, .. }) = neighbour {
                return range.clone();
            }
        }
        range.clone()
    }

    async fn open_reader(&mut self, endpoint: u32) -> Result<(), EngineError> {
        if self.readers.contains_key(&endpoint) {
            return Ok(());
        }
        let plan = &self.tickets.endpoints[endpoint as usize];
        let known = self.order.endpoints.iter().find(|known| known.name == plan.name);
        let known = known.ok_or_else(|| {
            EngineError::usage(
                format!("source {} of the plan was not given", plan.name),
                Hint::of(
                    "give every --source that the run was begun with",
                    "list every endpoint that the run was begun with",
                ),
            )
        })?;
        let reader = Reader::open(&known.config, &plan.snapshot_id).await?;
        let of_endpoint = self.tickets.tables.iter().filter(|table| table.endpoint == endpoint);
        let facts: Vec<&TableFacts> = of_endpoint.map(|table| &table.facts).collect();
        reader.adopt(facts).await?;
        self.readers.insert(endpoint, reader);
        Ok(())
    }

    /// COPY → row hash → zstd → SHA-256 → upload. All in this task: the connection's own task reads the socket
    /// meanwhile, and the upload's send the parts. A thread for the encoder cost more in waking than it gained.
    async fn export(
        &self,
        ticket: &Ticket,
        snapshot: &str,
        key: Key,
        shape: (CopyFormat, usize),
        stream: CopyStream,
    ) -> Result<Settled, EngineError> {
        let mut upload = Upload::begin(&self.order.store, key, UploadOptions::default());
        // Raced, and not only looked at between messages: a server that stalls sends none.
        let encoded = self.order.interrupt.race(encode(stream, shape, &mut upload)).await;
        let totals = match encoded {
            Ok(totals) => totals,
            Err(error) => return Err(abandon(upload, error).await),
        };
        tracing::Span::current().record("rows", totals.fingerprint.rows);
        if let Some(empty) = Settled::empty(ticket.id, snapshot, &totals) {
            upload.abort().await?;
            return Ok(empty);
        }
        kill_point::passed("completing", "rows");
        let committed = upload.finish().await?;
        tracing::Span::current().record("bytes", committed.length());
        kill_point::passed("completed", "rows");
        Ok(Settled::rows(ticket.id, snapshot, committed, &totals))
    }
}

/// Hashes, compresses and hands over all of a COPY, to the end that the server confirms.
async fn encode(
    mut stream: CopyStream,
    (format, columns): (CopyFormat, usize),
    upload: &mut Upload,
) -> Result<RowTotals, EngineError> {
    let what = upload.key().to_string();
    let refused = |error| EngineError::codec(&what, error);
    let mut writer = SpanWriter::new(format, columns).map_err(refused)?;
    let mut out = Vec::new();
    while let Some(block) = stream.try_next().await? {
        writer.push(&block, &mut out).map_err(refused)?;
        for chunk in out.drain(..) {
            upload.write(chunk).await?;
            kill_point::passed("uploading", "rows");
        }
    }
    let totals = writer.finish(&mut out).map_err(refused)?;
    for chunk in out {
        upload.write(chunk).await?;
        kill_point::passed("uploading", "rows");
    }
    Ok(totals)
}

/// Ends an upload that must not be finished; the first error stays the first.
async fn abandon(upload: Upload, error: EngineError) -> EngineError {
    super::best_effort(
        "the bucket's lifecycle rule removes what an aborted upload leaves",
        upload.abort().await,
    );
    error
}
