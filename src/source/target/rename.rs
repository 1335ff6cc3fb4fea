//! The last step: a proven database gets its name.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::database::{NewDatabase, oid_of};
use super::error::TargetError;
use super::properties::DatabaseProperties;
use crate::format::relation::quote_identifier;
use crate::kill_point;
use crate::source::connection::{ClientEncoding, Session};

/// The server itself waits five seconds for the last sessions to go (`CountOtherDBBackends`); a second try is for
/// one that came in between.
const BUSY_TRIES: u32 = 2;
const PAUSE: Duration = Duration::from_millis(200);
/// A commit that waits for a synchronous standby may take its time: half a minute, then a person must look.
const SETTLE_TRIES: u32 = 150;

impl NewDatabase {
    /// Gives it its name, owner, settings, privileges and comment, all in one transaction, committed to disk:
    /// whoever sees the name sees the whole. Nobody may be connected to it.
    ///
    /// # Errors
    /// [`TargetError::DatabaseExists`] if the name was taken meanwhile; [`TargetError::DatabaseInUse`];
    /// [`TargetError::RenameUnknown`] if the connection broke at the commit and the server can't be asked. In
    /// the last case it may be renamed later; else the unfinished database stays as it is.
    pub async fn rename_into_place(self, properties: &DatabaseProperties) -> Result<(), TargetError> {
        let session = Session::connect(&self.maintenance, "restore", &ClientEncoding::Utf8).await?;
        let oid = oid_of(&session, &self.unfinished).await?.ok_or_else(|| TargetError::DatabaseNotOurs {
            name: self.unfinished.clone(),
            found: "it is gone".into(),
        })?;
        let doing = format!("renaming database {:?} to {:?}", self.unfinished, self.wanted);
        let backend = session.client().query_one("SELECT pg_backend_pid()", &[]).await;
        let backend: i32 = backend.map_err(|error| session.error(doing.clone(), error))?.get(0);
        self.begin(&session, &doing).await?;
        session.run(&doing, &properties.statements(&self.wanted)).await?;
        kill_point::passed("renaming", "database");
        // Once it is committed nothing can fail any more: the session is just dropped.
        let Err(error) = session.client().batch_execute("COMMIT").await else { return Ok(()) };
        if error.code().is_some() {
            return Err(session.error(doing, error).into());
        }
        if self.was_committed(oid, backend).await? { Ok(()) } else { Err(session.error(doing, error).into()) }
    }

    /// Begins the transaction, and renames in it.
    async fn begin(&self, session: &Session, doing: &str) -> Result<(), TargetError> {
        let (from, to) = (quote_identifier(&self.unfinished), quote_identifier(&self.wanted));
        let sql = format!("BEGIN; SET LOCAL synchronous_commit = on; ALTER DATABASE {from} RENAME TO {to}");
        for _ in 0..BUSY_TRIES {
            let Err(error) = session.client().batch_execute(&sql).await else { return Ok(()) };
            match error.code() {
                Some(code) if *code == SqlState::DUPLICATE_DATABASE => {
                    return Err(TargetError::DatabaseExists { name: self.wanted.clone() });
                }
                Some(code) if *code == SqlState::OBJECT_IN_USE => {}
                _ => return Err(session.error(doing, error).into()),
            }
            session.run("rolling back", "ROLLBACK").await?;
            tokio::time::sleep(PAUSE).await;
        }
        let sessions = sessions_of(session, &self.unfinished).await?;
        Err(TargetError::DatabaseInUse { name: self.unfinished.clone(), sessions })
    }

    /// Whether a commit whose answer never came was carried out. First the backend that was to do it must have
    /// ended, or it might still; then the name tells, as a database keeps its OID.
    async fn was_committed(&self, oid: u32, backend: i32) -> Result<bool, TargetError> {
        let unknown = |source: TargetError| TargetError::RenameUnknown {
            from: self.unfinished.clone(),
            to: self.wanted.clone(),
            source: source.into(),
        };
        let connected = Session::connect(&self.maintenance, "restore", &ClientEncoding::Utf8).await;
        let session = connected.map_err(|error| unknown(error.into()))?;
        let doing = "asking whether the rename has ended";
        for _ in 0..SETTLE_TRIES {
            let sql =
                "SELECT FROM pg_stat_activity WHERE pid = $1 AND application_name = 'vouchsafe restore'";
            let alive = session.client().query_opt(sql, &[&backend]).await;
            if alive.map_err(|error| unknown(session.error(doing, error).into()))?.is_none() {
                return Ok(oid_of(&session, &self.wanted).await.map_err(unknown)? == Some(oid));
            }
            tokio::time::sleep(PAUSE).await;
        }
        let lasting = std::io::Error::other(format!("pid {backend} is still at it"));
        Err(unknown(TargetError::Local { doing: doing.into(), source: lasting }))
    }
}

async fn sessions_of(session: &Session, name: &str) -> Result<String, TargetError> {
    let rows = session
        .client()
        .query(
            "SELECT pid, coalesce(usename, '?')::text, coalesce(application_name, '') FROM pg_stat_activity
              WHERE datname = $1::text::name ORDER BY pid LIMIT 8",
            &[&name],
        )
        .await
        .map_err(|error| session.error("asking who uses a database", error))?;
    let names = rows.iter().map(|row| {
        let (pid, user, program): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        format!("pid {pid} of role {user} ({program})")
    });
    Ok(names.collect::<Vec<_>>().join(", "))
}
