//! hebra beside its peers, on the same workloads: measures in interleaved rounds, prints a table, draws charts.
//!
//! From hebra's root: `cargo run --release --manifest-path benches/compare/Cargo.toml -- [OPTION…] [WORKLOAD…]`; `--help` tells the options.
//!
//! One program in several roles. The *driver* measures nothing: it starts a process for each measurement, so that peers never share one:
//!
//! ```text
//! compare                              the driver: plan × rounds × peers, then the report
//!   └ compare measure PEER WORKLOAD KEY=VALUE…     pins itself, prints one line of JSON, exits
//!       └ compare serve PEER WORKLOAD KEY=VALUE…   what a network workload asks its questions of, on the other CPU
//! ```
//!
//! Go and Python take the same words and print the same line; `measure` becomes them by exec, pinned already.

use std::process::ExitCode;

mod driver;
mod foreign;
mod micro;
mod net;
mod parameters;
mod plan;
mod report;
mod results;

// Shared with hebra's own benches, each of which uses its part.
#[allow(dead_code, reason = "this program uses its part of it")]
#[path = "../../support/mod.rs"]
mod support;

use parameters::Parameters;

const HELP: &str = "\
compare [OPTION…] [WORKLOAD…]

Measures hebra and its peers. WORKLOAD is a workload (`yield`) or the beginning of a case (`yield threads=1000`); none is all.

  --list            names the cases and their peers, and measures nothing
  --quick           fewer rounds of smaller work: in three minutes, figures to look at, not to cite
  --peers A,B       only these peers (and the floors)
  --keep FILE       writes every measurement to FILE at once, and does not repeat those that are there
  --budget SECONDS  stops, with status 75, before a measurement that may not end in time; for pieces, with --keep
  --from FILE       measures nothing: reports what --keep has collected
  --page            writes the tables into docs/performance.md, and the charts
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some("measure") => measure(&words[1..]),
        Some("serve") => net::serve(&words[1..]).map_err(|error| error.to_string()),
        Some("--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        _ => return driver::drive(&words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Measures one thing and prints it as a line of JSON.
///
/// # Errors
/// Why this peer cannot do it.
fn measure(words: &[String]) -> Result<(), String> {
    let [peer, workload, parameters @ ..] = words else {
        return Err("measure takes a peer, a workload and KEY=VALUE…".to_owned());
    };
    let parameters = Parameters::parse(parameters)?;
    // A network workload places its processes itself.
    let metrics = match net::measure(peer, workload, &parameters) {
        Some(measured) => measured?,
        None => micro::measure(peer, workload, &parameters)?,
    };
    metrics.print_and_exit()
}
