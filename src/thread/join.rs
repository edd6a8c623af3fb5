//! What a green thread leaves behind: its result, and who waits for it.
//!
//! [`Packet`] is the tail of a [`Task`]: the closure until it runs, the result afterwards, in the one allocation of the record and the same
//! place of it. A thread that was spawned locally has a tail without contents, and shares an [`Outcome`] with its handle alone: neither
//! its closure nor its result need be `Send`, and whether the handle is follows from `T`.

use std::convert::Infallible;
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

/// How far a thread has come, as whoever joins it sees it.
///
/// ```text
///   Unstarted --- it runs ---> Running --- the body ends ---> Finished --- join, poll ---> Taken
///       |                         |                              |
///       +-- the handle is dropped +--- the same                  +--- the handle is dropped ---> Taken
///       v                         v
///   UnstartedDetached -------> RunningDetached --- the body ends ---> Taken
/// ```
enum Stage<F, T> {
    Unstarted(F, Watch),
    UnstartedDetached(F, Watch),
    Running(Watch),
    /// The handle is gone, and the body has not ended: nobody will ask for the result.
    RunningDetached(Watch),
    Finished(Result<T>),
    /// The result is gone.
    Taken,
}

/// Who is to learn of the end, if somebody is. Boxed, as of a hundred thousand threads few are watched at a time.
type Watch = Option<Box<Watching>>;

#[derive(Default)]
struct Watching {
    /// The one handle.
    watcher: Option<Watcher>,
    /// Dropped at the end: so others learn of it, also when the handle is gone.
    keepsakes: Vec<Box<dyn Send>>,
}

impl Watching {
    fn tell(self) {
        if let Some(watcher) = self.watcher {
            watcher.wake();
        }
        drop(self.keepsakes);
    }
}

pub(super) enum Watcher {
    /// The one handle waits.
    Waiter(Waiter),
    /// The one handle is a future, and this wakes the task that has polled it last. User code: not to be used under a lock.
    Waker(Waker),
}

impl Watcher {
    fn wake(self) {
        match self {
            Watcher::Waiter(waiter) => {
                waiter.wake(Wake::Woken);
            }
            Watcher::Waker(waker) => discard(panic::catch_unwind(AssertUnwindSafe(|| waker.wake()))),
        }
    }
}

/// The tail of the record of a thread spawned with `spawn`: its closure, then its result.
pub(super) struct Packet<F, T>(Lock<Stage<F, T>>);

/// The result of a thread whose closure is elsewhere, on its way to whoever joins it.
pub(super) type Outcome<T> = Packet<Infallible, T>;

impl<F, T> Packet<F, T> {
    pub(super) fn new(closure: F) -> Packet<F, T> {
        Packet(Lock::new(Stage::Unstarted(closure, None)))
    }

    /// Takes the closure out, to run it.
    fn begin(&self) -> F {
        let mut stage = self.0.lock();
        let (closure, running) = match mem::replace(&mut *stage, Stage::Taken) {
            Stage::Unstarted(closure, watch) => (closure, Stage::Running(watch)),
            Stage::UnstartedDetached(closure, watch) => (closure, Stage::RunningDetached(watch)),
            _ => unreachable!("a green thread runs once"),
        };
        *stage = running;
        closure
    }

    /// Keeps the result of the calling green thread for whoever joins.
    pub(super) fn put(&self, result: Result<T>) {
        let mut stage = self.0.lock();
        match mem::replace(&mut *stage, Stage::Taken) {
            Stage::Running(watch) => {
                *stage = Stage::Finished(result);
                drop(stage);
                if let Some(watching) = watch {
                    watching.tell();
                }
            }
            Stage::RunningDetached(watch) => {
                drop(stage);
                // Here, on the thread's own stack, where the destructor of the result may do as it likes.
                let who = worker::with(|_, task| task.to_string());
                report(who.as_deref().unwrap_or("green thread"), &result);
                discard(result);
                drop(watch);
            }
            _ => unreachable!("a body ends once"),
        }
    }
}

impl<T> Outcome<T> {
    pub(super) fn pending() -> Outcome<T> {
        Packet(Lock::new(Stage::Running(None)))
    }
}

/// The end of a thread, as the one handle sees it.
pub(super) trait End<T> {
    fn has_come(&self) -> bool;

    /// Takes the result, if it is there.
    fn take(&self) -> Option<Result<T>>;

    /// Has `watcher` learn of the end, instead of whoever was to learn before, who is returned.
    ///
    /// # Errors
    /// The end has come; it gives `watcher` back.
    fn watch(&self, watcher: Option<Watcher>) -> std::result::Result<Option<Watcher>, Option<Watcher>>;

    /// Has something of ours dropped at the end.
    ///
    /// # Errors
    /// The end has come; it gives the thing back.
    fn keep(&self, keepsake: Box<dyn Send>) -> std::result::Result<(), Box<dyn Send>>;

    /// Gives the handle up, and returns the result if it is there already.
    fn detach(&self) -> Option<Result<T>>;
}

impl<F, T> End<T> for Packet<F, T> {
    fn has_come(&self) -> bool {
        matches!(*self.0.lock(), Stage::Finished(_) | Stage::Taken)
    }

    fn take(&self) -> Option<Result<T>> {
        let mut stage = self.0.lock();
        match &*stage {
            Stage::Finished(_) => match mem::replace(&mut *stage, Stage::Taken) {
                Stage::Finished(result) => Some(result),
                _ => unreachable!("nobody has changed it meanwhile"),
            },
            Stage::Taken => {
                drop(stage);
                panic!("{TAKEN}");
            }
            _ => None,
        }
    }

    fn watch(&self, watcher: Option<Watcher>) -> std::result::Result<Option<Watcher>, Option<Watcher>> {
        match &mut *self.0.lock() {
            Stage::Unstarted(_, None) | Stage::Running(None) if watcher.is_none() => Ok(None),
            Stage::Unstarted(_, watch) | Stage::Running(watch) => {
                Ok(mem::replace(&mut watch.get_or_insert_default().watcher, watcher))
            }
            _ => Err(watcher),
        }
    }

    fn keep(&self, keepsake: Box<dyn Send>) -> std::result::Result<(), Box<dyn Send>> {
        match &mut *self.0.lock() {
            Stage::Unstarted(_, watch) | Stage::Running(watch) => {
                watch.get_or_insert_default().keepsakes.push(keepsake);
                Ok(())
            }
            _ => Err(keepsake),
        }
    }

    fn detach(&self) -> Option<Result<T>> {
        let mut stage = self.0.lock();
        // Declared before the guard is dropped, and dropped after it: a waker is user code.
        let (watcher, result);
        let leave = |watch: &mut Watch| watch.as_mut().and_then(|watching| watching.watcher.take());
        (*stage, watcher, result) = match mem::replace(&mut *stage, Stage::Taken) {
            Stage::Unstarted(closure, mut watch) => {
                let watcher = leave(&mut watch);
                (Stage::UnstartedDetached(closure, watch), watcher, None)
            }
            Stage::Running(mut watch) => {
                let watcher = leave(&mut watch);
                (Stage::RunningDetached(watch), watcher, None)
            }
            Stage::Finished(result) => (Stage::Taken, None, Some(result)),
            stage => (stage, None, None),
        };
        drop(stage);
        drop(watcher);
        result
    }
}

/// Waits for the end of a thread and takes its result. Only the one handle may call this, once. `id` draws the id of the thread.
pub(super) fn wait_for<'a, T>(end: &(impl End<T> + ?Sized), id: impl Fn() -> &'a AtomicU64) -> Result<T> {
    loop {
        if let Some(result) = end.take() {
            return result;
        }
        // A waker may be among them: user code, which must not run while this thread registers itself.
        let mut before = None;
        park::park_insistently(Reason::Join, Some(id()), None, |wait: &Wait<'_>| {
            before = end.watch(Some(Watcher::Waiter(wait.waiter()))).ok()?;
            Some(|_: &Wait<'_>| drop(end.watch(None)))
        });
        drop(before);
    }
}

/// Returns the result of a thread if it is there, or has `context` woken when it is.
fn poll<T>(end: &(impl End<T> + ?Sized), context: &Context<'_>) -> Poll<Result<T>> {
    loop {
        if let Some(result) = end.take() {
            return Poll::Ready(result);
        }
        if end.watch(Some(Watcher::Waker(context.waker().clone()))).is_ok() {
            return Poll::Pending;
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

impl<F: FnOnce() -> T + Send, T: Send> Body for Packet<F, T> {
    fn run(&self, start: Start) {
        self.put(conclude(start, self.begin()));
    }
}

const _: () = {
    // With the reference counts of its `Arc` in front.
    let allocation = 2 * size_of::<usize>() + size_of::<Task<Packet<usize, usize>>>();
    assert!(allocation <= 120, "see `Task::rare`");
};

/// A [`Packet`] with its closure, seen by who joins.
pub(super) trait Join<T>: Body + End<T> {}

impl<F: FnOnce() -> T + Send, T: Send> Join<T> for Packet<F, T> {}

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
    fn end(&self) -> &(dyn End<T> + '_) {
        match self {
            Joinable::Shared(task) => &task.body,
            Joinable::Local(_, outcome) => &**outcome,
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
        let result = wait_for(joinable.end(), || joinable.id());
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
        if !joinable.end().has_come() {
            worker::cancel(&joinable.task(), Location::caller());
        }
    }

    /// The scheduler's record of the thread.
    pub(crate) fn record(&self) -> TaskRef {
        self.joinable().task()
    }

    /// Has something of ours dropped when the thread has ended, at once if it has already.
    pub(crate) fn keep_until_end(&self, keepsake: Box<dyn Send>) {
        let kept = self.joinable().end().keep(keepsake);
        drop(kept);
    }

    /// Returns whether the thread has ended, without waiting: `join` will return at once.
    pub fn is_finished(&self) -> bool {
        self.joinable().end().has_come()
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
        poll(self.joinable().end(), context)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Some(joinable) = self.0.take() else { return };
        if let Some(result) = joinable.end().detach() {
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
