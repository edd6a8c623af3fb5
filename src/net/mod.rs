//! Networking, with the API of [`std::net`].
//!
//! The sockets wait by parking the green thread that uses them; on a plain OS thread they block it. Addresses are std's own.

pub use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

mod tcp;

pub use tcp::{Incoming, IntoIncoming, TcpListener, TcpStream};
