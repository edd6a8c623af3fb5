//! `hebra::time`: std's `Instant` on the thread's own clock, and intervals.

#![cfg(feature = "runtime")]

use std::collections::HashSet;
use std::time::Duration;

use hebra::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, now};
use hebra::{sim, thread};

use support::{bounded, on_workers};

mod support;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn instants_calculate_as_those_of_std() {
    let std = std::time::Instant::now();
    let a = Instant::from(std);
    let b = a + SECOND;
    assert_eq!(std::time::Instant::from(b), std + SECOND);
    assert!(a < b && a == b - SECOND && a.cmp(&b).is_lt());
    assert_eq!((b - a, a - b), (SECOND, Duration::ZERO));
    assert_eq!(b.duration_since(a), SECOND);
    assert_eq!(
        (b.checked_duration_since(a), a.checked_duration_since(b)),
        (Some(SECOND), None)
    );
    assert_eq!(
        (
            b.saturating_duration_since(a),
            a.saturating_duration_since(b)
        ),
        (SECOND, Duration::ZERO)
    );
    assert_eq!(
        (a.checked_add(SECOND), a.checked_add(Duration::MAX)),
        (Some(b), None)
    );
    assert_eq!(
        (b.checked_sub(SECOND), a.checked_sub(Duration::MAX)),
        (Some(a), None)
    );
    let mut c = a;
    c += SECOND;
    assert_eq!(c, b);
    c -= SECOND;
    assert_eq!(c, a);
    assert_eq!(HashSet::from([a, b, c]).len(), 2);
    assert_eq!(format!("{a:?}"), format!("{std:?}"));
}

#[test]
fn on_os_threads_and_in_runtimes_the_clock_is_the_systems() {
    let between = || {
        let before = std::time::Instant::now();
        let between = std::time::Instant::from(now());
        before <= between && between <= std::time::Instant::now()
    };
    assert!(between());
    assert!(on_workers(2, between));
}

#[test]
fn in_a_simulation_the_clock_stands_while_somebody_runs() {
    bounded(|| {
        sim::run(0, || {
            let begin = now();
            let end = std::time::Instant::now() + Duration::from_millis(2);
            while std::time::Instant::now() < end {}
            assert_eq!(begin, now());
            thread::sleep(Duration::from_nanos(1));
            assert_eq!(begin.elapsed(), Duration::from_nanos(1));
            // An OS thread has its own clock.
            let outside = std::thread::spawn(now).join().unwrap();
            assert!(outside > begin + Duration::from_millis(1));
        });
    });
}

#[test]
fn a_deadline_may_be_ours_or_stds() {
    bounded(|| {
        sim::run(0, || {
            let begin = now();
            thread::sleep_until(begin + SECOND);
            thread::sleep_until(std::time::Instant::from(begin) + 2 * SECOND);
            assert!(thread::timeout_at(begin + 3 * SECOND, thread::park).is_err());
            assert_eq!(begin.elapsed(), 3 * SECOND);
        });
    });
}

/// The seconds at which the ticks were due and at which they came, of an interval of 10 s whose
/// second tick is followed by 25 s of work.
fn ticks(behavior: MissedTickBehavior) -> Vec<(u64, u64)> {
    sim::run(0, || {
        let begin = now();
        let mut interval = interval(10 * SECOND);
        interval.set_missed_tick_behavior(behavior);
        assert_eq!(
            (interval.missed_tick_behavior(), interval.period()),
            (behavior, 10 * SECOND)
        );
        let ticks = (0..6).map(|n| {
            let due = interval.tick();
            let came = begin.elapsed().as_secs();
            if n == 1 {
                thread::sleep(25 * SECOND);
            }
            ((due - begin).as_secs(), came)
        });
        ticks.collect()
    })
}

#[test]
fn missed_ticks_are_skipped_delayed_or_made_up_for() {
    bounded(|| {
        assert_eq!(
            ticks(MissedTickBehavior::Skip),
            [(0, 0), (10, 10), (20, 35), (40, 40), (50, 50), (60, 60)]
        );
        assert_eq!(
            ticks(MissedTickBehavior::Delay),
            [(0, 0), (10, 10), (20, 35), (45, 45), (55, 55), (65, 65)]
        );
        assert_eq!(
            ticks(MissedTickBehavior::Burst),
            [(0, 0), (10, 10), (20, 35), (30, 35), (40, 40), (50, 50)]
        );
        assert_eq!(MissedTickBehavior::default(), MissedTickBehavior::Skip);
    });
}

#[test]
fn a_little_lateness_shifts_no_tick() {
    bounded(|| {
        sim::run(0, || {
            let begin = now();
            for behavior in [
                MissedTickBehavior::Skip,
                MissedTickBehavior::Delay,
                MissedTickBehavior::Burst,
            ] {
                let mut interval = interval_at(now() + SECOND, 10 * SECOND);
                interval.set_missed_tick_behavior(behavior);
                let first = interval.tick();
                thread::sleep(12 * SECOND);
                assert_eq!(interval.tick() - first, 10 * SECOND);
                assert_eq!(interval.tick() - first, 20 * SECOND);
                interval.reset();
                assert_eq!(interval.tick() - first, 30 * SECOND);
            }
            assert_eq!(begin.elapsed(), 3 * 31 * SECOND);
        });
    });
}

#[test]
fn a_tick_that_was_cancelled_is_not_taken() {
    bounded(|| {
        sim::run(0, || {
            let begin = now();
            let mut interval = interval(10 * SECOND);
            interval.tick();
            assert!(thread::timeout(SECOND, || interval.tick()).is_err());
            assert_eq!(
                (interval.tick() - begin, begin.elapsed()),
                (10 * SECOND, 10 * SECOND)
            );
        });
    });
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_a_tick_does_not_wait() {
    struct TicksInTheEnd(Interval);

    impl Drop for TicksInTheEnd {
        fn drop(&mut self) {
            self.0.tick();
            self.0.tick();
        }
    }

    bounded(|| {
        sim::run(0, || {
            let begin = now();
            let thread = thread::spawn(|| {
                let _ticks = TicksInTheEnd(interval(SECOND));
                thread::park();
            });
            thread::sleep(Duration::from_millis(1));
            thread.cancel();
            assert!(thread.join().is_err());
            assert_eq!(begin.elapsed(), Duration::from_millis(1));
        });
    });
}

#[test]
fn an_interval_works_on_an_os_thread() {
    let begin = std::time::Instant::now();
    let mut interval = interval(Duration::from_millis(1));
    for _ in 0..4 {
        interval.tick();
    }
    assert!(begin.elapsed() >= Duration::from_millis(3));
}

#[test]
#[should_panic(expected = "not zero")]
fn an_interval_without_a_period_is_refused() {
    interval(Duration::ZERO);
}

#[test]
fn what_lies_beyond_time_never_comes() {
    bounded(|| {
        sim::run(0, || {
            let mut interval = interval(Duration::MAX);
            interval.tick();
            assert!(thread::timeout(1_000_000 * SECOND, || interval.tick()).is_err());
        });
    });
}
