//! The ground under the end-to-end tests: a real Kubernetes cluster, the image that users build, and servers on
//! this machine that pods reach.
//!
//! [`cluster`] is what a test asks for. All tests of a process share it: it is started on first use and ends with
//! the process. Where it can't be had, every test fails and says why; none is skipped.
//!
//! [`Cluster::namespace`] keeps tests apart, [`Cluster::alone`] is for those that pull cables. Waiting is by
//! watching, with a limit, and what was seen last is in the failure.

mod cluster;
mod controller;
mod image;
mod job;
mod namespace;
mod program;
mod provider;
mod release;
mod shop;
mod wait;

pub use cluster::{Alone, Cluster, cluster};
pub use controller::Controller;
pub use image::vouchsafe;
pub use job::{Ended, Job};
pub use namespace::Namespace;
pub use release::{Release, Turn, turn_to_install};
pub use shop::{Place, Shop};
pub use wait::{until, wait_until};
