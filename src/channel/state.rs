//! [`State`]: what stands under a channel's lock, and all that can be done with it at once. Nothing here waits.
//!
//! # Reservations
//!
//! An operation that has to wait, or that a select has chosen, comes in two halves. The first decides, and reserves: a message for the
//! receiver, a place for the sender. The second, on the thread itself when it runs, moves the message. In between nobody else can
//! have what is reserved, and nobody is kept waiting for the other half but, on a channel of no capacity, the one receiver that is to
//! get the message.
//!
//! ```text
//!   buffer:   m m m m m m m          granted: so many of them belong to receivers that have yet to fetch one
//!             |---- free ---|- g -|  owed:    so many places belong to selected senders that have yet to fill one
//! ```
//!
//! A sender that finds a receiver waiting puts its message into the buffer and grants the receiver one: which of the messages a
//! receiver fetches does not matter. A sender that has to wait leaves its message in its entry, and who makes room moves it to the
//! buffer, so that nothing is left to do for the sender.
//!
//! # Invariants
//!
//! 1. `granted` is at most the length of the buffer.
//! 2. No receiver waits while a message is free, and none while the senders are gone.
//! 3. No sender waits while there is a place, and none while the receivers are gone.
//! 4. On a channel of no capacity no sender and receiver wait for each other, unless both are one and the same select's.
//! 5. Nobody watches for what is there.
//!
//! Entries whose wait has ended otherwise, and whose threads have not come for them yet, do not count as waiting.

use std::collections::VecDeque;

use crossbeam_channel::TrySendError;

use super::entries::{Entries, Fate, Key, List};
use crate::scheduler::waiter::{Claimed, Wait};

/// A buffer that has become empty gives back the memory for more messages than this.
const MANY: usize = 1 << 10;

/// See the module.
pub(super) struct State<T> {
    buffer: VecDeque<T>,
    granted: usize,
    owed: usize,
    /// `usize::MAX` for a channel without bounds.
    capacity: usize,
    senders_gone: bool,
    receivers_gone: bool,
    pub(super) entries: Entries<T>,
}

/// What there is for a receiver.
pub(super) enum Received<T> {
    /// A message, and who can go on for that.
    Message(T, Option<Claimed>),
    /// A sender that has to make its message first, and our entry, which it will fill.
    Expected(Key, Claimed),
    Nothing,
    Disconnected,
}

/// What there is for a select.
pub(super) enum Reserved {
    /// What is left to do is done in no time.
    Done(Option<Claimed>),
    /// As in [`Received`].
    Expected(Key, Claimed),
    Nothing,
    Disconnected,
}

impl<T> State<T> {
    pub(super) const fn new(capacity: usize) -> State<T> {
        State {
            buffer: VecDeque::new(),
            granted: 0,
            owed: 0,
            capacity,
            senders_gone: false,
            receivers_gone: false,
            entries: Entries::new(),
        }
    }

    /// How many messages are in the channel, as its users see it: what is granted is out, what is owed is in.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.buffer.len() + self.owed - self.granted
    }

    #[inline(always)]
    fn has_message(&self) -> bool {
        self.buffer.len() > self.granted
    }

    #[inline(always)]
    fn has_place(&self) -> bool {
        self.len() < self.capacity
    }

    /// Whether a send would not wait. Entries of `wait` do not count: no thread is its own receiver.
    #[inline]
    pub(super) fn is_sendable(&self, wait: Option<&Wait<'_>>) -> bool {
        self.has_place() || self.receivers_gone || self.capacity == 0 && self.entries.any_other(List::Receivers, wait)
    }

    /// Whether a receive would not wait. Entries of `wait` do not count.
    #[inline]
    pub(super) fn is_receivable(&self, wait: Option<&Wait<'_>>) -> bool {
        self.has_message() || self.senders_gone || self.capacity == 0 && self.entries.any_other(List::Senders, wait)
    }

    /// Whether a send and a receive are worth a try; see [`Queue`](super::queue::Queue).
    #[inline(always)]
    pub(super) fn prospects(&self) -> (bool, bool) {
        let sendable = self.has_place() || self.receivers_gone || self.entries.any(List::Receivers.bit());
        let receivable = self.has_message() || self.senders_gone || self.entries.any(List::Senders.bit());
        (sendable, receivable)
    }

    // Sending

    /// Sends if there is a place for the message, and nobody waits for it.
    ///
    /// # Errors
    /// The message, for [`send`](State::send).
    #[inline(always)]
    pub(super) fn send_at_once(&mut self, message: T) -> Result<(), T> {
        let nobody_waits = !self.entries.any(List::Receivers.bit() | List::RecvWatchers.bit());
        if nobody_waits && self.has_place() && !self.receivers_gone {
            self.buffer.push_back(message);
            return Ok(());
        }
        Err(message)
    }

    /// Sends if there is a place for the message, or a receiver.
    #[inline]
    pub(super) fn send(&mut self, message: T) -> Result<Option<Claimed>, TrySendError<T>> {
        if self.receivers_gone {
            return Err(TrySendError::Disconnected(message));
        }
        let claimed = self.claim_receiver();
        if claimed.is_none() {
            if !self.has_place() {
                return Err(TrySendError::Full(message));
            }
            self.wake_watchers(List::RecvWatchers);
        }
        self.buffer.push_back(message);
        Ok(claimed)
    }

    /// Puts a message into the buffer for which there is a place, and returns the receiver that has waited for it.
    fn put(&mut self, message: T) -> Option<Claimed> {
        let claimed = self.claim_receiver();
        if claimed.is_none() {
            self.wake_watchers(List::RecvWatchers);
        }
        self.buffer.push_back(message);
        claimed
    }

    /// Grants the message that is about to be in the buffer, or is free in it, to a waiting receiver, if there is one.
    #[inline]
    fn claim_receiver(&mut self) -> Option<Claimed> {
        let claimed = self.entries.take_first(List::Receivers, &mut None);
        self.granted += usize::from(claimed.is_some());
        claimed
    }

    /// Leaves a message to be sent when there is a place for it, or a receiver. `None`, for a select, is made when it is selected.
    #[inline]
    pub(super) fn enlist_sender(&mut self, wait: &Wait<'_>, message: Option<T>) -> Key {
        debug_assert!(!self.is_sendable(Some(wait)), "who can send does not wait");
        if self.capacity == 0 {
            self.wake_watchers(List::RecvWatchers);
        }
        self.entries.enlist(List::Senders, wait, message)
    }

    /// Reserves a place, or a receiver, if there is one.
    pub(super) fn reserve_send(&mut self) -> Reserved {
        if self.receivers_gone {
            return Reserved::Disconnected;
        }
        if self.has_place() {
            self.owed += 1;
            return Reserved::Done(None);
        }
        if self.capacity == 0 && self.entries.engage_receiver() { Reserved::Done(None) } else { Reserved::Nothing }
    }

    /// Sends to what [`reserve_send`](State::reserve_send), or whoever has chosen a sender's entry, has reserved. Gives the message back
    /// if the receivers have gone meanwhile.
    pub(super) fn send_reserved(&mut self, message: T) -> Result<Option<Claimed>, T> {
        if self.capacity > 0 {
            self.owed -= 1;
            return if self.receivers_gone { Err(message) } else { Ok(self.put(message)) };
        }
        let claimed = self.entries.pop_expecting(Fate::Gone);
        self.buffer.push_back(message);
        self.granted += 1;
        Ok(claimed)
    }

    /// Gives up what was reserved for a sender.
    pub(super) fn release_send(&mut self) -> Option<Claimed> {
        if self.capacity > 0 {
            self.owed -= 1;
            return self.fill_places();
        }
        // It looks for another sender.
        self.entries.pop_expecting(Fate::Over)
    }

    // Receiving

    /// Receives a message if there is one, and nobody waits for its place.
    #[inline(always)]
    pub(super) fn receive_at_once(&mut self) -> Option<T> {
        let nobody_waits = !self.entries.any(List::Senders.bit() | List::SendWatchers.bit());
        if nobody_waits && self.has_message() { self.pop() } else { None }
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<T> {
        let message = self.buffer.pop_front();
        if self.buffer.is_empty() && self.capacity == usize::MAX && self.buffer.capacity() > MANY {
            self.buffer = VecDeque::new();
        }
        message
    }

    /// Receives a message if there is one, or a sender.
    #[inline]
    pub(super) fn receive(&mut self) -> Received<T> {
        if self.has_message()
            && let Some(message) = self.pop()
        {
            return Received::Message(message, self.fill_places());
        }
        self.receive_from_waiting()
    }

    /// Lets waiting senders have the places that have become free: one, but for what was given up.
    fn fill_places(&mut self) -> Option<Claimed> {
        let mut first = None;
        while self.has_place() {
            let mut message = None;
            let Some(claimed) = self.entries.take_first(List::Senders, &mut message) else {
                self.wake_watchers(List::SendWatchers);
                break;
            };
            match message {
                Some(message) => drop(self.put(message)),
                None => self.owed += 1,
            }
            first.get_or_insert(claimed);
        }
        first
    }

    fn receive_from_waiting(&mut self) -> Received<T> {
        let mut message = None;
        if self.capacity == 0
            && let Some(claimed) = self.entries.take_first(List::Senders, &mut message)
        {
            return match message {
                Some(message) => Received::Message(message, Some(claimed)),
                None => Received::Expected(self.entries.enlist_nobody(List::Expecting), claimed),
            };
        }
        if self.senders_gone { Received::Disconnected } else { Received::Nothing }
    }

    /// Waits for a message.
    #[inline]
    pub(super) fn enlist_receiver(&mut self, wait: &Wait<'_>) -> Key {
        debug_assert!(!self.is_receivable(Some(wait)), "who can receive does not wait");
        if self.capacity == 0 {
            self.wake_watchers(List::SendWatchers);
        }
        self.entries.enlist(List::Receivers, wait, None)
    }

    /// Fetches the message that was granted to an entry; `None` if it was not.
    #[inline]
    pub(super) fn fetch(&mut self, key: Key) -> Option<T> {
        match self.entries.remove(key).0 {
            Fate::Gone => Some(self.receive_reserved()),
            Fate::Waiting | Fate::Over => None,
        }
    }

    /// Reserves a message if there is one, or a sender that will make one.
    pub(super) fn reserve_receive(&mut self) -> Reserved {
        if self.has_message() {
            self.granted += 1;
            return Reserved::Done(self.fill_places());
        }
        match self.receive_from_waiting() {
            Received::Message(message, claimed) => {
                self.buffer.push_back(message);
                self.granted += 1;
                Reserved::Done(claimed)
            }
            Received::Expected(key, claimed) => Reserved::Expected(key, claimed),
            Received::Nothing => Reserved::Nothing,
            Received::Disconnected => Reserved::Disconnected,
        }
    }

    /// Fetches a message that is reserved.
    #[inline]
    pub(super) fn receive_reserved(&mut self) -> T {
        debug_assert!(self.granted > 0, "a message is reserved");
        self.granted -= 1;
        self.pop().expect("a message that was granted is in the buffer")
    }

    /// Gives up a message that is reserved.
    pub(super) fn release_receive(&mut self) -> Option<Claimed> {
        self.granted -= 1;
        let claimed = self.claim_receiver();
        if claimed.is_none() {
            self.wake_watchers(List::RecvWatchers);
        }
        claimed
    }

    // Watching

    pub(super) fn enlist_watcher(&mut self, list: List, wait: &Wait<'_>) -> Key {
        self.entries.enlist(list, wait, None)
    }

    #[inline]
    fn wake_watchers(&mut self, list: List) {
        if self.entries.any(list.bit()) {
            let mut claimed = Vec::new();
            self.entries.claim_all(list, &mut claimed);
        }
    }

    // The end

    /// The last sender has gone. Returns who is to look again.
    pub(super) fn close_senders(&mut self) -> Vec<Claimed> {
        self.senders_gone = true;
        let mut claimed = Vec::new();
        self.entries.claim_all(List::Receivers, &mut claimed);
        self.entries.claim_all(List::RecvWatchers, &mut claimed);
        claimed
    }

    /// The last receiver has gone. Returns who is to look again, and what nobody will receive.
    pub(super) fn close_receivers(&mut self) -> (Vec<Claimed>, VecDeque<T>) {
        self.receivers_gone = true;
        // Who has a message to fetch has a receiver, but a selected operation may have been forgotten.
        self.granted = 0;
        let mut claimed = Vec::new();
        self.entries.claim_all(List::Senders, &mut claimed);
        self.entries.claim_all(List::SendWatchers, &mut claimed);
        (claimed, std::mem::take(&mut self.buffer))
    }

    /// Checks the invariants, in debug builds.
    #[inline(always)]
    pub(super) fn check(&self) {
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
    }

    #[cold]
    fn assert_invariants(&self) {
        let waits = |list: List| self.entries.any(list.bit());
        assert!(self.granted <= self.buffer.len(), "granted is at most the length of the buffer");
        assert!(!waits(List::Receivers) || !self.has_message(), "no receiver waits while a message is free");
        assert!(!waits(List::Receivers) || !self.senders_gone, "no receiver waits while the senders are gone");
        assert!(!waits(List::Senders) || !self.has_place(), "no sender waits while there is a place");
        assert!(!waits(List::Senders) || !self.receivers_gone, "no sender waits while the receivers are gone");
        assert!(!waits(List::RecvWatchers) || !self.has_message() && !self.senders_gone, "nobody watches for what is there");
        assert!(!waits(List::SendWatchers) || !self.has_place() && !self.receivers_gone, "nobody watches for what is there");
        assert!(self.capacity == 0 || !waits(List::Expecting), "only without a buffer does a receiver wait for one sender");
    }
}
