//! No state without a way on.
//!
//! Stateright's `eventually` does not see cycles, and fairness would have to be assumed anyway. What people
//! rely on is more than that some lucky schedule ends well: when everything else stands still, for good or for
//! a while, one command must get through by itself. So in every state, with all other processes frozen where
//! they are and nothing under way arriving:
//!
//! - each process that runs comes to its end if it alone goes on; it seals its run if it holds the newest turn
//!   of an open one, and its run is decided if it had begun to decide;
//! - each owner, running its command once more, seals a backup; if the last number of the model is decided
//!   already, there is nothing left to do. An owner that does not void another's run is stopped by an open one;
//! - a person's unlock decides whatever run is open.

use super::bucket::{Bucket, Decision, Id};
use super::model::{Beliefs, RESERVE, Register, State, verdict};
use super::protocol::{At, Process, Role};

/// Longest way of one process alone: it voids another's run, claims, makes its plan and seals in 20 steps.
const LONGEST: usize = 40;

pub(crate) fn exists(model: &Register, state: &State) -> bool {
    let processes = state.processes.iter().flatten();
    processes.clone().filter(|it| it.at != At::Ended).all(|it| goes_on(model, state, *it))
        && processes.map(|it| it.role).chain([Role::Operator]).all(|role| again(model, state, role))
}

/// A process that runs, alone from here.
fn goes_on(model: &Register, state: &State, process: Process) -> bool {
    let Some(end) = alone(model, state, process) else { return false };
    let deciding = match process.at {
        At::Decide { run, .. } | At::ReadBack { run, .. } => is_decided(&end.bucket, run),
        _ => true,
    };
    let sealing = process.turn().is_none_or(|turn| {
        let run = state.bucket.run(turn.run);
        let holds = run.outcome.is_none() && run.attempts() == turn.attempt;
        match process.at {
            At::MayVoid { .. } => !holds || is_decided(&end.bucket, turn.run),
            _ => !holds || is_sealed_by(&end.bucket, process.id),
        }
    });
    deciding && sealing
}

/// A process whose turn was taken over before its last look, waking alone: whether it goes on or fails, its
/// run stays open for the newer attempt. (What it sends after its last look may still win; that is safe.)
pub(crate) fn zombies_decide_nothing(model: &Register, state: &State) -> bool {
    state.processes.iter().flatten().all(|process| {
        let Some(turn) = process.turn() else { return true };
        let run = state.bucket.run(turn.run);
        let overtaken = run.outcome.is_none() && run.attempts() > turn.attempt;
        let mut failing = *process;
        failing.fail(&mut Beliefs::default(), model.variant);
        !overtaken
            || [*process, failing].into_iter().all(|it| {
                alone(model, state, it).is_some_and(|end| end.bucket.run(turn.run).outcome.is_none())
            })
    })
}

/// A fresh process of that role, alone.
fn again(model: &Register, state: &State, role: Role) -> bool {
    let Some(end) = alone(model, state, Process::new(RESERVE, role, 0)) else { return false };
    let bucket = end.bucket;
    let before = state.bucket.newest();
    let open = before > 0 && state.bucket.run(before).outcome.is_none();
    match role {
        Role::Operator => is_decided(&bucket, before),
        Role::Coordinator { owner, voids } => {
            let own = !open || state.bucket.run(before).claim.is_some_and(|claim| claim.owner == owner);
            let room = usize::from(before) < state.bucket.runs.len() || (open && own);
            if !own && !voids {
                return true;
            }
            !room || is_sealed_by(&bucket, RESERVE)
        }
    }
}

fn is_decided(bucket: &Bucket, run: u8) -> bool {
    run == 0 || bucket.run(run).outcome.is_some()
}

/// Whether a run is sealed, and `id` did it.
fn is_sealed_by(bucket: &Bucket, id: Id) -> bool {
    bucket
        .runs
        .iter()
        .filter_map(|run| run.outcome)
        .any(|outcome| outcome.by == id && matches!(outcome.decision, Decision::Sealed { .. }))
}

/// The state in which `process` ends if nothing else moves but the verifier that it asks.
fn alone(model: &Register, state: &State, mut process: Process) -> Option<State> {
    let mut state = *state;
    for _ in 0..LONGEST {
        if process.at == At::Ended {
            return Some(state);
        }
        if let At::Verdict { turn, .. } = process.at
            && process.waits(&state.bucket)
        {
            let put = verdict(&state.bucket, turn.plan, process.id);
            state.bucket.write(put);
        }
        process.step(&mut state.bucket, &mut state.beliefs, model.variant);
    }
    None
}
