//! What of an upload lies here still.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// The bytes of an upload that are not known to be kept, in order, and those that came too early.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Bytes that the service is known to have.
    pub(super) kept: u64,
    /// What follows them.
    pending: VecDeque<Bytes>,
    /// Where what follows ends.
    pub(super) end: u64,
    /// Parts by their offset, behind `end` by a gap.
    early: BTreeMap<u64, Bytes>,
}

impl Backlog {
    /// Whether a part can be taken: bytes before `end` are there already, and the early ones are bounded by `limit`.
    pub(super) fn has_room_for(&self, offset: u64, length: usize, limit: usize) -> bool {
        let held: usize = self.early.values().map(Bytes::len).sum();
        offset <= self.end || held == 0 || held + length <= limit
    }

    /// Takes a part; gives back, in order, what stands without a gap now.
    pub(super) fn take(&mut self, offset: u64, body: Bytes) -> Vec<Bytes> {
        if offset >= self.end && !body.is_empty() {
            self.early.insert(offset, body);
        }
        let mut joined = Vec::new();
        while let Some(next) = self.early.remove(&self.end) {
            self.end += next.len() as u64;
            self.pending.push_back(next.clone());
            joined.push(next);
        }
        joined
    }

    /// Whether a part waits behind a gap.
    pub(super) fn has_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// At most `most` bytes from the front, without taking them away: they may have to be sent again.
    pub(super) fn front(&self, most: usize) -> (Vec<Bytes>, usize) {
        let (mut bytes, mut left) = (Vec::new(), most);
        for next in &self.pending {
            if left == 0 {
                break;
            }
            let length = next.len().min(left);
            bytes.push(next.slice(..length));
            left -= length;
        }
        (bytes, most - left)
    }

    /// Lets go of what the service says it has.
    ///
    /// # Errors
    /// What is wrong with that number.
    pub(super) fn keep(&mut self, kept: u64) -> Result<(), String> {
        if kept < self.kept || kept > self.end {
            return Err(format!(
                "{kept} bytes are kept, it says, of {} to {} that were sent",
                self.kept, self.end
            ));
        }
        let mut gone = kept - self.kept;
        while let Some(front) = self.pending.front_mut().filter(|_| gone > 0) {
            let length = gone.min(front.len() as u64);
            gone -= length;
            // No longer than the part, which lies in memory.
            let _ = front.split_to(usize::try_from(length).unwrap_or(usize::MAX));
            if front.is_empty() {
                self.pending.pop_front();
            }
        }
        self.kept = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_put_in_order_and_kept_bytes_are_let_go() {
        let mut backlog = Backlog::default();
        assert!(backlog.take(5, "67".into()).is_empty());
        assert!(backlog.has_gap());
        assert!(backlog.has_room_for(0, 100, 1), "what fills the gap has room always");
        assert!(!backlog.has_room_for(7, 2, 3));
        assert_eq!(backlog.take(0, "12345".into()), ["12345", "67"]);
        assert!(backlog.take(0, "12345".into()).is_empty(), "once is enough");
        assert_eq!((backlog.end, backlog.has_gap()), (7, false));
        assert_eq!(backlog.front(6), (vec!["12345".into(), "6".into()], 6));
        // In the midst of a part.
        backlog.keep(3).unwrap();
        assert_eq!(backlog.front(99), (vec!["45".into(), "67".into()], 4));
        backlog.keep(5).unwrap();
        assert_eq!(backlog.front(1), (vec!["6".into()], 1));
        assert!(backlog.keep(4).is_err(), "what was kept is gone");
        assert!(backlog.keep(8).is_err(), "what was never sent is there");
        backlog.keep(7).unwrap();
        assert_eq!(backlog.front(1), (vec![], 0));
    }
}
