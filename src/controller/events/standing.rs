//! Events on what stands for long, a BackupStore and a BackupSchedule: of what its conditions say anew. The choice is
//! pure.

use super::{MOST, Told, normal, warning, words};
use crate::api::{BackupScheduleStatus, BackupStoreStatus, Condition, ConditionStatus};
use crate::controller::schedule::ScheduleReason;

/// What is to be told of a BackupStore whose status was `old` and is `new`.
#[must_use]
pub fn of_store(old: &BackupStoreStatus, new: &BackupStoreStatus) -> Option<Told> {
    let ready = Change::of("Ready", &old.conditions, &new.conditions)?;
    match ready.now.status {
        ConditionStatus::True => ready.turned().then(|| {
            let note = format!("{} destinations can be written to and read", new.destinations.len());
            normal("Ready", "Probing", note, None)
        }),
        ConditionStatus::False => Some(warning("NotReady", "Probing", ready.words())),
        // Its first probe has not ended.
        ConditionStatus::Unknown => None,
    }
}

/// What is to be told of a BackupSchedule whose status was `old` and is `new`; at most four events. Prunes are told by
/// [`super::of_prune`].
#[must_use]
pub fn of_schedule(old: &BackupScheduleStatus, new: &BackupScheduleStatus) -> Vec<Told> {
    let mut told = Vec::new();
    let missed = new.missed.unwrap_or(0) - old.missed.unwrap_or(0);
    if missed > 0 {
        let note = match new.last_run.as_ref().and_then(|run| run.failure.as_ref()) {
            Some(failure) if failure.reason == ScheduleReason::RunMissed.reason() => words(failure),
            _ => format!("{missed} runs were due and were not started"),
        };
        told.push(warning("RunMissed", "Scheduling", note));
    }
    if let Some(failure) = new.suspended_because.as_ref().filter(|_| old.suspended_because.is_none()) {
        told.push(warning("Stopped", "Scheduling", words(failure)));
    }
    if let Some(stalled) = Change::of("Stalled", &old.conditions, &new.conditions)
        && stalled.now.status == ConditionStatus::True
        && new.suspended_because.is_none()
    {
        told.push(warning("Stalled", "Scheduling", stalled.words()));
    }
    if let Some(point) = Change::of("RecoveryPointMet", &old.conditions, &new.conditions) {
        match point.now.status {
            ConditionStatus::False => told.push(warning("RecoveryPointMissed", "Watching", point.words())),
            ConditionStatus::True if point.was(ConditionStatus::False) => {
                let note = "the newest proven backup is young enough again".to_owned();
                told.push(normal("RecoveryPointMet", "Watching", note, None));
            }
            _ => {}
        }
    }
    told.truncate(MOST);
    told
}

/// A condition that says something else than it did.
struct Change<'a> {
    before: Option<&'a Condition>,
    now: &'a Condition,
}

impl<'a> Change<'a> {
    fn of(type_: &str, old: &'a [Condition], new: &'a [Condition]) -> Option<Self> {
        let named = |all: &'a [Condition]| all.iter().find(|condition| condition.type_ == type_);
        let (before, now) = (named(old), named(new)?);
        let same = before.is_some_and(|it| it.status == now.status && it.reason == now.reason);
        (!same).then_some(Self { before, now })
    }

    fn was(&self, status: ConditionStatus) -> bool {
        self.before.is_some_and(|it| it.status == status)
    }

    fn turned(&self) -> bool {
        !self.was(self.now.status)
    }

    fn words(&self) -> String {
        format!("{}: {}", self.now.reason, self.now.message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "why",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn store(status: &str, reason: &str) -> BackupStoreStatus {
        serde_json::from_value(json!({"conditions": [condition("Ready", status, reason)]})).unwrap()
    }

    #[test]
    fn a_store_tells_when_it_stops_being_ready_why_and_when_it_is_again() {
        let steps = [
            BackupStoreStatus::default(),
            store("Unknown", "Probing"),
            store("True", "Ready"),
            store("Unknown", "Probing"),
            store("False", "CredentialsRefused"),
            store("False", "BucketNotFound"),
            store("True", "Ready"),
        ];
        let mut all = Vec::new();
        for pair in steps.windows(2) {
            all.extend(of_store(&pair[0], &pair[1]).map(|told| (told.reason, told.note)));
            assert_eq!(of_store(&pair[1], &pair[1]), None, "a status that says the same tells nothing");
        }
        let told: Vec<(&str, &str)> = all.iter().map(|(reason, note)| (*reason, note.as_str())).collect();
        let ready = "0 destinations can be written to and read";
        assert_eq!(
            told,
            [
                ("Ready", ready),
                ("NotReady", "CredentialsRefused: why"),
                ("NotReady", "BucketNotFound: why"),
                ("Ready", ready),
            ]
        );
    }

    fn reasons(old: &Value, new: &Value) -> Vec<&'static str> {
        let status = |value: &Value| serde_json::from_value::<BackupScheduleStatus>(value.clone()).unwrap();
        let (old, new) = (status(old), status(new));
        assert_eq!(of_schedule(&new, &new), [], "a status that says the same tells nothing");
        of_schedule(&old, &new).into_iter().map(|told| told.reason).collect()
    }

    #[test]
    fn a_schedule_tells_what_it_missed_and_why_it_stopped() {
        let calm = json!({"missed": 2});
        assert_eq!(reasons(&json!({}), &json!({})), [""; 0]);
        assert_eq!(reasons(&calm, &json!({"missed": 5})), ["RunMissed"]);
        assert_eq!(
            reasons(&json!({"missed": 5}), &calm),
            [""; 0],
            "a count that was edited away is no event"
        );
        let failure = json!({"reason": "RunFailed", "message": "shop-1", "hint": "resume it"});
        let stalled = condition("Stalled", "True", "RunFailed");
        let stopped = json!({"missed": 2, "suspendedBecause": failure, "conditions": [stalled]});
        assert_eq!(reasons(&calm, &stopped), ["Stopped"], "said once, not by its condition too");
        let refused = json!({"conditions": [condition("Stalled", "True", "NeverDue")]});
        assert_eq!(reasons(&json!({}), &refused), ["Stalled"]);
    }

    #[test]
    fn an_objective_is_told_when_it_is_missed_and_when_it_is_met_again() {
        let point = |status: &str| {
            let reason = if status == "False" { "RecoveryPointMissed" } else { "Proven" };
            json!({"conditions": [condition("RecoveryPointMet", status, reason)]})
        };
        assert_eq!(reasons(&json!({}), &point("True")), [""; 0], "nothing was missed");
        assert_eq!(reasons(&point("True"), &point("False")), ["RecoveryPointMissed"]);
        assert_eq!(reasons(&point("False"), &point("True")), ["RecoveryPointMet"]);
    }
}
