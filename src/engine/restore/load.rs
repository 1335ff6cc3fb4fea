//! Rows on their way in, and each table's own indexes as soon as its rows are there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::super::backups::Backup;
use super::super::error::EngineError;
use super::super::progress::Stage;
use super::super::reading::{self, Pinned};
use super::super::told;
use super::super::verifier::LARGE_OBJECT_COLUMNS;
use super::RestoreJob;
use super::content::{Content, SpanObject};
use crate::format::{CopyFormat, Damage, QualifiedName, TablePlan};
use crate::kill_point;
use crate::source::EndpointConfig;
use crate::source::target::{Archive, Loader, PageWriter, RestorePlan, TableLoad};
use crate::telemetry::spans::{part, short};

/// Decoded chunks between the decoder and the server: 128 KiB each.
const CHUNKS_UNDER_WAY: usize = 16;

/// What the loading needs to know.
pub(super) struct Loading<'a> {
    pub(super) job: &'a RestoreJob,
    pub(super) backup: &'a Backup,
    pub(super) content: Arc<Content>,
    pub(super) archive: &'a Archive,
    pub(super) plan: &'a RestorePlan,
    pub(super) endpoint: &'a EndpointConfig,
    /// Configuration tables of extensions that are rid of CREATE EXTENSION's rows.
    pub(super) cleared: tokio::sync::Mutex<HashSet<QualifiedName>>,
}

/// One table's rows, or some groups' indexes.
enum Work {
    Load(u32),
    Index(Vec<i32>),
}

/// What is left to do, shared by the lanes.
#[derive(Default)]
struct Board {
    loads: VecDeque<u32>,
    /// Tables that a group still waits for.
    waiting: Vec<usize>,
    ready: Vec<i32>,
    loading: usize,
    failed: bool,
}

struct Shared {
    board: Mutex<Board>,
    changed: Notify,
    group_of: HashMap<u32, usize>,
    entries: Vec<Vec<i32>>,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece of work; waits while another lane's load may still make some.
    async fn next(&self) -> Option<Work> {
        loop {
            let changed = self.changed.notified();
            {
                let mut board = self.board();
                if board.failed {
                    return None;
                }
                if !board.ready.is_empty() {
                    return Some(Work::Index(std::mem::take(&mut board.ready)));
                }
                if let Some(table) = board.loads.pop_front() {
                    board.loading += 1;
                    return Some(Work::Load(table));
                }
                if board.loading == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    fn loaded(&self, table: u32) {
        let mut board = self.board();
        board.loading -= 1;
        if let Some(group) = self.group_of.get(&table) {
            board.waiting[*group] -= 1;
            if board.waiting[*group] == 0 {
                board.ready.extend(&self.entries[*group]);
            }
        }
        drop(board);
        self.changed.notify_waiters();
    }

    fn fail(&self) {
        self.board().failed = true;
        self.changed.notify_waiters();
    }
}

impl Loading<'_> {
    /// Loads every table that may be loaded before its indexes, and builds the indexes of each.
    pub(super) async fn tables(&self) -> Result<(), EngineError> {
        let early: Vec<_> = self.plan.groups.iter().filter(|group| !group.rows_after_indexes).collect();
        let mut group_of = HashMap::new();
        let mut board = Board { waiting: vec![0; early.len()], ..Board::default() };
        let groups: HashMap<&QualifiedName, usize> = early
            .iter()
            .enumerate()
            .flat_map(|(position, group)| group.tables.iter().map(move |table| (table, position)))
            .collect();
        let mut loads: Vec<&TablePlan> = Vec::new();
        if !self.job.schema_only {
            for table in self.chosen(false) {
                if let Some(group) = groups.get(&table.facts.name) {
                    group_of.insert(table.id, *group);
                    board.waiting[*group] += 1;
                }
                loads.push(table);
            }
        }
        loads.sort_by_key(|table| std::cmp::Reverse(table.facts.bytes));
        let bytes = loads.iter().map(|table| self.raw_bytes(table.id)).sum();
        self.job.progress.begin(Stage::Load, loads.len() as u64, bytes);
        board.loads = loads.iter().map(|table| table.id).collect();
        let entries: Vec<Vec<i32>> = early.iter().map(|group| group.entries.clone()).collect();
        for (position, entries) in entries.iter().enumerate() {
            if board.waiting[position] == 0 {
                board.ready.extend(entries);
            }
        }
        let board = Mutex::new(board);
        self.run(Shared { board, changed: Notify::new(), group_of, entries }).await
    }

    /// Loads the tables whose values may name indexes, one after the other, when all indexes are there.
    pub(super) async fn tables_after_indexes(&self) -> Result<(), EngineError> {
        let entries: Vec<i32> = (self.plan.groups.iter().filter(|group| group.rows_after_indexes))
            .flat_map(|group| group.entries.iter().copied())
            .collect();
        self.archive.restore(self.endpoint, "indexes", &entries, self.job.parallelism.max(1)).await?;
        if self.job.schema_only {
            return Ok(());
        }
        let mut lane = Lane { loading: self, loaders: HashMap::new() };
        for table in self.chosen(true) {
            lane.load(table).await?;
        }
        lane.close().await
    }

    /// Writes the pages of large objects that were created empty before.
    pub(super) async fn large_objects(&self, mut writer: PageWriter<'_>) -> Result<(), EngineError> {
        let mut expected = 0;
        if self.content.pages.is_empty() {
            return Ok(());
        }
        // One stream: each object's header and trailer are its own, so each has its own writer in `PageWriter`.
        for span in &self.content.pages {
            let shape = (CopyFormat::Binary, LARGE_OBJECT_COLUMNS);
            let mut chunks = self.stream(span, shape);
            while let Some(chunk) = chunks.receiver.recv().await {
                writer.write(&chunk).await?;
            }
            chunks.end().await?;
            expected += span.fingerprint.rows;
        }
        let pages = writer.finish().await?;
        if pages == expected {
            return Ok(());
        }
        Err(EngineError::NotEqual(format!("{pages} pages of large objects were written of {expected}")))
    }

    fn chosen(&self, after_indexes: bool) -> impl Iterator<Item = &TablePlan> {
        let late = |name: &QualifiedName| {
            self.plan.groups.iter().any(|group| group.rows_after_indexes && group.tables.contains(name))
        };
        self.content.tables.iter().filter(move |table| {
            self.plan.tables.contains(&table.facts.name) && late(&table.facts.name) == after_indexes
        })
    }

    fn raw_bytes(&self, table: u32) -> u64 {
        self.content.spans.get(&table).into_iter().flatten().map(|span| span.raw_bytes).sum()
    }

    async fn run(&self, shared: Shared) -> Result<(), EngineError> {
        let lanes = (0..self.job.parallelism.max(1)).map(|_| async {
            let mut lane = Lane { loading: self, loaders: HashMap::new() };
            let mut result = Ok(());
            while let Some(work) = shared.next().await {
                result = lane.carry_out(&shared, work).await;
                if result.is_err() {
                    shared.fail();
                    break;
                }
            }
            match result {
                Ok(()) => lane.close().await,
                failed => failed,
            }
        });
        let ended = futures::future::join_all(lanes).await;
        ended.into_iter().collect()
    }

    /// Sends the rows of one object.
    async fn fill(
        &self,
        mut load: TableLoad<'_>,
        table: &TablePlan,
        span: &SpanObject,
    ) -> Result<(), EngineError> {
        let facts = &table.facts;
        let mut chunks = self.stream(span, (facts.format, facts.columns.len()));
        while let Some(chunk) = chunks.receiver.recv().await {
            load.write(chunk).await?;
            kill_point::passed("loading", "rows");
        }
        // Only when the object was found whole and right is the COPY ended well.
        chunks.end().await?;
        let rows = load.finish().await?;
        kill_point::passed("loaded", "span");
        if rows != span.fingerprint.rows {
            let (name, stored) = (&facts.name, span.fingerprint.rows);
            return Err(EngineError::NotEqual(format!("{name}: {rows} rows were loaded of {stored}")));
        }
        self.job.progress.advance(Stage::Load, 0, span.raw_bytes);
        Ok(())
    }

    /// The decoded rows of one object, checked to the last byte before the stream ends well.
    fn stream(&self, span: &SpanObject, shape: (CopyFormat, usize)) -> Chunks {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(CHUNKS_UNDER_WAY);
        let store = self.job.destinations.named(&span.destination).map(|it| it.store.clone());
        let span = span.clone();
        let run = self.backup.run;
        let reading = tokio::spawn(async move {
            let store = store?;
            let sink = move |raw: &[u8]| {
                let sent = sender.blocking_send(Bytes::copy_from_slice(raw));
                sent.map_err(|_| "the load was given up".to_owned())
            };
            let read =
                reading::read_rows(&*store, &span.object, Pinned::WhereKnown, shape, span.raw_bytes, 0, sink);
            let damaged = |damage: Damage| EngineError::Damaged(format!("run {run}, {damage}"));
            match read.await {
                Ok(totals) if totals.fingerprint == span.fingerprint => Ok(()),
                Ok(totals) => {
                    let finding =
                        format!("it holds {}, and {} were written", totals.fingerprint, span.fingerprint);
                    Err(damaged(Damage {
                        object: span.object.key.to_string(),
                        table: None,
                        offsets: None,
                        finding,
                    }))
                }
                Err(unread) => Err(damaged(unread.into_damage(span.object.key.to_string(), None)?)),
            }
        });
        Chunks { receiver, reading }
    }
}

struct Chunks {
    receiver: tokio::sync::mpsc::Receiver<Bytes>,
    reading: tokio::task::JoinHandle<Result<(), EngineError>>,
}

impl Chunks {
    async fn end(self) -> Result<(), EngineError> {
        self.reading.await.map_err(|error| EngineError::Task(format!("a reader died: {error}")))?
    }
}

/// One connection for each encoding, carrying out one piece of work after the other.
struct Lane<'a> {
    loading: &'a Loading<'a>,
    loaders: HashMap<String, Loader>,
}

impl Lane<'_> {
    async fn carry_out(&mut self, shared: &Shared, work: Work) -> Result<(), EngineError> {
        match work {
            Work::Index(entries) => {
                Ok(self.loading.archive.restore(self.loading.endpoint, "indexes", &entries, 1).await?)
            }
            Work::Load(id) => {
                let content = self.loading.content.clone();
                let table = content.tables.get(id as usize);
                let table = table.ok_or_else(|| EngineError::Task("a table vanished".into()))?;
                let part = part!("table", table = short(&table.facts.name.to_string()));
                told(part, self.load(table)).await?;
                shared.loaded(id);
                Ok(())
            }
        }
    }

    async fn load(&mut self, table: &TablePlan) -> Result<(), EngineError> {
        let loading = self.loading;
        let encoding = loading.content.encoding(table.endpoint).to_owned();
        if !self.loaders.contains_key(&encoding) {
            let loader = Loader::connect(loading.endpoint, &encoding).await?;
            self.loaders.insert(encoding.clone(), loader);
        }
        let Some(loader) = self.loaders.get_mut(&encoding) else {
            return Err(EngineError::Task("a loader vanished".into()));
        };
        let facts = &table.facts;
        if facts.extension_condition.is_some() {
            // Held meanwhile, and once for all servers: the second must not delete the first one's rows.
            let mut cleared = loading.cleared.lock().await;
            if cleared.insert(facts.name.clone()) {
                loader.clear_extension_rows(facts).await?;
            }
        }
        let spans = loading.content.spans.get(&table.id).map_or(&[][..], Vec::as_slice);
        // With several servers, others' rows come into the same table.
        let whole = loading.content.endpoints.len() == 1 && Loader::fits_whole(facts);
        if whole && !spans.is_empty() {
            let mut load = loader.begin_whole(facts).await?;
            for span in spans {
                let rows = load.begin().await?;
                loading.fill(rows, table, span).await?;
            }
            load.commit().await?;
        } else {
            for span in spans {
                let rows = loader.begin(facts).await?;
                loading.fill(rows, table, span).await?;
            }
        }
        Ok(())
    }

    async fn close(self) -> Result<(), EngineError> {
        for (_, loader) in self.loaders {
            loader.close().await?;
        }
        Ok(())
    }
}
