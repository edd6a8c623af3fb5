//! TCP, with the API of std's `TcpListener` and `TcpStream`.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::iter::FusedIterator;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SocketType, ipproto, sockopt};

use super::{BindOptions, ToSocketAddrs, each_addr, family, local_addr, peer_addr};
use crate::io::{
    Interest, Io, Limit, OnPause, accept_steadily, by_reference, conversions, limit_buffers,
    settings, timeouts,
};
use crate::scheduler::task::Reason;

/// A TCP connection, as [`std::net::TcpStream`].
///
/// Reading and writing park the green thread that calls; on an OS thread they block it. Any number
/// of threads may use one stream at a time, through `&TcpStream`. The descriptor is in non-blocking
/// mode: who takes it with `as_raw_fd` must reckon with that.
///
/// # Cancellation
/// Whatever may wait is a cancel point. What has been read or written when a cancellation comes is
/// returned first.
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
/// Any number of threads may [`accept`](TcpListener::accept) from one listener; each connection
/// goes to one of them.
pub struct TcpListener(Io);

impl TcpStream {
    /// Connects to `addr`. If it stands for several addresses they are tried in turn, and the last
    /// error is returned.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::net::TcpStream::connect`].
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        each_addr(addr, |addr| {
            TcpStream::connect_to(addr, Limit::Deadline(None))
        })
    }

    /// Connects to `addr`, and gives up after `timeout`.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// `InvalidInput` if `timeout` is zero, `TimedOut` if it passes, and as
    /// [`connect`](TcpStream::connect).
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
        peer_addr(&self.0)
    }

    /// Returns the address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Shuts down the reading half, the writing half or both. Threads that wait in it return.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    /// Reads without consuming: the next read finds the same bytes.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return self.0.read(0, |fd| {
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                rustix::net::recv(fd, &mut *buf, flags).map(|(n, _)| n)
            });
        }
        self.0.recv(buf, RecvFlags::PEEK)
    }

    /// Sets `SO_LINGER`: whether, and for how long, closing waits for unsent data. Linux counts in
    /// seconds.
    ///
    /// std has this as an unstable method. A linger that is not zero makes the drop of the stream
    /// block its worker.
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
}

/// The operations, on `&TcpStream`; those of `TcpStream` itself go through here.
impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv_until_drained(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (bufs, len) = limit_buffers(bufs);
        if len == 0 {
            return Ok(0);
        }
        self.0.read(len, |fd| {
            let mut control = RecvAncillaryBuffer::default();
            rustix::net::recvmsg(fd, bufs, &mut control, RecvFlags::DONTWAIT)
                .map(|message| message.bytes)
        })
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.send(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

by_reference!(TcpStream);
settings!(TcpStream);
timeouts!(TcpStream);
conversions!(TcpStream, std::net::TcpStream);

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
    /// Makes a listener on `addr`, with `SO_REUSEADDR` as std sets it. If `addr` stands for several
    /// addresses they are tried in turn.
    ///
    /// The backlog is the system's largest (`SOMAXCONN`, 4,096 on Linux), std's is 128: a server of
    /// green threads is made for crowds.
    ///
    /// # Errors
    /// As [`std::net::TcpListener::bind`].
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        BindOptions::new().tcp_listener(addr)
    }

    pub(super) fn bind_to(addr: &SocketAddr, options: &BindOptions) -> io::Result<TcpListener> {
        let fd = socket(addr)?;
        options.bind(&fd, addr, true)?;
        rustix::net::listen(&fd, options.backlog_or_most())?;
        Ok(TcpListener(Io::new(fd)))
    }

    /// Returns the address that the listener is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Takes the next connection.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::net::TcpListener::accept`]: among them `ConnectionAborted`, when the peer has
    /// given up, and "too many open files". The listener is none the worse for them: a later
    /// call goes on. [`connections`](TcpListener::connections) gets over them by itself.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (io, addr) = self.0.accept()?;
        let addr = addr.ok_or(Errno::CONNABORTED)?.try_into()?;
        Ok((TcpStream(io), addr))
    }

    /// Returns an iterator over the connections to come that suffers no failure which will pass:
    /// the loop of a server.
    ///
    /// A connection that has failed before it could be taken is left out. When descriptors or
    /// memory have run out, those who want to connect wait in the backlog, and it looks again
    /// after pauses of 5 to 200 milliseconds, of which [`on_pause`](Connections::on_pause) tells.
    /// An error that it does return is for good, and it ends after it.
    ///
    /// ```
    /// use hebra::net::{TcpListener, TcpStream};
    /// use hebra::thread;
    /// use std::io::Write;
    ///
    /// fn serve(listener: &TcpListener) -> std::io::Result<()> {
    ///     for connection in listener.connections() {
    ///         let (mut stream, _peer) = connection?;
    ///         thread::spawn(move || stream.write_all(b"hello"));
    ///     }
    ///     Ok(())
    /// }
    ///
    /// hebra::run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let address = listener.local_addr()?;
    ///     thread::spawn(move || serve(&listener));
    ///     assert_eq!(std::io::read_to_string(TcpStream::connect(address)?)?, "hello");
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Cancellation
    /// Its `next` parks the current thread; this is a cancel point.
    pub fn connections(&self) -> Connections<'_> {
        Connections {
            listener: Some(self),
            on_pause: OnPause::NOTHING,
        }
    }

    /// Returns an iterator over the connections to come; it never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Turns the listener into an iterator over the connections to come; it never ends. In std this
    /// is unstable.
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
}

impl TcpListener {
    /// Sets `IPV6_V6ONLY`; see [`std::net::TcpListener::set_only_v6`].
    ///
    /// # Errors
    /// The listener is bound already: always.
    #[deprecated(note = "this option can only be set before the socket is bound: `BindOptions`")]
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        Ok(sockopt::set_ipv6_v6only(&self.0, only_v6)?)
    }

    /// Returns the value of `IPV6_V6ONLY`.
    #[deprecated(note = "this option can only be set before the socket is bound: `BindOptions`")]
    pub fn only_v6(&self) -> io::Result<bool> {
        Ok(sockopt::ipv6_v6only(&self.0)?)
    }
}

settings!(TcpListener);
conversions!(TcpListener, std::net::TcpListener);

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

/// The connections to come, with their addresses; made by [`TcpListener::connections`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Connections<'a> {
    /// `None` after an error.
    listener: Option<&'a TcpListener>,
    on_pause: OnPause<'a>,
}

impl<'a> Connections<'a> {
    /// Has `hook` called with the error before each pause that the iterator makes because
    /// descriptors or memory have run out: to count it, to log it, or to close what is idle.
    pub fn on_pause(mut self, hook: impl FnMut(&io::Error) + Send + Sync + 'a) -> Connections<'a> {
        self.on_pause = OnPause::new(hook);
        self
    }
}

impl Iterator for Connections<'_> {
    type Item = io::Result<(TcpStream, SocketAddr)>;

    fn next(&mut self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let listener = self.listener?;
        let result = accept_steadily(|| listener.accept(), |error| self.on_pause.call(error));
        if result.is_err() {
            self.listener = None;
        }
        Some(result)
    }
}

impl FusedIterator for Connections<'_> {}

fn socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    crate::io::socket(family(addr), SocketType::STREAM, Some(ipproto::TCP))
}
