//! `channel::broadcast`: everybody gets everything, or is told how much was missed.

#![cfg(feature = "runtime")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use hebra::channel::SendError;
use hebra::channel::broadcast::{self, RecvError, RecvTimeoutError, Sender, TryRecvError};
use hebra::{sim, thread};

use support::{bounded, on_workers};

mod support;

const SHORT: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);

/// Counts its clones and how often it is dropped.
#[derive(Default)]
struct Counted {
    clones: Arc<AtomicUsize>,
    drops: Arc<AtomicUsize>,
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        self.clones.fetch_add(1, SeqCst);
        Counted {
            clones: self.clones.clone(),
            drops: self.drops.clone(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, SeqCst);
    }
}

#[test]
fn every_receiver_gets_every_message_in_order() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (sender, receiver) = broadcast::channel(10_000);
            let receivers = (0..7)
                .map(|_| sender.subscribe())
                .chain([receiver])
                .collect::<Vec<_>>();
            let listeners: Vec<_> = receivers
                .into_iter()
                .map(|mut receiver| {
                    thread::spawn(move || (0..1000).all(|n| receiver.recv() == Ok(n)))
                })
                .collect();
            (0..1000).for_each(|n| assert!(sender.send(n).is_ok()));
            assert!(
                listeners
                    .into_iter()
                    .all(|listener| listener.join().unwrap())
            );
        });
    }
}

#[test]
fn who_lags_is_told_how_many_were_missed_and_goes_on_with_the_oldest() {
    let (sender, mut slow) = broadcast::channel(3);
    let mut fast = sender.subscribe();
    for n in 0..10 {
        sender.send(n).unwrap();
        assert_eq!(fast.try_recv(), Ok(n));
    }
    assert_eq!((slow.len(), sender.len()), (10, 3));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Lagged(7)));
    assert!((7..10).all(|n| slow.recv() == Ok(n)));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(fast.try_recv(), Err(TryRecvError::Empty));
    (0..4).for_each(|n| _ = sender.send(n));
    assert_eq!(fast.recv_timeout(SHORT), Err(RecvTimeoutError::Lagged(1)));
    drop(sender);
    assert_eq!(slow.recv(), Err(RecvError::Lagged(1)));
    assert!((1..4).all(|n| slow.recv() == Ok(n) && fast.recv() == Ok(n)));
    assert_eq!(
        (slow.recv(), fast.try_recv()),
        (Err(RecvError::Closed), Err(TryRecvError::Closed))
    );
}

#[test]
fn a_receiver_gets_what_is_sent_from_its_beginning() {
    let sender = Sender::new(8);
    assert_eq!(sender.send(0), Err(SendError(0)), "there are no receivers");
    let mut first = sender.subscribe();
    assert_eq!(sender.send(1), Ok(1));
    let mut second = first.resubscribe();
    assert_eq!(sender.send(2), Ok(2));
    assert_eq!(
        (first.recv(), first.recv(), second.recv()),
        (Ok(1), Ok(2), Ok(2))
    );
    assert!(first.is_empty() && second.is_empty() && sender.is_empty());
    assert!(first.same_channel(&second) && sender.same_channel(&sender.clone()));
    assert_eq!(sender.receiver_count(), 2);
    drop((first, second));
    assert_eq!(sender.send(3), Err(SendError(3)));
}

#[test]
fn it_is_closed_when_the_last_sender_is_gone_and_what_is_left_is_received() {
    let (sender, mut receiver) = broadcast::channel(8);
    let other = sender.clone();
    sender.send(1).unwrap();
    drop(sender);
    assert!(!receiver.is_closed());
    other.send(2).unwrap();
    drop(other);
    assert!(receiver.is_closed());
    assert_eq!(
        (receiver.recv(), receiver.recv(), receiver.recv()),
        (Ok(1), Ok(2), Err(RecvError::Closed))
    );
}

#[test]
fn a_message_is_cloned_for_all_but_the_last_and_goes_when_all_have_seen_it() {
    let (sender, mut first) = broadcast::channel(8);
    let mut second = sender.subscribe();
    let counted = Counted::default();
    let (clones, drops) = (counted.clones.clone(), counted.drops.clone());
    assert!(sender.send(counted).is_ok());
    drop(first.recv());
    assert_eq!((clones.load(SeqCst), drops.load(SeqCst)), (1, 1));
    drop(second.recv());
    assert_eq!((clones.load(SeqCst), drops.load(SeqCst)), (1, 2));
    // Not seen by everybody: dropped with the last receiver that has not seen it.
    let counted = Counted::default();
    let drops = counted.drops.clone();
    assert!(sender.send(counted).is_ok());
    drop(first);
    assert_eq!((drops.load(SeqCst), sender.len()), (0, 1));
    drop(second);
    assert_eq!((drops.load(SeqCst), sender.len()), (1, 0));
}

#[test]
fn a_slow_receiver_that_goes_takes_nothing_from_the_others() {
    let (sender, slow) = broadcast::channel(4);
    let mut other = sender.subscribe();
    (0..3).for_each(|n| _ = sender.send(n));
    assert_eq!(other.recv(), Ok(0));
    drop(slow);
    assert_eq!(sender.len(), 2);
    assert!((1..3).all(|n| other.recv() == Ok(n)));
    let late = sender.subscribe();
    (0..9).for_each(|n| _ = sender.send(n));
    drop(late);
    assert_eq!(other.recv(), Err(RecvError::Lagged(5)));
    assert!((5..9).all(|n| other.recv() == Ok(n)));
}

#[test]
fn receivers_wait_time_out_and_are_cancelled() {
    bounded(|| {
        sim::check(0..50, || {
            let (sender, mut receiver) = broadcast::channel(4);
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            assert_eq!(
                receiver.recv_deadline(hebra::time::now() + SHORT),
                Err(RecvTimeoutError::Timeout)
            );
            let mut other = sender.subscribe();
            let cancelled = thread::spawn(move || other.recv());
            let listener = thread::spawn(move || (receiver.recv_timeout(HOUR), receiver.recv()));
            thread::sleep(SHORT);
            cancelled.cancel();
            assert!(cancelled.join().is_err());
            assert_eq!(sender.send(1), Ok(1));
            thread::sleep(SHORT);
            drop(sender);
            assert_eq!(listener.join().unwrap(), (Ok(1), Err(RecvError::Closed)));
        });
    });
}

#[test]
fn a_sender_can_wait_until_nobody_listens() {
    bounded(|| {
        sim::check(0..50, || {
            let (sender, mut receiver) = broadcast::channel::<u32>(4);
            let listener = thread::spawn(move || receiver.recv_timeout(SHORT));
            sender.closed();
            assert_eq!(sender.receiver_count(), 0);
            assert_eq!(listener.join().unwrap(), Err(RecvTimeoutError::Timeout));
        });
    });
}

#[test]
fn under_many_schedules_each_receiver_accounts_for_every_message() {
    bounded(|| {
        sim::check(0..2000, || {
            let below = |n: u64| sim::random() % n;
            let (sender, receiver) = broadcast::channel(1 + below(4) as usize);
            let receivers = (0..below(3))
                .map(|_| sender.subscribe())
                .chain([receiver])
                .collect::<Vec<_>>();
            let listeners: Vec<_> = receivers
                .into_iter()
                .map(|mut receiver| {
                    thread::spawn(move || {
                        let (mut next, mut missed) = (0, 0);
                        loop {
                            match receiver.recv_timeout(Duration::from_micros(below(20))) {
                                Ok(n) => {
                                    assert_eq!(n, next);
                                    next += 1;
                                }
                                Err(RecvTimeoutError::Lagged(n)) => {
                                    missed += n;
                                    next += n;
                                }
                                Err(RecvTimeoutError::Timeout) => {}
                                Err(RecvTimeoutError::Closed) => return (next, missed),
                            }
                        }
                    })
                })
                .collect();
            for n in 0..20 {
                sender.send(n).unwrap();
                if below(2) == 0 {
                    thread::sleep(Duration::from_micros(below(10)));
                }
            }
            drop(sender);
            assert!(
                listeners
                    .into_iter()
                    .all(|listener| listener.join().unwrap().0 == 20)
            );
        });
    });
}

#[test]
fn a_channel_that_keeps_nothing_is_refused() {
    assert!(std::panic::catch_unwind(|| Sender::<u32>::new(0)).is_err());
}

#[test]
fn what_errors_say() {
    assert_eq!(
        RecvError::Lagged(3).to_string(),
        "the receiver has lagged behind and missed 3 messages"
    );
    assert_eq!(
        TryRecvError::Empty.to_string(),
        "receiving on an empty channel"
    );
    assert_eq!(
        RecvTimeoutError::Timeout.to_string(),
        "timed out waiting on receive operation"
    );
    assert_eq!(
        RecvTimeoutError::from(RecvError::Closed).to_string(),
        "receiving on a closed channel"
    );
    let (sender, receiver) = broadcast::channel::<u32>(1);
    assert_eq!(
        format!("{sender:?} {receiver:?}"),
        "Sender { .. } Receiver { .. }"
    );
}

#[test]
fn receiver_leaves_a_full_channel_at_no_cost() {
    // 20,000 receivers that leave 65,536 messages each: some 1.3 billion steps, if each message were
    // told of each.
    const CAPACITY: usize = 1 << 16;
    bounded(|| {
        let (sender, oldest) = broadcast::channel(CAPACITY);
        let others: Vec<_> = (0..20_000).map(|_| sender.subscribe()).collect();
        (0..CAPACITY).for_each(|n| assert!(sender.send(n).is_ok()));
        let start = std::time::Instant::now();
        drop(others);
        assert!(start.elapsed() < Duration::from_secs(3));
        assert_eq!((sender.len(), oldest.len()), (CAPACITY, CAPACITY));
        drop(oldest);
        assert!(sender.is_empty());
    });
}

#[test]
fn messages_go_as_soon_as_no_receiver_needs_them() {
    // Against a plain model: each receiver has a list of what it has yet to receive.
    let mut seed = 1_u64;
    let mut random = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 8) as usize % n
    };
    for capacity in [1, 2, 7] {
        let sender = Sender::<Arc<u32>>::new(capacity);
        let mut receivers: Vec<(broadcast::Receiver<Arc<u32>>, Vec<u32>)> = Vec::new();
        let mut sent: Vec<(u32, std::sync::Weak<u32>)> = Vec::new();
        for n in 0..5_000 {
            match random(6) {
                0 if receivers.len() < 5 => receivers.push((sender.subscribe(), Vec::new())),
                1 if !receivers.is_empty() => {
                    let at = random(receivers.len());
                    receivers.swap_remove(at);
                }
                2 | 3 => {
                    let message = Arc::new(n);
                    sent.push((n, Arc::downgrade(&message)));
                    assert_eq!(sender.send(message).is_ok(), !receivers.is_empty());
                    receivers.iter_mut().for_each(|(_, left)| left.push(n));
                }
                _ if !receivers.is_empty() => {
                    let at = random(receivers.len());
                    let (receiver, left) = &mut receivers[at];
                    assert_eq!(receiver.len(), left.len());
                    let missed = left.len().saturating_sub(capacity);
                    let got = receiver.try_recv();
                    if missed > 0 {
                        assert_eq!(got, Err(TryRecvError::Lagged(missed as u64)));
                        left.drain(..missed);
                    } else if left.is_empty() {
                        assert_eq!(got, Err(TryRecvError::Empty));
                    } else {
                        assert_eq!(got, Ok(Arc::new(left.remove(0))));
                    }
                }
                _ => {}
            }
            let kept = |left: &[u32]| left[left.len().saturating_sub(capacity)..].to_vec();
            let mut needed: Vec<u32> = receivers.iter().flat_map(|(_, left)| kept(left)).collect();
            needed.sort_unstable();
            needed.dedup();
            let alive: Vec<u32> = sent
                .iter()
                .filter(|(_, message)| message.strong_count() > 0)
                .map(|(n, _)| *n)
                .collect();
            assert_eq!((sender.len(), &alive), (needed.len(), &needed));
            sent.retain(|(_, message)| message.strong_count() > 0);
        }
    }
}
