//! Linux's own in networking, with the API of [`std::os::linux::net`]. Abstract names of Unix
//! sockets are made and read with [`SocketAddrExt`].

use std::io;

use rustix::net::sockopt;

pub use std::os::linux::net::SocketAddrExt;

use crate::net::TcpStream;

/// What Linux has besides for TCP, as [`std::os::linux::net::TcpStreamExt`], which only std's types
/// can have.
///
/// ```
/// use hebra::net::{TcpListener, TcpStream};
/// use hebra::os::linux::net::TcpStreamExt;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// stream.set_quickack(false)?;
/// assert!(!stream.quickack()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait TcpStreamExt: sealed::Sealed {
    /// Sets `TCP_QUICKACK`: whether data is acknowledged at once. Linux takes it back by itself.
    ///
    /// # Errors
    /// As std's.
    fn set_quickack(&self, quickack: bool) -> io::Result<()>;

    /// Returns the value of `TCP_QUICKACK`.
    ///
    /// # Errors
    /// As std's.
    fn quickack(&self) -> io::Result<bool>;
}

impl TcpStreamExt for TcpStream {
    fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_quickack(self, quickack)?)
    }

    fn quickack(&self) -> io::Result<bool> {
        Ok(sockopt::tcp_quickack(self)?)
    }
}

mod sealed {
    /// Methods may be added.
    pub trait Sealed {}

    impl Sealed for crate::net::TcpStream {}
}
