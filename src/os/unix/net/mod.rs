//! Sockets of the Unix domain, with the API of [`std::os::unix::net`].
//!
//! They wait by parking the green thread that uses them; on a plain OS thread they block it. The
//! address is std's own.
//!
//! # Where the system does not say when
//!
//! Two operations can find the other end full, and nothing on Linux tells them when it has room
//! again: connecting to a listener whose backlog is full, and sending to a socket that one is not
//! connected to and whose queue is full. A descriptor of ours is *writable* all the while, so
//! neither a reactor nor `poll(2)` helps. These two try again after pauses of 50 µs at first, 10 ms
//! at last, and park in between.
//!
//! # Why not a thread that does it blocking
//!
//! The kernel would wake it at the right moment; but one stuck listener could take every thread of
//! a bounded pool, and a cancelled connect would go on, and be accepted.

#[allow(unsafe_code)]
mod address;
mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::{Connections, Incoming, UnixListener};
pub use std::os::unix::net::SocketAddr;
pub use stream::UnixStream;
