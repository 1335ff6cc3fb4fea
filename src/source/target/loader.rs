//! Rows into tables: COPY FROM STDIN, one table at a time on each connection.

use std::pin::Pin;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::CopyInSink;
use tokio_postgres::error::SqlState;

use super::error::TargetError;
use crate::format::relation::{QualifiedName, TableFacts};
use crate::source::connection::{ClientEncoding, Session};
use crate::source::endpoint::EndpointConfig;
use crate::source::statements::Dialect;

/// A connection that loads.
#[derive(Debug)]
pub struct Loader {
    session: Session,
    dialect: Dialect,
    /// A load that wasn't finished leaves the session in the middle of something: it is never used again.
    failed: bool,
}

impl Loader {
    /// Connects. `encoding` is the one in which the rows were copied out, by its PostgreSQL name: the server
    /// converts from it, and a wrong one would be wrong silently.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn connect(endpoint: &EndpointConfig, encoding: &str) -> Result<Self, TargetError> {
        let session =
            Session::connect(endpoint, "loader", &ClientEncoding::Named(encoding.to_owned())).await?;
        // The rename at the end of the restore is committed synchronously, and all before it is flushed then.
        session.run("setting synchronous_commit", "SET synchronous_commit = off").await?;
        Ok(Self { session, dialect: Dialect::of(encoding), failed: false })
    }

    /// Begins to add rows to `table`; they come by [`TableLoad::write`], in the table's recorded format.
    ///
    /// # Errors
    /// The server refuses the statement; [`TargetError::LoaderFailed`] after an earlier failure.
    pub async fn begin<'a>(&'a mut self, table: &'a TableFacts) -> Result<TableLoad<'a>, TargetError> {
        self.claim(table)?;
        self.copy(table, false).await
    }

    /// Begins to load all rows of `table`, in one transaction that empties it first: so its rows are written
    /// frozen, and neither the next reader nor a later vacuum has to rewrite them. Nobody else may touch the table
    /// meanwhile.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin); [`TargetError::TableNotEmpty`].
    pub async fn begin_whole<'a>(&'a mut self, table: &'a TableFacts) -> Result<WholeLoad<'a>, TargetError> {
        self.claim(table)?;
        let into = self.dialect.relation(&table.name);
        let doing = format!("emptying {}", table.name);
        // Rows that somebody put there since it was made are not for us to drop, and would not be missed later.
        let lock = format!("BEGIN; LOCK TABLE ONLY {into} IN ACCESS EXCLUSIVE MODE");
        self.session.run(&doing, &lock).await?;
        let any = self.session.client().query_opt(&format!("SELECT FROM ONLY {into} LIMIT 1"), &[]).await;
        if any.map_err(|error| refused(&self.session, table, error))?.is_some() {
            return Err(TargetError::TableNotEmpty { table: table.name.clone() });
        }
        self.session.run(&doing, &format!("TRUNCATE ONLY {into}")).await?;
        Ok(WholeLoad { loader: self, table })
    }

    /// Whether [`begin_whole`](Self::begin_whole) fits: not where the extension's own rows stay, and not through a
    /// root, which other leaves' rows come through as well.
    #[must_use]
    pub const fn fits_whole(table: &TableFacts) -> bool {
        table.extension_condition.is_none() && !table.load_through_root
    }

    /// Marks the loader as failed until the load is finished: a future that is dropped anywhere leaves it so.
    fn claim(&mut self, table: &TableFacts) -> Result<(), TargetError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(TargetError::LoaderFailed { table: table.name.clone() });
        }
        Ok(())
    }

    async fn copy<'a>(
        &'a mut self,
        table: &'a TableFacts,
        within_transaction: bool,
    ) -> Result<TableLoad<'a>, TargetError> {
        let statement = copy_in(self.dialect, table, within_transaction);
        let sink = self.session.client().copy_in(&statement).await;
        let sink = sink.map_err(|error| refused(&self.session, table, error))?;
        Ok(TableLoad { loader: self, table, sink: Box::pin(sink), within_transaction })
    }

    /// Deletes the rows that CREATE EXTENSION put into a configuration table, which the rows of the backup
    /// replace. Once per table, before its first [`Loader::begin`]; nothing is done to other tables.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn clear_extension_rows(&mut self, table: &TableFacts) -> Result<(), TargetError> {
        let Some(condition) = &table.extension_condition else { return Ok(()) };
        // The condition is the extension's own text, `WHERE …`; pg_dump appends it likewise.
        let sql = format!("DELETE FROM ONLY {} {condition}", self.dialect.relation(&table.name));
        Ok(self.session.run(&format!("clearing {}", table.name), &sql).await?)
    }

    /// Ends the session in good order.
    ///
    /// # Errors
    /// The connection had failed.
    pub async fn close(self) -> Result<(), TargetError> {
        Ok(self.session.close().await?)
    }
}

/// Where the rows of `table` go: a partition by a hash that changes from server to server is reached through
/// its root, which sends each row where it belongs here.
fn destination(table: &TableFacts) -> &QualifiedName {
    match &table.partition_root {
        Some(root) if table.load_through_root => root,
        _ => &table.name,
    }
}

fn copy_in(dialect: Dialect, table: &TableFacts, freeze: bool) -> String {
    // `t()` is a syntax error; without a list all columns are meant, generated ones excluded.
    let columns = if table.columns.is_empty() {
        String::new()
    } else {
        let names: Vec<_> = table.columns.iter().map(|name| dialect.identifier(name)).collect();
        format!(" ({})", names.join(", "))
    };
    format!(
        "COPY {}{columns} FROM STDIN (FORMAT {}{})",
        dialect.relation(destination(table)),
        table.format.keyword(),
        if freeze { ", FREEZE" } else { "" }
    )
}

/// A table on its way, in a transaction. Dropped before [`WholeLoad::commit`], the load is undone by the server,
/// and the loader is of no more use.
#[must_use = "a load that isn't committed is rolled back"]
#[derive(Debug)]
pub struct WholeLoad<'a> {
    loader: &'a mut Loader,
    table: &'a TableFacts,
}

impl WholeLoad<'_> {
    /// Begins the next of the table's rows.
    ///
    /// # Errors
    /// The server refuses the statement.
    pub async fn begin(&mut self) -> Result<TableLoad<'_>, TargetError> {
        self.loader.copy(self.table, true).await
    }

    /// Commits all rows.
    ///
    /// # Errors
    /// The server refuses, also after a failed or unfinished [`TableLoad`]: then none of this load stays.
    pub async fn commit(self) -> Result<(), TargetError> {
        let doing = format!("committing the rows of {}", self.table.name);
        // In a failed transaction COMMIT would roll back, and say so in a tag that nobody reads.
        self.loader.session.run(&doing, "SELECT 1").await?;
        self.loader.session.run(&doing, "COMMIT").await?;
        self.loader.failed = false;
        Ok(())
    }
}

/// Rows of one table on their way. Dropped before [`TableLoad::finish`], the load is undone by the server, and
/// the loader is of no more use.
#[must_use = "rows that aren't finished are rolled back"]
pub struct TableLoad<'a> {
    loader: &'a mut Loader,
    table: &'a TableFacts,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    within_transaction: bool,
}

impl TableLoad<'_> {
    /// Sends the next bytes. They may end anywhere, also within a row.
    ///
    /// # Errors
    /// The server refused what came before. Nothing that was sent in this load stays.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), TargetError> {
        let sent = self.sink.send(bytes).await;
        sent.map_err(|error| refused(&self.loader.session, self.table, error))
    }

    /// Ends the rows; returns how many the server took. They are committed, unless they are part of a
    /// [`WholeLoad`].
    ///
    /// # Errors
    /// The server refused a row or the commit: then none of this load stays.
    pub async fn finish(mut self) -> Result<u64, TargetError> {
        let finished = self.sink.as_mut().finish().await;
        let rows = finished.map_err(|error| refused(&self.loader.session, self.table, error))?;
        if !self.within_transaction {
            self.loader.failed = false;
        }
        Ok(rows)
    }
}

impl std::fmt::Debug for TableLoad<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableLoad").field("table", &self.table.name).finish_non_exhaustive()
    }
}

/// Sorts what COPY was answered.
fn refused(session: &Session, table: &TableFacts, error: tokio_postgres::Error) -> TargetError {
    let doing = format!("loading {}", table.name);
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => TargetError::DiskFull { doing, source: error.into() },
        // Data exceptions and violated constraints: the rows themselves.
        Some(code) if code.code().starts_with("22") || code.code().starts_with("23") => {
            let context = error.as_db_error().and_then(|error| error.where_()).and_then(line_of);
            TargetError::RowsRefused { table: table.name.clone(), context, source: error.into() }
        }
        _ => session.error(doing, error).into(),
    }
}

/// `line N` of COPY's context, which goes on with the value itself.
fn line_of(context: &str) -> Option<String> {
    let (_, rest) = context.rsplit_once(", line ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then(|| format!("line {digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::relation::CopyFormat;

    fn table() -> TableFacts {
        TableFacts {
            name: QualifiedName::new("s", "leaf"),
            oid: 1,
            relfilenode: 1,
            columns: vec!["a\"b".into(), "t".into()],
            format: CopyFormat::Text,
            bytes: 0,
            blocks: 0,
            extension_condition: None,
            partition_root: Some(QualifiedName::new("s", "root")),
            load_through_root: false,
            load_after_indexes: false,
            unlogged: false,
        }
    }

    #[test]
    fn statements_name_every_column_and_the_right_relation() {
        let mut table = table();
        assert_eq!(
            copy_in(Dialect::of("UTF8"), &table, true),
            r#"COPY "s"."leaf" ("a""b", "t") FROM STDIN (FORMAT text, FREEZE)"#
        );
        table.load_through_root = true;
        table.columns.clear();
        table.format = CopyFormat::Binary;
        assert_eq!(
            copy_in(Dialect::of("UTF8"), &table, false),
            r#"COPY "s"."root" FROM STDIN (FORMAT binary)"#
        );
    }

    #[test]
    fn messages_name_the_line_and_not_the_value() {
        assert_eq!(line_of("COPY t, line 3, column a: \"secret\"").as_deref(), Some("line 3"));
        assert_eq!(line_of("SQL function \"f\""), None);
    }
}
