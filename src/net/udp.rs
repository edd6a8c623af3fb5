//! UDP, with the API of std's `UdpSocket`.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketType, ipproto, sockopt};

use super::{BindOptions, ToSocketAddrs, each_addr, family, local_addr, peer_addr};
use crate::io::{Io, conversions, settings, timeouts};

/// A UDP socket, as [`std::net::UdpSocket`].
///
/// Sending and receiving park the green thread that calls; on an OS thread they block it. Any
/// number of threads may use one socket at a time; each datagram goes to one of them. The
/// descriptor is in non-blocking mode: who takes it with `as_raw_fd` must reckon with that.
///
/// # Cancellation
/// Whatever may wait is a cancel point. A datagram that has been received when a cancellation comes
/// is returned first.
///
/// ```
/// use hebra::net::UdpSocket;
///
/// hebra::run(|| -> std::io::Result<()> {
///     let socket = UdpSocket::bind("127.0.0.1:0")?;
///     let address = socket.local_addr()?;
///     let server = hebra::thread::spawn(move || -> std::io::Result<usize> {
///         let mut buffer = [0; 1_500];
///         let (len, peer) = socket.recv_from(&mut buffer)?;
///         socket.send_to(&buffer[..len], peer)
///     });
///     let client = UdpSocket::bind("127.0.0.1:0")?;
///     client.send_to(b"hello", address)?;
///     let mut buffer = [0; 1_500];
///     assert_eq!(client.recv_from(&mut buffer)?, (5, address));
///     server.join().unwrap()?;
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UdpSocket(Io);

impl UdpSocket {
    /// Makes a socket bound to `addr`. If `addr` stands for several addresses they are tried in
    /// turn, and the last error is returned.
    ///
    /// # Errors
    /// As [`std::net::UdpSocket::bind`].
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        BindOptions::new().udp_socket(addr)
    }

    pub(super) fn bind_to(addr: &SocketAddr, options: &BindOptions) -> io::Result<UdpSocket> {
        let fd = socket(addr)?;
        options.bind(&fd, addr, false)?;
        Ok(UdpSocket(Io::new(fd)))
    }

    /// Receives a datagram, and returns its length and where it comes from. What does not fit into
    /// `buf` is lost.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::empty())
    }

    /// Receives a datagram without consuming it: the next receive finds the same one.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::PEEK)
    }

    fn recv_from_with(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        let (len, addr) = self.0.recv_from(buf, flags)?;
        Ok((len, addr.ok_or(Errno::INVAL)?.try_into()?))
    }

    /// Sends a datagram to `addr`, to the first address if it stands for several, and returns its
    /// length.
    ///
    /// # Cancellation
    /// Parks the current thread while the socket's buffer is full; this is a cancel point.
    ///
    /// # Errors
    /// `InvalidInput` if `addr` stands for no address, and as [`std::net::UdpSocket::send_to`].
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        match addr.to_socket_addrs()?.next() {
            Some(addr) => self.0.send_to(buf, &addr),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no addresses to send data to",
            )),
        }
    }

    /// Sets the address that [`send`](UdpSocket::send) sends to and [`recv`](UdpSocket::recv)
    /// receives from. If `addr` stands for several addresses they are tried in turn.
    ///
    /// # Errors
    /// As [`std::net::UdpSocket::connect`].
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each_addr(addr, |addr| Ok(rustix::net::connect(&self.0, addr)?))
    }

    /// Sends a datagram to the address that the socket is connected to, and returns its length.
    ///
    /// # Cancellation
    /// Parks the current thread while the socket's buffer is full; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::net::UdpSocket::send`]: among them `ConnectionRefused`, when an earlier datagram
    /// has found nobody.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.send(buf)
    }

    /// Receives a datagram from the address that the socket is connected to, and returns its
    /// length. What does not fit into `buf` is lost.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::net::UdpSocket::recv`]: among them `ConnectionRefused`, when a datagram sent has
    /// found nobody.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf, RecvFlags::empty())
    }

    /// Receives as [`recv`](UdpSocket::recv) does without consuming: the next receive finds the
    /// same datagram.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf, RecvFlags::PEEK)
    }

    /// Returns the address that the socket is connected to.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        peer_addr(&self.0)
    }

    /// Returns the address that the socket is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.0)
    }

    /// Sets `SO_BROADCAST`: whether the socket may send to a broadcast address.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_broadcast(&self.0, broadcast)?)
    }

    /// Returns the value of `SO_BROADCAST`.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(sockopt::socket_broadcast(&self.0)?)
    }

    /// Sets `IP_MULTICAST_LOOP`: whether the socket's multicast packets come back to this machine.
    pub fn set_multicast_loop_v4(&self, multicast_loop_v4: bool) -> io::Result<()> {
        Ok(sockopt::set_ip_multicast_loop(&self.0, multicast_loop_v4)?)
    }

    /// Returns the value of `IP_MULTICAST_LOOP`.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        Ok(sockopt::ip_multicast_loop(&self.0)?)
    }

    /// Sets `IP_MULTICAST_TTL`: how many networks the socket's multicast packets may cross; 1,
    /// unless told otherwise.
    pub fn set_multicast_ttl_v4(&self, multicast_ttl_v4: u32) -> io::Result<()> {
        Ok(sockopt::set_ip_multicast_ttl(&self.0, multicast_ttl_v4)?)
    }

    /// Returns the value of `IP_MULTICAST_TTL`.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        Ok(sockopt::ip_multicast_ttl(&self.0)?)
    }

    /// Sets `IPV6_MULTICAST_LOOP`: whether the socket sees its own multicast packets.
    pub fn set_multicast_loop_v6(&self, multicast_loop_v6: bool) -> io::Result<()> {
        Ok(sockopt::set_ipv6_multicast_loop(
            &self.0,
            multicast_loop_v6,
        )?)
    }

    /// Returns the value of `IPV6_MULTICAST_LOOP`.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        Ok(sockopt::ipv6_multicast_loop(&self.0)?)
    }

    /// Joins the multicast group `multiaddr`, on the interface with the address `interface`, or on
    /// one that the system chooses if that is unspecified.
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_add_membership(
            &self.0, multiaddr, interface,
        )?)
    }

    /// Joins the multicast group `multiaddr`, on the interface with the index `interface`, or on
    /// any if that is 0.
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_add_membership(
            &self.0, multiaddr, interface,
        )?)
    }

    /// Leaves a group that was joined with [`join_multicast_v4`](UdpSocket::join_multicast_v4).
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_drop_membership(
            &self.0, multiaddr, interface,
        )?)
    }

    /// Leaves a group that was joined with [`join_multicast_v6`](UdpSocket::join_multicast_v6).
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_drop_membership(
            &self.0, multiaddr, interface,
        )?)
    }

    /// Sets the time to live of the packets sent.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        Ok(sockopt::set_ip_ttl(&self.0, ttl)?)
    }

    /// Returns the time to live of the packets sent.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(sockopt::ip_ttl(&self.0)?)
    }
}

settings!(UdpSocket);
timeouts!(UdpSocket);
conversions!(UdpSocket, std::net::UdpSocket);

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UdpSocket");
        if let Ok(addr) = self.local_addr() {
            debug.field("addr", &addr);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}

fn socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    crate::io::socket(family(addr), SocketType::DGRAM, Some(ipproto::UDP))
}
