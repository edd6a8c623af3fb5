#![cfg(feature = "runtime")]
//! Channels and locks in the destructors of thread-locals, and objects that are forgotten while
//! another thread waits for what their destructors do.

mod support;

use std::cell::RefCell;
use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use hebra::channel::{self, Select, TryRecvError, broadcast, select, watch};
use hebra::os::unix::net::UnixStream;
use hebra::sync::{Barrier, Condvar, Event, Mutex, Once, RwLock, Semaphore, mpsc, oneshot};
use hebra::{Config, Runtime, sim, thread};

use support::{Place, bounded, on_workers};

const SHORT: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs its closure when it is dropped.
struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

thread_local! {
    static FIRST: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
    static SECOND: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
}

/// Has the calling OS thread run `calls` in the destructors of two thread-locals, one of which is
/// older than all thread-locals of the library, and the other younger.
fn at_thread_end(calls: fn(), ran: &Arc<AtomicUsize>) {
    let closure = |ran: Arc<AtomicUsize>| -> Option<Box<dyn FnOnce()>> {
        Some(Box::new(move || {
            calls();
            ran.fetch_add(1, SeqCst);
        }))
    };
    FIRST.with_borrow_mut(|at_end| at_end.0 = closure(ran.clone()));
    thread::park_timeout(Duration::ZERO);
    SECOND.with_borrow_mut(|at_end| at_end.0 = closure(ran.clone()));
}

/// One call of each kind that the library has for threads of any sort.
fn every_call() {
    let (sender, receiver) = channel::bounded::<u32>(1);
    let (_other, silent) = channel::unbounded::<u32>();
    let (meet, met) = channel::bounded::<u32>(0);
    sender.send(1).unwrap();
    assert!(sender.send_timeout(2, SHORT).is_err());
    assert_eq!(receiver.recv(), Ok(1));
    assert!(receiver.recv_timeout(SHORT).is_err());
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert!(meet.try_send(1).is_err() && met.try_recv().is_err());

    // With `default`, and with each kind of receiver.
    let (mut near, far) = UnixStream::pair().unwrap();
    select! {
        recv(silent) -> _ => unreachable!(),
        recv(met) -> _ => unreachable!(),
        send(meet, 1) -> _ => unreachable!(),
        recv(channel::after(HOUR)) -> _ => unreachable!(),
        recv(channel::readable(&far)) -> _ => unreachable!(),
        default => {}
    }
    select! {
        recv(channel::readable(&far)) -> _ => unreachable!(),
        recv(channel::after(SHORT)) -> _ => {}
    }
    select! {
        recv(channel::readable(&far)) -> _ => unreachable!(),
        default(SHORT) => {}
    }
    near.write_all(b"!").unwrap();
    assert_eq!(channel::readable(&far).recv(), Ok(()));
    select! {
        recv(channel::readable(&far)) -> ready => assert_eq!(ready, Ok(())),
        default => unreachable!(),
    }
    let mut list = Select::new();
    list.recv(&silent);
    assert!(list.try_ready().is_err() && list.ready_timeout(SHORT).is_err());
    assert_eq!(channel::tick(SHORT).iter().take(2).count(), 2);
    let other = std::thread::spawn(move || met.recv());
    meet.send(7).unwrap();
    assert_eq!(other.join().unwrap(), Ok(7));

    let (sender, mut receiver) = broadcast::channel(1);
    sender.send(1).unwrap();
    assert_eq!(receiver.recv(), Ok(1));
    assert!(receiver.recv_timeout(SHORT).is_err());
    let (sender, mut receiver) = watch::channel(1);
    sender.send(2).unwrap();
    assert!(receiver.changed().is_ok() && receiver.changed_timeout(SHORT).is_err());
    sender.send_modify(|value| *value += 1);
    assert_eq!(*receiver.borrow(), 3);
    let (sender, receiver) = mpsc::sync_channel(1);
    sender.send(1).unwrap();
    assert!(receiver.recv().is_ok() && receiver.recv_timeout(SHORT).is_err());
    let (sender, receiver) = oneshot::channel::<u32>();
    assert!(receiver.recv_timeout(SHORT).is_err());
    drop(sender);

    let mutex = Arc::new(Mutex::new(0));
    let condvar = Condvar::new();
    let guard = mutex.lock().unwrap();
    let (guard, timeout) = condvar.wait_timeout(guard, SHORT).unwrap();
    assert!(timeout.timed_out());
    let locker = {
        let mutex = mutex.clone();
        std::thread::spawn(move || *mutex.lock().unwrap() += 1)
    };
    drop(guard);
    locker.join().unwrap();
    assert_eq!(*mutex.lock().unwrap(), 1);
    let lock = RwLock::new(0);
    drop((lock.read().unwrap(), lock.read().unwrap()));
    *lock.write().unwrap() += 1;
    let semaphore = Semaphore::new(1);
    drop(semaphore.acquire());
    let event = Event::new();
    event.set();
    event.wait();
    Once::new().call_once(|| {});
    Barrier::new(1).wait();

    // The token that is given is the token that is taken.
    let me = thread::current();
    std::thread::spawn(move || me.unpark()).join().unwrap();
    let start = Instant::now();
    thread::park_timeout(HOUR);
    assert!(start.elapsed() < HOUR / 2);
    thread::sleep(SHORT);
    assert!(thread::timeout(SHORT, || thread::sleep(HOUR)).is_err());
    thread::scope(|_| {});
}

#[test]
fn os_thread_at_its_end_makes_every_call() {
    let ran = Arc::new(AtomicUsize::new(0));
    bounded(|| {
        let ran = ran.clone();
        std::thread::spawn(move || at_thread_end(every_call, &ran))
            .join()
            .unwrap();
    });
    assert_eq!(
        ran.load(SeqCst),
        2,
        "both destructors have run to their ends"
    );
}

#[test]
fn worker_at_its_end_makes_every_call() {
    let ran = Arc::new(AtomicUsize::new(0));
    bounded(|| {
        let ran = ran.clone();
        std::thread::spawn(move || {
            let runtime = Runtime::new(Config::default().workers(1)).unwrap();
            // A green thread makes the thread-locals, and its worker outlives it.
            runtime.run(|| {
                thread::spawn(move || at_thread_end(every_call, &ran))
                    .join()
                    .unwrap()
            });
        })
        .join()
        .unwrap();
    });
    assert_eq!(
        ran.load(SeqCst),
        2,
        "both destructors have run to their ends"
    );
}

/// Has the next receiver that waits expect a message that never comes.
fn forget_a_send(sender: &channel::Sender<u32>) {
    let mut list = Select::new();
    list.send(sender);
    mem::forget(list.select_timeout(10 * SHORT));
}

#[test]
fn forgotten_send_leaves_receivers_that_time_out() {
    let waits: [fn(&channel::Receiver<u32>); 4] = [
        |receiver| assert!(receiver.recv_timeout(HOUR).is_err()),
        |receiver| assert!(thread::timeout(HOUR, || receiver.recv()).is_err()),
        |receiver| {
            select! {
                recv(receiver) -> _ => unreachable!(),
                recv(channel::never::<u32>()) -> _ => unreachable!(),
                default(HOUR) => {}
            }
        },
        // It finds the sender, and not the sender it.
        |receiver| {
            thread::yield_now();
            assert!(receiver.recv_timeout(HOUR).is_err());
        },
    ];
    for seed in 0..20 {
        for wait in waits {
            sim::run(seed, move || {
                let (sender, receiver) = channel::bounded::<u32>(0);
                let other = receiver.clone();
                let waiter = thread::spawn(move || wait(&other));
                forget_a_send(&sender);
                waiter.join().unwrap();

                // The channel works as before.
                let waiter = thread::spawn(move || receiver.recv());
                assert_eq!(sender.send(7), Ok(()));
                assert_eq!(waiter.join().unwrap(), Ok(7));
            });
        }
    }
}

#[test]
fn forgotten_send_leaves_receivers_that_can_be_cancelled() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = channel::bounded::<u32>(0);
            for n in 0..3 {
                let receiver = receiver.clone();
                let waiter = thread::spawn(move || match n {
                    0 => drop(receiver.recv()),
                    1 => receiver.iter().for_each(drop),
                    _ => loop {
                        // Polls, and meets the sender in its select.
                        _ = receiver.try_recv();
                        thread::yield_now();
                    },
                });
                forget_a_send(&sender);
                waiter.cancel();
                assert!(waiter.join().is_err());
            }
            let other = receiver.clone();
            let waiter = std::thread::spawn(move || other.recv_timeout(20 * SHORT));
            forget_a_send(&sender);
            assert!(waiter.join().unwrap().is_err());
        });
    }
}

#[test]
fn message_for_a_cancelled_receiver_goes_to_the_next() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = channel::bounded::<u32>(0);
            let other = receiver.clone();
            let waiter = thread::spawn(move || other.recv());
            let mut list = Select::new();
            list.send(&sender);
            let operation = list.select();
            waiter.cancel();
            assert!(
                waiter.join().is_err(),
                "it is not kept by a sender that takes its time"
            );
            assert_eq!(operation.send(&sender, 7), Ok(()));
            assert_eq!(receiver.try_recv(), Ok(7));

            // Without any receiver it comes back.
            let waiter = thread::spawn(move || receiver.recv());
            let operation = list.select();
            waiter.cancel();
            assert!(waiter.join().is_err());
            assert!(operation.send(&sender, 8).is_err());
        });
    }
}

#[test]
fn select_that_sends_and_a_polling_receiver_meet() {
    for place in Place::ALL {
        let (sender, receiver) = channel::bounded(0);
        place.run(2, |n| {
            for k in 0..200 {
                if n == 0 {
                    select! {
                        send(sender, k) -> sent => assert_eq!(sent, Ok(())),
                        recv(channel::never::<u32>()) -> _ => unreachable!(),
                    }
                } else {
                    let received = loop {
                        match receiver.try_recv() {
                            Ok(received) => break received,
                            Err(_) => thread::yield_now(),
                        }
                    };
                    assert_eq!(received, k);
                }
            }
        });
    }
}

/// Waits until a poll of `receiver` would find something, or choose a sender.
fn until_ready(receiver: &channel::Receiver<u32>) {
    let mut list = Select::new();
    list.recv(receiver);
    list.ready();
}

/// Has a thread select to send to `sender`, and return the outcome. It makes its message when `gate`
/// is set.
fn select_to_send(
    sender: &channel::Sender<u32>,
    message: u32,
    gate: &Arc<Event>,
) -> thread::JoinHandle<Result<(), channel::SendError<u32>>> {
    let (sender, gate) = (sender.clone(), gate.clone());
    thread::spawn(move || {
        select! {
            send(sender, { gate.wait(); message }) -> sent => sent,
            recv(channel::never::<u32>()) -> _ => unreachable!(),
        }
    })
}

#[test]
fn poll_chooses_one_sender_until_its_message_is_there() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = channel::bounded(0);
            let gate = Arc::new(Event::new());
            let first = select_to_send(&sender, 1, &gate);
            until_ready(&receiver);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));

            // It is chosen; while it makes its message no poll chooses another.
            let second = select_to_send(&sender, 2, &gate);
            let mut list = Select::new();
            list.recv(&receiver);
            for _ in 0..100 {
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
                assert!(list.try_select().is_err());
                assert!(list.try_ready().is_err());
                thread::yield_now();
            }

            // A sender that has its message is received from all the same.
            let other = sender.clone();
            let plain = thread::spawn(move || other.send(3));
            until_ready(&receiver);
            assert_eq!(receiver.try_recv(), Ok(3));
            plain.join().unwrap().unwrap();

            gate.set();
            assert_eq!(first.join().unwrap(), Ok(()));
            assert!(!second.is_finished());
            assert_eq!(receiver.try_recv(), Ok(1));
            assert_eq!(receiver.recv(), Ok(2));
            assert_eq!(second.join().unwrap(), Ok(()));
        });
    }
}

#[test]
fn message_of_a_polled_sender_goes_to_who_waits_next() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = channel::bounded(0);
            let gate = Arc::new(Event::new());
            let first = select_to_send(&sender, 1, &gate);
            until_ready(&receiver);
            select! {
                recv(receiver) -> _ => panic!("it has no message yet"),
                default => {}
            }
            let other = receiver.clone();
            let waiter = thread::spawn(move || other.recv());
            gate.set();
            assert_eq!(waiter.join().unwrap(), Ok(1));
            assert_eq!(first.join().unwrap(), Ok(()));
        });
    }
}

#[test]
fn polled_sender_gets_its_message_back_without_receivers() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = channel::bounded(0);
            let gate = Arc::new(Event::new());
            let first = select_to_send(&sender, 1, &gate);
            until_ready(&receiver);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            drop(receiver);
            gate.set();
            assert_eq!(first.join().unwrap(), Err(channel::SendError(1)));
        });
    }
}

#[test]
fn polled_sender_that_unwinds_leaves_the_turn_to_another() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = channel::bounded(0);
            let (never, gate) = (Arc::new(Event::new()), Arc::new(Event::new()));
            gate.set();
            let first = select_to_send(&sender, 1, &never);
            until_ready(&receiver);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            let second = select_to_send(&sender, 2, &gate);
            first.cancel();
            assert!(first.join().is_err());
            drop(sender);
            let received = loop {
                until_ready(&receiver);
                match receiver.try_recv() {
                    Err(TryRecvError::Empty) => {}
                    received => break received,
                }
            };
            assert_eq!(received, Ok(2));
            assert_eq!(second.join().unwrap(), Ok(()));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        });
    }
}

#[test]
fn forgotten_objects_leave_waiters_that_can_be_cancelled() {
    on_workers(2, || {
        // A place in a bounded channel.
        let (sender, _receiver) = channel::bounded::<u32>(1);
        let mut list = Select::new();
        list.send(&sender);
        mem::forget(list.select());
        let other = sender.clone();
        let waiter = thread::spawn(move || _ = other.send(1));
        waiter.cancel();
        assert!(waiter.join().is_err());

        // A message that was reserved.
        let (sender, receiver) = channel::bounded::<u32>(1);
        sender.send(1).unwrap();
        let mut list = Select::new();
        list.recv(&receiver);
        mem::forget(list.select());
        assert_eq!(receiver.recv_timeout(SHORT).ok(), None);
        assert_eq!(sender.try_send(2), Ok(()), "its place is free");

        // A borrowed value.
        let (sender, receiver) = watch::channel(1);
        mem::forget(receiver.borrow());
        let sender = Arc::new(sender);
        let other = sender.clone();
        let waiter = thread::spawn(move || other.send_modify(|value| *value += 1));
        waiter.cancel();
        assert!(waiter.join().is_err());
        assert_eq!(sender.send(5), Ok(()), "a send waits for nobody");
        sender.send_modify(|value| *value += 1);
        assert_eq!(*receiver.borrow(), 6);

        // A permit and the guards of locks.
        let semaphore = Arc::new(Semaphore::new(1));
        mem::forget(semaphore.acquire());
        let other = semaphore.clone();
        let waiter = thread::spawn(move || drop(other.acquire()));
        waiter.cancel();
        assert!(waiter.join().is_err());
        let lock = Arc::new((Mutex::new(0), RwLock::new(0)));
        mem::forget((lock.0.lock(), lock.1.write()));
        for n in 0..3 {
            let lock = lock.clone();
            let waiter = thread::spawn(move || match n {
                0 => drop(lock.0.lock()),
                1 => drop(lock.1.read()),
                _ => drop(lock.1.write()),
            });
            waiter.cancel();
            assert!(waiter.join().is_err());
        }

        // The handles of a scope's threads, which the scope waits for by itself.
        let count = AtomicUsize::new(0);
        thread::scope(|s| {
            (0..10).for_each(|_| mem::forget(s.spawn(|| count.fetch_add(1, SeqCst))))
        });
        assert_eq!(count.load(SeqCst), 10);

        // A receiver and a sender of a broadcast.
        let (sender, receiver) = broadcast::channel(2);
        mem::forget(receiver);
        (0..10).for_each(|n| assert_eq!(sender.send(n), Ok(1)));
        let waiter = {
            let sender = sender.clone();
            thread::spawn(move || sender.closed())
        };
        waiter.cancel();
        assert!(waiter.join().is_err());
        assert_eq!(sender.len(), 2);
    });
}
