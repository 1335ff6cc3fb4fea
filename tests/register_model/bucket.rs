//! What lies in the store: create-once registers, and the objects of plans.

use std::hash::{Hash, Hasher};

/// A process's life. It stands for everything random that this life draws, because all of it is unique by
/// assumption: its nonce in claims, attempts and outcomes, the id of the plan that it makes, and the nonce of
/// the question that it asks.
pub(crate) type Id = u8;

/// Lives in one model: three coordinators that may be started twice, an operator, and one in reserve.
pub(crate) const IDS: usize = 8;

/// Runs of the collection: the second one shows the order between runs.
pub(crate) const RUNS: usize = 2;

/// Objects of a plan: its plan document and one span. All of them are there, or the plan is not settled.
pub(crate) const OBJECTS: u8 = 2;
const ALL_OBJECTS: u8 = (1 << OBJECTS) - 1;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// The plan, its manifest (named by who wrote it) and the verdict (named by the question it answers).
    Sealed {
        plan: Id,
        manifest: Id,
        verdict: Id,
    },
    Void,
}

/// `outcome.json`. Two outcomes with equal content are the same object: `by` tells all others apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outcome {
    pub(crate) decision: Decision,
    pub(crate) by: Id,
}

/// `run.json`. `previous` is the digest of the outcome before it; here, its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) by: Id,
    pub(crate) owner: u8,
    pub(crate) previous: Option<Outcome>,
}

/// `attempts/<k>.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) by: Id,
    pub(crate) plan: Id,
}

/// Everything of one run that does not belong to a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) claim: Option<Claim>,
    pub(crate) attempts: [Option<Attempt>; IDS],
    pub(crate) outcome: Option<Outcome>,
    /// What the register ever held: a later overwrite can't hide it.
    pub(crate) ever_sealed: bool,
    pub(crate) ever_void: bool,
}

impl Run {
    /// How many attempts there are, as a reader counts them: up to the first that is missing.
    pub(crate) fn attempts(&self) -> u8 {
        self.attempts.iter().take_while(|attempt| attempt.is_some()).count() as u8
    }
}

// Most of a bucket is empty, and the exploration spends its time in hashing: only what is there is hashed.
impl Hash for Run {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.claim, self.outcome, self.ever_sealed, self.ever_void).hash(state);
        for (number, attempt) in self.attempts.iter().enumerate().filter(|(_, attempt)| attempt.is_some()) {
            (number as u8, attempt).hash(state);
        }
    }
}

impl Hash for Bucket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.runs, self.overwritten).hash(state);
        for (id, plan) in self.plans.iter().enumerate().filter(|(_, plan)| **plan != Plan::default()) {
            (id as u8, plan).hash(state);
        }
    }
}

/// Everything that lies under one plan id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// One bit for each object that is there.
    pub(crate) objects: u8,
    pub(crate) manifest: Option<Id>,
    /// Questions to verifiers, their verdicts "all of it is there", and their verdicts "it is not".
    pub(crate) asked: u8,
    pub(crate) proven: u8,
    pub(crate) refused: u8,
}

impl Plan {
    pub(crate) fn is_whole(&self) -> bool {
        self.objects == ALL_OBJECTS
    }
}

/// A conditional create, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Run(u8),
    Attempt(u8, u8),
    Object(Id, u8),
    Manifest(Id),
    Verdict(Id, Id),
    Outcome(u8),
}

/// What a create would store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    Claim(Claim),
    Attempt(Attempt),
    /// An object of a plan: its name is random, so nobody else writes it.
    Object,
    Manifest(Id),
    Verdict {
        proven: bool,
    },
    Outcome(Outcome),
}

/// A request to create `content` under `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Put {
    pub(crate) key: Key,
    pub(crate) content: Content,
}

/// The whole bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) runs: [Run; RUNS],
    pub(crate) plans: [Plan; IDS],
    /// A name has got other content than it had.
    pub(crate) overwritten: bool,
}

impl Bucket {
    /// Run `number`, counted from 1.
    pub(crate) fn run(&self, number: u8) -> &Run {
        &self.runs[usize::from(number) - 1]
    }

    pub(crate) fn plan(&self, plan: Id) -> &Plan {
        &self.plans[usize::from(plan)]
    }

    /// The newest run that is claimed, 0 if there is none.
    pub(crate) fn newest(&self) -> u8 {
        self.runs.iter().take_while(|run| run.claim.is_some()).count() as u8
    }

    /// What lies under `key`.
    pub(crate) fn content(&self, key: Key) -> Option<Content> {
        match key {
            Key::Run(run) => self.run(run).claim.map(Content::Claim),
            Key::Attempt(run, attempt) => {
                self.run(run).attempts[usize::from(attempt) - 1].map(Content::Attempt)
            }
            Key::Object(plan, which) => {
                (self.plan(plan).objects & (1 << which) != 0).then_some(Content::Object)
            }
            Key::Manifest(plan) => self.plan(plan).manifest.map(Content::Manifest),
            Key::Verdict(plan, question) => {
                let (plan, bit) = (self.plan(plan), 1 << question);
                let proven = plan.proven & bit != 0;
                (proven || plan.refused & bit != 0).then_some(Content::Verdict { proven })
            }
            Key::Outcome(run) => self.run(run).outcome.map(Content::Outcome),
        }
    }

    /// Puts `put` in place whatever lies there, which only a broken protocol does to a name that is taken.
    pub(crate) fn write(&mut self, put: Put) {
        self.overwritten |= self.content(put.key).is_some_and(|found| found != put.content);
        match (put.key, put.content) {
            (Key::Run(run), Content::Claim(claim)) => self.run_mut(run).claim = Some(claim),
            (Key::Attempt(run, attempt), Content::Attempt(content)) => {
                self.run_mut(run).attempts[usize::from(attempt) - 1] = Some(content);
            }
            (Key::Object(plan, which), Content::Object) => self.plan_mut(plan).objects |= 1 << which,
            (Key::Manifest(plan), Content::Manifest(by)) => self.plan_mut(plan).manifest = Some(by),
            (Key::Verdict(plan, question), Content::Verdict { proven: true }) => {
                self.plan_mut(plan).proven |= 1 << question;
            }
            (Key::Verdict(plan, question), Content::Verdict { proven: false }) => {
                self.plan_mut(plan).refused |= 1 << question;
            }
            (Key::Outcome(run), Content::Outcome(outcome)) => {
                let run = self.run_mut(run);
                run.outcome = Some(outcome);
                match outcome.decision {
                    Decision::Sealed { .. } => run.ever_sealed = true,
                    Decision::Void => run.ever_void = true,
                }
            }
            (key, content) => unreachable!("{content:?} under {key:?}"),
        }
    }

    /// Whether anything of `plan` may be deleted: its run is decided, and not for this plan.
    pub(crate) fn is_refuse(&self, plan: Id) -> bool {
        self.runs.iter().any(|run| {
            let made_here = run.attempts.iter().flatten().any(|attempt| attempt.plan == plan);
            let kept = |outcome: Outcome| matches!(outcome.decision, Decision::Sealed { plan: it, .. } if it == plan);
            made_here && run.outcome.is_some_and(|outcome| !kept(outcome))
        })
    }

    pub(crate) fn run_mut(&mut self, number: u8) -> &mut Run {
        &mut self.runs[usize::from(number) - 1]
    }

    pub(crate) fn plan_mut(&mut self, plan: Id) -> &mut Plan {
        &mut self.plans[usize::from(plan)]
    }
}
