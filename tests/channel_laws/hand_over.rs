//! The laws of senders and receivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::channel::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError, after, at, bounded, never, tick, unbounded,
};
use super::world;

const SHORT: Duration = Duration::from_millis(5);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

/// Waits until something has come about. Nothing hangs on how long that takes.
fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        world::yield_now();
    }
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

law! {
    fn messages_arrive_once_and_in_order() {
        for capacity in [Some(0), Some(1), Some(7), None] {
            let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
            let producer = world::spawn(move || (0..1000).for_each(|n| sender.send(n).unwrap()));
            assert!(receiver.iter().eq(0..1000), "capacity {capacity:?}");
            producer.join().unwrap();
        }
    }
}

law! {
    fn each_message_goes_to_one_receiver() {
        for capacity in [Some(0), Some(3), None] {
            let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
            let consumers: Vec<_> = (0..4).map(|_| {
                let receiver = receiver.clone();
                world::spawn(move || receiver.iter().collect::<Vec<usize>>())
            }).collect();
            let producers: Vec<_> = (0..4).map(|producer| {
                let sender = sender.clone();
                world::spawn(move || (0..250).for_each(|n| sender.send(1000 * producer + n).unwrap()))
            }).collect();
            drop((sender, receiver));
            producers.into_iter().for_each(|producer| producer.join().unwrap());
            let mut received = Vec::new();
            for consumer in consumers {
                let own = consumer.join().unwrap();
                for producer in 0..4 {
                    let from_one = own.iter().filter(|message| *message / 1000 == producer);
                    assert!(from_one.is_sorted(), "what one receiver gets from one sender is in order");
                }
                received.extend(own);
            }
            received.sort_unstable();
            assert!(received.into_iter().eq((0..4).flat_map(|producer| (0..250).map(move |n| 1000 * producer + n))));
        }
    }
}

law! {
    fn what_is_full_or_empty_says_so() {
        let (sender, receiver) = bounded(2);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(sender.try_send(3), Ok(()));
        drop(sender);
        assert_eq!(receiver.try_recv(), Ok(2));
        assert_eq!(receiver.try_recv(), Ok(3));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        let (sender, receiver) = bounded(2);
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(TrySendError::Disconnected(1)));
    }
}

law! {
    fn lengths_and_capacities() {
        let (sender, receiver) = bounded(2);
        for sent in 0..=2 {
            assert_eq!((sender.len(), receiver.len()), (sent, sent));
            assert_eq!((sender.is_empty(), receiver.is_empty()), (sent == 0, sent == 0));
            assert_eq!((sender.is_full(), receiver.is_full()), (sent == 2, sent == 2));
            assert_eq!((sender.capacity(), receiver.capacity()), (Some(2), Some(2)));
            let _ = sender.try_send(());
        }
        let (sender, receiver) = unbounded();
        (0..100).for_each(|n| sender.send(n).unwrap());
        assert_eq!((sender.len(), receiver.len(), sender.capacity(), receiver.capacity()), (100, 100, None, None));
        assert!(!sender.is_full() && !receiver.is_full());
        let (sender, receiver) = bounded::<()>(0);
        assert_eq!((sender.len(), receiver.len(), sender.capacity(), receiver.capacity()), (0, 0, Some(0), Some(0)));
        assert!(sender.is_full() && receiver.is_full() && sender.is_empty() && receiver.is_empty());
    }
}

law! {
    fn without_capacity_a_send_ends_when_it_is_received() {
        let (sender, receiver) = bounded(0);
        let sent = Arc::new(AtomicBool::new(false));
        let producer = world::spawn({
            let sent = sent.clone();
            move || {
                sender.send(1).unwrap();
                sent.store(true, Ordering::SeqCst);
            }
        });
        world::sleep(SHORT);
        assert!(!sent.load(Ordering::SeqCst), "nobody has received");
        assert_eq!(receiver.recv(), Ok(1));
        producer.join().unwrap();
        assert!(sent.load(Ordering::SeqCst));
    }
}

law! {
    fn a_try_without_capacity_needs_somebody_who_waits() {
        let (sender, receiver) = bounded(0);
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let consumer = world::spawn({
            let receiver = receiver.clone();
            move || receiver.recv()
        });
        wait_until(|| sender.try_send(2).is_ok());
        assert_eq!(consumer.join().unwrap(), Ok(2));
        let producer = world::spawn(move || sender.send(3));
        let mut received = Err(TryRecvError::Empty);
        while received == Err(TryRecvError::Empty) {
            world::yield_now();
            received = receiver.try_recv();
        }
        assert_eq!(received, Ok(3));
        assert_eq!(producer.join().unwrap(), Ok(()));
    }
}

law! {
    fn time_outs_give_the_message_back() {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let start = Instant::now();
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= SHORT);
            (0..capacity).for_each(|_| sender.send("fills").unwrap());
            let start = Instant::now();
            assert_eq!(sender.send_timeout("late", SHORT), Err(SendTimeoutError::Timeout("late")));
            assert!(start.elapsed() >= SHORT);
            assert_eq!(sender.send_deadline("later", Instant::now() + SHORT), Err(SendTimeoutError::Timeout("later")));
            assert_eq!(receiver.try_iter().count(), capacity, "what has timed out has not been sent");
            assert_eq!(receiver.recv_deadline(Instant::now() + SHORT), Err(RecvTimeoutError::Timeout));
        }
    }
}

law! {
    fn a_wait_with_time_left_ends_as_one_without() {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let producer = world::spawn({
                let sender = sender.clone();
                move || {
                    world::sleep(SHORT);
                    (0..3).for_each(|n| sender.send_timeout(n, LONG).unwrap());
                }
            });
            assert!((0..3).all(|n| receiver.recv_timeout(LONG) == Ok(n)));
            producer.join().unwrap();
            let gone = world::spawn(move || {
                world::sleep(SHORT);
                drop(sender);
            });
            assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
            gone.join().unwrap();
            let (sender, receiver) = bounded(capacity);
            (0..capacity).for_each(|n| sender.send(n).unwrap());
            let gone = world::spawn(move || {
                world::sleep(SHORT);
                drop(receiver);
            });
            assert_eq!(sender.send_timeout(7, LONG), Err(SendTimeoutError::Disconnected(7)));
            gone.join().unwrap();
        }
    }
}

law! {
    fn a_deadline_that_has_passed_is_tried_once() {
        let (sender, receiver) = bounded(1);
        let passed = Instant::now();
        assert_eq!(receiver.recv_deadline(passed), Err(RecvTimeoutError::Timeout));
        assert_eq!(sender.send_deadline(1, passed), Ok(()));
        assert_eq!(sender.send_timeout(2, Duration::ZERO), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
        assert_eq!(receiver.recv_timeout(Duration::MAX.min(SHORT)), Err(RecvTimeoutError::Timeout));
        sender.send_timeout(3, Duration::MAX).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(3));
    }
}

law! {
    fn what_is_left_is_received_when_the_senders_are_gone() {
        let (sender, receiver) = unbounded();
        (0..3).for_each(|n| sender.send(n).unwrap());
        drop(sender);
        assert!((0..3).all(|n| receiver.recv() == Ok(n)));
        assert_eq!(receiver.recv(), Err(RecvError));
    }
}

law! {
    fn what_is_left_is_dropped_when_the_receivers_are_gone() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = unbounded();
        (0..3).for_each(|_| assert!(sender.send(Counted(dropped.clone())).is_ok()));
        let other = receiver.clone();
        drop(receiver);
        assert_eq!(dropped.load(Ordering::SeqCst), 0, "there is another receiver");
        drop(other.recv());
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        drop(other);
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        let refused = sender.send(Counted(dropped.clone()));
        assert_eq!(dropped.load(Ordering::SeqCst), 3, "it has come back");
        drop(refused);
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
    }
}

law! {
    fn the_last_sender_that_goes_wakes_all_receivers() {
        for capacity in [Some(0), Some(1), None] {
            let (sender, receiver) = capacity.map_or_else(unbounded::<()>, bounded);
            let blocked: Vec<_> = (0..20).map(|_| {
                let receiver = receiver.clone();
                world::spawn(move || receiver.recv())
            }).collect();
            world::sleep(SHORT);
            drop(sender.clone());
            drop(sender);
            assert!(blocked.into_iter().all(|receiver| receiver.join().unwrap() == Err(RecvError)));
        }
    }
}

law! {
    fn the_last_receiver_that_goes_wakes_all_senders() {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            (0..capacity).for_each(|_| sender.send(99).unwrap());
            let blocked: Vec<_> = (0..20).map(|n| {
                let sender = sender.clone();
                world::spawn(move || sender.send(n))
            }).collect();
            world::sleep(SHORT);
            drop(receiver.clone());
            drop(receiver);
            for (n, sender) in blocked.into_iter().enumerate() {
                assert_eq!(sender.join().unwrap(), Err(SendError(n)), "each gets its own message back");
            }
        }
    }
}

law! {
    fn iterators_end_when_the_senders_are_gone() {
        let (sender, receiver) = bounded(1);
        let producer = world::spawn(move || (0..10).for_each(|n| sender.send(n).unwrap()));
        assert_eq!(receiver.iter().next(), Some(0));
        assert_eq!((&receiver).into_iter().next(), Some(1));
        assert_eq!(receiver.into_iter().sum::<i32>(), 44);
        producer.join().unwrap();
    }
}

law! {
    fn a_try_iterator_waits_for_nobody() {
        let (sender, receiver) = unbounded();
        assert_eq!(receiver.try_iter().next(), None);
        (0..10).for_each(|n| sender.send(n).unwrap());
        assert_eq!(receiver.try_iter().sum::<i32>(), 45);
        assert_eq!(receiver.try_iter().next(), None);
    }
}

law! {
    fn clones_are_the_same_channel() {
        let (sender, receiver) = bounded::<u32>(1);
        let (other_sender, other_receiver) = bounded::<u32>(1);
        assert!(sender.same_channel(&sender.clone()) && receiver.same_channel(&receiver.clone()));
        assert!(!sender.same_channel(&other_sender) && !receiver.same_channel(&other_receiver));
        let (one, another) = (after(LONG), after(LONG));
        assert!(one.same_channel(&one.clone()) && !one.same_channel(&another));
        let (one, another) = (tick(LONG), tick(LONG));
        assert!(one.same_channel(&one.clone()) && !one.same_channel(&another));
        assert!(never::<u32>().same_channel(&never()) && !never().same_channel(&receiver));
    }
}

law! {
    fn what_is_printed_of_handles() {
        let (sender, receiver) = bounded::<u32>(1);
        assert_eq!(format!("{sender:?}, {receiver:?}"), "Sender { .. }, Receiver { .. }");
        assert_eq!(format!("{:?}", receiver.iter()), "Iter { .. }");
        assert_eq!(format!("{:?}", receiver.try_iter()), "TryIter { .. }");
        assert_eq!(format!("{:?}", receiver.into_iter()), "IntoIter { .. }");
        assert_eq!(format!("{}", sender.send(1).unwrap_err()), "sending on a disconnected channel");
    }
}

law! {
    fn after_delivers_once() {
        let start = Instant::now();
        let receiver = after(SHORT);
        assert_eq!((receiver.capacity(), receiver.len()), (Some(1), 0));
        assert!(receiver.is_empty() && !receiver.is_full());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let due = receiver.recv().unwrap();
        assert!(due >= start + SHORT && due <= Instant::now());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "once, and its senders are never gone");
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(after(LONG).recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(after(Duration::MAX).recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    }
}

law! {
    fn at_delivers_what_was_asked_for() {
        let due = Instant::now() + SHORT;
        let receiver = at(due);
        wait_until(|| !receiver.is_empty());
        assert!(receiver.is_full() && receiver.len() == 1);
        let other = receiver.clone();
        assert_eq!(receiver.recv(), Ok(due));
        assert_eq!(other.try_recv(), Err(TryRecvError::Empty), "it has one message");
        let passed = Instant::now();
        assert_eq!(at(passed).try_recv(), Ok(passed));
    }
}

law! {
    fn tick_delivers_again_and_again_and_does_not_catch_up() {
        let start = Instant::now();
        let ticker = tick(SHORT);
        assert_eq!(ticker.capacity(), Some(1));
        let first = ticker.recv().unwrap();
        assert!(first >= start + SHORT);
        let second = ticker.recv().unwrap();
        assert!(second >= first + SHORT);
        world::sleep(SHORT * 4);
        let late = Instant::now();
        assert_eq!(ticker.len(), 1);
        assert!(ticker.try_recv().unwrap() <= late, "the one that was due while nobody looked");
        assert!(ticker.recv().unwrap() >= late + SHORT, "the next is due a period after that was taken");
        assert_eq!(tick(LONG).recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(tick(Duration::MAX).try_recv(), Err(TryRecvError::Empty));
    }
}

law! {
    fn never_is_never_ready() {
        let receiver = never::<u32>();
        assert_eq!((receiver.len(), receiver.capacity()), (0, Some(0)));
        assert!(receiver.is_empty() && receiver.is_full());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    }
}

law! {
    fn channels_through_channels() {
        let (ask, asked) = bounded(0);
        let server = world::spawn(move || {
            for (question, answer) in asked {
                let (question, answer): (u64, super::channel::Sender<u64>) = (question, answer);
                answer.send(question * question).unwrap();
            }
        });
        for question in 0..100 {
            let (answer, answered) = bounded(1);
            ask.send((question, answer)).unwrap();
            assert_eq!(answered.recv(), Ok(question * question));
            assert_eq!(answered.recv(), Err(RecvError));
        }
        drop(ask);
        server.join().unwrap();
    }
}

law! {
    fn a_handle_in_a_message_of_its_own_channel_goes_with_it() {
        struct Message(Option<super::channel::Receiver<Message>>, Counted);
        let dropped = Arc::new(AtomicUsize::new(0));
        let message = |receiver| Message(receiver, Counted(dropped.clone()));
        let (sender, receiver) = unbounded();
        assert!(sender.send(message(Some(receiver.clone()))).is_ok());
        let Message(inside, counted) = receiver.recv().unwrap();
        drop((receiver, counted));
        assert!(sender.send(message(None)).is_ok(), "the receiver inside is one, too");
        drop(inside);
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        assert!(sender.send(message(None)).is_err());
    }
}
