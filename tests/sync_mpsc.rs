//! `hebra::sync::mpsc`: std's contract, item by item, on green threads and OS threads. What its
//! channels do otherwise is tested where they come from, in `tests/channel.rs`.

#![cfg(feature = "runtime")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hebra::sync::Mutex;
use hebra::sync::mpsc::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, SyncSender,
    TryRecvError, TrySendError, channel, sync_channel,
};
use hebra::{sim, thread};
use support::{Place, bounded, on_workers, run_the_others};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

/// Takes turns at handing out what only one thread can have.
fn shared<T>(values: impl IntoIterator<Item = T>) -> Mutex<Vec<T>> {
    Mutex::new(values.into_iter().collect())
}

/// Sends a message of a thread.
type Sending = Box<dyn Fn((usize, usize)) + Send>;

#[test]
fn what_many_send_one_receives_and_each_sender_in_order() {
    for place in Place::ALL {
        for bound in [None, Some(0), Some(3)] {
            let mut senders: Vec<Sending> = Vec::new();
            let receiver = match bound {
                None => {
                    let (sender, receiver) = channel();
                    for sender in vec![sender; 4] {
                        senders.push(Box::new(move |message| sender.send(message).unwrap()));
                    }
                    receiver
                }
                Some(bound) => {
                    let (sender, receiver) = sync_channel(bound);
                    for sender in vec![sender; 4] {
                        senders.push(Box::new(move |message| sender.send(message).unwrap()));
                    }
                    receiver
                }
            };
            let (senders, receiver) = (shared(senders), shared([receiver]));
            place.run(5, |me| {
                if me == 0 {
                    let receiver = receiver.lock().unwrap().pop().unwrap();
                    let mut next = [0; 5];
                    for (from, message) in receiver {
                        assert_eq!(next[from], message);
                        next[from] += 1;
                    }
                    assert_eq!(next, [0, 200, 200, 200, 200], "{place:?}");
                } else {
                    let send = senders.lock().unwrap().pop().unwrap();
                    (0..200).for_each(|message| send((me, message)));
                }
            });
        }
    }
}

#[test]
fn messages_stay_when_their_senders_are_gone_and_then_it_ends() {
    let (sender, receiver) = channel();
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    drop(sender);
    assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(1), Ok(2)));
    assert_eq!(
        (receiver.recv(), receiver.try_recv()),
        (Err(RecvError), Err(TryRecvError::Disconnected))
    );
    assert_eq!(
        receiver.recv_timeout(LONG),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!(
        receiver.recv_deadline(Instant::now() + LONG),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn messages_to_a_receiver_that_is_gone_come_back_and_those_before_are_dropped() {
    let (sender, receiver) = channel();
    let value = Arc::new(());
    sender.send(value.clone()).unwrap();
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(sender.send(value.clone()), Err(SendError(value)));
    let (sender, receiver) = sync_channel(1);
    drop(receiver);
    assert_eq!(sender.send(1), Err(SendError(1)));
    assert_eq!(sender.try_send(2), Err(TrySendError::Disconnected(2)));
    assert_eq!(
        sender.send_timeout(3, LONG),
        Err(SendTimeoutError::Disconnected(3))
    );
}

#[test]
fn a_full_channel_takes_no_more_until_one_is_received() {
    on_workers(1, || {
        let (sender, receiver) = sync_channel(1);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        let waits = thread::spawn(move || sender.send(2));
        run_the_others();
        assert!(!waits.is_finished());
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(waits.join().unwrap(), Ok(()));
        assert_eq!(receiver.recv(), Ok(2));
    });
}

#[test]
fn with_a_bound_of_none_sender_and_receiver_meet() {
    on_workers(1, || {
        let (sender, receiver) = sync_channel(0);
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        let other = sender.clone();
        let waits = thread::spawn(move || other.send(2));
        run_the_others();
        assert!(!waits.is_finished());
        assert_eq!(receiver.try_recv(), Ok(2));
        assert_eq!(waits.join().unwrap(), Ok(()));
        let receives = thread::spawn(move || receiver.recv());
        run_the_others();
        assert_eq!(sender.try_send(3), Ok(()));
        assert_eq!(receives.join().unwrap(), Ok(3));
    });
}

#[test]
fn a_time_out_ends_the_wait_and_not_before_its_time() {
    for place in [Place::OneWorker, Place::OsThreads] {
        place.run(1, |_| {
            let (sender, receiver) = sync_channel(1);
            let start = Instant::now();
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= SHORT);
            assert_eq!(
                receiver.recv_deadline(start),
                Err(RecvTimeoutError::Timeout)
            );
            sender.send(1).unwrap();
            let start = Instant::now();
            assert_eq!(
                sender.send_timeout(2, SHORT),
                Err(SendTimeoutError::Timeout(2))
            );
            assert!(start.elapsed() >= SHORT);
            assert_eq!(
                sender.send_deadline(3, start),
                Err(SendTimeoutError::Timeout(3))
            );
            assert_eq!(receiver.recv_timeout(LONG), Ok(1));
            assert_eq!(sender.send_timeout(4, LONG), Ok(()));
            assert_eq!(receiver.recv_deadline(Instant::now() + LONG), Ok(4));
        });
    }
}

#[test]
fn iterators_wait_or_do_not_and_own_the_receiver_or_do_not() {
    let (sender, receiver) = channel();
    (0..3).for_each(|n| sender.send(n).unwrap());
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    (3..6).for_each(|n| sender.send(n).unwrap());
    assert_eq!(receiver.iter().take(1).collect::<Vec<_>>(), [3]);
    drop(sender);
    assert_eq!((&receiver).into_iter().next(), Some(4));
    assert_eq!(receiver.into_iter().collect::<Vec<_>>(), [5]);
}

#[test]
fn a_cancelled_receiver_takes_no_message() {
    on_workers(1, || {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let theirs = receiver.clone();
        let cancelled = thread::spawn(move || theirs.lock().unwrap().recv());
        run_the_others();
        cancelled.cancel();
        sender.send(1).unwrap();
        assert!(cancelled.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(receiver.lock().unwrap().recv(), Ok(1));
    });
}

#[test]
fn nothing_is_lost_under_any_schedule() {
    bounded(|| {
        sim::check(0..1_000, || {
            let (sender, receiver) = sync_channel((sim::random() % 3) as usize);
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let sender = sender.clone();
                    thread::spawn(move || {
                        for mut message in 0..5 {
                            while let Err(SendTimeoutError::Timeout(again)) = sender
                                .send_timeout(message, Duration::from_micros(sim::random() % 20))
                            {
                                message = again;
                            }
                        }
                    })
                })
                .collect();
            drop(sender);
            let mut sum = 0;
            loop {
                match receiver.recv_timeout(Duration::from_micros(sim::random() % 20)) {
                    Ok(message) => sum += message,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            assert_eq!(sum, 30);
        });
    });
}

#[test]
fn they_print_as_std_does() {
    let ours = (channel::<u8>(), sync_channel::<u8>(1).0);
    let stds = (
        std::sync::mpsc::channel::<u8>(),
        std::sync::mpsc::sync_channel::<u8>(1).0,
    );
    assert_eq!(format!("{ours:?}"), format!("{stds:?}"));
}

#[test]
fn their_auto_traits_are_stds() {
    fn sync<T: Send + Sync>() {}
    fn send<T: Send>() {}
    sync::<Sender<u8>>();
    sync::<SyncSender<u8>>();
    send::<Receiver<u8>>();
    let _ = <Receiver<u8> as NotIfSync<_>>::is_not;
}

/// Ambiguous for what is `Sync`: naming `is_not` compiles for what is not.
trait NotIfSync<A> {
    fn is_not() {}
}

impl<T: ?Sized> NotIfSync<()> for T {}
impl<T: ?Sized + Sync> NotIfSync<u8> for T {}
