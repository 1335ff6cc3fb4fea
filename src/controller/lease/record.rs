//! A Lease as Kubernetes has it, and what it says. Only the times that others show to people are of this clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;

use super::Election;
use super::candidate::{Act, Record};

/// What `lease` says.
pub(super) fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|it| u64::try_from(it).ok());
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// The Lease that `act` wants, held by this candidate.
pub(super) fn lease(election: &Election, act: &Act) -> Lease {
    let (version, acquired, transitions) = match act {
        Act::Wait | Act::Create => (None, None, 0),
        Act::Replace { version, acquired, transitions } => (Some(version.clone()), *acquired, *transitions),
    };
    let now = Timestamp::now();
    let duration = election.timing.duration;
    let spec = LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: Some(seconds(duration)),
        acquire_time: Some(MicroTime(acquired.unwrap_or(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    Lease { metadata: metadata(election, version), spec: Some(spec) }
}

/// The Lease without a holder. Its duration is the least that there is: there is nobody to wait for.
pub(super) fn released(election: &Election, held: Record) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(Timestamp::now())),
        lease_transitions: Some(held.transitions),
        ..LeaseSpec::default()
    };
    Lease { metadata: metadata(election, Some(held.version)), spec: Some(spec) }
}

fn metadata(election: &Election, version: Option<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(election.name.clone()),
        namespace: Some(election.namespace.clone()),
        resource_version: version,
        ..ObjectMeta::default()
    }
}

/// Rounded up: others must not wait for less than is meant.
fn seconds(duration: Duration) -> i32 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(whole).unwrap_or(i32::MAX).max(1)
}
