//! Sockets of the Unix domain, with the API of [`std::os::unix::net`].
//!
//! They wait by parking the green thread that uses them; on a plain OS thread they block it. The address is std's own.
//!
//! # Where the system does not say when
//!
//! Two operations can find the other end full, and nothing on Linux tells them when it has room again: connecting to a listener whose
//! backlog is full, and sending to a socket that one is not connected to and whose queue is full. A descriptor of ours is *writable*
//! all the while, so neither a reactor nor `poll(2)` helps. These two try again after pauses of 50 µs at first, 10 ms at last,
//! and park in between.
//!
//! # Why not a thread that does it blocking
//!
//! The kernel would wake it at the right moment; but one stuck listener could take every thread of a bounded pool, and a cancelled
//! connect would go on, and be accepted.

use std::ffi::OsStr;
use std::io;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{SocketAddrAny, SocketAddrUnix};

use crate::io::Io;

mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::{Connections, Incoming, UnixListener};
pub use std::os::unix::net::SocketAddr;
pub use stream::UnixStream;

/// A path as the system wants it; std's error if it is too long or holds a zero.
fn path_addr(path: &Path) -> io::Result<SocketAddrUnix> {
    kernel_addr(&SocketAddr::from_pathname(path)?)
}

/// std's address as the system wants it.
fn kernel_addr(addr: &SocketAddr) -> io::Result<SocketAddrUnix> {
    if let Some(path) = addr.as_pathname() {
        return Ok(SocketAddrUnix::new(path)?);
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_name() {
        return Ok(SocketAddrUnix::new_abstract_name(name)?);
    }
    Ok(SocketAddrUnix::new_unnamed())
}

/// The system's address as std has it. Without a name if there is none, and if it is a path too long for std, which a peer may have.
fn std_addr(addr: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let addr = match addr {
        Some(addr) => SocketAddrUnix::try_from(addr)?,
        None => SocketAddrUnix::new_unnamed(),
    };
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.abstract_name() {
        return SocketAddr::from_abstract_name(name);
    }
    // The longest path fills the buffer together with its zero, which `path_bytes` then leaves in.
    let path = addr.path_bytes().unwrap_or_default();
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    SocketAddr::from_pathname(OsStr::from_bytes(path)).or_else(|_| SocketAddr::from_pathname(""))
}

fn local_addr(io: &Io) -> io::Result<SocketAddr> {
    std_addr(Some(rustix::net::getsockname(io)?))
}

fn peer_addr(io: &Io) -> io::Result<SocketAddr> {
    std_addr(rustix::net::getpeername(io)?)
}
