//! PostgreSQL's own programs: found, and refused where their version doesn't fit.
//!
//! Tried: pg_restore 18 into a server 15 fails (it sets `transaction_timeout`), pg_restore 15 can't read an
//! archive of 18, and a pg_dump of a newer major than the server's wrote something that only that server's own
//! minor accepted. So pg_dump is of the server's own major, no older than its minor. Servers 13 and 14 may take a
//! pg_dump up to 15, whose archives and statements they accept; pg_restore is at most 16 for targets up to 16.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::error::SourceError;

/// Where Debian and PostgreSQL's own apt repository put each major's programs.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// Servers up to this major take a pg_dump of a higher major, up to this one.
const SHARED_DUMP_MAJOR: u32 = 15;

/// Targets up to this major take a pg_restore up to this one: 17 sets `transaction_timeout`.
const OLD_RESTORE_MAJOR: u32 = 16;

/// Version of a program, as major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolVersion {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
}

impl ToolVersion {
    /// That of a server: `server_version_num` 150004 is 15.4.
    #[must_use]
    pub const fn of_server(version_num: u32) -> Self {
        Self { major: version_num / 10_000, minor: version_num % 10_000 }
    }

    /// Reads what a plan records of a `pg_dump`, as [`Display`](std::fmt::Display) writes it; `server_version_num`
    /// stands in for what can't be read.
    #[must_use]
    pub fn recorded(text: &str, server_version_num: u32) -> Self {
        let parsed = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        parsed.unwrap_or_else(|| Self::of_server(server_version_num))
    }

    /// Reads what `--version` prints: `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`. A development
    /// version (`18beta1`) counts as minor 0.
    fn parse(output: &str) -> Option<Self> {
        let text = output.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
        let digits = |text: &str| {
            let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
            text[..end].parse().ok()
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some(Self { major: digits(major)?, minor: digits(minor).unwrap_or(0) })
    }
}

impl std::fmt::Display for ToolVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A program that was found, and asked for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: ToolVersion,
}

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub struct Tools {
    directories: Vec<PathBuf>,
}

impl Tools {
    /// In `directories` (`--tools`), then those of `VOUCHSAFE_PG_TOOLS` (a list as `PATH` is one), of `PATH`, and
    /// of `/usr/lib/postgresql/*/bin`. The order matters only between programs that fit equally well.
    #[must_use]
    pub fn search(directories: &[PathBuf]) -> Self {
        let of_variable = |name: &str| {
            std::env::var_os(name)
                .map(|list| std::env::split_paths(&list).collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let mut all = directories.to_vec();
        all.extend(of_variable("VOUCHSAFE_PG_TOOLS"));
        all.extend(of_variable("PATH"));
        if let Ok(majors) = std::fs::read_dir(DEBIAN_ROOT) {
            let mut found: Vec<PathBuf> = majors.flatten().map(|major| major.path().join("bin")).collect();
            found.sort();
            all.extend(found);
        }
        Self::only(&all)
    }

    /// In these directories alone.
    #[must_use]
    pub fn only(directories: &[PathBuf]) -> Self {
        let mut kept: Vec<PathBuf> = Vec::new();
        for directory in directories {
            // An empty element of PATH is the working directory: never run a program from wherever we stand.
            if directory.is_absolute() && !kept.contains(directory) {
                kept.push(directory.clone());
            }
        }
        Self { directories: kept }
    }

    /// The pg_dump for a server of this `server_version_num`.
    ///
    /// # Errors
    /// [`SourceError::ToolMissing`], [`SourceError::ToolUnfit`].
    pub async fn pg_dump_for(&self, server_version_num: u32) -> Result<Tool, SourceError> {
        let server = ToolVersion::of_server(server_version_num);
        self.find("pg_dump", &format!("a server {server}"), &|tool| dump_rank(server, tool)).await
    }

    /// The pg_restore that reads an archive written by a pg_dump of `archive`, and that a server of major
    /// `target_major` accepts.
    ///
    /// # Errors
    /// [`SourceError::ToolMissing`], [`SourceError::ToolUnfit`].
    pub async fn pg_restore_for(&self, archive: ToolVersion, target_major: u32) -> Result<Tool, SourceError> {
        let wanted = format!("an archive of pg_dump {archive} and a server {target_major}");
        self.find("pg_restore", &wanted, &|tool| restore_rank(archive, target_major, tool)).await
    }

    /// The folder with the newest server (`initdb`, `postgres`) that has its own `pg_dump` beside it.
    ///
    /// # Errors
    /// [`SourceError::ToolMissing`].
    pub async fn server_programs(&self) -> Result<(PathBuf, ToolVersion), SourceError> {
        let mut newest: Option<(PathBuf, ToolVersion)> = None;
        for directory in &self.directories {
            let whole =
                ["postgres", "pg_dump", "pg_restore"].iter().all(|tool| directory.join(tool).is_file());
            let Some(version) = version_of(&directory.join("initdb")).await.filter(|_| whole) else {
                continue;
            };
            if newest.as_ref().is_none_or(|(_, newest)| version > *newest) {
                newest = Some((directory.clone(), version));
            }
        }
        newest.ok_or_else(|| SourceError::ToolMissing {
            tool: "initdb",
            wanted: "a server of its own".to_owned(),
            searched: self.directories.clone(),
        })
    }

    async fn find(
        &self,
        tool: &'static str,
        wanted: &str,
        rank: &(dyn Fn(ToolVersion) -> Option<u32> + Sync),
    ) -> Result<Tool, SourceError> {
        let mut best: Option<(u32, Tool)> = None;
        let mut found = Vec::new();
        for directory in &self.directories {
            let path = directory.join(tool);
            let Some(version) = version_of(&path).await else { continue };
            found.push(format!("{version} ({})", path.display()));
            let Some(rank) = rank(version) else { continue };
            let better = best.as_ref().is_none_or(|(best_rank, best_tool)| {
                rank < *best_rank || (rank == *best_rank && version > best_tool.version)
            });
            if better {
                best = Some((rank, Tool { path, version }));
            }
        }
        match best {
            Some((_, tool)) => Ok(tool),
            None if found.is_empty() => Err(SourceError::ToolMissing {
                tool,
                wanted: wanted.to_owned(),
                searched: self.directories.clone(),
            }),
            None => Err(SourceError::ToolUnfit { tool, wanted: wanted.to_owned(), found }),
        }
    }
}

/// How well a pg_dump fits a server; lower is better, `None` not at all.
fn dump_rank(server: ToolVersion, tool: ToolVersion) -> Option<u32> {
    if tool.major == server.major {
        return (tool.minor >= server.minor).then_some(0);
    }
    (server.major < tool.major && tool.major <= SHARED_DUMP_MAJOR).then(|| tool.major - server.major)
}

/// How well a pg_restore fits an archive and a target; lower is better, `None` not at all.
fn restore_rank(archive: ToolVersion, target_major: u32, tool: ToolVersion) -> Option<u32> {
    let reads = tool.major >= archive.major;
    let accepted = target_major > OLD_RESTORE_MAJOR || tool.major <= OLD_RESTORE_MAJOR;
    (reads && accepted).then(|| tool.major.abs_diff(target_major))
}

async fn version_of(path: &Path) -> Option<ToolVersion> {
    if !path.is_file() {
        return None;
    }
    let output =
        Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output().await.ok()?;
    ToolVersion::parse(std::str::from_utf8(&output.stdout).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn version(major: u32, minor: u32) -> ToolVersion {
        ToolVersion { major, minor }
    }

    #[test]
    fn versions_are_read_from_what_programs_print() {
        for (text, expected) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", version(15, 18)),
            ("pg_restore (PostgreSQL) 16.14\n", version(16, 14)),
            ("pg_dump (PostgreSQL) 18beta1\n", version(18, 0)),
        ] {
            assert_eq!(ToolVersion::parse(text), Some(expected), "{text}");
        }
        for text in ["", "pg_dump 15.1", "pg_dump (PostgreSQL) x.y", "pg_dump (PostgreSQL)"] {
            assert_eq!(ToolVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_dump_is_made_by_the_servers_own_major_or_up_to_15() {
        let ranks = |server, tools: &[ToolVersion]| {
            tools.iter().map(|tool| dump_rank(server, *tool)).collect::<Vec<_>>()
        };
        assert_eq!(
            ranks(version(15, 18), &[version(15, 18), version(15, 20), version(15, 17), version(16, 1)]),
            [Some(0), Some(0), None, None]
        );
        assert_eq!(
            ranks(
                version(13, 22),
                &[version(13, 22), version(14, 0), version(15, 0), version(16, 0), version(12, 9)]
            ),
            [Some(0), Some(1), Some(2), None, None]
        );
        assert_eq!(
            ranks(version(17, 2), &[version(18, 0), version(17, 2), version(15, 20)]),
            [None, Some(0), None]
        );
    }

    #[test]
    fn a_restore_reads_the_archive_and_suits_the_target() {
        assert_eq!(restore_rank(version(15, 1), 15, version(18, 0)), None);
        assert_eq!(restore_rank(version(18, 1), 18, version(15, 0)), None);
        assert_eq!(restore_rank(version(15, 1), 15, version(16, 0)), Some(1));
        assert_eq!(restore_rank(version(15, 1), 18, version(18, 0)), Some(0));
        assert_eq!(restore_rank(version(13, 1), 18, version(15, 0)), Some(3));
        assert_eq!(restore_rank(version(17, 1), 16, version(17, 0)), None);
    }

    #[tokio::test]
    async fn missing_and_unfit_programs_are_told_apart_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let tools = Tools::only(&[folder.path().to_owned()]);
        let error = tools.pg_dump_for(160_004).await.unwrap_err();
        assert_eq!(error.reason(), "ToolMissing");
        assert!(
            error.to_string().contains("16.4") && error.to_string().contains(folder.path().to_str().unwrap())
        );

        let program = folder.path().join("pg_dump");
        std::fs::write(&program, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 16.3'\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = tools.pg_dump_for(160_004).await.unwrap_err();
        assert_eq!(error.reason(), "ToolUnfit");
        assert!(error.to_string().contains("16.3"), "{error}");
        assert_eq!(tools.pg_dump_for(160_003).await.unwrap().path, program);
    }
}
