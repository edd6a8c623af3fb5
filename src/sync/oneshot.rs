//! One message from one thread to another, with the API of std's unstable `sync::oneshot`.
//!
//! ```
//! use hebra::sync::oneshot;
//! use hebra::thread;
//!
//! let answer = hebra::run(|| {
//!     let (sender, receiver) = oneshot::channel();
//!     thread::spawn(move || sender.send(42).unwrap());
//!     receiver.recv().unwrap()
//! });
//! assert_eq!(answer, 42);
//! ```

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{RecvError, SendError};
use std::time::{Duration, Instant};

use super::patience::Patience;
use crate::lock::Lock;
use crate::park::{Wait, charge_or_yield, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::waiter::Waiter;

/// ```text
///   Empty --- recv ---> Awaited --- send ---> Sent --- recv ---> Closed
///     |  +------------- send -----------------^  |
///     +--- an end is dropped ---> Closed         +--- the receiver is dropped ---> Closed
/// ```
enum State<T> {
    Empty,
    /// The receiver waits.
    Awaited(Waiter),
    Sent(T),
    /// An end is gone, or the message has been received.
    Closed,
}

/// Makes a channel for one message.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = Arc::new(Lock::new(State::Empty));
    (Sender(state.clone()), Receiver(state))
}

/// The end that sends. Dropped unsent, it disconnects the channel.
pub struct Sender<T>(Arc<Lock<State<T>>>);

/// The end that receives.
pub struct Receiver<T>(Arc<Lock<State<T>>>);

/// Why [`Receiver::try_recv`] has failed.
pub enum TryRecvError<T> {
    /// Nothing has been sent yet; the receiver is given back.
    Empty(Receiver<T>),
    /// The sender is gone, and nothing was sent.
    Disconnected,
}

/// Why [`Receiver::recv_timeout`] has failed.
pub enum RecvTimeoutError<T> {
    /// Time was up before anything was sent; the receiver is given back.
    Timeout(Receiver<T>),
    /// The sender is gone, and nothing was sent.
    Disconnected,
}

impl<T> Sender<T> {
    /// Sends `message`; it never waits.
    ///
    /// # Errors
    /// The receiver is gone; the message is in the error.
    pub fn send(self, message: T) -> Result<(), SendError<T>> {
        let before = {
            let mut state = self.0.lock();
            if let State::Closed = *state {
                return Err(SendError(message));
            }
            mem::replace(&mut *state, State::Sent(message))
        };
        if let State::Awaited(waiter) = before {
            waiter.wake(Wake::Woken);
        }
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let before = {
            let mut state = self.0.lock();
            match *state {
                State::Sent(_) => return,
                _ => mem::replace(&mut *state, State::Closed),
            }
        };
        if let State::Awaited(waiter) = before {
            waiter.wake(Wake::Woken);
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for the message.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point, and the receiver is
    /// dropped then. In a destructor of a thread that is being cancelled it fails instead of
    /// waiting.
    ///
    /// # Errors
    /// The sender is gone, and nothing was sent.
    pub fn recv(self) -> Result<T, RecvError> {
        self.recv_until(|| None).map_err(|_| RecvError)
    }

    /// Takes the message if it is there.
    ///
    /// # Errors
    /// It is not there, yet or for good.
    pub fn try_recv(self) -> Result<T, TryRecvError<T>> {
        match self.take() {
            Some(Ok(message)) => Ok(message),
            Some(Err(RecvError)) => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty(self)),
        }
    }

    /// Waits for the message, for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::sync::oneshot::{self, RecvTimeoutError};
    ///
    /// let (sender, receiver) = oneshot::channel();
    /// let Err(RecvTimeoutError::Timeout(receiver)) = receiver.recv_timeout(Duration::from_millis(1)) else { panic!() };
    /// sender.send("late").unwrap();
    /// assert_eq!(receiver.recv(), Ok("late"));
    /// ```
    ///
    /// # Cancellation
    /// As [`recv`](Receiver::recv).
    ///
    /// # Errors
    /// Time was up, and the receiver is in the error; or the sender is gone, and nothing was sent.
    pub fn recv_timeout(self, timeout: Duration) -> Result<T, RecvTimeoutError<T>> {
        self.recv_until(|| deadline_after(timeout))
    }

    /// Waits for the message, until `deadline` at most; see
    /// [`recv_timeout`](Receiver::recv_timeout).
    ///
    /// # Errors
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(self, deadline: impl Into<Instant>) -> Result<T, RecvTimeoutError<T>> {
        self.recv_until(|| Some(deadline.into()))
    }

    fn recv_until(
        self,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<T, RecvTimeoutError<T>> {
        charge_or_yield();
        if let Some(received) = self.take() {
            return received.map_err(|RecvError| RecvTimeoutError::Disconnected);
        }
        let enter = |wait: &Wait<'_>| {
            let mut state = self.0.lock();
            let waits = matches!(*state, State::Empty);
            if waits {
                *state = State::Awaited(wait.waiter());
            }
            waits
        };
        let leave = |_: &Wait<'_>| {
            let mut state = self.0.lock();
            if let State::Awaited(_) = *state {
                *state = State::Empty;
            }
        };
        Patience::Until(deadline()).wait(Reason::Receive, None, enter, leave);
        // Whatever has ended the wait: a message that is there is taken.
        match self.take() {
            Some(received) => received.map_err(|RecvError| RecvTimeoutError::Disconnected),
            None => Err(RecvTimeoutError::Timeout(self)),
        }
    }

    /// `None` if neither message nor end has come.
    fn take(&self) -> Option<Result<T, RecvError>> {
        let mut state = self.0.lock();
        match mem::replace(&mut *state, State::Closed) {
            State::Sent(message) => Some(Ok(message)),
            State::Closed => Some(Err(RecvError)),
            before @ (State::Empty | State::Awaited(_)) => {
                *state = before;
                None
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let unreceived = mem::replace(&mut *self.0.lock(), State::Closed);
        drop(unreceived);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TryRecvError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty(_) => "Empty(..)",
            TryRecvError::Disconnected => "Disconnected",
        })
    }
}

impl<T> fmt::Display for TryRecvError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty(_) => "receiving on an empty oneshot channel",
            TryRecvError::Disconnected => "receiving on a closed oneshot channel",
        })
    }
}

impl<T> fmt::Debug for RecvTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecvTimeoutError::Timeout(_) => "Timeout(..)",
            RecvTimeoutError::Disconnected => "Disconnected",
        })
    }
}

impl<T> fmt::Display for RecvTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecvTimeoutError::Timeout(_) => "timed out waiting on a oneshot channel",
            RecvTimeoutError::Disconnected => "receiving on a closed oneshot channel",
        })
    }
}

impl<T> std::error::Error for TryRecvError<T> {}
impl<T> std::error::Error for RecvTimeoutError<T> {}

impl<T> From<RecvError> for TryRecvError<T> {
    fn from(RecvError: RecvError) -> TryRecvError<T> {
        TryRecvError::Disconnected
    }
}

impl<T> From<RecvError> for RecvTimeoutError<T> {
    fn from(RecvError: RecvError) -> RecvTimeoutError<T> {
        RecvTimeoutError::Disconnected
    }
}
