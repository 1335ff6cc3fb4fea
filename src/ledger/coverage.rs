//! Whether the spans of a table tile it: no gap, no overlap.

use crate::format::SpanRange;

/// Spans that do not tile their table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CoverageError {
    /// No ticket at all.
    #[error("no ticket covers it")]
    None,
    /// A whole-table ticket beside another, or blocks beside keys.
    #[error("its tickets mix kinds of spans")]
    Mixed,
    /// The first span is not open at its start, or the last not at its end.
    #[error("its spans do not reach from the first row to the last")]
    Ends,
    /// Two neighbours leave a gap or overlap.
    #[error("its spans leave a gap or overlap at {0}")]
    Seam(String),
}

/// Checks that `spans`, in the order of their tickets, tile a table.
///
/// # Errors
/// The first [`CoverageError`].
pub fn check_coverage(spans: &[&SpanRange]) -> Result<(), CoverageError> {
    match spans {
        [] => Err(CoverageError::None),
        [SpanRange::Whole] => Ok(()),
        [SpanRange::Blocks { .. }, ..] => {
            let bounds = spans.iter().map(|span| match span {
                SpanRange::Blocks { from, to } => Ok((*from, *to)),
                SpanRange::Whole | SpanRange::Keys { .. } => Err(CoverageError::Mixed),
            });
            let mut bounds = bounds.collect::<Result<Vec<_>, _>>()?;
            // Tickets are handed out largest first, so their numbers need not follow the blocks.
            bounds.sort_by_key(|(from, _)| *from);
            if let Some((from, to)) =
                bounds.iter().find(|(from, to)| matches!((from, to), (Some(f), Some(t)) if f >= t))
            {
                return Err(CoverageError::Seam(format!("blocks {from:?}..{to:?}")));
            }
            tiles(&bounds)
        }
        [SpanRange::Keys { column, of_type, .. }, ..] => {
            let bounds = spans.iter().map(|span| match span {
                SpanRange::Keys { column: c, of_type: t, from, to } if c == column && t == of_type => {
                    Ok((from.clone(), to.clone()))
                }
                _ => Err(CoverageError::Mixed),
            });
            // Only the server can order keys, so these spans must come in order.
            tiles(&bounds.collect::<Result<Vec<_>, _>>()?)
        }
        [SpanRange::Whole, ..] => Err(CoverageError::Mixed),
    }
}

fn tiles<T: PartialEq + std::fmt::Debug>(bounds: &[(Option<T>, Option<T>)]) -> Result<(), CoverageError> {
    let (Some((None, _)), Some((_, None))) = (bounds.first(), bounds.last()) else {
        return Err(CoverageError::Ends);
    };
    for pair in bounds.windows(2) {
        match (&pair[0].1, &pair[1].0) {
            (Some(end), Some(start)) if end == start => {}
            (end, start) => return Err(CoverageError::Seam(format!("{end:?} and {start:?}"))),
        }
    }
    Ok(())
}
