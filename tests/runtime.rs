//! A runtime as an object: spawned onto from anywhere, run or started, and shut down with a word
//! about who does not end.

#![cfg(feature = "runtime")]

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use hebra::thread::{self, Builder, Cancelled, JoinHandle};
use hebra::{Config, Handle, Runtime};

use support::{bounded, child, is_child, stderr, wait_until};

mod support;

const LONG: Duration = Duration::from_secs(3600);

fn runtime(workers: usize) -> Runtime {
    Runtime::new(Config::default().workers(workers)).unwrap()
}

/// Runs `test` with a runtime of one worker and one of three.
fn on_one_and_three(test: impl Fn(Runtime)) {
    for workers in [1, 3] {
        bounded(|| test(runtime(workers)));
    }
}

fn is_cancelled<T>(result: thread::Result<T>) -> bool {
    result
        .err()
        .is_some_and(|payload| payload.is::<Cancelled>())
}

/// What a panic says.
fn message<T>(result: thread::Result<T>) -> String {
    let payload = result.err().expect("it panicked");
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .expect("it says something")
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A flag that threads share.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn set(&self) {
        self.0.store(true, SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// Waits on an OS thread, or for nobody on the same worker.
    fn wait(&self) {
        while !self.is_set() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn handles_go_everywhere() {
    fn check<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: &T) {}
    fn check_runtime<T: Send + Sync + std::fmt::Debug + 'static>(_: &T) {}
    let runtime = runtime(1);
    check(&runtime.handle());
    check_runtime(&runtime);
    assert!(format!("{runtime:?} {:?}", runtime.handle()).contains("workers: 1"));
}

#[test]
fn a_started_runtime_runs_what_is_spawned_from_outside() {
    on_one_and_three(|runtime| {
        let handle = runtime.start().unwrap();
        let threads: Vec<_> = (0..1000)
            .map(|n| {
                handle.spawn(move || {
                    thread::yield_now();
                    thread::spawn(move || n).join().unwrap()
                })
            })
            .collect();
        assert_eq!(
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum::<u32>(),
            499_500
        );
        runtime.shutdown(LONG).unwrap();
    });
}

#[test]
fn a_sleeping_worker_is_woken_by_each_spawn() {
    on_one_and_three(|runtime| {
        let handle = runtime.start().unwrap();
        // Each comes when the workers have nothing to do any more, or are just about to sleep.
        for n in 0..2000 {
            assert_eq!(handle.spawn(move || n).join().unwrap(), n);
            if n % 100 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
}

#[test]
fn many_os_threads_spawn_at_the_same_time() {
    on_one_and_three(|runtime| {
        let count = Arc::new(AtomicUsize::new(0));
        runtime.start().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let handle = runtime.handle();
                    let spawn = |_| {
                        let count = count.clone();
                        handle.spawn(move || {
                            count.fetch_add(1, SeqCst);
                        })
                    };
                    (0..200)
                        .map(spawn)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .for_each(|thread| thread.join().unwrap());
                });
            }
        });
        assert_eq!(count.load(SeqCst), 1600);
    });
}

#[test]
fn a_green_thread_that_spawns_for_ever_does_not_keep_those_from_outside_waiting() {
    on_one_and_three(|runtime| {
        let handle = runtime.start().unwrap();
        fn chain() {
            thread::spawn(chain);
        }
        handle.spawn(chain);
        assert_eq!(handle.spawn(|| 5).join().unwrap(), 5);
        runtime.shutdown(LONG).unwrap();
    });
}

#[test]
fn an_os_thread_spawns_while_run_runs() {
    on_one_and_three(|runtime| {
        let handle = runtime.handle();
        let (send, receive) = mpsc::channel();
        let os = std::thread::spawn(move || {
            receive.recv().unwrap();
            handle
                .spawn(|| thread::current().name().map(str::to_owned))
                .join()
                .unwrap()
        });
        runtime.run(|| {
            send.send(()).unwrap();
            // Parked, so that the worker sleeps: only the spawn can wake it.
            while !os.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(os.join().unwrap(), None);
    });
}

#[test]
fn what_is_spawned_before_a_session_waits_for_it() {
    on_one_and_three(|runtime| {
        let handle = runtime.handle();
        let early = handle.spawn(|| 1);
        let builder = Builder::new().name("early".into());
        let named = builder
            .spawn_on(&handle, || thread::current().name().map(str::to_owned))
            .unwrap();
        assert!(!early.is_finished());
        assert!(!named.is_finished());
        let (one, name) = runtime.run(|| (early.join().unwrap(), named.join().unwrap()));
        assert_eq!((one, name.as_deref()), (1, Some("early")));
        let between = handle.spawn(|| 2);
        runtime.start().unwrap();
        assert_eq!(between.join().unwrap(), 2);
    });
}

#[test]
fn what_waits_for_a_session_can_be_cancelled_and_dropped() {
    on_one_and_three(|runtime| {
        let handle = runtime.handle();
        let (ran, dropped) = (Flag::default(), Flag::default());
        let (run, drops) = (ran.clone(), dropped.clone());
        let value = OnDrop(move || drops.set());
        let cancelled = handle.spawn(move || {
            let _value = value;
            run.set();
        });
        cancelled.cancel();
        let detached = Flag::default();
        let set = detached.clone();
        drop(handle.spawn(move || set.set()));
        runtime.run(|| {
            assert!(is_cancelled(cancelled.join()));
            wait_until(|| detached.is_set());
        });
        assert!(dropped.is_set() && !ran.is_set());
    });
}

#[test]
fn green_threads_find_their_runtime_and_spawn_through_its_handle() {
    on_one_and_three(|runtime| {
        assert!(Handle::try_current().is_none());
        let panics = message(panic::catch_unwind(Handle::current));
        assert!(panics.contains("outside a runtime"), "{panics}");
        let started = runtime.start().unwrap();
        let inner = started.spawn(|| {
            let handle = Handle::current();
            let other = thread::spawn(move || handle.spawn(|| 7).join().unwrap());
            other.join().unwrap()
        });
        assert_eq!(inner.join().unwrap(), 7);
        // From a green thread of another one, which goes on meanwhile.
        let other = self::runtime(1);
        let sum = other.run(|| {
            let ticks = Arc::new(AtomicUsize::new(0));
            let count = ticks.clone();
            thread::spawn(move || {
                loop {
                    count.fetch_add(1, SeqCst);
                    thread::yield_now();
                }
            });
            let there = started.spawn(move || {
                let begun = ticks.load(SeqCst);
                wait_until(|| ticks.load(SeqCst) > begun + 1);
                (Handle::try_current().is_some(), 8)
            });
            let (green, sum) = there.join().unwrap();
            assert!(green);
            sum
        });
        assert_eq!(sum, 8);
    });
}

#[test]
fn what_is_spawned_after_the_end_is_dropped_and_its_join_says_cancelled() {
    on_one_and_three(|runtime| {
        let handle = runtime.start().unwrap();
        runtime.shutdown(LONG).unwrap();
        let dropped = Flag::default();
        let drops = dropped.clone();
        let value = OnDrop(move || drops.set());
        let late = handle.spawn(move || drop(value));
        assert!(dropped.is_set() && late.is_finished());
        let payload = late.join().unwrap_err();
        assert_eq!(payload.downcast::<Cancelled>().unwrap().location(), None);
        assert!(is_cancelled(hebra::future::block_on(handle.spawn(|| ()))));
        // A panic in the destructor is the result, and harms nobody.
        let value = OnDrop(|| panic::resume_unwind(Box::new("in drop")));
        assert_eq!(
            *handle
                .spawn(move || drop(value))
                .join()
                .unwrap_err()
                .downcast::<&str>()
                .unwrap(),
            "in drop"
        );
        drop(handle.spawn(|| ()));
    });
}

#[test]
fn a_refused_closure_leaves_its_spawner_alone() {
    hebra::thread_local! {
        static OWN: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
    }
    bounded(|| {
        let over = runtime(1).handle();
        runtime(1).run(|| {
            OWN.set(Some("kept".into()));
            assert!(is_cancelled(over.spawn(|| ()).join()));
            assert_eq!(OWN.take().as_deref(), Some("kept"));
        });
    });
}

#[test]
fn what_no_session_ever_ran_is_cancelled_when_the_runtime_is_dropped() {
    bounded(|| {
        let runtime = runtime(1);
        let dropped = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..10)
            .map(|_| {
                let dropped = dropped.clone();
                let value = OnDrop(move || {
                    dropped.fetch_add(1, SeqCst);
                });
                runtime.handle().spawn(move || drop(value))
            })
            .collect();
        drop(runtime);
        assert_eq!(dropped.load(SeqCst), 10);
        assert!(
            threads
                .into_iter()
                .all(|thread| is_cancelled(thread.join()))
        );
    });
}

#[test]
fn nothing_is_lost_that_is_spawned_while_sessions_come_and_go() {
    for workers in [1, 2] {
        bounded(|| {
            let runtime = runtime(workers);
            let (ran, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let stop = Flag::default();
            let spawners = [(); 3].map(|()| {
                let (handle, stop, ran, dropped) =
                    (runtime.handle(), stop.clone(), ran.clone(), dropped.clone());
                std::thread::spawn(move || {
                    let mut threads: Vec<JoinHandle<()>> = Vec::new();
                    while !stop.is_set() {
                        let (ran, dropped) = (ran.clone(), dropped.clone());
                        let value = OnDrop(move || {
                            dropped.fetch_add(1, SeqCst);
                        });
                        threads.push(handle.spawn(move || {
                            ran.fetch_add(1, SeqCst);
                            drop(value);
                        }));
                        std::thread::sleep(Duration::from_micros(20));
                    }
                    threads
                })
            });
            for round in 0..50 {
                runtime.run(|| thread::sleep(Duration::from_micros(round * 20)));
            }
            stop.set();
            let threads: Vec<_> = spawners
                .into_iter()
                .flat_map(|os| os.join().unwrap())
                .collect();
            let spawned = threads.len();
            drop(runtime);
            let ended = threads
                .into_iter()
                .map(JoinHandle::join)
                .filter(Result::is_ok)
                .count();
            assert_eq!((ended, dropped.load(SeqCst)), (ran.load(SeqCst), spawned));
        });
    }
}

#[test]
fn a_runtime_runs_once_at_a_time_and_says_so() {
    on_one_and_three(|runtime| {
        let twice = |runtime: &Runtime| {
            let error = runtime.start().unwrap_err().to_string();
            assert!(error.contains("running already"), "{error}");
            let panics = message(panic::catch_unwind(AssertUnwindSafe(|| runtime.run(|| ()))));
            assert!(panics.contains("running already"), "{panics}");
        };
        runtime.run(|| std::thread::scope(|scope| scope.spawn(|| twice(&runtime)).join().unwrap()));
        assert_eq!(runtime.run(|| 5), 5, "it may run again");
        let panics = panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.run(|| panic::resume_unwind(Box::new(())))
        }));
        assert!(panics.is_err());
        assert_eq!(runtime.run(|| 6), 6, "after a panic, too");
        runtime.start().unwrap();
        twice(&runtime);
    });
}

#[test]
fn shutdown_unwinds_who_waits_and_leaves_nothing_behind() {
    on_one_and_three(|runtime| {
        let handle = runtime.start().unwrap();
        let (started, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..100)
            .map(|n| {
                let (started, dropped) = (started.clone(), dropped.clone());
                handle.spawn(move || {
                    let _value = OnDrop(move || {
                        dropped.fetch_add(1, SeqCst);
                    });
                    started.fetch_add(1, SeqCst);
                    match n % 3 {
                        0 => thread::park(),
                        1 => thread::sleep(LONG),
                        _ => hebra::future::block_on(std::future::pending()),
                    }
                })
            })
            .collect();
        while started.load(SeqCst) < 100 {
            std::thread::yield_now();
        }
        let began = Instant::now();
        runtime.shutdown(LONG).unwrap();
        assert!(began.elapsed() < LONG);
        assert_eq!(dropped.load(SeqCst), 100);
        assert!(
            threads
                .into_iter()
                .all(|thread| is_cancelled(thread.join()))
        );
    });
}

#[test]
fn shutdown_of_what_never_ran_returns_at_once() {
    bounded(|| {
        runtime(1).shutdown(LONG).unwrap();
        let once = runtime(2);
        once.run(|| ());
        once.shutdown(LONG).unwrap();
    });
}

/// Spawns a green thread that does not react to being cancelled until `let_go` is set.
fn stubborn(handle: &Handle, name: &str, let_go: &Flag, wait: fn()) -> JoinHandle<()> {
    let (started, let_go) = (Flag::default(), let_go.clone());
    let set = started.clone();
    let builder = Builder::new().name(name.into());
    let thread = builder.spawn_on(handle, move || {
        set.set();
        while !let_go.is_set() {
            let _ = panic::catch_unwind(wait);
        }
    });
    started.wait();
    thread.unwrap()
}

#[test]
fn shutdown_returns_who_has_not_ended_with_name_place_and_reason() {
    for workers in [1, 3] {
        bounded(|| {
            let runtime =
                Runtime::new(Config::default().workers(workers).thread_name("otter")).unwrap();
            let handle = runtime.start().unwrap();
            let let_go = Flag::default();
            let mule = stubborn(&handle, "mule", &let_go, || {
                thread::shield(|| thread::sleep(LONG))
            });
            let fine = handle.spawn(thread::park);
            let began = Instant::now();
            let unfinished = runtime.shutdown(Duration::from_millis(500)).unwrap_err();
            assert!(began.elapsed() >= Duration::from_millis(500));
            let [straggler] = unfinished.stragglers() else {
                panic!("{unfinished}")
            };
            assert_eq!(
                (straggler.name(), straggler.waits_for()),
                (Some("mule"), "sleeping")
            );
            assert!(straggler.location().file().ends_with("tests/runtime.rs"));
            assert_eq!(unfinished.workers().len(), 1);
            assert!(unfinished.workers()[0].starts_with("otter-"));
            let text = unfinished.to_string();
            assert!(
                text.contains("otter-") && text.contains("'mule'") && text.contains("sleeping"),
                "{text}"
            );
            assert!(is_cancelled(fine.join()), "others have ended all the same");
            assert!(!mule.is_finished());
            mule.cancel();
            assert!(!mule.is_finished(), "it is left behind, asleep");
        });
    }
}

#[test]
fn who_was_left_behind_may_still_come_to_an_end() {
    on_one_and_three(|runtime| {
        let handle = runtime.start().unwrap();
        let let_go = Flag::default();
        let mule = stubborn(&handle, "mule", &let_go, thread::yield_now);
        assert_eq!(
            runtime
                .shutdown(Duration::from_millis(5))
                .unwrap_err()
                .stragglers()
                .len(),
            1
        );
        let_go.set();
        mule.join().unwrap();
        assert!(is_cancelled(handle.spawn(|| ()).join()));
    });
}

#[test]
fn a_worker_that_computes_is_named_and_its_neighbours_closures_are_dropped() {
    bounded(|| {
        let runtime = runtime(2);
        let handle = runtime.start().unwrap();
        let (started, let_go) = (Flag::default(), Flag::default());
        let (set, until) = (started.clone(), let_go.clone());
        let computes = handle.spawn(move || {
            set.set();
            while !until.is_set() {
                std::hint::spin_loop();
            }
        });
        started.wait();
        // Some of these stand at the post of the one that computes.
        let threads: Vec<_> = (0..10).map(|_| handle.spawn(thread::park)).collect();
        let unfinished = runtime.shutdown(Duration::from_millis(500)).unwrap_err();
        assert_eq!(
            (unfinished.stragglers().len(), unfinished.workers().len()),
            (0, 1)
        );
        assert!(
            threads
                .into_iter()
                .all(|thread| is_cancelled(thread.join()))
        );
        let_go.set();
        assert!(computes.join().is_ok());
    });
}

#[test]
fn dropping_a_started_runtime_waits_for_its_green_threads_to_unwind() {
    on_one_and_three(|runtime| {
        let handle = runtime.start().unwrap();
        let (started, dropped) = (Flag::default(), Flag::default());
        let (set, drops) = (started.clone(), dropped.clone());
        let thread = handle.spawn(move || {
            let _value = OnDrop(move || {
                (0..100).for_each(|_| thread::yield_now());
                drops.set();
            });
            set.set();
            thread::park();
        });
        started.wait();
        drop(runtime);
        assert!(dropped.is_set() && thread.is_finished());
        assert!(is_cancelled(thread.join()));
    });
}

#[test]
fn dropping_a_started_runtime_reports_who_does_not_end() {
    bounded(|| {
        if is_child() {
            let config = Config::default()
                .workers(2)
                .shutdown_timeout(Duration::from_millis(20));
            let runtime = Runtime::new(config).unwrap();
            let handle = runtime.start().unwrap();
            let let_go = Flag::default();
            let mule = stubborn(&handle, "mule", &let_go, thread::park);
            drop(runtime);
            assert!(!mule.is_finished());
            return println!("gone on");
        }
        let output = child("dropping_a_started_runtime_reports_who_does_not_end", &[]);
        let errors = stderr(&output);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("gone on"),
            "{errors}"
        );
        assert!(
            errors.contains("green thread 'mule' (spawned at tests/runtime.rs:"),
            "{errors}"
        );
        assert!(errors.contains("worker hebra-"), "{errors}");
    });
}

#[test]
fn shutdown_says_nothing_on_standard_error() {
    bounded(|| {
        if is_child() {
            let runtime = runtime(2);
            let handle = runtime.start().unwrap();
            let let_go = Flag::default();
            stubborn(&handle, "mule", &let_go, thread::park);
            runtime.shutdown(Duration::from_millis(20)).unwrap_err();
            return println!("done");
        }
        let output = child("shutdown_says_nothing_on_standard_error", &[]);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            stderr(&output)
        );
    });
}

#[test]
fn a_green_thread_of_its_own_cannot_shut_a_runtime_down_but_may_drop_it() {
    for workers in [1, 3] {
        bounded(|| {
            // So long that the test would hang if it were waited for.
            let runtime =
                Runtime::new(Config::default().workers(workers).shutdown_timeout(LONG)).unwrap();
            let runtime = Arc::new(Mutex::new(Some(runtime)));
            let handle = runtime.lock().unwrap().as_ref().unwrap().start().unwrap();
            let (there, value) = (runtime.clone(), Flag::default());
            let set = value.clone();
            let thread = handle.spawn(move || {
                let _value = OnDrop(move || set.set());
                let own = there.lock().unwrap().take().unwrap();
                let panics = panic::catch_unwind(AssertUnwindSafe(|| own.shutdown(LONG)));
                let message = message(panics);
                assert!(
                    message.contains("cannot shut its own runtime down"),
                    "{message}"
                );
                // That has dropped it, and so the thread is cancelled.
                thread::park();
            });
            assert!(is_cancelled(thread.join()));
            assert!(value.is_set());
        });
    }
}

#[test]
fn a_green_thread_of_another_runtime_waits_for_a_shutdown_without_keeping_its_worker() {
    bounded(|| {
        let other = runtime(2);
        let handle = other.start().unwrap();
        let let_go = Flag::default();
        let slow = stubborn(&handle, "slow", &let_go, thread::yield_now);
        runtime(1).run(|| {
            let waits = thread::spawn_local(move || other.shutdown(LONG));
            // It runs while the other waits.
            thread::sleep(Duration::from_millis(5));
            assert!(!waits.is_finished());
            let_go.set();
            waits.join().unwrap().unwrap();
        });
        slow.join().unwrap();
    });
}

#[test]
fn a_shutdown_that_is_cancelled_waits_for_nobody() {
    bounded(|| {
        let other = runtime(1);
        let handle = other.start().unwrap();
        let let_go = Flag::default();
        let slow = stubborn(&handle, "slow", &let_go, thread::yield_now);
        runtime(1).run(|| {
            let late = thread::timeout(Duration::from_millis(5), || other.shutdown(LONG));
            assert!(late.is_err());
        });
        let_go.set();
        slow.join().unwrap();
    });
}

#[test]
fn started_runtimes_leave_neither_descriptors_nor_os_threads_behind() {
    fn resources() -> [usize; 2] {
        ["/proc/self/fd", "/proc/self/task"].map(|path| std::fs::read_dir(path).unwrap().count())
    }
    bounded(|| {
        if is_child() {
            let once = |end: fn(Runtime)| {
                let runtime = runtime(3);
                let handle = runtime.start().unwrap();
                handle.spawn(thread::park);
                handle.spawn(|| ()).join().unwrap();
                end(runtime);
            };
            once(drop);
            let before = resources();
            (0..25).for_each(|_| once(drop));
            (0..25).for_each(|_| once(|runtime| runtime.shutdown(LONG).unwrap()));
            assert_eq!(resources(), before);
            return println!("done");
        }
        let output = child(
            "started_runtimes_leave_neither_descriptors_nor_os_threads_behind",
            &[],
        );
        assert!(output.status.success(), "{}", stderr(&output));
    });
}

#[test]
fn thread_name_with_a_zero_byte_is_refused() {
    for workers in [1, 2] {
        let config = Config::default().workers(workers).thread_name("a\0b");
        let error = Runtime::new(config).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
