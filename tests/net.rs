//! `hebra::net` is `std::net` for TCP: from plain OS threads, and on green threads of one worker
//! and of two.

#![cfg(feature = "runtime")]

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::net::{Incoming, TcpListener, TcpStream};
use hebra::thread;
use hebra::{Config, Runtime};
use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};

use support::place::{
    Ball, Guard, Handle, Place, SHORT, assert_cancelled, everywhere, on_another_worker,
    on_one_and_two, open_descriptors, pattern, read_pattern, write_pattern,
};
use support::{bounded, is_child, on_workers, passes_in_child};

mod support;

const LOCALHOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    (near, far)
}

/// A connection of which the other end is std's, to be used in ways that never wait.
fn with_std_peer() -> (TcpStream, std::net::TcpStream) {
    let (near, far) = pair();
    (near, far.into())
}

/// Makes the kernel take little at a time, so that writers often have to wait.
fn shrink_buffers<const N: usize>(writers: [&TcpStream; N]) {
    for stream in writers {
        sockopt::set_socket_send_buffer_size(stream, 4096).unwrap();
    }
}

/// Makes the drop of `stream` reset the connection.
fn reset(stream: TcpStream) {
    stream.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends `bytes` and the end of the stream in one segment.
fn send_with_fin(peer: &std::net::TcpStream, bytes: &[u8]) {
    let sent = rustix::net::send(peer, bytes, SendFlags::MORE).unwrap();
    assert_eq!(sent, bytes.len());
    peer.shutdown(Shutdown::Write).unwrap();
}

/// An address that refuses connections as long as the socket lives: bound, but not listening.
fn dead_address() -> (OwnedFd, SocketAddr) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(LOCALHOST)).unwrap();
    let address = rustix::net::getsockname(&socket)
        .unwrap()
        .try_into()
        .unwrap();
    (socket, address)
}

/// A listener whose backlog is full: a further connection is neither accepted nor refused.
fn hanging_address() -> (OwnedFd, SocketAddr, Vec<std::net::TcpStream>) {
    let (listener, address) = dead_address();
    rustix::net::listen(&listener, 0).unwrap();
    let queued =
        std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, SHORT).ok()).collect();
    (listener, address, queued)
}

/// Sends back what comes, until the end.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// One question and its answer, through an [`echo`] at the other end.
fn ask(mut stream: &TcpStream, question: u64) {
    stream.write_all(&question.to_ne_bytes()).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(u64::from_ne_bytes(answer), question);
}

// Data

#[test]
fn bytes_arrive_in_order_in_both_directions() {
    everywhere(|place| {
        let (near, far) = pair();
        let server = place.spawn(move || {
            let len = read_pattern(&far).unwrap();
            write_pattern(&far, len / 2).unwrap();
        });
        write_pattern(&near, 1_000_000).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_pattern(&near).unwrap(), 500_000);
        server.join();
    });
}

#[test]
fn a_read_after_a_short_read_returns_what_comes_next() {
    everywhere(|_| {
        let (mut near, mut peer) = with_std_peer();
        let mut buffer = [0; 64];
        for round in 0..100 {
            peer.write_all(&[round; 3]).unwrap();
            assert_eq!(near.read(&mut buffer).unwrap(), 3, "short");
            peer.write_all(&[round; 64]).unwrap();
            assert_eq!(near.read(&mut buffer).unwrap(), 64, "a full buffer");
            assert_eq!(buffer, [round; 64]);
        }
    });
}

#[test]
fn a_waiting_read_returns_what_comes() {
    everywhere(|place| {
        let (mut near, mut far) = pair();
        let reader = place.spawn_waiting(move || {
            let mut buffer = [0; 64];
            let lens: Vec<_> = (0..10).map(|_| near.read(&mut buffer).unwrap()).collect();
            lens.into_iter().sum::<usize>()
        });
        for _ in 0..10 {
            far.write_all(&[0; 64]).unwrap();
        }
        assert_eq!(reader.join(), 640);
    });
}

#[test]
fn vectored_operations_fill_and_empty_several_buffers() {
    everywhere(|place| {
        let (mut near, mut far) = pair();
        let writer = place.spawn(move || {
            let pieces = [
                IoSlice::new(b"one "),
                IoSlice::new(b""),
                IoSlice::new(b"two "),
                IoSlice::new(b"three"),
            ];
            far.write_vectored(&pieces).unwrap()
        });
        assert_eq!(writer.join(), 13);
        let (mut first, mut second, mut third) = ([0; 6], [0; 3], [0; 100]);
        let mut pieces = [&mut first[..], &mut second[..], &mut third[..]].map(IoSliceMut::new);
        assert_eq!(near.read_vectored(&mut pieces).unwrap(), 13);
        assert_eq!(
            near.read_vectored(&mut pieces).unwrap(),
            0,
            "the end, after a short read"
        );
        assert_eq!(
            [&first[..], &second[..], &third[..4]],
            [&b"one tw"[..], b"o t", b"hree"]
        );
    });
}

#[test]
fn peek_does_not_consume() {
    everywhere(|place| {
        let (mut near, mut far) = pair();
        let reader = place.spawn_waiting(move || {
            let mut buffer = [0; 8];
            assert_eq!(
                near.peek(&mut buffer[..2]).unwrap(),
                2,
                "peek waits for data"
            );
            assert_eq!(near.peek(&mut buffer).unwrap(), 5);
            assert_eq!(near.read(&mut buffer).unwrap(), 5);
            assert_eq!(&buffer[..5], b"hello");
            assert_eq!(near.peek(&mut buffer).unwrap(), 0, "the end");
        });
        far.write_all(b"hello").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        reader.join();
    });
}

#[test]
fn a_large_transfer_in_both_directions_survives_tiny_buffers() {
    const LEN: usize = 16 << 20;
    on_workers(1, || {
        let (near, far) = pair();
        shrink_buffers([&near, &far]);
        let ends = [near, far].map(Arc::new);
        let threads = ends.clone().map(|end| {
            let reading = end.clone();
            let reader = thread::spawn(move || read_pattern(&*reading).unwrap());
            let writer = thread::spawn(move || {
                write_pattern(&*end, LEN).unwrap();
                end.shutdown(Shutdown::Write).unwrap();
            });
            (reader, writer)
        });
        for (reader, writer) in threads {
            writer.join().unwrap();
            assert_eq!(reader.join().unwrap(), LEN);
        }
    });
}

#[test]
fn ipv6_is_served_like_ipv4() {
    everywhere(|_| {
        let listener = match TcpListener::bind("[::1]:0") {
            Err(error)
                if error.kind() == ErrorKind::AddrNotAvailable
                    || error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                return;
            }
            listener => listener.unwrap(),
        };
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, address) = listener.accept().unwrap();
        assert_eq!(
            (near.local_addr().unwrap(), far.local_addr().unwrap()),
            (address, near.peer_addr().unwrap())
        );
        (&near).write_all(b"six").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(far.read(&mut buffer).unwrap(), 3);
    });
}

// The end of the stream

#[test]
fn an_end_that_came_with_the_last_data_is_seen_after_a_short_read() {
    everywhere(|place| {
        for _ in 0..30 {
            let (mut near, peer) = with_std_peer();
            send_with_fin(&peer, b"last");
            let mut buffer = [0; 64];
            assert_eq!(near.read(&mut buffer).unwrap(), 4);
            assert_eq!(
                near.read(&mut buffer).unwrap(),
                0,
                "the end came before the first read"
            );
        }
        for _ in 0..30 {
            let (mut near, peer) = with_std_peer();
            let reader = place.spawn_waiting(move || {
                let mut buffer = [0; 64];
                [(); 3].map(|()| near.read(&mut buffer).unwrap())
            });
            send_with_fin(&peer, b"last");
            assert_eq!(reader.join(), [4, 0, 0], "one edge told of both");
        }
    });
}

#[test]
fn an_end_that_comes_later_wakes_the_reader_that_waits_after_a_short_read() {
    everywhere(|place| {
        let (mut near, mut peer) = with_std_peer();
        peer.write_all(b"last").unwrap();
        let reader = place.spawn_waiting(move || {
            let mut buffer = [0; 64];
            [(); 3].map(|()| near.read(&mut buffer).unwrap())
        });
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.join(), [4, 0, 0]);
    });
}

#[test]
fn a_half_closed_connection_still_carries_data_the_other_way() {
    everywhere(|place| {
        let (mut near, far) = pair();
        let server = place.spawn_waiting(move || {
            assert_eq!(read_pattern(&far).unwrap(), 0);
            write_pattern(&far, 100_000).unwrap();
        });
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(read_pattern(&near).unwrap(), 100_000);
        server.join();
    });
}

#[test]
fn a_short_read_that_urgent_data_has_cut_does_not_make_the_next_one_wait() {
    everywhere(|_| {
        let (mut near, mut peer) = with_std_peer();
        let mut buffer = [0; 64];
        for _ in 0..10 {
            peer.write_all(b"before").unwrap();
            rustix::net::send(&peer, b"!", SendFlags::OOB).unwrap();
            peer.write_all(b"after").unwrap();
            assert_eq!(
                near.read(&mut buffer).unwrap(),
                6,
                "the kernel stops at the mark"
            );
            assert_eq!(
                near.read(&mut buffer).unwrap(),
                5,
                "there is more, without another edge"
            );
        }
    });
}

#[test]
fn a_reset_ends_a_waiting_read_with_an_error() {
    everywhere(|place| {
        let (mut near, far) = pair();
        let reader = place.spawn_waiting(move || near.read(&mut [0; 64]).unwrap_err().kind());
        reset(far);
        assert_eq!(reader.join(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_ends_a_waiting_write_with_an_error() {
    everywhere(|place| {
        let (near, far) = pair();
        shrink_buffers([&near]);
        let writer =
            place.spawn_waiting(move || write_pattern(&near, 16 << 20).unwrap_err().kind());
        reset(far);
        let kind = writer.join();
        assert!(
            [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&kind),
            "{kind:?}"
        );
    });
}

#[test]
fn shutdown_ends_a_read_that_waits_in_another_thread() {
    everywhere(|place| {
        for how in [Shutdown::Read, Shutdown::Both] {
            let (near, _far) = pair();
            let near = Arc::new(near);
            let waiting = near.clone();
            let reader = place.spawn_waiting(move || (&*waiting).read(&mut [0; 64]).unwrap());
            near.shutdown(how).unwrap();
            assert_eq!(reader.join(), 0, "{how:?}");
        }
    });
}

#[test]
fn shutdown_of_the_writing_half_leaves_a_waiting_read_alone() {
    everywhere(|place| {
        let (near, mut far) = pair();
        let near = Arc::new(near);
        let waiting = near.clone();
        let reader = place.spawn_waiting(move || (&*waiting).read(&mut [0; 64]).unwrap());
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut [0; 64]).unwrap(), 0);
        far.write_all(b"data").unwrap();
        assert_eq!(reader.join(), 4);
    });
}

#[test]
fn shutdown_ends_a_write_that_waits_in_another_thread() {
    everywhere(|place| {
        let (near, _far) = pair();
        shrink_buffers([&near]);
        let near = Arc::new(near);
        let waiting = near.clone();
        let writer =
            place.spawn_waiting(move || write_pattern(&*waiting, 16 << 20).unwrap_err().kind());
        near.shutdown(Shutdown::Both).unwrap();
        assert_eq!(writer.join(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn dropping_the_last_handle_closes_the_connection() {
    everywhere(|place| {
        let (near, mut far) = pair();
        let clone = near.try_clone().unwrap();
        drop(near);
        (&clone).write_all(b"open").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(far.read(&mut buffer).unwrap(), 4);
        let reader = place.spawn_waiting(move || far.read(&mut buffer).unwrap());
        drop(clone);
        assert_eq!(reader.join(), 0);
    });
}

// Connecting

#[test]
fn connecting_to_a_dead_port_is_refused() {
    everywhere(|_| {
        let (_socket, dead) = dead_address();
        assert_eq!(
            TcpStream::connect(dead).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        let error = TcpStream::connect_timeout(&dead, Duration::from_secs(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connect_and_bind_try_every_address() {
    everywhere(|_| {
        let (_socket, dead) = dead_address();
        let listener = TcpListener::bind(&[dead, SocketAddr::from(LOCALHOST)][..]).unwrap();
        let live = listener.local_addr().unwrap();
        assert_eq!(
            TcpStream::connect(&[dead, live][..])
                .unwrap()
                .peer_addr()
                .unwrap(),
            live
        );
        assert_eq!(
            TcpStream::connect(&[dead, dead][..]).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(
            TcpListener::bind(&[dead, dead][..]).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        assert_eq!(
            TcpStream::connect(&[][..]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            TcpListener::bind(&[][..]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn connect_timeout_gives_up_in_time_and_not_before() {
    everywhere(|_| {
        let (_listener, address, _queued) = hanging_address();
        let began = Instant::now();
        assert_eq!(
            TcpStream::connect_timeout(&address, SHORT)
                .unwrap_err()
                .kind(),
            ErrorKind::TimedOut
        );
        assert!(began.elapsed() >= SHORT);
        let error = TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_connect_that_hangs_does_not_stop_its_worker() {
    on_workers(1, || {
        let (_listener, address, _queued) = hanging_address();
        let ended = Arc::new(AtomicBool::new(false));
        let ending = ended.clone();
        thread::spawn(move || {
            let result = TcpStream::connect_timeout(&address, Duration::from_secs(50));
            ending.store(true, SeqCst);
            result
        });
        let (near, far) = pair();
        thread::spawn(move || echo(&far));
        (0..100).for_each(|n| ask(&near, n));
        assert!(!ended.load(SeqCst));
    });
}

// Time-outs

#[test]
fn a_read_that_has_timed_out_says_so_and_the_stream_goes_on() {
    everywhere(|_| {
        let (mut near, mut peer) = with_std_peer();
        near.set_read_timeout(Some(SHORT)).unwrap();
        let mut buffer = [0; 64];
        for round in 0..3 {
            let began = Instant::now();
            assert_eq!(
                near.read(&mut buffer).unwrap_err().kind(),
                ErrorKind::TimedOut,
                "round {round}"
            );
            assert_eq!(
                near.peek(&mut buffer).unwrap_err().kind(),
                ErrorKind::TimedOut,
                "round {round}"
            );
            assert!(began.elapsed() >= 2 * SHORT);
            peer.write_all(b"data").unwrap();
            assert_eq!(near.read(&mut buffer).unwrap(), 4, "round {round}");
        }
        drop(peer);
        assert_eq!(near.read(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn a_write_that_has_timed_out_says_so_and_the_stream_goes_on() {
    everywhere(|place| {
        let (mut near, far) = pair();
        shrink_buffers([&near, &far]);
        near.set_write_timeout(Some(SHORT)).unwrap();
        let mut len = 0;
        let error = loop {
            match near.write(&pattern(len, 1)) {
                Ok(n) => len += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        near.set_write_timeout(None).unwrap();
        let reader = place.spawn(move || read_pattern(&far).unwrap());
        near.write_all(&pattern(len, 100_000)).unwrap();
        drop(near);
        assert_eq!(
            reader.join(),
            len + 100_000,
            "what has timed out was not sent"
        );
    });
}

#[test]
fn no_byte_is_lost_between_time_outs() {
    everywhere(|place| {
        let (mut near, far) = pair();
        near.set_read_timeout(Some(Duration::from_micros(50)))
            .unwrap();
        let writer = place.spawn(move || {
            for at in 0..500 {
                (&far).write_all(&pattern(at, 1)).unwrap();
                thread::sleep(Duration::from_micros(60));
            }
        });
        let (mut buffer, mut received) = ([0; 64], Vec::new());
        loop {
            match near.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => received.extend_from_slice(&buffer[..n]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        assert!(received == pattern(0, 500));
        writer.join();
    });
}

#[test]
fn time_outs_are_reported_as_set_and_zero_is_refused() {
    everywhere(|_| {
        let (near, _far) = pair();
        assert_eq!(
            (near.read_timeout().unwrap(), near.write_timeout().unwrap()),
            (None, None)
        );
        let (read, write) = (
            Some(Duration::from_micros(1_500)),
            Some(Duration::from_secs(3_600)),
        );
        near.set_read_timeout(read).unwrap();
        near.set_write_timeout(write).unwrap();
        assert_eq!(
            (near.read_timeout().unwrap(), near.write_timeout().unwrap()),
            (read, write)
        );
        for error in [
            near.set_read_timeout(Some(Duration::ZERO)),
            near.set_write_timeout(Some(Duration::ZERO)),
        ] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(
            (near.read_timeout().unwrap(), near.write_timeout().unwrap()),
            (read, write)
        );
        near.set_read_timeout(None).unwrap();
        assert_eq!(
            (near.read_timeout().unwrap(), near.write_timeout().unwrap()),
            (None, write)
        );
        near.set_read_timeout(Some(Duration::MAX)).unwrap();
        assert!(
            near.read_timeout().unwrap().is_some(),
            "more than anybody can wait is not nothing"
        );
    });
}

#[test]
fn clones_share_time_outs_and_the_non_blocking_mode() {
    everywhere(|_| {
        let (near, _far) = pair();
        let mut clone = near.try_clone().unwrap();
        near.set_read_timeout(Some(SHORT)).unwrap();
        clone.set_write_timeout(Some(2 * SHORT)).unwrap();
        let third = clone.try_clone().unwrap();
        for handle in [&near, &clone, &third] {
            assert_eq!(handle.read_timeout().unwrap(), Some(SHORT));
            assert_eq!(handle.write_timeout().unwrap(), Some(2 * SHORT));
        }
        assert_eq!(
            clone.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        third.set_nonblocking(true).unwrap();
        assert_eq!(
            (&near).read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );

        let listener = TcpListener::bind(LOCALHOST).unwrap();
        listener.try_clone().unwrap().set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

// The non-blocking mode

#[test]
fn a_non_blocking_operation_fails_instead_of_waiting() {
    everywhere(|place| {
        let (mut near, mut far) = pair();
        let mut buffer = [0; 64];
        near.set_nonblocking(true).unwrap();
        assert_eq!(
            near.read(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(
            near.peek(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        far.write_all(b"data").unwrap();
        assert_eq!(near.peek(&mut buffer).unwrap(), 4);
        assert_eq!(near.read(&mut buffer).unwrap(), 4);
        assert_eq!(
            near.read(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock,
            "after a short read, too"
        );
        assert_eq!(
            write_pattern(&near, 16 << 20).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );

        near.set_nonblocking(false).unwrap();
        let reader = place.spawn_waiting(move || near.read(&mut buffer).unwrap());
        far.write_all(b"more").unwrap();
        assert_eq!(reader.join(), 4, "it waits again");
    });
}

#[test]
fn a_non_blocking_accept_fails_instead_of_waiting() {
    everywhere(|place| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(
            listener.incoming().next().unwrap().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        listener.set_nonblocking(false).unwrap();
        let acceptor = place.spawn_waiting(move || listener.accept().unwrap());
        let stream = TcpStream::connect(address).unwrap();
        let (mut accepted, peer) = acceptor.join();
        assert_eq!(peer, stream.local_addr().unwrap());
        drop(stream);
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0, "what it accepts waits");
    });
}

// Listeners

#[test]
fn incoming_yields_the_connections_in_order() {
    everywhere(|_| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..20)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let peers = |streams: Vec<TcpStream>| {
            streams
                .iter()
                .map(|stream| stream.peer_addr().unwrap())
                .collect::<Vec<_>>()
        };
        let first = peers(listener.incoming().take(10).map(Result::unwrap).collect());
        let second = peers(
            listener
                .into_incoming()
                .take(10)
                .map(Result::unwrap)
                .collect(),
        );
        assert!(
            clients
                .iter()
                .map(|client| client.local_addr().unwrap())
                .eq(first.into_iter().chain(second))
        );
    });
}

#[test]
fn acceptors_of_one_listener_all_get_connections() {
    everywhere(|place| {
        for clone in [false, true] {
            let listener = Arc::new(TcpListener::bind(LOCALHOST).unwrap());
            let address = listener.local_addr().unwrap();
            let acceptors: Vec<_> = (0..4)
                .map(|_| {
                    let own = if clone {
                        Arc::new(listener.try_clone().unwrap())
                    } else {
                        listener.clone()
                    };
                    place.spawn_waiting(move || own.accept().unwrap())
                })
                .collect();
            let clients: Vec<_> = acceptors
                .iter()
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            let mut peers: Vec<_> = acceptors
                .into_iter()
                .map(|acceptor| acceptor.join().1)
                .collect();
            let mut expected: Vec<_> = clients
                .iter()
                .map(|client| client.local_addr().unwrap())
                .collect();
            peers.sort();
            expected.sort();
            assert_eq!(peers, expected, "each has one, and each another");
        }
    });
}

#[test]
fn a_listener_may_be_used_by_one_worker_after_the_other() {
    on_workers(2, || {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let (address, ball) = (listener.local_addr().unwrap(), Ball::new());
        let accept = move |ball: &Ball<TcpListener>, me: usize| {
            for _ in 0..200 {
                let listener = ball.take(me);
                let client = thread::spawn(move || TcpStream::connect(address).unwrap());
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"x").unwrap();
                assert_eq!(client.join().unwrap().read(&mut [0]).unwrap(), 1);
                ball.give(1 - me, listener);
            }
        };
        ball.give(0, listener);
        let other = ball.clone();
        let other = on_another_worker(move || accept(&other, 1));
        accept(&ball, 0);
        other.join().unwrap();
    });
}

#[test]
fn whoever_waits_goes_on_when_a_clone_is_closed() {
    everywhere(|place| {
        let ((near, mut far), listener) = (pair(), TcpListener::bind(LOCALHOST).unwrap());
        let (address, clones) = (
            listener.local_addr().unwrap(),
            (near.try_clone().unwrap(), listener.try_clone().unwrap()),
        );
        let reading = place.spawn_waiting(move || (&near).read(&mut [0; 8]).unwrap());
        let accepting = place.spawn_waiting(move || listener.accept().unwrap().1);
        drop(clones);
        far.write_all(b"data").unwrap();
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(
            (reading.join(), accepting.join()),
            (4, client.local_addr().unwrap())
        );
    });
}

#[test]
fn whoever_waits_can_be_cancelled_and_the_socket_goes_on() {
    on_one_and_two(|place| {
        let (near, mut far) = pair();
        shrink_buffers([&near]);
        let near = Arc::new(near);
        let [reading, vectored, peeking] = [(); 3].map(|()| near.clone());
        assert_cancelled(place, move || (&*reading).read(&mut [0; 8]));
        assert_cancelled(place, move || {
            (&*vectored).read_vectored(&mut [IoSliceMut::new(&mut [0; 8])])
        });
        assert_cancelled(place, move || peeking.peek(&mut [0; 8]));
        far.write_all(b"data").unwrap();
        assert_eq!(
            (&*near).read(&mut [0; 8]).unwrap(),
            4,
            "nobody has taken it"
        );
        let (writing, vectored) = (near.clone(), near.clone());
        assert_cancelled(place, move || write_pattern(&*writing, 64 << 20));
        assert_cancelled(place, move || {
            while (&*vectored)
                .write_vectored(&[IoSlice::new(&[0; 1 << 16])])
                .is_ok()
            {}
        });

        let listener = Arc::new(TcpListener::bind(LOCALHOST).unwrap());
        let address = listener.local_addr().unwrap();
        let [accepting, connections, incoming] = [(); 3].map(|()| listener.clone());
        assert_cancelled(place, move || accepting.accept().map(drop));
        assert_cancelled(place, move || {
            connections
                .connections()
                .next()
                .map(|connection| connection.map(drop))
        });
        assert_cancelled(place, move || {
            incoming
                .incoming()
                .next()
                .map(|connection| connection.map(drop))
        });
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        let (_listener, address, _queued) = hanging_address();
        assert_cancelled(place, move || TcpStream::connect(address));
        assert_cancelled(place, move || {
            TcpStream::connect_timeout(&address, Duration::from_secs(50))
        });
    });
}

#[test]
fn a_dropped_listener_refuses_connections() {
    everywhere(|_| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        drop(TcpStream::connect(address).unwrap());
        listener.accept().unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn a_port_can_be_bound_again_while_old_connections_linger() {
    everywhere(|_| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(
            client.read(&mut [0]).unwrap(),
            0,
            "the server closes first, and its port waits out the time"
        );
        drop((client, listener));
        TcpListener::bind(address).unwrap();
    });
}

#[test]
fn accept_reports_that_descriptors_have_run_out_and_serves_again_when_there_are_some() {
    if !is_child() {
        return passes_in_child(
            "accept_reports_that_descriptors_have_run_out_and_serves_again_when_there_are_some",
        );
    }
    everywhere(|place| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..2)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let low = rustix::process::Rlimit {
            current: Some(listener.as_raw_fd() as u64 + 1),
            ..before
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
        let hoard: Vec<_> =
            std::iter::from_fn(|| listener.as_fd().try_clone_to_owned().ok()).collect();
        for _ in 0..3 {
            assert_eq!(
                listener.accept().unwrap_err().raw_os_error(),
                Some(libc::EMFILE)
            );
        }
        assert_eq!(
            listener.try_clone().unwrap_err().raw_os_error(),
            Some(libc::EMFILE)
        );
        assert_eq!(
            TcpStream::connect(address).unwrap_err().raw_os_error(),
            Some(libc::EMFILE)
        );
        rustix::process::setrlimit(rustix::process::Resource::Nofile, before).unwrap();
        drop(hoard);
        for client in &clients {
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
        let acceptor = place.spawn_waiting(move || listener.accept().unwrap());
        let late = TcpStream::connect(address).unwrap();
        assert_eq!(acceptor.join().1, late.local_addr().unwrap());
    });
}

// Several threads on one stream

#[test]
fn all_readers_of_one_stream_wake_at_its_end() {
    everywhere(|place| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let near = near.clone();
                place.spawn_waiting(move || (&*near).read(&mut [0; 64]).unwrap())
            })
            .collect();
        drop(far);
        for reader in readers {
            assert_eq!(reader.join(), 0);
        }
    });
}

#[test]
fn each_byte_goes_to_one_of_the_readers() {
    everywhere(|place| {
        let (near, far) = pair();
        let (near, counts) = (Arc::new(near), Arc::new(Mutex::new([0; 256])));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (near, counts) = (near.clone(), counts.clone());
                place.spawn(move || {
                    let mut buffer = [0; 7];
                    while let n @ 1.. = (&*near).read(&mut buffer).unwrap() {
                        let mut counts = counts.lock().unwrap();
                        buffer[..n]
                            .iter()
                            .for_each(|&byte| counts[usize::from(byte)] += 1);
                    }
                })
            })
            .collect();
        for byte in 0..=255 {
            (&far).write_all(&[byte; 20]).unwrap();
        }
        drop(far);
        readers.into_iter().for_each(Handle::join);
        assert_eq!(*counts.lock().unwrap(), [20; 256]);
    });
}

#[test]
fn two_writers_and_two_readers_wait_on_one_stream() {
    const LEN: usize = 300_000;
    everywhere(|place| {
        let (near, far) = pair();
        shrink_buffers([&near]);
        let (near, far, received) = (Arc::new(near), Arc::new(far), Arc::new(AtomicUsize::new(0)));
        let writers = [(); 2].map(|()| {
            let near = near.clone();
            place.spawn_waiting(move || (&*near).write_all(&vec![0; LEN]).unwrap())
        });
        let readers = [(); 2].map(|()| {
            let (far, received) = (far.clone(), received.clone());
            place.spawn(move || {
                let mut buffer = [0; 10_000];
                while let n @ 1.. = (&*far).read(&mut buffer).unwrap() {
                    received.fetch_add(n, SeqCst);
                }
            })
        });
        writers.into_iter().for_each(Handle::join);
        near.shutdown(Shutdown::Write).unwrap();
        readers.into_iter().for_each(Handle::join);
        assert_eq!(received.load(SeqCst), 2 * LEN);
    });
}

#[test]
fn one_stream_is_read_and_written_at_the_same_time() {
    everywhere(|place| {
        let (near, far) = pair();
        shrink_buffers([&near, &far]);
        let server = place.spawn(move || echo(&far).unwrap());
        let near = Arc::new(near);
        let writing = near.clone();
        let writer = place.spawn(move || {
            write_pattern(&*writing, 1_000_000).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(read_pattern(&*near).unwrap(), 1_000_000);
        writer.join();
        server.join();
    });
}

// Workers, runtimes and OS threads

/// Takes the stream, asks a question, gives it back; `rounds` times.
fn play(ball: &Ball<TcpStream>, me: usize, rounds: u64) {
    for round in 0..rounds {
        let stream = ball.take(me);
        ask(&stream, round);
        ball.give(1 - me, stream);
    }
}

#[test]
fn a_stream_may_be_used_by_one_worker_after_the_other() {
    on_workers(2, || {
        let neighbours: Vec<_> = (0..4)
            .map(|_| {
                let (near, far) = pair();
                thread::spawn(move || echo(&far));
                thread::spawn(move || (0..500).for_each(|n| ask(&near, n)))
            })
            .collect();
        let (near, far) = pair();
        thread::spawn(move || echo(&far));
        let ball = Ball::new();
        ball.give(0, near);
        let other = ball.clone();
        let other = on_another_worker(move || play(&other, 1, 500));
        play(&ball, 0, 500);
        other.join().unwrap();
        neighbours
            .into_iter()
            .for_each(|neighbour| neighbour.join().unwrap());
    });
}

#[test]
fn a_stream_may_be_used_by_green_threads_and_os_threads_in_turn() {
    on_one_and_two(|_| {
        let (near, far) = pair();
        thread::spawn(move || echo(&far));
        let ball = Ball::new();
        ball.give(0, near);
        let other = ball.clone();
        let other = std::thread::spawn(move || play(&other, 1, 500));
        play(&ball, 0, 500);
        ball.take(0);
        other.join().unwrap();
    });
}

#[test]
fn a_green_thread_and_an_os_thread_may_wait_on_one_stream() {
    on_one_and_two(|place| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let (green, os) = (near.clone(), near);
        let green = place.spawn_waiting(move || read_pattern(&*green).unwrap());
        let os = std::thread::spawn(move || {
            write_pattern(&*os, 300_000).unwrap();
            os.shutdown(Shutdown::Write).unwrap();
        });
        echo(&far).unwrap();
        assert_eq!(green.join(), 300_000);
        os.join().unwrap();
    });
}

#[test]
fn readers_on_two_workers_share_a_stream_with_a_writer() {
    on_workers(2, || {
        for round in 0..50 {
            let (near, far) = pair();
            let near = Arc::new(near);
            let (here, there) = (near.clone(), near.clone());
            let here = thread::spawn_local(move || (&*here).read(&mut [0; 1]).unwrap());
            let there = on_another_worker(move || (&*there).read(&mut [0; 1]).unwrap());
            let writer = thread::spawn(move || write_pattern(&*near, 1_000));
            (&far).write_all(b"two").unwrap();
            assert_eq!(
                here.join().unwrap() + there.join().unwrap(),
                2,
                "round {round}"
            );
            writer.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_connection_outlives_the_runtime_that_made_it() {
    bounded(|| {
        let run = |workers| Runtime::new(Config::default().workers(workers)).unwrap();
        let (listener, near, far) = run(2).run(|| {
            let (near, far) = pair();
            let far = thread::spawn(move || {
                let question = far.peek(&mut [0; 8]).unwrap();
                assert_eq!(question, 8);
                far
            });
            near.set_read_timeout(Some(SHORT)).unwrap();
            assert_eq!(
                (&near).read(&mut [0]).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            near.set_read_timeout(None).unwrap();
            (&near).write_all(&7u64.to_ne_bytes()).unwrap();
            let listener = TcpListener::bind(LOCALHOST).unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap();
            (listener, near, far.join().unwrap())
        });
        let server = std::thread::spawn(move || run(1).run(|| echo(&far)));
        let mut answer = [0; 8];
        (&near).read_exact(&mut answer).unwrap();
        assert_eq!(u64::from_ne_bytes(answer), 7);
        let near = run(1).run(|| {
            let address = listener.local_addr().unwrap();
            let acceptor = Place::Workers(1).spawn_waiting(move || listener.accept().unwrap());
            TcpStream::connect(address).unwrap();
            acceptor.join();
            (0..100).for_each(|n| ask(&near, n));
            near
        });
        (0..100).for_each(|n| ask(&near, n));
        drop(near);
        server.join().unwrap().unwrap();
    });
}

#[test]
fn a_connection_that_never_has_to_wait_does_not_starve_its_neighbours() {
    on_workers(1, || {
        let (busy, mut source) = with_std_peer();
        source.write_all(b"always something to see").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let firehose = thread::spawn(move || {
            while !stopping.load(SeqCst) {
                busy.peek(&mut [0; 8]).unwrap();
            }
        });
        let (near, far) = pair();
        let far = std::thread::spawn(move || echo(&far));
        (0..20).for_each(|n| ask(&near, n));
        thread::sleep(Duration::from_millis(1));
        stop.store(true, SeqCst);
        firehose.join().unwrap();
        drop(near);
        far.join().unwrap().unwrap();
    });
}

// Conversions

#[test]
fn conversions_from_and_to_std_keep_the_connection_its_mode_and_its_time_outs() {
    everywhere(|place| {
        let (mut near, far) = pair();
        let fd = near.as_raw_fd();
        let reader = place.spawn_waiting(move || {
            near.read_exact(&mut [0; 2]).unwrap();
            near
        });
        (&far).write_all(b"halfhalf").unwrap();
        let near = reader.join();
        near.set_read_timeout(Some(SHORT)).unwrap();

        let mut near = std::net::TcpStream::from(near);
        assert_eq!(near.as_raw_fd(), fd);
        assert_eq!(
            near.read_timeout()
                .unwrap()
                .map(|timeout| timeout.as_millis()),
            Some(SHORT.as_millis())
        );
        assert_eq!(near.write_timeout().unwrap(), None);
        let mut buffer = [0; 64];
        assert_eq!(near.read(&mut buffer[..2]).unwrap(), 2);
        near.set_write_timeout(Some(2 * SHORT)).unwrap();

        let mut near = TcpStream::from(near);
        assert_eq!(
            near.read_timeout()
                .unwrap()
                .map(|timeout| timeout.as_millis()),
            Some(SHORT.as_millis())
        );
        assert_eq!(
            near.write_timeout()
                .unwrap()
                .map(|timeout| timeout.as_millis()),
            Some(2 * SHORT.as_millis())
        );
        assert_eq!(near.read(&mut buffer).unwrap(), 4);
        assert_eq!(
            near.read(&mut buffer).unwrap_err().kind(),
            ErrorKind::TimedOut
        );

        near.set_nonblocking(true).unwrap();
        let mut near = std::net::TcpStream::from(near);
        assert_eq!(
            near.read(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let mut near = TcpStream::from(near);
        assert_eq!(
            near.read(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        near.set_nonblocking(false).unwrap();
        near.set_read_timeout(None).unwrap();

        let mut near = TcpStream::from(OwnedFd::from(near));
        assert_eq!(near.as_raw_fd(), fd);
        (&far).write_all(b"data").unwrap();
        assert_eq!(near.read(&mut buffer).unwrap(), 4);
        let fd = near.into_raw_fd();
        // SAFETY: `into_raw_fd` has just given it away.
        let mut near = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
        drop(far);
        assert_eq!(near.read(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn a_descriptor_carries_its_mode_and_its_time_outs() {
    everywhere(|_| {
        let (near, _far) = pair();
        near.set_read_timeout(Some(SHORT)).unwrap();
        near.set_nonblocking(true).unwrap();
        let mut near = std::net::TcpStream::from(OwnedFd::from(near));
        assert_eq!(
            near.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        near.set_nonblocking(false).unwrap();
        assert_eq!(
            near.read_timeout()
                .unwrap()
                .map(|timeout| timeout.as_millis()),
            Some(SHORT.as_millis()),
            "to a descriptor"
        );
        let near = TcpStream::from(OwnedFd::from(near));
        assert_eq!(
            near.read_timeout()
                .unwrap()
                .map(|timeout| timeout.as_millis()),
            Some(SHORT.as_millis()),
            "from one"
        );
    });
}

#[test]
fn a_listener_converts_from_and_to_std() {
    everywhere(|place| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = place.spawn_waiting(move || {
            listener.accept().unwrap();
            listener
        });
        let _first = TcpStream::connect(address).unwrap();
        let listener = std::net::TcpListener::from(acceptor.join());
        let second = TcpStream::connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().1, second.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from(listener);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let listener = TcpListener::from(OwnedFd::from(listener));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        listener.set_nonblocking(false).unwrap();
        let acceptor = place.spawn_waiting(move || listener.accept().unwrap());
        let third = TcpStream::connect(address).unwrap();
        assert_eq!(acceptor.join().1, third.local_addr().unwrap());
    });
}

#[test]
fn a_clone_that_becomes_stds_does_not_make_the_other_block_its_worker() {
    on_workers(1, || {
        let (mut near, mut far) = pair();
        let _clone = std::net::TcpStream::from(near.try_clone().unwrap());
        let reader = Place::Workers(1).spawn_waiting(move || near.read(&mut [0; 64]).unwrap());
        far.write_all(b"the worker is free to write this").unwrap();
        assert_eq!(reader.join(), 32);
    });
}

// Options and descriptions

#[test]
fn options_are_reported_as_set() {
    everywhere(|_| {
        let (near, _far) = pair();
        for nodelay in [true, false] {
            near.set_nodelay(nodelay).unwrap();
            assert_eq!(near.nodelay().unwrap(), nodelay);
        }
        near.set_ttl(42).unwrap();
        assert_eq!(near.ttl().unwrap(), 42);
        for linger in [Some(Duration::from_secs(2)), Some(Duration::ZERO), None] {
            near.set_linger(linger).unwrap();
            assert_eq!(near.linger().unwrap(), linger);
        }
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        listener.set_ttl(43).unwrap();
        assert_eq!(listener.ttl().unwrap(), 43);
        assert!(listener.take_error().unwrap().is_none());
    });
}

#[test]
fn take_error_takes_what_is_pending() {
    everywhere(|_| {
        let (near, far) = pair();
        assert!(near.take_error().unwrap().is_none());
        reset(far);
        assert_eq!(
            near.take_error().unwrap().unwrap().kind(),
            ErrorKind::ConnectionReset
        );
        assert!(near.take_error().unwrap().is_none());
    });
}

#[test]
fn the_ends_agree_on_their_addresses() {
    everywhere(|_| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, peer) = listener.accept().unwrap();
        assert_eq!(near.local_addr().unwrap(), far.peer_addr().unwrap());
        assert_eq!(near.peer_addr().unwrap(), far.local_addr().unwrap());
        assert_eq!(peer, near.local_addr().unwrap());
        reset(far);
        assert_eq!(
            near.peer_addr().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
    });
}

#[test]
fn debug_shows_the_addresses_and_the_descriptor() {
    everywhere(|_| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let (addr, fd) = (listener.local_addr().unwrap(), listener.as_raw_fd());
        assert_eq!(
            format!("{listener:?}"),
            format!("TcpListener {{ addr: {addr}, fd: {fd} }}")
        );
        let near = TcpStream::connect(addr).unwrap();
        let (own, fd) = (near.local_addr().unwrap(), near.as_raw_fd());
        assert_eq!(
            format!("{near:?}"),
            format!("TcpStream {{ addr: {own}, peer: {addr}, fd: {fd} }}")
        );
        reset(listener.accept().unwrap().0);
        assert_eq!(
            format!("{near:?}"),
            format!("TcpStream {{ addr: {own}, fd: {fd} }}")
        );
    });
}

#[test]
fn sockets_have_the_auto_traits_of_stds() {
    fn has_them<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    has_them::<TcpStream>();
    has_them::<TcpListener>();
    has_them::<Incoming<'_>>();
}

// Resources

#[test]
fn a_thousand_connections_leave_no_descriptor_behind() {
    if !is_child() {
        return passes_in_child("a_thousand_connections_leave_no_descriptor_behind");
    }
    let before = open_descriptors();
    everywhere(|place| {
        let listener = Arc::new(TcpListener::bind(LOCALHOST).unwrap());
        let address = listener.local_addr().unwrap();
        let before = open_descriptors();
        for _ in 0..7 {
            let accepting = listener.clone();
            let server = place.spawn(move || {
                let accepted: Vec<_> = (0..50).map(|_| accepting.accept().unwrap().0).collect();
                let echoes: Vec<_> = accepted
                    .into_iter()
                    .map(|stream| place.spawn(move || echo(&stream).unwrap()))
                    .collect();
                echoes.into_iter().for_each(Handle::join);
            });
            let clients: Vec<_> = (0..50)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            clients.iter().for_each(|client| ask(client, 1));
            drop(clients);
            server.join();
        }
        let (_socket, dead) = dead_address();
        (0..10).for_each(|_| drop(TcpStream::connect(dead).unwrap_err()));
        drop(_socket);
        assert_eq!(open_descriptors(), before, "{place:?}");
    });
    assert_eq!(open_descriptors(), before);
}

// The end of the runtime

#[test]
fn threads_that_wait_for_the_network_are_unwound_when_the_runtime_ends() {
    for workers in [1, 2] {
        let dropped = Arc::new(AtomicUsize::new(0));
        on_workers(workers, || {
            let place = Place::Workers(workers);
            let [(mut reading, _far_1), (peeking, _far_2), (writing, _far_3)] =
                [(); 3].map(|()| pair());
            let listener = TcpListener::bind(LOCALHOST).unwrap();
            let hanging = hanging_address();
            let address = hanging.1;
            let [in_read, in_peek, in_write, in_accept, in_connect]: [_; 5] =
                std::array::from_fn(|_| Guard(dropped.clone()));
            place.spawn_waiting(move || (in_read, reading.read(&mut [0])).1);
            place.spawn_waiting(move || (in_peek, peeking.peek(&mut [0])).1);
            place.spawn_waiting(move || (in_write, write_pattern(&writing, 16 << 20)).1);
            place.spawn_waiting(move || (in_accept, listener.accept()).1.map(drop));
            place.spawn_waiting(move || {
                (in_connect, hanging, TcpStream::connect(address))
                    .2
                    .map(drop)
            });
            assert_eq!(dropped.load(SeqCst), 0, "they wait");
        });
        assert_eq!(dropped.load(SeqCst), 5, "{workers} workers");
    }
}

#[test]
fn a_read_in_a_destructor_fails_at_once_when_the_runtime_has_ended() {
    struct ReadsOnDrop(TcpStream, Arc<Mutex<Option<ErrorKind>>>);
    impl Drop for ReadsOnDrop {
        fn drop(&mut self) {
            *self.1.lock().unwrap() = self.0.read(&mut [0]).err().map(|error| error.kind());
        }
    }
    for workers in [1, 2] {
        let result = Arc::new(Mutex::new(None));
        on_workers(workers, || {
            let (near, far) = pair();
            let reader = ReadsOnDrop(near, result.clone());
            Place::Workers(workers).spawn_waiting(move || (&reader.0).read(&mut [0]).map(drop));
            far
        });
        let kind = result.lock().unwrap().expect("it did not succeed");
        assert_ne!(
            kind,
            ErrorKind::Interrupted,
            "std's loops would retry for ever"
        );
    }
}
