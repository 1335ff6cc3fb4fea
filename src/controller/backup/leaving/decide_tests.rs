//! Deletions, in worlds where stores, namespaces and pods come and go as they like.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{ProcessStatus, Resolved, ResolvedDestination};
use crate::controller::backup::finalizer::FINALIZER;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A store that is ready, with credentials to delete or without.
fn store(deletes: bool, bucket: &str) -> BackupStore {
    let mut destination = json!({"name": "eu", "default": true, "credentialsSecret": {"name": "writer"},
                                 "s3": {"bucket": bucket, "region": "eu-west-1"}});
    if deletes {
        destination["deleteCredentialsSecret"] = json!({"name": "deleter"});
    }
    let ready = json!({"type": "Ready", "status": "True", "reason": "Probed", "message": "", "observedGeneration": 1,
                       "lastTransitionTime": at(0).to_string()});
    serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore",
        "metadata": {"name": "orders", "namespace": "shop", "generation": 1},
        "spec": {"destinations": [destination]},
        "status": {"destinations": [{"name": "eu", "conditions": [ready]}]},
    }))
    .unwrap()
}

fn failure(reason: &str) -> Failure {
    Failure { reason: reason.into(), message: "m".into(), hint: "h".into() }
}

fn pruned(refused_objects: u64, waiting: u32, failure: Option<Failure>) -> LastWord {
    LastWord::Pruned {
        run: Some(2),
        retired: 1,
        gone: vec![1],
        deleted_objects: 7,
        deleted_bytes: 700,
        refused_objects,
        waiting,
        failure,
    }
}

/// A Backup that is proven and leaves, and what there is of it.
struct World {
    backup: Backup,
    observed: Observed,
    seconds: i64,
    started: usize,
}

impl World {
    fn new() -> Self {
        let backup = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "first", "namespace": "shop", "uid": "u-1", "generation": 2,
                         "finalizers": [FINALIZER], "deletionTimestamp": at(0).to_string(),
                         "annotations": {BEGUN_AS: "u-1"}},
            "spec": {"storeRef": {"name": "orders"}, "deletionPolicy": "Delete",
                     "source": {"postgres": {"database": "shop", "endpoints": []}}},
        });
        let mut backup: Backup = serde_json::from_value(backup).unwrap();
        let url = ValidatedBackupStore::try_from(store(true, "orders")).unwrap().destinations[0].place.url();
        let destinations = vec![ResolvedDestination { name: "eu".into(), url, locality: None }];
        let resolved = Some(Resolved { destinations, endpoints: Vec::new(), image: None });
        backup.status = Some(BackupStatus { resolved, ..BackupStatus::default() });
        let observed = Observed { store: Some(store(true, "orders")), ..Observed::default() };
        Self { backup, observed, seconds: 0, started: 0 }
    }

    /// Decides, and carries it out.
    fn step(&mut self) -> Plan {
        let plan = decide(&self.backup, &self.observed, at(self.seconds));
        self.backup.status = Some(plan.status.clone());
        self.observed.jobs.retain(|job| !plan.stop.iter().any(|stop| stop.name == job.name));
        for Start { process, order, attempt } in &plan.start {
            let name = process.job_name("first", "u-1", order, *attempt);
            assert!(!self.observed.jobs.iter().any(|job| job.name == name), "{name} is made twice");
            self.started += 1;
            self.observed.jobs.push(job(
                &name,
                &process.to_string(),
                order,
                *attempt,
                JobState::Waiting(None),
            ));
        }
        plan
    }

    /// The Job that is at work ends with `word`.
    fn ends(&mut self, word: Option<LastWord>) {
        let at = Some(at(self.seconds));
        for job in self.observed.jobs.iter_mut().filter(|job| !matches!(job.state, JobState::Ended { .. })) {
            job.state =
                JobState::Ended { pod: None, node: None, word: word.clone(), how: "killed".into(), at };
        }
    }

    /// Six attempts that fail, to the end of the round.
    fn fails(&mut self, word: &LastWord) -> Plan {
        for _ in 0..10 {
            self.ends(Some(word.clone()));
            self.seconds += 61;
            let plan = self.step();
            if plan.start.is_empty() {
                return plan;
            }
        }
        panic!("it goes on for ever");
    }

    fn says(&self) -> String {
        condition(self.backup.status.as_ref().unwrap())
            .map(|(reason, _)| reason.to_owned())
            .unwrap_or_default()
    }
}

fn job(name: &str, process: &str, order: &str, attempt: u32, state: JobState) -> ObservedJob {
    let (name, process, order) = (name.to_owned(), process.to_owned(), order.to_owned());
    ObservedJob { uid: format!("uid of {name}"), name, process, order, attempt, state }
}

#[test]
fn its_pods_go_first_then_its_data_and_then_it_is_let_go() {
    let mut world = World::new();
    world.observed.jobs =
        vec![job("c", "coordinator", "run", 1, JobState::Running { node: None, given_up_at: None })];
    let plan = world.step();
    assert_eq!((plan.stop.len(), plan.start.len(), plan.next), (1, 0, Next::Waits));
    let plan = world.step();
    assert_eq!((plan.start.len(), plan.next, world.says().as_str()), (1, Next::Waits, "DeletingData"));
    assert_eq!(world.step().start.len(), 0, "one is at it");
    world.ends(Some(pruned(0, 0, None)));
    assert_eq!(world.step().next, Next::LetGo(LetGo::Deleted { objects: 7, bytes: 700, locked: 0 }));
}

#[test]
fn what_never_began_or_is_of_another_uid_goes_at_once() {
    let mut world = World::new();
    world.observed.store = None;
    world.backup.metadata.annotations = None;
    assert_eq!(world.step().next, Next::LetGo(LetGo::NothingStored));
    world.backup.metadata.annotations = Some([(BEGUN_AS.to_owned(), "u-0".to_owned())].into());
    assert_eq!(world.step().next, Next::LetGo(LetGo::NothingStored));
    // Each of these says that a pod may have written.
    for begun in 0..3 {
        let mut world = World::new();
        world.backup.metadata.annotations = None;
        match begun {
            0 => world.observed.has_begun = true,
            1 => world.observed.jobs.push(job(
                "c",
                "coordinator",
                "run",
                1,
                JobState::Ended { pod: None, node: None, word: None, how: String::new(), at: None },
            )),
            _ => world.backup.status.as_mut().unwrap().processes.push(ProcessStatus {
                name: "coordinator".into(),
                job: "c".into(),
                order: "run".into(),
                attempt: 1,
                state: ProcessState::Done,
                node: None,
                failure: None,
            }),
        }
        assert_eq!(world.step().start.len(), 1);
    }
}

#[test]
fn what_a_lock_holds_is_left_and_told() {
    let mut world = World::new();
    world.step();
    world.ends(Some(pruned(3, 0, None)));
    assert_eq!(world.step().next, Next::LetGo(LetGo::Deleted { objects: 7, bytes: 700, locked: 3 }));
}

#[test]
fn a_store_that_is_in_the_way_is_named_and_waited_for() {
    let cases: [(Option<BackupStore>, &str); 3] = [
        (None, "StoreNotFound"),
        (Some(store(false, "orders")), "DeleteCredentialsMissing"),
        (Some(store(true, "elsewhere")), "StoreMoved"),
    ];
    for (store, reason) in cases {
        let mut world = World::new();
        let good = std::mem::replace(&mut world.observed.store, store);
        let plan = world.step();
        assert_eq!((plan.start.len(), plan.next, world.says().as_str()), (0, Next::Waits, reason));
        assert!(plan.again_after.is_some(), "nobody would look again");
        let message = condition(&plan.status).unwrap().1.to_owned();
        assert!(message.contains("set its spec.deletionPolicy to Retain"), "{message}");
        world.observed.store = good;
        assert_eq!(world.step().start.len(), 1, "{reason} is over");
    }
}

#[test]
fn what_fails_is_tried_again_in_rounds_that_grow_apart_and_leave_few_jobs() {
    let mut world = World::new();
    world.step();
    let word = LastWord::Failed { failure: failure("Unavailable"), again: true };
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let plan = world.fails(&word);
        assert_eq!((plan.next, world.says().as_str()), (Next::Waits, "Unavailable"));
        let given_up = world.seconds;
        while world.step().start.is_empty() {
            world.seconds += 60;
        }
        pauses.push((world.seconds - given_up) / 60);
        assert_eq!(world.observed.jobs.len(), 1, "Jobs of the round before");
    }
    assert!(pauses.is_sorted() && pauses[0] >= 4 && *pauses.last().unwrap() >= 58, "{pauses:?}");
    // And it is let go once one has done it.
    world.ends(Some(pruned(0, 0, None)));
    assert!(matches!(world.step().next, Next::LetGo(LetGo::Deleted { .. })));
}

#[test]
fn a_prune_that_left_something_and_whose_job_is_gone_is_no_success() {
    for word in [pruned(2, 0, Some(failure("DeleteRefused"))), pruned(0, 1, None), LastWord::Settled] {
        let mut world = World::new();
        world.step();
        world.ends(Some(word.clone()));
        let done = world.step();
        world.observed.jobs.clear();
        if word == LastWord::Settled {
            continue;
        }
        assert_eq!(done.next, Next::Waits, "{word:?}");
        world.seconds += 4000;
        assert_eq!(world.step().start.len(), 1, "{word:?}");
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Move {
    Passes(i64),
    Looks,
    Ends(u8),
    Policy(bool),
    Leaves(bool),
    Namespace(bool),
    Store(u8),
    Refuses(bool),
    RunJob,
    LosesJobs,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (1..4000_i64).prop_map(Move::Passes),
        10 => Just(Move::Looks),
        6 => any::<u8>().prop_map(Move::Ends),
        1 => prop::bool::weighted(0.7).prop_map(Move::Policy),
        1 => prop::bool::weighted(0.8).prop_map(Move::Leaves),
        1 => prop::bool::weighted(0.2).prop_map(Move::Namespace),
        2 => (0..4_u8).prop_map(Move::Store),
        1 => prop::bool::weighted(0.3).prop_map(Move::Refuses),
        1 => Just(Move::RunJob),
        1 => Just(Move::LosesJobs),
    ];
    prop::collection::vec(one, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No plan starts what deletes unless the Backup is being deleted, says Delete, may be at it, and nothing of its
    /// run is at work; it is called deleted only on a deleter's word; and Retain and the end of the namespace always
    /// let it go.
    #[test]
    fn data_goes_only_by_the_users_word_and_nothing_wedges(moves in moves()) {
        let mut world = World::new();
        let mut done = false;
        for one in moves {
            match one {
                Move::Passes(seconds) => world.seconds += seconds,
                Move::Looks => {
                    let run_at_work = world.observed.jobs.iter().any(|job| {
                        job.process != "deleter" && !matches!(job.state, JobState::Ended { .. })
                    });
                    let leaves = world.backup.metadata.deletion_timestamp.is_some();
                    let (meant, ends) = (finalizer::is_meant(&world.backup), world.observed.namespace_ends);
                    let deletes = world.observed.store == Some(store(true, "orders"));
                    let plan = world.step();
                    if !plan.start.is_empty() {
                        prop_assert!(leaves && meant && !ends && !run_at_work && deletes, "{plan}");
                        prop_assert!(plan.start.iter().all(|it| it.process == Process::Deleter));
                        prop_assert_eq!(plan.start.len(), 1);
                    }
                    match plan.next {
                        Next::LetGo(LetGo::Retained) => prop_assert!(leaves && !meant),
                        Next::LetGo(LetGo::NamespaceEnds) => prop_assert!(leaves && meant && ends),
                        Next::LetGo(LetGo::Deleted { .. }) => prop_assert!(leaves && meant && done),
                        Next::LetGo(LetGo::NothingStored) => prop_assert!(false, "it is marked as begun"),
                        Next::Waits => {
                            prop_assert!(!leaves || (meant && !ends));
                            prop_assert!(!leaves || plan.again_after.is_some(), "nobody would look again: {plan}");
                        }
                    }
                    if matches!(plan.next, Next::LetGo(_)) {
                        return Ok(());
                    }
                }
                Move::Ends(how) => {
                    let live = world.observed.jobs.iter().any(|job| {
                        job.process == "deleter" && !matches!(job.state, JobState::Ended { .. })
                    });
                    let word = match how % 6 {
                        0 => None,
                        1 => Some(LastWord::Failed { failure: failure("Unavailable"), again: true }),
                        2 => Some(LastWord::Failed { failure: failure("DocumentDamaged"), again: false }),
                        3 => Some(pruned(1, 0, Some(failure("DeleteRefused")))),
                        4 => Some(pruned(0, 1, None)),
                        _ => {
                            done |= live;
                            Some(pruned(u64::from(how) % 3, 0, None))
                        }
                    };
                    world.ends(word);
                }
                Move::Policy(delete) => {
                    let policy = if delete { crate::api::DeletionPolicy::Delete } else { crate::api::DeletionPolicy::Retain };
                    world.backup.spec.deletion_policy = Some(policy);
                }
                Move::Leaves(leaves) => {
                    // It is not being deleted yet, or was never.
                    let time = World::new().backup.metadata.deletion_timestamp;
                    world.backup.metadata.deletion_timestamp = time.filter(|_| leaves);
                }
                Move::Namespace(ends) => world.observed.namespace_ends = ends,
                Move::Store(which) => world.observed.store = match which {
                    0 => None,
                    1 => Some(store(false, "orders")),
                    2 => Some(store(true, "elsewhere")),
                    _ => Some(store(true, "orders")),
                },
                Move::Refuses(refuses) => world.observed.refused = refuses.then(|| failure("QuotaExceeded")),
                Move::RunJob => {
                    let name = format!("w{}", world.seconds);
                    let known = world.observed.jobs.iter().any(|job| job.name == name);
                    let state = JobState::Running { node: None, given_up_at: None };
                    if !known && world.started == 0 {
                        world.observed.jobs.push(job(&name, "worker-eu", "plan", 1, state));
                    }
                }
                Move::LosesJobs => world.observed.jobs.clear(),
            }
        }
    }
}
