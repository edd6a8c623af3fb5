//! The claim word: how a wait ends exactly once (law 1).
//!
//! Every thread that can wait, green or OS, has one [`Claim`]. A wait is one *epoch* of it. Whoever
//! wants to end the wait (a waker, a deadline, a cancellation) must win one compare-exchange on the
//! word; the loser has done nothing.
//!
//! ```text
//!   word = epoch << 3 | state
//!
//!               begin(): owner only                  end(epoch, wake): anyone, one winner
//!   RUNNING(e) ---------------------> WAITING(e+1) -------------------------------------> ENDED(e+1, wake)
//!                                                                                              |
//!        WAITING(e+2) <-------------------------------- begin(): owner only -------------------+
//! ```
//!
//! A waker that comes late holds an old epoch and loses, even if the thread waits again by then: a
//! waiter that was left behind in some list cannot end a later wait. The epoch has 61 bits: at one
//! wait per nanosecond it wraps after 73 years.
//!
//! Orderings: the winner's compare-exchange releases what it did before it woke us, and `outcome`
//! acquires it. `begin` releases too, but nobody learns of an epoch except through a lock or on the
//! same OS thread.

use crate::atomic::{AtomicU64, Ordering};

const STATE_BITS: u32 = 3;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
const RUNNING: u64 = 0;
const WAITING: u64 = 1;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wake {
    /// Somebody woke us: look again at what we waited for.
    Woken = 2,
    /// The deadline came first.
    TimedOut = 3,
    /// The green thread is to be cancelled.
    Cancelled = 4,
}

/// Which of a thread's waits is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Epoch(u64);

impl Epoch {
    /// No wait: the first is number one.
    pub(crate) const NONE: Epoch = Epoch(0);
}

/// One thread's claim word; see the module.
#[derive(Debug)]
pub(crate) struct Claim(AtomicU64);

impl Claim {
    pub(crate) fn new() -> Claim {
        Claim(AtomicU64::new(RUNNING))
    }

    /// Opens a wait. Only the thread that owns the word may call this.
    pub(crate) fn begin(&self) -> Epoch {
        let epoch = (self.0.load(Ordering::Relaxed) >> STATE_BITS) + 1;
        self.0
            .store(epoch << STATE_BITS | WAITING, Ordering::Release);
        Epoch(epoch)
    }

    /// Whether a wait is open.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STATE_MASK == WAITING
    }

    /// Ends the wait `epoch`; `false` if it has ended already.
    pub(crate) fn end(&self, epoch: Epoch, wake: Wake) -> bool {
        let waiting = epoch.0 << STATE_BITS | WAITING;
        let ended = epoch.0 << STATE_BITS | wake as u64;
        self.0
            .compare_exchange(waiting, ended, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether the wait `epoch` has not ended. It may end at any time.
    pub(crate) fn is_open(&self, epoch: Epoch) -> bool {
        self.0.load(Ordering::Relaxed) == epoch.0 << STATE_BITS | WAITING
    }

    /// Ends whatever wait is open; `false` if none is. For the home worker, between resumes: nobody
    /// can begin one meanwhile.
    pub(crate) fn end_current(&self, wake: Wake) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & STATE_MASK == WAITING && self.end(Epoch(word >> STATE_BITS), wake)
    }

    /// Returns how the last wait ended, or `None` while it is still open.
    pub(crate) fn outcome(&self) -> Option<Wake> {
        match self.0.load(Ordering::Acquire) & STATE_MASK {
            2 => Some(Wake::Woken),
            3 => Some(Wake::TimedOut),
            4 => Some(Wake::Cancelled),
            _ => None,
        }
    }
}

/// The token of `park` and `unpark`: at most one, kept until somebody parks.
///
/// ```text
///   EMPTY --- unpark ---> NOTIFIED --- park: returns at once ---> EMPTY
///   EMPTY --- park ---> the epoch of that wait --- unpark: ends it ---> NOTIFIED --- park returns ---> EMPTY
/// ```
#[derive(Debug)]
pub(crate) struct Token(AtomicU64);

impl Token {
    const EMPTY: u64 = 0;
    const NOTIFIED: u64 = 1;

    pub(crate) fn new() -> Token {
        Token(AtomicU64::new(Token::EMPTY))
    }

    /// Owner only: announces the wait `epoch`. `false`, and the token is taken, if there was one.
    pub(crate) fn announce(&self, epoch: Epoch) -> bool {
        let parked = Token::announced(epoch);
        let empty = self
            .0
            .compare_exchange(Token::EMPTY, parked, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !empty {
            self.take();
        }
        empty
    }

    /// Owner only: takes the token, or the announcement back.
    pub(crate) fn take(&self) {
        self.0.swap(Token::EMPTY, Ordering::AcqRel);
    }

    /// Owner only: takes back that `epoch` was announced. A token that has been left meanwhile
    /// stays: who was cancelled has not parked.
    pub(crate) fn withdraw(&self, epoch: Epoch) {
        let _ = self.0.compare_exchange(
            Token::announced(epoch),
            Token::EMPTY,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    fn announced(epoch: Epoch) -> u64 {
        epoch.0 << STATE_BITS | WAITING << 1
    }

    /// Leaves a token; returns the wait that is to be ended, if one was announced.
    pub(crate) fn leave(&self) -> Option<Epoch> {
        let before = self.0.swap(Token::NOTIFIED, Ordering::AcqRel);
        (before > Token::NOTIFIED).then_some(Epoch(before >> STATE_BITS))
    }
}

impl Default for Token {
    fn default() -> Token {
        Token::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_once_and_the_first_decides() {
        let claim = Claim::new();
        let epoch = claim.begin();
        assert_eq!(claim.outcome(), None);
        assert!(claim.end(epoch, Wake::TimedOut));
        assert!(!claim.end(epoch, Wake::Woken));
        assert!(!claim.end_current(Wake::Cancelled));
        assert_eq!(claim.outcome(), Some(Wake::TimedOut));
    }

    #[test]
    fn a_late_waker_cannot_end_the_next_wait() {
        let claim = Claim::new();
        let first = claim.begin();
        assert!(claim.end(first, Wake::TimedOut));
        let second = claim.begin();
        assert!(!claim.end(first, Wake::Woken));
        assert_eq!(claim.outcome(), None);
        assert!(claim.end(second, Wake::Woken));
    }

    #[test]
    fn of_many_racing_enders_one_wins() {
        for _ in 0..200 {
            let claim = &Claim::new();
            let epoch = claim.begin();
            let won: usize = std::thread::scope(|s| {
                let racers: Vec<_> = [Wake::Woken, Wake::TimedOut, Wake::Cancelled]
                    .map(|wake| s.spawn(move || usize::from(claim.end(epoch, wake))))
                    .into();
                racers
                    .into_iter()
                    .map(|r| r.join().expect("no panic"))
                    .sum()
            });
            assert_eq!(won, 1);
        }
    }
}
