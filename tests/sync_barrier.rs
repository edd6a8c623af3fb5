//! `hebra::sync::Barrier`.

#![cfg(feature = "runtime")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hebra::sync::Barrier;
use hebra::thread;
use support::{Place, on_workers, run_the_others, wait_until};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn nobody_passes_before_all_have_come_and_one_leads_round_after_round() {
    for place in Place::ALL {
        let (barrier, come, leaders) = (Barrier::new(6), AtomicUsize::new(0), AtomicUsize::new(0));
        place.run(6, |_| {
            for round in 1..=100 {
                come.fetch_add(1, Ordering::SeqCst);
                let result = barrier.wait();
                assert!(come.load(Ordering::SeqCst) >= 6 * round, "{place:?}");
                leaders.fetch_add(usize::from(result.is_leader()), Ordering::SeqCst);
                barrier.wait();
            }
        });
        assert_eq!(leaders.into_inner(), 100, "{place:?}");
    }
}

#[test]
fn a_barrier_for_one_or_none_holds_nobody_up() {
    for size in [0, 1] {
        let barrier = Barrier::new(size);
        assert!((0..3).all(|_| barrier.wait().is_leader()));
    }
}

#[test]
fn who_gives_up_has_not_come() {
    for place in Place::ALL {
        let (barrier, gave_up) = (Barrier::new(2), AtomicBool::new(false));
        place.run(2, |me| {
            if me == 0 {
                let start = Instant::now();
                assert!(barrier.wait_timeout(SHORT).is_none());
                assert!(start.elapsed() >= SHORT);
                assert!(barrier.wait_deadline(start).is_none());
                gave_up.store(true, Ordering::SeqCst);
                assert!(barrier.wait_timeout(LONG).is_some());
                assert!(barrier.wait_deadline(Instant::now() + LONG).is_some());
            } else {
                wait_until(|| gave_up.load(Ordering::SeqCst));
                barrier.wait();
                barrier.wait();
            }
        });
    }
}

#[test]
fn who_is_cancelled_has_not_come() {
    on_workers(1, || {
        let barrier = Arc::new(Barrier::new(2));
        let spawn = || {
            let barrier = barrier.clone();
            thread::spawn(move || barrier.wait().is_leader())
        };
        let cancelled = spawn();
        run_the_others();
        cancelled.cancel();
        assert!(cancelled.join().is_err());
        let waits = spawn();
        run_the_others();
        assert!(!waits.is_finished());
        assert!(barrier.wait().is_leader());
        assert!(!waits.join().unwrap());
    });
}

#[test]
fn time_outs_race_with_the_last_to_come() {
    for place in Place::ALL {
        // Two always pass together: the number of those who have passed is even.
        let (barrier, passed, leaders) =
            (Barrier::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        place.run(4, |me| {
            for round in 0..300 {
                if let Some(result) =
                    barrier.wait_timeout(Duration::from_micros((round * 7 + me as u64 * 13) % 60))
                {
                    passed.fetch_add(1, Ordering::Relaxed);
                    leaders.fetch_add(usize::from(result.is_leader()), Ordering::Relaxed);
                }
            }
        });
        assert_eq!(passed.into_inner(), 2 * leaders.into_inner(), "{place:?}");
    }
}

#[test]
fn a_destructor_of_a_cancelled_thread_comes_too() {
    struct Comes(Arc<Barrier>);
    impl Drop for Comes {
        fn drop(&mut self) {
            assert!(self.0.wait_timeout(LONG).is_none());
            self.0.wait();
        }
    }
    on_workers(1, || {
        let barrier = Arc::new(Barrier::new(2));
        let comes = Comes(barrier.clone());
        let thread = thread::spawn(move || {
            let _comes = comes;
            thread::sleep(LONG);
        });
        run_the_others();
        thread.cancel();
        thread::sleep(Duration::from_millis(25));
        barrier.wait();
        assert!(thread.join().is_err());
    });
}

#[test]
fn it_is_static_and_prints_as_std_does() {
    static STATIC: Barrier = Barrier::new(1);
    assert!(STATIC.wait().is_leader());
    let stds = std::sync::Barrier::new(1);
    assert_eq!(format!("{STATIC:?}"), format!("{stds:?}"));
    assert_eq!(format!("{:?}", STATIC.wait()), format!("{:?}", stds.wait()));
}

/// A thread that was cancelled, or whose time is up, but has not run since.
#[test]
fn barrier_counts_only_waits_that_have_not_ended() {
    for workers in [1, 2] {
        for cancels in [true, false] {
            on_workers(workers, || {
                let barrier = Arc::new(Barrier::new(3));
                let (theirs, others) = (barrier.clone(), barrier.clone());
                let waits_in_vain = thread::spawn_local(move || {
                    if cancels {
                        theirs.wait();
                    } else {
                        let over = thread::timeout(SHORT, || theirs.wait());
                        assert!(over.is_err(), "it was not let through");
                    }
                });
                let other = thread::spawn_local(move || others.wait().is_leader());
                run_the_others();
                if cancels {
                    waits_in_vain.cancel();
                } else {
                    let start = Instant::now();
                    while start.elapsed() < 2 * SHORT {}
                }
                assert!(barrier.wait_timeout(SHORT).is_none(), "two have come");
                assert!(!other.is_finished());
                assert_eq!(waits_in_vain.join().is_err(), cancels);
                let last = barrier.clone();
                let last = thread::spawn_local(move || last.wait().is_leader());
                assert!(!barrier.wait().is_leader() | last.join().unwrap());
                other.join().unwrap();
            });
        }
    }
}

#[test]
fn barrier_passes_nobody_while_waiters_give_up() {
    for place in Place::ALL {
        // Two of three come and go: never are there three.
        let (barrier, done) = (Barrier::new(3), AtomicUsize::new(0));
        place.run(2, |_| {
            for _ in 0..200 {
                assert!(barrier.wait_timeout(Duration::from_micros(50)).is_none());
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(done.into_inner(), 2, "{place:?}");
    }
}
