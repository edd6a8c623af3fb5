//! Poisoning and the panic count, while a neighbour on the same worker is parked in the middle of
//! its unwinding.

#![cfg(feature = "runtime")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::panicking;
use std::time::Duration;

use hebra::sync::{Event, Mutex, Once, OnceLock, RwLock};
use hebra::thread;
use support::{on_workers, quietly, run_the_others};

const LONG: Duration = Duration::from_secs(3600);

/// Waits in its destructor for `go_on`, after setting `stands`; there it still has to be unwinding.
struct Stands {
    stands: Arc<Event>,
    go_on: Arc<Event>,
}

impl Drop for Stands {
    fn drop(&mut self) {
        assert!(panicking());
        self.stands.set();
        self.go_on.wait();
        assert!(panicking());
    }
}

#[derive(Debug, Clone, Copy)]
enum Cause {
    Panic,
    Cancellation,
}

const CAUSES: [Cause; 2] = [Cause::Panic, Cause::Cancellation];

/// A green thread that unwinds, and stands still in the middle of it when this has returned.
struct Unwinder {
    thread: thread::JoinHandle<()>,
    go_on: Arc<Event>,
}

impl Unwinder {
    fn start(cause: Cause) -> Unwinder {
        let (stands, go_on) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let bomb = Stands {
            stands: stands.clone(),
            go_on: go_on.clone(),
        };
        let thread = thread::spawn_local(move || {
            let _bomb = bomb;
            match cause {
                Cause::Panic => panic!("unwinds"),
                Cause::Cancellation => thread::sleep(LONG),
            }
        });
        if let Cause::Cancellation = cause {
            run_the_others();
            thread.cancel();
        }
        stands.wait();
        Unwinder { thread, go_on }
    }

    fn end(self) {
        self.go_on.set();
        assert!(self.thread.join().is_err());
    }
}

/// Runs `f` once with a neighbour that unwinds for either cause.
fn beside_an_unwinder(f: impl Fn()) {
    quietly(|| {
        for cause in CAUSES {
            on_workers(1, || {
                let unwinder = Unwinder::start(cause);
                f();
                unwinder.end();
                assert!(!panicking());
            });
        }
    });
}

/// Panics while it holds `mutex`.
fn panic_holding(mutex: &Mutex<()>) {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = mutex.lock();
        panic!("while it is held");
    }));
    assert!(panicked.is_err());
}

#[test]
fn a_neighbour_that_unwinds_is_not_mistaken_for_oneself() {
    beside_an_unwinder(|| {
        assert!(!panicking());
        thread::yield_now();
        assert!(!panicking());
        assert!(!thread::spawn_local(panicking).join().unwrap());
    });
}

#[test]
fn a_lock_that_is_held_and_released_beside_an_unwinding_neighbour_is_not_poisoned() {
    beside_an_unwinder(|| {
        let (mutex, lock, stds) = (Mutex::new(()), RwLock::new(()), std::sync::Mutex::new(()));
        let guards = (mutex.lock().unwrap(), lock.write().unwrap());
        thread::yield_now();
        drop(guards);
        drop(stds.lock().unwrap());
        assert!(!mutex.is_poisoned() && !lock.is_poisoned() && !stds.is_poisoned());
    });
}

#[test]
fn a_panic_beside_an_unwinding_neighbour_poisons() {
    beside_an_unwinder(|| {
        let mutex = Mutex::new(());
        panic_holding(&mutex);
        assert!(mutex.is_poisoned());
        mutex.clear_poison();
        drop(mutex.lock().unwrap());
        assert!(!mutex.is_poisoned(), "the panic is over");
        let lock = RwLock::new(());
        let write = AssertUnwindSafe(|| {
            let _guard = lock.write();
            panic!("while it is held");
        });
        assert!(catch_unwind(write).is_err());
        assert!(lock.is_poisoned());
    });
}

#[test]
fn a_cancellation_beside_an_unwinding_neighbour_does_not_poison() {
    beside_an_unwinder(|| {
        let mutex = Arc::new(Mutex::new(()));
        let theirs = mutex.clone();
        let holder = thread::spawn_local(move || {
            let _guard = theirs.lock().unwrap();
            thread::sleep(LONG);
        });
        run_the_others();
        holder.cancel();
        assert!(holder.join().is_err());
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn a_guard_from_before_the_neighbour_unwinds_may_be_released_meanwhile_or_afterwards() {
    quietly(|| {
        for cause in CAUSES {
            on_workers(1, || {
                let (meanwhile, afterwards) = (Mutex::new(()), Mutex::new(()));
                let guards = (meanwhile.lock().unwrap(), afterwards.lock().unwrap());
                let unwinder = Unwinder::start(cause);
                drop(guards.0);
                unwinder.end();
                drop(guards.1);
                assert!(!meanwhile.is_poisoned() && !afterwards.is_poisoned());
            });
        }
    });
}

#[test]
fn a_guard_that_is_taken_beside_an_unwinder_poisons_by_a_panic_afterwards() {
    quietly(|| {
        for cause in CAUSES {
            on_workers(1, || {
                let mutex = Mutex::new(());
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let unwinder = Unwinder::start(cause);
                    let _guard = mutex.lock().unwrap();
                    unwinder.end();
                    panic!("while it is held");
                }));
                assert!(panicked.is_err());
                assert!(mutex.is_poisoned());
            });
        }
    });
}

#[test]
fn a_guard_from_before_poisons_by_a_panic_beside_an_unwinder() {
    quietly(|| {
        for cause in CAUSES {
            on_workers(1, || {
                let mutex = Mutex::new(());
                let unwinder = AssertUnwindSafe(std::cell::Cell::new(None));
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _guard = mutex.lock().unwrap();
                    unwinder.set(Some(Unwinder::start(cause)));
                    panic!("while it is held");
                }));
                assert!(panicked.is_err());
                assert!(mutex.is_poisoned());
                unwinder.take().unwrap().end();
            });
        }
    });
}

#[test]
fn the_unwinder_poisons_what_it_holds_itself_if_it_panics_and_only_then() {
    quietly(|| {
        for cause in CAUSES {
            on_workers(1, || {
                let mutex = Arc::new(Mutex::new(()));
                let (stands, go_on) = (Arc::new(Event::new()), Arc::new(Event::new()));
                let (theirs, bomb) = (
                    mutex.clone(),
                    Stands {
                        stands: stands.clone(),
                        go_on: go_on.clone(),
                    },
                );
                let unwinder = thread::spawn_local(move || {
                    // Dropped after the other, and so after the thread has stood still.
                    let _guard = theirs.lock().unwrap();
                    let _bomb = bomb;
                    match cause {
                        Cause::Panic => panic!("while it is held"),
                        Cause::Cancellation => thread::sleep(LONG),
                    }
                });
                run_the_others();
                unwinder.cancel();
                stands.wait();
                go_on.set();
                assert!(unwinder.join().is_err());
                assert_eq!(
                    mutex.is_poisoned(),
                    matches!(cause, Cause::Panic),
                    "{cause:?}"
                );
            });
        }
    });
}

#[test]
fn many_unwind_at_a_time_and_one_inside_of_another() {
    /// Panics in its destructor, catches that, and stands still in the middle of it.
    struct Nested(Option<Stands>);
    impl Drop for Nested {
        fn drop(&mut self) {
            let bomb = AssertUnwindSafe(self.0.take());
            let panicked = catch_unwind(move || {
                let _bomb = bomb;
                panic!("inside of another");
            });
            assert!(panicked.is_err());
            assert!(panicking());
        }
    }
    quietly(|| {
        on_workers(1, || {
            for _ in 0..3 {
                let go_on = Arc::new(Event::new());
                let threads: Vec<_> = (0..5)
                    .map(|_| {
                        let stands = Arc::new(Event::new());
                        let bomb = Nested(Some(Stands {
                            stands: stands.clone(),
                            go_on: go_on.clone(),
                        }));
                        let thread = thread::spawn_local(move || {
                            let _bomb = bomb;
                            panic!("the first");
                        });
                        stands.wait();
                        assert!(!panicking());
                        thread
                    })
                    .collect();
                go_on.set();
                for thread in threads {
                    assert!(thread.join().is_err());
                    assert!(!panicking());
                }
            }
        });
        assert!(!panicking());
    });
}

#[test]
fn on_two_workers_each_thread_knows_of_its_own_panics_only() {
    quietly(|| {
        on_workers(2, || {
            let threads: Vec<_> = (0..40)
                .map(|n| {
                    thread::spawn(move || {
                        for round in 0..20 {
                            let mutex = Mutex::new(());
                            let panics = (n + round) % 3 == 0;
                            let result = catch_unwind(AssertUnwindSafe(|| {
                                let _bomb = Yields;
                                let _guard = mutex.lock().unwrap();
                                thread::yield_now();
                                assert!(!panics, "wanted");
                            }));
                            assert_eq!(result.is_err(), panics);
                            assert_eq!(mutex.is_poisoned(), panics);
                            assert!(!panicking());
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
    });
}

/// Lets the others run in its destructor.
struct Yields;

impl Drop for Yields {
    fn drop(&mut self) {
        let before = panicking();
        for _ in 0..3 {
            thread::yield_now();
            assert_eq!(panicking(), before);
        }
    }
}

#[test]
fn an_initialisation_that_panics_beside_an_unwinder_poisons_and_a_cancelled_one_does_not() {
    beside_an_unwinder(|| {
        let once = Once::new();
        assert!(catch_unwind(|| once.call_once(|| panic!("inside"))).is_err());
        once.call_once_force(|state| assert!(state.is_poisoned()));
        let cell = Arc::new(OnceLock::new());
        let theirs = cell.clone();
        let cancelled = thread::spawn_local(move || {
            theirs.get_or_init(|| {
                thread::sleep(LONG);
                1
            });
        });
        run_the_others();
        cancelled.cancel();
        assert_eq!(*cell.get_or_init(|| 2), 2);
        assert!(cancelled.join().is_err());
    });
}

#[test]
fn a_cancellation_is_raised_beside_an_unwinder() {
    beside_an_unwinder(|| {
        let late = thread::timeout(Duration::from_millis(1), || {
            thread::sleep(LONG);
            unreachable!("it was cancelled where it slept");
        });
        assert!(late.is_err());
    });
}

/// Runs `f` on a thread that was cancelled, with the payload of the cancellation, on one worker.
fn with_kept_payload(f: impl FnOnce(Box<dyn std::any::Any + Send>) + Send + 'static) {
    on_workers(1, || {
        let thread = thread::spawn(|| {
            let kept = catch_unwind(|| thread::sleep(LONG)).unwrap_err();
            f(kept);
        });
        run_the_others();
        thread.cancel();
        thread.join().unwrap();
    });
}

#[test]
fn panic_poisons_while_a_cancellation_payload_is_kept() {
    quietly(|| {
        with_kept_payload(|_kept| {
            let mutex = Mutex::new(());
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _held = mutex.lock();
                panic!("wanted");
            }));
            assert!(result.is_err());
            assert!(mutex.is_poisoned());
            let lock = RwLock::new(());
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _held = lock.write();
                panic!("wanted");
            }));
            assert!(result.is_err());
            assert!(lock.is_poisoned());
            let once = Once::new();
            let result = catch_unwind(AssertUnwindSafe(|| once.call_once(|| panic!("wanted"))));
            assert!(result.is_err());
            once.call_once_force(|state| assert!(state.is_poisoned()));
        });
    });
}

#[test]
fn cancellation_does_not_poison_while_another_payload_is_kept() {
    with_kept_payload(|_kept| {
        let mutex = Mutex::new(());
        let again = catch_unwind(AssertUnwindSafe(|| {
            let _held = mutex.lock();
            thread::sleep(LONG);
        }));
        assert!(again.is_err());
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn payload_rethrown_in_another_thread_is_a_panic() {
    on_workers(1, || {
        let (sender, receiver) = std::sync::mpsc::channel();
        let cancelled = thread::spawn(move || {
            let kept = catch_unwind(|| thread::sleep(LONG)).unwrap_err();
            sender.send(kept).unwrap();
        });
        run_the_others();
        cancelled.cancel();
        assert!(cancelled.join().is_ok());
        let kept = receiver.recv().unwrap();
        let mutex = Arc::new(Mutex::new(()));
        let theirs = mutex.clone();
        let other = thread::spawn(move || {
            let _held = theirs.lock().unwrap();
            std::panic::resume_unwind(kept);
        });
        let payload = other.join().unwrap_err();
        assert!(!payload.is::<thread::Cancelled>());
        assert!(payload.is::<&str>());
        assert!(mutex.is_poisoned());
    });
}

#[test]
fn payload_of_a_timeout_rethrown_after_it_is_a_panic() {
    on_workers(1, || {
        let thread = thread::spawn(|| {
            let mut kept = None;
            let _ = thread::timeout(Duration::from_millis(1), || {
                kept = catch_unwind(|| thread::sleep(LONG)).err();
            });
            std::panic::resume_unwind(kept.unwrap());
        });
        assert!(!thread.join().unwrap_err().is::<thread::Cancelled>());
    });
}
