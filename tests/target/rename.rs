//! The rename at the end, when the connection breaks at its commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use testbed::{PgVersion, shared};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vouchsafe::source::EndpointConfig;
use vouchsafe::source::target::{DatabaseProperties, NewDatabase, RestoreId, exists};
use vouchsafe::source::{ClientEncoding, Session};

use crate::copy::{Backup, endpoint, id};

/// What happens to the first commit that comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It reaches the server, and the answer is lost.
    AnswerLost,
    /// It never reaches the server.
    Lost,
}

/// Forwards connections to `port`, and breaks the first one that commits.
async fn breaking_proxy(port: u16, fate: Fate) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let armed = Arc::new(AtomicBool::new(true));
    let trap = Arc::clone(&armed);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(forward(client, server, Arc::clone(&trap), fate));
        }
    });
    (own, armed)
}

async fn forward(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>, fate: Fate) {
    let (mut from_client, mut from_server) = ([0; 16 << 10], [0; 16 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &from_client[..length];
                // A message of the simple protocol.
                let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
                if commits && armed.swap(false, Ordering::SeqCst) {
                    if fate == Fate::AnswerLost {
                        server.write_all(bytes).await.unwrap();
                        let _ = server.read(&mut from_server).await;
                    }
                    return;
                }
                if server.write_all(bytes).await.is_err() { return }
            }
            read = server.read(&mut from_server) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&from_server[..length]).await.is_err() { return }
            }
        }
    }
}

async fn rename(fate: Fate, wanted: &str) -> (Result<(), String>, bool, bool) {
    let server = shared(PgVersion::V15);
    let backup = Backup::take(server, &server.fresh_database("renamed")).await;
    let (port, armed) = breaking_proxy(server.port(), fate).await;
    let direct = endpoint(server, "postgres");
    let through = EndpointConfig { port, ..direct.clone() };
    let id: RestoreId = id(wanted);
    let made = NewDatabase::create(&through, wanted, &id, &backup.server, &Default::default()).await.unwrap();
    let result = made.rename_into_place(&DatabaseProperties::server_defaults()).await;
    assert!(!armed.load(Ordering::SeqCst), "no commit came by");
    let session = Session::connect(&direct, "look", &ClientEncoding::Utf8).await.unwrap();
    let there = exists(&session, wanted).await.unwrap();
    let unfinished = exists(&session, &id.unfinished_name(wanted)).await.unwrap();
    (result.map_err(|error| error.reason().to_owned()), there, unfinished)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_by_the_databases_oid() {
    assert_eq!(rename(Fate::AnswerLost, "answer_lost").await, (Ok(()), true, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_is_no_success_and_leaves_the_unfinished_database() {
    assert_eq!(rename(Fate::Lost, "never_arrived").await, (Err("ConnectionLost".into()), false, true));
}
