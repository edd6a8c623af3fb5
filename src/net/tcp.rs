//! TCP, with the API of std's `TcpListener` and `TcpStream`.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::iter::FusedIterator;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, ipproto, sockopt,
};

use crate::io::{Interest, Io, Limit, refuse_in_simulation};
use crate::scheduler::task::Reason;

/// A TCP connection, as [`std::net::TcpStream`].
///
/// Reading and writing park the green thread that calls; on an OS thread they block it. Any number of threads may use one stream at
/// a time, through `&TcpStream`. The descriptor is in non-blocking mode: who takes it with `as_raw_fd` must reckon with that.
///
/// # Cancellation
/// Whatever may wait is a cancel point. What has been read or written when a cancellation comes is returned first.
///
/// ```
/// use hebra::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// hebra::run(|| -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let address = listener.local_addr()?;
///     let server = hebra::thread::spawn(move || -> std::io::Result<()> {
///         let (mut stream, _) = listener.accept()?;
///         stream.write_all(b"hello")
///     });
///     let mut greeting = String::new();
///     TcpStream::connect(address)?.read_to_string(&mut greeting)?;
///     assert_eq!(greeting, "hello");
///     server.join().unwrap()
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpStream(Io);

/// A TCP socket that takes connections, as [`std::net::TcpListener`].
///
/// Any number of threads may [`accept`](TcpListener::accept) from one listener; each connection goes to one of them.
pub struct TcpListener(Io);

impl TcpStream {
    /// Connects to `addr`. If it stands for several addresses they are tried in turn, and the last error is returned.
    ///
    /// Resolving a name blocks the worker until the system has answered.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::net::TcpStream::connect`].
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        each_addr(addr, |addr| TcpStream::connect_to(addr, Limit::Deadline(None)))
    }

    /// Connects to `addr`, and gives up after `timeout`.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// `InvalidInput` if `timeout` is zero, `TimedOut` if it passes, and as [`connect`](TcpStream::connect).
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            let message = "cannot set a 0 duration timeout";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        TcpStream::connect_to(addr, Limit::Timeout(timeout))
    }

    fn connect_to(addr: &SocketAddr, mut limit: Limit) -> io::Result<TcpStream> {
        let io = Io::new(socket(addr)?);
        let mut seen = io.edges(Interest::Write);
        match rustix::net::connect(&io, addr) {
            Ok(()) => return Ok(TcpStream(io)),
            // An interrupted connect goes on by itself, as one in progress does.
            Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        loop {
            io.wait(Interest::Write, seen, Reason::Connect, &mut limit)?;
            seen = io.edges(Interest::Write);
            sockopt::socket_error(&io)??;
            match rustix::net::getpeername(&io) {
                Ok(_) => return Ok(TcpStream(io)),
                // A spurious wake-up: it is still in progress.
                Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the address of the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(rustix::net::getpeername(&self.0)?.ok_or(Errno::NOTCONN)?.try_into()?)
    }

    /// Returns the address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Shuts down the reading half, the writing half or both. Threads that wait in it return.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        Ok(rustix::net::shutdown(&self.0, how)?)
    }

    /// Makes a second handle of the same connection, with a descriptor of its own. Time-outs and the non-blocking mode are common to
    /// both.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        self.0.try_clone().map(TcpStream)
    }

    /// Limits how long a read may wait; `None` for ever. Unlike in std a read that takes longer always fails with `TimedOut`.
    ///
    /// # Errors
    /// `InvalidInput` if the time-out is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_timeout(Interest::Read, timeout)
    }

    /// Limits how long a write may wait; `None` for ever. Unlike in std a write that takes longer always fails with `TimedOut`.
    ///
    /// # Errors
    /// `InvalidInput` if the time-out is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_timeout(Interest::Write, timeout)
    }

    /// Returns the limit set with [`set_read_timeout`](TcpStream::set_read_timeout).
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.timeout(Interest::Read))
    }

    /// Returns the limit set with [`set_write_timeout`](TcpStream::set_write_timeout).
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.timeout(Interest::Write))
    }

    /// Reads without consuming: the next read finds the same bytes.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.retry(Interest::Read, Reason::Read, |fd| {
            rustix::net::recv(fd, &mut *buf, RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(n, _)| n)
        })
    }

    /// Sets `SO_LINGER`: whether, and for how long, closing waits for unsent data. Linux counts in seconds.
    ///
    /// std has this as an unstable method. A linger that is not zero makes the drop of the stream block its worker.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.0, linger)?)
    }

    /// Returns the value of `SO_LINGER`.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(sockopt::socket_linger(&self.0)?)
    }

    /// Sets `TCP_NODELAY`: whether small writes are sent at once rather than gathered.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(&self.0, nodelay)?)
    }

    /// Returns the value of `TCP_NODELAY`.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(sockopt::tcp_nodelay(&self.0)?)
    }

    /// Sets the time to live of the packets sent.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        Ok(sockopt::set_ip_ttl(&self.0, ttl)?)
    }

    /// Returns the time to live of the packets sent.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(sockopt::ip_ttl(&self.0)?)
    }

    /// Takes the error that is pending on the socket, if there is one.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        take_error(&self.0)
    }

    /// Whether operations that would have to wait fail with `WouldBlock` instead, for all handles of this connection.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking);
        Ok(())
    }
}

/// The operations, on `&TcpStream`; those of `TcpStream` itself go through here.
impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf.len(), |fd| rustix::net::recv(fd, &mut *buf, RecvFlags::DONTWAIT).map(|(n, _)| n))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        self.0.read(len, |fd| {
            let mut control = RecvAncillaryBuffer::default();
            rustix::net::recvmsg(fd, bufs, &mut control, RecvFlags::DONTWAIT).map(|message| message.bytes)
        })
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.retry(Interest::Write, Reason::Write, |fd| rustix::net::send(fd, buf, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.retry(Interest::Write, Reason::Write, |fd| {
            let mut control = SendAncillaryBuffer::default();
            rustix::net::sendmsg(fd, bufs, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpStream");
        if let Ok(addr) = self.local_addr() {
            debug.field("addr", &addr);
        }
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}

impl TcpListener {
    /// Makes a listener on `addr`, with `SO_REUSEADDR` as std sets it. If `addr` stands for several addresses they are tried in turn.
    ///
    /// The backlog is the system's largest (`SOMAXCONN`, 4,096 on Linux), std's is 128: a server of green threads is made for crowds.
    ///
    /// # Errors
    /// As [`std::net::TcpListener::bind`].
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        each_addr(addr, |addr| {
            let fd = socket(addr)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            rustix::net::bind(&fd, addr)?;
            rustix::net::listen(&fd, libc::SOMAXCONN)?;
            Ok(TcpListener(Io::new(fd)))
        })
    }

    /// Returns the address that the listener is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Makes a second handle of the same listener, with a descriptor of its own.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        self.0.try_clone().map(TcpListener)
    }

    /// Takes the next connection.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::net::TcpListener::accept`]: among them `ConnectionAborted`, when the peer has given up, and "too many open files". The
    /// listener is none the worse for them: a later call goes on.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, addr) = self.0.retry(Interest::Read, Reason::Accept, accept)?;
        let addr = addr.ok_or(Errno::CONNABORTED)?.try_into()?;
        Ok((TcpStream(Io::new(fd)), addr))
    }

    /// Returns an iterator over the connections to come; it never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Turns the listener into an iterator over the connections to come; it never ends. In std this is unstable.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }

    /// Sets the time to live of the packets sent.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        Ok(sockopt::set_ip_ttl(&self.0, ttl)?)
    }

    /// Returns the time to live of the packets sent.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(sockopt::ip_ttl(&self.0)?)
    }

    /// Takes the error that is pending on the socket, if there is one.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        take_error(&self.0)
    }

    /// Whether [`accept`](TcpListener::accept) fails with `WouldBlock` when it would have to wait, for all handles of this listener.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking);
        Ok(())
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpListener");
        if let Ok(addr) = self.local_addr() {
            debug.field("addr", &addr);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}

/// The connections to come; made by [`TcpListener::incoming`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}

/// The connections to come; made by [`TcpListener::into_incoming`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct IntoIncoming {
    listener: TcpListener,
}

impl Iterator for IntoIncoming {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for IntoIncoming {}

/// Runs `f` on each address in turn until one succeeds; the last error, if none does.
fn each_addr<A: ToSocketAddrs, T>(addr: A, mut f: impl FnMut(&SocketAddr) -> io::Result<T>) -> io::Result<T> {
    refuse_in_simulation("a socket")?;
    let mut last = None;
    for addr in addr.to_socket_addrs()? {
        match f(&addr) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")))
}

fn socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    refuse_in_simulation("a socket")?;
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?)
}

fn accept(fd: BorrowedFd<'_>) -> rustix::io::Result<(OwnedFd, Option<rustix::net::SocketAddrAny>)> {
    rustix::net::acceptfrom_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

fn local_addr(io: &Io) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(io)?.try_into()?)
}

fn take_error(io: &Io) -> io::Result<Option<io::Error>> {
    Ok(sockopt::socket_error(io)?.err().map(io::Error::from))
}

/// The conversions that std's types have, for `$ours` as a face of an [`Io`].
macro_rules! conversions {
    ($($ours:ident;)*) => {$(
        impl AsFd for $ours {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl AsRawFd for $ours {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_fd().as_raw_fd()
            }
        }

        impl IntoRawFd for $ours {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }

        #[doc = concat!("Takes the descriptor out, in the mode that [`set_nonblocking`](", stringify!($ours),
            "::set_nonblocking) has chosen: blocking unless told otherwise.")]
        impl From<$ours> for OwnedFd {
            fn from(ours: $ours) -> OwnedFd {
                ours.0.into_fd()
            }
        }

        /// Adopts a descriptor. If it is non-blocking, operations on it fail with `WouldBlock`, as they would in std.
        impl From<OwnedFd> for $ours {
            fn from(fd: OwnedFd) -> $ours {
                $ours(Io::adopt(fd))
            }
        }
    )*};
}

conversions! {
    TcpStream;
    TcpListener;
}

/// Adopts a connection of std's, with its time-outs.
impl From<std::net::TcpStream> for TcpStream {
    fn from(stream: std::net::TcpStream) -> TcpStream {
        TcpStream::from(OwnedFd::from(stream))
    }
}

/// Turns it into a connection of std's, with its time-outs.
impl From<TcpStream> for std::net::TcpStream {
    fn from(ours: TcpStream) -> std::net::TcpStream {
        std::net::TcpStream::from(OwnedFd::from(ours))
    }
}

impl From<std::net::TcpListener> for TcpListener {
    fn from(listener: std::net::TcpListener) -> TcpListener {
        TcpListener::from(OwnedFd::from(listener))
    }
}

impl From<TcpListener> for std::net::TcpListener {
    fn from(ours: TcpListener) -> std::net::TcpListener {
        std::net::TcpListener::from(OwnedFd::from(ours))
    }
}
