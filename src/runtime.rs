//! [`Runtime`]: a set of workers with one configuration.

use std::fmt;
use std::io;
use std::mem;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lock::Lock;
use crate::lock::membarrier;
use crate::panic_count;
use crate::park::{self, CancelUnwind, Mode, Wait, deadline_after};
use crate::report::say;
use crate::scheduler::claim::Wake;
use crate::scheduler::oracle::Plan;
use crate::scheduler::run_queue;
use crate::scheduler::scopes::Kind;
use crate::scheduler::task::{Attributes, KeptByWorker, Reason, Start, Task, TaskRef};
use crate::scheduler::worker::{self, Shared, Worker};
use crate::stack::{self, Stack};
use crate::unwinding::{__rust_begin_short_backtrace as short_backtrace, is_unwinding};

pub use crate::scheduler::ending::Straggler;

const DEFAULT_STACK_SIZE: usize = 256 << 10;
const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// How long a worker may take to say who has not ended when time is up, on a machine under load.
/// Only one that computes takes it all.
const ANSWER: Duration = Duration::from_secs(1);

/// How a [`Runtime`] is made.
///
/// ```
/// let config = hebra::Config::default().workers(1).stack_size(64 << 10);
/// let runtime = hebra::Runtime::new(config)?;
/// assert_eq!(runtime.run(|| 6 * 7), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    workers: Option<usize>,
    stack_size: usize,
    thread_name: String,
    shutdown_timeout: Duration,
    /// Only `sim` sets it.
    plan: Option<Plan>,
}

impl Default for Config {
    /// One worker a processor, stacks of 256 KiB, OS threads called `hebra-1` and so on, a shutdown
    /// time-out of 5 s.
    fn default() -> Config {
        Config {
            workers: None,
            stack_size: DEFAULT_STACK_SIZE,
            thread_name: String::from("hebra"),
            shutdown_timeout: DEFAULT_GRACE,
            plan: None,
        }
    }
}

impl Config {
    /// Sets the number of workers, the calling OS thread included: 1 to 1,024. The default is
    /// [`std::thread::available_parallelism`].
    pub fn workers(mut self, workers: usize) -> Config {
        self.workers = Some(workers);
        self
    }

    /// Sets the default size of a green thread's stack, in bytes; see
    /// [`Builder::stack_size`](crate::thread::Builder::stack_size). 256 KiB unless set.
    pub fn stack_size(mut self, size: usize) -> Config {
        self.stack_size = size;
        self
    }

    /// Sets what the workers' OS threads are called: `name-1`, `name-2` … The calling OS thread
    /// keeps its name.
    pub fn thread_name(mut self, name: impl Into<String>) -> Config {
        self.thread_name = name.into();
        self
    }

    /// Sets how long the end of [`Runtime::run`], and of a started runtime that is dropped, waits
    /// for cancelled green threads on other workers before it leaves them behind.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Config {
        self.shutdown_timeout = timeout;
        self
    }

    /// Makes the runtime a simulation.
    pub(crate) fn simulated(mut self, plan: Plan) -> Config {
        self.plan = Some(plan);
        self
    }
}

/// A set of workers that run green threads: an event loop, as an object.
///
/// It works in *sessions*. [`run`](Runtime::run) is one, with the calling OS thread as the first
/// worker, as long as a closure runs; there may be many, one after the other.
/// [`start`](Runtime::start) begins one in the background, which goes on until the runtime is
/// dropped or [shut down](Runtime::shutdown). Any thread can spawn onto a runtime through its
/// [`Handle`].
///
/// ```
/// use std::time::Duration;
///
/// let runtime = hebra::Runtime::new(hebra::Config::default().workers(1))?;
/// let handle = runtime.start()?;
/// let answer = handle.spawn(|| 6 * 7);
/// assert_eq!(answer.join().unwrap(), 42);
/// runtime.shutdown(Duration::from_secs(1)).expect("nobody is left");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Dropping it ends the session, if one was started: as `shutdown` with
/// [`Config::shutdown_timeout`], and who does not end in that time is reported on standard error
/// and left behind. A green thread of its own may drop it, and then nobody is waited for.
pub struct Runtime {
    core: Arc<Core>,
    /// The session in the background.
    started: Lock<Option<Session>>,
}

/// What a runtime and its handles share.
struct Core {
    config: Config,
    workers: usize,
    door: Lock<Door>,
}

/// Where green threads from outside come in.
///
/// ```text
///   Closed <--- run, start ---> Closed, taken --- the workers are there ---> Open
///      ^                              ^                                        |
///      +-- the workers have ended ----+------- the end begins -----------------+
/// ```
///
/// Those that find it closed wait for it to open; those that find it [`over`](Door::over) are
/// refused.
#[derive(Default)]
struct Door {
    /// There is a session, or one is about to begin or to end.
    taken: bool,
    /// The session, from when its workers are there until they are to end.
    open: Option<Arc<Shared>>,
    /// No session will follow.
    over: bool,
    waiting: Vec<Waiting>,
}

/// A green thread that waits for a session, with the stack that was reserved for it.
struct Waiting(TaskRef, Option<Stack>);

/// A session whose workers have OS threads of their own.
struct Session {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

const RUNNING: &str = "this runtime is running already; spawn onto it through Runtime::handle";

impl Runtime {
    /// Makes a runtime; its workers' OS threads live as long as a session.
    ///
    /// # Errors
    /// `InvalidInput` if a number of the configuration is out of range, or the name contains a zero
    /// byte.
    pub fn new(config: Config) -> io::Result<Runtime> {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = config.workers.unwrap_or_else(available);
        if !(1..=1024).contains(&workers) {
            let message = format!("a runtime has 1 to 1,024 workers, not {workers}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        crate::stack::check_size(config.stack_size)?;
        if config.thread_name.contains('\0') {
            let message = "the name of a worker's OS thread contains a zero byte";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        membarrier::prepare();
        Ok(Runtime {
            core: Arc::new(Core {
                config,
                workers,
                door: Lock::default(),
            }),
            started: Lock::default(),
        })
    }

    /// Returns a handle, through which any thread can spawn onto this runtime.
    pub fn handle(&self) -> Handle {
        Handle(self.core.clone())
    }

    /// Runs `f` on a green thread, with the calling OS thread as the first worker, and returns its
    /// result after an orderly shutdown.
    ///
    /// When `f` has returned, every other green thread is cancelled: it unwinds from where it is
    /// parked, or from the next place where it would park. `run` waits for that. A green thread
    /// on another worker that has not ended after [`Config::shutdown_timeout`] is reported on
    /// standard error and left behind, with its stack and its worker's OS thread; for one
    /// on the calling OS thread `run` goes on waiting, as leaving its stack behind could not be
    /// made safe.
    ///
    /// # Deadlocks
    /// When every green thread waits for another one, and no other OS thread of the process could
    /// wake any of them, `run` fails after a second or two: it cancels them all, lets them
    /// unwind, and panics with a report of who waits for what, since when, and for whom. If
    /// they do not end in [`Config::shutdown_timeout`], it prints the report and aborts the
    /// process. Linux only; for sockets, timers, signals and child processes it waits as long
    /// as it takes.
    ///
    /// # Cancellation
    /// A time-out that the calling OS thread is in is one for `f`, too, and then ends everything:
    /// in a simulation, which has a clock of its own, it is not.
    ///
    /// # Panics
    /// Continues a panic of `f`. Panics with a report in a deadlock. Panics if the runtime is
    /// running already, on a green thread, in the destructor of a thread-local, and if the
    /// system refuses the descriptors or OS threads of the workers.
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T,
    {
        assert!(
            !worker::is_worker(),
            "a runtime was to be run on a green thread of another; use hebra::thread::spawn there"
        );
        assert!(
            run_queue::is_available() && !park::cannot_wait(),
            "a runtime cannot run while this OS thread's thread-locals are being destroyed"
        );
        let location = Location::caller();
        let core = &self.core;
        // An unwinding that has led here, by a destructor, is none of the green threads': they may
        // be cancelled, and poison. Declared first, so that it is given back last.
        let unwinding = is_unwinding();
        let _count = unwinding.then(panic_count::take);
        let _taken = core.take().unwrap_or_else(|| panic!("{RUNNING}"));
        let shared = core
            .session()
            .expect("a worker needs three file descriptors");
        let first = Worker::new(shared.clone(), 0);
        // Who unwinds already cannot unwind because of it.
        let limit = if core.config.plan.is_some() || unwinding {
            None
        } else {
            park::scope_deadline()
        };
        let mut result = None;
        let others = match core.start_workers(&shared, 1..core.workers) {
            Ok(others) => others,
            Err(error) => panic!("the system refuses an OS thread for a worker: {error}"),
        };
        let root = Box::new(|start: Start| {
            result = Some(match start {
                Start::Run => {
                    core.open(&shared);
                    let entered = limit.map(|limit| park::enter_scope(Kind::Deadline(Some(limit))));
                    let result = panic::catch_unwind(AssertUnwindSafe(|| short_backtrace(f)));
                    let _ = entered.map(park::Entered::leave);
                    result
                }
                Start::NoStack(error) => Err(Box::new(error) as _),
                Start::Discard | Start::Refused => {
                    unreachable!("the runtime stops when the root has run")
                }
            });
            worker::destroy_locals();
            core.close();
            shared.stop(core.config.shutdown_timeout);
        });
        let attributes = Attributes {
            name: Some("main".into()),
            stack_size: None,
        };
        let task = Arc::new(Task::new(attributes, location, KeptByWorker));
        if let Err(error) = first.run_root(task, root) {
            shared.stop(Duration::ZERO);
            panic!("there is no stack for the first green thread: {error}");
        }
        let session = Session {
            shared: shared.clone(),
            workers: others,
        };
        session.wait(core.config.shutdown_timeout, Mode::Shielded);
        for worker in session.leave() {
            say(format_args!(
                "worker {worker} still has green threads that have not ended; it is left behind"
            ));
        }
        match (result.expect("the root has run"), shared.take_failure()) {
            (_, Some((report, true))) | (Ok(_), Some((report, false))) => panic!("{report}"),
            (Ok(value), None) => value,
            (Err(payload), _) => {
                if payload.is::<CancelUnwind>() {
                    // Time is up for the calling OS thread, which unwinds in its own name.
                    park::learn_cancellation();
                    park::cancel_point();
                }
                panic::resume_unwind(payload)
            }
        }
    }

    /// Begins a session in the background, with an OS thread for each worker, and returns its
    /// handle. It lasts until the runtime is dropped or [shut down](Runtime::shutdown), whether
    /// there are green threads or not. So an async program can use it as a service.
    ///
    /// # Errors
    /// The runtime is running already, or the system refuses the descriptors or OS threads of the
    /// workers.
    pub fn start(&self) -> io::Result<Handle> {
        let taken = self.core.take().ok_or_else(|| io::Error::other(RUNNING))?;
        let shared = self.core.session()?;
        let workers = self.core.start_workers(&shared, 0..self.core.workers)?;
        *self.started.lock() = Some(Session {
            shared: shared.clone(),
            workers,
        });
        mem::forget(taken);
        self.core.open(&shared);
        Ok(self.handle())
    }

    /// Cancels every green thread and waits for them to unwind, for `timeout` at most. What has not
    /// begun, and what is spawned through a [`Handle`] from now on, is dropped; its join fails
    /// with [`Cancelled`](crate::thread::Cancelled).
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then nobody is waited for.
    ///
    /// # Errors
    /// Says who has not ended. They are left behind, each with its stack, and the OS threads of
    /// their workers with them.
    ///
    /// # Panics
    /// Panics on a green thread of this runtime, which would wait for itself.
    #[track_caller]
    pub fn shutdown(self, timeout: Duration) -> Result<(), Unfinished> {
        assert!(
            !self.core.is_ours(),
            "a green thread cannot shut its own runtime down; return from run, or drop the runtime"
        );
        let Some(session) = self.end() else {
            return Ok(());
        };
        session.shared.stop_quietly(timeout);
        session.wait(timeout, Mode::CancelPoint);
        let stragglers = session.shared.ending.take_left();
        let workers = session.leave();
        if workers.is_empty() {
            Ok(())
        } else {
            Err(Unfinished {
                stragglers,
                workers,
            })
        }
    }

    /// Ends what is not a green thread's matter: nothing comes in any more. Returns the session
    /// that was started.
    fn end(&self) -> Option<Session> {
        let refused = {
            let mut door = self.core.door.lock();
            door.over = true;
            door.open = None;
            mem::take(&mut door.waiting)
        };
        for Waiting(task, _) in refused {
            task.body.run(Start::Refused);
        }
        self.started.lock().take()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let Some(session) = self.end() else { return };
        let timeout = self.core.config.shutdown_timeout;
        session.shared.stop(timeout);
        if self.core.is_ours() {
            return;
        }
        session.wait(timeout, Mode::CancelPoint);
        for worker in session.leave() {
            say(format_args!(
                "worker {worker} still has green threads that have not ended; it is left behind"
            ));
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Core {
            config, workers, ..
        } = &*self.core;
        f.debug_struct("Runtime")
            .field("config", config)
            .field("workers", workers)
            .finish_non_exhaustive()
    }
}

/// A [`Core`] whose door is taken, until this is dropped.
struct Taken<'a>(&'a Core);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut door = self.0.door.lock();
        door.open = None;
        door.taken = false;
    }
}

impl Core {
    /// Takes the door for a session; `None` if there is one.
    fn take(&self) -> Option<Taken<'_>> {
        let mut door = self.door.lock();
        let was_taken = mem::replace(&mut door.taken, true);
        (!was_taken).then(|| Taken(self))
    }

    fn session(self: &Arc<Core>) -> io::Result<Arc<Shared>> {
        let Config {
            stack_size,
            shutdown_timeout,
            plan,
            ..
        } = &self.config;
        Shared::new(
            self.workers,
            *stack_size,
            *shutdown_timeout,
            plan.clone(),
            self.clone(),
        )
    }

    /// Gives the workers of these numbers OS threads of their own.
    ///
    /// # Errors
    /// The system refuses one; the others come to their end.
    fn start_workers(
        &self,
        shared: &Arc<Shared>,
        indices: Range<usize>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let first = indices.start;
        let started = indices.map(|index| {
            let name = format!("{}-{}", self.config.thread_name, index + 1 - first);
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(name)
                .spawn(move || Worker::new(shared, index).run())
        });
        started
            .collect::<io::Result<_>>()
            .inspect_err(|_| shared.stop(Duration::ZERO))
    }

    /// Lets in who waits and who will come.
    fn open(&self, shared: &Arc<Shared>) {
        let mut door = self.door.lock();
        for Waiting(task, stack) in door.waiting.drain(..) {
            shared.push(task, stack);
        }
        door.open = Some(shared.clone());
        drop(door);
        shared.rouse();
    }

    fn close(&self) {
        self.door.lock().open = None;
    }

    /// Whether the caller is a green thread of this runtime.
    fn is_ours(&self) -> bool {
        worker::with(|local, _| ptr::addr_eq(Arc::as_ptr(local.runtime()), self)) == Some(true)
    }
}

impl Session {
    /// Waits for the workers to end, or to say who does not: a while longer than these have been
    /// given. Shielded it does so even if the caller is cancelled.
    fn wait(&self, timeout: Duration, mode: Mode) {
        let ending = &self.shared.ending;
        let deadline = deadline_after(timeout.saturating_add(ANSWER));
        // Where a green thread has called `exit`, its own worker never ends.
        while !ending.is_complete() && !park::cannot_wait() {
            let register = |wait: &Wait<'_>| {
                ending
                    .enlist(wait)
                    .then_some(|wait: &Wait<'_>| ending.delist(wait))
            };
            let wake = match mode {
                Mode::Shielded => park::park(Reason::Shutdown, deadline, mode, register),
                Mode::CancelPoint | Mode::Observing => {
                    park::park_insistently(Reason::Shutdown, None, deadline, register)
                }
            };
            if wake == Wake::TimedOut {
                return;
            }
        }
    }

    /// Joins the workers' OS threads, and returns the names of those that have not ended: they are
    /// left behind.
    fn leave(self) -> Vec<String> {
        let mut left = Vec::new();
        let first = self.shared.worker_count() - self.workers.len();
        for (index, worker) in (first..).zip(self.workers) {
            if self.shared.ending.has_ended(index) {
                // It is at its end, and aborts the process rather than panic.
                let _ = worker.join();
            } else {
                left.push(worker.thread().name().unwrap_or("<unnamed>").to_owned());
            }
        }
        left
    }
}

/// A way onto a runtime, for any thread: see [`Runtime`].
///
/// What [`spawn`](Handle::spawn) returns is a future, too, so this is how an async program runs a
/// closure that blocks as std's functions do, thousands of them at a time:
///
/// ```
/// # hebra::future::block_on(async {
/// use std::time::Duration;
///
/// let runtime = hebra::Runtime::new(hebra::Config::default())?;
/// let handle = runtime.start()?;
/// let sum = handle.spawn(|| {
///     let parts = (0..100).map(|n| hebra::thread::spawn(move || {
///         hebra::thread::sleep(Duration::from_millis(1));
///         n
///     }));
///     parts.collect::<Vec<_>>().into_iter().map(|part| part.join().unwrap()).sum::<u32>()
/// });
/// assert_eq!(sum.await.unwrap(), 4950);
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Handle(Arc<Core>);

impl Handle {
    /// Returns a handle of the runtime that the calling green thread belongs to.
    ///
    /// # Panics
    /// Panics outside a runtime.
    #[track_caller]
    pub fn current() -> Handle {
        Handle::try_current().expect(
            "hebra::Handle::current was called outside a runtime; call it on a green thread",
        )
    }

    /// Returns a handle of the runtime that the calling green thread belongs to; `None` on a plain
    /// OS thread.
    pub fn try_current() -> Option<Handle> {
        let runtime = worker::with(|local, _| local.runtime().clone())?;
        runtime.downcast().ok().map(Handle)
    }

    /// The workers, if the runtime runs.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.0.door.lock().open.clone()
    }

    /// Leaves an unstarted green thread to the runtime; one that is over drops its closure here.
    ///
    /// # Errors
    /// Stacks are running out.
    pub(crate) fn launch(&self, task: TaskRef) -> io::Result<()> {
        let size = || task.stack_size().unwrap_or(self.0.config.stack_size);
        let stack = stack::needs_reservation()
            .then(|| stack::acquire(size()))
            .transpose()?;
        if self.0.is_ours() {
            let launched = worker::with(|local, _| local.spawn(task, stack));
            launched.expect("the caller is a green thread");
            return Ok(());
        }
        let mut door = self.0.door.lock();
        if let Some(shared) = door.open.clone() {
            shared.push(task, stack);
            drop(door);
            shared.rouse();
        } else if !door.over {
            door.waiting.push(Waiting(task, stack));
        } else {
            drop(door);
            task.body.run(Start::Refused);
        }
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("workers", &self.0.workers)
            .finish_non_exhaustive()
    }
}

/// Says who has not ended in time when a runtime was shut down; see [`Runtime::shutdown`].
#[derive(Debug, Clone)]
pub struct Unfinished {
    stragglers: Vec<Straggler>,
    workers: Vec<String>,
}

impl Unfinished {
    /// Returns the green threads that have not ended, and are left behind. Those of a worker that
    /// does not answer are not known.
    pub fn stragglers(&self) -> &[Straggler] {
        &self.stragglers
    }

    /// Returns the names of the OS threads that are left behind: of workers with stragglers, and of
    /// those that do not answer, because a green thread computes, or blocks the OS thread.
    pub fn workers(&self) -> &[String] {
        &self.workers
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} are left behind", self.workers.join(", "))?;
        self.stragglers
            .iter()
            .try_for_each(|straggler| write!(f, "; {straggler}"))
    }
}

impl std::error::Error for Unfinished {}

/// Runs `f` on a green thread of a new runtime with the default [`Config`], and returns its result;
/// see [`Runtime::run`].
///
/// ```
/// use std::time::Duration;
///
/// let total: u32 = hebra::run(|| {
///     let threads: Vec<_> = (0..100).map(|n| hebra::thread::spawn(move || {
///         hebra::thread::sleep(Duration::from_millis(1));
///         n
///     })).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).sum()
/// });
/// assert_eq!(total, 4950);
/// ```
///
/// # Panics
/// As [`Runtime::run`].
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T,
{
    let runtime = Runtime::new(Config::default()).expect("the default configuration is in range");
    runtime.run(f)
}
