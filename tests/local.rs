//! Thread-locals: one value a thread, green or OS; made once, destroyed at its end, whatever that
//! end is.

#![cfg(feature = "runtime")]

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hebra::thread::{self, Builder, Cancelled, LocalKey};
use hebra::{Config, Generator, GeneratorState, Runtime};

use support::{bounded, child, is_child, on_workers, stderr, wait_until};

mod support;

/// What has happened, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn say(log: &Log, what: impl Into<String>) {
    log.lock().unwrap().push(what.into());
}

fn said(log: &Log) -> Vec<String> {
    log.lock().unwrap().clone()
}

/// Runs a closure when it is dropped.
struct OnDrop(Box<dyn FnMut()>);

impl OnDrop {
    fn new(f: impl FnMut() + 'static) -> OnDrop {
        OnDrop(Box::new(f))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Three keys for values that are given by the test.
mod keys {
    use super::{OnDrop, OnceCell};

    hebra::thread_local! {
        pub static A: OnceCell<OnDrop> = const { OnceCell::new() };
        pub static B: OnceCell<OnDrop> = OnceCell::new();
        pub(crate) static C: OnceCell<OnDrop> = const { OnceCell::new() }
    }
}

use keys::{A, B, C};

fn set(key: &'static LocalKey<OnceCell<OnDrop>>, f: impl FnMut() + 'static) {
    key.with(|cell| assert!(cell.set(OnDrop::new(f)).is_ok()));
}

fn log_drop(key: &'static LocalKey<OnceCell<OnDrop>>, log: &Log, what: &'static str) {
    let log = log.clone();
    set(key, move || say(&log, what));
}

hebra::thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static NAME: RefCell<String> = RefCell::new(String::from("nobody"));
    static SHARED: Rc<Cell<u32>> = Rc::default();
}

#[test]
fn the_grammar_is_stds() {
    #![deny(warnings)]
    hebra::thread_local! {}
    hebra::thread_local!(static NO_SEMICOLON: u8 = 1);
    hebra::thread_local!(
        static SEMICOLON: u8 = 2;
    );
    hebra::thread_local!(static CONST: &str = const { "three" });
    hebra::thread_local! {
        /// A documented one.
        #[allow(dead_code)]
        static NEVER_USED: Vec<u8> = panic!("never");
        #[cfg(any())]
        static LEFT_OUT: NoSuchType = no_such_function();
        pub static PUBLIC: [u8; 4] = const { [4; 4] };
        pub(self) static RESTRICTED: (u8, char) = (5, 'f');
        static BLOCK: u32 = { let two = 2; two * 3 };
        static CAST: u64 = 7_u32 as u64;
    }
    let all = || {
        (
            NO_SEMICOLON.with(|v| *v),
            SEMICOLON.with(|v| *v),
            CONST.with(|v| *v),
            PUBLIC.with(|v| v[3]),
            RESTRICTED.with(|v| v.0),
            BLOCK.with(|v| *v),
            CAST.with(|v| *v),
        )
    };
    let expected = (1, 2, "three", 4, 5, 6, 7);
    assert_eq!(all(), expected);
    assert_eq!(bounded(|| hebra::run(all)), expected);
}

#[test]
fn each_thread_has_a_value_of_its_own() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let threads: Vec<_> = (1..=100)
                .map(|n| {
                    thread::spawn(move || {
                        assert_eq!((COUNT.get(), NAME.take()), (0, "nobody".to_owned()));
                        COUNT.set(n);
                        NAME.set(n.to_string());
                        SHARED.with(|shared| {
                            // Parks with a reference, and with a value that is not `Send`.
                            thread::yield_now();
                            thread::sleep(Duration::from_micros(100));
                            shared.set(n);
                        });
                        thread::yield_now();
                        assert_eq!(NAME.with_borrow(String::clone), n.to_string());
                        assert_eq!(COUNT.get(), SHARED.with(|shared| shared.get()));
                        COUNT.get()
                    })
                })
                .collect();
            assert_eq!(COUNT.replace(1000), 0);
            assert_eq!(
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .sum::<u32>(),
                5050
            );
            assert_eq!(COUNT.get(), 1000);
        });
    }
    assert_eq!(COUNT.get(), 0, "the OS thread has a value of its own, too");
}

#[test]
fn a_thread_in_the_place_of_one_that_has_ended_starts_anew() {
    on_workers(1, || {
        for _ in 0..10 {
            let fresh = thread::spawn(|| {
                (
                    COUNT.replace(7),
                    NAME.replace("used".into()),
                    SHARED.with(|shared| shared.replace(7)),
                )
            });
            assert_eq!(fresh.join().unwrap(), (0, "nobody".into(), 0));
        }
    });
}

#[test]
fn an_os_thread_keeps_its_values_from_run_to_run_and_green_threads_do_not_see_them() {
    bounded(|| {
        COUNT.set(3);
        let runtime = Runtime::new(Config::default().workers(1)).unwrap();
        assert_eq!(runtime.run(|| COUNT.replace(9)), 0);
        assert_eq!(runtime.run(|| COUNT.get()), 0);
        assert_eq!(COUNT.get(), 3);
        assert_eq!(std::thread::spawn(|| COUNT.get()).join().unwrap(), 0);
    });
}

/// Runs `test` on a green thread, and on an OS thread, where keys are std's.
fn on_both_kinds(test: fn()) {
    on_workers(1, || thread::spawn(test).join().unwrap());
    bounded(|| std::thread::spawn(test).join().unwrap());
}

#[test]
fn cells_have_stds_methods() {
    on_both_kinds(|| {
        hebra::thread_local! {
            static CELL: Cell<Option<Box<u32>>> = panic!("set does not initialise");
            static REF: RefCell<Vec<u32>> = panic!("set does not initialise");
        }
        CELL.set(Some(Box::new(1)));
        CELL.set(Some(Box::new(2)));
        assert_eq!(CELL.replace(None), Some(Box::new(2)));
        CELL.set(Some(Box::new(3)));
        assert_eq!((CELL.take(), CELL.take()), (Some(Box::new(3)), None));
        REF.set(vec![1]);
        REF.set(vec![2]);
        assert_eq!(REF.replace(vec![3]), [2]);
        REF.with_borrow_mut(|values| values.push(4));
        assert_eq!(REF.with_borrow(Vec::len), 2);
        assert_eq!((REF.take(), REF.take()), (vec![3, 4], vec![]));
        let twice = || REF.with_borrow(|_| REF.with_borrow_mut(|_| ()));
        assert!(panic::catch_unwind(twice).is_err(), "it is borrowed");
        assert_eq!(COUNT.get(), 0);
    });
}

#[test]
fn an_initialiser_may_park_use_other_keys_and_itself_and_runs_once() {
    hebra::thread_local! {
        static RUNS: Cell<u32> = const { Cell::new(0) };
        static SLOW: String = {
            thread::sleep(Duration::from_millis(1));
            RUNS.set(RUNS.get() + 1);
            format!("{:?}", thread::current().id())
        };
        // As in std, the outer value takes the place of the inner one.
        static RECURSIVE: Cell<u32> = {
            RUNS.set(RUNS.get() + 1);
            if RUNS.get() == 1 {
                RECURSIVE.set(10);
                assert_eq!(RECURSIVE.get(), 10);
            }
            Cell::new(20)
        };
    }
    for workers in [1, 2] {
        on_workers(workers, || {
            let threads = [(); 10].map(|()| {
                thread::spawn(|| {
                    let slow = SLOW.with(String::clone);
                    assert_eq!(slow, format!("{:?}", thread::current().id()));
                    assert_eq!((SLOW.with(String::clone), RUNS.get()), (slow, 1));
                })
            });
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
    }
    on_both_kinds(|| assert_eq!(RECURSIVE.get(), 20));
}

#[test]
fn an_initialiser_that_panics_has_not_happened() {
    on_both_kinds(|| {
        hebra::thread_local! {
            static TRIES: Cell<u32> = const { Cell::new(0) };
            static THIRD: u32 = {
                TRIES.set(TRIES.get() + 1);
                if TRIES.get() < 3 { panic::resume_unwind(Box::new("not yet")) }
                33
            };
        }
        assert!(panic::catch_unwind(|| THIRD.with(|_| ())).is_err());
        assert!(panic::catch_unwind(|| THIRD.try_with(|_| ())).is_err());
        assert_eq!(THIRD.with(|value| *value), 33);
        assert_eq!(TRIES.get(), 3);
    });
}

/// The ways in which a green thread ends.
fn ways_to_end() -> [(&'static str, fn()); 4] {
    [
        ("returns", || ()),
        ("panics", || panic::resume_unwind(Box::new(()))),
        ("is cancelled where it parks", thread::park),
        ("is cancelled where it yields", || {
            loop {
                thread::yield_now();
            }
        }),
    ]
}

#[test]
fn values_are_destroyed_on_their_own_thread_whatever_its_end_last_initialised_first() {
    for workers in [1, 2] {
        for (way, end) in ways_to_end() {
            let log = Log::default();
            let started = Arc::new(AtomicUsize::new(0));
            on_workers(workers, || {
                let (log, start) = (log.clone(), started.clone());
                let builder = Builder::new().name("owner".into());
                let thread = builder.spawn(move || {
                    for (key, letter) in [(&B, 'b'), (&A, 'a'), (&C, 'c')] {
                        let log = log.clone();
                        set(key, move || {
                            say(
                                &log,
                                format!("{letter} on {}", thread::current().name().unwrap()),
                            )
                        });
                    }
                    start.fetch_add(1, SeqCst);
                    let _during = OnDrop::new(move || say(&log, "the stack"));
                    end();
                });
                wait_until(|| started.load(SeqCst) == 1);
                drop(thread);
            });
            assert_eq!(
                said(&log),
                ["the stack", "c on owner", "a on owner", "b on owner"],
                "{way}"
            );
        }
    }
}

#[test]
fn values_are_destroyed_before_join_returns() {
    for workers in [1, 2] {
        on_workers(workers, || {
            for _ in 0..100 {
                let log = Log::default();
                let there = log.clone();
                thread::spawn(move || log_drop(&A, &there, "destroyed"))
                    .join()
                    .unwrap();
                assert_eq!(said(&log), ["destroyed"]);
            }
        });
    }
}

#[test]
fn values_of_the_first_green_thread_are_destroyed_before_run_returns() {
    bounded(|| {
        let log = Log::default();
        let runtime = Runtime::new(Config::default().workers(1)).unwrap();
        runtime.run(|| {
            log_drop(&A, &log, "first");
            let there = log.clone();
            // A thread that the destructor needs is there still.
            set(&B, move || {
                let other = thread::spawn(thread::yield_now);
                say(&there, format!("joined: {}", other.join().is_ok()));
            });
        });
        let panics = panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.run(|| {
                log_drop(&A, &log, "second");
                panic::resume_unwind(Box::new(()));
            });
        }));
        assert!(panics.is_err());
        assert_eq!(said(&log), ["joined: true", "first", "second"]);
    });
}

#[test]
fn a_destructor_may_use_other_keys_and_what_it_initialises_is_destroyed_too() {
    static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn test() {
        let log = |what: &str| LOG.lock().unwrap().push(what.to_owned());
        set(&A, move || {
            log("a");
            assert_eq!(
                A.try_with(|_| ()).unwrap_err().to_string(),
                "already destroyed"
            );
            assert!(panic::catch_unwind(|| A.with(|_| ())).is_err());
            // It is initialised only now.
            set(&B, move || {
                log("b");
                assert!(A.try_with(|_| ()).is_err(), "gone for good");
                set(&C, move || log("c"));
            });
            assert_eq!(
                COUNT.get(),
                5,
                "a value without a destructor lives till the end"
            );
        });
        COUNT.set(5);
    }

    on_both_kinds(test);
    assert_eq!(*LOG.lock().unwrap(), ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn a_destructor_may_park_and_its_neighbours_run_meanwhile() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let log = Log::default();
            let (there, here) = (log.clone(), thread::current());
            let slow = thread::spawn(move || {
                set(&A, move || {
                    say(&there, "begins");
                    here.unpark();
                    thread::sleep(Duration::from_millis(1));
                    thread::park();
                    say(&there, "ends");
                });
            });
            while said(&log).is_empty() {
                thread::park();
            }
            assert!(!slow.is_finished());
            slow.thread().unpark();
            slow.join().unwrap();
            assert_eq!(said(&log), ["begins", "ends"]);
        });
    }
}

#[test]
fn a_destructor_that_panics_is_reported_and_harms_nobody() {
    bounded(|| {
        if is_child() {
            on_workers(1, || {
                let log = Log::default();
                let there = log.clone();
                let builder = Builder::new().name("clumsy".into());
                let thread = builder.spawn(move || {
                    log_drop(&A, &there, "the first");
                    set(&B, || panic!("oh dear"));
                    // Whose payload panics, too.
                    set(&C, || panic::panic_any(panic_later()));
                    5
                });
                assert_eq!(thread.unwrap().join().unwrap(), 5);
                assert_eq!(said(&log), ["the first"]);
            });
            return println!("gone on");
        }
        let output = child("a_destructor_that_panics_is_reported_and_harms_nobody", &[]);
        let errors = stderr(&output);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("gone on"),
            "{errors}"
        );
        let said = "hebra: the destructor of a thread-local panicked in green thread 'clumsy' (spawned at tests/local.rs:";
        assert!(
            errors.contains(said) && errors.contains("): oh dear"),
            "{errors}"
        );
    });
}

fn panic_later() -> impl std::any::Any + Send {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("once more");
        }
    }
    Panics
}

#[test]
fn a_cancelled_thread_destroys_its_values_without_a_word_though_they_wait() {
    bounded(|| {
        if is_child() {
            let log = Log::default();
            on_workers(1, || {
                let (there, started) = (log.clone(), Arc::new(AtomicUsize::new(0)));
                let start = started.clone();
                thread::spawn(move || {
                    log_drop(&A, &there, "the first");
                    set(&B, thread::park);
                    set(&C, || thread::sleep(Duration::from_secs(3600)));
                    start.fetch_add(1, SeqCst);
                    thread::park();
                });
                wait_until(|| started.load(SeqCst) == 1);
            });
            assert_eq!(said(&log), ["the first"]);
            return println!("done");
        }
        let output = child(
            "a_cancelled_thread_destroys_its_values_without_a_word_though_they_wait",
            &[],
        );
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            stderr(&output)
        );
    });
}

#[test]
fn a_closure_that_never_ran_leaves_no_values_behind() {
    for workers in [1, 2] {
        let log = Log::default();
        on_workers(workers, || {
            let there = log.clone();
            // Its destructor is the first to use the key.
            let value = OnDrop::new(move || log_drop(&A, &there, "destroyed"));
            let thread = thread::spawn_local(move || drop(value));
            drop(thread);
        });
        assert_eq!(said(&log), ["destroyed"]);
    }
}

#[test]
fn the_result_of_a_detached_thread_may_use_keys_in_its_destructor() {
    let log = Log::default();
    on_workers(1, || {
        let there = log.clone();
        let thread = thread::spawn_local(move || {
            log_drop(&A, &there, "first");
            OnDrop::new(move || log_drop(&A, &there, "second"))
        });
        drop(thread);
        wait_until(|| said(&log).len() == 2);
        assert_eq!(said(&log), ["first", "second"]);
    });
}

#[test]
fn a_generator_sees_the_values_of_the_thread_that_runs_it() {
    on_workers(1, || {
        let threads = [1, 2].map(|n| {
            thread::spawn(move || {
                COUNT.set(n);
                let mut counts = Generator::<(), u32, ()>::new(|y, ()| {
                    loop {
                        COUNT.with(|count| {
                            count.set(count.get() + 10);
                            thread::yield_now();
                            // Suspended inside `with`.
                            y.yield_(count.get());
                        });
                    }
                });
                assert_eq!(counts.resume(()), GeneratorState::Yielded(n + 10));
                thread::yield_now();
                assert_eq!(counts.resume(()), GeneratorState::Yielded(n + 20));
                assert_eq!(COUNT.get(), n + 20);
            })
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_generator_kept_in_a_thread_local_and_suspended_inside_another_unwinds_at_the_end() {
    hebra::thread_local! {
        static WALK: RefCell<Option<Generator<(), (), ()>>> = const { RefCell::new(None) };
    }
    on_workers(1, || {
        let log = Log::default();
        let there = log.clone();
        thread::spawn(move || {
            let mut walk = Generator::new(move |y, ()| {
                let _last = OnDrop::new({
                    let there = there.clone();
                    move || say(&there, "unwound")
                });
                set(&A, move || say(&there, "the value"));
                A.with(|_| y.yield_(()));
            });
            walk.resume(());
            WALK.set(Some(walk));
        })
        .join()
        .unwrap();
        let mut said = said(&log);
        said.sort();
        assert_eq!(said, ["the value", "unwound"]);
    });
}

#[test]
fn many_keys_in_many_threads_stay_apart() {
    macro_rules! keys {
        ($($name:ident)*) => {
            hebra::thread_local! { $(static $name: Cell<usize> = const { Cell::new(0) };)* }
            fn all() -> Vec<&'static LocalKey<Cell<usize>>> { vec![$(&$name),*] }
        };
    }
    keys!(K0 K1 K2 K3 K4 K5 K6 K7 K8 K9 K10 K11 K12 K13 K14 K15 K16 K17 K18 K19 K20 K21 K22 K23 K24 K25 K26 K27 K28 K29);
    on_workers(2, || {
        let threads: Vec<_> = (0..200)
            .map(|n: usize| {
                thread::spawn(move || {
                    for round in 0..3 {
                        for (at, key) in all().into_iter().enumerate() {
                            assert_eq!(
                                key.get(),
                                if round == 0 {
                                    0
                                } else {
                                    n * 100 + at + round - 1
                                }
                            );
                            key.set(n * 100 + at + round);
                        }
                        thread::yield_now();
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn values_may_be_of_any_type_and_are_dropped_once() {
    on_workers(2, || {
        let count = Arc::new(());
        hebra::thread_local! {
            static HELD: RefCell<Option<Arc<()>>> = const { RefCell::new(None) };
            static EMPTY: () = ();
        }
        let threads: Vec<_> = (0..1000)
            .map(|_| {
                let count = count.clone();
                thread::spawn(move || {
                    EMPTY.with(|()| HELD.set(Some(count)));
                    thread::yield_now();
                    assert!(HELD.with_borrow(Option::is_some));
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(Arc::strong_count(&count), 1);
    });
}

#[test]
fn who_is_cancelled_is_told_so_though_its_values_have_been_destroyed() {
    let thread = on_workers(1, || {
        let started = Arc::new(AtomicUsize::new(0));
        let start = started.clone();
        let thread = thread::spawn(move || {
            COUNT.set(1);
            start.fetch_add(1, SeqCst);
            thread::park();
        });
        wait_until(|| started.load(SeqCst) == 1);
        thread
    });
    assert!(thread.join().unwrap_err().is::<Cancelled>());
}
