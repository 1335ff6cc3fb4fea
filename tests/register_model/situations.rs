//! What must happen in some state, so that what must hold in all of them is not said of nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::bucket::{Content, Decision, Id, Outcome, RUNS};
use super::model::State;
use super::protocol::At;

pub(crate) const BOTH_SEALED: &str = "both runs are sealed";
pub(crate) const SEALED_AFTER_VOID: &str = "a run is sealed after one that is void";
pub(crate) const BEATEN: &str = "a process is about to seal, and the run is void";
pub(crate) const OVERTAKEN: &str = "a run is sealed by an attempt that is not its newest";
pub(crate) const CARRIED: &str = "a plan that an earlier attempt made is sealed by a later one";
pub(crate) const ADOPTED: &str = "a manifest is sealed by another process than the one that wrote it";
pub(crate) const ORPHAN: &str = "the first attempt is not made by the process that claimed the run";
pub(crate) const OWN_SEAL: &str = "a process wants to void a run, and meets its own seal";
pub(crate) const LATE_SEAL: &str = "a seal that got no answer is under way while another process voids";
pub(crate) const LATE_CLAIM: &str = "a claim that got no answer is under way while another process claims";
pub(crate) const THREE_ATTEMPTS: &str = "a run has three attempts";
pub(crate) const DELETED: &str = "objects of a void run are gone, and a process would have them verified";

type Situation = (&'static str, fn(&State) -> bool);

const ALL: [Situation; 12] = [
    (BOTH_SEALED, |state| outcomes(state).filter(|it| it.decision != Decision::Void).count() == RUNS),
    (SEALED_AFTER_VOID, |state| {
        let mut decisions = outcomes(state).map(|it| it.decision);
        decisions.next() == Some(Decision::Void) && decisions.any(|it| it != Decision::Void)
    }),
    (BEATEN, |state| {
        deciding(state).any(|(_, run, decision)| decision != Decision::Void && is_void(state, run))
    }),
    (OVERTAKEN, |state| {
        state.bucket.runs.iter().any(|run| {
            let newest = run.attempts.iter().flatten().last().map(|attempt| attempt.by);
            run.outcome.is_some_and(|it| it.decision != Decision::Void && newest != Some(it.by))
        })
    }),
    (CARRIED, |state| {
        outcomes(state).any(|it| matches!(it.decision, Decision::Sealed { plan, .. } if plan != it.by))
    }),
    (ADOPTED, |state| {
        outcomes(state)
            .any(|it| matches!(it.decision, Decision::Sealed { manifest, .. } if manifest != it.by))
    }),
    (ORPHAN, |state| {
        state
            .bucket
            .runs
            .iter()
            .any(|run| run.claim.zip(run.attempts[0]).is_some_and(|(claim, attempt)| claim.by != attempt.by))
    }),
    (OWN_SEAL, |state| {
        deciding(state).any(|(id, run, decision)| {
            let found = state.bucket.run(run).outcome;
            let own_seal = found.is_some_and(|it| it.by == id && it.decision != Decision::Void);
            decision == Decision::Void && own_seal
        })
    }),
    (LATE_SEAL, |state| {
        state.under_way.iter().flatten().any(|put| match put.content {
            Content::Outcome(sent) if sent.decision != Decision::Void => {
                deciding(state).any(|(id, _, decision)| decision == Decision::Void && id != sent.by)
            }
            _ => false,
        })
    }),
    (LATE_CLAIM, |state| {
        let claims = |id: Id| {
            state.processes.iter().flatten().any(|it| it.id != id && matches!(it.at, At::Claim { .. }))
        };
        let mut under_way = state.under_way.iter().flatten();
        under_way.any(|put| matches!(put.content, Content::Claim(sent) if claims(sent.by)))
    }),
    (THREE_ATTEMPTS, |state| state.bucket.runs.iter().any(|run| run.attempts() == 3)),
    (DELETED, |state| {
        state.processes.iter().flatten().any(|it| match it.at {
            At::Verdict { turn, .. } => is_void(state, turn.run) && state.bucket.plan(turn.plan).objects == 0,
            _ => false,
        })
    }),
];

/// Which situations were met. Stateright's own `sometimes` would record a path at every state that fits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met(Arc<AtomicU32>);

impl Met {
    pub(crate) fn note(&self, state: &State) {
        let known = self.0.load(Ordering::Relaxed);
        for (bit, (_, fits)) in ALL.iter().enumerate() {
            if known & (1 << bit) == 0 && fits(state) {
                self.0.fetch_or(1 << bit, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn has(&self, situation: &str) -> bool {
        let bit = ALL.iter().position(|(name, _)| *name == situation);
        bit.is_some_and(|bit| self.0.load(Ordering::Relaxed) & (1 << bit) != 0)
    }
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
