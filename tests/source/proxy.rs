//! A stand-in for connection poolers and for servers that can't be had: speaks just enough of the protocol.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// What the stand-in is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Gives each transaction whichever server connection is free, last used first, as PgBouncer does.
    Transaction {
        /// Connections to the server.
        servers: usize,
    },
    /// Gives each client a server connection of its own.
    Session,
    /// A server 12: asks it nothing but its version.
    Old,
}

/// Starts it on a port of its own; it ends with the test's runtime.
pub(crate) async fn start(server: u16, mode: Mode) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pool = Arc::new(Pool::default());
    if let Mode::Transaction { servers } = mode {
        for _ in 0..servers {
            pool.put(open(server).await).await;
        }
    }
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let served = match mode {
                    Mode::Session => session(client, server).await,
                    Mode::Transaction { .. } => transactions(client, &pool).await,
                    Mode::Old => old(client).await,
                };
                // A client that goes away is no failure.
                drop(served);
            });
        }
    });
    port
}

#[derive(Default)]
struct Pool {
    free: Mutex<Vec<TcpStream>>,
    came: tokio::sync::Notify,
}

impl Pool {
    async fn put(&self, stream: TcpStream) {
        self.free.lock().await.push(stream);
        self.came.notify_one();
    }

    async fn take(&self) -> TcpStream {
        loop {
            if let Some(stream) = self.free.lock().await.pop() {
                return stream;
            }
            self.came.notified().await;
        }
    }
}

async fn session(mut client: TcpStream, server: u16) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

/// A connection to the server, logged in (it trusts) and ready.
async fn open(port: u16) -> TcpStream {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    server.write_u32(u32::try_from(body.len() + 4).unwrap()).await.unwrap();
    server.write_all(body).await.unwrap();
    while message(&mut server).await.unwrap().0 != b'Z' {}
    server
}

/// Each message of the client up to the server's "ready and idle" goes to one server connection.
async fn transactions(mut client: TcpStream, pool: &Pool) -> std::io::Result<()> {
    greet(&mut client).await?;
    loop {
        let (kind, body) = message(&mut client).await?;
        if kind == b'X' {
            return Ok(());
        }
        let mut server = pool.take().await;
        send(&mut server, kind, &body).await?;
        loop {
            let (answer, body) = message(&mut server).await?;
            send(&mut client, answer, &body).await?;
            if answer != b'Z' {
                continue;
            }
            if body == b"I" {
                break;
            }
            let (kind, body) = message(&mut client).await?;
            send(&mut server, kind, &body).await?;
        }
        pool.put(server).await;
    }
}

async fn old(mut client: TcpStream) -> std::io::Result<()> {
    greet(&mut client).await?;
    loop {
        let (kind, body) = message(&mut client).await?;
        if kind == b'X' {
            return Ok(());
        }
        let value: &[u8] =
            if body.starts_with(b"SHOW server_version_num") { b"120022" } else { b"12.22 (Debian)" };
        let mut description = vec![0, 1];
        description.extend_from_slice(b"v\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        send(&mut client, b'T', &description).await?;
        let mut row = vec![0, 1];
        row.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        row.extend_from_slice(value);
        send(&mut client, b'D', &row).await?;
        send(&mut client, b'C', b"SHOW\0").await?;
        send(&mut client, b'Z', b"I").await?;
    }
}

async fn greet(client: &mut TcpStream) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await?;
    send(client, b'R', &[0; 4]).await?;
    send(client, b'K', &[0; 8]).await?;
    send(client, b'Z', b"I").await
}

async fn message(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

async fn send(stream: &mut TcpStream, kind: u8, body: &[u8]) -> std::io::Result<()> {
    let mut message = vec![kind];
    message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend_from_slice(body);
    stream.write_all(&message).await
}
