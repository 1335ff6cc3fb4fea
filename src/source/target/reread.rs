//! Rows of the restored database, read again: what verification hashes.
//!
//! The database is ours alone, so there are neither locks nor a snapshot to share. The encoding is the one in
//! which the rows were copied at the source, whatever the target's is.

use bytes::Bytes;
use futures::TryStreamExt;

use super::error::TargetError;
use crate::format::relation::{SpanRange, TableFacts};
use crate::source::connection::{ClientEncoding, Session, quote_literal};
use crate::source::endpoint::EndpointConfig;
use crate::source::statements::{Dialect, copy_statement};
use crate::source::tap::CopyOut;

/// A connection that reads back.
#[derive(Debug)]
pub struct Rereader {
    session: Session,
    dialect: Dialect,
    /// A reading that wasn't finished leaves the session in the middle of one.
    failed: bool,
}

impl Rereader {
    /// Connects, for rows that were copied out in `encoding`.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn connect(endpoint: &EndpointConfig, encoding: &str) -> Result<Self, TargetError> {
        let session =
            Session::connect(endpoint, "verify", &ClientEncoding::Named(encoding.to_owned())).await?;
        Ok(Self { session, dialect: Dialect::of(encoding), failed: false })
    }

    /// Blocks of a table's heap, for cutting it into ranges. Blocks can be scanned by range from 14 on; before,
    /// zero is answered: read the whole.
    ///
    /// # Errors
    /// A failed query.
    pub async fn blocks(&self, table: &TableFacts) -> Result<u32, TargetError> {
        if self.session.version_num() < 140_000 {
            return Ok(0);
        }
        // A parameter goes out as UTF-8.
        let encoding = self.session.client_encoding();
        let doing = format!("asking for the size of {}", table.name);
        self.session.run(&doing, "SET client_encoding = 'UTF8'").await?;
        let sql = "SELECT (pg_relation_size($1::text::regclass) / current_setting('block_size')::int8)::int8";
        let row = self.session.client().query_one(sql, &[&table.name.quoted()]).await;
        self.session.run(&doing, &format!("SET client_encoding = {}", quote_literal(encoding))).await?;
        let row = row.map_err(|error| self.session.error(doing, error))?;
        Ok(u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX))
    }

    /// Starts to read `table` in the format and the order of columns that were recorded. Row security that would
    /// hide rows is an error.
    ///
    /// # Errors
    /// The server refuses; [`TargetError::LoaderFailed`] after an earlier failure.
    pub async fn begin(&mut self, table: &TableFacts, range: &SpanRange) -> Result<Rows<'_>, TargetError> {
        if self.failed {
            return Err(TargetError::LoaderFailed { table: table.name.clone() });
        }
        self.failed = true;
        let doing = format!("reading {} back", table.name);
        let sql = copy_statement(&self.dialect, table, range)?;
        // A transaction, so that an error after the last row shows in the next statement.
        self.session.run(&doing, "BEGIN READ ONLY").await?;
        let stream = self.session.copy_out(&sql).await;
        let stream = stream.map_err(|error| self.session.error(doing.clone(), error))?;
        Ok(Rows { reader: self, stream, doing })
    }

    /// Ends the session in good order.
    ///
    /// # Errors
    /// The connection had failed.
    pub async fn close(self) -> Result<(), TargetError> {
        Ok(self.session.close().await?)
    }
}

/// One table's rows on their way back.
pub struct Rows<'a> {
    reader: &'a mut Rereader,
    stream: CopyOut,
    doing: String,
}

impl Rows<'_> {
    /// The next bytes of COPY's output; `None` only after the server has confirmed that all have come.
    ///
    /// # Errors
    /// The statement failed: what has come is not all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TargetError> {
        if !self.reader.failed {
            return Ok(None);
        }
        let next = self.stream.try_next().await;
        if let Some(bytes) = next.map_err(|error| self.reader.session.error(self.doing.clone(), error))? {
            return Ok(Some(bytes));
        }
        // tokio-postgres ends the stream at CopyDone, before the server has said that the statement succeeded.
        // In a failed transaction the next statement fails; ROLLBACK and COMMIT would not.
        self.reader.session.run(&self.doing, "SELECT 1").await?;
        self.reader.session.run(&self.doing, "COMMIT").await?;
        self.reader.failed = false;
        Ok(None)
    }
}

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("doing", &self.doing).finish_non_exhaustive()
    }
}
