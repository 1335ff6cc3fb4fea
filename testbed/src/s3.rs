//! S3 servers.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::spawn::{As, PATIENCE, POLL, Running, tail, tethered};
use crate::{ports, scratch, tools};

const ACCESS_KEY: &str = "testbed";
const SECRET_KEY: &str = "testbed-secret";
const REGION: &str = "us-east-1";

/// How often a server that found its port taken is started on others.
const PORT_ATTEMPTS: u32 = 5;

/// SHA-256 of nothing: the body of a request that has none.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Which program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum S3Kind {
    Minio,
    SeaweedFs,
}

impl S3Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Minio, Self::SeaweedFs];

    fn program(self) -> PathBuf {
        tools::required(tools::folder().join(match self {
            Self::Minio => "minio/minio",
            Self::SeaweedFs => "seaweedfs/weed",
        }))
    }
}

impl fmt::Display for S3Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minio => "MinIO",
            Self::SeaweedFs => "SeaweedFS",
        })
    }
}

/// An S3 server of its own. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct S3Server {
    kind: S3Kind,
    folder: PathBuf,
    address: IpAddr,
    /// Atomic because the first one may turn out to be taken.
    port: AtomicU16,
    process: Mutex<Option<Running>>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The body, most often XML.
    pub body: String,
}

/// The server of `kind` that all tests of this process share, started on first use. Tests keep apart by
/// buckets.
pub fn shared(kind: S3Kind) -> &'static S3Server {
    static MINIO: OnceLock<S3Server> = OnceLock::new();
    static SEAWEEDFS: OnceLock<S3Server> = OnceLock::new();
    let server = match kind {
        S3Kind::Minio => &MINIO,
        S3Kind::SeaweedFs => &SEAWEEDFS,
    };
    server.get_or_init(|| S3Server::start(kind))
}

impl S3Server {
    /// Starts a server without buckets, and waits until it answers.
    ///
    /// # Panics
    /// With the server's log when it doesn't start.
    #[must_use]
    pub fn start(kind: S3Kind) -> Self {
        Self::start_on(kind, ports::LOCALHOST)
    }

    /// The same on another address of this machine instead of 127.0.0.1, so that others reach it there.
    ///
    /// # Panics
    /// With the server's log when it doesn't start.
    #[must_use]
    pub fn start_on(kind: S3Kind, address: IpAddr) -> Self {
        let folder = scratch::new_folder(match kind {
            S3Kind::Minio => "minio",
            S3Kind::SeaweedFs => "seaweedfs",
        });
        for name in ["data", "home"] {
            let inner = folder.join(name);
            std::fs::create_dir(&inner)
                .unwrap_or_else(|cause| panic!("can't make {}: {cause}", inner.display()));
        }
        let server = Self { kind, folder, address, port: AtomicU16::new(0), process: Mutex::new(None) };
        for attempt in 1..=PORT_ATTEMPTS {
            server.port.store(ports::free(address), Ordering::SeqCst);
            let Err(log) = server.launch() else { break };
            let taken = log.contains("address already in use");
            assert!(taken && attempt < PORT_ATTEMPTS, "{kind} doesn't start; its log ends:\n{log}");
        }
        server
    }

    /// Which program serves.
    pub fn kind(&self) -> S3Kind {
        self.kind
    }

    /// `http://<address>:<port>`. Buckets are named in the path, not in the host.
    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", self.address, self.port())
    }

    /// Its port; stays the same over [`Self::restart`].
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::SeqCst)
    }

    /// The region that requests must be signed for.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// The access key id that may do everything.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Its secret.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Where the server keeps its data, in its own format.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Creates a bucket; names have 3 to 63 characters.
    pub fn create_bucket(&self, name: &str) {
        let response = self.request("PUT", name, &[], None);
        assert!(response.status == 200, "{} refuses to create the bucket {name}: {response:?}", self.kind);
    }

    /// Creates a bucket whose objects can be locked, which turns versioning on too.
    pub fn create_bucket_with_object_lock(&self, name: &str) {
        let response = self.request("PUT", name, &["x-amz-bucket-object-lock-enabled: true"], None);
        assert!(response.status == 200, "{} refuses to create the bucket {name}: {response:?}", self.kind);
    }

    /// Creates a bucket and returns its name: `stem` and a number that no other call in this process gets.
    pub fn fresh_bucket(&self, stem: &str) -> String {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let name = format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.create_bucket(&name);
        name
    }

    /// Sends a signed request by curl: a second opinion that shares no code with Vouchsafe. `path` is what
    /// follows the endpoint, as in `bucket/key?query=`, already percent-encoded; `body` is sent from a file.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: Option<&Path>) -> Response {
        self.request_as(ACCESS_KEY, SECRET_KEY, method, path, headers, body)
    }

    /// The same with other credentials.
    pub fn request_as(
        &self,
        access_key: &str,
        secret_key: &str,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Path>,
    ) -> Response {
        let mut curl = self.curl(access_key, secret_key, method, path, headers, body);
        curl.args(["--write-out", "\n%{http_code}"]);
        let text = self.answer(curl);
        let text = String::from_utf8_lossy(&text);
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
        let status = status.parse().unwrap_or_else(|_| panic!("curl wrote no status: {text}"));
        Response { status, body: body.to_owned() }
    }

    /// The bytes of an object, read by curl. `path` is as for [`Self::request`].
    ///
    /// # Panics
    /// When it isn't answered with the object.
    pub fn download(&self, path: &str) -> Vec<u8> {
        let mut curl = self.curl(ACCESS_KEY, SECRET_KEY, "GET", path, &[], None);
        curl.arg("--fail");
        self.answer(curl)
    }

    fn answer(&self, mut curl: Command) -> Vec<u8> {
        let output = curl.output().unwrap_or_else(|cause| panic!("can't run curl: {cause}; run ./dev setup"));
        assert!(
            output.status.success(),
            "{} can't be asked by {curl:?}: {}",
            self.kind,
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    fn curl(
        &self,
        access_key: &str,
        secret_key: &str,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Path>,
    ) -> Command {
        let mut curl = Command::new("curl");
        // No .curlrc, no proxy: the server is on this machine.
        curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--path-as-is"]);
        curl.arg("--aws-sigv4").arg(format!("aws:amz:{REGION}:s3"));
        curl.arg("--user").arg(format!("{access_key}:{secret_key}"));
        match body {
            // Not signed over, so that curl needn't hold it.
            Some(file) => {
                curl.arg("--upload-file")
                    .arg(file)
                    .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
            }
            None => {
                curl.arg("--header").arg(format!("x-amz-content-sha256: {EMPTY_SHA256}"));
            }
        }
        match method {
            "HEAD" => curl.arg("--head"),
            method => curl.args(["--request", method]),
        };
        for header in headers {
            curl.args(["--header", header]);
        }
        curl.arg(format!("{}/{path}", self.endpoint()));
        curl
    }

    /// The process id of the server.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn pid(&self) -> u32 {
        self.process().as_ref().map(Running::pid).unwrap_or_else(|| panic!("{} doesn't run", self.kind))
    }

    /// Stops it in order; nothing happens when it doesn't run.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&self) {
        self.end(Signal::KILL);
    }

    /// Stops it if it runs, and starts it on the same port with the same data.
    pub fn restart(&self) {
        self.stop();
        if let Err(log) = self.launch() {
            panic!("{} doesn't start again; its log ends:\n{log}", self.kind);
        }
    }

    fn end(&self, signal: Signal) {
        if let Some(mut running) = self.process().take() {
            running.end(signal);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Running>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Starts the process and waits until it answers requests; the end of the log when it ended instead.
    fn launch(&self) -> Result<(), String> {
        let mut command = tethered(&self.kind.program(), As::Myself, "KILL");
        // Nothing of the user's own configuration, and no proxy between the server's own parts.
        command.env("HOME", self.folder.join("home")).env("NO_PROXY", "*").current_dir(&self.folder);
        // SeaweedFS logs there.
        command.env("TMPDIR", self.folder.join("home"));
        match self.kind {
            S3Kind::Minio => self.minio(&mut command),
            S3Kind::SeaweedFs => self.seaweedfs(&mut command),
        }
        let mut running = Running::start(command, &self.log_file());
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready() {
            if running.ended().is_some() {
                return Err(tail(&self.log_file()));
            }
            assert!(
                Instant::now() < deadline,
                "{} isn't ready after {PATIENCE:?}; its log ends:\n{}",
                self.kind,
                tail(&self.log_file())
            );
            thread::sleep(POLL * 10);
        }
        *self.process() = Some(running);
        Ok(())
    }

    fn minio(&self, command: &mut Command) {
        command
            .env("MINIO_ROOT_USER", ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
            .env("MINIO_REGION", REGION)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .arg("server")
            .arg("--certs-dir")
            .arg(self.folder.join("home"))
            .arg("--address")
            .arg(format!("{}:{}", self.address, self.port()))
            .arg(self.data_dir());
    }

    fn seaweedfs(&self, command: &mut Command) {
        let identities = self.folder.join("identities.json");
        let text = format!(
            r#"{{"identities":[{{"name":"root","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(&identities, text)
            .unwrap_or_else(|cause| panic!("can't write {}: {cause}", identities.display()));
        command.arg("mini");
        command.arg(format!("-ip={}", self.address)).arg(format!("-ip.bind={}", self.address));
        command.arg(format!("-dir={}", self.data_dir().display()));
        command.arg(format!("-s3.config={}", identities.display()));
        command.arg(format!("-s3.port={}", self.port()));
        // Each of its parts listens somewhere, most of them twice.
        for part in ["master", "volume", "filer", "admin", "s3"] {
            if part != "s3" {
                command.arg(format!("-{part}.port={}", ports::free(self.address)));
            }
            let port = ports::free(self.address);
            command.arg(format!("-{part}.port.grpc={port}"));
            // It makes these whatever its settings are, and leaves them.
            scratch::remove_later(&PathBuf::from(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock")));
        }
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"]);
        command.arg(format!("-filer.localSocket={}", self.folder.join("filer.sock").display()));
        command.arg(format!("-s3.localSocket={}", self.folder.join("s3.sock").display()));
        // Each bucket takes volumes of its own, and by default there are only as many as would fit the disk if
        // they were full: a disk with little room then answers 500 after some dozen buckets.
        command.arg("-volume.max=4000");
        // A bucket that is missing must be missing, and tests report to nobody.
        command.args(["-s3.autoCreateBucket=false", "-master.telemetry=false"]);
    }

    /// Listing buckets needs every part of either server, and right credentials.
    fn is_ready(&self) -> bool {
        std::net::TcpStream::connect((self.address, self.port())).is_ok()
            && self.request("GET", "", &[], None).status == 200
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.end(Signal::KILL);
        // What is left, the end of the process removes.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
