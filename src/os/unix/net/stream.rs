//! [`UnixStream`]: a connection within the machine.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType};

use super::SocketAddr;
use super::address::{kernel_addr, local_addr, path_addr, peer_addr};
use crate::io::{
    Interest, Io, Limit, by_reference, conversions, settings, socket, socket_pair, timeouts,
};
use crate::scheduler::task::Reason;

/// A connection of the Unix domain, as [`std::os::unix::net::UnixStream`].
///
/// Reading and writing park the green thread that calls; on an OS thread they block it. Any number
/// of threads may use one stream at a time, through `&UnixStream`. The descriptor is in
/// non-blocking mode: who takes it with `as_raw_fd` must reckon with that.
///
/// # Cancellation
/// Whatever may wait is a cancel point. What has been read or written when a cancellation comes is
/// returned first.
///
/// ```
/// use hebra::os::unix::net::UnixStream;
/// use std::io::{Read, Write};
///
/// hebra::run(|| -> std::io::Result<()> {
///     let (mut near, mut far) = UnixStream::pair()?;
///     let peer = hebra::thread::spawn(move || far.write_all(b"hello"));
///     let mut greeting = String::new();
///     near.read_to_string(&mut greeting)?;
///     assert_eq!(greeting, "hello");
///     peer.join().unwrap()
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
// Its reads do not trust in a short one: the kernel cuts at a message that carries descriptors or
// credentials, and there may be more.
pub struct UnixStream(pub(super) Io);

impl UnixStream {
    /// Connects to the socket at `path`. While its backlog is full, the system refuses and this
    /// waits; see [the module](super).
    ///
    /// # Cancellation
    /// Parks the current thread while the backlog is full; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::os::unix::net::UnixStream::connect`].
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_to(&path_addr(path.as_ref())?)
    }

    /// Connects to the socket at an address, which may be an abstract name.
    ///
    /// # Cancellation
    /// As [`connect`](UnixStream::connect).
    ///
    /// # Errors
    /// As [`connect`](UnixStream::connect).
    pub fn connect_addr(socket_addr: &SocketAddr) -> io::Result<UnixStream> {
        UnixStream::connect_to(&kernel_addr(socket_addr)?)
    }

    fn connect_to(addr: &SocketAddrUnix) -> io::Result<UnixStream> {
        let io = Io::new(socket(AddressFamily::UNIX, SocketType::STREAM, None)?);
        let connect = |fd: std::os::fd::BorrowedFd<'_>| rustix::net::connect(fd, addr);
        io.retry_in_pauses(
            Limit::Deadline(None),
            Interest::Write,
            Reason::Connect,
            connect,
        )?;
        Ok(UnixStream(io))
    }

    /// Makes two streams that are connected to each other.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = socket_pair(SocketType::STREAM)?;
        Ok((UnixStream(one), UnixStream(other)))
    }

    /// Returns the address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Returns the address of the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        peer_addr(&self.0)
    }

    /// Shuts down the reading half, the writing half or both. Threads that wait in it return.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    /// Reads without consuming: the next read finds the same bytes. In std this is unstable.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf, RecvFlags::PEEK)
    }
}

/// The operations, on `&UnixStream`; those of `UnixStream` itself go through here.
impl Read for &UnixStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf, RecvFlags::empty())
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.recv_vectored(bufs)
    }
}

impl Write for &UnixStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.send_until_shutdown(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored_until_shutdown(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

by_reference!(UnixStream);
settings!(UnixStream);
timeouts!(UnixStream);
conversions!(UnixStream, std::os::unix::net::UnixStream);

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixStream");
        debug.field("fd", &self.as_raw_fd());
        if let Ok(addr) = self.local_addr() {
            debug.field("local", &addr);
        }
        if let Ok(addr) = self.peer_addr() {
            debug.field("peer", &addr);
        }
        debug.finish()
    }
}
