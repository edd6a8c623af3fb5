//! Blocking calls: what a trip to the pool costs, and what those who do not block notice of those
//! who do.
//!
//! `cargo bench --bench blocking -- [--quick]`. The trips are measured against the same call made
//! on the spot. Then an echo server of 1,000 green threads on one worker answers with and without a
//! neighbour that reads a slow disk (each read takes 10 ms) or looks names up; and, to see that
//! this would be noticed, with one that does the former on the spot, blocking the worker.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;
use std::io::{self, Read, Seek, Write};
use std::time::Duration;

use hebra::blocking::unblock;
use support::load::{Exchange, Load};
use support::process::{self, READY, Server};
use support::service::{self, Window};
use support::stats::{interleave, ns_each, report};
use support::{Options, machine};

const CONNECTIONS: usize = 1_000;
const MESSAGE: usize = 64;
/// What one read of a slow disk takes.
const SLOW: Duration = Duration::from_millis(10);
/// What is read of a fast one.
const BLOCK: usize = 4 << 10;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    machine::raise_fd_limit()?;
    match options.role.as_deref() {
        Some("trips") => trips(&options),
        Some(neighbour) => serve(neighbour),
        None => {
            process::run_in_role("trips", &[], &options)?;
            machine::pin(machine::LOAD_CPU);
            ["disk", "names", "on-the-spot"]
                .into_iter()
                .try_for_each(|neighbour| compare(neighbour, &options))
        }
    }
}

/// Calls that block for no time at all, in the pool and on the spot.
fn trips(options: &Options) -> io::Result<()> {
    let (rounds, calls) = options.pick((15, 5_000), (5, 1_000));
    let path = std::env::temp_dir().join(format!("hebra-bench-{}", std::process::id()));
    std::fs::write(&path, vec![0; BLOCK])?;
    let repeat = |call: &mut dyn FnMut() -> io::Result<()>| {
        ns_each(calls, || {
            (0..calls).for_each(|_| call().expect("the call works"))
        })
    };
    support::runtime(1).run(|| -> io::Result<()> {
        let call = || unblock(|| black_box(Ok(())));
        let floor = || black_box(Ok(()));
        report(
            "a trip to the pool",
            "ns",
            &interleave(rounds, || repeat(&mut { call }), || repeat(&mut { floor })),
            "no call",
        );

        let (mut ours, mut std) = (hebra::fs::File::open(&path)?, std::fs::File::open(&path)?);
        let mut buffer = vec![0; BLOCK];
        let mut read = || {
            ours.rewind()?;
            ours.read_exact(&mut buffer)
        };
        let mut buffer = vec![0; BLOCK];
        let mut floor = || {
            std.rewind()?;
            std.read_exact(&mut buffer)
        };
        report(
            "a read of 4 KiB in memory",
            "ns",
            &interleave(rounds, || repeat(&mut read), || repeat(&mut floor)),
            "std",
        );

        let metadata = || hebra::fs::metadata(&path).map(drop);
        let floor = || std::fs::metadata(&path).map(drop);
        report(
            "metadata",
            "ns",
            &interleave(
                rounds,
                || repeat(&mut { metadata }),
                || repeat(&mut { floor }),
            ),
            "std",
        );
        Ok(())
    })?;
    std::fs::remove_file(path)
}

/// A live server, the load that is connected to it, and what they did together.
struct Side {
    server: Server,
    load: Load,
    windows: Vec<Window>,
}

impl Side {
    fn start(neighbour: &str, options: &Options) -> io::Result<Side> {
        let server = Server::start(&mut process::myself(neighbour, options)?)?;
        let message = vec![b'x'; MESSAGE];
        let exchange = Exchange {
            request: message.clone(),
            response: message,
            requests: 1,
            stamped: true,
        };
        let load = Load::connect(server.address, CONNECTIONS, exchange)?;
        Ok(Side {
            server,
            load,
            windows: Vec::new(),
        })
    }
}

fn compare(neighbour: &str, options: &Options) -> io::Result<()> {
    let mut busy = Side::start(neighbour, options)?;
    let mut quiet = Side::start("nobody", options)?;
    let ms = Duration::from_millis;
    let (warm_up, window) = options.pick((ms(1000), ms(2000)), (ms(300), ms(700)));
    for _ in 0..options.pick(7, 3) {
        for side in [&mut busy, &mut quiet] {
            side.windows
                .push(side.load.window(&side.server, warm_up, window)?);
        }
    }
    let what =
        format!("echo {MESSAGE} B, 1,000 connections, with and without a neighbour: {neighbour}");
    service::report(&what, ("with", &busy.windows), ("quiet", &quiet.windows));
    Ok(())
}

fn serve(neighbour: &str) -> io::Result<()> {
    process::end_with_parent()?;
    let neighbour: fn() = match neighbour {
        "nobody" => || (),
        "disk" => || loop {
            unblock(|| std::thread::sleep(SLOW));
        },
        "names" => || loop {
            let _ = black_box(hebra::net::lookup_host("localhost"));
            hebra::thread::sleep(Duration::from_millis(1));
        },
        "on-the-spot" => || loop {
            std::thread::sleep(SLOW);
            hebra::thread::sleep(SLOW);
        },
        role => panic!("blocking has no role {role}"),
    };
    support::runtime(1).run(|| {
        let listener = hebra::net::TcpListener::bind("127.0.0.1:0")?;
        println!("{READY}{}", listener.local_addr()?);
        hebra::thread::spawn(neighbour);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            // A client that breaks off ends its own green thread only; the load counts it.
            hebra::thread::spawn(move || echo(stream));
        }
    })
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
