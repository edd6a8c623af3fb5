//! Servers under load: echo, HTTP, and connections that come and go.
//!
//! A measurement is the load: it starts the peer's server on one CPU and asks it from the other. Every server does the same: one `read`
//! of the same size, one `write` of the answer, `TCP_NODELAY` on, no time-outs. What is compared is the server's CPU time per request,
//! which the load disturbs least, as it never sleeps and so is never woken by the server; how busy both sides were is told beside it.
//!
//! A server with two workers and its load share two CPUs: nobody is pinned, and the load sleeps when there is nothing to do, else it would take
//! half of what the server needs. It hardly ever does; but latencies are then those of three OS threads that wait for two CPUs.

mod blocking;
mod churn;
mod epoll;
mod hebra;
mod http;
mod may;
pub mod plan;
mod smol;
mod std;
mod tokio;

use ::std::net::SocketAddr;
use ::std::process::Command;
use ::std::time::Duration;
use ::std::{env, io};

use crate::foreign;
use crate::parameters::{Parameters, WORKERS};
use crate::results::Metrics;
use crate::support::load::{Exchange, Load};
use crate::support::machine;
use crate::support::process::{self, READY, Server};
use crate::support::service::Window;

// The workloads: one message in flight on each connection; a batch of requests; connect, one message and its echo, close.
const ECHO: &str = "echo";
const HTTP: &str = "http";
const CHURN: &str = "churn";

// Their parameters, beside the workers.
const CONNECTIONS: &str = "connections";
/// Requests that are sent at once on a connection.
const DEPTH: &str = "depth";
const WARM_UP: &str = "warm_up_ms";
const WINDOW: &str = "window_ms";

/// Where every server listens.
const ADDRESS: &str = "127.0.0.1:0";
/// Bytes of an echoed message.
const MESSAGE: usize = 64;
/// Bytes that an echo server asks of one read.
const ECHO_READ: usize = 1024;

/// What a server does with a connection.
#[derive(Clone, Copy)]
enum Service {
    /// Sends back what it reads.
    Echo,
    /// Answers [`http::REQUEST`], however many at once, by [`http::RESPONSE`].
    Http,
}

/// Serves `PEER echo|http KEY=VALUE…` until the load ends this process.
pub fn serve(words: &[String]) -> io::Result<()> {
    let [peer, service, parameters @ ..] = words else {
        return Err(io::Error::other("serve takes a peer, a service and KEY=VALUE…"));
    };
    let workers = Parameters::parse(parameters).map_err(io::Error::other)?.workers();
    let service = match service.as_str() {
        ECHO => Service::Echo,
        HTTP => Service::Http,
        _ => return Err(io::Error::other(format!("there is no service `{service}`"))),
    };
    process::end_with_parent()?;
    match peer.as_str() {
        "epoll" => match epoll::serve(service, workers)? {},
        "hebra" => hebra::serve(service, workers),
        "may" => may::serve(service, workers),
        "smol" => smol::serve(service, workers),
        "std" => std::serve(service),
        "tokio" => tokio::serve_current_thread(service),
        "tokio-multi" => tokio::serve_multi_thread(service, workers),
        _ => Err(io::Error::other(format!("{peer} has no server"))),
    }
}

/// Says where a server listens: the load waits for this line.
fn ready(address: SocketAddr) {
    println!("{READY}{address}");
}

/// Measures `workload`; `None` if it is none of the network's.
pub fn measure(peer: &str, workload: &str, parameters: &Parameters) -> Option<Result<Metrics, String>> {
    [ECHO, HTTP, CHURN].contains(&workload).then(|| load(peer, workload, parameters).map_err(|error| error.to_string()))
}

fn load(peer: &str, workload: &str, parameters: &Parameters) -> io::Result<Metrics> {
    machine::raise_fd_limit()?;
    let alone = parameters.workers() == 1;
    if alone {
        machine::pin(machine::LOAD_CPU);
    }
    let service = if workload == HTTP { HTTP } else { ECHO };
    let mut command = program(peer)?;
    command.args(["serve", peer, service, &format!("{WORKERS}={}", parameters.workers())]);
    let server = if alone { Server::start(&mut command) } else { Server::start_anywhere(&mut command) }?;
    let [warm_up, window] = [WARM_UP, WINDOW].map(|name| Duration::from_millis(parameters.get(name)));
    let connections = parameters.get(CONNECTIONS) as usize;
    let window = if workload == CHURN {
        churn::Load::new(server.address, connections, MESSAGE)?.window(&server, warm_up, window)?
    } else {
        let exchange = if workload == HTTP { batch(parameters.get(DEPTH) as usize) } else { message() };
        let load = Load::connect(server.address, connections, exchange)?;
        let mut load = if alone { load.spinning() } else { load };
        load.window(&server, warm_up, window)?
    };
    if window.requests == 0 {
        return Err(io::Error::other(format!("no answer in {:?}, {} errors", window.elapsed, window.errors)));
    }
    Ok(figures(&window))
}

/// The program that has the server of `peer`.
fn program(peer: &str) -> io::Result<Command> {
    let script = |name| {
        let mut command = Command::new(foreign::python_program());
        command.arg(foreign::sources().join(name));
        command
    };
    Ok(match peer {
        "go" => Command::new(foreign::go_program()),
        "asyncio" => script("net_asyncio.py"),
        "gevent" => script("net_gevent.py"),
        _ => Command::new(env::current_exe()?),
    })
}

fn message() -> Exchange {
    let message = vec![b'x'; MESSAGE];
    Exchange { request: message.clone(), response: message, requests: 1, stamped: true }
}

fn batch(depth: usize) -> Exchange {
    let (request, response) = (http::REQUEST.repeat(depth).into_bytes(), http::RESPONSE.repeat(depth).into_bytes());
    Exchange { request, response, requests: depth as u64, stamped: false }
}

fn figures(window: &Window) -> Metrics {
    let (requests, seconds) = (window.requests as f64, window.elapsed.as_secs_f64());
    let busy = |cpu: Duration| 100.0 * cpu.as_secs_f64() / seconds;
    let latency = |i: usize| window.latency[i].as_secs_f64() * 1e6;
    Metrics::new(&[
        ("cpu_us_per_request", window.server_cpu.as_secs_f64() * 1e6 / requests),
        ("requests_per_second", requests / seconds),
        ("p50_us", latency(0)),
        ("p99_us", latency(1)),
        ("p999_us", latency(2)),
        ("server_busy_percent", busy(window.server_cpu)),
        ("load_busy_percent", busy(window.client_cpu)),
        ("errors", window.errors as f64),
    ])
}
