//! Connecting: each way to be refused has its name, and what connects is pinned.

use futures::TryStreamExt;
use rstest::rstest;
use testbed::{PgVersion, Postgres};
use vouchsafe::format::relation::SpanRange;
use vouchsafe::source::{
    Authorities, ClientEncoding, EndpointConfig, Host, Reader, Secret, Session, SourceError, Tls,
    error::chain_text, preflight, refuse_pooler,
};
use vouchsafe::source::{Held, Selection, ServerFacts};

use crate::bench::{ask, database, endpoint, impatient, read_span, table, take};
use crate::proxy;

async fn refusal(endpoint: &EndpointConfig) -> SourceError {
    let error = Session::connect(endpoint, "test", &ClientEncoding::Utf8).await.unwrap_err();
    for text in
        [chain_text(&error), format!("{error:?}"), error.hint(vouchsafe::hint::WayIn::Flags).to_owned()]
    {
        assert!(!text.contains("hunter2"), "the password shows: {text}");
    }
    error
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = testbed::shared(PgVersion::V15);
    let good = endpoint(server, "postgres");
    let wrong_password = EndpointConfig { password: Some(Secret::new("hunter2")), ..good.clone() };
    assert_eq!(refusal(&wrong_password).await.reason(), "AuthenticationFailed");
    let no_password = EndpointConfig { password: None, ..good.clone() };
    assert_eq!(refusal(&no_password).await.reason(), "AuthenticationFailed");
    let no_role = EndpointConfig { user: "nobody".into(), ..good.clone() };
    assert_eq!(refusal(&no_role).await.reason(), "AuthenticationFailed");
    let error = refusal(&good.with_database("missing")).await;
    assert_eq!(error.reason(), "DatabaseMissing");
    assert!(error.to_string().contains("\"missing\""), "{error}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = EndpointConfig { port: listener.local_addr().unwrap().port(), ..good.clone() };
    drop(listener);
    assert_eq!(refusal(&closed).await.reason(), "ServerUnreachable");
    let no_name = EndpointConfig { host: Host::Tcp("no-such-host.invalid".into()), ..good.clone() };
    assert_eq!(refusal(&no_name).await.reason(), "ServerUnreachable");
    let no_socket = EndpointConfig { host: Host::Socket("/nonexistent".into()), ..good.clone() };
    assert_eq!(refusal(&no_socket).await.reason(), "ServerUnreachable");
    let socket = EndpointConfig { host: Host::Socket(server.socket_dir().to_owned()), ..good };
    Session::connect(&socket, "test", &ClientEncoding::Utf8).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut silent = endpoint(testbed::shared(PgVersion::V15), "postgres");
    silent.port = listener.local_addr().unwrap().port();
    silent.connect_timeout = std::time::Duration::from_millis(200);
    assert_eq!(refusal(&silent).await.reason(), "ServerUnreachable");
}

#[tokio::test]
async fn certificates_are_checked_as_the_mode_says() {
    let server =
        Postgres::builder(PgVersion::V15).tls().config("listen_addresses", "127.0.0.1,127.0.0.2").start();
    let authority = server.authority().unwrap().to_owned();
    let with = |host: &str, tls: Tls| EndpointConfig {
        host: Host::Tcp(host.into()),
        tls,
        ..endpoint(&server, "postgres")
    };
    let encrypted = async |endpoint: EndpointConfig| {
        let session = Session::connect(&endpoint, "test", &ClientEncoding::Utf8).await?;
        let ssl = ask(&session, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
        session.close().await?;
        Ok::<_, SourceError>(ssl == "true")
    };
    let ours = || Authorities::File(authority.clone());
    assert!(encrypted(with("127.0.0.1", Tls::VerifyFull(ours()))).await.unwrap());
    assert!(encrypted(with("localhost", Tls::VerifyFull(ours()))).await.unwrap());
    let pem = Authorities::Pem(std::fs::read(&authority).unwrap());
    assert!(encrypted(with("127.0.0.1", Tls::VerifyFull(pem))).await.unwrap());
    // 127.0.0.2 is the same server under a name that the certificate doesn't carry.
    let wrong_name = encrypted(with("127.0.0.2", Tls::VerifyFull(ours()))).await.unwrap_err();
    assert_eq!(wrong_name.reason(), "TlsFailed", "{}", chain_text(&wrong_name));
    assert!(encrypted(with("127.0.0.2", Tls::VerifyCa(ours()))).await.unwrap());
    assert!(encrypted(with("127.0.0.1", Tls::VerifyCa(ours()))).await.unwrap());
    assert!(encrypted(with("127.0.0.1", Tls::Require)).await.unwrap());
    assert!(!encrypted(with("127.0.0.1", Tls::Disable)).await.unwrap());

    // Signed by nobody that is trusted.
    let other = Postgres::builder(PgVersion::V13).tls().start();
    let theirs = || Authorities::File(other.authority().unwrap().to_owned());
    for tls in [Tls::VerifyFull(theirs()), Tls::VerifyCa(theirs())] {
        assert_eq!(encrypted(with("127.0.0.1", tls)).await.unwrap_err().reason(), "TlsFailed");
    }
    for file in ["/nonexistent", "/etc/passwd"] {
        let tls = Tls::VerifyFull(Authorities::File(file.into()));
        assert_eq!(encrypted(with("127.0.0.1", tls)).await.unwrap_err().reason(), "TlsFailed", "{file}");
    }
    // A server without TLS is never spoken to in plain text instead.
    let plain = testbed::shared(PgVersion::V15);
    for tls in [Tls::Require, Tls::VerifyFull(ours())] {
        let endpoint = EndpointConfig { tls, ..endpoint(plain, "postgres") };
        assert_eq!(refusal(&endpoint).await.reason(), "TlsFailed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_through_tls_as_they_come_without() {
    let server = Postgres::builder(PgVersion::V15).tls().start();
    let sql =
        "CREATE TABLE t AS SELECT i, repeat(md5(i::text), i % 3000) AS x FROM generate_series(1, 3000) i;
               ALTER TABLE t ALTER x SET STORAGE EXTERNAL";
    server.psql("postgres", sql).unwrap();
    let plain = EndpointConfig { tls: Tls::Disable, ..endpoint(&server, "postgres") };
    let authority = Authorities::File(server.authority().unwrap().to_owned());
    let secret = EndpointConfig { tls: Tls::VerifyFull(authority), ..endpoint(&server, "postgres") };
    let held = take(&secret).await;
    let facts = &table(&held, "public.t").facts;
    let snapshot = &held.snapshot.snapshot().id;
    let mut copies = Vec::new();
    for endpoint in [&plain, &secret] {
        let reader = Reader::open(endpoint, snapshot).await.unwrap();
        copies.push(read_span(&reader, facts, &SpanRange::Whole).await.unwrap());
    }
    assert!(copies[0].len() > 100 << 20, "{} bytes are more than one block", copies[0].len());
    assert!(copies[0] == copies[1]);
    // A connection that ends midway is no end of the rows.
    let reader = Reader::open(&secret, snapshot).await.unwrap();
    let mut rows = reader.copy_out(facts, &SpanRange::Whole).await.unwrap();
    let mut all = rows.try_next().await.unwrap().unwrap().len();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'";
    assert_eq!(server.psql("postgres", cut).unwrap().trim(), "t");
    let error = loop {
        match rows.try_next().await {
            Ok(Some(block)) => all += block.len(),
            Ok(None) => panic!("{all} bytes passed for all of it"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "ConnectionLost", "{}", chain_text(&error));
    assert!(all < copies[0].len());
}

#[rstest]
#[case(PgVersion::V13)]
#[case(PgVersion::V15)]
#[case(PgVersion::V18)]
#[tokio::test]
async fn settings_of_the_database_change_nothing(#[case] version: PgVersion) {
    let server = testbed::shared(version);
    let hostile = [
        ("DateStyle", "'SQL, DMY'", "ISO, YMD"),
        ("TimeZone", "'Asia/Kathmandu'", "UTC"),
        ("IntervalStyle", "'sql_standard'", "postgres"),
        ("extra_float_digits", "-15", "3"),
        ("bytea_output", "'escape'", "hex"),
        ("search_path", "public", "pg_catalog"),
        ("array_nulls", "off", "on"),
        ("xmloption", "document", "content"),
        ("statement_timeout", "2000", "0"),
        ("idle_in_transaction_session_timeout", "2000", "0"),
        ("standard_conforming_strings", "off", "on"),
        ("enable_seqscan", "off", "on"),
        ("default_transaction_read_only", "on", "off"),
        ("default_transaction_isolation", "serializable", "read committed"),
        ("row_security", "on", "off"),
        ("lc_monetary", "'C.UTF-8'", "C"),
        ("synchronize_seqscans", "on", "off"),
        ("quote_all_identifiers", "on", "off"),
    ];
    let name = server.fresh_database("hostile");
    let sets = hostile.map(|(setting, value, _)| format!("ALTER DATABASE {name} SET {setting} = {value};"));
    server.psql("postgres", &sets.join("\n")).unwrap();
    let session = Session::connect(&endpoint(server, &name), "test", &ClientEncoding::Server).await.unwrap();
    for (setting, _, expected) in hostile {
        assert_eq!(
            ask(&session, &format!("SELECT current_setting('{setting}')")).await,
            expected,
            "{setting}"
        );
    }
    assert_eq!(ask(&session, "SELECT current_setting('client_encoding')").await, "UTF8");
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_standby_is_refused_by_name() {
    let primary = Postgres::builder(PgVersion::V15).config("wal_level", "replica").start();
    let standby = Postgres::builder(PgVersion::V15).standby_of(&primary).start();
    let there = endpoint(&standby, "postgres");
    let error = preflight(&there, &Selection::default()).await.unwrap_err();
    assert_eq!(error.reason(), "StandbyRefused");
    assert!(error.to_string().contains(&there.to_string()), "{error}");
    let error = Held::take(&there, &Selection::default(), impatient()).await.unwrap_err();
    assert_eq!(error.reason(), "StandbyRefused");
    preflight(&endpoint(&primary, "postgres"), &Selection::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler_is_refused_and_a_session_pooler_is_not() {
    let server = Postgres::builder(PgVersion::V15).access("host all all 127.0.0.1/32 trust").start();
    for (mode, expected) in [(proxy::Mode::Transaction { servers: 2 }, true), (proxy::Mode::Session, false)] {
        let port = proxy::start(server.port(), mode).await;
        let endpoint = EndpointConfig { port, ..endpoint(&server, "postgres") };
        let result = refuse_pooler(&endpoint).await;
        match result {
            Err(error) if expected => assert_eq!(error.reason(), "PoolerDetected", "{}", chain_text(&error)),
            other => assert!(!expected && other.is_ok(), "{mode:?}: {other:?}"),
        }
    }
    // One server connection for all: the second session's transaction keeps the first one waiting.
    let port = proxy::start(server.port(), proxy::Mode::Transaction { servers: 1 }).await;
    let mut single = EndpointConfig { port, ..endpoint(&server, "postgres") };
    single.connect_timeout = std::time::Duration::from_secs(1);
    assert_eq!(refuse_pooler(&single).await.unwrap_err().reason(), "PoolerDetected");
    refuse_pooler(&endpoint(&server, "postgres")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_refused_by_name() {
    let server = Postgres::builder(PgVersion::V15).access("host all all 127.0.0.1/32 trust").start();
    let port = proxy::start(server.port(), proxy::Mode::Old).await;
    let error = refusal(&EndpointConfig { port, ..endpoint(&server, "postgres") }).await;
    assert_eq!(error.reason(), "ServerTooOld", "{}", chain_text(&error));
    assert!(error.to_string().contains("12.22"), "{error}");
}

#[rstest]
#[case(PgVersion::V13)]
#[case(PgVersion::V14)]
#[case(PgVersion::V15)]
#[case(PgVersion::V16)]
#[case(PgVersion::V17)]
#[case(PgVersion::V18)]
#[tokio::test]
async fn the_server_is_known(#[case] version: PgVersion) {
    let server = testbed::shared(version);
    let name = database(server, "facts", "");
    let session = Session::connect(&endpoint(server, &name), "test", &ClientEncoding::Utf8).await.unwrap();
    let facts = ServerFacts::read(&session).await.unwrap();
    assert_eq!((facts.major(), facts.timeline, facts.block_size), (version.major(), 1, 8192));
    assert_eq!((facts.database.as_str(), facts.encoding.as_str()), (name.as_str(), "UTF8"));
    assert!(facts.is_superuser && facts.bypasses_row_security);
    let identifier = ask(&session, "SELECT system_identifier::text FROM pg_control_system()").await;
    assert_eq!(facts.system_identifier.to_string(), identifier);
    assert_eq!(
        ask(&session, "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()").await,
        "vouchsafe test"
    );
    session.close().await.unwrap();
}
