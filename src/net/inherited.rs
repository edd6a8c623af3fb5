//! Descriptors that a service manager has opened and passed on: the protocol of systemd's socket
//! activation.
//!
//! The manager opens the sockets, starts the program with them as the descriptors from 3 on, and
//! says in `LISTEN_FDS` how many there are, in `LISTEN_FDNAMES` what they are called, and in
//! `LISTEN_PID` whom it means.
//!
//! # Who owns them
//!
//! Whoever takes them; so they must be taken once. Our own second call finds a mark. What somebody
//! else has taken, or opened under the same number, has `FD_CLOEXEC` set: every taker sets it, std
//! sets it on all that it opens, and what has come through an `exec` cannot have it. So a
//! descriptor that has it is refused.

use std::env;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{SocketType, sockopt};

use super::{TcpListener, UdpSocket};

/// The first descriptor that is passed on.
const FIRST: RawFd = 3;

/// Takes the descriptors that the service manager has passed on, in its order, with the names that
/// it has given them.
///
/// Nothing is passed on to a program that was started in another way, and nothing is left for a
/// second call: they return an empty vector. The descriptors are not inherited any further.
///
/// ```
/// use hebra::net::{TcpListener, inherited};
///
/// // From the service manager if there is one, else by ourselves.
/// let listener = match inherited()?.pop() {
///     Some(socket) => socket.into_tcp_listener()?,
///     None => TcpListener::bind("127.0.0.1:0")?,
/// };
/// # drop(listener);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `InvalidData` if what the environment says is not so: no number, or a descriptor that is not
/// open or was not passed on. Then nothing is taken.
pub fn inherited() -> io::Result<Vec<Inherited>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if number("LISTEN_PID")? != Some(process::id()) || TAKEN.load(Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS")?.unwrap_or(0);
    let end = RawFd::try_from(count)
        .ok()
        .and_then(|count| FIRST.checked_add(count));
    let fds = FIRST..end.ok_or_else(|| invalid(format_args!("LISTEN_FDS says {count}")))?;
    for fd in fds.clone() {
        check(fd)?;
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let take = |fd| {
        // SAFETY: `check` has found it open, and not marked as somebody's; the mark `TAKEN` says
        // that we have not taken it before.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Inherited {
            name: names.next().unwrap_or("unknown").to_owned(),
            fd,
        })
    };
    fds.map(take).collect()
}

/// A descriptor from the service manager; made by [`inherited`].
pub struct Inherited {
    name: String,
    fd: OwnedFd,
}

impl Inherited {
    /// Returns the name from the manager's configuration, in systemd `FileDescriptorName=`;
    /// `unknown` if it gives none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Turns it into a TCP listener.
    ///
    /// # Errors
    /// `InvalidInput` if it is something else.
    pub fn into_tcp_listener(self) -> io::Result<TcpListener> {
        let listens = sockopt::socket_acceptconn(&self.fd).unwrap_or(false);
        if !listens {
            return Err(self.is_no("TCP listener"));
        }
        self.into_ip(SocketType::STREAM, "TCP listener")
    }

    /// Turns it into a UDP socket.
    ///
    /// # Errors
    /// `InvalidInput` if it is something else.
    pub fn into_udp_socket(self) -> io::Result<UdpSocket> {
        self.into_ip(SocketType::DGRAM, "UDP socket")
    }

    fn into_ip<T: From<OwnedFd>>(self, kind: SocketType, what: &str) -> io::Result<T> {
        let is_ip =
            rustix::net::getsockname(&self.fd).is_ok_and(|addr| SocketAddr::try_from(addr).is_ok());
        if !is_ip || sockopt::socket_type(&self.fd) != Ok(kind) {
            return Err(self.is_no(what));
        }
        Ok(T::from(self.fd))
    }

    fn is_no(&self, what: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the inherited descriptor {:?} is no {what}", self.name),
        )
    }
}

impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// For everything that is not TCP or UDP: a `UnixListener`, a file.
impl From<Inherited> for OwnedFd {
    fn from(inherited: Inherited) -> OwnedFd {
        inherited.fd
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited")
            .field("name", &self.name)
            .field("fd", &self.fd)
            .finish()
    }
}

/// What a variable of the environment says; `None` if there is none.
fn number(variable: &str) -> io::Result<Option<u32>> {
    match env::var(variable) {
        Err(env::VarError::NotPresent) => Ok(None),
        value => match value.ok().and_then(|value| value.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(format_args!("{variable} is not a number"))),
        },
    }
}

/// Makes sure that `fd` has been passed on, and that nobody has taken it.
fn check(fd: RawFd) -> io::Result<()> {
    // SAFETY: this only asks for the flags of a descriptor, and fails if there is none.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    match flags {
        -1 => Err(invalid(format_args!(
            "LISTEN_FDS means a descriptor {fd}, which is not open"
        ))),
        flags if flags & libc::FD_CLOEXEC != 0 => Err(invalid(format_args!(
            "LISTEN_FDS means a descriptor {fd}, which somebody else has opened or taken"
        ))),
        _ => Ok(()),
    }
}

fn invalid(message: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_string())
}
