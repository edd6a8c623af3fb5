//! Gives back the dead pages of green threads that have been parked for long.
//!
//! A thread that once went deep keeps the pages that it touched, however shallow it parks now. What
//! lies below the point where it has parked is dead, and nobody misses it: it reads as zero when
//! the thread goes deep again.
//!
//! ```text
//!   somebody has run ---> due in AFTER ---> sweep the table, a few slots at a time ---> done; due again when somebody has run,
//!                                           or when some had not been parked for long enough
//! ```
//!
//! So an idle process wakes once for it and sleeps on, and a busy one spends no more than one part
//! in a hundred on it.

use super::clock::Nanos;
use super::task::{Reason, TaskRef};
use crate::stack;

/// How long a thread must have been parked.
const AFTER: Nanos = 1_000_000_000;
/// The least time from sweep to sweep for each slot of the table: about a hundred times what a look
/// at it costs.
const PACE: Nanos = 10_000;
/// Slots looked at at a time; as many pages' worth of system call as the kernel takes in one piece.
const BATCH: usize = 64;

/// How far the sweep of one worker's table has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The next slot to look at.
    hand: usize,
    due: Option<Nanos>,
    /// Some were passed over that had not been parked for long enough.
    again: bool,
    /// Somebody has run since the sweep began.
    active: bool,
}

impl Sweep {
    /// When there is something to do, if there is.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.due
    }

    /// Notes that a green thread has run.
    #[inline]
    pub(super) fn set_active(&mut self) {
        self.active = true;
    }

    /// Sets the time of the next sweep, if somebody has run and none is set.
    pub(super) fn arm(&mut self, now: Nanos, slots: usize) {
        if self.active && self.due.is_none() {
            self.active = false;
            self.due = Some(now.saturating_add(AFTER.max(PACE.saturating_mul(slots as Nanos))));
        }
    }

    /// Goes on with the sweep, if it is due, over a table of so many slots.
    pub(super) fn run<'a>(
        &mut self,
        now: Nanos,
        slots: usize,
        task: impl Fn(usize) -> Option<&'a TaskRef>,
    ) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let end = slots.min(self.hand + BATCH);
        let mut dead = Vec::new();
        for task in (self.hand..end).filter_map(task) {
            if task.reason() == Reason::Running || task.is_swept() {
                continue;
            }
            if now.saturating_sub(task.since()) < AFTER {
                self.again = true;
                continue;
            }
            task.set_swept();
            // SAFETY: the thread is parked, and is resumed on this OS thread only (law 2): not
            // before this function returns.
            dead.extend(unsafe { stack::dead_below(task.stack_end()) });
        }
        stack::discard(&dead);
        self.hand = end;
        if end == slots {
            self.hand = 0;
            self.due = None;
            self.active |= std::mem::take(&mut self.again);
        }
    }
}
