//! The protocol of the run register as a model, of which every state is explored.
mod bucket;
mod model;
mod properties;
mod protocol;
mod way_on;

use std::collections::BTreeSet;
use std::time::Instant;

use model::{Register, Variant};
use properties::reached::{
    ADOPTED, BEATEN, BOTH_SEALED, CARRIED, DELETED, LATE_CLAIM, LATE_SEAL, ORPHAN, OVERTAKEN, OWN_SEAL,
    SEALED_AFTER_VOID, THREE_ATTEMPTS,
};
use properties::{ALWAYS, NOT_BOTH, ONE_SEALER, ORDER, TRUE_REPORTS, WAY_ON, WHOLE, WRITE_ONCE};
use protocol::Role;
use stateright::{Checker, HasDiscoveries, Model};

/// Runs the same command again and again; stops at another owner's open run.
const OWNER: Role = Role::Coordinator { owner: 0, voids: false };
/// Another owner, who voids what is left open.
const OTHER: Role = Role::Coordinator { owner: 1, voids: true };
const OPERATOR: Role = Role::Operator;

fn explore(roles: &[(Role, u8)], unanswered: u8, deletes: bool) {
    let t = Instant::now();
    let model = Register { variant: Variant::Correct, roles: roles.to_vec(), unanswered, deletes };
    let c = model.checker().spawn_bfs().join();
    let d = c.discoveries();
    let mut names: Vec<_> = d.keys().collect();
    names.sort();
    eprintln!(
        "{roles:?} {unanswered} {deletes}: {} states, {} unique, depth {}, {:?}\n {names:#?}",
        c.state_count(),
        c.unique_state_count(),
        c.max_depth(),
        t.elapsed()
    );
    for a in ALWAYS {
        c.assert_no_discovery(a);
    }
}

#[test]
fn probe() {
    explore(&[(OWNER, 0), (OWNER, 0)], 2, true);
    explore(&[(OWNER, 0), (OWNER, 0), (OTHER, 0)], 0, true);
    explore(&[(OWNER, 0), (OWNER, 0), (OPERATOR, 0)], 1, true);
    explore(&[(OWNER, 0), (OTHER, 0), (OPERATOR, 0)], 1, true);
    explore(&[(OWNER, 0), (OWNER, 0), (OWNER, 0)], 0, false);
    explore(&[(OWNER, 1), (OWNER, 0)], 1, false);
    explore(&[(OWNER, 1), (OTHER, 0)], 1, false);
}
#[test]
fn broken() {
    for (v, p) in [
        (Variant::OverwritesTheOutcome, NOT_BOTH),
        (Variant::OverwritesTheOutcome, WRITE_ONCE),
        (Variant::ConflictMeansMine, ONE_SEALER),
        (Variant::ConflictMeansMine, TRUE_REPORTS),
        (Variant::SealsBeforeTheVerdict, WHOLE),
        (Variant::DeletesBeforeTheOutcome, WHOLE),
        (Variant::ClaimsBeforeTheOutcome, ORDER),
        (Variant::NoAnswerMeansFailed, TRUE_REPORTS),
        (Variant::WaitsForAFirstAttempt, WAY_ON),
    ] {
        let t = Instant::now();
        let model =
            Register { variant: v, roles: vec![(OWNER, 1), (OWNER, 0)], unanswered: 1, deletes: false };
        let c = model.checker().finish_when(HasDiscoveries::AnyOf(BTreeSet::from([p]))).spawn_bfs().join();
        eprintln!(
            "{v:?} {p}: {} {:?} {:?}",
            c.unique_state_count(),
            c.discovery(p).map(|p| p.into_actions()),
            t.elapsed()
        );
    }
    for v in [Variant::LooksForNoNewerAttempt, Variant::TakesItsOwnForAnothers] {
        let model =
            Register { variant: v, roles: vec![(OWNER, 1), (OWNER, 0)], unanswered: 1, deletes: false };
        let c = model.checker().spawn_bfs().join();
        for a in ALWAYS {
            c.assert_no_discovery(a);
        }
    }
}
