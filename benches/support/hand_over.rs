//! The floor of channels: coroutines of corosensei, a run queue and a `VecDeque` on one OS thread.
//! No locks, no cancellation, no safety.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hint::black_box;
use std::rc::Rc;

use corosensei::{Coroutine, Yielder};

use super::stats::ns_each;

/// How these floors are called in reports.
pub const NAME: &str = "raw corosensei, a run queue and a VecDeque";

type Green = Coroutine<(), (), ()>;

#[derive(Default)]
struct Scheduler {
    ready: RefCell<VecDeque<usize>>,
    running: Cell<usize>,
}

impl Scheduler {
    fn run(&self, mut threads: Vec<Green>) {
        self.ready.borrow_mut().extend(0..threads.len());
        loop {
            let Some(next) = self.ready.borrow_mut().pop_front() else {
                return;
            };
            self.running.set(next);
            threads[next].resume(());
        }
    }

    #[inline(always)]
    fn park(&self, waiting: &RefCell<VecDeque<usize>>, yielder: &Yielder<(), ()>) {
        waiting.borrow_mut().push_back(self.running.get());
        yielder.suspend(());
    }

    #[inline(always)]
    fn wake(&self, waiting: &RefCell<VecDeque<usize>>) {
        if let Some(first) = waiting.borrow_mut().pop_front() {
            self.ready.borrow_mut().push_back(first);
        }
    }
}

struct Channel {
    scheduler: Rc<Scheduler>,
    capacity: usize,
    buffer: RefCell<VecDeque<u64>>,
    senders: RefCell<VecDeque<usize>>,
    receivers: RefCell<VecDeque<usize>>,
}

impl Channel {
    fn new(scheduler: &Rc<Scheduler>, capacity: usize) -> Rc<Channel> {
        Rc::new(Channel {
            scheduler: scheduler.clone(),
            capacity,
            buffer: RefCell::default(),
            senders: RefCell::default(),
            receivers: RefCell::default(),
        })
    }

    #[inline(always)]
    fn send(&self, message: u64, yielder: &Yielder<(), ()>) {
        while self.buffer.borrow().len() == self.capacity {
            self.scheduler.park(&self.senders, yielder);
        }
        self.buffer.borrow_mut().push_back(message);
        self.scheduler.wake(&self.receivers);
    }

    #[inline(always)]
    fn recv(&self, yielder: &Yielder<(), ()>) -> u64 {
        loop {
            let message = self.buffer.borrow_mut().pop_front();
            if let Some(message) = message {
                self.scheduler.wake(&self.senders);
                return message;
            }
            self.scheduler.park(&self.receivers, yielder);
        }
    }
}

/// ns per round trip over two channels of capacity 1.
pub fn ping_pong(trips: u64) -> f64 {
    let scheduler = Rc::new(Scheduler::default());
    let there = Channel::new(&scheduler, 1);
    let back = Channel::new(&scheduler, 1);
    let (there_too, back_too) = (there.clone(), back.clone());
    let asks = Coroutine::new(move |yielder, ()| {
        for i in 0..trips {
            there.send(i, yielder);
            black_box(back.recv(yielder));
        }
    });
    let echoes = Coroutine::new(move |yielder, ()| {
        for _ in 0..trips {
            let message = there_too.recv(yielder);
            back_too.send(message, yielder);
        }
    });
    ns_each(trips, || scheduler.run(vec![asks, echoes]))
}

/// ns per message of four producers to four consumers over a channel of capacity 128.
pub fn many(messages: u64) -> f64 {
    let scheduler = Rc::new(Scheduler::default());
    let channel = Channel::new(&scheduler, 128);
    let producer = |_| {
        let channel = channel.clone();
        Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
            (0..messages / 4).for_each(|i| channel.send(i, yielder))
        })
    };
    let consumer = |_| {
        let channel = channel.clone();
        Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
            for _ in 0..messages / 4 {
                black_box(channel.recv(yielder));
            }
        })
    };
    let threads = (0..4).map(producer).chain((0..4).map(consumer)).collect();
    ns_each(messages, || scheduler.run(threads))
}
