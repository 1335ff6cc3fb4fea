//! What a backup asks for, against what the databases have: before a number is claimed, because a run that would
//! hold nothing of what was meant is no use, and one that is void is noise.

use super::error::EngineError;
use super::job::{BackupJob, Endpoint};
use super::placing;
use crate::plan::placement::Placed;
use crate::source::{Likeness, Outline, TablePattern};

/// One server, looked at before anything is locked.
pub(crate) struct Looked<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) outline: Outline,
    /// Absent where there is one server alone.
    pub(crate) likeness: Option<Likeness>,
}

/// Every table, also of a database that has none yet.
const EVERYTHING: &str = "*.*";

/// Refuses patterns and rules that mean nothing, tables without a place, and servers that differ.
pub(crate) fn check(job: &BackupJob, looked: &[Looked<'_>]) -> Result<(), EngineError> {
    check_patterns(job, looked)?;
    for Looked { endpoint, outline, .. } in looked {
        let taken = outline.tables.iter().filter(|table| table.taken);
        let placed: Vec<_> =
            taken.map(|table| Placed { name: &table.name, root: table.root.as_ref() }).collect();
        placing::of_tables(job, endpoint, &placed)?;
        placing::of_large_objects(job, endpoint, outline.large_objects)?;
    }
    let alike = looked.iter().filter_map(|it| Some((&*it.endpoint.name, it.likeness.as_ref()?)));
    check_alike(&alike.collect::<Vec<_>>())
}

/// Rows of several servers are united at a restore, under the definitions of the first.
pub(crate) fn check_alike(servers: &[(&str, &Likeness)]) -> Result<(), EngineError> {
    for (position, (other, theirs)) in servers.iter().enumerate() {
        // Each with each: large objects of any two may have one number.
        for (one, ours) in &servers[..position] {
            if let Some(difference) = ours.difference(theirs) {
                let message = format!("sources {one} and {other} differ in {}", difference.what);
                return Err(EngineError::usage(message, difference.hint));
            }
        }
    }
    Ok(())
}

/// A pattern that means nothing is a misspelt one: of what is included or placed it would leave all out, or put it
/// elsewhere. One that excludes nothing does no harm, and is only noted: tables come and go.
fn check_patterns(job: &BackupJob, looked: &[Looked<'_>]) -> Result<(), EngineError> {
    let tables = || looked.iter().flat_map(|it| &it.outline.tables);
    let has_table = |pattern: &TablePattern| {
        pattern.to_string() == EVERYTHING || tables().any(|table| pattern.matches(&table.name))
    };
    for pattern in &job.selection.include_schemas {
        if !looked.iter().any(|it| it.outline.schemas.iter().any(|schema| pattern.matches(schema))) {
            return Err(EngineError::usage(
                format!("the pattern {pattern} of included schemas matches no schema"),
                "look at its spelling, and at the database",
            ));
        }
    }
    for pattern in &job.selection.include_tables {
        if !has_table(pattern) {
            return Err(EngineError::usage(
                format!("the pattern {pattern} of included tables matches no table that holds rows"),
                "look at its spelling; the rows of a partitioned table are in its partitions: name those",
            ));
        }
    }
    for pattern in &job.selection.exclude_tables {
        if !has_table(pattern) {
            job.progress.note(format!("the pattern {pattern} of excluded tables matches no table"));
        }
    }
    for rule in &job.placement.rules {
        let refuse = |what: String| {
            EngineError::usage(
                format!("placement rule {}: {what}", rule.name),
                "look at its spelling: what it was meant for would go elsewhere",
            )
        };
        if let Some(pattern) = rule.tables.iter().find(|pattern| !has_table(pattern)) {
            return Err(refuse(format!("the pattern {pattern} matches no table that holds rows")));
        }
        let no_root = |root: &&_| !tables().any(|table| table.root.as_ref() == Some(*root));
        if let Some(root) = rule.partitions_of.iter().find(no_root) {
            return Err(refuse(format!("{root} has no partition that holds rows")));
        }
    }
    Ok(())
}
