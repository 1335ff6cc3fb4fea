//! This process's identity, and whether another process of the same machine still runs.

use crate::format::ProcessIdentity;

/// What identifies this process: see [`ProcessIdentity`].
pub(crate) fn identity() -> ProcessIdentity {
    let pid = std::process::id();
    ProcessIdentity {
        space: space(),
        pid,
        started_ticks: started_ticks(pid).unwrap_or_default(),
        host: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
    }
}

/// Whether `process` runs, if this process can tell: only in the same process-id namespace of the same boot.
pub(crate) fn is_alive(process: &ProcessIdentity) -> Option<bool> {
    let here = space();
    if here.is_empty() || here != process.space || process.started_ticks == 0 {
        return None;
    }
    Some(started_ticks(process.pid) == Some(process.started_ticks))
}

/// Boot and process-id namespace. A debug build takes another one from `VOUCHSAFE_PROCESS_SPACE`: tests of leases
/// must not see each other's processes.
fn space() -> String {
    if cfg!(debug_assertions)
        && let Ok(space) = std::env::var("VOUCHSAFE_PROCESS_SPACE")
    {
        return space;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if boot.is_empty() || namespace.as_os_str().is_empty() {
        return String::new();
    }
    format!("{} {}", boot.trim(), namespace.display())
}

/// Field 22 of `/proc/<pid>/stat` (proc(5)); the command in field 2 may hold spaces and parentheses. A
/// zombie (state `Z`) runs no more.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_a_child_that_ended_does_not() {
        let me = identity();
        assert_eq!(is_alive(&me), Some(true));
        assert_eq!(
            is_alive(&ProcessIdentity { started_ticks: me.started_ticks + 1, ..me.clone() }),
            Some(false)
        );
        assert_eq!(is_alive(&ProcessIdentity { space: "elsewhere".into(), ..me }), None);
    }
}
