//! A store that speaks as Google Cloud Storage does, in this process: data over HTTP, metadata over gRPC, on one port.
//!
//! There is no emulator that the official SDK works with and that refuses what the service refuses. This one does what
//! the service documents, each rule with its source, and no more: what it doesn't have it answers 501.

mod account;
mod bucket;
mod control;
mod media;
mod refusal;
mod upload;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, header};
use axum::routing::{get, post};
use bytes::Bytes;

use self::account::Account;
use self::bucket::{Bucket, Conditions};
use self::refusal::Refusal;

/// What goes wrong inside the service. What goes wrong on the way to it over HTTP/1.1 is a
/// [`FaultProxy`](crate::FaultProxy)'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It asks to slow down.
    Throttle,
    /// It fails, and nothing is carried out.
    Unavailable,
    /// This identity may not.
    Forbid,
    /// It carries the request out, and answers that it failed.
    LoseAnswer,
    /// It carries the request out, and never answers.
    Stall,
    /// Of a resumable upload's request it keeps 256 KiB only.
    KeepAQuantum,
}

/// A trouble at work.
#[derive(Debug)]
struct Armed {
    bucket: String,
    at: String,
    left: u64,
    trouble: Trouble,
}

/// What all requests share.
#[derive(Clone, Debug)]
struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    account: Option<Account>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
    troubles: Mutex<Vec<Armed>>,
    ids: AtomicU64,
}

impl Service {
    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.0.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Bucket) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        work(self.buckets().get_mut(name).ok_or_else(Refusal::no_bucket)?)
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let said = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        self.0.account.as_ref().map_or(Ok(()), |account| account.check(said))
    }

    /// What goes wrong with this request, which is one less of those then.
    fn trouble(&self, bucket: &str, at: &str) -> Option<Trouble> {
        let mut troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let armed = troubles.iter_mut().find(|it| it.left > 0 && it.bucket == bucket && it.at == at)?;
        armed.left -= 1;
        Some(armed.trouble)
    }

    fn new_id(&self) -> String {
        format!("AH-{:024x}", self.0.ids.fetch_add(1, Ordering::SeqCst))
    }

    /// What the service calls itself in a `Location`.
    fn address_for_uploads(&self) -> String {
        format!("http://{}", self.0.address)
    }
}

/// A server of its own. It lives as long as the process.
#[derive(Debug)]
pub struct GcsServer {
    service: Service,
}

/// The server that all tests of this process share, started on first use; it asks nobody who they are. Tests keep apart
/// by buckets.
pub fn shared() -> &'static GcsServer {
    static SERVER: OnceLock<GcsServer> = OnceLock::new();
    SERVER.get_or_init(|| GcsServer::start(None))
}

impl GcsServer {
    /// Starts a server that only its own service account may ask.
    ///
    /// # Panics
    /// If no port, thread or key can be had.
    #[must_use]
    pub fn start_with_an_account() -> Self {
        Self::start(Some(Account::new()))
    }

    fn start(account: Option<Account>) -> Self {
        let fail =
            |cause: std::io::Error| -> ! { panic!("the store of Google's kind doesn't start: {cause}") };
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|cause| fail(cause));
        let address = listener.local_addr().unwrap_or_else(|cause| fail(cause));
        listener.set_nonblocking(true).unwrap_or_else(|cause| fail(cause));
        let service = Service(Arc::new(Inner {
            address,
            account,
            buckets: Mutex::default(),
            troubles: Mutex::default(),
            ids: AtomicU64::new(1),
        }));
        let router = Router::new()
            .route(
                "/upload/storage/v1/b/{bucket}/o",
                post(upload::insert).put(upload::resume).delete(upload::cancel),
            )
            .route("/storage/v1/b/{bucket}/o/{object}", get(media::get))
            .route("/google.storage.v2.Storage/{method}", post(control::call))
            .layer(DefaultBodyLimit::disable())
            .with_state(service.clone());
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap_or_else(|cause| fail(cause));
            runtime.block_on(async {
                let listener =
                    tokio::net::TcpListener::from_std(listener).unwrap_or_else(|cause| fail(cause));
                axum::serve(listener, router).await.unwrap_or_else(|cause| fail(cause));
            });
        };
        let named = thread::Builder::new().name("gcs".to_owned());
        named.spawn(serve).unwrap_or_else(|cause| fail(cause));
        Self { service }
    }

    /// `http://127.0.0.1:<port>`, of data and metadata.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.service.0.address)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.service.0.address.port()
    }

    /// The service account's key, as a file of it looks; nothing if nobody is asked for one.
    #[must_use]
    pub fn key_file(&self) -> Option<&str> {
        self.service.0.account.as_ref().map(Account::file)
    }

    /// Makes an empty bucket, and returns its name.
    #[must_use]
    pub fn fresh_bucket(&self, purpose: &str) -> String {
        self.new_bucket(purpose, false)
    }

    /// Makes an empty bucket that keeps what is overwritten or deleted, and returns its name.
    #[must_use]
    pub fn fresh_versioned_bucket(&self, purpose: &str) -> String {
        self.new_bucket(purpose, true)
    }

    fn new_bucket(&self, purpose: &str, versioned: bool) -> String {
        let name = format!("{purpose}-{}", self.service.0.ids.fetch_add(1, Ordering::SeqCst));
        self.service.buckets().insert(name.clone(), Bucket::new(versioned));
        name
    }

    /// How many resumable uploads have been begun and are neither complete nor canceled.
    #[must_use]
    pub fn unfinished(&self, bucket: &str) -> usize {
        let buckets = self.service.buckets();
        buckets.get(bucket).map_or(0, |it| it.uploads.values().filter(|upload| upload.is_open()).count())
    }

    /// Has the next `times` requests of the kind `at` to a bucket go wrong: the name of a method of gRPC, with `after `
    /// before it for what is carried out first, or `PUT` for those of resumable uploads.
    pub fn trouble(&self, bucket: &str, at: &str, times: u64, trouble: Trouble) {
        let armed = Armed { bucket: bucket.to_owned(), at: at.to_owned(), left: times, trouble };
        self.service.0.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(armed);
    }

    /// How many requests to a bucket are still to go wrong; those that were met are the rest.
    #[must_use]
    pub fn troubles_left(&self, bucket: &str) -> u64 {
        let troubles = self.service.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().filter(|it| it.bucket == bucket).map(|it| it.left).sum()
    }

    /// Ends all troubles of a bucket.
    pub fn heal(&self, bucket: &str) {
        self.service
            .0
            .troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|it| it.bucket != bucket);
    }

    /// Puts a hold on an object, or takes it away.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn hold(&self, bucket: &str, name: &str, held: bool) {
        self.with(bucket, |content| content.hold(name, held));
    }

    /// Deletes what has the name, without saying which: a bucket that keeps versions keeps it.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn archive(&self, bucket: &str, name: &str) {
        let gone = |content: &mut Bucket| content.delete(bucket, name, None, &Conditions::default());
        self.with(bucket, |content| gone(content).unwrap_or_else(|refusal| panic!("{refusal:?}")));
    }

    /// Has an object's bytes be others, while all that is told of them stays.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn damage(&self, bucket: &str, name: &str, content: impl Into<Bytes>) {
        self.with(bucket, |bucket| bucket.damage(name, content.into()));
    }

    /// Names and contents of a bucket's objects.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> Vec<(String, Bytes)> {
        let found = |content: &Bucket| {
            content.live().map(|(name, object)| (name.clone(), object.content.clone())).collect()
        };
        self.service.buckets().get(bucket).map(found).unwrap_or_default()
    }

    fn with(&self, bucket: &str, work: impl FnOnce(&mut Bucket)) {
        let mut buckets = self.service.buckets();
        work(buckets.get_mut(bucket).unwrap_or_else(|| panic!("there is no bucket {bucket}")));
    }
}
