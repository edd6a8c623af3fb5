//! What a server did in one window, and the comparison of two servers over paired windows.

use std::time::Duration;

use super::stats::{Samples, duration, figure, thousands};

/// One server under load for a while.
pub struct Window {
    pub requests: u64,
    /// Wrong, missing or refused answers and broken connections.
    pub errors: u64,
    pub elapsed: Duration,
    pub server_cpu: Duration,
    pub client_cpu: Duration,
    /// The quantiles that the load knows, in the order of [`QUANTILES`].
    pub latency: Vec<Duration>,
}

const QUANTILES: [&str; 3] = ["p50", "p99", "p99.9"];

impl Window {
    /// CPU time of the server per request, in µs: the figure that the machine's other load disturbs
    /// least.
    fn cost(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Percent of the window that the server had a CPU. Well below 100, the client was the slower
    /// one.
    fn server_busy(&self) -> f64 {
        100.0 * self.server_cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// Percent of the window that the client had a CPU.
    fn client_busy(&self) -> f64 {
        100.0 * self.client_cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// Prints a line for each of the two servers and the ratio of their CPU time per request, round by
/// round.
pub fn report(what: &str, ours: (&str, &[Window]), floor: (&str, &[Window])) {
    println!("{what}");
    for (name, windows) in [ours, floor] {
        let over = |f: fn(&Window) -> f64| windows.iter().map(f).collect::<Samples>();
        let latency = |i: usize| {
            let sample = |w: &Window| w.latency.get(i).map(Duration::as_secs_f64);
            let seconds = windows.iter().filter_map(sample).collect::<Samples>();
            format!(
                "{} {}",
                QUANTILES[i],
                duration(Duration::from_secs_f64(seconds.median()))
            )
        };
        let known = windows.first().map_or(0, |w| w.latency.len());
        println!(
            "  {name:<6} server CPU {:#} µs per request   {} requests/s   {}   busy: server {} %, client {} %   errors {}",
            over(Window::cost),
            thousands(over(Window::rate).median() as u64),
            (0..known).map(latency).collect::<Vec<_>>().join(", "),
            figure(over(Window::server_busy).median()),
            figure(over(Window::client_busy).median()),
            thousands(windows.iter().map(|w| w.errors).sum::<u64>()),
        );
    }
    let costs = |windows: &[Window]| windows.iter().map(Window::cost).collect::<Samples>();
    let ratios = costs(ours.1).ratios(&costs(floor.1));
    println!(
        "  ratio of server CPU per request, {} to {}: {ratios:#}",
        ours.0, floor.0
    );
}
