//! [`WaitList`]: order, and what leaving it costs. (Its file is also compiled into the loom models,
//! which have no such threads.)

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claim::Epoch;
use super::os_thread::OsThread;
use super::wait_list::WaitList;
use super::waiter::{Wait, Waiter};

/// Waits of one thread: an OS thread's record needs no runtime, and only the last of its waits is
/// open, which does not matter to the list.
struct Waits {
    thread: Arc<OsThread>,
    epochs: Vec<Epoch>,
}

impl Waits {
    fn new(count: usize) -> Waits {
        let thread = Arc::new(OsThread::new());
        let epochs = (0..count).map(|_| thread.claim.begin()).collect();
        Waits { thread, epochs }
    }

    fn wait(&self, at: usize) -> Wait<'_> {
        Wait::os(&self.thread, self.epochs[at])
    }

    fn waiter(&self, at: usize) -> Waiter {
        self.wait(at).waiter()
    }

    fn list(&self) -> WaitList<usize> {
        let mut list = WaitList::new();
        for at in 0..self.epochs.len() {
            list.push_with(self.waiter(at), at);
        }
        list
    }
}

/// In an order that jumps to and fro.
fn scattered(count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |n| (n * 7919 + 13) % count)
}

fn drained(list: &mut WaitList<usize>) -> Vec<usize> {
    std::iter::from_fn(|| list.pop_with().map(|(_, at)| at)).collect()
}

#[test]
fn list_keeps_its_order_through_gaps_fronts_and_renewals() {
    for count in [1, 2, 3, 10, 100, 1_000] {
        let waits = Waits::new(2 * count);
        let mut list: WaitList<usize> = WaitList::new();
        let mut model = std::collections::VecDeque::new();
        for step in 0..20 * count {
            let at = (step * 31 + step / 7) % count;
            let enlisted = model.iter().position(|each| *each == at);
            assert_eq!(list.contains(&waits.wait(at)), enlisted.is_some());
            match (step % 5, enlisted) {
                (0, None) => {
                    list.push_front_with(waits.waiter(at), at);
                    model.push_front(at);
                }
                (_, None) => {
                    list.push_with(waits.waiter(at), at);
                    model.push_back(at);
                }
                (1, Some(_)) => {
                    // And back, as the name of a waiter is its number here.
                    assert!(list.renew(waits.wait(at).key(), &waits.wait(at + count)));
                    assert!(!list.renew(waits.wait(at).key(), &waits.wait(at + count)));
                    assert!(list.renew(waits.wait(at + count).key(), &waits.wait(at)));
                }
                (2, Some(_)) => assert_eq!(list.pop_with().map(|e| e.1), model.pop_front()),
                (3, Some(_)) if step % 3 == 0 => {
                    let even = model.iter().position(|each| each % 2 == 0);
                    let expected = even.and_then(|even| model.remove(even));
                    assert_eq!(list.pop_where(|at| at % 2 == 0).map(|e| e.1), expected);
                }
                (_, Some(place)) => {
                    assert_eq!(list.take_out(waits.wait(at).key()), model.remove(place));
                    list.remove(&waits.wait(at));
                }
            }
            assert_eq!(list.len(), model.len());
            assert_eq!(list.is_empty(), model.is_empty());
            assert_eq!(list.front(), model.front());
        }
        list.retain(|_, at| at % 3 != 0);
        model.retain(|at| at % 3 != 0);
        assert_eq!(drained(&mut list), Vec::from(model));
    }
}

#[test]
fn twins_are_both_found() {
    let waits = Waits::new(100);
    let mut list = waits.list();
    list.push_with(waits.waiter(50), 100);
    list.push_with(waits.waiter(99), 101);
    list.remove(&waits.wait(70)); // By the index.
    assert!(list.take_out(waits.wait(50).key()).is_some());
    assert!(list.take_out(waits.wait(50).key()).is_some());
    assert!(list.take_out(waits.wait(50).key()).is_none());
    assert_eq!(list.len(), 99);
}

type Order<'a> = &'a dyn Fn(usize) -> Box<dyn Iterator<Item = usize>>;

#[test]
fn leaving_a_crowd_costs_as_much_as_leaving_a_few() {
    let cost = |count: usize, order: Order<'_>| {
        let waits = Waits::new(count);
        let once = || {
            let mut list = waits.list();
            let start = Instant::now();
            for at in order(count) {
                list.remove(&waits.wait(at));
            }
            assert!(list.is_empty());
            start.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap_or_default() / count as u32
    };
    let orders: [(&str, Order<'_>); 3] = [
        ("as they came", &|count| Box::new(0..count)),
        ("the last first", &|count| Box::new((0..count).rev())),
        ("scattered", &|count| Box::new(scattered(count))),
    ];
    for (name, order) in orders {
        let (few, many) = (cost(1_000, order), cost(64_000, order));
        println!("{name}: {few:?} each of 1,000, {many:?} each of 64,000");
        // A search would make it 64 times as much; caches make it a few times.
        assert!(many < 16 * few + Duration::from_nanos(200), "{name}");
    }
}
