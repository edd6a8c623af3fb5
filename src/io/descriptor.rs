//! Try, park, try again: how every operation on a file descriptor waits.
//!
//! An [`Io`] is a non-blocking descriptor that behaves like a blocking one. On a green thread a
//! wait goes through the reactor of its worker; on a plain OS thread it is a `poll(2)`. Any number
//! of threads may wait on one descriptor, in both directions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};

use super::readiness::Outlook;
use crate::channel::Receiver;
use crate::park::{self, Mode, Wait, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::reactor::{Enlisted, Source};
use crate::scheduler::task::Reason;
use crate::scheduler::worker;

pub(crate) use crate::scheduler::reactor::Interest;

/// A descriptor that waits as its user wants it to.
pub(crate) struct Io {
    source: Arc<Source>,
    /// Made when they are first set or shared: most descriptors never need them.
    settings: OnceLock<Arc<Settings>>,
    /// Made when the first receiver of its readiness is.
    outlook: OnceLock<Arc<Outlook>>,
}

/// What std keeps in the open file description: common to all clones.
#[derive(Default)]
struct Settings {
    /// The user asked for `WouldBlock` instead of waiting.
    nonblocking: AtomicBool,
    /// Time-outs in nanoseconds, by [`Interest`]; 0 means none.
    timeouts: [AtomicU64; 2],
}

/// Where the kernel keeps the time-outs of a descriptor that is not ours.
const TIMEOUTS: [(Interest, Timeout); 2] = [
    (Interest::Read, Timeout::Recv),
    (Interest::Write, Timeout::Send),
];

/// How soon [`Io::retry_in_pauses`] looks again, at first and at last: what it costs is little
/// beside what is waited for.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// What an operation fails with: the system's number, or std's error where the operation is the
/// user's.
pub(crate) trait Failure: Into<io::Error> {
    fn is_interrupted(&self) -> bool;
    fn is_would_block(&self) -> bool;
}

impl Failure for Errno {
    #[inline]
    fn is_interrupted(&self) -> bool {
        *self == Errno::INTR
    }

    /// `AGAIN` and `WOULDBLOCK` are one number on all systems that we know.
    #[inline]
    fn is_would_block(&self) -> bool {
        *self == Errno::AGAIN
    }
}

impl Failure for io::Error {
    fn is_interrupted(&self) -> bool {
        self.kind() == io::ErrorKind::Interrupted
    }

    fn is_would_block(&self) -> bool {
        self.kind() == io::ErrorKind::WouldBlock
    }
}

impl Io {
    /// Wraps a descriptor that is in non-blocking mode already.
    pub(crate) fn new(fd: OwnedFd) -> Io {
        Io {
            source: Source::new(fd),
            settings: OnceLock::new(),
            outlook: OnceLock::new(),
        }
    }

    /// Wraps a descriptor from elsewhere. One that was non-blocking stays so in the eyes of its
    /// user.
    pub(crate) fn adopt(fd: OwnedFd) -> Io {
        let nonblocking = is_nonblocking(&fd);
        set_nonblocking(&fd, true);
        let io = Io::new(fd);
        if nonblocking {
            io.set_nonblocking(true);
        }
        for (interest, which) in TIMEOUTS {
            // Fails on what is no socket, and the kernel never reports a zero.
            if let Ok(Some(timeout)) = socket_timeout(&io, which) {
                let _ = io.set_timeout(interest, Some(timeout));
            }
        }
        io
    }

    /// Gives the descriptor away, in the mode that its user has set.
    pub(crate) fn into_fd(self) -> OwnedFd {
        let source = self.source.clone();
        let nonblocking = self.is_nonblocking();
        for (interest, which) in TIMEOUTS {
            // Fails on what is no socket.
            let _ = set_socket_timeout(&self, which, self.timeout(interest));
        }
        drop(self);
        let source = Arc::into_inner(source).expect("a deregistered source has one owner");
        let fd = source.into_fd();
        set_nonblocking(&fd, nonblocking);
        fd
    }

    /// Makes a second descriptor of the same open file; its settings stay common.
    pub(crate) fn try_clone(&self) -> io::Result<Io> {
        let fd = self.as_fd().try_clone_to_owned()?;
        let settings = OnceLock::from(self.settings().clone());
        Ok(Io {
            source: Source::new(fd),
            settings,
            outlook: OnceLock::new(),
        })
    }

    fn settings(&self) -> &Arc<Settings> {
        self.settings.get_or_init(Arc::default)
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.settings
            .get()
            .is_some_and(|settings| settings.nonblocking.load(Ordering::Relaxed))
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        self.settings()
            .nonblocking
            .store(nonblocking, Ordering::Relaxed);
    }

    pub(crate) fn timeout(&self, interest: Interest) -> Option<Duration> {
        match self.settings.get()?.timeouts[interest as usize].load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// # Errors
    /// `InvalidInput` for a zero time-out, as in std.
    pub(crate) fn set_timeout(
        &self,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let nanos = match timeout {
            None => 0,
            Some(Duration::ZERO) => {
                let message = "cannot set a 0 duration timeout";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.settings().timeouts[interest as usize].store(nanos, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a read of up to `len` bytes that consumes what it returns.
    ///
    /// After a short read the next one may wait without a try; see the reactor. A read of no bytes
    /// is tried once, so that it reports a pending error, and never waits.
    #[inline]
    pub(crate) fn read(
        &self,
        len: usize,
        mut op: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut limit = Limit::Setting;
        loop {
            let seen = self.source.edges(Interest::Read);
            // Only a reactor counts edges, and only a green thread waits for one: `poll(2)` tells
            // an OS thread of what is there.
            let hopeless = len > 0
                && self.source.is_drained(seen)
                && worker::is_green()
                && !self.is_nonblocking();
            if !hopeless {
                match self.attempt(&mut op) {
                    Ok(Some(n)) => {
                        if 0 < n && n < len {
                            self.source.set_drained(seen);
                        }
                        return Ok(n);
                    }
                    Ok(None) if len == 0 => return Ok(0),
                    Ok(None) => {}
                    Err(error) => return Err(error),
                }
            }
            self.wait(Interest::Read, seen, Reason::Read, &mut limit)?;
        }
    }

    /// Runs `op` until it does not say `WouldBlock`, waiting for `interest` in between.
    #[inline]
    pub(crate) fn retry<T, E: Failure>(
        &self,
        interest: Interest,
        reason: Reason,
        op: impl FnMut(BorrowedFd<'_>) -> Result<T, E>,
    ) -> io::Result<T> {
        self.retry_within(Limit::Setting, interest, reason, op)
    }

    /// As [`retry`](Io::retry), waiting no longer than `limit` in all.
    #[inline]
    pub(crate) fn retry_within<T, E: Failure>(
        &self,
        mut limit: Limit,
        interest: Interest,
        reason: Reason,
        mut op: impl FnMut(BorrowedFd<'_>) -> Result<T, E>,
    ) -> io::Result<T> {
        loop {
            let seen = self.source.edges(interest);
            match self.attempt(&mut op) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => self.wait(interest, seen, reason, &mut limit)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`retry_within`](Io::retry_within), for an operation of which the system never tells when
    /// it is worth another try: tries again after pauses, each twice as long as the one before.
    pub(crate) fn retry_in_pauses<T, E: Failure>(
        &self,
        mut limit: Limit,
        interest: Interest,
        reason: Reason,
        mut op: impl FnMut(BorrowedFd<'_>) -> Result<T, E>,
    ) -> io::Result<T> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(value) = self.attempt(&mut op)? {
                return Ok(value);
            }
            let deadline = limit.deadline(self, interest);
            let again = park::now() + pause;
            let until = deadline.map_or(again, |deadline| deadline.min(again));
            match park::park(reason, Some(until), Mode::CancelPoint, |_| {
                Some(|_: &Wait<'_>| ())
            }) {
                Wake::Cancelled => return Err(cancelled()),
                _ if deadline.is_some_and(|deadline| deadline < again) => return Err(timed_out()),
                _ => pause = (2 * pause).min(LONGEST_PAUSE),
            }
        }
    }

    /// Waits until an operation of this kind would not have to wait.
    pub(crate) fn wait_ready(&self, limit: Limit, interest: Interest) -> io::Result<()> {
        let (flags, reason) = match interest {
            Interest::Read => (PollFlags::IN, Reason::Read),
            Interest::Write => (PollFlags::OUT, Reason::Write),
        };
        self.retry_within(limit, interest, reason, |fd| {
            match rustix::event::poll(
                &mut [PollFd::from_borrowed_fd(fd, flags)],
                Some(&Timespec::default()),
            )? {
                0 => Err(Errno::AGAIN),
                _ => Ok(()),
            }
        })
    }

    /// `None`: it would block, and its user wants to wait.
    #[inline]
    fn attempt<T, E: Failure>(
        &self,
        op: &mut impl FnMut(BorrowedFd<'_>) -> Result<T, E>,
    ) -> io::Result<Option<T>> {
        // Before the operation: what it has done could not be taken back.
        if self.is_nonblocking() {
            // It cannot wait: law 5.
            park::charge_system_call();
        } else if park::charge_system_call_or_yield() {
            return Err(cancelled());
        }
        loop {
            return match op(self.source.as_fd()) {
                Ok(value) => Ok(Some(value)),
                Err(error) if error.is_interrupted() => continue,
                Err(error) if error.is_would_block() && !self.is_nonblocking() => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Waits until there may be something to do since `seen` edges.
    pub(crate) fn wait(
        &self,
        interest: Interest,
        seen: u64,
        reason: Reason,
        limit: &mut Limit,
    ) -> io::Result<()> {
        let deadline = limit.deadline(self, interest);
        if !worker::is_green() {
            return self.wait_os(interest, deadline);
        }
        loop {
            let mut enlisted = Enlisted::TryAgain;
            let wake = park::park(reason, deadline, Mode::CancelPoint, |wait| {
                let here = worker::with(|local, _| {
                    self.source.enlist(interest, seen, local.reactor(), wait)
                });
                enlisted = here.expect("a green thread has a worker");
                (enlisted == Enlisted::Waiting).then_some(|wait: &Wait<'_>| {
                    self.source.delist(interest, wait);
                })
            });
            match wake {
                Wake::Woken if enlisted == Enlisted::Unregistered => {
                    refuse_in_simulation("a descriptor")?;
                    let here = worker::with(|local, _| local.reactor().clone());
                    self.source
                        .register(&here.expect("a green thread has a worker"))
                        .map_err(explain)?;
                }
                Wake::Woken => return Ok(()),
                Wake::TimedOut => return Err(timed_out()),
                Wake::Cancelled => return Err(cancelled()),
            }
        }
    }

    #[cold]
    fn wait_os(&self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        let flags = match interest {
            Interest::Read => PollFlags::IN,
            Interest::Write => PollFlags::OUT,
        };
        loop {
            if park::cancel_point() {
                return Err(cancelled());
            }
            let now = park::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(timed_out());
            }
            let until = deadline.into_iter().chain(park::scope_deadline()).min();
            let timeout = until
                .and_then(|until| Timespec::try_from(until.saturating_duration_since(now)).ok());
            match rustix::event::poll(&mut [PollFd::new(&*self.source, flags)], timeout.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes a channel that has a message when there is something to do in this direction.
    pub(crate) fn readiness(&self, interest: Interest) -> Receiver<()> {
        self.outlook().receiver(interest)
    }

    pub(super) fn outlook(&self) -> &Arc<Outlook> {
        self.outlook
            .get_or_init(|| Outlook::new(self.source.clone()))
    }

    /// The count of edges so far, for [`wait`](Io::wait).
    pub(crate) fn edges(&self, interest: Interest) -> u64 {
        self.source.edges(interest)
    }
}

impl AsFd for Io {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some(outlook) = self.outlook.get() {
            outlook.close();
        }
        self.source.deregister();
    }
}

/// How long an operation may wait in all; becomes a deadline at its first wait.
pub(crate) enum Limit {
    /// As long as the descriptor's setting says.
    Setting,
    Timeout(Duration),
    Deadline(Option<Instant>),
}

impl Limit {
    fn deadline(&mut self, io: &Io, interest: Interest) -> Option<Instant> {
        let deadline = match *self {
            Limit::Setting => io.timeout(interest).and_then(deadline_after),
            Limit::Timeout(timeout) => deadline_after(timeout),
            Limit::Deadline(deadline) => deadline,
        };
        *self = Limit::Deadline(deadline);
        deadline
    }
}

/// Refuses what a simulation could not repeat; to be asked before a socket, a file or a child
/// process is made.
///
/// # Errors
/// `Unsupported`, if the caller runs in a simulation.
pub(crate) fn refuse_in_simulation(what: &str) -> io::Result<()> {
    match worker::seed() {
        None => Ok(()),
        Some(_) => {
            let message = format!(
                "{what} cannot be used in a simulation: what comes from outside cannot be repeated; see hebra::sim"
            );
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the operation timed out")
}

pub(crate) fn cancelled() -> io::Error {
    io::Error::other("the green thread has been cancelled")
}

/// Says what the system's number leaves in the dark.
pub(super) fn explain(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EPERM) {
        let message =
            "the system cannot tell when this descriptor is ready (is it a regular file?)";
        return io::Error::new(io::ErrorKind::Unsupported, message);
    }
    error
}

pub(super) fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

/// Sets the mode of the open file. It cannot fail on a descriptor that is open.
pub(super) fn set_nonblocking(fd: impl AsFd, nonblocking: bool) {
    if let Ok(mut flags) = fcntl_getfl(fd.as_fd()) {
        flags.set(OFlags::NONBLOCK, nonblocking);
        let _ = fcntl_setfl(fd, flags);
    }
}
