//! What comes next, in worlds where probes end as they like.

use proptest::prelude::*;
use serde_json::json;

use super::super::places::{Taken, places};
use super::*;
use crate::api::Capabilities;
use crate::api::Kind;
use crate::api::definition::must_take;
use crate::controller::jobs::ObservedJob;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn store(name: &str, prefix: &str) -> BackupStore {
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1,
                     "creationTimestamp": at(0).to_string()},
        "spec": {"destinations": [
            {"name": "eu", "default": true, "locality": "region=eu-west1",
             "s3": {"bucket": "orders-eu", "prefix": prefix, "region": "eu-west-1"}},
            {"name": "us", "locality": "region=us-east1",
             "s3": {"bucket": "orders-us", "prefix": prefix, "region": "us-east-1"}},
        ]},
    });
    serde_json::from_value(value).unwrap()
}

/// A cluster with one store: what the plans ask for is done, and the tests say what comes of it.
struct World {
    store: BackupStore,
    observed: Observed,
    seconds: i64,
    made: usize,
    /// Somebody has written into its status what the API server would have refused.
    by_hand: bool,
}

impl World {
    fn new() -> Self {
        Self {
            store: store("orders", "pg"),
            observed: Observed::default(),
            seconds: 0,
            made: 0,
            by_hand: false,
        }
    }

    fn step(&mut self) -> Plan {
        let plan = decide(&self.store, &self.observed, at(self.seconds));
        if !self.by_hand {
            must_take(Kind::BackupStore, &plan.status);
        }
        self.store.status = Some(plan.status.clone());
        self.observed.jobs.retain(|job| !plan.end.iter().any(|it| it.uid == job.uid));
        for Start { process, order, attempt } in &plan.start {
            let name = process.job_name("orders", "orders", order, *attempt);
            assert!(!self.observed.jobs.iter().any(|job| job.name == name), "{name} is made twice");
            self.made += 1;
            self.observed.jobs.push(ObservedJob {
                uid: format!("uid of {name}"),
                name,
                process: process.to_string(),
                order: order.clone(),
                attempt: *attempt,
                state: JobState::Waiting(None),
            });
        }
        plan
    }

    /// The newest probe of a destination ends.
    fn ends(&mut self, destination: &str, word: Option<LastWord>) {
        let name = format!("prober-{destination}");
        let jobs = self.observed.jobs.iter_mut().filter(|job| job.process == name);
        let job = jobs.max_by_key(|job| (job.order.clone(), job.attempt)).expect("a probe");
        let at = Some(at(self.seconds));
        job.state = JobState::Ended { pod: None, node: None, word, how: "killed".into(), at };
    }

    fn ready(&self) -> (ConditionStatus, String) {
        let conditions = &self.store.status.as_ref().unwrap().conditions;
        let ready = conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        (ready.status, ready.reason.clone())
    }

    fn passes(&mut self, plan: &Plan) {
        let pause = plan.again_after.expect("a time to look again");
        self.seconds += i64::try_from(pause.as_secs()).unwrap() + 1;
    }
}

fn probed() -> Option<LastWord> {
    let capabilities = Capabilities { conditional_create: Some(true), ..Capabilities::default() };
    Some(LastWord::Probed { capabilities, note: String::new() })
}

fn failed(reason: &str, again: bool) -> Option<LastWord> {
    let failure = Failure { reason: reason.into(), message: "why".into(), hint: "what to do".into() };
    Some(LastWord::Failed { failure, again })
}

#[test]
fn every_destination_is_probed_once_and_then_daily() {
    let mut world = World::new();
    let plan = world.step();
    assert_eq!(
        plan.to_string(),
        "start prober-eu, attempt 1; start prober-us, attempt 1; waits for the next probe"
    );
    assert_eq!(world.ready(), (ConditionStatus::Unknown, "Probing".into()));
    world.ends("eu", probed());
    world.step();
    assert_eq!(world.store.status.as_ref().unwrap().ready_destinations.as_deref(), Some("1/2"));
    world.ends("us", probed());
    let plan = world.step();
    assert_eq!(world.ready(), (ConditionStatus::True, "Probed".into()));
    let hours = plan.again_after.expect("a time").as_secs() / 3600;
    assert!((21..=24).contains(&hours), "{hours}");
    // Whatever wakes it, it has nothing to say and nothing to do until then.
    for seconds in [1, 60, 3600] {
        world.seconds = seconds;
        let again = world.step();
        assert!(again.start.is_empty() && again.end.is_empty() && again.status == plan.status, "{again}");
    }
    world.seconds = 0;
    world.passes(&plan);
    let plan = world.step();
    assert_eq!(plan.start.len(), 1);
    assert_eq!(plan.end.len(), 1, "the probe of yesterday goes");
    assert_eq!(world.ready(), (ConditionStatus::True, "Probed".into()), "until the new one has ended");
}

/// A status is what anybody with rights on it may have written: no time in it ends the process, which is everybody's.
#[test]
fn times_that_somebody_wrote_keep_no_probe_away_and_end_nothing() {
    for (time, ready) in [
        ("9999-12-30T21:59:00Z", true),
        ("9999-12-30T21:59:00Z", false),
        ("-009999-01-02T01:59:59Z", true),
        ("never", true),
    ] {
        let mut world = World::new();
        world.step();
        world.ends("eu", if ready { probed() } else { failed("Forbidden", false) });
        world.ends("us", probed());
        world.step();
        world.store.status.as_mut().unwrap().destinations[0].last_probe_time = Some(time.into());
        world.by_hand = true;
        world.seconds += 1;
        let plan = world.step();
        assert_eq!(plan.start.len(), 1, "{time}: {plan}");
    }
}

#[test]
fn a_failure_is_said_by_its_reason_and_tried_again_soon() {
    let mut world = World::new();
    world.step();
    world.ends("eu", probed());
    world.ends("us", failed("NoSuchBucket", false));
    let plan = world.step();
    assert_eq!(world.ready(), (ConditionStatus::False, "NoSuchBucket".into()));
    let stalled = world.store.status.as_ref().unwrap().conditions.iter().find(|it| it.type_ == "Stalled");
    assert!(stalled.is_some_and(|it| it.message.starts_with("us: why")));
    assert!(plan.again_after.is_some_and(|after| after.as_secs() <= 15), "whoever makes it is at it now");
    world.passes(&plan);
    assert_eq!(world.step().start.len(), 1);
    // The longer it fails, the less often it is asked; and it is said all the time.
    for _ in 0..8 {
        world.step();
        assert_eq!(world.ready(), (ConditionStatus::False, "NoSuchBucket".into()));
        world.ends("us", failed("NoSuchBucket", false));
        let plan = world.step();
        world.passes(&plan);
        assert_eq!(world.step().start.len(), 1);
    }
    world.ends("us", failed("NoSuchBucket", false));
    assert!(world.step().again_after.is_some_and(|after| (200..=300).contains(&after.as_secs())));
    world.seconds += 300;
    world.step();
    world.ends("us", probed());
    world.step();
    assert_eq!(world.ready(), (ConditionStatus::True, "Probed".into()));

    // A Secret that comes a moment later.
    let mut world = World::new();
    world.step();
    world.ends("eu", probed());
    world.ends("us", failed("ReferenceMissing", true));
    let plan = world.step();
    assert_eq!(world.ready(), (ConditionStatus::False, "ReferenceMissing".into()));
    world.passes(&plan);
    let plan = world.step();
    assert_eq!((plan.start.len(), plan.start[0].attempt), (1, 2));
    world.step();
    assert_eq!(world.ready(), (ConditionStatus::False, "ReferenceMissing".into()), "the next one goes on");
    world.ends("us", probed());
    world.step();
    assert_eq!(world.ready().0, ConditionStatus::True);
}

#[test]
fn another_spec_is_probed_anew_and_what_was_found_of_the_old_counts_no_more() {
    let mut world = World::new();
    world.step();
    world.ends("eu", probed());
    world.ends("us", probed());
    world.step();
    world.store.metadata.generation = Some(2);
    world.store.spec.destinations.retain(|it| it.name == "eu");
    let plan = world.step();
    assert_eq!((plan.start.len(), plan.end.len()), (1, 2), "{plan}");
    assert_eq!(world.ready(), (ConditionStatus::Unknown, "Probing".into()));
    assert_eq!(world.store.status.as_ref().unwrap().destinations.len(), 1);
}

#[test]
fn a_probe_whose_job_was_never_made_is_made_by_the_same_name() {
    let mut world = World::new();
    let first = world.step();
    // The status was written, and then the controller died.
    world.observed.jobs.clear();
    world.seconds = 30;
    let again = world.step();
    assert_eq!(first.start, again.start);
}

#[test]
fn a_prefix_has_one_store_that_writes_there() {
    let mut world = World::new();
    world.observed.taken = places(&store("elder", "pg"));
    assert_eq!(world.observed.taken[0].by, "shop/elder");
    let plan = world.step();
    assert!(plan.start.is_empty(), "not even a probe: {plan}");
    assert_eq!(world.ready(), (ConditionStatus::False, "PrefixShared".into()));
    let message = world.store.status.as_ref().unwrap().destinations[0].message.clone().unwrap();
    assert!(message.contains("shop/elder"), "{message}");
    // The store is at `pg`. One collection of the outer one may be all that the inner one has.
    for around in ["pg/shop", "pg/a/b"] {
        let mut world = World::new();
        world.observed.taken = places(&store("elder", around));
        assert!(world.step().start.is_empty(), "{around}");
    }
    for beside in ["other", "pgother", "p", "other/pg"] {
        let mut world = World::new();
        world.observed.taken = places(&store("elder", beside));
        assert_eq!(world.step().start.len(), 2, "{beside}");
    }
    world.observed.taken = places(&store("elder", "other"));
    assert_eq!(world.step().start.len(), 2);

    let mut reader = World::new();
    reader.store.spec.access_mode = Some(AccessMode::ReadOnly);
    reader.observed.taken = vec![Taken { by: "x".into(), ..world.observed.taken[0].clone() }];
    reader.observed.taken.extend(places(&store("elder", "pg")));
    assert_eq!(reader.step().start.len(), 2, "one that only reads disturbs nobody");
}

#[test]
fn a_folder_of_a_node_is_refused() {
    let mut world = World::new();
    let folder = json!({"destinations": [{"name": "here", "default": true, "file": {"path": "/backups"}}]});
    world.store.spec = serde_json::from_value(folder).unwrap();
    let plan = world.step();
    assert!(plan.start.is_empty() && plan.again_after.is_none(), "{plan}");
    assert_eq!(world.ready(), (ConditionStatus::False, "SpecRefused".into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever probes do: a look without news changes nothing, Ready is what the last probes said, and there are
    /// never more pods than time allows.
    #[test]
    fn a_store_is_as_ready_as_its_last_probes(moves in proptest::collection::vec((0..6_u8, 0..2_u8), 1..60)) {
        let mut world = World::new();
        world.step();
        for (what, who) in moves {
            let destination = ["eu", "us"][usize::from(who)];
            match what {
                0 => world.ends(destination, probed()),
                1 => world.ends(destination, failed("Forbidden", false)),
                2 => world.ends(destination, failed("Throttled", true)),
                3 => world.ends(destination, None),
                4 => world.seconds += 70,
                _ => world.seconds += 40_000,
            }
            world.step();
            let plan = world.step();
            prop_assert!(plan.start.is_empty(), "a second look begins nothing: {}", plan);
            let status = world.store.status.clone().unwrap();
            prop_assert_eq!(&plan.status, &status);
            let ready = status.destinations.iter().filter(|it| Probe::is_ready(it)).count();
            prop_assert_eq!(world.ready().0 == ConditionStatus::True, ready == 2);
            prop_assert_eq!(status.ready_destinations, Some(format!("{ready}/2")));
        }
        // Three attempts for each probe, of which a failed one is followed by the next after five minutes.
        let allowed = 2 * 3 * (1 + world.seconds / 300);
        prop_assert!(i64::try_from(world.made).unwrap() <= allowed, "{} in {} s", world.made, world.seconds);
    }
}
