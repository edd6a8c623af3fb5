//! What a server is built of: how sockets are bound, those that a service manager passes on, and
//! accepting in spite of it all.

#![cfg(feature = "runtime")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use hebra::net::{BindOptions, TcpListener, TcpStream, UdpSocket, inherited};
use hebra::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use support::place::{SHORT, everywhere};
use support::{bounded, is_child, on_workers, passes_in_child, wait_until};

mod support;

const LOCALHOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

// Binding

#[test]
fn listeners_that_all_say_so_share_a_port_and_its_connections() {
    everywhere(|place| {
        let mut sharing = BindOptions::new();
        sharing.reuse_port(true);
        let one = sharing.tcp_listener(LOCALHOST).unwrap();
        let address = one.local_addr().unwrap();
        let listeners = [one, sharing.tcp_listener(address).unwrap()];
        assert_eq!(
            TcpListener::bind(address).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        // Who connects is dealt out by his address, so with so many both have some.
        let clients: Vec<_> = (0..64)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let counts = listeners.map(|listener| {
            let count = place.spawn(move || {
                listener.set_nonblocking(true).unwrap();
                listener.incoming().take_while(Result::is_ok).count()
            });
            count.join()
        });
        assert_eq!(counts[0] + counts[1], clients.len());
        assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    });
}

#[test]
fn a_backlog_holds_so_many_and_no_more() {
    everywhere(|_| {
        let listener = BindOptions::new()
            .backlog(3)
            .tcp_listener(LOCALHOST)
            .unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, SHORT);
        let queued: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        assert!(
            (3..=4).contains(&queued.len()),
            "Linux takes one more than it is told, not {}",
            queued.len()
        );
    });
}

#[test]
fn an_address_is_reused_unless_told_otherwise() {
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
        let error = BindOptions::new()
            .reuse_address(false)
            .tcp_listener(address)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        BindOptions::new().tcp_listener(address).unwrap();
    });
}

#[test]
fn an_ipv6_listener_can_leave_ipv4_alone() {
    everywhere(|_| {
        let any = (Ipv6Addr::UNSPECIFIED, 0);
        let Ok(both) = BindOptions::new().only_v6(false).tcp_listener(any) else {
            return;
        };
        let port = both.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let only = BindOptions::new().only_v6(true).tcp_listener(any).unwrap();
        let port = only.local_addr().unwrap().port();
        assert_eq!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .unwrap_err()
                .kind(),
            ErrorKind::ConnectionRefused
        );
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        BindOptions::new()
            .only_v6(true)
            .tcp_listener(LOCALHOST)
            .unwrap();
    });
}

// Accepting

#[test]
fn connections_wait_until_there_are_descriptors_again() {
    if !is_child() {
        return passes_in_child("connections_wait_until_there_are_descriptors_again");
    }
    everywhere(|place| {
        let name = SocketAddr::from_pathname("").unwrap();
        let (tcp, unix) = (
            TcpListener::bind(LOCALHOST).unwrap(),
            UnixListener::bind_addr(&name).unwrap(),
        );
        let tcp_clients = [(); 3].map(|()| TcpStream::connect(tcp.local_addr().unwrap()).unwrap());
        let unix_clients =
            [(); 3].map(|()| UnixStream::connect_addr(&unix.local_addr().unwrap()).unwrap());
        let before = getrlimit(Resource::Nofile);
        let none_left = Rlimit {
            current: Some(0),
            ..before
        };
        setrlimit(Resource::Nofile, none_left).unwrap();
        assert_eq!(tcp.accept().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (by_tcp, by_unix) = (accepted.clone(), accepted.clone());
        let servers = [
            place.spawn(move || {
                for connection in tcp.connections().take(3) {
                    connection.unwrap().0.write_all(b"hello").unwrap();
                    by_tcp.fetch_add(1, SeqCst);
                }
            }),
            place.spawn(move || {
                for connection in unix.connections().take(3) {
                    connection.unwrap().0.write_all(b"hello").unwrap();
                    by_unix.fetch_add(1, SeqCst);
                }
            }),
        ];
        hebra::thread::sleep(SHORT);
        assert_eq!(accepted.load(SeqCst), 0);
        setrlimit(Resource::Nofile, before).unwrap();
        wait_until(|| accepted.load(SeqCst) == 6);
        servers.into_iter().for_each(|server| server.join());
        for mut client in tcp_clients {
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
        }
        for mut client in unix_clients {
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
        }
    });
}

#[test]
fn connections_end_with_the_first_error_that_stays() {
    everywhere(|_| {
        let listener = TcpListener::bind(LOCALHOST).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut connections = listener.connections();
        assert_eq!(
            connections.next().unwrap().unwrap().1,
            client.local_addr().unwrap()
        );
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        assert_eq!(
            connections.next().unwrap().unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert!(connections.next().is_none());
    });
}

// Inherited sockets

/// Runs the calling test in a process that is started as a service manager does it, with a TCP
/// listener as the descriptors 3 and 5 and a UDP socket as 4, and with the `environment` set by the
/// shell that becomes it.
fn as_a_service(test: &str, environment: &str) {
    let (listener, socket) = (
        TcpListener::bind(LOCALHOST).unwrap(),
        UdpSocket::bind(LOCALHOST).unwrap(),
    );
    let script = format!(
        "exec 3<&0 4<&2 5<&0 </dev/null 2>&1; {environment} exec \"$0\" {test} --exact --nocapture"
    );
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .env("HEBRA_CHILD", "1");
    command
        .stdin(OwnedFd::from(listener))
        .stderr(OwnedFd::from(socket))
        .stdout(Stdio::piped());
    let output = bounded(|| command.output().unwrap());
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("1 passed"), "{out}");
}

#[test]
fn sockets_from_the_service_manager_are_taken_once() {
    if !is_child() {
        let environment = "LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=web:clock";
        return as_a_service(
            "sockets_from_the_service_manager_are_taken_once",
            environment,
        );
    }
    on_workers(1, || {
        let sockets = inherited().unwrap();
        let told: Vec<_> = sockets
            .iter()
            .map(|socket| (socket.as_fd().as_raw_fd(), socket.name().to_owned()))
            .collect();
        assert_eq!(
            told,
            [
                (3, "web".to_owned()),
                (4, "clock".to_owned()),
                (5, "unknown".to_owned())
            ]
        );
        for socket in &sockets {
            assert!(
                fcntl_getfd(socket).unwrap().contains(FdFlags::CLOEXEC),
                "they are not inherited any further"
            );
        }
        assert_eq!(
            format!("{:?}", sockets[1]),
            "Inherited { name: \"clock\", fd: OwnedFd { fd: 4 } }"
        );
        assert!(inherited().unwrap().is_empty());

        let [web, clock, again] = sockets.try_into().unwrap();
        assert_eq!(
            again.into_udp_socket().unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let listener = web.into_tcp_listener().unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server =
            hebra::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 5);
        server.join().unwrap();

        let clone = OwnedFd::from(clock).try_clone().unwrap();
        let socket = UdpSocket::from(clone);
        UdpSocket::bind(LOCALHOST)
            .unwrap()
            .send_to(b"tick", socket.local_addr().unwrap())
            .unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
    });
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    if !is_child() {
        return as_a_service(
            "what_is_meant_for_another_process_is_left_alone",
            "LISTEN_PID=1 LISTEN_FDS=3",
        );
    }
    assert!(inherited().unwrap().is_empty());
    // SAFETY: asks for flags only.
    assert_eq!(
        unsafe { libc::fcntl(3, libc::F_GETFD) },
        0,
        "open, and as it came"
    );
}

#[test]
fn what_somebody_else_has_taken_is_refused() {
    if !is_child() {
        return as_a_service(
            "what_somebody_else_has_taken_is_refused",
            "LISTEN_PID=$$ LISTEN_FDS=3",
        );
    }
    // SAFETY: it was passed on by the shell, and nobody else knows of it.
    let taken: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(4) };
    fcntl_setfd(&taken, FdFlags::CLOEXEC).unwrap();
    for _ in 0..2 {
        let error = inherited().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("descriptor 4"), "{error}");
    }
    fcntl_setfd(&taken, FdFlags::empty()).unwrap();
    std::mem::forget(taken);
    assert_eq!(inherited().unwrap().len(), 3, "nothing was taken");
}

#[test]
fn an_environment_that_does_not_tell_the_truth_is_an_error() {
    if !is_child() {
        for lie in [
            "LISTEN_FDS=1000",
            "LISTEN_FDS=4294967295",
            "LISTEN_FDS=many",
            "LISTEN_FDS=-1",
        ] {
            as_a_service(
                "an_environment_that_does_not_tell_the_truth_is_an_error",
                &format!("LISTEN_PID=$$ {lie}"),
            );
        }
        return;
    }
    assert_eq!(inherited().unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn a_program_that_was_started_by_hand_inherits_nothing() {
    assert!(inherited().unwrap().is_empty());
}
