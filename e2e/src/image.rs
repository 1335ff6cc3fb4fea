//! The image that users build, made of the program that cargo built beside these tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::program::{run, script};

/// Its name on the nodes.
pub(crate) const NAME: &str = "localhost/vouchsafe:e2e";

/// The program `vouchsafe`, as `cargo test --workspace` builds it.
///
/// # Errors
/// When it is missing, or older than what it is made of: a test of yesterday's program proves nothing.
pub fn vouchsafe() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this test's program lies is not known")?;
    let folder =
        own.parent().and_then(Path::parent).context("this test's program lies in no target folder")?;
    let binary = folder.join("vouchsafe");
    let again = "run `cargo test --workspace`, or ./dev e2e";
    let built = modified(&binary).with_context(|| format!("the program is missing: {again}"))?;
    // Cargo's own list of sources, as make would read it: `program: source source`.
    let list = folder.join("vouchsafe.d");
    let list = std::fs::read_to_string(&list)
        .with_context(|| format!("{} can't be read: {again}", list.display()))?;
    for source in list.split_whitespace().skip(1) {
        ensure!(
            modified(Path::new(source)).is_ok_and(|changed| changed <= built),
            "{} is older than {source}: {again}",
            binary.display()
        );
    }
    Ok(binary)
}

/// An archive of the image with that program; what was made before is taken if nothing has changed since.
pub(crate) fn archive() -> Result<PathBuf> {
    let binary = vouchsafe()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("target/image");
    std::fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let archive = folder.join("vouchsafe.tar");
    let made_of = [binary.clone(), root.join("Dockerfile"), root.join(".dockerignore"), script("image")];
    let made_of = made_of.iter().map(|file| modified(file)).collect::<Result<Vec<_>>>()?;
    let made = modified(&archive).ok();
    if !made_of.iter().all(|changed| made.is_some_and(|made| *changed < made)) {
        run(Command::new(script("image")).arg("archive").arg(&binary).arg(&archive).arg(NAME))?;
    }
    Ok(archive)
}

fn modified(file: &Path) -> Result<SystemTime> {
    let modified = std::fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.with_context(|| format!("{} can't be looked at", file.display()))
}
