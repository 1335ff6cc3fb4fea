//! What of a case's namespace is to be seen, as the API server has it, and the kubelet's part of it. Kubernetes' own
//! controllers make the pods of Jobs and take both away.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use testbed::ApiServer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use vouchsafe::api::LastWord;

/// Longer than anything here takes on a busy machine; the longest is a Lease that runs out, of 15 s.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Every kind that is watched: group, version, kind and plural.
const WATCHED: [(&str, &str, &str, &str); 5] = [
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "Pod", "pods"),
    ("vouchsafe.dev", "v1alpha1", "Backup", "backups"),
    ("vouchsafe.dev", "v1alpha1", "BackupStore", "backupstores"),
    ("vouchsafe.dev", "v1alpha1", "Restore", "restores"),
];

/// The API server with our resources and the controllers of Jobs and of what is deleted.
pub fn server() -> &'static ApiServer {
    static SERVER: OnceLock<&ApiServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = testbed::shared_api_server();
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        for words in
            [&["apply", "--server-side"][..], &["wait", "--for=condition=Established", "--timeout=60s"]]
        {
            let output = server.kubectl().args(words).args(["-f", crds]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        server.start_controllers(&["job-controller", "garbage-collector-controller"]);
        server
    })
}

/// The administrator's client. `again`: whether it repeats what was refused for the moment.
pub async fn client(again: bool) -> Client {
    let kubeconfig = Kubeconfig::read_from(server().kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = again;
    Client::try_from(config).unwrap()
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What is there, by kind and name.
    there: BTreeMap<(String, String), Value>,
    /// Every Job that was ever there, by UID.
    pub ever: BTreeMap<String, Value>,
}

impl Seen {
    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.there.get(&(kind.to_owned(), name.to_owned()))
    }

    pub fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.there.iter().filter(move |((of, _), _)| of == kind).map(|(_, object)| object)
    }
}

/// One namespace.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    pub seen: watch::Receiver<Seen>,
    /// Its watches, and the kubelet.
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// A new one.
    pub async fn new(stem: &'static str) -> Self {
        let client = client(true).await;
        let namespace = tokio::task::spawn_blocking(move || server().fresh_namespace(stem)).await.unwrap();
        let (sender, seen) = watch::channel(Seen::default());
        let mut tasks = JoinSet::new();
        for (group, version, kind, plural) in WATCHED {
            let api = dynamic(&client, &namespace, (group, version, kind, plural));
            let sender = sender.clone();
            let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
            tasks.spawn(async move {
                while let Some(event) = events.next().await {
                    // A watch that was cut is begun again, and lists everything.
                    let Ok(event) = event else { continue };
                    sender.send_modify(|seen| seen.learn(kind, event));
                }
            });
        }
        tasks.spawn(kubelet(client.clone(), namespace.clone(), seen.clone()));
        Self { client, namespace, seen, _tasks: tasks }
    }

    /// Creates what `object` says.
    pub async fn create(&self, object: &Value) {
        let kind = object["kind"].as_str().unwrap();
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        self.api(kind).create(&PostParams::default(), &object).await.unwrap();
    }

    /// Changes a resource of ours as its user does.
    pub async fn change(&self, kind: &str, name: &str, patch: &Value) {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Publishes `run` of a resource as its pod does: by its own field manager, whole.
    pub async fn publish(&self, kind: &str, name: &str, manager: &str, run: &Value) {
        let status = json!({"run": run, "progress": {"ticketsSettled": 0}});
        let patch = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "status": status,
        });
        let parameters = PatchParams::apply(manager).force();
        self.api(kind).patch_status(name, &parameters, &Patch::Apply(&patch)).await.unwrap();
    }

    /// What `look` finds in the end.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&Seen) -> Option<T>) -> Result<T, String> {
        let mut seen = self.seen.clone();
        let looking = async {
            loop {
                if let Some(found) = look(&seen.borrow_and_update()) {
                    return found;
                }
                seen.changed().await.expect("watched as long as the namespace is looked at");
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.map_err(|_| format!("not in {PATIENCE:?}: {what}\n{}", self.statuses()))
    }

    fn statuses(&self) -> String {
        let seen = self.seen.borrow();
        let ours = seen.there.iter().filter(|((kind, _), _)| kind.contains("Backup") || kind == "Restore");
        ours.map(|((kind, name), it)| format!("{kind}/{name}: {}\n", it["status"])).collect()
    }

    /// A pod is put on `node`, and runs.
    pub async fn run_pod(&self, name: &str, node: &str) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = format!("/api/v1/namespaces/{}/pods/{name}/binding", self.namespace);
        let request = axum::http::Request::post(path).header("content-type", "application/json");
        let request = request.body(binding.to_string().into_bytes()).unwrap();
        let _: Value = self.client.request(request).await.unwrap();
        let running = json!({"running": {"startedAt": jiff::Timestamp::now()}});
        self.set_pod(name, "Running", &running).await;
    }

    /// A pod's process has ended, with this last word.
    pub async fn end_pod(&self, name: &str, word: &LastWord) {
        let now = jiff::Timestamp::now();
        let ended = json!({"terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": word.text(),
        }});
        self.set_pod(name, "Succeeded", &ended).await;
    }

    async fn set_pod(&self, name: &str, phase: &str, state: &Value) {
        let ready = phase == "Running";
        let container = json!({
            "name": "vouchsafe", "image": "example.com/vouchsafe:0", "imageID": "sha256:0", "restartCount": 0,
            "ready": ready, "started": ready, "state": state,
        });
        let patch = json!({"status": {"phase": phase, "containerStatuses": [container]}});
        self.api("Pod").patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let watched = WATCHED.iter().find(|(_, _, of, _)| *of == kind).unwrap();
        dynamic(&self.client, &self.namespace, *watched)
    }
}

/// Any kind, as JSON.
pub fn dynamic(
    client: &Client,
    namespace: &str,
    (group, version, kind, plural): (&str, &str, &str, &str),
) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

impl Seen {
    fn learn(&mut self, kind: &str, event: watcher::Event<DynamicObject>) {
        let key = |object: &DynamicObject| (kind.to_owned(), object.name_any());
        match event {
            watcher::Event::Init => self.there.retain(|(of, _), _| of != kind),
            watcher::Event::InitDone => {}
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                let value = json!(object);
                if kind == "Job" {
                    self.ever.insert(object.uid().unwrap(), value.clone());
                }
                self.there.insert(key(&object), value);
            }
            watcher::Event::Delete(object) => {
                self.there.remove(&key(&object));
            }
        }
    }
}

/// A pod that is to go is gone at once: its process ends without a word.
async fn kubelet(client: Client, namespace: String, mut seen: watch::Receiver<Seen>) {
    let pods = dynamic(&client, &namespace, WATCHED[1]);
    loop {
        let leaving = |pod: &Value| {
            let leaves = !pod["metadata"]["deletionTimestamp"].is_null();
            leaves.then(|| pod["metadata"]["name"].as_str().unwrap().to_owned())
        };
        let leaving: Vec<String> = seen.borrow_and_update().all("Pod").filter_map(leaving).collect();
        for name in leaving {
            // It may be gone by now, or wait for the finalizer of the Job's controller.
            let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}
