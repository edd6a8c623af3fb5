//! `hebra::sync::Event`.

#![cfg(feature = "runtime")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hebra::sync::Event;
use hebra::thread;
use support::{Place, on_workers, run_the_others};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn everybody_passes_once_it_is_set_and_sees_what_was_written_before() {
    for place in Place::ALL {
        for _ in 0..20 {
            let (event, written) = (Event::new(), AtomicUsize::new(0));
            place.run(5, |me| {
                if me == 2 {
                    written.store(1, Ordering::Relaxed);
                    event.set();
                } else {
                    event.wait();
                    assert!(event.is_set());
                    assert_eq!(written.load(Ordering::Relaxed), 1, "{place:?}");
                    event.wait();
                }
            });
        }
    }
}

#[test]
fn who_waits_passes_even_if_it_is_cleared_at_once_and_who_comes_waits() {
    on_workers(1, || {
        let event = Arc::new(Event::new());
        let theirs = event.clone();
        let waits = thread::spawn(move || theirs.wait());
        run_the_others();
        event.set();
        event.set();
        event.clear();
        waits.join().unwrap();
        assert!(!event.is_set());
        assert!(!event.wait_timeout(SHORT));
    });
}

#[test]
fn it_can_be_set_and_cleared_to_and_fro() {
    for place in Place::ALL {
        let events = [Event::new(), Event::new()];
        place.run(2, |me| {
            for _ in 0..500 {
                if me == 0 {
                    events[1].set();
                    events[0].wait();
                    events[0].clear();
                } else {
                    events[1].wait();
                    events[1].clear();
                    events[0].set();
                }
            }
        });
    }
}

#[test]
fn a_time_out_ends_the_wait_and_not_before_its_time() {
    for place in [Place::OneWorker, Place::OsThreads] {
        let event = Event::default();
        place.run(1, |_| {
            let start = Instant::now();
            assert!(!event.wait_timeout(SHORT));
            assert!(start.elapsed() >= SHORT);
            assert!(!event.wait_deadline(start));
            event.set();
            assert!(
                event.wait_timeout(Duration::ZERO)
                    && event.wait_timeout(LONG)
                    && event.wait_deadline(start)
            );
        });
    }
}

#[test]
fn a_cancelled_wait_ends_and_a_destructor_waits_all_the_same() {
    struct Waits(Arc<Event>);
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(!self.0.wait_timeout(LONG));
            self.0.wait();
        }
    }
    on_workers(1, || {
        let event = Arc::new(Event::new());
        let waits = Waits(event.clone());
        let thread = thread::spawn(move || waits.0.wait());
        run_the_others();
        thread.cancel();
        thread::sleep(Duration::from_millis(25));
        assert!(!thread.is_finished());
        event.set();
        assert!(thread.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(format!("{event:?}"), "Event { set: true, .. }");
    });
}
