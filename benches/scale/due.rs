//! Many schedules due at one instant.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use vouchsafe::api::BackupSchedule;

use crate::cluster::NAMESPACE;
use crate::objects::{Size, schedule_name};

/// Lets `count` schedules be due at the same minute, other ones in each round, and waits until each has its Backup and
/// that its coordinator's Job. How long after that instant, and the instant.
pub(crate) async fn all_have_jobs(
    client: &Client,
    size: Size,
    count: usize,
    round: usize,
) -> (Duration, Timestamp) {
    let schedules: Api<BackupSchedule> = Api::namespaced(client.clone(), NAMESPACE);
    let jobs: Api<PartialObjectMeta<Job>> = Api::namespaced(client.clone(), NAMESPACE);
    // Time enough to write down what is due and to have it seen.
    let now = Timestamp::now();
    let minute = Timestamp::from_second(now.as_second() - now.as_second() % 60).unwrap();
    let instant = minute + SignedDuration::from_mins(2);
    let spec = json!({"spec": {"schedule": instant.strftime("%M %H * * *").to_string()}});
    for number in round * count..(round + 1) * count {
        assert!(number + 1 < size.schedules, "too many rounds: the last schedule is suspended");
        schedules.patch(&schedule_name(number), &PatchParams::default(), &Patch::Merge(&spec)).await.unwrap();
    }
    let wanted: BTreeSet<String> = (round * count..(round + 1) * count)
        .map(|number| format!("{}-{}", schedule_name(number), instant.strftime("%Y%m%d-%H%M")))
        .collect();
    assert!(Timestamp::now() < instant, "it took too long to write down what is due");
    let left = Duration::try_from(instant.duration_since(Timestamp::now())).unwrap();
    let at = Instant::now() + left;
    let of_runs = watcher::Config::default().labels("app.kubernetes.io/managed-by=vouchsafe");
    let mut seen = pin!(watcher(jobs, of_runs).default_backoff().applied_objects());
    let mut missing = wanted;
    while !missing.is_empty() {
        let job = seen.try_next().await.unwrap().unwrap();
        for owner in job.owner_references() {
            missing.remove(&owner.name);
        }
    }
    (Instant::now().saturating_duration_since(at), instant)
}
