//! Server processes, and that they end with the test process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::tools;

/// How often a condition is looked at while waiting for it.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// A server gets this long to start or stop. On an idle machine each takes a second or two; the rest is for
/// two cores that also compile and run other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

type Order = (Command, Sender<io::Result<Child>>);

/// Spawns from one thread that lives as long as the process: the kernel ties a parent-death signal to the
/// *thread* that spawned, so a server spawned by a test's own thread would die when that test ends.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        let body = move || {
            for (mut command, reply) in orders {
                // Nobody waits for the reply any more: then nobody wants the child either, and it is reaped
                // with the process.
                let _ = reply.send(command.spawn());
            }
        };
        thread::Builder::new()
            .name("testbed-spawner".into())
            .spawn(body)
            .unwrap_or_else(|cause| panic!("can't start the thread that spawns servers: {cause}"));
        sender
    });
    let (reply, answer) = channel();
    orders.send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

/// Which user a program runs as when the tests are root's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// The unprivileged user `postgres`.
    Postgres,
    /// The user of the tests.
    Myself,
}

/// `program` under `setpriv`, which drops root and has the kernel send `end` when the test process is gone.
pub(crate) fn tethered(program: &Path, user: As, end: &str) -> Command {
    let mut command = Command::new("setpriv");
    if user == As::Postgres && tools::unprivileged().is_some() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg("--pdeathsig").arg(end).arg(program);
    command
}

/// A running server process.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a server whose output goes to the end of `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log);
        let (out, err) = match (open(), open()) {
            (Ok(out), Ok(err)) => (out, err),
            (Err(cause), _) | (_, Err(cause)) => panic!("can't write the log {}: {cause}", log.display()),
        };
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let name = format!("{command:?}");
        let child =
            spawn_on_lasting_thread(command).unwrap_or_else(|cause| panic!("can't start {name}: {cause}"));
        Self { child, log: log.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|cause| panic!("can't wait for process {}: {cause}", self.pid()))
    }

    /// Sends `signal` and waits until the process is gone.
    ///
    /// # Panics
    /// When it is still there after [`PATIENCE`].
    pub(crate) fn end(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, signal)
                .unwrap_or_else(|cause| panic!("can't signal process {}: {cause}", self.pid()));
        }
        let deadline = Instant::now() + PATIENCE;
        while self.ended().is_none() {
            assert!(
                Instant::now() < deadline,
                "process {} still runs {PATIENCE:?} after {signal:?}; its log ends:\n{}",
                self.pid(),
                tail(&self.log)
            );
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever owns a server stops it in its own way first; this is for a panic halfway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log, for a panic's message.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
