//! may: one coroutine per connection, the default features, stacks of the default size.

use std::io;

use may::net::TcpListener;

use super::{ADDRESS, Service, blocking, ready};

pub fn serve(service: Service, workers: usize) -> io::Result<()> {
    may::config().set_workers(workers);
    let acceptor = may::go!(move || {
        let listener = TcpListener::bind(ADDRESS)?;
        ready(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            may::go!(move || blocking::serve(stream, service));
        }
    });
    acceptor.join().map_err(|_| io::Error::other("the acceptor panicked"))?
}
