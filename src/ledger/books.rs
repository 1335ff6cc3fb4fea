//! The ledger: what was planned, what was settled, and what is still open.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::{
    Key, Order, Part, PartEntry, Plan, Receipt, Settlement, Sha256Digest, SpanRange, TableCount, TablePlan,
    Ticket, Tickets,
};
use crate::mutant::{self, Mutant};

use super::coverage::check_coverage;
use super::error::LedgerError;

/// What happened to a receipt that was shown to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It settled a ticket.
    Settled,
    /// The ticket was settled already, by a receipt that says the same.
    Again,
    /// It belongs to another plan or snapshot, and does not count.
    Foreign,
}

/// One destination's side of the ledger.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) tickets: Tickets,
    pub(super) digest: Sha256Digest,
    pub(super) entries: BTreeMap<u32, PartEntry>,
    /// Positions of each table's tickets, in order: a database may have as many tables as tickets.
    of_table: BTreeMap<u32, Vec<usize>>,
}

impl Side {
    fn new(tickets: Tickets, digest: Sha256Digest) -> Self {
        let mut of_table: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (position, ticket) in tickets.tickets.iter().enumerate() {
            if let Order::Rows { table, .. } = &ticket.order {
                of_table.entry(*table).or_default().push(position);
            }
        }
        Self { tickets, digest, entries: BTreeMap::new(), of_table }
    }

    /// A ticket by its number; [`check_side`] has made sure of their order.
    fn ticket(&self, id: u32) -> Option<&Ticket> {
        let position = self.tickets.tickets.binary_search_by_key(&id, |ticket| ticket.id).ok()?;
        self.tickets.tickets.get(position)
    }
}

/// Tickets against receipts, over all destinations of a plan.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) plan: Plan,
    pub(super) sides: BTreeMap<String, Side>,
}

impl Ledger {
    /// Opens the books of `plan` with the tickets of each destination and the digest under which they are
    /// stored.
    ///
    /// # Errors
    /// If the tickets are not exactly those of the plan, or do not tile its tables.
    pub fn open(plan: Plan, tickets: Vec<(Tickets, Sha256Digest)>) -> Result<Self, LedgerError> {
        let mut sides = BTreeMap::new();
        for (tickets, digest) in tickets {
            let destination = tickets.destination.clone();
            check_side(&plan, &tickets, digest)?;
            if sides.insert(destination.clone(), Side::new(tickets, digest)).is_some() {
                return Err(foreign(&destination, "they came twice"));
            }
        }
        for destination in &plan.destinations {
            if !sides.contains_key(&destination.name) {
                return Err(foreign(&destination.name, "they are missing"));
            }
        }
        let ids: BTreeSet<u32> =
            sides.values().flat_map(|side| side.tickets.tickets.iter().map(|ticket| ticket.id)).collect();
        let total: usize = sides.values().map(|side| side.tickets.tickets.len()).sum();
        if ids.len() != total || total != plan.tickets as usize || !ids.iter().copied().eq(0..plan.tickets) {
            return Err(foreign("(all)", "their numbers are not 0, 1, 2 and so on, once each"));
        }
        let ledger = Self { plan, sides };
        ledger.check_tables()?;
        Ok(ledger)
    }

    fn check_tables(&self) -> Result<(), LedgerError> {
        for (position, table) in self.plan.tables.iter().enumerate() {
            let name = table.facts.name.to_string();
            if table.id as usize != position {
                return Err(foreign(&table.destination, &format!("table {name} is out of its place")));
            }
            let spans: Vec<&SpanRange> = self.spans(table).map(|(_, range)| range).collect();
            if spans.len() != table.tickets as usize {
                return Err(foreign(&table.destination, &format!("table {name} has tickets elsewhere")));
            }
            check_coverage(&spans).map_err(|source| LedgerError::Coverage { table: name, source })?;
        }
        Ok(())
    }

    /// The tickets of a table, in order, with their spans.
    pub(super) fn spans<'a>(&'a self, table: &'a TablePlan) -> impl Iterator<Item = (u32, &'a SpanRange)> {
        let side = self.sides.get(&table.destination);
        side.into_iter().flat_map(|side| {
            let positions = side.of_table.get(&table.id).into_iter().flatten();
            positions.filter_map(|position| match side.tickets.tickets.get(*position) {
                Some(Ticket { id, order: Order::Rows { range, .. } }) => Some((*id, range)),
                _ => None,
            })
        })
    }

    /// Shows the ledger a receipt that was found in `destination` under `key`.
    ///
    /// # Errors
    /// If the receipt names a ticket of another destination, settles it in a manner that the order rules out,
    /// or contradicts another receipt of the same ticket: in one snapshot there is one truth.
    pub fn take(
        &mut self,
        destination: &str,
        key: Key,
        sha256: Sha256Digest,
        receipt: Receipt,
    ) -> Result<Taken, LedgerError> {
        let refuse =
            |key: &Key, why: &str| LedgerError::Receipt { receipt: key.clone(), why: why.to_owned() };
        let run = self.plan.run;
        let side = self.sides.get_mut(destination).ok_or_else(|| refuse(&key, "unknown destination"))?;
        let of_this_plan =
            receipt.plan == self.plan.plan && receipt.run == run && receipt.tickets == side.digest;
        if !of_this_plan && !mutant::is(Mutant::AcceptAnotherPlansReceipt) {
            return Ok(Taken::Foreign);
        }
        let ticket = side
            .ticket(receipt.ticket)
            .ok_or_else(|| refuse(&key, "its ticket belongs to another destination"))?;
        let snapshot = snapshot_of(&self.plan, ticket).ok_or_else(|| refuse(&key, "no endpoint"))?;
        if receipt.snapshot != snapshot && !mutant::is(Mutant::AcceptAnotherPlansReceipt) {
            return Ok(Taken::Foreign);
        }
        // What lies under another ticket's name was swapped with it, whatever it says.
        if key.name().split('.').next() != Some(&format!("{:08}", receipt.ticket)) {
            return Err(refuse(&key, &format!("it is that of ticket {}", receipt.ticket)));
        }
        check_settlement(ticket, &receipt.settlement).map_err(|why| refuse(&key, why))?;
        match side.entries.get(&receipt.ticket) {
            Some(known) if contradict(&known.settlement, &receipt.settlement) => {
                Err(refuse(&key, &format!("{} says otherwise of the same ticket", known.receipt)))
            }
            Some(_) => Ok(Taken::Again),
            None => {
                let entry = PartEntry {
                    ticket: receipt.ticket,
                    receipt: key,
                    receipt_sha256: sha256,
                    settlement: receipt.settlement,
                };
                side.entries.insert(receipt.ticket, entry);
                Ok(Taken::Settled)
            }
        }
    }

    /// Takes a destination's share as its part has it: for the books of a backup that is sealed. What the receipts
    /// say is compared with the part by whoever reads them.
    ///
    /// # Errors
    /// If the part is of other tickets, names one that is not its destination's or one twice, or settles one in a
    /// manner that the order rules out.
    pub fn take_part(&mut self, part: Part) -> Result<(), LedgerError> {
        let (run, plan) = (self.plan.run, self.plan.plan);
        let unknown = || foreign(&part.destination, "the plan has no such destination");
        let side = self.sides.get_mut(&part.destination).ok_or_else(unknown)?;
        if (part.run, part.plan, part.tickets) != (run, plan, side.digest) {
            return Err(foreign(&part.destination, "the part is of others"));
        }
        for entry in part.entries {
            let refuse =
                |why: &str| LedgerError::Receipt { receipt: entry.receipt.clone(), why: why.to_owned() };
            let ticket = side.ticket(entry.ticket);
            let ticket = ticket.ok_or_else(|| refuse("its ticket belongs to another destination"))?;
            check_settlement(ticket, &entry.settlement).map_err(refuse)?;
            if side.entries.contains_key(&entry.ticket) {
                return Err(refuse("its ticket is settled twice"));
            }
            side.entries.insert(entry.ticket, entry);
        }
        Ok(())
    }

    /// Tickets without a receipt, in ascending order.
    pub fn open_tickets(&self) -> Vec<u32> {
        let open = self.sides.values().flat_map(|side| {
            let tickets = side.tickets.tickets.iter().map(|ticket| ticket.id);
            tickets.filter(|id| !side.entries.contains_key(id))
        });
        let mut open: Vec<u32> = open.collect();
        open.sort_unstable();
        open
    }

    /// Rows in the receipts, by table: never a substitute for a count, but for the mutant that lies so.
    #[must_use]
    pub fn rows_read(&self) -> Vec<TableCount> {
        let rows = |table: &TablePlan| {
            let side = self.sides.get(&table.destination);
            let entries = self.spans(table).filter_map(|(ticket, _)| side?.entries.get(&ticket));
            entries.map(|entry| entry.settlement.fingerprint().rows).sum()
        };
        self.plan.tables.iter().map(|table| TableCount { table: table.id, rows: rows(table) }).collect()
    }

    /// Tickets settled so far.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.sides.values().map(|side| side.entries.len()).sum()
    }

    /// The plan that these are the books of.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Pairs of tickets of one table whose fingerprints are equal and not empty: suspicious, until a hash
    /// computed by the server explains them. Of a group of equal ones, each is paired with the first.
    #[must_use]
    pub fn equal_spans(&self) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        for table in &self.plan.tables {
            let Some(side) = self.sides.get(&table.destination) else { continue };
            let mut first = BTreeMap::new();
            for (ticket, _) in self.spans(table) {
                let Some(entry) = side.entries.get(&ticket) else { continue };
                let fingerprint = entry.settlement.fingerprint();
                if fingerprint.rows == 0 {
                    continue;
                }
                match first.entry((fingerprint.rows, fingerprint.sum)) {
                    std::collections::btree_map::Entry::Vacant(vacant) => {
                        vacant.insert(ticket);
                    }
                    std::collections::btree_map::Entry::Occupied(found) => pairs.push((*found.get(), ticket)),
                }
            }
        }
        pairs
    }

    /// Table and span of a rows ticket.
    #[must_use]
    pub fn span_of(&self, ticket: u32) -> Option<(&TablePlan, &SpanRange)> {
        let ticket = self.sides.values().find_map(|side| side.ticket(ticket))?;
        match &ticket.order {
            Order::Rows { table, range } => Some((self.plan.tables.get(*table as usize)?, range)),
            Order::Schema { .. } | Order::Catalog { .. } | Order::LargeObjects { .. } => None,
        }
    }
}

fn foreign(destination: &str, why: &str) -> LedgerError {
    LedgerError::ForeignTickets { destination: destination.to_owned(), why: why.to_owned() }
}

fn check_side(plan: &Plan, tickets: &Tickets, digest: Sha256Digest) -> Result<(), LedgerError> {
    let name = &tickets.destination;
    let refuse = |why: &str| Err(foreign(name, why));
    let Some(planned) = plan.destinations.iter().find(|destination| destination.name == *name) else {
        return refuse("the plan has no such destination");
    };
    if (tickets.run, tickets.plan) != (plan.run, plan.plan) {
        return refuse("they are of another run or plan");
    }
    if planned.tickets != digest || planned.count as usize != tickets.tickets.len() {
        return refuse("their digest or number is another");
    }
    if tickets.endpoints != plan.endpoints {
        return refuse("their endpoints are others");
    }
    for table in &tickets.tables {
        if plan.tables.get(table.id as usize) != Some(table) || table.destination != *name {
            return refuse("their tables are others");
        }
    }
    if !tickets.tickets.is_sorted_by(|a, b| a.id < b.id) {
        return refuse("they are not in ascending order");
    }
    let tables: BTreeSet<u32> = tickets.tables.iter().map(|table| table.id).collect();
    for ticket in &tickets.tickets {
        let known = match &ticket.order {
            Order::Rows { table, .. } => tables.contains(table),
            Order::Schema { endpoint }
            | Order::Catalog { endpoint, .. }
            | Order::LargeObjects { endpoint, .. } => (*endpoint as usize) < plan.endpoints.len(),
        };
        if !known {
            return refuse("a ticket names a table or endpoint that is not there");
        }
    }
    Ok(())
}

/// The tickets' own tables and endpoints are those of the plan: [`check_side`] has compared them.
fn snapshot_of<'a>(plan: &'a Plan, ticket: &Ticket) -> Option<&'a str> {
    let endpoint = match &ticket.order {
        Order::Rows { table, .. } => plan.tables.get(*table as usize)?.endpoint,
        Order::Schema { endpoint }
        | Order::Catalog { endpoint, .. }
        | Order::LargeObjects { endpoint, .. } => *endpoint,
    };
    plan.endpoints.get(endpoint as usize).map(|endpoint| endpoint.snapshot.as_str())
}

/// Whether two settlements of one ticket can't both be true. Rows that were exported twice may lie in other bytes;
/// a catalog is read once in the life of a plan, so a second one is the same bytes or a wrong one.
fn contradict(one: &Settlement, other: &Settlement) -> bool {
    match (one, other) {
        (
            Settlement::Catalog { object, entries },
            Settlement::Catalog { object: other, entries: other_entries },
        ) => (object.sha256, entries) != (other.sha256, other_entries),
        _ => one.fingerprint() != other.fingerprint(),
    }
}

fn check_settlement(ticket: &Ticket, settlement: &Settlement) -> Result<(), &'static str> {
    match (&ticket.order, settlement) {
        (Order::Rows { .. } | Order::LargeObjects { .. }, Settlement::Rows { fingerprint, .. }) => {
            if fingerprint.rows == 0 {
                Err("it stores an object without rows")
            } else {
                Ok(())
            }
        }
        (Order::Rows { .. } | Order::LargeObjects { .. }, Settlement::Empty)
        | (Order::Schema { .. } | Order::Catalog { .. }, Settlement::Catalog { .. }) => Ok(()),
        (Order::Rows { .. } | Order::LargeObjects { .. }, Settlement::Catalog { .. }) => {
            Err("it settles rows with a catalog")
        }
        (Order::Schema { .. } | Order::Catalog { .. }, Settlement::Rows { .. } | Settlement::Empty) => {
            Err("it settles a catalog with rows or with nothing")
        }
    }
}
