//! What differs between a backup and another, or a database, table by table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::backups::Backup;
use super::error::EngineError;
use super::progress::{Progress, Stage};
use crate::codec::RowHasher;
use crate::format::{Fingerprint, Plan, QualifiedName, SpanRange, TablePlan};
use crate::source::target::Rereader;
use crate::source::{ClientEncoding, EndpointConfig, Session, tables_with_rows};

/// A table that is not the same on both sides. An absent side has no such table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDifference {
    /// Its name.
    pub name: QualifiedName,
    /// Rows in the backup.
    pub left: Option<u64>,
    /// Rows in the other one.
    pub right: Option<u64>,
}

type Tables = BTreeMap<QualifiedName, Fingerprint>;

fn tables(backup: &Backup) -> Tables {
    let mut tables = Tables::new();
    for table in &backup.manifest.tables {
        let sum = tables.entry(table.name.clone()).or_default();
        *sum = sum.plus(table.fingerprint);
    }
    tables
}

fn differences(left: &Tables, right: &Tables) -> Vec<TableDifference> {
    let names = left.keys().chain(right.keys().filter(|name| !left.contains_key(*name)));
    let mut differences: Vec<_> = names
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| TableDifference {
            name: name.clone(),
            left: left.get(name).map(|fingerprint| fingerprint.rows),
            right: right.get(name).map(|fingerprint| fingerprint.rows),
        })
        .collect();
    differences.sort_by(|a, b| a.name.cmp(&b.name));
    differences
}

/// Compares the manifests of two backups. Both must be opened, so both are bound to their seals.
#[must_use]
pub fn with_backup(left: &Backup, right: &Backup) -> Vec<TableDifference> {
    differences(&tables(left), &tables(right))
}

/// Reads the backup's tables in a database and compares them. Tables that only the database has are counted, but for
/// those whose rows the backup left out by its own word: of these nothing is known.
///
/// # Errors
/// If the database can't be read.
pub async fn with_database(
    backup: &Backup,
    plan: &Plan,
    endpoint: &EndpointConfig,
    parallelism: usize,
    progress: &Progress,
) -> Result<Vec<TableDifference>, EngineError> {
    let session = Session::connect(endpoint, "diff", &ClientEncoding::Utf8).await?;
    // Rows that lie in another leaf after a restore are compared over their tree.
    let compared_as: BTreeMap<&QualifiedName, &QualifiedName> =
        plan.tables.iter().map(|table| (&table.facts.name, table.facts.compared_as())).collect();
    let mut there: VecDeque<&TablePlan> = VecDeque::new();
    // With several servers a table is planned once for each.
    let mut known = BTreeSet::new();
    for table in plan.tables.iter().filter(|table| known.insert(&table.facts.name)) {
        let row = session
            .client()
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table.facts.name.quoted()])
            .await
            .map_err(|error| session.error(format!("looking for {}", table.facts.name), error))?;
        if row.get(0) {
            there.push_back(table);
        }
    }
    let only_there = only_in_database(backup, plan, &session).await?;
    session.close().await?;
    let encoding = plan.endpoints.first().map_or("UTF8", |endpoint| endpoint.encoding.as_str());
    progress.begin(Stage::Compare, there.len() as u64, 0);
    let queue = Mutex::new(there);
    let lanes = (0..parallelism.max(1)).map(|_| async {
        let mut reader = Rereader::connect(endpoint, encoding).await?;
        let mut found = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(table) = next else { break };
            let codec = |error| EngineError::codec(table.facts.name.to_string(), error);
            let mut hasher = RowHasher::new(table.facts.format, table.facts.columns.len());
            let mut rows = reader.begin(&table.facts, &SpanRange::Whole).await?;
            while let Some(chunk) = rows.next().await? {
                hasher.push(&chunk).map_err(codec)?;
            }
            found.push((table.facts.compared_as().clone(), hasher.finish().map_err(codec)?.fingerprint));
            progress.advance(Stage::Compare, 1, 0);
        }
        reader.close().await?;
        Ok::<_, EngineError>(found)
    });
    let found = futures::future::try_join_all(lanes).await?;
    let mut right = Tables::new();
    for (name, fingerprint) in found.into_iter().flatten() {
        let sum = right.entry(name).or_default();
        *sum = sum.plus(fingerprint);
    }
    let mut left = Tables::new();
    for (name, fingerprint) in tables(backup) {
        let name = compared_as.get(&name).map_or(name, |root| (*root).clone());
        let sum = left.entry(name).or_default();
        *sum = sum.plus(fingerprint);
    }
    let mut differences = differences(&left, &right);
    differences.extend(only_there);
    differences.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(differences)
}

/// How a manifest says that a selection left a table out.
const EXCLUDED: &str = "Excluded";

/// Tables of the session's database that the backup neither holds nor names as left out.
async fn only_in_database(
    backup: &Backup,
    plan: &Plan,
    session: &Session,
) -> Result<Vec<TableDifference>, EngineError> {
    let held: BTreeSet<&QualifiedName> = plan.tables.iter().map(|table| &table.facts.name).collect();
    let left_out: BTreeSet<&str> = backup.manifest.omissions.iter().map(|it| it.object.as_str()).collect();
    // Of a schema of which it has nothing, a backup of a selection would hardly have taken a later table.
    let selected = backup.manifest.omissions.iter().any(|it| it.kind == EXCLUDED);
    let schemas: BTreeSet<&str> = held.iter().map(|name| name.schema.as_str()).collect();
    let mut found = Vec::new();
    for name in tables_with_rows(session).await? {
        // Older backups name what they leave out without quotes.
        let unquoted = format!("{}.{}", name.schema, name.name);
        if selected && !schemas.contains(name.schema.as_str()) {
            continue;
        }
        if held.contains(&name) || left_out.contains(&*name.to_string()) || left_out.contains(&*unquoted) {
            continue;
        }
        let row =
            session.client().query_one(&format!("SELECT count(*) FROM ONLY {}", name.quoted()), &[]).await;
        let row = row
            .map_err(|error| session.error(format!("counting {name}, which only the database has"), error))?;
        let rows = row.get::<_, i64>(0).unsigned_abs();
        found.push(TableDifference { name, left: None, right: Some(rows) });
    }
    Ok(found)
}
