//! [`race`]: the first to finish wins.
//!
//! What the winner returns cannot refer to what is gone:
//! ```compile_fail,E0597
//! let winner = {
//!     let local = 7;
//!     hebra::thread::race([|| &local])
//! };
//! winner.unwrap();
//! ```

use std::panic::Location;
use std::sync::Arc;

use super::cancel::Cancelled;
use super::family::{Family, spawn_borrowing};
use super::join::conclude;
use super::{Builder, Result};
use crate::lock::Lock;
use crate::park;
use crate::scheduler::task::Start;
use crate::unwinding::discard;

/// Runs each of `contenders` on a green thread of its own and returns the result of the first to
/// finish; the others are cancelled and waited for. They may borrow, as the threads of a
/// [`scope`](fn@super::scope) do.
///
/// ```
/// use std::time::Duration;
/// use hebra::thread;
///
/// hebra::run(|| {
///     let replicas = [Duration::from_secs(3600), Duration::from_millis(1)];
///     let winner = thread::race(replicas.iter().map(|latency| move || {
///         thread::sleep(*latency);
///         latency
///     }));
///     assert_eq!(winner.unwrap(), &Duration::from_millis(1));
/// });
/// ```
///
/// # Cancellation
/// Parks the current thread; this is a cancel point. Then all are cancelled and waited for, and
/// unless one had finished the cancellation continues.
///
/// # Errors
/// The first to finish panicked: the payload. Or all were cancelled without a winner, as their
/// runtime ended.
///
/// # Panics
/// Panics if there are no contenders; and as [`spawn`](super::spawn).
#[track_caller]
pub fn race<F, T>(contenders: impl IntoIterator<Item = F>) -> Result<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    park::charge_or_yield();
    let at = Location::caller();
    let race = Race {
        family: Arc::default(),
        winner: Arc::new(Lock::new(None)),
        at,
    };
    let mut contenders = contenders.into_iter().peekable();
    assert!(contenders.peek().is_some(), "a race needs a contender");
    for contender in contenders {
        race.enter(contender);
    }
    race.family.wait(at);
    let winner = race.winner.lock().take();
    winner.unwrap_or_else(|| {
        park::cancel_point();
        Err(Box::new(Cancelled::at(None)))
    })
}

/// Dropped it cancels whoever has not finished, and waits: also if an iterator of contenders
/// panics.
struct Race<T> {
    family: Arc<Family>,
    winner: Arc<Lock<Option<Result<T>>>>,
    at: &'static Location<'static>,
}

impl<T: Send> Race<T> {
    #[track_caller]
    fn enter<F: FnOnce() -> T + Send>(&self, contender: F) {
        let (winner, family, at) = (self.winner.clone(), self.family.clone(), self.at);
        let body = move |start: Start| {
            let result = conclude(start, contender);
            let loses = result
                .as_ref()
                .is_err_and(|payload| payload.is::<Cancelled>());
            let mut first = winner.lock();
            if first.is_none() && !loses {
                *first = Some(result);
                drop(first);
                family.cancel(at);
            } else {
                drop(first);
                discard(result);
            }
            discard(winner);
        };
        // SAFETY: the destructor of the race waits until the family is empty, and what `F` and `T`
        // borrow outlives the race.
        let spawned = unsafe { spawn_borrowing(&self.family, Builder::new(), at, body) };
        spawned.expect("failed to spawn a green thread");
    }
}

impl<T> Drop for Race<T> {
    fn drop(&mut self) {
        self.family.cancel(self.at);
        self.family.wait(self.at);
    }
}
