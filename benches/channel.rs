//! Channels: what it costs to hand a message over, and what a channel weighs.
//!
//! `cargo bench --bench channel -- [--quick]`. The floor of the hand-overs is the least imaginable:
//! coroutines of corosensei, a run queue and a `VecDeque` on one OS thread, without locks,
//! cancellation or safety. That of a ready select is one lock of std's.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hebra::channel::{self, Receiver, Sender, select};
use hebra::thread::{self, JoinHandle};
use support::stats::{figure, interleave, ns_each, report};
use support::{Options, hand_over, machine};

fn main() {
    let options = Options::from_args();
    let everywhere = rustix::thread::sched_getaffinity(None);
    machine::pin(machine::SERVER_CPU);
    let rounds = options.pick(15, 3);
    let trips = options.pick(1_000_000, 100_000);
    let messages = options.pick(4_000_000, 400_000);

    let pair = interleave(
        rounds,
        || one_worker(move || ping_pong(1, trips)),
        || hand_over::ping_pong(trips),
    );
    report(
        "ping-pong over two channels of capacity 1, one worker, a round trip",
        "ns",
        &pair,
        hand_over::NAME,
    );
    let pair = interleave(
        rounds,
        || one_worker(move || ping_pong(0, trips)),
        || hand_over::ping_pong(trips),
    );
    report(
        "ping-pong over two channels of capacity 0, one worker, a round trip",
        "ns",
        &pair,
        hand_over::NAME,
    );
    let pair = interleave(
        rounds,
        || one_worker(move || many(messages)),
        || hand_over::many(messages),
    );
    report(
        "4 producers and 4 consumers, capacity 128, one worker, a message",
        "ns",
        &pair,
        hand_over::NAME,
    );
    println!(
        "  that is {} million messages a second",
        figure(1e3 / pair.0.median())
    );
    let pair = interleave(
        rounds,
        || one_worker(move || select_of_four(trips)),
        || lock(trips),
    );
    report(
        "select! of four that are ready, and a send",
        "ns",
        &pair,
        "a lock of std's",
    );
    let pair = interleave(rounds, || uncontended(trips), || lock(trips));
    report(
        "send and recv, capacity 128, OS thread",
        "ns",
        &pair,
        "a lock of std's",
    );

    if let Ok(everywhere) = everywhere {
        rustix::thread::sched_setaffinity(None, &everywhere)
            .expect("the set was this thread's a moment ago");
    }
    let pair = interleave(
        rounds,
        || support::runtime(2).run(move || ping_pong(1, trips / 4)),
        || crossbeam_ping_pong(trips / 100),
    );
    report(
        "ping-pong over two channels of capacity 1, two workers, a round trip",
        "ns",
        &pair,
        "crossbeam, two OS threads",
    );
    let pair = interleave(
        rounds,
        || support::runtime(2).run(move || many(messages)),
        || crossbeam_many(messages),
    );
    report(
        "4 producers and 4 consumers, capacity 128, two workers, a message",
        "ns",
        &pair,
        "crossbeam, eight OS threads",
    );
    println!(
        "  that is {} million messages a second",
        figure(1e3 / pair.0.median())
    );
    let pair = interleave(
        rounds,
        || support::runtime(2).run(move || many_apart(messages)),
        || crossbeam_many(messages),
    );
    report(
        "the same with a worker for each side, a message",
        "ns",
        &pair,
        "crossbeam, eight OS threads",
    );
    println!(
        "  that is {} million messages a second",
        figure(1e3 / pair.0.median())
    );

    weigh(options.pick(1_000_000, 100_000));
    close(100_000);
}

fn one_worker(body: impl FnOnce() -> f64) -> f64 {
    support::runtime(1).run(body)
}

/// ns per round trip between two green threads.
fn ping_pong(capacity: usize, trips: u64) -> f64 {
    let (to, from_us) = channel::bounded(capacity);
    let (to_us, from) = channel::bounded(capacity);
    let echo = thread::spawn(move || echo(&from_us, &to_us));
    let ns = ns_each(trips, || {
        for i in 0..trips {
            to.send(i).expect("it echoes until we are gone");
            black_box(from.recv().expect("it echoes until we are gone"));
        }
    });
    drop(to);
    echo.join().expect("it does not panic");
    ns
}

fn echo(from: &Receiver<u64>, to: &Sender<u64>) {
    while let Ok(message) = from.recv() {
        to.send(message).expect("who sends receives");
    }
}

/// ns per message, with the threads where the runtime puts them.
fn many(messages: u64) -> f64 {
    let (sender, receiver) = channel::bounded(128);
    let start = Instant::now();
    let producers = [(); 4].map(|()| {
        let sender = sender.clone();
        thread::spawn(move || produce(&sender, messages / 4))
    });
    drop(sender);
    let consumers = [(); 4].map(|()| {
        let receiver = receiver.clone();
        thread::spawn(move || consume(&receiver))
    });
    until_all_are_received(messages, start, producers, consumers)
}

/// ns per message, with the producers on this worker and the consumers on another.
fn many_apart(messages: u64) -> f64 {
    let (sender, receiver) = channel::bounded(128);
    let begun = Arc::new(AtomicUsize::new(0));
    let consumers = [(); 4].map(|()| {
        let (receiver, begun) = (receiver.clone(), begun.clone());
        thread::spawn(move || {
            begun.fetch_add(1, SeqCst);
            consume(&receiver)
        })
    });
    // This worker has no time for them, so another takes them.
    while begun.load(SeqCst) < consumers.len() {
        spin_loop();
    }
    let start = Instant::now();
    let producers = [(); 4].map(|()| {
        let sender = sender.clone();
        thread::spawn_local(move || produce(&sender, messages / 4))
    });
    drop(sender);
    until_all_are_received(messages, start, producers, consumers)
}

fn produce(sender: &Sender<u64>, count: u64) {
    for i in 0..count {
        sender.send(i).expect("there are consumers");
    }
}

fn consume(receiver: &Receiver<u64>) -> u64 {
    let mut count = 0;
    while let Ok(message) = receiver.recv() {
        black_box(message);
        count += 1;
    }
    count
}

fn until_all_are_received(
    messages: u64,
    start: Instant,
    producers: [JoinHandle<()>; 4],
    consumers: [JoinHandle<u64>; 4],
) -> f64 {
    producers
        .into_iter()
        .for_each(|producer| producer.join().expect("it does not panic"));
    let received: u64 = consumers
        .into_iter()
        .map(|consumer| consumer.join().expect("it does not panic"))
        .sum();
    let ns = start.elapsed().as_nanos() as f64 / messages as f64;
    assert_eq!(received, messages, "no message is lost");
    ns
}

/// ns per `select!` and the send that makes its channel ready again.
fn select_of_four(count: u64) -> f64 {
    let channels: [_; 4] = std::array::from_fn(|_| channel::bounded(1));
    let [a, b, c, d] = channels.each_ref().map(|(_, receiver)| receiver);
    channels
        .iter()
        .for_each(|(sender, _)| sender.send(0).expect("there is room"));
    ns_each(count, || {
        for i in 0..count {
            let sender = select! {
                recv(a) -> _ => &channels[0].0,
                recv(b) -> _ => &channels[1].0,
                recv(c) -> _ => &channels[2].0,
                recv(d) -> _ => &channels[3].0,
            };
            sender.send(i).expect("there is room");
        }
    })
}

fn uncontended(count: u64) -> f64 {
    let (sender, receiver) = channel::bounded(128);
    ns_each(count, || {
        for i in 0..count {
            sender.send(i).expect("there is room");
            black_box(receiver.recv().expect("there is a message"));
        }
    })
}

fn lock(count: u64) -> f64 {
    let lock = Mutex::new(0_u64);
    ns_each(count, || {
        for _ in 0..count {
            *black_box(&lock).lock().expect("nobody panics") += 1;
        }
    })
}

fn crossbeam_ping_pong(trips: u64) -> f64 {
    let (to, from_us) = crossbeam_channel::bounded::<u64>(1);
    let (to_us, from) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            from_us
                .iter()
                .for_each(|message| to_us.send(message).expect("who sends receives"))
        });
        ns_each(trips, || {
            for i in 0..trips {
                to.send(i).expect("it echoes until we are gone");
                black_box(from.recv().expect("it echoes until we are gone"));
            }
            drop(to);
        })
    })
}

fn crossbeam_many(messages: u64) -> f64 {
    let (sender, receiver) = crossbeam_channel::bounded::<u64>(128);
    ns_each(messages, || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (sender, receiver) = (sender.clone(), receiver.clone());
                scope.spawn(move || {
                    (0..messages / 4).for_each(|i| sender.send(i).expect("there are consumers"))
                });
                scope.spawn(move || {
                    receiver.iter().for_each(|message| {
                        black_box(message);
                    })
                });
            }
            drop((sender, receiver));
        });
    })
}

/// What an idle channel holds of memory, with its two handles.
fn weigh(count: usize) {
    let heap = || machine::Memory::now().expect("there is /proc").heap as usize;
    let before = heap();
    let channels: Vec<_> = (0..count).map(|_| channel::bounded::<u64>(128)).collect();
    let fresh = heap() - before;
    for (sender, receiver) in &channels {
        sender.send(1).expect("there is room");
        receiver.recv().expect("there is a message");
    }
    let used = heap() - before;
    println!(
        "an idle channel with its handles: {} bytes; after one message {} bytes",
        fresh / count,
        used / count
    );
    drop(channels);
}

/// How long it takes until all of so many blocked green threads have seen that their channel is
/// closed.
fn close(count: usize) {
    let ns = one_worker(move || {
        let (sender, receiver) = channel::bounded::<u64>(0);
        let (blocked, all) = channel::unbounded();
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let (receiver, blocked) = (receiver.clone(), blocked.clone());
                thread::spawn(move || {
                    blocked.send(()).expect("somebody counts");
                    assert!(receiver.recv().is_err(), "nobody sends");
                    blocked.send(()).expect("somebody counts");
                })
            })
            .collect();
        assert_eq!(all.iter().take(count).count(), count);
        thread::yield_now();
        let start = Instant::now();
        drop(sender);
        let closed = start.elapsed();
        assert_eq!(all.iter().take(count).count(), count);
        let seen = start.elapsed();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("it does not panic"));
        println!(
            "closing a channel with {count} blocked green threads: {closed:?}, until all have seen it {seen:?}"
        );
        0.0
    });
    black_box(ns);
}
