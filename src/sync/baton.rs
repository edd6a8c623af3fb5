//! [`Baton`]: who holds a mutex, and who waits for it.
//!
//! ```text
//!   bit 63     QUEUED   a thread may be in line
//!       62     MIXED    threads of several workers are in line or have been called
//!       61     CALLED   a thread of the line has been woken and has not come yet
//!       48-60  TIMES    how often the baton may be taken before that one comes
//!        0     HELD     a thread has the baton
//!
//!   0                              free, the line is empty
//!   HELD                           held, the line is empty
//!   HELD | QUEUED                  held, and the holder calls the first in line when it gives the baton up
//!   CALLED | n | ...               free; n threads may still overtake the one that has been called
//!   CALLED | n | HELD | ...        it has been overtaken
//! ```
//!
//! A thread that gives the baton up while others wait *calls* the first in line: it takes it out of
//! the line and wakes it. Nobody holds the baton until a thread has come and taken it. With
//! `TIMES` = 0 the baton is reserved: no other thread can take it meanwhile, so threads of one
//! worker get it in the order in which they came, and a thread that gives it up and wants it again
//! goes to the end of the line.
//!
//! That is fair, and dear where many want it all the time: each turn costs a switch between
//! threads, or the journey of a wake-up from one processor to another, some ten microseconds for
//! which the baton lies idle. So in two cases a called thread may be overtaken, by a bounded number
//! of others:
//!
//! - It lives on another worker, or is an OS thread: [`FAR_LEASE`] times. There must be an end to
//!   it: a thread of its own worker that takes and gives up in a loop would keep it from running.
//!   When the lease is used up that thread has to wait, and the called one runs.
//! - It lives on this worker, but the line has not been empty for [`CROWD`] turns: [`LEASE`] times.
//!
//! A thread that has come in vain is the first in line again, and [`IN_VAIN`] times in vain makes
//! the baton reserved for it.
//!
//! **A worker that is busy.** A called thread comes when its worker runs it, and that may be busy for
//! seconds. Its neighbours have to wait with it; threads of other workers do not. While threads of
//! several workers are in line, each worker is *covered*: one of its threads has been called, or
//! *watches*: it waits with a deadline of [`WATCH`], again and again as long as the mutex is in
//! use. A watcher that finds, at its deadline, that the call has been open since the last one takes
//! the baton: the one that was called comes in vain. A call that finds a worker not covered calls
//! its first thread, too. Threads of one worker share their fate, so one watcher is enough for them;
//! and with threads of one worker alone nobody watches, so a deadlock among them has no timer that
//! hides it.
//!
//! No wake-up is lost: if the line is not empty, HELD | QUEUED is set and the holder will call, or
//! CALLED is set and at least one thread of those that were called has not come yet. Each that comes
//! clears CALLED, under the lock of the line or by taking the baton, and either has the baton then,
//! or leaves HELD | QUEUED behind. It does not matter whose call it answers: if there are several,
//! the others find out in the same way. One that is cancelled on its way does the same in its
//! destructor.
//!
//! The id in `holder` is for reports alone: it decides nothing.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::patience::{End, Patience};
use crate::atomic::{AtomicU64, Ordering};
use crate::lock::Lock;
use crate::park::{self, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;
use crate::scheduler::waiter::{Claimed, Key};

/// A thread has the baton.
const HELD: u64 = 1;
/// A thread may be in line: whoever gives the baton up has to look.
const QUEUED: u64 = 1 << 63;
/// Threads of several workers are in line, or on their way: a thread that comes has to say so under
/// the lock of the line.
const MIXED: u64 = 1 << 62;
/// A thread of the line has been called.
const CALLED: u64 = 1 << 61;
/// Being overtaken once.
const ONCE: u64 = 1 << 48;
const TIMES: u64 = CALLED - ONCE;

/// Turns after which a line that was never empty is a crowd. Few where a model checker has to get
/// there.
const CROWD: u32 = if cfg!(test) { 1 } else { 64 };
/// How often a thread of the caller's worker may be overtaken when it has been called in a crowd.
const LEASE: u64 = if cfg!(test) { 1 } else { 256 };
/// How often a thread may be overtaken that lives elsewhere: about as often as two threads can take
/// turns until the wake-up has reached it, so that the baton does not lie idle.
const FAR_LEASE: u64 = if cfg!(test) { 1 } else { 4096 };
/// How often a thread may come in vain before the baton is reserved for it.
const IN_VAIN: u32 = if cfg!(test) { 1 } else { 2 };
/// For how long a call may be open, at least, before a watcher of another worker takes the baton.
const WATCH: Duration = Duration::from_millis(2);

/// See the module.
pub(super) struct Baton {
    state: AtomicU64,
    /// The id of the thread that holds it, or for which it is reserved; 0: nobody, or it has only
    /// just been taken. For reports.
    holder: AtomicU64,
    line: Lock<Line>,
}

struct Line {
    waiters: WaitList<Place>,
    /// The workers of those in line, and of those that were called while the line was mixed.
    homes: Vec<Home>,
    /// The worker of the thread that was called last.
    called: u32,
    /// Calls so far: by this a watcher knows whether anything has happened.
    calls: u64,
    /// Turns since the line was empty.
    turns: u32,
}

/// What the line knows of one that waits.
#[derive(Debug, Clone, Copy)]
struct Place {
    worker: u32,
    /// How often it has come in vain.
    in_vain: u32,
}

/// A worker with threads in line, or all OS threads together: the system runs them, so a call of
/// one of them does not stay open.
#[derive(Debug)]
struct Home {
    number: u32,
    /// How many are in line.
    waiting: usize,
    /// A thread of it was called, in a mixed line, and has not come.
    on_its_way: bool,
    /// The one in line that waits with a deadline.
    watcher: Option<Key>,
}

impl Home {
    fn is_covered(&self) -> bool {
        self.on_its_way || self.watcher.is_some()
    }
}

impl Line {
    fn home(&mut self, number: u32) -> &mut Home {
        let at = self.homes.iter().position(|home| home.number == number);
        let at = at.unwrap_or_else(|| {
            self.homes.push(Home {
                number,
                waiting: 0,
                on_its_way: false,
                watcher: None,
            });
            self.homes.len() - 1
        });
        &mut self.homes[at]
    }

    /// Whether the line concerns another worker than this one.
    fn concerns_others(&self, number: u32) -> bool {
        self.homes.iter().any(|home| home.number != number)
    }

    fn find(&self, number: u32) -> Option<&Home> {
        self.homes.iter().find(|home| home.number == number)
    }

    fn is_on_its_way(&self, number: u32) -> bool {
        self.find(number).is_some_and(|home| home.on_its_way)
    }

    fn is_covered(&self, number: u32) -> bool {
        self.find(number).is_some_and(Home::is_covered)
    }

    fn watcher(&self, number: u32) -> Option<Key> {
        self.find(number)?.watcher
    }

    /// A called thread of that worker has come.
    fn note_come(&mut self, number: u32) {
        if let Some(home) = self.homes.iter_mut().find(|w| w.number == number) {
            home.on_its_way = false;
        }
        self.forget_idle(number);
    }

    /// One of that worker is no longer in line.
    fn note_left(&mut self, place: Place, key: Key) {
        let home = self.home(place.worker);
        home.waiting -= 1;
        if home.watcher == Some(key) {
            home.watcher = None;
        }
        self.forget_idle(place.worker);
    }

    fn forget_idle(&mut self, number: u32) {
        self.homes
            .retain(|home| home.number != number || home.waiting > 0 || home.on_its_way);
    }

    /// Takes a thread out that is still in line.
    fn remove(&mut self, key: Key) -> bool {
        let place = self.waiters.take_out(key);
        if let Some(place) = place {
            self.note_left(place, key);
        }
        place.is_some()
    }

    /// Calls a thread of each worker that has some in line and is not covered. They run when what
    /// this returns is dropped, which is to be done without the lock.
    fn cover(&mut self) -> Vec<Claimed> {
        let mut called = Vec::new();
        if self.homes.len() < 2 {
            return called;
        }
        let is_bare = |home: &&Home| home.waiting > 0 && !home.is_covered();
        while let Some(number) = self.homes.iter().find(is_bare).map(|w| w.number) {
            let Some((waiter, place)) = self.waiters.pop_where(|p| p.worker == number) else {
                break;
            };
            let claimed = waiter.claim(Wake::Woken);
            if claimed.is_some() {
                self.home(number).on_its_way = true;
            }
            self.note_left(place, waiter.key());
            called.extend(claimed);
        }
        called
    }
}

impl Baton {
    pub(super) const fn new() -> Baton {
        let line = Line {
            waiters: WaitList::new(),
            homes: Vec::new(),
            called: 0,
            calls: 0,
            turns: 0,
        };
        Baton {
            state: AtomicU64::new(0),
            holder: AtomicU64::new(0),
            line: Lock::new(line),
        }
    }

    /// Takes the baton for the thread `me` if it is free, and not reserved.
    #[inline]
    pub(super) fn try_take(&self, me: u64) -> bool {
        let taken = self
            .state
            .compare_exchange(0, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            || self.overtake();
        if taken {
            self.holder.store(me, Ordering::Relaxed);
        }
        taken
    }

    /// Takes the baton for the calling thread, whose id is `me`. `false` if it has given up.
    #[inline]
    pub(super) fn take(&self, me: u64, patience: Patience) -> bool {
        let taken = self
            .state
            .compare_exchange(0, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            || self.wait(patience);
        if taken {
            self.holder.store(me, Ordering::Relaxed);
        }
        taken
    }

    /// Gives the baton up.
    #[inline]
    pub(super) fn pass(&self) {
        self.holder.store(0, Ordering::Relaxed);
        if self
            .state
            .compare_exchange(HELD, 0, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.pass_on();
        }
    }

    #[cold]
    fn overtake(&self) -> bool {
        let take = |state| (state & HELD == 0 && state & TIMES != 0).then(|| state - ONCE + HELD);
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Takes the baton for a thread that has been called, if it is reserved: then the thread has
    /// got what it waited for, and a cancellation comes too late.
    fn answer(&self, stay: &Stay<'_>) -> bool {
        const OPEN: u64 = HELD | CALLED | TIMES;
        let take = |state| (state & (OPEN | MIXED) == CALLED).then_some(state & QUEUED | HELD);
        if self
            .state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, take)
            .is_ok()
        {
            return true;
        }
        if self.state.load(Ordering::Relaxed) & OPEN != CALLED {
            return false;
        }
        // Other workers are concerned.
        let mut line = self.line.lock();
        line.note_come(stay.worker.get());
        self.settle(true, false, !line.waiters.is_empty())
    }

    #[cold]
    fn wait(&self, patience: Patience) -> bool {
        if self.overtake() {
            return true;
        }
        let stay = Stay {
            baton: self,
            enlisted: Cell::new(None),
            called: Cell::new(false),
            worker: Cell::new(0),
        };
        let mut turn = Turn {
            in_vain: 0,
            was_in_line: false,
            watch: None,
        };
        loop {
            let mut step = Step::Wait;
            let due = turn.watch.map(|watch| watch.due);
            let enter = |wait: &Wait<'_>| {
                step = self.enter(&stay, &mut turn, wait);
                step == Step::Wait
            };
            // A waiter that has ended its wait stays where it is, and is renewed, or taken out by
            // `stay`.
            let leave = |_: &Wait<'_>| {};
            match patience.wait_once_until(Reason::Lock, Some(&self.holder), due, enter, leave) {
                End::Got if step == Step::Taken => return true,
                End::Got if step == Step::Again => {}
                End::Got => {
                    // The thread was taken out of the line and called.
                    stay.enlisted.set(None);
                    turn.was_in_line = true;
                    turn.watch = None;
                    stay.called.set(true);
                    if self.answer(&stay) {
                        stay.called.set(false);
                        return true;
                    }
                }
                End::Left => turn.was_in_line = true,
                End::GivenUp => return false,
            }
        }
    }

    /// Takes the baton, or gets in line: in front if the thread was in line before, and in its old
    /// place if it still is.
    fn enter(&self, stay: &Stay<'_>, turn: &mut Turn, wait: &Wait<'_>) -> Step {
        let line = &mut *self.line.lock();
        // 1. In line or not, called or not: take the baton if that may be.
        let before = stay.enlisted.get();
        let in_line = before.is_some_and(|key| line.waiters.get(key).is_some());
        let is_watcher = in_line && line.watcher(stay.worker.get()) == before;
        let is_due = is_watcher && turn.watch.is_some_and(|watch| watch.due <= park::now());
        let is_stale = is_due && turn.watch.is_some_and(|watch| watch.calls == line.calls);
        let called = stay.called.take();
        if called {
            line.note_come(stay.worker.get());
        }
        let others = line.waiters.len() > usize::from(in_line);
        if self.settle(called || is_stale, in_line, others) {
            if let Some(key) = stay.enlisted.take() {
                line.remove(key);
            }
            return Step::Taken;
        }
        turn.in_vain += u32::from(called);
        // 2. Watch or not. From here on somebody has the baton and will look at the line, or a
        // thread has been called.
        let waiter = wait.waiter();
        let number = waiter.worker();
        let is_open = self.state.load(Ordering::Relaxed) & CALLED != 0;
        let watches = if !is_watcher {
            let concerned = line.concerns_others(number) || is_open && line.called != number;
            concerned && !line.is_covered(number)
        } else {
            // If nothing has happened since it began to watch, nothing will before the holder gives
            // the baton up; and that one covers all workers again.
            !is_due || is_open || turn.watch.is_some_and(|watch| watch.calls != line.calls)
        };
        if !watches {
            turn.watch = None;
        } else if is_due || turn.watch.is_none() {
            // The deadline has to be known before the wait is opened.
            turn.watch = Some(Watch {
                due: park::now() + WATCH,
                calls: line.calls,
            });
            return Step::Again;
        }
        // 3. Get in line.
        let key = wait.key();
        let stays = before.is_some_and(|before| in_line && line.waiters.renew(before, wait));
        if !stays {
            let place = Place {
                worker: number,
                in_vain: turn.in_vain,
            };
            match turn.was_in_line {
                true => line.waiters.push_front_with(waiter, place),
                false => line.waiters.push_with(waiter, place),
            }
            line.home(number).waiting += 1;
        }
        if watches {
            line.home(number).watcher = Some(key);
        } else if is_watcher {
            line.home(number).watcher = None;
        }
        stay.worker.set(number);
        stay.enlisted.set(Some(key));
        Step::Wait
    }

    /// Under the lock of the line: takes the baton for a thread, or has it looked at the line. One
    /// that `may_answer` has been called, or is to take the place of a call that nobody answers;
    /// `others` says whether the line holds others than this thread.
    fn settle(&self, may_answer: bool, in_line: bool, others: bool) -> bool {
        let mut taken = false;
        let settle = |state: u64| {
            let queued = if others { QUEUED } else { 0 };
            let is_free = state & HELD == 0;
            let after = match is_free {
                true if state & CALLED == 0 || may_answer => HELD | queued,
                true if state & TIMES != 0 && !in_line => state - ONCE + HELD,
                // The call has been answered, in vain.
                false if may_answer => HELD | QUEUED,
                _ => state | QUEUED,
            };
            taken = is_free && after & HELD != 0;
            (after != state).then_some(after)
        };
        let _ = self
            .state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, settle);
        taken
    }

    /// The baton is the caller's, and others are in line or have been called.
    #[cold]
    fn pass_on(&self) {
        // The one that was called is still on its way.
        let keep = |state| (state & CALLED != 0).then_some(state & !HELD);
        if self
            .state
            .fetch_update(Ordering::Release, Ordering::Relaxed, keep)
            .is_ok()
        {
            return;
        }
        let mut line = self.line.lock();
        while let Some((next, place)) = line.waiters.pop_with() {
            line.note_left(place, next.key());
            let near = next.is_near();
            let Some(claimed) = next.claim(Wake::Woken) else {
                continue;
            };
            line.called = place.worker;
            line.calls += 1;
            let mixed = line.concerns_others(place.worker) || line.is_on_its_way(place.worker);
            let mut others = Vec::new();
            if mixed {
                line.home(place.worker).on_its_way = true;
                others = line.cover();
            }
            let more = !line.waiters.is_empty();
            line.turns = if more { line.turns + 1 } else { 0 };
            let lease = match place.in_vain >= IN_VAIN || near && line.turns < CROWD {
                true => 0,
                false if near => LEASE,
                false => FAR_LEASE,
            };
            let reserved_for = if lease == 0 { next.thread_id() } else { 0 };
            self.holder.store(reserved_for, Ordering::Relaxed);
            let queued = if more { QUEUED } else { 0 };
            let mixed = if mixed { MIXED } else { 0 };
            self.state
                .store(CALLED | (lease * ONCE) | queued | mixed, Ordering::Release);
            drop(line);
            // Only now they run, and may give the baton up in their turn. An OS thread may run
            // already; it looks at the line before it concludes anything.
            drop(claimed);
            return drop(others);
        }
        line.turns = 0;
        self.state.store(0, Ordering::Release);
    }
}

/// What a thread does after it has looked at the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It has the baton.
    Taken,
    /// It is in line.
    Wait,
    /// It is to look again, with a deadline.
    Again,
}

/// What a thread that waits knows of itself.
struct Turn {
    in_vain: u32,
    /// Then it gets in line in front.
    was_in_line: bool,
    watch: Option<Watch>,
}

/// See [`WATCH`].
#[derive(Debug, Clone, Copy)]
struct Watch {
    due: Instant,
    /// How many calls there had been when it began.
    calls: u64,
}

/// What a thread that waits owes to the others, in whichever way it stops to.
struct Stay<'a> {
    baton: &'a Baton,
    /// Its place in line, unless it was called.
    enlisted: Cell<Option<Key>>,
    /// It was called, and has not come.
    called: Cell<bool>,
    /// Where it lives, once it has been in line.
    worker: Cell<u32>,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if self.enlisted.get().is_none() && !self.called.get() {
            return;
        }
        let mut line = self.baton.line.lock();
        let mut others = Vec::new();
        if let Some(key) = self.enlisted.get() {
            let watched = line.watcher(self.worker.get()) == Some(key);
            if line.remove(key) && watched {
                others = line.cover();
            }
        }
        let mut taken = false;
        if self.called.get() {
            line.note_come(self.worker.get());
            taken = self.baton.settle(true, false, !line.waiters.is_empty());
        }
        drop(line);
        drop(others);
        if taken {
            self.baton.pass_on();
        }
    }
}
