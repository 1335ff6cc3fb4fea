//! What a backup holds, read from its documents: tables with their objects, schema archive and catalogs.

use std::collections::{BTreeMap, HashSet};

use super::super::backups::Backup;
use super::super::error::EngineError;
use super::super::reading::{self, Pinned};
use super::super::reopening;
use super::{RestoreJob, RestoredTable};
use crate::format::{
    CatalogDocument, CatalogKind, EndpointPlan, Fingerprint, Key, Order, PlanDocument, QualifiedName,
    Settlement, StoredObject, TablePlan, decode,
};
use crate::source::inventory::DatabaseEntry;
use crate::source::roles::Role;
use crate::source::target::{DatabaseProperties, ExtensionVersion, LargeObject, RoleNames, SequenceValue};
use crate::source::{ServerFacts, Session, ToolVersion};

/// One object of rows, with where it lies.
#[derive(Clone, Debug)]
pub(super) struct SpanObject {
    pub(super) destination: String,
    pub(super) object: StoredObject,
    pub(super) fingerprint: Fingerprint,
    pub(super) raw_bytes: u64,
}

/// Everything that a restore needs to know of a backup.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) endpoints: Vec<EndpointPlan>,
    pub(super) tables: Vec<TablePlan>,
    pub(super) spans: BTreeMap<u32, Vec<SpanObject>>,
    pub(super) pages: Vec<SpanObject>,
    pub(super) archive: Vec<u8>,
    pub(super) server: ServerFacts,
    pub(super) properties: Option<DatabaseProperties>,
    pub(super) extensions: Vec<ExtensionVersion>,
    pub(super) roles: Vec<Role>,
    /// Of each server: they are united in [`Content::sequences_in`].
    pub(super) sequences: Vec<SequenceValue>,
    /// Those of the server whose archive is restored: its definitions make each of them.
    pub(super) archived_sequences: HashSet<QualifiedName>,
    pub(super) large_objects: Vec<LargeObject>,
    pub(super) populated_views: HashSet<QualifiedName>,
}

impl Content {
    /// Reads the documents of every destination, and the catalogs.
    pub(super) async fn read(job: &RestoreJob, backup: &Backup) -> Result<Self, EngineError> {
        let plan = backup.plan(&job.register).await?;
        let mut draft = Draft::default();
        for destination in &backup.manifest.destinations {
            let store = &*job.destinations.named(&destination.name)?.store;
            let (tickets, part) = reopening::books_of(backup, destination, store).await?;
            for (ticket, entry) in tickets.document.tickets.iter().zip(&part.document.entries) {
                if ticket.id != entry.ticket {
                    let part = Key::of_plan(backup.run, &backup.plan, PlanDocument::Part);
                    return Err(damaged(store, &part, "it does not list the tickets of its destination"));
                }
                draft.take(store, &destination.name, &ticket.order, &entry.settlement).await?;
            }
        }
        let manifest = Key::of_plan(backup.run, &backup.plan, PlanDocument::Manifest);
        let of_manifest = |finding| damaged(&**job.register.store(), &manifest, finding);
        let archive = draft.archive.ok_or_else(|| of_manifest("it names no schema archive"))?;
        let server = draft.server.ok_or_else(|| of_manifest("its catalogs name no server"))?;
        if draft.large_objects.is_empty() && !draft.pages.is_empty() {
            // Nothing would be made of them, and nothing compared.
            return Err(of_manifest("it has pages of large objects, and its catalog lists no large object"));
        }
        Ok(Self {
            endpoints: plan.endpoints,
            tables: plan.tables,
            spans: draft.spans,
            pages: draft.pages,
            archive,
            server,
            properties: draft.properties,
            extensions: draft.extensions,
            roles: draft.roles,
            sequences: draft.sequences,
            archived_sequences: draft.archived_sequences,
            large_objects: draft.large_objects,
            populated_views: plan.populated_views.into_iter().collect(),
        })
    }

    /// The same, told by the names that roles have in the target.
    pub(super) fn renamed(mut self, names: &RoleNames) -> Result<Self, EngineError> {
        if names.is_empty() {
            return Ok(self);
        }
        let unknown = names.unknown_to(&self.roles);
        if !unknown.is_empty() {
            return Err(EngineError::usage(
                format!("roles are to get other names that the backup doesn't name: {}", unknown.join(", ")),
                "`vouchsafe show` lists its roles",
            ));
        }
        self.archive = names.in_archive(&self.archive)?;
        self.roles = names.of_roles(self.roles);
        self.large_objects.iter_mut().for_each(|object| names.rename_in_large_object(object));
        self.properties.iter_mut().for_each(|properties| names.rename_in_properties(properties));
        Ok(self)
    }

    /// The tables of one endpoint.
    pub(super) fn tables_of(&self, endpoint: u32) -> impl Iterator<Item = &TablePlan> {
        self.tables.iter().filter(move |table| table.endpoint == endpoint)
    }

    /// Version of the pg_dump that wrote the archive.
    pub(super) fn archive_version(&self) -> ToolVersion {
        let endpoint = self.endpoints.first();
        endpoint.map_or_else(
            || ToolVersion::of_server(self.server.version_num),
            |endpoint| ToolVersion::recorded(&endpoint.pg_dump, endpoint.version_num),
        )
    }

    /// Encoding of the rows of one endpoint.
    pub(super) fn encoding(&self, endpoint: u32) -> &str {
        self.endpoints.get(endpoint as usize).map_or("UTF8", |endpoint| &endpoint.encoding)
    }

    /// What each chosen table must hold, over all endpoints.
    pub(super) fn expected(&self, chosen: &[QualifiedName]) -> Vec<RestoredTable> {
        let chosen: HashSet<&QualifiedName> = chosen.iter().collect();
        let mut expected: BTreeMap<&QualifiedName, Fingerprint> = BTreeMap::new();
        for table in self.tables.iter().filter(|table| chosen.contains(&table.facts.name)) {
            let spans = self.spans.get(&table.id).into_iter().flatten();
            let total: Fingerprint = spans.map(|span| span.fingerprint).sum();
            let sum = expected.entry(table.facts.compared_as()).or_default();
            *sum = sum.plus(total);
        }
        expected
            .into_iter()
            .map(|(name, fingerprint)| RestoredTable { name: name.clone(), fingerprint })
            .collect()
    }

    /// Values of the sequences that the session's database has: a selection leaves some out, but never one that is
    /// `required`. Of several servers the furthest counts, in the direction of the sequence, so that no value is
    /// handed out twice.
    pub(super) async fn sequences_in(
        &self,
        session: &Session,
        required: impl Fn(&QualifiedName) -> bool,
    ) -> Result<Vec<SequenceValue>, EngineError> {
        let mut of_name: BTreeMap<&QualifiedName, Vec<&SequenceValue>> = BTreeMap::new();
        for value in &self.sequences {
            of_name.entry(&value.name).or_default().push(value);
        }
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for (name, values) in of_name {
            let found = session
                .client()
                .query_opt(
                    "SELECT seqincrement FROM pg_sequence WHERE seqrelid = to_regclass($1)",
                    &[&name.quoted()],
                )
                .await
                .map_err(|error| session.error(format!("looking for sequence {name}"), error))?;
            match found.map(|row| row.get::<_, i64>(0)) {
                Some(increment) => there.extend(furthest(&values, increment).cloned()),
                None if self.archived_sequences.contains(name) && required(name) => {
                    missing.push(format!(
                        "sequence {name}: its value is in the backup, and it was not restored"
                    ));
                }
                None => {}
            }
        }
        if missing.is_empty() { Ok(there) } else { Err(EngineError::NotEqual(missing.join("; "))) }
    }
}

/// The value after which none of the others was handed out. Of equal ones, the one that was handed out.
fn furthest<'a>(values: &[&'a SequenceValue], increment: i64) -> Option<&'a SequenceValue> {
    let reached = |value: &SequenceValue| {
        let along = if increment < 0 { -i128::from(value.last_value) } else { i128::from(value.last_value) };
        (along, value.is_called)
    };
    values.iter().copied().max_by_key(|value| reached(value))
}

#[derive(Debug, Default)]
struct Draft {
    spans: BTreeMap<u32, Vec<SpanObject>>,
    pages: Vec<SpanObject>,
    archive: Option<Vec<u8>>,
    server: Option<ServerFacts>,
    properties: Option<DatabaseProperties>,
    extensions: Vec<ExtensionVersion>,
    roles: Vec<Role>,
    sequences: Vec<SequenceValue>,
    archived_sequences: HashSet<QualifiedName>,
    large_objects: Vec<LargeObject>,
}

impl Draft {
    async fn take(
        &mut self,
        store: &dyn crate::store::ObjectStore,
        destination: &str,
        order: &Order,
        settlement: &Settlement,
    ) -> Result<(), EngineError> {
        match (order, settlement) {
            (_, Settlement::Empty) => Ok(()),
            (Order::Rows { table, .. }, Settlement::Rows { object, fingerprint, raw_bytes }) => {
                let span = SpanObject {
                    destination: destination.to_owned(),
                    object: object.clone(),
                    fingerprint: *fingerprint,
                    raw_bytes: *raw_bytes,
                };
                self.spans.entry(*table).or_default().push(span);
                Ok(())
            }
            (Order::LargeObjects { .. }, Settlement::Rows { object, fingerprint, raw_bytes }) => {
                self.pages.push(SpanObject {
                    destination: destination.to_owned(),
                    object: object.clone(),
                    fingerprint: *fingerprint,
                    raw_bytes: *raw_bytes,
                });
                Ok(())
            }
            (Order::Schema { endpoint }, Settlement::Catalog { object, .. }) => {
                if *endpoint == 0 {
                    self.archive = Some(whole(store, object).await?);
                }
                Ok(())
            }
            (Order::Catalog { endpoint, what }, Settlement::Catalog { object, .. }) => {
                let bytes = whole(store, object).await?;
                let document: CatalogDocument =
                    decode(&bytes).map_err(|source| EngineError::format(store, &object.key, source))?;
                self.take_catalog(*endpoint, *what, document.entries).map_err(|error| {
                    damaged(store, &object.key, &format!("an entry of it can't be read: {error}"))
                })
            }
            (_, Settlement::Rows { object, .. } | Settlement::Catalog { object, .. }) => {
                Err(damaged(store, &object.key, "it settles a ticket that asked for something else"))
            }
        }
    }

    fn take_catalog(
        &mut self,
        endpoint: u32,
        what: CatalogKind,
        entries: Vec<serde_json::Value>,
    ) -> Result<(), serde_json::Error> {
        for entry in entries {
            match what {
                CatalogKind::Roles => self.roles.push(parse(entry)?),
                CatalogKind::Sequences => {
                    let value: SequenceValue = parse(entry)?;
                    if endpoint == 0 {
                        self.archived_sequences.insert(value.name.clone());
                    }
                    self.sequences.push(value);
                }
                CatalogKind::LargeObjects => self.large_objects.push(parse(entry)?),
                CatalogKind::Database if endpoint > 0 => {}
                CatalogKind::Database => match parse(entry)? {
                    DatabaseEntry::Server(facts) => self.server = Some(*facts),
                    DatabaseEntry::Properties(properties) => self.properties = Some(properties),
                    DatabaseEntry::Extension(extension) => self.extensions.push(extension),
                    DatabaseEntry::Tablespace(_) => {}
                },
            }
        }
        Ok(())
    }
}

fn parse<T: serde::de::DeserializeOwned>(entry: serde_json::Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(entry)
}

fn damaged(store: &dyn crate::store::ObjectStore, key: &Key, finding: &str) -> EngineError {
    EngineError::Damaged(format!("{}/{key}: {finding}", store.url()))
}

async fn whole(store: &dyn crate::store::ObjectStore, object: &StoredObject) -> Result<Vec<u8>, EngineError> {
    match reading::read_whole(store, object, Pinned::WhereKnown).await {
        Ok(bytes) => Ok(bytes),
        Err(unread) => {
            let damage = unread.into_damage(object.key.to_string(), None)?;
            Err(EngineError::Damaged(format!("{}/{damage}", store.url())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_value_is_told_along_the_sequence() {
        let value = |last_value, is_called| SequenceValue {
            name: QualifiedName::new("s", "numbers"),
            last_value,
            is_called,
        };
        let (low, high, handed_out) = (value(-7, true), value(5, false), value(5, true));
        assert_eq!(furthest(&[&low, &high, &handed_out], 1), Some(&handed_out));
        assert_eq!(furthest(&[&handed_out, &high, &low], 10), Some(&handed_out));
        assert_eq!(furthest(&[&handed_out, &low, &high], -1), Some(&low));
        let (least, uncalled) = (value(i64::MIN, true), value(i64::MIN, false));
        assert_eq!(furthest(&[&uncalled, &least, &low, &uncalled], -3), Some(&least));
        assert_eq!(furthest(&[], 1), None);
    }
}
