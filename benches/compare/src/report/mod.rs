//! What is told of the results: a table for the terminal, one for the README, and charts.

use std::io;

use crate::plan::Case;
use crate::results::Results;

pub mod about;
pub mod table;

/// Writes the README's section and the charts.
pub fn write(_cases: &[Case], _results: &Results) -> io::Result<()> {
    Ok(())
}
