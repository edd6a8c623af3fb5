//! OS threads: std, with crossbeam's channels. Their stacks are of the default size.

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::{
    Crowd, LONG, MPMC_CAPACITY, Measured, Metrics, PARKED, SIDES, Sleepers, Window, count_yield, late, times, twice, warm,
    yields_go_on,
};
use crate::parameters::Parameters;
use crate::support::stats::ns_each;

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    let threads = parameters.get_or("threads", 0);
    let count = parameters.get_or("count", 0);
    Some(match workload {
        "spawn" => twice(|| spawn(threads, parameters.get("wave"))),
        "yield" => yields(threads, count),
        "ping-pong" => warm(count, ping_pong),
        "mpmc" => warm(count, mpmc),
        "mutex" => warm(count, |count| mutex(threads, count)),
        "sleepers" => sleep_all(threads),
        "memory" => {
            let crowd = Crowd::new(threads);
            fall_asleep(&crowd);
            crowd.weigh().print_and_exit()
        }
        _ => return None,
    })
}

fn spawn(threads: u64, wave: u64) -> f64 {
    let mut handles = Vec::with_capacity(wave as usize);
    ns_each(threads, || {
        for start in (0..threads).step_by(wave as usize) {
            handles.extend((start..start + wave).map(|i| thread::spawn(move || i)));
            for handle in handles.drain(..) {
                black_box(handle.join().expect("it does not panic"));
            }
        }
    })
}

fn yields(threads: u64, count: u64) -> Metrics {
    for _ in 1..threads {
        thread::spawn(|| {
            while yields_go_on() {
                count_yield();
                thread::yield_now();
            }
        });
    }
    let mut window = Window::new(threads, count);
    loop {
        if let Some(ns) = window.turn() {
            Metrics::ns(ns).print_and_exit();
        }
        thread::yield_now();
    }
}

fn ping_pong(count: u64) -> f64 {
    let (to, from_us) = bounded(1);
    let (to_us, from) = bounded(1);
    let echo = thread::spawn(move || {
        while let Ok(message) = from_us.recv() {
            to_us.send(message).expect("who sends receives");
        }
    });
    let ns = ns_each(count, || {
        for i in 0..count {
            to.send(i).expect("it echoes until we are gone");
            assert_eq!(from.recv(), Ok(i));
        }
    });
    drop(to);
    echo.join().expect("it does not panic");
    ns
}

fn mpmc(count: u64) -> f64 {
    let (sender, receiver) = bounded(MPMC_CAPACITY);
    let mut received = 0;
    let ns = ns_each(count, || {
        let producer = |_| {
            let sender = sender.clone();
            thread::spawn(move || (0..count / SIDES).for_each(|i| sender.send(i).expect("there are consumers")))
        };
        let producers: Vec<_> = (0..SIDES).map(producer).collect();
        let consumer = |_| {
            let receiver = receiver.clone();
            thread::spawn(move || {
                receiver.iter().fold(0_u64, |count, message| count + u64::from(black_box(message) < u64::MAX))
            })
        };
        let consumers: Vec<_> = (0..SIDES).map(consumer).collect();
        producers.into_iter().for_each(|producer| producer.join().expect("it does not panic"));
        drop((sender, receiver));
        received = consumers.into_iter().map(|consumer| consumer.join().expect("it does not panic")).sum();
    });
    assert_eq!(received, count / SIDES * SIDES, "no message is lost");
    ns
}

fn mutex(threads: u64, count: u64) -> f64 {
    let each = count / threads;
    let number = Mutex::new(0);
    let ns = ns_each(each * threads, || {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|_| *number.lock().expect("nobody panics") += 1));
            }
        });
    });
    assert_eq!(number.into_inner().expect("nobody panics"), each * threads);
    ns
}

fn sleep_all(threads: u64) -> Metrics {
    let all = Sleepers::new();
    let spawn = |time| {
        thread::spawn(move || {
            let start = Instant::now();
            thread::sleep(time);
            late(start, time)
        })
    };
    let sleepers: Vec<_> = times(threads).map(spawn).collect();
    all.joined(sleepers.into_iter().map(|sleeper| sleeper.join().expect("it does not panic")).collect())
}

/// Returns when all sleep.
fn fall_asleep(crowd: &Crowd) {
    for _ in 0..crowd.threads {
        thread::spawn(|| {
            PARKED.fetch_add(1, Relaxed);
            thread::sleep(LONG);
        });
    }
    while !crowd.is_there() {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(20));
}
