//! Channels between green threads: cancellation, crowds, fairness, mixtures with OS threads; and
//! many simulated schedules, with a ledger that accounts for every message.

#![cfg(feature = "runtime")]

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::channel::{
    self, Receiver, RecvError, Select, SendError, Sender, TryRecvError, bounded, never, select,
    tick, unbounded,
};
use hebra::{sim, thread};
use rustix::thread::MembarrierCommand;

use support::{bounded as within_bounds, child, is_child, on_workers, stderr, wait_until};

mod support;

const SHORT: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs a test under some seeds. When a sleep ends in a simulation, everybody else waits for
/// something.
fn simulate(test: impl Fn()) {
    within_bounds(|| sim::check(0..50, &test));
}

/// Counts how often it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

// Types

#[test]
fn the_errors_are_crossbeams_own() {
    let error: crossbeam_channel::SendError<u32> = SendError(1);
    let _: channel::TrySendError<u32> = error.into();
    let error: crossbeam_channel::RecvError = RecvError;
    let _: channel::RecvTimeoutError = error.into();
    let _: crossbeam_channel::TrySelectError = channel::TrySelectError;
    let _: crossbeam_channel::SelectTimeoutError = channel::SelectTimeoutError;
    let _: crossbeam_channel::TryReadyError = channel::TryReadyError;
    let _: crossbeam_channel::ReadyTimeoutError = channel::ReadyTimeoutError;
}

#[test]
fn handles_go_wherever_their_messages_may_go() {
    fn is_send_and_sync<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    is_send_and_sync::<Sender<std::cell::Cell<u32>>>();
    is_send_and_sync::<Receiver<std::cell::Cell<u32>>>();
    static NEVER: Receiver<u32> = never();
    assert!(NEVER.try_recv().is_err());
}

#[test]
fn messages_that_cannot_leave_their_thread_go_between_local_ones() {
    on_workers(1, || {
        let (sender, receiver) = bounded(0);
        let echo =
            thread::spawn_local(move || receiver.recv().map(|text: std::rc::Rc<str>| text.len()));
        select! { send(sender, "four".into()) -> result => result.unwrap() }
        assert_eq!(echo.join().unwrap(), Ok(4));
    });
}

// Order

#[test]
fn who_waits_first_is_served_first() {
    simulate(|| {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let producers: Vec<_> = (0..10)
                .map(|n| {
                    let sender = sender.clone();
                    let producer = thread::spawn(move || sender.send(n).unwrap());
                    thread::sleep(SHORT);
                    producer
                })
                .collect();
            assert!(receiver.iter().take(10).eq(0..10));
            producers
                .into_iter()
                .for_each(|producer| producer.join().unwrap());
            let consumers: Vec<_> = (0..10)
                .map(|n| {
                    let receiver = receiver.clone();
                    let consumer = thread::spawn(move || assert_eq!(receiver.recv(), Ok(n)));
                    thread::sleep(SHORT);
                    consumer
                })
                .collect();
            (0..10).for_each(|n| sender.send(n).unwrap());
            consumers
                .into_iter()
                .for_each(|consumer| consumer.join().unwrap());
        }
    });
}

#[test]
fn what_was_given_to_a_waiting_receiver_is_out_of_the_channel() {
    simulate(|| {
        let (sender, receiver) = bounded(1);
        let consumer = thread::spawn({
            let receiver = receiver.clone();
            move || receiver.recv()
        });
        thread::sleep(SHORT);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!((sender.try_send(3).is_err(), sender.len()), (true, 1));
        assert_eq!(receiver.try_recv(), Ok(2));
        assert_eq!(consumer.join().unwrap(), Ok(1));
    });
}

// Cancellation

#[test]
fn a_cancelled_receive_takes_no_message() {
    simulate(|| {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let consumer = thread::spawn({
                let receiver = receiver.clone();
                move || receiver.recv()
            });
            thread::sleep(SHORT);
            consumer.cancel();
            let sent = thread::spawn(move || sender.send(7));
            assert!(consumer.join().is_err());
            assert_eq!(receiver.recv(), Ok(7));
            assert_eq!(sent.join().unwrap(), Ok(()));
        }
    });
}

#[test]
fn a_receive_that_was_given_its_message_succeeds_though_cancelled() {
    simulate(|| {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let got = Arc::new(AtomicUsize::new(0));
            let consumer = thread::spawn({
                let got = got.clone();
                move || {
                    got.store(receiver.recv().unwrap(), SeqCst);
                    thread::sleep(HOUR);
                }
            });
            thread::sleep(SHORT);
            sender.try_send(7).unwrap();
            consumer.cancel();
            assert!(consumer.join().is_err(), "the next cancel point delivers");
            assert_eq!(got.load(SeqCst), 7);
        }
    });
}

#[test]
fn a_cancelled_send_sends_nothing_and_drops_its_message_once() {
    simulate(|| {
        for capacity in [0, 1] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = bounded(capacity);
            (0..capacity).for_each(|_| sender.send(Counted(Arc::default())).unwrap());
            let producer = thread::spawn({
                let (sender, message) = (sender.clone(), Counted(dropped.clone()));
                move || sender.send(message)
            });
            thread::sleep(SHORT);
            assert_eq!(dropped.load(SeqCst), 0);
            producer.cancel();
            assert!(producer.join().is_err());
            assert_eq!(dropped.load(SeqCst), 1);
            assert_eq!(receiver.try_iter().count(), capacity);
        }
    });
}

#[test]
fn a_time_out_around_an_operation_undoes_it() {
    simulate(|| {
        let (sender, receiver) = bounded(0);
        assert!(thread::timeout(SHORT, || receiver.recv()).is_err());
        assert!(thread::timeout(SHORT, || sender.send(1)).is_err());
        let late = thread::timeout(SHORT, || {
            select! {
                recv(receiver) -> _ => {}
                send(sender, 1) -> _ => {}
            }
        });
        assert!(late.is_err());
        assert!(
            sender.try_send(1).is_err() && receiver.try_recv().is_err(),
            "nobody is left waiting"
        );
    });
}

#[test]
fn a_time_out_works_on_os_threads_too() {
    within_bounds(|| {
        let (sender, receiver) = bounded(0);
        assert!(thread::timeout(SHORT, || receiver.recv()).is_err());
        assert!(thread::timeout(SHORT, || sender.send(1)).is_err());
        assert!(
            sender.try_send(1).is_err() && receiver.try_recv().is_err(),
            "nobody is left waiting"
        );
    });
}

/// Runs `f` in a destructor of a thread that is being cancelled, and returns what it returns.
fn in_cancelled_destructor<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    struct AtTheEnd<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for AtTheEnd<F> {
        fn drop(&mut self) {
            self.0.take().unwrap()();
        }
    }
    let (tell, told) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let _guard = AtTheEnd(Some(move || tell.send(f()).unwrap()));
        thread::sleep(HOUR);
    });
    thread::sleep(SHORT);
    thread.cancel();
    assert!(thread.join().is_err());
    told.recv().unwrap()
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_what_can_be_had_at_once_is_had_and_the_rest_fails() {
    simulate(|| {
        let (sender, receiver) = bounded(1);
        let (full, _empty) = bounded::<u32>(0);
        let results = in_cancelled_destructor({
            let receiver = receiver.clone();
            move || {
                let sent = (sender.send(1), sender.send(2), sender.send_timeout(3, HOUR));
                let received = (
                    receiver.recv(),
                    receiver.recv(),
                    receiver.recv_timeout(HOUR),
                );
                let selected = select! {
                    recv(receiver) -> message => message,
                    send(full, 1) -> result => result.map(|()| 0).map_err(|SendError(_)| RecvError),
                };
                let mut ready = Select::new();
                ready.recv(&receiver);
                let ready = (ready.ready(), ready.ready_timeout(HOUR));
                let selected_in_time = select! {
                    recv(receiver) -> message => message,
                    recv(never()) -> message => message,
                    default(HOUR) => Ok(9),
                };
                (sent, received, selected, ready, selected_in_time)
            }
        });
        let (sent, received, selected, ready, selected_in_time) = results;
        assert_eq!(
            sent,
            (
                Ok(()),
                Err(SendError(2)),
                Err(channel::SendTimeoutError::Disconnected(3))
            )
        );
        assert_eq!(
            received,
            (
                Ok(1),
                Err(RecvError),
                Err(channel::RecvTimeoutError::Disconnected)
            )
        );
        assert_eq!(
            selected,
            Err(RecvError),
            "one of them is selected, and fails"
        );
        assert_eq!(ready, (0, Err(channel::ReadyTimeoutError)));
        assert_eq!(selected_in_time, Err(RecvError));
    });
}

#[test]
fn the_end_of_a_runtime_ends_whoever_waits_for_channels() {
    within_bounds(|| {
        let (sender, receiver) = bounded::<Counted>(0);
        let dropped = Arc::new(AtomicUsize::new(0));
        for workers in [1, 2] {
            let runtime = hebra::Runtime::new(hebra::Config::default().workers(workers)).unwrap();
            runtime.run(|| {
                for _ in 0..10 {
                    let (sender, receiver, dropped) =
                        (sender.clone(), receiver.clone(), dropped.clone());
                    let (only, alone) = bounded::<u32>(0);
                    thread::spawn(move || sender.send(Counted(dropped)));
                    thread::spawn(
                        move || select! { recv(alone) -> _ => {}, recv(never::<()>()) -> _ => {} },
                    );
                    drop(receiver);
                    std::mem::forget(only);
                }
                thread::sleep(SHORT);
            });
        }
        assert_eq!(dropped.load(SeqCst), 20);
        assert!(receiver.try_recv().is_err());
    });
}

// Operations that were selected and are not completed

#[test]
fn a_message_that_was_selected_and_not_received_goes_to_the_next() {
    for capacity in [0, 2] {
        simulate(|| {
            let (sender, receiver) = bounded(capacity);
            let producer = thread::spawn(move || (0..2).for_each(|n| sender.send(n).unwrap()));
            thread::sleep(SHORT);
            let undone = catch_unwind(AssertUnwindSafe(|| {
                let mut select = Select::new();
                select.recv(&receiver);
                drop(select.select());
            }));
            assert!(undone.is_err(), "it is a mistake to drop it");
            assert!(receiver.iter().eq(0..2));
            producer.join().unwrap();
        });
    }
}

#[test]
fn who_is_cancelled_between_selecting_and_receiving_leaves_the_message_where_it_was() {
    for capacity in [Some(0), Some(1), Some(3), None] {
        let runs = sim::cancel_everywhere(0..10, |audit| {
            let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
            let (_other, silent) = bounded::<u32>(0);
            let producer = thread::spawn(move || (0..3).for_each(|n| sender.send(n).unwrap()));
            let received = std::rc::Rc::new(Cell::new(0));
            let victim = audit.spawn({
                let (receiver, received) = (receiver.clone(), received.clone());
                move || {
                    for n in 0..2 {
                        let mut select = Select::new();
                        let [first, second] = [select.recv(&receiver), select.recv(&silent)];
                        let operation = select.select();
                        assert!(operation.index() == first && first != second);
                        thread::yield_now();
                        assert_eq!(operation.recv(&receiver), Ok(n));
                        received.set(n + 1);
                    }
                }
            });
            let _ = victim.join();
            // In order, and the producer has not noticed anything.
            assert!(receiver.iter().eq(received.get()..3));
            producer.join().unwrap();
        });
        assert!(runs > 60, "{runs}");
    }
}

#[test]
fn a_message_that_is_given_back_wakes_who_waits_for_it() {
    simulate(|| {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let holder = thread::spawn({
                let receiver = receiver.clone();
                move || {
                    let mut select = Select::new();
                    select.recv(&receiver);
                    let operation = select.select();
                    thread::sleep(HOUR);
                    operation.recv(&receiver)
                }
            });
            sender.send(1).unwrap();
            thread::sleep(SHORT);
            let waiting = thread::spawn(
                move || select! { recv(receiver) -> message => message, recv(never()) -> message => message },
            );
            thread::sleep(SHORT);
            assert!(!waiting.is_finished());
            holder.cancel();
            assert_eq!(waiting.join().unwrap(), Ok(1));
            assert!(holder.join().is_err());
        }
    });
}

#[test]
fn a_message_that_is_given_back_when_everybody_else_has_gone_goes_with_the_channel() {
    simulate(|| {
        for capacity in [0, 1] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = bounded(capacity);
            let other = receiver.clone();
            let holder = thread::spawn(move || {
                let mut select = Select::new();
                select.recv(&receiver);
                let operation = select.select();
                thread::sleep(HOUR);
                operation.recv(&receiver).map(drop)
            });
            assert!(sender.send(Counted(dropped.clone())).is_ok());
            drop(sender);
            thread::sleep(SHORT);
            assert_eq!(
                other.try_recv().map(drop),
                Err(TryRecvError::Disconnected),
                "the message is somebody's"
            );
            drop(other);
            holder.cancel();
            assert!(holder.join().is_err());
            assert_eq!(dropped.load(SeqCst), 1);
        }
    });
}

#[test]
fn a_place_that_was_selected_and_not_filled_goes_to_the_next() {
    simulate(|| {
        let (sender, receiver) = bounded(1);
        let mut select = Select::new();
        select.send(&sender);
        let operation = select.select();
        assert!(
            sender.is_full() && receiver.try_recv().is_err(),
            "the place is taken, and empty"
        );
        let next = thread::spawn({
            let sender = sender.clone();
            move || sender.send(2)
        });
        thread::sleep(SHORT);
        assert!(!next.is_finished());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(operation))).is_err());
        assert_eq!(next.join().unwrap(), Ok(()));
        assert_eq!(receiver.recv(), Ok(2));
    });
}

#[test]
fn a_receiver_whose_sender_gives_up_waits_for_another() {
    // The sender comes first, or the receiver does.
    for receiver_waits in [false, true] {
        simulate(|| {
            let (sender, receiver) = bounded(0);
            let consumer = || {
                let receiver = receiver.clone();
                thread::spawn(move || receiver.recv())
            };
            let waiting = receiver_waits.then(consumer);
            thread::sleep(SHORT);
            let gives_up = thread::spawn({
                let sender = sender.clone();
                move || {
                    let message = || {
                        if sender.is_full() {
                            panic!("there is no message")
                        } else {
                            1
                        }
                    };
                    select! {
                        send(sender, message()) -> _ => {}
                        recv(never::<()>()) -> _ => {}
                    }
                }
            });
            let consumer = waiting.unwrap_or_else(|| {
                thread::sleep(SHORT);
                consumer()
            });
            assert!(gives_up.join().is_err());
            thread::sleep(SHORT);
            assert!(!consumer.is_finished());
            sender.send(5).unwrap();
            assert_eq!(consumer.join().unwrap(), Ok(5));
        });
    }
}

#[test]
fn a_sender_that_is_cancelled_while_it_makes_its_message_owes_nobody() {
    simulate(|| {
        let (sender, receiver) = bounded(0);
        let slow = thread::spawn({
            let sender = sender.clone();
            move || {
                select! {
                    send(sender, { thread::sleep(HOUR); 1 }) -> _ => {}
                    recv(never::<()>()) -> _ => {}
                }
            }
        });
        thread::sleep(SHORT);
        // It has been selected by this receive, which cannot be given up any more.
        let consumer = thread::spawn(move || receiver.recv_timeout(SHORT));
        thread::sleep(2 * SHORT);
        assert!(!consumer.is_finished());
        slow.cancel();
        assert_eq!(
            consumer.join().unwrap(),
            Err(channel::RecvTimeoutError::Timeout)
        );
        assert!(slow.join().is_err());
        assert!(sender.send(2).is_err());
    });
}

#[test]
fn a_slow_message_arrives() {
    for receiver_waits in [false, true] {
        simulate(|| {
            let (sender, receiver) = bounded(0);
            let consumer = || {
                let receiver = receiver.clone();
                thread::spawn(move || match thread::deadline() {
                    None => receiver.recv().unwrap(),
                    Some(_) => unreachable!(),
                })
            };
            let waiting = receiver_waits.then(consumer);
            thread::sleep(SHORT);
            let slow = thread::spawn(move || {
                select! { send(sender, { thread::sleep(HOUR); 1 }) -> result => result, recv(never::<()>()) -> _ => unreachable!() }
            });
            thread::sleep(SHORT);
            let consumer = waiting.unwrap_or_else(consumer);
            assert_eq!(
                (consumer.join().unwrap(), slow.join().unwrap()),
                (1, Ok(()))
            );
        });
    }
}

#[test]
fn an_operation_is_completed_with_its_own_handle() {
    let (sender, receiver) = bounded(1);
    let (other_sender, other) = bounded(1);
    sender.send(1).unwrap();
    let wrong_receiver = catch_unwind(AssertUnwindSafe(|| {
        let mut select = Select::new();
        select.recv(&receiver);
        let _ = select.select().recv(&other);
    }));
    let wrong_sender = catch_unwind(AssertUnwindSafe(|| {
        let mut select = Select::new();
        select.send(&other_sender);
        let _ = select.select().send(&sender, 2);
    }));
    assert!(wrong_receiver.is_err() && wrong_sender.is_err());
    assert_eq!(
        (receiver.try_recv(), other.try_recv()),
        (Ok(1), Err(TryRecvError::Empty))
    );
    assert_eq!(
        other_sender.try_send(3),
        Ok(()),
        "the place has been given back"
    );
}

#[test]
fn operation_is_completed_with_a_clone_of_its_handle() {
    for capacity in [None, Some(2), Some(0)] {
        let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
        within_bounds(|| {
            let other = receiver.clone();
            let thread = std::thread::spawn(move || other.recv());
            let mut list = Select::new();
            list.send(&sender);
            assert_eq!(list.select().send(&sender.clone(), 7), Ok(()));
            assert_eq!(thread.join().unwrap(), Ok(7));

            let other = sender.clone();
            let thread = std::thread::spawn(move || other.send(8));
            let mut list = Select::new();
            list.recv(&receiver);
            assert_eq!(list.select().recv(&receiver.clone()), Ok(8));
            assert_eq!(thread.join().unwrap(), Ok(()));
        });
    }
    let ticks = tick(SHORT);
    let mut list = Select::new();
    list.recv(&ticks);
    assert!(list.select().recv(&ticks.clone()).is_ok());

    // The other end of the same channel is another operation.
    let (sender, receiver) = unbounded::<u32>();
    let swapped = catch_unwind(AssertUnwindSafe(|| {
        let mut list = Select::new();
        list.send(&sender);
        list.select().recv(&receiver)
    }));
    assert!(swapped.is_err());
}

#[test]
fn a_selected_operation_that_is_forgotten_harms_nobody() {
    let (sender, receiver) = bounded(2);
    sender.send(Counted(Arc::default())).unwrap();
    let mut select = Select::new();
    select.recv(&receiver);
    std::mem::forget(select.select());
    let mut select = Select::new();
    select.send(&sender);
    std::mem::forget(select.select());
    assert_eq!(sender.len(), 1);
    assert!(sender.try_send(Counted(Arc::default())).is_ok());
    assert!(receiver.recv().is_ok() && receiver.try_recv().is_err());
}

#[test]
fn destructors_of_messages_may_use_the_channel_and_panic() {
    struct Nosy(Option<Sender<Nosy>>, Arc<AtomicUsize>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            if let Some(sender) = self.0.take() {
                assert_eq!(sender.len(), 0);
                assert!(sender.send(Nosy(None, self.1.clone())).is_err());
                if !std::thread::panicking() {
                    panic!("as announced");
                }
            }
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = unbounded();
    (0..3).for_each(|_| {
        assert!(
            sender
                .send(Nosy(Some(sender.clone()), dropped.clone()))
                .is_ok()
        )
    });
    assert!(
        catch_unwind(AssertUnwindSafe(|| drop(receiver))).is_err(),
        "a panic in one of them goes on"
    );
    assert_eq!(dropped.load(SeqCst), 6, "all of them have been dropped");
}

// Crowds

/// Runs a test with a hundred thousand green threads.
fn crowded<T>(workers: usize, test: impl FnOnce() -> T) -> T {
    let runtime = hebra::Runtime::new(
        hebra::Config::default()
            .workers(workers)
            .stack_size(64 << 10),
    )
    .unwrap();
    within_bounds(|| runtime.run(test))
}

/// How long the last of many blocked threads takes to see that its channel is closed.
fn close_a_crowd(crowd: usize, wait: impl Fn(&Receiver<u32>) + Send + Clone + 'static) -> Duration {
    let (sender, receiver) = bounded(0);
    let waiting = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..crowd)
        .map(|_| {
            let (receiver, waiting, wait) = (receiver.clone(), waiting.clone(), wait.clone());
            thread::spawn(move || {
                waiting.fetch_add(1, SeqCst);
                wait(&receiver);
            })
        })
        .collect();
    wait_until(|| waiting.load(SeqCst) == crowd);
    let start = Instant::now();
    drop(sender);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    start.elapsed()
}

#[test]
fn a_hundred_thousand_wake_when_their_channel_is_closed() {
    crowded(2, || {
        close_a_crowd(100_000, |receiver| {
            assert_eq!(receiver.recv(), Err(RecvError))
        });
        close_a_crowd(20_000, |receiver| {
            select! {
                recv(receiver) -> message => assert_eq!(message, Err(RecvError)),
                recv(never::<()>()) -> _ => unreachable!(),
            }
        });
        close_a_crowd(20_000, |receiver| {
            let mut select = Select::new();
            select.recv(receiver);
            assert_eq!(select.ready(), 0);
        });
    });
}

#[test]
fn a_crowd_leaves_from_the_middle_of_the_line_in_no_time() {
    // If each had to be looked for among the others, this would be ten thousand million steps.
    crowded(1, || {
        let (sender, receiver) = bounded::<u32>(0);
        let crowd: Vec<_> = (0..100_000)
            .map(|_| {
                let receiver = receiver.clone();
                thread::spawn(move || receiver.recv())
            })
            .collect();
        thread::yield_now();
        let (odd, even): (Vec<_>, Vec<_>) =
            crowd.into_iter().enumerate().partition(|(n, _)| n % 2 == 1);
        for (_, thread) in odd.into_iter().rev().chain(even) {
            thread.cancel();
            assert!(thread.join().is_err());
        }
        assert!(sender.try_send(1).is_err());
    });
}

#[test]
fn what_a_crowd_has_sent_arrives() {
    crowded(2, || {
        let (sender, receiver) = bounded(0);
        for n in 0..10_000_u64 {
            let sender = sender.clone();
            thread::spawn(move || sender.send(n).unwrap());
        }
        drop(sender);
        assert_eq!(receiver.iter().sum::<u64>(), 49_995_000);
    });
}

// Fairness

/// Sends numbers and receives others, as many; returns the sum of what has come.
fn exchange(sender: &Sender<u64>, receiver: &Receiver<u64>, numbers: std::ops::Range<u64>) -> u64 {
    numbers
        .map(|number| {
            sender
                .send(number)
                .map(|()| receiver.recv().unwrap())
                .unwrap()
        })
        .sum()
}

/// A channel is quick for the OS thread that has long used it alone, and then somebody else comes,
/// again and again.
#[test]
fn nothing_is_lost_when_a_channel_changes_hands_between_os_threads() {
    const ALONE: u64 = 20_000;
    const TOGETHER: u64 = 5_000;
    within_bounds(|| {
        // There must be a runtime, or there has been one: only then the quick way exists.
        hebra::run(|| ());
        let (sender, receiver) = bounded(8);
        let sum = |count: u64| count * (count - 1) / 2;
        for _ in 0..10 {
            assert_eq!(exchange(&sender, &receiver, 0..ALONE), sum(ALONE));
            let theirs = (sender.clone(), receiver.clone());
            let other = std::thread::spawn(move || {
                let together = exchange(&theirs.0, &theirs.1, 0..TOGETHER);
                (together, theirs)
            });
            let ours = exchange(&sender, &receiver, 0..TOGETHER);
            let (together, theirs) = other.join().unwrap();
            assert_eq!(ours + together, 2 * sum(TOGETHER));
            let alone = std::thread::spawn(move || exchange(&theirs.0, &theirs.1, 0..ALONE));
            assert_eq!(alone.join().unwrap(), sum(ALONE));
        }
        assert!(receiver.is_empty());
    });
}

/// There is no other way left to keep two from being inside at a time.
#[cfg(target_os = "linux")]
#[test]
fn a_channel_that_cannot_be_taken_away_from_an_os_thread_any_more_ends_the_process() {
    if is_child() {
        hebra::run(|| ());
        let (sender, receiver) = bounded(8);
        exchange(&sender, &receiver, 0..20_000);
        let other = std::thread::spawn(move || {
            refuse_membarrier();
            sender.send(0)
        });
        println!("it was sent: {:?}", other.join());
        return;
    }
    if !rustix::thread::membarrier_query().contains_command(MembarrierCommand::PrivateExpedited) {
        return; // No channel is ever one OS thread's there.
    }
    let output = within_bounds(|| {
        child(
            "a_channel_that_cannot_be_taken_away_from_an_os_thread_any_more_ends_the_process",
            &[],
        )
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    assert!(stderr(&output).contains("membarrier"), "{output:?}");
}

/// Has the system refuse that one call to the calling OS thread from now on.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn refuse_membarrier() {
    let step = |code: u32, if_not: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: if_not,
        k,
    };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            libc::SYS_membarrier as u32,
        ),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: takes no pointer.
    assert_eq!(
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
        0
    );
    // SAFETY: the program is there, and of that length.
    assert_eq!(
        unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        },
        0
    );
}

#[test]
fn a_firehose_lets_the_others_run() {
    on_workers(1, || {
        let stop = Arc::new(AtomicBool::new(false));
        let hose = thread::spawn({
            let stop = stop.clone();
            move || {
                let (sender, receiver) = bounded(1);
                while !stop.load(SeqCst) {
                    sender.send(1).unwrap();
                    receiver.recv().unwrap();
                    sender.try_send(1).unwrap();
                    receiver.try_recv().unwrap();
                }
            }
        });
        let selects = thread::spawn({
            let stop = stop.clone();
            move || {
                let (sender, receiver) = bounded(1);
                while !stop.load(SeqCst) {
                    select! { send(sender, 1) -> result => result.unwrap(), recv(receiver) -> message => assert_eq!(message, Ok(1)) }
                }
            }
        });
        let polls = thread::spawn({
            let stop = stop.clone();
            move || {
                let (_sender, receiver) = bounded::<u32>(1);
                while !stop.load(SeqCst) {
                    select! { recv(receiver) -> _ => {}, recv(never::<()>()) -> _ => {}, default => {} }
                    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
                    // None of these calls can wait, so none lets others run.
                    thread::yield_now();
                }
            }
        });
        thread::sleep(SHORT);
        stop.store(true, SeqCst);
        hose.join().unwrap();
        selects.join().unwrap();
        polls.join().unwrap();
    });
}

#[test]
fn a_firehose_of_a_cancelled_thread_ends() {
    on_workers(1, || {
        let hose = thread::spawn(|| {
            let (sender, receiver) = bounded(1);
            loop {
                sender.send(1).unwrap();
                receiver.recv().unwrap();
            }
        });
        thread::sleep(SHORT);
        hose.cancel();
        assert!(hose.join().is_err());
    });
}

// What else a select waits for

#[test]
fn the_end_of_a_thread_can_be_waited_for() {
    simulate(|| {
        let worker = thread::spawn(|| {
            thread::sleep(SHORT);
            5
        });
        let end = channel::finished(&worker);
        assert_eq!(end.try_recv(), Err(TryRecvError::Empty));
        let first = select! {
            recv(end) -> ended => ended.map_err(|RecvError| "the end").unwrap_err(),
            recv(channel::after(HOUR)) -> _ => "an hour",
        };
        assert_eq!(first, "the end");
        assert!(worker.is_finished());
        assert!(
            channel::finished(&worker).recv().is_err(),
            "also afterwards"
        );
        assert_eq!(worker.join().unwrap(), 5);
        assert_eq!(
            end.recv(),
            Err(RecvError),
            "for good, and without the handle"
        );
    });
}

#[test]
fn threads_end_in_many_ways() {
    simulate(|| {
        let panics = thread::spawn(|| {
            thread::sleep(SHORT);
            panic!("as announced");
        });
        let cancelled = thread::spawn(|| thread::sleep(HOUR));
        let local = thread::spawn_local(|| thread::sleep(SHORT));
        let detached = thread::spawn(|| thread::sleep(SHORT));
        let ends = [
            channel::finished(&panics),
            channel::finished(&cancelled),
            channel::finished(&local),
            channel::finished(&detached),
        ];
        drop(detached);
        cancelled.cancel();
        assert!(ends.iter().all(|end| end.recv() == Err(RecvError)));
        assert!(panics.join().is_err() && cancelled.join().is_err() && local.join().is_ok());
    });
}

// Mixtures

#[test]
fn green_threads_and_os_threads_share_channels() {
    for capacity in [0, 1, 10] {
        let (sender, receiver) = bounded(capacity);
        let (back_sender, back) = bounded(capacity);
        let outside: Vec<_> = (0..2)
            .map(|_| {
                let (receiver, back_sender) = (receiver.clone(), back_sender.clone());
                std::thread::spawn(move || {
                    for n in receiver {
                        select! { send(back_sender, n + 1) -> result => result.unwrap(), recv(never::<()>()) -> _ => unreachable!() }
                    }
                })
            })
            .collect();
        on_workers(2, move || {
            for _ in 0..4 {
                let (receiver, back_sender) = (receiver.clone(), back_sender.clone());
                thread::spawn(move || {
                    receiver
                        .iter()
                        .for_each(|n: u64| back_sender.send(n + 1).unwrap())
                });
            }
            drop((receiver, back_sender));
            let producers: Vec<_> = (0..4)
                .map(|_| {
                    let sender = sender.clone();
                    thread::spawn(move || (0..500).for_each(|n| sender.send(n).unwrap()))
                })
                .collect();
            drop(sender);
            let mut sum = 0;
            while let Ok(n) = select! { recv(back) -> message => message, recv(never::<u64>()) -> message => message }
            {
                sum += n;
            }
            assert_eq!(sum, 4 * (0..500).map(|n| n + 1).sum::<u64>());
            producers
                .into_iter()
                .for_each(|producer| producer.join().unwrap());
        });
        outside
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

// The ledger

/// What has become of a message, and how often.
#[derive(Debug, Default, Clone, Copy)]
struct Record {
    channel: usize,
    sent: usize,
    returned: usize,
    received: usize,
    dropped: usize,
}

/// An account of every message of one run.
#[derive(Default)]
struct Ledger {
    records: Mutex<Vec<Record>>,
}

/// A message that tells the ledger when it is dropped.
struct Message {
    id: usize,
    ledger: Arc<Ledger>,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.ledger.with(self.id, |record| record.dropped += 1);
    }
}

impl Ledger {
    fn make(self: &Arc<Ledger>, channel: usize) -> Message {
        let mut records = self.records.lock().unwrap();
        records.push(Record {
            channel,
            ..Record::default()
        });
        Message {
            id: records.len() - 1,
            ledger: self.clone(),
        }
    }

    fn with(&self, id: usize, f: impl FnOnce(&mut Record)) {
        f(&mut self.records.lock().unwrap()[id]);
    }

    fn sent(&self, id: usize, result: Result<(), Message>) {
        match result {
            Ok(()) => self.with(id, |record| record.sent += 1),
            Err(message) => {
                assert_eq!(message.id, id, "another message has come back");
                self.with(id, |record| record.returned += 1);
            }
        }
    }

    fn received(&self, channel: usize, message: Message) {
        self.with(message.id, |record| {
            assert_eq!(record.channel, channel, "it comes from another channel");
            record.received += 1;
        });
    }

    /// Closes the account. Channels whose receivers went first may have kept what was sent.
    fn close(&self, receivers_went_first: &[bool]) -> HashMap<&'static str, usize> {
        let mut totals = HashMap::new();
        for (id, record) in self.records.lock().unwrap().iter().enumerate() {
            let Record {
                channel,
                sent,
                returned,
                received,
                dropped,
            } = *record;
            assert_eq!(
                dropped, 1,
                "message {id} was dropped {dropped} times: {record:?}"
            );
            assert!(
                sent + returned <= 1 && received <= 1,
                "message {id} was there more than once: {record:?}"
            );
            assert!(
                returned + received <= 1,
                "message {id} has come back and arrived: {record:?}"
            );
            assert!(
                received <= sent,
                "message {id} has arrived, but its sender was told otherwise: {record:?}"
            );
            assert!(
                sent <= received || receivers_went_first[channel],
                "message {id} is lost: {record:?}"
            );
            *totals.entry("sent").or_default() += sent;
            *totals.entry("returned").or_default() += returned;
            *totals.entry("cancelled").or_default() += usize::from(sent + returned == 0);
            *totals.entry("received").or_default() += received;
        }
        totals
    }
}

/// A random number: from the seed of a simulation, or just so.
fn below(n: usize) -> usize {
    thread_local! {
        static WORD: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
    }
    let random = match sim::seed() {
        Some(_) => sim::random(),
        None => WORD.with(|word| word.replace(RandomState::new().hash_one(word.get()))),
    };
    random as usize % n
}

fn moment() -> Duration {
    Duration::from_micros(below(20) as u64)
}

fn error<T, E>(result: Result<T, E>, message: impl FnOnce(E) -> Message) -> Result<(), Message> {
    result.map(drop).map_err(message)
}

/// One operation of a producer, on one of the channels.
fn produce(ledger: &Arc<Ledger>, senders: &[Sender<Message>]) {
    let at = below(senders.len());
    let sender = &senders[at];
    // The channel that is chosen by a select is entered into the record when it is known.
    let message = ledger.make(at);
    let id = message.id;
    let result = match below(6) {
        0 | 1 => error(sender.send(message), |error| error.0),
        2 => error(sender.try_send(message), |error| error.into_inner()),
        3 => error(sender.send_timeout(message, moment()), |error| {
            error.into_inner()
        }),
        4 => {
            let mut select = Select::new();
            let indices: Vec<_> = senders.iter().map(|sender| select.send(sender)).collect();
            let operation = if below(2) == 0 {
                Ok(select.select())
            } else {
                select.select_timeout(moment())
            };
            match operation {
                Ok(operation) => {
                    let at = indices
                        .iter()
                        .position(|index| *index == operation.index())
                        .unwrap();
                    ledger.with(id, |record| record.channel = at);
                    if below(4) == 0 {
                        // Others may come while the operation is not completed; and it may never
                        // be.
                        thread::yield_now();
                    }
                    error(operation.send(&senders[at], message), |error| error.0)
                }
                Err(_) => Err(message),
            }
        }
        _ => {
            let mut select = Select::new();
            select.send(sender);
            match select.ready_timeout(moment()) {
                Ok(_) => error(sender.try_send(message), |error| error.into_inner()),
                Err(_) => Err(message),
            }
        }
    };
    ledger.sent(id, result);
}

fn select_receive(receivers: &[Receiver<Message>]) -> Option<(usize, Result<Message, RecvError>)> {
    let mut select = Select::new();
    receivers
        .iter()
        .for_each(|receiver| _ = select.recv(receiver));
    let operation = match below(4) {
        0 => select.try_select().ok()?,
        1 => select.select_timeout(moment()).ok()?,
        2 => {
            let _ = select.ready();
            select.try_select().ok()?
        }
        _ => select.select(),
    };
    let at = operation.index();
    if below(4) == 0 {
        // Who is cancelled here gives back what it has selected, perhaps when all the others have
        // gone.
        thread::yield_now();
    }
    Some((at, operation.recv(&receivers[at])))
}

/// One operation of a consumer. `false` if all channels are disconnected.
fn consume(ledger: &Ledger, receivers: &mut [Receiver<Message>], forget: bool) -> bool {
    let at = below(receivers.len());
    let receiver = &receivers[at];
    let received = match below(6) {
        0 => receiver.try_recv().ok().map(|message| (at, message)),
        1 => receiver
            .recv_timeout(moment())
            .ok()
            .map(|message| (at, message)),
        2 => thread::timeout(moment(), || receiver.recv())
            .ok()
            .and_then(Result::ok)
            .map(|message| (at, message)),
        _ => match select_receive(receivers) {
            None => return true,
            Some((at, Ok(message))) => Some((at, message)),
            Some((at, Err(RecvError))) => {
                receivers[at] = never();
                return receivers
                    .iter()
                    .any(|receiver| !receiver.same_channel(&never()));
            }
        },
    };
    if let Some((at, message)) = received
        && !forget
    {
        ledger.received(at, message);
    }
    true
}

/// Producers and consumers that send, receive, select, time out, are cancelled and go, as the seed
/// has it.
fn traffic(forget: bool) -> HashMap<&'static str, usize> {
    let ledger = Arc::new(Ledger::default());
    let channels: Vec<_> = (0..1 + below(3))
        .map(
            |_| match [Some(0), Some(0), Some(1), Some(2), Some(5), None][below(6)] {
                Some(capacity) => bounded::<Message>(capacity),
                None => unbounded(),
            },
        )
        .collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
    let producers: Vec<_> = (0..1 + below(4))
        .map(|_| {
            let (ledger, senders) = (ledger.clone(), senders.clone());
            thread::spawn(move || (0..1 + below(12)).for_each(|_| produce(&ledger, &senders)))
        })
        .collect();
    let consumers: Vec<_> = (0..below(4))
        .map(|_| {
            let (ledger, mut receivers) = (ledger.clone(), receivers.clone());
            thread::spawn(move || while consume(&ledger, &mut receivers, forget) {})
        })
        .collect();
    drop(senders);
    let canceller = (below(2) == 0).then(|| {
        let victims: Vec<_> = producers
            .into_iter()
            .chain(consumers)
            .filter(|_| below(2) == 0)
            .collect();
        thread::spawn(move || {
            for victim in victims {
                thread::sleep(moment());
                victim.cancel();
                if let Err(payload) = victim.join() {
                    assert!(
                        payload.is::<thread::Cancelled>(),
                        "it was to be cancelled, not to panic"
                    );
                }
            }
        })
    });
    // Where this goes first what was sent may stay in the channel. Otherwise it receives until
    // there is nobody left to send.
    let leaves = below(4) == 0;
    let mut mine = receivers;
    let channels = mine.len();
    // What is given back when everybody has seen the end, and gone.
    let late = if leaves { Vec::new() } else { mine.clone() };
    for _ in 0..if leaves { below(10) } else { usize::MAX } {
        if !consume(&ledger, &mut mine, false) {
            break;
        }
    }
    drop(mine);
    if let Some(canceller) = canceller {
        canceller.join().unwrap();
    }
    // Until all threads that have a part in it are gone.
    while Arc::strong_count(&ledger) > 1 {
        for (at, receiver) in late.iter().enumerate() {
            receiver
                .try_iter()
                .for_each(|message| ledger.received(at, message));
        }
        thread::sleep(if sim::seed().is_some() {
            HOUR
        } else {
            moment()
        });
    }
    ledger.close(&vec![leaves; channels])
}

#[test]
fn every_message_is_accounted_for_under_ten_thousand_schedules() {
    within_bounds(|| {
        let mut totals: HashMap<&str, usize> = HashMap::new();
        sim::check(0..10_000, || {
            for (what, count) in traffic(false) {
                *totals.entry(what).or_default() += count;
            }
        });
        let often = |what| totals.get(what).is_some_and(|count| *count > 100);
        assert!(
            ["sent", "returned", "cancelled", "received"]
                .into_iter()
                .all(often),
            "{totals:?}"
        );
    });
}

#[test]
fn every_message_is_accounted_for_between_workers() {
    on_workers(2, || (0..2000).for_each(|_| _ = traffic(false)));
}

#[test]
fn every_message_is_accounted_for_between_os_threads() {
    within_bounds(|| (0..1000).for_each(|_| traffic_of_os_threads()));
}

/// As [`traffic`], without cancellation.
fn traffic_of_os_threads() {
    let ledger = Arc::new(Ledger::default());
    let (senders, mut mine): (Vec<_>, Vec<_>) = (0..1 + below(2))
        .map(|_| bounded::<Message>(below(3)))
        .unzip();
    let channels = mine.len();
    std::thread::scope(|scope| {
        let ledger = &ledger;
        for _ in 0..1 + below(3) {
            let senders = senders.clone();
            scope.spawn(move || (0..30).for_each(|_| produce(ledger, &senders)));
        }
        for _ in 0..below(3) {
            let mut receivers = mine.clone();
            scope.spawn(move || while consume(ledger, &mut receivers, false) {});
        }
        drop(senders);
        while consume(ledger, &mut mine, false) {}
    });
    ledger.close(&vec![false; channels]);
}

#[test]
fn the_account_does_not_balance_if_a_message_is_lost() {
    within_bounds(|| {
        let lost = (0..100)
            .filter(|seed| catch_unwind(|| sim::run(*seed, || traffic(true))).is_err())
            .count();
        assert!(lost > 10, "{lost}");
    });
}

#[test]
fn ticks_of_a_receiver_that_waits_do_not_drift() {
    // However late the receiver wakes: the next tick is due a period after the last one was.
    let period = Duration::from_millis(10);
    let exact = |times: Vec<Instant>| times.windows(2).filter(|t| t[1] - t[0] == period).count();
    let received = || {
        let ticks = tick(period);
        exact((0..40).map(|_| ticks.recv().unwrap()).collect())
    };
    let selected = || {
        let ticks = tick(period);
        let next = || select! { recv(ticks) -> t => t.unwrap(), recv(never::<()>()) -> _ => unreachable!() };
        exact((0..40).map(|_| next()).collect())
    };
    on_workers(1, || {
        assert!(received() >= 20);
        assert!(selected() >= 20);
    });
    within_bounds(|| assert!(received() >= 20));
}

#[test]
fn ticks_that_were_missed_are_not_made_up_for() {
    sim::run(0, || {
        let ms = Duration::from_millis;
        let start = hebra::time::Instant::now();
        let ticks = tick(ms(50));
        let at = |tick: Instant| hebra::time::Instant::from(tick) - start;
        assert_eq!(ticks.recv().map(at), Ok(ms(50)));
        thread::sleep(ms(180));
        assert_eq!(
            ticks.try_recv().map(at),
            Ok(ms(100)),
            "the one that it holds"
        );
        assert!(ticks.try_recv().is_err(), "and no other");
        assert_eq!(
            ticks.recv().map(at),
            Ok(ms(280)),
            "a period after that one was taken"
        );
        assert_eq!(ticks.recv().map(at), Ok(ms(330)));
    });
}

#[test]
fn select_goes_to_another_thread() {
    fn is_both<T: Send + Sync>(_: &T) {}
    fn is_unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>(_: &T) {}
    on_workers(2, || {
        let (sender, receiver) = bounded::<u32>(1);
        // Also one of messages that must not leave their thread: it does not touch them.
        let (_local, locals) = bounded::<std::rc::Rc<u32>>(1);
        let mut list = Select::new();
        let first = list.recv(&receiver);
        list.recv(&locals);
        is_both(&list);
        thread::scope(|s| {
            let mut own = list.clone();
            let receiver = &receiver;
            s.spawn(move || {
                let operation = own.select();
                is_unwind_safe(&operation);
                assert_eq!(operation.index(), first);
                assert_eq!(operation.recv(receiver), Ok(7));
            });
            sender.send(7).unwrap();
        });
        assert!(list.try_select().is_err());
    });
}
