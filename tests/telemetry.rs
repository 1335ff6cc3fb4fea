//! The controller as others see it: two processes before a real Kubernetes API server, their pages, their logs, and
//! the events on the object.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]
#![allow(unreachable_pub, reason = "shared with another test")]

#[path = "engine/receiver.rs"]
mod receiver;

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use receiver::Receiver;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::{ApiServer, shared_api_server};
use vouchsafe::telemetry::run_trace::RunTrace;

/// Longer than anything here takes on a busy machine; the longest is a Lease that runs out, of 15 s.
const PATIENCE: Duration = Duration::from_secs(60);

const BACKUP: &str = "
apiVersion: vouchsafe.dev/v1alpha1
kind: Backup
metadata: {name: first}
spec:
  storeRef: {name: missing}
  source:
    postgres:
      database: shop
      endpoints: [{name: eu, host: pg, credentialsSecret: {name: pg}}]
";

/// A controller, killed when it is dropped.
struct Controller {
    process: Child,
    log: PathBuf,
}

impl Controller {
    fn start(server: &ApiServer, namespace: &str, name: &str) -> Self {
        Self::start_with(server, namespace, name, &[])
    }

    /// The same with variables of its own.
    fn start_with(server: &ApiServer, namespace: &str, name: &str, environment: &[(&str, &str)]) -> Self {
        let log = server.kubeconfig().with_file_name(format!("{namespace}-{name}.log"));
        let stderr = std::fs::File::create(&log).expect("a log");
        let process = Command::new(env!("CARGO_BIN_EXE_vouchsafe"))
            .args(["controller", "--image", "example.com/vouchsafe:0", "--namespace", namespace])
            .args(["--leader-election-namespace", namespace])
            .args(["--metrics-address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"])
            .env("KUBECONFIG", server.kubeconfig())
            .env("VOUCHSAFE_LOG", "info")
            .env("HOSTNAME", name)
            .env_remove("VOUCHSAFE_LOG_FORMAT")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the controller");
        Self { process, log }
    }

    /// Every whole line of the log, which is JSON without being asked for: nobody looks on.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).expect("a log");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parsed =
            whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
        parsed.collect()
    }

    fn address(&self, option: &str) -> String {
        let said = || self.lines().into_iter().find(|line| line["message"] == option);
        until(option, || said().and_then(|line| Some(line["address"].as_str()?.to_owned())))
    }

    fn page(&self, option: &str, path: &str) -> String {
        let address = self.address(option);
        let mut stream = TcpStream::connect(&address).expect("a page");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn metrics(&self) -> String {
        self.page("--metrics-address", "/metrics")
    }

    fn ready(&self) -> String {
        self.page("--health-address", "/readyz")
    }

    fn leads(&self) -> bool {
        self.metrics().contains("vouchsafe_leader 1\n")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a signal");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// What `look` finds in the end.
#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn until_so(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}

#[track_caller]
fn kubectl(server: &ApiServer, words: &[&str], input: &str) -> String {
    let mut command = server.kubectl();
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("kubectl");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A namespace of its own, with our kinds.
fn ground(stem: &str) -> (&'static ApiServer, String) {
    let server = shared_api_server();
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    kubectl(server, &["apply", "--server-side", "-f", &crds.display().to_string()], "");
    kubectl(server, &["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "");
    (server, server.fresh_namespace(stem))
}

#[track_caller]
fn contains(text: &str, part: &(impl AsRef<str> + Debug)) {
    assert!(text.contains(part.as_ref()), "{part:?} is not in:\n{text}");
}

#[test]
fn one_of_two_works_and_says_so_and_the_other_takes_over() {
    let (server, namespace) = ground("seen");
    let first = Controller::start(server, &namespace, "first");
    until_so("the first leads", || first.leads());
    until_so("all is listed", || first.ready().contains("works"));
    let second = Controller::start(server, &namespace, "second");
    until_so("the second stands by", || second.ready().contains("stands by"));
    contains(&second.metrics(), &"vouchsafe_leader 0\n");
    contains(&second.page("--health-address", "/healthz"), &"200 OK");

    kubectl(server, &["apply", "-n", &namespace, "-f", "-"], BACKUP);
    let pending = "vouchsafe_backups{phase=\"Pending\"} 1";
    until_so("the Backup is counted", || first.metrics().contains(pending));
    let events = || kubectl(server, &["get", "events.v1.events.k8s.io", "-n", &namespace, "-o", "json"], "");
    let waiting = || {
        let all: Value = serde_json::from_str(&events()).expect("JSON");
        let all = all["items"].as_array().expect("a list").clone();
        let ours = |it: &&Value| it["regarding"]["name"] == "first" && it["reason"] == "Waiting";
        all.iter().find(ours).cloned()
    };
    let event = until("an event", waiting);
    assert_eq!((&event["type"], &event["regarding"]["kind"]), (&"Warning".into(), &"Backup".into()));
    contains(event["note"].as_str().expect("a note"), &"StoreNotFound: spec.storeRef");
    assert_eq!(event["reportingInstance"], "first");
    let metrics = first.metrics();
    contains(&metrics, &"vouchsafe_reconcile_total{kind=\"Backup\",result=\"ok\"}");
    contains(&metrics, &"vouchsafe_backup_started_timestamp_seconds{namespace=\"seen-");
    assert!(!second.metrics().contains("vouchsafe_backups{"), "who stands by knows no levels");
    let of_backup =
        |line: &Value| line["span"]["resource"] == "Backup/first" && line["span"]["uid"].is_string();
    assert!(first.lines().iter().any(of_backup), "{:#?}", first.lines());

    // Let go, as when a pod is deleted: the other need not wait for the Lease to run out.
    let asked = Instant::now();
    first.signal(Signal::TERM);
    until_so("the second leads", || second.leads());
    println!("taken over after {:?}", asked.elapsed());
    until_so("and counts the same", || second.metrics().contains(pending));
    let released = |line: &Value| line["message"] == "the Lease is released";
    assert!(first.lines().iter().any(released), "{:#?}", first.lines());
    // Nothing changed, so nothing is told again.
    until_so("reconciled", || {
        second.metrics().contains("vouchsafe_reconcile_total{kind=\"Backup\",result=\"ok\"}")
    });
    assert_eq!(events().matches("\"reason\": \"Waiting\"").count(), 1);
}

#[test]
fn one_that_stood_still_stops_working_when_it_wakes() {
    let (server, namespace) = ground("still");
    let first = Controller::start(server, &namespace, "first");
    until_so("the first leads", || first.leads());
    let second = Controller::start(server, &namespace, "second");
    until_so("the second stands by", || second.ready().contains("stands by"));
    first.signal(Signal::STOP);
    until_so("the second leads", || second.leads());
    first.signal(Signal::CONT);
    until_so("the first finds out", || !first.leads());
    until_so("and stands by", || first.ready().contains("stands by"));
    assert!(second.leads());
    let ended = |line: &Value| line["message"] == "leads no longer";
    assert!(first.lines().iter().any(ended), "{:#?}", first.lines());
}

#[test]
fn a_run_is_one_trace_from_its_uid_and_ends_with_the_span_above_all() {
    let (server, namespace) = ground("traced");
    let receiver = Receiver::listen(false);
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver.endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let controller = Controller::start_with(server, &namespace, "first", &environment);
    kubectl(server, &["apply", "-n", &namespace, "-f", "-"], BACKUP);
    let get = || {
        let words = ["get", "backups.vouchsafe.dev", "first", "-n", &namespace, "-o", "json"];
        serde_json::from_str::<Value>(&kubectl(server, &words, "")).expect("JSON")
    };
    until_so("it waits", || get()["status"]["phase"] == "Pending");
    let cancel = ["patch", "backups.vouchsafe.dev", "first", "-n", &namespace, "--type=merge", "-p"];
    kubectl(server, &[&cancel[..], &["{\"spec\":{\"cancel\":true}}"]].concat(), "");
    until_so("it has ended", || get()["status"]["phase"] == "Canceled");
    let trace = RunTrace::of(get()["metadata"]["uid"].as_str().expect("a UID"));
    let whole =
        until("the span of all", || receiver.spans().into_iter().find(|seen| seen.span.name == "backup"));
    assert_eq!(whole.span.trace_id, trace.trace.to_be_bytes());
    assert_eq!(whole.span.span_id, trace.root.to_be_bytes());
    assert!(whole.span.parent_span_id.is_empty() && whole.service == "vouchsafe-controller", "{whole:?}");
    assert_eq!(whole.field("resource").as_deref(), Some("Backup/first"));
    let decided: Vec<_> = receiver.spans().into_iter().filter(|seen| seen.span.name == "reconcile").collect();
    assert!(!decided.is_empty());
    for seen in &decided {
        assert_eq!(seen.span.parent_span_id, trace.root.to_be_bytes(), "{seen:?}");
        assert_eq!(seen.span.trace_id, trace.trace.to_be_bytes(), "{seen:?}");
    }
    // Idle looks are not told: the controller looks at it again and again.
    assert!(decided.len() < 8, "{decided:#?}");
    // What the controller ends with is sent before it ends.
    controller.signal(Signal::TERM);
}
