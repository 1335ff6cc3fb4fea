//! The controller is stopped after any of its writes, at any time, and another one goes on: one Backup per tick.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// Time passes, in minutes.
    Passes(i64),
    /// A look, cut off after so many writes.
    Looks(usize),
    /// The newest Backup that goes on ends.
    Ends(bool),
    /// Somebody suspends it, or lets it go on.
    Suspends(bool),
    /// Somebody takes the newest Backup away.
    Deletes,
    /// The status is lost.
    Forgets,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (1..50_i64).prop_map(Move::Passes),
        8 => (0..4_usize).prop_map(Move::Looks),
        5 => any::<bool>().prop_map(Move::Ends),
        1 => any::<bool>().prop_map(Move::Suspends),
        1 => Just(Move::Deletes),
        1 => Just(Move::Forgets),
    ];
    prop::collection::vec(one, 1..120)
}

fn policies() -> impl Strategy<Value = Value> {
    let concurrency = prop::sample::select(vec!["Skip", "Wait"]);
    let on_failure = prop::sample::select(vec!["Retry", "Reschedule", "Suspend"]);
    (concurrency, on_failure, 0..3_u32).prop_map(|(concurrency, on_failure, limit)| {
        json!({"concurrency": concurrency, "onFailure": on_failure, "failedHistoryLimit": limit,
               "retention": {"keepLast": 2}, "recoveryPointObjective": "3h"})
    })
}

fn active(world: &World) -> Option<String> {
    let mut all = world.observed.backups.iter().rev();
    all.find(|it| it.state == BackupState::Active).map(|it| it.name.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    /// Whatever happens: no run is made twice, no two go on at once, no more than the attempts are made for a tick,
    /// only failed ones are deleted, and a plan that was carried out asks for nothing more.
    #[test]
    fn no_crash_doubles_a_run(policy in policies(), moves in moves()) {
        let mut world = World::new(&policy);
        for one in moves {
            match one {
                Move::Passes(minutes) => world.now += SignedDuration::from_mins(minutes),
                Move::Looks(effects) => drop(world.step_until(effects)),
                Move::Ends(well) => {
                    if let Some(name) = active(&world) {
                        if well { world.seals(&name) } else { world.fails(&name) };
                    }
                }
                Move::Suspends(yes) => drop(world.change(|schedule| schedule.spec.suspend = Some(yes))),
                // Between its creation and the look after that, or with the status gone too, a Backup that was deleted can't
                // be told from one that was never made, and is made again.
                Move::Deletes if !world.is_starting() && world.status().clock.is_some() => drop(world.observed.backups.pop()),
                Move::Deletes => {}
                Move::Forgets if world.observed.backups.len() == world.made.len() => {
                    world.schedule.status = Some(BackupScheduleStatus::default());
                }
                Move::Forgets => {}
            }
            let going = world.observed.backups.iter().filter(|it| it.state == BackupState::Active).count();
            prop_assert!(going <= 1, "{going} at once");
        }
        let unique: BTreeSet<&String> = world.made.iter().collect();
        prop_assert_eq!(unique.len(), world.made.len(), "{:?}", world.made);
        let ticks: BTreeSet<&str> = world.made.iter().map(|name| &name[.."orders-20261122-1000".len()]).collect();
        for tick in ticks {
            let attempts = world.made.iter().filter(|name| name.starts_with(tick)).count();
            prop_assert!(i64::try_from(attempts).unwrap() <= ATTEMPTS);
        }
        world.settle();
        let again = world.look();
        prop_assert!(again.forget.is_empty());
        prop_assert_eq!(&again.status, world.status());
        if let Some(status) = &world.schedule.status {
            prop_assert!(status.missed.unwrap_or(0) >= 0);
        }
    }

    /// A controller that is stopped again and again, and is away for no longer than the starting deadline, loses no
    /// run either: each tick has its Backup.
    #[test]
    fn no_crash_loses_a_run(cuts in prop::collection::vec((1..14_i64, 0..4_usize), 60..200)) {
        let mut world = World::new(&json!({"onFailure": "Reschedule", "startingDeadline": "40m"}));
        for (minutes, effects) in cuts {
            world.now += SignedDuration::from_mins(minutes);
            world.step_until(effects);
            if effects == 0 {
                // The one after it gets further.
                world.step_until(2);
            }
            while let Some(name) = active(&world) {
                world.runs += 1;
                let sealed = Sealed { run: Some((world.runs, world.runs)), at: world.now, to: None };
                world.observed.backups.iter_mut().find(|it| it.name == name).unwrap().state = BackupState::Sealed(sealed);
            }
        }
        world.settle();
        let clock = Clock::new("0 * * * *", "UTC").unwrap();
        let created = at("2026-11-22T09:30:00Z");
        let ticks = std::iter::successors(clock.after(created), |tick| clock.after(*tick));
        let wanted: Vec<String> =
            ticks.take_while(|tick| *tick <= world.now).map(|tick| backup_name("orders", tick, 1)).collect();
        prop_assert_eq!(&world.made, &wanted);
        prop_assert_eq!(world.status().missed, None);
    }
}
