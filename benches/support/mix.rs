//! Three that share one CPU: one only yields, one sleeps 1 ms at a time, one serves an OS thread on
//! the other CPU.
//!
//! A scheduler that lets the first go on for long shows it in the lateness of the second and the
//! requests of the third. The floor is the same code on OS threads.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::stats::{Samples, figure, thousands};
use super::{Options, machine};

/// What the three did in a window.
struct Done {
    yields: u64,
    /// By how many µs the sleeps of 1 ms were late.
    lateness: Samples,
    requests: u64,
}

/// Both libraries have the same names, so the floor is hebra's code with `std` for `hebra`.
macro_rules! mix {
    ($library:ident, $window:expr) => {{
        let window: Duration = $window;
        let stop = Arc::new(AtomicBool::new(false));
        let listener = $library::net::TcpListener::bind("127.0.0.1:0")?;
        let client = start_client(listener.local_addr()?, stop.clone());
        let (stream, _) = listener.accept()?;
        let server = $library::thread::spawn(move || echo(stream));
        let flag = stop.clone();
        let sleeper = $library::thread::spawn(move || sleeps(&flag, $library::thread::sleep));
        let flag = stop.clone();
        let yielder = $library::thread::spawn(move || yields(&flag, $library::thread::yield_now));

        $library::thread::sleep(window);
        stop.store(true, Relaxed);
        // The client's end closes the socket, which ends the server; so wait for the server first.
        let _ = server.join().expect("the echo server does not panic");
        io::Result::Ok(Done {
            yields: yielder.join().expect("yielding does not panic"),
            lateness: sleeper.join().expect("sleeping does not panic"),
            requests: client.join().expect("the client does not panic"),
        })
    }};
}

/// Runs the mix on green threads of one worker, and on OS threads of one CPU, in turn.
pub fn compare(options: &Options) -> io::Result<()> {
    machine::pin(machine::SERVER_CPU);
    let window = Duration::from_millis(options.pick(2000, 500));
    for _ in 0..options.pick(3, 1) {
        print(
            "green threads of one worker",
            &super::runtime(1).run(move || mix!(hebra, window))?,
            window,
        );
        print("floor: OS threads of one CPU", &mix!(std, window)?, window);
    }
    Ok(())
}

fn print(who: &str, done: &Done, window: Duration) {
    let per_second = |count: u64| thousands((count as f64 / window.as_secs_f64()) as u64);
    println!(
        "mix, {who}: sleeps of 1 ms late by {} µs (median), {} µs (p99)   {} requests/s   {} yields/s",
        figure(done.lateness.median()),
        figure(done.lateness.quantile(0.99)),
        per_second(done.requests),
        per_second(done.yields),
    );
}

fn yields(stop: &AtomicBool, yield_now: impl Fn()) -> u64 {
    let mut count = 0;
    while !stop.load(Relaxed) {
        yield_now();
        count += 1;
    }
    count
}

fn sleeps(stop: &AtomicBool, sleep: impl Fn(Duration)) -> Samples {
    const SLEEP: Duration = Duration::from_millis(1);
    let mut lateness = Samples::default();
    while !stop.load(Relaxed) {
        let start = Instant::now();
        sleep(SLEEP);
        lateness.push((start.elapsed() - SLEEP).as_nanos() as f64 / 1e3);
    }
    lateness
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// An OS thread on the other CPU that sends 64 bytes, waits for them, and counts.
fn start_client(server: SocketAddr, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        machine::pin(machine::LOAD_CPU);
        let mut socket = TcpStream::connect(server).expect("the server listens already");
        let mut count = 0;
        let mut turn = || {
            let mut message = [b'x'; 64];
            socket.write_all(&message)?;
            socket.read_exact(&mut message)
        };
        while !stop.load(Relaxed) && turn().is_ok() {
            count += 1;
        }
        count
    })
}
