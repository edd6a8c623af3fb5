//! std: one OS thread per connection.

use std::io;
use std::net::TcpListener;
use std::thread;

use super::{ADDRESS, Service, blocking, ready};

/// As many bytes as hebra's stacks have.
const STACK: usize = 256 << 10;

pub fn serve(service: Service) -> io::Result<()> {
    let listener = TcpListener::bind(ADDRESS)?;
    ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        thread::Builder::new().stack_size(STACK).spawn(move || blocking::serve(stream, service))?;
    }
}
