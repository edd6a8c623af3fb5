//! `hebra::sync` under a thousand simulated schedules; with everybody cancelled at any point; and
//! what its deadlocks look like.

#![cfg(feature = "runtime")]

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hebra::sync::{
    Barrier, Condvar, Event, LazyLock, Mutex, Once, OnceLock, RwLock, Semaphore, TryLockError,
    WaitGroup, oneshot,
};
use hebra::{sim, thread};
use support::{bounded, quietly};

const SEEDS: std::ops::Range<u64> = 0..1_000;

/// Now and then lets others run, or sleeps for a moment.
fn dawdle() {
    match sim::random() % 4 {
        0 => thread::yield_now(),
        1 => thread::sleep(Duration::from_micros(sim::random() % 50)),
        _ => {}
    }
}

/// A time-out that is sometimes long enough.
fn moment() -> Duration {
    Duration::from_micros(sim::random() % 100)
}

/// Runs `threads` threads under each seed, each with its number, and `check` when they have ended.
fn simulate<S: 'static>(
    new: impl Fn() -> S,
    threads: usize,
    body: fn(&S, usize),
    check: impl Fn(&S),
) {
    bounded(|| {
        sim::check(SEEDS, || {
            let shared = Rc::new(new());
            let spawn = |n| {
                let shared = shared.clone();
                thread::spawn_local(move || body(&shared, n))
            };
            let threads: Vec<_> = (0..threads).map(spawn).collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            check(&shared);
        });
    });
}

/// Runs `threads` threads under each seed, cancels each after a while, and sees that `check` holds
/// when they have ended. `body` may run for ever, if it sleeps: time passes only when everybody
/// waits.
fn cancel_anywhere<S: 'static>(
    new: impl Fn() -> S,
    threads: usize,
    body: fn(&S, usize),
    check: impl Fn(&S),
) {
    bounded(|| {
        sim::check(SEEDS, || {
            let shared = Rc::new(new());
            let spawn = |n| {
                let shared = shared.clone();
                thread::spawn_local(move || body(&shared, n))
            };
            let threads: Vec<_> = (0..threads).map(spawn).collect();
            for thread in &threads {
                (0..sim::random() % 30).for_each(|_| dawdle());
                thread.cancel();
            }
            for thread in threads {
                let ended = thread.join();
                assert!(
                    ended.is_ok() || ended.is_err_and(|payload| payload.is::<thread::Cancelled>())
                );
            }
            check(&shared);
        });
    });
}

/// Counts those who are inside at a time.
#[derive(Default)]
struct Inside {
    now: Cell<usize>,
    most: Cell<usize>,
}

impl Inside {
    fn enter(&self, count: usize) -> impl Drop {
        struct Leave<'a>(&'a Inside, usize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.now.set(self.0.now.get() - self.1);
            }
        }
        self.now.set(self.now.get() + count);
        self.most.set(self.most.get().max(self.now.get()));
        Leave(self, count)
    }
}

fn lock_and_count((mutex, inside): &(Mutex<usize>, Inside), me: usize) {
    for round in 0..6 {
        let guard = match (me + round) % 3 {
            0 => mutex.lock_timeout(moment()),
            1 => mutex.try_lock(),
            _ => Ok(mutex.lock().unwrap()),
        };
        match guard {
            Ok(mut guard) => {
                let _inside = inside.enter(1);
                *guard += 1;
                dawdle();
            }
            Err(TryLockError::WouldBlock) => dawdle(),
            Err(TryLockError::Poisoned(_)) => unreachable!("nobody panics"),
        }
    }
}

#[test]
fn a_mutex_lets_one_in_and_is_free_in_the_end() {
    let new = || (Mutex::new(0), Inside::default());
    let check = |(mutex, inside): &(Mutex<usize>, Inside)| {
        assert_eq!((inside.now.get(), inside.most.get()), (0, 1));
        assert!(!mutex.is_poisoned());
        drop(mutex.try_lock().unwrap());
    };
    simulate(new, 5, lock_and_count, check);
    let for_ever = |shared: &(Mutex<usize>, Inside), me: usize| {
        loop {
            lock_and_count(shared, me);
            thread::yield_now();
        }
    };
    let check = |(mutex, inside): &(Mutex<usize>, Inside)| {
        assert_eq!(inside.now.get(), 0);
        assert!(inside.most.get() <= 1 && !mutex.is_poisoned());
        drop(mutex.try_lock().unwrap());
    };
    cancel_anywhere(new, 5, for_ever, check);
}

fn read_and_write((lock, readers, writers): &(RwLock<usize>, Inside, Inside), me: usize) {
    for round in 0..6 {
        if (me + round).is_multiple_of(2) {
            let guard = if round % 3 == 0 {
                lock.read_timeout(moment()).ok()
            } else {
                lock.read().ok()
            };
            if let Some(guard) = guard {
                let _inside = readers.enter(1);
                let before = *guard;
                dawdle();
                assert_eq!((*guard, writers.now.get()), (before, 0));
            }
        } else {
            let guard = if round % 3 == 0 {
                lock.write_timeout(moment()).ok()
            } else {
                lock.write().ok()
            };
            if let Some(mut guard) = guard {
                let _inside = writers.enter(1);
                *guard += 1;
                dawdle();
                assert_eq!((writers.now.get(), readers.now.get()), (1, 0));
            }
        }
    }
}

#[test]
fn a_read_write_lock_lets_readers_or_a_writer_in_and_is_free_in_the_end() {
    let new = || (RwLock::new(0), Inside::default(), Inside::default());
    let check = |(lock, readers, writers): &(RwLock<usize>, Inside, Inside)| {
        assert_eq!((readers.now.get(), writers.now.get()), (0, 0));
        assert!(writers.most.get() <= 1 && !lock.is_poisoned());
        drop(lock.try_write().unwrap());
    };
    simulate(new, 5, read_and_write, check);
    let for_ever = |shared: &(RwLock<usize>, Inside, Inside), me: usize| {
        loop {
            read_and_write(shared, me);
            thread::yield_now();
        }
    };
    cancel_anywhere(new, 5, for_ever, check);
}

#[test]
fn no_notification_of_a_condition_variable_is_lost() {
    struct Shop {
        goods: Mutex<usize>,
        changed: Condvar,
    }
    let new = || Shop {
        goods: Mutex::new(0),
        changed: Condvar::new(),
    };
    let body = |shop: &Shop, me: usize| {
        for round in 0..5 {
            if me.is_multiple_of(2) {
                *shop.goods.lock().unwrap() += 1;
                dawdle();
                shop.changed.notify_one();
                continue;
            }
            let mut goods = shop.goods.lock().unwrap();
            while *goods == 0 {
                goods = match round % 2 {
                    0 => shop.changed.wait(goods).unwrap(),
                    _ => shop.changed.wait_timeout(goods, moment()).unwrap().0,
                };
            }
            *goods -= 1;
        }
    };
    simulate(new, 6, body, |shop| {
        assert_eq!(*shop.goods.lock().unwrap(), 0)
    });
    // The waiting ones are cancelled one after the other; whatever is notified meets somebody who
    // is still there.
    let body = |shop: &Shop, me: usize| {
        if me == 0 {
            // Cancelled first of all, with everything that it has not brought.
            loop {
                *shop.goods.lock().unwrap() += 1;
                shop.changed.notify_one();
                thread::sleep(Duration::from_micros(10));
            }
        }
        loop {
            let mut goods = shop
                .changed
                .wait_while(shop.goods.lock().unwrap(), |goods| *goods == 0)
                .unwrap();
            *goods -= 1;
        }
    };
    cancel_anywhere(new, 5, body, |shop| {
        drop(shop.goods.try_lock().unwrap());
        assert!(!shop.goods.is_poisoned());
    });
}

#[test]
fn who_is_cancelled_or_times_out_takes_no_notification_from_those_who_wait() {
    bounded(|| {
        sim::check(SEEDS, || {
            // So many notifications as threads that are neither cancelled nor timed: all of them
            // get one.
            let state = Arc::new((Mutex::new(0), Condvar::new(), Mutex::new(0)));
            let spawn = |kind: usize| {
                let state = state.clone();
                thread::spawn(move || {
                    let (waiting, changed, notified) = &*state;
                    let mut guard = waiting.lock().unwrap();
                    *guard += 1;
                    let (guard, got) = match kind {
                        0 => changed
                            .wait_timeout(guard, moment())
                            .map(|(guard, result)| (guard, !result.timed_out()))
                            .unwrap(),
                        _ => (changed.wait(guard).unwrap(), true),
                    };
                    drop(guard);
                    *notified.lock().unwrap() += usize::from(got);
                })
            };
            let timed: Vec<_> = (0..2).map(|_| spawn(0)).collect();
            let cancelled: Vec<_> = (0..2).map(|_| spawn(1)).collect();
            let waits: Vec<_> = (0..3).map(|_| spawn(2)).collect();
            while *state.0.lock().unwrap() < 7 {
                thread::yield_now();
            }
            dawdle();
            cancelled.iter().for_each(|thread| thread.cancel());
            // Those who wait for good are woken at last, whoever is notified before them.
            let mut notified = 0;
            while !waits.iter().all(|thread| thread.is_finished()) {
                state.1.notify_one();
                notified += 1;
                dawdle();
                assert!(
                    notified < 10_000,
                    "a notification for {notified} has met nobody"
                );
                thread::yield_now();
            }
            timed
                .into_iter()
                .chain(waits)
                .for_each(|thread| thread.join().unwrap());
            cancelled.into_iter().for_each(|thread| drop(thread.join()));
            assert!(*state.2.lock().unwrap() >= 3);
        });
    });
}

#[test]
fn a_barrier_lets_as_many_pass_as_it_holds() {
    let new = || (Barrier::new(3), Cell::new(0), Cell::new(0));
    let body = |(barrier, passed, leaders): &(Barrier, Cell<usize>, Cell<usize>), me: usize| {
        for round in 0..4 {
            dawdle();
            let result = match (me + round) % 2 {
                0 => barrier.wait_timeout(moment()),
                _ => barrier.wait_timeout(Duration::from_millis(1)),
            };
            if let Some(result) = result {
                passed.set(passed.get() + 1);
                leaders.set(leaders.get() + usize::from(result.is_leader()));
            }
        }
    };
    let check = |(_, passed, leaders): &(Barrier, Cell<usize>, Cell<usize>)| {
        assert_eq!(passed.get(), 3 * leaders.get())
    };
    simulate(new, 5, body, check);
    let body = |(barrier, passed, leaders): &(Barrier, Cell<usize>, Cell<usize>), _: usize| {
        loop {
            thread::sleep(Duration::from_micros(5));
            let result = barrier.wait();
            passed.set(passed.get() + 1);
            leaders.set(leaders.get() + usize::from(result.is_leader()));
        }
    };
    // Who was cancelled when it was counted already has passed without saying so.
    cancel_anywhere(new, 5, body, |(_, passed, leaders)| {
        assert!(passed.get() <= 3 * leaders.get() + 2)
    });
}

#[test]
fn an_initialisation_runs_once_whoever_is_cancelled_in_it() {
    let new = || (OnceLock::new(), Once::new(), Cell::new(0));
    let body = |(cell, once, runs): &(OnceLock<usize>, Once, Cell<usize>), me: usize| {
        dawdle();
        let value = *cell.get_or_init(|| {
            dawdle();
            runs.set(runs.get() + 1);
            me
        });
        once.call_once(dawdle);
        assert!(once.is_completed());
        assert_eq!(cell.get(), Some(&value));
    };
    simulate(new, 5, body, |(cell, _, runs)| {
        assert_eq!(runs.get(), 1);
        assert!(cell.get().is_some());
    });
    cancel_anywhere(new, 5, body, |(cell, once, runs)| {
        assert_eq!(runs.get(), usize::from(cell.get().is_some()));
        once.call_once_force(|state| assert!(!state.is_poisoned()));
        assert!(*cell.get_or_init(|| 9) <= 9);
    });
}

#[test]
fn a_lazy_value_is_made_once_whoever_is_cancelled() {
    type Lazy = LazyLock<usize, Box<dyn FnOnce() -> usize>>;
    let new = || {
        let make: Box<dyn FnOnce() -> usize> = Box::new(|| {
            dawdle();
            3
        });
        Lazy::new(make)
    };
    let body = |lazy: &Lazy, _: usize| {
        dawdle();
        assert_eq!(**lazy, 3);
    };
    simulate(new, 5, body, |lazy| assert_eq!(**lazy, 3));
    cancel_anywhere(new, 5, body, |lazy| assert_eq!(**lazy, 3));
}

#[test]
fn a_semaphore_loses_no_permit() {
    let new = || (Semaphore::new(3), Inside::default());
    let body = |(permits, inside): &(Semaphore, Inside), me: usize| {
        for round in 0..6 {
            let wanted = 1 + (me + round) % 3;
            let permit = match round % 3 {
                0 => permits.acquire_many_timeout(wanted, moment()).ok(),
                1 => permits.try_acquire_many(wanted).ok(),
                _ => permits.acquire_many(wanted).ok(),
            };
            if permit.is_some() {
                let _inside = inside.enter(wanted);
                dawdle();
            }
        }
    };
    let check = |(permits, inside): &(Semaphore, Inside)| {
        assert_eq!((permits.available(), inside.now.get()), (3, 0));
        assert!(inside.most.get() <= 3);
    };
    simulate(new, 5, body, check);
    let for_ever = |(permits, inside): &(Semaphore, Inside), me: usize| {
        loop {
            let _permit = permits.acquire_many(1 + me % 3).unwrap();
            let _inside = inside.enter(1 + me % 3);
            thread::sleep(Duration::from_micros(5));
        }
    };
    cancel_anywhere(new, 5, for_ever, check);
}

#[test]
fn a_semaphore_that_is_closed_anywhere_refuses_who_was_not_served() {
    let new = || (Semaphore::new(2), Inside::default());
    let body = |(permits, inside): &(Semaphore, Inside), me: usize| {
        if me == 0 {
            (0..10).for_each(|_| dawdle());
            return permits.close();
        }
        while let Ok(_permit) = permits.acquire_many(1 + me % 2) {
            let _inside = inside.enter(1 + me % 2);
            thread::sleep(Duration::from_micros(5));
        }
    };
    simulate(new, 5, body, |(permits, inside)| {
        assert_eq!((permits.available(), inside.now.get()), (2, 0));
        assert!(permits.is_closed() && inside.most.get() <= 2);
    });
}

#[test]
fn events_groups_and_one_shots_wake_whom_they_should() {
    struct All {
        event: Event,
        group: Mutex<Option<WaitGroup>>,
        senders: Mutex<Vec<oneshot::Sender<usize>>>,
        receivers: Mutex<Vec<oneshot::Receiver<usize>>>,
    }
    let new = || {
        let (senders, receivers) = (0..2).map(|_| oneshot::channel()).unzip();
        let group = Mutex::new(Some(WaitGroup::new()));
        All {
            event: Event::new(),
            group,
            senders: Mutex::new(senders),
            receivers: Mutex::new(receivers),
        }
    };
    let body = |all: &All, me: usize| {
        dawdle();
        if me < 2 {
            let share = all.group.lock().unwrap().as_ref().cloned();
            let receiver = all.receivers.lock().unwrap().pop().unwrap();
            match receiver.recv_timeout(moment()) {
                Ok(message) => assert!(message >= 2),
                Err(oneshot::RecvTimeoutError::Timeout(receiver)) => {
                    assert!(receiver.recv().unwrap() >= 2)
                }
                Err(oneshot::RecvTimeoutError::Disconnected) => unreachable!("it sends"),
            }
            all.event.wait();
            drop(share);
        } else if me < 4 {
            let sender = all.senders.lock().unwrap().pop().unwrap();
            sender.send(me).unwrap();
            while !all.event.wait_timeout(moment()) {}
        } else {
            all.event.set();
            let group = all.group.lock().unwrap().take();
            group.unwrap().wait();
        }
    };
    simulate(new, 5, body, |all| assert!(all.event.is_set()));
}

/// The report with which a simulation of `f` fails.
fn deadlock(f: impl Fn()) -> String {
    quietly(|| {
        let failed = bounded(|| catch_unwind(AssertUnwindSafe(|| sim::run(1, f))));
        *failed.unwrap_err().downcast::<String>().unwrap()
    })
}

fn spawn_named(name: &str, f: impl FnOnce() + 'static) {
    thread::Builder::new()
        .name(name.into())
        .spawn_local(f)
        .unwrap();
}

#[test]
fn a_deadlock_report_names_the_owners_of_mutexes() {
    let report = deadlock(|| {
        let (left, right) = (Rc::new(Mutex::new(())), Rc::new(Mutex::new(())));
        for (name, first, second) in [("anna", &left, &right), ("bert", &right, &left)] {
            let (first, second) = (first.clone(), second.clone());
            spawn_named(name, move || {
                let _first = first.lock().unwrap();
                thread::sleep(Duration::from_secs(1));
                let _second = second.lock().unwrap();
            });
        }
        thread::park();
    });
    assert!(
        report.contains("locking since 1.000000000s, waits for #2"),
        "{report}"
    );
    assert!(
        report.contains("locking since 1.000000000s, waits for #1"),
        "{report}"
    );
    assert!(report.contains("in a circle: #1 -> #2 -> #1"), "{report}");
}

#[test]
fn a_deadlock_report_names_the_owner_after_a_hand_over_and_the_one_who_waits_for_itself() {
    let report = deadlock(|| {
        let mutex = Rc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let theirs = mutex.clone();
        spawn_named("anna", move || {
            let _first = theirs.lock().unwrap();
            let _again = theirs.lock().unwrap();
        });
        thread::sleep(Duration::from_secs(1));
        drop(guard);
        thread::sleep(Duration::from_secs(1));
        drop(mutex.lock());
    });
    assert!(report.contains("in a circle: #1 -> #1"), "{report}");
    assert_eq!(report.matches("waits for #1").count(), 2, "{report}");
}

#[test]
fn a_deadlock_report_names_writers_and_runners_and_no_reader() {
    let report = deadlock(|| {
        let (lock, once) = (Rc::new(RwLock::new(())), Rc::new(Once::new()));
        let (theirs, runs) = (lock.clone(), once.clone());
        spawn_named("writer", move || {
            let _guard = theirs.write().unwrap();
            thread::park();
        });
        spawn_named("runner", move || runs.call_once(thread::park));
        thread::sleep(Duration::from_secs(1));
        let waits = lock.clone();
        spawn_named("reader", move || drop(waits.read()));
        once.wait();
    });
    assert!(
        report.contains("waiting for an initialisation since 1.000000000s, waits for #2"),
        "{report}"
    );
    assert!(
        report.contains("locking since 1.000000000s, waits for #1"),
        "{report}"
    );
    let report = deadlock(|| {
        let lock = RwLock::new(());
        let _reader = lock.read().unwrap();
        let _writer = lock.write().unwrap();
    });
    assert!(report.ends_with("locking since 0.000000000s"), "{report}");
}

/// Cancels a victim at every point at which it can be cancelled, while others do the same as it.
/// However it has ended, the others end too.
fn audit<S: Send + Sync + 'static>(
    new: impl Fn() -> S,
    others: usize,
    body: fn(&S, usize),
    check: impl Fn(&S),
) {
    bounded(|| {
        let runs = sim::cancel_everywhere(0..20, |audit| {
            let shared = Arc::new(new());
            let spawn = |n| {
                let shared = shared.clone();
                thread::spawn(move || body(&shared, n))
            };
            let others: Vec<_> = (1..=others).map(spawn).collect();
            let theirs = shared.clone();
            let victim = audit.spawn(move || body(&theirs, 0));
            drop(victim.join());
            others.into_iter().for_each(|other| other.join().unwrap());
            check(&shared);
        });
        assert!(runs > 20, "{runs} runs");
    });
}

#[test]
fn wherever_a_thread_is_cancelled_no_lock_is_lost() {
    let new = || (Mutex::new(0), RwLock::new(0));
    let body = |(mutex, lock): &(Mutex<i32>, RwLock<i32>), me: usize| {
        for _ in 0..2 {
            let mut guard = mutex.lock().unwrap();
            *guard += 1;
            thread::sleep(Duration::from_micros(me as u64 + 1));
            drop(guard);
            let reads = lock.read().unwrap();
            thread::sleep(Duration::from_micros(1));
            drop(reads);
            if let Ok(mut guard) = lock.write_timeout(Duration::from_micros(20)) {
                *guard += 1;
                thread::yield_now();
            }
        }
    };
    audit(new, 2, body, |(mutex, lock)| {
        assert!(*mutex.try_lock().unwrap() >= 4);
        drop(lock.try_write().unwrap());
    });
}

#[test]
fn wherever_a_thread_is_cancelled_no_notification_is_lost() {
    // Three take, and so many are brought that all but the victim get theirs, whatever the victim
    // gets.
    let new = || (Mutex::new(0), Condvar::new());
    let body = |(goods, changed): &(Mutex<usize>, Condvar), me: usize| {
        if me == 3 {
            for _ in 0..6 {
                *goods.lock().unwrap() += 1;
                changed.notify_one();
                thread::sleep(Duration::from_micros(3));
            }
            return;
        }
        for _ in 0..2 {
            let mut goods = goods.lock().unwrap();
            while *goods == 0 {
                goods = match me {
                    1 => {
                        changed
                            .wait_timeout(goods, Duration::from_micros(2))
                            .unwrap()
                            .0
                    }
                    _ => changed.wait(goods).unwrap(),
                };
            }
            *goods -= 1;
        }
    };
    audit(new, 3, body, |(goods, _)| {
        assert!(*goods.try_lock().unwrap() <= 2)
    });
}

#[test]
fn wherever_a_thread_is_cancelled_no_permit_is_lost() {
    let new = || Semaphore::new(2);
    let body = |permits: &Semaphore, me: usize| {
        for _ in 0..3 {
            let permit = permits.acquire_many(1 + me % 2).unwrap();
            thread::sleep(Duration::from_micros(2));
            drop(permit);
            drop(permits.acquire_timeout(Duration::from_micros(1)));
        }
    };
    audit(new, 2, body, |permits| assert_eq!(permits.available(), 2));
}

#[test]
fn wherever_a_thread_is_cancelled_an_initialisation_is_made_by_another() {
    type Shared = (Once, OnceLock<usize>, LazyLock<usize>);
    let new = || {
        let slow: fn() -> usize = || {
            thread::sleep(Duration::from_micros(3));
            5
        };
        (Once::new(), OnceLock::new(), LazyLock::new(slow))
    };
    let body = |(once, cell, lazy): &Shared, me: usize| {
        once.call_once(|| thread::sleep(Duration::from_micros(2)));
        cell.get_or_init(|| {
            thread::sleep(Duration::from_micros(2));
            me
        });
        assert_eq!(**lazy, 5);
        cell.wait();
    };
    audit(new, 2, body, |(once, cell, lazy)| {
        assert!(once.is_completed() && cell.get().is_some());
        assert_eq!(**lazy, 5);
    });
}

#[test]
fn wherever_a_thread_is_cancelled_barriers_and_events_let_the_others_go() {
    let new = || (Barrier::new(2), Event::new());
    let body = |(barrier, event): &(Barrier, Event), me: usize| {
        // Three for a barrier of two: one of them at least meets nobody.
        barrier.wait_timeout(Duration::from_micros(5));
        if me == 1 {
            event.set();
        }
        event.wait();
    };
    audit(new, 2, body, |(barrier, event)| {
        assert!(event.is_set());
        assert!(
            barrier.wait_timeout(Duration::ZERO).is_none(),
            "nobody is counted who has gone"
        );
    });
}

#[test]
fn wherever_a_thread_is_cancelled_its_share_of_a_group_is_given_back() {
    bounded(|| {
        sim::cancel_everywhere(0..50, |audit| {
            let group = WaitGroup::new();
            let (theirs, others) = (group.clone(), group.clone());
            let victim = audit.spawn(move || {
                thread::sleep(Duration::from_micros(1));
                let Err(share) = theirs.wait_timeout(Duration::from_micros(1)) else {
                    return;
                };
                share.wait();
            });
            let other = thread::spawn(move || {
                thread::sleep(Duration::from_micros(3));
                others.wait();
            });
            group.wait();
            other.join().unwrap();
            drop(victim.join());
        });
    });
}

#[test]
fn wherever_a_receiver_is_cancelled_its_channel_is_gone_or_it_has_the_message() {
    bounded(|| {
        sim::cancel_everywhere(0..50, |audit| {
            let (sender, receiver) = oneshot::channel();
            let received = Arc::new(Mutex::new(false));
            let theirs = received.clone();
            let victim = audit.spawn(move || {
                let message: Result<Arc<()>, _> = receiver.recv();
                *theirs.lock().unwrap() = message.is_ok();
                thread::yield_now();
            });
            thread::sleep(Duration::from_micros(1));
            let message = Arc::new(());
            let sent = sender.send(message.clone()).is_ok();
            let ended = victim.join();
            // Received or sent back or dropped with the channel: it is nowhere.
            assert_eq!(Arc::strong_count(&message), 1);
            assert!(sent || ended.is_err());
            assert!(*received.lock().unwrap() || ended.is_err());
        });
    });
}
