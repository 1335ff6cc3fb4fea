//! Sessions: connected, with every setting pinned that could change what is read.

use std::sync::Arc;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::dial::{ConnectionTask, dial};
use super::endpoint::EndpointConfig;
use super::error::SourceError;
use super::tap::{CopyOut, Valve};

/// The oldest server, as `server_version_num`.
pub const OLDEST_VERSION: u32 = 130_000;

/// The encoding in which a session sends and receives text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEncoding {
    /// UTF-8: for catalogs, whose names we keep as UTF-8.
    Utf8,
    /// The database's own: for COPY, so that no byte is converted. An SQL_ASCII database has no other
    /// encoding that passes every value (its COPY fails under UTF8 on bytes that are none).
    Server,
    /// One by its PostgreSQL name: for loading rows that were copied in it.
    Named(String),
}

/// One connection, with its settings pinned. Dropped, it closes the socket at once, even in the middle of a
/// COPY; [`Session::close`] ends it in good order.
#[derive(Debug)]
pub struct Session {
    client: Arc<Client>,
    task: ConnectionTask,
    valve: Valve,
    endpoint: String,
    user: String,
    version_num: u32,
    server_encoding: String,
    client_encoding: String,
}

impl Session {
    /// Connects, pins the settings and checks the version. `role` says in `pg_stat_activity` what the session
    /// is for (`application_name` is `vouchsafe <role>`).
    ///
    /// # Errors
    /// Each way to fail has its own kind: see [`SourceError`].
    pub async fn connect(
        endpoint: &EndpointConfig,
        role: &str,
        encoding: &ClientEncoding,
    ) -> Result<Self, SourceError> {
        let (client, task, valve) = dial(endpoint, role).await?;
        let mut session = Self {
            client: Arc::new(client),
            task,
            valve,
            endpoint: endpoint.to_string(),
            user: endpoint.user.clone(),
            version_num: 0,
            server_encoding: String::new(),
            client_encoding: "UTF8".to_owned(),
        };
        let version = session.show("server_version_num").await?;
        session.version_num = version.parse().map_err(|_| SourceError::UnexpectedAnswer {
            doing: "SHOW server_version_num".into(),
            answer: format!("{version:?}"),
        })?;
        if session.version_num < OLDEST_VERSION {
            return Err(SourceError::ServerTooOld {
                endpoint: session.endpoint.clone(),
                version: session.show("server_version").await?,
            });
        }
        session.server_encoding = session.show("server_encoding").await?;
        session.pin_settings().await?;
        match encoding {
            ClientEncoding::Utf8 => {}
            ClientEncoding::Server => session.set_encoding(&session.server_encoding.clone()).await?,
            ClientEncoding::Named(name) => session.set_encoding(name).await?,
        }
        Ok(session)
    }

    /// The client, for statements.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A shared handle to the client, for streams that outlive a borrow.
    pub(crate) fn shared_client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// `host:port/database`, for messages.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The role that connected.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `server_version_num`: 150004 is 15.4.
    #[must_use]
    pub const fn version_num(&self) -> u32 {
        self.version_num
    }

    /// The database's encoding, by its PostgreSQL name.
    #[must_use]
    pub fn server_encoding(&self) -> &str {
        &self.server_encoding
    }

    /// The session's encoding, by its PostgreSQL name.
    #[must_use]
    pub fn client_encoding(&self) -> &str {
        &self.client_encoding
    }

    /// Whether the connection still stands, as far as this side knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Asks the server for an answer: whether the session, and what it holds, lives.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if not.
    pub async fn ping(&self) -> Result<(), SourceError> {
        self.run("asking whether the session lives", "SELECT 1").await
    }

    /// Runs statements that return nothing, by the simple protocol.
    ///
    /// # Errors
    /// `doing` names the failed statement.
    pub async fn run(&self, doing: &str, sql: &str) -> Result<(), SourceError> {
        self.client.batch_execute(sql).await.map_err(|error| self.error(doing, error))
    }

    /// Starts a `COPY … TO STDOUT`. One at a time.
    pub(crate) async fn copy_out(&self, sql: &str) -> Result<CopyOut, tokio_postgres::Error> {
        let (blocks, awaited) = self.valve.open();
        let driver = self.client.copy_out(sql).await;
        awaited.answered();
        Ok(CopyOut { blocks, driver: Box::pin(driver?) })
    }

    /// A failed statement's error.
    pub(crate) fn error(&self, doing: impl Into<String>, error: tokio_postgres::Error) -> SourceError {
        // character_not_in_repertoire, on the way out: a name in an SQL_ASCII catalog.
        if self.client_encoding == "UTF8"
            && self.server_encoding == "SQL_ASCII"
            && error.code() == Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE)
        {
            return SourceError::NamesNotUtf8 { endpoint: self.endpoint.clone(), source: error.into() };
        }
        SourceError::from_statement(doing, &self.user, error)
    }

    /// Ends the session in good order: an open transaction is rolled back by the server.
    ///
    /// # Errors
    /// [`SourceError::ConnectionLost`] if the connection had already failed.
    pub async fn close(self) -> Result<(), SourceError> {
        let Self { client, task, endpoint, .. } = self;
        // The task ends when the last handle to the client does. A stream that still holds one would make us
        // wait for ever: then the socket is closed under it, by dropping the task.
        if Arc::into_inner(client).is_none() {
            return Ok(());
        }
        let doing = format!("ending the session with {endpoint}");
        match task.join().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SourceError::ConnectionLost { doing, source: error.into() }),
            Err(error) => Err(SourceError::ConnectionLost { doing, source: error.into() }),
        }
    }

    async fn show(&self, setting: &str) -> Result<String, SourceError> {
        let doing = format!("SHOW {setting}");
        let answer =
            self.client.simple_query(&doing).await.map_err(|error| self.error(doing.clone(), error))?;
        answer
            .into_iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .ok_or_else(|| SourceError::UnexpectedAnswer { doing, answer: "nothing".into() })
    }

    async fn pin_settings(&self) -> Result<(), SourceError> {
        let mut sql = PINNED.iter().map(|(name, value)| format!("SET {name} = {value};")).collect::<String>();
        for (since, name, value) in PINNED_SINCE {
            if self.version_num >= *since {
                sql.push_str(&format!("SET {name} = {value};"));
            }
        }
        self.run("pinning the session's settings", &sql).await
    }

    async fn set_encoding(&mut self, name: &str) -> Result<(), SourceError> {
        self.run("setting client_encoding", &format!("SET client_encoding = {}", quote_literal(name)))
            .await?;
        self.client_encoding = name.to_owned();
        Ok(())
    }
}

/// Whatever a role, a database or the server sets otherwise would change the bytes
/// that COPY writes, end a session that only holds something, or hide rows.
const PINNED: &[(&str, &str)] = &[
    // First: settings that hold names are kept as it says at that moment.
    ("quote_all_identifiers", "off"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // No statement of ours may queue for ever behind somebody's ALTER: every reader after us would queue, too.
    ("lock_timeout", "'60s'"),
    ("datestyle", "'ISO, YMD'"),
    ("timezone", "'UTC'"),
    ("intervalstyle", "'postgres'"),
    ("extra_float_digits", "3"),
    ("bytea_output", "'hex'"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    ("array_nulls", "on"),
    ("lc_monetary", "'C'"),
    ("xmloption", "content"),
    ("xmlbinary", "base64"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "'read committed'"),
    // A scan that starts where another one is makes the order of rows differ from run to run.
    ("synchronize_seqscans", "off"),
    ("enable_tidscan", "on"),
    ("enable_seqscan", "on"),
    // The server's processors belong to its users: the parallelism asked for is ours.
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
];

/// Settings that older servers don't know.
const PINNED_SINCE: &[(u32, &str, &str)] =
    &[(140_000, "idle_session_timeout", "0"), (170_000, "transaction_timeout", "0")];

/// A string literal, whatever `standard_conforming_strings` is (PostgreSQL manual, 4.1.2).
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), " E'a\\\\''b'");
    }
}
