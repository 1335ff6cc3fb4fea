//! Where the programs are that `./dev setup` installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of tools: `$VOUCHSAFE_TOOLS`, else `~/.cache/vouchsafe`, links resolved. The link matters: root's
/// home can't be entered by the user that servers run as, and `./dev` puts a link there.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let named = match (std::env::var_os("VOUCHSAFE_TOOLS"), std::env::var_os("HOME")) {
            (Some(folder), _) => PathBuf::from(folder),
            (None, Some(home)) => PathBuf::from(home).join(".cache/vouchsafe"),
            (None, None) => panic!("neither VOUCHSAFE_TOOLS nor HOME is set: set VOUCHSAFE_TOOLS"),
        };
        named.canonicalize().unwrap_or_else(|cause| {
            panic!("the folder of test tools {} can't be opened: {cause}; run ./dev setup", named.display())
        })
    })
}

/// A tool that `./dev setup` installed, by its path below the folder of tools, such as `minio/minio`.
///
/// # Panics
/// When it isn't there, naming it and the command that installs it.
#[must_use]
pub fn tool(path: &str) -> PathBuf {
    required(folder().join(path))
}

/// `path`, after a check that it is there.
///
/// # Panics
/// When it isn't, naming it and the command that installs it.
pub(crate) fn required(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "the test tool {} is missing: run ./dev setup", path.display());
    path
}

/// The user that servers run as when the tests are root's: PostgreSQL refuses to run as root.
#[derive(Clone, Copy)]
pub(crate) struct Unprivileged {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user `postgres` when this process is root; none when it isn't, and servers simply run as its own user.
pub(crate) fn unprivileged() -> Option<Unprivileged> {
    static USER: OnceLock<Option<Unprivileged>> = OnceLock::new();
    *USER.get_or_init(|| {
        rustix::process::geteuid().is_root().then(|| Unprivileged { uid: id("-u"), gid: id("-g") })
    })
}

fn id(flag: &str) -> u32 {
    let output = Command::new("id").args([flag, "postgres"]).output();
    output
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse().ok())
        .unwrap_or_else(|| panic!("there is no user `postgres` to run servers as: run ./dev setup"))
}

/// Gives `path` to the user that servers run as.
pub(crate) fn hand_over(path: &Path) {
    if let Some(user) = unprivileged() {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))
            .unwrap_or_else(|cause| panic!("can't give {} to the user postgres: {cause}", path.display()));
    }
}
