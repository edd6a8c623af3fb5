//! A server that ends well. At SIGTERM or SIGINT it takes no more connections and lets those that
//! it has come to their end; what has not after a time of grace is cancelled; and it says how that
//! went. What it serves are lines, each sent back in capitals.
//!
//! Usage: `graceful [ADDRESS [GRACE]]`, with the grace in milliseconds. A service manager may pass
//! the listening socket on instead.

use std::io::{self, BufRead, BufReader, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hebra::net::{TcpListener, TcpStream, inherited};
use hebra::signal::{SIGINT, SIGTERM, Signals};
use hebra::thread::{self, Builder, Cancelled, JoinSet};

type Connections = JoinSet<io::Result<()>>;

fn serve(stream: TcpStream) -> io::Result<()> {
    for line in BufReader::new(&stream).lines() {
        writeln!(&stream, "{}", line?.to_uppercase())?;
    }
    Ok(())
}

/// Takes connections until it is cancelled.
fn accept(listener: &TcpListener, connections: &Mutex<Connections>) -> io::Result<()> {
    for connection in listener.connections() {
        let (stream, _) = connection?;
        // Nothing waits while this is locked, so a lock of std's will do.
        let mut connections = connections.lock().expect("nothing panics under it");
        while connections.try_join_next().is_some() {}
        if connections
            .spawn_with(Builder::new(), move || serve(stream))
            .is_err()
        {
            eprintln!("no memory for a connection");
        }
    }
    Ok(())
}

/// How the connections have ended.
#[derive(Default)]
struct Report {
    served: usize,
    failed: usize,
    cancelled: usize,
}

impl Report {
    /// Waits for the connections, and counts them.
    fn count(&mut self, connections: &mut Connections) {
        while let Some(ended) = connections.join_next() {
            match ended {
                Ok(Ok(())) => self.served += 1,
                Err(payload) if payload.is::<Cancelled>() => self.cancelled += 1,
                Ok(Err(_)) | Err(_) => self.failed += 1,
            }
        }
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7000".into());
    let grace = arguments
        .next()
        .map_or(Ok(5_000), |grace| grace.parse())
        .map_err(io::Error::other)?;
    hebra::run(|| {
        // Before it says that it listens: a signal that comes then must not end it.
        let signals = Signals::new([SIGINT, SIGTERM])?;
        let listener = match inherited()?.pop() {
            Some(socket) => socket.into_tcp_listener()?,
            None => TcpListener::bind(address)?,
        };
        println!("listening on {}", listener.local_addr()?);
        let connections = Mutex::new(JoinSet::new());
        thread::scope(|scope| {
            let acceptor = scope.spawn(|| accept(&listener, &connections));
            let signal = signals.wait();
            acceptor.cancel();
            signal
        })?;
        // Who has not been accepted yet is refused now, and can go elsewhere at once.
        drop(listener);

        let stopped = Instant::now();
        let mut connections = connections
            .into_inner()
            .expect("nothing has panicked under it");
        let mut report = Report::default();
        if thread::timeout(Duration::from_millis(grace), || {
            report.count(&mut connections)
        })
        .is_err()
        {
            connections.cancel_all();
            report.count(&mut connections);
        }
        let Report {
            served,
            failed,
            cancelled,
        } = report;
        println!(
            "stopped after {:?}: {served} served, {failed} failed, {cancelled} cancelled",
            stopped.elapsed()
        );
        Ok(())
    })
}
