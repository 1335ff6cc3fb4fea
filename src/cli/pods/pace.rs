//! How fast a stage goes, and when it ends if it goes on like this. For people only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is "lately".
const WINDOW: Duration = Duration::from_secs(120);

/// Before this, a guess of the end would be one of the start.
const SETTLED_IN: Duration = Duration::from_secs(10);

/// The pace of one stage.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// Bytes done, and when that was seen; the oldest first.
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    pub(super) fn begin(now: Instant) -> Self {
        Self { began: now, seen: VecDeque::from([(now, 0)]) }
    }

    /// So many bytes are done at `now`. Fewer than before are a stage that began anew.
    pub(super) fn reached(&mut self, now: Instant, bytes: u64) {
        match self.seen.back() {
            Some((_, known)) if *known == bytes => return,
            Some((_, known)) if *known > bytes => self.seen.clear(),
            _ => {}
        }
        self.seen.push_back((now, bytes));
        // One that is older than the window stays, so that a stage that is told of rarely has a pace too.
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.seen.pop_front();
        }
    }

    /// Bytes a second, lately; `None` before there are two looks.
    pub(super) fn bytes_per_second(&self) -> Option<u64> {
        let (&(from, before), &(to, now)) = (self.seen.front()?, self.seen.back()?);
        let millis =
            u64::try_from(to.saturating_duration_since(from).as_millis()).ok().filter(|it| *it > 0)?;
        Some(now.saturating_sub(before).saturating_mul(1000) / millis)
    }

    /// What is left, after `percent` are done; `None` where that can't be guessed.
    pub(super) fn left(&self, now: Instant, percent: i32) -> Option<Duration> {
        let percent = u32::try_from(percent).ok().filter(|it| (1..100).contains(it))?;
        let passed = now.saturating_duration_since(self.began);
        (passed >= SETTLED_IN).then(|| passed * (100 - percent) / percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_two_minutes() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut pace = Pace::begin(start);
        assert_eq!(pace.bytes_per_second(), None);
        pace.reached(at(10), 1_000);
        assert_eq!(pace.bytes_per_second(), Some(100));
        pace.reached(at(20), 1_000);
        assert_eq!(pace.bytes_per_second(), Some(100), "nothing new was seen");
        for second in 11..400 {
            pace.reached(at(second), 1_000 + (second - 10) * 7);
        }
        assert_eq!(pace.bytes_per_second(), Some(7));
        pace.reached(at(500), 10);
        assert_eq!(pace.bytes_per_second(), None, "it began anew");
    }

    #[test]
    fn the_end_is_guessed_from_the_share_that_is_done() {
        let start = Instant::now();
        let pace = Pace::begin(start);
        let after = |seconds: u64, percent| pace.left(start + Duration::from_secs(seconds), percent);
        assert_eq!(after(60, 25), Some(Duration::from_secs(180)));
        assert_eq!(after(60, 0), None, "nothing is done");
        assert_eq!(after(60, 100), None, "all is done");
        assert_eq!(after(60, -3), None);
        assert_eq!(after(3, 50), None, "too early");
    }
}
