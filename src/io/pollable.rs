//! [`Pollable`]: any descriptor that the system can tell the readiness of.
//!
//! # Who owns what is registered
//!
//! A reactor must never watch a number that has been closed, or that has come to mean another file.
//! Nothing can be asked of `T` in that respect: it may close its descriptor, replace it, or be a
//! loan from a C library that does. So what is registered is a duplicate, made by `new`, which is
//! ours alone: it stays open, and the same file, until the `Pollable` goes. `T` may do what it
//! likes, and `get_mut` needs no `unsafe`; the worst that can come of it is to wait for a file that
//! is not used any more.
//!
//! # Why not a promise of the implementor
//!
//! An unsafe trait, as async-io has it, saves the duplicate, and costs everybody with a descriptor
//! of their own an `unsafe`.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use super::descriptor::{Interest, Io, Limit, explain, refuse_in_simulation};
use crate::channel::{Readiness, Receiver};
use crate::scheduler::reactor::Role;
use crate::scheduler::task::Reason;

/// Any descriptor that can be waited for: a pipe, an eventfd, a timer, a watch on files, a tunnel,
/// a socket of a C library.
///
/// What the operations are is the user's: [`read_with`](Pollable::read_with) and
/// [`write_with`](Pollable::write_with) run them, and wait whenever they say `WouldBlock`. Where
/// `T` is a reader or a writer, so is the `Pollable`. Waiting parks the green thread that calls; on
/// an OS thread it blocks it. Any number of threads may wait at a time, in both directions.
///
/// A `Pollable` holds a second descriptor of the same open file: what `T` does with its own cannot
/// disturb those who wait. While it lives the open file is in non-blocking mode, for everybody who
/// shares it. When the last `Pollable` of an open file is dropped, the open file gets the mode back
/// that it had before the first. (Eventfds and timers share one inode: there that is the last one
/// of their kind.)
///
/// # Cancellation
/// Whatever may wait is a cancel point.
///
/// ```
/// use hebra::io::Pollable;
/// use std::io::{Read, Write};
///
/// hebra::run(|| -> std::io::Result<()> {
///     let (reader, writer) = std::io::pipe()?;
///     let (mut reader, mut writer) = (Pollable::new(reader)?, Pollable::new(writer)?);
///     let producer = hebra::thread::spawn(move || writer.write_all(b"hello"));
///     let mut greeting = String::new();
///     reader.read_to_string(&mut greeting)?;
///     assert_eq!(greeting, "hello");
///     producer.join().unwrap()
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pollable<T> {
    /// What is waited for: a duplicate of the descriptor in `value`. Declared first, so that it is
    /// gone before `value` is dropped.
    io: Io,
    value: T,
}

impl<T: AsFd> Pollable<T> {
    /// Makes `value` something to wait for, and puts its open file into non-blocking mode.
    ///
    /// # Errors
    /// `Unsupported` if the system cannot tell when it is ready. Regular files and directories are
    /// of that kind: they do not wait, they block, and `hebra::fs` is for them. Also when the
    /// process is out of file descriptors.
    pub fn new(value: T) -> io::Result<Pollable<T>> {
        refuse_in_simulation("a descriptor")?;
        let fd = value.as_fd().try_clone_to_owned()?;
        probe(fd.as_fd()).map_err(explain)?;
        Ok(Pollable {
            io: Io::lend(fd),
            value,
        })
    }
}

impl<T> Pollable<T> {
    /// Returns the value.
    pub fn get_ref(&self) -> &T {
        &self.value
    }

    /// Returns the value to be changed. If it gets another descriptor, the one from before goes on
    /// to be what is waited for.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// Gives the value back, and its open file the mode that it had.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Waits until a read would find something: data, the end, or an error.
    ///
    /// It may find another thread to have been faster: [`read_with`](Pollable::read_with) then
    /// waits again.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn readable(&self) -> io::Result<()> {
        self.ready(Interest::Read, Limit::Deadline(None))
    }

    /// As [`readable`](Pollable::readable), for `timeout` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes.
    pub fn readable_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.ready(Interest::Read, Limit::Timeout(timeout))
    }

    /// As [`readable`](Pollable::readable), until `deadline` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes.
    pub fn readable_deadline(&self, deadline: Instant) -> io::Result<()> {
        self.ready(Interest::Read, Limit::Deadline(Some(deadline)))
    }

    /// Waits until a write would find room, or an error.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn writable(&self) -> io::Result<()> {
        self.ready(Interest::Write, Limit::Deadline(None))
    }

    /// As [`writable`](Pollable::writable), for `timeout` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes.
    pub fn writable_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.ready(Interest::Write, Limit::Timeout(timeout))
    }

    /// As [`writable`](Pollable::writable), until `deadline` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes.
    pub fn writable_deadline(&self, deadline: Instant) -> io::Result<()> {
        self.ready(Interest::Write, Limit::Deadline(Some(deadline)))
    }

    /// Runs a read until it does not say `WouldBlock`, and waits in between.
    ///
    /// `op` must fail with `WouldBlock` rather than wait, and only when there is nothing to read:
    /// it is run again when something has come, not before. One that was interrupted is run
    /// again at once.
    ///
    /// ```
    /// use hebra::io::Pollable;
    /// use rustix::event::{EventfdFlags, eventfd};
    ///
    /// hebra::run(|| -> std::io::Result<()> {
    ///     let bell = Pollable::new(eventfd(0, EventfdFlags::CLOEXEC)?)?;
    ///     let ringer = bell.get_ref().try_clone()?;
    ///     hebra::thread::spawn(move || rustix::io::write(&ringer, &3u64.to_ne_bytes()));
    ///     let mut count = [0; 8];
    ///     bell.read_with(|fd| Ok(rustix::io::read(fd, &mut count)?))?;
    ///     assert_eq!(u64::from_ne_bytes(count), 3);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As `op`.
    pub fn read_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.run(Interest::Read, Limit::Deadline(None), op)
    }

    /// As [`read_with`](Pollable::read_with), waiting for `timeout` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes, and as `op`.
    pub fn read_with_timeout<R>(
        &self,
        timeout: Duration,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.run(Interest::Read, Limit::Timeout(timeout), op)
    }

    /// As [`read_with`](Pollable::read_with), waiting until `deadline` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes, and as `op`.
    pub fn read_with_deadline<R>(
        &self,
        deadline: Instant,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.run(Interest::Read, Limit::Deadline(Some(deadline)), op)
    }

    /// Runs a write until it does not say `WouldBlock`, and waits in between:
    /// [`read_with`](Pollable::read_with) the other way.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As `op`.
    pub fn write_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.run(Interest::Write, Limit::Deadline(None), op)
    }

    /// As [`write_with`](Pollable::write_with), waiting for `timeout` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes, and as `op`.
    pub fn write_with_timeout<R>(
        &self,
        timeout: Duration,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.run(Interest::Write, Limit::Timeout(timeout), op)
    }

    /// As [`write_with`](Pollable::write_with), waiting until `deadline` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes, and as `op`.
    pub fn write_with_deadline<R>(
        &self,
        deadline: Instant,
        op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.run(Interest::Write, Limit::Deadline(Some(deadline)), op)
    }

    fn ready(&self, interest: Interest, limit: Limit) -> io::Result<()> {
        self.io.wait_ready(limit, interest)
    }

    fn run<R>(
        &self,
        interest: Interest,
        limit: Limit,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io
            .retry_within(limit, interest, reason(interest), |_| op(&self.value))
    }

    /// As `run`, for a read of `T`'s own: where it finds nothing, neither does another.
    fn run_read<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        let limit = Limit::Deadline(None);
        self.io
            .retry_as(Role::Taker, limit, Interest::Read, Reason::Read, |_| {
                op(&self.value)
            })
    }

    /// As `run`, for operations that need the value to themselves.
    fn run_mut<R>(
        &mut self,
        interest: Interest,
        mut op: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        let Pollable { io, value, .. } = self;
        io.retry_within(Limit::Deadline(None), interest, reason(interest), |_| {
            op(value)
        })
    }
}

fn reason(interest: Interest) -> Reason {
    match interest {
        Interest::Read => Reason::Read,
        Interest::Write => Reason::Write,
    }
}

fn has_room(bufs: &[IoSliceMut<'_>]) -> bool {
    bufs.iter().any(|buf| !buf.is_empty())
}

/// The result of a read that has no room for anything: nothing to wait for.
fn without_waiting(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

impl<T: Read> Read for Pollable<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match buf {
            [] => without_waiting(self.value.read(buf)),
            _ => self.run_mut(Interest::Read, |value| value.read(buf)),
        }
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match has_room(bufs) {
            false => without_waiting(self.value.read_vectored(bufs)),
            true => self.run_mut(Interest::Read, |value| value.read_vectored(bufs)),
        }
    }
}

impl<T: Write> Write for Pollable<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.run_mut(Interest::Write, |value| value.write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.run_mut(Interest::Write, |value| value.write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.run_mut(Interest::Write, T::flush)
    }
}

impl<T> Read for &Pollable<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match buf {
            [] => without_waiting((&self.value).read(buf)),
            _ => self.run_read(|mut value| value.read(buf)),
        }
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match has_room(bufs) {
            false => without_waiting((&self.value).read_vectored(bufs)),
            true => self.run_read(|mut value| value.read_vectored(bufs)),
        }
    }
}

impl<T> Write for &Pollable<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_with(|mut value| value.write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(|mut value| value.write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_with(|mut value| value.flush())
    }
}

impl<T> Readiness for Pollable<T> {
    fn until_readable(&self) -> Receiver<()> {
        self.io.readiness(Interest::Read)
    }

    fn until_writable(&self) -> Receiver<()> {
        self.io.readiness(Interest::Write)
    }
}

impl<T: AsFd> AsFd for Pollable<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.value.as_fd()
    }
}

impl<T: AsRawFd> AsRawFd for Pollable<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.value.as_raw_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Pollable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pollable").field(&self.value).finish()
    }
}

/// Asks the system whether it can tell of this descriptor, with a poller made for the question.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn probe(fd: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
    Ok(add(
        create(CreateFlags::CLOEXEC)?,
        fd,
        EventData::new_u64(0),
        EventFlags::IN,
    )?)
}

/// Elsewhere the first wait will say so.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn probe(_: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}
