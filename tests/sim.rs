//! Simulation: one seed, one schedule; time that costs nothing; failures that can be repeated.

#![cfg(feature = "runtime")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hebra::io::Pollable;
use hebra::net::{TcpListener, TcpStream, UdpSocket};
use hebra::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use hebra::thread::{self, Builder};
use hebra::{sim, time};

use support::{bounded, child, is_child, stderr};

mod support;

const HOUR: Duration = Duration::from_secs(3600);

/// The message of the panic that `f` ends with.
fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    let Err(payload) = panic::catch_unwind(AssertUnwindSafe(f)) else {
        panic!("it was to panic")
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload
            .downcast::<&str>()
            .expect("a panic's payload is text"))
        .to_owned(),
    }
}

/// Threads that start, sleep, yield, join, park and are cancelled, in an order that is left to the
/// schedule.
fn busy() -> Vec<u32> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..6)
        .map(|n| {
            let log = log.clone();
            let builder = Builder::new().name(format!("worker {n}"));
            let spawned = builder.spawn(move || {
                for round in 0..3 {
                    log.lock().unwrap().push(n * 10 + round);
                    match n % 3 {
                        0 => thread::yield_now(),
                        1 => thread::sleep(Duration::from_millis(u64::from(round))),
                        _ => thread::park_timeout(Duration::from_millis(1)),
                    }
                }
            });
            spawned.unwrap()
        })
        .collect();
    let mine = log.clone();
    let local = thread::spawn_local(move || mine.lock().unwrap().push(99));
    threads[2].thread().unpark();
    threads[5].cancel();
    let _ = thread::timeout(Duration::from_micros(1500), || thread::sleep(HOUR));
    for thread in threads {
        let _ = thread.join();
    }
    local.join().unwrap();
    Arc::into_inner(log).unwrap().into_inner().unwrap()
}

#[test]
fn one_seed_takes_the_same_steps_every_time() {
    bounded(|| {
        for seed in 0..50 {
            let [first, second] = [(); 2].map(|()| sim::trace(seed, busy));
            assert!(first.1.lines().count() > 20);
            assert_eq!(first, second);
        }
    });
}

#[test]
fn different_seeds_take_different_steps() {
    bounded(|| {
        let steps: HashSet<String> = (0..50).map(|seed| sim::trace(seed, busy).1).collect();
        assert_eq!(steps.len(), 50);
        let orders: HashSet<Vec<u32>> = (0..50).map(|seed| sim::run(seed, busy)).collect();
        assert!(orders.len() > 40, "{}", orders.len());
    });
}

#[test]
fn another_process_takes_the_same_steps() {
    let steps = sim::trace(11, busy).1;
    if is_child() {
        eprintln!("<<{steps}>>");
        return;
    }
    let theirs = stderr(&child("another_process_takes_the_same_steps", &[]));
    assert!(
        theirs.contains(&format!("<<{steps}>>")),
        "{theirs}\n is not\n{steps}"
    );
}

#[test]
fn every_order_of_those_that_can_run_comes_whether_they_are_new_or_woken() {
    bounded(|| {
        let mut orders = HashSet::new();
        for seed in 0..1000 {
            let order = sim::run(seed, || {
                let log = Rc::new(RefCell::new(Vec::new()));
                let note = |n| {
                    let log = log.clone();
                    move || log.borrow_mut().push(n)
                };
                let (asleep, notes) = (note(0), note(3));
                let asleep = thread::spawn_local(move || {
                    thread::park();
                    asleep();
                });
                thread::sleep(HOUR); // Everybody has started and waits.
                let shared = Arc::new(AtomicUsize::new(0));
                let count = shared.clone();
                let unstarted = thread::spawn(move || count.fetch_add(1, SeqCst));
                let local = thread::spawn_local(note(1));
                asleep.thread().unpark();
                let watcher = thread::spawn_local(move || {
                    if shared.load(SeqCst) == 0 {
                        notes();
                    }
                });
                asleep.join().unwrap();
                local.join().unwrap();
                unstarted.join().unwrap();
                watcher.join().unwrap();
                log.take()
            });
            orders.insert(order);
        }
        // The woken one, the local one and the watcher in any order, or without the watcher, if the
        // unstarted one was before it.
        assert_eq!(orders.len(), 6 + 2, "{orders:?}");
    });
}

#[test]
fn deadlines_come_in_order_and_equal_ones_in_any() {
    bounded(|| {
        let mut orders = HashSet::new();
        for seed in 0..100 {
            let order = sim::run(seed, || {
                let log = Rc::new(RefCell::new(Vec::new()));
                let begin = time::now();
                let sleep = |n: u32, minutes: u64| {
                    let log = log.clone();
                    thread::spawn_local(move || {
                        thread::sleep_until(begin + Duration::from_secs(60 * minutes));
                        assert_eq!(
                            begin.elapsed(),
                            Duration::from_secs(60 * minutes),
                            "to the nanosecond"
                        );
                        log.borrow_mut().push(n);
                    })
                };
                let _ = [sleep(3, 1_000_000), sleep(1, 5), sleep(2, 5), sleep(0, 1)]
                    .map(|thread| thread.join().unwrap());
                log.take()
            });
            orders.insert(order);
        }
        assert_eq!(orders, HashSet::from([vec![0, 1, 2, 3], vec![0, 2, 1, 3]]));
    });
}

#[test]
fn who_waits_for_time_by_yielding_gets_there() {
    bounded(|| {
        sim::run(1, || {
            let begin = time::now();
            while begin.elapsed() < 24 * HOUR {
                thread::yield_now();
            }
            let sleeper = thread::spawn(|| thread::sleep(HOUR));
            while !sleeper.is_finished() {
                thread::yield_now();
            }
        });
    });
}

#[test]
fn nothing_but_yields_for_ever_is_a_failure() {
    bounded(|| {
        let report = panic_of(|| {
            sim::run(1, || {
                loop {
                    thread::yield_now();
                }
            })
        });
        assert!(report.starts_with("live-lock"), "{report}");
    });
}

#[test]
fn a_deadlock_says_who_waits_for_what_since_when_and_for_whom() {
    bounded(|| {
        let report = panic_of(|| {
            sim::run(5, || {
                let (a, b) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
                let (there, here) = (b.clone(), a.clone());
                let join = move |name: &str, other: Arc<Mutex<Option<thread::JoinHandle<()>>>>| {
                    let builder = Builder::new().name(name.into());
                    let joins = move || {
                        thread::sleep(Duration::from_millis(1500));
                        let other = other.lock().unwrap().take();
                        other.unwrap().join().unwrap();
                    };
                    builder.spawn(joins).unwrap()
                };
                *a.lock().unwrap() = Some(join("anna", there));
                *b.lock().unwrap() = Some(join("bert", here));
                thread::park();
            })
        });
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines[0], "deadlock at 1.500000000s");
        assert!(
            lines[1].starts_with("  #0 'main' (tests/sim.rs:"),
            "{report}"
        );
        assert!(
            lines[1].ends_with("): parked since 0.000000000s"),
            "{report}"
        );
        assert!(
            lines[2].starts_with("  #1 'anna' (tests/sim.rs:"),
            "{report}"
        );
        assert!(
            lines[2].ends_with("): joining since 1.500000000s, waits for #2"),
            "{report}"
        );
        assert!(
            lines[3].ends_with("): joining since 1.500000000s, waits for #1"),
            "{report}"
        );
        assert_eq!(lines[4..], ["  in a circle: #1 -> #2 -> #1"]);
    });
}

#[test]
fn after_a_failure_everybody_unwinds() {
    struct Count(Arc<AtomicUsize>);

    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    bounded(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut borrowed = 0;
        panic_of(|| {
            sim::run(3, || {
                let _mine = Count(dropped.clone());
                for _ in 0..10 {
                    let theirs = Count(dropped.clone());
                    thread::spawn(move || {
                        let _theirs = theirs;
                        thread::park();
                    });
                }
                borrowed += 1;
                thread::park();
            })
        });
        assert_eq!((dropped.load(SeqCst), borrowed), (11, 1));
    });
}

#[test]
fn a_panic_of_f_passes_through() {
    assert_eq!(
        bounded(|| panic_of(|| sim::run(3, || panic!("as it was")))),
        "as it was"
    );
}

#[test]
fn a_panic_that_nobody_will_see_fails_the_run_and_one_that_is_joined_does_not() {
    bounded(|| {
        let report = panic_of(|| {
            sim::run(3, || {
                thread::spawn(|| panic!("unseen"));
                thread::park();
            })
        });
        assert!(
            report.contains("detached green thread '<unnamed>'")
                && report.ends_with("panicked: unseen"),
            "{report}"
        );
        let late = panic_of(|| {
            sim::run(3, || {
                let failed = thread::spawn(|| panic!("dropped when it had ended"));
                thread::sleep(HOUR);
                drop(failed);
            })
        });
        assert!(
            late.ends_with("panicked: dropped when it had ended"),
            "{late}"
        );
        sim::run(3, || {
            assert!(thread::spawn(|| panic!("seen")).join().is_err())
        });
    });
}

#[test]
fn check_stops_at_the_first_seed_that_fails_and_says_how_to_repeat_it() {
    let name = "check_stops_at_the_first_seed_that_fails_and_says_how_to_repeat_it";
    if is_child() {
        return sim::check(0..100, || {
            eprintln!("tried {}", sim::seed().unwrap());
            assert!(sim::seed() != Some(7), "seven");
        });
    }
    let output = child(name, &[]);
    let text = stderr(&output);
    assert!(!output.status.success());
    assert_eq!(text.matches("tried").count(), 8, "{text}");
    let how =
        format!("the simulation with seed 7 has failed; HEBRA_SEED=7 cargo test {name} repeats it");
    assert!(text.contains(&how), "{text}");

    let again = child(name, &[("HEBRA_SEED", "7")]);
    assert!(!again.status.success());
    assert_eq!(stderr(&again).matches("tried").count(), 1);
    let another = child(name, &[("HEBRA_SEED", "123456789")]);
    assert!(another.status.success());
    assert!(stderr(&another).contains("tried 123456789\n"));
    assert!(
        stderr(&child(name, &[("HEBRA_SEED", "seven")])).contains("HEBRA_SEED is to be a number")
    );
}

#[test]
fn the_environment_asks_for_the_steps() {
    let name = "the_environment_asks_for_the_steps";
    if is_child() {
        return sim::check(3..5, || drop(busy()));
    }
    let line = line!() - 2;
    let steps = |seed| {
        let steps = sim::trace(seed, || drop(busy())).1;
        steps.replace(
            &format!("sim.rs:{}:21", line + 4),
            &format!("sim.rs:{line}:16"),
        )
    };
    let expected: String = (3..5)
        .map(|seed| format!("seed {seed}\n{}", steps(seed)))
        .collect();
    let to_stderr = stderr(&child(name, &[("HEBRA_TRACE", "1")]));
    assert!(to_stderr.contains(&expected), "{to_stderr}");
    let path = std::env::temp_dir().join(format!("hebra-trace-{}", std::process::id()));
    child(name, &[("HEBRA_TRACE", path.to_str().unwrap())]);
    let to_file = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(to_file, expected);
}

#[test]
fn threads_that_do_not_end_even_when_cancelled_end_the_process() {
    let name = "threads_that_do_not_end_even_when_cancelled_end_the_process";
    if is_child() {
        return sim::run(0, || {
            Builder::new()
                .name("stubborn".into())
                .spawn(|| thread::shield(thread::park))
                .unwrap();
            thread::sleep(HOUR);
        });
    }
    let output = child(name, &[]);
    let text = stderr(&output);
    assert!(!output.status.success());
    assert!(
        text.contains("a simulation cannot end: deadlock at 3600.000000000s\n  #1 'stubborn'"),
        "{text}"
    );
}

#[test]
fn sockets_are_refused() {
    bounded(|| {
        let (listener, stream) = hebra::run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap();
            (listener, stream)
        });
        let address = listener.local_addr().unwrap();
        sim::run(0, || {
            let errors = [
                TcpListener::bind("127.0.0.1:0").err(),
                TcpStream::connect(address).err(),
                TcpStream::connect_timeout(&address, HOUR).err(),
                listener.accept().err(),
                UdpSocket::bind("127.0.0.1:0").err(),
                UnixStream::pair().err(),
                UnixListener::bind("/no such directory/socket").err(),
                UnixStream::connect("/no such directory/socket").err(),
                UnixDatagram::unbound().err(),
                Pollable::new(&listener).err(),
            ];
            for error in errors {
                let error = error.unwrap();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.to_string().contains("simulation"), "{error}");
            }
        });
        drop(stream);
    });
}

#[test]
fn an_os_thread_can_wake_a_simulated_one() {
    bounded(|| {
        sim::run(0, || {
            let woken = Arc::new(AtomicBool::new(false));
            let flag = woken.clone();
            let green = thread::spawn(move || {
                while !flag.load(SeqCst) {
                    thread::park();
                }
            });
            let handle = green.thread().clone();
            let os = std::thread::spawn(move || {
                woken.store(true, SeqCst);
                handle.unpark();
            });
            os.join().unwrap();
            green.join().unwrap();
        });
    });
}

#[test]
fn random_numbers_are_the_seeds_and_change_no_step() {
    bounded(|| {
        let draw = |seed| sim::run(seed, || (0..10).map(|_| sim::random()).collect::<Vec<_>>());
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let drawing = || {
            sim::random();
            busy()
        };
        assert_eq!(sim::run(4, drawing), sim::run(4, busy));
        assert_eq!(sim::seed(), None);
        assert!(panic_of(sim::random).contains("outside a simulation"));
    });
}

#[test]
fn a_simulation_inside_of_another_is_refused() {
    bounded(|| {
        let message = sim::run(0, || panic_of(|| sim::run(0, || ())));
        assert!(
            message.contains("on a green thread of another"),
            "{message}"
        );
    });
}

#[test]
fn simulations_run_beside_each_other_and_beside_runtimes() {
    bounded(|| {
        let expected: Vec<_> = (0..20).map(|seed| sim::run(seed, busy)).collect();
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    for (seed, expected) in (0..).zip(&expected) {
                        assert_eq!(sim::run(seed, busy), *expected);
                    }
                });
            }
            s.spawn(|| hebra::run(|| busy().len()));
        });
    });
}

#[test]
fn blocking_calls_and_files_are_done_on_the_spot_and_what_comes_from_outside_is_refused() {
    bounded(|| {
        sim::run(0, || {
            let (here, start) = (std::thread::current().id(), hebra::time::now());
            assert_eq!(
                hebra::blocking::unblock(|| std::thread::current().id()),
                here
            );
            assert!(!hebra::fs::read("/proc/self/comm").unwrap().is_empty());
            assert_eq!(start.elapsed(), Duration::ZERO);
            let refused =
                |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
            refused(hebra::net::lookup_host("localhost").unwrap_err());
            refused(hebra::process::Command::new("true").status().unwrap_err());
            refused(hebra::signal::Signals::new([hebra::signal::SIGUSR1]).unwrap_err());
        });
    });
}

#[test]
fn handing_over_for_ever_is_reported() {
    fn spawn_again() {
        Builder::new()
            .name("successor".into())
            .spawn(spawn_again)
            .unwrap();
    }
    fn ping_pong(capacity: usize) {
        let (sender, receiver) = hebra::channel::bounded(capacity);
        let ping = Builder::new().name("ping".into());
        ping.spawn(move || while sender.send(()).is_ok() {})
            .unwrap();
        let pong = Builder::new().name("pong".into());
        pong.spawn(move || for () in receiver {}).unwrap();
    }
    type Case = (fn(), &'static [&'static str]);
    let cases: [Case; 4] = [
        (spawn_again, &["'successor'"]),
        (|| ping_pong(0), &["'ping'", "'pong'"]),
        (|| ping_pong(1), &["'ping'", "'pong'"]),
        (
            || {
                let mutex = Arc::new(hebra::sync::Mutex::new(()));
                for _ in 0..2 {
                    let mutex = mutex.clone();
                    let thread = Builder::new().name("contender".into());
                    let body = move || {
                        loop {
                            let _held = mutex.lock().unwrap();
                            thread::yield_now();
                        }
                    };
                    thread.spawn(body).unwrap();
                }
            },
            &["'contender'"],
        ),
    ];
    if is_child() {
        for (case, names) in cases {
            let report = panic_of(|| {
                sim::run(5, || {
                    case();
                    thread::sleep(Duration::from_micros(1));
                })
            });
            assert!(
                report.starts_with("live-lock: 20000 steps and no time has passed"),
                "{report}"
            );
            assert!(names.iter().all(|name| report.contains(name)), "{report}");
        }
        return;
    }
    let test = "handing_over_for_ever_is_reported";
    let output = bounded(|| child(test, &[("HEBRA_STEPS", "20000")]));
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn sleeping_for_ever_is_no_deadlock_in_a_simulation() {
    bounded(|| {
        // A peer that never answers, and a client that gives up.
        sim::run(5, || {
            let peer = thread::spawn(|| thread::sleep(Duration::MAX));
            assert!(thread::timeout(HOUR, || peer.join()).is_err());
        });
        for sleeper in [
            || thread::sleep(Duration::MAX),
            || drop(thread::spawn(|| thread::sleep(Duration::MAX)).join()),
        ] {
            let report = panic_of(|| sim::run(5, sleeper));
            assert!(report.starts_with("time stands still"), "{report}");
        }
    });
}

#[test]
fn virtual_time_ends_without_harm() {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    bounded(|| {
        sim::run(5, || {
            let threads: Vec<_> = (0..3)
                .map(|_| thread::spawn(|| thread::sleep(7 * CENTURY)))
                .collect();
            for _ in 0..7 {
                thread::sleep(CENTURY);
                thread::spawn(|| thread::sleep(Duration::from_secs(1)))
                    .join()
                    .unwrap();
            }
            for thread in threads {
                thread.join().unwrap();
            }
            let late = thread::timeout(CENTURY, || thread::sleep(Duration::from_secs(1)));
            assert_eq!(late, Ok(()));
        });
    });
}
