//! A proxy between a client of S3, Azure Blob Storage or Google Cloud Storage and a server, that fails on purpose.
//!
//! Faults act on the wire: the client's own connection handling, parsing and time limits meet them, which a
//! wrapper above the client never exercises. Plain HTTP/1.1 only, one request after the other on a connection; HTTP/2
//! goes through as it comes.
//! Every request is counted and named, every fault that fired is recorded.

mod google;
mod http;
mod rule;
mod tunnel;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use self::rule::{WireFault, WireReach, WireRule};

use self::http::{Message, Request, fits};
use self::rule::Armed;

/// A request that was met by a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireFired {
    /// The rule's position among those that were set.
    pub rule: usize,
    /// Its number among all requests.
    pub request: u64,
    /// Method and target: `PUT /bucket/key?partNumber=1`.
    pub line: String,
    /// What went wrong.
    pub fault: WireFault,
}

/// A proxy on a free port. Dropping it cuts its connections.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    upstream: SocketAddr,
    stopping: AtomicBool,
    state: Mutex<State>,
    /// Told whenever the rules change, and at the end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rules: Vec<Armed>,
    /// How often the rules were changed.
    changes: u64,
    requests: Vec<String>,
    /// Status of the answer to each request, 0 if it got none.
    statuses: Vec<u16>,
    fired: Vec<WireFired>,
    /// Copies, to cut them; each is removed before its connection is closed, or it would stay open.
    connections: HashMap<u64, TcpStream>,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .field("upstream", &self.shared.upstream)
            .finish()
    }
}

impl FaultProxy {
    /// Starts a proxy in front of the server on `upstream`, a port of 127.0.0.1, as in `S3Server::port`.
    ///
    /// # Panics
    /// If no port or thread can be had.
    #[must_use]
    pub fn start(upstream: u16) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), SocketAddr::from((Ipv4Addr::LOCALHOST, upstream)))
    }

    /// Starts a proxy that listens on `address`, in front of the server at `upstream`.
    ///
    /// # Panics
    /// If no port or thread can be had.
    #[must_use]
    pub fn start_on(address: IpAddr, upstream: SocketAddr) -> Self {
        let listener =
            TcpListener::bind((address, 0)).unwrap_or_else(|cause| panic!("no port for the proxy: {cause}"));
        let address =
            listener.local_addr().unwrap_or_else(|cause| panic!("the proxy has no address: {cause}"));
        let shared = Arc::new(Shared {
            upstream,
            stopping: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("fault-proxy".to_owned())
            .spawn(move || accept(&listener, &accepting))
            .unwrap_or_else(|cause| panic!("no thread for the proxy: {cause}"));
        Self { shared, address }
    }

    /// `http://<address>:<port>`
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the rules, and starts counting anew: of requests and of what fired.
    pub fn set(&self, rules: Vec<WireRule>) {
        let mut state = self.shared.state();
        state.rules = rules.into_iter().map(|rule| Armed { rule, seen: 0, begun: None }).collect();
        state.requests.clear();
        state.statuses.clear();
        state.fired.clear();
        state.changes += 1;
        self.shared.changed.notify_all();
    }

    /// Takes the rules away: the fault has healed. Counts go on.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.changes += 1;
        self.shared.changed.notify_all();
    }

    /// Takes the rules away like [`heal`](Self::heal), but what is held stays held until then.
    pub fn disarm(&self) {
        self.shared.state().rules.clear();
    }

    /// Method and target of every request since the last [`set`](Self::set), in order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Status of the server's answer to each of them, 0 where it was not asked.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        self.shared.state().statuses.clone()
    }

    /// Every request since then that a fault has met.
    #[must_use]
    pub fn fired(&self) -> Vec<WireFired> {
        self.shared.state().fired.clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        {
            // Under the lock, or one who is about to wait would never hear of it.
            let _state = self.shared.state();
            self.shared.stopping.store(true, Ordering::SeqCst);
            self.shared.changed.notify_all();
        }
        for (_, connection) in self.shared.state().connections.drain() {
            // It may be closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, and says what is to go wrong with it. The first rule that matches wins.
    fn next(&self, request: &Request) -> (u64, Option<(usize, WireFault)>) {
        let mut state = self.state();
        let number = state.requests.len() as u64;
        let line = request.line();
        state.requests.push(line.clone());
        state.statuses.push(0);
        let mut found = None;
        for (position, armed) in state.rules.iter_mut().enumerate() {
            let fault = armed.rule.fault;
            // Each counts, also when an earlier one has won.
            if armed.meets(number, &line, fits(fault, request)) && found.is_none() {
                found = Some((position, fault));
            }
        }
        (number, found)
    }

    fn answered(&self, number: u64, status: u16) {
        let mut state = self.state();
        // `set` may have begun a new count meanwhile.
        if let Some(known) = usize::try_from(number).ok().and_then(|at| state.statuses.get_mut(at)) {
            *known = status;
        }
    }

    /// Waits until the rules change; says whether the request is still to be carried out.
    fn hold(&self) -> bool {
        let state = self.state();
        let before = state.changes;
        let stopping = || self.stopping.load(Ordering::SeqCst);
        let waits = |state: &mut State| state.changes == before && !stopping();
        drop(self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner));
        !stopping()
    }

    fn fire(&self, rule: usize, number: u64, request: &Request, fault: WireFault) {
        self.state().fired.push(WireFired { rule, request: number, line: request.line(), fault });
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (id, connection) in (0_u64..).zip(listener.incoming()) {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = connection else { continue };
        if let Ok(copy) = client.try_clone() {
            shared.state().connections.insert(id, copy);
        }
        let shared = Arc::clone(shared);
        let serve = move || {
            // A connection that breaks off is what this is for; the client tells of it.
            if !matches!(serve(&client, &shared), Ok(End::Stalled)) {
                shared.state().connections.remove(&id);
            }
        };
        let spawned = thread::Builder::new().name("fault-proxy".to_owned()).spawn(serve);
        spawned.unwrap_or_else(|cause| panic!("no thread for a connection of the proxy: {cause}"));
    }
}

/// How a connection ends.
enum End {
    Closed,
    /// It stays open, with nobody at this end, until the proxy goes.
    Stalled,
}

/// Serves one connection, request after request, until it ends.
fn serve(client: &TcpStream, shared: &Shared) -> io::Result<End> {
    client.set_nodelay(true)?;
    let mut reader = io::BufReader::with_capacity(1 << 16, client);
    // How HTTP/2 begins, and no request of HTTP/1.1 does.
    if reader.fill_buf()?.starts_with(b"PRI ") {
        return tunnel::pass_on(reader, client, shared.upstream);
    }
    while let Some(request) = http::read_request(&mut reader)? {
        let (number, met) = shared.next(&request);
        let fault = met.map(|(_, fault)| fault);
        let fire = |fault| {
            if let Some((rule, _)) = met {
                shared.fire(rule, number, &request, fault);
            }
        };
        if let Some(fault @ (WireFault::ResetInRequest | WireFault::StallInRequest)) = fault {
            http::read_half(&mut reader, &request)?;
            fire(fault);
            return if fault == WireFault::ResetInRequest { reset(client) } else { Ok(End::Stalled) };
        }
        if request.expects_continue() {
            (&mut &*client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = http::read_body(&mut reader, &request.head)?;
        if fault == Some(WireFault::Hold) {
            fire(WireFault::Hold);
            if !shared.hold() {
                return Ok(End::Closed);
            }
        }
        let answer = match fault {
            Some(fault) if reaches_no_server(fault) => {
                fire(fault);
                http::answer(fault, &request)
            }
            _ => {
                let mut answer = forward(shared.upstream, &request, &body)?;
                shared.answered(number, answer.status());
                match fault {
                    Some(WireFault::LostAcknowledgement) => {
                        fire(WireFault::LostAcknowledgement);
                        http::answer(WireFault::SlowDown, &request)
                    }
                    Some(fault @ (WireFault::ResetInResponse | WireFault::StallInResponse)) => {
                        let bytes = answer.to_bytes();
                        (&mut &*client).write_all(&bytes[..bytes.len() / 2])?;
                        fire(fault);
                        return if fault == WireFault::ResetInResponse {
                            reset(client)
                        } else {
                            Ok(End::Stalled)
                        };
                    }
                    Some(WireFault::FlipBit(bit)) => {
                        if answer.flip(bit) {
                            fire(WireFault::FlipBit(bit));
                        }
                        answer
                    }
                    Some(WireFault::LongAgo) => {
                        if answer.age() {
                            fire(WireFault::LongAgo);
                        }
                        answer
                    }
                    Some(WireFault::Delay(pause)) => {
                        // The fault itself, not a wait for something.
                        thread::sleep(pause);
                        fire(WireFault::Delay(pause));
                        answer
                    }
                    _ => answer,
                }
            }
        };
        (&mut &*client).write_all(&answer.to_bytes())?;
        if request.closes() || answer.closes() {
            return Ok(End::Closed);
        }
    }
    Ok(End::Closed)
}

const fn reaches_no_server(fault: WireFault) -> bool {
    matches!(
        fault,
        WireFault::SlowDown
            | WireFault::InternalError
            | WireFault::AccessDenied
            | WireFault::ClockSkewed
            | WireFault::OkWithError
            | WireFault::OkWithPage
            | WireFault::Pretend
            | WireFault::Vanish
    )
}

/// Sends the request on, over a connection of its own, and reads the whole answer.
fn forward(upstream: SocketAddr, request: &Request, body: &[u8]) -> io::Result<Message> {
    let mut server = TcpStream::connect(upstream)?;
    server.set_nodelay(true)?;
    server.write_all(&request.head.bytes)?;
    server.write_all(body)?;
    http::read_answer(&mut io::BufReader::with_capacity(1 << 16, server), &request.method)
}

/// Has the connection end with a reset when it is closed, as a dying peer or a firewall ends it.
fn reset(client: &TcpStream) -> io::Result<End> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(End::Closed)
}
