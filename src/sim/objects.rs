//! Simulations of a channel's [objects](crate::channel::object): with one that is ready or not as
//! the test has it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::channel::object::{Look, Object};
use crate::channel::{Receiver, RecvError, bounded, select};
use crate::lock::Lock;
use crate::park::Wait;
use crate::scheduler::wait_list::WaitList;
use crate::{sim, thread};

struct Lamp(Lock<(Look, WaitList)>);

impl Lamp {
    fn new() -> Arc<Lamp> {
        Arc::new(Lamp(Lock::new((Look::NotReady, WaitList::new()))))
    }

    fn set(&self, look: Look) {
        let mut state = self.0.lock();
        state.0 = look;
        if look != Look::NotReady {
            state.1.wake_all();
        }
    }

    fn is_waited_for(&self) -> bool {
        !self.0.lock().1.is_empty()
    }

    fn receiver(self: &Arc<Lamp>) -> Receiver<()> {
        Receiver::of_object(self.clone())
    }
}

impl Object<()> for Lamp {
    fn look(&self) -> Look {
        self.0.lock().0
    }

    fn enlist(&self, wait: &Wait<'_>) -> bool {
        let mut state = self.0.lock();
        let enlists = state.0 == Look::NotReady;
        if enlists {
            state.1.push(wait.waiter());
        }
        enlists
    }

    fn delist(&self, wait: &Wait<'_>) -> bool {
        let mut state = self.0.lock();
        let enlisted = state.1.contains(wait);
        state.1.remove(wait);
        enlisted
    }

    fn message(&self, _: Option<Instant>) {}
}

fn moment() -> Duration {
    Duration::from_micros(sim::random() % 20)
}

#[test]
fn under_a_thousand_schedules_nobody_misses_anything_or_is_left_waiting() {
    const MESSAGES: usize = 10;
    sim::check(0..1_000, || {
        let lamps = [Lamp::new(), Lamp::new()];
        let (sender, receiver) = bounded(sim::random() as usize % 3);
        let selects: Vec<_> = (0..3)
            .map(|_| {
                let ([one, other], receiver) = (lamps.clone(), receiver.clone());
                thread::spawn_local(move || {
                    let (mut messages, mut seen) = (0, 0);
                    while seen < 2 {
                        let (one_lit, other_lit) = (one.receiver(), other.receiver());
                        select! {
                            recv(one_lit) -> lit => match lit {
                                Ok(()) => one.set(Look::NotReady),
                                Err(RecvError) => seen += 1,
                            },
                            recv(other_lit) -> lit => lit.map(|()| other.set(Look::NotReady)).unwrap(),
                            recv(receiver) -> message => match message {
                                Ok(()) => messages += 1,
                                // The rest of the time it is the lamp that is waited for.
                                Err(RecvError) => seen += usize::from(one.receiver().recv().is_err()),
                            },
                            default(moment()) => thread::sleep(moment()),
                        }
                    }
                    messages
                })
            })
            .collect();
        let switch = thread::spawn_local({
            let lamps = lamps.clone();
            move || {
                for _ in 0..20 {
                    thread::sleep(moment());
                    lamps[sim::random() as usize % 2].set(Look::Ready);
                }
            }
        });
        (0..MESSAGES).for_each(|_| sender.send(()).unwrap());
        drop(sender);
        switch.join().unwrap();
        lamps[0].set(Look::Gone);
        let received: usize = selects
            .into_iter()
            .map(|select| select.join().unwrap())
            .sum();
        assert_eq!(received + receiver.iter().count(), MESSAGES);
        assert!(!lamps[0].is_waited_for() && !lamps[1].is_waited_for());
    });
}

#[test]
fn a_select_of_an_object_and_a_channel_can_be_cancelled_anywhere() {
    let runs = sim::cancel_everywhere(0..20, |audit| {
        let (lamp, received) = (Lamp::new(), Rc::new(std::cell::Cell::new(0)));
        let (sender, receiver) = bounded(0);
        let victim = audit.spawn({
            let (lamp, receiver, received) = (lamp.clone(), receiver.clone(), received.clone());
            move || {
                for _ in 0..3 {
                    select! {
                        recv(lamp.receiver()) -> lit => lit.unwrap(),
                        recv(receiver) -> message => received.set(received.get() + message.unwrap_or(0)),
                    }
                }
                // And alone.
                lamp.receiver().recv_timeout(Duration::from_secs(1)).unwrap_err();
            }
        });
        let sending =
            thread::spawn_local(move || (0..2).filter(|_| sender.send(1).is_ok()).count());
        thread::sleep(Duration::from_micros(1));
        lamp.set(Look::Ready);
        thread::yield_now();
        lamp.set(Look::NotReady);
        let ended = victim.join();
        let left = receiver.iter().count();
        assert_eq!(received.get() + left, sending.join().unwrap(), "{ended:?}");
        assert!(!lamp.is_waited_for());
    });
    assert!(runs > 100, "{runs}");
}
