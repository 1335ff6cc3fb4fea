//! Conditions of a schedule. Pure.

use jiff::Timestamp;

use crate::api::{BackupScheduleStatus, Condition, ConditionStatus, Failure};

/// What a schedule is told to be.
pub(super) enum Verdict {
    /// Runs will start when they are due; the word says how it stands.
    Ready(&'static str),
    /// Something is in the way, and it is tried again.
    Hindered(Failure),
    /// Nothing starts until a person does something.
    Stalled(Failure),
}

/// Whether the last proven backup is young enough.
pub(super) enum RecoveryPoint {
    /// Nobody asked.
    NotAsked,
    /// It is.
    Met,
    /// There is none yet, and there need not be.
    NoneYet,
    /// It isn't.
    Missed(Failure),
}

/// Whether retention is carried out.
pub(super) enum RetentionApplied {
    /// Nobody asked.
    NotAsked,
    /// Nothing is known that was not told before.
    AsBefore,
    /// The last prune did what it was for.
    Done,
    /// It didn't, or can't be started.
    Failed(Failure),
}

/// Sets every condition of `status`; one that says what it said keeps its time.
pub(super) fn set(
    status: &mut BackupScheduleStatus,
    verdict: &Verdict,
    point: &RecoveryPoint,
    applied: &RetentionApplied,
    generation: Option<i64>,
    now: Timestamp,
) {
    use ConditionStatus::{False, True, Unknown};
    let (reason, message) = match verdict {
        Verdict::Ready(word) => ((*word).to_owned(), String::new()),
        Verdict::Hindered(failure) | Verdict::Stalled(failure) => {
            (failure.reason.clone(), format!("{}; {}", failure.message, failure.hint))
        }
    };
    let told = |holds: bool| if holds { True } else { False };
    let mut wanted = vec![
        ("Ready", told(matches!(verdict, Verdict::Ready(_))), reason.clone(), message.clone()),
        // kstatus: Reconciling while it is tried again, Stalled where a person has to do something.
        ("Reconciling", told(matches!(verdict, Verdict::Hindered(_))), reason.clone(), message.clone()),
        ("Stalled", told(matches!(verdict, Verdict::Stalled(_))), reason, message),
    ];
    let point = match point {
        RecoveryPoint::NotAsked => None,
        RecoveryPoint::Met => Some((True, "Proven".to_owned(), String::new())),
        RecoveryPoint::NoneYet => Some((Unknown, "NoneYet".to_owned(), String::new())),
        RecoveryPoint::Missed(failure) => {
            Some((False, failure.reason.clone(), format!("{}; {}", failure.message, failure.hint)))
        }
    };
    wanted.extend(point.map(|(status, reason, message)| ("RecoveryPointMet", status, reason, message)));
    let mut before = std::mem::take(&mut status.conditions);
    let mut as_before = None;
    match applied {
        RetentionApplied::NotAsked => {}
        RetentionApplied::AsBefore => {
            as_before = before.iter().position(|it| it.type_ == RETENTION).map(|at| before.swap_remove(at));
        }
        RetentionApplied::Done => wanted.push((RETENTION, True, "Pruned".to_owned(), String::new())),
        RetentionApplied::Failed(failure) => {
            let message = format!("{}; {}", failure.message, failure.hint);
            wanted.push((RETENTION, False, failure.reason.clone(), message));
        }
    }
    let condition = |(type_, value, reason, message): (&str, ConditionStatus, String, String)| {
        let known = before.iter().find(|it| it.type_ == type_ && it.status == value);
        Condition {
            type_: type_.to_owned(),
            status: value,
            reason,
            message: message.chars().take(MAX_MESSAGE).collect(),
            last_transition_time: known.map_or_else(|| now.to_string(), |it| it.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    status.conditions = wanted.into_iter().map(condition).chain(as_before).collect();
}

/// The type of the condition that says whether retention is carried out.
const RETENTION: &str = "RetentionApplied";

/// The longest message of a condition or failure, in characters, as the schema has it.
pub(super) const MAX_MESSAGE: usize = 4096;
