//! tokio, both of its schedulers: `tokio::spawn`, `tokio::sync`, `tokio::time`. Its own channels have one receiver, so `mpmc` takes
//! async-channel's.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{Mutex, mpsc};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::{
    Crowd, LONG, MPMC_CAPACITY, Measured, Metrics, PARKED, SIDES, Sleepers, TIMEOUT, Window, both, count_yield, late, ns_since,
    times, yields_go_on,
};
use crate::parameters::Parameters;

#[derive(Clone, Copy, PartialEq)]
pub enum Flavor {
    CurrentThread,
    MultiThread,
}

pub fn measure(flavor: Flavor, workload: &str, parameters: &Parameters) -> Measured {
    let threads = parameters.get_or("threads", 0);
    let count = parameters.get_or("count", 0);
    let wave = parameters.get_or("wave", 0);
    let workers = parameters.workers();
    if flavor == Flavor::CurrentThread && workers > 1 {
        return None;
    }
    let mut builder = match flavor {
        Flavor::CurrentThread => Builder::new_current_thread(),
        Flavor::MultiThread => Builder::new_multi_thread(),
    };
    let runtime =
        builder.worker_threads(workers).enable_all().build().expect("a runtime needs an epoll descriptor and OS threads");
    // As a task: a future that is only blocked on stands outside of the run queue.
    macro_rules! run {
        ($work:expr) => {
            runtime.block_on(async { tokio::spawn($work).await.expect("it does not panic") })
        };
    }
    macro_rules! twice {
        ($work:expr, $again:expr) => {
            run!(async move {
                $work.await;
                Metrics::ns($again.await)
            })
        };
    }
    let tenth = count / 10 + 1;
    Some(match workload {
        "spawn" => twice!(spawn(threads, wave), spawn(threads, wave)),
        "yield" => run!(yields(threads, count)),
        "ping-pong" => twice!(ping_pong::<false>(tenth), ping_pong::<false>(count)),
        "mpmc" => twice!(mpmc(tenth), mpmc(count)),
        "mutex" => twice!(mutex(threads, tenth), mutex(threads, count)),
        "sleepers" => run!(sleep_all(threads)),
        "memory" => run!(async move {
            let crowd = Crowd::new(threads);
            fall_asleep(&crowd).await;
            crowd.weigh().print_and_exit()
        }),
        "timers" => run!(async move {
            fall_asleep(&Crowd::new(threads)).await;
            ping_pong::<true>(tenth).await;
            let ping_pong = ping_pong::<true>(count).await;
            reset(tenth).await;
            both(ping_pong, reset(count).await).print_and_exit()
        }),
        _ => return None,
    })
}

/// ns per task.
async fn spawn(threads: u64, wave: u64) -> f64 {
    let mut handles = Vec::with_capacity(wave as usize);
    let start_of_all = Instant::now();
    for start in (0..threads).step_by(wave as usize) {
        handles.extend((start..start + wave).map(|i| tokio::spawn(async move { i })));
        for handle in handles.drain(..) {
            black_box(handle.await.expect("it does not panic"));
        }
    }
    ns_since(start_of_all, threads)
}

async fn yields(threads: u64, count: u64) -> Metrics {
    for _ in 1..threads {
        tokio::spawn(async {
            while yields_go_on() {
                count_yield();
                yield_now().await;
            }
        });
    }
    let mut window = Window::new(threads, count);
    loop {
        if let Some(ns) = window.turn() {
            return Metrics::ns(ns);
        }
        yield_now().await;
    }
}

/// ns per round trip; each receive may have a time-out.
async fn ping_pong<const TIMED: bool>(count: u64) -> f64 {
    let (to, mut from_us) = mpsc::channel(1);
    let (to_us, mut from) = mpsc::channel(1);
    let echo = tokio::spawn(async move {
        while let Some(message) = recv::<TIMED>(&mut from_us).await {
            to_us.send(message).await.expect("who sends receives");
        }
    });
    let start = Instant::now();
    for i in 0..count {
        to.send(i).await.expect("it echoes until we are gone");
        assert_eq!(recv::<TIMED>(&mut from).await, Some(i));
    }
    let ns = ns_since(start, count);
    drop(to);
    echo.await.expect("it does not panic");
    ns
}

#[inline(always)]
async fn recv<const TIMED: bool>(from: &mut mpsc::Receiver<u64>) -> Option<u64> {
    if TIMED { timeout(TIMEOUT, from.recv()).await.ok().flatten() } else { from.recv().await }
}

/// ns to move the deadline of a timer that has been waited for.
async fn reset(count: u64) -> f64 {
    let mut timer = pin!(sleep(TIMEOUT));
    let start = Instant::now();
    for _ in 0..count {
        timer.as_mut().reset(tokio::time::Instant::now() + TIMEOUT);
        assert!(poll_fn(|context| Poll::Ready(timer.as_mut().poll(context).is_pending())).await);
    }
    ns_since(start, count)
}

/// ns per message.
async fn mpmc(count: u64) -> f64 {
    let (sender, receiver) = async_channel::bounded(MPMC_CAPACITY);
    let start = Instant::now();
    let producer = |_| {
        let sender = sender.clone();
        tokio::spawn(async move {
            for i in 0..count / SIDES {
                sender.send(i).await.expect("there are consumers");
            }
        })
    };
    let producers: Vec<_> = (0..SIDES).map(producer).collect();
    let consumer = |_| {
        let receiver = receiver.clone();
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok(message) = receiver.recv().await {
                count += u64::from(black_box(message) < u64::MAX);
            }
            count
        })
    };
    let consumers: Vec<_> = (0..SIDES).map(consumer).collect();
    for producer in producers {
        producer.await.expect("it does not panic");
    }
    drop((sender, receiver));
    let mut received = 0;
    for consumer in consumers {
        received += consumer.await.expect("it does not panic");
    }
    let ns = ns_since(start, count);
    assert_eq!(received, count / SIDES * SIDES, "no message is lost");
    ns
}

/// ns per lock and unlock.
async fn mutex(threads: u64, count: u64) -> f64 {
    let share = count / threads;
    let number = Arc::new(Mutex::new(0));
    let start = Instant::now();
    let adder = |_| {
        let number = number.clone();
        tokio::spawn(async move {
            for _ in 0..share {
                *number.lock().await += 1;
            }
        })
    };
    let adders: Vec<_> = (0..threads).map(adder).collect();
    for adder in adders {
        adder.await.expect("it does not panic");
    }
    let ns = ns_since(start, share * threads);
    assert_eq!(*number.lock().await, share * threads);
    ns
}

async fn sleep_all(threads: u64) -> Metrics {
    let all = Sleepers::new();
    let spawn = |time| {
        tokio::spawn(async move {
            let start = Instant::now();
            sleep(time).await;
            late(start, time)
        })
    };
    let sleepers: Vec<_> = times(threads).map(spawn).collect();
    let mut lateness = Vec::new();
    for sleeper in sleepers {
        lateness.push(sleeper.await.expect("it does not panic"));
    }
    all.joined(lateness)
}

/// Returns when all sleep.
async fn fall_asleep(crowd: &Crowd) {
    for _ in 0..crowd.threads {
        tokio::spawn(async {
            PARKED.fetch_add(1, Relaxed);
            sleep(LONG).await;
        });
    }
    while !crowd.is_there() {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(20)).await;
}
