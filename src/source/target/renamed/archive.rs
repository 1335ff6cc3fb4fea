//! The archive of a schema with other role names: its table of contents is written anew where an entry's owner, or a
//! statement that grants something, names one of them. Everything else is the same byte for byte.

use std::ops::Range;

use super::super::error::TargetError;
use super::super::toc::{Located, Toc};
use super::{RoleNames, statement};

impl RoleNames {
    /// `archive`, told by the new names.
    ///
    /// # Errors
    /// [`TargetError::ArchiveMalformed`] and [`TargetError::ArchiveUnsupported`] as for [`Toc::parse`];
    /// [`TargetError::RolesUnmapped`] where a statement can't be told by other names.
    pub fn in_archive(&self, archive: &[u8]) -> Result<Vec<u8>, TargetError> {
        let (toc, Located { spans, int_size }) = Toc::located(archive, archive.len() as u64)?;
        let mut written = Vec::with_capacity(archive.len());
        let mut copied = 0;
        let mut replace = |range: &Range<u64>, text: &str| -> Option<()> {
            let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
            written.extend_from_slice(archive.get(copied..start)?);
            // A sign, then the magnitude, least significant byte first.
            written.push(0);
            let length = (text.len() as u64).to_le_bytes();
            written.extend((0..int_size).map(|at| length.get(at).copied().unwrap_or_default()));
            written.extend_from_slice(text.as_bytes());
            copied = end;
            Some(())
        };
        for (entry, spans) in toc.entries.iter().zip(&spans) {
            let unmapped = |why: &str| TargetError::RolesUnmapped {
                entry: format!("{} {}", entry.kind, entry.tag),
                why: why.to_owned(),
            };
            if spans.has_data {
                return Err(unmapped("its data has a place in the file, which would be another one"));
            }
            if statement::names_roles(&entry.kind) {
                let sql =
                    text(archive, &spans.definition, int_size).ok_or_else(|| unmapped("it is not UTF-8"))?;
                if let Some(new) = statement::renamed(&entry.kind, sql, self).map_err(unmapped)? {
                    replace(&spans.definition, &new).ok_or_else(|| unmapped("it lies outside the file"))?;
                }
            }
            let owner = self.of(&entry.owner);
            if owner != entry.owner {
                replace(&spans.owner, owner).ok_or_else(|| unmapped("it lies outside the file"))?;
            }
        }
        written.extend_from_slice(archive.get(copied..).unwrap_or_default());
        Ok(written)
    }
}

/// The text of a field, which its length comes before.
fn text<'a>(archive: &'a [u8], field: &Range<u64>, int_size: usize) -> Option<&'a str> {
    let start = usize::try_from(field.start).ok()?.checked_add(1 + int_size)?;
    std::str::from_utf8(archive.get(start..usize::try_from(field.end).ok()?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::toc::tests::{archive_bytes, entry};
    use super::super::super::toc::{Section, Toc, TocEntry};
    use super::super::tests::names;

    fn parse(bytes: &[u8]) -> Toc {
        Toc::parse(bytes, bytes.len() as u64).unwrap()
    }

    #[test]
    fn owners_are_renamed_and_nothing_else_in_every_version() {
        let owned = |id: i32, owner: &str| TocEntry {
            owner: owner.into(),
            ..entry(id, "TABLE", Section::PreData, "joe", &[])
        };
        for minor in 12..=16 {
            let bytes =
                archive_bytes(minor, &[owned(1, "joe"), owned(2, "ann"), owned(3, ""), owned(4, "joe")]);
            let tail = [&bytes[..], b"data that follows"].concat();
            let long = "j".repeat(63);
            let renamed = names(&[("joe", &long)]).in_archive(&tail).unwrap();
            assert!(renamed.ends_with(b"data that follows"));
            assert_eq!(renamed.len(), tail.len() + 2 * 60);
            let expected = [owned(1, &long), owned(2, "ann"), owned(3, ""), owned(4, &long)];
            assert_eq!(parse(&renamed).entries, expected, "1.{minor}");
            let back = names(&[(&long, "joe")]).in_archive(&renamed).unwrap();
            assert_eq!(back, tail, "there and back is nothing");
            assert_eq!(names(&[("nobody", "x")]).in_archive(&tail).unwrap(), tail);
        }
    }

    #[test]
    fn a_statement_that_is_not_understood_is_named() {
        // Its statement is SELECT 1.
        let bytes = archive_bytes(14, &[entry(1, "ACL", Section::None, "TABLE t", &[])]);
        let error = names(&[("joe", "ann")]).in_archive(&bytes).unwrap_err();
        assert!(error.to_string().contains("ACL TABLE t"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error_and_no_byte_brings_it_down() {
        let bytes = archive_bytes(16, &[entry(1, "TABLE", Section::PreData, "t", &[1])]);
        let names = names(&[("joe", "ann")]);
        for length in 0..bytes.len() {
            assert!(names.in_archive(&bytes[..length]).is_err(), "{length}");
            let mut damaged = bytes.clone();
            damaged[length] ^= 0x81;
            let _ = names.in_archive(&damaged);
        }
    }
}
