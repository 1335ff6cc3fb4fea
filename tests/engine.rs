//! The engine on real PostgreSQL servers and real stores: a backup that is proven, and what must not be.

// Helpers of tests fail by panicking, as tests do; clippy.toml allows it only inside test functions.
#![allow(clippy::unwrap_used)]

mod engine {
    mod damage;
    mod kill;
    mod mutants;
    mod round;
    mod setup;
    mod shop;
}
