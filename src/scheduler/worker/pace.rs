//! [`Pace`]: how fast deadlines pass, and how long the next one may wait for others because of that.
//!
//! A worker that has nothing to run sleeps until the next deadline. With thirty thousand sleepers
//! that is some thirty microseconds away, always, and to fall asleep and wake up takes longer than
//! to run whom it is for. So where deadlines pass faster than one thread could set them, the worker
//! sleeps a little longer, and serves several at a time. (An event loop of Python or tokio rounds
//! all deadlines up to a millisecond.)

use crate::scheduler::clock::Nanos;

/// What is counted over.
const WINDOW: Nanos = 1_000_000;
/// Passed in a window they are a crowd. One thread that sleeps again and again does not come to
/// that: each sleep takes it the fifty microseconds that Linux adds to everybody's, and the way
/// there and back.
const CROWD: u64 = 20;
/// How long a deadline waits for others in a crowd.
const SLACK: Nanos = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    began: Nanos,
    passed: u64,
    crowded: bool,
}

impl Pace {
    /// Notes that by `now` so many more deadlines have passed.
    #[inline]
    pub(super) fn note(&mut self, passed: u64, now: Nanos) {
        self.passed += passed;
        let window = now.saturating_sub(self.began);
        if window >= WINDOW {
            self.crowded = self.passed >= CROWD * (window / WINDOW);
            self.began = now;
            self.passed = 0;
        }
    }

    /// When a worker that sleeps from `now` on should wake for `deadline`.
    pub(super) fn wake_at(&self, deadline: Nanos, now: Nanos) -> Nanos {
        if self.crowded {
            deadline.max(now.saturating_add(SLACK))
        } else {
            deadline
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn the_deadlines_of_a_crowd_wait_for_each_other_and_no_others_do() {
        let mut pace = Pace::default();
        assert_eq!(pace.wake_at(7, 5), 7);
        (0..=100).for_each(|at| pace.note(1, at * MS / 50));
        assert_eq!(
            pace.wake_at(2 * MS + 7, 2 * MS),
            2 * MS + SLACK,
            "fifty a millisecond"
        );
        assert_eq!(
            pace.wake_at(3 * MS, 2 * MS),
            3 * MS,
            "there is nobody to wait for"
        );
        (101..=200).for_each(|at| pace.note(1, 2 * MS + (at - 100) * MS / 10));
        assert_eq!(
            pace.wake_at(12 * MS + 7, 12 * MS),
            12 * MS + 7,
            "ten a millisecond"
        );
    }

    #[test]
    fn a_pause_is_no_crowd() {
        let mut pace = Pace::default();
        (0..=100).for_each(|at| pace.note(1, at * MS / 50));
        pace.note(0, 100 * MS);
        assert_eq!(pace.wake_at(100 * MS + 7, 100 * MS), 100 * MS + 7);
    }

    #[test]
    fn whatever_passed_while_one_thread_computed_counts_by_the_time_that_took() {
        let mut pace = Pace::default();
        pace.note(CROWD, 10 * MS);
        assert_eq!(pace.wake_at(11 * MS, 11 * MS - 1), 11 * MS);
    }
}
