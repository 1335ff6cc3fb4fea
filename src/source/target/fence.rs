//! One restore at a time into one target: an advisory lock, held by a session for the whole restore.
//!
//! Advisory locks belong to the database that the session is connected to. The fence of a new database is
//! taken in the database that the endpoint names (the new one can't be renamed while somebody is connected to
//! it), that of an existing one in itself. Two restores that connect by different databases don't see each
//! other's fence; the unfinished database's own name and the last rename still keep them apart.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::TargetError;
use crate::source::connection::{ClientEncoding, Session};
use crate::source::endpoint::EndpointConfig;

/// A restore that was just killed leaves its session to the server for as long as the server takes to notice:
/// tried again this often, for [`Fence::DEFAULT_PATIENCE`].
const RETRY: Duration = Duration::from_millis(250);

/// The lock, held as long as this lives.
#[derive(Debug)]
pub struct Fence {
    session: Session,
    name: String,
}

impl Fence {
    /// Killing a process closes its sockets at once, and the server sees it with the end of the statement that
    /// it is at; a longer wait only helps where that is a long one.
    pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

    /// Takes the lock on restores into `name`, a database's name, in the database of `endpoint`.
    ///
    /// # Errors
    /// [`TargetError::Fenced`] names who holds it after `patience`.
    pub async fn acquire(
        endpoint: &EndpointConfig,
        name: &str,
        patience: Duration,
    ) -> Result<Self, TargetError> {
        let session = Session::connect(endpoint, "fence", &ClientEncoding::Utf8).await?;
        let key = key(name);
        let doing = "taking the lock on the target";
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let row = session.client().query_one("SELECT pg_try_advisory_lock($1)", &[&key]).await;
            if row.map_err(|error| session.error(doing, error))?.get(0) {
                return Ok(Self { session, name: name.to_owned() });
            }
            if tokio::time::Instant::now() >= deadline {
                let holder = holder(&session, key).await?;
                return Err(TargetError::Fenced { name: name.to_owned(), holder });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Asks the server whether the lock is still held. To be asked before anything that can't be undone.
    ///
    /// # Errors
    /// [`TargetError::FenceLost`]: stop.
    pub async fn check(&self) -> Result<(), TargetError> {
        self.session
            .ping()
            .await
            .map_err(|error| TargetError::FenceLost { name: self.name.clone(), source: error.into() })
    }

    /// Whether the session still stands, as far as this side knows.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.session.is_open()
    }

    /// Ends the session, and the lock with it.
    ///
    /// # Errors
    /// [`TargetError::FenceLost`] if it had been lost before.
    pub async fn release(self) -> Result<(), TargetError> {
        let Self { session, name } = self;
        session.close().await.map_err(|error| TargetError::FenceLost { name, source: error.into() })
    }
}

/// The lock's key: the first eight bytes of a SHA-256 over our word and the name, so that it meets nobody
/// else's keys by design, which tend to be small numbers.
fn key(name: &str) -> i64 {
    let digest = Sha256::new().chain_update(b"vouchsafe restore\0").chain_update(name.as_bytes()).finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(bytes)
}

async fn holder(session: &Session, key: i64) -> Result<String, TargetError> {
    let rows = session
        .client()
        .query(
            "SELECT l.pid, coalesce(a.usename, '?')::text, coalesce(host(a.client_addr), 'local')::text,
                    coalesce(a.backend_start::text, '?')
               FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
              WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND (l.classid::int8 << 32 | l.objid::int8) = $1",
            &[&key],
        )
        .await
        .map_err(|error| session.error("asking who holds the target", error))?;
    Ok(rows
        .first()
        .map(|row| {
            let (pid, user, address, since): (i32, String, String, String) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            format!("pid {pid} of role {user}, from {address}, since {since}")
        })
        .unwrap_or_else(|| "a session that has just ended".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable() {
        // A restore of another version must meet the same lock.
        assert_eq!(key("shop"), key("shop"));
        assert_ne!(key("shop"), key("shop2"));
    }
}
