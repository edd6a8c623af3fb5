//! A running average: readings are sent in, averages come out, and the end brings a summary.

use hebra::{Generator, GeneratorState};

/// What the generator returns when a reading says that there are no more.
#[derive(Debug)]
struct Summary {
    count: u32,
    mean: f64,
    highest: f64,
}

/// Takes readings until there is none, and yields the average of those it has seen.
///
/// The state between two readings is three local variables: there is no struct to keep them in.
fn running_average() -> Generator<Option<f64>, f64, Option<Summary>> {
    Generator::new(|y, first| {
        let (mut sum, mut count, mut highest) = (0.0, 0, f64::NEG_INFINITY);
        let mut next = first;
        while let Some(reading) = next {
            sum += reading;
            count += 1;
            highest = highest.max(reading);
            next = y.yield_(sum / f64::from(count));
        }
        (count > 0).then(|| Summary {
            count,
            mean: sum / f64::from(count),
            highest,
        })
    })
}

fn main() {
    let mut average = running_average();
    for reading in [20.0, 22.0, 27.0, 19.0] {
        if let GeneratorState::Yielded(mean) = average.resume(Some(reading)) {
            println!("{reading:4.1} °C, {mean:.2} °C on average");
        }
    }
    if let GeneratorState::Complete(Some(Summary {
        count,
        mean,
        highest,
    })) = average.resume(None)
    {
        println!("{count} readings, {mean:.2} °C on average, {highest:.1} °C at most");
    }
}
