//! A database with tables of three localities, and a bucket for each: the servers are of this machine, and real.

mod buckets;
mod restores;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectList, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::{FaultProxy, PASSWORD, PgVersion, Postgres, S3Kind, S3Server};
use vouchsafe::api::{Backup, BackupPhase, BackupStatus, BackupStore, ProcessState};
use vouchsafe::controller::pods::{ATTEMPT, NAME, ORDER, PROCESS};

use crate::cluster::Cluster;
use crate::namespace::Namespace;
use crate::wait::{until, wait_until};

/// A locality of the cluster, with the destination for it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Name of the destination.
    pub name: &'static str,
    /// The locality.
    pub locality: &'static str,
    /// The table whose rows are there.
    pub table: &'static str,
}

/// Name of the BackupStore.
const STORE: &str = "orders";

/// One shop: a database and a bucket for each place, described by a BackupStore and two Secrets in a namespace.
pub struct Shop {
    /// Where its resources are.
    pub namespace: Namespace,
    /// Its server.
    pub postgres: &'static Postgres,
    /// Its database.
    pub database: String,
    /// The server of its buckets.
    pub minio: &'static S3Server,
    /// What its pods reach the buckets through.
    pub wire: FaultProxy,
    /// Those of its localities that have a destination; the rows of others go to the default one.
    places: &'static [Place],
    buckets: BTreeMap<&'static str, String>,
}

impl Shop {
    /// The three localities of the cluster.
    pub const PLACES: [Place; 3] = [
        Place { name: "eu", locality: "region=eu-west1", table: "item_eu" },
        Place { name: "us-a", locality: "region=us-east1,zone=us-east1-a", table: "item_us_a" },
        Place { name: "us-b", locality: "region=us-east1,zone=us-east1-b", table: "item_us_b" },
    ];

    /// The two regions of the cluster. That of `us` has two nodes, and one can take over what the other did.
    pub const REGIONS: [Place; 2] = [
        Place { name: "eu", locality: "region=eu-west1", table: "item_eu" },
        Place { name: "us", locality: "region=us-east1", table: "item_us" },
    ];

    /// Rows of each table.
    pub const ROWS: u32 = 4_000;

    /// A shop of its own in `namespace`, each of its tables of about 1 MiB that can't be compressed.
    ///
    /// # Errors
    /// When the database or the resources can't be made.
    pub async fn open(namespace: Namespace) -> Result<Self> {
        let (postgres, _) = servers(namespace.cluster());
        Self::of(namespace, postgres, &Self::PLACES).await
    }

    /// The same with [`Self::REGIONS`] instead of localities of one node each.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_in_regions(namespace: Namespace) -> Result<Self> {
        let (postgres, _) = servers(namespace.cluster());
        Self::of(namespace, postgres, &Self::REGIONS).await
    }

    /// The same with one destination, and so with one worker and one verifier: for what is about many Backups and not
    /// about places.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_in_one(namespace: Namespace) -> Result<Self> {
        let (postgres, _) = servers(namespace.cluster());
        Self::of(namespace, postgres, &Self::PLACES[..1]).await
    }

    /// The same with a database server of its own, which may be restarted.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_alone(namespace: Namespace) -> Result<Self> {
        let server = Postgres::builder(PgVersion::V15).address(namespace.cluster().host()).start();
        // It ends with this process, like the others.
        Self::of(namespace, Box::leak(Box::new(server)), &Self::PLACES).await
    }

    async fn of(namespace: Namespace, postgres: &'static Postgres, places: &'static [Place]) -> Result<Self> {
        let (_, minio) = servers(namespace.cluster());
        let database = postgres.fresh_database("shop");
        let rows = Self::ROWS;
        for place in places {
            let table = place.table;
            let sql = format!(
                "CREATE TABLE {table} (id bigint PRIMARY KEY, name text, noise bytea);
                 INSERT INTO {table} SELECT n, 'one of {table}: ' || n, sha256((random()::text || n)::bytea)
                   || sha256(('{table}' || random())::bytea) || sha256(random()::text::bytea)
                   || sha256((n || random()::text)::bytea) || sha256((random() || 'x')::bytea)
                   || sha256((n || 'y' || random())::bytea) || sha256((random() || 'z')::bytea)
                 FROM generate_series(1, {rows}) n"
            );
            postgres.psql(&database, &sql)?;
        }
        let buckets: BTreeMap<_, _> =
            places.iter().map(|place| (place.name, minio.fresh_bucket(place.name))).collect();
        namespace.secret("pg", &[("username", "postgres"), ("password", PASSWORD)]).await?;
        let keys = [("AWS_ACCESS_KEY_ID", minio.access_key()), ("AWS_SECRET_ACCESS_KEY", minio.secret_key())];
        namespace.secret("bucket", &keys).await?;
        let wire = FaultProxy::start_on(
            namespace.cluster().host(),
            SocketAddr::from((namespace.cluster().host(), minio.port())),
        );
        let shop = Self { namespace, postgres, database, minio, wire, places, buckets };
        shop.namespace.create(&shop.store(STORE, &shop.wire.endpoint())?).await?;
        Ok(shop)
    }

    /// A BackupStore of its buckets, reached at `endpoint`.
    ///
    /// # Errors
    /// Never, as long as the literal fits the API's types.
    pub fn store(&self, name: &str, endpoint: &str) -> Result<BackupStore> {
        let destination = |place: &Place| {
            json!({
                "name": place.name, "default": place.name == "eu", "locality": place.locality,
                "s3": {"bucket": self.bucket(place.name), "prefix": "pg", "region": self.minio.region(),
                       "endpoint": endpoint, "addressingStyle": "Path"},
                "credentialsSecret": {"name": "bucket"},
            })
        };
        let mut destinations: Vec<Value> = self.places.iter().map(destination).collect();
        for destination in &mut destinations {
            if destination["default"] == false {
                destination.as_object_mut().context("an object")?.remove("default");
            }
        }
        let store = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore", "metadata": {"name": name},
            "spec": {"destinations": destinations},
        });
        serde_json::from_value(store).context("a BackupStore")
    }

    /// The bucket of a destination.
    #[must_use]
    pub fn bucket(&self, destination: &str) -> &str {
        &self.buckets[destination]
    }

    /// A Backup of the database, with `more` in its spec.
    ///
    /// # Errors
    /// When `more` does not fit the API's types.
    pub fn backup(&self, name: &str, more: &Value) -> Result<Backup> {
        let placement: Vec<Value> = self
            .places
            .iter()
            .map(|place| {
                json!({"name": place.name, "tables": [format!("public.{}", place.table)], "locality": place.locality})
            })
            .collect();
        let mut backup = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup", "metadata": {"name": name},
            "spec": {
                "storeRef": {"name": STORE},
                "deadline": "20m",
                "source": {"postgres": {
                    "database": self.database,
                    "endpoints": [{
                        "name": "db", "host": self.postgres.address().to_string(), "port": self.postgres.port(),
                        "credentialsSecret": {"name": "pg"}, "tls": {"mode": "Disable"},
                    }],
                    "placement": placement,
                    "unplaced": "Default",
                }},
            },
        });
        for (key, value) in more.as_object().context("more is an object")? {
            backup["spec"][key] = value.clone();
        }
        serde_json::from_value(backup).context("a Backup")
    }

    /// Waits until the Backup has ended, and returns its status.
    ///
    /// # Errors
    /// After `limit`, with the status that was seen last and what the namespace is like.
    pub async fn ended(&self, name: &str, limit: Duration) -> Result<BackupStatus> {
        self.reaches(name, "over", limit, |status| {
            let over = [BackupPhase::Succeeded, BackupPhase::Failed, BackupPhase::Canceled];
            status.phase.is_some_and(|phase| over.contains(&phase))
        })
        .await
    }

    /// Waits until the Backup's status is as wanted, and returns it.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub async fn reaches(
        &self,
        name: &str,
        wanted: &str,
        limit: Duration,
        is: impl Fn(&BackupStatus) -> bool,
    ) -> Result<BackupStatus> {
        let look = |backup: Option<&Backup>| backup?.status.clone().filter(|status| is(status));
        let seen = wait_until(self.namespace.api::<Backup>(), name, wanted, limit, look).await;
        seen.with_context(|| self.namespace.state())
    }

    /// As [`Self::ended`], for one that must have succeeded.
    ///
    /// # Errors
    /// Also when it has not.
    pub async fn succeeded(&self, name: &str, limit: Duration) -> Result<BackupStatus> {
        let status = self.ended(name, limit).await?;
        if status.phase != Some(BackupPhase::Succeeded) {
            bail!(
                "Backup {name} ended as {:?}: {:?}\n{}",
                status.phase,
                status.failure,
                self.namespace.state()
            );
        }
        Ok(status)
    }

    /// Waits until a fault has met a request.
    ///
    /// # Errors
    /// If none has within `limit`, with what the namespace is like.
    pub async fn fired(&self, limit: Duration) -> Result<()> {
        let fired = || (!self.wire.fired().is_empty()).then_some(());
        until("met by a fault", limit, fired).await.with_context(|| self.namespace.state())
    }

    /// Every Job of the namespace's runs is for something that no other is for: its resource, process, order and
    /// attempt. Returns what they are for.
    ///
    /// # Errors
    /// When two are for the same.
    pub async fn distinct_jobs(&self) -> Result<BTreeSet<String>> {
        let jobs = self.namespace.api::<Job>().list(&ListParams::default()).await.context("listing Jobs")?;
        let mut all = BTreeSet::new();
        for job in &jobs {
            let said = [NAME, PROCESS, ORDER, ATTEMPT].map(|it| job.annotations().get(it).cloned());
            let text = said.into_iter().collect::<Option<Vec<_>>>().context("a Job of nothing")?.join(" ");
            ensure!(all.insert(text.clone()), "two Jobs are {text}");
        }
        Ok(all)
    }

    /// Pods of one process of the namespace's runs: `worker-eu`.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn pods(&self, process: &str) -> Result<Vec<Pod>> {
        let pods = self.namespace.api::<Pod>().list(&ListParams::default()).await.context("listing pods")?;
        let of_process = |pod: &Pod| pod.annotations().get(PROCESS).is_some_and(|it| it == process);
        Ok(pods.items.into_iter().filter(of_process).collect())
    }

    /// Kills the running pod of one process of a Backup at once, with no time to say goodbye.
    ///
    /// # Errors
    /// If none runs within `limit`.
    pub async fn kill(&self, backup: &str, process: &str, limit: Duration) -> Result<()> {
        let running = |status: &BackupStatus| {
            let mut processes = status.processes.iter();
            processes.any(|it| it.name == process && it.state == ProcessState::Running)
        };
        self.reaches(backup, &format!("running {process}"), limit, running).await?;
        self.kill_now(process).await
    }

    /// Kills the pod of one process that runs already.
    ///
    /// # Errors
    /// If none does.
    pub async fn kill_now(&self, process: &str) -> Result<()> {
        let pod = self.running(process).await?;
        let now = DeleteParams::default().grace_period(0);
        self.namespace.api::<Pod>().delete(&pod.name_any(), &now).await.context("killing a pod")?;
        Ok(())
    }

    /// The pod of one process that runs. What it does may be seen sooner than its kubelet says that it does.
    ///
    /// # Errors
    /// If none does, a minute later.
    pub async fn running(&self, process: &str) -> Result<Pod> {
        let alive = |pod: &Pod| {
            let of_process = pod.annotations().get(PROCESS).is_some_and(|it| it == process);
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            of_process && phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        };
        let runs = |pods: &ObjectList<Pod>| pods.iter().any(alive);
        self.namespace.until_listed(&format!("there with {process}"), Duration::from_secs(60), runs).await?;
        let pods = self.pods(process).await?;
        pods.into_iter().find(alive).with_context(|| format!("no pod of {process} runs"))
    }

    /// Changes fields of a Backup's spec.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn patch(&self, name: &str, spec: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        let backups = self.namespace.api::<Backup>();
        backups.patch(name, &PatchParams::default(), &patch).await.context("patching a Backup")?;
        Ok(())
    }
}

/// Servers that all tests of this process share; they listen where pods reach them, and end with the process.
fn servers(cluster: &Cluster) -> (&'static Postgres, &'static S3Server) {
    static SERVERS: OnceLock<(Postgres, S3Server)> = OnceLock::new();
    let (postgres, minio) = SERVERS.get_or_init(|| {
        let postgres = Postgres::builder(PgVersion::V15).address(cluster.host()).start();
        (postgres, S3Server::start_on(S3Kind::Minio, cluster.host()))
    });
    (postgres, minio)
}
