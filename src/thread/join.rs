//! Joining: [`JoinHandle`], and how a thread comes to its result.
//!
//! A [`Packet`] is the tail of a [`Task`]. A thread that was spawned locally has a tail without
//! contents, and shares an [`Outcome`] with its handle alone: neither its closure nor its result
//! need be `Send`, and whether the handle is follows from `T`.

use crate::atomic::AtomicU64;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crate::park::{self, CancelUnwind, Wait};
use crate::report::say;
use crate::scheduler::task::{Body, Reason, Start, Task, TaskRef};
use crate::scheduler::worker;
use crate::thread::Thread;
use crate::thread::cancel::{Cancelled, is_cancellation};
use crate::thread::packet::{End, Outcome, Packet, Watcher};
use crate::unwinding::{
    __rust_begin_short_backtrace as short_backtrace, discard, drop_quietly, message,
};

/// What joining a thread returns: `Err` with the payload if it panicked.
pub type Result<T> = std::thread::Result<T>;

/// Waits for the end of a thread and takes its result. Only the one handle may call this, once.
/// `id` draws the id of the thread.
pub(super) fn wait_for<'a, T>(
    end: &(impl End<T> + ?Sized),
    id: impl Fn() -> &'a AtomicU64,
) -> Result<T> {
    let mut result = None;
    wait_and_take(end, id, &mut result);
    match result {
        Some(result) => result,
        // It may be a green thread of this worker, which does not run any more.
        None => Err(Box::new(Cancelled::at(None))),
    }
}

/// As [`wait_for`], and moves the result to `result`; there is none where the caller cannot wait.
fn wait_and_take<'a, T>(
    end: &(impl End<T> + ?Sized),
    id: impl Fn() -> &'a AtomicU64,
    result: &mut Option<Result<T>>,
) {
    while !end.take(result) {
        if park::cannot_wait() {
            return;
        }
        // A waker may be among them: user code, which must not run while this thread registers
        // itself.
        let mut before = None;
        park::park_insistently(Reason::Join, Some(id()), None, |wait: &Wait<'_>| {
            let watches = end.watch(Some(Watcher::Waiter(wait.waiter())), &mut before);
            watches.then_some(|_: &Wait<'_>| _ = end.watch(None, &mut None))
        });
        drop(before);
    }
}

/// Returns the result of a thread if it is there, or has `context` woken when it is.
fn poll<T>(end: &(impl End<T> + ?Sized), context: &Context<'_>) -> Poll<Result<T>> {
    loop {
        let mut result = None;
        if end.take(&mut result)
            && let Some(result) = result
        {
            return Poll::Ready(result);
        }
        if end.watch(Some(Watcher::Waker(context.waker().clone())), &mut None) {
            return Poll::Pending;
        }
    }
}

/// What `join` returns where a cancellation's payload unwinds a thread that is not cancelled.
const RETHROWN: &str =
    "the payload of a cancellation was rethrown in a thread that nobody had cancelled";

/// Runs `f` as the body of the calling green thread, and returns its result as its joiner is to see
/// it.
pub(super) fn conclude<T>(start: Start, f: impl FnOnce() -> T) -> Result<T> {
    let result = match start {
        Start::Run => panic::catch_unwind(AssertUnwindSafe(|| short_backtrace(f))),
        // Its destructor may be at a cancel point, too.
        Start::Discard => drop_quietly(f).and(Err(Box::new(CancelUnwind::of_nothing()))),
        Start::NoStack(error) => drop_quietly(f).and(Err(Box::new(error))),
        // There is no such green thread; perhaps the caller is one.
        Start::Refused => return drop_quietly(f).and(Err(Box::new(Cancelled::at(None)))),
    };
    worker::destroy_locals();
    let result = result.map_err(|payload| {
        if !payload.is::<CancelUnwind>() {
            return payload;
        }
        let own = is_cancellation(&*payload);
        let cancelled = |task: &TaskRef| task.is_cancel_requested().then(|| task.cancelled_at());
        match worker::with(|_, task| cancelled(task)).flatten() {
            Some(at) if own => Box::new(Cancelled::at(at)) as _,
            _ => Box::new(RETHROWN) as _,
        }
    });
    // Perhaps its payload has been kept elsewhere.
    park::note_calm();
    result
}

/// Tells of a panic that nobody will join: the hook has said where, this says in which green
/// thread.
pub(super) fn report<T>(who: &str, result: &Result<T>) {
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
        let (closure, place) = self.begin();
        place.put(conclude(start, closure));
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

/// A [`Packet`] whose result is in a box, as it is large: a record is moved through several layers
/// when it is made, each of which may keep a copy of it on the stack, in a build without
/// optimisation.
pub(super) struct Boxed<F, T>(pub(super) Packet<F, Box<T>>);

impl<F: FnOnce() -> Box<T> + Send, T: Send> Body for Boxed<F, T> {
    fn run(&self, start: Start) {
        self.0.run(start);
    }
}

impl<F, T> End<T> for Boxed<F, T> {
    fn has_come(&self) -> bool {
        self.0.has_come()
    }

    fn take(&self, result: &mut Option<Result<T>>) -> bool {
        let mut boxed = None;
        let taken = self.0.take(&mut boxed);
        *result = boxed.map(|result| result.map(|value| *value));
        taken
    }

    fn watch(&self, watcher: Option<Watcher>, before: &mut Option<Watcher>) -> bool {
        self.0.watch(watcher, before)
    }

    fn keep(&self, keepsake: Box<dyn Send>) {
        self.0.keep(keepsake);
    }

    fn detach(&self) -> Option<Result<T>> {
        Some(self.0.detach()?.map(|value| *value))
    }
}

impl<F: FnOnce() -> Box<T> + Send, T: Send> Join<T> for Boxed<F, T> {}

/// Owns the right to wait for a green thread and take its result, as [`std::thread::JoinHandle`]
/// does.
///
/// Dropping it detaches the thread: it runs on, and a panic in it is reported on standard error.
/// Joining works from green threads and from OS threads; and the handle is a future of what
/// [`join`](JoinHandle::join) returns, for tasks of any async program.
///
/// ```
/// let sum = hebra::run(|| {
///     let handle = hebra::thread::spawn(|| 2 + 2);
///     handle.join().unwrap()
/// });
/// assert_eq!(sum, 4);
/// ```
pub struct JoinHandle<T> {
    /// Taken out by `join` and by drop.
    joinable: Option<Joinable<T>>,
    /// Made when [`thread`](JoinHandle::thread) is first called: most handles are only joined.
    thread: OnceLock<Thread>,
}

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
        JoinHandle::new(Joinable::Shared(task))
    }

    pub(super) fn local(task: TaskRef, outcome: Arc<Outcome<T>>) -> JoinHandle<T> {
        JoinHandle::new(Joinable::Local(task, outcome))
    }

    fn new(joinable: Joinable<T>) -> JoinHandle<T> {
        JoinHandle {
            joinable: Some(joinable),
            thread: OnceLock::new(),
        }
    }

    fn joinable(&self) -> &Joinable<T> {
        self.joinable
            .as_ref()
            .expect("only join and drop take it out")
    }

    /// Waits for the green thread to end and returns its result.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then the thread is detached. In a
    /// destructor of a thread that is being cancelled it waits all the same.
    ///
    /// # Errors
    /// If the thread panicked, the payload of the panic; if it was cancelled, a [`Cancelled`]; if
    /// there was no memory for its stack, the [`io::Error`](std::io::Error) that says so.
    pub fn join(mut self) -> Result<T> {
        park::charge_or_yield();
        let joinable = self.joinable();
        let result = wait_for(joinable.end(), || joinable.id());
        self.joinable = None;
        result
    }

    /// Cancels the thread: it unwinds from where it waits, or from the next place where it would
    /// wait. Its destructors run, and its `join` fails with [`Cancelled`]. If it has not begun,
    /// its closure is dropped. If it has ended, nothing happens.
    ///
    /// What it waited for did not happen: no message is lost, no lock taken. If its wait has been
    /// ended already, that counts, and the thread unwinds from the next cancel point.
    /// [`shield`](super::shield) puts it off.
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
        self.joinable().end().keep(keepsake);
    }

    /// Returns whether the thread has ended, without waiting: `join` will return at once.
    pub fn is_finished(&self) -> bool {
        self.joinable().end().has_come()
    }

    /// Returns the thread's handle.
    pub fn thread(&self) -> &Thread {
        self.thread
            .get_or_init(|| Thread::green(self.joinable().task()))
    }
}

/// The result of [`join`](JoinHandle::join), without parking anybody: what an async program awaits.
/// When it has been polled by several tasks, the last one is woken.
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
        let Some(joinable) = self.joinable.take() else {
            return;
        };
        if let Some(result) = joinable.end().detach() {
            if result.is_err() {
                report(&joinable.task().to_string(), &result);
            }
            // As in the thread itself, if the handle goes first: what its destructor does is no
            // matter of the caller's.
            discard(result);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}
