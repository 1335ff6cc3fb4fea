//! Reads that bring just the bytes that were asked for, whatever protocol they come by.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::{ByteStream, StoreError, StoreErrorKind};

/// Why a body goes on no further.
pub(super) enum Broken {
    /// It was cut, with what the client says of it: the rest may be asked for again.
    Cut(String),
    /// What came is an error of its own.
    Failed(StoreError),
}

/// A body that ends cleanly after `expected` bytes and nowhere else. Nothing of it is waited for longer than `stall`, if
/// the client has no such limit of its own. `error` makes an error of the request.
pub(super) fn body(
    pieces: impl Stream<Item = Result<Bytes, Broken>> + Send + 'static,
    expected: u64,
    stall: Option<Duration>,
    error: impl Fn(StoreErrorKind, String) -> StoreError + Send + 'static,
) -> ByteStream {
    stream::try_unfold((pieces.boxed(), error, 0_u64), move |(mut pieces, error, before)| async move {
        let next = match stall {
            None => pieces.next().await,
            Some(stall) => match tokio::time::timeout(stall, pieces.next()).await {
                Ok(next) => next,
                Err(_) => Some(Err(Broken::Cut(format!("nothing came for {stall:?}")))),
            },
        };
        match next {
            Some(Ok(bytes)) => {
                let after = before + bytes.len() as u64;
                if after > expected {
                    let message = "more bytes came than were announced".to_owned();
                    return Err(error(StoreErrorKind::Protocol, message));
                }
                Ok(Some((bytes, (pieces, error, after))))
            }
            Some(Err(Broken::Failed(failed))) => Err(failed),
            Some(Err(Broken::Cut(why))) => {
                let message = format!("the body broke off at byte {before} of {expected}: {why}");
                Err(error(StoreErrorKind::Truncated, message))
            }
            None if before == expected => Ok(None),
            None => {
                let message = format!("the body ended at byte {before} of {expected}");
                Err(error(StoreErrorKind::Truncated, message))
            }
        }
    })
    .boxed()
}

/// What is said where `range` goes beyond an object of `length` bytes.
pub(super) fn out_of_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}..{} were asked for, it has {length}", range.start, range.end)
}

/// `bytes 0-9/100` as a range and the whole length (RFC 9110, section 14.4).
pub(super) fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    Some((first.parse().ok()?..last.checked_add(1)?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[test]
    fn content_ranges_are_read_exactly() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0..10, 100)));
        for text in
            ["", "bytes", "bytes */100", "bytes 1-/3", "items 0-9/100", "bytes 0-18446744073709551615/1"]
        {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    async fn read(pieces: Vec<Result<Bytes, Broken>>, ends: bool) -> Result<usize, (StoreErrorKind, String)> {
        let rest = stream::pending().take(usize::from(!ends));
        let error = |kind, message| StoreError::new(kind, "get", "s3://b/k", message);
        let body = body(stream::iter(pieces).chain(rest), 5, Some(Duration::from_millis(20)), error);
        let read = body.map_ok(|piece| piece.len()).try_collect::<Vec<_>>().await;
        read.map(|all| all.iter().sum()).map_err(|error| (error.kind(), error.to_string()))
    }

    #[tokio::test]
    async fn a_body_ends_after_what_was_announced_and_nowhere_else() {
        let piece = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        assert_eq!(read(vec![piece("ab"), piece("cde")], true).await, Ok(5));
        let failed = || StoreError::new(StoreErrorKind::ChecksumMismatch, "get", "s3://b/k", "wrong");
        for (pieces, ends, kind, said) in [
            (vec![piece("ab")], true, StoreErrorKind::Truncated, "ended at byte 2 of 5"),
            (vec![], true, StoreErrorKind::Truncated, "ended at byte 0 of 5"),
            (vec![piece("ab"), piece("cdef")], true, StoreErrorKind::Protocol, "more bytes"),
            (vec![piece("ab")], false, StoreErrorKind::Truncated, "byte 2 of 5: nothing came"),
            (
                vec![piece("ab"), Err(Broken::Cut("reset".into()))],
                true,
                StoreErrorKind::Truncated,
                "5: reset",
            ),
            (vec![Err(Broken::Failed(failed()))], true, StoreErrorKind::ChecksumMismatch, "wrong"),
        ] {
            let (found, text) = read(pieces, ends).await.unwrap_err();
            assert!(found == kind && text.contains(said), "{found:?}: {text}");
        }
    }
}
