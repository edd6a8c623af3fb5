//! generator-rs, the stackful generators that may stands on; its default stack of 32 KiB, `Gn::new_scoped`.

use std::hint::black_box;

use generator::{Gn, done};

use super::{Measured, warm};
use crate::parameters::Parameters;
use crate::support::stats::ns_each;

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    Some(match workload {
        "switch" => warm(parameters.count(), switch),
        _ => return None,
    })
}

fn switch(count: u64) -> f64 {
    let mut numbers = Gn::<()>::new_scoped(|mut scope| {
        let mut next = 0_u64;
        loop {
            scope.yield_(next);
            next = next.wrapping_add(1);
            if next == u64::MAX {
                done!();
            }
        }
    });
    ns_each(count, || {
        for _ in 0..count {
            black_box(numbers.resume());
        }
    })
}
