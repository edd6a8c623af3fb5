//! Threads that somebody waits for as a whole: `scope`, `try_scope`, `race`, `JoinSet`.

#![cfg(feature = "runtime")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::Generator;
use hebra::thread::{
    self, Builder, Cancelled, Failure, JoinSet, ScopeError, race, scope, shield, timeout, try_scope,
};

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

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn caught<T>(f: impl FnOnce() -> T) -> thread::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

/// A panic without a report.
fn panic_with(text: &'static str) -> ! {
    panic::resume_unwind(Box::new(text))
}

fn text<T>(result: thread::Result<T>) -> &'static str {
    result
        .err()
        .expect("it panicked")
        .downcast_ref::<&str>()
        .expect("the payload is a text")
}

fn is_cancelled<T>(result: thread::Result<T>) -> bool {
    result.is_err_and(|payload| payload.is::<Cancelled>())
}

/// Counts as one who is there from its making to its drop.
struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    fn new(count: &'a AtomicUsize) -> Present<'a> {
        count.fetch_add(1, SeqCst);
        Present(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        // Whoever is cancelled takes its time to go.
        shield(|| thread::sleep(Duration::from_micros(200)));
        self.0.fetch_sub(1, SeqCst);
    }
}

// `scope`: std's contract.

#[test]
fn a_scope_returns_what_its_closure_returns_when_all_its_threads_have_ended() {
    on_one_and_two(|_| {
        let ended = AtomicUsize::new(0);
        let value = scope(|s| {
            for n in 0..50 {
                let ended = &ended;
                s.spawn(move || {
                    thread::sleep(Duration::from_micros(n * 20));
                    ended.fetch_add(1, SeqCst);
                });
            }
            "value"
        });
        assert_eq!((value, ended.load(SeqCst)), ("value", 50));
    });
}

#[test]
fn scoped_threads_borrow_and_change_the_locals_of_whoever_has_spawned_them() {
    on_one_and_two(|_| {
        let mut numbers = vec![1, 2, 3];
        let mut sum = 0;
        let first = scope(|s| {
            let halves = numbers.split_at_mut(1);
            s.spawn(|| halves.1.iter_mut().for_each(|n| *n *= 10));
            s.spawn(|| sum = 7);
            s.spawn(|| halves.0.first().copied()).join().unwrap()
        });
        numbers.push(4);
        assert_eq!((first, sum, numbers), (Some(1), 7, vec![1, 20, 30, 4]));
    });
}

#[test]
fn a_result_may_borrow_and_is_dropped_within_the_scope_if_nobody_wants_it() {
    on_one_and_two(|_| {
        let here = AtomicUsize::new(0);
        let words = [String::from("strand")];
        let longest = scope(|s| {
            s.spawn(|| Present::new(&here));
            std::mem::forget(s.spawn(|| 1));
            let unwanted = s.spawn(|| Present::new(&here));
            wait_until(|| unwanted.is_finished());
            drop(unwanted);
            s.spawn(|| words.iter().map(String::as_str).max())
                .join()
                .unwrap()
        });
        assert_eq!((longest, here.load(SeqCst)), (Some("strand"), 0));
    });
}

#[test]
fn scoped_threads_spawn_siblings_into_the_scope_and_scopes_of_their_own() {
    on_one_and_two(|_| {
        let count = AtomicUsize::new(0);
        scope(|s| {
            s.spawn(|| {
                for _ in 0..10 {
                    s.spawn(|| {
                        thread::sleep(Duration::from_micros(50));
                        s.spawn(|| count.fetch_add(1, SeqCst));
                        scope(|inner| drop(inner.spawn(|| count.fetch_add(1, SeqCst))));
                    });
                }
            });
        });
        assert_eq!(count.load(SeqCst), 20);
    });
}

#[test]
fn a_panic_that_is_joined_is_the_joiners() {
    on_one_and_two(|_| {
        let result = scope(|s| {
            let one = s.spawn(|| panic_with("first"));
            let other = s.spawn(|| panic_with("second"));
            wait_until(|| one.is_finished() && other.is_finished());
            (text::<()>(one.join()), text::<()>(other.join()))
        });
        assert_eq!(result, ("first", "second"));
    });
}

#[test]
fn a_panic_that_nobody_joins_panics_when_all_have_ended() {
    on_one_and_two(|_| {
        let ended = AtomicBool::new(false);
        let result = caught(|| {
            scope(|s| {
                s.spawn(|| panic_with("mine"));
                s.spawn(|| {
                    thread::sleep(SHORTLY);
                    ended.store(true, SeqCst);
                });
                7
            })
        });
        assert!(ended.load(SeqCst));
        assert_eq!(text(result), "a scoped thread panicked");
    });
}

#[test]
fn a_panic_of_the_closure_goes_on_when_all_have_ended() {
    on_one_and_two(|_| {
        let ended = AtomicBool::new(false);
        let result = caught(|| {
            scope(|s| {
                s.spawn(|| {
                    thread::sleep(SHORTLY);
                    thread::yield_now();
                    ended.store(true, SeqCst);
                });
                s.spawn(|| panic_with("a thread's"));
                panic_with("the closure's");
            })
        });
        assert!(ended.load(SeqCst), "std does not cancel, and neither do we");
        assert_eq!(text::<()>(result), "the closure's");
    });
}

#[test]
fn a_scoped_thread_has_an_id_a_name_and_an_end_of_its_own() {
    on_one_and_two(|_| {
        let go = AtomicBool::new(false);
        scope(|s| {
            let builder = || Builder::new().name("bee".into()).stack_size(64 << 10);
            let handles: Vec<_> = (0..3)
                .map(|_| {
                    let named = builder().spawn_scoped(s, || {
                        wait_until(|| go.load(SeqCst));
                        thread::current()
                    });
                    named.unwrap()
                })
                .collect();
            assert!(
                handles
                    .iter()
                    .all(|handle| !handle.is_finished() && handle.thread().name() == Some("bee"))
            );
            go.store(true, SeqCst);
            let ids: HashSet<_> = handles.iter().map(|handle| handle.thread().id()).collect();
            assert_eq!(ids.len(), 3);
            for handle in handles {
                let id = handle.thread().id();
                wait_until(|| handle.is_finished());
                assert_eq!(handle.join().unwrap().id(), id);
            }
        });
    });
}

#[test]
fn a_thread_that_is_refused_is_not_waited_for() {
    on_one_and_two(|_| {
        let here = AtomicUsize::new(0);
        scope(|s| {
            let present = Present::new(&here);
            let refused = Builder::new()
                .stack_size(usize::MAX)
                .spawn_scoped(s, move || drop(present));
            assert!(refused.is_err());
            assert_eq!(here.load(SeqCst), 0);
        });
    });
}

// A sanitizer makes mappings of its own.
#[cfg(all(target_os = "linux", not(hebra_sanitizer)))]
#[test]
fn a_thread_for_which_there_is_no_stack_is_not_waited_for() {
    use support::{child, is_child, stderr};
    if !is_child() {
        let output = child(
            "a_thread_for_which_there_is_no_stack_is_not_waited_for",
            &[("HEBRA_STACK_GUARD", "mprotect")],
        );
        return assert!(output.status.success(), "{}", stderr(&output));
    }
    on_workers(1, || {
        let here = AtomicUsize::new(0);
        scope(|s| {
            let mut parked = Vec::new();
            loop {
                let present = Present::new(&here);
                let spawned = Builder::new().stack_size(16 << 10).spawn_scoped(s, || {
                    std::mem::forget(present);
                    thread::park();
                });
                match spawned {
                    Ok(handle) => parked.push(handle),
                    Err(_) => break,
                }
            }
            assert!(parked.len() > 1_000);
            assert_eq!(here.load(SeqCst), parked.len(), "the closure was dropped");
            parked.iter().for_each(|handle| handle.thread().unpark());
        });
    });
}

#[test]
fn outside_a_runtime_a_scope_runs_its_closure_but_cannot_spawn() {
    assert_eq!(bounded(|| scope(|_| 7)), 7);
    let refused = caught(|| bounded(|| scope(|s| drop(s.spawn(|| 7)))));
    let payload = refused.unwrap_err();
    assert!(
        payload
            .downcast_ref::<String>()
            .unwrap()
            .contains("outside a runtime")
    );
}

#[test]
fn a_scope_in_a_destructor_that_runs_because_of_a_panic_works() {
    on_one_and_two(|_| {
        let sum = AtomicUsize::new(0);
        let result = caught(|| {
            let _destructor = OnDrop(|| {
                scope(|s| {
                    for n in 1..=3 {
                        let sum = &sum;
                        s.spawn(move || {
                            thread::sleep(Duration::from_micros(100));
                            sum.fetch_add(n, SeqCst);
                        });
                    }
                });
            });
            panic_with("mine");
        });
        assert_eq!((text::<()>(result), sum.load(SeqCst)), ("mine", 6));
    });
}

#[test]
fn threads_of_a_scope_in_a_forgotten_generator_use_what_they_borrow_without_harm() {
    on_one_and_two(|_| {
        let (count, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, stopped) = (count.clone(), stop.clone());
        let mut generator = Generator::<(), (), ()>::new(move |y, ()| {
            let local = AtomicUsize::new(0);
            scope(|s| {
                s.spawn(|| {
                    while !stopped.load(SeqCst) {
                        counted.store(local.fetch_add(1, SeqCst), SeqCst);
                        thread::yield_now();
                    }
                });
                y.yield_(());
            });
        });
        generator.resume(());
        std::mem::forget(generator);
        wait_until(|| count.load(SeqCst) > 100);
        stop.store(true, SeqCst);
    });
}

#[test]
fn a_scope_in_a_generator_that_is_dropped_waits_for_its_threads() {
    on_one_and_two(|_| {
        let here = AtomicUsize::new(0);
        Generator::scoped(
            |y, ()| {
                scope(|s| {
                    s.spawn(|| {
                        let _present = Present::new(&here);
                        thread::sleep(SHORTLY);
                    });
                    y.yield_(());
                })
            },
            |mut generator| {
                generator.resume(());
            },
        );
        assert_eq!(here.load(SeqCst), 0);
    });
}

// `scope` and cancelling.

#[test]
fn a_cancelled_parent_cancels_the_threads_of_its_scope_and_waits_for_them() {
    on_one_and_two(|_| {
        for in_closure in [true, false] {
            let here = Arc::new(AtomicUsize::new(0));
            let present = here.clone();
            let parent = thread::spawn(move || {
                let value = scope(|s| {
                    for _ in 0..10 {
                        s.spawn(|| {
                            let _present = Present::new(&present);
                            scope(|inner| drop(inner.spawn(|| thread::sleep(FOR_EVER))));
                        });
                    }
                    if in_closure {
                        thread::sleep(FOR_EVER);
                    }
                    "all done"
                });
                unreachable!("a scope whose threads were cancelled says {value}");
            });
            wait_until(|| here.load(SeqCst) == 10);
            thread::sleep(SHORTLY);
            parent.cancel();
            assert!(is_cancelled(parent.join()));
            assert_eq!(here.load(SeqCst), 0);
        }
    });
}

#[test]
fn a_time_out_around_a_scope_cancels_its_threads() {
    on_one_and_two(|_| {
        for in_closure in [true, false] {
            let here = AtomicUsize::new(0);
            let late = timeout(SHORTLY, || {
                scope(|s| {
                    for _ in 0..5 {
                        s.spawn(|| {
                            let _present = Present::new(&here);
                            thread::sleep(FOR_EVER);
                        });
                    }
                    if in_closure {
                        thread::sleep(FOR_EVER);
                    }
                });
            });
            assert!(late.is_err(), "who was cut short is not done");
            assert_eq!(here.load(SeqCst), 0);
        }
    });
}

#[test]
fn a_scope_whose_threads_have_ended_returns_its_value_though_time_is_up() {
    on_one_and_two(|_| {
        let value = timeout(Duration::ZERO, || {
            scope(|s| {
                let handle = s.spawn(|| ());
                shield(|| wait_until(|| handle.is_finished()));
                shield(|| handle.join().unwrap());
                7
            })
        });
        assert_eq!(value, Ok(7));
    });
}

#[test]
fn a_thread_spawned_in_a_cancelled_scope_is_cancelled() {
    on_one_and_two(|_| {
        let ran = AtomicBool::new(false);
        let late = timeout(Duration::ZERO, || {
            scope(|s| {
                let _destructor = OnDrop(|| drop(s.spawn(|| thread::sleep(FOR_EVER))));
                s.spawn(|| {
                    shield(|| {
                        // Until this one has been cancelled.
                        let cancelled = s.spawn(|| thread::sleep(FOR_EVER));
                        assert!(is_cancelled(cancelled.join()));
                    });
                    s.spawn(|| ran.store(true, SeqCst));
                });
                shield(|| thread::sleep(SHORTLY));
                thread::sleep(FOR_EVER);
            });
        });
        assert!(late.is_err());
        assert!(!ran.load(SeqCst), "it was cancelled before it began");
    });
}

#[test]
fn a_scope_in_a_destructor_of_a_cancelled_thread_cancels_its_threads_unless_it_is_shielded() {
    on_one_and_two(|_| {
        let (began, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (tell, count) = (began.clone(), done.clone());
        let handle = thread::spawn(move || {
            let _destructor = OnDrop(|| {
                let work = || {
                    scope(|s| {
                        s.spawn(|| {
                            thread::sleep(SHORTLY);
                            count.fetch_add(1, SeqCst);
                        });
                    });
                };
                work();
                shield(work);
            });
            tell.store(true, SeqCst);
            thread::sleep(FOR_EVER);
        });
        wait_until(|| began.load(SeqCst));
        handle.cancel();
        assert!(is_cancelled(handle.join()));
        assert_eq!(done.load(SeqCst), 1);
    });
}

#[test]
fn one_thread_of_a_scope_is_cancelled_alone() {
    on_one_and_two(|_| {
        let value = scope(|s| {
            let one = s.spawn(|| thread::sleep(FOR_EVER));
            let unjoined = s.spawn(|| thread::sleep(FOR_EVER));
            let other = s.spawn(|| {
                thread::sleep(SHORTLY);
                7
            });
            one.cancel();
            unjoined.cancel();
            assert!(is_cancelled(one.join()));
            other.join().unwrap()
        });
        assert_eq!(value, 7, "to be cancelled is not to panic");
    });
}

#[test]
fn the_end_of_the_runtime_ends_a_scope_that_waits() {
    for workers in [1, 2] {
        let here = Arc::new(AtomicUsize::new(0));
        let present = here.clone();
        on_workers(workers, || {
            let began = Arc::new(AtomicUsize::new(0));
            for _ in 0..5 {
                let (present, tell) = (present.clone(), began.clone());
                thread::spawn(move || {
                    let _parent = Present::new(&present);
                    scope(|s| {
                        for _ in 0..5 {
                            s.spawn(|| {
                                let _present = Present::new(&present);
                                tell.fetch_add(1, SeqCst);
                                thread::sleep(FOR_EVER);
                            });
                        }
                    });
                });
            }
            wait_until(|| began.load(SeqCst) == 25);
        });
        assert_eq!(here.load(SeqCst), 0);
    }
}

#[test]
fn cancelling_races_with_the_end_of_a_scope() {
    on_one_and_two(|_| {
        for round in 0..500 {
            let here = Arc::new(AtomicUsize::new(0));
            let counted = here.clone();
            let parent = thread::spawn(move || {
                let local = AtomicUsize::new(0);
                scope(|s| {
                    for _ in 0..4 {
                        s.spawn(|| {
                            local.fetch_add(1, SeqCst);
                            thread::yield_now();
                            local.fetch_sub(1, SeqCst);
                            counted.fetch_add(1, SeqCst);
                        });
                    }
                });
                local.load(SeqCst)
            });
            for _ in 0..round % 50 * 10 {
                std::hint::spin_loop();
            }
            if round % 3 == 0 {
                thread::yield_now();
            }
            parent.cancel();
            match parent.join() {
                Ok(local) => assert_eq!((local, here.load(SeqCst)), (0, 4)),
                Err(payload) => assert!(payload.is::<Cancelled>()),
            }
        }
    });
}

// `try_scope`.

/// What a scope has failed with, in order; `!` before a panic.
fn failures<T>(result: Result<T, ScopeError<String>>) -> Vec<String> {
    let failures = result.err().expect("it failed").into_failures();
    let words = failures.into_iter().map(|failure| match failure {
        Failure::Error(error) => error,
        Failure::Panic(payload) => format!("!{}", payload.downcast_ref::<&str>().unwrap()),
    });
    words.collect()
}

#[test]
fn a_try_scope_without_failure_returns_the_value_of_its_closure_and_join_that_of_a_thread() {
    on_one_and_two(|_| {
        let numbers = [1, 2, 3];
        let result = try_scope(|s| {
            let sum = s.spawn(|| {
                thread::sleep(SHORTLY);
                Ok::<_, String>(numbers.iter().sum::<i32>())
            });
            s.spawn(|| Ok(()));
            assert!(!sum.is_finished());
            Ok(sum.join().unwrap())
        });
        assert_eq!(result.unwrap(), 6);
    });
}

#[test]
fn the_first_failure_cancels_the_others_and_the_closure() {
    on_one_and_two(|_| {
        let here = AtomicUsize::new(0);
        let result: Result<(), _> = try_scope(|s| {
            for _ in 0..5 {
                s.spawn(|| {
                    let _present = Present::new(&here);
                    thread::sleep(FOR_EVER);
                    Ok(())
                });
            }
            s.spawn(|| {
                wait_until(|| here.load(SeqCst) == 6);
                Err::<(), _>(String::from("full"))
            });
            let _present = Present::new(&here);
            thread::sleep(FOR_EVER);
            unreachable!("the closure is cancelled, too");
        });
        assert_eq!(failures(result), ["full"]);
        assert_eq!(here.load(SeqCst), 0);
        assert!(!thread::is_cancelled());
        thread::sleep(Duration::ZERO);
    });
}

#[test]
fn every_failure_is_reported_the_first_one_first() {
    on_one_and_two(|_| {
        let result: Result<(), _> = try_scope(|s| {
            for n in [3_u32, 1, 2] {
                s.spawn(move || {
                    if caught(|| thread::sleep(SHORTLY * 3)).is_err() {
                        // Cancelled by the first failure; each in its turn.
                        shield(|| thread::sleep(SHORTLY * 4 * n));
                        if n == 2 {
                            panic_with("panicked");
                        }
                    }
                    Err::<(), _>(n.to_string())
                });
            }
            s.spawn(|| Err::<(), _>(String::from("first")));
            let slept = caught(|| thread::sleep(FOR_EVER));
            assert!(slept.is_err());
            shield(|| thread::sleep(SHORTLY * 20));
            Err(String::from("closure"))
        });
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "first (and 4 more)");
        assert!(matches!(error.first(), Failure::Error(first) if first == "first"));
        assert_eq!(error.failures().len(), 5);
        assert_eq!(
            failures::<()>(Err(error)),
            ["first", "1", "!panicked", "3", "closure"]
        );
    });
}

#[test]
fn a_panic_of_a_thread_and_of_the_closure_is_a_failure() {
    on_one_and_two(|_| {
        let result = try_scope(|s| {
            s.spawn(|| -> Result<(), String> { panic_with("thread") });
            thread::sleep(FOR_EVER);
            Ok(())
        });
        assert_eq!(failures(result), ["!thread"]);
        let result: Result<(), _> = try_scope(|s| {
            s.spawn(|| {
                thread::sleep(FOR_EVER);
                Ok(())
            });
            panic_with("closure")
        });
        assert_eq!(failures(result), ["!closure"]);
        let result: Result<(), _> = try_scope(|s| {
            s.spawn(|| {
                thread::sleep(FOR_EVER);
                Ok(())
            });
            Err(String::from("closure"))
        });
        assert_eq!(failures(result), ["closure"]);
    });
}

#[test]
fn a_failure_after_the_closure_has_returned_counts() {
    on_one_and_two(|_| {
        let result = try_scope(|s| {
            s.spawn(|| {
                thread::sleep(SHORTLY);
                Err::<(), _>(String::from("late"))
            });
            Ok(7)
        });
        assert_eq!(failures(result), ["late"]);
        assert!(!thread::is_cancelled());
    });
}

#[test]
fn a_cancelled_thread_of_a_try_scope_is_no_failure() {
    on_one_and_two(|_| {
        let result = try_scope(|s| {
            let sleeper = s.spawn(|| {
                thread::sleep(FOR_EVER);
                Ok::<_, String>(())
            });
            sleeper.cancel();
            let cancelled = sleeper.join().unwrap_err();
            assert_eq!(cancelled.location().map(|at| at.file()), Some(file!()));
            Ok(7)
        });
        assert_eq!(result.unwrap(), 7);
    });
}

#[test]
fn joining_a_failed_thread_unwinds_to_the_scope() {
    on_one_and_two(|_| {
        for round in 0..300 {
            let result = try_scope(|s| {
                let failing = s.spawn(|| Err::<(), _>(String::from("mine")));
                let sibling = s.spawn(move || {
                    for _ in 0..round % 30 * 10 {
                        std::hint::spin_loop();
                    }
                    failing.join().expect("never seen");
                    Ok(())
                });
                for _ in 0..round % 10 * 30 {
                    std::hint::spin_loop();
                }
                sibling.join().expect("never seen");
                Ok(())
            });
            assert_eq!(failures(result), ["mine"]);
        }
    });
}

#[test]
fn joining_a_failed_thread_unwinds_though_word_of_it_is_still_on_its_way_from_another_worker() {
    on_workers(2, || {
        for _ in 0..100 {
            let result = try_scope(|s| {
                let failing = s.spawn(|| Err::<(), _>(String::from("mine")));
                // Keeps this worker, so that the other one runs it.
                while !failing.is_finished() {
                    std::hint::spin_loop();
                }
                failing.join().expect("never seen");
                Ok(())
            });
            assert_eq!(failures(result), ["mine"]);
        }
    });
}

#[test]
fn a_cancellation_from_outside_passes_through_a_try_scope() {
    on_one_and_two(|_| {
        for in_closure in [true, false] {
            let here = AtomicUsize::new(0);
            let result = timeout(SHORTLY, || {
                try_scope(|s| {
                    s.spawn(|| {
                        let _present = Present::new(&here);
                        thread::sleep(FOR_EVER);
                        Ok::<_, String>(())
                    });
                    if in_closure {
                        thread::sleep(FOR_EVER);
                    }
                    Ok("all done")
                })
            });
            assert!(result.is_err(), "{result:?}");
            assert_eq!(here.load(SeqCst), 0);
        }
    });
}

#[test]
fn a_failure_on_the_way_out_of_a_cancelled_scope_is_dropped_on_a_thread_that_may_wait() {
    struct Waits;

    impl Drop for Waits {
        fn drop(&mut self) {
            shield(|| thread::sleep(Duration::from_micros(100)));
            panic_with("a destructor that panics");
        }
    }

    on_one_and_two(|_| {
        let result = timeout(SHORTLY, || {
            try_scope(|s| {
                s.spawn(|| {
                    let _ = caught(|| thread::sleep(FOR_EVER));
                    Err::<(), _>(Waits)
                });
                thread::sleep(FOR_EVER);
                Ok(())
            })
        });
        assert!(matches!(result, Err(thread::Elapsed { .. })));
    });
}

#[test]
fn a_failure_of_an_inner_scope_does_not_reach_the_outer_one() {
    on_one_and_two(|_| {
        let outer = try_scope(|s| {
            let sleeper = s.spawn(|| {
                thread::sleep(SHORTLY);
                Ok(7)
            });
            let inner: Result<(), _> = try_scope(|inner| {
                inner.spawn(|| Err::<(), _>(String::from("inner")));
                thread::sleep(FOR_EVER);
                Ok(())
            });
            assert_eq!(failures(inner), ["inner"]);
            Ok::<_, String>(sleeper.join().unwrap())
        });
        assert_eq!(outer.unwrap(), 7);
        let outer: Result<(), _> = try_scope(|s| {
            s.spawn(|| {
                thread::sleep(SHORTLY);
                Err::<(), _>(String::from("outer"))
            });
            let inner: Result<(), ScopeError<String>> = try_scope(|inner| {
                inner.spawn(|| {
                    thread::sleep(FOR_EVER);
                    Ok::<_, String>(())
                });
                thread::sleep(FOR_EVER);
                Ok(())
            });
            unreachable!("a failure outside passes through: {inner:?}");
        });
        assert_eq!(failures(outer), ["outer"]);
    });
}

#[test]
fn outside_a_runtime_a_try_scope_works_without_threads() {
    bounded(|| {
        assert_eq!(try_scope(|_| Ok::<_, String>(7)).unwrap(), 7);
        assert_eq!(
            failures(try_scope(|_| Err::<(), _>(String::from("mine")))),
            ["mine"]
        );
        let late = timeout(SHORTLY, || {
            try_scope(|_| {
                thread::sleep(FOR_EVER);
                Ok::<_, String>(())
            })
        });
        assert!(late.is_err());
    });
}

#[test]
fn failures_and_cancellations_race_and_nothing_is_lost() {
    on_one_and_two(|_| {
        for round in 0..300_u64 {
            let here = AtomicUsize::new(0);
            let result = timeout(Duration::from_micros(round % 60 * 5), || {
                try_scope(|s| {
                    for n in 0..4 {
                        let here = &here;
                        s.spawn(move || {
                            let _present = OnDrop(|| _ = here.fetch_add(1, SeqCst));
                            thread::sleep(Duration::from_micros(n * 40));
                            if n == 2 {
                                Err(String::from("second"))
                            } else {
                                Ok(())
                            }
                        });
                    }
                    thread::sleep(Duration::from_micros(100));
                    Ok(())
                })
            });
            let ended = here.load(SeqCst);
            assert!(ended <= 4);
            if let Ok(result) = result {
                assert_eq!(failures(result), ["second"]);
            }
        }
    });
}

// `race`.

#[test]
fn the_first_to_finish_wins_and_the_others_are_cancelled_and_waited_for() {
    on_one_and_two(|_| {
        let here = AtomicUsize::new(0);
        let times = [FOR_EVER, SHORTLY, FOR_EVER];
        let winner = race(times.iter().map(|time| {
            let here = &here;
            move || {
                let _present = Present::new(here);
                thread::sleep(*time);
                time
            }
        }));
        assert_eq!((winner.unwrap(), here.load(SeqCst)), (&times[1], 0));
    });
}

#[test]
fn a_panic_wins_a_race_too() {
    on_one_and_two(|_| {
        let winner = race([Duration::ZERO, FOR_EVER].map(|time| {
            move || {
                thread::sleep(time);
                panic_with("first");
            }
        }));
        assert_eq!(text::<()>(winner), "first");
    });
}

#[test]
fn a_loser_that_finishes_or_panics_all_the_same_is_no_winner() {
    on_one_and_two(|_| {
        let (dropped, started) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let winner = race([0, 1, 2].map(|n| {
            let (dropped, started) = (&dropped, &started);
            move || {
                started.fetch_add(1, SeqCst);
                // The first one wins when all are there, and the others go on when they are
                // cancelled for it.
                while if n == 0 {
                    started.load(SeqCst) < 3
                } else {
                    !thread::is_cancelled()
                } {
                    shield(thread::yield_now);
                }
                if n == 2 {
                    panic_with("late");
                }
                (n, OnDrop(|| _ = dropped.fetch_add(1, SeqCst)))
            }
        }));
        assert_eq!(dropped.load(SeqCst), 1);
        assert_eq!(winner.unwrap().0, 0);
    });
}

#[test]
fn a_race_that_is_cancelled_cancels_its_contenders_and_unwinds() {
    on_one_and_two(|_| {
        let here = AtomicUsize::new(0);
        let late = timeout(SHORTLY, || {
            race([(); 3].map(|()| {
                || {
                    let _present = Present::new(&here);
                    thread::sleep(FOR_EVER);
                }
            }))
        });
        assert!(late.is_err());
        assert_eq!(here.load(SeqCst), 0);
    });
}

#[test]
fn the_end_of_the_runtime_ends_a_race() {
    for workers in [1, 2] {
        let here = Arc::new(AtomicUsize::new(0));
        let present = here.clone();
        on_workers(workers, || {
            let began = present.clone();
            thread::spawn(move || {
                race([(); 3].map(|()| {
                    || {
                        let _present = Present::new(&began);
                        thread::sleep(FOR_EVER);
                    }
                }))
            });
            wait_until(|| present.load(SeqCst) == 3);
        });
        assert_eq!(here.load(SeqCst), 0);
    }
}

#[test]
fn a_panic_among_the_contenders_to_be_cancels_those_that_run() {
    on_one_and_two(|_| {
        let here = AtomicUsize::new(0);
        let result = caught(|| {
            race((0..3).map(|n| {
                if n == 2 {
                    wait_until(|| here.load(SeqCst) == 2);
                    panic_with("the iterator's");
                }
                || {
                    let _present = Present::new(&here);
                    thread::sleep(FOR_EVER);
                }
            }))
        });
        assert_eq!(text(result), "the iterator's");
        assert_eq!(here.load(SeqCst), 0);
        assert!(
            caught(|| race::<fn(), ()>([])).is_err(),
            "a race needs a contender"
        );
    });
}

// `JoinSet`.

#[test]
fn a_set_is_joined_in_the_order_in_which_its_threads_end() {
    on_one_and_two(|_| {
        let mut set = JoinSet::new();
        assert!(set.join_next().is_none() && set.is_empty());
        let go: Arc<Mutex<Vec<usize>>> = Arc::default();
        for n in 0..4 {
            let go = go.clone();
            set.spawn(move || {
                wait_until(|| go.lock().unwrap().contains(&n));
                n
            });
        }
        assert!(set.try_join_next().is_none());
        assert_eq!(set.len(), 4);
        for n in [2, 0, 3, 1] {
            go.lock().unwrap().push(n);
            assert_eq!(set.join_next().unwrap().unwrap(), n);
        }
        assert!(set.is_empty() && set.join_next().is_none());
    });
}

#[test]
fn a_panic_and_a_cancellation_are_results_of_a_set() {
    on_one_and_two(|_| {
        let mut set = JoinSet::new();
        set.spawn(|| panic_with("mine"));
        assert_eq!(text::<()>(set.join_next().unwrap()), "mine");
        let named = set
            .spawn_with(Builder::new().name("bee".into()), || {
                thread::sleep(FOR_EVER)
            })
            .unwrap();
        assert_eq!(named.name(), Some("bee"));
        assert!(
            set.spawn_with(Builder::new().stack_size(usize::MAX), || ())
                .is_err()
        );
        assert_eq!(set.len(), 1);
        set.cancel_all();
        assert!(is_cancelled(set.join_next().unwrap()));
    });
}

#[test]
fn who_is_spawned_after_cancel_all_is_not_cancelled() {
    on_one_and_two(|_| {
        let mut set = JoinSet::new();
        for _ in 0..10 {
            set.spawn(|| {
                thread::sleep(FOR_EVER);
                0
            });
        }
        set.cancel_all();
        set.spawn(|| {
            thread::sleep(SHORTLY);
            7
        });
        let results: Vec<_> = std::iter::from_fn(|| set.join_next()).collect();
        assert_eq!(results.len(), 11);
        let values: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
        assert_eq!(values, [7]);
    });
}

#[test]
fn a_dropped_set_cancels_its_threads_and_waits_for_them() {
    on_one_and_two(|_| {
        static HERE: AtomicUsize = AtomicUsize::new(0);
        let mut set = JoinSet::new();
        for _ in 0..5 {
            set.spawn(|| {
                let _present = Present::new(&HERE);
                thread::sleep(FOR_EVER);
            });
        }
        set.spawn(|| panic_with("nobody asks"));
        wait_until(|| HERE.load(SeqCst) == 5);
        drop(set);
        assert_eq!(HERE.load(SeqCst), 0);
    });
}

#[test]
fn a_set_is_dropped_in_a_cancelled_thread_and_on_an_os_thread() {
    on_one_and_two(|_| {
        let here: Arc<AtomicUsize> = Arc::default();
        let fill = |here: &Arc<AtomicUsize>| {
            let mut set = JoinSet::new();
            for _ in 0..3 {
                let here = here.clone();
                set.spawn(move || {
                    let _present = Present::new(&here);
                    thread::sleep(FOR_EVER);
                });
            }
            set
        };
        let counted = here.clone();
        let owner = thread::spawn(move || {
            let _set = fill(&counted);
            thread::sleep(FOR_EVER);
        });
        wait_until(|| here.load(SeqCst) == 3);
        owner.cancel();
        assert!(is_cancelled(owner.join()));
        assert_eq!(here.load(SeqCst), 0);
        let set = fill(&here);
        wait_until(|| here.load(SeqCst) == 3);
        let os = std::thread::spawn(move || drop(set));
        wait_until(|| os.is_finished());
        assert_eq!(here.load(SeqCst), 0);
    });
}

#[test]
fn no_result_of_a_set_is_lost_when_time_outs_race_with_it() {
    on_one_and_two(|_| {
        let mut set = JoinSet::new();
        let mut sum = 0;
        for round in 0..1_000 {
            set.spawn(move || {
                thread::sleep(Duration::from_micros(round % 5 * 15));
                round
            });
            if let Ok(result) = timeout(Duration::from_micros(round % 7 * 10), || set.join_next()) {
                sum += result.unwrap().unwrap();
            }
        }
        while let Some(result) = set.join_next() {
            sum += result.unwrap();
        }
        assert_eq!(sum, (0..1_000).sum());
    });
}

#[test]
fn a_result_of_a_set_that_nobody_asks_for_may_panic_in_its_destructor() {
    on_one_and_two(|_| {
        let ran: Arc<AtomicUsize> = Arc::default();
        let mut set = JoinSet::new();
        for _ in 0..3 {
            let ran = ran.clone();
            set.spawn(move || {
                ran.fetch_add(1, SeqCst);
                OnDrop(|| panic_with("dropped"))
            });
        }
        wait_until(|| ran.load(SeqCst) == 3);
        drop(set);
    });
}

// What a scope is for: it holds whatever happens to whoever is in it.

#[test]
fn threads_never_outlive_what_they_borrow() {
    on_one_and_two(|_| {
        for round in 0..300_u64 {
            let _ = timeout(Duration::from_micros(round % 40 * 5), || {
                let local = vec![round; 64];
                let outcome = caught(|| {
                    scope(|s| {
                        for n in 0..4_u64 {
                            let local = &local;
                            s.spawn(move || {
                                let _last = OnDrop(|| assert!(local.iter().all(|&n| n == round)));
                                thread::sleep(Duration::from_micros(n * 20));
                                if n == 3 && round % 3 == 0 {
                                    panic_with("mine");
                                }
                                local.len()
                            });
                        }
                        match round % 4 {
                            0 => panic_with("the closure's"),
                            1 => thread::sleep(Duration::from_micros(50)),
                            2 => thread::yield_now(),
                            _ => {}
                        }
                    });
                });
                drop(local);
                thread::yield_now();
                outcome.is_ok()
            });
        }
    });
}

#[test]
fn what_is_not_send_stays_with_its_thread_across_a_scope() {
    on_workers(2, || {
        let here = Rc::new(RefCell::new(0));
        let borrowed = here.borrow_mut();
        let sum: i32 = scope(|s| {
            let threads: Vec<_> = (0..10)
                .map(|n| {
                    s.spawn(move || {
                        thread::sleep(Duration::from_micros(50));
                        n
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        drop(borrowed);
        *here.borrow_mut() += sum;
        assert_eq!(*here.borrow(), 45);
    });
}

#[test]
fn a_scope_waits_no_longer_than_its_threads_take() {
    on_one_and_two(|_| {
        let start = Instant::now();
        scope(|s| drop(s.spawn(|| thread::sleep(SHORTLY))));
        assert!(start.elapsed() < FOR_EVER / 100);
    });
}

#[test]
fn a_set_that_one_of_its_threads_drops_says_so_and_does_not_wait_for_itself() {
    on_one_and_two(|_| {
        let set = Arc::new(Mutex::new(JoinSet::new()));
        let (report, reported) = hebra::sync::oneshot::channel();
        let gone = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let gone = gone.clone();
            let going = OnDrop(move || _ = gone.fetch_add(1, SeqCst));
            set.lock().unwrap().spawn(move || {
                let _going = going;
                thread::sleep(FOR_EVER);
            });
        }
        let own = set.clone();
        set.lock().unwrap().spawn(move || {
            thread::yield_now();
            while Arc::strong_count(&own) > 1 {
                thread::yield_now();
            }
            let set = Arc::into_inner(own).unwrap().into_inner().unwrap();
            report.send(caught(|| drop(set)).unwrap_err()).unwrap();
        });
        drop(set);
        let payload = reported.recv().unwrap();
        let message = payload.downcast_ref::<String>().unwrap();
        assert!(
            message.contains("dropped by one of its own threads"),
            "{message}"
        );
        wait_until(|| gone.load(SeqCst) == 3);
    });
}
