//! One process's steps: each is one request to the store, as `engine::register` and the coordinator make it.

use super::bucket::{Attempt, Bucket, Claim, Content, Decision, Id, Key, OBJECTS, Outcome, Put, RUNS};
use super::model::{Beliefs, Variant};

/// An attempt that a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Turn {
    pub(crate) run: u8,
    pub(crate) attempt: u8,
    pub(crate) plan: Id,
}

/// What a process does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// Finds the newest run.
    Newest,
    /// Reads whether the newest run is decided.
    IsDecided { newest: u8 },
    /// Creates `run.json`.
    Claim { run: u8, previous: Option<Outcome> },
    /// Reads the claim and the attempts of an open run.
    Attempts { run: u8 },
    /// Watches for a sign of life.
    Watch { run: u8, attempts: u8, last: Option<Id> },
    /// Reads whether the last attempt's plan is settled and can be carried on.
    Carry { run: u8, attempts: u8, plan: Id },
    /// Creates `attempts/<k>.json`.
    Take { turn: Turn },
    /// Creates an object of the plan.
    Object { turn: Turn, which: u8 },
    /// Creates the manifest; every object's create is acknowledged.
    Manifest { turn: Turn },
    /// Waits for the verdict on its question.
    Verdict { turn: Turn, manifest: Id },
    /// Compares everything once more.
    Compare { turn: Turn, manifest: Id },
    /// Reads that the run is still undecided.
    StillOpen { turn: Turn, manifest: Id },
    /// Reads that no newer attempt exists.
    StillNewest { turn: Turn, manifest: Id },
    /// Reads, before it voids, that the run is still its own to end: undecided, and no newer attempt.
    MayVoid { turn: Turn },
    /// Creates the outcome.
    Decide { run: u8, decision: Decision, turn: Option<Turn> },
    /// Reads the outcome back, whatever the create said.
    ReadBack { run: u8, turn: bool },
    /// Has ended and says so, or is about to be started.
    Ended,
}

/// Who a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Makes backups for an owner. Finding a dead run of another owner, it stops, or voids it and goes on.
    Coordinator { owner: u8, voids: bool },
    /// A person's `unlock`: voids the open run.
    Operator,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) id: Id,
    pub(crate) role: Role,
    pub(crate) at: At,
    /// How often it may still be killed and started again.
    pub(crate) restarts: u8,
}

impl Process {
    pub(crate) fn new(id: Id, role: Role, restarts: u8) -> Self {
        Self { id, role, at: At::Newest, restarts }
    }

    /// The create that its next step sends, if it is one.
    pub(crate) fn put(&self) -> Option<Put> {
        let (key, content) = match self.at {
            At::Claim { run, previous } => {
                let Role::Coordinator { owner, .. } = self.role else { return None };
                (Key::Run(run), Content::Claim(Claim { by: self.id, owner, previous }))
            }
            At::Take { turn } => {
                let attempt = Attempt { by: self.id, plan: turn.plan };
                (Key::Attempt(turn.run, turn.attempt), Content::Attempt(attempt))
            }
            At::Object { turn, which } => (Key::Object(turn.plan, which), Content::Object),
            At::Manifest { turn } => (Key::Manifest(turn.plan), Content::Manifest(self.id)),
            At::Decide { run, decision, .. } => {
                (Key::Outcome(run), Content::Outcome(Outcome { decision, by: self.id }))
            }
            _ => return None,
        };
        Some(Put { key, content })
    }

    /// The turn that it holds before it has begun to decide.
    pub(crate) fn turn(&self) -> Option<Turn> {
        match self.at {
            At::Object { turn, .. }
            | At::Manifest { turn }
            | At::Verdict { turn, .. }
            | At::Compare { turn, .. }
            | At::StillOpen { turn, .. }
            | At::StillNewest { turn, .. }
            | At::MayVoid { turn } => Some(turn),
            _ => None,
        }
    }

    /// Whether the next step has to wait: for a verdict that is not there yet.
    pub(crate) fn waits(&self, bucket: &Bucket) -> bool {
        let At::Verdict { turn, .. } = self.at else { return false };
        bucket.content(Key::Verdict(turn.plan, self.id)).is_none()
    }

    /// Gives up and wants the run void: an error, a signal, the deadline. Without a turn it just ends.
    pub(crate) fn fail(&mut self, beliefs: &mut Beliefs, variant: Variant) {
        if let At::Decide { run, decision: Decision::Sealed { .. }, .. } = self.at
            && variant == Variant::NoAnswerMeansFailed
        {
            beliefs.read(run, self.id, Outcome { decision: Decision::Void, by: self.id });
            self.at = At::Ended;
            return;
        }
        self.at = match (self.at, self.turn()) {
            (_, Some(turn)) => failed(turn, variant),
            // Failed is published only after Void has won: how the seal ended is not known.
            (At::Decide { decision: Decision::Sealed { .. }, turn: Some(turn), .. }, None) => {
                failed(turn, variant)
            }
            (_, None) => At::Ended,
        };
    }

    /// One step whose answer arrives.
    pub(crate) fn step(&mut self, bucket: &mut Bucket, beliefs: &mut Beliefs, variant: Variant) {
        self.at = match self.at {
            At::Newest => match bucket.newest() {
                0 => self.claim_or_end(1, None),
                newest => At::IsDecided { newest },
            },
            At::IsDecided { newest } => match (bucket.run(newest).outcome, self.role) {
                (Some(outcome), _) => self.claim_or_end(newest + 1, Some(outcome)),
                (None, Role::Operator) => self.void(newest),
                (None, _) if variant == Variant::ClaimsBeforeTheOutcome => {
                    self.claim_or_end(newest + 1, None)
                }
                (None, _) => At::Attempts { run: newest },
            },
            At::Attempts { run } => {
                let (attempts, found) = (bucket.run(run).attempts(), bucket.run(run).attempts);
                let last = attempts.checked_sub(1).and_then(|last| found[usize::from(last)]);
                At::Watch { run, attempts, last: last.map(|attempt| attempt.plan) }
            }
            At::Watch { run, attempts, last } => self.found_dead(bucket, variant, run, attempts, last),
            At::Carry { run, attempts, plan } => {
                let plan = if bucket.plan(plan).is_whole() { plan } else { self.id };
                At::Take { turn: Turn { run, attempt: attempts + 1, plan } }
            }
            At::Verdict { turn, manifest } => {
                if bucket.plan(turn.plan).proven & (1 << self.id) != 0 {
                    At::Compare { turn, manifest }
                } else {
                    failed(turn, variant)
                }
            }
            At::Compare { turn, manifest } => {
                let plan = bucket.plan(turn.plan);
                if plan.is_whole() && plan.manifest == Some(manifest) {
                    At::StillOpen { turn, manifest }
                } else {
                    failed(turn, variant)
                }
            }
            At::StillOpen { turn, manifest } => match bucket.run(turn.run).outcome {
                Some(found) => {
                    beliefs.read(turn.run, self.id, found);
                    At::Ended
                }
                None => At::StillNewest { turn, manifest },
            },
            At::StillNewest { turn, manifest } => {
                let newer = bucket.run(turn.run).attempts() > turn.attempt;
                if newer && variant != Variant::LooksForNoNewerAttempt {
                    At::Ended
                } else {
                    let decision = Decision::Sealed { plan: turn.plan, manifest, verdict: self.id };
                    At::Decide { run: turn.run, decision, turn: Some(turn) }
                }
            }
            At::MayVoid { turn } => match bucket.run(turn.run).outcome {
                Some(found) => {
                    beliefs.read(turn.run, self.id, found);
                    At::Ended
                }
                None if bucket.run(turn.run).attempts() > turn.attempt => At::Ended,
                None => At::Decide { run: turn.run, decision: Decision::Void, turn: Some(turn) },
            },
            At::ReadBack { run, turn } => {
                // The outcome is there: it was created, or a create met it.
                let found = bucket.run(run).outcome;
                if let Some(found) = found {
                    beliefs.read(run, self.id, found);
                }
                self.after_deciding(turn)
            }
            At::Claim { .. }
            | At::Take { .. }
            | At::Object { .. }
            | At::Manifest { .. }
            | At::Decide { .. } => {
                return self.create(bucket, beliefs, variant);
            }
            At::Ended => At::Ended,
        };
    }

    fn claim_or_end(&self, run: u8, previous: Option<Outcome>) -> At {
        // The bound on runs; an operator has nothing to do where no run is open.
        if usize::from(run) > RUNS || self.role == Role::Operator {
            At::Ended
        } else {
            At::Claim { run, previous }
        }
    }

    fn void(&self, run: u8) -> At {
        At::Decide { run, decision: Decision::Void, turn: None }
    }

    /// No sign of life was seen. It may be wrong: whoever is watched may be merely slow.
    fn found_dead(&self, bucket: &Bucket, variant: Variant, run: u8, attempts: u8, last: Option<Id>) -> At {
        let Role::Coordinator { owner, voids } = self.role else { return At::Ended };
        if variant == Variant::WaitsForAFirstAttempt && attempts == 0 {
            return At::Ended;
        }
        if bucket.run(run).claim.is_none_or(|claim| claim.owner != owner) {
            return if voids { self.void(run) } else { At::Ended };
        }
        match last {
            Some(plan) => At::Carry { run, attempts, plan },
            None => At::Take { turn: Turn { run, attempt: 1, plan: self.id } },
        }
    }

    /// After a decision without a turn a coordinator looks for its own run again.
    fn after_deciding(&self, turn: bool) -> At {
        match self.role {
            Role::Coordinator { .. } if !turn => At::Newest,
            _ => At::Ended,
        }
    }

    /// The create of this step, answered. One's own object under the name, after a create whose answer was
    /// lost, is a success: it is told by its content.
    fn create(&mut self, bucket: &mut Bucket, beliefs: &mut Beliefs, variant: Variant) {
        let Some(put) = self.put() else { return };
        let found = bucket.content(put.key);
        let unconditional = variant == Variant::OverwritesTheOutcome && matches!(put.key, Key::Outcome(_));
        if found.is_none() || unconditional {
            bucket.write(put);
        }
        let mistaken =
            variant == Variant::TakesItsOwnForAnothers && matches!(put.key, Key::Run(_) | Key::Attempt(..));
        let conflict = found.is_some_and(|found| found != put.content || mistaken);
        self.at = match self.at {
            At::Claim { .. } if conflict => At::Newest,
            At::Claim { run, .. } => At::Take { turn: Turn { run, attempt: 1, plan: self.id } },
            At::Take { .. } if conflict => At::Ended,
            At::Take { turn } => self.took(bucket, variant, turn),
            At::Object { turn, which } if which + 1 < OBJECTS => At::Object { turn, which: which + 1 },
            At::Object { turn, .. } => At::Manifest { turn },
            At::Manifest { turn } => {
                // A manifest found under a plan that is carried on is adopted: verifiers are asked about it.
                let manifest = match found {
                    Some(Content::Manifest(by)) => by,
                    _ => self.id,
                };
                if variant == Variant::SealsBeforeTheVerdict {
                    At::Compare { turn, manifest }
                } else {
                    bucket.plan_mut(turn.plan).asked |= 1 << self.id;
                    At::Verdict { turn, manifest }
                }
            }
            At::Decide { run, decision, turn } if conflict && variant == Variant::ConflictMeansMine => {
                beliefs.read(run, self.id, Outcome { decision, by: self.id });
                self.after_deciding(turn.is_some())
            }
            At::Decide { run, turn, .. } => At::ReadBack { run, turn: turn.is_some() },
            at => at,
        };
    }

    fn took(&self, bucket: &mut Bucket, variant: Variant, turn: Turn) -> At {
        if turn.plan != self.id {
            return At::Manifest { turn };
        }
        if variant == Variant::DeletesBeforeTheOutcome {
            let earlier = bucket.run(turn.run).attempts;
            for attempt in earlier.iter().flatten().filter(|attempt| attempt.plan != turn.plan) {
                bucket.plan_mut(attempt.plan).objects = 0;
            }
        }
        At::Object { turn, which: 0 }
    }
}

/// Holds a turn and wants its run void.
fn failed(turn: Turn, variant: Variant) -> At {
    if variant == Variant::VoidsWithoutLooking {
        At::Decide { run: turn.run, decision: Decision::Void, turn: Some(turn) }
    } else {
        At::MayVoid { turn }
    }
}
