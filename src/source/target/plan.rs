//! What of an archive is restored when: the order of a restore, as a value.
//!
//! The order: definitions → rows → each table's own indexes as soon as its rows are in →
//! what connects tables → access → materialized views → event triggers. Within each step the archive's own
//! order holds, which already respects every dependency.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::error::TargetError;
use super::subset::Subset;
use super::toc::{Section, Toc, TocEntry};
use crate::format::relation::{QualifiedName, TableFacts};
use crate::source::selection::Selection;

/// Steps of a restore, in their order. An entry is never restored in an earlier step than what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Schemas alone: extensions are created into them at the versions recorded, before anything uses those.
    Schemas,
    /// Everything else that is there before the rows.
    Definitions,
    /// Indexes, keys and exclusion constraints of one table.
    Tables,
    /// What must wait for keys of several tables and needs no rows of its own: indexes of partitioned tables
    /// and their attachments, views that lean on a primary key.
    Postponed,
    /// Foreign keys, triggers, rules, checks of rows that break them, statistics, publications.
    Relations,
    /// Policies, row security, privileges, default privileges. From here on, a role that isn't a superuser may
    /// see less than it restored.
    Access,
    /// Indexes of materialized views, once these are refreshed: refreshing runs as the owner, with the
    /// owner's privileges.
    Views,
    /// Event triggers: none may fire for what a restore does.
    Events,
}

/// Dump ids in the order of the archive.
pub type DumpIds = Vec<i32>;

/// Tables whose indexes can be built as soon as the rows of all of them are in: one, or all the partitions
/// whose rows come through the same root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableGroup {
    /// The tables.
    pub tables: Vec<QualifiedName>,
    /// Their rows are loaded after their indexes are built, and after [`Step::Postponed`] of all others.
    pub rows_after_indexes: bool,
    /// What is built.
    pub entries: DumpIds,
}

/// An extension to create before the definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionEntry {
    /// Its dump id.
    pub dump_id: i32,
    /// Its name.
    pub name: String,
}

/// Something in the archive that isn't restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omission {
    /// Kind and name.
    pub object: String,
    /// Why not.
    pub why: &'static str,
}

/// The whole order of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// [`Step::Schemas`].
    pub schemas: DumpIds,
    /// Extensions in the order in which they must be created.
    pub extensions: Vec<ExtensionEntry>,
    /// [`Step::Definitions`].
    pub definitions: DumpIds,
    /// [`Step::Tables`]; tables without indexes have no group.
    pub groups: Vec<TableGroup>,
    /// [`Step::Postponed`].
    pub postponed: DumpIds,
    /// [`Step::Relations`].
    pub relations: DumpIds,
    /// [`Step::Access`].
    pub access: DumpIds,
    /// All materialized views, each after those that it reads.
    pub materialized_views: Vec<QualifiedName>,
    /// [`Step::Views`].
    pub views: DumpIds,
    /// [`Step::Events`].
    pub events: DumpIds,
    /// What is left out, and why.
    pub omissions: Vec<Omission>,
    /// The tables whose rows belong to the restore.
    pub tables: Vec<QualifiedName>,
    /// Tables that weren't asked for, but that what was asked for needs; also among `tables`.
    pub brought_along: Vec<QualifiedName>,
    /// Schemas of everything that is restored.
    pub schema_names: BTreeSet<String>,
}

impl RestorePlan {
    /// Orders what `selection` takes of `toc`. `tables` are all tables of the backup that hold rows, as the
    /// endpoint that wrote the archive knows them: an index on any other relation waits until these are done.
    ///
    /// # Errors
    /// [`TargetError::SelectionUnknown`] if the selection names something that the archive doesn't hold;
    /// [`TargetError::ArchiveLacks`] if a table isn't in it.
    pub fn new(toc: &Toc, tables: &[TableFacts], selection: &Selection) -> Result<Self, TargetError> {
        let chosen = Subset::new(toc, selection)?;
        let groups = Groups::new(tables);
        let excluding: Vec<&TocEntry> = toc.entries.iter().filter(|entry| entry.excludes).collect();
        let mut plan = Self {
            schemas: Vec::new(),
            extensions: Vec::new(),
            definitions: Vec::new(),
            groups: Vec::new(),
            postponed: Vec::new(),
            relations: Vec::new(),
            access: Vec::new(),
            materialized_views: Vec::new(),
            views: Vec::new(),
            events: Vec::new(),
            omissions: Vec::new(),
            tables: Vec::new(),
            brought_along: Vec::new(),
            schema_names: BTreeSet::new(),
        };
        let mut built = BTreeMap::<usize, DumpIds>::new();
        let mut places = HashMap::<i32, Place>::new();
        for entry in &toc.entries {
            if !chosen.ids.contains(&entry.dump_id) {
                continue;
            }
            if let Some(why) = omission(entry, &excluding) {
                plan.omissions.push(Omission { object: format!("{} {}", entry.kind, entry.tag), why });
                continue;
            }
            if is_of_database(entry) {
                continue;
            }
            let place = place(toc, entry, &groups, &places);
            places.insert(entry.dump_id, place);
            if let Some(schema) = &entry.schema {
                plan.schema_names.insert(schema.clone());
            }
            match entry.kind.as_str() {
                "SCHEMA" => drop(plan.schema_names.insert(entry.tag.clone())),
                "EXTENSION" => {
                    plan.extensions.push(ExtensionEntry { dump_id: entry.dump_id, name: entry.tag.clone() });
                }
                "MATERIALIZED VIEW" => plan.materialized_views.extend(name_of(entry)),
                _ => {}
            }
            match place {
                Place { step: Step::Tables, group: Some(group) } => {
                    built.entry(group).or_default().push(entry.dump_id);
                }
                Place { step, .. } => plan.list(step).push(entry.dump_id),
            }
        }
        plan.take_tables(toc, tables, &chosen.ids, *selection == Selection::default())?;
        // A group of their own says that they wait, also if they have no indexes.
        for (group, members) in groups.members.iter().enumerate() {
            if members.iter().any(|table| table.load_after_indexes && plan.tables.contains(&table.name)) {
                built.entry(group).or_default();
            }
        }
        plan.omissions.extend(chosen.omissions);
        plan.brought_along = chosen.brought_along;
        plan.groups = built
            .into_iter()
            .map(|(group, entries)| TableGroup {
                tables: groups.members[group].iter().map(|table| table.name.clone()).collect(),
                rows_after_indexes: groups.members[group].iter().any(|table| table.load_after_indexes),
                entries,
            })
            .collect();
        Ok(plan)
    }

    /// Every entry that is restored, step by step.
    pub fn entries(&self) -> impl Iterator<Item = i32> + '_ {
        let groups = self.groups.iter().flat_map(|group| &group.entries);
        let Self { schemas, definitions, postponed, relations, access, views, events, .. } = self;
        schemas
            .iter()
            .chain(definitions)
            .chain(groups)
            .chain(postponed)
            .chain(relations)
            .chain(access)
            .chain(views)
            .chain(events)
            .copied()
    }

    /// Rows of extensions' configuration tables, which the archive doesn't define, come with the whole alone: it
    /// doesn't say whose they are.
    fn take_tables(
        &mut self,
        toc: &Toc,
        tables: &[TableFacts],
        chosen: &HashSet<i32>,
        all: bool,
    ) -> Result<(), TargetError> {
        let defined: HashMap<u32, i32> = toc
            .entries
            .iter()
            .filter(|entry| entry.kind == "TABLE")
            .map(|entry| (entry.oid, entry.dump_id))
            .collect();
        for table in tables {
            match defined.get(&table.oid) {
                Some(id) if chosen.contains(id) => self.tables.push(table.name.clone()),
                Some(_) => {}
                None if table.extension_condition.is_none() => {
                    return Err(TargetError::ArchiveLacks { table: table.name.clone() });
                }
                None if all => self.tables.push(table.name.clone()),
                None => self.omissions.push(Omission {
                    object: format!("TABLE DATA {}", table.name),
                    why: "an extension's configuration is restored with the whole database alone",
                }),
            }
        }
        Ok(())
    }

    fn list(&mut self, step: Step) -> &mut DumpIds {
        match step {
            Step::Schemas => &mut self.schemas,
            Step::Definitions => &mut self.definitions,
            // An index of a relation without rows of its own.
            Step::Tables | Step::Postponed => &mut self.postponed,
            Step::Relations => &mut self.relations,
            Step::Access => &mut self.access,
            Step::Views => &mut self.views,
            Step::Events => &mut self.events,
        }
    }
}

/// Where an entry is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    step: Step,
    group: Option<usize>,
}

/// Which tables are finished together.
struct Groups<'a> {
    /// By OID at the source: a name in the archive is in the database's encoding, and its line breaks may be gone.
    of: HashMap<u32, usize>,
    members: Vec<Vec<&'a TableFacts>>,
}

impl<'a> Groups<'a> {
    fn new(tables: &'a [TableFacts]) -> Self {
        let mut groups = Self { of: HashMap::new(), members: Vec::new() };
        let mut roots = HashMap::new();
        for table in tables {
            let root = table.partition_root.as_ref().filter(|_| table.load_through_root);
            let group = match root.and_then(|root| roots.get(root)) {
                Some(group) => *group,
                None => {
                    groups.members.push(Vec::new());
                    groups.members.len() - 1
                }
            };
            if let Some(root) = root {
                roots.insert(root, group);
            }
            groups.members[group].push(table);
            groups.of.insert(table.oid, group);
        }
        groups
    }
}

/// Schema and name of a relation's entry.
pub(super) fn name_of(entry: &TocEntry) -> Option<QualifiedName> {
    entry.schema.as_ref().map(|schema| QualifiedName::new(schema, &entry.tag))
}

/// Why `pg_restore` is not given an entry.
fn omission(entry: &TocEntry, excluding: &[&TocEntry]) -> Option<&'static str> {
    match entry.kind.as_str() {
        "SUBSCRIPTION" | "SUBSCRIPTION TABLE" => {
            Some("a copy of a subscription would take the original's changes from its publisher")
        }
        // Its tag is the partition's index, that of the constraint is its table's name and the same.
        "INDEX ATTACH"
            if excluding.iter().any(|constraint| {
                constraint.schema == entry.schema
                    && constraint.tag.strip_suffix(&entry.tag).is_some_and(|table| table.ends_with(' '))
            }) =>
        {
            Some(
                "no server lets an exclusion constraint of a partition be joined to the partitioned table's, which stays invalid",
            )
        }
        _ => None,
    }
}

/// Whether an entry is about the database as a whole, or the archive: `pg_restore` restores these only when it
/// creates the database itself; [`super::database`] does it here.
fn is_of_database(entry: &TocEntry) -> bool {
    match entry.kind.as_str() {
        "DATABASE" | "DATABASE PROPERTIES" | "ENCODING" | "STDSTRINGS" | "SEARCHPATH" => true,
        "COMMENT" | "ACL" | "SECURITY LABEL" => entry.schema.is_none() && entry.tag.starts_with("DATABASE "),
        _ => false,
    }
}

fn place(toc: &Toc, entry: &TocEntry, groups: &Groups<'_>, places: &HashMap<i32, Place>) -> Place {
    let mut place = natural_place(toc, entry, groups);
    for dependency in &entry.dependencies {
        // What isn't restored (an extension's members, say) is there already.
        let Some(needed) = places.get(dependency) else { continue };
        if needed.step > place.step {
            place = *needed;
        } else if needed.step == Step::Tables && place.step == Step::Tables && needed.group != place.group {
            // It leans on another table's index, which may be built at the same time, or later.
            place = Place { step: Step::Postponed, group: None };
        }
    }
    place
}

fn natural_place(toc: &Toc, entry: &TocEntry, groups: &Groups<'_>) -> Place {
    let step = |step| Place { step, group: None };
    match (entry.section, entry.kind.as_str()) {
        (_, "SCHEMA") => step(Step::Schemas),
        (_, "ACL" | "DEFAULT ACL" | "POLICY" | "ROW SECURITY") => step(Step::Access),
        (_, "EVENT TRIGGER") => step(Step::Events),
        // Comments and labels go where their object goes, by their dependency.
        (Section::None, _) => step(Step::Schemas),
        (Section::PreData | Section::Data, _) => step(Step::Definitions),
        (Section::PostData, "INDEX" | "CONSTRAINT") => {
            let relation = entry.dependencies.iter().filter_map(|id| toc.get(*id)).find(|needed| {
                matches!(needed.kind.as_str(), "TABLE" | "MATERIALIZED VIEW" | "FOREIGN TABLE")
            });
            match relation {
                Some(relation) if relation.kind == "MATERIALIZED VIEW" => step(Step::Views),
                Some(relation) => match groups.of.get(&relation.oid) {
                    Some(group) => Place { step: Step::Tables, group: Some(*group) },
                    // Partitioned: their indexes hold nothing, and making one locks the parent of every
                    // partition that is being loaded.
                    None => step(Step::Postponed),
                },
                None => step(Step::Postponed),
            }
        }
        (
            Section::PostData,
            "INDEX ATTACH" | "VIEW" | "MATERIALIZED VIEW" | "FUNCTION" | "PROCEDURE" | "AGGREGATE",
        ) => step(Step::Postponed),
        // The body of a view whose placeholder stands among the definitions.
        (Section::PostData, "RULE") if entry.tag.ends_with(" _RETURN") => step(Step::Postponed),
        (Section::PostData, _) => step(Step::Relations),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
