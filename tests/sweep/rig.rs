//! The way from the engine to the store of one case, with the faults in it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use testbed::FaultProxy;
use vouchsafe::store::fault::FaultStore;
use vouchsafe::store::location::{S3Location, StoreUrl};
use vouchsafe::store::open::{open, open_bare, wrap};
use vouchsafe::store::retry::RetryBudget;
use vouchsafe::store::s3::{Credentials, S3Limits, S3Options};
use vouchsafe::store::{ObjectStore, StoreOptions};

use super::fault::{Fault, Level};
use super::kind::Kind;
use super::world::World;

/// Attempts at a request.
pub const ATTEMPTS: usize = 4;

/// Long for a server on this machine, short for whoever waits for the stalls.
const LIMIT: Duration = Duration::from_secs(3);

/// One case's stores: two prefixes of the bucket on the wire, where one proxy serves both; one at the trait.
pub struct Rig {
    pub stores: Vec<Arc<dyn ObjectStore>>,
    faults: Faults,
}

enum Faults {
    Trait(Arc<FaultStore>),
    Wire(FaultProxy),
}

fn options(world: &World) -> StoreOptions {
    let credentials = Credentials {
        access_key_id: world.s3.access_key().to_owned(),
        secret_access_key: world.s3.secret_key().to_owned(),
        session_token: None,
    };
    let limits = S3Limits { attempt: LIMIT, complete: LIMIT, stall: LIMIT, ..S3Limits::default() };
    StoreOptions {
        retry: RetryBudget {
            attempts: ATTEMPTS,
            elapsed: Duration::from_secs(60),
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(4),
        },
        s3: S3Options { credentials: Some(credentials), limits, ..S3Options::default() },
        ..StoreOptions::default()
    }
}

fn location(world: &World, prefix: &str, endpoint: String) -> StoreUrl {
    let (bucket, region) = (&world.bucket, world.s3.region());
    let url = format!("s3://{bucket}/{prefix}?region={region}&endpoint={}", world.s3.endpoint());
    match url.parse().unwrap() {
        StoreUrl::S3(location) => StoreUrl::S3(S3Location { endpoint: Some(endpoint), ..location }),
        StoreUrl::File(_) => panic!("{url} names a bucket"),
    }
}

/// The prefixes of a case's destinations.
pub fn prefixes(level: Level, case: &str) -> Vec<String> {
    match level {
        Level::Trait => vec![format!("{case}/here")],
        Level::Wire => vec![format!("{case}/here"), format!("{case}/there")],
    }
}

impl Rig {
    /// Below `case`, with a fault at each of `marks`.
    pub async fn new(world: &World, level: Level, case: &str, marks: &[(Kind, u64, Fault)]) -> Self {
        let options = options(world);
        let prefixes = prefixes(level, case);
        match level {
            Level::Trait => {
                let bare =
                    open_bare(&location(world, &prefixes[0], world.s3.endpoint()), &options).await.unwrap();
                let rules = marks.iter().map(|(kind, nth, fault)| fault.rule(*kind, *nth)).collect();
                let faults = Arc::new(FaultStore::new(bare, rules));
                Self { stores: vec![wrap(faults.clone(), &options)], faults: Faults::Trait(faults) }
            }
            Level::Wire => {
                let proxy = FaultProxy::start(world.s3.port());
                proxy.set(marks.iter().map(|(kind, nth, fault)| fault.wire_rule(*kind, *nth)).collect());
                let mut stores = Vec::new();
                for prefix in &prefixes {
                    stores.push(open(&location(world, prefix, proxy.endpoint()), &options).await.unwrap());
                }
                Self { stores, faults: Faults::Wire(proxy) }
            }
        }
    }

    /// Every request so far, with whether it found something.
    pub fn requests(&self) -> Vec<(Kind, bool)> {
        match &self.faults {
            Faults::Trait(store) => {
                let there = store.found();
                let requests = store.requests();
                let kinds = (0..).zip(requests).map(|(number, (operation, object))| {
                    (Kind::of_request(operation, &object), there.contains(&number))
                });
                kinds.collect()
            }
            Faults::Wire(proxy) => {
                let requests = proxy.requests().into_iter().zip(proxy.statuses());
                requests.map(|(line, status)| (Kind::of_line(&line), (200..300).contains(&status))).collect()
            }
        }
    }

    /// Which of the marks have fired, by position: one that fires several times does not stand for another.
    pub fn fired(&self) -> BTreeSet<usize> {
        match &self.faults {
            Faults::Trait(store) => store.fired().iter().map(|fired| fired.rule).collect(),
            Faults::Wire(proxy) => proxy.fired().iter().map(|fired| fired.rule).collect(),
        }
    }

    /// Whether each of `marks`, in their order, has fired; else those that haven't.
    pub fn all_fired<M: fmt::Display>(&self, marks: &[M]) -> Result<(), String> {
        let fired = self.fired();
        let unfired = marks.iter().enumerate().filter(|(position, _)| !fired.contains(position));
        let unfired: Vec<String> = unfired.map(|(_, mark)| mark.to_string()).collect();
        if unfired.is_empty() { Ok(()) } else { Err(format!("never fired: {}", unfired.join(", "))) }
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        match &self.faults {
            Faults::Trait(store) => store.heal(),
            Faults::Wire(proxy) => proxy.heal(),
        }
    }
}
