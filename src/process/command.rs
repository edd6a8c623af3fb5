//! [`Command`]: a program to be started.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

use super::Child;
use super::child::KillOnDrop;
use crate::blocking::unblock;
use crate::io::refuse_in_simulation;
use crate::park;
use crate::thread;

/// A program to be started, and how, as [`std::process::Command`].
///
/// The methods of [`std::os::unix::process::CommandExt`] that are safe are methods here; `pre_exec`
/// is in [`CommandExt`](crate::os::unix::process::CommandExt).
///
/// The process is started by a thread of the blocking pool. What it inherits from its thread in
/// particular, such as a processor affinity, it has from that one; and "the death of the parent",
/// in the sense of `PR_SET_PDEATHSIG`, is that thread's.
pub struct Command {
    std: std::process::Command,
    /// Which of its three streams were chosen, in the order of their numbers.
    chosen: [bool; 3],
}

impl Command {
    /// Makes a command that starts `program`, without arguments, in the environment and the
    /// directory of this process. A name without a slash is searched for in `PATH`.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        std::process::Command::new(program).into()
    }

    /// Adds an argument.
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env<K, V>(&mut self, key: K, value: V) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.env(key, value);
        self
    }

    /// Sets variables of the environment.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(vars);
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Empties the environment: nothing is inherited.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets the directory that the program starts in.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    /// Sets what the program reads from. Inherited unless set; for [`output`](Command::output),
    /// nothing.
    pub fn stdin<T: Into<Stdio>>(&mut self, stdin: T) -> &mut Command {
        self.std.stdin(stdin);
        self.chosen[0] = true;
        self
    }

    /// Sets what the program writes to. Inherited unless set; for [`output`](Command::output), a
    /// pipe.
    pub fn stdout<T: Into<Stdio>>(&mut self, stdout: T) -> &mut Command {
        self.std.stdout(stdout);
        self.chosen[1] = true;
        self
    }

    /// Sets what the program writes its complaints to. Inherited unless set; for
    /// [`output`](Command::output), a pipe.
    pub fn stderr<T: Into<Stdio>>(&mut self, stderr: T) -> &mut Command {
        self.std.stderr(stderr);
        self.chosen[2] = true;
        self
    }

    /// Sets the user that the program runs as.
    pub fn uid(&mut self, uid: u32) -> &mut Command {
        self.std.uid(uid);
        self
    }

    /// Sets the group that the program runs as.
    pub fn gid(&mut self, gid: u32) -> &mut Command {
        self.std.gid(gid);
        self
    }

    /// Sets the process group that the program is put into; 0 for one of its own.
    pub fn process_group(&mut self, group: i32) -> &mut Command {
        self.std.process_group(group);
        self
    }

    /// Sets what the program finds as its own name.
    pub fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg0(arg);
        self
    }

    /// Replaces this process by the program, and returns only if that fails. Nothing is shut down;
    /// see [`CommandExt::exec`].
    pub fn exec(&mut self) -> io::Error {
        self.std.exec()
    }

    /// Returns the program.
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// Returns the arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// Returns what is changed in the environment.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// Returns the directory that the program starts in, if it was set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// Starts the program.
    ///
    /// # Cancellation
    /// Parks the current thread, and it is a cancel point before: a program that is being started
    /// is waited for.
    ///
    /// # Errors
    /// As [`std::process::Command::spawn`].
    pub fn spawn(&mut self) -> io::Result<Child> {
        refuse_in_simulation("a child process")?;
        park::cancel_point();
        let mut std = mem::replace(&mut self.std, std::process::Command::new(""));
        let (std, child) = thread::shield(|| {
            unblock(move || {
                let child = std.spawn();
                (std, child)
            })
        });
        self.std = std;
        Ok(Child::from(child?))
    }

    /// Runs the program to its end.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. Then the program is killed.
    ///
    /// # Errors
    /// As [`std::process::Command::status`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        let mut child = KillOnDrop::new(self.spawn()?);
        let status = child.get().wait()?;
        child.disarm();
        Ok(status)
    }

    /// Runs the program to its end, and returns what it has written.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. Then the program is killed.
    ///
    /// # Errors
    /// As [`std::process::Command::output`].
    pub fn output(&mut self) -> io::Result<Output> {
        self.choose([Stdio::null, Stdio::piped, Stdio::piped]);
        let child = self.spawn();
        self.choose([Stdio::inherit; 3]);
        let mut child = KillOnDrop::new(child?);
        let output = child.get().output()?;
        child.disarm();
        Ok(output)
    }

    pub(crate) fn as_std(&mut self) -> &mut std::process::Command {
        &mut self.std
    }

    /// Sets the streams that the user has left open.
    fn choose(&mut self, streams: [fn() -> Stdio; 3]) {
        let [stdin, stdout, stderr] = streams;
        let [has_stdin, has_stdout, has_stderr] = self.chosen;
        if !has_stdin {
            self.std.stdin(stdin());
        }
        if !has_stdout {
            self.std.stdout(stdout());
        }
        if !has_stderr {
            self.std.stderr(stderr());
        }
    }
}

/// Takes a command of std's over. Streams that were set there count as inherited for
/// [`output`](Command::output): set them here.
impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Command {
        Command {
            std,
            chosen: [false; 3],
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
