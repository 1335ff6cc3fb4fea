//! Azurite, Microsoft's own emulator of Azure Blob Storage.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::s3::Response;
use crate::spawn::{As, PATIENCE, POLL, Running, tail, tethered};
use crate::tls::{self, Certificates};
use crate::{ports, scratch, tools};

const ACCOUNT: &str = "testbed";
/// `testbed-key-of-the-account`, in Base64.
const KEY: &str = "dGVzdGJlZC1rZXktb2YtdGhlLWFjY291bnQ=";

/// How often a server that found its port taken is started on others.
const PORT_ATTEMPTS: u32 = 5;

/// An Azure Blob server of its own. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Azurite {
    folder: PathBuf,
    /// Atomic because the first one may turn out to be taken.
    port: AtomicU16,
    process: Mutex<Option<Running>>,
    /// It speaks TLS, and takes tokens.
    certificates: Option<Certificates>,
}

/// The server that all tests of this process share, started on first use. Tests keep apart by containers.
pub fn shared() -> &'static Azurite {
    static SERVER: OnceLock<Azurite> = OnceLock::new();
    SERVER.get_or_init(Azurite::start)
}

impl Azurite {
    /// Starts a server without containers, and waits until it answers.
    ///
    /// # Panics
    /// With the server's log when it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let folder = scratch::new_folder("azurite");
        Self::start_in(folder, None)
    }

    /// The same over TLS, and one that takes tokens besides keys and signatures: it looks who issued them, for whom
    /// and until when, and not at their signature.
    ///
    /// # Panics
    /// With the server's log when it doesn't start.
    #[must_use]
    pub fn start_with_tokens() -> Self {
        let folder = scratch::new_folder("azurite");
        let certificates = tls::make(&folder);
        Self::start_in(folder, Some(certificates))
    }

    fn start_in(folder: PathBuf, certificates: Option<Certificates>) -> Self {
        let server = Self { folder, port: AtomicU16::new(0), process: Mutex::new(None), certificates };
        for attempt in 1..=PORT_ATTEMPTS {
            server.port.store(ports::free(ports::LOCALHOST), Ordering::SeqCst);
            let Err(log) = server.launch() else { break };
            let taken = log.contains("EADDRINUSE");
            assert!(taken && attempt < PORT_ATTEMPTS, "Azurite doesn't start; its log ends:\n{log}");
        }
        server
    }

    /// The account that there is.
    pub fn account(&self) -> &'static str {
        ACCOUNT
    }

    /// Its key, in Base64.
    pub fn key(&self) -> &'static str {
        KEY
    }

    /// The account's Blob endpoint: `http://127.0.0.1:<port>/<account>`, or the same by `https`.
    pub fn endpoint(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{ACCOUNT}", self.port())
    }

    /// The authority that signed its certificate, of one that speaks TLS.
    pub fn authority(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|certificates| certificates.authority.as_path())
    }

    /// Its port; stays the same over [`Self::restart`].
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::SeqCst)
    }

    /// Creates a container and returns its name: `stem` and a number that no other call in this process gets.
    pub fn fresh_container(&self, stem: &str) -> String {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let name = format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let response = self.request("PUT", &name, "restype=container", &[], "");
        assert!(response.status == 201, "Azurite refuses to create the container {name}: {response:?}");
        name
    }

    /// Sends a request by curl: a second opinion that shares no code with Vouchsafe. `path` is what follows the
    /// account, already percent-encoded.
    pub fn request(&self, method: &str, path: &str, query: &str, headers: &[&str], body: &str) -> Response {
        let mut curl = Command::new("curl");
        // No .curlrc, no proxy: the server is on this machine.
        curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--path-as-is"]);
        match method {
            "HEAD" => curl.arg("--head"),
            method => curl.args(["--request", method]),
        };
        if method == "PUT" {
            curl.args(["--data-binary", body, "--header", "content-type: application/octet-stream"]);
        }
        curl.args(["--header", "x-ms-version: 2021-12-02"]);
        if let Some(authority) = self.authority() {
            curl.arg("--cacert").arg(authority);
        }
        for header in headers {
            curl.args(["--header", header]);
        }
        let between = if query.is_empty() { "" } else { "&" };
        let url = format!("{}/{path}?{query}{between}{}", self.endpoint(), self.signature("rwdlac"));
        curl.args(["--write-out", "\n%{http_code}"]).arg(url);
        let output = curl.output().unwrap_or_else(|cause| panic!("can't run curl: {cause}; run ./dev setup"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "Azurite can't be asked by {curl:?}: {said}");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
        let status = status.parse().unwrap_or_else(|_| panic!("curl wrote no status: {text}"));
        Response { status, body: body.to_owned() }
    }

    /// A shared access signature of the account that allows `permissions` on containers and blobs, as a query.
    ///
    /// <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>
    pub fn signature(&self, permissions: &str) -> String {
        self.signature_until(permissions, "2099-01-01T00:00:00Z")
    }

    /// The same with another end, such as one that has passed.
    pub fn signature_until(&self, permissions: &str, expiry: &str) -> String {
        let version = "2021-12-02";
        let text = format!("{ACCOUNT}\n{permissions}\nb\nsco\n\n{expiry}\n\n\n{version}\n\n");
        let signed = openssl_hmac(&text);
        let signature = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let expiry = expiry.replace(':', "%3A");
        format!("sv={version}&ss=b&srt=sco&sp={permissions}&se={expiry}&sig={signature}")
    }

    /// The process id of the server.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn pid(&self) -> u32 {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_ref().map(Running::pid).unwrap_or_else(|| panic!("Azurite doesn't run"))
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&self) {
        if let Some(mut running) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            running.end(Signal::KILL);
        }
    }

    /// Kills it if it runs, and starts it on the same port with the same data.
    pub fn restart(&self) {
        self.kill9();
        if let Err(log) = self.launch() {
            panic!("Azurite doesn't start again; its log ends:\n{log}");
        }
    }

    fn launch(&self) -> Result<(), String> {
        let program =
            tools::required(tools::folder().join("azurite/node_modules/azurite/dist/src/blob/main.js"));
        let mut command = tethered(Path::new("node"), As::Myself, "KILL");
        command
            .arg(program)
            .env("HOME", &self.folder)
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"))
            .args(["--blobHost", "127.0.0.1", "--blobPort", &self.port().to_string()])
            .arg("--location")
            .arg(self.folder.join("data"))
            // It knows older versions of the protocol than the SDK speaks.
            .args(["--skipApiVersionCheck", "--disableTelemetry", "--silent"])
            .current_dir(&self.folder);
        if let Some(certificates) = &self.certificates {
            command.args(["--oauth", "basic", "--cert"]).arg(&certificates.certificate);
            command.arg("--key").arg(&certificates.key);
        }
        let log = self.folder.join("log");
        let mut running = Running::start(command, &log);
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port())).is_err()
            || self.request("GET", "", "comp=list", &[], "").status != 200
        {
            if running.ended().is_some() {
                return Err(tail(&log));
            }
            assert!(
                Instant::now() < deadline,
                "Azurite isn't ready after {PATIENCE:?}; its log ends:\n{}",
                tail(&log)
            );
            thread::sleep(POLL * 10);
        }
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.kill9();
        // What is left, the end of the process removes.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// HMAC-SHA256 of `text` under the account's key, in Base64.
fn openssl_hmac(text: &str) -> String {
    let script = r#"key=$(printf %s "$1" | openssl base64 -d -A | od -An -tx1 | tr -d ' \n')
printf %s "$2" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A"#;
    let output = Command::new("bash").args(["-c", script, "bash", KEY, text]).output();
    let output = output.unwrap_or_else(|cause| panic!("can't run openssl: {cause}; run ./dev setup"));
    let signed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !signed.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    signed
}
