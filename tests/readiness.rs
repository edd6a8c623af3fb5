//! `channel::readable` and `channel::writable`: a `select!` waits for sockets, and for whatever
//! else it waits for.

#![cfg(feature = "runtime")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hebra::channel::{
    self, Readiness, Receiver, RecvError, RecvTimeoutError, Select, TryRecvError, after, bounded,
    finished, never, readable, select, select_biased, unbounded, writable,
};
use hebra::io::Pollable;
use hebra::net::{TcpListener, TcpStream, UdpSocket};
use hebra::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use hebra::process::{Command, Stdio};
use hebra::signal::{SIGUSR1, Signals};
use hebra::{sim, thread};

use support::place::{
    Place, SHORT, assert_cancelled, everywhere, on_another_worker, on_one_and_two, open_descriptors,
};
use support::{bounded as within_bounds, is_child, on_workers, passes_in_child, wait_until};

mod support;

/// Long enough for nobody to see its end.
const LONG: Duration = Duration::from_secs(50);

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Writes until there is no more room.
fn fill(mut stream: &UnixStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let written = std::iter::from_fn(|| stream.write(&[0; 4096]).ok()).sum();
    stream.set_nonblocking(false).unwrap();
    written
}

fn read_some(mut stream: impl Read) -> usize {
    stream.read(&mut [0; 4096]).unwrap()
}

// What it tells

#[test]
fn of_two_sockets_a_channel_a_thread_and_a_deadline_the_first_goes() {
    everywhere(|place| {
        for first in 0..5 {
            let ((one, other), (near, far)) = (pair(), tcp_pair());
            let (sender, receiver) = unbounded();
            let (stop, stopped) = bounded::<()>(0);
            let worker = (place != Place::OsThreads).then(|| thread::spawn(move || stopped.recv()));
            let ended = worker.as_ref().map_or_else(never, finished);
            let limit = if first == 4 { SHORT } else { LONG };
            let waiting = place.spawn_waiting(move || {
                select! {
                    recv(readable(&one)) -> ready => (0, ready == Ok(()) && read_some(&one) == 2),
                    recv(readable(&near)) -> ready => (1, ready == Ok(()) && read_some(&near) == 3),
                    recv(receiver) -> message => (2, message == Ok("a message")),
                    recv(ended) -> ended => (3, ended.is_err()),
                    recv(after(limit)) -> _ => (4, true),
                }
            });
            match first {
                0 => (&other).write_all(b"ab").unwrap(),
                1 => (&far).write_all(b"abc").unwrap(),
                2 => sender.send("a message").unwrap(),
                3 if place != Place::OsThreads => drop(stop),
                3 => sender.send("a message").unwrap(),
                _ => {}
            }
            let expected = if first == 3 && place == Place::OsThreads {
                2
            } else {
                first
            };
            assert_eq!(waiting.join(), (expected, true));
        }
    });
}

#[test]
fn there_is_a_message_until_somebody_has_read() {
    everywhere(|_| {
        let (near, far) = pair();
        let ready = readable(&near);
        assert_eq!(
            (ready.try_recv(), ready.len(), ready.capacity()),
            (Err(TryRecvError::Empty), 0, Some(1))
        );
        (&far).write_all(b"abc").unwrap();
        for _ in 0..3 {
            assert_eq!(
                (ready.recv(), ready.try_recv(), ready.len()),
                (Ok(()), Ok(()), 1)
            );
            assert!(ready.is_full() && !ready.is_empty());
            select! { recv(ready) -> ready => assert_eq!(ready, Ok(())), recv(never::<()>()) -> _ => unreachable!() }
        }
        assert_eq!(read_some(&near), 3);
        assert_eq!(ready.try_recv(), Err(TryRecvError::Empty));
        select! { recv(ready) -> _ => unreachable!(), default => {} }
        drop(far);
        assert_eq!(
            (ready.recv(), read_some(&near), ready.recv()),
            (Ok(()), 0, Ok(())),
            "the end is something to read"
        );
    });
}

#[test]
fn a_write_is_told_of_room_and_of_failure() {
    everywhere(|place| {
        let (near, far) = pair();
        let room = writable(&near);
        assert_eq!(room.recv(), Ok(()));
        let written = fill(&near);
        assert_eq!(room.try_recv(), Err(TryRecvError::Empty));
        let waiting = place.spawn_waiting({
            let room = room.clone();
            move || select! { recv(room) -> ready => ready, recv(after(LONG)) -> _ => Err(RecvError) }
        });
        let mut buffer = vec![0; written];
        (&far).read_exact(&mut buffer).unwrap();
        assert_eq!(waiting.join(), Ok(()));
        fill(&near);
        drop(far);
        assert_eq!(room.recv(), Ok(()));
        assert_eq!(
            (&near).write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn all_that_can_be_read_tells_when() {
    everywhere(|place| {
        // Each with what makes it readable.
        fn told<R: Readiness + Send + 'static>(place: Place, source: R, cause: impl FnOnce()) -> R {
            assert_eq!(readable(&source).try_recv(), Err(TryRecvError::Empty));
            let waiting = place.spawn_waiting(move || {
                select! {
                    recv(readable(&source)) -> ready => assert_eq!(ready, Ok(())),
                    recv(after(LONG)) -> _ => panic!("it has not been told"),
                }
                source
            });
            cause();
            waiting.join()
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = None;
        let listener = told(place, listener, || {
            client = Some(TcpStream::connect(address).unwrap())
        });
        let stream = told(place, listener.accept().unwrap().0, || {
            client.as_mut().unwrap().write_all(b"x").unwrap()
        });
        read_some(&stream);
        told(place, stream, || {
            client.as_ref().unwrap().shutdown(Shutdown::Write).unwrap()
        });

        let udp = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let [socket, other] = udp;
        let address = socket.local_addr().unwrap();
        told(place, socket, || _ = other.send_to(b"", address).unwrap());

        let name = SocketAddr::from_abstract_name(format!("readiness-{place:?}")).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        let mut client = None;
        told(place, listener, || {
            client = Some(UnixStream::connect_addr(&name).unwrap())
        });
        let (socket, other) = UnixDatagram::pair().unwrap();
        let socket = told(place, socket, || _ = other.send(b"x").unwrap());
        socket.recv(&mut []).unwrap();
        let clone = socket.try_clone().unwrap();
        told(place, Box::new(socket), || {
            clone.shutdown(Shutdown::Read).unwrap()
        });

        let (reader, mut writer) = io::pipe().unwrap();
        told(place, Arc::new(Pollable::new(reader).unwrap()), || {
            writer.write_all(b"x").unwrap()
        });

        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(writable(child.stdin.as_ref().unwrap()).recv(), Ok(()));
        let mut input = child.stdin.take().unwrap();
        told(place, child.stdout.take().unwrap(), || {
            input.write_all(b"x").unwrap()
        });
        drop(input);
        child.wait().unwrap();
    });
}

#[test]
fn a_signal_is_told_until_it_is_taken() {
    if !is_child() {
        return passes_in_child("a_signal_is_told_until_it_is_taken");
    }
    everywhere(|place| {
        let signals = Arc::new(Signals::new([SIGUSR1]).unwrap());
        let raise = || {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1)
                .unwrap()
        };
        for _ in 0..3 {
            assert_eq!(readable(&signals).try_recv(), Err(TryRecvError::Empty));
            let waiting = place.spawn_waiting({
                let signals = signals.clone();
                move || select! { recv(readable(&signals)) -> _ => signals.try_wait(), recv(after(LONG)) -> _ => None }
            });
            raise();
            assert_eq!(waiting.join(), Some(SIGUSR1));
        }
        raise();
        assert_eq!(
            (readable(&signals).recv(), signals.wait().unwrap()),
            (Ok(()), SIGUSR1)
        );
        assert_eq!(
            (readable(&signals).try_recv(), signals.try_wait()),
            (Err(TryRecvError::Empty), None)
        );
        assert_eq!(writable(&signals).try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn the_end_of_a_child_is_told_until_it_has_been_waited_for() {
    everywhere(|place| {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let ended = readable(&child);
        assert_eq!(
            (ended.try_recv(), ended.recv_timeout(SHORT)),
            (Err(TryRecvError::Empty), Err(RecvTimeoutError::Timeout))
        );
        assert_eq!(writable(&child).try_recv(), Err(TryRecvError::Empty));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let ended = ended.clone();
                place.spawn_waiting(move || {
                    select! { recv(ended) -> told => told, recv(after(LONG)) -> _ => panic!("nobody has told") }
                })
            })
            .collect();
        drop(child.stdin.take());
        waiting
            .into_iter()
            .for_each(|waiting| assert_eq!(waiting.join(), Ok(())));
        assert_eq!(
            (readable(&child).recv(), ended.try_recv()),
            (Ok(()), Ok(()))
        );
        assert!(child.try_wait().unwrap().expect("it has ended").success());
        assert_eq!(
            (ended.recv(), readable(&child).recv()),
            (Err(RecvError), Ok(()))
        );
        assert_eq!(writable(&child).try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn whoever_waits_for_the_end_of_a_child_is_told_when_another_has_waited_for_it() {
    everywhere(|place| {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let ended = readable(&child);
        let waiting = place.spawn_waiting(move || {
            select! { recv(ended) -> told => told, recv(after(LONG)) -> _ => panic!("nobody has told") }
        });
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        // Whichever of the two came first.
        let _ = waiting.join();
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let ended = readable(&child);
        drop(child);
        assert_eq!(
            ended.recv(),
            Err(RecvError),
            "nobody can ask for the end of a child that has been dropped"
        );
    });
}

#[test]
fn of_many_children_each_is_waited_for_when_it_has_ended() {
    everywhere(|_| {
        let mut children: Vec<_> = (0..8)
            .map(|_| Command::new("cat").stdin(Stdio::piped()).spawn().unwrap())
            .collect();
        for nth in [3, 0, 5, 2, 1, 0, 1, 0] {
            drop(children[nth].stdin.take());
            let ended: Vec<_> = children.iter().map(readable).collect();
            let mut select = Select::new();
            ended.iter().for_each(|ended| _ = select.recv(ended));
            let operation = select.select();
            assert_eq!(operation.index(), nth);
            operation.recv(&ended[nth]).unwrap();
            assert!(children.remove(nth).wait().unwrap().success());
        }
    });
}

#[test]
fn a_socket_in_non_blocking_mode_is_told_of_as_well() {
    everywhere(|place| {
        let (near, far) = pair();
        near.set_nonblocking(true).unwrap();
        let waiting = place.spawn_waiting(move || (readable(&near).recv(), read_some(&near)));
        (&far).write_all(b"abc").unwrap();
        assert_eq!(waiting.join(), (Ok(()), 3));
    });
}

#[test]
fn what_has_been_read_short_is_told_of_when_more_comes() {
    everywhere(|place| {
        let (near, far) = tcp_pair();
        let near = Arc::new(near);
        for _ in 0..100 {
            (&far).write_all(b"abc").unwrap();
            assert_eq!((readable(&near).recv(), read_some(&*near)), (Ok(()), 3));
            let waiting = place.spawn_waiting({
                let near = near.clone();
                move || select! { recv(readable(&near)) -> _ => read_some(&*near), recv(after(LONG)) -> _ => 0 }
            });
            (&far).write_all(b"defg").unwrap();
            assert_eq!(waiting.join(), 4);
        }
    });
}

// Time

#[test]
fn what_does_not_come_in_time_is_not_waited_for() {
    everywhere(|_| {
        let (near, far) = pair();
        let ready = readable(&near);
        let start = Instant::now();
        assert_eq!(ready.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(
            ready.recv_deadline(Instant::now() + SHORT),
            Err(RecvTimeoutError::Timeout)
        );
        select! { recv(ready) -> _ => unreachable!(), recv(never::<()>()) -> _ => unreachable!(), default(SHORT) => {} }
        let mut select = Select::new();
        let index = select.recv(&ready);
        assert!(select.select_timeout(SHORT).is_err() && select.ready_timeout(SHORT).is_err());
        assert!(start.elapsed() >= 5 * SHORT);
        assert!(select.try_select().is_err() && select.try_ready().is_err());
        (&far).write_all(b"x").unwrap();
        assert_eq!((select.ready(), select.try_ready()), (index, Ok(index)));
        let operation = select.select_timeout(Duration::ZERO).unwrap();
        assert_eq!((operation.index(), operation.recv(&ready)), (index, Ok(())));
        assert_eq!(ready.recv_timeout(Duration::ZERO), Ok(()));
    });
}

#[test]
fn a_scope_that_is_over_ends_the_wait() {
    everywhere(|_| {
        let (near, _far) = pair();
        assert!(thread::timeout(SHORT, || readable(&near).recv()).is_err());
        let select =
            || select! { recv(readable(&near)) -> _ => (), recv(never::<()>()) -> _ => () };
        assert!(thread::timeout(SHORT, select).is_err());
    });
}

#[test]
fn an_os_thread_sleeps_while_it_waits() {
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    within_bounds(|| {
        let (near, _far) = pair();
        let before = cpu();
        select! { recv(readable(&near)) -> _ => unreachable!(), recv(after(10 * SHORT)) -> _ => {} }
        let spent = Duration::try_from(cpu() - before).unwrap();
        assert!(spent < 2 * SHORT, "{spent:?}");
    });
}

// The end

#[test]
fn when_the_socket_is_closed_whoever_waits_is_told() {
    everywhere(|place| {
        let (near, far) = pair();
        let (ready, room) = (readable(&near), writable(&near));
        fill(&near);
        let waiting: Vec<_> = [&ready, &ready, &room]
            .map(|ready| {
                let ready = ready.clone();
                place.spawn_waiting(
                    move || select! { recv(ready) -> ready => ready, recv(after(LONG)) -> _ => panic!("nobody has told") },
                )
            })
            .into();
        let alone = place.spawn_waiting({
            let ready = ready.clone();
            move || ready.recv()
        });
        drop(near);
        waiting
            .into_iter()
            .for_each(|waiting| assert_eq!(waiting.join(), Err(RecvError)));
        assert_eq!(alone.join(), Err(RecvError));
        assert_eq!(
            (ready.try_recv(), room.recv(), ready.len()),
            (Err(TryRecvError::Disconnected), Err(RecvError), 0)
        );
        // A receiver does not keep it open.
        let mut rest = Vec::new();
        (&far).read_to_end(&mut rest).unwrap();
    });
}

#[test]
fn a_socket_is_closed_at_once_though_there_are_receivers() {
    // A process that another test starts has a copy of the listener until it has become another
    // program.
    if !is_child() {
        return within_bounds(|| {
            passes_in_child("a_socket_is_closed_at_once_though_there_are_receivers")
        });
    }
    everywhere(|place| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, ready) = (listener.local_addr().unwrap(), readable(&listener));
        let (asked, ask) = (Arc::new(AtomicUsize::new(0)), ready.clone());
        let count = asked.clone();
        let asking = place.spawn(move || {
            while ask.try_recv() != Err(TryRecvError::Disconnected) {
                count.fetch_add(1, SeqCst);
                if place == Place::OsThreads {
                    std::thread::yield_now()
                } else {
                    thread::yield_now()
                }
            }
        });
        wait_until(|| asked.load(SeqCst) > 100);
        drop(listener);
        drop(TcpListener::bind(address).unwrap());
        asking.join();
        drop(ready);
    });
}

#[test]
fn a_descriptor_that_is_given_away_is_whole() {
    everywhere(|place| {
        let (near, far) = pair();
        let ready = readable(&near);
        let waiting = place.spawn_waiting(move || ready.recv());
        let fd = OwnedFd::from(near);
        assert_eq!(waiting.join(), Err(RecvError));
        let again = UnixStream::from(fd);
        (&far).write_all(b"abc").unwrap();
        assert_eq!((readable(&again).recv(), read_some(&again)), (Ok(()), 3));
    });
}

#[test]
fn clones_of_a_socket_are_told_each_for_itself() {
    everywhere(|place| {
        let (near, far) = pair();
        let clone = near.try_clone().unwrap();
        let (of_near, of_clone) = (readable(&near), readable(&clone));
        assert!(!of_near.same_channel(&of_clone) && of_near.same_channel(&of_near.clone()));
        let waiting = place.spawn_waiting(move || of_clone.recv());
        drop(near);
        assert_eq!(of_near.recv(), Err(RecvError));
        assert!(!waiting.is_finished());
        (&far).write_all(b"x").unwrap();
        assert_eq!(waiting.join(), Ok(()));
    });
}

#[test]
fn no_descriptor_is_left_behind() {
    if !is_child() {
        return passes_in_child("no_descriptor_is_left_behind");
    }
    let select = |near: &UnixStream, receiver: &Receiver<u32>| {
        select! { recv(readable(near)) -> _ => 0, recv(receiver) -> message => message.unwrap(), recv(writable(near)) -> _ => 2 }
    };
    within_bounds(|| {
        let (mut before, mut channels) = (0, Vec::new());
        for round in 0..100 {
            if round == 1 {
                before = open_descriptors();
            }
            let (near, far) = pair();
            let (sender, receiver) = unbounded();
            let filled = fill(&near);
            let waiting = std::thread::spawn(move || {
                let chosen = select(&near, &receiver);
                (chosen, near)
            });
            match round % 3 {
                0 => (&far).write_all(b"x").unwrap(),
                1 => sender.send(1).unwrap(),
                _ => (&far).read_exact(&mut vec![0; filled]).unwrap(),
            }
            let (chosen, near) = waiting.join().unwrap();
            assert_eq!(chosen, round % 3);
            drop((near, far));
            // Where a thread has once waited it may be remembered, but without what it has had
            // open.
            channels.push(sender);
        }
        assert_eq!(open_descriptors(), before);
    });
}

// Many

#[test]
fn all_who_wait_for_one_socket_are_told_and_each_datagram_goes_to_one() {
    const DATAGRAMS: usize = 500;
    everywhere(|place| {
        let (socket, other) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = Arc::new(socket);
        let (quit, quitting) = bounded::<()>(0);
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (socket, quitting) = (socket.clone(), quitting.clone());
                place.spawn_waiting(move || {
                    let mut received = 0;
                    loop {
                        // A hint: another may be quicker.
                        select_biased! {
                            recv(readable(&socket)) -> _ => match socket.recv(&mut [0; 8]) {
                                Ok(_) => received += 1,
                                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                            },
                            recv(quitting) -> _ => return received,
                        }
                    }
                })
            })
            .collect();
        for n in 0..DATAGRAMS {
            other.send(&n.to_ne_bytes()).unwrap();
        }
        // They read what is there before they look whether to quit.
        drop(quit);
        assert_eq!(
            receivers
                .into_iter()
                .map(|receiver| receiver.join())
                .sum::<usize>(),
            DATAGRAMS
        );
    });
}

#[test]
fn a_reader_and_a_select_may_wait_for_one_socket() {
    everywhere(|place| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let reading = place.spawn_waiting({
            let near = near.clone();
            move || read_some(&*near)
        });
        let (sender, receiver) = bounded(0);
        let selecting = place.spawn_waiting({
            let near = near.clone();
            move || select! { recv(readable(&near)) -> _ => true, recv(receiver) -> message => message.unwrap() }
        });
        (&far).write_all(b"x").unwrap();
        // It may have been told, or come too late.
        let told = sender.send(false).is_err();
        assert_eq!((reading.join(), selecting.join()), (1, told));
    });
}

#[test]
fn one_socket_may_be_waited_for_in_both_directions_and_more_than_once() {
    everywhere(|place| {
        let (near, far) = pair();
        let filled = fill(&near);
        let near = Arc::new(near);
        for to_read in [true, false] {
            let waiting = place.spawn_waiting({
                let near = near.clone();
                move || {
                    let (ready, again, room) = (readable(&near), readable(&near), writable(&near));
                    let arm = select! {
                        recv(ready) -> ready => ready.map(|()| "read"),
                        recv(again) -> ready => ready.map(|()| "read"),
                        recv(room) -> ready => ready.map(|()| "write"),
                    };
                    arm.unwrap()
                }
            });
            match to_read {
                true => (&far).write_all(b"x").unwrap(),
                false => (&far).read_exact(&mut vec![0; filled]).unwrap(),
            }
            assert_eq!(waiting.join(), if to_read { "read" } else { "write" });
            if to_read {
                read_some(&*near);
            }
        }
    });
}

#[test]
fn of_a_list_of_sockets_each_is_served() {
    const SOCKETS: usize = 20;
    const ROUNDS: u8 = 20;
    everywhere(|place| {
        let (near, far): (Vec<_>, Vec<_>) = (0..SOCKETS).map(|_| pair()).unzip();
        let server = place.spawn(move || {
            let mut sums = [0; SOCKETS];
            let receivers: Vec<_> = near.iter().map(readable).collect();
            let mut select = Select::new();
            receivers
                .iter()
                .for_each(|receiver| _ = select.recv(receiver));
            let mut open = SOCKETS;
            while open > 0 {
                let operation = select.select();
                let at = operation.index();
                operation.recv(&receivers[at]).unwrap();
                let mut byte = [0];
                match (&near[at]).read(&mut byte).unwrap() {
                    0 => {
                        select.remove(at);
                        open -= 1;
                    }
                    _ => sums[at] += usize::from(byte[0]),
                }
            }
            sums
        });
        let clients: Vec<_> = far
            .into_iter()
            .map(|mut stream| {
                place.spawn(move || {
                    for n in 1..=ROUNDS {
                        stream.write_all(&[n]).unwrap();
                        if n % 4 == 0 {
                            if place == Place::OsThreads {
                                std::thread::yield_now()
                            } else {
                                thread::yield_now()
                            }
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join());
        assert_eq!(
            server.join(),
            [usize::from(ROUNDS) * (usize::from(ROUNDS) + 1) / 2; SOCKETS]
        );
    });
}

// Places

#[test]
fn a_receiver_may_be_used_by_one_worker_after_the_other_and_by_os_threads() {
    on_workers(2, || {
        let (near, far) = pair();
        let near = Arc::new(near);
        let wait = |place: &str| {
            let (ready, place) = (readable(&near), place.to_owned());
            move || select! { recv(ready) -> ready => ready, recv(after(LONG)) -> _ => panic!("{place} has not been told") }
        };
        let read = || assert_eq!(read_some(&*near), 1);
        for _ in 0..20 {
            thread::spawn_local({
                let far = far.try_clone().unwrap();
                move || (&far).write_all(b"x").unwrap()
            });
            assert_eq!(wait("here")(), Ok(()));
            read();
            let elsewhere = on_another_worker(wait("the other worker"));
            (&far).write_all(b"x").unwrap();
            assert_eq!(elsewhere.join().unwrap(), Ok(()));
            read();
            let outside = std::thread::spawn(wait("the OS thread"));
            (&far).write_all(b"x").unwrap();
            wait_until(|| outside.is_finished());
            assert_eq!(outside.join().unwrap(), Ok(()));
            read();
        }
    });
}

#[test]
fn green_threads_of_two_workers_and_an_os_thread_wait_for_one_socket_at_a_time() {
    on_workers(2, || {
        for _ in 0..20 {
            let (near, far) = pair();
            let near = Arc::new(near);
            let wait = || {
                let ready = readable(&near);
                move || select! { recv(ready) -> ready => ready, recv(after(LONG)) -> _ => panic!("it has not been told") }
            };
            let outside = std::thread::spawn(wait());
            let there = on_another_worker(wait());
            let here = thread::spawn_local(wait());
            thread::yield_now();
            (&far).write_all(b"x").unwrap();
            assert_eq!(
                (here.join().unwrap(), there.join().unwrap()),
                (Ok(()), Ok(()))
            );
            wait_until(|| outside.is_finished());
            assert_eq!(outside.join().unwrap(), Ok(()));
        }
    });
}

#[test]
fn a_socket_outlives_the_runtime_it_was_waited_for_in() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let near = UnixStream::from(near);
    let ready = readable(&near);
    for _ in 0..2 {
        on_workers(1, || {
            assert_eq!(
                ready.recv_timeout(Duration::from_millis(1)),
                Err(RecvTimeoutError::Timeout)
            )
        });
    }
    (&far).write_all(b"x").unwrap();
    on_workers(1, || assert_eq!(ready.recv(), Ok(())));
    assert_eq!(ready.recv(), Ok(()));
}

// Cancellation

#[test]
fn a_cancelled_select_reads_nothing_and_waits_no_more() {
    on_one_and_two(|place| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let (sender, receiver) = bounded(0);
        let wait = {
            let (near, receiver) = (near.clone(), receiver.clone());
            move || select! { recv(readable(&near)) -> _ => read_some(&*near), recv(receiver) -> n => n.unwrap() }
        };
        assert_cancelled(place, wait);
        assert_cancelled(place, {
            let near = near.clone();
            move || readable(&near).recv()
        });
        assert!(sender.try_send(1).is_err());
        (&far).write_all(b"abc").unwrap();
        assert_eq!(read_some(&*near), 3);
    });
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_what_is_ready_is_told_and_nothing_is_waited_for() {
    struct AtTheEnd<F: FnMut()>(F);
    impl<F: FnMut()> Drop for AtTheEnd<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    on_one_and_two(|place| {
        let ((near, _far), (ready, other)) = (pair(), pair());
        (&other).write_all(b"x").unwrap();
        let (tell, told) = mpsc::channel();
        assert_cancelled(place, move || {
            let _guard = AtTheEnd(|| {
                let alone = (
                    readable(&near).recv(),
                    readable(&ready).recv(),
                    readable(&near).recv_timeout(LONG),
                );
                let select = select! { recv(readable(&near)) -> ready => ready, recv(never::<()>()) -> _ => Err(RecvError) };
                let selected = select! { recv(readable(&ready)) -> ready => ready, recv(never::<()>()) -> _ => Err(RecvError) };
                tell.send((alone, select, selected)).unwrap();
            });
            thread::sleep(LONG);
        });
        let (alone, select, selected) = told.recv().unwrap();
        assert_eq!(
            alone,
            (Err(RecvError), Ok(()), Err(RecvTimeoutError::Disconnected))
        );
        assert_eq!((select, selected), (Err(RecvError), Ok(())));
    });
}

#[test]
fn the_end_of_the_runtime_ends_whoever_waits() {
    for workers in [1, 2] {
        let (near, _far) = on_workers(workers, || {
            let (near, far) = pair();
            let ready = readable(&near);
            thread::spawn(
                move || select! { recv(ready) -> _ => (), recv(never::<()>()) -> _ => () },
            );
            thread::yield_now();
            (near, far)
        });
        assert_eq!(readable(&near).try_recv(), Err(TryRecvError::Empty));
    }
}

// Simulation

#[test]
fn in_a_simulation_what_comes_from_outside_is_left_to_the_operation_to_refuse() {
    within_bounds(|| {
        let (near, far) = on_workers(1, pair);
        sim::check(0..10, || {
            assert_eq!(readable(&near).recv(), Ok(()));
            assert_eq!(
                (&near).read(&mut [0]).unwrap_err().kind(),
                ErrorKind::Unsupported
            );
            let told = select! { recv(readable(&near)) -> ready => ready, recv(channel::after(LONG)) -> _ => Err(RecvError) };
            assert_eq!(told, Ok(()));
            select! { recv(readable(&near)) -> _ => {}, default => {} }
        });
        assert!(far.as_fd().try_clone_to_owned().is_ok());
    });
}
