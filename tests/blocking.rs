//! The blocking pool, and name resolution on it.

#![cfg(feature = "runtime")]

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hebra::blocking::{self, unblock};
use hebra::net::{TcpListener, TcpStream, ToSocketAddrs, lookup_host};
use hebra::thread;

use support::{bounded, child, is_child, on_workers, passes_in_child, stderr, wait_until};

mod support;

/// A call in the pool that lasts until it is let go; it returns its `Witness`.
struct Hog {
    begun: Arc<AtomicBool>,
    let_go: mpsc::Sender<()>,
}

impl Hog {
    fn new<T: Send + 'static>(result: T) -> (Hog, impl FnOnce() -> T + Send + 'static) {
        let (let_go, end) = mpsc::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let hog = Hog {
            begun: begun.clone(),
            let_go,
        };
        let call = move || {
            begun.store(true, Ordering::SeqCst);
            let _ = end.recv();
            result
        };
        (hog, call)
    }

    /// Has a green thread call it, and returns when it is in the pool.
    fn occupy() -> (Hog, thread::JoinHandle<()>) {
        let (hog, call) = Hog::new(());
        let caller = thread::spawn(|| unblock(call));
        wait_until(|| hog.has_begun());
        (hog, caller)
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    fn let_go(self) {
        drop(self.let_go);
    }
}

/// Counts how often it is dropped, and remembers on what OS thread.
struct Witness(Arc<Dropped>);

#[derive(Default)]
struct Dropped {
    times: AtomicUsize,
    in_the_pool: AtomicBool,
}

impl Dropped {
    fn times(&self) -> usize {
        self.times.load(Ordering::SeqCst)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.in_the_pool.store(is_in_the_pool(), Ordering::SeqCst);
        self.0.times.fetch_add(1, Ordering::SeqCst);
    }
}

fn is_in_the_pool() -> bool {
    std::thread::current().name() == Some("hebra-blocking")
}

/// The OS threads of this process's pool.
fn pool_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().map(|task| {
        // It may have ended meanwhile.
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    });
    names.filter(|name| name.trim() == "hebra-blocking").count()
}

#[test]
fn a_blocking_call_returns_its_value_and_the_worker_goes_on() {
    let value = on_workers(1, || {
        let (hog, call) = Hog::new(6 * 7);
        let caller = thread::spawn(|| unblock(call));
        // Both run on the one worker: this goes on while that waits.
        wait_until(|| hog.has_begun());
        assert!(!caller.is_finished());
        hog.let_go();
        caller.join().unwrap()
    });
    assert_eq!(value, 42);
}

#[test]
fn the_pool_is_another_os_thread_and_the_caller_comes_back_to_its_own() {
    on_workers(2, || {
        let here = std::thread::current().id();
        let there = unblock(|| (std::thread::current().id(), is_in_the_pool()));
        assert_ne!(there.0, here);
        assert!(there.1);
        assert_eq!(std::thread::current().id(), here);
    });
}

#[test]
fn on_an_os_thread_the_closure_is_simply_called() {
    let here = std::thread::current().id();
    assert_eq!(unblock(|| std::thread::current().id()), here);
    on_workers(1, || {
        // The pool's threads are such, too: a call within a call needs no second thread.
        let (outer, inner) = unblock(|| {
            (
                std::thread::current().id(),
                unblock(|| std::thread::current().id()),
            )
        });
        assert_eq!(outer, inner);
    });
}

#[test]
fn a_panic_continues_in_the_caller_with_its_payload() {
    on_workers(1, || {
        let caught = panic::catch_unwind(AssertUnwindSafe(|| unblock(|| panic::panic_any(7_u8))));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7_u8));
        assert_eq!(unblock(|| 1), 1);
    });
}

#[test]
fn ten_thousand_calls_return_each_its_own_value() {
    on_workers(2, || {
        let all_its_own =
            |caller| move || (0..10).all(|n| unblock(move || caller * 10 + n) == caller * 10 + n);
        let callers: Vec<_> = (0..1000)
            .map(|caller| thread::spawn(all_its_own(caller)))
            .collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
    });
}

#[test]
fn a_call_that_has_begun_goes_on_when_its_caller_is_cancelled_and_its_result_is_dropped_in_the_pool()
 {
    let dropped = Arc::new(Dropped::default());
    on_workers(1, || {
        let (hog, call) = Hog::new(Witness(dropped.clone()));
        let caller = thread::spawn(|| unblock(call));
        wait_until(|| hog.has_begun());
        caller.cancel();
        let payload = caller.join().map(drop).unwrap_err();
        assert!(payload.is::<thread::Cancelled>());
        assert_eq!(dropped.times(), 0);
        hog.let_go();
        wait_until(|| dropped.times() > 0);
        assert!(dropped.in_the_pool.load(Ordering::SeqCst));
    });
    assert_eq!(dropped.times(), 1);
}

#[test]
fn what_an_abandoned_call_panics_with_harms_nobody() {
    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("even its payload panics");
        }
    }
    on_workers(1, || {
        let (hog, call) = Hog::new(());
        let caller = thread::spawn(|| {
            unblock(move || {
                call();
                panic::panic_any(Grenade);
            })
        });
        wait_until(|| hog.has_begun());
        caller.cancel();
        assert!(caller.join().is_err());
        hog.let_go();
        let (hog, caller) = Hog::occupy();
        hog.let_go();
        caller.join().unwrap();
    });
}

#[test]
fn a_timeout_gives_up_the_wait() {
    on_workers(1, || {
        let (hog, call) = Hog::new(());
        assert!(thread::timeout(Duration::from_millis(5), || unblock(call)).is_err());
        hog.let_go();
    });
}

#[test]
fn the_end_of_the_runtime_does_not_wait_for_a_call() {
    let (hog, call) = Hog::new(());
    on_workers(2, || {
        thread::spawn(|| unblock(call));
        wait_until(|| hog.has_begun());
    });
    hog.let_go();
}

#[test]
fn a_cancelled_thread_does_not_begin_a_call() {
    on_workers(1, || {
        let called = Arc::new(AtomicBool::new(false));
        let in_call = called.clone();
        let (hog, call) = Hog::new(());
        let caller = thread::spawn(move || {
            // It is cancelled in here, and told so afterwards.
            thread::shield(|| unblock(call));
            unblock(move || in_call.store(true, Ordering::SeqCst));
        });
        wait_until(|| hog.has_begun());
        caller.cancel();
        hog.let_go();
        assert!(caller.join().is_err());
        unblock(|| ());
        assert!(!called.load(Ordering::SeqCst));
    });
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_the_call_is_made_and_waited_for() {
    struct CleansUp(Arc<AtomicBool>);
    impl Drop for CleansUp {
        fn drop(&mut self) {
            let done = self.0.clone();
            unblock(move || {
                std::thread::sleep(Duration::from_millis(30));
                done.store(true, Ordering::SeqCst);
            });
            assert!(self.0.load(Ordering::SeqCst), "it has been waited for");
        }
    }
    let done = Arc::new(AtomicBool::new(false));
    on_workers(1, || {
        cancel_holder_of(CleansUp(done.clone()));
        assert!(done.load(Ordering::SeqCst));
    });
}

/// Cancels a thread that holds `value`, and waits for its end.
fn cancel_holder_of(value: impl Send + 'static) {
    let started = Arc::new(AtomicBool::new(false));
    let in_thread = started.clone();
    let holder = thread::spawn(move || {
        let _value = value;
        in_thread.store(true, Ordering::SeqCst);
        thread::park();
    });
    wait_until(|| started.load(Ordering::SeqCst));
    holder.cancel();
    assert!(holder.join().is_err());
}

/// Runs the test once more in a process of its own, whose pool is not shared with other tests;
/// `false` in the parent.
fn in_a_process_of_its_own(test: &str) -> bool {
    if is_child() {
        return true;
    }
    bounded(|| passes_in_child(test));
    false
}

#[test]
fn more_calls_than_threads_wait_their_turn() {
    if !in_a_process_of_its_own("more_calls_than_threads_wait_their_turn") {
        return;
    }
    blocking::set_max_threads(3);
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    on_workers(2, || {
        let call = || {
            MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        };
        let callers: Vec<_> = (0..60)
            .map(|_| thread::spawn(move || unblock(call)))
            .collect();
        callers
            .into_iter()
            .for_each(|caller| caller.join().unwrap());
    });
    assert_eq!(MOST.load(Ordering::SeqCst), 3);
    assert_eq!(pool_threads(), 3);
}

#[test]
fn a_call_that_has_not_begun_never_does_when_its_caller_is_cancelled() {
    if !in_a_process_of_its_own("a_call_that_has_not_begun_never_does_when_its_caller_is_cancelled")
    {
        return;
    }
    blocking::set_max_threads(1);
    on_workers(1, || {
        let (hog, occupant) = Hog::occupy();
        let dropped = Arc::new(Dropped::default());
        let called = Arc::new(AtomicBool::new(false));
        let (witness, in_call) = (Witness(dropped.clone()), called.clone());
        let queued = thread::timeout(Duration::from_millis(5), || {
            unblock(move || {
                let _witness = witness;
                in_call.store(true, Ordering::SeqCst);
            })
        });
        assert!(queued.is_err());
        assert_eq!(
            dropped.times(),
            1,
            "its closure is dropped by the one who gives up"
        );
        assert!(!dropped.in_the_pool.load(Ordering::SeqCst));
        // Whoever queued up behind it comes after it.
        let behind = thread::spawn(|| unblock(|| "behind"));
        hog.let_go();
        occupant.join().unwrap();
        assert_eq!(behind.join().unwrap(), "behind");
        assert!(!called.load(Ordering::SeqCst));
    });
}

#[test]
fn idle_threads_end_and_come_back() {
    if !in_a_process_of_its_own("idle_threads_end_and_come_back") {
        return;
    }
    assert_eq!(
        pool_threads(),
        0,
        "there is no thread before the first call"
    );
    blocking::set_keep_alive(Duration::from_millis(20));
    bounded(|| {
        for _ in 0..3 {
            on_workers(1, || {
                let callers: Vec<_> = (0..20)
                    .map(|_| {
                        thread::spawn(|| unblock(|| std::thread::sleep(Duration::from_millis(1))))
                    })
                    .collect();
                callers
                    .into_iter()
                    .for_each(|caller| caller.join().unwrap());
                assert!(pool_threads() <= 20);
            });
            wait_until(|| pool_threads() == 0);
        }
    });
}

#[test]
fn idle_threads_are_used_again() {
    if !in_a_process_of_its_own("idle_threads_are_used_again") {
        return;
    }
    on_workers(1, || {
        for _ in 0..1000 {
            unblock(|| ());
        }
    });
    assert_eq!(
        pool_threads(),
        1,
        "threads for calls that come one after the other"
    );
}

#[test]
fn the_process_ends_though_a_call_hangs() {
    if is_child() {
        on_workers(1, || {
            let (hog, call) = Hog::new(());
            thread::spawn(|| unblock(call));
            wait_until(|| hog.has_begun());
            std::mem::forget(hog);
        });
        std::process::exit(7);
    }
    let output = bounded(|| child("the_process_ends_though_a_call_hangs", &[]));
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
}

#[test]
fn numeric_addresses_need_no_thread_and_names_wait_for_one() {
    if !in_a_process_of_its_own("numeric_addresses_need_no_thread_and_names_wait_for_one") {
        return;
    }
    blocking::set_max_threads(1);
    on_workers(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        TcpStream::connect(addr).unwrap();
        TcpStream::connect(addr.to_string()).unwrap();
        TcpStream::connect(("127.0.0.1", addr.port())).unwrap();
        TcpStream::connect((Ipv4Addr::LOCALHOST, addr.port())).unwrap();
        assert_eq!(pool_threads(), 0);

        let (hog, occupant) = Hog::occupy();
        let name = thread::spawn(move || TcpStream::connect(("localhost", addr.port())).map(drop));
        // Numbers go on while the name waits.
        for _ in 0..20 {
            TcpStream::connect(addr).unwrap();
        }
        assert!(!name.is_finished());
        hog.let_go();
        occupant.join().unwrap();
        name.join().unwrap().unwrap();
    });
}

#[test]
fn a_look_up_is_given_up_by_a_timeout() {
    if !in_a_process_of_its_own("a_look_up_is_given_up_by_a_timeout") {
        return;
    }
    blocking::set_max_threads(1);
    on_workers(1, || {
        let (hog, occupant) = Hog::occupy();
        let name = thread::timeout(Duration::from_millis(5), || {
            TcpStream::connect("localhost:1")
        });
        assert!(name.is_err());
        hog.let_go();
        occupant.join().unwrap();
    });
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_a_look_up_fails_at_once() {
    struct Asks(mpsc::Sender<io::Result<()>>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let _ = self.0.send(lookup_host("localhost").map(drop));
        }
    }
    let (sender, answer) = mpsc::channel();
    on_workers(1, || {
        cancel_holder_of(Asks(sender));
    });
    let error = answer.recv().unwrap().unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Interrupted);
}

#[test]
fn the_same_addresses_are_accepted_as_by_std() {
    /// The addresses by our trait and by std's.
    fn both<A>(
        addr: A,
    ) -> (
        Result<Vec<SocketAddr>, ErrorKind>,
        Result<Vec<SocketAddr>, ErrorKind>,
    )
    where
        A: ToSocketAddrs + std::net::ToSocketAddrs,
    {
        let ours = ToSocketAddrs::to_socket_addrs(&addr).map(Iterator::collect);
        let std = std::net::ToSocketAddrs::to_socket_addrs(&addr).map(Iterator::collect);
        (
            ours.map_err(|e: io::Error| e.kind()),
            std.map_err(|e: io::Error| e.kind()),
        )
    }
    fn assert_same<A>(addr: A)
    where
        A: ToSocketAddrs + std::net::ToSocketAddrs,
    {
        let (ours, std) = both(addr);
        assert_eq!(ours, std);
    }
    on_workers(1, || {
        let v4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        assert_same(v4);
        assert_same(SocketAddr::V4(v4));
        assert_same("[::1]:80".parse::<std::net::SocketAddrV6>().unwrap());
        assert_same((Ipv4Addr::LOCALHOST, 1));
        assert_same((Ipv6Addr::LOCALHOST, 2));
        assert_same((IpAddr::from([10, 0, 0, 1]), 3));
        assert_same(&[SocketAddr::V4(v4), "[::1]:7".parse().unwrap()][..]);
        let hosts = [
            "localhost",
            "127.0.0.1",
            "::1",
            "127.1",
            "",
            "no such host",
            "fe80::1%lo",
            "a:b",
        ];
        for host in hosts {
            assert_same((host, 80));
            assert_same((String::from(host), 81));
            let lent = &(host, 82);
            assert_same(lent);
        }
        let texts = [
            "127.0.0.1:80",
            "[::1]:80",
            "::1:80",
            "localhost:80",
            "localhost",
            "localhost:http",
            ":80",
            "",
            "localhost:70000",
        ];
        for text in texts {
            assert_same(text);
            assert_same(String::from(text));
        }
    });
}

#[test]
fn types_of_ones_own_can_stand_for_addresses() {
    struct Service(u16);
    impl ToSocketAddrs for Service {
        type Iter = std::vec::IntoIter<SocketAddr>;

        fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
            ("127.0.0.1", self.0).to_socket_addrs()
        }
    }
    on_workers(1, || {
        let listener = TcpListener::bind(Service(0)).unwrap();
        TcpStream::connect(Service(listener.local_addr().unwrap().port())).unwrap();
    });
}

#[test]
fn hosts_are_looked_up_from_green_and_from_os_threads() {
    let check = || {
        let addrs: Vec<_> = lookup_host("localhost").unwrap().collect();
        assert!(!addrs.is_empty());
        assert!(
            addrs
                .iter()
                .all(|addr| addr.ip().is_loopback() && addr.port() == 0)
        );
        assert_eq!(
            lookup_host("::1")
                .unwrap()
                .map(|addr| addr.ip())
                .collect::<Vec<_>>(),
            [IpAddr::from(Ipv6Addr::LOCALHOST)]
        );
        assert!(lookup_host("no.such.host.invalid").is_err());
    };
    check();
    on_workers(1, check);
}
