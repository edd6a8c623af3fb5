//! may, with stacks of its default size, 32 KiB: `go!`, `may::sync`, `coroutine::sleep`. Its channels have no bound.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use may::coroutine::{JoinHandle, sleep, yield_now};
use may::go;
use may::sync::{Mutex, mpmc, mpsc};

use super::{
    Crowd, LONG, Measured, Metrics, PARKED, SIDES, Sleepers, TIMEOUT, Window, count_yield, late, times, twice, warm,
    yields_go_on,
};
use crate::parameters::Parameters;
use crate::support::stats::ns_each;

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    let threads = parameters.get_or("threads", 0);
    let count = parameters.get_or("count", 0);
    let wave = parameters.get_or("wave", 0);
    may::config().set_workers(parameters.workers());
    Some(match workload {
        "spawn" => run(move || twice(|| spawn(threads, wave))),
        "yield" => run(move || yields(threads, count)),
        "ping-pong" => run(move || warm(count, |count| ping_pong(count, |from| from.recv().ok()))),
        "mpmc" => run(move || warm(count, mpmc)),
        "mutex" => run(move || warm(count, |count| mutex(threads, count))),
        "sleepers" => run(move || sleep_all(threads)),
        "memory" => run(move || {
            let crowd = Crowd::new(threads);
            fall_asleep(&crowd);
            crowd.weigh().print_and_exit()
        }),
        "timers" => run(move || {
            fall_asleep(&Crowd::new(threads));
            warm(count, |count| ping_pong(count, |from| from.recv_timeout(TIMEOUT).ok())).print_and_exit()
        }),
        _ => return None,
    })
}

fn run(work: impl FnOnce() -> Metrics + Send + 'static) -> Metrics {
    go!(work).join().expect("it does not panic")
}

fn spawn(threads: u64, wave: u64) -> f64 {
    let mut handles: Vec<JoinHandle<u64>> = Vec::with_capacity(wave as usize);
    ns_each(threads, || {
        for start in (0..threads).step_by(wave as usize) {
            handles.extend((start..start + wave).map(|i| go!(move || i)));
            for handle in handles.drain(..) {
                black_box(handle.join().expect("it does not panic"));
            }
        }
    })
}

fn yields(threads: u64, count: u64) -> Metrics {
    for _ in 1..threads {
        go!(|| {
            while yields_go_on() {
                count_yield();
                yield_now();
            }
        });
    }
    let mut window = Window::new(threads, count);
    loop {
        if let Some(ns) = window.turn() {
            return Metrics::ns(ns);
        }
        yield_now();
    }
}

fn ping_pong(count: u64, recv: impl Fn(&mpsc::Receiver<u64>) -> Option<u64> + Copy + Send + 'static) -> f64 {
    let (to, from_us) = mpsc::channel();
    let (to_us, from) = mpsc::channel();
    let echo = go!(move || {
        while let Some(message) = recv(&from_us) {
            to_us.send(message).expect("who sends receives");
        }
    });
    let ns = ns_each(count, || {
        for i in 0..count {
            to.send(i).expect("it echoes until we are gone");
            assert_eq!(recv(&from), Some(i));
        }
    });
    drop(to);
    echo.join().expect("it does not panic");
    ns
}

fn mpmc(count: u64) -> f64 {
    let (sender, receiver) = mpmc::channel();
    let mut received = 0;
    let ns = ns_each(count, || {
        let producer = |_| {
            let sender = sender.clone();
            go!(move || (0..count / SIDES).for_each(|i| sender.send(i).expect("there are consumers")))
        };
        let producers: Vec<_> = (0..SIDES).map(producer).collect();
        let consumer = |_| {
            let receiver = receiver.clone();
            go!(move || receiver.iter().fold(0_u64, |count, message| count + u64::from(black_box(message) < u64::MAX)))
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
    let number = Arc::new(Mutex::new(0));
    let ns = ns_each(each * threads, || {
        let adder = |_| {
            let number = number.clone();
            go!(move || (0..each).for_each(|_| *number.lock().expect("nobody panics") += 1))
        };
        let adders: Vec<_> = (0..threads).map(adder).collect();
        adders.into_iter().for_each(|adder| adder.join().expect("it does not panic"));
    });
    assert_eq!(*number.lock().expect("nobody panics"), each * threads);
    ns
}

fn sleep_all(threads: u64) -> Metrics {
    let all = Sleepers::new();
    let spawn = |time| {
        go!(move || {
            let start = Instant::now();
            sleep(time);
            late(start, time)
        })
    };
    let sleepers: Vec<_> = times(threads).map(spawn).collect();
    all.joined(sleepers.into_iter().map(|sleeper| sleeper.join().expect("it does not panic")).collect())
}

/// Returns when all sleep.
fn fall_asleep(crowd: &Crowd) {
    for _ in 0..crowd.threads {
        go!(|| {
            PARKED.fetch_add(1, Relaxed);
            sleep(LONG);
        });
    }
    while !crowd.is_there() {
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(20));
}
