//! Jobs whose pods are refused, before a real API server with Kubernetes' own Job controller.

use std::time::Duration;

use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use testbed::ApiServer;

use super::*;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const NAMESPACE: &str = "default";

/// What somebody says no by, and what of its words is to be in the status.
struct No {
    name: &'static str,
    objects: Vec<serde_json::Value>,
    words: &'static [&'static str],
}

fn all() -> [No; 2] {
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "no-pods"},
    "spec": {"failurePolicy": "Fail", "validations": [{"expression": "false", "message": "not on a Sunday"}],
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]}}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no-pods"},
        "spec": {"policyName": "no-pods", "validationActions": ["Deny"]}});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": NAMESPACE}, "spec": {"hard": {"pods": "0"}}});
    [
        No { name: "quota", objects: vec![quota], words: &["exceeded quota: few", "requested: pods=1"] },
        No { name: "policy", objects: vec![policy, binding], words: &["no-pods", "not on a Sunday"] },
    ]
}

fn kubectl(server: &ApiServer, words: &[&str], object: Option<&serde_json::Value>) {
    use std::io::Write;
    let mut child =
        server.kubectl().args(words).stdin(std::process::Stdio::piped()).spawn().expect("kubectl runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    if let Some(object) = object {
        stdin.write_all(object.to_string().as_bytes()).expect("kubectl reads");
    }
    drop(stdin);
    assert!(child.wait().expect("kubectl ends").success(), "{words:?}");
}

fn job(name: &str) -> Job {
    let metadata = json!({
        "name": name, "labels": {UID: "u-1"},
        "annotations": {PROCESS: "coordinator", ORDER: "run", ATTEMPT: "1"},
        "ownerReferences": [{"apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup", "name": "first",
            "uid": "u-1", "controller": true}],
    });
    let container = json!({"name": "vouchsafe", "image": "vouchsafe"});
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
    let spec = json!({"backoffLimit": 0, "template": template});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// Tries out a pod until it is refused with `words`.
async fn in_force(server: &ApiServer, words: &str) {
    let tried = async {
        let words_of = ["run", "asked", "--image=vouchsafe", "--dry-run=server"];
        loop {
            let output = server.kubectl().args(words_of).output().expect("kubectl runs");
            if String::from_utf8_lossy(&output.stderr).contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("it comes into force");
}

/// Asks until the Job says why it has no pod.
async fn refused(client: &Client, name: &str) -> Failure {
    let asked = async {
        loop {
            let seen = of_resource(client, NAMESPACE, "u-1").await.unwrap();
            let one = seen.into_iter().find(|job| job.name == name).expect("the Job is there");
            match one.state {
                JobState::Waiting(Some(failure)) => return failure,
                JobState::Waiting(None) => tokio::time::sleep(Duration::from_millis(200)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it says why")
}

#[tokio::test]
async fn whoever_refuses_a_pod_is_named_with_the_words() {
    // Its own: Kubernetes' controllers would have a hand in other tests' Jobs.
    let server = ApiServer::start();
    server.start_controllers(&["job-controller", "serviceaccount-controller", "resourcequota-controller"]);
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    for No { name, objects, words } in all() {
        for object in &objects {
            kubectl(&server, &["apply", "-f", "-"], Some(object));
        }
        in_force(&server, words[0]).await;
        jobs.create(&PostParams::default(), &job(name)).await.unwrap();
        let failure = refused(&client, name).await;
        assert_eq!(failure.reason, "PodRefused");
        for word in words {
            assert!(failure.message.contains(word), "{word}: {failure:?}");
        }
        assert!(!failure.message.contains(&format!("{name}-")), "no pod's name: {failure:?}");
        let kinds = objects.iter().map(|it| it["kind"].as_str().unwrap());
        for (kind, object) in kinds.zip(&objects) {
            kubectl(&server, &["delete", kind, object["metadata"]["name"].as_str().unwrap()], None);
        }
    }
}

/// A pod of a node that does not answer is deleted, and stays: running, as far as anybody was told.
#[test]
fn a_deleted_pod_runs_until_its_node_has_had_its_time() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "deletionTimestamp": "2026-11-22T06:00:30Z"},
        "spec": {"nodeName": "b", "containers": []},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "vouchsafe", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-11-22T05:00:00Z"}},
        }]},
    }))
    .unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let state = |now: &str| state(&Job::default(), Some(&pod), at(now));
    let given_up_at = Some(at("2026-11-22T06:01:00Z"));
    let running = JobState::Running { node: Some("b".into()), given_up_at };
    assert_eq!(state("2026-11-22T06:00:00Z"), running);
    assert_eq!(state("2026-11-22T06:00:59Z"), running);
    assert!(matches!(state("2026-11-22T06:01:00Z"), JobState::Ended { word: None, .. }));
}

/// A kubelet that rejects a pod says when neither in the container nor anywhere else of it.
#[test]
fn an_end_has_a_time_whoever_tells_it() {
    let made = "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap();
    let mut ended = job("one");
    ended.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "creationTimestamp": "2026-11-20T10:00:05Z"},
        "status": {"phase": "Failed", "reason": "OutOfcpu"}
    }))
    .unwrap();
    let at = |job: &Job, pod: Option<&Pod>| match state(job, pod, made) {
        JobState::Ended { at, .. } => at.map(|at| at.duration_since(made).as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(at(&ended, Some(&pod)), Some(5));
    ended.status = serde_json::from_value(json!({"conditions": [
        {"type": "Failed", "status": "True", "lastTransitionTime": "2026-11-20T10:00:09Z"}]}))
    .unwrap();
    assert_eq!(at(&ended, Some(&pod)), Some(9));
    assert_eq!(at(&ended, None), Some(9));
}
