//! The end of `run`: whoever is left is cancelled, unwinds, and leaves nothing behind; who will not
//! end is named.

#![cfg(feature = "runtime")]

use std::any::Any;
use std::io::{self, Read, Write};
use std::panic;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use hebra::net::{TcpListener, TcpStream};
use hebra::thread::{self, Builder, Cancelled, JoinHandle};
use hebra::{Config, Runtime};

use support::{bounded, child, is_child, stderr, wait_until};

mod support;

/// Runs a test body on a runtime with one worker, and on one with two, to the end; the body gets a
/// counter of drops.
fn on_one_and_two<T>(body: impl Fn(&Drops) -> T) -> [(T, usize); 2] {
    [1, 2].map(|workers| {
        bounded(|| {
            let drops = Drops::default();
            let result = Runtime::new(Config::default().workers(workers))
                .unwrap()
                .run(|| body(&drops));
            assert_eq!(Arc::strong_count(&drops.0), 1, "nobody is left");
            (result, drops.count())
        })
    })
}

/// Makes values that count their drops.
#[derive(Default)]
struct Drops(Arc<AtomicUsize>);

impl Drops {
    fn value(&self) -> impl Send + 'static {
        struct Counted(Arc<AtomicUsize>);

        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }

        Counted(self.0.clone())
    }

    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn is_cancelled<T>(result: thread::Result<T>) -> bool {
    result.err().expect("it was cancelled").is::<Cancelled>()
}

/// Spawns threads that have started when this returns, and wait for ever, each in its own way.
fn spawn_waiting(drops: &Drops) -> Vec<JoinHandle<()>> {
    let started = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let quiet = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let never: JoinHandle<()> = thread::spawn(thread::park);
    let ways: [Box<dyn FnOnce() + Send>; 9] = [
        Box::new(|| thread::sleep(Duration::MAX)),
        Box::new(|| thread::sleep(Duration::from_secs(3600))),
        Box::new(|| thread::sleep_until(Instant::now() + Duration::from_secs(3600))),
        Box::new(|| {
            loop {
                thread::park();
            }
        }),
        Box::new(|| thread::park_timeout(Duration::from_secs(3600))),
        Box::new(move || drop(never.join())),
        Box::new(|| {
            loop {
                thread::yield_now();
            }
        }),
        Box::new(move || drop(listener.accept().and_then(|_| listener.accept()))),
        Box::new(move || drop((&quiet).read(&mut [0]))),
    ];
    let threads: Vec<_> = ways
        .into_iter()
        .map(|way| {
            let (started, value) = (started.clone(), drops.value());
            thread::spawn(move || {
                let _value = value;
                started.fetch_add(1, SeqCst);
                way();
            })
        })
        .collect();
    wait_until(|| started.load(SeqCst) == threads.len());
    threads
}

#[test]
fn whoever_waits_unwinds_from_where_it_waits() {
    for (mut threads, drops) in on_one_and_two(spawn_waiting) {
        assert_eq!(drops, threads.len());
        // Whether the one who joins is cancelled or learns that the other was, is all the same.
        threads.remove(5);
        assert!(threads.into_iter().map(JoinHandle::join).all(is_cancelled));
    }
}

#[test]
fn cancelling_says_nothing_on_standard_error() {
    bounded(|| {
        if is_child() {
            on_one_and_two(|drops| {
                spawn_waiting(drops);
                let joins = Arc::new(AtomicBool::new(false));
                let tell = joins.clone();
                let joined = thread::spawn_local(thread::park);
                thread::spawn_local(move || {
                    tell.store(true, SeqCst);
                    joined.join().unwrap();
                });
                wait_until(|| joins.load(SeqCst));
            });
            return println!("done");
        }
        let output = child("cancelling_says_nothing_on_standard_error", &[]);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            stderr(&output)
        );
    });
}

#[test]
fn closures_that_have_not_started_are_dropped_unrun() {
    let ran = Arc::new(AtomicUsize::new(0));
    for (threads, drops) in on_one_and_two(|drops| {
        // One worker never starts them; a second one may take some.
        let spawn = |_| {
            let (ran, value) = (ran.clone(), drops.value());
            thread::spawn(move || {
                let _value = value;
                ran.fetch_add(1, SeqCst);
                thread::park();
            })
        };
        (0..100).map(spawn).collect::<Vec<_>>()
    }) {
        assert_eq!(drops, 100);
        assert!(threads.into_iter().map(JoinHandle::join).all(is_cancelled));
    }
    assert!(ran.load(SeqCst) <= 100);
}

#[test]
fn a_closure_dropped_unrun_may_wait_in_its_destructor() {
    for (threads, drops) in on_one_and_two(|drops| {
        let ways: [fn(); 3] = [
            thread::yield_now,
            || thread::sleep(Duration::from_millis(1)),
            thread::park,
        ];
        ways.map(|way| {
            let (waits, value) = (OnDrop(way), drops.value());
            thread::spawn_local(move || {
                let (_waits, _value) = (waits, value);
                unreachable!("the root does not give way");
            })
        })
    }) {
        assert_eq!(drops, 3);
        for thread in threads {
            let payload: Box<dyn Any + Send> = thread.join().unwrap_err();
            assert!(payload.is::<Cancelled>());
        }
    }
}

#[test]
fn a_destructor_may_wait_while_its_thread_unwinds() {
    for (threads, drops) in on_one_and_two(|drops| {
        let started = Arc::new(AtomicUsize::new(0));
        let (inner, outer) = (drops.value(), drops.value());
        let slow = thread::spawn(move || {
            // Still a while in the unwinding.
            let _inner = OnDrop(|| (0..100).for_each(|_| thread::yield_now()));
            let _value = inner;
            thread::park();
        });
        let ways: [Box<dyn FnMut() + Send>; 5] = [
            Box::new(thread::yield_now),
            Box::new(|| thread::sleep(Duration::from_millis(1))),
            Box::new(|| thread::park_timeout(Duration::from_secs(3600))),
            Box::new({
                let mut slow = Some(slow);
                move || assert!(is_cancelled(slow.take().unwrap().join()))
            }),
            Box::new({
                let mut outer = Some(outer);
                move || {
                    let outer = outer.take();
                    let late = thread::spawn(move || drop(outer));
                    assert!(is_cancelled(late.join()));
                }
            }),
        ];
        let threads = ways.map(|way| {
            let (started, value) = (started.clone(), drops.value());
            thread::spawn(move || {
                let _value = value;
                let _waits = OnDrop(way);
                started.fetch_add(1, SeqCst);
                thread::park();
            })
        });
        wait_until(|| started.load(SeqCst) == 5);
        threads
    }) {
        assert_eq!(drops, 7);
        assert!(threads.into_iter().map(JoinHandle::join).all(is_cancelled));
    }
}

#[test]
fn a_destructor_that_waits_in_a_loop_lets_the_others_run() {
    // std's contracts allow each of these to return early, so this is how they are used.
    let ways: [fn(); 4] = [
        thread::yield_now,
        thread::park,
        || thread::sleep(Duration::from_secs(3600)),
        || thread::sleep(Duration::ZERO),
    ];
    for way in ways {
        for ((), drops) in on_one_and_two(|drops| {
            let (started, ended) = (
                Arc::new(AtomicUsize::new(0)),
                Arc::new(AtomicBool::new(false)),
            );
            let (started_too, ended_too, value) = (started.clone(), ended.clone(), drops.value());
            // The one who waits is cancelled first.
            thread::spawn_local(move || {
                let _value = value;
                let _waits = OnDrop(move || {
                    while !ended.load(SeqCst) {
                        way();
                    }
                });
                started.fetch_add(1, SeqCst);
                thread::park();
            });
            let started = started_too.clone();
            thread::spawn_local(move || {
                let _ends = OnDrop(move || ended_too.store(true, SeqCst));
                started_too.fetch_add(1, SeqCst);
                thread::park();
            });
            wait_until(|| started.load(SeqCst) == 2);
        }) {
            assert_eq!(drops, 1);
        }
    }
}

#[test]
fn a_neighbour_that_waits_while_it_unwinds_does_not_keep_others_from_unwinding() {
    let ways: [fn(); 4] = [
        thread::yield_now,
        thread::park,
        || thread::sleep(Duration::from_secs(3600)),
        || thread::sleep(Duration::ZERO),
    ];
    for way in ways {
        for (cancelled, drops) in on_one_and_two(|drops| {
            let started = Arc::new(AtomicUsize::new(0));
            let (started_too, value) = (started.clone(), drops.value());
            let cancelled: Arc<Mutex<Option<bool>>> = Arc::default();
            let tell = cancelled.clone();
            let (send, receive) = mpsc::channel::<JoinHandle<()>>();
            // It is cancelled first, and waits in its destructor for one who has not begun to
            // unwind.
            thread::spawn_local(move || {
                let _value = value;
                let _joins = OnDrop(move || {
                    let cancelled = is_cancelled(receive.recv().unwrap().join());
                    *tell.lock().unwrap() = Some(cancelled);
                });
                started_too.fetch_add(1, SeqCst);
                thread::park();
            });
            let started_too = started.clone();
            let other = thread::spawn_local(move || {
                started_too.fetch_add(1, SeqCst);
                loop {
                    way();
                }
            });
            send.send(other).unwrap();
            wait_until(|| started.load(SeqCst) == 2);
            cancelled
        }) {
            assert_eq!(*cancelled.lock().unwrap(), Some(true));
            assert_eq!(drops, 1);
        }
    }
}

#[test]
fn threads_that_wait_for_each_other_are_cancelled() {
    for ((), drops) in on_one_and_two(|drops| {
        let started = Arc::new(AtomicUsize::new(0));
        let ((to_a, for_a), (to_b, for_b)) = (mpsc::channel(), mpsc::channel());
        let [a, b] = [for_a, for_b].map(|other: mpsc::Receiver<JoinHandle<()>>| {
            let (started, value) = (started.clone(), drops.value());
            thread::spawn_local(move || {
                let _value = value;
                started.fetch_add(1, SeqCst);
                drop(other.recv().unwrap().join());
            })
        });
        to_a.send(b).unwrap();
        to_b.send(a).unwrap();
        wait_until(|| started.load(SeqCst) == 2);
    }) {
        assert_eq!(drops, 2);
    }
}

#[test]
fn a_neighbour_that_unwinds_for_a_while_only_delays_the_cancellation_of_others() {
    for ((), drops) in on_one_and_two(|drops| {
        let (unwinds, joins) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (set, value) = (unwinds.clone(), drops.value());
        // Its own panic, not a cancellation: it waits in the middle of that until the end comes,
        // and a while longer.
        thread::spawn_local(move || {
            let _value = value;
            let _waits = OnDrop(move || {
                set.store(true, SeqCst);
                thread::park();
                (0..1000).for_each(|_| thread::yield_now());
            });
            panic::resume_unwind(Box::new(()));
        });
        wait_until(|| unwinds.load(SeqCst));
        let ((to_a, for_a), (to_b, for_b)) = (mpsc::channel(), mpsc::channel());
        let [a, b] = [for_a, for_b].map(|other: mpsc::Receiver<JoinHandle<()>>| {
            let (joins, value) = (joins.clone(), drops.value());
            thread::spawn_local(move || {
                let _value = value;
                joins.fetch_add(1, SeqCst);
                drop(other.recv().unwrap().join());
            })
        });
        to_a.send(b).unwrap();
        to_b.send(a).unwrap();
        wait_until(|| joins.load(SeqCst) == 2);
    }) {
        assert_eq!(drops, 3);
    }
}

#[test]
fn the_result_of_one_whose_joiner_is_cancelled_is_dropped_on_a_green_thread() {
    for (dropper, drops) in on_one_and_two(|drops| {
        let started = Arc::new(AtomicUsize::new(0));
        let dropper: Arc<Mutex<Option<String>>> = Arc::default();
        let (start, name, value) = (started.clone(), dropper.clone(), drops.value());
        let result =
            OnDrop(move || *name.lock().unwrap() = thread::current().name().map(str::to_owned));
        let slow = Builder::new().name("slow".into()).spawn(move || {
            start.fetch_add(1, SeqCst);
            while panic::catch_unwind(thread::park).is_ok() {}
            (0..100).for_each(|_| drop(panic::catch_unwind(thread::yield_now)));
            (value, result)
        });
        let start = started.clone();
        thread::spawn(move || {
            start.fetch_add(1, SeqCst);
            drop(slow.unwrap().join());
        });
        wait_until(|| started.load(SeqCst) == 2);
        dropper
    }) {
        assert_eq!(drops, 1);
        assert_eq!(dropper.lock().unwrap().as_deref(), Some("slow"));
    }
}

#[test]
fn io_in_a_destructor_fails_at_once_and_never_as_interrupted() {
    for (errors, drops) in on_one_and_two(|drops| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let errors: Arc<Mutex<Vec<io::ErrorKind>>> = Arc::default();
        let started = Arc::new(AtomicBool::new(false));
        let (push, set, value) = (errors.clone(), started.clone(), drops.value());
        thread::spawn_local(move || {
            let _value = value;
            let _talks = OnDrop(move || {
                // std's loops: they would retry an interruption for ever, and this peer neither
                // reads nor writes.
                let errors = [
                    (&stream).read_exact(&mut [0]).unwrap_err(),
                    (&stream).write_all(&vec![0; 64 << 20]).unwrap_err(),
                    listener.accept().map(drop).unwrap_err(),
                ];
                push.lock()
                    .unwrap()
                    .extend(errors.map(|error| error.kind()));
            });
            set.store(true, SeqCst);
            thread::park();
        });
        wait_until(|| started.load(SeqCst));
        (peer, errors)
    })
    .map(|((_, errors), drops)| {
        (
            Arc::into_inner(errors).unwrap().into_inner().unwrap(),
            drops,
        )
    }) {
        assert_eq!((errors.len(), drops), (3, 1));
        assert!(!errors.contains(&io::ErrorKind::Interrupted), "{errors:?}");
    }
}

#[test]
fn who_never_has_to_wait_is_cancelled_too() {
    bounded(|| {
        let source = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = source.local_addr().unwrap();
        let firehose = std::thread::spawn(move || {
            let (mut stream, _) = source.accept().unwrap();
            while stream.write_all(&[0; 1 << 16]).is_ok() {}
        });
        let read = Arc::new(AtomicUsize::new(0));
        let at_the_end = Runtime::new(Config::default().workers(1)).unwrap().run(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            let count = read.clone();
            thread::spawn(move || {
                // So little at a time that there is always more.
                while stream.read(&mut [0]).unwrap() > 0 {
                    count.fetch_add(1, SeqCst);
                }
            });
            wait_until(|| read.load(SeqCst) >= 1000);
            read.load(SeqCst)
        });
        assert!(read.load(SeqCst) < at_the_end + 10_000);
        firehose.join().unwrap();
    });
}

#[test]
fn who_catches_its_cancellation_is_cancelled_again_until_it_ends() {
    for ((threads, caught), drops) in on_one_and_two(|drops| {
        let caught = Arc::new(AtomicUsize::new(0));
        let started = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..10)
            .map(|n| {
                let (caught, started, value) = (caught.clone(), started.clone(), drops.value());
                thread::spawn(move || {
                    let _value = value;
                    started.fetch_add(1, SeqCst);
                    let ways: [fn(); 3] = [thread::park, thread::yield_now, || {
                        thread::sleep(Duration::MAX)
                    }];
                    let for_ever = |way: fn()| {
                        loop {
                            way();
                        }
                    };
                    for round in 0..n {
                        let caught_here: thread::Result<()> =
                            panic::catch_unwind(|| for_ever(ways[round % 3]));
                        assert!(caught_here.is_err());
                        caught.fetch_add(1, SeqCst);
                    }
                    if n % 2 == 0 {
                        n
                    } else {
                        panic::resume_unwind(Box::new(n))
                    }
                })
            })
            .collect();
        wait_until(|| started.load(SeqCst) == 10);
        (threads, caught)
    }) {
        assert_eq!((caught.load(SeqCst), drops), (45, 10));
        // None but they themselves decided how they ended.
        for (n, thread) in threads.into_iter().enumerate() {
            match thread.join() {
                Ok(value) => assert!(value == n && n % 2 == 0),
                Err(payload) => assert!(*payload.downcast::<usize>().unwrap() == n && n % 2 == 1),
            }
        }
    }
}

#[test]
fn who_catches_its_cancellation_in_a_loop_does_not_keep_its_worker_from_the_others() {
    for ((), drops) in on_one_and_two(|drops| {
        let (started, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (start, all_ended, value) = (started.clone(), ended.clone(), drops.value());
        // It is cancelled first, and gives in only when the others have ended.
        thread::spawn_local(move || {
            let _value = value;
            start.fetch_add(1, SeqCst);
            while all_ended.load(SeqCst) < 10 {
                let _ = panic::catch_unwind(thread::park);
            }
        });
        for _ in 0..10 {
            let (start, ended, value) = (started.clone(), ended.clone(), drops.value());
            thread::spawn_local(move || {
                let _value = value;
                let _ends = OnDrop(move || {
                    ended.fetch_add(1, SeqCst);
                });
                start.fetch_add(1, SeqCst);
                thread::park();
            });
        }
        wait_until(|| started.load(SeqCst) == 11);
    }) {
        assert_eq!(drops, 11);
    }
}

/// A runtime of two workers, whose calling thread is kept busy until `started` so that the other
/// worker takes what it spawns.
fn run_with_a_straggler(straggler: impl FnOnce(Arc<AtomicBool>) + Send + 'static) -> Duration {
    let runtime = Runtime::new(
        Config::default()
            .workers(2)
            .shutdown_timeout(Duration::from_millis(200)),
    )
    .unwrap();
    let mut ending = None;
    runtime.run(|| {
        let started = Arc::new(AtomicBool::new(false));
        let set = started.clone();
        let drops = Drops::default();
        let builder = Builder::new().name("mule".into());
        drop(builder.spawn(move || straggler(set)).unwrap());
        while !started.load(SeqCst) {
            std::hint::spin_loop();
        }
        // Others are cancelled all the same.
        for _ in 0..10 {
            let value = drops.value();
            thread::spawn(move || {
                let _value = value;
                thread::park();
            });
        }
        ending = Some(Instant::now());
    });
    ending.unwrap().elapsed()
}

#[test]
fn who_catches_its_cancellation_for_ever_on_another_worker_is_named_and_left_behind() {
    bounded(|| {
        if is_child() {
            let took = run_with_a_straggler(|started| {
                started.store(true, SeqCst);
                loop {
                    let _ = panic::catch_unwind(|| thread::sleep(Duration::from_secs(3600)));
                }
            });
            assert!(took >= Duration::from_millis(200));
            // The calling thread goes on, and may do it all again.
            assert_eq!(hebra::run(|| thread::spawn(|| 5).join().unwrap()), 5);
            return println!("gone on");
        }
        let output = child(
            "who_catches_its_cancellation_for_ever_on_another_worker_is_named_and_left_behind",
            &[],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("gone on"));
        let errors = stderr(&output);
        assert!(
            errors.contains("green thread 'mule' (spawned at tests/shutdown.rs:"),
            "{errors}"
        );
        assert!(errors.contains("worker hebra-1 "), "{errors}");
    });
}

#[test]
fn who_computes_for_ever_on_another_worker_is_left_behind_with_its_worker() {
    bounded(|| {
        if is_child() {
            let took = run_with_a_straggler(|started| {
                started.store(true, SeqCst);
                loop {
                    std::hint::spin_loop();
                }
            });
            assert!(took >= Duration::from_millis(200));
            assert_eq!(hebra::run(|| thread::spawn(|| 5).join().unwrap()), 5);
            return println!("gone on");
        }
        let output = child(
            "who_computes_for_ever_on_another_worker_is_left_behind_with_its_worker",
            &[],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("gone on"));
        assert!(
            stderr(&output).contains("worker hebra-1 "),
            "{}",
            stderr(&output)
        );
    });
}

#[test]
fn who_takes_its_time_on_the_calling_thread_is_named_and_waited_for() {
    bounded(|| {
        if is_child() {
            let runtime = Runtime::new(
                Config::default()
                    .workers(1)
                    .shutdown_timeout(Duration::from_millis(20)),
            )
            .unwrap();
            let ended = Arc::new(AtomicBool::new(false));
            runtime.run(|| {
                let (started, ended) = (Arc::new(AtomicBool::new(false)), ended.clone());
                let set = started.clone();
                let slow = Builder::new().name("snail".into()).spawn(move || {
                    set.store(true, SeqCst);
                    let _ends = OnDrop(move || ended.store(true, SeqCst));
                    // From when it is cancelled, and so much longer than the grace that a busy
                    // machine makes no difference.
                    let _ = panic::catch_unwind(thread::park);
                    let patience = Instant::now() + Duration::from_millis(1000);
                    while Instant::now() < patience {
                        let _ = panic::catch_unwind(thread::park);
                    }
                });
                drop(slow.unwrap());
                wait_until(|| started.load(SeqCst));
            });
            assert!(ended.load(SeqCst));
            return println!("waited");
        }
        let output = child(
            "who_takes_its_time_on_the_calling_thread_is_named_and_waited_for",
            &[],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("green thread 'snail' (spawned at tests/shutdown.rs:"),
            "{}",
            stderr(&output)
        );
    });
}

#[test]
fn a_report_that_nobody_can_read_does_no_harm() {
    bounded(|| {
        if is_child() {
            run_with_a_straggler(|started| {
                started.store(true, SeqCst);
                loop {
                    let _ = panic::catch_unwind(thread::park);
                }
            });
            return println!("gone on");
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "a_report_that_nobody_can_read_does_no_harm",
                "--exact",
                "--nocapture",
            ])
            .env("HEBRA_CHILD", "1");
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = command
            .stdout(std::process::Stdio::piped())
            .stderr(writer)
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("gone on"),
            "{output:?}"
        );
    });
}

#[test]
fn a_shutdown_time_out_of_zero_or_for_ever_still_lets_threads_unwind_on_the_calling_thread() {
    for timeout in [Duration::ZERO, Duration::MAX] {
        bounded(|| {
            let drops = Drops::default();
            let runtime =
                Runtime::new(Config::default().workers(1).shutdown_timeout(timeout)).unwrap();
            runtime.run(|| drop(spawn_waiting(&drops)));
            assert_eq!(drops.count(), 9);
        });
    }
}

#[test]
fn a_panic_that_a_destructor_catches_is_no_harm_while_its_thread_unwinds() {
    for (threads, drops) in on_one_and_two(|drops| {
        let started = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..10)
            .map(|n: usize| {
                let (started, value) = (started.clone(), drops.value());
                thread::spawn(move || {
                    let _value = value;
                    let _panics = OnDrop(move || {
                        let caught = panic::catch_unwind(|| {
                            thread::yield_now();
                            let _waits = OnDrop(thread::yield_now);
                            panic::resume_unwind(Box::new(n));
                        });
                        assert!(caught.unwrap_err().is::<usize>());
                    });
                    started.fetch_add(1, SeqCst);
                    thread::park();
                })
            })
            .collect::<Vec<JoinHandle<()>>>();
        wait_until(|| started.load(SeqCst) == 10);
        threads
    }) {
        assert_eq!(drops, 10);
        assert!(threads.into_iter().map(JoinHandle::join).all(is_cancelled));
        assert!(!std::thread::panicking());
    }
}

#[test]
fn a_panic_in_the_destructor_of_a_closure_dropped_unrun_is_its_result() {
    for (threads, drops) in on_one_and_two(|drops| {
        [(); 2].map(|()| {
            let (panics, value) = (
                OnDrop(|| panic::resume_unwind(Box::new("in drop"))),
                drops.value(),
            );
            thread::spawn_local(move || drop((panics, value)))
        })
    }) {
        assert_eq!(drops, 2);
        assert!(
            threads.into_iter().all(|thread| *thread
                .join()
                .unwrap_err()
                .downcast::<&str>()
                .unwrap()
                == "in drop")
        );
    }
}

#[test]
fn a_panic_that_leaves_a_destructor_while_its_thread_unwinds_ends_the_process_as_in_std() {
    use std::os::unix::process::ExitStatusExt;

    bounded(|| {
        if is_child() {
            hebra::run(|| {
                let started = Arc::new(AtomicBool::new(false));
                let set = started.clone();
                thread::spawn(move || {
                    let _panics = OnDrop(|| panic!("the second"));
                    set.store(true, SeqCst);
                    thread::park();
                });
                wait_until(|| started.load(SeqCst));
            });
            return;
        }
        let output = child(
            "a_panic_that_leaves_a_destructor_while_its_thread_unwinds_ends_the_process_as_in_std",
            &[],
        );
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        let errors = stderr(&output);
        assert!(
            errors.contains("the second")
                && errors.contains("panic in a destructor during cleanup"),
            "{errors}"
        );
    });
}

#[test]
fn who_ends_at_the_same_moment_ends_once() {
    bounded(|| {
        for round in 0..200_u32 {
            let drops = Drops::default();
            let threads = Runtime::new(Config::default().workers(1 + round as usize % 2))
                .unwrap()
                .run(|| {
                    let threads: Vec<_> = (0..20)
                        .map(|n| {
                            let (during, result) = (drops.value(), drops.value());
                            thread::spawn(move || {
                                let _during = during;
                                for turn in 0..n {
                                    match (turn + n) % 3 {
                                        0 => thread::yield_now(),
                                        1 => thread::sleep(Duration::from_micros(n)),
                                        _ => thread::park_timeout(Duration::from_micros(1)),
                                    }
                                }
                                result
                            })
                        })
                        .collect();
                    thread::sleep(Duration::from_micros(10) * round);
                    threads
                });
            for thread in threads {
                assert!(thread.is_finished());
                match thread.join() {
                    Ok(result) => drop(result),
                    Err(payload) => assert!(payload.is::<Cancelled>()),
                }
            }
            assert_eq!(drops.count(), 40);
        }
    });
}

#[test]
fn closures_whose_destructors_spawn_further_ones_come_to_an_end() {
    /// Dropped, it spawns a closure that owns its successor.
    struct Chain<T: Send + 'static>(usize, Option<T>);

    impl<T: Send + 'static> Drop for Chain<T> {
        fn drop(&mut self) {
            if let (Some(length), Some(value)) = (self.0.checked_sub(1), self.1.take()) {
                let next = Chain(length, Some(value));
                thread::spawn(move || drop(next));
            }
        }
    }

    for ((), drops) in on_one_and_two(|drops| {
        let chain = Chain(100, Some(drops.value()));
        thread::spawn(move || drop(chain));
    }) {
        assert_eq!(drops, 1);
    }
}

#[test]
fn runtimes_leave_neither_descriptors_nor_os_threads_behind() {
    fn resources() -> [usize; 2] {
        ["/proc/self/fd", "/proc/self/task"].map(|path| std::fs::read_dir(path).unwrap().count())
    }

    bounded(|| {
        if is_child() {
            let once = || {
                Runtime::new(Config::default().workers(3)).unwrap().run(|| {
                    let drops = Drops::default();
                    spawn_waiting(&drops);
                });
            };
            once();
            let before = resources();
            (0..50).for_each(|_| once());
            assert_eq!(resources(), before);
            return println!("done");
        }
        let output = child(
            "runtimes_leave_neither_descriptors_nor_os_threads_behind",
            &[],
        );
        assert!(output.status.success(), "{}", stderr(&output));
    });
}

#[test]
fn a_generator_abandoned_in_the_middle_of_its_unwinding_does_not_keep_others_from_being_cancelled()
{
    for (threads, drops) in on_one_and_two(|drops| {
        let started = Arc::new(AtomicUsize::new(0));
        let sleepers = [0, 1].map(|_| {
            let (started, value) = (started.clone(), drops.value());
            thread::spawn_local(move || {
                let _value = value;
                let mut stubborn = hebra::Generator::<(), (), ()>::new(|y, ()| {
                    // It yields in a destructor while it is closed.
                    struct Yields<'a>(&'a hebra::Yielder<(), ()>);
                    impl Drop for Yields<'_> {
                        fn drop(&mut self) {
                            self.0.yield_(());
                        }
                    }
                    let _yields = Yields(y);
                    y.yield_(());
                });
                stubborn.resume(());
                assert!(panic::catch_unwind(panic::AssertUnwindSafe(|| stubborn.close())).is_err());
                started.fetch_add(1, SeqCst);
                loop {
                    thread::sleep(Duration::from_secs(3600));
                }
            })
        });
        wait_until(|| started.load(SeqCst) == 2);
        sleepers
    }) {
        assert_eq!(drops, 2);
        threads
            .into_iter()
            .for_each(|thread| assert!(is_cancelled(thread.join())));
    }
}
