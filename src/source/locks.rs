//! The locks that keep tables as they were planned: ACCESS SHARE on every one, within limits.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::catalog::{Standing, standing};
use super::connection::{ClientEncoding, Session};
use super::endpoint::EndpointConfig;
use super::error::{Blocker, SourceError};
use super::relations::{Relation, Relations};

/// How long locks are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockLimits {
    /// `lock_timeout` of one try, in whole milliseconds. While we wait for a lock that an ALTER holds or
    /// waits for, nobody suffers; but what we hold already makes the next ALTER wait, and everybody behind it:
    /// so a try is short, and everything is released between tries.
    pub try_timeout: Duration,
    /// How long everything is released between tries: time for the statements that queued behind us.
    pub pause: Duration,
    /// Tries before giving up.
    pub tries: u32,
}

impl Default for LockLimits {
    /// 20 tries of 5 s with 3 s in between: an application's ALTER has some 2½ minutes to get done.
    fn default() -> Self {
        Self { try_timeout: Duration::from_secs(5), pause: Duration::from_secs(3), tries: 20 }
    }
}

/// Tables per LOCK statement: keeps statements far below the limit of a message (1 GB) and of the parser's
/// memory; the time limit is per lock, not per statement.
const TABLES_PER_STATEMENT: usize = 1_000;

/// How often somebody is asked who stands in our way: a few times within a try.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Holds ACCESS SHARE on every ordinary and partitioned table. It neither takes a snapshot nor blocks the
/// creation of slots: its transaction has no xid.
#[derive(Debug)]
pub struct LockHolder {
    session: Session,
    standing: Standing,
}

impl LockHolder {
    /// Locks all tables, parents before children: with a locked leaf, an ALTER of its parent would wait for us
    /// while pg_dump waits for the ALTER, for ever.
    ///
    /// # Errors
    /// [`SourceError::LockTimeout`] naming who is in the way, [`SourceError::PrivilegesMissing`],
    /// [`SourceError::LocksExhausted`], [`SourceError::CatalogChanged`] if tables come and go all the time.
    pub async fn acquire(endpoint: &EndpointConfig, limits: LockLimits) -> Result<Self, SourceError> {
        let session = Session::connect(endpoint, "locks", &ClientEncoding::Utf8).await?;
        let watcher = Session::connect(endpoint, "lock watch", &ClientEncoding::Utf8).await?;
        let pid: i32 = session
            .client()
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .map_err(|error| session.error("asking for the backend's process id", error))?
            .get(0);
        let mut last = None;
        for attempt in 1..=limits.tries.max(1) {
            if attempt > 1 {
                tokio::time::sleep(limits.pause).await;
            }
            let begin = format!("BEGIN; SET LOCAL lock_timeout = {}", limits.try_timeout.as_millis().max(1));
            session.run("opening the transaction of the locks", &begin).await?;
            let (result, blockers) = {
                let locking = lock_all(&session);
                tokio::pin!(locking);
                watch(&mut locking, &watcher, pid).await
            };
            match result? {
                Attempt::Locked(standing) => {
                    // The transaction goes on for hours: nothing that runs in it later may wait any longer.
                    watcher.close().await?;
                    return Ok(Self { session, standing });
                }
                Attempt::TimedOut(table) => {
                    session.run("releasing the locks", "ROLLBACK").await?;
                    last = Some(SourceError::LockTimeout {
                        doing: format!("locking {table}"),
                        tries: attempt,
                        blockers,
                    });
                }
                Attempt::Moved(what) => {
                    session.run("releasing the locks", "ROLLBACK").await?;
                    last = Some(SourceError::CatalogChanged { what });
                }
            }
        }
        Err(last.unwrap_or_else(|| SourceError::CatalogChanged { what: "no try was allowed".into() }))
    }

    /// Tables that are locked, with their relfilenodes at that time.
    pub(crate) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// OIDs of the tables that are locked.
    #[must_use]
    pub fn table_oids(&self) -> Vec<u32> {
        self.standing.keys().copied().collect()
    }

    /// How many tables are locked.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.standing.len()
    }

    /// Whether the locks are still held, as far as this side knows.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.session.is_open()
    }

    /// Asks the server whether the locks are still held.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if not.
    pub async fn check(&self) -> Result<(), SourceError> {
        self.session.ping().await
    }

    /// Releases the locks, and ends the session.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if the connection had failed: then the locks were gone before.
    pub async fn release(self) -> Result<(), SourceError> {
        self.session.run("releasing the locks", "ROLLBACK").await?;
        self.session.close().await
    }
}

enum Attempt {
    Locked(Standing),
    /// Somebody holds, or waits for, a stronger lock on one of these.
    TimedOut(String),
    /// A table vanished between listing and locking, or another one came.
    Moved(String),
}

async fn lock_all(session: &Session) -> Result<Attempt, SourceError> {
    let before = Relations::list(session).await?;
    let grants = before.missing_grants(session.user());
    if !grants.is_empty() {
        return Err(SourceError::PrivilegesMissing { user: session.user().to_owned(), grants });
    }
    let tables: Vec<&Relation> = before.tables().collect();
    for batch in tables.chunks(TABLES_PER_STATEMENT) {
        let names: Vec<String> = batch.iter().map(|table| format!("ONLY {}", table.name.quoted())).collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        let Err(error) = session.client().batch_execute(&sql).await else { continue };
        let described = match batch {
            [one] => one.name.to_string(),
            [first, .., last] => format!("{} tables from {} to {}", batch.len(), first.name, last.name),
            [] => String::new(),
        };
        return match error.code() {
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Ok(Attempt::TimedOut(described)),
            // Dropped since it was listed; its schema, too; or it has become a view.
            Some(code)
                if [
                    &SqlState::UNDEFINED_TABLE,
                    &SqlState::INVALID_SCHEMA_NAME,
                    &SqlState::WRONG_OBJECT_TYPE,
                ]
                .contains(&code) =>
            {
                Ok(Attempt::Moved(format!("one of {described} is gone")))
            }
            Some(code) if *code == SqlState::T_R_DEADLOCK_DETECTED => Ok(Attempt::TimedOut(described)),
            Some(code) if *code == SqlState::OUT_OF_MEMORY => {
                Err(SourceError::LocksExhausted { tables: tables.len(), source: error.into() })
            }
            _ => Err(session.error(format!("locking {described}"), error)),
        };
    }
    // Names were locked; what had that name may have been another table by then.
    let after = standing(&Relations::list(session).await?);
    match difference(&standing(&before), &after) {
        None => Ok(Attempt::Locked(after)),
        Some(what) => Ok(Attempt::Moved(what)),
    }
}

/// The first difference between two listings, in words.
pub(crate) fn difference(locked: &Standing, now: &Standing) -> Option<String> {
    for (oid, (name, file)) in locked {
        match now.get(oid) {
            None => return Some(format!("{name} is gone")),
            Some((other, _)) if other != name => return Some(format!("{name} is now {other}")),
            Some((_, other)) if other != file => {
                return Some(format!("{name} was rewritten (relfilenode {file}, now {other})"));
            }
            Some(_) => {}
        }
    }
    now.iter().find(|(oid, _)| !locked.contains_key(oid)).map(|(_, (name, _))| format!("{name} is new"))
}

/// Drives `locking` to its end, and keeps asking who blocks it meanwhile: afterwards nobody knows.
async fn watch<F: Future + Unpin>(locking: &mut F, watcher: &Session, pid: i32) -> (F::Output, Vec<Blocker>) {
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            done = &mut *locking => return (done, seen),
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        tokio::select! {
            done = &mut *locking => return (done, seen),
            // Who is in the way is for the message only; that it can't be told fails nothing.
            Ok(blockers) = blockers(watcher, pid) => if !blockers.is_empty() { seen = blockers },
            else => {}
        }
    }
}

/// Who stands in the way of backend `pid`: holders of locks, and those who wait before it.
pub(crate) async fn blockers(watcher: &Session, pid: i32) -> Result<Vec<Blocker>, SourceError> {
    let rows = watcher
        .client()
        .query(
            "SELECT b.pid, coalesce(a.usename::text, '?'),
                    coalesce(a.state || ': ', '') || left(coalesce(a.query, '?'), $2)
               FROM unnest(pg_blocking_pids($1)) AS b (pid)
               LEFT JOIN pg_stat_activity a ON a.pid = b.pid
              WHERE b.pid <> 0
              UNION ALL
             SELECT NULL, p.gid || ' of ' || p.owner::text, ''
               FROM pg_prepared_xacts p
              WHERE 0 = ANY (pg_blocking_pids($1)) AND p.database = current_database()",
            &[&pid, &i32::try_from(Blocker::QUERY_CHARACTERS).unwrap_or(i32::MAX)],
        )
        .await
        .map_err(|error| watcher.error("asking who holds the locks", error))?;
    Ok(rows
        .into_iter()
        .map(|row| Blocker { pid: row.get(0), owner: row.get(1), query: row.get(2) })
        .collect())
}
