//! `hebra::sync::oneshot`.

#![cfg(feature = "runtime")]

mod support;

use std::sync::Arc;
use std::sync::mpsc::{RecvError, SendError};
use std::time::{Duration, Instant};

use hebra::sync::Mutex;
use hebra::sync::oneshot::{self, RecvTimeoutError, TryRecvError};
use hebra::thread;
use support::{Place, on_workers, run_the_others};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

#[test]
fn the_message_comes_whoever_is_first() {
    for place in Place::ALL {
        for sender_first in [true, false] {
            let (sender, receiver) = oneshot::channel();
            let ends = (Mutex::new(Some(sender)), Mutex::new(Some(receiver)));
            place.run(2, |me| {
                if (me == 0) == sender_first {
                    ends.0.lock().unwrap().take().unwrap().send(7).unwrap();
                } else {
                    assert_eq!(
                        ends.1.lock().unwrap().take().unwrap().recv(),
                        Ok(7),
                        "{place:?}"
                    );
                }
            });
        }
    }
}

#[test]
fn a_message_stays_when_its_sender_is_gone() {
    let (sender, receiver) = oneshot::channel();
    sender.send("there").unwrap();
    assert_eq!(receiver.recv(), Ok("there"));
}

#[test]
fn a_sender_that_is_dropped_ends_the_wait() {
    for place in Place::ALL {
        let (sender, receiver) = oneshot::channel::<()>();
        let ends = (Mutex::new(Some(sender)), Mutex::new(Some(receiver)));
        place.run(2, |me| {
            if me == 0 {
                assert_eq!(
                    ends.1.lock().unwrap().take().unwrap().recv(),
                    Err(RecvError)
                );
            } else {
                thread::yield_now();
                drop(ends.0.lock().unwrap().take());
            }
        });
    }
    let (sender, receiver) = oneshot::channel::<()>();
    drop(sender);
    assert!(matches!(
        receiver.try_recv(),
        Err(TryRecvError::Disconnected)
    ));
    let (sender, receiver) = oneshot::channel::<()>();
    drop(sender);
    assert!(matches!(
        receiver.recv_timeout(LONG),
        Err(RecvTimeoutError::Disconnected)
    ));
}

#[test]
fn a_message_to_nobody_comes_back_and_one_that_is_not_received_is_dropped() {
    let (sender, receiver) = oneshot::channel();
    drop(receiver);
    assert_eq!(sender.send(5), Err(SendError(5)));
    let value = Arc::new(());
    let (sender, receiver) = oneshot::channel();
    sender.send(value.clone()).unwrap();
    assert_eq!(Arc::strong_count(&value), 2);
    drop(receiver);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn trying_and_timing_out_give_the_receiver_back() {
    for place in [Place::OneWorker, Place::OsThreads] {
        place.run(1, |_| {
            let (sender, receiver) = oneshot::channel();
            let Err(TryRecvError::Empty(receiver)) = receiver.try_recv() else {
                panic!("it is empty")
            };
            let start = Instant::now();
            let Err(RecvTimeoutError::Timeout(receiver)) = receiver.recv_timeout(SHORT) else {
                panic!("it is empty")
            };
            assert!(start.elapsed() >= SHORT);
            let Err(RecvTimeoutError::Timeout(receiver)) = receiver.recv_deadline(start) else {
                panic!("it is empty")
            };
            sender.send(1).unwrap();
            let Ok(1) = receiver.try_recv() else {
                panic!("it is there")
            };
        });
    }
    let (sender, receiver) = oneshot::channel();
    sender.send(1).unwrap();
    assert!(matches!(receiver.recv_deadline(Instant::now()), Ok(1)));
}

#[test]
fn time_outs_race_with_sending_and_no_message_is_lost() {
    for place in Place::ALL {
        let channels: Vec<_> = (0..300)
            .map(|_| oneshot::channel())
            .map(|(s, r)| (Mutex::new(Some(s)), Mutex::new(Some(r))))
            .collect();
        place.run(2, |me| {
            for (n, (sender, receiver)) in channels.iter().enumerate() {
                if me == 0 {
                    sender.lock().unwrap().take().unwrap().send(n).unwrap();
                    continue;
                }
                let mut receiver = receiver.lock().unwrap().take().unwrap();
                loop {
                    match receiver.recv_timeout(Duration::from_micros(n as u64 % 30)) {
                        Ok(message) => break assert_eq!(message, n),
                        Err(RecvTimeoutError::Timeout(again)) => receiver = again,
                        Err(RecvTimeoutError::Disconnected) => panic!("the message is lost"),
                    }
                }
            }
        });
    }
}

#[test]
fn a_cancelled_receiver_is_gone_and_in_a_destructor_it_fails_at_once() {
    struct Receives(Option<oneshot::Receiver<()>>);
    impl Drop for Receives {
        fn drop(&mut self) {
            let receiver = self.0.take().unwrap();
            let Err(RecvTimeoutError::Timeout(receiver)) = receiver.recv_timeout(LONG) else {
                panic!("it does not wait")
            };
            assert_eq!(receiver.recv(), Err(RecvError));
        }
    }
    on_workers(1, || {
        let (sender, receiver) = oneshot::channel();
        let (other, receives) = oneshot::channel();
        let receives = Receives(Some(receives));
        let thread = thread::spawn(move || {
            let _receives = receives;
            receiver.recv()
        });
        run_the_others();
        thread.cancel();
        assert!(thread.join().unwrap_err().is::<thread::Cancelled>());
        assert_eq!(sender.send(()), Err(SendError(())));
        assert_eq!(other.send(()), Err(SendError(())));
    });
}

#[test]
fn a_message_that_was_sent_before_the_cancellation_is_received() {
    on_workers(1, || {
        let (sender, receiver) = oneshot::channel();
        let received = Arc::new(Mutex::new(None));
        let theirs = received.clone();
        let thread = thread::spawn(move || *theirs.lock().unwrap() = receiver.recv().ok());
        run_the_others();
        sender.send(9).unwrap();
        thread.cancel();
        thread.join().unwrap();
        assert_eq!(*received.lock().unwrap(), Some(9));
    });
}

#[test]
fn errors_print_and_convert() {
    let (sender, receiver) = oneshot::channel::<u8>();
    assert_eq!(
        format!("{sender:?} {receiver:?}"),
        "Sender { .. } Receiver { .. }"
    );
    let empty = receiver.try_recv().unwrap_err();
    assert_eq!(
        format!("{empty:?}: {empty}"),
        "Empty(..): receiving on an empty oneshot channel"
    );
    let gone: RecvTimeoutError<u8> = RecvError.into();
    assert_eq!(
        format!("{gone:?}: {gone}"),
        "Disconnected: receiving on a closed oneshot channel"
    );
    assert!(matches!(
        TryRecvError::<u8>::from(RecvError),
        TryRecvError::Disconnected
    ));
    fn all<T: Send + Sync>() {}
    all::<oneshot::Sender<u8>>();
    all::<oneshot::Receiver<u8>>();
}
