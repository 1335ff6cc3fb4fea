//! What must hold in every state, and what must happen in some, so that the first is not said of nothing.

use stateright::Property;

use super::bucket::{Content, Decision, Id, Outcome, RUNS};
use super::model::{Register, State};
use super::protocol::At;
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

/// What is reached, in one configuration or another: the situations that the properties above are about.
pub(crate) mod reached {
    pub(crate) const BOTH_SEALED: &str = "both runs are sealed";
    pub(crate) const SEALED_AFTER_VOID: &str = "a run is sealed after one that is void";
    pub(crate) const BEATEN: &str = "a process is about to seal, and the run is void";
    pub(crate) const OVERTAKEN: &str = "a run is sealed by an attempt that is not its newest";
    pub(crate) const CARRIED: &str = "a plan that an earlier attempt made is sealed by a later one";
    pub(crate) const ADOPTED: &str = "a manifest is sealed by another process than the one that wrote it";
    pub(crate) const ORPHAN: &str = "the first attempt is not made by the process that claimed the run";
    pub(crate) const OWN_SEAL: &str = "a process wants to void a run, and meets its own seal";
    pub(crate) const LATE_SEAL: &str = "a seal that got no answer is under way while another process voids";
    pub(crate) const LATE_CLAIM: &str =
        "a claim that got no answer is under way while another process claims";
    pub(crate) const THREE_ATTEMPTS: &str = "a run has three attempts";
    pub(crate) const DELETED: &str = "objects of a void run are gone, and a process would verify them";
}

pub(crate) fn all() -> Vec<Property<Register>> {
    let always = Property::<Register>::always;
    let sometimes = Property::<Register>::sometimes;
    vec![
        always(NOT_BOTH, |_, state| state.bucket.runs.iter().all(|run| !(run.ever_sealed && run.ever_void))),
        always(WHOLE, |_, state| whole(state)),
        always(ONE_SEALER, |_, state| one_sealer(state)),
        always(TRUE_REPORTS, |_, state| true_reports(state)),
        always(ORDER, |_, state| order(state)),
        always(WRITE_ONCE, |_, state| !state.bucket.overwritten),
        always(WAY_ON, way_on::exists),
        always(ZOMBIE, way_on::zombies_decide_nothing),
        sometimes(reached::BOTH_SEALED, |_, state| {
            outcomes(state).filter(|it| it.decision != Decision::Void).count() == RUNS
        }),
        sometimes(reached::SEALED_AFTER_VOID, |_, state| {
            let mut decisions = outcomes(state).map(|it| it.decision);
            decisions.next() == Some(Decision::Void) && decisions.any(|it| it != Decision::Void)
        }),
        sometimes(reached::BEATEN, |_, state| {
            deciding(state).any(|(_, run, decision)| decision != Decision::Void && is_void(state, run))
        }),
        sometimes(reached::OVERTAKEN, |_, state| {
            state.bucket.runs.iter().any(|run| {
                let newest = run.attempts.iter().flatten().last();
                run.outcome.is_some_and(|it| {
                    it.decision != Decision::Void && newest.is_some_and(|newest| newest.by != it.by)
                })
            })
        }),
        sometimes(reached::CARRIED, |_, state| {
            outcomes(state).any(|it| matches!(it.decision, Decision::Sealed { plan, .. } if plan != it.by))
        }),
        sometimes(reached::ADOPTED, |_, state| {
            outcomes(state)
                .any(|it| matches!(it.decision, Decision::Sealed { manifest, .. } if manifest != it.by))
        }),
        sometimes(reached::ORPHAN, |_, state| {
            state.bucket.runs.iter().any(|run| {
                run.claim.zip(run.attempts[0]).is_some_and(|(claim, attempt)| claim.by != attempt.by)
            })
        }),
        sometimes(reached::OWN_SEAL, |_, state| {
            deciding(state).any(|(id, run, decision)| {
                let found = state.bucket.run(run).outcome;
                decision == Decision::Void
                    && found.is_some_and(|it| it.by == id && it.decision != Decision::Void)
            })
        }),
        sometimes(reached::LATE_SEAL, |_, state| {
            state.under_way.iter().flatten().any(|put| match put.content {
                Content::Outcome(sent) => {
                    sent.decision != Decision::Void
                        && deciding(state)
                            .any(|(id, _, decision)| decision == Decision::Void && id != sent.by)
                }
                _ => false,
            })
        }),
        sometimes(reached::LATE_CLAIM, |_, state| {
            state.under_way.iter().flatten().any(|put| match put.content {
                Content::Claim(sent) => state
                    .processes
                    .iter()
                    .flatten()
                    .any(|it| it.id != sent.by && matches!(it.at, At::Claim { .. })),
                _ => false,
            })
        }),
        sometimes(reached::THREE_ATTEMPTS, |_, state| {
            state.bucket.runs.iter().any(|run| run.attempts() == 3)
        }),
        sometimes(reached::DELETED, |_, state| {
            state.processes.iter().flatten().any(|it| {
                it.turn()
                    .is_some_and(|turn| is_void(state, turn.run) && state.bucket.plan(turn.plan).objects == 0)
                    && matches!(it.at, At::Verdict { .. })
            })
        }),
    ]
}

fn outcomes(state: &State) -> impl Iterator<Item = Outcome> {
    state.bucket.runs.iter().filter_map(|run| run.outcome)
}

/// Who is about to decide which run, and how.
fn deciding(state: &State) -> impl Iterator<Item = (Id, u8, Decision)> {
    state.processes.iter().flatten().filter_map(|process| match process.at {
        At::Decide { run, decision, .. } => Some((process.id, run, decision)),
        _ => None,
    })
}

fn is_void(state: &State, run: u8) -> bool {
    state.bucket.run(run).outcome.is_some_and(|it| it.decision == Decision::Void)
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
