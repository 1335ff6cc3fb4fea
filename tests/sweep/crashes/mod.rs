//! The controller, stopped at each of its writes to the API server: a process of its own before a real API server and
//! etcd, killed there, and another one started. What is left in the end must be what a controller leaves that nothing
//! happened to; no Job is made twice.

mod cluster;
mod controller;
mod left;
mod play;
mod proxy;
mod writes;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;

use self::cluster::{Cluster, PATIENCE};
use self::controller::Controller;
use self::left::Left;
use self::play::Scenario;
use self::proxy::{Proxy, Stop};
use self::writes::Write;
use super::cases::{End, Extent, carry_out};

/// One stop at one write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Case {
    write: Write,
    stop: Stop,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.write.name(), self.stop)
    }
}

impl Case {
    fn words(&self) -> Vec<(String, String)> {
        vec![(self.write.kind.clone(), self.stop.words().to_owned())]
    }
}

/// What an undisturbed pass has written and left.
struct Clean {
    writes: Vec<Write>,
    left: Left,
}

/// A namespace with its controller, and the way between that controller and the API server.
struct Stage {
    cluster: Cluster,
    proxy: Proxy,
    controller: Controller,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new(case: Option<&Case>) -> Self {
        let cluster = Cluster::new("crash").await;
        let armed = case.map(|case| (case.write.name(), case.stop));
        let proxy = Proxy::start(cluster::client(false).await, armed).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kubeconfig"), proxy.kubeconfig()).unwrap();
        let controller = Controller::start(folder.path(), &cluster.namespace, "first");
        Self { cluster, proxy, controller, folder }
    }

    /// Plays the scenario; what happens at the case's moment happens meanwhile.
    async fn play(&mut self, scenario: Scenario, case: Option<&Case>) -> Result<(), String> {
        let Self { cluster, proxy, controller, folder } = self;
        let (cluster, proxy) = (&*cluster, &*proxy);
        let moment = async {
            let Some(case) = case else { return Ok(()) };
            // The last writes have no step after them, and who was told of one is killed at the next request.
            let fires = tokio::time::timeout(2 * PATIENCE, proxy.fires()).await;
            fires.map_err(|_| "its moment never came".to_owned())?;
            if case.stop.kills() {
                controller.kill()?;
                if !case.write.kind.ends_with("Lease") {
                    forget_lease(cluster).await;
                }
                proxy.reopen();
                *controller = Controller::start(folder.path(), &cluster.namespace, "second");
            }
            Ok::<(), String>(())
        };
        tokio::try_join!(scenario.play(cluster), moment).map(|_| ())
    }

    /// What is left once the controller that is there now has looked at everything, compared with `clean`, for as long
    /// as they differ and patience lasts.
    async fn left(&self, clean: Option<&Left>) -> Result<Left, String> {
        let mut kinds = vec!["BackupStore", "Backup"];
        let has_restore = self.cluster.seen.borrow().all("Restore").next().is_some();
        kinds.extend(has_restore.then_some("Restore"));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let looked = self.controller.has_looked_at(&kinds).await;
            let left = Left::of(&self.cluster).await?;
            let difference = clean.map_or_else(Vec::new, |clean| clean.difference(&left));
            if looked && difference.is_empty() {
                return Ok(left);
            }
            if tokio::time::Instant::now() > deadline {
                let difference = difference.join("\n");
                return Err(format!("all looked at: {looked}; otherwise than undisturbed:\n{difference}"));
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// The Lease of a dead controller is taken away, so that the next one need not wait 15 s for it to run out.
async fn forget_lease(cluster: &Cluster) {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match leases.delete("vouchsafe-controller", &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{error}"),
    }
}

async fn clean(scenario: Scenario) -> Clean {
    let mut stage = Stage::new(None).await;
    let played = stage.play(scenario, None).await;
    played.unwrap_or_else(|why| panic!("{why}\n{}", stage.controller.log()));
    let left = stage.left(None).await.unwrap();
    Clean { writes: stage.proxy.writes(), left }
}

async fn stopped(scenario: Scenario, clean: &Clean, case: &Case) -> Result<(), String> {
    let mut stage = Stage::new(Some(case)).await;
    let logs = |stage: &Stage| {
        let first = std::fs::read_to_string(stage.folder.path().join("first.log")).unwrap_or_default();
        let second = std::fs::read_to_string(stage.folder.path().join("second.log")).unwrap_or_default();
        format!("first:\n{first}\nsecond:\n{second}")
    };
    stage.play(scenario, Some(case)).await.map_err(|why| format!("{why}\n{}", logs(&stage)))?;
    stage.left(Some(&clean.left)).await.map_err(|why| format!("{why}\n{}", logs(&stage)))?;
    match stage.proxy.fired() {
        1 => Ok(()),
        times => Err(format!("it happened {times} times")),
    }
}

/// Every stop at every write of an undisturbed pass. A sample has one write of each kind, and the stops in turns; and
/// every delete that never arrives, which nothing would repeat but a controller that looks for it.
fn cases(extent: &Extent, scenario: Scenario, writes: &[Write], of: impl Fn(&Write) -> bool) -> Vec<Case> {
    let all = writes.iter().filter(|write| of(write));
    let all = all.flat_map(|write| Stop::ALL.map(|stop| Case { write: write.clone(), stop }));
    let Extent::Sample { seed } = extent else { return extent.choose(all.collect(), Case::to_string) };
    let kinds: BTreeSet<&String> = writes.iter().map(|write| &write.kind).collect();
    let is_delete = |case: &Case| case.write.kind == "delete Job";
    let turn = |case: &Case| {
        if is_delete(case) {
            return case.stop == Stop::KilledBefore;
        }
        let kind = kinds.iter().position(|kind| **kind == case.write.kind).unwrap();
        let stop = (kind as u64 + scenario as u64 + seed) % Stop::ALL.len() as u64;
        Stop::ALL[stop as usize] == case.stop
    };
    let group = |case: &Case| if is_delete(case) { case.to_string() } else { case.write.kind.clone() };
    extent.choose(all.filter(turn).collect(), group)
}

async fn sweep(name: &str, scenario: Scenario, end: End, of: impl Fn(&Write) -> bool) {
    let extent = Extent::wanted();
    let clean = Arc::new(clean(scenario).await);
    let names: Vec<String> = clean.writes.iter().map(Write::name).collect();
    eprintln!(
        "{name}: {} writes, {} fields left:\n{}",
        names.len(),
        clean.left.lines().len(),
        names.join("\n")
    );
    let cases = cases(&extent, scenario, &clean.writes, of);
    carry_out(name, &extent, cases, Case::words, |case| {
        let clean = Arc::clone(&clean);
        async move { stopped(scenario, &clean, &case).await.map(|()| end) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn controller_stopped_in_a_backup_and_its_restore() {
    sweep("Controller stopped, a Backup and its Restore", Scenario::Whole, End::Proven, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn controller_stopped_in_a_backup_that_fails() {
    // What comes before the Backup is the other scenario's.
    let of_backup = |write: &Write| {
        let of_store = write.kind.contains("BackupStore") || write.says.contains("BackupStore");
        !of_store && !write.kind.ends_with("Lease")
    };
    sweep("Controller stopped, a Backup that fails", Scenario::Failing, End::Failed, of_backup).await;
}
