//! From a job to a plan: locks, snapshot and catalogs of every source, and every table in a ticket.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::asked;
use super::error::EngineError;
use super::job::{BackupJob, Endpoint};
use super::placing;
use super::register::Turn;
use crate::format::{
    CatalogKind, DatabaseIdentity, DestinationPlan, EndpointPlan, Key, Omitted, Order, Plan, PlanDocument,
    QualifiedName, Sha256Digest, SpanRange, TablePlan, Ticket, Tickets,
};
use crate::plan::locality::Locality;
use crate::plan::placement::Placed;
use crate::plan::spans;
use crate::source::{ExportTable, Held, Likeness, LockLimits, Reader, Tool, large_objects, views};

/// One source, held still: its locks and its snapshot live as long as this.
#[derive(Debug)]
pub(crate) struct HeldSource {
    pub(crate) endpoint: Endpoint,
    pub(crate) held: Held,
    pub(crate) pg_dump: Tool,
    pub(crate) large_objects: Vec<(u32, u32)>,
    pub(crate) populated_views: Vec<QualifiedName>,
    pub(crate) taken: Timestamp,
    /// Absent where there is one server alone.
    pub(crate) likeness: Option<Likeness>,
}

/// Takes locks and a snapshot of every source.
pub(crate) async fn hold(job: &BackupJob) -> Result<Vec<HeldSource>, EngineError> {
    let mut sources = Vec::new();
    for endpoint in &job.endpoints {
        let held = Held::take(&endpoint.config, &job.selection, LockLimits::default()).await?;
        let pg_dump = job.tools.pg_dump_for(held.server.version_num).await?;
        let session = held.snapshot.session();
        let large_objects = large_objects::ranges(session, job.span_bytes.get()).await?;
        let populated_views = views::populated(session).await?;
        let likeness = match job.endpoints.len() {
            1 => None,
            _ => Some(Likeness::read(session, &job.selection).await?),
        };
        let taken = Timestamp::now();
        let endpoint = endpoint.clone();
        sources.push(HeldSource { endpoint, held, pg_dump, large_objects, populated_views, taken, likeness });
    }
    Ok(sources)
}

/// Lets every source go; the first error stays the first.
pub(crate) async fn release(sources: Vec<HeldSource>) -> Result<(), EngineError> {
    let mut first = Ok(());
    for source in sources {
        let released = source.held.release().await.map_err(EngineError::from);
        first = first.and(released);
    }
    first
}

/// A plan with the tickets of each destination, in the order of destinations.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) tickets: Vec<Tickets>,
}

/// Puts every table of the snapshots into tickets.
pub(crate) async fn plan(
    job: &BackupJob,
    turn: &Turn,
    sources: &[HeldSource],
) -> Result<Planned, EngineError> {
    check_alike(sources)?;
    let endpoints = endpoints(sources);
    let mut draft = Draft::new(job);
    for (position, source) in sources.iter().enumerate() {
        let position = u32::try_from(position).map_err(|_| EngineError::Task("too many sources".into()))?;
        draft.add_tables(job, position, source).await?;
        draft.add_catalogs(position);
        let place = placing::of_large_objects(job, &source.endpoint, !source.large_objects.is_empty())?;
        for (from, to) in &source.large_objects {
            draft.add_ticket(&place, Order::LargeObjects { endpoint: position, from: *from, to: *to });
        }
    }
    let tickets = draft.tickets_by_destination(turn, &endpoints);
    let destinations = job.destinations.all().iter().zip(&tickets).map(|(destination, tickets)| {
        let bytes = crate::format::encode(tickets);
        let bytes = bytes.map_err(|source| {
            let key = Key::of_plan(turn.run, &turn.plan, PlanDocument::Tickets);
            EngineError::format(&*destination.store, &key, source)
        })?;
        Ok(DestinationPlan {
            name: destination.name.clone(),
            url: destination.store.url().to_owned(),
            locality: destination.locality.clone(),
            default: job.destinations.is_default(&destination.name),
            tickets: Sha256Digest::of(&bytes),
            count: u32::try_from(tickets.tickets.len()).unwrap_or(u32::MAX),
        })
    });
    let destinations = destinations.collect::<Result<Vec<_>, EngineError>>()?;
    let omissions = sources.iter().flat_map(|source| {
        source.held.catalog.omissions.iter().map(|omission| Omitted {
            endpoint: source.endpoint.name.clone(),
            object: omission.object.to_string(),
            kind: format!("{:?}", omission.kind),
            reason: omission.reason.clone(),
        })
    });
    let plan = Plan {
        run: turn.run,
        plan: turn.plan,
        endpoints,
        destinations,
        tables: draft.tables,
        omissions: omissions.collect(),
        populated_views: sources.first().map_or_else(Vec::new, |it| it.populated_views.clone()),
        tickets: draft.next_ticket,
    };
    Ok(Planned { plan, tickets })
}

/// Asked before the claim as well; the schemas may have changed since.
fn check_alike(sources: &[HeldSource]) -> Result<(), EngineError> {
    let alike = sources.iter().filter_map(|it| Some((&*it.endpoint.name, it.likeness.as_ref()?)));
    asked::check_alike(&alike.collect::<Vec<_>>())
}

fn endpoints(sources: &[HeldSource]) -> Vec<EndpointPlan> {
    let plan = |source: &HeldSource| {
        let snapshot = source.held.snapshot.snapshot();
        EndpointPlan {
            name: source.endpoint.name.clone(),
            locality: source.endpoint.locality.as_ref().map(Locality::to_string),
            identity: DatabaseIdentity {
                system_identifier: source.held.server.system_identifier.to_string(),
                database: source.held.server.database.clone(),
            },
            version_num: source.held.server.version_num,
            encoding: source.held.server.encoding.clone(),
            snapshot_id: snapshot.id.clone(),
            snapshot: snapshot.transactions.clone(),
            taken: source.taken,
            catalog: source.held.definitions.sha256(),
            pg_dump: source.pg_dump.version.to_string(),
        }
    };
    sources.iter().map(plan).collect()
}

#[derive(Debug)]
struct Draft {
    default: String,
    names: Vec<String>,
    tables: Vec<TablePlan>,
    tickets: BTreeMap<String, Vec<Ticket>>,
    next_ticket: u32,
}

impl Draft {
    fn new(job: &BackupJob) -> Self {
        let default = job.destinations.default().name.clone();
        let names = job.destinations.all().iter().map(|it| it.name.clone()).collect();
        Self { default, names, tables: Vec::new(), tickets: BTreeMap::new(), next_ticket: 0 }
    }

    fn add_ticket(&mut self, destination: &str, order: Order) {
        let ticket = Ticket { id: self.next_ticket, order };
        self.next_ticket += 1;
        self.tickets.entry(destination.to_owned()).or_default().push(ticket);
    }

    fn add_catalogs(&mut self, endpoint: u32) {
        let default = self.default.clone();
        self.add_ticket(&default, Order::Schema { endpoint });
        for what in
            [CatalogKind::Roles, CatalogKind::Sequences, CatalogKind::LargeObjects, CatalogKind::Database]
        {
            self.add_ticket(&default, Order::Catalog { endpoint, what });
        }
    }

    async fn add_tables(
        &mut self,
        job: &BackupJob,
        endpoint: u32,
        source: &HeldSource,
    ) -> Result<(), EngineError> {
        let exported = &source.held.catalog.tables;
        let placed: Vec<Placed<'_>> = (exported.iter())
            .map(|table| Placed { name: &table.facts.name, root: table.facts.partition_root.as_ref() })
            .collect();
        let places = placing::of_tables(job, &source.endpoint, &placed)?;
        let mut sampler = None;
        for (table, destination) in exported.iter().zip(places) {
            let ranges = ranges(job, source, table, &mut sampler).await?;
            let id =
                u32::try_from(self.tables.len()).map_err(|_| EngineError::Task("too many tables".into()))?;
            self.tables.push(TablePlan {
                id,
                endpoint,
                destination: destination.clone(),
                facts: table.facts.clone(),
                tickets: u32::try_from(ranges.len()).unwrap_or(u32::MAX),
            });
            for range in ranges {
                self.add_ticket(&destination, Order::Rows { table: id, range });
            }
        }
        if let Some(sampler) = sampler {
            sampler.close().await?;
        }
        Ok(())
    }

    fn tickets_by_destination(&mut self, turn: &Turn, endpoints: &[EndpointPlan]) -> Vec<Tickets> {
        let mut all = std::mem::take(&mut self.tickets);
        self.names
            .clone()
            .into_iter()
            .map(|destination| Tickets {
                run: turn.run,
                plan: turn.plan,
                endpoints: endpoints.to_vec(),
                tables: self
                    .tables
                    .iter()
                    .filter(|table| table.destination == destination)
                    .cloned()
                    .collect(),
                tickets: all.remove(&destination).unwrap_or_default(),
                destination,
            })
            .collect()
    }
}

/// The spans of a table: blocks where ctid scans work, else a few key ranges, else all of it.
async fn ranges(
    job: &BackupJob,
    source: &HeldSource,
    table: &ExportTable,
    sampler: &mut Option<Reader>,
) -> Result<Vec<SpanRange>, EngineError> {
    let major = source.held.server.major();
    let target = job.span_bytes.get();
    let pieces = match spans::cut(&table.facts, major, &table.access_method, table.key.is_some(), target) {
        spans::Cut::Nothing => return Ok(vec![SpanRange::Whole]),
        spans::Cut::Blocks => return Ok(spans::block_spans(&table.facts, target)),
        spans::Cut::Keys { ranges } => ranges,
    };
    let Some(key) = &table.key else { return Ok(vec![SpanRange::Whole]) };
    let reader = match sampler {
        Some(reader) => reader,
        None => {
            let id = &source.held.snapshot.snapshot().id;
            sampler.insert(Reader::open(&source.endpoint.config, id).await?)
        }
    };
    let bounds = reader.key_bounds(table, pieces).await?;
    Ok(spans::key_spans(&key.column, &key.of_type, &bounds))
}
