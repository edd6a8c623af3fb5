//! [`UnixDatagram`]: datagrams within the machine.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType};

use super::SocketAddr;
use super::address::{kernel_addr, local_addr, path_addr, peer_addr, std_addr};
use crate::io::{Io, conversions, settings, socket, socket_pair, timeouts};

/// A datagram socket of the Unix domain, as [`std::os::unix::net::UnixDatagram`].
///
/// Unlike UDP it loses nothing: who sends to a full queue waits. Sending and receiving park the
/// green thread that calls; on an OS thread they block it. Any number of threads may use one socket
/// at a time; each datagram goes to one of them. The descriptor is in non-blocking mode: who takes
/// it with `as_raw_fd` must reckon with that.
///
/// # Cancellation
/// Whatever may wait is a cancel point. A datagram that has been received when a cancellation comes
/// is returned first.
///
/// ```
/// use hebra::os::unix::net::UnixDatagram;
///
/// hebra::run(|| -> std::io::Result<()> {
///     let (near, far) = UnixDatagram::pair()?;
///     let peer = hebra::thread::spawn(move || far.send(b"hello"));
///     let mut buffer = [0; 100];
///     let len = near.recv(&mut buffer)?;
///     assert_eq!(&buffer[..len], b"hello");
///     assert_eq!(peer.join().unwrap()?, 5);
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixDatagram(Io);

impl UnixDatagram {
    /// Makes a socket bound to `path`, which must not exist yet.
    ///
    /// # Errors
    /// As [`std::os::unix::net::UnixDatagram::bind`].
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_to(&path_addr(path.as_ref())?)
    }

    /// Makes a socket bound to an address, which may be an abstract name.
    ///
    /// # Errors
    /// As [`bind`](UnixDatagram::bind).
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_to(&kernel_addr(socket_addr)?)
    }

    fn bind_to(addr: &SocketAddrUnix) -> io::Result<UnixDatagram> {
        let unbound = UnixDatagram::unbound()?;
        rustix::net::bind(&unbound.0, addr)?;
        Ok(unbound)
    }

    /// Makes a socket that has no address: it can send, and receive from where it is connected to.
    pub fn unbound() -> io::Result<UnixDatagram> {
        Ok(UnixDatagram(Io::new(socket(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            None,
        )?)))
    }

    /// Makes two sockets that are connected to each other.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = socket_pair(SocketType::DGRAM)?;
        Ok((UnixDatagram(one), UnixDatagram(other)))
    }

    /// Sets the path that [`send`](UnixDatagram::send) sends to and [`recv`](UnixDatagram::recv)
    /// receives from.
    ///
    /// # Errors
    /// As [`std::os::unix::net::UnixDatagram::connect`].
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        Ok(rustix::net::connect(&self.0, &path_addr(path.as_ref())?)?)
    }

    /// Sets the address that [`send`](UnixDatagram::send) sends to and [`recv`](UnixDatagram::recv)
    /// receives from.
    ///
    /// # Errors
    /// As [`connect`](UnixDatagram::connect).
    pub fn connect_addr(&self, socket_addr: &SocketAddr) -> io::Result<()> {
        Ok(rustix::net::connect(&self.0, &kernel_addr(socket_addr)?)?)
    }

    /// Returns the address that the socket is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Returns the address that the socket is connected to.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        peer_addr(&self.0)
    }

    /// Receives a datagram, and returns its length and where it comes from. What does not fit into
    /// `buf` is lost.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::empty())
    }

    /// Receives a datagram, and returns its length. What does not fit into `buf` is lost.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from_with(buf, RecvFlags::empty())
            .map(|(len, _)| len)
    }

    /// Receives as [`recv`](UnixDatagram::recv) does without consuming: the next receive finds the
    /// same datagram. In std this is unstable.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from_with(buf, RecvFlags::PEEK)
            .map(|(len, _)| len)
    }

    /// Receives as [`recv_from`](UnixDatagram::recv_from) does without consuming: the next receive
    /// finds the same datagram. In std this is unstable.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::PEEK)
    }

    fn recv_from_with(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        let (len, addr) = self.0.recv_from_until_shutdown(buf, flags)?;
        Ok((len, std_addr(addr)?))
    }

    /// Sends a datagram to `path`, and returns its length. While the receiver's queue is full this
    /// waits; see [the module](super).
    ///
    /// # Cancellation
    /// Parks the current thread while the queue is full; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::os::unix::net::UnixDatagram::send_to`].
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.0.send_to_in_pauses(buf, &path_addr(path.as_ref())?)
    }

    /// Sends a datagram to an address, and returns its length.
    ///
    /// # Cancellation
    /// As [`send_to`](UnixDatagram::send_to).
    ///
    /// # Errors
    /// As [`send_to`](UnixDatagram::send_to).
    pub fn send_to_addr(&self, buf: &[u8], socket_addr: &SocketAddr) -> io::Result<usize> {
        self.0.send_to_in_pauses(buf, &kernel_addr(socket_addr)?)
    }

    /// Sends a datagram to the address that the socket is connected to, and returns its length.
    ///
    /// # Cancellation
    /// Parks the current thread while the receiver's queue is full; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::os::unix::net::UnixDatagram::send`].
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.send_until_shutdown(buf)
    }

    /// Shuts down the reading half, the writing half or both. Threads that wait in it return; who
    /// receives is told of an empty datagram.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }
}

settings!(UnixDatagram);
timeouts!(UnixDatagram);
conversions!(UnixDatagram, std::os::unix::net::UnixDatagram);

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixDatagram");
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
