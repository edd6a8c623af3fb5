//! Floating-point modes: each green thread has its own, as each OS thread has.

#![cfg(all(feature = "runtime", target_arch = "x86_64"))]

use std::arch::asm;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use hebra::{Generator, thread};

mod support;
use support::on_workers;

/// MXCSR without the exceptions that have occurred, and x87's control word.
type Mode = (u32, u16);

fn mode() -> Mode {
    let (mut mxcsr, mut x87) = (0_u32, 0_u16);
    // SAFETY: writes two registers to two variables.
    unsafe { asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &raw mut mxcsr, in(reg) &raw mut x87) };
    (mxcsr & 0xffc0, x87)
}

fn set_mode(mode: Mode) {
    // SAFETY: the tests compute nothing with floating-point numbers in that mode.
    unsafe {
        asm!("ldmxcsr [{}]", "fldcw [{}]", in(reg) &raw const mode.0, in(reg) &raw const mode.1)
    };
}

/// Rounds up, and to single precision: as no other mode of these tests.
fn odd(usual: Mode) -> Mode {
    (usual.0 | 0x4000, usual.1 & !0x300)
}

#[test]
fn green_thread_keeps_its_mode_to_itself() {
    on_workers(1, || {
        let usual = mode();
        let waits: [fn(); 4] = [
            thread::yield_now,
            || thread::sleep(Duration::from_micros(100)),
            || _ = hebra::channel::after(Duration::from_micros(100)).recv(),
            || {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    struct Waits;
                    impl Drop for Waits {
                        fn drop(&mut self) {
                            thread::yield_now();
                        }
                    }
                    let _waits = Waits;
                    resume_unwind(Box::new(1)) as ()
                }));
            },
        ];
        for wait in waits {
            let handle = thread::spawn(move || {
                assert_eq!(mode(), usual);
                set_mode(odd(usual));
                (0..3).for_each(|_| {
                    wait();
                    assert_eq!(mode(), odd(usual));
                });
            });
            while !handle.is_finished() {
                thread::yield_now();
                assert_eq!(mode(), usual);
            }
            handle.join().unwrap();
        }
    });
}

#[test]
fn ended_green_thread_leaves_no_mode_behind() {
    on_workers(1, || {
        let usual = mode();
        thread::spawn(move || set_mode(odd(usual))).join().unwrap();
        assert_eq!(mode(), usual);
        let panicked = thread::spawn(move || {
            set_mode(odd(usual));
            resume_unwind(Box::new(1)) as ()
        });
        assert!(panicked.join().is_err());
        assert_eq!(mode(), usual);
        thread::spawn(move || assert_eq!(mode(), usual))
            .join()
            .unwrap();
    });
}

#[test]
fn runtime_leaves_the_mode_of_its_caller_alone() {
    let usual = mode();
    on_workers(1, || set_mode(odd(usual)));
    assert_eq!(mode(), usual);
    set_mode(odd(usual));
    let inside = on_workers(2, || (mode(), thread::spawn(mode).join().unwrap()));
    assert_eq!(inside, (odd(usual), odd(usual)));
    assert_eq!(mode(), odd(usual));
    set_mode(usual);
}

#[test]
fn mode_of_a_body_that_parks_is_its_green_threads() {
    on_workers(1, || {
        let usual = mode();
        let handle = thread::spawn(move || {
            let mut g = Generator::<(), (), ()>::new(move |y, ()| {
                set_mode(odd(usual));
                thread::yield_now();
                assert_eq!(mode(), odd(usual));
                set_mode(usual);
                y.yield_(());
            });
            g.resume(());
        });
        thread::yield_now();
        assert_eq!(mode(), usual);
        handle.join().unwrap();
    });
}
