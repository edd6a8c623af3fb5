//! [`State`]: what stands under a channel's lock, and all that can be done with it at once. Nothing here waits.
//!
//! # Reservations
//!
//! An operation that has to wait, or that a select has chosen, comes in two halves. The first
//! decides, and reserves: a message for the receiver, a place for the sender. The second, on the
//! thread itself when it runs, moves the message. In between nobody else can have what is reserved,
//! and nobody is kept waiting for the other half but, on a channel of no capacity, the one receiver
//! that is to get the message.
//!
//! - A message that is reserved has left the buffer: it stands in the entry of its receiver. So a
//!   sender that finds a receiver waiting gives its message to that one, and to no other.
//! - A place that is reserved is *owed* a message, and counts as one.
//! - A sender that has to wait leaves its message in its entry. Who makes room moves it to the
//!   buffer, and the sender has sent.
//! - On a channel of no capacity a select that is to send makes its message when it has been
//!   chosen. A receiver that waits chooses it and is *expecting* then. A poll cannot wait: it
//!   chooses a select, and leaves the channel *owed* the message, which the next receiver gets. One
//!   message is owed so at most, beside those that receivers have given up to wait for; and none is
//!   while one is in the buffer. Which of the chosen serves whom is no matter: the first to send
//!   serves who is expecting, and the numbers agree.
//!
//! # Invariants
//!
//! 1. No receiver waits while a message is in the buffer, and none while the senders are gone.
//! 2. No sender waits while there is a place, and none while the receivers are gone.
//! 3. On a channel of no capacity no sender and receiver wait for each other, unless both are one
//!    and the same select's.
//! 4. Nobody watches for what is there.
//!
//! Entries whose wait has ended otherwise, and whose threads have not come for them yet, do not
//! count as waiting.

use std::collections::VecDeque;

use crossbeam_channel::TryRecvError;

use super::entries::{Entries, Key, List};
use crate::scheduler::waiter::{Claimed, Wait};

/// A buffer that has become empty gives back the memory for more messages than this.
const MANY: usize = 1 << 10;

/// See the module.
pub(super) struct State<T> {
    buffer: VecDeque<T>,
    /// Places that belong to selected senders that have yet to fill them; on a channel of no capacity
    /// how many selected senders there are whose messages no receiver is expecting.
    owed: usize,
    /// `usize::MAX` for a channel without bounds.
    capacity: usize,
    senders_gone: bool,
    receivers_gone: bool,
    pub(super) entries: Entries<T>,
}

/// How a send has ended that does not wait. The message stays with the caller unless it was sent.
pub(super) enum Sent {
    /// It was sent, and who can go on for that.
    Done(Option<Claimed>),
    Full,
    Disconnected,
}

/// What there is for a receiver.
pub(super) enum Received {
    /// A message, which has been moved to the caller, and who can go on for that.
    Message(Option<Claimed>),
    /// A sender that has to make its message first, and our entry, which it will fill.
    Expected(Key, Claimed),
    Nothing,
    Disconnected,
}

/// What there is for a select to receive.
pub(super) enum Held {
    /// A message, kept in this entry, and who can go on for that.
    Message(Key, Option<Claimed>),
    /// As in [`Received`].
    Expected(Key, Claimed),
    Nothing,
    Disconnected,
}

/// What there is for a select that wants to send.
pub(super) enum Place {
    /// A place, or a receiver, which runs and waits for its message then.
    Reserved(Option<Claimed>),
    Nothing,
    Disconnected,
}

impl<T> State<T> {
    pub(super) const fn new(capacity: usize) -> State<T> {
        State {
            buffer: VecDeque::new(),
            owed: 0,
            capacity,
            senders_gone: false,
            receivers_gone: false,
            entries: Entries::new(),
        }
    }

    /// How many messages are in the channel, as its users see it.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.buffer.len() + self.owed
    }

    #[inline(always)]
    fn has_message(&self) -> bool {
        !self.buffer.is_empty()
    }

    #[inline(always)]
    fn has_place(&self) -> bool {
        self.len() < self.capacity
    }

    /// Whether a send would not wait. Entries of `wait` do not count: no thread is its own
    /// receiver.
    #[inline]
    pub(super) fn is_sendable(&self, wait: Option<&Wait<'_>>) -> bool {
        self.has_place()
            || self.receivers_gone
            || self.capacity == 0 && self.entries.any_other(List::Receivers, wait)
    }

    /// Whether a receive would not wait. Entries of `wait` do not count.
    #[inline]
    pub(super) fn is_receivable(&self, wait: Option<&Wait<'_>>) -> bool {
        self.has_message()
            || self.senders_gone
            || self.capacity == 0 && self.entries.any_other(List::Senders, wait)
    }

    /// Whether a [`poll`](State::poll) would find a message, or the end.
    pub(super) fn is_pollable(&self) -> bool {
        self.has_message() || self.senders_gone || self.capacity == 0 && self.entries.any_offer()
    }

    /// Whether a receive or a poll would get on: as [`is_receivable`](State::is_receivable), but
    /// not because of a select that a poll would not choose. A loop that polls whenever it is told
    /// of something would spin until the chosen one has made its message.
    pub(super) fn is_worth_a_look(&self) -> bool {
        self.is_pollable() || self.may_choose() && self.entries.any(List::Senders.bit())
    }

    /// Whether a poll may choose a select to send.
    fn may_choose(&self) -> bool {
        self.capacity == 0 && self.owed == 0 && !self.has_message()
    }

    /// Whether a send and a receive are worth a try; see [`Queue`](super::queue::Queue).
    #[inline(always)]
    pub(super) fn prospects(&self) -> (bool, bool) {
        let sendable =
            self.has_place() || self.receivers_gone || self.entries.any(List::Receivers.bit());
        let receivable =
            self.has_message() || self.senders_gone || self.entries.any(List::Senders.bit());
        (sendable, receivable)
    }

    // Sending

    /// Whether there is a place for a message, and nobody waits for one: then
    /// [`push`](State::push) is a send.
    #[inline(always)]
    pub(super) fn has_quiet_place(&self) -> bool {
        let nobody_waits = !self
            .entries
            .any(List::Receivers.bit() | List::RecvWatchers.bit());
        nobody_waits && self.has_place() && !self.receivers_gone
    }

    /// Sends where there [is a place](State::has_quiet_place).
    #[inline(always)]
    pub(super) fn push(&mut self, message: T) {
        self.buffer.push_back(message);
    }

    /// Sends if there is a receiver for the message, or a place.
    #[inline]
    pub(super) fn send(&mut self, message: &mut Option<T>) -> Sent {
        if self.receivers_gone {
            return Sent::Disconnected;
        }
        match self.entries.give_first(message) {
            Some(claimed) => Sent::Done(Some(claimed)),
            None if !self.has_place() => Sent::Full,
            None => {
                self.wake_watchers(List::RecvWatchers);
                self.push_back(message);
                Sent::Done(None)
            }
        }
    }

    fn push_back(&mut self, message: &mut Option<T>) {
        if let Some(message) = message.take() {
            self.buffer.push_back(message);
        }
    }

    /// Gives a message to a waiting receiver, or puts it into the buffer, where there is a place
    /// for it.
    fn put(&mut self, message: &mut Option<T>) -> Option<Claimed> {
        let claimed = self.entries.give_first(message);
        if claimed.is_none() {
            self.wake_watchers(List::RecvWatchers);
            self.push_back(message);
        }
        claimed
    }

    /// Leaves a message to be sent when there is a place for it, or a receiver. `None`, for a
    /// select, is made when it is selected.
    #[inline]
    pub(super) fn enlist_sender(&mut self, wait: &Wait<'_>, message: &mut Option<T>) -> Key {
        debug_assert!(!self.is_sendable(Some(wait)), "who can send does not wait");
        if self.capacity == 0 {
            self.wake_watchers(List::RecvWatchers);
        }
        self.entries.enlist_sender(wait, message)
    }

    /// Reserves a place, or a receiver, if there is one.
    pub(super) fn reserve_place(&mut self) -> Place {
        if self.receivers_gone {
            return Place::Disconnected;
        }
        if self.has_place() {
            self.owed += 1;
            return Place::Reserved(None);
        }
        let engaged = match self.capacity {
            0 => self.entries.engage_receiver(),
            _ => None,
        };
        match engaged {
            Some(claimed) => Place::Reserved(Some(claimed)),
            None => Place::Nothing,
        }
    }

    /// Sends to what [`reserve_place`](State::reserve_place), or whoever has chosen a sender's
    /// entry, has reserved.
    ///
    /// The message stays if the receivers have gone meanwhile.
    pub(super) fn send_reserved(&mut self, message: &mut Option<T>) -> Option<Claimed> {
        if self.capacity == 0 {
            if self.entries.any(List::Expecting.bit()) {
                return self.entries.release_expecting(message);
            }
            // It was chosen by a poll, or the receiver was cancelled or its time was up. The sender
            // has been selected, and so its message is the next receiver's, who may be yet to
            // call.
            self.owed -= 1;
            if self.receivers_gone {
                return None;
            }
            return self.put(message);
        }
        self.owed -= 1;
        if self.receivers_gone {
            return None;
        }
        let receiver = self.put(message);
        // If a receiver has it, its place is free.
        let sender = if receiver.is_some() {
            self.fill_places()
        } else {
            None
        };
        receiver.or(sender)
    }

    /// Gives up what was reserved for a sender.
    pub(super) fn release_place(&mut self) -> Option<Claimed> {
        if self.capacity == 0 {
            if self.entries.any(List::Expecting.bit()) {
                // It looks for another sender.
                return self.entries.release_expecting(&mut None);
            }
            self.owed -= 1;
            if self.is_worth_a_look() {
                self.wake_watchers(List::RecvWatchers);
            }
            return None;
        }
        self.owed -= 1;
        self.fill_places()
    }

    // Receiving

    /// Receives a message if there is one, and nobody waits for its place.
    #[inline(always)]
    pub(super) fn receive_at_once(&mut self) -> Option<T> {
        let nobody_waits = !self
            .entries
            .any(List::Senders.bit() | List::SendWatchers.bit());
        if nobody_waits && self.has_message() {
            self.pop()
        } else {
            None
        }
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<T> {
        let message = self.buffer.pop_front();
        if self.buffer.is_empty() && self.capacity == usize::MAX && self.buffer.capacity() > MANY {
            self.buffer = VecDeque::new();
        }
        message
    }

    /// Receives a message, to `message`, if there is one, or a sender.
    #[inline]
    pub(super) fn receive(&mut self, message: &mut Option<T>) -> Received {
        if self.has_message() {
            *message = self.pop();
            return Received::Message(self.fill_places());
        }
        self.receive_from_waiting(message)
    }

    /// As [`receive`](State::receive), for a receiver that cannot wait: it passes by selects that have
    /// yet to make their messages.
    pub(super) fn poll(
        &mut self,
        message: &mut Option<T>,
    ) -> Result<Option<Claimed>, TryRecvError> {
        if self.has_message() {
            *message = self.pop();
            return Ok(self.fill_places());
        }
        if self.capacity == 0 {
            let passes_by = self.entries.first_selects();
            if let Some(claimed) = self.entries.take_offer(message) {
                if passes_by {
                    // It was first, and has its turn next.
                    drop(self.choose_sender());
                }
                return Ok(Some(claimed));
            }
        }
        Err(match self.senders_gone {
            true => TryRecvError::Disconnected,
            false => TryRecvError::Empty,
        })
    }

    /// Chooses a select to send, for a poll that has found nothing. Its message is the next
    /// receiver's. `None` if there is no select, or none [may be chosen](State::owed) now.
    pub(super) fn choose_sender(&mut self) -> Option<Claimed> {
        if !self.may_choose() {
            return None;
        }
        let claimed = self.entries.choose_selecting()?;
        self.owed += 1;
        Some(claimed)
    }

    /// Takes out the entry of a receiver that does not wait any longer for the message that it was
    /// promised.
    pub(super) fn give_up(&mut self, key: Key) {
        self.entries.discard(key);
        self.owed += 1;
    }

    /// Lets waiting senders have the places that have become free: one, but for what was given up.
    #[inline(always)]
    fn fill_places(&mut self) -> Option<Claimed> {
        match self
            .entries
            .any(List::Senders.bit() | List::SendWatchers.bit())
        {
            true => self.admit(),
            false => None,
        }
    }

    #[inline(never)]
    fn admit(&mut self) -> Option<Claimed> {
        let mut first = None;
        while self.has_place() {
            let mut message = None;
            let Some(claimed) = self.entries.take_first(&mut message) else {
                self.wake_watchers(List::SendWatchers);
                break;
            };
            match message {
                Some(_) => drop(self.put(&mut message)),
                None => self.owed += 1,
            }
            first.get_or_insert(claimed);
        }
        first
    }

    fn receive_from_waiting(&mut self, message: &mut Option<T>) -> Received {
        if self.capacity == 0
            && let Some(claimed) = self.entries.take_first(message)
        {
            return match message {
                Some(_) => Received::Message(Some(claimed)),
                None => Received::Expected(self.entries.enlist_nobody(List::Expecting), claimed),
            };
        }
        if self.senders_gone {
            Received::Disconnected
        } else {
            Received::Nothing
        }
    }

    /// Waits for a message.
    #[inline]
    pub(super) fn enlist_receiver(&mut self, wait: &Wait<'_>) -> Key {
        debug_assert!(
            !self.is_receivable(Some(wait)),
            "who can receive does not wait"
        );
        if self.capacity == 0 {
            self.wake_watchers(List::SendWatchers);
        }
        self.entries.enlist(List::Receivers, wait)
    }

    /// Reserves a message if there is one, or a sender that will make one.
    pub(super) fn hold_message(&mut self) -> Held {
        let mut message = None;
        match self.receive(&mut message) {
            Received::Message(claimed) => Held::Message(self.entries.hold(&mut message), claimed),
            Received::Expected(key, claimed) => Held::Expected(key, claimed),
            Received::Nothing => Held::Nothing,
            Received::Disconnected => Held::Disconnected,
        }
    }

    /// Reserves a message if a [`poll`](State::poll) finds one.
    pub(super) fn hold_polled(&mut self) -> Held {
        let mut message = None;
        match self.poll(&mut message) {
            Ok(claimed) => Held::Message(self.entries.hold(&mut message), claimed),
            Err(TryRecvError::Empty) => Held::Nothing,
            Err(TryRecvError::Disconnected) => Held::Disconnected,
        }
    }

    /// Gives up a message that is reserved: the next receiver gets it.
    pub(super) fn release_message(&mut self, key: Key) -> Option<Claimed> {
        let mut message = None;
        if !self.entries.remove(key, &mut message) {
            return None;
        }
        let claimed = self.entries.give_first(&mut message);
        if let Some(message) = message {
            self.wake_watchers(List::RecvWatchers);
            self.buffer.push_front(message);
        }
        claimed
    }

    // Watching

    pub(super) fn enlist_watcher(&mut self, list: List, wait: &Wait<'_>) -> Key {
        self.entries.enlist(list, wait)
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
        assert!(
            !waits(List::Receivers) || !self.has_message(),
            "no receiver waits while there is a message"
        );
        assert!(
            !waits(List::Receivers) || !self.senders_gone,
            "no receiver waits while the senders are gone"
        );
        assert!(
            !waits(List::Senders) || !self.has_place(),
            "no sender waits while there is a place"
        );
        assert!(
            !waits(List::Senders) || !self.receivers_gone,
            "no sender waits while the receivers are gone"
        );
        assert!(
            !waits(List::RecvWatchers) || !self.has_message() && !self.senders_gone,
            "nobody watches for what is there"
        );
        assert!(
            !waits(List::SendWatchers) || !self.has_place() && !self.receivers_gone,
            "nobody watches for what is there"
        );
        assert!(
            self.capacity == 0 || !waits(List::Expecting),
            "only without a buffer does a receiver wait for one sender"
        );
    }
}
