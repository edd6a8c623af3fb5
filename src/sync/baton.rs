//! [`Baton`]: who holds a mutex, and who waits for it, first come first served.
//!
//! ```text
//!   state = 0                    nobody holds it. Nobody waits, or one who does has been called, from another worker
//!         | HELD                 somebody holds it
//!         | CALLED | n           nobody holds it, one who waits has been called, and before it comes the baton may be taken n times
//!         | CALLED | n | HELD    it has been taken so
//!         | … | HELD | QUEUED    whoever gives it up has to look at the line
//! ```
//!
//! Who that is stands in a second word, `holder`, for those who ask: the state itself can be
//! changed without having looked up an id, which after the barrier of another lock's release would
//! have to be waited for.
//!
//! Whoever gives the baton up while others wait *passes* it to the first in line: the state stays
//! HELD, and there is no moment at which somebody else could take it. Who gives it up and wants it
//! again goes to the end of the line.
//!
//! That is fair, and dear where many want it all the time: every single taking costs a switch
//! between threads, or the journey of a wake-up from one processor to another, some ten
//! microseconds for which the baton lies idle. So there are two cases in which the first in line is
//! *called* instead: it is woken, and until it comes, the baton is free for whoever is there.
//!
//! - It lives on another worker, or is an OS thread. Nobody is overtaken who could run. Who has
//!   come in vain twice is passed the baton.
//! - It lives on this worker, but the line has not been empty for [`CROWD`] turns. It is overtaken
//!   [`LEASE`] times at most.
//!
//! One thread at most is called at a time, and who comes in vain stands first in line again. A
//! thread is passed the baton, or called, if the wake has won (law 1); if its wait was over
//! already, it is the next one's turn.
//!
//! What keeps a wake-up from being lost: where there is a line, either the holder's state says so,
//! or somebody has been called. It looks at the line when it comes, and sees to the others if it is
//! cancelled on the way.

use std::cell::Cell;
use std::mem;

use super::patience::{End, Patience};
use crate::atomic::{AtomicU64, Ordering};
use crate::lock::Lock;
use crate::park::Wait;
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;

/// Somebody holds the baton.
const HELD: u64 = 1;
/// Whoever gives the baton up has to look at the line.
const QUEUED: u64 = 1 << 63;
/// One who waits has been called, and may be overtaken a number of times.
const CALLED: u64 = 1 << 61;
/// Being overtaken once.
const ONCE: u64 = 1 << 48;
const TIMES: u64 = CALLED - ONCE;

/// Turns after which a line that was never empty is a crowd. Few where a model checker has to get
/// there.
const CROWD: u32 = if cfg!(test) { 1 } else { 64 };
/// How often a thread that waits in a crowd may be overtaken when it has been called.
const LEASE: u64 = if cfg!(test) { 1 } else { 256 };
/// How often a thread may come in vain before it is passed the baton.
const IN_VAIN: u32 = if cfg!(test) { 1 } else { 2 };

/// See the module.
pub(super) struct Baton {
    state: AtomicU64,
    /// The id of the thread that holds it, written by that thread or by who passes it on; 0:
    /// nobody, or it has only just been taken.
    holder: AtomicU64,
    line: Lock<Line>,
}

struct Line {
    waiters: WaitList,
    /// One who is no longer among `waiters` has been called.
    called: bool,
    /// The first has come in vain often enough.
    insists: bool,
    /// Turns since there was nobody.
    turns: u32,
}

impl Baton {
    pub(super) const fn new() -> Baton {
        let line = Line {
            waiters: WaitList::new(),
            called: false,
            insists: false,
            turns: 0,
        };
        Baton {
            state: AtomicU64::new(0),
            holder: AtomicU64::new(0),
            line: Lock::new(line),
        }
    }

    /// Takes the baton for the thread `me` if it is there for the taking.
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
            || self.wait(me, patience);
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

    #[cold]
    fn wait(&self, me: u64, patience: Patience) -> bool {
        if self.overtake() {
            return true;
        }
        let call = Call {
            baton: self,
            answered: Cell::new(true),
        };
        let mut in_vain = 0;
        let mut left = false;
        loop {
            let comes = !call.answered.get();
            let insists = in_vain >= IN_VAIN;
            let mut taken = false;
            let enter = |wait: &Wait<'_>| {
                let mut line = self.line.lock();
                if comes {
                    line.called = false;
                    call.answered.set(true);
                }
                taken = self.take_or_mark(&line);
                if !taken && (comes || left) {
                    line.waiters.push_front(wait.waiter());
                    line.insists = insists;
                } else if !taken {
                    line.waiters.push(wait.waiter());
                }
                !taken
            };
            let leave = |wait: &Wait<'_>| {
                let mut line = self.line.lock();
                line.waiters.remove(wait);
                line.insists &= !insists;
            };
            match patience.wait_once(Reason::Lock, Some(&self.holder), enter, leave) {
                End::Got if taken || self.is_passed_to(me) => return true,
                End::Got => {
                    call.answered.set(false);
                    in_vain += u32::from(comes);
                }
                End::Left => left = true,
                End::GivenUp => return false,
            }
        }
    }

    /// Whether the calling thread, which has been woken in line, was passed the baton, and not
    /// called.
    fn is_passed_to(&self, me: u64) -> bool {
        // Who calls gives the baton up, and nobody who takes it then has this id. What waits while
        // its OS thread's thread-locals are destroyed has more than one; then the line has
        // to say it.
        self.holder.load(Ordering::Relaxed) == me || !self.line.lock().called
    }

    /// Under the lock of the line: takes the baton if it is there for the taking, or has its holder
    /// look at the line.
    fn take_or_mark(&self, line: &Line) -> bool {
        let queued = if line.waiters.is_empty() { 0 } else { QUEUED };
        let mark = |state| {
            let after = match (state & HELD, line.called) {
                (0, false) => HELD | queued,
                (0, true) if state & CALLED == 0 => HELD,
                (0, true) => state,
                (_, true) => state | QUEUED,
                (_, false) => HELD | QUEUED,
            };
            (after != state).then_some(after)
        };
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, mark)
            .is_ok_and(|before| before & HELD == 0)
    }

    /// The baton is the caller's.
    #[cold]
    fn pass_on(&self) {
        let keep = |state| (state & (CALLED | QUEUED) == CALLED).then_some(state & !HELD);
        if self
            .state
            .fetch_update(Ordering::Release, Ordering::Relaxed, keep)
            .is_ok()
        {
            return;
        }
        let mut line = self.line.lock();
        if line.called {
            let leave = |state| {
                Some(if state & CALLED == 0 {
                    0
                } else {
                    state & (CALLED | TIMES)
                })
            };
            let _ = self
                .state
                .fetch_update(Ordering::Release, Ordering::Relaxed, leave);
            return;
        }
        while let Some(next) = line.waiters.pop() {
            let more = !line.waiters.is_empty();
            line.turns = if more { line.turns + 1 } else { 0 };
            let near = next.is_near();
            let passes = mem::take(&mut line.insists) || near && line.turns < CROWD;
            let Some(claimed) = next.claim(Wake::Woken) else {
                continue;
            };
            line.called = !passes;
            let state = match (passes, near) {
                (true, _) => HELD | if more { QUEUED } else { 0 },
                (false, true) => CALLED | (LEASE * ONCE),
                (false, false) => 0,
            };
            self.holder
                .store(if passes { next.thread_id() } else { 0 }, Ordering::Relaxed);
            self.state.store(state, Ordering::Release);
            drop(line);
            // Only now it runs, and may give the baton up in its turn. An OS thread may run
            // already; it looks at the line first.
            return drop(claimed);
        }
        line.turns = 0;
        self.state.store(0, Ordering::Release);
    }

    /// Who has been called does not come. Returns whether the line is the caller's to look at: then
    /// it has the baton.
    fn recall(&self) -> bool {
        let mut line = self.line.lock();
        line.called = false;
        self.take_or_mark(&line)
    }
}

/// Being called. Who unwinds before it has come passes the call on.
struct Call<'a> {
    baton: &'a Baton,
    /// It was not called, or has come.
    answered: Cell<bool>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.answered.get() && self.baton.recall() {
            self.baton.pass_on();
        }
    }
}
