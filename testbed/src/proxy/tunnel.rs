//! What is not HTTP/1.1.

use std::io::{self, BufRead};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use super::End;

/// Passes on what comes, both ways, until either side ends.
pub(super) fn pass_on(mut reader: impl BufRead, client: &TcpStream, upstream: SocketAddr) -> io::Result<End> {
    let mut server = TcpStream::connect(upstream)?;
    server.set_nodelay(true)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    let answering = thread::Builder::new().name("fault-proxy".to_owned()).spawn(move || {
        let copied = io::copy(&mut answers, &mut back);
        // Nobody reads what the client would still send.
        let _ = back.shutdown(Shutdown::Both);
        copied
    })?;
    let copied = io::copy(&mut reader, &mut server);
    let _ = server.shutdown(Shutdown::Both);
    // It has ended with the server's side.
    let _ = answering.join();
    copied.map(|_| End::Closed)
}
