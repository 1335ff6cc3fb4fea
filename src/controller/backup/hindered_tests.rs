//! Pods that do not start, and what is said of them.

use serde_json::json;

use super::tests::{World, at, failure};
use super::*;

#[test]
fn a_locality_without_a_node_is_named_and_fails_at_the_deadline() {
    let mut world = World::new(&json!({"deadline": "1h"}));
    world.step();
    let unschedulable = Failure { message: "0/3 nodes are available".into(), ..failure("Unschedulable") };
    world.job("coordinator").state = JobState::Waiting(Some(unschedulable));
    let plan = world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Pending, "Unschedulable".into()));
    assert!(plan.again_after.is_some_and(|after| after <= std::time::Duration::from_secs(3600)));
    world.seconds = 3601;
    world.step();
    world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Failed, "DeadlineExceeded".into()));
    let message = world.backup.status.unwrap().failure.unwrap().message;
    assert!(message.contains("Unschedulable: 0/3 nodes are available"), "{message}");
}

/// A Job on its way out whose pod is gone already looks like one that has ended without a word.
#[test]
fn what_it_waited_for_is_said_though_its_pod_went_first() {
    let mut world = World::new(&json!({"deadline": "1h"}));
    world.step();
    let unschedulable = Failure { message: "0/3 nodes are available".into(), ..failure("Unschedulable") };
    world.job("coordinator").state = JobState::Waiting(Some(unschedulable));
    world.step();
    world.seconds = 3601;
    let mut going = world.job("coordinator").clone();
    world.step();
    going.state = JobState::Ended {
        pod: None,
        node: None,
        word: None,
        how: "its pod is gone".into(),
        at: Some(at(world.seconds)),
    };
    world.observed.jobs.push(going.clone());
    world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Failed, "DeadlineExceeded".into()));
    let message = world.backup.status.unwrap().failure.unwrap().message;
    assert!(message.contains("Unschedulable: 0/3 nodes are available"), "{message}");
}

/// A pod that was taken away before its container began ends as one whose container is not known: it may have run.
#[test]
fn what_it_waited_for_is_said_though_its_pod_may_have_run() {
    let mut world = World::new(&json!({"deadline": "1h"}));
    world.step();
    let unpulled = Failure { message: "no such image".into(), ..failure("ImagePullFailed") };
    world.job("coordinator").state = JobState::Waiting(Some(unpulled));
    world.step();
    world.seconds = 3601;
    let mut going = world.job("coordinator").clone();
    world.step();
    going.state = JobState::Ended {
        pod: Some("p".into()),
        node: Some("n".into()),
        word: None,
        how: "its pod was ended: ContainerStatusUnknown".into(),
        at: Some(at(world.seconds)),
    };
    world.observed.jobs.push(going);
    world.step();
    assert_eq!(world.reason(), "ImagePullFailed");
    world.observed.jobs.clear();
    world.step();
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Failed, "DeadlineExceeded".into()));
    let message = world.backup.status.unwrap().failure.unwrap().message;
    assert!(message.contains("ImagePullFailed: no such image"), "{message}");
}

/// The controller reads no Secret, so it can't know the host that one names.
#[test]
fn a_server_whose_secret_names_its_host_is_backed_up() {
    let in_secret = json!({"source": {"postgres": {"database": "shop", "endpoints": [{
        "name": "cluster", "locality": "region=eu-west1",
        "credentialsSecret": {"name": "shop-app", "hostKey": "host"},
    }]}}});
    let mut world = World::new(&in_secret);
    assert_eq!(world.step().start.len(), 1);
    let resolved = world.backup.status.as_ref().unwrap().resolved.as_ref().unwrap();
    assert_eq!(resolved.endpoints[0].host, None);
}

/// That a pod is refused wakes nobody: neither the refusal nor its end.
#[test]
fn a_pod_that_does_not_start_is_looked_at_again() {
    let mut world = World::new(&json!({}));
    world.step();
    assert!(world.step().again_after.is_some_and(|after| after.as_secs() <= 15));
    let refused = Failure { message: "exceeded quota: few".into(), ..failure("PodRefused") };
    world.job("coordinator").state = JobState::Waiting(Some(refused));
    assert!(world.step().again_after.is_some_and(|after| after.as_secs() <= 60));
    assert_eq!((world.phase(), world.reason()), (BackupPhase::Pending, "PodRefused".into()));
    assert!(world.holds("Reconciling"));
}
