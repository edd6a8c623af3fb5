//! A worker: an OS thread that runs green threads. The central loop is [`Worker::run`].
//!
//! # Who owns what
//!
//! ```text
//!   Shared (one a runtime, any thread)      Post (one a worker, any thread)       Local (this OS thread, green code too)
//!     posts ------------------------------->  inbox: its started threads            timers, the running thread,
//!     clock, sleepers, stopping               reactor: its sources                  threads spawned locally,
//!     ending: who has not ended               unstarted: for whoever is idle,       thread-locals, cancel scopes
//!                                             and what comes from outside
//!
//!   Worker (this OS thread, the loop only): the table of started green threads with their coroutines
//! ```
//!
//! The table is a local variable of the loop and changes only between two resumes, so nothing that runs on a green thread can
//! move or drop a coroutine (laws 2 and 3).
//!
//! # One turn of the loop
//!
//! Resume what is ready and start what is unstarted, up to a quota that shrinks when green threads run long; then look at the
//! inbox, the timers and, if the last look is [`POLL_INTERVAL`] old, at I/O. With nothing to run: take unstarted threads from
//! other workers, else announce sleep, look once more, and wait for I/O, the next deadline or the bell.
//!
//! In a simulation a turn resumes or starts one green thread, which the [`oracle`](super::oracle) has picked, and instead of sleeping
//! it sets the clock; see [`simulate`].
//!
//! # Why not let a green thread move to an idle worker
//!
//! Its stack may hold a reference to a thread-local, and the compiler may keep the address of one across any call. Both are
//! undefined behaviour on another OS thread, and no compiler promises to stop (rust-lang/unsafe-code-guidelines#602).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use slab::Slab;

use super::audit::{Attempt, Way};
use super::claim::Wake;
use super::clock::{Clock, Nanos};
use super::deadlock::Stuck;
use super::ending::{Answer, Ending, Straggler};
use super::inbox::{Mail, Sleepers};
use super::locals::Locals;
use super::oracle::{Oracle, Plan, Seconds};
use super::reactor::{Events, Reactor};
use super::run_queue::{self, Home, Lease, LocalQueue, Slot};
use super::scopes::{Kind, Left, Scopes};
use super::standstill::Standstill;
use super::sweep::Sweep;
use super::task::{Body, Start, Task, TaskRef, forget_current_id};
use super::timers::Timers;
use crate::coroutine::{Coroutine, Resumed, Suspender, prefetch};
use crate::lock::Lock;
use crate::panic_count;
use crate::report::say;
use crate::stack::{self, Label, Stack, What};
use crate::unwinding::{CancelUnwind, discard, drop_quietly, is_unwinding, message};

mod deadlock;
mod simulate;

/// Green threads resumed at most before the loop looks at anything else.
const QUOTA: u32 = 64;
/// A turn that took longer than this halves the quota, a shorter one doubles it.
const TURN: Nanos = 50_000;
/// How old the last look at I/O may grow while there is always somebody to run.
const POLL_INTERVAL: Nanos = 50_000;
/// The same while some of those have not run yet that the last look has made ready. Looking sooner would take sockets from the kernel's
/// list long before their turn, and so bring them into the cache twice.
const PATIENT_INTERVAL: Nanos = 500_000;
/// What operations that succeed without parking may cost before their thread has to let the others run.
const BUDGET: u32 = 128;
/// What an operation costs that is a system call. So a busy connection holds the others up for some tens of microseconds.
pub(crate) const SYSTEM_CALL: u32 = 4;
/// From this many started green threads on, those that I/O has made ready are assumed to be out of the nearest cache.
const MANY: usize = 128;
/// Bytes in a cache line.
const LINE: usize = 64;
/// How many cache lines of a suspended stack's end a resume touches, typically.
const HOT_STACK: usize = 9;
/// Unstarted green threads for which a queue keeps room.
const BURST: usize = 1 << 17;
/// Unstarted green threads taken from another worker at a time.
const STEAL: usize = 32;
/// What green threads that were in a deadlock get to end, at least, before the process is ended.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Why a green thread gives its worker back.
#[derive(Clone, Copy)]
pub(crate) enum Suspend {
    /// It wants to run again after the others.
    Yield,
    /// Somebody will make it runnable.
    Park,
}

type Green = Coroutine<(), Suspend, ()>;

/// One runtime's workers, as everybody sees them.
pub(crate) struct Shared {
    posts: Box<[Post]>,
    clock: Clock,
    stack_size: usize,
    /// What green threads get to end if the runtime fails.
    shutdown_timeout: Duration,
    /// With [`Post::unstarted`]: whoever pushes looks here afterwards, whoever goes to sleep looks there afterwards.
    sleepers: Sleepers,
    standstill: Standstill,
    /// Where everything stands still: how many workers have said who is stuck there, and who that is.
    stuck: Lock<(usize, Vec<Stuck>)>,
    /// A worker has been roused to look for unstarted threads and has not looked yet: do not rouse a second one.
    searching: AtomicBool,
    /// The root has finished: cancel and end everything.
    stopping: AtomicBool,
    /// When the workers stop waiting for green threads that do not end; set before `stopping`.
    grace_ends: Lock<Option<Instant>>,
    /// What this runtime simulates, if it does.
    plan: Option<Plan>,
    /// Why the runtime has failed, if not because its root has panicked; and whether that was before it was stopping.
    failure: Lock<Option<(String, bool)>>,
    /// Who does not end is said on standard error, too; set before `stopping`.
    says_who: AtomicBool,
    pub(crate) ending: Ending,
    /// The worker that the next green thread from outside goes to.
    next: AtomicUsize,
    /// The runtime that this is a session of, for its green threads to ask for; what it is is known above.
    runtime: Arc<dyn Any + Send + Sync>,
}

/// One worker, as the others see it.
struct Post {
    inbox: Lease,
    reactor: Arc<Reactor>,
    unstarted: Lock<VecDeque<Unstarted>>,
    /// The length of `unstarted`, written under its lock.
    unstarted_len: AtomicUsize,
}

/// A green thread that has not started: a record, and a stack only where stacks may run out.
struct Unstarted {
    task: TaskRef,
    /// Boxed, as hardly any has one and a hundred thousand may wait.
    stack: Option<Box<Stack>>,
}

impl Unstarted {
    fn new(task: TaskRef, stack: Option<Stack>) -> Unstarted {
        Unstarted { task, stack: stack.map(Box::new) }
    }
}

/// A green thread that may start here only: its closure need not be `Send`.
struct LocalStart {
    task: TaskRef,
    stack: Option<Stack>,
    body: Box<dyn FnOnce(Start)>,
}

/// What code on a green thread reaches of its worker.
pub(crate) struct Local {
    index: usize,
    shared: Arc<Shared>,
    timers: RefCell<Timers>,
    local_starts: RefCell<VecDeque<LocalStart>>,
    /// What the only worker of a runtime has not started; with several they stand where the others can take them.
    unstarted: RefCell<VecDeque<Unstarted>>,
    /// The green thread that is being resumed: an entry of the worker's table, which stands still meanwhile.
    running: Cell<Option<NonNull<TaskRef>>>,
    slot: Cell<Slot>,
    /// What green threads keep in thread-locals, by slot; as long as the highest slot that ever kept something.
    locals: RefCell<Vec<Option<Box<Locals>>>>,
    /// How many of those there are.
    keepers: Cell<usize>,
    suspender: Cell<Option<Suspender<(), Suspend>>>,
    /// The cancel scopes of the started green threads, by slot; as long as it had to be.
    scopes: RefCell<Vec<Scopes>>,
    /// What is left of the running thread's [`BUDGET`].
    budget: Cell<u32>,
    /// The clock as read at the last turn.
    now: Cell<Nanos>,
    /// Who says what runs next, in a simulation.
    oracle: Option<Box<Oracle>>,
}

thread_local! {
    /// The worker that this OS thread is. The `Local` outlives the loop that sets and clears it.
    static LOCAL: Cell<Option<NonNull<Local>>> = const { Cell::new(None) };
}

/// Runs `f` with the worker and the green thread that the caller runs on; `None` on a plain OS thread.
///
/// Neither reference may be kept across a suspension; `f` cannot return them, and must not suspend.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&Local, &TaskRef) -> T) -> Option<T> {
    let local = LOCAL.get()?;
    // SAFETY: set by the loop of this OS thread's worker, which owns the `Local` and clears the pointer before it goes.
    let local = unsafe { local.as_ref() };
    let task = local.running.get()?;
    // SAFETY: set around the resume that we are inside of; the table does not change before that returns (law 2).
    let task = unsafe { task.as_ref() };
    Some(f(local, task))
}

/// Whether the caller runs on a green thread.
#[inline]
pub(crate) fn is_green() -> bool {
    with(|_, _| ()).is_some()
}

/// Whether this OS thread is a worker: the caller runs on a green thread, or in a destructor that the worker itself has to run.
pub(crate) fn is_worker() -> bool {
    LOCAL.get().is_some()
}

/// Gives the worker back. The caller must be on a green thread.
#[inline(always)]
pub(crate) fn suspend(why: Suspend) {
    if is_unwinding() { suspend_unwinding(why) } else { switch(why) }
}

#[inline(always)]
fn switch(why: Suspend) {
    let suspender = with(|local, _| local.suspender.get()).flatten();
    let suspender = suspender.expect("only a green thread suspends");
    // SAFETY: `with` has found a running green thread on this OS thread, so this is its code, and the suspender is its own.
    unsafe { suspender.suspend(why) }
}

/// As [`suspend`], in the middle of an unwinding: the panic count goes along.
#[cold]
fn suspend_unwinding(why: Suspend) {
    let count = panic_count::take();
    switch(why);
    count.give_back();
}

/// Destroys the thread-locals of the running green thread, last initialised first. A destructor that panics is reported, and the others run
/// all the same.
///
/// The destructor of one may use the others; what it initialises is destroyed after it. A key whose value has been destroyed stays so until
/// the last one has been: no destructor can bring its own key back, so this ends.
#[inline]
pub(crate) fn destroy_locals() {
    if with(|local, _| local.keepers.get() > 0) == Some(true) {
        destroy_each_local();
    }
}

#[cold]
fn destroy_each_local() {
    while let Some(value) = with(|local, _| local.with_locals(Locals::pop)).flatten().flatten() {
        if let Err(payload) = drop_quietly(value) {
            // A cancel point in a destructor has unwound out of it: that is how the thread ends, not a fault.
            if !payload.is::<CancelUnwind>() {
                let who = with(|_, task| task.to_string()).unwrap_or_default();
                say(format_args!("the destructor of a thread-local panicked in {who}: {}", message(&*payload)));
            }
            discard(payload);
        }
    }
    let without_destructors = with(|local, _| local.take_locals());
    drop(without_destructors);
}

/// Cancels a green thread as a whole, from any thread.
pub(crate) fn cancel(task: &TaskRef, at: &'static Location<'static>) {
    if task.request_cancel(Some(at)).is_some() {
        tell_cancelled(task);
    }
}

/// Tells the worker of a started green thread that this has been cancelled, or a scope that it is in.
pub(crate) fn tell_cancelled(task: &TaskRef) {
    let Some(home) = task.home() else { return };
    if !run_queue::is_at(home) {
        return run_queue::push_cancelled(home);
    }
    let local = LOCAL.get().expect("this OS thread is its worker");
    // SAFETY: as in `with`, but it may be between two resumes.
    unsafe { local.as_ref() }.deliver_cancellation(task, home.slot);
}

/// Counts one operation that may not have to park; `true` if the running green thread has spent its [`BUDGET`] since it was resumed, and
/// the others should get their turn first.
#[inline]
pub(crate) fn is_budget_spent() -> bool {
    spend(1)
}

/// As [`is_budget_spent`], for an operation that costs so much.
#[inline]
pub(crate) fn spend(cost: u32) -> bool {
    with(|local, _| {
        let left = local.budget.get();
        local.budget.set(left.saturating_sub(cost));
        left == 0
    }) == Some(true)
}

/// A value from the seed of the simulation that the caller runs in, if it does.
pub(crate) fn random() -> Option<u64> {
    with(|local, _| local.oracle.as_ref().map(|oracle| oracle.value())).flatten()
}

/// The seed of the simulation that the caller runs in, if it does.
pub(crate) fn seed() -> Option<u64> {
    with(|local, _| local.oracle.as_ref().map(|oracle| oracle.seed())).flatten()
}

/// What is audited in the simulation that the caller runs in, if it is.
pub(crate) fn attempt() -> Option<Arc<Attempt>> {
    with(|local, _| local.oracle.as_ref()?.attempt().cloned()).flatten()
}

/// Ends the simulation that the caller runs in, if it does, with a failure.
pub(crate) fn fail_simulation(report: &str) {
    with(|local, _| {
        if local.oracle.is_some() {
            local.shared.fail(report.to_owned());
        }
    });
}

impl Local {
    fn post(&self) -> &Post {
        &self.shared.posts[self.index]
    }

    fn stack_for(&self, task: &TaskRef) -> io::Result<Stack> {
        stack::acquire(task.stack_size().unwrap_or(self.shared.stack_size))
    }

    /// Takes a stack already at spawn if one may not be had later.
    ///
    /// # Errors
    /// Stacks are running out, and there is none for it.
    pub(crate) fn reserve(&self, task: &TaskRef) -> io::Result<Option<Stack>> {
        if stack::needs_reservation() { self.stack_for(task).map(Some) } else { Ok(None) }
    }

    /// The clock as read at the last turn.
    pub(crate) fn now(&self) -> Nanos {
        self.now.get()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(crate) fn reactor(&self) -> &Arc<Reactor> {
        &self.post().reactor
    }

    /// The runtime that this worker belongs to.
    pub(crate) fn runtime(&self) -> &Arc<dyn Any + Send + Sync> {
        &self.shared.runtime
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.shared.posts.len()
    }

    /// Gives the running green thread a deadline; it must be taken back after the wait.
    pub(crate) fn insert_timer(&self, deadline: Instant) {
        let deadline = self.shared.clock.at(deadline);
        self.timers.borrow_mut().insert(self.slot.get(), deadline);
    }

    pub(crate) fn cancel_timer(&self) {
        self.timers.borrow_mut().cancel(self.slot.get());
    }

    /// Runs `f` with the cancel scopes of the green thread in `slot`, and brings up to date what its record says of them.
    fn with_scopes<T>(&self, task: &Task, slot: Slot, f: impl FnOnce(&mut Scopes, bool) -> T) -> T {
        let slot = slot as usize;
        let mut all = self.scopes.borrow_mut();
        if slot >= all.len() {
            all.resize_with(slot + 1, Scopes::new);
        }
        let root = task.is_cancel_requested();
        let result = f(&mut all[slot], root);
        task.set_attention(all[slot].is_cancelled(root), !all[slot].is_empty());
        result
    }

    /// Enters a cancel scope on the running green thread, and returns its number.
    pub(crate) fn enter_scope(&self, task: &Task, kind: Kind) -> u64 {
        // What is further out is as it was, but for a shield that hides it.
        let cancelled = task.is_cancelled() && !matches!(kind, Kind::Shield);
        let slot = self.slot.get() as usize;
        let mut all = self.scopes.borrow_mut();
        if slot >= all.len() {
            all.resize_with(slot + 1, Scopes::new);
        }
        let id = all[slot].enter(kind);
        task.set_attention(cancelled, true);
        id
    }

    /// Leaves a cancel scope of the running green thread. `None` if it was another thread that entered it: a generator has carried it
    /// over. Then that one is not in it any more.
    pub(crate) fn leave_scope(&self, task: &Task, id: u64) -> Option<Left> {
        let left = self.with_scopes(task, self.slot.get(), |scopes, root| scopes.leave(id, root));
        if left.is_some_and(|left| !left.pending) {
            task.set_raised(false);
        }
        if left.is_none() {
            for scopes in self.scopes.borrow_mut().iter_mut() {
                scopes.leave(id, false);
            }
        }
        left
    }

    /// The nearest deadline of the cancel scopes that the running green thread is in.
    #[inline]
    pub(crate) fn scope_deadline(&self, task: &Task) -> Option<Instant> {
        if !task.is_scoped() {
            return None;
        }
        self.scopes.borrow()[self.slot.get() as usize].deadline()
    }

    /// Notes that time has come for those cancel scopes of the running green thread whose deadline is not after `now`.
    #[cold]
    pub(crate) fn expire_scopes(&self, task: &Task, now: Instant) {
        self.with_scopes(task, self.slot.get(), |scopes, _| scopes.expire(now));
    }

    /// Whether the running green thread is cancelled at the time at which the clock was read last.
    #[cold]
    pub(crate) fn is_cancelled_by_now(&self, task: &TaskRef) -> bool {
        if self.oracle.as_ref().is_some_and(|oracle| oracle.comes_to(Way::Arriving, task)) {
            self.cancel_for_audit(task);
        }
        if let Some(deadline) = self.scope_deadline(task) {
            let now = self.shared.clock.instant(self.now.get());
            if deadline <= now {
                self.expire_scopes(task, now);
            }
        }
        task.is_cancelled()
    }

    /// Whether the running green thread is cancelled at `now`, though this worker may not have been told yet.
    pub(crate) fn is_cancelled_at(&self, task: &Task, now: Instant) -> bool {
        if task.is_scoped() {
            self.expire_scopes(task, now);
        }
        self.look_anew(task, self.slot.get())
    }

    /// Brings up to date what the record of a green thread of this worker says of its cancellation, and returns it.
    fn look_anew(&self, task: &Task, slot: Slot) -> bool {
        if task.is_scoped() {
            return self.with_scopes(task, slot, |scopes, root| scopes.is_cancelled(root));
        }
        task.set_attention(task.is_cancel_requested(), false);
        task.is_cancelled()
    }

    /// Has a green thread of this worker look at its cancellation anew: wakes it if it is parked where it can be cancelled.
    fn deliver_cancellation(&self, task: &TaskRef, slot: Slot) {
        if self.look_anew(task, slot) && !task.is_shielded() {
            end_wait(task, slot, Wake::Cancelled);
        }
    }

    /// Runs `f` with the thread-locals of the running green thread, if it has any.
    #[inline]
    pub(crate) fn with_locals<T>(&self, f: impl FnOnce(&mut Locals) -> T) -> Option<T> {
        let mut locals = self.locals.borrow_mut();
        let own = locals.get_mut(self.slot.get() as usize)?;
        own.as_deref_mut().map(f)
    }

    /// As [`with_locals`](Local::with_locals), making them first.
    pub(crate) fn with_new_locals<T>(&self, f: impl FnOnce(&mut Locals) -> T) -> T {
        let mut locals = self.locals.borrow_mut();
        let slot = self.slot.get() as usize;
        if locals.len() <= slot {
            locals.resize_with(slot + 1, || None);
        }
        f(locals[slot].get_or_insert_with(|| {
            self.keepers.set(self.keepers.get() + 1);
            Box::default()
        }))
    }

    /// Takes the thread-locals from the running green thread.
    pub(crate) fn take_locals(&self) -> Option<Box<Locals>> {
        let locals = self.locals.borrow_mut().get_mut(self.slot.get() as usize)?.take()?;
        self.keepers.set(self.keepers.get() - 1);
        Some(locals)
    }

    /// Cancels a green thread of a simulation, as [`cancel`] would.
    #[cold]
    fn cancel_for_audit(&self, task: &TaskRef) {
        let Some((oracle, attempt)) = self.oracle.as_ref().and_then(|oracle| Some((oracle, oracle.attempt()?))) else { return };
        oracle.write(format_args!("{} cancels {}", Seconds(self.now()), oracle.who(task)));
        if let Some(home) = task.request_cancel(Some(attempt.location())) {
            self.deliver_cancellation(task, home.slot);
        }
    }

    /// Leaves an unstarted green thread where an idle worker can take it.
    pub(crate) fn spawn(&self, task: TaskRef, stack: Option<Stack>) {
        self.note_spawn(&task);
        let unstarted = Unstarted::new(task, stack);
        if self.worker_count() == 1 {
            self.unstarted.borrow_mut().push_back(unstarted);
        } else {
            self.post().push_unstarted([unstarted]);
            self.shared.rouse_one(Some(self.index));
        }
    }

    /// Takes over what was left from outside to the only worker of a runtime; of several each starts what stands at its own post.
    fn take_posted(&self) {
        let post = self.post();
        if self.worker_count() == 1 && post.unstarted_len.load(Ordering::Relaxed) > 0 {
            let mut posted = post.unstarted.lock();
            posted.iter().for_each(|unstarted| self.note_spawn(&unstarted.task));
            self.unstarted.borrow_mut().extend(posted.drain(..));
            post.unstarted_len.store(0, Ordering::Relaxed);
        }
    }

    /// Leaves an unstarted green thread to this worker. `body` runs instead of the task's own.
    pub(crate) fn spawn_local(&self, task: TaskRef, stack: Option<Stack>, body: Box<dyn FnOnce(Start)>) {
        self.note_spawn(&task);
        let start = LocalStart { task, stack, body };
        self.local_starts.borrow_mut().push_back(start);
    }

    #[inline]
    fn note_spawn(&self, task: &TaskRef) {
        if let Some(oracle) = &self.oracle {
            oracle.spawned(task, self.now());
        }
    }
}

impl Post {
    fn push_unstarted(&self, tasks: impl IntoIterator<Item = Unstarted>) {
        let mut unstarted = self.unstarted.lock();
        unstarted.extend(tasks);
        self.unstarted_len.store(unstarted.len(), Ordering::Relaxed);
    }

    fn pop_unstarted(&self) -> Option<Unstarted> {
        if self.unstarted_len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut unstarted = self.unstarted.lock();
        let task = unstarted.pop_front();
        forget_burst(&mut unstarted);
        self.unstarted_len.store(unstarted.len(), Ordering::Relaxed);
        task
    }

    /// Takes half of what is there, oldest first, [`STEAL`] at most.
    fn steal(&self) -> Vec<Unstarted> {
        if self.unstarted_len.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut unstarted = self.unstarted.lock();
        let count = unstarted.len().div_ceil(2).min(STEAL);
        let stolen = unstarted.drain(..count).collect();
        self.unstarted_len.store(unstarted.len(), Ordering::Relaxed);
        stolen
    }
}

/// Gives back the memory of a queue that was once very long, when it is empty.
fn forget_burst(queue: &mut VecDeque<Unstarted>) {
    if queue.is_empty() && queue.capacity() > BURST {
        *queue = VecDeque::new();
    }
}

impl Shared {
    /// # Errors
    /// The process is out of file descriptors.
    pub(crate) fn new(
        workers: usize,
        stack_size: usize,
        shutdown_timeout: Duration,
        plan: Option<Plan>,
        runtime: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<Arc<Shared>> {
        let posts = (0..workers).map(|_| {
            let reactor = Reactor::new()?;
            Ok(Post {
                inbox: Lease::new(reactor.clone())?,
                reactor,
                unstarted: Lock::default(),
                unstarted_len: AtomicUsize::new(0),
            })
        });
        Ok(Arc::new(Shared {
            posts: posts.collect::<io::Result<_>>()?,
            clock: if plan.is_some() { Clock::new_virtual() } else { Clock::new() },
            stack_size,
            shutdown_timeout,
            sleepers: Sleepers::default(),
            standstill: Standstill::default(),
            stuck: Lock::default(),
            searching: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            grace_ends: Lock::new(None),
            plan,
            failure: Lock::new(None),
            says_who: AtomicBool::new(true),
            ending: Ending::new(workers),
            next: AtomicUsize::new(0),
            runtime,
        }))
    }

    /// Leaves a green thread that does not come from one of the workers to one of them, with the stack that was reserved for it. Somebody
    /// is to be roused for it afterwards.
    pub(crate) fn push(&self, task: TaskRef, stack: Option<Stack>) {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.posts.len();
        self.posts[next].push_unstarted([Unstarted::new(task, stack)]);
    }

    /// Rouses a worker for what has been pushed.
    pub(crate) fn rouse(&self) {
        self.rouse_one(None);
    }

    /// Rouses one sleeping worker other than `but`, the calling one, to look for unstarted threads.
    fn rouse_one(&self, but: Option<usize>) {
        if but.is_some() && self.posts.len() == 1 {
            return;
        }
        if !self.sleepers.any() || self.searching.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut others = self.posts.iter().enumerate().filter(|(index, _)| Some(*index) != but);
        if !others.any(|(_, post)| post.inbox.rouse()) {
            self.searching.store(false, Ordering::Release);
        }
    }

    /// Begins the end: every green thread is cancelled, and given until `grace` from now to unwind.
    pub(crate) fn stop(&self, grace: Duration) {
        let grace = if self.standstill.is_found() { grace.max(LAST_CHANCE) } else { grace };
        *self.grace_ends.lock() = self.clock.read().checked_add(grace);
        self.stopping.store(true, Ordering::SeqCst);
        // A worker that goes to sleep looks at `stopping` after it has said so; we look the other way round.
        fence(Ordering::SeqCst);
        for post in &self.posts {
            post.inbox.rouse();
        }
    }

    /// As [`stop`](Shared::stop), without a word on standard error about who does not end.
    pub(crate) fn stop_quietly(&self, grace: Duration) {
        self.says_who.store(false, Ordering::Relaxed);
        self.stop(grace);
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.posts.len()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Begins the end because of what `report` says, unless something else has failed before.
    fn fail(&self, report: String) {
        let stopping = self.is_stopping();
        self.failure.lock().get_or_insert((report, !stopping));
        if !stopping {
            self.stop(self.shutdown_timeout);
        }
    }

    /// Takes what has failed apart from the root; `true`: before the root has ended, so that its end may be due to it.
    pub(crate) fn take_failure(&self) -> Option<(String, bool)> {
        self.failure.lock().take()
    }
}

/// A started green thread. One cache line, as with thousands of threads each resume finds it in no cache.
#[repr(align(64))]
struct Entry {
    coroutine: Green,
    task: TaskRef,
    suspender: Option<Suspender<(), Suspend>>,
}

const _: () = assert!(size_of::<Entry>() == 64 || cfg!(hebra_sanitizer), "only a sanitizer makes coroutines larger");

/// The loop's own state; see the module.
pub(crate) struct Worker {
    /// On the heap, because green threads write to it while the loop holds itself exclusively.
    local: Rc<Local>,
    table: Slab<Entry>,
    events: Events,
    /// An empty vector to swap against the inbox.
    spare: Vec<Slot>,
    quota: u32,
    /// Resumes ahead for which prefetching pays: those that the last look at I/O has brought.
    cold: usize,
    /// Resumes until all have run that the last look at I/O has made ready.
    brought: usize,
    turn_began: Nanos,
    last_poll: Nanos,
    /// It may have been roused to look for unstarted threads, and has not looked yet.
    roused: bool,
    sweep: Sweep,
    /// How often it was the last to sleep for good since somebody has run, and there were other OS threads.
    doubts: u32,
    stop: Stop,
}

/// How far the end of the runtime has come on this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Cancelled,
    Reported,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Worker {
        stack::ensure_alternate_stack();
        let now = shared.clock.now();
        let oracle = shared.plan.as_ref().map(|plan| Box::new(Oracle::new(plan)));
        let timers = Timers::new(oracle.is_some());
        Worker {
            local: Rc::new(Local {
                index,
                shared,
                oracle,
                timers: RefCell::new(timers),
                local_starts: RefCell::default(),
                unstarted: RefCell::default(),
                running: Cell::new(None),
                slot: Cell::new(0),
                locals: RefCell::default(),
                keepers: Cell::new(0),
                suspender: Cell::new(None),
                scopes: RefCell::default(),
                budget: Cell::new(0),
                now: Cell::new(now),
            }),
            table: Slab::new(),
            events: Events::new(),
            spare: Vec::new(),
            quota: QUOTA,
            cold: 0,
            brought: 0,
            turn_began: now,
            last_poll: now,
            roused: false,
            sweep: Sweep::default(),
            doubts: 0,
            stop: Stop::No,
        }
    }

    /// Runs `body` as this worker's first green thread, and the loop until the runtime has stopped.
    ///
    /// # Errors
    /// There is no stack for it; `body` has been dropped.
    pub(crate) fn run_root<'a>(self, task: TaskRef, body: Box<dyn FnOnce(Start) + 'a>) -> io::Result<()> {
        let body = Box::into_raw(Box::new(body)).cast::<Box<dyn FnOnce(Start) + 'static>>();
        // SAFETY: the pointer comes from `into_raw`, and differs from it in a lifetime. What has that lifetime outlives this
        // call, and `run` returns only when every coroutine has finished and every closure is gone; it does not unwind.
        let body = unsafe { Box::from_raw(body) };
        let stack = self.local.reserve(&task)?;
        self.local.spawn_local(task, stack, *body);
        self.run();
        Ok(())
    }

    /// Runs green threads until the runtime stops and the last of this worker's has ended.
    pub(crate) fn run(mut self) {
        let abort = AbortOnUnwind;
        let _here = self.enter();
        LocalQueue::with(|queue| {
            loop {
                if self.local.oracle.is_none() {
                    self.resume_ready(queue);
                    self.start_unstarted();
                } else {
                    self.step(queue);
                }
                self.read_clock();
                self.read_mail(queue);
                self.expire_timers();
                self.sweep();
                if self.has_work(queue) {
                    self.pass_on_search();
                    self.poll_if_due();
                } else if !self.take_from_others() {
                    if self.is_finished() {
                        break;
                    }
                    self.sleep();
                }
                if self.local.shared.is_stopping() {
                    self.wind_down();
                }
            }
        });
        self.local.shared.ending.answer(self.local.index, Answer::Ended);
        mem::forget(abort);
    }

    fn resume_ready(&mut self, queue: &LocalQueue) {
        for _ in 0..self.quota {
            let Some(slot) = queue.pop() else { break };
            self.sweep.set_active();
            self.brought = self.brought.saturating_sub(1);
            if self.cold > 0 {
                self.cold -= 1;
                self.prefetch(queue);
            }
            self.resume(slot, queue);
        }
    }

    /// Brings what the next ready threads need into the cache while this one runs: in three steps, as each leads to the next.
    fn prefetch(&self, queue: &LocalQueue) {
        let ahead = |steps| queue.peek(steps).and_then(|slot| self.table.get(slot as usize));
        if let Some(entry) = ahead(0) {
            // What the switch has saved lies below, perhaps in the next line.
            prefetch::<HOT_STACK>(entry.task.stack_end().wrapping_sub(LINE));
            prefetch::<2>(entry.task.waits_for());
        }
        // A record and an entry are as long as a line or two, and begin anywhere in one.
        if let Some(entry) = ahead(1) {
            prefetch::<2>(Arc::as_ptr(&entry.task).addr());
        }
        if let Some(entry) = ahead(2) {
            prefetch::<2>(ptr::from_ref(entry).addr());
        }
    }

    #[inline]
    fn resume(&mut self, slot: Slot, queue: &LocalQueue) {
        let entry = &mut self.table[slot as usize];
        let local = &self.local;
        local.running.set(Some(NonNull::from(&entry.task)));
        local.slot.set(slot);
        local.suspender.set(entry.suspender);
        local.budget.set(BUDGET);
        forget_current_id();
        let resumed = entry.coroutine.resume(());
        local.running.set(None);
        entry.suspender = local.suspender.get();
        match resumed {
            Resumed::Suspended(Suspend::Park) => {}
            Resumed::Suspended(Suspend::Yield) => queue.push(slot),
            Resumed::Finished(()) => drop(self.table.remove(slot as usize)),
        }
    }

    fn start_unstarted(&mut self) {
        self.local.take_posted();
        for _ in 0..self.quota {
            let local = self.local.local_starts.borrow_mut().pop_front();
            if let Some(LocalStart { task, stack, body }) = local {
                self.start(task, stack, body);
                continue;
            }
            let Some(Unstarted { task, stack }) = self.next_unstarted() else { break };
            // The table keeps the record alive as long as the coroutine; a reference of its own would be two atomics.
            let record: NonNull<Task<dyn Body>> = NonNull::from(&*task);
            self.start(task, stack.map(|stack| *stack), move |start| {
                // SAFETY: this runs on the coroutine of the entry that holds the `Arc` (law 3); or in `start`, which holds it.
                unsafe { record.as_ref() }.body.run(start);
            });
        }
    }

    fn next_unstarted(&self) -> Option<Unstarted> {
        if self.local.worker_count() > 1 {
            return self.local.post().pop_unstarted();
        }
        let mut unstarted = self.local.unstarted.borrow_mut();
        let next = unstarted.pop_front();
        forget_burst(&mut unstarted);
        next
    }

    /// Gives `task` a stack and a place in the table, and runs `body` until it first suspends.
    fn start(&mut self, task: TaskRef, stack: Option<Stack>, body: impl FnOnce(Start) + 'static) {
        self.sweep.set_active();
        let stack = match stack.map_or_else(|| self.local.stack_for(&task), Ok) {
            Ok(stack) => stack,
            Err(error) => {
                // The destructor of its closure runs here, in nobody's name.
                forget_current_id();
                return body(Start::NoStack(error));
            }
        };
        let label = Label { what: What::GreenThread, name: task.name(), location: task.location() };
        stack.set_label(&label);
        let vacant = self.table.vacant_entry();
        let slot = Slot::try_from(vacant.key()).expect("fewer than 2^32 green threads a worker");
        if self.local.shared.is_stopping() {
            task.request_cancel(None);
        }
        let cancelled = task.settle(Home { worker: self.local.post().inbox.worker(), slot });
        if cancelled {
            task.set_attention(true, false);
        }
        if let Some(scopes) = self.local.scopes.borrow_mut().get_mut(vacant.key()) {
            scopes.clear();
        }
        let start = if cancelled { Start::Discard } else { Start::Run };
        let coroutine = Coroutine::new(stack, move |yielder, ()| {
            let suspender = Suspender::new(yielder);
            with(|local, _| local.suspender.set(Some(suspender)));
            body(start);
            destroy_locals();
        });
        vacant.insert(Entry { coroutine, task, suspender: None });
        LocalQueue::with(|queue| self.resume(slot, queue));
    }

    fn read_clock(&mut self) {
        let now = self.local.shared.clock.now();
        let turn = now - self.turn_began;
        self.turn_began = now;
        self.local.now.set(now);
        self.quota = if turn > TURN { (self.quota / 2).max(1) } else { (self.quota * 2).min(QUOTA) };
    }

    fn read_mail(&mut self, queue: &LocalQueue) {
        let Mail { mut ready, cancelled } = self.local.post().inbox.take(&mut self.spare);
        queue.extend(ready.drain(..));
        if ready.capacity() > 0 {
            self.spare = ready;
        }
        for slot in cancelled {
            if let Some(entry) = self.table.get(slot as usize) {
                self.local.deliver_cancellation(&entry.task, slot);
            }
        }
    }

    fn expire_timers(&mut self) {
        let mut timers = self.local.timers.borrow_mut();
        timers.expire(self.local.now.get(), |slot| {
            end_wait(&self.table[slot as usize].task, slot, Wake::TimedOut);
        });
    }

    fn sweep(&mut self) {
        let slots = self.table.capacity();
        self.sweep.run(self.local.now.get(), slots, |slot| self.table.get(slot).map(|entry| &entry.task));
    }

    fn has_work(&self, queue: &LocalQueue) -> bool {
        !queue.is_empty()
            || !self.local.unstarted.borrow().is_empty()
            || self.local.post().unstarted_len.load(Ordering::Relaxed) > 0
            || !self.local.local_starts.borrow().is_empty()
    }

    fn poll_if_due(&mut self) {
        let now = self.local.now.get();
        let interval = if self.brought > 0 { PATIENT_INTERVAL } else { POLL_INTERVAL };
        if now - self.last_poll >= interval {
            self.last_poll = now;
            self.sweep.arm(now, self.table.len());
            self.poll(Some(0));
        }
    }

    fn poll(&mut self, timeout: Option<Nanos>) {
        let edges = self.local.post().reactor.poll(&mut self.events, timeout);
        let ready = LocalQueue::with(LocalQueue::len);
        self.brought = if edges == 0 { 0 } else { ready };
        self.cold = if edges == 0 || self.table.len() < MANY { 0 } else { ready };
    }

    /// Whoever was roused to look for unstarted threads and has work of its own lets another look.
    fn pass_on_search(&mut self) {
        if std::mem::take(&mut self.roused) {
            let shared = &self.local.shared;
            let has_unstarted = |post: &Post| post.unstarted_len.load(Ordering::Relaxed) > 0;
            if shared.searching.swap(false, Ordering::AcqRel) && shared.posts.iter().any(has_unstarted) {
                shared.rouse_one(Some(self.local.index));
            }
        }
    }

    fn take_from_others(&mut self) -> bool {
        let shared = &self.local.shared;
        let workers = shared.posts.len();
        for other in (1..workers).map(|step| &shared.posts[(self.local.index + step) % workers]) {
            let stolen = other.steal();
            if !stolen.is_empty() {
                let more = other.unstarted_len.load(Ordering::Relaxed) > 0 || stolen.len() > 1;
                self.local.post().push_unstarted(stolen);
                shared.searching.store(false, Ordering::Release);
                if more {
                    shared.rouse_one(Some(self.local.index));
                }
                return true;
            }
        }
        false
    }

    fn sleep(&mut self) {
        if self.local.oracle.is_some() {
            return self.pass_time();
        }
        let shared = self.local.shared.clone();
        let inbox = &shared.posts[self.local.index].inbox;
        if !inbox.begin_sleep() {
            return;
        }
        shared.searching.store(false, Ordering::Release);
        shared.sleepers.announce();
        let unstarted = |post: &Post| post.unstarted_len.load(Ordering::Relaxed) > 0;
        let stay_awake = shared.posts.iter().any(unstarted) || self.must_wind_down();
        if !stay_awake {
            match self.time_to_next_event() {
                None => self.sleep_for_good(),
                timeout => {
                    self.doubts = 0;
                    self.poll(timeout);
                }
            }
        }
        shared.sleepers.wake_up();
        inbox.end_sleep();
        self.roused = shared.searching.load(Ordering::Relaxed);
        self.read_clock();
        self.turn_began = self.local.now.get();
        self.last_poll = self.turn_began;
    }

    fn time_to_next_event(&mut self) -> Option<Nanos> {
        self.sweep.arm(self.local.now.get(), self.table.len());
        let deadline = self.local.timers.borrow_mut().next_deadline();
        let grace = match self.stop {
            Stop::Cancelled => *self.local.shared.grace_ends.lock(),
            Stop::No | Stop::Reported => None,
        };
        let grace = grace.map(|instant| self.local.shared.clock.at(instant));
        let next = deadline.into_iter().chain(grace).chain(self.sweep.due()).min()?;
        Some(next.saturating_sub(self.local.shared.clock.now()))
    }

    fn must_wind_down(&self) -> bool {
        self.stop == Stop::No && self.local.shared.is_stopping()
    }

    /// Cancels what is parked here, once; and says who is left when the grace has passed.
    #[cold]
    fn wind_down(&mut self) {
        if self.stop == Stop::No {
            self.stop = Stop::Cancelled;
            for (slot, entry) in &self.table {
                entry.task.request_cancel(None);
                self.local.deliver_cancellation(&entry.task, slot as Slot);
            }
        }
        let grace = *self.local.shared.grace_ends.lock();
        if self.stop == Stop::Cancelled && grace.is_some_and(|grace| self.local.clock().read() >= grace) {
            self.stop = Stop::Reported;
            if self.local.oracle.is_some() {
                return self.give_up("green threads have been cancelled and do not end");
            }
            if self.local.shared.standstill.is_found() && !self.table.is_empty() {
                return self.give_up("green threads have been cancelled and do not end");
            }
            let left: Vec<Straggler> = self.table.iter().map(|(_, entry)| Straggler::new(&entry.task)).collect();
            let shared = &self.local.shared;
            if shared.says_who.load(Ordering::Relaxed) {
                for (_, Entry { task, .. }) in &self.table {
                    say(format_args!("{task} has not ended though its runtime has: {}", task.reason()));
                }
            }
            if !left.is_empty() {
                shared.ending.answer(self.local.index, Answer::Left(left));
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.stop != Stop::No && self.table.is_empty()
    }

    fn enter(&self) -> Entered {
        let here = NonNull::from(&*self.local);
        let previous = LOCAL.replace(Some(here));
        assert!(previous.is_none(), "an OS thread is one worker at a time");
        LocalQueue::with(|queue| queue.set_worker(Some(self.local.post().inbox.worker())));
        Entered
    }
}

/// Ends the wait of a green thread of this worker, between resumes, and makes it runnable.
fn end_wait(task: &TaskRef, slot: Slot, wake: Wake) {
    if task.claim.end_current(wake) {
        LocalQueue::with(|queue| queue.push(slot));
    }
}

/// While it lives this OS thread is a worker.
struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        LOCAL.set(None);
        forget_current_id();
        LocalQueue::with(|queue| queue.set_worker(None));
    }
}

/// Ends the process if a bug of ours unwinds the loop: the coroutines of its table cannot be dropped.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        say(format_args!("a worker has panicked; this is a bug in hebra"));
        std::process::abort();
    }
}
