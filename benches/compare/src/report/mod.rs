//! What is told of the results: a table for the terminal, tables for the README, and charts.

use std::io;
use std::path::Path;

use crate::plan::Case;
use crate::results::Results;

pub mod about;
mod chart;
mod readme;
pub mod table;

/// Writes the README's tables and the charts.
pub fn write(cases: &[Case], results: &Results) -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let charts = chart::write_all(&here.join("charts"), cases, results)?;
    readme::write(&here.join("../../README.md"), &charts, cases, results)
}
