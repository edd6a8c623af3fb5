//! The one function that blocks.
//!
//! Sleeping, reading, joining, and every lock and channel to come: all call [`park`], and none of
//! them knows whether it stops a green thread or an OS thread. The caller says why it waits, until
//! when, and how to be found: `register` looks once more at the object, under the object's lock,
//! and either enlists a waiter or says that there is no need to wait. What it returns undoes the
//! registration, and is called unless a wake through it has ended the wait.
//!
//! # Cancellation
//!
//! `park` is where a cancellation is delivered (laws 3 and 4): by unwinding, with a payload of our
//! own and without the panic hook. While the thread unwinds, its destructors may park again. A
//! cancel point then does not wait: it reports [`Wake::Cancelled`], and the operation fails or
//! returns at once. A *shielded* wait waits as if nothing had happened; so does every wait that
//! cannot be given up. If user code swallows the unwinding, the next cancel point raises it again,
//! after letting the others run.
//!
//! Whether the thread unwinds is asked of `std::thread::panicking`. That counts per OS thread, but
//! a green thread takes its count along when it suspends (see `panic_count`). Only where the system
//! has refused the means for that, it says yes for a neighbour, too, that is parked in the middle
//! of its unwinding; it never says no to a thread that unwinds. So it is asked before the thread
//! suspends: who did not unwind then does not unwind when it is resumed, whatever its neighbours
//! have begun meanwhile. And at a cancel point that is met with a neighbour in that state a
//! cancellation is reported instead of raised, and raised later.
//!
//! A cancel point that does not wait lets the others run: destructors wait in loops, for them or
//! for I/O that fails at once.

use crate::atomic::AtomicU64;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::coroutine::stack_pointer;
use crate::generator::Hold;
use crate::scheduler::claim::{Epoch, Wake};
use crate::scheduler::os_thread::OsThread;
use crate::scheduler::scopes::{Kind, Left, Scopes};
use crate::scheduler::task::{Reason, current_id};
use crate::scheduler::worker::{self, Suspend};
use crate::unwinding::{is_os_in_destructor, is_stuck, is_unwinding};

pub(crate) use crate::scheduler::waiter::Wait;
pub(crate) use crate::unwinding::CancelUnwind;

/// Whether a wait can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A cancellation unwinds.
    CancelPoint,
    /// A cancellation is returned as [`Wake::Cancelled`], for the caller to do something about and
    /// wait again.
    Observing,
    /// Waits as if nothing had happened. It may return [`Wake::Woken`] though nobody has woken it,
    /// undone: look again, in a loop.
    Shielded,
}

impl Mode {
    /// Unwinds, or returns `true`, if the calling thread is not to wait because it is cancelled.
    #[inline(always)]
    fn is_over(self) -> bool {
        match self {
            Mode::CancelPoint => cancel_point(),
            Mode::Observing => is_cancelled(),
            Mode::Shielded => false,
        }
    }
}

/// A time that nobody waits out: 136 years.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// How long a thread that ends the process on a green thread's stack waits, in all, for what cannot
/// be refused: another worker may be about to give it.
const EXIT_PATIENCE: Duration = Duration::from_millis(100);

/// How often a cancelled thread that has to wait all the same asks whether it still has to.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The time on the calling thread's clock: its runtime's, or the system's. Deadlines are points of
/// it.
pub(crate) fn now() -> Instant {
    worker::with(|local, _| local.clock().read()).unwrap_or_else(Instant::now)
}

/// Returns the deadline that lies `timeout` from [`now`]. Where that is further away than an
/// `Instant` can say it is [`FOREVER`] from now, and `None` in a simulation, whose clock would jump
/// there. Outside of one a wait that has a deadline, however far, is never part of a deadlock.
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    let now = now();
    now.checked_add(timeout).or_else(|| far_from(now))
}

#[cold]
fn far_from(now: Instant) -> Option<Instant> {
    now.checked_add(FOREVER)
        .filter(|_| worker::seed().is_none())
}

/// Stops the calling thread until a waiter that `register` has enlisted is woken, or until
/// `deadline`.
///
/// `register` runs on the calling thread and must neither park nor run user code. It returns what
/// undoes it, or `None` if there is no need to wait; then `park` returns [`Wake::Woken`] at once.
#[inline(always)] // So that the switch's return is predicted; see `coroutine`. Each caller has a `register` of its own anyway.
pub(crate) fn park<U>(
    reason: Reason,
    deadline: Option<Instant>,
    mode: Mode,
    register: impl FnOnce(&Wait<'_>) -> Option<U>,
) -> Wake
where
    U: FnOnce(&Wait<'_>),
{
    if mode.is_over() {
        Wake::Cancelled
    } else {
        park_at_once(reason, deadline, mode, register)
    }
}

/// As [`park`], for who has just passed a cancel point.
#[inline(always)]
fn park_at_once<U>(
    reason: Reason,
    deadline: Option<Instant>,
    mode: Mode,
    register: impl FnOnce(&Wait<'_>) -> Option<U>,
) -> Wake
where
    U: FnOnce(&Wait<'_>),
{
    if worker::is_green() {
        park_green(reason, deadline, mode, register)
    } else {
        park_os(deadline, mode, register)
    }
}

/// As [`park`], for waits that have no way to fail: locks, joins, the end of a scope. A cancel
/// point, but where a thread that is cancelled can only be told so, it waits all the same, and
/// never returns [`Wake::Cancelled`]. It may return [`Wake::Woken`] though nobody has woken it,
/// undone: look again, in a loop.
///
/// `owner` is what deadlock reports follow: it holds the id of the thread that is waited for, or 0.
/// The worker reads it while the thread is parked.
#[inline(always)] // As `park`.
pub(crate) fn park_insistently<U>(
    reason: Reason,
    owner: Option<&AtomicU64>,
    deadline: Option<Instant>,
    register: impl FnOnce(&Wait<'_>) -> Option<U>,
) -> Wake
where
    U: FnOnce(&Wait<'_>),
{
    let register = |wait: &Wait<'_>| {
        let undo = register(wait);
        if undo.is_some() {
            wait.set_owner(owner);
        }
        undo
    };
    if !cancel_point() {
        return match park_at_once(reason, deadline, Mode::CancelPoint, register) {
            // A time-out in a destructor that runs because of a panic. What happens next is up to
            // the next call.
            Wake::Cancelled => Wake::Woken,
            wake => wake,
        };
    }
    // In a destructor of a cancelled thread it waits all the same. But perhaps only a neighbour
    // unwinds: ask again.
    let ask_again = now() + ASK_AGAIN;
    match deadline {
        Some(deadline) if deadline <= ask_again => {
            park(reason, Some(deadline), Mode::Shielded, register)
        }
        _ => {
            park(reason, Some(ask_again), Mode::Shielded, register);
            Wake::Woken
        }
    }
}

#[inline(always)]
fn park_green<U>(
    reason: Reason,
    deadline: Option<Instant>,
    mode: Mode,
    register: impl FnOnce(&Wait<'_>) -> Option<U>,
) -> Wake
where
    U: FnOnce(&Wait<'_>),
{
    let here = stack_pointer();
    let registered = worker::with(|local, task| {
        let epoch = task.claim.begin();
        let wait = Wait::green(task, epoch);
        let Some(undo) = register(&wait) else {
            let unseen = task.claim.end(epoch, Wake::Woken);
            debug_assert!(unseen, "who need not wait has enlisted nobody");
            return None;
        };
        let limit = if mode == Mode::Shielded {
            None
        } else {
            local.scope_deadline(task)
        };
        let until = earlier(deadline, limit);
        if let Some(until) = until {
            local.insert_timer(until);
        }
        task.set_stack_end(here);
        task.set_parked(reason, local.now(), mode == Mode::Shielded);
        Some((undo, epoch, until))
    });
    let Some((undo, epoch, until)) = registered.expect("the caller is a green thread") else {
        return Wake::Woken;
    };
    let unwinding = is_unwinding();
    worker::suspend(Suspend::Park);
    let wake = worker::with(|local, task| {
        task.set_running();
        if until.is_some() {
            local.cancel_timer();
        }
        let wake = task
            .claim
            .outcome()
            .expect("only a wait that has ended is resumed");
        if wake != Wake::Woken {
            undo(&Wait::green(task, epoch));
        }
        if wake == Wake::TimedOut
            && until != deadline
            && let Some(until) = until
        {
            local.expire_scopes(task, until);
        }
        wake
    })
    .expect("a green thread stays one");
    match mode {
        _ if wake == Wake::Woken => wake,
        Mode::CancelPoint if is_cancelled() && raise(unwinding) => Wake::Cancelled,
        Mode::Observing if is_cancelled() => Wake::Cancelled,
        _ => wake,
    }
}

#[cold]
#[inline(never)]
fn park_os<U>(
    deadline: Option<Instant>,
    mode: Mode,
    register: impl FnOnce(&Wait<'_>) -> Option<U>,
) -> Wake
where
    U: FnOnce(&Wait<'_>),
{
    let thread = os_thread();
    let epoch = thread.claim.begin();
    let wait = Wait::os(&thread, epoch);
    let Some(undo) = register(&wait) else {
        thread.claim.end(epoch, Wake::Woken);
        thread.watch_no_more();
        return Wake::Woken;
    };
    let limit = if mode == Mode::Shielded {
        None
    } else {
        scope_deadline()
    };
    let until = earlier(deadline, limit);
    let wake = if cannot_wait() {
        block_while_exiting(&thread, epoch, until)
    } else {
        thread.block(epoch, until)
    };
    if wake != Wake::Woken {
        undo(&wait);
    }
    if wake == Wake::TimedOut && cannot_wait() {
        assert!(
            EXIT_WAITED.get() < EXIT_PATIENCE,
            "a destructor or a handler waits for what will not come, as the other green threads of \
             its worker do not run meanwhile: it runs because a green thread has called exit, or in \
             the worker's loop, as there is no stack for it"
        );
    }
    if wake != Wake::Woken && mode.is_over() {
        Wake::Cancelled
    } else {
        wake
    }
}

/// Blocks until `until`, but not longer than is left of [`EXIT_PATIENCE`].
fn block_while_exiting(thread: &OsThread, epoch: Epoch, until: Option<Instant>) -> Wake {
    let (began, waited) = (Instant::now(), EXIT_WAITED.get());
    let patience = EXIT_PATIENCE.saturating_sub(waited);
    let wake = thread.block(epoch, earlier(until, Some(began + patience)));
    EXIT_WAITED.set(waited + began.elapsed());
    wake
}

/// Whether the calling thread's waits fail; see `worker::cannot_wait`.
pub(crate) fn cannot_wait() -> bool {
    worker::cannot_wait()
}

/// Runs `f` with a wait of the calling thread that was opened before: by it is found what is still
/// enlisted for it.
pub(crate) fn with_wait<T>(epoch: Epoch, f: impl FnOnce(&Wait<'_>) -> T) -> T {
    match worker::is_green() {
        true => worker::with(|_, task| f(&Wait::green(task, epoch)))
            .expect("the caller is a green thread"),
        false => f(&Wait::os(&os_thread(), epoch)),
    }
}

/// Runs `f` with a wait of the calling thread that has ended already: what is enlisted for it can be
/// found again, but nobody can end it, so there is nothing to suspend for (law 5).
pub(crate) fn with_ended_wait<T>(f: impl FnOnce(&Wait<'_>) -> T) -> T {
    match worker::is_green() {
        true => worker::with(|_, task| {
            let epoch = task.claim.begin();
            task.claim.end(epoch, Wake::Woken);
            f(&Wait::green(task, epoch))
        })
        .expect("the caller is a green thread"),
        false => {
            let thread = os_thread();
            let epoch = thread.claim.begin();
            thread.claim.end(epoch, Wake::Woken);
            let result = f(&Wait::os(&thread, epoch));
            thread.watch_no_more();
            result
        }
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// Unwinds if the calling thread has been cancelled; `true` if it has, but is unwinding already.
/// Then the others have run.
#[inline]
pub(crate) fn cancel_point() -> bool {
    is_cancelled() && raise(is_unwinding())
}

/// Lets the others run. A cancel point, for green threads only.
#[inline(always)] // So that the switch's return is predicted; see `coroutine`.
pub(crate) fn pause() -> bool {
    pause_as(Suspend::Yield)
}

#[inline(always)]
fn pause_as(why: Suspend) -> bool {
    let unwinding = is_unwinding();
    worker::suspend(why);
    is_cancelled() && raise(unwinding)
}

// The budget
//
// Law 5: a call that cannot wait never switches threads and is no cancel point; it only adds to its
// thread's debt (`charge`). A call that may wait adds to it, too, and when the thread has spent its
// budget lets the others run first, as if it had had to wait (`charge_or_yield`). So it is a cancel
// point even where it does not wait, and a loop of such calls keeps nobody from running.

/// Adds an operation that cannot wait to the calling thread's debt. Never switches.
#[inline(always)]
pub(crate) fn charge() {
    worker::spend(1);
}

/// Adds a system call that cannot wait, as its descriptor is non-blocking for the user, too.
#[inline(always)]
pub(crate) fn charge_system_call() {
    worker::note_system_call();
    worker::spend(worker::SYSTEM_CALL);
}

/// Counts an operation that may have to wait, and lets the others run first if the calling thread
/// has spent its budget. Then it is a cancel point. Nothing may have been done yet.
#[inline(always)]
pub(crate) fn charge_or_yield() {
    charge_or_yield_beyond(0);
}

/// As [`charge_or_yield`], for an operation that lets the others run only when the thread is
/// further in debt than `allowance`.
#[inline(always)]
pub(crate) fn charge_or_yield_beyond(allowance: i64) {
    if worker::spend(1) <= -allowance {
        pay();
    }
}

/// Counts a system call that is about to be made and may have to wait; as [`charge_or_yield`].
/// `true` says that the thread is cancelled, but is unwinding already.
#[inline(always)]
pub(crate) fn charge_system_call_or_yield() -> bool {
    worker::note_system_call();
    worker::spend(worker::SYSTEM_CALL) <= 0 && pay_as(Suspend::Spent)
}

#[cold]
#[inline(never)]
fn pay() {
    pay_as(Suspend::Yield);
}

/// Lets the others run. On a plain OS thread the system sees to that; a cancel point all the same.
#[inline(always)]
fn pay_as(why: Suspend) -> bool {
    if worker::is_green() {
        pause_as(why)
    } else {
        worker::refill();
        cancel_point()
    }
}

/// A number for choices that are to be fair; in a simulation it follows from the seed.
pub(crate) fn random() -> u64 {
    worker::random().unwrap_or_else(|| {
        // Marsaglia's xorshift, *Xorshift RNGs*, 2003.
        let mut word = RANDOM.get();
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        RANDOM.set(word);
        word
    })
}

/// Whether the calling thread is cancelled: as a whole, or a scope that it is in.
#[inline]
pub(crate) fn is_cancelled() -> bool {
    let green =
        worker::with(|local, task| task.needs_attention() && local.is_cancelled_by_now(task));
    green.unwrap_or_else(is_os_cancelled)
}

/// As [`is_cancelled`], but looks at the clock, and for word that its worker has not read yet.
pub(crate) fn learn_cancellation() -> bool {
    let green = worker::with(|local, task| local.is_cancelled_at(task, now()));
    green.unwrap_or_else(is_os_cancelled)
}

fn is_os_cancelled() -> bool {
    cannot_wait() || OS_SCOPED.get() && is_os_scope_cancelled()
}

#[cold]
fn is_os_scope_cancelled() -> bool {
    with_os_scopes(|scopes| {
        if scopes.deadline().is_some() {
            scopes.expire(now());
        }
        scopes.is_cancelled(false)
    })
}

#[cold]
fn raise(unwinding: bool) -> bool {
    if cannot_wait() {
        // Destructors and handlers that `exit` calls must not unwind into it, nor others into the
        // worker's loop.
        return true;
    }
    let raised = is_raised();
    let unwinding = unwinding || is_in_destructor();
    // Where nothing unwinds, or nobody can tell any more whether this is a destructor that runs
    // because of the first unwinding, a cancelled thread can only be told, again and again,
    // that its waits fail.
    let unwinding = unwinding || cfg!(panic = "abort") || raised && is_stuck();
    // A loop around cancel points that do not wait, or that swallows the unwinding, must not keep
    // the worker from the others.
    if unwinding || raised {
        match worker::is_green() {
            true => worker::suspend(Suspend::Yield),
            false => std::thread::yield_now(),
        }
    }
    if !unwinding {
        set_raised(true);
        set_cancelling(true);
        panic::resume_unwind(Box::new(CancelUnwind::new(thread_id(), end_cancelling)));
    }
    true
}

/// Whether a cancel point of the calling thread has unwound, and the scope that catches has not
/// been left.
pub(crate) fn is_raised() -> bool {
    worker::with(|_, task| task.is_raised()).unwrap_or_else(|| OS_RAISED.get())
}

/// Whether the calling thread runs the body of a generator that its unwinding has resumed. The body
/// has a panic count of its own, but may not be unwound into the destructor that waits for it.
fn is_in_destructor() -> bool {
    worker::with(|_, task| task.is_in_destructor()).unwrap_or_else(is_os_in_destructor)
}

fn set_raised(raised: bool) {
    worker::with(|_, task| task.set_raised(raised)).unwrap_or_else(|| OS_RAISED.set(raised));
}

fn set_cancelling(cancelling: bool) {
    let before = worker::with(|_, task| task.set_cancelling(cancelling))
        .unwrap_or_else(|| OS_CANCELLING.replace(cancelling));
    let count = CANCELLING.get();
    match (before, cancelling) {
        (false, true) => CANCELLING.set(count + 1),
        (true, false) => CANCELLING.set(count.saturating_sub(1)),
        _ => {}
    }
}

/// Notes that the calling thread does not unwind. If the payload of a cancellation lives that has
/// unwound it once, somebody has caught and kept it: a panic from now on is one.
#[inline]
pub(crate) fn note_calm() {
    #[cold]
    fn end() {
        set_cancelling(false);
    }
    if CANCELLING.get() > 0 {
        end();
    }
}

/// Notes that the unwinding of the thread `thread` is over, if that is the calling one: its payload
/// may be dropped elsewhere.
fn end_cancelling(thread: u64) {
    if thread == thread_id() {
        set_cancelling(false);
    }
}

/// Whether a cancellation unwinds the calling thread.
pub(crate) fn is_cancelling() -> bool {
    // Not `is_unwinding`, which says no where std's count is stuck.
    if !std::thread::panicking() {
        note_calm();
    }
    worker::with(|_, task| task.is_cancelling()).unwrap_or_else(|| OS_CANCELLING.get())
}

/// Whether the calling thread unwinds because of a panic, and not of a cancellation.
pub(crate) fn is_panicking() -> bool {
    is_unwinding() && !is_cancelling()
}

/// The id of the calling thread, green or OS: what a lock keeps of its holder.
#[inline]
pub(crate) fn thread_id() -> u64 {
    current_id(|| worker::with(|_, task| task.id()).unwrap_or_else(|| os_thread().id))
}

/// A cancel scope that the calling thread is in, by number. Who forgets it is in it until its end.
pub(crate) struct Entered {
    number: u64,
    /// No generator may yield inside of it.
    hold: Hold,
}

/// Enters a cancel scope.
pub(crate) fn enter_scope(kind: Kind) -> Entered {
    let number = if worker::is_green() {
        worker::with(|local, task| local.enter_scope(task, kind))
            .expect("the caller is a green thread")
    } else {
        OS_SCOPED.set(true);
        with_os_scopes(|scopes| scopes.enter(kind))
    };
    Entered {
        number,
        hold: Hold::new(),
    }
}

impl Entered {
    /// Leaves the scope, and returns whether an unwinding that is due to a cancellation ends here.
    ///
    /// # Errors
    /// It was another thread that entered it.
    pub(crate) fn leave(self) -> Result<bool, Carried> {
        self.hold.release();
        match worker::with(|local, task| local.leave_scope(task, self.number)) {
            Some(Some(left)) => Ok(left.catches),
            Some(None) => {
                leave_os_scope(self.number);
                Err(Carried)
            }
            None => leave_os_scope(self.number)
                .map(|left| left.catches)
                .ok_or(Carried),
        }
    }
}

fn leave_os_scope(id: u64) -> Option<Left> {
    with_os_scopes(|scopes| {
        let left = scopes.leave(id, false)?;
        if !left.pending {
            OS_RAISED.set(false);
        }
        if scopes.is_empty() {
            OS_SCOPED.set(false);
            **scopes = Scopes::new();
        }
        Some(left)
    })
}

/// A generator was suspended inside of a cancel scope, and resumed by another thread.
#[derive(Debug)]
pub(crate) struct Carried;

/// The nearest deadline of the cancel scopes that the calling thread is in.
pub(crate) fn scope_deadline() -> Option<Instant> {
    match worker::with(|local, task| local.scope_deadline(task)) {
        Some(deadline) => deadline,
        None => OS_SCOPED
            .get()
            .then(|| with_os_scopes(|scopes| scopes.deadline()))
            .flatten(),
    }
}

fn with_os_scopes<T>(f: impl FnOnce(&mut ManuallyDrop<Scopes>) -> T) -> T {
    OS_SCOPES.with_borrow_mut(f)
}

thread_local! {
    /// The cancel scopes of this OS thread's own code.
    /// Never dropped, so that destructors of other thread-locals can have scopes, too; it owns nothing while it is empty.
    static OS_SCOPES: RefCell<ManuallyDrop<Scopes>> = const { RefCell::new(ManuallyDrop::new(Scopes::new())) };
    static OS_SCOPED: Cell<bool> = const { Cell::new(false) };
    static OS_RAISED: Cell<bool> = const { Cell::new(false) };
    static OS_CANCELLING: Cell<bool> = const { Cell::new(false) };
    /// How many threads of this OS thread a cancellation unwinds, or has unwound with its payload
    /// kept: while there are none, `note_calm` need not look at the thread's record.
    static CANCELLING: Cell<u32> = const { Cell::new(0) };
    /// How much of `EXIT_PATIENCE` has been waited.
    static EXIT_WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static RANDOM: Cell<u64> = const { Cell::new(0x9E37_79B9_7F4A_7C15) };
    static OS_THREAD: Resident = Resident(Arc::new(OsThread::new()));
    /// Never dropped, as nothing runs after the last destructor that could drop it: an OS thread that
    /// waits for something of ours in destructors that run after `OS_THREAD`'s leaks one record.
    static LATE_OS_THREAD: RefCell<Option<ManuallyDrop<Arc<OsThread>>>> = const { RefCell::new(None) };
}

/// An OS thread's record, in the thread itself.
struct Resident(Arc<OsThread>);

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// The calling OS thread's record.
pub(crate) fn os_thread() -> Arc<OsThread> {
    OS_THREAD
        .try_with(|thread| thread.0.clone())
        .unwrap_or_else(|_| late_os_thread())
}

/// The record of an OS thread whose thread-locals are being torn down: a second one, but always the
/// same. By it the thread finds what it has enlisted, owns what it has locked, and is unparked.
#[cold]
fn late_os_thread() -> Arc<OsThread> {
    LATE_OS_THREAD.with_borrow_mut(|late| {
        let thread = late.get_or_insert_with(|| ManuallyDrop::new(Arc::new(OsThread::late())));
        Arc::clone(thread)
    })
}
