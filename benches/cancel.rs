//! What a time-out costs around a call that is healthy, and what it costs to cancel a crowd.
//!
//! `cargo bench --bench cancel -- [--quick]`. The floor of a call in a time-out is the same call
//! bare, in the same run; that of a cancelled sleeper is a panic that is caught at the bottom of a
//! stack of its own.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hebra::thread::{self, timeout};
use support::stats::{Samples, figure, interleave, ns_each, report, thousands};
use support::{Options, machine, process};

/// Never comes.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    let options = Options::from_args();
    match options.role.as_deref() {
        Some("time-out") => time_out(&options),
        Some("crowd") => crowd(options.numbers(&[])[0], &options),
        Some(role) => panic!("cancel has no role {role}"),
        None => {
            process::run_in_role("time-out", &[], &options)?;
            process::run_in_role(
                "crowd",
                &[options.pick(100_000, 10_000).to_string()],
                &options,
            )?;
        }
    }
    Ok(())
}

fn time_out(options: &Options) {
    machine::pin(machine::SERVER_CPU);
    // Short rounds, many of them: some are not disturbed.
    let rounds = options.pick(501, 51);
    let count = 20_000;
    let compare = |what: &str, call: fn()| {
        let with = || {
            ns_each(count, || {
                (0..count)
                    .for_each(|_| timeout(LIMIT, || black_box(call)()).expect("it is in time"))
            })
        };
        let bare = || ns_each(count, || (0..count).for_each(|_| black_box(call)()));
        let pair = interleave(rounds, with, bare);
        report(
            &format!("a time-out around a call that {what}"),
            "ns",
            &pair,
            "the call bare",
        );
        let (with, bare) = (pair.0.quantile(0.0), pair.1.quantile(0.0));
        println!(
            "    it adds, by the best rounds, {} ns",
            figure(with - bare)
        );
    };
    support::runtime(1).run(|| {
        compare("does not park", || ());
        compare("yields once", thread::yield_now);
        let pinger = thread::spawn(unpark_for_ever(thread::current()));
        PINGED.set(pinger.thread().clone()).expect("it is set once");
        compare("parks once", || {
            PINGED.get().expect("it is set").unpark();
            thread::park();
        });
    });
    println!("on a plain OS thread");
    compare("does not park", || ());
}

static PINGED: std::sync::OnceLock<thread::Thread> = std::sync::OnceLock::new();

/// Unparks `peer` whenever it is unparked.
fn unpark_for_ever(peer: thread::Thread) -> impl FnOnce() {
    move || {
        loop {
            thread::park();
            peer.unpark();
        }
    }
}

/// Sleepers that have begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

fn sleep() {
    BEGUN.fetch_add(1, Relaxed);
    thread::sleep(LIMIT * 60);
}

/// ns of CPU time per thread to cancel `count` that sleep, and to join them.
fn crowd(count: usize, options: &Options) {
    machine::pin(machine::SERVER_CPU);
    let rounds = options.pick(7, 3);
    let (cancel, pair) = support::runtime(1).run(move || {
        let mut cancel = Samples::default();
        let ours = || {
            let sleepers: Vec<_> = (0..count).map(|_| thread::spawn(sleep)).collect();
            while BEGUN.load(Relaxed) < count {
                thread::yield_now();
            }
            BEGUN.store(0, Relaxed);
            let asked = cpu_ns_each(count, || {
                sleepers.iter().for_each(thread::JoinHandle::cancel)
            });
            let joined = cpu_ns_each(count, || {
                for sleeper in sleepers {
                    sleeper.join().expect_err("it was cancelled");
                }
            });
            cancel.push(asked);
            asked + joined
        };
        let pair = interleave(rounds, ours, || catch_panics(count));
        (cancel, pair)
    });
    report(
        &format!("cancelling and joining {} sleepers, CPU", thousands(count)),
        "ns each",
        &pair,
        "an unwinding caught",
    );
    println!("    of it to ask for it {} ns", figure(cancel.median()));
}

/// ns of CPU time per unwinding to the caller, without the panic hook.
fn catch_panics(count: usize) -> f64 {
    #[inline(never)]
    fn unwind() {
        panic::resume_unwind(Box::new(()));
    }

    cpu_ns_each(count, || {
        for _ in 0..count {
            let _ = black_box(panic::catch_unwind(unwind));
        }
    })
}

fn cpu_ns_each(count: usize, work: impl FnOnce()) -> f64 {
    let before = machine::cpu_time();
    work();
    (machine::cpu_time() - before).as_nanos() as f64 / count as f64
}
