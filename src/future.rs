//! Futures, both ways: a thread waits for a future, and a future waits for a green thread.
//!
//! [`block_on`] is the first. The second is [`JoinHandle`](crate::thread::JoinHandle), which is a
//! future: an async program gets one from [`Handle::spawn`](crate::Handle::spawn), on a runtime of
//! green threads that it runs beside its own.
//!
//! # How a wake is never lost
//!
//! ```text
//!            the thread waits                    wake: anybody, any number of times
//!   Quiet ---------------------> Waiting(waiter) -----------------+
//!     |  \                                                        v
//!     |   +-------------------- wake -----------------------> Notified
//!     ^                                                           |
//!     +------------- the thread takes it, and polls again --------+
//! ```
//!
//! A wake between a poll and the wait finds `Quiet` and leaves `Notified`, and the thread does not
//! wait. One that comes while the thread polls is for the next poll. A waker that outlives the call
//! leaves a `Notified` that nobody takes.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::lock::Lock;
use crate::park::{self, Wait};
use crate::scheduler::claim;
use crate::scheduler::task::Reason;
use crate::scheduler::waiter::Waiter;
use crate::scheduler::worker;

/// Waits for `future` and returns its output. The thread that waits is the calling one, green or
/// OS, and needs no runtime.
///
/// It works with futures that bring their own source of wake-ups: channels, locks, timers and
/// sockets of any async library. What needs tokio's reactor or timers must be made, and polled,
/// inside its context: with [`inside`], which enters it for each poll; or be given to tokio with its
/// `Handle::spawn`, and its `JoinHandle` be awaited here. Do not hold the guard of `Handle::enter`
/// across the call: the context is a thread-local of tokio's that the green threads of a worker
/// share.
///
/// ```
/// let sum = hebra::run(|| {
///     let twice = |n: u32| async move { 2 * n };
///     hebra::future::block_on(async { twice(1).await + twice(20).await })
/// });
/// assert_eq!(sum, 42);
/// ```
///
/// A future that is always ready, or wakes itself, still lets the other green threads run.
///
/// # Cancellation
/// Parks the current thread; this is a cancel point, and the unwinding drops the future, on its own
/// thread. In a destructor of a thread that is being cancelled it waits all the same.
///
/// # Panics
/// Continues a panic of the future.
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let signal = Arc::new(Signal(Lock::new(State::Quiet)));
    let waker = Waker::from(signal.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future.into_future());
    park::charge_or_yield();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        signal.wait();
    }
}

/// Makes a future of `future` that calls `enter` before each poll, and drops what that has returned
/// after it: for futures that must be polled inside a context that a thread-local keeps.
///
/// A future that must be made inside of the context, too, is made in an `async` block. With tokio:
/// `inside(|| handle.enter(), async { tokio::time::sleep(duration).await })`.
///
/// ```
/// use hebra::future::{block_on, inside};
/// use std::cell::Cell;
///
/// thread_local! {
///     static CONTEXT: Cell<u32> = const { Cell::new(0) };
/// }
///
/// /// The context is entered as long as this lives.
/// struct Entered;
///
/// impl Drop for Entered {
///     fn drop(&mut self) {
///         CONTEXT.set(0);
///     }
/// }
///
/// fn enter() -> Entered {
///     CONTEXT.set(7);
///     Entered
/// }
///
/// hebra::run(|| {
///     assert_eq!(block_on(inside(enter, async { CONTEXT.get() })), 7);
///     assert_eq!(CONTEXT.get(), 0);
/// });
/// ```
pub async fn inside<G, F: IntoFuture>(mut enter: impl FnMut() -> G, future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    poll_fn(|context| {
        let _inside = enter();
        future.as_mut().poll(context)
    })
    .await
}

/// Whether a future wants to be polled; see the module.
struct Signal(Lock<State>);

enum State {
    Quiet,
    Waiting(Waiter),
    Notified,
}

impl Signal {
    /// Waits until it is notified, and takes that.
    fn wait(&self) {
        let mut waited = false;
        loop {
            if self.take() {
                // A future that wakes itself means to give way.
                if !waited && worker::is_green() {
                    park::pause();
                }
                return;
            }
            waited = true;
            park::park_insistently(Reason::Future, None, None, |wait: &Wait<'_>| {
                let mut state = self.0.lock();
                if let State::Notified = *state {
                    return None;
                }
                *state = State::Waiting(wait.waiter());
                Some(|_: &Wait<'_>| self.quiet())
            });
        }
    }

    fn take(&self) -> bool {
        let mut state = self.0.lock();
        let notified = matches!(*state, State::Notified);
        if notified {
            *state = State::Quiet;
        }
        notified
    }

    /// Takes the waiter back.
    fn quiet(&self) {
        let mut state = self.0.lock();
        if let State::Waiting(_) = *state {
            *state = State::Quiet;
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Signal>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Signal>) {
        let before = mem::replace(&mut *self.0.lock(), State::Notified);
        if let State::Waiting(waiter) = before {
            waiter.wake(claim::Wake::Woken);
        }
    }
}
