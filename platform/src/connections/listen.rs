//! Listeners for all addresses of a host.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use podwork_protocol::address::is_loopback_name;
use tokio::net::{TcpListener, TcpSocket, lookup_host};

use crate::error::Error;

/// The length of the accept queue; the operating system may reduce it. `TcpListener::bind` uses 128, and if more
/// clients connect at once, the rest wait for a second.
const BACKLOG: u32 = 4096;
/// The maximum number of free ports to try until one is free on all addresses.
const MOST_PORTS: usize = 16;

/// Listens on all addresses of the host, on the same port. Port 0 picks a port that is free on all of them. An IPv6
/// address may have brackets, as in URLs.
pub(crate) async fn listen(host: &str, port: u16) -> Result<Vec<TcpListener>, Error> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bind = |reason: io::Error| Error::Bind {
        address: format!("{host}:{port}"),
        cure: match reason.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the program that uses this port, or choose another port"
            }
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose a host name or address of this machine",
        },
        reason,
    };
    let addrs = resolve(bare.unwrap_or(host), port).await.map_err(bind)?;
    let mut last = listen_on(&addrs, port);
    for _ in 1..MOST_PORTS {
        match &last {
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
        last = listen_on(&addrs, port);
    }
    last.map_err(bind)
}

/// Returns the addresses of a host. Clients try the addresses of `localhost` in an order of their own, and some of them
/// try only the first, so it always stands for both loopback addresses. So do the names below it, which few systems
/// resolve.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if is_loopback_name(host) {
        return Ok(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    let mut addrs = Vec::new();
    for addr in lookup_host((host, port)).await? {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    Ok(addrs)
}

/// Listens on all addresses that this machine has. If another program uses the port on one of them, its clients would
/// reach that program, so this fails.
fn listen_on(addrs: &[SocketAddr], mut port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for addr in addrs {
        match bound(SocketAddr::new(addr.ip(), port)) {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    if listeners.is_empty() {
        let no_address =
            || io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
        return Err(missing.unwrap_or_else(no_address));
    }
    Ok(listeners)
}

fn bound(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // On Windows it would let two programs listen on the same port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
