//! `hebra::sync::{Semaphore, WaitGroup}`.

#![cfg(feature = "runtime")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hebra::sync::{AcquireTimeoutError, Mutex, Semaphore, TryAcquireError, WaitGroup};
use hebra::thread;
use support::{Place, on_workers, run_the_others, wait_until};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn no_more_than_there_are_permits_for_are_inside() {
    for place in Place::ALL {
        let (permits, inside, most) = (Semaphore::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        place.run(8, |me| {
            for round in 0..200 {
                let permit = permits.acquire_many(1 + (me + round) % 3).unwrap();
                most.fetch_max(
                    inside.fetch_add(permit.count(), Ordering::Relaxed) + permit.count(),
                    Ordering::Relaxed,
                );
                if round % 4 == 0 {
                    thread::yield_now();
                }
                inside.fetch_sub(permit.count(), Ordering::Relaxed);
            }
        });
        assert!(most.into_inner() <= 3, "{place:?}");
        assert_eq!(permits.available(), 3, "{place:?}");
    }
}

#[test]
fn trying_succeeds_if_there_are_permits_and_nobody_waits() {
    on_workers(1, || {
        let permits = Arc::new(Semaphore::new(3));
        let two = permits.try_acquire_many(2).unwrap();
        assert_eq!((two.count(), permits.available()), (2, 1));
        assert_eq!(
            permits.try_acquire_many(2).unwrap_err(),
            TryAcquireError::NoPermits
        );
        let theirs = permits.clone();
        let waits = thread::spawn(move || theirs.acquire_many(3).map(|permit| permit.count()));
        run_the_others();
        assert_eq!(
            permits.try_acquire().unwrap_err(),
            TryAcquireError::NoPermits,
            "another waits for it"
        );
        drop(two);
        assert_eq!(waits.join().unwrap(), Ok(3));
        assert_eq!(permits.try_acquire().unwrap().count(), 1);
        assert_eq!(permits.acquire_many(0).unwrap().count(), 0);
    });
}

#[test]
fn they_are_served_in_turn_however_many_they_want() {
    on_workers(1, || {
        let permits = Arc::new(Semaphore::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = [2, 1, 3, 1]
            .into_iter()
            .map(|wanted| {
                let (permits, order) = (permits.clone(), order.clone());
                thread::spawn(move || {
                    permits.acquire_many(wanted).unwrap().forget();
                    order.lock().unwrap().push(wanted);
                })
            })
            .collect();
        run_the_others();
        let expected: [&[usize]; 7] = [
            &[],
            &[2],
            &[2, 1],
            &[2, 1],
            &[2, 1],
            &[2, 1, 3],
            &[2, 1, 3, 1],
        ];
        for served in expected {
            permits.release(1);
            run_the_others();
            assert_eq!(*order.lock().unwrap(), served);
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(permits.available(), 0);
    });
}

#[test]
fn a_time_out_ends_the_wait_and_not_before_its_time() {
    for place in Place::ALL {
        let (permits, tried) = (Semaphore::new(0), AtomicBool::new(false));
        place.run(2, |me| {
            if me == 0 {
                let start = Instant::now();
                assert_eq!(
                    permits.acquire_timeout(SHORT).unwrap_err(),
                    AcquireTimeoutError::Timeout
                );
                assert!(start.elapsed() >= SHORT);
                assert_eq!(
                    permits.acquire_deadline(start).unwrap_err(),
                    AcquireTimeoutError::Timeout
                );
                assert_eq!(
                    permits.acquire_many_timeout(2, SHORT).unwrap_err(),
                    AcquireTimeoutError::Timeout
                );
                assert_eq!(
                    permits.acquire_many_deadline(2, start).unwrap_err(),
                    AcquireTimeoutError::Timeout
                );
                tried.store(true, Ordering::SeqCst);
                permits.acquire_timeout(LONG).unwrap().forget();
                permits
                    .acquire_many_deadline(2, Instant::now() + LONG)
                    .unwrap()
                    .forget();
            } else {
                wait_until(|| tried.load(Ordering::SeqCst));
                permits.release(1);
                permits.release(2);
            }
        });
        assert_eq!(permits.available(), 0);
    }
}

#[test]
fn who_gives_up_or_is_cancelled_lets_those_behind_it_have_what_there_is() {
    on_workers(1, || {
        let permits = Arc::new(Semaphore::new(1));
        let (timed, cancelled, waits) = (permits.clone(), permits.clone(), permits.clone());
        let timed = thread::spawn(move || timed.acquire_many_timeout(2, SHORT).map(drop));
        let cancelled = thread::spawn(move || drop(cancelled.acquire_many(2)));
        let waits = thread::spawn(move || drop(waits.acquire().unwrap()));
        run_the_others();
        cancelled.cancel();
        assert!(cancelled.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(timed.join().unwrap(), Err(AcquireTimeoutError::Timeout));
        waits.join().unwrap();
        assert_eq!(permits.available(), 1);
    });
}

#[test]
fn what_was_granted_before_the_cancellation_is_held_and_released() {
    on_workers(1, || {
        let permits = Arc::new(Semaphore::new(0));
        let theirs = permits.clone();
        let thread = thread::spawn(move || {
            let _permit = theirs.acquire().unwrap();
            assert_eq!(theirs.available(), 0);
            thread::yield_now();
            unreachable!("this is a cancel point");
        });
        run_the_others();
        permits.release(1);
        thread.cancel();
        assert!(thread.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(permits.available(), 1);
    });
}

#[test]
fn time_outs_race_with_releases_and_no_permit_is_lost() {
    for place in Place::ALL {
        let permits = Semaphore::new(2);
        place.run(6, |me| {
            for round in 0..300 {
                let wanted = 1 + (me + round) % 2;
                let timeout = Duration::from_micros(round as u64 % 40);
                if let Ok(permit) = permits.acquire_many_timeout(wanted, timeout) {
                    if round % 3 == 0 {
                        thread::yield_now();
                    }
                    drop(permit);
                }
            }
        });
        assert_eq!(permits.available(), 2, "{place:?}");
    }
}

#[test]
fn cancellations_race_with_releases_and_no_permit_is_lost() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let permits = Arc::new(Semaphore::new(2));
            for round in 0..40 {
                let threads: Vec<_> = (0..6)
                    .map(|me| {
                        let permits = permits.clone();
                        thread::spawn(move || {
                            loop {
                                let _permit = permits.acquire_many(1 + me % 2).unwrap();
                                thread::yield_now();
                            }
                        })
                    })
                    .collect();
                (0..round).for_each(|_| thread::yield_now());
                threads.iter().rev().for_each(|thread| thread.cancel());
                threads
                    .into_iter()
                    .for_each(|thread| assert!(thread.join().is_err()));
                assert_eq!(permits.available(), 2);
            }
        });
    }
}

#[test]
fn closing_refuses_those_who_wait_and_those_who_come() {
    for place in Place::ALL {
        let (permits, waiting) = (Semaphore::new(0), AtomicUsize::new(0));
        place.run(4, |me| {
            if me == 0 {
                wait_until(|| waiting.load(Ordering::SeqCst) == 3);
                permits.close();
                permits.close();
                assert!(permits.is_closed());
            } else {
                waiting.fetch_add(1, Ordering::SeqCst);
                if me == 1 {
                    assert_eq!(
                        permits.acquire_timeout(LONG).unwrap_err(),
                        AcquireTimeoutError::Closed
                    );
                } else {
                    permits.acquire().unwrap_err();
                }
                permits.acquire().unwrap_err();
                assert_eq!(permits.try_acquire().unwrap_err(), TryAcquireError::Closed);
            }
        });
        permits.release(1);
        assert_eq!(
            permits.try_acquire_many(0).unwrap_err(),
            TryAcquireError::Closed
        );
        assert_eq!(permits.available(), 1);
    }
}

#[test]
fn what_was_granted_before_the_closing_is_held() {
    on_workers(1, || {
        let permits = Arc::new(Semaphore::new(0));
        let spawn = || {
            let permits = permits.clone();
            thread::spawn(move || permits.acquire().map(drop))
        };
        let (granted, refused) = (spawn(), spawn());
        run_the_others();
        permits.release(1);
        permits.close();
        assert!(granted.join().unwrap().is_ok());
        assert!(refused.join().unwrap().is_err());
        assert_eq!(permits.available(), 1);
    });
}

#[test]
fn an_owned_permit_goes_into_a_thread() {
    on_workers(2, || {
        let permits = Arc::new(Semaphore::new(2));
        let permit = permits.acquire_owned(2).unwrap();
        assert_eq!(
            permits.try_acquire_owned(1).unwrap_err(),
            TryAcquireError::NoPermits
        );
        let thread = thread::spawn(move || permit.count());
        assert_eq!(thread.join().unwrap(), 2);
        permits.try_acquire_owned(1).unwrap().forget();
        assert_eq!(permits.available(), 1);
    });
}

#[test]
fn errors_say_what_is_wrong() {
    let permits = Semaphore::new(0);
    assert_eq!(
        permits.try_acquire().unwrap_err().to_string(),
        "there are not enough permits"
    );
    permits.close();
    assert_eq!(
        permits.acquire().unwrap_err().to_string(),
        "the semaphore is closed"
    );
    assert_eq!(format!("{permits:?}"), "Semaphore { available: 0, .. }");
}

#[test]
fn a_group_is_waited_for_until_the_last_share_is_dropped() {
    for place in Place::ALL {
        let group = WaitGroup::new();
        let (done, shares) = (
            AtomicUsize::new(0),
            Mutex::new((0..4).map(|_| group.clone()).collect::<Vec<_>>()),
        );
        let waits = Mutex::new(Some(group));
        place.run(5, |me| {
            if me == 0 {
                let group = waits.lock().unwrap().take().unwrap();
                group.wait();
                assert_eq!(done.load(Ordering::SeqCst), 4, "{place:?}");
            } else {
                let share = shares.lock().unwrap().pop().unwrap();
                thread::yield_now();
                done.fetch_add(1, Ordering::SeqCst);
                drop(share);
            }
        });
    }
}

#[test]
fn all_shares_of_a_group_may_wait_for_each_other() {
    for place in Place::ALL {
        let group = WaitGroup::new();
        let shares = Mutex::new(vec![group.clone(), group.clone(), group]);
        let come = AtomicUsize::new(0);
        place.run(3, |_| {
            let share = shares.lock().unwrap().pop().unwrap();
            come.fetch_add(1, Ordering::SeqCst);
            share.wait();
            assert_eq!(come.load(Ordering::SeqCst), 3, "{place:?}");
        });
    }
}

#[test]
fn a_group_that_has_given_up_counts_again() {
    on_workers(1, || {
        let group = WaitGroup::new();
        let share = group.clone();
        let start = Instant::now();
        let group = group.wait_timeout(SHORT).unwrap_err();
        assert!(start.elapsed() >= SHORT);
        let waits = thread::spawn(move || share.wait());
        run_the_others();
        assert!(!waits.is_finished());
        let group = group.wait_deadline(start).map_or_else(Some, |()| None);
        assert!(group.is_none(), "the other waits, too");
        waits.join().unwrap();
    });
}

#[test]
fn a_cancelled_wait_gives_its_share_back() {
    on_workers(1, || {
        let group = WaitGroup::default();
        let (share, other) = (group.clone(), group.clone());
        let cancelled = thread::spawn(move || share.wait());
        run_the_others();
        cancelled.cancel();
        assert!(cancelled.join().is_err());
        assert_eq!(format!("{group:?}"), "WaitGroup { shares: 2, .. }");
        drop(other);
        group.wait();
    });
}

#[test]
fn crowd_that_gives_up_leaves_the_permits_in_order() {
    on_workers(1, || {
        let permits = Semaphore::new(0);
        let (served, gave_up) = (std::sync::Mutex::new(Vec::new()), AtomicUsize::new(0));
        thread::scope(|s| {
            for n in 0..1_000 {
                let (permits, served, gave_up) = (&permits, &served, &gave_up);
                s.spawn(move || match n % 5 {
                    0 => {
                        permits.acquire().unwrap().forget();
                        served.lock().unwrap().push(n);
                    }
                    _ => {
                        assert!(permits.acquire_timeout(SHORT).is_err());
                        gave_up.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            wait_until(|| gave_up.load(Ordering::SeqCst) == 800);
            for _ in 0..200 {
                permits.release(1);
            }
        });
        let served = served.into_inner().unwrap();
        assert_eq!(served, (0..1_000).step_by(5).collect::<Vec<_>>());
    });
}
