//! What the operator's tests stand on: the cluster is real, the image is what users build, and pods reach the
//! servers of this machine.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Ended, Job, cluster, vouchsafe};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use serde_json::Value;
use testbed::{PASSWORD, PgVersion, Postgres, S3Kind, S3Server};

/// A pod of a loaded image starts in two seconds; the rest is for two cores that also do something else.
const START: Duration = Duration::from_secs(120);

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

fn must_succeed(ended: &Ended) {
    assert!(ended.succeeded, "the pod failed; its log:\n{}", ended.log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_where_it_is_pinned() -> Result<()> {
    let namespace = cluster().await?.namespace("pinned").await?;
    let job = Job::vouchsafe("version", &["version"]).only_on(&[(REGION, "us-east1"), (ZONE, "us-east1-b")]);
    let ended = job.run(&namespace, START).await?;
    must_succeed(&ended);
    let here = Command::new(vouchsafe()?).arg("version").output().context("vouchsafe version")?;
    assert_eq!(ended.log, String::from_utf8_lossy(&here.stdout));

    let name = ended.pod.spec.and_then(|spec| spec.node_name).context("the pod has no node")?;
    let nodes: Api<Node> = Api::all(namespace.cluster().client().await?);
    let labels = nodes.get(&name).await?.metadata.labels.context("the node has no labels")?;
    assert_eq!(labels.get(REGION).map(String::as_str), Some("us-east1"), "node {name}");
    assert_eq!(labels.get(ZONE).map(String::as_str), Some("us-east1-b"), "node {name}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_is_not_root_and_writes_nothing() -> Result<()> {
    let namespace = cluster().await?.namespace("rights").await?;
    let script = "id -u; touch /tmp/x; if touch /x; then echo written; fi; grep ^CapEff /proc/self/status";
    let ended = Job::shell("rights", script).run(&namespace, START).await?;
    must_succeed(&ended);
    // Lines of both outputs come in any order.
    assert!(ended.log.lines().any(|line| line == "65532"), "{}", ended.log);
    assert!(ended.log.contains("Read-only file system") && !ended.log.contains("written"), "{}", ended.log);
    assert!(ended.log.contains("CapEff:\t0000000000000000"), "{}", ended.log);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_the_restricted_settings_is_refused() -> Result<()> {
    let namespace = cluster().await?.namespace("refused").await?;
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "root", "image": namespace.cluster().image()}]},
    }))?;
    let refused = namespace.create(&pod).await.err().context("the pod was admitted")?;
    assert!(format!("{refused:#}").contains("violates PodSecurity \"restricted"), "{refused:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_backs_a_server_of_this_machine_up_into_a_bucket_of_it() -> Result<()> {
    let cluster = cluster().await?;
    let postgres = Postgres::builder(PgVersion::V15).address(cluster.host()).start();
    let database = postgres.fresh_database("shop");
    let rows = "CREATE TABLE item (id bigint PRIMARY KEY, name text);
        INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 1000) n";
    postgres.psql(&database, rows)?;
    let minio = S3Server::start_on(S3Kind::Minio, cluster.host());
    let bucket = minio.fresh_bucket("e2e");
    let store = format!("s3://{bucket}/pg?region={}&endpoint={}", minio.region(), minio.endpoint());
    let source =
        format!("postgres://postgres@{}:{}/{database}?sslmode=disable", postgres.address(), postgres.port());

    let namespace = cluster.namespace("backup").await?;
    namespace.secret("postgres", &[("PGPASSWORD", PASSWORD)]).await?;
    let keys = [("AWS_ACCESS_KEY_ID", minio.access_key()), ("AWS_SECRET_ACCESS_KEY", minio.secret_key())];
    namespace.secret("bucket", &keys).await?;
    let arguments = ["backup", "--output", "json", "--source", &source, "--store", &store];
    let job = Job::vouchsafe("backup", &arguments).environment_of("postgres").environment_of("bucket");
    let ended = job.run(&namespace, START).await?;
    must_succeed(&ended);
    let made: Value = serde_json::from_str(&ended.log).with_context(|| ended.log.clone())?;
    assert_eq!((&made["outcome"], &made["rows"]), (&"Succeeded".into(), &1000.into()), "{made}");

    let arguments = ["list", "--output", "json", "--store", &store];
    let listed = Command::new(vouchsafe()?).args(arguments).envs(keys).output().context("vouchsafe list")?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stdout));
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let runs = listed["runs"].as_array().context("no list of runs")?;
    assert_eq!(runs.len(), 1, "{listed}");
    assert_eq!((&runs[0]["run"], &runs[0]["outcome"]), (&made["run"], &"Sealed".into()), "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_has_postgresql_s_clients_and_authorities() -> Result<()> {
    let namespace = cluster().await?.namespace("image").await?;
    let script =
        "for program in pg_dump pg_restore psql; do /usr/lib/postgresql/15/bin/$program --version; done
        grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt";
    let ended = Job::shell("contents", script).run(&namespace, START).await?;
    must_succeed(&ended);
    for program in ["pg_dump", "pg_restore", "psql"] {
        assert!(ended.log.contains(&format!("{program} (PostgreSQL) 15.")), "{}", ended.log);
    }
    let authorities: u32 = ended.log.lines().last().and_then(|line| line.parse().ok()).unwrap_or_default();
    assert!(authorities > 50, "only {authorities} certificate authorities: {}", ended.log);
    Ok(())
}
