//! `hebra::sync::Mutex`: std's contract, fairness, time-outs and cancellation.

#![cfg(feature = "runtime")]

mod support;

use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hebra::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use hebra::{Config, Runtime, thread};
use support::{Place, bounded, on_workers, quietly, run_the_others, wait_until};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn one_thread_at_a_time_is_inside() {
    for place in Place::ALL {
        let (mutex, inside) = (Mutex::new(0), AtomicUsize::new(0));
        place.run(8, |me| {
            for round in 0..500 {
                let mut guard = mutex.lock().unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "{place:?}");
                *guard += 1;
                if (round + me) % 7 == 0 {
                    thread::yield_now();
                }
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        });
        assert_eq!(mutex.into_inner().unwrap(), 4000, "{place:?}");
    }
}

#[test]
fn a_lock_passed_a_million_times_between_a_green_thread_and_an_os_thread_loses_nothing() {
    let mutex = Mutex::new(0_u64);
    Place::Mixed.run(2, |_| {
        for _ in 0..500_000 {
            *mutex.lock().unwrap() += 1;
        }
    });
    assert_eq!(*mutex.lock().unwrap(), 1_000_000);
}

#[test]
fn try_lock_fails_only_while_it_is_held() {
    let mutex = Mutex::new(1);
    let guard = mutex.try_lock().unwrap();
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    drop(guard);
    assert_eq!(*mutex.try_lock().unwrap(), 1);
}

#[test]
fn the_lock_is_handed_over_in_the_order_of_coming() {
    on_workers(1, || {
        let order = Arc::new(Mutex::new(Vec::new()));
        let guard = order.lock().unwrap();
        let threads: Vec<_> = (0..20)
            .map(|n| {
                let order = order.clone();
                thread::spawn(move || order.lock().unwrap().push(n))
            })
            .collect();
        run_the_others();
        drop(guard);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn who_unlocks_and_locks_again_goes_to_the_end_of_the_line() {
    on_workers(1, || {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut guard = order.lock().unwrap();
        let threads: Vec<_> = (1..4)
            .map(|n| {
                let order = order.clone();
                thread::spawn(move || order.lock().unwrap().push(n))
            })
            .collect();
        run_the_others();
        guard.push(0);
        drop(guard);
        assert!(order.try_lock().is_err(), "it is handed over already");
        order.lock().unwrap().push(4);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn in_a_crowd_everybody_gets_a_turn() {
    // Nobody of these ever waits for anything but the lock.
    for workers in [1, 2] {
        on_workers(workers, || {
            let mutex = Mutex::new(());
            let rounds: [AtomicUsize; 6] = Default::default();
            thread::scope(|s| {
                let guard = mutex.lock().unwrap();
                for own in &rounds {
                    let (rounds, mutex) = (&rounds, &mutex);
                    s.spawn(move || {
                        while rounds
                            .iter()
                            .any(|rounds| rounds.load(Ordering::Relaxed) < 1_000)
                        {
                            let _guard = mutex.lock().unwrap();
                            own.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                thread::sleep(Duration::from_millis(1));
                drop(guard);
            });
        });
    }
}

#[test]
fn who_has_given_up_is_passed_over() {
    on_workers(1, || {
        let order = Arc::new(Mutex::new(Vec::new()));
        let guard = order.lock().unwrap();
        let (given_up, waits) = (order.clone(), order.clone());
        let given_up = thread::spawn(move || {
            given_up
                .lock_timeout(SHORT)
                .map(|mut order| order.push(1))
                .is_err()
        });
        let waits = thread::spawn(move || waits.lock().unwrap().push(2));
        assert!(given_up.join().unwrap());
        drop(guard);
        waits.join().unwrap();
        assert_eq!(*order.lock().unwrap(), [2]);
    });
}

#[test]
fn a_time_out_ends_the_wait_and_not_before_its_time() {
    for place in Place::ALL {
        let mutex = Mutex::new(());
        let held = AtomicBool::new(false);
        let tried = AtomicBool::new(false);
        place.run(2, |me| {
            if me == 0 {
                let _guard = mutex.lock().unwrap();
                held.store(true, Ordering::SeqCst);
                wait_until(|| tried.load(Ordering::SeqCst));
            } else {
                wait_until(|| held.load(Ordering::SeqCst));
                let start = Instant::now();
                assert!(matches!(
                    mutex.lock_timeout(SHORT),
                    Err(TryLockError::WouldBlock)
                ));
                assert!(matches!(
                    mutex.lock_deadline(start),
                    Err(TryLockError::WouldBlock)
                ));
                assert!(start.elapsed() >= SHORT);
                tried.store(true, Ordering::SeqCst);
                drop(mutex.lock_timeout(LONG).unwrap());
                drop(mutex.lock_timeout(Duration::MAX).unwrap());
                drop(mutex.lock_deadline(Instant::now() + LONG).unwrap());
            }
        });
    }
}

#[test]
fn time_outs_and_hand_overs_race_without_losing_the_lock() {
    for place in Place::ALL {
        let (mutex, taken) = (Mutex::new(0), AtomicUsize::new(0));
        place.run(6, |me| {
            for round in 0..300 {
                let guard = match (round + me) % 3 {
                    0 => Ok(mutex.lock().unwrap()),
                    1 => mutex.lock_timeout(Duration::from_micros(round as u64)),
                    _ => mutex.lock_timeout(Duration::ZERO),
                };
                if let Ok(mut guard) = guard {
                    taken.fetch_add(1, Ordering::Relaxed);
                    *guard += 1;
                    if round % 5 == 0 {
                        thread::yield_now();
                    }
                }
            }
        });
        assert_eq!(*mutex.try_lock().unwrap(), taken.into_inner(), "{place:?}");
    }
}

#[test]
fn cancellations_and_hand_overs_race_without_losing_the_lock() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let mutex = Arc::new(Mutex::new(0));
            let taken = Arc::new(AtomicUsize::new(0));
            for round in 0..40 {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        let (mutex, taken) = (mutex.clone(), taken.clone());
                        thread::spawn(move || {
                            loop {
                                let mut guard = mutex.lock().unwrap();
                                taken.fetch_add(1, Ordering::Relaxed);
                                *guard += 1;
                                thread::yield_now();
                            }
                        })
                    })
                    .collect();
                for _ in 0..round {
                    thread::yield_now();
                }
                threads.iter().rev().for_each(|thread| thread.cancel());
                for thread in threads {
                    assert!(thread.join().unwrap_err().is::<thread::Cancelled>());
                }
                assert_eq!(*mutex.try_lock().unwrap(), taken.load(Ordering::Relaxed));
            }
        });
    }
}

#[test]
fn a_cancelled_waiter_does_not_get_the_lock_and_the_next_one_does() {
    on_workers(1, || {
        let order = Arc::new(Mutex::new(Vec::new()));
        let guard = order.lock().unwrap();
        let spawn = |n| {
            let order = order.clone();
            thread::spawn(move || order.lock().unwrap().push(n))
        };
        let (first, second) = (spawn(1), spawn(2));
        run_the_others();
        first.cancel();
        drop(guard);
        assert!(first.join().unwrap_err().is::<thread::Cancelled>());
        second.join().unwrap();
        assert_eq!(*order.lock().unwrap(), [2]);
    });
}

#[test]
fn who_is_cancelled_on_its_way_to_a_lock_that_another_os_thread_has_left_sees_to_the_next() {
    let mutex = Arc::new(Mutex::new(0));
    let (held, go, gone) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    std::thread::scope(|s| {
        s.spawn(|| {
            let guard = mutex.lock().unwrap();
            held.store(true, Ordering::SeqCst);
            wait_until(|| go.load(Ordering::SeqCst));
            drop(guard);
            gone.store(true, Ordering::SeqCst);
        });
        on_workers(1, || {
            wait_until(|| held.load(Ordering::SeqCst));
            let spawn = |n| {
                let mutex = mutex.clone();
                thread::spawn(move || *mutex.lock().unwrap() += n)
            };
            let (first, second) = (spawn(1), spawn(2));
            run_the_others();
            go.store(true, Ordering::SeqCst);
            // The first is called meanwhile; it cannot run, as this one does not let it.
            while !gone.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            first.cancel();
            assert!(first.join().unwrap_err().is::<thread::Cancelled>());
            second.join().unwrap();
        });
    });
    assert_eq!(*mutex.lock().unwrap(), 2);
}

#[test]
fn a_lock_that_was_handed_over_before_the_cancellation_is_held() {
    on_workers(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let theirs = mutex.clone();
        let waiter = thread::spawn(move || {
            *theirs.lock().unwrap() = 1;
            thread::yield_now();
            unreachable!("this is a cancel point");
        });
        run_the_others();
        drop(guard);
        waiter.cancel();
        assert!(waiter.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn who_is_cancelled_while_holding_unlocks_and_does_not_poison() {
    on_workers(1, || {
        let mutex = Arc::new(Mutex::new(()));
        let theirs = mutex.clone();
        let holder = thread::spawn(move || {
            let _guard = theirs.lock().unwrap();
            thread::sleep(LONG);
        });
        wait_until(|| mutex.try_lock().is_err());
        holder.cancel();
        drop(mutex.lock().unwrap());
        assert!(!mutex.is_poisoned());
        assert!(holder.join().is_err());
    });
}

/// Runs `f` when it is dropped.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_destructor_of_a_cancelled_thread_waits_for_a_lock_but_not_with_a_time_out() {
    on_workers(1, || {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let guard = mutex.lock().unwrap();
        let theirs = mutex.clone();
        let cancelled = thread::spawn(move || {
            let _end = AtEnd(|| {
                assert!(matches!(
                    theirs.lock_timeout(LONG),
                    Err(TryLockError::WouldBlock)
                ));
                theirs.lock().unwrap().push("cancelled");
            });
            thread::sleep(LONG);
        });
        run_the_others();
        cancelled.cancel();
        thread::sleep(Duration::from_millis(30));
        assert!(!cancelled.is_finished());
        drop(guard);
        assert!(cancelled.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(*mutex.lock().unwrap(), ["cancelled"]);
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn a_guard_can_be_kept_across_a_park() {
    on_workers(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let theirs = mutex.clone();
        let holder = thread::spawn(move || {
            let mut guard = theirs.lock().unwrap();
            thread::sleep(SHORT);
            *guard = 1;
        });
        wait_until(|| mutex.try_lock().is_err());
        assert_eq!(*mutex.lock().unwrap(), 1);
        holder.join().unwrap();
    });
}

#[test]
fn a_panic_of_the_holder_poisons_until_that_is_cleared() {
    quietly(|| {
        for place in [Place::OneWorker, Place::OsThreads] {
            let mut mutex = Mutex::new(1);
            place.run(1, |_| {
                let panicked = catch_unwind(|| {
                    let mut guard = mutex.lock().unwrap();
                    *guard = 2;
                    panic!("while it is held");
                });
                assert!(panicked.is_err());
                assert!(mutex.is_poisoned());
                assert_eq!(*mutex.lock().unwrap_err().into_inner(), 2);
                match mutex.try_lock() {
                    Err(TryLockError::Poisoned(poisoned)) => assert_eq!(**poisoned.get_ref(), 2),
                    _ => panic!("it is poisoned, not held"),
                };
                assert!(matches!(
                    mutex.lock_timeout(SHORT),
                    Err(TryLockError::Poisoned(_))
                ));
            });
            assert_eq!(*mutex.get_mut().unwrap_err().into_inner(), 2);
            mutex.clear_poison();
            assert!(!mutex.is_poisoned());
            assert_eq!(*mutex.lock().unwrap(), 2);
            let _ = catch_unwind(|| {
                let _guard = mutex.lock().unwrap();
                panic!("again");
            });
            assert_eq!(mutex.into_inner().map_err(PoisonError::into_inner), Err(2));
        }
    });
}

#[test]
fn a_guard_that_is_taken_and_dropped_while_unwinding_does_not_poison() {
    quietly(|| {
        let mutex = Mutex::new(0);
        let panicked = catch_unwind(|| {
            let _end = AtEnd(|| *mutex.lock().unwrap() += 1);
            panic!("before it is locked");
        });
        assert!(panicked.is_err());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn a_panic_that_is_caught_while_it_is_held_does_not_poison() {
    quietly(|| {
        let mutex = Mutex::new(0);
        let guard = mutex.lock().unwrap();
        assert!(catch_unwind(|| panic!("inside")).is_err());
        drop(guard);
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn a_swallowed_cancellation_does_not_hide_the_panic_that_follows() {
    quietly(|| {
        on_workers(1, || {
            let mutex = Arc::new(Mutex::new(()));
            let theirs = mutex.clone();
            let swallows = thread::spawn(move || {
                let _guard = theirs.lock().unwrap();
                assert!(catch_unwind(|| thread::sleep(LONG)).is_err());
                panic!("for good");
            });
            wait_until(|| mutex.try_lock().is_err());
            swallows.cancel();
            assert!(swallows.join().is_err());
            assert!(mutex.is_poisoned());
        });
    });
}

#[test]
fn a_time_out_that_cancels_does_not_poison() {
    for place in [Place::OneWorker, Place::OsThreads] {
        let mutex = Mutex::new(());
        place.run(1, |_| {
            let late = thread::timeout(SHORT, || {
                let _guard = mutex.lock().unwrap();
                thread::sleep(LONG);
            });
            assert!(late.is_err());
            assert!(!mutex.is_poisoned());
            drop(mutex.lock().unwrap());
        });
    }
}

#[test]
fn it_prints_as_std_does() {
    quietly(|| {
        let ours = Mutex::new(5);
        let stds = std::sync::Mutex::new(5);
        assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
        let guards = (ours.lock().unwrap(), stds.lock().unwrap());
        assert_eq!(
            format!("{ours:?}"),
            "Mutex { data: <locked>, poisoned: false, .. }"
        );
        assert_eq!(
            format!("{:?} {}", guards.0, guards.0),
            format!("{:?} {}", guards.1, guards.1)
        );
        drop(guards);
        let poisons = catch_unwind(|| {
            let _guards = (ours.lock(), stds.lock());
            panic!("while they are held");
        });
        assert!(poisons.is_err());
        assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
    });
}

#[test]
fn it_is_made_of_a_value_or_of_nothing_and_holds_what_has_no_size() {
    static STATIC: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    STATIC.lock().unwrap().push(1);
    assert_eq!(*Mutex::<u8>::default().lock().unwrap(), 0);
    assert_eq!(*Mutex::from("a").lock().unwrap(), "a");
    let unsized_: &Mutex<[u8]> = &Mutex::new([1, 2, 3]);
    unsized_.lock().unwrap()[0] = 9;
    assert_eq!(unsized_.lock().unwrap().len(), 3);
    let mut own = Mutex::new(1);
    *own.get_mut().unwrap() += 1;
    assert_eq!(own.into_inner().unwrap(), 2);
}

#[test]
fn its_auto_traits_are_stds() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn sync<T: Sync>() {}
    all::<Mutex<i32>>();
    all::<Mutex<std::cell::Cell<i32>>>();
    sync::<MutexGuard<'_, i32>>();
    let _ = <MutexGuard<'_, i32> as NotIfSend<_>>::is_not;
    let _ = <Mutex<*const i32> as NotIfSync<_>>::is_not;
    let _ = <MutexGuard<'_, std::cell::Cell<i32>> as NotIfSync<_>>::is_not;
}

/// Ambiguous for what is `Send`: naming `is_not` compiles for what is not.
trait NotIfSend<A> {
    fn is_not() {}
}

impl<T: ?Sized> NotIfSend<()> for T {}
impl<T: ?Sized + Send> NotIfSend<u8> for T {}

/// As [`NotIfSend`].
trait NotIfSync<A> {
    fn is_not() {}
}

impl<T: ?Sized> NotIfSync<()> for T {}
impl<T: ?Sized + Sync> NotIfSync<u8> for T {}

#[test]
fn the_value_is_dropped_with_it() {
    let value = Arc::new(());
    drop(Mutex::new(value.clone()));
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn locking_works_in_a_destructor_of_a_thread_local() {
    struct Late(Arc<Mutex<u32>>);
    impl Drop for Late {
        fn drop(&mut self) {
            let mut guard = self.0.lock().unwrap();
            *guard += 1;
        }
    }
    thread_local!(static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) });
    bounded(|| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let (theirs, ending) = (mutex.clone(), ends.clone());
        let late = std::thread::spawn(move || {
            LATE.set(Some(Late(theirs)));
            ending.store(true, Ordering::SeqCst);
        });
        wait_until(|| ends.load(Ordering::SeqCst));
        thread::sleep(SHORT);
        drop(guard);
        late.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

/// Locks a mutex on an OS thread, and unlocks it when told to.
struct Far {
    held: AtomicBool,
    go: AtomicBool,
    gone: AtomicBool,
}

impl Far {
    const fn new() -> Far {
        Far {
            held: AtomicBool::new(false),
            go: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    fn hold<T>(&self, mutex: &Mutex<T>) {
        let guard = mutex.lock().unwrap();
        self.held.store(true, Ordering::SeqCst);
        spin_until(&self.go);
        drop(guard);
        self.gone.store(true, Ordering::SeqCst);
    }

    /// Has it unlock, without letting other threads of the caller's worker run.
    fn release(&self) {
        self.go.store(true, Ordering::SeqCst);
        spin_until(&self.gone);
    }
}

/// Without letting other threads of the worker run.
fn spin_until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}

#[test]
fn called_waiter_is_not_overtaken_for_ever() {
    static MUTEX: Mutex<()> = Mutex::new(());
    static FAR: Far = Far::new();
    static HAD_IT: AtomicBool = AtomicBool::new(false);
    let far = std::thread::spawn(|| FAR.hold(&MUTEX));
    on_workers(1, || {
        spin_until(&FAR.held);
        let waits = thread::spawn(|| {
            let _guard = MUTEX.lock().unwrap();
            HAD_IT.store(true, Ordering::SeqCst);
        });
        run_the_others();
        FAR.release();
        let mut turns = 0;
        while !HAD_IT.load(Ordering::SeqCst) {
            drop(MUTEX.lock().unwrap());
            turns += 1;
            assert!(turns <= 10_000, "it is overtaken more often than is said");
        }
        waits.join().unwrap();
    });
    far.join().unwrap();
}

/// Waits in line behind threads of a worker that computes until this one has had the lock.
fn has_it_though_others_compute(
    line: usize,
    hogs: usize,
    last: impl FnOnce(&'static Mutex<()>, &AtomicBool) + Send,
) {
    let mutex: &'static Mutex<()> = Box::leak(Box::default());
    let had_it: &'static AtomicBool = Box::leak(Box::default());
    let started: &'static AtomicUsize = Box::leak(Box::default());
    let in_line = AtomicBool::new(false);
    bounded(|| {
        let guard = mutex.lock().unwrap();
        let runtimes: Vec<_> = (0..hogs)
            .map(|_| Runtime::new(Config::default().workers(1)).unwrap())
            .collect();
        let handles: Vec<_> = runtimes
            .iter()
            .map(|runtime| runtime.start().unwrap())
            .collect();
        let mut threads = Vec::new();
        for handle in &handles {
            for _ in 0..line {
                threads.push(handle.spawn(|| {
                    started.fetch_add(1, Ordering::SeqCst);
                    drop(mutex.lock().unwrap());
                }));
            }
        }
        let all_wait = || started.load(Ordering::SeqCst) == line * hogs;
        while !all_wait() {
            std::thread::yield_now();
        }
        std::thread::scope(|s| {
            let last = s.spawn(|| {
                last(mutex, &in_line);
                had_it.store(true, Ordering::SeqCst);
            });
            for handle in &handles {
                threads.push(handle.spawn(|| {
                    started.fetch_add(1, Ordering::SeqCst);
                    spin_until(had_it);
                }));
            }
            while started.load(Ordering::SeqCst) < (line + 1) * hogs {
                std::thread::yield_now();
            }
            spin_until(&in_line);
            drop(guard);
            last.join().unwrap();
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn busy_worker_does_not_keep_os_threads_from_a_free_lock() {
    for (line, hogs) in [(1, 1), (3, 1), (1, 2), (3, 3)] {
        has_it_though_others_compute(line, hogs, |mutex, in_line| {
            // The system may run the others first, and then it has to wait for nobody.
            in_line.store(true, Ordering::SeqCst);
            drop(mutex.lock().unwrap());
        });
    }
}

#[test]
fn busy_worker_does_not_keep_other_workers_from_a_lock() {
    for (line, hogs) in [(1, 1), (3, 1), (1, 2), (3, 3)] {
        has_it_though_others_compute(line, hogs, |mutex, in_line| {
            Runtime::new(Config::default().workers(1)).unwrap().run(|| {
                let threads = [(); 3].map(|()| thread::spawn(|| drop(mutex.lock().unwrap())));
                run_the_others();
                in_line.store(true, Ordering::SeqCst);
                threads
                    .into_iter()
                    .for_each(|thread| thread.join().unwrap());
            });
        });
    }
}

/// The lock is handed to a neighbour that cannot run.
#[test]
fn holder_that_hands_over_and_computes_stops_its_worker_alone() {
    static MUTEX: Mutex<()> = Mutex::new(());
    static WAITS: AtomicBool = AtomicBool::new(false);
    static HAD_IT: AtomicBool = AtomicBool::new(false);
    bounded(|| {
        let runtime = Runtime::new(Config::default().workers(1)).unwrap();
        let handle = runtime.start().unwrap();
        let hog = handle.spawn(|| {
            let guard = MUTEX.lock().unwrap();
            let neighbour = thread::spawn_local(|| drop(MUTEX.lock().unwrap()));
            run_the_others();
            spin_until(&WAITS);
            drop(guard);
            spin_until(&HAD_IT);
            neighbour.join().unwrap();
        });
        let far = std::thread::spawn(|| {
            while MUTEX.try_lock().is_ok() {
                std::thread::yield_now();
            }
            on_workers(1, || {
                let waits = thread::spawn(|| drop(MUTEX.lock().unwrap()));
                run_the_others();
                WAITS.store(true, Ordering::SeqCst);
                waits.join().unwrap();
                HAD_IT.store(true, Ordering::SeqCst);
            });
        });
        hog.join().unwrap();
        far.join().unwrap();
    });
}

#[test]
fn crowd_that_gives_up_leaves_the_lock_to_those_that_stay() {
    on_workers(1, || {
        let (mutex, gave_up) = (Mutex::new(0), AtomicUsize::new(0));
        thread::scope(|s| {
            let guard = mutex.lock().unwrap();
            for n in 0..1_000 {
                let (mutex, gave_up) = (&mutex, &gave_up);
                s.spawn(move || match n % 7 {
                    0 => *mutex.lock().unwrap() += 1,
                    _ => {
                        assert!(mutex.lock_timeout(SHORT).is_err());
                        gave_up.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            wait_until(|| gave_up.load(Ordering::SeqCst) == 857);
            drop(guard);
        });
        assert_eq!(mutex.into_inner().unwrap(), 143);
    });
}
