//! Damage done to stored objects, behind the store's back.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::super::Failure;
use super::server::local;
use super::{broken, expect};
use crate::engine::backups::Verified;

/// Damage that was done, and that a verification must name.
#[derive(Debug)]
pub(super) struct Done {
    /// What was done, for people.
    pub(super) told: String,
    destination: String,
    object: String,
    /// The byte that was changed; absent: the object is gone.
    offset: Option<u64>,
}

/// Flips one bit in the middle of the largest object of rows below `store`.
pub(super) fn flip(store: &Path, destination: &str) -> Result<Done, Failure> {
    let (object, path, length) = largest(store)?;
    let offset = length / 2;
    let changed = || -> std::io::Result<()> {
        let mut file = std::fs::File::options().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&[byte[0] ^ 0b0001_0000])?;
        file.sync_all()
    };
    changed().map_err(|error| local(&format!("flipping a bit of {}", path.display()), &error))?;
    let told = format!("flipped: bit 4 of byte {offset} of {object} ({length} bytes)");
    Ok(Done { told, destination: destination.to_owned(), object, offset: Some(offset) })
}

/// Deletes the largest object of rows below `store`.
pub(super) fn delete(store: &Path, destination: &str) -> Result<Done, Failure> {
    let (object, path, _) = largest(store)?;
    std::fs::remove_file(&path).map_err(|error| local(&format!("deleting {}", path.display()), &error))?;
    let told = format!("deleted: {object}");
    Ok(Done { told, destination: destination.to_owned(), object, offset: None })
}

impl Done {
    /// The verification named this damage: destination, object, table, and offsets around the changed byte.
    pub(super) fn expect_found(&self, verified: &Verified) -> Result<(), Failure> {
        let named = verified
            .damages
            .iter()
            .find(|(destination, damage)| *destination == self.destination && damage.object == self.object);
        let Some((_, damage)) = named else {
            return Err(broken(format!("{}: not found by verify", self.told)));
        };
        expect(damage.table.is_some(), || format!("{}: {damage:?}", self.told))?;
        let Some(offset) = self.offset else { return Ok(()) };
        let around = damage.offsets.is_some_and(|(from, to)| from <= offset && offset < to);
        expect(around, || format!("{}: {damage:?}", self.told))
    }
}

/// The largest object of rows: its key, its file and its length. Of several equal ones the first by name.
fn largest(store: &Path) -> Result<(String, PathBuf, u64), Failure> {
    let failed =
        |error: std::io::Error| local(&format!("looking for an object in {}", store.display()), &error);
    let mut found: Option<(String, PathBuf, u64)> = None;
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, metadata) = (entry.path(), entry.metadata().map_err(failed)?);
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(key) = path.strip_prefix(store).ok().and_then(Path::to_str) else { continue };
            let rank = |key: &str, length: u64| (length, std::cmp::Reverse(key.to_owned()));
            let is_data = key.contains("/data/") && key.ends_with(".pgcopy.zst");
            let larger = found.as_ref().is_none_or(|(k, _, l)| rank(key, metadata.len()) > rank(k, *l));
            if is_data && larger {
                found = Some((key.to_owned(), path, metadata.len()));
            }
        }
    }
    found.ok_or_else(|| broken(format!("no object of rows lies in {}", store.display())))
}
