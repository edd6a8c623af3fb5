//! Signals. Each test runs in a process of its own, as signals are the process's.

#![cfg(feature = "runtime")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hebra::signal::{self, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, Signals};
use hebra::thread;
use rustix::process::{Signal, getpid, kill_process};

use support::place::{Ball, on_another_worker};
use support::{bounded, child, is_child, on_workers, passes_in_child, wait_until};

mod support;

fn send(signal: i32) {
    kill_process(getpid(), Signal::from_named_raw(signal).unwrap()).unwrap();
}

/// Runs a test on one worker, on two, and on plain OS threads.
fn everywhere(test: impl Fn()) {
    on_workers(1, &test);
    on_workers(2, &test);
    bounded(&test);
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs the body of a test in a process of its own.
macro_rules! alone {
    ($name:ident) => {
        if !is_child() {
            bounded(|| passes_in_child(stringify!($name)));
            return;
        }
    };
}

#[test]
fn what_comes_before_the_wait_is_not_lost() {
    alone!(what_comes_before_the_wait_is_not_lost);
    everywhere(|| {
        let signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).unwrap();
        assert_eq!(signals.try_wait(), None);
        for signal in [SIGTERM, SIGUSR1, SIGINT] {
            send(signal);
        }
        let mut came: Vec<i32> = (0..3).map(|_| signals.wait().unwrap()).collect();
        came.sort();
        assert_eq!(came, [SIGINT, SIGUSR1, SIGTERM]);
        assert_eq!(signals.try_wait(), None);
    });
}

#[test]
fn of_a_thousand_signals_none_is_lost_by_any_listener() {
    alone!(of_a_thousand_signals_none_is_lost_by_any_listener);
    everywhere(|| {
        let one = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
        let other = Signals::new([SIGUSR1].iter()).unwrap();
        for _ in 0..1000 {
            send(SIGUSR1);
            assert_eq!(one.wait().unwrap(), SIGUSR1);
            assert_eq!(other.wait().unwrap(), SIGUSR1);
        }
        assert_eq!((one.try_wait(), other.try_wait()), (None, None));
    });
}

#[test]
fn a_waiting_thread_is_woken() {
    alone!(a_waiting_thread_is_woken);
    on_workers(1, || {
        let signals = Arc::new(Signals::new([SIGHUP]).unwrap());
        let there = signals.clone();
        let waits = thread::spawn(move || there.wait());
        thread::sleep(Duration::from_millis(5));
        assert!(!waits.is_finished());
        send(SIGHUP);
        assert_eq!(waits.join().unwrap().unwrap(), SIGHUP);
    });
}

#[test]
fn each_signal_goes_to_one_of_the_threads_that_wait() {
    alone!(each_signal_goes_to_one_of_the_threads_that_wait);
    let wait_for = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
    let send_all = || wait_for.into_iter().for_each(send);
    for _ in 0..50 {
        on_workers(2, || {
            let signals = Arc::new(Signals::new(wait_for).unwrap());
            let waiters = wait_for.map(|_| {
                let signals = signals.clone();
                thread::spawn(move || signals.wait().unwrap())
            });
            send_all();
            let came: BTreeSet<i32> = waiters
                .into_iter()
                .map(|waiter| waiter.join().unwrap())
                .collect();
            assert_eq!(came, BTreeSet::from(wait_for));
        });
        bounded(|| {
            let signals = Signals::new(wait_for).unwrap();
            let came: BTreeSet<i32> = std::thread::scope(|s| {
                let waiters = wait_for.map(|_| s.spawn(|| signals.wait().unwrap()));
                send_all();
                waiters
                    .into_iter()
                    .map(|waiter| waiter.join().unwrap())
                    .collect()
            });
            assert_eq!(came, BTreeSet::from(wait_for));
        });
    }
}

#[test]
fn a_listener_may_be_used_by_one_worker_after_the_other_and_by_os_threads() {
    alone!(a_listener_may_be_used_by_one_worker_after_the_other_and_by_os_threads);
    on_workers(2, || {
        let play = |ball: &Ball<Signals>, me: usize| {
            for _ in 0..100 {
                let signals = ball.take(me);
                let sender = thread::spawn(|| send(SIGUSR1));
                assert_eq!(signals.wait().unwrap(), SIGUSR1);
                sender.join().unwrap();
                ball.give(1 - me, signals);
            }
        };
        let ball = Ball::new();
        ball.give(0, Signals::new([SIGUSR1]).unwrap());
        let other = ball.clone();
        let other = on_another_worker(move || play(&other, 1));
        play(&ball, 0);
        other.join().unwrap();
        let signals = ball.take(0);
        send(SIGUSR1);
        let outside = std::thread::spawn(move || signals.wait().unwrap());
        wait_until(|| outside.is_finished());
        assert_eq!(outside.join().unwrap(), SIGUSR1);
    });
}

#[test]
fn a_wait_ends_when_time_is_up_and_takes_nothing() {
    alone!(a_wait_ends_when_time_is_up_and_takes_nothing);
    everywhere(|| {
        let signals = Signals::new([SIGUSR1]).unwrap();
        assert_eq!(
            signals
                .wait_timeout(Duration::from_millis(1))
                .unwrap_err()
                .kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(
            signals.wait_timeout(Duration::ZERO).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert!(thread::timeout(Duration::from_millis(1), || signals.wait()).is_err());
        send(SIGUSR1);
        assert_eq!(
            signals.wait_timeout(Duration::from_secs(1000)).unwrap(),
            SIGUSR1
        );
    });
}

#[test]
fn a_cancelled_wait_takes_nothing() {
    alone!(a_cancelled_wait_takes_nothing);
    on_workers(2, || {
        let signals = Arc::new(Signals::new([SIGUSR1]).unwrap());
        for _ in 0..200 {
            let there = signals.clone();
            let waits = thread::spawn(move || there.wait().unwrap());
            send(SIGUSR1);
            waits.cancel();
            match waits.join() {
                Ok(signal) => assert_eq!(signal, SIGUSR1),
                Err(_) => assert_eq!(signals.wait().unwrap(), SIGUSR1),
            }
        }
        assert_eq!(signals.try_wait(), None);
    });
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    alone!(what_cannot_be_waited_for_is_refused);
    for signal in [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        0,
        -1,
        65,
        1000,
    ] {
        let error = Signals::new([SIGUSR1, signal]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signal}: {error}");
    }
    assert!(!is_caught(SIGUSR1), "it was given back");
    assert_eq!(Signals::new([SIGTERM; 0]).unwrap().try_wait(), None);
}

#[test]
fn when_the_last_listener_goes_the_default_comes_back() {
    if is_child() {
        let (first, second) = (
            Signals::new([SIGTERM]).unwrap(),
            Signals::new([SIGTERM]).unwrap(),
        );
        drop(first);
        send(SIGTERM);
        assert_eq!(second.wait().unwrap(), SIGTERM);
        drop(second);
        assert!(Signals::new([SIGTERM, libc::SIGKILL]).is_err());
        send(SIGTERM);
        std::process::exit(1);
    }
    let output = bounded(|| child("when_the_last_listener_goes_the_default_comes_back", &[]));
    assert_eq!(output.status.signal(), Some(SIGTERM), "{output:?}");
}

#[test]
fn a_handler_that_was_there_before_is_called_too_and_stays() {
    alone!(a_handler_that_was_there_before_is_called_too_and_stays);
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(signal: i32) {
        assert_eq!(signal, SIGUSR2);
        CALLED.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: the handler touches an atomic only.
    unsafe { libc::signal(SIGUSR2, handler as *const () as usize) };
    everywhere(|| {
        let before = CALLED.load(Ordering::SeqCst);
        let signals = Signals::new([SIGUSR2]).unwrap();
        send(SIGUSR2);
        assert_eq!(signals.wait().unwrap(), SIGUSR2);
        wait_until(|| CALLED.load(Ordering::SeqCst) == before + 1);
        drop(signals);
        send(SIGUSR2);
        wait_until(|| CALLED.load(Ordering::SeqCst) == before + 2);
    });
}

#[test]
fn listeners_come_and_go_without_leaving_descriptors() {
    alone!(listeners_come_and_go_without_leaving_descriptors);
    let together = || {
        (0..10)
            .map(|_| Signals::new([SIGUSR1, SIGUSR2]).unwrap())
            .collect::<Vec<_>>()
    };
    drop(together());
    let before = open_descriptors();
    for _ in 0..100 {
        let listeners = together();
        send(SIGUSR1);
        assert!(
            listeners
                .iter()
                .all(|signals| signals.wait().unwrap() == SIGUSR1)
        );
        send(SIGUSR2);
        // Who listens last is told last.
        assert_eq!(listeners[9].wait().unwrap(), SIGUSR2);
    }
    assert_eq!(open_descriptors(), before);
    // What one listener has left is not the next one's.
    assert!(
        together()
            .iter()
            .all(|signals| signals.try_wait().is_none())
    );
}

#[test]
fn signals_disturb_nobody_who_reads_writes_or_sleeps() {
    alone!(signals_disturb_nobody_who_reads_writes_or_sleeps);
    on_workers(2, || {
        let signals = Signals::new([SIGUSR1]).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let listener = hebra::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap()
        });
        let sender = std::thread::spawn({
            let done = done.clone();
            move || {
                while !done.load(Ordering::SeqCst) {
                    send(SIGUSR1);
                    std::thread::yield_now();
                }
            }
        });
        let mut stream = hebra::net::TcpStream::connect(addr).unwrap();
        for n in 0..300_u32 {
            stream.write_all(&n.to_le_bytes()).unwrap();
            let mut back = [0; 4];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(u32::from_le_bytes(back), n);
            hebra::blocking::unblock(|| std::fs::read("/proc/self/comm").unwrap());
            thread::sleep(Duration::from_micros(10));
        }
        done.store(true, Ordering::SeqCst);
        drop(stream);
        echo.join().unwrap();
        sender.join().unwrap();
        assert_eq!(signals.wait().unwrap(), SIGUSR1);
        // The last ones may still be on their way, and would end the process if nobody listened any
        // more.
        std::mem::forget(signals);
    });
}

#[test]
fn the_first_ctrl_c_is_told_and_the_second_ends_the_process() {
    if is_child() {
        // What started this may ignore it, as a shell does for its jobs in the background.
        // SAFETY: there is no handler whose code could run at a bad moment.
        #[allow(unsafe_code)]
        unsafe {
            libc::signal(SIGINT, libc::SIG_DFL)
        };
        on_workers(1, || {
            let told = thread::spawn(signal::ctrl_c);
            // Until it is listened for it would end the process.
            wait_until(|| is_caught(SIGINT));
            send(SIGINT);
            told.join().unwrap().unwrap();
            send(SIGINT);
        });
        std::process::exit(1);
    }
    let output = bounded(|| {
        child(
            "the_first_ctrl_c_is_told_and_the_second_ends_the_process",
            &[],
        )
    });
    assert_eq!(output.status.signal(), Some(SIGINT), "{output:?}");
}

fn is_caught(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (signal - 1) != 0
}
