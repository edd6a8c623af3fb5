//! [`Alarm`]: the channels that time itself sends to. Nobody is woken by them: a receiver waits until its message is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RecvTimeoutError;
use super::object::{Look, Object};
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

impl Alarm {
    pub(super) fn new(due: Instant, period: Option<Duration>) -> Arc<Alarm> {
        Arc::new(Alarm {
            due: Lock::new(Some(due)),
            period,
        })
    }
}

impl Object<Instant> for Alarm {
    fn look(&self) -> Look {
        let due = self.due().is_some_and(|due| due <= park::now());
        if due { Look::Ready } else { Look::NotReady }
    }

    /// For a receiver that has waited, the next message is due a period after this one was, however
    /// long it took the receiver to wake: so a ticker does not drift. For one that is late it is
    /// due a period from now: what nobody has taken in time is not made up for. Both are as
    /// crossbeam's `recv` has it.
    fn take(&self, waited: Option<Instant>) -> (Look, Option<Instant>) {
        let now = park::now();
        let mut due = self.due.lock();
        let message = due.filter(|due| *due <= now);
        if message.is_none() {
            return (Look::NotReady, None);
        }
        let last = if message == waited {
            message
        } else {
            Some(now)
        };
        *due = self
            .period
            .zip(last)
            .and_then(|(period, last)| last.checked_add(period));
        (Look::Ready, message)
    }

    fn due(&self) -> Option<Instant> {
        *self.due.lock()
    }

    fn enlist(&self, _: &Wait<'_>) -> bool {
        true
    }

    fn delist(&self, _: &Wait<'_>) -> bool {
        true
    }

    fn message(&self, due: Option<Instant>) -> Instant {
        due.expect("what was taken of an alarm was due at some time")
    }
}

/// Waits until `deadline`, for nothing.
///
/// # Errors
/// The thread is cancelled, and unwinds already.
pub(super) fn wait_until(deadline: Option<Instant>) -> Result<(), RecvTimeoutError> {
    match park::park(Reason::Receive, deadline, Mode::CancelPoint, |_| {
        Some(|_: &Wait<'_>| ())
    }) {
        Wake::Cancelled => Err(RecvTimeoutError::Disconnected),
        Wake::Woken | Wake::TimedOut => Ok(()),
    }
}
