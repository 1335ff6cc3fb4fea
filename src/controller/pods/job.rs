//! The Job of one attempt of one process. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::needs::affinity;
use super::{ATTEMPT, GIVEN, Needs, ORDER, Owner, PROCESS, account, object};
use crate::api::PodTemplate;
use crate::controller::PullPolicy;
use crate::controller::attempts::Start;
use crate::telemetry::run_trace::RunTrace;
use crate::telemetry::traces::{HEADERS, PodTraces, TRACEPARENT, traceparent};

/// How long a pod stays on a node that does not answer, in seconds: its replacement starts after it.
const UNREACHABLE_SECONDS: i64 = 30;

/// How long a Job and its pod are kept after their end, for their logs: a night that went wrong before a weekend is
/// looked at on Monday. What they have said is in the resource's status by then, and stays there.
const KEPT_SECONDS: i64 = 3 * 24 * 3600;

/// The user of the image.
const USER: i64 = 65_532;

/// What the Job of one attempt is made of.
#[derive(Clone, Debug)]
pub(in super::super) struct JobOf<'a> {
    /// Whose.
    pub(in super::super) owner: &'a Owner,
    /// Process, order and attempt.
    pub(in super::super) start: &'a Start,
    /// The ConfigMap that its pod reads, and the name of its ServiceAccount unless the user names one.
    pub(in super::super) objects: &'a str,
    /// What the user says about pods.
    pub(in super::super) template: &'a PodTemplate,
    /// What it touches.
    pub(in super::super) needs: &'a Needs,
    /// The node label of each tier.
    pub(in super::super) locality_labels: &'a BTreeMap<String, String>,
    /// Its image.
    pub(in super::super) image: &'a str,
    /// When its node pulls that.
    pub(in super::super) pull_policy: PullPolicy,
    /// What it is told of traces.
    pub(in super::super) traces: Option<&'a PodTraces>,
    /// What follows the subcommand.
    pub(in super::super) arguments: Vec<String>,
}

/// The Job: one pod, that is not restarted in place, on a node with every tier.
pub(in super::super) fn job(of: JobOf<'_>) -> Job {
    let JobOf {
        owner,
        start,
        objects,
        template,
        needs,
        locality_labels,
        image,
        pull_policy,
        traces,
        arguments,
    } = of;
    let name = start.process.job_name(&owner.name, &owner.uid, &start.order, start.attempt);
    let annotations = BTreeMap::from([
        (PROCESS.to_owned(), start.process.to_string()),
        (ORDER.to_owned(), start.order.clone()),
        (ATTEMPT.to_owned(), start.attempt.to_string()),
    ]);
    // Ours last: what they say can't be said by the user.
    let mut pod_labels = template.labels.clone().unwrap_or_default();
    pod_labels.extend(owner.labels(Some(&start.process)));
    let mut pod_annotations = template.annotations.clone().unwrap_or_default();
    pod_annotations.extend(owner.annotations(annotations.clone()));
    if let Some(text) = needs.annotation() {
        pod_annotations.insert(GIVEN.to_owned(), text.to_owned());
    }
    let mut tolerations: Vec<Value> = template.tolerations.iter().map(|it| json!(it)).collect();
    for key in ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"] {
        tolerations.push(json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_SECONDS,
        }));
    }
    let (volumes, mounts) = needs.volumes(objects);
    let mut all = vec![start.process.role().to_owned()];
    all.extend(arguments);
    let mut container = json!({
        "name": "vouchsafe",
        "image": image,
        "imagePullPolicy": pull_policy.as_str(),
        "args": all,
        "volumeMounts": mounts,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    let mut environment = vec![json!({"name": "VOUCHSAFE_LOG", "value": "info"})];
    environment.extend(traces.into_iter().flat_map(|traces| of_traces(owner, traces)));
    container["env"] = json!(environment);
    if let Some(resources) = &template.resources {
        container["resources"] = json!(resources);
    }
    let mut pod = json!({
        "restartPolicy": "Never",
        "serviceAccountName": account(template, objects),
        "automountServiceAccountToken": start.process.publishes(),
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": tolerations,
        "volumes": volumes,
        "containers": [container],
        "imagePullSecrets": template.image_pull_secrets,
    });
    if let Some(class) = &template.priority_class_name {
        pod["priorityClassName"] = json!(class);
    }
    if !needs.tiers.is_empty() {
        pod["affinity"] = affinity(&needs.tiers, locality_labels);
    }
    object(json!({
        "metadata": owner.metadata(&name, annotations),
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": pod_labels, "annotations": pod_annotations}, "spec": pod},
        },
    }))
}

/// The variables by which a process tells of itself, and in which trace. Probes and prunes are one process each, and
/// begin a trace of their own.
fn of_traces(owner: &Owner, traces: &PodTraces) -> Vec<Value> {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut all: Vec<Value> = traces.variables.iter().map(|(name, value)| variable(name, value)).collect();
    if let Some((name, key)) = &traces.headers {
        let from = json!({"secretKeyRef": {"name": name, "key": key, "optional": true}});
        all.push(json!({"name": HEADERS, "valueFrom": from}));
    }
    if matches!(&*owner.kind, "Backup" | "Restore") {
        all.push(variable(TRACEPARENT, &traceparent(RunTrace::of(&owner.uid))));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Backup;
    use crate::controller::pods::{KIND, NAME, UID};
    use crate::controller::process::Process;

    #[test]
    fn a_pod_says_whose_it_is_and_what_the_user_says_changes_none_of_it() {
        let backup: Backup = serde_json::from_value(json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "first", "namespace": "shop", "uid": "u-1"},
            "spec": {"storeRef": {"name": "orders"}, "source": {"postgres": {"database": "shop", "endpoints": []}}},
        }))
        .unwrap();
        let said = BTreeMap::from([
            (UID.to_owned(), "other".to_owned()),
            (NAME.to_owned(), "other".to_owned()),
            ("team".to_owned(), "shop".to_owned()),
        ]);
        let template =
            PodTemplate { labels: Some(said.clone()), annotations: Some(said), ..PodTemplate::default() };
        let start = Start { process: Process::Worker("eu".into()), order: "plan".into(), attempt: 2 };
        let needs = Needs::on(vec![("region".into(), "eu-west1".into()), ("rack".into(), "7".into())]);
        let labels = BTreeMap::from([("region".to_owned(), "topology.kubernetes.io/region".to_owned())]);
        let job = job(JobOf {
            owner: &Owner::of(&backup),
            start: &start,
            objects: "vouchsafe-1",
            template: &template,
            needs: &needs,
            locality_labels: &labels,
            image: "vouchsafe:1",
            pull_policy: PullPolicy::Never,
            traces: None,
            arguments: vec!["--run".into(), "1".into()],
        });
        let owners = job.metadata.owner_references.clone().unwrap();
        assert_eq!((owners.len(), &*owners[0].uid, owners[0].controller), (1, "u-1", Some(true)));
        let spec = job.spec.unwrap();
        assert_eq!(spec.ttl_seconds_after_finished, Some(259_200), "its logs are there after a weekend");
        let template = spec.template;
        let metadata = template.metadata.unwrap();
        let (labels, annotations) = (metadata.labels.unwrap(), metadata.annotations.unwrap());
        assert_eq!((&*labels[UID], &*labels["team"]), ("u-1", "shop"));
        let told = [KIND, NAME, PROCESS, ORDER, ATTEMPT].map(|it| annotations[it].as_str());
        assert_eq!(told, ["Backup", "first", "worker-eu", "plan", "2"]);
        let pod = json!(template.spec.unwrap());
        let container = &pod["containers"][0];
        assert_eq!(container["args"], json!(["worker", "--run", "1"]));
        assert_eq!(pod["automountServiceAccountToken"], json!(false));
        let terms = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let keys = terms["nodeSelectorTerms"][0]["matchExpressions"].as_array().unwrap();
        let keys: Vec<&str> = keys.iter().map(|it| it["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["topology.kubernetes.io/region", "rack"]);
    }

    #[test]
    fn processes_of_one_run_are_told_of_one_trace_and_credentials_stay_in_their_secret() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318".to_owned());
        let traces =
            PodTraces { variables: vec![endpoint], headers: Some(("otlp".into(), "headers".into())) };
        let owner = |kind: &str, uid: &str| {
            let mut backup: Backup = serde_json::from_value(json!({
                "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
                "metadata": {"name": "first", "namespace": "shop", "uid": uid},
                "spec": {"storeRef": {"name": "o"}, "source": {"postgres": {"database": "d", "endpoints": []}}},
            }))
            .unwrap();
            backup.metadata.generation = Some(1);
            Owner { kind: kind.to_owned(), ..Owner::of(&backup) }
        };
        let environment = |owner: &Owner, process: Process| {
            let start = Start { process, order: "o".into(), attempt: 1 };
            let (needs, labels) = (Needs::on(Vec::new()), BTreeMap::new());
            let template = PodTemplate::default();
            let job = job(JobOf {
                owner,
                start: &start,
                objects: "vouchsafe-1",
                template: &template,
                needs: &needs,
                locality_labels: &labels,
                image: "vouchsafe:1",
                pull_policy: PullPolicy::Never,
                traces: Some(&traces),
                arguments: Vec::new(),
            });
            let pod = json!(job.spec.unwrap().template.spec.unwrap());
            pod["containers"][0]["env"].as_array().unwrap().clone()
        };
        let of = |environment: &[Value], name: &str| {
            environment.iter().find(|it| it["name"] == name).map(|it| it["value"].clone())
        };
        let worker = environment(&owner("Backup", "u-1"), Process::Worker("eu".into()));
        let verifier = environment(&owner("Backup", "u-1"), Process::Verifier("eu".into()));
        assert_eq!(of(&worker, TRACEPARENT), Some(json!(RunTrace::of("u-1").traceparent(true))));
        assert_eq!(of(&worker, TRACEPARENT), of(&verifier, TRACEPARENT));
        assert_eq!(of(&worker, "OTEL_EXPORTER_OTLP_ENDPOINT"), Some(json!("http://collector:4318")));
        let headers = worker.iter().find(|it| it["name"] == HEADERS).unwrap();
        let from = json!({"secretKeyRef": {"name": "otlp", "key": "headers", "optional": true}});
        assert_eq!((&headers["valueFrom"], headers.get("value")), (&from, None));
        let other = environment(&owner("Backup", "u-2"), Process::Worker("eu".into()));
        assert_ne!(of(&worker, TRACEPARENT), of(&other, TRACEPARENT));
        let prober = environment(&owner("BackupStore", "u-3"), Process::Prober("eu".into()));
        assert_eq!(of(&prober, TRACEPARENT), None);
    }
}
