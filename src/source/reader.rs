//! A worker's session: imports the snapshot, makes sure of its tables, and reads them.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use tokio_postgres::Client;

use crate::format::relation::{SpanRange, TableFacts};

use super::catalog::ExportTable;
use super::connection::{ClientEncoding, Session, quote_literal};
use super::endpoint::EndpointConfig;
use super::error::{Blocker, SourceError};
use super::statements::{Dialect, bounds_statement, copy_statement, count_statement, hash_statement};
use super::tap::CopyOut;

/// How long, and how often, a reader waits for its lock on a table. Nobody holds what conflicts with it, as long as
/// the coordinator's locks are held; but somebody may wait for ACCESS EXCLUSIVE, and we queue behind him. NOWAIT
/// would fail at once, and again each time that a careful migration tries (it sets a time limit of a second or so,
/// and repeats): in the queue, our turn comes when his limit has passed. Without one he waits for the
/// coordinator, which waits for us: so we give up.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_TRIES: u32 = 5;

/// Planning a query locks the table's indexes, which a REINDEX holds exclusively while it works. It ends: so it
/// is waited for, but not for ever.
const INDEX_LOCK_WAIT: Duration = Duration::from_secs(600);

/// Every scan is bracketed by a savepoint and a rollback to it, which gives the locks on indexes back. Held until
/// the end of the backup, they would make a REINDEX wait for us, and every writer of the table for the REINDEX.
const BEFORE_SCAN: &str = "SAVEPOINT scan";
/// The SELECT fails if the scan did: a rollback alone would succeed.
const AFTER_SCAN: &str = "SELECT 1; ROLLBACK TO scan; RELEASE scan";

/// A session that reads tables in the snapshot of another one.
///
/// Text arrives in the database's own encoding, unconverted.
#[derive(Debug)]
pub struct Reader {
    session: Session,
    dialect: Dialect,
    own_snapshot: String,
    adopted: Mutex<HashSet<u32>>,
}

impl Reader {
    /// Connects and imports the snapshot `id`.
    ///
    /// # Errors
    /// [`SourceError::SnapshotLost`] if its exporter has ended; whatever connecting may fail with.
    pub async fn open(endpoint: &EndpointConfig, id: &str) -> Result<Self, SourceError> {
        let session = Session::connect(endpoint, "reader", &ClientEncoding::Server).await?;
        session
            .run("opening a reader's transaction", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let sql = format!("SET TRANSACTION SNAPSHOT {}", quote_literal(id));
        if let Err(error) = session.client().batch_execute(&sql).await {
            // "invalid snapshot identifier" and "snapshot … does not exist" are both errors of the one who asks.
            return Err(if error.code().is_some() {
                SourceError::SnapshotLost { id: id.to_owned(), source: error.into() }
            } else {
                session.error("importing the snapshot", error)
            });
        }
        // Whatever index is damaged, no row is missed: a sequential scan reads the heap alone.
        let sql = format!("{INDEXES_OFF}; SET lock_timeout = '{}s'", INDEX_LOCK_WAIT.as_secs());
        session.run("leaving indexes out", &sql).await?;
        let row = session
            .client()
            .query_one("SELECT pg_export_snapshot()", &[])
            .await
            .map_err(|error| session.error("exporting the reader's snapshot", error))?;
        let dialect = Dialect::of(session.server_encoding());
        Ok(Self { own_snapshot: row.get(0), dialect, session, adopted: Mutex::default() })
    }

    /// The identifier under which this session exports the same snapshot again: it works as long as this session
    /// lives, also when the first exporter has gone.
    #[must_use]
    pub fn own_snapshot(&self) -> &str {
        &self.own_snapshot
    }

    /// The session, for other queries within the snapshot. Names arrive in the database's encoding.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Locks tables for as long as this session lives, and makes sure that each is still in the file that was
    /// planned. Best called with all tables before the first one is read: from then on, this session needs
    /// neither the coordinator nor its locks.
    ///
    /// The comparison matters if the coordinator's locks were gone for a moment: after a TRUNCATE or a rewrite an
    /// old snapshot sees no rows, and every count agrees that there are none.
    ///
    /// # Errors
    /// [`SourceError::LockTimeout`], [`SourceError::RelationRewritten`], [`SourceError::RelationMissing`].
    pub async fn adopt<'a>(
        &self,
        tables: impl IntoIterator<Item = &'a TableFacts>,
    ) -> Result<(), SourceError> {
        for table in tables {
            if !self.is_adopted(table.oid) {
                self.lock(table).await?;
                self.compare_file(table).await?;
                self.adopted.lock().unwrap_or_else(PoisonError::into_inner).insert(table.oid);
            }
        }
        Ok(())
    }

    fn is_adopted(&self, oid: u32) -> bool {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).contains(&oid)
    }

    async fn lock(&self, table: &TableFacts) -> Result<(), SourceError> {
        let doing = format!("locking {}", table.name);
        let sql = format!(
            "SET LOCAL lock_timeout = {}; SAVEPOINT v; LOCK TABLE ONLY {} IN ACCESS SHARE MODE; RELEASE v;
             SET LOCAL lock_timeout = {}",
            LOCK_WAIT.as_millis(),
            self.dialect.relation(&table.name),
            INDEX_LOCK_WAIT.as_millis()
        );
        let mut blockers = Vec::new();
        for _ in 0..LOCK_TRIES {
            let Err(error) = self.session.client().batch_execute(&sql).await else { return Ok(()) };
            match error.code().map(|code| code.code()) {
                Some("55P03") => self.session.run(&doing, "ROLLBACK TO v; RELEASE v").await?,
                Some("42P01" | "3F000" | "42809") => {
                    return Err(SourceError::RelationMissing { table: table.name.clone() });
                }
                _ => return Err(self.session.error(doing, error)),
            }
            let seen = self.waiters(table.oid).await?;
            if !seen.is_empty() {
                blockers = seen;
            }
        }
        Err(SourceError::LockTimeout { doing, tries: LOCK_TRIES, blockers })
    }

    /// Who waits for, or holds, the exclusive lock on a table.
    async fn waiters(&self, oid: u32) -> Result<Vec<Blocker>, SourceError> {
        let rows = self
            .session
            .client()
            .query(
                "SELECT l.pid, coalesce(a.usename::text, '?'), left(coalesce(a.query, '?'), $2)
                   FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
                  WHERE l.locktype = 'relation' AND l.relation = $1 AND l.mode = 'AccessExclusiveLock'
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                &[&oid, &i32::try_from(Blocker::QUERY_CHARACTERS).unwrap_or(i32::MAX)],
            )
            .await
            .map_err(|error| self.session.error("asking who holds the lock", error))?;
        Ok(rows
            .into_iter()
            .map(|row| Blocker { pid: row.get(0), owner: row.get(1), query: row.get(2) })
            .collect())
    }

    /// `pg_relation_filenode` reads the system caches, so it tells the current file also in an old snapshot;
    /// `pg_class.relfilenode` would tell the one of the snapshot.
    async fn compare_file(&self, table: &TableFacts) -> Result<(), SourceError> {
        let doing = || format!("asking for the file of {}", table.name);
        let named = self.dialect.literal(&table.name.quoted());
        let sql = format!("SELECT pg_relation_filenode($1::oid), to_regclass({named})::oid");
        let row = self.session.client().query_one(&sql, &[&table.oid]).await;
        let row = row.map_err(|error| self.session.error(doing(), error))?;
        let (file, named): (Option<u32>, Option<u32>) = (row.get(0), row.get(1));
        let missing = || SourceError::RelationMissing { table: table.name.clone() };
        let found = file.ok_or_else(missing)?;
        if named != Some(table.oid) {
            return Err(missing());
        }
        if found != table.relfilenode {
            return Err(SourceError::RelationRewritten {
                table: table.name.clone(),
                planned: table.relfilenode,
                found,
            });
        }
        Ok(())
    }

    /// Starts to read a span. The stream is COPY's own format, cut as the server sends it; it ends only after the
    /// server has confirmed that the statement succeeded. One stream at a time; the reader of an abandoned one has
    /// to be dropped (that closes the socket; the server notices).
    ///
    /// # Errors
    /// Those of [`Reader::adopt`]; a failed statement, [`SourceError::RowSecurityFilters`] among them.
    pub async fn copy_out(&self, table: &TableFacts, range: &SpanRange) -> Result<CopyStream, SourceError> {
        self.adopt([table]).await?;
        let doing = format!("copying {}", table.name);
        let sql = copy_statement(&self.dialect, table, range)?;
        let by_index = matches!(range, SpanRange::Keys { .. });
        self.copy(&sql, doing, by_index, |error, doing| self.error(table, doing, error)).await
    }

    /// A COPY of pages of large objects: in the order of their index.
    pub(super) async fn copy_by_index(&self, sql: &str, doing: String) -> Result<CopyStream, SourceError> {
        self.copy(sql, doing, true, |error, doing| self.session.error(doing, error)).await
    }

    async fn copy(
        &self,
        sql: &str,
        doing: String,
        by_index: bool,
        refused: impl Fn(tokio_postgres::Error, &str) -> SourceError,
    ) -> Result<CopyStream, SourceError> {
        // What is set after the savepoint ends with it.
        let before = if by_index { format!("{BEFORE_SCAN}; {INDEXES_ON}") } else { BEFORE_SCAN.to_owned() };
        self.session.run(&doing, &before).await?;
        let client = self.session.shared_client();
        let rows = self.session.copy_out(sql).await.map_err(|error| refused(error, &doing))?;
        let user = self.session.user().to_owned();
        Ok(CopyStream { state: CopyState::Rows(rows), client, doing, user })
    }

    /// Counts the rows of a table, by a sequential scan: an index may be damaged in just the way that would make
    /// a key range and an index-only count agree on too few rows.
    ///
    /// # Errors
    /// Those of [`Reader::adopt`]; a failed statement.
    pub async fn count(&self, table: &TableFacts) -> Result<u64, SourceError> {
        self.adopt([table]).await?;
        let sql = count_statement(&self.dialect, table)?;
        let row = self.query_one(table, "counting", &sql).await?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// Rows of a span, and the sum of a hash of each that the server computes: shares no code with fingerprints,
    /// so it can tell equal spans from a reader that reads one of them twice.
    ///
    /// # Errors
    /// Those of [`Reader::adopt`]; a failed statement.
    pub async fn hash_sum(&self, table: &TableFacts, range: &SpanRange) -> Result<ServerHash, SourceError> {
        self.adopt([table]).await?;
        let sql = hash_statement(&self.dialect, table, range)?;
        let row = self.query_one(table, "hashing", &sql).await?;
        Ok(ServerHash { rows: row.get::<_, i64>(0).unsigned_abs(), sum: row.get(1) })
    }

    async fn query_one(
        &self,
        table: &TableFacts,
        verb: &str,
        sql: &str,
    ) -> Result<tokio_postgres::Row, SourceError> {
        let doing = format!("{verb} {}", table.name);
        self.session.run(&doing, BEFORE_SCAN).await?;
        let answer = self.session.client().query_one(sql, &[]).await;
        let answer = answer.map_err(|error| self.error(table, &doing, error))?;
        self.session.run(&doing, AFTER_SCAN).await?;
        Ok(answer)
    }

    fn error(&self, table: &TableFacts, doing: &str, error: tokio_postgres::Error) -> SourceError {
        let row_security = error
            .as_db_error()
            .is_some_and(|db| db.code().code() == "42501" && db.routine() == Some("check_enable_rls"));
        if row_security {
            return SourceError::RowSecurityFilters {
                table: table.name.clone(),
                user: self.session.user().to_owned(),
            };
        }
        self.session.error(doing, error)
    }

    /// Bounds that cut a table into about `pieces` key ranges of equal row counts, ascending, without the open
    /// ends: from a sample of blocks. Fewer bounds than asked for, or none, come back from tables without a key, with
    /// few rows, or whose keys repeat.
    ///
    /// # Errors
    /// Those of [`Reader::adopt`]; a failed statement.
    pub async fn key_bounds(&self, export: &ExportTable, pieces: u32) -> Result<Vec<String>, SourceError> {
        let table = &export.facts;
        self.adopt([table]).await?;
        let Some(key) = export.key.as_ref().filter(|_| pieces > 1) else { return Ok(Vec::new()) };
        let sql = bounds_statement(&self.dialect, export, key, pieces);
        let doing = format!("sampling keys of {}", table.name);
        self.session.run(&doing, BEFORE_SCAN).await?;
        let rows = self.session.client().query(&sql, &[]).await;
        let rows = rows.map_err(|error| self.error(table, &doing, error))?;
        self.session.run(&doing, AFTER_SCAN).await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Ends the transaction and the session.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if the connection had failed.
    pub async fn close(self) -> Result<(), SourceError> {
        self.session.run("ending a reader's transaction", "ROLLBACK").await?;
        self.session.close().await
    }
}

const INDEXES_OFF: &str =
    "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off";
/// Key ranges on 13 would read the whole table for each range without their index; the sequential count shows
/// if the index had holes.
const INDEXES_ON: &str = "SET enable_indexscan = on; SET enable_bitmapscan = on";

/// A hash over rows, computed by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHash {
    /// Rows counted.
    pub rows: u64,
    /// `sum(hashtextextended(ROW(columns)::text, 0)::numeric)`, as text; `None` over no rows.
    pub sum: Option<String>,
}

enum CopyState {
    Rows(CopyOut),
    /// All rows have come; the server is asked whether it agrees.
    Confirming(BoxFuture<'static, Result<(), tokio_postgres::Error>>),
    Done,
}

/// The bytes of a COPY.
pub struct CopyStream {
    state: CopyState,
    client: Arc<Client>,
    doing: String,
    user: String,
}

impl std::fmt::Debug for CopyStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyStream").field("doing", &self.doing).finish_non_exhaustive()
    }
}

impl Stream for CopyStream {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let result = match &mut self.state {
                CopyState::Rows(rows) => match ready!(Pin::new(rows).poll_next(cx)) {
                    Some(Ok(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                    Some(Err(error)) => Err(error),
                    // tokio-postgres ends the stream at CopyDone and drops what follows: an error after it would
                    // be lost. In a failed transaction the next statement fails, so it is asked for.
                    None => {
                        let client = Arc::clone(&self.client);
                        self.state =
                            CopyState::Confirming(Box::pin(
                                async move { client.batch_execute(AFTER_SCAN).await },
                            ));
                        continue;
                    }
                },
                CopyState::Confirming(answer) => ready!(answer.as_mut().poll(cx)),
                CopyState::Done => return Poll::Ready(None),
            };
            self.state = CopyState::Done;
            return Poll::Ready(match result {
                Ok(()) => None,
                Err(error) => Some(Err(SourceError::from_statement(self.doing.clone(), &self.user, error))),
            });
        }
    }
}
