//! The engine on real PostgreSQL servers and real stores: a backup that is proven, and what must not be.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]
#![allow(unreachable_pub, reason = "shared by the modules of this test")]

mod engine {
    mod asked;
    mod bad_input;
    mod bad_source;
    #[path = "../target/compare.rs"]
    mod compare;
    mod copied;
    mod damage;
    mod damaging;
    mod difference;
    mod extensions;
    mod forged;
    mod frames;
    mod gaps;
    mod given_up;
    mod kill;
    mod kill_s3;
    mod mutants;
    mod page;
    mod places;
    mod prune;
    mod prune_owned;
    mod prune_pod;
    mod prune_store;
    mod receiver;
    mod replanned;
    mod role_names;
    mod round;
    mod said;
    mod sequences;
    mod setup;
    mod shop;
    mod signals;
    mod source_faults;
    mod strict;
    mod traces;
    mod versions;
    mod written;
    mod zombie;
    mod zoo;
}
