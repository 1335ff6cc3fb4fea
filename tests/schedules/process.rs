//! What runs against the store: the real register, in the order in which the coordinator uses it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use vouchsafe::engine::register::{Claimed, Register, Turn};
use vouchsafe::engine::{Decided, EngineError};
use vouchsafe::format::{
    Attempt, Decision, Key, Nonce, PlanDocument, PlanId, RunKind, Sha256Digest, VerdictReference, decode,
    encode,
};
use vouchsafe::store::retry::{ErrorCounts, RetryBudget, RetryStore};
use vouchsafe::store::{
    Committed, Download, FolderPage, ListPage, ObjectHead, ObjectStore, ObjectVersion, PartLimits,
    StoreError, UploadSession,
};

use super::connection::Connection;
use super::world::World;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    /// Makes a backup for an owner; goes on with its own open run; voids another's, or stops before it.
    BackUp { owner: &'static str, voids: bool },
    /// Voids the newest run.
    Unlock,
}

/// What a process says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Report {
    /// It sealed the run with this plan.
    Sealed { run: u32, plan: PlanId },
    /// The run is void, whoever voided it.
    Void { run: u32 },
    /// The run is sealed, and not with this process's proof; or by it, when it wanted to void it.
    SealedElsewhere { run: u32 },
    /// A newer attempt is at the run.
    Overtaken,
    /// Another's run is in the way, live or dead.
    Held,
    /// It does not know how the run ended.
    Unknown,
    /// An error before it held a turn, or an empty register where it should unlock.
    Nothing,
}

/// A process: its program, and its connection.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) number: usize,
    pub(crate) program: Program,
    pub(crate) world: Arc<World>,
    pub(crate) retries: bool,
}

/// The plan that a process makes: known from its number, so that a report can be compared.
pub(crate) fn plan_of(number: usize) -> PlanId {
    PlanId::from_random(number as u128)
}

impl Process {
    /// The store as this process sees it: the retries are the real ones.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        // Delays say nothing here: what happens between two attempts is up to the scheduler.
        let budget = RetryBudget {
            attempts: if self.retries { 2 } else { 1 },
            elapsed: Duration::from_secs(3600),
            first_delay: Duration::ZERO,
            longest_delay: Duration::ZERO,
        };
        let connection = Arc::new(Connection::new(Arc::clone(&self.world), self.number));
        let inner = Arc::new(RetryStore::new(connection, budget, Arc::new(ErrorCounts::default())));
        Arc::new(OnItsOwnMachine { inner })
    }

    /// Nobody waits for a sign of life: evidence of death is believed at once, and may be wrong.
    pub(crate) fn register(&self) -> Register {
        Register::new(self.store(), Duration::ZERO)
    }

    pub(crate) async fn run(self) -> Report {
        let (store, register) = (self.store(), self.register());
        match self.program {
            Program::BackUp { owner, voids } => self.back_up(&register, &*store, owner, voids).await,
            Program::Unlock => match register.newest().await {
                Ok(0) => Report::Nothing,
                Ok(run) => report_of(run, unlock(&register, run).await),
                Err(_) => Report::Nothing,
            },
        }
    }

    async fn back_up(
        &self,
        register: &Register,
        store: &dyn ObjectStore,
        owner: &str,
        voids: bool,
    ) -> Report {
        let turn = loop {
            let collection = Sha256Digest::of(b"collection");
            let plan = plan_of(self.number);
            let taken = match register.claim(owner, RunKind::Backup, collection, plan).await {
                Ok(Claimed::New(turn)) => Ok(turn),
                Ok(Claimed::Open(open)) => {
                    let carried = match open.plan {
                        Some(last) if is_there(store, &manifest_key(open.run, last)).await => Some(last),
                        _ => None,
                    };
                    let plan = carried.unwrap_or(plan);
                    register.take_turn(open, plan, carried.is_some(), "a test".into()).await
                }
                Err(error) => Err(error),
            };
            match taken {
                Ok(turn) => break turn,
                Err(EngineError::HeldByAnother { run, .. }) if voids => {
                    if unlock(register, run).await.is_err() {
                        return Report::Unknown;
                    }
                }
                Err(EngineError::HeldByAnother { .. } | EngineError::Busy { .. }) => return Report::Held,
                Err(EngineError::LostTurn { .. }) => return Report::Overtaken,
                Err(_) => return Report::Nothing,
            }
        };
        let proven = tokio::select! {
            // A process that has its answer and is told to stop does one or the other: always the same one,
            // or an execution could not be repeated.
            biased;
            () = self.world.told_to_stop(self.number) => Err(EngineError::Interrupted),
            proven = self.prove(register, store, &turn) => proven,
        };
        match proven {
            Ok(()) => Report::Sealed { run: turn.run, plan: turn.plan },
            Err(
                error @ (EngineError::LostTurn { .. }
                | EngineError::DecidedElsewhere { .. }
                | EngineError::OutcomeUnknown { .. }),
            ) => report_of(turn.run, Err(error)),
            Err(error) => {
                report_of(turn.run, register.abandon(&turn, error.reason(), error.to_string()).await)
            }
        }
    }

    /// From the manifest to the seal, as the coordinator does it.
    async fn prove(
        &self,
        register: &Register,
        store: &dyn ObjectStore,
        turn: &Turn,
    ) -> Result<(), EngineError> {
        let key = manifest_key(turn.run, turn.plan);
        let body = Bytes::from(format!("manifest of process {}", self.number));
        if !is_there(store, &key).await {
            let _ = store.create(&key, body).await?;
        }
        let question = Nonce::from_random(self.number as u128);
        let verdict = Bytes::from(format!("everything of {} is there", turn.plan));
        let written = store.create(&Key::verdict(turn.run, &turn.plan, &question), verdict).await?;
        let manifest = read(store, &key).await?;
        register.still_ours(turn).await?;
        let verdict =
            VerdictReference { destination: "default".into(), nonce: question, sha256: *written.sha256() };
        let ours = Decision::Sealed { plan: turn.plan, manifest, verdicts: vec![verdict] };
        let decided = register.decide(turn, ours.clone()).await?;
        if decided.outcome.decision == ours {
            return Ok(());
        }
        Err(EngineError::DecidedElsewhere { run: turn.run, outcome: Box::new(decided.outcome) })
    }
}

async fn unlock(register: &Register, run: u32) -> Result<Decided, EngineError> {
    register.void(run, "Unlocked", "somebody asked".into()).await
}

fn report_of(run: u32, ended: Result<Decided, EngineError>) -> Report {
    let outcome = match ended {
        Ok(decided) => decided.outcome,
        Err(EngineError::DecidedElsewhere { outcome, .. }) => *outcome,
        Err(EngineError::LostTurn { .. }) => return Report::Overtaken,
        Err(_) => return Report::Unknown,
    };
    match outcome.decision {
        Decision::Sealed { .. } => Report::SealedElsewhere { run },
        Decision::Void { .. } => Report::Void { run },
        Decision::Pruned { .. } => panic!("run {run} is a prune, and none was begun"),
    }
}

pub(crate) fn manifest_key(run: u32, plan: PlanId) -> Key {
    Key::of_plan(run, &plan, PlanDocument::Manifest)
}

async fn is_there(store: &dyn ObjectStore, key: &Key) -> bool {
    store.head(key, None).await.is_ok()
}

async fn read(store: &dyn ObjectStore, key: &Key) -> Result<Sha256Digest, EngineError> {
    use futures::TryStreamExt;
    let chunks: Vec<Bytes> = store.get(key, None, None).await?.body.try_collect().await?;
    Ok(Sha256Digest::of(&chunks.concat()))
}

/// Makes attempts look as if each had been begun on another machine. All processes of a test are one real
/// process, and the register would see that it lives.
#[derive(Debug)]
struct OnItsOwnMachine {
    inner: Arc<dyn ObjectStore>,
}

#[async_trait]
impl ObjectStore for OnItsOwnMachine {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn part_limits(&self) -> PartLimits {
        self.inner.part_limits()
    }

    async fn create(&self, key: &Key, body: Bytes) -> Result<Committed, StoreError> {
        let body = match decode::<Attempt>(&body) {
            Ok(mut attempt) => {
                attempt.process.space = "another machine".into();
                Bytes::from(encode(&attempt).expect("an attempt that was read can be written"))
            }
            Err(_) => body,
        };
        self.inner.create(key, body).await
    }

    async fn begin(&self, key: &Key) -> Result<Box<dyn UploadSession>, StoreError> {
        self.inner.begin(key).await
    }

    async fn get(
        &self,
        key: &Key,
        version: Option<&ObjectVersion>,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Download, StoreError> {
        self.inner.get(key, version, range).await
    }

    async fn head(&self, key: &Key, version: Option<&ObjectVersion>) -> Result<ObjectHead, StoreError> {
        self.inner.head(key, version).await
    }

    async fn list(&self, prefix: Option<&Key>, page: Option<&str>) -> Result<ListPage, StoreError> {
        self.inner.list(prefix, page).await
    }

    async fn list_folders(&self, prefix: &Key, page: Option<&str>) -> Result<FolderPage, StoreError> {
        self.inner.list_folders(prefix, page).await
    }

    async fn delete(&self, key: &Key, version: &ObjectVersion) -> Result<(), StoreError> {
        self.inner.delete(key, version).await
    }
}
