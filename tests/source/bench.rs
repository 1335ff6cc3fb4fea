//! What the tests of the source share: an endpoint on a server, and COPY read to its end.

use std::time::Duration;

use futures::TryStreamExt;
use testbed::Postgres;
use vouchsafe::format::relation::{SpanRange, TableFacts};
use vouchsafe::source::{
    ClientEncoding, EndpointConfig, ExportTable, Held, Host, LockLimits, Reader, Secret, Selection, Session,
    SourceError, Tls, Tools,
};

pub(crate) fn endpoint(server: &Postgres, database: &str) -> EndpointConfig {
    EndpointConfig {
        host: Host::Tcp("127.0.0.1".into()),
        port: server.port(),
        user: "postgres".into(),
        password: Some(Secret::new(testbed::PASSWORD)),
        database: database.into(),
        tls: Tls::Disable,
        connect_timeout: Duration::from_secs(10),
    }
}

pub(crate) fn endpoint_as(server: &Postgres, user: &str, password: &str, database: &str) -> EndpointConfig {
    EndpointConfig { user: user.into(), password: Some(Secret::new(password)), ..endpoint(server, database) }
}

/// A database of its own with `sql` run in it.
pub(crate) fn database(server: &Postgres, stem: &str, sql: &str) -> String {
    let name = server.fresh_database(stem);
    server.psql(&name, sql).unwrap();
    name
}

/// Short, so that tests that expect a refusal are quick.
pub(crate) fn impatient() -> LockLimits {
    LockLimits { try_timeout: Duration::from_millis(500), pause: Duration::from_millis(100), tries: 2 }
}

pub(crate) async fn take(endpoint: &EndpointConfig) -> Held {
    Held::take(endpoint, &Selection::default(), impatient()).await.unwrap()
}

/// Schema and name, as they are.
pub(crate) fn plain(table: &ExportTable) -> String {
    format!("{}.{}", table.facts.name.schema, table.facts.name.name)
}

pub(crate) fn table<'a>(held: &'a Held, name: &str) -> &'a ExportTable {
    let found = held.catalog.tables.iter().find(|table| plain(table) == name);
    found.unwrap_or_else(|| panic!("no table {name} in {:?}", held.catalog.tables))
}

pub(crate) async fn read_span(
    reader: &Reader,
    table: &TableFacts,
    range: &SpanRange,
) -> Result<Vec<u8>, SourceError> {
    let stream = reader.copy_out(table, range).await?;
    stream
        .try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        })
        .await
}

/// Rows of a binary COPY, each as its bytes (PostgreSQL manual, COPY, "Binary Format"). A second reading of the
/// format, written apart from the codec.
pub(crate) fn binary_rows(copy: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(&copy[..11], b"PGCOPY\n\xff\r\n\0");
    let mut at = 19;
    let mut rows = Vec::new();
    loop {
        let start = at;
        let fields = i16::from_be_bytes(copy[at..at + 2].try_into().unwrap());
        at += 2;
        if fields == -1 {
            assert_eq!(at, copy.len(), "nothing follows the trailer");
            return rows;
        }
        for _ in 0..fields {
            let length = i32::from_be_bytes(copy[at..at + 4].try_into().unwrap());
            at += 4 + usize::try_from(length.max(0)).unwrap();
        }
        rows.push(copy[start..at].to_vec());
    }
}

pub(crate) fn tools(server: &Postgres) -> Tools {
    Tools::only(&[server.client_bin_dir().to_owned()])
}

/// Another client of the server, with a transaction of its own. Names have to be qualified.
pub(crate) async fn other(endpoint: &EndpointConfig) -> Session {
    Session::connect(endpoint, "other", &ClientEncoding::Utf8).await.unwrap()
}

/// One value, as text.
pub(crate) async fn ask(session: &Session, sql: &str) -> String {
    session.client().query_one(sql, &[]).await.unwrap().get(0)
}

/// Asks until the answer is `true`, for ten seconds at the most.
pub(crate) async fn until(session: &Session, sql: &str) {
    for _ in 0..200 {
        if session.client().query_one(sql, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never true: {sql}");
}
