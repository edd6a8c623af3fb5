//! What is told of the results: a table for the terminal, tables for `docs/performance.md`, and charts.

use std::io;
use std::path::Path;

use crate::plan::Case;
use crate::results::Results;

pub mod about;
mod chart;
mod page;
pub mod table;

/// Writes the tables of `docs/performance.md` and the charts.
pub fn write(cases: &[Case], results: &Results) -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let charts = chart::write_all(&here.join("charts"), cases, results)?;
    page::write(&here.join("../../docs/performance.md"), &charts, cases, results)
}
