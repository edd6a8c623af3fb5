//! The load of the churn: connect, one message, its echo, close; always the same number of them at once.
//!
//! A connection over loopback is there when `connect` returns, so its message is sent at once; epoll is for the answer, and for a
//! connection that took longer. The client closes first and keeps the `TIME_WAIT`, for a minute: so it gives its ends names out of a
//! loopback network in turn, as one address has 28,000 free ports only.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::process;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with, sockopt,
};

use crate::support::histogram::Histogram;
use crate::support::machine;
use crate::support::process::Server;
use crate::support::service::Window;

/// How long an answer may take before its connection counts as an error.
const PATIENCE: Duration = Duration::from_secs(3);
/// The names of the client's ends: 127.0.1.1 to 127.0.1.250, and the ports that the kernel does not give out.
const HOSTS: RangeInclusive<u8> = 1..=250;
const PORTS: RangeInclusive<u16> = 10_000..=32_000;

/// One connection after the other.
struct Slot {
    /// `None` once the load ends.
    socket: Option<OwnedFd>,
    /// When it was opened.
    since: Instant,
    /// Its message is on the way.
    sent: bool,
    received: usize,
}

pub struct Load {
    epoll: OwnedFd,
    server: SocketAddr,
    slots: Vec<Slot>,
    message: Vec<u8>,
    buffer: Vec<u8>,
    latency: Histogram,
    answered: u64,
    errors: u64,
    names: Box<dyn Iterator<Item = SocketAddrV4>>,
    /// A connection that has ended is followed by the next.
    go_on: bool,
    /// How long it has asked for answers in vain.
    idle: Duration,
}

impl Load {
    pub fn new(server: SocketAddr, connections: usize, message: usize) -> io::Result<Self> {
        let names = PORTS.flat_map(|port| HOSTS.map(move |host| SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, host), port)));
        // Not all processes begin with the same.
        let first = process::id() as usize * 10_007 % 1_000_000;
        let slot = || Slot { socket: None, since: Instant::now(), sent: false, received: 0 };
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            server,
            slots: (0..connections).map(|_| slot()).collect(),
            message: vec![b'x'; message],
            buffer: vec![0; message + 1],
            latency: Histogram::new(),
            answered: 0,
            errors: 0,
            names: Box::new(names.cycle().skip(first)),
            go_on: true,
            idle: Duration::ZERO,
        })
    }

    /// Drives `server` for `warm_up` and then for `window`, in which everything is measured.
    pub fn window(&mut self, server: &Server, warm_up: Duration, window: Duration) -> io::Result<Window> {
        for key in 0..self.slots.len() {
            self.open(key)?;
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
        let requests = self.answered;

        self.drain()?;
        Ok(Window {
            requests,
            errors: self.errors,
            elapsed,
            server_cpu: server_after - server_before,
            client_cpu: (client_after - client_before).saturating_sub(self.idle),
            latency: [0.5, 0.99, 0.999].map(|q| self.latency.quantile(q)).to_vec(),
        })
    }

    /// Waits for the answers that are still due; those that do not come are errors.
    fn drain(&mut self) -> io::Result<()> {
        self.go_on = false;
        let end = Instant::now() + PATIENCE;
        while self.slots.iter().any(|slot| slot.socket.is_some()) && Instant::now() < end {
            self.turns()?;
        }
        self.errors += self.slots.iter().filter(|slot| slot.socket.is_some()).count() as u64;
        Ok(())
    }

    fn turns_until(&mut self, end: Instant) -> io::Result<()> {
        let mut now = Instant::now();
        while now < end {
            let answers = self.turns()?;
            let then = Instant::now();
            if answers == 0 {
                self.idle += then - now;
            }
            now = then;
        }
        Ok(())
    }

    /// Takes the answers that are there, and returns how many. It never sleeps; the load of the other workloads says why.
    fn turns(&mut self) -> io::Result<usize> {
        let mut events = [MaybeUninit::<Event>::uninit(); 1024];
        let (ready, _) = match epoll::wait(&self.epoll, &mut events, Some(&Timespec::default())) {
            Err(Errno::INTR) => return Ok(0),
            ready => ready?,
        };
        let answers = ready.len();
        for event in ready {
            self.advance(event.data.u64() as usize)?;
        }
        Ok(answers)
    }

    /// Opens the slot's next connection and sends its message, if it is there at once.
    fn open(&mut self, key: usize) -> io::Result<()> {
        let since = Instant::now();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        // What still waits for its time under this name had another server.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        loop {
            match bind(&socket, &self.names.next().expect("they go round for ever")) {
                // Somebody serves at this port.
                Err(Errno::ADDRINUSE) => {}
                bound => break bound?,
            }
        }
        match connect(&socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let sent = match send(&socket, &self.message, SendFlags::NOSIGNAL) {
            Ok(sent) => sent == self.message.len(),
            Err(Errno::AGAIN) => false,
            Err(error) => return Err(error.into()),
        };
        epoll::add(&self.epoll, &socket, EventData::new_u64(key as u64), edges)?;
        self.slots[key] = Slot { socket: Some(socket), since, sent, received: 0 };
        Ok(())
    }

    /// Goes on with the slot's connection, about which there is news.
    fn advance(&mut self, key: usize) -> io::Result<()> {
        let slot = &mut self.slots[key];
        let Some(socket) = &slot.socket else { return Ok(()) };
        if !slot.sent {
            match send(socket, &self.message, SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => return Ok(()),
                Ok(sent) if sent == self.message.len() => slot.sent = true,
                _ => return self.close(key, false),
            }
        }
        match recv(socket, &mut *self.buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => Ok(()),
            Ok((got, _)) if got > 0 && self.message[slot.received..].starts_with(&self.buffer[..got]) => {
                slot.received += got;
                if slot.received == self.message.len() {
                    return self.close(key, true);
                }
                Ok(())
            }
            _ => self.close(key, false),
        }
    }

    fn close(&mut self, key: usize, answered: bool) -> io::Result<()> {
        let slot = &mut self.slots[key];
        slot.socket = None;
        if answered {
            self.latency.record(slot.since.elapsed().as_nanos() as u64);
            self.answered += 1;
        } else {
            self.errors += 1;
        }
        if self.go_on { self.open(key) } else { Ok(()) }
    }
}
