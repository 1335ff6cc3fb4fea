//! Retention, from what a schedule says will go to what its bucket lacks afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Controller, Shop, cluster, vouchsafe, wait_until};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testbed::{WireFault, WireRule};
use vouchsafe::api::{
    Backup, BackupPhase, BackupSchedule, BackupScheduleStatus, BackupStore, LastPrune, ProcessState,
};

const LIMIT: Duration = Duration::from_secs(240);

const SCHEDULE: &str = "kept";

/// What is left of a run that was retired and whose objects are deleted: what the chain of digests needs.
const STAYS: [&str; 4] = ["run.json", "outcome.json", "retired.json", "attempts/"];

/// A shop with a schedule that keeps the last two, and never fires by itself.
struct Kept {
    shop: Shop,
    statuses: Arc<Mutex<Vec<BackupScheduleStatus>>>,
    controller: Controller,
}

impl Kept {
    async fn open() -> Result<Self> {
        let shop = Shop::open_in_one(cluster().await?.namespace("retention").await?).await?;
        let keys = [
            ("AWS_ACCESS_KEY_ID", shop.minio.access_key()),
            ("AWS_SECRET_ACCESS_KEY", shop.minio.secret_key()),
        ];
        shop.namespace.secret("bucket-prune", &keys).await?;
        let patch = json!([{"op": "add", "path": "/spec/destinations/0/deleteCredentialsSecret", "value": {"name": "bucket-prune"}}]);
        let patch = Patch::<()>::Json(serde_json::from_value(patch)?);
        shop.namespace.api::<BackupStore>().patch("orders", &PatchParams::default(), &patch).await?;
        let controller = Controller::start(&shop.namespace)?;
        let template = serde_json::to_value(&shop.backup("template", &json!({"collection": "shop"}))?.spec)?;
        let schedule: BackupSchedule = serde_json::from_value(json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": SCHEDULE},
            "spec": {"schedule": "0 0 29 2 *", "fullSchedule": "Always", "jitter": "0s",
                     "retention": {"keepLast": 2}, "template": {"spec": template}},
        }))?;
        let statuses = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(note(shop.namespace.api(), Arc::clone(&statuses)));
        shop.namespace.create(&schedule).await?;
        Ok(Self { shop, statuses, controller })
    }

    /// Makes a Backup of the schedule's template, as people do, and returns its name.
    fn trigger(&self) -> Result<String> {
        let mut command = Command::new(vouchsafe()?);
        command.args(["trigger", SCHEDULE, "--output", "json", "--namespace", self.shop.namespace.name()]);
        let output = command.arg("--kubeconfig").arg(self.shop.namespace.cluster().kubeconfig()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout)?;
        report["backup"].as_str().map(str::to_owned).context("no name")
    }

    /// The same, waited for: its name and run.
    async fn proven(&self) -> Result<(String, String)> {
        let name = self.trigger()?;
        let status = self.shop.succeeded(&name, LIMIT).await?;
        let run = status.run.and_then(|run| run.number).context("no run")?;
        Ok((name, run.to_string()))
    }

    /// Changes the schedule's spec, and waits until the controller has looked at it and says what is wanted.
    async fn change(
        &self,
        spec: &Value,
        wanted: &str,
        is: impl Fn(&BackupScheduleStatus) -> bool,
    ) -> Result<()> {
        let schedules = self.shop.namespace.api::<BackupSchedule>();
        let patched =
            schedules.patch(SCHEDULE, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?;
        let generation = patched.metadata.generation;
        self.says(wanted, |status| (status.observed_generation == generation && is(status)).then_some(()))
            .await
    }

    async fn says<T>(&self, wanted: &str, look: impl Fn(&BackupScheduleStatus) -> Option<T>) -> Result<T> {
        let of = |schedule: Option<&BackupSchedule>| look(schedule?.status.as_ref()?);
        let said = wait_until(self.shop.namespace.api(), SCHEDULE, wanted, LIMIT, of).await;
        said.with_context(|| self.shop.namespace.state())
    }

    /// The first prune that ends after the one that ended at `before`.
    async fn prune_after(&self, before: Option<&LastPrune>) -> Result<LastPrune> {
        self.says("pruned", |status| {
            status.last_prune.clone().filter(|last| before.is_none_or(|before| before.time < last.time))
        })
        .await
    }

    async fn pruners(&self) -> Result<Vec<Job>> {
        let of_prunes = ListParams::default().labels("app.kubernetes.io/component=pruner");
        Ok(self.shop.namespace.api::<Job>().list(&of_prunes).await?.items)
    }

    async fn backups(&self) -> Result<BTreeSet<String>> {
        let listed = self.shop.namespace.api::<Backup>().list(&ListParams::default()).await?;
        Ok(listed.iter().map(ResourceExt::name_any).collect())
    }

    /// What lies in the bucket but for probes, which come and go.
    fn objects(&self) -> Result<BTreeMap<String, u64>> {
        let mut objects = self.shop.lengths("eu")?;
        objects.retain(|key, _| !key.contains("/probes/"));
        Ok(objects)
    }

    fn is_proven(&self, run: &str) -> Result<()> {
        let verified = self.shop.run_in("shop", "verify", &[run])?;
        ensure!(verified["proven"] == true, "run {run}: {verified}");
        Ok(())
    }

    /// Whether, before the first status that tells of `prune`, one said that just `names` would go.
    fn said_before(&self, prune: &LastPrune, names: &[String]) -> bool {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let before = statuses.iter().take_while(|status| status.last_prune.as_ref() != Some(prune));
        before.map(|status| &status.next_prune).any(|would_go| would_go == names)
    }
}

/// Every status that the schedule has had, in order.
async fn note(schedules: Api<BackupSchedule>, statuses: Arc<Mutex<Vec<BackupScheduleStatus>>>) {
    let changes = watcher(schedules, watcher::Config::default()).default_backoff().applied_objects();
    changes
        .for_each(|changed| {
            let status = changed.ok().and_then(|schedule| schedule.status);
            statuses.lock().unwrap_or_else(PoisonError::into_inner).extend(status);
            std::future::ready(())
        })
        .await;
}

/// The keys of `run` that go when its objects are deleted.
fn may_go(key: &str, run: &str) -> bool {
    let of_run = key.split_once(&format!("/runs/{run:0>8}/"));
    of_run.is_some_and(|(_, rest)| !STAYS.iter().any(|stays| rest.starts_with(stays)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_was_said_before_and_nothing_else_goes() -> Result<()> {
    let kept = Kept::open().await?;
    let shop = &kept.shop;
    shop.namespace.create(&shop.backup("by-hand", &json!({"collection": "shop"}))?).await?;
    let by_hand = shop.succeeded("by-hand", LIMIT).await?;
    assert_eq!(by_hand.run.and_then(|run| run.number), Some(1));
    let ((first, run_of_first), (second, run_of_second)) = (kept.proven().await?, kept.proven().await?);

    // Failures, one after the other; and one of the two that are left would be one too many.
    let rename = |from: &str, to: &str| {
        shop.postgres.psql("postgres", &format!("ALTER DATABASE \"{from}\" RENAME TO \"{to}\""))
    };
    let away = format!("{}_away", shop.database);
    rename(&shop.database, &away)?;
    let mut failed = Vec::new();
    for _ in 0..2 {
        let name = kept.trigger()?;
        let status = shop.ended(&name, LIMIT).await?;
        assert_eq!(status.phase, Some(BackupPhase::Failed), "{status:?}");
        failed.push(name);
    }
    kept.change(&json!({"retention": {"keepLast": 1}}), "shown", |status| {
        status.next_prune == [first.clone()]
    })
    .await?;
    // Each of these is a look that knows all of that.
    for jitter in ["1s", "2s", "3s"] {
        kept.change(&json!({"jitter": jitter}), "looked at again", |_| true).await?;
    }
    kept.change(&json!({"suspend": true}), "suspended", |_| true).await?;
    rename(&away, &shop.database)?;
    let (third, run_of_third) = kept.proven().await?;
    let would_go = [first.clone(), second.clone()];
    kept.says("shown", |status| (status.next_prune == would_go).then_some(())).await?;
    let before = kept.objects()?;
    assert!(!before.keys().any(|key| key.ends_with("/retired.json")), "retired after a failure: {before:?}");
    assert!(kept.pruners().await?.is_empty(), "a prune began after a failure, or of a suspended schedule");

    // The writer's Secret would do no good: a prune has its own.
    let secrets = shop.namespace.api::<k8s_openapi::api::core::v1::Secret>();
    let with = |key: &str| Patch::Merge(json!({"stringData": {"AWS_SECRET_ACCESS_KEY": key}}));
    secrets.patch("bucket", &PatchParams::default(), &with("nobody's-key")).await?;
    kept.change(&json!({"suspend": false}), "resumed", |_| true).await?;
    let pruned = kept.prune_after(None).await?;
    secrets.patch("bucket", &PatchParams::default(), &with(shop.minio.secret_key())).await?;
    assert_eq!((pruned.failure.as_ref(), pruned.retired, pruned.deleted_objects), (None, 2, 0), "{pruned:?}");
    assert_eq!(BTreeSet::from_iter(pruned.removed.clone()), BTreeSet::from(would_go.clone()));
    assert!(kept.said_before(&pruned, &would_go), "{:?}", kept.statuses);
    let pods = shop.namespace.api::<Pod>().list(&ListParams::default()).await?;
    let pod = pods
        .iter()
        .find(|pod| pod.labels().get("app.kubernetes.io/component").is_some_and(|it| it == "pruner"));
    let volumes =
        pod.and_then(|pod| pod.spec.clone()).and_then(|spec| spec.volumes).context("no prune's pod")?;
    let mounted: Vec<_> = volumes.into_iter().filter_map(|it| it.secret?.secret_name).collect();
    assert_eq!(mounted, ["bucket-prune"]);

    let by_then = ["by-hand".to_owned(), third.clone(), failed[0].clone(), failed[1].clone()];
    let resources = |listed: &kube::api::ObjectList<Backup>| {
        listed.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>() == BTreeSet::from(by_then.clone())
    };
    shop.namespace.until_listed::<Backup>("those that stay", LIMIT, resources).await?;
    let after = kept.objects()?;
    let prunes_run = pruned.run.context("the prune has no run")?.to_string();
    let of_prune = format!("/runs/{prunes_run:0>8}/");
    let came: BTreeSet<&str> = after
        .keys()
        .filter(|key| !before.contains_key(*key) && !key.contains(&of_prune))
        .map(String::as_str)
        .collect();
    let marks = [&run_of_first, &run_of_second].map(|run| format!("pg/shop/runs/{run:0>8}/retired.json"));
    assert_eq!(came, marks.iter().map(String::as_str).collect());
    assert!(before.iter().all(|(key, length)| after.get(key) == Some(length)), "{before:?}\n{after:?}");
    for run in ["1", &run_of_third] {
        kept.is_proven(run)?;
    }
    let refused =
        shop.run_in("shop", "verify", &[&run_of_first]).err().context("a retired run was verified")?;
    assert!(format!("{refused:#}").contains("RunRetired"), "{refused:#}");

    // What was retired long ago is deleted by the next prune, while somebody makes a backup by hand.
    kept.change(&json!({"suspend": true}), "suspended", |_| true).await?;
    let (fourth, run_of_fourth) = kept.proven().await?;
    kept.says("shown", |status| (status.next_prune == [third.clone()]).then_some(())).await?;
    let before = kept.objects()?;
    let slow =
        WireRule::during(0..u64::MAX, WireFault::Delay(Duration::from_secs(4))).only("GET ").only("/data/");
    let old = WireRule::during(0..u64::MAX, WireFault::LongAgo).only(&format!("{of_prune}outcome.json"));
    shop.wire.set(vec![slow, old]);
    kept.change(&json!({"suspend": false}), "pruning", |status| {
        status.processes.iter().any(|it| it.state == ProcessState::Running)
    })
    .await?;
    let beside = shop.backup("beside", &json!({"collection": "shop"}))?;
    let beside = shop.namespace.create(&beside).await?.creation_timestamp().context("no time")?;
    let last = kept.prune_after(Some(&pruned)).await?;
    let status = shop.succeeded("beside", LIMIT).await?;
    let fired = shop.wire.fired();
    for fault in [WireFault::Delay(Duration::from_secs(4)), WireFault::LongAgo] {
        assert!(fired.iter().any(|it| it.fault == fault), "{fault:?} met nothing");
    }
    assert!(last.time >= beside.0.to_string(), "the prune had ended before the Backup was made");
    assert_eq!(
        (last.failure.as_ref(), last.retired, &last.removed),
        (None, 1, &vec![third.clone()]),
        "{last:?}"
    );
    assert!(kept.said_before(&last, std::slice::from_ref(&third)));
    let after = kept.objects()?;
    let gone: BTreeMap<&String, u64> = before
        .iter()
        .filter(|(key, _)| !after.contains_key(*key))
        .map(|(key, length)| (key, *length))
        .collect();
    let should: BTreeMap<&String, u64> = before
        .iter()
        .filter(|(key, _)| may_go(key, &run_of_first) || may_go(key, &run_of_second))
        .map(|(key, length)| (key, *length))
        .collect();
    assert!(should.keys().any(|key| key.contains("/data/")), "{should:?}");
    assert_eq!(gone, should);
    assert_eq!(last.deleted_objects, i64::try_from(gone.len())?);
    assert_eq!(last.deleted_bytes, i64::try_from(gone.values().sum::<u64>())?);
    let run_of_beside = status.run.and_then(|run| run.number).context("no run")?.to_string();
    for run in ["1", &run_of_fourth, &run_of_beside] {
        kept.is_proven(run)?;
    }

    // The schedule goes; what it has made stays.
    let stay =
        BTreeSet::from([fourth, "by-hand".into(), "beside".into(), failed[0].clone(), failed[1].clone()]);
    let there = |listed: &kube::api::ObjectList<Backup>| {
        listed.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>() == stay
    };
    shop.namespace.until_listed::<Backup>("those that stay", LIMIT, there).await?;
    let after = kept.objects()?;
    let schedules = shop.namespace.api::<BackupSchedule>();
    let uid = schedules.get(SCHEDULE).await?.metadata.uid;
    let owner = json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "name": SCHEDULE, "uid": uid});
    let marker: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "the-schedules", "ownerReferences": [owner]}}))?;
    shop.namespace.create(&marker).await?;
    schedules.delete(SCHEDULE, &DeleteParams::default()).await?;
    // Whatever is the schedule's goes with it, and that is how it is known that the garbage collector was here.
    let collected = |maps: &kube::api::ObjectList<ConfigMap>| {
        maps.iter().all(|it| it.metadata.name.as_deref() != Some("the-schedules"))
    };
    shop.namespace.until_listed::<ConfigMap>("gone with their schedule", LIMIT, collected).await?;
    assert_eq!(kept.backups().await?, stay);
    assert_eq!(kept.objects()?, after);
    // The controller did not stumble over what went.
    let log = kept.controller.log();
    assert!(!log.contains("not found in local store"), "{log}");
    Ok(())
}
