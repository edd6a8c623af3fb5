//! Green threads, with the API of [`std::thread`].
//!
//! [`spawn`] costs about as much as a few allocations; the stack comes when the thread first runs,
//! from a pool. A green thread that has started stays on its worker for life, so it may hold `Rc`s,
//! `RefCell` borrows and references to thread-locals across anything that parks. One that has not
//! started is a `Send` closure that any idle worker takes.
//!
//! [`sleep`], [`park()`] and [`JoinHandle::join`] also work on plain OS threads, where they block
//! the OS thread.

use std::fmt;
use std::io;
use std::num::{NonZeroU64, NonZeroUsize};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::park::{self, Mode, Wait, deadline_after};
use crate::report::say;
use crate::scheduler::claim::Wake;
use crate::scheduler::os_thread::OsThread;
use crate::scheduler::task::{Attributes, KeptByWorker, Reason, Start, Task, TaskRef};
use crate::scheduler::waiter::Waiter;
use crate::scheduler::worker;
use crate::stack::Stack;
use crate::time;

mod cancel;
#[allow(unsafe_code)]
mod family;
mod handle;
mod join;
mod local;
#[allow(unsafe_code)]
mod packet;
#[allow(unsafe_code)]
mod race;
#[allow(unsafe_code)]
mod scope;
mod set;
#[allow(unsafe_code)]
mod try_scope;

pub use cancel::{Cancelled, Elapsed, deadline, is_cancelled, shield, timeout, timeout_at};
use join::{Boxed, Join, conclude};
pub use join::{JoinHandle, Result};
pub use local::{AccessError, LocalKey};
use packet::{Outcome, Packet};
pub use race::race;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use set::JoinSet;
/// Whether the calling thread unwinds because of a panic: std's own, as a green thread takes its
/// panic along when it parks.
pub use std::thread::panicking;
pub use try_scope::{Failure, ScopeError, TryScope, TryScopedJoinHandle, try_scope};

/// A closure or a result of more bytes than this is not part of its thread's record.
const LARGE: usize = 1 << 10;

const OUTSIDE: &str = "a green thread was to be spawned outside a runtime; call this inside hebra::run, \
     or on an OS thread and inside of unblock through Handle::spawn";

/// Spawns a green thread that runs `f`.
///
/// It starts when its worker gets to it, or an idle worker takes it; the spawner goes on at once.
///
/// # Panics
/// Panics outside a runtime, and where [`Builder::spawn`] would return an error.
///
/// ```
/// let greeting = hebra::run(|| hebra::thread::spawn(|| "hello").join().unwrap());
/// assert_eq!(greeting, "hello");
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new()
        .spawn(f)
        .expect("failed to spawn a green thread")
}

/// Spawns a green thread on the worker that the caller runs on. Neither `f` nor its result need be
/// `Send`.
///
/// # Panics
/// As [`spawn`].
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// let count = hebra::run(|| {
///     let count = Rc::new(Cell::new(0));
///     let other = count.clone();
///     hebra::thread::spawn_local(move || other.set(other.get() + 1)).join().unwrap();
///     count.get()
/// });
/// assert_eq!(count, 1);
/// ```
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    Builder::new()
        .spawn_local(f)
        .expect("failed to spawn a green thread")
}

/// Spawns a green thread with a name or a stack size of its own, as [`std::thread::Builder`] does.
///
/// ```
/// let name = hebra::run(|| {
///     let builder = hebra::thread::Builder::new().name("worker bee".into()).stack_size(64 << 10);
///     let handle = builder.spawn(|| hebra::thread::current().name().map(str::to_owned)).unwrap();
///     handle.join().unwrap()
/// });
/// assert_eq!(name.as_deref(), Some("worker bee"));
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// Makes a builder with the runtime's defaults: no name,
    /// [`Config::stack_size`](crate::Config::stack_size).
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the thread: for dumps, the overflow report, the report of a panic that is not joined,
    /// and after [`name_panics`] the message of every panic.
    ///
    /// # Panics
    /// As in std, what spawns panics if the name contains a zero.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// Sets the size of the stack, in bytes, rounded up to a power of two of at least 16 KiB. The
    /// guard page and up to 2 KiB of colouring are taken from it. Memory is taken page by page,
    /// as the thread uses it.
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }

    /// Spawns a green thread that runs `f`.
    ///
    /// # Errors
    /// The stack size is absurd (`InvalidInput`), or stacks are running out: the kernel's limit of
    /// mappings or of memory was reached, and the error says which and what to do.
    ///
    /// # Panics
    /// Panics outside a runtime.
    #[inline]
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let location = Location::caller();
        // What is refused is dropped here, not inside of `with`: the destructor of a closure may
        // park.
        assert_inside();
        // Each layer that a closure or a result passes through may keep a copy of it on the stack,
        // in a build without optimisation: a large one goes through them in a box.
        if size_of::<F>() > LARGE {
            return self.spawn_small(location, Box::new(f));
        }
        self.spawn_small(location, f)
    }

    /// Spawns with a closure that is small.
    #[inline]
    #[track_caller]
    fn spawn_small<F, T>(
        self,
        location: &'static Location<'static>,
        f: F,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if size_of::<T>() > LARGE {
            return self.spawn_body(location, || Boxed(Packet::new(|| Box::new(f()))));
        }
        // Not made here: there is no room for it if it is not wanted.
        self.spawn_body(location, || Packet::new(f))
    }

    #[inline]
    #[track_caller]
    fn spawn_body<T, B>(
        self,
        location: &'static Location<'static>,
        body: impl FnOnce() -> B,
    ) -> io::Result<JoinHandle<T>>
    where
        T: Send + 'static,
        B: Join<T> + 'static,
    {
        let task: Arc<Task<dyn Join<T>>> = Arc::new(self.task(location, body())?);
        let record: TaskRef = task.clone();
        let stack = reserve(&record)?;
        launch(record, stack);
        Ok(JoinHandle::shared(task))
    }

    /// Spawns a green thread on the worker that the caller runs on; see [`spawn_local`].
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// Panics outside a runtime.
    #[track_caller]
    pub fn spawn_local<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let location = Location::caller();
        if size_of::<F>() > LARGE {
            return self.spawn_small_local(location, Box::new(f));
        }
        self.spawn_small_local(location, f)
    }

    #[track_caller]
    fn spawn_small_local<F, T>(
        self,
        location: &'static Location<'static>,
        f: F,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        assert_inside();
        let task: TaskRef = Arc::new(self.task(location, KeptByWorker)?);
        let stack = reserve(&task)?;
        let outcome = Arc::new(Outcome::pending());
        let filled = outcome.clone();
        let body: Box<dyn FnOnce(Start)> = Box::new(move |start| filled.put(conclude(start, f)));
        if park::cannot_wait() {
            body(Start::Refused);
        } else {
            worker::with(|local, _| local.spawn_local(task.clone(), stack, body)).expect(OUTSIDE);
        }
        Ok(JoinHandle::local(task, outcome))
    }

    fn task<B>(self, location: &'static Location<'static>, body: B) -> io::Result<Task<B>> {
        if let Some(name) = &self.name {
            assert!(
                !name.contains('\0'),
                "thread name may not contain interior null bytes"
            );
        }
        self.stack_size.map_or(Ok(()), crate::stack::check_size)?;
        let attributes = Attributes {
            name: self.name.map(String::into_boxed_str),
            stack_size: self.stack_size,
        };
        Ok(Task::new(attributes, location, body))
    }
}

/// Asserts that the caller is a green thread, or one that has called `exit`: what that spawns is
/// dropped, as in a runtime that is over.
#[track_caller]
fn assert_inside() {
    assert!(worker::is_green() || park::cannot_wait(), "{OUTSIDE}");
}

/// Has every panic of a green thread say which one it is, in a line before what the panic hook
/// prints: `hebra: green thread 'worker bee' (spawned at src/main.rs:7:5) panics:`.
///
/// std's own message names the OS thread, that is a worker. This installs a panic hook that calls
/// the one there was; once in a process, later calls do nothing. Without it only a panic that is
/// not joined is reported by name.
///
/// # Panics
/// Panics on a thread that unwinds, as [`std::panic::set_hook`].
///
/// ```
/// hebra::thread::name_panics();
/// let failed = hebra::run(|| {
///     let builder = hebra::thread::Builder::new().name("worker bee".into());
///     builder.spawn(|| panic!("no honey")).unwrap().join()
/// });
/// assert!(failed.is_err());
/// ```
#[track_caller]
pub fn name_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Written with the record at hand: nothing of the user's runs meanwhile.
            worker::with(|_, task| say(format_args!("{task} panics:")));
            before(info);
        }));
    });
}

/// Takes the stack of a green thread that is going to be launched, if it may not be had later.
#[track_caller]
fn reserve(task: &TaskRef) -> io::Result<Option<Stack>> {
    if park::cannot_wait() {
        return Ok(None);
    }
    worker::with(|local, _| local.reserve(task)).expect(OUTSIDE)
}

/// Leaves an unstarted green thread to the workers of the calling one's runtime.
#[track_caller]
fn launch(task: TaskRef, stack: Option<Stack>) {
    if park::cannot_wait() {
        return task.body.run(Start::Refused);
    }
    worker::with(|local, _| local.spawn(task, stack)).expect(OUTSIDE);
}

/// A process-wide unique identifier of a thread, green or OS. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(NonZeroU64);

impl ThreadId {
    fn new(id: u64) -> ThreadId {
        ThreadId(NonZeroU64::new(id).expect("0 stands for no thread"))
    }
}

/// A handle to a thread, green or OS, as [`std::thread::Thread`].
#[derive(Clone)]
pub struct Thread(Handle);

#[derive(Clone)]
enum Handle {
    Green(TaskRef),
    Os(Arc<OsThread>),
}

// A panic leaves nothing half done that the handle reaches.
impl UnwindSafe for Thread {}
impl RefUnwindSafe for Thread {}

impl Thread {
    fn green(task: TaskRef) -> Thread {
        Thread(Handle::Green(task))
    }

    /// The scheduler's record, of a handle that was made of one.
    fn record(&self) -> &TaskRef {
        match &self.0 {
            Handle::Green(task) => task,
            Handle::Os(_) => unreachable!("it was made of a green thread"),
        }
    }

    /// Returns the thread's unique identifier.
    pub fn id(&self) -> ThreadId {
        match &self.0 {
            Handle::Green(task) => ThreadId::new(task.id()),
            Handle::Os(thread) => ThreadId::new(thread.id),
        }
    }

    /// Returns the name that the thread was given. The first green thread of a runtime is called
    /// `main`.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Handle::Green(task) => task.name(),
            Handle::Os(thread) => thread.name.as_deref(),
        }
    }

    /// Makes the thread's token available: its next [`park()`], or the one it is in, returns.
    pub fn unpark(&self) {
        match &self.0 {
            Handle::Green(task) => {
                if let Some(epoch) = task.token().leave() {
                    Waiter::green(task.clone(), epoch).wake(Wake::Woken);
                }
            }
            Handle::Os(thread) => {
                if let Some(epoch) = thread.token.leave() {
                    Waiter::os(thread.clone(), epoch).wake(Wake::Woken);
                }
            }
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// Returns a handle to the thread that calls it: the green thread, or on a plain OS thread that
/// one.
///
/// ```
/// let (a, b) = hebra::run(|| (hebra::thread::current().id(), hebra::thread::current().id()));
/// assert_eq!(a, b);
/// ```
pub fn current() -> Thread {
    let green = worker::with(|_, task| task.clone());
    Thread(green.map_or_else(|| Handle::Os(park::os_thread()), Handle::Green))
}

/// Lets the other green threads of this worker run first. On a plain OS thread this is
/// [`std::thread::yield_now`].
///
/// # Cancellation
/// This is a cancel point.
#[inline(always)] // So that the switch's return is predicted; see `coroutine`.
pub fn yield_now() {
    if !worker::is_green() {
        std::thread::yield_now();
        park::cancel_point();
        return;
    }
    park::pause();
}

/// Stops the current thread for at least `duration`. Resolution: the kernel's, some 50 µs; where
/// deadlines pass by the thousand each second a worker wakes several threads at a time, up to 200
/// µs late.
///
/// # Cancellation
/// Parks the current thread; this is a cancel point. In a destructor of a thread that is being
/// cancelled it returns at once.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// hebra::run(|| {
///     let start = Instant::now();
///     hebra::thread::sleep(Duration::from_millis(2));
///     assert!(start.elapsed() >= Duration::from_millis(2));
/// });
/// ```
pub fn sleep(duration: Duration) {
    time::sleep_to(deadline_after(duration));
}

/// Stops the current thread for at least so many milliseconds.
///
/// # Cancellation
/// As [`sleep`].
#[deprecated(note = "replaced by `hebra::thread::sleep`")]
pub fn sleep_ms(ms: u32) {
    sleep(Duration::from_millis(u64::from(ms)));
}

/// Stops the current thread until `deadline`, ours or std's; returns at once if that has passed.
///
/// # Cancellation
/// As [`sleep`].
pub fn sleep_until(deadline: impl Into<time::Instant>) {
    time::sleep_to(Some(deadline.into().into()));
}

/// Stops the current thread until its token is made available by [`Thread::unpark`], and takes it.
/// Returns at once if it is there.
///
/// As with [`std::thread::park`] it may return without a token too; look at what you wait for, in a
/// loop.
///
/// # Cancellation
/// Parks the current thread; this is a cancel point.
///
/// ```
/// hebra::run(|| {
///     let me = hebra::thread::current();
///     hebra::thread::spawn(move || me.unpark());
///     hebra::thread::park();
/// });
/// ```
pub fn park() {
    park_to(None);
}

/// As [`park()`], but for `duration` at most.
///
/// # Cancellation
/// As [`park()`].
pub fn park_timeout(duration: Duration) {
    park_to(deadline_after(duration));
}

/// As [`park()`], but for so many milliseconds at most.
///
/// # Cancellation
/// As [`park()`].
#[deprecated(note = "replaced by `hebra::thread::park_timeout`")]
pub fn park_timeout_ms(ms: u32) {
    park_timeout(Duration::from_millis(u64::from(ms)));
}

fn park_to(deadline: Option<Instant>) {
    park::charge_or_yield();
    let mut announced = false;
    let wake = park::park(Reason::Park, deadline, Mode::CancelPoint, |wait| {
        announced = wait.token().announce(wait.epoch());
        announced.then_some(|wait: &Wait<'_>| wait.token().withdraw(wait.epoch()))
    });
    if announced && wake != Wake::Cancelled {
        take_token();
    }
}

/// Takes the token that has woken the calling thread.
fn take_token() {
    let green = worker::with(|_, task| task.token().take());
    green.unwrap_or_else(|| park::os_thread().token.take());
}

/// Returns how many green threads can run at the same instant: the workers of this runtime, or
/// outside one what [`std::thread::available_parallelism`] says.
///
/// # Errors
/// Outside a runtime, where the system does not say.
pub fn available_parallelism() -> io::Result<NonZeroUsize> {
    let workers = worker::with(|local, _| local.worker_count());
    match workers.and_then(NonZeroUsize::new) {
        Some(workers) => Ok(workers),
        None => std::thread::available_parallelism(),
    }
}
