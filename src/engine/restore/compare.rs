//! Every table's count and fingerprint, recomputed from the restored database.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::super::error::EngineError;
use super::super::progress::Stage;
use super::content::Content;
use super::{RestoreJob, RestoredTable};
use crate::codec::RowHasher;
use crate::format::{Fingerprint, QualifiedName, SpanRange, TablePlan};
use crate::source::target::{Rereader, RestorePlan, SequenceValue};
use crate::source::{EndpointConfig, Session, sequences};

/// Blocks that one piece covers: 64 MiB of 8 KiB blocks, so that lanes end at about the same time.
const BLOCKS_PER_PIECE: u32 = 8192;

struct Piece<'a> {
    table: &'a TablePlan,
    range: SpanRange,
}

/// Reads every chosen table of the restored database and compares it with the backup.
pub(super) async fn compare(
    job: &RestoreJob,
    content: &Content,
    plan: &RestorePlan,
    endpoint: &EndpointConfig,
) -> Result<Vec<RestoredTable>, EngineError> {
    let expected = content.expected(&plan.tables);
    // With several servers a table's rows are united: it is read once, in the encoding of the first.
    let mut tables: BTreeMap<&QualifiedName, &TablePlan> = BTreeMap::new();
    for table in content.tables.iter().filter(|table| plan.tables.contains(&table.facts.name)) {
        tables.entry(&table.facts.name).or_insert(table);
    }
    job.progress.begin(Stage::Compare, tables.len() as u64, 0);
    let encoding = content.encoding(0);
    let pieces = cut(tables.values().copied(), endpoint, encoding).await?;
    let queue = Mutex::new(pieces);
    let lanes = (0..job.parallelism.max(1)).map(|_| async {
        let mut reader = Rereader::connect(endpoint, encoding).await?;
        let mut found: Vec<(QualifiedName, Fingerprint)> = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(piece) = next else { break };
            let facts = &piece.table.facts;
            let mut hasher = RowHasher::new(facts.format, facts.columns.len());
            let mut rows = reader.begin(facts, &piece.range).await?;
            while let Some(chunk) = rows.next().await? {
                hasher.push(&chunk).map_err(|error| EngineError::codec(facts.name.to_string(), error))?;
            }
            let totals =
                hasher.finish().map_err(|error| EngineError::codec(facts.name.to_string(), error))?;
            found.push((facts.compared_as().clone(), totals.fingerprint));
            job.progress.advance(Stage::Compare, 1, 0);
        }
        reader.close().await?;
        Ok::<_, EngineError>(found)
    });
    let found = futures::future::try_join_all(lanes).await?;
    let mut sums: BTreeMap<QualifiedName, Fingerprint> = BTreeMap::new();
    for (name, fingerprint) in found.into_iter().flatten() {
        let sum = sums.entry(name).or_default();
        *sum = sum.plus(fingerprint);
    }
    let differing: Vec<String> = expected
        .iter()
        .filter_map(|table| {
            let found = sums.get(&table.name).copied().unwrap_or_default();
            (found != table.fingerprint)
                .then(|| format!("{}: it has {found}, and the backup {}", table.name, table.fingerprint))
        })
        .collect();
    if differing.is_empty() { Ok(expected) } else { Err(EngineError::NotEqual(differing.join("; "))) }
}

/// Reads every sequence that was set again: a trigger or somebody else may have moved one meanwhile.
pub(super) async fn compare_sequences(
    session: &Session,
    expected: &[SequenceValue],
) -> Result<(), EngineError> {
    let names: Vec<QualifiedName> = expected.iter().map(|value| value.name.clone()).collect();
    let found = sequences::values(session, &names).await?;
    let text = |value: Option<&SequenceValue>| match value {
        Some(SequenceValue { last_value, is_called: true, .. }) => format!("{last_value}, handed out"),
        Some(SequenceValue { last_value, is_called: false, .. }) => format!("{last_value}, not handed out"),
        None => "nothing".to_owned(),
    };
    let differing: Vec<String> = (expected.iter().enumerate())
        .filter(|(position, value)| found.get(*position) != Some(value))
        .map(|(position, value)| {
            let (found, expected) = (text(found.get(position)), text(Some(value)));
            format!("sequence {}: it stands at {found}, and the backup has {expected}", value.name)
        })
        .collect();
    if differing.is_empty() { Ok(()) } else { Err(EngineError::NotEqual(differing.join("; "))) }
}

async fn cut<'a>(
    tables: impl Iterator<Item = &'a TablePlan>,
    endpoint: &EndpointConfig,
    encoding: &str,
) -> Result<VecDeque<Piece<'a>>, EngineError> {
    let reader = Rereader::connect(endpoint, encoding).await?;
    let mut pieces = VecDeque::new();
    for table in tables {
        let blocks = reader.blocks(&table.facts).await?;
        if blocks <= BLOCKS_PER_PIECE {
            pieces.push_back(Piece { table, range: SpanRange::Whole });
            continue;
        }
        let bounds: Vec<u32> =
            (1..).map(|n| n * BLOCKS_PER_PIECE).take_while(|bound| *bound < blocks).collect();
        let starts = std::iter::once(None).chain(bounds.iter().copied().map(Some));
        let ends = bounds.iter().copied().map(Some).chain(std::iter::once(None));
        for (from, to) in starts.zip(ends) {
            pieces.push_front(Piece { table, range: SpanRange::Blocks { from, to } });
        }
    }
    reader.close().await?;
    Ok(pieces)
}
