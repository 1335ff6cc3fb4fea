//! What a process goes on without: it says so in its log, and a test must not miss it.

use rustix::process::{Pid, Signal, kill_process};

use super::shop::{Shop, end};
use super::zombie::stopped_at;

/// Something lies where its first sign of life should be written.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_may_be_dropped_ends_a_strict_process_alone() {
    for strict in [false, true] {
        let shop = Shop::open("strict");
        let mut backup = shop.backup();
        if !strict {
            backup.env_remove("VOUCHSAFE_STRICT");
        }
        let stopped = stopped_at("creating beat", backup);
        let beat = shop.here.path().join("runs/00000001/beats/000001-0000000001.json");
        std::fs::create_dir_all(beat).unwrap();
        kill_process(Pid::from_raw(i32::try_from(stopped.id()).unwrap()).unwrap(), Signal::CONT).unwrap();
        let ended = end(stopped);
        let panicked = ended.stderr.contains("panicked") && ended.stderr.contains("a missed heartbeat");
        assert_eq!((ended.code, panicked), (Some(i32::from(strict)), strict), "{ended:?}");
    }
}
