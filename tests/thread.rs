//! `hebra::thread` is `std::thread`, for green threads: what each call promises, on one worker, on
//! two, and from OS threads.

#![cfg(feature = "runtime")]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use hebra::thread::{self, Builder, Cancelled, JoinHandle, Thread, ThreadId};
use hebra::{Config, Runtime};

use support::{bounded, child, is_child, on_workers, passes_in_child};

mod support;

/// Runs a test body on a runtime with one worker, and on one with two.
fn on_one_and_two(body: impl Fn(usize)) {
    for workers in [1, 2] {
        on_workers(workers, || body(workers));
    }
}

/// What `f` panics with.
fn panic_of<T>(f: impl FnOnce() -> T) -> Box<dyn Any + Send> {
    panic::catch_unwind(AssertUnwindSafe(f))
        .err()
        .expect("it panics")
}

/// The text of a panic.
fn text(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .expect("the payload is a text")
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// Spawning and joining

#[test]
fn join_returns_what_the_closure_returned() {
    on_one_and_two(|_| {
        assert_eq!(
            thread::spawn(|| String::from("value")).join().unwrap(),
            "value"
        );
        let threads: Vec<_> = (0..1000_u64)
            .map(|n| thread::spawn(move || n * n))
            .collect();
        let sum: u64 = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        assert_eq!(sum, (0..1000).map(|n| n * n).sum());
    });
}

#[test]
fn threads_spawn_threads() {
    fn tree(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let [left, right] = [(); 2].map(|()| thread::spawn(move || tree(depth - 1)));
        left.join().unwrap() + right.join().unwrap()
    }
    on_one_and_two(|_| assert_eq!(tree(10), 1024));
}

#[test]
fn on_one_worker_threads_start_in_the_order_of_their_spawning_after_the_spawner_gives_way() {
    on_workers(1, || {
        let started = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (0..200)
            .map(|n| {
                let started = started.clone();
                thread::spawn(move || started.lock().unwrap().push(n))
            })
            .collect();
        assert!(started.lock().unwrap().is_empty());
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(started.lock().unwrap().iter().copied().eq(0..200));
    });
}

#[test]
fn spawn_local_takes_and_returns_what_is_not_send() {
    on_one_and_two(|_| {
        let shared = Rc::new(RefCell::new(Vec::new()));
        let here = std::thread::current().id();
        let threads: Vec<_> = (0..100)
            .map(|n| {
                let shared = shared.clone();
                thread::spawn_local(move || {
                    shared.borrow_mut().push(n);
                    thread::yield_now();
                    assert_eq!(std::thread::current().id(), here);
                    Rc::new(n)
                })
            })
            .collect();
        let results: Vec<Rc<i32>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert!(results.iter().map(|n| **n).eq(0..100));
        assert_eq!(shared.borrow().len(), 100);
        assert_eq!(Rc::strong_count(&shared), 1);
    });
}

#[test]
fn a_local_thread_of_a_spawned_thread_shares_its_os_thread() {
    on_one_and_two(|_| {
        let threads = [(); 20].map(|()| {
            thread::spawn(|| {
                let value = Rc::new(Cell::new(0));
                let other = value.clone();
                thread::spawn_local(move || other.set(7)).join().unwrap();
                value.get()
            })
        });
        assert!(
            threads
                .into_iter()
                .all(|thread| thread.join().unwrap() == 7)
        );
    });
}

#[test]
fn builder_names_the_thread_and_sizes_its_stack() {
    on_one_and_two(|_| {
        let body = || {
            let large = std::hint::black_box([1_u8; 3 << 20]);
            (
                thread::current().name().map(str::to_owned),
                large.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            )
        };
        let builder = || Builder::new().name("heron".into()).stack_size(8 << 20);
        for handle in [
            builder().spawn(body).unwrap(),
            builder().spawn_local(body).unwrap(),
        ] {
            assert_eq!(handle.thread().name(), Some("heron"));
            assert_eq!(handle.join().unwrap(), (Some("heron".into()), 3 << 20));
        }
        assert_eq!(
            Builder::new()
                .stack_size(0)
                .spawn(|| 5)
                .unwrap()
                .join()
                .unwrap(),
            5
        );
        assert_eq!(
            thread::spawn(|| thread::current().name().is_none())
                .thread()
                .name(),
            None
        );
    });
}

#[test]
fn an_absurd_stack_size_is_an_error_and_drops_the_closure() {
    on_one_and_two(|_| {
        let drops = Arc::new(AtomicUsize::new(0));
        for size in [usize::MAX, usize::MAX / 2, 1 << 50] {
            let (one, two) = (Counted(drops.clone()), Counted(drops.clone()));
            let error = Builder::new()
                .stack_size(size)
                .spawn(move || drop(one))
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&size.to_string()), "{error}");
            let error = Builder::new()
                .stack_size(size)
                .spawn_local(move || drop(two))
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(drops.load(SeqCst), 6);
    });
    let error = Runtime::new(Config::default().stack_size(usize::MAX)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_closure_that_spawn_refuses_may_park_in_its_destructor() {
    on_one_and_two(|_| {
        let woken = Arc::new(AtomicBool::new(false));
        let (set, root) = (woken.clone(), thread::current());
        let sleeps = OnDrop(move || {
            let root = root.clone();
            // Enough of them that whatever the scheduler keeps them in has to grow meanwhile.
            let threads: Vec<_> = (0..500)
                .map(|_| thread::spawn(|| thread::sleep(Duration::from_millis(1))))
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            thread::spawn(move || root.unpark());
            thread::park();
            set.store(true, SeqCst);
        });
        let refused = Builder::new()
            .stack_size(usize::MAX)
            .spawn_local(move || drop(sleeps));
        assert!(refused.is_err() && woken.load(SeqCst));
    });
}

#[test]
fn a_handle_knows_its_thread_and_whether_it_has_ended() {
    on_one_and_two(|_| {
        let go = Arc::new(AtomicBool::new(false));
        let wait = go.clone();
        let handle = Builder::new().name("wader".into()).spawn(move || {
            while !wait.load(SeqCst) {
                thread::park();
            }
            thread::current().id()
        });
        let handle = handle.unwrap();
        for _ in 0..100 {
            thread::yield_now();
            assert!(!handle.is_finished());
        }
        let debug = format!("{handle:?} {:?}", handle.thread());
        assert!(
            debug.starts_with("JoinHandle") && debug.matches("wader").count() == 1,
            "{debug}"
        );
        go.store(true, SeqCst);
        handle.thread().unpark();
        while !handle.is_finished() {
            thread::yield_now();
        }
        let id = handle.thread().id();
        assert_eq!(handle.join().unwrap(), id);
    });
}

#[test]
fn a_finished_panic_is_finished() {
    on_one_and_two(|_| {
        let handle = thread::spawn(|| panic::resume_unwind(Box::new(1)));
        while !handle.is_finished() {
            thread::yield_now();
        }
        assert!(handle.join().is_err());
    });
}

#[test]
fn spawn_outside_a_runtime_panics_and_says_so() {
    bounded(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = || Counted(drops.clone());
        let attempts: [Box<dyn FnOnce()>; 4] = [
            Box::new({
                let counted = counted();
                || drop(thread::spawn(move || drop(counted)))
            }),
            Box::new({
                let counted = counted();
                || drop(thread::spawn_local(move || drop(counted)))
            }),
            Box::new({
                let counted = counted();
                || drop(Builder::new().spawn(move || drop(counted)))
            }),
            Box::new({
                let counted = counted();
                || drop(Builder::new().spawn_local(move || drop(counted)))
            }),
        ];
        for attempt in attempts {
            let payload = panic_of(attempt);
            assert_eq!(
                text(&*payload),
                "a green thread was to be spawned outside a runtime; call this inside hebra::run, or on \
                 an OS thread and inside of unblock through Handle::spawn"
            );
        }
        assert_eq!(drops.load(SeqCst), 4);
        // An OS thread that a green thread has started is outside as well.
        let outside = || {
            std::thread::spawn(|| drop(thread::spawn(|| ())))
                .join()
                .is_err()
        };
        assert!(hebra::run(outside));
    });
}

// Who one is

#[test]
fn current_is_one_identity_for_life_and_its_name_in_the_root_is_main() {
    on_one_and_two(|_| {
        assert_eq!(thread::current().name(), Some("main"));
        let before = thread::current().id();
        thread::yield_now();
        thread::sleep(Duration::ZERO);
        assert_eq!(thread::current().id(), before);
        let handle = thread::spawn(|| {
            (
                thread::current().id(),
                thread::sleep(Duration::ZERO),
                thread::current().id(),
            )
        });
        let outside = handle.thread().id();
        let (first, (), second) = handle.join().unwrap();
        assert_eq!([first, second], [outside; 2]);
    });
}

#[test]
fn on_an_os_thread_current_is_that_os_thread() {
    bounded(|| {
        let here = std::thread::Builder::new().name("kelp".into()).spawn(|| {
            let (first, second) = (thread::current(), thread::current());
            assert_eq!(first.id(), second.id());
            assert!(!hebra::run(|| thread::current().id() == first.id()));
            assert_eq!(thread::current().id(), first.id());
            first.name().map(str::to_owned)
        });
        assert_eq!(here.unwrap().join().unwrap().as_deref(), Some("kelp"));
        assert_ne!(
            std::thread::spawn(|| thread::current().id())
                .join()
                .unwrap(),
            thread::current().id()
        );
    });
}

#[test]
fn ids_are_unique_and_never_reused() {
    bounded(|| {
        let mut all: Vec<ThreadId> = Vec::new();
        for workers in [1, 2] {
            all.extend(
                Runtime::new(Config::default().workers(workers))
                    .unwrap()
                    .run(|| {
                        let mut ids: Vec<_> = (0..200)
                            .map(|_| thread::spawn(|| thread::current().id()).join().unwrap())
                            .collect();
                        let threads: Vec<_> = (0..200)
                            .map(|_| thread::spawn(|| thread::current().id()))
                            .collect();
                        ids.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
                        ids.push(thread::current().id());
                        ids
                    }),
            );
        }
        all.extend([(); 10].map(|()| {
            std::thread::spawn(|| thread::current().id())
                .join()
                .unwrap()
        }));
        all.push(thread::current().id());
        let count = all.len();
        assert_eq!(HashSet::<ThreadId>::from_iter(all).len(), count);
    });
}

#[test]
fn available_parallelism_is_the_number_of_workers() {
    on_one_and_two(|workers| assert_eq!(thread::available_parallelism().unwrap().get(), workers));
    assert_eq!(
        thread::available_parallelism().unwrap(),
        std::thread::available_parallelism().unwrap()
    );
}

// Yielding

#[test]
fn yielding_threads_take_turns() {
    on_workers(1, || {
        let turns = Rc::new(RefCell::new(Vec::new()));
        let threads: Vec<_> = (0..100)
            .map(|n| {
                let turns = turns.clone();
                thread::spawn_local(move || {
                    for _ in 0..50 {
                        turns.borrow_mut().push(n);
                        thread::yield_now();
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let turns = turns.borrow();
        assert_eq!(turns.len(), 5000);
        // Nobody is overtaken: between two turns of one there is at most one turn of every other.
        for n in 0..100 {
            let at: Vec<usize> = (0..turns.len()).filter(|at| turns[*at] == n).collect();
            assert_eq!(at.len(), 50);
            for pair in at.windows(2) {
                let between: HashSet<_> = turns[pair[0] + 1..pair[1]].iter().collect();
                assert_eq!(between.len(), pair[1] - pair[0] - 1);
            }
        }
    });
}

#[test]
fn on_an_os_thread_yield_returns() {
    thread::yield_now();
}

// Parking

/// Where a test of `park` runs the one who parks.
fn parker<T: Send + 'static>(
    green: bool,
    f: impl FnOnce() -> T + Send + 'static,
) -> (Thread, Box<dyn FnOnce() -> T>) {
    if green {
        let handle = thread::spawn(f);
        (handle.thread().clone(), Box::new(|| handle.join().unwrap()))
    } else {
        let (tell, told) = mpsc::channel();
        let handle = std::thread::spawn(move || {
            tell.send(thread::current()).unwrap();
            f()
        });
        (told.recv().unwrap(), Box::new(|| handle.join().unwrap()))
    }
}

#[test]
fn a_token_that_is_there_lets_park_return_at_once_and_is_spent() {
    let body = || {
        let me = thread::current();
        me.unpark();
        thread::park();
        me.unpark();
        let start = Instant::now();
        thread::park_timeout(Duration::from_secs(3600));
        assert!(start.elapsed() < Duration::from_secs(1800));
        let start = Instant::now();
        thread::park_timeout(Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(5));
    };
    on_one_and_two(|_| thread::spawn(body).join().unwrap());
    bounded(|| std::thread::spawn(body).join().unwrap());
}

#[test]
fn two_unparks_leave_one_token() {
    let body = || {
        let me = thread::current();
        me.unpark();
        me.clone().unpark();
        thread::park();
        let start = Instant::now();
        thread::park_timeout(Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(5));
    };
    on_one_and_two(|_| thread::spawn(body).join().unwrap());
    bounded(|| std::thread::spawn(body).join().unwrap());
}

#[test]
fn an_unpark_before_the_start_is_kept() {
    on_one_and_two(|_| {
        let handle = thread::spawn(thread::park);
        handle.thread().unpark();
        handle.join().unwrap();
    });
}

#[test]
fn unpark_wakes_who_is_parked() {
    on_one_and_two(|workers| {
        for green in [true, false] {
            let stage = Arc::new(AtomicUsize::new(0));
            let set = stage.clone();
            let (parked, join) = parker(green, move || {
                set.store(1, SeqCst);
                thread::park();
                set.store(2, SeqCst);
                // The token is spent.
                let start = Instant::now();
                thread::park_timeout(Duration::from_millis(3));
                assert!(start.elapsed() >= Duration::from_millis(3));
            });
            while stage.load(SeqCst) == 0 {
                thread::yield_now();
            }
            // On one worker it is parked by now, and stays so until it is woken.
            for _ in 0..100 {
                thread::yield_now();
                assert!(workers == 2 || stage.load(SeqCst) == 1);
            }
            parked.unpark();
            join();
            assert_eq!(stage.load(SeqCst), 2);
        }
    });
}

#[test]
fn an_os_thread_unparks_green_threads() {
    on_one_and_two(|_| {
        let threads: Vec<_> = (0..100).map(|_| thread::spawn(thread::park)).collect();
        let parked: Vec<Thread> = threads
            .iter()
            .map(|thread| thread.thread().clone())
            .collect();
        let os = std::thread::spawn(move || parked.iter().for_each(Thread::unpark));
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        os.join().unwrap();
    });
}

#[test]
fn park_timeout_returns_when_time_is_up() {
    let body = || {
        for millis in [0, 1, 3] {
            let start = Instant::now();
            thread::park_timeout(Duration::from_millis(millis));
            assert!(start.elapsed() >= Duration::from_millis(millis));
        }
    };
    on_one_and_two(|_| body());
    bounded(body);
}

#[test]
fn a_park_that_was_woken_leaves_no_time_out_behind() {
    on_one_and_two(|_| {
        let me = thread::current();
        for _ in 0..50 {
            let me = me.clone();
            let waker = thread::spawn(move || me.unpark());
            thread::park_timeout(Duration::from_millis(2));
            let start = Instant::now();
            thread::sleep(Duration::from_millis(4));
            assert!(start.elapsed() >= Duration::from_millis(4));
            waker.join().unwrap();
            // In case it came too late for the park.
            thread::park_timeout(Duration::ZERO);
        }
    });
}

#[test]
fn no_token_is_lost_when_a_time_out_races_with_it() {
    for green in [true, false] {
        on_workers(2, || {
            const ROUNDS: usize = 5_000;
            let (flag, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (look, tell) = (flag.clone(), seen.clone());
            let (parked, join) = parker(green, move || {
                for round in 1..=ROUNDS {
                    // Mostly it times out about when the token comes; whichever it was, the next
                    // park must not hang.
                    if look.load(SeqCst) < round {
                        thread::park_timeout(Duration::from_micros(round as u64 % 90));
                    }
                    while look.load(SeqCst) < round {
                        thread::park();
                    }
                    tell.store(round, SeqCst);
                    // Whoever lost the race leaves the next wait alone.
                    let start = Instant::now();
                    thread::sleep(Duration::from_micros(20));
                    assert!(start.elapsed() >= Duration::from_micros(20));
                }
            });
            for round in 1..=ROUNDS {
                for _ in 0..round % 150 {
                    std::hint::spin_loop();
                }
                flag.store(round, SeqCst);
                parked.unpark();
                while seen.load(SeqCst) < round {
                    thread::yield_now();
                }
            }
            join();
        });
    }
}

#[test]
fn unparking_who_has_ended_does_nothing() {
    on_one_and_two(|_| {
        let handle = thread::spawn(thread::park);
        let thread = handle.thread().clone();
        thread.unpark();
        handle.join().unwrap();
        // Its place may have a new tenant, who must not be woken.
        let tenant = thread::spawn(|| {
            let start = Instant::now();
            thread::sleep(Duration::from_millis(5));
            assert!(start.elapsed() >= Duration::from_millis(5));
        });
        for _ in 0..100 {
            thread.unpark();
            thread::yield_now();
        }
        tenant.join().unwrap();
    });
}

#[test]
fn unpark_does_not_end_other_waits() {
    on_one_and_two(|_| {
        let sleeper = thread::spawn(|| {
            let start = Instant::now();
            thread::sleep(Duration::from_millis(10));
            assert!(start.elapsed() >= Duration::from_millis(10));
            // The token has been kept.
            thread::park();
        });
        let me = thread::current();
        let waker = thread::spawn({
            let sleeper = sleeper.thread().clone();
            move || {
                for _ in 0..10 {
                    sleeper.unpark();
                    me.unpark();
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        sleeper.join().unwrap();
        waker.join().unwrap();
    });
}

// Sleeping

#[test]
fn sleep_lasts_at_least_its_duration() {
    let body = || {
        for micros in [0, 1, 50, 999, 1_000, 1_001, 7_777] {
            let duration = Duration::from_micros(micros);
            let start = Instant::now();
            thread::sleep(duration);
            assert!(start.elapsed() >= duration);
            thread::sleep_until(start + 2 * duration);
            assert!(start.elapsed() >= 2 * duration);
        }
    };
    on_one_and_two(|_| body());
    bounded(body);
}

#[test]
fn sleep_until_the_past_returns() {
    let body = || {
        let past = Instant::now();
        thread::sleep(Duration::from_millis(1));
        (0..1000).for_each(|_| thread::sleep_until(past));
    };
    on_one_and_two(|_| body());
    bounded(body);
}

#[test]
fn a_loop_of_zero_sleeps_lets_the_others_run() {
    on_workers(1, || {
        let done = Rc::new(Cell::new(false));
        let set = done.clone();
        thread::spawn_local(move || {
            (0..100).for_each(|_| thread::yield_now());
            set.set(true);
        });
        while !done.get() {
            thread::sleep(Duration::ZERO);
        }
    });
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    on_workers(1, || {
        let woken = Rc::new(RefCell::new(Vec::new()));
        // On a busy machine the first deadline may pass before the last has fallen asleep; then
        // once more, with more time.
        for lead in (0..).map(|round| Duration::from_millis(5) * 2_u32.pow(round)) {
            woken.borrow_mut().clear();
            let first = Instant::now() + lead;
            let threads: Vec<_> = (0..300)
                .map(|n| {
                    let woken = woken.clone();
                    // Pairs have the same deadline, and wake in the order in which they fell
                    // asleep.
                    let place = n / 2 * 67 % 150;
                    thread::spawn_local(move || {
                        let in_time = Instant::now() < first;
                        thread::sleep_until(first + Duration::from_micros(100) * place);
                        woken.borrow_mut().push((place, n));
                        in_time
                    })
                })
                .collect();
            let in_time: Vec<bool> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect();
            if in_time.into_iter().all(|in_time| in_time) {
                break;
            }
        }
        assert!(woken.borrow().is_sorted());
        assert_eq!(woken.borrow().len(), 300);
    });
}

#[test]
fn ten_thousand_sleep_at_once() {
    on_one_and_two(|_| {
        let threads: Vec<_> = (0..10_000_u64)
            .map(|n| {
                thread::spawn(move || {
                    let duration = Duration::from_micros(n * 7 % 50_000);
                    let start = Instant::now();
                    thread::sleep(duration);
                    start.elapsed() >= duration
                })
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
}

// Panicking

#[test]
fn a_panic_reaches_the_joiner_with_its_payload_and_harms_nobody_else() {
    #[derive(Debug, PartialEq)]
    struct Custom(u32);

    on_one_and_two(|_| {
        let neighbour = thread::spawn(|| {
            for _ in 0..50 {
                thread::sleep(Duration::from_micros(100));
            }
            "unharmed"
        });
        let literal = thread::spawn(|| panic!("a literal")).join().unwrap_err();
        assert_eq!(*literal.downcast::<&str>().unwrap(), "a literal");
        let formatted = thread::spawn(|| panic!("a number: {}", std::hint::black_box(5)))
            .join()
            .unwrap_err();
        assert_eq!(*formatted.downcast::<String>().unwrap(), "a number: 5");
        let custom = thread::spawn(|| panic::panic_any(Custom(9)))
            .join()
            .unwrap_err();
        assert_eq!(*custom.downcast::<Custom>().unwrap(), Custom(9));
        let local = Rc::new(());
        let held = local.clone();
        let local_thread = thread::spawn_local(move || {
            let _held = held;
            panic!("here");
        });
        assert_eq!(text(&*local_thread.join().unwrap_err()), "here");
        assert_eq!(Rc::strong_count(&local), 1);
        assert!(!std::thread::panicking());
        assert_eq!(neighbour.join().unwrap(), "unharmed");
    });
}

#[test]
fn a_thread_may_catch_its_own_panic_and_park_in_between() {
    on_one_and_two(|_| {
        let threads: Vec<_> = (0..20)
            .map(|n| {
                thread::spawn(move || {
                    for round in 0..5 {
                        let caught = panic::catch_unwind(|| {
                            thread::yield_now();
                            let _parks = OnDrop(thread::yield_now);
                            panic::resume_unwind(Box::new(n * 10 + round));
                        });
                        assert_eq!(
                            *caught.unwrap_err().downcast::<i32>().unwrap(),
                            n * 10 + round
                        );
                        thread::yield_now();
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(!std::thread::panicking());
    });
}

#[test]
fn a_detached_panic_is_reported_with_name_and_place() {
    bounded(|| {
        if is_child() {
            return on_one_and_two(|_| {
                // Who has started ends, and so reports, before the runtime does.
                let started = Arc::new(AtomicUsize::new(0));
                let start = |name: &str, panics: fn()| {
                    let started = started.clone();
                    let builder = if name.is_empty() {
                        Builder::new()
                    } else {
                        Builder::new().name(name.into())
                    };
                    let start = move || {
                        started.fetch_add(1, SeqCst);
                        panics();
                    };
                    (builder, start)
                };
                let (heron, body) = start("heron", || panic!("fell in"));
                drop(heron.spawn(body));
                let (unnamed, body) = start("", || panic::panic_any(7_u8));
                drop(unnamed.spawn(body));
                let (egret, body) = start("egret", || panic!("fell out"));
                drop(egret.spawn_local(body));
                // One whose handle is dropped when it has panicked already, and one whose is not.
                let (late, body) = start("late", || panic::resume_unwind(Box::new("too late")));
                let late = late.spawn(body).unwrap();
                while !late.is_finished() {
                    thread::yield_now();
                }
                drop(late);
                let (joined, body) = start("joined", || panic!("asked for"));
                joined.spawn(body).unwrap().join().unwrap_err();
                while started.load(SeqCst) < 5 {
                    thread::yield_now();
                }
            });
        }
        let output = child("a_detached_panic_is_reported_with_name_and_place", &[]);
        assert!(output.status.success(), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        for (name, message) in [
            ("heron", "fell in"),
            ("<unnamed>", "a payload that is no text"),
            ("egret", "fell out"),
            ("late", "too late"),
        ] {
            // Each in one piece, though another worker may be in the middle of a line.
            let reports = errors
                .split("hebra: detached green thread ")
                .skip(1)
                .filter_map(|report| report.lines().next());
            let reports: Vec<_> = reports
                .filter(|report| report.starts_with(&format!("'{name}' (spawned at tests/")))
                .collect();
            assert_eq!(reports.len(), 2, "{name}: {errors}");
            assert!(
                reports
                    .iter()
                    .all(|report| report.contains("thread.rs:") && report.ends_with(message)),
                "{reports:?}"
            );
        }
        assert!(!errors.contains("'joined'"), "{errors}");
    });
}

#[test]
fn a_detached_panic_does_no_harm_where_nobody_can_read_of_it() {
    bounded(|| {
        if is_child() {
            return on_one_and_two(|_| {
                let started = Arc::new(AtomicBool::new(false));
                let set = started.clone();
                drop(thread::spawn(move || {
                    set.store(true, SeqCst);
                    panic::resume_unwind(Box::new("nobody reads this"));
                }));
                while !started.load(SeqCst) {
                    thread::yield_now();
                }
                println!("unharmed");
            });
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        let test = "a_detached_panic_does_no_harm_where_nobody_can_read_of_it";
        command
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env("HEBRA_CHILD", "1");
        // The other end of its standard error is gone.
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = command
            .stdout(std::process::Stdio::piped())
            .stderr(writer)
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout)
                .matches("unharmed")
                .count(),
            2,
            "{output:?}"
        );
    });
}

// Detaching

#[test]
fn the_result_of_a_detached_thread_is_dropped_once_on_a_green_thread() {
    on_one_and_two(|_| {
        let droppers = Arc::new(Mutex::new(Vec::new()));
        let result = |n: usize| {
            let droppers = droppers.clone();
            OnDrop(move || {
                // It may park.
                thread::yield_now();
                droppers
                    .lock()
                    .unwrap()
                    .push((n, thread::current().name().map(str::to_owned)));
            })
        };
        let detached = Arc::new(AtomicBool::new(false));
        let (first, wait) = (result(0), detached.clone());
        // The handle goes first: the thread itself drops its result.
        let handle = Builder::new().name("0".into()).spawn(move || {
            while !wait.load(SeqCst) {
                thread::yield_now();
            }
            first
        });
        drop(handle);
        detached.store(true, SeqCst);
        while droppers.lock().unwrap().is_empty() {
            thread::yield_now();
        }
        // The thread goes first: whoever drops the handle drops the result.
        let second = result(1);
        let handle = thread::spawn(move || second);
        while !handle.is_finished() {
            thread::yield_now();
        }
        drop(handle);
        // Locally, both ways.
        drop(Builder::new().name("2".into()).spawn_local({
            let result = result(2);
            move || result
        }));
        while droppers.lock().unwrap().len() < 3 {
            thread::yield_now();
        }
        let last = result(3);
        drop(thread::spawn(move || last).join());
        let expected = [(0, "0"), (1, "main"), (2, "2"), (3, "main")];
        assert!(
            droppers
                .lock()
                .unwrap()
                .iter()
                .map(|(n, name)| (*n, name.as_deref().unwrap()))
                .eq(expected)
        );
    });
}

#[test]
fn of_detaching_and_ending_at_once_one_drops_the_result() {
    const ROUNDS: usize = 5_000;
    let drops = Arc::new(AtomicUsize::new(0));
    on_workers(2, || {
        for round in 0..ROUNDS {
            let counted = Counted(drops.clone());
            let handle = thread::spawn(move || counted);
            for _ in 0..round % 300 {
                std::hint::spin_loop();
            }
            if round % 3 == 0 {
                thread::yield_now();
            }
            drop(handle);
        }
    });
    assert_eq!(drops.load(SeqCst), ROUNDS);
}

#[test]
fn a_panic_in_the_destructor_of_a_detached_result_harms_nobody() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new("the destructor"));
        }
    }

    struct Cluster;

    impl Drop for Cluster {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new(Bomb));
        }
    }

    on_one_and_two(|_| {
        let started = Arc::new(AtomicUsize::new(0));
        let count = || {
            let started = started.clone();
            move || started.fetch_add(1, SeqCst)
        };
        let (a, b, c) = (count(), count(), count());
        drop(thread::spawn(move || (a(), Bomb)));
        // The payload of a panic is dropped as well, and so is what that panics with.
        drop(thread::spawn(move || {
            b();
            panic::resume_unwind(Box::new(Bomb));
        }));
        drop(thread::spawn(move || (c(), Cluster)));
        while started.load(SeqCst) < 3 {
            thread::yield_now();
        }
        assert_eq!(thread::spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_detached_thread_runs_on() {
    on_one_and_two(|_| {
        let (tell, told) = mpsc::channel();
        let handle = thread::spawn(move || {
            thread::sleep(Duration::from_millis(1));
            tell.send(5).unwrap();
        });
        drop(handle);
        while told.try_recv() != Ok(5) {
            thread::yield_now();
        }
    });
}

// Joining from elsewhere

#[test]
fn an_os_thread_joins_a_green_thread() {
    on_one_and_two(|_| {
        let handle = thread::spawn(|| {
            thread::sleep(Duration::from_millis(3));
            Box::new(11)
        });
        let failing = thread::spawn(|| panic::resume_unwind(Box::new(12)));
        let os = std::thread::spawn(move || {
            (
                handle.join().unwrap(),
                failing.join().unwrap_err().downcast::<i32>().unwrap(),
            )
        });
        while !os.is_finished() {
            thread::yield_now();
        }
        assert_eq!(os.join().unwrap(), (Box::new(11), Box::new(12)));
    });
}

#[test]
fn a_handle_outlives_its_runtime() {
    bounded(|| {
        for workers in [1, 2] {
            let handles = Runtime::new(Config::default().workers(workers))
                .unwrap()
                .run(|| {
                    let ended = thread::spawn(|| 5);
                    while !ended.is_finished() {
                        thread::yield_now();
                    }
                    let parked = thread::spawn(|| {
                        thread::park();
                        6
                    });
                    let unstarted = thread::spawn(|| 7);
                    [ended, parked, unstarted]
                });
            for handle in &handles {
                assert!(handle.is_finished());
                // Too late, but harmless.
                handle.thread().unpark();
            }
            let [ended, parked, _] = handles;
            assert_eq!(ended.join().unwrap(), 5);
            assert!(parked.join().unwrap_err().is::<Cancelled>());
        }
    });
}

#[test]
fn an_os_thread_that_joins_is_woken_by_the_end_of_the_runtime() {
    bounded(|| {
        for workers in [1, 2] {
            let os = Runtime::new(Config::default().workers(workers))
                .unwrap()
                .run(|| {
                    let handle = thread::spawn(thread::park);
                    std::thread::spawn(move || handle.join().unwrap_err().is::<Cancelled>())
                });
            assert!(os.join().unwrap());
        }
    });
}

#[test]
fn green_threads_of_two_runtimes_join_each_other() {
    bounded(|| {
        let (send, receive) = mpsc::channel();
        let other = std::thread::spawn(move || {
            hebra::run(move || {
                let handle = thread::spawn(|| {
                    thread::sleep(Duration::from_millis(2));
                    21
                });
                let me = thread::current();
                send.send((handle, me)).unwrap();
                thread::park();
            });
        });
        let (handle, root_there) = receive.recv().unwrap();
        assert_eq!(
            hebra::run(|| thread::spawn(move || handle.join().unwrap())
                .join()
                .unwrap()),
            21
        );
        root_there.unpark();
        other.join().unwrap();
    });
}

trait SendIsAmbiguous<A> {
    fn check() {}
}
impl<T: ?Sized> SendIsAmbiguous<()> for T {}
impl<T: ?Sized + Send> SendIsAmbiguous<u8> for T {}

#[test]
fn a_handle_may_be_sent_exactly_if_its_result_may() {
    fn is_send_and_sync<T: Send + Sync>() {}

    is_send_and_sync::<JoinHandle<u8>>();
    is_send_and_sync::<JoinHandle<Cell<u8>>>();
    is_send_and_sync::<Thread>();
    is_send_and_sync::<ThreadId>();
    is_send_and_sync::<Builder>();
    // Does not compile if it is `Send`: then both implementations would fit.
    <JoinHandle<Rc<u8>> as SendIsAmbiguous<_>>::check();
    <JoinHandle<std::sync::MutexGuard<'static, ()>> as SendIsAmbiguous<_>>::check();
}

// Dropping closures

#[test]
fn a_closure_is_dropped_once_whatever_becomes_of_its_thread() {
    bounded(|| {
        for workers in [1, 2] {
            let drops = Arc::new(AtomicUsize::new(0));
            let counted = || Counted(drops.clone());
            let mut made = 0;
            let mut make = || {
                made += 1;
                counted()
            };
            Runtime::new(Config::default().workers(workers))
                .unwrap()
                .run(|| {
                    // Run and joined; run and panicked; run and detached.
                    let (a, b, c, d) = (make(), make(), make(), make());
                    thread::spawn(move || drop(a)).join().unwrap();
                    let panics = thread::spawn(move || {
                        let _b = b;
                        panic::resume_unwind(Box::new(()));
                    });
                    panics.join().unwrap_err();
                    drop(thread::spawn(move || drop(c)));
                    thread::spawn_local(move || drop(d)).join().unwrap();
                    // Cancelled while parked, and never started.
                    for _ in 0..50 {
                        let (parked, local) = (make(), make());
                        thread::spawn(move || {
                            let _parked = parked;
                            thread::park();
                        });
                        thread::spawn_local(move || {
                            let _local = local;
                            thread::park();
                        });
                    }
                    thread::yield_now();
                    for _ in 0..50 {
                        let (unstarted, local) = (make(), make());
                        thread::spawn(move || drop(unstarted));
                        thread::spawn_local(move || drop(local));
                    }
                });
            assert_eq!(drops.load(SeqCst), made);
            assert_eq!(Arc::strong_count(&drops), 1);
        }
    });
}

// Law 2: home

#[test]
fn what_a_thread_borrows_is_still_there_after_a_park_on_the_same_os_thread() {
    thread_local! {
        static SEEN: Cell<usize> = const { Cell::new(0) };
    }

    on_one_and_two(|_| {
        let threads: Vec<_> = (0..100)
            .map(|n| {
                thread::spawn(move || {
                    let home = std::thread::current().id();
                    let cell = RefCell::new(vec![n]);
                    let shared = Rc::new(5);
                    let other = shared.clone();
                    let mut borrowed = cell.borrow_mut();
                    SEEN.with(|seen| {
                        for round in 0..20 {
                            match round % 4 {
                                0 => thread::yield_now(),
                                1 => thread::sleep(Duration::from_micros(50)),
                                2 => thread::park_timeout(Duration::from_micros(10)),
                                _ => thread::spawn(|| ()).join().unwrap(),
                            }
                            seen.set(seen.get() + 1);
                            borrowed.push(round);
                            assert_eq!(std::thread::current().id(), home);
                            assert_eq!(SEEN.with(std::ptr::from_ref), std::ptr::from_ref(seen));
                        }
                    });
                    assert!(cell.try_borrow().is_err());
                    assert_eq!((borrowed.len(), Rc::strong_count(&other)), (21, 2));
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_std_lock_guard_may_be_held_across_a_park() {
    on_one_and_two(|_| {
        let lock = Mutex::new(1);
        let mut guard = lock.lock().unwrap();
        thread::sleep(Duration::from_millis(1));
        *guard += 1;
        drop(guard);
        assert_eq!(lock.into_inner().unwrap(), 2);
    });
}

// Running

#[test]
fn run_inside_a_green_thread_panics_and_says_so() {
    on_one_and_two(|_| {
        let inside = || {
            let payload = panic_of(|| hebra::run(|| ()));
            assert!(
                text(&*payload).contains("hebra::thread::spawn"),
                "{}",
                text(&*payload)
            );
        };
        inside();
        thread::spawn(inside).join().unwrap();
    });
}

#[test]
fn run_borrows_locals_and_returns_what_is_not_send() {
    bounded(|| {
        let mut numbers = vec![1, 2];
        let counter = Rc::new(Cell::new(0));
        let last = hebra::run(|| {
            numbers.push(3);
            counter.set(counter.get() + 1);
            thread::yield_now();
            (numbers.last(), counter.clone())
        });
        assert_eq!(last.0, Some(&3));
        assert_eq!(last.1.get(), 1);
    });
}

#[test]
fn runtimes_follow_each_other_and_run_at_the_same_time() {
    bounded(|| {
        let runtime = Runtime::new(Config::default().workers(2)).unwrap();
        let total: usize = (0..50)
            .map(|n| runtime.run(|| thread::spawn(move || n).join().unwrap()))
            .sum();
        assert_eq!(total, 1225);
        let sum: usize = std::thread::scope(|scope| {
            let os = [0, 1, 2, 3, 4, 5].map(|n| {
                scope.spawn(move || {
                    let runtime = Runtime::new(Config::default().workers(2)).unwrap();
                    let spawned = |n| {
                        thread::spawn(move || (thread::sleep(Duration::from_micros(n as u64)), n).1)
                    };
                    (0..20)
                        .map(|round| runtime.run(|| spawned(n + round).join().unwrap()))
                        .sum::<usize>()
                })
            });
            os.into_iter().map(|os| os.join().unwrap()).sum()
        });
        assert_eq!(sum, 6 * 190 + 20 * 15);
    });
}

#[test]
fn run_propagates_a_panic_after_an_orderly_shutdown() {
    bounded(|| {
        for workers in [1, 2] {
            let drops = Arc::new(AtomicUsize::new(0));
            let runtime = Runtime::new(Config::default().workers(workers)).unwrap();
            let payload = panic_of(|| {
                runtime.run(|| {
                    for _ in 0..20 {
                        let counted = Counted(drops.clone());
                        thread::spawn(move || {
                            let _counted = counted;
                            thread::park();
                        });
                    }
                    thread::yield_now();
                    panic::resume_unwind(Box::new("from the root"));
                })
            });
            assert_eq!(text(&*payload), "from the root");
            assert_eq!(drops.load(SeqCst), 20);
            assert_eq!(runtime.run(|| 1), 1);
        }
    });
}

#[test]
fn an_impossible_number_of_workers_is_an_error() {
    for workers in [0, 1025, usize::MAX] {
        let error = Runtime::new(Config::default().workers(workers)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn workers_are_named_after_the_configuration() {
    bounded(|| {
        let runtime = Runtime::new(Config::default().workers(2).thread_name("otter")).unwrap();
        let name = runtime.run(|| {
            let name = Arc::new(Mutex::new(None));
            let tell = name.clone();
            thread::spawn(move || {
                *tell.lock().unwrap() = std::thread::current().name().map(str::to_owned)
            });
            // The root does not give way, so only the other worker can run it.
            while name.lock().unwrap().is_none() {
                std::hint::spin_loop();
            }
            name.lock().unwrap().take()
        });
        assert_eq!(name.as_deref(), Some("otter-1"));
    });
}

// A sanitizer needs more address space than all that could be refused.
#[cfg(not(hebra_sanitizer))]
#[test]
fn a_closure_without_a_stack_is_dropped_by_its_worker_which_does_not_become_a_second_one() {
    if !is_child() {
        return passes_in_child(
            "a_closure_without_a_stack_is_dropped_by_its_worker_which_does_not_become_a_second_one",
        );
    }
    let limit = rustix::process::Rlimit {
        current: Some(8 << 30),
        maximum: None,
    };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    on_workers(1, || {
        let mutex = Arc::new(hebra::sync::Mutex::new(0));
        let (report, reported) = hebra::sync::oneshot::channel();
        let mut report = Some(report);
        let shared = mutex.clone();
        let held = mutex.lock().unwrap();
        let dropped = OnDrop(move || {
            // Not in the name of the green thread that has run last, which holds it.
            assert!(shared.try_lock().is_err());
            let refused = panic::catch_unwind(|| hebra::run(|| ())).unwrap_err();
            report
                .take()
                .unwrap()
                .send(*refused.downcast_ref::<&str>().unwrap())
                .unwrap();
        });
        // Where stacks are scarce it is refused already here.
        let Ok(handle) = Builder::new()
            .stack_size(1 << 40)
            .spawn(move || drop(dropped))
        else {
            return;
        };
        let message = reported.recv().unwrap();
        assert!(
            message.contains("on a green thread of another"),
            "{message}"
        );
        drop(held);
        assert!(handle.join().unwrap_err().is::<io::Error>());
    });
}

/// An error that panics when it is displayed, and when it is dropped.
#[derive(Debug)]
struct Evil;

impl std::fmt::Display for Evil {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic::panic_any(io::Error::other(Evil))
    }
}

impl std::error::Error for Evil {}

impl Drop for Evil {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in the destructor of a payload");
        }
    }
}

#[test]
fn payload_that_panics_does_not_end_the_process() {
    struct Local;
    impl Drop for Local {
        fn drop(&mut self) {
            panic::panic_any(io::Error::other(Evil));
        }
    }
    hebra::thread_local! {
        static LOCAL: Local = const { Local };
    }
    if !is_child() {
        return bounded(|| passes_in_child("payload_that_panics_does_not_end_the_process"));
    }
    on_one_and_two(|_| {
        let evil = || panic::panic_any(io::Error::other(Evil));
        drop(thread::spawn(evil));
        drop(thread::spawn_local(evil));
        drop(thread::spawn(|| LOCAL.with(|_| ())));
        let ended = thread::spawn(evil);
        while !ended.is_finished() {
            thread::yield_now();
        }
        drop(ended);
        let mut set = thread::JoinSet::new();
        set.spawn(evil);
        drop(set);
        let failed = thread::spawn(evil).join().unwrap_err();
        assert!(panic::catch_unwind(AssertUnwindSafe(|| drop(failed))).is_err());
        thread::sleep(Duration::from_millis(1));
    });
}

/// More than the address space has room for, a few hundred times.
const HUGE: usize = 1 << 40;

/// Takes stacks of that size until there are no more, and returns those threads.
fn take_all_stacks(size: usize) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    loop {
        let Ok(thread) = Builder::new().stack_size(size).spawn(thread::park) else {
            return threads;
        };
        (0..70).for_each(|_| thread::yield_now());
        if thread.is_finished() {
            assert!(thread.join().unwrap_err().is::<io::Error>());
            return threads;
        }
        threads.push(thread);
    }
}

struct JoinsAtDrop(Option<JoinHandle<()>>);

impl Drop for JoinsAtDrop {
    fn drop(&mut self) {
        self.0.take().unwrap().join().unwrap();
    }
}

#[test]
fn closure_without_a_stack_may_join_at_drop() {
    // A sanitizer needs more address space than this takes away.
    if cfg!(hebra_sanitizer) {
        return;
    }
    if !is_child() {
        return bounded(|| passes_in_child("closure_without_a_stack_may_join_at_drop"));
    }
    on_one_and_two(|_| {
        let threads = take_all_stacks(HUGE);
        let neighbour = thread::spawn(|| thread::sleep(Duration::from_millis(20)));
        let joins = JoinsAtDrop(Some(neighbour));
        let without = Builder::new().stack_size(HUGE).spawn(move || drop(joins));
        if let Ok(without) = without {
            assert!(without.join().unwrap_err().is::<io::Error>());
        }
        threads.iter().for_each(|thread| thread.thread().unpark());
        threads.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn panic_names_its_green_thread_after_name_panics() {
    if is_child() {
        thread::name_panics();
        thread::name_panics();
        return on_workers(1, || {
            let bee = Builder::new().name("worker bee".into());
            let bee = bee.spawn(|| panic!("no honey")).unwrap();
            assert!(bee.join().is_err());
        });
    }
    let output = bounded(|| child("panic_names_its_green_thread_after_name_panics", &[]));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{err}");
    let named = err
        .find("hebra: green thread 'worker bee' (spawned at tests/thread.rs:")
        .unwrap_or_else(|| panic!("{err}"));
    assert!(named < err.find("no honey").unwrap(), "{err}");
    assert_eq!(err.matches("' (spawned at").count(), 1, "{err}");
}

#[test]
fn backtrace_of_a_green_thread_is_short() {
    if is_child() {
        return on_workers(1, || {
            assert!(thread::spawn(|| panic!("no honey")).join().is_err());
            assert!(thread::spawn_local(|| panic!("no honey")).join().is_err());
        });
    }
    let environment = [("RUST_BACKTRACE", "1")];
    let output = bounded(|| child("backtrace_of_a_green_thread_is_short", &environment));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("stack backtrace:"), "{err}");
    assert!(!err.contains("corosensei"), "{err}");
    assert!(err.lines().count() < 60, "{err}");
}

/// Where `f` panics.
fn place_of(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    thread_local! {
        static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
    }
    panic::set_hook(Box::new(|info| {
        PLACE.set(info.location().unwrap().to_string());
    }));
    // A `try_scope` returns the panic of its closure.
    let _ = panic::catch_unwind(f);
    drop(panic::take_hook());
    PLACE.take()
}

#[test]
fn spawning_outside_a_runtime_panics_at_the_caller() {
    if !is_child() {
        return bounded(|| passes_in_child("spawning_outside_a_runtime_panics_at_the_caller"));
    }
    let attempts: [fn(); 7] = [
        || drop(thread::spawn(|| ())),
        || drop(thread::spawn_local(|| ())),
        || thread::scope(|s| drop(s.spawn(|| ()))),
        || {
            drop(thread::try_scope(|s| {
                drop(s.spawn(|| Ok(())));
                Ok::<(), io::Error>(())
            }))
        },
        || drop(thread::race([|| ()])),
        || drop(thread::JoinSet::new().spawn(|| ())),
        || drop(hebra::Handle::current()),
    ];
    for (number, attempt) in attempts.into_iter().enumerate() {
        let place = place_of(attempt);
        assert!(place.starts_with("tests/thread.rs"), "{number}: {place}");
    }
}
