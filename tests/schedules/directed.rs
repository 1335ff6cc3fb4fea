//! Single schedules that have a name.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use vouchsafe::engine::EngineError;
use vouchsafe::engine::register::{Claimed, Register, Turn};
use vouchsafe::format::{Decision, Key, RunKind, Sha256Digest};

use super::process::{Process, Program, plan_of};
use super::world::{Creates, Listings, Manners, World};

/// Lets one process alone run to its end.
fn alone<T>(world: &World, process: usize, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(poll_fn(|context| {
        loop {
            match work.as_mut().poll(context) {
                Poll::Ready(done) => return Poll::Ready(done),
                Poll::Pending if world.waiting(process).is_some() => world.grant(process),
                Poll::Pending => return Poll::Pending,
            }
        }
    }))
}

fn world() -> Arc<World> {
    World::new(Manners { creates: Creates::Once, listings: Listings::Claims }, 2)
}

fn register(world: &Arc<World>, number: usize) -> Register {
    let (world, program) = (Arc::clone(world), Program::Unlock);
    Process { number, program, world, retries: false }.register()
}

/// Claims the next run or takes the next turn at the open one.
async fn take(register: &Register, number: usize) -> Turn {
    let plan = plan_of(number);
    match register.claim("owner", RunKind::Backup, Sha256Digest::of(b""), plan).await.expect("a claim") {
        Claimed::New(turn) => turn,
        Claimed::Open(open) => {
            register.take_turn(open, plan, false, "a test".into()).await.expect("the next turn")
        }
    }
}

fn sealed(turn: &Turn) -> Decision {
    Decision::Sealed { plan: turn.plan, manifest: Sha256Digest::of(b""), verdicts: Vec::new() }
}

#[test]
fn a_zombie_that_fails_after_the_takeover_changes_nothing() {
    let world = world();
    let (zombie, successor) = (register(&world, 0), register(&world, 1));
    let slept = alone(&world, 0, take(&zombie, 0));
    let awake = alone(&world, 1, take(&successor, 1));
    assert_eq!((slept.run, slept.attempt, awake.run, awake.attempt), (1, 1, 1, 2));
    let before = world.objects();
    let failed = alone(&world, 0, zombie.abandon(&slept, "DeadlineExceeded", "it slept".into()));
    assert!(matches!(failed, Err(EngineError::LostTurn { run: 1, attempt: 1 })), "{failed:?}");
    assert_eq!(world.objects(), before, "the zombie has written something");
    let decided = alone(&world, 1, successor.decide(&awake, sealed(&awake))).expect("the successor's seal");
    assert!(decided.ours);
}

#[test]
fn an_attempt_that_voids_after_its_own_seal_adopts_the_seal() {
    let world = world();
    let register = register(&world, 0);
    let turn = alone(&world, 0, take(&register, 0));
    let first = alone(&world, 0, register.decide(&turn, sealed(&turn))).expect("the seal");
    // As after a deadline that passed before the answer came. `abandon` would look first; the answer may
    // still be on its way then.
    let void = Decision::Void { reason: "DeadlineExceeded".into(), message: String::new() };
    let second = alone(&world, 0, register.decide(&turn, void)).expect("what was found is adopted");
    assert_eq!((second.outcome, second.sha256), (first.outcome, first.sha256));
    assert!(second.ours, "it decided, if otherwise than it remembers");
}

#[test]
fn a_claim_without_an_attempt_is_gone_on_with() {
    let world = world();
    let (dies, comes_after) = (register(&world, 0), register(&world, 1));
    // It dies between its claim and its first attempt.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut claim = Box::pin(take(&dies, 0));
    runtime.block_on(poll_fn(|context| {
        loop {
            assert!(claim.as_mut().poll(context).is_pending(), "it should have died before it had a turn");
            if world.objects().contains_key(&Key::run(1)) {
                return Poll::Ready(());
            }
            world.grant(0);
        }
    }));
    drop(claim);
    let turn = alone(&world, 1, take(&comes_after, 1));
    assert_eq!((turn.run, turn.attempt), (1, 1));
    assert!(alone(&world, 1, comes_after.decide(&turn, sealed(&turn))).expect("the seal").ours);
}
