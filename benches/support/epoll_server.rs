//! The floor of the network benches: the fastest single-threaded epoll server we know how to write.
//!
//! Each socket is registered once, edge-triggered, for reading and for the peer's end
//! (`EPOLLRDHUP`). An event costs one `recv` and one `send`: a short read means that the socket is
//! drained, unless the same edge reported the peer's end. `EPOLLOUT` is asked for only by a
//! connection whose reply did not fit into the socket.

use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};

/// What the server answers.
pub trait Protocol {
    /// Bytes to ask of one `recv`.
    const READ: usize;
    /// What a connection keeps between reads.
    type State: Default;

    /// The reply to `input`, perhaps empty; `None` closes the connection.
    fn respond<'a>(&'a mut self, state: &mut Self::State, input: &'a [u8]) -> Option<&'a [u8]>;
}

const LISTENER: u64 = u64::MAX;
const READ_EDGE: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

struct Connection<S> {
    socket: OwnedFd,
    state: S,
    /// What the socket had no room for; nothing is read until it is gone.
    unsent: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(PartialEq)]
enum Next {
    Keep,
    Close,
}

struct Server<P: Protocol> {
    epoll: OwnedFd,
    listener: TcpListener,
    protocol: P,
    /// Indexed by the event's data. A freed slot can be reused at once: a socket has one event per
    /// batch.
    connections: Vec<Option<Connection<P::State>>>,
    free: Vec<usize>,
    buffer: Box<[u8]>,
}

/// Serves `listener` until epoll or accept fails.
pub fn serve<P: Protocol>(listener: TcpListener, protocol: P) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN | EventFlags::ET,
    )?;
    let mut server = Server {
        epoll,
        listener,
        protocol,
        connections: Vec::new(),
        free: Vec::new(),
        buffer: vec![0; P::READ].into_boxed_slice(),
    };
    let mut events = [MaybeUninit::<Event>::uninit(); 1024];
    loop {
        let (ready, _) = match epoll::wait(&server.epoll, &mut events, None) {
            Err(Errno::INTR) => continue,
            ready => ready?,
        };
        for event in ready {
            match event.data.u64() {
                LISTENER => server.accept()?,
                key => server.turn(key as usize, event.flags),
            }
        }
    }
}

impl<P: Protocol> Server<P> {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket =
                match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(Errno::CONNABORTED | Errno::INTR) => continue,
                    socket => socket?,
                };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let key = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            epoll::add(
                &self.epoll,
                &socket,
                EventData::new_u64(key as u64),
                READ_EDGE,
            )?;
            self.connections[key] = Some(Connection {
                socket,
                state: P::State::default(),
                unsent: Vec::new(),
            });
        }
    }

    #[inline]
    fn turn(&mut self, key: usize, flags: EventFlags) {
        let connection = self.connections[key]
            .as_mut()
            .expect("closing a socket ends its events");
        let next = connection.flush().and_then(|()| {
            let last = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            connection.answer(&mut self.protocol, &mut self.buffer, last)
        });
        let next = match next {
            Err(Errno::AGAIN) if connection.unsent.is_empty() => Next::Keep,
            Err(Errno::AGAIN) => {
                let edges = READ_EDGE | EventFlags::OUT;
                let again = epoll::modify(
                    &self.epoll,
                    &connection.socket,
                    EventData::new_u64(key as u64),
                    edges,
                );
                again.map_or(Next::Close, |()| Next::Keep)
            }
            Err(_) => Next::Close,
            Ok(next) => next,
        };
        if next == Next::Close {
            self.connections[key] = None;
            self.free.push(key);
        }
    }
}

impl<S> Connection<S> {
    /// Sends what an earlier reply left over.
    #[inline]
    fn flush(&mut self) -> Result<(), Errno> {
        while !self.unsent.is_empty() {
            let sent = send(&self.socket, &self.unsent, SendFlags::NOSIGNAL)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Reads and answers until the socket is drained. `last`: the peer's end has come, so a short
    /// read proves nothing.
    #[inline]
    fn answer<P: Protocol<State = S>>(
        &mut self,
        protocol: &mut P,
        buffer: &mut [u8],
        last: bool,
    ) -> Result<Next, Errno> {
        loop {
            let (got, _) = recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
            if got == 0 {
                return Ok(Next::Close);
            }
            let Some(reply) = protocol.respond(&mut self.state, &buffer[..got]) else {
                return Ok(Next::Close);
            };
            if !reply.is_empty() {
                let sent = match send(&self.socket, reply, SendFlags::NOSIGNAL) {
                    Err(Errno::AGAIN) => 0,
                    sent => sent?,
                };
                if sent < reply.len() {
                    self.unsent.extend_from_slice(&reply[sent..]);
                    self.flush()?;
                }
            }
            if got < buffer.len() && !last {
                return Ok(Next::Keep);
            }
        }
    }
}
