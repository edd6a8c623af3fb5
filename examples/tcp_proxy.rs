//! Passes TCP connections on to another server: two green threads a connection, one for each
//! direction.
//!
//! Usage: `tcp_proxy LISTEN UPSTREAM`

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use hebra::net::{TcpListener, TcpStream};
use hebra::thread;

/// Copies until one end has no more to send, and says so to the other; what comes back is another
/// thread's business.
fn relay(mut from: &TcpStream, mut to: &TcpStream) {
    let relayed = io::copy(&mut from, &mut to).and_then(|_| to.shutdown(Shutdown::Write));
    if relayed.is_err() {
        // A broken connection is no use in the other direction either. Whoever waits there returns;
        // what is closed stays closed.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn serve(client: TcpStream, upstream: &str) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let ends = Arc::new((client, upstream));
    let back = ends.clone();
    thread::Builder::new().spawn(move || relay(&back.1, &back.0))?;
    relay(&ends.0, &ends.1);
    Ok(())
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(upstream)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "usage: tcp_proxy LISTEN UPSTREAM",
        ));
    };
    hebra::run(|| {
        let listener = TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        for connection in listener.connections() {
            let ((client, _), upstream) = (connection?, upstream.clone());
            // No memory for a stack: this one is closed, and let some others end first.
            if thread::Builder::new()
                .spawn(move || serve(client, &upstream))
                .is_err()
            {
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    })
}
