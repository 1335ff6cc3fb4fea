//! Who of several controllers works: the holder of one Lease. It saves work, and nothing depends on it: every write
//! carries the version of what it changes, so that two who both believe that they lead can't both succeed.

pub mod candidate;
mod record;

use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use candidate::{Act, Candidate, Moment, Timing};
use record::{lease, record, released};

/// The Lease's name unless another is asked for: two releases in one namespace need two.
pub const NAME: &str = "vouchsafe-controller";

/// How long the work may take to come to its end when this process is asked to stop. Kubernetes kills it after 30 s
/// unless told otherwise; the rest is for the release.
const FAREWELL: Duration = Duration::from_secs(20);

/// A future that ends when the work is to end.
pub type Stop = Shared<BoxFuture<'static, ()>>;

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub struct Election {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// This process, and no other: see [`identity`].
    pub identity: String,
    /// How long it is held.
    pub timing: Timing,
}

/// What is told of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Whether the API server answered, after each try.
    Answered(bool),
    /// Whether this process leads, at each change.
    Leads(bool),
}

/// How [`lead`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// The work ended although nobody asked it to.
    WorkEnded,
}

/// The name of this pod, or machine, and a random word: a container that was started again is another candidate.
#[must_use]
pub fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "vouchsafe".to_owned());
    format!("{host}_{:016x}", rand::random::<u64>())
}

/// Works while it holds the Lease, waits while it doesn't, and releases it in the end. `signs` is told. `work` is given a future that ends when the Lease is lost, or `stop` has ended.
pub async fn lead<Work: Future<Output = ()>>(
    client: Client,
    election: Election,
    stop: Stop,
    signs: impl Fn(Sign) + Clone + Send + Sync + 'static,
    work: impl Fn(Stop) -> Work,
) -> Ended {
    let (tell, told) = watch::channel(None);
    let (let_go, mut asked) = watch::channel(());
    let drain = election.timing.duration.saturating_sub(election.timing.renew_within);
    let mut keeper = Keeper::new(client, election);
    let of_keeper = signs.clone();
    // A task of its own: what the work does must not keep it from renewing.
    let keeping = tokio::spawn(async move {
        tokio::select! {
            () = keeper.keep(&tell, &of_keeper) => {}
            _ = asked.changed() => {}
        }
        keeper
    });
    let ended = terms(told, stop, drain, signs, work).await;
    drop(let_go);
    if let Ok(mut keeper) = keeping.await {
        keeper.release().await;
    }
    ended
}

/// One term after another.
async fn terms<Work: Future<Output = ()>>(
    mut told: Held,
    stop: Stop,
    drain: Duration,
    signs: impl Fn(Sign),
    work: impl Fn(Stop) -> Work,
) -> Ended {
    loop {
        tokio::select! {
            () = stop.clone() => return Ended::Stopped,
            () = begins(&mut told) => {}
        }
        tracing::info!("leads");
        signs(Sign::Leads(true));
        let (mut lost, stopped) = (told.clone(), stop.clone());
        let ending = async move {
            tokio::select! {
                () = stopped => {}
                () = ends(&mut lost) => {}
            }
        };
        let ending = ending.boxed().shared();
        let work = work(ending.clone());
        pin_mut!(work);
        let lost_and_drained = async {
            ends(&mut told).await;
            sleep(drain).await;
        };
        let stopped_and_drained = async {
            stop.clone().await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            () = &mut work => {}
            // Another may lead from here on. What is under way would be refused; it is not even tried.
            () = lost_and_drained => {}
            () = stopped_and_drained => {}
        }
        signs(Sign::Leads(false));
        tracing::info!("leads no longer");
        if stop.clone().now_or_never().is_some() {
            return Ended::Stopped;
        }
        if ending.now_or_never().is_none() {
            return Ended::WorkEnded;
        }
    }
}

/// Until when the Lease is held; none: it isn't.
type Held = watch::Receiver<Option<Instant>>;

/// Waits until it is held.
async fn begins(held: &mut Held) {
    let holds = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
    if held.wait_for(holds).await.is_err() {
        // Whoever would say so is gone, and with it every chance.
        std::future::pending::<()>().await;
    }
}

/// Waits until it is held no longer. Needs nobody's word for it: the time runs out by itself.
async fn ends(held: &mut Held) {
    loop {
        let until = *held.borrow_and_update();
        let Some(until) = until.filter(|until| *until > Instant::now()) else { return };
        tokio::select! {
            () = sleep_until(until) => {}
            changed = held.changed() => if changed.is_err() { sleep_until(until).await },
        }
    }
}

/// Looks at the Lease and writes it.
struct Keeper {
    api: Api<Lease>,
    election: Election,
    candidate: Candidate,
    /// The origin of this process's own clock.
    began: Instant,
}

impl Keeper {
    fn new(client: Client, election: Election) -> Self {
        let api = Api::namespaced(client, &election.namespace);
        let candidate = Candidate::new(election.identity.clone(), election.timing);
        Self { api, election, candidate, began: Instant::now() }
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    /// Tries for ever, and tells after each try.
    async fn keep(&mut self, tell: &watch::Sender<Option<Instant>>, signs: &(impl Fn(Sign) + Sync)) {
        // Two tries at least within a term, however long an answer takes.
        let patience = self.election.timing.renew_within / 2;
        loop {
            let tried = timeout(patience, self.attempt()).await;
            signs(Sign::Answered(matches!(tried, Ok(Ok(())))));
            match tried {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the Lease can't be read or written"),
                Err(_) => tracing::warn!("the API server does not answer about the Lease"),
            }
            tell.send_replace(self.candidate.leads_until().map(|until| self.began + until));
            // Spread, so that candidates that began together don't ask together for ever.
            let spread = 1.0 + 0.2 * rand::random::<f64>();
            sleep(self.election.timing.retry.mul_f64(spread)).await;
        }
    }

    async fn attempt(&mut self) -> Result<(), kube::Error> {
        if !self.candidate.holds() {
            let found = self.api.get_opt(&self.election.name).await?;
            let now = self.now();
            self.candidate.saw(found.as_ref().map(record), now);
        }
        let asked = self.now();
        let wanted = |act: &Act| lease(&self.election, act);
        let act = self.candidate.decide(asked);
        let written = match &act {
            Act::Wait => return Ok(()),
            Act::Create => self.api.create(&PostParams::default(), &wanted(&act)).await,
            Act::Replace { .. } => {
                self.api.replace(&self.election.name, &PostParams::default(), &wanted(&act)).await
            }
        };
        match written {
            Ok(lease) => {
                let now = self.now();
                self.candidate.wrote(record(&lease), asked, now);
                Ok(())
            }
            Err(error) => {
                // Refused, or not answered: either way it may not be as it was.
                self.candidate.was_refused();
                match &error {
                    kube::Error::Api(status) if matches!(status.code, 404 | 409) => Ok(()),
                    _ => Err(error),
                }
            }
        }
    }

    /// Lets go, so that the next need not wait. If that fails, the next waits.
    async fn release(&mut self) {
        let Some(held) = self.candidate.release() else { return };
        let free = released(&self.election, held);
        let parameters = PostParams::default();
        let freed = self.api.replace(&self.election.name, &parameters, &free);
        match timeout(self.election.timing.retry, freed).await {
            Ok(Ok(_)) => tracing::info!("the Lease is released"),
            Ok(Err(error)) => {
                tracing::info!(%error, "the Lease was not released; the next leader waits for it")
            }
            Err(_) => tracing::info!("the Lease was not released; the next leader waits for it"),
        }
    }
}

#[cfg(test)]
mod tests;
