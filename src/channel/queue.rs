//! [`Queue`]: a channel that messages are sent through, and how its senders and receivers wait.
//!
//! Every operation tries first: one critical section. If there is nothing to be had it parks, and
//! looks once more while it enlists. *Prospects* say whether the try is worth its lock: they are
//! written under the lock and read without, so they may be old, and an operation that they have
//! sent to wait finds out when it enlists.
//!
//! Whoever ends the wait of another has done everything for it already, as far as that is possible
//! without running it: a sender that wakes has sent, and looks at the lock again only if the
//! receivers have gone; a receiver that wakes owns a message in the buffer.
//!
//! A wait that has timed out or was cancelled has done nothing: nobody else had won its claim, so
//! its entry is as it was, and the message that a sender had left there is taken back. A cancelled
//! thread that unwinds already is not stopped a second time: what can be had at once is had, all
//! else fails as if the other side had gone. (As if its time were up would keep a loop around it
//! running.)

use crate::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, TryRecvError};

use super::entries::{Fate, Key};
use super::state::{Received, Sent, State};
use crate::lock::biased::{BiasedGuard, BiasedLock};
use crate::park::{self, Mode, Wait, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;

const SENDABLE: u8 = 1;
const RECEIVABLE: u8 = 2;

/// How many operations in a row a thread may make, at least, before a `send` to a bounded channel
/// that has room lets the others run. More than its capacity, up to [`MOST_ROOM`], it does not send
/// before it has to wait, unless another worker receives meanwhile. A send that cannot wait (to an
/// unbounded channel) never does.
const ROOMY: i64 = 2048;
const MOST_ROOM: usize = 1 << 16;

/// For how long a receiver that was promised a message waits for it after it was cancelled or its
/// time was up: far longer than a sender takes that makes its message, unless it waits meanwhile.
const GRACE: Duration = Duration::from_millis(10);

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    Full,
    Disconnected,
}

/// What a selected sender has done about its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// It has made it.
    Kept,
    /// It has dropped the operation.
    Broken,
    /// Nothing yet, and the receiver does not wait any longer.
    GivenUp,
}

/// See the module.
pub(super) struct Queue<T> {
    state: BiasedLock<State<T>>,
    /// [`SENDABLE`] and [`RECEIVABLE`], as they were when the lock was last released.
    prospects: AtomicU8,
    /// Set before anybody is woken for it.
    receivers_gone: AtomicBool,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    capacity: Option<usize>,
    /// The debt beyond which a send that has room lets the others run; see [`ROOMY`].
    allowance: i64,
}

impl<T> Queue<T> {
    /// A channel with one sender and one receiver.
    pub(super) fn new(capacity: Option<usize>) -> Queue<T> {
        let state = State::new(capacity.unwrap_or(usize::MAX));
        let prospects = AtomicU8::new(prospects(&state));
        Queue {
            state: BiasedLock::new(state),
            prospects,
            receivers_gone: AtomicBool::new(false),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            capacity,
            allowance: match capacity {
                None => i64::MAX,
                Some(capacity) => {
                    i64::try_from(capacity.min(MOST_ROOM)).map_or(0, |n| n.max(ROOMY))
                }
            },
        }
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        if self.capacity == Some(0) {
            0
        } else {
            self.state.lock().len()
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.len() >= capacity)
    }

    #[inline(always)]
    pub(super) fn lock(&self) -> Locked<'_, T> {
        Locked {
            state: self.state.lock(),
            prospects: &self.prospects,
        }
    }

    /// Whether a try to send is worth its lock.
    #[inline(always)]
    pub(super) fn may_send(&self) -> bool {
        self.prospects.load(Ordering::Relaxed) & SENDABLE != 0
    }

    /// Whether a try to receive is worth its lock.
    #[inline(always)]
    pub(super) fn may_receive(&self) -> bool {
        self.prospects.load(Ordering::Relaxed) & RECEIVABLE != 0
    }

    // Sending

    /// The channel, locked, if a message can be [pushed](State::push) at once.
    #[inline(always)]
    pub(super) fn quiet_place(&self) -> Option<Locked<'_, T>> {
        let state = self.lock();
        state.has_quiet_place().then_some(state)
    }

    /// As [`quiet_place`](Queue::quiet_place), for an operation that may have to wait.
    #[inline(always)]
    pub(super) fn quiet_place_or_yield(&self) -> Option<Locked<'_, T>> {
        park::charge_or_yield_beyond(self.allowance);
        // The hint may be old; where there is always room nobody waits because of it.
        if self.may_send() || self.capacity.is_none() {
            self.quiet_place()
        } else {
            None
        }
    }

    /// Sends if there is a place for the message, or a receiver; otherwise it stays.
    #[inline(never)]
    pub(super) fn try_send(&self, message: &mut Option<T>) -> Result<(), Unsent> {
        let sent = self.lock().send(message);
        match sent {
            Sent::Done(claimed) => {
                drop(claimed);
                Ok(())
            }
            Sent::Full => Err(Unsent::Full),
            Sent::Disconnected => Err(Unsent::Disconnected),
        }
    }

    /// Sends, and waits for that, where there is no [`quiet_place`](Queue::quiet_place). The
    /// message stays if it is not sent; [`Unsent::Full`] means that time was up.
    #[inline(always)]
    pub(super) fn send(
        &self,
        message: &mut Option<T>,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), Unsent> {
        if self.may_send() || self.capacity.is_none() {
            match self.try_send(message) {
                Err(Unsent::Full) => {}
                result => return result,
            }
        }
        let deadline = deadline();
        loop {
            let mut key = None;
            let left = &mut *message;
            let wake = park::park(Reason::Send, deadline, Mode::CancelPoint, |wait| {
                let mut state = self.lock();
                if state.is_sendable(Some(wait)) {
                    return None;
                }
                let mine = state.enlist_sender(wait, left);
                key = Some(mine);
                Some(move |_: &Wait<'_>| _ = self.lock().entries.remove(mine, left))
            });
            if wake == Wake::Woken
                && let Some(key) = key
            {
                return match self.take_back(key, message) {
                    true => Err(Unsent::Disconnected),
                    false => Ok(()),
                };
            }
            match wake {
                Wake::TimedOut if has_passed(deadline) => return Err(Unsent::Full),
                Wake::Cancelled => return Err(Unsent::Disconnected),
                Wake::TimedOut | Wake::Woken => {}
            }
            park::charge_or_yield();
            match self.try_send(message) {
                Err(Unsent::Full) => {}
                result => return result,
            }
        }
    }

    /// Takes back the message of a sender that has been woken, if that was because the receivers
    /// have gone.
    #[inline(always)]
    fn take_back(&self, key: Key, message: &mut Option<T>) -> bool {
        self.receivers_gone.load(Ordering::Relaxed) && self.lock().entries.remove(key, message)
    }

    // Receiving

    /// Receives a message if there is one, and nobody waits for its place.
    #[inline(always)]
    pub(super) fn receive_at_once(&self) -> Option<T> {
        self.lock().receive_at_once()
    }

    /// As [`receive_at_once`](Queue::receive_at_once), for an operation that may have to wait.
    #[inline(always)]
    pub(super) fn receive_at_once_or_yield(&self) -> Option<T> {
        park::charge_or_yield();
        if self.may_receive() {
            self.receive_at_once()
        } else {
            None
        }
    }

    /// Receives, and waits for that. `deadline` is asked for if there is need to wait.
    #[inline(always)]
    pub(super) fn recv(
        &self,
        message: &mut Option<T>,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), RecvTimeoutError> {
        let deadline = deadline();
        if self.may_receive() {
            match self.try_recv(message, deadline) {
                Ok(()) => return Ok(()),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            }
        }
        loop {
            let mut key = None;
            let wake = park::park(Reason::Receive, deadline, Mode::CancelPoint, |wait| {
                let mut state = self.lock();
                if state.is_receivable(Some(wait)) {
                    return None;
                }
                let mine = state.enlist_receiver(wait);
                key = Some(mine);
                Some(move |_: &Wait<'_>| self.lock().entries.discard(mine))
            });
            match wake {
                Wake::Woken => {}
                Wake::TimedOut if has_passed(deadline) => return Err(RecvTimeoutError::Timeout),
                Wake::TimedOut => continue,
                Wake::Cancelled => return Err(RecvTimeoutError::Disconnected),
            }
            if let Some(key) = key
                && self.fetch(key, message, deadline)
            {
                return Ok(());
            }
            park::charge_or_yield();
            match self.try_recv(message, deadline) {
                Ok(()) => return Ok(()),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            }
        }
    }

    /// Moves the message that a receiver has been given whose wait has been ended, if it has.
    #[inline(always)]
    fn fetch(&self, key: Key, message: &mut Option<T>, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        if self.capacity == Some(0) && state.entries.look(key) == Fate::Promised {
            drop(state);
            self.await_message(key, deadline);
            state = self.lock();
        }
        state.entries.remove(key, message)
    }

    /// Receives a message if there is one, and never waits. A select that would send one only when
    /// it has been chosen is chosen, and then a later call finds its message.
    #[inline(never)]
    pub(super) fn poll(&self, message: &mut Option<T>) -> Result<(), TryRecvError> {
        let mut state = self.lock();
        let polled = state.poll(message);
        let chosen = match polled {
            Err(TryRecvError::Empty) => state.choose_sender(),
            _ => None,
        };
        drop(state);
        drop(chosen);
        polled.map(drop)
    }

    /// Receives a message if there is one, or a sender, whose message it waits for until
    /// `deadline`.
    #[inline(never)]
    fn try_recv(
        &self,
        message: &mut Option<T>,
        deadline: Option<Instant>,
    ) -> Result<(), TryRecvError> {
        loop {
            let received = self.lock().receive(message);
            match received {
                Received::Message(claimed) => {
                    drop(claimed);
                    return Ok(());
                }
                Received::Expected(key, claimed) => {
                    drop(claimed);
                    let promise = self.await_message(key, deadline);
                    if self.lock().entries.remove(key, message) {
                        return Ok(());
                    }
                    if promise == Promise::GivenUp {
                        return Err(TryRecvError::Empty);
                    }
                }
                Received::Nothing => return Err(TryRecvError::Empty),
                Received::Disconnected => return Err(TryRecvError::Disconnected),
            }
        }
    }

    /// Waits until a sender that was selected has made its message, which is in the entry then;
    /// otherwise the entry is gone.
    ///
    /// That is a matter of one expression's time, unless the operation was forgotten. So a receiver
    /// that is cancelled, or whose time is up, waits for [`GRACE`] and not for ever. A message that
    /// is made after that goes to the next receiver.
    #[cold]
    pub(super) fn await_message(&self, key: Key, deadline: Option<Instant>) -> Promise {
        let (mut until, mut mode) = (deadline, Mode::Observing);
        loop {
            let wake = park::park(Reason::Receive, until, mode, |wait| {
                let waits = self.lock().entries.await_with(key, wait);
                waits.then_some(|_: &Wait<'_>| self.lock().entries.await_no_more(key))
            });
            let mut state = self.lock();
            match state.entries.look(key) {
                Fate::Chosen => return Promise::Kept,
                Fate::Promised => {}
                Fate::Waiting | Fate::Over => {
                    state.entries.discard(key);
                    return Promise::Broken;
                }
            }
            let gives_up = match wake {
                Wake::Woken => false,
                Wake::TimedOut => has_passed(until),
                Wake::Cancelled => true,
            };
            match mode {
                _ if !gives_up => {}
                Mode::Shielded => {
                    state.give_up(key);
                    return Promise::GivenUp;
                }
                _ => (until, mode) = (deadline_after(GRACE), Mode::Shielded),
            }
        }
    }

    // Handles

    pub(super) fn add_sender(&self) {
        add(&self.senders);
    }

    pub(super) fn add_receiver(&self) {
        add(&self.receivers);
    }

    pub(super) fn remove_sender(&self) {
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let claimed = self.lock().close_senders();
            drop(claimed);
        }
    }

    pub(super) fn remove_receiver(&self) {
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut state = self.lock();
            self.receivers_gone.store(true, Ordering::Relaxed);
            let (claimed, unreceived) = state.close_receivers();
            drop(state);
            // First, as the destructors of the messages may take their time, or panic.
            drop(claimed);
            drop_each(unreceived);
        }
    }
}

fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= park::now())
}

/// The state of a channel, locked.
pub(super) struct Locked<'a, T> {
    state: BiasedGuard<'a, State<T>>,
    prospects: &'a AtomicU8,
}

impl<T> Deref for Locked<'_, T> {
    type Target = State<T>;

    #[inline(always)]
    fn deref(&self) -> &State<T> {
        &self.state
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut State<T> {
        &mut self.state
    }
}

impl<T> Drop for Locked<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.state.check();
        self.prospects
            .store(prospects(&self.state), Ordering::Relaxed);
    }
}

fn prospects<T>(state: &State<T>) -> u8 {
    let (sendable, receivable) = state.prospects();
    let bit = |is: bool, bit: u8| if is { bit } else { 0 };
    bit(sendable, SENDABLE) | bit(receivable, RECEIVABLE)
}

/// Drops messages. If destructors panic, the first panic goes on when all have been dropped.
fn drop_each<T>(messages: impl IntoIterator<Item = T>) {
    let mut panicked = None;
    if !mem::needs_drop::<T>() {
        return;
    }
    for message in messages {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(message))) {
            panicked.get_or_insert(payload);
        }
    }
    if let Some(payload) = panicked {
        panic::resume_unwind(payload);
    }
}

fn add(handles: &AtomicUsize) {
    // More than half of all numbers can only come from forgetting handles in a loop.
    if handles.fetch_add(1, Ordering::Relaxed) > usize::MAX / 2 {
        std::process::abort();
    }
}
