//! [`Local`]: what code on a green thread reaches of its worker, and how it finds it.
//!
//! A thread-local of the OS thread leads to it, while the loop runs; and it leads to the entry of
//! the worker's table whose coroutine is being resumed. Both references are lent to a closure that
//! does not suspend, for the entry may have moved when it is resumed: so no code of the user's may
//! run in there, not a destructor either.

use crate::atomic::Ordering;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::io;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::LocalKey;
use std::time::Instant;

use super::super::audit::{Attempt, Way};
use super::super::claim::Wake;
use super::super::clock::{Clock, Nanos};
use super::super::locals::Locals;
use super::super::oracle::{Oracle, Seconds};
use super::super::reactor::Reactor;
use super::super::run_queue::{self, LocalQueue, START, START_LOCAL, Slot};
use super::super::scopes::{Kind, Left, Scopes};
use super::super::task::{Start, Task, TaskRef, current_id, forget_current_id, next_id};
use super::super::timers::Timers;
use super::Entry;
use super::shared::{Post, Shared, Unstarted};
use slab::Slab;

use crate::coroutine::{FloatControl, Suspender};
use crate::panic_count;
use crate::report::say;
use crate::stack::{self, Stack};
use crate::stack_walk::Registers;
use crate::unwinding::{
    CancelUnwind, discard, drop_quietly, is_unwinding, message, use_green_flag,
};

/// What operations that succeed without parking may cost before their thread has to let the others
/// run.
pub(super) const BUDGET: i64 = 128;
/// What an operation costs that is a system call. So a busy connection holds the others up for some
/// tens of microseconds.
pub(crate) const SYSTEM_CALL: i64 = 4;

/// Why a green thread gives its worker back.
#[derive(Clone, Copy)]
pub(crate) enum Suspend {
    /// It wants to run again after the others.
    Yield,
    /// As `Yield`, because its [`BUDGET`] has gone into system calls.
    Spent,
    /// Somebody will make it runnable.
    Park,
}

/// A green thread that may start here only: its closure need not be `Send`.
pub(super) struct LocalStart {
    pub(super) task: TaskRef,
    pub(super) stack: Option<Stack>,
    pub(super) body: Box<dyn FnOnce(Start)>,
}

/// What code on a green thread reaches of its worker.
pub(crate) struct Local {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) timers: RefCell<Timers>,
    pub(super) local_starts: RefCell<VecDeque<LocalStart>>,
    /// What the only worker of a runtime has not started; with several they stand where the others
    /// can take them.
    pub(super) unstarted: RefCell<VecDeque<Unstarted>>,
    /// How many [`START`] the run queue holds: at least one for each unstarted thread that was
    /// here at the last turn, and more after other workers have taken some.
    pub(super) announced: Cell<usize>,
    /// The green thread that is being resumed: an entry of the worker's table, which stands still
    /// meanwhile.
    pub(super) running: Cell<Option<NonNull<TaskRef>>>,
    pub(super) slot: Cell<Slot>,
    /// What green threads keep in thread-locals, by slot; as long as the highest slot that ever
    /// kept something.
    locals: RefCell<Vec<Option<Box<Locals>>>>,
    /// How many of those there are.
    keepers: Cell<usize>,
    pub(super) suspender: Cell<Option<Suspender<(), Suspend>>>,
    /// The worker's table while the loop runs; null otherwise. For a signal handler.
    pub(super) table: Cell<*const Slab<Entry>>,
    /// The cancel scopes of the started green threads, by slot; as long as it had to be.
    pub(super) scopes: RefCell<Vec<Scopes>>,
    /// The mode in which the worker runs, and with it each green thread until it sets another.
    float_control: FloatControl,
    /// System calls in this turn, of those that are counted.
    pub(super) system_calls: Cell<u32>,
    /// The clock as read at the last turn.
    pub(super) now: Cell<Nanos>,
    /// Who says what runs next, in a simulation.
    pub(super) oracle: Option<Box<Oracle>>,
}

thread_local! {
    /// The worker that this OS thread is. Set and cleared by an `Entered`, which keeps it alive.
    static LOCAL: Cell<Option<NonNull<Local>>> = const { Cell::new(None) };
    /// What is left of the running thread's [`BUDGET`]. The loop sets it at each resume, the
    /// thread's operations count it down: below zero is the debt of those that cannot wait. Apart
    /// from `LOCAL`, so that locking a mutex need not find out whether the caller is green.
    static LEFT: Cell<i64> = const { Cell::new(0) };
    /// Set by `begin_exit`, and then never cleared, and in `without_waiting`.
    static CANNOT_WAIT: Cell<bool> = const { Cell::new(false) };
    /// How often the loop has begun on this OS thread; and its turns. See `watch_exit`.
    static BEGINNINGS: Cell<u64> = const { Cell::new(0) };
    pub(super) static TURNS: Cell<u64> = const { Cell::new(0) };
}

/// Whether the caller runs where the worker's loop cannot go on:
///
/// - A green thread of this OS thread has called `exit`. The destructors of the OS thread's
///   thread-locals and the handlers of `atexit` run on its stack, and the worker's other green
///   threads may hold references to thread-locals that are gone.
/// - The loop itself runs a destructor, as there is no stack for it.
///
/// Then the caller counts as an OS thread that is cancelled.
#[inline]
pub(crate) fn cannot_wait() -> bool {
    CANNOT_WAIT.get()
}

/// Runs `f`, a destructor of the user's, in the worker's loop: its waits fail or return, as nobody
/// could end them.
#[cold]
pub(super) fn without_waiting(f: impl FnOnce()) {
    forget_current_id();
    let before = CANNOT_WAIT.replace(true);
    f();
    CANNOT_WAIT.set(before);
    forget_current_id();
}

/// Runs before the destructors of those thread-locals of this OS thread that were first used before
/// [`watch_exit`]. At the end of an OS thread there is nothing to do; but if it is a worker in its
/// loop, it is `exit` that runs them.
extern "C" fn begin_exit(_: *mut c_void) {
    if LOCAL.get().is_none() {
        return;
    }
    // The locks that the green thread holds know it by this id.
    current_id(|| with(|_, task| task.id()).unwrap_or_else(next_id));
    LOCAL.set(None);
    CANNOT_WAIT.set(true);
}

/// Counts an occasion to register `begin_exit` on this OS thread: a turn of the loop, or the
/// beginning of one. glibc runs what was registered last first, std registers the destructor of
/// each thread-local at its first use, and neither can be asked whether `exit` has begun. Where the
/// count is a power of two it is registered anew: so thread-locals that are older than half of the
/// turns are destroyed after `begin_exit`, and what it leaves in glibc's list is a hundred entries
/// at most.
#[inline]
pub(super) fn watch_exit(occasions: &'static LocalKey<Cell<u64>>) {
    let count = occasions.get() + 1;
    occasions.set(count);
    if count.is_power_of_two() {
        register_exit();
    }
}

#[cold]
fn register_exit() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn __cxa_thread_atexit_impl(
                destructor: extern "C" fn(*mut c_void),
                object: *mut c_void,
                library: *mut c_void,
            ) -> c_int;
        }
        let library = begin_exit as extern "C" fn(*mut c_void) as *mut c_void;
        // SAFETY: the destructor takes any argument, and does not unwind; any address of a library
        // names it, and keeps it loaded until the destructor has run.
        let result = unsafe { __cxa_thread_atexit_impl(begin_exit, ptr::null_mut(), library) };
        debug_assert_eq!(result, 0, "there is memory to register a destructor");
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        struct Sentinel;
        impl Drop for Sentinel {
            fn drop(&mut self) {
                begin_exit(ptr::null_mut());
            }
        }
        thread_local! {
            static SENTINEL: Sentinel = const { Sentinel };
        }
        // Thread-locals that are used for the first time after this one are destroyed before it.
        let _ = SENTINEL.try_with(|_| ());
    }
}

/// Runs `f` with the worker and the green thread that the caller runs on; `None` on a plain OS
/// thread.
///
/// Neither reference may be kept across a suspension; `f` cannot return them, and must not suspend.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&Local, &TaskRef) -> T) -> Option<T> {
    let local = LOCAL.get()?;
    // SAFETY: the `Entered` that has set it holds the `Local`, and clears it before it goes.
    let local = unsafe { local.as_ref() };
    let task = local.running.get()?;
    // SAFETY: set around the resume that we are inside of; the table does not change before that
    // returns (law 2).
    let task = unsafe { task.as_ref() };
    Some(f(local, task))
}

/// Whether the caller runs on a green thread.
#[inline]
pub(crate) fn is_green() -> bool {
    with(|_, _| ()).is_some()
}

/// Whether this OS thread is a worker: the caller runs on a green thread, or in a destructor that
/// the worker itself has to run.
pub(crate) fn is_worker() -> bool {
    LOCAL.get().is_some()
}

/// Gives the worker back. The caller must be on a green thread.
#[inline(always)]
pub(crate) fn suspend(why: Suspend) {
    if is_unwinding() {
        suspend_unwinding(why)
    } else {
        switch(why)
    }
}

#[inline(always)]
fn switch(why: Suspend) {
    let mode = FloatControl::current();
    match with(|local, _| (local.suspender.get(), local.float_control)) {
        Some((Some(suspender), common)) if mode == common => {
            // SAFETY: `with` has found a running green thread on this OS thread, so this is its
            // code, and the suspender is its own.
            unsafe { suspender.suspend(why) }
        }
        _ => switch_with_mode(why, mode),
    }
}

/// As [`switch`], for a green thread that has set another floating-point mode than its worker's.
#[cold]
#[inline(never)]
fn switch_with_mode(why: Suspend, mode: FloatControl) {
    let suspender = with(|local, _| {
        local.float_control.set();
        local.suspender.get()
    });
    let suspender = suspender.flatten().expect("only a green thread suspends");
    // SAFETY: `with` has found a running green thread on this OS thread, so this is its code, and
    // the suspender is its own.
    unsafe { suspender.suspend(why) };
    mode.set();
}

/// Sets the worker's floating-point mode, when a green thread ends.
#[inline]
pub(crate) fn reset_float_control() {
    let mode = FloatControl::current();
    if let Some(common) = with(|local, _| local.float_control)
        && mode != common
    {
        common.set();
    }
}

/// As [`suspend`], in the middle of an unwinding: the panic count goes along.
#[cold]
fn suspend_unwinding(why: Suspend) {
    let count = panic_count::take();
    switch(why);
    count.give_back();
}

/// Destroys the thread-locals of the running green thread, last initialised first. A destructor
/// that panics is reported, and the others run all the same.
///
/// The destructor of one may use the others; what it initialises is destroyed after it. A key whose
/// value has been destroyed stays so until the last one has been: no destructor can bring its own
/// key back, so this ends.
#[inline]
pub(crate) fn destroy_locals() {
    if with(|local, _| local.keepers.get() > 0) == Some(true) {
        destroy_each_local();
    }
}

#[cold]
fn destroy_each_local() {
    while let Some(value) = with(|local, _| local.with_locals(Locals::pop))
        .flatten()
        .flatten()
    {
        if let Err(payload) = drop_quietly(value) {
            // A cancel point in a destructor has unwound out of it: that is how the thread ends,
            // not a fault.
            if !payload.is::<CancelUnwind>() {
                let who = with(|_, task| task.to_string()).unwrap_or_default();
                say(format_args!(
                    "the destructor of a thread-local panicked in {who}: {}",
                    message(&*payload)
                ));
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

/// Tells the worker of a started green thread that this has been cancelled, or a scope that it is
/// in.
pub(crate) fn tell_cancelled(task: &TaskRef) {
    let Some(home) = task.home() else { return };
    if !run_queue::is_at(home) {
        return run_queue::push_cancelled(home);
    }
    let local = LOCAL.get().expect("this OS thread is its worker");
    // SAFETY: as in `with`, but it may be between two resumes.
    unsafe { local.as_ref() }.deliver_cancellation(task, home.slot);
}

/// In a signal handler: captures the green threads of the worker that this OS thread is, if that is
/// wanted and one of them runs here, with these registers.
pub(super) fn capture_in_handler(registers: Registers) {
    let Some(local) = LOCAL.get() else { return };
    // SAFETY: as in `with`.
    let local = unsafe { local.as_ref() };
    // Else the loop has been interrupted, which changes the table and looks at the request soon.
    if local.running.get().is_none() {
        return;
    }
    let Some(capture) = local.post().take_wanted() else {
        return;
    };
    // SAFETY: the loop has set it, and is in the middle of a resume: the table does not change
    // before this returns (law 2). Nothing else of this OS thread uses it meanwhile, as that has
    // been interrupted.
    let table = unsafe { &*local.table.get() };
    capture.all(table, local, registers);
}

/// Takes the cost of an operation from the calling thread's [`BUDGET`], and returns what was left
/// before: zero or less if the thread has spent it since it was resumed. On a plain OS thread the
/// budget counts from the last [`refill`].
#[inline(always)]
pub(crate) fn spend(cost: i64) -> i64 {
    let left = LEFT.get();
    // One operation a nanosecond takes centuries to get below the least number.
    LEFT.set(left - cost);
    left
}

/// Gives the calling thread a fresh [`BUDGET`].
pub(crate) fn refill() {
    LEFT.set(BUDGET);
}

/// Counts a system call of the running green thread, if the caller is one, for the turn's sake.
#[inline]
pub(crate) fn note_system_call() {
    with(|local, _| local.system_calls.set(local.system_calls.get() + 1));
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
    pub(super) fn new(shared: Arc<Shared>, index: usize, now: Nanos) -> Local {
        let oracle = shared.plan.as_ref().map(|plan| Box::new(Oracle::new(plan)));
        let timers = Timers::new(oracle.is_some());
        Local {
            index,
            shared,
            oracle,
            timers: RefCell::new(timers),
            local_starts: RefCell::default(),
            unstarted: RefCell::default(),
            announced: Cell::new(0),
            running: Cell::new(None),
            slot: Cell::new(0),
            locals: RefCell::default(),
            keepers: Cell::new(0),
            suspender: Cell::new(None),
            table: Cell::new(ptr::null()),
            scopes: RefCell::default(),
            system_calls: Cell::new(0),
            now: Cell::new(now),
            float_control: FloatControl::current(),
        }
    }

    /// Makes this the worker of the calling OS thread.
    pub(super) fn enter(self: &Rc<Local>) -> Entered {
        watch_exit(&BEGINNINGS);
        let previous = LOCAL.replace(Some(NonNull::from(&**self)));
        assert!(previous.is_none(), "an OS thread is one worker at a time");
        use_green_flag(|value| with(|_, task| task.set_in_destructor(value)));
        LocalQueue::with(|queue| queue.set_worker(Some(self.post().inbox.worker())));
        Entered {
            _local: self.clone(),
        }
    }

    #[inline]
    pub(super) fn post(&self) -> &Post {
        &self.shared.posts[self.index]
    }

    #[inline]
    pub(super) fn stack_for(&self, task: &TaskRef) -> io::Result<Stack> {
        stack::acquire(task.stack_size().unwrap_or(self.shared.stack_size))
    }

    /// Takes a stack already at spawn if one may not be had later.
    ///
    /// # Errors
    /// Stacks are running out, and there is none for it.
    pub(crate) fn reserve(&self, task: &TaskRef) -> io::Result<Option<Stack>> {
        if stack::needs_reservation() {
            self.stack_for(task).map(Some)
        } else {
            Ok(None)
        }
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

    #[inline]
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

    /// Runs `f` with the cancel scopes of the green thread in `slot`, and brings up to date what
    /// its record says of them.
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

    /// Leaves a cancel scope of the running green thread. `None` if it was another thread that
    /// entered it: a generator has carried it over. Then that one is not in it any more.
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

    /// Notes that time has come for those cancel scopes of the running green thread whose deadline
    /// is not after `now`.
    #[cold]
    pub(crate) fn expire_scopes(&self, task: &Task, now: Instant) {
        self.with_scopes(task, self.slot.get(), |scopes, _| scopes.expire(now));
    }

    /// Whether the running green thread is cancelled at the time at which the clock was read last.
    #[cold]
    pub(crate) fn is_cancelled_by_now(&self, task: &TaskRef) -> bool {
        if self
            .oracle
            .as_ref()
            .is_some_and(|oracle| oracle.comes_to(Way::Arriving, task))
        {
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

    /// Whether the running green thread is cancelled at `now`, though this worker may not have been
    /// told yet.
    pub(crate) fn is_cancelled_at(&self, task: &Task, now: Instant) -> bool {
        if task.is_scoped() {
            self.expire_scopes(task, now);
        }
        self.look_anew(task, self.slot.get())
    }

    /// Brings up to date what the record of a green thread of this worker says of its cancellation,
    /// and returns it.
    fn look_anew(&self, task: &Task, slot: Slot) -> bool {
        if task.is_scoped() {
            return self.with_scopes(task, slot, |scopes, root| scopes.is_cancelled(root));
        }
        task.set_attention(task.is_cancel_requested(), false);
        task.is_cancelled()
    }

    /// Has a green thread of this worker look at its cancellation anew: wakes it if it is parked
    /// where it can be cancelled.
    pub(super) fn deliver_cancellation(&self, task: &TaskRef, slot: Slot) {
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
        let locals = self
            .locals
            .borrow_mut()
            .get_mut(self.slot.get() as usize)?
            .take()?;
        self.keepers.set(self.keepers.get() - 1);
        Some(locals)
    }

    /// Cancels a green thread of a simulation, as [`cancel`] would.
    #[cold]
    pub(super) fn cancel_for_audit(&self, task: &TaskRef) {
        let Some((oracle, attempt)) = self
            .oracle
            .as_ref()
            .and_then(|oracle| Some((oracle, oracle.attempt()?)))
        else {
            return;
        };
        oracle.write(format_args!(
            "{} cancels {}",
            Seconds(self.now()),
            oracle.who(task)
        ));
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
        self.announced.set(self.announced.get() + 1);
        self.announce(START);
    }

    /// Gives an unstarted thread its place among those that can run: `start` stands for it.
    #[inline]
    pub(super) fn announce(&self, start: Slot) {
        // A simulation looks at the unstarted threads themselves.
        if self.oracle.is_none() {
            run_queue::push_start(start);
        }
    }

    /// Gives a place to each unstarted thread that was left here by others.
    #[inline]
    pub(super) fn announce_posted(&self, queue: &LocalQueue) {
        queue.forget_burst();
        self.take_posted();
        let unstarted = if self.worker_count() == 1 {
            self.unstarted.borrow().len()
        } else {
            self.post().unstarted_len.load(Ordering::Relaxed)
        };
        let announced = self.announced.get();
        if unstarted > announced {
            self.announced.set(unstarted);
            queue.extend(std::iter::repeat_n(START, unstarted - announced));
        }
    }

    /// Takes over what was left from outside to the only worker of a runtime; of several each
    /// starts what stands at its own post.
    #[inline]
    pub(super) fn take_posted(&self) {
        let post = self.post();
        if self.worker_count() == 1 && post.unstarted_len.load(Ordering::Relaxed) > 0 {
            let mut posted = post.unstarted.lock();
            posted
                .iter()
                .for_each(|unstarted| self.note_spawn(&unstarted.task));
            self.unstarted.borrow_mut().extend(posted.drain(..));
            post.unstarted_len.store(0, Ordering::Relaxed);
        }
    }

    /// Leaves an unstarted green thread to this worker. `body` runs instead of the task's own.
    pub(crate) fn spawn_local(
        &self,
        task: TaskRef,
        stack: Option<Stack>,
        body: Box<dyn FnOnce(Start)>,
    ) {
        self.note_spawn(&task);
        let start = LocalStart { task, stack, body };
        self.local_starts.borrow_mut().push_back(start);
        self.announce(START_LOCAL);
    }

    #[inline]
    fn note_spawn(&self, task: &TaskRef) {
        if let Some(oracle) = &self.oracle {
            oracle.spawned(task, self.now());
        }
    }
}

/// Ends the wait of a green thread of this worker, between resumes, and makes it runnable.
pub(super) fn end_wait(task: &TaskRef, slot: Slot, wake: Wake) {
    if task.claim.end_current(wake) {
        LocalQueue::with(|queue| queue.push(slot));
    }
}

/// While it lives this OS thread is a worker.
pub(super) struct Entered {
    _local: Rc<Local>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        LOCAL.set(None);
        forget_current_id();
        LocalQueue::with(|queue| queue.set_worker(None));
    }
}
