//! Schema, catalogs and large objects of an endpoint: all ordered, and as long as the database counts.

use super::Change;
use super::fixture::{World, world};
use crate::format::{CatalogCounts, CatalogKind, Order, Ticket};
use crate::ledger::LedgerError;

/// Spoils one count.
type Miscount = fn(&mut CatalogCounts);

/// Puts one more ticket into the default destination's, and into the plan's numbers.
fn order_more(world: &mut World, order: Order) {
    let id = world.plan.tickets;
    world.tickets[0].tickets.push(Ticket { id, order });
    world.plan.tickets += 1;
    world.plan.destinations[0].count += 1;
}

#[test]
fn an_endpoint_whose_schema_catalogs_or_large_objects_are_not_all_ordered_is_refused() {
    let database = Order::Catalog { endpoint: 0, what: CatalogKind::Database };
    // Ticket 0 is the schema, 4 the large objects, 5 the sequences, 9 to 11 the other catalogs.
    for (position, name) in [(0, "schema"), (5, "sequences"), (6, "roles"), (7, "large-objects")] {
        let mut world = world();
        world.tickets[0].tickets[position].order = database.clone();
        let why = format!("its {name} is not ordered");
        assert_eq!(world.open().unwrap_err(), LedgerError::Uncovered { endpoint: "default".into(), why });
    }
    let changes: [(Change, &str); 7] = [
        (
            |it| it.tickets[0].tickets[8].order = it.tickets[0].tickets[7].order.clone(),
            "its large-objects is ordered more than once",
        ),
        (|it| order_more(it, Order::Schema { endpoint: 0 }), "its schema is ordered more than once"),
        (
            |it| order_more(it, Order::Catalog { endpoint: 0, what: CatalogKind::Database }),
            "its database is ordered more than once",
        ),
        (
            |it| {
                it.plan.destinations[0].default = false;
                it.plan.destinations[1].default = true;
            },
            "its schema is not ordered in the default destination",
        ),
        (
            |it| it.tickets[0].tickets[4].order = Order::LargeObjects { endpoint: 0, from: 1, to: 900 },
            "its large objects from 901 on are not ordered",
        ),
        (
            |it| it.tickets[0].tickets[4].order = Order::LargeObjects { endpoint: 0, from: 2, to: u32::MAX },
            "its large objects 2 to 4294967295 are ordered where 1 is next",
        ),
        (
            |it| order_more(it, Order::LargeObjects { endpoint: 0, from: 7, to: 9 }),
            "its large objects 7 to 9 are ordered where the end is next",
        ),
    ];
    for (change, why) in changes {
        let mut world = world();
        change(&mut world);
        let why = why.to_owned();
        assert_eq!(world.open().unwrap_err(), LedgerError::Uncovered { endpoint: "default".into(), why });
    }
}

#[test]
fn catalogs_must_be_as_long_as_the_database_counts() {
    let changes: [(Miscount, &str); 4] = [
        (|it| it.roles += 1, "roles"),
        (|it| it.sequences += 1, "sequences"),
        (|it| it.large_objects += 1, "large-objects"),
        (|it| it.database += 1, "database"),
    ];
    for (change, name) in changes {
        let mut world = world();
        change(&mut world.census.catalog_counts[0]);
        let found = world.balance().map(|_| ());
        let named = matches!(&found, Err(LedgerError::Entries { catalog, endpoint, listed, counted })
            if *catalog == name && endpoint == "default" && listed + 1 == *counted);
        assert!(named, "{name}: {found:?}");
    }
}
