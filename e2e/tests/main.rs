//! Vouchsafe's image on a real Kubernetes cluster. Run by `./dev e2e`, or with everything else by `./dev test`.

mod backup;
mod deleted;
mod gitops;
mod gone;
mod ground;
mod halted;
mod installed;
mod killed;
mod lies;
#[path = "../../tests/engine/receiver.rs"]
mod receiver;
mod secrets;
