//! Cancelling: `JoinHandle::cancel`, `timeout`, `shield`. What was cancelled did not happen, and
//! who was cancelled does not linger.

#![cfg(feature = "runtime")]

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use hebra::net::{TcpListener, TcpStream};
use hebra::thread::{
    self, Cancelled, Elapsed, JoinHandle, JoinSet, is_cancelled, shield, timeout, timeout_at,
};
use hebra::{Config, Generator, Runtime};

use support::{bounded, on_workers, wait_until};

mod support;

/// Longer than any test may take.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// Short, but long enough to be waited for.
const SHORTLY: Duration = Duration::from_millis(2);

fn on_one_and_two(body: impl Fn(usize)) {
    for workers in [1, 2] {
        on_workers(workers, || body(workers));
    }
}

/// Runs a test body on a green thread and on a plain OS thread.
fn on_green_and_os(body: impl Fn()) {
    on_workers(1, &body);
    bounded(&body);
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn cancelled<T>(result: thread::Result<T>) -> Cancelled {
    let payload = result.err().expect("it did not return");
    *payload
        .downcast_ref::<Cancelled>()
        .expect("it did not panic")
}

fn caught<T>(f: impl FnOnce() -> T) -> thread::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

/// Spawns a thread that has begun when this returns. With one worker it has got as far as its first
/// wait.
fn begun<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let began = Arc::new(AtomicBool::new(false));
    let tell = began.clone();
    let handle = thread::spawn(move || {
        tell.store(true, SeqCst);
        f()
    });
    wait_until(|| began.load(SeqCst));
    handle
}

/// A connection over the loopback.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Green threads that wait for ever, each in its own way, and what they are called. They own
/// `owned`, and tell when they have begun.
fn spawn_waiting<T: Clone + Send + 'static>(owned: &T) -> Vec<(&'static str, JoinHandle<()>)> {
    let began = Arc::new(AtomicUsize::new(0));
    let mut waiting = Vec::new();
    let mut spawn = |name, wait: Box<dyn FnOnce() + Send>| {
        let (owned, began) = (owned.clone(), began.clone());
        let handle = thread::spawn(move || {
            let _owned = owned;
            began.fetch_add(1, SeqCst);
            wait();
            unreachable!("{name} returned");
        });
        waiting.push((name, handle));
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut near, far) = connection();
    let (mut writer, quiet) = connection();
    spawn("a sleeper", Box::new(|| thread::sleep(FOR_EVER)));
    spawn(
        "a zero sleeper",
        Box::new(|| {
            loop {
                thread::sleep(Duration::ZERO)
            }
        }),
    );
    spawn(
        "a parker",
        Box::new(|| {
            loop {
                thread::park()
            }
        }),
    );
    spawn(
        "a parker with a time-out",
        Box::new(|| {
            loop {
                thread::park_timeout(FOR_EVER)
            }
        }),
    );
    spawn(
        "a yielder",
        Box::new(|| {
            loop {
                thread::yield_now()
            }
        }),
    );
    spawn(
        "a joiner",
        Box::new(|| drop(thread::spawn(|| thread::sleep(FOR_EVER)).join())),
    );
    spawn("an acceptor", Box::new(move || drop(listener.accept())));
    spawn(
        "a reader",
        Box::new(move || drop((near.read(&mut [0; 8]), far))),
    );
    spawn(
        "a writer",
        Box::new(move || drop((loop_writing(&mut writer), quiet))),
    );
    spawn(
        "a joiner of a set",
        Box::new(|| {
            let mut set = JoinSet::new();
            set.spawn(|| thread::sleep(FOR_EVER));
            set.join_next();
        }),
    );
    spawn(
        "one that waits for a scope",
        Box::new(|| {
            thread::scope(|s| drop(s.spawn(|| thread::sleep(FOR_EVER))));
        }),
    );
    spawn(
        "a time-out",
        Box::new(|| timeout(FOR_EVER, || thread::sleep(FOR_EVER)).unwrap()),
    );
    let count = waiting.len();
    wait_until(|| began.load(SeqCst) == count);
    waiting
}

fn loop_writing(stream: &mut TcpStream) {
    while stream.write(&[0; 65_536]).is_ok() {}
}

#[test]
fn whoever_waits_unwinds_and_drops_what_it_owns() {
    on_one_and_two(|_| {
        let owned = Arc::new(());
        for (name, handle) in spawn_waiting(&owned) {
            handle.cancel();
            let cancelled = cancelled(handle.join());
            assert!(
                cancelled.location().is_some_and(|at| at.file() == file!()),
                "{name}"
            );
        }
        assert_eq!(Arc::strong_count(&owned), 1);
    });
}

#[test]
fn a_join_tells_who_asked_first() {
    on_one_and_two(|_| {
        let handle = thread::spawn(|| thread::sleep(FOR_EVER));
        let line = line!() + 1;
        handle.cancel();
        handle.cancel();
        let cancelled = cancelled(handle.join());
        let at = cancelled
            .location()
            .expect("it was not the end of the runtime");
        assert_eq!((at.file(), at.line()), (file!(), line));
        assert_eq!(
            cancelled.to_string(),
            format!("the green thread was cancelled at {at}")
        );
    });
}

#[test]
fn cancelled_before_the_first_run_the_closure_is_dropped_unrun() {
    on_workers(1, || {
        let owned = Arc::new(());
        let kept = owned.clone();
        let handle = thread::spawn(move || drop(kept));
        let kept = owned.clone();
        let local = thread::spawn_local(move || drop(kept));
        handle.cancel();
        local.cancel();
        assert!(!handle.is_finished());
        cancelled(handle.join());
        cancelled(local.join());
        assert_eq!(Arc::strong_count(&owned), 1);
    });
}

#[test]
fn cancelled_while_it_starts_a_thread_runs_or_is_dropped_unrun() {
    on_workers(2, || {
        let owned = Arc::new(AtomicUsize::new(0));
        let mut returned = 0;
        for round in 0..5_000 {
            let kept = owned.clone();
            let handle = thread::spawn(move || kept.fetch_add(1, SeqCst));
            for _ in 0..round % 300 * 10 {
                std::hint::spin_loop();
            }
            handle.cancel();
            match handle.join() {
                Ok(_) => returned += 1,
                Err(payload) => assert!(payload.is::<Cancelled>()),
            }
            assert_eq!(Arc::strong_count(&owned), 1);
            assert_eq!(owned.load(SeqCst), returned);
        }
    });
}

#[test]
fn a_panic_in_the_destructor_of_a_closure_dropped_unrun_is_the_result() {
    on_one_and_two(|_| {
        let bomb = OnDrop(|| panic!("dropped"));
        let handle = thread::spawn_local(move || drop(bomb));
        handle.cancel();
        assert!(handle.join().unwrap_err().is::<&str>());
    });
}

#[test]
fn cancelling_one_that_has_ended_does_nothing() {
    on_one_and_two(|_| {
        let handle = thread::spawn(|| 7);
        wait_until(|| handle.is_finished());
        handle.cancel();
        assert_eq!(handle.join().unwrap(), 7);
    });
}

#[test]
fn a_late_cancellation_does_not_reach_the_next_tenant_of_the_slot() {
    on_one_and_two(|_| {
        for _ in 0..200 {
            let (began, go) = (AtomicBool::new(false), AtomicBool::new(false));
            thread::scope(|s| {
                let first = s.spawn(|| ());
                wait_until(|| first.is_finished());
                let second = s.spawn(|| {
                    began.store(true, SeqCst);
                    wait_until(|| go.load(SeqCst));
                    thread::sleep(Duration::from_micros(10));
                    7
                });
                wait_until(|| began.load(SeqCst));
                first.cancel();
                std::thread::scope(|os| drop(os.spawn(|| first.cancel())));
                go.store(true, SeqCst);
                assert_eq!(second.join().unwrap(), 7);
            });
        }
    });
}

#[test]
fn a_thread_may_cancel_itself() {
    on_one_and_two(|_| {
        let (send, receive) = mpsc::channel::<JoinHandle<()>>();
        let (tell, told) = mpsc::channel();
        let handle = thread::spawn(move || {
            let me = loop {
                match receive.try_recv() {
                    Ok(me) => break me,
                    Err(_) => thread::yield_now(),
                }
            };
            let _dropped = OnDrop(|| tell.send("unwound").unwrap());
            assert!(!is_cancelled());
            me.cancel();
            assert!(is_cancelled());
            tell.send("still here").unwrap();
            thread::yield_now();
        });
        send.send(handle).unwrap();
        let next = || loop {
            match told.try_recv() {
                Ok(word) => break word,
                Err(_) => thread::yield_now(),
            }
        };
        assert_eq!((next(), next()), ("still here", "unwound"));
    });
}

#[test]
fn an_os_thread_cancels_green_threads_that_wait() {
    on_one_and_two(|_| {
        let owned = Arc::new(());
        let waiting = spawn_waiting(&owned);
        let waiting = std::thread::spawn(move || {
            waiting.iter().for_each(|(_, handle)| handle.cancel());
            waiting
        });
        for (_, handle) in waiting.join().unwrap() {
            cancelled(handle.join());
        }
        assert_eq!(Arc::strong_count(&owned), 1);
    });
}

#[test]
fn no_cancellation_is_lost_however_closely_it_races() {
    on_one_and_two(|_| {
        const ROUNDS: usize = 3_000;
        let waits: [fn(); 5] = [
            || thread::sleep(FOR_EVER),
            || loop {
                thread::park()
            },
            || loop {
                thread::yield_now()
            },
            || timeout(FOR_EVER, thread::park).unwrap(),
            || loop {
                thread::sleep(Duration::from_micros(1))
            },
        ];
        let (give, take) = mpsc::channel::<JoinHandle<()>>();
        let canceller = std::thread::spawn(move || {
            for (round, handle) in take.into_iter().enumerate() {
                for _ in 0..round % 100 * 5 {
                    std::hint::spin_loop();
                }
                handle.cancel();
                cancelled(handle.join());
            }
        });
        for round in 0..ROUNDS {
            let handle = thread::spawn(waits[round % waits.len()]);
            if round % 2 == 0 {
                give.send(handle).unwrap();
            } else {
                // From this worker; the thread is here, or on the other one.
                (0..round % 3).for_each(|_| thread::yield_now());
                handle.cancel();
                cancelled(handle.join());
            }
        }
        drop(give);
        wait_until(|| canceller.is_finished());
        canceller.join().unwrap();
    });
}

#[test]
fn of_many_who_cancel_at_once_each_counts_once() {
    on_workers(2, || {
        for _ in 0..200 {
            let unwound = Arc::new(AtomicUsize::new(0));
            let count = unwound.clone();
            let handle = thread::spawn(move || {
                let _count = OnDrop(move || _ = count.fetch_add(1, SeqCst));
                thread::sleep(FOR_EVER);
            });
            std::thread::scope(|os| {
                for _ in 0..3 {
                    os.spawn(|| handle.cancel());
                }
                handle.cancel();
            });
            cancelled(handle.join());
            assert!(unwound.load(SeqCst) <= 1);
        }
    });
}

#[test]
fn one_that_computes_sees_that_it_is_cancelled() {
    on_workers(2, || {
        let began = Arc::new(AtomicBool::new(false));
        let tell = began.clone();
        let handle = thread::spawn(move || {
            tell.store(true, SeqCst);
            while !is_cancelled() {
                std::hint::spin_loop();
            }
            thread::yield_now();
            unreachable!("who is cancelled does not pass a cancel point");
        });
        // Keeps this worker, so that the other one takes it.
        while !began.load(SeqCst) {
            std::hint::spin_loop();
        }
        std::thread::scope(|os| drop(os.spawn(|| handle.cancel())));
        cancelled(handle.join());
    });
    on_green_and_os(|| {
        let late = timeout(SHORTLY, || {
            while !is_cancelled() {
                std::hint::spin_loop();
            }
            thread::park_timeout(Duration::ZERO);
        });
        assert_eq!(late.map_err(|_| ()), Err(()));
    });
}

// Cancelled means that it did not happen; what has happened counts.

#[test]
fn cancel_after_wake_still_succeeds_and_the_next_cancel_point_delivers() {
    on_workers(1, || {
        let log = Arc::new(Mutex::new(Vec::new()));
        let parked = log.clone();
        let handle = begun(move || {
            thread::park();
            parked.lock().unwrap().push("woken");
            thread::park_timeout(Duration::ZERO);
            parked.lock().unwrap().push("passed a cancel point");
        });
        handle.thread().unpark();
        handle.cancel();
        cancelled(handle.join());
        assert_eq!(*log.lock().unwrap(), ["woken"]);
    });
}

#[test]
fn a_joiner_cancelled_with_its_result_at_hand_gets_it() {
    on_workers(1, || {
        let joined = begun(|| {
            thread::park();
            7
        });
        let unpark = joined.thread().clone();
        let result = Arc::new(AtomicUsize::new(0));
        let tell = result.clone();
        let joiner = begun(move || {
            tell.store(joined.join().unwrap(), SeqCst);
            thread::yield_now();
            tell.store(0, SeqCst);
        });
        unpark.unpark();
        // `joined` ends, and the joiner is woken, but does not run before this thread does.
        thread::yield_now();
        joiner.cancel();
        cancelled(joiner.join());
        assert_eq!(result.load(SeqCst), 7);
    });
}

#[test]
fn a_token_that_comes_as_its_park_is_cancelled_stays() {
    on_green_and_os(|| {
        let me = thread::current();
        // The token comes between the end of the wait and its cancellation, which the deadline has
        // brought about.
        let (ask, asked) = mpsc::channel::<Instant>();
        let helper = std::thread::spawn(move || {
            for at in asked {
                while Instant::now() < at {
                    std::hint::spin_loop();
                }
                me.unpark();
            }
        });
        for round in 0..2_000 {
            let wait = Duration::from_micros(60);
            let at = Instant::now() + wait;
            // From a little too early to a little too late.
            ask.send(at + Duration::from_nanos(round % 100 * 600))
                .unwrap();
            if timeout_at(at, thread::park).is_err() {
                // It has not happened, so the token is still to come or there.
                thread::park();
            }
        }
        drop(ask);
        helper.join().unwrap();
    });
}

#[test]
fn no_byte_and_no_connection_is_lost_when_time_outs_race_with_them() {
    on_one_and_two(|_| {
        const COUNT: usize = 300;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            for round in 0..COUNT {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                for byte in 0..10 {
                    stream.write_all(&[(round + byte) as u8]).unwrap();
                    std::thread::sleep(Duration::from_micros((round % 7 * 10) as u64));
                }
            }
        });
        let mut round = 0;
        let mut limit = || {
            round += 1;
            Duration::from_micros(round % 8 * 25)
        };
        for round in 0..COUNT {
            let mut stream = loop {
                if let Ok(accepted) = timeout(limit(), || listener.accept()) {
                    break accepted.unwrap().0;
                }
            };
            let mut received = Vec::new();
            let mut buffer = [0; 4];
            loop {
                match timeout(limit(), || stream.read(&mut buffer)) {
                    Ok(read) if read.as_ref().is_ok_and(|&n| n == 0) => break,
                    Ok(read) => received.extend_from_slice(&buffer[..read.unwrap()]),
                    Err(Elapsed { .. }) => {}
                }
            }
            assert_eq!(
                received,
                (0..10).map(|byte| (round + byte) as u8).collect::<Vec<_>>()
            );
        }
        client.join().unwrap();
    });
}

// Delivery.

#[test]
fn a_swallowed_cancellation_is_raised_again_and_others_run_in_between() {
    on_workers(1, || {
        let turns = Arc::new(AtomicUsize::new(0));
        let count = turns.clone();
        let neighbour = thread::spawn(move || {
            loop {
                count.fetch_add(1, SeqCst);
                thread::yield_now();
            }
        });
        let seen = turns.clone();
        let handle = begun(move || {
            assert!(caught(|| thread::sleep(FOR_EVER)).is_err());
            for _ in 0..10 {
                let before = seen.load(SeqCst);
                assert!(caught(|| thread::sleep(FOR_EVER)).is_err());
                assert!(seen.load(SeqCst) > before, "the neighbour has had its turn");
            }
            thread::park();
        });
        wait_until(|| turns.load(SeqCst) > 0);
        handle.cancel();
        cancelled(handle.join());
        neighbour.cancel();
        cancelled(neighbour.join());
    });
}

#[test]
fn a_loop_that_swallows_its_cancellation_lets_the_others_run_even_if_it_shields_in_between() {
    on_workers(1, || {
        let stop = Arc::new(AtomicBool::new(false));
        let look = stop.clone();
        let handle = begun(move || {
            while !look.load(SeqCst) {
                let _ = caught(|| {
                    // A time-out that ends behind a shield does not make the cancellation a new
                    // one.
                    let _farewell = OnDrop(|| shield(|| timeout(FOR_EVER, || ()).unwrap()));
                    thread::sleep(FOR_EVER);
                });
            }
            thread::sleep(FOR_EVER);
        });
        handle.cancel();
        // Each time it is resumed it runs into its cancellation.
        (0..100).for_each(|_| thread::yield_now());
        stop.store(true, SeqCst);
        cancelled(handle.join());
    });
}

#[test]
fn every_cancel_point_of_a_cancelled_scope_raises_until_it_is_left() {
    on_green_and_os(|| {
        let raised = Cell::new(0);
        let late = timeout(Duration::ZERO, || {
            let points: [fn(); 5] = [
                || thread::sleep(SHORTLY),
                thread::park,
                thread::yield_now,
                || thread::sleep(Duration::ZERO),
                || timeout(FOR_EVER, thread::park).unwrap(),
            ];
            for _ in 0..3 {
                for point in points {
                    raised.set(raised.get() + usize::from(caught(point).is_err()));
                }
            }
            thread::park();
        });
        assert!(late.is_err());
        assert_eq!(raised.get(), 15);
        let start = Instant::now();
        thread::sleep(SHORTLY);
        assert!(start.elapsed() >= SHORTLY, "outside it waits as ever");
        assert!(!is_cancelled());
    });
}

#[test]
fn a_cancelled_join_of_a_set_and_of_a_scope_raises_too() {
    on_one_and_two(|_| {
        let mut set = JoinSet::new();
        set.spawn(|| thread::sleep(FOR_EVER));
        assert!(timeout(SHORTLY, || set.join_next()).is_err());
        assert_eq!(set.len(), 1);
        let handle = thread::spawn(|| thread::sleep(FOR_EVER));
        let thread = handle.thread().clone();
        assert!(timeout(SHORTLY, || handle.join()).is_err());
        thread.unpark();
    });
}

#[test]
fn who_unwinds_does_not_linger_in_its_destructors() {
    on_one_and_two(|_| {
        let (mut near, mut far) = connection();
        let (listener, count) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            Arc::new(AtomicUsize::new(0)),
        );
        let tell = count.clone();
        let handle = begun(move || {
            let _destructor = OnDrop(|| {
                let errors = [
                    near.read(&mut [0]).unwrap_err(),
                    listener.accept().map(drop).unwrap_err(),
                ];
                assert!(
                    errors
                        .iter()
                        .all(|error| error.kind() != ErrorKind::Interrupted)
                );
                // Std's loops end at such an error.
                assert!(near.read_to_end(&mut Vec::new()).is_err());
                thread::sleep(FOR_EVER);
                thread::park();
                thread::yield_now();
                assert!(
                    timeout(FOR_EVER, || thread::sleep(FOR_EVER)).is_ok(),
                    "a sleep returns at once"
                );
                tell.fetch_add(1, SeqCst);
            });
            thread::sleep(FOR_EVER);
        });
        handle.cancel();
        cancelled(handle.join());
        assert_eq!(count.load(SeqCst), 1);
        drop(far.write(&[0]));
    });
}

#[test]
fn who_unwinds_still_waits_where_it_cannot_fail() {
    on_one_and_two(|_| {
        let began = Arc::new(AtomicBool::new(false));
        let joined = Arc::new(AtomicBool::new(false));
        let (tell, done) = (began.clone(), joined.clone());
        let handle = thread::spawn(move || {
            let mut other = Some(thread::spawn(|| shield(|| thread::sleep(SHORTLY * 10))));
            let _destructor = OnDrop(|| {
                other.take().unwrap().join().unwrap();
                done.store(true, SeqCst);
            });
            tell.store(true, SeqCst);
            thread::sleep(FOR_EVER);
        });
        wait_until(|| began.load(SeqCst));
        handle.cancel();
        cancelled(handle.join());
        assert!(joined.load(SeqCst));
    });
}

// Shields.

#[test]
fn a_shield_puts_a_cancellation_off_and_the_next_cancel_point_delivers_it() {
    on_one_and_two(|_| {
        let (step, steps) = (Arc::new(AtomicUsize::new(0)), 3);
        let at = step.clone();
        let handle = thread::spawn(move || {
            shield(|| {
                at.store(1, SeqCst);
                while at.load(SeqCst) < 2 {
                    thread::yield_now();
                }
                assert!(!is_cancelled());
                thread::sleep(SHORTLY);
                thread::park_timeout(SHORTLY);
                assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
                at.store(steps, SeqCst);
            });
            assert!(is_cancelled());
            thread::yield_now();
            at.store(0, SeqCst);
        });
        wait_until(|| step.load(SeqCst) == 1);
        handle.cancel();
        step.store(2, SeqCst);
        cancelled(handle.join());
        assert_eq!(step.load(SeqCst), steps);
    });
}

#[test]
fn a_parked_shield_is_not_woken_by_a_cancellation() {
    on_one_and_two(|_| {
        let began = Arc::new(AtomicBool::new(false));
        let tell = began.clone();
        let handle = thread::spawn(move || {
            let start = Instant::now();
            shield(|| {
                tell.store(true, SeqCst);
                thread::sleep(SHORTLY * 10);
            });
            start.elapsed()
        });
        wait_until(|| began.load(SeqCst));
        handle.cancel();
        assert!(
            handle.join().unwrap() >= SHORTLY * 10,
            "no cancel point came after it"
        );
    });
}

#[test]
fn a_shielded_thread_is_not_orphaned() {
    // asyncio's shield returns to who was cancelled and leaves the task behind; ours returns when
    // it is done.
    on_one_and_two(|_| {
        let done = Arc::new(AtomicBool::new(false));
        let tell = done.clone();
        let late = timeout(SHORTLY, || {
            shield(|| {
                let worker = thread::spawn(move || {
                    thread::sleep(SHORTLY * 5);
                    tell.store(true, SeqCst);
                });
                worker.join().unwrap();
            });
            assert!(done.load(SeqCst));
            thread::yield_now();
        });
        assert!(late.is_err() && done.load(SeqCst));
    });
}

#[test]
fn a_shield_works_in_a_destructor_of_a_cancelled_thread() {
    on_one_and_two(|_| {
        let began = Arc::new(AtomicBool::new(false));
        let tell = began.clone();
        let said = Arc::new(Mutex::new(None));
        let say = said.clone();
        let handle = thread::spawn(move || {
            let _farewell = OnDrop(|| {
                let waited = shield(|| {
                    let start = Instant::now();
                    thread::sleep(SHORTLY);
                    start.elapsed()
                });
                *say.lock().unwrap() = Some(waited);
            });
            tell.store(true, SeqCst);
            thread::sleep(FOR_EVER);
        });
        wait_until(|| began.load(SeqCst));
        handle.cancel();
        cancelled(handle.join());
        assert!(said.lock().unwrap().unwrap() >= SHORTLY);
    });
}

#[test]
fn inside_a_shield_time_outs_work() {
    on_green_and_os(|| {
        let late = timeout(Duration::ZERO, || {
            shield(|| {
                assert!(timeout(SHORTLY, || thread::sleep(FOR_EVER)).is_err());
                assert!(timeout(FOR_EVER, || thread::sleep(SHORTLY)).is_ok());
                thread::sleep(SHORTLY);
            });
            thread::yield_now();
        });
        assert!(late.is_err());
    });
}

#[test]
fn the_end_of_the_runtime_waits_for_a_shield() {
    for workers in [1, 2] {
        let done = Arc::new(AtomicBool::new(false));
        let (tell, began) = (done.clone(), Arc::new(AtomicBool::new(false)));
        on_workers(workers, || {
            let inside = began.clone();
            thread::spawn(move || {
                shield(|| {
                    inside.store(true, SeqCst);
                    thread::sleep(SHORTLY * 10);
                    tell.store(true, SeqCst);
                });
                thread::yield_now();
                tell.store(false, SeqCst);
            });
            wait_until(|| began.load(SeqCst));
        });
        assert!(done.load(SeqCst));
    }
}

// Time-outs.

#[test]
fn of_nested_time_outs_the_nearest_comes_first() {
    on_green_and_os(|| {
        let outer = timeout(FOR_EVER, || {
            assert!(timeout(SHORTLY, || thread::sleep(FOR_EVER)).is_err());
            7
        });
        assert_eq!(outer.unwrap(), 7);
        let outer = timeout(SHORTLY, || {
            timeout(FOR_EVER, || thread::sleep(FOR_EVER)).unwrap();
            unreachable!("the inner one does not catch what the outer one has cancelled");
        });
        assert!(outer.is_err());
        let at = Instant::now() + SHORTLY;
        let outer = timeout_at(at, || {
            let _ = timeout_at(at, || thread::sleep(FOR_EVER));
            unreachable!("of equal ones the outer one catches");
        });
        assert!(outer.is_err());
    });
}

#[test]
fn time_outs_nest_as_deeply_as_you_like() {
    fn nest(depth: usize) -> usize {
        match depth {
            0 => loop {
                thread::sleep(FOR_EVER);
            },
            _ => timeout(FOR_EVER, || nest(depth - 1)).unwrap_or(depth),
        }
    }
    let config = Config::default().workers(1).stack_size(4 << 20);
    bounded(|| {
        Runtime::new(config).unwrap().run(|| {
            assert!(timeout(SHORTLY, || nest(100)).is_err());
            assert!(!is_cancelled() && thread::deadline().is_none());
        });
    });
}

#[test]
fn what_comes_late_without_a_cancel_point_counts() {
    on_green_and_os(|| {
        let value = timeout(Duration::ZERO, || {
            let start = Instant::now();
            while start.elapsed() < SHORTLY {}
            7
        });
        assert_eq!(value, Ok(7));
        let swallowed = timeout(SHORTLY, || caught(|| thread::sleep(FOR_EVER)).is_err());
        assert_eq!(swallowed, Ok(true));
        assert!(!is_cancelled());
    });
}

#[test]
fn a_loop_of_yields_is_timed_out() {
    on_green_and_os(|| {
        assert!(
            timeout(SHORTLY, || loop {
                thread::yield_now()
            })
            .is_err()
        );
    });
}

#[test]
fn a_time_out_of_zero_and_a_deadline_in_the_past_cancel_at_the_first_cancel_point() {
    on_green_and_os(|| {
        let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        for points in [|| thread::sleep(FOR_EVER), thread::park, thread::yield_now] {
            assert!(timeout(Duration::ZERO, points).is_err());
            assert!(timeout_at(past, points).is_err());
        }
        assert_eq!(timeout(Duration::ZERO, || 7), Ok(7));
        assert_eq!(timeout_at(past, || 7), Ok(7));
    });
}

#[test]
fn a_time_out_too_long_to_be_said_never_comes() {
    on_green_and_os(|| {
        for never in [
            Duration::MAX,
            Duration::from_secs(u64::MAX / 4),
            Duration::from_secs(1 << 40),
        ] {
            assert_eq!(timeout(never, || thread::sleep(SHORTLY)), Ok(()));
            assert_eq!(
                timeout(SHORTLY, || timeout(never, || thread::sleep(never)).is_ok())
                    .map_err(|_| ()),
                Err(())
            );
        }
        assert!(timeout(Duration::MAX, || thread::deadline().is_none()).unwrap());
    });
}

#[test]
fn on_an_os_thread_every_wait_is_timed_out() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let runtime = std::thread::spawn(move || {
            on_workers(1, || {
                tell.send(thread::spawn(|| thread::sleep(FOR_EVER)))
                    .unwrap();
                while ended.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                    thread::sleep(SHORTLY);
                }
            });
        });
        let sleeper = told.recv().unwrap();
        let thread = sleeper.thread().clone();
        assert!(timeout(SHORTLY, || sleeper.join()).is_err());
        thread.unpark();
        assert!(timeout(SHORTLY, || thread::sleep(FOR_EVER)).is_err());
        assert!(
            timeout(SHORTLY, || loop {
                thread::park()
            })
            .is_err()
        );
        assert!(
            timeout(SHORTLY, || loop {
                thread::park_timeout(FOR_EVER)
            })
            .is_err()
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(timeout(SHORTLY, || listener.accept()).is_err());
        let (mut near, mut far) = connection();
        assert!(timeout(SHORTLY, || near.read(&mut [0; 8])).is_err());
        assert!(timeout(SHORTLY, || loop_writing(&mut near)).is_err());
        far.set_read_timeout(Some(FOR_EVER)).unwrap();
        near.set_read_timeout(Some(SHORTLY)).unwrap();
        let error = timeout(FOR_EVER, || near.read(&mut [0; 8]))
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        far.write_all(b"here").unwrap();
        assert_eq!(
            timeout(FOR_EVER, || near.read(&mut [0; 8]))
                .unwrap()
                .unwrap(),
            4
        );
        drop(end);
        runtime.join().unwrap();
    });
}

#[test]
fn a_time_out_of_an_operation_is_its_error_and_one_around_it_is_elapsed() {
    on_one_and_two(|_| {
        let (mut near, _far) = connection();
        near.set_read_timeout(Some(SHORTLY)).unwrap();
        let own = timeout(FOR_EVER, || near.read(&mut [0; 8]));
        assert_eq!(own.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        near.set_read_timeout(Some(FOR_EVER)).unwrap();
        assert!(timeout(SHORTLY, || near.read(&mut [0; 8])).is_err());
        assert!(timeout(FOR_EVER, || thread::park_timeout(SHORTLY)).is_ok());
        assert!(timeout(SHORTLY, || thread::park_timeout(FOR_EVER)).is_err());
    });
}

#[test]
fn elapsed_is_an_io_error_that_timed_out() {
    let late: std::io::Error =
        bounded(|| timeout(Duration::ZERO, thread::park).unwrap_err().into());
    assert_eq!(
        (late.kind(), late.to_string().as_str()),
        (ErrorKind::TimedOut, "the deadline has elapsed")
    );
}

#[test]
fn a_panic_goes_through_a_time_out_and_a_shield() {
    on_green_and_os(|| {
        for late in [false, true] {
            let result = caught(|| {
                timeout(Duration::ZERO, || {
                    shield(|| {
                        if late {
                            thread::sleep(SHORTLY);
                        }
                        panic::resume_unwind(Box::new("mine"))
                    })
                })
            });
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&"mine"));
            assert!(!is_cancelled() && thread::deadline().is_none());
        }
        let replaced = caught(|| {
            timeout(Duration::ZERO, || {
                let _ = caught(thread::park);
                panic::resume_unwind(Box::new("instead"))
            })
        });
        assert_eq!(replaced.unwrap_err().downcast_ref(), Some(&"instead"));
        thread::sleep(Duration::ZERO);
    });
}

#[test]
fn in_a_destructor_that_runs_because_of_a_panic_waits_end_when_time_is_up() {
    on_green_and_os(|| {
        let result = caught(|| {
            let _destructor = OnDrop(|| {
                assert!(
                    timeout(SHORTLY, || thread::sleep(FOR_EVER)).is_ok(),
                    "nothing can unwind once more"
                );
                assert!(timeout(SHORTLY, thread::park).is_ok());
                assert!(
                    timeout(Duration::ZERO, || (0..10).for_each(|_| thread::yield_now())).is_ok()
                );
            });
            panic::resume_unwind(Box::new(()));
        });
        assert!(result.is_err());
        assert!(timeout(SHORTLY, || thread::sleep(FOR_EVER)).is_err());
    });
}

#[test]
fn in_a_destructor_that_runs_because_of_a_panic_a_join_outlasts_its_time_out() {
    on_one_and_two(|_| {
        let result = caught(|| {
            let _destructor = OnDrop(|| {
                let slow = thread::spawn(|| thread::sleep(SHORTLY * 5));
                assert!(timeout(SHORTLY, || slow.join()).unwrap().is_ok());
            });
            panic::resume_unwind(Box::new(()));
        });
        assert!(result.is_err());
    });
}

#[test]
fn the_nearest_deadline_is_told() {
    on_green_and_os(|| {
        let (near, far) = (Instant::now() + FOR_EVER, Instant::now() + 2 * FOR_EVER);
        assert_eq!(thread::deadline(), None);
        timeout_at(far, || {
            assert_eq!(thread::deadline(), Some(far));
            timeout_at(near, || {
                assert_eq!(thread::deadline(), Some(near));
                timeout_at(far, || assert_eq!(thread::deadline(), Some(near))).unwrap();
                shield(|| {
                    assert_eq!(thread::deadline(), None);
                    timeout_at(far, || assert_eq!(thread::deadline(), Some(far))).unwrap();
                });
            })
            .unwrap();
            assert_eq!(thread::deadline(), Some(far));
        })
        .unwrap();
        assert_eq!(thread::deadline(), None);
    });
}

#[test]
fn a_time_out_leaves_no_timer_behind() {
    on_green_and_os(|| {
        for _ in 0..100 {
            timeout(Duration::from_micros(300), || {
                thread::park_timeout(Duration::from_micros(1))
            })
            .ok();
        }
        let start = Instant::now();
        thread::sleep(SHORTLY);
        thread::park_timeout(SHORTLY);
        assert!(start.elapsed() >= 2 * SHORTLY);
    });
}

#[test]
fn cancelling_a_thread_unwinds_it_through_its_time_outs() {
    on_one_and_two(|_| {
        let passed = Arc::new(AtomicUsize::new(0));
        let count = passed.clone();
        let handle = begun(move || {
            let _ = timeout(FOR_EVER, || {
                let _counted = OnDrop(|| _ = count.fetch_add(1, SeqCst));
                let _ = timeout(FOR_EVER, || thread::sleep(FOR_EVER));
                count.fetch_add(10, SeqCst);
            });
            count.fetch_add(10, SeqCst);
        });
        handle.cancel();
        cancelled(handle.join());
        assert_eq!(passed.load(SeqCst), 1);
    });
}

#[test]
fn a_yield_inside_of_a_time_out_of_the_body_is_a_clear_panic_and_the_scope_is_left() {
    let refused = || {
        let mut generator = Generator::<(), (), ()>::new(|y, ()| {
            timeout(FOR_EVER, || y.yield_(())).ok();
        });
        let panic = caught(|| generator.resume(())).map(drop).unwrap_err();
        assert!(panic.downcast_ref::<&str>().unwrap().contains("PEP 789"));
        assert_eq!(thread::deadline(), None);
    };
    on_workers(1, refused);
    refused();
}

// A sanitizer keeps what was freed.
#[cfg(all(target_os = "linux", not(hebra_sanitizer)))]
#[test]
fn time_outs_on_an_os_thread_leave_no_memory_behind() {
    use support::{child, is_child, stderr};
    if !is_child() {
        let output = child("time_outs_on_an_os_thread_leave_no_memory_behind", &[]);
        return assert!(output.status.success(), "{}", stderr(&output));
    }
    let resident = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let many = || (0..100_000).for_each(|_| timeout(FOR_EVER, || ()).unwrap());
    many();
    let before = resident();
    many();
    assert!(resident() < before + 100, "no more than a few pages");
}

#[test]
fn cancelled_threads_by_the_thousand_all_end() {
    on_one_and_two(|_| {
        let owned = Arc::new(AtomicUsize::new(0));
        let sleepers: Vec<_> = (0..5_000)
            .map(|_| {
                let owned = owned.clone();
                thread::spawn(move || {
                    owned.fetch_add(1, SeqCst);
                    thread::sleep(FOR_EVER);
                    drop(owned);
                })
            })
            .collect();
        wait_until(|| owned.load(SeqCst) == sleepers.len());
        sleepers.iter().for_each(JoinHandle::cancel);
        sleepers
            .into_iter()
            .for_each(|sleeper| _ = cancelled(sleeper.join()));
        assert_eq!(Arc::strong_count(&owned), 1);
    });
}

#[test]
fn a_time_out_around_run_reaches_inside_and_ends_everything() {
    for workers in [1, 2] {
        let runtime = Runtime::new(Config::default().workers(workers)).unwrap();
        let present = Arc::new(AtomicUsize::new(0));
        let late = bounded(|| {
            timeout(SHORTLY, || {
                runtime.run(|| {
                    assert!(thread::deadline().is_some());
                    for _ in 0..3 {
                        let present = present.clone();
                        thread::spawn(move || {
                            present.fetch_add(1, SeqCst);
                            let _gone = OnDrop(|| _ = present.fetch_sub(1, SeqCst));
                            thread::sleep(FOR_EVER);
                        });
                    }
                    thread::sleep(FOR_EVER);
                })
            })
        });
        assert!(late.is_err());
        assert_eq!(present.load(SeqCst), 0);
        assert!(!is_cancelled(), "it is over");
        // It can be used again, and what comes late counts.
        let value = bounded(|| {
            timeout(Duration::ZERO, || {
                runtime.run(|| shield(|| thread::sleep(SHORTLY)))
            })
        });
        assert_eq!(value, Ok(()));
        let shielded = bounded(|| timeout(SHORTLY, || shield(|| runtime.run(thread::deadline))));
        assert_eq!(shielded, Ok(None));
    }
}

#[test]
fn a_time_out_around_run_in_a_destructor_of_an_unwinding_thread_is_none_for_what_runs() {
    let ran = Cell::new(false);
    let unwound = caught(|| {
        let _runs = OnDrop(|| {
            let value = timeout(Duration::ZERO, || {
                Runtime::new(Config::default().workers(1))
                    .unwrap()
                    .run(|| thread::sleep(SHORTLY))
            });
            ran.set(value.is_ok());
        });
        panic::resume_unwind(Box::new(()));
    });
    assert!(unwound.is_err() && ran.get());
}
