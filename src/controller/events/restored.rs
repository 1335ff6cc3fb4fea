//! Events on a Restore. The choice is pure.

use super::{MOST, Told, normal, warning, words};
use crate::api::{RestorePhase, RestoreStatus};
use crate::telemetry::transition::restarts;

/// What is to be told of a step of a Restore from `old` to `new`; at most four events.
#[must_use]
pub fn of_restore(old: &RestoreStatus, new: &RestoreStatus) -> Vec<Told> {
    let mut told = Vec::new();
    let over = new.phase.is_some_and(is_over);
    if over && !old.phase.is_some_and(is_over) {
        told.push(ended(new));
    }
    if old.processes.is_empty()
        && let Some(first) = new.processes.first()
    {
        told.push(normal(
            "Started",
            "Starting",
            "its restorer is started".to_owned(),
            Some(first.job.clone()),
        ));
    }
    let waited = old.failure.as_ref().map(|failure| &failure.reason);
    if let Some(failure) = new.failure.as_ref().filter(|it| !over && Some(&it.reason) != waited) {
        told.push(warning("Waiting", "Waiting", words(failure)));
    }
    told.extend(restarts(&old.processes, &new.processes).iter().map(Told::of_restart));
    told.truncate(MOST);
    told
}

fn is_over(phase: RestorePhase) -> bool {
    matches!(phase, RestorePhase::Succeeded | RestorePhase::Failed | RestorePhase::Canceled)
}

fn ended(new: &RestoreStatus) -> Told {
    let why = || new.failure.as_ref().map_or_else(|| "no reason was left".to_owned(), words);
    match (new.phase, &new.proof) {
        (Some(RestorePhase::Succeeded), Some(proof)) => {
            let (tables, rows) = (proof.tables, proof.rows_compared);
            normal("Succeeded", "Ending", format!("compared and equal: {tables} tables, {rows} rows"), None)
        }
        // A dry run, or a schema alone.
        (Some(RestorePhase::Succeeded), None) => {
            normal("Succeeded", "Ending", "done; there were no rows to compare".to_owned(), None)
        }
        (Some(RestorePhase::Canceled), _) => normal("Canceled", "Ending", why(), None),
        _ => warning("Failed", "Ending", why()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(value: &Value) -> RestoreStatus {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn process(attempt: i64, failed: bool) -> Value {
        let mut process = json!({"name": "restorer", "job": format!("job-{attempt}"), "order": "p",
            "attempt": attempt, "state": "Waiting"});
        if failed {
            process["failure"] = json!({"reason": "PodEvicted", "message": "of disk", "hint": "look"});
        }
        process
    }

    #[test]
    fn a_whole_restore_is_told_in_order_and_no_step_twice() {
        let proof = json!({"tables": 3, "rowsCompared": 42, "fingerprintsEqual": true, "manifestSha256": "0".repeat(64)});
        let missing =
            json!({"reason": "BackupNotFound", "message": "no Backup shop", "hint": "name another"});
        let steps = [
            json!({}),
            json!({"phase": "Pending", "failure": missing}),
            json!({"phase": "Resolving", "processes": [process(1, false)]}),
            json!({"phase": "Data", "processes": [process(1, true)]}),
            json!({"phase": "Data", "processes": [process(2, false)]}),
            json!({"phase": "Succeeded", "processes": [process(2, false)], "proof": proof}),
        ]
        .map(|step| status(&step));
        let mut all = Vec::new();
        for pair in steps.windows(2) {
            let told = of_restore(&pair[0], &pair[1]);
            all.extend(told.into_iter().map(|it| (it.reason, it.warning, it.note, it.job)));
            assert_eq!(of_restore(&pair[1], &pair[1]), [], "a status that says the same tells nothing");
        }
        let job = |attempt: u32| Some(format!("job-{attempt}"));
        assert_eq!(
            all,
            [
                ("Waiting", true, "BackupNotFound: no Backup shop; name another".to_owned(), None),
                ("Started", false, "its restorer is started".to_owned(), job(1)),
                ("Restarted", true, "attempt 2 of restorer: PodEvicted: of disk; look".to_owned(), job(2)),
                ("Succeeded", false, "compared and equal: 3 tables, 42 rows".to_owned(), None),
            ]
        );
    }

    #[test]
    fn each_end_is_told_as_what_it_is() {
        let goes_on = status(&json!({"phase": "Data"}));
        let failure = json!({"reason": "CountsDisagree", "message": "public.item", "hint": "see"});
        for (phase, reason, warning) in
            [("Failed", "Failed", true), ("Canceled", "Canceled", false), ("Succeeded", "Succeeded", false)]
        {
            let mut end = json!({"phase": phase});
            if phase != "Succeeded" {
                end["failure"] = failure.clone();
            }
            let told = of_restore(&goes_on, &status(&end));
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!((told[0].reason, told[0].warning), (reason, warning));
            assert_eq!(told[0].note.contains("CountsDisagree"), phase != "Succeeded");
        }
    }
}
