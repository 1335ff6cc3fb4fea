//! What is not well with an object, of all that its status says, and what to do about it. Pure.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::ClusterReason;
use super::object::{Object, Run};
use crate::api::{BackupSchedule, BackupStore, Condition, ConditionStatus, Failure};
use crate::controller::ControllerReason;
use crate::controller::schedule::ScheduleReason;

/// How long a controller may take to look at a new object: "within seconds", and some for a busy one.
const SEEN_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// One thing that is not well.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub(super) struct Problem {
    /// `backup/orders-1`
    pub(super) object: String,
    pub(super) namespace: String,
    /// Whether it is what the object came to, and not only what holds it up.
    pub(super) failed: bool,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn text(&self) -> String {
        let Self { object, namespace: _, failed, reason, message, hint } = self;
        let how = if *failed { "failed" } else { "waits" };
        let mut text = format!("{object} {how}: {reason}: {}\n", message.trim());
        if let Some(hint) = hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        text
    }
}

/// Everything that is not well with `object`, the gravest first; empty: all is well.
pub(super) fn problems(object: &Object, now: Timestamp) -> Vec<Problem> {
    let mut found = Findings { object, all: Vec::new() };
    match object {
        _ if !object.observed() => found.not_observed(now),
        Object::Store(store) => found.of_store(store),
        Object::Schedule(schedule) => found.of_schedule(schedule),
        Object::Backup(run) => found.of_run(&**run),
        Object::Restore(run) => found.of_run(&**run),
    }
    found.all
}

struct Findings<'a> {
    object: &'a Object,
    all: Vec<Problem>,
}

impl Findings<'_> {
    fn add(&mut self, failed: bool, reason: &str, message: &str, hint: Option<String>) {
        self.all.push(Problem {
            object: self.object.to_string(),
            namespace: self.object.namespace().to_owned(),
            failed,
            reason: reason.to_owned(),
            message: message.to_owned(),
            hint,
        });
    }

    fn failure(&mut self, failed: bool, failure: &Failure) {
        let Failure { reason, message, hint } = failure;
        self.add(failed, reason, message, Some(hint.clone()));
    }

    /// The condition of this type, if it has this status.
    fn condition(&self, type_: &str, status: ConditionStatus) -> Option<Condition> {
        let mut all = self.object.conditions().iter();
        all.find(|it| it.type_ == type_ && it.status == status).cloned()
    }

    fn not_observed(&mut self, now: Timestamp) {
        let created = self.object.metadata().creation_timestamp.as_ref().map(|time| time.0);
        if created.is_some_and(|created| now.duration_since(created) < SEEN_WITHIN) {
            return;
        }
        let message = "no controller has looked at it";
        let hint = "is the controller running, and for this namespace? kubectl get pods -A \
                    -l app.kubernetes.io/name=vouchsafe";
        self.add(false, ClusterReason::NotObserved.reason(), message, Some(hint.to_owned()));
    }

    fn of_store(&mut self, store: &BackupStore) {
        if let Some(Condition { reason, message, .. }) = self.condition("Ready", ConditionStatus::False) {
            self.add(true, &reason, &message, None);
        }
        for destination in store.status.iter().flat_map(|status| &status.destinations) {
            let unready = destination
                .conditions
                .iter()
                .find(|it| it.type_ == "Ready" && it.status == ConditionStatus::False);
            if let Some(condition) = unready {
                let said = destination.message.as_deref().unwrap_or(&condition.message);
                self.add(true, &condition.reason, &format!("destination {}: {said}", destination.name), None);
            }
        }
    }

    fn of_schedule(&mut self, schedule: &BackupSchedule) {
        if let Some(Condition { reason, message, .. }) = self.condition("Ready", ConditionStatus::False) {
            self.add(true, &reason, &message, None);
        }
        if let Some(Condition { reason, message, .. }) =
            self.condition("RecoveryPointMet", ConditionStatus::False)
        {
            let hint = format!("see its Backups: kubectl vouchsafe list --schedule {}", self.object.name());
            self.add(true, &reason, &message, Some(hint));
        }
        if let Some(Condition { reason, message, .. }) =
            self.condition("RetentionApplied", ConditionStatus::False)
        {
            // Held is what somebody wanted: the schedule rests.
            self.add(reason != ScheduleReason::PruneHeld.reason(), &reason, &message, None);
        }
        let Some(status) = &schedule.status else { return };
        if let Some(failure) = &status.suspended_because {
            self.failure(true, failure);
        }
        if let Some(failure) = status.restore_test.as_ref().and_then(|test| test.failure.as_ref()) {
            self.failure(true, failure);
        }
    }

    fn of_run(&mut self, run: &dyn Run) {
        if self.object.metadata().deletion_timestamp.is_some() {
            // Whatever became of it, what counts now is why it is still there.
            let waits = self.condition("Deleting", ConditionStatus::True);
            let going = ControllerReason::DeletingData.reason();
            if let Some(Condition { reason, message, .. }) = waits.filter(|it| it.reason != going) {
                self.add(false, &reason, &message, None);
            }
            return;
        }
        if let Some(failure) = run.ended_badly() {
            return self.failure(true, &failure);
        }
        if run.is_over() {
            return;
        }
        if let Some(failure) = run.failure() {
            self.failure(false, failure);
        }
        for process in run.processes() {
            if let Some(Failure { reason, message, hint }) = &process.failure {
                let (name, attempt) = (&process.name, process.attempt);
                self.add(false, reason, &format!("{name}, attempt {attempt}: {message}"), Some(hint.clone()));
            }
        }
        for type_ in ["Stalled", "Queued"] {
            if let Some(Condition { reason, message, .. }) = self.condition(type_, ConditionStatus::True) {
                self.add(type_ == "Stalled", &reason, &message, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Backup;

    fn backup(status: &Value) -> Object {
        let spec =
            json!({"storeRef": {"name": "s"}, "source": {"postgres": {"database": "d", "endpoints": []}}});
        let metadata = json!({"name": "b", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"});
        let value = json!({
            "apiVersion": crate::api::API_VERSION, "kind": "Backup", "metadata": metadata, "spec": spec,
            "status": status,
        });
        Object::Backup(Box::new(serde_json::from_value::<Backup>(value).unwrap()))
    }

    fn reasons(object: &Object, now: &str) -> Vec<(String, bool)> {
        let all = problems(object, now.parse().unwrap());
        all.into_iter().map(|it| (it.reason, it.failed)).collect()
    }

    #[test]
    fn an_object_nobody_looked_at_is_told_after_a_while() {
        let fresh = backup(&json!({"observedGeneration": -1}));
        assert!(reasons(&fresh, "2026-01-01T00:00:20Z").is_empty());
        assert_eq!(reasons(&fresh, "2026-01-01T00:01:00Z"), [("NotObserved".to_owned(), false)]);
    }

    #[test]
    fn one_that_leaves_says_what_holds_it_and_nothing_of_its_run() {
        let condition = |reason: &str| {
            json!([{"type": "Deleting", "status": "True", "reason": reason, "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}])
        };
        let failure = json!({"reason": "DamageFound", "message": "m", "hint": "h"});
        let mut status = json!({"observedGeneration": 1, "phase": "Failed", "failure": failure});
        let leaving = |status: &Value| {
            let Object::Backup(mut object) = backup(status) else { unreachable!("a Backup was made") };
            object.metadata.deletion_timestamp = object.metadata.creation_timestamp.clone();
            Object::Backup(object)
        };
        status["conditions"] = condition("StoreNotFound");
        assert_eq!(reasons(&leaving(&status), "2026-01-02T00:00:00Z"), [("StoreNotFound".to_owned(), false)]);
        status["conditions"] = condition("DeletingData");
        assert_eq!(reasons(&leaving(&status), "2026-01-02T00:00:00Z"), []);
    }

    #[test]
    fn a_run_waits_for_what_its_processes_wait_for_and_a_failed_one_says_its_failure_alone() {
        let failure = json!({"reason": "Unschedulable", "message": "0/3 nodes", "hint": "label a node"});
        let process = json!({"name": "worker-eu", "job": "j", "order": "o", "attempt": 2, "state": "Waiting",
            "failure": failure});
        let mut status = json!({"observedGeneration": 1, "phase": "Exporting", "processes": [process]});
        assert_eq!(reasons(&backup(&status), "2026-01-02T00:00:00Z"), [("Unschedulable".to_owned(), false)]);
        status["phase"] = "Failed".into();
        status["failure"] = json!({"reason": "DamageFound", "message": "m", "hint": "h"});
        assert_eq!(reasons(&backup(&status), "2026-01-02T00:00:00Z"), [("DamageFound".to_owned(), true)]);
        status["phase"] = "Canceled".into();
        status["failure"] = Value::Null;
        assert_eq!(reasons(&backup(&status), "2026-01-02T00:00:00Z"), [("Canceled".to_owned(), true)]);
    }
}
