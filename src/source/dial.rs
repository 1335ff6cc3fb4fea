//! Connecting and logging in.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::endpoint::{EndpointConfig, Host, Tls};
use super::error::{Cause, SourceError, is_io};
use super::tap::{BLOCK_BYTES, Tap, TappedTls, Valve};
use super::tls;

/// A server that is silent for half a minute is asked every ten seconds, and given up after three answers that
/// don't come: a firewall that forgets idle connections is kept awake, and a dead server noticed in a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// The task that moves a connection's bytes. Dropped, it closes the socket.
#[derive(Debug)]
pub(super) struct ConnectionTask(Option<JoinHandle<Result<(), tokio_postgres::Error>>>);

impl ConnectionTask {
    pub(super) async fn join(mut self) -> Result<Result<(), tokio_postgres::Error>, tokio::task::JoinError> {
        match self.0.take() {
            Some(handle) => handle.await,
            None => Ok(Ok(())),
        }
    }
}

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

/// Connects and logs in.
pub(super) async fn dial(
    endpoint: &EndpointConfig,
    role: &str,
) -> Result<(Client, ConnectionTask, Valve), SourceError> {
    let mut config = Config::new();
    config
        .user(&endpoint.user)
        .dbname(&endpoint.database)
        .application_name(format!("vouchsafe {role}"))
        // Never "prefer": it would fall back to plain text silently.
        .ssl_mode(if endpoint.tls == Tls::Disable { SslMode::Disable } else { SslMode::Require });
    if let Some(password) = &endpoint.password {
        config.password(password.expose());
    }
    let tls = tls::connector(&endpoint.tls)
        .map_err(|source| SourceError::TlsFailed { endpoint: endpoint.to_string(), source })?;
    let unreachable =
        |source: Cause| SourceError::ServerUnreachable { endpoint: endpoint.to_string(), source };
    // A peer that accepts and then says nothing would hold us, so logging in has a limit as well.
    let attempt = async {
        match &endpoint.host {
            Host::Tcp(name) => {
                let connecting = TcpStream::connect((name.as_str(), endpoint.port));
                let stream = timeout(endpoint.connect_timeout, connecting).await;
                let stream =
                    stream.map_err(|late| unreachable(late.into()))?.map_err(|e| unreachable(e.into()))?;
                keep_alive(&stream).map_err(|error| unreachable(error.into()))?;
                log_in(&config, stream, tls, name).await.map_err(|error| connect_error(endpoint, error))
            }
            Host::Socket(folder) => {
                let connecting = UnixStream::connect(folder.join(format!(".s.PGSQL.{}", endpoint.port)));
                let stream = timeout(endpoint.connect_timeout, connecting).await;
                let stream =
                    stream.map_err(|late| unreachable(late.into()))?.map_err(|e| unreachable(e.into()))?;
                // As libpq: a certificate says nothing about a socket of this machine.
                log_in(&config, stream, None, "").await.map_err(|error| connect_error(endpoint, error))
            }
        }
    };
    match timeout(endpoint.connect_timeout.saturating_mul(2), attempt).await {
        Ok(connected) => connected,
        Err(elapsed) => Err(unreachable(elapsed.into())),
    }
}

fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Starts the protocol over `stream`, behind a tap.
async fn log_in<S>(
    config: &Config,
    stream: S,
    tls: Option<MakeRustlsConnect>,
    host: &str,
) -> Result<(Client, ConnectionTask, Valve), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let valve = Valve::default();
    match tls {
        None => {
            let mut config = config.clone();
            config.ssl_mode(SslMode::Disable);
            let tapped = Tap::new(stream, valve.clone());
            let (client, connection) = config.connect_raw(tapped, NoTls).await?;
            Ok((client, ConnectionTask(Some(tokio::spawn(connection))), valve))
        }
        Some(mut tls) => {
            // Below TLS, which asks for a record at a time.
            let stream = BufReader::with_capacity(BLOCK_BYTES, stream);
            let connect =
                <MakeRustlsConnect as MakeTlsConnect<BufReader<S>>>::make_tls_connect(&mut tls, host);
            let connect = match connect {
                Ok(connect) => connect,
                Err(never) => match never {},
            };
            let connect = TappedTls(connect, valve.clone());
            let (client, connection) = config.connect_raw(stream, connect).await?;
            Ok((client, ConnectionTask(Some(tokio::spawn(connection))), valve))
        }
    }
}

fn connect_error(endpoint: &EndpointConfig, error: tokio_postgres::Error) -> SourceError {
    let name = endpoint.to_string();
    let code = error.code().map(|code| code.code().to_owned());
    match code.as_deref() {
        Some("28000" | "28P01") => SourceError::AuthenticationFailed {
            endpoint: name,
            user: endpoint.user.clone(),
            source: error.into(),
        },
        Some("3D000") => SourceError::DatabaseMissing {
            endpoint: name,
            database: endpoint.database.clone(),
            source: error.into(),
        },
        Some("53300") => SourceError::TooManyConnections { endpoint: name, source: error.into() },
        Some("57P03" | "57P01" | "57P02") => {
            SourceError::ServerNotReady { endpoint: name, source: error.into() }
        }
        Some(_) => SourceError::Query { doing: format!("connecting to {name}"), source: error.into() },
        None => {
            // tokio-postgres tells its kinds apart by their text alone; rustls' errors come wrapped in I/O ones.
            let text = error.to_string();
            if text.contains("TLS") || is_tls(&error) {
                SourceError::TlsFailed { endpoint: name, source: error.into() }
            } else if is_io(&error)
                || error.is_closed()
                || text.contains("connecting")
                || text.contains("timeout")
            {
                SourceError::ServerUnreachable { endpoint: name, source: error.into() }
            } else {
                // What is left is about logging in: no password known, a method that we don't have.
                SourceError::AuthenticationFailed {
                    endpoint: name,
                    user: endpoint.user.clone(),
                    source: error.into(),
                }
            }
        }
    }
}

fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if current.is::<rustls::Error>()
            || current
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .is_some_and(|inner| inner.is::<rustls::Error>())
        {
            return true;
        }
        cause = current.source();
    }
    false
}
