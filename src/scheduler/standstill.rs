//! [`Standstill`]: how the workers of a runtime find out that none of them will ever run anything again.
//!
//! A worker that goes to sleep with no deadline, and without a descriptor that anybody waits for,
//! can only be woken by somebody else. It enters. Until it leaves it wakes nobody, so when the last
//! one has entered, nobody in the runtime will:
//!
//! ```text
//!   the last worker                                another worker
//!   1 enter: it is the last                        1 enter
//!   2 look for mail, for unstarted threads,        2 wait
//!     for other OS threads                         3 leave
//!   3 has anybody left since 1? If not: found      4 look for mail, for unstarted threads; run them
//! ```
//!
//! What others have for a worker was put down before they entered, so it lies there at step 1.
//! Either the worker has not taken it by step 2, and that sees it; or it has left before, and step
//! 3 sees that. `examples/with-crates/tests/loom.rs` tries all interleavings.
//!
//! It is found once: who has entered is told when it leaves.

use crate::atomic::{AtomicU64, Ordering};

/// Who is inside: half of the word counts them, half of it those who have left; and whether it has
/// been found.
#[derive(Debug, Default)]
pub(crate) struct Standstill(AtomicU64);

const COUNT: u64 = FOUND - 1;
const FOUND: u64 = 1 << 31;
const LEFT: u64 = 1 << 32;

/// What the last one has seen as it entered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suspicion(u64);

impl Standstill {
    /// A worker is about to wait for others alone, and has looked at its inbox after it had
    /// announced its sleep. Returns whether it is the last of so many: then it must look at
    /// everything again and [`confirm`](Standstill::confirm), or wait.
    pub(crate) fn enter(&self, workers: usize) -> Option<Suspicion> {
        let word = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        let is_last = word & COUNT == workers as u64 && word & FOUND == 0;
        is_last.then_some(Suspicion(word))
    }

    /// There is nothing to run, and nobody else. `true` if nobody has left meanwhile either: then
    /// everything stands still for ever.
    pub(crate) fn confirm(&self, suspicion: Suspicion) -> bool {
        let Suspicion(word) = suspicion;
        self.0
            .compare_exchange(word, word | FOUND, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// A worker that has entered is going to look for something to run. Returns whether it is known
    /// that there is nothing.
    pub(crate) fn leave(&self) -> bool {
        // One more has left, one fewer is inside; and the count of those who have left may
        // overflow.
        self.0.fetch_add(LEFT - 1, Ordering::AcqRel) & FOUND != 0
    }

    /// Whether it has ever been found.
    pub(crate) fn is_found(&self) -> bool {
        self.0.load(Ordering::Relaxed) & FOUND != 0
    }
}
