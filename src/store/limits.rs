//! How long a request to a bucket is waited for.

use std::num::NonZeroU32;
use std::time::Duration;

/// How long one request is waited for. Retries come on top: each has these limits anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a connection. A lost SYN is sent again after 1, 3 and 7 s.
    pub connect: Duration,
    /// For an attempt that moves no body. Clouds answer in milliseconds; self-hosted stores take seconds under load.
    pub attempt: Duration,
    /// For completing an upload: the store assembles it first, "several minutes" for the largest by S3's own word.
    pub complete: Duration,
    /// For a body on which nothing moves.
    pub stall: Duration,
    /// Slowest transfer that is waited for, in bytes per second: what a part's own size adds to `attempt`.
    pub slowest: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(60),
            complete: Duration::from_secs(600),
            stall: Duration::from_secs(20),
            // 256 KiB/s: a part of 8 MiB in half a minute.
            slowest: NonZeroU32::MIN.saturating_add((256 << 10) - 1),
        }
    }
}

impl Limits {
    /// For an attempt that sends `body` bytes.
    pub(in crate::store) fn sending(&self, body: usize) -> Duration {
        let seconds = body as u64 / u64::from(self.slowest.get());
        self.attempt + Duration::from_secs(seconds)
    }
}
