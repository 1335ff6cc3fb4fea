//! The table of contents of a `pg_dump -Fc` archive, read from the file itself.
//!
//! `pg_restore --list` is for people: it flattens newlines in names, separates them by spaces that they may
//! contain, and keeps the dependencies to itself, which are what says to which table an index belongs. So the
//! head of the file is read as `pg_backup_archiver.c` (`ReadHead`, `ReadToc`) writes it, and `pg_restore` is
//! told by dump ids what to do. [`super::archive`] compares the ids with those that `pg_restore` lists, so a
//! file that the two would read differently is refused.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::Path;

use super::error::TargetError;
use super::privileges::superuser_only;

/// Archive versions: 1.12 is written by pg_dump 10, 1.16 by 17 and 18.
const OLDEST_MINOR: u8 = 12;
const NEWEST_MINOR: u8 = 16;
/// `archCustom`.
const FORMAT_CUSTOM: u8 = 1;
/// An entry takes some 90 bytes at least (a dozen length words of five bytes and its numbers), so a file can't
/// announce more entries than this share of its length.
const LEAST_ENTRY_BYTES: u64 = 60;

/// When `pg_restore` would process an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Belongs to another entry: comments, privileges, labels.
    None,
    /// Definitions.
    PreData,
    /// Rows.
    Data,
    /// What is quicker, or only possible, when the rows are there.
    PostData,
}

/// One object of the archive, or one statement about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TocEntry {
    /// Its number within the archive: what `pg_restore --use-list` goes by.
    pub dump_id: i32,
    /// OID of the catalog that it lay in at the source; 0 where it has none of its own.
    pub catalog: u32,
    /// Its OID at the source; 0 likewise.
    pub oid: u32,
    /// Its name, or for what belongs to a table `table name`, or `KIND name` in comments and privileges.
    pub tag: String,
    /// Its kind: `TABLE`, `INDEX`, `FK CONSTRAINT` …
    pub kind: String,
    /// Its section.
    pub section: Section,
    /// Its schema, if it lies in one.
    pub schema: Option<String>,
    /// Its owner; empty if it has none.
    pub owner: String,
    /// Its tablespace, unless that is the database's.
    pub tablespace: Option<String>,
    /// Whether statements come with it: without, `pg_restore` has nothing to do.
    pub has_definition: bool,
    /// Why nobody but a superuser may create it; extensions aside.
    pub superuser_only: Option<&'static str>,
    /// It is a constraint that excludes rows by operators (EXCLUDE, WITHOUT OVERLAPS).
    pub excludes: bool,
    /// Dump ids of the entries that must come before it.
    pub dependencies: Vec<i32>,
}

/// The archive's head and all its entries, in the archive's order: each after what it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toc {
    /// The database that was dumped.
    pub database: String,
    /// `server_version` of its server.
    pub server_version: String,
    /// Version of the `pg_dump` that wrote the archive.
    pub pg_dump_version: String,
    /// The entries.
    pub entries: Vec<TocEntry>,
    position: HashMap<i32, usize>,
}

impl Toc {
    /// Reads the head of the archive in `path`.
    ///
    /// # Errors
    /// [`TargetError::ArchiveMalformed`] or [`TargetError::ArchiveUnsupported`]; [`TargetError::Local`] if the
    /// file can't be read.
    pub fn read(path: &Path) -> Result<Self, TargetError> {
        let local = |source| TargetError::Local { doing: format!("reading {}", path.display()), source };
        let file = std::fs::File::open(path).map_err(local)?;
        let length = file.metadata().map_err(local)?.len();
        Self::parse(BufReader::new(file), length).map_err(|error| match error {
            TargetError::Local { source, .. } => local(source),
            other => other,
        })
    }

    /// Reads a table of contents from `reader`, which holds `length` bytes.
    ///
    /// # Errors
    /// As for [`Toc::read`].
    pub fn parse(reader: impl Read, length: u64) -> Result<Self, TargetError> {
        Self::located(reader, length).map(|(toc, _)| toc)
    }

    /// The same, with where in the file each entry names roles.
    pub(super) fn located(reader: impl Read, length: u64) -> Result<(Self, Located), TargetError> {
        let mut input = Input { reader, at: 0, length, int_size: 4, offset_size: 8 };
        if input.array::<5>()? != *b"PGDMP" {
            return Err(input.malformed("it does not begin with PGDMP"));
        }
        let [major, minor, _revision] = input.array()?;
        if major != 1 || !(OLDEST_MINOR..=NEWEST_MINOR).contains(&minor) {
            return Err(TargetError::ArchiveUnsupported { version: format!("{major}.{minor}") });
        }
        let [int_size, offset_size, format] = input.array()?;
        if int_size == 0 || int_size > 8 || offset_size == 0 || offset_size > 8 {
            return Err(input.malformed("integers of an impossible size"));
        }
        if format != FORMAT_CUSTOM {
            return Err(input.malformed("it is not of the custom format"));
        }
        (input.int_size, input.offset_size) = (usize::from(int_size), usize::from(offset_size));
        // The compression, then the time: seconds to years, and whether it is summer.
        let numbers = if minor >= 15 {
            input.array::<1>()?;
            7
        } else {
            8
        };
        for _ in 0..numbers {
            input.int()?;
        }
        let database = input.text()?.unwrap_or_default();
        let server_version = input.text()?.unwrap_or_default();
        let pg_dump_version = input.text()?.unwrap_or_default();
        let count = u64::try_from(input.int()?).ok().filter(|count| *count <= length / LEAST_ENTRY_BYTES);
        let count = count.ok_or_else(|| input.malformed("more entries than the file has room for"))?;
        let (mut entries, mut spans) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (entry, found) = input.entry(minor)?;
            entries.push(entry);
            spans.push(found);
        }
        let mut position = HashMap::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            if position.insert(entry.dump_id, index).is_some() {
                return Err(input.malformed("a dump id occurs twice"));
            }
        }
        let located = Located { spans, int_size: input.int_size };
        Ok((Self { database, server_version, pg_dump_version, entries, position }, located))
    }

    /// The entry of a dump id.
    #[must_use]
    pub fn get(&self, dump_id: i32) -> Option<&TocEntry> {
        self.position.get(&dump_id).map(|index| &self.entries[*index])
    }

    /// Major version of the server that was dumped.
    #[must_use]
    pub fn server_major(&self) -> Option<u32> {
        self.server_version.split(['.', ' ', 'd', 'b', 'r']).next()?.parse().ok()
    }

    /// Every role that an entry belongs to.
    #[must_use]
    pub fn owners(&self) -> HashSet<&str> {
        self.entries.iter().map(|entry| entry.owner.as_str()).filter(|owner| !owner.is_empty()).collect()
    }

    /// Whose a schema was, if the archive says so.
    #[must_use]
    pub fn owner_of_schema(&self, schema: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| entry.kind == "SCHEMA" && entry.tag == schema)?;
        Some(entry.owner.as_str()).filter(|owner| !owner.is_empty())
    }

    /// Every tablespace that an entry asks for.
    #[must_use]
    pub fn tablespaces(&self) -> HashSet<&str> {
        self.entries.iter().filter_map(|entry| entry.tablespace.as_deref()).collect()
    }
}

/// Where in the file the fields of entries lie that name roles.
#[derive(Debug)]
pub(super) struct Located {
    /// Of each entry, in their order.
    pub(super) spans: Vec<Spans>,
    /// Bytes of a number, without its sign.
    pub(super) int_size: usize,
}

/// Where in the file some fields of an entry lie, each with its length before it.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) definition: Range<u64>,
    pub(super) owner: Range<u64>,
    /// Whether data lies behind the table of contents, at a place that the entry names.
    pub(super) has_data: bool,
}

/// `K_OFFSET_POS_SET`.
const DATA_PLACED: u8 = 2;

/// The file, with where we are in it.
struct Input<R> {
    reader: R,
    at: u64,
    length: u64,
    int_size: usize,
    offset_size: usize,
}

impl<R: Read> Input<R> {
    fn malformed(&self, why: impl Into<String>) -> TargetError {
        TargetError::ArchiveMalformed { offset: self.at, why: why.into() }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TargetError> {
        self.reader.read_exact(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.malformed("it ends in its table of contents"),
            _ => TargetError::Local { doing: "reading the archive".into(), source },
        })?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TargetError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A sign byte, then the magnitude, least significant byte first.
    fn int(&mut self) -> Result<i64, TargetError> {
        let [sign] = self.array()?;
        let mut magnitude = [0; 8];
        let size = self.int_size;
        self.fill(&mut magnitude[..size])?;
        let magnitude = i64::try_from(u64::from_le_bytes(magnitude))
            .map_err(|_| self.malformed("a number is out of range"))?;
        Ok(if sign == 0 { magnitude } else { -magnitude })
    }

    /// A length, -1 for none, then the bytes.
    fn text(&mut self) -> Result<Option<String>, TargetError> {
        let Ok(length) = u64::try_from(self.int()?) else { return Ok(None) };
        // Before anything is allocated for it.
        if length > self.length.saturating_sub(self.at) {
            return Err(self.malformed("a string is longer than the file"));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| self.malformed("a string is too long"))?];
        self.fill(&mut bytes)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            // Names come in the database's encoding; definitions in it are pg_restore's business, and names that
            // are compared are refused by the backup if they aren't UTF-8.
            Err(error) => Ok(Some(String::from_utf8_lossy(error.as_bytes()).into_owned())),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, TargetError> {
        let text = self.text()?.unwrap_or_default();
        text.parse().map_err(|_| self.malformed(format!("{what} is no number")))
    }

    fn entry(&mut self, minor: u8) -> Result<(TocEntry, Spans), TargetError> {
        let dump_id = i32::try_from(self.int()?).ok().filter(|id| *id > 0);
        let dump_id = dump_id.ok_or_else(|| self.malformed("an impossible dump id"))?;
        let _has_data = self.int()?;
        let catalog = self.number("a catalog's OID")?;
        let oid = self.number("an OID")?;
        let tag = self.text()?.unwrap_or_default();
        let kind = self.text()?.unwrap_or_default();
        let section = match self.int()? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            other => return Err(self.malformed(format!("unknown section {other}"))),
        };
        let definition_from = self.at;
        let definition = self.text()?.unwrap_or_default();
        let definition_span = definition_from..self.at;
        let _drop = self.text()?;
        let _copy = self.text()?;
        let schema = self.text()?.filter(|schema| !schema.is_empty());
        let tablespace = self.text()?.filter(|tablespace| !tablespace.is_empty());
        if minor >= 14 {
            let _access_method = self.text()?;
        }
        if minor >= 16 {
            let _relkind = self.int()?;
        }
        let owner_from = self.at;
        let owner = self.text()?.unwrap_or_default();
        let owner_span = owner_from..self.at;
        let _with_oids = self.text()?;
        let mut dependencies = Vec::new();
        while let Some(text) = self.text()? {
            dependencies.push(text.parse().map_err(|_| self.malformed("a dependency is no number"))?);
        }
        // Where its data lies: a state, and an offset.
        let [state] = self.array()?;
        let mut offset = [0; 8];
        let size = self.offset_size;
        self.fill(&mut offset[..size])?;
        let superuser_only = superuser_only(&kind, &definition);
        let excludes = kind == "CONSTRAINT"
            && [" EXCLUDE USING ", " WITHOUT OVERLAPS"].iter().any(|words| definition.contains(words));
        let entry = TocEntry {
            dump_id,
            catalog,
            oid,
            tag,
            kind,
            section,
            schema,
            owner,
            tablespace,
            has_definition: !definition.is_empty(),
            superuser_only,
            excludes,
            dependencies,
        };
        let has_data = state == DATA_PLACED;
        Ok((entry, Spans { definition: definition_span, owner: owner_span, has_data }))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An archive's head as pg_dump 15 writes it, for tests of what reads it.
    pub(in super::super) fn archive_bytes(minor: u8, entries: &[TocEntry]) -> Vec<u8> {
        let mut bytes = b"PGDMP".to_vec();
        bytes.extend([1, minor, 0, 4, 8, FORMAT_CUSTOM]);
        let int = |bytes: &mut Vec<u8>, value: i32| {
            bytes.push(u8::from(value < 0));
            bytes.extend(value.unsigned_abs().to_le_bytes());
        };
        let text = |bytes: &mut Vec<u8>, value: Option<&str>| match value {
            None => int(bytes, -1),
            Some(value) => {
                int(bytes, i32::try_from(value.len()).unwrap());
                bytes.extend(value.as_bytes());
            }
        };
        if minor >= 15 {
            bytes.push(1);
        } else {
            int(&mut bytes, -1);
        }
        for number in [1, 2, 3, 4, 5, 126, 0] {
            int(&mut bytes, number);
        }
        for name in ["zoo", "15.18 (Debian 15.18-0+deb12u1)", "15.18"] {
            text(&mut bytes, Some(name));
        }
        int(&mut bytes, i32::try_from(entries.len()).unwrap());
        for entry in entries {
            int(&mut bytes, entry.dump_id);
            int(&mut bytes, 0);
            text(&mut bytes, Some(&entry.catalog.to_string()));
            text(&mut bytes, Some(&entry.oid.to_string()));
            text(&mut bytes, Some(&entry.tag));
            text(&mut bytes, Some(&entry.kind));
            int(&mut bytes, entry.section as i32 + 1);
            text(&mut bytes, Some(if entry.has_definition { "SELECT 1;" } else { "" }));
            text(&mut bytes, None);
            text(&mut bytes, None);
            text(&mut bytes, entry.schema.as_deref());
            text(&mut bytes, entry.tablespace.as_deref());
            if minor >= 14 {
                text(&mut bytes, None);
            }
            if minor >= 16 {
                int(&mut bytes, 0);
            }
            text(&mut bytes, Some(&entry.owner));
            text(&mut bytes, Some("false"));
            for dependency in &entry.dependencies {
                text(&mut bytes, Some(&dependency.to_string()));
            }
            text(&mut bytes, None);
            bytes.push(3);
            bytes.extend([0; 8]);
        }
        bytes
    }

    pub(in super::super) fn entry(
        dump_id: i32,
        kind: &str,
        section: Section,
        tag: &str,
        deps: &[i32],
    ) -> TocEntry {
        TocEntry {
            dump_id,
            catalog: 1259,
            oid: 16384,
            tag: tag.into(),
            kind: kind.into(),
            section,
            schema: Some("public".into()),
            owner: "joe".into(),
            tablespace: None,
            has_definition: true,
            superuser_only: None,
            excludes: false,
            dependencies: deps.to_vec(),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Toc, TargetError> {
        Toc::parse(bytes, bytes.len() as u64)
    }

    #[test]
    fn entries_are_read_in_every_version() {
        let entries = [
            entry(7, "TABLE", Section::PreData, "with space\nand newline", &[]),
            entry(9, "CONSTRAINT", Section::PostData, "with space\nand newline pk", &[7, 8]),
        ];
        for minor in OLDEST_MINOR..=NEWEST_MINOR {
            let toc = parse(&archive_bytes(minor, &entries)).unwrap();
            assert_eq!(toc.entries, entries, "1.{minor}");
            assert_eq!(toc.server_major(), Some(15));
            assert_eq!(toc.get(9), Some(&entries[1]));
            assert_eq!(toc.get(8), None);
        }
    }

    #[test]
    fn every_truncation_is_malformed() {
        let bytes = archive_bytes(14, &[entry(7, "TABLE", Section::PreData, "t", &[1, 2])]);
        for length in 0..bytes.len() {
            let error = parse(&bytes[..length]).unwrap_err();
            assert!(matches!(error, TargetError::ArchiveMalformed { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn no_single_byte_brings_it_down() {
        let bytes = archive_bytes(16, &[entry(7, "TABLE", Section::PreData, "t", &[1, 2])]);
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                // Either answer will do; a panic or an allocation beyond the file's length would not.
                let _ = parse(&damaged);
            }
        }
    }

    #[test]
    fn other_versions_are_named() {
        let error = parse(&archive_bytes(17, &[])).unwrap_err();
        assert!(
            matches!(&error, TargetError::ArchiveUnsupported { version } if version == "1.17"),
            "{error}"
        );
    }

    #[test]
    fn a_dump_id_twice_is_refused() {
        let twice =
            [entry(7, "TABLE", Section::PreData, "a", &[]), entry(7, "TABLE", Section::PreData, "b", &[])];
        assert!(matches!(parse(&archive_bytes(14, &twice)), Err(TargetError::ArchiveMalformed { .. })));
    }
}
