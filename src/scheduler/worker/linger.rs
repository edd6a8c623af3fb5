//! [`Linger`]: whether a worker that has nothing to run looks out for mail for a while before it sleeps, and for how long.
//!
//! To wake a processor that sleeps takes tens of microseconds, and whoever sends the mail pays a
//! system call for it. Between green threads of two workers that wait for each other in turn that
//! would be all the time there is. So a worker whose last idle time was short, and ended
//! by mail, stays awake for about as long as that journey takes (which costs twice the better
//! choice at most). Each time that was in vain, it is half as long the next time; where mail comes
//! late, or never, it sleeps at once.
//!
//! Go's idle threads look around for work in the same way before they sleep.

use crate::scheduler::clock::Nanos;

/// How long a worker looks out at most.
const MOST: Nanos = 32_000;
/// How long at least, if it does at all.
const LEAST: Nanos = 1_000;
/// Mail that came sooner than this after the worker had become idle would perhaps have come to one
/// that looked out.
const SOON: Nanos = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Linger {
    time: Nanos,
    /// Whether the last idle time was short, and ended by mail.
    expects_mail: bool,
}

impl Linger {
    pub(super) fn new() -> Linger {
        Linger {
            time: MOST,
            expects_mail: false,
        }
    }

    /// How long to look out for mail now; `None`: sleep at once.
    pub(super) fn time(&self) -> Option<Nanos> {
        self.expects_mail.then_some(self.time)
    }

    /// Notes how an attempt has ended.
    pub(super) fn note_attempt(&mut self, came: bool) {
        self.time = if came {
            MOST
        } else {
            (self.time / 2).max(LEAST)
        };
    }

    /// Notes how long the worker has been idle, and whether it was mail that has ended that.
    pub(super) fn note_idle(&mut self, idle: Nanos, by_mail: bool) {
        self.expects_mail = by_mail && idle <= SOON;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_looks_out_where_mail_has_come_soon() {
        let mut linger = Linger::new();
        assert_eq!(linger.time(), None, "nothing is known");
        linger.note_idle(SOON + 1, true);
        assert_eq!(linger.time(), None, "it came late");
        linger.note_idle(SOON, false);
        assert_eq!(linger.time(), None, "it was something else that came");
        linger.note_idle(SOON, true);
        assert_eq!(linger.time(), Some(MOST));
    }

    #[test]
    fn in_vain_it_looks_out_for_half_as_long_the_next_time() {
        let mut linger = Linger::new();
        let mut times = Vec::new();
        for _ in 0..8 {
            linger.note_attempt(false);
            linger.note_idle(SOON, true);
            times.extend(linger.time());
        }
        assert_eq!(
            times,
            [16_000, 8_000, 4_000, 2_000, 1_000, 1_000, 1_000, 1_000]
        );
        linger.note_attempt(true);
        assert_eq!(linger.time(), Some(MOST));
    }
}
