//! Free ports.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// The address that servers listen on unless a test asks for another one.
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port of `address` that nothing listens on, and that this process hasn't handed out before.
///
/// Another process can still take it before our server does, so whoever starts a server with it tries again
/// with another port when the server ends at once.
pub(crate) fn free(address: IpAddr) -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    loop {
        let port = TcpListener::bind((address, 0))
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port())
            .unwrap_or_else(|cause| panic!("no free port on {address}: {cause}"));
        if given.insert(port) {
            return port;
        }
    }
}
