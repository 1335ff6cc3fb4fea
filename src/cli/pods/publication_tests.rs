//! Publications of several attempts of one Backup, before a real API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use testbed::{ApiServer, shared_api_server};
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> &'static ApiServer {
    let server = shared_api_server();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    for words in [
        &["apply", "--server-side", "-f", crds][..],
        &["wait", "--for=condition=Established", "--timeout=60s", "-f", crds],
    ] {
        let output = server.kubectl().args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    server
}

/// A Backup, and publications of two attempts of its coordinator.
struct World {
    api: Api<Backup>,
    first: Arc<Publication>,
    second: Arc<Publication>,
}

impl World {
    async fn new() -> Self {
        let server = server();
        let namespace = server.fresh_namespace("publications");
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let api: Api<Backup> = Api::namespaced(client.clone(), &namespace);
        let backup: Backup = serde_json::from_value(json!({
            "apiVersion": api::API_VERSION, "kind": "Backup", "metadata": {"name": "first"},
            "spec": {"storeRef": {"name": "orders"}, "source": {"postgres": {"database": "shop", "endpoints": [
                {"name": "eu", "host": "pg", "credentialsSecret": {"name": "pg"}}]}}},
        }))
        .unwrap();
        let made = api.create(&PostParams::default(), &backup).await.unwrap();
        let identity = Identity { name: "first".into(), namespace: Some(namespace), uid: made.uid() };
        let of = |attempt| Arc::new(Publication::with(client.clone(), &identity, attempt));
        Self { api, first: of(1), second: of(2) }
    }

    async fn run(&self) -> RunStatus {
        self.api.get("first").await.unwrap().run().cloned().unwrap_or_default()
    }

    async fn set_status(&self, status: Value) {
        let patch = json!({"status": status});
        self.api.patch_status("first", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
}

async fn asks(publication: &Publication, nonce: &str) -> Result<(), EngineError> {
    let nonce = nonce.to_owned();
    let asked = publication.publish(|run| {
        run.number = Some(7);
        run.nonce = Some(nonce);
        run.step = Some("Verifying".into());
    });
    timeout(PATIENCE, asked).await.unwrap()
}

fn is_lost<T>(done: &Result<T, EngineError>) -> bool {
    matches!(done, Err(EngineError::LostTurn { run: 7, attempt: 1 }))
}

/// The one that was cut off comes back, with questions of its own and with mere progress.
#[tokio::test]
async fn a_late_write_of_an_earlier_attempt_changes_nothing() {
    let world = World::new().await;
    asks(&world.first, "one").await.unwrap();
    asks(&world.second, "two").await.unwrap();
    let published = world.run().await;
    assert_eq!((published.attempt, published.nonce.as_deref()), (Some(2), Some("two")));

    assert!(matches!(world.first.write().await, Err(WriteError::Overtaken)), "mere progress");
    let late = asks(&world.first, "late").await;
    assert!(is_lost(&late), "{late:?}");
    world.first.completed(7, 1, 1).await;
    let waited: Result<(), EngineError> = timeout(PATIENCE, world.first.wait_for(|_| None)).await.unwrap();
    assert!(is_lost(&waited), "{waited:?}");
    assert_eq!(world.run().await, published);
    // The other goes on.
    asks(&world.second, "three").await.unwrap();
    assert_eq!(world.run().await.nonce.as_deref(), Some("three"));
}

#[tokio::test]
async fn what_was_taken_away_is_written_again_by_whoever_waits() {
    let world = World::new().await;
    asks(&world.second, "two").await.unwrap();
    let was_away = AtomicBool::new(false);
    let back = world.second.wait_for(|own| match own.run() {
        None => {
            was_away.store(true, Ordering::Relaxed);
            None
        }
        Some(run) => was_away.load(Ordering::Relaxed).then(|| Ok(run.clone())),
    });
    let (back, ()) = tokio::join!(timeout(PATIENCE, back), world.set_status(json!({"run": null})));
    let back = back.expect("it is written again").unwrap();
    assert_eq!((back.attempt, back.nonce.as_deref()), (Some(2), Some("two")));
}

/// The controller writes to the same status all the time, and either has to come through.
#[tokio::test]
async fn writes_of_others_in_between_cost_no_publication() {
    let world = World::new().await;
    let controller = async {
        for number in 0..40 {
            world.set_status(json!({"observedGeneration": number})).await;
        }
    };
    let coordinator = async {
        for number in 0..20 {
            asks(&world.first, &number.to_string()).await.unwrap();
        }
    };
    tokio::join!(controller, coordinator);
    let found = world.api.get("first").await.unwrap().status.unwrap();
    assert_eq!(found.observed_generation, Some(39));
    assert_eq!(found.run.unwrap().nonce.as_deref(), Some("19"));
}
