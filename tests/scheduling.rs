//! The laws of the scheduler, seen from outside: nobody starves, nothing is lost, the started stay,
//! the unstarted cost nothing.

#![cfg(feature = "runtime")]

use std::cell::{Cell, RefCell};
use std::hint::spin_loop;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::net::{TcpListener, TcpStream};
use hebra::os::unix::net::{UnixDatagram, UnixStream};
#[cfg(not(hebra_sanitizer))]
use hebra::thread::Builder;
use hebra::thread::{self, Cancelled, JoinHandle, Thread};

use support::{bounded, child, is_child, on_workers, passes_in_child, wait_until};

mod support;

/// Keeps the worker until something has come about that only another can bring about; `false` if
/// that takes absurdly long.
fn spin_until(condition: impl Fn() -> bool) -> bool {
    let patience = Instant::now() + Duration::from_secs(30);
    while !condition() {
        if Instant::now() > patience {
            return false;
        }
        spin_loop();
    }
    true
}

/// Spawns a thread that another worker takes, as the caller does not give way before it has
/// started.
fn spawn_elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let started = Arc::new(AtomicBool::new(false));
    let (set, here) = (started.clone(), std::thread::current().id());
    let handle = thread::spawn(move || {
        assert_ne!(std::thread::current().id(), here);
        set.store(true, SeqCst);
        f()
    });
    assert!(
        spin_until(|| started.load(SeqCst)),
        "no worker has taken it"
    );
    handle
}

/// An address where an OS thread sends without end and takes what it is sent, until its peer is
/// gone.
fn firehose() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut drain = stream.try_clone().unwrap();
        let drain = std::thread::spawn(move || io::copy(&mut drain, &mut io::sink()));
        while stream.write_all(&[7; 1 << 16]).is_ok() {}
        drop(drain.join());
    });
    address
}

// Nobody starves

#[test]
fn who_yields_who_sleeps_who_parks_and_who_talks_all_get_on() {
    on_workers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicUsize::new(0));
        let end = || {
            let ended = ended.clone();
            move || {
                ended.fetch_add(1, SeqCst);
            }
        };
        let (sleeper, echo, parked) = (end(), end(), end());
        thread::spawn(move || {
            (0..50).for_each(|_| thread::sleep(Duration::from_millis(1)));
            sleeper();
        });
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).unwrap() > 0 {
                stream.write_all(&byte).unwrap();
            }
            echo();
        });
        let parker = thread::spawn(move || {
            (0..50).for_each(|_| thread::park());
            parked();
        });
        let (unparks, all_ended) = (parker.thread().clone(), ended.clone());
        let os = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            for n in 0..200 {
                stream.write_all(&[n]).unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                assert_eq!(byte, [n]);
            }
            drop(stream);
            while all_ended.load(SeqCst) < 3 {
                unparks.unpark();
                std::thread::yield_now();
            }
        });
        // This one never does anything but yield.
        wait_until(|| ended.load(SeqCst) == 3);
        os.join().unwrap();
    });
}

#[test]
fn a_connection_that_always_has_data_does_not_starve_its_neighbours() {
    bounded(|| {
        let address = firehose();
        on_workers(1, || {
            let done = Arc::new(AtomicBool::new(false));
            let until = done.clone();
            let busy = thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let mut reads = 0;
                while !until.load(SeqCst) {
                    // So little at a time that there is always more.
                    stream.read_exact(&mut [0; 16]).unwrap();
                    reads += 1;
                }
                reads
            });
            let mut turns = 0;
            while turns < 200 {
                thread::yield_now();
                turns += 1;
            }
            (0..20).for_each(|_| thread::sleep(Duration::from_millis(1)));
            done.store(true, SeqCst);
            assert!(busy.join().unwrap() > 200);
        });
    });
}

#[test]
fn a_listener_that_always_has_connections_does_not_starve_its_neighbours() {
    on_workers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let until = done.clone();
        let connects = std::thread::spawn(move || {
            while !until.load(SeqCst) {
                drop(std::net::TcpStream::connect(address));
            }
        });
        let until = done.clone();
        let accepts = thread::spawn(move || {
            while !until.load(SeqCst) {
                drop(listener.accept().unwrap());
            }
        });
        (0..100).for_each(|_| thread::sleep(Duration::from_micros(100)));
        done.store(true, SeqCst);
        connects.join().unwrap();
        // One more, for an acceptor that waits.
        drop(std::net::TcpStream::connect(address));
        accepts.join().unwrap();
    });
}

#[test]
fn who_has_begun_to_talk_without_end_does_not_keep_what_has_come_for_others_waiting() {
    // Far more than go into the time after which a busy worker looks at its sockets, and far fewer
    // than go into a turn of its loop in which everybody makes as many as one may in a row.
    const ENOUGH: usize = 1_000;
    on_workers(1, || {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (talker, other_end) = UnixDatagram::pair().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let so_far = calls.clone();
        let reader = thread::spawn(move || {
            near.read_exact(&mut [0]).unwrap();
            so_far.load(SeqCst)
        });
        // Now the worker knows of short turns only.
        support::run_the_others();
        far.write_all(b"x").unwrap();
        while !reader.is_finished() {
            talker.send(b"x").unwrap();
            other_end.recv(&mut [0]).unwrap();
            calls.fetch_add(2, SeqCst);
        }
        assert!(reader.join().unwrap() < ENOUGH);
    });
}

#[test]
fn threads_that_yield_for_ever_do_not_keep_others_from_starting() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let done = Arc::new(AtomicBool::new(false));
            for _ in 0..200 {
                let until = done.clone();
                thread::spawn(move || wait_until(|| until.load(SeqCst)));
            }
            for _ in 0..20 {
                thread::yield_now();
                let started = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
                let [shared, local] = started.clone();
                thread::spawn(move || shared.store(true, SeqCst));
                thread::spawn_local(move || local.store(true, SeqCst));
                wait_until(|| started.iter().all(|started| started.load(SeqCst)));
            }
            done.store(true, SeqCst);
        });
    }
}

#[test]
fn yield_now_runs_every_fresh_local_thread_once() {
    for workers in [1, 2] {
        on_workers(workers, || {
            for fresh in (1..40).chain([1_000]) {
                let ran = Rc::new(Cell::new(0));
                for _ in 0..fresh {
                    let ran = ran.clone();
                    thread::spawn_local(move || ran.set(ran.get() + 1));
                }
                thread::yield_now();
                assert_eq!(ran.get(), fresh, "{workers} workers");
            }
        });
    }
}

#[test]
fn yield_now_runs_every_fresh_thread_once() {
    on_workers(1, || {
        for fresh in (1..40).chain([1_000]) {
            let ran = Arc::new(AtomicUsize::new(0));
            for _ in 0..fresh {
                let ran = ran.clone();
                thread::spawn(move || ran.fetch_add(1, SeqCst));
            }
            thread::yield_now();
            assert_eq!(ran.load(SeqCst), fresh);
        }
    });
}

#[test]
fn ready_and_unstarted_threads_run_in_order() {
    for workers in [1, 2] {
        on_workers(workers, || {
            // With two workers the other one may take what is not local.
            let shared = workers == 1;
            let order = Arc::new(Mutex::new(Vec::new()));
            let note = |n: usize| {
                let order = order.clone();
                move || order.lock().unwrap().push(n)
            };
            let parked = [1, 4].map(|n| {
                let note = note(n);
                thread::spawn_local(move || {
                    thread::park();
                    note();
                })
            });
            thread::yield_now();
            for round in 0..2 {
                if shared {
                    thread::spawn(note(10 * round));
                }
                if round == 0 {
                    parked[0].thread().unpark();
                }
                thread::spawn_local(note(10 * round + 2));
                if shared {
                    thread::spawn(note(10 * round + 3));
                }
                if round == 0 {
                    parked[1].thread().unpark();
                }
                thread::spawn_local(note(10 * round + 5));
            }
            thread::yield_now();
            let expected: &[usize] = if shared {
                &[0, 1, 2, 3, 4, 5, 10, 12, 13, 15]
            } else {
                &[1, 2, 4, 5, 12, 15]
            };
            assert_eq!(*order.lock().unwrap(), expected);
        });
    }
}

#[test]
fn fresh_threads_and_their_heirs_let_each_other_run() {
    // Each starts its successor: that comes after all that could run before.
    fn heirs(left: usize, order: Rc<RefCell<Vec<usize>>>) {
        if left > 0 {
            order.borrow_mut().push(left);
            thread::spawn_local(move || heirs(left - 1, order));
        }
    }
    on_workers(1, || {
        let order = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..3 {
            let order = order.clone();
            thread::spawn_local(move || heirs(50, order));
        }
        (0..50).for_each(|_| thread::yield_now());
        let expected: Vec<usize> = (1..=50).rev().flat_map(|n| [n; 3]).collect();
        assert_eq!(*order.borrow(), expected);
    });
}

#[test]
fn threads_from_outside_start_beside_busy_ones() {
    for workers in [1, 2] {
        let runtime = hebra::Runtime::new(hebra::Config::default().workers(workers)).unwrap();
        let handle = runtime.handle();
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let started = Arc::new(AtomicUsize::new(0));
        let count = started.clone();
        let outside = std::thread::spawn(move || {
            for _ in asked {
                let count = count.clone();
                handle.spawn(move || count.fetch_add(1, SeqCst));
            }
        });
        bounded(|| {
            runtime.run(|| {
                for _ in 0..70 {
                    let started = started.clone();
                    thread::spawn(move || wait_until(|| started.load(SeqCst) >= 100));
                }
                (0..100).for_each(|_| ask.send(()).unwrap());
                wait_until(|| started.load(SeqCst) >= 100);
                drop(ask);
            })
        });
        outside.join().unwrap();
    }
}

#[test]
fn who_talks_for_ever_does_not_keep_others_from_starting() {
    on_workers(1, || {
        let (talker, other_end) = UnixDatagram::pair().unwrap();
        let others: Vec<_> = (0..100).map(|n| thread::spawn(move || n)).collect();
        while !others.iter().all(JoinHandle::is_finished) {
            talker.send(b"x").unwrap();
            other_end.recv(&mut [0]).unwrap();
        }
        assert!(
            others
                .into_iter()
                .map(|other| other.join().unwrap())
                .eq(0..100)
        );
    });
}

// Placement

#[test]
fn two_that_must_run_at_once_do() {
    on_workers(2, || {
        let arrived = Arc::new(AtomicUsize::new(0));
        let threads = [(); 2].map(|()| {
            let arrived = arrived.clone();
            thread::spawn(move || {
                arrived.fetch_add(1, SeqCst);
                spin_until(|| arrived.load(SeqCst) == 2)
            })
        });
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
}

#[test]
fn whichever_worker_is_idle_takes_what_another_has_spawned() {
    on_workers(2, || {
        for _ in 0..200 {
            // The calling worker is idle while it joins; the one it has spawned on keeps its own.
            let taken = spawn_elsewhere(|| {
                let child = spawn_elsewhere(|| std::thread::current().id());
                child.join().unwrap()
            });
            assert_eq!(taken.join().unwrap(), std::thread::current().id());
        }
    });
}

#[test]
fn all_that_are_unstarted_are_taken_from_a_worker_that_is_busy() {
    on_workers(2, || {
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..1000 {
            let ran = ran.clone();
            thread::spawn(move || {
                ran.fetch_add(1, SeqCst);
                thread::yield_now();
            });
        }
        assert!(spin_until(|| ran.load(SeqCst) == 1000));
    });
}

#[test]
fn an_unstarted_thread_is_taken_though_whoever_was_roused_for_it_has_work() {
    on_workers(3, || {
        for _ in 0..50 {
            let ran = Arc::new(AtomicBool::new(false));
            let until = [ran.clone(), ran.clone()];
            // Parked on one of the other two workers, and busy from the moment it is unparked.
            let busy = until.map(|until| {
                spawn_elsewhere(move || {
                    thread::park();
                    spin_until(|| until.load(SeqCst))
                })
            });
            // Both sleep by now, or will before long; either way one of the three is idle.
            thread::sleep(Duration::from_micros(200));
            let set = ran.clone();
            thread::spawn(move || set.store(true, SeqCst));
            busy[0].thread().unpark();
            assert!(spin_until(|| ran.load(SeqCst)));
            busy[1].thread().unpark();
            assert!(busy.into_iter().all(|busy| busy.join().unwrap()));
        }
    });
}

#[test]
fn the_started_stay_wherever_they_are_woken_from() {
    on_workers(2, || {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let body = || {
                    let home = std::thread::current().id();
                    for _ in 0..100 {
                        thread::park();
                        assert_eq!(std::thread::current().id(), home);
                    }
                    home
                };
                thread::spawn(body)
            })
            .collect();
        let handles: Vec<Thread> = threads
            .iter()
            .map(|thread| thread.thread().clone())
            .collect();
        let done = Arc::new(AtomicBool::new(false));
        // From both workers and from an OS thread.
        let (until, unparked) = (done.clone(), handles.clone());
        let os = std::thread::spawn(move || {
            while !until.load(SeqCst) {
                unparked.iter().for_each(Thread::unpark);
            }
        });
        let until = done.clone();
        spawn_elsewhere(move || {
            while !until.load(SeqCst) {
                handles.iter().for_each(Thread::unpark);
                thread::yield_now();
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        done.store(true, SeqCst);
        os.join().unwrap();
    });
}

// Nothing is lost

#[test]
fn no_unpark_from_os_threads_is_lost_under_load() {
    const GREEN: usize = 40;
    const OS: usize = 4;
    const TIMES: usize = 3_000;

    for workers in [1, 2] {
        on_workers(workers, || {
            let counts: Arc<[AtomicUsize]> = (0..GREEN).map(|_| AtomicUsize::new(0)).collect();
            let threads: Vec<_> = (0..GREEN)
                .map(|n| {
                    let counts = counts.clone();
                    thread::spawn(move || {
                        while counts[n].load(SeqCst) < OS * TIMES {
                            thread::park();
                        }
                    })
                })
                .collect();
            let handles: Arc<[Thread]> = threads
                .iter()
                .map(|thread| thread.thread().clone())
                .collect();
            let os = [(); OS].map(|()| {
                let (counts, handles) = (counts.clone(), handles.clone());
                std::thread::spawn(move || {
                    for _ in 0..TIMES {
                        for (count, handle) in counts.iter().zip(&*handles) {
                            count.fetch_add(1, SeqCst);
                            handle.unpark();
                        }
                    }
                })
            });
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            os.into_iter().for_each(|os| os.join().unwrap());
        });
    }
}

#[test]
fn no_unpark_of_a_sleeping_worker_is_lost() {
    on_workers(1, || {
        // All are parked each time, so the worker goes to sleep just when the next unpark comes.
        let turn = Arc::new(AtomicUsize::new(0));
        let (me, answer) = (thread::current(), turn.clone());
        let os = std::thread::spawn(move || {
            for round in 0..20_000_usize {
                while answer.load(SeqCst) < 2 * round {
                    spin_loop();
                }
                (0..round % 500).for_each(|_| spin_loop());
                answer.store(2 * round + 1, SeqCst);
                me.unpark();
            }
        });
        for round in 0..20_000 {
            while turn.load(SeqCst) < 2 * round + 1 {
                thread::park();
            }
            turn.store(2 * round + 2, SeqCst);
        }
        os.join().unwrap();
    });
}

#[test]
fn two_workers_play_ping_pong_a_hundred_thousand_times() {
    on_workers(2, || {
        const ROUNDS: usize = 100_000;
        let ball = Arc::new(AtomicUsize::new(0));
        let play = |mine: usize, ball: Arc<AtomicUsize>, other: Thread| {
            for round in 0..ROUNDS {
                while ball.load(SeqCst) < 2 * round + mine {
                    thread::park();
                }
                ball.store(2 * round + mine + 1, SeqCst);
                other.unpark();
            }
        };
        let (there, me) = (ball.clone(), thread::current());
        let other = spawn_elsewhere(move || play(1, there, me));
        play(0, ball.clone(), other.thread().clone());
        other.join().unwrap();
        assert_eq!(ball.load(SeqCst), 2 * ROUNDS);
    });
}

#[test]
fn a_worker_that_sleeps_until_a_far_deadline_learns_of_a_nearer_one() {
    on_workers(2, || {
        let far = spawn_elsewhere(|| thread::sleep(Duration::from_secs(3600)));
        let near = spawn_elsewhere(|| {
            for _ in 0..20 {
                thread::park();
                thread::sleep(Duration::from_micros(300));
            }
        });
        while !near.is_finished() {
            near.thread().unpark();
            thread::sleep(Duration::from_micros(500));
        }
        near.join().unwrap();
        assert!(!far.is_finished());
    });
}

// Memory

/// Mappings of this process, and kilobytes of its address space and of its memory.
#[cfg(not(hebra_sanitizer))]
fn memory() -> [usize; 3] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mappings = std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count();
    [mappings, field("VmSize:"), field("VmRSS:")]
}

// A sanitizer keeps what was freed, and a million of anything takes it minutes.
#[cfg(not(hebra_sanitizer))]
#[test]
fn a_million_unstarted_threads_have_no_stacks() {
    bounded(|| {
        if is_child() {
            return on_workers(1, || {
                let ran = Arc::new(AtomicUsize::new(0));
                let before = memory();
                for _ in 0..1_000_000 {
                    let ran = ran.clone();
                    thread::spawn(move || {
                        ran.fetch_add(1, SeqCst);
                    });
                }
                let unstarted = memory();
                assert_eq!(ran.load(SeqCst), 0);
                wait_until(|| ran.load(SeqCst) == 1_000_000);
                // They have taken turns on a few stacks.
                for now in [unstarted, memory()] {
                    let grown = [0, 1, 2].map(|each| now[each].saturating_sub(before[each]));
                    assert!(
                        grown[0] < 100 && grown[1] < 1 << 20 && grown[2] < 600 << 10,
                        "{before:?} {now:?}"
                    );
                }
            });
        }
        let output = child("a_million_unstarted_threads_have_no_stacks", &[]);
        assert!(output.status.success(), "{output:?}");
    });
}

// A sanitizer makes mappings of its own.
#[cfg(not(hebra_sanitizer))]
#[test]
fn ten_thousand_guarded_stacks_are_few_mappings() {
    bounded(|| {
        if is_child() {
            return on_workers(2, || {
                let asleep = Arc::new(AtomicUsize::new(0));
                for _ in 0..10_000 {
                    let asleep = asleep.clone();
                    thread::spawn(move || {
                        asleep.fetch_add(1, SeqCst);
                        thread::sleep(Duration::from_secs(3600));
                    });
                }
                wait_until(|| asleep.load(SeqCst) == 10_000);
                println!("{} mappings", memory()[0]);
            });
        }
        let output = child("ten_thousand_guarded_stacks_are_few_mappings", &[]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let mappings = text
            .lines()
            .find_map(|line| line.strip_suffix(" mappings"))
            .unwrap();
        let mappings: usize = mappings.rsplit(' ').next().unwrap().parse().unwrap();
        // Before Linux 6.13 each guard page is a mapping, and so is what lies between two of them.
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut version = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0_u32));
        let guards_are_free = [version.next(), version.next()] >= [Some(6), Some(13)];
        assert!(
            mappings < if guards_are_free { 200 } else { 20_400 },
            "{mappings} mappings"
        );
    });
}

#[test]
fn a_thousand_threads_work_where_guards_are_protected_pages() {
    bounded(|| {
        if is_child() {
            return on_workers(2, || {
                for _ in 0..3 {
                    let threads: Vec<_> = (0..1000)
                        .map(|n| {
                            thread::spawn(move || {
                                thread::sleep(Duration::from_millis(1));
                                n
                            })
                        })
                        .collect();
                    assert_eq!(
                        threads
                            .into_iter()
                            .map(|thread| thread.join().unwrap())
                            .sum::<i32>(),
                        499_500
                    );
                }
            });
        }
        let test = "a_thousand_threads_work_where_guards_are_protected_pages";
        let output = child(test, &[("HEBRA_STACK_GUARD", "mprotect")]);
        assert!(output.status.success(), "{output:?}");
    });
}

// A sanitizer makes mappings of its own.
#[cfg(not(hebra_sanitizer))]
#[test]
fn running_out_of_mappings_is_an_error_of_spawn_and_passes() {
    bounded(|| {
        if is_child() {
            return on_workers(1, || {
                let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
                let spawn = || Builder::new().stack_size(16 << 10).spawn(thread::park);
                let mut threads = Vec::new();
                let error = loop {
                    match spawn() {
                        Ok(thread) => threads.push(thread),
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
                assert!(
                    error.to_string().contains("max_map_count")
                        && error.to_string().contains(limit.trim()),
                    "{error}"
                );
                assert!(threads.len() > 1000, "{}", threads.len());
                // Again, for who cannot take an error, and for a thread that stays here: all
                // refused, none harmed.
                assert!(spawn().is_err());
                assert!(
                    Builder::new()
                        .stack_size(16 << 10)
                        .spawn_local(|| ())
                        .is_err()
                );
                assert!(std::panic::catch_unwind(|| thread::spawn(|| ())).is_err());
                // Those that have been promised a stack run on it, and when they have ended there
                // is room again.
                thread::yield_now();
                threads.iter().for_each(|thread| thread.thread().unpark());
                let count = threads.len();
                threads
                    .into_iter()
                    .for_each(|thread| thread.join().unwrap());
                let again: Vec<_> = (0..count).map(|_| spawn().unwrap()).collect();
                again.iter().for_each(|thread| thread.thread().unpark());
                again.into_iter().for_each(|thread| thread.join().unwrap());
                println!("{count} threads");
            });
        }
        let test = "running_out_of_mappings_is_an_error_of_spawn_and_passes";
        let output = child(test, &[("HEBRA_STACK_GUARD", "mprotect")]);
        assert!(output.status.success(), "{output:?}");
    });
}

#[test]
fn threads_promised_a_stack_and_never_started_give_it_back() {
    bounded(|| {
        if is_child() {
            return bounded(|| {
                for _ in 0..20 {
                    let handles = hebra::run(|| {
                        (0..10_000)
                            .map(|_| thread::spawn(thread::park))
                            .collect::<Vec<_>>()
                    });
                    assert!(
                        handles
                            .into_iter()
                            .all(|thread| thread.join().unwrap_err().is::<Cancelled>())
                    );
                }
            });
        }
        let test = "threads_promised_a_stack_and_never_started_give_it_back";
        let output = child(test, &[("HEBRA_STACK_GUARD", "mprotect")]);
        assert!(output.status.success(), "{output:?}");
    });
}

// All of it together

#[test]
fn a_mix_of_everything_on_two_workers_comes_out_right() {
    on_workers(2, || {
        let total = Arc::new(Mutex::new(0));
        let threads: Vec<_> = (0..500_u64)
            .map(|n| {
                let total = total.clone();
                thread::spawn(move || {
                    let child = thread::spawn(move || {
                        thread::sleep(Duration::from_micros(n % 300));
                        if n % 10 == 3 {
                            std::panic::resume_unwind(Box::new(n));
                        }
                        n
                    });
                    for _ in 0..n % 7 {
                        thread::yield_now();
                        thread::park_timeout(Duration::from_micros(n % 50));
                    }
                    let result = child
                        .join()
                        .unwrap_or_else(|payload| *payload.downcast().unwrap());
                    *total.lock().unwrap() += result;
                })
            })
            .collect();
        let handles: Vec<Thread> = threads
            .iter()
            .map(|thread| thread.thread().clone())
            .collect();
        let os = std::thread::spawn(move || {
            (0..50).for_each(|_| handles.iter().for_each(Thread::unpark))
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        os.join().unwrap();
        assert_eq!(*total.lock().unwrap(), (0..500).sum());
    });
}

/// Whether all other OS threads of this process sleep.
fn all_others_sleep() -> bool {
    let me = rustix::thread::gettid().to_string();
    std::fs::read_dir("/proc/self/task").unwrap().all(|task| {
        let path = task.unwrap().path();
        // One that ends meanwhile does not sleep yet.
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        path.ends_with(&me) || stat.rsplit(')').next().unwrap().starts_with(" S")
    })
}

#[test]
fn who_is_roused_for_a_thread_leaves_no_other_worker_asleep_beside_the_next_one() {
    if !is_child() {
        return bounded(|| {
            passes_in_child(
                "who_is_roused_for_a_thread_leaves_no_other_worker_asleep_beside_the_next_one",
            )
        });
    }
    for workers in [2, 3] {
        let runtime = hebra::Runtime::new(hebra::Config::default().workers(workers)).unwrap();
        let handle = runtime.handle();
        let outside = move || {
            // It is one worker's turn after the other; and they race if the second does not wait
            // for the first to have begun.
            for round in 0..200 * workers {
                let race = round / workers % 2 == 1;
                wait_until(all_others_sleep);
                let (done, is_done) = std::sync::mpsc::channel();
                let (begun, has_begun) = std::sync::mpsc::channel();
                let first = handle.spawn(move || {
                    let _ = begun.send(());
                    // It keeps its worker from everybody else.
                    is_done.recv().unwrap();
                });
                if !race {
                    has_begun.recv().unwrap();
                }
                let second = handle.spawn(move || done.send(()).unwrap());
                first.join().unwrap();
                second.join().unwrap();
                (1..workers).for_each(|_| handle.spawn(|| ()).join().unwrap());
            }
        };
        bounded(|| runtime.run(|| hebra::blocking::unblock(outside)));
    }
}
