//! Between a controller and the API server: every request passes here, and one of them is the moment of a case.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{self, StatusCode, request};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::writes::Write;

/// The largest body; the API server takes no larger object.
const MAX_BODY: usize = 3 << 20;

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// The controller is killed, and the API server never saw the write.
    KilledBefore,
    /// The API server has carried it out; the controller is killed before it is told so.
    KilledUnanswered,
    /// The controller was told so, and is killed at its next request, which never arrives.
    KilledAfter,
    /// The API server has carried it out; the connection breaks off, and the same controller goes on.
    AnswerLost,
}

impl Stop {
    pub const ALL: [Self; 4] =
        [Self::KilledBefore, Self::KilledUnanswered, Self::KilledAfter, Self::AnswerLost];

    pub const fn words(self) -> &'static str {
        match self {
            Self::KilledBefore => "killed before",
            Self::KilledUnanswered => "killed; answer lost",
            Self::KilledAfter => "killed after",
            Self::AnswerLost => "answer lost",
        }
    }

    pub const fn kills(self) -> bool {
        !matches!(self, Self::AnswerLost)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// One case's way to the API server. Its port closes when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    serving: JoinHandle<()>,
}

struct Shared {
    upstream: Client,
    state: Mutex<Known>,
    /// How often the case's moment came.
    fired: watch::Sender<u32>,
}

#[derive(Default)]
struct Known {
    armed: Option<(String, Stop)>,
    /// The controller is as good as dead: what it asks still is not carried out.
    shut: bool,
    /// It was told of the write, and its next request shows that it went on.
    acknowledged: bool,
    writes: Vec<Write>,
    jobs: BTreeMap<String, String>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// Before the API server that `upstream` asks, in whose name all requests go on.
    pub async fn start(upstream: Client, armed: Option<(String, Stop)>) -> Self {
        let state = Mutex::new(Known { armed, ..Known::default() });
        let shared = Arc::new(Shared { upstream, state, fired: watch::channel(0).0 });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let service = router.into_make_service_with_connect_info::<Wire>();
        let serving = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { shared, port, serving }
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: proxy, cluster: {{server: \"http://127.0.0.1:{}\"}}}}]\n\
             users: [{{name: me, user: {{}}}}]\n\
             contexts: [{{name: proxy, context: {{cluster: proxy, user: me}}}}]\n\
             current-context: proxy\n",
            self.port
        )
    }

    /// Waits for the case's moment.
    pub async fn fires(&self) {
        self.shared.fired.subscribe().wait_for(|fired| *fired > 0).await.unwrap();
    }

    /// How often it came.
    pub fn fired(&self) -> u32 {
        *self.shared.fired.borrow()
    }

    /// The controller is dead: the next one's requests pass.
    pub fn reopen(&self) {
        self.shared.known().shut = false;
    }

    /// Every write that the API server has carried out, each name once, in the order of their first time.
    pub fn writes(&self) -> Vec<Write> {
        let mut distinct: Vec<Write> = Vec::new();
        for write in &self.shared.known().writes {
            if !distinct.contains(write) {
                distinct.push(write.clone());
            }
        }
        distinct
    }
}

/// The connection that a request came on, to cut it.
#[derive(Clone)]
struct Wire(Arc<std::net::TcpStream>);

impl Connected<IncomingStream<'_, TcpListener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(Arc::new(stream.io().as_fd().try_clone_to_owned().unwrap().into()))
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fire(&self) {
        self.fired.send_modify(|fired| *fired += 1);
    }

    /// Counts a request in; what is to happen at it.
    fn meet(&self, request: &request::Parts, body: &[u8]) -> Result<(Option<Write>, Option<Stop>), Dead> {
        let mut known = self.known();
        if known.shut {
            if std::mem::take(&mut known.acknowledged) {
                self.fire();
            }
            return Err(Dead);
        }
        let write = Write::of(request.method.as_str(), request.uri.path(), body, &mut known.jobs);
        let name = write.as_ref().map(Write::name);
        let stop = known.armed.take_if(|(armed, _)| Some(&*armed) == name.as_ref()).map(|(_, stop)| stop);
        Ok((write, stop))
    }

    async fn forward(&self, mut parts: request::Parts, body: Vec<u8>) -> Response {
        for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        match self.upstream.send(http::Request::from_parts(parts, body.into())).await {
            Ok(answer) => {
                let (mut parts, body) = answer.into_parts();
                for name in [CONNECTION, TRANSFER_ENCODING] {
                    parts.headers.remove(name);
                }
                Response::from_parts(parts, Body::new(body))
            }
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
}

/// A controller that is as good as dead.
struct Dead;

/// Passes one request on, unless it is the case's moment. Of a killed controller nothing is answered: its connections
/// go with it, and this ends with them.
async fn pass(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else { return std::future::pending().await };
    let Ok((write, stop)) = shared.meet(&parts, &body) else { return std::future::pending().await };
    let Some(write) = write else { return shared.forward(parts, body.into()).await };
    if stop == Some(Stop::KilledBefore) {
        shared.fire();
        return std::future::pending().await;
    }
    // Whole, before anything of it is passed on.
    let (answer, content) = shared.forward(parts, body.into()).await.into_parts();
    let content = to_bytes(content, MAX_BODY).await.unwrap();
    let done = answer.status.is_success();
    if done {
        shared.known().writes.push(write.clone());
    }
    match stop {
        // A conflict, say: its next try is the moment.
        Some(stop) if !done => shared.known().armed = Some((write.name(), stop)),
        Some(Stop::KilledAfter) => {
            let mut known = shared.known();
            (known.shut, known.acknowledged) = (true, true);
        }
        Some(Stop::KilledUnanswered) => {
            shared.fire();
            return std::future::pending().await;
        }
        Some(Stop::AnswerLost) => {
            // It may be closed already.
            let _ = wire.0.shutdown(Shutdown::Both);
            shared.fire();
            return std::future::pending().await;
        }
        Some(Stop::KilledBefore) | None => {}
    }
    Response::from_parts(answer, content.into())
}
