//! A real Kubernetes API server on etcd, without nodes.

mod kubeconfig;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::spawn::{As, PATIENCE, POLL, Running, tail, tethered};
use crate::template::{output, run};
use crate::tls::{self, Certificates};
use crate::{ports, scratch, tools};

/// How often servers that found a port taken are started on others.
const PORT_ATTEMPTS: u32 = 5;

/// What the administrator shows the API server.
const ADMIN_TOKEN: &str = "testbed-admin";

/// What the controller manager shows it.
const CONTROLLER_MANAGER_TOKEN: &str = "testbed-controller-manager";

/// Who asked for what and when, without the objects; of a watch when it begins, of all else when it ends.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// An API server of its own on an etcd of its own: RBAC, the admission plugins that are on by default, no nodes,
/// and no controllers unless [`Self::start_controllers`] starts them. So nothing makes pods of Jobs, nothing
/// collects garbage, nothing finishes the deletion of a namespace, and no role is aggregated.
///
/// Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct ApiServer {
    folder: PathBuf,
    certificates: Certificates,
    /// Atomic because the first ones may turn out to be taken.
    port: AtomicU16,
    etcd_port: AtomicU16,
    audited: bool,
    etcd: Mutex<Option<Running>>,
    server: Mutex<Option<Running>>,
    controllers: Mutex<Option<Running>>,
}

/// The API server that all tests of this process share, started on first use. Tests keep apart by namespaces
/// ([`ApiServer::fresh_namespace`]) and by their own names of cluster-wide objects.
pub fn shared() -> &'static ApiServer {
    static SERVER: OnceLock<ApiServer> = OnceLock::new();
    SERVER.get_or_init(ApiServer::start)
}

impl ApiServer {
    /// Starts both servers, empty, and waits until they are ready: about ten seconds.
    ///
    /// # Panics
    /// With the log of the one that doesn't start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// As [`Self::start`] does, with every answered request written down: see [`Self::audit_log`].
    ///
    /// # Panics
    /// With the log of the one that doesn't start.
    #[must_use]
    pub fn start_audited() -> Self {
        Self::start_with(true)
    }

    fn start_with(audited: bool) -> Self {
        let folder = scratch::new_folder("kubernetes");
        let certificates = tls::make(&folder);
        run(Command::new("openssl")
            .current_dir(&folder)
            // Not genpkey: Kubernetes takes public keys out of the traditional form only.
            .args(["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", "accounts.key"]));
        write(
            &folder.join("tokens.csv"),
            &format!(
                "{ADMIN_TOKEN},admin,admin,\"system:masters\"\n\
                 {CONTROLLER_MANAGER_TOKEN},system:kube-controller-manager,controller-manager\n"
            ),
        );
        write(&folder.join("audit.yaml"), AUDIT_POLICY);
        let server = Self {
            folder,
            certificates,
            port: AtomicU16::new(0),
            etcd_port: AtomicU16::new(0),
            audited,
            etcd: Mutex::new(None),
            server: Mutex::new(None),
            controllers: Mutex::new(None),
        };
        on_free_port("etcd", &server.etcd_port, || server.launch_etcd());
        on_free_port("kube-apiserver", &server.port, || server.launch());
        server
    }

    /// `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port())
    }

    /// Its port; stays the same over [`Self::restart`].
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::SeqCst)
    }

    /// The certificate of the authority that signed the server's, in PEM.
    pub fn authority(&self) -> &Path {
        &self.certificates.authority
    }

    /// `http://127.0.0.1:<port>` of its etcd, which takes everybody.
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port.load(Ordering::SeqCst))
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Command {
        self.kubectl_with(&self.kubeconfig())
    }

    /// kubectl with a kubeconfig of this server's.
    pub fn kubectl_with(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(tools::tool("kubectl/kubectl"));
        // Its cache of what a server knows is kept at home.
        command.env("HOME", &self.folder).env("NO_PROXY", "*").arg("--kubeconfig").arg(kubeconfig);
        command
    }

    /// Creates a namespace and returns its name: `stem` and a number that no other call in this process gets.
    pub fn fresh_namespace(&self, stem: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        run(self.kubectl().args(["create", "namespace", &name]));
        name
    }

    /// Starts Kubernetes' own controllers beside it: `only` those, by their names, or all that are on by default.
    /// They end with this server.
    ///
    /// # Panics
    /// When they don't start.
    pub fn start_controllers(&self, only: &[&str]) {
        let kubeconfig = self.kubeconfig_of_token("controller-manager", CONTROLLER_MANAGER_TOKEN);
        let mut command = tethered(&program("kube-controller-manager"), As::Myself, "KILL");
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--service-account-private-key-file")
            .arg(self.folder.join("accounts.key"))
            .arg("--root-ca-file")
            .arg(self.authority())
            .args(["--use-service-account-credentials", "--leader-elect=false", "--secure-port=0"]);
        if !only.is_empty() {
            command.arg("--controllers").arg(only.join(","));
        }
        *lock(&self.controllers) = Some(Running::start(command, &self.log_file("kube-controller-manager")));
    }

    /// The process id of the API server.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn pid(&self) -> u32 {
        lock(&self.server).as_ref().map(Running::pid).unwrap_or_else(|| panic!("the API server doesn't run"))
    }

    /// Kills the API server with SIGKILL; etcd goes on, with all that was acknowledged.
    pub fn kill9(&self) {
        if let Some(mut running) = lock(&self.server).take() {
            running.end(Signal::KILL);
        }
    }

    /// Kills the API server if it runs, and starts it on the same port with the same data.
    pub fn restart(&self) {
        self.kill9();
        if let Err(log) = self.launch() {
            panic!("kube-apiserver doesn't start again; its log ends:\n{log}");
        }
    }

    /// What the API server has logged so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_file("kube-apiserver")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The file with one `audit.k8s.io/v1` Event for each request, in JSON and one to a line, in the order of their
    /// ends. A watch has a line of the stage `ResponseStarted` too.
    ///
    /// # Panics
    /// Of a server that was not started by [`Self::start_audited`].
    pub fn audit_log(&self) -> PathBuf {
        assert!(self.audited, "this server writes no request down");
        self.log_file("audit")
    }

    fn log_file(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.log"))
    }

    fn launch_etcd(&self) -> Result<(), String> {
        let mut command = tethered(&program("debian/usr/bin/etcd"), As::Myself, "KILL");
        let (client, peer) = (self.etcd_url(), format!("http://127.0.0.1:{}", ports::free(ports::LOCALHOST)));
        command.arg("--data-dir").arg(self.folder.join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"]);
        let ready = || curl(&["--url", &format!("{client}/health")]).is_some_and(|it| it.contains("true"));
        *lock(&self.etcd) = Some(launched(command, &self.log_file("etcd"), ready)?);
        Ok(())
    }

    fn launch(&self) -> Result<(), String> {
        let mut command = tethered(&program("kube-apiserver"), As::Myself, "KILL");
        let accounts = self.folder.join("accounts.key");
        command
            .args(["--etcd-servers", &self.etcd_url(), "--bind-address", "127.0.0.1"])
            .args(["--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none"])
            .args(["--secure-port", &self.port().to_string(), "--service-cluster-ip-range", "198.19.0.0/24"])
            .args(["--authorization-mode", "Node,RBAC", "--allow-privileged=true"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        for (flag, file) in [
            ("--cert-dir", self.folder.join("certificates")),
            ("--tls-cert-file", self.certificates.certificate.clone()),
            ("--tls-private-key-file", self.certificates.key.clone()),
            ("--token-auth-file", self.folder.join("tokens.csv")),
            ("--service-account-key-file", accounts.clone()),
            ("--service-account-signing-key-file", accounts),
        ] {
            command.arg(flag).arg(file);
        }
        if self.audited {
            command.arg("--audit-policy-file").arg(self.folder.join("audit.yaml"));
            command.arg("--audit-log-path").arg(self.log_file("audit"));
        }
        let authority = self.authority().display().to_string();
        let (header, url) =
            (format!("Authorization: Bearer {ADMIN_TOKEN}"), format!("{}/readyz", self.url()));
        let ready = || {
            curl(&["--cacert", &authority, "--header", &header, "--url", &url]).is_some_and(|it| it == "ok")
        };
        *lock(&self.server) = Some(launched(command, &self.log_file("kube-apiserver"), ready)?);
        Ok(())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in [&self.controllers, &self.server, &self.etcd] {
            if let Some(mut running) = lock(process).take() {
                running.end(Signal::KILL);
            }
        }
        // What is left, the end of the process removes.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A program of Kubernetes' own, of the version that `./dev setup` installed.
fn program(name: &str) -> PathBuf {
    tools::tool(&format!("kubernetes/current/{name}"))
}

fn lock(process: &Mutex<Option<Running>>) -> MutexGuard<'_, Option<Running>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives `port` a free port and launches, until the port wasn't taken by another process meanwhile.
fn on_free_port(name: &str, port: &AtomicU16, launch: impl Fn() -> Result<(), String>) {
    for attempt in 1..=PORT_ATTEMPTS {
        port.store(ports::free(ports::LOCALHOST), Ordering::SeqCst);
        let Err(log) = launch() else { return };
        let taken = log.contains("address already in use");
        assert!(taken && attempt < PORT_ATTEMPTS, "{name} doesn't start; its log ends:\n{log}");
    }
}

/// Starts a server and waits until it is ready; the end of its log when it ended instead.
fn launched(command: Command, log: &Path, ready: impl Fn() -> bool) -> Result<Running, String> {
    let mut running = Running::start(command, log);
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        if running.ended().is_some() {
            return Err(tail(log));
        }
        assert!(
            Instant::now() < deadline,
            "not ready after {PATIENCE:?}; {} ends:\n{}",
            log.display(),
            tail(log)
        );
        thread::sleep(POLL * 10);
    }
    Ok(running)
}

/// What an HTTP server answers with 200; nothing otherwise.
fn curl(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--fail", "--noproxy", "*", "--max-time", "10"]).args(arguments);
    let answer = command.output().unwrap_or_else(|cause| panic!("can't run curl: {cause}; run ./dev setup"));
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|cause| panic!("can't write {}: {cause}", file.display()));
}

/// What `kubectl` wrote, without the newline at its end.
fn answered(command: &mut Command) -> String {
    output(command).trim_end().to_owned()
}
