//! The way from the engine to the store of one case, with the faults in it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use testbed::FaultProxy;
use vouchsafe::store::Limits;
use vouchsafe::store::fault::FaultStore;
use vouchsafe::store::open::{open, open_bare, wrap};
use vouchsafe::store::retry::RetryBudget;
use vouchsafe::store::{ObjectStore, StoreOptions};

use super::fault::{Fault, Level};
use super::kind::{Kind, Protocol};
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
    Wire(FaultProxy, Protocol),
}

fn options(world: &World) -> StoreOptions {
    let limits = Limits { attempt: LIMIT, complete: LIMIT, stall: LIMIT, ..Limits::default() };
    StoreOptions {
        retry: RetryBudget {
            attempts: ATTEMPTS,
            elapsed: Duration::from_secs(60),
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(4),
        },
        ..world.server.options(limits)
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
                let bare = open_bare(&world.server.url(&prefixes[0], None), &options).await.unwrap();
                let rules = marks.iter().map(|(kind, nth, fault)| fault.rule(*kind, *nth)).collect();
                let faults = Arc::new(FaultStore::new(bare, rules));
                Self { stores: vec![wrap(faults.clone(), &options)], faults: Faults::Trait(faults) }
            }
            Level::Wire => {
                let (proxy, protocol) = (FaultProxy::start(world.server.port()), world.server.protocol());
                let rules = marks.iter().map(|(kind, nth, fault)| fault.wire_rule(protocol, *kind, *nth));
                proxy.set(rules.collect());
                let mut stores = Vec::new();
                for prefix in &prefixes {
                    let url = world.server.url(prefix, Some(&proxy.endpoint()));
                    stores.push(open(&url, &options).await.unwrap());
                }
                Self { stores, faults: Faults::Wire(proxy, protocol) }
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
            Faults::Wire(proxy, protocol) => {
                let requests = proxy.requests().into_iter().zip(proxy.statuses());
                requests
                    .map(|(line, status)| (Kind::of_line(*protocol, &line), (200..300).contains(&status)))
                    .collect()
            }
        }
    }

    /// Which of the marks have fired, by position: one that fires several times does not stand for another.
    pub fn fired(&self) -> BTreeSet<usize> {
        match &self.faults {
            Faults::Trait(store) => store.fired().iter().map(|fired| fired.rule).collect(),
            Faults::Wire(proxy, _) => proxy.fired().iter().map(|fired| fired.rule).collect(),
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
            Faults::Wire(proxy, _) => proxy.heal(),
        }
    }
}
