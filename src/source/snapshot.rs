//! The snapshot that all readers share, and what the database held in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::connection::{ClientEncoding, Session};
use super::digests::CatalogDigest;
use super::endpoint::EndpointConfig;
use super::error::SourceError;
use super::locks::{LockHolder, LockLimits, difference};
use super::selection::Selection;
use super::server::ServerFacts;

/// A snapshot, as it is recorded in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// What `SET TRANSACTION SNAPSHOT` takes, as long as the exporting transaction lives.
    pub id: String,
    /// `pg_current_snapshot()` of the same transaction: `xmin:xmax:xip,…`. Which transactions are in it can be
    /// told by xid, and only so (an LSN can precede a commit that isn't visible yet).
    pub transactions: String,
    /// `pg_current_wal_insert_lsn()` when it was taken: for people and progress, never for correctness.
    pub lsn: String,
}

/// How often everything is taken again when tables come, go or are rewritten in between. Whoever does DDL that
/// often does it all the time.
const TRIES: u32 = 10;

/// Time for the DDL that got in between to end.
const PAUSE: Duration = Duration::from_millis(500);

/// Everything a plan stands on: the locks, the snapshot and what was in it.
#[derive(Debug)]
pub struct Held {
    /// The server and the database.
    pub server: ServerFacts,
    /// The locks. They are held until they are released.
    pub locks: LockHolder,
    /// The snapshot, kept alive.
    pub snapshot: SnapshotHolder,
    /// What is exported, and what is left out.
    pub catalog: Catalog,
    /// Digest of the definitions that COPY looks up outside the snapshot; compared again after the last COPY.
    pub definitions: CatalogDigest,
}

impl Held {
    /// Takes locks, digest, snapshot and catalog, in this order, until they agree.
    ///
    /// # Errors
    /// Any [`SourceError`]; [`SourceError::CatalogChanged`] if they never agree.
    pub async fn take(
        endpoint: &EndpointConfig,
        selection: &Selection,
        limits: LockLimits,
    ) -> Result<Self, SourceError> {
        let mut last = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match Self::take_once(endpoint, selection, limits).await {
                Err(SourceError::CatalogChanged { what }) => {
                    tracing::info!(%what, "the catalog changed while it was read; taking it again");
                    last = Some(what);
                }
                other => return other,
            }
        }
        Err(SourceError::CatalogChanged { what: last.unwrap_or_default() })
    }

    async fn take_once(
        endpoint: &EndpointConfig,
        selection: &Selection,
        limits: LockLimits,
    ) -> Result<Self, SourceError> {
        let locks = LockHolder::acquire(endpoint, limits).await?;
        let definitions = CatalogDigest::take(endpoint, &locks.table_oids()).await?;
        let (snapshot, server, catalog) = SnapshotHolder::export(endpoint, selection).await?;
        if let Some(what) = difference(locks.standing(), &catalog.standing) {
            return Err(SourceError::CatalogChanged { what });
        }
        Ok(Self { server, locks, snapshot, catalog, definitions })
    }

    /// Reads the definitions again, for [`CatalogDigest::require_same_types`] and
    /// [`CatalogDigest::require_same_schema`].
    ///
    /// # Errors
    /// A failed connection or query.
    pub async fn definitions_now(&self, endpoint: &EndpointConfig) -> Result<CatalogDigest, SourceError> {
        self.definitions.again(endpoint).await
    }

    /// Releases snapshot and locks.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if one of them had failed before; the other one is released all the same.
    pub async fn release(self) -> Result<(), SourceError> {
        let snapshot = self.snapshot.release().await;
        let locks = self.locks.release().await;
        snapshot.and(locks)
    }
}

/// The transaction that exported the snapshot. While it lives, others can import it.
#[derive(Debug)]
pub struct SnapshotHolder {
    session: Session,
    snapshot: Snapshot,
}

impl SnapshotHolder {
    /// Exports a snapshot, and lists what is in it within the same transaction.
    ///
    /// # Errors
    /// A failed query, a standby, and whatever [`Catalog::read`] refuses.
    pub async fn export(
        endpoint: &EndpointConfig,
        selection: &Selection,
    ) -> Result<(Self, ServerFacts, Catalog), SourceError> {
        let session = Session::connect(endpoint, "snapshot", &ClientEncoding::Utf8).await?;
        // Before the transaction: it refuses a standby, whose snapshots must not be exported at all.
        let server = ServerFacts::read(&session).await?;
        session
            .run("opening the transaction of the snapshot", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let row = session
            .client()
            .query_one(
                "SELECT pg_export_snapshot(), pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text",
                &[],
            )
            .await
            .map_err(|error| session.error("exporting a snapshot", error))?;
        let snapshot = Snapshot { id: row.get(0), transactions: row.get(1), lsn: row.get(2) };
        let catalog = Catalog::read(&session, selection).await?;
        Ok((Self { session, snapshot }, server, catalog))
    }

    /// The snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The session, for queries within the snapshot (sequences, large objects, roles).
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Whether the snapshot still lives, as far as this side knows.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.session.is_open()
    }

    /// Asks the server whether the snapshot still lives.
    ///
    /// # Errors
    /// [`SourceError::SnapshotLost`] if not.
    pub async fn check(&self) -> Result<(), SourceError> {
        let alive = self.session.ping().await;
        alive
            .map_err(|error| SourceError::SnapshotLost { id: self.snapshot.id.clone(), source: error.into() })
    }

    /// Ends the transaction and the session. Nobody can import the snapshot any more.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if the connection had failed before.
    pub async fn release(self) -> Result<(), SourceError> {
        self.session.run("ending the transaction of the snapshot", "ROLLBACK").await?;
        self.session.close().await
    }
}
