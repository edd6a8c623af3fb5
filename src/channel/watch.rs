//! Channels that hold one value, the latest: tokio's `watch`, in its terms.
//!
//! Receivers see the value whenever they like, and can wait until it has changed; what lies between
//! two looks they do not see.
//!
//! ```
//! use hebra::{channel::watch, thread};
//!
//! hebra::run(|| {
//!     let (sender, mut receiver) = watch::channel("starting");
//!     let observer = thread::spawn(move || {
//!         while *receiver.borrow_and_update() != "ready" {
//!             receiver.changed().unwrap();
//!         }
//!     });
//!     sender.send("ready").unwrap();
//!     observer.join().unwrap();
//! });
//! ```
//!
//! # How a value is lent
//!
//! ```text
//!                 borrow: another `Arc` of it                     send: another one takes its place
//!   lent n times <------------------------> here, shared or not ------------------------------------> the old one lives on in its `Ref`s
//!                                                  |   ^
//!                       send_modify: nobody else   v   |  it is put back
//!                                                out: who wants to borrow waits
//! ```
//!
//! A [`Ref`] is a share of the value and no lock: it may be kept across anything that parks, and
//! keeps nobody from sending. Only [`Sender::send_modify`] and its kind, which change a value where
//! it lies, wait until all `Ref`s of it are gone.

use std::fmt;
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entries::{Entries, List};
use super::{RecvError, RecvTimeoutError, SendError};
use crate::lock::Lock;
use crate::park::{self, Mode, Wait, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;

/// Wait for a change.
const CHANGE: List = List::Receivers;
/// Wait until there are no receivers.
const END: List = List::Senders;
/// Wait until the value is back.
const RETURN: List = List::RecvWatchers;
/// Wait until nobody else has a share of the value.
const SHARES: List = List::SendWatchers;

struct Shared<T>(Lock<State<T>>);

struct State<T> {
    /// `None` while a sender changes it.
    value: Option<Arc<T>>,
    /// What was sent meanwhile: it takes the place of the value as soon as that is back.
    sent: Option<Arc<T>>,
    /// Counts the changes.
    version: u64,
    senders: usize,
    receivers: usize,
    entries: Entries<()>,
}

impl<T> Shared<T> {
    /// Waits on a list until somebody wakes it, unless `is_over` already.
    fn wait(
        &self,
        list: List,
        deadline: Option<Instant>,
        is_over: impl Fn(&State<T>) -> bool,
    ) -> Wake {
        park::park(Reason::Receive, deadline, Mode::CancelPoint, |wait| {
            self.enlist(list, wait, is_over)
        })
    }

    /// As [`wait`](Shared::wait), for what cannot fail.
    fn wait_insistently(&self, list: List, is_over: impl Fn(&State<T>) -> bool) {
        park::park_insistently(Reason::Receive, None, None, |wait| {
            self.enlist(list, wait, is_over)
        });
    }

    fn enlist<'a, F: Fn(&State<T>) -> bool>(
        &'a self,
        list: List,
        wait: &Wait<'_>,
        is_over: F,
    ) -> Option<impl FnOnce(&Wait<'_>) + use<'a, T, F>> {
        let mut state = self.0.lock();
        if is_over(&state) {
            return None;
        }
        let key = state.entries.enlist(list, wait);
        Some(move |_: &Wait<'_>| self.0.lock().entries.discard(key))
    }

    fn wake(&self, list: List) {
        let claimed = self.0.lock().entries.dismiss_all(list);
        drop(claimed);
    }

    /// A share of the value, and its version.
    fn share(&self) -> (Arc<T>, u64) {
        loop {
            let state = self.0.lock();
            if let Some(value) = &state.value {
                return (value.clone(), state.version);
            }
            drop(state);
            self.wait_insistently(RETURN, |state| state.value.is_some());
        }
    }

    /// Takes the value out, with nobody else having a share of it.
    fn take(&self) -> T {
        loop {
            let mut state = self.0.lock();
            let list = match state.value.take().map(Arc::try_unwrap) {
                Some(Ok(value)) => return value,
                Some(Err(shared)) => {
                    state.value = Some(shared);
                    SHARES
                }
                None => RETURN,
            };
            drop(state);
            let is_back = |value: &Option<Arc<T>>| value.is_some();
            let is_alone = |value: &Option<Arc<T>>| {
                value
                    .as_ref()
                    .is_none_or(|value| Arc::strong_count(value) == 1)
            };
            self.wait_insistently(list, |state| {
                if list == SHARES {
                    is_alone(&state.value)
                } else {
                    is_back(&state.value)
                }
            });
        }
    }

    /// Puts a value where none is, and says whether it is another one.
    fn put(&self, value: T, changed: bool) {
        let mut value = Arc::new(value);
        let mut state = self.0.lock();
        let sent = state.sent.take();
        let changed = changed || sent.is_some();
        let overtaken = sent.map(|sent| std::mem::replace(&mut value, sent));
        state.value = Some(value);
        let mut claimed = state.entries.dismiss_all(RETURN);
        if changed {
            state.version += 1;
            claimed.extend(state.entries.dismiss_all(CHANGE));
        }
        drop(state);
        drop(claimed);
        drop(overtaken);
    }
}

/// Makes a channel that holds `init`. That counts as seen.
pub fn channel<T>(init: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(init);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// Sends values to a channel that holds the latest. Clones send to the same; the channel is closed
/// when the last is dropped.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Makes a channel without receivers; see [`channel`].
    pub fn new(init: T) -> Sender<T> {
        let value = Some(Arc::new(init));
        let state = State {
            value,
            sent: None,
            version: 0,
            senders: 1,
            receivers: 0,
            entries: Entries::new(),
        };
        Sender {
            shared: Arc::new(Shared(Lock::new(state))),
        }
    }

    /// Sends a value, in place of the one that is there, and tells the receivers. Never waits: while
    /// another sender is in [`send_modify`](Sender::send_modify), the value follows that change.
    ///
    /// # Errors
    /// There are no receivers. The value comes back, and the channel holds the one it held;
    /// [`send_replace`](Sender::send_replace) does not mind.
    ///
    /// ```
    /// use hebra::channel::watch;
    ///
    /// let (sender, mut receiver) = watch::channel(1);
    /// sender.send(2).unwrap();
    /// assert!(receiver.has_changed().unwrap());
    /// assert_eq!(*receiver.borrow_and_update(), 2);
    /// drop(receiver);
    /// assert!(sender.send(3).is_err());
    /// ```
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.receiver_count() == 0 {
            return Err(SendError(value));
        }
        self.exchange(value);
        Ok(())
    }

    /// Sends a value, whether there are receivers or not, and returns the one that was there. Waits
    /// for those who have it borrowed.
    ///
    /// # Cancellation
    /// Parks the current thread if the value is borrowed; this is a cancel point, and then nothing
    /// has changed.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|old| std::mem::swap(old, &mut value));
        value
    }

    /// Changes the value where it lies, and tells the receivers. Waits for those who have it
    /// borrowed, for ever if the caller is one of them; who wants to borrow waits meanwhile.
    ///
    /// # Cancellation
    /// As [`send_replace`](Sender::send_replace).
    ///
    /// # Panics
    /// Continues a panic of `modify`. The receivers are not told then.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Lets `modify` change the value where it lies, and tells the receivers if it returns `true`;
    /// returns what that returns. Waits as [`send_modify`](Sender::send_modify) does.
    ///
    /// # Cancellation
    /// As [`send_replace`](Sender::send_replace).
    ///
    /// # Panics
    /// Continues a panic of `modify`. The receivers are not told then.
    ///
    /// ```
    /// use hebra::channel::watch;
    ///
    /// let (sender, receiver) = watch::channel(1);
    /// assert!(!sender.send_if_modified(|value| *value > 1));
    /// assert!(!receiver.has_changed().unwrap());
    /// ```
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let mut value = self.shared.take();
        let result = panic::catch_unwind(AssertUnwindSafe(|| modify(&mut value)));
        let modified = matches!(result, Ok(true));
        self.shared.put(value, modified);
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Puts another value in the place of the one that is there, which lives on as long as somebody
    /// has borrowed it.
    fn exchange(&self, value: T) {
        let value = Arc::new(value);
        let mut state = self.shared.0.lock();
        let old = if state.value.is_some() {
            let old = state.value.replace(value);
            state.version += 1;
            let mut claimed = state.entries.dismiss_all(CHANGE);
            // Nobody has a share of the new one.
            claimed.extend(state.entries.dismiss_all(SHARES));
            drop(state);
            drop(claimed);
            old
        } else {
            // A send never waits (law 5): `put` lets it follow the value that is out.
            let old = state.sent.replace(value);
            drop(state);
            old
        };
        // User code, perhaps: not under the lock.
        drop(old);
    }

    /// Borrows the value.
    ///
    /// # Cancellation
    /// Parks the current thread while a sender is in [`send_modify`](Sender::send_modify); that is a
    /// cancel point. Otherwise it does not wait, and is none.
    pub fn borrow(&self) -> Ref<'_, T> {
        let (value, _) = self.shared.share();
        Ref {
            value: Some(value),
            shared: &self.shared,
            changed: false,
        }
    }

    /// Makes a receiver that counts the present value as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.shared.0.lock();
        state.receivers += 1;
        Receiver {
            shared: self.shared.clone(),
            seen: state.version,
        }
    }

    /// Returns how many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.0.lock().receivers
    }

    /// Returns whether there are no receivers.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Waits until there are no receivers.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn closed(&self) {
        park::charge_or_yield();
        while !self.is_closed() {
            if self.shared.wait(END, None, |state| state.receivers == 0) == Wake::Cancelled {
                return;
            }
        }
    }

    /// Returns whether both send to the same channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.0.lock().senders += 1;
        Sender {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.senders -= 1;
        let claimed = if state.senders == 0 {
            state.entries.dismiss_all(CHANGE)
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

/// Sees the latest value of a channel. Clones have seen what this has seen.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that counts as seen.
    seen: u64,
}

impl<T> Receiver<T> {
    /// Borrows the value. It does not count as seen.
    ///
    /// # Cancellation
    /// As [`Sender::borrow`].
    pub fn borrow(&self) -> Ref<'_, T> {
        let (value, version) = self.shared.share();
        Ref {
            value: Some(value),
            shared: &self.shared,
            changed: version != self.seen,
        }
    }

    /// Borrows the value, which counts as seen from now on.
    ///
    /// # Cancellation
    /// As [`Sender::borrow`].
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let (value, version) = self.shared.share();
        let changed = version != std::mem::replace(&mut self.seen, version);
        Ref {
            value: Some(value),
            shared: &self.shared,
            changed,
        }
    }

    /// Returns whether there is a value that has not been seen.
    ///
    /// # Errors
    /// The senders are gone.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        let state = self.shared.0.lock();
        if state.senders == 0 {
            Err(RecvError)
        } else {
            Ok(state.version != self.seen)
        }
    }

    /// Counts the value as not seen.
    pub fn mark_changed(&mut self) {
        self.seen = self.shared.0.lock().version.wrapping_sub(1);
    }

    /// Counts the value as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.0.lock().version;
    }

    /// Waits until there is a value that has not been seen, and counts it as seen.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. In a destructor of a thread that is being
    /// cancelled it fails instead of waiting.
    ///
    /// # Errors
    /// The senders are gone, and the last value has been seen.
    pub fn changed(&mut self) -> Result<(), RecvError> {
        self.changed_until(|| None).map_err(|_| RecvError)
    }

    /// As [`changed`](Receiver::changed), but for `timeout` at most.
    ///
    /// # Cancellation
    /// As [`changed`](Receiver::changed).
    ///
    /// # Errors
    /// Time is up, or the senders are gone, and the last value has been seen.
    pub fn changed_timeout(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.changed_until(|| deadline_after(timeout))
    }

    /// As [`changed`](Receiver::changed), but until `deadline` at most.
    ///
    /// # Cancellation
    /// As [`changed`](Receiver::changed).
    ///
    /// # Errors
    /// The deadline has passed, or the senders are gone, and the last value has been seen.
    pub fn changed_deadline(
        &mut self,
        deadline: impl Into<Instant>,
    ) -> Result<(), RecvTimeoutError> {
        self.changed_until(|| Some(deadline.into()))
    }

    fn changed_until(
        &mut self,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), RecvTimeoutError> {
        park::charge_or_yield();
        let mut until = None;
        let mut deadline = Some(deadline);
        loop {
            let state = self.shared.0.lock();
            let (version, senders) = (state.version, state.senders);
            drop(state);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            if let Some(deadline) = deadline.take() {
                until = deadline();
            }
            match self.shared.wait(CHANGE, until, |state| {
                state.version != self.seen || state.senders == 0
            }) {
                Wake::TimedOut if until.is_some_and(|until| until <= park::now()) => {
                    return Err(RecvTimeoutError::Timeout);
                }
                Wake::Cancelled => return Err(RecvTimeoutError::Disconnected),
                Wake::TimedOut | Wake::Woken => {}
            }
        }
    }

    /// Waits until the value is as `is_it` wants it, and borrows it; it counts as seen. `is_it`
    /// sees the present value first.
    ///
    /// # Cancellation
    /// As [`changed`](Receiver::changed).
    ///
    /// # Errors
    /// The senders are gone, and the last value is not it.
    ///
    /// ```
    /// use hebra::{channel::watch, thread};
    ///
    /// hebra::run(|| {
    ///     let (sender, mut receiver) = watch::channel(0);
    ///     let counter = thread::spawn(move || (1..=5).for_each(|n| drop(sender.send(n))));
    ///     assert!(*receiver.wait_for(|n| *n >= 3).unwrap() >= 3);
    ///     counter.join().unwrap();
    /// });
    /// ```
    pub fn wait_for(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        let shared = self.shared.clone();
        loop {
            let (value, version) = shared.share();
            let changed = version != std::mem::replace(&mut self.seen, version);
            let mut value = Ref {
                value: Some(value),
                shared: &shared,
                changed,
            };
            if is_it(&value) {
                let value = value.value.take();
                return Ok(Ref {
                    value,
                    shared: &self.shared,
                    changed,
                });
            }
            drop(value);
            self.changed()?;
        }
    }

    /// Returns whether both receive from the same channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.0.lock().receivers += 1;
        Receiver {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.receivers -= 1;
        let claimed = if state.receivers == 0 {
            state.entries.dismiss_all(END)
        } else {
            Vec::new()
        };
        drop(state);
        drop(claimed);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}

/// A value of a channel, borrowed: a share of it, and no lock.
pub struct Ref<'a, T> {
    /// Taken in `drop` only.
    value: Option<Arc<T>>,
    shared: &'a Arc<Shared<T>>,
    changed: bool,
}

impl<T> Ref<'_, T> {
    /// Returns whether the receiver that has borrowed the value had not seen it before.
    pub fn has_changed(&self) -> bool {
        self.changed
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("only drop takes it")
    }
}

impl<T> Drop for Ref<'_, T> {
    fn drop(&mut self) {
        // First, so that who is woken finds itself alone.
        self.value = None;
        self.shared.wake(SHARES);
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
