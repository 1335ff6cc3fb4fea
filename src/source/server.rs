//! What is known of the server and the database: identity, version, encoding, locale, the role's rank.

use serde::{Deserialize, Serialize};

use super::connection::{ClientEncoding, Session};
use super::endpoint::EndpointConfig;
use super::error::SourceError;

/// A server and the database that is backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerFacts {
    /// `server_version_num`: 150004 is 15.4.
    pub version_num: u32,
    /// `server_version`, as the server writes it.
    pub version: String,
    /// `pg_control_system().system_identifier`: the same for a server and its physical copies.
    pub system_identifier: u64,
    /// Timeline of the WAL that it writes.
    pub timeline: u32,
    /// The database.
    pub database: String,
    /// Its OID.
    pub database_oid: u32,
    /// Its encoding, by its PostgreSQL name.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Locale provider: `c` (libc), `i` (ICU) or, from 17 on, `b` (built in).
    pub locale_provider: String,
    /// Locale of the provider, where it has one of its own (ICU, built in).
    pub locale: Option<String>,
    /// ICU's additional collation rules.
    pub icu_rules: Option<String>,
    /// `wal_level`.
    pub wal_level: String,
    /// `cluster_name`; often empty.
    pub cluster_name: String,
    /// `block_size`, in bytes.
    pub block_size: u32,
    /// The role is a superuser.
    pub is_superuser: bool,
    /// The role isn't subject to row security.
    pub bypasses_row_security: bool,
}

impl ServerFacts {
    /// The major version.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.version_num / 10_000
    }

    /// Reads the facts, and refuses a standby.
    ///
    /// # Errors
    /// [`SourceError::StandbyRefused`], or a failed query.
    pub async fn read(session: &Session) -> Result<Self, SourceError> {
        let doing = "reading what the server is";
        let client = session.client();
        let recovering = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
        if recovering.map_err(|error| session.error(doing, error))?.get(0) {
            return Err(SourceError::StandbyRefused { endpoint: session.endpoint().to_owned() });
        }
        let version_num = session.version_num();
        let locale = match version_num {
            170_000.. => "datlocprovider::text, datlocale, daticurules",
            160_000.. => "datlocprovider::text, daticulocale, daticurules",
            150_000.. => "datlocprovider::text, daticulocale, NULL::text",
            _ => "'c'::text, NULL::text, NULL::text",
        };
        let sql = format!(
            "SELECT current_setting('server_version'),
                    (SELECT system_identifier FROM pg_control_system()),
                    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4,
                    d.datname::text, d.oid, pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
                    current_setting('wal_level'), current_setting('cluster_name'),
                    current_setting('block_size')::int4, r.rolsuper, r.rolsuper OR r.rolbypassrls, {locale}
               FROM pg_database d, pg_roles r
              WHERE d.datname = current_database() AND r.rolname = current_user"
        );
        let row = client.query_one(&sql, &[]).await.map_err(|error| session.error(doing, error))?;
        Ok(Self {
            version_num,
            version: row.get(0),
            system_identifier: row.get::<_, i64>(1).cast_unsigned(),
            timeline: row.get::<_, i32>(2).cast_unsigned(),
            database: row.get(3),
            database_oid: row.get(4),
            encoding: row.get(5),
            collate: row.get(6),
            ctype: row.get(7),
            wal_level: row.get(8),
            cluster_name: row.get(9),
            block_size: row.get::<_, i32>(10).cast_unsigned(),
            is_superuser: row.get(11),
            bypasses_row_security: row.get(12),
            locale_provider: row.get(13),
            locale: row.get(14),
            icu_rules: row.get(15),
        })
    }
}

/// Refuses a transaction pooler (or a statement pooler).
///
/// Two sessions are open at once: the first leaves a mark, the second opens a transaction. Behind a pooler the
/// first session's server connection is free between transactions and goes to the second one, so that the first
/// comes back on another backend or without its mark. A pool in session mode passes.
///
/// # Errors
/// [`SourceError::PoolerDetected`], or why no connection could be made.
pub async fn refuse_pooler(endpoint: &EndpointConfig) -> Result<(), SourceError> {
    let first = Session::connect(endpoint, "probe", &ClientEncoding::Utf8).await?;
    let second = Session::connect(endpoint, "probe", &ClientEncoding::Utf8).await?;
    let (pid, _) = identity(&first, "").await?;
    let mark = format!("{:016x}", rand::random::<u64>());
    first.run("leaving a mark", &format!("SET vouchsafe.mark = '{mark}'")).await?;
    second.run("opening a transaction", "BEGIN; SELECT 1").await?;
    // With a pool of one connection, this one now waits for the transaction of the second: bounded.
    let answer = tokio::time::timeout(endpoint.connect_timeout, identity(&first, &mark)).await;
    let evidence = match answer {
        Err(_) => Some("a session waits while another one is in a transaction".to_owned()),
        Ok(answer) => match answer? {
            (now, _) if now != pid => Some(format!("one session was served by backends {pid} and {now}")),
            (_, false) => Some("a session lost a setting between two transactions".to_owned()),
            _ => None,
        },
    };
    if let Some(evidence) = evidence {
        return Err(SourceError::PoolerDetected { endpoint: endpoint.to_string(), evidence });
    }
    first.close().await?;
    second.close().await
}

/// The backend's process id, and whether the mark is there.
async fn identity(session: &Session, mark: &str) -> Result<(i32, bool), SourceError> {
    let doing = "asking which backend serves the session";
    // The simple protocol: a prepared statement would not survive a pooler, and fail obscurely.
    let answer = session
        .client()
        .simple_query("SELECT pg_backend_pid(), coalesce(current_setting('vouchsafe.mark', true), '')")
        .await
        .map_err(|error| session.error(doing, error))?;
    for message in answer {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let pid = row.get(0).and_then(|pid| pid.parse().ok());
            return pid.map(|pid| (pid, row.get(1) == Some(mark))).ok_or_else(|| {
                SourceError::UnexpectedAnswer { doing: doing.into(), answer: "no process id".into() }
            });
        }
    }
    Err(SourceError::UnexpectedAnswer { doing: doing.into(), answer: "nothing".into() })
}
