//! `channel::watch`: the latest value, and who waits for it to change.

#![cfg(feature = "runtime")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use hebra::channel::watch::{self, Sender};
use hebra::channel::{RecvError, RecvTimeoutError, SendError};
use hebra::{sim, thread};

use support::{bounded, on_workers};

mod support;

const SHORT: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_latest_value_is_seen_and_what_came_between_is_not() {
    let (sender, mut receiver) = watch::channel(0);
    assert_eq!((*receiver.borrow(), receiver.has_changed()), (0, Ok(false)));
    (1..=3).for_each(|n| sender.send(n).unwrap());
    assert_eq!(receiver.has_changed(), Ok(true));
    assert!(receiver.borrow().has_changed());
    assert_eq!(
        receiver.has_changed(),
        Ok(true),
        "borrowing alone does not count as seeing"
    );
    assert_eq!(receiver.changed(), Ok(()));
    assert_eq!((*receiver.borrow(), receiver.has_changed()), (3, Ok(false)));
    sender.send(4).unwrap();
    let value = receiver.borrow_and_update();
    assert!(value.has_changed() && *value == 4);
    drop(value);
    assert!(!receiver.borrow_and_update().has_changed());
    assert_eq!(*sender.borrow(), 4);
}

#[test]
fn clones_have_seen_what_the_original_has() {
    let (sender, mut receiver) = watch::channel(0);
    sender.send(1).unwrap();
    let unseen = receiver.clone();
    receiver.mark_unchanged();
    let seen = receiver.clone();
    assert_eq!(
        (unseen.has_changed(), seen.has_changed()),
        (Ok(true), Ok(false))
    );
    let mut late = sender.subscribe();
    assert_eq!(late.has_changed(), Ok(false));
    late.mark_changed();
    assert_eq!(late.changed(), Ok(()));
    assert!(late.same_channel(&unseen) && sender.same_channel(&sender.clone()));
    assert_eq!(sender.receiver_count(), 4);
}

#[test]
fn without_receivers_a_send_fails_and_a_replacement_does_not() {
    let (sender, receiver) = watch::channel(0);
    drop(receiver);
    assert!(sender.is_closed());
    assert_eq!(sender.send(1), Err(SendError(1)));
    assert_eq!(*sender.borrow(), 0);
    assert_eq!(sender.send_replace(2), 0);
    assert_eq!(*sender.subscribe().borrow(), 2);
}

#[test]
fn the_last_value_can_be_seen_when_the_senders_are_gone() {
    let (sender, mut receiver) = watch::channel(0);
    sender.clone().send(1).unwrap();
    drop(sender);
    assert_eq!(receiver.has_changed(), Err(RecvError));
    assert_eq!(receiver.changed(), Ok(()), "it has not been seen");
    assert_eq!(receiver.changed(), Err(RecvError));
    assert_eq!(
        receiver.changed_timeout(HOUR),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!(*receiver.borrow(), 1);
    assert!(receiver.wait_for(|n| *n == 2).is_err());
}

#[test]
fn a_value_is_changed_where_it_lies() {
    let (sender, receiver) = watch::channel(vec![1]);
    sender.send_modify(|values| values.push(2));
    assert_eq!(*receiver.borrow(), [1, 2]);
    assert_eq!(receiver.has_changed(), Ok(true));
    let (sender, receiver) = watch::channel(1);
    assert!(!sender.send_if_modified(|_| false));
    assert_eq!(receiver.has_changed(), Ok(false));
    assert!(sender.send_if_modified(|value| {
        *value = 5;
        true
    }));
    assert_eq!((*receiver.borrow(), receiver.has_changed()), (5, Ok(true)));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        sender.send_modify(|value| {
            *value = 6;
            panic!("half-way");
        });
    }));
    assert!(panicked.is_err());
    assert_eq!(*receiver.borrow(), 6, "it is there again");
}

#[test]
fn a_borrowed_value_stays_while_others_come() {
    struct Counted(u32, Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = watch::channel(Counted(0, dropped.clone()));
    let first = receiver.borrow();
    assert!(sender.send(Counted(1, dropped.clone())).is_ok());
    assert_eq!(
        (first.0, receiver.borrow().0, dropped.load(SeqCst)),
        (0, 1, 0)
    );
    drop(first);
    assert_eq!(dropped.load(SeqCst), 1);
    drop((sender, receiver));
    assert_eq!(dropped.load(SeqCst), 2);
}

#[test]
fn who_changes_a_value_waits_for_those_who_have_borrowed_it() {
    bounded(|| {
        sim::check(0..100, || {
            let (sender, receiver) = watch::channel(1);
            let borrower = thread::spawn(move || {
                let value = receiver.borrow();
                thread::sleep(2 * SHORT);
                assert_eq!(*value, 1);
                drop(value);
                thread::sleep(HOUR);
                assert_eq!(*receiver.borrow(), 2);
            });
            thread::sleep(SHORT);
            let start = hebra::time::now();
            assert!(
                thread::timeout(SHORT / 2, || sender.send_replace(9)).is_err(),
                "nothing has changed then"
            );
            assert_eq!(sender.send_replace(2), 1);
            assert!(start.elapsed() >= SHORT);
            borrower.join().unwrap();
        });
    });
}

#[test]
fn who_borrows_waits_while_a_value_is_being_changed() {
    bounded(|| {
        sim::check(0..100, || {
            let (sender, receiver) = watch::channel(1);
            let modifier = thread::spawn(move || {
                sender.send_modify(|value| {
                    *value = 0;
                    thread::sleep(SHORT);
                    *value = 2;
                });
            });
            thread::sleep(SHORT / 2);
            assert_eq!(*receiver.borrow(), 2);
            modifier.join().unwrap();
        });
    });
}

#[test]
fn receivers_wait_time_out_and_are_cancelled() {
    bounded(|| {
        sim::check(0..100, || {
            let (sender, mut receiver) = watch::channel(0);
            assert_eq!(
                receiver.changed_timeout(SHORT),
                Err(RecvTimeoutError::Timeout)
            );
            assert_eq!(
                receiver.changed_deadline(hebra::time::now() + SHORT),
                Err(RecvTimeoutError::Timeout)
            );
            let mut other = receiver.clone();
            let cancelled = thread::spawn(move || other.changed());
            let (tell, told) = hebra::channel::unbounded();
            let observer = thread::spawn(move || {
                receiver.changed_timeout(HOUR).unwrap();
                tell.send(*receiver.borrow()).unwrap();
                receiver.changed()
            });
            thread::sleep(SHORT);
            cancelled.cancel();
            assert!(cancelled.join().is_err());
            sender.send(1).unwrap();
            assert_eq!(told.recv_timeout(SHORT), Ok(1));
            drop(sender);
            assert_eq!(observer.join().unwrap(), Err(RecvError));
        });
    });
}

#[test]
fn a_value_can_be_waited_for() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = watch::channel(0);
            let observers: Vec<_> = (1..=10)
                .map(|n| {
                    let mut receiver = receiver.clone();
                    thread::spawn(move || {
                        let value = receiver.wait_for(|value| *value >= 10 * n).unwrap();
                        assert!(*value >= 10 * n);
                    })
                })
                .collect();
            drop(receiver);
            for n in 0..=100 {
                sender.send_modify(|value| *value = n);
                thread::yield_now();
            }
            sender.closed();
            observers
                .into_iter()
                .for_each(|observer| observer.join().unwrap());
        });
    }
}

#[test]
fn senders_take_turns() {
    on_workers(2, || {
        let sender = Sender::new(0);
        let receiver = sender.subscribe();
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let sender = sender.clone();
                let mut receiver = sender.subscribe();
                thread::spawn(move || {
                    for _ in 0..100 {
                        sender.send_modify(|value| {
                            *value += 1;
                            thread::yield_now();
                        });
                        let _ = *receiver.borrow_and_update();
                    }
                })
            })
            .collect();
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        assert_eq!(*receiver.borrow(), 800);
    });
}

#[test]
fn what_is_printed() {
    let (sender, receiver) = watch::channel("value");
    assert_eq!(
        format!("{sender:?} {receiver:?} {:?}", receiver.borrow()),
        "Sender { .. } Receiver { .. } \"value\""
    );
}
