//! HTTP by `ureq`, a blocking client that knows nothing of green threads: its hooks for transport
//! and name resolution are all that it takes.
//!
//! `cargo run --example http_client -- http://localhost:8080/ 100` fetches a page a hundred times at the same time.

use std::error::Error;
use std::io::{Read, Write};

use hebra::net::{TcpStream, ToSocketAddrs};
use hebra::thread;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args
        .next()
        .unwrap_or_else(|| "http://localhost:8080/".into());
    let times: usize = args.next().map_or(Ok(1), |times| times.parse())?;
    hebra::run(|| {
        let agent = Agent::with_parts(Config::default(), Green, Green);
        let fetch = || -> Result<u64, ureq::Error> {
            let mut response = agent.get(&url).call()?;
            Ok(response.body_mut().read_to_vec()?.len() as u64)
        };
        let lengths = thread::scope(|s| {
            let fetches: Vec<_> = (0..times).map(|_| s.spawn(fetch)).collect();
            fetches
                .into_iter()
                .map(|fetch| fetch.join().expect("fetching does not panic"))
                .collect::<Result<Vec<_>, _>>()
        })?;
        println!(
            "{} pages, {} bytes",
            lengths.len(),
            lengths.iter().sum::<u64>()
        );
        Ok(())
    })
}

/// Resolves names and makes connections.
#[derive(Debug)]
struct Green;

impl Resolver for Green {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(ureq::Error::BadUri(uri.to_string()));
        };
        let host =
            DefaultResolver::host_and_port(scheme, authority).ok_or(ureq::Error::HostNotFound)?;
        let mut addrs = self.empty();
        host.to_socket_addrs()?
            .take(16)
            .for_each(|addr| addrs.push(addr));
        Ok(addrs)
    }
}

impl Connector for Green {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let stream = TcpStream::connect(&details.addrs[..])?;
        stream.set_nodelay(true)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Connection { stream, buffers }))
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream
            .set_write_timeout(timeout.for_write().not_zero().map(|timeout| *timeout))?;
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream
            .set_read_timeout(timeout.for_read().not_zero().map(|timeout| *timeout))?;
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Whether it can be used again: a peer that is there has nothing to say yet.
    fn is_open(&mut self) -> bool {
        let nothing = |stream: &TcpStream| {
            stream
                .peek(&mut [0])
                .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        self.stream.set_nonblocking(true).is_ok()
            && nothing(&self.stream)
            && self.stream.set_nonblocking(false).is_ok()
    }
}
