//! An API server with Vouchsafe installed as its kustomization says, and what the controller's account asks of it.

use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use testbed::ApiServer;

use crate::controller::Controller;

/// The namespace of stores, schedules and Backups.
pub(crate) const NAMESPACE: &str = "shop";

/// Where the installation puts the controller, and its Lease.
pub(crate) const CONTROLLERS: &str = "vouchsafe-system";

/// How long nothing is asked for by a controller that has done everything. It comes back to nothing sooner than
/// after a minute, but for what fails.
const QUIET: Duration = Duration::from_secs(5);

/// Within this time a controller has done everything that thousands of new schedules ask for, on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(900);

/// One installation.
pub(crate) struct Cluster {
    server: ApiServer,
    /// The administrator.
    pub(crate) client: Client,
}

/// One request that was answered.
#[derive(Debug)]
pub(crate) struct Request {
    /// `get`, `list`, `watch`, `create` and so on.
    pub(crate) verb: String,
    /// Its path, with what was asked for.
    pub(crate) uri: String,
}

impl Request {
    /// Whether it asked for a change.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

impl Cluster {
    /// Its own, since requests are counted.
    pub(crate) async fn start() -> Self {
        let server = ApiServer::start_audited();
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let cluster = Self { server, client };
        let kustomization = concat!(env!("CARGO_MANIFEST_DIR"), "/config/cluster");
        cluster.kubectl(&["apply", "--server-side", "-k", kustomization]);
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
        cluster.kubectl(&["create", "namespace", NAMESPACE]);
        cluster
    }

    /// Starts the controller as its Deployment does, under its account and with its Lease.
    pub(crate) fn controller(&self) -> Controller {
        let kubeconfig = self.server.kubeconfig_of_account(CONTROLLERS, "vouchsafe");
        Controller::start(&kubeconfig, CONTROLLERS)
    }

    /// kubectl as the administrator, which must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        done(self.server.kubectl().args(arguments))
    }

    /// Waits until the controller has asked for nothing for a while.
    pub(crate) async fn settles(&self) {
        let (deadline, mut seek) = (Instant::now() + SETTLED_WITHIN, 0);
        loop {
            let since = Timestamp::now();
            tokio::time::sleep(QUIET).await;
            let asked = self.asked(since, Timestamp::now(), &mut seek);
            if asked.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "it goes on asking: {asked:#?}");
        }
    }

    /// What the controller's account has asked for between two moments, in order; without its Lease.
    ///
    /// `seek` is where in the log to begin, and where it was read to; the log of a large cluster is long.
    pub(crate) fn asked(&self, from: Timestamp, to: Timestamp, seek: &mut u64) -> Vec<Request> {
        let mut file = BufReader::new(std::fs::File::open(self.server.audit_log()).unwrap());
        file.seek(SeekFrom::Start(*seek)).unwrap();
        let mut asked = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            let read = file.read_line(&mut line).unwrap();
            if read == 0 || !line.ends_with('\n') {
                return asked;
            }
            *seek += read as u64;
            let event: Value = serde_json::from_str(&line).unwrap();
            let text = |at: &str| event.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let when: Timestamp = text("/requestReceivedTimestamp").parse().unwrap();
            let ours = text("/user/username") == format!("system:serviceaccount:{CONTROLLERS}:vouchsafe");
            // A watch is told of twice: when it begins, and when it ends.
            let counts = text("/stage") == "ResponseComplete" && text("/verb") != "watch"
                || text("/stage") == "ResponseStarted" && text("/verb") == "watch";
            let lease = text("/objectRef/resource") == "leases";
            if ours && counts && !lease && (from..to).contains(&when) {
                let (verb, uri) = (text("/verb").to_owned(), text("/requestURI").to_owned());
                asked.push(Request { verb, uri });
            }
        }
    }
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
