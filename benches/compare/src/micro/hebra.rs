//! hebra: its generators, green threads, channels, locks and timers.

use std::hint::black_box;

use hebra::Generator;

use super::{Measured, warm};
use crate::parameters::Parameters;
use crate::support::stats::ns_each;

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    Some(match workload {
        "switch" => warm(parameters.count(), switch),
        "create" => warm(parameters.count(), create),
        _ => return None,
    })
}

fn switch(count: u64) -> f64 {
    let mut numbers = Generator::<(), u64, ()>::new(|y, ()| {
        let mut next = 0_u64;
        loop {
            y.yield_(next);
            next = next.wrapping_add(1);
        }
    });
    ns_each(count, || {
        for _ in 0..count {
            black_box(numbers.resume(()));
        }
    })
}

fn create(count: u64) -> f64 {
    ns_each(count, || {
        for i in 0..count {
            black_box(Generator::<(), (), u64>::new(move |_, ()| i).resume(()));
        }
    })
}
