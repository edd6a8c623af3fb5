//! [`Alarm`]: the channels that time itself sends to. Nobody is woken by them: a receiver waits until its message is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{RecvTimeoutError, TryRecvError};
use crate::lock::Lock;
use crate::park::{self, Mode, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;

/// When the next message is due.
pub(super) struct Alarm {
    /// `None` when there will be no more.
    due: Lock<Option<Instant>>,
    /// From one message to the next; `None` if there is but one.
    period: Option<Duration>,
}

/// An [`Alarm`] as a channel of its messages: their type is known here alone.
pub(super) trait Rings<T>: Send + Sync {
    fn alarm(&self) -> &Alarm;

    /// The message that was due at this time.
    fn message(&self, due: Instant) -> T;
}

impl Rings<Instant> for Alarm {
    fn alarm(&self) -> &Alarm {
        self
    }

    fn message(&self, due: Instant) -> Instant {
        due
    }
}

impl Alarm {
    pub(super) fn new(due: Instant, period: Option<Duration>) -> Arc<Alarm> {
        Arc::new(Alarm { due: Lock::new(Some(due)), period })
    }

    pub(super) fn due(&self) -> Option<Instant> {
        *self.due.lock()
    }

    pub(super) fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= park::now())
    }

    /// Takes the message that is due. The next one is due a period from now: what nobody has taken in time is not made up for.
    pub(super) fn take(&self) -> Option<Instant> {
        let now = park::now();
        let mut due = self.due.lock();
        let message = due.filter(|due| *due <= now)?;
        *due = self.period.and_then(|period| now.checked_add(period));
        Some(message)
    }

    pub(super) fn try_recv(&self) -> Result<Instant, TryRecvError> {
        park::count_operation();
        self.take().ok_or(TryRecvError::Empty)
    }

    pub(super) fn recv(&self, deadline: Option<Instant>) -> Result<Instant, RecvTimeoutError> {
        park::count_operation();
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            let until = self.due().into_iter().chain(deadline).min();
            wait_until(until)?;
            if deadline.is_some_and(|deadline| deadline <= park::now()) {
                return self.take().ok_or(RecvTimeoutError::Timeout);
            }
        }
    }
}

/// Waits until `deadline`, for nothing.
///
/// # Errors
/// The thread is cancelled, and unwinds already.
pub(super) fn wait_until(deadline: Option<Instant>) -> Result<(), RecvTimeoutError> {
    match park::park(Reason::Receive, deadline, Mode::CancelPoint, |_| Some(|_: &Wait<'_>| ())) {
        Wake::Cancelled => Err(RecvTimeoutError::Disconnected),
        Wake::Woken | Wake::TimedOut => Ok(()),
    }
}
