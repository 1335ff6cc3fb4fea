//! What happened between two statuses of a Backup. Pure: counters and events follow from it, so each is told once,
//! however often the resource is looked at.

use std::collections::BTreeMap;

use crate::api::{BackupPhase, BackupStatus, Failure, ProcessStatus};

/// Reasons that mean that what is stored, or was counted, is not what it should be. They are worth a page at night,
/// where others are worth a look in the morning.
pub const FINDINGS: [&str; 11] = [
    "CountsDisagree",
    "CoverageIncomplete",
    "DamageFound",
    "DocumentDamaged",
    "EqualSpans",
    "ObjectChanged",
    "ObjectMissing",
    "ReceiptRefused",
    "StreamMalformed",
    "VerdictRefused",
    "WitnessesDiffer",
];

/// Whether a failure says that something is damaged.
#[must_use]
pub fn is_finding(failure: &Failure) -> bool {
    FINDINGS.contains(&failure.reason.as_str())
}

/// Whether nothing follows a phase.
#[must_use]
pub const fn is_terminal(phase: BackupPhase) -> bool {
    matches!(phase, BackupPhase::Succeeded | BackupPhase::Failed | BackupPhase::Canceled)
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// The phase that was left, if it had one, and the one that was entered.
    pub phase: Option<(Option<BackupPhase>, BackupPhase)>,
    /// Processes whose next attempt was begun.
    pub restarted: Vec<Restarted>,
    /// Errors that were met and overcome since, by reason.
    pub retried: BTreeMap<String, u64>,
}

/// A process that is begun anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// Which: `worker-eu`.
    pub process: String,
    /// The attempt that begins.
    pub attempt: i64,
    /// The Job of the attempt that begins.
    pub job: String,
    /// Why the one before ended, where the status said so.
    pub failure: Option<Failure>,
}

impl Transition {
    /// What happened from `old` to `new`.
    #[must_use]
    pub fn between(old: &BackupStatus, new: &BackupStatus) -> Self {
        let phase = new.phase.filter(|phase| old.phase != Some(*phase)).map(|phase| (old.phase, phase));
        Self { phase, restarted: restarts(&old.processes, &new.processes), retried: retried(old, new) }
    }

    /// The phase, if it was left for one that nothing follows.
    #[must_use]
    pub fn ended(&self) -> Option<BackupPhase> {
        let (before, now) = self.phase?;
        (is_terminal(now) && !before.is_some_and(is_terminal)).then_some(now)
    }
}

/// Which of the processes `new` are begun anew since they were `old`.
#[must_use]
pub fn restarts(old: &[ProcessStatus], new: &[ProcessStatus]) -> Vec<Restarted> {
    new.iter().filter_map(|process| restarted(old, process)).collect()
}

fn restarted(old: &[ProcessStatus], now: &ProcessStatus) -> Option<Restarted> {
    let before = old.iter().find(|it| it.name == now.name && it.order == now.order)?;
    (now.attempt > before.attempt).then(|| Restarted {
        process: now.name.clone(),
        attempt: now.attempt,
        job: now.job.clone(),
        failure: before.failure.clone(),
    })
}

fn retried(old: &BackupStatus, new: &BackupStatus) -> BTreeMap<String, u64> {
    let counts = |status: &BackupStatus| -> BTreeMap<String, i64> {
        status.errors.as_ref().and_then(|errors| errors.by_reason.clone()).unwrap_or_default()
    };
    let before = counts(old);
    let grown = counts(new).into_iter().filter_map(|(reason, count)| {
        let more = count - before.get(&reason).copied().unwrap_or_default();
        u64::try_from(more).ok().filter(|more| *more > 0).map(|more| (reason, more))
    });
    grown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ErrorCounts, ProcessState};

    fn status(phase: BackupPhase) -> BackupStatus {
        BackupStatus { phase: Some(phase), ..BackupStatus::default() }
    }

    fn process(order: &str, attempt: i64, failure: Option<Failure>) -> ProcessStatus {
        ProcessStatus {
            name: "worker-eu".into(),
            job: format!("job-{attempt}"),
            order: order.into(),
            attempt,
            state: ProcessState::Waiting,
            node: None,
            failure,
        }
    }

    #[test]
    fn a_phase_is_told_once_and_an_end_only_where_it_is_one() {
        let (verifying, succeeded) = (status(BackupPhase::Verifying), status(BackupPhase::Succeeded));
        let ends = Transition::between(&verifying, &succeeded);
        assert_eq!(ends.phase, Some((Some(BackupPhase::Verifying), BackupPhase::Succeeded)));
        assert_eq!(ends.ended(), Some(BackupPhase::Succeeded));
        assert_eq!(Transition::between(&succeeded, &succeeded), Transition::default());
        let goes_on = Transition::between(&BackupStatus::default(), &status(BackupPhase::Pending));
        assert_eq!((goes_on.phase, goes_on.ended()), (Some((None, BackupPhase::Pending)), None));
    }

    #[test]
    fn a_restart_names_why_and_another_order_is_none() {
        let failure = Failure { reason: "ProcessFailed".into(), message: "m".into(), hint: "h".into() };
        let with = |process| BackupStatus { processes: vec![process], ..BackupStatus::default() };
        let first = with(process("plan", 1, Some(failure.clone())));
        let restarted = Transition::between(&first, &with(process("plan", 2, None))).restarted;
        let expected = Restarted {
            process: "worker-eu".into(),
            attempt: 2,
            job: "job-2".into(),
            failure: Some(failure),
        };
        assert_eq!(restarted, [expected]);
        assert_eq!(Transition::between(&first, &with(process("other", 1, None))).restarted, []);
        assert_eq!(Transition::between(&first, &first).restarted, []);
        assert_eq!(Transition::between(&BackupStatus::default(), &first).restarted, []);
    }

    #[test]
    fn errors_count_by_how_much_they_grew() {
        let with = |counts: &[(&str, i64)]| {
            let by_reason = counts.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
            let errors = ErrorCounts { by_reason: Some(by_reason), ..ErrorCounts::default() };
            BackupStatus { errors: Some(errors), ..BackupStatus::default() }
        };
        let (old, new) = (with(&[("A", 2), ("B", 1)]), with(&[("A", 5), ("B", 1), ("C", 1)]));
        let grown = Transition::between(&old, &new).retried;
        assert_eq!(grown, BTreeMap::from([("A".to_owned(), 3), ("C".to_owned(), 1)]));
        assert_eq!(Transition::between(&new, &old).retried, BTreeMap::new(), "a counter never goes back");
    }
}
