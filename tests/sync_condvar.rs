//! `hebra::sync::Condvar`: std's contract, order, time-outs and cancellation.

#![cfg(feature = "runtime")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hebra::sync::{Condvar, Mutex};
use hebra::thread;
use support::{Place, bounded, on_workers, quietly, run_the_others};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn a_ball_is_passed_to_and_fro() {
    for place in Place::ALL {
        let (turn, changed) = (Mutex::new(0), Condvar::new());
        let rounds = if place == Place::OneWorker {
            20_000
        } else {
            2_000
        };
        place.run(2, |me| {
            for round in 0..rounds {
                let mut turn = turn.lock().unwrap();
                while *turn != 2 * round + me {
                    turn = changed.wait(turn).unwrap();
                }
                *turn += 1;
                changed.notify_one();
            }
        });
        assert_eq!(*turn.lock().unwrap(), 2 * rounds, "{place:?}");
    }
}

#[test]
fn nothing_is_lost_between_producers_and_consumers() {
    for place in Place::ALL {
        let (queue, changed) = (Mutex::new((Vec::new(), 0)), Condvar::new());
        place.run(6, |me| {
            for item in 0..300 {
                if me % 2 == 0 {
                    queue.lock().unwrap().0.push(item);
                    changed.notify_one();
                } else {
                    let mut queue = changed
                        .wait_while(queue.lock().unwrap(), |queue| queue.0.is_empty())
                        .unwrap();
                    queue.0.pop().unwrap();
                    queue.1 += 1;
                }
            }
        });
        let (left, consumed) = queue.into_inner().unwrap();
        assert_eq!((left.len(), consumed), (0, 900), "{place:?}");
    }
}

/// Threads that wait in this order and note their number when they have been notified.
fn waiters(count: usize, state: &Arc<(Mutex<Vec<usize>>, Condvar)>) -> Vec<thread::JoinHandle<()>> {
    let spawn = |n| {
        let state = state.clone();
        thread::spawn(move || state.1.wait(state.0.lock().unwrap()).unwrap().push(n))
    };
    let threads = (0..count).map(spawn).collect();
    run_the_others();
    threads
}

#[test]
fn they_are_notified_one_by_one_in_the_order_of_waiting() {
    on_workers(1, || {
        let state = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let threads = waiters(5, &state);
        for n in 0..5 {
            state.1.notify_one();
            run_the_others();
            assert_eq!(state.0.lock().unwrap().last(), Some(&n));
            assert_eq!(state.0.lock().unwrap().len(), n + 1);
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn notify_all_wakes_everybody_who_waits_and_nobody_who_comes_later() {
    for place in Place::ALL {
        let (state, changed) = (Mutex::new((0, 0)), Condvar::new());
        place.run(6, |me| {
            let mut guard = state.lock().unwrap();
            if me == 0 {
                while guard.0 < 5 {
                    drop(guard);
                    thread::yield_now();
                    guard = state.lock().unwrap();
                }
                guard.1 = 1;
                changed.notify_all();
            } else {
                guard.0 += 1;
                let guard = changed.wait_while(guard, |state| state.1 == 0).unwrap();
                let late = changed
                    .wait_timeout(guard, Duration::from_millis(1))
                    .unwrap();
                assert!(late.1.timed_out());
            }
        });
    }
}

#[test]
fn a_notification_that_nobody_waits_for_is_forgotten() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    condvar.notify_one();
    condvar.notify_all();
    assert!(
        condvar
            .wait_timeout(mutex.lock().unwrap(), SHORT)
            .unwrap()
            .1
            .timed_out()
    );
}

#[test]
fn the_mutex_is_free_while_waiting_and_held_afterwards() {
    on_workers(1, || {
        let state = Arc::new((Mutex::new(0), Condvar::new()));
        let theirs = state.clone();
        let waiter = thread::spawn(move || {
            let guard = theirs.1.wait(theirs.0.lock().unwrap()).unwrap();
            assert_eq!(*guard, 1);
            thread::yield_now();
            assert_eq!(*guard, 1);
        });
        run_the_others();
        let mut guard = state.0.try_lock().unwrap();
        state.1.notify_one();
        run_the_others();
        *guard = 1;
        drop(guard);
        thread::yield_now();
        assert!(state.0.try_lock().is_err());
        waiter.join().unwrap();
    });
}

#[test]
fn a_time_out_ends_the_wait_and_not_before_its_time() {
    for place in Place::ALL {
        let (mutex, condvar) = (Mutex::new(0), Condvar::new());
        place.run(2, |_| {
            let start = Instant::now();
            let (guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), SHORT).unwrap();
            assert!(result.timed_out() && start.elapsed() >= SHORT);
            let (guard, result) = condvar.wait_deadline(guard, start).unwrap();
            assert!(result.timed_out());
            let mut asked = 0;
            let (guard, result) = condvar
                .wait_timeout_while(guard, SHORT, |_| {
                    asked += 1;
                    true
                })
                .unwrap();
            assert!(
                result.timed_out() && asked >= 2,
                "it is asked before and after"
            );
            let (guard, result) = condvar.wait_deadline_while(guard, start, |_| true).unwrap();
            assert!(result.timed_out());
            let (guard, result) = condvar
                .wait_timeout_while(guard, Duration::ZERO, |_| false)
                .unwrap();
            assert!(!result.timed_out());
            #[allow(deprecated)]
            let (_guard, notified) = condvar.wait_timeout_ms(guard, 1).unwrap();
            assert!(!notified);
        });
    }
}

#[test]
fn a_notification_in_time_is_no_time_out() {
    for place in Place::ALL {
        let (ready, changed) = (Mutex::new(false), Condvar::new());
        place.run(2, |me| {
            if me == 0 {
                *ready.lock().unwrap() = true;
                changed.notify_one();
            } else {
                let (guard, result) = changed
                    .wait_timeout_while(ready.lock().unwrap(), LONG, |ready| !*ready)
                    .unwrap();
                assert!(*guard && !result.timed_out());
                drop(guard);
                let deadline = Instant::now() + LONG;
                let (_, result) = changed
                    .wait_deadline_while(ready.lock().unwrap(), deadline, |ready| !*ready)
                    .unwrap();
                assert!(!result.timed_out());
            }
        });
    }
}

#[test]
fn who_times_out_or_is_cancelled_takes_no_notification_with_it() {
    on_workers(1, || {
        let state = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let timed = state.clone();
        let timed = thread::spawn(move || {
            timed
                .1
                .wait_timeout(timed.0.lock().unwrap(), SHORT)
                .unwrap()
                .1
                .timed_out()
        });
        let mut threads = waiters(2, &state);
        assert!(timed.join().unwrap());
        threads[0].cancel();
        state.1.notify_one();
        assert!(
            threads
                .remove(0)
                .join()
                .unwrap_err()
                .is::<thread::Cancelled>()
        );
        threads.remove(0).join().unwrap();
        assert_eq!(*state.0.lock().unwrap(), [1]);
    });
}

#[test]
fn who_was_notified_before_it_was_cancelled_returns_with_the_lock() {
    on_workers(1, || {
        let state = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let thread = waiters(1, &state).remove(0);
        let guard = state.0.lock().unwrap();
        state.1.notify_one();
        thread.cancel();
        run_the_others();
        drop(guard);
        thread.join().unwrap();
        assert_eq!(*state.0.lock().unwrap(), [0]);
    });
}

#[test]
fn notifications_race_with_time_outs_and_none_is_lost() {
    for place in Place::ALL {
        // Each token is one notification; who takes none in time waits again.
        let (tokens, changed, taken) = (Mutex::new(0_usize), Condvar::new(), AtomicUsize::new(0));
        place.run(6, |me| {
            for round in 0..200 {
                if me % 2 == 0 {
                    *tokens.lock().unwrap() += 1;
                    changed.notify_one();
                    if round % 16 == 0 {
                        thread::yield_now();
                    }
                    continue;
                }
                let mut guard = tokens.lock().unwrap();
                while *guard == 0 {
                    let timeout = Duration::from_micros(round % 60);
                    guard = changed.wait_timeout(guard, timeout).unwrap().0;
                }
                *guard -= 1;
                taken.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(
            (tokens.into_inner().unwrap(), taken.into_inner()),
            (0, 600),
            "{place:?}"
        );
    }
}

#[test]
fn a_cancelled_wait_unlocks_the_mutex_and_does_not_poison_it() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let state = Arc::new((Mutex::new(0), Condvar::new()));
            for round in 0..50 {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        let state = state.clone();
                        thread::spawn(move || {
                            let mut guard = state.0.lock().unwrap();
                            loop {
                                guard = state.1.wait(guard).unwrap();
                                *guard += 1;
                            }
                        })
                    })
                    .collect();
                for _ in 0..round % 5 {
                    thread::yield_now();
                    state.1.notify_one();
                }
                threads.iter().for_each(|thread| thread.cancel());
                state.1.notify_all();
                for thread in threads {
                    assert!(thread.join().unwrap_err().is::<thread::Cancelled>());
                }
                drop(state.0.try_lock().unwrap());
            }
        });
    }
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_it_waits_but_not_with_a_time_out() {
    struct Waits(Arc<(Mutex<bool>, Condvar)>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let guard = self.0.0.lock().unwrap();
            let (guard, result) = self.0.1.wait_timeout(guard, LONG).unwrap();
            assert!(result.timed_out());
            let mut guard = self.0.1.wait_while(guard, |ready| !*ready).unwrap();
            *guard = false;
        }
    }
    on_workers(1, || {
        let state = Arc::new((Mutex::new(false), Condvar::new()));
        let waits = Waits(state.clone());
        let thread = thread::spawn(move || {
            let _waits = waits;
            thread::sleep(LONG);
        });
        run_the_others();
        thread.cancel();
        thread::sleep(Duration::from_millis(25));
        assert!(!thread.is_finished());
        *state.0.lock().unwrap() = true;
        state.1.notify_one();
        assert!(thread.join().unwrap_err().is::<thread::Cancelled>());
        assert!(!*state.0.lock().unwrap());
    });
}

#[test]
fn a_panic_of_another_holder_is_told_to_whoever_has_waited() {
    quietly(|| {
        on_workers(1, || {
            let state = Arc::new((Mutex::new(()), Condvar::new()));
            let spawn = |timed: bool| {
                let state = state.clone();
                thread::spawn(move || {
                    let guard = state.0.lock().unwrap();
                    match timed {
                        true => state.1.wait_timeout(guard, LONG).is_err(),
                        false => state.1.wait(guard).is_err(),
                    }
                })
            };
            let threads = [spawn(true), spawn(false)];
            run_the_others();
            let panics = AssertUnwindSafe(|| {
                let _guard = state.0.lock().unwrap();
                state.1.notify_all();
                panic!("while it is held");
            });
            assert!(catch_unwind(panics).is_err());
            threads
                .into_iter()
                .for_each(|thread| assert!(thread.join().unwrap()));
        });
    });
}

#[test]
fn a_panic_of_the_condition_poisons() {
    quietly(|| {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let panics = AssertUnwindSafe(|| {
            drop(condvar.wait_while(mutex.lock().unwrap(), |()| panic!("asked")))
        });
        assert!(catch_unwind(panics).is_err());
        assert!(mutex.is_poisoned());
    });
}

#[test]
fn one_condition_variable_serves_two_mutexes() {
    on_workers(1, || {
        let state = Arc::new((Mutex::new(()), Mutex::new(()), Condvar::new()));
        let (first, second) = (state.clone(), state.clone());
        let threads = [
            thread::spawn(move || drop(first.2.wait(first.0.lock().unwrap()).unwrap())),
            thread::spawn(move || drop(second.2.wait(second.1.lock().unwrap()).unwrap())),
        ];
        run_the_others();
        state.2.notify_all();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn it_is_static_and_prints_as_std_does() {
    static STATIC: Condvar = Condvar::new();
    STATIC.notify_all();
    assert_eq!(
        format!("{:?}", Condvar::default()),
        format!("{:?}", std::sync::Condvar::new())
    );
    fn all<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    all::<Condvar>();
}

/// Carries a guard that one thread has locked to a wait of another, and has the first lock the
/// mutex while the other has been called and has not come.
fn carried_guard_excludes_others(carry: impl FnOnce(&'static Carried) -> Box<dyn FnOnce()>) {
    let carried: &'static Carried = Box::leak(Box::default());
    bounded(|| {
        std::thread::scope(|s| {
            s.spawn(|| {
                spin_until(&carried.waits);
                let guard = carried.mutex.lock().unwrap();
                carried.condvar.notify_one();
                carried.notified.store(true, Ordering::SeqCst);
                spin_until(&carried.go);
                drop(guard);
                carried.gone.store(true, Ordering::SeqCst);
            });
            on_workers(1, || {
                let second = thread::spawn_local(carry(carried));
                run_the_others();
                carried.waits.store(true, Ordering::SeqCst);
                spin_until(&carried.notified);
                run_the_others();
                carried.go.store(true, Ordering::SeqCst);
                spin_until(&carried.gone);
                let guard = carried.mutex.lock().unwrap();
                assert_eq!(carried.holders.fetch_add(1, Ordering::SeqCst), 0);
                run_the_others();
                assert_eq!(*guard, [1, 2, 3], "nobody else holds the lock");
                carried.holders.fetch_sub(1, Ordering::SeqCst);
                drop(guard);
                second.join().unwrap();
                assert!(carried.mutex.lock().unwrap().is_empty());
            });
        });
    });
}

#[derive(Default)]
struct Carried {
    mutex: Mutex<Vec<u32>>,
    condvar: Condvar,
    waits: AtomicBool,
    notified: AtomicBool,
    go: AtomicBool,
    gone: AtomicBool,
    holders: AtomicUsize,
}

impl Carried {
    fn lock(&'static self) -> hebra::sync::MutexGuard<'static, Vec<u32>> {
        let mut guard = self.mutex.lock().unwrap();
        guard.extend([1, 2, 3]);
        guard
    }

    fn wait(&self, guard: hebra::sync::MutexGuard<'_, Vec<u32>>) {
        let mut guard = self.condvar.wait(guard).unwrap();
        assert_eq!(self.holders.fetch_add(1, Ordering::SeqCst), 0);
        guard.clear();
        guard.shrink_to_fit();
        self.holders.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Without letting other threads of the worker run.
fn spin_until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}

#[test]
fn guard_moved_to_another_thread_is_locked_again_by_that_one() {
    carried_guard_excludes_others(|carried| {
        let guard = carried.lock();
        Box::new(move || carried.wait(guard))
    });
}

#[test]
fn guard_in_a_generator_is_locked_again_by_the_resumer() {
    carried_guard_excludes_others(|carried| {
        let mut generator = hebra::Generator::new(move |yielder, ()| {
            let guard = carried.lock();
            yielder.yield_(());
            carried.wait(guard);
        });
        generator.resume(());
        Box::new(move || {
            generator.resume(());
        })
    });
}
