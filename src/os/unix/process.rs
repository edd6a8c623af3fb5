//! What Unix systems have besides in the way of processes, with the API of
//! [`std::os::unix::process`].

use std::ffi::OsStr;
use std::io;

pub use std::os::unix::process::{ExitStatusExt, parent_id};

use crate::process::Command;

/// What Unix has besides for a [`Command`], as [`std::os::unix::process::CommandExt`], which only
/// std's types can have. The safe methods are methods of the command itself, too; `before_exec`, which std
/// has deprecated as unsound, is left out.
///
/// ```
/// use hebra::os::unix::process::CommandExt;
/// use hebra::process::Command;
///
/// hebra::run(|| -> std::io::Result<()> {
///     let mut command = Command::new("sh");
///     CommandExt::arg0(&mut command, "shell").args(["-c", "echo $0"]);
///     assert_eq!(command.output()?.stdout, b"shell\n");
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait CommandExt: sealed::Sealed {
    /// Sets the user that the program runs as.
    fn uid(&mut self, id: u32) -> &mut Command;

    /// Sets the group that the program runs as.
    fn gid(&mut self, id: u32) -> &mut Command;

    /// Has `f` run in the new process before the program does. If it fails, so does
    /// [`spawn`](Command::spawn).
    ///
    /// # Safety
    /// As [`std::os::unix::process::CommandExt::pre_exec`]: the new process has one thread of a
    /// process of many, so `f` may only do what is safe in a handler of signals. It must not use
    /// anything of hebra.
    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static;

    /// Replaces this process by the program, and returns only if that fails. Nothing is shut down;
    /// see [`std::os::unix::process::CommandExt::exec`].
    fn exec(&mut self) -> io::Error;

    /// Sets what the program finds as its own name.
    fn arg0<S>(&mut self, arg: S) -> &mut Command
    where
        S: AsRef<OsStr>;

    /// Sets the process group that the program is put into; 0 for one of its own.
    fn process_group(&mut self, pgroup: i32) -> &mut Command;
}

impl CommandExt for Command {
    fn uid(&mut self, id: u32) -> &mut Command {
        Command::uid(self, id)
    }

    fn gid(&mut self, id: u32) -> &mut Command {
        Command::gid(self, id)
    }

    unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller's promise is what is asked for here.
        unsafe { std::os::unix::process::CommandExt::pre_exec(self.as_std(), f) };
        self
    }

    fn exec(&mut self) -> io::Error {
        Command::exec(self)
    }

    fn arg0<S>(&mut self, arg: S) -> &mut Command
    where
        S: AsRef<OsStr>,
    {
        Command::arg0(self, arg)
    }

    fn process_group(&mut self, pgroup: i32) -> &mut Command {
        Command::process_group(self, pgroup)
    }
}

mod sealed {
    /// Methods may be added.
    pub trait Sealed {}

    impl Sealed for crate::process::Command {}
}
