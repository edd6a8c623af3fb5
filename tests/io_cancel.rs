//! Whoever waits for I/O, cancelled at any moment: as it comes to each of its cancel points, and
//! after each turn of the others. What has been told to have happened has happened, and nothing
//! else: no byte, datagram, connection or signal is lost, and no descriptor kept.
//!
//! It is [`sim::cancel_everywhere`](hebra::sim::cancel_everywhere) for what no simulation has: the
//! world outside. So the moments are not the same from run to run, but there are many of them.

#![cfg(feature = "runtime")]

use std::io::{ErrorKind, Read, Write};
use std::panic;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use hebra::channel::{bounded, finished, readable, select, unbounded};
use hebra::io::Pollable;
use hebra::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use hebra::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use hebra::process::Command;
use hebra::signal::{SIGUSR1, Signals};
use hebra::{blocking, sync, thread};

use support::place::{Place, on_one_and_two, open_descriptors, pattern, read_pattern};
use support::{is_child, passes_in_child, wait_until};

mod support;

/// When the victim is cancelled.
#[derive(Debug, Clone, Copy)]
enum Aim {
    Never,
    /// At this [pass](Points::pass), counted from one.
    Arriving(usize),
    /// When whoever cancels it has let the others run so often.
    After(usize),
}

/// One run.
struct Audit {
    aim: Aim,
    points: Points,
}

/// The places where the victim can be cancelled by itself.
#[derive(Clone)]
struct Points {
    aim: Aim,
    passed: Arc<AtomicUsize>,
    /// It has been cancelled before it has ended. It may have had no need to wait any more.
    hit: Arc<AtomicBool>,
    victim: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

impl Points {
    /// Marks a place before an operation that may wait.
    fn pass(&self) {
        let passed = self.passed.fetch_add(1, SeqCst) + 1;
        if let (Aim::Arriving(nth), Some(victim)) = (self.aim, &*self.victim.lock().unwrap())
            && nth == passed
        {
            victim.cancel();
            self.hit.store(true, SeqCst);
        }
    }
}

impl Audit {
    fn new(aim: Aim) -> Audit {
        Audit {
            aim,
            points: Points {
                aim,
                passed: Arc::default(),
                hit: Arc::default(),
                victim: Arc::default(),
            },
        }
    }

    /// Runs the victim until it has come to its end, or has been cancelled.
    fn run(&self, body: impl FnOnce(&Points) + Send + 'static) {
        let ((go, gate), points) = (bounded(1), self.points.clone());
        let victim = thread::spawn(move || {
            gate.recv().unwrap();
            body(&points);
        });
        let ended = finished(&victim);
        *self.points.victim.lock().unwrap() = Some(victim);
        go.send(()).unwrap();
        if let Aim::After(turns) = self.aim {
            (0..turns).for_each(|_| thread::yield_now());
            let victim = self.points.victim.lock().unwrap();
            let victim = victim.as_ref().unwrap();
            self.points.hit.store(!victim.is_finished(), SeqCst);
            victim.cancel();
        }
        assert!(ended.recv().is_err());
        let victim = self.points.victim.lock().unwrap().take().unwrap();
        if let Err(payload) = victim.join() {
            assert!(self.points.hit.load(SeqCst) || !payload.is::<thread::Cancelled>());
            if !payload.is::<thread::Cancelled>() {
                panic::resume_unwind(payload);
            }
        }
    }
}

/// Runs `test` again and again, until its victim comes to its end before it is to be cancelled.
fn sweep(place: Place, test: impl Fn(&Audit)) {
    let run = |aim| {
        let audit = Audit::new(aim);
        test(&audit);
        audit.points.hit.load(SeqCst)
    };
    assert!(!run(Aim::Never), "nobody cancels it");
    let before = open_descriptors();
    let arrivals = (1..).take_while(|nth| run(Aim::Arriving(*nth))).count();
    let (mut turns, mut hits, mut misses) = (0, 0, 0);
    // On two workers it may be quick once.
    while misses < 5 {
        let hit = run(Aim::After(turns));
        (hits, misses) = if hit {
            (hits + 1, 0)
        } else {
            (hits, misses + 1)
        };
        // Every moment at first; of long waits some.
        turns += 1 + turns / 8;
    }
    assert!(arrivals > 0, "it has come to no cancel point");
    assert!(
        hits > 0 || place == Place::Workers(2),
        "it has never been cancelled from outside"
    );
    assert_eq!(
        open_descriptors(),
        before,
        "descriptors have been left behind"
    );
}

/// Each in a process of its own, for the sake of the descriptors.
macro_rules! swept {
    ($(fn $name:ident($audit:ident: &Audit) $body:block)*) => {$(
        #[test]
        fn $name() {
            match is_child() {
                true => on_one_and_two(|place| sweep(place, |$audit| $body)),
                false => passes_in_child(stringify!($name)),
            }
        }
    )*};
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// How much the victim has done, as it has been told.
fn counter() -> [Arc<AtomicUsize>; 2] {
    let counter = Arc::new(AtomicUsize::new(0));
    [counter.clone(), counter]
}

const PIECES: usize = 4;
const PIECE: usize = 300;

/// Writes to `far` now and then, while the victim reads from `near` as long as it can.
fn read_audit<R: Send + Sync + 'static>(
    audit: &Audit,
    near: R,
    mut far: impl Write + Send + 'static,
    read_some: fn(&R, &mut [u8]) -> std::io::Result<usize>,
) {
    let (near, [seen, read]) = (Arc::new(near), counter());
    let peer = thread::spawn(move || {
        for piece in 0..PIECES {
            far.write_all(&pattern(piece * PIECE, PIECE)).unwrap();
            (0..3).for_each(|_| thread::yield_now());
        }
    });
    audit.run({
        let near = near.clone();
        move |points| {
            while read.load(SeqCst) < PIECES * PIECE {
                points.pass();
                let mut buffer = [0; PIECE - 1];
                let (from, len) = (read.load(SeqCst), read_some(&near, &mut buffer).unwrap());
                assert!(buffer[..len] == pattern(from, len));
                read.store(from + len, SeqCst);
            }
        }
    });
    peer.join().unwrap();
    let (seen, mut rest) = (seen.load(SeqCst), vec![0; PIECES * PIECE]);
    let mut len = 0;
    while let n @ 1.. = read_some(&near, &mut rest[len..]).unwrap() {
        len += n;
    }
    rest.truncate(len);
    assert!(
        rest == pattern(seen, PIECES * PIECE - seen),
        "{} bytes after {seen} are left",
        rest.len()
    );
}

/// Reads from `far` slowly, while the victim writes more to `near` than there is room for.
fn write_audit<W: Send + Sync + 'static>(
    audit: &Audit,
    near: W,
    far: impl Read + Send + 'static,
    len: usize,
    write_some: fn(&W, &[u8]) -> std::io::Result<usize>,
) {
    const PIECES: usize = 8;
    let (near, [seen, written]) = (Arc::new(near), counter());
    let peer = thread::spawn(move || {
        (0..20).for_each(|_| thread::yield_now());
        read_pattern(far).unwrap()
    });
    audit.run(move |points| {
        while written.load(SeqCst) < len {
            points.pass();
            let at = written.load(SeqCst);
            let n = write_some(&near, &pattern(at, (len - at).min(len / PIECES))).unwrap();
            written.store(at + n, SeqCst);
        }
    });
    assert_eq!(
        peer.join().unwrap(),
        seen.load(SeqCst),
        "so much has come, and so much was said to be sent"
    );
}

/// Sends datagrams now and then, while the victim receives them, until the `drain`.
fn datagrams_audit<S: Send + Sync + 'static>(
    audit: &Audit,
    near: S,
    send: impl Fn(&[u8]) + Send + 'static,
    receive: fn(&S, &mut [u8]) -> std::io::Result<usize>,
    drain: fn(&S),
) {
    const DATAGRAMS: usize = 4;
    let (near, [seen, received]) = (Arc::new(near), counter());
    let peer = thread::spawn(move || {
        for n in 0..DATAGRAMS {
            send(&[n as u8]);
            (0..3).for_each(|_| thread::yield_now());
        }
    });
    audit.run({
        let near = near.clone();
        move |points| {
            for n in 0..DATAGRAMS {
                points.pass();
                let mut buffer = [0; 8];
                assert_eq!(
                    (receive(&near, &mut buffer).unwrap(), buffer[0]),
                    (1, n as u8)
                );
                received.store(n + 1, SeqCst);
            }
        }
    });
    peer.join().unwrap();
    drain(&near);
    let rest = std::iter::from_fn(|| {
        let mut buffer = [0; 8];
        receive(&near, &mut buffer)
            .ok()
            .map(|_| usize::from(buffer[0]))
    });
    assert!(rest.eq(seen.load(SeqCst)..DATAGRAMS));
}

/// Connections come now and then, while the victim accepts them.
fn accept_audit<L: Send + Sync + 'static, S: Send + 'static>(
    audit: &Audit,
    listener: L,
    connect: impl Fn() -> S + Send + 'static,
    accept: fn(&L) -> std::io::Result<()>,
    drain: fn(&L),
) {
    const CONNECTIONS: usize = 3;
    let (listener, [seen, accepted]) = (Arc::new(listener), counter());
    let clients = thread::spawn(move || {
        let connect = || {
            (0..3).for_each(|_| thread::yield_now());
            connect()
        };
        (0..CONNECTIONS).map(|_| connect()).collect::<Vec<_>>()
    });
    audit.run({
        let listener = listener.clone();
        move |points| {
            for n in 0..CONNECTIONS {
                points.pass();
                accept(&listener).unwrap();
                accepted.store(n + 1, SeqCst);
            }
        }
    });
    let clients = clients.join().unwrap();
    drain(&listener);
    let rest = std::iter::from_fn(|| accept(&listener).ok()).count();
    assert_eq!(seen.load(SeqCst) + rest, clients.len());
}

swept! {
    fn a_tcp_read_takes_what_it_returns(audit: &Audit) {
        let (near, far) = tcp_pair();
        read_audit(audit, near, far, |mut near, buffer| near.read(buffer));
    }

    fn a_tcp_write_sends_what_it_returns(audit: &Audit) {
        let (near, far) = tcp_pair();
        write_audit(audit, near, far, 8 << 20, |mut near, bytes| near.write(bytes));
    }

    fn a_tcp_accept_takes_the_connection_that_it_returns(audit: &Audit) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = move || TcpStream::connect(address).unwrap();
        let drain = |listener: &TcpListener| listener.set_nonblocking(true).unwrap();
        accept_audit(audit, listener, connect, |listener| listener.accept().map(drop), drain);
    }

    fn a_tcp_connect_leaves_nothing_behind(audit: &Audit) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, [seen, connected]) = (listener.local_addr().unwrap(), counter());
        audit.run(move |points| {
            for n in 0..3 {
                points.pass();
                drop(TcpStream::connect(address).unwrap());
                connected.store(n + 1, SeqCst);
            }
        });
        listener.set_nonblocking(true).unwrap();
        let connections: Vec<_> = std::iter::from_fn(|| listener.accept().ok()).collect();
        // One more may have come about, whose client had been cancelled by then. It is closed.
        assert!((seen.load(SeqCst)..=seen.load(SeqCst) + 1).contains(&connections.len()));
        for (mut stream, _) in connections {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    }

    fn a_udp_receive_takes_the_datagram_that_it_returns(audit: &Audit) {
        let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        far.connect(near.local_addr().unwrap()).unwrap();
        let send = move |datagram: &[u8]| _ = far.send(datagram).unwrap();
        let drain = |near: &UdpSocket| near.set_nonblocking(true).unwrap();
        datagrams_audit(audit, near, send, |near, buffer| near.recv_from(buffer).map(|(len, _)| len), drain);
    }

    fn a_unix_read_takes_what_it_returns(audit: &Audit) {
        let (near, far) = UnixStream::pair().unwrap();
        read_audit(audit, near, far, |mut near, buffer| near.read(buffer));
    }

    fn a_unix_write_sends_what_it_returns(audit: &Audit) {
        let (near, far) = UnixStream::pair().unwrap();
        write_audit(audit, near, far, 1 << 20, |mut near, bytes| near.write(bytes));
    }

    fn a_unix_accept_takes_the_connection_that_it_returns(audit: &Audit) {
        let listener = UnixListener::bind_addr(&unnamed()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = move || UnixStream::connect_addr(&address).unwrap();
        let drain = |listener: &UnixListener| listener.set_nonblocking(true).unwrap();
        accept_audit(audit, listener, connect, |listener| listener.accept().map(drop), drain);
    }

    fn a_unix_connect_to_a_full_backlog_leaves_nothing_behind(audit: &Audit) {
        let listener = UnixListener::from(rustix_listener());
        let (address, [seen, connected]) = (listener.local_addr().unwrap(), counter());
        audit.run({
            let address = address.clone();
            let acceptor = listener.try_clone().unwrap();
            move |points| {
                // The second one waits, until the first has been accepted.
                let _first = UnixStream::connect_addr(&address).unwrap();
                connected.store(1, SeqCst);
                let accepting = Accepting::new(acceptor);
                points.pass();
                drop(UnixStream::connect_addr(&address).unwrap());
                connected.store(2, SeqCst);
                drop(accepting);
            }
        });
        listener.set_nonblocking(true).unwrap();
        let rest = std::iter::from_fn(|| listener.accept().ok()).count();
        assert!(rest <= 2 && seen.load(SeqCst) <= 2);
        // It goes on.
        let client = UnixStream::connect_addr(&address).unwrap();
        assert!(listener.accept().is_ok());
        drop(client);
    }

    fn a_unix_receive_takes_the_datagram_that_it_returns(audit: &Audit) {
        let (near, far) = UnixDatagram::pair().unwrap();
        let send = move |datagram: &[u8]| _ = far.send(datagram).unwrap();
        let drain = |near: &UnixDatagram| near.set_nonblocking(true).unwrap();
        datagrams_audit(audit, near, send, |near, buffer| near.recv(buffer), drain);
    }

    fn a_unix_send_to_a_full_queue_sends_the_datagram_that_it_says(audit: &Audit) {
        const DATAGRAMS: usize = 40;
        let ((near, far), [seen, sent]) = (UnixDatagram::pair().unwrap(), counter());
        let peer = thread::spawn(move || {
            (0..20).for_each(|_| thread::yield_now());
            let mut received = 0;
            // The end is an empty one.
            while far.recv(&mut [0; 8]).unwrap() > 0 {
                received += 1;
            }
            received
        });
        let near = Arc::new(near);
        audit.run({
            let near = near.clone();
            move |points| {
                for n in 0..DATAGRAMS {
                    points.pass();
                    assert_eq!(near.send(b"x").unwrap(), 1);
                    sent.store(n + 1, SeqCst);
                }
            }
        });
        near.send(b"").unwrap();
        assert_eq!(peer.join().unwrap(), seen.load(SeqCst));
    }

    fn a_read_with_of_a_pipe_takes_what_it_returns(audit: &Audit) {
        let (reader, writer) = std::io::pipe().unwrap();
        let (near, far) = (Pollable::new(reader).unwrap(), Pollable::new(writer).unwrap());
        read_audit(audit, near, far, |near, buffer| near.read_with(|mut pipe| pipe.read(buffer)));
    }

    fn a_write_with_to_a_pipe_sends_what_it_returns(audit: &Audit) {
        let (reader, writer) = std::io::pipe().unwrap();
        let (near, far) = (Pollable::new(writer).unwrap(), Pollable::new(reader).unwrap());
        write_audit(audit, near, far, 1 << 20, |near, bytes| near.write_with(|mut pipe| pipe.write(bytes)));
    }

    fn a_read_from_a_child_takes_what_it_returns(audit: &Audit) {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (far, near) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        read_audit(audit, near, far, |mut near, buffer| near.read(buffer));
        assert!(child.wait().unwrap().success());
    }

    fn a_write_to_a_child_sends_what_it_returns(audit: &Audit) {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (near, far) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        write_audit(audit, near, far, 1 << 20, |mut near, bytes| near.write(bytes));
        assert!(child.wait().unwrap().success());
    }

    fn who_only_waits_for_readiness_takes_nothing(audit: &Audit) {
        let ((reader, mut writer), [seen, told]) = (std::io::pipe().unwrap(), counter());
        let reader = Arc::new(Pollable::new(reader).unwrap());
        let peer = thread::spawn(move || {
            (0..5).for_each(|_| thread::yield_now());
            writer.write_all(b"abc").unwrap();
        });
        audit.run({
            let reader = reader.clone();
            move |points| {
                points.pass();
                reader.readable().unwrap();
                points.pass();
                told.store(readable(&reader).recv().is_ok().into(), SeqCst);
            }
        });
        peer.join().unwrap();
        assert!(seen.load(SeqCst) <= 1);
        let mut rest = Vec::new();
        (&*reader).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"abc");
    }

    fn a_select_of_a_socket_and_a_channel_takes_from_one_of_them(audit: &Audit) {
        const EACH: usize = 3;
        let ((near, far), (sender, receiver), [seen, taken]) = (UnixDatagram::pair().unwrap(), unbounded(), counter());
        near.set_nonblocking(true).unwrap();
        let near = Arc::new(near);
        let peer = thread::spawn(move || {
            let (far, sender) = (&far, &sender);
            for _ in 0..EACH {
                far.send(b"x").unwrap();
                (0..3).for_each(|_| thread::yield_now());
                sender.send(()).unwrap();
                (0..3).for_each(|_| thread::yield_now());
            }
            // It stays connected.
            sender.clone()
        });
        audit.run({
            let (near, receiver) = (near.clone(), receiver.clone());
            move |points| {
                for n in 0..2 * EACH {
                    points.pass();
                    select! {
                        recv(readable(&near)) -> ready => {
                            ready.unwrap();
                            assert_eq!(near.recv(&mut [0; 8]).unwrap(), 1);
                        }
                        recv(receiver) -> message => message.unwrap(),
                    }
                    taken.store(n + 1, SeqCst);
                }
            }
        });
        drop(peer.join().unwrap());
        let datagrams = std::iter::from_fn(|| near.recv(&mut [0; 8]).ok()).count();
        assert_eq!(seen.load(SeqCst) + datagrams + receiver.iter().count(), 2 * EACH);
    }

    fn a_wait_for_a_child_can_be_taken_up_again(audit: &Audit) {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let child = Arc::new(sync::Mutex::new(child));
        audit.run({
            let child = child.clone();
            move |points| {
                points.pass();
                assert!(child.lock().unwrap().wait().unwrap().success());
            }
        });
        assert!(child.lock().unwrap().wait().unwrap().success(), "it has closed the pipe, or does so now");
    }

    fn a_wait_for_a_signal_takes_the_one_that_it_returns(audit: &Audit) {
        let (signals, [seen, taken]) = (Arc::new(Signals::new([SIGUSR1]).unwrap()), counter());
        let peer = thread::spawn(|| {
            (0..5).for_each(|_| thread::yield_now());
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1).unwrap();
        });
        audit.run({
            let signals = signals.clone();
            move |points| {
                points.pass();
                assert_eq!(signals.wait().unwrap(), SIGUSR1);
                taken.store(1, SeqCst);
            }
        });
        peer.join().unwrap();
        let mut left = 0;
        wait_until(|| {
            left += signals.try_wait().iter().count();
            seen.load(SeqCst) + left == 1
        });
        assert_eq!(signals.try_wait(), None);
    }

    fn a_blocking_call_is_made_once_or_not_at_all(audit: &Audit) {
        let ([seen, got], [made, make]) = (counter(), counter());
        audit.run(move |points| {
            for n in 0..3 {
                points.pass();
                let make = make.clone();
                assert_eq!(blocking::unblock(move || make.fetch_add(1, SeqCst)), n);
                got.store(n + 1, SeqCst);
            }
        });
        let (seen, made) = (seen.load(SeqCst), made.load(SeqCst));
        assert!((seen..=seen + 1).contains(&made), "{made} were made, {seen} have returned");
    }

    fn a_name_is_looked_up_or_not(audit: &Audit) {
        audit.run(|points| {
            points.pass();
            // There may be no such name here.
            let _ = lookup_host("localhost:80");
        });
    }
}

/// An address for which the system chooses a name.
fn unnamed() -> std::os::unix::net::SocketAddr {
    std::os::unix::net::UnixDatagram::unbound()
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A listener that holds one connection that has not been accepted.
fn rustix_listener() -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    bind(&socket, &rustix::net::SocketAddrUnix::new_unnamed()).unwrap();
    listen(&socket, 0).unwrap();
    socket
}

/// Accepts one connection, after a while.
struct Accepting(Option<thread::JoinHandle<()>>);

impl Accepting {
    fn new(listener: UnixListener) -> Accepting {
        Accepting(Some(thread::spawn(move || {
            (0..10).for_each(|_| thread::yield_now());
            match listener.accept() {
                Ok(_) => {}
                Err(error) => assert_ne!(error.kind(), ErrorKind::Interrupted),
            }
        })))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        let accepting = self.0.take().unwrap();
        accepting.join().unwrap();
    }
}
