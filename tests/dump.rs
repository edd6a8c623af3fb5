//! Dumps: what they say of parked, ready, running and unstarted green threads, also while every
//! worker is busy. Stacks are looked at with the feature `dump`.

#![cfg(all(feature = "runtime", target_os = "linux"))]

mod support;

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use hebra::channel::{bounded, unbounded};
use hebra::dump::{self, Answered, Dump, State};
use hebra::net::{TcpListener, UdpSocket};
use hebra::sync::{Barrier, Condvar, Event, Mutex, RwLock, Semaphore};
use hebra::thread::{self, JoinHandle};
use hebra::{Config, Generator, Runtime};

use support::{bounded as within_bound, is_child, on_workers, wait_until};

const HAS_STACKS: bool = cfg!(all(
    feature = "dump",
    target_arch = "x86_64",
    not(hebra_sanitizer)
));
const HOUR: Duration = Duration::from_secs(3600);

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(body).unwrap()
}

fn find<'a>(dump: &'a Dump, name: &str) -> &'a dump::Thread {
    dump.threads()
        .iter()
        .find(|one| one.name() == Some(name))
        .unwrap_or_else(|| panic!("no {name} in\n{}", dump.full()))
}

/// The caller's own runtime: other tests run beside.
fn dump_here() -> Dump {
    hebra::Handle::current().dump()
}

/// Dumps until the thread of that name is parked.
fn dump_when_parked(name: &str) -> Dump {
    let dump = std::cell::RefCell::new(None);
    wait_until(|| {
        thread::yield_now();
        let taken = dump_here();
        let is_parked = taken
            .threads()
            .iter()
            .any(|one| one.name() == Some(name) && one.state() == State::Parked);
        *dump.borrow_mut() = Some(taken);
        is_parked
    });
    dump.take().unwrap()
}

#[inline(never)]
fn sleep_in_a_function_of_its_own() {
    thread::sleep(HOUR);
    black_box(());
}

/// Computes until it is told to stop.
#[inline(never)]
fn compute_in_a_function_of_its_own(stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        std::hint::spin_loop();
    }
    black_box(());
}

#[test]
fn parked_threads_are_listed_with_their_reasons() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let event = Arc::new(Event::new());
            let lock = Arc::new(Mutex::new(()));
            let shared = Arc::new(RwLock::new(()));
            let (sender, receiver) = unbounded::<()>();
            let (full, _receiver) = bounded::<()>(0);
            let guard = lock.lock().unwrap();
            let write = shared.write().unwrap();
            type Case = (&'static str, &'static str, Box<dyn FnOnce() + Send>);
            let cases: Vec<Case> = vec![
                ("a", "sleeping", Box::new(sleep_in_a_function_of_its_own)),
                ("b", "parked", Box::new(thread::park)),
                ("c", "waiting for an event", {
                    let event = event.clone();
                    Box::new(move || event.wait())
                }),
                ("d", "locking", {
                    let lock = lock.clone();
                    Box::new(move || drop(lock.lock()))
                }),
                ("e", "locking", {
                    let shared = shared.clone();
                    Box::new(move || drop(shared.read()))
                }),
                ("f", "receiving", Box::new(move || _ = receiver.recv())),
                ("g", "sending", Box::new(move || _ = full.send(()))),
                ("h", "acquiring permits", {
                    Box::new(|| drop(Semaphore::new(0).acquire()))
                }),
                ("i", "waiting at a barrier", {
                    Box::new(|| _ = Barrier::new(2).wait())
                }),
                ("j", "waiting on a condition variable", {
                    Box::new(|| {
                        let lock = Mutex::new(());
                        drop(Condvar::new().wait(lock.lock().unwrap()));
                    })
                }),
                ("k", "accepting", {
                    Box::new(|| _ = TcpListener::bind("127.0.0.1:0").unwrap().accept())
                }),
                ("l", "reading", {
                    Box::new(|| _ = UdpSocket::bind("127.0.0.1:0").unwrap().recv(&mut [0]))
                }),
                ("m", "joining", {
                    Box::new(|| _ = thread::spawn(|| thread::sleep(HOUR)).join())
                }),
                ("n", "awaiting a future", {
                    Box::new(|| hebra::future::block_on(std::future::pending()))
                }),
            ];
            let mut handles = Vec::new();
            for (name, reason, body) in cases {
                handles.push(spawn(name, body));
                let dump = dump_when_parked(name);
                let one = find(&dump, name);
                assert_eq!(one.reason(), reason, "{name}");
                assert!(one.location().file().ends_with("dump.rs"));
                assert_eq!(one.frames().is_empty(), !HAS_STACKS);
                assert!(!one.is_cut() || !HAS_STACKS, "{}", dump.full());
            }
            let text = dump_here().full().to_string();
            assert_eq!(
                text.contains("sleep_in_a_function_of_its_own"),
                HAS_STACKS,
                "{text}"
            );
            drop((guard, write, sender));
            handles.iter().for_each(JoinHandle::cancel);
        });
    }
}

#[test]
fn lock_circle_is_named_once() {
    on_workers(1, || {
        let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
        let both = Arc::new(Barrier::new(2));
        let lock_both = |first: &Arc<Mutex<()>>, second: &Arc<Mutex<()>>| {
            let (first, second, both) = (first.clone(), second.clone(), both.clone());
            move || {
                let _first = first.lock();
                both.wait();
                drop(second.lock());
            }
        };
        let one = spawn("one", lock_both(&a, &b));
        let other = spawn("other", lock_both(&b, &a));
        // A third one that waits for one of them.
        (0..4).for_each(|_| thread::yield_now());
        let third = spawn("third", move || drop(a.lock()));
        let dump = dump_when_parked("third");
        let cycles = dump.cycles();
        assert_eq!(cycles.len(), 1, "{dump}");
        let mut names: Vec<_> = cycles[0].iter().map(|one| one.name().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["one", "other"]);
        let owner = find(&dump, "third").waits_for().unwrap();
        assert_eq!(dump.threads()[owner].name(), Some("one"));
        let text = dump.to_string();
        assert!(text.contains("2 in a circle: #"), "{text}");
        assert!(text.contains("until #"), "{text}");
        [one, other, third].iter().for_each(JoinHandle::cancel);
    });
}

#[test]
fn busy_workers_answer_from_a_signal_handler() {
    within_bound(|| {
        let runtime = Runtime::new(Config::default().workers(2)).unwrap();
        let handle = runtime.start().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let started = Arc::new(Barrier::new(3));
        let hogs: Vec<_> = ["hog a", "hog b"]
            .map(|name| {
                let (stop, started) = (stop.clone(), started.clone());
                let builder = thread::Builder::new().name(name.to_owned());
                builder.spawn_on(&handle, move || {
                    spawn("sleeper", sleep_in_a_function_of_its_own);
                    started.wait();
                    compute_in_a_function_of_its_own(&stop);
                    7
                })
            })
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        started.wait();
        // A worker that waits for a processor is interrupted as well, whatever it is about to do.
        let is_busy = |dump: &Dump| {
            let running = |one: &&dump::Thread| one.state() == State::Running;
            let mut running = dump.threads().iter().filter(running);
            running.any(|one| one.name().is_some_and(|name| name.starts_with("hog")))
        };
        let dump = std::cell::RefCell::new(None);
        wait_until(|| {
            let taken = runtime.dump();
            let is_so = is_busy(&taken);
            *dump.borrow_mut() = Some(taken);
            is_so
        });
        let dump = dump.take().unwrap();
        assert!(dump.took() < Duration::from_secs(5), "{:?}", dump.took());
        let running = |one: &&dump::Thread| one.state() == State::Running;
        let hog = dump.threads().iter().find(running).unwrap();
        let answered = dump.workers()[hog.worker()].answered();
        assert_eq!(answered, Answered::SignalHandler);
        let text = dump.to_string();
        assert!(text.contains("busy with #"), "{text}");
        assert_eq!(
            text.contains("compute_in_a_function_of_its_own"),
            HAS_STACKS,
            "{text}"
        );
        // They have noticed nothing.
        stop.store(true, SeqCst);
        for hog in hogs {
            assert_eq!(hog.join().unwrap(), 7);
        }
        runtime.shutdown(Duration::from_secs(10)).unwrap();
    });
}

#[test]
fn unstarted_threads_are_counted_by_place() {
    on_workers(1, || {
        let handles: Vec<_> = (0..5).map(|_| thread::spawn(|| ())).collect();
        let dump = dump_here();
        let here = dump
            .unstarted()
            .iter()
            .find(|(place, _)| place.file().ends_with("dump.rs"));
        assert_eq!(here.unwrap().1, 5, "{dump}");
        handles
            .into_iter()
            .for_each(|handle| handle.join().unwrap());
    });
}

#[test]
fn stack_continues_from_a_generator_into_its_thread() {
    on_workers(1, || {
        let outer = spawn("outer", || {
            let mut inner = Generator::<(), (), ()>::new(|_, ()| {
                let mut innermost =
                    Generator::<(), (), ()>::new(|_, ()| sleep_in_a_function_of_its_own());
                innermost.resume(());
            });
            inner.resume(());
            black_box(());
        });
        let dump = dump_when_parked("outer");
        let text = dump.full().to_string();
        if HAS_STACKS {
            let at = |name: &str| {
                text.find(name)
                    .unwrap_or_else(|| panic!("{name} in\n{text}"))
            };
            let outermost = "stack_continues_from_a_generator_into_its_thread";
            assert!(
                at("sleep_in_a_function_of_its_own") < at(outermost),
                "{text}"
            );
        }
        outer.cancel();
    });
}

#[test]
fn dump_of_many_is_grouped() {
    const THREADS: usize = 1_000;
    on_workers(2, || {
        let arrived = Arc::new(Barrier::new(THREADS + 1));
        let handles: Vec<_> = (0..THREADS)
            .map(|_| {
                let arrived = arrived.clone();
                thread::spawn(move || {
                    arrived.wait();
                    sleep_in_a_function_of_its_own();
                })
            })
            .collect();
        arrived.wait();
        let is_asleep = |dump: &Dump| {
            let asleep = dump
                .threads()
                .iter()
                .filter(|one| one.reason() == "sleeping");
            asleep.count() == THREADS
        };
        wait_until(|| {
            thread::yield_now();
            is_asleep(&dump_here())
        });
        let dump = dump_here();
        assert!(dump.workers().iter().all(|one| one.left_out() == 0));
        let text = dump.to_string();
        assert!(text.lines().count() < 60, "{text}");
        assert!(
            text.contains(&format!("{THREADS} × parked, sleeping for ")),
            "{text}"
        );
        handles.iter().for_each(JoinHandle::cancel);
    });
}

#[test]
fn json_has_a_head_and_a_line_for_each_thread() {
    on_workers(1, || {
        let odd = spawn("\"odd\"\n", sleep_in_a_function_of_its_own);
        let dump = dump_when_parked("\"odd\"\n");
        let mut json = Vec::new();
        dump.write_json(&mut json).unwrap();
        let lines: Vec<serde_json::Value> = std::str::from_utf8(&json)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["hebraDump"]["formatVersion"], 1);
        assert_eq!(lines.len(), 1 + dump.threads().len());
        let line = lines[1..]
            .iter()
            .find(|line| line["name"] == "\"odd\"\n")
            .unwrap();
        assert_eq!(line["state"], "parked");
        assert_eq!(line["reason"], "sleeping");
        assert_eq!(line["frames"].as_array().unwrap().is_empty(), !HAS_STACKS);
        odd.cancel();
    });
}

#[test]
fn quit_signal_prints_a_dump_and_the_process_goes_on() {
    if is_child() {
        dump::on_signal(hebra::signal::SIGQUIT).unwrap();
        hebra::run(|| {
            let sleeper = spawn("sleeper", sleep_in_a_function_of_its_own);
            drop(dump_when_parked("sleeper"));
            println!("\nready");
            let mut line = String::new();
            hebra::io::stdin().read_line(&mut line).unwrap();
            println!("still here");
            sleeper.cancel();
        });
        return;
    }
    within_bound(|| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "quit_signal_prints_a_dump_and_the_process_goes_on",
                "--exact",
                "--nocapture",
            ])
            .env("HEBRA_CHILD", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line != "ready\n" {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "it has ended");
        }
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        for _ in 0..2 {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
            let mut text = String::new();
            while !text.contains("sleeper") {
                assert!(errors.read_line(&mut text).unwrap() > 0, "{text}");
            }
            assert!(text.contains("hebra: "), "{text}");
        }
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("still here"), "{rest}");
        drop(errors);
        assert!(child.wait().unwrap().success());
    });
}

/// Threads that spawn, lock, send, panic, generate and compute while dumps are made all the time.
#[test]
fn dumps_disturb_nothing_under_load() {
    const ROUNDS: usize = 300;
    within_bound(|| {
        let runtime = Runtime::new(Config::default().workers(2)).unwrap();
        let handle = runtime.start().unwrap();
        let total = Arc::new(Mutex::new(0));
        let workers: Vec<_> = (0..8)
            .map(|n| {
                let total = total.clone();
                handle.spawn(move || {
                    let (sender, receiver) = bounded(1);
                    let echo = thread::spawn(move || receiver.iter().sum::<usize>());
                    for round in 0..ROUNDS {
                        sender.send(round).unwrap();
                        *total.lock().unwrap() += 1;
                        match (round + n) % 4 {
                            0 => thread::spawn(thread::yield_now).join().unwrap(),
                            1 => {
                                let payload = std::panic::catch_unwind(|| {
                                    std::panic::resume_unwind(Box::new(7));
                                });
                                assert!(payload.is_err());
                            }
                            2 => {
                                let mut squares = Generator::<(), usize, ()>::new(|y, ()| {
                                    (0..5).for_each(|n| y.yield_(n * n));
                                });
                                (0..5).for_each(|_| _ = squares.resume(()));
                            }
                            _ => {
                                let began = Instant::now();
                                while began.elapsed() < Duration::from_micros(200) {
                                    black_box(Vec::<u8>::with_capacity(round + 1));
                                }
                            }
                        }
                    }
                    drop(sender);
                    echo.join().unwrap()
                })
            })
            .collect();
        let mut dumps = 0;
        while !workers.iter().all(JoinHandle::is_finished) {
            let dump = runtime.dump();
            dumps += 1;
            assert!(
                dump.workers()
                    .iter()
                    .all(|one| one.answered() != Answered::No)
            );
        }
        assert!(dumps > 0);
        for worker in workers {
            assert_eq!(worker.join().unwrap(), ROUNDS * (ROUNDS - 1) / 2);
        }
        assert_eq!(*total.lock().unwrap(), 8 * ROUNDS);
        runtime.shutdown(Duration::from_secs(10)).unwrap();
    });
}
