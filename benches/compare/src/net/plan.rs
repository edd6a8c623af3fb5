//! The cases of the network workloads.

use super::{CHURN, CONNECTIONS, DEPTH, ECHO, HTTP, WARM_UP, WINDOW};
use crate::parameters::WORKERS;
use crate::plan::{Case, Figure, PARALLEL, Size, TWO_WORKERS, figure};
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
    let on_two: Vec<_> =
        cases.iter().filter(|case| size == Size::Full || is_enough(case)).filter_map(with_two_workers).collect();
    let (warm_up, window) = size.pick((300, 800), (100, 250));
    let timed = |case: Case, workers, peers| {
        let (rounds, of_slow) = size.pick((3, 1), (1, 1));
        let mut case = case.peers(peers).floor(FLOOR).figures(COST, BESIDE).rounds(rounds, of_slow).limit(15);
        case.parameters = case.parameters.with(WORKERS, workers).with(WARM_UP, warm_up).with(WINDOW, window);
        case
    };
    let on_one = cases.into_iter().map(|case| timed(case, 1, PEERS));
    on_one.chain(on_two.into_iter().map(|case| timed(case, 2, PARALLEL))).collect()
}

/// The same case for two workers, if it is one for them: not too few connections, and not so many that the load is slower still.
fn with_two_workers(case: &Case) -> Option<Case> {
    let connections = case.parameters.get(CONNECTIONS);
    let fits = matches!((case.workload, connections), (ECHO, 100 | 1_000) | (HTTP, 64));
    fits.then(|| {
        let mut case = case.clone();
        case.title += TWO_WORKERS;
        case
    })
}

/// Whether this case will do where there is no time for all: one of each service.
fn is_enough(case: &Case) -> bool {
    case.parameters.get(CONNECTIONS) <= 100 && case.parameters.get_or(DEPTH, 1) == 1
}

fn plural(connections: u64) -> String {
    format!("{} connection{}", thousands(connections), if connections == 1 { "" } else { "s" })
}
