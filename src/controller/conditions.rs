//! Conditions that follow from the rest of a status. Pure.

use jiff::Timestamp;

use super::reasons::cut;
use crate::api::{Condition, ConditionStatus};

/// One condition, without its time.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) type_: &'a str,
    pub(super) status: ConditionStatus,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

/// The conditions `wanted`; one that says what it said in `before` keeps its time.
pub(super) fn merged(
    before: &[Condition],
    wanted: &[Wanted<'_>],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |Wanted { type_, status, reason, message }: &Wanted<'_>| {
        let known = before.iter().find(|it| it.type_ == *type_ && it.status == *status);
        Condition {
            type_: (*type_).to_owned(),
            status: *status,
            reason: (*reason).to_owned(),
            message: cut((*message).to_owned()),
            last_transition_time: known.map_or_else(|| now.to_string(), |it| it.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    wanted.iter().map(condition).collect()
}

/// True or False.
pub(super) const fn told(holds: bool) -> ConditionStatus {
    if holds { ConditionStatus::True } else { ConditionStatus::False }
}
