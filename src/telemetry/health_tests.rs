//! Pages asked for over HTTP, by hand: what a kubelet and a Prometheus send.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Status and body of `GET path`.
async fn get_page(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, format!("{head}\n{body}"))
}

async fn listening(router: Router) -> SocketAddr {
    let pages = Pages::listen("127.0.0.1:0".parse().unwrap(), router).await.unwrap();
    let address = pages.address().unwrap();
    tokio::spawn(pages.serve());
    address
}

#[tokio::test]
async fn metrics_are_served_as_open_metrics() {
    let metrics = Arc::new(Metrics::new(BTreeSet::new()));
    metrics.leads(true);
    let address = listening(metrics_router(metrics)).await;
    let (status, page) = get_page(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(page.contains("vouchsafe_leader 1\n") && page.contains("application/openmetrics-text"), "{page}");
    assert_eq!(get_page(address, "/").await.0, 404);
}

#[tokio::test]
async fn readiness_follows_the_api_server_the_lease_and_the_watches() {
    let health = Arc::new(Health::default());
    let address = listening(health_router(health.clone())).await;
    let ready = async || get_page(address, "/readyz").await;
    assert_eq!(ready().await.0, 503, "nothing is known yet");
    health.reached(true);
    assert_eq!(ready().await.0, 200, "stands by");
    health.leads(true);
    assert_eq!(ready().await.0, 503, "nothing is watched yet");
    health.watch_begins("Backup");
    health.watch_begins("Restore");
    health.watch_synced("Backup");
    let (status, page) = ready().await;
    assert!(status == 503 && page.contains("not listed yet: Restore"), "{page}");
    health.watch_synced("Restore");
    assert_eq!(ready().await.0, 200);
    assert_eq!(get_page(address, "/healthz").await.0, 200);
    // Deposed: its watches are gone, and that is right.
    health.leads(false);
    health.watch_synced("Backup");
    assert_eq!(ready().await.0, 200);
    health.reached(false);
    assert_eq!(ready().await.0, 503);
    assert_eq!(get_page(address, "/healthz").await.0, 200, "a new process would reach it no better");
}

#[tokio::test]
async fn a_watch_that_ended_unasked_ends_the_process() {
    let health = Arc::new(Health::default());
    let address = listening(health_router(health.clone())).await;
    health.leads(true);
    health.watch_begins("Backup");
    health.watch_synced("Backup");
    health.watch_ended("Backup");
    let (status, page) = get_page(address, "/healthz").await;
    assert!(status == 503 && page.contains("Backup ended"), "{page}");
}
