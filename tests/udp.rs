//! `hebra::net::UdpSocket` is std's: from plain OS threads, and on green threads of one worker and
//! of two.

#![cfg(feature = "runtime")]

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::net::{BindOptions, UdpSocket};
use hebra::thread;

use support::place::{
    Ball, Guard, Handle, Place, SHORT, assert_cancelled, everywhere, on_another_worker,
    on_one_and_two, open_descriptors,
};
use support::{bounded, is_child, on_workers, passes_in_child};

mod support;

const LOCALHOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOCALHOST).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Two sockets that are connected to each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let ((near, near_address), (far, far_address)) = (socket(), socket());
    near.connect(far_address).unwrap();
    far.connect(near_address).unwrap();
    (near, far)
}

/// Sends back what comes, until an empty datagram.
fn echo(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        match socket.recv_from(&mut buffer)? {
            (0, _) => return Ok(()),
            (len, peer) => socket.send_to(&buffer[..len], peer)?,
        };
    }
}

/// One question and its answer, through an [`echo`] at the other end of a connected socket.
fn ask(socket: &UdpSocket, question: u64) {
    socket.send(&question.to_ne_bytes()).unwrap();
    let mut answer = [0; 8];
    assert_eq!(socket.recv(&mut answer).unwrap(), 8);
    assert_eq!(u64::from_ne_bytes(answer), question);
}

// Data

#[test]
fn datagrams_keep_their_bounds_their_order_and_their_sender() {
    everywhere(|place| {
        let ((near, near_address), (far, far_address)) = (socket(), socket());
        let server = place.spawn(move || {
            let mut buffer = [0; 2_000];
            for len in 0..200 {
                assert_eq!(far.recv_from(&mut buffer).unwrap(), (len * 7, near_address));
                assert!(buffer[..len * 7].iter().all(|&byte| byte == len as u8));
                far.send_to(&buffer[..len], near_address).unwrap();
            }
        });
        let mut buffer = [0; 2_000];
        for len in 0..200 {
            assert_eq!(
                near.send_to(&vec![len as u8; len * 7], far_address)
                    .unwrap(),
                len * 7
            );
            assert_eq!(
                near.recv_from(&mut buffer).unwrap(),
                (len, far_address),
                "the empty one, too"
            );
        }
        server.join();
    });
}

#[test]
fn what_does_not_fit_is_lost_and_the_next_datagram_is_whole() {
    everywhere(|_| {
        let (near, far) = pair();
        for datagram in [&b"longer than that"[..], b"next"] {
            far.send(datagram).unwrap();
        }
        let mut buffer = [0; 6];
        assert_eq!(near.recv(&mut buffer).unwrap(), 6);
        assert_eq!(&buffer, b"longer");
        assert_eq!(near.recv(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"next");
    });
}

#[test]
fn a_waiting_receive_returns_what_comes() {
    everywhere(|place| {
        let (near, far) = pair();
        let receiver =
            place.spawn_waiting(move || [(); 3].map(|()| near.recv(&mut [0; 64]).unwrap()));
        for len in 1..=3 {
            far.send(&vec![0; len]).unwrap();
        }
        assert_eq!(receiver.join(), [1, 2, 3]);
    });
}

#[test]
fn peek_does_not_consume() {
    everywhere(|place| {
        let (near, far) = pair();
        let peer = far.local_addr().unwrap();
        let reader = place.spawn_waiting(move || {
            let mut buffer = [0; 8];
            assert_eq!(
                near.peek(&mut buffer[..2]).unwrap(),
                2,
                "peek waits for data"
            );
            assert_eq!(near.peek_from(&mut buffer).unwrap(), (5, peer));
            assert_eq!(near.recv_from(&mut buffer).unwrap(), (5, peer));
            assert_eq!(&buffer[..5], b"hello");
            assert_eq!(
                near.peek_from(&mut buffer).unwrap(),
                (4, peer),
                "peek_from waits, too"
            );
        });
        far.send(b"hello").unwrap();
        far.send(b"more").unwrap();
        reader.join();
    });
}

#[test]
fn a_connected_socket_receives_from_its_peer_only() {
    everywhere(|_| {
        let (near, far) = pair();
        let (stranger, _) = socket();
        assert_eq!(near.peer_addr().unwrap(), far.local_addr().unwrap());
        assert_eq!(
            stranger.peer_addr().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        assert_eq!(
            stranger.send(b"x").unwrap_err().raw_os_error(),
            Some(libc::EDESTADDRREQ)
        );
        stranger
            .send_to(b"stranger", near.local_addr().unwrap())
            .unwrap();
        far.send(b"far").unwrap();
        assert_eq!(near.recv(&mut [0; 64]).unwrap(), 3);
    });
}

#[test]
fn ipv6_is_served_like_ipv4() {
    everywhere(|_| {
        let near = match UdpSocket::bind("[::1]:0") {
            Err(error)
                if error.kind() == ErrorKind::AddrNotAvailable
                    || error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                return;
            }
            socket => socket.unwrap(),
        };
        let far = UdpSocket::bind("[::1]:0").unwrap();
        far.send_to(b"six", near.local_addr().unwrap()).unwrap();
        assert_eq!(
            near.recv_from(&mut [0; 8]).unwrap(),
            (3, far.local_addr().unwrap())
        );
    });
}

#[test]
fn a_datagram_that_found_nobody_ends_a_waiting_receive_and_the_socket_goes_on() {
    everywhere(|place| {
        let (near, far) = pair();
        let (near, address) = (Arc::new(near), far.local_addr().unwrap());
        let waiting = near.clone();
        let receiver = place.spawn_waiting(move || waiting.recv(&mut [0; 64]).unwrap_err().kind());
        drop(far);
        near.send(b"is somebody there?").unwrap();
        assert_eq!(receiver.join(), ErrorKind::ConnectionRefused);
        let far = UdpSocket::bind(address).unwrap();
        far.send_to(b"now there is", near.local_addr().unwrap())
            .unwrap();
        assert_eq!(near.recv(&mut [0; 64]).unwrap(), 12);
    });
}

#[test]
fn take_error_takes_what_is_pending() {
    everywhere(|_| {
        let (near, far) = pair();
        assert!(near.take_error().unwrap().is_none());
        drop(far);
        near.send(b"x").unwrap();
        assert_eq!(
            near.take_error().unwrap().unwrap().kind(),
            ErrorKind::ConnectionRefused
        );
        assert!(near.take_error().unwrap().is_none());
    });
}

// Addresses

#[test]
fn bind_and_connect_try_every_address_and_sending_takes_the_first() {
    everywhere(|_| {
        let (taken, address) = socket();
        let other = UdpSocket::bind(&[address, SocketAddr::from(LOCALHOST)][..]).unwrap();
        assert_ne!(other.local_addr().unwrap(), address);
        assert_eq!(
            UdpSocket::bind(address).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        assert_eq!(
            UdpSocket::bind(&[][..]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            other.connect(&[][..]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            other.send_to(b"x", &[][..]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let unreachable = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
        other.connect(&[unreachable, address][..]).unwrap();
        assert_eq!(other.peer_addr().unwrap(), address);
        other.send_to(b"x", &[address, unreachable][..]).unwrap();
        assert_eq!(taken.recv(&mut [0; 8]).unwrap(), 1);
    });
}

#[test]
fn a_port_is_shared_by_those_who_all_say_so() {
    everywhere(|place| {
        let mut sharing = BindOptions::new();
        sharing.reuse_port(true);
        let one = sharing.udp_socket(LOCALHOST).unwrap();
        let address = one.local_addr().unwrap();
        let other = sharing.udp_socket(address).unwrap();
        assert_eq!(
            UdpSocket::bind(address).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        let receivers = [one, other].map(|socket| {
            let count = Arc::new(AtomicUsize::new(0));
            let counting = count.clone();
            let receiver = place.spawn(move || {
                while socket.recv(&mut [0; 8]).unwrap() > 0 {
                    counting.fetch_add(1, SeqCst);
                }
            });
            (receiver, count)
        });
        // The system deals out by the sender's address.
        let senders: Vec<_> = (0..64).map(|_| socket().0).collect();
        for sender in &senders {
            sender.send_to(b"x", address).unwrap();
        }
        support::wait_until(|| {
            receivers
                .iter()
                .map(|(_, count)| count.load(SeqCst))
                .sum::<usize>()
                == senders.len()
        });
        assert!(
            receivers.iter().all(|(_, count)| count.load(SeqCst) > 0),
            "both have their share"
        );
        support::wait_until(|| {
            senders
                .iter()
                .for_each(|sender| drop(sender.send_to(b"", address)));
            thread::yield_now();
            receivers.iter().all(|(receiver, _)| receiver.is_finished())
        });
        receivers
            .into_iter()
            .for_each(|(receiver, _)| receiver.join());
    });
}

// Time-outs and the non-blocking mode

#[test]
fn a_receive_that_has_timed_out_says_so_and_the_socket_goes_on() {
    everywhere(|_| {
        let (near, far) = pair();
        near.set_read_timeout(Some(SHORT)).unwrap();
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(
                near.recv(&mut [0; 8]).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            assert_eq!(
                near.recv_from(&mut [0; 8]).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            assert_eq!(
                near.peek(&mut [0; 8]).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            assert_eq!(
                near.peek_from(&mut [0; 8]).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            assert!(began.elapsed() >= 4 * SHORT);
            far.send(b"data").unwrap();
            assert_eq!(near.recv(&mut [0; 8]).unwrap(), 4);
        }
    });
}

#[test]
fn a_scope_that_is_over_ends_a_receive() {
    everywhere(|_| {
        let (near, far) = pair();
        assert!(thread::timeout(SHORT, || near.recv(&mut [0; 8])).is_err());
        far.send(b"data").unwrap();
        assert_eq!(
            thread::timeout(Duration::from_secs(50), || near.recv(&mut [0; 8]).unwrap()),
            Ok(4)
        );
    });
}

#[test]
fn time_outs_and_the_non_blocking_mode_are_common_to_clones() {
    everywhere(|_| {
        let (near, _far) = pair();
        let clone = near.try_clone().unwrap();
        assert_eq!(
            (near.read_timeout().unwrap(), near.write_timeout().unwrap()),
            (None, None)
        );
        near.set_read_timeout(Some(SHORT)).unwrap();
        clone.set_write_timeout(Some(2 * SHORT)).unwrap();
        for handle in [&near, &clone] {
            assert_eq!(handle.read_timeout().unwrap(), Some(SHORT));
            assert_eq!(handle.write_timeout().unwrap(), Some(2 * SHORT));
        }
        assert_eq!(
            near.set_read_timeout(Some(Duration::ZERO))
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            clone.recv(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        clone.set_nonblocking(true).unwrap();
        assert_eq!(
            near.recv(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(
            near.peek_from(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    });
}

// Several threads on one socket

#[test]
fn each_datagram_goes_to_one_of_the_receivers() {
    everywhere(|place| {
        let (near, far) = pair();
        let (near, counts) = (Arc::new(near), Arc::new(Mutex::new([0; 256])));
        let received = Arc::new(AtomicUsize::new(0));
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (near, counts, received) = (near.clone(), counts.clone(), received.clone());
                place.spawn_waiting(move || {
                    let mut buffer = [0; 8];
                    while near.recv(&mut buffer).unwrap() == 1 {
                        counts.lock().unwrap()[usize::from(buffer[0])] += 1;
                        received.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        for byte in 0..=255 {
            far.send(&[byte]).unwrap();
            support::wait_until(|| received.load(SeqCst) > usize::from(byte));
        }
        for _ in &receivers {
            far.send(b"the end").unwrap();
        }
        receivers.into_iter().for_each(Handle::join);
        assert_eq!(*counts.lock().unwrap(), [1; 256]);
    });
}

#[test]
fn a_receiver_waits_on_while_a_clone_is_closed() {
    everywhere(|place| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let clone = near.try_clone().unwrap();
        let waiting = near.clone();
        let receiver = place.spawn_waiting(move || waiting.recv(&mut [0; 8]).unwrap());
        drop((clone, near));
        far.send(b"data").unwrap();
        assert_eq!(receiver.join(), 4);
    });
}

#[test]
fn a_socket_is_closed_with_its_last_handle() {
    everywhere(|_| {
        let (near, address) = socket();
        let clone = near.try_clone().unwrap();
        drop(near);
        assert_eq!(
            UdpSocket::bind(address).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        drop(clone);
        UdpSocket::bind(address).unwrap();
    });
}

// Workers and OS threads

/// Takes the socket, asks a question, gives it back; `rounds` times.
fn play(ball: &Ball<UdpSocket>, me: usize, rounds: u64) {
    for round in 0..rounds {
        let socket = ball.take(me);
        ask(&socket, round);
        ball.give(1 - me, socket);
    }
}

#[test]
fn a_socket_may_be_used_by_one_worker_after_the_other() {
    on_workers(2, || {
        let (near, far) = pair();
        let echo = thread::spawn(move || echo(&far));
        let ball = Ball::new();
        ball.give(0, near);
        let other = ball.clone();
        let other = on_another_worker(move || play(&other, 1, 500));
        play(&ball, 0, 500);
        other.join().unwrap();
        ball.take(0).send(b"").unwrap();
        echo.join().unwrap().unwrap();
    });
}

#[test]
fn a_socket_may_be_used_by_green_threads_and_os_threads_in_turn() {
    on_one_and_two(|_| {
        let (near, far) = pair();
        let echo = thread::spawn(move || echo(&far));
        let ball = Ball::new();
        ball.give(0, near);
        let other = ball.clone();
        let other = std::thread::spawn(move || play(&other, 1, 500));
        play(&ball, 0, 500);
        ball.take(0).send(b"").unwrap();
        other.join().unwrap();
        echo.join().unwrap().unwrap();
    });
}

#[test]
fn a_socket_that_never_runs_dry_does_not_starve_its_neighbours() {
    on_workers(1, || {
        let (busy, source) = pair();
        source.send(b"always something to see").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let firehose = thread::spawn(move || {
            while !stopping.load(SeqCst) {
                busy.peek(&mut [0; 8]).unwrap();
            }
        });
        let (near, far) = pair();
        let echo = std::thread::spawn(move || echo(&far));
        (0..20).for_each(|n| ask(&near, n));
        stop.store(true, SeqCst);
        firehose.join().unwrap();
        near.send(b"").unwrap();
        echo.join().unwrap().unwrap();
    });
}

// Cancellation

#[test]
fn whoever_waits_can_be_cancelled_and_the_socket_goes_on() {
    on_one_and_two(|place| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let handles = [(); 4].map(|()| near.clone());
        let [recv, recv_from, peek, peek_from] = handles;
        assert_cancelled(place, move || recv.recv(&mut [0; 8]));
        assert_cancelled(place, move || recv_from.recv_from(&mut [0; 8]));
        assert_cancelled(place, move || peek.peek(&mut [0; 8]));
        assert_cancelled(place, move || peek_from.peek_from(&mut [0; 8]));
        far.send(b"data").unwrap();
        assert_eq!(near.recv(&mut [0; 8]).unwrap(), 4, "nobody has taken it");
    });
}

#[test]
fn a_receive_in_a_destructor_of_a_cancelled_thread_fails_at_once() {
    struct ReceivesOnDrop(UdpSocket, Arc<Mutex<Option<ErrorKind>>>);
    impl Drop for ReceivesOnDrop {
        fn drop(&mut self) {
            *self.1.lock().unwrap() = self.0.recv(&mut [0; 8]).err().map(|error| error.kind());
        }
    }
    on_one_and_two(|place| {
        let ((near, _), result) = (socket(), Arc::new(Mutex::new(None)));
        let receiver = ReceivesOnDrop(near, result.clone());
        assert_cancelled(place, move || receiver.0.recv(&mut [0; 8]));
        let kind = result.lock().unwrap().expect("it did not succeed");
        assert_ne!(kind, ErrorKind::Interrupted, "loops would retry for ever");
    });
}

#[test]
fn threads_that_wait_are_unwound_when_the_runtime_ends() {
    for workers in [1, 2] {
        let dropped = Arc::new(AtomicUsize::new(0));
        on_workers(workers, || {
            let ((near, _), guard) = (socket(), Guard(dropped.clone()));
            Place::Workers(workers).spawn_waiting(move || (guard, near.recv(&mut [0; 8])).1);
        });
        assert_eq!(dropped.load(SeqCst), 1, "{workers} workers");
    }
}

// Options, conversions and descriptions

#[test]
fn options_are_reported_as_set() {
    everywhere(|_| {
        let (socket, _) = socket();
        for on in [true, false] {
            socket.set_broadcast(on).unwrap();
            assert_eq!(socket.broadcast().unwrap(), on);
            socket.set_multicast_loop_v4(on).unwrap();
            assert_eq!(socket.multicast_loop_v4().unwrap(), on);
        }
        socket.set_ttl(42).unwrap();
        assert_eq!(socket.ttl().unwrap(), 42);
        socket.set_multicast_ttl_v4(43).unwrap();
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 43);
        if let Ok(socket) = UdpSocket::bind("[::1]:0") {
            for on in [true, false] {
                socket.set_multicast_loop_v6(on).unwrap();
                assert_eq!(socket.multicast_loop_v6().unwrap(), on);
            }
        }
    });
}

#[test]
fn a_broadcast_has_to_be_allowed() {
    everywhere(|_| {
        let (socket, _) = socket();
        let error = socket.send_to(b"x", (Ipv4Addr::BROADCAST, 9)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn a_multicast_reaches_those_who_have_joined_until_they_leave() {
    let group = Ipv4Addr::new(239, 255, 77, 1);
    everywhere(|_| {
        let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let (sender, address) = socket();
        receiver.set_read_timeout(Some(SHORT)).unwrap();
        receiver
            .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
            .unwrap();
        sender.send_to(b"to all", (group, port)).unwrap();
        assert_eq!(receiver.recv_from(&mut [0; 8]).unwrap(), (6, address));
        receiver
            .leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
            .unwrap();
        assert!(
            receiver
                .leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
                .is_err(),
            "it has left"
        );
        sender.send_to(b"to all", (group, port)).unwrap();
        assert_eq!(
            receiver.recv(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
    });
}

#[test]
fn ipv6_groups_are_joined_and_left_once() {
    let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x77);
    everywhere(|_| {
        let Ok(socket) = UdpSocket::bind("[::1]:0") else {
            return;
        };
        // The loopback interface is the first.
        socket.join_multicast_v6(&group, 1).unwrap();
        socket.leave_multicast_v6(&group, 1).unwrap();
        assert!(socket.leave_multicast_v6(&group, 1).is_err(), "it has left");
    });
}

#[test]
fn conversions_from_and_to_std_keep_the_socket_its_mode_and_its_time_outs() {
    everywhere(|place| {
        let (near, far) = pair();
        let fd = near.as_raw_fd();
        let receiver = place.spawn_waiting(move || {
            near.recv(&mut [0; 8]).unwrap();
            near
        });
        far.send(b"one").unwrap();
        let near = receiver.join();
        near.set_read_timeout(Some(SHORT)).unwrap();
        let near = std::net::UdpSocket::from(near);
        assert_eq!(near.as_raw_fd(), fd);
        assert_eq!(
            near.read_timeout()
                .unwrap()
                .map(|timeout| timeout.as_millis()),
            Some(SHORT.as_millis())
        );
        far.send(b"two").unwrap();
        assert_eq!(near.recv(&mut [0; 8]).unwrap(), 3);
        near.set_nonblocking(true).unwrap();
        let near = UdpSocket::from(near);
        assert_eq!(
            near.recv(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        near.set_nonblocking(false).unwrap();
        assert_eq!(
            near.recv(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        let near = UdpSocket::from(OwnedFd::from(near));
        let fd = near.into_raw_fd();
        // SAFETY: `into_raw_fd` has just given it away.
        let near = unsafe { UdpSocket::from_raw_fd(fd) };
        far.send(b"three").unwrap();
        assert_eq!(near.recv(&mut [0; 8]).unwrap(), 5);
    });
}

#[test]
fn a_clone_that_becomes_stds_does_not_make_the_other_block_its_worker() {
    on_workers(1, || {
        let (near, far) = pair();
        let _clone = std::net::UdpSocket::from(near.try_clone().unwrap());
        let receiver = Place::Workers(1).spawn_waiting(move || near.recv(&mut [0; 8]).unwrap());
        far.send(b"data").unwrap();
        assert_eq!(receiver.join(), 4);
    });
}

#[test]
fn it_describes_itself_and_has_the_auto_traits_of_stds() {
    fn has_them<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    has_them::<UdpSocket>();
    bounded(|| {
        let (socket, address) = socket();
        assert_eq!(
            format!("{socket:?}"),
            format!(
                "UdpSocket {{ addr: {address}, fd: {} }}",
                socket.as_raw_fd()
            )
        );
    });
}

#[test]
fn sockets_leave_no_descriptor_behind() {
    if !is_child() {
        return passes_in_child("sockets_leave_no_descriptor_behind");
    }
    let before = open_descriptors();
    everywhere(|place| {
        let before = open_descriptors();
        for _ in 0..100 {
            let (near, far) = pair();
            let server = place.spawn(move || echo(&far).unwrap());
            ask(&near, 1);
            near.try_clone().unwrap().send(b"").unwrap();
            server.join();
        }
        assert_eq!(open_descriptors(), before, "{place:?}");
    });
    assert_eq!(open_descriptors(), before);
}
