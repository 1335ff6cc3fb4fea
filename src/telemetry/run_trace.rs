//! Which trace a run is told in. Pure: it follows from the UID of the resource, so that processes that never speak to
//! each other tell of one run in one trace, after a restart too.

use std::fmt;

use crate::format::Sha256Digest;

/// The trace of one run, and the span that all others of it are below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunTrace {
    /// Never 0, which means none.
    pub trace: u128,
    /// Never 0.
    pub root: u64,
}

impl RunTrace {
    /// That of the run of the resource with this UID.
    #[must_use]
    pub fn of(uid: &str) -> Self {
        let digest = Sha256Digest::of(format!("vouchsafe trace of {uid}").as_bytes());
        let number = |bytes: &[u8]| bytes.iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        let (trace, root) = digest.as_bytes().split_at(16);
        let root = root.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        Self { trace: number(trace).max(1), root: root.max(1) }
    }

    /// As W3C Trace Context writes it, in a header or in the variable `TRACEPARENT`.
    #[must_use]
    pub fn traceparent(self, sampled: bool) -> String {
        format!("{self}-{:02x}", u8::from(sampled))
    }
}

impl fmt::Display for RunTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}", self.trace, self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_trace_whoever_asks() {
        let one = RunTrace::of("5ac5a45c-1d1f-4b0e-9d38-0d8a4f2f8a10");
        assert_eq!(one, RunTrace::of("5ac5a45c-1d1f-4b0e-9d38-0d8a4f2f8a10"));
        assert_ne!(one.trace, RunTrace::of("5ac5a45c-1d1f-4b0e-9d38-0d8a4f2f8a11").trace);
        let text = one.traceparent(true);
        let parts: Vec<&str> = text.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        assert_eq!((parts[0], parts[3]), ("00", "01"));
        assert!(one.traceparent(false).ends_with("-00"));
    }
}
