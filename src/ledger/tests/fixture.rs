//! A small run with all its documents: two destinations, three tables, spans of every kind.

use jiff::Timestamp;

use crate::format::{
    Answer, CatalogCounts, CatalogKind, Census, CopyFormat, DatabaseIdentity, DestinationPlan, EndpointPlan,
    Fingerprint, Key, Manifest, ManifestDestination, Nonce, Order, PartEntry, Plan, PlanId, QualifiedName,
    Receipt, Settlement, Sha256Digest, SpanRange, StoredObject, TableCount, TableFacts, TablePlan, Ticket,
    Tickets, Verdict,
};
use crate::ledger::{Balanced, Ledger, LedgerError, Proven, Witness};

pub(super) const RUN: u32 = 3;
pub(super) const SNAPSHOT: &str = "700:705:";
pub(super) const QUESTION: Nonce = Nonce::from_random(4711);
/// Pages of large objects that the receipts hold.
pub(super) const PAGES: u64 = 9;

pub(super) fn digest(of: &str) -> Sha256Digest {
    Sha256Digest::of(of.as_bytes())
}

pub(super) fn plan_id() -> PlanId {
    PlanId::from_random(77)
}

pub(super) fn blocks(from: Option<u32>, to: Option<u32>) -> SpanRange {
    SpanRange::Blocks { from, to }
}

pub(super) fn keys(from: Option<&str>, to: Option<&str>) -> SpanRange {
    let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
    SpanRange::Keys { column: "id".into(), of_type: "uuid".into(), from, to }
}

/// Everything of the run, each part of it open to be spoilt by a test.
#[derive(Clone)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) tickets: Vec<Tickets>,
    pub(super) receipts: Vec<(&'static str, Receipt)>,
    pub(super) census: Census,
}

fn endpoint() -> EndpointPlan {
    EndpointPlan {
        name: "default".into(),
        locality: None,
        identity: DatabaseIdentity { system_identifier: "7".into(), database: "shop".into() },
        version_num: 150_014,
        encoding: "UTF8".into(),
        snapshot_id: "00000003-1".into(),
        snapshot: SNAPSHOT.into(),
        taken: Timestamp::UNIX_EPOCH,
        catalog: digest("catalog"),
        pg_dump: "15.14".into(),
    }
}

fn table(id: u32, name: &str, destination: &str, tickets: u32) -> TablePlan {
    let facts = TableFacts {
        name: QualifiedName::new("public", name),
        oid: 16_384 + id,
        relfilenode: 16_384 + id,
        columns: vec!["id".into()],
        format: CopyFormat::Binary,
        bytes: 1 << 20,
        blocks: 128,
        extension_condition: None,
        partition_root: None,
        load_through_root: false,
        load_after_indexes: false,
        unlogged: false,
    };
    TablePlan { id, endpoint: 0, destination: destination.into(), facts, tickets }
}

/// The settlement of a rows ticket: as many rows as its number says, and their hash.
pub(super) fn rows(ticket: u32, rows: u64, sum: u128) -> Settlement {
    let key = Key::data(RUN, &plan_id(), 0, ticket, &Nonce::from_random(u128::from(ticket)));
    let sha256 = digest(key.as_str());
    let object = StoredObject { key, length: 100 + rows, sha256, checksum: None, etag: None, version: None };
    Settlement::Rows { object, fingerprint: Fingerprint { rows, sum }, raw_bytes: 10 * rows }
}

pub(super) fn catalog(ticket: u32, entries: u64) -> Settlement {
    let Settlement::Rows { object, .. } = rows(ticket, 1, 1) else { unreachable!("rows() makes rows") };
    Settlement::Catalog { object, entries }
}

/// The plan, with the spans of its first table as they are wanted.
pub(super) fn world_cut(spans: &[SpanRange]) -> World {
    let row = |table, range: &SpanRange| Order::Rows { table, range: range.clone() };
    let mut here = vec![Order::Schema { endpoint: 0 }];
    here.extend(spans.iter().map(|span| row(0, span)));
    here.push(Order::LargeObjects { endpoint: 0, from: 1, to: u32::MAX });
    here.push(Order::Catalog { endpoint: 0, what: CatalogKind::Sequences });
    let catalogs = [CatalogKind::Roles, CatalogKind::LargeObjects, CatalogKind::Database]
        .map(|what| Order::Catalog { endpoint: 0, what });
    let there =
        [row(1, &keys(None, Some("7"))), row(1, &keys(Some("7"), None)), row(2, &SpanRange::Whole)].to_vec();
    let spans = u32::try_from(spans.len()).unwrap();
    let tables = vec![
        table(0, "orders", "here", spans),
        table(1, "events", "there", 2),
        table(2, "empty", "there", 1),
    ];
    let mut next = 0_u32;
    let mut side = |destination: &str, orders: Vec<Order>| {
        let tickets = orders.into_iter().map(|order| {
            let id = next;
            next += 1;
            Ticket { id, order }
        });
        Tickets {
            run: RUN,
            plan: plan_id(),
            destination: destination.into(),
            endpoints: vec![endpoint()],
            tables: tables.iter().filter(|table| table.destination == destination).cloned().collect(),
            tickets: tickets.collect(),
        }
    };
    let mut tickets = vec![side("here", here), side("there", there)];
    // Numbered last, so that those of rows stand at the same numbers as ever.
    let last = side("here", catalogs.to_vec());
    tickets[0].tickets.extend(last.tickets);
    let destinations = tickets.iter().map(|tickets| DestinationPlan {
        name: tickets.destination.clone(),
        url: "file:///backups".into(),
        locality: None,
        default: tickets.destination == "here",
        tickets: digest(&tickets.destination),
        count: u32::try_from(tickets.tickets.len()).unwrap(),
    });
    let plan = Plan {
        run: RUN,
        plan: plan_id(),
        endpoints: vec![endpoint()],
        destinations: destinations.collect(),
        tables,
        omissions: Vec::new(),
        populated_views: Vec::new(),
        tickets: next,
    };
    let (mut receipts, mut counts) = (Vec::new(), [0, 0, 0]);
    for (name, side) in ["here", "there"].into_iter().zip(&tickets) {
        for ticket in &side.tickets {
            let of_ticket = u64::from(ticket.id) + 10;
            let settlement = match &ticket.order {
                Order::Rows { table: 2, .. } => Settlement::Empty,
                Order::Rows { table, .. } => {
                    counts[*table as usize] += of_ticket;
                    rows(ticket.id, of_ticket, u128::from(of_ticket) << 70)
                }
                Order::LargeObjects { .. } => rows(ticket.id, PAGES, 5),
                Order::Schema { .. } | Order::Catalog { .. } => catalog(ticket.id, of_ticket),
            };
            let receipt = Receipt {
                run: RUN,
                plan: plan_id(),
                tickets: digest(name),
                snapshot: SNAPSHOT.into(),
                ticket: ticket.id,
                worker: Nonce::from_random(1),
                settlement,
            };
            receipts.push((name, receipt));
        }
    }
    let entries = CatalogCounts {
        roles: entries_of(&tickets, CatalogKind::Roles),
        sequences: entries_of(&tickets, CatalogKind::Sequences),
        large_objects: entries_of(&tickets, CatalogKind::LargeObjects),
        database: entries_of(&tickets, CatalogKind::Database),
    };
    let counts = (0..).zip(counts).map(|(table, rows)| TableCount { table, rows });
    let census = Census {
        run: RUN,
        plan: plan_id(),
        plan_document: digest("plan"),
        counts: counts.collect(),
        large_object_pages: vec![PAGES],
        catalog_counts: vec![entries],
        catalogs: vec![digest("catalog")],
        equal_spans: Vec::new(),
    };
    World { plan, tickets, receipts, census }
}

/// As many as the receipt of its ticket says, which goes by the ticket's number.
fn entries_of(tickets: &[Tickets], kind: CatalogKind) -> u64 {
    let is_it = |ticket: &&Ticket| matches!(ticket.order, Order::Catalog { what, .. } if what == kind);
    u64::from(tickets[0].tickets.iter().find(is_it).unwrap().id) + 10
}

/// The run as it should be. Tickets 1 to 3 are spans of blocks of `orders`, 6 and 7 of keys of `events`,
/// 8 is `empty`, and 9 to 11 are catalogs.
pub(super) fn world() -> World {
    world_cut(&[blocks(None, Some(40)), blocks(Some(40), Some(80)), blocks(Some(80), None)])
}

impl World {
    pub(super) fn open(&self) -> Result<Ledger, LedgerError> {
        let tickets = self.tickets.iter().map(|side| (side.clone(), digest(&side.destination)));
        Ledger::open(self.plan.clone(), tickets.collect())
    }

    /// The ledger with every receipt taken.
    pub(super) fn ledger(&self) -> Ledger {
        let mut ledger = self.open().unwrap();
        for (destination, receipt) in &self.receipts {
            let key = receipt_key(receipt);
            ledger.take(destination, key.clone(), digest(key.as_str()), receipt.clone()).unwrap();
        }
        ledger
    }

    pub(super) fn balance(&self) -> Result<Balanced, LedgerError> {
        self.ledger().balance(digest("plan"), &self.census)
    }

    pub(super) fn receipt(&mut self, ticket: u32) -> &mut Receipt {
        self.receipts.iter_mut().map(|(_, receipt)| receipt).find(|it| it.ticket == ticket).unwrap()
    }
}

pub(super) fn receipt_key(receipt: &Receipt) -> Key {
    Key::receipt(RUN, &plan_id(), receipt.ticket, &receipt.worker)
}

/// What the verifiers hand in, and what they are asked.
pub(super) struct Hearing {
    pub(super) balanced: Balanced,
    pub(super) manifest: Manifest,
    pub(super) verdicts: Vec<(Verdict, Sha256Digest)>,
    pub(super) witnesses: Vec<Witness>,
}

impl Hearing {
    pub(super) fn prove(&self) -> Result<Proven, LedgerError> {
        let manifest = (&self.manifest, digest("manifest"));
        self.balanced.prove(QUESTION, manifest, &self.verdicts, &self.witnesses)
    }

    /// The verdict of the second destination: the one that a run in a hurry would not wait for.
    pub(super) fn last(&mut self) -> &mut Verdict {
        &mut self.verdicts[1].0
    }
}

fn answer(entry: &PartEntry) -> Answer {
    let object = entry.settlement.object();
    let entries = if let Settlement::Catalog { entries, .. } = &entry.settlement { *entries } else { 0 };
    Answer {
        ticket: entry.ticket,
        object: object.map(|object| object.key.clone()),
        length: object.map_or(0, |object| object.length),
        sha256: object.map(|object| object.sha256),
        fingerprint: entry.settlement.fingerprint(),
        entries,
        challenge: Fingerprint::EMPTY,
    }
}

/// The balanced run before its verifiers' verdicts, all of which are as they should be.
pub(super) fn hearing() -> Hearing {
    let world = world();
    let balanced = world.balance().unwrap();
    let (mut destinations, mut verdicts, mut witnesses) = (Vec::new(), Vec::new(), Vec::new());
    for share in balanced.shares() {
        let name = &share.destination;
        let part = digest(&format!("part of {name}"));
        let (objects, stored_bytes) = share.objects();
        destinations.push(ManifestDestination {
            name: name.clone(),
            url: "file:///backups".into(),
            locality: None,
            default: name == "here",
            tickets: digest(name),
            part,
            count: u32::try_from(share.part.entries.len()).unwrap(),
            objects,
            stored_bytes,
        });
        let verdict = Verdict {
            run: RUN,
            plan: plan_id(),
            destination: name.clone(),
            nonce: QUESTION,
            manifest: digest("manifest"),
            part,
            answers: share.part.entries.iter().map(answer).collect(),
            objects_read: objects,
            bytes_read: stored_bytes,
            damages: Vec::new(),
            written: Timestamp::UNIX_EPOCH,
        };
        let stored = digest(&format!("verdict of {name}"));
        verdicts.push((verdict, stored));
        witnesses.push(Witness { destination: name.clone(), verdict: stored });
    }
    let manifest = Manifest {
        run: RUN,
        plan: plan_id(),
        plan_document: digest("plan"),
        census: digest("census"),
        endpoints: world.plan.endpoints,
        destinations,
        tables: Vec::new(),
        omissions: Vec::new(),
        populated_views: Vec::new(),
        rows: 0,
        raw_bytes: 0,
        stored_bytes: 0,
        errors: Vec::new(),
        written: Timestamp::UNIX_EPOCH,
        software: "test".into(),
    };
    Hearing { balanced, manifest, verdicts, witnesses }
}
