//! The scheduler with random delays at each atomic step: spawns, joins, parks, locks, channels,
//! time-outs and cancellations between workers and OS threads, in a loop.
//!
//! Built with `--cfg hebra_chaos`, each atomic operation of the scheduler may take microseconds;
//! without it this is an ordinary stress test. `HEBRA_CHAOS_SECONDS` (2) is how long it runs,
//! `HEBRA_CHAOS_SEED` repeats the draws. The watchdog names the seed of a round that hangs.

#![cfg(feature = "runtime")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use hebra::channel;
use hebra::sync::{Condvar, Mutex, Semaphore};
use hebra::thread::{self, JoinSet};
use hebra::{Config, Handle, Runtime};

use support::random::{Random, rounds_for};

const FOR_EVER: Duration = Duration::from_secs(3600);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Spawns that nobody but a searching worker starts while this one computes.
fn spawn_and_join(random: &mut Random) {
    let count = 1 + random.below(16) as usize;
    let ended = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..count {
            let ended = &ended;
            s.spawn(move || {
                s.spawn(thread::yield_now);
                ended.fetch_add(1, SeqCst);
            });
            if random.one_in(4) {
                thread::yield_now();
            }
        }
    });
    assert_eq!(ended.load(SeqCst), count);
}

/// Two threads that wake each other by turns.
fn ping_pong(random: &mut Random) {
    let turns = 1 + random.below(40) as usize;
    let turn = AtomicUsize::new(0);
    let wait_for = |parity: usize| {
        for _ in 0..1_000_000 {
            if turn.load(SeqCst) % 2 == parity {
                return;
            }
            thread::park();
        }
        panic!("a million parks without a turn");
    };
    let first = thread::current();
    thread::scope(|s| {
        let second = s.spawn(|| {
            for _ in 0..turns {
                wait_for(1);
                turn.fetch_add(1, SeqCst);
                first.unpark();
            }
        });
        for _ in 0..turns {
            turn.fetch_add(1, SeqCst);
            second.thread().unpark();
            wait_for(0);
        }
    });
    assert_eq!(turn.load(SeqCst), 2 * turns);
}

/// An OS thread wakes a green one.
fn wake_from_outside(handle: &Handle) {
    let parked = handle.spawn(thread::park);
    let thread = parked.thread().clone();
    std::thread::spawn(move || thread.unpark()).join().unwrap();
    parked.join().unwrap();
}

fn locks(random: &mut Random) {
    let threads = 2 + random.below(6) as usize;
    let rounds = 1 + random.below(20) as usize;
    let value = Mutex::new(0);
    let semaphore = Semaphore::new(2);
    thread::scope(|s| {
        for _ in 0..threads {
            let switches = random.one_in(2);
            let (value, semaphore) = (&value, &semaphore);
            s.spawn(move || {
                for _ in 0..rounds {
                    let permit = semaphore.acquire().unwrap();
                    let mut value = value.lock().unwrap();
                    *value += 1;
                    if switches {
                        thread::yield_now();
                    }
                    drop(value);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(*value.lock().unwrap(), threads * rounds);
}

fn condvar(random: &mut Random) {
    let waiters = 1 + random.below(8) as usize;
    let tokens = Mutex::new(0);
    let changed = Condvar::new();
    thread::scope(|s| {
        let wait = || {
            let mut tokens = changed
                .wait_while(tokens.lock().unwrap(), |tokens| *tokens == 0)
                .unwrap();
            *tokens -= 1;
        };
        (0..waiters).for_each(|_| drop(s.spawn(wait)));
        for _ in 0..waiters {
            *tokens.lock().unwrap() += 1;
            changed.notify_one();
        }
    });
    assert_eq!(*tokens.lock().unwrap(), 0);
}

fn channels(random: &mut Random) {
    let (senders, messages) = (1 + random.below(4), 1 + random.below(30));
    let capacity = random.below(3) as usize;
    let (sender, receiver) = channel::bounded(capacity);
    let (other, others) = channel::unbounded();
    let sum = thread::scope(|s| {
        for _ in 0..senders {
            let (sender, other) = (sender.clone(), other.clone());
            s.spawn(move || {
                for message in 1..=messages {
                    sender.send(message).unwrap();
                    other.send(message).unwrap();
                }
            });
        }
        drop((sender, other));
        let mut sum = 0;
        for _ in 0..2 * senders * messages {
            sum += hebra::channel::select! {
                recv(receiver) -> message => message.unwrap_or_else(|_| others.recv().unwrap()),
                recv(others) -> message => message.unwrap_or_else(|_| receiver.recv().unwrap()),
            };
        }
        sum
    });
    assert_eq!(sum, senders * messages * (messages + 1));
}

fn timeouts_and_cancels(random: &mut Random) {
    let duration = Duration::from_micros(random.below(200));
    assert!(thread::timeout(duration, || thread::sleep(FOR_EVER)).is_err());
    let mut set = JoinSet::new();
    let count = 1 + random.below(8) as usize;
    for _ in 0..count {
        set.spawn(|| thread::sleep(FOR_EVER));
    }
    if random.one_in(2) {
        thread::yield_now();
    }
    set.cancel_all();
    for _ in 0..count {
        let result = set.join_next().expect("each is joined once");
        assert!(result.unwrap_err().is::<thread::Cancelled>());
    }
}

/// All workers sleep, and are woken by a spawn from outside.
fn sleep_and_wake(handle: &Handle, random: &mut Random) {
    thread::sleep(Duration::from_micros(random.below(300)));
    let ended = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|os| {
        for _ in 0..2 {
            let ended = ended.clone();
            os.spawn(move || {
                let spawned = handle.spawn(move || ended.fetch_add(1, SeqCst));
                spawned.join().unwrap();
            });
        }
    });
    assert_eq!(ended.load(SeqCst), 2);
}

#[test]
fn delayed_workers_lose_no_wake_up() {
    let seconds = number("HEBRA_CHAOS_SECONDS").unwrap_or(2);
    let seed = number("HEBRA_CHAOS_SEED").unwrap_or(1);
    println!("HEBRA_CHAOS_SEED={seed}");
    let seeds = AtomicUsize::new(0);
    let time = Duration::from_secs(seconds);
    rounds_for("delayed_workers_lose_no_wake_up", time, None, |_| {
        let number = seeds.fetch_add(1, SeqCst) as u64;
        let random = &mut Random::new(seed.wrapping_add(number));
        let workers = 2 + random.below(3) as usize;
        let runtime = Runtime::new(Config::default().workers(workers)).unwrap();
        let outside = runtime.start().unwrap();
        let seeds: Vec<u64> = (0..4).map(|_| random.next()).collect();
        let actor = |seed| {
            let random = &mut Random::new(seed);
            for _ in 0..20 {
                match random.below(7) {
                    0 => spawn_and_join(random),
                    1 => ping_pong(random),
                    2 => locks(random),
                    3 => condvar(random),
                    4 => channels(random),
                    5 => timeouts_and_cancels(random),
                    _ => wake_from_outside(&Handle::current()),
                }
            }
        };
        let threads: Vec<_> = seeds
            .iter()
            .map(|&seed| outside.spawn(move || actor(seed)))
            .collect();
        for _ in 0..20 {
            wake_from_outside(&outside);
            sleep_and_wake(&outside, random);
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}
