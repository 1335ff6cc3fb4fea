//! The commands against a cluster, run as users run them, against a real API server. It has no nodes and no
//! controller: what a controller would write into statuses, the tests write.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]

mod changing;
mod fixture;
mod following;
mod looking;
mod pruning;
mod refused;
mod restoring;
