//! Echo of 64-byte messages: one green thread per connection against a hand-written epoll server.
//!
//! `cargo bench --bench echo -- [--quick] [CONNECTIONS…]`, by default 1, 100, 1,000 and 8,000. Both
//! servers are this program in another role, on one CPU; the load is on the other. Both keep their
//! connections through all windows, and the windows alternate.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::io::{self, Read, Write};
use std::time::Duration;

use support::epoll_server::{self, Protocol};
use support::load::{Exchange, Load};
use support::process::{self, READY, Server};
use support::service::{self, Window};
use support::{Options, machine, stats};

const MESSAGE: usize = 64;
/// What both servers ask of one read.
const READ: usize = 1024;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    machine::raise_fd_limit()?;
    match options.role.as_deref() {
        Some("serve-hebra") => serve_hebra(),
        Some("serve-epoll") => serve_epoll(),
        Some(role) => panic!("echo has no role {role}"),
        None => {
            machine::pin(machine::LOAD_CPU);
            let counts = options.numbers(options.pick(&[1, 100, 1_000, 8_000], &[1, 100, 1_000]));
            counts
                .into_iter()
                .try_for_each(|count| compare(count, &options))
        }
    }
}

/// A live server, the load that is connected to it, and what they did together.
struct Side {
    server: Server,
    load: Load,
    windows: Vec<Window>,
}

impl Side {
    fn start(role: &str, connections: usize, options: &Options) -> io::Result<Self> {
        let server = Server::start(&mut process::myself(role, options)?)?;
        let message = vec![b'x'; MESSAGE];
        let exchange = Exchange {
            request: message.clone(),
            response: message,
            requests: 1,
            stamped: true,
        };
        let load = Load::connect(server.address, connections, exchange)?;
        let windows = Vec::new();
        Ok(Self {
            server,
            load,
            windows,
        })
    }
}

fn compare(connections: usize, options: &Options) -> io::Result<()> {
    let mut hebra = Side::start("serve-hebra", connections, options)?;
    let mut epoll = Side::start("serve-epoll", connections, options)?;
    let ms = Duration::from_millis;
    let (warm_up, window) = options.pick((ms(1000), ms(2000)), (ms(300), ms(700)));
    for _ in 0..options.pick(7, 3) {
        for side in [&mut hebra, &mut epoll] {
            side.windows
                .push(side.load.window(&side.server, warm_up, window)?);
        }
    }
    let what = format!(
        "echo {MESSAGE} B, {} connections",
        stats::thousands(connections)
    );
    service::report(&what, ("hebra", &hebra.windows), ("epoll", &epoll.windows));
    Ok(())
}

fn serve_hebra() -> io::Result<()> {
    process::end_with_parent()?;
    support::runtime(1).run(|| {
        let listener = hebra::net::TcpListener::bind("127.0.0.1:0")?;
        println!("{READY}{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            // A client that breaks off ends its own green thread only; the load counts it.
            hebra::thread::spawn(move || echo(stream));
        }
    })
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; READ];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn serve_epoll() -> io::Result<()> {
    process::end_with_parent()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    println!("{READY}{}", listener.local_addr()?);
    match epoll_server::serve(listener, Echo)? {}
}

struct Echo;

impl Protocol for Echo {
    const READ: usize = READ;
    type State = ();

    fn respond<'a>(&'a mut self, (): &mut (), input: &'a [u8]) -> Option<&'a [u8]> {
        Some(input)
    }
}
