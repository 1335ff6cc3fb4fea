//! How a table is cut into the pieces that tickets export.
//!
//! Pure: callers bring what they learned from the server, and get ranges that cover every row exactly once.

use crate::format::relation::{SpanRange, TableFacts};

/// Raw bytes (heap and TOAST) that a span should hold. Measured best between 128 and 256 MB: smaller ones cost
/// a statement, an object and a receipt each without reading any faster; larger ones leave a connection idle at
/// the end, and take longer to repeat after a failure.
pub const DEFAULT_TARGET_BYTES: u64 = 192 << 20;

/// Spans of one table at the most. The largest possible table (2^32 blocks of 8 KiB: 32 TiB) needs 174,763 of the
/// default size; the limit is there so that a tiny target can't make a plan of billions of tickets.
pub const MAX_SPANS_PER_TABLE: u64 = 262_144;

/// Key ranges of one table at the most: each of them reads all over the heap if the key is random (64 ranges
/// of a random uuid took twice the time of 8).
pub const MAX_KEY_RANGES: u64 = 16;

/// A key range should hold this many times what a span of blocks does: see [`MAX_KEY_RANGES`].
const KEY_RANGE_FACTOR: u64 = 4;

/// The first major version that scans a range of blocks without reading the rest (TID range scans).
const FIRST_MAJOR_WITH_TID_RANGES: u32 = 14;

/// What a table can be cut by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Blocks: a heap, on a server that scans ranges of them.
    Blocks,
    /// This many ranges of a key, at the most.
    Keys {
        /// Ranges to ask bounds for; at least 2.
        ranges: u32,
    },
    /// Nothing: it is exported whole.
    Nothing,
}

/// What a table is to be cut by. `access_method` is `pg_am.amname`: other storage than `heap` may give ctids a
/// meaning of its own. Compressed or columnar tables can't be scanned by them.
#[must_use]
pub fn cut(
    table: &TableFacts,
    server_major: u32,
    access_method: &str,
    has_key: bool,
    target_bytes: u64,
) -> Cut {
    let target = target_bytes.max(1);
    if table.bytes <= target {
        return Cut::Nothing;
    }
    if server_major >= FIRST_MAJOR_WITH_TID_RANGES && access_method == "heap" {
        return if table.blocks > 1 { Cut::Blocks } else { Cut::Nothing };
    }
    let ranges = table.bytes.div_ceil(target.saturating_mul(KEY_RANGE_FACTOR)).clamp(2, MAX_KEY_RANGES);
    match u32::try_from(ranges) {
        Ok(ranges) if has_key => Cut::Keys { ranges },
        _ => Cut::Nothing,
    }
}

/// Cuts a table into ranges of blocks of equal size. The first and the last one are open-ended: blocks that were
/// added after the size was read are nobody's otherwise.
#[must_use]
pub fn block_spans(table: &TableFacts, target_bytes: u64) -> Vec<SpanRange> {
    let blocks = u64::from(table.blocks);
    let wanted = table.bytes.div_ceil(target_bytes.max(1));
    let count = wanted.min(blocks).clamp(1, MAX_SPANS_PER_TABLE);
    if count == 1 {
        return vec![SpanRange::Whole];
    }
    // Below 2^32 × 2^18: no overflow; and below `blocks`, so that it fits.
    let boundary = |at: u64| u32::try_from(blocks * at / count).unwrap_or(u32::MAX);
    (0..count)
        .map(|at| SpanRange::Blocks {
            from: (at > 0).then(|| boundary(at)),
            to: (at + 1 < count).then(|| boundary(at + 1)),
        })
        .collect()
}

/// Cuts a table at `bounds`: ascending and distinct in the key's own order, which only the server knows.
#[must_use]
pub fn key_spans(column: &str, of_type: &str, bounds: &[String]) -> Vec<SpanRange> {
    if bounds.is_empty() {
        return vec![SpanRange::Whole];
    }
    (0..=bounds.len())
        .map(|at| SpanRange::Keys {
            column: column.to_owned(),
            of_type: of_type.to_owned(),
            from: at.checked_sub(1).map(|before| bounds[before].clone()),
            to: bounds.get(at).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::relation::{CopyFormat, QualifiedName};
    use proptest::prelude::*;

    fn table(bytes: u64, blocks: u32) -> TableFacts {
        TableFacts {
            name: QualifiedName::new("public", "t"),
            oid: 1,
            relfilenode: 1,
            columns: vec!["a".into()],
            format: CopyFormat::Binary,
            bytes,
            blocks,
            extension_condition: None,
            partition_root: None,
            load_through_root: false,
            load_after_indexes: false,
            unlogged: false,
        }
    }

    #[test]
    fn toast_counts() {
        // 10 blocks of heap with 100 MB of TOAST behind them.
        assert_eq!(block_spans(&table(100 << 20, 10), 10 << 20).len(), 10);
        assert_eq!(cut(&table(100 << 20, 10), 15, "heap", false, 10 << 20), Cut::Blocks);
    }

    #[test]
    fn what_cannot_be_cut_by_blocks_is_cut_by_few_keys_or_not_at_all() {
        let large = table(1 << 40, 1 << 27);
        assert_eq!(cut(&large, 13, "heap", true, DEFAULT_TARGET_BYTES), Cut::Keys { ranges: 16 });
        assert_eq!(cut(&large, 13, "heap", false, DEFAULT_TARGET_BYTES), Cut::Nothing);
        assert_eq!(cut(&large, 18, "columnar", true, DEFAULT_TARGET_BYTES), Cut::Keys { ranges: 16 });
        assert_eq!(cut(&large, 14, "heap", true, DEFAULT_TARGET_BYTES), Cut::Blocks);
        let small = table(DEFAULT_TARGET_BYTES, 1000);
        assert_eq!(cut(&small, 14, "heap", true, DEFAULT_TARGET_BYTES), Cut::Nothing);
        assert_eq!(cut(&table(300 << 20, 1000), 13, "heap", true, 192 << 20), Cut::Keys { ranges: 2 });
    }

    #[test]
    fn keys_have_open_ends_and_touch() {
        let bounds = ["5".to_owned(), "9".to_owned()];
        let spans = key_spans("k", "integer", &bounds);
        let ends: Vec<_> = spans
            .iter()
            .map(|span| match span {
                SpanRange::Keys { from, to, .. } => (from.as_deref(), to.as_deref()),
                _ => panic!("{span:?}"),
            })
            .collect();
        assert_eq!(ends, [(None, Some("5")), (Some("5"), Some("9")), (Some("9"), None)]);
        assert_eq!(key_spans("k", "integer", &[]), [SpanRange::Whole]);
    }

    proptest! {
        #[test]
        fn every_block_is_in_exactly_one_span(bytes in 0_u64..1 << 45, blocks: u32, target in 1_u64..1 << 40) {
            let spans = block_spans(&table(bytes, blocks), target);
            prop_assert!(!spans.is_empty());
            prop_assert!(spans.len() as u64 <= MAX_SPANS_PER_TABLE);
            if spans == [SpanRange::Whole] {
                return Ok(());
            }
            let mut next = None;
            for (at, span) in spans.iter().enumerate() {
                let SpanRange::Blocks { from, to } = span else { panic!("{span:?}") };
                prop_assert_eq!(*from, next, "span {} begins where the one before ends", at);
                prop_assert_eq!(to.is_none(), at + 1 == spans.len(), "only the last one is open at its end");
                if let Some(to) = to {
                    prop_assert!(*to > from.unwrap_or(0), "span {} is not empty", at);
                    prop_assert!(*to < blocks);
                }
                next = *to;
            }
        }

        #[test]
        fn spans_are_not_much_larger_than_asked_for(blocks in 1_u32..1 << 24, target in 1_u64 << 20..1 << 34) {
            let bytes = u64::from(blocks) * 8192;
            let spans = block_spans(&table(bytes, blocks), target);
            let largest = u64::from(blocks).div_ceil(spans.len() as u64) * 8192;
            prop_assert!(largest <= target.max(8192) + 8192);
        }
    }
}
