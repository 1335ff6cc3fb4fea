//! Every schedule of the real register.
//!
//! Here `engine::register` itself runs, above the real retries, against a store in memory in which each
//! request waits until a scheduler grants it. The scheduler goes through all orders, depth first, by executing
//! each from its start; the futures are polled by one thread, and by nothing else than a grant. What may
//! happen between any two requests:
//!
//! - another process goes on: the same command started again, another owner's that voids what is in its way,
//!   an unlock. Who is not granted anything for a while is a zombie, and wakes at any request;
//! - the answer to a create is lost. It takes effect at once, later, or never; the retries send it again and
//!   meet it, or the caller gets the error;
//! - a process that holds a turn is told to stop (a signal, a deadline), also while its seal is on its way,
//!   and abandons its run;
//! - all processes stand still, for that is what dying means to a store, and a fresh one must get through.
//!
//! After every step the store is read: the claims are dense and chained, outcomes name what is there, nothing
//! is sealed without its manifest and verdict, what processes have returned is what the register says, and
//! one at most says that it sealed.
//!
//! **How all of them are few enough.** Executions that have led to the same store, with every process having
//! been told the same, go on alike: the second one is cut off. A request whose answer no other process can
//! change, and that changes nothing for another (reading what exists; creating what exists; a verdict), is
//! granted at once. Of processes with the same program, one order stands for all. This loses nothing, because
//! objects are never overwritten; of a store that does overwrite every request counts.
//!
//! **Not explored here.** Heartbeats and waiting (evidence of death is believed at once, true or not); reads
//! that fail; plans of more than a manifest and a verdict. Random names and times differ in every execution,
//! and nothing here depends on them: an object is known by its writer and by what that had been told.
//! `register_model` explores more processes and faults at once, of the protocol instead of the code.

mod connection;
mod directed;
mod explorer;
mod invariants;
mod process;
mod world;

use explorer::{Explored, Scenario, explore};
use process::{Program, Report};
use world::{Creates, Listings, Manners};

/// A command; run twice, it is the same owner.
const OWNER: Program = Program::BackUp { owner: "owner", voids: false };

/// Another command, that voids what is in its way.
const OTHER: Program = Program::BackUp { owner: "other", voids: true };

/// The owner's command once more, when all others stand still.
const AGAIN: Program = Program::BackUp { owner: "owner", voids: true };

fn scenario(programs: &[Program]) -> Scenario {
    Scenario {
        programs: programs.to_vec(),
        lost: 0,
        stops: 0,
        retries: true,
        store: Manners { creates: Creates::Once, listings: Listings::Stale },
        rescues: vec![AGAIN, Program::Unlock],
    }
}

/// Explores all of it. `least` schedules, from start to end and all different, show that it is not next to
/// nothing.
fn holds(scenario: &Scenario, least: usize) -> Explored {
    let explored = match explore(scenario) {
        Ok(explored) => explored,
        Err(violation) => panic!("{violation}"),
    };
    let Explored { schedules, executions, states, .. } = explored;
    println!("{schedules} schedules, {states} states, {executions} executions");
    assert!(
        schedules >= least,
        "{schedules} schedules are left of at least {least}: what became of the others?"
    );
    explored
}

/// Whether a process has returned such a report in some schedule.
fn says(explored: &Explored, report: impl Fn(&Report) -> bool) -> bool {
    explored.reports.iter().any(report)
}

#[test]
fn one_command_a_lost_answer_and_a_stop() {
    let explored = holds(&Scenario { lost: 1, stops: 1, ..scenario(&[OWNER]) }, 100);
    // Stopped while its seal was on its way, it finds that it has sealed.
    assert!(says(&explored, |report| matches!(report, Report::SealedElsewhere { run: 1 })));
    assert!(says(&explored, |report| matches!(report, Report::Void { run: 1 })));
    assert!(says(&explored, |report| matches!(report, Report::Sealed { run: 1, .. })));
}

#[test]
fn two_commands_of_one_owner_and_a_lost_answer_that_is_asked_for_again() {
    let explored = holds(&Scenario { lost: 1, ..scenario(&[OWNER, OWNER]) }, 550);
    assert!(says(&explored, |report| matches!(report, Report::Overtaken)));
    assert!(says(&explored, |report| matches!(report, Report::SealedElsewhere { .. })));
    assert!(says(&explored, |report| matches!(report, Report::Sealed { run: 2, .. })));
}

#[test]
fn two_commands_of_one_owner_a_stop_and_a_lost_answer_that_is_an_error() {
    let explored = holds(&Scenario { lost: 1, stops: 1, retries: false, ..scenario(&[OWNER, OWNER]) }, 4_000);
    assert!(says(&explored, |report| matches!(report, Report::Unknown)));
    assert!(says(&explored, |report| matches!(report, Report::Nothing)));
    assert!(says(&explored, |report| matches!(report, Report::Void { .. })));
}

#[test]
fn two_owners_one_of_which_takes_over_and_a_lost_answer() {
    let explored = holds(&Scenario { lost: 1, ..scenario(&[OWNER, OTHER]) }, 450);
    assert!(says(&explored, |report| matches!(report, Report::Held)));
    assert!(says(&explored, |report| matches!(report, Report::Void { run: 1 })));
    assert!(says(&explored, |report| matches!(report, Report::Sealed { run: 2, .. })));
}

#[test]
fn two_owners_and_listings_that_show_the_claims() {
    let store = Manners { creates: Creates::Once, listings: Listings::Claims };
    holds(&Scenario { store, ..scenario(&[OWNER, OTHER]) }, 38);
}

#[test]
fn a_command_an_unlock_a_lost_answer_and_a_stop() {
    let explored = holds(&Scenario { lost: 1, stops: 1, ..scenario(&[OWNER, Program::Unlock]) }, 700);
    assert!(says(&explored, |report| matches!(report, Report::Void { run: 1 })));
}

#[test]
fn a_zombie_its_successor_and_an_unlock() {
    let explored = holds(&scenario(&[OWNER, OWNER, Program::Unlock]), 300);
    assert!(says(&explored, |report| matches!(report, Report::Overtaken)));
    assert!(says(&explored, |report| matches!(report, Report::Void { run: 1 })));
}

#[test]
fn three_commands_of_one_owner() {
    let explored = holds(&scenario(&[OWNER, OWNER, OWNER]), 1_700);
    assert!(says(&explored, |report| matches!(report, Report::Sealed { run: 3, .. })));
}

/// The exploration can fail: a store that overwrites breaks what all of this rests on, and is found out.
#[test]
fn a_store_that_overwrites_is_found_out() {
    let store = Manners { creates: Creates::Overwriting, listings: Listings::Stale };
    let violation =
        explore(&Scenario { store, rescues: Vec::new(), ..scenario(&[OWNER, OTHER]) }).map(|_| ());
    let violation = violation.expect_err("two processes claim one run, and nobody notices");
    println!("{violation}");
}
