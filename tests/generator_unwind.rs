//! Generators and runtimes that are run by a thread that unwinds: in a destructor.

#![cfg(feature = "runtime")]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::process::Output;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use hebra::sync::Mutex;
use hebra::{Config, Generator, GeneratorState, Runtime, Yielder, thread};

use GeneratorState::{Complete, Yielded};

mod support;
use support::{bounded, child, is_child, on_workers, passes_in_child, stderr};

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Runs `f` in a destructor, while the calling thread unwinds; returns what `f` returned.
fn in_destructor<T>(f: impl FnOnce() -> T) -> T {
    let (mut f, mut result) = (Some(f), None);
    let payload = catch_unwind(AssertUnwindSafe(|| {
        let _runs = OnDrop(|| {
            assert!(std::thread::panicking());
            result = f.take().map(|f| f());
            assert!(std::thread::panicking(), "the count was given back");
        });
        resume_unwind(Box::new("the resumer"))
    }));
    let payload: Box<dyn std::any::Any + Send> = match payload {
        Ok(never) => never,
        Err(payload) => payload,
    };
    assert_eq!(payload.downcast_ref(), Some(&"the resumer"));
    assert!(!std::thread::panicking());
    result.expect("the destructor has run")
}

/// Notes when it is dropped.
#[derive(Clone, Default)]
struct Dropped(Arc<AtomicU32>);

impl Dropped {
    fn on_drop(&self) -> OnDrop<impl FnMut() + use<>> {
        let count = self.0.clone();
        OnDrop(move || _ = count.fetch_add(1, SeqCst))
    }

    fn count(&self) -> u32 {
        self.0.load(SeqCst)
    }
}

/// Catches its close `swallows` times, and yields again each time.
fn stubborn(swallows: u32, dropped: &Dropped) -> impl FnOnce(&Yielder<(), u32>, ()) + use<> {
    let dropped = dropped.clone();
    move |y, ()| {
        let _counts = dropped.on_drop();
        for n in 0..swallows {
            if catch_unwind(AssertUnwindSafe(|| y.yield_(n))).is_ok() {
                return;
            }
        }
        y.yield_(swallows);
    }
}

fn started(body: impl FnOnce(&Yielder<(), u32>, ()) + 'static) -> Generator<(), u32, ()> {
    let mut g = Generator::new(body);
    assert!(matches!(g.resume(()), Yielded(_)));
    g
}

/// Runs a case on an OS thread and on a green one.
fn everywhere(case: fn()) {
    bounded(case);
    on_workers(1, case);
}

#[test]
fn body_that_yields_in_its_close_unwinds_under_a_panic() {
    everywhere(|| {
        for swallows in [1, 2, 5] {
            let dropped = Dropped::default();
            let g = started(stubborn(swallows, &dropped));
            in_destructor(move || drop(g));
            assert_eq!(dropped.count(), 1, "dropped, {swallows}");
            let mut g = started(stubborn(swallows, &dropped));
            let closed = in_destructor(|| catch_unwind(AssertUnwindSafe(|| g.close())));
            assert!(closed.is_err(), "close reports it");
            assert_eq!(dropped.count(), 2, "closed, {swallows}");
        }
    });
}

#[test]
fn scoped_body_that_yields_in_its_close_unwinds_under_a_panic() {
    everywhere(|| {
        let dropped = Dropped::default();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            Generator::scoped(stubborn(1, &dropped), |mut g| {
                g.resume(());
                resume_unwind(Box::new(7_u32)) as ()
            });
        }));
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&7_u32));
        assert_eq!(dropped.count(), 1);
        assert!(!std::thread::panicking());
    });
}

#[test]
fn nested_bodies_that_yield_in_their_close_all_unwind() {
    everywhere(|| {
        let dropped = Dropped::default();
        let noted = dropped.clone();
        let g = started(move |y, ()| {
            let _inner = started(stubborn(2, &noted));
            let _delegate = started(stubborn(1, &noted));
            let innermost = noted.clone();
            let mut nested = Generator::new(move |y: &Yielder<(), u32>, ()| {
                let _drops = started(stubborn(3, &innermost));
                stubborn(1, &innermost)(y, ());
            });
            let caught = catch_unwind(AssertUnwindSafe(|| y.yield_from(&mut nested, ())));
            assert!(caught.is_err(), "it is closed");
            y.yield_(1);
        });
        in_destructor(move || drop(g));
        assert_eq!(dropped.count(), 4);
    });
}

#[test]
fn cancelled_thread_closes_the_generators_on_its_stack() {
    on_workers(1, || {
        let dropped = Dropped::default();
        let noted = dropped.clone();
        let plain = thread::spawn(move || {
            let _g = started(stubborn(1, &noted));
            thread::park();
        });
        let noted = dropped.clone();
        let scoped = thread::spawn(move || {
            Generator::scoped(stubborn(2, &noted), |mut g| {
                g.resume(());
                thread::park();
            });
        });
        thread::yield_now();
        thread::yield_now();
        for handle in [plain, scoped] {
            handle.cancel();
            let payload = handle.join().unwrap_err();
            assert!(payload.is::<thread::Cancelled>());
        }
        assert_eq!(dropped.count(), 2);
    });
}

#[test]
fn cancelled_thread_frees_the_locks_of_its_generators() {
    on_workers(1, || {
        let lock = Arc::new(Mutex::new(0));
        let held = lock.clone();
        let handle = thread::spawn(move || {
            let _g = started(move |y, ()| {
                let _held = held.lock().unwrap();
                for n in 0..3 {
                    if catch_unwind(AssertUnwindSafe(|| y.yield_(n))).is_err() {
                        // An item that fails is logged, and the next one is tried.
                    }
                }
            });
            thread::park();
        });
        thread::yield_now();
        assert!(lock.try_lock().is_err());
        handle.cancel();
        assert!(handle.join().unwrap_err().is::<thread::Cancelled>());
        drop(lock.lock().expect("a cancellation does not poison"));
    });
}

#[test]
fn panicking_is_the_bodys_own_under_an_unwinding_resumer() {
    everywhere(|| {
        in_destructor(|| {
            let mut g = Generator::<(), bool, bool>::new(|y, ()| {
                y.yield_(std::thread::panicking());
                let seen = Cell::new(false);
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    let _looks = OnDrop(|| seen.set(std::thread::panicking()));
                    resume_unwind(Box::new(1)) as ()
                }));
                assert!(caught.is_err());
                y.yield_(seen.get());
                std::thread::panicking()
            });
            assert_eq!(g.resume(()), Yielded(false));
            assert!(std::thread::panicking());
            assert_eq!(g.resume(()), Yielded(true));
            assert_eq!(g.resume(()), Complete(false));
        });
    });
}

#[test]
fn panic_of_a_body_under_an_unwinding_resumer_poisons() {
    everywhere(|| {
        for panics in [false, true] {
            let (ours, stds) = (Rc::new(Mutex::new(())), Rc::new(StdMutex::new(())));
            let held = (ours.clone(), stds.clone());
            in_destructor(move || {
                let mut g = Generator::<(), (), ()>::new(move |y, ()| {
                    let _ours = held.0.lock().unwrap();
                    let _stds = held.1.lock().unwrap();
                    y.yield_(());
                    if panics {
                        panic_any("the body");
                    }
                });
                g.resume(());
                let ended = catch_unwind(AssertUnwindSafe(|| g.resume(())));
                assert_eq!(ended.is_err(), panics);
            });
            assert_eq!(ours.is_poisoned(), panics);
            assert_eq!(stds.is_poisoned(), panics);
        }
    });
}

#[test]
fn payload_of_a_body_passes_an_unwinding_resumer() {
    everywhere(|| {
        in_destructor(|| {
            let mut first = Generator::<(), (), ()>::new(|_, ()| panic_any(1_u32));
            let payload = catch_unwind(AssertUnwindSafe(|| first.resume(()))).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&1_u32));
            let mut thrown = started(|y, ()| y.yield_(1));
            let payload = thrown.throw(Box::new(2_u32)).unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&2_u32));
            let mut caught = started(|y, ()| {
                catch_unwind(AssertUnwindSafe(|| y.yield_(1))).unwrap_err();
                y.yield_(2);
            });
            assert_eq!(caught.throw(Box::new(3)).unwrap(), Yielded(2));
            assert_eq!(caught.resume(()), Complete(()));
        });
    });
}

#[test]
fn neighbours_do_not_panic_while_a_body_is_parked_in_a_destructor() {
    on_workers(1, || {
        let over = Rc::new(Cell::new(false));
        let told = over.clone();
        let parks = thread::spawn_local(move || {
            in_destructor(|| {
                let mut g = Generator::<(), (), ()>::new(|y, ()| {
                    thread::park();
                    y.yield_(());
                });
                assert_eq!(g.resume(()), Yielded(()));
            });
            told.set(true);
        });
        thread::yield_now();
        assert!(!over.get() && !std::thread::panicking());
        let cancelled = thread::spawn(thread::park);
        thread::yield_now();
        cancelled.cancel();
        assert!(cancelled.join().unwrap_err().is::<thread::Cancelled>());
        parks.thread().unpark();
        parks.join().unwrap();
        assert!(over.get() && !std::thread::panicking());
    });
}

/// A destructor must not be unwound: the process would abort.
#[test]
fn cancellation_is_not_raised_in_a_body_in_a_destructor() {
    on_workers(1, || {
        let flushed = Arc::new(AtomicBool::new(false));
        let noted = flushed.clone();
        let handle = thread::spawn(move || {
            let mut writer = Generator::<(), (), ()>::new(move |y, ()| {
                y.yield_(());
                let mut inner = Generator::<(), (), ()>::new(|_, ()| thread::park());
                inner.resume(());
                thread::sleep(Duration::from_secs(3600));
                noted.store(true, SeqCst);
                y.yield_(());
            });
            writer.resume(());
            let _flushes = OnDrop(move || _ = writer.resume(()));
            thread::park();
        });
        thread::yield_now();
        handle.cancel();
        assert!(handle.join().unwrap_err().is::<thread::Cancelled>());
        assert!(flushed.load(SeqCst));
    });
}

/// The output of this test's child, which is to be aborted; `None` in the child itself.
fn aborts(test: &str, body: impl FnOnce()) -> Option<Output> {
    if is_child() {
        bounded(body);
        println!("goes on");
        return None;
    }
    let output = child(test, &[]);
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("goes on"));
    Some(output)
}

/// An ordinary resumer gets the same message; see `generator.rs`.
#[test]
fn yield_in_a_destructor_ends_the_process_if_both_unwind() {
    let body = || {
        let mut g = Generator::<(), u8, ()>::new(|y, ()| {
            let _yields = OnDrop(|| y.yield_(7));
            resume_unwind(Box::new("the body")) as ()
        });
        in_destructor(|| _ = catch_unwind(AssertUnwindSafe(|| g.resume(()))));
    };
    let test = "yield_in_a_destructor_ends_the_process_if_both_unwind";
    if let Some(output) = aborts(test, body) {
        let text = stderr(&output);
        assert!(
            text.contains("yielded in a destructor while its body unwinds"),
            "{text}"
        );
    }
}

#[test]
fn thrown_body_that_yields_in_a_destructor_ends_the_process() {
    let body = || {
        let mut g = started(|y, ()| {
            let _yields = OnDrop(|| y.yield_(9));
            y.yield_(1);
        });
        in_destructor(|| _ = g.throw(Box::new(1)));
    };
    let test = "thrown_body_that_yields_in_a_destructor_ends_the_process";
    if let Some(output) = aborts(test, body) {
        let text = stderr(&output);
        assert!(
            text.contains("yielded in a destructor while its body unwinds"),
            "{text}"
        );
    }
}

/// Closed while it yields in a destructor: it is abandoned in the middle of its unwinding.
fn abandon() {
    let mut g = started(|y, ()| {
        let _yields = OnDrop(|| y.yield_(2));
        y.yield_(1);
    });
    let closed = catch_unwind(AssertUnwindSafe(|| g.close()));
    assert!(closed.is_err() && g.is_done());
}

fn std_lock_is_poisoned_by_a_panic() {
    let lock = StdMutex::new(());
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _held = lock.lock().unwrap();
        resume_unwind(Box::new(1)) as ()
    }));
    assert!(lock.is_poisoned());
}

#[test]
fn body_abandoned_while_it_unwinds_leaves_no_panic_behind() {
    let test = "body_abandoned_while_it_unwinds_leaves_no_panic_behind";
    if !is_child() {
        return passes_in_child(test);
    }
    everywhere(|| {
        for _ in 0..3 {
            abandon();
            assert!(!std::thread::panicking());
            in_destructor(abandon);
            std_lock_is_poisoned_by_a_panic();
        }
    });
}

#[test]
fn neighbour_of_an_abandoned_body_panics_and_is_cancelled() {
    let test = "neighbour_of_an_abandoned_body_panics_and_is_cancelled";
    if !is_child() {
        return passes_in_child(test);
    }
    on_workers(1, || {
        thread::spawn(abandon).join().unwrap();
        // Cancelled while a destructor waits, in the middle of a panic.
        let handle = thread::spawn(|| {
            let _waits = OnDrop(thread::park);
            resume_unwind(Box::new(5_u32)) as ()
        });
        thread::yield_now();
        handle.cancel();
        assert_eq!(handle.join().unwrap_err().downcast_ref(), Some(&5_u32));
        let timed_out = thread::timeout(Duration::from_millis(1), thread::park);
        assert!(timed_out.is_err());
        assert!(!std::thread::panicking());
    });
}

// A sanitizer has mappings of its own to make.
#[cfg(all(target_os = "linux", not(hebra_sanitizer)))]
#[test]
fn generator_works_in_a_destructor_without_memory_for_help() {
    let test = "generator_works_in_a_destructor_without_memory_for_help";
    if !is_child() {
        return passes_in_child(test);
    }
    // No watchdog: it would be refused its OS thread, and so is the one that takes a panic count.
    let mut g = started(|y, ()| (2..9).for_each(|n| y.yield_(n)));
    let dropped = Dropped::default();
    let calm = started(stubborn(0, &dropped));
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::As);
    let none = Rlimit {
        current: Some(1 << 20),
        ..before
    };
    setrlimit(Resource::As, none).unwrap();
    let refused = std::thread::Builder::new().spawn(|| ()).is_err();
    let resumed = in_destructor(|| {
        drop(calm);
        (g.resume(()), g.resume(()))
    });
    let afterwards = g.resume(());
    setrlimit(Resource::As, before).unwrap();
    assert!(refused);
    assert_eq!(resumed, (Yielded(3), Yielded(4)));
    assert_eq!(afterwards, Yielded(5));
    assert_eq!(dropped.count(), 1);
    assert!(!std::thread::panicking());
}

// Runtimes.

fn run_in_destructor<T>(workers: usize, body: impl FnOnce() -> T) -> T {
    bounded(|| {
        in_destructor(|| {
            Runtime::new(Config::default().workers(workers))
                .unwrap()
                .run(body)
        })
    })
}

#[test]
fn runtime_in_a_destructor_cancels_its_threads_at_its_end() {
    for workers in [1, 2] {
        let dropped = Dropped::default();
        run_in_destructor(workers, || {
            for n in 0..4 {
                let noted = dropped.on_drop();
                drop(thread::spawn(move || {
                    let _noted = noted;
                    loop {
                        match n {
                            0 => thread::yield_now(),
                            1 => thread::sleep(Duration::from_millis(1)),
                            2 => thread::park(),
                            _ => _ = hebra::channel::after(Duration::from_millis(1)).recv(),
                        }
                    }
                }));
            }
            (0..300).for_each(|_| thread::yield_now());
        });
        assert_eq!(dropped.count(), 4);
    }
}

#[test]
fn runtime_in_a_destructor_has_timeouts_panics_and_poison() {
    run_in_destructor(1, || {
        assert!(!std::thread::panicking());
        let start = Instant::now();
        let timed_out = thread::timeout(Duration::from_millis(5), || {
            thread::sleep(Duration::from_secs(3600));
        });
        assert!(timed_out.is_err() && start.elapsed() < Duration::from_secs(3000));
        std_lock_is_poisoned_by_a_panic();
        let lock = Arc::new(Mutex::new(()));
        let held = lock.clone();
        let handle = thread::spawn(move || {
            let _held = held.lock().unwrap();
            resume_unwind(Box::new(3_u32)) as ()
        });
        assert_eq!(handle.join().unwrap_err().downcast_ref(), Some(&3_u32));
        assert!(lock.is_poisoned());
    });
}

#[test]
fn runtime_in_a_destructor_hands_its_panic_to_a_caller_that_catches() {
    bounded(|| {
        let payload = in_destructor(|| {
            let runtime = Runtime::new(Config::default().workers(1)).unwrap();
            catch_unwind(AssertUnwindSafe(|| runtime.run(|| panic_any(4_u32)))).unwrap_err()
        });
        let payload: Box<dyn std::any::Any + Send> = payload;
        assert_eq!(payload.downcast_ref(), Some(&4_u32));
    });
}

#[test]
fn runtime_in_a_body_in_a_destructor_ends() {
    bounded(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = seen.clone();
        let mut g = Generator::<(), (), ()>::new(move |y, ()| {
            y.yield_(());
            let sum = hebra::run(|| {
                drop(thread::spawn(|| {
                    loop {
                        thread::yield_now();
                    }
                }));
                thread::spawn(|| 1).join().unwrap() + 1
            });
            noted.borrow_mut().push(sum);
        });
        g.resume(());
        in_destructor(|| assert_eq!(g.resume(()), Complete(())));
        assert_eq!(seen.take(), [2]);
    });
}
