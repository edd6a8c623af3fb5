//! `hebra::sync::RwLock`: std's contract, fairness, time-outs and cancellation.

#![cfg(feature = "runtime")]

mod support;

use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hebra::sync::{
    Event, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use hebra::thread;
use support::{Place, on_workers, quietly, run_the_others, wait_until};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn one_writer_or_many_readers_are_inside() {
    for place in Place::ALL {
        // Readers count up, a writer counts as a negative number.
        let (lock, inside) = (RwLock::new(0), AtomicIsize::new(0));
        place.run(8, |me| {
            for round in 0..400 {
                if (round + me) % 3 == 0 {
                    let mut value = lock.write().unwrap();
                    assert_eq!(inside.swap(-1, Ordering::Relaxed), 0, "{place:?}");
                    *value += 1;
                    if round % 5 == 0 {
                        thread::yield_now();
                    }
                    assert_eq!(inside.swap(0, Ordering::Relaxed), -1, "{place:?}");
                } else {
                    let value = lock.read().unwrap();
                    assert!(inside.fetch_add(1, Ordering::Relaxed) >= 0, "{place:?}");
                    let before = *value;
                    if round % 5 == 0 {
                        thread::yield_now();
                    }
                    assert_eq!(*value, before);
                    assert!(inside.fetch_sub(1, Ordering::Relaxed) > 0, "{place:?}");
                }
            }
        });
        let writes = (0..8)
            .flat_map(|me| (0..400).filter(move |round| (round + me) % 3 == 0))
            .count();
        assert_eq!(lock.into_inner().unwrap(), writes, "{place:?}");
    }
}

#[test]
fn readers_share_and_a_writer_does_not() {
    let lock = RwLock::new(1);
    let readers = (lock.read().unwrap(), lock.try_read().unwrap());
    assert_eq!(*readers.0 + *readers.1, 2);
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    drop(readers);
    let mut writer = lock.try_write().unwrap();
    *writer += 1;
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    drop(writer);
    assert_eq!(*lock.try_read().unwrap(), 2);
}

/// What threads do with a lock, in the order in which they come, and the order in which they get
/// in.
fn order(coming: &[char]) -> String {
    on_workers(1, || {
        let lock = Arc::new(RwLock::new(()));
        let order = Arc::new(Mutex::new(String::new()));
        let guard = lock.write().unwrap();
        let threads: Vec<_> = coming
            .iter()
            .map(|&access| {
                let (lock, order) = (lock.clone(), order.clone());
                thread::spawn(move || {
                    let guards = if access == 'w' {
                        (None, Some(lock.write()))
                    } else {
                        (Some(lock.read()), None)
                    };
                    order.lock().unwrap().push(access);
                    thread::yield_now();
                    order.lock().unwrap().push('.');
                    drop(guards);
                })
            })
            .collect();
        run_the_others();
        drop(guard);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        order.lock().unwrap().clone()
    })
}

#[test]
fn who_waits_gets_in_in_turn_and_readers_that_stand_together_together() {
    assert_eq!(
        order(&['r', 'r', 'w', 'r', 'w', 'w', 'r', 'r', 'r']),
        "rr..w.r.w.w.rrr..."
    );
}

#[test]
fn a_reader_that_comes_while_a_writer_waits_does_not_overtake_it() {
    on_workers(1, || {
        let lock = Arc::new(RwLock::new(0));
        let reader = lock.read().unwrap();
        let theirs = lock.clone();
        let writer = thread::spawn(move || *theirs.write().unwrap() += 1);
        run_the_others();
        assert!(lock.try_read().is_err());
        drop(reader);
        assert_eq!(*lock.read().unwrap(), 1);
        writer.join().unwrap();
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_behind_it_in() {
    on_workers(1, || {
        let lock = Arc::new(RwLock::new(()));
        let reader = lock.read().unwrap();
        let (writes, cancelled, reads) = (lock.clone(), lock.clone(), lock.clone());
        let writer = thread::spawn(move || writes.write_timeout(SHORT).is_err());
        let cancelled = thread::spawn(move || drop(cancelled.write()));
        let other = thread::spawn(move || drop(reads.read().unwrap()));
        run_the_others();
        assert!(!other.is_finished());
        cancelled.cancel();
        assert!(cancelled.join().is_err());
        other.join().unwrap();
        assert!(writer.join().unwrap());
        drop(reader);
        drop(lock.try_write().unwrap());
    });
}

#[test]
fn a_time_out_ends_the_wait_and_not_before_its_time() {
    for place in Place::ALL {
        let lock = RwLock::new(());
        let (held, tried) = (AtomicBool::new(false), AtomicBool::new(false));
        place.run(2, |me| {
            if me == 0 {
                let _guard = lock.write().unwrap();
                held.store(true, Ordering::SeqCst);
                wait_until(|| tried.load(Ordering::SeqCst));
            } else {
                wait_until(|| held.load(Ordering::SeqCst));
                let start = Instant::now();
                assert!(matches!(
                    lock.read_timeout(SHORT),
                    Err(TryLockError::WouldBlock)
                ));
                assert!(matches!(
                    lock.write_timeout(SHORT),
                    Err(TryLockError::WouldBlock)
                ));
                assert!(start.elapsed() >= 2 * SHORT);
                assert!(matches!(
                    lock.read_deadline(start),
                    Err(TryLockError::WouldBlock)
                ));
                assert!(matches!(
                    lock.write_deadline(start),
                    Err(TryLockError::WouldBlock)
                ));
                tried.store(true, Ordering::SeqCst);
                drop(lock.read_timeout(LONG).unwrap());
                drop(lock.write_timeout(LONG).unwrap());
                drop(lock.read_deadline(Instant::now() + LONG).unwrap());
                drop(lock.write_deadline(Instant::now() + LONG).unwrap());
            }
        });
    }
}

#[test]
fn time_outs_and_hand_overs_race_without_losing_the_lock() {
    for place in Place::ALL {
        let (lock, written) = (RwLock::new(0), AtomicUsize::new(0));
        place.run(6, |me| {
            for round in 0..300 {
                let timeout = Duration::from_micros(round as u64 % 50);
                match (round + me) % 4 {
                    0 => drop(lock.read().unwrap()),
                    1 => drop(lock.read_timeout(timeout)),
                    2 => {
                        *lock.write().unwrap() += 1;
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {
                        if let Ok(mut value) = lock.write_timeout(timeout) {
                            *value += 1;
                            written.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now();
                        }
                    }
                }
            }
        });
        assert_eq!(
            *lock.try_write().unwrap(),
            written.into_inner(),
            "{place:?}"
        );
    }
}

#[test]
fn cancellations_and_hand_overs_race_without_losing_the_lock() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let lock = Arc::new(RwLock::new(()));
            for round in 0..40 {
                let threads: Vec<_> = (0..8)
                    .map(|me| {
                        let lock = lock.clone();
                        thread::spawn(move || {
                            loop {
                                let guards = if me % 2 == 0 {
                                    (Some(lock.read()), None)
                                } else {
                                    (None, Some(lock.write()))
                                };
                                thread::yield_now();
                                drop(guards);
                            }
                        })
                    })
                    .collect();
                (0..round).for_each(|_| thread::yield_now());
                threads.iter().rev().for_each(|thread| thread.cancel());
                for thread in threads {
                    assert!(thread.join().unwrap_err().is::<thread::Cancelled>());
                }
                drop(lock.try_write().unwrap());
            }
        });
    }
}

#[test]
fn downgrading_lets_readers_in_and_no_writer() {
    on_workers(1, || {
        let lock = Arc::new(RwLock::new(0));
        let mut writer = lock.write().unwrap();
        let (reads, writes) = (lock.clone(), lock.clone());
        let read = Arc::new(Event::new());
        let has_read = read.clone();
        let reader = thread::spawn(move || {
            assert_eq!(*reads.read().unwrap(), 1);
            has_read.set();
        });
        let other = thread::spawn(move || *writes.write().unwrap() += 1);
        run_the_others();
        *writer += 1;
        let own = RwLockWriteGuard::downgrade(writer);
        read.wait();
        assert_eq!(*own, 1);
        drop(own);
        reader.join().unwrap();
        other.join().unwrap();
        let writer = lock.write().unwrap();
        assert_eq!(*writer, 2);
        let reader = RwLockWriteGuard::downgrade(writer);
        drop((lock.try_read().unwrap(), reader));
        drop(lock.try_write().unwrap());
    });
}

#[test]
fn a_panic_of_a_writer_poisons_and_that_of_a_reader_does_not() {
    quietly(|| {
        let mut lock = RwLock::new(1);
        let reader = catch_unwind(|| {
            let _guard = lock.read().unwrap();
            panic!("while it reads");
        });
        assert!(reader.is_err() && !lock.is_poisoned());
        let writer = catch_unwind(|| {
            *lock.write().unwrap() = 2;
            let _guard = lock.write().unwrap();
            panic!("while it writes");
        });
        assert!(writer.is_err() && lock.is_poisoned());
        assert_eq!(*lock.read().unwrap_err().into_inner(), 2);
        assert_eq!(*lock.write().unwrap_err().into_inner(), 2);
        assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(
            lock.read_timeout(SHORT),
            Err(TryLockError::Poisoned(_))
        ));
        assert!(matches!(
            lock.write_timeout(SHORT),
            Err(TryLockError::Poisoned(_))
        ));
        assert_eq!(*lock.get_mut().unwrap_err().into_inner(), 2);
        lock.clear_poison();
        assert_eq!(*lock.read().unwrap(), 2);
        let downgraded = catch_unwind(|| {
            let _guard = RwLockWriteGuard::downgrade(lock.write().unwrap());
            panic!("while it reads");
        });
        assert!(downgraded.is_err() && !lock.is_poisoned());
        let _ = catch_unwind(|| {
            let _guard = lock.write();
            panic!("again");
        });
        assert_eq!(lock.into_inner().map_err(PoisonError::into_inner), Err(2));
    });
}

#[test]
fn who_is_cancelled_while_writing_does_not_poison() {
    on_workers(1, || {
        let lock = Arc::new(RwLock::new(()));
        let theirs = lock.clone();
        let writer = thread::spawn(move || {
            let _guard = theirs.write().unwrap();
            thread::sleep(LONG);
        });
        wait_until(|| lock.try_read().is_err());
        writer.cancel();
        drop(lock.read().unwrap());
        assert!(!lock.is_poisoned());
        assert!(writer.join().is_err());
    });
}

#[test]
fn it_prints_as_std_does() {
    let (ours, stds) = (RwLock::new(5), std::sync::RwLock::new(5));
    assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
    let guards = (ours.read().unwrap(), stds.read().unwrap());
    assert_eq!(
        format!("{ours:?} {:?} {}", guards.0, guards.0),
        format!("{stds:?} {:?} {}", guards.1, guards.1)
    );
    drop(guards);
    let guards = (ours.write().unwrap(), stds.write().unwrap());
    assert_eq!(
        format!("{:?} {}", guards.0, guards.0),
        format!("{:?} {}", guards.1, guards.1)
    );
    assert_eq!(
        format!("{ours:?}"),
        "RwLock { data: <locked>, poisoned: false, .. }"
    );
}

#[test]
fn it_is_made_of_a_value_or_of_nothing_and_holds_what_has_no_size() {
    static STATIC: RwLock<Vec<u8>> = RwLock::new(Vec::new());
    STATIC.write().unwrap().push(1);
    assert_eq!(*RwLock::<u8>::default().read().unwrap(), 0);
    assert_eq!(*RwLock::from("a").read().unwrap(), "a");
    let unsized_: &RwLock<[u8]> = &RwLock::new([1, 2, 3]);
    unsized_.write().unwrap()[0] = 9;
    assert_eq!(unsized_.read().unwrap().len(), 3);
    let mut own = RwLock::new(1);
    *own.get_mut().unwrap() += 1;
    assert_eq!(own.into_inner().unwrap(), 2);
}

#[test]
fn its_auto_traits_are_stds() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    all::<RwLock<i32>>();
    send::<RwLock<std::cell::Cell<i32>>>();
    sync::<RwLockReadGuard<'_, i32>>();
    sync::<RwLockWriteGuard<'_, i32>>();
    let _ = <RwLockReadGuard<'_, i32> as NotIfSend<_>>::is_not;
    let _ = <RwLockWriteGuard<'_, i32> as NotIfSend<_>>::is_not;
    let _ = <RwLock<std::cell::Cell<i32>> as NotIfSync<_>>::is_not;
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
fn crowd_that_gives_up_leaves_the_lock_in_order() {
    on_workers(1, || {
        let (lock, gave_up) = (RwLock::new(Vec::new()), AtomicUsize::new(0));
        thread::scope(|s| {
            let guard = lock.write().unwrap();
            for n in 0..1_000 {
                let (lock, gave_up) = (&lock, &gave_up);
                s.spawn(move || match n % 5 {
                    0 => lock.write().unwrap().push(n),
                    n => {
                        assert!(match n {
                            1 => lock.write_timeout(SHORT).is_err(),
                            _ => lock.read_timeout(SHORT).is_err(),
                        });
                        gave_up.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            wait_until(|| gave_up.load(Ordering::SeqCst) == 800);
            drop(guard);
        });
        let order = lock.into_inner().unwrap();
        assert_eq!(order, (0..1_000).step_by(5).collect::<Vec<_>>());
    });
}
