//! The claim word, the unpark token, the inbox and the sleep protocol under loom, which goes
//! through all interleavings of a few threads and through what the memory model lets each of them
//! see. What is tested are the very sources of the crate.
//!
//! Each model must also be able to fail: it is run once more with what it is about weakened, and
//! then loom has to find the fault.

#![allow(
    dead_code,
    unused_imports,
    reason = "the sources have more in them than the models need"
)]

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicBool as StdBool;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::Notify;
use loom::thread;

#[path = "../../../src/scheduler/claim.rs"]
mod claim;
#[path = "../../../src/scheduler/inbox.rs"]
mod inbox;
#[path = "../../../src/scheduler/standstill.rs"]
mod standstill;

use claim::{Claim, Token, Wake};
use inbox::{Bell, Inbox, Sleepers};
use standstill::Standstill;

/// Orderings and fences do nothing, or a step is taken too late.
static WEAK: StdBool = StdBool::new(false);

fn is_weak() -> bool {
    WEAK.load(SeqCst)
}

/// loom's atomics in place of those of `src/atomic.rs`.
mod atomic {
    pub(crate) use loom::sync::atomic::Ordering;
    use loom::sync::atomic::{self, Ordering::Relaxed};

    fn weakened(order: Ordering) -> Ordering {
        if super::is_weak() { Relaxed } else { order }
    }

    pub(crate) fn fence(order: Ordering) {
        if !super::is_weak() {
            atomic::fence(order);
        }
    }

    macro_rules! atomics {
        ($($name:ident of $value:ty,)*) => {
            $(
                #[derive(Debug)]
                pub(crate) struct $name(atomic::$name);

                impl Default for $name {
                    fn default() -> $name {
                        $name::new(<$value>::default())
                    }
                }

                impl $name {
                    pub(crate) fn new(value: $value) -> $name {
                        $name(atomic::$name::new(value))
                    }

                    pub(crate) fn load(&self, order: Ordering) -> $value {
                        self.0.load(weakened(order))
                    }

                    pub(crate) fn store(&self, value: $value, order: Ordering) {
                        self.0.store(value, weakened(order));
                    }

                    pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                        self.0.swap(value, weakened(order))
                    }

                    pub(crate) fn compare_exchange(
                        &self,
                        current: $value,
                        new: $value,
                        success: Ordering,
                        failure: Ordering,
                    ) -> Result<$value, $value> {
                        self.0.compare_exchange(current, new, weakened(success), weakened(failure))
                    }
                }
            )*
        };
    }

    atomics! {
        AtomicBool of bool,
        AtomicU64 of u64,
        AtomicUsize of usize,
    }

    impl AtomicU64 {
        pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_add(value, weakened(order))
        }
    }

    impl AtomicUsize {
        pub(crate) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
            self.0.fetch_add(value, weakened(order))
        }

        pub(crate) fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
            self.0.fetch_sub(value, weakened(order))
        }
    }
}

/// loom's mutex in place of that of `src/lock.rs`.
mod lock {
    use loom::sync::{Mutex, MutexGuard};

    #[derive(Debug, Default)]
    pub(crate) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Lock<T> {
            Lock(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("nobody panics under a lock")
        }
    }
}

/// Data that a thread writes before it wakes another, and that one reads afterwards: only the claim
/// orders the two.
type Data = loom::sync::atomic::AtomicUsize;

const RELAXED: loom::sync::atomic::Ordering = loom::sync::atomic::Ordering::Relaxed;

/// A waker and a canceller race for a wait: one of them ends it, and the owner sees what that one
/// did before.
fn a_wait_ends_once_and_its_end_publishes() {
    let claim = Arc::new(Claim::new());
    let data = Arc::new([Data::new(0), Data::new(0)]);
    let epoch = claim.begin();
    let enders = [Wake::Woken, Wake::Cancelled].map(|wake| {
        let (claim, data) = (claim.clone(), data.clone());
        thread::spawn(move || {
            data[usize::from(wake == Wake::Cancelled)].store(1, RELAXED);
            claim.end(epoch, wake)
        })
    });
    let outcome = loop {
        if let Some(outcome) = claim.outcome() {
            break outcome;
        }
        thread::yield_now();
    };
    assert_eq!(
        data[usize::from(outcome == Wake::Cancelled)].load(RELAXED),
        1,
        "the owner has missed what the winner did"
    );
    let winners = enders.map(|ender| ender.join().expect("no panic"));
    assert_eq!(winners.iter().filter(|won| **won).count(), 1);
    assert_eq!(winners[1], outcome == Wake::Cancelled);
}

/// An unpark before, during or after the way into park is not lost, and what was done before it is
/// seen.
fn an_unpark_is_not_lost() {
    let thread = Arc::new((Claim::new(), Token::new()));
    let data = Arc::new(Data::new(0));
    let other = {
        let (thread, data) = (thread.clone(), data.clone());
        thread::spawn(move || {
            data.store(1, RELAXED);
            if let Some(epoch) = thread.1.leave() {
                thread.0.end(epoch, Wake::Woken);
            }
        })
    };
    let (claim, token) = &*thread;
    let epoch = claim.begin();
    if token.announce(epoch) {
        while claim.outcome().is_none() {
            thread::yield_now();
        }
        token.take();
    } else {
        claim.end(epoch, Wake::Woken);
    }
    assert_eq!(
        data.load(RELAXED),
        1,
        "unparked, but without what was done before"
    );
    other.join().expect("no panic");
}

/// A bell that stays rung until somebody has waited for it.
struct Rung(Notify);

impl Bell for Rung {
    fn ring(&self) {
        self.0.notify();
    }
}

/// Whatever is pushed from elsewhere reaches a worker that sleeps whenever it may. loom calls a
/// lost wake-up a dead-lock.
fn mail_reaches_a_worker_that_goes_to_sleep() {
    let bell = Arc::new(Rung(Notify::new()));
    let inbox = Arc::new(Inbox::new());
    inbox.open(bell.clone());
    let sender = {
        let inbox = inbox.clone();
        thread::spawn(move || {
            inbox.push(1);
            inbox.push_cancelled(2);
        })
    };
    let mut seen = 0;
    while seen < 2 {
        let mail = inbox.take(&mut Vec::new());
        seen += mail.ready.len() + mail.cancelled.len();
        // Weakened, it sleeps on the strength of a look that came before it has said so.
        let hasty = is_weak() && seen < 2;
        let may_sleep = inbox.begin_sleep();
        if seen < 2 && (may_sleep || hasty) {
            bell.0.wait();
        }
        inbox.end_sleep();
    }
    sender.join().expect("no panic");
}

/// A worker that was rung sees, when it has woken for whatever reason, what it was rung for.
fn who_was_rung_sees_what_for() {
    let inbox = Arc::new(Inbox::new());
    inbox.open(Arc::new(Rung(Notify::new())));
    let reason = Arc::new(Data::new(0));
    let ringer = {
        let (inbox, reason) = (inbox.clone(), reason.clone());
        thread::spawn(move || {
            reason.store(1, RELAXED);
            inbox.rouse()
        })
    };
    assert!(inbox.begin_sleep(), "there is no mail");
    inbox.end_sleep();
    let seen = reason.load(RELAXED) == 1;
    let rung = ringer.join().expect("no panic");
    assert!(
        seen || !rung,
        "it was rung and goes on as if it had not been"
    );
}

/// A thread that is put down for whoever is idle is seen by a worker that goes to sleep, or rouses
/// it.
fn an_idle_worker_sees_what_is_put_down() {
    let sleepers = Arc::new(Sleepers::default());
    let put_down = Arc::new(Data::new(0));
    let spawner = {
        let (sleepers, put_down) = (sleepers.clone(), put_down.clone());
        thread::spawn(move || {
            put_down.store(1, RELAXED);
            sleepers.any()
        })
    };
    sleepers.announce();
    let seen = put_down.load(RELAXED) == 1;
    let roused = spawner.join().expect("no panic");
    assert!(
        seen || roused,
        "the worker sleeps, and the thread lies there"
    );
}

/// Two workers: the first wakes a thread of the second, which wakes one of the first. That
/// everything stands still is found when nobody will ever run again, and then by one of them.
fn a_standstill_is_found_at_the_end_and_not_before() {
    let workers = Arc::new([(); 2].map(|()| (Inbox::new(), Arc::new(Rung(Notify::new())))));
    workers
        .iter()
        .for_each(|(inbox, bell)| inbox.open(bell.clone()));
    let (standstill, ran) = (Arc::new(Standstill::default()), Arc::new(Data::new(0)));
    let worker = |me: usize| {
        let (workers, standstill, ran) = (workers.clone(), standstill.clone(), ran.clone());
        move || {
            let (inbox, bell) = &workers[me];
            let run = || {
                let ready = inbox.take(&mut Vec::new()).ready;
                ran.fetch_add(ready.len(), RELAXED);
                if me == 1 && !ready.is_empty() {
                    workers[0].0.push(2);
                }
            };
            if me == 0 {
                workers[1].0.push(1);
            }
            loop {
                run();
                if !inbox.begin_sleep() {
                    continue;
                }
                let suspicion = standstill
                    .enter(2)
                    .filter(|_| !workers.iter().any(|(inbox, _)| inbox.has_mail()));
                let found = suspicion.is_some_and(|suspicion| standstill.confirm(suspicion));
                if found {
                    assert_eq!(
                        ran.load(RELAXED),
                        2,
                        "somebody has run after everything stood still"
                    );
                    workers[1 - me].0.rouse();
                } else {
                    bell.0.wait();
                }
                if is_weak() {
                    run();
                }
                inbox.end_sleep();
                if standstill.leave() {
                    return found;
                }
            }
        }
    };
    let other = thread::spawn(worker(1));
    let found = worker(0)();
    assert!(
        found != other.join().expect("no panic"),
        "one of them finds it"
    );
}

/// The path from park to resume: a waker on another worker ends the wait and posts the slot, and the
/// home worker, which may sleep by then, takes it and sees what the waker did. A canceller races.
fn a_wake_from_elsewhere_resumes_a_parked_thread() {
    let bell = Arc::new(Rung(Notify::new()));
    let home = Arc::new((Inbox::new(), Claim::new(), Token::new(), Data::new(0)));
    home.0.open(bell.clone());
    let epoch = home.1.begin();
    let parks = home.2.announce(epoch);
    assert!(parks, "there is no token yet");
    let waker = {
        let home = home.clone();
        thread::spawn(move || {
            home.3.store(1, RELAXED);
            if let Some(epoch) = home.2.leave()
                && home.1.end(epoch, Wake::Woken)
            {
                home.0.push(1);
            }
        })
    };
    let canceller = {
        let home = home.clone();
        thread::spawn(move || {
            if home.1.end(epoch, Wake::Cancelled) {
                home.0.push(1);
            }
        })
    };
    let mut ready = 0;
    while ready == 0 {
        ready += home.0.take(&mut Vec::new()).ready.len();
        let may_sleep = home.0.begin_sleep();
        // Weakened, it sleeps though it was told that there is mail.
        if ready == 0 && (may_sleep || is_weak()) {
            bell.0.wait();
        }
        home.0.end_sleep();
    }
    let outcome = home.1.outcome().expect("posted after its wait had ended");
    if outcome == Wake::Woken {
        assert_eq!(
            home.3.load(RELAXED),
            1,
            "woken without what was done before"
        );
    }
    waker.join().expect("no panic");
    canceller.join().expect("no panic");
    assert_eq!(home.0.take(&mut Vec::new()).ready.len(), 0, "posted twice");
}

/// The path from spawn to start: two spawners put threads down, and a worker that goes to sleep
/// meanwhile starts both. The order of the steps is that of `Worker::sleep` and of
/// `Shared::rouse_one`.
fn a_spawned_thread_is_started_by_a_sleeping_worker() {
    let bell = Arc::new(Rung(Notify::new()));
    let inbox = Arc::new(Inbox::new());
    inbox.open(bell.clone());
    let sleepers = Arc::new(Sleepers::default());
    let searching = Arc::new(atomic::AtomicBool::new(false));
    let unstarted = Arc::new((lock::Lock::new(0), Data::new(0)));
    let spawners = [(); 2].map(|()| {
        let (inbox, sleepers) = (inbox.clone(), sleepers.clone());
        let (searching, unstarted) = (searching.clone(), unstarted.clone());
        thread::spawn(move || {
            let mut count = unstarted.0.lock();
            *count += 1;
            unstarted.1.store(*count, RELAXED);
            drop(count);
            if sleepers.any() && !searching.swap(true, atomic::Ordering::AcqRel) && !inbox.rouse() {
                searching.store(false, atomic::Ordering::Release);
            }
        })
    });
    let mut started = 0;
    while started < 2 {
        if unstarted.1.load(RELAXED) > 0 {
            let mut count = unstarted.0.lock();
            started += std::mem::take(&mut *count);
            unstarted.1.store(0, RELAXED);
            continue;
        }
        if !inbox.begin_sleep() {
            continue;
        }
        searching.swap(false, atomic::Ordering::AcqRel);
        sleepers.announce();
        // Weakened, the fences of both sides do nothing.
        if unstarted.1.load(RELAXED) == 0 {
            bell.0.wait();
        }
        sleepers.wake_up();
        inbox.end_sleep();
    }
    for spawner in spawners {
        spawner.join().expect("no panic");
    }
}

/// With at most three preemptions: no fault that needs more has been heard of, and without a bound
/// it takes hours.
fn check(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn main() {
    if cfg!(hebra_sanitizer) {
        println!("not run: the sanitizer does not know loom's coroutines");
        return;
    }
    let models: [(&str, fn()); 8] = [
        (
            "a wait ends once and its end publishes",
            a_wait_ends_once_and_its_end_publishes,
        ),
        ("an unpark is not lost", an_unpark_is_not_lost),
        (
            "mail reaches a worker that goes to sleep",
            mail_reaches_a_worker_that_goes_to_sleep,
        ),
        ("who was rung sees what for", who_was_rung_sees_what_for),
        (
            "an idle worker sees what is put down",
            an_idle_worker_sees_what_is_put_down,
        ),
        (
            "a standstill is found at the end and not before",
            a_standstill_is_found_at_the_end_and_not_before,
        ),
        (
            "a wake from elsewhere resumes a parked thread",
            a_wake_from_elsewhere_resumes_a_parked_thread,
        ),
        (
            "a spawned thread is started by a sleeping worker",
            a_spawned_thread_is_started_by_a_sleeping_worker,
        ),
    ];
    for (name, model) in models {
        check(model);
        println!("{name}: ok");
    }
    WEAK.store(true, SeqCst);
    panic::set_hook(Box::new(|_| ()));
    for (name, model) in models {
        let failed = panic::catch_unwind(AssertUnwindSafe(|| check(model))).is_err();
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
