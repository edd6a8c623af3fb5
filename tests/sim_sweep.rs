//! One body, ten thousand schedules: scopes, cancellation, time-outs and what threads share, all at
//! once.

#![cfg(feature = "runtime")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::thread::{self, Cancelled, JoinSet, Thread};
use hebra::{sim, time};

use support::bounded;

mod support;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A lock of the test's own making, on the token alone: first come, first served, and a cancelled
/// one passes it on.
#[derive(Default)]
struct Turns {
    state: Mutex<Order>,
}

#[derive(Default)]
struct Order {
    taken: bool,
    waiting: VecDeque<Thread>,
}

struct Turn<'a>(&'a Turns);

impl Turns {
    fn take(&self) -> Turn<'_> {
        let me = thread::current();
        loop {
            {
                let mut order = self.state.lock().unwrap();
                order.waiting.retain(|one| one.id() != me.id());
                if !order.taken {
                    order.taken = true;
                    return Turn(self);
                }
                order.waiting.push_back(me.clone());
            }
            let leave = Leave(self, &me);
            thread::park();
            std::mem::forget(leave);
        }
    }

    fn pass_on(&self) {
        let next = self.state.lock().unwrap().waiting.pop_front();
        if let Some(next) = next {
            next.unpark();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().taken = false;
        self.0.pass_on();
    }
}

/// Whoever does not wait any more may have been told that it is its turn.
struct Leave<'a>(&'a Turns, &'a Thread);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0
            .state
            .lock()
            .unwrap()
            .waiting
            .retain(|one| one.id() != self.1.id());
        self.0.pass_on();
    }
}

/// Ten threads: some in a scope with a time-out, some in a set that is cancelled, some cancelled
/// one by one. Everything that is counted has to come out even, and nobody may be left.
fn body() {
    let alive = Arc::new(AtomicUsize::new(0));
    let turns = Arc::new(Turns::default());
    let begin = time::now();
    let work = |id: u64, alive: &Arc<AtomicUsize>, turns: &Arc<Turns>| {
        let (alive, turns) = (alive.clone(), turns.clone());
        move || {
            struct Ends(Arc<AtomicUsize>);
            impl Drop for Ends {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, SeqCst);
                }
            }
            alive.fetch_add(1, SeqCst);
            let _ends = Ends(alive);
            for round in 0..3 {
                let turn = turns.take();
                if (id + round).is_multiple_of(3) {
                    thread::sleep(MILLISECOND * (sim::random() % 3) as u32);
                } else {
                    thread::yield_now();
                }
                drop(turn);
                let _ = thread::timeout(MILLISECOND, || {
                    thread::sleep(MILLISECOND * (sim::random() % 3) as u32)
                });
            }
            id
        }
    };
    let mut set = JoinSet::new();
    for id in 0..3 {
        set.spawn(work(id, &alive, &turns));
    }
    let single: Vec<_> = (3..6)
        .map(|id| thread::spawn(work(id, &alive, &turns)))
        .collect();
    let in_time = thread::timeout(MILLISECOND * (sim::random() % 20) as u32, || {
        thread::scope(|s| {
            let three = [6, 7, 8].map(|id| s.spawn(work(id, &alive, &turns)));
            three
                .into_iter()
                .map(|one| one.join().unwrap())
                .sum::<u64>()
        })
    });
    assert!(in_time.is_err() || in_time == Ok(6 + 7 + 8));
    single[(sim::random() % 3) as usize].cancel();
    let first = set.join_next().expect("there are three");
    assert!(first.is_ok_and(|id| id < 3));
    set.cancel_all();
    while let Some(ended) = set.join_next() {
        assert!(ended.map_or_else(|payload| payload.is::<Cancelled>(), |id| id < 3));
    }
    let mut cancelled = 0;
    for one in single {
        match one.join() {
            Ok(id) => assert!((3..6).contains(&id)),
            Err(payload) => cancelled += usize::from(payload.is::<Cancelled>()),
        }
    }
    assert!(cancelled <= 1);
    assert_eq!(alive.load(SeqCst), 0, "everybody has unwound");
    drop(turns.take());
    assert!(turns.state.lock().unwrap().waiting.is_empty());
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[test]
fn ten_thousand_schedules_of_everything_at_once() {
    let begin = Instant::now();
    bounded(|| sim::check(0..10_000, body));
    println!("10,000 schedules took {:?}", begin.elapsed());
}
