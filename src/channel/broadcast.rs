//! Channels whose every receiver gets every message: tokio's `broadcast`, in its terms.
//!
//! A channel keeps the last `capacity` messages, and senders never wait. A receiver that is slower
//! than that *lags*: it is told how many messages it has missed, and goes on with the oldest that
//! is left.
//!
//! ```
//! use hebra::{channel::broadcast, thread};
//!
//! hebra::run(|| {
//!     let (sender, mut first) = broadcast::channel(16);
//!     let mut second = sender.subscribe();
//!     let listener = thread::spawn(move || second.recv());
//!     assert_eq!(sender.send("everybody"), Ok(2));
//!     assert_eq!(first.recv(), Ok("everybody"));
//!     assert_eq!(listener.join().unwrap(), Ok("everybody"));
//! });
//! ```
//!
//! A message is kept once, and dropped when the last of those receivers has seen it that were there
//! when it was sent. Each receiver gets a clone, the last one perhaps the message itself. No user
//! code, `Clone` and `Drop` included, runs under the channel's lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SendError;
use super::entries::{Entries, List};
use crate::lock::Lock;
use crate::park::{self, Mode, Wait, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// The senders are gone, and everything has been received.
    Closed,
    /// The receiver was too slow, and has missed so many messages. The next receive gets the oldest
    /// that is left.
    Lagged(u64),
}

/// Why nothing was received at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is no message yet.
    Empty,
    /// As [`RecvError::Closed`].
    Closed,
    /// As [`RecvError::Lagged`].
    Lagged(u64),
}

/// Why nothing was received in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// Time is up.
    Timeout,
    /// As [`RecvError::Closed`].
    Closed,
    /// As [`RecvError::Lagged`].
    Lagged(u64),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Closed => f.write_str("receiving on a closed channel"),
            RecvError::Lagged(missed) => write!(
                f,
                "the receiver has lagged behind and missed {missed} messages"
            ),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TryRecvError::Empty => f.write_str("receiving on an empty channel"),
            TryRecvError::Closed => RecvError::Closed.fmt(f),
            TryRecvError::Lagged(missed) => RecvError::Lagged(missed).fmt(f),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RecvTimeoutError::Timeout => f.write_str("timed out waiting on receive operation"),
            RecvTimeoutError::Closed => RecvError::Closed.fmt(f),
            RecvTimeoutError::Lagged(missed) => RecvError::Lagged(missed).fmt(f),
        }
    }
}

impl std::error::Error for RecvError {}
impl std::error::Error for TryRecvError {}
impl std::error::Error for RecvTimeoutError {}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> RecvTimeoutError {
        match error {
            RecvError::Closed => RecvTimeoutError::Closed,
            RecvError::Lagged(missed) => RecvTimeoutError::Lagged(missed),
        }
    }
}

/// What stands under the lock.
///
/// ```text
///   first                      first + slots.len(): the next to be sent
///     |--- slots, oldest first ---|
///              ^ a receiver's `next`: all before it have been received by it; if it is below `first`, it lags
/// ```
///
/// A receiver *is at* the slot that it receives next: one that lags at the oldest, one that has
/// received everything at none. It needs that slot and all after it. So the oldest slot is needed
/// exactly by the receivers that are at it, and when there are none it goes: receiving and leaving
/// change one count, however many messages there are. Some receiver is always at the oldest slot.
struct State<T> {
    slots: VecDeque<Slot<T>>,
    first: u64,
    capacity: usize,
    senders: usize,
    receivers: usize,
    /// How many receivers have received everything.
    up_to_date: usize,
    entries: Entries<()>,
}

struct Slot<T> {
    message: Arc<T>,
    /// How many receivers are at it.
    receivers: usize,
}

impl<T> State<T> {
    fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Receives the message at `next`, and moves that on.
    fn receive(&mut self, next: &mut u64) -> Result<Arc<T>, TryRecvError> {
        if *next < self.first {
            let missed = self.first - *next;
            *next = self.first;
            return Err(TryRecvError::Lagged(missed));
        }
        if *next == self.next() {
            return Err(if self.senders == 0 {
                TryRecvError::Closed
            } else {
                TryRecvError::Empty
            });
        }
        let at = (*next - self.first) as usize;
        *next += 1;
        match self.slots.get_mut(at + 1) {
            Some(following) => following.receivers += 1,
            None => self.up_to_date += 1,
        }
        let slot = &mut self.slots[at];
        slot.receivers -= 1;
        // The receiver is at the following slot now, so no other one is to be forgotten.
        let last = at == 0 && slot.receivers == 0;
        let message = if last { self.forget_oldest() } else { None };
        Ok(message.unwrap_or_else(|| self.slots[at].message.clone()))
    }

    fn forget_oldest(&mut self) -> Option<Arc<T>> {
        let slot = self.slots.pop_front()?;
        self.first += 1;
        Some(slot.message)
    }

    /// Sends, and returns what has to go for that. There must be receivers.
    fn send(&mut self, message: T) -> Option<Arc<T>> {
        let oldest = if self.slots.len() == self.capacity {
            self.slots.pop_front()
        } else {
            None
        };
        self.slots.push_back(Slot {
            message: Arc::new(message),
            receivers: std::mem::take(&mut self.up_to_date),
        });
        let oldest = oldest?;
        self.first += 1;
        // Its receivers lag, and are at the slot that is the oldest now.
        if let Some(slot) = self.slots.front_mut() {
            slot.receivers += oldest.receivers;
        }
        Some(oldest.message)
    }

    /// Counts a receiver less, which would have received what comes from `next` on. Returns what
    /// nobody will receive.
    fn leave(&mut self, next: u64) -> Vec<Arc<T>> {
        self.receivers -= 1;
        let at = (next.max(self.first) - self.first) as usize;
        match self.slots.get_mut(at) {
            Some(slot) => slot.receivers -= 1,
            None => self.up_to_date -= 1,
        }
        let mut forgotten = Vec::new();
        while self.slots.front().is_some_and(|slot| slot.receivers == 0) {
            forgotten.extend(self.forget_oldest());
        }
        forgotten
    }

    fn subscribe(&mut self) -> u64 {
        self.receivers += 1;
        self.up_to_date += 1;
        self.next()
    }
}

/// Makes a channel that keeps `capacity` messages for its slowest receiver.
///
/// # Panics
/// If `capacity` is 0.
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(capacity);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// Sends to all receivers of a channel. Clones send to the same; the channel is closed when the
/// last is dropped.
pub struct Sender<T> {
    state: Arc<Lock<State<T>>>,
}

impl<T> Sender<T> {
    /// Makes a channel without receivers; see [`channel`].
    ///
    /// # Panics
    /// If `capacity` is 0.
    pub fn new(capacity: usize) -> Sender<T> {
        assert!(
            capacity > 0,
            "a broadcast channel must keep at least one message"
        );
        let entries = Entries::new();
        let state = State {
            slots: VecDeque::new(),
            first: 0,
            capacity,
            senders: 1,
            receivers: 0,
            up_to_date: 0,
            entries,
        };
        Sender {
            state: Arc::new(Lock::new(state)),
        }
    }

    /// Sends a message to all receivers that there are, and returns how many. It never waits: the
    /// oldest message goes if there is no room.
    ///
    /// # Errors
    /// There are no receivers. The message comes back.
    ///
    /// ```
    /// use hebra::channel::broadcast::{self, RecvError};
    ///
    /// let (sender, mut receiver) = broadcast::channel(2);
    /// for n in 0..5 {
    ///     sender.send(n).unwrap();
    /// }
    /// assert_eq!(receiver.recv(), Err(RecvError::Lagged(3)));
    /// assert_eq!((receiver.recv(), receiver.recv()), (Ok(3), Ok(4)));
    /// ```
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        park::charge();
        let mut state = self.state.lock();
        if state.receivers == 0 {
            return Err(SendError(value));
        }
        let oldest = state.send(value);
        let claimed = state.entries.dismiss_all(List::Receivers);
        let receivers = state.receivers;
        drop(state);
        drop(claimed);
        drop(oldest);
        Ok(receivers)
    }

    /// Makes a receiver of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        let next = self.state.lock().subscribe();
        Receiver {
            state: self.state.clone(),
            next,
        }
    }

    /// Returns how many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.state.lock().receivers
    }

    /// Returns how many messages there are that somebody has yet to receive.
    pub fn len(&self) -> usize {
        self.state.lock().slots.len()
    }

    /// Returns whether everybody has received everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there are no receivers.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn closed(&self) {
        park::charge_or_yield();
        while self.receiver_count() > 0 {
            let ended = wait(&self.state, List::Senders, None, |state| {
                state.receivers == 0
            });
            if ended == Wake::Cancelled {
                return;
            }
        }
    }

    /// Returns whether both send to the same channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.state.lock().senders += 1;
        Sender {
            state: self.state.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.senders -= 1;
        let claimed = if state.senders == 0 {
            state.entries.dismiss_all(List::Receivers)
        } else {
            Vec::new()
        };
        drop(state);
        drop(claimed);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}

/// Receives what is sent after it was made, in order. It is not cloned but [made
/// anew](Receiver::resubscribe).
pub struct Receiver<T> {
    state: Arc<Lock<State<T>>>,
    /// The number of the next message to receive.
    next: u64,
}

impl<T> Receiver<T> {
    /// Returns how many messages are there to be received; more than the capacity if the receiver
    /// lags.
    pub fn len(&self) -> usize {
        (self.state.lock().next() - self.next) as usize
    }

    /// Returns whether everything has been received that was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the senders are gone. There may be messages left.
    pub fn is_closed(&self) -> bool {
        self.state.lock().senders == 0
    }

    /// Makes a receiver of what is sent from now on.
    pub fn resubscribe(&self) -> Receiver<T> {
        let next = self.state.lock().subscribe();
        Receiver {
            state: self.state.clone(),
            next,
        }
    }

    /// Returns whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl<T: Clone> Receiver<T> {
    /// Receives the next message if it is there.
    ///
    /// # Errors
    /// See [`TryRecvError`].
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        park::charge();
        self.receive_now()
    }

    fn receive_now(&mut self) -> Result<T, TryRecvError> {
        let message = self.state.lock().receive(&mut self.next)?;
        Ok(Arc::unwrap_or_clone(message))
    }

    /// Receives the next message, and waits for it.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then no message is taken. In a
    /// destructor of a thread that is being cancelled it takes a message that is there, and
    /// fails otherwise.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_until(|| None).map_err(|error| match error {
            RecvTimeoutError::Lagged(missed) => RecvError::Lagged(missed),
            RecvTimeoutError::Closed | RecvTimeoutError::Timeout => RecvError::Closed,
        })
    }

    /// Receives the next message, and waits for it for `timeout` at most.
    ///
    /// # Cancellation
    /// As [`recv`](Receiver::recv).
    ///
    /// # Errors
    /// See [`RecvTimeoutError`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(|| deadline_after(timeout))
    }

    /// Receives the next message, and waits for it until `deadline` at most.
    ///
    /// # Cancellation
    /// As [`recv`](Receiver::recv).
    ///
    /// # Errors
    /// See [`RecvTimeoutError`].
    pub fn recv_deadline(&mut self, deadline: impl Into<Instant>) -> Result<T, RecvTimeoutError> {
        self.recv_until(|| Some(deadline.into()))
    }

    fn recv_until(
        &mut self,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<T, RecvTimeoutError> {
        let mut until = None;
        let mut deadline = Some(deadline);
        loop {
            park::charge_or_yield();
            match self.receive_now() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => return Err(RecvTimeoutError::Closed),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvTimeoutError::Lagged(missed)),
            }
            if let Some(deadline) = deadline.take() {
                until = deadline();
            }
            let next = self.next;
            match wait(&self.state, List::Receivers, until, |state| {
                next < state.next() || state.senders == 0
            }) {
                Wake::TimedOut if until.is_some_and(|until| until <= park::now()) => {
                    return Err(RecvTimeoutError::Timeout);
                }
                Wake::Cancelled => return Err(RecvTimeoutError::Closed),
                Wake::TimedOut | Wake::Woken => {}
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let forgotten = state.leave(self.next);
        let claimed = if state.receivers == 0 {
            state.entries.dismiss_all(List::Senders)
        } else {
            Vec::new()
        };
        drop(state);
        drop(claimed);
        drop(forgotten);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}

/// Waits on a list until somebody wakes it, unless `is_over` already.
fn wait<T>(
    state: &Lock<State<T>>,
    list: List,
    deadline: Option<Instant>,
    is_over: impl Fn(&State<T>) -> bool,
) -> Wake {
    park::park(Reason::Receive, deadline, Mode::CancelPoint, |wait| {
        let mut locked = state.lock();
        if is_over(&locked) {
            return None;
        }
        let key = locked.entries.enlist(list, wait);
        Some(move |_: &Wait<'_>| state.lock().entries.discard(key))
    })
}
