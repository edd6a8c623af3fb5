//! HTTP/1.1 plaintext: the `http_server` example against a hand-written epoll server, both parsing
//! with httparse.
//!
//! `cargo bench --bench http -- [--quick] [CONNECTIONS…]`, by default 64 and 512, each plain and 16
//! requests deep. `wrk` is the load if it is installed, else our own. Both servers run on one CPU,
//! the load on the other.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::epoll_server::{self, Protocol};
use support::load::{Exchange, Load};
use support::process::{self, READY, Server};
use support::service::{self, Window};
use support::{Options, machine, wrk};

const PATH: &str = "/plaintext";
const REQUEST: &str = "GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
/// What the floor answers, and the example should: to the byte, or the ratio compares different
/// work.
const RESPONSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const PIPELINE: usize = 16;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    machine::raise_fd_limit()?;
    match options.role.as_deref() {
        Some("serve-epoll") => return serve_epoll(),
        Some(role) => panic!("http has no role {role}"),
        None => machine::pin(machine::LOAD_CPU),
    }
    let mut hebra = Side::start(Command::new(example()?).args(["127.0.0.1:0", "1"]))?;
    let mut epoll = Side::start(&mut process::myself("serve-epoll", &options)?)?;
    if hebra.response != epoll.response {
        let lengths = (hebra.response.len(), epoll.response.len());
        println!(
            "the responses differ ({} and {} bytes): match RESPONSE in benches/http.rs",
            lengths.0, lengths.1
        );
    }
    let generator = if wrk::is_installed() {
        "wrk"
    } else {
        "own load"
    };
    for connections in options.numbers(&[64, 512]) {
        for depth in [1, PIPELINE] {
            for _ in 0..options.pick(7, 3) {
                for side in [&mut hebra, &mut epoll] {
                    side.measure(connections, depth, &options)?;
                }
            }
            let what = format!(
                "http plaintext, {connections} connections, {depth} in flight each, {generator}"
            );
            service::report(&what, ("hebra", &hebra.windows), ("epoll", &epoll.windows));
            hebra.windows.clear();
            epoll.windows.clear();
        }
    }
    Ok(())
}

/// A live server and what it did so far.
struct Side {
    server: Server,
    /// What it answers to [`REQUEST`].
    response: Vec<u8>,
    windows: Vec<Window>,
}

impl Side {
    fn start(command: &mut Command) -> io::Result<Self> {
        let server = Server::start(command)?;
        let response = probe(&server)?;
        let windows = Vec::new();
        Ok(Self {
            server,
            response,
            windows,
        })
    }

    fn measure(&mut self, connections: usize, depth: usize, options: &Options) -> io::Result<()> {
        let seconds = options.pick(3, 1);
        let window = if wrk::is_installed() {
            wrk::window(&self.server, PATH, connections, depth, seconds)?
        } else {
            let exchange = Exchange {
                request: REQUEST.repeat(depth).into_bytes(),
                response: self.response.repeat(depth),
                requests: depth as u64,
                stamped: false,
            };
            let mut load = Load::connect(self.server.address, connections, exchange)?;
            load.window(
                &self.server,
                Duration::from_millis(300),
                Duration::from_secs(seconds),
            )?
        };
        self.windows.push(window);
        Ok(())
    }
}

/// One request by hand; the response in full.
fn probe(server: &Server) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(REQUEST.as_bytes())?;
    let mut response = vec![0; 4096];
    let n = stream.read(&mut response)?;
    response.truncate(n);
    if response.starts_with(b"HTTP/1.1 200 ") {
        return Ok(response);
    }
    let shown = String::from_utf8_lossy(&response);
    Err(io::Error::other(format!(
        "GET {PATH} was answered with {shown:?}"
    )))
}

/// The example's binary, built now if cargo runs this bench, so that it is never an old one.
fn example() -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--release", "--quiet", "--example", "http_server"])
        .status()?;
    if !status.success() {
        return Err(io::Error::other("the http_server example does not build"));
    }
    // This program is target/release/deps/http-HASH.
    let program = std::env::current_exe()?;
    let release = program.parent().and_then(Path::parent);
    Ok(release
        .unwrap_or(Path::new("."))
        .join("examples/http_server"))
}

fn serve_epoll() -> io::Result<()> {
    process::end_with_parent()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    println!("{READY}{}", listener.local_addr()?);
    match epoll_server::serve(listener, Http { out: Vec::new() })? {}
}

/// Answers all complete requests of a read with one write.
struct Http {
    out: Vec<u8>,
}

impl Protocol for Http {
    const READ: usize = 4096;
    /// The start of a request whose rest has not come.
    type State = Vec<u8>;

    fn respond<'a>(&'a mut self, partial: &mut Vec<u8>, input: &'a [u8]) -> Option<&'a [u8]> {
        self.out.clear();
        let joined;
        let mut rest = input;
        if !partial.is_empty() {
            partial.extend_from_slice(input);
            joined = std::mem::take(partial);
            rest = &joined;
        }
        while !rest.is_empty() {
            let mut headers = [MaybeUninit::uninit(); 16];
            let mut request = httparse::Request::new(&mut []);
            match request.parse_with_uninit_headers(rest, &mut headers) {
                Ok(httparse::Status::Complete(length)) if request.path == Some(PATH) => {
                    self.out.extend_from_slice(RESPONSE.as_bytes());
                    rest = &rest[length..];
                }
                Ok(httparse::Status::Partial) => {
                    partial.extend_from_slice(rest);
                    break;
                }
                _ => return None,
            }
        }
        Some(&self.out)
    }
}
