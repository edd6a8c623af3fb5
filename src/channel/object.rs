//! [`Object`]: what nobody sends to, and can be waited for as if somebody did: time, and whatever is ready at times.
//!
//! Nobody takes anything from an object but time: that it is ready is a hint, as another thread may
//! be quicker. So a wait for it ends in looking again, and who has been woken and goes another way
//! owes nobody anything.

use std::time::Instant;

use super::{Receiver, RecvTimeoutError, TryRecvError};
use crate::park::{self, Mode, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;

/// An object, as a channel of its messages: their type is known here alone.
pub(crate) trait Object<T>: Send + Sync {
    /// Looks how things stand.
    fn look(&self) -> Look;

    /// As `look`, and takes what only one can have: a message from time itself, that was due then.
    /// `waited` is when the message was due that the caller has waited for, if it has.
    fn take(&self, _waited: Option<Instant>) -> (Look, Option<Instant>) {
        (self.look(), None)
    }

    /// When it will be ready without anybody's doing.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Enlists `wait`, to be woken when things may have changed; `false`, and nothing is done, if
    /// they have to be looked at again. Who has nobody to wake need not keep it.
    fn enlist(&self, wait: &Wait<'_>) -> bool;

    /// Takes the waiter of `wait` out; `false` if it was not there any more, as the wait has been
    /// ended by way of it.
    fn delist(&self, wait: &Wait<'_>) -> bool;

    /// The message that stands for what was taken.
    fn message(&self, due: Option<Instant>) -> T;
}

/// How things stand with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Ready,
    NotReady,
    /// It will never be ready: a channel without senders.
    Gone,
}

pub(super) fn try_recv<T>(object: &dyn Object<T>) -> Result<T, TryRecvError> {
    park::charge();
    take(object, None)
}

fn take<T>(object: &dyn Object<T>, due: Option<Instant>) -> Result<T, TryRecvError> {
    match object.take(due) {
        (Look::Ready, due) => Ok(object.message(due)),
        (Look::NotReady, _) => Err(TryRecvError::Empty),
        (Look::Gone, _) => Err(TryRecvError::Disconnected),
    }
}

pub(super) fn recv<T>(
    object: &dyn Object<T>,
    deadline: Option<Instant>,
) -> Result<T, RecvTimeoutError> {
    let has_passed = || deadline.is_some_and(|deadline| deadline <= park::now());
    let mut waited = false;
    let mut due = None;
    loop {
        park::charge_or_yield();
        match take(object, due) {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            // A cancel point in any case.
            Err(TryRecvError::Empty) if waited && has_passed() => {
                return Err(RecvTimeoutError::Timeout);
            }
            Err(TryRecvError::Empty) => waited = true,
        }
        due = object.due();
        let until = due.into_iter().chain(deadline).min();
        let mut epoch = None;
        let wake = park::park(Reason::Receive, until, Mode::CancelPoint, |wait| {
            epoch = object.enlist(wait).then(|| wait.epoch());
            epoch?;
            Some(|wait: &Wait<'_>| {
                object.delist(wait);
            })
        });
        if wake == Wake::Cancelled {
            return Err(RecvTimeoutError::Disconnected);
        }
        // The thread itself may have found what it waits for.
        if let (Wake::Woken, Some(epoch)) = (wake, epoch) {
            park::with_wait(epoch, |wait| object.delist(wait));
        }
    }
}

/// What [`readable`](super::readable) and [`writable`](super::writable) take: the sockets,
/// [`io::Pollable`](crate::io::Pollable), child processes and their pipes,
/// [`Signals`](crate::signal::Signals).
///
/// Implement it for a type that wraps one of them, by asking that.
///
/// ```
/// use hebra::channel::{Readiness, Receiver, readable};
/// use hebra::net::{TcpListener, TcpStream};
///
/// struct Session {
///     stream: TcpStream,
///     user: String,
/// }
///
/// impl Readiness for Session {
///     fn until_readable(&self) -> Receiver<()> {
///         self.stream.until_readable()
///     }
///
///     fn until_writable(&self) -> Receiver<()> {
///         self.stream.until_writable()
///     }
/// }
///
/// hebra::run(|| -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let stream = TcpStream::connect(listener.local_addr()?)?;
///     let session = Session { stream, user: "alice".to_owned() };
///     assert!(readable(&session).try_recv().is_err(), "{} has heard nothing", session.user);
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Readiness {
    /// Makes the channel of [`readable`](super::readable).
    fn until_readable(&self) -> Receiver<()>;

    /// Makes the channel of [`writable`](super::writable).
    fn until_writable(&self) -> Receiver<()>;
}

macro_rules! through_pointers {
    ($($pointer:ty)*) => {$(
        impl<T: Readiness + ?Sized> Readiness for $pointer {
            fn until_readable(&self) -> Receiver<()> {
                (**self).until_readable()
            }

            fn until_writable(&self) -> Receiver<()> {
                (**self).until_writable()
            }
        }
    )*};
}

through_pointers! { &T &mut T Box<T> std::rc::Rc<T> std::sync::Arc<T> }
