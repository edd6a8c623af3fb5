//! The cases of the network workloads.

use crate::plan::{Case, Size};

pub fn cases(_size: Size) -> Vec<Case> {
    Vec::new()
}
