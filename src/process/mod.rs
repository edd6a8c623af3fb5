//! Child processes, with the API of [`std::process`].
//!
//! A [`Command`] is started in the [blocking pool](crate::blocking), as starting a program takes a
//! millisecond and may take a disk. Then nothing blocks any more: the pipes to a [`Child`] are
//! waited for as sockets are, and so is its end, through a descriptor of the process. On a system
//! without such descriptors a thread of the pool waits for it. A `select!` waits for both, by
//! [`readable`](crate::channel::readable).
//!
//! ```
//! use hebra::process::Command;
//!
//! hebra::run(|| -> std::io::Result<()> {
//!     let output = Command::new("echo").arg("hello").output()?;
//!     assert_eq!(output.stdout, b"hello\n");
//!     assert!(output.status.success());
//!     Ok(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

pub use std::process::{
    CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id,
};

mod child;
mod command;
mod pipe;

pub use child::Child;
pub use command::Command;
pub use pipe::{ChildStderr, ChildStdin, ChildStdout};
