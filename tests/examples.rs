//! Runs the examples that use the scheduler as processes, and talks to the servers among them as
//! their clients would.

#![cfg(feature = "runtime")]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use support::bounded;
use support::program::{Server, example};

mod support;

const ANY_PORT: &str = "127.0.0.1:0";

/// Reads as much as `expected` is, which it must be.
#[track_caller]
fn expect(mut stream: &TcpStream, expected: &str) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(String::from_utf8_lossy(&received), expected);
}

/// Reads until the server closes.
fn rest(mut stream: &TcpStream) -> String {
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    received
}

/// Sends `len` bytes and the end, and reads them and the end from the other side of an echo.
fn echo_through(stream: TcpStream, len: usize) {
    let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut echoed = Vec::new();
        (&stream).read_to_end(&mut echoed).unwrap();
        assert!(
            echoed == bytes,
            "{} bytes of {len} have come back",
            echoed.len()
        );
    });
}

/// Whether the other end has given up.
fn is_broken(error: &io::Error) -> bool {
    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind())
}

/// Ends the connection with a reset.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Opens more connections than `server` may have at a time. All must be served: each ends when it
/// has been, and makes room.
fn serve_more_than_descriptors_allow(server: &Server, request: &str, response: &str) {
    let limit = server.limit_descriptors(4);
    let clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for mut client in &clients {
        client.write_all(request.as_bytes()).unwrap();
    }
    while server.open_descriptors() < limit {
        std::thread::yield_now();
    }
    for client in clients {
        expect(&client, response);
    }
}

#[test]
fn hello_joins_a_hundred_green_threads() {
    let output = bounded(|| example("hello").output().unwrap());
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello from 100 green threads: 5050\n"
    );
}

// echo_server

fn echo_server() -> Server {
    Server::start(example("echo_server").arg(ANY_PORT))
}

#[test]
fn echo_server_sends_back_what_it_receives() {
    bounded(|| {
        let server = echo_server();
        let idle = server.connect();
        for len in [0, 1, 4096, 1_000_000] {
            echo_through(server.connect(), len);
        }
        echo_through(idle, 10);
    });
}

#[test]
fn echo_server_survives_clients_that_break_off() {
    bounded(|| {
        let server = echo_server();
        for _ in 0..20 {
            let mut client = server.connect();
            client.write_all(&[0; 100_000]).unwrap();
            reset(client);
        }
        echo_through(server.connect(), 1_000);
    });
}

#[test]
fn echo_server_survives_running_out_of_descriptors() {
    bounded(|| serve_more_than_descriptors_allow(&echo_server(), "hello", "hello"));
}

// http_server

const PLAINTEXT: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const NOT_FOUND: &str =
    "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n";
const GET: &str = "GET /plaintext HTTP/1.1\r\nHost: here\r\n\r\n";
const ELSEWHERE: &str = "GET /nowhere HTTP/1.1\r\n\r\n";

fn http_server(workers: &str) -> Server {
    Server::start(example("http_server").args([ANY_PORT, workers]))
}

/// The last response of a connection.
fn last(response: &str) -> String {
    response.replacen("\r\n", "\r\nConnection: close\r\n", 1)
}

fn empty(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n")
}

/// What the server says to `request` before it closes the connection.
fn said_to(server: &Server, request: &str) -> String {
    let mut client = server.connect();
    client.write_all(request.as_bytes()).unwrap();
    rest(&client)
}

#[test]
fn http_server_keeps_the_connection_for_the_next_request() {
    bounded(|| {
        let server = http_server("1");
        let mut client = server.connect();
        for _ in 0..10 {
            client.write_all(GET.as_bytes()).unwrap();
            expect(&client, PLAINTEXT);
            client.write_all(ELSEWHERE.as_bytes()).unwrap();
            expect(&client, NOT_FOUND);
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&client), "");
        let root = said_to(&server, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(
            root.starts_with("HTTP/1.1 200 OK\r\n") && root.contains("\r\n\r\nHello"),
            "{root}"
        );
    });
}

#[test]
fn http_server_answers_all_requests_of_one_segment_in_order() {
    bounded(|| {
        let server = http_server("2");
        let mut client = server.connect();
        for _ in 0..10 {
            client
                .write_all([GET, ELSEWHERE].concat().repeat(8).as_bytes())
                .unwrap();
            expect(&client, &[PLAINTEXT, NOT_FOUND].concat().repeat(8));
        }
        client.write_all(GET.repeat(10_000).as_bytes()).unwrap();
        expect(&client, &PLAINTEXT.repeat(10_000));
    });
}

#[test]
fn http_server_understands_a_request_that_is_split_anywhere() {
    bounded(|| {
        let server = http_server("1");
        let mut client = server.connect();
        for at in 1..GET.len() {
            // The answer to the first request shows that the beginning of the second one has been
            // read.
            client
                .write_all([ELSEWHERE, &GET[..at]].concat().as_bytes())
                .unwrap();
            expect(&client, NOT_FOUND);
            client.write_all(&GET.as_bytes()[at..]).unwrap();
            expect(&client, PLAINTEXT);
        }
    });
}

#[test]
fn http_server_passes_over_request_bodies() {
    bounded(|| {
        let server = http_server("1");
        let mut client = server.connect();
        for len in [0, 1, 1_000, 100_000] {
            let head = format!("POST /plaintext HTTP/1.1\r\nContent-Length: {len}\r\n\r\n");
            client
                .write_all([&head, &"x".repeat(len), GET].concat().as_bytes())
                .unwrap();
            expect(&client, &PLAINTEXT.repeat(2));
        }
    });
}

#[test]
fn http_server_closes_when_the_client_asks_for_it() {
    bounded(|| {
        let server = http_server("1");
        for request in [
            "GET /plaintext HTTP/1.0\r\n\r\n",
            "GET /plaintext HTTP/1.1\r\nconnection: Close\r\n\r\n",
        ] {
            assert_eq!(
                said_to(&server, &[request, GET].concat()),
                last(PLAINTEXT),
                "to {request}"
            );
            assert_eq!(
                said_to(&server, &[GET, request].concat()),
                [PLAINTEXT, &last(PLAINTEXT)].concat(),
                "to {request}"
            );
        }
    });
}

#[test]
fn http_server_refuses_what_it_cannot_understand() {
    bounded(|| {
        let server = http_server("1");
        let garbage = [
            "garbage\r\n\r\n",
            "\0\0\0\0",
            "GET / HTTP/3.0\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ];
        let lengths = ["-1", "+1", "1 2", "0x10", "99999999999999999999", "one"];
        let lengths =
            lengths.map(|length| format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"));
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for request in garbage
            .into_iter()
            .chain(lengths.iter().map(String::as_str))
            .chain([chunked])
        {
            assert_eq!(
                said_to(&server, request),
                last(&empty("400 Bad Request")),
                "to {request:?}"
            );
        }
        assert_eq!(
            said_to(&server, &[GET, "garbage\r\n\r\n"].concat()),
            [PLAINTEXT, &last(&empty("400 Bad Request"))].concat()
        );
    });
}

#[test]
fn http_server_refuses_a_head_that_is_too_large() {
    bounded(|| {
        let server = http_server("1");
        let refusal = last(&empty("431 Request Header Fields Too Large"));
        let large = format!("GET / HTTP/1.1\r\nLarge: {}\r\n\r\n", "x".repeat(100_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "Field: value\r\n".repeat(100));
        let endless = format!("GET /{}", "x".repeat(100_000));
        for request in [large, many, endless] {
            assert_eq!(said_to(&server, &request), refusal);
        }
        let much = format!(
            "GET /plaintext HTTP/1.1\r\nMuch: {}\r\nConnection: close\r\n\r\n",
            "x".repeat(15_000)
        );
        assert_eq!(said_to(&server, &much), last(PLAINTEXT));
    });
}

#[test]
fn http_server_does_not_wait_for_slow_clients_for_ever() {
    bounded(|| {
        let server = Server::start(example("http_server").args([ANY_PORT, "1", "100"]));
        let began = Instant::now();
        assert_eq!(
            said_to(&server, "GET /plaintext HT"),
            last(&empty("408 Request Timeout")),
            "half a request"
        );
        assert_eq!(said_to(&server, ""), "", "none");
        assert_eq!(said_to(&server, GET), PLAINTEXT, "none after the first");
        assert_eq!(
            said_to(
                &server,
                "POST /plaintext HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"
            ),
            PLAINTEXT,
            "half a body"
        );
        assert!(began.elapsed() >= Duration::from_millis(400));
    });
}

#[test]
fn http_server_drops_a_client_that_does_not_read() {
    bounded(|| {
        let server = Server::start(example("http_server").args([ANY_PORT, "1", "100"]));
        let client = server.connect();
        let requests = GET.repeat(1_000);
        let error = loop {
            if let Err(error) = (&client).write_all(requests.as_bytes()) {
                break error;
            }
        };
        assert!(is_broken(&error), "{error}");
    });
}

#[test]
fn http_server_serves_others_while_handlers_sleep() {
    bounded(|| {
        let server = http_server("1");
        let began = Instant::now();
        let sleepers: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for mut sleeper in &sleepers {
            sleeper.write_all(b"GET /sleep HTTP/1.1\r\n\r\n").unwrap();
        }
        let mut client = server.connect();
        client.write_all(GET.as_bytes()).unwrap();
        expect(&client, PLAINTEXT);
        for sleeper in &sleepers {
            expect(sleeper, "HTTP/1.1 200 OK\r\n");
        }
        let elapsed = began.elapsed();
        assert!(
            (100..5_000).contains(&elapsed.as_millis()),
            "one after the other it takes 10 s; it took {elapsed:?}"
        );
    });
}

#[test]
fn http_server_asks_its_upstream() {
    bounded(|| {
        let alone = http_server("1");
        let proxy = |workers: &str, upstream: SocketAddr| {
            Server::start(
                example("http_server")
                    .args([ANY_PORT, workers])
                    .env("UPSTREAM", upstream.to_string()),
            )
        };
        let request = "GET /proxy HTTP/1.1\r\nConnection: close\r\n\r\n";
        for workers in ["1", "2"] {
            let response = said_to(&proxy(workers, alone.address), request);
            assert!(
                response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("Hello!"),
                "{response}"
            );
        }
        let (_socket, dead) = dead_address();
        assert_eq!(
            said_to(&proxy("1", dead), request),
            last(&empty("502 Bad Gateway"))
        );
    });
}

#[test]
fn http_server_survives_running_out_of_descriptors() {
    bounded(|| serve_more_than_descriptors_allow(&http_server("1"), GET, PLAINTEXT));
}

// tcp_proxy

fn tcp_proxy(upstream: SocketAddr) -> Server {
    Server::start(example("tcp_proxy").args([ANY_PORT, &upstream.to_string()]))
}

/// An address that refuses connections as long as the socket lives: bound, but not listening.
fn dead_address() -> (impl Sized, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = rustix::net::getsockname(&socket)
        .unwrap()
        .try_into()
        .unwrap();
    (socket, address)
}

/// A client of the proxy, and the other end of its connection.
fn through(proxy: &Server, upstream: &TcpListener) -> (TcpStream, TcpStream) {
    let client = proxy.connect();
    (client, upstream.accept().unwrap().0)
}

#[test]
fn tcp_proxy_passes_data_both_ways() {
    bounded(|| {
        let upstream = echo_server();
        let proxy = tcp_proxy(upstream.address);
        let clients = [0, 1, 4096, 1_000_000, 1_000_000].map(|len| (proxy.connect(), len));
        std::thread::scope(|scope| {
            clients
                .map(|(client, len)| scope.spawn(move || echo_through(client, len)))
                .map(drop)
        });
    });
}

#[test]
fn tcp_proxy_passes_on_the_end_of_each_direction_by_itself() {
    bounded(|| {
        let upstream = TcpListener::bind(ANY_PORT).unwrap();
        let proxy = tcp_proxy(upstream.local_addr().unwrap());
        let (client, server) = through(&proxy, &upstream);
        for (first, second) in [(&client, &server), (&server, &client)] {
            (&*first).write_all(b"both ways").unwrap();
            expect(second, "both ways");
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&server), "");
        (&server).write_all(b"one way").unwrap();
        expect(&client, "one way");
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&client), "");

        let (client, server) = through(&proxy, &upstream);
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&client), "");
        (&client).write_all(b"the other way").unwrap();
        expect(&server, "the other way");
    });
}

#[test]
fn tcp_proxy_ends_both_directions_when_one_breaks() {
    bounded(|| {
        let upstream = TcpListener::bind(ANY_PORT).unwrap();
        let proxy = tcp_proxy(upstream.local_addr().unwrap());
        for client_breaks in [true, false] {
            let (client, server) = through(&proxy, &upstream);
            let (breaks, mut stays) = if client_breaks {
                (client, server)
            } else {
                (server, client)
            };
            reset(breaks);
            assert!(
                stays
                    .read(&mut [0; 64])
                    .map_or_else(|error| is_broken(&error), |n| n == 0)
            );
        }
        let before = proxy.open_descriptors();
        drop(through(&proxy, &upstream));
        while proxy.open_descriptors() > before {
            std::thread::yield_now();
        }
    });
}

#[test]
fn tcp_proxy_survives_an_upstream_that_is_away() {
    bounded(|| {
        let (_socket, dead) = dead_address();
        let proxy = tcp_proxy(dead);
        for _ in 0..10 {
            assert!(
                proxy
                    .connect()
                    .read(&mut [0; 64])
                    .map_or_else(|error| is_broken(&error), |n| n == 0)
            );
        }
    });
}

#[test]
fn tcp_proxy_survives_running_out_of_descriptors() {
    bounded(|| {
        let upstream = echo_server();
        let proxy = tcp_proxy(upstream.address);
        let before = proxy.open_descriptors();
        proxy.limit_descriptors(5);
        let clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
        for mut client in clients {
            // It has been accepted if it gets an answer, but there may have been no descriptor for
            // the way to the upstream.
            let served = client
                .write_all(b"hello")
                .and_then(|()| client.read(&mut [0; 64]));
            assert!(
                served.as_ref().is_ok_and(|&n| n == 0 || n == 5)
                    || served.is_err_and(|error| is_broken(&error))
            );
        }
        while proxy.open_descriptors() > before {
            std::thread::yield_now();
        }
        echo_through(proxy.connect(), 1_000);
    });
}

#[test]
fn tcp_proxy_without_arguments_says_how_it_is_used() {
    let output = bounded(|| example("tcp_proxy").output().unwrap());
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("usage: tcp_proxy LISTEN UPSTREAM"),
        "{output:?}"
    );
}

#[test]
fn simulation_finds_nothing_wrong_with_a_careful_server() {
    let output = bounded(|| {
        example("simulation")
            .env_remove("HEBRA_SEED")
            .output()
            .unwrap()
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success()
            && text.starts_with("1000 runs, ")
            && text.contains("nobody has paid twice"),
        "{output:?}"
    );
}

#[test]
fn simulation_finds_who_pays_a_naive_server_twice_and_repeats_it() {
    bounded(|| {
        let run = |seed: Option<&str>| {
            let mut command = example("simulation");
            command
                .arg("--naive")
                .env_remove("HEBRA_SEED")
                .envs(seed.map(|seed| ("HEBRA_SEED", seed)));
            let output = command.output().unwrap();
            assert!(!output.status.success());
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let booked = |text: &str| {
            text.lines()
                .find(|line| line.contains("has been booked 2 times"))
                .unwrap()
                .to_owned()
        };
        let first = run(None);
        let (_, seed) = first.split_once("HEBRA_SEED=").unwrap();
        let (seed, _) = seed.split_once(' ').unwrap();
        assert_eq!(booked(&run(Some(seed))), booked(&first));
    });
}

#[test]
fn a_server_says_so_if_it_cannot_listen() {
    bounded(|| -> io::Result<()> {
        let holder = TcpListener::bind(ANY_PORT)?;
        for server in ["echo_server", "http_server"] {
            let output = example(server)
                .arg(holder.local_addr()?.to_string())
                .output()?;
            assert!(!output.status.success(), "{server}");
            assert!(
                String::from_utf8_lossy(&output.stderr).contains("AddrInUse"),
                "{output:?}"
            );
        }
        Ok(())
    })
    .unwrap();
}

// graceful

#[test]
fn graceful_lets_its_connections_end_for_a_while_cancels_the_rest_and_says_so() {
    bounded(|| {
        let mut command = example("graceful");
        command
            .args([ANY_PORT, "500"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address: SocketAddr = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .parse()
            .unwrap();

        let [mut ending, mut idle] = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        for client in [&mut ending, &mut idle] {
            client.write_all(b"hello\n").unwrap();
            expect(client, "HELLO\n");
        }
        let pid = Pid::from_raw(process.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        while TcpStream::connect(address).is_ok() {}
        ending.write_all(b"bye\n").unwrap();
        expect(&ending, "BYE\n");
        drop(ending);
        assert_eq!(rest(&idle), "", "it was cancelled");
        line.clear();
        output.read_line(&mut line).unwrap();
        assert!(
            line.contains("1 cancelled") && line.contains("0 failed"),
            "{line}"
        );
        assert!(process.wait().unwrap().success());
    });
}

// chat

/// Reads one line from the chat.
fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

#[test]
fn chat_tells_everybody_everything_and_says_goodbye_at_ctrl_c() {
    bounded(|| {
        let mut server = Server::start(example("chat").arg(ANY_PORT));
        let enter = |name: &str| {
            let mut client = BufReader::new(server.connect());
            client
                .get_mut()
                .write_all(format!("{name}\n").as_bytes())
                .unwrap();
            assert_eq!(line(&mut client), format!("* {name} has come\n"));
            client
        };
        let mut ann = enter("ann");
        let mut bob = enter("bob");
        assert_eq!(line(&mut ann), "* bob has come\n");
        let mut eve = enter("eve");
        for client in [&mut ann, &mut bob] {
            assert_eq!(line(client), "* eve has come\n");
        }
        bob.get_mut().write_all(b"hello\nwho is there?\n").unwrap();
        for client in [&mut ann, &mut bob, &mut eve] {
            assert_eq!(line(client), "bob: hello\n");
            assert_eq!(line(client), "bob: who is there?\n");
        }
        drop(eve);
        assert_eq!(
            (line(&mut ann), line(&mut bob)),
            ("* eve has gone\n".into(), "* eve has gone\n".into())
        );
        ann.get_mut().write_all(b"only we are\n").unwrap();
        assert_eq!(line(&mut bob), "ann: only we are\n");
        let pid = Pid::from_raw(server.process.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(rest_of(&mut ann).ends_with("* the server goes; goodbye\n"));
        assert!(rest_of(&mut bob).ends_with("* the server goes; goodbye\n"));
        assert!(server.process.wait().unwrap().success());
    });
}

/// Reads until the server closes.
fn rest_of(client: &mut BufReader<TcpStream>) -> String {
    let mut received = String::new();
    client.read_to_string(&mut received).unwrap();
    received
}

#[test]
fn chat_does_not_wait_for_who_does_not_read() {
    bounded(|| {
        let server = Server::start(example("chat").arg(ANY_PORT));
        let mut slow = BufReader::new(server.connect());
        slow.get_mut().write_all(b"slow\n").unwrap();
        assert_eq!(line(&mut slow), "* slow has come\n");
        let mut fast = BufReader::new(server.connect());
        fast.get_mut().write_all(b"fast\n").unwrap();
        assert_eq!(line(&mut fast), "* fast has come\n");
        // More than the sockets and the backlog hold; who says it reads it, too.
        let long = "x".repeat(50_000);
        for _ in 0..1000 {
            fast.get_mut()
                .write_all(format!("{long}\n").as_bytes())
                .unwrap();
            assert_eq!(line(&mut fast).len(), long.len() + "fast: \n".len());
        }
        let missed = std::iter::from_fn(|| Some(line(&mut slow)))
            .take(1000)
            .find(|line| line.contains("you have missed"));
        assert!(missed.is_some());
    });
}

// channel_primes

#[test]
fn channel_primes_finds_what_primes_finds() {
    let [channels, generators] = bounded(|| {
        ["channel_primes", "primes"].map(|name| example(name).arg("200").output().unwrap())
    });
    assert!(
        channels.status.success() && channels.stderr.is_empty(),
        "{channels:?}"
    );
    assert_eq!(channels.stdout, generators.stdout);
    assert!(String::from_utf8_lossy(&channels.stdout).ends_with("\n1223\n"));
}

// stages

#[test]
fn stages_end_in_order_and_lose_nothing() {
    let output = bounded(|| example("stages").arg("5000").output().unwrap());
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "5000 documents, 10000 times 'the', 5006 different words\n"
    );
}

#[test]
fn stages_end_from_behind_when_the_last_has_seen_enough() {
    let output = bounded(|| {
        example("stages")
            .args(["1000000000", "100"])
            .output()
            .unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("100 documents, 200 times 'the', "),
        "{output:?}"
    );
}
