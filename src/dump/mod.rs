//! Look inside: what every green thread of a process waits for.
//!
//! A debugger sees OS threads, and a parked green thread is none. The gdb commands in
//! [`GDB_SCRIPT`] list green threads with name, state, wait reason, age, owner and stack: of a
//! live process, and of a core file, also where the binary has been stripped.
//!
//! ```sh
//! gdb -p PID -x hebra.py -ex 'hebra threads' -ex 'hebra bt all'
//! ```
//!
//! # Core files
//!
//! A core that the kernel writes (SIGABRT, `ulimit -c unlimited`) has all green stacks. One that
//! gdb's `gcore` writes may lack them: up to gdb 17 it stops at a guard page that was made by
//! `MADV_GUARD_INSTALL`. Run the process with `HEBRA_STACK_GUARD=mprotect`, or let the kernel write
//! the core.

/// The text of `gdb/hebra.py`: gdb commands for green threads.
///
/// Write it to a file and load it with gdb's `-x`, or with `source` at its prompt. It needs a gdb
/// with Python, and no debug information.
///
/// ```
/// assert!(hebra::dump::GDB_SCRIPT.contains("hebra threads"));
/// ```
pub const GDB_SCRIPT: &str = include_str!("../../gdb/hebra.py");
