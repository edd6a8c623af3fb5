//! What an honest client notices of hostile ones: its latency on a quiet server, under a flood of
//! datagrams, beside slow clients by the thousand ("slow loris": each sends one byte of its request
//! a second), and under both.
//!
//! `cargo bench --bench hostile -- [--quick] [CONNECTIONS]`, by default 10,000 slow clients. The
//! server is one hebra worker on one CPU: a green thread per connection that reads 64-byte requests
//! and echoes them, and one that answers datagrams. All others are on the other CPU: the honest
//! client, which asks at a steady rate and never a question before the last answer, and
//! the attackers: what they take from the server is to be seen, not what they take from the client.
//! So the slow clients have the least priority there, and the flood, which never sleeps, runs only
//! while nobody else wants to: else the client would wait for the end of its slice of time, and the
//! slow clients would make up for lost time by sending to dozens of connections at once. The
//! windows alternate; quiet is the floor.
//!
//! A window in which other programs have taken the server's CPU says nothing about the server, and
//! is repeated. If that happens all the time `HEBRA_URGENT=1` gives the bench the right of way;
//! that other work comes to a halt meanwhile.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use support::histogram::Histogram;
use support::process::{self, READY, Server};
use support::stats::{Samples, duration, figure, thousands};
use support::{Options, machine};

const MESSAGE: usize = 64;
/// What a datagram of the flood holds.
const DATAGRAM: usize = 64;
/// How often the honest client asks.
const PACE: Duration = Duration::from_micros(500);
/// How often a slow client sends a byte.
const SLOW: Duration = Duration::from_secs(1);
/// A window is repeated if the server has waited for its CPU for more than this part of it: less
/// hardly moves the p99.
const DISTURBED: f64 = 0.005;
/// How often a window is repeated at most; then the one that was disturbed least counts, and the
/// wait is printed.
const REPEATS: usize = 3;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    machine::raise_fd_limit()?;
    match options.role.as_deref() {
        Some("serve") => serve(),
        Some("flood") => flood(options.words[0].parse().expect("an address")),
        Some("loris") => loris(
            options.words[0].parse().expect("an address"),
            options.words[1].parse().expect("a number"),
        ),
        Some(role) => panic!("hostile has no role {role}"),
        None => compare(&options),
    }
}

fn compare(options: &Options) -> io::Result<()> {
    machine::pin(machine::LOAD_CPU);
    let urgent = machine::be_urgent();
    let connections = options.numbers(&[options.pick(10_000, 1_000)])[0];
    let server = Server::start(&mut process::myself("serve", options)?)?;
    let mut honest = Honest::connect(server.address)?;
    let window = options.pick(Duration::from_secs(5), Duration::from_secs(1));
    let situations = ["quiet", "datagram flood", "slow clients", "both"];
    let mut windows = situations.map(|_| Vec::new());
    let mut repeated = 0;
    for _ in 0..options.pick(5, 2) {
        for (situation, windows) in windows.iter_mut().enumerate() {
            let mut attackers = Vec::new();
            if situation >= 2 {
                attackers.push(Attacker::start(
                    "loris",
                    &[server.address.to_string(), connections.to_string()],
                    options,
                )?);
            }
            if situation % 2 == 1 {
                attackers.push(Attacker::start(
                    "flood",
                    &[server.address.to_string()],
                    options,
                )?);
            }
            honest.ask_for(window / 5)?;
            let mut measured = Window::measure(&mut honest, &server, window)?;
            for _ in 0..REPEATS {
                if measured.waited <= 100.0 * DISTURBED {
                    break;
                }
                repeated += 1;
                let again = Window::measure(&mut honest, &server, window)?;
                if again.waited < measured.waited {
                    measured = again;
                }
            }
            windows.push(measured);
        }
    }
    let beside = if urgent {
        "priority over the machine's other work"
    } else {
        "no priority over the machine's other work"
    };
    println!(
        "one request of {MESSAGE} B every {PACE:?}, {} slow clients, {beside}, {repeated} windows repeated; p99 is to stay within 2 times \
         of quiet",
        thousands(connections)
    );
    let of = |windows: &[Window], f: fn(&Window) -> f64| windows.iter().map(f).collect::<Samples>();
    for (situation, windows_of) in situations.iter().zip(&windows) {
        let time = |f| duration(Duration::from_secs_f64(of(windows_of, f).median()));
        println!(
            "  {situation:<15} p50 {}, p99 {}, p99.9 {}   p99 to that of quiet {:#}   server busy {} %, waits for its CPU {} %",
            time(|window| window.latency[0]),
            time(|window| window.latency[1]),
            time(|window| window.latency[2]),
            of(windows_of, |window| window.latency[1])
                .ratios(&of(&windows[0], |window| window.latency[1])),
            figure(of(windows_of, |window| window.busy).median()),
            figure(of(windows_of, |window| window.waited).median()),
        );
    }
    Ok(())
}

/// What the honest client has seen in one window.
struct Window {
    /// Median, 99 % and 99.9 %, in seconds.
    latency: [f64; 3],
    /// Percent of the window that the server had a CPU.
    busy: f64,
    /// Percent of the window that the server wanted one and others had it.
    waited: f64,
}

impl Window {
    fn measure(honest: &mut Honest, server: &Server, window: Duration) -> io::Result<Window> {
        let (start, cpu_before, waited_before) =
            (Instant::now(), server.cpu_time()?, server.waited_for_cpu()?);
        let latency = honest.ask_for(window)?;
        let (cpu, waited) = (
            server.cpu_time()? - cpu_before,
            server.waited_for_cpu()? - waited_before,
        );
        let percent = |time: Duration| 100.0 * time.as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(Window {
            latency: [0.5, 0.99, 0.999].map(|q| latency.quantile(q).as_secs_f64()),
            busy: percent(cpu),
            waited: percent(waited),
        })
    }
}

/// A client that asks in a steady rhythm.
struct Honest {
    socket: TcpStream,
}

impl Honest {
    fn connect(address: SocketAddr) -> io::Result<Honest> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Honest { socket })
    }

    fn ask_for(&mut self, time: Duration) -> io::Result<Histogram> {
        let (mut latency, mut answer) = (Histogram::new(), [0; MESSAGE]);
        let start = Instant::now();
        let mut next = start;
        while start.elapsed() < time {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            self.socket.write_all(&[b'x'; MESSAGE])?;
            self.socket.read_exact(&mut answer)?;
            latency.record(asked.elapsed().as_nanos() as u64);
            next = asked.max(next) + PACE;
        }
        Ok(latency)
    }
}

/// A hostile client in a process of its own, which has said that it has begun. Dropping it ends the
/// process.
struct Attacker(Child);

impl Attacker {
    fn start(role: &str, words: &[String], options: &Options) -> io::Result<Attacker> {
        let mut child = process::myself(role, options)?
            .args(words)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout was set to a pipe above"))
            .read_line(&mut line)?;
        assert!(line.starts_with(READY), "{role} could not begin: {line:?}");
        Ok(Attacker(child))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends datagrams as fast as they go.
fn flood(address: SocketAddr) -> io::Result<()> {
    process::end_with_parent()?;
    machine::give_way()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    println!("{READY}{address}");
    loop {
        // A full buffer on either side is no reason to stop.
        let _ = socket.send(&[b'x'; DATAGRAM]);
    }
}

/// Opens connections, and sends a byte on each of them every [`SLOW`], evenly spread.
fn loris(address: SocketAddr, connections: usize) -> io::Result<()> {
    process::end_with_parent()?;
    setpriority_process(None, 19)?;
    let mut sockets = Vec::with_capacity(connections);
    for nth in 0..connections {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        // Now and then it waits for an answer, so that no accept queue overflows.
        if nth % 256 == 255 {
            socket.write_all(&[b'x'; MESSAGE])?;
            socket.read_exact(&mut [0; MESSAGE])?;
        }
        sockets.push(socket);
    }
    println!("{READY}{address}");
    let start = Instant::now();
    for turn in 0.. {
        let nth = turn % connections;
        let due =
            start + SLOW * (turn / connections) as u32 + SLOW * nth as u32 / connections as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sockets[nth].write_all(b"x")?;
        if turn / connections % MESSAGE == MESSAGE - 1 {
            sockets[nth].read_exact(&mut [0; MESSAGE])?;
        }
    }
    Ok(())
}

fn serve() -> io::Result<()> {
    process::end_with_parent()?;
    support::runtime(1).run(|| {
        let listener = hebra::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let datagrams = hebra::net::UdpSocket::bind(address)?;
        println!("{READY}{address}");
        hebra::thread::spawn(move || answer(&datagrams));
        for connection in listener.connections() {
            let (stream, _) = connection?;
            stream.set_nodelay(true)?;
            hebra::thread::spawn(move || echo(stream));
        }
        Ok(())
    })
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut request = [0; MESSAGE];
    loop {
        stream.read_exact(&mut request)?;
        stream.write_all(&request)?;
    }
}

fn answer(socket: &hebra::net::UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        // Who floods does not stay for the answer, and that it is refused is told by the next
        // receive.
        if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], peer);
        }
    }
}
