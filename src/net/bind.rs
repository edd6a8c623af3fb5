//! [`BindOptions`]: what has to be said of a socket before it is bound.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::sockopt;

use super::{TcpListener, ToSocketAddrs, UdpSocket, each_addr};

/// How a socket is bound, where std leaves no choice. Used as [`std::fs::OpenOptions`] is.
///
/// What is not said is as in [`TcpListener::bind`] and [`UdpSocket::bind`].
///
/// ```
/// use hebra::net::BindOptions;
///
/// // Two processes, or two runtimes, may share the port: the system deals the connections out.
/// let mut options = BindOptions::new();
/// options.reuse_port(true).backlog(1_024);
/// let one = options.tcp_listener("127.0.0.1:0")?;
/// let other = options.tcp_listener(one.local_addr()?)?;
/// assert_eq!(one.local_addr()?, other.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct BindOptions {
    backlog: Option<u32>,
    reuse_address: Option<bool>,
    reuse_port: Option<bool>,
    only_v6: Option<bool>,
}

impl BindOptions {
    /// Makes options of which nothing is said.
    pub fn new() -> BindOptions {
        BindOptions::default()
    }

    /// Sets how many connections may wait to be accepted. The system has a limit of its own, on
    /// Linux `net.core.somaxconn`, and what is not said is that limit.
    pub fn backlog(&mut self, connections: u32) -> &mut BindOptions {
        self.backlog = Some(connections);
        self
    }

    /// Sets `SO_REUSEADDR`: whether the address may be bound while connections of its last user
    /// linger. What is not said is what std does: yes for a listener, no for a UDP socket.
    pub fn reuse_address(&mut self, reuse: bool) -> &mut BindOptions {
        self.reuse_address = Some(reuse);
        self
    }

    /// Sets `SO_REUSEPORT`: whether several sockets of one user may be bound to the same address,
    /// each with its share of what comes. All of them have to say so.
    pub fn reuse_port(&mut self, reuse: bool) -> &mut BindOptions {
        self.reuse_port = Some(reuse);
        self
    }

    /// Sets `IPV6_V6ONLY`: whether a socket bound to an IPv6 address keeps away from IPv4. What is
    /// not said is the system's default, on Linux that `[::]` takes both. Of no effect on IPv4
    /// addresses.
    pub fn only_v6(&mut self, only: bool) -> &mut BindOptions {
        self.only_v6 = Some(only);
        self
    }

    /// Makes a listener on `addr`. If `addr` stands for several addresses they are tried in turn.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn tcp_listener<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpListener> {
        each_addr(addr, |addr| TcpListener::bind_to(addr, self))
    }

    /// Makes a UDP socket on `addr`. If `addr` stands for several addresses they are tried in turn.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn udp_socket<A: ToSocketAddrs>(&self, addr: A) -> io::Result<UdpSocket> {
        each_addr(addr, |addr| UdpSocket::bind_to(addr, self))
    }

    /// What `listen` is to be told.
    pub(super) fn backlog_or_most(&self) -> i32 {
        self.backlog.map_or(libc::SOMAXCONN, |backlog| {
            i32::try_from(backlog).unwrap_or(i32::MAX)
        })
    }

    /// Sets the options on `socket`, and binds it.
    pub(super) fn bind(
        &self,
        socket: &OwnedFd,
        addr: &SocketAddr,
        reuse_address: bool,
    ) -> io::Result<()> {
        if self.reuse_address.unwrap_or(reuse_address) {
            sockopt::set_socket_reuseaddr(socket, true)?;
        }
        if self.reuse_port == Some(true) {
            sockopt::set_socket_reuseport(socket, true)?;
        }
        if let Some(only) = self.only_v6
            && addr.is_ipv6()
        {
            sockopt::set_ipv6_v6only(socket, only)?;
        }
        Ok(rustix::net::bind(socket, addr)?)
    }
}
