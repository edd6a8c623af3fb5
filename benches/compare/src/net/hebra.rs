//! hebra: one green thread per connection, stacks of the default size.

use std::io;

use hebra::net::TcpListener;
use hebra::{Config, Runtime, thread};

use super::{ADDRESS, Service, blocking, ready};

pub fn serve(service: Service, workers: usize) -> io::Result<()> {
    Runtime::new(Config::default().workers(workers))?.run(|| {
        let listener = TcpListener::bind(ADDRESS)?;
        ready(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            // A client that breaks off ends its own green thread only; the load counts it.
            thread::spawn(move || blocking::serve(stream, service));
        }
    })
}
