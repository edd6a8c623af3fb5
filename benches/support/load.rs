//! The load: many connections from one OS thread, each with one request (or one pipelined batch) in
//! flight.
//!
//! Closed loop: an answer is checked, its latency recorded, and the next request sent at once. So a
//! slow server is asked less often, and latencies are those of a saturated server, not of an open
//! arrival process. The client costs about as much as the server it drives;
//! [`Window::client_busy`](super::service::Window) says how near it is to its own limit.
//!
//! A load that [spins](Load::spinning) never sleeps. Else it is the server's `send` that has to
//! wake it, which on a virtual machine costs the server several requests' worth of time: a server
//! that is a little slower lets the load sleep more often, and then looks much slower. Clients on
//! another machine cost it nothing of the kind.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::histogram::Histogram;
use super::machine;
use super::process::Server;
use super::service::Window;

/// What one turn of a connection sends, and what must come back.
#[derive(Clone)]
pub struct Exchange {
    pub request: Vec<u8>,
    pub response: Vec<u8>,
    /// Requests in `request`: 1, or the depth of the pipeline.
    pub requests: u64,
    /// Write the connection's index and turn into the first 8 bytes and expect them back: an
    /// answer that went to the wrong connection, or twice, is then an error.
    pub stamped: bool,
}

/// Bytes of the stamp; a stamped request has at least so many.
const STAMP: usize = 8;
/// Connections that are opened before one of them is asked for an answer, so that no accept queue
/// overflows.
const BURST: usize = 64;
/// How long a server may take for an answer that is still due when a window ends.
const PATIENCE: Duration = Duration::from_secs(3);

struct Connection {
    socket: TcpStream,
    turn: u32,
    /// Bytes of the current answer that have come.
    received: usize,
    sent_at: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Idle,
    Waiting,
    Failed,
}

pub struct Load {
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    exchange: Exchange,
    /// The request as it goes out, and the response as it must come, for the connection at hand.
    outgoing: Vec<u8>,
    expected: Vec<u8>,
    buffer: Box<[u8]>,
    latency: Histogram,
    answered: u64,
    errors: u64,
    /// Connections in `State::Waiting`.
    waiting: usize,
    /// An answer is followed by the next request.
    go_on: bool,
    /// It asks for answers without sleeping.
    spins: bool,
    /// How long it has asked in vain.
    idle: Duration,
}

impl Load {
    /// Opens `count` connections and has each burst answered once.
    pub fn connect(address: SocketAddr, count: usize, exchange: Exchange) -> io::Result<Self> {
        assert!(
            !exchange.stamped || exchange.request.len() >= STAMP,
            "no room for the stamp"
        );
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let mut socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            if (index + 1) % BURST == 0 || index + 1 == count {
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.write_all(&exchange.request)?;
                socket.read_exact(&mut vec![0; exchange.response.len()])?;
            }
            socket.set_nonblocking(true)?;
            let edges = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&epoll, &socket, EventData::new_u64(index as u64), edges)?;
            connections.push(Connection {
                socket,
                turn: 0,
                received: 0,
                sent_at: Instant::now(),
                state: State::Idle,
            });
        }
        Ok(Self {
            epoll,
            connections,
            outgoing: exchange.request.clone(),
            expected: exchange.response.clone(),
            buffer: vec![0; exchange.response.len().max(4096)].into_boxed_slice(),
            exchange,
            latency: Histogram::new(),
            answered: 0,
            errors: 0,
            waiting: 0,
            go_on: false,
            spins: false,
            idle: Duration::ZERO,
        })
    }

    /// Makes it one that never sleeps. It then counts as busy while there are answers to take.
    pub fn spinning(mut self) -> Self {
        self.spins = true;
        self
    }

    /// Drives `server` for `warm_up` and then for `window`, in which everything is measured; leaves
    /// no request in flight.
    pub fn window(
        &mut self,
        server: &Server,
        warm_up: Duration,
        window: Duration,
    ) -> io::Result<Window> {
        self.errors = 0;
        self.go_on = true;
        for key in 0..self.connections.len() {
            if self.connections[key].state == State::Idle {
                self.request(key, Instant::now());
            }
        }
        self.turns_until(Instant::now() + warm_up)?;

        self.latency.clear();
        self.answered = 0;
        self.idle = Duration::ZERO;
        let (client_before, server_before) = (machine::cpu_time(), server.cpu_time()?);
        let start = Instant::now();
        self.turns_until(start + window)?;
        let elapsed = start.elapsed();
        let (client_after, server_after) = (machine::cpu_time(), server.cpu_time()?);
        let requests = self.answered * self.exchange.requests;

        self.drain()?;
        Ok(Window {
            requests,
            errors: self.errors,
            elapsed,
            server_cpu: server_after - server_before,
            client_cpu: (client_after - client_before).saturating_sub(self.idle),
            latency: [0.5, 0.99, 0.999]
                .map(|q| self.latency.quantile(q))
                .to_vec(),
        })
    }

    /// Takes the answers that are still due; those that do not come are errors, and their
    /// connections are given up.
    fn drain(&mut self) -> io::Result<()> {
        self.go_on = false;
        let end = Instant::now() + PATIENCE;
        while self.waiting > 0 && Instant::now() < end {
            self.turns()?;
        }
        for key in 0..self.connections.len() {
            if self.connections[key].state == State::Waiting {
                self.fail(key);
            }
        }
        Ok(())
    }

    fn turns_until(&mut self, end: Instant) -> io::Result<()> {
        let mut now = Instant::now();
        while now < end {
            let answers = self.turns()?;
            let then = Instant::now();
            if self.spins && answers == 0 {
                self.idle += then - now;
            }
            now = then;
        }
        Ok(())
    }

    /// Waits for answers, up to 100 ms, and takes them; returns how many there were.
    fn turns(&mut self) -> io::Result<usize> {
        const TIMEOUT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        const NONE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let timeout = if self.spins { NONE } else { TIMEOUT };
        let mut events = [MaybeUninit::<Event>::uninit(); 1024];
        let (ready, _) = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Err(Errno::INTR) => return Ok(0),
            ready => ready?,
        };
        let answers = ready.len();
        for event in ready {
            let key = event.data.u64() as usize;
            if self.connections[key].state != State::Failed {
                self.answer(key);
            }
        }
        Ok(answers)
    }

    /// Reads what has come for `key` and checks it; a complete answer ends the turn and may start
    /// the next.
    #[inline]
    fn answer(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if self.exchange.stamped {
            self.expected[..STAMP].copy_from_slice(&stamp(key, connection.turn));
        }
        loop {
            let got = match recv(&connection.socket, &mut *self.buffer, RecvFlags::empty()) {
                Ok((got, _)) if got > 0 => got,
                Err(Errno::AGAIN) => return,
                _ => return self.fail(key),
            };
            let rest = &self.expected[connection.received..];
            if connection.state != State::Waiting || !rest.starts_with(&self.buffer[..got]) {
                return self.fail(key);
            }
            connection.received += got;
            if got == rest.len() {
                let now = Instant::now();
                self.latency
                    .record((now - connection.sent_at).as_nanos() as u64);
                self.answered += 1;
                self.waiting -= 1;
                connection.state = State::Idle;
                if self.go_on {
                    self.request(key, now);
                }
                return;
            }
            if got < self.buffer.len() {
                return;
            }
        }
    }

    #[inline]
    fn request(&mut self, key: usize, now: Instant) {
        let connection = &mut self.connections[key];
        connection.turn = connection.turn.wrapping_add(1);
        connection.received = 0;
        connection.sent_at = now;
        connection.state = State::Waiting;
        self.waiting += 1;
        if self.exchange.stamped {
            self.outgoing[..STAMP].copy_from_slice(&stamp(key, connection.turn));
        }
        // Nothing else is in flight here, so the socket has room for all of it or is broken.
        if send(&connection.socket, &self.outgoing, SendFlags::NOSIGNAL) != Ok(self.outgoing.len())
        {
            self.fail(key);
        }
    }

    fn fail(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        self.waiting -= usize::from(connection.state == State::Waiting);
        connection.state = State::Failed;
        self.errors += 1;
        // If even this fails the kernel has already forgotten the socket.
        let _ = epoll::delete(&self.epoll, &connection.socket);
    }
}

fn stamp(key: usize, turn: u32) -> [u8; STAMP] {
    (((key as u64) << 32) | u64::from(turn)).to_le_bytes()
}
