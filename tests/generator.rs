//! The generator's protocol, law by law: the rows of `GENERATORS.md`, and what CPython's
//! `test_generators.py` and `test_yield_from.py` pin down.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::iter;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hebra::generator::{Finished, GeneratorStatus, IntoIter, ScopedGenerator};
use hebra::{Generator, GeneratorState, Yielder};

use GeneratorState::{Complete, Yielded};

/// Runs a test body, and ends the process if it hangs. (`support` needs the runtime; these tests
/// must do without.)
fn bounded<T>(body: impl FnOnce() -> T) -> T {
    const BOUND: Duration = Duration::from_secs(60);
    let (done, watched) = mpsc::channel::<()>();
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let watchdog = thread::spawn(move || {
        if watched.recv_timeout(BOUND) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{test} has hung for {BOUND:?}");
            std::process::abort();
        }
    });
    let result = body();
    drop(done);
    watchdog.join().expect("the watchdog does not panic");
    result
}

const CHILD: &str = "HEBRA_GENERATOR_CHILD";

/// Runs `body` in a process of its own, for what ends a process; in the child itself it does no
/// more than that.
fn in_a_child<F: FnOnce()>(body: F) -> Option<Output> {
    if std::env::var_os(CHILD).is_some() {
        bounded(body);
        return None;
    }
    // The closure is called after the test that it is in: `generator::the_test::{{closure}}`.
    let name = std::any::type_name::<F>();
    let test = name
        .trim_end_matches("::{{closure}}")
        .split_once("::")
        .expect("a path")
        .1;
    let mut child = Command::new(std::env::current_exe().expect("a test binary"));
    child
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env_remove("RUST_BACKTRACE");
    // A body that is abandoned is a leak, on purpose.
    let options = std::env::var("ASAN_OPTIONS").unwrap_or_default();
    child.env("ASAN_OPTIONS", format!("{options}:detect_leaks=0"));
    let output = child.output().expect("the test binary runs");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("running 1 test"),
        "{output:?}"
    );
    Some(output)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What has happened, in order; shared by a test and its bodies.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<&'static str>>>);

impl Trace {
    fn add(&self, what: &'static str) {
        self.0.borrow_mut().push(what);
    }

    /// A value whose drop is noted.
    fn on_drop(&self, what: &'static str) -> OnDrop<impl FnMut()> {
        let trace = self.clone();
        OnDrop(move || trace.add(what))
    }

    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

type Payload = Box<dyn Any + Send>;

/// Runs `f`, which must panic; returns the payload. The hook stays: a panic message in the output
/// of a test that passes is no harm.
fn panics<T>(f: impl FnOnce() -> T) -> Payload {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it was to panic"),
        Err(payload) => payload,
    }
}

fn message(payload: &Payload) -> &str {
    match payload.downcast_ref::<String>() {
        Some(text) => text,
        None => payload
            .downcast_ref::<&str>()
            .expect("a panic's message is text"),
    }
}

/// A payload that can be told from every other.
#[derive(Debug, PartialEq, Eq)]
struct Thrown(u32);

fn thrown(payload: Payload) -> u32 {
    payload.downcast::<Thrown>().expect("it is a `Thrown`").0
}

/// Yields `values`, returns `value`.
fn counter(values: impl Iterator<Item = u32> + 'static) -> Generator<(), u32, u32> {
    Generator::new(|y, ()| {
        let mut count = 0;
        values.for_each(|value| {
            y.yield_(value);
            count += 1;
        });
        count
    })
}

fn virtual_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmSize:"))
        .expect("it has a size");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse::<usize>()
        .expect("a number")
        << 10
}

// Rows 1 to 6: creation, inputs, the end, re-entry, status.

#[test]
fn creation_runs_nothing_and_takes_no_stack() {
    bounded(|| {
        const GIB: usize = 1 << 30;
        let ran = Rc::new(Cell::new(0));
        let before = virtual_memory();
        let make = |_| {
            let ran = ran.clone();
            Generator::<(), (), ()>::with_stack_size(GIB, move |_, ()| ran.set(ran.get() + 1))
        };
        let mut generators: Vec<_> = (0..1_000).map(make).collect();
        // Other tests run meanwhile, so the stacks are so large that one of them would stand out.
        assert!(
            virtual_memory() < before + 512 * GIB,
            "a thousand stacks of 1 GiB were reserved"
        );
        let (first, rest) = generators.split_first_mut().expect("a thousand");
        first.resume(());
        assert!(
            virtual_memory() > before + GIB / 2,
            "a generator that runs has a stack"
        );
        assert!(rest.iter().all(|g| g.status() == GeneratorStatus::Created));
        assert_eq!(ran.get(), 1);
        drop(generators);
        assert_eq!(ran.get(), 1);
    });
}

#[test]
fn unrun_body_is_dropped_with_its_generator() {
    bounded(|| {
        let owned = Rc::new(());
        let kept = owned.clone();
        let g = Generator::<(), (), ()>::new(move |_, ()| drop(kept));
        assert_eq!(Rc::strong_count(&owned), 2);
        drop(g);
        assert_eq!(Rc::strong_count(&owned), 1);
    });
}

#[test]
fn body_of_any_size_and_alignment_runs_and_is_dropped_once() {
    #[repr(align(64))]
    struct Aligned(u64);

    /// Two places, of which one is not aligned to 16 bytes.
    #[repr(C, align(16))]
    struct Places<T>(T, u64, T);

    /// Runs bodies that own `payload`, and drops another unrun, all after they have been moved.
    fn run<T: 'static>(payload: impl Fn() -> T, is_whole: impl Fn(&T) -> bool + Copy + 'static) {
        let owned = Rc::new(());
        let make = || {
            let (kept, carried) = (owned.clone(), payload());
            Generator::<(), bool, ()>::new(move |y, ()| {
                let (_kept, carried) = (kept, carried);
                y.yield_(is_whole(&carried));
                y.yield_(is_whole(&carried) && (&raw const carried).is_aligned());
            })
        };
        let mut places = Box::new(Places(make(), 0, make()));
        assert_eq!(places.0.iter().collect::<Vec<_>>(), [true; 2]);
        assert_eq!(places.2.iter().collect::<Vec<_>>(), [true; 2]);
        assert_eq!(Rc::strong_count(&owned), 1);
        let (kept, carried) = (owned.clone(), payload());
        let g = Generator::<(), (), ()>::new(move |_, ()| drop((kept, carried)));
        let moved = Box::new(g);
        assert_eq!(Rc::strong_count(&owned), 2);
        drop(moved);
        assert_eq!(Rc::strong_count(&owned), 1);
    }

    bounded(|| {
        run(|| (), |()| true);
        run(|| 7_u8, |n| *n == 7);
        // With the counter of a body that has no function besides: the last that fits, and the
        // first that does not.
        run(|| [7_usize; 3], |words| words == &[7; 3]);
        run(|| [7_usize; 4], |words| words == &[7; 4]);
        run(|| [7_u8; 5_000], |bytes| bytes == &[7; 5_000]);
        run(|| String::from("owned"), |text| text == "owned");
        // Small enough, but of an alignment of its own.
        run(|| 7_u128, |n| *n == 7);
        run(
            || Aligned(7),
            |aligned| aligned.0 == 7 && std::ptr::from_ref(aligned).addr() % 64 == 0,
        );
    });
}

#[test]
fn first_input_is_the_bodys_argument_and_the_others_come_out_of_yield() {
    bounded(|| {
        let mut g = Generator::new(|y, mut input: String| {
            while input != "end" {
                input = y.yield_(input.to_uppercase());
            }
            input.len()
        });
        assert_eq!(g.resume("first".into()), Yielded("FIRST".into()));
        assert_eq!(g.resume("second".into()), Yielded("SECOND".into()));
        assert_eq!(g.resume("end".into()), Complete(3));
    });
}

#[test]
fn values_of_every_size_pass_both_ways() {
    bounded(|| {
        let mut large = Generator::new(|y, mut input: [u64; 512]| {
            for _ in 0..3 {
                input[511] += 1;
                input = y.yield_(input);
            }
            input
        });
        let mut block = [7; 512];
        for n in 0..3 {
            let Yielded(back) = large.resume(block) else {
                panic!("it yields three times")
            };
            block = back;
            assert_eq!(block[511], 8 + n);
        }
        assert_eq!(large.resume(block), Complete(block));

        #[derive(Debug, PartialEq, Clone, Copy)]
        #[repr(align(64))]
        struct Aligned(u8);
        let mut aligned = Generator::new(|y, input: Aligned| {
            assert_eq!((&raw const input).addr() % 64, 0);
            let input = y.yield_(input);
            assert_eq!((&raw const input).addr() % 64, 0);
            input
        });
        assert_eq!(aligned.resume(Aligned(1)), Yielded(Aligned(1)));
        assert_eq!(aligned.resume(Aligned(2)), Complete(Aligned(2)));
        let mut never = Generator::<(), std::convert::Infallible, ()>::new(|_, ()| ());
        assert!(matches!(never.resume(()), Complete(())));
    });
}

#[test]
fn return_value_is_told_from_a_yielded_one_by_its_type() {
    bounded(|| {
        let mut g = Generator::new(|y, ()| {
            y.yield_(1);
            1
        });
        assert_eq!(g.resume(()), Yielded(1));
        assert_eq!(g.resume(()), Complete(1));
    });
}

#[test]
fn finished_generator_gives_the_input_back() {
    bounded(|| {
        let mut g = Generator::<String, (), usize>::new(|_, input| input.len());
        assert!(!g.is_done());
        assert_eq!(g.resume("four".into()), Complete(4));
        assert!(g.is_done());
        for _ in 0..2 {
            let Finished(input) = g.try_resume("input".into()).expect_err("it is done");
            assert_eq!(input, "input");
        }
        let error: Box<dyn std::error::Error> = Box::new(Finished(()));
        assert_eq!(error.to_string(), "the generator has finished");
        let payload = panics(|| g.resume(String::new()));
        assert!(message(&payload).contains("finished") && message(&payload).contains("try_resume"));
    });
}

#[test]
fn resume_after_the_end_blames_its_caller() {
    let Some(output) = in_a_child(|| {
        let mut g = Generator::<(), (), ()>::new(|_, ()| ());
        g.resume(());
        panics(|| g.resume(()));
    }) else {
        return;
    };
    let place = format!("tests/generator.rs:{}:", line!() - 4);
    assert!(
        stderr(&output).contains(&place),
        "{place} is not in {}",
        stderr(&output)
    );
}

#[test]
fn resume_from_within_is_a_panic_that_the_generator_survives() {
    bounded(|| {
        let shared: Rc<RefCell<Option<Generator<(), u32, ()>>>> = Rc::default();
        let own = shared.clone();
        *shared.borrow_mut() = Some(Generator::new(move |y, ()| {
            let again = panics(|| own.borrow_mut().as_mut().expect("it is there").resume(()));
            assert!(message(&again).contains("borrowed"), "{}", message(&again));
            // Nor can it be closed, thrown into or dropped from within.
            assert!(own.try_borrow_mut().is_err());
            y.yield_(1);
        }));
        assert_eq!(
            shared
                .borrow_mut()
                .as_mut()
                .expect("it is there")
                .resume(()),
            Yielded(1)
        );
        assert_eq!(
            shared
                .borrow_mut()
                .as_mut()
                .expect("it is there")
                .resume(()),
            Complete(())
        );
    });
}

#[test]
fn resume_of_the_delegator_by_its_delegate_is_a_panic_that_both_survive() {
    bounded(|| {
        let shared: Rc<RefCell<Option<Generator<(), u32, u32>>>> = Rc::default();
        let outer = shared.clone();
        *shared.borrow_mut() = Some(Generator::new(move |y, ()| {
            let mut inner = Generator::new(move |y, ()| {
                panics(|| outer.borrow_mut().as_mut().expect("it is there").resume(()));
                y.yield_(1);
                2
            });
            y.yield_from(&mut inner, ())
        }));
        assert_eq!(
            shared
                .borrow_mut()
                .as_mut()
                .expect("it is there")
                .resume(()),
            Yielded(1)
        );
        assert_eq!(
            shared
                .borrow_mut()
                .as_mut()
                .expect("it is there")
                .resume(()),
            Complete(2)
        );
        // The body held its own generator: a cycle, and not for ever.
        assert_eq!(Rc::strong_count(&shared), 1);
    });
}

#[test]
fn status_goes_from_created_over_suspended_to_done() {
    bounded(|| {
        let mut g = counter(0..1);
        assert_eq!(g.status(), GeneratorStatus::Created);
        assert!(format!("{g:?}").contains("Created"));
        g.resume(());
        assert_eq!(g.status(), GeneratorStatus::Suspended);
        assert!(format!("{g:?}").contains("Suspended") && !g.is_done());
        g.resume(());
        assert_eq!(g.status(), GeneratorStatus::Done);
        assert!(format!("{g:?}").contains("Done") && g.is_done());
    });
}

#[test]
fn debug_names_the_place_of_creation_and_not_the_values() {
    bounded(|| {
        struct NotDebug;
        let mut g = Generator::new(|y, NotDebug| _ = y.yield_(format!("{y:?}")));
        let place = format!("{}:{}", file!(), line!() - 1);
        assert!(format!("{g:?}").contains(&place), "{g:?}");
        assert_eq!(g.resume(NotDebug), Yielded("Yielder { .. }".into()));
        assert_eq!(format!("{:?}", Finished(NotDebug)), "Finished(..)");
        assert!(format!("{:?}", counter(0..1).into_iter()).contains("Generator"));
        Generator::scoped(
            |_, ()| (),
            |g: ScopedGenerator<'_, (), (), ()>| assert!(format!("{g:?}").contains("Created")),
        );
    });
}

#[test]
fn generator_without_a_stack_stays_created() {
    bounded(|| {
        let mut g = Generator::<(), (), ()>::with_stack_size(usize::MAX, |_, ()| ());
        for _ in 0..2 {
            let payload = panics(|| g.resume(()));
            assert!(
                message(&payload).contains("no stack for a generator"),
                "{}",
                message(&payload)
            );
            assert_eq!(g.status(), GeneratorStatus::Created);
        }
        assert_eq!(g.close(), None);
    });
}

// Rows 7 to 9: panics and throw.

#[test]
fn panic_of_the_body_reaches_the_resumer_with_its_payload() {
    bounded(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let mut g = Generator::<(), (), ()>::new(move |y, ()| {
            let _guard = noted.on_drop("unwound");
            y.yield_(());
            panic::panic_any(Thrown(7));
        });
        g.resume(());
        assert_eq!(thrown(panics(|| g.resume(()))), 7);
        assert_eq!(trace.take(), ["unwound"]);
        assert_eq!(g.status(), GeneratorStatus::Done);
        assert!(!thread::panicking());
        assert_eq!(g.try_resume(()), Err(Finished(())));
        assert_eq!(g.close(), None);
    });
}

#[test]
fn panic_passes_through_generators_that_resume_generators() {
    bounded(|| {
        fn nested(depth: u32) -> Generator<(), (), u32> {
            Generator::new(move |_, ()| {
                if depth == 0 {
                    panic::panic_any(Thrown(99));
                }
                let Complete(value) = nested(depth - 1).resume(()) else {
                    panic!("nobody yields")
                };
                value
            })
        }
        assert_eq!(thrown(panics(|| nested(20).resume(()))), 99);
    });
}

#[test]
fn stack_is_used_again_after_a_return_a_panic_a_close_and_a_drop() {
    bounded(|| {
        /// Where the body's stack is; that is not where its locals are under a sanitizer.
        fn stack(y: &Yielder<(), usize>) -> usize {
            let frame: usize;
            // SAFETY: each reads a register.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                std::arch::asm!("mov {}, rsp", out(reg) frame)
            };
            #[cfg(target_arch = "x86")]
            unsafe {
                std::arch::asm!("mov {}, esp", out(reg) frame)
            };
            #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
            unsafe {
                std::arch::asm!("mov {}, sp", out(reg) frame)
            };
            #[cfg(target_arch = "riscv64")]
            unsafe {
                std::arch::asm!("mv {}, sp", out(reg) frame)
            };
            #[cfg(target_arch = "loongarch64")]
            unsafe {
                std::arch::asm!("move {}, $sp", out(reg) frame)
            };
            y.yield_(frame);
            frame
        }
        let mut places = Vec::new();
        let mut run = |end: fn(Generator<(), usize, ()>), panics: bool| {
            let mut g = Generator::new(move |y, ()| {
                stack(y);
                assert!(!panics);
            });
            let Yielded(place) = g.resume(()) else {
                panic!("it yields")
            };
            places.push(place);
            end(g);
        };
        run(|mut g| assert_eq!(g.resume(()), Complete(())), false);
        run(|mut g| drop(panics(|| g.resume(()))), true);
        run(|mut g| assert_eq!(g.close(), None), false);
        run(
            |mut g| assert_eq!(thrown(g.throw(Box::new(Thrown(1))).unwrap_err()), 1),
            false,
        );
        run(drop, false);
        run(drop, false);
        assert!(
            places.iter().all(|place| *place == places[0]),
            "{places:x?}"
        );
        let mut one = Generator::new(|y, ()| _ = stack(y));
        let mut two = Generator::new(|y, ()| _ = stack(y));
        assert_ne!(
            one.resume(()),
            two.resume(()),
            "two at a time have two stacks"
        );
    });
}

#[test]
fn throw_that_is_not_caught_comes_back_as_an_error() {
    bounded(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let mut g = Generator::<(), (), ()>::new(move |y, ()| {
            let _guard = noted.on_drop("unwound");
            y.yield_(());
            noted.add("not reached");
        });
        g.resume(());
        let payload: Payload = Box::new(Thrown(1));
        let address = (&raw const *payload).addr();
        let back = g.throw(payload).unwrap_err();
        assert_eq!((&raw const *back).addr(), address, "the very same payload");
        assert_eq!(trace.take(), ["unwound"]);
        assert!(g.is_done() && !thread::panicking());
    });
}

#[test]
fn throw_that_is_caught_is_answered_by_the_next_yield_or_the_return() {
    bounded(|| {
        let mut g = Generator::new(|y, ()| {
            let mut caught = Vec::new();
            while caught.len() < 3 {
                let count = caught.len();
                match catch_unwind(AssertUnwindSafe(|| y.yield_(count))) {
                    Ok(()) => {}
                    Err(payload) => caught.push(thrown(payload)),
                }
            }
            caught
        });
        assert_eq!(g.resume(()), Yielded(0));
        assert_eq!(g.throw(Box::new(Thrown(10))).unwrap(), Yielded(1));
        assert_eq!(g.resume(()), Yielded(1));
        assert_eq!(g.throw(Box::new(Thrown(20))).unwrap(), Yielded(2));
        assert_eq!(
            g.throw(Box::new(Thrown(30))).unwrap(),
            Complete(vec![10, 20, 30])
        );
    });
}

#[test]
fn throw_that_is_answered_by_another_panic_comes_back_as_that() {
    bounded(|| {
        let mut g = Generator::<(), (), ()>::new(|y, ()| {
            let caught = panics(|| y.yield_(()));
            panic::panic_any(Thrown(thrown(caught) + 1));
        });
        g.resume(());
        assert_eq!(thrown(g.throw(Box::new(Thrown(1))).unwrap_err()), 2);
        assert!(g.is_done());
    });
}

#[test]
fn throw_into_an_unstarted_generator_drops_the_body_unrun() {
    bounded(|| {
        let owned = Rc::new(());
        let kept = owned.clone();
        let mut g =
            Generator::<(), (), ()>::new(move |_, ()| unreachable!("{kept:?} is dropped unrun"));
        assert_eq!(thrown(g.throw(Box::new(Thrown(5))).unwrap_err()), 5);
        assert_eq!(Rc::strong_count(&owned), 1);
        assert!(g.is_done());
        assert_eq!(
            thrown(g.throw(Box::new(Thrown(6))).unwrap_err()),
            6,
            "nor does a finished one take it"
        );
    });
}

// Rows 10 to 14: close and drop.

#[test]
fn close_runs_destructors_innermost_first() {
    bounded(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let mut g = Generator::<(), (), ()>::new(move |y, ()| {
            fn descend(y: &Yielder<(), ()>, trace: &Trace, names: &[&'static str]) {
                if let [name, names @ ..] = names {
                    let _guard = trace.on_drop(name);
                    descend(y, trace, names);
                    trace.add("not reached");
                } else {
                    y.yield_(());
                }
            }
            let _outer = noted.on_drop("outermost");
            descend(y, &noted, &["third", "second", "first"]);
        });
        g.resume(());
        assert_eq!(trace.take(), [""; 0]);
        assert_eq!(g.close(), None);
        assert_eq!(trace.take(), ["first", "second", "third", "outermost"]);
        assert!(g.is_done() && !thread::panicking());
        assert_eq!(g.close(), None, "once more is no harm");
        drop(g);
        assert_eq!(trace.take(), [""; 0]);
    });
}

#[test]
fn close_before_the_first_resume_runs_nothing() {
    bounded(|| {
        let owned = Rc::new(());
        let kept = owned.clone();
        let mut g =
            Generator::<(), (), ()>::new(move |_, ()| unreachable!("{kept:?} is dropped unrun"));
        assert_eq!(g.close(), None);
        assert!(g.is_done());
        assert_eq!(Rc::strong_count(&owned), 1);
        assert_eq!(g.try_resume(()), Err(Finished(())));
    });
}

#[test]
fn close_returns_what_a_body_that_catches_it_returns() {
    bounded(|| {
        let mut g = Generator::new(|y, ()| {
            panics(|| y.yield_("first"));
            "last words"
        });
        g.resume(());
        assert_eq!(g.close(), Some("last words"));
        assert!(g.is_done());
        let mut after = counter(0..0);
        after.resume(());
        assert_eq!(after.close(), None, "a value is returned once");
    });
}

#[test]
fn close_needs_no_panic_hook_and_prints_nothing() {
    let Some(output) = in_a_child(|| {
        let mut g = counter(0..);
        g.resume(());
        drop(g);
    }) else {
        return;
    };
    assert!(output.status.success());
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

/// A body that yields, and goes on yielding when it is closed, as often as told; the guard below
/// all of them.
fn stubborn(swallows: u32, trace: &Trace) -> Generator<(), u32, &'static str> {
    let trace = trace.clone();
    Generator::new(move |y, ()| {
        let _guard = trace.on_drop("unwound");
        let mut left = swallows;
        while catch_unwind(AssertUnwindSafe(|| y.yield_(left))).is_ok() || left > 0 {
            left = left.saturating_sub(1);
        }
        "gone"
    })
}

#[test]
fn yield_during_close_unwinds_again_and_close_reports_it() {
    bounded(|| {
        let trace = Trace::default();
        let mut g = stubborn(1, &trace);
        g.resume(());
        let payload = panics(|| g.close());
        assert!(
            message(&payload).contains("ignored its close"),
            "{}",
            message(&payload)
        );
        assert_eq!(trace.take(), ["unwound"]);
        assert!(g.is_done() && !thread::panicking());
        drop(g);
    });
}

#[test]
fn drop_of_a_body_that_yields_once_more_unwinds_it_without_a_word() {
    bounded(|| {
        let trace = Trace::default();
        let mut g = stubborn(1, &trace);
        g.resume(());
        drop(g);
        assert_eq!(trace.take(), ["unwound"]);
    });
}

#[test]
fn body_that_swallows_every_close_is_abandoned() {
    bounded(|| {
        let trace = Trace::default();
        let mut g = stubborn(u32::MAX, &trace);
        g.resume(());
        let payload = panics(|| g.close());
        assert!(message(&payload).contains("ignored its close"));
        assert!(g.is_done() && !thread::panicking());
        let mut dropped = stubborn(u32::MAX, &trace);
        dropped.resume(());
        assert!(message(&panics(|| drop(dropped))).contains("ignored its close"));
        assert_eq!(trace.take(), [""; 0], "their destructors do not run");
        assert!(!thread::panicking());
    });
}

#[test]
fn abandoned_bodies_that_are_dropped_while_panicking_do_not_abort() {
    bounded(|| {
        let trace = Trace::default();
        let mut bodies: Vec<_> = (0..3).map(|_| stubborn(u32::MAX, &trace)).collect();
        bodies
            .iter_mut()
            .for_each(|g| assert!(matches!(g.resume(()), Yielded(_))));
        let payload = panics(move || {
            let _bodies = bodies;
            panic::panic_any(Thrown(3));
        });
        assert_eq!(thrown(payload), 3);
        assert!(!thread::panicking());
        let mut bodies: Vec<_> = (0..3).map(|_| stubborn(u32::MAX, &trace)).collect();
        bodies
            .iter_mut()
            .for_each(|g| assert!(matches!(g.resume(()), Yielded(_))));
        assert!(
            message(&panics(|| drop(bodies))).contains("ignored its close"),
            "the first reports it, the others are quiet"
        );
        assert!(!thread::panicking());
    });
}

#[test]
fn yield_in_a_destructor_during_close_abandons_the_body() {
    let Some(output) = in_a_child(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let mut g = Generator::<(), u32, ()>::new(move |y, ()| {
            let _outer = noted.on_drop("outer");
            let _yields = OnDrop(|| y.yield_(2));
            let _inner = noted.on_drop("inner");
            y.yield_(1);
        });
        g.resume(());
        let payload = panics(|| g.close());
        assert!(message(&payload).contains("ignored its close"));
        assert!(g.is_done());
        assert_eq!(trace.take(), ["inner"]);
        println!("goes on");
    }) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("goes on"));
}

#[test]
fn panic_during_close_comes_out_of_close_and_of_drop() {
    bounded(|| {
        let make = || {
            let mut g = Generator::<(), (), ()>::new(|y, ()| {
                panics(|| y.yield_(()));
                panic::panic_any(Thrown(8));
            });
            g.resume(());
            g
        };
        let mut g = make();
        assert_eq!(thrown(panics(|| g.close())), 8);
        assert!(g.is_done());
        assert_eq!(thrown(panics(|| drop(make()))), 8);
        let g = make();
        let payload = panics(move || {
            let _g = g;
            panic::panic_any(Thrown(9));
        });
        assert_eq!(
            thrown(payload),
            9,
            "while panicking already, the first panic goes on and nothing aborts"
        );
        assert!(!thread::panicking());
    });
}

#[test]
fn panic_in_a_destructor_during_close_is_rusts_own_abort() {
    let Some(output) = in_a_child(|| {
        let mut g = Generator::<(), (), ()>::new(|y, ()| {
            let _panics = OnDrop(|| panic!("from a destructor"));
            y.yield_(());
        });
        g.resume(());
        let _ = g.close();
    }) else {
        return;
    };
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains("panic in a destructor during cleanup"),
        "{}",
        stderr(&output)
    );
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic::panic_any(Thrown(13));
    }
}

#[test]
fn refused_value_that_panics_when_dropped_does_not_abort() {
    bounded(|| {
        let mut g = Generator::<(), Bomb, ()>::new(|y, ()| {
            panics(|| y.yield_(Bomb));
            y.yield_(Bomb);
        });
        mem::forget(g.resume(()));
        assert_eq!(thrown(panics(|| g.close())), 13);
    });
}

#[test]
fn input_that_panics_when_dropped_does_not_abort() {
    bounded(|| {
        let mut g = Generator::<Bomb, (), ()>::new(|_, input| mem::forget(input));
        g.resume(Bomb);
        assert_eq!(thrown(panics(|| g.resume(Bomb))), 13);
    });
}

#[test]
fn return_that_panics_when_dropped_does_not_abort_a_panic() {
    bounded(|| {
        let body = |y: &Yielder<(), u8>, ()| {
            panics(|| y.yield_(1));
            Bomb
        };
        let mut g = Generator::new(body);
        g.resume(());
        assert_eq!(thrown(panics(|| drop(g))), 13);
        let mut g = Generator::new(body);
        g.resume(());
        let payload = panics(move || {
            let _g = g;
            panic::panic_any(Thrown(1));
        });
        assert_eq!(thrown(payload), 1);
        let payload = panics(|| {
            Generator::scoped(body, |mut g| {
                g.resume(());
                panic::panic_any(Thrown(2));
            })
        });
        assert_eq!(thrown(payload), 2);
    });
}

#[test]
fn payload_that_panics_when_dropped_does_not_abort_a_panic() {
    bounded(|| {
        let mut g = Generator::<(), u8, ()>::new(|y, ()| {
            panics(|| y.yield_(1));
            panic::panic_any(Bomb);
        });
        g.resume(());
        let payload = panics(move || {
            let _g = g;
            panic::panic_any(Thrown(1));
        });
        assert_eq!(thrown(payload), 1);
    });
}

#[test]
fn body_can_ask_whether_it_is_closed() {
    bounded(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = seen.clone();
        let body = move |y: &Yielder<(), u8>, ()| {
            noted.borrow_mut().push(y.is_closing());
            let _asks = OnDrop(|| noted.borrow_mut().push(y.is_closing()));
            panics(|| y.yield_(1));
            noted.borrow_mut().push(y.is_closing());
            if !y.is_closing() {
                y.yield_(2);
            }
        };
        let mut g = Generator::new(body.clone());
        g.resume(());
        assert_eq!(g.throw(Box::new(1)).unwrap(), Yielded(2));
        assert_eq!(g.close(), None);
        assert_eq!(seen.take(), [false, false, true]);
        let mut outer = Generator::<(), u8, ()>::new(move |y, ()| {
            let mut inner = Generator::new(body);
            panics(|| y.yield_from(&mut inner, ()));
            assert!(y.is_closing());
        });
        outer.resume(());
        outer.close();
        assert_eq!(seen.take(), [false, true, true]);
    });
}

#[test]
fn drop_while_panicking_runs_every_destructor_once_innermost_first() {
    bounded(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let payload = panics(move || {
            let _outside = noted.on_drop("outside");
            let inside = noted.clone();
            let mut g = Generator::<(), (), ()>::new(move |y, ()| {
                let _outer = inside.on_drop("outer");
                let noted = inside.clone();
                let mut nested = Generator::<(), (), ()>::new(move |y, ()| {
                    let _guard = noted.on_drop("nested");
                    y.yield_(());
                });
                nested.resume(());
                let _inner = inside.on_drop("inner");
                y.yield_(());
            });
            g.resume(());
            panic::panic_any(Thrown(4));
        });
        assert_eq!(thrown(payload), 4);
        assert_eq!(trace.take(), ["inner", "nested", "outer", "outside"]);
        assert!(!thread::panicking());
    });
}

#[test]
fn drop_of_a_suspended_generator_closes_it_wherever_it_is_kept() {
    bounded(|| {
        let trace = Trace::default();
        let make = |name| {
            let noted = trace.clone();
            let mut g = Generator::<(), (), ()>::new(move |y, ()| {
                let _guard = noted.on_drop(name);
                y.yield_(());
            });
            g.resume(());
            g
        };
        drop(make("dropped"));
        drop(Box::new(make("boxed")));
        drop(Rc::new(RefCell::new(make("shared"))));
        drop(make("iterated").into_iter());
        let mut place = make("replaced");
        place = {
            drop(place);
            make("second")
        };
        drop(vec![place, make("third")]);
        assert_eq!(
            trace.take(),
            [
                "dropped", "boxed", "shared", "iterated", "replaced", "second", "third"
            ]
        );
    });
}

#[test]
fn values_that_were_yielded_or_put_in_are_dropped_once() {
    bounded(|| {
        let live = Rc::new(());
        let mut g = Generator::new(|y, first: Rc<()>| {
            let mut input = first;
            for _ in 0..3 {
                input = y.yield_(input);
            }
            input
        });
        for _ in 0..2 {
            assert!(matches!(g.resume(live.clone()), Yielded(_)));
        }
        assert_eq!(
            Rc::strong_count(&live),
            1,
            "the body holds nothing while suspended: it has yielded it"
        );
        drop(g);
        let mut returned = Generator::<Rc<()>, Rc<()>, Rc<()>>::new(|_, input| input);
        assert!(matches!(returned.resume(live.clone()), Complete(_)));
        let mut refused = Generator::new(|y, input: Rc<()>| {
            panics(|| y.yield_(input.clone()));
            panics(|| y.yield_(input.clone()));
        });
        refused.resume(live.clone());
        panics(|| refused.close());
        assert_eq!(Rc::strong_count(&live), 1);
    });
}

// Rows 15 to 18: delegation.

#[test]
fn delegation_passes_values_and_inputs_straight_through() {
    bounded(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let mut outer = Generator::new(move |y, first: u32| {
            noted.add("outer begins");
            let noted_inside = noted.clone();
            let mut inner = Generator::new(move |y, mut input: u32| {
                noted_inside.add("inner begins");
                while input != 0 {
                    input = y.yield_(input * 10);
                }
                noted_inside.add("inner ends");
                "result"
            });
            let result = y.yield_from(&mut inner, first);
            assert!(inner.is_done());
            noted.add("outer ends");
            let last = y.yield_(1);
            (result, last)
        });
        assert_eq!(outer.resume(3), Yielded(30));
        assert_eq!(outer.resume(4), Yielded(40));
        assert_eq!(trace.take(), ["outer begins", "inner begins"]);
        assert_eq!(outer.resume(0), Yielded(1));
        assert_eq!(trace.take(), ["inner ends", "outer ends"]);
        assert_eq!(outer.resume(5), Complete(("result", 5)));
    });
}

#[test]
fn delegate_that_never_yields_returns_at_once() {
    bounded(|| {
        let mut outer = Generator::new(|y, ()| {
            let nothing = y.yield_from(&mut counter(iter::empty()), ());
            y.yield_(100 + nothing);
            y.yield_from(&mut counter(0..2), ())
        });
        assert_eq!(outer.iter().collect::<Vec<_>>(), [100, 0, 1]);
        assert_eq!(outer.take_return(), Some(2));
    });
}

#[test]
fn delegates_follow_one_another_and_leave_their_delegator_whole() {
    bounded(|| {
        let mut outer = Generator::new(|y, ()| {
            let mut sum = 0;
            for n in 0..100 {
                sum += y.yield_from(&mut counter(n..n + 3), ());
                y.yield_(1_000 + n);
            }
            sum
        });
        let values: Vec<_> = outer.iter().collect();
        assert_eq!(values[..8], [0, 1, 2, 1_000, 1, 2, 3, 1_001]);
        assert_eq!((values.len(), outer.take_return()), (400, Some(300)));
    });
}

#[test]
fn started_generator_goes_on_where_it_was_when_it_is_delegated_to() {
    bounded(|| {
        let mut inner = counter(0..4);
        assert_eq!(inner.iter().take(2).collect::<Vec<_>>(), [0, 1]);
        let mut outer = Generator::new(move |y, ()| y.yield_from(&mut inner, ()));
        assert_eq!(outer.iter().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(outer.take_return(), Some(4));
    });
}

#[test]
fn generator_that_delegates_already_can_be_delegated_to() {
    bounded(|| {
        let chain = |depth: u32| {
            let mut g = counter(0..9);
            for _ in 0..depth {
                g = Generator::new(move |y, ()| y.yield_from(&mut g, ()));
                // Resumed on its own, each becomes the root of those below; then it is no root any
                // more.
                assert!(matches!(g.resume(()), Yielded(_)));
            }
            g
        };
        let mut g = chain(4);
        assert_eq!(g.iter().collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
        assert_eq!(g.take_return(), Some(9));
        let mut g = chain(4);
        assert_eq!(thrown(g.throw(Box::new(Thrown(1))).unwrap_err()), 1);
        let mut g = chain(4);
        assert_eq!(g.close(), None);
    });
}

#[test]
fn delegation_to_a_finished_generator_is_a_panic_in_the_delegator() {
    bounded(|| {
        let mut inner = counter(0..0);
        inner.resume(());
        let mut outer = Generator::<(), u32, ()>::new(move |y, ()| {
            let payload = panics(|| y.yield_from(&mut inner, ()));
            assert!(message(&payload).contains("finished"));
            y.yield_(1);
        });
        assert_eq!(outer.resume(()), Yielded(1));
        assert_eq!(outer.resume(()), Complete(()));
    });
}

#[test]
fn panic_of_a_delegate_comes_out_of_yield_from_and_may_be_caught() {
    bounded(|| {
        let make = |catches: bool| {
            Generator::<(), u32, u32>::new(move |y, ()| {
                let mut inner = Generator::new(|y, ()| {
                    y.yield_(1);
                    panic::panic_any(Thrown(11));
                });
                if !catches {
                    return y.yield_from(&mut inner, ());
                }
                let caught = thrown(panics(|| y.yield_from(&mut inner, ())));
                assert!(inner.is_done());
                y.yield_(caught);
                12
            })
        };
        let mut g = make(true);
        assert_eq!(g.iter().collect::<Vec<_>>(), [1, 11]);
        assert_eq!(g.take_return(), Some(12));
        let mut g = make(false);
        g.resume(());
        assert_eq!(thrown(panics(|| g.resume(()))), 11);
        assert!(g.is_done());
    });
}

/// A chain of generators that delegate, and note what is thrown or closed through them: level 0 is
/// the innermost. The level `catches` catches what comes and yields `100 + level`; then it returns
/// `10 + level`. Others return what they get.
fn chain(depth: u32, catches: Option<u32>, trace: &Trace) -> Generator<u32, u32, u32> {
    const NAMES: [&str; 6] = [
        "level 0", "level 1", "level 2", "level 3", "level 4", "level 5",
    ];
    let trace = trace.clone();
    Generator::new(move |y, input| {
        let _guard = trace.on_drop(NAMES[depth as usize]);
        let run = || match depth {
            0 => (0..3).fold(input, |sum, _| sum + y.yield_(sum)),
            _ => y.yield_from(&mut chain(depth - 1, catches, &trace), input),
        };
        if catches != Some(depth) {
            return run();
        }
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(value) => value,
            Err(_) => {
                trace.add("caught");
                y.yield_(100 + depth) + 10 + depth
            }
        }
    })
}

#[test]
fn throw_goes_to_the_innermost_and_is_caught_at_any_level() {
    bounded(|| {
        const NAMES: [&str; 4] = ["level 0", "level 1", "level 2", "level 3"];
        for catches in 0..4 {
            let trace = Trace::default();
            let mut g = chain(3, Some(catches), &trace);
            assert_eq!(g.resume(1), Yielded(1));
            assert_eq!(g.resume(2), Yielded(3));
            assert_eq!(
                g.throw(Box::new(Thrown(0))).unwrap(),
                Yielded(100 + catches)
            );
            let mut expected = NAMES[..catches as usize].to_vec();
            expected.push("caught");
            assert_eq!(
                trace.take(),
                expected,
                "those below have unwound, innermost first"
            );
            assert_eq!(g.resume(1_000), Complete(1_010 + catches));
            assert_eq!(trace.take(), NAMES[catches as usize..]);
        }
        let trace = Trace::default();
        let mut g = chain(3, None, &trace);
        g.resume(1);
        assert_eq!(thrown(g.throw(Box::new(Thrown(6))).unwrap_err()), 6);
        assert_eq!(trace.take(), NAMES);
    });
}

#[test]
fn delegate_that_returns_after_a_throw_gives_its_value_to_yield_from() {
    bounded(|| {
        let mut outer = Generator::new(|y, ()| {
            let mut inner = Generator::new(|y, ()| thrown(panics(|| y.yield_(1))));
            let value = y.yield_from(&mut inner, ());
            y.yield_(value);
            value + 1
        });
        outer.resume(());
        assert_eq!(outer.throw(Box::new(Thrown(40))).unwrap(), Yielded(40));
        assert_eq!(outer.resume(()), Complete(41));
    });
}

#[test]
fn close_goes_to_the_innermost_first() {
    bounded(|| {
        let trace = Trace::default();
        let mut g = chain(3, None, &trace);
        g.resume(1);
        assert_eq!(g.close(), None);
        assert_eq!(trace.take(), ["level 0", "level 1", "level 2", "level 3"]);
        assert!(g.is_done());
    });
}

#[test]
fn close_goes_on_in_the_delegator_after_its_delegate_has_returned() {
    bounded(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let mut outer = Generator::<(), u32, u32>::new(move |y, ()| {
            let _guard = noted.on_drop("outer");
            let mut inner = Generator::new(|y, ()| {
                panics(|| y.yield_(1));
                7
            });
            y.yield_from(&mut inner, ());
            noted.add("not reached");
            8
        });
        outer.resume(());
        assert_eq!(outer.close(), None);
        assert_eq!(trace.take(), ["outer"]);
        let mut catches = Generator::new(|y, ()| {
            let mut inner = Generator::<(), u32, u32>::new(|y, ()| {
                panics(|| y.yield_(1));
                7
            });
            panics(|| y.yield_from(&mut inner, ()));
            9
        });
        catches.resume(());
        assert_eq!(
            catches.close(),
            Some(9),
            "it is the outer one that may end it with a value"
        );
    });
}

#[test]
fn delegate_that_yields_during_close_is_refused_and_reported() {
    bounded(|| {
        let trace = Trace::default();
        let mut inner = stubborn(1, &trace);
        let noted = trace.clone();
        let mut outer = Generator::<(), u32, ()>::new(move |y, ()| {
            let _guard = noted.on_drop("outer");
            y.yield_from(&mut inner, ());
        });
        outer.resume(());
        assert!(message(&panics(|| outer.close())).contains("ignored its close"));
        assert_eq!(trace.take(), ["unwound", "outer"]);
        let mut inner = stubborn(u32::MAX, &trace);
        let mut outer =
            Generator::<(), u32, ()>::new(move |y, ()| _ = y.yield_from(&mut inner, ()));
        outer.resume(());
        assert!(message(&panics(|| outer.close())).contains("ignored its close"));
        assert!(outer.is_done() && !thread::panicking());
        assert_eq!(trace.take(), [""; 0]);
    });
}

#[test]
fn panic_of_a_delegate_during_close_comes_out_of_close() {
    bounded(|| {
        let mut outer = Generator::<(), u32, ()>::new(|y, ()| {
            let mut inner = Generator::new(|y, ()| {
                panics(|| y.yield_(1));
                panic::panic_any(Thrown(13));
            });
            y.yield_from(&mut inner, ())
        });
        outer.resume(());
        assert_eq!(thrown(panics(|| outer.close())), 13);
        assert!(outer.is_done());
    });
}

#[test]
fn delegation_that_yields_nothing_after_a_swallowed_close_is_no_offence() {
    bounded(|| {
        let mut g = Generator::new(|y, ()| {
            panics(|| y.yield_(1));
            y.yield_from(&mut counter(iter::empty()), ())
        });
        g.resume(());
        assert_eq!(g.close(), Some(0));
    });
}

#[test]
fn delegation_that_yields_nothing_in_a_destructor_during_close_is_no_offence() {
    let Some(output) = in_a_child(|| {
        let mut g = Generator::<(), u32, ()>::new(|y, ()| {
            let _delegates =
                OnDrop(|| assert_eq!(y.yield_from(&mut counter(iter::empty()), ()), 0));
            y.yield_(1);
        });
        g.resume(());
        assert_eq!(g.close(), None);
        println!("goes on");
    }) else {
        return;
    };
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("goes on"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn delegate_that_a_caught_panic_has_left_is_done() {
    bounded(|| {
        let mut g = Generator::<(), u32, u32>::new(|y, ()| {
            let mut inner = counter(0..9);
            panics(|| y.yield_from(&mut inner, ()));
            assert_eq!(inner.status(), GeneratorStatus::Done);
            assert_eq!(inner.try_resume(()), Err(Finished(())));
            inner = counter(50..52);
            y.yield_from(&mut inner, ())
        });
        g.resume(());
        assert_eq!(g.throw(Box::new(Thrown(1))).unwrap(), Yielded(50));
        assert_eq!(g.iter().collect::<Vec<_>>(), [51]);
    });
}

#[test]
fn resumed_generator_inside_a_body_keeps_its_yields_to_itself() {
    bounded(|| {
        let mut outer = Generator::new(|y, ()| {
            let mut inner = counter(0..3);
            while let Yielded(value) = inner.resume(()) {
                y.yield_(value * 2);
            }
            // Delegation starts from here, not from the outermost.
            let mut middle = Generator::new(|y, ()| y.yield_from(&mut counter(7..9), ()));
            while let Yielded(value) = middle.resume(()) {
                y.yield_(value * 100);
            }
        });
        assert_eq!(outer.iter().collect::<Vec<_>>(), [0, 2, 4, 700, 800]);
    });
}

#[test]
fn recursion_by_delegation_walks_a_tree() {
    bounded(|| {
        fn walk(low: u32, high: u32) -> Generator<(), u32, u32> {
            Generator::with_stack_size(64 << 10, move |y, ()| {
                if low == high {
                    return 0;
                }
                let middle = low + (high - low) / 2;
                let left = y.yield_from(&mut walk(low, middle), ());
                y.yield_(middle);
                left + 1 + y.yield_from(&mut walk(middle + 1, high), ())
            })
        }
        let mut g = walk(0, 1_000);
        assert!(g.iter().eq(0..1_000));
        assert_eq!(g.take_return(), Some(1_000));
    });
}

/// A delegation of so many levels around `innermost`.
fn wrapped<Return: 'static>(
    mut g: Generator<u32, u32, Return>,
    depth: usize,
) -> Generator<u32, u32, Return> {
    for _ in 0..depth {
        g = Generator::with_stack_size(64 << 10, move |y, input| y.yield_from(&mut g, input));
    }
    g
}

#[test]
fn chain_of_a_thousand_passes_values_inputs_throw_and_close() {
    bounded(|| {
        const DEPTH: usize = 1_000;
        let adder = || {
            Generator::with_stack_size(64 << 10, |y, mut input: u32| {
                let mut sum = 0;
                loop {
                    match catch_unwind(AssertUnwindSafe(|| y.yield_(sum + input))) {
                        Ok(0) => return sum + input,
                        Ok(next) => (sum, input) = (sum + input, next),
                        Err(payload) => {
                            (sum, input) =
                                (payload.downcast::<Thrown>().map_or(0, |thrown| thrown.0), 0)
                        }
                    }
                }
            })
        };
        let mut g = wrapped(adder(), DEPTH);
        assert_eq!(g.resume(1), Yielded(1));
        assert_eq!(g.resume(2), Yielded(3));
        assert_eq!(g.throw(Box::new(Thrown(500))).unwrap(), Yielded(500));
        assert_eq!(g.resume(5), Yielded(505));
        assert_eq!(
            g.resume(0),
            Complete(505),
            "it returns through a thousand levels"
        );

        let panicking = Generator::<u32, u32, ()>::new(|y, input| _ = y.yield_(input));
        let mut g = wrapped(panicking, DEPTH);
        g.resume(1);
        assert_eq!(thrown(g.throw(Box::new(Thrown(3))).unwrap_err()), 3);

        let trace = Trace::default();
        let noted = trace.clone();
        let guarded = Generator::<u32, u32, ()>::new(move |y, input| {
            let _guard = noted.on_drop("innermost");
            y.yield_(input);
        });
        let mut g = wrapped(guarded, DEPTH);
        g.resume(1);
        assert_eq!(g.close(), None);
        assert_eq!(trace.take(), ["innermost"]);
    });
}

#[test]
fn item_costs_the_same_at_any_depth() {
    bounded(|| {
        let best = |depth| {
            let endless = Generator::<u32, u32, ()>::new(|y, mut input| {
                loop {
                    input = y.yield_(input);
                }
            });
            let mut g = wrapped(endless, depth);
            let run = |_| {
                let start = Instant::now();
                (0..2_000).for_each(|n| assert_eq!(g.resume(n), Yielded(n)));
                start.elapsed()
            };
            (0..10).map(run).min().expect("ten runs")
        };
        let (flat, deep) = (best(1), best(1_000));
        // A chain that is climbed costs some hundred times as much.
        assert!(deep < flat * 10, "depth 1: {flat:?}, depth 1,000: {deep:?}");
        fn recurse(y: &Yielder<u32, u32>, depth: u32) {
            match depth {
                0 => (0..1_000).for_each(|n| _ = y.yield_(n)),
                _ => recurse(y, depth - 1),
            }
        }
        let plain = |depth| {
            let mut g = Generator::with_stack_size(1 << 20, move |y, _| recurse(y, depth));
            let start = Instant::now();
            while let Yielded(_) = g.resume(0) {}
            start.elapsed()
        };
        let flat = (0..10).map(|_| plain(1)).min().expect("ten runs");
        let deep = (0..10).map(|_| plain(1_000)).min().expect("ten runs");
        assert!(deep < flat * 10, "depth 1: {flat:?}, depth 1,000: {deep:?}");
    });
}

#[test]
fn deep_recursion_yields_from_every_level() {
    bounded(|| {
        fn walk(y: &Yielder<(), u32>, depth: u32, limit: u32) {
            y.yield_(depth);
            if depth < limit {
                walk(y, depth + 1, limit);
                y.yield_(depth);
            }
        }
        let g = Generator::with_stack_size(4 << 20, |y, ()| walk(y, 0, 5_000));
        assert!(g.into_iter().eq((0..=5_000).chain((0..5_000).rev())));
    });
}

#[test]
fn yield_from_iter_yields_the_items_and_drops_the_inputs() {
    bounded(|| {
        let mut g = Generator::new(|y, first: u32| {
            y.yield_from_iter([10, 20]);
            y.yield_from_iter(iter::empty());
            first + y.yield_(30)
        });
        assert_eq!(
            (g.resume(1), g.resume(2), g.resume(3)),
            (Yielded(10), Yielded(20), Yielded(30))
        );
        assert_eq!(g.resume(4), Complete(5));
        let trace = Trace::default();
        let noted = trace.clone();
        let mut closed = Generator::<(), u32, ()>::new(move |y, ()| {
            let guard = noted.on_drop("the iterator");
            y.yield_from_iter((0..).inspect(move |_| assert!((&raw const guard).addr() != 0)));
        });
        closed.resume(());
        assert_eq!(closed.close(), None);
        assert_eq!(trace.take(), ["the iterator"]);
        let mut thrown_into = Generator::<(), u32, ()>::new(|y, ()| y.yield_from_iter(0..));
        thrown_into.resume(());
        assert_eq!(
            thrown(thrown_into.throw(Box::new(Thrown(2))).unwrap_err()),
            2
        );
        let mut nested = Generator::<(), u32, ()>::new(|y, ()| y.yield_from_iter(counter(0..3)));
        assert_eq!(
            nested.iter().collect::<Vec<_>>(),
            [0, 1, 2],
            "a generator is an iterator too"
        );
    });
}

// Row 19: iteration.

#[test]
fn generator_is_an_iterator_that_stays_at_its_end() {
    bounded(|| {
        assert_eq!(
            counter(0..3).into_iter().map(|n| n * n).collect::<Vec<_>>(),
            [0, 1, 4]
        );
        let mut sum = 0;
        for n in counter(1..5) {
            sum += n;
        }
        assert_eq!(sum, 10);
        let mut g = counter(0..2);
        {
            let mut items = g.iter();
            assert_eq!((items.next(), items.next()), (Some(0), Some(1)));
            for _ in 0..3 {
                assert_eq!(items.next(), None);
            }
        }
        assert!(g.is_done());
        assert_eq!(g.iter().next(), None);
        fn fused<I: iter::FusedIterator>(_: I) {}
        fused(g.iter());
        fused(g.into_iter());
    });
}

#[test]
fn return_value_can_be_had_after_the_iteration() {
    bounded(|| {
        let mut g = counter(0..3);
        assert_eq!(g.take_return(), None);
        for _ in &mut g {}
        assert_eq!(g.take_return(), Some(3));
        assert_eq!(g.take_return(), None);
        let mut items = counter(0..5).into_iter();
        assert_eq!(items.by_ref().take(2).count(), 2);
        let mut g = items.into_inner();
        assert_eq!(g.status(), GeneratorStatus::Suspended);
        assert_eq!(g.iter().count(), 3);
        assert_eq!(g.take_return(), Some(5));
        let mut closed = counter(0..5);
        closed.iter().next();
        closed.close();
        assert_eq!((closed.iter().next(), closed.take_return()), (None, None));
    });
}

#[test]
fn iteration_continues_a_panic_of_the_body_and_is_over_then() {
    bounded(|| {
        let mut g = Generator::<(), u32, ()>::new(|y, ()| {
            y.yield_(1);
            panic::panic_any(Thrown(1));
        });
        assert_eq!(g.iter().next(), Some(1));
        assert_eq!(thrown(panics(|| g.iter().next())), 1);
        assert_eq!(g.iter().next(), None);
    });
}

// Row 20: panics and yields.

#[test]
fn body_may_yield_inside_catch_unwind_and_panic_afterwards() {
    bounded(|| {
        let mut g = Generator::new(|y, ()| {
            let caught = panics(|| {
                y.yield_(1);
                y.yield_(2);
                panic::panic_any(Thrown(3));
            });
            y.yield_(thrown(caught));
        });
        assert_eq!(g.iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!thread::panicking());
    });
}

#[test]
fn destructor_that_runs_in_peace_may_yield() {
    bounded(|| {
        let g = Generator::<(), u32, ()>::new(|y, ()| {
            let yields = OnDrop(|| y.yield_(2));
            y.yield_(1);
            drop(yields);
            y.yield_(3);
        });
        assert_eq!(g.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    });
}

#[test]
fn yield_in_a_destructor_while_the_body_unwinds_ends_the_process_with_a_reason() {
    let Some(output) = in_a_child(|| {
        let mut g = Generator::<(), u32, ()>::new(|y, ()| {
            let _yields = OnDrop(|| y.yield_(2));
            y.yield_(1);
            panic!("of the body");
        });
        g.resume(());
        let _ = catch_unwind(AssertUnwindSafe(|| g.resume(())));
        println!("goes on");
    }) else {
        return;
    };
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("goes on"));
    assert!(
        stderr(&output).contains("yielded in a destructor while its body unwinds"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn delegation_in_a_destructor_while_the_body_unwinds_ends_the_process_with_a_reason() {
    let Some(output) = in_a_child(|| {
        let mut g = Generator::<(), u32, ()>::new(|y, ()| {
            let mut started = counter(1..);
            started.resume(());
            let _delegates = OnDrop(|| _ = y.yield_from(&mut started, ()));
            panic!("of the body");
        });
        let _ = catch_unwind(AssertUnwindSafe(|| g.resume(())));
        println!("goes on");
    }) else {
        return;
    };
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("goes on"));
    assert!(
        stderr(&output).contains("yielded in a destructor while its body unwinds"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn destructor_that_runs_during_a_panic_may_run_a_generator() {
    bounded(|| {
        let collected = Rc::new(RefCell::new(Vec::new()));
        let inside = collected.clone();
        let payload = panics(move || {
            let _runs = OnDrop(move || {
                assert!(thread::panicking());
                let mut g = Generator::<(), u32, u32>::new(|y, ()| {
                    y.yield_(1);
                    let caught = panics(|| panic::panic_any(Thrown(2)));
                    y.yield_(thrown(caught));
                    y.yield_from(&mut counter(3..5), ())
                });
                inside.borrow_mut().extend(g.iter());
                let mut closed = counter(0..);
                closed.resume(());
                assert_eq!(closed.close(), None);
                let mut thrown_into = counter(0..);
                thrown_into.resume(());
                assert_eq!(
                    thrown(thrown_into.throw(Box::new(Thrown(1))).unwrap_err()),
                    1
                );
            });
            panic::panic_any(Thrown(14));
        });
        assert_eq!(thrown(payload), 14);
        assert_eq!(*collected.borrow(), [1, 2, 3, 4]);
        assert!(!thread::panicking());
    });
}

#[test]
fn generator_that_a_panicking_resumer_has_resumed_is_as_before_afterwards() {
    let Some(output) = in_a_child(|| {
        let g = Rc::new(RefCell::new(Generator::<(), u32, ()>::new(|y, ()| {
            y.yield_(1);
            let _yields = OnDrop(|| y.yield_(2));
            panic!("of the body");
        })));
        let shared = g.clone();
        panics(move || {
            let _resumes = OnDrop(|| assert_eq!(shared.borrow_mut().resume(()), Yielded(1)));
            panic::panic_any(Thrown(1));
        });
        let _ = catch_unwind(AssertUnwindSafe(|| g.borrow_mut().resume(())));
        println!("goes on");
    }) else {
        return;
    };
    assert!(!String::from_utf8_lossy(&output.stdout).contains("goes on"));
    assert!(
        stderr(&output).contains("yielded in a destructor while its body unwinds"),
        "{}",
        stderr(&output)
    );
}

// Row 22: backtraces.

#[inline(never)]
fn a_resumer_with_a_name(g: &mut Generator<(), String, ()>) -> String {
    let Yielded(trace) = g.resume(()) else {
        panic!("it yields")
    };
    std::hint::black_box(trace)
}

#[inline(never)]
fn a_body_with_a_name(y: &Yielder<(), String>) {
    y.yield_(std::backtrace::Backtrace::force_capture().to_string());
}

#[test]
fn backtrace_of_the_body_continues_into_the_resumer() {
    bounded(|| {
        let mut g = Generator::new(|y, ()| {
            a_body_with_a_name(y);
            let mut inner = Generator::new(|y, ()| a_body_with_a_name(y));
            y.yield_from(&mut inner, ());
        });
        for _ in 0..2 {
            let trace = a_resumer_with_a_name(&mut g);
            let (body, resumer) = (
                trace.find("a_body_with_a_name"),
                trace.find("a_resumer_with_a_name"),
            );
            assert!(body.is_some() && body < resumer, "{trace}");
            assert!(
                trace.contains("backtrace_of_the_body_continues_into_the_resumer"),
                "{trace}"
            );
        }
    });
}

// Row 24: where a generator may not go.

#[test]
fn generator_is_neither_send_nor_sync_nor_clone() {
    /// Ambiguous, which does not compile, for a type that has the trait.
    macro_rules! is_not {
        ($kind:ty: $bound:path) => {{
            trait Ambiguous<T> {
                fn one() {}
            }
            struct HasIt;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $bound> Ambiguous<HasIt> for T {}
            <$kind as Ambiguous<_>>::one();
        }};
    }
    is_not!(Generator<(), (), ()>: Send);
    is_not!(Generator<(), (), ()>: Sync);
    is_not!(Generator<(), (), ()>: Clone);
    is_not!(Yielder<(), ()>: Send);
    is_not!(Yielder<(), ()>: Sync);
    is_not!(Yielder<(), ()>: Clone);
    is_not!(ScopedGenerator<'static, (), (), ()>: Send);
    is_not!(ScopedGenerator<'static, (), (), ()>: Sync);
    is_not!(ScopedGenerator<'static, (), (), ()>: Clone);
    is_not!(IntoIter<(), ()>: Send);
    is_not!(IntoIter<(), ()>: Sync);
    is_not!(IntoIter<(), ()>: Clone);
}

#[test]
fn generator_may_be_moved_while_it_is_suspended() {
    bounded(|| {
        let mut all: Vec<_> = (0..100).map(|n| counter(n..n + 3)).collect();
        all.iter_mut().for_each(|g| _ = g.resume(()));
        let mut all: Vec<_> = all.into_iter().rev().map(Box::new).collect();
        let (one, two) = all.split_at_mut(50);
        one.iter_mut()
            .zip(two)
            .for_each(|(one, two)| std::mem::swap(&mut **one, &mut **two));
        let mut next: Vec<_> = all.into_iter().map(|mut g| g.resume(())).collect();
        next.sort();
        assert!(next.into_iter().eq((1..=100).map(Yielded)));
    });
}

// Row 25: bodies that borrow.

#[test]
fn scoped_body_borrows_from_its_surroundings() {
    bounded(|| {
        let words = String::from("to be or not to be");
        let mut seen = Vec::new();
        let count = Generator::scoped(
            |y, ()| {
                words.split(' ').for_each(|word| {
                    seen.push(word);
                    y.yield_(word);
                });
                seen.len()
            },
            |mut g| {
                assert_eq!(g.status(), GeneratorStatus::Created);
                assert_eq!(g.resume(()), Yielded("to"));
                assert_eq!(g.iter().take(2).collect::<Vec<_>>(), ["be", "or"]);
                assert_eq!(g.by_ref_count(), 3);
                assert!(g.is_done());
                assert_eq!(g.try_resume(()), Err(Finished(())));
                g.take_return()
            },
        );
        assert_eq!((count, seen.len()), (Some(6), 6));
    });
}

trait ByRefCount {
    fn by_ref_count(&mut self) -> usize;
}

impl<Yield, Return> ByRefCount for ScopedGenerator<'_, (), Yield, Return> {
    fn by_ref_count(&mut self) -> usize {
        self.iter().count()
    }
}

#[test]
fn scope_closes_its_generator_however_it_ends() {
    bounded(|| {
        let trace = Trace::default();
        type End = for<'g> fn(ScopedGenerator<'g, (), (), ()>);
        let scope = |end: End| {
            let borrowed = trace.clone();
            Generator::scoped(
                |y, ()| {
                    let _guard = borrowed.on_drop("unwound");
                    y.yield_(());
                },
                |mut g| {
                    g.resume(());
                    end(g);
                },
            );
            trace.take()
        };
        assert_eq!(scope(|_| ()), ["unwound"]);
        assert_eq!(
            scope(|g| _ = ManuallyDrop::new(g)),
            ["unwound"],
            "to forget the handle is to forget a reference"
        );
        assert_eq!(scope(|mut g| assert_eq!(g.close(), None)), ["unwound"]);
        assert_eq!(
            scope(|mut g| drop(g.throw(Box::new(Thrown(1))))),
            ["unwound"]
        );
        assert_eq!(
            scope(|mut g| assert_eq!(g.resume(()), Complete(()))),
            ["unwound"]
        );
        let panicked = panics(|| scope(|_| panic::panic_any(Thrown(21))));
        assert_eq!((thrown(panicked), trace.take()), (21, vec!["unwound"]));
        assert!(!thread::panicking());
    });
}

#[test]
fn panics_of_a_scoped_body_come_out_of_the_scope() {
    bounded(|| {
        let scope = |resumes: bool| {
            Generator::scoped(
                |y: &Yielder<(), ()>, ()| {
                    let _ = catch_unwind(AssertUnwindSafe(|| y.yield_(())));
                    panic::panic_any(Thrown(22));
                },
                |mut g: ScopedGenerator<'_, (), (), ()>| {
                    g.resume(());
                    if resumes {
                        g.resume(());
                    }
                },
            );
        };
        assert_eq!(thrown(panics(|| scope(true))), 22);
        assert_eq!(
            thrown(panics(|| scope(false))),
            22,
            "also when it is the scope's end that closes it"
        );
    });
}

#[test]
fn scoped_body_that_yields_once_more_during_close_is_unwound() {
    bounded(|| {
        let trace = Trace::default();
        let run = |closes: bool| {
            let body = |y: &Yielder<(), ()>, ()| {
                let _guard = trace.on_drop("unwound");
                panics(|| y.yield_(()));
                y.yield_(());
            };
            Generator::scoped(body, |mut g: ScopedGenerator<'_, (), (), ()>| {
                g.resume(());
                if closes {
                    assert!(message(&panics(|| g.close())).contains("ignored its close"));
                }
            });
            trace.take()
        };
        assert_eq!(run(true), ["unwound"]);
        assert_eq!(run(false), ["unwound"]);
    });
}

#[test]
fn scoped_body_that_will_not_go_ends_the_process() {
    let Some(output) = in_a_child(|| {
        let borrowed = Cell::new(0);
        Generator::scoped(
            |y: &Yielder<(), ()>, ()| {
                loop {
                    borrowed.set(borrowed.get() + 1);
                    let _ = catch_unwind(AssertUnwindSafe(|| y.yield_(())));
                }
            },
            |mut g: ScopedGenerator<'_, (), (), ()>| _ = g.resume(()),
        );
        println!("goes on");
    }) else {
        return;
    };
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("goes on"));
    assert!(
        stderr(&output).contains("it borrows from a scope that ends"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn scoped_body_that_will_not_go_ends_the_process_whatever_becomes_of_what_it_has_yielded() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            // Those that are refused are dropped while the body unwinds.
            assert!(thread::panicking(), "in a destructor");
        }
    }
    let Some(output) = in_a_child(|| {
        let borrowed = Cell::new(0);
        let scoped = || {
            Generator::scoped(
                |y: &Yielder<(), Panics>, ()| {
                    loop {
                        borrowed.set(borrowed.get() + 1);
                        let _ = catch_unwind(AssertUnwindSafe(|| y.yield_(Panics)));
                    }
                },
                |mut g: ScopedGenerator<'_, (), Panics, ()>| std::mem::forget(g.resume(())),
            )
        };
        let _ = catch_unwind(AssertUnwindSafe(scoped));
        println!("goes on");
    }) else {
        return;
    };
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("goes on"));
    assert!(
        stderr(&output).contains("it borrows from a scope that ends"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn scoped_generator_can_be_delegated_to() {
    bounded(|| {
        let trace = Trace::default();
        let noted = trace.clone();
        let body = move |y: &Yielder<u32, u32>, first: u32| {
            let values = [10, 20];
            let guard = noted.on_drop("outer");
            let sum = Generator::scoped(
                |y: &Yielder<u32, u32>, first: u32| {
                    let _guard = noted.on_drop("inner");
                    let yields = |sum, value: &u32| sum + y.yield_(value + sum);
                    values.iter().fold(first, yields)
                },
                |mut inner| y.yield_from_scoped(&mut inner, first),
            );
            drop(guard);
            sum
        };
        let mut g = Generator::new(body.clone());
        assert_eq!(g.resume(1), Yielded(11));
        assert_eq!(g.resume(2), Yielded(23));
        assert_eq!(g.resume(3), Complete(6));
        assert_eq!(trace.take(), ["inner", "outer"]);
        let mut g = Generator::new(body.clone());
        g.resume(1);
        assert_eq!(thrown(g.throw(Box::new(Thrown(1))).unwrap_err()), 1);
        assert_eq!(trace.take(), ["inner", "outer"]);
        let mut g = Generator::new(body.clone());
        g.resume(1);
        assert_eq!(g.close(), None);
        assert_eq!(trace.take(), ["inner", "outer"]);
        // What it borrows is on a stack that stays.
        let mut g = Generator::new(body);
        g.resume(1);
        mem::forget(g);
        assert_eq!(trace.take(), [""; 0]);
    });
}

#[test]
fn scoped_generator_is_whole_after_a_delegator_was_closed() {
    bounded(|| {
        let text = String::from("a b c");
        Generator::scoped(
            |y: &Yielder<(), _>, ()| text.split(' ').for_each(|word| y.yield_(word)),
            |mut words| {
                assert_eq!(words.resume(()), Yielded("a"));
                Generator::scoped(
                    |y: &Yielder<(), _>, ()| y.yield_from_scoped(&mut words, ()),
                    |mut outer| assert_eq!(outer.resume(()), Yielded("b")),
                );
                assert!(words.is_done(), "it was closed with its delegator");
            },
        );
    });
}

#[test]
fn scopes_nest_in_scopes_and_in_bodies() {
    bounded(|| {
        let numbers = [1, 2, 3];
        let pairs = Generator::scoped(
            |y, ()| {
                for n in &numbers {
                    let inner = |y: &Yielder<(), u32>, ()| {
                        numbers.iter().for_each(|m| y.yield_(n * 10 + m))
                    };
                    // The outer one is suspended in the middle of the inner scope.
                    Generator::scoped(inner, |mut g| g.iter().for_each(|pair| y.yield_(pair)));
                }
            },
            |mut g| g.iter().take(5).collect::<Vec<_>>(),
        );
        assert_eq!(pairs, [11, 12, 13, 21, 22]);
    });
}

#[test]
fn generator_that_is_forgotten_keeps_its_stack_to_itself() {
    bounded(|| {
        for n in 0..50 {
            let mut g = counter(n..);
            assert_eq!(g.resume(()), Yielded(n));
            std::mem::forget(g);
            let mut next = counter(0..2);
            assert_eq!(next.iter().collect::<Vec<_>>(), [0, 1]);
        }
    });
}

// Yielders on other stacks.

#[test]
fn yielder_used_on_another_generators_stack_is_a_clean_panic() {
    bounded(|| {
        let mut outer = Generator::<(), u32, u32>::new(|y, ()| {
            let wrong = |_: &Yielder<(), u32>, ()| {
                let payload = panics(|| y.yield_(99));
                assert!(
                    message(&payload).contains("another stack"),
                    "{}",
                    message(&payload)
                );
                let payload = panics(|| y.yield_from(&mut counter(0..3), ()));
                assert!(
                    message(&payload).contains("another stack"),
                    "{}",
                    message(&payload)
                );
                y.yield_(98)
            };
            let payload = panics(|| {
                Generator::scoped(wrong, |mut g: ScopedGenerator<'_, (), u32, ()>| {
                    g.resume(())
                })
            });
            assert!(
                message(&payload).contains("another stack"),
                "uncaught it ends the inner one: {}",
                message(&payload)
            );
            y.yield_(1);
            2
        });
        assert_eq!(outer.resume(()), Yielded(1));
        assert_eq!(outer.resume(()), Complete(2));
    });
}

#[test]
fn delegators_yielder_used_by_its_delegate_is_a_clean_panic() {
    bounded(|| {
        struct Lent(*const Yielder<(), u32>);
        let mut outer = Generator::<(), u32, u32>::new(|y, ()| {
            let lent = Lent(y);
            let mut inner = Generator::new(move |own: &Yielder<(), u32>, ()| {
                let lent = &lent;
                // SAFETY: the delegator's body is running below this one. Safe code gets there by a
                // scoped thread-local.
                let outer = unsafe { &*lent.0 };
                assert!(message(&panics(|| outer.yield_(99))).contains("another stack"));
                own.yield_(1);
                2
            });
            y.yield_from(&mut inner, ())
        });
        assert_eq!(outer.resume(()), Yielded(1));
        assert_eq!(outer.resume(()), Complete(2));
    });
}

// Row 26: thread exit.

#[test]
fn generator_in_a_thread_local_is_dropped_without_harm_where_the_rule_is_kept() {
    thread_local! {
        static HOLDER: RefCell<Vec<Generator<(), (), ()>>> = const { RefCell::new(Vec::new()) };
        static DATA: RefCell<Vec<u64>> = RefCell::new(vec![0x5eed; 64]);
    }
    fn intact(data: &RefCell<Vec<u64>>) -> bool {
        data.borrow().len() == 64 && data.borrow().iter().all(|word| *word == 0x5eed)
    }
    fn borrower() -> Generator<(), (), ()> {
        Generator::new(|y, ()| {
            DATA.with(|data| {
                let _checks = OnDrop(|| {
                    if !intact(data) {
                        eprintln!("a destructor ran over a dead thread-local");
                        std::process::abort();
                    }
                });
                y.yield_(());
            });
        })
    }
    fn pool() {
        counter(0..1).resume(());
    }
    fn data() {
        DATA.with(|data| assert!(intact(data)));
    }
    fn holder() {
        HOLDER.with_borrow(|holder| assert!(holder.is_empty()));
    }
    fn store() {
        let mut g = borrower();
        g.resume(());
        HOLDER.with_borrow_mut(|holder| holder.push(g));
    }
    fn store_first() {
        HOLDER.with_borrow_mut(|holder| {
            holder.push(borrower());
            holder[0].resume(());
        });
    }
    let Some(output) = in_a_child(|| {
        let first: [fn(); 3] = [pool, data, holder];
        // All orders but the one that the rule excludes: the pool, then the holder, then what the
        // body borrows.
        for [one, two, three] in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for last in [store, store_first] {
                let order = [first[one], first[two], first[three]];
                thread::spawn(move || {
                    order.iter().for_each(|step| step());
                    last();
                })
                .join()
                .expect("the thread ends in order");
            }
        }
        println!("goes on");
    }) else {
        return;
    };
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("goes on"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn generator_in_a_thread_local_that_a_forgotten_one_delegates_to_is_abandoned() {
    thread_local! {
        static KEPT: RefCell<Option<Generator<(), u32, ()>>> = const { RefCell::new(None) };
    }
    let Some(output) = in_a_child(|| {
        let holder = thread::spawn(|| {
            counter(0..1).resume(());
            let mut kept = Generator::new(|y: &Yielder<(), u32>, ()| {
                let _never = OnDrop(|| println!("unwound"));
                (0..3).for_each(|n| y.yield_(n));
            });
            kept.resume(());
            KEPT.set(Some(kept));
            let mut outer = Generator::new(|y: &Yielder<(), u32>, ()| {
                KEPT.with_borrow_mut(|kept| y.yield_from(kept.as_mut().expect("it is kept"), ()));
            });
            outer.resume(());
            std::mem::forget(outer);
        });
        holder.join().expect("the thread ends in order");
        println!("goes on");
    }) else {
        return;
    };
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        out.contains("goes on") && !out.contains("unwound"),
        "{out}{}",
        stderr(&output)
    );
}

#[test]
fn generator_is_still_usable_while_thread_locals_are_destroyed() {
    struct Late(mpsc::Sender<Vec<u32>>);
    impl Drop for Late {
        fn drop(&mut self) {
            self.0
                .send(counter(0..3).into_iter().collect())
                .expect("the receiver waits");
        }
    }
    thread_local! {
        static BEFORE: RefCell<Option<Late>> = const { RefCell::new(None) };
        static AFTER: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    bounded(|| {
        let (sender, results) = mpsc::channel();
        thread::spawn(move || {
            BEFORE.set(Some(Late(sender.clone())));
            counter(0..1).resume(());
            AFTER.set(Some(Late(sender)));
        })
        .join()
        .expect("the thread ends in order");
        assert_eq!(results.iter().collect::<Vec<_>>(), [[0, 1, 2], [0, 1, 2]]);
    });
}

#[test]
fn generators_of_many_os_threads_do_not_meet() {
    bounded(|| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                thread::spawn(move || {
                    for round in 0..200 {
                        let mut all: Vec<_> =
                            (0..10).map(|n| counter(thread..thread + n + 1)).collect();
                        all.iter_mut()
                            .for_each(|g| assert_eq!(g.resume(()), Yielded(thread)));
                        all.truncate(round % 10);
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn overflow_names_the_generator() {
    #[inline(never)]
    fn recurse(depth: u64) -> u64 {
        let block = std::hint::black_box([depth; 64]);
        if depth == u64::MAX {
            0
        } else {
            recurse(depth + 1) + block[depth as usize % 64]
        }
    }
    let Some(output) = in_a_child(|| {
        let mut g = Generator::<u64, (), u64>::with_stack_size(64 << 10, |_, input| recurse(input));
        g.resume(0);
    }) else {
        return;
    };
    assert!(!output.status.success());
    let text = stderr(&output);
    assert!(
        text.contains("a generator (created at tests/generator.rs:") && text.contains("64 KiB"),
        "{text}"
    );
}

// Row 23, and whatever else needs the runtime.
#[cfg(feature = "runtime")]
mod in_green_threads {
    use super::*;
    use std::io::{Read, Write};

    use hebra::net::{TcpListener, TcpStream};
    use hebra::{Config, Runtime};

    fn on_one_worker<T>(body: impl FnOnce() -> T) -> T {
        let runtime = Runtime::new(Config::default().workers(1)).expect("one worker is in range");
        bounded(|| runtime.run(body))
    }

    #[test]
    fn sleep_in_a_body_parks_the_green_thread_and_no_other() {
        on_one_worker(|| {
            let trace = Trace::default();
            let noted = trace.clone();
            let other = hebra::thread::spawn_local(move || {
                noted.add("other begins");
                hebra::thread::yield_now();
                noted.add("other ends");
            });
            let noted = trace.clone();
            let mut g = Generator::new(move |y, ()| {
                let mut inner = Generator::new(move |y, ()| {
                    noted.add("body sleeps");
                    hebra::thread::sleep(Duration::from_millis(20));
                    noted.add("body wakes");
                    y.yield_(1);
                    hebra::thread::yield_now();
                    2
                });
                y.yield_from(&mut inner, ())
            });
            assert_eq!(g.resume(()), Yielded(1));
            assert_eq!(
                trace.take(),
                ["body sleeps", "other begins", "other ends", "body wakes"]
            );
            assert_eq!(g.resume(()), Complete(2));
            other.join().expect("no panic");
        });
    }

    #[test]
    fn body_reads_a_socket_and_yields_lines() {
        on_one_worker(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("it is bound");
            let peer = hebra::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("somebody connects");
                for part in ["on", "e\ntw", "o\n", "three\n"] {
                    stream.write_all(part.as_bytes()).expect("the reader reads");
                    hebra::thread::sleep(Duration::from_millis(1));
                }
            });
            let mut stream = TcpStream::connect(address).expect("it listens");
            let lines = Generator::new(move |y, ()| {
                let mut line = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).expect("the peer writes") == 1 {
                    match byte {
                        [b'\n'] => {
                            y.yield_(String::from_utf8(std::mem::take(&mut line)).expect("ASCII"))
                        }
                        [other] => line.push(other),
                    }
                }
            });
            assert_eq!(
                lines.into_iter().collect::<Vec<_>>(),
                ["one", "two", "three"]
            );
            peer.join().expect("no panic");
        });
    }

    #[test]
    fn suspended_generator_may_pass_from_green_thread_to_green_thread() {
        on_one_worker(|| {
            let trace = Trace::default();
            let noted = trace.clone();
            let mut g = Generator::<(), u32, ()>::new(move |y, ()| {
                let _guard = noted.on_drop("unwound");
                for n in 0.. {
                    y.yield_(n);
                    hebra::thread::yield_now();
                }
            });
            for n in 0..10 {
                g = hebra::thread::spawn_local(move || {
                    assert_eq!(g.resume(()), Yielded(n));
                    g
                })
                .join()
                .expect("no panic");
            }
            // Its starter has long ended; its closer parks on its stack.
            hebra::thread::spawn_local(move || drop(g))
                .join()
                .expect("no panic");
            assert_eq!(trace.take(), ["unwound"]);
        });
    }

    #[test]
    fn generator_that_is_running_in_a_parked_green_thread_cannot_be_resumed_by_another() {
        on_one_worker(|| {
            let g = Rc::new(RefCell::new(Generator::<(), u32, ()>::new(|y, ()| {
                hebra::thread::sleep(Duration::from_millis(10));
                y.yield_(1);
            })));
            let shared = g.clone();
            let sleeper = hebra::thread::spawn_local(move || shared.borrow_mut().resume(()));
            hebra::thread::yield_now();
            assert!(message(&panics(|| g.borrow_mut().resume(()))).contains("borrowed"));
            assert_eq!(sleeper.join().expect("no panic"), Yielded(1));
            assert_eq!(g.borrow_mut().resume(()), Complete(()));
        });
    }

    #[test]
    fn yielder_used_on_a_green_threads_stack_is_a_clean_panic() {
        bounded(|| {
            let mut g = Generator::<(), u32, u32>::new(|y, ()| {
                let runtime =
                    Runtime::new(Config::default().workers(1)).expect("one worker is in range");
                let payload = panics(|| runtime.run(|| y.yield_(99)));
                assert!(
                    message(&payload).contains("another stack"),
                    "{}",
                    message(&payload)
                );
                y.yield_(runtime.run(|| 1));
                2
            });
            assert_eq!(g.resume(()), Yielded(1));
            assert_eq!(g.resume(()), Complete(2));
        });
    }

    #[test]
    fn shutdown_unwinds_bodies_that_are_parked_and_bodies_that_are_suspended() {
        let trace = Trace::default();
        let noted = trace.clone();
        on_one_worker(|| {
            hebra::thread::spawn_local(move || {
                let _thread = noted.on_drop("green thread");
                let outer_noted = noted.clone();
                let mut suspended = chain(2, None, &noted);
                suspended.resume(1);
                let mut g = Generator::<(), (), ()>::new(move |_, ()| {
                    let noted = outer_noted;
                    let _outer = noted.on_drop("outer");
                    let inside = noted.clone();
                    let mut inner = Generator::<(), (), ()>::new(move |_, ()| {
                        let _inner = inside.on_drop("inner");
                        hebra::thread::sleep(Duration::from_secs(3600));
                        inside.add("not reached");
                    });
                    inner.resume(());
                });
                g.resume(());
            });
            hebra::thread::yield_now();
        });
        assert_eq!(
            trace.take(),
            [
                "inner",
                "outer",
                "level 0",
                "level 1",
                "level 2",
                "green thread"
            ]
        );
        assert!(!thread::panicking());
    }

    /// The message of the panic in a body that yields what `yields_inside` yields.
    fn refusal(yields_inside: impl FnOnce(&Yielder<(), u32>) + 'static) -> String {
        let mut g = Generator::new(move |y, ()| {
            y.yield_(1);
            yields_inside(y);
        });
        assert_eq!(g.resume(()), Yielded(1));
        let payload = panics(|| g.resume(()));
        assert!(g.is_done());
        message(&payload).to_owned()
    }

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(1);

    /// On an OS thread, and on a green thread.
    fn on_both(test: impl Fn()) {
        bounded(&test);
        on_one_worker(&test);
    }

    #[test]
    fn yield_inside_of_a_cancel_scope_that_the_body_has_opened_is_refused() {
        use hebra::thread::{shield, timeout, try_scope};
        on_both(|| {
            let messages = [
                refusal(|y| timeout(LONG, || y.yield_(2)).expect("an hour is long")),
                refusal(|y| shield(|| y.yield_(2))),
                refusal(|y| {
                    timeout(LONG, || shield(|| ()))
                        .and_then(|()| timeout(LONG, || y.yield_(2)))
                        .expect("as above")
                }),
                refusal(|y| {
                    timeout(LONG, || y.yield_from(&mut counter(2..4), ()))
                        .map(drop)
                        .expect("as above")
                }),
                refusal(|y| {
                    let mut started = Generator::new(|y, ()| y.yield_from(&mut counter(2..4), ()));
                    started.resume(());
                    timeout(LONG, || y.yield_from(&mut started, ()))
                        .map(drop)
                        .expect("as above");
                }),
                refusal(|y| {
                    let mut inner = Generator::new(|y, ()| shield(|| y.yield_(2)));
                    y.yield_from(&mut inner, ());
                }),
            ];
            for message in messages {
                assert!(message.contains("PEP 789"), "{message}");
            }
        });
        on_one_worker(|| {
            let message = refusal(|y| {
                let result = try_scope(|_| {
                    y.yield_(2);
                    Ok::<_, String>(())
                });
                result.expect("no thread fails");
            });
            assert!(message.contains("PEP 789"), "{message}");
        });
    }

    #[test]
    fn nobody_else_is_cancelled_by_a_time_out_inside_of_a_body() {
        on_both(|| {
            let mut g = Generator::new(|y, ()| {
                let _ = hebra::thread::timeout(SHORT, || y.yield_(1));
            });
            panics(|| g.resume(()));
            hebra::thread::sleep(SHORT * 5);
            assert!(!hebra::thread::is_cancelled() && hebra::thread::deadline().is_none());
        });
    }

    #[test]
    fn cancel_scope_that_does_not_outlast_a_yield_is_none_of_the_generators_business() {
        use hebra::thread::{shield, sleep, timeout};
        on_both(|| {
            // The body's own, in between: it cancels the body.
            let g = Generator::new(|y, ()| {
                y.yield_(timeout(SHORT, || sleep(LONG)).is_err());
                y.yield_(shield(|| timeout(LONG, || true)) == Ok(true));
                // One inside of which another generator yields, to this one.
                let mut other = counter(0..10);
                y.yield_(timeout(LONG, || other.iter().sum::<u32>()) == Ok(45));
            });
            assert_eq!(g.into_iter().collect::<Vec<_>>(), [true; 3]);
            // The resumer's.
            let mut g = Generator::new(|y, ()| {
                y.yield_(1);
                sleep(LONG);
            });
            assert_eq!(timeout(LONG, || g.resume(())), Ok(Yielded(1)));
            assert!(timeout(SHORT, || g.resume(())).is_err());
            assert!(g.is_done());
        });
    }

    #[test]
    fn body_that_ignores_its_close_inside_of_a_cancel_scope_ends_the_process_with_a_reason() {
        let Some(output) = in_a_child(|| {
            let mut g = Generator::<(), u32, ()>::new(|y, ()| {
                let _yields = OnDrop(|| hebra::thread::shield(|| y.yield_(2)));
                y.yield_(1);
            });
            g.resume(());
            let _ = catch_unwind(AssertUnwindSafe(|| g.close()));
            println!("goes on");
        }) else {
            return;
        };
        assert!(!output.status.success());
        assert!(!String::from_utf8_lossy(&output.stdout).contains("goes on"));
        assert!(
            stderr(&output).contains("ignored its close inside of a cancel scope"),
            "{}",
            stderr(&output)
        );
    }

    #[test]
    fn body_yields_again_after_a_refusal_that_it_has_caught() {
        on_both(|| {
            let g = Generator::new(|y, ()| {
                let refused = catch_unwind(AssertUnwindSafe(|| {
                    hebra::thread::timeout(LONG, || y.yield_(1))
                }));
                y.yield_(if refused.is_err() { 2 } else { 3 });
                y.yield_from(&mut counter(4..6), ());
            });
            assert_eq!(g.into_iter().collect::<Vec<_>>(), [2, 4, 5]);
        });
    }

    #[test]
    fn workers_resume_generators_in_parallel() {
        let runtime = Runtime::new(Config::default().workers(2)).expect("two workers are in range");
        let total: u32 = bounded(|| {
            runtime.run(|| {
                let sum = |n: u32| {
                    let g = Generator::new(move |y, ()| {
                        for m in 0..100 {
                            hebra::thread::yield_now();
                            y.yield_(n + m);
                        }
                    });
                    g.into_iter().sum::<u32>()
                };
                let threads: Vec<_> = (0..50)
                    .map(|n| hebra::thread::spawn(move || sum(n)))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("no panic"))
                    .sum()
            })
        });
        assert_eq!(total, (0..50).map(|n| n * 100 + 4_950).sum());
    }
}
