//! Data folders made once and copied for each server: initdb takes seconds, a copy a tenth of one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::postgres::{PASSWORD, PgVersion};
use crate::spawn::{As, tethered};
use crate::{scratch, tools};

/// Makes `data` a fresh data folder of `version`, as initdb with `arguments` would.
pub(crate) fn copy_to(data: &Path, version: PgVersion, arguments: &[String]) {
    let template = template(version, arguments);
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(data));
}

fn template(version: PgVersion, arguments: &[String]) -> PathBuf {
    let mut key = DefaultHasher::new();
    // The whole version, because a new minor may initialise differently.
    (output(Command::new(version.server_program("postgres")).arg("--version")), arguments, PASSWORD)
        .hash(&mut key);
    let templates = tools::folder().join("templates");
    let template = templates.join(format!("{version}-{:016x}", key.finish()));
    if template.exists() {
        return template;
    }
    let work = scratch::new_folder("initdb");
    tools::hand_over(&work);
    let password = work.join("password");
    std::fs::write(&password, PASSWORD)
        .unwrap_or_else(|cause| panic!("can't write {}: {cause}", password.display()));
    let data = work.join("data");
    let program = version.server_program("initdb");
    run(tethered(&program, As::Postgres, "KILL")
        .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256"])
        .arg(format!("--pwfile={}", password.display()))
        .arg("-D")
        .arg(&data)
        .args(arguments)
        .env_remove("LC_ALL"));
    // Other test processes may be doing the same: each prepares a copy of its own beside the goal, and the
    // first rename wins. Theirs is as good as ours.
    let ready = templates.join(format!("unfinished-{}-{version}-{:016x}", std::process::id(), key.finish()));
    std::fs::create_dir_all(&templates)
        .unwrap_or_else(|cause| panic!("can't make {}: {cause}", templates.display()));
    run(Command::new("cp").arg("-a").arg(&data).arg(&ready));
    if std::fs::rename(&ready, &template).is_err() {
        assert!(template.exists(), "can't put the data folder {} in place", template.display());
        let _ = std::fs::remove_dir_all(&ready);
    }
    template
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) {
    let _ = output(command);
}

/// Runs a program that must succeed, and returns what it wrote.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|cause| panic!("can't run {command:?}: {cause}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
