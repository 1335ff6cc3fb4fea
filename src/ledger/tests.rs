//! Books that agree end in a seal, and each way in which they don't has its own error: one cause a test.

mod fixture;
mod orders;

use proptest::prelude::*;

use self::fixture::{
    QUESTION, World, blocks, catalog, digest, hearing, keys, plan_id, receipt_key, rows, world, world_cut,
};
use super::{CoverageError, LedgerError, Taken};
use crate::format::{
    Damage, Decision, EqualSpans, Fingerprint, Key, Nonce, PlanId, Settlement, SpanRange, StoredObject,
    TableCount, Verdict, VerdictReference,
};

/// Spoils one thing.
type Change = fn(&mut World);

fn taken(world: &World, destination: &str, change: impl Fn(&mut World)) -> Result<Taken, LedgerError> {
    let mut changed = world.clone();
    changed.receipts.retain(|(name, _)| *name == destination);
    change(&mut changed);
    let receipt = changed.receipts.last().unwrap().1.clone();
    let key = receipt_key(&receipt);
    world.open().unwrap().take(destination, key.clone(), digest(key.as_str()), receipt)
}

#[test]
fn books_that_agree_are_balanced_and_sealed_with_every_verdict() {
    let balanced = world().balance().unwrap();
    assert_eq!(balanced.shares().map(|share| share.part.entries.len()).sum::<usize>(), 12);
    // 1, 2 and 3 hold 11, 12 and 13 rows; see the fixture.
    assert_eq!(balanced.tables()[0].fingerprint, Fingerprint { rows: 36, sum: 36 << 70 });
    assert_eq!(balanced.tables()[0].raw_bytes, 360);
    assert_eq!(balanced.tables()[0].stored_bytes, 336);
    assert_eq!(balanced.tables()[2].fingerprint, Fingerprint::EMPTY);
    assert_eq!(balanced.table_of(7).unwrap().facts.name.name, "events");
    assert!(balanced.table_of(0).is_none(), "a schema is no table");
    let verdicts = ["here", "there"].map(|name| VerdictReference {
        destination: name.into(),
        nonce: QUESTION,
        sha256: digest(&format!("verdict of {name}")),
    });
    let sealed =
        Decision::Sealed { plan: plan_id(), manifest: digest("manifest"), verdicts: verdicts.to_vec() };
    assert_eq!(hearing().prove().unwrap().into_decision(), sealed);
}

#[test]
fn a_ticket_without_a_receipt_is_open_whichever_it_is() {
    for missing in 0..12 {
        let mut world = world();
        let of_ticket = world.receipts.iter().find(|(_, receipt)| receipt.ticket == missing);
        let destination = of_ticket.unwrap().0.to_owned();
        world.receipts.retain(|(_, receipt)| receipt.ticket != missing);
        assert_eq!(world.ledger().open_tickets(), [missing]);
        let open = LedgerError::Open { destination, planned: 12, open: vec![missing] };
        assert_eq!(world.balance().unwrap_err(), open, "without ticket {missing}");
    }
}

#[test]
fn receipts_of_another_plan_run_order_or_snapshot_do_not_count() {
    let world = world();
    assert_eq!(taken(&world, "there", |_| ()), Ok(Taken::Settled));
    let changes: [Change; 4] = [
        |it| it.receipt(8).plan = PlanId::from_random(78),
        |it| it.receipt(8).run += 1,
        |it| it.receipt(8).tickets = digest("other tickets"),
        |it| it.receipt(8).snapshot = "700:706:".into(),
    ];
    for change in changes {
        assert_eq!(taken(&world, "there", change), Ok(Taken::Foreign));
        let mut changed = world.clone();
        change(&mut changed);
        assert_eq!(changed.ledger().open_tickets(), [8], "it settled a ticket");
    }
}

#[test]
fn a_second_receipt_must_say_the_same_of_the_rows() {
    let mut world = world();
    let mut ledger = world.ledger();
    world.receipt(2).worker = Nonce::from_random(2);
    let mut again = |world: &mut World| {
        let receipt = world.receipt(2).clone();
        let key = receipt_key(&receipt);
        ledger.take("here", key.clone(), digest(key.as_str()), receipt)
    };
    assert_eq!(again(&mut world), Ok(Taken::Again));
    world.receipt(2).settlement = rows(2, 12, 1);
    let receipt = receipt_key(world.receipt(2));
    assert!(matches!(again(&mut world), Err(LedgerError::Receipt { receipt: r, .. }) if r == receipt));
    world.receipt(2).settlement = Settlement::Empty;
    assert!(matches!(again(&mut world), Err(LedgerError::Receipt { .. })));
}

/// A catalog is read once in the life of a plan: another one of the same ticket is no repetition.
#[test]
fn catalogs_that_contradict_each_other_are_refused() {
    let again = |change: fn(&mut StoredObject, &mut u64)| {
        let mut world = world();
        let mut ledger = world.ledger();
        let receipt = world.receipt(0);
        receipt.worker = Nonce::from_random(2);
        let Settlement::Catalog { object, entries } = &mut receipt.settlement else { panic!("no catalog") };
        change(object, entries);
        let key = receipt_key(receipt);
        ledger.take("here", key.clone(), digest(key.as_str()), receipt.clone())
    };
    assert_eq!(again(|_, _| ()), Ok(Taken::Again));
    for contradicting in
        [again(|object, _| object.sha256 = digest("another")), again(|_, entries| *entries += 1)]
    {
        assert!(matches!(contradicting, Err(LedgerError::Receipt { .. })), "{contradicting:?}");
    }
}

#[test]
fn receipts_that_cannot_settle_their_ticket_are_refused() {
    let world = world();
    let refused: [(&str, Change); 6] = [
        ("there", |it| it.receipt(8).ticket = 1),  // of the other destination
        ("there", |it| it.receipt(8).ticket = 12), // of none
        ("there", |it| it.receipt(8).settlement = catalog(8, 1)),
        ("there", |it| it.receipt(8).settlement = rows(8, 0, 0)), // an object without rows
        ("here", |it| it.receipt(11).settlement = rows(11, 1, 1)),
        ("here", |it| it.receipt(11).settlement = Settlement::Empty),
    ];
    for (position, (destination, change)) in refused.into_iter().enumerate() {
        let found = taken(&world, destination, change);
        assert!(matches!(found, Err(LedgerError::Receipt { .. })), "{position}: {found:?}");
    }
    let mut ledger = world.open().unwrap();
    let (one, other) = (world.receipts[0].1.clone(), &world.receipts[1].1);
    let swapped = ledger.take(world.receipts[0].0, receipt_key(other), digest(""), one);
    assert!(
        matches!(&swapped, Err(LedgerError::Receipt { receipt, .. }) if *receipt == receipt_key(other)),
        "{swapped:?}"
    );
    let receipt = world.receipts[0].1.clone();
    let unknown = world.open().unwrap().take("nowhere", receipt_key(&receipt), digest(""), receipt);
    assert!(matches!(unknown, Err(LedgerError::Receipt { .. })));
}

#[test]
fn tickets_that_are_not_those_of_the_plan_are_refused() {
    let changes: [Change; 13] = [
        |it| it.tickets.truncate(1),
        |it| it.tickets.push(it.tickets[0].clone()),
        |it| it.tickets[1].destination = "elsewhere".into(),
        |it| it.tickets[0].run += 1,
        |it| it.tickets[0].plan = PlanId::from_random(78),
        |it| it.tickets[0].endpoints[0].snapshot = "700:706:".into(),
        |it| it.tickets[0].tables[0].facts.blocks += 1,
        |it| it.tickets[0].tickets.swap(0, 1),
        |it| it.tickets[1].tickets.truncate(2),
        |it| it.tickets[1].tickets[2].id = 1,
        |it| it.plan.destinations[1].tickets = digest("other tickets"),
        |it| it.plan.tickets += 1,
        |it| it.plan.tables.swap(0, 1),
    ];
    for (position, change) in changes.into_iter().enumerate() {
        let mut world = world();
        change(&mut world);
        let found = world.open().map(|_| ());
        assert!(matches!(found, Err(LedgerError::ForeignTickets { .. })), "{position}: {found:?}");
    }
}

#[test]
fn spans_that_leave_a_gap_or_overlap_are_refused() {
    let (open, end) = (None, Some(80));
    let cases: [(&[SpanRange], CoverageError); 7] = [
        (&[], CoverageError::None),
        (&[SpanRange::Whole, SpanRange::Whole], CoverageError::Mixed),
        (&[blocks(open, end), keys(Some("80"), None)], CoverageError::Mixed),
        (&[blocks(open, end)], CoverageError::Ends),
        (&[blocks(Some(0), end), blocks(end, open)], CoverageError::Ends),
        (&[blocks(open, end), blocks(Some(81), open)], CoverageError::Seam("Some(80) and Some(81)".into())),
        (&[keys(None, Some("7")), keys(Some("6"), None)], {
            CoverageError::Seam("Some(\"7\") and Some(\"6\")".into())
        }),
    ];
    for (spans, source) in cases {
        let refused = LedgerError::Coverage { table: "public.orders".into(), source };
        assert_eq!(world_cut(spans).open().map(|_| ()), Err(refused), "{spans:?}");
    }
}

fn cut_at(cuts: &[u32]) -> Vec<SpanRange> {
    let starts = std::iter::once(None).chain(cuts.iter().copied().map(Some));
    let ends = cuts.iter().copied().map(Some).chain(std::iter::once(None));
    starts.zip(ends).map(|(from, to)| blocks(from, to)).collect()
}

proptest! {
    #[test]
    fn any_cuts_cover_in_any_order_and_any_moved_bound_is_found(
        cuts in prop::collection::btree_set(1_u32..100_000, 1..40),
        order in any::<prop::sample::Index>(),
        spoilt in any::<prop::sample::Index>(),
        by in prop_oneof![-50_i64..0, 1_i64..50],
        at_start: bool,
    ) {
        let cuts: Vec<u32> = cuts.into_iter().collect();
        let mut spans = cut_at(&cuts);
        let turn = order.index(spans.len());
        spans.rotate_left(turn);
        prop_assert!(world_cut(&spans).open().is_ok());
        let spoilt = spoilt.index(spans.len());
        let SpanRange::Blocks { from, to } = &mut spans[spoilt] else { unreachable!("cut in blocks") };
        let bound = if at_start { from } else { to };
        // An open end that is closed leaves out what lies behind it, so that must be found too.
        let moved = i64::from(bound.unwrap_or(50_000)) + by;
        *bound = Some(u32::try_from(moved.max(0)).unwrap());
        let found = world_cut(&spans).open().map(|_| ());
        prop_assert!(matches!(found, Err(LedgerError::Coverage { .. })), "{:?}: {:?}", spans, found);
        spans.remove(spoilt);
        let found = world_cut(&spans).open().map(|_| ());
        prop_assert!(matches!(found, Err(LedgerError::Coverage { .. })), "{:?}: {:?}", spans, found);
    }
}

#[test]
fn counts_must_be_those_of_the_database() {
    for table in 0..3 {
        let mut world = world();
        world.census.counts[table].rows += 1;
        let counted = world.census.counts[table].rows;
        let name = ["public.orders", "public.events", "public.empty"][table].to_owned();
        let disagree = LedgerError::Counts { table: name, read: counted - 1, counted };
        assert_eq!(world.balance().unwrap_err(), disagree);
    }
    let mut world = world();
    world.census.large_object_pages = vec![10];
    assert!(matches!(world.balance(), Err(LedgerError::Counts { read: 9, counted: 10, .. })));
}

#[test]
fn a_census_of_something_else_is_refused() {
    let changes: [Change; 10] = [
        |it| it.census.run += 1,
        |it| it.census.plan = PlanId::from_random(78),
        |it| it.census.plan_document = digest("another plan"),
        |it| it.census.catalogs.clear(),
        |it| it.census.large_object_pages.push(0),
        |it| it.census.catalog_counts.clear(),
        |it| it.census.catalog_counts.push(it.census.catalog_counts[0]),
        |it| it.census.counts.truncate(2),
        |it| it.census.counts.push(TableCount { table: 3, rows: 0 }),
        |it| it.census.counts.swap(0, 1),
    ];
    for (position, change) in changes.into_iter().enumerate() {
        let mut world = world();
        change(&mut world);
        let found = world.balance().map(|_| ());
        assert!(matches!(found, Err(LedgerError::Census(_))), "{position}: {found:?}");
    }
}

#[test]
fn catalogs_that_changed_are_refused() {
    let mut world = world();
    world.census.catalogs[0] = digest("after a migration");
    assert_eq!(world.balance().unwrap_err(), LedgerError::CatalogChanged("default".into()));
}

#[test]
fn equal_spans_need_the_servers_explanation() {
    let mut world = world();
    for ticket in 1..=3 {
        world.receipt(ticket).settlement = rows(ticket, 12, 99);
    }
    assert_eq!(world.ledger().equal_spans(), [(1, 2), (1, 3)]);
    let unexplained = |first, second| LedgerError::EqualSpans(first, second, "public.orders".into());
    assert_eq!(world.balance().unwrap_err(), unexplained(1, 2));
    let equal = |tickets| EqualSpans { tickets, server: "12 rows".into() };
    world.census.equal_spans = vec![equal((1, 2))];
    assert_eq!(world.balance().unwrap_err(), unexplained(1, 3));
    world.census.equal_spans.push(equal((1, 3)));
    assert_eq!(world.balance().unwrap().tables()[0].fingerprint.rows, 36);
}

#[test]
fn spans_that_differ_or_are_empty_or_of_other_tables_are_not_equal() {
    let mut world = world();
    world.receipt(1).settlement = rows(1, 12, 98); // as many rows as ticket 2
    world.receipt(6).settlement = rows(6, 12, 12 << 70); // the fingerprint of ticket 2, in another table
    world.receipt(3).settlement = Settlement::Empty;
    world.census.counts[0].rows = 24;
    world.census.counts[1].rows = 12 + 17;
    assert!(world.ledger().equal_spans().is_empty());
    assert!(world.balance().is_ok());
}

#[test]
fn a_verdict_that_is_missing_or_about_something_else_is_refused() {
    let changes: [fn(&mut Verdict); 6] = [
        |it| it.destination = "here".into(),
        |it| it.nonce = Nonce::from_random(4710),
        |it| it.manifest = digest("another manifest"),
        |it| it.part = digest("another part"),
        |it| it.run += 1,
        |it| it.plan = PlanId::from_random(78),
    ];
    for (position, change) in changes.into_iter().enumerate() {
        let mut hearing = hearing();
        change(hearing.last());
        let found = hearing.prove().map(|_| ());
        assert!(matches!(found, Err(LedgerError::Verdict { .. })), "{position}: {found:?}");
    }
    for missing in 0..2 {
        let mut hearing = hearing();
        let destination = hearing.verdicts.remove(missing).0.destination;
        let found = hearing.prove().map(|_| ());
        assert!(matches!(found, Err(LedgerError::Verdict { destination: d, .. }) if d == destination));
    }
}

#[test]
fn answers_must_be_those_of_the_books_in_every_field() {
    // Answer 0 of the second destination is of ticket 6: rows. Answer 2 is of ticket 8: empty.
    let changes: [fn(&mut Verdict); 14] = [
        |it| it.answers.truncate(2),
        |it| it.answers.push(it.answers[0].clone()),
        |it| it.answers[1] = it.answers[0].clone(),
        |it| it.answers[0].ticket = 9,
        |it| it.answers[0].object = it.answers[1].object.clone(),
        |it| it.answers[0].object = None,
        |it| it.answers[0].length += 1,
        |it| it.answers[0].sha256 = it.answers[1].sha256,
        |it| it.answers[0].sha256 = None,
        |it| it.answers[0].fingerprint.rows += 1,
        |it| it.answers[0].fingerprint.sum += 1,
        |it| it.answers[0].entries = 1,
        |it| it.answers[2].object = Some(Key::collection()),
        |it| it.answers[2].fingerprint.rows = 1,
    ];
    for (position, change) in changes.into_iter().enumerate() {
        let mut hearing = hearing();
        change(hearing.last());
        let found = hearing.prove().map(|_| ());
        assert!(
            matches!(&found, Err(LedgerError::Verdict { destination, .. }) if destination == "there"),
            "{position}: {found:?}"
        );
    }
    let mut hearing = hearing();
    hearing.verdicts[0].0.answers[0].entries += 1; // of the schema
    let found = hearing.prove().map(|_| ());
    assert!(matches!(found, Err(LedgerError::Verdict { destination, .. }) if destination == "here"));
}

#[test]
fn damage_that_a_verifier_found_is_named() {
    let mut hearing = hearing();
    let damage =
        Damage { object: "data/x".into(), table: None, offsets: None, finding: "a bit is flipped".into() };
    hearing.last().damages.push(damage);
    let damaged = LedgerError::Damaged {
        destination: "there".into(),
        object: "data/x".into(),
        finding: "a bit is flipped".into(),
    };
    assert_eq!(hearing.prove().unwrap_err(), damaged);
}

#[test]
fn a_verdict_that_its_writer_did_not_witness_is_refused() {
    let refused = |hearing: &fixture::Hearing| {
        let found = hearing.prove().map(|_| ());
        assert!(matches!(&found, Err(LedgerError::Verdict { destination, .. }) if destination == "there"));
    };
    let mut without = hearing();
    without.witnesses.pop();
    refused(&without);
    let mut of_another = hearing();
    of_another.witnesses[1].verdict = digest("a verdict written later");
    refused(&of_another);
    let mut swapped = hearing();
    swapped.witnesses[1].destination = "here".into();
    refused(&swapped);
}
