//! The engine on real PostgreSQL servers and real stores: a backup that is proven, and what must not be.

mod engine {
    mod round;
    mod setup;
}
