//! [`WaitList`]: the threads that wait for one object, first come first served.
//!
//! It is kept under the object's own lock, together with the state that is waited for, so that
//! looking and enlisting are one step.
//!
//! ```text
//!   first      one entry inline: most lists never hold more
//!   others     queue   ticket 7   ticket 8   ticket 9   ticket 10
//!                      [entry]    [gone]     [entry]    [entry]      both ends are entries, or there are none
//!              index   who waits → ticket    built by the first search in a long queue, kept until the queue is empty
//! ```
//!
//! Cost: pushing and popping are O(1). A waiter that gives up is found by the index and leaves a
//! gap, so that giving up is O(1), too, amortized over a crowd that gives up: gaps at the ends are
//! closed at once, and all of them when they outnumber the entries. A list whose waiters never give
//! up has no index to keep.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::iter;

use super::claim::Wake;
use super::waiter::{Key, Wait, Waiter};

/// In a queue that is no longer than this a search compares one by one.
const SHORT: usize = if cfg!(test) { 2 } else { 16 };

/// FIFO of the waiters of one object, each with what it wants.
#[derive(Debug)]
pub(crate) struct WaitList<T = ()> {
    /// Mostly one thread waits, so the first needs no allocation. `None` does not mean that there
    /// are no others. A waiter that was spent is no longer in the list: it is left for a thread
    /// that waits again.
    first: Option<(Waiter, T)>,
    /// Boxed, as most lists never need it and thousands of them should stay small.
    others: Option<Box<Others<T>>>,
}

#[derive(Debug)]
struct Others<T> {
    /// Neither end is a gap.
    queue: VecDeque<Option<(Waiter, T)>>,
    /// The ticket of the front. Tickets are given out at both ends.
    front: u64,
    /// Gaps in `queue`.
    gaps: usize,
    index: Option<HashMap<Key, u64, BuildHasherDefault<Mix>>>,
    /// A wait was enlisted twice, as by a select over twins. The index knows one of the two.
    twins: bool,
}

/// Keys are an address and a counter: a multiplication spreads them well enough.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

impl<T> Default for Others<T> {
    fn default() -> Others<T> {
        Others {
            queue: VecDeque::new(),
            front: 1 << 62,
            gaps: 0,
            index: None,
            twins: false,
        }
    }
}

impl<T> Others<T> {
    fn push_back(&mut self, entry: (Waiter, T)) {
        let ticket = self.front + self.queue.len() as u64;
        self.note(entry.0.key(), ticket);
        self.queue.push_back(Some(entry));
    }

    fn push_front(&mut self, entry: (Waiter, T)) {
        self.front -= 1;
        self.note(entry.0.key(), self.front);
        self.queue.push_front(Some(entry));
    }

    fn pop_front(&mut self) -> Option<(Waiter, T)> {
        let entry = self.queue.pop_front()??;
        self.front += 1;
        if let Some(index) = &mut self.index {
            index.remove(&entry.0.key());
        }
        self.close_ends();
        Some(entry)
    }

    fn note(&mut self, key: Key, ticket: u64) {
        if let Some(index) = &mut self.index {
            self.twins |= index.insert(key, ticket).is_some();
        }
    }

    /// Where the waiter of `key` is in `queue`.
    fn find(&mut self, key: Key) -> Option<usize> {
        let is = |entry: &Option<(Waiter, T)>| entry.as_ref().is_some_and(|e| e.0.key() == key);
        if self.queue.len() <= SHORT {
            return self.queue.iter().position(is);
        }
        if self.index.is_none() {
            self.index = Some(HashMap::default());
            for at in 0..self.queue.len() {
                if let Some((waiter, _)) = &self.queue[at] {
                    self.note(waiter.key(), self.front + at as u64);
                }
            }
        }
        let ticket = self.index.as_ref().and_then(|index| index.get(&key));
        match ticket {
            Some(ticket) => Some((ticket - self.front) as usize),
            None if self.twins => self.queue.iter().position(is),
            None => None,
        }
    }

    fn remove(&mut self, at: usize) -> Option<(Waiter, T)> {
        let entry = self.queue[at].take()?;
        if let Some(index) = &mut self.index {
            index.remove(&entry.0.key());
        }
        self.gaps += 1;
        self.close_ends();
        if self.gaps > self.queue.len() / 2 {
            // As many have left since the last time as are looked at now.
            self.queue.retain(Option::is_some);
            self.gaps = 0;
            self.index = None;
        }
        Some(entry)
    }

    fn close_ends(&mut self) {
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.front += 1;
            self.gaps -= 1;
        }
        while let Some(None) = self.queue.back() {
            self.queue.pop_back();
            self.gaps -= 1;
        }
        if self.queue.is_empty() {
            self.index = None;
            self.twins = false;
        }
    }

    fn clear(&mut self) -> impl Iterator<Item = (Waiter, T)> {
        self.gaps = 0;
        self.index = None;
        self.twins = false;
        self.queue.drain(..).flatten()
    }
}

impl<T> WaitList<T> {
    pub(crate) const fn new() -> WaitList<T> {
        WaitList {
            first: None,
            others: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.as_ref().is_none_or(|first| first.0.is_spent())
            && self
                .others
                .as_ref()
                .is_none_or(|others| others.queue.is_empty())
    }

    #[inline]
    pub(crate) fn push_with(&mut self, waiter: Waiter, wants: T) {
        if self.is_empty() {
            self.first = Some((waiter, wants));
        } else {
            self.others
                .get_or_insert_default()
                .push_back((waiter, wants));
        }
    }

    /// For a thread that has been the first already.
    pub(crate) fn push_front_with(&mut self, waiter: Waiter, wants: T) {
        let before = self.first.replace((waiter, wants));
        if let Some(second) = before.filter(|first| !first.0.is_spent()) {
            self.others.get_or_insert_default().push_front(second);
        }
    }

    /// What the first waiter wants.
    pub(crate) fn front(&self) -> Option<&T> {
        match &self.first {
            Some((waiter, wants)) if !waiter.is_spent() => Some(wants),
            _ => Some(&self.others.as_ref()?.queue.front()?.as_ref()?.1),
        }
    }

    /// Whether the waiter of `wait` is still in the list: then `wait` has not been ended by way of
    /// this list.
    pub(crate) fn contains(&mut self, wait: &Wait<'_>) -> bool {
        self.get_mut(wait.key()).is_some()
    }

    /// The entry of a waiter that is still in the list. The waiter may be exchanged for one of a
    /// later wait of the same thread only by [`renew`](WaitList::renew).
    fn get_mut(&mut self, key: Key) -> Option<&mut (Waiter, T)> {
        if self
            .first
            .as_ref()
            .is_some_and(|first| first.0.key() == key)
        {
            return self.first.as_mut();
        }
        let others = self.others.as_mut()?;
        let at = others.find(key)?;
        others.queue[at].as_mut()
    }

    /// What the waiter of `key` wants, if it is still in the list.
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut T> {
        self.get_mut(key).map(|entry| &mut entry.1)
    }

    /// Puts the waiter of `wait` in the place of that of an earlier wait of the same thread, if
    /// that is still in the list.
    pub(crate) fn renew(&mut self, before: Key, wait: &Wait<'_>) -> bool {
        let Some(entry) = self.get_mut(before) else {
            return false;
        };
        entry.0 = wait.waiter();
        if let Some(others) = &mut self.others
            && let Some(index) = &mut others.index
            && let Some(ticket) = index.remove(&before)
        {
            others.note(wait.key(), ticket);
        }
        true
    }

    /// Takes the waiter of `wait` out, if it is still in the list: for a thread that was not woken
    /// through this list.
    pub(crate) fn remove(&mut self, wait: &Wait<'_>) {
        self.take_out(wait.key());
    }

    /// Takes a waiter out, and returns what it wants; `None` if it is not in the list any more.
    pub(crate) fn take_out(&mut self, key: Key) -> Option<T> {
        self.take_entry(key).map(|(_, wants)| wants)
    }

    fn take_entry(&mut self, key: Key) -> Option<(Waiter, T)> {
        if self
            .first
            .as_ref()
            .is_some_and(|first| first.0.key() == key)
        {
            return self.first.take();
        }
        let others = self.others.as_mut()?;
        let at = others.find(key)?;
        others.remove(at)
    }

    /// Takes the first waiter out of which `holds` is true.
    pub(crate) fn pop_where(&mut self, holds: impl Fn(&T) -> bool) -> Option<(Waiter, T)> {
        if let Some((waiter, wants)) = &self.first
            && !waiter.is_spent()
            && holds(wants)
        {
            return self.first.take();
        }
        let others = self.others.as_mut()?;
        let is = |entry: &Option<(Waiter, T)>| entry.as_ref().is_some_and(|e| holds(&e.1));
        let at = others.queue.iter().position(is)?;
        others.remove(at)
    }

    /// Takes the first waiter out.
    #[inline]
    pub(crate) fn pop_with(&mut self) -> Option<(Waiter, T)> {
        self.first
            .take()
            .filter(|first| !first.0.is_spent())
            .or_else(|| self.others.as_mut()?.pop_front())
    }

    /// Keeps the waiters of which `holds` is true. O(n).
    pub(crate) fn retain(&mut self, mut holds: impl FnMut(&Waiter, &T) -> bool) {
        if let Some((waiter, wants)) = &self.first
            && (waiter.is_spent() || !holds(waiter, wants))
        {
            self.first = None;
        }
        if let Some(others) = &mut self.others {
            let kept = others.clear().filter(|entry| holds(&entry.0, &entry.1));
            others.queue = kept.map(Some).collect();
        }
    }

    /// How many waiters there are.
    pub(crate) fn len(&self) -> usize {
        let others = |others: &Others<T>| others.queue.len() - others.gaps;
        usize::from(self.first.as_ref().is_some_and(|first| !first.0.is_spent()))
            + self.others.as_deref().map_or(0, others)
    }

    /// Wakes all waiters.
    #[inline]
    pub(crate) fn wake_all(&mut self) {
        self.wake_all_again();
        self.first = None;
    }

    /// Wakes all waiters. The first is expected [again](WaitList::push_again): what counts the
    /// references to its record stays as it is.
    #[inline]
    pub(crate) fn wake_all_again(&mut self) {
        if let Some((first, _)) = self.first.as_mut().filter(|first| !first.0.is_spent()) {
            first.wake(Wake::Woken);
            first.spend();
        }
        if let Some(others) = &mut self.others {
            for (waiter, _) in others.clear() {
                waiter.wake(Wake::Woken);
            }
        }
    }
}

impl WaitList {
    pub(crate) fn push(&mut self, waiter: Waiter) {
        self.push_with(waiter, ());
    }

    /// As [`push`](WaitList::push), for lists on which the same thread waits again and again.
    #[inline]
    pub(crate) fn push_again(&mut self, wait: &Wait<'_>) {
        let renewed = self.is_empty()
            && self
                .first
                .as_mut()
                .is_some_and(|first| wait.renew(&mut first.0));
        if !renewed {
            self.push(wait.waiter());
        }
    }

    /// Takes the first waiter out.
    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        self.pop_with().map(|(waiter, ())| waiter)
    }

    /// Wakes the first whose wait has not ended otherwise, and returns whether there was one. Then
    /// it has been woken for good, so it may be given something.
    pub(crate) fn wake_one(&mut self) -> bool {
        while let Some(waiter) = self.pop() {
            if waiter.wake(Wake::Woken) {
                return true;
            }
        }
        false
    }

    /// As [`wake_one`](WaitList::wake_one). The first is expected [again](WaitList::push_again).
    #[inline]
    pub(crate) fn wake_one_again(&mut self) -> bool {
        if let Some((first, ())) = self.first.as_mut().filter(|first| !first.0.is_spent()) {
            let woken = first.wake(Wake::Woken);
            first.spend();
            if woken {
                return true;
            }
        }
        self.others.is_some() && self.wake_one_of_others()
    }

    #[cold]
    #[inline(never)]
    fn wake_one_of_others(&mut self) -> bool {
        let others = self.others.iter_mut();
        let mut others = others.flat_map(|others| iter::from_fn(|| others.pop_front()));
        others.any(|(waiter, ())| waiter.wake(Wake::Woken))
    }
}

impl<T> Default for WaitList<T> {
    fn default() -> WaitList<T> {
        WaitList::new()
    }
}
