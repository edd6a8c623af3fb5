//! Other processes: the bench re-executed in a role, and servers that say where they listen.
//!
//! A case that must start with a cold heap, or whose memory is measured, runs in a process of its
//! own.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{Options, machine};

/// What a server prints, followed by its address, once it accepts connections.
pub const READY: &str = "listening on ";

/// The command that runs this bench again as `role`.
pub fn myself(role: &str, options: &Options) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", role]);
    if options.quick {
        command.arg("--quick");
    }
    Ok(command)
}

/// Runs this bench again as `role` with `words`, and waits; the child prints its own figures.
///
/// # Errors
/// When the child cannot be started or fails; figures of a bench that fails are worth nothing.
pub fn run_in_role(role: &str, words: &[String], options: &Options) -> io::Result<()> {
    let status = myself(role, options)?.args(words).status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{role} {}: {status}",
        words.join(" ")
    )))
}

/// Makes the kernel end this process when the OS thread that started it ends.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// A server in a process of its own. Dropping it ends the process.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts `command` on [`machine::SERVER_CPU`] and waits until it has printed [`READY`] and an
    /// address.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        machine::pinned(machine::SERVER_CPU, || Self::start_anywhere(command))
    }

    /// As `start`, on whatever CPUs the caller may use.
    pub fn start_anywhere(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let stdout = process
            .stdout
            .take()
            .expect("stdout was set to a pipe above");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match line
            .trim()
            .strip_prefix(READY)
            .and_then(|address| address.parse().ok())
        {
            Some(address) => Ok(Self { process, address }),
            None => {
                process.kill()?;
                let status = process.wait()?;
                let program = command.get_program().display();
                Err(io::Error::other(format!(
                    "{program} printed {line:?} instead of `{READY}ADDRESS` ({status})"
                )))
            }
        }
    }

    /// CPU time that the server has used so far.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        machine::cpu_time_of(self.process.id())
    }

    /// How long its first OS thread, all that a server of one worker has, has wanted a CPU so far
    /// and had none.
    pub fn waited_for_cpu(&self) -> io::Result<Duration> {
        machine::waited_for_cpu(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended by itself, and then its windows have counted the
        // errors.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
