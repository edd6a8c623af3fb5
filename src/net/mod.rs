//! Networking, with the API of [`std::net`].
//!
//! The sockets wait by parking the green thread that uses them; on a plain OS thread they block it.
//! Addresses are std's own, and names are [resolved](ToSocketAddrs) without blocking a worker.
//! [`BindOptions`] says how a socket is bound where std leaves no choice, and [`inherited()`] takes
//! the sockets that a service manager has bound already.

use std::io;

use rustix::io::Errno;
use rustix::net::AddressFamily;

use crate::io::{Io, refuse_in_simulation};

mod bind;
#[allow(unsafe_code)]
mod inherited;
mod resolve;
mod tcp;
mod udp;

pub use bind::BindOptions;
pub use inherited::{Inherited, inherited};
pub use resolve::{LookupHost, ToSocketAddrs, lookup_host};
pub use std::net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
};
pub use tcp::{Connections, Incoming, IntoIncoming, TcpListener, TcpStream};
pub use udp::UdpSocket;

/// Runs `f` on each address in turn until one succeeds; the last error, if none does.
fn each_addr<A: ToSocketAddrs, T>(
    addr: A,
    mut f: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    // Before a name is resolved.
    refuse_in_simulation("a socket")?;
    let mut last = None;
    for addr in addr.to_socket_addrs()? {
        match f(&addr) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "could not resolve to any addresses",
        )
    }))
}

fn family(addr: &SocketAddr) -> AddressFamily {
    match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

fn local_addr(io: &Io) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(io)?.try_into()?)
}

fn peer_addr(io: &Io) -> io::Result<SocketAddr> {
    Ok(rustix::net::getpeername(io)?
        .ok_or(Errno::NOTCONN)?
        .try_into()?)
}
