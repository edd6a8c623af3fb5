//! One worker's pending deadlines.
//!
//! Most deadlines never come: a read that may take ten seconds takes a millisecond, and the next
//! one may take ten seconds again. So to cancel a deadline, or to set it anew and later, leaves the
//! thread's timer in the wheel as it is. It goes off early, and is then forgotten or put where the
//! deadline is by now:
//!
//! ```text
//!   insert 10   wheel: 10      cancel    wheel: 10 (nobody waits)     insert 13   wheel: 10     at 10: the timer moves to 13
//! ```
//!
//! 1. A slot has at most one timer in the wheel, and that goes off no later than the slot's
//!    deadline.
//! 2. `pending` counts the slots that have a deadline. With none, nobody waits for the clock,
//!    whatever the wheel still holds.
//!
//! A reader with a time-out saves two lists of the wheel, which are in no near cache, for each
//! read. The price: a worker that is idle may be woken for nothing, once in a while as long as the
//! time-out. In a simulation the clock must not stop where nobody waits, so there timers are
//! *exact*: a cancelled one leaves the wheel.
//!
//! That a timer is moved when it goes off is how BSD's and Linux's TCP have long kept their
//! retransmission timers.

mod wheel;

use self::wheel::Wheel;
use super::run_queue::Slot;

/// One worker's pending deadlines, in nanoseconds since its clock's base.
pub(crate) struct Timers {
    wheel: Wheel,
    /// By slot, as long as it had to be.
    alarms: Vec<Alarm>,
    /// Slots that have a deadline.
    pending: usize,
    /// Slots whose timers have gone off early: empty between two calls.
    early: Vec<Slot>,
    /// Whether a cancelled timer leaves the wheel at once.
    exact: bool,
}

/// The deadline and the timer of one slot.
#[derive(Clone, Copy)]
struct Alarm {
    deadline: u64,
    /// When the timer goes off that is in the wheel.
    timer: u64,
}

/// Instead of an instant: there is none.
const NONE: u64 = u64::MAX;

impl Timers {
    /// `exact`: no timer goes off for nothing.
    pub(crate) fn new(exact: bool) -> Timers {
        Timers {
            wheel: Wheel::new(),
            alarms: Vec::new(),
            pending: 0,
            early: Vec::new(),
            exact,
        }
    }

    /// Lets the first `expire` whose `now` is not before `deadline` fire `slot`. The deadline may
    /// have passed already.
    pub(crate) fn insert(&mut self, slot: Slot, deadline: u64) {
        let at = slot as usize;
        if at >= self.alarms.len() {
            self.alarms.resize(
                at + 1,
                Alarm {
                    deadline: NONE,
                    timer: NONE,
                },
            );
        }
        let alarm = &mut self.alarms[at];
        debug_assert_eq!(
            alarm.deadline, NONE,
            "slot {slot} has a deadline already: cancel it first"
        );
        // What is centuries away never comes, but somebody waits for it.
        alarm.deadline = deadline.min(NONE - 1);
        self.pending += 1;
        if alarm.timer > alarm.deadline {
            if alarm.timer != NONE {
                self.wheel.cancel(slot);
            }
            alarm.timer = alarm.deadline;
            self.wheel.insert(slot, alarm.deadline);
        }
    }

    /// Forgets the deadline of `slot`, if it has one.
    pub(crate) fn cancel(&mut self, slot: Slot) {
        let Some(alarm) = self.alarms.get_mut(slot as usize) else {
            return;
        };
        if alarm.deadline == NONE {
            return;
        }
        alarm.deadline = NONE;
        self.pending -= 1;
        if self.exact {
            alarm.timer = NONE;
            self.wheel.cancel(slot);
        }
    }

    /// An instant at which to expire: not after the earliest deadline, and mostly that. `None` if
    /// there is no deadline.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.pending > 0 {
            self.wheel.next_deadline()
        } else {
            None
        }
    }

    /// Fires every slot whose deadline is not after `now`, in order of the timers: of the
    /// deadlines, but where one was set anew, and in order of insertion where they are equal.
    /// `now` never goes back.
    pub(crate) fn expire(&mut self, now: u64, mut fire: impl FnMut(Slot)) {
        let Timers {
            wheel,
            alarms,
            pending,
            early,
            ..
        } = self;
        wheel.expire(now, |slot| {
            let alarm = &mut alarms[slot as usize];
            alarm.timer = NONE;
            if alarm.deadline <= now {
                alarm.deadline = NONE;
                *pending -= 1;
                fire(slot);
            } else if alarm.deadline != NONE {
                early.push(slot);
            }
        });
        for slot in early.drain(..) {
            let alarm = &mut alarms[slot as usize];
            alarm.timer = alarm.deadline;
            wheel.insert(slot, alarm.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn expire(timers: &mut Timers, now: u64) -> Vec<Slot> {
        let mut fired = Vec::new();
        timers.expire(now, |slot| fired.push(slot));
        fired
    }

    /// Marsaglia's xorshift.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn a_deadline_fires_once_when_it_has_come_and_never_after_it_was_cancelled() {
        for seed in 1..=200 {
            for exact in [false, true] {
                let (mut timers, mut model) = (Timers::new(exact), BTreeMap::new());
                let (mut state, mut now) = (0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed), 0);
                for step in 0..2_000 {
                    let slot = (random(&mut state) % 40) as Slot;
                    match random(&mut state) % 8 {
                        0..=4 => {
                            timers.cancel(slot);
                            let deadline =
                                now + random(&mut state) % (1 << (random(&mut state) % 30));
                            timers.insert(slot, deadline);
                            model.insert(slot, deadline);
                        }
                        5 => {
                            timers.cancel(slot);
                            model.remove(&slot);
                        }
                        _ => {
                            now += random(&mut state) % (1 << (random(&mut state) % 28));
                            let mut fired = expire(&mut timers, now);
                            fired.sort_unstable();
                            let due: Vec<Slot> = model
                                .iter()
                                .filter(|(_, deadline)| **deadline <= now)
                                .map(|(slot, _)| *slot)
                                .collect();
                            model.retain(|_, deadline| *deadline > now);
                            assert_eq!(fired, due, "seed {seed}, step {step}, exact {exact}");
                        }
                    }
                    assert_eq!(timers.pending, model.len());
                    let earliest = model.values().min().copied();
                    let next = timers.next_deadline();
                    assert_eq!(
                        next.is_some(),
                        earliest.is_some(),
                        "seed {seed}, step {step}: with no deadline there is nothing to wait for"
                    );
                    assert!(
                        next <= earliest,
                        "seed {seed}, step {step}: would oversleep"
                    );
                }
                // To sleep until it is said comes to the end.
                let mut idle = 0;
                while let Some(next) = timers.next_deadline() {
                    now = now.max(next);
                    idle = if expire(&mut timers, now).is_empty() {
                        idle + 1
                    } else {
                        0
                    };
                    assert!(idle < 200, "seed {seed}: no progress");
                }
            }
        }
    }

    #[test]
    fn a_time_out_that_is_set_again_and_again_leaves_its_timer_where_it_is() {
        let mut timers = Timers::new(false);
        for now in 0..1_000 {
            timers.insert(3, now + 1_000_000);
            assert!(expire(&mut timers, now).is_empty());
            timers.cancel(3);
        }
        assert_eq!(timers.wheel.next_deadline(), Some(1_000_000));
        timers.insert(3, 2_000_000);
        assert!(expire(&mut timers, 1_000_000).is_empty(), "early");
        assert_eq!(timers.next_deadline(), Some(2_000_000));
        assert_eq!(expire(&mut timers, 2_000_000), [3]);
    }

    #[test]
    fn exact_timers_never_go_off_for_nothing() {
        let mut timers = Timers::new(true);
        timers.insert(0, 500);
        timers.insert(1, 700_000);
        timers.cancel(0);
        assert_eq!(timers.next_deadline(), Some(700_000));
        assert_eq!(expire(&mut timers, 700_000), [1]);
    }
}
