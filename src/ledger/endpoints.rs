//! What every endpoint must have besides its tables: its schema, each catalog once and as long as the database counts,
//! and its large objects without a gap.

use crate::format::{CatalogCounts, CatalogKind, Census, Order, Settlement};

use super::books::Ledger;
use super::error::LedgerError;

/// The first object identifier that PostgreSQL gives: 0 is none.
const FIRST_OID: u32 = 1;

impl Ledger {
    /// Each endpoint needs the schema and all catalogs, in the default destination, whose tickets the coordinator
    /// settles: of what nobody ordered no receipt is missing.
    pub(super) fn check_endpoints(&self) -> Result<(), LedgerError> {
        for (position, endpoint) in self.plan.endpoints.iter().enumerate() {
            let refuse = |why| Err(LedgerError::Uncovered { endpoint: endpoint.name.clone(), why });
            let schemas = self.orders(position).filter(|(_, order)| matches!(order, Order::Schema { .. }));
            if let Some(why) = not_once("schema", schemas.map(|(default, _)| default)) {
                return refuse(why);
            }
            for kind in CatalogKind::ALL {
                let is_it = |order: &Order| matches!(order, Order::Catalog { what, .. } if *what == kind);
                let catalogs = self.orders(position).filter(|(_, order)| is_it(order));
                if let Some(why) = not_once(kind.word(), catalogs.map(|(default, _)| default)) {
                    return refuse(why);
                }
            }
            let ranges = self.orders(position).filter_map(|(_, order)| match order {
                Order::LargeObjects { from, to, .. } => Some((*from, *to)),
                Order::Rows { .. } | Order::Schema { .. } | Order::Catalog { .. } => None,
            });
            if let Some(why) = not_tiled(ranges.collect()) {
                return refuse(why);
            }
        }
        Ok(())
    }

    /// Orders for an endpoint itself, with whether each lies in the default destination.
    fn orders(&self, position: usize) -> impl Iterator<Item = (bool, &Order)> {
        self.plan.destinations.iter().flat_map(move |destination| {
            let side = self.sides.get(&destination.name);
            let tickets = side.into_iter().flat_map(|side| &side.tickets.tickets);
            tickets.filter_map(move |ticket| match &ticket.order {
                Order::Schema { endpoint }
                | Order::Catalog { endpoint, .. }
                | Order::LargeObjects { endpoint, .. } => {
                    (*endpoint as usize == position).then_some((destination.default, &ticket.order))
                }
                Order::Rows { .. } => None,
            })
        })
    }

    /// The length of a catalog is its writer's word, and reading it back only shows that it was stored.
    pub(super) fn compare_catalogs(&self, census: &Census) -> Result<(), LedgerError> {
        for (order, entry) in self.entries() {
            let (Order::Catalog { endpoint, what }, Settlement::Catalog { entries, .. }) =
                (order, &entry.settlement)
            else {
                continue;
            };
            let position = *endpoint as usize;
            let (Some(counts), Some(endpoint)) =
                (census.catalog_counts.get(position), self.plan.endpoints.get(position))
            else {
                return Err(LedgerError::Census("it has no counts for the catalogs of an endpoint".into()));
            };
            let (listed, counted) = (*entries, counts.of(*what));
            if listed != counted {
                let (catalog, endpoint) = (what.word(), endpoint.name.clone());
                return Err(LedgerError::Entries { catalog, endpoint, listed, counted });
            }
        }
        Ok(())
    }

    /// Entries in the receipts of catalogs, by endpoint: like [`Ledger::rows_read`], for the mutant alone.
    #[must_use]
    pub fn entries_read(&self) -> Vec<CatalogCounts> {
        let of = |position: usize, wanted: CatalogKind| {
            let of_catalog = self.entries().filter_map(|(order, entry)| match (order, &entry.settlement) {
                (Order::Catalog { endpoint, what }, Settlement::Catalog { entries, .. }) => {
                    (*endpoint as usize == position && *what == wanted).then_some(*entries)
                }
                _ => None,
            });
            of_catalog.sum()
        };
        let counts = |position| CatalogCounts {
            roles: of(position, CatalogKind::Roles),
            sequences: of(position, CatalogKind::Sequences),
            large_objects: of(position, CatalogKind::LargeObjects),
            database: of(position, CatalogKind::Database),
        };
        (0..self.plan.endpoints.len()).map(counts).collect()
    }
}

/// What is wrong if something that lies `in_default`, or not, isn't ordered once and there.
fn not_once(what: &str, in_default: impl Iterator<Item = bool>) -> Option<String> {
    match in_default.collect::<Vec<_>>()[..] {
        [true] => None,
        [false] => Some(format!("its {what} is not ordered in the default destination")),
        [] => Some(format!("its {what} is not ordered")),
        [_, _, ..] => Some(format!("its {what} is ordered more than once")),
    }
}

/// What is wrong if ranges, ends included, leave an identifier out or name one twice. Without a range there is no
/// page, which the census must bear out.
fn not_tiled(mut ranges: Vec<(u32, u32)>) -> Option<String> {
    ranges.sort_unstable();
    let mut next = Some(FIRST_OID);
    for (from, to) in &ranges {
        if next != Some(*from) || to < from {
            let after = next.map_or_else(|| "the end".to_owned(), |oid| oid.to_string());
            return Some(format!("its large objects {from} to {to} are ordered where {after} is next"));
        }
        next = to.checked_add(1);
    }
    let ends = ranges.is_empty() || next.is_none();
    (!ends).then(|| format!("its large objects from {} on are not ordered", next.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_ordered_once_and_in_its_place_is_right() {
        assert_eq!(not_once("schema", [true].into_iter()), None);
        for wrong in [&[] as &[bool], &[false], &[true, true], &[true, false]] {
            assert!(not_once("schema", wrong.iter().copied()).is_some(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cuts_cover_in_any_order_and_any_moved_end_is_found(
            cuts in prop::collection::btree_set(2..u32::MAX - 1, 0..20),
            turn in any::<prop::sample::Index>(),
            spoilt in any::<prop::sample::Index>(),
            by in prop_oneof![-3_i64..0, 1_i64..3],
            at_start: bool,
        ) {
            let starts = std::iter::once(FIRST_OID).chain(cuts.iter().map(|cut| cut + 1));
            let ends = cuts.iter().copied().chain([u32::MAX]);
            let mut ranges: Vec<(u32, u32)> = starts.zip(ends).collect();
            let turn = turn.index(ranges.len());
            ranges.rotate_left(turn);
            prop_assert_eq!(not_tiled(ranges.clone()), None);
            let spoilt = spoilt.index(ranges.len());
            let mut moved = ranges.clone();
            let end = if at_start { &mut moved[spoilt].0 } else { &mut moved[spoilt].1 };
            let to = u32::try_from((i64::from(*end) + by).clamp(0, i64::from(u32::MAX))).unwrap();
            prop_assume!(to != *end);
            *end = to;
            prop_assert!(not_tiled(moved.clone()).is_some(), "{:?}", moved);
            let one = ranges[spoilt];
            ranges.push(one);
            prop_assert!(not_tiled(ranges.clone()).is_some(), "twice: {:?}", ranges);
            ranges.retain(|range| *range != one);
            prop_assert!(ranges.is_empty() || not_tiled(ranges.clone()).is_some(), "{:?}", ranges);
        }
    }
}
