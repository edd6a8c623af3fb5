//! The network workloads: servers, the load that asks them, connections that come and go.

use std::io;

use crate::parameters::Parameters;
use crate::results::Metrics;

pub mod plan;

/// `None` if `workload` is none of the network's.
pub fn measure(_peer: &str, _workload: &str, _parameters: &Parameters) -> Option<Result<Metrics, String>> {
    None
}

/// The role of a server: `serve PEER WORKLOAD KEY=VALUE…`.
pub fn serve(words: &[String]) -> io::Result<()> {
    Err(io::Error::other(format!("there is no server for {words:?}")))
}
