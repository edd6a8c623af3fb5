//! [`Receiver`]: the receiving side of a channel, and its iterators.

use std::fmt;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alarm;
use super::object::{self, Look, Object};
use super::queue::Queue;
use super::{RecvError, RecvTimeoutError, TryRecvError};
use crate::park::{self, deadline_after};

/// The receiving side of a channel.
///
/// Clones receive from the same channel: each message goes to one of them. When the last is
/// dropped, the channel is disconnected, and what is left in it is dropped.
///
/// ```
/// use hebra::{channel, thread};
///
/// hebra::run(|| {
///     let (sender, receiver) = channel::bounded(0);
///     let other = receiver.clone();
///     thread::spawn(move || assert_eq!(other.recv(), Ok("hello")));
///     sender.send("hello").unwrap();
/// });
/// ```
pub struct Receiver<T> {
    pub(super) flavor: Flavor<T>,
}

/// Where the messages come from.
pub(super) enum Flavor<T> {
    Queue(Arc<Queue<T>>),
    Object(Arc<dyn Object<T>>),
    Never,
}

impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    /// What an object tells.
    pub(crate) fn of_object(object: Arc<dyn Object<T>>) -> Receiver<T> {
        Receiver {
            flavor: Flavor::Object(object),
        }
    }

    /// Receives a message if there is one, or, on a channel of no capacity, a sender that waits.
    /// Never switches threads, and is no cancel point.
    ///
    /// A sender that waits in a `select!` on a channel of no capacity has no message yet: it makes
    /// it when it has been selected. If none but such senders wait, this selects one and returns
    /// [`TryRecvError::Empty`]; the message is for the next receiver. No other is selected by such
    /// calls until that has been received. So a loop of `try_recv` and
    /// [`yield_now`](crate::thread::yield_now) gets all messages. That the sender has sent means then
    /// that a receiver had asked for the message: it is dropped with the channel if no receiver asks
    /// again, and comes back to the sender if the receivers have gone before it is made.
    ///
    /// # Errors
    /// The channel is empty; if its senders are gone, too, it is disconnected.
    ///
    /// ```
    /// use hebra::channel::{unbounded, TryRecvError};
    ///
    /// let (sender, receiver) = unbounded();
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// sender.send(5).unwrap();
    /// drop(sender);
    /// assert_eq!(receiver.try_recv(), Ok(5));
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        match &self.flavor {
            Flavor::Queue(queue) => {
                park::charge();
                if let Some(message) = queue.receive_at_once() {
                    return Ok(message);
                }
                let mut message = None;
                queue.poll(&mut message)?;
                Ok(received(message))
            }
            Flavor::Object(object) => object::try_recv(&**object),
            Flavor::Never => Err(TryRecvError::Empty),
        }
    }

    /// Receives a message, and waits until there is one.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then no message is taken. In a
    /// destructor of a thread that is being cancelled it takes a message that is there, and
    /// fails otherwise.
    ///
    /// # Errors
    /// The channel is empty, and its senders are gone.
    ///
    /// ```
    /// use hebra::channel::{unbounded, RecvError};
    ///
    /// let (sender, receiver) = unbounded();
    /// sender.send(5).unwrap();
    /// drop(sender);
    /// assert_eq!(receiver.recv(), Ok(5));
    /// assert_eq!(receiver.recv(), Err(RecvError));
    /// ```
    #[cfg_attr(not(debug_assertions), inline(always))] // So that the switch's return is predicted; see `coroutine`.
    pub fn recv(&self) -> Result<T, RecvError> {
        match &self.flavor {
            Flavor::Queue(queue) => match queue.receive_at_once_or_yield() {
                Some(message) => Ok(message),
                None => {
                    let mut message = None;
                    match queue.recv(&mut message, || None) {
                        Ok(()) => Ok(received(message)),
                        Err(_) => Err(RecvError),
                    }
                }
            },
            _ => self.recv_otherwise(None).map_err(|_| RecvError),
        }
    }

    /// Receives a message, and waits for one for `timeout` at most.
    ///
    /// # Cancellation
    /// As [`recv`](Receiver::recv).
    ///
    /// # Errors
    /// Time is up, or the channel is empty and its senders are gone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::channel::{unbounded, RecvTimeoutError};
    ///
    /// let (_sender, receiver) = unbounded::<u32>();
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// ```
    #[cfg_attr(not(debug_assertions), inline(always))] // As `recv`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        match &self.flavor {
            Flavor::Queue(queue) => recv_until(queue, || deadline_after(timeout)),
            _ => self.recv_otherwise(deadline_after(timeout)),
        }
    }

    /// Receives a message, and waits for one until `deadline` at most.
    ///
    /// # Cancellation
    /// As [`recv`](Receiver::recv).
    ///
    /// # Errors
    /// The deadline has passed, or the channel is empty and its senders are gone.
    #[cfg_attr(not(debug_assertions), inline(always))] // As `recv`.
    pub fn recv_deadline(&self, deadline: impl Into<Instant>) -> Result<T, RecvTimeoutError> {
        match &self.flavor {
            Flavor::Queue(queue) => recv_until(queue, || Some(deadline.into())),
            _ => self.recv_otherwise(Some(deadline.into())),
        }
    }

    #[cold]
    fn recv_otherwise(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        match &self.flavor {
            Flavor::Queue(queue) => recv_until(queue, || deadline),
            Flavor::Object(object) => object::recv(&**object, deadline),
            Flavor::Never => alarm::wait_until(deadline).and(Err(RecvTimeoutError::Timeout)),
        }
    }

    /// Returns whether there is no message in the channel. One of no capacity is always empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether there is no room in the channel. One of no capacity is always full.
    pub fn is_full(&self) -> bool {
        match &self.flavor {
            Flavor::Queue(queue) => queue.is_full(),
            Flavor::Object(_) => !self.is_empty(),
            Flavor::Never => true,
        }
    }

    /// Returns how many messages are in the channel.
    pub fn len(&self) -> usize {
        match &self.flavor {
            Flavor::Queue(queue) => queue.len(),
            Flavor::Object(object) => usize::from(object.look() == Look::Ready),
            Flavor::Never => 0,
        }
    }

    /// Returns how many messages the channel holds at most; `None` if it is unbounded.
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavor {
            Flavor::Queue(queue) => queue.capacity(),
            Flavor::Object(_) => Some(1),
            Flavor::Never => Some(0),
        }
    }

    /// Returns an iterator that waits for each message. It ends when the channel is empty and its
    /// senders are gone.
    ///
    /// ```
    /// use hebra::channel::unbounded;
    ///
    /// let (sender, receiver) = unbounded();
    /// (1..=3).for_each(|n| sender.send(n).unwrap());
    /// drop(sender);
    /// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Returns an iterator over the messages that are there. It waits for none, and ends when the
    /// channel is empty.
    ///
    /// ```
    /// use hebra::channel::unbounded;
    ///
    /// let (sender, receiver) = unbounded();
    /// (1..=3).for_each(|n| sender.send(n).unwrap());
    /// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Returns whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        match (&self.flavor, &other.flavor) {
            (Flavor::Queue(a), Flavor::Queue(b)) => Arc::ptr_eq(a, b),
            (Flavor::Object(a), Flavor::Object(b)) => Arc::ptr_eq(a, b),
            (Flavor::Never, Flavor::Never) => true,
            _ => false,
        }
    }
}

#[cfg_attr(not(debug_assertions), inline(always))] // As `recv`.
fn recv_until<T>(
    queue: &Queue<T>,
    deadline: impl FnOnce() -> Option<Instant>,
) -> Result<T, RecvTimeoutError> {
    if let Some(message) = queue.receive_at_once_or_yield() {
        return Ok(message);
    }
    let mut message = None;
    queue.recv(&mut message, deadline)?;
    Ok(received(message))
}

/// The message of a receive that has succeeded.
#[cfg_attr(not(debug_assertions), inline(always))]
fn received<T>(message: Option<T>) -> T {
    match message {
        Some(message) => message,
        None => unreachable!("a receive that has succeeded has a message"),
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Flavor::Queue(queue) = &self.flavor {
            queue.remove_receiver();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        let flavor = match &self.flavor {
            Flavor::Queue(queue) => {
                queue.add_receiver();
                Flavor::Queue(queue.clone())
            }
            Flavor::Object(object) => Flavor::Object(object.clone()),
            Flavor::Never => Flavor::Never,
        };
        Receiver { flavor }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
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
        IntoIter { receiver: self }
    }
}

/// Iterates over the messages of a channel, and waits for each; see [`Receiver::iter`].
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> FusedIterator for Iter<'_, T> {}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[cfg_attr(not(debug_assertions), inline(always))] // As `recv`.
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Iter { .. }")
    }
}

/// Iterates over the messages that are in a channel, and waits for none; see
/// [`Receiver::try_iter`].
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("TryIter { .. }")
    }
}

/// As [`Iter`], and owns the receiver.
///
/// ```
/// use hebra::{channel, thread};
///
/// let sum: u32 = hebra::run(|| {
///     let (sender, receiver) = channel::bounded(1);
///     thread::spawn(move || (1..=4).for_each(|n| sender.send(n).unwrap()));
///     receiver.into_iter().sum()
/// });
/// assert_eq!(sum, 10);
/// ```
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> FusedIterator for IntoIter<T> {}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[cfg_attr(not(debug_assertions), inline(always))] // As `recv`.
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("IntoIter { .. }")
    }
}
