//! What the pods of runs may do, and that no password or key is shown anywhere.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::{Controller, Job, Namespace, Shop, cluster, vouchsafe, wait_until};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use vouchsafe::api::{
    Backup, BackupPhase, BackupSchedule, BackupStatus, BackupStore, ProcessState, Restore, RestorePhase,
};

const LIMIT: Duration = Duration::from_secs(240);

/// The password of the role that runs log in as.
const PASSWORD: &str = "canary-nine-yellow-feathers";
/// The password that one run tries in vain.
const WRONG: &str = "canary-that-never-sang";

/// What `kubectl auth can-i --list` says of a coordinator, but for what everybody may.
const COORDINATOR: &str = "\
backups.vouchsafe.dev [NAME] [get list watch]
backups.vouchsafe.dev/status [NAME] [patch]";

/// Everything of a namespace that its readers see, but Secrets.
const SHOWN: &str = "pods,jobs,configmaps,serviceaccounts,roles,rolebindings,events,leases,\
    backups.vouchsafe.dev,restores.vouchsafe.dev,backupschedules.vouchsafe.dev,backupstores.vouchsafe.dev";

/// A text as it shows itself: plain, and in base64 wherever it begins in what is encoded.
fn shapes(secret: &str) -> Vec<String> {
    let mut shapes = vec![secret.to_owned()];
    for before in 0..3 {
        let padded = [&[0; 2][..before], secret.as_bytes()].concat();
        let text = STANDARD.encode(&padded);
        // Characters that hold a bit of a neighbour's are another's in another text.
        let from = (before * 8).div_ceil(6);
        shapes.push(text[from..padded.len() * 8 / 6].to_owned());
    }
    shapes
}

/// Which of the secrets a text shows.
fn shown<'a>(text: &str, secrets: &[&'a str]) -> Vec<&'a str> {
    let is_shown = |secret: &&&str| shapes(secret).iter().any(|shape| text.contains(shape));
    secrets.iter().filter(is_shown).copied().collect()
}

/// All that can be read in a namespace, with the whole log of each pod.
fn all_of(namespace: &Namespace) -> Result<String> {
    let mut text = namespace.kubectl(&["get", SHOWN, "--output", "json", "--show-managed-fields"])?;
    for pod in namespace.kubectl(&["get", "pods", "--output", "name"])?.lines() {
        text += &namespace.kubectl(&["logs", pod, "--all-containers", "--tail=-1"])?;
    }
    Ok(text)
}

/// What the API server says that a ServiceAccount may do in its namespace, without what every account may.
fn rights(namespace: &Namespace, account: &str, resource: &str) -> Result<String> {
    let who = format!("--as=system:serviceaccount:{}:{account}", namespace.name());
    let table = namespace.kubectl(&["auth", "can-i", "--list", "--no-headers", &who])?;
    let mut lines: Vec<String> = table
        .lines()
        .filter(|line| !line.contains("selfsubject") && !line.trim_start().starts_with('['))
        .map(|line| {
            let (resources, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.trim_start().trim_start_matches("[]").trim_start();
            let words = rest.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{resources} {}", words.replace(&format!("[{resource}]"), "[NAME]"))
        })
        .collect();
    lines.sort();
    Ok(lines.join("\n"))
}

/// Whether a pod has a token of the API server: by its spec as it was admitted, where the kubelet takes it from.
fn has_token(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let projected = spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten().any(|volume| {
        let sources = volume.projected.as_ref().and_then(|it| it.sources.as_ref());
        sources.into_iter().flatten().any(|source| source.service_account_token.is_some())
    });
    let mounted = spec.into_iter().flat_map(|spec| &spec.containers).any(|container| {
        let mounts = container.volume_mounts.iter().flatten();
        mounts.into_iter().any(|mount| mount.mount_path.contains("kubernetes.io/serviceaccount"))
    });
    projected || mounted
}

/// Makes a Backup of the schedule's template.
fn trigger(namespace: &Namespace) -> Result<String> {
    let mut command = Command::new(vouchsafe()?);
    command.args(["trigger", "nightly", "--output", "json", "--namespace", namespace.name()]);
    let output = command.arg("--kubeconfig").arg(namespace.cluster().kubeconfig()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    report["backup"].as_str().map(str::to_owned).context("no name")
}

/// A Backup that logs in with the Secret `secret`.
fn backup(shop: &Shop, name: &str, secret: &str) -> Result<Backup> {
    let mut backup = shop.backup(name, &json!({"collection": "shop"}))?;
    let reference = backup.spec.source.postgres.endpoints[0].credentials_secret.as_mut();
    reference.context("no Secret is named")?.name = secret.into();
    Ok(backup)
}

async fn tokens(shop: &Shop, processes: [&str; 3]) -> Result<()> {
    for process in processes {
        let pods = shop.pods(process).await?;
        ensure!(!pods.is_empty(), "no pod of {process}");
        for pod in pods {
            let publishes = process == "coordinator";
            let asked = pod.spec.as_ref().and_then(|spec| spec.automount_service_account_token);
            assert_eq!((has_token(&pod), asked), (publishes, Some(publishes)), "{process}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_shown_nowhere_and_only_coordinators_may_do_a_little() -> Result<()> {
    let shop = Shop::open_in_one(cluster().await?.namespace("secrets").await?).await?;
    let namespace = &shop.namespace;
    let role = format!("canary_{}", shop.database);
    shop.postgres.create_role(&role, PASSWORD, "SUPERUSER");
    namespace.secret("pg-canary", &[("username", &role), ("password", PASSWORD)]).await?;
    namespace.secret("pg-wrong", &[("username", &role), ("password", WRONG)]).await?;
    let keys =
        [("AWS_ACCESS_KEY_ID", shop.minio.access_key()), ("AWS_SECRET_ACCESS_KEY", shop.minio.secret_key())];
    namespace.secret("bucket-prune", &keys).await?;
    let patch = json!([{"op": "add", "path": "/spec/destinations/0/deleteCredentialsSecret",
                        "value": {"name": "bucket-prune"}}]);
    let patch = Patch::<()>::Json(serde_json::from_value(patch)?);
    namespace.api::<BackupStore>().patch("orders", &PatchParams::default(), &patch).await?;
    let secrets = [PASSWORD, WRONG, shop.minio.secret_key()];
    // The search finds what is there to be found.
    let kept = namespace.kubectl(&["get", "secrets", "--output", "json"])?;
    assert_eq!(shown(&kept, &secrets), secrets);
    let inside = STANDARD.encode(format!("it is {PASSWORD}, and {WRONG}"));
    assert_eq!(shown(&inside, &secrets), [PASSWORD, WRONG]);

    let controller = Controller::start_at(namespace, "trace")?;
    let template = serde_json::to_value(&backup(&shop, "template", "pg-canary")?.spec)?;
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 29 2 *", "fullSchedule": "Always", "suspend": true,
                 "retention": {"keepLast": 1}, "template": {"spec": template}},
    }))?;
    namespace.create(&schedule).await?;
    let first = trigger(namespace)?;
    let begun = |status: &BackupStatus| {
        status.processes.iter().any(|it| it.name == "coordinator" && it.state == ProcessState::Running)
    };
    shop.reaches(&first, "begun", LIMIT, begun).await?;
    let coordinator =
        shop.pods("coordinator").await?.pop().and_then(|pod| pod.spec).context("no coordinator")?;
    let account = coordinator.service_account_name.context("no account")?;
    assert_eq!(rights(namespace, &account, &first)?, COORDINATOR);
    assert_eq!(rights(namespace, "default", &first)?, "", "everybody's rights are left out");
    shop.succeeded(&first, LIMIT).await?;
    tokens(&shop, ["coordinator", "worker-eu", "verifier-eu"]).await?;

    namespace.create(&backup(&shop, "wrong", "pg-wrong")?).await?;
    let wrong = shop.ended("wrong", LIMIT).await?;
    assert_eq!(wrong.phase, Some(BackupPhase::Failed));
    assert_eq!(wrong.failure.context("no failure")?.reason, "AuthenticationFailed");

    let second = trigger(namespace)?;
    shop.succeeded(&second, LIMIT).await?;
    let restore: Restore = serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Restore", "metadata": {"name": "back"},
        "spec": {"from": {"backup": second}, "target": {"postgres": {
            "host": shop.postgres.address().to_string(), "port": shop.postgres.port(),
            "database": format!("{}_back", shop.database),
            "credentialsSecret": {"name": "pg-canary"}, "tls": {"mode": "Disable"},
        }}},
    }))?;
    namespace.create(&restore).await?;
    let over = |restore: Option<&Restore>| {
        let phase = restore?.status.as_ref()?.phase?;
        let over = [RestorePhase::Succeeded, RestorePhase::Failed, RestorePhase::Canceled];
        over.contains(&phase).then_some(phase)
    };
    let phase = wait_until(namespace.api::<Restore>(), "back", "over", LIMIT, over).await;
    assert_eq!(phase.with_context(|| namespace.state())?, RestorePhase::Succeeded);
    // Before the prune takes the first one's pods along.
    let mut all = all_of(namespace)?;
    let resumed = Patch::Merge(json!({"spec": {"suspend": false}}));
    let schedules = namespace.api::<BackupSchedule>();
    schedules.patch("nightly", &PatchParams::default(), &resumed).await?;
    let pruned = |schedule: Option<&BackupSchedule>| schedule?.status.as_ref()?.last_prune.clone();
    let pruned = wait_until(schedules, "nightly", "pruned", LIMIT, pruned).await;
    let pruned = pruned.with_context(|| namespace.state())?;
    assert_eq!((pruned.failure, pruned.removed), (None, vec![first]));
    all += &all_of(namespace)?;

    // Pods of runs log at their level; the same work, at the level that says all.
    let entries = [keys[0], keys[1], ("PGPASSWORD", PASSWORD), ("VOUCHSAFE_LOG", "trace")];
    namespace.secret("loud", &entries).await?;
    let (host, port) = (shop.postgres.address(), shop.postgres.port());
    let source = format!("postgres://{role}@{host}:{port}/{}?sslmode=disable", shop.database);
    let store = format!(
        "s3://{}/loud?region={}&endpoint={}",
        shop.bucket("eu"),
        shop.minio.region(),
        shop.minio.endpoint()
    );
    let arguments = ["backup", "--source", &source, "--store", &store];
    let loud = Job::vouchsafe("loud", &arguments).environment_of("loud").run(namespace, LIMIT).await?;
    ensure!(loud.succeeded && loud.log.contains("TRACE"), "{}", loud.log);
    all += &all_of(namespace)?;

    for told in ["coordinator", "worker-eu", "verifier-eu", "restorer", "pruner", "prober-eu", "Succeeded"] {
        assert!(all.contains(told), "nothing of {told} was looked at");
    }
    let log = controller.log();
    assert!(log.contains("TRACE"), "the controller's log is not at its loudest");
    for (what, text) in [("the namespace", &all), ("the controller's log", &log)] {
        let found = shown(text, &secrets);
        let lines = text.lines().filter(|line| !shown(line, &secrets).is_empty());
        let lines: Vec<&str> = lines.take(3).map(|line| &line[..line.len().min(400)]).collect();
        assert!(found.is_empty(), "{what} shows {found:?}: {lines:#?}");
    }
    Ok(())
}
