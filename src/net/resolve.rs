//! Name resolution: the system's, in the blocking pool. Addresses in figures need none of it.

use std::io;
use std::iter::FusedIterator;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{iter, option, slice, vec};

use crate::blocking::try_unblock_finite;
use crate::io::refuse_in_simulation;

/// What can be turned into socket addresses, as [`std::net::ToSocketAddrs`].
///
/// std's trait resolves names on the spot, and that would block the worker: this one does so in the
/// [blocking pool](crate::blocking). It is implemented for the same types, and has the same shape:
/// where a type of your own implements std's, implement this one, too.
///
/// ```
/// use hebra::net::ToSocketAddrs;
///
/// hebra::run(|| -> std::io::Result<()> {
///     let numeric: Vec<_> = "127.0.0.1:80".to_socket_addrs()?.collect();
///     assert_eq!(numeric, ["127.0.0.1:80".parse().unwrap()]);
///     assert!("localhost:80".to_socket_addrs()?.all(|addr| addr.ip().is_loopback()));
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait ToSocketAddrs {
    /// The addresses.
    type Iter: Iterator<Item = SocketAddr>;

    /// Returns the addresses; a host name is looked up.
    ///
    /// # Cancellation
    /// Where there is a name to be looked up this parks the current thread, and is a cancel point.
    ///
    /// # Errors
    /// As [`std::net::ToSocketAddrs::to_socket_addrs`].
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

/// For what std turns into an address without asking anybody.
macro_rules! immediate {
    ($($address:ty),*) => {$(
        impl ToSocketAddrs for $address {
            type Iter = option::IntoIter<SocketAddr>;

            fn to_socket_addrs(&self) -> io::Result<option::IntoIter<SocketAddr>> {
                Ok(Some(SocketAddr::from(*self)).into_iter())
            }
        }
    )*};
}

immediate!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)].into_iter()),
            Err(_) => resolve(host, port),
        }
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        (self.0.as_str(), self.1).to_socket_addrs()
    }
}

/// `host:port`.
impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        if let Ok(addr) = self.parse() {
            return Ok(vec![addr].into_iter());
        }
        let invalid = |message| io::Error::new(io::ErrorKind::InvalidInput, message);
        let (host, port) = self
            .rsplit_once(':')
            .ok_or_else(|| invalid("invalid socket address"))?;
        let port: u16 = port.parse().map_err(|_| invalid("invalid port value"))?;
        (host, port).to_socket_addrs()
    }
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<vec::IntoIter<SocketAddr>> {
        self.as_str().to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Copied<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().copied())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<T::Iter> {
        (**self).to_socket_addrs()
    }
}

/// Looks a host up, by the system's resolver: `/etc/hosts`, DNS and whatever else it is set up for.
///
/// The addresses come with the port 0, so that those of a link keep their scope; `map(|addr|
/// addr.ip())` if you need less. An address in figures is returned as it is.
///
/// ```
/// hebra::run(|| -> std::io::Result<()> {
///     assert!(hebra::net::lookup_host("localhost")?.all(|addr| addr.ip().is_loopback()));
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Cancellation
/// Parks the current thread; this is a cancel point. A look-up that has begun goes on in the pool.
///
/// # Errors
/// The host is not known, or the resolver has failed.
pub fn lookup_host(host: &str) -> io::Result<LookupHost> {
    (host, 0).to_socket_addrs().map(LookupHost)
}

/// The addresses of a host; made by [`lookup_host`].
#[derive(Debug, Clone)]
pub struct LookupHost(vec::IntoIter<SocketAddr>);

impl Iterator for LookupHost {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for LookupHost {}

impl FusedIterator for LookupHost {}

fn resolve(host: &str, port: u16) -> io::Result<vec::IntoIter<SocketAddr>> {
    refuse_in_simulation("name resolution")?;
    let host = host.to_owned();
    try_unblock_finite(move || std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port)))?
}
