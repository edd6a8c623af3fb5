//! The floor of switching: corosensei alone.

use super::{Measured, warm};
use crate::parameters::Parameters;
use crate::support::floor;

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    Some(match workload {
        "switch" => warm(parameters.count(), floor::round_trip),
        "create" => warm(parameters.count(), floor::create_run_drop),
        _ => return None,
    })
}
