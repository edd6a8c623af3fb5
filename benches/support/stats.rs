//! Rounds and figures: medians with their spread, paired ratios, and the lines that benches print.

use std::fmt;
use std::time::{Duration, Instant};

/// One figure per round.
#[derive(Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that the fraction `q` of the samples does not exceed; the mean of the middle two
    /// for an even median.
    ///
    /// # Panics
    /// Without samples.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let position = q * (sorted.len() - 1) as f64;
        let (below, above) = (position.floor() as usize, position.ceil() as usize);
        if q == 0.5 {
            (sorted[below] + sorted[above]) / 2.0
        } else {
            sorted[above]
        }
    }

    /// Each sample divided by the floor's sample of the same round.
    pub fn ratios(&self, floor: &Samples) -> Samples {
        let pairs = self.0.iter().zip(&floor.0);
        pairs.map(|(ours, floor)| ours / floor).collect()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Prints the median alone; `{:#}` adds the spread, as in `9.81 (min 9.52, max 11.0)`.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", figure(self.median()))?;
        if f.alternate() {
            let (min, max) = (figure(self.quantile(0.0)), figure(self.quantile(1.0)));
            write!(f, " (min {min}, max {max})")?;
        }
        Ok(())
    }
}

/// Runs `ours` and `floor` in turn, `rounds` times each, and returns what they measured.
pub fn interleave(
    rounds: usize,
    mut ours: impl FnMut() -> f64,
    mut floor: impl FnMut() -> f64,
) -> (Samples, Samples) {
    (0..rounds).map(|_| (ours(), floor())).unzip()
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

/// Prints `what: 9.81 ns (min …, max …)   floor 2.10 ns   ratio 4.67 (min …, max …)`.
pub fn report(what: &str, unit: &str, (ours, floor): &(Samples, Samples), floor_name: &str) {
    let ratios = ours.ratios(floor);
    println!("{what}: {ours:#} {unit}   {floor_name} {floor} {unit}   ratio {ratios:#}");
}

/// Nanoseconds per repetition of `work`, which does `count` of them.
pub fn ns_each(count: u64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Three significant digits; whole numbers in groups of thousands.
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => thousands(value.round() as u64),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `1000000` as `1,000,000`.
pub fn thousands(value: impl TryInto<u64>) -> String {
    let digits = value.try_into().unwrap_or(u64::MAX).to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A duration in the unit that suits it.
pub fn duration(d: Duration) -> String {
    let ns = d.as_nanos() as f64;
    match ns {
        _ if ns >= 1e9 => format!("{} s", figure(ns / 1e9)),
        _ if ns >= 1e6 => format!("{} ms", figure(ns / 1e6)),
        _ if ns >= 1e3 => format!("{} µs", figure(ns / 1e3)),
        _ => format!("{} ns", figure(ns)),
    }
}
