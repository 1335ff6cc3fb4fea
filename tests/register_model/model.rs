//! Every interleaving of the processes' steps, with what a network and a machine do to them.

use stateright::{Model, Property};

use super::bucket::{Bucket, Content, Decision, IDS, Id, Key, Outcome, Put, RUNS};
use super::properties;
use super::protocol::{At, Process, Role};
use super::situations::Met;

/// The protocol, or one that is broken on purpose in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As designed.
    Correct,
    /// Not broken, for the look at newer attempts is manners: the seal does without it.
    LooksForNoNewerAttempt,
    /// Not broken either: a claim or a turn that meets itself, after a lost answer, is taken for another's.
    TakesItsOwnForAnothers,
    /// The outcome is written whatever lies there.
    OverwritesTheOutcome,
    /// "The name is taken" is read as "my own create worked", and nothing is read back.
    ConflictMeansMine,
    /// The seal does not wait for the verdict that it names.
    SealsBeforeTheVerdict,
    /// The next number is claimed while the run before is open.
    ClaimsBeforeTheOutcome,
    /// An attempt with a new plan deletes what earlier attempts wrote.
    DeletesBeforeTheOutcome,
    /// A seal whose answer was lost is reported as a failure, without winning the Void.
    NoAnswerMeansFailed,
    /// An attempt that fails voids its run without a look for a newer attempt.
    VoidsWithoutLooking,
    /// A run without any attempt is taken for one whose first attempt is about to come.
    WaitsForAFirstAttempt,
}

/// What is explored.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    pub(crate) variant: Variant,
    pub(crate) roles: Vec<(Role, u8)>,
    /// Creates that get no answer: they take effect at once, later, or never.
    pub(crate) unanswered: u8,
    /// Whether processes fail for reasons of their own, and void.
    pub(crate) fails: bool,
    /// Whether objects of decided runs are deleted.
    pub(crate) deletes: bool,
    pub(crate) met: Met,
}

/// Requests on their way at once; no configuration has more faults.
const UNDER_WAY: usize = 2;

/// Processes at once: three coordinators, an operator, and the one in reserve.
const PROCESSES: usize = 5;

/// The life that starts when all others stand still, to see whether there is a way on.
pub(crate) const RESERVE: Id = 7;

/// What the processes have learnt about one run, and told the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Belief {
    /// Who reports that the run is sealed, or void: one bit for each life.
    pub(crate) sealed: u8,
    pub(crate) void: u8,
    /// Who reports that it has itself sealed the run, and how; a second such report.
    pub(crate) sealer: Option<Outcome>,
    pub(crate) second_sealer: bool,
}

/// The beliefs about all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Beliefs(pub(crate) [Belief; RUNS]);

impl Beliefs {
    /// `id` has read (or takes for granted) that `run` ended so.
    pub(crate) fn read(&mut self, run: u8, id: Id, found: Outcome) {
        let belief = &mut self.0[usize::from(run) - 1];
        match found.decision {
            Decision::Void => belief.void |= 1 << id,
            Decision::Sealed { .. } => {
                belief.sealed |= 1 << id;
                if found.by == id {
                    belief.second_sealer |= belief.sealer.is_some_and(|sealer| sealer != found);
                    belief.sealer = Some(found);
                }
            }
        }
    }
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) bucket: Bucket,
    pub(crate) processes: [Option<Process>; PROCESSES],
    pub(crate) beliefs: Beliefs,
    /// Creates that were sent, got no answer, and may still take effect.
    pub(crate) under_way: [Option<Put>; UNDER_WAY],
    pub(crate) unanswered: u8,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The process's next step, answered.
    Step(usize),
    /// Its create gets no answer, and it sends it again.
    Retries(usize),
    /// Its create gets no answer, and it gives up.
    GivesUp(usize),
    /// It fails for a reason of its own, or is told to stop.
    Fails(usize),
    /// It is killed and started again.
    Restarts(usize),
    /// A create that got no answer takes effect, or meets another.
    Arrives(usize),
    /// A verifier reads everything of the plan and writes its verdict.
    Verifies { plan: Id, question: Id },
    /// It does so, and its create takes effect later or never. It ends; its coordinator waits or gives up.
    VerifiesLate { plan: Id, question: Id },
    /// What is left of a plan whose run was decided otherwise is deleted.
    Deletes(Id),
}

impl State {
    fn process(&mut self, slot: usize) -> Option<&mut Process> {
        self.processes.get_mut(slot)?.as_mut()
    }

    /// Sends a create that gets no answer.
    fn send(&mut self, put: Put) -> Option<()> {
        let free = self.under_way.iter_mut().find(|slot| slot.is_none())?;
        *free = Some(put);
        self.unanswered -= 1;
        Some(())
    }

    /// Drops requests that can't take effect any more, and sorts the others: states that differ in these only
    /// are the same.
    fn settle(&mut self, variant: Variant) {
        for slot in &mut self.under_way {
            let taken = slot.is_some_and(|put| match put.key {
                Key::Outcome(_) if variant == Variant::OverwritesTheOutcome => false,
                // A deleted object comes back by a late create; it has no meaning, and no name is taken.
                key => self.bucket.content(key).is_some(),
            });
            if taken {
                *slot = None;
            }
        }
        self.under_way.sort_unstable_by_key(|put| put.map_or(Key::Run(0), |put| put.key));
    }
}

/// What a verifier says of `plan` at this moment.
pub(crate) fn verdict(bucket: &Bucket, plan: Id, question: Id) -> Put {
    let found = bucket.plan(plan);
    let proven = found.is_whole() && found.manifest.is_some();
    Put { key: Key::Verdict(plan, question), content: Content::Verdict { proven } }
}

impl Register {
    fn apply(&self, state: &mut State, action: Action) -> Option<()> {
        let variant = self.variant;
        match action {
            Action::Step(slot) => {
                let mut process = *state.process(slot)?;
                process.step(&mut state.bucket, &mut state.beliefs, variant);
                state.processes[slot] = Some(process);
            }
            Action::Retries(slot) => {
                let put = state.process(slot)?.put()?;
                state.send(put)?;
            }
            Action::GivesUp(slot) => {
                let mut process = *state.process(slot)?;
                state.send(process.put()?)?;
                process.fail(&mut state.beliefs, variant);
                state.processes[slot] = Some(process);
            }
            Action::Fails(slot) => {
                let mut process = *state.process(slot)?;
                process.fail(&mut state.beliefs, variant);
                state.processes[slot] = Some(process);
            }
            Action::Restarts(slot) => {
                let process = state.process(slot)?;
                *process = Process::new(process.id + 1, process.role, process.restarts - 1);
            }
            Action::Arrives(slot) => {
                let put = state.under_way[slot].take()?;
                let unconditional =
                    matches!(put.key, Key::Outcome(_)) && variant == Variant::OverwritesTheOutcome;
                if unconditional || state.bucket.content(put.key).is_none() {
                    state.bucket.write(put);
                }
            }
            Action::Verifies { plan, question } => {
                let put = verdict(&state.bucket, plan, question);
                state.bucket.write(put);
            }
            Action::VerifiesLate { plan, question } => {
                state.send(verdict(&state.bucket, plan, question))?;
                state.bucket.plan_mut(plan).asked &= !(1 << question);
            }
            Action::Deletes(plan) => state.bucket.plan_mut(plan).objects = 0,
        }
        state.settle(variant);
        Some(())
    }

    fn start(&self) -> State {
        let mut processes = [None; PROCESSES];
        for (slot, (role, restarts)) in self.roles.iter().enumerate() {
            // Two lives for each: started, and started again.
            processes[slot] = Some(Process::new(slot as Id * 2, *role, *restarts));
        }
        State {
            bucket: Bucket::default(),
            processes,
            beliefs: Beliefs::default(),
            under_way: [None; UNDER_WAY],
            unanswered: self.unanswered,
        }
    }
}

impl Model for Register {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (slot, process) in state.processes.iter().enumerate() {
            let Some(process) = process else { continue };
            if process.restarts > 0 && process.at != At::Newest {
                actions.push(Action::Restarts(slot));
            }
            if process.at == At::Ended {
                continue;
            }
            if !process.waits(&state.bucket) {
                actions.push(Action::Step(slot));
            }
            if self.fails && process.turn().is_some() && !matches!(process.at, At::MayVoid { .. }) {
                actions.push(Action::Fails(slot));
            }
            if state.unanswered > 0 && process.put().is_some() {
                actions.extend([Action::Retries(slot), Action::GivesUp(slot)]);
            }
        }
        for slot in (0..UNDER_WAY).filter(|slot| state.under_way[*slot].is_some()) {
            actions.push(Action::Arrives(slot));
        }
        for plan in 0..IDS as Id {
            let found = state.bucket.plan(plan);
            let open = found.asked & !found.proven & !found.refused;
            for question in (0..IDS as Id).filter(|question| open & (1 << question) != 0) {
                actions.push(Action::Verifies { plan, question });
                if state.unanswered > 0 {
                    actions.push(Action::VerifiesLate { plan, question });
                }
            }
            if self.deletes && found.objects != 0 && state.bucket.is_refuse(plan) {
                actions.push(Action::Deletes(plan));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.apply(&mut state, action)?;
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
