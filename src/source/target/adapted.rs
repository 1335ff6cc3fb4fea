//! A plan for a target that has things of its own: a database that is there, or an owner that isn't the source's.

use std::collections::BTreeSet;

use super::plan::{Omission, RestorePlan};
use super::toc::{Toc, TocEntry};
use crate::format::relation::{QualifiedName, TableFacts};

impl RestorePlan {
    /// The same without what concerns a database as a whole: for schemas of a database that has its own. The
    /// schemas themselves are made by [`super::ClaimedSchemas`]; those of `existing` keep what they are.
    #[must_use]
    pub fn for_existing_database(
        mut self,
        toc: &Toc,
        tables: &[TableFacts],
        existing: &BTreeSet<String>,
    ) -> Self {
        let mut left_out = Vec::new();
        let omission =
            |entry: &TocEntry, why| Omission { object: format!("{} {}", entry.kind, entry.tag), why };
        // Definitions that others need (casts, servers) stay.
        for list in [&mut self.schemas, &mut self.relations, &mut self.access, &mut self.events] {
            list.retain(|id| {
                let Some(entry) = toc.get(*id) else { return true };
                if entry.kind == "SCHEMA" {
                    return false;
                }
                let why = if is_database_wide(toc, entry) {
                    "it concerns the whole database, which is another one's"
                } else if schema_of_statement(entry).is_some_and(|schema| existing.contains(schema)) {
                    "the schema was there before, and keeps its own"
                } else {
                    return true;
                };
                left_out.push(omission(entry, why));
                false
            });
        }
        self.omissions.extend(left_out);
        self.leave_out_comments_on_extensions(toc);
        let configuration = |name: &QualifiedName| {
            tables.iter().any(|table| table.extension_condition.is_some() && table.name == *name)
        };
        for name in self.tables.iter().filter(|name| configuration(name)) {
            self.omissions.push(Omission {
                object: format!("TABLE DATA {name}"),
                why: "an extension's configuration is the database's own",
            });
        }
        self.tables.retain(|name| !configuration(name));
        self
    }

    /// The same for objects that all belong to one role, which `pg_restore` acts as: it can't say what other
    /// roles' new objects get, and doesn't own the extensions.
    #[must_use]
    pub fn for_one_owner(mut self, toc: &Toc) -> Self {
        let mut left_out = Vec::new();
        self.access.retain(|id| {
            let Some(entry) = toc.get(*id).filter(|entry| entry.kind == "DEFAULT ACL") else { return true };
            left_out.push(Omission {
                object: format!("{} {} of {}", entry.kind, entry.tag, entry.owner),
                why: "everything belongs to another role than at the source",
            });
            false
        });
        self.omissions.extend(left_out);
        self.leave_out_comments_on_extensions(toc);
        self
    }

    /// Their own scripts write them; changing one takes the extension's owner.
    fn leave_out_comments_on_extensions(&mut self, toc: &Toc) {
        for list in [&mut self.schemas, &mut self.definitions] {
            list.retain(|id| {
                !toc.get(*id)
                    .is_some_and(|entry| entry.kind == "COMMENT" && entry.tag.starts_with("EXTENSION "))
            });
        }
    }
}

/// Publications, event triggers, default privileges outside schemas, and what is said of them.
fn is_database_wide(toc: &Toc, entry: &TocEntry) -> bool {
    match entry.kind.as_str() {
        "EVENT TRIGGER" => true,
        "DEFAULT ACL" => entry.schema.is_none(),
        kind if kind.starts_with("PUBLICATION") => true,
        "COMMENT" | "SECURITY LABEL" | "ACL" => entry
            .dependencies
            .iter()
            .filter_map(|id| toc.get(*id))
            .any(|needed| is_database_wide(toc, needed)),
        _ => false,
    }
}

/// The schema that an entry says something about without being in it, or sets the defaults of.
fn schema_of_statement(entry: &TocEntry) -> Option<&str> {
    match entry.kind.as_str() {
        "COMMENT" | "SECURITY LABEL" | "ACL" if entry.schema.is_none() => entry.tag.strip_prefix("SCHEMA "),
        "DEFAULT ACL" => entry.schema.as_deref(),
        _ => None,
    }
}

/// What lies in no schema, isn't dropped with one, and so can't be told from what was there before.
pub(super) fn is_outside_schemas(entry: &TocEntry) -> bool {
    matches!(
        entry.kind.as_str(),
        "PROCEDURAL LANGUAGE"
            | "FOREIGN DATA WRAPPER"
            | "SERVER"
            | "USER MAPPING"
            | "ACCESS METHOD"
            | "TRANSFORM"
    )
}
