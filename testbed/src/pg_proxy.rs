//! A proxy between a PostgreSQL client and a server, that fails on purpose at one request.
//!
//! It reads the client's messages (PostgreSQL manual, 55.7), so a fault meets a statement, a piece of COPY's
//! data or the end of a session, whichever program sends it. Requests have kinds, made of the session's
//! application and the statement's first words, and are found by their number among those of one kind: what
//! other sessions do meanwhile changes nothing. Plain connections only.

mod message;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use self::message::{Message, Start};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PgFault {
    /// The connection is reset; the server never sees the request.
    CutBefore,
    /// Half of the request reaches the server, and then the connection is reset on both sides.
    CutMidway,
    /// The server carries the request out; its answer is lost with the connection.
    LostAnswer,
    /// The server's process is told to terminate, as by `pg_terminate_backend`, before the request reaches it.
    Terminate,
    /// The processes of all other sessions are told so: what a failover or an administrator does to whoever only
    /// holds something.
    TerminateOthers,
    /// The server refuses: it gets a statement that can't be parsed, or a COPY that the client gives up.
    Refuse,
    /// One piece of COPY's data never arrives, and nothing says so.
    Drop,
}

impl PgFault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CutBefore,
        Self::CutMidway,
        Self::LostAnswer,
        Self::Terminate,
        Self::TerminateOthers,
        Self::Refuse,
        Self::Drop,
    ];

    /// Whether it can act on a request of this kind, with so many other sessions there.
    #[must_use]
    pub fn fits(self, kind: &str, others: usize) -> bool {
        let request = kind.rsplit(": ").next().unwrap_or(kind);
        match self {
            Self::CutBefore => true,
            Self::CutMidway => !matches!(request, "end"),
            Self::LostAnswer => {
                !matches!(request, "connect" | "end" | "copy data") && !request.starts_with("prepare")
            }
            Self::Terminate => !matches!(request, "connect" | "end"),
            Self::TerminateOthers => others > 0 && request != "connect",
            Self::Refuse => !matches!(request, "end") && !request.starts_with("sync"),
            Self::Drop => request == "copy data",
        }
    }
}

/// A fault at one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgRule {
    /// The request's kind, as [`PgProxy::requests`] names it.
    pub kind: String,
    /// Its number among those of its kind, from 0.
    pub nth: u64,
    /// What goes wrong there.
    pub fault: PgFault,
}

/// A proxy on a free port of 127.0.0.1. Dropping it ends its listening; connections last as long as their ends.
pub struct PgProxy {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    upstream: u16,
    stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rule: Option<PgRule>,
    /// Each with how many other sessions there were.
    requests: Vec<(String, usize)>,
    fired: u64,
    /// Process ids of the sessions that there are, by their number.
    sessions: BTreeMap<u64, i32>,
}

impl fmt::Debug for PgProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgProxy").field("port", &self.port).field("upstream", &self.shared.upstream).finish()
    }
}

impl PgProxy {
    /// Starts a proxy in front of the server on `upstream`, a port of 127.0.0.1.
    ///
    /// # Panics
    /// If no port or thread can be had.
    #[must_use]
    pub fn start(upstream: u16) -> Self {
        let listener =
            TcpListener::bind("127.0.0.1:0").unwrap_or_else(|cause| panic!("no port for the proxy: {cause}"));
        let port =
            listener.local_addr().unwrap_or_else(|cause| panic!("the proxy has no address: {cause}")).port();
        let shared = Arc::new(Shared { upstream, stopping: AtomicBool::new(false), state: Mutex::default() });
        let accepting = Arc::clone(&shared);
        spawn(move || {
            for client in listener.incoming() {
                if accepting.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), shared) = (client, Arc::clone(&accepting)) else { continue };
                // A connection that breaks off is what this is for; the client tells of it.
                spawn(move || drop(serve(&client, &shared)));
            }
        });
        Self { shared, port }
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Replaces the rule, and starts counting anew.
    pub fn set(&self, rule: Option<PgRule>) {
        let mut state = self.shared.state();
        state.rule = rule;
        state.requests.clear();
        state.fired = 0;
    }

    /// Kinds of the requests since then, in order, each with how many other sessions there were.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, usize)> {
        self.shared.state().requests.clone()
    }

    /// How often the fault has acted since then.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.shared.state().fired
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// How long the answer to a request may take that is to be lost.
const LONGEST_ANSWER: Duration = Duration::from_secs(20);

fn spawn(body: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().name("pg-proxy".to_owned()).spawn(body);
    spawned.unwrap_or_else(|cause| panic!("no thread for the proxy: {cause}"));
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, and says what is to go wrong with it.
    fn next(&self, session: u64, kind: String) -> Option<PgFault> {
        let mut state = self.state();
        let others = state.sessions.keys().filter(|other| **other != session).count();
        let nth = state.requests.iter().filter(|(other, _)| *other == kind).count() as u64;
        let rule = state.rule.as_ref().filter(|rule| rule.kind == kind && rule.nth == nth);
        let fault = rule.map(|rule| rule.fault).filter(|fault| fault.fits(&kind, others));
        state.requests.push((kind, others));
        state.fired += u64::from(fault.is_some());
        fault
    }
}

/// One client's connection, from its start to its end.
struct Link<'a> {
    session: u64,
    shared: &'a Arc<Shared>,
    client: &'a TcpStream,
    server: TcpStream,
    /// Answers are read and thrown away; the first that ends a request ends the connection, by a reset.
    mute: Arc<AtomicBool>,
}

fn serve(client: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let session = NEXT.fetch_add(1, Ordering::Relaxed);
    client.set_nodelay(true)?;
    let (start, application) = match message::read_start(client)? {
        Start::Session { bytes, application } => (bytes, application),
        Start::Cancel(bytes) => return TcpStream::connect(("127.0.0.1", shared.upstream))?.write_all(&bytes),
    };
    match shared.next(session, format!("{application}: connect")) {
        Some(PgFault::Refuse) => return (&mut &*client).write_all(&message::refusal()),
        Some(_) => return reset(client),
        None => {}
    }
    let server = TcpStream::connect(("127.0.0.1", shared.upstream))?;
    server.set_nodelay(true)?;
    (&mut &server).write_all(&start)?;
    let link = Link { session, shared, client, server, mute: Arc::default() };
    let answers = link.answers()?;
    let served = link.requests(&application);
    if link.mute.load(Ordering::SeqCst) {
        link.end_a_lost_answer(&answers);
    } else {
        // The server ends the session, and the other thread the connection.
        let _ = link.server.shutdown(Shutdown::Write);
    }
    // A client that waits must not be kept waiting by a server that does.
    drop(answers.join());
    shared.state().sessions.remove(&session);
    served
}

impl Link<'_> {
    fn requests(&self, application: &str) -> io::Result<()> {
        let mut statement = String::new();
        loop {
            let Some(message) = Message::read(&mut &*self.client)? else { return Ok(()) };
            let request = match message.kind {
                b'Q' => message::words(message.text()),
                b'P' => {
                    statement = message::words(message.statement());
                    format!("prepare {statement}")
                }
                b'S' => format!("sync {statement}"),
                b'd' => "copy data".to_owned(),
                b'c' => "copy end".to_owned(),
                b'X' => "end".to_owned(),
                // Passwords, and parts of a request whose end is counted.
                _ => {
                    (&mut &self.server).write_all(&message.bytes)?;
                    continue;
                }
            };
            match self.shared.next(self.session, format!("{application}: {request}")) {
                Some(fault) if self.act(fault, &message)? => return Ok(()),
                Some(_) => {}
                None => (&mut &self.server).write_all(&message.bytes)?,
            }
        }
    }

    /// Whether the connection ends with it. What the server is to see of the message has been sent then.
    fn act(&self, fault: PgFault, message: &Message) -> io::Result<bool> {
        match fault {
            PgFault::CutBefore | PgFault::CutMidway => {
                if fault == PgFault::CutMidway {
                    (&mut &self.server).write_all(&message.bytes[..message.bytes.len() / 2])?;
                }
                self.mute.store(true, Ordering::SeqCst);
                reset(self.client)?;
                let _ = self.server.shutdown(Shutdown::Both);
                Ok(true)
            }
            PgFault::LostAnswer => {
                self.mute.store(true, Ordering::SeqCst);
                (&mut &self.server).write_all(&message.bytes)?;
                if message.kind == b'c' {
                    (&mut &self.server).write_all(&message::sync())?;
                }
                Ok(true)
            }
            PgFault::Terminate | PgFault::TerminateOthers => {
                for (session, pid) in self.shared.state().sessions.clone() {
                    if (session == self.session) == (fault == PgFault::Terminate) {
                        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("no process"))?;
                        kill_process(pid, Signal::TERM)?;
                    }
                }
                (&mut &self.server).write_all(&message.bytes)?;
                Ok(false)
            }
            PgFault::Refuse => {
                (&mut &self.server).write_all(&message.refused())?;
                Ok(false)
            }
            PgFault::Drop => Ok(false),
        }
    }

    /// Waits for the answer that is to be lost, and resets the connection where none comes: the server answers an
    /// Execute, and waits for a COPY's data, before it sees the Sync that the fault is at.
    fn end_a_lost_answer(&self, answers: &thread::JoinHandle<()>) {
        let begun = std::time::Instant::now();
        while !answers.is_finished() && begun.elapsed() < LONGEST_ANSWER {
            thread::sleep(Duration::from_millis(20));
        }
        if !answers.is_finished() {
            let _ = reset(self.client);
            let _ = self.server.shutdown(Shutdown::Both);
        }
    }

    /// Carries answers to the client, in a thread of its own.
    fn answers(&self) -> io::Result<thread::JoinHandle<()>> {
        let (mut server, client) = (self.server.try_clone()?, self.client.try_clone()?);
        let (session, shared, mute) = (self.session, Arc::clone(self.shared), Arc::clone(&self.mute));
        thread::Builder::new().name("pg-proxy".to_owned()).spawn(move || {
            while let Ok(Some(answer)) = Message::read(&mut server) {
                if let Some(pid) = answer.backend() {
                    shared.state().sessions.insert(session, pid);
                }
                if mute.load(Ordering::SeqCst) {
                    // Ready, or ready for COPY's data: the request was carried out.
                    if matches!(answer.kind, b'Z' | b'G') {
                        let _ = reset(&client);
                        break;
                    }
                } else if (&mut &client).write_all(&answer.bytes).is_err() {
                    break;
                }
            }
            if !mute.load(Ordering::SeqCst) {
                // Else it is reset, when its last handle is closed.
                let _ = client.shutdown(Shutdown::Both);
            }
            let _ = server.shutdown(Shutdown::Both);
        })
    }
}

/// Has the connection end with a reset, as a dying peer or a firewall ends it.
fn reset(client: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    client.shutdown(Shutdown::Read)
}
