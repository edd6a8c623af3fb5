//! `hebra::os::unix::net` is std's: from plain OS threads, and on green threads of one worker and
//! of two.

#![cfg(feature = "runtime")]

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::os::linux::net::SocketAddrExt;
use hebra::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use hebra::thread;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketType, sendmsg, sockopt,
};

use support::place::{
    Ball, Guard, Handle, Place, SHORT, assert_cancelled, everywhere, on_another_worker,
    on_one_and_two, open_descriptors, pattern, read_pattern, write_pattern,
};
use support::{bounded, is_child, on_workers, passes_in_child, wait_until};

mod support;

/// A directory of one test's own, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "hebra-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, SeqCst)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path of exactly so many bytes.
    fn path_of(&self, len: usize) -> PathBuf {
        let rest = len - self.0.as_os_str().len() - 1;
        self.path(&"x".repeat(rest))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// An abstract name that nobody else has.
fn name() -> SocketAddr {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "hebra-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, SeqCst)
    );
    SocketAddr::from_abstract_name(name).unwrap()
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A pair of which the other end is std's, to be used in ways that never wait.
fn with_std_peer() -> (UnixStream, std::os::unix::net::UnixStream) {
    let (near, far) = pair();
    (near, far.into())
}

fn shrink_buffer(writer: &impl AsFd) {
    sockopt::set_socket_send_buffer_size(writer, 4096).unwrap();
}

/// Sends back what comes, until the end.
fn echo(mut stream: &UnixStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// One question and its answer, through an [`echo`] at the other end.
fn ask(mut stream: &UnixStream, question: u64) {
    stream.write_all(&question.to_ne_bytes()).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(u64::from_ne_bytes(answer), question);
}

/// A listener with room for one connection that nobody has accepted, and that connection.
fn full_listener() -> (UnixListener, SocketAddr, UnixStream) {
    let (fd, name) = (
        rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap(),
        name(),
    );
    let address = SocketAddrUnix::new_abstract_name(name.as_abstract_name().unwrap()).unwrap();
    rustix::net::bind(&fd, &address).unwrap();
    rustix::net::listen(&fd, 0).unwrap();
    let queued = UnixStream::connect_addr(&name).unwrap();
    (fd.into(), name, queued)
}

// Streams: data

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
fn a_read_that_was_cut_at_passed_descriptors_does_not_make_the_next_one_wait() {
    everywhere(|place| {
        let (mut near, peer) = with_std_peer();
        let reader = place.spawn_waiting(move || {
            let mut len = 0;
            while len < 6 {
                len += near.read(&mut [0; 64]).unwrap();
            }
        });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut descriptors = SendAncillaryBuffer::new(&mut space);
        let passed = [peer.as_fd()];
        descriptors.push(SendAncillaryMessage::ScmRights(&passed));
        // One edge for all three, and the kernel does not read beyond descriptors.
        (&peer).write_all(b"a").unwrap();
        sendmsg(
            &peer,
            &[IoSlice::new(b"bb")],
            &mut descriptors,
            SendFlags::empty(),
        )
        .unwrap();
        (&peer).write_all(b"ccc").unwrap();
        reader.join();
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
        assert_eq!(near.read_vectored(&mut pieces).unwrap(), 0, "the end");
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
    const LEN: usize = 2 << 20;
    everywhere(|place| {
        let (near, far) = pair();
        shrink_buffer(&near);
        shrink_buffer(&far);
        let ends = [near, far].map(Arc::new);
        let threads = ends.clone().map(|end| {
            let reading = end.clone();
            let reader = place.spawn(move || read_pattern(&*reading).unwrap());
            let writer = place.spawn(move || {
                write_pattern(&*end, LEN).unwrap();
                end.shutdown(Shutdown::Write).unwrap();
            });
            (reader, writer)
        });
        for (reader, writer) in threads {
            writer.join();
            assert_eq!(reader.join(), LEN);
        }
    });
}

// Streams: the end

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
fn an_end_with_data_unread_is_a_reset() {
    everywhere(|place| {
        let (mut near, far) = pair();
        near.write_all(b"never read").unwrap();
        let reader = place.spawn_waiting(move || near.read(&mut [0; 64]).unwrap_err().kind());
        drop(far);
        assert_eq!(reader.join(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_end_of_the_reader_ends_a_waiting_write() {
    everywhere(|place| {
        let (near, far) = pair();
        shrink_buffer(&near);
        let writer =
            place.spawn_waiting(move || write_pattern(&near, 16 << 20).unwrap_err().kind());
        drop(far);
        let kind = writer.join();
        assert!(
            [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&kind),
            "{kind:?}"
        );
    });
}

#[test]
fn shutdown_ends_those_who_wait_in_other_threads() {
    everywhere(|place| {
        let (near, far) = pair();
        shrink_buffer(&near);
        let near = Arc::new(near);
        let (reading, writing) = (near.clone(), near.clone());
        let reader = place.spawn_waiting(move || (&*reading).read(&mut [0; 64]).unwrap());
        let writer =
            place.spawn_waiting(move || write_pattern(&*writing, 16 << 20).unwrap_err().kind());
        near.shutdown(Shutdown::Both).unwrap();
        assert_eq!((reader.join(), writer.join()), (0, ErrorKind::BrokenPipe));
        drop(far);
    });
}

#[test]
fn a_reader_waits_on_while_a_clone_is_closed_and_the_last_handle_ends_the_connection() {
    everywhere(|place| {
        let (near, mut far) = pair();
        let clone = near.try_clone().unwrap();
        let near = Arc::new(near);
        let waiting = near.clone();
        let reader = place.spawn_waiting(move || {
            let len = (&*waiting).read(&mut [0; 64]).unwrap();
            (len, waiting)
        });
        drop((clone, near));
        far.write_all(b"data").unwrap();
        let (len, last) = reader.join();
        assert_eq!(len, 4);
        let reader = place.spawn_waiting(move || far.read(&mut [0; 64]).unwrap());
        drop(last);
        assert_eq!(reader.join(), 0);
    });
}

// Streams: time-outs and the non-blocking mode

#[test]
fn what_has_timed_out_says_so_and_the_stream_goes_on() {
    everywhere(|place| {
        let (mut near, far) = pair();
        shrink_buffer(&near);
        near.set_read_timeout(Some(SHORT)).unwrap();
        near.set_write_timeout(Some(SHORT)).unwrap();
        let began = Instant::now();
        assert_eq!(
            near.read(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(
            near.peek(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert!(began.elapsed() >= 2 * SHORT);
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
fn a_scope_that_is_over_ends_a_read() {
    everywhere(|_| {
        let (mut near, mut far) = pair();
        assert!(thread::timeout(SHORT, || near.read(&mut [0; 8])).is_err());
        far.write_all(b"data").unwrap();
        assert_eq!(
            thread::timeout(Duration::from_secs(50), || near.read(&mut [0; 8]).unwrap()),
            Ok(4)
        );
    });
}

#[test]
fn time_outs_and_the_non_blocking_mode_are_common_to_clones() {
    everywhere(|_| {
        let (near, _far) = pair();
        let mut clone = near.try_clone().unwrap();
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
            clone.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        near.set_nonblocking(true).unwrap();
        assert_eq!(
            clone.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(
            write_pattern(&clone, 16 << 20).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    });
}

// Streams: several threads

#[test]
fn each_byte_goes_to_one_of_the_readers_and_all_see_the_end() {
    everywhere(|place| {
        let (near, far) = pair();
        let (near, counts) = (Arc::new(near), Arc::new(Mutex::new([0; 256])));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (near, counts) = (near.clone(), counts.clone());
                place.spawn_waiting(move || {
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
    const LEN: usize = 200_000;
    everywhere(|place| {
        let (near, far) = pair();
        shrink_buffer(&near);
        let (near, far, received) = (Arc::new(near), Arc::new(far), Arc::new(AtomicUsize::new(0)));
        let writers = [(); 2].map(|()| {
            let near = near.clone();
            place.spawn_waiting(move || (&*near).write_all(&[0; LEN]).unwrap())
        });
        let readers = [(); 2].map(|()| {
            let (far, received) = (far.clone(), received.clone());
            place.spawn(move || {
                while let n @ 1.. = (&*far).read(&mut [0; 1000]).unwrap() {
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

/// Takes the stream, asks a question, gives it back; `rounds` times.
fn play(ball: &Ball<UnixStream>, me: usize, rounds: u64) {
    for round in 0..rounds {
        let stream = ball.take(me);
        ask(&stream, round);
        ball.give(1 - me, stream);
    }
}

#[test]
fn a_stream_may_be_used_by_one_worker_after_the_other() {
    on_workers(2, || {
        let (near, far) = pair();
        thread::spawn(move || echo(&far));
        let ball = Ball::new();
        ball.give(0, near);
        let other = ball.clone();
        let other = on_another_worker(move || play(&other, 1, 500));
        play(&ball, 0, 500);
        other.join().unwrap();
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

// Addresses

#[test]
fn a_listener_is_reached_by_its_path_and_by_its_name() {
    everywhere(|_| {
        let directory = Directory::new();
        let path = directory.path("socket");
        let by_path = (
            UnixListener::bind(&path).unwrap(),
            SocketAddr::from_pathname(&path).unwrap(),
        );
        let by_name = (name(), ());
        let by_name = (UnixListener::bind_addr(&by_name.0).unwrap(), by_name.0);
        for (listener, address) in [by_path, by_name] {
            let mut near = UnixStream::connect_addr(&address).unwrap();
            let (mut far, peer) = listener.accept().unwrap();
            assert!(peer.is_unnamed() && near.local_addr().unwrap().is_unnamed());
            for name in
                [listener.local_addr(), near.peer_addr(), far.local_addr()].map(Result::unwrap)
            {
                assert_eq!(name.as_pathname(), address.as_pathname());
                assert_eq!(name.as_abstract_name(), address.as_abstract_name());
            }
            near.write_all(b"hello").unwrap();
            assert_eq!(far.read(&mut [0; 8]).unwrap(), 5);
        }
        assert_eq!(
            UnixListener::bind(&path).unwrap_err().kind(),
            ErrorKind::AddrInUse,
            "the path outlives the listener"
        );
        assert_eq!(
            UnixStream::connect(&path).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            UnixStream::connect(&path).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn paths_may_be_as_long_as_in_std() {
    everywhere(|_| {
        let directory = Directory::new();
        let longest = directory.path_of(107);
        let listener = UnixListener::bind(&longest).unwrap();
        assert_eq!(
            listener.local_addr().unwrap().as_pathname(),
            Some(&*longest)
        );
        let near = UnixStream::connect(&longest).unwrap();
        assert_eq!(near.peer_addr().unwrap().as_pathname(), Some(&*longest));
        let error = UnixListener::bind(directory.path_of(108)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            UnixStream::connect(Path::new("a\0b")).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            SocketAddr::from_abstract_name([0; 108]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn a_peer_with_a_path_too_long_for_std_is_served_as_one_without_a_name() {
    everywhere(|_| {
        let (directory, name) = (Directory::new(), name());
        let listener = UnixListener::bind_addr(&name).unwrap();
        let peer = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let path = directory.path_of(108);
        rustix::net::bind(
            &peer,
            &SocketAddrUnix::new(path.as_os_str().as_bytes()).unwrap(),
        )
        .unwrap();
        let address = SocketAddrUnix::new_abstract_name(name.as_abstract_name().unwrap()).unwrap();
        rustix::net::connect(&peer, &address).unwrap();
        assert!(listener.accept().unwrap().1.is_unnamed());
    });
}

#[test]
fn an_unnamed_address_makes_the_system_choose_a_name() {
    everywhere(|_| {
        let nameless = SocketAddr::from_pathname("").unwrap();
        assert!(nameless.is_unnamed());
        let listener = UnixListener::bind_addr(&nameless).unwrap();
        let chosen = listener.local_addr().unwrap();
        assert!(
            chosen
                .as_abstract_name()
                .is_some_and(|name| !name.is_empty())
        );
        UnixStream::connect_addr(&chosen).unwrap();
    });
}

// Connecting to a full backlog

#[test]
fn a_connect_waits_while_the_backlog_is_full() {
    everywhere(|place| {
        let (listener, name, _queued) = full_listener();
        let connecting = place.spawn_waiting(move || UnixStream::connect_addr(&name).unwrap());
        thread::sleep(SHORT);
        assert!(!connecting.is_finished());
        drop(listener.accept().unwrap());
        let mut near = connecting.join();
        let (mut far, _) = listener.accept().unwrap();
        far.write_all(b"hello").unwrap();
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 5);
    });
}

#[test]
fn a_connect_to_a_full_backlog_does_not_stop_its_worker_and_can_be_given_up() {
    on_workers(1, || {
        let (_listener, name, _queued) = full_listener();
        let address = name.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let ending = ended.clone();
        let waiting = thread::spawn(move || {
            let result = UnixStream::connect_addr(&address);
            ending.store(true, SeqCst);
            result
        });
        let (near, far) = pair();
        thread::spawn(move || echo(&far));
        (0..100).for_each(|n| ask(&near, n));
        assert!(!ended.load(SeqCst));
        waiting.cancel();
        assert!(waiting.join().is_err());
        assert!(thread::timeout(SHORT, || UnixStream::connect_addr(&name)).is_err());
    });
    bounded(|| {
        let (_listener, name, _queued) = full_listener();
        assert!(
            thread::timeout(SHORT, || UnixStream::connect_addr(&name)).is_err(),
            "on an OS thread, too"
        );
    });
}

#[test]
fn a_connect_that_waits_fails_when_the_listener_goes() {
    everywhere(|place| {
        let (listener, name, _queued) = full_listener();
        let connecting =
            place.spawn_waiting(move || UnixStream::connect_addr(&name).unwrap_err().kind());
        drop(listener);
        assert_eq!(connecting.join(), ErrorKind::ConnectionRefused);
    });
}

// Listeners

#[test]
fn acceptors_of_one_listener_all_get_connections() {
    everywhere(|place| {
        let name = name();
        let listener = Arc::new(UnixListener::bind_addr(&name).unwrap());
        let acceptors: Vec<_> = (0..4)
            .map(|n| {
                let own = if n % 2 == 0 {
                    listener.clone()
                } else {
                    Arc::new(listener.try_clone().unwrap())
                };
                place.spawn_waiting(move || own.accept().unwrap().0)
            })
            .collect();
        let clients: Vec<_> = acceptors
            .iter()
            .map(|_| UnixStream::connect_addr(&name).unwrap())
            .collect();
        for acceptor in acceptors {
            acceptor.join().write_all(b"hello").unwrap();
        }
        for mut client in clients {
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
        }
    });
}

#[test]
fn a_listener_may_be_used_by_one_worker_after_the_other() {
    on_workers(2, || {
        let (name, ball) = (name(), Ball::new());
        let accept = {
            let name = name.clone();
            move |ball: &Ball<UnixListener>, me: usize| {
                for _ in 0..200 {
                    let (listener, name) = (ball.take(me), name.clone());
                    let client = thread::spawn(move || UnixStream::connect_addr(&name).unwrap());
                    let (mut stream, _) = listener.accept().unwrap();
                    stream.write_all(b"x").unwrap();
                    assert_eq!(client.join().unwrap().read(&mut [0]).unwrap(), 1);
                    ball.give(1 - me, listener);
                }
            }
        };
        ball.give(0, UnixListener::bind_addr(&name).unwrap());
        let (other, there) = (ball.clone(), accept.clone());
        let other = on_another_worker(move || there(&other, 1));
        accept(&ball, 0);
        other.join().unwrap();
    });
}

#[test]
fn a_listener_is_an_iterator_over_its_connections() {
    everywhere(|_| {
        let name = name();
        let listener = UnixListener::bind_addr(&name).unwrap();
        let clients: Vec<_> = (0..6)
            .map(|_| UnixStream::connect_addr(&name).unwrap())
            .collect();
        let mut accepted: Vec<_> = listener.incoming().take(2).map(Result::unwrap).collect();
        accepted.extend(listener.into_iter().take(2).map(Result::unwrap));
        accepted.extend(
            listener
                .connections()
                .take(2)
                .map(|connection| connection.unwrap().0),
        );
        for (nth, (mut client, mut accepted)) in clients.into_iter().zip(accepted).enumerate() {
            client.write_all(&[0; 64][..=nth]).unwrap();
            assert_eq!(accepted.read(&mut [0; 64]).unwrap(), nth + 1, "in order");
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut connections = listener.connections();
        assert_eq!(
            connections.next().unwrap().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert!(connections.next().is_none(), "it ends with an error");
        assert!(listener.take_error().unwrap().is_none());
    });
}

// Datagrams

#[test]
fn datagrams_keep_their_bounds_and_their_order_in_both_directions() {
    everywhere(|place| {
        let (near, far) = UnixDatagram::pair().unwrap();
        let server = place.spawn(move || {
            let mut buffer = [0; 2_000];
            for len in 0..200 {
                assert_eq!(far.recv(&mut buffer).unwrap(), len * 7);
                assert!(buffer[..len * 7].iter().all(|&byte| byte == len as u8));
                far.send(&buffer[..len]).unwrap();
            }
        });
        let mut buffer = [0; 2_000];
        for len in 0..200 {
            assert_eq!(near.send(&vec![len as u8; len * 7]).unwrap(), len * 7);
            assert_eq!(
                near.recv(&mut buffer[..1_000]).unwrap(),
                len,
                "the empty one, too"
            );
        }
        server.join();
    });
}

#[test]
fn a_datagram_tells_of_its_sender() {
    everywhere(|_| {
        let directory = Directory::new();
        let [by_path, other] = ["one", "other"].map(|name| directory.path(name));
        let (receiver, sender) = (
            UnixDatagram::bind(&by_path).unwrap(),
            UnixDatagram::bind(&other).unwrap(),
        );
        let mut buffer = [0; 8];
        assert_eq!(sender.send_to(b"path", &by_path).unwrap(), 4);
        assert_eq!(
            receiver.peek_from(&mut buffer).unwrap().1.as_pathname(),
            Some(&*other)
        );
        let (len, address) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!((len, address.as_pathname()), (4, Some(&*other)));

        let name = name();
        let named = UnixDatagram::bind_addr(&name).unwrap();
        named
            .send_to_addr(b"name", &SocketAddr::from_pathname(&by_path).unwrap())
            .unwrap();
        let (_, address) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(address.as_abstract_name(), name.as_abstract_name());
        receiver.send_to_addr(b"back", &address).unwrap();
        assert_eq!(named.peek(&mut buffer).unwrap(), 4);
        assert_eq!(named.recv(&mut buffer).unwrap(), 4);

        let unbound = UnixDatagram::unbound().unwrap();
        assert!(unbound.local_addr().unwrap().is_unnamed());
        unbound.send_to(b"nobody", &by_path).unwrap();
        assert!(receiver.recv_from(&mut buffer).unwrap().1.is_unnamed());
        assert_eq!(
            unbound.send(b"x").unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        assert_eq!(
            unbound.peer_addr().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        unbound.connect(&by_path).unwrap();
        assert_eq!(unbound.peer_addr().unwrap().as_pathname(), Some(&*by_path));
        unbound.connect_addr(&name).unwrap();
        unbound.send(b"named").unwrap();
        assert_eq!(named.recv(&mut buffer).unwrap(), 5);
        drop(named);
        assert_eq!(
            unbound.send(b"x").unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(
            unbound
                .send_to(b"x", directory.path("none"))
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
    });
}

/// A receiver, and two ways to send to it that can find its queue full.
fn to_a_queue() -> (UnixDatagram, [Sender; 2]) {
    let name = name();
    let (receiver, connected) = (
        UnixDatagram::bind_addr(&name).unwrap(),
        UnixDatagram::unbound().unwrap(),
    );
    connected.connect_addr(&name).unwrap();
    let unconnected = UnixDatagram::unbound().unwrap();
    (
        receiver,
        [Sender(connected, None), Sender(unconnected, Some(name))],
    )
}

struct Sender(UnixDatagram, Option<SocketAddr>);

impl Sender {
    fn send(&self, buf: &[u8]) -> io::Result<usize> {
        match &self.1 {
            None => self.0.send(buf),
            Some(name) => self.0.send_to_addr(buf, name),
        }
    }

    /// Fills the queue, and returns how many datagrams that took.
    fn fill(&self) -> usize {
        self.0.set_nonblocking(true).unwrap();
        let count = (0..)
            .take_while(|n: &u64| self.send(&n.to_ne_bytes()).is_ok())
            .count();
        assert_eq!(self.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).unwrap();
        count
    }
}

#[test]
fn whoever_sends_to_a_full_queue_waits_and_nothing_is_lost() {
    everywhere(|place| {
        let (receiver, senders) = to_a_queue();
        for sender in senders {
            let filled = sender.fill();
            let last = filled as u64 + 300;
            let sender = place.spawn_waiting(move || {
                for n in filled as u64..last {
                    sender.send(&n.to_ne_bytes()).unwrap();
                }
            });
            for expected in 0..last {
                let mut buffer = [0; 8];
                receiver.recv(&mut buffer).unwrap();
                assert_eq!(u64::from_ne_bytes(buffer), expected);
            }
            sender.join();
        }
    });
}

#[test]
fn a_queue_that_others_have_filled_makes_a_sender_wait() {
    everywhere(|place| {
        let (receiver, [filler, sender]) = to_a_queue();
        let filled = filler.fill();
        let sender = place.spawn_waiting(move || sender.send(b"one more").unwrap());
        for _ in 0..=filled {
            receiver.recv(&mut [0; 8]).unwrap();
        }
        assert_eq!(sender.join(), 8);
    });
}

#[test]
fn sending_to_a_full_queue_keeps_to_its_time_out_and_can_be_cancelled() {
    everywhere(|place| {
        let (_receiver, senders) = to_a_queue();
        senders[0].fill();
        for sender in senders {
            sender.0.set_write_timeout(Some(SHORT)).unwrap();
            let began = Instant::now();
            assert_eq!(sender.send(b"x").unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(began.elapsed() >= SHORT);
            sender.0.set_write_timeout(None).unwrap();
            assert!(thread::timeout(SHORT, || sender.send(b"x")).is_err());
            if place != Place::OsThreads {
                assert_cancelled(place, move || sender.send(b"x"));
            }
        }
    });
}

#[test]
fn a_datagram_socket_may_be_used_by_one_worker_after_the_other() {
    on_workers(2, || {
        let ((near, far), ball) = (UnixDatagram::pair().unwrap(), Ball::new());
        let echo = thread::spawn(move || {
            let mut buffer = [0; 8];
            while far.recv(&mut buffer).unwrap() > 0 {
                far.send(&buffer).unwrap();
            }
        });
        let ask = |ball: &Ball<UnixDatagram>, me: usize| {
            for n in 0..200_u64 {
                let (socket, mut answer) = (ball.take(me), [0; 8]);
                socket.send(&n.to_ne_bytes()).unwrap();
                assert_eq!(
                    (
                        socket.recv(&mut answer).unwrap(),
                        u64::from_ne_bytes(answer)
                    ),
                    (8, n)
                );
                ball.give(1 - me, socket);
            }
        };
        ball.give(0, near);
        let other = ball.clone();
        let other = on_another_worker(move || ask(&other, 1));
        ask(&ball, 0);
        other.join().unwrap();
        ball.take(0).send(b"").unwrap();
        echo.join().unwrap();
    });
}

#[test]
fn two_senders_wait_for_one_full_queue_and_each_datagram_arrives() {
    everywhere(|place| {
        let (near, far) = UnixDatagram::pair().unwrap();
        let near = Arc::new(near);
        let senders = [1_u8, 2].map(|who| {
            let near = near.clone();
            place.spawn_waiting(move || (0..300).for_each(|_| _ = near.send(&[who]).unwrap()))
        });
        let mut received = [0; 3];
        for _ in 0..600 {
            let mut buffer = [0];
            far.recv(&mut buffer).unwrap();
            received[usize::from(buffer[0])] += 1;
        }
        senders.into_iter().for_each(Handle::join);
        assert_eq!(received, [0, 300, 300]);
    });
}

#[test]
fn a_receiver_that_goes_ends_a_waiting_send() {
    everywhere(|place| {
        for nth in 0..2 {
            let (receiver, senders) = to_a_queue();
            let sender = senders.into_iter().nth(nth).unwrap();
            sender.fill();
            let sender = place.spawn_waiting(move || sender.send(b"x").unwrap_err().kind());
            drop(receiver);
            assert_eq!(sender.join(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn each_datagram_goes_to_one_of_the_receivers_and_shutdown_ends_them_all() {
    everywhere(|place| {
        let (near, far) = UnixDatagram::pair().unwrap();
        let (near, counts) = (Arc::new(near), Arc::new(Mutex::new([0; 256])));
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (near, counts) = (near.clone(), counts.clone());
                place.spawn_waiting(move || {
                    let mut buffer = [0; 8];
                    while near.recv(&mut buffer).unwrap() == 1 {
                        counts.lock().unwrap()[usize::from(buffer[0])] += 1;
                    }
                })
            })
            .collect();
        for byte in 0..=255 {
            far.send(&[byte]).unwrap();
        }
        wait_until(|| counts.lock().unwrap().iter().sum::<usize>() == 256);
        near.shutdown(Shutdown::Both).unwrap();
        receivers.into_iter().for_each(Handle::join);
        assert_eq!(*counts.lock().unwrap(), [1; 256]);
        assert_eq!(near.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_receive_that_has_timed_out_says_so_and_the_socket_goes_on() {
    everywhere(|_| {
        let (near, far) = UnixDatagram::pair().unwrap();
        let clone = near.try_clone().unwrap();
        clone.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(
            (near.read_timeout().unwrap(), near.write_timeout().unwrap()),
            (Some(SHORT), None)
        );
        assert_eq!(
            near.recv(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(
            near.recv_from(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        far.send(b"data").unwrap();
        assert_eq!(near.recv(&mut [0; 8]).unwrap(), 4);
        assert!(near.take_error().unwrap().is_none());
    });
}

// Cancellation

#[test]
fn whoever_waits_can_be_cancelled_and_the_socket_goes_on() {
    on_one_and_two(|place| {
        let (near, mut far) = pair();
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
        assert_cancelled(place, move || write_pattern(&*writing, 16 << 20));
        assert_cancelled(place, move || {
            (&*vectored).write_vectored(&[IoSlice::new(b"x")])
        });

        let (listener, _, _queued) = full_listener();
        drop(listener.accept().unwrap());
        let listener = Arc::new(listener);
        let (accepting, connections) = (listener.clone(), listener.clone());
        assert_cancelled(place, move || accepting.accept().map(drop));
        assert_cancelled(place, move || {
            connections
                .connections()
                .next()
                .map(|connection| connection.map(drop))
        });
        let (_listener, name, _queued) = full_listener();
        assert_cancelled(place, move || UnixStream::connect_addr(&name));

        let (near, far) = UnixDatagram::pair().unwrap();
        let near = Arc::new(near);
        let [recv, recv_from, peek, peek_from] = [(); 4].map(|()| near.clone());
        assert_cancelled(place, move || recv.recv(&mut [0; 8]));
        assert_cancelled(place, move || recv_from.recv_from(&mut [0; 8]).map(drop));
        assert_cancelled(place, move || peek.peek(&mut [0; 8]));
        assert_cancelled(place, move || peek_from.peek_from(&mut [0; 8]).map(drop));
        far.send(b"data").unwrap();
        assert_eq!(near.recv(&mut [0; 8]).unwrap(), 4, "nobody has taken it");
    });
}

#[test]
fn a_destructor_of_a_cancelled_thread_can_neither_read_nor_connect() {
    struct TriesOnDrop(UnixStream, SocketAddr, Arc<Mutex<Vec<ErrorKind>>>);
    impl Drop for TriesOnDrop {
        fn drop(&mut self) {
            let read = self.0.read(&mut [0; 8]).unwrap_err().kind();
            let connected = UnixStream::connect_addr(&self.1).unwrap_err().kind();
            self.2.lock().unwrap().extend([read, connected]);
        }
    }
    on_one_and_two(|place| {
        let ((near, _far), (_listener, name, _queued)) = (pair(), full_listener());
        let results = Arc::new(Mutex::new(Vec::new()));
        let tries = TriesOnDrop(near, name, results.clone());
        assert_cancelled(place, move || (&tries.0).read(&mut [0; 8]));
        let results = results.lock().unwrap();
        assert!(
            results.len() == 2 && !results.contains(&ErrorKind::Interrupted),
            "{results:?}"
        );
    });
}

#[test]
fn threads_that_wait_are_unwound_when_the_runtime_ends() {
    for workers in [1, 2] {
        let dropped = Arc::new(AtomicUsize::new(0));
        on_workers(workers, || {
            let place = Place::Workers(workers);
            let [read, write, accept, connect, receive]: [_; 5] =
                std::array::from_fn(|_| Guard(dropped.clone()));
            let ((mut near, _far_1), (writing, _far_2), full) = (pair(), pair(), full_listener());
            let (datagrams, listener) = (
                UnixDatagram::unbound().unwrap(),
                UnixListener::bind_addr(&name()).unwrap(),
            );
            place.spawn_waiting(move || (read, near.read(&mut [0])).1);
            place.spawn_waiting(move || (write, write_pattern(&writing, 16 << 20)).1);
            place.spawn_waiting(move || (accept, listener.accept().map(drop)).1);
            place.spawn_waiting(move || {
                (connect, UnixStream::connect_addr(&full.1), full.0, full.2)
                    .1
                    .map(drop)
            });
            place.spawn_waiting(move || (receive, datagrams.recv(&mut [0])).1);
            assert_eq!(dropped.load(SeqCst), 0, "they wait");
        });
        assert_eq!(dropped.load(SeqCst), 5, "{workers} workers");
    }
}

// Conversions and descriptions

#[test]
fn conversions_from_and_to_std_keep_the_socket_its_mode_and_its_time_outs() {
    everywhere(|place| {
        let (mut near, mut far) = pair();
        let fd = near.as_raw_fd();
        let reader = place.spawn_waiting(move || {
            near.read_exact(&mut [0; 2]).unwrap();
            near
        });
        far.write_all(b"halfhalf").unwrap();
        let near = reader.join();
        near.set_read_timeout(Some(SHORT)).unwrap();
        let mut near = std::os::unix::net::UnixStream::from(near);
        assert_eq!(near.as_raw_fd(), fd);
        assert_eq!(
            near.read_timeout()
                .unwrap()
                .map(|timeout| timeout.as_millis()),
            Some(SHORT.as_millis())
        );
        assert_eq!(near.read(&mut [0; 2]).unwrap(), 2);
        near.set_nonblocking(true).unwrap();
        let mut near = UnixStream::from(near);
        assert_eq!(near.read(&mut [0; 64]).unwrap(), 4);
        assert_eq!(
            near.read(&mut [0; 64]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        near.set_nonblocking(false).unwrap();
        assert_eq!(
            near.read(&mut [0; 64]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        let fd = UnixStream::from(OwnedFd::from(near)).into_raw_fd();
        // SAFETY: `into_raw_fd` has just given it away.
        let mut near = unsafe { UnixStream::from_raw_fd(fd) };
        drop(far);
        assert_eq!(near.read(&mut [0; 64]).unwrap(), 0);

        let name = name();
        let listener =
            std::os::unix::net::UnixListener::from(UnixListener::bind_addr(&name).unwrap());
        let near = std::os::unix::net::UnixStream::connect_addr(&name).unwrap();
        let listener = UnixListener::from(listener);
        let (mut far, _) = listener.accept().unwrap();
        UnixStream::from(near).write_all(b"data").unwrap();
        assert_eq!(far.read(&mut [0; 8]).unwrap(), 4);

        let (near, far) = UnixDatagram::pair().unwrap();
        std::os::unix::net::UnixDatagram::from(near)
            .send(b"data")
            .unwrap();
        let far = UnixDatagram::from(std::os::unix::net::UnixDatagram::from(far));
        assert_eq!(far.recv(&mut [0; 8]).unwrap(), 4);
    });
}

#[test]
fn a_clone_that_becomes_stds_does_not_make_the_other_block_its_worker() {
    on_workers(1, || {
        let (mut near, mut far) = pair();
        let _clone = std::os::unix::net::UnixStream::from(near.try_clone().unwrap());
        let reader = Place::Workers(1).spawn_waiting(move || near.read(&mut [0; 64]).unwrap());
        far.write_all(b"the worker is free to write this").unwrap();
        assert_eq!(reader.join(), 32);
    });
}

#[test]
fn they_describe_themselves_by_their_addresses() {
    bounded(|| {
        let (directory, name) = (Directory::new(), name());
        let path = directory.path("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (fd, at) = (listener.as_raw_fd(), format!("{path:?} (pathname)"));
        assert_eq!(
            format!("{listener:?}"),
            format!("UnixListener {{ fd: {fd}, local: {at} }}")
        );
        let stream = UnixStream::connect(&path).unwrap();
        let fd = stream.as_raw_fd();
        assert_eq!(
            format!("{stream:?}"),
            format!("UnixStream {{ fd: {fd}, local: (unnamed), peer: {at} }}")
        );
        let datagram = UnixDatagram::bind_addr(&name).unwrap();
        let fd = datagram.as_raw_fd();
        assert_eq!(
            format!("{datagram:?}"),
            format!("UnixDatagram {{ fd: {fd}, local: {name:?} }}")
        );
    });
}

#[test]
fn sockets_have_the_auto_traits_of_stds() {
    fn has_them<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    has_them::<UnixStream>();
    has_them::<UnixListener>();
    has_them::<UnixDatagram>();
}

// Resources

#[test]
fn a_thousand_connections_leave_no_descriptor_behind() {
    if !is_child() {
        return passes_in_child("a_thousand_connections_leave_no_descriptor_behind");
    }
    let before = open_descriptors();
    everywhere(|place| {
        let name = name();
        let listener = Arc::new(UnixListener::bind_addr(&name).unwrap());
        let before = open_descriptors();
        for _ in 0..7 {
            let accepting = listener.clone();
            let server = place.spawn(move || {
                let accepted = accepting
                    .connections()
                    .take(50)
                    .map(|connection| connection.unwrap().0);
                let echoes: Vec<_> = accepted
                    .map(|stream| place.spawn(move || echo(&stream).unwrap()))
                    .collect();
                echoes.into_iter().for_each(Handle::join);
            });
            let clients: Vec<_> = (0..50)
                .map(|_| UnixStream::connect_addr(&name).unwrap())
                .collect();
            clients.iter().for_each(|client| ask(client, 1));
            drop(clients);
            server.join();
        }
        assert_eq!(open_descriptors(), before, "{place:?}");
    });
    assert_eq!(open_descriptors(), before);
}

// Shutting down

/// By the same handle, by a clone, and by one of std's.
#[test]
fn shutdown_ends_writer_that_waits() {
    everywhere(|place| {
        for by in 0..3 {
            let (near, _far) = UnixStream::pair().unwrap();
            let near = Arc::new(near);
            let (writer, clone) = (near.clone(), near.try_clone().unwrap());
            let waiting = place.spawn_waiting(move || {
                let error = (&*writer).write_all(&[0; 4 << 20]).unwrap_err();
                error.kind()
            });
            match by {
                0 => near.shutdown(Shutdown::Write).unwrap(),
                1 => clone.shutdown(Shutdown::Write).unwrap(),
                _ => {
                    let fd = near.as_fd().try_clone_to_owned().unwrap();
                    let std = std::os::unix::net::UnixStream::from(fd);
                    std.shutdown(Shutdown::Write).unwrap();
                }
            }
            assert_eq!(waiting.join(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn shutdown_ends_datagram_sender_that_waits() {
    everywhere(|place| {
        let (near, _far) = UnixDatagram::pair().unwrap();
        let near = Arc::new(near);
        let writer = near.clone();
        let waiting = place.spawn_waiting(move || {
            loop {
                if let Err(error) = writer.send(&[0; 1000]) {
                    return error.kind();
                }
            }
        });
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(waiting.join(), ErrorKind::BrokenPipe);
    });
}
