//! Retention, carried out: what goes, and above all when nothing does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::super::PRUNE_REQUESTED;
use super::*;
use crate::api::{LastPrune, LastWord};
use crate::plan::retention;

/// A store that is ready, with credentials to delete or without.
pub(super) fn store(deletes: bool) -> BackupStore {
    let mut destination = json!({"name": "eu", "default": true, "credentialsSecret": {"name": "writer"},
                                 "s3": {"bucket": "orders", "region": "eu-west-1"}});
    if deletes {
        destination["deleteCredentialsSecret"] = json!({"name": "deleter"});
    }
    let ready = json!({"type": "Ready", "status": "True", "reason": "Probed", "message": "", "observedGeneration": 1,
                       "lastTransitionTime": "2026-11-22T09:00:00Z"});
    serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore",
        "metadata": {"name": "orders", "namespace": "shop", "generation": 1},
        "spec": {"destinations": [destination]},
        "status": {"destinations": [{"name": "eu", "conditions": [ready]}]},
    }))
    .unwrap()
}

impl World {
    fn keeping(last: u32) -> Self {
        Self::new(&json!({"retention": {"keepLast": last}, "onFailure": "Reschedule"}))
    }

    /// The next hours, with what becomes of the run of each.
    fn hours(&mut self, hours: std::ops::Range<u8>, proven: bool) -> &mut Self {
        for hour in hours {
            self.to(&format!("2026-11-22T{hour}:00:00Z"));
            let name = format!("orders-20261122-{hour}00");
            if proven {
                self.seals(&name)
            } else {
                self.fails(&name)
            };
        }
        self
    }

    fn live(&self) -> usize {
        self.jobs.iter().filter(|job| !matches!(job.state, JobState::Ended { .. })).count()
    }

    /// The pruner at work ends with `word`, of the runs that it proposed; nothing if none is.
    fn prune_ends(&mut self, word: impl FnOnce(&[u64]) -> Option<LastWord>) -> &mut Self {
        let job = self.jobs.iter_mut().find(|job| !matches!(job.state, JobState::Ended { .. }));
        if let Some(job) = job {
            let made = self.pruners.iter().rfind(|(name, _)| *name == job.name).unwrap();
            let (word, at) = (word(&made.1), Some(self.now));
            job.state = JobState::Ended { pod: None, node: None, word, how: "killed".into(), at };
        }
        self
    }

    /// A person asks for a prune.
    fn asks(&mut self, moment: &str) -> &mut Self {
        self.schedule.annotations_mut().insert(PRUNE_REQUESTED.to_owned(), moment.to_owned());
        self.settle();
        self
    }

    fn last(&self) -> LastPrune {
        self.status().last_prune.clone().unwrap()
    }

    fn proposed(&self) -> Vec<Vec<u64>> {
        self.pruners.iter().map(|(_, runs)| runs.clone()).collect()
    }
}

fn pruned(gone: &[u64], waiting: u32) -> Option<LastWord> {
    let gone: Vec<u32> = gone.iter().map(|run| u32::try_from(*run).unwrap()).collect();
    Some(LastWord::Pruned {
        run: (!gone.is_empty()).then_some(90),
        retired: u32::try_from(gone.len()).unwrap(),
        gone,
        deleted_objects: 3,
        deleted_bytes: 30,
        refused_objects: 0,
        waiting,
        failure: None,
    })
}

fn all(runs: &[u64]) -> Option<LastWord> {
    pruned(runs, 0)
}

fn failed(again: bool) -> Option<LastWord> {
    let failure = Failure { reason: "SurvivorDamaged".into(), message: "m".into(), hint: "h".into() };
    Some(LastWord::Failed { failure, again })
}

#[test]
fn what_goes_is_in_the_status_before_it_goes() {
    let mut world = World::keeping(1);
    world.hours(10..11, true).to("2026-11-22T11:00:00Z");
    world.runs += 1;
    let sealed = Sealed { run: Some((2, 2)), at: world.now, to: None };
    world.observed.backups[1].state = BackupState::Sealed(sealed);
    let plan = world.look();
    assert!(plan.status.next_prune == ["orders-20261122-1000"] && plan.prune.start.is_empty(), "{plan}");
    world.step_until(1);
    let plan = world.look();
    assert_eq!((plan.prune.start.len(), plan.prune.runs.clone()), (1, vec![1]), "{plan}");
    assert!(plan.to_string().contains("start pruner, attempt 1, for runs [1]"), "{plan}");
}

#[test]
fn what_is_retired_is_told_and_its_resource_goes() {
    let mut world = World::keeping(1);
    world.hours(10..12, true);
    assert_eq!((world.proposed(), world.deleted.len()), (vec![vec![1]], 0));
    world.prune_ends(all).settle();
    let LastPrune { run, retired, deleted_objects, deleted_bytes, removed, failure, .. } = world.last();
    assert_eq!((run, retired, deleted_objects, deleted_bytes, failure), (Some(90), 1, 3, 30, None));
    assert_eq!(removed, ["orders-20261122-1000"]);
    assert_eq!(world.deleted, removed);
    assert_eq!(world.status().next_prune, [""; 0]);
    assert_eq!(world.status().recoverable_from, world.status().recoverable_to);
    assert!(world.holds("RetentionApplied"));
    world.hours(12..13, true);
    assert_eq!(world.proposed(), [[1], [2]], "and the next goes after the next");
}

#[test]
fn what_the_bucket_keeps_stays_and_is_not_asked_for_again() {
    let mut world = World::keeping(1);
    world.hours(10..13, true);
    world.prune_ends(|_| pruned(&[], 0)).settle();
    assert_eq!((world.deleted.len(), world.status().next_prune.len()), (0, 2));
    world.to("2026-11-22T12:59:00Z");
    // The first Job was of the run 1, before there was another.
    assert_eq!(world.proposed(), [vec![1], vec![1, 2]]);
    // Its word was lost, the bucket says that it is done.
    world.prune_ends(|_| pruned(&[1], 0)).settle();
    assert_eq!(world.deleted, ["orders-20261122-1000"]);
}

#[test]
fn after_failures_nothing_goes_until_something_is_proven() {
    let mut world = World::keeping(1);
    world.store = Some(store(false));
    world.hours(10..13, true).hours(13..16, false);
    world.store = Some(store(true));
    world.to("2026-11-22T15:59:00Z").away("2026-11-22T15:59:30Z");
    assert_eq!((world.pruners.len(), world.status().next_prune.len()), (0, 2));
    world.hours(16..17, true);
    assert_eq!(world.proposed(), [[1, 2, 3]]);
}

#[test]
fn another_attempt_waits_for_a_backup_and_stays_away_after_a_failed_one() {
    let mut world = World::keeping(1);
    world.hours(10..12, true).prune_ends(|_| failed(true)).to("2026-11-22T11:00:01Z");
    world.to("2026-11-22T12:00:00Z");
    let attempts = world.pruners.len();
    world.prune_ends(|_| failed(true)).to("2026-11-22T12:30:00Z");
    assert_eq!(world.pruners.len(), attempts, "a Backup goes on");
    world.fails("orders-20261122-1200").to("2026-11-22T12:59:00Z");
    assert_eq!(world.pruners.len(), attempts, "it failed");
    world.hours(13..14, true).to("2026-11-22T13:30:00Z");
    assert!(world.pruners.len() > attempts);
}

#[test]
fn a_suspended_schedule_prunes_nothing_and_takes_its_pruner_away() {
    let mut world = World::keeping(1);
    world.hours(10..12, true);
    world.change(|schedule| schedule.spec.suspend = Some(true)).to("2026-11-25T11:00:00Z");
    assert_eq!((world.jobs.len(), world.pruners.len()), (0, 1));
    assert!(!world.look().looks_for_prune, "and asks for nothing");
    world.change(|schedule| schedule.spec.suspend = Some(false));
    assert_eq!((world.live(), world.proposed()), (1, vec![vec![1], vec![1]]));
    world.change(|schedule| schedule.spec.retention = None);
    assert_eq!((world.live(), world.status().next_prune.len()), (0, 0));
    assert!(!world.status().conditions.iter().any(|it| it.type_ == "RetentionApplied"));
}

#[test]
fn another_retention_is_another_prune() {
    let mut world = World::keeping(1);
    world.hours(10..13, true);
    let first = world.jobs[0].name.clone();
    world.change(|schedule| schedule.spec.retention.as_mut().unwrap().keep_last = Some(2));
    assert_eq!((world.live(), world.proposed().last().unwrap().clone()), (1, vec![1]));
    assert!(world.jobs.iter().all(|job| job.name != first), "what was proposed may be kept now");
}

#[rstest]
#[case::credentials(Some(store(false)), "DeleteCredentialsMissing")]
#[case::no_store(None, "StoreNotFound")]
fn without_means_nothing_goes_and_a_condition_says_so(
    #[case] found: Option<BackupStore>,
    #[case] reason: &str,
) {
    let mut world = World::keeping(1);
    world.store = found;
    world.hours(10..12, true);
    assert_eq!((world.pruners.len(), world.condition("RetentionApplied").reason.as_str()), (0, reason));
    assert_eq!(world.condition("RetentionApplied").status, ConditionStatus::False);
    assert!(world.holds("Ready"), "Backups are made all the same");
    world.store = Some(store(true));
    world.settle();
    world.prune_ends(all).settle();
    assert_eq!((world.proposed(), world.holds("RetentionApplied")), (vec![vec![1]], true));
}

#[test]
fn a_store_that_is_not_ready_is_waited_for() {
    let mut world = World::keeping(1);
    let mut shared = store(true);
    let condition = &mut shared.status.as_mut().unwrap().destinations[0].conditions[0];
    (condition.status, condition.reason) = (ConditionStatus::False, "PrefixShared".into());
    world.store = Some(shared);
    world.hours(10..12, true);
    assert_eq!(
        (world.pruners.len(), world.condition("RetentionApplied").reason.as_str()),
        (0, "PrefixShared")
    );
    world.store = Some(store(true));
    world.to("2026-11-22T11:10:00Z");
    assert_eq!(world.live(), 1);
}

#[test]
fn a_prune_that_fails_is_told_and_tried_again_the_next_day() {
    let mut world = World::new(&json!({"schedule": "0 10 1 * *", "retention": {"keepLast": 1}}));
    world.to("2026-12-01T10:00:00Z").seals("orders-20261201-1000");
    world.to("2027-01-01T10:00:00Z").seals("orders-20270101-1000");
    world.prune_ends(|_| failed(false)).settle();
    assert_eq!(world.condition("RetentionApplied").reason, "SurvivorDamaged");
    assert_eq!((world.last().failure.unwrap().reason.as_str(), world.deleted.len()), ("SurvivorDamaged", 0));
    world.to("2027-01-02T09:59:00Z");
    assert_eq!(world.pruners.len(), 1);
    world.to("2027-01-02T10:00:00Z").prune_ends(all).settle();
    assert_eq!((world.proposed(), world.deleted.len()), (vec![vec![1], vec![1]], 1));
}

#[test]
fn leftovers_go_once_a_day_while_there_are_some() {
    let mut world = World::new(&json!({"schedule": "0 10 1 * *", "retention": {"keepLast": 1}}));
    world.to("2026-12-01T10:00:00Z").seals("orders-20261201-1000").to("2026-12-20T10:00:00Z");
    assert_eq!(world.pruners.len(), 0, "there are none");
    world.to("2027-01-01T10:00:00Z").seals("orders-20270101-1000");
    world.prune_ends(|runs| pruned(runs, 1)).to("2027-01-02T09:59:00Z");
    assert_eq!(world.proposed(), [vec![1]]);
    world.to("2027-01-02T10:00:00Z").prune_ends(|runs| pruned(runs, 0)).to("2027-01-30T10:00:00Z");
    assert_eq!(world.proposed(), [vec![1], vec![]]);
}

#[test]
fn runs_of_another_collection_are_left_alone() {
    let mut world = World::keeping(1);
    world.hours(10..11, true).change(|it| it.spec.template.spec.collection = Some("other".into()));
    world.runs = 0;
    world.hours(11..13, true);
    assert_eq!(
        (world.status().next_prune.clone(), world.proposed()),
        (vec!["orders-20261122-1100".into()], vec![vec![1]])
    );
    world.prune_ends(all).settle();
    assert_eq!(world.deleted, ["orders-20261122-1100"]);
}

#[test]
fn a_person_asks_for_a_prune_and_is_answered_once() {
    let mut world = World::keeping(1);
    world.hours(10..12, true).prune_ends(|_| failed(false)).to("2026-11-22T11:10:00Z");
    assert_eq!(
        (world.pruners.len(), world.deleted.len()),
        (1, 0),
        "by itself it is tried again the next day"
    );
    world.asks("2026-11-22T11:10:00.5Z");
    assert_eq!(world.proposed(), [[1], [1]]);
    assert_eq!(world.status().last_prune_request, None, "it is at work");
    world.prune_ends(all).to("2026-11-22T11:50:00Z");
    assert_eq!(world.status().last_prune_request.as_deref(), Some("2026-11-22T11:10:00.5Z"));
    assert_eq!(
        (world.pruners.len(), world.deleted.as_slice()),
        (2, &["orders-20261122-1000".to_owned()][..])
    );
    // Nothing goes, but what was given up before may be old enough now.
    world.asks("2026-11-22T11:50:00Z").prune_ends(all).to("2026-11-22T11:59:00Z");
    assert_eq!(world.proposed(), [vec![1], vec![1], vec![]]);
    assert_eq!(world.status().last_prune_request.as_deref(), Some("2026-11-22T11:50:00Z"));
}

#[test]
fn a_question_overrides_nothing() {
    let mut world = World::keeping(1);
    world.hours(10..12, true).prune_ends(|_| failed(false)).settle();
    world.hours(12..13, false).asks("2026-11-22T12:00:00Z").to("2026-11-22T12:30:00Z");
    assert_eq!(world.pruners.len(), 1, "the newest run failed");
    world.change(|schedule| schedule.spec.suspend = Some(true)).to("2026-11-22T12:40:00Z");
    assert_eq!(world.pruners.len(), 1, "it is suspended");
    world.change(|schedule| schedule.spec.suspend = Some(false)).hours(13..14, true);
    assert_eq!(world.proposed(), [vec![1], vec![1, 2]]);
    world.prune_ends(all).settle();
    assert_eq!(world.status().last_prune_request.as_deref(), Some("2026-11-22T12:00:00Z"));
}

#[rstest]
#[case::of_a_copy("2026-11-22T09:29:59Z")]
#[case::no_moment("now")]
fn what_is_no_question_asks_nothing(#[case] said: &str) {
    let mut world = World::keeping(1);
    world.hours(10..12, true).prune_ends(all).settle();
    world.asks(said).to("2026-11-22T11:30:00Z");
    assert_eq!((world.pruners.len(), world.status().last_prune_request.as_deref()), (1, None));
}

#[test]
fn a_prune_that_has_no_job_yet_becomes_the_one_that_is_asked_for() {
    let mut world = World::keeping(1);
    world.hours(10..11, true).to("2026-11-22T11:00:00Z");
    world.observed.backups[1].state =
        BackupState::Sealed(Sealed { run: Some((2, 2)), at: world.now, to: None });
    // The status says what goes, then which prune is meant, and the controller ends.
    world.step_until(1);
    world.step_until(1);
    assert_eq!((world.status().processes.len(), world.jobs.len()), (1, 0));
    world.asks("2026-11-22T11:05:00Z").prune_ends(all).settle();
    assert_eq!((world.proposed(), world.deleted.len()), (vec![vec![1]], 1));
    assert_eq!(world.status().last_prune_request.as_deref(), Some("2026-11-22T11:05:00Z"));
}

/// What happens next.
#[derive(Clone, Debug)]
enum Move {
    Passes(i64),
    /// A look, cut off after so many writes.
    Looks(usize),
    Ends(bool),
    /// The pruner ends: killed, failed, or with that share of what it proposed gone.
    Prunes(u8),
    Suspends(bool),
    Keeps(u32, Option<u32>),
    Credentials(bool),
    /// A person asks for a prune.
    Asks,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (1..90_i64).prop_map(Move::Passes),
        10 => (0..5_usize).prop_map(Move::Looks),
        6 => prop::bool::weighted(0.8).prop_map(Move::Ends),
        4 => any::<u8>().prop_map(Move::Prunes),
        1 => prop::bool::weighted(0.3).prop_map(Move::Suspends),
        1 => (1..4_u32, prop::option::of(1..3_u32)).prop_map(|(last, daily)| Move::Keeps(last, daily)),
        1 => prop::bool::weighted(0.8).prop_map(Move::Credentials),
        1 => Just(Move::Asks),
    ];
    prop::collection::vec(one, 1..150)
}

/// The runs that retention keeps of what there is.
fn kept(world: &World) -> BTreeSet<u64> {
    let sealed = world.observed.backups.iter().filter_map(|backup| match backup.state {
        BackupState::Sealed(Sealed { run: Some((number, chain)), at, .. }) => {
            Some(retention::SealedRun { number, chain, time: at })
        }
        _ => None,
    });
    let valid = ValidatedSchedule::try_from(world.schedule.clone()).unwrap();
    let zone = jiff::tz::TimeZone::UTC;
    retention::apply(valid.retention.as_ref(), &zone, &sealed.collect::<Vec<_>>()).kept.into_keys().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Wherever the controller is stopped, whatever prunes and users do: what is proposed was shown before and is not
    /// kept, one prune is at work at once and none while a Backup is, while suspended, without credentials or after a
    /// failure; only what a pruner said is gone loses its resource, and never the newest.
    #[test]
    fn nothing_goes_that_is_kept(moves in moves()) {
        let mut world = World::keeping(2);
        let (mut gone, mut names) = (BTreeSet::new(), BTreeMap::new());
        // Those of failed runs go by their own limit, and have nothing to retire.
        let mut without_data = BTreeSet::new();
        for one in moves {
            match one {
                Move::Passes(minutes) => world.now += SignedDuration::from_mins(minutes),
                Move::Looks(effects) => {
                    let plan = world.look();
                    for run in plan.prune.runs.iter().filter(|_| !plan.prune.start.is_empty()) {
                        prop_assert!(!kept(&world).contains(run), "{} is kept", run);
                        let of = |it: &&ObservedBackup| matches!(it.state, BackupState::Sealed(sealed) if sealed.run == Some((*run, *run)));
                        let name = &world.observed.backups.iter().find(of).unwrap().name;
                        prop_assert!(world.status().next_prune.contains(name), "{} was not shown", run);
                    }
                    if !plan.prune.start.is_empty() {
                        prop_assert_eq!(world.live(), 0, "two at once");
                        prop_assert_ne!(world.schedule.spec.suspend, Some(true));
                        prop_assert_eq!(&world.store, &Some(store(true)));
                        let newest = world.observed.backups.iter().max_by_key(|it| it.state.ended());
                        prop_assert!(matches!(newest.unwrap().state, BackupState::Sealed(_)));
                        prop_assert!(world.observed.backups.iter().all(|it| it.state != BackupState::Active));
                    }
                    world.step_until(effects);
                }
                Move::Ends(well) => {
                    let active = world.observed.backups.iter().position(|it| it.state == BackupState::Active);
                    if let Some(at) = active {
                        world.runs += 1;
                        let (run, now) = (world.runs, world.now);
                        names.insert(run, world.observed.backups[at].name.clone());
                        world.observed.backups[at].state = match well {
                            true => BackupState::Sealed(Sealed { run: Some((run, run)), at: now, to: None }),
                            false => {
                                without_data.insert(world.observed.backups[at].name.clone());
                                BackupState::Failed { at: Some(now), failure: None }
                            }
                        };
                    }
                }
                Move::Prunes(how) => drop(world.prune_ends(|runs| match how % 4 {
                    0 => None,
                    1 => failed(how > 99),
                    _ => {
                        let share: Vec<u64> = runs.iter().copied().take(usize::from(how)).collect();
                        gone.extend(share.iter().copied());
                        pruned(&share, u32::from(how % 3))
                    }
                })),
                Move::Suspends(yes) => {
                    world.schedule.spec.suspend = Some(yes);
                    world.schedule.metadata.generation = world.schedule.metadata.generation.map(|it| it + 1);
                }
                Move::Keeps(last, daily) => {
                    let retention = world.schedule.spec.retention.as_mut().unwrap();
                    (retention.keep_last, retention.keep_daily) = (Some(last), daily);
                    world.schedule.metadata.generation = world.schedule.metadata.generation.map(|it| it + 1);
                }
                Move::Credentials(deletes) => world.store = Some(store(deletes)),
                Move::Asks => {
                    let moment = world.now.to_string();
                    world.schedule.annotations_mut().insert(PRUNE_REQUESTED.to_owned(), moment);
                }
            }
        }
        world.settle();
        for name in &world.deleted {
            let retired = gone.iter().any(|run| names.get(run) == Some(name));
            prop_assert!(retired || without_data.contains(name), "{} was not retired", name);
        }
        let (look, status) = (world.look(), world.status());
        prop_assert_eq!(&look.status, status);
        prop_assert!(look.forget.is_empty());
    }

    /// One prune is one Job, whatever write is the last that a controller makes.
    #[test]
    fn no_crash_repeats_a_prune(cuts in prop::collection::vec(0..4_usize, 0..30)) {
        let mut world = World::keeping(1);
        world.hours(10..11, true).to("2026-11-22T11:00:00Z");
        world.observed.backups[1].state =
            BackupState::Sealed(Sealed { run: Some((2, 2)), at: world.now, to: None });
        for effects in cuts {
            world.step_until(effects);
        }
        world.settle();
        prop_assert_eq!(world.proposed(), vec![vec![1]]);
        world.prune_ends(all).settle();
        prop_assert_eq!((world.proposed().len(), world.deleted.len()), (1, 1));
    }

    /// The resource of a retired Backup goes, and once, whatever write is the last.
    #[test]
    fn no_crash_keeps_a_retired_resource(cuts in prop::collection::vec(0..4_usize, 0..12)) {
        let mut world = World::keeping(1);
        world.hours(10..12, true).prune_ends(all);
        for effects in cuts {
            world.step_until(effects);
        }
        world.settle();
        prop_assert_eq!((world.pruners.len(), &world.deleted), (1, &vec!["orders-20261122-1000".to_owned()]));
    }
}
