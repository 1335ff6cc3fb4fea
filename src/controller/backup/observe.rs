//! What there is in the cluster of one Backup. Needs the client.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStateTerminated, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::BackupError;
use super::build::{ATTEMPT, OBJECTS_KEY, ORDER, PROCESS, UID, objects_name};
use crate::api::{Backup, BackupStore, Failure, LastWord};

/// What there is of one Backup.
#[derive(Debug)]
pub struct Observed {
    /// The BackupStore that it names; absent if there is none.
    pub store: Option<BackupStore>,
    /// What its pods are given, once the first was started: the Backup and the store as they were then.
    pub frozen: Option<String>,
    /// Its Jobs, those of others with the same label left out.
    pub jobs: Vec<ObservedJob>,
}

/// One Job, with its pod.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedJob {
    /// Its name.
    pub name: String,
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

/// Looks.
pub(super) async fn observe(client: &Client, backup: &Backup) -> Result<Observed, BackupError> {
    let namespace = backup.namespace().unwrap_or_default();
    let uid = backup.uid().unwrap_or_default();
    let stores: Api<BackupStore> = Api::namespaced(client.clone(), &namespace);
    let store = stores.get_opt(&backup.spec.store_ref.name).await.map_err(BackupError::Observe)?;
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let frozen = config_maps.get_opt(&objects_name(&uid)).await.map_err(BackupError::Observe)?;
    let frozen = frozen.filter(|it| is_owned(it, &uid)).and_then(|it| it.data?.remove(OBJECTS_KEY));
    let of_run = ListParams::default().labels(&format!("{UID}={uid}"));
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let jobs = jobs.list(&of_run).await.map_err(BackupError::Observe)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pods = pods.list(&of_run).await.map_err(BackupError::Observe)?;
    let jobs = jobs.items.iter().filter(|job| is_owned(*job, &uid));
    let jobs = jobs.filter_map(|job| observed(job, &pods.items)).collect();
    Ok(Observed { store, frozen, jobs })
}

/// Whether `object` is controlled by the resource with this UID: a name alone proves nothing.
pub(super) fn is_owned(object: &impl ResourceExt, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid && owner.controller == Some(true))
}

fn observed(job: &Job, pods: &[Pod]) -> Option<ObservedJob> {
    let annotations = job.annotations();
    let job_uid = job.uid()?;
    let mut own = pods.iter().filter(|pod| is_owned(*pod, &job_uid));
    let pod = own.next();
    Some(ObservedJob {
        name: job.name_any(),
        process: annotations.get(PROCESS)?.clone(),
        order: annotations.get(ORDER)?.clone(),
        attempt: annotations.get(ATTEMPT)?.parse().ok()?,
        state: state(job, pod),
    })
}

fn state(job: &Job, pod: Option<&Pod>) -> JobState {
    let over = job.status.as_ref().is_some_and(|status| {
        let over = |type_: &str| {
            let conditions = status.conditions.iter().flatten();
            conditions.filter(|it| it.type_ == type_).any(|it| it.status == "True")
        };
        over("Complete") || over("Failed")
    });
    let Some(pod) = pod else {
        if over || job.metadata.deletion_timestamp.is_some() {
            return JobState::Ended {
                pod: None,
                node: None,
                word: None,
                how: "its pod is gone".into(),
                at: None,
            };
        }
        return JobState::Waiting(refused(job));
    };
    let status = pod.status.as_ref();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    if let Some(ended) = container.and_then(|it| it.state.as_ref()?.terminated.as_ref()) {
        let word = ended.message.as_deref().and_then(LastWord::parse);
        let how = how(status.and_then(|it| it.reason.as_deref()), ended);
        let at = ended.finished_at.as_ref().map(|time| time.0);
        return JobState::Ended { pod: Some(pod.name_any()), node, word, how, at };
    }
    if over || status.and_then(|it| it.phase.as_deref()).is_some_and(|it| it == "Failed" || it == "Succeeded")
    {
        let reason = status.and_then(|it| it.reason.clone()).unwrap_or_else(|| "no reason given".into());
        let message = status.and_then(|it| it.message.clone()).unwrap_or_default();
        let how = format!("its pod was ended: {reason} {message}");
        return JobState::Ended { pod: Some(pod.name_any()), node, word: None, how, at: None };
    }
    if container.is_some_and(|it| it.state.as_ref().is_some_and(|state| state.running.is_some())) {
        return JobState::Running { node };
    }
    JobState::Waiting(hindered(pod))
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
        return Some(Failure {
            reason: "Unschedulable".into(),
            message: condition.message.clone().unwrap_or_default(),
            hint: "a node must carry the labels of the locality, with room and without taints".into(),
        });
    }
    let waiting =
        status.container_statuses.iter().flatten().find_map(|it| it.state.as_ref()?.waiting.as_ref())?;
    let reason = waiting.reason.as_deref()?;
    if matches!(reason, "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let image =
        matches!(reason, "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull");
    Some(Failure {
        reason: if image { "ImagePullFailed" } else { "PodNotStarted" }.into(),
        message: format!("{reason}: {}", waiting.message.as_deref().unwrap_or_default()),
        hint: "kubectl describe pod says more".into(),
    })
}

/// Why a Job has no pod, where it says so.
fn refused(job: &Job) -> Option<Failure> {
    let failed = job.status.as_ref()?.conditions.iter().flatten().find(|it| it.type_ == "FailureTarget")?;
    Some(Failure {
        reason: "PodRefused".into(),
        message: failed.message.clone().unwrap_or_default(),
        hint: "a quota or an admission policy refused the pod: kubectl describe job says which".into(),
    })
}
