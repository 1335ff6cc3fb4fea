//! The advisories as sweeps: every request of a small backup or restore × every fault, on real servers. Each case
//! ends proven and equal to the source, or failed by name with nothing left that could be taken for a success. And the
//! controller, stopped at each of its writes: what is left is what it leaves undisturbed.
//!
//! `VOUCHSAFE_SWEEP` says how much: a seeded sample that covers every kind of request × every fault (unset), or
//! `whole`, or one of n pieces of the whole (`whole 2/8`), or one case by its name, as failures print it.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]
#![allow(unreachable_pub, reason = "shared by the modules of this test")]

mod sweep {
    mod backup;
    mod cases;
    mod crashes;
    mod fault;
    mod judge;
    mod kind;
    mod restore;
    mod rig;
    mod server;
    mod table;
    mod target;
    mod world;
}
