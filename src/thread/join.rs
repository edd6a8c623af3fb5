//! What a green thread leaves behind: its result, and who waits for it.
//!
//! [`Packet`] is the tail of a [`Task`]: the closure until it runs, an [`Outcome`] afterwards, in the one allocation of the record. A
//! thread that was spawned locally has a tail without contents, and shares its `Outcome` with its handle alone: neither its closure
//! nor its result need be `Send`, and whether the handle is follows from `T`.

use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use crate::lock::Lock;
use crate::park::{self, CancelUnwind, Wait};
use crate::report::say;
use crate::scheduler::claim::Wake;
use crate::scheduler::task::{Body, Reason, Start, Task, TaskRef};
use crate::scheduler::waiter::Waiter;
use crate::scheduler::worker;
use crate::thread::Thread;
use crate::thread::cancel::{Cancelled, is_cancellation};
use crate::unwinding::{discard, drop_quietly, message};

/// What joining a thread returns: `Err` with the payload if it panicked.
pub type Result<T> = std::thread::Result<T>;

const TAKEN: &str = "the handle of a green thread was joined or polled again after it had given the thread's result";

/// The result of a thread on its way to whoever joins it.
pub(super) struct Outcome<T>(Lock<State<T>>);

/// ```text
///   Pending -- join, poll ---> Awaited, Polled --- the body ends ---> Finished --- join, poll ---> Taken
///      |   +------------- the body ends --------------------------------^  |
///      +--- the handle is dropped ---> Detached                            +--- the handle is dropped ---> Taken
/// ```
enum State<T> {
    Pending,
    /// The one handle waits.
    Awaited(Waiter),
    /// The one handle is a future, and this wakes the task that has polled it last. User code: not to be used under the lock.
    Polled(Waker),
    Finished(Result<T>),
    /// The handle is gone, and the body has not ended: nobody will ask for the result.
    Detached,
    /// The result is gone, and so is the handle.
    Taken,
}

impl<T> Outcome<T> {
    pub(super) fn new() -> Outcome<T> {
        Outcome(Lock::new(State::Pending))
    }

    /// Keeps the result of the calling green thread for whoever joins.
    pub(super) fn put(&self, result: Result<T>) {
        let mut state = self.0.lock();
        match &*state {
            State::Pending | State::Awaited(_) | State::Polled(_) => {
                let before = mem::replace(&mut *state, State::Finished(result));
                drop(state);
                match before {
                    State::Awaited(waiter) => {
                        waiter.wake(Wake::Woken);
                    }
                    State::Polled(waker) => discard(panic::catch_unwind(AssertUnwindSafe(|| waker.wake()))),
                    _ => {}
                }
            }
            State::Detached => {
                drop(state);
                // Here, on the thread's own stack, where the destructor of the result may do as it likes.
                let who = worker::with(|_, task| task.to_string());
                report(who.as_deref().unwrap_or("green thread"), &result);
                discard(result);
            }
            State::Finished(_) | State::Taken => unreachable!("a body ends once"),
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(*self.0.lock(), State::Finished(_) | State::Taken)
    }

    /// Waits for the result of the thread with that id. Only the one handle may call this, once.
    pub(super) fn join(&self, id: &AtomicU64) -> Result<T> {
        loop {
            let mut state = self.0.lock();
            let before = match &*state {
                State::Finished(_) => mem::replace(&mut *state, State::Taken),
                State::Polled(_) => mem::replace(&mut *state, State::Pending),
                State::Taken => panic!("{TAKEN}"),
                _ => State::Pending,
            };
            drop(state);
            if let State::Finished(result) = before {
                return result;
            }
            park::park_insistently(Reason::Join, Some(id), None, |wait: &Wait<'_>| {
                let mut state = self.0.lock();
                if let State::Finished(_) = *state {
                    return None;
                }
                *state = State::Awaited(wait.waiter());
                Some(|_: &Wait<'_>| {
                    let mut state = self.0.lock();
                    if let State::Awaited(_) = *state {
                        *state = State::Pending;
                    }
                })
            });
        }
    }

    /// Returns the result if it is there, or has `context` woken when it is.
    fn poll(&self, context: &Context<'_>) -> Poll<Result<T>> {
        // Declared before the guard: it is dropped after it.
        let mut waker = None;
        loop {
            let mut state = self.0.lock();
            let before = match &*state {
                State::Finished(_) => mem::replace(&mut *state, State::Taken),
                State::Taken => panic!("{TAKEN}"),
                State::Polled(before) if before.will_wake(context.waker()) => return Poll::Pending,
                _ => match waker.take() {
                    Some(waker) => mem::replace(&mut *state, State::Polled(waker)),
                    None => {
                        drop(state);
                        waker = Some(context.waker().clone());
                        continue;
                    }
                },
            };
            drop(state);
            return match before {
                State::Finished(result) => Poll::Ready(result),
                _ => Poll::Pending,
            };
        }
    }

    /// Returns the result that nobody will ask for any more, if it is there already.
    fn detach(&self) -> Option<Result<T>> {
        let mut state = self.0.lock();
        let ended = matches!(*state, State::Finished(_) | State::Taken);
        let after = if ended { State::Taken } else { State::Detached };
        let before = mem::replace(&mut *state, after);
        drop(state);
        match before {
            State::Finished(result) => Some(result),
            _ => None,
        }
    }
}

/// Runs `f` as the body of the calling green thread, and returns its result as its joiner is to see it.
pub(super) fn conclude<T>(start: Start, f: impl FnOnce() -> T) -> Result<T> {
    let result = match start {
        Start::Run => panic::catch_unwind(AssertUnwindSafe(f)),
        // Its destructor may be at a cancel point, too.
        Start::Discard => drop_quietly(f).and(Err(Box::new(CancelUnwind::of_nothing()))),
        Start::NoStack(error) => drop_quietly(f).and(Err(Box::new(error))),
        // There is no such green thread; perhaps the caller is one.
        Start::Refused => return drop_quietly(f).and(Err(Box::new(Cancelled::at(None)))),
    };
    worker::destroy_locals();
    result.map_err(|payload| match is_cancellation(&*payload) {
        true => Box::new(Cancelled::at(worker::with(|_, task| task.cancelled_at()).flatten())) as _,
        false => payload,
    })
}

/// Tells of a panic that nobody will join: the hook has said where, this says in which green thread.
fn report<T>(who: &str, result: &Result<T>) {
    if let Err(payload) = result
        && !payload.is::<Cancelled>()
    {
        let report = format!("detached {who} panicked: {}", message(&**payload));
        say(format_args!("{report}"));
        worker::fail_simulation(&report);
    }
}

/// The tail of the record of a thread spawned with `spawn`.
pub(super) struct Packet<F, T> {
    closure: Lock<Option<F>>,
    outcome: Outcome<T>,
}

impl<F, T> Packet<F, T> {
    pub(super) fn new(closure: F) -> Packet<F, T> {
        Packet { closure: Lock::new(Some(closure)), outcome: Outcome::new() }
    }
}

impl<F: FnOnce() -> T + Send, T: Send> Body for Packet<F, T> {
    fn run(&self, start: Start) {
        let closure = self.closure.lock().take();
        self.outcome.put(conclude(start, closure.expect("a green thread runs once")));
    }
}

/// A [`Packet`], seen by who joins.
pub(super) trait Join<T>: Body {
    fn outcome(&self) -> &Outcome<T>;
}

impl<F: FnOnce() -> T + Send, T: Send> Join<T> for Packet<F, T> {
    fn outcome(&self) -> &Outcome<T> {
        &self.outcome
    }
}

/// Owns the right to wait for a green thread and take its result, as [`std::thread::JoinHandle`] does.
///
/// Dropping it detaches the thread: it runs on, and a panic in it is reported on standard error. Joining works from green threads
/// and from OS threads; and the handle is a future of what [`join`](JoinHandle::join) returns, for tasks of any async program.
///
/// ```
/// let sum = hebra::run(|| {
///     let handle = hebra::thread::spawn(|| 2 + 2);
///     handle.join().unwrap()
/// });
/// assert_eq!(sum, 4);
/// ```
pub struct JoinHandle<T>(Option<Joinable<T>>);

enum Joinable<T> {
    Shared(Arc<Task<dyn Join<T>>>),
    Local(TaskRef, Arc<Outcome<T>>),
}

impl<T> Joinable<T> {
    fn outcome(&self) -> &Outcome<T> {
        match self {
            Joinable::Shared(task) => task.body.outcome(),
            Joinable::Local(_, outcome) => outcome,
        }
    }

    /// The id of the thread, drawn.
    fn id(&self) -> &AtomicU64 {
        match self {
            Joinable::Shared(task) => task.id_word(),
            Joinable::Local(task, _) => task.id_word(),
        }
    }

    fn task(&self) -> TaskRef {
        match self {
            Joinable::Shared(task) => task.clone(),
            Joinable::Local(task, _) => task.clone(),
        }
    }
}

impl<T> JoinHandle<T> {
    pub(super) fn shared(task: Arc<Task<dyn Join<T>>>) -> JoinHandle<T> {
        JoinHandle(Some(Joinable::Shared(task)))
    }

    pub(super) fn local(task: TaskRef, outcome: Arc<Outcome<T>>) -> JoinHandle<T> {
        JoinHandle(Some(Joinable::Local(task, outcome)))
    }

    fn joinable(&self) -> &Joinable<T> {
        self.0.as_ref().expect("only join and drop take it out")
    }

    /// Waits for the green thread to end and returns its result.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then the thread is detached. In a destructor of a thread that is being
    /// cancelled it waits all the same.
    ///
    /// # Errors
    /// If the thread panicked, the payload of the panic; if it was cancelled, a [`Cancelled`]; if there was no memory for its
    /// stack, the [`io::Error`](std::io::Error) that says so.
    pub fn join(mut self) -> Result<T> {
        let joinable = self.joinable();
        let result = joinable.outcome().join(joinable.id());
        self.0 = None;
        result
    }

    /// Cancels the thread: it unwinds from where it waits, or from the next place where it would wait. Its destructors run, and its
    /// `join` fails with [`Cancelled`]. If it has not begun, its closure is dropped. If it has ended, nothing happens.
    ///
    /// What it waited for did not happen: no message is lost, no lock taken. If its wait has been ended already, that counts, and the
    /// thread unwinds from the next cancel point. [`shield`](super::shield) puts it off.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::thread;
    ///
    /// hebra::run(|| {
    ///     let sleeper = thread::spawn(|| thread::sleep(Duration::from_secs(3600)));
    ///     sleeper.cancel();
    ///     let payload = sleeper.join().unwrap_err();
    ///     assert!(payload.is::<thread::Cancelled>());
    /// });
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        let joinable = self.joinable();
        if !joinable.outcome().is_finished() {
            worker::cancel(&joinable.task(), Location::caller());
        }
    }

    /// Returns whether the thread has ended, without waiting: `join` will return at once.
    pub fn is_finished(&self) -> bool {
        self.joinable().outcome().is_finished()
    }

    /// Returns the thread's handle.
    pub fn thread(&self) -> Thread {
        Thread::green(self.joinable().task())
    }
}

/// The result of [`join`](JoinHandle::join), without parking anybody: what an async program awaits. When it has been polled by several
/// tasks, the last one is woken.
///
/// # Panics
/// Panics if it is polled again after it has given the result.
impl<T> Future for JoinHandle<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.joinable().outcome().poll(context)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Some(joinable) = self.0.take() else { return };
        if let Some(result) = joinable.outcome().detach() {
            if result.is_err() {
                report(&joinable.task().to_string(), &result);
            }
            // As in the thread itself, if the handle goes first: what its destructor does is no matter of the caller's.
            discard(result);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread()).finish_non_exhaustive()
    }
}
