use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::plan::cron::zone;

const NOTHING: ValidatedRetention = ValidatedRetention {
    keep_last: None,
    keep_daily: None,
    keep_weekly: None,
    keep_monthly: None,
    keep_yearly: None,
    minimum: 1,
};

fn full(number: u64, time: &str) -> SealedRun {
    SealedRun { number, chain: number, time: time.parse().unwrap() }
}

fn berlin() -> TimeZone {
    zone("Europe/Berlin").unwrap()
}

/// One a day at noon, 1 January 2026 being run 1.
fn days(count: u64) -> Vec<SealedRun> {
    let first: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let time = |n: u64| first + SignedDuration::from_hours(24 * i64::try_from(n - 1).unwrap());
    (1..=count).map(|n| SealedRun { number: n, chain: n, time: time(n) }).collect()
}

fn kept(retention: ValidatedRetention, runs: &[SealedRun]) -> Vec<u64> {
    apply(Some(&retention), &berlin(), runs).kept.into_keys().collect()
}

#[test]
fn each_rule_alone() {
    let runs = days(100); // Up to 10 April, a Friday.
    assert_eq!(kept(ValidatedRetention { keep_last: Some(3), ..NOTHING }, &runs), [98, 99, 100]);
    assert_eq!(kept(ValidatedRetention { keep_daily: Some(2), ..NOTHING }, &runs), [99, 100]);
    // Sundays: 29 March and 5 April.
    assert_eq!(kept(ValidatedRetention { keep_weekly: Some(3), ..NOTHING }, &runs), [88, 95, 100]);
    // The last days of February and March.
    assert_eq!(kept(ValidatedRetention { keep_monthly: Some(3), ..NOTHING }, &runs), [59, 90, 100]);
    assert_eq!(kept(ValidatedRetention { keep_yearly: Some(9), ..NOTHING }, &runs), [100]);
    assert_eq!(
        kept(ValidatedRetention { keep_last: Some(1), minimum: 4, ..NOTHING }, &runs),
        [97, 98, 99, 100]
    );
}

#[test]
fn without_retention_everything_stays() {
    let decided = apply(None, &berlin(), &days(50));
    assert_eq!((decided.kept.len(), decided.removed), (50, vec![]));
}

#[test]
fn days_are_those_of_the_time_zone() {
    // 23:30 and 00:30 in Berlin: two days there, one in UTC.
    let runs = [full(1, "2026-06-01T21:30:00Z"), full(2, "2026-06-01T22:30:00Z")];
    let retention = ValidatedRetention { keep_daily: Some(2), ..NOTHING };
    assert_eq!(kept(retention, &runs), [1, 2]);
    assert_eq!(apply(Some(&retention), &TimeZone::UTC, &runs).removed, [1]);
}

#[test]
fn a_clock_that_was_set_back_makes_no_new_backup_old() {
    let runs = [full(1, "2027-01-01T00:00:00Z"), full(2, "2026-01-01T00:00:00Z")];
    assert_eq!(kept(ValidatedRetention { keep_last: Some(1), ..NOTHING }, &runs), [2]);
}

#[test]
fn chains_stay_whole() {
    let mut runs = days(6);
    for (run, chain) in runs.iter_mut().zip([1, 1, 1, 4, 4, 6]) {
        run.chain = chain;
    }
    let decided = apply(Some(&ValidatedRetention { keep_last: Some(2), ..NOTHING }), &berlin(), &runs);
    assert_eq!(decided.removed, [1, 2, 3]);
    assert_eq!(decided.kept[&4], BTreeSet::from([Rule::Chain]), "run 5 is nothing without it");
    assert_eq!(
        decided.to_string(),
        "run 4 stays: its chain\nrun 5 stays: keepLast\nrun 6 stays: keepLast, minimum\nrun 1 goes\nrun 2 goes\nrun 3 goes\n"
    );
}

fn retentions() -> impl Strategy<Value = ValidatedRetention> {
    let some = |most: u32| prop::option::of(1..most);
    (some(6), some(6), some(4), some(4), some(3), 1..5_u32).prop_map(
        |(keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, minimum)| ValidatedRetention {
            keep_last,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            minimum,
        },
    )
}

/// Runs with gaps in their numbers, clocks that go back now and then, and chains of several layers.
fn collections() -> impl Strategy<Value = Vec<SealedRun>> {
    let run = (1..3_u64, -20..200_i64, any::<bool>());
    prop::collection::vec(run, 1..60).prop_map(|runs| {
        let mut all: Vec<SealedRun> = Vec::new();
        let mut time: Timestamp = "2025-11-22T00:00:00Z".parse().unwrap();
        for (step, hours, begins) in runs {
            let number = all.last().map_or(0, |run| run.number) + step;
            time += SignedDuration::from_hours(hours);
            let chain = all.last().filter(|_| !begins).map_or(number, |run| run.chain);
            all.push(SealedRun { number, chain, time });
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_promised_is_kept(retention in retentions(), runs in collections()) {
        let decided = apply(Some(&retention), &berlin(), &runs);
        prop_assert_eq!(decided.kept.len() + decided.removed.len(), runs.len());
        let chain = |number: &u64| runs.iter().find(|run| run.number == *number).unwrap().chain;
        let gone: BTreeSet<u64> = decided.removed.iter().map(chain).collect();
        let stay: BTreeSet<u64> = decided.kept.keys().map(chain).collect();
        prop_assert!(gone.is_disjoint(&stay), "a chain was torn");
        let all: BTreeSet<u64> = runs.iter().map(|run| run.chain).collect();
        let floor = usize::try_from(retention.minimum).unwrap().min(all.len());
        prop_assert!(stay.len() >= floor);
        prop_assert!(all.iter().rev().take(floor).all(|chain| stay.contains(chain)), "the newest are the floor");
        let last = usize::try_from(retention.keep_last.unwrap_or(0)).unwrap();
        prop_assert!(runs.iter().rev().take(last).all(|run| decided.kept.contains_key(&run.number)));
    }

    /// A newer run never brings back one that was to go.
    #[test]
    fn what_goes_stays_gone(retention in retentions(), runs in collections()) {
        let mut gone: BTreeSet<u64> = BTreeSet::new();
        for count in 1..=runs.len() {
            let decided = apply(Some(&retention), &berlin(), &runs[..count]);
            let removed: BTreeSet<u64> = decided.removed.into_iter().collect();
            prop_assert!(gone.is_subset(&removed), "{gone:?} {removed:?}");
            gone = removed;
        }
    }

    /// Nor does it matter whether what was to go has gone by then, nor in which order runs are listed.
    #[test]
    fn a_prune_changes_nothing_about_the_rest(retention in retentions(), mut runs in collections()) {
        let before = apply(Some(&retention), &berlin(), &runs);
        runs.retain(|run| before.kept.contains_key(&run.number));
        runs.reverse();
        let after = apply(Some(&retention), &berlin(), &runs);
        prop_assert_eq!(after.kept.keys().collect::<Vec<_>>(), before.kept.keys().collect::<Vec<_>>());
        prop_assert_eq!(after.removed, Vec::<u64>::new());
    }
}
