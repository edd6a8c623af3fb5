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
use std::time::Instant;

use crossbeam_channel::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};

use super::entries::{Fate, Key};
use super::state::{Received, State};
use crate::lock::biased::{BiasedGuard, BiasedLock};
use crate::park::{self, Mode, Wait};
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

    #[inline(always)]
    pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        park::charge();
        self.send_now(message)
    }

    #[inline(always)]
    fn send_now(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.lock();
        match state.send_at_once(message) {
            Ok(()) => Ok(()),
            Err(message) => send_locked(state, message),
        }
    }

    /// Sends, and waits for that. `deadline` is asked for if there is need to wait.
    #[inline(always)]
    pub(super) fn send(
        &self,
        mut message: T,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        park::charge_or_yield_beyond(self.allowance);
        // The hint may be old; where there is always room nobody waits because of it.
        if self.may_send() || self.capacity.is_none() {
            match self.send_now(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => message = back,
                Err(TrySendError::Disconnected(back)) => {
                    return Err(SendTimeoutError::Disconnected(back));
                }
            }
        }
        let deadline = deadline();
        loop {
            let mut left = Some(message);
            let mut key = None;
            let wake = park::park(Reason::Send, deadline, Mode::CancelPoint, |wait| {
                let mut state = self.lock();
                if state.is_sendable(Some(wait)) {
                    return None;
                }
                let mine = state.enlist_sender(wait, left.take());
                key = Some(mine);
                let left = &mut left;
                Some(move |_: &Wait<'_>| *left = self.lock().entries.remove(mine))
            });
            if wake == Wake::Woken
                && let Some(key) = key
            {
                return match self.take_back(key) {
                    Some(back) => Err(SendTimeoutError::Disconnected(back)),
                    None => Ok(()),
                };
            }
            message = left.expect("who has not been woken for good has taken the message back");
            match wake {
                Wake::TimedOut if has_passed(deadline) => {
                    return Err(SendTimeoutError::Timeout(message));
                }
                Wake::Cancelled => return Err(SendTimeoutError::Disconnected(message)),
                Wake::TimedOut | Wake::Woken => {}
            }
            match self.send_again(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => message = back,
                Err(TrySendError::Disconnected(back)) => {
                    return Err(SendTimeoutError::Disconnected(back));
                }
            }
        }
    }

    #[inline(never)]
    fn send_again(&self, message: T) -> Result<(), TrySendError<T>> {
        park::charge_or_yield();
        self.send_now(message)
    }

    /// The message of a sender that has been woken, if that was because the receivers have gone.
    #[inline(always)]
    fn take_back(&self, key: Key) -> Option<T> {
        if !self.receivers_gone.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().entries.remove(key)
    }

    // Receiving

    #[inline(always)]
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        park::charge();
        self.receive_now()
    }

    #[inline(always)]
    fn receive_now(&self) -> Result<T, TryRecvError> {
        let mut state = self.lock();
        match state.receive_at_once() {
            Some(message) => Ok(message),
            None => self.receive_locked(state),
        }
    }

    /// Receives, and waits for that. `deadline` is asked for if there is need to wait.
    #[inline(always)]
    pub(super) fn recv(
        &self,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<T, RecvTimeoutError> {
        park::charge_or_yield();
        if self.may_receive() {
            match self.receive_now() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            }
        }
        let deadline = deadline();
        loop {
            let mut key = None;
            let wake = park::park(Reason::Receive, deadline, Mode::CancelPoint, |wait| {
                let mut state = self.lock();
                if state.is_receivable(Some(wait)) {
                    return None;
                }
                let mine = state.enlist_receiver(wait);
                key = Some(mine);
                Some(move |_: &Wait<'_>| drop(self.lock().entries.remove(mine)))
            });
            match wake {
                Wake::Woken => {}
                Wake::TimedOut if has_passed(deadline) => return Err(RecvTimeoutError::Timeout),
                Wake::TimedOut => continue,
                Wake::Cancelled => return Err(RecvTimeoutError::Disconnected),
            }
            if let Some(key) = key
                && let Some(message) = self.fetch(key)
            {
                return Ok(message);
            }
            match self.recv_again() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            }
        }
    }

    /// The message that a receiver has been given whose wait has been ended, if it has.
    #[inline(always)]
    fn fetch(&self, key: Key) -> Option<T> {
        let mut state = self.lock();
        if self.capacity == Some(0) && state.entries.look(key) == Fate::Promised {
            drop(state);
            self.await_message(key);
            state = self.lock();
        }
        state.entries.remove(key)
    }

    #[inline(never)]
    fn recv_again(&self) -> Result<T, TryRecvError> {
        park::charge_or_yield();
        self.receive_now()
    }

    /// Receives a message if there is one, or a sender, whose message it waits for.
    #[inline(never)]
    fn receive_locked<'a>(&'a self, mut state: Locked<'a, T>) -> Result<T, TryRecvError> {
        loop {
            match state.receive() {
                Received::Message(message, claimed) => {
                    drop(state);
                    drop(claimed);
                    return Ok(message);
                }
                Received::Expected(key, claimed) => {
                    drop(state);
                    drop(claimed);
                    self.await_message(key);
                    state = self.lock();
                    if let Some(message) = state.entries.remove(key) {
                        return Ok(message);
                    }
                }
                Received::Nothing => return Err(TryRecvError::Empty),
                Received::Disconnected => return Err(TryRecvError::Disconnected),
            }
        }
    }

    /// Waits until a sender that was selected has made its message, which is in the entry then.
    /// `false` if it does not make it.
    ///
    /// That is a matter of one expression's time, and cannot be given up: the other side has been
    /// told that there is a receiver.
    #[cold]
    pub(super) fn await_message(&self, key: Key) -> bool {
        loop {
            park::park(Reason::Receive, None, Mode::Shielded, |wait| {
                let waits = self.lock().entries.await_with(key, wait);
                waits.then_some(|_: &Wait<'_>| self.lock().entries.await_no_more(key))
            });
            match self.lock().entries.look(key) {
                Fate::Promised => {}
                fate => return fate == Fate::Chosen,
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

/// Sends if there is a place for the message, or a receiver.
#[inline(never)]
fn send_locked<T>(mut state: Locked<'_, T>, message: T) -> Result<(), TrySendError<T>> {
    let sent = state.send(message);
    drop(state);
    sent.map(drop)
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
