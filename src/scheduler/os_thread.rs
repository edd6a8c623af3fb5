//! [`OsThread`]: an OS thread as somebody who can wait.
//!
//! It sleeps on its condition variable, unless what it waits for are descriptors, too: then it
//! sleeps in `poll(2)`, and whoever ends its wait rings a pipe that is polled with them. A
//! descriptor that is ready ends the wait as any waker does: the claim decides (law 1).
//!
//! Who has won the claim looks under the lock of the gate how the thread sleeps. The thread says so
//! under the same lock, and looks at its claim after that: so either it finds its wait ended, or it
//! is found.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

use super::claim::{Claim, Epoch, Token, Wake};
use super::task;
use crate::lock::Lock;

/// The record of an OS thread that waits for something of ours.
pub(crate) struct OsThread {
    pub(crate) claim: Claim,
    pub(crate) token: Token,
    pub(crate) id: u64,
    pub(crate) name: Option<Box<str>>,
    gate: Lock<Gate>,
    unblocked: Condvar,
    /// Never [retires](OsThread::retire), and so gives up its bell after each wait.
    late: bool,
}

#[derive(Default)]
struct Gate {
    /// The thread sleeps, or is about to, where the bell wakes it.
    listens: bool,
    /// What is to be waited for as well in the wait that is being opened. The thread itself only.
    watched: Vec<(OwnedFd, PollFlags)>,
    /// If the thread has ever waited for a descriptor, until it ends.
    bell: Option<Arc<Bell>>,
}

/// A pipe, both ends non-blocking.
struct Bell {
    ring: PipeWriter,
    hear: PipeReader,
}

impl OsThread {
    /// The record of the calling OS thread.
    pub(crate) fn new() -> OsThread {
        OsThread {
            claim: Claim::new(),
            token: Token::new(),
            id: task::next_id(),
            name: std::thread::current().name().map(Box::from),
            gate: Lock::default(),
            unblocked: Condvar::new(),
            late: false,
        }
    }

    /// The record of the calling OS thread while its thread-locals are being torn down.
    pub(crate) fn late() -> OsThread {
        OsThread {
            late: true,
            ..OsThread::new()
        }
    }

    /// Adds a descriptor to what the wait that is being opened is for. For the thread itself.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub(crate) fn watch(&self, fd: OwnedFd, flags: PollFlags) -> io::Result<()> {
        let mut gate = self.gate.lock();
        if gate.bell.is_none() {
            gate.bell = Some(Arc::new(Bell::new()?));
        }
        gate.watched.push((fd, flags));
        Ok(())
    }

    /// Forgets what has been watched for a wait that is not to be.
    pub(crate) fn watch_no_more(&self) {
        let mut gate = self.gate.lock();
        gate.watched.clear();
        if self.late {
            gate.bell = None;
        }
    }

    /// The thread ends. Its record may live on, in lists where it has once waited, but holds no
    /// descriptors any more.
    pub(crate) fn retire(&self) {
        self.gate.lock().bell = None;
    }

    pub(super) fn unblock(&self) {
        let gate = self.gate.lock();
        match &gate.bell {
            Some(bell) if gate.listens => bell.ring(),
            _ => {
                drop(gate);
                self.unblocked.notify_one();
            }
        }
    }

    /// Blocks this OS thread until its open wait has ended, or ends it as timed out.
    pub(crate) fn block(&self, epoch: Epoch, deadline: Option<Instant>) -> Wake {
        let mut gate = self.gate.lock();
        let watched = mem::take(&mut gate.watched);
        if let (false, Some(bell)) = (watched.is_empty(), gate.bell.clone()) {
            gate.listens = true;
            drop(gate);
            let wake = self.block_listening(epoch, deadline, &bell, &watched);
            let mut gate = self.gate.lock();
            gate.listens = false;
            if self.late {
                gate.bell = None;
            }
            return wake;
        }
        loop {
            if let Some(wake) = self.claim.outcome() {
                return wake;
            }
            gate = match self.time_left(epoch, deadline) {
                None => self.unblocked.wait(gate).unwrap_or_else(|e| e.into_inner()),
                Some(Duration::ZERO) => continue,
                Some(left) => {
                    self.unblocked
                        .wait_timeout(gate, left)
                        .unwrap_or_else(|e| e.into_inner())
                        .0
                }
            };
        }
    }

    /// As `block`, and a watched descriptor that is ready ends the wait, too.
    fn block_listening(
        &self,
        epoch: Epoch,
        deadline: Option<Instant>,
        bell: &Bell,
        watched: &[(OwnedFd, PollFlags)],
    ) -> Wake {
        let mut fds = vec![PollFd::new(&bell.hear, PollFlags::IN)];
        fds.extend(watched.iter().map(|(fd, flags)| PollFd::new(fd, *flags)));
        loop {
            if let Some(wake) = self.claim.outcome() {
                return wake;
            }
            let timeout = match self.time_left(epoch, deadline) {
                Some(Duration::ZERO) => continue,
                left => left.and_then(|left| Timespec::try_from(left).ok()),
            };
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) if fds[1..].iter().any(|fd| !fd.revents().is_empty()) => {
                    // Whether we or a waker won, the next look at the claim says how it ended.
                    self.claim.end(epoch, Wake::Woken);
                }
                // For this wait, or late for an earlier one.
                Ok(_) => bell.silence(),
                Err(Errno::INTR) => {}
                // Not a matter of luck: the kernel would have to be out of memory.
                Err(error) => panic!("waiting for I/O failed: {error}"),
            }
        }
    }

    /// How long the wait may last, or `None` for ever. If that is no time at all the wait has ended
    /// when this returns: as timed out, unless a waker has won.
    fn time_left(&self, epoch: Epoch, deadline: Option<Instant>) -> Option<Duration> {
        let left = deadline?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.claim.end(epoch, Wake::TimedOut);
        }
        Some(left)
    }
}

impl Bell {
    fn new() -> io::Result<Bell> {
        let (hear, ring) = io::pipe()?;
        ioctl_fionbio(&hear, true)?;
        ioctl_fionbio(&ring, true)?;
        Ok(Bell { ring, hear })
    }

    fn ring(&self) {
        // The only failure is a pipe that is full, and then the bell is ringing already.
        let _ = (&self.ring).write(&[0]);
    }

    fn silence(&self) {
        // The only failure is an empty pipe.
        let _ = (&self.hear).read(&mut [0; 64]);
    }
}
