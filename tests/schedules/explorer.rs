//! Depth first through all schedules, by executing each from its start.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::Runtime;

use super::invariants;
use super::process::{Process, Program, Report};
use super::world::{Manners, Request, World};

/// Most requests of one process alone: it finds another's run, voids it, claims and seals in 22.
const LONGEST: usize = 60;

/// What is explored.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) programs: Vec<Program>,
    /// Creates whose answer is lost.
    pub(crate) lost: usize,
    /// Processes that are told to stop, at any moment at which they hold a turn.
    pub(crate) stops: usize,
    /// Whether a request that fails is sent a second time.
    pub(crate) retries: bool,
    pub(crate) store: Manners,
    /// Started at every state of the store while all others stand still, to see that there is a way on.
    pub(crate) rescues: Vec<Program>,
}

/// How much was explored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Explored {
    /// Executions to the end of all processes.
    pub(crate) schedules: usize,
    /// Executions in all: those that reached a known state, and those of rescues, included.
    pub(crate) executions: usize,
    /// Different states.
    pub(crate) states: usize,
    /// All reports of processes at their ends.
    pub(crate) reports: HashSet<Report>,
}

/// What must not happen, and how it came to it.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    trace: Vec<Step>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after:", self.what)?;
        self.trace.iter().try_for_each(|step| match step {
            Step::Chosen(choice, Some(request)) => writeln!(f, "  {choice:?}: {request:?}"),
            Step::Chosen(choice, None) => writeln!(f, "  {choice:?}"),
            Step::Rescue(program) => writeln!(f, "  all stand still, and {program:?} is started"),
        })
    }
}

/// What an execution has gone through.
#[derive(Clone, Debug)]
enum Step {
    Chosen(Choice, Option<Request>),
    Rescue(Program),
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Grant(usize),
    Lose(usize),
    Stop { process: usize, sent: bool },
    Arrive(usize),
}

type Running = Pin<Box<dyn Future<Output = Report>>>;

struct Execution<'a> {
    scenario: &'a Scenario,
    runtime: &'a Runtime,
    world: Arc<World>,
    running: Vec<Option<Running>>,
    reports: Vec<Option<Report>>,
    lost: usize,
    stops: usize,
    trace: Vec<Step>,
}

impl<'a> Execution<'a> {
    fn start(scenario: &'a Scenario, runtime: &'a Runtime) -> Self {
        let processes = scenario.programs.len() + scenario.rescues.len();
        let mut execution = Self {
            scenario,
            runtime,
            world: World::new(scenario.store, processes),
            running: (0..processes).map(|_| None).collect(),
            reports: vec![None; processes],
            lost: scenario.lost,
            stops: scenario.stops,
            trace: Vec::new(),
        };
        for (number, program) in scenario.programs.iter().enumerate() {
            execution.spawn(number, *program);
        }
        execution
    }

    fn spawn(&mut self, number: usize, program: Program) {
        let (world, retries) = (Arc::clone(&self.world), self.scenario.retries);
        self.running[number] = Some(Box::pin(Process { number, program, world, retries }.run()));
        self.advance(number);
    }

    /// Runs a process until it waits for the scheduler again, or ends.
    fn advance(&mut self, number: usize) {
        let Some(running) = &mut self.running[number] else { return };
        let world = &self.world;
        // Pending without a request: it waits for the clock before it tries again.
        let ended = self.runtime.block_on(poll_fn(|context| match running.as_mut().poll(context) {
            Poll::Ready(report) => Poll::Ready(Some(report)),
            Poll::Pending if world.waiting(number).is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }));
        if let Some(report) = ended {
            self.running[number] = None;
            self.reports[number] = Some(report);
        }
    }

    /// What may happen next, in an order that depends on nothing else than what has happened.
    ///
    /// A process whose next request is indifferent to all others goes first and alone: every order of the
    /// others with it leads to the same states (a persistent set of one). Only if nothing else can happen to
    /// that process here, though, for faults are counted over all processes.
    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for process in 0..self.scenario.programs.len() {
            if self.goes_behind(process) {
                continue;
            }
            let of_process = self.choices_of(process);
            if of_process.len() == 1 && self.world.is_indifferent(process) {
                return of_process;
            }
            choices.extend(of_process);
        }
        choices.extend((0..self.world.late()).map(Choice::Arrive));
        choices
    }

    /// Processes with the same program differ in their numbers only: they get their second answers (the first
    /// are to listings) in the order of their numbers. What follows from another order follows from this one
    /// with the numbers exchanged.
    fn goes_behind(&self, process: usize) -> bool {
        let programs = &self.scenario.programs;
        let twin = process.checked_sub(1).filter(|before| programs[*before] == programs[process]);
        twin.is_some_and(|twin| self.world.answers(twin) < 2 && self.world.answers(process) == 1)
    }

    fn choices_of(&self, process: usize) -> Vec<Choice> {
        let Some(request) = self.world.waiting(process) else { return Vec::new() };
        let may_be_lost = self.lost > 0 && matches!(request, Request::Create(_));
        let mut choices = vec![Choice::Grant(process)];
        if may_be_lost {
            choices.push(Choice::Lose(process));
        }
        if self.stops > 0 && self.world.can_be_stopped(process) {
            choices.push(Choice::Stop { process, sent: false });
            if may_be_lost {
                choices.push(Choice::Stop { process, sent: true });
            }
        }
        choices
    }

    fn take(&mut self, choice: Choice) {
        let request = match choice {
            Choice::Grant(process) | Choice::Lose(process) | Choice::Stop { process, .. } => {
                self.world.waiting(process)
            }
            Choice::Arrive(_) => None,
        };
        self.trace.push(Step::Chosen(choice, request));
        match choice {
            Choice::Grant(process) => {
                self.world.grant(process);
                self.advance(process);
            }
            Choice::Lose(process) => {
                self.lost -= 1;
                self.world.lose(process);
                self.advance(process);
            }
            Choice::Stop { process, sent } => {
                self.lost -= usize::from(sent);
                self.stops -= 1;
                self.world.stop(process, sent);
                self.advance(process);
            }
            Choice::Arrive(which) => self.world.arrive(which),
        }
    }

    /// A fresh process, alone, must get through: seal a backup, or decide the run.
    fn rescue(&mut self, which: usize) -> Result<(), String> {
        let number = self.scenario.programs.len() + which;
        let program = self.scenario.rescues[which];
        self.trace.push(Step::Rescue(program));
        self.spawn(number, program);
        for _ in 0..LONGEST {
            if self.running[number].is_none() {
                break;
            }
            self.world.grant(number);
            self.advance(number);
        }
        match (program, self.reports[number]) {
            (Program::BackUp { .. }, Some(Report::Sealed { .. })) => Ok(()),
            (
                Program::Unlock,
                Some(Report::Void { .. } | Report::SealedElsewhere { .. } | Report::Nothing),
            ) => Ok(()),
            (_, report) => Err(format!("there is no way on for {program:?}: {report:?}")),
        }
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.world.digest(), &self.reports, self.lost, self.stops).hash(&mut hasher);
        hasher.finish()
    }
}

/// A decision on the way of an execution.
#[derive(Clone, Copy, Debug)]
struct Fork {
    /// Which way was taken, of how many.
    taken: usize,
    of: usize,
    /// The first ones are rescues.
    rescues: usize,
}

#[derive(Default)]
struct Explorer {
    /// The way of the next execution, up to its last fork.
    path: Vec<Fork>,
    visited: HashSet<u64>,
    /// States of the store and reports of which the invariants are known to hold.
    checked: HashSet<(u64, Vec<Option<Report>>)>,
    /// States of the store from which rescues were tried. Processes that stand still change nothing for them.
    rescued: HashSet<u64>,
    explored: Explored,
}

/// Explores every schedule of `scenario`, and checks the invariants in every state.
pub(crate) fn explore(scenario: &Scenario) -> Result<Explored, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut explorer = Explorer::default();
    loop {
        explorer.explored.executions += 1;
        let mut execution = Execution::start(scenario, &runtime);
        if let Err(what) = explorer.follow(&mut execution) {
            return Err(Violation { what, trace: execution.trace });
        }
        if !explorer.backtrack() {
            break;
        }
    }
    Ok(explorer.explored)
}

impl Explorer {
    /// Goes back to the deepest fork with an untried way, and takes it.
    fn backtrack(&mut self) -> bool {
        while self.path.last().is_some_and(|fork| fork.taken + 1 == fork.of) {
            self.path.pop();
        }
        self.path.last_mut().map(|fork| fork.taken += 1).is_some()
    }

    /// One execution: along the path, then always the first way, until a known state or the end.
    fn follow(&mut self, execution: &mut Execution<'_>) -> Result<(), String> {
        for depth in 0.. {
            let choices = execution.choices();
            if depth == self.path.len() {
                let rescues = match self.arrive(execution)? {
                    Some(rescues) if rescues + choices.len() > 0 => rescues,
                    _ => return Ok(()),
                };
                self.path.push(Fork { taken: 0, of: rescues + choices.len(), rescues });
            }
            let fork = self.path[depth];
            let repeats = fork.of == fork.rescues + choices.len();
            assert!(repeats, "an execution could not be repeated: {:#?}", execution.trace);
            match fork.taken.checked_sub(fork.rescues) {
                Some(way) => execution.take(choices[way]),
                None => {
                    execution.rescue(fork.taken)?;
                    return invariants::hold(&execution.world.objects(), &execution.reports);
                }
            }
        }
        Ok(())
    }

    /// The execution is where none has been by this path. Says how many rescues are due here, unless
    /// another path has led to the same state.
    fn arrive(&mut self, execution: &Execution<'_>) -> Result<Option<usize>, String> {
        if !self.visited.insert(execution.digest()) {
            return Ok(None);
        }
        self.explored.states += 1;
        let objects = execution.world.digest_of_objects();
        if self.checked.insert((objects, execution.reports.clone())) {
            invariants::hold(&execution.world.objects(), &execution.reports)?;
        }
        if execution.running.iter().all(Option::is_none) {
            self.explored.schedules += 1;
            self.explored.reports.extend(execution.reports.iter().flatten());
        }
        let new = self.rescued.insert(objects);
        Ok(Some(if new { execution.scenario.rescues.len() } else { 0 }))
    }
}
