//! The Jobs of one resource, with their pods. Needs the client.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, NodeSelectorRequirement, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::attempts::Stop;
use super::pods::{ATTEMPT, ORDER, PROCESS, UID};
use super::reasons::ControllerReason as Reason;
use crate::api::{Failure, LastWord};

/// How long after the end of its grace a pod is given up that is still there.
const GONE_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// A Job that has no pod after this time is asked about. Most have one in less than a second.
const POD_EXPECTED: SignedDuration = SignedDuration::from_secs(5);

/// One Job, with its pod.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedJob {
    /// Its name.
    pub name: String,
    /// Its UID; empty for one that was not made yet.
    pub uid: String,
    /// Which process, as text.
    pub process: String,
    /// What it is for.
    pub order: String,
    /// Which attempt.
    pub attempt: u32,
    /// What became of it.
    pub state: JobState,
}

/// What became of a Job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobState {
    /// Its pod does not run yet; why, where Kubernetes says so.
    Waiting(Option<Failure>),
    /// Its pod runs.
    Running {
        /// Where.
        node: Option<String>,
        /// When it is given up, if it is still there: it was deleted, and its node says nothing.
        given_up_at: Option<Timestamp>,
    },
    /// Its pod has ended, or is gone.
    Ended {
        /// Its pod; absent if it is gone.
        pod: Option<String>,
        /// Where it ran.
        node: Option<String>,
        /// What it left.
        word: Option<LastWord>,
        /// How it ended, where it left nothing.
        how: String,
        /// When.
        at: Option<Timestamp>,
    },
}

/// The Jobs that the resource with this UID controls; those of others with the same label are left out.
///
/// # Errors
/// What the API server answers.
pub(super) async fn of_resource(
    client: &Client,
    namespace: &str,
    uid: &str,
) -> Result<Vec<ObservedJob>, kube::Error> {
    let labelled = ListParams::default().labels(&format!("{UID}={uid}"));
    let jobs = Api::<Job>::namespaced(client.clone(), namespace).list(&labelled).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&labelled).await?;
    let mut all = Vec::new();
    for job in jobs.items.iter().filter(|job| is_owned(*job, uid)) {
        let Some(mut job_seen) = observed(job, &pods.items) else { continue };
        if job_seen.state == JobState::Waiting(None) && lacks_pod(job, &pods.items) {
            job_seen.state = JobState::Waiting(refusal(client, namespace, &job_seen.uid).await?);
        }
        all.push(job_seen);
    }
    Ok(all)
}

/// Whether a Job has no pod though there was time for one.
fn lacks_pod(job: &Job, pods: &[Pod]) -> bool {
    let age = job.creation_timestamp().map(|made| Timestamp::now().duration_since(made.0));
    let uid = job.uid().unwrap_or_default();
    age.is_some_and(|age| age > POD_EXPECTED) && !pods.iter().any(|pod| is_owned(pod, &uid))
}

/// Why the pod of this Job is refused. Kubernetes' Job controller tells it in an event, and nowhere else.
async fn refusal(client: &Client, namespace: &str, job: &str) -> Result<Option<Failure>, kube::Error> {
    let of_job = ListParams::default().fields(&format!("regarding.uid={job},reason=FailedCreate"));
    let events = match Api::<Event>::namespaced(client.clone(), namespace).list(&of_job).await {
        Ok(events) => events.items,
        // A role of an older release: nothing is said then, and nothing else fails.
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(None),
        Err(error) => return Err(error),
    };
    let newest = events.into_iter().max_by_key(told_at);
    Ok(newest.and_then(|event| event.note).map(|note| {
        Reason::PodRefused.failure(
            words_of_refusal(&note),
            "make room in the quota, or let the named policy permit it; Kubernetes tries again",
        )
    }))
}

/// When an event was told the last time.
fn told_at(event: &Event) -> Option<Timestamp> {
    let last = event.series.as_ref().map(|series| series.last_observed_time.0);
    let last = last.or_else(|| event.deprecated_last_timestamp.as_ref().map(|time| time.0));
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

/// A refusal without the pod's name, which is another one at each try: a status that has it would change each time.
fn words_of_refusal(note: &str) -> &str {
    let note = note.strip_prefix("(combined from similar events): ").unwrap_or(note);
    let note = note.strip_prefix("Error creating: ").unwrap_or(note);
    let named = note.strip_prefix("pods \"").and_then(|rest| rest.split_once("\" is forbidden: "));
    named.map_or(note, |(_name, why)| why)
}

/// Whether `object` is controlled by the resource with this UID: a name alone proves nothing.
pub(super) fn is_owned(object: &impl ResourceExt, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid && owner.controller == Some(true))
}

/// Takes a Job away, if it still is the one that was seen. It is gone only when its pod is: what is still there may
/// still do something.
///
/// # Errors
/// What the API server answers; one that is gone already is none.
pub(super) async fn stop(client: &Client, namespace: &str, stop: &Stop) -> Result<(), kube::Error> {
    let preconditions = Preconditions { uid: Some(stop.uid.clone()), resource_version: None };
    let parameters = DeleteParams::foreground().preconditions(preconditions);
    match Api::<Job>::namespaced(client.clone(), namespace).delete(&stop.name, &parameters).await {
        Ok(_) => Ok(()),
        // Gone, or another one by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes each of these Jobs away, as [`stop`] does.
///
/// # Errors
/// That of the first that can't be.
pub(super) async fn stop_each(client: &Client, namespace: &str, stops: &[Stop]) -> Result<(), kube::Error> {
    for one in stops {
        stop(client, namespace, one).await?;
    }
    Ok(())
}

/// Whether a Job has ended, as it says itself: a moment later than its pod does.
pub(super) fn is_over(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| {
        let over = |type_: &str| {
            let conditions = status.conditions.iter().flatten();
            conditions.filter(|it| it.type_ == type_).any(|it| it.status == "True")
        };
        over("Complete") || over("Failed")
    })
}

fn observed(job: &Job, pods: &[Pod]) -> Option<ObservedJob> {
    let annotations = job.annotations();
    let uid = job.uid()?;
    let mut own = pods.iter().filter(|pod| is_owned(*pod, &uid));
    let pod = own.next();
    Some(ObservedJob {
        name: job.name_any(),
        process: annotations.get(PROCESS)?.clone(),
        order: annotations.get(ORDER)?.clone(),
        attempt: annotations.get(ATTEMPT)?.parse().ok()?,
        state: state(job, pod, Timestamp::now()),
        uid,
    })
}

fn state(job: &Job, pod: Option<&Pod>, now: Timestamp) -> JobState {
    let over = is_over(job);
    let at = Some(ended_at(job, pod));
    let Some(pod) = pod else {
        if over || job.metadata.deletion_timestamp.is_some() {
            return JobState::Ended { pod: None, node: None, word: None, how: "its pod is gone".into(), at };
        }
        // Refused, or on its way to `Failed`: a pod that is refused is told of in an event.
        return JobState::Waiting(None);
    };
    let status = pod.status.as_ref();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    if let Some(ended) = container.and_then(|it| it.state.as_ref()?.terminated.as_ref()) {
        let word = ended.message.as_deref().and_then(LastWord::parse);
        let how = how(status.and_then(|it| it.reason.as_deref()), ended);
        let at = ended.finished_at.as_ref().map(|time| time.0).or(at);
        return JobState::Ended { pod: Some(pod.name_any()), node, word, how, at };
    }
    if over || status.and_then(|it| it.phase.as_deref()).is_some_and(|it| it == "Failed" || it == "Succeeded")
    {
        let reason = status.and_then(|it| it.reason.clone()).unwrap_or_else(|| "no reason given".into());
        let message = status.and_then(|it| it.message.clone()).unwrap_or_default();
        let how = format!("its pod was ended: {reason} {message}");
        return JobState::Ended { pod: Some(pod.name_any()), node, word: None, how, at };
    }
    // It was to be gone by now: its node does not answer, and says nothing of it any more.
    let given_up_at = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0 + GONE_AFTER);
    if given_up_at.is_some_and(|at| at <= now) {
        let how = "its pod was deleted, and its node does not answer".to_owned();
        return JobState::Ended { pod: Some(pod.name_any()), node, word: None, how, at };
    }
    if container.is_some_and(|it| it.state.as_ref().is_some_and(|state| state.running.is_some())) {
        return JobState::Running { node, given_up_at };
    }
    JobState::Waiting(hindered(pod))
}

/// When a Job ended whose container does not say: without a time, the next attempt would not pause before it, and a
/// node that rejects pods would use up all attempts in seconds.
fn ended_at(job: &Job, pod: Option<&Pod>) -> Timestamp {
    let conditions = job.status.iter().flat_map(|it| it.conditions.iter().flatten());
    let ended =
        conditions.filter(|it| it.status == "True").filter_map(|it| it.last_transition_time.as_ref()).max();
    let deleted = pod.map_or(&job.metadata, |it| &it.metadata).deletion_timestamp.as_ref();
    let made = pod.map_or(&job.metadata, |it| &it.metadata).creation_timestamp.as_ref();
    ended.or(deleted).or(made).map_or_else(Timestamp::now, |time| time.0)
}

/// How a container ended that left no word.
fn how(pod_reason: Option<&str>, ended: &ContainerStateTerminated) -> String {
    let reason = pod_reason.or(ended.reason.as_deref()).unwrap_or("no reason given");
    format!("its pod was ended: {reason}, exit code {}", ended.exit_code)
}

/// Why a pod does not start, where it says so.
fn hindered(pod: &Pod) -> Option<Failure> {
    let status = pod.status.as_ref()?;
    let scheduled = status.conditions.iter().flatten().find(|it| it.type_ == "PodScheduled");
    if let Some(condition) = scheduled.filter(|it| it.status == "False") {
        let said = condition.message.clone().unwrap_or_default();
        if said.contains("persistentvolumeclaim") {
            return Some(Reason::Unschedulable.failure(said, "make the claim, or correct its name"));
        }
        let message = match pinned_to(pod) {
            Some(labels) => format!("no node for {labels}: {said}"),
            None => said,
        };
        let hint = "a node must carry the labels of the locality, with room and without taints";
        return Some(Reason::Unschedulable.failure(message, hint));
    }
    let waiting =
        status.container_statuses.iter().flatten().find_map(|it| it.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.as_deref()?;
    if matches!(reason, "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let image =
        matches!(reason, "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull");
    let said = if image { Reason::ImagePullFailed } else { Reason::PodNotStarted };
    let message = format!("{reason}: {}", waiting.message.as_deref().unwrap_or_default());
    Some(said.failure(message, "kubectl describe pod says more"))
}

/// The labels that the pod's node must carry, as its own affinity has them.
fn pinned_to(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let wanted = terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    let one = |it: &NodeSelectorRequirement| {
        format!("{}={}", it.key, it.values.clone().unwrap_or_default().join("|"))
    };
    Some(wanted.map(one).collect::<Vec<_>>().join(",")).filter(|labels| !labels.is_empty())
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
