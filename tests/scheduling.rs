//! The controller against a real API server: its definitions, its server-side apply, its watches, its finalizer, and a
//! clock that nobody turns.
#![allow(clippy::unwrap_used, reason = "a scenario of one test, and its parts")]

#[path = "scheduling/deleting.rs"]
mod deleting;

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use testbed::ApiServer;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vouchsafe::api::{Backup, BackupSchedule, BackupScheduleStatus, ConditionStatus, ScheduledRunState};
use vouchsafe::controller::{self, PullPolicy, Settings};

/// Two ticks of a clock that strikes every minute, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(180);

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn server() -> &'static ApiServer {
    static SERVER: OnceLock<&ApiServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = testbed::shared_api_server();
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        run(server.kubectl().args(["apply", "--server-side", "-f", crds]));
        run(server.kubectl().args(["wait", "--for=condition=Established", "--timeout=60s", "-f", crds]));
        server
    })
}

async fn client() -> Client {
    let kubeconfig = Kubeconfig::read_from(server().kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A controller, until it is stopped.
struct Controller {
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Controller {
    fn start(client: &Client, namespace: &str) -> Self {
        let (stop, stopped) = oneshot::channel();
        let settings = Settings {
            image: "vouchsafe".into(),
            pull_policy: PullPolicy::Never,
            namespaces: vec![namespace.to_owned()],
            traces: None,
        };
        let telemetry = controller::Telemetry::new(Default::default());
        let running = controller::run(client.clone(), settings, telemetry, async move {
            let _ = stopped.await;
        });
        Self { stop, running: tokio::spawn(running) }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }
}

fn template() -> Value {
    json!({"spec": {
        "storeRef": {"name": "not-there"}, "collection": "shop",
        "source": {"postgres": {"database": "shop", "endpoints": [
            {"name": "eu", "host": "pg", "credentialsSecret": {"name": "pg"}}]}},
    }})
}

fn schedule(name: &str, extra: &Value) -> BackupSchedule {
    let mut spec = json!({
        "schedule": "* * * * *", "jitter": "0s", "fullSchedule": "Always", "onFailure": "Reschedule",
        "template": template(),
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let object = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": name}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// Waits until the status of a schedule is as wanted, and answers the schedule.
async fn until(
    schedules: &Api<BackupSchedule>,
    name: &str,
    wanted: impl Fn(&BackupScheduleStatus) -> bool,
) -> BackupSchedule {
    let condition =
        |found: Option<&BackupSchedule>| found.and_then(|it| it.status.as_ref()).is_some_and(&wanted);
    match tokio::time::timeout(PATIENCE, await_condition(schedules.clone(), name, condition)).await {
        Ok(found) => found.unwrap().unwrap(),
        Err(_) => panic!("{name} is not so: {:#?}", schedules.get(name).await.unwrap().status),
    }
}

fn reason(status: &BackupScheduleStatus, type_: &str) -> Option<String> {
    let held = status.conditions.iter().find(|it| it.type_ == type_ && it.status == ConditionStatus::True);
    held.map(|it| it.reason.clone())
}

#[test]
fn schedules_on_a_real_api_server() {
    let namespace = server().fresh_namespace("schedules");
    Runtime::new().unwrap().block_on(scenario(&namespace));
}

async fn scenario(namespace: &str) {
    let client = client().await;
    let schedules: Api<BackupSchedule> = Api::namespaced(client.clone(), namespace);
    let backups: Api<Backup> = Api::namespaced(client.clone(), namespace);
    let create = PostParams::default();
    let long = "a".repeat(253);
    for (name, extra) in [
        ("orders", json!({"startingDeadline": "10m"})),
        (&long, json!({})),
        ("never", json!({"schedule": "0 0 30 2 *"})),
        ("nowhere", json!({"timeZone": "Europe/Berln"})),
        ("denser", json!({"fullSchedule": "@daily"})),
        ("idle", json!({"suspend": true})),
        ("taken", json!({})),
    ] {
        schedules.create(&create, &schedule(name, &extra)).await.unwrap();
    }
    // Names of the next minutes that belong to somebody else.
    let now = jiff::Timestamp::now();
    for minute in 0..10 {
        let tick = now + jiff::SignedDuration::from_mins(minute);
        let name = format!("taken-{}", tick.strftime("%Y%m%d-%H%M"));
        let mut object = json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup"});
        object["metadata"] = json!({"name": name, "labels": {"vouchsafe.dev/schedule": "taken"}});
        object["spec"] = template()["spec"].clone();
        backups.create(&create, &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let controller = Controller::start(&client, namespace);

    for (name, word) in [("never", "NeverDue"), ("nowhere", "TimeZoneUnknown"), ("denser", "NotBuiltYet")] {
        until(&schedules, name, |status| reason(status, "Stalled").is_some_and(|it| it == word)).await;
    }
    let idle =
        until(&schedules, "idle", |status| reason(status, "Ready").is_some_and(|it| it == "Suspended")).await;
    let started = |status: &BackupScheduleStatus| {
        status.last_run.as_ref().is_some_and(|run| run.state == ScheduledRunState::Started)
    };
    until(&schedules, &long, started).await;
    let taken = |status: &BackupScheduleStatus| {
        reason(status, "Reconciling").is_some_and(|it| it == "BackupNameTaken")
    };
    until(&schedules, "taken", taken).await;

    let fired = until(&schedules, "orders", started).await;
    let run = fired.status.as_ref().unwrap().last_run.clone().unwrap();
    let backup = backups.get(&run.name).await.unwrap();
    assert_eq!(backup.labels()["vouchsafe.dev/schedule"], "orders");
    assert_eq!(backup.annotations()["vouchsafe.dev/schedule-uid"], fired.uid().unwrap());
    assert_eq!(backup.annotations()["vouchsafe.dev/tick"], run.tick);
    assert_eq!(backup.owner_references(), []);

    // Another controller finds what the first has made, and makes it no second time.
    controller.stop().await;
    let controller = Controller::start(&client, namespace);
    schedules.create(&create, &schedule("after", &json!({"suspend": true}))).await.unwrap();
    until(&schedules, "after", |status| status.observed_generation == Some(1)).await;
    let of_orders = ListParams::default().labels("vouchsafe.dev/schedule=orders");
    let names: Vec<String> =
        backups.list(&of_orders).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, [run.name.as_str()], "it goes on, so that all others are skipped");

    // It fails, is counted, and the next one starts.
    let failed = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
        "status": {"phase": "Failed", "failure": {"reason": "Unreachable", "message": "m", "hint": "h"}},
    });
    let parameters = PatchParams::apply("tests").force();
    backups.patch_status(&run.name, &parameters, &Patch::Apply(&failed)).await.unwrap();
    let next = until(&schedules, "orders", |status| {
        status.consecutive_failures == Some(1)
            && status.last_run.as_ref().is_some_and(|next| next.tick > run.tick)
            && started(status)
    });
    let next = next.await.status.unwrap().last_run.unwrap();

    // A schedule that is deleted deletes nothing.
    schedules.delete("orders", &kube::api::DeleteParams::default()).await.unwrap();
    for name in [&run.name, &next.name] {
        assert!(backups.get(name).await.unwrap().metadata.deletion_timestamp.is_none());
    }
    let idle_still = schedules.get("idle").await.unwrap();
    assert_eq!(
        idle_still.resource_version(),
        idle.resource_version(),
        "nobody writes to one that stands still"
    );
    let foreign = backups.list(&ListParams::default().labels("vouchsafe.dev/schedule=taken")).await.unwrap();
    assert_eq!(foreign.items.len(), 10, "those of others stay");
    controller.stop().await;
}
