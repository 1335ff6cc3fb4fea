//! A value of each document, with every field and every variant that it can have.

use std::collections::BTreeMap;

use vouchsafe::format::{
    Answer, Attempt, Beat, CatalogCounts, CatalogKind, Census, Collection, Copied, CopyFormat, CopyMark,
    Damage, DatabaseIdentity, Decision, DestinationPlan, EndpointPlan, EqualSpans, ErrorEntry, Fingerprint,
    Key, Manifest, ManifestDestination, ManifestTable, Nonce, Omitted, Order, Outcome, Part, PartEntry, Plan,
    PlanId, ProcessIdentity, QualifiedName, Receipt, Retired, Retirement, Run, RunKind, Settlement,
    Sha256Digest, SpanRange, StoredObject, TableCount, TableFacts, TablePlan, Ticket, Tickets, Verdict,
    VerdictReference,
};

use crate::check;

pub(crate) fn plan_id() -> PlanId {
    "p0123456789abcdef0123456789abcdef".parse().unwrap()
}

fn nonce(of: char) -> Nonce {
    format!("n{}", of.to_string().repeat(32)).parse().unwrap()
}

fn digest(text: &str) -> Sha256Digest {
    Sha256Digest::of(text.as_bytes())
}

fn time() -> jiff::Timestamp {
    "2026-11-20T10:11:12.345678901Z".parse().unwrap()
}

fn identity() -> DatabaseIdentity {
    DatabaseIdentity { system_identifier: u64::MAX.to_string(), database: "größe \"x\"\n".into() }
}

fn endpoint(name: &str, locality: Option<&str>) -> EndpointPlan {
    EndpointPlan {
        name: name.into(),
        locality: locality.map(Into::into),
        identity: identity(),
        version_num: 150_018,
        encoding: "SQL_ASCII".into(),
        snapshot_id: "00000003-0000001B-1".into(),
        snapshot: "740:745:741,743".into(),
        taken: time(),
        catalog: digest("catalog"),
        pg_dump: "15.18".into(),
    }
}

fn facts(name: &str, full: bool) -> TableFacts {
    TableFacts {
        name: QualifiedName::new("größe", name),
        oid: u32::MAX,
        relfilenode: 16_385,
        columns: if full { vec!["id".into(), "quo\"ted".into(), "表".into()] } else { Vec::new() },
        format: if full { CopyFormat::Binary } else { CopyFormat::Text },
        bytes: u64::MAX,
        blocks: 12,
        extension_condition: full.then(|| "WHERE own".into()),
        partition_root: full.then(|| QualifiedName::new("größe", "root")),
        load_through_root: full,
        load_after_indexes: full,
        unlogged: full,
    }
}

fn tables() -> Vec<TablePlan> {
    let table = |id, name, full| TablePlan {
        id,
        endpoint: id,
        destination: "region=eu".into(),
        facts: facts(name, full),
        tickets: 2,
    };
    vec![table(0, "orders", true), table(1, "nothing", false)]
}

fn omitted() -> Vec<Omitted> {
    vec![Omitted {
        endpoint: "eu".into(),
        object: "public.foreign".into(),
        kind: "ForeignTable".into(),
        reason: "its rows are on another server".into(),
    }]
}

fn object(full: bool) -> StoredObject {
    StoredObject {
        key: Key::data(7, &plan_id(), 1, 2, &nonce('a')),
        length: u64::MAX,
        sha256: digest("object"),
        checksum: full.then(|| "CRC64NVME:AAAAAAAAAAA=".into()),
        etag: full.then(|| "\"0123-4\"".into()),
        version: full.then(|| "v/+1".into()),
    }
}

fn fingerprint() -> Fingerprint {
    Fingerprint { rows: u64::MAX, sum: u128::MAX - 1 }
}

fn settlements() -> Vec<Settlement> {
    vec![
        Settlement::Rows { object: object(true), fingerprint: fingerprint(), raw_bytes: 12 },
        Settlement::Empty,
        Settlement::Catalog { object: object(false), entries: 3 },
    ]
}

fn orders() -> Vec<Order> {
    let rows = |range| Order::Rows { table: 0, range };
    let keys = |from: Option<&str>, to: Option<&str>| SpanRange::Keys {
        column: "quo\"ted".into(),
        of_type: "uuid".into(),
        from: from.map(Into::into),
        to: to.map(Into::into),
    };
    vec![
        rows(SpanRange::Whole),
        rows(SpanRange::Blocks { from: None, to: Some(24_576) }),
        rows(SpanRange::Blocks { from: Some(24_576), to: None }),
        rows(keys(None, Some("8"))),
        rows(keys(Some("8"), None)),
        Order::Schema { endpoint: 0 },
        Order::Catalog { endpoint: 0, what: CatalogKind::Roles },
        Order::Catalog { endpoint: 0, what: CatalogKind::Sequences },
        Order::Catalog { endpoint: 0, what: CatalogKind::LargeObjects },
        Order::Catalog { endpoint: 1, what: CatalogKind::Database },
        Order::LargeObjects { endpoint: 0, from: 1, to: u32::MAX },
    ]
}

pub(crate) fn check_all() {
    check_register();
    check_plans();
    check_ledger();
    check("manifest", &manifest());
}

fn check_register() {
    let source = BTreeMap::from([("eu".to_owned(), identity()), ("us".to_owned(), identity())]);
    check("collection", &Collection { source, created: time(), nonce: nonce('c') });
    let run = |kind, previous| Run {
        run: 7,
        kind,
        owner: "command:0123".into(),
        nonce: nonce('1'),
        claimed: time(),
        collection: digest("collection"),
        previous,
        software: "0.1.0".into(),
    };
    check("run", &run(RunKind::Backup, Some(digest("outcome"))));
    check("run-first", &run(RunKind::Prune, None));
    let process =
        ProcessIdentity { space: "boot/ns".into(), pid: 42, started_ticks: 1, host: "höst".into() };
    check(
        "attempt",
        &Attempt {
            run: 7,
            attempt: 2,
            nonce: nonce('2'),
            plan: plan_id(),
            reason: "the run was left open".into(),
            continues: true,
            process,
            started: time(),
        },
    );
    check("beat", &Beat { run: 7, attempt: 2, beat: u64::MAX, nonce: nonce('2') });
    let outcome = |decision| Outcome {
        run: 7,
        claim: digest("run"),
        attempts: vec![digest("1"), digest("2")],
        decision,
        decided_by: nonce('2'),
        decided: time(),
    };
    let verdicts =
        vec![VerdictReference { destination: "default".into(), nonce: nonce('3'), sha256: digest("v") }];
    let sealed = Decision::Sealed { plan: plan_id(), manifest: digest("manifest"), verdicts };
    check("outcome-sealed", &outcome(sealed));
    let void = Decision::Void { reason: "Canceled".into(), message: "interrupted".into() };
    check("outcome-void", &outcome(void));
    let retired =
        vec![Retirement { run: 1, sha256: digest("r") }, Retirement { run: 2, sha256: digest("s") }];
    check("outcome-pruned", &outcome(Decision::Pruned { survivor: Some(6), retired }));
    let reason = "kept by no rule".to_owned();
    check("retired", &Retired { run: 2, outcome: digest("outcome"), prune: 7, reason, written: time() });
    let from = "s3://orders-eu/pg/shop".to_owned();
    check("copy", &CopyMark { collection: digest("collection"), from, created: time() });
    let copied = Copied {
        run: 2,
        plan: plan_id(),
        manifest: digest("manifest"),
        objects_read: 48,
        bytes_read: u64::MAX,
        written: time(),
        software: "0.1.0".into(),
    };
    check("copied", &copied);
}

fn check_plans() {
    let endpoints = vec![endpoint("eu", Some("region=eu")), endpoint("us", None)];
    let destination = |name: &str, default: bool| DestinationPlan {
        name: name.into(),
        url: "s3://bucket/prefix".into(),
        locality: (!default).then(|| name.into()),
        default,
        tickets: digest(name),
        count: 11,
    };
    check(
        "plan",
        &Plan {
            run: 7,
            plan: plan_id(),
            endpoints: endpoints.clone(),
            destinations: vec![destination("default", true), destination("region=eu", false)],
            tables: tables(),
            omissions: omitted(),
            populated_views: vec![QualifiedName::new("shop", "counted")],
            tickets: 11,
        },
    );
    let tickets = (0..).zip(orders()).map(|(id, order)| Ticket { id, order }).collect();
    let destination = "region=eu".to_owned();
    check("tickets", &Tickets { run: 7, plan: plan_id(), destination, endpoints, tables: tables(), tickets });
}

fn check_ledger() {
    for (name, settlement) in
        ["receipt-rows", "receipt-empty", "receipt-catalog"].into_iter().zip(settlements())
    {
        let receipt = Receipt {
            run: 7,
            plan: plan_id(),
            tickets: digest("tickets"),
            snapshot: "740:745:741,743".into(),
            ticket: 3,
            worker: nonce('a'),
            settlement,
        };
        check(name, &receipt);
    }
    check(
        "census",
        &Census {
            run: 7,
            plan: plan_id(),
            plan_document: digest("plan"),
            counts: vec![TableCount { table: 0, rows: u64::MAX }],
            large_object_pages: vec![0, 3],
            catalog_counts: vec![
                CatalogCounts { roles: 1, sequences: 2, large_objects: u64::MAX, database: 4 },
                CatalogCounts { roles: 5, sequences: 0, large_objects: 0, database: 2 },
            ],
            catalogs: vec![digest("catalog")],
            equal_spans: vec![EqualSpans { tickets: (1, 2), server: "equal".into() }],
        },
    );
    let entries = (0..).zip(settlements()).map(|(ticket, settlement)| PartEntry {
        ticket,
        receipt: Key::receipt(7, &plan_id(), ticket, &nonce('a')),
        receipt_sha256: digest("receipt"),
        settlement,
    });
    let (destination, tickets) = ("default".to_owned(), digest("tickets"));
    check("part", &Part { run: 7, plan: plan_id(), destination, tickets, entries: entries.collect() });
    let answer = |ticket, full: bool| Answer {
        ticket,
        object: full.then(|| object(full).key),
        length: 12,
        sha256: full.then(|| digest("object")),
        fingerprint: fingerprint(),
        entries: 3,
        challenge: Fingerprint { rows: 0, sum: 5 },
    };
    let damage = |full: bool| Damage {
        object: "data/x".into(),
        table: full.then(|| "shop.orders".into()),
        offsets: full.then_some((1, 2)),
        finding: "a flipped bit".into(),
    };
    check(
        "verdict",
        &Verdict {
            run: 7,
            plan: plan_id(),
            destination: "default".into(),
            nonce: nonce('3'),
            manifest: digest("manifest"),
            part: digest("part"),
            answers: vec![answer(0, true), answer(1, false)],
            objects_read: 5,
            bytes_read: u64::MAX,
            damages: vec![damage(true), damage(false)],
            written: time(),
        },
    );
}

fn manifest() -> Manifest {
    Manifest {
        run: 7,
        plan: plan_id(),
        plan_document: digest("plan"),
        census: digest("census"),
        endpoints: vec![endpoint("eu", None)],
        destinations: vec![ManifestDestination {
            name: "default".into(),
            url: "file:///backups".into(),
            locality: None,
            default: true,
            tickets: digest("tickets"),
            part: digest("part"),
            count: 11,
            objects: 9,
            stored_bytes: 100,
        }],
        tables: vec![ManifestTable {
            id: 0,
            endpoint: "eu".into(),
            name: QualifiedName::new("größe", "orders"),
            columns: vec!["id".into()],
            format: CopyFormat::Binary,
            destination: "default".into(),
            fingerprint: fingerprint(),
            raw_bytes: 12,
            stored_bytes: 10,
            tickets: 2,
        }],
        omissions: omitted(),
        populated_views: vec![QualifiedName::new("shop", "counted")],
        rows: u64::MAX,
        raw_bytes: 12,
        stored_bytes: 10,
        errors: vec![ErrorEntry {
            operation: "put".into(),
            kind: "Throttled".into(),
            met: 3,
            resolution: "Retried".into(),
        }],
        written: time(),
        software: "0.1.0".into(),
    }
}
