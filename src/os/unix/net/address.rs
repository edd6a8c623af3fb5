//! Addresses, between std's type and the system's.

use std::ffi::OsStr;
use std::io;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::slice;

use rustix::net::{SocketAddrAny, SocketAddrUnix};

use crate::io::Io;

/// Where the name begins, in what the system says of a socket.
const NAME: usize = std::mem::offset_of!(libc::sockaddr_un, sun_path);

/// A path as the system wants it; std's error if it is too long or holds a zero.
pub(super) fn path_addr(path: &Path) -> io::Result<SocketAddrUnix> {
    kernel_addr(&SocketAddr::from_pathname(path)?)
}

/// std's address as the system wants it.
pub(super) fn kernel_addr(addr: &SocketAddr) -> io::Result<SocketAddrUnix> {
    if let Some(path) = addr.as_pathname() {
        return Ok(SocketAddrUnix::new(path)?);
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_name() {
        return Ok(SocketAddrUnix::new_abstract_name(name)?);
    }
    Ok(SocketAddrUnix::new_unnamed())
}

/// The system's address as std has it. A path that is too long for std, as a peer may have one,
/// counts as no name: it must not be an error that a server meets.
///
/// Not through rustix's type for it: that confuses no name with an empty one, and panics at the
/// longest path (version 1.1).
pub(super) fn std_addr(addr: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let name = addr
        .as_ref()
        .and_then(|addr| bytes(addr).get(NAME..))
        .unwrap_or_default();
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let [0, name @ ..] = name {
        return SocketAddr::from_abstract_name(name);
    }
    let path = name.split(|&byte| byte == 0).next().unwrap_or_default();
    SocketAddr::from_pathname(OsStr::from_bytes(path)).or_else(|_| SocketAddr::from_pathname(""))
}

fn bytes(addr: &SocketAddrAny) -> &[u8] {
    // SAFETY: rustix keeps as many bytes of the address initialised, in the value itself, as it
    // says that it is long.
    unsafe { slice::from_raw_parts(addr.as_ptr().cast(), addr.addr_len() as usize) }
}

pub(super) fn local_addr(io: &Io) -> io::Result<SocketAddr> {
    std_addr(Some(rustix::net::getsockname(io)?))
}

pub(super) fn peer_addr(io: &Io) -> io::Result<SocketAddr> {
    std_addr(rustix::net::getpeername(io)?)
}
