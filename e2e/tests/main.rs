//! Vouchsafe's image on a real Kubernetes cluster. Run by `./dev e2e`, or with everything else by `./dev test`.

mod backup;
mod cut;
mod deleted;
mod gitops;
mod gone;
mod ground;
mod halted;
mod installed;
mod killed;
mod leaders;
mod lies;
mod named;
#[path = "../../tests/engine/receiver.rs"]
mod receiver;
mod refused;
mod restores;
mod retention;
mod secrets;
mod upgraded;
