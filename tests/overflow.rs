//! A green thread that overflows its stack ends the process, and says which it was and what to do.
//! Nothing else is taken for that.

#![cfg(feature = "runtime")]

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};

use hebra::thread::{self, Builder};
use hebra::{Config, Runtime};

use support::bounded;

mod support;

/// Runs one test of this binary once more, in a process of its own that sees `case` in [`case`].
fn child(test: &str, case: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("HEBRA_CHILD", case);
    command.envs(environment.iter().copied()).output().unwrap()
}

/// What this process is to do, if it is a [`child`].
fn case() -> Option<String> {
    std::env::var("HEBRA_CHILD").ok()
}

/// The one line that the process has written before it aborted.
fn report(output: &Output) -> String {
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    let reports: Vec<&str> = errors
        .lines()
        .filter(|line| line.starts_with("hebra: "))
        .collect();
    assert_eq!(reports.len(), 1, "{errors}");
    reports[0].to_owned()
}

/// Takes some 1 KiB of stack a level.
#[inline(never)]
fn recurse(depth: usize) -> usize {
    let room = black_box([depth; 128]);
    if depth == 0 {
        room[5]
    } else {
        recurse(depth - 1) + room[7] - depth + 1
    }
}

/// Recursion that does not end.
fn overflow() {
    black_box(recurse(usize::MAX));
}

/// Runs `f` on a worker that is not the calling OS thread.
fn on_another_worker(builder: Builder, f: fn()) {
    Runtime::new(Config::default().workers(2)).unwrap().run(|| {
        let ended = Arc::new(AtomicBool::new(false));
        let (set, here) = (ended.clone(), std::thread::current().id());
        let spawned = builder.spawn(move || {
            assert_ne!(std::thread::current().id(), here);
            f();
            set.store(true, SeqCst);
        });
        // The root does not give way, so the other worker takes it.
        while !ended.load(SeqCst) {
            std::hint::spin_loop();
        }
        spawned.unwrap().join().unwrap();
    });
}

#[test]
fn an_overflow_is_reported_with_name_place_size_and_remedy() {
    const TEST: &str = "an_overflow_is_reported_with_name_place_size_and_remedy";
    let on_one = |builder: Builder| {
        Runtime::new(Config::default().workers(1))
            .unwrap()
            .run(|| builder.spawn(overflow).unwrap().join().unwrap());
    };
    let named = || Builder::new().name("heron".into());
    bounded(|| {
        match case().as_deref() {
            Some("unnamed") => return on_one(Builder::new()),
            Some("named") => return on_one(named()),
            Some("sized") => return on_one(named().stack_size(1 << 20)),
            Some("small") => return on_one(named().stack_size(1)),
            Some("local") => {
                return hebra::run(|| named().spawn_local(overflow).unwrap().join().unwrap());
            }
            Some("elsewhere") => return on_another_worker(named(), overflow),
            Some("configured") => {
                return Runtime::new(Config::default().stack_size(128 << 10))
                    .unwrap()
                    .run(overflow);
            }
            Some("after a park") => {
                return hebra::run(|| {
                    let body = || {
                        thread::yield_now();
                        thread::sleep(std::time::Duration::from_millis(1));
                        overflow();
                    };
                    named().spawn(body).unwrap().join().unwrap();
                });
            }
            Some("reused") => {
                return hebra::run(|| {
                    // The stack has had other tenants, who are not to be blamed.
                    for n in 0..100 {
                        Builder::new()
                            .name(format!("tenant {n}"))
                            .spawn_local(|| ())
                            .unwrap()
                            .join()
                            .unwrap();
                    }
                    named().spawn_local(overflow).unwrap().join().unwrap();
                });
            }
            Some(other) => panic!("{other}"),
            None => {}
        }
        let heron = "green thread 'heron' (spawned at tests/overflow.rs:";
        for (case, who, size) in [
            (
                "unnamed",
                "green thread <unnamed> (spawned at tests/overflow.rs:",
                "256 KiB",
            ),
            ("named", heron, "256 KiB"),
            ("sized", heron, "1024 KiB"),
            ("small", heron, "16 KiB"),
            ("local", heron, "256 KiB"),
            ("elsewhere", heron, "256 KiB"),
            (
                "configured",
                "green thread 'main' (spawned at tests/overflow.rs:",
                "128 KiB",
            ),
            ("after a park", heron, "256 KiB"),
            ("reused", heron, "256 KiB"),
        ] {
            let report = report(&child(TEST, case, &[]));
            assert!(report.contains(who), "{case}: {report}");
            assert!(
                report.contains(&format!("overflowed its stack of {size};")),
                "{case}: {report}"
            );
            assert!(
                report.contains("thread::Builder::stack_size or Config::stack_size"),
                "{case}: {report}"
            );
        }
    });
}

#[test]
fn an_overflow_is_reported_where_guards_are_protected_pages_too() {
    bounded(|| {
        if case().is_some() {
            return hebra::run(overflow);
        }
        let test = "an_overflow_is_reported_where_guards_are_protected_pages_too";
        let report = report(&child(
            test,
            "overflow",
            &[("HEBRA_STACK_GUARD", "mprotect")],
        ));
        assert!(report.contains("green thread 'main'"), "{report}");
    });
}

#[test]
fn an_overflow_of_an_os_thread_is_left_to_std() {
    bounded(|| {
        if case().is_some() {
            return hebra::run(|| {
                let small = std::thread::Builder::new()
                    .name("gannet".into())
                    .stack_size(64 << 10);
                small.spawn(overflow).unwrap().join().unwrap();
            });
        }
        let output = child(
            "an_overflow_of_an_os_thread_is_left_to_std",
            "overflow",
            &[],
        );
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("thread 'gannet'") && errors.contains("has overflowed its stack"),
            "{errors}"
        );
        assert!(!errors.contains("hebra: "), "{errors}");
    });
}

#[test]
fn a_wild_pointer_is_not_reported_as_an_overflow() {
    const TEST: &str = "a_wild_pointer_is_not_reported_as_an_overflow";
    /// Reads where nothing is mapped.
    fn wild(address: usize) -> impl FnOnce() {
        move || {
            let nowhere: *const u8 = std::ptr::without_provenance(black_box(address));
            // SAFETY: none; the child is to die of it.
            black_box(unsafe { nowhere.read_volatile() });
        }
    }
    bounded(|| {
        match case().as_deref() {
            Some("null") => return hebra::run(wild(8)),
            Some("far away") => return hebra::run(wild(1 << 46)),
            Some("elsewhere") => return on_another_worker(Builder::new(), || wild(8)()),
            Some(other) => panic!("{other}"),
            None => {}
        }
        for case in ["null", "far away", "elsewhere"] {
            let output = child(TEST, case, &[]);
            assert_eq!(output.status.signal(), Some(11), "{case}: {output:?}");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                !errors.contains("hebra: ") && !errors.contains("overflowed"),
                "{case}: {errors}"
            );
        }
    });
}

#[test]
fn deep_recursion_works_on_a_larger_stack() {
    bounded(|| {
        // At 1 KiB a level or more, none of these would fit on a stack of the default size.
        Runtime::new(Config::default().workers(2)).unwrap().run(|| {
            let threads = [4_usize, 16, 64].map(|mib| {
                let depth = mib * 256;
                let deep = Builder::new().stack_size(mib << 20).spawn(move || {
                    let before = recurse(depth);
                    thread::yield_now();
                    (depth, before, recurse(depth))
                });
                deep.unwrap()
            });
            for thread in threads {
                let (depth, before, after) = thread.join().unwrap();
                assert_eq!((before, after), (depth, depth));
            }
        });
        let runtime = Runtime::new(Config::default().workers(1).stack_size(16 << 20)).unwrap();
        assert_eq!(runtime.run(|| recurse(4096)), 4096);
    });
}

#[test]
fn a_deep_neighbour_does_not_touch_a_parked_stack() {
    bounded(|| {
        hebra::run(|| {
            let (send, receive) = mpsc::channel::<()>();
            let parked: Vec<_> = (0..50_u8)
                .map(|n| {
                    let send = send.clone();
                    thread::spawn_local(move || {
                        let page = black_box([n; 8192]);
                        drop(send);
                        thread::park();
                        page.iter().all(|byte| *byte == n)
                    })
                })
                .collect();
            drop(send);
            while receive.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                thread::yield_now();
            }
            let deep = [(); 10].map(|()| thread::spawn_local(|| recurse(50)));
            assert!(deep.into_iter().all(|deep| deep.join().unwrap() == 50));
            parked.iter().for_each(|parked| parked.thread().unpark());
            assert!(parked.into_iter().all(|parked| parked.join().unwrap()));
        });
    });
}
