//! Waits after errors: longer each time, for each object on its own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;

/// After the first error of an object.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: an object that fails for good costs one try in so long.
const LONGEST: Duration = Duration::from_secs(300);
/// Objects that are remembered at most; with more, all are forgotten, and begin with the first wait again.
const MOST: usize = 10_000;

/// How often each object has failed in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// One more failure of `key`: how long to wait.
    fn next(&self, key: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST {
            failures.clear();
        }
        let count = failures.entry(key.to_owned()).or_default();
        let wait = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count += 1;
        wait
    }

    /// What follows an error with `object`: the same again, later each time.
    pub(super) fn again(&self, object: &impl ResourceExt) -> Action {
        Action::requeue(self.next(&object.uid().unwrap_or_default()))
    }

    /// `object` went well.
    pub(super) fn went_well(&self, object: &impl ResourceExt) {
        self.forget(&object.uid().unwrap_or_default());
    }

    /// `key` went well.
    fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_for_each_object_up_to_a_limit_and_begin_anew() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..12).map(|_| backoff.next("a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.next("b"), FIRST);
        backoff.forget("a");
        assert_eq!(backoff.next("a"), FIRST);
    }
}
