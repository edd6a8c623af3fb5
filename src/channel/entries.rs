//! [`Entries`]: the threads that wait for one channel, in lists from whose middle they can leave.
//!
//! All lists of a channel share one slab, so that a hundred thousand threads can come and go at a
//! few nanoseconds each, in any order.
//!
//! ```text
//!          enlist                  take_first: a sender's wait is ended, and its message taken
//!   free ---------> on a list ---------------------------------------------------------------------> free again: gone
//!                       |                                                                              ^
//!                       |  give_first: a receiver's wait is ended, and it has a message                | remove
//!                       +---------------------------------------------------------> chosen ------------+
//!                       |  claim_all, or its wait has been ended by other means                        |
//!                       +---------------------------------------------------------> over --------------+
//! ```
//!
//! Who has enlisted holds a [`Key`], and takes the entry out again unless it is gone: a sender's,
//! when there is nothing left to do. What became of the wait is told by the entry alone.
//!
//! A message may be large, and a green thread's stack is small: messages are moved from `Option` to
//! `Option`, in place, and not returned through layers of functions, each with a copy of its own.

use std::mem;

use crate::scheduler::claim::Wake;
use crate::scheduler::waiter::{Claimed, Wait, Waiter};

const NONE: u32 = u32::MAX;
/// An empty slab gives back the memory for more entries than this.
const FEW: usize = 64;

/// The lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum List {
    /// Wait for a place, or on a channel of no capacity for a receiver. Each holds its message,
    /// unless it selects.
    Senders,
    /// Wait for a message.
    Receivers,
    /// Receivers that a selected sender owes a message, on a channel of no capacity.
    Expecting,
    /// Want to know when a send would not wait.
    SendWatchers,
    /// Want to know when a receive would not wait.
    RecvWatchers,
}

const LISTS: usize = 5;

/// An entry, for who has enlisted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    ticket: u32,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody has ended the wait by way of it.
    Waiting,
    /// Somebody has: it is a sender's, and gone, or a receiver's, and has a message.
    Chosen,
    /// Somebody has, who was selected to send and has yet to make the message: a receiver's.
    Promised,
    /// The wait was ended, for no more than to look again.
    Over,
}

/// An entry's thread.
enum Who {
    Nobody,
    /// In a free entry it is left from the last time, for a thread that comes again.
    Waiter(Waiter),
}

struct Entry<T> {
    who: Who,
    /// What a sender wants to send, or a receiver has been given. A sender that selects makes its
    /// message when it has been selected.
    message: Option<T>,
    /// Which use of the entry this is.
    ticket: u32,
    /// `None`: free, chosen or over.
    list: Option<List>,
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends {
    first: NONE,
    last: NONE,
};

impl Ends {
    /// Returns the entry that was the last one before.
    #[inline(always)]
    fn append(&mut self, index: u32) -> u32 {
        let previous = mem::replace(&mut self.last, index);
        if previous == NONE {
            self.first = index;
        }
        previous
    }
}

/// See the module.
pub(super) struct Entries<T> {
    entries: Vec<Entry<T>>,
    /// The first free entry; they are linked by `next`.
    free: u32,
    live: u32,
    next_ticket: u32,
    lists: [Ends; LISTS],
    /// Bit by bit which lists are not empty.
    occupied: u8,
}

impl List {
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl<T> Entries<T> {
    pub(super) const fn new() -> Entries<T> {
        Entries {
            entries: Vec::new(),
            free: NONE,
            live: 0,
            next_ticket: 0,
            lists: [EMPTY; LISTS],
            occupied: 0,
        }
    }

    /// Whether one of the lists with these [bits](List::bit) has entries.
    #[inline(always)]
    pub(super) fn any(&self, lists: u8) -> bool {
        self.occupied & lists != 0
    }

    /// Whether a list has an entry of another thread than that of `wait`.
    pub(super) fn any_other(&self, list: List, wait: Option<&Wait<'_>>) -> bool {
        let mut at = self.lists[list as usize].first;
        while at != NONE {
            let entry = &self.entries[at as usize];
            match (&entry.who, wait) {
                (Who::Waiter(waiter), Some(wait)) if wait.is(waiter) => at = entry.next,
                _ => return true,
            }
        }
        false
    }

    /// Enlists a thread that is about to wait.
    #[inline(always)]
    pub(super) fn enlist(&mut self, list: List, wait: &Wait<'_>) -> Key {
        self.enlist_with(list, |who| set_waiter(who, wait))
    }

    /// As [`enlist`](Entries::enlist), and leaves a message in the entry, if there is one.
    #[inline(always)]
    pub(super) fn enlist_sender(&mut self, wait: &Wait<'_>, message: &mut Option<T>) -> Key {
        let key = self.enlist(List::Senders, wait);
        mem::swap(&mut self.entries[key.index as usize].message, message);
        key
    }

    /// Enlists a thread that may come to wait: see [`await_with`](Entries::await_with).
    pub(super) fn enlist_nobody(&mut self, list: List) -> Key {
        self.enlist_with(list, |who| *who = Who::Nobody)
    }

    #[inline(always)]
    fn enlist_with(&mut self, list: List, set: impl FnOnce(&mut Who)) -> Key {
        if self.free == NONE {
            self.grow();
        }
        self.live += 1;
        let index = self.free;
        let previous = self.lists[list as usize].append(index);
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        self.occupied |= list.bit();
        set(&mut entry.who);
        debug_assert!(entry.message.is_none(), "only an empty entry is free");
        entry.list = Some(list);
        entry.previous = previous;
        entry.next = NONE;
        let key = Key {
            index,
            ticket: entry.ticket,
        };
        if previous != NONE {
            self.entries[previous as usize].next = index;
        }
        key
    }

    /// Says that the thread of this entry waits. `false` if there is no need to.
    pub(super) fn await_with(&mut self, key: Key, wait: &Wait<'_>) -> bool {
        match self.entry(key) {
            Some(entry) if entry.list.is_some() => {
                set_waiter(&mut entry.who, wait);
                true
            }
            _ => false,
        }
    }

    /// Says that the thread of this entry does not wait any more.
    pub(super) fn await_no_more(&mut self, key: Key) {
        if let Some(entry) = self.entry(key) {
            entry.who = Who::Nobody;
        }
    }

    /// Keeps a message for the receiver that gets the key.
    pub(super) fn hold(&mut self, message: &mut Option<T>) -> Key {
        if self.free == NONE {
            self.grow();
        }
        self.live += 1;
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        mem::swap(&mut entry.message, message);
        Key {
            index,
            ticket: entry.ticket,
        }
    }

    /// Returns what has become of the entry of a select that wants to send, and takes it out.
    pub(super) fn withdraw_sender(&mut self, key: Key) -> Fate {
        let Some(entry) = self.entry(key) else {
            return Fate::Chosen;
        };
        let fate = if entry.list.is_some() {
            Fate::Waiting
        } else {
            Fate::Over
        };
        debug_assert!(entry.message.is_none(), "a select makes its message later");
        self.discard(key);
        fate
    }

    /// Returns what has become of a receiver's entry, and takes it out unless it has a message, or
    /// is to get one.
    pub(super) fn withdraw_receiver(&mut self, key: Key) -> Fate {
        let fate = self.look(key);
        if let Fate::Waiting | Fate::Over = fate {
            self.discard(key);
        }
        fate
    }

    /// Returns what has become of a receiver's entry.
    pub(super) fn look(&mut self, key: Key) -> Fate {
        match self.entry(key) {
            Some(Entry {
                list: Some(List::Expecting),
                ..
            }) => Fate::Promised,
            Some(Entry { list: Some(_), .. }) => Fate::Waiting,
            Some(Entry {
                message: Some(_), ..
            }) => Fate::Chosen,
            _ => Fate::Over,
        }
    }

    /// Takes an entry out, for who has enlisted it, and moves its message, if it has one, to
    /// `message`, which must be empty. Returns whether there was one.
    #[inline]
    pub(super) fn remove(&mut self, key: Key, message: &mut Option<T>) -> bool {
        debug_assert!(message.is_none(), "a message is never overwritten");
        let Some(entry) = self.entry(key) else {
            return false;
        };
        mem::swap(&mut entry.message, message);
        self.discard(key);
        message.is_some()
    }

    /// Takes an entry out that has no message, for who has enlisted it.
    #[inline]
    pub(super) fn discard(&mut self, key: Key) {
        if self.entry(key).is_some() {
            self.unlink(key.index);
            self.free(key.index);
        }
    }

    /// Ends the wait of the first of a list that can still be ended, and takes it off the list;
    /// those before it are over.
    #[inline(always)]
    fn claim_first(&mut self, list: List) -> Option<(u32, Claimed)> {
        loop {
            let index = self.first(list)?;
            self.unlink(index);
            if let Who::Waiter(waiter) = &self.entries[index as usize].who
                && let Some(claimed) = waiter.claim(Wake::Woken)
            {
                return Some((index, claimed));
            }
        }
    }

    /// Ends the wait of the first sender that can still be ended. Its entry is gone; what it wanted
    /// to send is in `message`.
    #[inline(always)]
    pub(super) fn take_first(&mut self, message: &mut Option<T>) -> Option<Claimed> {
        let (index, claimed) = self.claim_first(List::Senders)?;
        mem::swap(&mut self.entries[index as usize].message, message);
        self.free(index);
        Some(claimed)
    }

    /// Whether the first sender selects, and so has yet to make its message.
    pub(super) fn first_selects(&self) -> bool {
        let first = self.first(List::Senders);
        first.is_some_and(|index| self.entries[index as usize].message.is_none())
    }

    /// Whether a sender waits that has its message.
    pub(super) fn any_offer(&self) -> bool {
        let mut at = self.lists[List::Senders as usize].first;
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.message.is_some() {
                return true;
            }
            at = entry.next;
        }
        false
    }

    /// As [`take_first`](Entries::take_first), of those senders that have their messages.
    pub(super) fn take_offer(&mut self, message: &mut Option<T>) -> Option<Claimed> {
        let (index, claimed) = self.claim_sender(false)?;
        mem::swap(&mut self.entries[index as usize].message, message);
        self.free(index);
        Some(claimed)
    }

    /// As [`take_first`](Entries::take_first), of those senders that select.
    pub(super) fn choose_selecting(&mut self) -> Option<Claimed> {
        let (index, claimed) = self.claim_sender(true)?;
        self.free(index);
        Some(claimed)
    }

    /// Ends the wait of the first sender that selects, or that does not, and can still be ended;
    /// those of its kind before it are over.
    fn claim_sender(&mut self, selects: bool) -> Option<(u32, Claimed)> {
        let mut at = self.lists[List::Senders as usize].first;
        while at != NONE {
            let index = at;
            let entry = &self.entries[index as usize];
            at = entry.next;
            if entry.message.is_none() != selects {
                continue;
            }
            self.unlink(index);
            if let Who::Waiter(waiter) = &self.entries[index as usize].who
                && let Some(claimed) = waiter.claim(Wake::Woken)
            {
                return Some((index, claimed));
            }
        }
        None
    }

    /// Ends the wait of the first receiver that can still be ended, and gives it a message.
    /// `None`, and the message stays, if there is no such receiver.
    #[inline(always)]
    pub(super) fn give_first(&mut self, message: &mut Option<T>) -> Option<Claimed> {
        let (index, claimed) = self.claim_first(List::Receivers)?;
        mem::swap(&mut self.entries[index as usize].message, message);
        Some(claimed)
    }

    /// Ends the wait of the first receiver that can still be ended, and puts it on
    /// [`List::Expecting`]. It runs, and waits for its message in a wait of its own, which can be
    /// cancelled and time out: the selected operation may be forgotten, and then no message and no
    /// word ever follows. `None` if no receiver waits.
    pub(super) fn engage_receiver(&mut self) -> Option<Claimed> {
        let (index, claimed) = self.claim_first(List::Receivers)?;
        let previous = self.lists[List::Expecting as usize].append(index);
        if previous != NONE {
            self.entries[previous as usize].next = index;
        }
        self.occupied |= List::Expecting.bit();
        let entry = &mut self.entries[index as usize];
        entry.who = Who::Nobody;
        entry.list = Some(List::Expecting);
        entry.previous = previous;
        entry.next = NONE;
        Some(claimed)
    }

    /// Takes the first of [`List::Expecting`] off it, and gives it its message, or none. Returns
    /// what makes its thread run, if that waits already.
    pub(super) fn release_expecting(&mut self, message: &mut Option<T>) -> Option<Claimed> {
        let index = self.first(List::Expecting)?;
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        mem::swap(&mut entry.message, message);
        match mem::replace(&mut entry.who, Who::Nobody) {
            Who::Nobody => None,
            Who::Waiter(waiter) => waiter.claim(Wake::Woken),
        }
    }

    /// Ends the waits of all on a list. Their entries are over.
    pub(super) fn claim_all(&mut self, list: List, claimed: &mut Vec<Claimed>) {
        claimed.extend(std::iter::from_fn(|| Some(self.claim_first(list)?.1)));
    }

    /// Ends the waits of all on a list, where there is nothing to be told but that. Their entries
    /// are gone.
    pub(super) fn dismiss_all(&mut self, list: List) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        while let Some(index) = self.first(list) {
            self.unlink(index);
            if let Who::Waiter(waiter) = &self.entries[index as usize].who {
                claimed.extend(waiter.claim(Wake::Woken));
            }
            self.free(index);
        }
        claimed
    }

    /// Makes an entry gone.
    #[inline(always)]
    fn free(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        debug_assert!(
            entry.list.is_none() && entry.message.is_none(),
            "only an empty entry on no list is free"
        );
        entry.ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
        self.live -= 1;
        if self.live == 0 && self.entries.len() > FEW {
            self.forget_crowd();
        }
    }

    #[cold]
    fn forget_crowd(&mut self) {
        // The keys to what has been here find nothing, or an entry with another ticket.
        self.entries = Vec::new();
        self.free = NONE;
    }

    #[cold]
    fn grow(&mut self) {
        let index =
            u32::try_from(self.entries.len()).expect("fewer than 2^32 threads wait for a channel");
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        if self.entries.capacity() == 0 {
            // Mostly one thread waits.
            self.entries.reserve_exact(1);
        }
        self.entries.push(Entry {
            who: Who::Nobody,
            message: None,
            ticket,
            list: None,
            next: NONE,
            previous: NONE,
        });
        self.free = index;
    }

    #[inline]
    fn entry(&mut self, key: Key) -> Option<&mut Entry<T>> {
        self.entries
            .get_mut(key.index as usize)
            .filter(|entry| entry.ticket == key.ticket)
    }

    #[inline]
    fn first(&self, list: List) -> Option<u32> {
        let first = self.lists[list as usize].first;
        (first != NONE).then_some(first)
    }

    /// Takes an entry off its list, if it is on one.
    #[inline(always)]
    fn unlink(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let Some(list) = entry.list.take() else {
            return;
        };
        let (previous, next) = (entry.previous, entry.next);
        let ends = &mut self.lists[list as usize];
        if previous == NONE && next == NONE {
            *ends = EMPTY;
            self.occupied &= !list.bit();
            return;
        }
        match previous {
            NONE => ends.first = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => ends.last = previous,
            next => self.entries[next as usize].previous = previous,
        }
    }
}

#[cfg(debug_assertions)]
impl<T> Drop for Entries<T> {
    /// Who enlists leaves again. Only an operation that was selected and then forgotten leaves
    /// something behind: its message.
    fn drop(&mut self) {
        let held = self
            .entries
            .iter()
            .filter(|entry| entry.message.is_some())
            .count();
        let live = self.live as usize;
        assert!(
            live == held || std::thread::panicking(),
            "{live} entries are in use, {held} of them keep a message"
        );
    }
}

#[inline(always)]
fn set_waiter(who: &mut Who, wait: &Wait<'_>) {
    let renewed = if let Who::Waiter(waiter) = who {
        wait.renew(waiter)
    } else {
        false
    };
    if !renewed {
        *who = Who::Waiter(wait.waiter());
    }
}
