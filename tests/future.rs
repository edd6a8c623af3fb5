//! Futures, both ways: threads wait for futures, and futures for green threads; no wake is lost,
//! and nobody spins.

#![cfg(feature = "runtime")]

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hebra::future::{block_on, inside};
use hebra::thread::{self, Cancelled, JoinHandle};

use support::{bounded, on_workers, wait_until};

mod support;

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Runs `test` on a green thread of one worker, of two, and on an OS thread.
fn everywhere(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    for workers in [1, 2] {
        let test = test.clone();
        on_workers(workers, || thread::spawn(move || test()).join().unwrap());
    }
    bounded(|| test());
}

/// A future that is ready when it has been opened, and counts its polls.
#[derive(Default, Clone)]
struct Gate(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    open: bool,
    polls: usize,
    waker: Option<Waker>,
}

impl Gate {
    /// Opens without telling anybody.
    fn open_quietly(&self) -> Option<Waker> {
        let mut inside = self.0.lock().unwrap();
        inside.open = true;
        inside.waker.clone()
    }

    fn open(&self) {
        if let Some(waker) = self.open_quietly() {
            waker.wake();
        }
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inside = self.0.lock().unwrap();
        inside.polls += 1;
        inside.waker = Some(context.waker().clone());
        if inside.open {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

#[test]
fn what_is_ready_is_returned_and_may_borrow_and_need_not_be_send() {
    everywhere(|| {
        assert_eq!(block_on(ready(5)), 5);
        let words = [String::from("one"), String::from("two")];
        let count = Rc::new(Cell::new(0));
        let longest = block_on(async {
            count.set(words.len());
            &words[1]
        });
        assert_eq!((longest.as_str(), count.get()), ("two", 2));
    });
}

#[test]
fn who_waits_is_woken_from_anywhere_and_polls_only_when_woken() {
    everywhere(|| {
        let ways: [fn(Gate); 4] = [
            |gate| gate.open(),
            |gate| drop(std::thread::spawn(move || gate.open())),
            |gate| {
                drop(std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(1));
                    gate.open();
                }))
            },
            |gate| {
                drop(std::thread::spawn(move || {
                    hebra::run(|| {
                        thread::sleep(Duration::from_millis(1));
                        gate.open();
                    })
                }))
            },
        ];
        for way in ways {
            let gate = Gate::default();
            way(gate.clone());
            block_on(gate.clone());
            assert!(gate.polls() <= 2);
        }
    });
}

#[test]
fn a_green_thread_opens_for_another_on_its_worker() {
    on_workers(1, || {
        for _ in 0..100 {
            let (gate, other) = (Gate::default(), Gate::default());
            let there = (gate.clone(), other.clone());
            let opener = thread::spawn(move || {
                block_on(there.0);
                there.1.open();
            });
            wait_until(|| gate.polls() == 1);
            gate.open();
            block_on(other);
            opener.join().unwrap();
        }
    });
}

#[test]
fn no_wake_is_lost_whenever_it_comes() {
    everywhere(|| {
        // Two threads hand a number back and forth, each waking the other at once, so that wakes
        // meet every moment of a wait.
        let turns: usize = 2000;
        let turn = Arc::new(Mutex::new((0_usize, [None::<Waker>, None])));
        let play = move |turn: Arc<Mutex<(usize, [Option<Waker>; 2])>>, me: usize| {
            for mine in (me..turns).step_by(2) {
                block_on(poll_fn(|context| {
                    let mut turn = turn.lock().unwrap();
                    if turn.0 < mine {
                        turn.1[me] = Some(context.waker().clone());
                        return Poll::Pending;
                    }
                    turn.0 += 1;
                    let waker = turn.1[1 - me].take();
                    drop(turn);
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                    Poll::Ready(())
                }));
            }
        };
        let there = turn.clone();
        let other = std::thread::spawn(move || play(there, 1));
        play(turn, 0);
        other.join().unwrap();
    });
}

#[test]
fn a_waker_may_be_woken_many_times_and_after_the_end() {
    everywhere(|| {
        let gate = Gate::default();
        let there = gate.clone();
        let waker = std::thread::spawn(move || {
            let waker = loop {
                if let Some(waker) = there.0.lock().unwrap().waker.clone() {
                    break waker;
                }
                std::thread::yield_now();
            };
            (0..1000).for_each(|_| waker.wake_by_ref());
            there.open();
            waker.wake_by_ref();
            waker
        });
        block_on(gate.clone());
        let waker = waker.join().unwrap();
        let polls = gate.polls();
        (0..1000).for_each(|_| waker.wake_by_ref());
        // It is nobody's any more: neither the next future nor the next park notices.
        let next = Gate::default();
        let there = next.clone();
        let opener = std::thread::spawn(move || {
            waker.wake();
            std::thread::sleep(Duration::from_millis(1));
            there.open();
        });
        block_on(next.clone());
        opener.join().unwrap();
        assert!(next.polls() <= 2);
        assert_eq!(gate.polls(), polls);
        thread::current().unpark();
        block_on(ready(()));
        thread::park();
    });
}

#[test]
fn who_waits_does_not_spin() {
    everywhere(|| {
        let gate = Gate::default();
        let there = gate.clone();
        let opener = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            there.open();
        });
        block_on(gate.clone());
        opener.join().unwrap();
        assert_eq!(gate.polls(), 2);
    });
}

#[test]
fn a_future_that_wakes_itself_lets_the_others_run() {
    on_workers(1, || {
        let done = Arc::new(AtomicBool::new(false));
        let set = done.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(1));
            set.store(true, SeqCst);
        });
        block_on(poll_fn(|context| {
            context.waker().wake_by_ref();
            if done.load(SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
    });
}

#[test]
fn futures_that_are_always_ready_let_the_others_run() {
    on_workers(1, || {
        let done = Arc::new(AtomicBool::new(false));
        let set = done.clone();
        thread::spawn(move || set.store(true, SeqCst));
        while !block_on(async { done.load(SeqCst) }) {}
    });
}

#[test]
fn futures_nest() {
    everywhere(|| {
        let sum = block_on(async {
            let inner = block_on(async { 1 + block_on(ready(1)) });
            inner + ready(40).await
        });
        assert_eq!(sum, 42);
    });
}

#[test]
fn a_panic_of_the_future_goes_on_in_the_thread() {
    everywhere(|| {
        let caught =
            panic::catch_unwind(|| block_on(async { panic::resume_unwind(Box::new(7)) }) as ());
        let caught: Box<i32> = caught.unwrap_err().downcast().unwrap();
        assert_eq!(*caught, 7);
        assert_eq!(block_on(ready(1)), 1);
    });
}

/// A future that is never ready, and tells on which thread it is dropped.
fn pending_that_tells(
    dropped: &Arc<Mutex<Vec<thread::ThreadId>>>,
) -> impl Future<Output = ()> + Send + use<> {
    let dropped = dropped.clone();
    let tells = OnDrop(move || dropped.lock().unwrap().push(thread::current().id()));
    async move {
        let _tells = tells;
        pending::<()>().await;
    }
}

#[test]
fn cancelling_who_waits_drops_the_future_on_its_own_thread() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let dropped = Arc::default();
            let started = Arc::new(AtomicUsize::new(0));
            let threads = [(); 10].map(|()| {
                let (future, started) = (pending_that_tells(&dropped), started.clone());
                thread::spawn(move || {
                    started.fetch_add(1, SeqCst);
                    block_on(future);
                })
            });
            wait_until(|| started.load(SeqCst) == 10);
            let mut ids: Vec<_> = threads
                .iter()
                .map(|thread| format!("{:?}", thread.thread().id()))
                .collect();
            for thread in threads {
                thread.cancel();
                assert!(thread.join().unwrap_err().is::<Cancelled>());
            }
            let mut dropped: Vec<_> = dropped
                .lock()
                .unwrap()
                .iter()
                .map(|id| format!("{id:?}"))
                .collect();
            ids.sort();
            dropped.sort();
            assert_eq!(dropped, ids);
        });
    }
}

#[test]
fn the_end_of_the_runtime_drops_the_future() {
    for workers in [1, 2] {
        let dropped = Arc::default();
        on_workers(workers, || {
            let started = Arc::new(AtomicBool::new(false));
            let (future, set) = (pending_that_tells(&dropped), started.clone());
            thread::spawn(move || {
                set.store(true, SeqCst);
                block_on(future);
            });
            wait_until(|| started.load(SeqCst));
        });
        assert_eq!(dropped.lock().unwrap().len(), 1);
    }
}

#[test]
fn a_time_out_drops_the_future() {
    everywhere(|| {
        let dropped = Arc::default();
        let future = pending_that_tells(&dropped);
        assert!(thread::timeout(Duration::from_millis(1), || block_on(future)).is_err());
        assert_eq!(*dropped.lock().unwrap(), [thread::current().id()]);
        assert_eq!(
            thread::timeout(Duration::from_secs(3600), || block_on(ready(3))),
            Ok(3)
        );
    });
}

#[test]
fn a_future_that_is_ready_at_the_last_moment_is_not_cancelled() {
    on_workers(1, || {
        let gate = Gate::default();
        let there = gate.clone();
        let waits = thread::spawn(move || {
            block_on(there);
            5
        });
        wait_until(|| gate.polls() == 1);
        gate.open();
        waits.cancel();
        assert_eq!(waits.join().unwrap(), 5);
    });
}

#[test]
fn a_destructor_of_a_cancelled_thread_may_wait_for_a_future() {
    on_workers(1, || {
        let (gate, done) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (there, set) = (gate.clone(), done.clone());
        let started = Arc::new(AtomicBool::new(false));
        let start = started.clone();
        let waits = thread::spawn(move || {
            start.store(true, SeqCst);
            let _waits = OnDrop(move || {
                block_on(there.clone());
                set.store(true, SeqCst);
            });
            thread::park();
        });
        wait_until(|| started.load(SeqCst));
        waits.cancel();
        wait_until(|| gate.polls() > 0);
        // Longer than it waits before it asks again whether it still has to.
        thread::sleep(Duration::from_millis(25));
        assert_eq!((done.load(SeqCst), gate.polls()), (false, 1));
        gate.open();
        assert!(waits.join().unwrap_err().is::<Cancelled>());
        assert!(done.load(SeqCst));
    });
}

/// Counts its wakes.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Polls once.
fn poll<T>(handle: &mut JoinHandle<T>, count: &Arc<Count>) -> Poll<thread::Result<T>> {
    let waker = Waker::from(count.clone());
    Pin::new(handle).poll(&mut Context::from_waker(&waker))
}

#[test]
fn a_handle_is_a_future_of_what_join_returns() {
    everywhere(|| {
        let (handles, end) = on_runtime(|| {
            vec![
                thread::spawn(|| 1),
                thread::spawn(|| {
                    thread::sleep(Duration::from_millis(1));
                    2
                }),
                thread::spawn(|| panic::resume_unwind(Box::new(3))),
                thread::spawn(|| {
                    thread::park();
                    4
                }),
            ]
        });
        let [one, two, three, four] = <[_; 4]>::try_from(handles).unwrap();
        let (one, two, three) = (block_on(one), block_on(two), block_on(three));
        end.store(true, SeqCst);
        let four = block_on(four);
        assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
        assert_eq!(*three.unwrap_err().downcast::<i32>().unwrap(), 3);
        assert!(four.unwrap_err().is::<Cancelled>());
    });
}

/// Runs `f` on a runtime of its own, which ends when what is returned beside the value is set.
fn on_runtime<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> (T, Arc<AtomicBool>) {
    let (send, receive) = mpsc::channel();
    let end = Arc::new(AtomicBool::new(false));
    let ended = end.clone();
    std::thread::spawn(move || {
        hebra::run(|| {
            send.send(f()).unwrap();
            wait_until(|| ended.load(SeqCst));
        });
    });
    (receive.recv().unwrap(), end)
}

#[test]
fn the_task_that_has_polled_last_is_woken_once() {
    on_workers(1, || {
        let mut thread = thread::spawn(thread::park);
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        for count in [&counts[0], &counts[1], &counts[1], &counts[2], &counts[2]] {
            assert!(poll(&mut thread, count).is_pending());
        }
        assert!(!thread.is_finished());
        thread.thread().unpark();
        wait_until(|| thread.is_finished());
        assert_eq!(
            counts.each_ref().map(|count| count.0.load(SeqCst)),
            [0, 0, 1]
        );
        assert!(poll(&mut thread, &counts[0]).is_ready());
        assert_eq!(
            counts.map(|count| Arc::into_inner(count).unwrap().0.into_inner()),
            [0, 0, 1],
            "no waker is left behind"
        );
    });
}

#[test]
fn a_handle_that_was_polled_can_be_joined_and_dropped() {
    on_workers(1, || {
        let count = Arc::new(Count::default());
        let mut joined = thread::spawn(|| (thread::yield_now(), 1).1);
        assert!(poll(&mut joined, &count).is_pending());
        assert_eq!(joined.join().unwrap(), 1);
        let ended = Arc::new(AtomicBool::new(false));
        let set = ended.clone();
        let mut dropped = thread::spawn(move || set.store(true, SeqCst));
        assert!(poll(&mut dropped, &count).is_pending());
        drop(dropped);
        assert_eq!(Arc::strong_count(&count), 1);
        // It is detached, not cancelled.
        wait_until(|| ended.load(SeqCst));
        assert_eq!(count.0.load(SeqCst), 0);
    });
}

#[test]
fn a_handle_polled_or_joined_after_the_result_panics_and_says_so() {
    on_workers(1, || {
        let count = Arc::new(Count::default());
        let mut thread = thread::spawn(|| 1);
        wait_until(|| thread.is_finished());
        assert!(poll(&mut thread, &count).is_ready());
        assert!(thread.is_finished());
        thread.cancel();
        let message =
            |caught: thread::Result<()>| *caught.unwrap_err().downcast::<String>().unwrap();
        let again = message(panic::catch_unwind(AssertUnwindSafe(|| {
            drop(poll(&mut thread, &count))
        })));
        assert!(again.contains("polled again"), "{again}");
        let joined = message(panic::catch_unwind(AssertUnwindSafe(|| {
            drop(thread.join())
        })));
        assert!(joined.contains("joined or polled again"), "{joined}");
    });
}

#[test]
fn a_waker_that_panics_harms_nobody() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic::resume_unwind(Box::new("in a waker"));
        }
    }
    on_workers(1, || {
        let mut thread = thread::spawn(|| 1);
        let waker = Waker::from(Arc::new(Panics));
        assert!(
            Pin::new(&mut thread)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        wait_until(|| thread.is_finished());
        assert_eq!(thread.join().unwrap(), 1);
    });
}

#[test]
fn a_waker_may_park_in_its_destructor() {
    struct Parks;
    impl Wake for Parks {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Parks {
        fn drop(&mut self) {
            // The thread that is waited for may end meanwhile.
            (0..3).for_each(|_| thread::yield_now());
        }
    }
    on_workers(1, || {
        let ways: [fn(JoinHandle<()>); 4] = [
            |handle| handle.join().unwrap(),
            drop,
            |mut handle| drop(poll(&mut handle, &Arc::default())),
            |handle| wait_until(|| handle.is_finished()),
        ];
        for way in ways {
            let mut thread = thread::spawn(thread::yield_now);
            let waker = Waker::from(Arc::new(Parks));
            assert!(
                Pin::new(&mut thread)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            drop(waker);
            way(thread);
        }
    });
}

#[test]
fn a_waker_may_park_in_its_destructor_while_the_thread_ends_on_another_worker() {
    struct Parks;
    impl Wake for Parks {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Parks {
        fn drop(&mut self) {
            thread::sleep(Duration::from_nanos(1));
        }
    }
    on_workers(2, || {
        for pause in 0..2000 {
            let mut thread = thread::spawn(move || (0..pause).for_each(|_| std::hint::spin_loop()));
            let waker = Waker::from(Arc::new(Parks));
            let _ = Pin::new(&mut thread)
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
                || {
                    drop(waker);
                    thread.join().is_ok()
                };
        }
    });
}

#[test]
fn inside_enters_a_context_around_each_poll() {
    bounded(|| {
        let entered = Cell::new(0);
        let count = || {
            entered.set(entered.get() + 1);
            OnDrop(|| entered.set(entered.get() + 100))
        };
        let mut polls = 0;
        let ready_at_three = poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            match polls {
                3 => Poll::Ready(entered.get()),
                _ => Poll::Pending,
            }
        });
        assert_eq!(block_on(inside(count, ready_at_three)), 203);
        assert_eq!(entered.get(), 303);
    });
}
