//! Vouchsafe's image on a real Kubernetes cluster. Run by `./dev e2e`, or with everything else by `./dev test`.

mod backup;
mod gitops;
mod ground;
mod halted;
mod installed;
mod killed;
mod lies;
mod named;
mod retention;
mod secrets;
mod upgraded;
