//! Candidates before a real API server: one is killed, one stands still, one lets go, and one writes too late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;

use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use testbed::{ApiServer, shared_api_server};
use tokio::sync::oneshot;

use super::candidate::Record;
use super::*;

/// A tenth of what controllers have, but for the whole second that a Lease counts in.
const SHORT: Timing = Timing {
    duration: Duration::from_secs(2),
    renew_within: Duration::from_millis(1_300),
    retry: Duration::from_millis(200),
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn client(server: &ApiServer) -> Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

/// Who leads, as each says itself.
#[derive(Clone, Debug)]
struct Leaders(watch::Sender<BTreeMap<String, bool>>);

impl Leaders {
    fn new() -> Arc<Self> {
        Arc::new(Self(watch::channel(BTreeMap::new()).0))
    }

    async fn until(&self, wanted: impl Fn(&[&str]) -> bool) -> Vec<String> {
        let mut told = self.0.subscribe();
        let all = |map: &BTreeMap<String, bool>| -> Vec<String> {
            map.iter().filter(|(_, leads)| **leads).map(|(name, _)| name.clone()).collect()
        };
        let fits =
            |map: &BTreeMap<String, bool>| wanted(&all(map).iter().map(String::as_str).collect::<Vec<_>>());
        let found = timeout(PATIENCE, told.wait_for(fits)).await.expect("in time").expect("a sender");
        all(&found)
    }

    fn say(&self, name: &str, leads: bool) {
        self.0.send_modify(|map| {
            map.insert(name.to_owned(), leads);
        });
    }
}

/// Begins as a candidate whose work ends when it is told to; ends the candidate's task when dropped.
struct Begun {
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Ended>,
}

fn election(namespace: &str, name: &str) -> Election {
    Election {
        namespace: namespace.to_owned(),
        name: NAME.to_owned(),
        identity: name.to_owned(),
        timing: SHORT,
    }
}

fn begin(client: &Client, namespace: &str, name: &'static str, leaders: &Arc<Leaders>) -> Begun {
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = stopped.map(drop).boxed().shared();
    let leaders = leaders.clone();
    let signs = move |sign| {
        if let Sign::Leads(leads) = sign {
            leaders.say(name, leads);
        }
    };
    let work = |stop: Stop| stop;
    let task = tokio::spawn(lead(client.clone(), election(namespace, name), stopped, signs, work));
    Begun { stop: Some(stop), task }
}

impl Begun {
    async fn stop(mut self) -> Ended {
        drop(self.stop.take());
        timeout(PATIENCE, self.task).await.expect("in time").expect("no panic")
    }
}

async fn held(client: &Client, namespace: &str) -> Record {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    record(&api.get(NAME).await.expect("a Lease"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_other_when_the_first_lets_go_or_is_killed() {
    let server = shared_api_server();
    let client = client(server).await;
    let namespace = server.fresh_namespace("leads");
    let leaders = Leaders::new();
    let a = begin(&client, &namespace, "a", &leaders);
    leaders.until(|all| all == ["a"]).await;
    let b = begin(&client, &namespace, "b", &leaders);
    // Renewed while b asks: by several renewals, and a stays.
    let first = held(&client, &namespace).await;
    let mut now = first.clone();
    while now.version.parse::<u64>().unwrap() < first.version.parse::<u64>().unwrap() + 4 {
        now = held(&client, &namespace).await;
        assert_eq!((now.holder.as_deref(), now.transitions), (Some("a"), 0));
        tokio::task::yield_now().await;
    }
    // Lets go: nobody waits for its term to end.
    assert_eq!(a.stop().await, Ended::Stopped);
    leaders.until(|all| all == ["b"]).await;
    let of_b = held(&client, &namespace).await;
    assert_eq!((of_b.holder.as_deref(), of_b.transitions), (Some("b"), 1));
    // Killed: no farewell, and the next waits the whole duration.
    let c = begin(&client, &namespace, "c", &leaders);
    b.task.abort();
    assert!(b.task.await.is_err());
    leaders.say("b", false);
    leaders.until(|all| all == ["c"]).await;
    assert_eq!(held(&client, &namespace).await.transitions, 2);
    assert_eq!(c.stop().await, Ended::Stopped);
    assert_eq!(held(&client, &namespace).await.holder, None);
}

/// A process that stands still past its term, as a frozen node has it, with everything that it does in one thread.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_stood_still_finds_itself_deposed_and_its_write_is_refused() {
    let server = shared_api_server();
    let client = client(server).await;
    let namespace = server.fresh_namespace("stalls");
    let leaders = Leaders::new();
    let (freeze, frozen) = oneshot::channel::<()>();
    let (thaw, thawed) = mpsc::channel::<()>();
    let (of, ns) = (leaders.clone(), namespace.clone());
    let kubeconfig = server.kubeconfig();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
            let options = KubeConfigOptions::default();
            let config =
                kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
            let client = Client::try_from(config).expect("a client");
            let a = begin(&client, &ns, "a", &of);
            frozen.await.expect("a word");
            // The last that it knows of the Lease is what it will write over.
            let known = Api::<Lease>::namespaced(client.clone(), &ns).get(NAME).await.expect("a Lease");
            thawed.recv().expect("a word");
            // What a deposed leader had begun: a write with the version that it knew.
            let late =
                Api::<Lease>::namespaced(client, &ns).replace(NAME, &PostParams::default(), &known).await;
            of.until(|all| all == ["b"]).await;
            (late, a.stop().await)
        })
    });
    leaders.until(|all| all == ["a"]).await;
    let b = begin(&client, &namespace, "b", &leaders);
    freeze.send(()).expect("a listener");
    leaders.until(|all| all.contains(&"b")).await;
    thaw.send(()).expect("a listener");
    let (late, ended) =
        tokio::task::spawn_blocking(move || thread.join().expect("no panic")).await.expect("ends");
    let Err(kube::Error::Api(refused)) = late else { panic!("written by a deposed leader: {late:?}") };
    assert_eq!(refused.code, 409, "{refused:?}");
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(held(&client, &namespace).await.holder.as_deref(), Some("b"), "b leads on");
    b.stop().await;
}

/// The API server goes away: the term runs out by itself, without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_an_api_server_stops_and_leads_again_when_it_is_back() {
    let server = ApiServer::start();
    let client = client(&server).await;
    let namespace = server.fresh_namespace("dark");
    let leaders = Leaders::new();
    let a = begin(&client, &namespace, "a", &leaders);
    leaders.until(|all| all == ["a"]).await;
    server.kill9();
    leaders.until(|all| all.is_empty()).await;
    server.restart();
    leaders.until(|all| all == ["a"]).await;
    assert_eq!(a.stop().await, Ended::Stopped);
}

/// The server-side apply of a status by one who has not seen the newest version.
#[tokio::test(flavor = "multi_thread")]
async fn an_apply_of_an_older_version_is_refused() {
    let server = shared_api_server();
    let client = client(server).await;
    let namespace = server.fresh_namespace("applies");
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let wanted = |holder: &str, version: Option<String>| {
        serde_json::json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "applied", "resourceVersion": version}, "spec": {"holderIdentity": holder}})
    };
    let parameters = PatchParams::apply("test").force();
    let apply = async |holder: &str, version| {
        api.patch("applied", &parameters, &Patch::Apply(wanted(holder, version))).await
    };
    let first = apply("a", None).await.expect("created");
    apply("b", first.metadata.resource_version.clone()).await.expect("of the newest version");
    let Err(kube::Error::Api(refused)) = apply("a", first.metadata.resource_version).await else {
        panic!("an older version was written over a newer")
    };
    assert_eq!(refused.code, 409);
}
