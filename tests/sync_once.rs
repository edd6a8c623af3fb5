//! `hebra::sync::{Once, OnceLock, LazyLock}`: std's contract, panics and cancellation.

#![cfg(feature = "runtime")]

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hebra::sync::{LazyLock, Mutex, Once, OnceLock};
use hebra::thread;
use support::{Place, on_workers, quietly, run_the_others, wait_until};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn the_closure_runs_once_and_everybody_sees_what_it_has_written() {
    for place in Place::ALL {
        for _ in 0..50 {
            let (once, runs, written) = (Once::new(), AtomicUsize::new(0), AtomicUsize::new(0));
            place.run(6, |_| {
                once.call_once(|| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                    written.store(7, Ordering::Relaxed);
                });
                assert!(once.is_completed());
                assert_eq!(written.load(Ordering::Relaxed), 7);
            });
            assert_eq!(runs.into_inner(), 1, "{place:?}");
        }
    }
}

#[test]
fn a_panic_poisons_and_force_does_not_mind() {
    quietly(|| {
        let once = Once::new();
        once_is(&once, false);
        assert!(catch_unwind(|| once.call_once(|| panic!("first"))).is_err());
        once_is(&once, false);
        let mut ran = false;
        assert!(catch_unwind(AssertUnwindSafe(|| once.call_once(|| ran = true))).is_err());
        assert!(!ran && catch_unwind(|| once.wait()).is_err());
        assert!(catch_unwind(|| once.call_once_force(|_| panic!("again"))).is_err());
        once.call_once_force(|state| ran = state.is_poisoned());
        assert!(ran);
        once_is(&once, true);
        once.call_once(|| unreachable!("it has run"));
        once.call_once_force(|_| unreachable!("it has run"));
        once.wait();
        once.wait_force();
        let fresh = Once::new();
        fresh.call_once_force(|state| assert!(!state.is_poisoned()));
    });
}

fn once_is(once: &Once, completed: bool) {
    assert_eq!(once.is_completed(), completed);
}

#[test]
fn those_who_wait_are_told_of_the_panic_and_the_force_among_them_runs() {
    quietly(|| {
        on_workers(1, || {
            let once = Arc::new(Once::new());
            let spawn = |f: fn(&Once)| {
                let once = once.clone();
                thread::spawn(move || f(&once))
            };
            let runs = spawn(|once| {
                once.call_once(|| {
                    thread::yield_now();
                    thread::yield_now();
                    panic!("while they wait")
                });
            });
            let poisoned = [
                spawn(|once| once.call_once(|| unreachable!())),
                spawn(|once| once.wait()),
            ];
            let patient = spawn(|once| once.wait_force());
            let forced = spawn(|once| once.call_once_force(|state| assert!(state.is_poisoned())));
            assert!(runs.join().is_err());
            poisoned
                .into_iter()
                .for_each(|thread| assert!(thread.join().is_err()));
            forced.join().unwrap();
            patient.join().unwrap();
        });
    });
}

#[test]
fn a_cancelled_closure_has_not_run_and_the_next_one_does() {
    on_workers(1, || {
        let once = Arc::new(Once::new());
        let theirs = once.clone();
        let cancelled = thread::spawn(move || theirs.call_once(|| thread::sleep(LONG)));
        run_the_others();
        let (next, waits) = (once.clone(), once.clone());
        let next = thread::spawn(move || {
            let mut ran = false;
            next.call_once_force(|state| ran = !state.is_poisoned());
            ran
        });
        let waits = thread::spawn(move || waits.wait());
        run_the_others();
        cancelled.cancel();
        assert!(cancelled.join().unwrap_err().is::<thread::Cancelled>());
        assert!(next.join().unwrap());
        waits.join().unwrap();
    });
}

#[test]
fn who_is_cancelled_while_it_waits_for_another_closure_leaves_that_alone() {
    on_workers(1, || {
        let (once, go) = (Arc::new(Once::new()), Arc::new(AtomicBool::new(false)));
        let (theirs, waits, gone) = (once.clone(), once.clone(), go.clone());
        let runs =
            thread::spawn(move || theirs.call_once(|| wait_until(|| gone.load(Ordering::Relaxed))));
        let waits = thread::spawn(move || waits.call_once(|| unreachable!()));
        run_the_others();
        waits.cancel();
        assert!(waits.join().is_err());
        go.store(true, Ordering::Relaxed);
        runs.join().unwrap();
        assert!(once.is_completed());
    });
}

#[test]
fn a_closure_that_asks_for_its_own_result_panics_instead_of_waiting_for_ever() {
    quietly(|| {
        let once = Once::new();
        assert!(catch_unwind(|| once.call_once(|| once.call_once(|| ()))).is_err());
        let cell = OnceLock::new();
        assert!(catch_unwind(|| *cell.get_or_init(|| *cell.get_or_init(|| 1))).is_err());
        assert_eq!(*cell.get_or_init(|| 2), 2);
    });
}

#[test]
fn a_cell_is_written_once_by_whoever_comes_first() {
    for place in Place::ALL {
        for _ in 0..50 {
            let (cell, won) = (OnceLock::new(), AtomicUsize::new(0));
            place.run(6, |me| {
                if me % 3 == 0 {
                    won.fetch_add(usize::from(cell.set(me).is_ok()), Ordering::Relaxed);
                } else {
                    cell.get_or_init(|| {
                        thread::yield_now();
                        won.fetch_add(1, Ordering::Relaxed);
                        me
                    });
                }
                let value = *cell.wait();
                assert_eq!(cell.get(), Some(&value));
            });
            assert_eq!(won.into_inner(), 1, "{place:?}");
        }
    }
}

#[test]
fn a_cell_keeps_its_contract() {
    let mut cell = OnceLock::new();
    assert_eq!(cell.get(), None);
    assert_eq!(cell.get_mut(), None);
    assert_eq!(cell.take(), None);
    assert_eq!(cell.set(1), Ok(()));
    assert_eq!(cell.set(2), Err(2));
    assert_eq!(*cell.get_or_init(|| unreachable!()), 1);
    *cell.get_mut().unwrap() += 2;
    assert_eq!(cell.clone(), cell);
    assert_ne!(cell, OnceLock::from(4));
    assert_ne!(cell, OnceLock::new());
    assert_eq!(cell.take(), Some(3));
    assert_eq!(cell.get(), None);
    assert_eq!(cell.set(5), Ok(()));
    assert_eq!(cell.into_inner(), Some(5));
    assert_eq!(OnceLock::<i32>::default().into_inner(), None);
    assert_eq!(OnceLock::<i32>::new().clone(), OnceLock::new());
}

#[test]
fn waiting_for_a_cell_ends_when_it_is_written() {
    for place in Place::ALL {
        let cell = OnceLock::new();
        place.run(3, |me| {
            if me == 0 {
                cell.set("written").unwrap();
            } else {
                assert_eq!(*cell.wait(), "written");
            }
        });
    }
}

#[test]
fn a_cell_whose_closure_panics_or_is_cancelled_stays_empty_and_can_be_written() {
    quietly(|| {
        let cell = OnceLock::new();
        assert!(catch_unwind(|| *cell.get_or_init(|| panic!("no value"))).is_err());
        assert_eq!((cell.get(), cell.set(1)), (None, Ok(())));
        on_workers(1, || {
            let cell = Arc::new(OnceLock::new());
            let theirs = cell.clone();
            let cancelled = thread::spawn(move || {
                theirs.get_or_init(|| {
                    thread::sleep(LONG);
                    1
                });
            });
            run_the_others();
            let (sets, waits) = (cell.clone(), cell.clone());
            let sets = thread::spawn(move || sets.set(2));
            let waits = thread::spawn(move || *waits.wait());
            run_the_others();
            cancelled.cancel();
            assert!(cancelled.join().unwrap_err().is::<thread::Cancelled>());
            assert_eq!((sets.join().unwrap(), waits.join().unwrap()), (Ok(()), 2));
        });
    });
}

#[test]
fn a_lazy_value_is_made_once_when_it_is_first_used() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<usize> = LazyLock::new(|| {
        run_the_others();
        MADE.fetch_add(1, Ordering::Relaxed) + 41
    });
    assert_eq!(MADE.load(Ordering::Relaxed), 0);
    Place::Mixed.run(6, |_| assert_eq!(*LAZY, 41));
    assert_eq!(*LazyLock::force(&LAZY), 41);
    assert_eq!(MADE.load(Ordering::Relaxed), 1);
    let text = String::from("moved in");
    assert_eq!(LazyLock::new(move || text).len(), 8);
    assert_eq!(*LazyLock::<u8>::default(), 0);
}

#[test]
fn a_lazy_value_whose_closure_has_panicked_panics_ever_after() {
    quietly(|| {
        let lazy: LazyLock<i32> = LazyLock::new(|| panic!("first"));
        for _ in 0..3 {
            assert!(catch_unwind(|| *lazy).is_err());
        }
    });
}

#[test]
fn a_cancellation_waits_until_a_lazy_value_is_made() {
    on_workers(1, || {
        let lazy = Arc::new(LazyLock::new(|| {
            thread::sleep(Duration::from_millis(5));
            3
        }));
        let theirs = lazy.clone();
        let cancelled = thread::spawn(move || {
            assert_eq!(**theirs, 3);
            thread::yield_now();
            unreachable!("this is a cancel point");
        });
        run_the_others();
        cancelled.cancel();
        assert!(cancelled.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(**lazy, 3);
    });
}

#[test]
fn what_a_closure_captures_is_dropped_when_it_has_run() {
    let captured = Arc::new(());
    let kept = captured.clone();
    let lazy = LazyLock::new(move || drop(kept));
    assert_eq!(Arc::strong_count(&captured), 2);
    LazyLock::force(&lazy);
    assert_eq!(Arc::strong_count(&captured), 1);
    let cell = OnceLock::from(captured.clone());
    assert_eq!(Arc::strong_count(&captured), 2);
    drop(cell);
    assert_eq!(Arc::strong_count(&captured), 1);
}

#[test]
fn they_print_as_std_does() {
    let (ours, stds) = (OnceLock::new(), std::sync::OnceLock::new());
    assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
    assert_eq!((ours.set(1), stds.set(1)), (Ok(()), Ok(())));
    assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
    let (ours, stds) = (LazyLock::new(|| 1), std::sync::LazyLock::new(|| 1));
    assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
    assert_eq!(*ours, *stds);
    assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
    assert_eq!(
        format!("{:?}", Once::new()),
        format!("{:?}", std::sync::Once::new())
    );
}

#[test]
fn their_auto_traits_are_stds() {
    fn all<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    fn send<T: Send>() {}
    all::<Once>();
    all::<OnceLock<i32>>();
    all::<LazyLock<i32>>();
    all::<LazyLock<Mutex<Cell<i32>>, fn() -> Mutex<Cell<i32>>>>();
    send::<OnceLock<Cell<i32>>>();
}

/// A closure that was begun in a generator belongs to whichever thread resumes it.
#[test]
fn closure_carried_by_a_generator_keeps_others_waiting() {
    static ONCE: Once = Once::new();
    on_workers(1, || {
        let mut generator = hebra::Generator::new(|yielder, ()| {
            ONCE.call_once(|| yielder.yield_(()));
        });
        generator.resume(());
        // This thread has begun the closure and is not inside of it.
        let other = thread::spawn_local(move || {
            thread::yield_now();
            generator.resume(());
        });
        ONCE.call_once(|| panic!("another closure runs"));
        other.join().unwrap();
        assert!(ONCE.is_completed());
    });
}

#[test]
fn closure_carried_by_a_generator_cannot_ask_for_itself() {
    static ONCE: Once = Once::new();
    on_workers(1, || {
        let mut generator = hebra::Generator::new(|yielder, ()| {
            ONCE.call_once(|| {
                yielder.yield_(());
                ONCE.call_once(|| ());
            });
        });
        generator.resume(());
        let other = thread::spawn_local(move || {
            generator.resume(());
        });
        let panic = quietly(|| other.join()).unwrap_err();
        let text = panic.downcast_ref::<&str>().unwrap();
        assert!(text.contains("its own result"), "{text}");
    });
}
