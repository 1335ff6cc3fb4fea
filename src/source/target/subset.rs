//! What of an archive a selection takes, with all that it needs and all that hangs on it.
//!
//! `pg_restore --table` restores neither the types nor the indexes of a table, and drops the rest silently.
//! Here everything that is chosen brings what it depends on, and its own indexes, constraints, triggers and
//! privileges; what can't come because its other end stays away (a foreign key) is named.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::error::TargetError;
use super::plan::{Omission, name_of};
use super::toc::{Toc, TocEntry};
use crate::format::relation::QualifiedName;
use crate::source::selection::Selection;

/// What a selection takes.
#[derive(Debug)]
pub(super) struct Subset {
    /// Dump ids.
    pub(super) ids: HashSet<i32>,
    /// What hangs on something chosen and is left out.
    pub(super) omissions: Vec<Omission>,
    /// Tables that only come because something chosen needs them.
    pub(super) brought_along: Vec<QualifiedName>,
}

impl Subset {
    pub(super) fn new(toc: &Toc, selection: &Selection) -> Result<Self, TargetError> {
        if *selection == Selection::default() {
            let ids = toc.entries.iter().map(|entry| entry.dump_id).collect();
            return Ok(Self { ids, omissions: Vec::new(), brought_along: Vec::new() });
        }
        check_known(toc, selection)?;
        let asked = asked_for(toc, selection);
        let mut closure = Closure::new(toc);
        for id in &asked {
            closure.add(*id);
        }
        closure.add_attached();
        let mut omissions = Vec::new();
        let mut brought_along = Vec::new();
        for entry in &toc.entries {
            let chosen = closure.ids.contains(&entry.dump_id);
            if chosen && entry.kind == "TABLE" && !asked.contains(&entry.dump_id) {
                brought_along.extend(name_of(entry));
            }
            if !chosen && is_own_part(entry) && closure.owner_is_chosen(entry) {
                omissions.push(Omission {
                    object: format!("{} {}", entry.kind, entry.tag),
                    why: "the other end of it isn't restored",
                });
            }
        }
        Ok(Self { ids: closure.ids, omissions, brought_along })
    }
}

/// Each name and pattern must mean something: a misspelt table would otherwise be a restore of nothing.
fn check_known(toc: &Toc, selection: &Selection) -> Result<(), TargetError> {
    for pattern in &selection.include_schemas {
        let known = toc.entries.iter().any(|entry| {
            entry.schema.as_ref().is_some_and(|schema| pattern.matches(schema))
                || (entry.kind == "SCHEMA" && pattern.matches(&entry.tag))
        });
        if !known {
            return Err(TargetError::SelectionUnknown { what: format!("schema {pattern}") });
        }
    }
    for pattern in &selection.include_tables {
        if !toc
            .entries
            .iter()
            .any(|entry| is_relation(entry) && name_of(entry).is_some_and(|name| pattern.matches(&name)))
        {
            return Err(TargetError::SelectionUnknown { what: format!("table {pattern}") });
        }
    }
    Ok(())
}

fn is_relation(entry: &TocEntry) -> bool {
    matches!(entry.kind.as_str(), "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "FOREIGN TABLE")
}

/// Kinds that are parts of another object: they come with it, never by themselves.
fn is_part(entry: &TocEntry) -> bool {
    is_own_part(entry) || needs_all(entry)
}

/// Parts of a relation that bring along what they need.
fn brings_needs(entry: &TocEntry) -> bool {
    matches!(
        entry.kind.as_str(),
        "INDEX"
            | "CONSTRAINT"
            | "CHECK CONSTRAINT"
            | "DEFAULT"
            | "TRIGGER"
            | "RULE"
            | "POLICY"
            | "ROW SECURITY"
            | "STATISTICS"
    )
}

fn is_own_part(entry: &TocEntry) -> bool {
    brings_needs(entry) || entry.kind == "FK CONSTRAINT"
}

/// What is about, or between, objects: it comes if all of them do.
fn needs_all(entry: &TocEntry) -> bool {
    matches!(
        entry.kind.as_str(),
        "TABLE ATTACH" | "INDEX ATTACH" | "SEQUENCE OWNED BY" | "COMMENT" | "ACL" | "SECURITY LABEL"
    )
}

/// What the selection names, partitions with their root.
fn asked_for(toc: &Toc, selection: &Selection) -> BTreeSet<i32> {
    let mut asked = BTreeSet::new();
    for entry in &toc.entries {
        let taken = match (&entry.schema, entry.kind.as_str()) {
            (None, "SCHEMA") => selection.include_schemas.iter().any(|pattern| pattern.matches(&entry.tag)),
            (Some(_), _) if is_relation(entry) => name_of(entry).is_some_and(|name| selection.takes(&name)),
            (Some(schema), kind) => {
                !is_part(entry)
                    && !kind.starts_with("PUBLICATION")
                    && kind != "DEFAULT ACL"
                    && selection.include_schemas.iter().any(|pattern| pattern.matches(schema))
            }
            _ => false,
        };
        if taken {
            asked.insert(entry.dump_id);
        }
    }
    // Roots come before their partitions' partitions, so once through is enough.
    for entry in toc.entries.iter().filter(|entry| entry.kind == "TABLE ATTACH") {
        let relations =
            entry.dependencies.iter().filter_map(|id| toc.get(*id)).filter(|entry| is_relation(entry));
        let (child, parents): (Vec<_>, Vec<_>) =
            relations.partition(|needed| needed.tag == entry.tag && needed.schema == entry.schema);
        let excluded = |child: &&TocEntry| {
            name_of(child)
                .is_some_and(|name| selection.exclude_tables.iter().any(|pattern| pattern.matches(&name)))
        };
        if parents.iter().any(|parent| asked.contains(&parent.dump_id)) {
            asked.extend(child.iter().filter(|child| !excluded(child)).map(|child| child.dump_id));
        }
    }
    asked
}

struct Closure<'a> {
    toc: &'a Toc,
    ids: HashSet<i32>,
    schemas: HashMap<&'a str, i32>,
}

impl<'a> Closure<'a> {
    fn new(toc: &'a Toc) -> Self {
        let schemas = toc
            .entries
            .iter()
            .filter(|entry| entry.kind == "SCHEMA")
            .map(|entry| (entry.tag.as_str(), entry.dump_id))
            .collect();
        Self { toc, ids: HashSet::new(), schemas }
    }

    /// Adds an entry and all that it depends on.
    fn add(&mut self, id: i32) {
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            let Some(entry) = self.toc.get(id) else { continue };
            if self.ids.insert(id) {
                waiting.extend(&entry.dependencies);
                waiting.extend(entry.schema.as_deref().and_then(|schema| self.schemas.get(schema)));
            }
        }
    }

    /// Adds what hangs on what is chosen, until nothing more does: each round adds an entry, so there are at
    /// most as many rounds as entries.
    fn add_attached(&mut self) {
        loop {
            let before = self.ids.len();
            for entry in &self.toc.entries {
                if self.ids.contains(&entry.dump_id) {
                    continue;
                }
                let known = entry.dependencies.iter().filter(|id| self.toc.get(**id).is_some());
                let all = || {
                    let mut known = known.clone().peekable();
                    known.peek().is_some() && known.all(|id| self.ids.contains(id))
                };
                // An identity column's sequence is an entry of its own, made on its table.
                let identity = || {
                    entry.kind == "SEQUENCE"
                        && known.clone().any(|id| {
                            self.ids.contains(id)
                                && self.toc.get(*id).is_some_and(|needed| needed.kind == "TABLE")
                        })
                };
                if (brings_needs(entry) && self.owner_is_chosen(entry)) || identity() {
                    self.add(entry.dump_id);
                } else if (needs_all(entry) || entry.kind == "FK CONSTRAINT") && all() {
                    self.ids.insert(entry.dump_id);
                }
            }
            if self.ids.len() == before {
                return;
            }
        }
    }

    /// Whether the relation that a part belongs to is chosen. Its tag begins with the relation's name; an
    /// index or a statistics object has a name of its own, and depends on one relation (or it is one view's).
    fn owner_is_chosen(&self, entry: &TocEntry) -> bool {
        entry.dependencies.iter().filter_map(|id| self.toc.get(*id)).any(|needed| {
            is_relation(needed)
                && self.ids.contains(&needed.dump_id)
                && (matches!(entry.kind.as_str(), "INDEX" | "STATISTICS")
                    || (needed.schema == entry.schema
                        && entry
                            .tag
                            .strip_prefix(needed.tag.as_str())
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))))
        })
    }
}
