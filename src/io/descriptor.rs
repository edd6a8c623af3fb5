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
use rustix::net::SocketType;
use rustix::net::sockopt::{self, Timeout, set_socket_timeout, socket_timeout};

use super::loan::Loan;
use super::readiness::Outlook;
use crate::channel::Receiver;
use crate::park::{self, Mode, Wait, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::reactor::{Enlisted, Role, Source};
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
    /// The open file was not in non-blocking mode when it came here.
    loan: Option<Loan>,
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

/// How soon [`Io::retry_until_shutdown`] looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
            loan: None,
        }
    }

    /// Wraps a descriptor, and has its open file in non-blocking mode as long as it lives.
    pub(super) fn lend(fd: OwnedFd) -> Io {
        let loan = Loan::begin(&fd);
        let mut io = Io::new(fd);
        io.loan = loan;
        io
    }

    /// Wraps a descriptor from elsewhere. One that was non-blocking stays so in the eyes of its
    /// user. Where each operation says itself that it must not wait, one that was blocking stays
    /// so, for others who share it.
    pub(crate) fn adopt(fd: OwnedFd) -> Io {
        let io = if can_say_dont_wait(&fd) {
            let nonblocking = is_nonblocking(&fd);
            let io = Io::new(fd);
            if nonblocking {
                io.set_nonblocking(true);
            }
            io
        } else {
            let io = Io::lend(fd);
            // Not ours to give back: its user has set it.
            if io.loan.is_none() {
                io.set_nonblocking(true);
            }
            io
        };
        for (interest, which) in TIMEOUTS {
            // Fails on what is no socket, and the kernel never reports a zero.
            if let Ok(Some(timeout)) = socket_timeout(&io, which) {
                let _ = io.set_timeout(interest, Some(timeout));
            }
        }
        io
    }

    /// Gives the descriptor away, in the mode that its user has set.
    pub(crate) fn into_fd(mut self) -> OwnedFd {
        let loan = self.loan.take();
        let source = self.source.clone();
        let nonblocking = self.is_nonblocking();
        for (interest, which) in TIMEOUTS {
            // Fails on what is no socket.
            let _ = set_socket_timeout(&self, which, self.timeout(interest));
        }
        drop(self);
        let fd = source.into_fd();
        let is_last = loan.is_none_or(|loan| loan.end(&fd));
        // Others of ours may still need the mode.
        if is_last || nonblocking {
            set_nonblocking(&fd, nonblocking);
        }
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
            loan: self.loan.as_ref().map(Loan::share),
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
        let mut turn = Turn::none(self, Interest::Read);
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
                            if self.source.is_drained(seen) {
                                turn.end();
                            }
                        }
                        return Ok(n);
                    }
                    Ok(None) if len == 0 => return Ok(0),
                    Ok(None) => {}
                    Err(error) => return Err(error),
                }
            }
            turn.end();
            self.wait_as(Role::Taker, Interest::Read, seen, Reason::Read, &mut limit)?;
            turn.begin();
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
        self.retry_as(Role::Taker, Limit::Setting, interest, reason, op)
    }

    /// As [`retry`](Io::retry), waiting no longer than `limit` in all, for an operation that may
    /// leave what it finds, or have nothing to do where another thread's would have.
    #[inline]
    pub(crate) fn retry_within<T, E: Failure>(
        &self,
        limit: Limit,
        interest: Interest,
        reason: Reason,
        op: impl FnMut(BorrowedFd<'_>) -> Result<T, E>,
    ) -> io::Result<T> {
        self.retry_as(Role::Watcher, limit, interest, reason, op)
    }

    /// As [`retry_within`](Io::retry_within), for an operation of a [`Role`]. If a taker's says
    /// `WouldBlock`, so must that of every other taker of this direction.
    #[inline]
    pub(super) fn retry_as<T, E: Failure>(
        &self,
        role: Role,
        mut limit: Limit,
        interest: Interest,
        reason: Reason,
        mut op: impl FnMut(BorrowedFd<'_>) -> Result<T, E>,
    ) -> io::Result<T> {
        let mut turn = Turn::none(self, interest);
        loop {
            let seen = self.source.edges(interest);
            match self.attempt(&mut op) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => turn.end(),
                Err(error) => return Err(error),
            }
            self.wait_as(role, interest, seen, reason, &mut limit)?;
            if role == Role::Taker {
                turn.begin();
            }
        }
    }

    /// As [`retry`](Io::retry), for a write that a shutdown by another handle may end: the kernel
    /// reports that by no edge while the socket is full. So it looks again from time to time.
    pub(super) fn retry_until_shutdown<T, E: Failure>(
        &self,
        mut op: impl FnMut(BorrowedFd<'_>) -> Result<T, E>,
    ) -> io::Result<T> {
        let mut limit = Limit::Setting;
        let mut turn = Turn::none(self, Interest::Write);
        loop {
            let seen = self.source.edges(Interest::Write);
            if let Some(value) = self.attempt(&mut op)? {
                return Ok(value);
            }
            turn.end();
            let deadline = limit.deadline(self, Interest::Write);
            let again = park::now() + LOOK_AGAIN;
            let until = deadline.map_or(again, |deadline| deadline.min(again));
            let mut until = Limit::Deadline(Some(until));
            match self.wait_as(
                Role::Taker,
                Interest::Write,
                seen,
                Reason::Write,
                &mut until,
            ) {
                Ok(()) => turn.begin(),
                Err(error)
                    if error.kind() == io::ErrorKind::TimedOut
                        && deadline.is_none_or(|deadline| again < deadline) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Has all that wait on this handle try again.
    pub(super) fn interrupt(&self) {
        self.source.interrupt(Interest::Read);
        self.source.interrupt(Interest::Write);
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
        let reason = match interest {
            Interest::Read => Reason::Read,
            Interest::Write => Reason::Write,
        };
        self.retry_within(limit, interest, reason, |_| {
            match is_ready(&self.source, interest) {
                false => Err(Errno::AGAIN),
                true => Ok(()),
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

    /// Waits until there may be something to do since `seen` edges, on a descriptor that only the
    /// caller uses: it has no turn to pass.
    pub(crate) fn wait(
        &self,
        interest: Interest,
        seen: u64,
        reason: Reason,
        limit: &mut Limit,
    ) -> io::Result<()> {
        self.wait_as(Role::Taker, interest, seen, reason, limit)
    }

    /// As [`wait`](Io::wait). A taker has the turn after that.
    fn wait_as(
        &self,
        role: Role,
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
                    self.source
                        .enlist(interest, role, seen, local.reactor(), wait)
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
        let flags = flags(interest);
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
        if let Some(loan) = self.loan.take() {
            loan.end(&*self.source);
        }
        self.source.deregister();
    }
}

/// The turn of a taker, where it has it; see [the reactor](crate::scheduler::reactor). Dropping it
/// passes it on, also if the thread unwinds.
struct Turn<'a> {
    io: &'a Io,
    interest: Interest,
    held: bool,
}

impl<'a> Turn<'a> {
    #[inline]
    fn none(io: &'a Io, interest: Interest) -> Turn<'a> {
        Turn {
            io,
            interest,
            held: false,
        }
    }

    #[inline]
    fn begin(&mut self) {
        self.held = true;
    }

    /// Nothing is left to do for another taker.
    #[inline]
    fn end(&mut self) {
        self.held = false;
    }

    #[cold]
    #[inline(never)]
    fn pass(&self) {
        let (source, interest) = (&self.io.source, self.interest);
        worker::with(|local, _| {
            let here = local.reactor();
            if source.has_taker(interest, here) && is_ready(source, interest) {
                source.pass_turn(interest, here);
            }
        });
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.held && self.io.source.is_crowded(self.interest) {
            self.pass();
        }
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

pub(super) fn flags(interest: Interest) -> PollFlags {
    match interest {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
    }
}

/// Whether an operation would not wait. If that cannot be told it is for the operation to say why.
pub(super) fn is_ready(source: &Source, interest: Interest) -> bool {
    loop {
        let fd = PollFd::new(source, flags(interest));
        match rustix::event::poll(&mut [fd], Some(&Timespec::default())) {
            // A signal says nothing about the descriptor, though no wait was asked for.
            Err(Errno::INTR) => {}
            result => return result != Ok(0),
        }
    }
}

/// Whether `fd` is a socket all of whose operations take `MSG_DONTWAIT`: any but one that accepts,
/// or may come to.
fn can_say_dont_wait(fd: &OwnedFd) -> bool {
    match sockopt::socket_type(fd) {
        Ok(SocketType::STREAM) => rustix::net::getpeername(fd).is_ok(),
        Ok(SocketType::DGRAM) => true,
        _ => false,
    }
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

/// Sets the mode of the open file. It cannot fail on a descriptor that is open.
pub(super) fn set_nonblocking(fd: impl AsFd, nonblocking: bool) {
    if let Ok(mut flags) = fcntl_getfl(fd.as_fd()) {
        flags.set(OFlags::NONBLOCK, nonblocking);
        let _ = fcntl_setfl(fd, flags);
    }
}
