//! Bodies that break off, end early, or hold another bit.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};

use super::{Fault, Trap};
use crate::store::{ByteStream, Download, StoreError, StoreErrorKind};

/// Puts the trap into the body; it fires where the body is read that far.
pub(super) fn damaged(download: Download, trap: Option<Trap>) -> Download {
    let Download { head, body } = download;
    let Some(trap) = trap else { return Download { head, body } };
    let body = match trap.fault() {
        Fault::CutBody(keep) => ending(body, keep, trap, |trap| {
            let object = trap.fired.object.clone();
            Err(StoreError::new(StoreErrorKind::Truncated, "get", object, "injected into the body"))
        })
        .boxed(),
        Fault::EndBody(keep) => ending(body, keep, trap, |_| Ok(None)).boxed(),
        Fault::FlipBit(bit) => flipped(body, bit, trap).boxed(),
        Fault::Before(_) | Fault::After(_) | Fault::Pretend | Fault::StaleList | Fault::GhostList => body,
    };
    Download { head, body }
}

/// The first `keep` bytes, and then what `end` says.
fn ending(
    body: ByteStream,
    keep: u64,
    trap: Trap,
    end: fn(&Trap) -> Result<Option<Bytes>, StoreError>,
) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    stream::try_unfold((body, keep, Some(trap)), move |(mut body, left, mut trap)| async move {
        if left == 0 {
            let Some(trap) = trap.take() else { return Ok(None) };
            let ended = end(&trap);
            trap.fire();
            return ended.map(|_| None);
        }
        let Some(mut bytes) = body.try_next().await? else { return Ok(None) };
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - bytes.len() as u64;
        Ok(Some((bytes, (body, left, trap))))
    })
}

fn flipped(
    body: ByteStream,
    bit: u64,
    trap: Trap,
) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    let (byte, mask) = (bit / 8, 1_u8 << (bit % 8));
    stream::try_unfold((body, 0_u64, Some(trap)), move |(mut body, before, mut trap)| async move {
        let Some(bytes) = body.try_next().await? else { return Ok(None) };
        let after = before + bytes.len() as u64;
        let hit =
            byte.checked_sub(before).and_then(|at| usize::try_from(at).ok()).filter(|at| *at < bytes.len());
        let bytes = match hit {
            Some(at) => {
                let mut changed = BytesMut::from(&bytes[..]);
                changed[at] ^= mask;
                if let Some(trap) = trap.take() {
                    trap.fire();
                }
                changed.freeze()
            }
            None => bytes,
        };
        Ok(Some((bytes, (body, after, trap))))
    })
}
