//! The floor: a hand-written, edge-triggered epoll server; with two workers two of them, on one listener.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::thread;

use super::http;
use super::{ADDRESS, ECHO_READ, Service, ready};
use crate::support::epoll_server::{self, Protocol};

/// Each worker has a poller of its own; all accept from one listener.
pub fn serve(service: Service, workers: usize) -> io::Result<Infallible> {
    let listener = TcpListener::bind(ADDRESS)?;
    ready(listener.local_addr()?);
    for _ in 1..workers {
        let listener = listener.try_clone()?;
        thread::spawn(move || work(listener, service));
    }
    work(listener, service)
}

fn work(listener: TcpListener, service: Service) -> io::Result<Infallible> {
    match service {
        Service::Echo => epoll_server::serve(listener, Echo),
        Service::Http => epoll_server::serve(listener, Http { output: Vec::new() }),
    }
}

struct Echo;

impl Protocol for Echo {
    const READ: usize = ECHO_READ;
    type State = ();

    fn respond<'a>(&'a mut self, (): &mut (), input: &'a [u8]) -> Option<&'a [u8]> {
        Some(input)
    }
}

struct Http {
    output: Vec<u8>,
}

impl Protocol for Http {
    const READ: usize = http::READ;
    /// The start of a request whose rest has not come.
    type State = Vec<u8>;

    fn respond<'a>(&'a mut self, partial: &mut Vec<u8>, input: &'a [u8]) -> Option<&'a [u8]> {
        self.output.clear();
        if partial.is_empty() {
            let next = http::answer(input, &mut self.output).ok()?;
            partial.extend_from_slice(&input[next..]);
        } else {
            partial.extend_from_slice(input);
            let next = http::answer(partial, &mut self.output).ok()?;
            partial.drain(..next);
        }
        Some(&self.output)
    }
}
