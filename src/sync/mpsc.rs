//! Channels of many senders and one receiver, with the API of [`std::sync::mpsc`] and its error
//! types.
//!
//! They are channels of [`hebra::channel`](crate::channel), where there is more: several receivers,
//! [`select!`](crate::channel::select).
//!
//! ```
//! use hebra::sync::mpsc;
//! use hebra::thread;
//!
//! hebra::run(|| {
//!     let (sender, receiver) = mpsc::channel();
//!     for n in 0..3 {
//!         let sender = sender.clone();
//!         thread::spawn(move || sender.send(n).unwrap());
//!     }
//!     drop(sender);
//!     assert_eq!(receiver.iter().sum::<i32>(), 3);
//! });
//! ```

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::RefUnwindSafe;
use std::time::{Duration, Instant};

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use crate::channel;
pub use crate::channel::SendTimeoutError;

/// Makes a channel that holds any number of messages: sending never waits.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = channel::unbounded();
    (
        Sender(sender),
        Receiver {
            channel: receiver,
            not_sync: PhantomData,
        },
    )
}

/// Makes a channel that holds `bound` messages at most: then senders wait. With 0 a sender waits
/// until its message is received.
///
/// ```
/// use hebra::sync::mpsc::sync_channel;
/// use hebra::thread;
///
/// hebra::run(|| {
///     let (sender, receiver) = sync_channel(1);
///     sender.send(1).unwrap();
///     thread::spawn(move || sender.send(2).unwrap()); // It waits until the first is received.
///     assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Ok(2)));
/// });
/// ```
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (sender, receiver) = channel::bounded(bound);
    (
        SyncSender(sender),
        Receiver {
            channel: receiver,
            not_sync: PhantomData,
        },
    )
}

/// The sending end of a [`channel()`]. It can be cloned.
pub struct Sender<T>(channel::Sender<T>);

/// The sending end of a [`sync_channel()`]. It can be cloned.
pub struct SyncSender<T>(channel::Sender<T>);

/// The receiving end of a channel; there is one.
pub struct Receiver<T> {
    channel: channel::Receiver<T>,
    /// As std's: it can be sent to another thread, but not shared.
    not_sync: PhantomData<Cell<()>>,
}

// The cell is only there to keep it from being shared between threads.
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Sender<T> {
    /// Sends a message; it never waits.
    ///
    /// # Errors
    /// The receiver is gone; the message is in the error.
    #[cfg_attr(not(debug_assertions), inline(always))] // As `channel::Sender::send`.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.0
            .send(message)
            .map_err(|error| SendError(error.into_inner()))
    }
}

impl<T> SyncSender<T> {
    /// Sends a message, and waits while the channel is full.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point, and then the message was
    /// not sent. In a destructor of a thread that is being cancelled it fails instead of
    /// waiting.
    ///
    /// # Errors
    /// The receiver is gone; the message is in the error.
    #[cfg_attr(not(debug_assertions), inline(always))] // As `channel::Sender::send`.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.0
            .send(message)
            .map_err(|error| SendError(error.into_inner()))
    }

    /// Sends a message if the channel is not full, or, if it holds none, a receiver waits.
    ///
    /// # Errors
    /// It is full; or the receiver is gone. The message is in the error.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(message).map_err(|error| match error {
            channel::TrySendError::Full(message) => TrySendError::Full(message),
            channel::TrySendError::Disconnected(message) => TrySendError::Disconnected(message),
        })
    }

    /// Sends a message, but waits for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::sync::mpsc::{SendTimeoutError, sync_channel};
    ///
    /// let (sender, _receiver) = sync_channel(0);
    /// let late = sender.send_timeout("nobody receives", Duration::from_millis(1));
    /// assert_eq!(late, Err(SendTimeoutError::Timeout("nobody receives")));
    /// ```
    ///
    /// # Cancellation
    /// As [`send`](SyncSender::send).
    ///
    /// # Errors
    /// Time was up; or the receiver is gone. The message is in the error.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.0.send_timeout(message, timeout)
    }

    /// Sends a message, but waits until `deadline` at most; see
    /// [`send_timeout`](SyncSender::send_timeout).
    ///
    /// # Errors
    /// As [`send_timeout`](SyncSender::send_timeout).
    pub fn send_deadline(
        &self,
        message: T,
        deadline: impl Into<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        self.0.send_deadline(message, deadline)
    }
}

impl<T> Receiver<T> {
    /// Takes a message if there is one.
    ///
    /// # Errors
    /// There is none, yet or for good.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.channel.try_recv().map_err(|error| match error {
            channel::TryRecvError::Empty => TryRecvError::Empty,
            channel::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Waits for a message.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point, and no message is lost.
    /// In a destructor of a thread that is being cancelled it fails instead of waiting.
    ///
    /// # Errors
    /// All senders are gone, and so are the messages.
    #[cfg_attr(not(debug_assertions), inline(always))] // As `channel::Receiver::recv`.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.channel.recv().map_err(|_| RecvError)
    }

    /// Waits for a message, for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::sync::mpsc::{RecvTimeoutError, channel};
    ///
    /// let (_sender, receiver) = channel::<()>();
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// ```
    ///
    /// # Cancellation
    /// As [`recv`](Receiver::recv).
    ///
    /// # Errors
    /// Time was up; or all senders are gone, and so are the messages.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.channel.recv_timeout(timeout).map_err(late)
    }

    /// Waits for a message, until `deadline` at most; see [`recv_timeout`](Receiver::recv_timeout).
    ///
    /// # Errors
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&self, deadline: impl Into<Instant>) -> Result<T, RecvTimeoutError> {
        self.channel.recv_deadline(deadline).map_err(late)
    }

    /// Iterates over messages, and waits for each; it ends when all senders are gone.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Iterates over the messages that are there, without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }
}

fn late(error: channel::RecvTimeoutError) -> RecvTimeoutError {
    match error {
        channel::RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
        channel::RecvTimeoutError::Disconnected => RecvTimeoutError::Disconnected,
    }
}

/// An iterator over messages that waits for each; see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: 'a>(&'a Receiver<T>);

/// An iterator over the messages that are there; see [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: 'a>(&'a Receiver<T>);

/// An iterator over messages that waits for each, and owns the receiver.
#[derive(Debug)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> SyncSender<T> {
        SyncSender(self.0.clone())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
