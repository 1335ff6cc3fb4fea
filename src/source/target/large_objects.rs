//! Large objects: made under their own OIDs, filled page by page, then given owner, privileges and comment.
//!
//! `pg_largeobject` itself takes rows of superusers alone; `lo_create` and `lo_put` are anybody's.

use serde::{Deserialize, Serialize};

use super::archive::ArchiveOptions;
use super::error::TargetError;
use crate::format::relation::quote_identifier;
use crate::source::connection::{Session, quote_literal};

/// One privilege on a large object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LargeObjectGrant {
    /// Who has it; `None`: PUBLIC.
    pub grantee: Option<String>,
    /// `SELECT` or `UPDATE`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// What is known of a large object besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LargeObject {
    /// Its OID.
    pub oid: u32,
    /// Its owner.
    pub owner: String,
    /// Every privilege on it; `None` if none was ever granted or revoked.
    pub grants: Option<Vec<LargeObjectGrant>>,
    /// Its comment.
    pub comment: Option<String>,
}

/// Statements are sent this many at a time: some 100 bytes each, so a batch is well below a megabyte.
const BATCH: usize = 1000;
/// Bytes that are collected before they are written: a call per page of 2 KiB would spend its time on the way.
const WRITE_BYTES: usize = 512 << 10;

/// Makes empty large objects.
///
/// # Errors
/// [`TargetError::LargeObjectExists`] if one of the OIDs is taken.
pub async fn create(session: &Session, objects: &[LargeObject]) -> Result<(), TargetError> {
    let doing = "creating large objects";
    for batch in objects.chunks(BATCH) {
        let oids: Vec<u32> = batch.iter().map(|object| object.oid).collect();
        let taken = session
            .client()
            .query_opt(
                "SELECT min(oid) FROM pg_largeobject_metadata WHERE oid = ANY ($1) HAVING count(*) > 0",
                &[&oids],
            )
            .await
            .map_err(|error| session.error(doing, error))?;
        if let Some(row) = taken {
            return Err(TargetError::LargeObjectExists { oid: row.get(0) });
        }
        // `lo_create(0)` would choose an OID of its own.
        if oids.contains(&0) {
            return Err(TargetError::LargeObjectsMalformed { why: "an OID of 0".into() });
        }
        let made =
            session.client().query("SELECT lo_create(oid) FROM unnest($1::oid[]) AS u (oid)", &[&oids]).await;
        made.map_err(|error| session.error(doing, error))?;
    }
    Ok(())
}

/// Gives large objects their owners, privileges and comments: after their bytes, which only the owner may write.
///
/// # Errors
/// The server refuses.
pub async fn set_access(session: &Session, objects: &[LargeObject]) -> Result<(), TargetError> {
    set_access_with(session, objects, ArchiveOptions::default()).await
}

/// The same as far as `options` restore it.
///
/// # Errors
/// The server refuses.
pub async fn set_access_with(
    session: &Session,
    objects: &[LargeObject],
    options: ArchiveOptions,
) -> Result<(), TargetError> {
    for batch in objects.chunks(BATCH) {
        let sql: String = batch.iter().map(|object| access_statements(object, options)).collect();
        session.run("setting owners and privileges of large objects", &sql).await?;
    }
    Ok(())
}

fn access_statements(object: &LargeObject, options: ArchiveOptions) -> String {
    let oid = object.oid;
    let mut sql = String::new();
    if let Some(comment) = &object.comment {
        sql.push_str(&format!("COMMENT ON LARGE OBJECT {oid} IS {};", quote_literal(comment)));
    }
    let owner = if options.no_owner { "CURRENT_USER".into() } else { quote_identifier(&object.owner) };
    if !options.no_owner {
        sql.push_str(&format!("ALTER LARGE OBJECT {oid} OWNER TO {owner};"));
    }
    if let Some(grants) = object.grants.as_ref().filter(|_| !options.no_privileges) {
        sql.push_str(&format!("REVOKE ALL ON LARGE OBJECT {oid} FROM {owner};"));
        for LargeObjectGrant { grantee, privilege, grantable } in grants {
            let grantee = grantee.as_deref().map_or("PUBLIC".into(), quote_identifier);
            let option = if *grantable { " WITH GRANT OPTION" } else { "" };
            sql.push_str(&format!("GRANT {privilege} ON LARGE OBJECT {oid} TO {grantee}{option};"));
        }
    }
    sql
}

/// Bytes into large objects: a sink for `COPY (SELECT loid, pageno, data FROM pg_largeobject …) TO STDOUT
/// (FORMAT binary)`, which may be cut anywhere, and for several of them one after the other.
///
/// Pages that aren't there stay away: what isn't written reads as zeros, and takes no room.
#[derive(Debug)]
pub struct PageWriter<'a> {
    session: &'a Session,
    compares: bool,
    page_bytes: u32,
    pending: Vec<u8>,
    state: State,
    run: Run,
    pages: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Tuples,
    Ended,
}

/// Bytes that follow one another in one object.
#[derive(Debug, Default)]
struct Run {
    oid: u32,
    offset: u64,
    bytes: Vec<u8>,
}

/// COPY's signature, its flags, and the length of an extension that no version writes.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Count of fields; then three lengths and two integers.
const TUPLE_HEAD: usize = 2 + 8 + 8 + 4;

impl<'a> PageWriter<'a> {
    /// Writes pages of a source whose `block_size` this is: a page is a quarter of a block.
    #[must_use]
    pub fn new(session: &'a Session, block_size: u32) -> Self {
        let page_bytes = block_size / 4;
        let (pending, run) = (Vec::new(), Run::default());
        Self { session, compares: false, page_bytes, pending, state: State::Header, run, pages: 0 }
    }

    /// The same that writes nothing, and compares what is there with what it would write. `lo_get` is allowed to
    /// whoever owns an object, `pg_largeobject` is not.
    #[must_use]
    pub fn comparing(session: &'a Session, block_size: u32) -> Self {
        Self { compares: true, ..Self::new(session, block_size) }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TargetError::LargeObjectsMalformed`] if these are no such rows; the server refuses.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), TargetError> {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((page, length)) = self.page(at)? {
            at += length;
            // The header or the end of a stream.
            let Some((oid, offset, data)) = page else { continue };
            self.pages += 1;
            let follows = self.run.oid == oid
                && self.run.offset + self.run.bytes.len() as u64 == offset
                && !self.run.bytes.is_empty();
            if !follows || self.run.bytes.len() >= WRITE_BYTES {
                self.flush().await?;
                (self.run.oid, self.run.offset) = (oid, offset);
            }
            self.run.bytes.extend_from_slice(&self.pending[data]);
        }
        self.pending.drain(..at);
        Ok(())
    }

    /// Writes what is left; returns how many pages there were.
    ///
    /// # Errors
    /// [`TargetError::LargeObjectsMalformed`] if the rows' end hasn't come.
    pub async fn finish(mut self) -> Result<u64, TargetError> {
        if self.state != State::Ended || !self.pending.is_empty() {
            return Err(malformed("the rows have no end"));
        }
        self.flush().await?;
        Ok(self.pages)
    }

    /// The page at `at` of what is pending, as (object, offset within it, range of the bytes), and the length of
    /// its tuple; header and end have no page; `None` if more must come first.
    #[allow(clippy::type_complexity, reason = "read in one place")]
    fn page(
        &mut self,
        at: usize,
    ) -> Result<Option<(Option<(u32, u64, std::ops::Range<usize>)>, usize)>, TargetError> {
        let rest = &self.pending[at..];
        if self.state != State::Tuples {
            let known = rest.len().min(HEADER.len());
            if rest[..known] != HEADER[..known] {
                return Err(malformed("no header of COPY BINARY"));
            }
            if known < HEADER.len() {
                return Ok(None);
            }
            self.state = State::Tuples;
            return Ok(Some((None, HEADER.len())));
        }
        let Some(fields) = rest.first_chunk::<2>() else { return Ok(None) };
        match i16::from_be_bytes(*fields) {
            -1 => {
                self.state = State::Ended;
                return Ok(Some((None, 2)));
            }
            3 => {}
            other => return Err(malformed(format!("{other} fields instead of 3"))),
        }
        if rest.len() < TUPLE_HEAD {
            return Ok(None);
        }
        let word =
            |from: usize| u32::from_be_bytes([rest[from], rest[from + 1], rest[from + 2], rest[from + 3]]);
        if word(2) != 4 || word(10) != 4 {
            return Err(malformed("an OID or a page number of an impossible length"));
        }
        let (oid, page, length) = (word(6), word(14), word(18));
        if length > self.page_bytes || page > i32::MAX.unsigned_abs() {
            return Err(malformed(format!("page {page} of {oid} is of an impossible size: {length}")));
        }
        let end = TUPLE_HEAD + length as usize;
        if rest.len() < end {
            return Ok(None);
        }
        let offset = u64::from(page) * u64::from(self.page_bytes);
        Ok(Some((Some((oid, offset, at + TUPLE_HEAD..at + end)), end)))
    }

    async fn flush(&mut self) -> Result<(), TargetError> {
        if self.run.bytes.is_empty() {
            return Ok(());
        }
        let Run { oid, offset, bytes } = std::mem::take(&mut self.run);
        let offset = i64::try_from(offset).map_err(|_| malformed("an offset beyond every large object"))?;
        if self.compares {
            let length = i32::try_from(bytes.len()).map_err(|_| malformed("too many bytes at once"))?;
            let sql = "SELECT lo_get($1, $2, $3) = $4";
            let row = self.session.client().query_one(sql, &[&oid, &offset, &length, &bytes]).await;
            let row =
                row.map_err(|error| self.session.error(format!("reading large object {oid}"), error))?;
            return if row.get(0) { Ok(()) } else { Err(TargetError::LargeObjectDiffers { oid }) };
        }
        let written =
            self.session.client().execute("SELECT lo_put($1, $2, $3)", &[&oid, &offset, &bytes]).await;
        written.map_err(|error| {
            super::statement_error(self.session, format!("writing large object {oid}"), error)
        })?;
        Ok(())
    }
}

fn malformed(why: impl Into<String>) -> TargetError {
    TargetError::LargeObjectsMalformed { why: why.into() }
}
