//! Lines of logs: of which process and attempt they are, in which order they are written, and how. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;

use crate::controller::pods::{ATTEMPT, PROCESS};

/// The label with the role of a pod, for pods whose Job is gone.
const COMPONENT: &str = "app.kubernetes.io/component";

/// The container of our pods whose log is meant.
pub(super) const CONTAINER: &str = "vouchsafe";

/// Colours of terminals that can be told apart on dark and on light ones.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Whose lines they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) pod: String,
    /// `worker-eu`; the role alone if the Job is gone.
    pub(super) process: String,
    /// Absent: the Job is gone.
    pub(super) attempt: Option<u32>,
}

impl Origin {
    /// Of a pod: what its Job says, and what the pod itself says where the Job is gone.
    pub(super) fn of(pod: &Pod, jobs: &[Job]) -> Self {
        let owner = pod.owner_references().iter().find(|owner| owner.kind == "Job");
        let job = owner.and_then(|owner| jobs.iter().find(|job| job.uid().as_ref() == Some(&owner.uid)));
        let said = |key: &str| {
            let of_job = job.and_then(|job| job.annotations().get(key));
            of_job.or_else(|| pod.annotations().get(key)).cloned()
        };
        let role = || pod.labels().get(COMPONENT).cloned();
        Self {
            pod: pod.name_any(),
            process: said(PROCESS).or_else(role).unwrap_or_else(|| pod.name_any()),
            attempt: said(ATTEMPT).and_then(|text| text.parse().ok()),
        }
    }

    /// `[worker-eu/2]`
    pub(super) fn label(&self) -> String {
        match self.attempt {
            Some(attempt) => format!("[{}/{attempt}]", self.process),
            None => format!("[{}]", self.process),
        }
    }

    /// Whether this is of the process that is wanted, by name or by role.
    pub(super) fn is_of(&self, wanted: &str) -> bool {
        self.process == wanted || self.process.split_once('-').is_some_and(|(role, _)| role == wanted)
    }
}

/// One line, without the time that the API server put before it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) origin: Origin,
    pub(super) time: Option<Timestamp>,
    pub(super) text: String,
}

/// One line, as `--output json` has it.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct LogLine {
    process: String,
    attempt: Option<u32>,
    pod: String,
    time: Option<String>,
    line: String,
}

impl LogLine {
    pub(super) fn of(line: &Line) -> Self {
        let Line { origin: Origin { pod, process, attempt }, time, text } = line.clone();
        Self { process, attempt, pod, time: time.map(|time| time.to_string()), line: text }
    }
}

/// A line for people: its label, in a colour of its process if there are colours.
pub(super) fn shown(origin: &Origin, line: &str, coloured: bool) -> String {
    let label = origin.label();
    if !coloured {
        return format!("{label} {line}");
    }
    let sum: usize = origin.process.bytes().map(usize::from).sum();
    format!("\u{1b}[{}m{label}\u{1b}[0m {line}", COLOURS[sum % COLOURS.len()])
}

/// A line as the API server sends it with its time: `2026-11-22T10:00:00.123Z text`.
pub(super) fn split(line: &str) -> (Option<Timestamp>, &str) {
    let Some((first, rest)) = line.split_once(' ') else {
        // An empty line has a time alone.
        return line.parse().map_or((None, line), |time| (Some(time), ""));
    };
    first.parse().map_or((None, line), |time| (Some(time), rest))
}

/// Whether the container of a pod has begun, and so has a log: before, the API server refuses to show one.
pub(super) fn has_log(pod: &Pod) -> bool {
    let begun = |state: &Option<ContainerState>| {
        state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    let all = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    all.filter(|it| it.name == CONTAINER).any(|it| begun(&it.state) || begun(&it.last_state))
}

/// Whether the container of a pod has ended, and so its log.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let mut all = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    all.any(|it| it.name == CONTAINER && it.state.as_ref().is_some_and(|state| state.terminated.is_some()))
}

/// Which of several logs goes on: the one whose next line is the oldest. A line without a time follows at once on
/// the one before it. `heads`: the next line's time of each log that has one.
pub(super) fn oldest(heads: &[Option<Option<Timestamp>>]) -> Option<usize> {
    let there = heads.iter().enumerate().filter_map(|(number, head)| head.map(|time| (time, number)));
    // `None` is less than every time.
    there.min().map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(owner: &str, state: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p-1", "labels": {COMPONENT: "worker"},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": owner}]},
            "status": {"containerStatuses": [{"name": CONTAINER, "image": "i", "imageID": "i", "ready": false,
                "restartCount": 0, "state": state}]},
        }))
        .unwrap()
    }

    fn job(uid: &str, process: &str, attempt: &str) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j", "uid": uid,
            "annotations": {PROCESS: process, ATTEMPT: attempt}}}))
        .unwrap()
    }

    #[test]
    fn lines_are_labelled_by_the_job_that_the_pod_is_of_and_not_by_names() {
        let jobs = [job("other", "verifier-us", "7"), job("u", "worker-eu", "2")];
        let origin = Origin::of(&pod("u", json!({})), &jobs);
        assert_eq!(origin.label(), "[worker-eu/2]");
        assert_eq!(shown(&origin, "hello", false), "[worker-eu/2] hello");
        let coloured = shown(&origin, "hello", true);
        assert!(coloured.starts_with("\u{1b}[") && coloured.ends_with("[worker-eu/2]\u{1b}[0m hello"));
        assert!(origin.is_of("worker-eu") && origin.is_of("worker") && !origin.is_of("worker-e"));
        let orphan = Origin::of(&pod("gone", json!({})), &jobs);
        assert_eq!((orphan.label(), orphan.is_of("worker")), ("[worker]".to_owned(), true));
    }

    #[test]
    fn a_pod_has_a_log_once_its_container_has_begun() {
        let running = pod("u", json!({"running": {}}));
        assert!(has_log(&running) && !has_ended(&running));
        let ended = pod("u", json!({"terminated": {"exitCode": 1}}));
        assert!(has_log(&ended) && has_ended(&ended));
        let waiting = pod("u", json!({"waiting": {"reason": "ContainerCreating"}}));
        assert!(!has_log(&waiting) && !has_ended(&waiting));
        assert!(!has_log(&Pod::default()));
    }

    #[test]
    fn lines_lose_their_time_and_keep_the_rest() {
        let (time, rest) = split("2026-11-22T10:00:00.5Z  INFO two  spaces");
        assert_eq!(
            (time.unwrap().to_string().as_str(), rest),
            ("2026-11-22T10:00:00.5Z", " INFO two  spaces")
        );
        assert_eq!(split("unable to retrieve logs"), (None, "unable to retrieve logs"));
        assert!(matches!(split("2026-11-22T10:00:00Z"), (Some(_), "")));
    }

    #[test]
    fn logs_are_merged_by_time() {
        let at = |text: &str| Some(Some(text.parse().unwrap()));
        let (early, late) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:01Z"));
        assert_eq!(oldest(&[late, early, None]), Some(1));
        assert_eq!(oldest(&[early, late, Some(None)]), Some(2));
        assert_eq!(oldest(&[early, early]), Some(0));
        assert_eq!(oldest(&[None, None]), None);
    }
}
