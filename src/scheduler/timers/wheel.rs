//! A hierarchical timing wheel that fires to the exact nanosecond: at most one timer for each green
//! thread of a worker.
//!
//! ```text
//!   past ──── now ───────────────────────────────────────────────────────────────────► future
//!   ┌────────────┐┌─┬─┬─┬─┬ … ┬─┐┌───┬───┬ … ┬───┐┌──────┬──────┬ … ┬──────┐
//!   │  CURRENT   ││ level 0     ││ level 1       ││ level 2                │  …  level 17
//!   └────────────┘└─┴─┴─┴─┴ … ┴─┘└───┴───┴ … ┴───┘└──────┴──────┴ … ┴──────┘
//!    up to the end  64 lists of    64 lists of      64 lists of
//!    of now's tick  1 tick         8 ticks          64 ticks
//! ```
//!
//! A tick is 2⁹ ns. The time that one list of a level covers, numbered from zero, is that level's
//! *index*: `deadline >> shift(level)`; the list is the index modulo 64. A level reaches to the end
//! of the list of the level above that `now` is in, and of the seven that follow it; a deadline is
//! kept at the lowest level that reaches it. As `now` advances and a level reaches further, the
//! lists of the level above are handed down to it, entry by entry. Hence:
//!
//! 1. `now` and a deadline alone determine the timer's list. So the lists are in order of time:
//!    CURRENT, then level 0, then level 1 …; within a level from `now`'s index on, where the list
//!    of `now`'s own index is empty. And timers with equal deadlines share a list, in which they
//!    stay in order of insertion, for lists are appended to and handed down from the front. To fire
//!    list by list, each sorted stably by deadline, is to fire in order.
//! 2. A list is empty exactly if its bit in `occupied` is clear, a level is empty exactly if its
//!    bit in `levels` is clear: the way to the next deadline is two bit scans, however far away it
//!    is.
//! 3. `places[slot]` says where in which list the slot's entry is. To cancel leaves a hole there:
//!    one store, which nothing waits for. A list closes its holes when they are about a third of
//!    it.
//! 4. No list needs to be looked at before the instant `attention`.
//!
//! The wheel is G. Varghese and T. Lauck, *Hashed and hierarchical timing wheels* (SOSP 1987),
//! scheme 7; levels that overlap are those of Linux's `kernel/time/timer.c` since 4.8, which rounds
//! deadlines instead of handing them down.
//!
//! # Why not …
//! - *levels that do not overlap* (tokio's): whenever `now` crosses a boundary of the level that
//!   the usual time-out lives in, all pending timers are handed down in one go. Here it is a
//!   seventh of them at worst, and of time-outs of 30 or 60 s a few hundredths.
//! - *linked lists through the slots*: no holes, but handing down waits for one cache miss after
//!   the other (2–3 × slower).
//! - *closing a hole at once with the last entry*: two more cache misses per cancellation, and ties
//!   lose their order.
//! - *a heap*: an expiry among a million is 20 levels of cache misses, and cancelling leaves
//!   garbage, or needs an index that is written at every move.

use std::mem;

use crate::scheduler::run_queue::Slot;

/// Nanoseconds in a tick, as a power of two. With 9, a level ends just beyond a minute: 60 s get
/// lists of 1 s, not of 8.
const TICK_BITS: u32 = 9;
/// How much coarser each level is than the one below, as a power of two. Greater is faster and
/// hands down more at once.
const STEP_BITS: u32 = 3;
/// Lists per level, as a power of two: `occupied` has a bit for each.
const LIST_BITS: u32 = 6;
const LISTS_PER_LEVEL: u32 = 1 << LIST_BITS;
/// How many lists of the level above a level reaches, the one that `now` is in included.
const REACH: u64 = 1 << (LIST_BITS - STEP_BITS);
/// Enough that the last level reaches `u64::MAX`.
const LEVELS: u32 = (u64::BITS - LIST_BITS - TICK_BITS).div_ceil(STEP_BITS) + 1;

/// The list of all deadlines in `now`'s tick or before it, which is after those of the levels.
const CURRENT: u32 = LEVELS * LISTS_PER_LEVEL;

/// In a longer list `next_deadline` does not look for the earliest.
const SCAN_LIMIT: usize = 32;
/// Holes in a list that are not worth closing.
const FEW_HOLES: usize = 8;
/// An empty list keeps this capacity, so that a lone sleeper does not allocate.
const KEEP_ENTRIES: usize = 16;
/// `places` keeps this capacity.
const KEEP_PLACES: usize = 1024;
/// How much growth of `places` one removal pays for.
const REPAY: usize = 4;

/// A pending timer.
#[derive(Clone, Copy)]
struct Entry {
    deadline: u64,
    slot: Slot,
}

/// In `Entry::slot`: a hole.
const HOLE: Slot = Slot::MAX;

/// The timers of one list.
#[derive(Clone)]
struct List {
    /// In order of arrival, with holes; the last is not one.
    entries: Vec<Entry>,
    holes: usize,
}

/// Where the timer of a slot is.
#[derive(Clone, Copy)]
struct Place {
    /// `u32::MAX`: none is pending.
    list: u32,
    position: u32,
}

const NOWHERE: Place = Place {
    list: u32::MAX,
    position: 0,
};

/// Pending timers, in nanoseconds since the clock's base.
pub(crate) struct Wheel {
    /// What `expire` was last told. The lists of all timers are relative to it.
    now: u64,
    /// No timer is due, and no list has to be handed down, before this instant.
    attention: u64,
    /// Bit `level`: a list of that level has entries.
    levels: u32,
    /// Bit `index % 64` of each level: that list has entries.
    occupied: [u64; LEVELS as usize],
    /// 64 of each level, then CURRENT.
    lists: Vec<List>,
    /// By slot, up to about the highest pending.
    places: Vec<Place>,
    /// Pending timers.
    len: usize,
    /// Growth of `places` that removals have not paid for yet. It does not shrink before that, or
    /// a lone timer of a high slot that comes and goes would resize it every time.
    debt: usize,
}

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel {
            now: 0,
            attention: u64::MAX,
            levels: 0,
            occupied: [0; LEVELS as usize],
            lists: vec![
                List {
                    entries: Vec::new(),
                    holes: 0
                };
                CURRENT as usize + 1
            ],
            places: Vec::new(),
            len: 0,
            debt: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets the first `expire` whose `now` is not before `deadline` fire `slot`. The deadline may
    /// have passed already.
    pub(crate) fn insert(&mut self, slot: Slot, deadline: u64) {
        let end = slot as usize + 1;
        if end > self.places.len() {
            self.debt += end - self.places.len();
            self.places.resize(end, NOWHERE);
        }
        debug_assert!(
            self.places[slot as usize].list == NOWHERE.list,
            "slot {slot} has a pending timer already: cancel it first"
        );
        self.len += 1;
        self.place(Entry { deadline, slot });
    }

    /// Forgets the timer of `slot`, if one is pending.
    pub(crate) fn cancel(&mut self, slot: Slot) {
        let Some(place) = self.places.get_mut(slot as usize) else {
            return;
        };
        let Place { list, position } = mem::replace(place, NOWHERE);
        if list == NOWHERE.list {
            return;
        }
        let List { entries, holes } = &mut self.lists[list as usize];
        entries[position as usize].slot = HOLE;
        *holes += 1;
        while entries.pop_if(|entry| entry.slot == HOLE).is_some() {
            *holes -= 1;
        }
        if entries.is_empty() {
            self.vacate(list);
        } else if *holes > FEW_HOLES + entries.len() / 3 {
            self.close_holes(list);
        }
        self.removed(1);
    }

    /// Moves the timers of `list` up to its front, in order.
    fn close_holes(&mut self, list: u32) {
        let List { entries, holes } = &mut self.lists[list as usize];
        *holes = 0;
        let mut position = 0;
        entries.retain(|entry| {
            let timer = entry.slot != HOLE;
            if timer {
                self.places[entry.slot as usize].position = position;
                position += 1;
            }
            timer
        });
        trim(entries);
    }

    /// The earliest pending deadline. If that is one of many in a list that is still ahead, an
    /// instant between `now` and that list instead: to expire then hands it down and brings the
    /// answer closer, at most once per level.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let earliest = |entries: &[Entry]| {
            entries
                .iter()
                .filter(|entry| entry.slot != HOLE)
                .map(|entry| entry.deadline)
                .min()
        };
        let current = &self.lists[CURRENT as usize].entries;
        if !current.is_empty() {
            // However long it is: the next `expire` does the same.
            return earliest(current);
        }
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros();
        let index = self.first_index(level, self.now)?;
        let entries = &self.lists[list_at(level, index) as usize].entries;
        if entries.len() > SCAN_LIMIT {
            Some(index << shift(level))
        } else {
            earliest(entries)
        }
    }

    /// Fires every timer whose deadline is not after `now`, in order of deadline and then of
    /// insertion. `now` never goes back. If `fire` panics, the rest of the list that it came
    /// from is forgotten.
    pub(crate) fn expire(&mut self, now: u64, mut fire: impl FnMut(Slot)) {
        debug_assert!(now >= self.now, "the worker's clock went back");
        let before = mem::replace(&mut self.now, now);
        if now < self.attention {
            return;
        }
        self.attention = u64::MAX;
        if !self.lists[CURRENT as usize].entries.is_empty() {
            self.drain(CURRENT, &mut fire);
        }
        // From low to high: what is handed down goes to levels that are done with.
        let mut levels = self.levels;
        while levels != 0 {
            let level = levels.trailing_zeros();
            levels &= levels - 1;
            while let Some(index) = self.first_index(level, before) {
                let attention = attention(level, index);
                if attention > now {
                    self.attention = self.attention.min(attention);
                    break;
                }
                self.drain(list_at(level, index), &mut fire);
            }
        }
    }

    /// Empties `list`: fires what is due, hands down the rest.
    fn drain(&mut self, list: u32, fire: &mut impl FnMut(Slot)) {
        let List { entries, holes } = &mut self.lists[list as usize];
        let mut entries = mem::take(entries);
        *holes = 0;
        self.vacate(list);
        entries.retain(|&entry| {
            if entry.slot == HOLE {
                return false;
            }
            let due = entry.deadline <= self.now;
            if due {
                self.places[entry.slot as usize] = NOWHERE;
            } else {
                self.place(entry);
            }
            due
        });
        if !entries.is_empty() {
            self.removed(entries.len());
            // Time-outs of one length arrive in order, and a stable sort would take memory before
            // it noticed.
            if !entries.is_sorted_by_key(|entry| entry.deadline) {
                entries.sort_by_key(|entry| entry.deadline);
            }
            entries.drain(..).for_each(|entry| fire(entry.slot));
        }
        let emptied = &mut self.lists[list as usize].entries;
        if emptied.capacity() == 0 && entries.capacity() <= KEEP_ENTRIES {
            *emptied = entries;
        }
    }

    /// Puts a timer into the list of its deadline.
    fn place(&mut self, entry: Entry) {
        let (list, attention) = match position(self.now, entry.deadline) {
            None => (CURRENT, entry.deadline),
            Some((level, index)) => {
                self.levels |= 1 << level;
                self.occupied[level as usize] |= 1 << (index % u64::from(LISTS_PER_LEVEL));
                (list_at(level, index), attention(level, index))
            }
        };
        self.attention = self.attention.min(attention);
        let entries = &mut self.lists[list as usize].entries;
        self.places[entry.slot as usize] = Place {
            list,
            position: entries.len() as u32,
        };
        entries.push(entry);
    }

    /// Notes that `list` has become empty.
    fn vacate(&mut self, list: u32) {
        trim(&mut self.lists[list as usize].entries);
        if list == CURRENT {
            return;
        }
        let level = list / LISTS_PER_LEVEL;
        let occupied = &mut self.occupied[level as usize];
        *occupied &= !(1 << (list % LISTS_PER_LEVEL));
        if *occupied == 0 {
            self.levels &= !(1 << level);
        }
    }

    /// Index of the first list of `level` after `now` that has entries.
    fn first_index(&self, level: u32, now: u64) -> Option<u64> {
        let index = now >> shift(level);
        let ahead = self.occupied[level as usize].rotate_right(index as u32 % LISTS_PER_LEVEL);
        (ahead != 0).then(|| index + u64::from(ahead.trailing_zeros()))
    }

    /// Accounts for `count` timers that are no longer pending, and gives back what `places` needed
    /// for them.
    fn removed(&mut self, count: usize) {
        self.len -= count;
        self.debt = self.debt.saturating_sub(count * REPAY);
        if self.debt > 0 {
            return;
        }
        // Whatever is popped here has been pushed before: over time this costs nothing.
        while self
            .places
            .pop_if(|place| place.list == NOWHERE.list)
            .is_some()
        {}
        let wanted = self.places.len().max(KEEP_PLACES);
        if self.places.capacity() > 4 * wanted {
            self.places.shrink_to(2 * wanted);
        }
    }
}

/// Gives back most of what a list no longer needs.
fn trim(entries: &mut Vec<Entry>) {
    let wanted = entries.len().max(KEEP_ENTRIES);
    if entries.capacity() > 2 * wanted {
        entries.shrink_to(wanted + wanted / 4);
    }
}

/// Nanoseconds in one list of `level`, as a power of two.
fn shift(level: u32) -> u32 {
    TICK_BITS + STEP_BITS * level
}

/// The list of `level` for an index.
fn list_at(level: u32, index: u64) -> u32 {
    level * LISTS_PER_LEVEL + index as u32 % LISTS_PER_LEVEL
}

/// The instant at which a list has to be drained: at level 0 when its time comes, above when the
/// level below reaches it.
fn attention(level: u32, index: u64) -> u64 {
    let ahead = if level == 0 { 0 } else { REACH - 1 };
    (index - ahead) << shift(level)
}

/// Level and index of `deadline`; none: it belongs to CURRENT.
fn position(now: u64, deadline: u64) -> Option<(u32, u64)> {
    let ticks = (deadline >> TICK_BITS).saturating_sub(now >> TICK_BITS);
    if ticks == 0 {
        return None;
    }
    // The lowest level with `ticks < REACH << (STEP_BITS * (level + 1))`, which is where it
    // belongs, unless the end of that level's reach, which is rounded down to a list of the
    // level above, has come in between.
    let bits = u64::BITS - ticks.leading_zeros();
    let level = bits.saturating_sub(LIST_BITS).div_ceil(STEP_BITS);
    let above = shift(level + 1);
    let reached = above >= u64::BITS || (deadline >> above) - (now >> above) < REACH;
    let level = level + u32::from(!reached);
    Some((level, deadline >> shift(level)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SECOND: u64 = 1_000_000_000;

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, limit: u64) -> u64 {
            self.next() % limit
        }

        /// Evenly distributed in its number of bits, at most `bits`; often round, so that it
        /// collides.
        fn duration(&mut self, bits: u64) -> u64 {
            let value = self.next() >> (64 - 1 - self.below(bits));
            if self.below(2) == 0 {
                value
            } else {
                value & (u64::MAX << self.below(bits))
            }
        }
    }

    /// What `Wheel` has to do, done obviously: timers by deadline and age.
    #[derive(Default)]
    struct Model {
        pending: BTreeMap<(u64, u64), Slot>,
        by_slot: BTreeMap<Slot, (u64, u64)>,
        births: u64,
    }

    impl Model {
        fn insert(&mut self, slot: Slot, deadline: u64) {
            self.births += 1;
            self.pending.insert((deadline, self.births), slot);
            self.by_slot.insert(slot, (deadline, self.births));
        }

        fn cancel(&mut self, slot: Slot) {
            if let Some(key) = self.by_slot.remove(&slot) {
                self.pending.remove(&key);
            }
        }

        fn expire(&mut self, now: u64) -> Vec<Slot> {
            let mut fired = Vec::new();
            while let Some(entry) = self
                .pending
                .first_entry()
                .filter(|entry| entry.key().0 <= now)
            {
                fired.push(entry.remove());
            }
            for slot in &fired {
                self.by_slot.remove(slot);
            }
            fired
        }

        fn earliest(&self) -> Option<u64> {
            self.pending.first_key_value().map(|(key, _)| key.0)
        }
    }

    fn expire(timers: &mut Wheel, now: u64) -> Vec<Slot> {
        let mut fired = Vec::new();
        timers.expire(now, |slot| fired.push(slot));
        fired
    }

    /// The invariants of the file's head.
    fn check(timers: &Wheel) {
        let mut pending = 0;
        for (list, List { entries, holes }) in timers.lists.iter().enumerate() {
            let list = list as u32;
            let timers_here = entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.slot != HOLE);
            for (at, entry) in timers_here.clone() {
                let place = timers.places[entry.slot as usize];
                assert_eq!((place.list, place.position), (list, at as u32));
                let position = position(timers.now, entry.deadline);
                assert_eq!(
                    position.map_or(CURRENT, |(level, index)| list_at(level, index)),
                    list
                );
                assert!(position.is_none_or(|(level, _)| level < LEVELS));
                let due = position.map_or(entry.deadline, |(level, index)| attention(level, index));
                assert!(timers.attention <= due, "a list would be missed");
            }
            assert_eq!(entries.len() - timers_here.clone().count(), *holes);
            assert!(entries.last().is_none_or(|entry| entry.slot != HOLE));
            if list != CURRENT {
                let (level, bit) = ((list / LISTS_PER_LEVEL) as usize, list % LISTS_PER_LEVEL);
                assert_eq!(timers.occupied[level] >> bit & 1 == 1, !entries.is_empty());
            }
            pending += timers_here.count();
        }
        for (level, occupied) in timers.occupied.iter().enumerate() {
            assert_eq!(timers.levels >> level & 1 == 1, *occupied != 0);
        }
        assert_eq!(timers.len(), pending);
        assert_eq!(
            timers
                .places
                .iter()
                .filter(|place| place.list != NOWHERE.list)
                .count(),
            pending
        );
    }

    /// `slots` decides how full it is, `bits` how far apart deadlines are.
    fn compare_with_model(seed: u64, slots: u64, bits: u64, steps: usize) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (mut timers, mut model, mut now) = (Wheel::new(), Model::default(), 0u64);
        for step in 0..steps {
            let slot = random.below(slots) as Slot;
            match random.below(16) {
                0..=8 => {
                    timers.cancel(slot);
                    model.cancel(slot);
                    let deadline = match random.below(16) {
                        0 => u64::MAX - random.below(2),
                        1 => now.saturating_sub(random.duration(bits)),
                        // A deadline that is taken already: a tie, perhaps of timers inserted long
                        // after one another.
                        2..=6 => match model.by_slot.range(slot..).next() {
                            Some((_, key)) => key.0,
                            None => model.earliest().unwrap_or(now),
                        },
                        _ => now.saturating_add(random.duration(bits)),
                    };
                    timers.insert(slot, deadline);
                    model.insert(slot, deadline);
                }
                9..=11 => {
                    timers.cancel(slot);
                    model.cancel(slot);
                }
                kind => {
                    let last = now;
                    now = match (kind, timers.next_deadline()) {
                        (12 | 13, Some(next)) if random.below(8) > 0 => now.max(next),
                        (14, _) => now,
                        _ => now.saturating_add(random.duration(bits.min(50))),
                    };
                    // Time must last for the whole test.
                    if now >= u64::MAX / 2 && step < steps * 9 / 10 {
                        now = last;
                    }
                    assert_eq!(
                        expire(&mut timers, now),
                        model.expire(now),
                        "seed {seed}, step {step}"
                    );
                }
            }
            assert_eq!(timers.len(), model.pending.len());
            match (timers.next_deadline(), model.earliest()) {
                (Some(next), Some(earliest)) => {
                    assert!(
                        next <= earliest,
                        "seed {seed}, step {step}: would oversleep"
                    );
                    assert!(
                        next == earliest || next > now,
                        "seed {seed}, step {step}: would spin"
                    );
                }
                (next, earliest) => assert_eq!(next, earliest),
            }
            if step % 64 == 0 {
                check(&timers);
            }
        }
        // Sleeping until the next deadline must fire everything, in a bounded number of wake-ups
        // for nothing.
        let mut idle = 0;
        while let Some(next) = timers.next_deadline() {
            now = now.max(next);
            let fired = expire(&mut timers, now);
            assert_eq!(fired, model.expire(now), "seed {seed}, at the end");
            idle = if fired.is_empty() { idle + 1 } else { 0 };
            assert!(idle <= LEVELS, "seed {seed}: no progress");
        }
        assert!(model.pending.is_empty() && timers.is_empty());
        check(&timers);
    }

    #[test]
    fn does_what_the_model_does() {
        for seed in 0..60 {
            for (slots, bits) in [
                (1, 60),
                (8, 12),
                (50, 30),
                (300, 42),
                (300, 63),
                (3000, 20),
                (3000, 36),
            ] {
                compare_with_model(seed, slots, bits, 3000);
            }
        }
    }

    #[test]
    fn ties_fire_in_order_of_insertion_however_long_apart_they_were_inserted() {
        let (mut timers, deadline) = (Wheel::new(), 3600 * SECOND);
        let mut slots: Vec<Slot> = (0..20_000).map(|slot| slot * 7919 % 20_011).collect();
        for (nth, &slot) in slots.iter().enumerate() {
            // Come ever closer, so that the later ones start at lower levels.
            let now = deadline - (deadline as f64 * 0.999_f64.powi(nth as i32)) as u64;
            assert!(expire(&mut timers, now.min(deadline - 1)).is_empty());
            timers.insert(slot, deadline);
        }
        slots.retain(|&slot| slot % 3 != 0);
        (0..20_011)
            .filter(|slot| slot % 3 == 0)
            .for_each(|slot| timers.cancel(slot));
        assert_eq!(expire(&mut timers, deadline), slots);
    }

    #[test]
    fn ties_among_many_that_fire_together_are_in_order_of_insertion() {
        let (mut timers, mut model, mut random) = (Wheel::new(), Model::default(), Random(5));
        for slot in 0..5000 {
            let deadline = 3600 * SECOND + random.below(50);
            timers.insert(slot, deadline);
            model.insert(slot, deadline);
        }
        assert_eq!(
            expire(&mut timers, 3601 * SECOND),
            model.expire(3601 * SECOND)
        );
    }

    #[test]
    fn overdue_timers_fire_in_order_too_and_at_once() {
        let mut timers = Wheel::new();
        assert!(expire(&mut timers, SECOND).is_empty());
        for (slot, deadline) in [
            (0, SECOND),
            (1, 7),
            (2, SECOND - 1),
            (3, 7),
            (4, SECOND + 1),
            (5, 0),
        ] {
            timers.insert(slot, deadline);
        }
        assert_eq!(timers.next_deadline(), Some(0));
        assert_eq!(expire(&mut timers, SECOND), [5, 1, 3, 2, 0]);
        assert_eq!(timers.next_deadline(), Some(SECOND + 1));
        assert_eq!(expire(&mut timers, SECOND + 1), [4]);
    }

    #[test]
    fn a_few_timers_are_never_woken_for_nothing() {
        for bits in 0..64 {
            let mut timers = Wheel::new();
            let base = (1u64 << bits) - 1;
            expire(&mut timers, base / 3);
            // An earlier one that is cancelled again must not wake anyone either.
            let few = SCAN_LIMIT as Slot - 2;
            timers.insert(few, base.saturating_sub(1));
            (0..few).for_each(|slot| timers.insert(slot, base + u64::from(slot % 2)));
            timers.cancel(few);
            assert_eq!(timers.next_deadline(), Some(base));
            assert!(base == 0 || expire(&mut timers, base - 1).is_empty());
            assert_eq!(expire(&mut timers, base).len(), few as usize / 2);
            assert_eq!(timers.next_deadline(), Some(base + 1));
        }
    }

    #[test]
    fn time_outs_that_are_cancelled_leave_nothing_behind() {
        let (mut timers, mut random, mut now) = (Wheel::new(), Random(42), 0);
        (0..10_000).for_each(|slot| timers.insert(slot, 30 * SECOND));
        let mut most = 0;
        for round in 0..2_000_000 {
            now += 10_000;
            let slot = random.below(10_000) as Slot;
            timers.cancel(slot);
            timers.insert(slot, now + 30 * SECOND);
            expire(&mut timers, now);
            if round % 10_000 == 0 {
                check(&timers);
                most = most.max(
                    timers
                        .lists
                        .iter()
                        .map(|list| list.entries.capacity())
                        .sum(),
                );
            }
        }
        assert_eq!(timers.len(), 10_000);
        assert!(most < 30_000, "room for {most} entries");
    }

    #[test]
    fn a_burst_gives_its_memory_back() {
        let cancel = |timers: &mut Wheel| (0..200_000).for_each(|slot| timers.cancel(slot));
        let fire = |timers: &mut Wheel| assert_eq!(expire(timers, 2 * SECOND).len(), 200_000);
        for end in [&cancel as &dyn Fn(&mut Wheel), &fire] {
            for same in [false, true] {
                let (mut timers, mut random) = (Wheel::new(), Random(7));
                for slot in 0..200_000 {
                    timers.insert(
                        slot,
                        if same {
                            SECOND
                        } else {
                            1 + random.below(SECOND)
                        },
                    );
                }
                end(&mut timers);
                check(&timers);
                let entries: usize = timers
                    .lists
                    .iter()
                    .map(|list| list.entries.capacity())
                    .sum();
                assert!(
                    entries <= timers.lists.len() * 2 * KEEP_ENTRIES,
                    "room for {entries} entries"
                );
                assert!(timers.places.capacity() <= 4 * KEEP_PLACES);
            }
        }
    }

    #[test]
    fn a_lone_timer_of_a_high_slot_does_not_resize_every_time() {
        let (mut timers, mut resized) = (Wheel::new(), 0);
        for _ in 0..100_000 {
            let before = timers.places.len();
            timers.insert(99_999, SECOND);
            resized += u32::from(timers.places.len() != before);
            timers.cancel(99_999);
        }
        assert!(resized <= 4, "resized {resized} times");
    }
}
