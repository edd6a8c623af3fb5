//! hebra, with stacks of the default size: `Generator`; `thread::spawn`, `channel::bounded`, `sync::Mutex`, `thread::sleep`.

use std::hint::black_box;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hebra::channel::{self, Receiver};
use hebra::sync::Mutex;
use hebra::{Config, Generator, Runtime, thread};

use super::{
    COLD_TURNS, Crowd, LONG, MPMC_CAPACITY, Measured, Metrics, PARKED, SIDES, Sleepers, TIMEOUT, Window, count_yield, late,
    timers, times, twice, warm, yields_go_on,
};
use crate::parameters::Parameters;
use crate::support::stats::ns_each;

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    let threads = parameters.get_or("threads", 0);
    let count = parameters.get_or("count", 0);
    let on = |work: &(dyn Fn() -> Metrics + Sync)| {
        let runtime = Runtime::new(Config::default().workers(parameters.workers()));
        runtime.expect("a runtime needs an epoll descriptor, an eventfd and its OS threads").run(work)
    };
    Some(match workload {
        "switch" => warm(count, switch),
        "create" => warm(count, create),
        "create-fresh" => Metrics::ns(create_fresh(threads)),
        "cold" => cold(threads),
        "spawn" => on(&|| twice(|| spawn(threads, parameters.get("wave")))),
        "yield" => on(&|| yields(threads, count)),
        "ping-pong" => on(&|| warm(count, |count| ping_pong(count, |from| from.recv().ok()))),
        "mpmc" => on(&|| warm(count, mpmc)),
        "mutex" => on(&|| warm(count, |count| mutex(threads, count))),
        "sleepers" => on(&|| sleep_all(threads)),
        "memory" => on(&|| {
            let crowd = Crowd::new(threads);
            fall_asleep(&crowd);
            crowd.weigh().print_and_exit()
        }),
        "timers" => on(&|| {
            fall_asleep(&Crowd::new(threads));
            timers(count, |count| ping_pong(count, |from| from.recv_timeout(TIMEOUT).ok()), reset).print_and_exit()
        }),
        _ => return None,
    })
}

fn counter() -> Generator<(), u64, ()> {
    Generator::new(|y, ()| {
        let mut next = 0_u64;
        loop {
            y.yield_(next);
            next = next.wrapping_add(1);
        }
    })
}

fn switch(count: u64) -> f64 {
    let mut numbers = counter();
    ns_each(count, || {
        for _ in 0..count {
            black_box(numbers.resume(()));
        }
    })
}

fn create(count: u64) -> f64 {
    ns_each(count, || {
        for i in 0..count {
            black_box(Generator::<(), (), u64>::new(move |_, ()| i).resume(()));
        }
    })
}

fn counters(threads: u64) -> Vec<Generator<(), u64, ()>> {
    let mut counters = Vec::with_capacity(threads as usize);
    counters.extend((0..threads).map(|_| {
        let mut counter = counter();
        counter.resume(());
        counter
    }));
    counters
}

fn create_fresh(threads: u64) -> f64 {
    ns_each(threads, || mem::forget(black_box(counters(threads))))
}

fn cold(threads: u64) -> Metrics {
    let mut counters = counters(threads);
    let mut turn = || counters.iter_mut().for_each(|counter| _ = black_box(counter.resume(())));
    turn();
    let metrics = Metrics::ns(ns_each(threads * COLD_TURNS as u64, || (0..COLD_TURNS).for_each(|_| turn())));
    mem::forget(counters);
    metrics
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
            return Metrics::ns(ns);
        }
        thread::yield_now();
    }
}

fn ping_pong(count: u64, recv: impl Fn(&Receiver<u64>) -> Option<u64> + Copy + Send + 'static) -> f64 {
    let (to, from_us) = channel::bounded(1);
    let (to_us, from) = channel::bounded(1);
    let echo = thread::spawn(move || {
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

/// ns to end a wait and begin it anew.
fn reset(count: u64) -> f64 {
    let resets = Arc::new(AtomicU64::new(0));
    let done = resets.clone();
    let sleeper = thread::spawn(move || {
        while done.fetch_add(1, Relaxed) < count {
            thread::park_timeout(TIMEOUT);
        }
    });
    thread::yield_now();
    let ns = ns_each(count, || {
        while resets.load(Relaxed) <= count {
            sleeper.thread().unpark();
            thread::yield_now();
        }
    });
    sleeper.join().expect("it does not panic");
    ns
}

fn mpmc(count: u64) -> f64 {
    let (sender, receiver) = channel::bounded(MPMC_CAPACITY);
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
