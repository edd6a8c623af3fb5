//! [`Sender`]: the sending side of a channel.
//!
//! Without optimisation each function that is inlined has a place of its own for its message in the
//! caller's frame, and large messages would fill a small stack: then nothing that takes one is inlined.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{Queue, Unsent};
use super::{SendError, SendTimeoutError, TrySendError};
use crate::park::{self, deadline_after};

/// The sending side of a channel.
///
/// Clones send to the same channel; when the last is dropped, the channel is disconnected, and its
/// receivers get what is left in it.
///
/// ```
/// use hebra::{channel, thread};
///
/// hebra::run(|| {
///     let (sender, receiver) = channel::unbounded();
///     let other = sender.clone();
///     thread::spawn(move || sender.send(1).unwrap());
///     thread::spawn(move || other.send(2).unwrap());
///     assert_eq!(receiver.iter().sum::<i32>(), 3);
/// });
/// ```
pub struct Sender<T> {
    pub(super) queue: Arc<Queue<T>>,
}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> Sender<T> {
    /// Sends a message if that is possible at once: if there is room, or, on a channel of no
    /// capacity, a receiver that waits. Never switches threads, and is no cancel point.
    ///
    /// # Errors
    /// The channel is full, or its receivers are gone. The message comes back.
    ///
    /// ```
    /// use hebra::channel::{bounded, TrySendError};
    ///
    /// let (sender, _receiver) = bounded(1);
    /// assert_eq!(sender.try_send("first"), Ok(()));
    /// assert_eq!(sender.try_send("second"), Err(TrySendError::Full("second")));
    /// ```
    #[inline]
    pub fn try_send(&self, msg: T) -> Result<(), TrySendError<T>> {
        park::charge();
        if let Some(mut state) = self.queue.quiet_place() {
            state.push(msg);
            return Ok(());
        }
        let mut msg = Some(msg);
        match self.queue.try_send(&mut msg) {
            Ok(()) => Ok(()),
            Err(Unsent::Full) => Err(TrySendError::Full(back(msg))),
            Err(Unsent::Disconnected) => Err(TrySendError::Disconnected(back(msg))),
        }
    }

    /// Sends a message, and waits until there is room for it. On a channel of no capacity, waits
    /// until it has been received.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then nothing is sent. In a destructor
    /// of a thread that is being cancelled it sends if it can do so at once, and fails
    /// otherwise. To an unbounded channel it cannot wait: there it never switches threads, and is no
    /// cancel point.
    ///
    /// # Errors
    /// The receivers are gone. The message comes back.
    ///
    /// ```
    /// use hebra::channel::{bounded, SendError};
    ///
    /// let (sender, receiver) = bounded(1);
    /// assert_eq!(sender.send(1), Ok(()));
    /// drop(receiver);
    /// assert_eq!(sender.send(2), Err(SendError(2)));
    /// ```
    #[cfg_attr(not(debug_assertions), inline(always))] // So that the switch's return is predicted; see `coroutine`.
    pub fn send(&self, msg: T) -> Result<(), SendError<T>> {
        if let Some(mut state) = self.queue.quiet_place_or_yield() {
            state.push(msg);
            return Ok(());
        }
        let mut msg = Some(msg);
        match self.queue.send(&mut msg, || None) {
            Ok(()) => Ok(()),
            Err(_) => Err(SendError(back(msg))),
        }
    }

    /// Sends a message, and waits for that for `timeout` at most.
    ///
    /// # Cancellation
    /// As [`send`](Sender::send).
    ///
    /// # Errors
    /// Time is up, or the receivers are gone. The message comes back.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::channel::{bounded, SendTimeoutError};
    ///
    /// let (sender, _receiver) = bounded(0);
    /// let error = sender.send_timeout(5, Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(error, SendTimeoutError::Timeout(5));
    /// ```
    #[cfg_attr(not(debug_assertions), inline(always))] // As `send`.
    pub fn send_timeout(&self, msg: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(msg, || deadline_after(timeout))
    }

    /// Sends a message, and waits for that until `deadline` at most.
    ///
    /// # Cancellation
    /// As [`send`](Sender::send).
    ///
    /// # Errors
    /// The deadline has passed, or the receivers are gone. The message comes back.
    #[cfg_attr(not(debug_assertions), inline(always))] // As `send`.
    pub fn send_deadline(
        &self,
        msg: T,
        deadline: impl Into<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_until(msg, || Some(deadline.into()))
    }

    #[cfg_attr(not(debug_assertions), inline(always))] // As `send`.
    fn send_until(
        &self,
        msg: T,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        if let Some(mut state) = self.queue.quiet_place_or_yield() {
            state.push(msg);
            return Ok(());
        }
        let mut msg = Some(msg);
        match self.queue.send(&mut msg, deadline) {
            Ok(()) => Ok(()),
            Err(Unsent::Full) => Err(SendTimeoutError::Timeout(back(msg))),
            Err(Unsent::Disconnected) => Err(SendTimeoutError::Disconnected(back(msg))),
        }
    }

    /// Returns whether there is no message in the channel. One of no capacity is always empty.
    pub fn is_empty(&self) -> bool {
        self.queue.len() == 0
    }

    /// Returns whether there is no room in the channel. One of no capacity is always full.
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Returns how many messages are in the channel.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns how many messages the channel holds at most; `None` if it is unbounded.
    pub fn capacity(&self) -> Option<usize> {
        self.queue.capacity()
    }

    /// Returns whether both send to the same channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }
}

/// The message of a send that has failed.
#[cfg_attr(not(debug_assertions), inline(always))]
fn back<T>(message: Option<T>) -> T {
    match message {
        Some(message) => message,
        None => unreachable!("a message that was not sent stays with its sender"),
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.queue.remove_sender();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.queue.add_sender();
        Sender {
            queue: self.queue.clone(),
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}
