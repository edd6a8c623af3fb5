//! Law 5, through the public API by the table of `docs/calls.md`: a call that cannot wait neither
//! switches threads nor is a cancel point; a loop of calls that may wait but need not lets others
//! run, and notices a time-out around it.

#![cfg(feature = "runtime")]

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock as StdLazyLock, Mutex as StdMutex};
use std::time::{Duration, Instant};

use hebra::channel::{self, broadcast, watch};
use hebra::net::{TcpListener, TcpStream, UdpSocket};
use hebra::os::unix::net::{UnixDatagram, UnixStream};
use hebra::sync::{
    Barrier, Condvar, Event, LazyLock, Mutex, Once, OnceLock, RwLock, Semaphore, WaitGroup, mpsc,
    oneshot,
};
use hebra::thread::{self, JoinSet};

use support::{bounded, on_workers};

mod support;

/// How often each call is made in a row: many times what a thread may do before others run.
const TIMES: usize = 1_000;

/// Far more calls than a thread may make before others run.
const ENOUGH: usize = 100_000;

// Calls that cannot wait

/// Makes a call [`TIMES`] times with a std lock held, while another thread of the worker locks it,
/// too; then as often by a thread that is cancelled.
#[track_caller]
fn never_switches(name: &'static str, mut call: impl FnMut() + 'static) {
    let lock = Rc::new(StdMutex::new(()));
    let held = Rc::new(Cell::new(false));
    let runs = Rc::new(Cell::new(0));
    let over = Rc::new(Cell::new(false));
    let rival = thread::spawn_local({
        let (lock, held, runs, over) = (lock.clone(), held.clone(), runs.clone(), over.clone());
        move || {
            while !over.get() {
                assert!(!held.get(), "{name} has switched threads");
                drop(lock.lock().unwrap());
                runs.set(runs.get() + 1);
                thread::yield_now();
            }
        }
    });
    let caller = thread::spawn_local(move || {
        for round in 0..2 {
            let before = runs.get();
            for _ in 0..TIMES {
                let guard = lock.lock().unwrap();
                held.set(true);
                call();
                held.set(false);
                drop(guard);
            }
            assert_eq!(runs.get(), before, "{name} lets others run");
            if round == 0 {
                thread::yield_now();
            }
        }
        // The thread is cancelled from now on, and finds out only where it may wait.
        CANCELLED.set(true);
        ME.with_borrow(|me| me.as_ref().unwrap()());
        for _ in 0..TIMES {
            held.set(true);
            call();
            held.set(false);
        }
        over.set(true);
        thread::yield_now();
        unreachable!("{name}: the thread was cancelled");
    });
    let caller = Rc::new(RefCell::new(Some(caller)));
    let other = caller.clone();
    ME.set(Some(Box::new(move || {
        if let Some(caller) = &*other.borrow() {
            caller.cancel();
        }
    })));
    // By reference: `join` takes the handle, which the caller cancels itself by.
    while !caller
        .borrow()
        .as_ref()
        .is_some_and(thread::JoinHandle::is_finished)
    {
        thread::yield_now();
    }
    let end = caller.take().unwrap().join().unwrap_err();
    assert!(
        end.is::<thread::Cancelled>(),
        "{name}: {:?}",
        end.downcast_ref::<String>()
    );
    ME.set(None);
    rival.join().unwrap();
}

thread_local! {
    static ME: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
    static CANCELLED: Cell<bool> = const { Cell::new(false) };
}

fn debug(value: impl Debug) {
    let _ = format!("{value:?}");
}

#[test]
fn channel_calls_that_cannot_wait_never_switch() {
    on_workers(1, || {
        let (sender, receiver) = channel::unbounded();
        never_switches("send to an unbounded channel", move || {
            sender.send(1).unwrap();
            assert!(!receiver.is_empty() && receiver.len() == sender.len());
        });
        let (sender, receiver) = channel::bounded(8 * TIMES);
        never_switches("send to a bounded channel with room for all", {
            let receiver = receiver.clone();
            move || {
                sender.send(1).unwrap();
                assert!(!receiver.is_full());
            }
        });
        drop(receiver);
        let (sender, receiver) = channel::bounded(1);
        never_switches("try_send and try_recv", move || {
            sender.try_send(1).unwrap();
            assert!(sender.try_send(2).is_err());
            assert_eq!(receiver.try_iter().count(), 1);
            assert!(receiver.try_recv().is_err());
        });
        let (sender, receiver) = channel::bounded(0);
        never_switches("try_send and try_recv without capacity", move || {
            assert!(sender.try_send(2).is_err());
            assert!(receiver.try_recv().is_err());
        });
        let (sender, receiver) = channel::bounded(1);
        never_switches("select with a default", move || {
            channel::select! {
                send(sender, 1) -> sent => sent.unwrap(),
                default => panic!("there is room"),
            }
            channel::select! {
                send(sender, 1) -> _ => panic!("there is no room"),
                default => {}
            }
            let mut select = channel::Select::new();
            select.recv(&receiver);
            assert!(select.try_ready().is_ok());
            let operation = select.try_select().unwrap();
            operation.recv(&receiver).unwrap();
            assert!(select.try_select().is_err());
            assert!(select.try_ready().is_err());
        });
        let ticks = channel::tick(Duration::from_secs(3600));
        let after = channel::after(Duration::from_secs(3600));
        never_switches("try_recv of time", move || {
            assert!(ticks.try_recv().is_err() && after.try_recv().is_err());
            assert!(channel::never::<()>().try_recv().is_err());
        });
        never_switches("handles of channels", || {
            let (sender, receiver) = channel::bounded::<u8>(1);
            drop((sender.clone(), receiver.clone()));
            debug((&sender, &receiver, sender.capacity()));
            drop(sender);
            assert!(receiver.try_recv().is_err());
        });
        let (sender, receiver) = mpsc::channel();
        never_switches("mpsc", move || {
            sender.send(1).unwrap();
            receiver.try_recv().unwrap();
            drop(sender.clone());
        });
        let (sender, receiver) = mpsc::sync_channel(1);
        never_switches("try_send of mpsc", move || {
            sender.try_send(1).unwrap();
            assert!(sender.try_send(1).is_err());
            receiver.try_recv().unwrap();
        });
        let (sender, mut receiver) = broadcast::channel(4);
        never_switches("broadcast", move || {
            sender.send(1).unwrap();
            receiver.try_recv().unwrap();
            assert!(receiver.try_recv().is_err());
            drop((sender.clone(), sender.subscribe(), receiver.resubscribe()));
            debug((sender.len(), sender.receiver_count(), receiver.is_closed()));
        });
        let (sender, mut receiver) = watch::channel(0);
        never_switches("watch", move || {
            sender.send(1).unwrap();
            assert!(receiver.has_changed().unwrap());
            assert_eq!(*receiver.borrow(), 1);
            assert_eq!(*receiver.borrow_and_update(), 1);
            receiver.mark_unchanged();
            sender.send_modify(|value| *value = 1);
            drop((sender.clone(), sender.subscribe(), receiver.clone()));
        });
    });
}

/// A channel of no capacity with a thread that waits in a select to send.
fn selecting_sender() -> channel::Receiver<usize> {
    let (sender, receiver) = channel::bounded(0);
    thread::spawn(move || {
        channel::select! {
            send(sender, { thread::yield_now(); 1 }) -> _ => {}
            recv(channel::never::<()>()) -> _ => unreachable!(),
        }
    });
    let mut waits = channel::Select::new();
    waits.recv(&receiver);
    assert_eq!(waits.ready(), 0);
    drop(waits);
    receiver
}

#[test]
fn polls_that_meet_a_selecting_sender_never_switch() {
    type Poll = fn(&channel::Receiver<usize>);
    let polls: [(&str, Poll); 5] = [
        ("try_recv", |receiver| {
            assert_eq!(receiver.try_recv(), Err(channel::TryRecvError::Empty));
        }),
        ("try_iter", |receiver| {
            assert_eq!(receiver.try_iter().next(), None);
        }),
        ("select! with default", |receiver| {
            channel::select! {
                recv(receiver) -> _ => panic!("it has no message yet"),
                default => {}
            }
        }),
        ("try_select", |receiver| {
            let mut select = channel::Select::new();
            select.recv(receiver);
            assert!(select.try_select().is_err());
        }),
        ("try_ready", |receiver| {
            let mut select = channel::Select::new();
            select.recv(receiver);
            assert!(select.try_ready().is_ok());
        }),
    ];
    for (name, poll) in polls {
        on_workers(1, || {
            let receivers: Vec<_> = (0..3 * TIMES).map(|_| selecting_sender()).collect();
            let mut next = 0;
            never_switches(name, move || {
                poll(&receivers[next]);
                next += 1;
            });
        });
    }
}

#[test]
fn watch_send_never_waits_for_a_change() {
    on_workers(1, || {
        let (sender, mut receiver) = watch::channel(0);
        sender.send_modify(|value| {
            *value = 1;
            sender.send(2).unwrap();
            sender.send(3).unwrap();
        });
        assert_eq!(*receiver.borrow_and_update(), 3);
        assert!(!receiver.has_changed().unwrap());
        // A change that fails does not take along what was sent meanwhile.
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            sender.send_modify(|_| {
                sender.send(4).unwrap();
                std::panic::resume_unwind(Box::new("failed"));
            });
        }));
        assert!(failed.is_err());
        receiver.changed().unwrap();
        assert_eq!(*receiver.borrow(), 4);
    });
}

#[test]
fn sync_calls_that_cannot_wait_never_switch() {
    on_workers(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let locked = mutex.clone();
        never_switches("try_lock and unlock", move || {
            let guard = locked.try_lock().unwrap();
            assert!(locked.try_lock().is_err());
            debug(&*locked);
            drop(guard);
            debug(&*locked);
            locked.clear_poison();
        });
        let lock = RwLock::new(0);
        never_switches("try_read, try_write and unlock", move || {
            let guard = lock.try_read().unwrap();
            assert!(lock.try_write().is_err());
            drop(guard);
            let guard = lock.try_write().unwrap();
            assert!(lock.try_read().is_err());
            drop(hebra::sync::RwLockWriteGuard::downgrade(guard));
            debug(&lock);
        });
        let permits = Arc::new(Semaphore::new(1));
        never_switches("try_acquire and release", move || {
            let permit = permits.try_acquire().unwrap();
            assert!(permits.try_acquire().is_err());
            drop(permit);
            drop(permits.try_acquire_owned(1).unwrap());
            permits.try_acquire().unwrap().forget();
            permits.release(1);
            debug((&*permits, permits.available(), permits.is_closed()));
        });
        let event = Event::new();
        never_switches("set and clear", move || {
            event.set();
            assert!(event.is_set());
            event.clear();
        });
        let condvar = Condvar::new();
        never_switches("notify", move || {
            condvar.notify_one();
            condvar.notify_all();
        });
        let (once, cell) = (Once::new(), OnceLock::new());
        once.call_once(|| ());
        cell.set(1).unwrap();
        static LAZY: LazyLock<u8> = LazyLock::new(|| 1);
        assert_eq!(*LAZY, 1);
        never_switches("what has been initialised", move || {
            once.call_once(|| unreachable!());
            assert!(once.is_completed());
            assert!(cell.set(2).is_err() && cell.get() == Some(&1));
            assert_eq!(*cell.get_or_init(|| unreachable!()) + *LAZY, 2);
        });
        never_switches("oneshot", || {
            let (sender, receiver) = oneshot::channel();
            let Err(oneshot::TryRecvError::Empty(receiver)) = receiver.try_recv() else {
                panic!("nothing was sent");
            };
            sender.send(1).unwrap();
            assert_eq!(receiver.try_recv().unwrap(), 1);
        });
        let group = WaitGroup::new();
        never_switches("shares of a group", move || drop(group.clone()));
    });
}

#[test]
fn thread_calls_that_cannot_wait_never_switch() {
    on_workers(1, || {
        never_switches("spawn, cancel and detach", || {
            let handle = thread::spawn(|| ());
            assert!(!handle.is_finished());
            debug(&handle);
            handle.cancel();
            handle.thread().unpark();
            drop(handle);
            drop(thread::spawn_local(|| ()));
            thread::Builder::new().spawn(|| ()).unwrap();
        });
        let handle = hebra::Handle::current();
        never_switches("Handle::spawn", move || {
            drop(handle.spawn(|| ()));
        });
        never_switches("what asks about threads", || {
            debug((thread::current(), thread::available_parallelism().unwrap()));
            debug((thread::is_cancelled(), thread::deadline()));
            debug(hebra::time::Instant::now());
        });
        let mut set = JoinSet::new();
        never_switches("spawn and try_join_next of a set", move || {
            set.spawn(|| ());
            let _ = set.try_join_next();
            set.cancel_all();
            assert!(!set.is_empty());
        });
        never_switches("a time-out and a shield around nothing", || {
            thread::timeout(Duration::from_secs(3600), || ()).unwrap();
            thread::shield(|| ());
        });
        hebra::thread_local!(static KEY: Cell<u32> = const { Cell::new(0) });
        never_switches("a thread-local", || KEY.with(|key| key.set(1)));
    });
}

#[test]
fn io_calls_that_cannot_wait_never_switch() {
    on_workers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        never_switches("a non-blocking stream", move || {
            client.write_all(b"x").unwrap();
            assert!(client.read(&mut [0]).is_err());
            assert!(client.peek(&mut [0]).is_err());
            client.flush().unwrap();
        });
        never_switches("settings of a stream", move || {
            server.set_nodelay(true).unwrap();
            server.set_ttl(64).unwrap();
            server.set_nonblocking(true).unwrap();
            server.set_read_timeout(None).unwrap();
            server.flush().unwrap();
            debug((&server, server.peer_addr(), server.take_error()));
            drop(server.try_clone().unwrap());
        });
        never_switches("a non-blocking listener", move || {
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err());
        });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        never_switches("a non-blocking socket", move || {
            assert!(socket.recv(&mut [0]).is_err());
            socket.connect(socket.local_addr().unwrap()).unwrap();
        });
        let (one, other) = UnixDatagram::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        other.set_nonblocking(true).unwrap();
        never_switches("a non-blocking pair", move || {
            one.send(b"x").unwrap();
            other.recv(&mut [0]).unwrap();
            assert!(other.recv(&mut [0]).is_err());
        });
        never_switches("streams made and dropped", || {
            let (one, other) = UnixStream::pair().unwrap();
            one.shutdown(std::net::Shutdown::Both).unwrap();
            let ready = channel::readable(&other);
            let _ = ready.try_recv();
            drop((one, other));
        });
        let signals = hebra::signal::Signals::new([libc::SIGUSR2]).unwrap();
        never_switches("try_wait of signals", move || {
            assert_eq!(signals.try_wait(), None)
        });
    });
}

/// What std's `thread_local!` makes of an initialiser that logs to a channel: nothing may run in
/// between (rust-lang/rust does not expect a second initialiser to begin in the first).
#[test]
fn std_thread_local_initialiser_may_log_to_a_channel() {
    type Log = (
        channel::Sender<&'static str>,
        channel::Receiver<&'static str>,
    );
    thread_local!(static LOG: Log = channel::unbounded());
    thread_local!(static INITIALISED: Cell<usize> = const { Cell::new(0) });
    thread_local!(static KEY: Cell<bool> = {
        INITIALISED.set(INITIALISED.get() + 1);
        LOG.with(|log| log.0.try_send("initialising").unwrap());
        Cell::new(false)
    });
    on_workers(1, || {
        LOG.with(|_| ());
        let first = thread::spawn(|| {
            LOG.with(|log| (0..128).for_each(|_| log.0.try_send("work").unwrap()));
            KEY.with(|_| ());
        });
        let second = thread::spawn(|| {
            KEY.with(|key| {
                key.set(true);
                thread::yield_now();
                assert!(key.get(), "another value has taken its place");
            });
        });
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(INITIALISED.get(), 1);
    });
}

#[test]
fn std_thread_local_initialiser_may_poll_a_channel() {
    thread_local!(static INBOX: RefCell<Option<channel::Receiver<usize>>> = const { RefCell::new(None) });
    thread_local!(static INITIALISED: Cell<usize> = const { Cell::new(0) });
    thread_local!(static KEY: Cell<bool> = {
        INITIALISED.set(INITIALISED.get() + 1);
        INBOX.with_borrow(|inbox| assert!(inbox.as_ref().unwrap().try_recv().is_err()));
        Cell::new(false)
    });
    on_workers(1, || {
        INBOX.set(Some(selecting_sender()));
        let threads = [(); 2].map(|()| {
            thread::spawn(|| {
                KEY.with(|key| {
                    key.set(true);
                    thread::yield_now();
                    assert!(key.get(), "another value has taken its place");
                });
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(INITIALISED.get(), 1);
        assert_eq!(
            INBOX.take().unwrap().recv(),
            Ok(1),
            "it is kept for the next"
        );
    });
}

#[test]
fn std_lock_may_be_held_around_a_send_of_any_kind() {
    for kind in [
        "unbounded",
        "broadcast",
        "try_send",
        "bounded",
        "try_recv",
        "watch",
    ] {
        on_workers(1, || {
            let lock = Arc::new(StdMutex::new(()));
            let (unbounded, _all) = channel::unbounded();
            let (news, _listener) = broadcast::channel(16);
            let (wide, wide_receiver) = channel::bounded(1000);
            let (latest, _observer) = watch::channel(0);
            let latest = Arc::new(latest);
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (lock, unbounded, news) = (lock.clone(), unbounded.clone(), news.clone());
                    let (wide, receiver) = (wide.clone(), wide_receiver.clone());
                    let latest = latest.clone();
                    thread::spawn(move || {
                        for n in 0..400 {
                            let _guard = lock.lock().unwrap();
                            match kind {
                                "unbounded" => unbounded.send(n).unwrap(),
                                "broadcast" => drop(news.send(n).unwrap()),
                                "try_send" => unbounded.try_send(n).unwrap(),
                                "bounded" => wide.send(n).unwrap(),
                                "try_recv" => assert!(receiver.try_recv().is_err()),
                                "watch" => latest.send(n).unwrap(),
                                _ => unreachable!(),
                            }
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
    }
}

// Calls that may wait, but need not

/// Makes a call in a loop until another thread of the worker has run, and then within a time-out
/// until that passes: either must come of itself.
#[track_caller]
fn gives_way(name: &'static str, mut call: impl FnMut()) {
    let others = Rc::new(Cell::new(0));
    let until = Rc::new(Cell::new(false));
    let neighbour = thread::spawn_local({
        let (others, until) = (others.clone(), until.clone());
        move || {
            while !until.get() {
                others.set(others.get() + 1);
                thread::yield_now();
            }
        }
    });
    let calls = (0..ENOUGH).find(|_| {
        call();
        others.get() >= 3
    });
    until.set(true);
    assert!(calls.is_some(), "a loop of {name} lets nobody run");
    neighbour.join().unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    let elapsed = thread::timeout(Duration::from_millis(2), || {
        while Instant::now() < patience {
            call();
        }
    });
    assert!(elapsed.is_err(), "a loop of {name} notices no time-out");
}

#[test]
fn sync_calls_that_may_wait_give_way() {
    on_workers(1, || {
        const LONG: Duration = Duration::from_secs(3600);
        let far = || Instant::now() + LONG;
        let mutex = Mutex::new(());
        gives_way("lock", || drop(mutex.lock().unwrap()));
        gives_way("lock_timeout", || drop(mutex.lock_timeout(LONG).unwrap()));
        gives_way("lock_deadline", || {
            drop(mutex.lock_deadline(far()).unwrap())
        });
        let lock = RwLock::new(());
        gives_way("read", || drop(lock.read().unwrap()));
        gives_way("write", || drop(lock.write().unwrap()));
        gives_way("read_timeout", || drop(lock.read_timeout(LONG).unwrap()));
        gives_way("write_timeout", || drop(lock.write_timeout(LONG).unwrap()));
        let permits = Arc::new(Semaphore::new(3));
        gives_way("acquire", || drop(permits.acquire().unwrap()));
        gives_way("acquire_many", || drop(permits.acquire_many(2).unwrap()));
        gives_way("acquire_owned", || drop(permits.acquire_owned(1).unwrap()));
        gives_way("acquire_timeout", || {
            drop(permits.acquire_timeout(LONG).unwrap())
        });
        let event = Event::new();
        event.set();
        gives_way("wait for an event", || event.wait());
        gives_way("wait_timeout for an event", || {
            assert!(event.wait_timeout(LONG))
        });
        let barrier = Barrier::new(1);
        gives_way("a barrier of one", || assert!(barrier.wait().is_leader()));
        let (once, cell) = (Once::new(), OnceLock::new());
        once.call_once(|| ());
        cell.set(1).unwrap();
        gives_way("Once::wait", || once.wait());
        gives_way("OnceLock::wait", || assert_eq!(*cell.wait(), 1));
        gives_way("WaitGroup::wait", || WaitGroup::new().wait());
        gives_way("recv of a one-shot", || {
            let (sender, receiver) = oneshot::channel();
            sender.send(1).unwrap();
            receiver.recv().unwrap();
        });
        let condvar = Condvar::new();
        gives_way("wait_while that need not", || {
            drop(condvar.wait_while(mutex.lock().unwrap(), |()| false));
        });
    });
}

#[test]
fn channel_calls_that_may_wait_give_way() {
    on_workers(1, || {
        const LONG: Duration = Duration::from_secs(3600);
        let (sender, receiver) = channel::unbounded();
        gives_way("recv", || {
            sender.send(1).unwrap();
            receiver.recv().unwrap();
        });
        gives_way("recv_timeout", || {
            sender.send(1).unwrap();
            receiver.recv_timeout(LONG).unwrap();
        });
        gives_way("iter", || {
            sender.send(1).unwrap();
            receiver.iter().next().unwrap();
        });
        gives_way("select", || {
            sender.send(1).unwrap();
            channel::select! { recv(receiver) -> message => assert_eq!(message, Ok(1)) }
        });
        gives_way("ready", || {
            sender.send(1).unwrap();
            let mut select = channel::Select::new();
            select.recv(&receiver);
            select.ready();
        });
        let (sender, receiver) = channel::bounded(1);
        gives_way("send to a bounded channel", || {
            sender.send(1).unwrap();
            receiver.try_recv().unwrap();
        });
        gives_way("send_timeout", || {
            sender.send_timeout(1, LONG).unwrap();
            receiver.try_recv().unwrap();
        });
        let due = channel::after(Duration::ZERO);
        thread::sleep(Duration::from_millis(1));
        gives_way("recv of time", || {
            let _ = due.try_recv();
            channel::after(Duration::ZERO).recv().unwrap();
        });
        let (sender, mut receiver) = broadcast::channel(4);
        gives_way("recv of a broadcast", || {
            sender.send(1).unwrap();
            receiver.recv().unwrap();
        });
        let (sender, mut receiver) = watch::channel(0);
        gives_way("changed", || {
            sender.send(1).unwrap();
            receiver.changed().unwrap();
        });
        let (sender, receiver) = mpsc::sync_channel(1);
        gives_way("mpsc", || {
            sender.send(1).unwrap();
            receiver.recv().unwrap();
        });
    });
}

#[test]
fn thread_calls_that_may_wait_give_way() {
    on_workers(1, || {
        gives_way("park with a token", || {
            thread::current().unpark();
            thread::park();
        });
        gives_way("park_timeout with a token", || {
            thread::current().unpark();
            thread::park_timeout(Duration::from_secs(3600));
        });
        gives_way("an empty scope", || thread::scope(|_| ()));
        gives_way("an empty try_scope", || {
            thread::try_scope(|_| Ok::<_, ()>(())).unwrap();
        });
        gives_way("yield_now", thread::yield_now);
        gives_way("a sleep of no length", || thread::sleep(Duration::ZERO));
        gives_way("a ready future", || {
            hebra::future::block_on(std::future::ready(()));
        });
        let mut overdue = hebra::time::interval_at(
            Instant::now() - Duration::from_secs(1),
            Duration::from_nanos(1),
        );
        overdue.set_missed_tick_behavior(hebra::time::MissedTickBehavior::Burst);
        gives_way("an interval that is late", || {
            let _ = overdue.tick();
        });
    });
}

/// Handles of threads that have ended, more than are needed.
#[test]
fn joins_of_the_finished_give_way() {
    on_workers(1, || {
        const THREADS: usize = 2_000;
        let finished: Vec<_> = (0..THREADS).map(|n| thread::spawn(move || n)).collect();
        while !finished.iter().all(thread::JoinHandle::is_finished) {
            thread::yield_now();
        }
        let mut set = JoinSet::new();
        (0..THREADS).for_each(|n| drop(set.spawn(move || n)));
        (0..3).for_each(|_| thread::yield_now());
        let mut finished = finished.into_iter();
        let ran = Rc::new(Cell::new(0));
        let neighbour = thread::spawn_local({
            let ran = ran.clone();
            move || {
                (0..4).for_each(|_| {
                    ran.set(ran.get() + 1);
                    thread::yield_now();
                })
            }
        });
        assert!(finished.any(|handle| {
            handle.join().unwrap();
            ran.get() == 2
        }));
        while ran.get() < 4 {
            set.join_next().expect("the neighbour runs before").unwrap();
        }
        neighbour.join().unwrap();
    });
}

#[test]
fn io_calls_that_may_wait_give_way() {
    on_workers(1, || {
        let (one, other) = UnixDatagram::pair().unwrap();
        gives_way("send and recv of a socket", || {
            one.send(b"x").unwrap();
            other.recv(&mut [0]).unwrap();
        });
        let (mut one, mut other) = UnixStream::pair().unwrap();
        gives_way("write and read of a stream", || {
            one.write_all(b"x").unwrap();
            other.read_exact(&mut [0]).unwrap();
        });
        gives_way("a blocking call", || hebra::blocking::unblock(|| ()));
        gives_way("the lock of standard output", || {
            drop(hebra::io::stdout().lock())
        });
    });
}

#[test]
fn locks_on_an_os_thread_notice_a_time_out() {
    bounded(|| {
        let mutex = Mutex::new(());
        let patience = Instant::now() + Duration::from_secs(20);
        let elapsed = thread::timeout(Duration::from_millis(2), || {
            while Instant::now() < patience {
                drop(mutex.lock().unwrap());
            }
        });
        assert!(elapsed.is_err());
    });
}

/// A thread that is cancelled leaves a loop of locks, and what it holds is not poisoned.
#[test]
fn loop_of_locks_ends_when_it_is_cancelled() {
    on_workers(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let locked = mutex.clone();
        let counter = thread::spawn(move || {
            loop {
                *locked.lock().unwrap() += 1;
            }
        });
        thread::yield_now();
        counter.cancel();
        let end: Result<(), _> = counter.join();
        assert!(end.unwrap_err().is::<thread::Cancelled>());
        assert!(*mutex.lock().unwrap() > 0);
    });
}

/// The debt of calls that cannot wait is paid by the first that may.
#[test]
fn debts_are_paid_by_the_next_call_that_may_wait() {
    static RAN: StdLazyLock<AtomicUsize> = StdLazyLock::new(AtomicUsize::default);
    static OVER: AtomicBool = AtomicBool::new(false);
    on_workers(1, || {
        let neighbour = thread::spawn(|| {
            while !OVER.load(SeqCst) {
                RAN.fetch_add(1, SeqCst);
                thread::yield_now();
            }
        });
        thread::yield_now();
        let (sender, _receiver) = channel::unbounded();
        let mutex = Mutex::new(());
        for round in 1..10 {
            (0..1_000).for_each(|n| sender.send(n).unwrap());
            assert_eq!(RAN.load(SeqCst), round);
            drop(mutex.lock().unwrap());
            assert_eq!(RAN.load(SeqCst), round + 1);
            drop(mutex.lock().unwrap());
            assert_eq!(RAN.load(SeqCst), round + 1);
        }
        OVER.store(true, SeqCst);
        neighbour.join().unwrap();
    });
}
