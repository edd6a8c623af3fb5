//! The cases of the network workloads.

use super::{CHURN, CONNECTIONS, DEPTH, ECHO, HTTP, WARM_UP, WINDOW};
use crate::parameters::WORKERS;
use crate::plan::{Case, Figure, Size, figure};
use crate::support::stats::thousands;

const PEERS: &[&str] = &["hebra", "may", "tokio", "tokio-multi", "smol", "std", "go", "asyncio", "gevent"];
const FLOOR: &str = "epoll";

/// Requests in flight at once on a connection that pipelines.
const PIPELINE: u64 = 16;
/// Connections of the churn that are open at once: fewer than the shortest queue of a listener, which holds 100.
const CHURNING: u64 = 64;

const COST: Figure = figure("cpu_us_per_request", "µs", "server CPU per request");
const BESIDE: &[Figure] = &[
    figure("requests_per_second", "/s", "requests"),
    figure("p50_us", "µs", "p50"),
    figure("p99_us", "µs", "p99"),
    figure("p999_us", "µs", "p99.9"),
    figure("server_busy_percent", "%", "server busy"),
    figure("load_busy_percent", "%", "load busy"),
    figure("errors", "", "errors"),
];

pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = Vec::new();
    for connections in [1, 100, 1_000, 8_000] {
        let title = format!("echo of 64 B, {}", plural(connections));
        cases.push(Case::new(ECHO, "echo", title, &[(CONNECTIONS, connections)]));
    }
    for connections in [64, 512] {
        for depth in [1, PIPELINE] {
            let batches = if depth > 1 { format!(", {depth} requests at once") } else { String::new() };
            let title = format!("HTTP plaintext, {}{batches}", plural(connections));
            cases.push(Case::new(HTTP, "http", title, &[(CONNECTIONS, connections), (DEPTH, depth)]));
        }
    }
    let title = format!("connect, one echo, close; {CHURNING} at once");
    cases.push(Case::new(CHURN, "churn", title, &[(CONNECTIONS, CHURNING)]));
    let (warm_up, window) = size.pick((300, 800), (100, 250));
    let timed = |case: Case| {
        let (rounds, of_slow) = size.pick((3, 1), (1, 1));
        let mut case = case.peers(PEERS).floor(FLOOR).figures(COST, BESIDE).rounds(rounds, of_slow).limit(15);
        case.parameters = case.parameters.with(WORKERS, 1).with(WARM_UP, warm_up).with(WINDOW, window);
        case
    };
    cases.into_iter().map(timed).collect()
}

fn plural(connections: u64) -> String {
    format!("{} connection{}", thousands(connections), if connections == 1 { "" } else { "s" })
}
