//! The workloads that need no network: a file per peer, the same work in each.
//!
//! Every one of them does a tenth of the work first, unmeasured, unless the cold state is what it measures.

use crate::foreign;
use crate::parameters::Parameters;
use crate::results::Metrics;
use crate::support::machine;

mod corosensei;
mod generator;
mod hebra;

/// What a peer answers who does not know the workload.
pub type Measured = Option<Metrics>;

/// Pins the process, if it shall have one worker, and measures.
///
/// # Errors
/// Who does not know the workload.
pub fn measure(peer: &str, workload: &str, parameters: &Parameters) -> Result<Metrics, String> {
    if parameters.workers() == 1 {
        machine::pin(machine::SERVER_CPU);
    }
    let foreign = || [vec![peer.to_owned(), workload.to_owned()], parameters.words()].concat();
    let measured = match peer {
        "hebra" => hebra::measure(workload, parameters),
        "corosensei" => corosensei::measure(workload, parameters),
        "generator" => generator::measure(workload, parameters),
        "go" => return Err(foreign::become_go("measure", &foreign())),
        "python" | "asyncio" | "greenlet" | "gevent" => return Err(foreign::become_python("micro.py", &foreign())),
        _ => None,
    };
    measured.ok_or_else(|| format!("{peer} does not do {workload}"))
}

/// Does a tenth of `count` without a look at the clock, then `count`.
fn warm(count: u64, work: impl Fn(u64) -> f64) -> Metrics {
    work(count / 10 + 1);
    Metrics::ns(work(count))
}
