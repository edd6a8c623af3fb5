//! Prints a dump whenever the process gets a signal.

use std::ffi::c_int;
use std::io::{self, Write};

use crate::scheduler::worker::note_helper;
use crate::signal::Signals;

/// Prints a dump of all green threads on standard error whenever the process gets `signal`, for the
/// rest of its life; the process goes on. `SIGQUIT`, which `ctrl-\` sends, is the one that Go and
/// the JVM use.
///
/// An OS thread of its own waits for the signal and prints. What the signal did before it does no
/// more: `SIGQUIT` no longer ends the process.
///
/// # Errors
/// The signal cannot be handled, or the system refuses the OS thread.
pub fn on_signal(signal: c_int) -> io::Result<()> {
    let signals = Signals::new([signal])?;
    std::thread::Builder::new()
        .name("hebra-dump".to_owned())
        .spawn(move || {
            // It wakes no green thread, so a deadlock is one in spite of it.
            note_helper();
            while signals.wait().is_ok() {
                // Standard error may be closed, or full for ever: then nothing can be told.
                let _ = writeln!(io::stderr(), "{}", super::threads());
            }
        })?;
    Ok(())
}
