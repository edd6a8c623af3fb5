//! One socket that threads of several workers, and of several runtimes, wait for.
#![cfg(feature = "runtime")]

use std::hint::spin_loop;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

use hebra::net::{TcpListener, TcpStream, UdpSocket};
use hebra::os::unix::net::UnixDatagram;
use hebra::{Config, Runtime, thread};

use support::place::{SHORT, on_another_worker};
use support::{bounded, on_workers, wait_until};

mod support;

const LOCALHOST: &str = "127.0.0.1:0";
const NONBLOCK: u32 = rustix::fs::OFlags::NONBLOCK.bits();

/// Has one thread of each of two workers run `wait`, and computes on the first worker until the one
/// of the second has returned, while `ready` is called.
fn hog_beside_waiter<T: Send + Sync + 'static>(
    shared: T,
    wait: impl Fn(&T) + Send + Clone + 'static,
    mut ready: impl FnMut(&T),
) {
    on_workers(2, || {
        let shared = Arc::new(shared);
        let (mine, here) = (shared.clone(), wait.clone());
        let local = thread::spawn_local(move || here(&mine));
        thread::sleep(SHORT);
        let (theirs, returned) = (shared.clone(), Arc::new(AtomicBool::new(false)));
        let (waiting, tell) = (Arc::new(AtomicBool::new(false)), returned.clone());
        let announce = waiting.clone();
        let other = on_another_worker(move || {
            announce.store(true, SeqCst);
            wait(&theirs);
            tell.store(true, SeqCst);
        });
        wait_until(|| waiting.load(SeqCst));
        thread::sleep(SHORT);
        ready(&shared);
        while !returned.load(SeqCst) {
            spin_loop();
        }
        ready(&shared);
        local.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn busy_worker_does_not_delay_receiver_of_another() {
    let socket = UdpSocket::bind(LOCALHOST).unwrap();
    let address = socket.local_addr().unwrap();
    let sender = std::net::UdpSocket::bind(LOCALHOST).unwrap();
    hog_beside_waiter(
        socket,
        |socket| assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1),
        |_| assert_eq!(sender.send_to(b"x", address).unwrap(), 1),
    );
}

#[test]
fn busy_worker_does_not_delay_acceptor_of_another() {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let address = listener.local_addr().unwrap();
    hog_beside_waiter(
        listener,
        |listener| drop(listener.accept().unwrap()),
        |_| drop(std::net::TcpStream::connect(address).unwrap()),
    );
}

#[test]
fn end_of_runtime_leaves_waiters_of_another_alone() {
    bounded(|| {
        let start = || Runtime::new(Config::default().workers(1)).unwrap();
        for by_drop in [true, false] {
            let (first, second) = (start(), start());
            let (a, b) = (first.start().unwrap(), second.start().unwrap());
            let socket = Arc::new(UdpSocket::bind(LOCALHOST).unwrap());
            let address = socket.local_addr().unwrap();
            let shared = socket.clone();
            let ended = a.spawn(move || shared.recv(&mut [0; 9]).map(drop));
            std::thread::sleep(SHORT);
            let (tell, told) = channel();
            let shared = socket.clone();
            let waiting = b.spawn(move || {
                shared.recv(&mut [0; 9]).unwrap();
                tell.send(()).unwrap();
            });
            std::thread::sleep(SHORT);
            if by_drop {
                drop(first);
            } else {
                first.shutdown(Duration::from_secs(10)).unwrap();
            }
            assert!(ended.join().is_err());
            let sender = std::net::UdpSocket::bind(LOCALHOST).unwrap();
            sender.send_to(b"x", address).unwrap();
            told.recv().unwrap();
            waiting.join().unwrap();
        }
    });
}

#[test]
fn shared_socket_keeps_no_descriptor_of_ended_runtimes() {
    bounded(|| {
        let socket = UdpSocket::bind(LOCALHOST).unwrap();
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let round = || {
            let runtime = Runtime::new(Config::default().workers(1)).unwrap();
            runtime.run(|| _ = thread::timeout(Duration::from_millis(1), || socket.recv(&mut [0])));
        };
        round();
        let before = count();
        (0..50).for_each(|_| round());
        // Other tests of this process open some meanwhile, but not two for each round.
        assert!(count() < before + 50);
    });
}

/// A hundred acceptors on two workers, some of which are cancelled all the time and replaced: each
/// connection is served.
#[test]
fn cancelled_acceptors_leave_no_connection_unserved() {
    const CONNECTIONS: usize = 10_000;
    const ACCEPTORS: usize = 100;
    on_workers(2, || {
        let listener = Arc::new(TcpListener::bind(LOCALHOST).unwrap());
        let address = listener.local_addr().unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let accept = || {
            let (listener, served) = (listener.clone(), served.clone());
            thread::spawn(move || {
                loop {
                    let (stream, _) = listener.accept().unwrap();
                    served.fetch_add(1, SeqCst);
                    drop(stream);
                }
            })
        };
        let mut acceptors: Vec<_> = (0..ACCEPTORS).map(|_| accept()).collect();
        let client = std::thread::spawn(move || {
            for burst in 0..CONNECTIONS / 10 {
                let count = 1 + burst % 19;
                let streams: Vec<_> = (0..count)
                    .map(|_| std::net::TcpStream::connect(address).unwrap())
                    .collect();
                // Each is served: the acceptor has closed it.
                for mut stream in streams {
                    // Reset, where it was closed before its peer had seen the connection.
                    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
                }
            }
        });
        let mut seed = 0x9E37_79B9_u32;
        while !client.is_finished() {
            for _ in 0..4 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 16) as usize % ACCEPTORS;
                std::mem::replace(&mut acceptors[at], accept()).cancel();
            }
            thread::sleep(Duration::from_micros(200));
        }
        client.join().unwrap();
        assert!(served.load(SeqCst) >= CONNECTIONS * 9 / 10);
        acceptors.iter().for_each(thread::JoinHandle::cancel);
    });
}

/// As many datagrams as there are receivers, at once: one edge, which each hands to the next.
#[test]
fn one_edge_serves_receivers_of_all_datagrams() {
    on_workers(1, || {
        let (near, far) = UnixDatagram::pair().unwrap();
        let near = Arc::new(near);
        let receivers: Vec<_> = (0..8)
            .map(|_| {
                let near = near.clone();
                thread::spawn(move || near.recv(&mut [0; 9]).unwrap())
            })
            .collect();
        thread::sleep(SHORT);
        (0..8).for_each(|_| assert_eq!(far.send(b"x").unwrap(), 1));
        receivers
            .into_iter()
            .for_each(|receiver| assert_eq!(receiver.join().unwrap(), 1));
    });
}

/// The one that was woken is cancelled before it runs again.
#[test]
fn receiver_cancelled_after_its_wake_hands_on() {
    on_workers(1, || {
        for _ in 0..100 {
            let (near, far) = UnixDatagram::pair().unwrap();
            let near = Arc::new(near);
            let receive = || {
                let near = near.clone();
                thread::spawn(move || near.recv(&mut [0; 9]).unwrap())
            };
            let (first, second) = (receive(), receive());
            thread::sleep(Duration::from_millis(1));
            far.send(b"x").unwrap();
            // Lets the worker poll and wake the first.
            thread::yield_now();
            first.cancel();
            if first.join().is_ok() {
                far.send(b"y").unwrap();
            }
            assert_eq!(second.join().unwrap(), 1);
        }
    });
}

#[test]
fn adopted_socket_leaves_clone_of_std_blocking() {
    bounded(|| {
        let is_nonblocking = |fd: &dyn std::os::fd::AsRawFd| {
            let info = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
            let info = std::fs::read_to_string(info).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            flags & NONBLOCK != 0
        };
        let listener = std::net::TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let clones = [listener.try_clone().unwrap(), listener.try_clone().unwrap()];
        let mut adopted = Vec::from(clones.map(TcpListener::from));
        assert!(is_nonblocking(&listener));
        drop(adopted.pop());
        assert!(is_nonblocking(&listener), "the other one still needs it");
        drop(adopted);
        assert!(!is_nonblocking(&listener));
        let stream = std::net::TcpStream::connect(address).unwrap();
        let adopted = TcpStream::from(stream.try_clone().unwrap());
        assert!(!is_nonblocking(&stream));
        drop(OwnedFd::from(adopted));
        assert!(!is_nonblocking(&stream));
    });
}
