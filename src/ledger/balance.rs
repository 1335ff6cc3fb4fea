//! Books that agree: every ticket has its receipt, and the database counted as many rows as were read.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::{Census, Fingerprint, Order, Part, PartEntry, Plan, Settlement, Sha256Digest, TablePlan};

use super::books::Ledger;
use super::error::LedgerError;

/// What one table's receipts add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TableTotal {
    /// Rows and their hash.
    pub fingerprint: Fingerprint,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
}

/// One destination's balanced share.
#[derive(Clone, Debug)]
pub struct DestinationShare {
    /// Name of the destination.
    pub destination: String,
    /// Its part, to be stored there.
    pub part: Part,
}

impl DestinationShare {
    /// Objects that hold rows or catalogs, and the bytes in them.
    #[must_use]
    pub fn objects(&self) -> (u64, u64) {
        let objects = self.part.entries.iter().filter_map(|entry| entry.settlement.object());
        objects.fold((0, 0), |(count, bytes), object| (count + 1, bytes + object.length))
    }
}

/// A ledger in which planned − settled = ∅ and every count agrees with the database's.
#[derive(Debug)]
pub struct Balanced {
    pub(super) plan: Plan,
    pub(super) shares: BTreeMap<String, DestinationShare>,
    tables: Vec<TableTotal>,
    tables_by_ticket: BTreeMap<u32, u32>,
}

impl Ledger {
    /// Closes the books.
    ///
    /// # Errors
    /// If a ticket is open, a count of rows or of a catalog's entries differs from the census, the catalogs changed, or
    /// equal spans are not explained.
    pub fn balance(self, plan_document: Sha256Digest, census: &Census) -> Result<Balanced, LedgerError> {
        let open = self.open_tickets();
        if !open.is_empty() {
            let of_first = self
                .sides
                .iter()
                .find(|(_, side)| side.tickets.tickets.iter().any(|ticket| open.first() == Some(&ticket.id)));
            let destination = of_first.map_or_else(String::new, |(name, _)| name.clone());
            return Err(LedgerError::Open { destination, planned: self.plan.tickets as usize, open });
        }
        if (census.run, census.plan, census.plan_document) != (self.plan.run, self.plan.plan, plan_document) {
            return Err(LedgerError::Census("it is of another run or plan".into()));
        }
        if census.catalogs.len() != self.plan.endpoints.len()
            || census.large_object_pages.len() != self.plan.endpoints.len()
            || census.catalog_counts.len() != self.plan.endpoints.len()
        {
            return Err(LedgerError::Census("it has not one answer for each endpoint".into()));
        }
        for (endpoint, catalog) in self.plan.endpoints.iter().zip(&census.catalogs) {
            if endpoint.catalog != *catalog {
                return Err(LedgerError::CatalogChanged(endpoint.name.clone()));
            }
        }
        let tables = self.totals();
        self.compare_counts(&tables, census)?;
        self.compare_large_objects(census)?;
        self.compare_catalogs(census)?;
        let explained: BTreeSet<(u32, u32)> = census.equal_spans.iter().map(|equal| equal.tickets).collect();
        for (first, second) in self.equal_spans() {
            if !explained.contains(&(first, second)) {
                let table = self.span_of(second).map(|(table, _)| table.facts.name.to_string());
                return Err(LedgerError::EqualSpans(first, second, table.unwrap_or_default()));
            }
        }
        let rows = self.sides.values().flat_map(|side| &side.tickets.tickets);
        let tables_by_ticket = rows.filter_map(|ticket| match ticket.order {
            Order::Rows { table, .. } => Some((ticket.id, table)),
            Order::Schema { .. } | Order::Catalog { .. } | Order::LargeObjects { .. } => None,
        });
        let tables_by_ticket = tables_by_ticket.collect();
        let Self { plan, sides } = self;
        let shares = sides.into_iter().map(|(destination, side)| {
            let part = Part {
                run: plan.run,
                plan: plan.plan,
                destination: destination.clone(),
                tickets: side.digest,
                entries: side.entries.into_values().collect(),
            };
            (destination.clone(), DestinationShare { destination, part })
        });
        let shares = shares.collect();
        Ok(Balanced { plan, shares, tables, tables_by_ticket })
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Order, &PartEntry)> {
        self.sides.values().flat_map(|side| {
            let tickets = side.tickets.tickets.iter();
            tickets.filter_map(|ticket| Some((&ticket.order, side.entries.get(&ticket.id)?)))
        })
    }

    fn totals(&self) -> Vec<TableTotal> {
        let mut totals = vec![TableTotal::default(); self.plan.tables.len()];
        for (order, entry) in self.entries() {
            let Order::Rows { table, .. } = order else { continue };
            if let (Some(total), Settlement::Rows { object, fingerprint, raw_bytes }) =
                (totals.get_mut(*table as usize), &entry.settlement)
            {
                total.fingerprint = total.fingerprint.plus(*fingerprint);
                total.raw_bytes = total.raw_bytes.saturating_add(*raw_bytes);
                total.stored_bytes = total.stored_bytes.saturating_add(object.length);
            }
        }
        totals
    }

    fn compare_counts(&self, totals: &[TableTotal], census: &Census) -> Result<(), LedgerError> {
        if !census
            .counts
            .iter()
            .map(|count| count.table)
            .eq(0..u32::try_from(totals.len()).unwrap_or(u32::MAX))
        {
            return Err(LedgerError::Census("it has not one count for each table".into()));
        }
        for ((table, total), count) in self.plan.tables.iter().zip(totals).zip(&census.counts) {
            if total.fingerprint.rows != count.rows {
                let (read, counted) = (total.fingerprint.rows, count.rows);
                return Err(LedgerError::Counts { table: table.facts.name.to_string(), read, counted });
            }
        }
        Ok(())
    }

    fn compare_large_objects(&self, census: &Census) -> Result<(), LedgerError> {
        let mut read = vec![0_u64; self.plan.endpoints.len()];
        for (order, entry) in self.entries() {
            if let Order::LargeObjects { endpoint, .. } = order
                && let Some(pages) = read.get_mut(*endpoint as usize)
            {
                *pages = pages.saturating_add(entry.settlement.fingerprint().rows);
            }
        }
        for ((read, counted), endpoint) in
            read.iter().zip(&census.large_object_pages).zip(&self.plan.endpoints)
        {
            if read != counted {
                let table = format!("pg_largeobject of endpoint {}", endpoint.name);
                return Err(LedgerError::Counts { table, read: *read, counted: *counted });
            }
        }
        Ok(())
    }
}

impl Balanced {
    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The table whose rows a ticket orders; `None` for catalogs and large objects.
    #[must_use]
    pub fn table_of(&self, ticket: u32) -> Option<&TablePlan> {
        self.plan.tables.get(*self.tables_by_ticket.get(&ticket)? as usize)
    }

    /// Each destination's share, in the order of names.
    pub fn shares(&self) -> impl Iterator<Item = &DestinationShare> {
        self.shares.values()
    }

    /// The totals of each table, by id.
    #[must_use]
    pub fn tables(&self) -> &[TableTotal] {
        &self.tables
    }
}
