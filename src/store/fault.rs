//! A store that fails on purpose: at the n-th request, at the n-th of an operation, for a stretch of time, or
//! at random by a seed. It says what it did, because a fault that never fired proves nothing.
//!
//! Put it below the retries: `RetryStore(FaultStore(real))`. It acts above the SDK, so it never exercises the
//! parsing of real answers; for that there is a proxy on the wire.

mod body;
mod session;
mod when;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use self::session::FaultSession;
pub use self::when::{Name, Reach, When};
use super::{
    Committed, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, StoreErrorKind, UploadSession,
};
use crate::format::{Key, Sha256Digest};

/// The requests that a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Operation {
    Create,
    Begin,
    PutPart,
    Complete,
    Abort,
    Get,
    Head,
    List,
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Begin,
        Self::PutPart,
        Self::Complete,
        Self::Abort,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
    ];

    /// Its name in errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Begin => "begin",
            Self::PutPart => "put_part",
            Self::Complete => "complete",
            Self::Abort => "abort",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    const fn stores(self) -> bool {
        matches!(self, Self::Create | Self::PutPart | Self::Complete)
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused, without effect.
    Before(StoreErrorKind),
    /// Carried out, and the acknowledgement replaced by an error.
    After(StoreErrorKind),
    /// Acknowledged, and not carried out. Only for requests that store something.
    Pretend,
    /// `get`: the body breaks off after so many bytes, with an error.
    CutBody(u64),
    /// `get`: the body ends after so many bytes as if it were complete.
    EndBody(u64),
    /// `get`: this bit of the body is the other one. Bodies that are shorter are left alone.
    FlipBit(u64),
    /// `list`: nothing is shown, as by a store whose lists lag.
    StaleList,
    /// `list`: something is shown besides that is not there.
    GhostList,
}

impl Fault {
    const fn fits(self, operation: Operation) -> bool {
        match self {
            Self::Before(_) | Self::After(_) => true,
            Self::Pretend => operation.stores(),
            Self::CutBody(_) | Self::EndBody(_) | Self::FlipBit(_) => matches!(operation, Operation::Get),
            Self::StaleList | Self::GhostList => matches!(operation, Operation::List),
        }
    }
}

/// A fault, and which requests it meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which requests.
    pub when: When,
    /// Only requests about objects whose name contains this.
    pub name_contains: Option<String>,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// `fault` at the requests that `when` names, whatever they are about.
    #[must_use]
    pub const fn new(when: When, fault: Fault) -> Self {
        Self { when, name_contains: None, fault }
    }

    /// Only at objects whose name contains `part`: data objects, say, while metadata passes.
    #[must_use]
    pub fn only(mut self, part: &str) -> Self {
        self.name_contains = Some(part.to_owned());
        self
    }
}

/// A request that was met by a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Its number among all requests.
    pub request: u64,
    /// What it asked for.
    pub operation: Operation,
    /// The object's name; empty for a list of everything.
    pub object: String,
    /// What went wrong.
    pub fault: Fault,
}

/// A store with faults.
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
}

struct Plan {
    rules: Vec<Rule>,
    healed: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    requests: Vec<(Operation, String)>,
    /// Numbers of the requests to get or head an object that was there.
    found: Vec<u64>,
    fired: Vec<Fired>,
}

impl Plan {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, and says what is to go wrong with it. The first rule that matches wins.
    fn next(self: &Arc<Self>, operation: Operation, object: &str) -> Option<Trap> {
        self.next_numbered(operation, object).1
    }

    fn next_numbered(self: &Arc<Self>, operation: Operation, object: &str) -> (u64, Option<Trap>) {
        let mut log = self.log();
        let request = log.requests.len() as u64;
        log.requests.push((operation, object.to_owned()));
        if self.healed.load(Ordering::SeqCst) {
            return (request, None);
        }
        let rule = self.rules.iter().find(|rule| {
            let named = rule.name_contains.as_ref().is_none_or(|part| object.contains(part));
            named && rule.fault.fits(operation) && rule.when.meets(&log.requests)
        });
        let trap = rule.map(|rule| {
            let fired = Fired { request, operation, object: object.to_owned(), fault: rule.fault };
            Trap { plan: Arc::clone(self), fired }
        });
        (request, trap)
    }
}

/// A fault that is set for one request. It counts as fired when it has changed something, and not before.
struct Trap {
    plan: Arc<Plan>,
    fired: Fired,
}

impl Trap {
    const fn fault(&self) -> Fault {
        self.fired.fault
    }

    fn fire(self) {
        self.plan.log().fired.push(self.fired);
    }

    fn error(self, kind: StoreErrorKind, when: &str) -> StoreError {
        let message = format!("injected {when} the request took effect");
        let error = StoreError::new(kind, self.fired.operation.name(), self.fired.object.clone(), message);
        self.fire();
        error
    }
}

/// Carries a request out under the faults that replace its answer. Those that are about what it stores or reads
/// come back, to be acted on.
async fn under<T>(
    trap: Option<Trap>,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<(T, Option<Trap>), StoreError> {
    let Some(trap) = trap else { return Ok((request.await?, None)) };
    match trap.fault() {
        Fault::Before(kind) => Err(trap.error(kind, "before")),
        // A refusal can be lost like any other answer.
        Fault::After(kind) => {
            drop(request.await);
            Err(trap.error(kind, "after"))
        }
        Fault::Pretend
        | Fault::CutBody(_)
        | Fault::EndBody(_)
        | Fault::FlipBit(_)
        | Fault::StaleList
        | Fault::GhostList => Ok((request.await?, Some(trap))),
    }
}

/// The trap, if it is one that pretends.
fn pretending(trap: Option<Trap>) -> Result<Trap, Option<Trap>> {
    match trap {
        Some(trap) if trap.fault() == Fault::Pretend => Ok(trap),
        other => Err(other),
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("inner", &self.inner).field("rules", &self.plan.rules).finish()
    }
}

impl FaultStore {
    /// Wraps `inner`. Without rules it only counts.
    pub fn new(inner: Arc<dyn ObjectStore>, rules: Vec<Rule>) -> Self {
        Self { inner, plan: Arc::new(Plan { rules, healed: AtomicBool::new(false), log: Mutex::default() }) }
    }

    /// Every request so far, in order: what a sweep goes through.
    #[must_use]
    pub fn requests(&self) -> Vec<(Operation, String)> {
        self.plan.log().requests.clone()
    }

    /// Numbers of those requests that read an object or its head and found it.
    #[must_use]
    pub fn found(&self) -> Vec<u64> {
        self.plan.log().found.clone()
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.plan.healed.store(true, Ordering::SeqCst);
    }

    /// Every request that a fault has met.
    #[must_use]
    pub fn fired(&self) -> Vec<Fired> {
        self.plan.log().fired.clone()
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn part_limits(&self) -> PartLimits {
        self.inner.part_limits()
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        match pretending(self.plan.next(Operation::Create, key.as_str())) {
            Ok(trap) => {
                trap.fire();
                let (length, sha256) = (body.len() as u64, Sha256Digest::of(&body));
                Ok(Committed::new(key.clone(), length, sha256, None, pretended_version()))
            }
            Err(trap) => under(trap, self.inner.create(key, body)).await.map(|(committed, _)| committed),
        }
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        let trap = self.plan.next(Operation::Begin, key.as_str());
        let (inner, _) = under(trap, self.inner.begin(key)).await?;
        Ok(Box::new(FaultSession::new(inner, Arc::clone(&self.plan), key.clone())))
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<Range<u64>>,
    ) -> Result<Download, StoreError> {
        let (number, trap) = self.plan.next_numbered(Operation::Get, key.as_str());
        let (download, trap) = under(trap, self.inner.get(key, version, range)).await?;
        self.plan.log().found.push(number);
        Ok(body::damaged(download, trap))
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        let (number, trap) = self.plan.next_numbered(Operation::Head, key.as_str());
        let (head, _) = under(trap, self.inner.head(key, version)).await?;
        self.plan.log().found.push(number);
        Ok(head)
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        let trap = self.plan.next(Operation::List, prefix.map_or("", Key::as_str));
        let (mut listed, trap) = under(trap, self.inner.list(prefix, page)).await?;
        let Some(trap) = trap else { return Ok(listed) };
        match trap.fault() {
            Fault::StaleList => listed = ListPage::default(),
            // A run, or what a list of something else would show there.
            _ => listed.objects.push((prefix.map_or_else(|| Key::run(9), ghost_below), 1)),
        }
        trap.fire();
        Ok(listed)
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        let trap = self.plan.next(Operation::List, prefix.as_str());
        let (mut listed, trap) = under(trap, self.inner.list_folders(prefix, page)).await?;
        let Some(trap) = trap else { return Ok(listed) };
        match trap.fault() {
            Fault::StaleList => listed = FolderPage::default(),
            _ => listed.folders.push(Key::run_prefix(9)),
        }
        trap.fire();
        Ok(listed)
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        let trap = self.plan.next(Operation::Delete, key.as_str());
        under(trap, self.inner.delete(key, version)).await.map(|((), _)| ())
    }

    async fn refuses_wrong_checksum(&self, key: &Key) -> Result<bool, StoreError> {
        self.inner.refuses_wrong_checksum(key).await
    }
}

/// A name below `prefix` that nothing has.
fn ghost_below(prefix: &Key) -> Key {
    if *prefix == Key::runs() {
        return Key::run(9);
    }
    Key::parse(&format!("{prefix}/ghost.json")).unwrap_or_else(|_| prefix.clone())
}

/// A version that no object has.
fn pretended_version() -> ObjectVersion {
    ObjectVersion { etag: Some("\"pretended\"".to_owned()), version: None }
}
