//! The few things that the library itself says on standard error.

use std::fmt;
use std::io::{self, Write};

/// Writes one line. Where standard error is closed nobody could read of it, so a failure is no
/// one's concern; `eprintln!` would panic.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    // In one piece: std's panic hook on another worker may be writing, too.
    let _ = io::stderr().write_all(format!("hebra: {line}\n").as_bytes());
}
