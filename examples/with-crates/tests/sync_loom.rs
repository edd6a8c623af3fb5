//! The protocols of `Mutex` and `RwLock` under loom, which goes through all interleavings of a few
//! threads and through what the memory model lets each of them see. What is tested are the very
//! sources of the crate: `baton.rs` and `gate.rs`.
//!
//! Each model must also be able to fail: it is run once more with all orderings weakened, and then
//! loom has to find the fault.

#![allow(
    dead_code,
    unused_imports,
    reason = "the sources have more in them than the models need"
)]

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicBool as StdBool;
use std::sync::atomic::Ordering::SeqCst;

use loom::cell::UnsafeCell;
use loom::thread;

#[path = "../../../src/sync/baton.rs"]
mod baton;
#[path = "../../../src/sync/gate.rs"]
mod gate;
#[path = "../../../src/scheduler/wait_list.rs"]
mod wait_list;

use baton::Baton;
use gate::{Access, Gate};
use park::Thread;
use patience::Patience;

/// Orderings do nothing.
static WEAK: StdBool = StdBool::new(false);

/// loom's atomics in place of those of `src/atomic.rs`. They are made when they are first used, as
/// loom's cannot be made in a constant.
mod atomic {
    use std::sync::OnceLock;

    pub(crate) use loom::sync::atomic::Ordering;
    use loom::sync::atomic::{self, Ordering::Relaxed};

    fn weakened(order: Ordering) -> Ordering {
        if super::WEAK.load(super::SeqCst) {
            Relaxed
        } else {
            order
        }
    }

    #[derive(Debug)]
    pub(crate) struct AtomicU64(u64, OnceLock<atomic::AtomicU64>);

    impl AtomicU64 {
        pub(crate) const fn new(value: u64) -> AtomicU64 {
            AtomicU64(value, OnceLock::new())
        }

        fn cell(&self) -> &atomic::AtomicU64 {
            self.1.get_or_init(|| atomic::AtomicU64::new(self.0))
        }

        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.cell().load(weakened(order))
        }

        pub(crate) fn store(&self, value: u64, order: Ordering) {
            self.cell().store(value, weakened(order));
        }

        pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
            self.cell().fetch_and(value, weakened(order))
        }

        pub(crate) fn compare_exchange(
            &self,
            from: u64,
            to: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.cell()
                .compare_exchange(from, to, weakened(success), weakened(failure))
        }

        pub(crate) fn fetch_update(
            &self,
            success: Ordering,
            failure: Ordering,
            f: impl FnMut(u64) -> Option<u64>,
        ) -> Result<u64, u64> {
            self.cell()
                .fetch_update(weakened(success), weakened(failure), f)
        }
    }
}

/// loom's mutex in place of that of `src/lock.rs`.
mod lock {
    use std::sync::OnceLock;

    use loom::sync::{Mutex, MutexGuard};

    pub(crate) struct Lock<T>(std::sync::Mutex<Option<T>>, OnceLock<Mutex<T>>);

    impl<T> Lock<T> {
        pub(crate) const fn new(value: T) -> Lock<T> {
            Lock(std::sync::Mutex::new(Some(value)), OnceLock::new())
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let first = || Mutex::new(self.0.lock().unwrap().take().expect("it is made once"));
            self.1
                .get_or_init(first)
                .lock()
                .expect("nobody panics under a lock")
        }
    }
}

mod scheduler {
    pub(crate) use super::{claim, task, wait_list, waiter};
}

mod claim {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Wake {
        Woken = 2,
        TimedOut = 3,
    }
}

mod task {
    pub(crate) enum Reason {
        Lock,
    }
}

/// As in the crate, but threads are no green ones.
mod waiter {
    use std::sync::Arc;

    use super::claim::Wake;
    use super::park::Thread;
    pub(crate) use super::park::Wait;

    /// A thread and which of its waits.
    pub(crate) type Key = (u64, u64);

    #[derive(Debug)]
    pub(crate) struct Waiter {
        pub(crate) thread: Arc<Thread>,
        pub(crate) epoch: u64,
    }

    /// Unlike a green thread this one may run already when it has been claimed, like an OS thread.
    pub(crate) struct Claimed(Arc<Thread>);

    impl Drop for Claimed {
        fn drop(&mut self) {
            self.0.unblock();
        }
    }

    impl Waiter {
        pub(crate) fn wake(&self, wake: Wake) -> bool {
            self.claim(wake).is_some()
        }

        pub(crate) fn claim(&self, wake: Wake) -> Option<Claimed> {
            self.thread
                .end(self.epoch, wake)
                .then(|| Claimed(self.thread.clone()))
        }

        pub(crate) fn spend(&mut self) {
            self.epoch = 0;
        }

        pub(crate) fn is_spent(&self) -> bool {
            self.epoch == 0
        }

        pub(crate) fn thread_id(&self) -> u64 {
            self.thread.id
        }

        pub(crate) fn is_near(&self) -> bool {
            self.thread.near
        }

        pub(crate) fn key(&self) -> Key {
            (self.thread.id, self.epoch)
        }

        pub(crate) fn worker(&self) -> u32 {
            if self.thread.near {
                0
            } else {
                self.thread.id as u32
            }
        }
    }
}

mod park {
    use std::fmt;
    use std::sync::Arc;
    use std::sync::atomic::{self, Ordering::SeqCst};
    use std::time::{Duration, Instant};

    use loom::sync::Notify;

    use crate::atomic::{AtomicU64, Ordering};
    use crate::scheduler::claim::Wake;
    use crate::scheduler::waiter::Waiter;

    /// Hours that have passed: one each time that a wait comes to its deadline.
    static HOURS: atomic::AtomicU64 = atomic::AtomicU64::new(0);

    pub(crate) fn now() -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let hours = HOURS.load(SeqCst);
        *START.get_or_init(Instant::now) + Duration::from_secs(3600 * hours)
    }

    /// A thread that can wait, of which loom knows when it does: its claim word is an epoch and how
    /// that has ended, 0 if it has not.
    pub(crate) struct Thread {
        claim: AtomicU64,
        ended: Notify,
        pub(crate) id: u64,
        pub(crate) near: bool,
        /// Waits of this thread that are still to come to their deadline.
        deadlines: atomic::AtomicU64,
    }

    impl Thread {
        pub(crate) fn new(id: u64, near: bool) -> Arc<Thread> {
            Arc::new(Thread {
                claim: AtomicU64::new(0),
                ended: Notify::new(),
                id,
                near,
                deadlines: atomic::AtomicU64::new(2),
            })
        }

        pub(crate) fn end(&self, epoch: u64, wake: Wake) -> bool {
            let ended = epoch << 3 | wake as u64;
            self.claim
                .compare_exchange(epoch << 3, ended, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        }

        /// A deadline has come, unless that has happened too often or the wait has ended.
        pub(crate) fn time_out(&self, epoch: u64) {
            let left = self.deadlines.load(SeqCst);
            if left > 0 && self.end(epoch, Wake::TimedOut) {
                self.deadlines.store(left - 1, SeqCst);
                HOURS.fetch_add(1, SeqCst);
            }
        }

        pub(crate) fn unblock(&self) {
            self.ended.notify();
        }

        pub(crate) fn begin(self: &Arc<Self>) -> Wait<'_> {
            let epoch = (self.claim.load(Ordering::Relaxed) >> 3) + 1;
            self.claim.store(epoch << 3, Ordering::Release);
            Wait {
                thread: self,
                epoch,
            }
        }

        pub(crate) fn block(&self) -> bool {
            loop {
                match self.claim.load(Ordering::Acquire) & 7 {
                    0 => self.ended.wait(),
                    outcome => return outcome == Wake::Woken as u64,
                }
            }
        }
    }

    impl fmt::Debug for Thread {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Thread")
                .field("id", &self.id)
                .finish_non_exhaustive()
        }
    }

    pub(crate) struct Wait<'a> {
        pub(crate) thread: &'a Arc<Thread>,
        pub(crate) epoch: u64,
    }

    impl Wait<'_> {
        pub(crate) fn waiter(&self) -> Waiter {
            Waiter {
                thread: self.thread.clone(),
                epoch: self.epoch,
            }
        }

        pub(crate) fn renew(&self, _: &mut Waiter) -> bool {
            false
        }

        pub(crate) fn key(&self) -> (u64, u64) {
            (self.thread.id, self.epoch)
        }

        pub(crate) fn is(&self, waiter: &Waiter) -> bool {
            Arc::ptr_eq(self.thread, &waiter.thread) && self.epoch == waiter.epoch
        }
    }
}

mod patience {
    use std::sync::Arc;
    use std::time::Instant;

    use crate::atomic::AtomicU64;
    use crate::park::{Thread, Wait};
    use crate::scheduler::claim::Wake;
    use crate::scheduler::task::Reason;

    /// As in the crate; and which thread waits.
    pub(crate) enum Patience {
        Endless(Arc<Thread>),
        /// Gives up when it gets to it.
        None(Arc<Thread>),
    }

    pub(crate) enum End {
        Got,
        Left,
        GivenUp,
    }

    impl Patience {
        pub(crate) fn wait_once(
            &self,
            reason: Reason,
            owner: Option<&AtomicU64>,
            enter: impl FnOnce(&Wait<'_>) -> bool,
            leave: impl FnOnce(&Wait<'_>),
        ) -> End {
            self.wait_once_until(reason, owner, None, enter, leave)
        }

        pub(crate) fn wait_once_until(
            &self,
            _: Reason,
            _: Option<&AtomicU64>,
            due: Option<Instant>,
            enter: impl FnOnce(&Wait<'_>) -> bool,
            leave: impl FnOnce(&Wait<'_>),
        ) -> End {
            let (Patience::Endless(thread) | Patience::None(thread)) = self;
            let wait = thread.begin();
            if !enter(&wait) {
                return End::Got;
            }
            if let Patience::None(_) = self {
                thread.end(wait.epoch, Wake::TimedOut);
            } else if due.is_some() {
                thread.time_out(wait.epoch);
            }
            if thread.block() {
                return End::Got;
            }
            leave(&wait);
            match self {
                Patience::None(_) => End::GivenUp,
                Patience::Endless(_) => End::Left,
            }
        }

        pub(crate) fn wait(
            self,
            reason: Reason,
            owner: Option<&AtomicU64>,
            mut enter: impl FnMut(&Wait<'_>) -> bool,
            mut leave: impl FnMut(&Wait<'_>),
        ) -> bool {
            matches!(
                self.wait_once(reason, owner, &mut enter, &mut leave),
                End::Got
            )
        }
    }
}

/// What a lock guards. loom finds accesses that nothing orders.
struct Guarded(UnsafeCell<usize>);

// SAFETY: loom checks it.
#[allow(unsafe_code)]
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new() -> Guarded {
        Guarded(UnsafeCell::new(0))
    }

    fn add_one(&self) {
        // SAFETY: loom checks it.
        #[allow(unsafe_code)]
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> usize {
        // SAFETY: loom checks it.
        #[allow(unsafe_code)]
        self.0.with(|value| unsafe { *value })
    }
}

/// What a thread of a model does.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// Takes and gives up, so often.
    Takes(usize),
    /// Takes, unless it has to wait for too long.
    Tries,
}

/// Threads, of which some live on another worker, take a baton.
fn takers(threads: &[(Does, bool)]) {
    let shared = Arc::new((Baton::new(), Guarded::new()));
    // What loom is to see is made by those who use it first: here, before there are others. This
    // gives up a baton that nobody holds.
    shared.0.pass();
    let spawn = |(id, (does, near)): (u64, (Does, bool))| {
        let shared = shared.clone();
        move || {
            let (baton, guarded) = &*shared;
            let thread = Thread::new(id, near);
            let (rounds, tries) = match does {
                Does::Takes(rounds) => (rounds, false),
                Does::Tries => (1, true),
            };
            for _ in 0..rounds {
                let patience = if tries {
                    Patience::None(thread.clone())
                } else {
                    Patience::Endless(thread.clone())
                };
                let taken = baton.take(id, patience);
                assert!(taken || tries);
                if taken {
                    guarded.add_one();
                    baton.pass();
                }
            }
        }
    };
    let mut bodies = (1..).zip(threads.iter().copied()).map(spawn);
    let own = bodies.next().expect("there are threads");
    let others: Vec<_> = bodies.map(thread::spawn).collect();
    own();
    others
        .into_iter()
        .for_each(|other| other.join().expect("no panic"));
    assert!(shared.0.try_take(9), "nobody holds it");
    let certain = threads
        .iter()
        .map(|(does, _)| {
            if let Does::Takes(rounds) = does {
                *rounds
            } else {
                0
            }
        })
        .sum::<usize>();
    let tries = threads
        .iter()
        .filter(|(does, _)| *does == Does::Tries)
        .count();
    assert!((certain..=certain + tries).contains(&shared.1.get()));
}

/// Threads that read or write pass a gate.
fn passers(threads: &[(bool, Does)]) {
    let shared = Arc::new((Gate::new(), Guarded::new()));
    // As for the baton.
    shared.0.leave(Access::Write(9));
    let spawn = |(id, (writes, does)): (u64, (bool, Does))| {
        let shared = shared.clone();
        move || {
            let (gate, guarded) = &*shared;
            let thread = Thread::new(id, false);
            let access = if writes {
                Access::Write(id)
            } else {
                Access::Read
            };
            let (rounds, tries) = match does {
                Does::Takes(rounds) => (rounds, false),
                Does::Tries => (1, true),
            };
            for _ in 0..rounds {
                let patience = if tries {
                    Patience::None(thread.clone())
                } else {
                    Patience::Endless(thread.clone())
                };
                let entered = gate.enter(access, patience);
                assert!(entered || tries);
                if entered && writes {
                    guarded.add_one();
                } else if entered {
                    guarded.get();
                }
                if entered {
                    gate.leave(access);
                }
            }
        }
    };
    let mut bodies = (1..).zip(threads.iter().copied()).map(spawn);
    let own = bodies.next().expect("there are threads");
    let others: Vec<_> = bodies.map(thread::spawn).collect();
    own();
    others
        .into_iter()
        .for_each(|other| other.join().expect("no panic"));
    assert!(gate_is_free(&shared.0), "nobody is in");
}

fn gate_is_free(gate: &Gate) -> bool {
    gate.try_enter(Access::Write(9))
}

const TAKES: Does = Does::Takes(1);
const TWICE: Does = Does::Takes(2);
const TRIES: Does = Does::Tries;

fn a_baton_is_passed() {
    takers(&[(TAKES, true), (TAKES, true), (TAKES, true)]);
}

fn a_baton_is_passed_again() {
    takers(&[(TWICE, true), (TWICE, true)]);
}

fn who_lives_elsewhere_is_called() {
    takers(&[(TAKES, false), (TAKES, false), (TAKES, false)]);
}

fn who_lives_elsewhere_is_overtaken() {
    takers(&[(TWICE, true), (TWICE, false)]);
}

fn who_waits_in_a_crowd_is_overtaken() {
    takers(&[(TWICE, true), (TAKES, true), (TAKES, true)]);
}

fn watchers_of_two_workers_take_turns() {
    takers(&[(TWICE, false), (TAKES, false), (TAKES, true)]);
}

fn watcher_that_gives_up_has_another_called() {
    takers(&[(TAKES, false), (TRIES, false), (TAKES, true)]);
}

fn who_gives_up_is_passed_over() {
    takers(&[(TAKES, true), (TRIES, true), (TAKES, false)]);
}

fn who_is_called_gives_up() {
    takers(&[(TWICE, true), (TRIES, false)]);
}

fn readers_and_a_writer_take_turns() {
    passers(&[(true, TAKES), (false, TAKES), (false, TAKES)]);
}

fn writers_and_a_reader_take_turns() {
    passers(&[(true, TAKES), (true, TAKES), (false, TAKES)]);
}

fn a_writer_that_gives_up_lets_readers_in() {
    passers(&[(false, TAKES), (true, TRIES), (false, TAKES)]);
}

/// With at most so many preemptions.
fn check(model: fn(), preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}

fn main() {
    if cfg!(hebra_sanitizer) {
        println!("not run: the sanitizer does not know loom's coroutines");
        return;
    }
    let models: [(&str, fn()); 12] = [
        ("a baton is passed", a_baton_is_passed),
        ("a baton is passed again", a_baton_is_passed_again),
        (
            "who lives elsewhere is called",
            who_lives_elsewhere_is_called,
        ),
        (
            "who lives elsewhere is overtaken",
            who_lives_elsewhere_is_overtaken,
        ),
        (
            "who waits in a crowd is overtaken",
            who_waits_in_a_crowd_is_overtaken,
        ),
        (
            "watchers of two workers take turns",
            watchers_of_two_workers_take_turns,
        ),
        (
            "a watcher that gives up has another called",
            watcher_that_gives_up_has_another_called,
        ),
        ("who gives up is passed over", who_gives_up_is_passed_over),
        ("who is called gives up", who_is_called_gives_up),
        (
            "readers and a writer take turns",
            readers_and_a_writer_take_turns,
        ),
        (
            "writers and a reader take turns",
            writers_and_a_reader_take_turns,
        ),
        (
            "a writer that gives up lets readers in",
            a_writer_that_gives_up_lets_readers_in,
        ),
    ];
    for (name, model) in models {
        let start = std::time::Instant::now();
        check(model, 2);
        println!("{name}: ok {:?}", start.elapsed());
    }
    WEAK.store(true, SeqCst);
    panic::set_hook(Box::new(|_| ()));
    for (name, model) in models {
        let failed = panic::catch_unwind(AssertUnwindSafe(|| check(model, 2))).is_err();
        if !failed {
            println!("{name}: loom has not found the fault in the weakened version");
            std::process::exit(1);
        }
        println!("{name}, weakened: fails, as it must");
    }
    println!(
        "test result: ok. {} models passed, and failed when weakened",
        models.len()
    );
}
