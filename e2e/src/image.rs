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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in sources(&root.join("src"))?.into_iter().chain([root.join("Cargo.lock")]) {
        ensure!(
            modified(&source)? <= built,
            "{} is older than {}: {again}",
            binary.display(),
            source.display()
        );
    }
    Ok(binary)
}

/// Every file below a folder. Not what cargo lists as the program's sources: it lists them only for what it was asked to
/// build, and the program is built for the sake of tests.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("{} can't be read", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.is_dir() { files.extend(sources(&path)?) } else { files.push(path) }
    }
    Ok(files)
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
