//! What must hold in every state.

use stateright::Property;

use super::bucket::{Decision, RUNS};
use super::model::{Register, State};
use super::way_on;

pub(crate) const NOT_BOTH: &str = "no run is both sealed and void";
pub(crate) const WHOLE: &str = "a sealed run has its objects, manifest and verdict";
pub(crate) const ONE_SEALER: &str =
    "at most one process believes that it sealed a run, and the register says the same";
pub(crate) const TRUE_REPORTS: &str = "whatever a process reports about a run is what the register says";
pub(crate) const ORDER: &str = "a number is claimed once the one before is decided, and names its outcome";
pub(crate) const WRITE_ONCE: &str = "nothing is overwritten";
pub(crate) const WAY_ON: &str = "from every state there is a way on";
pub(crate) const ZOMBIE: &str = "an overtaken attempt that wakes decides nothing";

/// The properties that must never fail.
pub(crate) const ALWAYS: [&str; 8] =
    [NOT_BOTH, WHOLE, ONE_SEALER, TRUE_REPORTS, ORDER, WRITE_ONCE, WAY_ON, ZOMBIE];

pub(crate) fn all() -> Vec<Property<Register>> {
    let always = Property::<Register>::always;
    vec![
        always(NOT_BOTH, |_, state| state.bucket.runs.iter().all(|run| !(run.ever_sealed && run.ever_void))),
        always(WHOLE, |_, state| whole(state)),
        always(ONE_SEALER, |_, state| one_sealer(state)),
        always(TRUE_REPORTS, |_, state| true_reports(state)),
        always(ORDER, |_, state| order(state)),
        always(WRITE_ONCE, |_, state| !state.bucket.overwritten),
        always(WAY_ON, way_on::exists),
        always(ZOMBIE, way_on::zombies_decide_nothing),
        // Always true: what it is there for is what it sees.
        always("situations are noted", |model, state| {
            model.met.note(state);
            true
        }),
    ]
}

fn whole(state: &State) -> bool {
    state.bucket.runs.iter().all(|run| {
        let Some(Decision::Sealed { plan, manifest, verdict }) = run.outcome.map(|it| it.decision) else {
            return true;
        };
        let plan = state.bucket.plan(plan);
        plan.is_whole() && plan.manifest == Some(manifest) && plan.proven & (1 << verdict) != 0
    })
}

fn one_sealer(state: &State) -> bool {
    let runs = state.bucket.runs.iter().zip(state.beliefs.0);
    runs.into_iter().all(|(run, belief)| {
        !belief.second_sealer && belief.sealer.is_none_or(|sealer| run.outcome == Some(sealer))
    })
}

fn true_reports(state: &State) -> bool {
    state.bucket.runs.iter().zip(state.beliefs.0).all(|(run, belief)| match run.outcome {
        None => belief.sealed == 0 && belief.void == 0,
        Some(outcome) if outcome.decision == Decision::Void => belief.sealed == 0,
        Some(_) => belief.void == 0,
    })
}

fn order(state: &State) -> bool {
    (0..RUNS).all(|at| {
        let Some(claim) = state.bucket.runs[at].claim else { return true };
        match at.checked_sub(1) {
            None => claim.previous.is_none(),
            Some(before) => claim.previous.is_some() && claim.previous == state.bucket.runs[before].outcome,
        }
    })
}
