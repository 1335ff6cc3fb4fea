//! One folder per test process for all that its servers write, removed when the process is gone.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "vouchsafe-testbed-";

/// A file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";

/// Lists files elsewhere that are to be removed, one a line.
const LEFTOVERS: &str = "leftovers";

/// The process's folder, and the process that removes it.
struct Scratch {
    folder: PathBuf,
    _janitor: Child,
}

/// Makes a new folder `<stem>-<n>` for one server.
pub(crate) fn new_folder(stem: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let folder = root().join(format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    make(&folder);
    folder
}

/// The same in memory.
pub(crate) fn new_folder_in_memory(stem: &str) -> PathBuf {
    let folder = Path::new(MEMORY).join(format!("{PREFIX}{}-{stem}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    make(&folder);
    remove_later(&folder);
    folder
}

/// Has a file or folder elsewhere removed too when the process is gone.
pub(crate) fn remove_later(file: &Path) {
    let list = root().join(LEFTOVERS);
    File::options()
        .create(true)
        .append(true)
        .open(&list)
        .and_then(|mut list| writeln!(list, "{}", file.display()))
        .unwrap_or_else(|cause| panic!("can't write {}: {cause}", list.display()));
}

fn root() -> &'static Path {
    static SCRATCH: OnceLock<Scratch> = OnceLock::new();
    let scratch = SCRATCH.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        remove_leftovers();
        // A process id comes round again: what is there is of a process that is no more.
        let _ = std::fs::remove_dir_all(&folder);
        make(&folder);
        let janitor = janitor(&folder);
        Scratch { folder, _janitor: janitor }
    });
    &scratch.folder
}

fn make(folder: &Path) {
    std::fs::create_dir(folder)
        .unwrap_or_else(|cause| panic!("can't make the servers' folder {}: {cause}", folder.display()));
}

/// Statics are never dropped and a killed process drops nothing, so the folder is removed by a child whose
/// standard input ends when this process does. Servers are signalled at the same moment and may still be
/// writing: it tries until the folder stays away, for at most ten seconds. It must outlive a Ctrl-C.
fn janitor(folder: &Path) -> Child {
    let script = r#"trap '' INT TERM HUP
        cat >/dev/null
        while read -r file; do rm -rf "$file"; done < "$1/$2"
        n=0
        while [ $n -lt 50 ]; do rm -rf "$1"; sleep 0.2; [ -e "$1" ] || exit 0; n=$((n+1)); done"#;
    Command::new("sh")
        .args(["-c", script, "janitor"])
        .arg(folder)
        .arg(LEFTOVERS)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|cause| panic!("can't start sh to clean up {} later: {cause}", folder.display()))
}

/// Removes the folders of test processes that were killed together with their janitors. Failing here fails no
/// test: the folder may be another user's.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
