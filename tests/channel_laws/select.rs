//! The laws of select.

#![allow(clippy::manual_unwrap_or, clippy::let_unit_value, reason = "the grammar is tried in the shapes in which people write it")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::channel::{
    Receiver, RecvError, Select, SelectTimeoutError, SendError, Sender, TryRecvError, TrySelectError, after, bounded, never, select,
    select_biased, tick, unbounded,
};
use super::world;

const SHORT: Duration = Duration::from_millis(5);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

law! {
    fn select_takes_what_is_ready() {
        let (full_sender, full) = bounded(1);
        let (_empty_sender, empty) = bounded::<u32>(1);
        full_sender.send("here").unwrap();
        select! {
            recv(full) -> message => assert_eq!(message, Ok("here")),
            recv(empty) -> _ => panic!("it is empty"),
        }
        assert_eq!(full.len(), 0);
        select! {
            send(full_sender, "there") -> result => assert_eq!(result, Ok(())),
            recv(empty) -> _ => panic!("it is empty"),
            send(full_sender, "nowhere") -> result => assert_eq!(result, Ok(())),
        }
        assert_eq!(full.len(), 1);
        select! {
            send(full_sender, "nowhere") -> _ => panic!("it is full"),
            recv(empty) -> _ => panic!("it is empty"),
            default => {}
        }
    }
}

law! {
    fn select_of_one_operation() {
        let (sender, receiver) = bounded(1);
        select! { send(sender, 1) -> result => assert_eq!(result, Ok(())) }
        select! { recv(receiver) -> message => assert_eq!(message, Ok(1)), }
        select! { recv(receiver) -> _ => panic!("it is empty"), default => {} }
        select! { recv(receiver) -> _ => panic!("it is empty"), default(SHORT) => {} }
        sender.send(2).unwrap();
        select! { send(sender, 1) -> _ => panic!("it is full"), default() => {}, }
        select! { send(sender, 1) -> _ => panic!("it is full"), default(SHORT) => {}, }
        drop(sender);
        select! { recv(receiver) -> message => assert_eq!(message, Ok(2)), default => panic!("a message is left") }
        select! { recv(receiver) -> message => assert_eq!(message, Err(RecvError)), default => panic!("its sender is gone") }
    }
}

law! {
    fn select_evaluates_a_message_only_if_it_is_sent() {
        let (full, _one) = bounded(0);
        let (ready, other) = bounded(1);
        let count = Cell::new(0);
        let next = || {
            count.set(count.get() + 1);
            count.get()
        };
        for _ in 0..10 {
            select! {
                send(full, next()) -> _ => panic!("nobody receives"),
                send(ready, next()) -> result => assert_eq!(result, Ok(())),
            }
            other.recv().unwrap();
        }
        assert_eq!(count.get(), 10);
    }
}

law! {
    fn select_grammar() {
        struct Pair {
            sender: Sender<u32>,
            receiver: Receiver<u32>,
        }
        impl Pair {
            fn receiver(&self) -> &Receiver<u32> {
                &self.receiver
            }
        }
        let (sender, receiver) = bounded(8);
        let pair = Pair { sender, receiver };
        let boxed = Box::new(pair.receiver.clone());
        let several = [pair.receiver.clone(), never()];
        let maybe: Option<&Receiver<u32>> = several.get(2);
        let mut seen = Vec::new();
        for n in 0..5 {
            select! {
                send(&pair.sender, n,) -> result => result.unwrap(),
                recv(never::<()>()) -> _ => unreachable!(),
            }
            let got = select! {
                recv(pair.receiver,) -> message => { message.unwrap() }
                recv(*boxed) -> message => message.unwrap(),
                recv(several[0]) -> message => message.unwrap(),
                recv(&several[1]) -> message => message.unwrap(),
                recv(pair.receiver()) -> message => { let number = message; number.unwrap() },
                recv(maybe.unwrap_or(&never())) -> _message => { unreachable!() }
                recv({ world::yield_now(); &pair.receiver }) -> message => if let Ok(message) = message { message } else { 99 },
                default(LONG,) => { 99 }
            };
            seen.push(got);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        let unit = select! {
            send(pair.sender, 1) -> (Ok(()) | Err(SendError(_))) => (),
            recv(never::<Vec<Option<u8>>>()) -> (Ok(_) | Err(RecvError)) => {}
        };
        assert_eq!(unit, ());
        let nested = select! {
            recv(pair.receiver) -> outer => select! {
                recv(pair.receiver) -> _ => 0,
                default => outer.unwrap(),
            },
        };
        assert_eq!(nested, 1);
    }
}

law! {
    fn select_bodies_are_code_of_their_function() {
        fn first_even(receiver: &Receiver<u32>) -> Result<u32, RecvError> {
            loop {
                select! {
                    recv(receiver) -> message => {
                        if message? % 2 == 1 {
                            continue;
                        }
                        return Ok(4);
                    }
                    recv(never::<()>()) -> _ => break,
                }
            }
            unreachable!()
        }
        let (sender, receiver) = unbounded();
        (3..6).for_each(|n| sender.send(n).unwrap());
        assert_eq!(first_even(&receiver), Ok(4));
        drop(sender);
        assert_eq!(first_even(&receiver), Err(RecvError));
        // They may give away, drop and replace the handles themselves.
        let (sender, mut input) = unbounded();
        sender.send(1).unwrap();
        let mut moved = None;
        select! {
            recv(input) -> message => {
                assert_eq!(message, Ok(1));
                moved = Some(input);
                input = never();
            }
            default => {}
        }
        assert!(moved.is_some() && input.is_empty());
        select! {
            send(sender, 2) -> result => {
                result.unwrap();
                drop(sender);
            }
            recv(input) -> _ => {}
        }
    }
}

law! {
    fn select_default_after_a_time() {
        let (sender, receiver) = bounded::<u32>(0);
        let start = Instant::now();
        select! {
            recv(receiver) -> _ => panic!("nobody sends"),
            send(sender, 1) -> _ => panic!("nobody else receives"),
            default(SHORT) => {}
        }
        assert!(start.elapsed() >= SHORT);
        let producer = world::spawn(move || {
            world::sleep(SHORT);
            sender.send(7).unwrap();
        });
        select! {
            recv(receiver) -> message => assert_eq!(message, Ok(7)),
            recv(never::<()>()) -> _ => panic!("never"),
            default(LONG) => panic!("it comes"),
        }
        producer.join().unwrap();
    }
}

law! {
    fn select_of_nothing() {
        assert_eq!(select! { default => 1 }, 1);
        let start = Instant::now();
        assert_eq!(select! { default(SHORT) => 2 }, 2);
        assert!(start.elapsed() >= SHORT);
    }
}

law! {
    fn select_sees_that_channels_are_gone() {
        let (sender, receiver) = bounded::<u32>(0);
        let (other_sender, other) = bounded::<u32>(0);
        drop(sender);
        select! {
            recv(receiver) -> message => assert_eq!(message, Err(RecvError)),
            recv(other) -> _ => panic!("nobody sends"),
        }
        let gone = world::spawn(move || {
            world::sleep(SHORT);
            drop(other_sender);
        });
        select! {
            recv(other) -> message => assert_eq!(message, Err(RecvError)),
            recv(never::<()>()) -> _ => panic!("never"),
        }
        gone.join().unwrap();
        let (sender, receiver) = bounded(1);
        sender.send(0).unwrap();
        let gone = world::spawn(move || {
            world::sleep(SHORT);
            drop(receiver);
        });
        select! {
            send(sender, 5) -> result => assert_eq!(result, Err(SendError(5))),
            recv(never::<()>()) -> _ => panic!("never"),
        }
        gone.join().unwrap();
    }
}

law! {
    fn select_waits_for_any() {
        for capacity in [0, 1] {
            let channels: Vec<_> = (0..3).map(|_| bounded(capacity)).collect();
            let producers: Vec<_> = channels.iter().enumerate().map(|(n, (sender, _))| {
                let sender = sender.clone();
                world::spawn(move || {
                    for i in 0..100 {
                        sender.send(100 * n + i).unwrap();
                        if i % 7 == 0 {
                            world::yield_now();
                        }
                    }
                })
            }).collect();
            let mut received = [0; 3];
            for _ in 0..300 {
                select! {
                    recv(channels[0].1) -> message => { assert_eq!(message, Ok(received[0])); received[0] += 1; }
                    recv(channels[1].1) -> message => { assert_eq!(message, Ok(100 + received[1])); received[1] += 1; }
                    recv(channels[2].1) -> message => { assert_eq!(message, Ok(200 + received[2])); received[2] += 1; }
                }
            }
            assert_eq!(received, [100; 3]);
            producers.into_iter().for_each(|producer| producer.join().unwrap());
        }
    }
}

law! {
    fn select_waits_to_send_to_any() {
        for capacity in [0, 1] {
            let channels: Vec<_> = (0..3).map(|_| bounded(capacity)).collect();
            let consumers: Vec<_> = channels.iter().map(|(_, receiver)| {
                let receiver = receiver.clone();
                world::spawn(move || receiver.iter().sum::<u32>())
            }).collect();
            for n in 1..=300 {
                select! {
                    send(channels[0].0, n) -> result => result.unwrap(),
                    send(channels[1].0, n) -> result => result.unwrap(),
                    send(channels[2].0, n) -> result => result.unwrap(),
                }
            }
            drop(channels);
            let sums = consumers.into_iter().map(|consumer| consumer.join().unwrap());
            assert_eq!(sums.sum::<u32>(), 45150);
        }
    }
}

law! {
    fn select_chooses_among_the_ready_at_random() {
        let channels: Vec<_> = (0..4).map(|_| bounded(1)).collect();
        let mut chosen = [0; 4];
        for _ in 0..4000 {
            channels.iter().for_each(|(sender, _)| _ = sender.try_send(()));
            let which = select! {
                recv(channels[0].1) -> _ => 0,
                recv(channels[1].1) -> _ => 1,
                recv(channels[2].1) -> _ => 2,
                recv(channels[3].1) -> _ => 3,
            };
            chosen[which] += 1;
        }
        assert!(chosen.iter().all(|times| (700..1300).contains(times)), "{chosen:?}");
        // Also if they are not neighbours.
        let mut chosen = [0; 4];
        for _ in 0..4000 {
            channels[..2].iter().for_each(|(sender, _)| _ = sender.try_send(()));
            channels[2..].iter().for_each(|(_, receiver)| _ = receiver.try_recv());
            let which = select! {
                recv(channels[0].1) -> _ => 0,
                recv(channels[1].1) -> _ => 1,
                recv(channels[2].1) -> _ => 2,
                recv(channels[3].1) -> _ => 3,
            };
            chosen[which] += 1;
        }
        assert!(chosen[..2].iter().all(|times| (1700..2300).contains(times)) && chosen[2..] == [0, 0], "{chosen:?}");
    }
}

law! {
    fn select_biased_takes_the_first() {
        let (sender, receiver) = unbounded();
        let (other_sender, other) = unbounded();
        for n in 0..100 {
            sender.send(n).unwrap();
            other_sender.send(n).unwrap();
        }
        for n in 0..200 {
            let which = select_biased! {
                recv(receiver) -> _ => 0,
                recv(other) -> _ => 1,
            };
            assert_eq!(which, n / 100);
        }
        select_biased! {
            recv(receiver) -> _ => panic!("it is empty"),
            recv(other) -> _ => panic!("it is empty"),
            default => {}
        }
    }
}

law! {
    fn select_does_not_meet_itself() {
        let (sender, receiver) = bounded(0);
        select! {
            recv(receiver) -> _ => panic!("it has sent to itself"),
            send(sender, 1) -> _ => panic!("it has received from itself"),
            default(SHORT) => {}
        }
        select! {
            send(sender, 1) -> _ => panic!("it has received from itself"),
            recv(receiver) -> _ => panic!("it has sent to itself"),
            default => {}
        }
    }
}

law! {
    fn polls_meet_senders_of_all_kinds_without_capacity() {
        let (sender, receiver) = bounded(0);
        let producers = [0, 1, 2, 3].map(|producer| {
            let sender = sender.clone();
            world::spawn(move || {
                for n in 0..50 {
                    let message = 100 * producer + n;
                    if producer % 2 == 0 {
                        sender.send(message).unwrap();
                    } else {
                        select! {
                            send(sender, message) -> sent => assert_eq!(sent, Ok(())),
                            recv(never::<u32>()) -> _ => unreachable!(),
                        }
                    }
                }
            })
        });
        drop(sender);
        let mut received = Vec::new();
        loop {
            match receiver.try_recv() {
                Ok(message) => received.push(message),
                Err(TryRecvError::Empty) => world::yield_now(),
                Err(TryRecvError::Disconnected) => break,
            }
            select! {
                recv(receiver) -> message => received.extend(message),
                default => world::yield_now(),
            }
        }
        for producer in producers {
            producer.join().unwrap();
        }
        // Of each sender in its order, and none is lost.
        for producer in [0, 1, 2, 3] {
            let of_one = received.iter().filter(|message| **message / 100 == producer);
            assert!(of_one.copied().eq((0..50).map(|n| 100 * producer + n)));
        }
        assert_eq!(received.len(), 200);
    }
}

law! {
    fn select_meets_select_without_capacity() {
        let (sender, receiver) = bounded(0);
        let (back_sender, back) = bounded(0);
        let other = world::spawn({
            let (sender, back) = (sender.clone(), back.clone());
            move || {
                let (mut sent, mut received) = (0, 0);
                for n in 0..500 {
                    select! {
                        send(sender, n) -> result => { result.unwrap(); sent += 1; }
                        recv(back) -> message => { message.unwrap(); received += 1; }
                    }
                }
                (sent, received)
            }
        });
        let (mut sent, mut received) = (0, 0);
        for n in 0..500 {
            select! {
                recv(receiver) -> message => { message.unwrap(); received += 1; }
                send(back_sender, n) -> result => { result.unwrap(); sent += 1; }
            }
        }
        assert_eq!(other.join().unwrap(), (received, sent));
        assert_eq!(sent + received, 500);
    }
}

law! {
    fn everybody_meets_everybody_on_one_channel_without_capacity() {
        let (sender, receiver) = bounded(0);
        let threads: Vec<_> = (0..8).map(|me| {
            let (sender, receiver) = (sender.clone(), receiver.clone());
            world::spawn(move || {
                let mut met = Vec::new();
                for _ in 0..100 {
                    select! {
                        send(sender, me) -> result => result.unwrap(),
                        recv(receiver) -> message => met.push(message.unwrap()),
                        default(SHORT) => {}
                    }
                }
                assert!(met.iter().all(|other| *other != me), "nobody meets itself");
                drop((sender, receiver));
                met.len()
            })
        }).collect();
        drop((sender, receiver));
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap() <= 100));
    }
}

law! {
    fn select_with_alarms() {
        let (sender, receiver) = bounded::<u32>(0);
        let start = Instant::now();
        select! {
            recv(receiver) -> _ => panic!("nobody sends"),
            recv(after(SHORT)) -> due => assert!(due.unwrap() >= start + SHORT),
        }
        assert!(start.elapsed() >= SHORT);
        let (ticker, end) = (tick(SHORT), after(SHORT * 6));
        let mut ticks = 0;
        loop {
            select! {
                recv(ticker) -> _ => ticks += 1,
                recv(end) -> _ => break,
                recv(receiver) -> _ => panic!("nobody sends"),
            }
        }
        assert!((1..=6).contains(&ticks), "{ticks}");
        select! {
            recv(after(LONG)) -> _ => panic!("it is not that late"),
            recv(end) -> _ => panic!("that has been received"),
            default(SHORT) => {}
        }
        drop(sender);
    }
}

law! {
    fn select_leaves_the_channels_that_it_does_not_choose() {
        let (sender, receiver) = bounded(0);
        let (other_sender, other) = bounded(0);
        for n in 0..50 {
            let producer = world::spawn({
                let sender = sender.clone();
                move || sender.send(n).unwrap()
            });
            select! {
                recv(receiver) -> message => assert_eq!(message, Ok(n)),
                recv(other) -> _ => panic!("nobody sends"),
            }
            producer.join().unwrap();
            assert!(other_sender.try_send(n).is_err(), "nobody waits there any more");
        }
    }
}

law! {
    fn dynamic_select() {
        let (sender, receiver) = bounded(1);
        let (other_sender, other) = bounded(1);
        let mut select = Select::new();
        assert_eq!(select.recv(&receiver), 0);
        assert_eq!(select.send(&other_sender), 1);
        for n in 0..10 {
            let operation = select.select();
            assert_eq!(operation.index(), 1);
            assert_eq!(operation.send(&other_sender, n), Ok(()));
            assert_eq!(select.try_select().unwrap_err(), TrySelectError);
            sender.send(n).unwrap();
            let operation = select.try_select().unwrap();
            assert_eq!(operation.index(), 0);
            assert_eq!(operation.recv(&receiver), Ok(n));
            assert_eq!(select.select_timeout(Duration::ZERO).unwrap_err(), SelectTimeoutError);
            assert_eq!(other.recv(), Ok(n));
        }
        drop(other);
        assert_eq!(select.select().send(&other_sender, 5), Err(SendError(5)));
        assert_eq!(format!("{select:?}"), "Select { .. }");
    }
}

law! {
    fn dynamic_select_in_order() {
        let (sender, receiver) = unbounded();
        let (other_sender, other) = unbounded();
        for _ in 0..100 {
            sender.send(()).unwrap();
            other_sender.send(()).unwrap();
        }
        let mut select = Select::new_biased();
        select.recv(&receiver);
        select.recv(&other);
        for n in 0..200 {
            let operation = select.select();
            assert_eq!(operation.index(), n / 100);
            operation.recv(if n < 100 { &receiver } else { &other }).unwrap();
        }
    }
}

law! {
    fn dynamic_select_without_a_removed_one() {
        let (sender, receiver) = unbounded::<u32>();
        let (other_sender, other) = unbounded();
        drop(sender);
        let mut select = Select::new();
        let gone = select.recv(&receiver);
        let stays = select.recv(&other);
        select.remove(gone);
        assert!(select.try_select().is_err());
        assert!(panics(|| select.remove(gone)));
        assert!(panics(|| select.remove(2)));
        other_sender.send(1).unwrap();
        let mut clone = select.clone();
        let operation = clone.select();
        assert_eq!(operation.index(), stays);
        assert_eq!(operation.recv(&other), Ok(1));
        assert_eq!(select.recv(&other), 2, "an index is not used again");
    }
}

law! {
    fn dynamic_select_of_nothing() {
        let mut select = Select::new();
        assert!(panics(|| drop(select.select())));
        assert!(panics(|| _ = select.ready()));
        assert!(select.try_select().is_err() && select.try_ready().is_err());
        let start = Instant::now();
        assert!(select.select_timeout(SHORT).is_err() && select.ready_timeout(SHORT).is_err());
        assert!(start.elapsed() >= 2 * SHORT);
    }
}

law! {
    fn dynamic_select_until() {
        let (_sender, receiver) = bounded::<u32>(0);
        let mut select = Select::new();
        select.recv(&receiver);
        let start = Instant::now();
        assert!(select.select_deadline(start + SHORT).is_err());
        assert!(select.ready_deadline(start + 2 * SHORT).is_err());
        assert!(start.elapsed() >= 2 * SHORT);
    }
}

law! {
    fn ready_does_not_take() {
        let (sender, receiver) = bounded(1);
        let (_other_sender, other) = bounded::<u32>(1);
        let mut receives = Select::new();
        receives.recv(&other);
        receives.recv(&receiver);
        assert!(receives.try_ready().is_err());
        sender.send(1).unwrap();
        assert_eq!(receives.try_ready(), Ok(1));
        assert_eq!(receives.ready(), 1);
        assert_eq!(receives.ready_timeout(LONG), Ok(1));
        let mut sends = Select::new();
        sends.send(&sender);
        assert!(sends.try_ready().is_err());
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(sends.ready(), 0);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        drop(sends);
        drop(sender);
        assert_eq!(receives.ready(), 1, "its sender is gone");
    }
}

law! {
    fn ready_waits_for_any() {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let (other_sender, other) = bounded(capacity);
            let producers = [(sender, 0), (other_sender, 1)].map(|(sender, n)| world::spawn(move || {
                for i in 0..100 {
                    sender.send(n + 2 * i).unwrap();
                    world::yield_now();
                }
            }));
            let mut select = Select::new();
            select.recv(&receiver);
            select.recv(&other);
            let mut received = Vec::new();
            while received.len() < 200 {
                let ready = select.ready();
                if let Ok(message) = [&receiver, &other][ready].try_recv() {
                    received.push(message);
                }
            }
            received.sort_unstable();
            assert!(received.into_iter().eq(0..200));
            producers.into_iter().for_each(|producer| producer.join().unwrap());
        }
    }
}

law! {
    fn ready_waits_for_room() {
        let (sender, receiver) = bounded(1);
        let consumer = world::spawn(move || receiver.iter().inspect(|_| world::yield_now()).sum::<u32>());
        let mut select = Select::new();
        select.send(&sender);
        let mut sent = 0;
        while sent < 100 {
            assert_eq!(select.ready_timeout(LONG), Ok(0));
            if sender.try_send(1).is_ok() {
                sent += 1;
            }
        }
        drop(select);
        drop(sender);
        assert_eq!(consumer.join().unwrap(), 100);
    }
}

law! {
    fn ready_sees_that_channels_are_gone() {
        let (sender, receiver) = bounded::<u32>(0);
        let gone = world::spawn(move || {
            world::sleep(SHORT);
            drop(sender);
        });
        let mut select = Select::new();
        select.recv(&receiver);
        assert_eq!(select.ready(), 0);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        gone.join().unwrap();
    }
}

law! {
    fn an_operation_must_be_completed() {
        let (sender, receiver) = bounded(1);
        sender.send(1).unwrap();
        assert!(panics(|| {
            let mut select = Select::new();
            select.recv(&receiver);
            drop(select.select());
        }));
    }
}

law! {
    fn a_select_that_does_not_wait_sees_one_of_two_that_are_never_empty_together() {
        let (sender, receiver) = bounded(1);
        let (other_sender, other) = bounded(1);
        let (start, started) = bounded(0);
        let (end, ended) = bounded(0);
        let taker = world::spawn({
            let receiver = receiver.clone();
            move || {
                for () in started {
                    other_sender.send(1).unwrap();
                    let _ = receiver.try_recv();
                    end.send(()).unwrap();
                }
            }
        });
        // The two are looked at first and last, and in between there is time for the message to go from the last to the first.
        let idle: Vec<_> = (0..200).map(|_| bounded::<u32>(1)).collect();
        let mut select = Select::new_biased();
        select.recv(&other);
        idle.iter().for_each(|(_, receiver)| _ = select.recv(receiver));
        let last = select.recv(&receiver);
        for _ in 0..1000 {
            sender.send(1).unwrap();
            start.send(()).unwrap();
            let operation = select.try_select().expect("one of them has always had a message");
            let receiver = if operation.index() == last { &receiver } else { &other };
            operation.recv(receiver).unwrap();
            ended.recv().unwrap();
            let _ = (receiver.try_recv(), other.try_recv());
        }
        drop(start);
        taker.join().unwrap();
    }
}

law! {
    fn many_to_many_with_select() {
        for capacity in [0, 1, 5] {
            let channels: Vec<_> = (0..3).map(|_| bounded(capacity)).collect();
            let producers: Vec<_> = (0..4).map(|producer| {
                let [a, b, c] = [0, 1, 2].map(|n: usize| channels[n].0.clone());
                world::spawn(move || {
                    for n in 0..250_usize {
                        let message = 1000 * producer + n;
                        select! {
                            send(a, message) -> result => result.unwrap(),
                            send(b, message) -> result => result.unwrap(),
                            send(c, message) -> result => result.unwrap(),
                        }
                    }
                })
            }).collect();
            let consumers: Vec<_> = (0..4).map(|_| {
                let [mut a, mut b, mut c] = [0, 1, 2].map(|n: usize| channels[n].1.clone());
                world::spawn(move || {
                    let (mut received, mut left) = (Vec::new(), 3);
                    while left > 0 {
                        let message = select! {
                            recv(a) -> message => message.inspect_err(|_| a = never()),
                            recv(b) -> message => message.inspect_err(|_| b = never()),
                            recv(c) -> message => message.inspect_err(|_| c = never()),
                        };
                        match message {
                            Ok(message) => received.push(message),
                            Err(RecvError) => left -= 1,
                        }
                    }
                    received
                })
            }).collect();
            drop(channels);
            producers.into_iter().for_each(|producer| producer.join().unwrap());
            let mut received: Vec<_> = consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect();
            received.sort_unstable();
            assert!(received.into_iter().eq((0..4).flat_map(|producer| (0..250).map(move |n| 1000 * producer + n))));
        }
    }
}
