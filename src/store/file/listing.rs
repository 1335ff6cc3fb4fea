//! Listing a folder in the order of names, a page at a time.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::tree::{TEMPORARY, Tree};
use crate::format::Key;
use crate::store::{FolderPage, ListPage, StoreError};

/// Objects of a page: as many as S3 gives.
const PAGE: usize = 1_000;

/// Deepest nesting that is looked into. Keys have at most 400 bytes, so at most 200 segments.
const MAX_DEPTH: usize = 200;

pub(super) fn page(
    tree: &Arc<Tree>,
    prefix: Option<&Key>,
    after: Option<&str>,
) -> Result<ListPage, StoreError> {
    let Some(folder) = open_folder(tree, prefix)? else { return Ok(ListPage::default()) };
    let path = prefix.map_or_else(String::new, |prefix| format!("{prefix}/"));
    let mut walk = Walk { tree, after, found: Vec::new() };
    walk.folder(&folder, &path, 0)?;
    let next = (walk.found.len() > PAGE).then(|| {
        walk.found.truncate(PAGE);
        walk.found.last().map(|(key, _)| key.as_str().to_owned())
    });
    Ok(ListPage { objects: walk.found, next: next.flatten() })
}

/// Folders directly below `prefix`, all on one page.
pub(super) fn folders(tree: &Arc<Tree>, prefix: &Key) -> Result<FolderPage, StoreError> {
    let Some(folder) = open_folder(tree, Some(prefix))? else { return Ok(FolderPage::default()) };
    let mut folders = Vec::new();
    for (name, is_folder) in names(tree, &folder, prefix.as_str())? {
        if is_folder {
            folders.extend(Key::parse(&format!("{prefix}/{name}")));
        }
    }
    folders.sort_unstable();
    Ok(FolderPage { folders, next: None })
}

/// The folder that holds what lies below `prefix`, if there is one.
fn open_folder(tree: &Arc<Tree>, prefix: Option<&Key>) -> Result<Option<OwnedFd>, StoreError> {
    let mut folder = tree.root("list")?;
    let below = tree.path(prefix.map_or("", Key::as_str));
    for segment in below.split('/').filter(|segment| !segment.is_empty()) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = match rustix::fs::openat(&folder, segment, flags, Mode::empty()) {
            Ok(next) => next,
            // Nothing lies below a name that is a file, either.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(tree.error("list", &below, errno)),
        };
    }
    Ok(Some(folder))
}

/// Files and folders in `folder`, with whether each is a folder.
fn names(tree: &Arc<Tree>, folder: &OwnedFd, path: &str) -> Result<Vec<(String, bool)>, StoreError> {
    let failed = |errno| tree.error("list", path, errno);
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A name that is no text is no key of ours.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | ".." | TEMPORARY) {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            },
            known => known,
        };
        match kind {
            FileType::Directory => names.push((name.to_owned(), true)),
            FileType::RegularFile => names.push((name.to_owned(), false)),
            _ => {}
        }
    }
    Ok(names)
}

struct Walk<'a> {
    tree: &'a Arc<Tree>,
    after: Option<&'a str>,
    found: Vec<(Key, u64)>,
}

impl Walk<'_> {
    /// Walks `folder`, whose names start with `path`, until one object more than a page was found.
    fn folder(&mut self, folder: &OwnedFd, path: &str, depth: usize) -> Result<(), StoreError> {
        let mut names: Vec<String> = names(self.tree, folder, path)?
            .into_iter()
            .filter(|(_, is_folder)| !is_folder || depth < MAX_DEPTH)
            // With its slash, so that `a-b` sorts before what lies in `a/`, as names do.
            .map(|(name, is_folder)| if is_folder { name + "/" } else { name })
            .collect();
        names.sort_unstable();
        for name in names {
            if self.found.len() > PAGE {
                return Ok(());
            }
            let full = format!("{path}{name}");
            if let Some(below) = name.strip_suffix('/') {
                let passed =
                    self.after.is_some_and(|after| !after.starts_with(&full) && full.as_str() < after);
                if !passed {
                    self.below(folder, below, &full, depth)?;
                }
            } else if self.after.is_none_or(|after| full.as_str() > after)
                && let Ok(key) = Key::parse(&full)
            {
                match rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => self.found.push((key, u64::try_from(stat.st_size).unwrap_or(0))),
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(self.tree.error("list", &full, errno)),
                }
            }
        }
        Ok(())
    }

    fn below(&mut self, folder: &OwnedFd, name: &str, full: &str, depth: usize) -> Result<(), StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(inner) => self.folder(&inner, full, depth + 1),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(errno) => Err(self.tree.error("list", full, errno)),
        }
    }
}
