//! What the controller costs in a cluster with thousands of schedules: docs/performance.md's figures of scale.
//!
//! `cargo bench --bench scale -- [--rounds N] [--idle SECONDS] [--schedules N]... [--write]`

#![allow(clippy::unwrap_used, reason = "a measurement that can't be taken ends the bench")]

#[path = "../../tests/idle/cluster.rs"]
mod cluster;
#[path = "../../tests/idle/controller.rs"]
mod controller;
mod due;
#[path = "../../tests/idle/objects.rs"]
mod objects;
mod report;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use cluster::{CONTROLLERS, Cluster};
use controller::Controller;
use objects::Size;

/// Stores that the schedules share.
const STORES: usize = 20;

/// Finished Backups.
const BACKUPS: usize = 10_000;

/// Schedules that are due at one instant; as many runs for each store as it allows at once, or fewer.
const DUE: usize = 100;

/// What was asked for.
#[derive(Debug)]
struct Options {
    rounds: usize,
    idle: Duration,
    schedules: Vec<usize>,
    /// Put the table into docs/performance.md.
    write: bool,
}

impl Options {
    fn parse() -> Self {
        let (mut rounds, mut idle, mut schedules, mut write) = (3, 300, Vec::new(), false);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|it| it.parse().ok());
            match argument.as_str() {
                "--rounds" => rounds = number().unwrap(),
                "--idle" => idle = number().unwrap(),
                "--schedules" => schedules.push(number().unwrap()),
                "--write" => write = true,
                "--bench" => {} // cargo's own
                other => {
                    panic!("unknown argument {other}: --rounds N, --idle SECONDS, --schedules N, --write")
                }
            }
        }
        assert!(rounds > 0, "--rounds takes 1 or more");
        assert!(!write || schedules.is_empty(), "a part of the figures is not written down");
        if schedules.is_empty() {
            schedules = vec![1_000, 10_000];
        }
        let idle = Duration::from_secs(u64::try_from(idle).unwrap());
        Self { rounds, idle, schedules, write }
    }
}

/// One round's figures.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// From the start of the process until everything is listed and was looked at once.
    synced: Duration,
    /// Requests until then.
    requests_to_sync: usize,
    /// The most resident memory until the end of the idle time, and the resident memory then, in KiB.
    peak_kib: u64,
    idle_kib: u64,
    /// Requests of the idle time, and those of them that write.
    idle_requests: usize,
    idle_writes: usize,
    /// From the instant at which 100 schedules are due until each has its Backup and that its Job.
    due: Duration,
    /// Requests in that time.
    due_requests: usize,
    /// The most resident memory in all.
    peak_after_due_kib: u64,
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut measured = Vec::new();
    for schedules in &options.schedules {
        let size = Size { stores: STORES, schedules: *schedules, backups: BACKUPS };
        measured.push((size, runtime.block_on(measure(size, &options))));
    }
    let text = report::text(&measured, options.idle);
    println!("\n{text}");
    if options.write {
        report::write(&text);
    }
}

/// All rounds of one size, in one cluster: only the controller is started anew.
async fn measure(size: Size, options: &Options) -> Vec<Figures> {
    let cluster = Cluster::start().await;
    let began = Instant::now();
    objects::fill(&cluster.client, size).await;
    println!("{size:?} made in {:.0} s", began.elapsed().as_secs_f64());
    // Schedules that no controller has seen have no status yet.
    let began = Instant::now();
    let first = cluster.controller();
    until_seen(&first, size).await;
    cluster.settles().await;
    println!("seen for the first time in {:.0} s", began.elapsed().as_secs_f64());
    drop(first);
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let figures = one(&cluster, size, options.idle, round).await;
        println!("round {} of {}: {figures:#?}", round + 1, options.rounds);
        rounds.push(figures);
    }
    rounds
}

async fn one(cluster: &Cluster, size: Size, idle: Duration, round: usize) -> Figures {
    let mut seek = 0;
    cluster.asked(Timestamp::now(), Timestamp::now(), &mut seek);
    let mut asked = |from: Timestamp, cluster: &Cluster| cluster.asked(from, Timestamp::now(), &mut seek);
    // The Lease of the one before has to run out; that is not what is measured.
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), CONTROLLERS);
    leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let (began, since) = (Instant::now(), Timestamp::now());
    let controller = cluster.controller();
    until_seen(&controller, size).await;
    let synced = began.elapsed();
    let requests_to_sync = asked(since, cluster).len();
    cluster.settles().await;
    asked(Timestamp::now(), cluster);
    let since = Timestamp::now();
    tokio::time::sleep(idle).await;
    let requests = asked(since, cluster);
    for request in requests.iter().filter(|it| it.writes()) {
        println!("  written in the idle time: {} {}", request.verb, request.uri);
    }
    let (peak_kib, idle_kib) = (controller.memory("VmHWM"), controller.memory("VmRSS"));
    let (due, since) = due::all_have_jobs(&cluster.client, size, DUE, round).await;
    let due_requests = asked(since, cluster).len();
    Figures {
        synced,
        requests_to_sync,
        peak_kib,
        idle_kib,
        idle_requests: requests.len(),
        idle_writes: requests.iter().filter(|it| it.writes()).count(),
        due,
        due_requests,
        peak_after_due_kib: controller.memory("VmHWM"),
    }
}

/// Waits until a controller has listed everything and looked at each object once.
async fn until_seen(controller: &Controller, size: Size) {
    let all = [("BackupStore", size.stores), ("BackupSchedule", size.schedules), ("Backup", size.backups)];
    while !controller.has_seen(&all) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
