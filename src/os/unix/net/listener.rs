//! [`UnixListener`]: takes connections of the Unix domain.

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use super::address::{kernel_addr, local_addr, path_addr, std_addr};
use super::{SocketAddr, UnixStream};
use crate::io::{Io, OnPause, accept_steadily, conversions, settings, socket};

/// A socket of the Unix domain that takes connections, as [`std::os::unix::net::UnixListener`].
///
/// Any number of threads may [`accept`](UnixListener::accept) from one listener; each connection
/// goes to one of them. Dropping it leaves the path where it is, as in std.
///
/// ```
/// use hebra::os::linux::net::SocketAddrExt;
/// use hebra::os::unix::net::{SocketAddr, UnixListener, UnixStream};
/// use std::io::{Read, Write};
///
/// hebra::run(|| -> std::io::Result<()> {
///     // A name that is no path: it goes when the listener goes.
///     let name = SocketAddr::from_abstract_name(format!("hebra, process {}", std::process::id()))?;
///     let listener = UnixListener::bind_addr(&name)?;
///     let server = hebra::thread::spawn(move || listener.accept()?.0.write_all(b"hello"));
///     let mut greeting = String::new();
///     UnixStream::connect_addr(&name)?.read_to_string(&mut greeting)?;
///     assert_eq!(greeting, "hello");
///     server.join().unwrap()
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixListener(Io);

impl UnixListener {
    /// Makes a listener at `path`, which must not exist yet. The backlog is the system's largest.
    ///
    /// # Errors
    /// As [`std::os::unix::net::UnixListener::bind`].
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bind_to(&path_addr(path.as_ref())?)
    }

    /// Makes a listener at an address, which may be an abstract name.
    ///
    /// # Errors
    /// As [`bind`](UnixListener::bind).
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::bind_to(&kernel_addr(socket_addr)?)
    }

    fn bind_to(addr: &SocketAddrUnix) -> io::Result<UnixListener> {
        let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        rustix::net::bind(&fd, addr)?;
        rustix::net::listen(&fd, libc::SOMAXCONN)?;
        Ok(UnixListener(Io::new(fd)))
    }

    /// Takes the next connection.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::os::unix::net::UnixListener::accept`]: among them "too many open files". The
    /// listener is none the worse for it: a later call goes on.
    /// [`connections`](UnixListener::connections) gets over it by itself.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (io, addr) = self.0.accept()?;
        Ok((UnixStream(io), std_addr(addr)?))
    }

    /// Returns an iterator over the connections to come that suffers no failure which will pass:
    /// the loop of a server.
    ///
    /// When descriptors or memory have run out, those who want to connect wait in the backlog, and
    /// it looks again after pauses of 5 to 200 milliseconds; [`on_pause`](Connections::on_pause) tells of them. An error that it does return is
    /// for good, and it ends after it.
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

    /// Returns the address that the listener is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }
}

settings!(UnixListener);
conversions!(UnixListener, std::os::unix::net::UnixListener);

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixListener");
        debug.field("fd", &self.as_raw_fd());
        if let Ok(addr) = self.local_addr() {
            debug.field("local", &addr);
        }
        debug.finish()
    }
}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// The connections to come; made by [`UnixListener::incoming`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Incoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

/// The connections to come, with their addresses; made by [`UnixListener::connections`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Connections<'a> {
    /// `None` after an error.
    listener: Option<&'a UnixListener>,
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
    type Item = io::Result<(UnixStream, SocketAddr)>;

    fn next(&mut self) -> Option<io::Result<(UnixStream, SocketAddr)>> {
        let listener = self.listener?;
        let result = accept_steadily(|| listener.accept(), |error| self.on_pause.call(error));
        if result.is_err() {
            self.listener = None;
        }
        Some(result)
    }
}

impl FusedIterator for Connections<'_> {}
