//! An API server with our resources, a namespace for each test, and the program with its kubeconfig.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::{ApiServer, shared_api_server};

pub(crate) const SHA256: &str = "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9";

/// What became of one command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Reason, message and hint of a command that failed with `--output json`.
    #[track_caller]
    pub(crate) fn failure(&self, code: i32) -> [String; 3] {
        assert_eq!(self.code, Some(code), "{self:?}");
        let document = self.json();
        ["reason", "message", "hint"].map(|field| document["failure"][field].as_str().unwrap().to_owned())
    }
}

/// The program, without anything of this machine that says which cluster.
pub(crate) fn vouchsafe(kubeconfig: &Path, words: &[&str]) -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_vouchsafe")), kubeconfig, words)
}

pub(crate) fn program(file: &Path, kubeconfig: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(file);
    command.args(words).env("KUBECONFIG", kubeconfig).env("NO_PROXY", "*");
    command.env_remove("VOUCHSAFE_LOG").env_remove("KUBERNETES_SERVICE_HOST").stdin(Stdio::null());
    command
}

/// The server, once our resources are in it. What `status` said before stays in the second place.
pub(crate) fn server() -> &'static (&'static ApiServer, Ran) {
    static SERVER: OnceLock<(&'static ApiServer, Ran)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = shared_api_server();
        let before =
            vouchsafe(&server.kubeconfig(), &["status", "--output", "json"]).output().unwrap().into();
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        run(server.kubectl().args(["apply", "--server-side", "-f"]).arg(&crds));
        run(server.kubectl().args(["wait", "--for=condition=Established", "--timeout=60s", "-f"]).arg(&crds));
        (server, before)
    })
}

#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace of one test.
pub(crate) struct Space {
    pub(crate) server: &'static ApiServer,
    pub(crate) name: String,
}

impl Space {
    pub(crate) fn new(stem: &str) -> Self {
        let server = server().0;
        Self { server, name: server.fresh_namespace(stem) }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.server.kubeconfig()
    }

    /// `vouchsafe` in this namespace.
    pub(crate) fn vouchsafe(&self, words: &[&str]) -> Ran {
        let mut all = words.to_vec();
        all.extend(["--namespace", &self.name]);
        vouchsafe(&self.kubeconfig(), &all).output().unwrap().into()
    }

    pub(crate) fn vouchsafe_json(&self, words: &[&str]) -> Ran {
        let mut all = words.to_vec();
        all.extend(["--output", "json"]);
        self.vouchsafe(&all)
    }

    pub(crate) fn create(&self, object: &Value) {
        let mut child = (self.server.kubectl())
            .args(["create", "--namespace", &self.name, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{object}");
    }

    pub(crate) fn set_status(&self, object: &str, status: &Value) {
        let patch = json!({"status": status}).to_string();
        let object = object.replacen('/', ".vouchsafe.dev/", 1);
        run(self.server.kubectl().args(["patch", &object, "--namespace", &self.name]).args([
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]));
    }

    pub(crate) fn get(&self, object: &str) -> Value {
        let object = object.replacen('/', ".vouchsafe.dev/", 1);
        let words = ["get", &object, "--namespace", &self.name, "--show-managed-fields", "-o", "json"];
        serde_json::from_str(&run(self.server.kubectl().args(words))).unwrap()
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let kind = format!("{kind}.vouchsafe.dev");
        let words = ["get", &kind, "--namespace", &self.name, "-o", "name"];
        let text = run(self.server.kubectl().args(words));
        text.lines().map(|line| line.split_once('/').unwrap().1.to_owned()).collect()
    }

    pub(crate) fn backup(&self, name: &str) {
        self.create(&resource("Backup", name, backup_spec()));
    }

    /// A Backup as the schedule with this UID makes it.
    pub(crate) fn backup_of_schedule(&self, name: &str, schedule: &str, uid: &Value) -> Value {
        let mut backup = resource("Backup", name, backup_spec());
        backup["metadata"]["labels"] = json!({"vouchsafe.dev/schedule": schedule});
        backup["metadata"]["annotations"] =
            json!({"vouchsafe.dev/schedule-name": schedule, "vouchsafe.dev/schedule-uid": uid});
        backup
    }

    /// A Backup that says it succeeded.
    pub(crate) fn proven_backup(&self, name: &str) {
        self.backup(name);
        self.set_status(&format!("backup/{name}"), &succeeded());
    }

    pub(crate) fn schedule(&self, name: &str) {
        let mut template = backup_spec();
        template["collection"] = "shop".into();
        let metadata = json!({"labels": {"team": "orders"}});
        let spec = json!({"schedule": "@daily", "template": {"metadata": metadata, "spec": template}});
        self.create(&resource("BackupSchedule", name, spec));
    }
}

pub(crate) fn resource(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn backup_spec() -> Value {
    let endpoint = json!({"name": "db", "host": "db", "credentialsSecret": {"name": "login"}});
    json!({"storeRef": {"name": "disk"}, "source": {"postgres": {"database": "shop", "endpoints": [endpoint]}}})
}

pub(crate) fn restore(name: &str) -> Value {
    let target = json!({"host": "db", "database": "back", "credentialsSecret": {"name": "login"}});
    resource("Restore", name, json!({"from": {"backup": "shop-1"}, "target": {"postgres": target}}))
}

/// A status as the controller leaves it after a seal.
pub(crate) fn succeeded() -> Value {
    json!({
        "observedGeneration": 1,
        "phase": "Succeeded",
        "run": {"number": 12, "attempt": 1},
        "progress": {"percent": 100, "rows": 1_234_567, "bytesStored": 45_000_000},
        "resolved": {
            "destinations": [
                {"name": "eu", "url": "s3://shop-eu/pg/shop", "locality": "region=eu-west1"},
                {"name": "us", "url": "s3://shop-us/pg/shop", "locality": "region=us-east1"},
            ],
            "endpoints": [{"name": "db", "host": "db", "serverVersion": "18.1"}],
        },
        "proof": {
            "manifestSha256": SHA256, "objectsRead": 7, "bytesRead": 45_000_000, "rowsCounted": 1_234_567,
            "sealedAt": "2026-11-20T10:00:00Z",
            "witnesses": [{"destination": "eu", "pod": "shop-1-verifier-x", "nonce": "n", "verdictSha256": SHA256}],
        },
    })
}

/// A status of a run that failed for `reason`.
pub(crate) fn failed(reason: &str) -> Value {
    let failure =
        json!({"reason": reason, "message": "public.orders is not as it was", "hint": "look at it"});
    json!({"observedGeneration": 1, "phase": "Failed", "failure": failure})
}

/// Looks until `found` is something.
#[track_caller]
pub(crate) fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "it didn't come within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}
