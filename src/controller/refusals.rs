//! What the API server refused to make of a resource, so that the next status says it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::make::MakeError;
use crate::api::Failure;

/// When a refusal is looked at again that the status does not say yet.
const TO_SAY_IT: Duration = Duration::from_secs(1);

/// When what was refused is tried again. A quota or a policy is changed by a person.
const TO_TRY_AGAIN: Duration = Duration::from_secs(30);

/// The last refusal of each resource, by UID. Only of those that wait for it: what is made, over or gone is
/// forgotten.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Failure>>);

impl Refusals {
    /// What was refused of this resource the last time.
    pub(super) fn of(&self, uid: &str) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Nothing is waited for any more.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Remembers how making went. With a refusal, when to look again.
    ///
    /// # Errors
    /// What passes by itself.
    pub(super) fn remember(
        &self,
        uid: &str,
        made: Result<(), MakeError>,
    ) -> Result<Option<Duration>, MakeError> {
        let error = match made {
            Ok(()) => {
                self.forget(uid);
                return Ok(None);
            }
            Err(error) => error,
        };
        let Some(failure) = error.failure() else { return Err(error) };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A webhook's text may have a number or a time that is another one each time: the first is as good.
        if known.get(uid).is_some_and(|before| before.reason == failure.reason) {
            return Ok(Some(TO_TRY_AGAIN));
        }
        known.insert(uid.to_owned(), failure);
        Ok(Some(TO_SAY_IT))
    }
}
