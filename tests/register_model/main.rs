//! The protocol of the run register as a model, of which every state is explored.
//!
//! `protocol.rs` follows `engine::register` and the coordinator one request at a time: find the newest run,
//! read whether it is decided, claim the next or take a turn at an open one, write the objects of a plan and
//! its manifest, ask the verifier, compare once more, look whether the turn is still one's own, create the
//! outcome, read it back. Between any two requests of one process anything may happen elsewhere:
//!
//! - another process takes steps: another coordinator, the same command started a second time, an operator
//!   who voids. A process that is not scheduled for a while is a zombie, and wakes at any step. Evidence of
//!   death is always believed and may always be wrong, because safety must not rest on it;
//! - a create gets no answer. It took effect, or takes effect at any later moment, or never; the caller sends
//!   it again, or gives up, or dies;
//! - a process fails and voids, or is killed and started again with nothing but its owner's name;
//! - what is left of a plan whose run was decided otherwise is deleted.
//!
//! **Bounds.** Two runs; two objects for each plan; at most three processes, one of which may be killed once;
//! at most two creates without an answer. Each test's name says which of these it combines.
//!
//! **Not modelled.** Random names collide never, and a digest stands for its content. Reads are answered: one
//! that fails is a process that fails. Objects that a store has acknowledged and then loses or changes are the
//! verifier's business, and so is what a verifier reads: here it says whether everything is there. One
//! destination; heartbeats (they only delay a takeover); a listing (a hint); prunes (a run like any other).
//! An attempt that starts over within its process is covered by the same process killed and started again.

mod bucket;
mod model;
mod properties;
mod protocol;
mod situations;
mod way_on;

use std::collections::BTreeSet;

use model::{Register, Variant};
use properties::{ALWAYS, NOT_BOTH, ONE_SEALER, ORDER, TRUE_REPORTS, WAY_ON, WHOLE, WRITE_ONCE, ZOMBIE};
use protocol::Role;
use situations::{
    ADOPTED, BEATEN, BOTH_SEALED, CARRIED, DELETED, LATE_CLAIM, LATE_SEAL, Met, ORPHAN, OVERTAKEN, OWN_SEAL,
    SEALED_AFTER_VOID, THREE_ATTEMPTS,
};
use stateright::{Checker, HasDiscoveries, Model};

/// Runs the same command again and again, and stops at another owner's open run.
const OWNER: Role = Role::Coordinator { owner: 0, voids: false };

/// Another owner, who voids what is left open.
const OTHER: Role = Role::Coordinator { owner: 1, voids: true };

/// A person who unlocks.
const OPERATOR: Role = Role::Operator;

/// Explores the designed protocol to the end. `least` states, and the situations `met`, show that the
/// properties were not said of next to nothing.
fn holds(model: Register, least: usize, met: &[&'static str]) {
    let checker = model.checker().spawn_bfs().join();
    let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{unique} states, at most {depth} steps deep");
    for property in ALWAYS {
        checker.assert_no_discovery(property);
    }
    for situation in met {
        assert!(checker.model().met.has(situation), "it never happens that {situation}");
    }
    assert!(checker.is_done(), "the exploration stopped early");
    assert!(
        unique >= least,
        "{unique} states are left of at least {least}: what was taken out of the model?"
    );
}

fn correct(roles: &[(Role, u8)], unanswered: u8, deletes: bool) -> Register {
    Register {
        variant: Variant::Correct,
        roles: roles.to_vec(),
        unanswered,
        fails: true,
        deletes,
        met: Met::default(),
    }
}

#[test]
fn two_commands_of_one_owner_two_lost_answers_and_deletion() {
    let met =
        [BOTH_SEALED, SEALED_AFTER_VOID, CARRIED, ADOPTED, ORPHAN, OWN_SEAL, LATE_SEAL, LATE_CLAIM, DELETED];
    holds(correct(&[(OWNER, 0), (OWNER, 0)], 2, true), 175_000, &met);
}

#[test]
fn a_killed_process_its_successor_and_a_lost_answer() {
    let met = [BOTH_SEALED, OVERTAKEN, CARRIED, ADOPTED, ORPHAN, OWN_SEAL, LATE_SEAL, THREE_ATTEMPTS];
    holds(correct(&[(OWNER, 1), (OWNER, 0)], 1, false), 1_000_000, &met);
}

#[test]
fn three_commands_of_one_owner_none_of_which_fails() {
    let met = [BOTH_SEALED, OVERTAKEN, CARRIED, ADOPTED, ORPHAN, THREE_ATTEMPTS];
    let model = correct(&[(OWNER, 0), (OWNER, 0), (OWNER, 0)], 0, false);
    holds(Register { fails: false, ..model }, 78_000, &met);
}

#[test]
fn a_zombie_its_successor_and_another_owner_who_takes_over() {
    let met = [BOTH_SEALED, SEALED_AFTER_VOID, BEATEN, OVERTAKEN, CARRIED, ADOPTED, ORPHAN];
    holds(correct(&[(OWNER, 0), (OWNER, 0), (OTHER, 0)], 0, false), 400_000, &met);
}

#[test]
fn a_killed_process_another_owner_and_a_lost_answer() {
    let met = [BOTH_SEALED, SEALED_AFTER_VOID, BEATEN, OVERTAKEN, CARRIED, OWN_SEAL, LATE_SEAL, LATE_CLAIM];
    holds(correct(&[(OWNER, 1), (OTHER, 0)], 1, false), 270_000, &met);
}

#[test]
fn two_commands_an_operator_who_voids_a_lost_answer_and_deletion() {
    let met = [SEALED_AFTER_VOID, BEATEN, OVERTAKEN, CARRIED, ADOPTED, ORPHAN, OWN_SEAL, LATE_SEAL, DELETED];
    holds(correct(&[(OWNER, 0), (OWNER, 0), (OPERATOR, 0)], 1, true), 600_000, &met);
}

#[test]
fn two_owners_an_operator_who_voids_a_lost_answer_and_deletion() {
    let met = [BOTH_SEALED, SEALED_AFTER_VOID, BEATEN, OWN_SEAL, LATE_SEAL, LATE_CLAIM, DELETED];
    holds(correct(&[(OWNER, 0), (OTHER, 0), (OPERATOR, 0)], 1, true), 460_000, &met);
}

/// The configuration in which every broken protocol is caught, and the designed one is not (above).
fn broken(variant: Variant) -> Register {
    Register { variant, ..correct(&[(OWNER, 1), (OWNER, 0)], 1, false) }
}

/// Each rule of the protocol, left out, breaks the property that it is there for. A model that could not see
/// this would prove nothing of the protocol that has them all.
#[test]
fn each_broken_protocol_is_caught_by_the_property_meant() {
    for (variant, property) in [
        (Variant::OverwritesTheOutcome, NOT_BOTH),
        (Variant::OverwritesTheOutcome, WRITE_ONCE),
        (Variant::ConflictMeansMine, ONE_SEALER),
        (Variant::ConflictMeansMine, TRUE_REPORTS),
        (Variant::SealsBeforeTheVerdict, WHOLE),
        (Variant::DeletesBeforeTheOutcome, WHOLE),
        (Variant::ClaimsBeforeTheOutcome, ORDER),
        (Variant::NoAnswerMeansFailed, TRUE_REPORTS),
        (Variant::WaitsForAFirstAttempt, WAY_ON),
        (Variant::LooksForNoNewerAttempt, ZOMBIE),
        (Variant::VoidsWithoutLooking, ZOMBIE),
    ] {
        let model = broken(variant);
        let finish = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        let checker = model.checker().finish_when(finish).spawn_bfs().join();
        let found = checker.discovery(property);
        let Some(path) = found else { panic!("{variant:?} is not caught by: {property}") };
        println!("{variant:?} against \"{property}\": {:?}", path.into_actions());
    }
}

/// The looks before a decision, and recognising one's own claim, are manners: they spare work and surprises.
/// Whoever leaves them out harms nobody, for the register alone decides. (That an overtaken attempt decides
/// nothing is just what two of them are for.)
#[test]
fn without_its_manners_the_protocol_is_still_safe() {
    for variant in
        [Variant::LooksForNoNewerAttempt, Variant::VoidsWithoutLooking, Variant::TakesItsOwnForAnothers]
    {
        let model = Register { variant, ..correct(&[(OWNER, 0), (OWNER, 0)], 1, false) };
        let checker = model.checker().spawn_bfs().join();
        assert!(checker.unique_state_count() >= 20_000);
        for property in ALWAYS.into_iter().filter(|property| *property != ZOMBIE) {
            checker.assert_no_discovery(property);
        }
    }
}
