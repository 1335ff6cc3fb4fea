//! Free ports.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// A port of 127.0.0.1 that nothing listens on, and that this process hasn't handed out before.
///
/// Another process can still take it before our server does, so whoever starts a server with it tries again
/// with another port when the server ends at once.
pub(crate) fn free() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port())
            .unwrap_or_else(|cause| panic!("no free port on 127.0.0.1: {cause}"));
        if given.insert(port) {
            return port;
        }
    }
}
