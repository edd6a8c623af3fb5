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
//! The first two are in `shared`, and `Local`, with what green threads call, is in `local`. Here is
//! the loop.
//!
//! The table is a local variable of the loop and changes only between two resumes, so nothing that
//! runs on a green thread can move or drop a coroutine (laws 2 and 3).
//!
//! # One turn of the loop
//!
//! Resume what is ready and start what is unstarted, in the order in which they became runnable, up
//! to a quota that shrinks when green threads run long, and no further once they have made
//! [`TURN_CALLS`] system calls; then look at the inbox, the timers and, if the last look is
//! [`POLL_INTERVAL`] old, at I/O. The run queue keeps that order: it holds the slots of started
//! threads, and for each unstarted thread a [`START`] or a [`START_LOCAL`] in its place. With nothing
//! to run: take unstarted threads from other workers, else announce sleep, look once more, and wait
//! for I/O, the next deadline or the bell.
//!
//! In a simulation a turn resumes or starts one green thread, which the [`oracle`](super::oracle)
//! has picked, and instead of sleeping it sets the clock; see [`simulate`].
//!
//! # Why not let a green thread move to an idle worker
//!
//! Its stack may hold a reference to a thread-local, and the compiler may keep the address of one
//! across any call. Both are undefined behaviour on another OS thread, and no compiler promises to
//! stop (rust-lang/unsafe-code-guidelines#602).

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

use slab::Slab;

use super::claim::Wake;
use super::clock::Nanos;
use super::ending::{Answer, Straggler};
use super::inbox::Mail;
use super::reactor::Events;
use super::run_queue::{Home, LocalQueue, START, START_LOCAL, Slot};
use super::sweep::Sweep;
use super::task::{Body, Start, Task, TaskRef, forget_current_id};
use crate::coroutine::{Coroutine, Resumed, Suspender, prefetch};
use crate::report::say;
use crate::stack::{self, Label, Stack, What};

mod capture;
mod deadlock;
mod linger;
mod local;
mod pace;
mod section;
mod shared;
mod simulate;

pub(crate) use capture::{AnsweredBy, Capture, CaptureAnswer, CapturedState, capture_all};
use capture::{TABLES, TableView};
pub(crate) use deadlock::note_helper;
use linger::Linger;
use local::{Local, LocalStart, TURNS, end_wait, watch_exit, without_waiting};
pub(crate) use local::{
    SYSTEM_CALL, Suspend, attempt, cancel, cannot_wait, destroy_locals, fail_simulation, is_green,
    is_worker, note_system_call, random, refill, reset_float_control, seed, spend, suspend,
    tell_cancelled, with,
};
use pace::Pace;
use shared::{Post, Unstarted, forget_burst};
pub(crate) use shared::{Shared, runtimes};

/// Green threads resumed at most before the loop looks at anything else.
const QUOTA: u32 = 64;
/// How long a turn should take. One that took longer cuts the quota to what would have gone into
/// this time; one that had the whole quota run in less doubles it.
const TURN: Nanos = 50_000;
/// System calls of green threads after which a turn is over, some hundred microseconds' worth. The
/// quota follows from turns that are past; this ends one at once in which it has turned out to be
/// too many. A turn that answers a request for each of its quota makes no more.
const TURN_CALLS: u32 = 2 * QUOTA;
/// How often a worker that looks out for mail looks into its inbox. Who writes there has to fetch
/// the line back each time.
const LOOK_INTERVAL: Nanos = 500;
/// How often it does so between two looks at I/O.
const LOOKS: u32 = 8;
/// How old the last look at I/O may grow while there is always somebody to run.
const POLL_INTERVAL: Nanos = 50_000;
/// The same while some of those have not run yet that the last look has made ready. Looking sooner
/// would take sockets from the kernel's list long before their turn, and so bring them into the
/// cache twice.
const PATIENT_INTERVAL: Nanos = 500_000;
/// From this many started green threads on, those that I/O has made ready are assumed to be out of
/// the nearest cache.
const MANY: usize = 128;
/// The stack on which a closure is dropped for which there was none of its own size.
const SMALL_STACK: usize = 64 << 10;
/// Bytes in a cache line.
const LINE: usize = 64;
/// How many cache lines of a suspended stack's end a resume touches, typically.
const HOT_STACK: usize = 9;

type Green = Coroutine<(), Suspend, ()>;

/// Where the coroutine is in an entry, for debuggers.
#[cfg(all(target_arch = "x86_64", not(hebra_sanitizer)))]
const COROUTINE_IN_ENTRY: usize = mem::offset_of!(Entry, coroutine);

/// A started green thread. One cache line, as with thousands of threads each resume finds it in no
/// cache.
#[repr(align(64))]
struct Entry {
    coroutine: Green,
    task: TaskRef,
    suspender: Option<Suspender<(), Suspend>>,
}

const _: () = assert!(
    size_of::<Entry>() == 64 || cfg!(hebra_sanitizer),
    "only a sanitizer makes coroutines larger"
);

/// The loop's own state; see the module.
pub(crate) struct Worker {
    /// On the heap, because green threads write to it while the loop holds itself exclusively.
    local: Rc<Local>,
    table: Slab<Entry>,
    /// Where the table is, for debuggers.
    view: &'static TableView,
    /// What is being captured, while that goes on.
    capture: Option<Box<Capture>>,
    events: Events,
    /// An empty vector to swap against the inbox.
    spare: Vec<Slot>,
    quota: u32,
    /// Green threads resumed in this turn.
    resumed: u32,
    /// Resumes ahead for which prefetching pays: those that the last look at I/O has brought.
    cold: usize,
    /// Resumes until all have run that the last look at I/O has made ready.
    brought: usize,
    turn_began: Nanos,
    last_poll: Nanos,
    /// It may have been roused to look for unstarted threads, and has not looked yet.
    roused: bool,
    sweep: Sweep,
    pace: Pace,
    linger: Linger,
    /// How often it was the last to sleep for good since somebody has run, and there were other OS
    /// threads.
    doubts: u32,
    stop: Stop,
}

/// Whether a turn may resume another green thread.
#[derive(PartialEq, Eq)]
enum Turn {
    GoesOn,
    /// Its system calls are [`TURN_CALLS`].
    Over,
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
        section::prepare();
        let now = shared.clock.now();
        let view = &TABLES[shared.posts[index].inbox.worker() as usize];
        Worker {
            view,
            capture: None,
            local: Rc::new(Local::new(shared, index, now)),
            table: Slab::new(),
            events: Events::new(),
            spare: Vec::new(),
            quota: QUOTA,
            resumed: 0,
            cold: 0,
            brought: 0,
            turn_began: now,
            last_poll: now,
            roused: false,
            sweep: Sweep::default(),
            pace: Pace::default(),
            linger: Linger::new(),
            doubts: 0,
            stop: Stop::No,
        }
    }

    /// Runs `body` as this worker's first green thread, and the loop until the runtime has stopped.
    ///
    /// # Errors
    /// There is no stack for it; `body` has been dropped.
    pub(crate) fn run_root<'a>(
        self,
        task: TaskRef,
        body: Box<dyn FnOnce(Start) + 'a>,
    ) -> io::Result<()> {
        let body = Box::into_raw(Box::new(body)).cast::<Box<dyn FnOnce(Start) + 'static>>();
        // SAFETY: the pointer comes from `into_raw`, and differs from it in a lifetime. What has
        // that lifetime outlives this call, and `run` returns only when every coroutine has
        // finished and every closure is gone; it does not unwind.
        let body = unsafe { Box::from_raw(body) };
        let stack = self.local.reserve(&task)?;
        self.local.spawn_local(task, stack, *body);
        self.run();
        Ok(())
    }

    /// Runs green threads until the runtime stops and the last of this worker's has ended.
    pub(crate) fn run(mut self) {
        let abort = AbortOnUnwind;
        let _here = self.local.enter();
        let clock = &self.local.shared.clock;
        let is_real = self.local.oracle.is_none();
        self.local.table.set(&raw const self.table);
        self.view.open(is_real.then(|| clock.now()));
        LocalQueue::with(|queue| {
            // The root was left here before this OS thread became a worker.
            if !self.local.local_starts.borrow().is_empty() {
                self.local.announce(START_LOCAL);
            }
            loop {
                if self.local.oracle.is_none() {
                    self.local.announce_posted(queue);
                    if self.capture.is_none() {
                        self.run_ready::<false>(queue);
                    } else {
                        self.run_ready::<true>(queue);
                    }
                } else {
                    self.step(queue);
                }
                self.read_clock();
                self.read_mail(queue);
                self.serve_capture();
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
        self.view.close();
        self.local.table.set(ptr::null());
        self.local
            .shared
            .ending
            .answer(self.local.index, Answer::Ended);
        mem::forget(abort);
    }

    /// Resumes ready threads and starts unstarted ones, in the order in which they became runnable.
    /// `CAPTURING` is whether a dump is being made.
    fn run_ready<const CAPTURING: bool>(&mut self, queue: &LocalQueue) {
        let mut left = self.quota;
        while left > 0 {
            let Some(slot) = queue.pop() else { break };
            left -= 1;
            self.brought = self.brought.saturating_sub(1);
            if self.cold > 0 {
                self.cold -= 1;
                self.prefetch(queue);
            }
            let turn = if slot < START_LOCAL {
                self.sweep.set_active();
                if CAPTURING {
                    self.capture_first(slot);
                }
                self.resume(slot, queue)
            } else if slot == START_LOCAL {
                self.start_local(queue)
            } else {
                self.start_unstarted(queue)
            };
            if turn == Turn::Over {
                break;
            }
        }
        self.resumed = self.quota - left;
    }

    /// Brings what the next ready threads need into the cache while this one runs: in three steps,
    /// as each leads to the next.
    fn prefetch(&self, queue: &LocalQueue) {
        let ahead = |steps| {
            queue
                .peek(steps)
                .and_then(|slot| self.table.get(slot as usize))
        };
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

    #[inline(always)] // Saving the registers once more would cost a sixth of a yield.
    fn resume(&mut self, slot: Slot, queue: &LocalQueue) -> Turn {
        let entry = &mut self.table[slot as usize];
        let local = &self.local;
        local.running.set(Some(NonNull::from(&entry.task)));
        local.slot.set(slot);
        local.suspender.set(entry.suspender);
        refill();
        forget_current_id();
        // A signal handler reads `running` and what it leads to: it must not see the one without the
        // other.
        compiler_fence(Ordering::SeqCst);
        let resumed = entry.coroutine.resume(());
        compiler_fence(Ordering::SeqCst);
        local.running.set(None);
        entry.suspender = local.suspender.get();
        match resumed {
            Resumed::Suspended(Suspend::Yield) => {
                queue.push(slot);
                // Who does nothing else does it without system calls.
                return Turn::GoesOn;
            }
            Resumed::Suspended(Suspend::Park) => {}
            Resumed::Suspended(Suspend::Spent) => queue.push(slot),
            Resumed::Finished(()) => drop(self.table.remove(slot as usize)),
        }
        if self.local.system_calls.get() < TURN_CALLS {
            Turn::GoesOn
        } else {
            Turn::Over
        }
    }

    /// Starts the oldest of the threads that only this worker may start.
    #[inline(never)] // It has a copy of `resume`, which would crowd the loop's registers.
    fn start_local(&mut self, queue: &LocalQueue) -> Turn {
        let first = self.local.local_starts.borrow_mut().pop_front();
        match first {
            Some(LocalStart { task, stack, body }) => self.start(task, stack, body, queue),
            None => Turn::GoesOn,
        }
    }

    /// Starts the oldest of the other unstarted threads of this worker, unless other workers have
    /// taken all of them.
    #[inline(never)] // As `start_local`.
    fn start_unstarted(&mut self, queue: &LocalQueue) -> Turn {
        let starts = &self.local.announced;
        // In a simulation nothing is announced.
        starts.set(starts.get().saturating_sub(1));
        let Some(Unstarted { task, stack }) = self.next_unstarted() else {
            return Turn::GoesOn;
        };
        // The table keeps the record alive as long as the coroutine; a reference of its own
        // would be two atomics.
        let record: NonNull<Task<dyn Body>> = NonNull::from(&*task);
        let body = move |start| {
            // SAFETY: this runs on the coroutine of the entry that holds the `Arc` (law 3); or
            // in `start`, which holds it.
            unsafe { record.as_ref() }.body.run(start);
        };
        self.start(task, stack.map(|stack| *stack), body, queue)
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
    fn start(
        &mut self,
        task: TaskRef,
        stack: Option<Stack>,
        body: impl FnOnce(Start) + 'static,
        queue: &LocalQueue,
    ) -> Turn {
        self.sweep.set_active();
        let (stack, no_stack) = match stack.map_or_else(|| self.local.stack_for(&task), Ok) {
            Ok(stack) => (stack, None),
            // There may be one that is large enough for the destructor of its closure.
            Err(error) => match stack::acquire(SMALL_STACK) {
                Ok(stack) => (stack, Some(error)),
                Err(_) => {
                    without_waiting(|| body(Start::NoStack(error)));
                    return Turn::GoesOn;
                }
            },
        };
        let label = Label {
            what: What::GreenThread,
            name: task.name(),
            location: task.location(),
        };
        stack.set_label(&label);
        stack.set_record(Arc::as_ptr(&task).addr());
        let vacant = self.table.vacant_entry();
        let slot = Slot::try_from(vacant.key()).expect("fewer than 2^32 green threads a worker");
        if self.local.shared.is_stopping() {
            task.request_cancel(None);
        }
        let cancelled = task.settle(Home {
            worker: self.local.post().inbox.worker(),
            slot,
        });
        if cancelled {
            task.set_attention(true, false);
        }
        if let Some(scopes) = self.local.scopes.borrow_mut().get_mut(vacant.key()) {
            scopes.clear();
        }
        let start = match no_stack {
            Some(error) => Start::NoStack(error),
            None if cancelled => Start::Discard,
            None => Start::Run,
        };
        let coroutine = Coroutine::new(stack, move |yielder, ()| {
            let suspender = Suspender::new(yielder);
            with(|local, _| local.suspender.set(Some(suspender)));
            body(start);
            destroy_locals();
            reset_float_control();
        });
        let entry: *const Entry = vacant.insert(Entry {
            coroutine,
            task,
            suspender: None,
        });
        self.leave_out_of_capture(slot);
        let first = || self.table.get(0).map(|entry| ptr::from_ref(entry).addr());
        self.view.note(slot as usize, entry.addr(), first);
        self.resume(slot, queue)
    }

    fn read_clock(&mut self) {
        let began = self.turn_began;
        self.begin_turn();
        let turn = self.turn_began - began;
        let resumed = mem::take(&mut self.resumed);
        if turn > TURN {
            let in_time = Nanos::from(resumed) * TURN / turn;
            self.quota = in_time.clamp(1, QUOTA.into()) as u32;
        } else if resumed >= self.quota {
            self.quota = (self.quota * 2).min(QUOTA);
        }
    }

    fn begin_turn(&mut self) {
        watch_exit(&TURNS);
        self.turn_began = self.local.shared.clock.now();
        self.local.now.set(self.turn_began);
        self.local.system_calls.set(0);
    }

    fn read_mail(&mut self, queue: &LocalQueue) {
        let Mail {
            mut ready,
            cancelled,
        } = self.local.post().inbox.take(&mut self.spare);
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
        let now = self.local.now.get();
        let mut passed = 0;
        timers.expire(now, |slot| {
            passed += 1;
            end_wait(&self.table[slot as usize].task, slot, Wake::TimedOut);
        });
        self.pace.note(passed, now);
    }

    fn sweep(&mut self) {
        let slots = self.table.capacity();
        self.sweep.run(self.local.now.get(), slots, |slot| {
            self.table.get(slot).map(|entry| &entry.task)
        });
    }

    fn has_work(&self, queue: &LocalQueue) -> bool {
        !queue.is_empty()
            || !self.local.unstarted.borrow().is_empty()
            || self.local.post().unstarted_len.load(Ordering::Relaxed) > 0
            || !self.local.local_starts.borrow().is_empty()
    }

    fn poll_if_due(&mut self) {
        let now = self.local.now.get();
        let interval = if self.brought > 0 {
            PATIENT_INTERVAL
        } else {
            POLL_INTERVAL
        };
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
        self.cold = if edges == 0 || self.table.len() < MANY {
            0
        } else {
            ready
        };
    }

    /// Whoever was roused to look for unstarted threads and has work of its own lets another look.
    fn pass_on_search(&mut self) {
        if mem::take(&mut self.roused) {
            self.let_another_look();
        }
    }

    /// Ends a search, and rouses another worker if there are unstarted threads left, wherever.
    /// While there was a search nobody has roused anybody for those that came.
    fn let_another_look(&self) {
        let shared = &self.local.shared;
        shared.searching.swap(false, Ordering::AcqRel);
        // It starts the first of its own itself, if that is what it runs next.
        let next = LocalQueue::with(|queue| queue.peek(0));
        let at_once = next.is_none_or(|next| next == START);
        let own = |index| usize::from(at_once && index == self.local.index);
        let has_unstarted =
            |(index, post): (usize, &Post)| post.unstarted_len.load(Ordering::Relaxed) > own(index);
        if shared.posts.iter().enumerate().any(has_unstarted) {
            shared.rouse_one(Some(self.local.index));
        }
    }

    fn take_from_others(&mut self) -> bool {
        let shared = &self.local.shared;
        let workers = shared.posts.len();
        let others = (1..workers).map(|step| &shared.posts[(self.local.index + step) % workers]);
        let Some(stolen) = others.map(Post::steal).find(|stolen| !stolen.is_empty()) else {
            return false;
        };
        self.local.post().push_unstarted(stolen);
        self.roused = false;
        self.let_another_look();
        true
    }

    fn sleep(&mut self) {
        if self.local.oracle.is_some() {
            return self.pass_time();
        }
        let shared = self.local.shared.clone();
        let inbox = &shared.posts[self.local.index].inbox;
        if self.look_out() || !inbox.begin_sleep() {
            return;
        }
        // A swap and not a store, so that it is ordered against the swaps of spawners: one that finds
        // the flag set relies on a spawner that has not looked yet whether this worker sleeps.
        shared.searching.swap(false, Ordering::AcqRel);
        shared.sleepers.announce();
        let unstarted = |post: &Post| post.unstarted_len.load(Ordering::Relaxed) > 0;
        let stay_awake =
            shared.posts.iter().any(unstarted) || self.must_wind_down() || self.is_capturing();
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
        self.wake_up(inbox.may_have_mail());
        // Before anybody runs, who may take long: until then nobody else is roused.
        if LocalQueue::with(|queue| self.has_work(queue)) {
            self.pass_on_search();
        }
    }

    /// Begins a turn after an idle time.
    fn wake_up(&mut self, by_mail: bool) {
        let idle_since = self.turn_began;
        self.begin_turn();
        self.linger.note_idle(self.turn_began - idle_since, by_mail);
        self.last_poll = self.turn_began;
    }

    /// Looks out for mail for a while, if it is likely to come; see [`Linger`]. Returns whether
    /// there is something to do.
    fn look_out(&mut self) -> bool {
        let shared = &self.local.shared;
        let Some(time) = self.linger.time().filter(|_| shared.may_linger) else {
            return false;
        };
        let came = self.look_out_for(time);
        self.linger.note_attempt(came);
        if came {
            self.wake_up(true);
        }
        came
    }

    fn look_out_for(&mut self, time: Nanos) -> bool {
        let shared = self.local.shared.clone();
        let inbox = &shared.posts[self.local.index].inbox;
        let deadline = self.local.timers.borrow_mut().next_deadline();
        let until = deadline
            .unwrap_or(Nanos::MAX)
            .min(shared.clock.now().saturating_add(time));
        let unstarted = |post: &Post| post.unstarted_len.load(Ordering::Relaxed) > 0;
        while shared.clock.now() < until && !shared.is_stopping() {
            self.poll(Some(0));
            if !LocalQueue::with(LocalQueue::is_empty) || shared.posts.iter().any(unstarted) {
                return true;
            }
            for _ in 0..LOOKS {
                let next_look = shared.clock.now() + LOOK_INTERVAL;
                while shared.clock.now() < next_look {
                    std::hint::spin_loop();
                }
                if inbox.may_have_mail() {
                    return true;
                }
            }
        }
        false
    }

    fn time_to_next_event(&mut self) -> Option<Nanos> {
        self.sweep.arm(self.local.now.get(), self.table.len());
        let deadline = self.local.timers.borrow_mut().next_deadline();
        let grace = match self.stop {
            Stop::Cancelled => *self.local.shared.grace_ends.lock(),
            Stop::No | Stop::Reported => None,
        };
        let grace = grace.map(|instant| self.local.shared.clock.at(instant));
        let now = self.local.shared.clock.now();
        let deadline = deadline.map(|deadline| self.pace.wake_at(deadline, now));
        let next = deadline
            .into_iter()
            .chain(grace)
            .chain(self.sweep.due())
            .min()?;
        Some(next.saturating_sub(now))
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
        if self.stop == Stop::Cancelled
            && grace.is_some_and(|grace| self.local.clock().read() >= grace)
        {
            self.stop = Stop::Reported;
            if self.local.oracle.is_some() {
                return self.give_up("green threads have been cancelled and do not end");
            }
            if self.local.shared.standstill.is_found() && !self.table.is_empty() {
                return self.give_up("green threads have been cancelled and do not end");
            }
            let left: Vec<Straggler> = self
                .table
                .iter()
                .map(|(_, entry)| Straggler::new(&entry.task))
                .collect();
            let shared = &self.local.shared;
            if shared.says_who.load(Ordering::Relaxed) {
                for (_, Entry { task, .. }) in &self.table {
                    say(format_args!(
                        "{task} has not ended though its runtime has: {}",
                        task.reason()
                    ));
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
}

/// Ends the process if a bug of ours unwinds the loop: the coroutines of its table cannot be
/// dropped.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        say(format_args!(
            "a worker has panicked; this is a bug in hebra"
        ));
        std::process::abort();
    }
}
