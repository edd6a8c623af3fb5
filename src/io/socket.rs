//! An [`Io`] that is a socket: the operations that the sockets of `net` and of `os` share.
//!
//! All of them ask for `MSG_DONTWAIT`: the open file may have been made blocking through a clone
//! that is std's by now.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{
    AddressFamily, Protocol, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrAny, SocketFlags, SocketType, sockopt,
};

use super::descriptor::{Interest, Io, Limit, refuse_in_simulation};
use crate::coroutine::prefetch;
use crate::scheduler::task::Reason;
use crate::thread;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// The most buffers that one system call takes: `IOV_MAX`, the same number on all systems that we
/// know. More of them fail with `EMSGSIZE` at a socket, and with `EINVAL` elsewhere.
const MOST_BUFFERS: usize = 1024;

/// As many of `bufs` as one call takes, and how long they are together. The call then returns a
/// short count, as std's does.
pub(crate) fn limit_buffers<'a, 'b>(
    bufs: &'a mut [IoSliceMut<'b>],
) -> (&'a mut [IoSliceMut<'b>], usize) {
    let most = bufs.len().min(MOST_BUFFERS);
    let bufs = &mut bufs[..most];
    let len = bufs.iter().map(|buf| buf.len()).sum();
    (bufs, len)
}

/// As many of `bufs` as one call takes.
pub(crate) fn limit_written<'a, 'b>(bufs: &'a [IoSlice<'b>]) -> &'a [IoSlice<'b>] {
    &bufs[..bufs.len().min(MOST_BUFFERS)]
}

/// Makes a socket. Whatever connects or binds begins here.
pub(crate) fn socket(
    family: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
) -> io::Result<OwnedFd> {
    refuse_in_simulation("a socket")?;
    Ok(rustix::net::socket_with(family, kind, FLAGS, protocol)?)
}

/// Makes two sockets of the Unix domain that are connected to each other.
pub(crate) fn socket_pair(kind: SocketType) -> io::Result<(Io, Io)> {
    refuse_in_simulation("a socket")?;
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, kind, FLAGS, None)?;
    Ok((Io::new(one), Io::new(other)))
}

impl Io {
    /// Takes the next connection, and where it comes from if the system says so.
    pub(crate) fn accept(&self) -> io::Result<(Io, Option<SocketAddrAny>)> {
        let (fd, addr) = self.retry(Interest::Read, Reason::Accept, |fd| {
            rustix::net::acceptfrom_with(fd, FLAGS)
        })?;
        Ok((Io::new(fd), addr))
    }

    pub(crate) fn recv(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let flags = flags | RecvFlags::DONTWAIT;
        self.retry(Interest::Read, Reason::Read, |fd| {
            rustix::net::recv(fd, &mut *buf, flags).map(|(n, _)| n)
        })
    }

    /// As [`recv`](Io::recv), on a socket where what is left after a short read comes with an edge:
    /// see [`Io::read`].
    #[inline]
    pub(crate) fn recv_until_drained(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read(buf.len(), |fd| {
            // With thousands of connections it is in no near cache, and comes while the system is
            // on its way to the data.
            prefetch::<2>(buf.as_ptr().addr());
            rustix::net::recv(fd, &mut *buf, RecvFlags::DONTWAIT).map(|(n, _)| n)
        })
    }

    /// Returns `Ok(0)` at once if `bufs` have no room, as `readv(2)` does.
    pub(crate) fn recv_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (bufs, len) = limit_buffers(bufs);
        if len == 0 {
            return Ok(0);
        }
        self.retry(Interest::Read, Reason::Read, |fd| {
            rustix::net::recvmsg(
                fd,
                bufs,
                &mut RecvAncillaryBuffer::default(),
                RecvFlags::DONTWAIT,
            )
            .map(|message| message.bytes)
        })
    }

    pub(crate) fn recv_from(
        &self,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<(usize, Option<SocketAddrAny>)> {
        let flags = flags | RecvFlags::DONTWAIT;
        self.retry(Interest::Read, Reason::Read, |fd| recv_from(fd, buf, flags))
    }

    /// As [`recv_from`](Io::recv_from), for datagram sockets that can be shut down. Who waits in
    /// the kernel is then told of an empty datagram; who asks it not to wait is told to come
    /// again, for ever.
    pub(crate) fn recv_from_until_shutdown(
        &self,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<(usize, Option<SocketAddrAny>)> {
        let flags = flags | RecvFlags::DONTWAIT;
        self.retry(Interest::Read, Reason::Read, |fd| {
            match recv_from(fd, buf, flags) {
                Err(Errno::AGAIN) if !self.is_nonblocking() && is_shut_down(fd)? => Ok((0, None)),
                result => result,
            }
        })
    }

    /// As [`send`](Io::send), on a socket of the Unix domain: there a shutdown is no edge for a
    /// writer that waits.
    pub(crate) fn send_until_shutdown(&self, buf: &[u8]) -> io::Result<usize> {
        self.retry_until_shutdown(|fd| rustix::net::send(fd, buf, SEND))
    }

    /// As [`send_until_shutdown`](Io::send_until_shutdown).
    pub(crate) fn send_vectored_until_shutdown(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = limit_written(bufs);
        self.retry_until_shutdown(|fd| {
            rustix::net::sendmsg(fd, bufs, &mut SendAncillaryBuffer::default(), SEND)
        })
    }

    #[inline]
    pub(crate) fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.retry(Interest::Write, Reason::Write, |fd| {
            rustix::net::send(fd, buf, SEND)
        })
    }

    pub(crate) fn send_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = limit_written(bufs);
        self.retry(Interest::Write, Reason::Write, |fd| {
            rustix::net::sendmsg(fd, bufs, &mut SendAncillaryBuffer::default(), SEND)
        })
    }

    pub(crate) fn send_to(&self, buf: &[u8], addr: &impl SocketAddrArg) -> io::Result<usize> {
        self.retry(Interest::Write, Reason::Write, |fd| {
            rustix::net::sendto(fd, buf, SEND, addr)
        })
    }

    /// As [`send_to`](Io::send_to), where the system does not tell when the receiver has room
    /// again.
    pub(crate) fn send_to_in_pauses(
        &self,
        buf: &[u8],
        addr: &impl SocketAddrArg,
    ) -> io::Result<usize> {
        let send = |fd: BorrowedFd<'_>| rustix::net::sendto(fd, buf, SEND, addr);
        self.retry_in_pauses(Limit::Setting, Interest::Write, Reason::Write, send)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        rustix::net::shutdown(self, how)?;
        self.interrupt();
        Ok(())
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(sockopt::socket_error(self)?.err().map(io::Error::from))
    }
}

fn recv_from(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<(usize, Option<SocketAddrAny>)> {
    rustix::net::recvfrom(fd, buf, flags).map(|(len, _, addr)| (len, addr))
}

/// Whether the reading half has been shut down.
fn is_shut_down(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
    // A signal says nothing about the descriptor.
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))?;
    Ok(fds[0].revents().contains(PollFlags::RDHUP))
}

/// What a server wants called before each pause of [`accept_steadily`].
pub(crate) struct OnPause<'a>(Option<AssertUnwindSafe<Box<Hook<'a>>>>);

type Hook<'a> = dyn FnMut(&io::Error) + Send + Sync + 'a;

impl<'a> OnPause<'a> {
    pub(crate) const NOTHING: OnPause<'static> = OnPause(None);

    /// If `hook` panics it is not called again: the panic leaves the iterator's loop.
    pub(crate) fn new(hook: impl FnMut(&io::Error) + Send + Sync + 'a) -> OnPause<'a> {
        OnPause(Some(AssertUnwindSafe(Box::new(hook))))
    }

    pub(crate) fn call(&mut self, error: &io::Error) {
        if let Some(hook) = &mut self.0 {
            hook(error);
        }
    }
}

impl fmt::Debug for OnPause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "set" } else { "none" })
    }
}

/// How soon, at first and at last, [`accept_steadily`] looks whether the resources that were
/// missing have come back.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Accepts, and gets over failures that concern one connection only or that will pass. What is left
/// says that the listener is of no use any more, or that its thread is to stop.
pub(crate) fn accept_steadily<T>(
    mut accept: impl FnMut() -> io::Result<T>,
    mut on_pause: impl FnMut(&io::Error),
) -> io::Result<T> {
    let mut pause = FIRST_PAUSE;
    loop {
        match accept() {
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if is_for_want_of_resources(&error) => {
                on_pause(&error);
                thread::sleep(pause);
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}

/// The connection has failed before it was taken: `accept` reports what the network has reported of
/// it, and it is gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    let of_one = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::NOPROTOOPT,
        Errno::PERM,
        Errno::PROTO,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(error).is_some_and(|error| of_one.contains(&error))
}

/// The connection waits in the backlog until there are descriptors, or memory, again.
fn is_for_want_of_resources(error: &io::Error) -> bool {
    let resources = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| resources.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_or_will_pass_is_got_over_and_the_rest_is_returned() {
        let mut results = vec![
            Ok(7),
            Err(Errno::CONNABORTED),
            Err(Errno::MFILE),
            Err(Errno::PERM),
            Err(Errno::INVAL),
            Err(Errno::NOBUFS),
            Err(Errno::PROTO),
        ];
        let mut accept = || Ok(results.pop().expect("it asks no further")?);
        let mut pauses = Vec::new();
        assert_eq!(
            accept_steadily(&mut accept, |error| pauses.push(error.raw_os_error()))
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EINVAL)
        );
        assert_eq!(pauses, [Some(libc::ENOBUFS)]);
        assert_eq!(accept_steadily(&mut accept, |_| ()).unwrap(), 7);
    }

    #[test]
    fn an_error_without_a_number_is_returned() {
        let mut errors = 1;
        let accept = || match errors {
            0 => Ok(()),
            _ => {
                errors -= 1;
                Err(io::Error::other("cancelled"))
            }
        };
        let result = accept_steadily(accept, |_| ());
        assert_eq!(result.unwrap_err().to_string(), "cancelled");
    }
}
