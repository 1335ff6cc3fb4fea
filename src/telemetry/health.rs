//! Whether the process does its work, and the pages that say so over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::Metrics;

/// What OpenMetrics calls its text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How one watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// It has not listed everything yet.
    Begins,
    /// It has.
    Synced,
    /// It ended unasked.
    Ended,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether the API server answered when it was asked last.
    reached: bool,
    /// Whether this process is to work.
    leads: bool,
    watches: BTreeMap<String, Watch>,
}

/// Whether the process does its work.
#[derive(Debug, Default)]
pub struct Health(Mutex<Known>);

impl Health {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the API server answers.
    pub fn reached(&self, reached: bool) {
        self.known().reached = reached;
    }

    /// Whether this process is to work. Watches of an earlier term are forgotten.
    pub fn leads(&self, leads: bool) {
        let mut known = self.known();
        known.leads = leads;
        known.watches.clear();
    }

    /// A watch begins, under a name of its own.
    pub fn watch_begins(&self, name: &str) {
        self.known().watches.insert(name.to_owned(), Watch::Begins);
    }

    /// A watch has listed everything that there is. Nothing is said of one that did not begin in this term.
    pub fn watch_synced(&self, name: &str) {
        if let Some(watch) = self.known().watches.get_mut(name) {
            *watch = Watch::Synced;
        }
    }

    /// A watch ended although nobody asked it to.
    pub fn watch_ended(&self, name: &str) {
        self.known().watches.insert(name.to_owned(), Watch::Ended);
    }

    /// `Err` with why, if only a new process helps.
    ///
    /// # Errors
    /// The watch that ended.
    pub fn lives(&self) -> Result<String, String> {
        let known = self.known();
        match known.watches.iter().find(|(_, watch)| **watch == Watch::Ended) {
            None => Ok("ok\n".into()),
            Some((name, _)) => Err(format!("{name} ended\n")),
        }
    }

    /// `Err` with what is missing.
    ///
    /// # Errors
    /// What it waits for.
    pub fn is_ready(&self) -> Result<String, String> {
        let known = self.known();
        if !known.leads {
            return match known.reached {
                true => Ok("stands by\n".into()),
                false => Err("the Kubernetes API does not answer\n".into()),
            };
        }
        let waits: Vec<&str> = (known.watches.iter())
            .filter(|(_, watch)| **watch != Watch::Synced)
            .map(|(name, _)| name.as_str())
            .collect();
        match (known.watches.is_empty(), waits.is_empty()) {
            (true, _) => Err("nothing is watched yet\n".into()),
            (false, true) => Ok("works\n".into()),
            (false, false) => Err(format!("not listed yet: {}\n", waits.join(", "))),
        }
    }
}

/// `/metrics`.
pub fn metrics_router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(page)).with_state(metrics)
}

/// `/healthz` and `/readyz`.
pub fn health_router(health: Arc<Health>) -> Router {
    let lives = |State(health): State<Arc<Health>>| async move { answer(health.lives()) };
    let ready = |State(health): State<Arc<Health>>| async move { answer(health.is_ready()) };
    Router::new().route("/healthz", get(lives)).route("/readyz", get(ready)).with_state(health)
}

async fn page(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.page()).into_response()
}

fn answer(said: Result<String, String>) -> (StatusCode, String) {
    match said {
        Ok(text) => (StatusCode::OK, text),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

/// A port that answers from now on, once [`Pages::serve`] runs.
#[derive(Debug)]
pub struct Pages {
    listener: TcpListener,
    router: Router,
}

impl Pages {
    /// Listens.
    ///
    /// # Errors
    /// The port is taken, or the address is not of this machine.
    pub async fn listen(address: SocketAddr, router: Router) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, router })
    }

    /// The address, with the port that was chosen where none was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped.
    pub async fn serve(self) {
        if let Err(error) = axum::serve(self.listener, self.router).await {
            tracing::error!(%error, "pages are not served any more");
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
